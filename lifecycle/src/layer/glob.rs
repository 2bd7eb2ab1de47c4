//! Patterns of slices: Go's `filepath.Match` and `filepath.Clean`, for paths with slashes.
//!
//! `*` and `?` do not match a slash; `[a-z]` and `[^a-z]` do; a backslash takes the next character as it is; nothing
//! else is special (no `**`, no braces, no `!`). A star is taken as short as it can be, and is not tried longer
//! when a later part fails, which shows where a class matches a slash. A part of a pattern that is malformed is an error
//! only when the match comes to it.

/// A pattern is malformed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadPattern;

/// A pattern, cut at its stars.
#[derive(Debug)]
pub(super) struct Pattern {
    chunks: Vec<Chunk>,
}

/// What is between two stars.
#[derive(Debug)]
struct Chunk {
    after_star: bool,
    terms: Result<Vec<Term>, BadPattern>,
}

#[derive(Debug)]
enum Term {
    Byte(u8),
    /// Any character but a slash.
    Any,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Pattern {
    /// Reads a pattern, after [`clean`]ing it.
    pub(super) fn new(pattern: &str) -> Self {
        let pattern = clean(pattern);
        let mut rest = pattern.as_str();
        let mut chunks = Vec::new();
        while !rest.is_empty() {
            let text = rest.trim_start_matches('*');
            let (chunk, after) = text.split_at(chunk_end(text));
            chunks.push(Chunk { after_star: text.len() < rest.len(), terms: terms(chunk) });
            rest = after;
        }
        Self { chunks }
    }

    /// Whether it matches the whole of a path.
    pub(super) fn matches(&self, path: &[u8]) -> Result<bool, &BadPattern> {
        let mut rest = path;
        'chunks: for (index, chunk) in self.chunks.iter().enumerate() {
            let last = index + 1 == self.chunks.len();
            let terms = chunk.terms.as_ref()?;
            if chunk.after_star && terms.is_empty() {
                return Ok(!rest.contains(&b'/'));
            }
            let mut skipped = 0;
            loop {
                if let Some(after) = consume(terms, &rest[skipped..]).filter(|after| !last || after.is_empty()) {
                    rest = after;
                    continue 'chunks;
                }
                if !chunk.after_star || rest.get(skipped).is_none_or(|byte| *byte == b'/') {
                    return Ok(false);
                }
                skipped += 1;
            }
        }
        Ok(rest.is_empty())
    }
}

/// Where the next star is that is no part of a class.
fn chunk_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut in_class) = (0, false);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' if at + 1 < bytes.len() => at += 1,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'*' if !in_class => return at,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

fn terms(chunk: &str) -> Result<Vec<Term>, BadPattern> {
    let mut terms = Vec::new();
    let mut rest = chunk;
    while let Some(&first) = rest.as_bytes().first() {
        match first {
            b'[' => {
                let (class, after) = class(&rest[1..])?;
                terms.push(class);
                rest = after;
                continue;
            }
            b'?' => terms.push(Term::Any),
            b'\\' => {
                let escaped = rest[1..].chars().next().ok_or(BadPattern)?;
                terms.extend(escaped.to_string().bytes().map(Term::Byte));
                rest = &rest[1 + escaped.len_utf8()..];
                continue;
            }
            _ => {
                let character = rest.chars().next().ok_or(BadPattern)?;
                terms.extend(character.to_string().bytes().map(Term::Byte));
                rest = &rest[character.len_utf8()..];
                continue;
            }
        }
        rest = &rest[1..];
    }
    Ok(terms)
}

/// A class, after its opening bracket, and what follows it.
fn class(text: &str) -> Result<(Term, &str), BadPattern> {
    let after_caret = text.strip_prefix('^');
    let mut rest = after_caret.unwrap_or(text);
    let mut ranges = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix(']').filter(|_| !ranges.is_empty()) {
            return Ok((Term::Class { negated: after_caret.is_some(), ranges }, after));
        }
        let (low, after) = class_character(rest)?;
        rest = after;
        let mut high = low;
        if let Some(after) = rest.strip_prefix('-') {
            (high, rest) = class_character(after)?;
        }
        ranges.push((low, high));
    }
}

/// One end of a range; something must follow it.
fn class_character(text: &str) -> Result<(char, &str), BadPattern> {
    if text.starts_with(['-', ']']) {
        return Err(BadPattern);
    }
    let text = text.strip_prefix('\\').unwrap_or(text);
    let character = text.chars().next().ok_or(BadPattern)?;
    let rest = &text[character.len_utf8()..];
    if rest.is_empty() { Err(BadPattern) } else { Ok((character, rest)) }
}

/// What is left of `text` after the terms; `None` if they do not match its beginning.
fn consume<'a>(terms: &[Term], text: &'a [u8]) -> Option<&'a [u8]> {
    terms.iter().try_fold(text, |text, term| {
        let byte = *text.first()?;
        match term {
            Term::Byte(expected) => (byte == *expected).then(|| &text[1..]),
            Term::Any => (byte != b'/').then(|| &text[first_character(text).1..]),
            Term::Class { negated, ranges } => {
                let (character, length) = first_character(text);
                let found = ranges.iter().any(|(low, high)| (*low..=*high).contains(&character));
                (found != *negated).then(|| &text[length..])
            }
        }
    })
}

/// The first character and its length; a byte that begins none counts as U+FFFD.
fn first_character(text: &[u8]) -> (char, usize) {
    (1..=text.len().min(4))
        .find_map(|length| std::str::from_utf8(&text[..length]).ok()?.chars().next())
        .map_or((char::REPLACEMENT_CHARACTER, 1), |character| (character, character.len_utf8()))
}

/// The shortest path that means the same without looking at files: no empty parts, no `.`, no `..` after a name.
pub(super) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pattern, path, and what Go's `filepath.Match(filepath.Clean(pattern), path)` says, `!` being an error.
    #[test]
    fn matches_as_go_does() {
        let vectors = include_str!("testdata/glob.txt");
        assert!(vectors.lines().count() > 2000);
        for line in vectors.lines() {
            let [pattern, path, expected] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let pattern_text = unescape(pattern);
            let pattern_text = str::from_utf8(&pattern_text).expect("patterns come from TOML");
            let found = match Pattern::new(pattern_text).matches(&unescape(path)) {
                Ok(true) => "1",
                Ok(false) => "0",
                Err(BadPattern) => "!",
            };
            assert_eq!(found, expected, "{pattern} {path}");
        }
    }

    /// Hex digits, so that any byte can be in a vector.
    fn unescape(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
    }

    #[test]
    fn cleans_as_go_does() {
        for (path, cleaned) in [
            ("", "."),
            (".", "."),
            ("a/", "a"),
            ("a//b/./c", "a/b/c"),
            ("a/../b", "b"),
            ("../a", "../a"),
            ("../../a/..", "../.."),
            ("/..", "/"),
            ("/../a/../b", "/b"),
            ("a/b/../../..", ".."),
            ("./**/x/", "**/x"),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
        }
    }
}

//! Reading, and what is wrong with a text that cannot be read.

use std::fmt;

use serde::de::DeserializeOwned;

use super::strict::Strict;

/// Why a TOML or JSON text cannot be read. One phrase:
/// ``line 3, column 10: key 'types.launch': expected a boolean, found string "yes"``.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key concerned, its parts joined by dots; empty if none is known.
    pub key: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong in a text that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is not TOML or JSON at all; the text says why and quotes nothing.
    Syntax(String),
    /// A key that must be there is not.
    Missing(String),
    /// A value of another type.
    WrongType {
        /// `a boolean`, `a table`.
        expected: String,
        /// The value; `None` where content must not be quoted.
        found: Option<String>,
    },
    /// A value that is not allowed; the text says why.
    Refused(String),
}

impl ReadError {
    /// The same without anything that was read: for a phase that holds credentials, in which the file
    /// may be a link to a secret. The content is gone, not only hidden.
    #[must_use]
    pub fn without_content(self) -> Self {
        let (key, problem) = match self.problem {
            // The key of a syntax error is the file's own, not one that we asked for.
            Problem::Syntax(text) => (String::new(), Problem::Syntax(text)),
            Problem::WrongType { expected, .. } => (self.key, Problem::WrongType { expected, found: None }),
            Problem::Refused(text) => (self.key, Problem::Refused(without_quotes(&text))),
            missing @ Problem::Missing(_) => (self.key, missing),
        };
        Self { key, problem, ..self }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "key '{}': ", self.key)?;
        }
        match &self.problem {
            Problem::Syntax(text) | Problem::Refused(text) => f.write_str(text),
            Problem::Missing(key) => write!(f, "the key '{key}' is missing"),
            Problem::WrongType { expected, found: Some(found) } => write!(f, "expected {expected}, found {found}"),
            Problem::WrongType { expected, found: None } => write!(f, "expected {expected}"),
        }
    }
}

impl std::error::Error for ReadError {}

/// Reads TOML; unknown keys are accepted.
///
/// ```
/// use platform_spec::layer::Layer;
/// let error = platform_spec::text::from_toml::<Layer>("[types]\nlaunch = \"yes\"\n").unwrap_err();
/// assert_eq!(error.to_string(), r#"line 2, column 10: key 'types.launch': expected a boolean, found string "yes""#);
/// assert_eq!(error.without_content().to_string(), "line 2, column 10: key 'types.launch': expected a boolean");
/// ```
pub fn from_toml<T: DeserializeOwned>(text: &str) -> Result<T, ReadError> {
    let document = toml::Deserializer::parse(text).map_err(|error| {
        let span = error.span().unwrap_or_default();
        let (line, column) = position(text, span.start);
        let key = match error.message() {
            "duplicate key" => text.get(span).unwrap_or_default().to_owned(),
            _ => String::new(),
        };
        ReadError { line, column, key, problem: Problem::Syntax(error.message().to_owned()) }
    })?;
    T::deserialize(Strict(document)).map_err(|mut error| {
        let (line, column) = position(text, error.span().unwrap_or_default().start);
        let problem = problem(error.message());
        // The library tells the key only where it cannot show the line.
        error.set_input(None);
        let whole = error.to_string();
        let key = whole.trim_end().rsplit_once("\nin `").and_then(|(_, rest)| rest.strip_suffix('`'));
        ReadError { line, column, key: key.unwrap_or_default().to_owned(), problem }
    })
}

/// Reads JSON; unknown keys are accepted.
pub fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, ReadError> {
    let mut document = serde_json::Deserializer::from_str(text);
    let value = T::deserialize(Strict(&mut document));
    value.and_then(|value| document.end().map(|()| value)).map_err(|error| {
        let whole = error.to_string();
        let message = whole.rsplit_once(" at line ").map_or(whole.as_str(), |(message, _)| message);
        let problem = match error.classify() {
            serde_json::error::Category::Data => problem(message),
            _ => Problem::Syntax(message.to_owned()),
        };
        ReadError { line: error.line(), column: error.column(), key: String::new(), problem }
    })
}

/// Reads what serde says.
fn problem(message: &str) -> Problem {
    if let Some(key) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return Problem::Missing(key.to_owned());
    }
    let wrong = ["invalid type: ", "invalid value: ", "invalid length "];
    if let Some(rest) = wrong.iter().find_map(|prefix| message.strip_prefix(prefix))
        // What was found may hold the words too: the last ones are ours.
        && let Some((found, expected)) = rest.rsplit_once(", expected ")
    {
        return Problem::WrongType { expected: in_words(expected), found: Some(shortened(&in_words(found))) };
    }
    Problem::Refused(shortened(message))
}

/// A value may be of any length, a message may not: of a long text the start and the end.
fn shortened(text: &str) -> String {
    const ENDS: usize = 100;
    let characters = text.chars().count();
    if characters <= 2 * ENDS + 1 {
        return text.to_owned();
    }
    text.chars().take(ENDS).chain(['…']).chain(text.chars().skip(characters - ENDS)).collect()
}

/// Rust's names of types in TOML's words.
fn in_words(kind: &str) -> String {
    match kind {
        "a map" | "map" => "a table".to_owned(),
        "a sequence" | "sequence" => "an array".to_owned(),
        "string" => "a string".to_owned(),
        "i64" | "u64" | "i32" | "u32" | "u8" => "an integer".to_owned(),
        "f64" => "a number".to_owned(),
        other => other.to_owned(),
    }
}

/// Everything from the first quote to the last is content.
fn without_quotes(text: &str) -> String {
    match (text.find(['"', '`']), text.rfind(['"', '`'])) {
        (Some(first), Some(last)) => format!("{}…{}", &text[..first], &text[last + 1..]),
        _ => text.to_owned(),
    }
}

/// Line and column, from 1, of a byte.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

//! The grammar of Go's `flag` package, in which platforms write the command line.
//!
//! `-x v`, `-x=v`, `--x v` and `--x=v` are the same; a boolean takes a value only after `=`; the first argument that is
//! not a flag, or `--`, ends the flags, and all that follows is positional. clap speaks another grammar, so
//! [`rewrite`] turns what was typed into `--name=value` words that mean the same to it, with every value checked
//! and every number decimal.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use platform_spec::input::{Flag, Takes};
use thiserror::Error;

/// A command line that the grammar has read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rewritten {
    /// One `--name=value` for each flag given, in their order.
    pub(crate) flags: Vec<OsString>,
    /// What is not a flag.
    pub(crate) positional: Vec<OsString>,
}

/// Why the grammar stops.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum GrammarError {
    /// `-h` or `-help`, where no flag has that name: not a failure.
    #[error("help was asked for")]
    Help,
    /// `---x`, `-=x`.
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    /// A flag that the phase does not have at this Platform API.
    #[error("flag provided but not defined: -{0}")]
    Undefined(String),
    /// The last word is a flag that takes a value.
    #[error("flag needs an argument: -{0}")]
    NoValue(&'static str),
    /// `-daemon=maybe`
    #[error("invalid boolean value {value:?} for -{name}")]
    Bool {
        /// The flag.
        name: &'static str,
        /// What was given.
        value: String,
    },
    /// `-uid=root`
    #[error("invalid value {value:?} for flag -{name}: not a whole number")]
    Integer {
        /// The flag.
        name: &'static str,
        /// What was given.
        value: String,
    },
}

/// Reads `words`, the arguments after the executable's name.
pub(crate) fn rewrite(
    words: impl IntoIterator<Item = OsString>,
    defined: &[&'static Flag],
) -> Result<Rewritten, GrammarError> {
    let mut words = words.into_iter();
    let mut rewritten = Rewritten::default();
    while let Some(word) = words.next() {
        let body = match word.as_bytes() {
            b"--" => break,
            [b'-', b'-', body @ ..] => body,
            [b'-', body @ ..] if !body.is_empty() => body,
            _ => {
                rewritten.positional.push(word);
                break;
            }
        };
        if matches!(body, [b'-' | b'=', ..]) {
            return Err(GrammarError::Syntax(word.to_string_lossy().into_owned()));
        }
        let (name, value) = match body.iter().position(|byte| *byte == b'=') {
            Some(at) => (&body[..at], Some(OsStr::from_bytes(&body[at + 1..]))),
            None => (body, None),
        };
        let Some(flag) = defined.iter().find(|flag| flag.name.as_bytes() == name) else {
            return Err(match name {
                b"h" | b"help" => GrammarError::Help,
                _ => GrammarError::Undefined(String::from_utf8_lossy(name).into_owned()),
            });
        };
        let value = match (flag.takes, value) {
            (Takes::Bool, None) => "true".into(),
            (_, Some(value)) => value.to_owned(),
            (_, None) => words.next().ok_or(GrammarError::NoValue(flag.name))?,
        };
        rewritten.flags.push(checked(flag, &value)?);
    }
    rewritten.positional.extend(words);
    Ok(rewritten)
}

/// `--name=value`, with the value as every reader spells it: `true`, `false`, decimal digits, or unchanged.
fn checked(flag: &Flag, value: &OsStr) -> Result<OsString, GrammarError> {
    let told = || value.to_string_lossy().into_owned();
    let value = match flag.takes {
        Takes::Text | Takes::List => value.to_owned(),
        Takes::Bool => {
            let value = value.to_str().and_then(boolean);
            value.ok_or_else(|| GrammarError::Bool { name: flag.name, value: told() })?.to_string().into()
        }
        Takes::Integer => {
            let value = value.to_str().and_then(integer);
            value.ok_or_else(|| GrammarError::Integer { name: flag.name, value: told() })?.to_string().into()
        }
    };
    let mut word = format!("--{}=", flag.name).into_bytes();
    word.extend(value.into_vec());
    Ok(OsString::from_vec(word))
}

/// A boolean as Go's `strconv.ParseBool` reads it; flags and environment variables use the same words.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A whole number as Go's `strconv.ParseInt` reads it in base 0: an optional sign, then a prefix `0x`, `0o`, `0b`, or `0`
/// for octal; `_` between digits, or between a prefix and a digit.
fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes() {
        [b'-', ..] => ("-", &text[1..]),
        [b'+', ..] => ("", &text[1..]),
        _ => ("", text),
    };
    let (base, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', _, ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', _, ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', _, ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // Behind a prefix (also the bare `0` of an octal number) the first digit may follow an underscore.
    let digits = if base == 10 { digits } else { digits.strip_prefix('_').unwrap_or(digits) };
    let separated = digits.split('_').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric()));
    separated.then(|| i64::from_str_radix(&format!("{sign}{}", digits.replace('_', "")), base).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use platform_spec::api::PlatformApi;
    use platform_spec::input::{Phase, flags};

    use super::*;

    fn read(line: &[&str]) -> Result<(String, String), GrammarError> {
        let api = PlatformApi::parse(Some("0.15")).expect("supported");
        let defined: Vec<_> = flags(Phase::Create, api).collect();
        let Rewritten { flags, positional } = rewrite(line.iter().map(OsString::from), &defined)?;
        let join = |words: Vec<OsString>| words.join(OsStr::new(" ")).to_string_lossy().into_owned();
        Ok((join(flags), join(positional)))
    }

    #[test]
    fn what_is_typed_and_what_it_means() {
        let table: &[(&[&str], &str, &str)] = &[
            (&[], "", ""),
            (&["-app", "v", "x"], "--app=v", "x"),
            (&["-app=v", "x"], "--app=v", "x"),
            (&["--app", "v", "x"], "--app=v", "x"),
            (&["--app=v", "x"], "--app=v", "x"),
            (&["-app=a=b"], "--app=a=b", ""),
            (&["-app="], "--app=", ""),
            (&["-app", ""], "--app=", ""),
            (&["-app", "-layers"], "--app=-layers", ""),
            (&["-app", "--", "x"], "--app=--", "x"),
            (&["-app", "a", "-app", "b"], "--app=a --app=b", ""),
            (&["-tag", "a", "-tag=b"], "--tag=a --tag=b", ""),
            (&["-parallel", "x"], "--parallel=true", "x"),
            (&["-parallel", "false"], "--parallel=true", "false"),
            (&["-parallel=F"], "--parallel=false", ""),
            (&["-parallel=1", "-parallel=0"], "--parallel=true --parallel=false", ""),
            (&["-uid", "0x10"], "--uid=16", ""),
            (&["-uid=-1"], "--uid=-1", ""),
            (&["x", "-app", "v"], "", "x -app v"),
            (&["-parallel", "--", "-app", "v"], "--parallel=true", "-app v"),
            (&["--", "--", "x"], "", "-- x"),
            (&["-", "-app=v"], "", "- -app=v"),
            (&["", "-app=v"], "", " -app=v"),
        ];
        for (line, flags, positional) in table {
            assert_eq!(read(line), Ok(((*flags).to_owned(), (*positional).to_owned())), "{line:?}");
        }
    }

    #[test]
    fn what_is_refused() {
        let table: &[(&[&str], &str)] = &[
            (&["-h"], "help was asked for"),
            (&["-app=v", "--help", "x"], "help was asked for"),
            (&["-help=x"], "help was asked for"),
            (&["---app"], "bad flag syntax: ---app"),
            (&["-=v"], "bad flag syntax: -=v"),
            (&["--=v"], "bad flag syntax: --=v"),
            (&["-apps"], "flag provided but not defined: -apps"),
            (&["-ap=v"], "flag provided but not defined: -ap"),
            (&["-a"], "flag provided but not defined: -a"),
            (&["-extended=v"], "flag provided but not defined: -extended"),
            (&["-app"], "flag needs an argument: -app"),
            (&["-parallel="], "invalid boolean value \"\" for -parallel"),
            (&["-parallel=yes"], "invalid boolean value \"yes\" for -parallel"),
            (&["-uid="], "invalid value \"\" for flag -uid: not a whole number"),
            (&["-uid", "root"], "invalid value \"root\" for flag -uid: not a whole number"),
        ];
        for (line, expected) in table {
            assert_eq!(read(line).expect_err("refused").to_string(), *expected, "{line:?}");
        }
        assert_eq!(read(&["x", "-h"]), Ok((String::new(), "x -h".to_owned())), "help is no flag behind a positional");
    }

    #[test]
    fn values_need_not_be_text() {
        let api = PlatformApi::parse(Some("0.15")).expect("supported");
        let defined: Vec<_> = flags(Phase::Create, api).collect();
        let path = OsString::from_vec(b"-app=\xff".to_vec());
        let rewritten = rewrite([path], &defined).expect("a path is bytes");
        assert_eq!(rewritten.flags, [OsString::from_vec(b"--app=\xff".to_vec())]);
        let name = OsString::from_vec(b"-\xff=1".to_vec());
        assert!(matches!(rewrite([name], &defined), Err(GrammarError::Undefined(_))));
    }

    #[test]
    fn whole_numbers() {
        for (text, expected) in [
            ("0", Some(0)),
            ("+7", Some(7)),
            ("-7", Some(-7)),
            ("0x1F", Some(31)),
            ("0X_1f", Some(31)),
            ("0b101", Some(5)),
            ("0o17", Some(15)),
            ("017", Some(15)),
            ("0_17", Some(15)),
            ("1_000", Some(1000)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("0x", None),
            ("09", None),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("--1", None),
            ("0x-1", None),
            ("1.0", None),
            (" 1", None),
        ] {
            assert_eq!(integer(text), expected, "{text:?}");
        }
    }
}

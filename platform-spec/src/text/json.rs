//! The writer of JSON in Go's words (`encoding/json`).

use std::fmt::Write;

use toml::value::{Datetime, Offset};

use super::number;
use super::tree::Node;

/// The whole document, without an end of line.
pub(super) fn write(node: &Node) -> String {
    let mut out = String::new();
    value(&mut out, node);
    out
}

fn value(out: &mut String, node: &Node) {
    match node {
        Node::Null => out.push_str("null"),
        Node::Bool(true) => out.push_str("true"),
        Node::Bool(false) => out.push_str("false"),
        Node::Integer(number) => {
            let _ = write!(out, "{number}");
        }
        Node::Float(number) if number.is_finite() => out.push_str(&number::json(*number)),
        Node::Float(_) => out.push_str("null"),
        Node::Text(text) | Node::JsonText(text) => quoted(out, text),
        Node::Date(found) => quoted(out, &date(found)),
        Node::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                value(out, item);
            }
            out.push(']');
        }
        Node::Table(fields) => {
            out.push('{');
            for (index, (key, field)) in fields.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                quoted(out, key);
                out.push(':');
                value(out, field);
            }
            out.push('}');
        }
    }
}

/// A JSON string as Go's encoder writes it when it escapes for HTML, its default.
pub(super) fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

/// A TOML date as the text that labels hold: RFC 3339. What TOML leaves open is filled in as the reference does it
/// in a container without a time zone: UTC, midnight, and the year 0 for a time alone.
pub fn date(found: &Datetime) -> String {
    let mut full = *found;
    let midnight = toml::value::Time { hour: 0, minute: 0, second: Some(0), nanosecond: None };
    full.date.get_or_insert(toml::value::Date { year: 0, month: 1, day: 1 });
    let time = full.time.get_or_insert(midnight);
    time.second.get_or_insert(0);
    if matches!(full.offset, None | Some(Offset::Custom { minutes: 0 })) {
        full.offset = Some(Offset::Z);
    }
    full.to_string()
}

//! The writer of TOML in the reference's layout.
//!
//! In each table first what fits on a line (`key = value`) in the order given, then tables and arrays of tables. A
//! level is two spaces. An empty line comes before each top-level `[table]` and before every `[[element]]`, but not at
//! the start of the file. Tables inside of arrays that hold anything else are written in line.

use std::fmt::Write;

use toml::value::{Datetime, Offset};

use super::tree::Node;
use super::{json, number};

/// The whole document. What is not a table is written as a value alone.
pub(super) fn write(node: &Node) -> String {
    let mut out = String::new();
    match node {
        Node::Table(fields) => table(&mut out, &mut Vec::new(), fields),
        Node::Null => {}
        other => value(&mut out, other),
    }
    out
}

/// An array whose elements get `[[headers]]`: not empty, and all tables.
fn is_array_of_tables(items: &[Node]) -> bool {
    let mut items = items.iter().filter(|item| **item != Node::Null).peekable();
    items.peek().is_some() && items.all(|item| matches!(item, Node::Table(_)))
}

/// Whether a value comes after the simple ones of its table.
fn has_header(node: &Node) -> bool {
    match node {
        Node::Table(_) => true,
        Node::List(items) => is_array_of_tables(items),
        _ => false,
    }
}

/// The fields that are written, simple ones first.
fn ordered(fields: &[(String, Node)]) -> impl Iterator<Item = (&String, &Node)> {
    let written = || fields.iter().filter(|(_, node)| *node != Node::Null).map(|(key, node)| (key, node));
    written().filter(|(_, node)| !has_header(node)).chain(written().filter(|(_, node)| has_header(node)))
}

fn indent(out: &mut String, levels: usize) {
    for _ in 0..levels {
        out.push_str("  ");
    }
}

/// The content of a table. `path` holds the quoted keys that lead to it.
fn table(out: &mut String, path: &mut Vec<String>, fields: &[(String, Node)]) {
    for (name, node) in ordered(fields) {
        match node {
            Node::Table(inner) => {
                path.push(key(name));
                if path.len() == 1 && !out.is_empty() {
                    out.push('\n');
                }
                indent(out, path.len() - 1);
                let _ = writeln!(out, "[{}]", path.join("."));
                table(out, path, inner);
                path.pop();
            }
            Node::List(items) if is_array_of_tables(items) => {
                path.push(key(name));
                for item in items {
                    let Node::Table(inner) = item else { continue };
                    if !out.is_empty() {
                        out.push('\n');
                    }
                    indent(out, path.len() - 1);
                    let _ = writeln!(out, "[[{}]]", path.join("."));
                    table(out, path, inner);
                }
                path.pop();
            }
            simple => {
                indent(out, path.len());
                out.push_str(&key(name));
                out.push_str(" = ");
                value(out, simple);
                out.push('\n');
            }
        }
    }
}

/// A value on one line.
fn value(out: &mut String, node: &Node) {
    match node {
        Node::Null => {}
        Node::Bool(true) => out.push_str("true"),
        Node::Bool(false) => out.push_str("false"),
        Node::Integer(number) => {
            let _ = write!(out, "{number}");
        }
        Node::Float(number) => out.push_str(&number::toml(*number)),
        Node::Text(text) => quoted(out, text),
        Node::JsonText(text) => {
            let start = out.len();
            json::quoted(out, text);
            // JSON leaves DEL as it is, TOML forbids it.
            if out[start..].contains('\u{7f}') {
                let escaped = out[start..].replace('\u{7f}', "\\u007f");
                out.truncate(start);
                out.push_str(&escaped);
            }
        }
        Node::Date(found) => date(out, found),
        Node::List(items) => {
            out.push('[');
            for (index, item) in items.iter().filter(|item| **item != Node::Null).enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                value(out, item);
            }
            out.push(']');
        }
        Node::Table(fields) => {
            out.push('{');
            for (index, (name, node)) in ordered(fields).enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                out.push_str(&key(name));
                out.push_str(" = ");
                value(out, node);
            }
            out.push('}');
        }
    }
}

fn date(out: &mut String, found: &Datetime) {
    let mut full = *found;
    if let Some(time) = &mut full.time {
        // TOML 1.1 lets the seconds be left out, older readers do not.
        time.second.get_or_insert(0);
    }
    if full.offset == Some(Offset::Custom { minutes: 0 }) {
        full.offset = Some(Offset::Z);
    }
    let _ = write!(out, "{full}");
}

/// A key, quoted where it has to be.
fn key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.bytes().all(bare) {
        return name.to_owned();
    }
    let mut out = String::new();
    quoted(&mut out, name);
    out
}

/// A basic string.
fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\0'..='\u{1f}' | '\u{7f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

//! JSON documents of images, written in the order in which Go's tools write theirs.
//!
//! Digests are of bytes: the same config by the reference implementation and by us is to have one digest. So objects
//! are written with the keys that are known in a fixed order, then all others sorted.

use platform_spec::text::to_go_json;
use serde_json::{Map, Value};

/// How the keys of an object are written.
pub(super) struct Schema {
    /// The known keys, in order.
    pub keys: &'static [Key],
}

/// A known key.
pub(super) struct Key {
    /// Its name.
    pub name: &'static str,
    /// What is written if it is missing, `null`, `false`, `0` or empty.
    pub zero: Zero,
    /// Keys of the object, or of the objects in the array.
    pub schema: Option<&'static Schema>,
}

/// What stands for a missing value.
pub(super) enum Zero {
    /// Nothing: the key is left out.
    Omit,
    /// An empty string.
    Text,
    /// An empty array.
    Array,
    /// An empty object.
    Object,
    /// The value as it is; nothing if it is missing.
    Keep,
}

impl Key {
    /// Left out if it says nothing.
    pub(super) const fn optional(name: &'static str) -> Self {
        Self { name, zero: Zero::Omit, schema: None }
    }

    /// Always written.
    pub(super) const fn always(name: &'static str, zero: Zero) -> Self {
        Self { name, zero, schema: None }
    }

    /// With the keys of what it holds.
    pub(super) const fn of(mut self, schema: &'static Schema) -> Self {
        self.schema = Some(schema);
        self
    }
}

/// Writes an object by its schema: compact, `<`, `>`, `&` and the two line separators escaped, as Go does.
pub(super) fn write(object: &Map<String, Value>, schema: &'static Schema) -> Vec<u8> {
    let mut out = String::new();
    write_object(&mut out, object, schema);
    out.into_bytes()
}

fn write_object(out: &mut String, object: &Map<String, Value>, schema: &'static Schema) {
    let mut separator = '{';
    let mut key = |out: &mut String, name: &str| {
        out.push(separator);
        separator = ',';
        out.push_str(&to_go_json(name));
        out.push(':');
    };
    for known in schema.keys {
        let value = object.get(known.name).filter(|value| matches!(known.zero, Zero::Keep) || !is_zero(value));
        let zero = match (value, &known.zero) {
            (Some(value), _) => {
                key(out, known.name);
                write_value(out, value, known.schema);
                continue;
            }
            (None, Zero::Omit | Zero::Keep) => continue,
            (None, Zero::Text) => "\"\"",
            (None, Zero::Array) => "[]",
            (None, Zero::Object) => "{}",
        };
        key(out, known.name);
        out.push_str(zero);
    }
    for (name, value) in object {
        if !schema.keys.iter().any(|known| known.name == name) {
            key(out, name);
            out.push_str(&to_go_json(value));
        }
    }
    if separator == '{' {
        out.push('{');
    }
    out.push('}');
}

fn write_value(out: &mut String, value: &Value, schema: Option<&'static Schema>) {
    match (value, schema) {
        (Value::Object(object), Some(schema)) => write_object(out, object, schema),
        (Value::Array(items), Some(_)) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_value(out, item, schema);
            }
            out.push(']');
        }
        (value, _) => out.push_str(&to_go_json(value)),
    }
}

/// Whether Go's `omitempty` would leave the value out.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(object) => object.is_empty(),
    }
}

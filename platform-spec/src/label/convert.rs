//! TOML as JSON and back: what buildpacks say about layers is TOML in their files and JSON in labels.

use serde_json::{Map, Number, Value as Json};
use thiserror::Error;
use toml::Value as Toml;

use crate::text;

/// A TOML value that JSON cannot say.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}nan and inf cannot be written as JSON", if .key.is_empty() { String::new() } else { format!("key '{}': ", .key) })]
pub struct NotJson {
    /// Where it is, its parts joined by dots; empty for a value alone.
    pub key: String,
}

/// TOML as JSON: dates become RFC 3339 text, numbers keep their value. For layer and store metadata in labels.
/// Fails on `nan` and `inf`, which JSON cannot say.
///
/// ```
/// use platform_spec::label::toml_to_json;
/// let toml: toml::Table = toml::from_str("made = 1979-05-27\nsize = 1\nrate = 2.0").unwrap();
/// let json = toml_to_json(&toml.into()).unwrap();
/// assert_eq!(platform_spec::text::to_go_json(&json), r#"{"made":"1979-05-27T00:00:00Z","rate":2,"size":1}"#);
/// ```
pub fn toml_to_json(value: &Toml) -> Result<Json, NotJson> {
    let at = |key: String, error: NotJson| NotJson {
        key: if error.key.is_empty() { key } else { format!("{key}.{}", error.key) },
    };
    Ok(match value {
        Toml::String(text) => Json::String(text.clone()),
        Toml::Integer(number) => Json::Number((*number).into()),
        Toml::Float(number) => Json::Number(Number::from_f64(*number).ok_or(NotJson { key: String::new() })?),
        Toml::Boolean(value) => Json::Bool(*value),
        Toml::Datetime(date) => Json::String(text::go_json_date(date)),
        Toml::Array(items) => Json::Array(
            (items.iter().enumerate())
                .map(|(index, item)| toml_to_json(item).map_err(|error| at(index.to_string(), error)))
                .collect::<Result<_, _>>()?,
        ),
        Toml::Table(table) => Json::Object(
            (table.iter())
                .map(|(key, item)| Ok((key.clone(), toml_to_json(item).map_err(|error| at(key.clone(), error))?)))
                .collect::<Result<Map<_, _>, _>>()?,
        ),
    })
}

/// The largest whole number up to which `f64` holds every whole number.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// JSON as TOML, for what labels say about layers: `null`s are left out (`None` for a value that is one), whole numbers
/// become integers (a label does not tell `2.0` from `2`).
///
/// ```
/// use platform_spec::label::json_to_toml;
/// let json = serde_json::json!({"size": 1, "nothing": null, "rate": 2.5});
/// assert_eq!(json_to_toml(&json), Some(toml::Value::Table(toml::from_str("rate = 2.5\nsize = 1").unwrap())));
/// ```
pub fn json_to_toml(value: &Json) -> Option<Toml> {
    Some(match value {
        Json::Null => return None,
        Json::Bool(value) => Toml::Boolean(*value),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Toml::Integer(whole),
            #[expect(clippy::cast_possible_truncation, reason = "it is whole and within what f64 holds exactly")]
            (None, Some(float)) if float.fract() == 0.0 && float.abs() <= EXACT && !is_negative_zero(float) => {
                Toml::Integer(float as i64)
            }
            (None, float) => Toml::Float(float?),
        },
        Json::String(text) => Toml::String(text.clone()),
        Json::Array(items) => Toml::Array(items.iter().filter_map(json_to_toml).collect()),
        Json::Object(fields) => Toml::Table(
            fields.iter().filter_map(|(key, item)| json_to_toml(item).map(|item| (key.clone(), item))).collect(),
        ),
    })
}

fn is_negative_zero(number: f64) -> bool {
    number == 0.0 && number.is_sign_negative()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::to_go_json;

    #[test]
    fn dates_become_what_go_writes() {
        for (toml, json) in [
            ("1979-05-27T07:32:00Z", "1979-05-27T07:32:00Z"),
            ("1979-05-27 00:32:00.9999990-07:00", "1979-05-27T00:32:00.999999-07:00"),
            ("1979-05-27T00:32:00+00:00", "1979-05-27T00:32:00Z"),
            ("1979-05-27T07:32:00", "1979-05-27T07:32:00Z"),
            ("1979-05-27", "1979-05-27T00:00:00Z"),
            ("07:32:00.5", "0000-01-01T07:32:00.5Z"),
        ] {
            let table: toml::Table = toml::from_str(&format!("d = {toml}")).expect("TOML");
            assert_eq!(toml_to_json(&table["d"]), Ok(Json::String(json.to_owned())), "{toml}");
        }
    }

    #[test]
    fn nan_and_inf_are_refused_and_named() {
        for number in ["nan", "-nan", "inf", "-inf"] {
            let table: toml::Table = toml::from_str(&format!("a.b = [1, {{ c = {number} }}]")).expect("TOML");
            let error = toml_to_json(&table.into()).expect_err("not JSON");
            assert_eq!(error.to_string(), "key 'a.b.1.c': nan and inf cannot be written as JSON");
        }
        assert_eq!(
            toml_to_json(&Toml::Float(f64::NAN)).expect_err("not JSON").to_string(),
            "nan and inf cannot be written as JSON"
        );
    }

    /// A label that was read, written as TOML, read again and exported again is the same label.
    #[test]
    fn labels_survive_a_rebuild() {
        for (json, toml) in [
            ("1", Some("1")),
            ("-1", Some("-1")),
            ("9007199254740993", Some("9007199254740993")),
            ("2.5", Some("2.5")),
            ("1e+21", Some("1e+21")),
            ("18446744073709552000", Some("1.8446744073709552e+19")),
            ("-0", Some("-0.0")),
            ("\"x\"", Some("\"x\"")),
            ("true", Some("true")),
            ("[1,[2.5,\"a\"]]", Some("[1, [2.5, \"a\"]]")),
            ("null", None),
        ] {
            let value: Json = serde_json::from_str(json).expect("JSON");
            let back = json_to_toml(&value);
            assert_eq!(back.as_ref().map(text::to_toml), toml.map(str::to_owned), "{json}");
            if let Some(back) = back {
                assert_eq!(to_go_json(&toml_to_json(&back).expect("JSON")), json);
            }
        }
        // Go never writes these two, but somebody may.
        assert_eq!(json_to_toml(&serde_json::json!(2.0)), Some(Toml::Integer(2)));
        assert_eq!(
            json_to_toml(&serde_json::json!([null, { "a": null }])),
            Some(Toml::Array(vec![Toml::Table(toml::Table::new())]))
        );
    }
}

//! Layouts as the reference writes them, made with it; and what bad input is answered with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{from_json, from_toml, to_go_json, to_toml};

/// Text that is its own layout: read and written it is the same. All made by the reference's TOML library.
const LAYOUTS: &[&str] = &[
    "",
    "a = 1\n",
    "[a]\n",
    "[[a]]\n\n[[a]]\n  b = 1\n",
    "a = []\nb = [\"x\", \"y\"]\n\n[c]\n  d = true\n  [c.e]\n    f = 2.0\n    [c.e.g]\n\n[h]\n",
    "[a]\n  [a.b]\n\n    [[a.b.c]]\n      d = 1\n      [a.b.c.e]\n        f = \"g\"\n\n    [[a.b.c]]\n",
    "\"\" = \"\"\n\"a b\" = \"\"\na-b_1 = \"\"\n\"a.b\" = \"\"\n\"ä\" = \"\"\n",
    "[\"a.b\"]\n  [\"a.b\".\"\\\"\"]\n    \"\\u007f\" = 1\n",
    "a = \"\\b\\t\\n\\f\\r\\\"\\\\\\u0000\\u001f\\u007f<>&'ä\u{2028}😀\"\n",
    "a = [{a = 1, z = \"x\", b = {c = [1, 2]}}, 1]\n",
    "a = [[], [1, [2.5, \"x\"]], [{b = 1}]]\n",
    "a = [1979-05-27T07:32:00Z, 1979-05-27T00:32:00.999999-07:00, 1979-05-27T07:32:00, 1979-05-27, 07:32:00]\n",
    "a = [0.5, 1e+06, 123456.0, 1e-05, -0.0, inf, -inf, nan]\n",
    "a = -9223372036854775808\nb = 9223372036854775807\n",
];

#[test]
fn toml_is_laid_out_as_the_reference_does_it() {
    for layout in LAYOUTS {
        let table: toml::Table = from_toml(layout).expect(layout);
        assert_eq!(to_toml(&table), **layout);
    }
}

/// What is said otherwise in the file comes out in the one layout.
#[test]
fn dates_are_normalised() {
    let table: toml::Table =
        from_toml("a = 1979-05-27 07:32:00.50z\nb = 1979-05-27T07:32:00+00:00\nc = 07:32\n").expect("TOML");
    assert_eq!(to_toml(&table), "a = 1979-05-27T07:32:00.5Z\nb = 1979-05-27T07:32:00Z\nc = 07:32:00\n");
}

#[derive(Serialize)]
struct Everything {
    table: BTreeMap<&'static str, u64>,
    nothing: Option<u8>,
    text: &'static str,
    list: Vec<Inner>,
    empty: Vec<Inner>,
    number: f64,
    kind: Kind,
}

#[derive(Serialize)]
struct Inner {
    z: Option<u8>,
    a: char,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    One,
}

#[test]
fn structs_keep_their_order_and_maps_are_sorted() {
    let value = Everything {
        table: BTreeMap::from([("z", u64::MAX), ("a", 1)]),
        nothing: None,
        text: "x",
        list: vec![Inner { z: None, a: 'c' }, Inner { z: Some(1), a: 'd' }],
        empty: vec![],
        number: 3.0,
        kind: Kind::One,
    };
    assert_eq!(
        to_toml(&value),
        "text = \"x\"\nempty = []\nnumber = 3.0\nkind = \"one\"\n\n[table]\n  a = 1\n  z = 18446744073709551615\n\n\
         [[list]]\n  a = \"c\"\n\n[[list]]\n  z = 1\n  a = \"d\"\n"
    );
    assert_eq!(
        to_go_json(&value),
        r#"{"table":{"a":1,"z":18446744073709551615},"nothing":null,"text":"x","list":[{"z":null,"a":"c"},{"z":1,"a":"d"}],"empty":[],"number":3,"kind":"one"}"#
    );
    let unordered = std::collections::HashMap::from([("b", 1), ("a", 2), ("c", 3), ("ä", 4), ("B", 5)]);
    assert_eq!(to_go_json(&unordered), r#"{"B":5,"a":2,"b":1,"c":3,"ä":4}"#);
}

#[test]
fn json_is_escaped_as_go_does_it() {
    assert_eq!(
        to_go_json("\"\\\u{8}\u{c}\n\r\t\u{0}\u{1f}\u{7f}<>&\u{2028}\u{2029}'/ä😀"),
        "\"\\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u001f\u{7f}\\u003c\\u003e\\u0026\\u2028\\u2029'/ä😀\""
    );
    assert_eq!(to_go_json(&BTreeMap::from([("<", ())])), r#"{"\u003c":null}"#);
    assert_eq!(to_go_json(&[f64::NAN, f64::INFINITY]), "[null,null]");
    let table: toml::Table = from_toml("d = [1979-05-27, 07:32:00]").expect("TOML");
    assert_eq!(to_go_json(&table), r#"{"d":["1979-05-27T00:00:00Z","0000-01-01T07:32:00Z"]}"#);
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    a: Vec<Element>,
    b: Option<bool>,
    c: BTreeMap<String, i64>,
    id: Option<crate::name::BuildpackId>,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only read")]
struct Element {
    name: String,
}

#[test]
fn errors_say_where_and_what_was_expected() {
    for (text, error, without_content) in [
        (
            "\nb = \"s3\"",
            "line 2, column 5: key 'b': expected a boolean, found string \"s3\"",
            "line 2, column 5: key 'b': expected a boolean",
        ),
        (
            "b = 's3, expected x'",
            "line 1, column 5: key 'b': expected a boolean, found string \"s3, expected x\"",
            "line 1, column 5: key 'b': expected a boolean",
        ),
        (
            "a = 3",
            "line 1, column 5: key 'a': expected an array, found integer `3`",
            "line 1, column 5: key 'a': expected an array",
        ),
        (
            "a = [3]",
            "line 1, column 6: key 'a': expected a table, found integer `3`",
            "line 1, column 6: key 'a': expected a table",
        ),
        (
            "c = 1979-05-27",
            "line 1, column 5: key 'c': expected a table, found a date",
            "line 1, column 5: key 'c': expected a table",
        ),
        (
            "a = [1979-05-27]",
            "line 1, column 6: key 'a': expected a table, found a date",
            "line 1, column 6: key 'a': expected a table",
        ),
        (
            "a = [['s3']]",
            "line 1, column 6: key 'a': expected a table, found an array",
            "line 1, column 6: key 'a': expected a table",
        ),
        (
            "\"ä\" = 1\n[[a]]\nx = 1",
            "line 2, column 1: key 'a': the key 'name' is missing",
            "line 2, column 1: key 'a': the key 'name' is missing",
        ),
        (
            "[[a]]\nname = 1",
            "line 2, column 8: key 'a.name': expected a string, found integer `1`",
            "line 2, column 8: key 'a.name': expected a string",
        ),
        (
            "[c]\nx = 1.5",
            "line 2, column 5: key 'c.x': expected an integer, found floating point `1.5`",
            "line 2, column 5: key 'c.x': expected an integer",
        ),
        (
            "id = 'a/../s3'",
            "line 1, column 6: key 'id': invalid buildpack id \"a/../s3\": '.' and '..' are not allowed",
            "line 1, column 6: key 'id': invalid buildpack id …: '.' and '..' are not allowed",
        ),
        ("a = [", "line 1, column 6: unclosed array, expected `]`", "line 1, column 6: unclosed array, expected `]`"),
        (
            "s3cret",
            "line 1, column 7: key with no value, expected `=`",
            "line 1, column 7: key with no value, expected `=`",
        ),
        ("s3 = 1\ns3 = 2", "line 2, column 1: key 's3': duplicate key", "line 2, column 1: duplicate key"),
        ("[s3]\n[s3]", "line 2, column 2: key 's3': duplicate key", "line 2, column 2: duplicate key"),
        (
            "b = \"\u{7f}\"",
            "line 1, column 6: invalid basic string, expected non-double-quote visible characters, `\\`",
            "line 1, column 6: invalid basic string, expected non-double-quote visible characters, `\\`",
        ),
        ("{\"auth\": \"s3\"}", "", ""),
        ("b = tru", "", ""),
    ] {
        let found = from_toml::<File>(text).expect_err(text);
        if !error.is_empty() {
            assert_eq!(found.to_string(), error, "{text}");
        }
        let safe = found.without_content();
        if !without_content.is_empty() {
            assert_eq!(safe.to_string(), without_content, "{text}");
        }
        assert!(!format!("{safe} {safe:?}").contains("s3"), "{safe:?} quotes the content");
    }
    assert!(from_toml::<File>("unknown = 1\n[[also]]\nunknown = 2").is_ok());
    assert!(from_toml::<File>("").is_ok());
}

#[test]
fn a_long_value_makes_no_long_message() {
    for text in [format!("b = \"{}\"", "ä".repeat(100_000)), format!("id = \"{}//\"", "ä".repeat(100_000))] {
        let error = from_toml::<File>(&text).expect_err("wrong").to_string();
        assert!(error.chars().count() < 300 && error.contains("ä…ä"), "{error}");
    }
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    let text = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let error = from_toml::<toml::Table>(&text).expect_err("too deep").to_string();
    assert!(error.contains("line 1"), "{error}");
    let error = from_json::<serde_json::Value>(&"[".repeat(100_000)).expect_err("too deep").to_string();
    assert!(error.contains("line 1"), "{error}");
}

#[test]
fn json_errors_say_the_same() {
    for (text, error) in [
        ("{\"b\":\"s3\"}", "line 1, column 9: expected a boolean, found string \"s3\""),
        ("{\"a\":[{}]}", "line 1, column 8: the key 'name' is missing"),
        ("{", "line 1, column 1: EOF while parsing an object"),
        ("", "line 1, column 0: EOF while parsing a value"),
    ] {
        assert_eq!(from_json::<File>(text).expect_err(text).to_string(), error);
    }
}

/// The tree knows dates by a name that the `toml` crate keeps to itself.
#[test]
fn dates_are_recognised() {
    let file: BTreeMap<String, toml::value::Datetime> = from_toml("d = 1979-05-27").expect("a date");
    assert_eq!(to_toml(&file), "d = 1979-05-27\n");
    let date: toml::value::Datetime = "1979-05-27".parse().expect("a date");
    assert_eq!(to_toml(&BTreeMap::from([("d", date)])), "d = 1979-05-27\n");
}

//! Names that become parts of paths, checked where they are parsed: none leads out of the directory it is put in.
//!
//! ```
//! use platform_spec::name::{BuildpackId, ProcessType};
//! assert_eq!(BuildpackId::new("io.buildpacks/ruby").unwrap().escaped(), "io.buildpacks_ruby");
//! assert!(BuildpackId::new("../ruby").is_err() && ProcessType::new("..").is_err());
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A name that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid {what} {name:?}: {why}")]
pub struct NameError {
    /// What kind of name: `buildpack id`, `version`, `layer name`, `process type`.
    pub what: &'static str,
    /// The name as found.
    pub name: String,
    /// Why it is refused.
    pub why: &'static str,
}

fn check_component(part: &str) -> Result<(), &'static str> {
    match part {
        "" => Err("it has an empty part"),
        "." | ".." => Err("'.' and '..' are not allowed"),
        part if part.contains('\0') => Err("it contains a NUL byte"),
        _ => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])+ $type:ident, $what:literal, $check:expr) => {
        $(#[$doc])+
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks the text.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                let check: fn(&str) -> Result<(), &'static str> = $check;
                match check(&text) {
                    Ok(()) => Ok(Self(text)),
                    Err(why) => Err(NameError { what: $what, name: text, why }),
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name! {
    /// The id of a buildpack or an extension: `example/ruby`. Parts are separated by `/`; none is empty, `.` or `..`.
    /// It is no name of something else in the layers directory (buildpack.md, *The buildpack ID*).
    BuildpackId, "buildpack id", |text| {
        if matches!(text, "app" | "config" | "generated" | "sbom") {
            return Err("the specification reserves it");
        }
        text.split('/').try_for_each(check_component)
    }
}

name! {
    /// The version of a buildpack or an extension: one path component.
    BuildpackVersion, "version", |text| {
        check_component(text)?;
        if text.contains('/') { Err("it contains '/'") } else { Ok(()) }
    }
}

name! {
    /// The name of a layer: one path component, the stem of `<layer>.toml`.
    LayerName, "layer name", |text| {
        check_component(text)?;
        if text.contains('/') { Err("it contains '/'") } else { Ok(()) }
    }
}

name! {
    /// The type of a process: `web`. It becomes `/cnb/process/<type>` in the app image.
    ProcessType, "process type", |text| {
        if text.is_empty() {
            return Err("it is empty");
        }
        check_component(text)?;
        if text.contains(['/', '>', '<', ':', '|', '&', '\\']) { Err("none of / > < : | & \\ is allowed") } else { Ok(()) }
    }
}

impl BuildpackId {
    /// The id as one path component: `/` becomes `_`.
    pub fn escaped(&self) -> String {
        self.0.replace('/', "_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        type Is = fn(&str) -> bool;
        let id: Is = |text| BuildpackId::new(text).is_ok();
        let version: Is = |text| BuildpackVersion::new(text).is_ok();
        let layer: Is = |text| LayerName::new(text).is_ok();
        let process: Is = |text| ProcessType::new(text).is_ok();
        for (text, expected) in [
            ("a", [true, true, true, true]),
            ("A.b-c_1", [true, true, true, true]),
            ("ü b", [true, true, true, true]),
            ("...", [true, true, true, true]),
            ("a/b", [true, false, false, false]),
            ("a:b", [true, true, true, false]),
            ("", [false; 4]),
            (".", [false; 4]),
            ("..", [false; 4]),
            ("/a", [false; 4]),
            ("a/", [false; 4]),
            ("a//b", [false; 4]),
            ("a/../b", [false; 4]),
            ("a/./b", [false; 4]),
            ("../../etc", [false; 4]),
            ("a\0", [false; 4]),
            ("sbom", [false, true, true, true]),
            ("app", [false, true, true, true]),
            ("generated", [false, true, true, true]),
            ("config", [false, true, true, true]),
            ("config/x", [true, false, false, false]),
        ] {
            assert_eq!([id, version, layer, process].map(|is| is(text)), expected, "{text:?}");
        }
        for text in ["a>b", "a<b", "a|b", "a&b", "a\\b"] {
            assert!(!process(text), "{text}");
        }
    }

    #[test]
    fn a_refused_name_says_why() {
        assert_eq!(
            LayerName::new("a/b").expect_err("refused").to_string(),
            "invalid layer name \"a/b\": it contains '/'"
        );
    }
}

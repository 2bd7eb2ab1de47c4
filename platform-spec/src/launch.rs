//! `launch.toml` (buildpack.md, *launch.toml*).
//!
//! ```
//! use platform_spec::{launch::Launch, text::from_toml};
//! let launch: Launch = from_toml(r#"
//! [[labels]]
//! key = "org.example.framework"
//! value = "rack"
//! [[processes]]
//! type = "web"
//! command = ["rackup"]
//! args = ["-p", "8080"]
//! default = true
//! [[slices]]
//! paths = ["public/*"]
//! "#).unwrap();
//! assert_eq!(launch.processes[0].command.as_ref().unwrap().entries(), ["rackup"]);
//! assert_eq!(launch.slices[0].globs(), ["public/*"]);
//! ```

use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::label::{NotJson, toml_to_json};
use crate::text::to_go_json;

/// `launch.toml`, as a buildpack writes it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Launch {
    /// Labels of the app image.
    #[serde(default)]
    pub labels: Vec<Label>,
    /// Processes to start.
    #[serde(default)]
    pub processes: Vec<LaunchProcess>,
    /// Parts of the app directory that get layers of their own.
    #[serde(default)]
    pub slices: Vec<Slice>,
    /// Deprecated unstructured bill of materials.
    #[serde(default)]
    pub bom: Vec<BomEntry>,
}

/// `[[labels]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Name of the label.
    pub key: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
}

/// `[[processes]]` as a buildpack writes it. What is allowed depends on the buildpack's API.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct LaunchProcess {
    /// Its type, as found; checked by the builder.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// Command: a string, or a list whose first entry is the executable.
    #[serde(default)]
    pub command: Option<Command>,
    /// Arguments; `None` if the key is missing.
    #[serde(default)]
    pub args: Option<Vec<String>>,
    /// Whether it is started without a shell; `None` if the key is missing.
    #[serde(default)]
    pub direct: Option<bool>,
    /// Whether it is the image's default.
    #[serde(default)]
    pub default: bool,
    /// Directory in which it is started; empty is the app directory.
    #[serde(default, rename = "working-dir")]
    pub working_dir: String,
    /// Execution environments that it is for; empty is all.
    #[serde(default, rename = "exec-env")]
    pub exec_env: Vec<String>,
}

/// A command in either of its two forms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Command {
    /// One string: the executable, or a shell command.
    One(String),
    /// The executable and arguments that users cannot replace.
    List(Vec<String>),
}

impl Command {
    /// The entries; a string is a list of one.
    pub fn entries(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::List(list) => list,
        }
    }
}

// By hand, so that an error says what was expected and where.
impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;

        impl<'de> Visitor<'de> for Form {
            type Value = Command;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Command, E> {
                Ok(Command::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Command, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Command::List)
            }
        }

        deserializer.deserialize_any(Form)
    }
}

/// `[[slices]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// Globs relative to the app directory; `None` if the key is missing. The difference is seen in `metadata.toml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
}

impl Slice {
    /// The globs.
    pub fn globs(&self) -> &[String] {
        self.paths.as_deref().unwrap_or_default()
    }
}

/// `[[bom]]`: deprecated. As JSON it is an entry of `sbom.legacy.json`, see [`legacy_sbom`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BomEntry {
    /// What it is about.
    #[serde(default)]
    pub name: String,
    /// A top-level version, which the builder refuses.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Anything; `None` if the key is missing.
    #[serde(default)]
    pub metadata: Option<toml::Table>,
    /// Who wrote it; the builder fills it in.
    #[serde(default)]
    pub buildpack: BomBuildpack,
}

/// Who wrote an entry of a [`BomEntry`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BomBuildpack {
    /// The buildpack's id.
    #[serde(default)]
    pub id: String,
    /// The buildpack's version.
    #[serde(default)]
    pub version: String,
}

/// The content of `sbom.legacy.json`, which is in a layer: what is `null` is the reference's.
/// Fails on `nan` and `inf` in the entries' metadata.
pub fn legacy_sbom(entries: &[BomEntry]) -> Result<String, NotJson> {
    for entry in entries {
        toml_to_json(&toml::Value::Table(entry.metadata.clone().unwrap_or_default()))?;
    }
    let content = if entries.is_empty() { "null".to_owned() } else { to_go_json(entries) };
    Ok(content + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::from_toml;

    #[test]
    fn what_is_missing_is_told_from_what_is_empty() {
        let launch: Launch =
            from_toml("[[processes]]\n[[processes]]\nargs = []\n[[slices]]\n[[slices]]\npaths = []").expect("TOML");
        assert_eq!(launch.processes[0], LaunchProcess::default());
        assert_eq!(launch.processes[1].args, Some(Vec::new()));
        assert_eq!((&launch.slices[0].paths, &launch.slices[1].paths), (&None, &Some(Vec::new())));
    }

    #[test]
    fn bad_input_is_named() {
        for (text, error) in [
            ("processes = {}", "line 1, column 13: key 'processes': expected an array, found a table"),
            ("[[processes]]\ntype = 1", "line 2, column 8: key 'processes.type': expected a string, found integer `1`"),
            (
                "[[processes]]\ncommand = true",
                "line 2, column 11: key 'processes.command': expected a string or an array of strings, found boolean `true`",
            ),
            (
                "[[processes]]\nargs = 'x'",
                "line 2, column 8: key 'processes.args': expected an array, found string \"x\"",
            ),
            (
                "[[processes]]\ndefault = 1",
                "line 2, column 11: key 'processes.default': expected a boolean, found integer `1`",
            ),
            ("[[labels]]\nvalue = 'x'", "line 1, column 1: key 'labels': the key 'key' is missing"),
            ("[[slices]]\npaths = [1]", "line 2, column 10: key 'slices.paths': expected a string, found integer `1`"),
        ] {
            assert_eq!(from_toml::<Launch>(text).expect_err(text).to_string(), error);
        }
    }

    /// It is in the SBOM layer, so its bytes decide a diffID. Made by the reference.
    #[test]
    fn the_legacy_sbom_is_the_reference_s() {
        let text = "[[bom]]\nname = '<gem>'\nmetadata = { b = 1.0, a = 2020-01-01 }\n[[bom]]\nname = 'bare'";
        let mut launch: Launch = from_toml(text).expect("TOML");
        for entry in &mut launch.bom {
            entry.buildpack = BomBuildpack { id: "example/ruby".to_owned(), version: "1.2.3".to_owned() };
        }
        let json = r#"[{"name":"\u003cgem\u003e","metadata":{"a":"2020-01-01T00:00:00Z","b":1},"buildpack":{"id":"example/ruby","version":"1.2.3"}},{"name":"bare","metadata":null,"buildpack":{"id":"example/ruby","version":"1.2.3"}}]"#;
        assert_eq!(legacy_sbom(&launch.bom), Ok(format!("{json}\n")));
        assert_eq!(legacy_sbom(&[]), Ok("null\n".to_owned()));
        let launch: Launch = from_toml("[[bom]]\nmetadata.x = inf").expect("TOML");
        assert_eq!(legacy_sbom(&launch.bom).expect_err("inf").key, "x");
    }
}

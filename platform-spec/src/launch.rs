//! `launch.toml` (buildpack.md, *launch.toml*).

use serde::{Deserialize, Serialize};

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// `[[slices]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// Globs relative to the app directory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

/// `[[bom]]`: deprecated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BomEntry {
    /// What it is about.
    #[serde(default)]
    pub name: String,
    /// Anything.
    #[serde(default)]
    pub metadata: toml::Table,
}

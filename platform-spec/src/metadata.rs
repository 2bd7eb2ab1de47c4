//! `<layers>/config/metadata.toml`: what the builder tells the exporter and the launcher (platform.md, *metadata.toml*).

use serde::{Deserialize, Serialize};

use crate::group::GroupElement;
use crate::launch::{BomEntry, Command, Label, Slice};
use crate::name::ProcessType;

/// `metadata.toml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Metadata {
    /// Deprecated unstructured bill of materials (Platform API below 0.9).
    #[serde(default)]
    pub bom: Vec<BomEntry>,
    /// The buildpacks that built the app.
    #[serde(default)]
    pub buildpacks: Vec<GroupElement>,
    /// The extensions that took part.
    #[serde(default)]
    pub extensions: Vec<GroupElement>,
    /// Labels of the app image.
    #[serde(default)]
    pub labels: Vec<Label>,
    /// Processes, sorted by type.
    #[serde(default)]
    pub processes: Vec<Process>,
    /// Slices of the app directory.
    #[serde(default)]
    pub slices: Vec<Slice>,
    /// The default process type that a buildpack chose; empty if none did.
    #[serde(default, rename = "buildpack-default-process-type")]
    pub buildpack_default_process_type: String,
}

/// `[[processes]]` of `metadata.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: ProcessType,
    /// Its command.
    pub command: Command,
    /// Its arguments; `None` if the key is missing.
    #[serde(default)]
    pub args: Option<Vec<String>>,
    /// Whether it is started without a shell.
    #[serde(default)]
    pub direct: bool,
    /// Whether it is the default. (The builder clears it: the default is a key of its own.)
    #[serde(default)]
    pub default: bool,
    /// The buildpack that defined it.
    #[serde(default, rename = "buildpack-id")]
    pub buildpack_id: String,
    /// Directory in which it is started; empty is the app directory.
    #[serde(default, rename = "working-dir")]
    pub working_dir: String,
    /// Execution environments that it is for; empty is all.
    #[serde(default, rename = "exec-env")]
    pub exec_env: Vec<String>,
}

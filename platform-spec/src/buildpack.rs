//! `buildpack.toml` (buildpack.md, *buildpack.toml*).

use serde::Deserialize;

use crate::name::{BuildpackId, BuildpackVersion};
use crate::order::OrderGroup;
use crate::target::Distro;

/// `buildpack.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Buildpack {
    /// The Buildpack API that it implements; empty if missing.
    #[serde(default)]
    pub api: String,
    /// Who it is.
    pub buildpack: Info,
    /// For a composite buildpack: the order that takes its place.
    #[serde(default)]
    pub order: Vec<OrderGroup>,
    /// Targets that it supports.
    #[serde(default)]
    pub targets: Vec<BuildpackTarget>,
    /// Deprecated stacks, from which targets are inferred.
    #[serde(default)]
    pub stacks: Vec<BuildpackStack>,
}

/// `[buildpack]`, and `[extension]` of `extension.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Info {
    /// Its id.
    pub id: BuildpackId,
    /// Its version.
    pub version: BuildpackVersion,
    /// Its name for people.
    #[serde(default)]
    pub name: String,
    /// Its homepage.
    #[serde(default)]
    pub homepage: String,
    /// Whether user-provided variables are kept out of its environment.
    #[serde(default, rename = "clear-env")]
    pub clear_env: bool,
    /// Media types of the SBOM files that it writes.
    #[serde(default, rename = "sbom-formats")]
    pub sbom_formats: Vec<String>,
    /// Execution environments that it supports: `exec-env = ["test"]`, or the specification's `[[buildpack.exec-env]] name = "test"`.
    #[serde(default, rename = "exec-env")]
    pub exec_env: Vec<String>,
}

/// `[[targets]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct BuildpackTarget {
    /// Operating system; empty is any.
    #[serde(default)]
    pub os: String,
    /// Architecture; empty is any.
    #[serde(default)]
    pub arch: String,
    /// Variant; empty is any. `arch-variant` is read too.
    #[serde(default, alias = "arch-variant")]
    pub variant: String,
    /// Distributions; none is any.
    #[serde(default, alias = "distributions")]
    pub distros: Vec<Distro>,
}

/// `[[stacks]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct BuildpackStack {
    /// The stack's id; `*` is any.
    #[serde(default)]
    pub id: String,
}

//! `project-metadata.toml` (platform.md, *project-metadata.toml*).

use serde::{Deserialize, Serialize};

/// `project-metadata.toml`, and the label `io.buildpacks.project.metadata`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProjectMetadata {
    /// Where the source came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ProjectSource>,
}

/// `[source]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProjectSource {
    /// Kind of source: `git`, `image`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// Which version of it.
    #[serde(default)]
    pub version: toml::Table,
    /// Anything else.
    #[serde(default)]
    pub metadata: toml::Table,
}

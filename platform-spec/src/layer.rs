//! `<layer>.toml`: layer content metadata (buildpack.md, *Layer Content Metadata*).

use serde::{Deserialize, Serialize};

/// `<layer>.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// What the layer is for.
    #[serde(default)]
    pub types: Types,
    /// Anything the buildpack wants to find again at the next build; usually a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<toml::Value>,
}

/// `[types]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Types {
    /// In the app image.
    #[serde(default)]
    pub launch: bool,
    /// In the environment of later buildpacks.
    #[serde(default)]
    pub build: bool,
    /// Kept for the next build.
    #[serde(default)]
    pub cache: bool,
}

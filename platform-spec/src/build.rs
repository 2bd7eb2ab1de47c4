//! `build.toml` (buildpack.md, *build.toml*).

use serde::Deserialize;

use crate::launch::BomEntry;

/// `build.toml`, as a buildpack writes it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Build {
    /// Plan entries that it did not satisfy.
    #[serde(default)]
    pub unmet: Vec<Unmet>,
    /// Deprecated unstructured bill of materials.
    #[serde(default)]
    pub bom: Vec<BomEntry>,
}

/// `[[unmet]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Unmet {
    /// Name of the entry.
    #[serde(default)]
    pub name: String,
}

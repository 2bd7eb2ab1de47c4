//! `store.toml`: what a buildpack keeps from build to build (buildpack.md, *store.toml*).

use serde::{Deserialize, Serialize};

/// `store.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Store {
    /// Anything.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub metadata: toml::Table,
}

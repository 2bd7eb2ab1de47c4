//! `order.toml`: groups of buildpacks to try (platform.md, *order.toml*).

use serde::{Deserialize, Serialize};

use crate::name::{BuildpackId, BuildpackVersion};

/// `order.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Groups of buildpacks, the first that passes wins.
    #[serde(default)]
    pub order: Vec<OrderGroup>,
    /// Groups of extensions.
    #[serde(default, rename = "order-extensions")]
    pub order_extensions: Vec<OrderGroup>,
}

/// One group of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderGroup {
    /// Its elements.
    #[serde(default)]
    pub group: Vec<OrderElement>,
}

/// One buildpack or extension that a group names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderElement {
    /// Its id.
    pub id: BuildpackId,
    /// Its version.
    pub version: BuildpackVersion,
    /// Whether the group can do without it. An extension is optional whatever is said here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// The execution environments for which it is in the group; none is any (buildpack.md, *Order*).
    #[serde(default, rename = "exec-env", skip_serializing_if = "Vec::is_empty")]
    pub exec_env: Vec<String>,
}

impl OrderElement {
    /// `id@version`, as messages name it.
    pub fn full_name(&self) -> String {
        format!("{}@{}", self.id, self.version)
    }
}

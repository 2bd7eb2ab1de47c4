//! `order.toml`: groups of buildpacks to try (platform.md, *order.toml*).

use serde::{Deserialize, Serialize};

use crate::group::GroupElement;

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
    pub group: Vec<GroupElement>,
}

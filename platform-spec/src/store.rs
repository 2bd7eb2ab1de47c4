//! `store.toml`: what a buildpack keeps from build to build (buildpack.md, *store.toml*).
//!
//! ```
//! use platform_spec::{store::Store, text::{from_toml, to_toml}};
//! let store: Store = from_toml("metadata.installed = ['ruby']").unwrap();
//! assert_eq!(to_toml(&store), "[metadata]\n  installed = [\"ruby\"]\n");
//! ```

use serde::{Deserialize, Serialize};

/// `store.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Store {
    /// Anything; `None` if the table is missing. An empty one is found again by the buildpack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<toml::Table>,
}

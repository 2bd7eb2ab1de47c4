//! `system.toml`: buildpacks that every group begins or ends with (platform.md, *system.toml*).
//!
//! ```
//! use platform_spec::{system::SystemFile, text::from_toml};
//! let system = from_toml::<SystemFile>(r#"
//! [[system.pre.buildpacks]]
//! id = "example/certificates"
//! version = "1.2.3"
//! optional = true
//! "#).unwrap().system;
//! assert!(system.pre.buildpacks[0].optional && system.post.buildpacks.is_empty());
//! ```

use serde::Deserialize;

use crate::order::OrderElement;

/// `system.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct SystemFile {
    /// `[system]`.
    #[serde(default)]
    pub system: System,
}

/// `[system]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct System {
    /// Put in front of every group.
    #[serde(default)]
    pub pre: SystemBuildpacks,
    /// Put at the end of every group.
    #[serde(default)]
    pub post: SystemBuildpacks,
}

/// A list of system buildpacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct SystemBuildpacks {
    /// The buildpacks.
    #[serde(default)]
    pub buildpacks: Vec<OrderElement>,
}

//! `build.toml` (buildpack.md, *build.toml*).
//!
//! ```
//! use platform_spec::{build::Build, text::from_toml};
//! let build: Build = from_toml("[[unmet]]\nname = 'ruby'").unwrap();
//! assert_eq!(build.unmet[0].name, "ruby");
//! ```

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

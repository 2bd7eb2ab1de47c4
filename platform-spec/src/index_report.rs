//! `index-report.toml` (target-arch.md, *index-report.toml*): which indexes were written, and what they hold. `report.toml`
//! stays what it is, about one image.
//!
//! ```
//! use platform_spec::{index_report::IndexReport, text::{from_toml, to_toml}};
//! let text = r#"[[indexes]]
//!   tag = "example/app:latest"
//!   digest = "sha256:1"
//!   media-type = "application/vnd.oci.image.index.v1+json"
//!   size = 473
//!
//!   [[indexes.images]]
//!     platform = "linux/amd64"
//!     digest = "sha256:2"
//!     media-type = "application/vnd.oci.image.manifest.v1+json"
//!     size = 1138
//! "#;
//! let report: IndexReport = from_toml(text).unwrap();
//! assert_eq!(report.indexes[0].images[0].platform, "linux/amd64");
//! assert_eq!(to_toml(&report), text);
//! ```

use serde::{Deserialize, Serialize};

/// `index-report.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexReport {
    /// One for each tag, in the order in which they were given.
    #[serde(default)]
    pub indexes: Vec<IndexEntry>,
}

/// An index under a tag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct IndexEntry {
    /// The tag, as it was given.
    pub tag: String,
    /// Digest of the index.
    pub digest: String,
    /// Media type of the index.
    pub media_type: String,
    /// Size of the index in bytes.
    pub size: u64,
    /// What it holds, in its order.
    #[serde(default)]
    pub images: Vec<ImageEntry>,
}

/// A manifest in an index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageEntry {
    /// `linux/arm64`, `linux/arm/v7`; `unknown/unknown` for an attestation; empty if the index does not say.
    #[serde(default)]
    pub platform: String,
    /// Digest of the manifest.
    pub digest: String,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
}

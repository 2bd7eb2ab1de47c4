//! `report.toml` (platform.md, *report.toml*): what was exported. Platforms look for the one line `digest = "…"`.
//!
//! ```
//! use platform_spec::{report::Report, text::{from_toml, to_toml}};
//! let text = r#"[image]
//!   tags = ["example/app:latest"]
//!   digest = "sha256:1"
//!   manifest-size = 1138
//! "#;
//! let report: Report = from_toml(text).unwrap();
//! assert_eq!(report.image.manifest_size, Some(1138));
//! assert_eq!(to_toml(&report), text);
//! ```

use serde::{Deserialize, Serialize};

use crate::launch::BomEntry;

/// `report.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `[build]`: only below Platform API 0.9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildReport>,
    /// `[image]`.
    pub image: ImageReport,
}

/// `[build]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildReport {
    /// Deprecated unstructured bill of materials.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bom: Vec<BomEntry>,
}

/// `[image]`: exactly one of `image-id` and `digest` (none for a layout).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageReport {
    /// Names under which the image was saved, the output image first.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Image id in a daemon.
    #[serde(default, rename = "image-id", skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// Digest of the manifest in a registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Size of the manifest in bytes.
    #[serde(default, rename = "manifest-size", skip_serializing_if = "Option::is_none")]
    pub manifest_size: Option<u64>,
}

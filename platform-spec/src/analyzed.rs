//! `analyzed.toml` (platform.md, *analyzed.toml*): what the analyzer found, and the restorer adds to.
//!
//! ```
//! use platform_spec::{analyzed::Analyzed, text::{from_toml, to_toml}};
//! let text = r#"[image]
//!   reference = "example/app@sha256:1"
//!
//! [metadata]
//!   [metadata.config]
//!     sha = ""
//!   [metadata.launcher]
//!     sha = "sha256:2"
//!   [metadata.process-types]
//!     sha = ""
//!   [metadata.run-image]
//!     top-layer = "sha256:3"
//!     reference = "example/run@sha256:4"
//!
//! [run-image]
//!   reference = "example/run@sha256:4"
//!   image = "example/run"
//!   [run-image.target]
//!     os = "linux"
//!     arch = "amd64"
//! "#;
//! let analyzed: Analyzed = from_toml(text).unwrap();
//! assert_eq!(analyzed.metadata.launcher.sha, "sha256:2");
//! assert_eq!(to_toml(&analyzed), text);
//! ```

use serde::{Deserialize, Serialize};

use crate::label::LifecycleMetadata;
use crate::target::Target;

/// `analyzed.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Analyzed {
    /// The architecture that the build is for, if one was asked for: `arm64`, `arm/v7` (target-arch.md, *Files*).
    #[serde(default, rename = "target-arch", skip_serializing_if = "String::is_empty")]
    pub target_arch: String,
    /// The previous image; `reference` is empty if there is none.
    #[serde(default, rename = "image", skip_serializing_if = "Option::is_none")]
    pub previous_image: Option<ImageIdentifier>,
    /// The build image, recorded by the restorer.
    #[serde(default, rename = "build-image", skip_serializing_if = "Option::is_none")]
    pub build_image: Option<ImageIdentifier>,
    /// The previous image's layer metadata, with TOML's key names.
    #[serde(default, with = "crate::label::lifecycle_metadata_toml")]
    pub metadata: LifecycleMetadata,
    /// The run image.
    #[serde(default, rename = "run-image", skip_serializing_if = "Option::is_none")]
    pub run_image: Option<AnalyzedRunImage>,
}

/// Where an image is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageIdentifier {
    /// A digest reference, a daemon's image id, or `<layout path>@<digest>`.
    #[serde(default)]
    pub reference: String,
}

/// `[run-image]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnalyzedRunImage {
    /// A digest reference, a daemon's image id, or `<layout path>@<digest>`; empty if the image was not found.
    #[serde(default)]
    pub reference: String,
    /// The name by which it was asked for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Whether a `run.Dockerfile` must be applied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub extend: bool,
    /// Its target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
}

//! Labels of images, and their JSON (platform.md, *Labels*).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::run::RunImage;

/// Layer metadata of an app image: JSON of [`LifecycleMetadata`].
pub const LIFECYCLE_METADATA: &str = "io.buildpacks.lifecycle.metadata";
/// Build metadata of an app image.
pub const BUILD_METADATA: &str = "io.buildpacks.build.metadata";
/// Project metadata of an app image.
pub const PROJECT_METADATA: &str = "io.buildpacks.project.metadata";
/// Metadata of a cache image: JSON of [`CacheMetadata`].
pub const CACHE_METADATA: &str = "io.buildpacks.lifecycle.cache.metadata";
/// Whether an extended image may be rebased.
pub const REBASABLE: &str = "io.buildpacks.rebasable";
/// Execution environment of an app image.
pub const EXEC_ENV: &str = "io.buildpacks.exec-env";
/// Stack of a run image.
pub const STACK_ID: &str = "io.buildpacks.stack.id";
/// `id` of a run image's target.
pub const BASE_ID: &str = "io.buildpacks.base.id";
/// Distribution's name of a run image.
pub const BASE_DISTRO_NAME: &str = "io.buildpacks.base.distro.name";
/// Distribution's version of a run image.
pub const BASE_DISTRO_VERSION: &str = "io.buildpacks.base.distro.version";

/// `io.buildpacks.lifecycle.metadata`, in the order in which the reference writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LifecycleMetadata {
    /// App layers; `None` is JSON's `null`.
    #[serde(default)]
    pub app: Option<Vec<LayerSha>>,
    /// The SBOM layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sbom: Option<LayerSha>,
    /// Buildpacks and their layers; `None` is JSON's `null`.
    #[serde(default)]
    pub buildpacks: Option<Vec<BuildpackLayers>>,
    /// The launcher's configuration.
    #[serde(default)]
    pub config: LayerSha,
    /// The launcher.
    #[serde(default)]
    pub launcher: LayerSha,
    /// The symlinks of process types; empty without processes.
    #[serde(default, rename = "process-types")]
    pub process_types: LayerSha,
    /// The run image.
    #[serde(default, rename = "runImage")]
    pub run_image: RunImageMetadata,
    /// The run image again, for platforms of Platform API below 0.12.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<StackMetadata>,
}

/// A layer's diffID as text; empty if there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSha {
    /// `sha256:…`.
    #[serde(default)]
    pub sha: String,
}

/// `stack`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackMetadata {
    /// The run image.
    #[serde(default, rename = "runImage")]
    pub run_image: RunImage,
}

/// `runImage`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunImageMetadata {
    /// diffID of its last layer.
    #[serde(default, rename = "topLayer")]
    pub top_layer: String,
    /// Reference of the image that was used.
    #[serde(default)]
    pub reference: String,
    /// Its name (Platform API 0.12 and later).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Where else it is (Platform API 0.12 and later).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
}

/// One buildpack's layers, in the app image's and in the cache's metadata.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildpackLayers {
    /// The buildpack's id, as found.
    #[serde(default)]
    pub key: String,
    /// The buildpack's version.
    #[serde(default)]
    pub version: String,
    /// Layers by name.
    #[serde(default)]
    pub layers: BTreeMap<String, BuildpackLayer>,
    /// Content of `store.toml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreMetadata>,
}

/// One layer of a buildpack.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildpackLayer {
    /// diffID.
    #[serde(default)]
    pub sha: String,
    /// The buildpack's `[metadata]`, as JSON; `null` if there was none.
    #[serde(default)]
    pub data: serde_json::Value,
    /// `types.build`.
    #[serde(default)]
    pub build: bool,
    /// `types.launch`.
    #[serde(default)]
    pub launch: bool,
    /// `types.cache`.
    #[serde(default)]
    pub cache: bool,
}

/// `store` of a buildpack.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoreMetadata {
    /// The buildpack's `[metadata]`, as JSON.
    #[serde(default)]
    pub metadata: serde_json::Value,
}

/// Metadata of a cache: label of a cache image, file of a cache directory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CacheMetadata {
    /// The SBOM layer of cached layers.
    #[serde(default)]
    pub sbom: LayerSha,
    /// Buildpacks and their cached layers; `None` is JSON's `null`.
    #[serde(default)]
    pub buildpacks: Option<Vec<BuildpackLayers>>,
    /// Target of the build that wrote it: `linux/arm64`; absent in caches of other implementations.
    #[serde(default, rename = "target-arch", skip_serializing_if = "Option::is_none")]
    pub target_arch: Option<String>,
}

/// [`LifecycleMetadata`] with TOML's key names, for `[metadata]` of `analyzed.toml`.
pub mod lifecycle_metadata_toml {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::LifecycleMetadata;

    /// Writes it.
    pub fn serialize<S: Serializer>(value: &LifecycleMetadata, serializer: S) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LifecycleMetadata, D::Error> {
        LifecycleMetadata::deserialize(deserializer)
    }
}

/// TOML as JSON: dates become strings, numbers keep their value. For layer and store metadata in labels.
/// Fails on `nan` and `inf`, which JSON cannot say.
pub fn toml_to_json(value: &toml::Value) -> Result<serde_json::Value, NotJson> {
    let _ = value;
    Err(NotJson)
}

/// JSON as TOML, for what labels say about layers: `null`s are left out, whole numbers become integers.
pub fn json_to_toml(value: &serde_json::Value) -> Option<toml::Value> {
    let _ = value;
    None
}

/// A TOML value that JSON cannot say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nan and inf cannot be written as JSON")]
pub struct NotJson;

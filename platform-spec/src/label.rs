//! Labels of images, and their JSON (platform.md, *Labels*).
//!
//! A label is written by its type's `to_json`, as the reference writes it at that Platform API, and read by
//! [`crate::text::from_json`], which takes what any lifecycle wrote: `null` for what is empty, unknown keys.
//!
//! ```
//! use platform_spec::{api::PlatformApi, label::LifecycleMetadata, text::from_json};
//! let label = r#"{
//!   "app": [{"sha": "sha256:1"}],
//!   "buildpacks": [{"key": "example/ruby", "version": "1.2.3", "layers":
//!     {"gems": {"sha": "sha256:2", "data": {"ruby": 3}, "build": false, "launch": true, "cache": true}}}],
//!   "runImage": {"image": "example/run", "topLayer": "sha256:3", "reference": "example/run@sha256:4"}
//! }"#;
//! let metadata: LifecycleMetadata = from_json(label).unwrap();
//! let ruby = metadata.layers_of("example/ruby").unwrap();
//! assert_eq!(ruby.layers["gems"].data["ruby"], 3);
//! let api = PlatformApi::parse(Some("0.11")).unwrap();
//! assert!(!metadata.to_json(api).contains("example/run\"")); // the image's name: from 0.12 on
//! ```

mod build_metadata;
mod convert;
pub mod lifecycle_metadata_toml;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

pub use self::build_metadata::{BuildMetadata, Git, Launcher, Source};
pub use self::convert::{NotJson, json_to_toml, toml_to_json};
use crate::api::PlatformApi;

use crate::layer::Types;
use crate::run::RunImage;

/// Layer metadata of an app image: JSON of [`LifecycleMetadata`].
pub const LIFECYCLE_METADATA: &str = "io.buildpacks.lifecycle.metadata";
/// Build metadata of an app image.
pub const BUILD_METADATA: &str = "io.buildpacks.build.metadata";
/// Project metadata of an app image.
pub const PROJECT_METADATA: &str = "io.buildpacks.project.metadata";
/// Metadata of a cache image: JSON of [`CacheMetadata`].
pub const CACHE_METADATA: &str = "io.buildpacks.lifecycle.cache.metadata";
/// `false` if an image must not be rebased.
pub const REBASABLE: &str = "io.buildpacks.rebasable";
/// Execution environment of an app image.
pub const EXEC_ENV: &str = "io.buildpacks.exec-env";
/// What the labels of a run image's stack begin with.
pub const STACK_PREFIX: &str = "io.buildpacks.stack.";
/// Stack of a run image.
pub const STACK_ID: &str = "io.buildpacks.stack.id";
/// Mixins of a run image: a JSON list of names.
pub const STACK_MIXINS: &str = "io.buildpacks.stack.mixins";
/// What the labels begin with that describe a run image.
pub const BASE_PREFIX: &str = "io.buildpacks.base.";
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
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: LayerSha,
    /// The launcher.
    #[serde(default, deserialize_with = "null_as_default")]
    pub launcher: LayerSha,
    /// The symlinks of process types; empty without processes.
    #[serde(default, deserialize_with = "null_as_default", rename = "process-types")]
    pub process_types: LayerSha,
    /// The run image.
    #[serde(default, deserialize_with = "null_as_default", rename = "runImage")]
    pub run_image: RunImageMetadata,
    /// The run image again, for platforms of Platform API below 0.12.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<StackMetadata>,
}

/// A layer's diffID as text; empty if there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSha {
    /// `sha256:…`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub sha: String,
}

/// `stack`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackMetadata {
    /// The run image.
    #[serde(default, deserialize_with = "null_as_default", rename = "runImage")]
    pub run_image: RunImage,
}

/// `runImage`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunImageMetadata {
    /// diffID of its last layer.
    #[serde(default, deserialize_with = "null_as_default", rename = "topLayer")]
    pub top_layer: String,
    /// Reference of the image that was used.
    #[serde(default, deserialize_with = "null_as_default")]
    pub reference: String,
    /// Its name (Platform API 0.12 and later).
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Where else it is (Platform API 0.12 and later).
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
}

/// One buildpack's layers, in the app image's and in the cache's metadata.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildpackLayers {
    /// The buildpack's id, as found.
    #[serde(default, deserialize_with = "null_as_default")]
    pub key: String,
    /// The buildpack's version.
    #[serde(default, deserialize_with = "null_as_default")]
    pub version: String,
    /// Layers by name.
    #[serde(default, deserialize_with = "null_as_default")]
    pub layers: BTreeMap<String, BuildpackLayer>,
    /// Content of `store.toml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreMetadata>,
}

/// One layer of a buildpack.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildpackLayer {
    /// diffID.
    #[serde(default, deserialize_with = "null_as_default")]
    pub sha: String,
    /// The buildpack's `[metadata]`, as JSON; `null` if there was none.
    #[serde(default)]
    pub data: serde_json::Value,
    /// `types.build`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub build: bool,
    /// `types.launch`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub launch: bool,
    /// `types.cache`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub cache: bool,
}

impl BuildpackLayer {
    /// All three types.
    pub fn types(&self) -> Types {
        Types { launch: self.launch, build: self.build, cache: self.cache }
    }
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
    #[serde(default, deserialize_with = "null_as_default")]
    pub sbom: LayerSha,
    /// Buildpacks and their cached layers; `None` is JSON's `null`.
    #[serde(default)]
    pub buildpacks: Option<Vec<BuildpackLayers>>,
    /// Target of the build that wrote it: `linux/arm64`; absent in caches of other implementations.
    #[serde(default, rename = "target-arch", skip_serializing_if = "Option::is_none")]
    pub target_arch: Option<String>,
    /// The architecture on which the build ran, if a target was asked for: `amd64`.
    #[serde(default, rename = "build-arch", skip_serializing_if = "Option::is_none")]
    pub build_arch: Option<String>,
}

impl LifecycleMetadata {
    /// The label as `api` has it: no `sbom` below 0.8, no `runImage.image` and `.mirrors` below 0.12.
    pub fn to_json(&self, api: PlatformApi) -> String {
        let mut label = self.clone();
        if !api.has_sbom() {
            label.sbom = None;
        }
        if !api.has_run_toml() {
            label.run_image.image.clear();
            label.run_image.mirrors.clear();
        }
        crate::text::to_go_json(&label)
    }

    /// The layers of a buildpack; the first entry of that id counts.
    pub fn layers_of(&self, id: &str) -> Option<&BuildpackLayers> {
        self.buildpacks.iter().flatten().find(|buildpack| buildpack.key == id)
    }
}

impl CacheMetadata {
    /// The label of a cache image; with an end of line after it, the file of a cache directory.
    pub fn to_json(&self) -> String {
        crate::text::to_go_json(self)
    }

    /// The cached layers of a buildpack; the first entry of that id counts.
    pub fn layers_of(&self, id: &str) -> Option<&BuildpackLayers> {
        self.buildpacks.iter().flatten().find(|buildpack| buildpack.key == id)
    }
}

/// Go writes empty lists and maps as `null` now and then, and reads `null` as nothing anywhere.
fn null_as_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;

//! [`LifecycleMetadata`] with TOML's key names, for `[metadata]` of `analyzed.toml`: `run-image` where the label has
//! `runImage`, `metadata` where it has `data`. For `#[serde(with)]`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    BuildpackLayer, BuildpackLayers, LayerSha, LifecycleMetadata, RunImageMetadata, StackMetadata, StoreMetadata,
    json_to_toml, toml_to_json,
};
use crate::run::RunImage;

/// Writes it.
pub fn serialize<S: Serializer>(value: &LifecycleMetadata, serializer: S) -> Result<S::Ok, S::Error> {
    Metadata::from(value).serialize(serializer)
}

/// Reads it.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LifecycleMetadata, D::Error> {
    Metadata::deserialize(deserializer)?.try_into().map_err(serde::de::Error::custom)
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    app: Option<Vec<LayerSha>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sbom: Option<LayerSha>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    buildpacks: Option<Vec<Buildpack>>,
    #[serde(default)]
    config: LayerSha,
    #[serde(default)]
    launcher: LayerSha,
    #[serde(default, rename = "process-types")]
    process_types: LayerSha,
    #[serde(default, rename = "run-image")]
    run_image: Run,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stack: Option<Stack>,
}

#[derive(Serialize, Deserialize)]
struct Buildpack {
    #[serde(default)]
    key: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    layers: BTreeMap<String, Layer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    store: Option<Store>,
}

#[derive(Serialize, Deserialize)]
struct Layer {
    #[serde(default)]
    sha: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<toml::Value>,
    #[serde(default)]
    build: bool,
    #[serde(default)]
    launch: bool,
    #[serde(default)]
    cache: bool,
}

#[derive(Serialize, Deserialize)]
struct Store {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<toml::Value>,
}

#[derive(Default, Serialize, Deserialize)]
struct Run {
    #[serde(default, rename = "top-layer")]
    top_layer: String,
    #[serde(default)]
    reference: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    image: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mirrors: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Stack {
    #[serde(default, rename = "run-image")]
    run_image: RunImage,
}

impl From<&LifecycleMetadata> for Metadata {
    fn from(from: &LifecycleMetadata) -> Self {
        // Destructured, so that a new field does not get lost.
        let LifecycleMetadata { app, sbom, buildpacks, config, launcher, process_types, run_image, stack } = from;
        let RunImageMetadata { top_layer, reference, image, mirrors } = run_image.clone();
        Self {
            app: app.clone(),
            sbom: sbom.clone(),
            buildpacks: buildpacks.as_ref().map(|list| list.iter().map(Buildpack::from).collect()),
            config: config.clone(),
            launcher: launcher.clone(),
            process_types: process_types.clone(),
            run_image: Run { top_layer, reference, image, mirrors },
            stack: stack.clone().map(|StackMetadata { run_image }| Stack { run_image }),
        }
    }
}

impl From<&BuildpackLayers> for Buildpack {
    fn from(BuildpackLayers { key, version, layers, store }: &BuildpackLayers) -> Self {
        let layer = |from: &BuildpackLayer| {
            let BuildpackLayer { sha, data, build, launch, cache } = from;
            Layer { sha: sha.clone(), metadata: json_to_toml(data), build: *build, launch: *launch, cache: *cache }
        };
        Self {
            key: key.clone(),
            version: version.clone(),
            layers: layers.iter().map(|(name, from)| (name.clone(), layer(from))).collect(),
            store: store.as_ref().map(|StoreMetadata { metadata }| Store { metadata: json_to_toml(metadata) }),
        }
    }
}

impl TryFrom<Metadata> for LifecycleMetadata {
    type Error = super::NotJson;

    fn try_from(from: Metadata) -> Result<Self, super::NotJson> {
        let Metadata { app, sbom, buildpacks, config, launcher, process_types, run_image, stack } = from;
        let Run { top_layer, reference, image, mirrors } = run_image;
        Ok(Self {
            app,
            sbom,
            buildpacks: buildpacks.map(|list| list.into_iter().map(TryInto::try_into).collect()).transpose()?,
            config,
            launcher,
            process_types,
            run_image: RunImageMetadata { top_layer, reference, image, mirrors },
            stack: stack.map(|Stack { run_image }| StackMetadata { run_image }),
        })
    }
}

impl TryFrom<Buildpack> for BuildpackLayers {
    type Error = super::NotJson;

    fn try_from(Buildpack { key, version, layers, store }: Buildpack) -> Result<Self, super::NotJson> {
        let data = |metadata: Option<toml::Value>| {
            metadata.map_or(Ok(serde_json::Value::Null), |metadata| toml_to_json(&metadata))
        };
        let layer = |from: Layer| {
            let Layer { sha, metadata, build, launch, cache } = from;
            Ok(BuildpackLayer { sha, data: data(metadata)?, build, launch, cache })
        };
        Ok(Self {
            key,
            version,
            layers: layers.into_iter().map(|(name, from)| Ok((name, layer(from)?))).collect::<Result<_, _>>()?,
            store: store
                .map(|Store { metadata }| data(metadata).map(|metadata| StoreMetadata { metadata }))
                .transpose()?,
        })
    }
}

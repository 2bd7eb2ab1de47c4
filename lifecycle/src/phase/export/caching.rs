//! What the cache gets: the layers that buildpacks want again, and who made them.

use std::collections::BTreeMap;
use std::sync::Arc;

use lifecycle_launch::console::chain;
use log::{debug, info, warn};
use platform_spec::label::{BuildpackLayer, BuildpackLayers, CacheMetadata, LayerSha};

use super::gather::{Gathered, Kind, Part};
use super::pack::{Cached, Made};
use crate::cache::{Cache, CacheError, Machines, Writer};
use crate::digest::Digest;
use crate::image::Layer;
use crate::layer::{Packed, Pipeline, Recipe, Want};

/// Writes the cache's metadata and commits it. Of a layer that could not be cached (the disk is full), which is warned
/// about, the cache keeps what the build before left.
pub(super) fn finish(
    gathered: &Gathered,
    made: &[Option<Made>],
    cache: &Cache<'_>,
    writer: Writer<'_>,
    machines: &Machines,
    pipeline: &Pipeline,
) -> Result<(), CacheError> {
    let mut buildpacks: Vec<BuildpackLayers> = gathered
        .buildpacks
        .iter()
        .map(|buildpack| BuildpackLayers {
            key: buildpack.id.clone(),
            version: buildpack.version.clone(),
            layers: BTreeMap::new(),
            store: None,
        })
        .collect();
    let mut sbom = LayerSha::default();
    let mut kept = 0;
    // Group order, layers by name, the SBOM last: parts are in this order but for launch layers coming first.
    let mut order: Vec<_> = gathered.parts.iter().zip(made).collect();
    order.sort_by(|(left, _), (right, _)| place(&left.kind).cmp(&place(&right.kind)));
    for (part, made) in order {
        let Some(Made { diff_id, cache: Some(cached), .. }) = made else { continue };
        let mut diff_id = *diff_id;
        let mut before = None;
        let layer = match cached {
            Cached::Failed(reason) => {
                warn!("Failed to cache layer '{}': {reason}", part.id);
                let Some((sha, layer)) = keep(part, cache, &writer) else { continue };
                (diff_id, before) = (sha, Some(cache.metadata()));
                layer
            }
            Cached::Reused(layer) => {
                info!("Reusing cache layer '{}'", part.id);
                layer.clone()
            }
            Cached::Added(layer) => {
                info!("Adding cache layer '{}'", part.id);
                layer.clone()
            }
        };
        debug!("Layer '{}' SHA: {diff_id}", part.id);
        if let (Writer::Image(next), Some(layer)) = (&writer, layer) {
            next.keep(layer);
            kept += 1;
        }
        match &part.kind {
            Kind::Buildpack { buildpack, layer, types, data } => {
                let new = || BuildpackLayer {
                    sha: diff_id.to_string(),
                    data: data.clone(),
                    build: types.build,
                    launch: types.launch,
                    cache: types.cache,
                };
                let entry = before.and_then(|before| part.layer_before(before)).cloned().unwrap_or_else(new);
                if let Some(buildpack) = buildpacks.get_mut(*buildpack) {
                    buildpack.layers.insert(layer.clone(), entry);
                }
            }
            Kind::CacheSbom => sbom.sha = diff_id.to_string(),
            Kind::Sbom | Kind::App | Kind::Launcher | Kind::Config | Kind::ProcessTypes => {}
        }
    }
    if let (Writer::Image(next), 0) = (&writer, kept) {
        // An image needs a layer: an empty one.
        let packed = pipeline.pack(&Recipe::Entries(Vec::new()), Want { blob: true, tar: None });
        if let Ok(Packed { diff_id, blob: Some(spool), .. }) = packed {
            next.keep(Layer::packed(diff_id, Arc::new(spool)));
        }
    }
    let buildpacks = (!buildpacks.is_empty()).then_some(buildpacks);
    let target_arch = Some(machines.target.to_string());
    let build_arch = machines.build.recorded();
    writer.commit(&CacheMetadata { sbom, buildpacks, target_arch, build_arch })
}

/// Takes the layer of the build before over, if the cache has it: its diffID, and in a cache image the layer.
fn keep(part: &Part, cache: &Cache<'_>, writer: &Writer<'_>) -> Option<(Digest, Option<Layer>)> {
    let diff_id = part.cached_before(cache.metadata())?;
    let layer = match writer {
        Writer::Volume(staging) => staging.reuse(&diff_id).map(|()| None),
        Writer::Image(next) => next.old_layer(&diff_id).map(Some).ok_or(CacheError::Missing(diff_id)),
    };
    let layer = layer.inspect_err(|error| debug!("Layer '{}' is not kept: {}", part.id, chain(error))).ok()?;
    info!("Keeping cache layer '{}' of the build before", part.id);
    Some((diff_id, layer))
}

fn place(kind: &Kind) -> (usize, &str) {
    match kind {
        Kind::Buildpack { buildpack, layer, .. } => (*buildpack, layer),
        Kind::CacheSbom => (usize::MAX, "sbom"),
        Kind::Sbom | Kind::App | Kind::Launcher | Kind::Config | Kind::ProcessTypes => (usize::MAX, ""),
    }
}

//! Restore: what buildpacks find again of the last build (platform.md, *restorer*; buildpack.md, *Layer Types*).
//!
//! [`run`] writes `<layer>.toml` and `store.toml` from the previous image's and the cache's metadata, extracts cached
//! layers, and puts SBOM files beside the layers that they describe. Nothing that a cache or a previous image says is
//! trusted: names are checked, tars are extracted only beneath `<layers>`, and what does not fit is skipped, with its
//! TOML, so that the buildpack makes it anew.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use log::{debug, info, warn};
use platform_spec::api::{BuildpackApi, BuildpackApiError, PlatformApi};
use platform_spec::exit;
use platform_spec::group::GroupElement;
use platform_spec::input::env;
use platform_spec::label::{BuildpackLayer, LifecycleMetadata, json_to_toml};
use platform_spec::name::{BuildpackId, LayerName};
use thiserror::Error;

use super::PhaseError;
use super::programs::ProgramCheck;
use crate::beneath::{BeneathError, Directory, Kind};
use crate::cache::{Cache, CacheError};
use crate::digest::Digest;
use crate::file::{PathContext, PathError};
use crate::image::StoreError;
use crate::layer::extract::{extract, extract_guarded, remove_leftovers};
use crate::layer::{Foreign, Guard, Pipeline};
use crate::layers_dir::{self, LayersDirError};
use lifecycle_launch::console::chain;

/// All that restore may know.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The Platform API.
    pub api: PlatformApi,
    /// The buildpacks of the group, in order.
    pub buildpacks: Vec<GroupElement>,
    /// The layers directory, absolute.
    pub layers_dir: PathBuf,
    /// What the previous image says of its layers.
    pub metadata: LifecycleMetadata,
    /// Whether layers and their metadata are left alone: only `store.toml` is restored.
    pub skip_layers: bool,
    /// What is to be done about programs for other machines.
    pub programs: Option<ProgramCheck>,
}

/// Why nothing can be restored.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// A buildpack's API.
    #[error(transparent)]
    BuildpackApi(#[from] BuildpackApiError),
    /// A buildpack's layers.
    #[error("read layers of buildpack '{id}'")]
    LayersDir {
        /// The buildpack.
        id: String,
        /// Why.
        #[source]
        cause: LayersDirError,
    },
    /// A file.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Something hostile beneath `<layers>`.
    #[error(transparent)]
    Beneath(#[from] BeneathError),
    /// A layer of the cache.
    #[error("restore layer {id}")]
    Cache {
        /// `<buildpack id>:<layer>`.
        id: String,
        /// Why.
        #[source]
        cause: CacheError,
    },
    /// A cached layer has programs for other machines (`CNB_ARCH_CHECK=error`).
    #[error(
        "restore layer {id}: it has to be for {}, but has programs for other machines: {foreign} ({}, {})",
        .foreign.expected, env::ARCH_CHECK, env::ARCH_CHECK_IGNORE
    )]
    Foreign {
        /// `<buildpack id>:<layer>`.
        id: String,
        /// Which.
        foreign: Box<Foreign>,
    },
}

impl PhaseError for RestoreError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::BuildpackApi(_) => exit::INCOMPATIBLE_BUILDPACK_API,
            Self::LayersDir { .. } | Self::Path(_) | Self::Beneath(_) | Self::Cache { .. } | Self::Foreign { .. } => {
                exit::RESTORE_ERROR
            }
        }
    }
}

/// Restores what can be restored.
pub fn run(inputs: &Inputs, cache: Option<&Cache<'_>>, pipeline: &Pipeline) -> Result<(), RestoreError> {
    let _timer = super::Timer::start("Restorer");
    remove_leftovers(&inputs.layers_dir).map_err(|source| PathError {
        operation: "remove leftovers in",
        path: inputs.layers_dir.clone(),
        source,
    })?;
    let mut buildpacks = Vec::new();
    for element in &inputs.buildpacks {
        BuildpackApi::parse(&element.api, &format!("buildpack '{}'", element.full_name()))?;
        buildpacks.push(Buildpack { element, inputs, cache });
    }
    if cache.is_none() {
        debug!("Usable cache not provided, using empty cache metadata");
    }
    let mut tasks = Vec::new();
    for buildpack in &buildpacks {
        buildpack.remove_leftovers()?;
        buildpack.store()?;
    }
    if inputs.skip_layers {
        info!("Skipping buildpack layer analysis");
    }
    for buildpack in &buildpacks {
        let recorded = if inputs.skip_layers { HashMap::new() } else { buildpack.metadata()? };
        tasks.extend(buildpack.data(&recorded)?);
    }
    if let Some(cache) = cache {
        pipeline.map(tasks, |task| task.run(inputs, cache))?;
    }
    if inputs.api.has_sbom() && !inputs.skip_layers {
        sboms(inputs, cache)?;
    }
    Ok(())
}

/// One buildpack of the group.
struct Buildpack<'a> {
    element: &'a GroupElement,
    inputs: &'a Inputs,
    cache: Option<&'a Cache<'a>>,
}

/// diffIDs of the layers whose metadata was restored.
type Recorded = HashMap<String, String>;

impl Buildpack<'_> {
    fn id(&self) -> &BuildpackId {
        &self.element.id
    }

    fn refused(&self) -> impl Fn(LayersDirError) -> RestoreError {
        let id = self.id().to_string();
        move |cause| RestoreError::LayersDir { id: id.clone(), cause }
    }

    /// Removes what a restorer that was killed left among the layers' files.
    fn remove_leftovers(&self) -> Result<(), RestoreError> {
        let directory = layers_dir::open(&self.inputs.layers_dir, self.id()).map_err(self.refused())?;
        Ok(directory.as_ref().map_or(Ok(()), Directory::remove_leftovers)?)
    }

    /// Writes `store.toml`.
    fn store(&self) -> Result<(), RestoreError> {
        let known = self.app().and_then(|known| known.store.as_ref());
        let Some(store) = known else { return Ok(()) };
        let metadata = match json_to_toml(&store.metadata) {
            Some(toml::Value::Table(table)) => Some(table),
            Some(_) | None => None,
        };
        let store = platform_spec::store::Store { metadata };
        layers_dir::write_store(&self.inputs.layers_dir, self.id(), &store).map_err(self.refused())
    }

    /// What the previous image says of this buildpack.
    fn app(&self) -> Option<&platform_spec::label::BuildpackLayers> {
        self.inputs.metadata.buildpacks.iter().flatten().find(|known| known.key == self.id().as_str())
    }

    /// The layers that the previous image has.
    fn app_layers(&self) -> impl Iterator<Item = (&String, &BuildpackLayer)> {
        self.app().into_iter().flat_map(|known| &known.layers)
    }

    /// The layers that the cache has.
    fn cached_layers(&self) -> Option<&BTreeMap<String, BuildpackLayer>> {
        Some(&self.cache?.buildpack(self.id().as_str())?.layers)
    }

    fn is_cached(&self, name: &str) -> bool {
        self.cached_layers().and_then(|layers| layers.get(name)).is_some_and(|layer| layer.cache)
    }

    /// Writes `<layer>.toml` for the layers that the buildpack may reuse; gives their diffIDs.
    fn metadata(&self) -> Result<Recorded, RestoreError> {
        let mut recorded = Recorded::new();
        for (name, layer) in self.app_layers() {
            let id = format!("{}:{name}", self.id());
            if !layer.launch {
                debug!("Not restoring metadata for {id:?}, marked as launch=false");
            } else if layer.build && !layer.cache {
                // Its contents must be in the build container, and nothing brings them there: it will be made anew.
                debug!("Not restoring metadata for {id:?}, marked as build=true, cache=false");
            } else if layer.cache && !self.is_cached(name) {
                debug!("Not restoring metadata for {id:?}, marked as cache=true, but not found in cache");
            } else {
                self.write(name, &id, layer, "app image", &mut recorded)?;
            }
        }
        for (name, layer) in self.cached_layers().into_iter().flatten() {
            let id = format!("{}:{name}", self.id());
            let in_app = self.app().is_some_and(|known| known.layers.contains_key(name));
            if !layer.cache {
                debug!("Not restoring {id:?} from cache, marked as cache=false");
            } else if layer.launch && (in_app || !self.inputs.api.restores_launch_metadata_from_cache()) {
                debug!("Not restoring {id:?} from cache, marked as launch=true");
            } else {
                self.write(name, &id, layer, "cache", &mut recorded)?;
            }
        }
        Ok(recorded)
    }

    fn write(
        &self,
        name: &str,
        id: &str,
        layer: &BuildpackLayer,
        from: &str,
        recorded: &mut Recorded,
    ) -> Result<(), RestoreError> {
        let Some(name) = layer_name(name, id) else { return Ok(()) };
        info!("Restoring metadata for {id:?} from {from}");
        let metadata = json_to_toml(&layer.data);
        layers_dir::write_layer(&self.inputs.layers_dir, self.id(), &name, metadata.as_ref())
            .map_err(self.refused())?;
        recorded.insert(name.to_string(), layer.sha.clone());
        Ok(())
    }

    /// Which cached layers are to be extracted. What is on disk and does not fit the cache is removed.
    fn data(&self, recorded: &Recorded) -> Result<Vec<Task>, RestoreError> {
        let Some(cached) = self.cached_layers() else { return Ok(Vec::new()) };
        let dir = layers_dir::read(&self.inputs.layers_dir, self.id()).map_err(self.refused())?;
        let mut tasks = Vec::new();
        for layer in dir.layers {
            let Some(known) = cached.get(layer.name.as_str()).filter(|known| known.cache) else { continue };
            let id = format!("{}:{}", self.id(), layer.name);
            let fits = recorded.get(layer.name.as_str()).is_some_and(|sha| *sha == known.sha);
            match known.sha.parse() {
                Ok(sha) if fits => {
                    info!("Restoring data for {id:?} from cache");
                    let buildpack = self.id().clone();
                    let guard = self.inputs.programs.as_ref().map(|check| check.guard(known.types()));
                    tasks.push(Task { id, buildpack, name: layer.name, sha, guard });
                }
                Ok(_) | Err(_) => {
                    info!("Removing {id:?}, wrong sha");
                    debug!("Layer sha: {:?}, cache sha: {:?}", recorded.get(layer.name.as_str()), known.sha);
                    layers_dir::remove_layer(&self.inputs.layers_dir, self.id(), &layer.name)
                        .map_err(self.refused())?;
                }
            }
        }
        Ok(tasks)
    }
}

/// A name from metadata that nobody vouches for.
fn layer_name(name: &str, id: &str) -> Option<LayerName> {
    let reserved = ["build", "launch", "store"].contains(&name);
    match LayerName::new(name) {
        Ok(name) if !reserved => Some(name),
        Ok(_) => {
            warn!("Skipping restore for layer {id:?}: the name is reserved");
            None
        }
        Err(error) => {
            warn!("Skipping restore for layer {id:?}: {}", chain(&error));
            None
        }
    }
}

/// A layer to extract.
struct Task {
    id: String,
    buildpack: BuildpackId,
    name: LayerName,
    sha: Digest,
    guard: Option<Guard>,
}

impl Task {
    fn run(&self, inputs: &Inputs, cache: &Cache<'_>) -> Result<(), RestoreError> {
        debug!("Retrieving data for \"{}\"", self.sha);
        let relative = Path::new(&self.buildpack.escaped()).join(self.name.as_str());
        let result = match cache.read(&self.sha) {
            Ok(from) => extract_guarded(from, &self.sha, &inputs.layers_dir, &relative, self.guard.as_ref())
                .map_err(|error| chain(&error)),
            Err(
                error @ (CacheError::Missing(_)
                | CacheError::Permission(_)
                | CacheError::Path(_)
                | CacheError::Store { cause: StoreError::Corrupt { .. }, .. }),
            ) => Err(chain(&error)),
            Err(cause @ (CacheError::Store { .. } | CacheError::Draft { .. })) => {
                return Err(RestoreError::Cache { id: self.id.clone(), cause });
            }
        };
        if let Err(reason) = result {
            warn!("Skipping restore for layer {}: {reason}", self.id);
            // Without its contents, the metadata would tell the buildpack that they are there.
            layers_dir::remove_layer(&inputs.layers_dir, &self.buildpack, &self.name)
                .map_err(|cause| RestoreError::LayersDir { id: self.buildpack.to_string(), cause })?;
        } else if let (Some(check), Some(guard)) = (&inputs.programs, &self.guard)
            && let Some(foreign) = check.tell(&self.id, guard)
        {
            return Err(RestoreError::Foreign { id: self.id.clone(), foreign: Box::new(foreign) });
        }
        Ok(())
    }
}

/// Brings SBOM files of cached and of launch layers beside their layers, then removes `<layers>/sbom`.
fn sboms(inputs: &Inputs, cache: Option<&Cache<'_>>) -> Result<(), RestoreError> {
    let recorded = cache.map(|cache| (cache, &cache.metadata().sbom.sha)).filter(|(_, sha)| !sha.is_empty());
    if let Some((cache, sha)) = recorded {
        info!("Restoring data for SBOM from cache");
        let result = match sha.parse() {
            Ok(sha) => cache.read(&sha).map_err(|error| chain(&error)).and_then(|from| {
                extract(from, &sha, &inputs.layers_dir, Path::new("sbom/cache")).map_err(|error| chain(&error))
            }),
            Err(error) => Err(chain(&error)),
        };
        if let Err(reason) = result {
            warn!("Skipping restore of SBOM from cache: {reason}");
        }
    }
    let layers = Directory::open(&inputs.layers_dir)?;
    let Some(sbom) = layers.directory("sbom")? else { return Ok(()) };
    for kind in ["cache", "launch"] {
        let Some(from) = sbom.directory(kind)? else { continue };
        for element in &inputs.buildpacks {
            // Without the buildpack's directory there is no layer that the files could describe.
            let escaped = element.id.escaped();
            let Some(to) = layers.directory(&escaped)? else { continue };
            match from.directory(&escaped) {
                Ok(Some(from)) => copy_sboms(&element.id, &from, &to)?,
                Ok(None) => {}
                Err(error @ (BeneathError::Refused { .. } | BeneathError::TooLarge { .. })) => {
                    warn!("Skipping restore of SBOM files for {}: {}", element.id, chain(&error));
                }
                Err(error @ BeneathError::Path(_)) => return Err(error.into()),
            }
        }
    }
    drop(sbom);
    layers.remove("sbom")?;
    Ok(())
}

/// The longest name that a file may have, in bytes.
const LONGEST_NAME: usize = 255;

/// Copies `<layer>/sbom.<ext>` to `<layer>.sbom.<ext>`. What has another form is nobody's SBOM.
fn copy_sboms(id: &BuildpackId, from: &Directory, to: &Directory) -> Result<(), RestoreError> {
    for (layer, kind) in from.entries()? {
        if kind != Kind::Directory {
            continue;
        }
        let text = layer.to_string_lossy();
        if layer_name(&text, &format!("{id}:{text}")).is_none() {
            continue;
        }
        let Some(dir) = from.directory(&layer)? else { continue };
        for (name, kind) in dir.entries()? {
            let is_sbom = name.to_str().is_some_and(|name| name.starts_with("sbom.") && name.ends_with("json"));
            if kind != Kind::File || !is_sbom {
                continue;
            }
            let Some(mut source) = dir.file(&name)? else { continue };
            let mut beside = layer.clone();
            beside.push(".");
            beside.push(&name);
            if beside.len() > LONGEST_NAME {
                continue;
            }
            let path = dir.path().join(&name);
            io::copy(&mut source, &mut to.create(&beside)?).path("copy", &path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;

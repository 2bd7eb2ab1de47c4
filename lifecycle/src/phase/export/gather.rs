//! Gathering: which layers there are, before any of their files is read.

use std::path::{Path, PathBuf};

use log::{debug, warn};
use platform_spec::api::BuildpackApi;
use platform_spec::build::Build;
use platform_spec::group::GroupElement;
use platform_spec::label::{BuildpackLayer, CacheMetadata, LifecycleMetadata, StoreMetadata, toml_to_json};
use platform_spec::launch::{BomBuildpack, BomEntry};
use platform_spec::layer::Types;
use platform_spec::metadata::{Metadata, Process};

use super::{Bases, ExportError, Inputs};
use crate::beneath::Directory;
use crate::digest::Digest;
use crate::layer::{Entry, Guard, Recipe, slices};
use crate::layers_dir::{self, LayersDirError};
use crate::phase::programs::ProgramCheck;

const LAUNCHER_DIR: &str = "/cnb/lifecycle";
const LAUNCHER: &str = "/cnb/lifecycle/launcher";
const PROCESS_DIR: &str = "/cnb/process";

/// One layer, for the app image, the cache or both.
pub(super) struct Part {
    /// `<buildpack id>:<layer>`, as messages name it.
    pub(super) id: String,
    /// What the app image's history says of it.
    pub(super) created_by: String,
    /// What its tar holds; `None` if its files are not here and the previous image has it.
    pub(super) recipe: Option<Recipe>,
    /// For the app image: diffIDs of the previous image that it may have again.
    pub(super) app: Option<Vec<Digest>>,
    /// Whether it is for the cache.
    pub(super) cached: bool,
    /// What it is.
    pub(super) kind: Kind,
    /// Looks for programs for other machines.
    pub(super) guard: Option<Guard>,
}

/// What a part is.
pub(super) enum Kind {
    /// A layer of a buildpack.
    Buildpack {
        /// Index of the buildpack in the group.
        buildpack: usize,
        /// Name of the layer.
        layer: String,
        /// Its types.
        types: Types,
        /// Its metadata.
        data: serde_json::Value,
    },
    /// SBOM files of launch layers.
    Sbom,
    /// SBOM files of cached layers.
    CacheSbom,
    /// A slice of the app.
    App,
    /// The launcher.
    Launcher,
    /// The launcher's configuration.
    Config,
    /// The symlinks of process types.
    ProcessTypes,
}

impl Kind {
    /// What programs in it are for; `None` if there are none but ours.
    fn types(&self) -> Option<Types> {
        match self {
            Self::Buildpack { types, .. } => Some(*types),
            Self::App => Some(Types { launch: true, ..Types::default() }),
            Self::Sbom | Self::CacheSbom | Self::Launcher | Self::Config | Self::ProcessTypes => None,
        }
    }
}

impl Part {
    /// What a cache says of this part, if it is a buildpack's layer.
    pub(super) fn layer_before<'c>(&self, cache: &'c CacheMetadata) -> Option<&'c BuildpackLayer> {
        let Kind::Buildpack { layer, .. } = &self.kind else { return None };
        let id = self.id.strip_suffix(layer.as_str())?.strip_suffix(':')?;
        let buildpack = cache.buildpacks.iter().flatten().find(|buildpack| buildpack.key == id)?;
        buildpack.layers.get(layer)
    }

    /// The diffID that a cache has for this part.
    pub(super) fn cached_before(&self, cache: &CacheMetadata) -> Option<Digest> {
        let sha = match &self.kind {
            Kind::Buildpack { .. } => &self.layer_before(cache)?.sha,
            Kind::CacheSbom => &cache.sbom.sha,
            Kind::Sbom | Kind::App | Kind::Launcher | Kind::Config | Kind::ProcessTypes => return None,
        };
        sha.parse().ok()
    }
}

/// All that was gathered.
pub(super) struct Gathered {
    /// The app image's layers in order, then those that are only for the cache.
    pub(super) parts: Vec<Part>,
    /// The buildpacks of the group, in order.
    pub(super) buildpacks: Vec<GatheredBuildpack>,
    /// Unstructured bill of materials of the build (Platform API below 0.9).
    pub(super) build_bom: Vec<BomEntry>,
}

/// What the labels say about a buildpack beside its layers.
pub(super) struct GatheredBuildpack {
    pub(super) id: String,
    pub(super) version: String,
    pub(super) store: Option<StoreMetadata>,
}

fn digests(sha: &str) -> Vec<Digest> {
    sha.parse().into_iter().collect()
}

fn directory(inputs: &Inputs, relative: impl Into<PathBuf>) -> Recipe {
    Recipe::Directory { layers: inputs.layers_dir.clone(), relative: relative.into(), owner: inputs.owner }
}

/// Finds all layers. Nothing of their content is read.
pub(super) fn gather(
    inputs: &Inputs,
    launcher: &Path,
    check: Option<&ProgramCheck>,
    metadata: &Metadata,
    bases: &Bases,
) -> Result<Gathered, ExportError> {
    let previous = &bases.metadata;
    let mut gathered = Gathered { parts: Vec::new(), buildpacks: Vec::new(), build_bom: Vec::new() };
    let mut cache_only = Vec::new();
    for index in 0..inputs.buildpacks.len() {
        buildpack(inputs, index, previous, &mut gathered, &mut cache_only)?;
    }
    let lifecycle = |id: &str, created_by: &str, recipe: Recipe, before: &str, kind: Kind| Part {
        id: format!("buildpacksio/lifecycle:{id}"),
        created_by: created_by.to_owned(),
        recipe: Some(recipe),
        app: Some(digests(before)),
        cached: false,
        kind,
        guard: None,
    };
    let parts = &mut gathered.parts;
    if inputs.api.has_sbom() {
        let text = "Software Bill-of-Materials";
        if there(&inputs.layers_dir, "launch")? {
            let before = previous.sbom.as_ref().map_or("", |sbom| &sbom.sha);
            parts.push(lifecycle("launch.sbom", text, directory(inputs, "sbom/launch"), before, Kind::Sbom));
        }
        if there(&inputs.layers_dir, "cache")? {
            let mut part = lifecycle("cache.sbom", text, directory(inputs, "sbom/cache"), "", Kind::CacheSbom);
            (part.app, part.cached) = (None, true);
            cache_only.push(part);
        }
    }
    let app: Vec<Digest> = previous.app.iter().flatten().filter_map(|layer| layer.sha.parse().ok()).collect();
    for (number, recipe) in slices(&inputs.app_dir, inputs.owner, &metadata.slices)?.into_iter().enumerate() {
        let number = number + 1;
        let created_by = match metadata.slices.is_empty() {
            true => "Application Layer".to_owned(),
            false => format!("Application Slice: {number}"),
        };
        parts.push(Part {
            id: format!("slice-{number}"),
            created_by,
            recipe: Some(recipe),
            app: Some(app.clone()),
            cached: false,
            kind: Kind::App,
            guard: None,
        });
    }
    let launcher = Recipe::Entries(vec![
        Entry::Directory("/cnb".into()),
        Entry::Directory(LAUNCHER_DIR.into()),
        Entry::File { name: LAUNCHER.into(), from: launcher.to_owned() },
    ]);
    let text = "Buildpacks Application Launcher";
    parts.push(lifecycle("launcher", text, launcher, &previous.launcher.sha, Kind::Launcher));
    let text = "Buildpacks Launcher Config";
    parts.push(lifecycle("config", text, directory(inputs, "config"), &previous.config.sha, Kind::Config));
    if !metadata.processes.is_empty() {
        let recipe = process_types(&metadata.processes);
        let text = "Buildpacks Process Types";
        parts.push(lifecycle("process-types", text, recipe, &previous.process_types.sha, Kind::ProcessTypes));
    }
    parts.append(&mut cache_only);
    if let Some(check) = check {
        parts.iter_mut().for_each(|part| part.guard = part.kind.types().map(|types| check.guard(types)));
    }
    Ok(gathered)
}

/// The layer with an entry point for each type. A type may have several processes, for different execution
/// environments; they come one after another.
fn process_types(processes: &[Process]) -> Recipe {
    let mut types: Vec<_> = processes.iter().map(|process| process.kind.as_str()).collect();
    types.dedup();
    let link = |kind| Entry::Symlink { name: Path::new(PROCESS_DIR).join(kind), target: LAUNCHER.into() };
    let directories = [Entry::Directory("/cnb".into()), Entry::Directory(PROCESS_DIR.into())];
    Recipe::Entries(directories.into_iter().chain(types.into_iter().map(link)).collect())
}

/// Whether there are SBOM files for the image (`launch`) or for the cache (`cache`). A symlink on the way is refused: it
/// could ship what is no SBOM.
fn there(layers_dir: &Path, kind: &str) -> Result<bool, ExportError> {
    let layers = Directory::open(layers_dir)?;
    let Some(sbom) = layers.directory("sbom")? else { return Ok(false) };
    Ok(sbom.directory(kind)?.is_some())
}

fn buildpack(
    inputs: &Inputs,
    index: usize,
    previous: &LifecycleMetadata,
    gathered: &mut Gathered,
    cache_only: &mut Vec<Part>,
) -> Result<(), ExportError> {
    let Some(buildpack) = inputs.buildpacks.get(index) else { return Ok(()) };
    let id = buildpack.id.as_str();
    BuildpackApi::parse(&buildpack.api, &format!("buildpack '{}'", buildpack.full_name()))?;
    let refused = |cause| ExportError::LayersDir { id: id.to_owned(), cause };
    let dir = layers_dir::read(&inputs.layers_dir, &buildpack.id).map_err(refused)?;
    debug!("Processing buildpack directory: {}", dir.path.display());
    let json = |value: &toml::Value, whose: &str| {
        toml_to_json(value).map_err(|cause| ExportError::NotJson { id: whose.to_owned(), cause })
    };
    if !inputs.api.drops_legacy_bom() {
        gathered.build_bom.extend(build_bom(inputs, buildpack).map_err(refused)?);
    }
    let store = match &dir.store {
        Some(store) => {
            let table = store.metadata.clone().map(toml::Value::Table);
            let metadata = table.map(|table| json(&table, &format!("{id}:store"))).transpose()?;
            Some(StoreMetadata { metadata: metadata.unwrap_or_default() })
        }
        None => None,
    };
    gathered.buildpacks.push(GatheredBuildpack { id: id.to_owned(), version: buildpack.version.to_string(), store });
    let known = previous.buildpacks.iter().flatten().find(|known| known.key == id);
    let mut malformed = Vec::new();
    let mut reason = None;
    for layer in dir.layers {
        let name = layer.name.to_string();
        let layer_id = format!("{id}:{name}");
        let toml = match layer.toml {
            Ok(toml) => toml,
            Err(error) => {
                malformed.push(layer_id);
                reason.get_or_insert(lifecycle_launch::console::chain(&error));
                continue;
            }
        };
        let types = toml.types;
        if !types.launch && !types.cache {
            continue;
        }
        let data = match toml.metadata.as_ref().map(|value| json(value, &layer_id)).transpose() {
            Ok(data) => data.unwrap_or_default(),
            Err(error) if !types.launch => {
                warn!("Failed to cache layer '{layer_id}': {}", lifecycle_launch::console::chain(&error));
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut cached = types.cache;
        if cached && !layer.has_contents {
            if types.launch {
                return Err(ExportError::NoContents(layer_id));
            }
            warn!("Failed to cache layer '{layer_id}' because it has no contents");
            continue;
        }
        let before = known.and_then(|known| known.layers.get(&name));
        if !layer.has_contents {
            cached = false;
            if before.is_none() {
                return Err(ExportError::NothingToReuse(layer_id));
            }
        }
        let part = Part {
            id: layer_id,
            created_by: format!("Layer: '{name}', Created by buildpack: {}", buildpack.full_name()),
            recipe: layer.has_contents.then(|| directory(inputs, Path::new(&buildpack.id.escaped()).join(&name))),
            app: types.launch.then(|| before.map(|before| digests(&before.sha)).unwrap_or_default()),
            cached,
            kind: Kind::Buildpack { buildpack: index, layer: name, types, data },
            guard: None,
        };
        if types.launch { gathered.parts.push(part) } else { cache_only.push(part) }
    }
    match reason {
        Some(reason) => Err(ExportError::Malformed { ids: malformed, reason }),
        None => Ok(()),
    }
}

/// What a buildpack's `build.toml` says about the build container.
fn build_bom(inputs: &Inputs, buildpack: &GroupElement) -> Result<Vec<BomEntry>, LayersDirError> {
    let Some(directory) = layers_dir::open(&inputs.layers_dir, &buildpack.id)? else { return Ok(Vec::new()) };
    let build: Build = layers_dir::toml_if_there(&directory, "build.toml")?.unwrap_or_default();
    let of = BomBuildpack { id: buildpack.id.to_string(), version: buildpack.version.to_string() };
    Ok(build.bom.into_iter().map(|entry| BomEntry { buildpack: of.clone(), ..entry }).collect())
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn a_type_has_one_entry_point_however_many_processes_it_has() {
        let process = |kind: &str, exec_env: &str| {
            format!("[[processes]]\ntype = '{kind}'\ncommand = ['x']\nexec-env = ['{exec_env}']\n")
        };
        let text =
            [process("a", "x"), process("web", "production"), process("web", "test"), process("z", "x")].concat();
        let metadata: Metadata = platform_spec::text::from_toml(&text).expect("metadata");
        let Recipe::Entries(entries) = process_types(&metadata.processes) else { panic!("no entries") };
        let names: Vec<_> = entries
            .iter()
            .map(|entry| match entry {
                Entry::Directory(name) | Entry::File { name, .. } | Entry::Symlink { name, .. } => {
                    name.display().to_string()
                }
            })
            .collect();
        assert_eq!(names, ["/cnb", "/cnb/process", "/cnb/process/a", "/cnb/process/web", "/cnb/process/z"]);
    }
}

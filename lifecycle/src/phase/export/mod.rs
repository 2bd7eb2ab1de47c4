//! Export: an app image from the run image, the buildpacks' layers, the app and the launcher (platform.md, *exporter*).
//!
//! [`Inputs`] say what goes in; [`run`] gives the report, and the caller writes it. The order of layers is the
//! reference's: buildpack layers, SBOM, app slices, launcher, launcher configuration, process types. Layers are made
//! by [`pack`], what the image says by [`config`], what the cache gets by [`caching`].

mod caching;
mod config;
mod gather;
mod index;
mod launcher;
mod pack;
mod sbom;

use std::path::PathBuf;

use log::{info, warn};
use platform_spec::analyzed::Analyzed;
use platform_spec::api::{BuildpackApiError, PlatformApi};
use platform_spec::exit;
use platform_spec::group::GroupElement;
use platform_spec::index_report::IndexReport;
use platform_spec::input::{IndexMode, env};
use platform_spec::label::{Launcher, LifecycleMetadata};
use platform_spec::metadata::Metadata;
use platform_spec::project_metadata::ProjectMetadata;
use platform_spec::report::{BuildReport, Report};
use platform_spec::run::RunImage;
use thiserror::Error;

use crate::beneath::BeneathError;
use crate::cache::{Cache, Machines};
use crate::digest::Digest;
use crate::file::{LoadError, PathError};
use crate::image::index::IndexError;
use crate::image::{DraftError, Image, Pushed, Store, StoreError};
use crate::layer::{Foreign, LayerError, Owner, PathGlobs, Pipeline, SliceError};
use crate::layers_dir::LayersDirError;
use crate::target::{self, ArchCheck, BuildTarget};
use lifecycle_launch::console::chain;

use self::gather::{Gathered, Part};
use self::pack::Packer;
use super::programs::ProgramCheck;
use super::saved::{self, NameError, Names};
use super::{PhaseError, Timer};

/// All that export may know.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The Platform API.
    pub api: PlatformApi,
    /// The buildpacks of the group, in order.
    pub buildpacks: Vec<GroupElement>,
    /// What the analyzer found: previous image, run image.
    pub analyzed: Analyzed,
    /// The app directory, absolute.
    pub app_dir: PathBuf,
    /// The layers directory, absolute.
    pub layers_dir: PathBuf,
    /// Owner of what comes from the app and the layers directory.
    pub owner: Owner,
    /// The launcher to ship, if somebody chose one; else the target decides.
    pub launcher: Option<PathBuf>,
    /// Where the launcher's SBOM files are.
    pub launcher_sbom_dir: PathBuf,
    /// What the build metadata label says about the launcher.
    pub launcher_metadata: Launcher,
    /// The process type that is to be the default; `None` leaves it to the buildpacks.
    pub default_process_type: Option<String>,
    /// The execution environment.
    pub exec_env: String,
    /// The run image and its mirrors, for the metadata label.
    pub run_image: RunImage,
    /// What `project-metadata.toml` says.
    pub project_metadata: ProjectMetadata,
    /// Name of the app image.
    pub output: String,
    /// More names for it.
    pub additional_tags: Vec<String>,
    /// Seconds since 1970 that the image gets as its creation time; `None` is 1980-01-01T00:00:01Z.
    pub created: Option<i64>,
    /// Whether the image is saved to an OCI layout: then the report names no digest, as it is no registry's.
    pub layout: bool,
    /// Whether the cache is made at the same time as the app image.
    pub parallel: bool,
    /// The machines of the build.
    pub build_for: BuildTarget,
    /// What the names are to name.
    pub index: IndexMode,
    /// What is to be done about programs for other machines.
    pub arch_check: Option<ArchCheck>,
    /// Paths that are left alone by that.
    pub arch_check_ignore: PathGlobs,
}

/// Why there is no app image.
#[derive(Debug, Error)]
pub enum ExportError {
    /// analyzed.toml has no `[run-image]`.
    #[error("analyzed metadata has no [run-image]")]
    NoRunImage,
    /// The analyzer found no run image.
    #[error("run image not found in analyzed metadata")]
    RunImageNotFound,
    /// The run image would have to be extended first.
    #[error("the run image needs to be extended, and this lifecycle has no extender yet")]
    NeedsExtender,
    /// The run image cannot be opened.
    #[error("access run image '{name}'")]
    RunImage {
        /// Its reference.
        name: String,
        /// Why.
        #[source]
        cause: StoreError,
    },
    /// The run image does not say for which machine it is, and so the app image could not.
    #[error("unpack metadata from run image '{name}'")]
    Target {
        /// Its reference.
        name: String,
        /// What it lacks.
        #[source]
        cause: target::Unstated,
    },
    /// The run image has no layers, so there is no top layer to rebase from.
    #[error("run image '{0}' has no layers")]
    NoLayers(String),
    /// The previous image cannot be opened.
    #[error("access previous image '{name}'")]
    PreviousImage {
        /// Its reference.
        name: String,
        /// Why.
        #[source]
        cause: StoreError,
    },
    /// A file of the specification.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A file.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Something hostile beneath `<layers>`.
    #[error(transparent)]
    Beneath(#[from] BeneathError),
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
    /// Layers whose `<layer>.toml` is malformed.
    #[error("failed to parse metadata for layers '[{}]': {reason}", .ids.join(" "))]
    Malformed {
        /// Which.
        ids: Vec<String>,
        /// What is wrong with the first of them.
        reason: String,
    },
    /// Metadata that cannot be written as JSON.
    #[error("metadata of '{id}'")]
    NotJson {
        /// Whose.
        id: String,
        /// Why.
        #[source]
        cause: platform_spec::label::NotJson,
    },
    /// A cached layer without its directory.
    #[error("layer '{0}' is cache=true but has no contents")]
    NoContents(String),
    /// A layer without its directory that the previous image does not have either.
    #[error("cannot reuse '{0}', previous image has no metadata for layer '{0}'")]
    NothingToReuse(String),
    /// The previous image's metadata has the layer, the image has not.
    #[error("cannot reuse '{id}', previous image has no layer {sha}")]
    LayerGone {
        /// Which layer.
        id: String,
        /// Its diffID, as recorded.
        sha: String,
    },
    /// The app directory could not be sliced.
    #[error("slice the app directory")]
    Slices(#[from] SliceError),
    /// There is no launcher for the target.
    #[error(
        "find launcher for {target}: there is no '{path}'; builders have it beside the launcher, or it is named by -launcher",
        path = .path.display()
    )]
    NoLauncher {
        /// The target.
        target: String,
        /// Where it would be.
        path: PathBuf,
    },
    /// The launcher is for another machine.
    #[error("launcher '{path}' is {found}, not for {target}", path = .path.display())]
    OtherLauncher {
        /// Which.
        path: PathBuf,
        /// What it is.
        found: String,
        /// The target.
        target: String,
    },
    /// Layers have programs for other machines (`CNB_ARCH_CHECK=error`).
    #[error("{}", describe_foreign(.0))]
    Foreign(Vec<(String, Foreign)>),
    /// A layer could not be packed.
    #[error("create layer '{id}'")]
    Layer {
        /// Which.
        id: String,
        /// Why.
        #[source]
        cause: LayerError,
    },
    /// A layer could not be sent.
    #[error("send layer {diff_id}")]
    Send {
        /// Which.
        diff_id: Digest,
        /// Why.
        #[source]
        cause: StoreError,
    },
    /// Packing was stopped because sending had failed.
    #[error("packing was stopped")]
    Stopped,
    /// The default process type that was asked for does not exist.
    #[error("determine entrypoint: tried to set {0} to default but it doesn't exist")]
    NoSuchProcess(String),
    /// The image could not be put together.
    #[error("make app image")]
    Draft(#[from] DraftError),
    /// The image could not be saved under any name.
    #[error("save image '{name}'")]
    Save {
        /// The image.
        name: String,
        /// Why.
        #[source]
        cause: StoreError,
    },
    /// Some names could not be written; the others stand.
    #[error("save image to {}", saved::describe_failures(.0))]
    Names(Vec<(String, NameError)>),
    /// A name cannot be that of an index.
    #[error("resolve inputs")]
    Index(#[source] IndexError),
    /// The report could not be written.
    #[error("write export report")]
    Report(#[source] PathError),
    /// The index report could not be written.
    #[error("write index report")]
    IndexReport(#[source] PathError),
}

fn describe_foreign(layers: &[(String, Foreign)]) -> String {
    let one = |(layer, foreign): &(String, Foreign)| {
        format!("layer '{layer}' has to be for {}, but has programs for other machines: {foreign}", foreign.expected)
    };
    let layers = layers.iter().map(one).collect::<Vec<_>>().join("; ");
    format!("{layers} ({}, {})", env::ARCH_CHECK, env::ARCH_CHECK_IGNORE)
}

impl PhaseError for ExportError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::RunImageNotFound | Self::NeedsExtender | Self::Index(_) => exit::INVALID_ARGUMENTS,
            Self::RunImage { .. } => exit::GENERIC,
            Self::BuildpackApi(_) => exit::INCOMPATIBLE_BUILDPACK_API,
            Self::NoRunImage
            | Self::NoLayers(_)
            | Self::Target { .. }
            | Self::PreviousImage { .. }
            | Self::Load(_)
            | Self::Path(_)
            | Self::Beneath(_)
            | Self::LayersDir { .. }
            | Self::Malformed { .. }
            | Self::NotJson { .. }
            | Self::NoContents(_)
            | Self::NothingToReuse(_)
            | Self::LayerGone { .. }
            | Self::Slices(_)
            | Self::NoLauncher { .. }
            | Self::OtherLauncher { .. }
            | Self::Foreign(_)
            | Self::Layer { .. }
            | Self::Send { .. }
            | Self::Stopped
            | Self::NoSuchProcess(_)
            | Self::Draft(_)
            | Self::Save { .. }
            | Self::Names(_)
            | Self::Report(_)
            | Self::IndexReport(_) => exit::EXPORT_ERROR,
        }
    }
}

/// The images that export starts from.
struct Bases {
    run: Image,
    previous: Option<Image>,
    /// What the previous image said of its layers; empty if there is none to reuse.
    metadata: LifecycleMetadata,
}

/// Checks what the analyzer found, without touching a store. The executables call it before they open anything.
pub fn check(analyzed: &Analyzed) -> Result<&str, ExportError> {
    let run_image = analyzed.run_image.as_ref().ok_or(ExportError::NoRunImage)?;
    if run_image.reference.is_empty() {
        return Err(ExportError::RunImageNotFound);
    }
    if run_image.extend {
        return Err(ExportError::NeedsExtender);
    }
    Ok(&run_image.reference)
}

fn open_bases(inputs: &Inputs, store: &dyn Store) -> Result<Bases, ExportError> {
    let reference = check(&inputs.analyzed)?;
    let platform = inputs.analyzed.run_image.as_ref().and_then(|image| image.target.clone());
    let platform = match inputs.build_for.asked() {
        None => platform.unwrap_or_else(target::of_this_program),
        Some(_) => inputs.build_for.target(),
    };
    let run = store
        .open(reference, &platform)
        .and_then(|image| inputs.build_for.check(reference, &image).map(|()| image))
        .map_err(|cause| ExportError::RunImage { name: reference.to_owned(), cause })?;
    target::check_stated(&run).map_err(|cause| ExportError::Target { name: reference.to_owned(), cause })?;
    let mut metadata = inputs.analyzed.metadata.clone();
    let mut previous = None;
    if let Some(image) = inputs.analyzed.previous_image.as_ref().filter(|image| !image.reference.is_empty()) {
        let name = &image.reference;
        info!("Reusing layers from image '{name}'");
        match store.open(name, &platform) {
            Ok(image) if target::fits(&image.config, &run.config) => previous = Some(image),
            Ok(image) => {
                let [theirs, ours] = [&image.config, &run.config].map(|config| target::platform(config).platform());
                warn!("Not reusing layers from image '{name}': it is for {theirs}, the run image is for {ours}");
            }
            Err(error) if error.counts_as_absent() => {
                warn!("Not reusing layers from image '{name}': {}", chain(&error));
            }
            Err(cause) => return Err(ExportError::PreviousImage { name: name.clone(), cause }),
        }
        if previous.is_none() {
            metadata = LifecycleMetadata::default();
        }
    }
    Ok(Bases { run, previous, metadata })
}

/// Makes the app image and pushes it under all its names, then makes the cache. The cache's failure is a warning.
pub fn run(
    inputs: &Inputs,
    store: &dyn Store,
    cache: Option<Cache<'_>>,
    pipeline: &Pipeline,
) -> Result<Exported, ExportError> {
    let timer = Timer::start("Exporter");
    index::check(inputs)?;
    let bases = open_bases(inputs, store)?;
    index::check_child(inputs, &bases.run)?;
    let metadata: Metadata = crate::file::load_hostile(&inputs.layers_dir.join("config/metadata.toml"))?;
    let entrypoint = config::entrypoint(&metadata, inputs.default_process_type.as_deref())?;
    let machines = Machines::of(&inputs.build_for, target::platform(&bases.run.config).platform());
    let strict = inputs.build_for.asked().is_some() || inputs.index != IndexMode::Off;
    let launcher = launcher::choose(inputs.launcher.as_deref(), &machines.target, strict)?;
    if inputs.api.has_lifecycle_sbom() {
        sbom::copy(&inputs.layers_dir, &inputs.launcher_sbom_dir, &launcher.component)?;
    }
    let check = ProgramCheck::new(inputs.arch_check, &inputs.build_for, &machines.target, &inputs.arch_check_ignore);
    let gathered = gather::gather(inputs, &launcher.path, check.as_ref(), &metadata, &bases)?;

    let cache = cache.map(|cache| cache.only_for(&machines));
    let writer = cache.as_ref().and_then(|cache| {
        cache.begin(&machines.target).inspect_err(|error| warn!("Failed to export cache: {}", chain(error))).ok()
    });
    let push = store
        .push(&inputs.output, &inputs.additional_tags)
        .map_err(|cause| ExportError::Save { name: inputs.output.clone(), cause })?;

    let both = cache.as_ref().zip(writer.as_ref());
    let previous = bases.previous.as_ref();
    // What may fail the export is found before the image is saved.
    let fails = check.as_ref().is_some_and(ProgramCheck::fails);
    let now = |part: &Part| part.app.is_some() || inputs.parallel || fails;
    let packer = Packer { pipeline, previous, push: Some(push.as_ref()), cache: both };
    let mut made = packer.run(&gathered.parts, now)?;
    tell_foreign(check.as_ref(), gathered.parts.iter().filter(|part| now(part)))?;
    let image = config::assemble(inputs, &bases, &metadata, &entrypoint, &gathered, &made)?;
    let name = &inputs.output;
    let saving = format!("Saving {}...", store.shown_name(name));
    let saved = Timer::start(saving.clone());
    info!("{saving}");
    let saved_image = match inputs.index {
        IndexMode::Off => push.finish(&image),
        IndexMode::Merge | IndexMode::Replace => push.finish_untagged(&image),
    };
    let pushed = saved_image.map_err(|cause| ExportError::Save { name: name.clone(), cause })?;
    let (names, indexes) = index::write(inputs, store, &image, pushed.names);
    let report = report(inputs, &gathered, &Pushed { names: Vec::new(), ..pushed }, names)?;
    drop(saved);
    drop(timer);

    let _timer = both.is_some().then(|| Timer::start("Cache"));

    if both.is_some() {
        let packer = Packer { pipeline, previous, push: None, cache: both };
        let rest = packer.run(&gathered.parts, |part| !now(part))?;
        for (slot, late) in made.iter_mut().zip(rest) {
            *slot = late.or(slot.take());
        }
        tell_foreign(check.as_ref(), gathered.parts.iter().filter(|part| !now(part)))?;
    }
    if let (Some(cache), Some(writer)) = (&cache, writer)
        && let Err(error) = caching::finish(&gathered, &made, cache, writer, &machines, pipeline)
    {
        warn!("Failed to export cache: {}", chain(&error));
    }
    Ok(Exported { report, indexes })
}

/// Tells which programs are for other machines.
fn tell_foreign<'a>(check: Option<&ProgramCheck>, parts: impl Iterator<Item = &'a Part>) -> Result<(), ExportError> {
    let Some(check) = check else { return Ok(()) };
    let mut layers = Vec::new();
    for part in parts {
        let found = part.guard.as_ref().and_then(|guard| check.tell(&part.id, guard));
        layers.extend(found.map(|foreign| (part.id.clone(), foreign)));
    }
    if layers.is_empty() { Ok(()) } else { Err(ExportError::Foreign(layers)) }
}

/// What was exported.
#[derive(Debug)]
pub struct Exported {
    /// `report.toml`.
    pub report: Report,
    /// What `index-report.toml` says, if there is an index.
    pub indexes: Option<IndexReport>,
}

/// What was saved, for people and for `report.toml`. Names that failed make the export fail, with all of them named.
fn report(inputs: &Inputs, gathered: &Gathered, pushed: &Pushed, names: Names) -> Result<Report, ExportError> {
    let image = saved::tell(pushed, names, inputs.layout).map_err(ExportError::Names)?;
    let bom = gathered.build_bom.clone();
    let build = (!bom.is_empty()).then_some(BuildReport { bom });
    Ok(Report { build, image })
}

#[cfg(test)]
mod tests;

//! What a phase is given: flags, variables and defaults made into one typed value, before anything is read or written.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use lifecycle::cache::image_at;
use lifecycle::experimental::{Experimental, ExperimentalError};
use lifecycle::image::index;
use lifecycle::image::{IndexError, ParseReferenceError, Reference, TIMES};
use lifecycle::layer::{PathGlobError, PathGlobs};
use lifecycle::phase::PhaseError;
use lifecycle::privilege::User;
use lifecycle::target::{ArchCheck, ArchCheckError, BuildTarget};
use platform_spec::api::PlatformApi;
use platform_spec::exit;
use platform_spec::input::{IndexMode, Phase, default, env};
use platform_spec::target::{Platform, UnknownPlatform};
use thiserror::Error;

use crate::args::Args;
use crate::environment::Environment;
use crate::path::absolute;

/// The inputs of a phase (platform.md, *Inputs*), complete: what no flag and no variable gives has its default. A main takes
/// from it what its phase may know.
///
/// Directories are absolute, except `extended` and `layout`; files are as they were given, beneath the working directory. Image
/// references are as they were given too, and can be parsed.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The Platform API (`CNB_PLATFORM_API`).
    pub api: PlatformApi,
    /// `analyzed.toml`
    pub analyzed: PathBuf,
    /// The app directory.
    pub app: PathBuf,
    /// The build config directory.
    pub build_config: PathBuf,
    /// The build image, for the restorer.
    pub build_image: Option<String>,
    /// The buildpacks directory.
    pub buildpacks: PathBuf,
    /// A cache directory. With a cache image too, the image is used.
    pub cache_dir: Option<PathBuf>,
    /// A cache image.
    pub cache_image: Option<String>,
    /// The execution environment: `production`.
    pub exec_env: String,
    /// Whether experimental features may be used.
    pub experimental: Experimental,
    /// What the extender made of the run image.
    pub extended: PathBuf,
    /// The image extensions directory.
    pub extensions: PathBuf,
    /// Whether to rebase even if that is unsafe, for the rebaser.
    pub force: bool,
    /// What image extensions generate.
    pub generated: PathBuf,
    /// `group.toml`
    pub group: PathBuf,
    /// The image to write: the first argument of analyzer, exporter, creator and rebaser; empty in other phases.
    pub image: String,
    /// The images to join, by their digests, for the indexer.
    pub images: Vec<String>,
    /// What the names of the image to write are to name.
    pub index: IndexMode,
    /// Where to write what concerns the index.
    pub index_report: IndexReport,
    /// Prefixes of registries without TLS, or with any certificate.
    pub insecure_registries: Vec<String>,
    /// The launch cache directory: not used without a daemon, but made the user's.
    pub launch_cache: Option<PathBuf>,
    /// The launcher's executable; `None` leaves the choice to the target.
    pub launcher: Option<PathBuf>,
    /// The directory of the launcher's SBOM files.
    pub launcher_sbom: PathBuf,
    /// The layers directory.
    pub layers: PathBuf,
    /// The directory of OCI layouts, if images are read from and written to layouts instead of a registry.
    pub layout: Option<PathBuf>,
    /// `order.toml`
    pub order: PathBuf,
    /// Whether the app image and the cache are exported at the same time.
    pub parallel: bool,
    /// `plan.toml`
    pub plan: PathBuf,
    /// The platform directory.
    pub platform: PathBuf,
    /// The previous image, for the rebaser that to rebase; in analyzer and creator [`Inputs::image`] if none is given.
    pub previous_image: Option<String>,
    /// The default process type.
    pub process_type: Option<String>,
    /// `project-metadata.toml`
    pub project_metadata: PathBuf,
    /// `report.toml`
    pub report: PathBuf,
    /// The `report.toml` of each image to join, for the indexer.
    pub reports: Vec<PathBuf>,
    /// `run.toml`
    pub run: PathBuf,
    /// The run image, where the platform chose one.
    pub run_image: Option<String>,
    /// Whether nothing of previous builds is used (`-skip-layers`, `-skip-restore`).
    pub skip_layers: bool,
    /// `SOURCE_DATE_EPOCH`, in seconds since 1970, from the Platform API on that knows it.
    pub source_date_epoch: Option<i64>,
    /// `stack.toml`
    pub stack: PathBuf,
    /// `system.toml`
    pub system: PathBuf,
    /// More names for the image to write, without the empty ones.
    pub tags: Vec<String>,
    /// The architecture that the app image is to be for, if one was asked for by flag or variable.
    pub target_arch: Option<Platform>,
    /// What to do about programs for another architecture; `None` leaves it to whether there is a target.
    pub arch_check: Option<ArchCheck>,
    /// Paths that the check leaves alone.
    pub arch_check_ignore: PathGlobs,
    /// Whom the phase is to run as.
    pub user: User,
}

impl Inputs {
    /// The names that are written.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.image).chain(&self.tags).map(String::as_str)
    }

    /// Which of the names that are written is this one of a registry.
    pub fn image_named(&self, name: &str) -> Option<&str> {
        // In a layout they are in another place.
        let name = Reference::parse(name).ok().filter(|_| self.layout.is_none())?;
        self.names().find(|image| Reference::parse(image).is_ok_and(|image| image == name))
    }
}

/// `index-report.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexReport {
    /// Where it is written.
    pub path: PathBuf,
    /// Whether somebody chose the path: then it is an error if it cannot be written.
    pub given: bool,
}

/// Inputs that a phase cannot run with.
#[derive(Debug, Error)]
pub enum InputError {
    /// Too many or too few arguments.
    #[error("parse arguments: received {received} arguments, but expected {expected}")]
    Count {
        /// How many there are.
        received: usize,
        /// How many there should be: `1`, `at least 1`.
        expected: &'static str,
    },
    /// Arguments where there should be none.
    #[error("parse arguments: received unexpected arguments")]
    Unexpected,
    /// An empty name for the image to write.
    #[error("resolve inputs: image argument is required")]
    NoImage,
    /// A reference or a name that is not UTF-8.
    #[error("resolve inputs: {what}: {text:?} is not UTF-8")]
    NotText {
        /// Which input.
        what: &'static str,
        /// What was given.
        text: OsString,
    },
    /// A name that is no image reference.
    #[error("resolve inputs")]
    Reference(#[from] ParseReferenceError),
    /// Names in more than one registry.
    #[error("resolve inputs: writing to multiple registries is unsupported")]
    Registries,
    /// The cache would take the app image's name from it.
    #[error("resolve inputs: the image to write ({image}) and the cache image ({cache}) are the same")]
    CacheIsImage {
        /// The app image, or a further name of it.
        image: String,
        /// The cache image.
        cache: String,
    },
    /// There cannot be a cache image for the target beside this one.
    #[error("resolve inputs: cache image {cache}: {reason}")]
    CachePlace {
        /// The cache image.
        cache: String,
        /// Why not.
        reason: String,
    },
    /// A flag that the exporter refuses, because the analyzer has chosen the run image.
    #[error("resolve inputs: -{0} is unsupported")]
    Unsupported(&'static str),
    /// Both names of the flag that names the run image.
    #[error("resolve inputs: supply only one of -run-image or (deprecated) -image")]
    TwoRunImages,
    /// The rebaser writes to tags only.
    #[error("resolve inputs: '{0}' is not a tag reference")]
    NotTag(String),
    /// A user or group id that no user has.
    #[error("resolve inputs: {what} {id} is not a user's or a group's")]
    Id {
        /// `uid` or `gid`.
        what: &'static str,
        /// What was given.
        id: i64,
    },
    /// A daemon was asked for.
    #[error(
        "resolve inputs: this lifecycle cannot use a docker daemon yet (-daemon, {}); \
         without it images are read from and written to a registry",
        env::DAEMON
    )]
    Daemon,
    /// Layouts without a place for them.
    #[error("resolve inputs: -layout needs -layout-dir (or {})", env::LAYOUT_DIR)]
    LayoutDir,
    /// An execution environment that the specification does not allow.
    #[error("resolve inputs: execution environment {0:?} must not contain '/'")]
    ExecEnv(String),
    /// A creation time that no image can have: milliseconds, perhaps.
    #[error(
        "resolve inputs: SOURCE_DATE_EPOCH is {0}, but a time has to be within the years 0 to 9999, in seconds since 1970"
    )]
    Time(i64),
    /// An architecture that nobody knows.
    #[error("resolve inputs: target architecture (-target-arch, {})", env::TARGET_ARCH)]
    TargetArch(#[source] UnknownPlatform),
    /// What is to be done with an index.
    #[error("resolve inputs: {what} is {text:?}, but has to be off, merge or replace")]
    Index {
        /// The flag or the variable.
        what: &'static str,
        /// What was given.
        text: String,
    },
    /// The rebaser cannot make an index anew.
    #[error("resolve inputs: the rebaser has no -index replace: with merge, it rebases what is in the index")]
    RebaseReplace,
    /// A name cannot be that of an index.
    #[error("resolve inputs")]
    IndexName(#[from] IndexError),
    /// What is to be done about programs for another architecture.
    #[error("resolve inputs")]
    ArchCheck(#[from] ArchCheckError),
    /// A glob that is none.
    #[error("resolve inputs")]
    Glob(#[from] PathGlobError),
    /// Layouts and targets are experimental.
    #[error(transparent)]
    Experimental(#[from] ExperimentalError),
}

impl PhaseError for InputError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Count { .. }
            | Self::Unexpected
            | Self::NoImage
            | Self::NotText { .. }
            | Self::Reference(_)
            | Self::Registries
            | Self::CacheIsImage { .. }
            | Self::CachePlace { .. }
            | Self::Unsupported(_)
            | Self::TwoRunImages
            | Self::NotTag(_)
            | Self::Id { .. }
            | Self::Daemon
            | Self::LayoutDir
            | Self::TargetArch(_)
            | Self::Index { .. }
            | Self::RebaseReplace
            | Self::IndexName(_)
            | Self::ArchCheck(_)
            | Self::Glob(_)
            | Self::ExecEnv(_) => exit::INVALID_ARGUMENTS,
            Self::Time(_) => exit::EXPORT_ERROR,
            Self::Experimental(_) => exit::GENERIC,
        }
    }
}

/// What a phase may be given as arguments behind its flags.
fn arguments(phase: Phase, given: &[OsString]) -> Result<(), InputError> {
    let received = given.len();
    match phase {
        Phase::Analyze | Phase::Create if received != 1 => Err(InputError::Count { received, expected: "1" }),
        Phase::Export | Phase::Rebase | Phase::Index if received == 0 => {
            Err(InputError::Count { received, expected: "at least 1" })
        }
        Phase::Detect | Phase::Restore | Phase::Build | Phase::Extend if received != 0 => Err(InputError::Unexpected),
        Phase::Analyze
        | Phase::Create
        | Phase::Export
        | Phase::Rebase
        | Phase::Index
        | Phase::Detect
        | Phase::Restore
        | Phase::Build
        | Phase::Extend => Ok(()),
    }
}

/// Resolves the inputs. Warnings go to [`log`]; nothing is read but whether `<layers>/order.toml` exists.
pub(crate) fn resolve(
    phase: Phase,
    api: PlatformApi,
    args: Args,
    environment: &Environment,
    cwd: &Path,
) -> Result<Inputs, InputError> {
    // Exhaustive: a flag that is forgotten here does not compile.
    let Args {
        analyzed,
        app,
        build_config,
        build_image,
        buildpacks,
        cache_dir,
        cache_image,
        daemon,
        extended,
        extensions,
        force,
        generated,
        gid,
        group,
        image: deprecated_run_image,
        index,
        index_report,
        insecure_registry,
        launch_cache,
        launcher,
        launcher_sbom,
        layers,
        layout,
        layout_dir,
        log_level: _, // the console's, which is there before
        no_color: _,
        order,
        parallel,
        plan,
        platform,
        previous_image,
        process_type,
        project_metadata,
        mut report,
        run,
        run_image,
        skip_layers,
        skip_restore,
        stack,
        system,
        tag,
        target_arch,
        uid,
        version: _, // answered before
        positional,
    } = args;
    arguments(phase, &positional)?;

    let uses_images = match phase {
        Phase::Analyze | Phase::Restore | Phase::Export | Phase::Create | Phase::Rebase => true,
        // There is no daemon and no layout to join images in.
        Phase::Index => false,
        Phase::Detect | Phase::Build | Phase::Extend => false,
    };
    let exports = matches!(phase, Phase::Analyze | Phase::Export | Phase::Create);
    if uses_images && daemon.unwrap_or_else(|| environment.boolean(env::DAEMON)) {
        return Err(InputError::Daemon);
    }

    let given = |flag: Option<OsString>, variable: &str, default: &str| {
        flag.or_else(|| environment.get(variable).map(OsStr::to_owned)).unwrap_or_else(|| default.into())
    };
    let file = |flag, variable, default| PathBuf::from(given(flag, variable, default));
    let directory = |flag, variable, default| absolute(&file(flag, variable, default), cwd);
    let optional = |flag, variable| Some(given(flag, variable, "")).filter(|value| !value.is_empty());
    let optional_directory = |flag, variable| optional(flag, variable).map(|value| absolute(Path::new(&value), cwd));
    let optional_text = |what, flag, variable| optional(flag, variable).map(|value| text(what, value)).transpose();

    let unresolved_layers = given(layers, env::LAYERS, default::LAYERS);
    let in_layers = |flag, variable, default| in_layers(given(flag, variable, default), &unresolved_layers);

    let unresolved_order = given(order, env::ORDER, default::ORDER);
    let is_default_order = unresolved_order == default::ORDER;
    let mut order = self::in_layers(unresolved_order, &unresolved_layers);
    if is_default_order && !order.exists() {
        order = PathBuf::from(default::ORDER_OF_BUILDER);
    }

    let mut names = positional.into_iter().map(|name| text("image", name)).collect::<Result<Vec<_>, _>>()?.into_iter();
    let image = names.next().unwrap_or_default();
    if image.is_empty() && (exports || matches!(phase, Phase::Rebase | Phase::Index)) {
        return Err(InputError::NoImage);
    }
    // The indexer's arguments behind the first are images, not tags.
    let images =
        if phase == Phase::Index { names.by_ref().filter(|name| !name.is_empty()).collect() } else { Vec::new() };
    let tags = tag.into_iter().map(|tag| text("tag", tag)).collect::<Result<Vec<_>, _>>()?;
    let tags: Vec<_> = names.chain(tags).filter(|tag| !tag.is_empty()).collect();

    let run_image_of_platform = environment.text(env::RUN_IMAGE).unwrap_or_default();
    let by_flag = run_image.as_ref().is_some_and(|name| !name.is_empty() && name != run_image_of_platform);
    let deprecated_run_image = deprecated_run_image.filter(|name| !name.is_empty());
    let run_image = match (phase, deprecated_run_image) {
        (Phase::Export, _) if by_flag => return Err(InputError::Unsupported("run-image")),
        (Phase::Export, Some(_)) => return Err(InputError::Unsupported("image")),
        (Phase::Rebase, Some(_)) if by_flag => return Err(InputError::TwoRunImages),
        (Phase::Rebase, Some(deprecated)) => Some(deprecated),
        _ => run_image,
    };
    let previous_image = optional_text("previous image", previous_image, env::PREVIOUS_IMAGE)?
        .or_else(|| matches!(phase, Phase::Analyze | Phase::Create).then(|| image.clone()));

    // The rebaser knows registries only.
    let use_layout =
        uses_images && phase != Phase::Rebase && layout.unwrap_or_else(|| environment.boolean(env::LAYOUT));
    let experimental = Experimental::parse(environment.text(env::EXPERIMENTAL_MODE));
    let layout_dir = optional(layout_dir, env::LAYOUT_DIR).map(PathBuf::from);
    let layout = match (use_layout, layout_dir) {
        (false, _) => None,
        (true, None) => {
            allow_layout(phase, experimental)?;
            return Err(InputError::LayoutDir);
        }
        (true, Some(dir)) => Some(dir),
    };

    let target_arch = optional_text("target architecture", target_arch, env::TARGET_ARCH)?;
    let target_arch = target_arch.map(|text| text.parse()).transpose().map_err(InputError::TargetArch)?;
    let index = index_mode(phase, index, environment)?;
    let chosen_index_report = optional(index_report.clone(), env::INDEX_REPORT);
    let index_report_given = chosen_index_report.is_some_and(|path| path != default::INDEX_REPORT);
    let reports = if phase == Phase::Index { std::mem::take(&mut report) } else { Vec::new() };
    let reports = reports.into_iter().filter(|path| !path.is_empty()).map(PathBuf::from).collect();

    let insecure_registries = environment.list(env::INSECURE_REGISTRIES).into_iter().chain(insecure_registry);
    let insecure_registries = insecure_registries.map(|name| text("insecure registry", name));

    let inputs = Inputs {
        api,
        analyzed: in_layers(analyzed, env::ANALYZED, default::ANALYZED),
        app: directory(app, env::APP, default::APP),
        build_config: directory(build_config, env::BUILD_CONFIG, default::BUILD_CONFIG),
        build_image: optional_text("build image", build_image, env::BUILD_IMAGE)?,
        buildpacks: directory(buildpacks, env::BUILDPACKS, default::BUILDPACKS),
        cache_dir: optional_directory(cache_dir, env::CACHE_DIR),
        cache_image: optional_text("cache image", cache_image, env::CACHE_IMAGE)?,
        exec_env: text("execution environment", given(None, env::EXEC_ENV, default::EXEC_ENV))?,
        experimental,
        extended: in_layers(extended, env::EXTENDED, default::EXTENDED),
        extensions: directory(extensions, env::EXTENSIONS, default::EXTENSIONS),
        force: force.unwrap_or_else(|| environment.boolean(env::FORCE)),
        generated: absolute(&in_layers(generated, env::GENERATED, default::GENERATED), cwd),
        group: in_layers(group, env::GROUP, default::GROUP),
        image,
        images,
        index,
        index_report: IndexReport {
            path: in_layers(index_report.filter(|path| !path.is_empty()), env::INDEX_REPORT, default::INDEX_REPORT),
            given: index_report_given,
        },
        insecure_registries: listed(insecure_registries)?,
        launch_cache: optional_directory(launch_cache, env::LAUNCH_CACHE),
        launcher: launcher.map(PathBuf::from),
        launcher_sbom: launcher_sbom.map_or_else(|| default::LAUNCHER_SBOM.into(), PathBuf::from),
        layers: absolute(Path::new(&unresolved_layers), cwd),
        layout,
        order,
        parallel: parallel.unwrap_or_else(|| environment.boolean(env::PARALLEL)),
        plan: in_layers(plan, env::PLAN, default::PLAN),
        platform: directory(platform, env::PLATFORM, default::PLATFORM),
        previous_image,
        process_type: optional_text("process type", process_type, env::PROCESS_TYPE)?,
        project_metadata: in_layers(project_metadata, env::PROJECT_METADATA, default::PROJECT_METADATA),
        report: in_layers(report.pop(), env::REPORT, default::REPORT),
        reports,
        run: file(run, env::RUN, default::RUN),
        run_image: optional_text("run image", run_image, env::RUN_IMAGE)?,
        skip_layers: skip_layers.or(skip_restore).unwrap_or_else(|| {
            // Either variable counts in every phase.
            environment.boolean(env::SKIP_LAYERS) || environment.boolean(env::SKIP_RESTORE)
        }),
        source_date_epoch: match phase {
            Phase::Export | Phase::Create => source_date_epoch(api, environment)?,
            Phase::Analyze
            | Phase::Detect
            | Phase::Restore
            | Phase::Extend
            | Phase::Build
            | Phase::Rebase
            | Phase::Index => None,
        },
        stack: file(stack, env::STACK, default::STACK),
        system: file(system, env::SYSTEM, default::SYSTEM),
        tags,
        target_arch,
        arch_check: ArchCheck::parse(environment.text(env::ARCH_CHECK))?,
        arch_check_ignore: PathGlobs::new(&listed(
            environment.list(env::ARCH_CHECK_IGNORE).into_iter().map(|glob| text("paths to ignore", glob)),
        )?)?,
        user: User {
            uid: id("uid", uid.unwrap_or_else(|| environment.integer(env::UID)))?,
            gid: id("gid", gid.unwrap_or_else(|| environment.integer(env::GID)))?,
        },
    };
    check(phase, &inputs)?;
    warn(phase, &inputs);
    Ok(inputs)
}

/// What is wrong only together.
fn check(phase: Phase, inputs: &Inputs) -> Result<(), InputError> {
    if inputs.api.has_exec_env() && inputs.exec_env.contains('/') {
        return Err(InputError::ExecEnv(inputs.exec_env.clone()));
    }
    if inputs.target_arch.is_some() && phase != Phase::Index {
        inputs.experimental.allow("target architecture")?;
    }
    if inputs.index != IndexMode::Off || phase == Phase::Index {
        inputs.experimental.allow("export to an index")?;
    }
    if !matches!(phase, Phase::Analyze | Phase::Export | Phase::Create | Phase::Rebase) {
        return Ok(());
    }
    let registry = Reference::parse(&inputs.image)?.registry;
    for tag in &inputs.tags {
        if Reference::parse(tag)?.registry != registry {
            return Err(InputError::Registries);
        }
    }
    if phase == Phase::Rebase {
        for image in inputs.names() {
            if Reference::parse(image)?.digest.is_some() {
                return Err(InputError::NotTag(image.to_owned()));
            }
        }
        if inputs.index != IndexMode::Off {
            index::check_apart(&inputs.names().collect::<Vec<_>>(), &[])?;
        }
        let others = [&inputs.previous_image, &inputs.run_image];
        return Ok(others.into_iter().flatten().try_for_each(|name| Reference::parse(name).map(|_| ()))?);
    }
    let others = [&inputs.previous_image, &inputs.build_image, &inputs.run_image, &inputs.cache_image];
    others.into_iter().flatten().try_for_each(|name| Reference::parse(name).map(|_| ()))?;
    check_index(phase, inputs)?;
    // A cache image is in a registry also where the app image is in a layout.
    if let (Some(cache), None) = (&inputs.cache_image, &inputs.layout) {
        let cache = match inputs.target_arch.clone() {
            None => cache.clone(),
            // Of a cross build it has a longer name, which nobody gives an app either.
            target => BuildTarget::new(target.clone())
                .on(target.unwrap_or_else(Platform::of_this_program))
                .cache_place()
                .map_or_else(|| Ok(cache.clone()), |place| image_at(cache, &place))
                .map_err(|reason| InputError::CachePlace { cache: cache.clone(), reason })?,
        };
        if let Some(image) = inputs.image_named(&cache) {
            return Err(InputError::CacheIsImage { image: image.to_owned(), cache });
        }
        if inputs.index != IndexMode::Off {
            index::check_apart(&inputs.names().collect::<Vec<_>>(), &[&cache])?;
        }
    }
    if inputs.layout.is_some() {
        allow_layout(phase, inputs.experimental)?;
    }
    Ok(())
}

/// Checks that the names can be those of an index, as far as that can be said before `analyzed.toml` is read, which may name
/// the target: the creator has to refuse them before it builds.
fn check_index(phase: Phase, inputs: &Inputs) -> Result<(), InputError> {
    if inputs.index == IndexMode::Off {
        return Ok(());
    }
    let names: Vec<&str> = inputs.names().collect();
    match (phase, &inputs.target_arch) {
        (_, Some(target)) => names.iter().try_for_each(|name| index::check(name, target))?,
        (Phase::Create, None) => {
            let target = Platform::of_this_program();
            names.iter().try_for_each(|name| index::check(name, &target))?;
        }
        (_, None) => names.iter().try_for_each(|name| index::check_name(name).map(drop))?,
    }
    if inputs.layout.is_none() {
        index::check_apart(&names, &[])?;
    }
    Ok(())
}

/// Layouts are experimental where an image is written or is to be.
fn allow_layout(phase: Phase, experimental: Experimental) -> Result<(), ExperimentalError> {
    if matches!(phase, Phase::Analyze | Phase::Export | Phase::Create) {
        experimental.allow("export to OCI layout format")?;
    }
    Ok(())
}

fn warn(phase: Phase, inputs: &Inputs) {
    let no_cache = inputs.cache_image.is_none() && inputs.cache_dir.is_none();
    if no_cache && matches!(phase, Phase::Restore | Phase::Export | Phase::Create) {
        log::warn!("No cached data will be used, no cache specified.");
    }
    if inputs.launch_cache.is_some() && matches!(phase, Phase::Analyze | Phase::Export | Phase::Create) {
        log::warn!("Ignoring -launch-cache, only intended for use with -daemon");
    }
    if inputs.parallel && no_cache && matches!(phase, Phase::Analyze | Phase::Create) {
        log::warn!(
            "Parallel export has been enabled, but it has not taken effect because no cache has been specified."
        );
    }
}

/// `<layers>` in a path stands for the layers directory, once. Where that is empty, the path is beneath the working directory.
fn in_layers(path: OsString, layers: &OsStr) -> PathBuf {
    let placeholder = default::LAYERS_PLACEHOLDER.as_bytes();
    let bytes = path.as_bytes();
    let Some(at) = bytes.windows(placeholder.len()).position(|window| window == placeholder) else {
        return PathBuf::from(path);
    };
    let (before, after) = (&bytes[..at], &bytes[at + placeholder.len()..]);
    let after = if layers.is_empty() { after.strip_prefix(b"/").unwrap_or(after) } else { after };
    PathBuf::from(OsString::from_vec([before, layers.as_bytes(), after].concat()))
}

/// Whether the flag or the variable asks for an index.
fn index_mode(phase: Phase, flag: Option<OsString>, environment: &Environment) -> Result<IndexMode, InputError> {
    match phase {
        Phase::Export | Phase::Create | Phase::Rebase => {}
        Phase::Analyze | Phase::Detect | Phase::Restore | Phase::Extend | Phase::Build | Phase::Index => {
            return Ok(IndexMode::Off);
        }
    }
    let what = if flag.is_some() { "-index" } else { env::INDEX };
    let given = flag.or_else(|| environment.get(env::INDEX).map(OsStr::to_owned)).unwrap_or_default();
    match given.to_str().and_then(IndexMode::parse) {
        Some(IndexMode::Replace) if phase == Phase::Rebase => Err(InputError::RebaseReplace),
        Some(mode) => Ok(mode),
        None => Err(InputError::Index { what, text: given.to_string_lossy().into_owned() }),
    }
}

fn text(what: &'static str, value: OsString) -> Result<String, InputError> {
    value.into_string().map_err(|text| InputError::NotText { what, text })
}

/// A list without its empty items: platforms leave commas at its end, and `-flag=` gives nothing.
fn listed(items: impl Iterator<Item = Result<String, InputError>>) -> Result<Vec<String>, InputError> {
    let mut list = Vec::new();
    for item in items {
        let item = item?;
        let item = item.trim();
        if !item.is_empty() {
            list.push(item.to_owned());
        }
    }
    Ok(list)
}

/// The largest id means "unchanged" to the system calls, so it is no user's.
fn id(what: &'static str, id: i64) -> Result<u32, InputError> {
    u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or(InputError::Id { what, id })
}

fn source_date_epoch(api: PlatformApi, environment: &Environment) -> Result<Option<i64>, InputError> {
    let text = environment.text(env::SOURCE_DATE_EPOCH).filter(|_| api.has_source_date_epoch());
    let Some(text) = text else { return Ok(None) };
    match text.parse() {
        Ok(seconds) if TIMES.contains(&seconds) => Ok(Some(seconds)),
        Ok(seconds) => Err(InputError::Time(seconds)),
        Err(_) => {
            log::warn!("Ignoring invalid SOURCE_DATE_EPOCH '{text}'");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests;

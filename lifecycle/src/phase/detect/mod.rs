//! Detection: which buildpacks and extensions of an order apply to an app, and what they provide and require
//! (platform.md, *detector*; buildpack.md, *Phase #1: Detection*).
//!
//! [`run`] reads the order, then tries its groups one after another:
//!
//! * [`groups`] makes the groups of the order, composite buildpacks expanded;
//! * [`executable`] runs `bin/detect` of a group's members, several at a time and none twice;
//! * [`resolve`] decides the group: who passed, and whether the build plan comes out, for which [`search`] finds the first
//!   [`trial`] that succeeds;
//! * [`transcript`] keeps what there is to tell until it is known how much of it is wanted.
//!
//! The first group that passes is the answer: [`Detected`], which [`Detected::write`] writes.

mod executable;
mod groups;
mod resolve;
mod search;
mod transcript;
mod trial;

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use lifecycle_launch::env::Env;
use log::{LevelFilter, debug, error, warn};
use platform_spec::analyzed::Analyzed;
use platform_spec::api::{BuildpackApiError, PlatformApi};
use platform_spec::exit;
use platform_spec::group::Group;
use platform_spec::order::{Order, OrderElement, OrderGroup};
use platform_spec::plan::Plan;
use platform_spec::system::{System, SystemFile};
use platform_spec::target::Platform;
use platform_spec::text::to_toml;
use thiserror::Error;

use self::executable::{Outcome, Run, Setting};
use self::groups::{Groups, Member, Modules, Selection};
use self::resolve::GroupFailure;
use self::transcript::Transcript;
use super::PhaseError;
use crate::buildpack::environment::inherit;
use crate::buildpack::{FindError, Kind, OS_RELEASE, build_target};
use crate::experimental::{Experimental, ExperimentalError};
use crate::file::{self, LoadError, PathError, write_whole};
use crate::target::{BuildTarget, TargetError};

pub use self::groups::OrderError;

/// What detection is given (platform.md, *detector*, *Inputs*). Directories are absolute.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The Platform API.
    pub platform_api: PlatformApi,
    /// The app, in which `bin/detect` runs.
    pub app_dir: PathBuf,
    /// Buildpacks, by id and version.
    pub buildpacks_dir: PathBuf,
    /// Image extensions, by id and version.
    pub extensions_dir: PathBuf,
    /// The platform's directory; `env` in it holds what the user set.
    pub platform_dir: PathBuf,
    /// The operator's directory; `env` in it holds what the operator set.
    pub build_config_dir: PathBuf,
    /// `analyzed.toml`, which records the run image's target.
    pub analyzed_path: PathBuf,
    /// The architecture that the app image is to be for, if one was asked for.
    pub target_arch: Option<Platform>,
    /// `order.toml`.
    pub order_path: PathBuf,
    /// `system.toml`.
    pub system_path: PathBuf,
    /// The execution environment; empty if the platform does not say.
    pub exec_env: String,
    /// What the platform thinks of experimental features.
    pub experimental: Experimental,
    /// The lifecycle's own environment, of which `bin/detect` inherits a few variables.
    pub environment: Env,
}

/// What detection found.
#[derive(Clone, Debug, PartialEq)]
pub struct Detected {
    /// The buildpacks and extensions that take part.
    pub group: Group,
    /// What they provide and require.
    pub plan: Plan,
    /// `analyzed.toml` with another run image, if an extension switched it.
    pub analyzed: Option<Analyzed>,
}

/// Why nothing was detected.
#[derive(Debug, Error)]
pub enum DetectError {
    /// What detection starts with cannot be used.
    #[error("initialize detector")]
    Initialize(#[source] InitializeError),
    /// A buildpack or extension implements an API that this lifecycle does not speak.
    #[error(transparent)]
    Api(BuildpackApiError),
    /// The target cannot be that of this build.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The order has extensions, which the platform must allow.
    #[error(transparent)]
    Experimental(#[from] ExperimentalError),
    /// The order has no next group, because of an error in it.
    #[error(transparent)]
    Order(OrderError),
    /// Nobody could say whether a group's build plan comes out.
    #[error(
        "resolve the build plan: gave up after {} alternatives of buildpacks were tried, none of which fit together",
        search::LIMIT
    )]
    GaveUp,
    /// No group passed, and nothing went wrong.
    #[error("no buildpacks participating")]
    NoGroup,
    /// No group passed, and a `bin/detect` failed.
    #[error("buildpack(s) failed with err")]
    NoGroupAndErrors,
}

/// What of the things that detection starts with cannot be used.
#[derive(Debug, Error)]
pub enum InitializeError {
    /// `analyzed.toml` is there, but cannot be used.
    #[error("failed to read analyzed file")]
    Analyzed(#[source] LoadError),
    /// `order.toml` cannot be used.
    #[error("reading order: failed to read order file")]
    Order(#[source] LoadError),
    /// `system.toml` is there, but cannot be used.
    #[error("reading system: failed to read system file")]
    System(#[source] LoadError),
    /// A buildpack or extension that the order names cannot be used.
    #[error(transparent)]
    Find(FindError),
}

impl From<InitializeError> for DetectError {
    fn from(error: InitializeError) -> Self {
        match error {
            InitializeError::Find(FindError::Api(error)) => Self::Api(error),
            error => Self::Initialize(error),
        }
    }
}

impl From<OrderError> for DetectError {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::Find(FindError::Api(error)) => Self::Api(error),
            error => Self::Order(error),
        }
    }
}

impl PhaseError for DetectError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Initialize(_) | Self::Experimental(_) => exit::GENERIC,
            Self::Api(_) => exit::INCOMPATIBLE_BUILDPACK_API,
            Self::Target(_) => exit::INVALID_ARGUMENTS,
            Self::Order(_) | Self::GaveUp => exit::DETECT_ERROR,
            Self::NoGroup => exit::DETECT_FAILED,
            Self::NoGroupAndErrors => exit::DETECT_FAILED_WITH_ERRORS,
        }
    }

    fn says_what_failed(&self) -> bool {
        match self {
            Self::Initialize(_) | Self::Api(_) | Self::Target(_) => true,
            Self::Experimental(_) | Self::Order(_) | Self::GaveUp | Self::NoGroup | Self::NoGroupAndErrors => false,
        }
    }

    fn advice(&self) -> Option<String> {
        match self {
            Self::GaveUp => Some(
                "Fewer alternatives (`or`) in the build plans of the group's buildpacks would make an answer possible."
                    .to_owned(),
            ),
            Self::Initialize(_)
            | Self::Api(_)
            | Self::Target(_)
            | Self::Experimental(_)
            | Self::Order(_)
            | Self::NoGroup
            | Self::NoGroupAndErrors => None,
        }
    }
}

/// Detects. What there is to tell at the end is printed to `output` as it is: it has lines of our own and what `bin/detect`
/// printed.
pub fn run(inputs: &Inputs, output: &mut dyn Write) -> Result<Detected, DetectError> {
    let _timer = super::Timer::start("Detector");
    let analyzed = analyzed(&inputs.analyzed_path).map_err(InitializeError::Analyzed)?;
    let build_for = BuildTarget::resolve(inputs.target_arch.clone(), &analyzed)?;
    let Order { order, order_extensions } = file::load(&inputs.order_path).map_err(InitializeError::Order)?;
    let order = if inputs.platform_api.has_system_buildpacks() { with_system(order, system(inputs)?) } else { order };
    let mut modules = Modules::new(&inputs.buildpacks_dir, &inputs.extensions_dir);
    for (kind, groups) in [(Kind::Buildpack, &order), (Kind::Extension, &order_extensions)] {
        for element in groups.iter().flat_map(|group| &group.group) {
            modules.find(kind, element).map_err(InitializeError::Find)?;
        }
    }
    if !order_extensions.is_empty() && !inputs.platform_api.has_stable_extensions() {
        inputs.experimental.allow("Dockerfiles")?;
    }
    let target = build_target(build_for.recorded_or_asked(&analyzed).as_ref(), Path::new(OS_RELEASE));
    let environment = inherit(&inputs.environment);
    let setting = Setting {
        app_dir: &inputs.app_dir,
        platform_dir: &inputs.platform_dir,
        build_config_dir: &inputs.build_config_dir,
        environment: &environment,
        target: &target,
        exec_env: &inputs.exec_env,
    };
    let selection = Selection {
        target: (inputs.platform_api.has_targets() || build_for.asked().is_some()).then_some(&target),
        asked: build_for.asked().is_some().then_some(&build_for),
        exec_env: inputs.platform_api.has_exec_env().then_some(inputs.exec_env.as_str()),
    };
    let mut transcript = Transcript::default();
    let groups = Groups::new(modules, selection, order, order_extensions);
    let mut detected = first_passing(groups, &setting, &mut transcript);
    if let (Ok(detected), Some(_)) = (&mut detected, build_for.asked()) {
        detected.group.build_arch = build_for.build().arch().to_owned();
    }
    transcript.print(if detected.is_ok() { log::max_level() } else { LevelFilter::Trace }, output);
    match &detected {
        Err(DetectError::NoGroup) => {
            error!("No buildpack groups passed detection.");
            error!("Please check that you are running against the correct path.");
        }
        Err(DetectError::NoGroupAndErrors) => error!("No buildpack groups passed detection."),
        Ok(_) | Err(_) => {}
    }
    detected
}

/// Reads `analyzed.toml`. Without one nothing is known of the run image.
fn analyzed(path: &Path) -> Result<Analyzed, LoadError> {
    let analyzed = file::load_if_there(path)?;
    if analyzed.is_none() {
        warn!("No analyzed metadata found at path {path:?}");
    }
    Ok(analyzed.unwrap_or_default())
}

fn system(inputs: &Inputs) -> Result<System, InitializeError> {
    let path = &inputs.system_path;
    let found: Option<SystemFile> = file::load_if_there(path).map_err(InitializeError::System)?;
    if found.is_none() {
        debug!("No system buildpacks found at path {path:?}");
    }
    Ok(found.unwrap_or_default().system)
}

/// Every group with the system buildpacks around it, but those whose id it already has.
fn with_system(order: Vec<OrderGroup>, system: System) -> Vec<OrderGroup> {
    let around = |group: OrderGroup| {
        let missing = |elements: &[OrderElement]| -> Vec<_> {
            let known = |element: &&OrderElement| group.group.iter().any(|known| known.id == element.id);
            elements.iter().filter(|element| !known(element)).cloned().collect()
        };
        let (pre, post) = (missing(&system.pre.buildpacks), missing(&system.post.buildpacks));
        if !pre.is_empty() {
            debug!("Prepending {} system buildpack(s) to group", pre.len());
        }
        if !post.is_empty() {
            debug!("Appending {} system buildpack(s) to group", post.len());
        }
        OrderGroup { group: [pre, group.group, post].concat() }
    };
    order.into_iter().map(around).collect()
}

/// Tries the groups until one passes.
fn first_passing(groups: Groups, setting: &Setting, transcript: &mut Transcript) -> Result<Detected, DetectError> {
    let mut runs = Runs::default();
    let mut errored = false;
    for group in groups {
        let group = group?;
        let results = runs.of(&group, setting);
        errored |= results.iter().any(|run| matches!(run.outcome, Outcome::Error(_)));
        match resolve::resolve(&group, &results, transcript) {
            Ok((group, plan)) => return Ok(Detected { group, plan, analyzed: None }),
            Err(GroupFailure::Failed) => {}
            Err(GroupFailure::GaveUp) => return Err(DetectError::GaveUp),
        }
    }
    Err(if errored { DetectError::NoGroupAndErrors } else { DetectError::NoGroup })
}

/// The runs of `bin/detect`, each made once. A module is the same if it is in the same directory.
#[derive(Default)]
struct Runs(HashMap<PathBuf, Arc<Run>>);

impl Runs {
    /// The results of a group's members, in order; those that are missing are made, several at a time.
    fn of(&mut self, group: &[Member], setting: &Setting) -> Vec<Arc<Run>> {
        let missing: Vec<_> = group
            .iter()
            .filter(|member| member.mismatch.is_none() && !self.0.contains_key(&member.module.root))
            .map(|member| &*member.module)
            .collect();
        let made = in_parallel(&missing, |module| executable::detect(module, setting));
        self.0.extend(missing.iter().zip(made).map(|(module, run)| (module.root.clone(), Arc::new(run))));
        group.iter().map(|member| self.result(member)).collect()
    }

    fn result(&self, member: &Member) -> Arc<Run> {
        let mismatch = member.mismatch.as_ref().map(ToString::to_string);
        match (mismatch, self.0.get(&member.module.root)) {
            (None, Some(run)) => run.clone(),
            // Without it the group may pass: it does not apply, as one whose `bin/detect` says so.
            (Some(mismatch), _) if member.optional => {
                Arc::new(Run { outcome: Outcome::Fail, output: Vec::new(), error: Some(mismatch) })
            }
            (Some(mismatch), _) => Arc::new(Run::failed(mismatch, Vec::new())),
            (None, None) => Arc::new(Run::failed("bin/detect was not run".to_owned(), Vec::new())),
        }
    }
}

/// Does the work for each item, in as many threads as may be useful: what runs are other programs, which also wait.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = (cores * 2).max(8).min(items.len());
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let worker = || {
        while let Some((at, item)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, items.get(at)?)))
        {
            let result = work(item);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // A thread that cannot be had is done without: this one works too.
            let _ = thread::Builder::new().spawn_scoped(scope, worker);
        }
        worker();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

impl Detected {
    /// Writes group.toml and plan.toml, and analyzed.toml if it changed.
    pub fn write(&self, group: &Path, plan: &Path, analyzed: &Path) -> Result<(), PathError> {
        write_whole(group, to_toml(&self.group).as_bytes())?;
        write_whole(plan, to_toml(&self.plan).as_bytes())?;
        match &self.analyzed {
            Some(changed) => write_whole(analyzed, to_toml(changed).as_bytes()),
            None => Ok(()),
        }
    }
}

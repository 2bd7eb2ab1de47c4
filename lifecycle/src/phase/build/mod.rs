//! Build: runs `bin/build` of each buildpack of the group, and gathers what they leave (buildpack.md, *Build*;
//! platform.md, *builder*).
//!
//! [`run`] is the phase: strictly one buildpack after another, each with its part of the plan (the entries that nobody
//! met yet) and with the environment that the build layers of those before it make. What it leaves is read at once
//! (`left`), since it decides what the next one gets. The result is the content of `metadata.toml`;
//! [`write_metadata`] puts it where exporter and launcher look for it.
//!
//! Buildpacks are other people's programs: they get no variable of ours but those listed in
//! [`crate::buildpack::environment`], one pipe for their output, and when the last one ended nothing of theirs goes on
//! running ([`family`]).

pub mod family;
mod left;
mod processes;
mod sbom;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use lifecycle_launch::env::{Env, EnvError, Stage};
use platform_spec::api::{BuildpackApi, BuildpackApiError, PlatformApi};
use platform_spec::buildpack_plan::BuildpackPlan;
use platform_spec::exit;
use platform_spec::group::{Group, GroupElement};
use platform_spec::label::NotJson;
use platform_spec::metadata::Metadata;
use platform_spec::plan::Plan;
use platform_spec::target::Target;
use thiserror::Error;

pub use self::left::LeftError;
pub use self::processes::ProcessError;

use self::family::{Family, Output};
use self::left::Left;
use self::processes::Processes;
use super::PhaseError;
use crate::beneath::{BeneathError, Directory};
use crate::buildpack::environment::{build_environment, inherit, target_variables};
use crate::buildpack::{self, FindError, Kind, Module, PlanFile};
use crate::file::{PathContext, PathError};
use crate::layers_dir::LayersDirError;

/// What the phase may know. Paths are absolute.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The Platform API.
    pub platform_api: PlatformApi,
    /// The app's source, which buildpacks turn into the app.
    pub app_dir: PathBuf,
    /// The operator's configuration: `env` in it is in the environment of every buildpack.
    pub build_config_dir: PathBuf,
    /// Where the buildpacks are.
    pub buildpacks_dir: PathBuf,
    /// The layers directory.
    pub layers_dir: PathBuf,
    /// The user's configuration: `env` in it, and whatever else the platform puts there.
    pub platform_dir: PathBuf,
    /// The execution environment of the app; empty if the platform did not state any.
    pub exec_env: String,
    /// The lifecycle's own variables, of which buildpacks get some.
    pub environment: Env,
    /// The buildpacks, in order.
    pub group: Group,
    /// The build plan.
    pub plan: Plan,
    /// The run image's target, with the distribution filled in where that is unknown.
    pub target: Target,
}

/// Why the build failed.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The group names a Buildpack API that this lifecycle does not speak.
    #[error(transparent)]
    Api(#[from] BuildpackApiError),
    /// A buildpack of the group cannot be used.
    #[error(transparent)]
    Find(#[from] FindError),
    /// A buildpack's `bin/build` failed.
    #[error("{path} of buildpack '{buildpack}': {}", describe(*.status), path = .path.display())]
    Buildpack {
        /// `<id>@<version>`.
        buildpack: String,
        /// The executable.
        path: PathBuf,
        /// How it ended.
        status: ExitStatus,
    },
    /// A buildpack's `bin/build` could not be started.
    #[error(transparent)]
    Start(PathError),
    /// What a buildpack left cannot be used.
    #[error(transparent)]
    Left(#[from] LeftError),
    /// Variables for a buildpack cannot be read.
    #[error(transparent)]
    Environment(#[from] EnvError),
    /// A legacy bill of materials holds what JSON cannot say.
    #[error("write {}: {source}", .path.display())]
    LegacyBom {
        /// `sbom.legacy.json`.
        path: PathBuf,
        /// Why.
        source: NotJson,
    },
    /// Something in the layers directory is in the way.
    #[error(transparent)]
    Beneath(#[from] BeneathError),
    /// A file or directory of our own.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl PhaseError for BuildError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Api(_) | Self::Find(FindError::Api(_)) => exit::INCOMPATIBLE_BUILDPACK_API,
            Self::Buildpack { .. } | Self::Start(_) => exit::BUILDPACK_BUILD_FAILED,
            Self::Find(FindError::Load(_) | FindError::Look(_))
            | Self::Left(_)
            | Self::Environment(_)
            | Self::LegacyBom { .. }
            | Self::Beneath(_)
            | Self::Path(_) => exit::BUILD_ERROR,
        }
    }
}

impl From<LayersDirError> for BuildError {
    fn from(error: LayersDirError) -> Self {
        Self::Left(error.into())
    }
}

/// How a process ended, in the words that users of the reference know.
fn describe(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit status {code}"),
        None => status.to_string(),
    }
}

/// Runs the phase. What buildpacks print goes to `output` as it comes.
pub fn run(inputs: &Inputs, output: Output) -> Result<Metadata, BuildError> {
    let _timer = super::Timer::start("Builder");
    for element in &inputs.group.group {
        BuildpackApi::parse(&element.api, &format!("buildpack '{}'", element.full_name()))?;
    }
    let modules = inputs.group.group.iter().map(|element| find(inputs, element)).collect::<Result<Vec<_>, _>>()?;
    std::fs::metadata(&inputs.app_dir).path("open", &inputs.app_dir)?;
    std::fs::create_dir_all(&inputs.layers_dir).path("create directory", &inputs.layers_dir)?;
    let layers = Directory::open(&inputs.layers_dir)?;
    layers.remove("sbom")?;
    let mut family = Family::begin(output);
    let built = build_all(inputs, &modules, &layers, &mut family);
    family.end();
    let left = built?;
    // Again: only what we put there goes into the image.
    layers.remove("sbom")?;
    gather(inputs, &modules, &layers, left)
}

fn find(inputs: &Inputs, element: &GroupElement) -> Result<Module, FindError> {
    log::debug!("Looking up buildpack {}", element.full_name());
    buildpack::find(Kind::Buildpack, &inputs.buildpacks_dir, &element.id, &element.version)
}

fn build_all(
    inputs: &Inputs,
    modules: &[Module],
    layers: &Directory,
    family: &mut Family,
) -> Result<Vec<Left>, BuildError> {
    let mut environment = inherit(&inputs.environment);
    let mut plan = inputs.plan.clone();
    let mut all = Vec::new();
    for module in modules {
        log::debug!("Running build for buildpack {module}");
        log::debug!("Finding plan");
        let own_plan = plan.of(&module.id, false);
        let directory = layers.make_directory(module.id.escaped())?.path().to_owned();
        run_one(inputs, module, &own_plan, &directory, &environment, family)?;
        log::debug!("Processing layers");
        // Opened only now: the buildpack may have removed it, or made it anew.
        let left = match layers.directory(module.id.escaped())? {
            Some(directory) => left::read(&directory, module, &own_plan)?,
            None => Left::default(),
        };
        log::debug!("Updating environment");
        for layer in &left.build_layers {
            add_layer(&mut environment, layer)?;
        }
        plan = plan.without(left.met.iter().map(String::as_str));
        log::debug!("Finished running build for buildpack {module}");
        all.push(left);
    }
    Ok(all)
}

/// What a build layer does to the environment of later buildpacks.
fn add_layer(environment: &mut Env, layer: &Path) -> Result<(), EnvError> {
    environment.add_root_dirs(layer, Stage::Build)?;
    environment.add_layer_env(&layer.join("env"))?;
    environment.add_layer_env(&layer.join("env.build"))
}

fn run_one(
    inputs: &Inputs,
    module: &Module,
    plan: &BuildpackPlan,
    own_layers_dir: &Path,
    environment: &Env,
    family: &mut Family,
) -> Result<(), BuildError> {
    log::debug!("Creating plan directory");
    let plan = PlanFile::create(&platform_spec::text::to_toml(plan))?;
    log::debug!("Preparing paths");
    let Inputs { platform_dir, build_config_dir, .. } = inputs;
    let environment = build_environment(environment, platform_dir, build_config_dir, module.clear_env)?;
    let mut command = module.command("build", &inputs.app_dir, &environment);
    command.args([own_layers_dir, platform_dir, plan.path()]);
    if module.api.has_path_variables() {
        command.env("CNB_PLATFORM_DIR", platform_dir);
        command.env("CNB_BP_PLAN_PATH", plan.path());
        command.env("CNB_LAYERS_DIR", own_layers_dir);
    }
    command.envs(target_variables(module.api, &inputs.target));
    if module.api.has_exec_env() && !inputs.exec_env.is_empty() {
        command.env("CNB_EXEC_ENV", &inputs.exec_env);
    }
    log::debug!("Running build command");
    let path = module.executable("build");
    let status = family.run(command).path("run", &path).map_err(BuildError::Start)?;
    if status.success() {
        return Ok(());
    }
    Err(BuildError::Buildpack { buildpack: module.to_string(), path, status })
}

/// Puts together what all buildpacks left.
fn gather(inputs: &Inputs, modules: &[Module], layers: &Directory, all: Vec<Left>) -> Result<Metadata, BuildError> {
    let api = inputs.platform_api;
    if api.has_sbom() {
        log::debug!("Copying SBOM files");
        for (module, left) in modules.iter().zip(&all) {
            sbom::copy(layers, &module.id, &left.sboms)?;
        }
    }
    let mut metadata = Metadata {
        buildpacks: inputs.group.group.clone(),
        extensions: inputs.group.group_extensions.clone(),
        ..Metadata::default()
    };
    for extension in &mut metadata.extensions {
        extension.optional = false;
    }
    let mut processes = Processes::new(api.has_exec_env());
    let mut build_bom = Vec::new();
    for left in all {
        metadata.labels.extend(left.labels);
        metadata.slices.extend(left.slices);
        metadata.bom.extend(left.launch_bom);
        build_bom.extend(left.build_bom);
        log::debug!("Updating process list");
        processes.add(left.processes);
    }
    if api.drops_legacy_bom() {
        log::debug!("Creating SBOM files for legacy BOM");
        sbom::write_legacy(layers, &metadata.bom, &build_bom)?;
        metadata.bom.clear();
    }
    log::debug!("Listing processes");
    let (processes, default) = processes.finish();
    metadata.processes = processes;
    metadata.buildpack_default_process_type = default.map(String::from).unwrap_or_default();
    Ok(metadata)
}

/// Writes `<layers>/config/metadata.toml`. It goes into a layer of the app image, with its directory.
pub fn write_metadata(layers_dir: &Path, api: PlatformApi, metadata: &Metadata) -> Result<(), BuildError> {
    let config = Directory::open(layers_dir)?.make_directory("config")?;
    Ok(config.write("metadata.toml", metadata.to_toml(api).as_bytes())?)
}

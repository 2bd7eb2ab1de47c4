//! Generation: what the extensions of a group want of the build image and the run image (image_extension.md, *Phase:
//! Generation*; platform.md, *detector*).
//!
//! [`run`] takes what was [`Detected`], runs `bin/generate` of each extension, checks its Dockerfiles ([`dockerfile`]) and
//! gives back what was detected without the dependencies that extensions provide, and with another run image if an
//! extension names one. The Dockerfiles end up beneath `<generated>`, where platforms and the extender look for them.
//!
//! Applying Dockerfiles is the extender's work, which is still to come: where there are any to apply, generation
//! ends with [`GenerateError::NoExtender`], and nothing is left beneath `<generated>`.

mod dockerfile;
mod output;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use lifecycle_launch::env::{Env, EnvError};
use log::{debug, info, warn};
use platform_spec::analyzed::{Analyzed, AnalyzedRunImage};
use platform_spec::api::{BuildpackApiError, PlatformApi};
use platform_spec::buildpack_plan::BuildpackPlan;
use platform_spec::exit;
use platform_spec::run::Run;
use platform_spec::target::Target;
use platform_spec::text::to_toml;
use thiserror::Error;

pub use self::dockerfile::DockerfileError;
pub use self::output::OutputError;
use self::output::{Generated, OutputDirs};
use super::PhaseError;
use super::detect::Detected;
use crate::buildpack::environment::inherit;
use crate::buildpack::{
    self, FindError, Kind, Module, OS_RELEASE, PlanFile, build_environment, build_target, process, target_variables,
};
use crate::file::{self, LoadError, PathError};
use crate::image::same_image;

/// What generation is given (platform.md, *detector*, *Inputs*). Directories are absolute.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The Platform API.
    pub platform_api: PlatformApi,
    /// The app, in which `bin/generate` runs.
    pub app_dir: PathBuf,
    /// Image extensions, by id and version.
    pub extensions_dir: PathBuf,
    /// The platform's directory; `env` in it holds what the user set.
    pub platform_dir: PathBuf,
    /// The operator's directory; `env` in it holds what the operator set.
    pub build_config_dir: PathBuf,
    /// Where the Dockerfiles go.
    pub generated_dir: PathBuf,
    /// `analyzed.toml`, which records the run image.
    pub analyzed_path: PathBuf,
    /// `run.toml`, which lists run images.
    pub run_path: PathBuf,
    /// The execution environment; empty if the platform does not say.
    pub exec_env: String,
    /// The lifecycle's own environment, of which `bin/generate` inherits a few variables.
    pub environment: Env,
}

/// Why nothing was generated.
#[derive(Debug, Error)]
pub enum GenerateError {
    /// What generation starts with cannot be used.
    #[error("initialize generator")]
    Initialize(#[source] LoadError),
    /// An extension implements an API that this lifecycle does not speak.
    #[error(transparent)]
    Api(BuildpackApiError),
    /// An extension of the group is not there any more.
    #[error(transparent)]
    Find(FindError),
    /// The environment of an extension cannot be made.
    #[error("prepare the environment of extension '{0}'")]
    Environment(String, #[source] EnvError),
    /// A file or directory cannot be made or read.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A `bin/generate` cannot be started.
    #[error("extension '{0}'")]
    Start(String, #[source] PathError),
    /// A `bin/generate` failed.
    #[error("extension '{0}': bin/generate: {1}")]
    Failed(String, ExitStatus),
    /// What an extension wrote cannot be used.
    #[error("extension '{0}'")]
    Output(String, #[source] OutputError),
    /// What an extension wrote is for the extender.
    #[error("extension '{extension}' wrote a {file}{what}: applying it needs the extender, which is not here yet")]
    NoExtender {
        /// Which extension.
        extension: String,
        /// Which file.
        file: &'static str,
        /// What in it needs the extender.
        what: &'static str,
    },
}

impl From<FindError> for GenerateError {
    fn from(error: FindError) -> Self {
        match error {
            FindError::Api(error) => Self::Api(error),
            error => Self::Find(error),
        }
    }
}

impl PhaseError for GenerateError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Initialize(_) => exit::GENERIC,
            Self::Api(_) => exit::INCOMPATIBLE_BUILDPACK_API,
            Self::Start(..) | Self::Failed(..) => exit::EXTENSION_GENERATE_FAILED,
            Self::Find(_) | Self::Environment(..) | Self::Path(_) | Self::Output(..) | Self::NoExtender { .. } => {
                exit::GENERATE_ERROR
            }
        }
    }

    fn says_what_failed(&self) -> bool {
        match self {
            Self::Initialize(_) | Self::Api(_) => true,
            Self::Find(_)
            | Self::Environment(..)
            | Self::Path(_)
            | Self::Start(..)
            | Self::Failed(..)
            | Self::Output(..)
            | Self::NoExtender { .. } => false,
        }
    }
}

/// Generates, if the group has extensions; otherwise what was detected stays as it is. `bin/generate` prints to `output`.
pub fn run(inputs: &Inputs, detected: Detected, output: &mut dyn Write) -> Result<Detected, GenerateError> {
    if detected.group.group_extensions.is_empty() {
        return Ok(detected);
    }
    let _timer = super::Timer::start("Generator");
    let known: Option<Run> = file::load_if_there(&inputs.run_path).map_err(GenerateError::Initialize)?;
    if known.is_none() {
        info!("No run metadata found at path {:?}", inputs.run_path);
    }
    let analyzed: Option<Analyzed> = file::load_if_there(&inputs.analyzed_path).map_err(GenerateError::Initialize)?;
    let analyzed = analyzed.unwrap_or_default();
    let recorded = analyzed.run_image.as_ref().and_then(|run_image| run_image.target.as_ref());
    let setting = Setting {
        inputs,
        environment: inherit(&inputs.environment),
        target: build_target(recorded, Path::new(OS_RELEASE)),
    };

    let Detected { group, mut plan, .. } = detected;
    let mut dirs = OutputDirs::new(&inputs.generated_dir, inputs.platform_api.has_stable_extensions())?;
    let mut generated = Vec::new();
    for element in &group.group_extensions {
        let extension = buildpack::find(Kind::Extension, &inputs.extensions_dir, &element.id, &element.version)?;
        debug!("Running generate for extension {extension}");
        let provided = plan.of(&element.id, true);
        let directory = dirs.add(&extension)?;
        if directory.prepared {
            debug!("Took the output that extension {extension} brings along");
        } else {
            setting.generate(&extension, &provided, &directory.path, output)?;
        }
        generated.push(
            output::read(&extension, &directory.path)
                .map_err(|error| GenerateError::Output(extension.to_string(), error))?,
        );
        plan = plan.without(provided.entries.iter().map(|entry| entry.name.as_str()));
        debug!("Finished running generate for extension {extension}");
    }
    let switched = choose_run_image(&mut generated);
    refuse_extending(&generated)?;
    let analyzed =
        switched.and_then(|image| with_run_image(analyzed, image, inputs.platform_api, known.unwrap_or_default()));
    dirs.publish(&generated)?;
    Ok(Detected { group, plan, analyzed })
}

/// What every `bin/generate` of a run is given.
struct Setting<'a> {
    inputs: &'a Inputs,
    environment: Env,
    target: Target,
}

impl Setting<'_> {
    fn generate(
        &self,
        extension: &Module,
        provided: &BuildpackPlan,
        directory: &Path,
        output: &mut dyn Write,
    ) -> Result<(), GenerateError> {
        let Inputs { app_dir, platform_dir, build_config_dir, exec_env, .. } = self.inputs;
        let plan = PlanFile::create(&to_toml(provided))?;
        let environment = build_environment(&self.environment, platform_dir, build_config_dir, extension.clear_env)
            .map_err(|error| GenerateError::Environment(extension.to_string(), error))?;
        let mut command = extension.command("generate", app_dir, &environment);
        command.arg(directory).arg(platform_dir).arg(plan.path());
        command
            .env("CNB_OUTPUT_DIR", directory)
            .env("CNB_PLATFORM_DIR", platform_dir)
            .env("CNB_BP_PLAN_PATH", plan.path());
        command.envs(target_variables(extension.api, &self.target));
        if extension.api.has_exec_env() && !exec_env.is_empty() {
            command.env("CNB_EXEC_ENV", exec_env);
        }
        let status = process::run(command, |printed| {
            // Where nobody reads what it prints, it still does its work.
            let _ = output.write_all(printed);
        });
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(GenerateError::Failed(extension.to_string(), status)),
            Err(error) => {
                Err(GenerateError::Start(extension.to_string(), extension.start_error("generate", app_dir, error)))
            }
        }
    }
}

/// The run image that the last `run.Dockerfile` to name one names. Those before it have no effect: they are marked so.
fn choose_run_image(generated: &mut [Generated]) -> Option<String> {
    let mut chosen = None;
    for run in generated.iter_mut().rev().filter_map(|generated| generated.run.as_mut()) {
        if chosen.is_some() {
            run.ignored = true;
        } else {
            chosen = run.does.base.clone();
        }
    }
    chosen
}

/// Ends generation where there is something to extend.
fn refuse_extending(generated: &[Generated]) -> Result<(), GenerateError> {
    let refuse = |generated: &Generated, file, what| {
        Err(GenerateError::NoExtender { extension: generated.extension.clone(), file, what })
    };
    for one in generated {
        if one.build.is_some() {
            return refuse(one, "build.Dockerfile", "");
        }
        if one.run.as_ref().is_some_and(|run| run.does.extends && !run.ignored) {
            return refuse(one, "run.Dockerfile", " with instructions beside FROM");
        }
    }
    Ok(())
}

/// `analyzed.toml` with another run image; `None` if it is the one that is recorded already.
fn with_run_image(analyzed: Analyzed, image: String, api: PlatformApi, known: Run) -> Option<Analyzed> {
    // The name is compared as the extension wrote it, digest and all: that is the image which is to be used.
    if api.has_run_toml() && analyzed.run_image.as_ref().is_some_and(|recorded| recorded.image == image) {
        return None;
    }
    let listed = known.images.iter().flat_map(|listed| std::iter::once(&listed.image).chain(&listed.mirrors));
    if !listed.into_iter().any(|listed| same_image(listed, &image)) {
        warn!("new runtime base image '{image}' not found in run metadata");
    }
    debug!("Updating analyzed metadata with new run image '{image}'");
    // Its digest and its target are not known here; the restorer finds them.
    let run_image = AnalyzedRunImage { reference: image.clone(), image, ..AnalyzedRunImage::default() };
    Some(Analyzed { run_image: Some(run_image), ..analyzed })
}

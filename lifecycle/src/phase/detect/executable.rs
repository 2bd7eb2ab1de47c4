//! One run of `bin/detect` (buildpack.md, *Detection*; image_extension.md, *Detection*).

use std::io;
use std::path::Path;
use std::process::Command;

use lifecycle_launch::console::chain;
use lifecycle_launch::env::{Env, EnvError};
use platform_spec::plan::DetectPlan;
use platform_spec::target::Target;
use thiserror::Error;

use crate::buildpack::{Kind, Module, PlanFile, PlanFileError, build_environment, process, target_variables};
use crate::file::{self, LoadError, PathError};

/// What is kept of one executable's output, in bytes.
const LARGEST_OUTPUT: usize = 4 << 20;

/// The exit status of a module that does not apply to the app.
const FAIL: i32 = 100;

/// What every `bin/detect` of a run is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting<'a> {
    pub(super) app_dir: &'a Path,
    pub(super) platform_dir: &'a Path,
    pub(super) build_config_dir: &'a Path,
    /// What executables inherit.
    pub(super) environment: &'a Env,
    pub(super) target: &'a Target,
    pub(super) exec_env: &'a str,
}

/// How one `bin/detect` ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// It applies, and says what it provides and requires.
    Pass(DetectPlan),
    /// It does not apply.
    Fail,
    /// It failed: the exit status, if it ended by itself with one of its own.
    Error(Option<i32>),
}

/// One run.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) outcome: Outcome,
    /// What it printed, the last part left out if it was too much.
    pub(super) output: Vec<u8>,
    /// Why it counts as failed, where the exit status does not say so.
    pub(super) error: Option<String>,
}

impl Run {
    /// An error that is not an exit status.
    pub(super) fn failed(error: String, output: Vec<u8>) -> Self {
        Self { outcome: Outcome::Error(None), output, error: Some(error) }
    }
}

/// Why a run counts as failed.
#[derive(Debug, Error)]
enum DetectRunError {
    #[error("prepare its environment")]
    Environment(#[from] EnvError),
    #[error("prepare its plan")]
    PlanFile(#[source] PathError),
    #[error(transparent)]
    Start(#[from] PathError),
    #[error("{0} was ended by a signal: {1}")]
    Signal(String, std::process::ExitStatus),
    #[error(transparent)]
    Plan(#[from] PlanFileError),
    #[error(transparent)]
    StaticPlan(#[from] LoadError),
    #[error(
        "{kind} {id} has a \"version\" key which is not supported. \"metadata.version\" should be used instead",
        kind = .0.kind,
        id = .0.id
    )]
    Version(Box<Module>),
    #[error("{kind} {id} outputs \"requires\" which is not allowed", kind = .0.kind, id = .0.id)]
    Requires(Box<Module>),
}

/// Runs a module's `bin/detect`. Whatever goes wrong is this module's result: whether it matters is the group's question.
pub(super) fn detect(module: &Module, setting: &Setting) -> Run {
    let mut output = Vec::new();
    let outcome = run(module, setting, &mut output).and_then(|outcome| checked(module, outcome));
    match outcome {
        Ok(outcome) => Run { outcome, output, error: None },
        Err(error) => Run::failed(chain(&error), output),
    }
}

fn run(module: &Module, setting: &Setting, output: &mut Vec<u8>) -> Result<Outcome, DetectRunError> {
    let executable = module.executable("detect");
    if module.kind == Kind::Extension && is_missing(&executable) {
        // An extension without it passes, and its root directory holds the output.
        let plan = file::load_if_there(&module.root.join("detect/plan.toml"))?;
        return Ok(Outcome::Pass(plan.unwrap_or_default()));
    }
    let plan = PlanFile::create("").map_err(DetectRunError::PlanFile)?;
    let command = command(module, setting, &plan)?;
    let mut left = LARGEST_OUTPUT;
    let mut cut = false;
    let status = process::run(command, |printed| {
        let kept = printed.get(..left.min(printed.len())).unwrap_or_default();
        output.extend_from_slice(kept);
        left -= kept.len();
        cut |= kept.len() < printed.len();
    });
    if cut {
        output.extend_from_slice(
            format!("\n[what follows is left out: more than {} MiB]\n", LARGEST_OUTPUT >> 20).as_bytes(),
        );
    }
    let status = status.map_err(|error| module.start_error("detect", setting.app_dir, error))?;
    match status.code() {
        Some(0) => Ok(Outcome::Pass(plan.read()?)),
        Some(FAIL) => Ok(Outcome::Fail),
        Some(code) => Ok(Outcome::Error(Some(code))),
        None => Err(DetectRunError::Signal(executable.display().to_string(), status)),
    }
}

fn command(module: &Module, setting: &Setting, plan: &PlanFile) -> Result<Command, EnvError> {
    let Setting { app_dir, platform_dir, build_config_dir, environment, target, exec_env } = *setting;
    let environment = build_environment(environment, platform_dir, build_config_dir, module.clear_env)?;
    let mut command = module.command("detect", app_dir, &environment);
    command.arg(platform_dir).arg(plan.path());
    if module.api.has_path_variables() {
        command.env("CNB_PLATFORM_DIR", platform_dir).env("CNB_BUILD_PLAN_PATH", plan.path());
    }
    command.envs(target_variables(module.api, target));
    if module.api.has_exec_env() && !exec_env.is_empty() {
        command.env("CNB_EXEC_ENV", exec_env);
    }
    Ok(command)
}

/// What a plan may not say.
fn checked(module: &Module, outcome: Outcome) -> Result<Outcome, DetectRunError> {
    if let Outcome::Pass(plan) = &outcome {
        let mut requires = plan.requires.iter().chain(plan.or.iter().flat_map(|alternative| &alternative.requires));
        if module.kind == Kind::Extension && requires.clone().next().is_some() {
            return Err(DetectRunError::Requires(Box::new(module.clone())));
        }
        if requires.any(|require| !require.version.is_empty()) {
            return Err(DetectRunError::Version(Box::new(module.clone())));
        }
    }
    Ok(outcome)
}

fn is_missing(path: &Path) -> bool {
    std::fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

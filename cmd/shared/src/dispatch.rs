//! `lifecycle <phase> …`: the process becomes the phase's executable, which is beside this one.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use lifecycle::phase::PhaseError as _;
use lifecycle_launch::console::{self, Level};
use platform_spec::exit;
use platform_spec::input::{Phase, env};
use thiserror::Error;

use crate::environment::Environment;
use crate::failure::Failure;
use crate::{VERSION, platform_api};

/// Why no phase is started.
#[derive(Debug, Error)]
pub(crate) enum DispatchError {
    #[error("parse arguments: no phase given\n{VALID}")]
    NoPhase,
    #[error("recognize phase: {0}\n{VALID}")]
    UnknownPhase(String),
    #[error("{0}: this lifecycle has no {1} yet")]
    NotHere(&'static str, &'static str),
    #[error("find this executable")]
    Here(#[source] io::Error),
    #[error("execute {}", .0.display())]
    Execute(PathBuf, #[source] io::Error),
}

const VALID: &str = "Valid phases: detect, analyze, restore, build, export, create, rebase";

impl lifecycle::phase::PhaseError for DispatchError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::NoPhase | Self::UnknownPhase(_) | Self::NotHere(..) => exit::INVALID_ARGUMENTS,
            Self::Here(_) | Self::Execute(..) => exit::GENERIC,
        }
    }
}

/// Runs `lifecycle`: answers `-version`, or becomes the executable of the phase that is the first argument.
pub fn dispatch() -> ExitCode {
    // There is no phase yet whose exit status a failure could have.
    let phase = Phase::Create;
    console::exit_on_panic("dispatch", exit::GENERIC);
    let environment = Environment::of_process();
    console::init(Level::default(), !environment.boolean(env::NO_COLOR));
    let mut words = std::env::args_os().skip(1);
    let first = words.next();
    if first.as_deref() == Some(OsStr::new("-version")) {
        log::info!("{VERSION}");
        return ExitCode::SUCCESS;
    }
    let executable = match executable(first.as_deref(), &environment) {
        Ok(executable) => executable,
        Err(failure) => return failure.print(phase),
    };
    // Nothing returns from here but a failure.
    let error = Command::new(&executable).args(words).exec();
    told(DispatchError::Execute(executable, error)).print(phase)
}

fn told(error: DispatchError) -> Failure {
    let code = error.exit_code();
    Failure::told(error, code)
}

fn executable(first: Option<&OsStr>, environment: &Environment) -> Result<PathBuf, Failure> {
    let Some(first) = first else { return Err(told(DispatchError::NoPhase)) };
    platform_api(environment)?;
    let phase = phase(first).map_err(told)?;
    // Where the executable is, not where a link to it is.
    let here = std::env::current_exe().map_err(|error| told(DispatchError::Here(error)))?;
    Ok(here.with_file_name(phase.executable()))
}

/// The phase that an argument names; its directory, if it has one, says nothing.
fn phase(word: &OsStr) -> Result<Phase, DispatchError> {
    let name = Path::new(word).file_name().map(OsStr::to_owned).unwrap_or_default();
    match Phase::ALL.into_iter().find(|phase| name == phase.verb()) {
        None => Err(DispatchError::UnknownPhase(name.to_string_lossy().into_owned())),
        Some(phase @ Phase::Extend) => Err(DispatchError::NotHere(phase.verb(), phase.executable())),
        Some(
            phase @ (Phase::Analyze
            | Phase::Detect
            | Phase::Restore
            | Phase::Build
            | Phase::Export
            | Phase::Create
            | Phase::Rebase
            | Phase::Index),
        ) => Ok(phase),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(first: Option<&str>, api: &str) -> Result<String, String> {
        let environment = [(env::PLATFORM_API.into(), api.into())].into_iter().collect();
        match executable(first.map(OsStr::new), &environment) {
            Ok(path) => Ok(path.file_name().expect("a name").to_string_lossy().into_owned()),
            Err(failure) => Err(failure.text(Phase::Create)),
        }
    }

    #[test]
    fn the_executable_of_each_phase() {
        for (word, executable) in [
            ("detect", "detector"),
            ("analyze", "analyzer"),
            ("restore", "restorer"),
            ("build", "builder"),
            ("export", "exporter"),
            ("create", "creator"),
            ("rebase", "rebaser"),
            ("index", "indexer"),
            ("/cnb/lifecycle/create", "creator"),
        ] {
            assert_eq!(chosen(Some(word), "0.15").as_deref(), Ok(executable));
        }
    }

    #[test]
    fn what_is_refused() {
        let valid = "\nValid phases: detect, analyze, restore, build, export, create, rebase";
        for (word, api, expected) in [
            (None, "", format!("failed to parse arguments: no phase given{valid}")),
            (
                Some("detect"),
                "0.6",
                "failed to set platform API: platform API version '0.6' is incompatible with the lifecycle".to_owned(),
            ),
            (Some("detector"), "0.15", format!("failed to recognize phase: detector{valid}")),
            (Some(""), "0.15", format!("failed to recognize phase: {valid}")),
            (Some("--version"), "0.15", format!("failed to recognize phase: --version{valid}")),
            (Some("extend"), "0.15", "failed to extend: this lifecycle has no extender yet".to_owned()),
        ] {
            assert_eq!(chosen(word, api), Err(expected));
        }
    }
}

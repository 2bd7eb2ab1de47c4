//! What the executables share: the command line, and the way a phase begins and ends.
//!
//! Data flows one way: words ([`grammar`], [`args`]) and variables ([`environment`]) → [`Inputs`] → the phase. A main is
//!
//! ```no_run
//! # use lifecycle_cmd::{run, Failure, Inputs, Phase};
//! # fn detect(_: &Inputs) -> Result<(), Failure> { Ok(()) }
//! fn main() -> std::process::ExitCode {
//!     run(Phase::Detect, |inputs| detect(&inputs))
//! }
//! ```
//!
//! and what [`run`] is given returns a [`Failure`], into which every error of a phase turns by `?`.

mod args;
mod dispatch;
mod environment;
mod failure;
mod grammar;
mod inputs;
mod path;
pub mod phases;

use std::ffi::OsString;
use std::process::ExitCode;

use lifecycle::phase::PhaseError as _;
use lifecycle_launch::console::{self, Level};
use platform_spec::api::PlatformApi;
use platform_spec::exit;
use platform_spec::input::env;

pub use dispatch::dispatch;
pub use failure::Failure;
pub use inputs::{IndexReport, InputError, Inputs};
pub use platform_spec::input::Phase;

use environment::Environment;
use grammar::GrammarError;

/// The version of the lifecycle, digits only: platforms parse it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs a phase: reads the command line and the environment, calls `body`, prints the error that ends it. The exit status is
/// the error's, and a panic's is the phase's own.
pub fn run(phase: Phase, body: impl FnOnce(Inputs) -> Result<(), Failure>) -> ExitCode {
    console::exit_on_panic(phase.verb(), phase.exit_code());
    let environment = Environment::of_process();
    let words = std::env::args_os().skip(1);
    let ended = match begin(phase, words, &environment) {
        Ok(Some(inputs)) => body(inputs),
        Ok(None) => Ok(()),
        Err(failure) => Err(failure),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.print(phase),
    }
}

/// The inputs, or nothing where the line asked for the version or for help, which is printed.
fn begin(
    phase: Phase,
    words: impl IntoIterator<Item = OsString>,
    environment: &Environment,
) -> Result<Option<Inputs>, Failure> {
    console::init(Level::default(), !environment.boolean(env::NO_COLOR));
    let api = platform_api(environment)?;
    let args = match args::parse(words, phase, api) {
        Ok(args) => args,
        Err(GrammarError::Help) => {
            log::info!("{}", args::help(phase, api));
            return Ok(None);
        }
        Err(error) => return Err(Failure::usage(error, args::help(phase, api).to_string())),
    };
    if args.version == Some(true) {
        log::info!("{VERSION}");
        return Ok(None);
    }
    let level = match args.log_level.as_deref().or_else(|| environment.get(env::LOG_LEVEL)) {
        None => Level::default(),
        Some(text) => text.to_string_lossy().parse().map_err(|error| Failure::told(error, exit::GENERIC))?,
    };
    console::init(level, !args.no_color.unwrap_or_else(|| environment.boolean(env::NO_COLOR)));
    log::debug!("Starting {}...", phase.executable());
    for word in args.positional.iter().map(|word| word.to_string_lossy()).filter(|word| word.starts_with('-')) {
        log::warn!(
            "unconsumed flag-like positional arg: {word}\nFlags are read only before the first argument that is none."
        );
    }
    log::debug!("Parsing inputs...");
    // Without a working directory relative paths stay relative.
    let cwd = std::env::current_dir().unwrap_or_default();
    let inputs = inputs::resolve(phase, api, args, environment, &cwd).map_err(|error| match &error {
        InputError::Experimental(_) => Failure::from(error),
        _ => {
            let code = error.exit_code();
            Failure::told(error, code)
        }
    })?;
    Ok(Some(inputs))
}

/// What `lifecycle -version` and a phase need first of all.
fn platform_api(environment: &Environment) -> Result<PlatformApi, Failure> {
    let text = environment.get(env::PLATFORM_API).map(|text| text.to_string_lossy());
    PlatformApi::parse(text.as_deref()).map_err(|error| Failure::told(error, exit::INCOMPATIBLE_PLATFORM_API))
}

#[cfg(test)]
mod tests;

//! The creator: all phases in one process (platform.md, *creator*). Credentials are read first, then root is left behind
//! for good, and buildpacks run as the user that the platform named.

use std::process::ExitCode;

use lifecycle::experimental::Experimental;
use lifecycle::phase::PhaseError;
use lifecycle::privilege::account;
use lifecycle_cmd::{Failure, Inputs, Phase, phases, run};
use lifecycle_connected::{analyze, connect, export, restore, run_image};
use lifecycle_launch::console::banner;
use lifecycle_launch::env::Env;
use platform_spec::exit;
use thiserror::Error;

fn main() -> ExitCode {
    run(Phase::Create, |inputs| creator(&inputs))
}

/// The creator has no extender.
#[derive(Debug, Error)]
#[error("detected order contains extensions which is not supported by the creator")]
struct HasExtensions;

impl PhaseError for HasExtensions {
    fn exit_code(&self) -> u8 {
        exit::DETECT_ERROR
    }
}

fn creator(inputs: &Inputs) -> Result<(), Failure> {
    let run_image = run_image(inputs)?;
    let volumes = [inputs.cache_dir.as_deref(), inputs.launch_cache.as_deref(), Some(inputs.layers.as_path())];
    let connection = connect(inputs, Vec::new(), volumes.into_iter().flatten())?;
    let environment = environment(inputs)?;

    banner("ANALYZING");
    let analyzed = analyze(inputs, run_image, &connection)?;

    banner("DETECTING");
    // Extensions can only be what the order offers: those that take part are refused, whatever the platform allows.
    let detected = phases::detect(inputs, environment.clone(), Experimental::Silent)?;
    if !detected.group.group_extensions.is_empty() {
        return Err(HasExtensions.into());
    }
    detected.write(&inputs.group, &inputs.plan, &inputs.analyzed).map_err(|error| Failure::of(Phase::Detect, error))?;
    let (group, plan) = (detected.group, detected.plan);

    if !inputs.skip_layers || inputs.api.restores_store_when_skipping() {
        banner("RESTORING");
        restore(inputs, &group, Some(&analyzed), &connection)?;
    }

    banner("BUILDING");
    phases::build(inputs, group.clone(), plan, &analyzed, environment)?;

    banner("EXPORTING");
    export(inputs, group, analyzed, &connection)
}

/// What buildpacks inherit from: started as root, `HOME` and `USER` are still root's.
fn environment(inputs: &Inputs) -> Result<Env, Failure> {
    let mut environment = Env::from_vars(std::env::vars_os());
    let account = account(inputs.user.uid)?;
    environment.set("HOME", account.home);
    environment.set("USER", account.name);
    Ok(environment)
}

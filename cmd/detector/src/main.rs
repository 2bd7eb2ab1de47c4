//! `detector`: finds the buildpacks and extensions that apply to an app, and what extensions generate.

use std::process::ExitCode;

use lifecycle::privilege::{hide_memory, refuse_root};
use lifecycle_cmd::{Failure, Inputs, Phase, phases};
use lifecycle_launch::env::Env;

fn main() -> ExitCode {
    lifecycle_cmd::run(Phase::Detect, |inputs| detector(&inputs))
}

fn detector(inputs: &Inputs) -> Result<(), Failure> {
    refuse_root()?;
    hide_memory()?;
    let environment = Env::from_vars(std::env::vars_os());
    let detected = phases::detect(inputs, environment.clone(), inputs.experimental)?;
    let detected = phases::generate(inputs, detected, environment)?;
    detected.write(&inputs.group, &inputs.plan, &inputs.analyzed).map_err(|error| Failure::of(Phase::Detect, error))
}

//! `builder`: runs `bin/build` of each buildpack of the group, and gathers what they leave (platform.md, *builder*).

use std::process::ExitCode;

use lifecycle::phase::files;
use lifecycle::privilege::{hide_memory, refuse_root};
use lifecycle_cmd::{Failure, Inputs, Phase, phases, run};
use lifecycle_launch::env::Env;

fn main() -> ExitCode {
    run(Phase::Build, |inputs| builder(&inputs))
}

fn builder(inputs: &Inputs) -> Result<(), Failure> {
    refuse_root()?;
    hide_memory()?;
    let layers = &inputs.layers;
    let (group, plan) = (files::read_group(&inputs.group, layers)?, files::read_plan(&inputs.plan, layers)?);
    let analyzed = files::read_analyzed(&inputs.analyzed, layers)?;
    phases::build(inputs, group, plan, &analyzed, Env::from_vars(std::env::vars_os()))
}

//! `builder`: runs `bin/build` of each buildpack of the group, and gathers what they leave (platform.md, *builder*).

use std::path::Path;
use std::process::ExitCode;

use lifecycle::buildpack::{OS_RELEASE, build_target};
use lifecycle::phase::{build, files};
use lifecycle::privilege;
use lifecycle_cmd::{Failure, Inputs, Phase, run};
use lifecycle_launch::console;
use lifecycle_launch::env::Env;

fn main() -> ExitCode {
    run(Phase::Build, |inputs| builder(&inputs))
}

fn builder(inputs: &Inputs) -> Result<(), Failure> {
    privilege::refuse_root()?;
    privilege::hide_memory()?;
    let (group, plan) = (files::read_group(&inputs.group)?, files::read_plan(&inputs.plan)?);
    let analyzed = files::read_analyzed(&inputs.analyzed)?;
    let recorded = analyzed.run_image.as_ref().and_then(|image| image.target.as_ref());
    let metadata = build::run(
        &build::Inputs {
            platform_api: inputs.api,
            app_dir: inputs.app.clone(),
            build_config_dir: inputs.build_config.clone(),
            buildpacks_dir: inputs.buildpacks.clone(),
            layers_dir: inputs.layers.clone(),
            platform_dir: inputs.platform.clone(),
            exec_env: inputs.exec_env.clone(),
            environment: Env::from_vars(std::env::vars_os()),
            group,
            plan,
            target: build_target(recorded, Path::new(OS_RELEASE)),
        },
        Box::new(console::output()),
    )?;
    Ok(build::write_metadata(&inputs.layers, inputs.api, &metadata)?)
}

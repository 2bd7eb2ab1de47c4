//! `detector`: finds the buildpacks and extensions that apply to an app, and what extensions generate.

use std::process::ExitCode;

use lifecycle::phase::{detect, generate};
use lifecycle::privilege::{hide_memory, refuse_root};
use lifecycle_cmd::{Failure, Inputs, Phase};
use lifecycle_launch::console;
use lifecycle_launch::env::Env;

fn main() -> ExitCode {
    lifecycle_cmd::run(Phase::Detect, |inputs| detector(&inputs))
}

fn detector(inputs: &Inputs) -> Result<(), Failure> {
    refuse_root()?;
    hide_memory()?;
    let environment = Env::from_vars(std::env::vars_os());
    let mut output = console::output();
    let detected = detect::run(&detect_inputs(inputs, environment.clone()), &mut output)?;
    let detected = generate::run(&generate_inputs(inputs, environment), detected, &mut output)?;
    detected.write(&inputs.group, &inputs.plan, &inputs.analyzed).map_err(|error| Failure::of(Phase::Detect, error))
}

fn detect_inputs(inputs: &Inputs, environment: Env) -> detect::Inputs {
    detect::Inputs {
        platform_api: inputs.api,
        app_dir: inputs.app.clone(),
        buildpacks_dir: inputs.buildpacks.clone(),
        extensions_dir: inputs.extensions.clone(),
        platform_dir: inputs.platform.clone(),
        build_config_dir: inputs.build_config.clone(),
        analyzed_path: inputs.analyzed.clone(),
        order_path: inputs.order.clone(),
        system_path: inputs.system.clone(),
        exec_env: inputs.exec_env.clone(),
        experimental: inputs.experimental,
        environment,
    }
}

fn generate_inputs(inputs: &Inputs, environment: Env) -> generate::Inputs {
    generate::Inputs {
        platform_api: inputs.api,
        app_dir: inputs.app.clone(),
        extensions_dir: inputs.extensions.clone(),
        platform_dir: inputs.platform.clone(),
        build_config_dir: inputs.build_config.clone(),
        generated_dir: inputs.generated.clone(),
        analyzed_path: inputs.analyzed.clone(),
        run_path: inputs.run.clone(),
        exec_env: inputs.exec_env.clone(),
        environment,
    }
}

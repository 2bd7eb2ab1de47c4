//! The phases that run other people's programs and reach nothing: from [`Inputs`] to their files. The detector and the
//! builder are these functions, and the creator calls them too.

use std::path::Path;

use lifecycle::buildpack::{OS_RELEASE, build_target};
use lifecycle::experimental::Experimental;
use lifecycle::phase::build::family::Family;
use lifecycle::phase::detect::{self, Detected};
use lifecycle::phase::{build, generate};
use lifecycle::target::BuildTarget;
use lifecycle_launch::console;
use lifecycle_launch::env::Env;
use platform_spec::analyzed::Analyzed;
use platform_spec::group::Group;
use platform_spec::plan::Plan;

use crate::{Failure, Inputs};

/// Finds the group. `environment` is what buildpacks inherit from, `experimental` what to do where the order has
/// extensions and they are experimental.
pub fn detect(inputs: &Inputs, environment: Env, experimental: Experimental) -> Result<Detected, Failure> {
    let phase = detect::Inputs {
        platform_api: inputs.api,
        app_dir: inputs.app.clone(),
        buildpacks_dir: inputs.buildpacks.clone(),
        extensions_dir: inputs.extensions.clone(),
        platform_dir: inputs.platform.clone(),
        build_config_dir: inputs.build_config.clone(),
        analyzed_path: inputs.analyzed.clone(),
        target_arch: inputs.target_arch.clone(),
        order_path: inputs.order.clone(),
        system_path: inputs.system.clone(),
        exec_env: inputs.exec_env.clone(),
        experimental,
        environment,
    };
    Ok(alone(|| detect::run(&phase, &mut console::output()))?)
}

/// Stops what a buildpack or an extension has left running, before another phase begins: it could change what that does, or
/// watch it.
fn alone<T>(phase: impl FnOnce() -> T) -> T {
    let family = Family::begin(Box::new(std::io::sink()));
    let result = phase();
    family.end();
    result
}

/// Runs `bin/generate` of the extensions of the group.
pub fn generate(inputs: &Inputs, detected: Detected, environment: Env) -> Result<Detected, Failure> {
    let phase = generate::Inputs {
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
    };
    Ok(alone(|| generate::run(&phase, detected, &mut console::output()))?)
}

/// Runs `bin/build` of the buildpacks of the group, and writes `metadata.toml`.
pub fn build(inputs: &Inputs, group: Group, plan: Plan, analyzed: &Analyzed, environment: Env) -> Result<(), Failure> {
    let build_for = BuildTarget::resolve(inputs.target_arch.clone(), analyzed)?;
    build_for.check_builder(&group)?;
    let phase = build::Inputs {
        platform_api: inputs.api,
        app_dir: inputs.app.clone(),
        build_config_dir: inputs.build_config.clone(),
        buildpacks_dir: inputs.buildpacks.clone(),
        layers_dir: inputs.layers.clone(),
        platform_dir: inputs.platform.clone(),
        exec_env: inputs.exec_env.clone(),
        environment,
        group,
        plan,
        target: build_target(build_for.recorded_or_asked(analyzed).as_ref(), Path::new(OS_RELEASE)),
    };
    let metadata = build::run(&phase, Box::new(console::output()))?;
    Ok(build::write_metadata(&inputs.layers, inputs.api, &metadata)?)
}

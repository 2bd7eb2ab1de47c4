//! The exporter: makes the app image and the cache (platform.md, *exporter*).

use std::process::ExitCode;

use lifecycle_cmd::{Failure, Inputs, Phase, run};
use lifecycle_connected::{connect, export, group, require_analyzed};

fn main() -> ExitCode {
    run(Phase::Export, |inputs| exporter(&inputs))
}

fn exporter(inputs: &Inputs) -> Result<(), Failure> {
    let analyzed = require_analyzed(inputs)?;
    let images = [analyzed.previous_image.as_ref().map(|image| &image.reference)];
    let images = images.into_iter().chain([analyzed.run_image.as_ref().map(|image| &image.reference)]);
    let volumes = [inputs.cache_dir.as_deref(), inputs.launch_cache.as_deref()];
    let connection = connect(inputs, images.flatten().cloned().collect(), volumes.into_iter().flatten())?;
    export(inputs, group(inputs)?, analyzed, &connection)
}

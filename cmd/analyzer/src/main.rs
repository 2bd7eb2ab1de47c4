//! The analyzer: reads the previous image and the run image (platform.md, *analyzer*).

use std::process::ExitCode;

use lifecycle_cmd::{Failure, Inputs, Phase, run};
use lifecycle_connected::{analyze, connect, run_image};

fn main() -> ExitCode {
    run(Phase::Analyze, |inputs| analyzer(&inputs))
}

fn analyzer(inputs: &Inputs) -> Result<(), Failure> {
    let run_image = run_image(inputs)?;
    let volumes = [Some(inputs.layers.as_path()), inputs.cache_dir.as_deref(), inputs.launch_cache.as_deref()];
    let connection = connect(inputs, Vec::new(), volumes.into_iter().flatten())?;
    analyze(inputs, run_image, &connection)?;
    Ok(())
}

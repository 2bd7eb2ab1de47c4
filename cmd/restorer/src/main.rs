//! The restorer: brings back what buildpacks may reuse of the last build (platform.md, *restorer*).

use std::path::Path;
use std::process::ExitCode;

use lifecycle_cmd::{Failure, Inputs, Phase, run};
use lifecycle_connected::{connect, group, read_analyzed, refresh, restore};

fn main() -> ExitCode {
    run(Phase::Restore, |inputs| restorer(&inputs))
}

fn restorer(inputs: &Inputs) -> Result<(), Failure> {
    let volumes = [Some(&inputs.layers), inputs.cache_dir.as_ref()];
    let volumes = volumes.into_iter().flatten().map(|path| path.as_path()).chain([Path::new("/kaniko")]);
    let connection = connect(inputs, Vec::new(), volumes)?;
    let group = group(inputs)?;
    let analyzed = match read_analyzed(inputs) {
        Some(analyzed) => Some(refresh(inputs, analyzed, &group, &connection)?),
        None => None,
    };
    restore(inputs, &group, analyzed.as_ref(), &connection)
}

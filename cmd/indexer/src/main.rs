//! The indexer: joins exported images in one index (target-arch.md, *indexer*).

use std::process::ExitCode;

use lifecycle_cmd::{Failure, Inputs, Phase, run};
use lifecycle_connected::{connect, index, reported};

fn main() -> ExitCode {
    run(Phase::Index, |inputs| indexer(&inputs))
}

fn indexer(inputs: &Inputs) -> Result<(), Failure> {
    let images = reported(inputs)?;
    let connection = connect(inputs, images.clone(), [])?;
    index(inputs, images, &connection)
}

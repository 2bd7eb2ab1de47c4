//! The indexer: joins exported images in one index (target-arch.md, *indexer*).

use std::process::ExitCode;

use lifecycle_cmd::{Phase, run};
use lifecycle_connected::index;

fn main() -> ExitCode {
    run(Phase::Index, |inputs| index(&inputs))
}

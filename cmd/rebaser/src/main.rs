//! The rebaser: puts an app image on top of a newer run image (platform.md, *rebaser*).

use std::process::ExitCode;

use lifecycle_cmd::{Phase, run};
use lifecycle_connected::rebase;

fn main() -> ExitCode {
    run(Phase::Rebase, |inputs| rebase(&inputs))
}

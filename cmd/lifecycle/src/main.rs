//! `lifecycle <phase> …`, as scripts write it: replaces itself by the executable of the phase beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    lifecycle_cmd::dispatch()
}

//! `launcher`: the entry point of app images. It sets up the environment and becomes the app (platform.md, *launcher*).

use std::process::ExitCode;

use lifecycle_launch::console::{self, Level};
use lifecycle_launch::env::Env;
use lifecycle_launch::launch::{self, Inputs};
use platform_spec::exit;

fn main() -> ExitCode {
    let env = Env::from_vars(std::env::vars_os());
    // The spellings of true that every flag and variable of the lifecycle takes.
    let no_color = env.get("CNB_NO_COLOR").and_then(|value| value.to_str()).unwrap_or_default();
    console::init(Level::Info, !["1", "t", "T", "true", "True", "TRUE"].contains(&no_color));
    console::exit_on_panic("launch", exit::LAUNCH_ERROR);

    let Err(error) = Inputs::new(std::env::args_os(), env).and_then(launch::run);
    console::failure(&error);
    ExitCode::from(error.exit_code())
}

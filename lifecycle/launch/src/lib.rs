//! What ships inside app images: environment, exec.d, processes, and the console. Rung 2 of the ladder.
//!
//! [`console`], [`env`](mod@env) and [`file`] are used by the lifecycle's other packages too. The rest is the launcher's:
//! [`launch`] is the phase, [`process`] decides what to start, `layers`, [`exec_d`], `shell` and [`lookup`] are
//! its parts.

mod ansi;
pub mod console;
pub mod env;
pub mod exec_d;
pub mod file;
pub mod launch;
mod layers;
pub mod lookup;
pub mod process;
mod shell;

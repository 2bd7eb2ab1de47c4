//! What ships inside app images: environment, exec.d, processes, and the console. Rung 2 of the ladder.

mod ansi;
pub mod console;
pub mod env;
pub mod file;

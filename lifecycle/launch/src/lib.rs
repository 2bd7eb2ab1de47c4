//! What ships inside app images: environment, exec.d, processes, and the console. Rung 2 of the ladder.

pub mod env;
pub mod file;

//! Measuring: real files as layers, phases run and timed, results side by side.
//!
//! [`input`] chooses files of the machine by a fixed rule, since compressibility decides and made-up files have another;
//! [`measure`] runs a phase in a process that is small enough not to count; [`Build`] has the directories of one build;
//! [`Table`] shows medians and ratios.

mod build;
pub mod input;
pub mod measure;
mod table;
pub mod ways;

pub use build::{Build, BuildRoot, write_layers, write_real_layers};
pub use table::{Comparison, Table};

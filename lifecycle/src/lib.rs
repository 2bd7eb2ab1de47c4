//! The phases; images, layers and caches as values and files.
//!
//! Rung 3 of the ladder: nothing here opens a socket.

pub mod beneath;
pub mod buildpack;
pub mod cache;
pub mod digest;
pub mod elf;
pub mod experimental;
pub mod file;
pub mod image;
pub mod layer;
pub mod layers_dir;
pub mod phase;
pub mod privilege;
pub mod run_image;
pub mod target;

#[cfg(test)]
pub(crate) mod test_log;

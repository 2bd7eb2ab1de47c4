//! Drives the executables from outside, as a platform does.
//!
//! Which executables is said by `LIFECYCLE_DIR` ([`Lifecycle`]), so the same tests run on any lifecycle. A [`Project`] is an app
//! with its buildpacks and the directories of a build; [`Registry`] is a real registry; [`image`] makes run images and judges
//! what came out with programs that others wrote: skopeo, umoci, runc, tar. A [`Builder`] is a root directory of whatever architecture,
//! for what has to be seen in a container ([`emulation`]).
//!
//! Everything here panics with what was run and what it said: a test that cannot do its work fails.

mod architecture;
pub mod bench;
mod build;
mod builder;
pub mod emulation;
pub mod exports;
pub mod image;
pub mod interceptor;
pub mod killer;
mod lifecycle;
pub mod marker;
mod project;
pub mod random;
mod registry;
mod root;
pub mod snapshot;
mod tool;
mod umask;

pub use architecture::Architecture;
pub use build::Build;
pub use builder::Builder;
pub use lifecycle::{Lifecycle, Outcome, Phase};
pub use project::Project;
pub use registry::Registry;
pub use tool::{Tool, samples};

/// The user and the group that phases run as, unless a test says otherwise: Debian's `www-data`, because the creator wants a
/// user that `/etc/passwd` names.
pub const USER: u32 = 33;

/// A number of tests that a variable asks for: `ACCEPTANCE_MOMENTS`, how many moments at which something is killed,
/// `ACCEPTANCE_RACES`, how many races.
///
/// # Panics
///
/// If it is set to something else than a number.
pub fn how_many(variable: &str, usually: usize) -> usize {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text:?}: not a number")),
        Err(_) => usually,
    }
}

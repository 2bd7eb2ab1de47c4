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
pub mod image;
mod lifecycle;
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

//! The phases: each an `Inputs`, a `run`, and an error type with its exit codes.

pub mod analyze;
pub mod build;
pub mod detect;
pub mod export;
pub mod files;
pub mod generate;
pub mod index;
pub mod programs;
pub mod rebase;
pub mod restore;
mod saved;
mod timer;

pub use saved::NameError;
pub use timer::Timer;

/// An error that ends a phase. The exit status comes from one exhaustive match in each implementation.
pub trait PhaseError: std::error::Error + Send + Sync + 'static {
    /// The exit status: one of [`platform_spec::exit`].
    fn exit_code(&self) -> u8;

    /// Whether its text says itself what failed, and reads right after `failed to`, without the phase's verb:
    /// `resolve inputs: …`.
    fn says_what_failed(&self) -> bool {
        false
    }

    /// What the user can do about it, printed after the error.
    fn advice(&self) -> Option<String> {
        None
    }
}

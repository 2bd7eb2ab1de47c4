//! What the executables share that reach registries.
//!
//! Such a phase may be started as root. What needs root comes first ([`connect`]): credentials are read, volumes are made
//! the user's, then the process becomes the user. Afterwards [`Connection`] gives the stores, and [`analyze`],
//! [`restore`], [`export`] and [`rebase`] map [`Inputs`] to what each phase may know, run it, and write its files. The creator calls
//! the same functions as the single executables do.

mod analyze;
mod connect;
mod export;
mod index;
mod rebase;
mod restore;

pub use analyze::{analyze, run_image};
pub use connect::{ConnectError, Connection, connect};
pub use export::{export, require_analyzed, write_index_report};
pub use index::index;
pub use rebase::rebase;
pub use restore::{RefreshAnalyzedError, read_analyzed, refresh, restore};

use lifecycle::file::LoadError;
use lifecycle::phase::PhaseError;
use lifecycle::phase::files::{self, FileError};
use lifecycle_cmd::Inputs;
use platform_spec::api::{BuildpackApi, BuildpackApiError};
use platform_spec::exit;
use platform_spec::group::Group;
use thiserror::Error;

/// Why a file that an earlier phase wrote cannot be used.
#[derive(Debug, Error)]
pub enum ReadError {
    /// `group.toml`.
    #[error(transparent)]
    Group(#[from] FileError),
    /// A buildpack's API.
    #[error(transparent)]
    Api(#[from] BuildpackApiError),
    /// `analyzed.toml`.
    #[error("read analyzed file")]
    Analyzed(#[source] LoadError),
    /// `project-metadata.toml`.
    #[error("read project metadata file")]
    Project(#[source] LoadError),
    /// `run.toml` or `stack.toml`.
    #[error("read run image file")]
    Run(#[source] LoadError),
}

impl PhaseError for ReadError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Api(_) => exit::INCOMPATIBLE_BUILDPACK_API,
            Self::Group(_) | Self::Analyzed(_) | Self::Project(_) | Self::Run(_) => exit::GENERIC,
        }
    }
}

/// Reads `group.toml`, and checks the API of every buildpack and extension in it.
pub fn group(inputs: &Inputs) -> Result<Group, ReadError> {
    let group = files::read_group(&inputs.group, &inputs.layers)?;
    for (kind, elements) in [("buildpack", &group.group), ("extension", &group.group_extensions)] {
        for element in elements {
            BuildpackApi::parse(&element.api, &format!("{kind} '{}'", element.full_name()))?;
        }
    }
    Ok(group)
}

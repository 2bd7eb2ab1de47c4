//! Buildpacks and image extensions on disk: finding them, and what they are run with.
//!
//! A [`Module`] is one buildpack or extension as its `buildpack.toml` or `extension.toml` describes it, read from
//! `<buildpacks>/<escaped id>/<version>` (platform.md, *Buildpacks Directory Layout*). The phases that run its
//! executables give them the environment that [`environment`] makes, the directory of a [`PlanFile`], and one pipe
//! for their output ([`process`]).

pub mod environment;
mod plan_file;
pub mod process;
mod target;

use std::fmt;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use lifecycle_launch::env::Env;
use platform_spec::api::{BuildpackApi, BuildpackApiError};
use platform_spec::buildpack::{Buildpack, BuildpackTarget, Info};
use platform_spec::extension::Extension;
use platform_spec::name::{BuildpackId, BuildpackVersion};
use platform_spec::order::OrderGroup;
use thiserror::Error;

pub use self::environment::{build_environment, target_variables};
pub use self::plan_file::{PlanFile, PlanFileError};
pub use self::target::{OS_RELEASE, TargetMismatch, build_target, check_build_arch, check_target};
use crate::file::{self, LoadError, PathContext, PathError};

/// Whether a [`Module`] is a buildpack or an image extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A component or composite buildpack (buildpack.md).
    Buildpack,
    /// An image extension (image_extension.md).
    Extension,
}

impl Kind {
    /// The file that describes it, in its root directory.
    pub fn descriptor(self) -> &'static str {
        match self {
            Self::Buildpack => "buildpack.toml",
            Self::Extension => "extension.toml",
        }
    }

    /// The variable that tells its executables their root directory (buildpack.md, *Detection*, *Build*).
    pub fn root_variable(self) -> &'static str {
        match self {
            Self::Buildpack => "CNB_BUILDPACK_DIR",
            Self::Extension => "CNB_EXTENSION_DIR",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Buildpack => "buildpack",
            Self::Extension => "extension",
        })
    }
}

/// One buildpack or image extension, as its descriptor states it. Displayed as `<id>@<version>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// Buildpack or extension.
    pub kind: Kind,
    /// The id by which it was asked for.
    pub id: BuildpackId,
    /// The version by which it was asked for.
    pub version: BuildpackVersion,
    /// The Buildpack API that it implements.
    pub api: BuildpackApi,
    /// Its root directory, absolute.
    pub root: PathBuf,
    /// Its homepage; empty if it states none.
    pub homepage: String,
    /// Whether user-provided variables are kept out of its environment.
    pub clear_env: bool,
    /// Media types of the SBOM files that it declares.
    pub sbom_formats: Vec<String>,
    /// Execution environments that it declares; none is any. Only an API that [has
    /// them](BuildpackApi::has_exec_env) gives it a meaning: [`Module::supports_exec_env`].
    pub exec_env: Vec<String>,
    /// Targets that it supports, with those that are inferred; none is any.
    pub targets: Vec<BuildpackTarget>,
    /// For a composite buildpack: the order that takes its place. Empty for a component and for an extension.
    pub order: Vec<OrderGroup>,
}

impl Module {
    /// One of its executables: `<root>/bin/<name>`. It need not exist.
    pub fn executable(&self, name: &str) -> PathBuf {
        self.root.join("bin").join(name)
    }

    /// The command that runs one of its executables in the app directory, with this environment and its own root
    /// directory in it ([`process::run`] runs it). Arguments and further variables are the phase's.
    pub fn command(&self, name: &str, app_dir: &Path, env: &Env) -> Command {
        let mut command = Command::new(self.executable(name));
        command.current_dir(app_dir).env_clear().envs(env.iter()).env(self.kind.root_variable(), &self.root);
        command
    }

    /// Why one of its executables could not be started. The system says "no such file" of it also where it means another
    /// file: the app directory, or the interpreter of a script.
    pub fn start_error(&self, name: &str, app_dir: &Path, error: io::Error) -> PathError {
        let path = self.executable(name);
        let source = match error.kind() {
            ErrorKind::NotFound if !app_dir.is_dir() => {
                io::Error::other(format!("the app directory {} is not there", app_dir.display()))
            }
            ErrorKind::NotFound if path.exists() => io::Error::other(match interpreter(&path) {
                Some(missing) if !missing.exists() => {
                    format!("it is there, but {}, which its first line names, is not", missing.display())
                }
                _ => "it is there, but the dynamic loader that it names is not".to_owned(),
            }),
            _ => error,
        };
        PathError { operation: "run", path, source }
    }

    /// Whether it is a buildpack that stands for an order of others.
    pub fn is_composite(&self) -> bool {
        !self.order.is_empty()
    }

    /// Whether it takes part in builds for this execution environment (buildpack.md, *Execution Environments*).
    /// An empty `exec_env` is one that the platform did not state.
    pub fn supports_exec_env(&self, exec_env: &str) -> bool {
        !self.api.has_exec_env() || exec_env.is_empty() || includes_exec_env(&self.exec_env, exec_env)
    }
}

/// The interpreter that a script's first line names.
fn interpreter(script: &Path) -> Option<PathBuf> {
    let mut start = Vec::new();
    std::fs::File::open(script).ok()?.take(256).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let name = line.trim_ascii().split(|byte| byte.is_ascii_whitespace()).next()?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(name)))
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.version)
    }
}

/// Whether a list of execution environments covers one of them: an empty list covers all, and so does `*`.
pub fn includes_exec_env(list: &[String], exec_env: &str) -> bool {
    list.is_empty() || list.iter().any(|listed| listed == "*" || listed == exec_env)
}

/// Why a module cannot be used.
#[derive(Debug, Error)]
pub enum FindError {
    /// There is none of that id and version, or its descriptor is malformed.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Its root directory cannot be looked into.
    #[error(transparent)]
    Look(#[from] PathError),
    /// It implements a Buildpack API that this lifecycle does not speak.
    #[error(transparent)]
    Api(#[from] BuildpackApiError),
}

/// Reads the descriptor of the buildpack or extension `<dir>/<escaped id>/<version>`.
///
/// The id and version are the caller's (from `order.toml`, `group.toml` or a composite buildpack); what the
/// descriptor itself says they are is for people.
pub fn find(kind: Kind, dir: &Path, id: &BuildpackId, version: &BuildpackVersion) -> Result<Module, FindError> {
    let root = dir.join(id.escaped()).join(version.as_str());
    let root = std::path::absolute(&root).path("resolve", &root)?;
    let path = root.join(kind.descriptor());
    let described = match kind {
        Kind::Buildpack => {
            let Buildpack { api, buildpack, order, targets, stacks } = file::load(&path)?;
            Described { api, info: buildpack, order, targets, stacks }
        }
        Kind::Extension => {
            let Extension { api, extension, targets } = file::load(&path)?;
            Described { api, info: extension, order: Vec::new(), targets, stacks: Vec::new() }
        }
    };
    let api = BuildpackApi::parse(&described.api, &format!("{kind} '{id}@{version}'"))?;
    let targets = target::supported(kind, api, &root, described.targets, &described.stacks)?;
    let Info { homepage, clear_env, sbom_formats, exec_env, .. } = described.info;
    Ok(Module {
        kind,
        id: id.clone(),
        version: version.clone(),
        api,
        root,
        homepage,
        clear_env,
        sbom_formats,
        exec_env,
        targets,
        order: described.order,
    })
}

/// What both kinds of descriptors state.
struct Described {
    api: String,
    info: Info,
    order: Vec<OrderGroup>,
    targets: Vec<BuildpackTarget>,
    stacks: Vec<platform_spec::buildpack::BuildpackStack>,
}

#[cfg(test)]
mod tests;

//! What extensions write, and where it goes.
//!
//! From the Platform API on in which extensions are stable, an extension writes to `<generated>/<id>`, and what it writes
//! stays there. Before, it writes to a temporary directory, and its Dockerfiles are copied to
//! `<generated>/{build,run}/<id>/Dockerfile`. In both, the directories that were begun go away unless generation comes to
//! its end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use platform_spec::extension::ExtendConfig;
use platform_spec::text::from_toml;
use tempfile::TempDir;
use thiserror::Error;
use walkdir::WalkDir;

use super::dockerfile::{DockerfileError, LARGEST, RunDockerfile, check_build, check_run};
use crate::beneath::Directory;
use crate::buildpack::Module;
use crate::file::{PathContext, PathError};

/// Arguments that the extender gives every Dockerfile.
const RESERVED: [&str; 3] = ["build_id", "user_id", "group_id"];

const BUILD: &str = "build.Dockerfile";
const RUN: &str = "run.Dockerfile";
const CONFIG: &str = "extend-config.toml";

/// Why what an extension wrote cannot be used.
#[derive(Debug, Error)]
pub enum OutputError {
    /// It cannot be read.
    #[error(transparent)]
    Path(#[from] PathError),
    /// It is not a regular file.
    #[error("read {}: not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// A Dockerfile is refused.
    #[error("failed to parse {}", .0.display())]
    Dockerfile(PathBuf, #[source] DockerfileError),
    /// The configuration is malformed.
    #[error("reading extend config: parse {}: {reason}", .path.display())]
    Config {
        /// Which file.
        path: PathBuf,
        /// Line, key and what was expected.
        reason: String,
    },
    /// The configuration sets an argument that is the lifecycle's.
    #[error("validating extend config: invalid content: arg with name {0:?} is not allowed")]
    Reserved(String),
    /// There are contexts of both kinds.
    #[error("image-specific context dir is provided together with a shared context")]
    Contexts,
}

/// What one extension wrote.
#[derive(Debug)]
pub(super) struct Generated {
    /// Its full name.
    pub(super) extension: String,
    /// Its id as a directory's name.
    id: String,
    /// Where it wrote.
    directory: PathBuf,
    /// Its `build.Dockerfile`.
    pub(super) build: Option<Vec<u8>>,
    /// Its `run.Dockerfile`.
    pub(super) run: Option<GeneratedRun>,
    /// Its `extend-config.toml`.
    config: Option<Vec<u8>>,
}

/// A `run.Dockerfile`.
#[derive(Debug)]
pub(super) struct GeneratedRun {
    content: Vec<u8>,
    /// What it does.
    pub(super) does: RunDockerfile,
    /// Whether a later one makes it have no effect.
    pub(super) ignored: bool,
}

/// Reads and checks what an extension wrote.
pub(super) fn read(extension: &Module, directory: &Path) -> Result<Generated, OutputError> {
    let config = file_in(directory, CONFIG)?;
    if let Some(content) = &config {
        check_config(&directory.join(CONFIG), content)?;
    }
    let run = match file_in(directory, RUN)? {
        None => None,
        Some(content) => {
            let does = check_run(&content).map_err(|error| OutputError::Dockerfile(directory.join(RUN), error))?;
            Some(GeneratedRun { content, does, ignored: false })
        }
    };
    let build = file_in(directory, BUILD)?;
    if let Some(content) = &build {
        check_build(content).map_err(|error| OutputError::Dockerfile(directory.join(BUILD), error))?;
    }
    let is_context = |name: &str| directory.join(name).is_dir();
    if is_context("context") && (is_context("context.build") || is_context("context.run")) {
        return Err(OutputError::Contexts);
    }
    let (extension, id) = (extension.to_string(), extension.id.escaped());
    Ok(Generated { extension, id, directory: directory.to_owned(), build, run, config })
}

/// The content of a file; `None` if there is none. A pipe is not waited for.
fn file_in(directory: &Path, name: &str) -> Result<Option<Vec<u8>>, OutputError> {
    let path = directory.join(name);
    let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path);
    let file: File = match opened {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENXIO as i32) => {
            return Err(OutputError::NotAFile(path));
        }
        opened => opened.path("open", &path)?,
    };
    if !file.metadata().path("stat", &path)?.is_file() {
        return Err(OutputError::NotAFile(path));
    }
    let mut content = Vec::new();
    file.take(LARGEST as u64 + 1).read_to_end(&mut content).path("read", &path)?;
    Ok(Some(content))
}

fn check_config(path: &Path, content: &[u8]) -> Result<(), OutputError> {
    let malformed = |reason: String| OutputError::Config { path: path.to_owned(), reason };
    if content.len() > LARGEST {
        return Err(malformed(format!("the file is larger than {} MiB", LARGEST >> 20)));
    }
    let text = std::str::from_utf8(content).map_err(|error| malformed(error.to_string()))?;
    let config: ExtendConfig = from_toml(text).map_err(|error| malformed(error.to_string().trim_end().to_owned()))?;
    match config.build.args.into_iter().chain(config.run.args).find(|arg| RESERVED.contains(&arg.name.as_str())) {
        Some(reserved) => Err(OutputError::Reserved(reserved.name)),
        None => Ok(()),
    }
}

/// Where extensions write. What was begun goes away with this value, unless it is [published](Self::publish).
pub(super) struct OutputDirs {
    generated: PathBuf,
    /// Whether `<generated>` was there before.
    existed: bool,
    /// Where extensions write, if not to `<generated>` itself.
    temporary: Option<TempDir>,
    /// Names in `<generated>` that were begun.
    begun: Vec<String>,
}

/// Where one extension writes.
pub(super) struct OutputDir {
    /// The directory.
    pub(super) path: PathBuf,
    /// Whether the output is there already: an extension without `bin/generate` brings it along.
    pub(super) prepared: bool,
}

impl OutputDirs {
    /// `stays`: what extensions write stays where they write it.
    pub(super) fn new(generated: &Path, stays: bool) -> Result<Self, PathError> {
        let existed = generated.exists();
        let temporary = match stays {
            true => None,
            false => {
                let parent = std::env::temp_dir();
                let directory = tempfile::Builder::new().prefix("cnb-extensions-generated.").tempdir_in(&parent);
                Some(directory.path("create a directory in", &parent)?)
            }
        };
        Ok(Self { generated: generated.to_owned(), existed, temporary, begun: Vec::new() })
    }

    /// The directory of one extension, empty, or with what it brings along.
    pub(super) fn add(&mut self, extension: &Module) -> Result<OutputDir, PathError> {
        let name = extension.id.escaped();
        let path = match &self.temporary {
            Some(temporary) => std::path::absolute(temporary.path()).path("resolve", temporary.path())?.join(&name),
            None => {
                fs::create_dir_all(&self.generated).path("create directory", &self.generated)?;
                // Of an earlier build.
                Directory::open(&self.generated)?.remove(&name)?;
                self.begun.push(name.clone());
                self.generated.join(&name)
            }
        };
        fs::create_dir(&path).path("create directory", &path)?;
        let prepared = match fs::metadata(extension.executable("generate")) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                copy_tree(&extension.root.join("generate"), &path)?;
                true
            }
            // Anything else fails when it is run, with the system's reason.
            Ok(_) | Err(_) => false,
        };
        Ok(OutputDir { path, prepared })
    }

    /// Puts the output where platforms and the extender look for it.
    pub(super) fn publish(mut self, all: &[Generated]) -> Result<(), PathError> {
        match self.temporary.take() {
            None => {
                for generated in all {
                    settle(generated)?;
                }
            }
            Some(_temporary) => {
                for generated in all {
                    self.copy(generated)?;
                }
            }
        }
        self.begun.clear();
        self.existed = true;
        Ok(())
    }

    /// Copies Dockerfiles and their configuration to `<generated>/{build,run}/<id>`.
    fn copy(&mut self, generated: &Generated) -> Result<(), PathError> {
        let build = generated.build.as_ref().map(|content| ("build", "Dockerfile", content));
        let run = generated
            .run
            .as_ref()
            .map(|run| ("run", if run.ignored { "Dockerfile.ignore" } else { "Dockerfile" }, &run.content));
        for (kind, name, content) in build.into_iter().chain(run) {
            let directory = self.generated.join(kind);
            fs::create_dir_all(&directory).path("create directory", &directory)?;
            let directory = Directory::open(&directory)?;
            directory.remove(&generated.id)?;
            let path = self.generated.join(kind).join(&generated.id);
            fs::create_dir(&path).path("create directory", &path)?;
            let config = generated.config.as_ref().map(|content| (CONFIG, content));
            for (name, content) in [(name, content)].into_iter().chain(config) {
                let path = path.join(name);
                fs::write(&path, content).path("write", &path)?;
            }
        }
        Ok(())
    }
}

impl Drop for OutputDirs {
    fn drop(&mut self) {
        // What cannot be removed stays: the error that led here is the one to report.
        if let (false, Ok(generated)) = (self.begun.is_empty(), Directory::open(&self.generated)) {
            for name in &self.begun {
                let _ = generated.remove(name);
            }
        }
        if !self.existed {
            let _ = fs::remove_dir(&self.generated);
        }
    }
}

/// Makes what was checked what is there: regular files, the ignored one renamed.
fn settle(generated: &Generated) -> Result<(), PathError> {
    let Generated { directory, build, run, config, .. } = generated;
    let files = [(BUILD, build.as_ref()), (RUN, run.as_ref().map(|run| &run.content)), (CONFIG, config.as_ref())];
    for (name, content) in files.into_iter().filter_map(|(name, content)| Some((name, content?))) {
        let path = directory.join(name);
        if fs::symlink_metadata(&path).path("stat", &path)?.is_symlink() {
            fs::remove_file(&path).path("remove", &path)?;
            fs::write(&path, content).path("write", &path)?;
        }
    }
    if run.as_ref().is_some_and(|run| run.ignored) {
        let path = directory.join(RUN);
        fs::rename(&path, directory.join("run.Dockerfile.ignore")).path("rename", &path)?;
    }
    Ok(())
}

/// Copies what an extension brings along: directories, files and links with their modes. Nothing there is fine.
fn copy_tree(from: &Path, to: &Path) -> Result<(), PathError> {
    let mut directories = Vec::new();
    for entry in WalkDir::new(from).min_depth(1) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = error.path().unwrap_or(from).to_owned();
                match error.into_io_error().unwrap_or_else(|| io::Error::other("a loop of links")) {
                    missing if missing.kind() == ErrorKind::NotFound && path == from => return Ok(()),
                    error => return Err(error).path("read", &path),
                }
            }
        };
        let source = entry.path();
        let target = to.join(source.strip_prefix(from).unwrap_or(source));
        let kind = entry.file_type();
        if kind.is_dir() {
            fs::create_dir(&target).path("create directory", &target)?;
            directories.push((source.to_owned(), target));
        } else if kind.is_symlink() {
            let link = fs::read_link(source).path("read link", source)?;
            symlink(link, &target).path("create link", &target)?;
        } else if kind.is_file() {
            fs::copy(source, &target).path("copy", source)?;
        } else {
            return Err(io::Error::other("neither a file nor a directory nor a link")).path("copy", source);
        }
    }
    // From the deepest on, and last of all: a directory that may not be written had to be filled first.
    for (source, target) in directories.into_iter().rev() {
        let permissions = fs::metadata(&source).path("stat", &source)?.permissions();
        fs::set_permissions(&target, permissions).path("change mode of", &target)?;
    }
    Ok(())
}

//! Reading files of the specification, with errors that name them.
//!
//! Here, and not in the `lifecycle` package, because the launcher reads one too; writing is `lifecycle::file`'s.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// An operation on a path that failed; reads `open /layers/group.toml: no such file or directory`.
///
/// One phrase, and so without a [`source`](std::error::Error::source): a chain of causes would say the reason twice.
#[derive(Debug)]
pub struct PathError {
    /// What was being done: `open`, `read`, `write`, `rename`.
    pub operation: &'static str,
    /// To which file.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.operation, self.path.display(), describe(&self.source))
    }
}

impl std::error::Error for PathError {}

/// The operating system's words without Rust's `(os error 2)`, lower-case, so that they read inside a sentence.
pub fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    // Also in an error of somebody else's that begins with the system's.
    text.split_once(" (os error ").map(|(system, _)| system.to_lowercase()).unwrap_or(text)
}

/// Adds the operation and the path to an [`io::Error`].
pub trait PathContext<T> {
    /// `operation` reads before the path: `open`, `read`, `create`.
    fn path(self, operation: &'static str, path: &Path) -> Result<T, PathError>;
}

impl<T> PathContext<T> for io::Result<T> {
    fn path(self, operation: &'static str, path: &Path) -> Result<T, PathError> {
        self.map_err(|source| PathError { operation, path: path.to_owned(), source })
    }
}

/// Why a file of the specification could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] PathError),
    /// It is not the TOML that it should be.
    #[error("parse {}: {reason}", .path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Line, key and what was expected. Quotes content of the file only where [`load`] was used.
        reason: String,
    },
}

impl LoadError {
    /// Whether the file is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Read(PathError { source, .. }) if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Files of the specification are small; a larger one is refused instead of filling memory.
const LARGEST: u64 = 64 << 20;

fn read_text(path: &Path) -> Result<String, LoadError> {
    read_all(File::open(path).path("open", path)?, path)
}

fn read_all(file: File, path: &Path) -> Result<String, LoadError> {
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).path("read", path)?;
    if bytes.len() as u64 > LARGEST {
        let reason = format!("the file is larger than {} MiB", LARGEST >> 20);
        return Err(LoadError::Parse { path: path.to_owned(), reason });
    }
    utf8(path, &bytes).map(str::to_owned)
}

fn utf8<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str, LoadError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count() + 1;
        LoadError::Parse { path: path.to_owned(), reason: format!("line {line}: not UTF-8") }
    })
}

/// Loads a TOML file. An error quotes the value that is wrong: for files of the platform, and for phases that hold no
/// credentials.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, LoadError> {
    platform_spec::text::from_toml(&read_text(path)?)
        .map_err(|error| LoadError::Parse { path: path.to_owned(), reason: error.to_string() })
}

/// Reads a TOML file that a buildpack may have written, for a phase that holds credentials: an error quotes nothing
/// of its content, which may be somebody's secret. `content` was read without following links; `path` is for the error.
pub fn parse_hostile<T: DeserializeOwned>(path: &Path, content: &[u8]) -> Result<T, LoadError> {
    platform_spec::text::from_toml(utf8(path, content)?)
        .map_err(|error| LoadError::Parse { path: path.to_owned(), reason: error.without_content().to_string() })
}

/// Loads a TOML file as [`parse_hostile`] reads it. The path is followed: open it yourself where it may be a link. A
/// pipe, which nobody may ever write to, a socket or a device is refused.
pub fn load_hostile<T: DeserializeOwned>(path: &Path) -> Result<T, LoadError> {
    let mut options = OpenOptions::new();
    let options = options.read(true).custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits());
    let refused = || PathError {
        operation: "read",
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, "not a regular file"),
    };
    let file = match options.open(path) {
        Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => return Err(refused().into()),
        opened => opened.path("open", path)?,
    };
    if !file.metadata().path("stat", path)?.is_file() {
        return Err(refused().into());
    }
    parse_hostile(path, read_all(file, path)?.as_bytes())
}

/// Loads a TOML file; a missing one is `None`.
pub fn load_if_there<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, LoadError> {
    match load(path) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_missing_file_is_named_as_platforms_expect() {
        let error = load::<toml::Table>(Path::new("/no/such/group.toml")).expect_err("there is none");
        assert_eq!(error.to_string(), "open /no/such/group.toml: no such file or directory");
        assert!(error.is_missing());
    }

    #[test]
    fn malformed_and_non_utf8_files_are_named_with_the_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.toml");
        for (content, line) in [(&b"x = 1\ny"[..], "2"), (b"x = 1\n\xff = 2", "line 2: not UTF-8")] {
            fs::write(&path, content).expect("written");
            let error = load::<toml::Table>(&path).expect_err("malformed").to_string();
            assert!(error.starts_with(&format!("parse {}: ", path.display())) && error.contains(line), "{error}");
        }
    }

    #[test]
    fn the_systems_words_whoever_wraps_them() {
        let wrapped = tempfile::tempdir_in("/no/such/directory").expect_err("there is none");
        for error in [io::Error::from_raw_os_error(Errno::ENOENT as i32), wrapped] {
            assert_eq!(describe(&error), "no such file or directory", "{error:?}");
        }
        assert_eq!(describe(&io::Error::other("Said by Somebody")), "Said by Somebody");
    }

    #[test]
    fn nobody_is_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let (fifo, socket) = (dir.path().join("fifo"), dir.path().join("socket"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("made");
        nix::sys::stat::mknod(&socket, nix::sys::stat::SFlag::S_IFSOCK, nix::sys::stat::Mode::S_IRWXU, 0)
            .expect("a socket");
        for path in [fifo.as_path(), &socket, Path::new("/dev/null"), dir.path()] {
            let error = load_hostile::<toml::Table>(path).expect_err("refused").to_string();
            assert_eq!(error, format!("read {}: not a regular file", path.display()));
        }
    }

    #[test]
    fn a_hostile_file_is_not_quoted() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.toml");
        for content in ["[types]\nlaunch = \"s3cret\"", "s3cret", "s3cret = 1\ns3cret = 2", "types = 's3cret'"] {
            fs::write(&path, content).expect("written");
            let error = load_hostile::<platform_spec::layer::Layer>(&path).expect_err("malformed").to_string();
            assert!(error.contains("line ") && !error.contains("s3cret"), "{error}");
        }
        let error = load::<platform_spec::layer::Layer>(&path).expect_err("malformed").to_string();
        assert!(
            error.ends_with(r#"line 1, column 9: key 'types': expected a table, found string "s3cret""#),
            "{error}"
        );
    }
}

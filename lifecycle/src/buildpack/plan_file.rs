//! The plan file of one run of `bin/detect`, `bin/build` or `bin/generate`.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use platform_spec::text::from_toml;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use thiserror::Error;

use crate::file::{PathContext, PathError};

/// No build plan is as large as this, in bytes; a larger file is refused instead of filling memory.
const LARGEST: u64 = 16 << 20;

/// A `plan.toml` in a temporary directory of its own, which goes away with this value.
#[derive(Debug)]
pub struct PlanFile {
    /// Held so that it is removed on drop.
    _directory: TempDir,
    path: PathBuf,
}

/// Why what an executable left as its plan cannot be used.
#[derive(Debug, Error)]
pub enum PlanFileError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] PathError),
    /// It is not a regular file any more.
    #[error("read {}: not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// It is not the TOML that it should be.
    #[error("parse {}: {reason}", .path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Line, key and what was expected.
        reason: String,
    },
}

impl PlanFile {
    /// Creates one with this content, readable by its owner only.
    pub fn create(content: &str) -> Result<Self, PathError> {
        let parent = std::env::temp_dir();
        let directory =
            tempfile::Builder::new().prefix("plan.").tempdir_in(&parent).path("create a directory in", &parent)?;
        let path = std::path::absolute(directory.path().join("plan.toml")).path("resolve", directory.path())?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).path("create", &path)?;
        file.write_all(content.as_bytes()).path("write", &path)?;
        Ok(Self { _directory: directory, path })
    }

    /// Where it is, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what an executable left there. The executable may have put anything in its place: a symlink is not
    /// followed and a pipe is not waited for.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, PlanFileError> {
        let path = &self.path;
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).path("open", path)?;
        if !file.metadata().path("stat", path)?.is_file() {
            return Err(PlanFileError::NotAFile(path.clone()));
        }
        let parse = |reason: String| PlanFileError::Parse { path: path.clone(), reason };
        let mut bytes = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut bytes).path("read", path)?;
        if bytes.len() as u64 > LARGEST {
            return Err(parse(format!("the file is larger than {} MiB", LARGEST >> 20)));
        }
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let line = bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count() + 1;
            parse(format!("line {line}: not UTF-8"))
        })?;
        from_toml(text).map_err(|error| parse(error.to_string().trim_end().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_private_and_goes_away() {
        let plan = PlanFile::create("x = 1").expect("created");
        let path = plan.path().to_owned();
        assert!(path.is_absolute() && path.ends_with("plan.toml"), "{}", path.display());
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o7777, 0o600);
        assert_eq!(plan.read::<toml::Table>().expect("read")["x"].as_integer(), Some(1));
        drop(plan);
        assert!(!path.parent().expect("a parent").exists());
    }

    #[test]
    fn whatever_an_executable_left_there_is_an_error_that_names_it() {
        type Replace = fn(&Path);
        let cases: [(&str, Replace, &str); 7] = [
            ("removed", |path| fs::remove_file(path).expect("removed"), "no such file"),
            ("malformed", |path| fs::write(path, "x = ").expect("written"), "line 1"),
            ("not UTF-8", |path| fs::write(path, b"\n\xff").expect("written"), "line 2: not UTF-8"),
            (
                "a symlink",
                |path| {
                    fs::remove_file(path).expect("removed");
                    std::os::unix::fs::symlink("/etc/passwd", path).expect("linked");
                },
                "symbolic link",
            ),
            (
                "a pipe",
                |path| {
                    fs::remove_file(path).expect("removed");
                    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR).expect("made");
                },
                "not a regular file",
            ),
            (
                "a directory",
                |path| {
                    fs::remove_file(path).expect("removed");
                    fs::create_dir(path).expect("made");
                },
                "not a regular file",
            ),
            (
                "far too large",
                |path| fs::File::create(path).and_then(|file| file.set_len(LARGEST + 1)).expect("made"),
                "larger than 16 MiB",
            ),
        ];
        for (name, replace, expected) in cases {
            let plan = PlanFile::create("").expect("created");
            replace(plan.path());
            let error = plan.read::<toml::Table>().expect_err(name).to_string();
            assert!(error.contains(&plan.path().display().to_string()) && error.contains(expected), "{name}: {error}");
        }
    }
}

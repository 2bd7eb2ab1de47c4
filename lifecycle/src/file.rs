//! Files of the specification: read with an error that names them, written whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use thiserror::Error;

/// An operation on a path that failed; reads `open /layers/group.toml: no such file or directory`.
#[derive(Debug, Error)]
#[error("{operation} {}: {}", .path.display(), describe(.source))]
pub struct PathError {
    /// What was being done: `open`, `read`, `write`, `rename`.
    pub operation: &'static str,
    /// To which file.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

/// The operating system's words without Rust's `(os error 2)`, lower-case, so that they read inside a sentence.
pub fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.find(" (os error ").map_or(text.as_str(), |at| &text[..at]);
    if error.raw_os_error().is_some() { text.to_lowercase() } else { text.to_owned() }
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
    let file = File::open(path).path("open", path)?;
    let parse = |reason: String| LoadError::Parse { path: path.to_owned(), reason };
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).path("read", path)?;
    if bytes.len() as u64 > LARGEST {
        return Err(parse(format!("the file is larger than {} MiB", LARGEST >> 20)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        parse(format!("line {line}: not UTF-8"))
    })
}

/// Loads a TOML file.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, LoadError> {
    let text = read_text(path)?;
    platform_spec::text::from_toml(&text)
        .map_err(|error| LoadError::Parse { path: path.to_owned(), reason: error.to_string().trim_end().to_owned() })
}

/// Loads a TOML file; a missing one is `None`.
pub fn load_if_there<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, LoadError> {
    match load(path) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file whole: a temporary file beside it, then a rename, so that a reader sees the old content or the new.
/// Where that cannot be (a directory we may not write, a bind-mounted file, `/dev/stdout`) it is written in place.
/// Missing parent directories are created. The mode is 0666 less the umask, as for any new file.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<(), PathError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).path("create directory", parent)?;
    }
    let in_place = || -> Result<(), PathError> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path).path("open", path)?;
        file.write_all(content).path("write", path)
    };
    // A symlink is written through, and so is a device or a pipe: none of them is to be replaced by a file.
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => return in_place(),
        Ok(_) | Err(_) => {}
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = path.with_file_name(name);
    let renamed = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&beside)?;
        if let Ok(old) = fs::metadata(path) {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(content)?;
        drop(file);
        fs::rename(&beside, path)
    })();
    match renamed {
        Ok(()) => Ok(()),
        Err(error) => {
            let _ = fs::remove_file(&beside);
            let elsewhere =
                [libc_errno::EACCES, libc_errno::EPERM, libc_errno::EROFS, libc_errno::EBUSY, libc_errno::EXDEV];
            if error.raw_os_error().is_some_and(|code| elsewhere.contains(&code)) {
                in_place()
            } else {
                Err(error).path("write", path)
            }
        }
    }
}

/// The few error numbers after which writing in place is tried.
mod libc_errno {
    use nix::errno::Errno;

    pub(super) const EACCES: i32 = Errno::EACCES as i32;
    pub(super) const EPERM: i32 = Errno::EPERM as i32;
    pub(super) const EROFS: i32 = Errno::EROFS as i32;
    pub(super) const EBUSY: i32 = Errno::EBUSY as i32;
    pub(super) const EXDEV: i32 = Errno::EXDEV as i32;
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

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
    fn written_whole_and_the_mode_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("sub/a.toml");
        write_whole(&path, b"one").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        let before = fs::metadata(&path).expect("there").ino();
        write_whole(&path, b"two").expect("written");
        let after = fs::metadata(&path).expect("there");
        assert_eq!(fs::read(&path).expect("read"), b"two");
        assert_eq!(after.permissions().mode() & 0o7777, 0o640);
        assert_ne!(before, after.ino(), "a reader of the old file still sees it whole");
        assert_eq!(
            fs::read_dir(path.parent().expect("parent")).expect("listed").count(),
            1,
            "nothing is left beside it"
        );
    }

    #[test]
    fn a_symlink_and_a_device_are_written_through() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        write_whole(&link, b"x").expect("written");
        assert_eq!(fs::read(&file).expect("read"), b"x");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        write_whole(Path::new("/dev/null"), b"x").expect("written");
        assert!(fs::metadata("/dev/null").expect("there").file_type().is_char_device());
    }
}

//! Finding an executable as a shell does, but never in a relative directory.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, eaccess};
use thiserror::Error;

use crate::file::describe;

/// Why a command cannot be started.
#[derive(Debug, Error)]
pub enum LookupError {
    /// No directory of `PATH` has it.
    #[error("exec: {0:?}: executable file not found in $PATH")]
    NotInPath(OsString),
    /// A relative directory of `PATH` has it: what is started must not depend on where the launcher is.
    #[error("exec: {0:?}: found only relative to the current directory, which $PATH must not name")]
    Relative(OsString),
    /// A path was given, and it leads to nothing that can be executed.
    #[error("exec: {command:?}: {}", describe(.reason))]
    NotExecutable {
        /// The path.
        command: OsString,
        /// Why not. (Told by the message, and so no cause of its own.)
        reason: io::Error,
    },
}

/// The path of an executable: `command` itself if it has a `/`, else the first in the directories of `path`.
/// The user's identity decides what is executable, not the mode alone.
pub fn find(command: &OsStr, path: Option<&OsStr>) -> Result<PathBuf, LookupError> {
    if command.as_bytes().contains(&b'/') {
        return match check(Path::new(command)) {
            Ok(()) => Ok(command.into()),
            Err(reason) => Err(LookupError::NotExecutable { command: command.to_owned(), reason }),
        };
    }
    let path = path.unwrap_or_default();
    // An empty command would name each directory itself, an empty PATH the current one.
    let dirs = path.as_bytes().split(|byte| *byte == b':').filter(|_| !path.is_empty() && !command.is_empty());
    for dir in dirs {
        let candidate = Path::new(OsStr::from_bytes(dir)).join(command);
        if check(&candidate).is_ok() {
            if candidate.is_absolute() {
                return Ok(candidate);
            }
            return Err(LookupError::Relative(command.to_owned()));
        }
    }
    Err(LookupError::NotInPath(command.to_owned()))
}

fn check(path: &Path) -> io::Result<()> {
    let found = fs::metadata(path)?;
    if found.is_dir() {
        return Err(Errno::EISDIR.into());
    }
    match eaccess(path, AccessFlags::X_OK) {
        // Kernels and container sandboxes that do not have the call, or refuse it.
        Err(Errno::ENOSYS | Errno::EPERM) if found.permissions().mode() & 0o111 != 0 => Ok(()),
        Err(Errno::ENOSYS | Errno::EPERM) => Err(Errno::EACCES.into()),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_directory_that_has_an_executable() {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, mode) in [("one/plain", 0o644), ("two/plain", 0o755), ("two/tool", 0o755), ("three/tool", 0o755)] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            fs::write(&path, "").expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        }
        fs::create_dir_all(dir.path().join("one/tool")).expect("created");
        let at = |name: &str| dir.path().join(name).into_os_string().into_string().expect("UTF-8");
        let path = ["one", "none", "two", "three"].map(&at).join(":");
        // A relative directory matters only if it is the first to have the command.
        let relative_last = format!("{path}:");
        for (command, path, found) in [
            ("tool", &path, Ok(at("two/tool"))),
            ("plain", &path, Ok(at("two/plain"))),
            ("tool", &relative_last, Ok(at("two/tool"))),
            (&*at("three/tool"), &path, Ok(at("three/tool"))),
            ("none", &path, Err("exec: \"none\": executable file not found in $PATH".to_owned())),
            ("", &path, Err("exec: \"\": executable file not found in $PATH".to_owned())),
            ("tool", &String::new(), Err("exec: \"tool\": executable file not found in $PATH".to_owned())),
            (&*at("one/plain"), &path, Err(format!("exec: {:?}: permission denied", at("one/plain")))),
            (&*at("one/tool"), &path, Err(format!("exec: {:?}: is a directory", at("one/tool")))),
            (&*at("none/x"), &path, Err(format!("exec: {:?}: no such file or directory", at("none/x")))),
        ] {
            let got = find(OsStr::new(command), Some(OsStr::new(path))).map_err(|error| error.to_string());
            assert_eq!(got, found.map(PathBuf::from), "{command} in {path}");
        }
        assert!(matches!(find(OsStr::new("tool"), None), Err(LookupError::NotInPath(_))));
    }

    #[test]
    fn a_relative_directory_is_not_searched() {
        // The tests' directory is that of the package, which has `src`; no file in it can be executed, but it has
        // a directory above it with everything.
        let up = "../".repeat(40);
        for path in [format!("{up}bin"), format!("{up}bin:/bin"), format!("none:{up}bin")] {
            let error = find(OsStr::new("sh"), Some(OsStr::new(&path))).expect_err("relative");
            assert!(matches!(error, LookupError::Relative(_)), "{error}");
        }
        // A relative command is the caller's own choice.
        find(OsStr::new(&format!("{up}bin/sh")), None).expect("found");
    }
}

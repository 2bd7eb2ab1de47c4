//! Programs in a layer that are for another machine than the layer (target-arch.md, *The ELF guard*).
//!
//! Whoever reads a layer's files, to archive them or to unpack them, has the first bytes of each in hand: looking at them
//! costs no read. A [`Guard`] is told of every file and keeps the first few that do not fit, by name, whichever thread
//! saw them when, and how many there are.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use glob::{MatchOptions, Pattern, PatternError};
use platform_spec::input::env;
use platform_spec::target::Platform;
use thiserror::Error;

use crate::elf;

/// So many are named.
const SHOWN: usize = 5;

/// Globs of paths about which nothing is said (`CNB_ARCH_CHECK_IGNORE`).
///
/// `*` and `?` match no slash, `[a-z]` and `[!a-z]` are classes, `**` is any number of directories. One that does not begin
/// with a slash is looked for at every depth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathGlobs(Vec<Pattern>);

/// A glob is malformed.
#[derive(Debug, Error)]
#[error("{} has the glob {glob:?}", env::ARCH_CHECK_IGNORE)]
pub struct PathGlobError {
    /// As it was given.
    glob: String,
    /// What is wrong with it.
    #[source]
    cause: PatternError,
}

/// What looks at the files of one layer.
#[derive(Debug)]
pub struct Guard {
    expected: Expected,
    ignored: PathGlobs,
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    first: BTreeMap<Vec<u8>, &'static str>,
    count: u64,
}

/// Programs that are for another machine. Displayed as a list of names, and how many more there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// The first of them by name, and the architecture of each.
    pub first: Vec<(PathBuf, &'static str)>,
    /// How many there are in all.
    pub count: u64,
    /// The machine that they should be for, or one of them.
    pub expected: Expected,
}

/// The machines that programs in a layer may be for. Displayed as a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected(Vec<Platform>);

impl PathGlobs {
    /// Reads globs.
    pub fn new(globs: &[String]) -> Result<Self, PathGlobError> {
        let read = |glob: &String| {
            let path = glob.trim_end_matches('/').trim_start_matches("./");
            let anywhere = if path.starts_with('/') { "" } else { "/**/" };
            Pattern::new(&format!("{anywhere}{path}")).map_err(|cause| PathGlobError { glob: glob.clone(), cause })
        };
        globs.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Whether one matches a path, or a directory on the way to it.
    fn match_any(&self, name: &[u8]) -> bool {
        let options =
            MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };
        let matches = |at: &Path| self.0.iter().any(|glob| glob.matches_with(&at.to_string_lossy(), options));
        !self.0.is_empty() && Path::new(OsStr::from_bytes(name)).ancestors().any(matches)
    }
}

impl Guard {
    /// `expected` are the machines that the layer may be for, `ignored` what nothing is said about.
    pub fn new(expected: &[&Platform], ignored: &PathGlobs) -> Self {
        let mut machines: Vec<Platform> = Vec::new();
        for &machine in expected {
            if !machines.contains(machine) {
                machines.push(machine.clone());
            }
        }
        Self { expected: Expected(machines), ignored: ignored.clone(), found: Mutex::default() }
    }

    /// The layer is read from its beginning, perhaps again: what was found before is forgotten.
    pub(crate) fn begin(&self) {
        *self.found() = Found::default();
    }

    /// Looks at a file: its name in the tar, its mode, the beginning of its content.
    pub(crate) fn look(&self, name: &[u8], mode: u32, start: &[u8]) {
        let Some(found) = elf::architecture(start) else { return };
        let fits = self.expected.0.iter().any(|machine| elf::runs_on(found, machine));
        if fits || !is_run(name, mode) || self.ignored.match_any(name) {
            return;
        }
        let mut all = self.found();
        all.count += 1;
        if all.first.len() < SHOWN || all.first.last_key_value().is_some_and(|(last, _)| name < last.as_slice()) {
            all.first.insert(name.to_owned(), found);
            if all.first.len() > SHOWN {
                all.first.pop_last();
            }
        }
    }

    /// What was found; `None` if everything fits.
    pub fn foreign(&self) -> Option<Foreign> {
        let found = self.found();
        let path = |name: &[u8]| PathBuf::from(OsStr::from_bytes(name));
        (found.count > 0).then(|| Foreign {
            first: found.first.iter().map(|(name, arch)| (path(name), *arch)).collect(),
            count: found.count,
            expected: self.expected.clone(),
        })
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a file is there to be run, by itself or by others: it may be executed, or is in or beneath a `bin`.
fn is_run(name: &[u8], mode: u32) -> bool {
    let mut directories = name.split(|byte| *byte == b'/').rev().skip(1);
    mode & 0o111 != 0 || directories.any(|directory| directory == b"bin")
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, machine) in self.0.iter().enumerate() {
            write!(f, "{}{machine}", if at == 0 { "" } else { " or " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (path, arch)) in self.first.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { ", " })?;
            // Whoever chose the name does not write the log.
            match path.as_os_str().as_bytes().iter().any(u8::is_ascii_control) {
                true => write!(f, "{path:?} ({arch})")?,
                false => write!(f, "{} ({arch})", path.display())?,
            }
        }
        match self.count - self.first.len() as u64 {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARM64: &[u8; 24] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\xb7\0more";

    fn guard(expected: &str, ignored: &[&str]) -> Guard {
        let ignored: Vec<String> = ignored.iter().map(|&glob| glob.to_owned()).collect();
        let expected: Vec<Platform> = expected.split(' ').map(|machine| machine.parse().expect("known")).collect();
        Guard::new(&expected.iter().collect::<Vec<_>>(), &PathGlobs::new(&ignored).expect("globs"))
    }

    #[test]
    fn which_files() {
        for (expected, ignored, name, mode, found) in [
            ("amd64", &[][..], "/layers/a/b/program", 0o755, true),
            ("amd64", &[], "/layers/a/b/program", 0o644, false),
            ("amd64", &[], "/layers/a/b/bin/program", 0o644, true),
            ("amd64", &[], "/layers/a/b/bin/deep/program", 0o644, true),
            ("amd64", &[], "/layers/a/b/cabin/program", 0o644, false),
            ("amd64", &[], "/layers/a/b/bin", 0o644, false),
            ("arm64", &[], "/layers/a/b/program", 0o755, false),
            ("amd64", &["/layers/a/b/*"], "/layers/a/b/program", 0o755, false),
            ("amd64", &["/layers/a/b/*"], "/layers/a/b/deep/er/program", 0o755, false),
            ("amd64", &["/layers/*/b"], "/layers/a/b/program", 0o755, false),
            ("amd64", &["/layers/*/c", "*.so", "layer"], "/layers/a/b/program", 0o755, true),
            ("amd64", &["*.so"], "/layers/a/b/program.so", 0o755, false),
            ("amd64", &["*.so"], "/program.so", 0o755, false),
            ("amd64", &["a/b"], "/layers/a/b/program", 0o755, false),
            ("amd64", &["./a/b/"], "/layers/a/b/program", 0o755, false),
            ("amd64", &["/layers/**/program"], "/layers/a/b/program", 0o755, false),
            ("amd64", &["/layers/**/program"], "/layers/program", 0o755, false),
            ("amd64", &["/layers/**"], "/layers/a/b/program", 0o755, false),
            ("amd64", &["**/bin"], "/layers/a/b/bin/program", 0o755, false),
            ("amd64", &["/layers/*/program"], "/layers/a/b/program", 0o755, true),
            ("amd64", &["/layers/?/[a-c]"], "/layers/a/b/program", 0o755, false),
            ("amd64", &["/layers/?/[!a-c]"], "/layers/a/b/program", 0o755, true),
            ("amd64", &["*.so"], "/layers/a/.hidden.so", 0o755, false),
            ("amd64 arm64", &[], "/layers/a/b/program", 0o755, false),
            ("amd64 s390x", &[], "/layers/a/b/program", 0o755, true),
        ] {
            let guard = guard(expected, ignored);
            guard.begin();
            guard.look(name.as_bytes(), mode, ARM64);
            assert_eq!(guard.foreign().is_some(), found, "{expected} {ignored:?} {name} {mode:o}");
        }
        let guard = guard("amd64", &[]);
        guard.look(b"/bin/script", 0o755, b"#!/bin/sh\necho something that is long enough\n");
        guard.look(b"/bin/empty", 0o755, b"");
        assert_eq!(guard.foreign(), None);
    }

    #[test]
    fn globs_that_are_malformed() {
        for (glob, cause) in [("[", "invalid range pattern"), ("/a/[b", "invalid range"), ("a/**b", "path component")] {
            let error = PathGlobs::new(&["*.so".to_owned(), glob.to_owned()]).expect_err(glob);
            assert_eq!(error.to_string(), format!("CNB_ARCH_CHECK_IGNORE has the glob {glob:?}"));
            assert!(error.cause.to_string().contains(cause), "{}", error.cause);
        }
        let guard = guard("amd64", &["*.so"]);
        guard.look(b"/layers/\xff\xfe.so", 0o755, ARM64);
        assert_eq!(guard.foreign(), None, "a name that is no text");
    }

    #[test]
    fn machines_that_are_expected_are_all_named() {
        for (expected, shown) in [("amd64", "linux/amd64"), ("amd64 s390x amd64", "linux/amd64 or linux/s390x")] {
            let guard = guard(expected, &[]);
            guard.look(b"a", 0o755, ARM64);
            assert_eq!(guard.foreign().expect("found").expected.to_string(), shown);
        }
    }

    #[test]
    fn the_first_are_named_and_the_others_counted() {
        let guard = guard("amd64", &[]);
        for name in ["g", "b", "f", "a", "c", "e", "d"] {
            guard.look(name.as_bytes(), 0o755, ARM64);
        }
        let foreign = guard.foreign().expect("found");
        assert_eq!(foreign.to_string(), "a (arm64), b (arm64), c (arm64), d (arm64), e (arm64) and 2 more");
        guard.begin();
        assert_eq!(guard.foreign(), None, "another reading");
        guard.look(b"a", 0o755, ARM64);
        assert_eq!(guard.foreign().expect("found").to_string(), "a (arm64)");
        guard.look(b"b\n\x1b[31mERROR", 0o755, ARM64);
        assert_eq!(guard.foreign().expect("found").to_string(), r#"a (arm64), "b\n\u{1b}[31mERROR" (arm64)"#);
    }
}

//! Running a program of the system, and where this package's files are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program that has to succeed.
#[derive(Debug)]
pub struct Tool(Command);

impl Tool {
    /// A program of the system.
    pub fn new(program: &str) -> Self {
        Self(Command::new(program))
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.0.args(arguments);
        self
    }

    /// Runs it in a directory.
    #[must_use]
    pub fn current_dir(mut self, directory: &Path) -> Self {
        self.0.current_dir(directory);
        self
    }

    /// What it prints on stdout.
    ///
    /// # Panics
    ///
    /// If it is not there or fails.
    pub fn run(mut self) -> String {
        let output = self.0.output().unwrap_or_else(|error| panic!("{:?}: {error}; `make set-up` installs it", self.0));
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{:?}: {}\n{stdout}{stderr}", self.0, output.status);
        stdout.into_owned()
    }
}

/// A file or a directory under `samples`.
pub fn samples(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name)
}

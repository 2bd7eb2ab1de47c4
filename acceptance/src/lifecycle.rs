//! The executables that are tested, and running one of them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tempfile::TempDir;

use crate::architecture::Architecture;
use crate::root::enter;
use crate::{Tool, USER, umask};

/// A directory of executables: `LIFECYCLE_DIR`, or where `make build` leaves them.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    directory: PathBuf,
    /// Keeps the directory where it is a copy.
    _copy: Option<Arc<TempDir>>,
}

impl Lifecycle {
    /// The one under test.
    ///
    /// # Panics
    ///
    /// If it is not there.
    pub fn under_test() -> Self {
        let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../out/lifecycle");
        Self::at(&std::env::var_os("LIFECYCLE_DIR").map_or_else(built, PathBuf::from))
    }

    /// The one under test, for the other architecture: its directory is that of [`Lifecycle::under_test`] with `-<architecture>`
    /// behind its name.
    ///
    /// # Panics
    ///
    /// If it is not there.
    pub fn of_other_architecture() -> Self {
        let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../out/lifecycle");
        let here = std::env::var_os("LIFECYCLE_DIR").map_or_else(built, PathBuf::from);
        let mut name = here.file_name().expect("a directory's name").to_owned();
        name.push(format!("-{}", Architecture::OTHER.name()));
        Self::at(&here.with_file_name(name))
    }

    /// Another lifecycle, to compare with.
    ///
    /// # Panics
    ///
    /// If `LIFECYCLE_REFERENCE_DIR` is unset: it names the directory of its executables.
    pub fn reference() -> Self {
        let directory = std::env::var_os("LIFECYCLE_REFERENCE_DIR").expect(
            "LIFECYCLE_REFERENCE_DIR is unset: it names a directory with another lifecycle's executables to compare with",
        );
        Self::at(directory.as_ref())
    }

    /// The one in a directory.
    ///
    /// # Panics
    ///
    /// If it is not there.
    pub fn at(directory: &Path) -> Self {
        umask::usual();
        let directory = directory.canonicalize().unwrap_or_else(|error| {
            panic!("{}: {error}; `make build` makes the executables", directory.display());
        });
        let open = |path: &Path| fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o001 != 0);
        if directory.ancestors().all(open) {
            return Self { directory, _copy: None };
        }
        // Phases are run as another user than root, who cannot go there.
        let copy = copy_of(&directory);
        Self { directory: copy.path().to_owned(), _copy: Some(copy) }
    }

    /// Where the executables are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// An executable, to be run as the build image's user with nothing in its environment but `PATH` and the newest Platform
    /// API.
    pub fn phase(&self, executable: &str) -> Phase {
        let phase = Phase::new(&self.directory.join(executable), User::Number(USER));
        Phase { lifecycle: Some(self.clone()), ..phase }
    }
}

/// A copy of a directory's files, the same one for all who want it at a time, and gone with the last of them.
fn copy_of(directory: &Path) -> Arc<TempDir> {
    static COPIES: Mutex<BTreeMap<PathBuf, Weak<TempDir>>> = Mutex::new(BTreeMap::new());
    let mut copies = COPIES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(copy) = copies.get(directory).and_then(Weak::upgrade) {
        return copy;
    }
    let copy = tempfile::Builder::new().prefix("lifecycle-under-test-").tempdir().expect("a directory");
    fs::set_permissions(copy.path(), fs::Permissions::from_mode(0o755)).expect("set");
    // By another process: a file that a child of this one has open for writing cannot be executed.
    Tool::new("cp").args(["--recursive", "--dereference"]).args([&directory.join("."), copy.path()]).run();
    let copy = Arc::new(copy);
    copies.insert(directory.to_owned(), Arc::downgrade(&copy));
    copy
}

/// A phase to be run.
#[derive(Debug)]
pub struct Phase {
    /// Keeps the executables where they are.
    lifecycle: Option<Lifecycle>,
    command: Command,
    flags: Vec<OsString>,
    arguments: Vec<OsString>,
    user: User,
}

/// As whom, and where, a phase is run.
#[derive(Debug)]
enum User {
    Root,
    Number(u32),
    /// In a root directory.
    Inside(PathBuf, u32),
}

impl Phase {
    fn new(executable: &Path, user: User) -> Self {
        let mut command = Command::new(executable);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("CNB_PLATFORM_API", "0.15").stdin(Stdio::null());
        Self { lifecycle: None, command, flags: Vec::new(), arguments: Vec::new(), user }
    }

    /// An executable of a root directory, to be run there as this user.
    pub(crate) fn inside(root: &Path, user: u32, executable: &Path) -> Self {
        Self::new(executable, User::Inside(root.to_owned(), user))
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Removes a variable.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Sets the Platform API.
    #[must_use]
    pub fn api(self, api: &str) -> Self {
        self.env("CNB_PLATFORM_API", api)
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(self, argument: impl AsRef<OsStr>) -> Self {
        self.args([argument])
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Adds a flag and its value, before all arguments.
    #[must_use]
    pub fn flag(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let mut word = OsString::from(format!("-{name}="));
        word.push(value);
        self.flags.push(word);
        self
    }

    /// Runs it in a directory.
    #[must_use]
    pub fn current_dir(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Runs it as root, as platforms do that mount a daemon's socket or credentials of root's.
    #[must_use]
    pub fn as_root(mut self) -> Self {
        self.user = match self.user {
            User::Root | User::Number(_) => User::Root,
            User::Inside(root, _) => User::Inside(root, 0),
        };
        self
    }

    /// The command, to be started otherwise than by [`Phase::run`] while its [`Lifecycle`] is there.
    pub fn command(self) -> Command {
        self.and_lifecycle().0
    }

    fn and_lifecycle(mut self) -> (Command, Option<Lifecycle>) {
        self.command.args(self.flags).args(self.arguments);
        match self.user {
            User::Root => {}
            User::Number(user) => {
                self.command.uid(user).gid(user);
            }
            User::Inside(root, user) => enter(&mut self.command, &root, &[], user),
        }
        (self.command, self.lifecycle)
    }

    /// Runs it to its end.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    #[must_use]
    pub fn run(self) -> Outcome {
        let (mut command, _lifecycle) = self.and_lifecycle();
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Outcome::new(format!("{command:?}"), &output)
    }
}

/// How a phase ended, and what it printed.
#[derive(Debug)]
pub struct Outcome {
    command: String,
    /// The exit status; `128 + n` where signal `n` ended it.
    pub code: i32,
    /// What it printed to stdout.
    pub stdout: String,
    /// What it printed to stderr.
    pub stderr: String,
}

impl Outcome {
    /// Of a process that has ended.
    pub fn new(command: String, output: &Output) -> Self {
        let signal = output.status.signal().map(|signal| 128 + signal);
        Self {
            command,
            code: output.status.code().or(signal).unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Both outputs: where a line is printed differs between lifecycles.
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// It ended well.
    ///
    /// # Panics
    ///
    /// If not.
    #[track_caller]
    pub fn succeeds(self) -> Self {
        self.ends_with(0)
    }

    /// It ended with this exit status.
    ///
    /// # Panics
    ///
    /// If not.
    #[track_caller]
    pub fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}\n{}", self.command, self.stdout, self.stderr);
        self
    }

    /// It printed this, on whichever output.
    ///
    /// # Panics
    ///
    /// If not.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.output().contains(text), "no {text:?} in\n{}\n{}\n{}", self.command, self.stdout, self.stderr);
        self
    }

    /// It printed nothing of this.
    ///
    /// # Panics
    ///
    /// If it did.
    #[track_caller]
    pub fn says_no(self, text: &str) -> Self {
        assert!(!self.output().contains(text), "{text:?} in\n{}\n{}\n{}", self.command, self.stdout, self.stderr);
        self
    }
}

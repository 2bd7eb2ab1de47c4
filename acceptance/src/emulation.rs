//! Running executables of the other architecture, by QEMU: in builder images and containers of that architecture.
//!
//! The kernel starts QEMU for them once it has been told so (`binfmt_misc`), with the interpreter opened at that time, so that it works in
//! root directories that have no QEMU.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::architecture::Architecture;
use crate::image::root_filesystem;
use crate::root::enter;

/// Where the kernel is told what starts which executables.
const BINFMT: &str = "/proc/sys/fs/binfmt_misc";

/// Whether this machine can run the other architecture's executables in a root directory of their own. Where it only has not been told to,
/// it is told.
///
/// # Errors
///
/// What is missing.
pub fn available() -> Result<(), String> {
    static AVAILABLE: OnceLock<Result<(), String>> = OnceLock::new();
    AVAILABLE.get_or_init(|| run_one().or_else(|_| register().and_then(|()| run_one()))).clone()
}

/// Whether a test that needs emulation can be run. Where not, it says why, and the test returns: only where `CI` is set
/// everything has to be tested.
///
/// # Panics
///
/// If it cannot, and `CI` is set.
pub fn can_be_tested() -> bool {
    let Err(reason) = available() else { return true };
    let reason = format!("{} cannot be emulated: {reason}", Architecture::OTHER.name());
    assert!(std::env::var_os("CI").is_none_or(|value| value.is_empty()), "{reason}");
    // Past what cargo keeps of tests that succeed.
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let _ = writeln!(io::stderr(), "left out: {test}: {reason}");
    false
}

/// Runs a program of the other architecture in a root directory.
fn run_one() -> Result<(), String> {
    let [(busybox, _), (bash, _)] = Architecture::OTHER.shells();
    for path in [busybox, bash] {
        if !path.exists() {
            return Err(format!("{} is missing; `make set-up` fetches it", path.display()));
        }
    }
    let root = tempfile::tempdir().map_err(|error| error.to_string())?;
    root_filesystem(root.path(), Architecture::OTHER);
    let mut command = Command::new("/bin/busybox");
    command.arg("true").env_clear().stdin(Stdio::null());
    enter(&mut command, root.path(), &[], 0);
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(error.to_string()),
    }
}

/// Tells the kernel, with the line that Debian's package has for that.
fn register() -> Result<(), String> {
    let machine = Architecture::OTHER.machine();
    let path = format!("/usr/lib/binfmt.d/qemu-{machine}.conf");
    let line = fs::read_to_string(&path)
        .map_err(|error| format!("{path}: {error}; `make set-up` installs qemu-user-static"))?;
    let told = Path::new(BINFMT).join("register");
    if !told.exists() {
        let mounted = Command::new("mount").args(["-t", "binfmt_misc", "none", BINFMT]).output();
        let said = mounted
            .map_or_else(|error| error.to_string(), |output| String::from_utf8_lossy(&output.stderr).trim().to_owned());
        if !told.exists() {
            return Err(format!("no binfmt_misc: {said}"));
        }
    }
    match fs::write(&told, line.trim_end()) {
        // Another test's process was first.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        written => written.map_err(|error| format!("{}: {error}", told.display())),
    }
}

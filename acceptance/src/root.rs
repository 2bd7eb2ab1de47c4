//! Running a command in a root directory of its own, as in a container that has volumes.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::chroot;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes a command run in a root directory, with `/dev` and `/proc`, as this user and the
/// group of the same number. `volumes` are directories and where they are seen: the place must exist in the root.
pub fn enter(command: &mut Command, root: &Path, volumes: &[(PathBuf, PathBuf)], user: u32) {
    let root = root.to_owned();
    let c_string = |path: &Path| CString::new(path.as_os_str().as_bytes()).expect("no NUL in a path");
    let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    let system = ["/dev", "/proc"].map(|path| (PathBuf::from(path), PathBuf::from(path)));
    let binds: Vec<_> =
        system.iter().chain(volumes).map(|(from, to)| (c_string(from), c_string(&inside(to)))).collect();
    let enter = move || -> io::Result<()> {
        use nix::mount::{MsFlags, mount};
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        for (from, to) in &binds {
            mount(Some(from.as_c_str()), to.as_c_str(), none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
        }
        chroot(&root)?;
        std::env::set_current_dir("/")?;
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        nix::unistd::setgroups(&[])?;
        nix::unistd::setgid(user.into())?;
        nix::unistd::setuid(user.into())?;
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made; what they need was allocated before.
    unsafe { command.pre_exec(enter) };
}

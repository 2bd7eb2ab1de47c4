//! Whom a phase runs as.
//!
//! Analyzer, restorer, exporter and creator may be started as root, so that they can read credentials and a daemon's
//! socket that are root's. After that they make the volumes the user's ([`ensure_owner`]) and become the user
//! ([`become_user`]); nothing of root is left. Detector and builder run other people's programs and refuse root
//! ([`refuse_root`]). All of them hide their memory from those programs ([`hide_memory`]).
//!
//! Started as the right user already, nothing here needs a privilege, and no system call that would is made: platforms
//! drop all capabilities.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{self, Gid, Uid};
use platform_spec::exit;
use rustix::fs::{Access, AtFlags, CWD, Dir, Mode, OFlags};
use rustix::io::Errno;
use thiserror::Error;

use crate::file::{PathContext, PathError};
use crate::phase::PhaseError;

/// A user and the user's primary group, as numbers: there need not be names for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
}

impl User {
    /// Whom this process runs as.
    pub fn current() -> Self {
        Self { uid: unistd::getuid().as_raw(), gid: unistd::getgid().as_raw() }
    }
}

/// Why a phase cannot run as whom it should.
#[derive(Debug, Error)]
pub enum PrivilegeError {
    /// Programs of buildpacks are not run as root.
    #[error("refusing to run as root")]
    Root,
    /// A volume cannot be made the user's.
    #[error(transparent)]
    Owner(#[from] PathError),
    /// Becoming the user failed.
    #[error("exec as user {}:{}", .user.uid, .user.gid)]
    Become {
        /// Whom.
        user: User,
        /// Why it failed.
        source: io::Error,
    },
    /// The process's memory cannot be hidden.
    #[error("hide the process's memory")]
    Hide(#[source] io::Error),
    /// `/etc/passwd` does not name the user.
    #[error("set environment for user {uid}: there is none in {PASSWD}")]
    NoAccount {
        /// Whom it should name.
        uid: u32,
    },
}

impl PhaseError for PrivilegeError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Root | Self::Owner(_) | Self::Become { .. } | Self::Hide(_) | Self::NoAccount { .. } => exit::GENERIC,
        }
    }
}

/// Fails for root.
pub fn refuse_root() -> Result<(), PrivilegeError> {
    if unistd::getuid().is_root() || unistd::geteuid().is_root() { Err(PrivilegeError::Root) } else { Ok(()) }
}

/// Makes the process undumpable: other processes of its user can neither read its memory, its environment and its
/// descriptors nor trace it. What it executes is not affected.
pub fn hide_memory() -> Result<(), PrivilegeError> {
    nix::sys::prctl::set_dumpable(false).map_err(|error| PrivilegeError::Hide(error.into()))
}

/// Becomes the user, with the user's group as the only one, for good. Does nothing where that is so already.
pub fn become_user(user: User) -> Result<(), PrivilegeError> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    if unistd::getuid() == uid && unistd::getgid() == gid {
        return Ok(());
    }
    (|| {
        // Groups first, the user last: afterwards neither could be changed.
        if unistd::geteuid().is_root() {
            unistd::setgroups(&[gid])?;
        }
        unistd::setresgid(gid, gid, gid)?;
        unistd::setresuid(uid, uid, uid)
    })()
    .map_err(|error| PrivilegeError::Become { user, source: error.into() })
}

/// Makes directories the user's, with all that is in them, where the user could not write them otherwise. What is in a
/// directory that is the user's already is taken to be the user's too. Missing ones are passed over.
pub fn ensure_owner<'a>(user: User, paths: impl IntoIterator<Item = &'a Path>) -> Result<(), PrivilegeError> {
    for path in paths {
        if path.as_os_str().is_empty() {
            continue;
        }
        // The path is the platform's, and followed; what is beneath it is not.
        match rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty()) {
            Ok(directory) => {
                if !writable(user, &directory, path)? {
                    own(user, directory, path)?;
                }
            }
            Err(Errno::NOENT) => {}
            // A directory that even we may not list can still be one that the user may write.
            Err(Errno::ACCESS) if rustix::fs::access(path, Access::WRITE_OK).is_ok() => {}
            Err(error) => Err(io::Error::from(error)).path("open", path)?,
        }
    }
    Ok(())
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// Whether the user can write the directory as it is.
fn writable(user: User, directory: &OwnedFd, path: &Path) -> Result<bool, PathError> {
    let stat = rustix::fs::fstat(directory).map_err(io::Error::from).path("stat", path)?;
    let mode = Mode::from_raw_mode(stat.st_mode);
    if stat.st_uid == user.uid || (stat.st_gid == user.gid && mode.contains(Mode::WGRP)) || mode.contains(Mode::WOTH) {
        return Ok(true);
    }
    // The user may have more groups than we know of: where we are the user, the system can be asked.
    let we = unistd::geteuid().as_raw() == user.uid && !unistd::geteuid().is_root();
    Ok(we && rustix::fs::accessat(directory, ".", Access::WRITE_OK, AtFlags::EACCESS).is_ok())
}

/// A directory whose entries are being given to the user.
struct Open {
    descriptor: OwnedFd,
    path: PathBuf,
    /// The entries that are still to do.
    names: Vec<OsString>,
}

impl Open {
    fn new(descriptor: OwnedFd, path: PathBuf) -> Result<Self, PathError> {
        let names = Dir::read_from(&descriptor)
            .and_then(|entries| {
                entries
                    .map(|entry| entry.map(|entry| OsString::from_vec(entry.file_name().to_bytes().to_vec())))
                    .filter(|name| !matches!(name, Ok(name) if name == "." || name == ".."))
                    .collect::<Result<Vec<_>, _>>()
            })
            .map_err(io::Error::from)
            .path("read directory", &path)?;
        Ok(Self { descriptor, path, names })
    }
}

/// Gives a directory to the user: what is in it first, so that a run that was killed is not taken for one that ended.
/// Everything goes by descriptor, and no symlink is followed.
fn own(user: User, descriptor: OwnedFd, path: &Path) -> Result<(), PathError> {
    let mut above = Vec::new();
    let mut here = Open::new(descriptor, path.to_owned())?;
    loop {
        let Some(name) = here.names.pop() else {
            chown(user, &here.descriptor, &here.path)?;
            match above.pop() {
                Some(parent) => here = parent,
                None => return Ok(()),
            }
            continue;
        };
        let path = here.path.join(&name);
        match rustix::fs::openat(&here.descriptor, &name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(descriptor) => above.push(std::mem::replace(&mut here, Open::new(descriptor, path)?)),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match rustix::fs::openat(&here.descriptor, &name, flags, Mode::empty()) {
                    Ok(descriptor) => chown(user, &descriptor, &path)?,
                    Err(Errno::NOENT) => {}
                    Err(error) => Err(io::Error::from(error)).path("open", &path)?,
                }
            }
            Err(Errno::NOENT) => {}
            Err(error) => Err(io::Error::from(error)).path("open", &path)?,
        }
    }
}

fn chown(user: User, descriptor: &OwnedFd, path: &Path) -> Result<(), PathError> {
    let stat = rustix::fs::fstat(descriptor).map_err(io::Error::from).path("stat", path)?;
    if stat.st_uid == user.uid && stat.st_gid == user.gid {
        return Ok(());
    }
    let (uid, gid) = (rustix::fs::Uid::from_raw(user.uid), rustix::fs::Gid::from_raw(user.gid));
    match rustix::fs::chownat(descriptor.as_fd(), "", Some(uid), Some(gid), AtFlags::EMPTY_PATH) {
        // A file that the platform mounted there to be read stays as it is.
        Ok(()) | Err(Errno::ROFS) => Ok(()),
        Err(error) => Err(io::Error::from(error)).path("chown", path),
    }
}

/// A line of `/etc/passwd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user's name, for `USER`.
    pub name: OsString,
    /// The home directory, for `HOME`.
    pub home: OsString,
}

const PASSWD: &str = "/etc/passwd";

/// The account of a user of this image: programs that are run as the user get its `HOME` and `USER`.
pub fn account(uid: u32) -> Result<Account, PrivilegeError> {
    let path = Path::new(PASSWD);
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read.path("read", path)?,
    };
    find_account(&text, uid).ok_or(PrivilegeError::NoAccount { uid })
}

/// `name:password:uid:gid:comment:home:shell`, in bytes: names need not be UTF-8.
fn find_account(passwd: &[u8], uid: u32) -> Option<Account> {
    passwd.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let (name, found) = (fields.next()?, fields.nth(1)?);
        let home = fields.nth(2)?;
        let same = str::from_utf8(found).ok()?.parse() == Ok(uid);
        same.then(|| Account { name: OsString::from_vec(name.to_vec()), home: OsString::from_vec(home.to_vec()) })
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
    use std::process::Command;

    use super::*;

    const USER: User = User { uid: 12_345, gid: 23_456 };

    fn owner(path: &Path) -> (u32, u32) {
        let found = fs::symlink_metadata(path).expect("there");
        (found.uid(), found.gid())
    }

    /// A directory with a file, a link to outside, a fifo and a directory in it.
    fn tree() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let volume = dir.path().join("volume");
        fs::create_dir_all(volume.join("sub/deep")).expect("created");
        fs::create_dir(dir.path().join("outside")).expect("created");
        fs::write(dir.path().join("outside/file"), "").expect("written");
        fs::write(volume.join("sub/deep/file"), "").expect("written");
        symlink("../../outside", volume.join("sub/link")).expect("linked");
        symlink("/nowhere", volume.join("dangling")).expect("linked");
        unistd::mkfifo(&volume.join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
        (dir, volume)
    }

    const INSIDE: [&str; 7] = ["", "sub", "sub/deep", "sub/deep/file", "sub/link", "dangling", "fifo"];

    #[test]
    fn a_volume_becomes_the_users_and_nothing_outside_does() {
        let (dir, volume) = tree();
        let link = dir.path().join("to-volume");
        symlink(&volume, &link).expect("linked");
        let result = ensure_owner(USER, [Path::new(""), Path::new("/no/such/volume"), &link]);
        if unistd::geteuid().is_root() {
            result.expect("owned");
            for path in INSIDE {
                assert_eq!(owner(&volume.join(path)), (USER.uid, USER.gid), "{path}");
            }
            for path in ["outside", "outside/file", "to-volume"] {
                assert_eq!(owner(&dir.path().join(path)).0, 0, "{path}");
            }
        } else {
            let error = result.expect_err("only root may").to_string();
            assert!(error.starts_with("chown ") && error.ends_with(": operation not permitted"), "{error}");
        }
    }

    #[test]
    fn a_volume_that_the_user_can_write_is_left_alone() {
        let (_dir, volume) = tree();
        let root = unistd::geteuid().is_root();
        let we = User { uid: unistd::geteuid().as_raw(), gid: unistd::getegid().as_raw() };
        let mut cases = vec![(we.uid, we.gid, 0o700, we), (we.uid, we.gid, 0o777, USER)];
        if root {
            cases.extend([(USER.uid, 7, 0o500, USER), (7, USER.gid, 0o770, USER)]);
        }
        for (uid, gid, mode, user) in cases {
            lchown(&volume, root.then_some(uid), root.then_some(gid)).expect("prepared");
            fs::set_permissions(&volume, fs::Permissions::from_mode(mode)).expect("prepared");
            let before = INSIDE.map(|path| owner(&volume.join(path)));
            ensure_owner(user, [&*volume]).expect("nothing to do");
            assert_eq!(INSIDE.map(|path| owner(&volume.join(path))), before, "{uid}:{gid} {mode:o}");
        }
    }

    #[test]
    fn a_file_is_no_volume() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let error = ensure_owner(USER, [file.path()]).expect_err("refused").to_string();
        assert_eq!(error, format!("open {}: not a directory", file.path().display()));
    }

    /// Runs this test once more in a process of its own, where it may change who it is.
    #[test]
    fn becoming_a_user_leaves_nothing_of_root() {
        const CHILD: &str = "LIFECYCLE_TEST_BECOMES_USER";
        if !unistd::geteuid().is_root() {
            let error = become_user(USER).expect_err("only root may");
            assert_eq!(error.to_string(), "exec as user 12345:23456");
            return;
        }
        if std::env::var_os(CHILD).is_none() {
            let name = "privilege::tests::becoming_a_user_leaves_nothing_of_root";
            let child = Command::new(std::env::current_exe().expect("this executable"))
                .args(["--exact", name, "--nocapture"])
                .env(CHILD, "1")
                .output()
                .expect("started");
            let said = String::from_utf8_lossy(&child.stdout);
            assert!(
                child.status.success() && said.contains("1 passed"),
                "{said}{}",
                String::from_utf8_lossy(&child.stderr)
            );
            return;
        }
        unistd::setgroups(&[Gid::from_raw(0), Gid::from_raw(4)]).expect("we are root");
        become_user(User { uid: 0, gid: unistd::getgid().as_raw() }).expect("nothing to do");
        assert!(refuse_root().is_err());
        become_user(USER).expect("we are root");
        hide_memory().expect("hidden");
        refuse_root().expect("no root any more");
        for task in fs::read_dir("/proc/self/task").expect("threads") {
            let status = fs::read_to_string(task.expect("a thread").path().join("status")).expect("read");
            for line in
                ["Uid:\t12345\t12345\t12345\t12345\n", "Gid:\t23456\t23456\t23456\t23456\n", "Groups:\t23456 \n"]
            {
                assert!(status.contains(line), "{status}");
            }
        }
        assert!(unistd::setuid(Uid::from_raw(0)).is_err() && chown("/", Some(1), None).is_err());
        assert_eq!(nix::sys::prctl::get_dumpable(), Ok(false));
        become_user(USER).expect("nothing to do");
        assert!(become_user(User { uid: 1, gid: 1 }).is_err());
    }

    #[test]
    fn accounts() {
        let passwd =
            b"root:x:0:0:root:/root:/bin/sh\nbroken\n:x:y\ncnb\xff:x:1000:1001::/home/cnb\nlast:x:1002:1:,,:/l:";
        let account = |name: &[u8], home: &str| {
            Some(Account { name: OsString::from_vec(name.to_vec()), home: OsString::from(home) })
        };
        for (uid, expected) in [
            (0, account(b"root", "/root")),
            (1000, account(b"cnb\xff", "/home/cnb")),
            (1002, account(b"last", "/l")),
            (1001, None),
            (10, None),
        ] {
            assert_eq!(find_account(passwd, uid), expected, "{uid}");
        }
        let error = account_error(4_000_000_001);
        assert_eq!(error, "set environment for user 4000000001: there is none in /etc/passwd");
    }

    fn account_error(uid: u32) -> String {
        super::account(uid).expect_err("nobody").to_string()
    }
}

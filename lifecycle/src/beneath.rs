//! A directory that is opened once, and what is beneath it reached one name at a time, never through a symlink.
//!
//! What buildpacks wrote, and what a cache held, is hostile to a phase that holds credentials: a symlink in the place
//! of a layer's TOML could read `~/.docker/config.json` into an image, a fifo there would hang us. So beneath
//! `<layers>` everything is opened relative to its directory's descriptor with `O_NOFOLLOW` and `O_NONBLOCK`, and its
//! kind is asked of the descriptor before it is read. The path that [`Directory::open`] takes is the platform's, and
//! is followed.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use thiserror::Error;

use crate::file::{PathContext, PathError};

/// An open directory.
#[derive(Debug)]
pub struct Directory {
    descriptor: OwnedFd,
    path: PathBuf,
}

/// What an entry of a directory is. Its text reads after "is": `a symbolic link`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link, wherever it points.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character or block device.
    Device,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "a directory",
            Self::File => "a regular file",
            Self::Symlink => "a symbolic link",
            Self::Fifo => "a named pipe",
            Self::Socket => "a socket",
            Self::Device => "a device",
        })
    }
}

impl From<FileType> for Kind {
    fn from(kind: FileType) -> Self {
        match kind {
            FileType::Directory => Self::Directory,
            FileType::RegularFile => Self::File,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => Self::Device,
        }
    }
}

/// Why something beneath a directory could not be used.
#[derive(Debug, Error)]
pub enum BeneathError {
    /// The operating system says no.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Something else is in its place, and is neither followed nor read.
    #[error("{} is {found}, not {wanted}", .path.display())]
    Refused {
        /// Where.
        path: PathBuf,
        /// What is there.
        found: Kind,
        /// What should be there.
        wanted: Kind,
    },
    /// A file of the specification that is larger than any honest one.
    #[error("{} is larger than {} MiB", .path.display(), .limit >> 20)]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The limit, in bytes.
        limit: u64,
    },
}

impl Directory {
    /// Opens a directory of the platform's, following symlinks.
    pub fn open(path: &Path) -> Result<Self, PathError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from).path("open", path)?;
        Ok(Self { descriptor, path: path.to_owned() })
    }

    /// Its path, as it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What an entry is; `None` if there is none. A symlink is a symlink, whatever it points to.
    pub fn kind(&self, name: impl AsRef<OsStr>) -> Result<Option<Kind>, PathError> {
        let name = self.one_name(name.as_ref())?;
        match rustix::fs::statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(FileType::from_raw_mode(found.st_mode).into())),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => self.failed("stat", name, error),
        }
    }

    /// Opens a directory in this one; `None` if there is no such entry. Anything that is not a directory is refused.
    pub fn directory(&self, name: impl AsRef<OsStr>) -> Result<Option<Self>, BeneathError> {
        let name = self.one_name(name.as_ref())?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.descriptor, name, flags, Mode::empty()) {
            Ok(descriptor) => Ok(Some(Self { descriptor, path: self.path.join(name) })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => match self.kind(name)? {
                Some(found) if found != Kind::Directory => Err(self.refused(name, found, Kind::Directory)),
                Some(_) | None => Ok(self.failed("open", name, error)?),
            },
        }
    }

    /// Opens a regular file in this directory for reading; `None` if there is no such entry. Anything else is refused,
    /// and not even opened, since opening a device may do something.
    pub fn file(&self, name: impl AsRef<OsStr>) -> Result<Option<File>, BeneathError> {
        let name = self.one_name(name.as_ref())?;
        match self.kind(name)? {
            None => return Ok(None),
            Some(Kind::File) => {}
            Some(found) => return Err(self.refused(name, found, Kind::File)),
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let descriptor = match rustix::fs::openat(&self.descriptor, name, flags, Mode::empty()) {
            Ok(descriptor) => descriptor,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(self.refused(name, Kind::Symlink, Kind::File)),
            Err(error) => return Ok(self.failed("open", name, error)?),
        };
        // Somebody may have put another thing there since; the descriptor cannot change any more.
        match rustix::fs::fstat(&descriptor) {
            Ok(found) => match Kind::from(FileType::from_raw_mode(found.st_mode)) {
                Kind::File => Ok(Some(File::from(descriptor))),
                found => Err(self.refused(name, found, Kind::File)),
            },
            Err(error) => Ok(self.failed("stat", name, error)?),
        }
    }

    /// Reads a regular file of at most `limit` bytes; `None` if there is no such entry.
    pub fn read(&self, name: impl AsRef<OsStr>, limit: u64) -> Result<Option<Vec<u8>>, BeneathError> {
        let name = name.as_ref();
        let Some(file) = self.file(name)? else { return Ok(None) };
        let path = self.path.join(name);
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).path("read", &path)?;
        if bytes.len() as u64 > limit {
            return Err(BeneathError::TooLarge { path, limit });
        }
        Ok(Some(bytes))
    }

    /// Its entries, sorted by the bytes of their names.
    pub fn entries(&self) -> Result<Vec<(OsString, Kind)>, PathError> {
        let mut entries = Vec::new();
        let listing = Dir::read_from(&self.descriptor).map_err(io::Error::from).path("read directory", &self.path)?;
        for entry in listing {
            let entry = entry.map_err(io::Error::from).path("read directory", &self.path)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => self.kind(name)?,
                known => Some(known.into()),
            };
            // An entry that vanished meanwhile was never there.
            entries.extend(kind.map(|kind| (name.to_owned(), kind)));
        }
        entries.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        Ok(entries)
    }

    /// Opens a directory in this one, and makes it first if it is not there, with mode 0777 less the umask.
    pub fn make_directory(&self, name: impl AsRef<OsStr>) -> Result<Self, BeneathError> {
        let name = self.one_name(name.as_ref())?;
        match rustix::fs::mkdirat(&self.descriptor, name, Mode::from_bits_truncate(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Ok(self.failed("create directory", name, error)?),
        }
        match self.directory(name)? {
            Some(made) => Ok(made),
            None => Ok(self.failed("open", name, Errno::NOENT)?),
        }
    }

    /// Creates a file with mode 0666 less the umask. What had the name before is removed, not written to: it may be a
    /// symlink, or the file of somebody who still has it open.
    pub fn create(&self, name: impl AsRef<OsStr>) -> Result<File, PathError> {
        let name = self.one_name(name.as_ref())?;
        match rustix::fs::unlinkat(&self.descriptor, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return self.failed("remove", name, error),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.descriptor, name, flags, Mode::from_bits_truncate(0o666)) {
            Ok(descriptor) => Ok(File::from(descriptor)),
            Err(error) => self.failed("create", name, error),
        }
    }

    /// Writes a file whole, beside and renamed: mode 0666 less the umask. What had the name before is replaced; where
    /// that cannot be (a bind-mounted file), it is overwritten.
    pub fn write(&self, name: impl AsRef<OsStr>, content: &[u8]) -> Result<(), PathError> {
        let name = self.one_name(name.as_ref())?;
        let beside = temporary_name();
        let written = self
            .create(&beside)
            .and_then(|mut file| file.write_all(content).path("write", &self.path.join(name)))
            .and_then(|()| self.rename(&beside, name));
        let Err(error) = written else { return Ok(()) };
        let _ = rustix::fs::unlinkat(&self.descriptor, &beside, AtFlags::empty());
        match error.source.raw_os_error().map(Errno::from_raw_os_error) {
            // The directory is not ours to write to, or the file is a mount of its own.
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::BUSY | Errno::XDEV) => {
                self.write_in_place(name, content).map_err(|_| error)
            }
            _ => Err(error),
        }
    }

    /// Removes what a [`Directory::write`] that was killed left.
    pub fn remove_leftovers(&self) -> Result<(), PathError> {
        for (name, kind) in self.entries()? {
            if kind == Kind::File && is_temporary(&name) {
                match rustix::fs::unlinkat(&self.descriptor, &name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(error) => return self.failed("remove", &name, error),
                }
            }
        }
        Ok(())
    }

    /// Overwrites a regular file that is there.
    fn write_in_place(&self, name: &OsStr, content: &[u8]) -> Result<(), PathError> {
        if self.kind(name)? != Some(Kind::File) {
            return self.failed("open", name, Errno::NOENT);
        }
        let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.descriptor, name, flags, Mode::empty()) {
            Ok(descriptor) => File::from(descriptor).write_all(content).path("write", &self.path.join(name)),
            Err(error) => self.failed("open", name, error),
        }
    }

    /// Renames an entry within this directory, replacing what has the new name as `rename` does.
    pub fn rename(&self, from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) -> Result<(), PathError> {
        let (from, to) = (self.one_name(from.as_ref())?, self.one_name(to.as_ref())?);
        rustix::fs::renameat(&self.descriptor, from, &self.descriptor, to)
            .or_else(|error| self.failed("rename", from, error))
    }

    /// Removes an entry: a tree if it is a directory. Nothing there is fine. However deep the tree is, a fixed number
    /// of descriptors is used; directories that we may not write to are made writable first.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> Result<(), PathError> {
        let name = self.one_name(name.as_ref())?;
        match rustix::fs::unlinkat(&self.descriptor, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) if self.kind(name)? == Some(Kind::Directory) => {}
            Err(error) => return self.failed("remove", name, error),
        }
        match self.directory_to_empty(name)? {
            None => return Ok(()),
            Some(tree) => tree.empty()?,
        }
        match rustix::fs::unlinkat(&self.descriptor, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => self.failed("remove", name, error),
        }
    }

    /// Removes all entries. Goes down by descriptor and up again by `..`, checked to be the directory that it came
    /// from, so that a tree of any depth needs neither stack nor descriptors.
    fn empty(self) -> Result<(), PathError> {
        /// A directory above the one being emptied.
        struct Above {
            /// Device and inode.
            identity: (u64, u64),
            /// The name of the directory that was gone down to.
            below: OsString,
            /// Directories that are still to be gone down to.
            left: Vec<OsString>,
        }
        let mut above: Vec<Above> = Vec::new();
        let mut here = self;
        let mut left = here.remove_leaves()?;
        loop {
            if let Some(below) = left.pop() {
                if let Some(next) = here.directory_to_empty(&below)? {
                    let inside = next.remove_leaves()?;
                    above.push(Above { identity: here.identity()?, below, left });
                    (here, left) = (next, inside);
                }
                continue;
            }
            let Some(up) = above.pop() else { return Ok(()) };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let descriptor = rustix::fs::openat(&here.descriptor, "..", flags, Mode::empty())
                .map_err(io::Error::from)
                .path("open the parent of", &here.path)?;
            let parent = Self { descriptor, path: here.path.parent().unwrap_or(Path::new("/")).to_owned() };
            if parent.identity()? != up.identity {
                return here.failed("remove", OsStr::new(""), Errno::STALE);
            }
            (here, left) = (parent, up.left);
            if !here.remove_leaf(&up.below, Kind::Directory)? {
                // Somebody still writes there.
                left.push(up.below);
            }
        }
    }

    /// Device and inode.
    fn identity(&self) -> Result<(u64, u64), PathError> {
        let found = rustix::fs::fstat(&self.descriptor).map_err(io::Error::from).path("stat", &self.path)?;
        Ok((found.st_dev, found.st_ino))
    }

    /// Removes all entries but directories that have entries, and names those.
    fn remove_leaves(&self) -> Result<Vec<OsString>, PathError> {
        let entries = match self.entries() {
            Err(error) if error.source.kind() == io::ErrorKind::PermissionDenied && self.make_self_writable() => {
                self.entries()?
            }
            listed => listed?,
        };
        let mut left = Vec::new();
        for (name, kind) in entries {
            if !self.remove_leaf(&name, kind)? {
                left.push(name);
            }
        }
        Ok(left)
    }

    /// Removes an entry; `false` if it is a directory with entries.
    fn remove_leaf(&self, name: &OsStr, kind: Kind) -> Result<bool, PathError> {
        let flags = if kind == Kind::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let mut unlinked = rustix::fs::unlinkat(&self.descriptor, name, flags);
        if matches!(unlinked, Err(Errno::ACCESS)) && self.make_self_writable() {
            unlinked = rustix::fs::unlinkat(&self.descriptor, name, flags);
        }
        match unlinked {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST) if kind == Kind::Directory => Ok(false),
            Err(error) => self.failed("remove", name, error),
        }
    }

    /// Opens a directory that is to be emptied, even if its mode does not let us; `None` if it is gone.
    fn directory_to_empty(&self, name: &OsStr) -> Result<Option<Self>, PathError> {
        let opened = match self.directory(name) {
            Err(BeneathError::Path(error)) if error.source.kind() == io::ErrorKind::PermissionDenied => {
                self.make_writable(name)?;
                self.directory(name)
            }
            opened => opened,
        };
        match opened {
            Ok(directory) => Ok(directory),
            Err(BeneathError::Path(error)) => Err(error),
            // Somebody changed it under our hands.
            Err(BeneathError::Refused { .. } | BeneathError::TooLarge { .. }) => {
                self.failed("remove", name, Errno::NOTDIR)
            }
        }
    }

    /// Gives ourselves all permissions on this directory; says whether that could be done.
    fn make_self_writable(&self) -> bool {
        let Ok(found) = rustix::fs::fstat(&self.descriptor) else { return false };
        let mode = Mode::from_raw_mode(found.st_mode);
        let all = mode | Mode::from_bits_truncate(0o700);
        // The second time it would not help: then the reason is another.
        mode != all && rustix::fs::fchmod(&self.descriptor, all).is_ok()
    }

    /// Gives ourselves all permissions on a directory in this one that we could not open.
    fn make_writable(&self, name: &OsStr) -> Result<(), PathError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.descriptor, name, flags, Mode::empty());
        // fchmod does not take such a descriptor; its name under /proc is not a link that anybody else could change.
        opened
            .and_then(|descriptor| {
                use std::os::fd::AsRawFd;
                let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
                rustix::fs::chmod(path, Mode::from_bits_truncate(0o700))
            })
            .or_else(|error| self.failed("make writable", name, error))
    }

    /// Refuses what is not one name: the callers' names are checked where they are parsed, this is the last wall.
    fn one_name<'a>(&self, name: &'a OsStr) -> Result<&'a OsStr, PathError> {
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') || bytes.contains(&0) {
            return self.failed("open", name, Errno::INVAL);
        }
        Ok(name)
    }

    fn refused(&self, name: &OsStr, found: Kind, wanted: Kind) -> BeneathError {
        BeneathError::Refused { path: self.path.join(name), found, wanted }
    }

    fn failed<T>(&self, operation: &'static str, name: &OsStr, error: Errno) -> Result<T, PathError> {
        Err(io::Error::from(error)).path(operation, &self.path.join(name))
    }
}

/// A name that no other write of this process takes: `.<process>-<number>.tmp`. Short, because the name of what is written may
/// be as long as names can be.
fn temporary_name() -> OsString {
    static WRITTEN: AtomicU32 = AtomicU32::new(0);
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    OsString::from(format!(".{}-{number}.tmp", std::process::id()))
}

fn is_temporary(name: &OsStr) -> bool {
    let number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let middle = name.as_bytes().strip_prefix(b".").and_then(|rest| rest.strip_suffix(b".tmp"));
    middle.is_some_and(|middle| {
        let mut parts = middle.splitn(2, |byte| *byte == b'-');
        parts.next().is_some_and(number) && parts.next().is_some_and(number)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn fixture() -> (tempfile::TempDir, Directory) {
        let temp = tempfile::tempdir().expect("a directory");
        let directory = Directory::open(temp.path()).expect("opened");
        (temp, directory)
    }

    #[test]
    fn only_one_name_at_a_time() {
        // Two levels down: should the check be broken, `..` is still ours.
        let (temp, directory) = fixture();
        let directory = directory.make_directory("inner").expect("made");
        fs::create_dir(temp.path().join("inner/a")).expect("made");
        fs::write(temp.path().join("inner/a/b"), "").expect("written");
        for name in ["", ".", "..", "a/b", "/etc/passwd", "a\0"] {
            assert!(directory.file(name).is_err(), "{name:?}");
            assert!(directory.remove(name).is_err(), "{name:?}");
            assert!(directory.make_directory(name).is_err(), "{name:?}");
            assert!(directory.write(name, b"").is_err(), "{name:?}");
        }
        assert!(temp.path().join("inner/a/b").exists());
    }

    #[test]
    fn devices_are_refused() {
        let directory = Directory::open(Path::new("/dev")).expect("opened");
        let error = directory.file("zero").expect_err("refused").to_string();
        assert_eq!(error, "/dev/zero is a device, not a regular file");
        assert_eq!(directory.kind("null").expect("known"), Some(Kind::Device));
    }

    #[test]
    fn reading_stops_at_the_limit() {
        let (temp, directory) = fixture();
        fs::write(temp.path().join("x"), "1234").expect("written");
        assert_eq!(directory.read("x", 4).expect("read"), Some(b"1234".to_vec()));
        assert!(matches!(directory.read("x", 3), Err(BeneathError::TooLarge { limit: 3, .. })));
        assert_eq!(directory.read("y", 3).expect("missing"), None);
    }

    #[test]
    fn modes_are_those_of_any_new_file() {
        let (temp, directory) = fixture();
        fs::create_dir(temp.path().join("plain-dir")).expect("made");
        fs::write(temp.path().join("plain"), "").expect("written");
        directory.make_directory("dir").expect("made");
        directory.write("file", b"x").expect("written");
        let mode = |name: &str| fs::metadata(temp.path().join(name)).expect("there").permissions().mode();
        assert_eq!(mode("dir"), mode("plain-dir"));
        assert_eq!(mode("file"), mode("plain"));
    }

    #[test]
    fn names_as_long_as_they_can_be_are_written() {
        let (temp, directory) = fixture();
        let name = "x".repeat(255);
        directory.write(&name, b"one").expect("written");
        directory.write(&name, b"two").expect("written");
        assert_eq!(fs::read(temp.path().join(&name)).expect("read"), b"two");
        assert_eq!(fs::read_dir(temp.path()).expect("listed").count(), 1);
    }

    #[test]
    fn what_cannot_be_replaced_is_overwritten_if_it_is_a_file() {
        let (temp, directory) = fixture();
        fs::write(temp.path().join("file"), "long ago").expect("written");
        directory.write_in_place(OsStr::new("file"), b"now").expect("written");
        assert_eq!(fs::read(temp.path().join("file")).expect("read"), b"now");
        symlink("file", temp.path().join("link")).expect("linked");
        nix::unistd::mkfifo(&temp.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        for name in ["link", "pipe", "none"] {
            assert!(directory.write_in_place(OsStr::new(name), b"x").is_err(), "{name}");
        }
    }

    #[test]
    fn a_created_file_is_a_new_one() {
        let (temp, directory) = fixture();
        fs::write(temp.path().join("old"), "old").expect("written");
        fs::hard_link(temp.path().join("old"), temp.path().join("name")).expect("linked");
        directory.create("name").expect("created").write_all(b"new").expect("written");
        assert_eq!(fs::read(temp.path().join("old")).expect("there"), b"old");
    }

    #[test]
    fn removes_trees_with_links_pipes_and_locked_directories() {
        let (temp, directory) = fixture();
        let tree = temp.path().join("tree");
        fs::create_dir_all(tree.join("a/locked/sub")).expect("made");
        fs::create_dir_all(tree.join("closed/sub")).expect("made");
        fs::write(tree.join("a/locked/sub/file"), "").expect("written");
        fs::create_dir(temp.path().join("outside")).expect("made");
        fs::write(temp.path().join("outside/file"), "").expect("written");
        symlink(temp.path().join("outside"), tree.join("a/link")).expect("linked");
        nix::unistd::mkfifo(&tree.join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        for (name, mode) in [("a/locked/sub", 0o500), ("a/locked", 0o500), ("closed", 0), ("", 0o400)] {
            fs::set_permissions(tree.join(name), fs::Permissions::from_mode(mode)).expect("chmod");
        }
        directory.remove("tree").expect("removed");
        assert!(!tree.exists());
        assert!(temp.path().join("outside/file").exists());
        assert_ne!(fs::metadata(temp.path().join("outside")).expect("there").mode() & 0o777, 0o700);
        directory.remove("tree").expect("nothing there is fine");
    }

    #[test]
    fn removes_trees_deeper_than_paths_and_descriptors_go() {
        let (temp, directory) = fixture();
        let mut here = directory.make_directory("deep").expect("made");
        for _ in 0..5000 {
            here = here.make_directory("d").expect("made");
        }
        drop(here);
        directory.remove("deep").expect("removed");
        assert_eq!(fs::read_dir(temp.path()).expect("listed").count(), 0);
    }

    #[test]
    fn what_a_killed_write_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let directory = Directory::open(dir.path()).expect("opened");
        let left = temporary_name();
        let kept = [".1.tmp", ".1-.tmp", ".-1.tmp", ".1-2-3.tmp", ".a-1.tmp", "1-2.tmp", ".1-2.tmp.toml"];
        for name in kept.iter().map(OsStr::new).chain([left.as_os_str(), OsStr::new(".12-0.tmp")]) {
            fs::write(dir.path().join(name), "").expect("written");
        }
        fs::create_dir(dir.path().join(".1-2.tmp")).expect("created");
        symlink("/nowhere", dir.path().join(".3-4.tmp")).expect("linked");
        directory.remove_leftovers().expect("removed");
        let mut names: Vec<_> =
            fs::read_dir(dir.path()).expect("listed").map(|entry| entry.expect("one").file_name()).collect();
        names.sort();
        let mut expected: Vec<_> = kept.iter().chain(&[".1-2.tmp", ".3-4.tmp"]).map(OsString::from).collect();
        expected.sort();
        assert_eq!(names, expected);
    }
}

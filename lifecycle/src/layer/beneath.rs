//! Moving about beneath a directory without following a symlink, at any depth.
//!
//! What a buildpack left behind is hostile, and paths are too long for the kernel below 4,096 bytes of depth. So every
//! component is opened by itself, from its parent's descriptor, with `O_NOFOLLOW`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, openat};

/// What a directory is opened with to look at its entries' status or to open them.
pub(super) const SEARCH: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// What a directory is opened with to list it.
pub(super) const LIST: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A current directory beneath a root, as a stack of descriptors. In a deep tree only some of them are kept, so that
/// a path of 2,000 components does not take 2,000 descriptors; the others are opened again on the way back.
pub(super) struct Beneath {
    root: Arc<OwnedFd>,
    flags: OFlags,
    /// The current directory, relative to the root: `a/b/c`.
    path: Vec<u8>,
    levels: Vec<Level>,
}

struct Level {
    /// Length of the path up to here.
    end: usize,
    /// Always there for the last level.
    fd: Option<OwnedFd>,
}

/// Whether a level's descriptor is kept while deeper ones are in use.
fn is_kept(level: usize) -> bool {
    level < 16 || level.is_multiple_of(32)
}

impl Beneath {
    /// At the root itself. `flags` are [`SEARCH`] or [`LIST`].
    pub(super) fn new(root: Arc<OwnedFd>, flags: OFlags) -> Self {
        Self { root, flags, path: Vec::new(), levels: Vec::new() }
    }

    /// The current directory.
    pub(super) fn current(&self) -> BorrowedFd<'_> {
        self.levels.last().and_then(|level| level.fd.as_ref()).unwrap_or(&self.root).as_fd()
    }

    /// Goes into a directory of the current one.
    pub(super) fn enter(&mut self, name: &[u8]) -> io::Result<()> {
        let fd = openat(self.current(), name, self.flags, Mode::empty())?;
        self.push(name, fd);
        Ok(())
    }

    fn push(&mut self, name: &[u8], fd: OwnedFd) {
        if let Some(index) = self.levels.len().checked_sub(1).filter(|index| !is_kept(*index)) {
            self.levels[index].fd = None;
        }
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        self.levels.push(Level { end: self.path.len(), fd: Some(fd) });
    }

    /// Goes back to the parent of the current directory.
    pub(super) fn leave(&mut self) -> io::Result<()> {
        self.truncate(self.levels.len().saturating_sub(1))
    }

    /// Goes to a directory named by its path from the root (empty: the root).
    pub(super) fn go_to(&mut self, directory: &[u8]) -> io::Result<()> {
        if self.path == directory {
            return Ok(());
        }
        let shared = self.shared_levels(directory);
        self.truncate(shared)?;
        let done = self.path.len();
        let rest = directory[done..].strip_prefix(b"/").unwrap_or(&directory[done..]);
        rest.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).try_for_each(|name| self.enter(name))
    }

    /// How many levels of the current path `directory` begins with.
    pub(super) fn shared_levels(&self, directory: &[u8]) -> usize {
        self.levels
            .iter()
            .take_while(|level| {
                directory.starts_with(&self.path[..level.end])
                    && (directory.len() == level.end || directory[level.end] == b'/')
            })
            .count()
    }

    fn truncate(&mut self, depth: usize) -> io::Result<()> {
        self.levels.truncate(depth);
        self.path.truncate(self.levels.last().map_or(0, |level| level.end));
        let Some(top) = depth.checked_sub(1).filter(|top| self.levels[*top].fd.is_none()) else { return Ok(()) };
        // Its descriptor was given up: open it again, from the nearest that was kept.
        let mut from = (0..top).rev().find(|level| self.levels[*level].fd.is_some());
        let mut opened: Option<OwnedFd> = None;
        loop {
            let next = from.map_or(0, |level| level + 1);
            let start = from.map_or(0, |level| self.levels[level].end + 1);
            let name = &self.path[start..self.levels[next].end];
            let parent = match (&opened, from) {
                (Some(fd), _) => fd.as_fd(),
                (None, Some(level)) => self.levels[level].fd.as_ref().unwrap_or(&self.root).as_fd(),
                (None, None) => self.root.as_fd(),
            };
            let fd = openat(parent, name, self.flags, Mode::empty())?;
            if next == top {
                self.levels[top].fd = Some(fd);
                return Ok(());
            }
            opened = Some(fd);
            from = Some(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use rustix::fs::{fstat, open};

    use super::*;

    fn root(path: &Path) -> Arc<OwnedFd> {
        Arc::new(open(path, LIST, Mode::empty()).expect("opened"))
    }

    fn inode(fd: impl AsFd) -> u64 {
        fstat(fd).expect("a status").st_ino
    }

    #[test]
    fn goes_anywhere_and_back() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("a/b/c")).expect("made");
        fs::create_dir_all(dir.path().join("a/bc/d")).expect("made");
        let mut beneath = Beneath::new(root(dir.path()), SEARCH);
        for place in ["a/b/c", "a/bc/d", "a", "", "a/b", "a/bc", "a/b/c", "a/b/c"] {
            beneath.go_to(place.as_bytes()).expect("there");
            let expected = std::os::unix::fs::MetadataExt::ino(&fs::metadata(dir.path().join(place)).expect("there"));
            assert_eq!(inode(beneath.current()), expected, "{place:?}");
        }
        assert!(beneath.go_to(b"a/none").is_err());
    }

    #[test]
    fn follows_no_symlink() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("real/sub")).expect("made");
        symlink("real", dir.path().join("link")).expect("linked");
        let mut beneath = Beneath::new(root(dir.path()), SEARCH);
        for place in ["link", "link/sub"] {
            assert!(beneath.go_to(place.as_bytes()).is_err(), "{place}");
        }
    }

    #[test]
    fn a_deep_tree_takes_few_descriptors_and_is_left_in_order() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = root(dir.path());
        let mut inodes = vec![inode(&root)];
        let mut beneath = Beneath::new(root, SEARCH);
        for _ in 0..300 {
            rustix::fs::mkdirat(beneath.current(), "d", Mode::RWXU).expect("made");
            beneath.enter(b"d").expect("entered");
            inodes.push(inode(beneath.current()));
        }
        assert!(beneath.levels.iter().filter(|level| level.fd.is_some()).count() < 30);
        for expected in inodes.iter().rev().skip(1) {
            beneath.leave().expect("left");
            assert_eq!(inode(beneath.current()), *expected);
            assert!(beneath.levels.iter().filter(|level| level.fd.is_some()).count() < 30);
        }
        crate::layer::remove::remove_tree(rustix::fs::CWD, dir.path().as_os_str().as_encoded_bytes()).expect("removed");
    }
}

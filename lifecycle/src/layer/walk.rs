//! All entries beneath a directory, in an order that depends on their names alone, in little memory.
//!
//! There are two orders in layers. A directory layer has those of a walk: each directory's names sorted, its contents
//! directly after itself (`a`, `a/x`, `a-b`). An app layer is sorted by whole path (`a`, `a-b`, `a/x`, since `-` is
//! less than `/`). Both can be had without holding all paths: only the names of the directories on the way are held,
//! in one arena. For the second order, the moment to go into directory `a` is where `a/` sorts among its siblings.

use std::cmp::Ordering;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, RawDir, statat};

use super::beneath::{Beneath, LIST};
use super::pipeline::LayerError;

/// The order of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Each directory's contents directly after itself.
    Walk,
    /// By the bytes of whole paths.
    FullPath,
}

/// A walk. Call [`Self::next`], then ask about the entry where it stands.
pub(super) struct Walk {
    order: Order,
    beneath: Beneath,
    /// Full name of the entry; before it those of its directories.
    path: Vec<u8>,
    levels: Vec<Level>,
    /// Names of the directories on the way, each ended by a zero byte.
    names: Vec<u8>,
    events: Vec<Event>,
    /// The entry; `None` for the root.
    entry: Option<Event>,
    buffer: Vec<MaybeUninit<u8>>,
    /// How many entries there were so far.
    count: u32,
}

/// A directory on the way.
struct Level {
    /// Where its names begin in the arena, and its events.
    names: usize,
    events: usize,
    next: usize,
    /// Which entry it is, counting from the root.
    index: u32,
    /// Length of its path, with the slash that follows.
    path: usize,
}

#[derive(Clone, Copy)]
struct Event {
    /// Where its name begins, and its length.
    name: u32,
    length: u8,
    directory: bool,
    /// Whether this is the moment to go into it instead of the entry itself.
    descend: bool,
    /// Of such a moment: which entry it was.
    index: u32,
}

impl Event {
    fn name<'a>(&self, names: &'a [u8]) -> &'a [u8] {
        &names[self.name as usize..][..usize::from(self.length)]
    }
}

fn compare(order: Order, a: (&[u8], bool), b: (&[u8], bool)) -> Ordering {
    match order {
        Order::Walk => a.cmp(&b),
        Order::FullPath => {
            let shared = a.0.len().min(b.0.len());
            let after = |(name, descend): (&[u8], bool)| name.get(shared).copied().or(descend.then_some(b'/'));
            a.0[..shared].cmp(&b.0[..shared]).then_with(|| after(a).cmp(&after(b)))
        }
    }
}

impl Walk {
    /// Of `root`, whose entries are called `name` and what is beneath. The descriptor must be able to list.
    pub(super) fn new(root: Arc<OwnedFd>, name: &[u8], order: Order) -> Self {
        Self {
            order,
            beneath: Beneath::new(root, LIST),
            path: name.to_owned(),
            levels: Vec::new(),
            names: Vec::new(),
            events: Vec::new(),
            entry: None,
            buffer: vec![MaybeUninit::uninit(); 32 << 10],
            count: 0,
        }
    }

    /// Goes to the next entry, the root first; `None` at the end, else whether it is a directory.
    pub(super) fn next(&mut self) -> Result<Option<bool>, LayerError> {
        if self.count == 0 {
            self.count = 1;
            return Ok(Some(true));
        }
        if self.count == 1 && self.levels.is_empty() {
            self.list(0)?;
        }
        while let Some(level) = self.levels.last_mut() {
            self.path.truncate(level.path);
            let Some(event) = self.events.get(level.next).copied() else {
                self.events.truncate(level.events);
                self.names.truncate(level.names);
                self.levels.pop();
                self.count = self.count.max(2);
                self.beneath.leave().map_err(|error| LayerError::open(&self.path, error))?;
                continue;
            };
            level.next += 1;
            self.path.extend_from_slice(event.name(&self.names));
            self.entry = Some(event);
            if !event.descend {
                self.remember_index(event);
                self.count += 1;
                return Ok(Some(event.directory));
            }
            let entered = self.beneath.enter(event.name(&self.names));
            entered.map_err(|error| LayerError::open(&self.path, error))?;
            self.list(event.index)?;
        }
        Ok(None)
    }

    /// Tells the moment at which this directory is gone into which entry it is.
    fn remember_index(&mut self, entry: Event) {
        let Some(level) = self.levels.last().filter(|_| entry.directory) else { return };
        let descent = self.events[level.next..].iter_mut().find(|later| later.name == entry.name);
        if let Some(descent) = descent {
            descent.index = self.count;
        }
    }

    /// Which entry the directory is that the entry is in, counting from the root, which is 0 and in itself.
    pub(super) fn parent(&self) -> u32 {
        self.levels.last().map_or(0, |level| level.index)
    }

    /// The entry's full name.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// The entry's own name, in [`Self::directory`]; `None` for the root.
    pub(super) fn name(&self) -> Option<&CStr> {
        let event = self.entry?;
        CStr::from_bytes_until_nul(&self.names[event.name as usize..]).ok()
    }

    /// The directory that the entry is in; for the root, itself.
    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.beneath.current()
    }

    /// Lists the current directory, whose path is the entry's; `index` says which entry it was.
    fn list(&mut self, index: u32) -> Result<(), LayerError> {
        let (names, events) = (self.names.len(), self.events.len());
        let read = |error| LayerError::path("read directory", &self.path, error);
        let directory = self.beneath.current();
        let mut listing = RawDir::new(directory, &mut self.buffer);
        while let Some(entry) = listing.next() {
            let entry = entry.map_err(|error| read(error.into()))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    let found = statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(|error| LayerError::path("lstat", &join(&self.path, name), error.into()))?;
                    FileType::from_raw_mode(found.st_mode)
                }
                known => known,
            };
            let too_many = || read(std::io::ErrorKind::FileTooLarge.into());
            let event = Event {
                name: u32::try_from(self.names.len()).map_err(|_| too_many())?,
                length: u8::try_from(name.len()).map_err(|_| too_many())?,
                directory: kind == FileType::Directory,
                descend: false,
                index: 0,
            };
            self.names.extend_from_slice(entry.file_name().to_bytes_with_nul());
            self.events.push(event);
            if event.directory {
                self.events.push(Event { descend: true, ..event });
            }
        }
        let names_of_all = &self.names;
        let key = |event: &Event| (event.name as usize, event.length, event.descend);
        let order = self.order;
        self.events[events..].sort_unstable_by(|a, b| {
            let (a, b) = (key(a), key(b));
            let name = |(at, length, _): (usize, u8, bool)| &names_of_all[at..at + usize::from(length)];
            compare(order, (name(a), a.2), (name(b), b.2))
        });
        if !self.path.ends_with(b"/") {
            self.path.push(b'/');
        }
        self.levels.push(Level { names, events, next: events, index, path: self.path.len() });
        Ok(())
    }
}

/// The name of an entry of a directory.
pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if directory.ends_with(b"/") { b"" } else { b"/" };
    [directory, slash, name].concat()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use rustix::fs::{Mode, open};

    use super::*;

    fn names(root: &Path, order: Order) -> Vec<String> {
        let fd = Arc::new(open(root, LIST, Mode::empty()).expect("opened"));
        let mut walk = Walk::new(fd, b"/r", order);
        let mut found = Vec::new();
        while let Some(directory) = walk.next().expect("walked") {
            let name = String::from_utf8_lossy(walk.path()).into_owned();
            let own = walk.name().map(|name| name.to_string_lossy().into_owned());
            assert_eq!(own.as_deref(), name.strip_prefix("/r/").map(|rest| rest.rsplit('/').next().expect("a part")));
            assert_eq!(directory, root.join(name.trim_start_matches("/r").trim_start_matches('/')).is_dir(), "{name}");
            found.push(name);
        }
        assert_eq!(walk.next().expect("still at the end"), None);
        found
    }

    #[test]
    fn both_orders() {
        let dir = tempfile::tempdir().expect("a directory");
        for directory in ["a/x/deep", "a-b", "a/.h", "a.d", "a0", "a/x-y", "empty", "\u{e9}/z"] {
            fs::create_dir_all(dir.path().join(directory)).expect("made");
        }
        for file in ["a/f", "a-b/g", "a!", "a/x.f", "a/x/f", "a/x!", "b", "A", "a.d/1", "a0/2", "\u{e9}f"] {
            fs::write(dir.path().join(file), "").expect("written");
        }
        let by_path = names(dir.path(), Order::FullPath);
        let mut sorted = by_path.clone();
        sorted.sort();
        assert_eq!(by_path, sorted);
        assert_eq!(by_path.len(), 23);

        let by_walk = names(dir.path(), Order::Walk);
        let mut reference = by_path.clone();
        reference.sort_by(|a, b| a.split('/').cmp(b.split('/')));
        assert_eq!(by_walk, reference);
        assert_ne!(by_walk, by_path);
    }
}

//! The tar of a plan in pieces of equal length, each of which can be made by itself, by any thread.
//!
//! Where a piece begins and ends depends on the tar's bytes alone: at every [`CHUNK`]th of them. A file that lies in two
//! pieces is opened for each. So the pieces, and what is made of them, are the same whoever reads them.

use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use rustix::io::{Errno, pread};

use super::beneath::{Beneath, SEARCH};
use super::guard::Guard;
use super::pipeline::LayerError;
use super::plan::{Content, Plan, Planned};
use super::tar::{BLOCK, Header, Kind, TRAILER};

/// Length of all pieces but the last.
pub(super) const CHUNK: usize = 1 << 20;

/// Length of the buffer for one: a file that has grown shows in the byte after its end.
pub(super) const BUFFER: usize = CHUNK + BLOCK;

/// What is in a piece of a tar.
#[derive(Default)]
pub(super) struct Chunk {
    /// Bytes of the tar.
    pub(super) length: usize,
    items: Vec<Item>,
    /// Names and link targets.
    text: Vec<u8>,
}

/// An entry, or a part of one.
struct Item {
    name: Range<usize>,
    link: Range<usize>,
    header: Header,
    /// Bytes of its headers.
    header_length: u64,
    content: Content,
    /// Which part of headers, content and padding is in this piece.
    part: Range<u64>,
}

/// Cuts a plan into pieces.
pub(super) struct Chunker {
    plan: Plan,
    entry: Planned,
    /// Bytes of the entry's headers, of the whole of it, and how many of these are in earlier pieces.
    header_length: u64,
    total: u64,
    done: u64,
    /// Bytes of the end mark that are to come.
    trailer: u64,
    planned_all: bool,
}

impl Chunker {
    pub(super) fn new(plan: Plan) -> Self {
        let entry = Planned::new();
        Self { plan, entry, header_length: 0, total: 0, done: 0, trailer: TRAILER, planned_all: false }
    }

    /// The directory that the files are in.
    pub(super) fn root(&self) -> Option<Arc<OwnedFd>> {
        self.plan.root()
    }

    /// Whether the last piece was taken.
    pub(super) fn is_at_end(&self) -> bool {
        self.trailer == 0
    }

    /// Describes the next piece; `false` if there is none.
    pub(super) fn next(&mut self, chunk: &mut Chunk) -> Result<bool, LayerError> {
        chunk.length = 0;
        chunk.items.clear();
        chunk.text.clear();
        while chunk.length < CHUNK && self.trailer > 0 {
            let room = (CHUNK - chunk.length) as u64;
            let length = if self.done < self.total {
                let length = room.min(self.total - self.done);
                chunk.push(&self.entry, self.header_length, self.done..self.done + length);
                self.done += length;
                length
            } else if self.planned_all {
                let length = room.min(self.trailer);
                self.trailer -= length;
                length
            } else if self.plan.next(&mut self.entry)? {
                self.header_length = self.entry.header.len(&self.entry.name, &self.entry.link);
                self.total = self.entry.header.total(self.header_length);
                self.done = 0;
                0
            } else {
                self.planned_all = true;
                0
            };
            chunk.length += length as usize;
        }
        Ok(chunk.length > 0)
    }
}

impl Chunk {
    fn push(&mut self, entry: &Planned, header_length: u64, part: Range<u64>) {
        let mut text = |bytes: &[u8]| {
            let start = self.text.len();
            self.text.extend_from_slice(bytes);
            start..self.text.len()
        };
        let (name, link) = (text(&entry.name), text(&entry.link));
        self.items.push(Item { name, link, header: entry.header, header_length, content: entry.content.clone(), part });
    }
}

/// Makes the bytes of pieces.
pub(super) struct Filler<'a> {
    beneath: Option<Beneath>,
    headers: Vec<u8>,
    guard: Option<&'a Guard>,
}

impl<'a> Filler<'a> {
    /// `root` is the plan's; `guard` is told of every file.
    pub(super) fn new(root: Option<Arc<OwnedFd>>, guard: Option<&'a Guard>) -> Self {
        Self { beneath: root.map(|root| Beneath::new(root, SEARCH)), headers: Vec::new(), guard }
    }

    /// Fills the first `chunk.length` bytes of `buffer`, which has [`BUFFER`] bytes.
    pub(super) fn fill(&mut self, chunk: &Chunk, buffer: &mut [u8]) -> Result<(), LayerError> {
        let mut at = 0;
        for item in &chunk.items {
            let name = &chunk.text[item.name.clone()];
            let length = (item.part.end - item.part.start) as usize;
            let mut filled = 0;
            if item.part.start < item.header_length {
                self.headers.clear();
                item.header.write(name, &chunk.text[item.link.clone()], &mut self.headers);
                let end = item.part.end.min(item.header_length) as usize;
                let headers = &self.headers[item.part.start as usize..end];
                buffer[at..at + headers.len()].copy_from_slice(headers);
                filled = headers.len();
            }
            let offset = |position: u64| position.saturating_sub(item.header_length).min(item.header.size);
            let range = offset(item.part.start)..offset(item.part.end);
            // An empty file is opened too, so that one that cannot be read is an error whatever its size.
            let is_empty = item.header.size == 0 && item.part.end >= item.header_length;
            if item.header.kind == Kind::File && (!range.is_empty() || is_empty) {
                let file = self.open(item, name)?;
                read(&file, name, item.header.size, range.clone(), &mut buffer[at + filled..])?;
                let end = filled + (range.end - range.start) as usize;
                // A file's beginning is in one piece: both begin at multiples of a block.
                if let (Some(guard), 0) = (self.guard, range.start) {
                    guard.look(name, item.header.mode, &buffer[at + filled..at + end]);
                }
                filled = end;
            }
            buffer[at + filled..at + length].fill(0);
            at += length;
        }
        buffer[at..chunk.length].fill(0);
        Ok(())
    }

    fn open(&mut self, item: &Item, name: &[u8]) -> Result<OwnedFd, LayerError> {
        // A file that was replaced by a fifo or a device must not block us; its status is looked at before it is read.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let failed = |error: Errno| LayerError::open(name, error.into());
        let (file, expected) = match (&item.content, &mut self.beneath) {
            (Content::Beneath { relative, device, inode }, Some(beneath)) => {
                let path = name.get(*relative..).unwrap_or_default();
                let slash = path.iter().rposition(|byte| *byte == b'/');
                beneath.go_to(&path[..slash.unwrap_or(0)]).map_err(|error| LayerError::open(name, error))?;
                let base = &path[slash.map_or(0, |at| at + 1)..];
                let file = openat(beneath.current(), base, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(failed)?;
                (file, Some((*device, *inode)))
            }
            (Content::Path(path), _) => {
                let name = path.as_os_str().as_bytes();
                let failed = |error: Errno| LayerError::path("open", name, error.into());
                (openat(CWD, &**path, flags, Mode::empty()).map_err(failed)?, None)
            }
            (Content::None | Content::Beneath { .. }, _) => return Err(LayerError::replaced(name)),
        };
        let status = fstat(&file).map_err(|error| LayerError::path("stat", name, error.into()))?;
        let is_other = expected.is_some_and(|expected| expected != (status.st_dev, status.st_ino));
        if Kind::of_mode(status.st_mode) != Some(Kind::File) || is_other {
            return Err(LayerError::replaced(name));
        }
        Ok(file)
    }
}

/// Reads a part of a file of `size` bytes. At its end, one byte more is asked for.
fn read(file: impl AsFd, name: &[u8], size: u64, part: Range<u64>, buffer: &mut [u8]) -> Result<(), LayerError> {
    let expected = (part.end - part.start) as usize;
    let wanted = expected + usize::from(part.end == size);
    let mut filled = 0;
    while filled < wanted {
        match pread(&file, &mut buffer[filled..wanted], part.start + filled as u64) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(Errno::INTR) => {}
            Err(error) => return Err(LayerError::path("read", name, error.into())),
        }
        if filled == expected {
            // Less than was asked for: a file gives all that it has.
            break;
        }
    }
    if filled == expected { Ok(()) } else { Err(LayerError::changed(name, size, part.start + filled as u64)) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;
    use crate::layer::{Owner, Recipe};

    /// What archiving says when `change` is done to a file of 1,000 bytes after it was looked at.
    fn after(change: impl FnOnce(&Path)) -> Result<(), String> {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("bp/layer/sub")).expect("made");
        let file = dir.path().join("bp/layer/sub/file");
        fs::write(&file, [b'x'; 1000]).expect("written");
        let recipe = Recipe::Directory {
            layers: dir.path().to_owned(),
            relative: "bp/layer".into(),
            owner: Owner { uid: 1, gid: 1 },
        };
        let mut chunker = Chunker::new(Plan::new(&recipe).expect("a plan"));
        let mut chunk = Chunk::default();
        assert!(chunker.next(&mut chunk).expect("planned"));
        let mut filler = Filler::new(chunker.root(), None);
        change(&file);
        let shown = |error: LayerError| error.to_string().replace(&file.display().to_string(), "FILE");
        filler.fill(&chunk, &mut vec![0; BUFFER]).map_err(shown)
    }

    #[test]
    fn a_file_that_changes_while_it_is_archived_is_an_error_and_never_followed() {
        assert_eq!(after(|_| {}), Ok(()));
        let changed = |now| Err(format!("FILE changed while it was archived: 1000 bytes, then {now}"));
        let replaced = Err("FILE was replaced while it was archived".to_owned());
        assert_eq!(after(|file| fs::write(file, "short").expect("written")), changed(5));
        assert_eq!(after(|file| fs::write(file, "").expect("written")), changed(0));
        assert_eq!(after(|file| fs::write(file, [0; 5000]).expect("written")), changed(1001));
        let cases: [fn(&Path); 6] = [
            |file| symlink("/etc/passwd", file).expect("linked"),
            |file| fs::create_dir(file).expect("made"),
            |file| fs::write(file, [b'y'; 1000]).expect("written"),
            |file| {
                let name = file.as_os_str().as_encoded_bytes();
                rustix::fs::mknodat(CWD, name, rustix::fs::FileType::Fifo, Mode::RWXU, 0).expect("a fifo");
            },
            |file| {
                nix::sys::stat::mknod(file, nix::sys::stat::SFlag::S_IFSOCK, nix::sys::stat::Mode::S_IRWXU, 0)
                    .expect("a socket")
            },
            |file| symlink("file2", file).expect("linked"),
        ];
        for change in cases {
            let swap = |file: &Path| {
                // Not at the inode that becomes free.
                fs::rename(file, file.with_file_name("elsewhere")).expect("moved");
                change(file);
            };
            assert_eq!(after(swap), replaced);
        }
        assert_eq!(
            after(|file| fs::remove_file(file).expect("removed")),
            Err("open FILE: no such file or directory".to_owned())
        );
        let directory_is_a_link = |file: &Path| {
            let directory = file.parent().expect("a parent");
            fs::rename(directory, directory.with_file_name("moved")).expect("moved");
            symlink("moved", directory).expect("linked");
        };
        assert_eq!(after(directory_is_a_link), replaced);
    }

    #[test]
    fn a_tar_is_cut_at_every_mebibyte_whatever_is_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let layer = dir.path().join("layer");
        fs::create_dir(&layer).expect("made");
        // Headers of several blocks and contents of all lengths move the cuts into every kind of place.
        for number in 0..700 {
            let name = format!("{number}{}", if number % 3 == 0 { "\u{e9}".repeat(60) } else { String::new() });
            fs::write(layer.join(name), vec![b'a'; number * 37 % 9000]).expect("written");
        }
        fs::write(layer.join("large"), vec![b'b'; 2_500_000]).expect("written");
        let recipe = Recipe::Directory {
            layers: dir.path().to_owned(),
            relative: "layer".into(),
            owner: Owner { uid: 1, gid: 1 },
        };
        let mut chunker = Chunker::new(Plan::new(&recipe).expect("a plan"));
        let mut filler = Filler::new(chunker.root(), None);
        let (mut chunk, mut buffer, mut all) = (Chunk::default(), vec![0; BUFFER], Vec::new());
        let mut lengths = Vec::new();
        while chunker.next(&mut chunk).expect("planned") {
            buffer.fill(0xee);
            filler.fill(&chunk, &mut buffer).expect("filled");
            all.extend_from_slice(&buffer[..chunk.length]);
            lengths.push(chunk.length);
        }
        assert!(lengths.len() > 5 && lengths[..lengths.len() - 1].iter().all(|length| *length == CHUNK));
        let mut found = 0;
        for entry in ::tar::Archive::new(&all[..]).entries().expect("entries") {
            let entry = entry.expect("readable");
            let path = entry.path().expect("a path").into_owned();
            if entry.header().entry_type().is_file() {
                let end = (entry.raw_file_position() + entry.size()) as usize;
                assert!(all[end..end.next_multiple_of(BLOCK)].iter().all(|byte| *byte == 0), "{}", path.display());
                let mut content = Vec::new();
                std::io::copy(&mut { entry }, &mut content).expect("read");
                assert_eq!(content, fs::read(&path).expect("there"), "{}", path.display());
                found += 1;
            }
        }
        assert_eq!(found, 701);
        assert!(all.ends_with(&[0; 1024]));
    }
}

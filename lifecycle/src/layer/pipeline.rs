//! From a recipe to digests, tars and blobs, on all cores, in bounded memory.
//!
//! A tar is made in pieces of 1 MiB (see `chunk`). Each worker takes a buffer, then the next piece, reads the piece's
//! files and compresses it; who has completed the piece that comes next hashes and writes it, and all that
//! wait after it. So one layer uses all cores, and so do several at once: workers beyond those who call are lent by the
//! pipeline, which has as many as there are cores, and so are the buffers, of which there are only a few more.
//! Somebody always has the piece that comes next, so nobody waits for a buffer forever.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::errno::Errno;
use thiserror::Error;

use super::chunk::{CHUNK, Chunk, Chunker, Filler};
use super::deflate::{self, Input};
use super::guard::Guard;
use super::gzip::Encoder;
use super::plan::Plan;
use super::{Recipe, Spool};
use crate::digest::{Digest, Hasher};
use crate::file::{PathContext, PathError};

/// The most threads that are of use beside what else the machine does.
const MOST_THREADS: usize = 8;

/// Works on layers: threads, buffers and a temporary directory.
pub struct Pipeline {
    temp: PathBuf,
    threads: usize,
    /// Workers beside the caller that may still be started.
    spare: AtomicUsize,
    slots: Mutex<Slots>,
    slot_is_free: Condvar,
}

/// A recipe that is to be read, and who looks at its files on the way.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// Is told of every file.
    pub guard: Option<&'a Guard>,
}

impl<'a> From<&'a Recipe> for Reading<'a> {
    fn from(recipe: &'a Recipe) -> Self {
        Self { recipe, guard: None }
    }
}

/// What is to be made of a recipe beside its diffID.
#[derive(Clone, Copy, Debug, Default)]
pub struct Want<'a> {
    /// A compressed blob.
    pub blob: bool,
    /// The uncompressed tar, written to this new file (an error if it exists); removed again after an error.
    pub tar: Option<&'a Path>,
}

/// What [`Pipeline::digest`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digested {
    /// Digest of the tar.
    pub diff_id: Digest,
    /// Size of the tar in bytes.
    pub size: u64,
    /// Whether the tar that was compared is the same, byte for byte; `false` if none was.
    pub same: bool,
}

/// What [`Pipeline::pack`] made.
#[derive(Debug)]
pub struct Packed {
    /// Digest of the tar.
    pub diff_id: Digest,
    /// Size of the tar in bytes.
    pub size: u64,
    /// The compressed blob, if it was wanted.
    pub blob: Option<Spool>,
}

/// Why a layer could not be made.
#[derive(Debug, Error)]
pub enum LayerError {
    /// A file of the layer could not be read, or an output not be written.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A file changed its size while it was read.
    #[error("{} changed while it was archived: {was} bytes, then {now}", .path.display())]
    Changed {
        /// Which file.
        path: PathBuf,
        /// Size when it was looked at.
        was: u64,
        /// Bytes that were read, at least.
        now: u64,
    },
    /// Something became another file while the layer was read: a directory a symlink, for instance.
    #[error("{} was replaced while it was archived", .path.display())]
    Replaced {
        /// Which file.
        path: PathBuf,
    },
}

impl LayerError {
    pub(super) fn path(operation: &'static str, path: &[u8], source: io::Error) -> Self {
        Self::Path(PathError { operation, path: to_path(path), source })
    }

    /// An entry could not be opened that is not to be followed if it is a symlink.
    pub(super) fn open(path: &[u8], source: io::Error) -> Self {
        let is_other = [Errno::ELOOP, Errno::ENOTDIR, Errno::ENXIO].map(|errno| Some(errno as i32));
        if is_other.contains(&source.raw_os_error()) { Self::replaced(path) } else { Self::path("open", path, source) }
    }

    pub(super) fn replaced(path: &[u8]) -> Self {
        Self::Replaced { path: to_path(path) }
    }

    pub(super) fn changed(path: &[u8], was: u64, now: u64) -> Self {
        Self::Changed { path: to_path(path), was, now }
    }
}

fn to_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// Buffers of one piece.
struct Slot {
    chunk: Chunk,
    /// The piece, with room for a byte after it.
    bytes: Box<Input>,
    packed: Vec<u8>,
    encoder: Option<Encoder>,
}

#[derive(Default)]
struct Slots {
    free: Vec<Slot>,
    made: usize,
}

/// A lock is only poisoned by a panic, which is passed on by the scope that the threads are in.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pipeline {
    /// `temp` is where blobs are spooled, in files without a name. Uses as many threads as there are cores, at most eight.
    pub fn new(temp: &Path) -> Self {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::with_threads(temp, cores.min(MOST_THREADS))
    }

    pub(crate) fn with_threads(temp: &Path, threads: usize) -> Self {
        Self {
            temp: temp.to_owned(),
            threads,
            spare: AtomicUsize::new(threads - 1),
            slots: Mutex::default(),
            slot_is_free: Condvar::new(),
        }
    }

    /// Reads a recipe's files and gives the diffID, comparing the tar with `compare` on the way.
    pub fn digest<'a>(
        &self,
        reading: impl Into<Reading<'a>>,
        compare: Option<&'a File>,
    ) -> Result<Digested, LayerError> {
        let mut output = Output::new();
        output.compare = compare.map(|file| Compare { file, same: true });
        Ok(self.run(Source::recipe(reading.into())?, output)?.digested())
    }

    /// Reads a recipe's files once and makes all that is wanted.
    pub fn pack<'a>(&self, reading: impl Into<Reading<'a>>, want: Want<'_>) -> Result<Packed, LayerError> {
        let source = Source::recipe(reading.into())?;
        let mut output = Output::new();
        if want.blob {
            output.blob = Some(Blob::create_in(&self.temp)?);
        }
        if let Some(path) = want.tar {
            output.tar = Some(NewFile::create(path.to_owned())?);
        }
        Ok(self.run(source, output)?.packed())
    }

    /// Compresses an uncompressed tar that already is in a file (a cache's, for a cache image or a registry), from its
    /// beginning. The blob is the same that [`Self::pack`] makes of the same bytes. `name` is for errors.
    pub fn compress(&self, tar: &File, name: &Path) -> Result<Packed, LayerError> {
        let size = tar.metadata().path("stat", name)?.len();
        let mut output = Output::new();
        output.blob = Some(Blob::create_in(&self.temp)?);
        Ok(self.run(Source::Tar { tar, name, size, next: 0 }, output)?.packed())
    }

    /// Calls `f` on each item, several at a time (at most the pipeline's threads); results in the items' order.
    /// After an error no new item is begun, and the error of the first item (in order) that failed is returned.
    pub fn map<T: Send, R: Send, E: Send>(
        &self,
        items: Vec<T>,
        f: impl Fn(T) -> Result<R, E> + Sync,
    ) -> Result<Vec<R>, E> {
        struct State<T, R, E> {
            items: std::iter::Enumerate<std::vec::IntoIter<T>>,
            done: Vec<(usize, R)>,
            failed: Option<(usize, E)>,
        }
        let count = items.len();
        let state = State { items: items.into_iter().enumerate(), done: Vec::with_capacity(count), failed: None };
        let state = Mutex::new(state);
        let work = || {
            loop {
                let next = Some(lock(&state)).filter(|state| state.failed.is_none()).and_then(|mut s| s.items.next());
                let Some((index, item)) = next else { return };
                let result = f(item);
                let mut state = lock(&state);
                match result {
                    Ok(result) => state.done.push((index, result)),
                    Err(error) if state.failed.as_ref().is_none_or(|(first, _)| index < *first) => {
                        state.failed = Some((index, error));
                    }
                    Err(_) => {}
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..count {
                let Some(helper) = self.helper() else { break };
                scope.spawn(move || {
                    let _helper = helper;
                    work();
                });
            }
            work();
        });
        let State { mut done, failed, .. } = state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, error)) = failed {
            return Err(error);
        }
        done.sort_unstable_by_key(|(index, _)| *index);
        Ok(done.into_iter().map(|(_, result)| result).collect())
    }

    /// The right to start one more thread, if there is one; given back when it is dropped.
    fn helper(&self) -> Option<Helper<'_>> {
        let take = |spare: usize| spare.checked_sub(1);
        self.spare.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok().map(|_| Helper(&self.spare))
    }

    fn take_slot(&self) -> Slot {
        let most = self.threads + (self.threads / 2).max(2);
        let mut slots = lock(&self.slots);
        loop {
            if let Some(slot) = slots.free.pop() {
                return slot;
            }
            if slots.made < most {
                slots.made += 1;
                drop(slots);
                let (chunk, bytes) = (Chunk::default(), deflate::input());
                return Slot { chunk, bytes, packed: Vec::new(), encoder: None };
            }
            slots = self.slot_is_free.wait(slots).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn give_back(&self, slot: Slot) {
        lock(&self.slots).free.push(slot);
        self.slot_is_free.notify_one();
    }

    fn run<'a>(&self, source: Source<'a>, output: Output<'a>) -> Result<Output<'a>, LayerError> {
        let compress = output.blob.is_some();
        let job = Job {
            pipeline: self,
            compress,
            source: Mutex::new(Some((0, source))),
            sink: Mutex::new(Sink { next: 0, waiting: BTreeMap::new(), output: Some(output), failed: None }),
        };
        thread::scope(|scope| job.work(scope));
        let Sink { output, failed, .. } = job.sink.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (failed, output) {
            (None, Some(output)) => Ok(output),
            (Some((_, error)), _) => Err(error),
            // Only a panic takes an output and does not put it back, and the scope has passed it on.
            (None, None) => unreachable!("a piece was being written when all threads had ended"),
        }
    }
}

/// See [`Pipeline::helper`].
struct Helper<'a>(&'a AtomicUsize);

impl Drop for Helper<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Where pieces come from.
enum Source<'a> {
    Recipe(Box<Chunker>, Option<&'a Guard>),
    Tar { tar: &'a File, name: &'a Path, size: u64, next: u64 },
}

/// How a worker fills them.
enum Reader<'a> {
    Recipe(Filler<'a>),
    Tar { tar: &'a File, name: &'a Path, size: u64 },
}

impl<'a> Source<'a> {
    fn recipe(reading: Reading<'a>) -> Result<Self, LayerError> {
        let Reading { recipe, guard } = reading;
        guard.into_iter().for_each(Guard::begin);
        Ok(Self::Recipe(Box::new(Chunker::new(Plan::new(recipe)?)), guard))
    }

    fn reader(&self) -> Reader<'a> {
        match self {
            Self::Recipe(chunker, guard) => Reader::Recipe(Filler::new(chunker.root(), *guard)),
            Self::Tar { tar, name, size, .. } => Reader::Tar { tar, name, size: *size },
        }
    }

    fn next(&mut self, chunk: &mut Chunk) -> Result<bool, LayerError> {
        match self {
            Self::Recipe(chunker, _) => chunker.next(chunk),
            Self::Tar { size, next, .. } => {
                chunk.length = (CHUNK as u64).min(*size - *next) as usize;
                *next += chunk.length as u64;
                Ok(chunk.length > 0)
            }
        }
    }

    fn is_at_end(&self) -> bool {
        match self {
            Self::Recipe(chunker, _) => chunker.is_at_end(),
            Self::Tar { size, next, .. } => next == size,
        }
    }
}

impl Reader<'_> {
    fn fill(&mut self, index: u64, slot: &mut Slot) -> Result<(), LayerError> {
        match self {
            Self::Recipe(filler) => filler.fill(&slot.chunk, slot.bytes.as_mut_slice()),
            Self::Tar { tar, name, size } => {
                let offset = index * CHUNK as u64;
                tar.read_exact_at(&mut slot.bytes[..slot.chunk.length], offset).map_err(|error| {
                    if error.kind() == io::ErrorKind::UnexpectedEof {
                        let now = tar.metadata().map_or(offset, |found| found.len());
                        LayerError::changed(name.as_os_str().as_bytes(), *size, now)
                    } else {
                        LayerError::path("read", name.as_os_str().as_bytes(), error)
                    }
                })
            }
        }
    }
}

/// One layer that is being made.
struct Job<'p, 'a> {
    pipeline: &'p Pipeline,
    compress: bool,
    /// The next piece's index and where it comes from; `None` when all were taken or something failed.
    source: Mutex<Option<(u64, Source<'a>)>>,
    sink: Mutex<Sink<'a>>,
}

/// What was made, in order.
struct Sink<'a> {
    next: u64,
    /// Complete pieces after the next.
    waiting: BTreeMap<u64, Slot>,
    /// Away while somebody writes.
    output: Option<Output<'a>>,
    /// Which piece failed, the first in order: all before it were taken, so it is always the same.
    failed: Option<(u64, LayerError)>,
}

impl<'a> Job<'_, 'a> {
    /// Works until nothing is left, and gets others to help.
    fn work<'s>(&'s self, scope: &'s thread::Scope<'s, '_>) {
        let Some(mut reader) = lock(&self.source).as_ref().map(|(_, source)| source.reader()) else { return };
        loop {
            let mut slot = self.pipeline.take_slot();
            let mut source = lock(&self.source);
            let Some((next, pieces)) = source.as_mut() else {
                drop(source);
                return self.pipeline.give_back(slot);
            };
            let index = *next;
            *next += 1;
            let found = pieces.next(&mut slot.chunk);
            let more = !pieces.is_at_end();
            if !matches!(found, Ok(true)) {
                *source = None;
            }
            drop(source);
            match found {
                Ok(true) => {}
                Ok(false) => return self.pipeline.give_back(slot),
                Err(error) => return self.fail(index, error, slot),
            }
            if more && let Some(helper) = self.pipeline.helper() {
                scope.spawn(move || {
                    let _helper = helper;
                    self.work(scope);
                });
            }
            match self.make(&mut reader, index, &mut slot) {
                Ok(()) => self.deliver(index, slot),
                Err(error) => return self.fail(index, error, slot),
            }
        }
    }

    fn make(&self, reader: &mut Reader<'a>, index: u64, slot: &mut Slot) -> Result<(), LayerError> {
        reader.fill(index, slot)?;
        if self.compress {
            let encoder = slot.encoder.get_or_insert_with(Encoder::new);
            encoder.member(&slot.bytes, slot.chunk.length, &mut slot.packed);
        }
        Ok(())
    }

    fn fail(&self, index: u64, error: LayerError, slot: Slot) {
        *lock(&self.source) = None;
        self.pipeline.give_back(slot);
        let mut sink = lock(&self.sink);
        sink.fail(index, error, self.pipeline);
    }

    /// Hands in a piece; writes it, and what waits after it, unless somebody else is about it.
    fn deliver(&self, index: u64, slot: Slot) {
        let mut sink = lock(&self.sink);
        if sink.failed.is_some() {
            return self.pipeline.give_back(slot);
        }
        sink.waiting.insert(index, slot);
        while sink.failed.is_none() && sink.waiting.contains_key(&sink.next) {
            let Some(mut output) = sink.output.take() else { return };
            let index = sink.next;
            let Some(slot) = sink.waiting.remove(&index) else { return };
            drop(sink);
            let written = output.write(&slot);
            self.pipeline.give_back(slot);
            if written.is_err() {
                *lock(&self.source) = None;
            }
            sink = lock(&self.sink);
            sink.output = Some(output);
            sink.next += 1;
            if let Err(error) = written {
                sink.fail(index, error, self.pipeline);
            }
        }
    }
}

impl Sink<'_> {
    fn fail(&mut self, index: u64, error: LayerError, pipeline: &Pipeline) {
        if self.failed.as_ref().is_none_or(|(first, _)| index < *first) {
            self.failed = Some((index, error));
        }
        // Nobody will write them, and others wait for the buffers.
        while let Some((_, slot)) = self.waiting.pop_first() {
            pipeline.give_back(slot);
        }
    }
}

/// What becomes of the pieces, in order. Dropped before it is finished, it leaves no file.
struct Output<'a> {
    hasher: Hasher,
    written: u64,
    blob: Option<Blob<'a>>,
    tar: Option<NewFile>,
    compare: Option<Compare<'a>>,
}

/// A blob that is being written, to a file without a name.
struct Blob<'a> {
    file: File,
    /// The directory that the file is in.
    temp: &'a Path,
    hasher: Hasher,
}

impl<'a> Blob<'a> {
    fn create_in(temp: &'a Path) -> Result<Self, LayerError> {
        let file = tempfile::tempfile_in(temp).path("create a temporary file in", temp)?;
        Ok(Self { file, temp, hasher: Hasher::new() })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PathError> {
        self.hasher.update(bytes);
        self.file.write_all(bytes).path("write a temporary file in", self.temp)
    }
}

/// A file that is being written; removed if it is not finished.
struct NewFile {
    file: File,
    path: PathBuf,
    finished: bool,
}

struct Compare<'a> {
    file: &'a File,
    same: bool,
}

impl NewFile {
    fn create(path: PathBuf) -> Result<Self, LayerError> {
        let file = OpenOptions::new().write(true).create_new(true).open(&path).path("create", &path)?;
        Ok(Self { file, path, finished: false })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PathError> {
        self.file.write_all(bytes).path("write", &self.path)
    }

    fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Output<'_> {
    fn new() -> Self {
        Self { hasher: Hasher::new(), written: 0, blob: None, tar: None, compare: None }
    }

    fn write(&mut self, slot: &Slot) -> Result<(), LayerError> {
        let bytes = &slot.bytes[..slot.chunk.length];
        self.hasher.update(bytes);
        if let Some(compare) = &mut self.compare {
            compare.same = compare.same && is_same(compare.file, self.written, bytes);
        }
        if let Some(tar) = &mut self.tar {
            tar.write(bytes)?;
        }
        if let Some(blob) = &mut self.blob {
            blob.write(&slot.packed)?;
        }
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn digested(self) -> Digested {
        let same = self.compare.is_some_and(|compare| {
            compare.same && compare.file.metadata().is_ok_and(|found| found.len() == self.written)
        });
        let (diff_id, size) = self.hasher.finish();
        Digested { diff_id, size, same }
    }

    fn packed(self) -> Packed {
        let blob = self.blob.map(|Blob { file, hasher, .. }| {
            let (digest, size) = hasher.finish();
            Spool::new(file, digest, size)
        });
        if let Some(tar) = self.tar {
            tar.finish();
        }
        let (diff_id, size) = self.hasher.finish();
        Packed { diff_id, size, blob }
    }
}

/// Whether a file has these bytes at this place. One that cannot be read has others.
fn is_same(file: &File, offset: u64, bytes: &[u8]) -> bool {
    let mut buffer = [0; 64 << 10];
    bytes.chunks(buffer.len()).zip(0..).all(|(part, index)| {
        let found = &mut buffer[..part.len()];
        file.read_exact_at(found, offset + index * (64 << 10)).is_ok() && found == part
    })
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;

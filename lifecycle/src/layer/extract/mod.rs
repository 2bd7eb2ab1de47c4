//! From a tar that nobody vouches for to a directory.
//!
//! A cache, and the previous image, are hostile: whoever can write to them could otherwise write anywhere in a build.
//! So an entry is taken if it is the layer's own directory or beneath it. The directories above, which the lifecycle
//! puts in its layers too, are neither changed nor replaced; one beneath the layers directory that is missing is made.
//! Anything else is refused, and with it the layer.
//!
//! While extracting, only directories that are made here are entered, by descriptor, one component at a time, without
//! following a symlink; that is what `RESOLVE_BENEATH` would give, on every kernel and at any depth. A symlink's target
//! is free text. Extraction happens in a directory beside, `.restoring~<pid>.<number>`, a name that no buildpack's
//! directory has, and ends with a rename: what was there before is there until then, whenever the process is killed.

mod target;
#[cfg(test)]
mod tests;
mod write;

use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use rustix::fs::{CWD, Mode, OFlags, openat};
use thiserror::Error;

use self::target::{Holder, TEMPORARY, Target};
use self::write::Extraction;
use super::beneath::LIST;
use super::guard::Guard;
use super::gzip;
use super::remove::remove_tree;
use super::untar::{Bytes, Untar};
use crate::digest::{Digest, Hasher};
use crate::file::PathError;

/// Why a layer could not be extracted. The caller skips that layer with its TOML and goes on.
#[derive(Debug, Error)]
pub enum ExtractError {
    /// The tar or its compression is damaged or cut short.
    #[error("read layer: {0}")]
    Read(io::Error),
    /// The content is not what was asked for.
    #[error("expected layer contents to have SHA '{expected}'; found '{found}'")]
    Digest {
        /// The diffID asked for.
        expected: Digest,
        /// The digest of what was read.
        found: Digest,
    },
    /// An entry is outside of the layer's own directory.
    #[error("entry {} is outside of {}", .entry.display(), .layer.display())]
    Outside {
        /// The entry's name.
        entry: PathBuf,
        /// The layer's directory.
        layer: PathBuf,
    },
    /// An entry of a kind that is not extracted (device), or a hard link that points elsewhere.
    #[error("entry {}: {reason}", .entry.display())]
    Refused {
        /// The entry's name.
        entry: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] PathError),
}

impl From<io::Error> for ExtractError {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// Extracts one layer's tar (gzip-compressed or not, told by its first bytes) to `<layers>/<relative>`, verifying
/// its diffID on the way. `layers` is the absolute path of the layers directory; the tar names its entries by it.
/// Extraction happens beside and is renamed into place only when all was read and the digest is right, so that after
/// an error nothing is there. What was in the place before is replaced. Modes are those of the tar, whatever the umask;
/// the owner is the process's.
pub fn extract(from: impl Read + Send, expected: &Digest, layers: &Path, relative: &Path) -> Result<(), ExtractError> {
    extract_guarded(from, expected, layers, relative, None)
}

/// [`extract`], with a guard that is told of every file.
pub fn extract_guarded(
    from: impl Read + Send,
    expected: &Digest,
    layers: &Path,
    relative: &Path,
    guard: Option<&Guard>,
) -> Result<(), ExtractError> {
    let target = Target::new(layers, relative)?;
    let holder = Holder::create(&target)?;
    let mut layer = Extraction::new(&target, &holder, guard);
    let found = thread::scope(|scope| {
        let (full, pieces) = sync_channel(PIECES);
        let (emptied, back) = channel();
        let reader = scope.spawn(move || read_and_hash(from, &full, &back));
        let mut untar = Untar::new(Stream { pieces, emptied, piece: Vec::new(), at: 0 });
        let extracted = layer.extract(&mut untar);
        let mut rest = untar.into_rest();
        let drained = match &extracted {
            // The disk is full: what else is in the tar does not matter.
            Err(ExtractError::Write(_)) => Ok(()),
            // If the digest is wrong as well, that is the reason.
            Ok(()) | Err(_) => rest.drain(),
        };
        drop(rest);
        let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (extracted, drained, read) {
            (Err(error @ ExtractError::Write(_)), ..) => Err(error),
            (_, _, Err(error)) | (_, Err(error), _) => Err(ExtractError::Read(error)),
            (_, Ok(()), Ok(found)) if found != *expected => Err(ExtractError::Digest { expected: *expected, found }),
            (extracted, Ok(()), Ok(_)) => extracted,
        }
    });
    found?;
    layer.finish()
}

/// Removes what a killed extraction left beside the layers.
pub fn remove_leftovers(layers: &Path) -> io::Result<()> {
    let directory = openat(CWD, layers, LIST.difference(OFlags::NOFOLLOW), Mode::empty())?;
    for entry in std::fs::read_dir(layers)? {
        let name = entry?.file_name();
        if name.as_bytes().starts_with(TEMPORARY.as_bytes()) {
            remove_tree(&directory, name.as_bytes())?;
        }
    }
    Ok(())
}

/// Buffers between the thread that reads and the one that writes, and their length.
const PIECES: usize = 3;
const PIECE: usize = 256 << 10;

/// Reads all of a layer, hashes it and passes it on.
fn read_and_hash(from: impl Read + Send, full: &SyncSender<Vec<u8>>, back: &Receiver<Vec<u8>>) -> io::Result<Digest> {
    let mut from = gzip::decompressed(from)?;
    let mut hasher = Hasher::new();
    loop {
        let mut piece = back.try_recv().unwrap_or_default();
        piece.resize(PIECE, 0);
        let mut filled = 0;
        while filled < PIECE {
            match from.read(&mut piece[filled..]) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if filled == 0 {
            return Ok(hasher.finish().0);
        }
        piece.truncate(filled);
        hasher.update(&piece);
        if full.send(piece).is_err() {
            // Nobody wants the rest; the digest is not asked for either.
            return Ok(hasher.finish().0);
        }
    }
}

/// What the reading thread passes on.
struct Stream {
    pieces: Receiver<Vec<u8>>,
    emptied: Sender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Bytes for Stream {
    fn peek(&mut self) -> io::Result<&[u8]> {
        if self.at == self.piece.len() {
            self.at = 0;
            let next = self.pieces.recv().unwrap_or_default();
            let last = std::mem::replace(&mut self.piece, next);
            // The reading thread may have ended.
            let _ = self.emptied.send(last);
        }
        Ok(&self.piece[self.at..])
    }

    fn advance(&mut self, length: usize) {
        self.at += length;
    }
}

impl Stream {
    fn drain(&mut self) -> io::Result<()> {
        loop {
            let length = self.peek()?.len();
            if length == 0 {
                return Ok(());
            }
            self.advance(length);
        }
    }
}

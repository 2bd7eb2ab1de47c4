//! Compressed blobs on their way to a store, in temporary files that have no name: whenever the process ends, even
//! killed, nothing of them is left.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, linkat};

use crate::digest::Digest;

/// A compressed blob in a temporary file, gone when this is dropped.
#[derive(Debug)]
pub struct Spool {
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob in bytes.
    pub size: u64,
    file: Arc<File>,
}

impl Spool {
    /// Takes over a finished file, open for reading.
    pub fn new(file: File, digest: Digest, size: u64) -> Self {
        Self { digest, size, file: Arc::new(file) }
    }

    /// The blob from its beginning. May be called several times; each reader is at a place of its own.
    pub fn open(&self) -> SpoolReader {
        SpoolReader { file: self.file.clone(), at: 0 }
    }

    /// Gives the file a name, if the system can: a store on the same file system need not copy it then.
    pub fn link(&self, to: &Path) -> io::Result<()> {
        // The only way to a file without a name that needs no privilege; no symlink of anybody else is followed.
        let descriptor = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        Ok(linkat(CWD, descriptor, CWD, to, AtFlags::SYMLINK_FOLLOW)?)
    }
}

/// Reads a [`Spool`].
#[derive(Debug)]
pub struct SpoolReader {
    file: Arc<File>,
    at: u64,
}

impl Read for SpoolReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for SpoolReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.file.metadata()?.len().checked_add_signed(by),
        };
        self.at = place.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn spool(dir: &Path) -> Spool {
        let mut file = tempfile::tempfile_in(dir).expect("a file");
        file.write_all(b"content").expect("written");
        Spool::new(file, Digest::of(b"content"), 7)
    }

    #[test]
    fn each_reader_is_at_its_own_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let spool = spool(dir.path());
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0, "it has no name");
        let (mut one, mut other) = (spool.open(), spool.open());
        let mut part = [0; 3];
        one.read_exact(&mut part).expect("read");
        assert_eq!(io::read_to_string(&mut other).expect("read"), "content");
        assert_eq!((&part, io::read_to_string(&mut one).expect("read").as_str()), (b"con", "tent"));
        for (to, rest) in [
            (SeekFrom::Start(5), "nt"),
            (SeekFrom::Current(-3), "ent"),
            (SeekFrom::End(-1), "t"),
            (SeekFrom::Start(9), ""),
        ] {
            other.seek(to).expect("sought");
            assert_eq!(io::read_to_string(&mut other).expect("read"), rest, "{to:?}");
        }
        other.seek(SeekFrom::Current(-10)).expect_err("before the beginning");
    }

    #[test]
    fn it_can_be_given_a_name_and_keeps_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let spool = spool(dir.path());
        let path = dir.path().join("name");
        spool.link(&path).expect("linked");
        spool.link(&path).expect_err("the name is taken");
        drop(spool);
        assert_eq!(fs::read(&path).expect("read"), b"content");
        assert_eq!(fs::metadata(&path).expect("there").nlink(), 1);
    }
}

//! Reading blobs that have to be what a descriptor says.

use std::io::{self, Read};

use super::manifest::BlobRef;
use crate::digest::{Digest, Hasher};

/// Passes on what it reads, and reports the end only if all of it had the descriptor's size and digest. Else the last
/// read is an error of kind [`io::ErrorKind::InvalidData`]: what was read before must not be used.
pub struct VerifiedReader<R> {
    inner: R,
    hasher: Hasher,
    digest: Digest,
    left: u64,
    verified: bool,
}

impl<R: Read> VerifiedReader<R> {
    /// Reads a blob.
    pub fn new(inner: R, blob: &BlobRef) -> Self {
        Self { inner, hasher: Hasher::new(), digest: blob.digest, left: blob.size, verified: false }
    }

    fn invalid(&self, reason: &str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("blob {} {reason}", self.digest))
    }
}

impl<R: Read> Read for VerifiedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.verified || buffer.is_empty() {
            return Ok(0);
        }
        let read = self.inner.read(buffer)?;
        self.left = match self.left.checked_sub(read as u64) {
            Some(left) => left,
            None => return Err(self.invalid("is longer than it should be")),
        };
        self.hasher.update(buffer.get(..read).unwrap_or_default());
        if read == 0 {
            if self.left > 0 {
                return Err(self.invalid(&format!("is {} bytes shorter than it should be", self.left)));
            }
            let (found, _) = std::mem::take(&mut self.hasher).finish();
            if found != self.digest {
                return Err(self.invalid(&format!("has other content, of digest {found}")));
            }
            self.verified = true;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8], digest_of: &[u8], size: u64) -> io::Result<Vec<u8>> {
        let blob = BlobRef::new("x", Digest::of(digest_of), size);
        let mut all = Vec::new();
        VerifiedReader::new(content, &blob).read_to_end(&mut all).map(|_| all)
    }

    #[test]
    fn only_the_right_content_ends() {
        assert_eq!(read(b"abc", b"abc", 3).expect("right"), b"abc");
        assert_eq!(read(b"", b"", 0).expect("right"), b"");
        for (content, digest_of, size, text) in [
            (&b"ab"[..], &b"abc"[..], 3, "is 1 bytes shorter"),
            (b"abcd", b"abc", 3, "is longer"),
            (b"abd", b"abc", 3, "has other content, of digest sha256:"),
            (b"abc", b"abc", 2, "is longer"),
        ] {
            let error = read(content, digest_of, size).expect_err(text);
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn the_end_is_reported_again() {
        let blob = BlobRef::new("x", Digest::of(b"a"), 1);
        let mut reader = VerifiedReader::new(&b"a"[..], &blob);
        let mut buffer = [0; 4];
        let read: Vec<usize> = (0..4).map(|_| reader.read(&mut buffer).expect("right")).collect();
        assert_eq!(read, [1, 0, 0, 0]);
    }
}

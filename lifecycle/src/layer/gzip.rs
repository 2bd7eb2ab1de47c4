//! Gzip: members that are compressed independently of each other, and their reading.
//!
//! A blob is one member for each piece of the tar, one after the other (RFC 1952, 2.2).

use std::io::{self, Read};

use flate2::bufread::MultiGzDecoder;

use super::deflate::{Deflater, Input};

/// Makes members.
pub(super) struct Encoder {
    deflater: Deflater,
}

/// What a member begins with: deflate, no name, no time, fastest level, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

impl Encoder {
    pub(super) fn new() -> Self {
        Self { deflater: Deflater::new() }
    }

    /// Compresses the first `length` bytes to one member, which replaces what is in `out`. What does not get smaller is
    /// stored.
    pub(super) fn member(&mut self, buffer: &Input, length: usize, out: &mut Vec<u8>) {
        let bytes = &buffer[..length];
        out.clear();
        out.extend_from_slice(&HEADER);
        self.deflater.deflate(buffer, length, out);
        out.extend_from_slice(&crc32fast::hash(bytes).to_le_bytes());
        // Of the length, the format has only these bits.
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    }
}

/// Reads a layer as a tar: decompressed, if its first bytes say that it is gzip.
pub(super) fn decompressed<'a>(mut from: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut magic = Vec::with_capacity(2);
    from.by_ref().take(2).read_to_end(&mut magic)?;
    let is_gzip = magic == HEADER[..2];
    let whole = io::Cursor::new(magic).chain(from);
    if is_gzip {
        Ok(Box::new(MultiGzDecoder::new(io::BufReader::with_capacity(128 << 10, whole))))
    } else {
        Ok(Box::new(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        std::iter::repeat_with(&mut next).take(length).collect()
    }

    fn buffer(bytes: &[u8]) -> Box<Input> {
        let mut buffer = crate::layer::deflate::input();
        buffer[..bytes.len()].copy_from_slice(bytes);
        buffer
    }

    fn read(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        decompressed(bytes).expect("begun").read_to_end(&mut out).expect("valid");
        out
    }

    #[test]
    fn members_are_read_one_after_the_other() {
        let text: Vec<u8> = b"some text that repeats, ".repeat(40_000);
        let parts = [&text[..], b"", b"x", &noise(300_000), &text[..70_000], &[0; 1 << 20], b"y", &[0; 1 << 20]];
        let (mut encoder, mut member, mut blob) = (Encoder::new(), Vec::new(), Vec::new());
        for part in parts {
            encoder.member(&buffer(part), part.len(), &mut member);
            assert_eq!(read(&member), part);
            blob.extend_from_slice(&member);
        }
        assert_eq!(read(&blob), parts.concat());
        assert!(blob.len() < parts.concat().len() / 5);
    }

    #[test]
    fn what_does_not_compress_is_stored_and_hardly_grows() {
        for length in [1, 1000, 65_535, 65_536, 1 << 20] {
            let bytes = noise(length);
            let mut member = Vec::new();
            Encoder::new().member(&buffer(&bytes), length, &mut member);
            assert!(member.len() <= 23 + length + length / 8000, "{length}");
            assert_eq!(read(&member), bytes);
        }
    }

    #[test]
    fn plain_and_short_input_is_given_as_it_is() {
        for plain in [&b""[..], b"\x1f", b"ab", b"plain"] {
            assert_eq!(read(plain), plain);
        }
    }
}

//! Gzip: members that are compressed independently of each other, and their reading.
//!
//! A blob is one member for each piece of the tar, one after the other (RFC 1952, 2.2). The one function that makes a
//! member is the only place that knows the encoder.

use std::io::{self, Read};

use flate2::bufread::MultiGzDecoder;
use libdeflater::{CompressionLvl, Compressor};

use super::chunk::CHUNK;

/// libdeflate's fastest level that compresses; its `fastest()` is 0, which does not.
const LEVEL: i32 = 1;

/// Makes members.
pub(super) struct Encoder {
    compressor: Compressor,
    /// The member of a whole piece of zeros, once there was one: sparse files have many.
    zeros: Vec<u8>,
}

/// What a member begins with: deflate, no name, no time, fastest level, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

/// The most that a stored block of deflate holds.
const STORED_BLOCK: usize = 65_535;

/// Bytes around a block in a member of one stored block or more: header, checksum and length.
const AROUND: usize = HEADER.len() + 8;

impl Encoder {
    pub(super) fn new() -> Self {
        Self { compressor: Compressor::new(CompressionLvl::new(LEVEL).unwrap_or_default()), zeros: Vec::new() }
    }

    /// Compresses to one member, which replaces what is in `out`. What does not get smaller is stored.
    pub(super) fn member(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if bytes.len() == CHUNK && bytes.iter().all(|byte| *byte == 0) {
            if self.zeros.is_empty() {
                self.compress(bytes, out);
                self.zeros.clone_from(out);
            }
            out.clone_from(&self.zeros);
        } else {
            self.compress(bytes, out);
        }
    }

    fn compress(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        // As long as the stored form, so that a longer one shows as an error.
        out.resize(stored_length(bytes.len()), 0);
        if !looks_compressed(bytes)
            && let Ok(length) = self.compressor.gzip_compress(bytes, out)
        {
            out.truncate(length);
            return;
        }
        store(bytes, out);
    }
}

fn stored_length(length: usize) -> usize {
    AROUND + length + 5 * length.div_ceil(STORED_BLOCK).max(1)
}

fn store(bytes: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&HEADER);
    let mut rest = bytes;
    loop {
        let (block, after) = rest.split_at(rest.len().min(STORED_BLOCK));
        let length = block.len() as u16;
        out.push(u8::from(after.is_empty()));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    out.extend_from_slice(&libdeflater::crc32(bytes).to_le_bytes());
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
}

/// Samples of this many bytes are looked at, one in each [`EVERY`].
const SAMPLE: usize = 1024;
const EVERY: usize = 16 << 10;

/// Whether trying is a waste: in samples from all over, bytes are as frequent as chance makes them. Archives and pictures
/// are like that. Costs a hundredth of compressing.
fn looks_compressed(bytes: &[u8]) -> bool {
    if bytes.len() < 4 * EVERY {
        return false;
    }
    // In each sample separately: one part that compresses well is worth compressing the whole.
    bytes.chunks_exact(EVERY).all(|part| {
        let mut counts = [0u32; 256];
        for byte in &part[EVERY - SAMPLE..] {
            counts[usize::from(*byte)] += 1;
        }
        // The sum of squares of n random bytes is n + n(n-1)/256 on average, 5,116 here, give or take 90.
        let squares: u32 = counts.iter().map(|count| count * count).sum();
        squares < 5_600
    })
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

    fn read(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        decompressed(bytes).expect("begun").read_to_end(&mut out).expect("valid");
        out
    }

    #[test]
    fn members_are_read_one_after_the_other() {
        let text: Vec<u8> = b"some text that repeats, ".repeat(50_000);
        let parts = [&text[..], b"", b"x", &noise(300_000), &text[..70_000], &[0; CHUNK], b"y", &[0; CHUNK]];
        let (mut encoder, mut member, mut blob) = (Encoder::new(), Vec::new(), Vec::new());
        for part in parts {
            encoder.member(part, &mut member);
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
            Encoder::new().member(&bytes, &mut member);
            assert!(member.len() <= stored_length(length), "{length}");
            assert_eq!(read(&member), bytes);
        }
        assert!(looks_compressed(&noise(1 << 20)));
    }

    #[test]
    fn one_part_that_compresses_is_enough_to_try() {
        let mut bytes = noise(1 << 20);
        bytes[700_000..760_000].fill(b' ');
        assert!(!looks_compressed(&bytes));
    }

    #[test]
    fn plain_and_short_input_is_given_as_it_is() {
        for plain in [&b""[..], b"\x1f", b"ab", b"plain"] {
            assert_eq!(read(plain), plain);
        }
    }
}

//! Compressing to deflate (RFC 1951): half of what an export does, so made for just that.
//!
//! Layers are compressed once and read many times, mostly over networks that are slower than a core; and whoever builds
//! waits. So the output is no larger than that of the fastest level of Go's encoder, which is what registries get from
//! others, and the time is the least that this allows: on toolchains and packages it is 3.5 times as fast as Go's and 1.9
//! times as fast as libdeflate's fastest level, which is 5 % smaller. Data that does not compress is found out and costs
//! next to nothing.
//!
//! [`matches`] turns bytes into [`tokens`], literals and references to what came before; when there are enough for a
//! block, [`block`] chooses codes for them ([`huffman`]) and writes them with [`bits`]. The output depends on the input
//! alone: not on what was compressed before, not on the machine.

mod bits;
mod block;
mod huffman;
mod matches;
mod tokens;

use super::chunk::{BUFFER, CHUNK};
use bits::Bits;
use matches::Matches;
use tokens::Tokens;

/// The most that an input has.
const MOST: usize = CHUNK;

/// A buffer with an input at its beginning. As its size is known, and larger than any input, places in it need no check.
pub(super) type Input = [u8; BUFFER];
const _: () = assert!(MOST.is_power_of_two() && MOST + 8 <= BUFFER);

/// A new buffer; never on the stack, where it would hardly fit.
pub(super) fn input() -> Box<Input> {
    vec![0; BUFFER].try_into().unwrap_or_else(|_| unreachable!("it has that length"))
}

/// Compresses one input after the other. Has 200 KiB of tables.
pub(super) struct Deflater {
    matches: Box<Matches>,
    tokens: Box<Tokens>,
}

impl Deflater {
    pub(super) fn new() -> Self {
        Self { matches: Matches::new(), tokens: Tokens::new() }
    }

    /// Appends a whole deflate stream of the first `length` bytes (at most [`CHUNK`]) to `out`: at most five bytes in 40,000
    /// longer than they are.
    pub(super) fn deflate(&mut self, input: &Input, length: usize, out: &mut Vec<u8>) {
        self.matches.forget();
        let mut bits = Bits::new(out);
        let mut at = 0;
        loop {
            let end = self.matches.tokenize(input, length, at, &mut self.tokens);
            let is_last = end == length;
            block::write(&self.tokens, &input[at..end], is_last, &mut bits);
            if is_last {
                return bits.finish();
            }
            at = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Numbers as good as chance, always the same.
    fn chance() -> impl FnMut(usize) -> usize {
        let mut state = 1u64;
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        }
    }

    fn inflated(stream: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut decoder = flate2::bufread::DeflateDecoder::new(stream);
        decoder.read_to_end(&mut out).expect("a valid stream");
        assert!(decoder.into_inner().is_empty(), "bytes after the end");
        out
    }

    /// An input, and other bytes after it.
    fn buffer(input: &[u8], after: u8) -> Box<Input> {
        let mut buffer = super::input();
        buffer.fill(after);
        buffer[..input.len()].copy_from_slice(input);
        buffer
    }

    #[track_caller]
    fn check(deflater: &mut Deflater, input: &[u8], at_most: usize) {
        let mut out = b"before".to_vec();
        deflater.deflate(&buffer(input, input.last().copied().unwrap_or(0)), input.len(), &mut out);
        let stream = out.strip_prefix(b"before").expect("appended");
        assert!(inflated(stream) == input, "another content, of {} bytes", input.len());
        assert!(stream.len() <= at_most, "{} bytes became {}", input.len(), stream.len());
        let mut again = Vec::new();
        Deflater::new().deflate(&buffer(input, 1), input.len(), &mut again);
        assert!(again == stream, "what was compressed before, or is after it, shows");
    }

    #[test]
    fn short_inputs() {
        let mut deflater = Deflater::new();
        let mut next = chance();
        for length in 0..600 {
            check(&mut deflater, &vec![b'x'; length], length + 5);
            let text: Vec<u8> = (0..length).map(|_| b"ab cd\n"[next(6)]).collect();
            check(&mut deflater, &text, length + 5);
            let noise: Vec<u8> = (0..length).map(|_| next(256) as u8).collect();
            check(&mut deflater, &noise, length + 5);
        }
    }

    #[test]
    fn one_byte_value_alone_and_runs_of_all_lengths() {
        let mut deflater = Deflater::new();
        for length in [1000, 65_535, 65_536, 70_000, MOST - 1, MOST] {
            check(&mut deflater, &vec![7; length], length / 500 + 40);
        }
        let mut next = chance();
        let runs: Vec<u8> = (1..1200).flat_map(|length| vec![next(256) as u8; length]).collect();
        check(&mut deflater, &runs, runs.len() / 50);
    }

    #[test]
    fn what_was_there_before_is_found_as_far_as_deflate_can_tell() {
        let mut deflater = Deflater::new();
        let mut next = chance();
        let part: Vec<u8> = (0..1000).map(|_| next(256) as u8).collect();
        for (distance, at_most) in [(1000, 1200), (32_768, 1200), (32_769, 2200), (65_536, 2200), (66_000, 2200)] {
            // Between the two: one run, which takes next to nothing.
            let input = [&part[..], &vec![0; distance - 1000], &part].concat();
            check(&mut deflater, &input, at_most + distance / 500);
        }
    }

    #[test]
    fn noise_hardly_grows_and_a_part_that_compresses_is_compressed() {
        let mut deflater = Deflater::new();
        let mut next = chance();
        let mut noise: Vec<u8> = (0..1 << 20).map(|_| next(256) as u8).collect();
        check(&mut deflater, &noise, noise.len() + noise.len() / 8000 + 5);
        noise[700_000..760_000].fill(b' ');
        check(&mut deflater, &noise, noise.len() - 59_000);
    }

    #[test]
    fn mixtures_of_everything() {
        let mut deflater = Deflater::new();
        let mut next = chance();
        for _ in 0..60 {
            let mut input: Vec<u8> = Vec::new();
            while input.len() < 200_000 {
                let most = 1 << (1 + next(14));
                let length = 1 + next(most);
                match next(4) {
                    0 => input.extend(std::iter::repeat_n(next(256) as u8, length)),
                    1 => input.extend((0..length).map(|_| next(256) as u8)),
                    2 => input.extend((0..length).map(|_| b'a' + next(3) as u8)),
                    _ => {
                        let from = next(input.len() + 1);
                        input.extend_from_within(from..(from + length).min(input.len()));
                    }
                }
            }
            check(&mut deflater, &input, input.len());
        }
    }

    /// Frequencies as those of Fibonacci would need codes of more bits than there may be.
    #[test]
    fn codes_are_never_too_long() {
        let mut input = Vec::new();
        let (mut a, mut b) = (1, 1);
        for byte in 0..24 {
            input.extend(std::iter::repeat_n(byte, a));
            (a, b) = (b, a + b);
        }
        // In an order in which nothing repeats for long.
        let mut next = chance();
        for at in (1..input.len()).rev() {
            input.swap(at, next(at + 1));
        }
        check(&mut Deflater::new(), &input, input.len() / 2);
    }

    #[test]
    fn executables_and_text_get_as_small_as_with_other_encoders() {
        let own = std::fs::read(std::env::current_exe().expect("a path")).expect("read");
        let own = &own[..own.len().min(8 * MOST)];
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(2));
        std::io::Write::write_all(&mut encoder, own).expect("compressed");
        let theirs = encoder.finish().expect("compressed").len();
        let mut deflater = Deflater::new();
        let mut ours = Vec::new();
        own.chunks(MOST).for_each(|piece| deflater.deflate(&buffer(piece, 0), piece.len(), &mut ours));
        assert!(ours.len() < theirs + theirs / 20, "{} bytes, zlib-rs {theirs}", ours.len());
    }
}

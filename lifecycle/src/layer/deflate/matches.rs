//! Finding what was there before.
//!
//! A table has, for each hash of four bytes, where such bytes were last seen. Two neighbouring places are looked up at a time
//! and without branches between them: what takes time is that nobody can foresee where a reference begins, so that
//! each costs the processor a wrong guess; there is one for both places, and few others. For the same reason literals
//! are not collected until a reference comes: each pair is a token at once.

use super::tokens::{LONGEST, STEP, Tokens};

/// Size of the table: with the 32 KiB that references reach back, it fits in a core's nearest caches.
const TABLE_BITS: u32 = 14;
const TABLE: usize = 1 << TABLE_BITS;

/// How far references reach back.
const WINDOW: usize = 32 << 10;

/// So many pairs without a reference are looked up one by one; then, what follows is taken for something that does not
/// compress, and more and more of it is passed over: one pair for each [`PER_SKIP`] further.
const PATIENCE: usize = 32;
const PER_SKIP: usize = 16;

/// Less than this is left at the end as literals, so that eight bytes can be read at each place before.
const TAIL: usize = 16;

/// Longer references are cut, and go on in the next step.
const LONGEST_STEP: usize = LONGEST * (STEP - 2);

/// Where bytes were last seen.
pub(super) struct Matches {
    /// The lower half of a place's number. If what it says is older than [`WINDOW`], it may be any other place: as the
    /// bytes there are compared, this is no harm.
    table: [u16; TABLE],
}

#[inline(always)]
fn eight(input: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&input[at..at + 8]);
    u64::from_le_bytes(bytes)
}

#[inline(always)]
fn four(input: &[u8], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&input[at..at + 4]);
    u32::from_le_bytes(bytes)
}

/// Of the first four of some bytes.
#[inline(always)]
fn hash(bytes: u64) -> usize {
    ((bytes as u32).wrapping_mul(0x9e37_79b1) >> (32 - TABLE_BITS)) as usize
}

impl Matches {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self { table: [0; TABLE] })
    }

    /// Forgets everything: the next input begins.
    pub(super) fn forget(&mut self) {
        self.table.fill(0);
    }

    /// Replaces `tokens` by those of a block that begins at `from`; gives where it ends. `input` is always the whole.
    // Apart from all else, so that its loop has the registers for itself.
    #[inline(never)]
    pub(super) fn tokenize(&mut self, input: &[u8], from: usize, tokens: &mut Tokens) -> usize {
        tokens.clear();
        let end = input.len().saturating_sub(TAIL);
        let mut at = from;
        let mut misses = 0;
        while at < end {
            if tokens.is_full() {
                return at;
            }
            let bytes = eight(input, at);
            let distances = [self.see(at, bytes), self.see(at + 1, bytes >> 8)];
            // No place is further away than the beginning.
            let is_match = |place: usize, distance: u16, bytes: u32| {
                (usize::from(distance.wrapping_sub(1)) < WINDOW) & (four(input, place - usize::from(distance)) == bytes)
            };
            let here = is_match(at, distances[0], bytes as u32);
            let next = is_match(at + 1, distances[1], (bytes >> 8) as u32);
            if !(here | next) {
                tokens.pair(bytes as u8, (bytes >> 8) as u8);
                at += 2;
                misses += 1;
                if misses > PATIENCE {
                    let length = 2 * ((misses - PATIENCE) / PER_SKIP).min(STEP / 2);
                    let passed = &input[at..(at + length).min(end.max(at))];
                    let pairs = passed.chunks_exact(2);
                    at += 2 * pairs.len();
                    pairs.for_each(|pair| tokens.pair(pair[0], pair[1]));
                }
                continue;
            }
            misses = 0;
            tokens.single_if(!here, bytes as u8);
            at += usize::from(!here);
            let distance = usize::from(if here { distances[0] } else { distances[1] });
            let length = 4 + same(input, at + 4, distance);
            tokens.reference(length, distance);
            at += length;
            if at < end {
                let bytes = eight(input, at - 2);
                self.table[hash(bytes)] = (at - 2) as u16;
                self.table[hash(bytes >> 8)] = (at - 1) as u16;
            }
        }
        let mut rest = input[at..].chunks_exact(2);
        (&mut rest).for_each(|pair| tokens.pair(pair[0], pair[1]));
        rest.remainder().iter().for_each(|byte| tokens.single_if(true, *byte));
        input.len()
    }

    /// How far back the same hash was seen; from now on it was seen here.
    #[inline(always)]
    fn see(&mut self, at: usize, bytes: u64) -> u16 {
        let place = at as u16;
        place.wrapping_sub(std::mem::replace(&mut self.table[hash(bytes)], place))
    }
}

/// How many bytes are the same as those `distance` before.
#[inline(always)]
fn same(input: &[u8], at: usize, distance: usize) -> usize {
    let most = input.len().min(at + LONGEST_STEP);
    let mut end = at;
    while end + 8 <= most {
        let difference = eight(input, end) ^ eight(input, end - distance);
        if difference != 0 {
            return end - at + (difference.trailing_zeros() / 8) as usize;
        }
        end += 8;
    }
    while end < most && input[end] == input[end - distance] {
        end += 1;
    }
    end - at
}

//! Finding what was there before.
//!
//! A table has, for each hash of five bytes, where such bytes were last seen. Two neighbouring places are looked up at a time
//! and without branches between them: what takes time is that nobody can foresee where a reference begins, so that
//! each costs the processor a wrong guess; there is one for both places, and few others. For the same reason literals
//! are not collected until a reference comes: each pair is a token at once.

use super::tokens::{Adder, LONGEST, STEP, Tokens};
use super::{Input, MOST};

/// Size of the table: with the 32 KiB that references reach back, it fits in a core's nearest caches.
const TABLE_BITS: u32 = 14;
const TABLE: usize = 1 << TABLE_BITS;

/// How far references reach back.
const WINDOW: u16 = 32 << 10;

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

/// The eight bytes from a place on. The remainder changes nothing; the compiler knows no better.
#[inline(always)]
fn eight(input: &Input, at: usize) -> u64 {
    let at = at % MOST;
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&input[at..at + 8]);
    u64::from_le_bytes(bytes)
}

/// The four bytes from a place on, as above.
#[inline(always)]
fn four(input: &Input, at: usize) -> u32 {
    let at = at % MOST;
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&input[at..at + 4]);
    u32::from_le_bytes(bytes)
}

/// Of the first five of some bytes: references to four take hardly less than the literals, and more time.
#[inline(always)]
fn hash(bytes: u64) -> usize {
    ((bytes << 24).wrapping_mul(0x9e37_79b1_85eb_ca87) >> (64 - TABLE_BITS)) as usize
}

impl Matches {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self { table: [0; TABLE] })
    }

    /// Forgets everything: the next input begins.
    pub(super) fn forget(&mut self) {
        self.table.fill(0);
    }

    /// Replaces `tokens` by those of a block that begins at `from`; gives where it ends. The input is always the whole of
    /// it, `length` bytes.
    // Apart from all else, so that its loop has the registers for itself.
    #[inline(never)]
    pub(super) fn tokenize(&mut self, input: &Input, length: usize, from: usize, tokens: &mut Tokens) -> usize {
        let end = length.saturating_sub(TAIL);
        let mut tokens = tokens.adder();
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
                (distance.wrapping_sub(1) < WINDOW) & (four(input, place.wrapping_sub(distance.into())) == bytes)
            };
            let here = is_match(at, distances[0], bytes as u32);
            let next = is_match(at + 1, distances[1], (bytes >> 8) as u32);
            if !(here | next) {
                tokens.pair(bytes as u8, (bytes >> 8) as u8);
                at += 2;
                misses += 1;
                if misses > PATIENCE {
                    at += pass(&input[at..end.max(at)], misses - PATIENCE, &mut tokens);
                }
                continue;
            }
            misses = 0;
            tokens.single_if(!here, bytes as u8);
            at += usize::from(!here);
            let distance = usize::from(if here { distances[0] } else { distances[1] });
            let same = 4 + same(input, length, at + 4, distance);
            tokens.reference(same, distance);
            at += same;
            if at < end {
                self.table[hash(eight(input, at - 1))] = (at - 1) as u16;
            }
        }
        let mut rest = input[at..length].chunks_exact(2);
        (&mut rest).for_each(|pair| tokens.pair(pair[0], pair[1]));
        rest.remainder().iter().for_each(|byte| tokens.single_if(true, *byte));
        length
    }

    /// How far back the same hash was seen; from now on it was seen here.
    #[inline(always)]
    fn see(&mut self, at: usize, bytes: u64) -> u16 {
        let place = at as u16;
        place.wrapping_sub(std::mem::replace(&mut self.table[hash(bytes)], place))
    }
}

/// Takes the first of some bytes as literals, the more of them the more `misses` there were; gives how many.
#[inline(always)]
fn pass(bytes: &[u8], misses: usize, tokens: &mut Adder<'_>) -> usize {
    let length = 2 * (misses / PER_SKIP).min(STEP / 2);
    let pairs = bytes[..length.min(bytes.len())].chunks_exact(2);
    let passed = 2 * pairs.len();
    pairs.for_each(|pair| tokens.pair(pair[0], pair[1]));
    passed
}

/// How many bytes are the same as those `distance` before.
#[inline(always)]
fn same(input: &Input, length: usize, at: usize, distance: usize) -> usize {
    let most = length.min(at + LONGEST_STEP);
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

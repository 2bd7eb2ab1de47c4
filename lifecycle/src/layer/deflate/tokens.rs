//! Literals and references, as they are kept until their block is written.
//!
//! A token is what is written in one go: either one or two literals, or a length and a distance. It has two parts, each
//! with a code of its own, and the extra bits of a distance. So the loop that writes has no cases.
//!
//! | bits | what | values |
//! | --- | --- | --- |
//! | 0–8 | first part | a literal, or [`LENGTH`] + a length − 3 |
//! | 9–17 | second part | a distance's symbol, [`NONE`], or [`LITERAL`] + a literal |
//! | 18–30 | | a distance's extra bits |

/// Values of either part.
pub(super) const PARTS: usize = 512;

/// The first part of a reference: this and its length less [`SHORTEST`].
pub(super) const LENGTH: usize = 256;

/// The second part of a single literal.
pub(super) const NONE: usize = 30;

/// The second part of two literals: this and the second.
pub(super) const LITERAL: usize = 32;

/// Lengths that deflate knows.
pub(super) const SHORTEST: usize = 3;
pub(super) const LONGEST: usize = 258;

/// A block is as many tokens, or a few more.
const BLOCK: usize = 24 << 10;

/// The most that one step of [`super::matches`] adds.
pub(super) const STEP: usize = 4 << 10;

/// Room for a block. A power of two, so that a remainder keeps the compiler from checking each access.
const ROOM: usize = 32 << 10;
const _: () = assert!(BLOCK + STEP <= ROOM && ROOM.is_power_of_two());

/// The tokens of a block, and how often their parts occur.
pub(super) struct Tokens {
    list: [u32; ROOM],
    count: usize,
    pub(super) first: [u32; PARTS],
    pub(super) second: [u32; PARTS],
}

impl Tokens {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self { list: [0; ROOM], count: 0, first: [0; PARTS], second: [0; PARTS] })
    }

    /// Begins a new block.
    pub(super) fn adder(&mut self) -> Adder<'_> {
        self.first.fill(0);
        self.second.fill(0);
        Adder {
            list: &mut self.list,
            count: 0,
            counted: &mut self.count,
            first: &mut self.first,
            second: &mut self.second,
        }
    }

    pub(super) fn list(&self) -> &[u32] {
        &self.list[..self.count]
    }
}

/// Adds tokens. Has their number where the compiler can keep it in a register.
pub(super) struct Adder<'a> {
    list: &'a mut [u32; ROOM],
    count: usize,
    counted: &'a mut usize,
    first: &'a mut [u32; PARTS],
    second: &'a mut [u32; PARTS],
}

impl Drop for Adder<'_> {
    fn drop(&mut self) {
        *self.counted = self.count;
    }
}

impl Adder<'_> {
    pub(super) fn is_full(&self) -> bool {
        self.count >= BLOCK
    }

    /// Two literals.
    #[inline(always)]
    pub(super) fn pair(&mut self, a: u8, b: u8) {
        let (first, second) = (usize::from(a), usize::from(b) + LITERAL);
        self.first[first] += 1;
        self.second[second] += 1;
        self.push(first, second as u32);
    }

    /// A literal, if `really`; without a branch, as it is as often so as not.
    #[inline(always)]
    pub(super) fn single_if(&mut self, really: bool, a: u8) {
        let first = usize::from(a);
        self.list[self.count % ROOM] = token(first, NONE as u32);
        self.count += usize::from(really);
        self.first[first] += u32::from(really);
    }

    /// A reference to `length` bytes, which may be more than deflate knows, `distance` bytes before.
    #[inline(always)]
    pub(super) fn reference(&mut self, mut length: usize, distance: usize) {
        let before = distance as u32 - 1;
        // Two symbols for each power of two: the bits after its highest two are extra bits.
        let (symbol, extra) = if before < 4 {
            (before, 0)
        } else {
            let bits = 30 - before.leading_zeros();
            (2 * bits + (before >> bits), before & ((1 << bits) - 1))
        };
        let second = symbol | extra << 9;
        while length > LONGEST {
            // What is left must not be too short.
            let part = if length < LONGEST + SHORTEST { length - SHORTEST } else { LONGEST };
            self.add_reference(part, second);
            length -= part;
        }
        self.add_reference(length, second);
    }

    #[inline(always)]
    fn add_reference(&mut self, length: usize, second: u32) {
        // Neither mask changes anything; the compiler knows no better.
        let first = (LENGTH + length - SHORTEST) % PARTS;
        self.first[first] += 1;
        self.second[second as usize % LITERAL] += 1;
        self.push(first, second);
    }

    #[inline(always)]
    fn push(&mut self, first: usize, second: u32) {
        self.list[self.count % ROOM] = token(first, second);
        self.count += 1;
    }
}

#[inline(always)]
fn token(first: usize, second: u32) -> u32 {
    first as u32 | second << 9
}

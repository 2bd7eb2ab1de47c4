//! A block: with codes of its own, or stored if that is shorter (RFC 1951, 3.2.3–3.2.7).

use super::bits::{Bits, MOST};
use super::huffman::Code;
use super::tokens::{LENGTH, LITERAL, NONE, PARTS, SHORTEST, Tokens};

/// Symbols of literals and lengths, the one that ends a block, and the first of lengths.
const FIRST_SYMBOLS: usize = 286;
const END: usize = 256;
const FIRST_LENGTH: usize = 257;

/// Symbols of distances.
const DISTANCES: usize = 30;

/// The most that a stored block holds.
const STORED: usize = 65_535;

/// What the lengths from [`SHORTEST`] on are written as.
const LENGTHS: [Length; 256] = {
    let mut all = [Length { symbol: 0, bits: 0, extra: 0 }; 256];
    let (mut symbol, mut length) = (0, 0);
    while length < 255 {
        // Four symbols for each number of extra bits, but eight for none.
        let bits = if symbol < 8 { 0 } else { symbol / 4 - 1 };
        let mut extra = 0;
        while extra < 1 << bits && length < 255 {
            all[length] = Length { symbol: FIRST_LENGTH + symbol, bits: bits as u32, extra };
            extra += 1;
            length += 1;
        }
        symbol += 1;
    }
    // The longest has a symbol of its own.
    all[255] = Length { symbol: FIRST_LENGTH + 28, bits: 0, extra: 0 };
    all
};

#[derive(Clone, Copy)]
struct Length {
    symbol: usize,
    /// How many extra bits, and which.
    bits: u32,
    extra: u32,
}

/// How many extra bits a distance's symbol has.
fn distance_bits(symbol: usize) -> u32 {
    (symbol as u32 / 2).saturating_sub(1)
}

/// Writes `raw`, whose tokens these are.
pub(super) fn write(tokens: &Tokens, raw: &[u8], is_last: bool, bits: &mut Bits<'_>) {
    let mut frequencies = [0; FIRST_SYMBOLS];
    let pairs = &tokens.second[LITERAL..];
    for ((frequency, single), second) in frequencies.iter_mut().zip(&tokens.first[..LENGTH]).zip(pairs) {
        *frequency = single + second;
    }
    let mut extra = 0;
    for (length, count) in LENGTHS.iter().zip(&tokens.first[LENGTH..]) {
        frequencies[length.symbol] += count;
        extra += u64::from(*count) * u64::from(length.bits);
    }
    frequencies[END] = 1;
    let distances = &tokens.second[..DISTANCES];
    for (symbol, count) in distances.iter().enumerate() {
        extra += u64::from(*count) * u64::from(distance_bits(symbol));
    }
    let (first, second) = (Code::new(&frequencies, 15), Code::new(distances, 15));
    let header = Header::new(&first, &second);
    let content = first.cost(&frequencies) + second.cost(distances) + extra;
    let stored_blocks = raw.len().div_ceil(STORED).max(1);
    if (3 + header.cost() + content).div_ceil(8) >= (raw.len() + 5 * stored_blocks) as u64 {
        return store(raw, is_last, bits);
    }
    bits.put(u64::from(is_last) | 2 << 1, 3);
    header.write(bits);
    let (firsts, seconds) = (first_parts(&first), second_parts(&first, &second));
    let values = tokens.list().iter().map(|token| {
        let (first, second) = (firsts[*token as usize % PARTS], seconds[(*token >> 9) as usize % PARTS]);
        let extra = u64::from(*token >> 18);
        let second_bits = second.bits() | extra << second.shift();
        (first.bits() | second_bits << first.length(), first.length() + second.length())
    });
    bits.put_all(values, content);
    bits.put(first.bits[END].into(), first.lengths[END].into());
}

/// What is written for a part of a token: bits (20), where a distance's extra bits go (4), and how many bits there are in
/// all (5). In so few bytes, the tables of both parts do not drive others out of the nearest cache.
#[derive(Clone, Copy, Default)]
struct Written(u32);

impl Written {
    fn new(bits: u32, shift: u32, length: u32) -> Self {
        Self(bits << 9 | shift << 5 | length)
    }

    #[inline(always)]
    fn bits(self) -> u64 {
        u64::from(self.0 >> 9)
    }

    #[inline(always)]
    fn shift(self) -> u32 {
        self.0 >> 5 & 15
    }

    #[inline(always)]
    fn length(self) -> u32 {
        self.0 & 31
    }
}

// A length: 15 bits and 5 extra; a distance: 15 and 13.
const _: () = assert!(15 + 5 + 15 + 13 <= MOST);

fn first_parts(code: &Code) -> [Written; PARTS] {
    let mut parts = [Written::default(); PARTS];
    let (literals, lengths) = parts.split_at_mut(LENGTH);
    for ((part, bits), length) in literals.iter_mut().zip(code.bits).zip(code.lengths) {
        *part = Written::new(bits, 0, length.into());
    }
    for (part, length) in lengths.iter_mut().zip(LENGTHS) {
        let own = u32::from(code.lengths[length.symbol]);
        *part = Written::new(code.bits[length.symbol] | length.extra << own, 0, own + length.bits);
    }
    parts
}

fn second_parts(first: &Code, second: &Code) -> [Written; PARTS] {
    const _: () = assert!(NONE >= DISTANCES && NONE < LITERAL && SHORTEST == 3);
    let mut parts = [Written::default(); PARTS];
    for (symbol, part) in parts[..DISTANCES].iter_mut().enumerate() {
        let own = u32::from(second.lengths[symbol]);
        *part = Written::new(second.bits[symbol], own, own + distance_bits(symbol));
    }
    for ((part, bits), length) in parts[LITERAL..].iter_mut().zip(first.bits).zip(first.lengths).take(END) {
        *part = Written::new(bits, 0, length.into());
    }
    parts
}

fn store(raw: &[u8], is_last: bool, bits: &mut Bits<'_>) {
    let mut rest = raw;
    loop {
        let (block, after) = rest.split_at(rest.len().min(STORED));
        bits.put(u64::from(is_last && after.is_empty()), 3);
        let length = block.len() as u16;
        let [a, b] = length.to_le_bytes();
        bits.bytes(&[a, b, !a, !b]);
        bits.bytes(block);
        rest = after;
        if rest.is_empty() {
            return;
        }
    }
}

/// The order in which the lengths of the code for lengths are written.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// What tells a block's codes: their lengths, themselves compressed.
struct Header {
    first: usize,
    second: usize,
    /// Symbols of the code for lengths, and their extra bits.
    items: Vec<(u8, u8)>,
    frequencies: [u32; 19],
    code: Code,
    /// How many of its lengths are written.
    order: usize,
}

/// Extra bits of a symbol of the code for lengths.
fn item_bits(symbol: u8) -> u32 {
    match symbol {
        16 => 2,
        17 => 3,
        18 => 7,
        _ => 0,
    }
}

impl Header {
    fn new(first: &Code, second: &Code) -> Self {
        let (first_used, second_used) = (first.used(FIRST_LENGTH), second.used(1));
        let items = items(&[&first.lengths[..first_used], &second.lengths[..second_used]].concat());
        let mut frequencies = [0; 19];
        for (symbol, _) in &items {
            frequencies[usize::from(*symbol)] += 1;
        }
        let code = Code::new(&frequencies, 7);
        let order = ORDER.iter().rposition(|symbol| code.lengths[*symbol] > 0).map_or(0, |last| last + 1).max(4);
        Self { first: first_used, second: second_used, items, frequencies, code, order }
    }

    /// Its length in bits.
    fn cost(&self) -> u64 {
        let extra: u64 = self.items.iter().map(|(symbol, _)| u64::from(item_bits(*symbol))).sum();
        14 + 3 * self.order as u64 + self.code.cost(&self.frequencies) + extra
    }

    fn write(&self, bits: &mut Bits<'_>) {
        let counts = (self.first - FIRST_LENGTH) | (self.second - 1) << 5 | (self.order - 4) << 10;
        bits.put(counts as u64, 14);
        for symbol in &ORDER[..self.order] {
            bits.put(self.code.lengths[*symbol].into(), 3);
        }
        for (symbol, extra) in &self.items {
            let (code, length) = (self.code.bits[usize::from(*symbol)], self.code.lengths[usize::from(*symbol)]);
            let value = u64::from(code) | u64::from(*extra) << length;
            bits.put(value, u32::from(length) + item_bits(*symbol));
        }
    }
}

/// Code lengths with runs told by their length: of zeros (17, 18), of the length before (16).
fn items(lengths: &[u8]) -> Vec<(u8, u8)> {
    let mut items = Vec::with_capacity(lengths.len());
    for run in lengths.chunk_by(|a, b| a == b) {
        let (length, mut left) = (run[0], run.len());
        if length > 0 {
            items.push((length, 0));
            left -= 1;
        }
        while left >= 3 {
            let (symbol, part, least) = match (length, left) {
                (0, 11..) => (18, left.min(138), 11),
                (0, _) => (17, left, 3),
                _ => (16, left.min(6), 3),
            };
            items.push((symbol, (part - least) as u8));
            left -= part;
        }
        items.extend(std::iter::repeat_n((length, 0), left));
    }
    items
}

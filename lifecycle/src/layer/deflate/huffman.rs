//! Codes for symbols by how often they occur (RFC 1951, 3.2.2).

/// The most symbols of any code.
pub(super) const SYMBOLS: usize = 288;

/// A code: bits as they are written, the lowest first, and how many they are, by symbol.
pub(super) struct Code {
    pub(super) bits: [u32; SYMBOLS],
    pub(super) lengths: [u8; SYMBOLS],
}

impl Code {
    /// With the shortest lengths for these frequencies, of which none is more than `longest` bits. Symbols that do not occur
    /// have no code; but there are always two, as some decoders want.
    pub(super) fn new(frequencies: &[u32], longest: usize) -> Self {
        let lengths = lengths(frequencies, longest);
        Self { bits: bits(&lengths), lengths }
    }

    /// How many bits all occurrences of symbols take.
    pub(super) fn cost(&self, frequencies: &[u32]) -> u64 {
        frequencies.iter().zip(&self.lengths).map(|(count, length)| u64::from(*count) * u64::from(*length)).sum()
    }

    /// How many symbols there are up to the last that has a code, at least so many.
    pub(super) fn used(&self, at_least: usize) -> usize {
        self.lengths.iter().rposition(|length| *length > 0).map_or(0, |last| last + 1).max(at_least)
    }
}

fn lengths(frequencies: &[u32], longest: usize) -> [u8; SYMBOLS] {
    let mut lengths = [0; SYMBOLS];
    let mut sorted = [(0u32, 0u16); SYMBOLS];
    let mut count = 0;
    for (symbol, frequency) in (0u16..).zip(frequencies).filter(|(_, frequency)| **frequency > 0) {
        sorted[count] = (*frequency, symbol);
        count += 1;
    }
    let sorted = &mut sorted[..count];
    if let [] | [_] = sorted {
        let only = sorted.first().map_or(0, |(_, symbol)| usize::from(*symbol));
        lengths[only] = 1;
        lengths[usize::from(only == 0)] = 1;
        return lengths;
    }
    sorted.sort_unstable();
    let mut by_length = leaves_by_depth(sorted, longest);
    limit(&mut by_length, longest);
    // The rarest get the longest.
    let mut symbols = sorted.iter();
    for (length, count) in (0u8..=LONGEST as u8).zip(by_length).rev() {
        for (_, symbol) in symbols.by_ref().take(count as usize) {
            lengths[usize::from(*symbol)] = length;
        }
    }
    lengths
}

/// The most bits that a code of deflate may have.
const LONGEST: usize = 15;

/// How many leaves a Huffman tree has at each depth; those too deep count at the deepest.
///
/// Moffat and Katajainen, *In-place calculation of minimum-redundancy codes* (1995): the tree's nodes are made in the order
/// of their weights, so that two queues, of leaves and of nodes, are enough; a node's place is reused for its parent.
fn leaves_by_depth(sorted: &[(u32, u16)], longest: usize) -> [u32; LONGEST + 1] {
    let last = sorted.len() - 1;
    let mut nodes = [0u32; SYMBOLS];
    for (node, (frequency, _)) in nodes.iter_mut().zip(sorted) {
        *node = *frequency;
    }
    let (mut node, mut leaf) = (0, 0);
    for new in 0..last {
        let mut weight = 0;
        for _ in 0..2 {
            if leaf > last || (node < new && nodes[node] < nodes[leaf]) {
                weight += std::mem::replace(&mut nodes[node], new as u32);
                node += 1;
            } else {
                weight += nodes[leaf];
                leaf += 1;
            }
        }
        nodes[new] = weight;
    }
    // From the root down: each node is one deeper than its parent; what is not taken by nodes is leaves.
    let mut leaves = [0; LONGEST + 1];
    nodes[last - 1] = 0;
    for node in (0..last - 1).rev() {
        nodes[node] = nodes[nodes[node] as usize] + 1;
    }
    let mut nodes = nodes[..last].iter().rev().peekable();
    let (mut depth, mut places) = (0, 1);
    while places > 0 {
        let mut inner = 0;
        while nodes.next_if(|node| **node == depth).is_some() {
            inner += 1;
        }
        leaves[(depth as usize).min(longest)] += places - inner;
        places = 2 * inner;
        depth += 1;
    }
    leaves
}

/// Mends the lengths where leaves were too deep: as long as there are more than fit, one goes beside another, less deep
/// one, which for this goes one deeper.
fn limit(by_length: &mut [u32; LONGEST + 1], longest: usize) {
    let taken = |by_length: &[u32; LONGEST + 1]| -> u32 {
        (1..=longest).map(|length| by_length[length] << (longest - length)).sum()
    };
    for _ in 1 << longest..taken(by_length) {
        by_length[longest] -= 1;
        if let Some(length) = (1..longest).rev().find(|length| by_length[*length] > 0) {
            by_length[length] -= 1;
            by_length[length + 1] += 2;
        }
    }
}

/// Symbols of the same length have codes that follow one another.
fn bits(lengths: &[u8; SYMBOLS]) -> [u32; SYMBOLS] {
    let mut next = [0; LONGEST + 2];
    for length in lengths.iter().filter(|length| **length > 0) {
        next[usize::from(*length) + 1] += 1;
    }
    for length in 1..next.len() {
        next[length] = (next[length - 1] + next[length]) << 1;
    }
    let mut bits = [0; SYMBOLS];
    for (bits, length) in bits.iter_mut().zip(lengths).filter(|(_, length)| **length > 0) {
        let next = &mut next[usize::from(*length)];
        *bits = u32::reverse_bits(*next) >> (32 - u32::from(*length));
        *next += 1;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specifications_example() {
        let mut lengths = [0; SYMBOLS];
        lengths[..8].copy_from_slice(&[3, 3, 3, 3, 3, 2, 4, 4]);
        let shown: Vec<String> = bits(&lengths)
            .iter()
            .zip(lengths)
            .take(8)
            .map(|(bits, length)| (0..length).map(|bit| if bits >> bit & 1 == 1 { '1' } else { '0' }).collect())
            .collect();
        assert_eq!(shown, ["010", "011", "100", "101", "110", "00", "1110", "1111"]);
    }

    #[test]
    fn lengths_are_the_shortest_and_complete() {
        let cases: [(&[u32], usize, &[u8]); 7] = [
            (&[], 15, &[1, 1]),
            (&[0, 0, 9], 15, &[1, 0, 1]),
            (&[7], 15, &[1, 1]),
            (&[1, 1], 15, &[1, 1]),
            (&[1, 1, 2, 4, 8], 15, &[4, 4, 3, 2, 1]),
            (&[1, 1, 2, 4, 8], 3, &[3, 3, 3, 3, 1]),
            (&[5, 0, 5, 5, 5], 15, &[2, 0, 2, 2, 2]),
        ];
        for (frequencies, longest, expected) in cases {
            let found = lengths(frequencies, longest);
            assert_eq!(&found[..expected.len()], expected, "{frequencies:?}");
            assert!(found[expected.len()..].iter().all(|length| *length == 0));
        }
        // Whatever the limit, no code is missing and none is too much.
        let fibonacci: Vec<u32> = (0..30)
            .scan((1, 1), |(a, b), _| {
                (*a, *b) = (*b, *a + *b);
                Some(*a)
            })
            .collect();
        for longest in 5..=15 {
            let taken = |lengths: &[u8; SYMBOLS]| -> u32 {
                lengths.iter().filter(|length| **length > 0).map(|length| 1 << (longest - usize::from(*length))).sum()
            };
            assert_eq!(taken(&lengths(&fibonacci, longest)), 1 << longest, "{longest}");
            assert_eq!(taken(&lengths(&[1; 32], longest)), 1 << longest, "{longest}");
        }
    }
}

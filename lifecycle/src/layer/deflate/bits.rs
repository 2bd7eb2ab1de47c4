//! Bits, the lowest of each byte first.

/// Appends bits to bytes.
pub(super) struct Bits<'a> {
    out: &'a mut Vec<u8>,
    /// Bits that do not fill a byte yet, and how many.
    waiting: u64,
    count: u32,
}

/// The most bits that can be written at once.
pub(super) const MOST: u32 = 56;

impl<'a> Bits<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, waiting: 0, count: 0 }
    }

    /// Writes the lowest `count` bits of a value, at most [`MOST`]; its others are zero.
    pub(super) fn put(&mut self, value: u64, count: u32) {
        self.put_all(std::iter::once((value, count)), count.into());
    }

    /// Writes many such values, which have `total` bits together. Each step waits for the one before, so two values are
    /// written in one whenever they fit.
    #[inline(always)]
    pub(super) fn put_all(&mut self, mut values: impl Iterator<Item = (u64, u32)>, total: u64) {
        let start = self.out.len();
        // Eight bytes are written at a time, however many of their bits are in use.
        let room = usize::try_from(total / 8).unwrap_or(usize::MAX).saturating_add(16);
        self.out.resize(start.saturating_add(room), 0);
        let room = &mut self.out[start..];
        let (mut waiting, mut count, mut at) = (self.waiting, self.count, 0);
        let mut put = |value: u64, length: u32| {
            waiting |= value << count;
            count += length;
            room[at..at + 8].copy_from_slice(&waiting.to_le_bytes());
            at += (count / 8) as usize;
            waiting >>= count & !7;
            count &= 7;
        };
        while let Some((first, length)) = values.next() {
            let (second, more) = values.next().unwrap_or_default();
            if length + more <= MOST {
                put(first | second << length, length + more);
            } else {
                put(first, length);
                put(second, more);
            }
        }
        self.out.truncate(start + at);
        (self.waiting, self.count) = (waiting, count);
    }

    /// Fills the last byte up and appends whole bytes.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.fill_up();
        self.out.extend_from_slice(bytes);
    }

    fn fill_up(&mut self) {
        if self.count > 0 {
            self.put(0, 8 - self.count);
        }
    }

    /// Fills the last byte up.
    pub(super) fn finish(mut self) {
        self.fill_up();
    }
}

//! Reading a tar that nobody vouches for: USTAR, PAX and GNU long names, as a stream.
//!
//! What an entry says of itself is bounded before it is believed; sparse entries are not read.

use std::io;

use super::tar::BLOCK;

/// The most bytes of a name, a link target or PAX records. The kernel's limit of a path is 4,096.
const MOST_METADATA: u64 = 1 << 20;

/// Where a tar's bytes come from: pieces, one after the other.
pub(super) trait Bytes {
    /// The bytes that are at hand, at least one, or none at the end.
    fn peek(&mut self) -> io::Result<&[u8]>;

    /// Goes on by some of these.
    fn advance(&mut self, length: usize);
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    Fifo,
    /// Anything else: its type flag.
    Other(u8),
}

/// What an entry says of itself.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) kind: Option<Kind>,
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    /// Permission bits, setuid, setgid and sticky.
    pub(super) mode: u32,
    pub(super) size: u64,
}

/// A tar.
pub(super) struct Untar<B> {
    bytes: B,
    /// Bytes of the entry's content, and of the padding after it, that are to come.
    content: u64,
    padding: u64,
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the tar is cut short")
}

impl<B: Bytes> Untar<B> {
    pub(super) fn new(bytes: B) -> Self {
        Self { bytes, content: 0, padding: 0 }
    }

    /// Goes to the next entry; `None` at the end of the archive. Content that was not taken is skipped.
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut long_name = None;
        let mut long_link = None;
        let mut records = Records::default();
        loop {
            while self.content > 0 {
                self.take(|_| Ok::<_, io::Error>(()))?;
            }
            self.skip_padding()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let flag = header[156];
            let size = number(&header[124..136])?;
            match flag {
                b'x' => records = Records::parse(&self.metadata(size)?)?,
                b'g' => self.set_content(size),
                b'L' => long_name = Some(until_zero(&self.metadata(size)?).to_owned()),
                b'K' => long_link = Some(until_zero(&self.metadata(size)?).to_owned()),
                _ => {
                    let mut entry = Entry {
                        kind: None,
                        name: records.name.or(long_name).unwrap_or_else(|| header_name(&header)),
                        link: records.link.or(long_link).unwrap_or_else(|| until_zero(&header[157..257]).to_owned()),
                        mode: (number(&header[100..108])? & 0o7777) as u32,
                        size: records.size.unwrap_or(size),
                    };
                    let kind = match flag {
                        b'0' | 0 if flag == 0 && entry.name.ends_with(b"/") => Kind::Directory,
                        b'0' | 0 => Kind::File,
                        b'1' => Kind::HardLink,
                        b'2' => Kind::Symlink,
                        b'5' => Kind::Directory,
                        b'6' => Kind::Fifo,
                        other => Kind::Other(other),
                    };
                    let kind = if records.is_sparse { Kind::Other(b'S') } else { kind };
                    if matches!(kind, Kind::HardLink | Kind::Symlink | Kind::Directory | Kind::Fifo) {
                        entry.size = 0;
                    }
                    entry.kind = Some(kind);
                    self.set_content(entry.size);
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Gives the next part of the entry's content; `false` when there is no more.
    pub(super) fn take<E: From<io::Error>>(&mut self, to: impl FnOnce(&[u8]) -> Result<(), E>) -> Result<bool, E> {
        if self.content == 0 {
            return Ok(false);
        }
        let at_hand = self.bytes.peek()?;
        if at_hand.is_empty() {
            return Err(truncated().into());
        }
        let length = usize::try_from(self.content).map_or(at_hand.len(), |content| content.min(at_hand.len()));
        to(&at_hand[..length])?;
        self.bytes.advance(length);
        self.content -= length as u64;
        Ok(true)
    }

    /// What is left after the end of the archive.
    pub(super) fn into_rest(self) -> B {
        self.bytes
    }

    fn set_content(&mut self, size: u64) {
        self.content = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn skip_padding(&mut self) -> io::Result<()> {
        self.content = std::mem::take(&mut self.padding);
        while self.take(|_| Ok::<_, io::Error>(()))? {}
        Ok(())
    }

    /// The next header; `None` at the end of the archive, or if there is nothing at all.
    fn header(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let mut header = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let at_hand = self.bytes.peek()?;
            if at_hand.is_empty() {
                return if filled == 0 { Ok(None) } else { Err(truncated()) };
            }
            let length = at_hand.len().min(BLOCK - filled);
            header[filled..filled + length].copy_from_slice(&at_hand[..length]);
            self.bytes.advance(length);
            filled += length;
        }
        if header.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let expected = number(&header[148..156])?;
        let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
        let own: u64 = header[148..156].iter().map(|byte| u64::from(*byte)).sum();
        if sum - own + 8 * u64::from(b' ') != expected {
            return Err(invalid("a tar header has a wrong checksum"));
        }
        Ok(Some(header))
    }

    fn metadata(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > MOST_METADATA {
            return Err(invalid("a tar entry has too long a name"));
        }
        self.set_content(size);
        let mut all = Vec::with_capacity(size as usize);
        while self.take(|part| {
            all.extend_from_slice(part);
            Ok::<_, io::Error>(())
        })? {}
        Ok(all)
    }
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn header_name(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_zero(&header[..100]);
    let prefix = if &header[257..263] == b"ustar\0" { until_zero(&header[345..500]) } else { b"" };
    if prefix.is_empty() { name.to_owned() } else { [prefix, b"/", name].concat() }
}

/// Octal digits with spaces or zero bytes around, or (first bit set) big-endian bytes.
fn number(field: &[u8]) -> io::Result<u64> {
    let wrong = || invalid("a tar header has a malformed number");
    if let [first, rest @ ..] = field
        && first & 0x80 != 0
    {
        // Negative numbers begin with 0xff; nothing here is negative.
        return rest
            .iter()
            .try_fold(u64::from(first & 0x7f), |value, byte| {
                value.checked_mul(256).map(|value| value | u64::from(*byte))
            })
            .filter(|value| i64::try_from(*value).is_ok())
            .ok_or_else(wrong);
    }
    let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_padding(byte)).unwrap_or(field.len());
    let end = field[start..].iter().position(is_padding).map_or(field.len(), |length| start + length);
    field[start..end].iter().try_fold(0u64, |value, byte| match byte {
        b'0'..=b'7' => Ok(value << 3 | u64::from(byte - b'0')),
        _ => Err(wrong()),
    })
}

/// What PAX records say of the entry after them.
#[derive(Debug, Default)]
struct Records {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    is_sparse: bool,
}

impl Records {
    fn parse(mut text: &[u8]) -> io::Result<Self> {
        let wrong = || invalid("a tar entry has a malformed PAX record");
        let decimal = |digits: &[u8]| -> Option<u64> { str::from_utf8(digits).ok()?.parse().ok() };
        let mut records = Self::default();
        while !text.is_empty() {
            let space = text.iter().position(|byte| *byte == b' ').ok_or_else(wrong)?;
            let length = decimal(&text[..space]).and_then(|length| usize::try_from(length).ok()).ok_or_else(wrong)?;
            if length <= space + 1 || length > text.len() {
                return Err(wrong());
            }
            let record = text[space + 1..length].strip_suffix(b"\n").ok_or_else(wrong)?;
            text = &text[length..];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => records.name = Some(value.to_owned()),
                b"linkpath" => records.link = Some(value.to_owned()),
                b"size" => {
                    let size = decimal(value).filter(|size| i64::try_from(*size).is_ok());
                    records.size = Some(size.ok_or_else(wrong)?);
                }
                key if key.starts_with(b"GNU.sparse.") => records.is_sparse = true,
                _ => {}
            }
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tar in pieces of some length.
    struct Pieces<'a>(&'a [u8], usize);

    impl Bytes for Pieces<'_> {
        fn peek(&mut self) -> io::Result<&[u8]> {
            Ok(&self.0[..self.0.len().min(self.1)])
        }

        fn advance(&mut self, length: usize) {
            self.0 = &self.0[length..];
        }
    }

    type Read = Vec<(Kind, String, String, u32, Vec<u8>)>;

    fn read(tar: &[u8], piece: usize) -> io::Result<Read> {
        let mut untar = Untar::new(Pieces(tar, piece));
        let mut all = Vec::new();
        while let Some(entry) = untar.next()? {
            let mut content = Vec::new();
            while untar.take(|part| {
                content.extend_from_slice(part);
                Ok::<_, io::Error>(())
            })? {}
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            all.push((entry.kind.expect("set"), text(&entry.name), text(&entry.link), entry.mode, content));
        }
        Ok(all)
    }

    fn sample(gnu: bool) -> (Vec<u8>, Read) {
        let mut builder = tar::Builder::new(Vec::new());
        builder.preserve_absolute(true);
        let mut expected = Vec::new();
        let long = format!("/{}", "long/".repeat(60) + "name");
        let mut add = |kind: tar::EntryType, ours: Kind, name: &str, link: &str, content: &[u8]| {
            let mut header = if gnu { tar::Header::new_gnu() } else { tar::Header::new_ustar() };
            header.set_entry_type(kind);
            header.set_mode(0o4755);
            header.set_size(content.len() as u64);
            if gnu {
                if link.is_empty() {
                    builder.append_data(&mut header, name, content).expect("appended");
                } else {
                    builder.append_link(&mut header, name, link).expect("appended");
                }
            } else {
                builder
                    .append_pax_extensions([("path", name.as_bytes()), ("linkpath", link.as_bytes()), ("x", b"y")])
                    .expect("appended");
                header.set_cksum();
                builder.append(&header, content).expect("appended");
            }
            expected.push((ours, name.to_owned(), link.to_owned(), 0o4755, content.to_owned()));
        };
        add(tar::EntryType::Directory, Kind::Directory, "/d", "", b"");
        add(tar::EntryType::Regular, Kind::File, &long, "", &vec![b'x'; 3000]);
        add(tar::EntryType::Symlink, Kind::Symlink, "/s", &long, b"");
        add(tar::EntryType::Link, Kind::HardLink, &long, &long, b"");
        add(tar::EntryType::Fifo, Kind::Fifo, "/p", "", b"");
        add(tar::EntryType::Char, Kind::Other(b'3'), "/c", "", b"");
        add(tar::EntryType::Regular, Kind::File, "/last", "", &[7; 512]);
        (builder.into_inner().expect("finished"), expected)
    }

    #[test]
    fn reads_pax_and_gnu_in_pieces_of_any_length() {
        for gnu in [false, true] {
            let (tar, expected) = sample(gnu);
            for piece in [1, 7, 511, 512, 513, 100_000] {
                assert_eq!(read(&tar, piece).expect("read"), expected, "{gnu} {piece}");
            }
        }
    }

    #[test]
    fn an_archive_that_is_cut_short_or_damaged_is_an_error() {
        let (tar, expected) = sample(false);
        let end = tar.iter().rposition(|byte| *byte != 0).expect("content") + 1;
        for length in (1..end).filter(|length| length % 512 < 2 || length % 61 == 0) {
            match read(&tar[..length], 512) {
                Ok(found) => assert!(length % 512 == 0 && expected.starts_with(&found), "{length}"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length}"),
            }
        }
        let mut damaged = tar.clone();
        damaged[3] ^= 1;
        assert_eq!(read(&damaged, 512).expect_err("damaged").kind(), io::ErrorKind::InvalidData);
        assert_eq!(read(&[], 512).expect("nothing"), []);
    }

    #[test]
    fn what_is_too_large_or_malformed_is_refused() {
        let extended = |flag: u8, size: u64, content: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(tar::EntryType::new(flag));
            header.set_size(size);
            header.set_cksum();
            [header.as_bytes(), content, &vec![0; content.len().next_multiple_of(512) - content.len()]].concat()
        };
        let records: [&[u8]; 8] =
            [b"x", b"5 a\n", b"9 path=a\n\n", b"99 path=a\n", b"10 path=ab", b"0 a=b\n", b"11 size=-1\n", b"-5 a=b\n"];
        for record in records {
            let error = read(&extended(b'x', record.len() as u64, record), 512).expect_err("malformed");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{}", record.escape_ascii());
        }
        for flag in *b"xLK" {
            let error = read(&extended(flag, 1 << 33, b""), 512).expect_err("too long");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        let sparse = [extended(b'x', 22, b"22 GNU.sparse.major=1\n"), extended(b'0', 0, b"")].concat();
        assert_eq!(read(&sparse, 512).expect("read")[0].0, Kind::Other(b'S'));
    }

    #[test]
    fn numbers_in_both_forms() {
        for (field, value) in [
            (&b"0000644\0"[..], 0o644),
            (b"   644 \0", 0o644),
            (b"\0\0\0\0", 0),
            (b"77777777777\0", (1 << 33) - 1),
            (b"\x80\0\0\0\0\0\0\x02\0\0\0\0", 1 << 33),
        ] {
            assert_eq!(number(field).expect("a number"), value);
        }
        for field in [&b"0000648\0"[..], b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"-1\0"] {
            assert!(number(field).is_err(), "{}", field.escape_ascii());
        }
    }
}

//! Tar headers, byte for byte as Go's `archive/tar` writes them when the format is left to it.
//!
//! Equal bytes give equal diffIDs: a layer that the reference made is the same layer here. So the choice between USTAR
//! and PAX, the cut of a long name and the fields that are left empty are that library's, not a matter of taste:
//!
//! * USTAR if everything fits, else a PAX header before; GNU forms never.
//! * Names are absolute; directories end in no slash.
//! * The time is always 1980-01-01T00:00:01Z, user and group have no names.

/// Tar works in units of this many bytes.
pub(super) const BLOCK: usize = 512;

/// Zero bytes that end an archive.
pub(super) const TRAILER: u64 = 2 * BLOCK as u64;

const NAME: usize = 100;
const PREFIX: usize = 155;

/// The largest id, mode or device number of a header: seven octal digits.
const LARGEST_ID: u64 = 0o7777777;
/// The largest size of a header: eleven octal digits.
const LARGEST_SIZE: u64 = 0o777_7777_7777;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Symlink,
    Character,
    Block,
    Directory,
    Fifo,
}

impl Kind {
    /// From the file type bits of a mode; `None` for a socket, which no tar can hold.
    pub(super) fn of_mode(mode: u32) -> Option<Self> {
        Some(match mode & 0o170_000 {
            0o100_000 => Self::File,
            0o120_000 => Self::Symlink,
            0o020_000 => Self::Character,
            0o060_000 => Self::Block,
            0o040_000 => Self::Directory,
            0o010_000 => Self::Fifo,
            _ => return None,
        })
    }

    const fn flag(self) -> u8 {
        match self {
            Self::File => b'0',
            Self::Symlink => b'2',
            Self::Character => b'3',
            Self::Block => b'4',
            Self::Directory => b'5',
            Self::Fifo => b'6',
        }
    }
}

/// What a header says of an entry, without its name and link target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// Permission bits, setuid, setgid and sticky: `0o7777`.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Bytes of content; zero for all but files.
    pub(super) size: u64,
    /// Device numbers; zero for all but devices.
    pub(super) major: u32,
    pub(super) minor: u32,
}

/// What is the same in all headers: magic, version, time, empty names, device numbers of zero.
const TEMPLATE: [u8; BLOCK] = {
    let mut block = [0; BLOCK];
    put(&mut block, 136, b"02263523001\0");
    put(&mut block, 257, b"ustar\x0000");
    put(&mut block, 329, b"0000000\0");
    put(&mut block, 337, b"0000000\0");
    block
};

/// What is the same in all headers of PAX records. The fields that a USTAR header has zeros in are empty here.
const PAX_TEMPLATE: [u8; BLOCK] = {
    let mut block = [0; BLOCK];
    put(&mut block, 100, b"0000000\x000000000\x000000000\0");
    put(&mut block, 136, b"00000000000\0");
    put(&mut block, 156, b"x");
    put(&mut block, 257, b"ustar\x0000");
    block
};

const fn put(block: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    let mut i = 0;
    while i < bytes.len() {
        block[at + i] = bytes[i];
        i += 1;
    }
}

/// Octal digits that fill `field` but for a zero byte at its end; a value that does not fit is written as zero.
fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    field[digits] = 0;
    let mut value = if value >> (3 * digits) == 0 { value } else { 0 };
    for digit in field[..digits].iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

/// Fills the checksum in: the sum of all bytes, the field itself counted as spaces.
fn seal(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    octal(&mut block[148..155], u64::from(sum));
}

fn is_plain(text: &[u8]) -> bool {
    text.is_ascii() && !text.contains(&0)
}

/// Where a long name is cut into prefix and name: the index of the slash between them, which is in neither.
fn cut(name: &[u8]) -> Option<usize> {
    if name.len() <= NAME || !is_plain(name) {
        return None;
    }
    let window = if name.len() > PREFIX + 1 { PREFIX + 1 } else { name.len() - usize::from(name.ends_with(b"/")) };
    let at = name[..window].iter().rposition(|byte| *byte == b'/')?;
    let rest = name.len() - at - 1;
    (at > 0 && at <= PREFIX && rest > 0 && rest <= NAME).then_some(at)
}

/// Puts a name in the field of a PAX entry's own header: the ASCII characters of it, as many as fit. Those who ignore PAX
/// take a file whose name ends in a slash for a directory, so a slash that the cut leaves at the end is hidden.
fn put_truncated(field: &mut [u8], text: &[u8]) {
    let mut kept = text.iter().filter(|byte| byte.is_ascii() && **byte != 0);
    let mut length = 0;
    for (to, from) in field.iter_mut().zip(&mut kept) {
        *to = *from;
        length += 1;
    }
    let cut_off = kept.next().is_some();
    if cut_off && field[length - 1] == b'/' {
        let before = field[..length - 1].iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
        field[before] = 0;
    }
}

/// `"<length> <key>=<value>\n"`; the length counts its own digits.
fn record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let digits = |n: usize| n.ilog10() as usize + 1;
    let rest = key.len() + value.len() + 3;
    let mut length = rest + digits(rest);
    if digits(length) != digits(rest) {
        length = rest + digits(length);
    }
    out.extend_from_slice(format!("{length} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

impl Header {
    /// Whether everything fits in one USTAR header.
    fn is_ustar(&self, name: &[u8], link: &[u8]) -> bool {
        let name_fits = (name.len() <= NAME && is_plain(name)) || cut(name).is_some();
        name_fits && link.len() <= NAME && is_plain(link) && self.numbers_fit()
    }

    fn numbers_fit(&self) -> bool {
        u64::from(self.uid) <= LARGEST_ID && u64::from(self.gid) <= LARGEST_ID && self.size <= LARGEST_SIZE
    }

    /// Bytes that [`Self::write`] writes.
    pub(super) fn len(&self, name: &[u8], link: &[u8]) -> u64 {
        if self.is_ustar(name, link) {
            return BLOCK as u64;
        }
        let mut out = Vec::new();
        self.write(name, link, &mut out);
        out.len() as u64
    }

    /// Bytes of the whole entry: headers, content, and zeros up to the next block.
    pub(super) fn total(&self, header: u64) -> u64 {
        header + self.size.next_multiple_of(BLOCK as u64)
    }

    /// Appends the entry's header or headers.
    pub(super) fn write(&self, name: &[u8], link: &[u8], out: &mut Vec<u8>) {
        let mut block = TEMPLATE;
        self.fill_numbers(&mut block);
        if self.is_ustar(name, link) {
            let rest = match cut(name) {
                Some(at) => {
                    block[345..345 + at].copy_from_slice(&name[..at]);
                    &name[at + 1..]
                }
                None => name,
            };
            block[..rest.len()].copy_from_slice(rest);
            block[157..157 + link.len()].copy_from_slice(link);
        } else {
            self.write_pax(name, link, out);
            put_truncated(&mut block[..NAME], name);
            put_truncated(&mut block[157..257], link);
        }
        seal(&mut block);
        out.extend_from_slice(&block);
    }

    fn fill_numbers(&self, block: &mut [u8; BLOCK]) {
        octal(&mut block[100..108], u64::from(self.mode));
        octal(&mut block[108..116], u64::from(self.uid));
        octal(&mut block[116..124], u64::from(self.gid));
        octal(&mut block[124..136], self.size);
        block[156] = self.kind.flag();
        if matches!(self.kind, Kind::Character | Kind::Block) {
            octal(&mut block[329..337], u64::from(self.major));
            octal(&mut block[337..345], u64::from(self.minor));
        }
    }

    /// The PAX header and its records, sorted by key.
    fn write_pax(&self, name: &[u8], link: &[u8], out: &mut Vec<u8>) {
        let mut records = Vec::new();
        if u64::from(self.gid) > LARGEST_ID {
            record(&mut records, "gid", self.gid.to_string().as_bytes());
        }
        if link.len() > NAME || !is_plain(link) {
            record(&mut records, "linkpath", link);
        }
        // Also a name that could be cut, when something else asks for PAX.
        if name.len() > NAME || !is_plain(name) {
            record(&mut records, "path", name);
        }
        if self.size > LARGEST_SIZE {
            record(&mut records, "size", self.size.to_string().as_bytes());
        }
        if u64::from(self.uid) > LARGEST_ID {
            record(&mut records, "uid", self.uid.to_string().as_bytes());
        }

        let slash = name.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let (directory, base) = name.split_at(slash);
        let separator: &[u8] = if base.is_empty() { b"" } else { b"/" };
        let full = [directory, b"PaxHeaders.0", separator, base].concat();
        let mut short: Vec<u8> = full.into_iter().filter(|byte| byte.is_ascii() && *byte != 0).take(NAME).collect();
        while short.last() == Some(&b'/') {
            short.pop();
        }
        let mut block = PAX_TEMPLATE;
        block[..short.len()].copy_from_slice(&short);
        octal(&mut block[124..136], records.len() as u64);
        seal(&mut block);
        out.extend_from_slice(&block);
        records.resize(records.len().next_multiple_of(BLOCK), 0);
        out.extend_from_slice(&records);
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use serde::Deserialize;

    use super::*;
    use crate::digest::Digest;

    fn kind(text: &str) -> Kind {
        match text {
            "file" => Kind::File,
            "dir" => Kind::Directory,
            "symlink" => Kind::Symlink,
            "char" => Kind::Character,
            "block" => Kind::Block,
            "fifo" => Kind::Fifo,
            other => panic!("unknown type {other}"),
        }
    }

    #[derive(Deserialize)]
    struct Archive {
        name: String,
        entries: Vec<ArchiveEntry>,
        size: usize,
        sha256: String,
    }

    #[derive(Deserialize)]
    struct ArchiveEntry {
        r#type: String,
        path_b64: String,
        #[serde(default)]
        link_b64: String,
        #[serde(default)]
        content_b64: String,
        mode: String,
        uid: u32,
        gid: u32,
        #[serde(default)]
        major: u32,
        #[serde(default)]
        minor: u32,
    }

    #[test]
    fn whole_archives_are_those_of_go() {
        let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
        let archives: Vec<Archive> = serde_json::from_str(include_str!("testdata/tar-vectors.json")).expect("vectors");
        assert_eq!(archives.len(), 17);
        for archive in archives {
            let mut out = Vec::new();
            for entry in &archive.entries {
                let content = decode(&entry.content_b64);
                let header = Header {
                    kind: kind(&entry.r#type),
                    mode: u32::from_str_radix(&entry.mode, 8).expect("octal"),
                    uid: entry.uid,
                    gid: entry.gid,
                    size: content.len() as u64,
                    major: entry.major,
                    minor: entry.minor,
                };
                let before = out.len();
                header.write(&decode(&entry.path_b64), &decode(&entry.link_b64), &mut out);
                let total = header.total((out.len() - before) as u64) as usize;
                out.extend_from_slice(&content);
                out.resize(before + total, 0);
            }
            out.resize(out.len() + TRAILER as usize, 0);
            assert_eq!(out.len(), archive.size, "{}", archive.name);
            assert_eq!(Digest::of(&out).hex(), archive.sha256, "{}", archive.name);
        }
    }

    /// `-`, or runs of bytes with `.` between: the hex digits of a run's unit, `*` and how often it is repeated.
    fn unfold(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for run in text.split('.').filter(|_| text != "-") {
            let (hex, times) = run.split_once('*').unwrap_or((run, "1"));
            let unit: Vec<u8> = (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits"))
                .collect();
            bytes.extend(unit.repeat(times.parse().expect("a number")));
        }
        bytes
    }

    /// Headers alone, made by Go's `archive/tar`; one a line: type, mode, uid, gid, size, major, minor, length of the
    /// headers, the first digits of their sha256, name, link target.
    #[test]
    fn headers_are_those_of_go() {
        let vectors = include_str!("testdata/tar-headers.txt");
        assert!(vectors.lines().count() > 900);
        for line in vectors.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| -> u64 { fields[at].parse().expect("a number") };
            let (name, link) = (unfold(fields[9]), unfold(fields[10]));
            let header = Header {
                kind: kind(fields[0]),
                mode: u32::from_str_radix(fields[1], 8).expect("octal"),
                uid: number(2) as u32,
                gid: number(3) as u32,
                size: number(4),
                major: number(5) as u32,
                minor: number(6) as u32,
            };
            let mut out = Vec::new();
            header.write(&name, &link, &mut out);
            let shown = format!("{line}: {} bytes {}", name.len(), name.escape_ascii());
            assert_eq!(out.len() as u64, number(7), "{shown}");
            assert_eq!(header.len(&name, &link), number(7), "{shown}");
            assert_eq!(Digest::of(&out).hex()[..16], *fields[8], "{shown}");
        }
    }

    /// Somebody else's reader sees what was meant.
    #[test]
    fn another_reader_reads_them() {
        let long = format!("/é/{}", "x/".repeat(1900) + "end");
        for (name, link) in [("/a", "b"), (long.as_str(), long.as_str()), (&"/n".repeat(80), "")] {
            let header = Header {
                kind: if link.is_empty() { Kind::File } else { Kind::Symlink },
                mode: 0o4755,
                uid: 3_000_000,
                gid: 7,
                size: 0,
                major: 0,
                minor: 0,
            };
            let mut out = Vec::new();
            header.write(name.as_bytes(), link.as_bytes(), &mut out);
            out.resize(out.len() + TRAILER as usize, 0);
            let mut archive = tar::Archive::new(&out[..]);
            let entry = archive.entries().expect("entries").next().expect("one").expect("readable");
            assert_eq!(&*entry.path_bytes(), name.as_bytes());
            assert_eq!(entry.link_name_bytes().as_deref().unwrap_or_default(), link.as_bytes());
            assert_eq!(entry.header().mode().expect("mode"), 0o4755);
            assert_eq!(entry.header().mtime().expect("mtime"), 315_532_801);
        }
    }
}

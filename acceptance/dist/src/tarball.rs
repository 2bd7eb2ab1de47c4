//! A tarball whose bytes depend on nothing but its entries.

use std::io;

use flate2::{Compression, GzBuilder};
use tar::{EntryType, Header};

/// The time of every entry: 1980-01-01T00:00:01Z, as in all layers that builders are made of.
const TIME: u64 = 315_532_801;

/// A file or a directory, owned by root.
pub(crate) struct Entry {
    name: String,
    kind: EntryType,
    mode: u32,
    content: Vec<u8>,
}

impl Entry {
    pub(crate) fn file(name: &str, content: Vec<u8>) -> Self {
        Self { name: name.to_owned(), kind: EntryType::Regular, mode: 0o644, content }
    }

    pub(crate) fn executable(name: &str, content: Vec<u8>) -> Self {
        Self { name: name.to_owned(), kind: EntryType::Regular, mode: 0o755, content }
    }

    pub(crate) fn directory(name: &str) -> Self {
        Self { name: format!("{name}/"), kind: EntryType::Directory, mode: 0o755, content: Vec::new() }
    }
}

/// Sorted by name, so that a directory is before what is in it.
pub(crate) fn pack(mut entries: Vec<Entry>) -> io::Result<Vec<u8>> {
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    // Without a time and a file name of its own.
    let gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    let mut tar = tar::Builder::new(gzip);
    for entry in entries {
        let mut header = Header::new_ustar();
        header.set_path(&entry.name)?;
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_mtime(TIME);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(entry.content.len() as u64);
        header.set_cksum();
        tar.append(&header, &*entry.content)?;
    }
    tar.into_inner()?.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    fn entries() -> Vec<Entry> {
        vec![
            Entry::file("lifecycle/launcher.sbom.cdx.json", b"{}".to_vec()),
            Entry::executable("lifecycle/detector", b"ELF".to_vec()),
            Entry::directory("lifecycle"),
            Entry::file("lifecycle.toml", b"[api]".to_vec()),
        ]
    }

    #[test]
    fn the_order_in_which_they_come_does_not_matter() {
        let mut reversed = entries();
        reversed.reverse();
        assert_eq!(pack(entries()).expect("packed"), pack(reversed).expect("packed"));
    }

    #[test]
    fn is_in_the_shape_that_platforms_take() {
        let packed = pack(entries()).expect("packed");
        let mut found = Vec::new();
        let mut archive = tar::Archive::new(GzDecoder::new(&*packed));
        for entry in archive.entries().expect("a tar") {
            let mut entry = entry.expect("an entry");
            let mut content = String::new();
            entry.read_to_string(&mut content).expect("text");
            let header = entry.header();
            assert_eq!((header.uid().ok(), header.gid().ok(), header.mtime().ok()), (Some(0), Some(0), Some(TIME)));
            assert!(matches!(header.entry_type(), EntryType::Regular | EntryType::Directory), "no links");
            let name = entry.path().expect("a path").to_string_lossy().into_owned();
            found.push(format!("{name} {:o} {content}", header.mode().expect("a mode")));
        }
        assert_eq!(
            found,
            [
                "lifecycle.toml 644 [api]",
                "lifecycle/ 755 ",
                "lifecycle/detector 755 ELF",
                "lifecycle/launcher.sbom.cdx.json 644 {}",
            ]
        );
    }
}

//! What is in a directory, to be compared with what is there later: nothing that existed may be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// Every path beneath a directory, and what is there: kind, mode, and content or target.
pub fn snapshot(directory: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(directory_left) = left.pop() {
        let entries =
            fs::read_dir(&directory_left).unwrap_or_else(|error| panic!("{}: {error}", directory_left.display()));
        for entry in entries {
            let path = entry.expect("an entry").path();
            let found = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let kind = found.file_type();
            let shown = if kind.is_dir() {
                left.push(path.clone());
                "directory".to_owned()
            } else if kind.is_symlink() {
                format!("link to {}", fs::read_link(&path).expect("a link").display())
            } else if kind.is_file() {
                let content = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                format!("file {}", hex(&content))
            } else {
                format!("special {}", if kind.is_fifo() { "pipe" } else { "file" })
            };
            let name = path.strip_prefix(directory).expect("beneath");
            let name = String::from_utf8_lossy(name.as_os_str().as_bytes()).into_owned();
            all.insert(name, format!("{shown} {:o}", found.mode() & 0o7777));
        }
    }
    all
}

/// The SHA-256 of bytes, in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What differs between two snapshots, one line a path.
pub fn changes(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let differs = paths.into_iter().filter(|path| before.get(*path) != after.get(*path));
    differs.map(|path| format!("{path}: {:?} became {:?}", before.get(path), after.get(path))).collect()
}

/// The names in a directory, in order.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("one").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

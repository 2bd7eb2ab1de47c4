//! Layers made of files that the machine has.
//!
//! The rule: regular files beneath `/usr`, `/opt` and the Rust toolchains, each file once however many names it has. *Many*
//! takes files under 1 MiB, directory by directory; *few* takes files over 4 MiB. The order is that of the digests of the
//! directories' (the files') paths, which is as good as chance and always the same. Five layers get equal shares, and
//! each file keeps its whole path beneath its layer.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::USER;

/// How many layers there are.
pub const LAYERS: usize = 5;

/// Which files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Many small ones.
    Many,
    /// Few large ones.
    Few,
}

/// Files of one layer.
#[derive(Debug, Default)]
pub struct Layer {
    files: Vec<PathBuf>,
    bytes: u64,
}

/// Where files are looked for.
fn roots() -> Vec<PathBuf> {
    let rustup = std::env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".rustup")));
    [Some(PathBuf::from("/opt")), rustup.map(|rustup| rustup.join("toolchains")), Some(PathBuf::from("/usr"))]
        .into_iter()
        .flatten()
        .collect()
}

/// Chooses files of about `bytes` bytes in all; less, if the machine has no more.
pub fn choose(kind: Kind, bytes: u64) -> Vec<Layer> {
    let mut by_directory = BTreeMap::new();
    let mut seen = HashSet::new();
    for root in roots() {
        list(kind, &root, &mut seen, &mut by_directory);
    }
    // Directories stay together where they are many.
    let mut groups: Vec<Vec<(PathBuf, u64)>> = match kind {
        Kind::Many => by_directory.into_values().collect(),
        Kind::Few => by_directory.into_values().flatten().map(|file| vec![file]).collect(),
    };
    groups.sort_by_cached_key(|group| {
        let path = group.first().map_or(Path::new(""), |(path, _)| if group.len() == 1 { path } else { parent(path) });
        Sha256::digest(path.as_os_str().as_encoded_bytes()).to_vec()
    });
    let mut layers: Vec<Layer> = (0..LAYERS).map(|_| Layer::default()).collect();
    let share = bytes / LAYERS as u64;
    for group in groups {
        let size: u64 = group.iter().map(|(_, size)| size).sum();
        let Some(layer) = layers.iter_mut().find(|layer| layer.bytes + size <= share + share / 50) else { continue };
        layer.bytes += size;
        layer.files.extend(group.into_iter().map(|(path, _)| path));
        if layers.iter().all(|layer| layer.bytes >= share - share / 50) {
            break;
        }
    }
    layers
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn list(
    kind: Kind,
    directory: &Path,
    seen: &mut HashSet<(u64, u64)>,
    found: &mut BTreeMap<PathBuf, Vec<(PathBuf, u64)>>,
) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut entries: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        let Ok(status) = fs::symlink_metadata(&path) else { continue };
        let fits = match kind {
            Kind::Many => status.len() < 1 << 20,
            Kind::Few => status.len() > 4 << 20,
        };
        if status.is_dir() {
            list(kind, &path, seen, found);
        } else if status.is_file() && fits && seen.insert((status.dev(), status.ino())) {
            found.entry(directory.to_owned()).or_default().push((path, status.len()));
        }
    }
}

impl Layer {
    /// How many files, and how many bytes.
    pub fn totals(layers: &[Self]) -> (usize, u64) {
        layers.iter().fold((0, 0), |(files, bytes), layer| (files + layer.files.len(), bytes + layer.bytes))
    }

    /// Copies the files beneath a directory, which gets a build user's tree.
    pub fn copy_to(&self, to: &Path) {
        make_directory(to);
        for from in &self.files {
            let path = to.join(from.strip_prefix("/").unwrap_or(from));
            make_directory(parent(&path));
            fs::copy(from, &path).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
            chown(&path, Some(USER), Some(USER)).expect("owned: the bench runs as root");
        }
    }

    /// Appends the files' content to one file until it has `bytes` bytes.
    pub fn fill(layers: &[Self], to: &Path, bytes: u64) {
        use std::io::Read as _;
        let mut file = fs::File::create(to).expect("created");
        let mut left = bytes;
        for from in layers.iter().flat_map(|layer| &layer.files).cycle() {
            let from = fs::File::open(from).expect("opened");
            left -= std::io::copy(&mut from.take(left), &mut file).expect("copied");
            if left == 0 {
                break;
            }
        }
        chown(to, Some(USER), Some(USER)).expect("owned");
    }
}

/// Makes a directory of the build user's, and those above it.
pub fn make_directory(path: &Path) {
    if path.is_dir() {
        return;
    }
    make_directory(parent(path));
    fs::create_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    chown(path, Some(USER), Some(USER)).expect("owned: the bench runs as root");
}

/// Number of files beneath a directory, and their bytes.
pub fn count(directory: &Path) -> (usize, u64) {
    let mut total = (0, 0);
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(status) = entry.metadata() else { continue };
        let (files, bytes) = if status.is_dir() { count(&entry.path()) } else { (1, status.len()) };
        total = (total.0 + files, total.1 + bytes);
    }
    total
}

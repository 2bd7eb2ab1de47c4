//! A cache directory.
//!
//! ```text
//! <dir>/committed/io.buildpacks.lifecycle.cache.metadata    JSON and a newline
//! <dir>/committed/sha256:<hex>.tar                           layers, uncompressed, by diffID
//! <dir>/staging/                                             the next generation, same layout
//! <dir>/committed-backup/                                    between two renames, where no exchange is possible
//! <dir>/targets/linux-arm64/{committed,staging,…}            the same again for a target that was asked for
//! ```
//!
//! `staging` and `committed` are exchanged in one step (`renameat2`); where the file system cannot, by two renames,
//! and a `committed` that is missing because a run was killed between them is recovered from its backup on open,
//! before anything is deleted.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use lifecycle_launch::console::chain;
use log::{debug, info, warn};
use platform_spec::label::{CACHE_METADATA, CacheMetadata};
use rustix::fs::{FlockOperation, RenameFlags};
use rustix::io::Errno;

use super::CacheError;
use crate::digest::Digest;
use crate::file::{PathContext, PathError};

/// Metadata of a real cache is a few hundred KiB at most.
const LARGEST_METADATA: u64 = 16 << 20;

/// A cache directory, opened.
#[derive(Debug)]
pub struct VolumeCache {
    dir: PathBuf,
    metadata: CacheMetadata,
}

/// The next generation of a cache directory.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    /// Holds the directory's lock.
    _lock: Option<OwnedFd>,
    committed: bool,
    next: AtomicU64,
}

fn tar_name(diff_id: &Digest) -> String {
    format!("{diff_id}.tar")
}

impl VolumeCache {
    /// Opens a cache directory, which must exist; recovers a generation that a killed run left aside.
    pub fn open(dir: &Path) -> Result<Self, CacheError> {
        check(dir)?;
        recover(dir)?;
        Ok(Self { dir: dir.to_owned(), metadata: read_metadata(&dir.join("committed"))? })
    }

    /// Opens the place of one target in a cache directory, `<dir>/targets/<place>`. It need not exist yet. What the
    /// directory holds beside is not looked at.
    pub fn open_place(dir: &Path, place: &str) -> Result<Self, CacheError> {
        let at = dir.join("targets").join(place);
        match fs::symlink_metadata(&at) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                check(dir).map(|()| Self { dir: at, metadata: CacheMetadata::default() })
            }
            _ => Self::open(&at),
        }
    }

    /// What it holds.
    pub fn metadata(&self) -> &CacheMetadata {
        &self.metadata
    }

    pub(super) fn metadata_mut(&mut self) -> &mut CacheMetadata {
        &mut self.metadata
    }

    /// Opens a layer's tar. It is not verified: whoever reads it hashes it.
    pub fn open_layer(&self, diff_id: &Digest) -> Result<File, CacheError> {
        let path = self.dir.join("committed").join(tar_name(diff_id));
        open_regular(&path).map_err(|error| match error.source.kind() {
            io::ErrorKind::NotFound => CacheError::Missing(*diff_id),
            io::ErrorKind::PermissionDenied => CacheError::Permission(*diff_id),
            _ => CacheError::Path(error),
        })
    }

    /// Begins the next generation; waits while another run writes one.
    pub(super) fn begin(&self) -> Result<Staging, CacheError> {
        fs::create_dir_all(&self.dir).path("create directory", &self.dir)?;
        let lock = lock(&self.dir);
        let path = self.dir.join("staging");
        remove(&path)?;
        if is_there(&self.dir.join("committed")) {
            // Of a run that was killed after its last rename.
            remove(&self.dir.join("committed-backup"))?;
        }
        DirBuilder::new().mode(0o777).create(&path).path("create directory", &path)?;
        Ok(Staging { dir: self.dir.clone(), _lock: lock, committed: false, next: AtomicU64::new(0) })
    }
}

/// A cache directory has to be there.
fn check(dir: &Path) -> Result<(), CacheError> {
    if fs::metadata(dir).path("open cache directory", dir)?.is_dir() {
        return Ok(());
    }
    Err(CacheError::Path(PathError {
        operation: "open cache directory",
        path: dir.to_owned(),
        source: io::Error::from(io::ErrorKind::NotADirectory),
    }))
}

/// A regular file and nothing else, without waiting for a fifo's other end.
fn open_regular(path: &Path) -> Result<File, PathError> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path).path("open", path)?;
    if !file.metadata().path("stat", path)?.is_file() {
        return Err(PathError {
            operation: "open",
            path: path.to_owned(),
            source: io::Error::new(io::ErrorKind::InvalidData, "not a regular file"),
        });
    }
    Ok(file)
}

fn read_metadata(committed: &Path) -> Result<CacheMetadata, PathError> {
    let path = committed.join(CACHE_METADATA);
    let file = match open_regular(&path) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(CacheMetadata::default()),
        Err(error) => return Err(error),
        Ok(file) => file,
    };
    let mut json = Vec::new();
    file.take(LARGEST_METADATA).read_to_end(&mut json).path("read", &path)?;
    Ok(super::parse_metadata(&json))
}

/// Unless the system says that nothing is there, something may be.
fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).map_or_else(|error| error.kind() != io::ErrorKind::NotFound, |_| true)
}

/// Where a run was killed between two renames, the old generation is in `committed-backup` alone. One that is only
/// between them is waited for.
fn recover(dir: &Path) -> Result<(), PathError> {
    let (committed, backup) = (dir.join("committed"), dir.join("committed-backup"));
    let is_lost = || !is_there(&committed) && is_there(&backup);
    if !is_lost() {
        return Ok(());
    }
    let _lock = lock(dir);
    if is_lost() {
        debug!("Recovering the cache that an interrupted build left in {}", backup.display());
        fs::rename(&backup, &committed).path("rename", &backup)?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), PathError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.path("remove", path),
    }
}

/// Locks the directory against other writers. A file system that knows no locks is used without.
fn lock(dir: &Path) -> Option<OwnedFd> {
    let fd: OwnedFd = File::open(dir).ok()?.into();
    match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => return Some(fd),
        Err(Errno::WOULDBLOCK) => {}
        Err(_) => return None,
    }
    info!("Waiting for another build that writes to cache directory {}", dir.display());
    loop {
        match rustix::fs::flock(&fd, FlockOperation::LockExclusive) {
            Ok(()) => return Some(fd),
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

impl Staging {
    fn path(&self, diff_id: &Digest) -> PathBuf {
        self.dir.join("staging").join(tar_name(diff_id))
    }

    /// Takes a layer over from the old generation: a hard link, never a copy where the file system has links.
    /// The caller has verified it.
    pub fn reuse(&self, diff_id: &Digest) -> Result<(), CacheError> {
        let from = self.dir.join("committed").join(tar_name(diff_id));
        let to = self.path(diff_id);
        match fs::hard_link(&from, &to) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(CacheError::Missing(*diff_id)),
            Err(_) => fs::copy(&from, &to).map(drop).path("copy", &from).map_err(CacheError::from),
        }
    }

    /// Whether this generation has a layer already.
    pub fn has(&self, diff_id: &Digest) -> bool {
        self.path(diff_id).exists()
    }

    /// A place for a new tar whose diffID is not known yet, to be named by [`Staging::name`]. The file is the
    /// caller's to create.
    pub fn place(&self) -> NewTar {
        // Nobody else writes here: a counter names the files.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        NewTar { path: Some(self.dir.join("staging").join(format!(".new-{number}"))) }
    }

    /// Gives a finished tar its name.
    pub fn name(&self, mut tar: NewTar, diff_id: &Digest) -> Result<(), CacheError> {
        if let Some(path) = tar.path.take() {
            fs::rename(&path, self.path(diff_id)).path("rename", &path)?;
        }
        Ok(())
    }

    /// Swaps this generation in. What goes wrong before the swap leaves the old one; after it, only a warning is due.
    pub(super) fn commit(mut self, metadata: &CacheMetadata) -> Result<(), CacheError> {
        let (staging, committed) = (self.dir.join("staging"), self.dir.join("committed"));
        let path = staging.join(CACHE_METADATA);
        let mut json = platform_spec::text::to_go_json(metadata);
        json.push('\n');
        File::create(&path).and_then(|mut file| file.write_all(json.as_bytes())).path("write", &path)?;
        let dir: OwnedFd = File::open(&self.dir).path("open", &self.dir)?.into();
        let old = swap(&dir, &self.dir, &staging, &committed)?;
        self.committed = true;
        if let Err(error) = remove(&old) {
            warn!("Failed to remove the replaced cache: {}", chain(&error));
        }
        Ok(())
    }
}

/// Makes `staging` the `committed`; gives the place of the old generation.
fn swap(dir: &OwnedFd, path: &Path, staging: &Path, committed: &Path) -> Result<PathBuf, PathError> {
    match rustix::fs::renameat_with(dir.as_fd(), "staging", dir.as_fd(), "committed", RenameFlags::EXCHANGE) {
        Ok(()) => return Ok(staging.to_owned()),
        // There is no old generation yet.
        Err(Errno::NOENT) => {
            fs::rename(staging, committed).path("rename", staging)?;
            return Ok(path.join("committed-backup"));
        }
        Err(error) => debug!("Cannot exchange directories in {}: {}", path.display(), chain(&io::Error::from(error))),
    }
    let backup = path.join("committed-backup");
    remove(&backup)?;
    fs::rename(committed, &backup).path("rename", committed)?;
    if let Err(error) = fs::rename(staging, committed) {
        fs::rename(&backup, committed).path("roll back cache", committed)?;
        return Err(error).path("rename", staging);
    }
    Ok(backup)
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.committed {
            let _ = remove(&self.dir.join("staging"));
        }
    }
}

/// A tar that is being written into a cache directory; removed if it is dropped without a name.
#[derive(Debug)]
pub struct NewTar {
    /// Until it has its name.
    path: Option<PathBuf>,
}

impl NewTar {
    /// Where to write.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

impl Drop for NewTar {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn generation(dir: &Path, layers: &[&str]) {
        let cache = VolumeCache::open(dir).expect("opens");
        let staging = cache.begin().expect("begins");
        for layer in layers {
            let tar = staging.place();
            fs::write(tar.path().expect("has no name yet"), layer).expect("writes");
            staging.name(tar, &digest(layer)).expect("names");
        }
        let metadata = CacheMetadata { target_arch: Some(layers.concat()), ..CacheMetadata::default() };
        staging.commit(&metadata).expect("commits");
    }

    fn content(dir: &Path, layer: &str) -> Option<String> {
        let cache = VolumeCache::open(dir).expect("opens");
        cache.open_layer(&digest(layer)).ok().map(|file| io::read_to_string(file).expect("reads"))
    }

    #[test]
    fn a_generation_replaces_the_one_before() {
        let dir = tempfile::tempdir().expect("a directory");
        generation(dir.path(), &["a", "b"]);
        assert_eq!(content(dir.path(), "a").as_deref(), Some("a"));
        generation(dir.path(), &["c"]);
        assert_eq!((content(dir.path(), "a"), content(dir.path(), "c").as_deref()), (None, Some("c")));
        let names: Vec<_> =
            fs::read_dir(dir.path()).expect("lists").map(|entry| entry.expect("entry").file_name()).collect();
        assert_eq!(names, ["committed"], "neither staging nor backup is left");
    }

    #[test]
    fn reuse_links_and_a_missing_layer_is_told_apart() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().expect("a directory");
        generation(dir.path(), &["a"]);
        let cache = VolumeCache::open(dir.path()).expect("opens");
        let staging = cache.begin().expect("begins");
        staging.reuse(&digest("a")).expect("links");
        assert_eq!(fs::metadata(staging.path(&digest("a"))).expect("there").nlink(), 2);
        assert!(matches!(staging.reuse(&digest("b")), Err(CacheError::Missing(_))));
        staging.commit(&CacheMetadata::default()).expect("commits");
        assert_eq!(content(dir.path(), "a").as_deref(), Some("a"));
    }

    #[test]
    fn dropped_without_commit_the_old_generation_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        generation(dir.path(), &["a"]);
        let cache = VolumeCache::open(dir.path()).expect("opens");
        let staging = cache.begin().expect("begins");
        fs::write(staging.place().path().expect("has no name yet"), "half").expect("writes");
        drop(staging);
        assert_eq!(content(dir.path(), "a").as_deref(), Some("a"));
        assert!(!dir.path().join("staging").exists());
    }

    #[test]
    fn killed_between_two_renames_the_backup_is_recovered() {
        let dir = tempfile::tempdir().expect("a directory");
        generation(dir.path(), &["a"]);
        fs::rename(dir.path().join("committed"), dir.path().join("committed-backup")).expect("renames");
        assert_eq!(content(dir.path(), "a").as_deref(), Some("a"));
    }

    #[test]
    fn killed_after_two_renames_the_backup_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        generation(dir.path(), &["a"]);
        fs::create_dir(dir.path().join("committed-backup")).expect("creates");
        fs::write(dir.path().join("committed-backup/old.tar"), "old").expect("writes");
        assert_eq!(content(dir.path(), "a").as_deref(), Some("a"));
        generation(dir.path(), &["b"]);
        assert_eq!(content(dir.path(), "b").as_deref(), Some("b"));
        assert!(!dir.path().join("committed-backup").exists());
    }

    #[test]
    fn left_over_staging_of_a_killed_run_is_not_taken_over() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("staging")).expect("creates");
        fs::write(dir.path().join("staging").join(tar_name(&digest("x"))), "half").expect("writes");
        generation(dir.path(), &["a"]);
        assert_eq!(content(dir.path(), "x"), None);
    }

    #[test]
    fn undecodable_metadata_is_an_empty_cache_and_a_missing_directory_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("committed")).expect("creates");
        fs::write(dir.path().join("committed").join(CACHE_METADATA), "{").expect("writes");
        assert_eq!(VolumeCache::open(dir.path()).expect("opens").metadata(), &CacheMetadata::default());
        let error = VolumeCache::open(&dir.path().join("none")).expect_err("missing").to_string();
        assert!(error.contains("none: no such file or directory"), "{error}");
    }

    #[test]
    fn what_is_beside_a_targets_place_is_not_read() {
        let dir = tempfile::tempdir().expect("a directory");
        // Nothing that could be read.
        fs::create_dir_all(dir.path().join("committed").join(CACHE_METADATA)).expect("creates");
        fs::create_dir(dir.path().join("committed-backup")).expect("creates");
        assert!(VolumeCache::open(dir.path()).is_err());
        let cache = VolumeCache::open_place(dir.path(), "linux-arm64").expect("opens");
        assert_eq!(cache.metadata(), &CacheMetadata::default());
        cache.begin().expect("begins").commit(&CacheMetadata::default()).expect("commits");
        VolumeCache::open_place(dir.path(), "linux-arm64").expect("opens again");
        let error = VolumeCache::open_place(&dir.path().join("none"), "linux-arm64").expect_err("missing").to_string();
        assert!(error.contains("none: no such file or directory"), "{error}");
    }

    #[test]
    fn a_fifo_or_symlink_for_a_layer_is_refused_without_waiting() {
        let dir = tempfile::tempdir().expect("a directory");
        generation(dir.path(), &["a"]);
        let committed = dir.path().join("committed");
        let fifo = committed.join(tar_name(&digest("fifo")));
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).expect("made");
        std::os::unix::fs::symlink("/etc/passwd", committed.join(tar_name(&digest("link")))).expect("linked");
        let cache = VolumeCache::open(dir.path()).expect("opens");
        for name in ["fifo", "link"] {
            assert!(matches!(cache.open_layer(&digest(name)), Err(CacheError::Path(_))), "{name}");
        }
    }
}

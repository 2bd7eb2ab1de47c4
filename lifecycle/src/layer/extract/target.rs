//! Where a layer belongs, and the temporary directory in which it is made.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, chmodat, fchmod, fstat, mkdirat, openat, renameat, renameat_with, statat,
};
use rustix::io::Errno;

use super::ExtractError;
use crate::file::PathError;
use crate::layer::beneath::LIST;
use crate::layer::remove::remove_tree;

/// What temporary directories begin with. No buildpack's id has a tilde.
pub(super) const TEMPORARY: &str = ".restoring~";

/// Where a layer belongs.
pub(super) struct Target {
    pub(super) layers: Arc<OwnedFd>,
    pub(super) path: PathBuf,
    /// Names on the way from the root directory to the layer, and how many of them are the layers directory's.
    pub(super) names: Vec<Vec<u8>>,
    pub(super) depth: usize,
}

/// Where an entry belongs.
pub(super) enum Place {
    /// One of the directories above the layer; how many names it has.
    Above(usize),
    /// The layer or something in it, relative to the temporary directory.
    Inside(Vec<u8>),
}

/// What the layer is called in the temporary directory.
pub(super) const LAYER: &[u8] = b"layer";

impl Target {
    pub(super) fn new(layers: &Path, relative: &Path) -> Result<Self, ExtractError> {
        let path = layers.join(relative);
        let failed = |operation, source| PathError { operation, path: path.clone(), source };
        let names = |path: &Path| -> Option<Vec<Vec<u8>>> {
            path.components()
                .filter(|component| !matches!(component, Component::RootDir | Component::CurDir))
                .map(|component| match component {
                    Component::Normal(name) => Some(name.as_bytes().to_owned()),
                    _ => None,
                })
                .collect()
        };
        let depth = names(layers).map(|names| names.len());
        let all = names(&path).filter(|names| names.len() > depth.unwrap_or(0) && path.is_absolute());
        let (Some(names), Some(depth)) = (all, depth) else {
            return Err(failed("extract", io::ErrorKind::InvalidInput.into()).into());
        };
        let fd = openat(CWD, layers, LIST.difference(OFlags::NOFOLLOW), Mode::empty()).map_err(|error| PathError {
            operation: "open",
            path: layers.to_owned(),
            source: error.into(),
        })?;
        Ok(Self { layers: Arc::new(fd), path, names, depth })
    }

    /// Where an entry of this name belongs. Names may have no slash before them, as some tools leave them.
    pub(super) fn place(&self, name: &[u8]) -> Result<Place, ExtractError> {
        let outside = || ExtractError::Outside { entry: to_path(name), layer: self.path.clone() };
        let mut above = self.names.iter();
        let mut depth = 0;
        let mut inside = LAYER.to_owned();
        for part in name.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")) {
            match above.next() {
                _ if part == b".." => return Err(outside()),
                Some(expected) if part == expected => depth += 1,
                Some(_) => return Err(outside()),
                None => {
                    inside.push(b'/');
                    inside.extend_from_slice(part);
                }
            }
        }
        Ok(if depth == self.names.len() { Place::Inside(inside) } else { Place::Above(depth) })
    }

    /// What is shown for a place in the temporary directory.
    pub(super) fn shown(&self, place: &[u8]) -> PathBuf {
        let rest = &place[LAYER.len().min(place.len())..];
        to_path(&[self.path.as_os_str().as_bytes(), rest].concat())
    }
}

pub(super) fn to_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

/// The temporary directory; removed, with what is in it, when it is dropped.
pub(super) struct Holder {
    pub(super) layers: Arc<OwnedFd>,
    pub(super) name: String,
    pub(super) fd: Arc<OwnedFd>,
    /// Permission bits that a new file does not get.
    pub(super) mask: u32,
}

impl Holder {
    pub(super) fn create(target: &Target) -> Result<Self, ExtractError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("{TEMPORARY}{}.{number}", std::process::id());
            let path = || target.path.with_file_name(&name);
            let failed = |error: Errno| PathError { operation: "create directory", path: path(), source: error.into() };
            match mkdirat(&target.layers, name.as_str(), Mode::from_raw_mode(0o777)) {
                Err(Errno::EXIST) => continue,
                made => made.map_err(failed)?,
            }
            let status = statat(&target.layers, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
            // Also takes away a setgid bit, which all directories in it would get.
            chmodat(&target.layers, name.as_str(), Mode::RWXU, AtFlags::empty()).map_err(failed)?;
            let fd = openat(&target.layers, name.as_str(), LIST, Mode::empty()).map_err(failed)?;
            let mask = !status.st_mode & 0o777;
            return Ok(Self { layers: target.layers.clone(), name, fd: Arc::new(fd), mask });
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // What cannot be removed now is removed as a leftover.
        let _ = remove_tree(&self.layers, self.name.as_bytes());
    }
}

/// Renames the extracted layer to its name; what has that name goes to the temporary directory.
pub(super) fn put_in_place(holder: &Holder, parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let exchange = || renameat_with(&holder.fd, LAYER, parent, name, RenameFlags::EXCHANGE);
    let replaced = match exchange() {
        // What is there may not be moved as long as it may not be written to.
        Err(Errno::ACCESS) => {
            make_writable(parent, name)?;
            exchange()
        }
        result => result,
    };
    match replaced {
        Ok(()) => Ok(()),
        // Nothing is there.
        Err(Errno::NOENT) => Ok(renameat(&holder.fd, LAYER, parent, name)?),
        // The file system cannot exchange. For a moment there is nothing; what was there is a leftover then.
        Err(Errno::INVAL | Errno::NOSYS) => {
            match renameat(parent, name, &holder.fd, c"old") {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
            Ok(renameat(&holder.fd, LAYER, parent, name)?)
        }
        Err(error) => Err(error.into()),
    }
}

fn make_writable(parent: impl AsFd, name: &[u8]) -> io::Result<()> {
    let directory = openat(&parent, name, LIST, Mode::empty())?;
    let mode = fstat(&directory)?.st_mode & 0o7777;
    Ok(fchmod(&directory, Mode::from_raw_mode(mode | 0o700))?)
}

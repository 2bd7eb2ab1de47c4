//! What a layer's tar holds.

use std::path::PathBuf;
use std::sync::Arc;

use super::slices::SlicePart;

/// Numeric owner of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// What a layer's tar holds. Reading happens when a [`super::Pipeline`] works on it.
#[derive(Clone, Debug)]
pub enum Recipe {
    /// The parents of a directory with their real owner and mode, then the directory and its tree in the order of a
    /// walk (each directory before its children, names by bytes), owned by `owner`.
    Directory {
        /// The layers directory, absolute. It may be a symlink; entries get its name as it is given.
        layers: PathBuf,
        /// The directory, relative to `layers`, of ordinary names. No symlink on the way is followed.
        relative: PathBuf,
        /// Owner of the directory and all below it.
        owner: Owner,
    },
    /// A part of an app directory: entries sorted by full path as bytes. Made by [`super::slices`].
    Slice {
        /// The app directory, absolute.
        app: PathBuf,
        /// Owner of the app directory and all below it.
        owner: Owner,
        /// Which of the slices of [`super::slices`] this is.
        part: Arc<SlicePart>,
    },
    /// Entries made by us: the launcher layer, the process types layer.
    Entries(Vec<Entry>),
}

/// An entry that we make.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A directory, mode 0755, owner 0:0.
    Directory(PathBuf),
    /// A file copied from `from`, mode 0755, owner 0:0.
    File {
        /// Name in the tar.
        name: PathBuf,
        /// Where its content is.
        from: PathBuf,
    },
    /// A symlink, mode 0755, owner 0:0.
    Symlink {
        /// Name in the tar.
        name: PathBuf,
        /// Its target.
        target: PathBuf,
    },
}

//! The tar pipeline: from directories to layers and back. Knows no image, no phase and no network.
//!
//! A [`Recipe`] says what a layer's tar holds; the [`Pipeline`] reads each file once and makes what is
//! wanted of it: the diffID, a comparison with a tar that a cache has, an uncompressed tar, a compressed blob.
//! [`extract`](extract::extract) is the way back, and trusts nothing that it reads.

mod beneath;
mod chunk;
pub mod extract;
mod glob;
mod gzip;
mod pipeline;
mod plan;
mod recipe;
mod remove;
mod slices;
mod tar;
mod untar;
mod walk;

pub use pipeline::{Digested, LayerError, Packed, Pipeline, Want};
pub use recipe::{Entry, Owner, Recipe};
pub use slices::{SliceError, SlicePart, slices};

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::digest::Digest;

/// A compressed blob in a temporary file, removed when this is dropped.
#[derive(Debug)]
pub struct Spool {
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob in bytes.
    pub size: u64,
    path: PathBuf,
}

impl Spool {
    /// Takes over a finished file.
    pub fn new(path: PathBuf, digest: Digest, size: u64) -> Self {
        Self { digest, size, path }
    }

    /// Opens the blob for reading, from its beginning. May be called several times.
    pub fn open(&self) -> std::io::Result<File> {
        File::open(&self.path)
    }

    /// Where the blob is; a store on the same file system may link it.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

//! Images as immutable values, and the trait of what holds them.
//!
//! An [`Image`] is a manifest, a config and layers; changing one gives another (a [`Draft`] that is finished).
//! A [`Store`] only opens and saves. The bytes that were read are kept: digests are of bytes.

mod config;
mod draft;
pub mod layout;
mod manifest;
pub mod memory;
mod reference;
mod store;
pub mod validate;

pub use config::Config;
pub use draft::{Draft, DraftError};
pub use manifest::{BlobRef, Manifest, ManifestError};
pub use reference::{ParseReferenceError, Reference};
pub use store::{Encodings, Push, Pushed, Store, StoreError};

use std::path::PathBuf;
use std::sync::Arc;

use crate::digest::Digest;
use crate::layer::Spool;

/// An image, resolved: one manifest for one platform.
#[derive(Clone, Debug)]
pub struct Image {
    /// How files and labels name it: `<registry>/<repository>@<digest>` or `<layout path>@<digest>`.
    pub identifier: String,
    /// The manifest, with the bytes that were read.
    pub manifest: Manifest,
    /// The config.
    pub config: Config,
    /// Its layers from the bottom up, one for each of the config's diffIDs.
    pub layers: Vec<Layer>,
}

/// A layer: what is known of it, and where its bytes are.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// The blob in which it is or was stored, if it is known.
    pub blob: Option<BlobRef>,
    /// Where its bytes are.
    pub source: Source,
}

/// Where a layer's bytes are.
#[derive(Clone, Debug)]
pub enum Source {
    /// A compressed blob that the pipeline has packed into a temporary file ([`Layer::blob`] is known).
    Packed(Arc<Spool>),
    /// An uncompressed tar, kept by a cache directory.
    Tar(PathBuf),
    /// A blob in a repository, from which it can be read or mounted ([`Layer::blob`] is known).
    Registry(Reference),
    /// A blob in an OCI layout, `<path>/blobs/sha256/<hex>` ([`Layer::blob`] is known).
    Layout(PathBuf),
    /// Nowhere that we can read.
    Absent,
}

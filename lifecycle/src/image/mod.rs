//! Images as immutable values, and the trait of what holds them.
//!
//! An [`Image`] is a manifest, a config and layers; changing one gives another (a [`Draft`] that is finished).
//! A [`Store`] only opens and saves. The bytes that were read are kept: digests are of bytes.

mod config;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod draft;
pub mod index;
mod json;
pub mod layout;
mod manifest;
mod media_type;
pub mod memory;
mod rebase;
mod reference;
mod store;
pub mod validate;
mod verify;

pub use config::{Config, ConfigError, History};
pub use draft::{Draft, DraftError, REPRODUCIBLE_TIME, TIMES, rfc3339};
pub use index::{IndexChange, IndexChild, IndexError, WrittenIndex};
pub use manifest::{BlobRef, Child, Document, Index, Manifest, ManifestError, describe_platform};
pub use media_type::{Format, acceptable};
pub use rebase::{RebaseError, rebase};
pub use reference::{DEFAULT_REGISTRY, DEFAULT_TAG, ParseReferenceError, Reference, same_image};
pub use store::{Encodings, Push, Pushed, Store, StoreError};
pub use verify::VerifiedReader;

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

impl Image {
    /// Puts together what a store has read: a manifest, and the bytes of its config, which are checked.
    /// `source` says where a layer's blob is.
    pub fn assemble(
        identifier: String,
        manifest: Manifest,
        config: Vec<u8>,
        source: impl Fn(&BlobRef) -> Source,
    ) -> Result<Self, validate::Invalid> {
        validate::blob("config", &manifest.config, &config)?;
        let config = Config::parse(config)?;
        let diff_ids = validate::layer_count(&manifest, &config, manifest.layers.len())?;
        let layer =
            |(diff_id, blob): (Digest, &BlobRef)| Layer { diff_id, blob: Some(blob.clone()), source: source(blob) };
        let layers = diff_ids.into_iter().zip(&manifest.layers).map(layer).collect();
        Ok(Self { identifier, manifest, config, layers })
    }

    /// The layer with this diffID.
    pub fn layer(&self, diff_id: &Digest) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.diff_id == *diff_id)
    }
}

impl Layer {
    /// A layer that the pipeline has packed.
    pub fn packed(diff_id: Digest, blob: Arc<Spool>) -> Self {
        let descriptor = BlobRef::new(Format::Oci.layer(), blob.digest, blob.size);
        Self { diff_id, blob: Some(descriptor), source: Source::Packed(blob) }
    }
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

//! What holds images.

use std::io::Read;

use platform_spec::target::Target;
use thiserror::Error;

use super::{Document, Image, IndexChange, IndexError, Layer, WrittenIndex};
use crate::digest::Digest;

/// A registry, an OCI layout, memory. Opens images and begins pushes; knows no phase.
pub trait Store: Send + Sync {
    /// Resolves a name (with tag or digest; of an index: the child for `target`'s os, arch and variant).
    /// The image's config and manifest are verified against their digests.
    fn open(&self, name: &str, target: &Target) -> Result<Image, StoreError>;

    /// What a name holds, not resolved to one platform: an image manifest or an index.
    fn document(&self, name: &str) -> Result<Document, StoreError>;

    /// The name under which [`Store::open`] and [`Store::document`] find what the repository of `name` has by a digest:
    /// a child of an index.
    fn name_by_digest(&self, name: &str, digest: &Digest) -> Result<String, StoreError>;

    /// Changes the index under a tag; see [`index`](super::index). Children that the change names are there before, by
    /// their digests ([`Push::finish_untagged`]). A name with a digest is an error.
    fn write_index(&self, name: &str, change: &IndexChange<'_>) -> Result<WrittenIndex, IndexError>;

    /// Whether a layer's blob is still where its source says, without reading it. A previous image of which a layer
    /// is gone counts as corrupt.
    fn has_blob(&self, layer: &Layer) -> Result<bool, StoreError>;

    /// The bytes of a layer's blob as stored (perhaps compressed), size and digest checked before the end is reported.
    fn read_blob(&self, layer: &Layer) -> Result<Box<dyn Read + Send>, StoreError>;

    /// Proves that the name can be read: a missing image is fine, a refused one is not.
    fn check_read(&self, name: &str) -> Result<(), StoreError>;

    /// Proves that the name's repository can be written.
    fn check_write(&self, name: &str) -> Result<(), StoreError>;

    /// Begins a push to `name`, and to `also` with the same content.
    fn push<'a>(&'a self, name: &str, also: &[String]) -> Result<Box<dyn Push + 'a>, StoreError>;

    /// Deletes a manifest by its digest; `name` gives the repository.
    fn delete(&self, name: &str, digest: &Digest) -> Result<(), StoreError>;

    /// How messages name an image: by its name, or where that is a file by its path.
    fn shown_name(&self, name: &str) -> String {
        name.to_owned()
    }

    /// Which encodings of a layer a push takes, so that the pipeline makes only those.
    fn encodings(&self) -> Encodings;
}

/// Encodings of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encodings {
    /// A compressed blob.
    Blob,
    /// An uncompressed tar.
    Tar,
    /// Either.
    Any,
}

/// A push that has begun. Nothing is visible under a name before [`Push::finish`] has written it.
pub trait Push: Send + Sync {
    /// Sends one layer, or finds that it is there. May be called from several threads, as soon as a layer is ready,
    /// in any order, more than once.
    fn layer(&self, layer: &Layer) -> Result<(), StoreError>;

    /// Sends what is missing of `image`'s layers, then its config, then its manifest under each name in turn.
    /// The image is validated first. A name that fails does not stop the others.
    fn finish(self: Box<Self>, image: &Image) -> Result<Pushed, StoreError>;

    /// As [`Push::finish`], but names nothing: the manifest is in the repository of each name by its digest, to become a
    /// child of an index. [`Pushed::names`] says of each name whether its repository has it.
    fn finish_untagged(self: Box<Self>, image: &Image) -> Result<Pushed, StoreError>;
}

/// What a push has made.
#[derive(Debug)]
pub struct Pushed {
    /// How files name the saved image.
    pub identifier: String,
    /// Digest of the manifest.
    pub digest: Digest,
    /// Size of the manifest in bytes.
    pub manifest_size: u64,
    /// Each name, in the order given, and what became of it.
    pub names: Vec<(String, Result<(), StoreError>)>,
}

/// Why a store could not do what was asked. Kinds that callers treat differently are variants of their own.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The name is not an image reference.
    #[error("parse image reference {name:?}: {reason}")]
    Name {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such image (404).
    #[error("image {name} not found")]
    NotFound {
        /// The name as given.
        name: String,
    },
    /// The store asks for credentials that we lack or that it refuses (401). `told` is its error text:
    /// with one, a previous image or a cache image counts as absent.
    #[error("{name}: unauthorized{}", describe_refusal(request, told))]
    Unauthorized {
        /// The name as given.
        name: String,
        /// What was refused: method, URL and status; empty if that is not known.
        request: Box<str>,
        /// The registry's own error text, if its answer had one.
        told: Option<String>,
    },
    /// The store knows us and refuses (403).
    #[error("{name}: access denied{}", describe_refusal(request, told))]
    Forbidden {
        /// The name as given.
        name: String,
        /// What was refused: method, URL and status; empty if that is not known.
        request: Box<str>,
        /// The registry's own error text, if its answer had one.
        told: Option<String>,
    },
    /// An index without a child for the target.
    #[error("{name}: no image for {wanted}; there {}", describe_children(.available))]
    NoChild {
        /// The name as given.
        name: String,
        /// The target asked for: `linux/arm64`.
        wanted: String,
        /// What there is.
        available: Vec<String>,
    },
    /// An image for another machine than the one that was asked for.
    #[error("{name}: the image is for {found}, not for {wanted}")]
    OtherPlatform {
        /// The name as given.
        name: String,
        /// The target asked for: `linux/arm64`.
        wanted: Box<str>,
        /// What its config says: `linux/amd64`.
        found: Box<str>,
    },
    /// The image is there, but its parts do not fit together.
    #[error("{name}: {reason}")]
    Corrupt {
        /// The name as given.
        name: String,
        /// What does not fit.
        reason: String,
    },
    /// A blob is not in the store.
    #[error("blob {digest} not found in {name}")]
    BlobNotFound {
        /// Where it was looked for.
        name: String,
        /// Its digest.
        digest: Digest,
    },
    /// Anything else: connection, protocol, disk.
    #[error("{action}")]
    Failed {
        /// What was being done, to what: `put manifest of reg/app:latest`.
        action: String,
        /// Why it failed.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn describe_refusal(request: &str, told: &Option<String>) -> String {
    [Some(request), told.as_deref()]
        .into_iter()
        .flatten()
        .filter(|text| !text.is_empty())
        .map(|text| format!(": {text}"))
        .collect()
}

fn describe_children(available: &[String]) -> String {
    match available {
        [] => "is none".to_owned(),
        [one] => format!("is {one}"),
        many => format!("are {}", many.join(", ")),
    }
}

impl StoreError {
    /// For a previous or cache image: whether this counts as "there is none" (404; 401 with an error text; no such child).
    pub fn counts_as_absent(&self) -> bool {
        match self {
            Self::NotFound { .. }
            | Self::NoChild { .. }
            | Self::OtherPlatform { .. }
            | Self::Unauthorized { told: Some(_), .. } => true,
            Self::Name { .. }
            | Self::Unauthorized { told: None, .. }
            | Self::Forbidden { .. }
            | Self::Corrupt { .. }
            | Self::BlobNotFound { .. }
            | Self::Failed { .. } => false,
        }
    }
}

//! A cache image: an ordinary OCI image whose layers are the cached layers and whose label says whose they are.

use std::io::Read;

use lifecycle_launch::console::chain;
use log::warn;
use platform_spec::label::{CACHE_METADATA, CacheMetadata};
use platform_spec::target::{Platform, Target};

use super::CacheError;
use crate::digest::Digest;
use crate::image::{Draft, Image, Layer, Store, StoreError};

/// A cache image, opened; also where the next one will be.
pub struct ImageCache<'a> {
    store: &'a dyn Store,
    name: String,
    /// The image that is there, if it can be used.
    image: Option<Image>,
    metadata: CacheMetadata,
    /// Whether an image that the next generation replaces is deleted (Platform API below 0.13).
    delete_replaced: bool,
}

/// The next generation of a cache image.
pub struct Next<'a> {
    cache: &'a ImageCache<'a>,
    push: Box<dyn crate::image::Push + 'a>,
    target: Platform,
    layers: std::sync::Mutex<Vec<Layer>>,
}

impl<'a> ImageCache<'a> {
    /// Opens the cache image `name`. One that is not there, is corrupt, or says nothing that we understand is empty.
    pub fn open(store: &'a dyn Store, name: &str, target: &Target, delete_replaced: bool) -> Result<Self, CacheError> {
        let image = match store.open(name, target) {
            Ok(image) => Some(image),
            Err(StoreError::Corrupt { reason, .. }) => {
                warn!("Ignoring cache image {name:?} because it was corrupt: {reason}");
                None
            }
            Err(error) if error.counts_as_absent() => {
                // The first words are those of the reference, which names no image.
                warn!("Layer cache not found, using an empty cache: {}", chain(&error));
                None
            }
            Err(cause) => return Err(CacheError::Store { name: name.to_owned(), cause }),
        };
        let label = image.as_ref().and_then(|image| image.config.label(CACHE_METADATA).map(str::to_owned));
        let metadata = label.map(|label| super::parse_metadata(label.as_bytes())).unwrap_or_default();
        Ok(Self { store, name: name.to_owned(), image, metadata, delete_replaced })
    }

    /// What it holds.
    pub fn metadata(&self) -> &CacheMetadata {
        &self.metadata
    }

    pub(super) fn metadata_mut(&mut self) -> &mut CacheMetadata {
        &mut self.metadata
    }

    /// The architecture that its config names.
    pub(super) fn config_arch(&self) -> Option<Platform> {
        let config = &self.image.as_ref()?.config;
        (!config.architecture().is_empty()).then(|| crate::target::platform(config).platform())
    }

    /// The layer with a diffID, if the cache has it.
    pub fn layer(&self, diff_id: &Digest) -> Option<&Layer> {
        self.image.as_ref()?.layer(diff_id)
    }

    /// Whether the registry still has a layer of this cache. If it does not say so, it is taken to.
    pub fn has(&self, layer: &Layer) -> bool {
        self.store.has_blob(layer).unwrap_or(true)
    }

    pub(super) fn read(&self, diff_id: &Digest) -> Result<Box<dyn Read + Send>, CacheError> {
        let layer = self.layer(diff_id).ok_or(CacheError::Missing(*diff_id))?;
        self.store.read_blob(layer).map_err(|cause| match cause {
            StoreError::BlobNotFound { .. } => CacheError::Missing(*diff_id),
            cause => CacheError::Store { name: self.name.clone(), cause },
        })
    }

    pub(super) fn begin(&self, target: &Platform) -> Result<Next<'_>, CacheError> {
        let push = self.store.push(&self.name, &[]).map_err(|cause| self.store_error(cause))?;
        Ok(Next { cache: self, push, target: target.clone(), layers: std::sync::Mutex::default() })
    }

    fn store_error(&self, cause: StoreError) -> CacheError {
        CacheError::Store { name: self.name.clone(), cause }
    }
}

impl Next<'_> {
    /// The layer with a diffID in the cache image that is being replaced.
    pub fn old_layer(&self, diff_id: &Digest) -> Option<Layer> {
        self.cache.layer(diff_id).cloned()
    }

    /// Sends a layer. May be called from several threads; the order of layers is [`Next::keep`]'s.
    pub fn send(&self, layer: &Layer) -> Result<(), CacheError> {
        self.push.layer(layer).map_err(|cause| self.cache.store_error(cause))
    }

    /// Puts a layer on top of those kept so far; the same layer twice is kept once.
    pub fn keep(&self, layer: Layer) {
        let mut layers = self.layers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !layers.iter().any(|kept| kept.diff_id == layer.diff_id) {
            layers.push(layer);
        }
    }

    pub(super) fn commit(self, metadata: &CacheMetadata) -> Result<(), CacheError> {
        let cache = self.cache;
        let label = platform_spec::text::to_go_json(metadata);
        let mut draft = Draft::empty(self.target.os(), self.target.arch(), self.target.variant())
            .edit(|config| config.set_label(CACHE_METADATA, &label));
        for layer in self.layers.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            draft = draft.with_layer(layer, "");
        }
        let image = draft.finish().map_err(|cause| CacheError::Draft { name: cache.name.clone(), cause })?;
        let mut pushed = self.push.finish(&image).map_err(|cause| cache.store_error(cause))?;
        if let Some((_, Err(cause))) = pushed.names.pop() {
            return Err(cache.store_error(cause));
        }
        let replaced = cache.image.as_ref().map(|old| old.manifest.digest).filter(|old| *old != pushed.digest);
        if let Some(replaced) = replaced.filter(|_| cache.delete_replaced)
            && let Err(error) = cache.store.delete(&cache.name, &replaced)
        {
            warn!("Unable to delete cache image: {}", chain(&error));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Format;
    use crate::image::memory::{Answer, MemoryStore, Refusal};
    use crate::test_log::captured;

    #[test]
    fn a_cache_image_that_is_not_used_is_warned_about() {
        type Prepare = fn(&MemoryStore);
        let refuse = |store: &MemoryStore, answer| {
            store.refuse(Refusal { repository: "reg.io/cache".to_owned(), reads: true, answer });
        };
        let refuse: [&dyn Fn(&MemoryStore); 2] =
            [&|store| refuse(store, Answer::Unauthorized(Some("who".to_owned()))), &|store| {
                refuse(store, Answer::Forbidden)
            }];
        let nothing: Prepare = |_| {};
        let corrupt: Prepare = |store| {
            store.insert("reg.io/cache", Format::Oci.manifest(), b"{".to_vec()).expect("inserted");
        };
        let target = Target { os: "linux".to_owned(), arch: "amd64".to_owned(), ..Target::default() };
        for (prepare, log) in [
            (
                &nothing as &dyn Fn(&MemoryStore),
                "warn: Layer cache not found, using an empty cache: image reg.io/cache not",
            ),
            (&corrupt, "warn: Ignoring cache image \"reg.io/cache\" because it was corrupt: unusable manifest: "),
            (refuse[0], "warn: Layer cache not found, using an empty cache: reg.io/cache: unauthorized: who"),
            (refuse[1], ""),
        ] {
            let store = MemoryStore::new();
            prepare(&store);
            let (opened, lines) = captured(|| ImageCache::open(&store, "reg.io/cache", &target, false).map(drop));
            assert_eq!(opened.is_ok(), !log.is_empty(), "{log}");
            assert_eq!(lines.len(), usize::from(opened.is_ok()), "{log}: {lines:?}");
            assert!(lines.iter().all(|line| line.starts_with(log)), "{log}: {lines:?}");
        }
    }
}

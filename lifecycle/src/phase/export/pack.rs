//! Packing: what each layer's files become, for the app image, for the cache, or for both from one reading.
//!
//! A layer that the previous image or the cache may have is hashed first; only if it differs is it read again and
//! compressed. What is ready is sent while later layers are still being packed. See the crate's `layer` module for
//! the pipeline that reads, hashes and compresses.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use lifecycle_launch::console::chain;
use log::warn;

use super::ExportError;
use super::gather::Part;
use crate::cache::{Cache, CacheError, Writer};
use crate::digest::{Digest, Hasher};
use crate::image::{Image, Layer, Push, Source};
use crate::layer::{LayerError, Pipeline, Reading, Recipe, Want};

/// How many layers are sent at a time.
const SENDERS: usize = 3;

/// What a part became.
pub(super) struct Made {
    /// Digest of its tar.
    pub(super) diff_id: Digest,
    /// The app image's layer, and whether it is the previous image's.
    pub(super) app: Option<(Layer, bool)>,
    /// What became of it in the cache.
    pub(super) cache: Option<Cached>,
}

/// What became of a layer in the cache.
pub(super) enum Cached {
    /// The cache had it; of a cache image: the layer.
    Reused(Option<Layer>),
    /// It was added; to a cache image: the layer.
    Added(Option<Layer>),
    /// It could not be cached; the build goes on.
    Failed(String),
}

/// Where layers go, and what is there already.
pub(super) struct Packer<'a> {
    pub(super) pipeline: &'a Pipeline,
    /// The previous image, if there is one.
    pub(super) previous: Option<&'a Image>,
    /// The app image's push.
    pub(super) push: Option<&'a dyn Push>,
    /// The old cache and the new one.
    pub(super) cache: Option<(&'a Cache<'a>, &'a Writer<'a>)>,
}

/// A layer on its way to a store.
enum Parcel {
    App(Layer),
    Cache(Layer),
}

impl Packer<'_> {
    /// Makes the parts that are `wanted` now, several at a time, and sends what must be sent. The result has a place
    /// for each part, in their order.
    pub(super) fn run(&self, parts: &[Part], wanted: impl Fn(&Part) -> bool) -> Result<Vec<Option<Made>>, ExportError> {
        let wanted: Vec<Option<&Part>> = parts.iter().map(|part| wanted(part).then_some(part)).collect();
        let (sender, parcels) = mpsc::channel();
        let parcels = Mutex::new(parcels);
        let failed = AtomicBool::new(false);
        let errors: Mutex<Option<ExportError>> = Mutex::default();
        let made = thread::scope(|scope| {
            for _ in 0..SENDERS {
                scope.spawn(|| {
                    while let Some(parcel) = next(&parcels) {
                        if failed.load(Ordering::Relaxed) {
                            continue;
                        }
                        if let Err(error) = self.send(parcel) {
                            failed.store(true, Ordering::Relaxed);
                            lock(&errors).get_or_insert(error);
                        }
                    }
                });
            }
            let made = self.pipeline.map(wanted, |part| {
                if failed.load(Ordering::Relaxed) {
                    return Err(None);
                }
                part.map(|part| self.make(part, &sender)).transpose().map_err(Some)
            });
            drop(sender);
            made
        });
        if let Some(error) = errors.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            return Err(error);
        }
        // Without a sender's error, a task that gave up has its own.
        made.map_err(|error| error.unwrap_or(ExportError::Stopped))
    }

    fn send(&self, parcel: Parcel) -> Result<(), ExportError> {
        match (parcel, self.cache) {
            (Parcel::App(layer), _) => match self.push {
                Some(push) => push.layer(&layer).map_err(|cause| ExportError::Send { diff_id: layer.diff_id, cause }),
                None => Ok(()),
            },
            (Parcel::Cache(layer), Some((_, Writer::Image(next)))) => {
                // The cache's failure never fails the export; the manifest's push will find the layer missing.
                if let Err(error) = next.send(&layer) {
                    warn!("Failed to send a layer to the cache: {}", chain(&error));
                }
                Ok(())
            }
            (Parcel::Cache(_), _) => Ok(()),
        }
    }

    fn make(&self, part: &Part, sender: &mpsc::Sender<Parcel>) -> Result<Made, ExportError> {
        match self.try_make(part, sender) {
            // A layer that is only for the cache never fails the export.
            Err(error) if part.app.is_none() => {
                let reason = chain(&error);
                Ok(Made { diff_id: Digest::of(b""), app: None, cache: Some(Cached::Failed(reason)) })
            }
            result => result,
        }
    }

    fn try_make(&self, part: &Part, sender: &mpsc::Sender<Parcel>) -> Result<Made, ExportError> {
        let Some(recipe) = &part.recipe else {
            return self.reuse(part);
        };
        let candidates: HashSet<Digest> =
            part.app.iter().flatten().copied().filter(|digest| self.previous_layer(digest).is_some()).collect();
        let for_cache = part.cached && self.cache.is_some();
        let in_cache = if for_cache { self.cached(part) } else { None };
        let mut plan = Plan { app: part.app.is_some(), cache: for_cache, ..Plan::default() };
        if !candidates.is_empty() || in_cache.is_some() {
            let compare = in_cache.as_ref().and_then(|cached| cached.tar.as_ref());
            let found = self
                .pipeline
                .digest(Reading { recipe, guard: part.guard.as_ref() }, compare)
                .map_err(|cause| failed(&part.id, cause))?;
            plan.diff_id = Some(found.diff_id);
            if candidates.contains(&found.diff_id) {
                plan.app_layer = self.previous_layer(&found.diff_id).cloned();
            }
            match in_cache {
                Some(cached) if cached.diff_id == found.diff_id => match cached.tar {
                    Some(_) if found.same => plan.reuse_cached = true,
                    Some(tar) => warn_damaged(&part.id, &cached.diff_id, &tar),
                    None if self.is_lost(cached.layer.as_ref()) => {
                        warn!("Skipping reuse for layer {}: the registry has lost what the cache image had", part.id);
                    }
                    None => {
                        plan.reuse_cached = true;
                        plan.cached_layer = cached.layer;
                    }
                },
                Some(_) | None => {}
            }
        }
        self.carry_out(part, recipe, plan, sender)
    }

    /// A layer whose files are not here, taken from the previous image as it is.
    fn reuse(&self, part: &Part) -> Result<Made, ExportError> {
        let sha = part.app.iter().flatten().next();
        let layer = sha.and_then(|sha| self.previous_layer(sha)).ok_or_else(|| ExportError::LayerGone {
            id: part.id.clone(),
            sha: sha.map(Digest::to_string).unwrap_or_default(),
        })?;
        Ok(Made { diff_id: layer.diff_id, app: Some((layer.clone(), true)), cache: None })
    }

    fn previous_layer(&self, diff_id: &Digest) -> Option<&Layer> {
        // An OCI layout may be without the blob.
        self.previous?.layer(diff_id).filter(|layer| !matches!(layer.source, Source::Absent))
    }

    /// What the cache has under a diffID, if it can be read.
    fn cached(&self, part: &Part) -> Option<InCache> {
        let (old, _) = self.cache?;
        let diff_id = part.cached_before(old.metadata())?;
        match old {
            Cache::Volume(cache) => match cache.open_layer(&diff_id) {
                Ok(tar) => Some(InCache { diff_id, tar: Some(tar), layer: None }),
                Err(error) => {
                    warn!("Skipping reuse for layer {}: {}", part.id, chain(&error));
                    None
                }
            },
            Cache::Image(cache) => {
                let layer = cache.layer(&diff_id)?.clone();
                Some(InCache { diff_id, tar: None, layer: Some(layer) })
            }
        }
    }

    /// Whether a layer of the cache image cannot be had any more.
    fn is_lost(&self, layer: Option<&Layer>) -> bool {
        match (self.cache, layer) {
            (Some((Cache::Image(cache), _)), Some(layer)) => !cache.has(layer),
            _ => false,
        }
    }

    /// Reuses what the plan says is there, and packs the rest.
    fn carry_out(
        &self,
        part: &Part,
        recipe: &Recipe,
        mut plan: Plan,
        sender: &mpsc::Sender<Parcel>,
    ) -> Result<Made, ExportError> {
        let mut cached = None;
        if plan.cache && plan.reuse_cached {
            match self.reuse_cached(&plan) {
                Ok(()) => cached = Some(Cached::Reused(plan.cached_layer.clone())),
                Err(error) => warn!("Skipping reuse for layer {}: {}", part.id, chain(&error)),
            }
        }
        // A cache image's blob serves the app image too.
        if plan.app && plan.app_layer.is_none() && matches!(cached, Some(Cached::Reused(_))) {
            plan.sent_layer = plan.cached_layer.take();
        }
        // And the previous image's blob serves a cache image.
        if let (true, None, Some(layer), Some((_, Writer::Image(_)))) =
            (plan.cache, &cached, &plan.app_layer, self.cache)
        {
            let _ = sender.send(Parcel::Cache(layer.clone()));
            cached = Some(Cached::Added(Some(layer.clone())));
        }
        let app_done = !plan.app || plan.app_layer.is_some() || plan.sent_layer.is_some();
        let cache_done = !plan.cache || cached.is_some();
        if let (true, true, Some(diff_id)) = (app_done, cache_done, plan.diff_id) {
            if let Some(layer) = &plan.sent_layer {
                let _ = sender.send(Parcel::App(layer.clone()));
            }
            let app = match plan.app_layer {
                Some(layer) => Some((layer, true)),
                None => plan.sent_layer.map(|layer| (layer, false)),
            };
            return Ok(Made { diff_id, app, cache: cached });
        }
        self.pack(part, recipe, plan, cached, sender)
    }

    fn reuse_cached(&self, plan: &Plan) -> Result<(), CacheError> {
        match (self.cache, plan.diff_id) {
            (Some((_, Writer::Volume(staging))), Some(diff_id)) => staging.reuse(&diff_id),
            _ => Ok(()),
        }
    }

    /// Reads the layer's files and makes what is missing. The diffID of *this* reading is what counts.
    fn pack(
        &self,
        part: &Part,
        recipe: &Recipe,
        plan: Plan,
        mut cached: Option<Cached>,
        sender: &mpsc::Sender<Parcel>,
    ) -> Result<Made, ExportError> {
        let wants_app = plan.app && plan.app_layer.is_none();
        let wants_cache = plan.cache && cached.is_none();
        let cache_image = matches!(self.cache, Some((_, Writer::Image(_))));
        let mut tar = match self.cache {
            Some((_, Writer::Volume(staging))) if wants_cache => Some(staging.place()),
            _ => None,
        };
        let blob = wants_app || (wants_cache && cache_image);
        let want = Want { blob, tar: tar.as_ref().and_then(|tar| tar.path()) };
        let reading = Reading { recipe, guard: part.guard.as_ref() };
        let packed = match self.pipeline.pack(reading, want) {
            // A full or broken cache directory does not stop the export.
            Err(LayerError::Path(error)) if blob && want.tar.is_some_and(|path| path == error.path) => {
                cached = Some(Cached::Failed(chain(&error)));
                tar = None;
                self.pipeline.pack(reading, Want { blob, tar: None })
            }
            result => result,
        }
        .map_err(|cause| failed(&part.id, cause))?;
        let diff_id = packed.diff_id;
        if let (Some(tar), Some((_, Writer::Volume(staging)))) = (tar, self.cache) {
            cached = Some(match staging.name(tar, &diff_id) {
                Ok(()) => Cached::Added(None),
                Err(error) => Cached::Failed(chain(&error)),
            });
        }
        let layer = packed.blob.map(|spool| Layer::packed(diff_id, Arc::new(spool)));
        let mut app = plan.app_layer.map(|layer| (layer, true));
        if let Some(layer) = layer {
            if wants_app {
                let _ = sender.send(Parcel::App(layer.clone()));
                app = Some((layer.clone(), false));
            }
            if wants_cache && cache_image {
                let _ = sender.send(Parcel::Cache(layer.clone()));
                cached = Some(Cached::Added(Some(layer)));
            }
        }
        Ok(Made { diff_id, app, cache: cached })
    }
}

/// What is already there for a task.
#[derive(Default)]
struct Plan {
    app: bool,
    cache: bool,
    /// The diffID of the first reading, if there was one.
    diff_id: Option<Digest>,
    /// The previous image's layer.
    app_layer: Option<Layer>,
    /// A layer of the cache image that the app image gets.
    sent_layer: Option<Layer>,
    reuse_cached: bool,
    cached_layer: Option<Layer>,
}

/// A layer that the cache has.
struct InCache {
    diff_id: Digest,
    /// In a directory: its tar.
    tar: Option<File>,
    /// In an image: the layer.
    layer: Option<Layer>,
}

fn next(parcels: &Mutex<mpsc::Receiver<Parcel>>) -> Option<Parcel> {
    lock(parcels).recv().ok()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn failed(id: &str, cause: LayerError) -> ExportError {
    ExportError::Layer { id: id.to_owned(), cause }
}

/// Says what a damaged tar of the cache holds instead.
fn warn_damaged(id: &str, expected: &Digest, tar: &File) {
    use std::os::unix::fs::FileExt;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 17];
    let mut at = 0;
    let read: io::Result<()> = loop {
        match tar.read_at(&mut buffer, at) {
            Ok(0) => break Ok(()),
            Ok(count) => {
                hasher.update(buffer.get(..count).unwrap_or_default());
                at += count as u64;
            }
            Err(error) => break Err(error),
        }
    };
    match read {
        Ok(()) => {
            let found = hasher.finish().0;
            warn!("Skipping reuse for layer {id}: expected layer contents to have SHA '{expected}'; found '{found}'");
        }
        Err(error) => warn!("Skipping reuse for layer {id}: {}", crate::file::describe(&error)),
    }
}

//! Caches of layers between builds: a directory or an image.
//!
//! A [`Cache`] is opened once and says what it holds ([`Cache::metadata`]); layers are read from it by diffID. A
//! [`Writer`] makes the next generation beside the old one and swaps it in at [`Writer::commit`], so that a reader,
//! and a run that is killed, sees the old cache or the new one, whole.
//!
//! Both formats are shared with other implementations. Beside what they know, ours records the architecture that the
//! layers are for; a cache of another architecture counts as empty.

mod image;
mod volume;

pub use image::ImageCache;
pub use volume::VolumeCache;

use std::io::Read;

use lifecycle_launch::console::chain;
use log::warn;
use platform_spec::label::{BuildpackLayers, CacheMetadata};
use platform_spec::target::Platform;
use thiserror::Error;

use crate::digest::Digest;
use crate::file::PathError;
use crate::image::{DEFAULT_TAG, Reference, StoreError};
use crate::target::BuildTarget;

/// A cache that was opened for reading.
pub enum Cache<'a> {
    /// A directory.
    Volume(VolumeCache),
    /// An image in a registry.
    Image(Box<ImageCache<'a>>),
}

/// Why a cache, or a layer of it, cannot be used.
#[derive(Debug, Error)]
pub enum CacheError {
    /// The layer is not there, or cannot be read: it is skipped, and the build goes on.
    #[error("failed to find cache layer with SHA '{0}'")]
    Missing(Digest),
    /// The layer may not be read: it is skipped, and the build goes on.
    #[error("failed to read cache layer with SHA '{0}' due to insufficient permissions")]
    Permission(Digest),
    /// A file of the cache directory.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The registry of the cache image.
    #[error("access cache image '{name}'")]
    Store {
        /// The image's name.
        name: String,
        /// Why.
        #[source]
        cause: StoreError,
    },
    /// The new cache image could not be put together.
    #[error("make cache image '{name}'")]
    Draft {
        /// The image's name.
        name: String,
        /// Why.
        #[source]
        cause: crate::image::DraftError,
    },
}

impl Cache<'_> {
    /// What the cache holds; empty for a new cache and for one that cannot be used.
    pub fn metadata(&self) -> &CacheMetadata {
        match self {
            Self::Volume(cache) => cache.metadata(),
            Self::Image(cache) => cache.metadata(),
        }
    }

    /// The layers of one buildpack; `None` if the cache has nothing of it.
    pub fn buildpack(&self, id: &str) -> Option<&BuildpackLayers> {
        find(self.metadata(), id)
    }

    /// The bytes of a layer: a tar, perhaps compressed.
    pub fn read(&self, diff_id: &Digest) -> Result<Box<dyn Read + Send>, CacheError> {
        match self {
            Self::Volume(cache) => cache.open_layer(diff_id).map(|file| Box::new(file) as Box<dyn Read + Send>),
            Self::Image(cache) => cache.read(diff_id),
        }
    }

    fn metadata_mut(&mut self) -> &mut CacheMetadata {
        match self {
            Self::Volume(cache) => cache.metadata_mut(),
            Self::Image(cache) => cache.metadata_mut(),
        }
    }

    /// Forgets what the cache holds for other machines, and says so: everything, if it was made for another app's; layers
    /// that may be used while building, if it was made on another machine, or nobody knows on which.
    #[must_use]
    pub fn only_for(mut self, machines: &Machines) -> Self {
        let recorded = match &self {
            Self::Volume(_) => None,
            Self::Image(cache) => cache.config_arch(),
        };
        let metadata = self.metadata_mut();
        let recorded =
            metadata.target_arch.as_deref().map(platform).or(recorded).unwrap_or_else(|| machines.own.clone());
        if !machines.target.selects(&recorded) {
            if metadata.buildpacks.is_some() {
                warn!("Not using the cache: its layers are for {recorded}, the run image is for {}", machines.target);
            }
            *metadata = CacheMetadata::default();
            return self;
        }
        // Without a target, buildpacks run on what the app is for.
        let built_on = metadata.build_arch.as_deref().unwrap_or(recorded.arch()).to_owned();
        let reason = match &machines.build {
            BuiltOn::Target => return self,
            BuiltOn::Machine(build) if platform(&built_on).arch() == build.arch() => return self,
            BuiltOn::Machine(build) if built_on == UNKNOWN => {
                format!("nobody knows on which architecture its layers were made, and this build runs on {build}")
            }
            BuiltOn::Machine(build) => format!("its layers were made on linux/{built_on}, this build runs on {build}"),
            BuiltOn::Unknown => "group.toml does not say on which architecture buildpacks run (build-arch), \
                                 because its detector is of another lifecycle"
                .to_owned(),
        };
        let mut forgotten = false;
        for buildpack in metadata.buildpacks.iter_mut().flatten() {
            let before = buildpack.layers.len();
            buildpack.layers.retain(|_, layer| layer.launch && !layer.build);
            forgotten |= buildpack.layers.len() < before;
        }
        if forgotten {
            warn!("Using only layers of the cache that are for the app alone: {reason}");
        }
        self
    }
}

/// The cache image of a target (`linux-arm64`: [`BuildTarget::cache_place`]) beside `name`: `<tag>-linux-arm64`. Why not,
/// if there cannot be one.
pub fn image_at(name: &str, place: &str) -> Result<String, String> {
    /// Of a tag (OCI distribution specification, *Pulling manifests*).
    const LONGEST_TAG: usize = 128;
    let reference = Reference::parse(name).map_err(|error| error.to_string())?;
    if reference.digest.is_some() {
        return Err("with a target architecture, a cache image is named by a tag, not by a digest".to_owned());
    }
    let base = reference.tag.as_deref().unwrap_or(DEFAULT_TAG);
    let tag = format!("{base}-{place}");
    if tag.len() > LONGEST_TAG {
        return Err(format!("the tag for this target, {tag}, would be longer than {LONGEST_TAG} characters"));
    }
    // As it was given: whether a registry is insecure goes by that.
    let repository = match &reference.tag {
        Some(given) => name.strip_suffix(given.as_str()).and_then(|name| name.strip_suffix(':')).unwrap_or(name),
        None => name,
    };
    Ok(format!("{repository}:{tag}"))
}

/// For which machine the layers of a cache are, and on which they were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machines {
    /// The app's.
    pub target: Platform,
    /// The one on which buildpacks run.
    pub build: BuiltOn,
    /// That of this lifecycle: of a cache directory that does not say.
    pub own: Platform,
}

/// On which machine buildpacks run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuiltOn {
    /// The app's: no target was asked for.
    Target,
    /// This one.
    Machine(Platform),
    /// The app's or this lifecycle's: [`BuildTarget::is_build_assumed`].
    Unknown,
}

/// What a cache records as `build-arch` where it is not known.
const UNKNOWN: &str = "unknown";

impl BuiltOn {
    /// As caches record it.
    pub fn recorded(&self) -> Option<String> {
        match self {
            Self::Target => None,
            Self::Machine(build) => Some(build.arch().to_owned()),
            Self::Unknown => Some(UNKNOWN.to_owned()),
        }
    }
}

impl Machines {
    /// Those of a build whose run image is for `run_image`.
    pub fn of(build_for: &BuildTarget, run_image: Platform) -> Self {
        Self {
            target: run_image,
            build: match build_for.asked() {
                None => BuiltOn::Target,
                Some(_) if build_for.is_build_assumed() => BuiltOn::Unknown,
                Some(_) => BuiltOn::Machine(build_for.build().clone()),
            },
            own: Platform::of_this_program(),
        }
    }
}

/// An architecture as caches record it: `linux/arm64`, `arm64`.
fn platform(recorded: &str) -> Platform {
    let parts: Vec<&str> = recorded.split('/').collect();
    match parts.as_slice() {
        [arch] => Platform::new("linux", arch, ""),
        [os, arch, variant @ ..] => Platform::new(os, arch, variant.first().copied().unwrap_or_default()),
        [] => Platform::new("", "", ""),
    }
}

/// The layers of one buildpack in cache metadata.
fn find<'m>(metadata: &'m CacheMetadata, id: &str) -> Option<&'m BuildpackLayers> {
    metadata.buildpacks.iter().flatten().find(|buildpack| buildpack.key == id)
}

/// Reads cache metadata; what cannot be decoded is an empty cache.
fn parse_metadata(json: &[u8]) -> CacheMetadata {
    serde_json::from_slice(json).unwrap_or_else(|error| {
        warn!("Cache metadata cannot be decoded, using an empty cache: {}", chain(&error));
        CacheMetadata::default()
    })
}

/// The next generation of a cache, while it is being made. Dropped without [`Writer::commit`], it leaves the old one.
pub enum Writer<'a> {
    /// Of a directory.
    Volume(volume::Staging),
    /// Of an image.
    Image(image::Next<'a>),
}

impl<'a> Cache<'a> {
    /// Begins the next generation. `target` is what its layers are for.
    pub fn begin(&self, target: &Platform) -> Result<Writer<'_>, CacheError> {
        match self {
            Self::Volume(cache) => cache.begin().map(Writer::Volume),
            Self::Image(cache) => cache.begin(target).map(Writer::Image),
        }
    }
}

impl Writer<'_> {
    /// Writes the metadata, and makes this generation the cache.
    pub fn commit(self, metadata: &CacheMetadata) -> Result<(), CacheError> {
        match self {
            Self::Volume(staging) => staging.commit(metadata),
            Self::Image(next) => next.commit(metadata),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use platform_spec::label::BuildpackLayer;

    use super::*;
    use crate::test_log::captured;

    #[test]
    fn what_is_for_other_machines_is_forgotten() {
        let all = ["app", "both", "cached", "tools"];
        let nothing: [&str; 0] = [];
        let machine = |arch: &str| BuiltOn::Machine(arch.parse().expect("known"));
        for (target_arch, build_arch, build, kept, told) in [
            (Some("linux/arm64"), None, BuiltOn::Target, &all[..], ""),
            (
                Some("linux/amd64"),
                None,
                BuiltOn::Target,
                &nothing,
                "Not using the cache: its layers are for linux/amd64",
            ),
            // Of the lifecycle's own machine, which is another.
            (None, None, BuiltOn::Target, &nothing, "Not using the cache: its layers are for linux/s390x"),
            (Some("linux/arm64"), Some("arm64"), machine("arm64"), &all, ""),
            (Some("linux/arm64"), Some("aarch64"), machine("arm64"), &all, ""),
            (Some("linux/arm64"), None, machine("arm64"), &all, ""),
            (Some("linux/arm64"), Some("amd64"), machine("amd64"), &all, ""),
            (Some("linux/arm64"), Some("amd64"), machine("arm64"), &["app"], "its layers were made on linux/amd64"),
            (Some("linux/arm64"), None, machine("amd64"), &["app"], "its layers were made on linux/arm64"),
            (Some("linux/arm64"), Some("unknown"), machine("arm64"), &["app"], "nobody knows on which"),
            (Some("linux/arm64"), Some("arm64"), BuiltOn::Unknown, &["app"], "group.toml does not say"),
            (Some("linux/arm64"), Some("unknown"), BuiltOn::Unknown, &["app"], "group.toml does not say"),
            (Some("linux/amd64"), Some("amd64"), BuiltOn::Unknown, &nothing, "its layers are for linux/amd64"),
        ] {
            let dir = tempfile::tempdir().expect("a directory");
            let layer = |launch, build| BuildpackLayer { launch, build, cache: true, ..BuildpackLayer::default() };
            let layers = [
                ("app", layer(true, false)),
                ("both", layer(true, true)),
                ("cached", layer(false, false)),
                ("tools", layer(false, true)),
            ];
            let layers: BTreeMap<_, _> = layers.map(|(name, layer)| (name.to_owned(), layer)).into();
            let text = |value: Option<&str>| value.map(str::to_owned);
            let metadata = CacheMetadata {
                buildpacks: Some(vec![BuildpackLayers { key: "a".to_owned(), layers, ..BuildpackLayers::default() }]),
                target_arch: text(target_arch),
                build_arch: text(build_arch),
                ..CacheMetadata::default()
            };
            VolumeCache::open(dir.path()).expect("opens").begin().expect("begins").commit(&metadata).expect("commits");
            let machines =
                Machines { target: "arm64".parse().expect("known"), build, own: "s390x".parse().expect("known") };
            let cache = Cache::Volume(VolumeCache::open(dir.path()).expect("opens"));
            let (cache, lines) = captured(|| cache.only_for(&machines));
            let found: Vec<_> =
                cache.buildpack("a").into_iter().flat_map(|buildpack| buildpack.layers.keys()).collect();
            let what = format!("{target_arch:?} {build_arch:?} {machines:?}: {lines:?}");
            assert_eq!(found, kept, "{what}");
            assert_eq!(lines.len(), usize::from(!told.is_empty()), "{what}");
            assert!(lines.iter().all(|line| line.contains(told)), "{what}");
        }
    }
}

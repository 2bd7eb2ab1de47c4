//! Analyze: what the previous image says of its layers, and which run image the build is for
//! (platform.md, *analyzer*).
//!
//! Nothing is built if the result could not be written or the run image not be read: access to both is proven first.
//! Beside [`Analyzed`] the phase leaves the previous image's SBOM files in `<layers>/sbom/launch`, for the restorer.

use std::path::{Path, PathBuf};
use std::thread;

use log::{debug, info, warn};
use platform_spec::analyzed::{Analyzed, AnalyzedRunImage, ImageIdentifier};
use platform_spec::api::PlatformApi;
use platform_spec::label::{self, LifecycleMetadata};
use platform_spec::{exit, text};
use thiserror::Error;

use super::PhaseError;
use crate::digest::Digest;
use crate::file::PathError;
use crate::image::{Image, Layer, ParseReferenceError, Reference, Source, Store, StoreError, describe_platform};
use crate::layer::extract::{ExtractError, extract};
use crate::run_image::{Chosen, RunImageError, RunImageInput};
use crate::target::{self, BuildTarget};
use lifecycle_launch::console::chain;

/// What the phase knows.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The Platform API.
    pub api: PlatformApi,
    /// The name to which the app image will be written.
    pub image: String,
    /// Further names.
    pub tags: Vec<String>,
    /// The image of the previous build, usually [`Inputs::image`].
    pub previous_image: String,
    /// The run image, or what there is to choose from.
    pub run_image: RunImageInput,
    /// The cache image, if there is to be one.
    pub cache_image: Option<String>,
    /// The layers directory, absolute.
    pub layers: PathBuf,
    /// Whether nothing of the previous image is to be restored.
    pub skip_layers: bool,
    /// For which machine the build is.
    pub build_for: BuildTarget,
}

/// Where images are.
#[derive(Clone, Copy)]
pub struct Stores<'a> {
    /// App images and run images.
    pub images: &'a dyn Store,
    /// Cache images, which are always in a registry.
    pub caches: &'a dyn Store,
}

/// Why the phase failed.
#[derive(Debug, Error)]
pub enum AnalyzeError {
    /// There is no run image to use.
    #[error(transparent)]
    RunImage(#[from] RunImageError),
    /// The name of the app image is none.
    #[error("resolve inputs")]
    Reference(#[from] ParseReferenceError),
    /// A registry does not let us read or write.
    #[error("ensure registry {access} access to {name}")]
    Access {
        /// `read` or `read/write`.
        access: &'static str,
        /// The image's name.
        name: String,
        /// What the registry said.
        #[source]
        source: StoreError,
    },
    /// The previous image or the run image could not be opened.
    #[error("get {what}")]
    Open {
        /// `previous image` or `run image`.
        what: &'static str,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The run image is not for the machine that was asked for.
    #[error("resolve inputs: the run image has to be for the target architecture")]
    OtherTarget(#[source] StoreError),
    /// The run image does not say for which machine it is.
    #[error("unpack metadata from image {name}")]
    Target {
        /// Its name.
        name: String,
        /// What it lacks.
        #[source]
        source: target::Unstated,
    },
    /// The label names an SBOM layer that the previous image does not have.
    #[error("retrieve launch SBOM layer {0:?}: there is no such layer in the previous image")]
    NoSbom(String),
    /// The SBOM layer cannot be read.
    #[error("retrieve launch SBOM layer {layer}")]
    ReadSbom {
        /// Its diffID.
        layer: Digest,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The SBOM layer cannot be unpacked.
    #[error("restore launch SBOM layer {layer}")]
    RestoreSbom {
        /// Its diffID.
        layer: Digest,
        /// Why.
        #[source]
        source: ExtractError,
    },
    /// `analyzed.toml` cannot be written.
    #[error("write analyzed file")]
    Write(#[source] PathError),
}

impl PhaseError for AnalyzeError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::RunImage(error) => error.exit_code(),
            Self::Reference(_) | Self::OtherTarget(_) => exit::INVALID_ARGUMENTS,
            Self::Access { .. }
            | Self::Open { .. }
            | Self::Target { .. }
            | Self::NoSbom(_)
            | Self::ReadSbom { .. }
            | Self::RestoreSbom { .. }
            | Self::Write(_) => exit::ANALYZE_ERROR,
        }
    }

    fn says_what_failed(&self) -> bool {
        match self {
            Self::RunImage(error) => error.says_what_failed(),
            Self::Reference(_) | Self::OtherTarget(_) | Self::Access { .. } => true,
            Self::Open { .. }
            | Self::Target { .. }
            | Self::NoSbom(_)
            | Self::ReadSbom { .. }
            | Self::RestoreSbom { .. }
            | Self::Write(_) => false,
        }
    }
}

/// Runs the phase. What it returns is `analyzed.toml`.
pub fn run(inputs: &Inputs, stores: Stores<'_>) -> Result<Analyzed, AnalyzeError> {
    let _timer = super::Timer::start("Analyzer");
    let output = Reference::parse(&inputs.image)?;
    let chosen = inputs.run_image.choose(&output, &inputs.build_for, stores.images)?;
    check_access(inputs, &chosen, stores)?;

    let (previous, run_image) = thread::scope(|scope| {
        let previous = scope.spawn(|| inputs.build_for.open(stores.images, &inputs.previous_image));
        let run_image = match &chosen.image {
            Some(image) => Ok(image.clone()),
            None => inputs.build_for.open(stores.images, &chosen.name),
        };
        (previous.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), run_image)
    });
    let shown = stores.images.shown_name(&inputs.previous_image);
    let previous = use_previous(&shown, previous, stores.images)?;
    let run_image = use_run_image(&stores.images.shown_name(&chosen.name), run_image, &inputs.build_for)?;
    let previous = previous.filter(|image| is_of_same_machine(image, &shown, run_image.as_ref()));
    let (reference, metadata) = match &previous {
        None => (String::new(), LifecycleMetadata::default()),
        Some(image) => match read_metadata(image, &shown) {
            None => (String::new(), LifecycleMetadata::default()),
            Some(metadata) => (image.identifier.clone(), metadata),
        },
    };
    if let (Some(image), Some(sbom)) = (&previous, &metadata.sbom)
        && inputs.api.has_sbom()
        && !inputs.skip_layers
        && !sbom.sha.is_empty()
    {
        restore_sbom(image, &sbom.sha, &inputs.layers, stores.images)?;
    }
    Ok(Analyzed {
        target_arch: inputs.build_for.recorded(),
        previous_image: Some(ImageIdentifier { reference }),
        metadata,
        run_image: Some(describe_run_image(&chosen.name, run_image.as_ref(), inputs)?),
        ..Analyzed::default()
    })
}

/// Proves that what will be read can be, and that what will be written can be. All at once: each is a request or two.
fn check_access(inputs: &Inputs, chosen: &Chosen, stores: Stores<'_>) -> Result<(), AnalyzeError> {
    let mut reads = vec![inputs.previous_image.as_str()];
    if chosen.image.is_none() {
        reads.push(&chosen.name);
    }
    let mut writes: Vec<(&dyn Store, &str)> = Vec::new();
    writes.extend(inputs.cache_image.as_deref().map(|name| (stores.caches, name)));
    writes.push((stores.images, &inputs.image));
    writes.extend(inputs.tags.iter().map(|name| (stores.images, name.as_str())));
    thread::scope(|scope| {
        let reads: Vec<_> =
            reads.into_iter().map(|name| (name, "read", scope.spawn(move || stores.images.check_read(name)))).collect();
        let writes: Vec<_> = writes
            .into_iter()
            .map(|(store, name)| (name, "read/write", scope.spawn(move || store.check_write(name))))
            .collect();
        for (name, access, check) in reads.into_iter().chain(writes) {
            let checked = check.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            checked.map_err(|source| AnalyzeError::Access { access, name: name.to_owned(), source })?;
        }
        Ok(())
    })
}

/// The run image, if there is one. That there is none is not an error here: the exporter will say so. That there is one
/// for other machines than the one that was asked for is.
fn use_run_image(
    name: &str,
    opened: Result<Image, StoreError>,
    build_for: &BuildTarget,
) -> Result<Option<Image>, AnalyzeError> {
    match opened {
        Ok(image) => Ok(Some(image)),
        Err(source @ (StoreError::NoChild { .. } | StoreError::OtherPlatform { .. }))
            if build_for.asked().is_some() =>
        {
            Err(AnalyzeError::OtherTarget(source))
        }
        Err(error) if error.counts_as_absent() => {
            tell_absent(name, &error);
            Ok(None)
        }
        Err(source) => Err(AnalyzeError::Open { what: "run image", source }),
    }
}

/// The previous image, if there is one of which something can be used.
fn use_previous(
    name: &str,
    opened: Result<Image, StoreError>,
    images: &dyn Store,
) -> Result<Option<Image>, AnalyzeError> {
    let ignore = |reason: &dyn std::fmt::Display| {
        warn!("Ignoring image {name:?} because it was corrupt: {reason}");
        Ok(None)
    };
    let image = match opened {
        Ok(image) => image,
        Err(error) if error.counts_as_absent() => {
            tell_absent(name, &error);
            return Ok(None);
        }
        Err(StoreError::Corrupt { reason, .. }) => return ignore(&reason),
        Err(source) => return Err(AnalyzeError::Open { what: "previous image", source }),
    };
    match missing_blob(&image, images) {
        Ok(None) => Ok(Some(image)),
        Ok(Some(layer)) => ignore(&format!("layer {layer} is missing")),
        Err(error) if error.counts_as_absent() => {
            tell_absent(name, &error);
            Ok(None)
        }
        Err(source) => Err(AnalyzeError::Open { what: "previous image", source }),
    }
}

/// The first layer whose blob has gone from its store. One that its store never had (a layout without its base image's
/// blobs) is not missed.
fn missing_blob(image: &Image, images: &dyn Store) -> Result<Option<Digest>, StoreError> {
    /// Requests that are under way at once.
    const AT_ONCE: usize = 8;
    let expected: Vec<&Layer> = image.layers.iter().filter(|layer| !matches!(layer.source, Source::Absent)).collect();
    for some in expected.chunks(AT_ONCE) {
        let found: Vec<_> = thread::scope(|scope| {
            let asked: Vec<_> = some.iter().map(|layer| scope.spawn(|| images.has_blob(layer))).collect();
            asked
                .into_iter()
                .map(|asked| asked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        for (layer, found) in some.iter().zip(found) {
            if !found? {
                return Ok(Some(layer.diff_id));
            }
        }
    }
    Ok(None)
}

/// Missing, refused and "not for this machine" are not to be confused.
fn tell_absent(name: &str, error: &StoreError) {
    match error {
        StoreError::NotFound { .. } => info!("Image with name {name:?} not found"),
        other => warn!("Not using image {name:?}: {}", chain(other)),
    }
}

/// Whether layers of the previous image can be used in an image on top of this run image. Programs of another
/// architecture would not run in it.
fn is_of_same_machine(previous: &Image, name: &str, run_image: Option<&Image>) -> bool {
    let Some(run_image) = run_image else { return true };
    if target::fits(&previous.config, &run_image.config) {
        return true;
    }
    let (old, new) = (target::platform(&previous.config), target::platform(&run_image.config));
    warn!(
        "Ignoring image {name:?} because it is for {} and the run image for {}",
        describe_platform(&old),
        describe_platform(&new)
    );
    false
}

/// What the label says; empty without a label, `None` if it cannot be read: then nothing of the image is used.
fn read_metadata(image: &Image, name: &str) -> Option<LifecycleMetadata> {
    debug!("Found image with identifier {:?}", image.identifier);
    let label = image.config.label(label::LIFECYCLE_METADATA).unwrap_or_default();
    if label.is_empty() {
        return Some(LifecycleMetadata::default());
    }
    match text::from_json(label) {
        Ok(metadata) => Some(metadata),
        Err(error) => {
            let label = label::LIFECYCLE_METADATA;
            warn!("Ignoring image {name:?} because its label {label} cannot be read: {}", chain(&error));
            None
        }
    }
}

/// Unpacks the previous image's SBOM layer beneath `<layers>/sbom/launch`, and nowhere else. One that would write
/// elsewhere (made with another layers directory, or hostile) is left out.
fn restore_sbom(image: &Image, sha: &str, layers: &Path, images: &dyn Store) -> Result<(), AnalyzeError> {
    info!("Restoring data for SBOM from previous image");
    debug!("Retrieving previous image SBOM layer for {sha:?}");
    let layer = sha.parse().ok().and_then(|diff_id| image.layer(&diff_id));
    let layer = layer.ok_or_else(|| AnalyzeError::NoSbom(sha.to_owned()))?;
    let diff_id = layer.diff_id;
    let blob = images.read_blob(layer).map_err(|source| AnalyzeError::ReadSbom { layer: diff_id, source })?;
    match extract(blob, &diff_id, layers, Path::new("sbom/launch")) {
        Ok(()) => Ok(()),
        Err(source @ (ExtractError::Read(_) | ExtractError::Write(_))) => {
            Err(AnalyzeError::RestoreSbom { layer: diff_id, source })
        }
        Err(error @ (ExtractError::Digest { .. } | ExtractError::Outside { .. } | ExtractError::Refused { .. })) => {
            warn!("Skipping restore for SBOM of the previous image: {}", chain(&error));
            Ok(())
        }
    }
}

fn describe_run_image(name: &str, image: Option<&Image>, inputs: &Inputs) -> Result<AnalyzedRunImage, AnalyzeError> {
    let mut described = AnalyzedRunImage::default();
    if let Some(image) = image {
        debug!("Found image with identifier {:?}", image.identifier);
        described.reference.clone_from(&image.identifier);
    }
    if inputs.api.has_targets() {
        described.image = name.to_owned();
        described.target = Some(match image {
            None => inputs.build_for.target(),
            Some(image) => {
                target::of_image(image).map_err(|source| AnalyzeError::Target { name: name.to_owned(), source })?
            }
        });
    }
    Ok(described)
}

#[cfg(test)]
mod tests;

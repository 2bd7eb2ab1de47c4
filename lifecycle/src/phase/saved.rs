//! What a phase tells of an image that it has saved.

use lifecycle_launch::console::chain;
use log::{debug, info, warn};
use platform_spec::index_report::IndexEntry;
use platform_spec::report::ImageReport;
use thiserror::Error;

use crate::image::index::WrittenIndex;
use crate::image::{IndexError, Pushed, StoreError};

/// Each name, and what became of it.
pub(super) type Names = Vec<(String, Result<(), NameError>)>;

/// Why a name was not written.
#[derive(Debug, Error)]
pub enum NameError {
    /// The image was not put there.
    #[error(transparent)]
    Image(#[from] StoreError),
    /// The image was, its index was not.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// Tells people what became of each of the `names`, and gives `[image]` of `report.toml`. `layout`: the image is in an OCI
/// layout, so that its digest is no registry's. The error has the names that could not be written; the others stand.
pub(super) fn tell(pushed: &Pushed, names: Names, layout: bool) -> Result<ImageReport, Vec<(String, NameError)>> {
    let mut image = ImageReport::default();
    let mut failures = Vec::new();
    info!("*** Images ({}):", if layout { pushed.identifier.clone() } else { pushed.digest.to_string() });
    for (name, result) in names {
        match result {
            Ok(()) => {
                info!("      {name}");
                image.tags.push(name);
            }
            Err(error) => {
                info!("      {name} - {}", chain(&error));
                failures.push((name, error));
            }
        }
    }
    if !failures.is_empty() {
        return Err(failures);
    }
    if !layout {
        debug!("\n*** Digest: {}", pushed.digest);
        image.digest = Some(pushed.digest.to_string());
    }
    debug!("\n*** Manifest Size: {}", pushed.manifest_size);
    image.manifest_size = Some(pushed.manifest_size);
    Ok(image)
}

/// Tells people which index stands under a name, and what it holds; gives its entry in `index-report.toml`.
pub(super) fn tell_index(index: &WrittenIndex) -> IndexEntry {
    let entry = index.entry();
    let name = &index.name;
    info!("*** Index of {name} ({}):", index.digest);
    entry.images.iter().for_each(|image| info!("      {} {}", image.platform, image.digest));
    for platform in &index.overridden {
        warn!("{name}: another build has announced an image for {platform} meanwhile, which is in the index instead");
    }
    entry
}

/// Names that could not be written, for an error's text.
pub(super) fn describe_failures(failures: &[(String, NameError)]) -> String {
    let one = |(name, error): &(String, NameError)| format!("{name}: {}", chain(error));
    failures.iter().map(one).collect::<Vec<_>>().join("; ")
}

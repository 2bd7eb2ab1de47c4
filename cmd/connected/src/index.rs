//! The indexer's part.

use lifecycle::phase::index::{self, JoinError};
use lifecycle_cmd::{Failure, Inputs};

use crate::connect::Connection;
use crate::write_index_report;

/// The images to join, by their digests: those that reports name, then those that were named. Known before the first
/// credential is needed.
pub fn reported(inputs: &Inputs) -> Result<Vec<String>, JoinError> {
    let reported = inputs.reports.iter().map(|path| index::reference(path));
    reported.chain(inputs.images.iter().cloned().map(Ok)).collect()
}

/// Joins images in one index, and writes `index-report.toml`.
pub fn index(inputs: &Inputs, images: Vec<String>, connection: &Connection) -> Result<(), Failure> {
    let phase = index::Inputs {
        name: inputs.image.clone(),
        tags: inputs.tags.clone(),
        images,
        only: inputs.target_arch.clone(),
    };
    let report = index::run(&phase, connection.registry.as_ref())?;
    Ok(write_index_report(inputs, &report).map_err(JoinError::Report)?)
}

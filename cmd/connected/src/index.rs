//! The indexer's part.

use lifecycle::phase::index::{self, JoinError};
use lifecycle::privilege::User;
use lifecycle_cmd::{Failure, Inputs};

use crate::connect::connect;
use crate::write_index_report;

/// The images to join, by their digests: those that reports name, then those that were named. Known before the first
/// credential is needed.
fn reported(inputs: &Inputs) -> Result<Vec<String>, JoinError> {
    let reported = inputs.reports.iter().map(|path| index::reference(path));
    reported.chain(inputs.images.iter().cloned().map(Ok)).collect()
}

/// Joins images in one index, and writes `index-report.toml`.
pub fn index(inputs: &Inputs) -> Result<(), Failure> {
    let images = reported(inputs)?;
    // It is not a phase of a build: where no build image's user is named, it stays who it is.
    let user = if inputs.user == (User { uid: 0, gid: 0 }) { User::current() } else { inputs.user };
    let connection = connect(&Inputs { user, ..inputs.clone() }, images.clone(), [])?;
    let phase = index::Inputs {
        name: inputs.image.clone(),
        tags: inputs.tags.clone(),
        images,
        only: inputs.target_arch.clone(),
    };
    let report = index::run(&phase, connection.registry.as_ref())?;
    Ok(write_index_report(inputs, &report).map_err(JoinError::Report)?)
}

//! The rebaser's part.

use std::collections::BTreeSet;

use lifecycle::file::write_shared;
use lifecycle::image::Reference;
use lifecycle::phase::rebase::{self, RebaseError};
use lifecycle::target::BuildTarget;
use lifecycle_cmd::{Failure, Inputs};
use lifecycle_remote::open;
use platform_spec::text::to_toml;

use crate::connect::{ConnectError, access, drop_privileges};

/// Rebases an app image, and writes `report.toml`.
///
/// Only the app image says which run images there are, and credentials for them have to be read before the process becomes
/// the user. So where the platform names no run image, the app image is opened before that.
pub fn rebase(inputs: &Inputs) -> Result<(), Failure> {
    let phase = rebase::Inputs {
        api: inputs.api,
        image: inputs.image.clone(),
        tags: inputs.tags.clone(),
        previous_image: inputs.previous_image.clone(),
        run_image: inputs.run_image.clone(),
        force: inputs.force,
        build_for: BuildTarget::new(inputs.target_arch.clone()),
    };
    log::debug!("Ensuring privileges...");
    let named = [&inputs.previous_image, &inputs.run_image].into_iter().flatten();
    let mut images: Vec<String> = std::iter::once(&inputs.image).chain(&inputs.tags).chain(named).cloned().collect();
    let mut credentials = access(inputs, images.clone()).map_err(ConnectError::from)?;
    let mut app = None;
    if inputs.run_image.is_none() {
        let opened = rebase::open(&phase, open(&credentials).as_ref())?;
        let run_images = opened.run_images(inputs.api, None)?;
        let more: Vec<String> = run_images.names().map(str::to_owned).collect();
        if !registries(&images).is_superset(&registries(&more)) {
            images.extend(more);
            credentials = access(inputs, images).map_err(ConnectError::from)?;
        }
        app = Some(opened);
    }
    let connection = drop_privileges(inputs, credentials, [])?;
    let store = connection.images.as_ref();
    let app = match app {
        Some(app) => app,
        None => rebase::open(&phase, store)?,
    };
    let run_images = app.run_images(inputs.api, inputs.run_image.as_deref())?;
    let report = rebase::run(&phase, app, &run_images, store)?;
    write_shared(&inputs.report, &inputs.layers, to_toml(&report).as_bytes()).map_err(RebaseError::Report)?;
    Ok(())
}

/// The registries of images; text that is no name has none.
fn registries(images: &[String]) -> BTreeSet<String> {
    images.iter().filter_map(|name| Reference::parse(name).ok()).map(|reference| reference.registry).collect()
}

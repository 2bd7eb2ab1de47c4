//! The rebaser's part.

use std::collections::BTreeSet;

use lifecycle::file::write_shared;
use lifecycle::image::{Reference, Store};
use lifecycle::phase::rebase::index::Source;
use lifecycle::phase::rebase::{self, App, RebaseError};
use lifecycle::target::BuildTarget;
use lifecycle_cmd::{Failure, Inputs};
use lifecycle_remote::open;
use platform_spec::input::IndexMode;
use platform_spec::text::to_toml;

use crate::connect::{ConnectError, access, drop_privileges};
use crate::write_index_report;

/// Rebases an app image, or all images of an index, and writes `report.toml` and `index-report.toml`.
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
    let named = [&inputs.previous_image, &inputs.run_image].into_iter().flatten().map(String::as_str);
    let mut images: Vec<String> = inputs.names().chain(named).map(str::to_owned).collect();
    let mut credentials = access(inputs, images.clone()).map_err(ConnectError::from)?;
    let mut app = None;
    if inputs.run_image.is_none() {
        let opened = Opened::new(inputs, &phase, open(&credentials).as_ref())?;
        let mut more = Vec::new();
        for app in opened.apps() {
            more.extend(app.run_images(inputs.api, None)?.names().map(str::to_owned));
        }
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
        None => Opened::new(inputs, &phase, store)?,
    };
    let (report, indexes) = match app {
        Opened::Image(app) => {
            let run_images = app.run_images(inputs.api, inputs.run_image.as_deref())?;
            (rebase::run(&phase, *app, &run_images, store)?, None)
        }
        Opened::Index(source) => {
            let (report, indexes) = rebase::index::run(&phase, &source, store)?;
            (report, Some(indexes))
        }
    };
    write_shared(&inputs.report, &inputs.layers, to_toml(&report).as_bytes()).map_err(RebaseError::Report)?;
    match &indexes {
        Some(indexes) => Ok(write_index_report(inputs, indexes).map_err(RebaseError::IndexReport)?),
        None => Ok(()),
    }
}

/// What is to be rebased.
enum Opened {
    Image(Box<App>),
    Index(Box<Source>),
}

impl Opened {
    fn new(inputs: &Inputs, phase: &rebase::Inputs, store: &dyn Store) -> Result<Self, RebaseError> {
        match inputs.index {
            IndexMode::Off => Ok(Self::Image(Box::new(rebase::open(phase, store)?))),
            // The rebaser has no `replace`: the inputs say so.
            IndexMode::Merge | IndexMode::Replace => Ok(Self::Index(Box::new(rebase::index::open(phase, store)?))),
        }
    }

    fn apps(&self) -> &[App] {
        match self {
            Self::Image(app) => std::slice::from_ref(app),
            Self::Index(source) => source.apps(),
        }
    }
}

/// The registries of images; text that is no name has none.
fn registries(images: &[String]) -> BTreeSet<String> {
    images.iter().filter_map(|name| Reference::parse(name).ok()).map(|reference| reference.registry).collect()
}

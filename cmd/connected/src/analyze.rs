//! The analyzer's part.

use lifecycle::file::write_shared;
use lifecycle::phase::analyze::{self, AnalyzeError, Stores};
use lifecycle::run_image::{RunImageError, RunImageInput};
use lifecycle::target::BuildTarget;
use lifecycle_cmd::{Failure, Inputs};
use platform_spec::analyzed::Analyzed;
use platform_spec::text::to_toml;

use crate::connect::Connection;

/// The run image, or what there is to choose from: known before the first credential is needed.
pub fn run_image(inputs: &Inputs) -> Result<RunImageInput, RunImageError> {
    RunImageInput::resolve(inputs.api, inputs.run_image.as_deref(), &inputs.run, &inputs.stack)
}

/// Reads the previous image and the run image, and writes `analyzed.toml`.
pub fn analyze(inputs: &Inputs, run_image: RunImageInput, connection: &Connection) -> Result<Analyzed, Failure> {
    let phase = analyze::Inputs {
        api: inputs.api,
        image: inputs.image.clone(),
        tags: inputs.tags.clone(),
        previous_image: inputs.previous_image.clone().unwrap_or_else(|| inputs.image.clone()),
        run_image,
        cache_image: inputs.cache_image.clone(),
        layers: inputs.layers.clone(),
        skip_layers: inputs.skip_layers,
        build_for: BuildTarget::new(inputs.target_arch.clone()),
    };
    let stores = Stores { images: connection.images.as_ref(), caches: connection.registry.as_ref() };
    let analyzed = analyze::run(&phase, stores)?;
    write_shared(&inputs.analyzed, &inputs.layers, to_toml(&analyzed).as_bytes()).map_err(AnalyzeError::Write)?;
    Ok(analyzed)
}

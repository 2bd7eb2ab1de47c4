//! The restorer's part.

use lifecycle::cache::Machines;
use lifecycle::file::{LoadError, load_shared, write_shared};
use lifecycle::phase::PhaseError;
use lifecycle::phase::programs::ProgramCheck;
use lifecycle::phase::restore::{self, RestoreError};
use lifecycle::run_image::{self, RefreshError, RunImageError};
use lifecycle::target::BuildTarget;
use lifecycle_cmd::{Failure, Inputs, Phase};
use lifecycle_launch::console::chain;
use platform_spec::analyzed::{Analyzed, ImageIdentifier};
use platform_spec::exit;
use platform_spec::group::Group;
use platform_spec::label::LifecycleMetadata;
use platform_spec::text::to_toml;
use thiserror::Error;

use crate::connect::{self, Connection};

/// Why what the analyzer recorded could not be renewed.
#[derive(Debug, Error)]
pub enum RefreshAnalyzedError {
    /// The run image would have to be extended.
    #[error(
        "the run image needs to be extended (analyzed.toml: run-image.extend), and this lifecycle has no extender yet"
    )]
    NeedsExtender,
    /// The build image.
    #[error("pull builder image {name}")]
    BuildImage {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        cause: RefreshError,
    },
    /// The run image.
    #[error("get run image")]
    RunImage(#[source] RefreshError),
}

impl PhaseError for RefreshAnalyzedError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::NeedsExtender | Self::BuildImage { .. } | Self::RunImage(_) => exit::GENERIC,
        }
    }
}

/// Reads `analyzed.toml`. A missing one is as if nothing had been analyzed; one that cannot be used is `None`, with a
/// warning.
pub fn read_analyzed(inputs: &Inputs) -> Option<Analyzed> {
    match load_shared(&inputs.analyzed, &inputs.layers) {
        Ok(analyzed) => Some(analyzed),
        Err(error) if error.is_missing() => {
            log::warn!("No analyzed metadata found at path {:?}", inputs.analyzed);
            Some(Analyzed::default())
        }
        Err(error @ (LoadError::Read(_) | LoadError::Parse { .. })) => {
            log::warn!("Not using analyzed data, usable file not found: {}", chain(&error));
            None
        }
    }
}

/// Renews what `analyzed.toml` says of the build image and the run image, and writes it.
pub fn refresh(
    inputs: &Inputs,
    mut analyzed: Analyzed,
    group: &Group,
    connection: &Connection,
) -> Result<Analyzed, Failure> {
    let build_for = BuildTarget::resolve(inputs.target_arch.clone(), &analyzed)?.of_group(group)?;
    analyzed.target_arch = build_for.recorded();
    if analyzed.run_image.as_ref().is_some_and(|image| image.extend) {
        return Err(RefreshAnalyzedError::NeedsExtender.into());
    }
    if let Some(name) = inputs.build_image.as_ref().filter(|_| inputs.api.has_extensions()) {
        let reference = run_image::identify(name, &build_for.build_target(), connection.registry.as_ref())
            .map_err(|cause| RefreshAnalyzedError::BuildImage { name: name.clone(), cause })?;
        analyzed.build_image = Some(ImageIdentifier { reference });
    }
    if let Some(run_image) = &mut analyzed.run_image {
        if inputs.api.restores_launch_metadata_from_cache() {
            let known = run_image::read_run(&inputs.run)?;
            run_image::check_still_readable(&run_image.image, &known, connection.images.as_ref())
                .map_err(|error: RunImageError| error)?;
        }
        let unknown = run_image.target.as_ref().is_none_or(|target| target.os.is_empty());
        if inputs.api.has_extensions() && !group.group_extensions.is_empty() && unknown {
            log::debug!("Updating run image info in analyzed metadata...");
            *run_image = run_image::refresh(inputs.api, run_image, &build_for, connection.images.as_ref())
                .map_err(RefreshAnalyzedError::RunImage)?;
        }
    }
    write_shared(&inputs.analyzed, &inputs.layers, to_toml(&analyzed).as_bytes())
        .map_err(|error| Failure::of(Phase::Restore, error))?;
    Ok(analyzed)
}

/// Restores layers, metadata, stores and SBOM files.
pub fn restore(
    inputs: &Inputs,
    group: &Group,
    analyzed: Option<&Analyzed>,
    connection: &Connection,
) -> Result<(), Failure> {
    let nothing = Analyzed::default();
    let build_for = BuildTarget::resolve(inputs.target_arch.clone(), analyzed.unwrap_or(&nothing))?.of_group(group)?;
    let target = analyzed.and_then(|analyzed| build_for.recorded_or_asked(analyzed));
    let target = target.unwrap_or_else(|| build_for.target());
    let cache = connect::cache(inputs, connection, &target, &build_for)?;
    let cache = cache.map(|cache| cache.only_for(&Machines::of(&build_for, target.platform())));
    let pipeline = connect::pipeline();
    let metadata = analyzed.map_or_else(LifecycleMetadata::default, |analyzed| analyzed.metadata.clone());
    let phase = restore::Inputs {
        api: inputs.api,
        buildpacks: group.group.clone(),
        layers_dir: inputs.layers.clone(),
        metadata,
        skip_layers: inputs.skip_layers,
        programs: ProgramCheck::new(inputs.arch_check, &build_for, &target.platform(), &inputs.arch_check_ignore),
    };
    restore::run(&phase, cache.as_ref(), &pipeline).map_err(|error: RestoreError| error.into())
}

//! What the image says: labels, environment, working directory, entrypoint, and its layers in order.

use log::{debug, info};
use platform_spec::label::{
    BUILD_METADATA, BuildMetadata, BuildpackLayer, BuildpackLayers, EXEC_ENV, LIFECYCLE_METADATA, LayerSha,
    LifecycleMetadata, PROJECT_METADATA, RunImageMetadata, StackMetadata,
};
use platform_spec::metadata::Metadata;

use super::gather::{Gathered, Kind};
use super::pack::Made;
use super::{Bases, ExportError, Inputs};
use crate::image::{Config, Draft, Image};

const LAUNCHER: &str = "/cnb/lifecycle/launcher";
const PROCESS_DIR: &str = "/cnb/process";
const PATH: &str = "/cnb/process:/cnb/lifecycle";

/// The image's entrypoint: the default process, or the launcher.
pub(super) fn entrypoint(metadata: &Metadata, wanted: Option<&str>) -> Result<String, ExportError> {
    let kind = match wanted.filter(|wanted| !wanted.is_empty()) {
        Some(wanted) if metadata.processes.iter().any(|process| process.kind.as_str() == wanted) => wanted,
        Some(wanted) => return Err(ExportError::NoSuchProcess(wanted.to_owned())),
        None => metadata.buildpack_default_process_type.as_str(),
    };
    if kind.is_empty() {
        return Ok(LAUNCHER.to_owned());
    }
    Ok(format!("{PROCESS_DIR}/{kind}"))
}

/// Puts the image together.
pub(super) fn assemble(
    inputs: &Inputs,
    bases: &Bases,
    metadata: &Metadata,
    entrypoint: &str,
    gathered: &Gathered,
    made: &[Option<Made>],
) -> Result<Image, ExportError> {
    let top_layer = bases.run.layers.last().ok_or_else(|| ExportError::NoLayers(bases.run.identifier.clone()))?;
    let mut labels = LifecycleMetadata {
        run_image: run_image_metadata(inputs, &bases.run.identifier, top_layer.diff_id.to_string()),
        stack: Some(StackMetadata { run_image: inputs.run_image.clone() }),
        ..LifecycleMetadata::default()
    };
    let mut buildpacks: Vec<BuildpackLayers> = gathered
        .buildpacks
        .iter()
        .map(|buildpack| BuildpackLayers {
            key: buildpack.id.clone(),
            version: buildpack.version.clone(),
            store: buildpack.store.clone(),
            ..BuildpackLayers::default()
        })
        .collect();
    let mut draft = Draft::based_on(bases.run.clone()).keeping_history(inputs.api.keeps_history());
    if let Some(seconds) = inputs.created {
        draft = draft.created(seconds);
    }
    let mut app = Vec::new();
    let mut reused_app = 0;
    for (part, made) in gathered.parts.iter().zip(made) {
        let Some(Made { diff_id, app: Some((layer, reused)), .. }) = made else { continue };
        let sha = LayerSha { sha: diff_id.to_string() };
        if matches!(part.kind, Kind::Launcher) {
            tell_app(app.len(), reused_app);
        }
        if !matches!(part.kind, Kind::App) {
            info!("{} layer '{}'", if *reused { "Reusing" } else { "Adding" }, part.id);
        }
        debug!("Layer '{}' SHA: {diff_id}", part.id);
        match &part.kind {
            Kind::Buildpack { buildpack, layer, types, data } => {
                let entry = BuildpackLayer {
                    sha: sha.sha,
                    data: data.clone(),
                    build: types.build,
                    launch: types.launch,
                    cache: types.cache,
                };
                if let Some(buildpack) = buildpacks.get_mut(*buildpack) {
                    buildpack.layers.insert(layer.clone(), entry);
                }
            }
            Kind::Sbom => labels.sbom = Some(sha),
            Kind::App => {
                app.push(sha);
                reused_app += usize::from(*reused);
            }
            Kind::Launcher => labels.launcher = sha,
            Kind::Config => labels.config = sha,
            Kind::ProcessTypes => labels.process_types = sha,
            Kind::CacheSbom => {}
        }
        draft = draft.with_layer(layer.clone(), part.created_by.as_str());
    }
    labels.app = (!app.is_empty()).then_some(app);
    labels.buildpacks = (!buildpacks.is_empty()).then_some(buildpacks);
    let project = inputs
        .project_metadata
        .to_json()
        .map_err(|cause| ExportError::NotJson { id: "project-metadata.toml".to_owned(), cause })?;
    let image = draft.edit(|config| edit(config, inputs, metadata, &labels, &project, entrypoint)).finish()?;
    Ok(image)
}

fn tell_app(all: usize, reused: usize) {
    if reused > 0 {
        info!("Reused {reused}/{all} app layer(s)");
    }
    if reused < all {
        info!("Added {}/{all} app layer(s)", all - reused);
    }
}

fn run_image_metadata(inputs: &Inputs, reference: &str, top_layer: String) -> RunImageMetadata {
    let mut run_image = RunImageMetadata { top_layer, reference: reference.to_owned(), ..RunImageMetadata::default() };
    if inputs.api.has_run_toml() {
        run_image.image.clone_from(&inputs.run_image.image);
        run_image.mirrors.clone_from(&inputs.run_image.mirrors);
    }
    run_image
}

fn edit(
    config: &mut Config,
    inputs: &Inputs,
    metadata: &Metadata,
    labels: &LifecycleMetadata,
    project: &str,
    entrypoint: &str,
) {
    let label = |config: &mut Config, name: &str, value: &str| {
        info!("Adding label '{name}'");
        config.set_label(name, value);
    };
    label(config, LIFECYCLE_METADATA, &platform_spec::text::to_go_json(labels));
    let build = BuildMetadata { metadata, launcher: &inputs.launcher_metadata };
    label(config, BUILD_METADATA, &build.to_json(inputs.api));
    label(config, PROJECT_METADATA, project);
    for extra in &metadata.labels {
        label(config, &extra.key, &extra.value);
    }
    if inputs.api.has_exec_env() && !inputs.exec_env.is_empty() {
        label(config, EXEC_ENV, &inputs.exec_env);
    }
    config.set_env("CNB_LAYERS_DIR", &inputs.layers_dir.to_string_lossy());
    config.set_env("CNB_APP_DIR", &inputs.app_dir.to_string_lossy());
    config.set_env("CNB_PLATFORM_API", &inputs.api.to_string());
    config.set_env("CNB_DEPRECATION_MODE", "quiet");
    let path = format!("{PATH}:{}", config.env_var("PATH").unwrap_or_default());
    config.set_env("PATH", &path);
    config.set_working_dir(&inputs.app_dir.to_string_lossy());
    match entrypoint.strip_prefix(PROCESS_DIR) {
        Some(kind) => info!("Setting default process type '{}'", kind.trim_start_matches('/')),
        None => info!("no default process type"),
    }
    config.set_entrypoint(&[entrypoint]);
    config.set_cmd(&[]);
}

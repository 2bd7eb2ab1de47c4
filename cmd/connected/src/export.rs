//! The exporter's part.

use std::path::Path;

use lifecycle::file::{PathError, load_shared, write_shared};
use lifecycle::layer::Owner;
use lifecycle::phase::export::{self, ExportError};
use lifecycle::run_image;
use lifecycle::target::BuildTarget;
use lifecycle_cmd::{Failure, Inputs, VERSION};
use platform_spec::analyzed::Analyzed;
use platform_spec::group::Group;
use platform_spec::index_report::IndexReport;
use platform_spec::input::IndexMode;
use platform_spec::label::Launcher;
use platform_spec::project_metadata::ProjectMetadata;
use platform_spec::text::to_toml;

use crate::ReadError;
use crate::connect::{self, Connection};

/// Reads `analyzed.toml`, and checks that there is a run image to export to.
pub fn require_analyzed(inputs: &Inputs) -> Result<Analyzed, Failure> {
    let analyzed = load_shared(&inputs.analyzed, &inputs.layers).map_err(ReadError::Analyzed)?;
    export::check(&analyzed)?;
    Ok(analyzed)
}

/// Exports the app image and the cache, and writes `report.toml`.
pub fn export(inputs: &Inputs, group: Group, analyzed: Analyzed, connection: &Connection) -> Result<(), Failure> {
    let project: Option<ProjectMetadata> = match load_shared(&inputs.project_metadata, &inputs.layers) {
        Err(error) if error.is_missing() => None,
        read => Some(read.map_err(ReadError::Project)?),
    };
    if project.is_none() {
        log::debug!(
            "No project metadata found at path {:?}, project metadata will not be exported",
            inputs.project_metadata
        );
    }
    let has_extensions = !group.group_extensions.is_empty();
    let run_image = run_image::for_export(inputs.api, &inputs.run, &inputs.stack, &analyzed, has_extensions)?;
    let build_for = BuildTarget::resolve(inputs.target_arch.clone(), &analyzed)?.of_group(&group)?;
    if inputs.index != IndexMode::Off {
        // The index is told for which machine the image is, and so that has to be true.
        BuildTarget::resolve(Some(build_for.platform().clone()), &analyzed)?;
    }
    let found = build_for.recorded_or_asked(&analyzed).unwrap_or_else(|| build_for.target());
    let cache = connect::cache(inputs, connection, &found, &build_for)?;
    let pipeline = connect::pipeline();
    let phase = export::Inputs {
        api: inputs.api,
        buildpacks: group.group,
        analyzed,
        app_dir: inputs.app.clone(),
        layers_dir: inputs.layers.clone(),
        owner: Owner { uid: inputs.user.uid, gid: inputs.user.gid },
        launcher: inputs.launcher.clone(),
        launcher_sbom_dir: inputs.launcher_sbom.clone(),
        launcher_metadata: Launcher { version: VERSION.to_owned(), ..Launcher::default() },
        default_process_type: inputs.process_type.clone(),
        exec_env: inputs.exec_env.clone(),
        run_image,
        project_metadata: project.unwrap_or_default(),
        output: inputs.image.clone(),
        additional_tags: inputs.tags.clone(),
        created: inputs.source_date_epoch,
        layout: inputs.layout.is_some(),
        parallel: inputs.parallel,
        build_for,
        index: inputs.index,
        arch_check: inputs.arch_check,
        arch_check_ignore: inputs.arch_check_ignore.clone(),
    };
    let exported = export::run(&phase, connection.images.as_ref(), cache, &pipeline)?;
    write_shared(&inputs.report, &inputs.layers, to_toml(&exported.report).as_bytes()).map_err(ExportError::Report)?;
    match &exported.indexes {
        Some(indexes) => Ok(write_index_report(inputs, indexes).map_err(ExportError::IndexReport)?),
        None => Ok(()),
    }
}

/// Writes `index-report.toml`. At the usual place it is left out where its directory is missing; a place that was asked
/// for has to be there.
pub fn write_index_report(inputs: &Inputs, report: &IndexReport) -> Result<(), PathError> {
    let path = &inputs.index_report.path;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Err(source) = directory.metadata() {
        if inputs.index_report.given {
            return Err(PathError { operation: "find the directory of", path: path.clone(), source });
        }
        log::debug!("No index report is written: there is no directory {}", directory.display());
        return Ok(());
    }
    write_shared(path, &inputs.layers, to_toml(report).as_bytes())
}

//! What one buildpack left in its layers directory when its `bin/build` ended (buildpack.md, *Build*).

use std::path::PathBuf;

use platform_spec::build::{Build, Unmet};
use platform_spec::buildpack_plan::BuildpackPlan;
use platform_spec::launch::{BomBuildpack, BomEntry, Label, Launch, Slice};
use platform_spec::layer::Types;
use platform_spec::metadata::Process;
use platform_spec::name::LayerName;
use platform_spec::sbom::SbomFormat;
use thiserror::Error;

use super::processes::{self, ProcessError};
use crate::beneath::{BeneathError, Directory, Kind};
use crate::buildpack::Module;
use crate::file::PathError;
use crate::layers_dir::{self, LayersDirError, Sbom, SbomFile};

/// What one buildpack left.
#[derive(Debug, Default)]
pub(super) struct Left {
    pub labels: Vec<Label>,
    pub processes: Vec<Process>,
    pub slices: Vec<Slice>,
    /// Legacy bill of materials of the app, and of the build environment.
    pub launch_bom: Vec<BomEntry>,
    pub build_bom: Vec<BomEntry>,
    /// Names of the plan entries that it met.
    pub met: Vec<String>,
    pub sboms: Vec<LayerSbom>,
    /// The directories of its build layers, by name.
    pub build_layers: Vec<PathBuf>,
}

/// An SBOM file, and what it is about.
#[derive(Debug)]
pub(super) struct LayerSbom {
    /// Its name in the buildpack's directory.
    pub name: String,
    pub format: SbomFormat,
    /// `None` for the app or the build environment as a whole.
    pub layer: Option<LayerName>,
    /// Whether it goes to the SBOM of the app; else to that of the build environment.
    pub launch: bool,
    /// Whether it is kept for the next build, too.
    pub cache: bool,
}

/// Why what a buildpack left cannot be used.
#[derive(Debug, Error)]
pub enum LeftError {
    /// A file cannot be read or is not what it should be.
    #[error(transparent)]
    LayersDir(#[from] LayersDirError),
    /// A process cannot be taken.
    #[error("{}: {source}", .path.display())]
    Process {
        /// `launch.toml`.
        path: PathBuf,
        /// Why.
        source: ProcessError,
    },
    /// An entry of the legacy bill of materials has a key that no supported Buildpack API has any more.
    #[error(
        "{}: bom entry '{name}' has a top level version which is not allowed. \
         The buildpack should instead set metadata.version", .path.display()
    )]
    BomVersion {
        /// `launch.toml` or `build.toml`.
        path: PathBuf,
        /// The entry.
        name: String,
    },
    /// An `[[unmet]]` without a name.
    #[error("{}: unmet.name is required", .0.display())]
    UnmetName(PathBuf),
    /// An `[[unmet]]` that the buildpack was not asked for.
    #[error("{}: unmet.name '{name}' must match a requested dependency", .path.display())]
    Unmet {
        /// `build.toml`.
        path: PathBuf,
        /// Its name.
        name: String,
    },
    /// An SBOM file whose extension is none of the specification's.
    #[error("unsupported SBOM file format: '{}'", .0.display())]
    SbomFormat(PathBuf),
    /// An SBOM file in a format that the buildpack's `sbom-formats` has not.
    #[error(
        "validating SBOM file '{}' for buildpack: '{buildpack}': undeclared SBOM media type: '{format}'",
        .path.display()
    )]
    SbomUndeclared {
        /// The file.
        path: PathBuf,
        /// `<id>@<version>`.
        buildpack: String,
        /// Its format.
        format: SbomFormat,
    },
}

impl From<PathError> for LeftError {
    fn from(error: PathError) -> Self {
        Self::LayersDir(error.into())
    }
}

impl From<BeneathError> for LeftError {
    fn from(error: BeneathError) -> Self {
        Self::LayersDir(error.into())
    }
}

/// Reads what the buildpack left in `directory`, its layers directory, after it was given `plan`. Directories of layers
/// without a type are renamed to `<layer>.ignore`, so that no later buildpack depends on them.
pub(super) fn read(directory: &Directory, module: &Module, plan: &BuildpackPlan) -> Result<Left, LeftError> {
    let layers = read_layers(directory)?;
    set_aside_ignored(directory, &layers)?;
    let sboms = read_sboms(directory, module, &layers)?;
    let build: Build = layers_dir::toml_if_there(directory, "build.toml")?.unwrap_or_default();
    let launch: Launch = layers_dir::toml_if_there(directory, "launch.toml")?.unwrap_or_default();
    let has_sboms = !layers_dir::sbom_files(directory)?.is_empty();
    let build_layers =
        layers.iter().filter(|(_, types)| types.build).map(|(name, _)| directory.path().join(name.as_str())).collect();
    let launch_path = directory.path().join("launch.toml");
    Ok(Left {
        met: met(directory, &build.unmet, plan)?,
        build_bom: bom(directory, "build.toml", module, build.bom, has_sboms)?,
        launch_bom: bom(directory, "launch.toml", module, launch.bom, has_sboms)?,
        labels: launch.labels,
        processes: processes::of_buildpack(&module.id, module.api, launch.processes)
            .map_err(|source| LeftError::Process { path: launch_path, source })?,
        slices: launch.slices,
        sboms,
        build_layers,
    })
}

/// The layers that have a TOML, sorted by name, with their types.
fn read_layers(directory: &Directory) -> Result<Vec<(LayerName, Types)>, LeftError> {
    let mut layers = Vec::new();
    for (file, kind) in directory.entries()? {
        let Some(stem) = layers_dir::toml_stem(&file, kind) else { continue };
        let path = directory.path().join(&file);
        let name = layers_dir::layer_name(&path, stem)?;
        // The other files too: what old Buildpack APIs had at the top of `<layer>.toml` is a mistake in all of them.
        let types = layers_dir::read_layer(directory, &name)?.types;
        if layers_dir::RESERVED.contains(&name.as_str()) {
            continue;
        }
        if types != Types::default() {
            match directory.kind(name.as_str())? {
                None | Some(Kind::Directory) => {}
                Some(found) => {
                    let path = directory.path().join(name.as_str());
                    return Err(BeneathError::Refused { path, found, wanted: Kind::Directory }.into());
                }
            }
        }
        layers.push((name, types));
    }
    layers.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(layers)
}

fn set_aside_ignored(directory: &Directory, layers: &[(LayerName, Types)]) -> Result<(), LeftError> {
    for (name, types) in layers {
        if *types != Types::default() || directory.kind(name.as_str())?.is_none() {
            continue;
        }
        let aside = format!("{name}.ignore");
        // What an earlier build set aside is in the way; but a layer that is called so is not ours to remove.
        if !layers.iter().any(|(other, _)| other.as_str() == aside) {
            directory.remove(&aside)?;
        }
        directory.rename(name.as_str(), &aside)?;
    }
    Ok(())
}

/// The names of the entries that were met: all that the buildpack does not say it has not.
fn met(directory: &Directory, unmet: &[Unmet], plan: &BuildpackPlan) -> Result<Vec<String>, LeftError> {
    let path = || directory.path().join("build.toml");
    for Unmet { name } in unmet {
        if name.is_empty() {
            return Err(LeftError::UnmetName(path()));
        }
        if !plan.entries.iter().any(|entry| entry.name == *name) {
            return Err(LeftError::Unmet { path: path(), name: name.clone() });
        }
    }
    let names = plan.entries.iter().map(|entry| &entry.name);
    Ok(names.filter(|name| !unmet.iter().any(|unmet| unmet.name == **name)).cloned().collect())
}

/// Checks a legacy bill of materials and names its buildpack in it.
fn bom(
    directory: &Directory,
    file: &str,
    module: &Module,
    mut entries: Vec<BomEntry>,
    has_sboms: bool,
) -> Result<Vec<BomEntry>, LeftError> {
    // With both, the buildpack's author is on the way.
    if !entries.is_empty() && !has_sboms {
        log::warn!(
            "BOM table is deprecated in this buildpack api version, though it remains supported for backwards \
             compatibility. Buildpack authors should write BOM information to <layer>.sbom.<ext>, launch.sbom.<ext>, \
             or build.sbom.<ext>."
        );
    }
    for entry in &mut entries {
        if !entry.version.is_empty() {
            return Err(LeftError::BomVersion { path: directory.path().join(file), name: entry.name.clone() });
        }
        entry.buildpack = BomBuildpack { id: module.id.to_string(), version: module.version.to_string() };
    }
    Ok(entries)
}

/// The SBOM files of layers that there are, of the app and of the build environment.
fn read_sboms(
    directory: &Directory,
    module: &Module,
    layers: &[(LayerName, Types)],
) -> Result<Vec<LayerSbom>, LeftError> {
    let mut sboms = Vec::new();
    for SbomFile { name, about, format } in layers_dir::sbom_files(directory)? {
        let (layer, launch, cache) = match about {
            Sbom::Launch => (None, true, false),
            Sbom::Build => (None, false, false),
            Sbom::Layer(layer) => match layers.iter().find(|(name, _)| *name == layer) {
                Some((_, types)) => (Some(layer), types.launch, types.cache),
                None => continue,
            },
        };
        let path = directory.path().join(&name);
        let Some(format) = format else { return Err(LeftError::SbomFormat(path)) };
        if !format.is_declared(&module.sbom_formats) {
            return Err(LeftError::SbomUndeclared { path, buildpack: module.to_string(), format });
        }
        directory.file(&name)?;
        sboms.push(LayerSbom { name, format, layer, launch, cache });
    }
    Ok(sboms)
}

#[cfg(test)]
mod tests;

//! The lifecycle's own SBOM files: what the build was made with, and what the launcher in the image is made of.

use std::fs::File;
use std::io;
use std::path::Path;

use log::{debug, warn};

use super::ExportError;
use crate::beneath::Directory;
use crate::file::PathContext;

/// Where a lifecycle and its SBOM files are installed.
pub const LIFECYCLE_DIR: &str = "/cnb/lifecycle";

const SUFFIXES: [&str; 3] = ["sbom.cdx.json", "sbom.spdx.json", "sbom.syft.json"];

/// Copies `lifecycle.sbom.*` to `<layers>/sbom/build` and the launcher's to `<layers>/sbom/launch`. Missing ones only warn.
/// The launcher's are called `<launcher>.sbom.*` and get its ordinary name.
pub(super) fn copy(layers_dir: &Path, launcher_sbom_dir: &Path, launcher: &str) -> Result<(), ExportError> {
    let default = Path::new(LIFECYCLE_DIR);
    let layers = Directory::open(layers_dir)?;
    copy_component(&layers, default, "lifecycle", &["sbom", "build", "buildpacksio_lifecycle"])?;
    let to = ["sbom", "launch", "buildpacksio_lifecycle", "launcher"];
    if launcher_sbom_dir.as_os_str().is_empty() || launcher_sbom_dir == default {
        return copy_component(&layers, default, launcher, &to);
    }
    // A directory that was asked for: every file in it that looks like an SBOM, under its own name.
    let mut names = Vec::new();
    for entry in launcher_sbom_dir.read_dir().path("read directory", launcher_sbom_dir)? {
        let entry = entry.path("read directory", launcher_sbom_dir)?;
        let name = entry.file_name();
        let wanted = name.to_str().is_some_and(|name| SUFFIXES.iter().any(|suffix| name.ends_with(suffix)));
        let path = entry.path();
        if wanted && !path.metadata().path("stat", &path)?.is_dir() {
            names.push(name);
        }
    }
    let to = make(&layers, &to)?;
    for name in names {
        let path = launcher_sbom_dir.join(&name);
        copy_file(&path, &to, &name.to_string_lossy())?;
    }
    Ok(())
}

fn copy_component(layers: &Directory, from: &Path, component: &str, to: &[&str]) -> Result<(), ExportError> {
    for suffix in SUFFIXES {
        let name = format!("{component}.{suffix}");
        let path = from.join(&name);
        if !path.try_exists().path("stat", &path)? {
            warn!("Did not find SBOM {name} in {}", from.display());
            continue;
        }
        let to = make(layers, to)?;
        debug!("Copying SBOM {name} to {}", to.path().join(suffix).display());
        copy_file(&path, &to, suffix)?;
    }
    Ok(())
}

fn make(layers: &Directory, names: &[&str]) -> Result<Directory, ExportError> {
    let (first, rest) = names.split_first().unwrap_or((&"sbom", &[]));
    let mut directory = layers.make_directory(first)?;
    for name in rest {
        directory = directory.make_directory(name)?;
    }
    Ok(directory)
}

fn copy_file(from: &Path, to: &Directory, name: &str) -> Result<(), ExportError> {
    let mut source = File::open(from).path("open", from)?;
    let mut target = to.create(name)?;
    io::copy(&mut source, &mut target).path("copy", from)?;
    Ok(())
}

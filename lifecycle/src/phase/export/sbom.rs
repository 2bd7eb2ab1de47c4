//! The lifecycle's own SBOM files: what the build was made with, and what the launcher in the image is made of.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use log::{debug, warn};

use super::ExportError;
use crate::beneath::Directory;
use crate::file::PathContext;

/// Where a lifecycle and its SBOM files are installed.
pub const LIFECYCLE_DIR: &str = "/cnb/lifecycle";

const SUFFIXES: [&str; 3] = ["sbom.cdx.json", "sbom.spdx.json", "sbom.syft.json"];

/// Copies `lifecycle.sbom.*` to `<layers>/sbom/build` and the launcher's to `<layers>/sbom/launch`. Missing ones only warn.
/// The launcher's are called `<launcher>.sbom.*` and get its ordinary name; those of launchers for other architectures,
/// which a lifecycle has too, stay away.
pub(super) fn copy(layers_dir: &Path, launcher_sbom_dir: &Path, launcher: &str) -> Result<(), ExportError> {
    let default = Path::new(LIFECYCLE_DIR);
    let layers = Directory::open(layers_dir)?;
    copy_component(&layers, default, "lifecycle", &["sbom", "build", "buildpacksio_lifecycle"])?;
    let to = ["sbom", "launch", "buildpacksio_lifecycle", "launcher"];
    if launcher_sbom_dir.as_os_str().is_empty() || launcher_sbom_dir == default {
        return copy_component(&layers, default, launcher, &to);
    }
    // A directory that was asked for: every file in it that looks like an SBOM, under its own name.
    let mut names: BTreeMap<String, PathBuf> = BTreeMap::new();
    for entry in launcher_sbom_dir.read_dir().path("read directory", launcher_sbom_dir)? {
        let entry = entry.path("read directory", launcher_sbom_dir)?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| SUFFIXES.iter().any(|suffix| name.ends_with(suffix))) else {
            continue;
        };
        let path = entry.path();
        if path.metadata().path("stat", &path)?.is_dir() {
            continue;
        }
        let of_chosen = name.strip_prefix(launcher).filter(|rest| rest.starts_with('.'));
        match of_chosen {
            Some(rest) => drop(names.insert(format!("launcher{rest}"), path)),
            None if name.starts_with("launcher-linux-") => {}
            None => drop(names.entry(name.to_owned()).or_insert(path)),
        }
    }
    let to = make(&layers, &to)?;
    for (name, path) in names {
        copy_file(&path, &to, &name)?;
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn of_the_launcher_that_the_image_gets() {
        for (chosen, expected) in [
            ("launcher", &["extra.sbom.cdx.json amd64", "launcher.sbom.cdx.json amd64"][..]),
            ("launcher-linux-arm64", &["extra.sbom.cdx.json amd64", "launcher.sbom.cdx.json arm64"]),
        ] {
            let dir = tempfile::tempdir().expect("a directory");
            let (layers, given) = (dir.path().join("layers"), dir.path().join("given"));
            fs::create_dir(&layers).expect("made");
            fs::create_dir_all(given.join("a.sbom.cdx.json")).expect("made");
            for (name, content) in [
                ("launcher.sbom.cdx.json", "amd64"),
                ("launcher-linux-arm64.sbom.cdx.json", "arm64"),
                ("launcher-linux-s390x.sbom.cdx.json", "s390x"),
                ("extra.sbom.cdx.json", "amd64"),
                ("launcher", "no SBOM"),
            ] {
                fs::write(given.join(name), content).expect("written");
            }
            copy(&layers, &given, chosen).expect("copied");
            let to = layers.join("sbom/launch/buildpacksio_lifecycle/launcher");
            let shown = |entry: io::Result<fs::DirEntry>| {
                let entry = entry.expect("an entry");
                let content = fs::read_to_string(entry.path()).expect("read");
                format!("{} {content}", entry.file_name().to_string_lossy())
            };
            let mut found: Vec<_> = fs::read_dir(to).expect("a directory").map(shown).collect();
            found.sort();
            assert_eq!(found, expected, "{chosen}");
        }
    }
}

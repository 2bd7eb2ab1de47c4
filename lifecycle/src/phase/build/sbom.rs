//! `<layers>/sbom`: the SBOM files of all buildpacks, where exporter and restorer look for them (platform.md).
//!
//! Of `launch` and `cache` layers are made, so the modes of what is written here decide diffIDs: they are those of any
//! new file and directory.

use std::io;

use platform_spec::launch::{BomEntry, legacy_sbom};
use platform_spec::name::BuildpackId;
use rustix::io::Errno;

use super::BuildError;
use super::left::LayerSbom;
use crate::beneath::Directory;
use crate::file::PathContext;

/// Copies the SBOM files of one buildpack from its layers directory.
pub(super) fn copy(layers: &Directory, id: &BuildpackId, sboms: &[LayerSbom]) -> Result<(), BuildError> {
    for sbom in sboms {
        let kind = if sbom.launch { "launch" } else { "build" };
        for kind in [Some(kind), sbom.cache.then_some("cache")].into_iter().flatten() {
            let mut to = layers.make_directory("sbom")?.make_directory(kind)?.make_directory(id.escaped())?;
            if let Some(layer) = &sbom.layer {
                to = to.make_directory(layer.as_str())?;
            }
            // A later buildpack may have removed it, or put something else there.
            let from = layers.make_directory(id.escaped())?;
            let missing = || Err(io::Error::from(Errno::NOENT));
            let mut file =
                from.file(&sbom.name)?.map_or_else(missing, Ok).path("open", &from.path().join(&sbom.name))?;
            let name = sbom.format.file_name();
            io::copy(&mut file, &mut to.create(name)?).path("write", &to.path().join(name))?;
        }
    }
    Ok(())
}

/// Writes the legacy bills of materials, which are there even if no buildpack has one.
pub(super) fn write_legacy(layers: &Directory, launch: &[BomEntry], build: &[BomEntry]) -> Result<(), BuildError> {
    for (kind, entries) in [("launch", launch), ("build", build)] {
        let to = layers.make_directory("sbom")?.make_directory(kind)?;
        let path = to.path().join("sbom.legacy.json");
        let content = legacy_sbom(entries).map_err(|source| BuildError::LegacyBom { path, source })?;
        to.write("sbom.legacy.json", content.as_bytes())?;
    }
    Ok(())
}

//! SBOM files in a buildpack's directory.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;

use platform_spec::name::LayerName;
use platform_spec::sbom::SbomFormat;

use super::{BuildpackDir, LayersDirError};
use crate::beneath::Directory;

/// What an SBOM file is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sbom {
    /// `launch.sbom.<ext>`: the app, apart from its layers.
    Launch,
    /// `build.sbom.<ext>`: the build environment, apart from layers.
    Build,
    /// `<layer>.sbom.<ext>`. There may be no such layer.
    Layer(LayerName),
}

/// The name of an SBOM file. Nothing is known about what is there: [`BuildpackDir::open_sbom`] checks that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SbomFile {
    /// Its name in the buildpack's directory.
    pub name: String,
    /// What it is about.
    pub about: Sbom,
    /// Its format; `None` where its name has an extension that the specification does not know.
    pub format: Option<SbomFormat>,
}

impl SbomFile {
    /// Takes a file name apart: `<layer>.sbom.<ext>`, where a layer's name may have dots. `None` if it is another file's.
    pub fn parse(name: &str) -> Option<Self> {
        let known = SbomFormat::ALL.into_iter().find_map(|format| {
            let stem = name.strip_suffix(format.file_name())?.strip_suffix('.')?;
            Some((stem, Some(format)))
        });
        let unknown = || {
            let (stem, extension) = name.strip_suffix(".json")?.rsplit_once(".sbom.")?;
            (!extension.is_empty()).then_some((stem, None))
        };
        let (stem, format) = known.or_else(unknown)?;
        let about = match stem {
            "launch" => Sbom::Launch,
            "build" => Sbom::Build,
            layer => Sbom::Layer(LayerName::new(layer).ok()?),
        };
        Some(Self { name: name.to_owned(), about, format })
    }
}

/// The SBOM files in a directory, sorted by name.
pub(crate) fn list(directory: &Directory) -> Result<Vec<SbomFile>, LayersDirError> {
    let entries = directory.entries()?;
    let names = entries.iter().filter_map(|(name, _)| std::str::from_utf8(name.as_bytes()).ok());
    Ok(names.filter_map(SbomFile::parse).collect())
}

impl BuildpackDir {
    /// The names of the SBOM files, sorted.
    pub fn sbom_files(&self) -> Result<Vec<SbomFile>, LayersDirError> {
        self.directory.as_ref().map_or(Ok(Vec::new()), list)
    }

    /// Opens an SBOM file; `None` if it is gone. A symlink, a pipe or anything else that is no regular file is refused.
    pub fn open_sbom(&self, file: &SbomFile) -> Result<Option<File>, LayersDirError> {
        match &self.directory {
            Some(directory) => Ok(directory.file(&file.name)?),
            None => Ok(None),
        }
    }
}

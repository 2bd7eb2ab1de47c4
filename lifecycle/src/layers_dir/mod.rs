//! `<layers>/<buildpack id>`: what one buildpack left, and what the restorer leaves for it (buildpack.md, *Layer Types*).
//!
//! [`read`] gives a [`BuildpackDir`]: its layers with their metadata, its store, and its SBOM files. The rest of this
//! module writes there: [`write_layer`], [`write_store`], [`remove_layer`].
//!
//! All of it is hostile: see [`crate::beneath`]. Refused, with the path: a symlink (or a pipe, socket, device) in the
//! place of the buildpack's directory, of a `*.toml` or of an SBOM file, and in the place of a layer's directory if the
//! layer's TOML sets a type. Inside of a layer symlinks are entries like others. Errors about TOML say in which line
//! something is wrong and quote nothing, since whose file it really is nobody knows.

mod sbom;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use platform_spec::layer::{Layer, Types};
use platform_spec::name::{BuildpackId, LayerName, NameError};
use platform_spec::store::Store;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(crate) use sbom::list as sbom_files;
pub use sbom::{Sbom, SbomFile};

use crate::beneath::{BeneathError, Directory, Kind};
use crate::file::{LoadError, PathError, parse_hostile};

/// Files of a buildpack's directory that describe the build, not a layer: no layer can have these names.
pub const RESERVED: [&str; 3] = ["build", "launch", "store"];

/// The most that a TOML file of a buildpack may have, in bytes. What it says ends up in an image's config, which
/// registries take up to this size.
const LARGEST_TOML: u64 = 8 << 20;

/// Why a buildpack's directory, or something in it, cannot be used.
#[derive(Debug, Error)]
pub enum LayersDirError {
    /// It could not be read, or is not what it should be.
    #[error(transparent)]
    Beneath(#[from] BeneathError),
    /// A TOML file is malformed, or a value has another type than it should have. Quotes nothing of the file.
    #[error(transparent)]
    Toml(#[from] LoadError),
    /// The flags are where no supported Buildpack API has them any more.
    #[error("the launch, cache and build flags should be in the types table of {}", .path.display())]
    Types {
        /// Which file.
        path: PathBuf,
    },
    /// A `*.toml` whose name cannot be a layer's.
    #[error("{}: {source}", .path.display())]
    Name {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: NameError,
    },
}

impl From<PathError> for LayersDirError {
    fn from(error: PathError) -> Self {
        Self::Beneath(error.into())
    }
}

/// One buildpack's directory.
#[derive(Debug)]
pub struct BuildpackDir {
    /// `<layers>/<escaped buildpack id>`.
    pub path: PathBuf,
    /// Its layers, sorted by `<buildpack id>:<layer name>` as bytes: each directory, and each `<layer>.toml`, of which
    /// either may be missing.
    pub layers: Vec<LayerOnDisk>,
    /// Its `store.toml`, if it has one.
    pub store: Option<Store>,
    directory: Option<Directory>,
}

/// One layer as its buildpack left it.
#[derive(Debug)]
pub struct LayerOnDisk {
    /// Its name.
    pub name: LayerName,
    /// `<buildpack id>:<layer name>`, as messages and sorting name it.
    pub identifier: String,
    /// Its directory, whether or not there is one.
    pub path: PathBuf,
    /// Whether its directory is there.
    pub has_contents: bool,
    /// What `<layer>.toml` says; a missing one sets no type and has no metadata. An error if it cannot be used, or if
    /// it sets a type and something else than a directory is in the layer's place.
    pub toml: Result<Layer, LayersDirError>,
}

/// Reads the directory of the buildpack `id` in the layers directory `layers`. A missing one has no layers.
pub fn read(layers: &Path, id: &BuildpackId) -> Result<BuildpackDir, LayersDirError> {
    let path = layers.join(id.escaped());
    log::debug!("Reading buildpack directory: {}", path.display());
    let Some(directory) = open(layers, id)? else {
        return Ok(BuildpackDir { path, layers: Vec::new(), store: None, directory: None });
    };
    let mut found = Vec::new();
    for (name, kind) in directory.entries()? {
        log::debug!("Reading buildpack directory item: {}", name.display());
        if let Some(stem) = toml_stem(&name, kind) {
            found.push(layer_name(&path.join(&name), stem)?);
        } else if kind == Kind::Directory
            && let Some(Ok(name)) = name.to_str().map(LayerName::new)
        {
            found.push(name);
        }
    }
    found.retain(|name| !RESERVED.contains(&name.as_str()));
    found.sort();
    found.dedup();
    let layers = found
        .into_iter()
        .map(|name| {
            let there = directory.kind(name.as_str()).map_err(LayersDirError::from);
            let (has_contents, toml) = match there {
                Ok(kind) => {
                    let toml = read_layer(&directory, &name).and_then(|layer| check_place(&path, &name, layer, kind));
                    (kind == Some(Kind::Directory), toml)
                }
                Err(error) => (false, Err(error)),
            };
            let identifier = format!("{id}:{name}");
            LayerOnDisk { identifier, path: path.join(name.as_str()), name, has_contents, toml }
        })
        .collect();
    let store = toml_if_there(&directory, "store.toml")?;
    Ok(BuildpackDir { path, layers, store, directory: Some(directory) })
}

/// Opens the directory of a buildpack; `None` if there is none. The layers directory itself may be a symlink.
pub fn open(layers: &Path, id: &BuildpackId) -> Result<Option<Directory>, LayersDirError> {
    match Directory::open(layers) {
        Ok(layers) => Ok(layers.directory(id.escaped())?),
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens the directory of a buildpack, and makes it (mode 0777 less the umask) if there is none.
pub fn open_or_make(layers: &Path, id: &BuildpackId) -> Result<Directory, LayersDirError> {
    std::fs::create_dir_all(layers).map_err(|source| PathError {
        operation: "create directory",
        path: layers.to_owned(),
        source,
    })?;
    Ok(Directory::open(layers)?.make_directory(id.escaped())?)
}

/// What is before `.toml`, unless the entry is a directory (which is a layer with an odd name).
pub(crate) fn toml_stem(name: &OsStr, kind: Kind) -> Option<&OsStr> {
    let stem = name.as_bytes().strip_suffix(b".toml").filter(|_| kind != Kind::Directory)?;
    Some(OsStr::from_bytes(stem))
}

/// Checks the stem of the file at `path` as a layer's name.
pub(crate) fn layer_name(path: &Path, stem: &OsStr) -> Result<LayerName, LayersDirError> {
    stem.to_str()
        .ok_or_else(|| NameError {
            what: "layer name",
            name: stem.to_string_lossy().into_owned(),
            why: "it is not UTF-8",
        })
        .and_then(LayerName::new)
        .map_err(|source| LayersDirError::Name { path: path.to_owned(), source })
}

/// Reads a TOML file of a buildpack; a missing one is `None`.
pub(crate) fn toml_if_there<T: DeserializeOwned>(
    directory: &Directory,
    name: &str,
) -> Result<Option<T>, LayersDirError> {
    let Some(bytes) = directory.read(name, LARGEST_TOML)? else { return Ok(None) };
    Ok(Some(parse_hostile(&directory.path().join(name), &bytes)?))
}

/// `<layer>.toml` with the keys that old Buildpack APIs had, of whatever type, at the top.
#[derive(Deserialize)]
struct LayerWithFlags {
    #[serde(default)]
    types: Types,
    metadata: Option<toml::Value>,
    launch: Option<toml::Value>,
    build: Option<toml::Value>,
    cache: Option<toml::Value>,
}

/// Reads `<name>.toml`; a missing one sets no type.
pub(crate) fn read_layer(directory: &Directory, name: &LayerName) -> Result<Layer, LayersDirError> {
    let file = format!("{name}.toml");
    let Some(read) = toml_if_there::<LayerWithFlags>(directory, &file)? else { return Ok(Layer::default()) };
    let LayerWithFlags { types, metadata, launch, build, cache } = read;
    if launch.is_some() || build.is_some() || cache.is_some() {
        return Err(LayersDirError::Types { path: directory.path().join(file) });
    }
    Ok(Layer { types, metadata })
}

/// Refuses what is no directory in the place of a layer that has a type.
fn check_place(path: &Path, name: &LayerName, layer: Layer, there: Option<Kind>) -> Result<Layer, LayersDirError> {
    match there {
        Some(found) if found != Kind::Directory && layer.types != Types::default() => {
            let path = path.join(name.as_str());
            Err(BeneathError::Refused { path, found, wanted: Kind::Directory }.into())
        }
        Some(_) | None => Ok(layer),
    }
}

/// Writes `<layer>.toml` for the buildpack to find: only its metadata, no types. Without metadata the file is empty.
pub fn write_layer(
    layers: &Path,
    id: &BuildpackId,
    name: &LayerName,
    metadata: Option<&toml::Value>,
) -> Result<(), LayersDirError> {
    #[derive(Serialize)]
    struct Restored<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<&'a toml::Value>,
    }
    let text = platform_spec::text::to_toml(&Restored { metadata });
    Ok(open_or_make(layers, id)?.write(format!("{name}.toml"), text.as_bytes())?)
}

/// Writes `store.toml` for the buildpack to find.
pub fn write_store(layers: &Path, id: &BuildpackId, store: &Store) -> Result<(), LayersDirError> {
    let text = platform_spec::text::to_toml(store);
    Ok(open_or_make(layers, id)?.write("store.toml", text.as_bytes())?)
}

/// Removes a layer: its directory, its TOML, its SBOM files, and the `.sha` file that old lifecycles wrote. What is
/// not there is fine; what is something else than it should be is removed, not followed.
pub fn remove_layer(layers: &Path, id: &BuildpackId, name: &LayerName) -> Result<(), LayersDirError> {
    let Some(directory) = open(layers, id)? else { return Ok(()) };
    directory.remove(name.as_str())?;
    directory.remove(format!("{name}.toml"))?;
    directory.remove(format!("{name}.sha"))?;
    for format in platform_spec::sbom::SbomFormat::ALL {
        directory.remove(format!("{name}.{}", format.file_name()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

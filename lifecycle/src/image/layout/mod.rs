//! Images in OCI image layouts on disk (OCI image specification, *Image Layout*; platform.md, *Map an image reference
//! to a path in the layout directory*).
//!
//! Every name has a layout of its own: `<layout-dir>/<registry>/<repository>/<tag>`, or `…/sha256/<hex>` for a digest
//! reference. How one is written so that it is whole at any moment is [`write`]'s.

mod index;
mod write;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use platform_spec::target::Target;

use super::manifest::{self, Child, Document};
use super::verify::VerifiedReader;
use super::{
    BlobRef, Encodings, Image, Index, IndexChange, IndexError, Layer, Manifest, Push, Reference, Source, Store,
    StoreError, WrittenIndex, describe_platform,
};
use crate::digest::Digest;
use crate::file::describe;

/// Manifests, indexes and configs are small; larger ones are refused instead of filling memory.
const LARGEST_DOCUMENT: u64 = 8 << 20;

/// Annotation of an entry in `index.json`: the name of the image, here its tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// All layouts below one directory. A name is an image reference, a layout's path below that directory, or what
/// [`Image::identifier`] says: `<path>@<digest>`. Images are read from paths elsewhere too, if they are absolute.
#[derive(Clone, Debug)]
pub struct LayoutStore {
    dir: PathBuf,
}

/// Where an image is.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    /// The name as given.
    name: String,
    /// Its layout.
    path: PathBuf,
    /// Which manifest of the layout, if the name says it.
    digest: Option<Digest>,
    /// What the entry in `index.json` is called.
    ref_name: String,
}

impl LayoutStore {
    /// The layouts below `dir` (`-layout-dir`).
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The layout in which the image of this name is, or will be.
    pub fn path(&self, name: &str) -> Result<PathBuf, StoreError> {
        self.place(name).map(|place| place.path)
    }

    /// Where an image of this name is written.
    fn place(&self, name: &str) -> Result<Place, StoreError> {
        if !self.dir.as_os_str().is_empty() && Path::new(name).starts_with(&self.dir) {
            return place_of_path(name);
        }
        let wrong = |reason: &str| StoreError::Name { name: name.to_owned(), reason: reason.to_owned() };
        let reference = Reference::parse(name).map_err(|error| wrong(error.reason))?;
        let mut path = self.dir.join(&reference.registry).join(&reference.repository);
        match reference.digest {
            Some(digest) => path.extend(["sha256", &digest.hex()]),
            None => path.push(reference.identifier()),
        }
        let ref_name = reference.identifier();
        Ok(Place { name: name.to_owned(), path, digest: reference.digest, ref_name })
    }

    /// Where an image of this name is read. An earlier phase may have been given another layout directory, and has
    /// written down where it found the image.
    fn place_to_read(&self, name: &str) -> Result<Place, StoreError> {
        if Path::new(name).is_absolute() { place_of_path(name) } else { self.place(name) }
    }
}

/// A layout named by its path, or one of its manifests: `<path>@<digest>`.
fn place_of_path(name: &str) -> Result<Place, StoreError> {
    // A path may hold any character, also an '@': what is after the last one is a digest or belongs to it.
    let (path, digest) = match name.rsplit_once('@').map(|(path, digest)| (path, digest.parse())) {
        Some((path, Ok(digest))) => (Path::new(path), Some(digest)),
        Some((_, Err(_))) | None => (Path::new(name), None),
    };
    if path.components().any(|part| part == Component::ParentDir) {
        let reason = "it leads out of the layout directory".to_owned();
        return Err(StoreError::Name { name: name.to_owned(), reason });
    }
    let ref_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Place { name: name.to_owned(), path: path.to_owned(), digest, ref_name })
}

impl Place {
    fn not_found(&self) -> StoreError {
        StoreError::NotFound { name: self.name.clone() }
    }

    fn corrupt(&self, reason: impl ToString) -> StoreError {
        StoreError::Corrupt { name: self.name.clone(), reason: reason.to_string() }
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path.join("blobs/sha256").join(digest.hex())
    }

    /// `index.json`, or `None` if there is no layout.
    fn index(&self) -> Result<Option<Index>, StoreError> {
        let path = self.path.join("index.json");
        let Some(bytes) = read_document(&path)? else { return Ok(None) };
        let parsed = Index::parse(bytes, super::Format::Oci.index());
        parsed.map(Some).map_err(|error| self.corrupt(format!("{}: {error}", path.display())))
    }

    /// A manifest or an index of the layout, verified.
    fn document(&self, blob: &BlobRef) -> Result<Document, StoreError> {
        let bytes = self.verified(blob)?;
        Document::parse(bytes, &blob.media_type).map_err(|error| self.corrupt(format!("{}: {error}", blob.digest)))
    }

    fn by_digest(&self, digest: Digest) -> Result<Document, StoreError> {
        let bytes = read_document(&self.blob_path(&digest))?.ok_or_else(|| self.not_found())?;
        self.document(&BlobRef::new("", digest, bytes.len() as u64))
    }

    fn verified(&self, blob: &BlobRef) -> Result<Vec<u8>, StoreError> {
        let path = self.blob_path(&blob.digest);
        let missing = || self.corrupt(format!("{} is not there", path.display()));
        let bytes = read_document(&path)?.ok_or_else(missing)?;
        super::validate::blob("it", blob, &bytes)
            .map_err(|error| self.corrupt(format!("{}: {error}", path.display())))?;
        Ok(bytes)
    }

    fn config(&self, manifest: &Manifest) -> Result<Vec<u8>, StoreError> {
        self.verified(&manifest.config)
    }

    /// The manifest that the name means.
    fn manifest(&self, target: &Target) -> Result<Manifest, StoreError> {
        let index = match self.digest {
            // Whatever `index.json` says by now, the manifest with this digest is what is meant.
            Some(digest) => self.by_digest(digest),
            None => self.index()?.map(Document::Index).ok_or_else(|| self.not_found()),
        }?;
        let Document::Index(index) = index else { return self.of_document(index, target) };
        let named = |child: &&Child| self.digest.is_none() && ref_name(child) == Some(&self.ref_name);
        let mut entries: Vec<Child> = index.children.iter().filter(named).cloned().collect();
        if entries.is_empty() {
            entries = index.children;
        }
        match entries.as_slice() {
            [] => Err(self.not_found()),
            [only] => self.of_document(self.document(&only.blob)?, target),
            several => self.among(several, target),
        }
    }

    /// One of several entries. Tools often leave the platform out; then the config knows.
    fn among(&self, several: &[Child], target: &Target) -> Result<Manifest, StoreError> {
        let mut images = Vec::new();
        for child in several {
            match self.document(&child.blob)? {
                Document::Index(index) => images.extend(index.children),
                Document::Manifest(manifest) if child.platform.is_none() => {
                    let config = super::Config::parse(self.config(&manifest)?).map_err(|error| self.corrupt(error))?;
                    let target = Target {
                        os: config.os().to_owned(),
                        arch: config.architecture().to_owned(),
                        variant: config.variant().to_owned(),
                        ..Target::default()
                    };
                    images.push(Child { platform: Some(target), ..child.clone() });
                }
                Document::Manifest(_) => images.push(child.clone()),
            }
        }
        self.select(&images, target)
    }

    fn select(&self, children: &[Child], target: &Target) -> Result<Manifest, StoreError> {
        let child = manifest::select(children, target).ok_or_else(|| StoreError::NoChild {
            name: self.name.clone(),
            wanted: describe_platform(target),
            available: manifest::platforms(children),
        })?;
        match self.document(&child.blob)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(self.corrupt("an index is called an image")),
        }
    }

    fn of_document(&self, document: Document, target: &Target) -> Result<Manifest, StoreError> {
        match document {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(index) => self.select(&index.children, target),
        }
    }
}

fn ref_name(child: &Child) -> Option<&str> {
    child.blob.other.get("annotations")?.get(REF_NAME)?.as_str()
}

fn failed(operation: &str, path: &Path, cause: io::Error) -> StoreError {
    let cause = match cause.kind() {
        io::ErrorKind::InvalidData => cause,
        kind => io::Error::new(kind, describe(&cause)),
    };
    StoreError::Failed { action: format!("{operation} {}", path.display()), cause: cause.into() }
}

/// A small file; `None` if it is not there.
fn read_document(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed("open", path, error)),
    };
    let mut bytes = Vec::new();
    file.take(LARGEST_DOCUMENT + 1).read_to_end(&mut bytes).map_err(|error| failed("read", path, error))?;
    if bytes.len() as u64 > LARGEST_DOCUMENT {
        let cause = format!("it is larger than {} MiB", LARGEST_DOCUMENT >> 20);
        return Err(StoreError::Failed { action: format!("read {}", path.display()), cause: cause.into() });
    }
    Ok(Some(bytes))
}

/// Whether a file is there and has a blob's size; its content is checked when it is read.
fn is_blob(path: &Path, blob: &BlobRef) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.len() == blob.size)
}

impl Store for LayoutStore {
    fn open(&self, name: &str, target: &Target) -> Result<Image, StoreError> {
        let place = self.place_to_read(name)?;
        let manifest = place.manifest(target)?;
        let config = place.config(&manifest)?;
        let identifier = format!("{}@{}", place.path.display(), manifest.digest);
        // A layout may leave out the layers that others have anyway.
        let source = |blob: &BlobRef| match place.blob_path(&blob.digest) {
            path if is_blob(&path, blob) => Source::Layout(path),
            _ => Source::Absent,
        };
        Image::assemble(identifier, manifest, config, source).map_err(|error| place.corrupt(error))
    }

    fn document(&self, name: &str) -> Result<Document, StoreError> {
        let place = self.place(name)?;
        match place.digest {
            Some(digest) => place.by_digest(digest),
            None => index::Current::read(&place)?.document.ok_or_else(|| place.not_found()),
        }
    }

    fn name_by_digest(&self, name: &str, digest: &Digest) -> Result<String, StoreError> {
        Ok(format!("{}@{digest}", self.place(name)?.path.display()))
    }

    fn write_index(&self, name: &str, change: &IndexChange<'_>) -> Result<WrittenIndex, IndexError> {
        let store = |cause| IndexError::Store { name: name.to_owned(), children: Vec::new(), cause };
        let place = self.place(name).map_err(store)?;
        match place.digest {
            Some(_) => Err(IndexError::Digest { name: name.to_owned() }),
            None => index::write(&place, change),
        }
    }

    fn has_blob(&self, layer: &Layer) -> Result<bool, StoreError> {
        Ok(match (&layer.source, &layer.blob) {
            (Source::Layout(path), Some(blob)) => is_blob(path, blob),
            (Source::Packed(_), Some(_)) => true,
            (Source::Tar(path), _) => path.is_file(),
            (Source::Layout(_) | Source::Packed(_), None) | (Source::Registry(_) | Source::Absent, _) => false,
        })
    }

    fn read_blob(&self, layer: &Layer) -> Result<Box<dyn Read + Send>, StoreError> {
        let missing = |digest| StoreError::BlobNotFound { name: self.dir.display().to_string(), digest };
        let Some(blob) = &layer.blob else { return Err(missing(layer.diff_id)) };
        let path = match &layer.source {
            Source::Layout(path) => path,
            Source::Packed(spool) => return Ok(Box::new(VerifiedReader::new(spool.open(), blob))),
            Source::Tar(_) | Source::Registry(_) | Source::Absent => return Err(missing(blob.digest)),
        };
        match File::open(path) {
            Ok(file) => Ok(Box::new(VerifiedReader::new(file, blob))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing(blob.digest)),
            Err(error) => Err(failed("open", path, error)),
        }
    }

    fn check_read(&self, name: &str) -> Result<(), StoreError> {
        self.place_to_read(name).map(drop)
    }

    fn check_write(&self, name: &str) -> Result<(), StoreError> {
        self.place(name).map(drop)
    }

    fn push<'a>(&'a self, name: &str, also: &[String]) -> Result<Box<dyn Push + 'a>, StoreError> {
        let also = also.iter().map(|name| (name.clone(), self.place(name))).collect();
        Ok(Box::new(write::LayoutPush::begin(self.place(name)?, also)?))
    }

    fn delete(&self, name: &str, digest: &Digest) -> Result<(), StoreError> {
        write::delete(self.place(name)?, digest)
    }

    fn shown_name(&self, name: &str) -> String {
        self.path(name).map_or_else(|_| name.to_owned(), |path| path.display().to_string())
    }

    fn encodings(&self) -> Encodings {
        Encodings::Blob
    }
}

#[cfg(test)]
mod tests;

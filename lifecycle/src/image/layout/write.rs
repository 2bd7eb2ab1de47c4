//! Writing layouts so that a reader, and whoever comes after a kill, finds the old image or the new one, whole.
//!
//! Blobs come first, each under a temporary name until it is complete; `index.json` is renamed into place when all that
//! it refers to is there. Who writes holds a lock on the layout's directory, and what a killed writer has left is
//! removed by the next. Blobs are linked, not copied, where the file system can.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use lifecycle_launch::console::chain;
use log::{debug, info, warn};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde_json::{Map, Value, json};

use super::{Place, REF_NAME, failed, is_blob, ref_name};
use crate::digest::Digest;
use crate::image::manifest::{self, Child, Document};
use crate::image::verify::VerifiedReader;
use crate::image::{BlobRef, Format, Image, Index, Layer, Push, Pushed, Source, StoreError, validate};

const LAYOUT_FILE: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// A layout that is locked and may be written.
pub(super) struct Writer {
    place: Place,
    blobs: PathBuf,
    /// Holds the lock until it is closed.
    _lock: File,
}

impl Writer {
    pub(super) fn begin(place: Place) -> Result<Self, StoreError> {
        let blobs = place.path.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(|error| failed("create directory", &blobs, error))?;
        let lock = File::open(&place.path).map_err(|error| failed("open", &place.path, error))?;
        lock_directory(&lock, &place.path)?;
        let writer = Self { place, blobs, _lock: lock };
        for dir in [&writer.place.path, &writer.blobs] {
            remove_leftovers(dir).map_err(|error| failed("clean", dir, error))?;
        }
        Ok(writer)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    /// Puts a layer's blob there. One that is nowhere is left out: the base image's layout did so too.
    fn put_layer(&self, layer: &Layer) -> Result<(), StoreError> {
        let name = || self.place.path.display().to_string();
        let Some(blob) = &layer.blob else {
            return Err(StoreError::BlobNotFound { name: name(), digest: layer.diff_id });
        };
        let path = self.path(&blob.digest);
        if is_blob(&path, blob) {
            return Ok(());
        }
        match &layer.source {
            Source::Packed(spool) => {
                let temporary = temporary_beside(&path);
                // Another file system, or one without files that have no name: then a copy it is.
                if spool.link(&temporary).is_err() || !is_blob(&temporary, blob) {
                    let _ = fs::remove_file(&temporary);
                    copy(spool.open(), &self.place.path, &temporary, blob)?;
                }
                self.make_readable(&temporary).map_err(|error| failed("change mode of", &temporary, error))?;
                rename(&temporary, &path)
            }
            Source::Layout(from) => self.put_file(from, blob),
            Source::Absent => {
                debug!("Layer {} has no content in {}", layer.diff_id, self.place.name);
                Ok(())
            }
            Source::Tar(_) | Source::Registry(_) => Err(StoreError::BlobNotFound { name: name(), digest: blob.digest }),
        }
    }

    fn put_file(&self, from: &Path, blob: &BlobRef) -> Result<(), StoreError> {
        let path = self.path(&blob.digest);
        if !is_blob(from, blob) {
            let name = self.place.path.display().to_string();
            return Err(StoreError::BlobNotFound { name, digest: blob.digest });
        }
        let temporary = temporary_beside(&path);
        // Another file system, another owner's file, too many links: then a copy it is.
        if fs::hard_link(from, &temporary).is_err() {
            let source = File::open(from).map_err(|error| failed("open", from, error))?;
            copy(source, from, &temporary, blob)?;
        }
        rename(&temporary, &path)
    }

    /// Gives what was a private temporary file the mode of a new one: the directory's, without execution.
    fn make_readable(&self, path: &Path) -> io::Result<()> {
        let mode = fs::metadata(&self.blobs)?.permissions().mode() & 0o666;
        fs::set_permissions(path, PermissionsExt::from_mode(mode))
    }

    fn put_bytes(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path(digest);
        if is_blob(&path, &BlobRef::new("", *digest, bytes.len() as u64)) {
            return Ok(());
        }
        write_whole(&path, bytes)
    }

    /// Puts an image's documents there, unnamed.
    fn put_documents(&self, image: &Image) -> Result<(), StoreError> {
        let digest = image.manifest.digest;
        if self.place.digest.is_some_and(|named| named != digest) {
            // As a registry refuses it: whoever asks for the digest would get another image.
            let reason = format!("the image's digest is {digest}");
            return Err(StoreError::Name { name: self.place.name.clone(), reason });
        }
        self.put_bytes(&image.manifest.config.digest, &image.config.bytes())?;
        self.put_bytes(&image.manifest.digest, &image.manifest.bytes)
    }

    /// Puts an index there and names it; `others` are the entries of other names.
    pub(super) fn publish_index(&self, index: &Index, others: &[Child]) -> Result<(), StoreError> {
        self.put_bytes(&index.digest, &index.bytes)?;
        let mut entry = index.blob_ref();
        entry.other.insert("annotations".to_owned(), json!({ REF_NAME: self.place.ref_name }));
        self.write_index(others.iter().map(|child| child.blob.to_json()).chain([entry.to_json()]).collect())
    }

    /// Puts an image's documents there and names it: everything it refers to is there by now.
    fn publish(&self, image: &Image) -> Result<(), StoreError> {
        self.put_documents(image)?;
        let mut kept = Vec::new();
        let mut lost = Vec::new();
        match self.place.index() {
            Ok(index) => {
                for child in index.into_iter().flat_map(|index| index.children) {
                    match ref_name(&child) {
                        Some(other) if other != self.place.ref_name => kept.push(child.blob.to_json()),
                        Some(_) | None => lost.push(child),
                    }
                }
            }
            Err(error) => warn!("Replacing a damaged layout: {}", chain(&error)),
        }
        self.warn_of_lost_children(&lost);
        let mut entry = image.manifest.blob_ref();
        entry.other.insert("annotations".to_owned(), json!({ REF_NAME: self.place.ref_name }));
        entry.other.insert("platform".to_owned(), platform(image));
        kept.push(entry.to_json());
        self.write_index(kept)
    }

    /// Replacing an index, or several entries, by one image loses the images of other platforms.
    fn warn_of_lost_children(&self, lost: &[Child]) {
        let mut names = Vec::new();
        for child in lost {
            match self.place.document(&child.blob) {
                Ok(Document::Index(index)) => names.extend(index.platforms()),
                Ok(Document::Manifest(_)) if lost.len() > 1 => {
                    names.extend(manifest::platforms(std::slice::from_ref(child)));
                }
                Ok(Document::Manifest(_)) | Err(_) => {}
            }
        }
        if !names.is_empty() {
            warn!("{}: replacing an index by one image; it had {}", self.place.name, names.join(", "));
        }
    }

    fn write_index(&self, entries: Vec<Value>) -> Result<(), StoreError> {
        let layout = self.place.path.join("oci-layout");
        if fs::read(&layout).is_ok_and(|found| serde_json::from_slice::<Value>(&found).is_ok()) {
            // Made by whomever; there is but one version.
        } else {
            write_whole(&layout, LAYOUT_FILE)?;
        }
        let index = json!({ "schemaVersion": 2, "mediaType": Format::Oci.index(), "manifests": entries });
        write_whole(&self.place.path.join("index.json"), format!("{index:#}\n").as_bytes())
    }
}

fn platform(image: &Image) -> Value {
    let mut platform = Map::new();
    let config = &image.config;
    for (key, value) in [("architecture", config.architecture()), ("os", config.os()), ("variant", config.variant())] {
        if !value.is_empty() {
            platform.insert(key.to_owned(), value.into());
        }
    }
    platform.into()
}

fn lock_directory(dir: &File, path: &Path) -> Result<(), StoreError> {
    let locked = match flock(dir, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => {
            info!("Waiting for another process that writes {}", path.display());
            loop {
                match flock(dir, FlockOperation::LockExclusive) {
                    Err(Errno::INTR) => {}
                    other => break other,
                }
            }
        }
        other => other,
    };
    match locked {
        Ok(()) => Ok(()),
        // A file system without locks: two builds of one image at once are then the platform's to avoid.
        Err(Errno::NOLCK | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => {
            debug!("{} cannot be locked", path.display());
            Ok(())
        }
        Err(error) => Err(failed("lock", path, error.into())),
    }
}

/// Copies a blob; `name` is where it comes from, for errors.
fn copy(source: impl Read, name: &Path, to: &Path, blob: &BlobRef) -> Result<(), StoreError> {
    let mut reader = VerifiedReader::new(source, blob);
    let mut target = File::create_new(to).map_err(|error| failed("create", to, error))?;
    let copied = io::copy(&mut reader, &mut target);
    if copied.is_err() {
        let _ = fs::remove_file(to);
    }
    copied.map(drop).map_err(|error| failed("copy", name, error))
}

fn temporary_beside(path: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}-{number}.tmp", std::process::id()))
}

/// Removes what a killed writer has left. To be called with the lock held.
fn remove_leftovers(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(".tmp") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(|error| failed("rename", from, error))?;
    // Two links to one file: a rename of one over the other does nothing.
    match fs::remove_file(from) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", from, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn write_whole(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    let temporary = temporary_beside(path);
    let written = File::create_new(&temporary).and_then(|mut file| file.write_all(content));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(|error| failed("write", &temporary, error))?;
    rename(&temporary, path)
}

/// A push to one layout, and to others afterwards.
pub(super) struct LayoutPush {
    first: Writer,
    also: Vec<(String, Result<Place, StoreError>)>,
}

impl LayoutPush {
    pub(super) fn begin(first: Place, also: Vec<(String, Result<Place, StoreError>)>) -> Result<Self, StoreError> {
        Ok(Self { first: Writer::begin(first)?, also })
    }
}

impl Push for LayoutPush {
    fn layer(&self, layer: &Layer) -> Result<(), StoreError> {
        self.first.put_layer(layer)
    }

    fn finish(self: Box<Self>, image: &Image) -> Result<Pushed, StoreError> {
        self.end(image, &Writer::publish)
    }

    fn finish_untagged(self: Box<Self>, image: &Image) -> Result<Pushed, StoreError> {
        self.end(image, &Writer::put_documents)
    }
}

/// What is done with a layout that has an image's layers.
type Publish<'a> = dyn Fn(&Writer, &Image) -> Result<(), StoreError> + 'a;

impl LayoutPush {
    fn end(self, image: &Image, publish: &Publish<'_>) -> Result<Pushed, StoreError> {
        let Self { first, also } = self;
        validate::image(image).map_err(|error| first.place.corrupt(error))?;
        for layer in &image.layers {
            first.put_layer(layer)?;
        }
        let mut names = vec![(first.place.name.clone(), publish(&first, image))];
        for (name, place) in also {
            let published = match place {
                // Another spelling of the first name, which is locked already.
                Ok(place) if place.path == first.place.path => Ok(()),
                Ok(place) => publish_also(place, image, &first, publish),
                Err(error) => Err(error),
            };
            names.push((name, published));
        }
        Ok(Pushed {
            identifier: format!("{}@{}", first.place.path.display(), image.manifest.digest),
            digest: image.manifest.digest,
            manifest_size: image.manifest.bytes.len() as u64,
            names,
        })
    }
}

fn publish_also(place: Place, image: &Image, first: &Writer, publish: &Publish<'_>) -> Result<(), StoreError> {
    let writer = Writer::begin(place)?;
    for layer in &image.layers {
        let mut layer = layer.clone();
        if let Some(blob) = &layer.blob {
            let path = first.path(&blob.digest);
            if is_blob(&path, blob) {
                layer.source = Source::Layout(path);
            }
        }
        writer.put_layer(&layer)?;
    }
    publish(&writer, image)
}

/// Takes the manifest with this digest out of a layout.
pub(super) fn delete(place: Place, digest: &Digest) -> Result<(), StoreError> {
    if place.index()?.is_none() {
        return Err(place.not_found());
    }
    let writer = Writer::begin(place)?;
    let index = writer.place.index()?.ok_or_else(|| writer.place.not_found())?;
    let (gone, kept): (Vec<Child>, Vec<Child>) =
        index.children.into_iter().partition(|child| child.blob.digest == *digest);
    if gone.is_empty() {
        return Err(writer.place.not_found());
    }
    writer.write_index(kept.iter().map(|child| child.blob.to_json()).collect())?;
    let path = writer.path(digest);
    fs::remove_file(&path).map_err(|error| failed("remove", &path, error))
}

//! A registry in memory: every behaviour of a store that phases depend on, for tests.

use std::collections::{BTreeMap, HashMap};
use std::io::{Cursor, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};

use platform_spec::target::Target;

use super::index::{Held, check_name, names_of_children};
use super::manifest::Document;
use super::verify::VerifiedReader;
use super::{
    BlobRef, Config, Encodings, Format, Image, IndexChange, IndexError, Layer, Manifest, Push, Pushed, Reference,
    Source, Store, StoreError, WrittenIndex, describe_platform, validate,
};
use crate::digest::Digest;

/// Images in memory, by repository. Layers of its images have [`Source::Registry`].
#[derive(Default)]
pub struct MemoryStore {
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    /// By `<registry>/<repository>`.
    repositories: HashMap<String, Repository>,
    refusals: Vec<Refusal>,
    writes: Vec<String>,
}

#[derive(Default)]
struct Repository {
    blobs: BTreeMap<Digest, Vec<u8>>,
    manifests: BTreeMap<Digest, (String, Vec<u8>)>,
    tags: BTreeMap<String, Digest>,
}

/// What a [`MemoryStore`] refuses, as a registry would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `<registry>/<repository>`.
    pub repository: String,
    /// To reads too, or to writes only.
    pub reads: bool,
    /// How.
    pub answer: Answer,
}

/// How a [`MemoryStore`] refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 401, with or without an error text.
    Unauthorized(Option<String>),
    /// 403.
    Forbidden,
    /// No answer at all.
    Broken,
}

impl MemoryStore {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses from now on.
    pub fn refuse(&self, refusal: Refusal) {
        self.content().refusals.push(refusal);
    }

    /// Puts bytes under a name as they are, as another tool might have: an index, or something damaged.
    pub fn insert(&self, name: &str, media_type: &str, bytes: Vec<u8>) -> Result<Digest, StoreError> {
        let reference = parse(name)?;
        let digest = Digest::of(&bytes);
        let mut content = self.content();
        let repository = content.repositories.entry(reference.repository_name()).or_default();
        repository.manifests.insert(digest, (media_type.to_owned(), bytes));
        if let Some(tag) = reference.tag {
            repository.tags.insert(tag, digest);
        }
        Ok(digest)
    }

    /// Puts an image without layers under a name, whatever its config says.
    pub fn insert_with_config(&self, name: &str, config: &[u8]) -> Result<Digest, StoreError> {
        let descriptor = BlobRef::new(Format::Oci.config(), Digest::of(config), config.len() as u64);
        let manifest = Manifest::new(Format::Oci, descriptor, Vec::new(), serde_json::Map::new());
        self.insert_blob(name, config.to_vec())?;
        self.insert(name, Format::Oci.manifest(), manifest.bytes)
    }

    /// Puts a blob into a repository.
    pub fn insert_blob(&self, name: &str, bytes: Vec<u8>) -> Result<Digest, StoreError> {
        let (reference, digest) = (parse(name)?, Digest::of(&bytes));
        let mut content = self.content();
        content.repositories.entry(reference.repository_name()).or_default().blobs.insert(digest, bytes);
        Ok(digest)
    }

    /// Forgets a blob of a repository, as a registry's garbage collection might.
    pub fn lose(&self, name: &str, blob: &Digest) -> Result<(), StoreError> {
        let reference = parse(name)?;
        if let Some(repository) = self.content().repositories.get_mut(&reference.repository_name()) {
            repository.blobs.remove(blob);
        }
        Ok(())
    }

    /// The names that were written, in order.
    pub fn writes(&self) -> Vec<String> {
        self.content().writes.clone()
    }
}

fn parse(name: &str) -> Result<Reference, StoreError> {
    Reference::parse(name).map_err(|error| StoreError::Name { name: name.to_owned(), reason: error.reason.to_owned() })
}

impl Content {
    fn check(&self, name: &str, reference: &Reference, write: bool) -> Result<(), StoreError> {
        let repository = reference.repository_name();
        let refuses = |refusal: &&Refusal| refusal.repository == repository && (refusal.reads || write);
        let name = name.to_owned();
        match self.refusals.iter().find(refuses).map(|refusal| &refusal.answer) {
            None => Ok(()),
            Some(Answer::Unauthorized(told)) => {
                Err(StoreError::Unauthorized { name, request: Box::default(), told: told.clone() })
            }
            Some(Answer::Forbidden) => Err(StoreError::Forbidden { name, request: Box::default(), told: None }),
            Some(Answer::Broken) => {
                Err(StoreError::Failed { action: format!("look up {name}"), cause: "connection reset by peer".into() })
            }
        }
    }

    fn blob(&self, reference: &Reference, digest: &Digest) -> Option<&Vec<u8>> {
        self.repositories.get(&reference.repository_name())?.blobs.get(digest)
    }
}

impl Repository {
    fn digest(&self, reference: &Reference) -> Option<Digest> {
        reference.digest.or_else(|| self.tags.get(reference.tag.as_ref()?).copied())
    }

    /// What a document holds, as children of an index.
    fn held(&self, document: Option<&Document>) -> Held {
        match document {
            None => Held::default(),
            Some(Document::Index(index)) => Held::of_index(index),
            Some(Document::Manifest(manifest)) => {
                let config = self.blobs.get(&manifest.config.digest).cloned();
                Held::of_manifest(manifest, config.and_then(|bytes| Config::parse(bytes).ok()).as_ref())
            }
        }
    }

    fn document(&self, name: &str, digest: &Digest) -> Result<Document, StoreError> {
        let Some((media_type, bytes)) = self.manifests.get(digest) else {
            return Err(StoreError::NotFound { name: name.to_owned() });
        };
        Document::parse(bytes.clone(), media_type)
            .map_err(|error| StoreError::Corrupt { name: name.to_owned(), reason: error.to_string() })
    }
}

impl Store for MemoryStore {
    fn open(&self, name: &str, target: &Target) -> Result<Image, StoreError> {
        let reference = parse(name)?;
        let content = self.content();
        content.check(name, &reference, false)?;
        let not_found = || StoreError::NotFound { name: name.to_owned() };
        let repository = content.repositories.get(&reference.repository_name()).ok_or_else(not_found)?;
        let digest = repository.digest(&reference).ok_or_else(not_found)?;
        let manifest = match repository.document(name, &digest)? {
            Document::Manifest(manifest) => manifest,
            Document::Index(index) => {
                let child = index.select(target).ok_or_else(|| StoreError::NoChild {
                    name: name.to_owned(),
                    wanted: describe_platform(target),
                    available: index.platforms(),
                })?;
                match repository.document(name, &child.blob.digest)? {
                    Document::Manifest(manifest) => manifest,
                    Document::Index(_) => return Err(not_found()),
                }
            }
        };
        let corrupt = |reason: String| StoreError::Corrupt { name: name.to_owned(), reason };
        let config = repository.blobs.get(&manifest.config.digest).cloned();
        let config = config.ok_or_else(|| corrupt(format!("config {} is missing", manifest.config.digest)))?;
        let identifier = reference.with_digest(manifest.digest).name();
        let source = |_: &BlobRef| Source::Registry(reference.clone());
        Image::assemble(identifier, manifest, config, source).map_err(|error| corrupt(error.to_string()))
    }

    fn document(&self, name: &str) -> Result<Document, StoreError> {
        let reference = parse(name)?;
        let content = self.content();
        content.check(name, &reference, false)?;
        let not_found = || StoreError::NotFound { name: name.to_owned() };
        let repository = content.repositories.get(&reference.repository_name()).ok_or_else(not_found)?;
        repository.document(name, &repository.digest(&reference).ok_or_else(not_found)?)
    }

    fn name_by_digest(&self, name: &str, digest: &Digest) -> Result<String, StoreError> {
        Ok(parse(name)?.with_digest(*digest).name())
    }

    fn write_index(&self, name: &str, change: &IndexChange<'_>) -> Result<WrittenIndex, IndexError> {
        let reference = check_name(name)?;
        let failed = |cause| {
            let children = names_of_children(&reference, change);
            IndexError::Store { name: name.to_owned(), children, cause }
        };
        let current = || match self.document(name) {
            Ok(document) => Ok(Some(document)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        };
        loop {
            let before = current()?;
            let made = match change {
                IndexChange::Merge(_) => None,
                IndexChange::Rewrite(make) => {
                    Some(make(before.as_ref()).map_err(|cause| IndexError::Rewrite { name: name.to_owned(), cause })?)
                }
            };
            let mut content = self.content();
            content.check(name, &reference, true).map_err(failed)?;
            let repository = content.repositories.entry(reference.repository_name()).or_default();
            let tag = reference.identifier();
            if repository.tags.get(&tag).copied() != before.as_ref().map(Document::digest) {
                continue;
            }
            let wanted = match change {
                IndexChange::Merge(children) => *children,
                IndexChange::Rewrite(_) => &[],
            };
            let index = match (made, &before, repository.held(before.as_ref())) {
                (Some(made), ..) => made,
                (None, Some(Document::Index(index)), held) if held.holds(wanted) => index.clone(),
                (None, _, held) => held.merged(wanted),
            };
            if let Some(missing) =
                index.children.iter().find(|child| !repository.manifests.contains_key(&child.blob.digest))
            {
                let (name, lost) = (name.to_owned(), vec![missing.clone()]);
                return Err(IndexError::Gone { name, lost, children: Vec::new(), cause: None });
            }
            repository.manifests.insert(index.digest, (index.media_type.clone(), index.bytes.clone()));
            repository.tags.insert(tag, index.digest);
            content.writes.push(name.to_owned());
            return Ok(WrittenIndex::of(name, index, wanted));
        }
    }

    fn has_blob(&self, layer: &Layer) -> Result<bool, StoreError> {
        match (&layer.source, &layer.blob) {
            (Source::Registry(reference), Some(blob)) => {
                let (content, name) = (self.content(), reference.repository_name());
                content.check(&name, reference, false)?;
                Ok(content.blob(reference, &blob.digest).is_some())
            }
            (Source::Packed(_) | Source::Tar(_), _) => Ok(true),
            (Source::Registry(_), None) | (Source::Layout(_) | Source::Absent, _) => Ok(false),
        }
    }

    fn read_blob(&self, layer: &Layer) -> Result<Box<dyn Read + Send>, StoreError> {
        let Some(blob) = &layer.blob else {
            return Err(StoreError::BlobNotFound { name: "memory".to_owned(), digest: layer.diff_id });
        };
        match &layer.source {
            Source::Packed(spool) => Ok(Box::new(VerifiedReader::new(spool.open(), blob))),
            Source::Registry(reference) => {
                let (content, name) = (self.content(), reference.repository_name());
                content.check(&name, reference, false)?;
                match content.blob(reference, &blob.digest) {
                    Some(bytes) => Ok(Box::new(VerifiedReader::new(Cursor::new(bytes.clone()), blob))),
                    None => Err(StoreError::BlobNotFound { name, digest: blob.digest }),
                }
            }
            Source::Tar(_) | Source::Layout(_) | Source::Absent => {
                Err(StoreError::BlobNotFound { name: "memory".to_owned(), digest: blob.digest })
            }
        }
    }

    fn check_read(&self, name: &str) -> Result<(), StoreError> {
        self.content().check(name, &parse(name)?, false)
    }

    fn check_write(&self, name: &str) -> Result<(), StoreError> {
        self.content().check(name, &parse(name)?, true)
    }

    fn push<'a>(&'a self, name: &str, also: &[String]) -> Result<Box<dyn Push + 'a>, StoreError> {
        let mut names = vec![(name.to_owned(), parse(name)?)];
        self.content().check(name, &names[0].1, true)?;
        for name in also {
            names.push((name.clone(), parse(name)?));
        }
        Ok(Box::new(MemoryPush { store: self, names }))
    }

    fn delete(&self, name: &str, digest: &Digest) -> Result<(), StoreError> {
        let reference = parse(name)?;
        let mut content = self.content();
        content.check(name, &reference, true)?;
        let Some(repository) = content.repositories.get_mut(&reference.repository_name()) else {
            return Err(StoreError::NotFound { name: name.to_owned() });
        };
        repository.tags.retain(|_, tagged| tagged != digest);
        match repository.manifests.remove(digest) {
            Some(_) => Ok(()),
            None => Err(StoreError::NotFound { name: name.to_owned() }),
        }
    }

    fn encodings(&self) -> Encodings {
        Encodings::Blob
    }
}

fn failed(action: String, cause: std::io::Error) -> StoreError {
    StoreError::Failed { action, cause: cause.into() }
}

struct MemoryPush<'a> {
    store: &'a MemoryStore,
    names: Vec<(String, Reference)>,
}

impl MemoryPush<'_> {
    fn put_layer(&self, repository: &Reference, layer: &Layer) -> Result<(), StoreError> {
        let Some(blob) = &layer.blob else {
            return Err(StoreError::BlobNotFound { name: repository.repository_name(), digest: layer.diff_id });
        };
        if self.store.content().blob(repository, &blob.digest).is_some() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        let mut reader = self.store.read_blob(layer)?;
        reader.read_to_end(&mut bytes).map_err(|cause| failed(format!("read blob {}", blob.digest), cause))?;
        let mut content = self.store.content();
        content.repositories.entry(repository.repository_name()).or_default().blobs.insert(blob.digest, bytes);
        Ok(())
    }

    fn put_image(&self, name: &str, reference: &Reference, image: &Image, tagged: bool) -> Result<(), StoreError> {
        self.store.content().check(name, reference, true)?;
        for layer in &image.layers {
            self.put_layer(reference, layer)?;
        }
        let mut content = self.store.content();
        let repository = content.repositories.entry(reference.repository_name()).or_default();
        let manifest = &image.manifest;
        repository.blobs.insert(manifest.config.digest, image.config.bytes().into_owned());
        repository.manifests.insert(manifest.digest, (manifest.media_type.clone(), manifest.bytes.clone()));
        if !tagged {
            return Ok(());
        }
        if let Some(tag) = &reference.tag {
            repository.tags.insert(tag.clone(), manifest.digest);
        }
        content.writes.push(name.to_owned());
        Ok(())
    }
}

impl Push for MemoryPush<'_> {
    fn layer(&self, layer: &Layer) -> Result<(), StoreError> {
        match self.names.first() {
            Some((_, reference)) => self.put_layer(reference, layer),
            None => Ok(()),
        }
    }

    fn finish(self: Box<Self>, image: &Image) -> Result<Pushed, StoreError> {
        self.end(image, true)
    }

    fn finish_untagged(self: Box<Self>, image: &Image) -> Result<Pushed, StoreError> {
        self.end(image, false)
    }
}

impl MemoryPush<'_> {
    fn end(&self, image: &Image, tagged: bool) -> Result<Pushed, StoreError> {
        let first = self.names.first().map(|(name, _)| name.clone()).unwrap_or_default();
        validate::image(image).map_err(|error| StoreError::Corrupt { name: first, reason: error.to_string() })?;
        let put =
            |(name, reference): &(String, Reference)| (name.clone(), self.put_image(name, reference, image, tagged));
        let names: Vec<_> = self.names.iter().map(put).collect();
        let identifier = self.names.first().map(|(_, first)| first.with_digest(image.manifest.digest).name());
        Ok(Pushed {
            identifier: identifier.unwrap_or_default(),
            digest: image.manifest.digest,
            manifest_size: image.manifest.bytes.len() as u64,
            names,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract::{Subject, run};
    use super::*;

    #[test]
    fn does_what_every_store_does() {
        let temp = tempfile::tempdir().expect("a directory");
        let store = MemoryStore::new();
        run(&Subject { store: &store, prefix: "localhost:5000/contract", temp: temp.path(), deletes: true });
    }
}

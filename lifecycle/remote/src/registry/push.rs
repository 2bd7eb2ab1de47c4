//! Pushing one image under one or more names: blobs once for each repository, manifests last.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use lifecycle::digest::Digest;
use lifecycle::image::{
    BlobRef, Document, Format, Image, Layer, Push, Pushed, Reference, Source, StoreError, acceptable, validate,
};
use platform_spec::target::Platform;
use ureq::http::{Method, header};

use super::Registries;
use super::client::{Client, Request, Target};
use super::error::CallError;
use super::pull::{document, manifest_path};
use super::token::Scopes;
use super::upload::{From, Upload};
use crate::transport::Body;

/// Answers to a manifest are small.
const ANSWER_LIMIT: u64 = 64 << 10;

/// How many layers are looked for, mounted or sent at a time at the end of a push.
const THREADS: usize = 4;

/// A push that has begun.
pub(super) struct RegistryPush<'a> {
    registries: &'a Registries,
    names: Vec<Name>,
    repositories: Vec<Repository>,
}

/// One of the names.
#[derive(Clone)]
struct Name {
    given: String,
    reference: Reference,
    /// Which of the repositories it is in.
    repository: usize,
}

/// A repository into which the image goes.
struct Repository {
    /// The first of the names in it.
    given: String,
    reference: Reference,
    client: Arc<Client>,
    /// Blobs that are there, or on their way: whoever comes second waits for the first.
    blobs: Mutex<HashMap<Digest, Arc<Mutex<bool>>>>,
    /// Why nothing more is sent there.
    failed: Mutex<Option<StoreError>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> RegistryPush<'a> {
    pub(super) fn begin(registries: &'a Registries, names: &[&str]) -> Result<Self, StoreError> {
        let mut push = Self { registries, names: Vec::new(), repositories: Vec::new() };
        for given in names {
            let reference = super::error::parse(given)?;
            let same = |repository: &Repository| repository.reference.repository_name() == reference.repository_name();
            let repository = match push.repositories.iter().position(same) {
                Some(found) => found,
                None => {
                    push.repositories.push(Repository {
                        given: (*given).to_owned(),
                        reference: reference.clone(),
                        client: registries.client(given, &reference),
                        blobs: Mutex::default(),
                        failed: Mutex::default(),
                    });
                    push.repositories.len() - 1
                }
            };
            push.names.push(Name { given: (*given).to_owned(), reference, repository });
        }
        Ok(push)
    }

    /// Does something for each repository in which nothing has failed yet. An error of one does not stop the others;
    /// it is an error of all only if none is left.
    fn each(&self, action: impl Fn(&Repository) -> Result<(), StoreError>) -> Result<(), StoreError> {
        for repository in &self.repositories {
            if lock(&repository.failed).is_some() {
                continue;
            }
            if let Err(error) = action(repository) {
                lock(&repository.failed).get_or_insert(error);
            }
        }
        let mut first = None;
        for repository in &self.repositories {
            match &*lock(&repository.failed) {
                None => return Ok(()),
                Some(error) => first = first.or_else(|| Some(again(error))),
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Sees to it that a layer is in a repository.
    fn ensure_layer(&self, repository: &Repository, layer: &Layer) -> Result<(), StoreError> {
        let Some(blob) = &layer.blob else {
            return Err(StoreError::Failed {
                action: format!("push layer {} to {}", layer.diff_id, repository.given),
                cause: "it was not compressed".into(),
            });
        };
        // The bytes of such layers are not for registries; their manifest says where they are.
        if blob.media_type.contains(".foreign.") || blob.media_type.contains(".nondistributable.") {
            return Ok(());
        }
        let blobs;
        let from = match &layer.source {
            Source::Packed(spool) => From::Spool(spool),
            Source::Layout(path) => {
                blobs = path.join("blobs/sha256").join(blob.digest.hex());
                From::File(&blobs)
            }
            Source::Registry(reference) => From::Repository(self.registries.client_again(reference), reference),
            Source::Tar(_) | Source::Absent => From::Nowhere,
        };
        self.ensure(repository, blob, &from)
    }

    /// Sees to it, once, that a blob is in a repository.
    fn ensure(&self, repository: &Repository, blob: &BlobRef, from: &From<'_>) -> Result<(), StoreError> {
        let known = lock(&repository.blobs).entry(blob.digest).or_default().clone();
        let mut there = lock(&known);
        if *there {
            return Ok(());
        }
        let upload = Upload { client: &repository.client, repository: &repository.reference.repository };
        let failed = |error: CallError| error.into_store(&repository.given, &format!("push blob {} to", blob.digest));
        if matches!(from, From::Nowhere) && !upload.has(&blob.digest).map_err(failed)? {
            return Err(StoreError::BlobNotFound { name: repository.reference.repository_name(), digest: blob.digest });
        }
        let mount = self.mountable(repository, blob, from);
        let outcome = upload.put(blob, mount.as_deref(), from).map_err(failed)?;
        log::debug!("blob {} of {}: {outcome:?}", blob.digest, repository.reference.repository_name());
        *there = true;
        Ok(())
    }

    /// A repository of the same registry that has a blob.
    fn mountable(&self, to: &Repository, blob: &BlobRef, from: &From<'_>) -> Option<String> {
        let (registry, own) = (&to.reference.registry, &to.reference.repository);
        if let From::Repository(_, reference) = from
            && reference.registry == *registry
            && reference.repository != *own
        {
            return Some(reference.repository.clone());
        }
        // Repositories are worked on in their order: an earlier one has it already, if it is ours.
        let earlier = self.repositories.iter().take_while(|repository| !std::ptr::eq(*repository, to));
        let mut same_registry = earlier.filter(|repository| repository.reference.registry == *registry);
        let has = |repository: &&Repository| {
            let known = lock(&repository.blobs).get(&blob.digest).cloned();
            known.is_some_and(|known| *lock(&known))
        };
        same_registry.find(has).map(|repository| repository.reference.repository.clone())
    }

    /// All of an image's blobs: layers, several at a time, then the config.
    fn ensure_all(&self, repository: &Repository, image: &Image) -> Result<(), StoreError> {
        let waiting = Mutex::new(image.layers.iter());
        let failed = Mutex::new(None);
        thread::scope(|scope| {
            for _ in 0..THREADS.min(image.layers.len()) {
                scope.spawn(|| {
                    while lock(&failed).is_none() {
                        let Some(layer) = lock(&waiting).next() else { break };
                        if let Err(error) = self.ensure_layer(repository, layer) {
                            lock(&failed).get_or_insert(error);
                        }
                    }
                });
            }
        });
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        self.ensure(repository, &image.manifest.config, &From::Bytes(&image.config.bytes()))
    }

    fn name(&self, name: &Name, repository: &Repository, image: &Image) -> Result<(), StoreError> {
        if let Some(digest) = name.reference.digest
            && digest != image.manifest.digest
        {
            let reason = format!("the image's digest is {}", image.manifest.digest);
            return Err(StoreError::Name { name: name.given.clone(), reason });
        }
        if self.is_there(name, repository, image)? {
            return Ok(());
        }
        match put_manifest(name, repository, image) {
            // It has lost, or not yet found, what was there a moment ago: look and send again, once.
            Err(CallError::Status { status: 400 | 404, told: Some(told), .. }) if told.contains("BLOB_UNKNOWN") => {
                log::debug!("put manifest of {}: {told}; sending blobs again", name.given);
                lock(&repository.blobs).clear();
                self.ensure_all(repository, image)?;
                put_manifest(name, repository, image)
            }
            result => result,
        }
        .map_err(|error| error.into_store(&name.given, "put manifest of"))
    }

    /// Whether the name is this very image already.
    fn is_there(&self, name: &Name, repository: &Repository, image: &Image) -> Result<bool, StoreError> {
        let scopes = Scopes::push(&name.reference.repository);
        let target = Target::Path(manifest_path(&name.reference));
        let request = Request {
            headers: vec![(header::ACCEPT, acceptable().join(", "))],
            ..repository.client.request(Method::HEAD, target, &scopes, &[200])
        };
        match repository.client.call(&request, ANSWER_LIMIT) {
            Ok(answer) => {
                let kind = answer.header(header::CONTENT_TYPE).unwrap_or_default();
                if Format::of_index(kind).is_some() {
                    warn_of_index(name, repository, image);
                }
                let found = answer.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
                Ok(found == Some(image.manifest.digest))
            }
            Err(error) => match error.status() {
                Some(401 | 403) => Err(error.into_store(&name.given, "look for")),
                Some(status) if status < 500 => Ok(false),
                _ => Err(error.into_store(&name.given, "look for")),
            },
        }
    }
}

/// Names the platforms whose images lose their name: what the name is now, an index, is replaced.
fn warn_of_index(name: &Name, repository: &Repository, image: &Image) {
    let own = Platform::new(image.config.os(), image.config.architecture(), image.config.variant()).to_string();
    let lost = match document(&repository.client, &name.given, &name.reference) {
        Ok(Document::Index(index)) => index.platforms().into_iter().filter(|platform| *platform != own).collect(),
        // Whoever has changed it meanwhile, or whatever is wrong with it: it is replaced all the same.
        Ok(Document::Manifest(_)) | Err(_) => Vec::new(),
    };
    let lost = if lost.is_empty() { String::new() } else { format!("; gone from it: {}", lost.join(", ")) };
    log::warn!("{} is an image for several platforms and is replaced by one for {own}{lost}", name.given);
}

fn put_manifest(name: &Name, repository: &Repository, image: &Image) -> Result<(), CallError> {
    let scopes = Scopes::push(&name.reference.repository);
    let target = Target::Path(manifest_path(&name.reference));
    let request = Request {
        headers: vec![(header::CONTENT_TYPE, image.manifest.media_type.clone())],
        body: Body::Bytes(&image.manifest.bytes),
        ..repository.client.request(Method::PUT, target, &scopes, &[200, 201, 202])
    };
    let answer = repository.client.call(&request, ANSWER_LIMIT)?;
    match answer.header("docker-content-digest").map(str::parse::<Digest>) {
        Some(Ok(digest)) if digest != image.manifest.digest => Err(CallError::Answer {
            method: Method::PUT,
            url: Box::new(answer.url),
            what: format!("the registry has stored it as {digest}, not as {}", image.manifest.digest),
        }),
        _ => Ok(()),
    }
}

impl Push for RegistryPush<'_> {
    fn layer(&self, layer: &Layer) -> Result<(), StoreError> {
        self.each(|repository| self.ensure_layer(repository, layer))
    }

    fn finish(self: Box<Self>, image: &Image) -> Result<Pushed, StoreError> {
        self.end(image, &|name| Cow::Borrowed(name))
    }

    fn finish_untagged(self: Box<Self>, image: &Image) -> Result<Pushed, StoreError> {
        self.end(image, &|name| {
            // A name with another digest stays what it is, and is refused as ever.
            let digest = name.reference.digest.unwrap_or(image.manifest.digest);
            Cow::Owned(Name { reference: name.reference.with_digest(digest), ..name.clone() })
        })
    }
}

impl RegistryPush<'_> {
    /// Sends what is missing and puts the manifest under what `place` makes of each name.
    fn end(&self, image: &Image, place: &dyn Fn(&Name) -> Cow<'_, Name>) -> Result<Pushed, StoreError> {
        let Some(first) = self.names.first() else {
            return Err(StoreError::Failed { action: "push".to_owned(), cause: "there is no name".into() });
        };
        validate::image(image)
            .map_err(|error| StoreError::Corrupt { name: first.given.clone(), reason: error.to_string() })?;
        // If none is left, each name says why.
        let _ = self.each(|repository| self.ensure_all(repository, image));
        let mut names = Vec::new();
        for name in &self.names {
            let result = match self.repositories.get(name.repository) {
                Some(repository) => match &*lock(&repository.failed) {
                    Some(error) => Err(again(error)),
                    None => self.name(&place(name), repository, image),
                },
                // Indexes are made together with repositories.
                None => continue,
            };
            names.push((name.given.clone(), result));
        }
        Ok(Pushed {
            identifier: first.reference.with_digest(image.manifest.digest).name(),
            digest: image.manifest.digest,
            manifest_size: image.manifest.bytes.len() as u64,
            names,
        })
    }
}

/// The same error once more, for another name.
fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::Name { name, reason } => StoreError::Name { name: name.clone(), reason: reason.clone() },
        StoreError::NotFound { name } => StoreError::NotFound { name: name.clone() },
        StoreError::Unauthorized { name, request, told } => {
            StoreError::Unauthorized { name: name.clone(), request: request.clone(), told: told.clone() }
        }
        StoreError::Forbidden { name, request, told } => {
            StoreError::Forbidden { name: name.clone(), request: request.clone(), told: told.clone() }
        }
        StoreError::NoChild { name, wanted, available } => {
            StoreError::NoChild { name: name.clone(), wanted: wanted.clone(), available: available.clone() }
        }
        StoreError::OtherPlatform { name, wanted, found } => {
            StoreError::OtherPlatform { name: name.clone(), wanted: wanted.clone(), found: found.clone() }
        }
        StoreError::Corrupt { name, reason } => StoreError::Corrupt { name: name.clone(), reason: reason.clone() },
        StoreError::BlobNotFound { name, digest } => StoreError::BlobNotFound { name: name.clone(), digest: *digest },
        StoreError::Failed { action, cause } => StoreError::Failed {
            action: action.clone(),
            cause: lifecycle_launch::console::chain(cause.as_ref()).into(),
        },
    }
}

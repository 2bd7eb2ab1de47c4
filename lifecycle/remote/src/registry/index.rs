//! Changing the index under a tag: the requests of [`protocol`], and what a registry's answers to them mean.
//!
//! Tags are looked at by `HEAD`, several at a time; what is new is got by its digest. An index is put once: the client's
//! own repetition would put again, later, what others have changed meanwhile. The registry's clock is read from the
//! answer to a `POST` that begins an upload (cancelled at once), which no cache answers.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lifecycle::digest::Digest;
use lifecycle::image::index::protocol::{Ask, Outcome, Protocol, Step, Told};
use lifecycle::image::index::{check, names_of_children};
use lifecycle::image::{
    Child, Config, Format, Index, IndexChange, IndexError, Manifest, Reference, StoreError, WrittenIndex, acceptable,
};
use ureq::http::{Method, header};

use super::client::{Client, Request, Target};
use super::error::CallError;
use super::pull::{self, manifest_path};
use super::retry::{is_temporary, jitter, parse_date};
use super::token::Scopes;
use super::upload::Upload;
use crate::transport::Body;

/// Answers to a manifest are small.
const ANSWER_LIMIT: u64 = 64 << 10;

/// How many tags are looked at at a time.
const THREADS: usize = 4;

/// Changes the index under a tag; `name` is the reference as the caller gave it.
pub(super) fn write(
    client: &Client,
    name: &str,
    reference: &Reference,
    change: &IndexChange<'_>,
) -> Result<WrittenIndex, IndexError> {
    if let IndexChange::Merge(children) = change {
        // Who announces nothing merges nothing.
        children.iter().try_for_each(|child| check(name, &child.platform()))?;
    }
    let writer = Writer { tags: Tags { client, name, reference }, change, refused: RefCell::default() };
    let began = Instant::now();
    let tag = reference.identifier();
    let wanted = match change {
        IndexChange::Merge(children) => *children,
        IndexChange::Rewrite(_) => &[],
    };
    let mut run = match change {
        IndexChange::Merge(children) => Protocol::merge(&tag, children, Duration::ZERO),
        IndexChange::Rewrite(_) => Protocol::rewrite(&tag, Duration::ZERO),
    };
    let mut told = Told::Nothing;
    loop {
        told = match run.step(told, began.elapsed()) {
            Step::Ask(ask) => writer.answer(ask)?,
            Step::Done(index) => return Ok(WrittenIndex::of(name, *index, wanted)),
            Step::GivenUp(rounds) => {
                let (name, children) = (name.to_owned(), writer.children());
                return Err(IndexError::GivenUp { name, rounds, seconds: began.elapsed().as_secs(), children });
            }
            Step::Failed(cause) => return Err(writer.failed(cause)),
            Step::Gone(cause) => return Err(writer.gone(cause)),
        };
    }
}

/// One writer's run.
struct Writer<'a> {
    tags: Tags<'a>,
    change: &'a IndexChange<'a>,
    /// What the index has that was refused last because something is gone.
    refused: RefCell<Vec<Child>>,
}

/// The tags of the repository in which the index is.
#[derive(Clone, Copy)]
struct Tags<'a> {
    client: &'a Client,
    /// The index's name as given.
    name: &'a str,
    reference: &'a Reference,
}

impl Writer<'_> {
    fn children(&self) -> Vec<String> {
        names_of_children(self.tags.reference, self.change)
    }

    fn failed(&self, cause: StoreError) -> IndexError {
        IndexError::Store { name: self.tags.name.to_owned(), children: self.children(), cause }
    }

    /// Says what it is that the registry does not have any more.
    fn gone(&self, cause: StoreError) -> IndexError {
        let mut lost = Vec::new();
        for child in self.refused.take() {
            match self.tags.digest_of(&self.tags.reference.with_digest(child.blob.digest)) {
                Ok(Some(_)) => {}
                Ok(None) => lost.push(child),
                Err(error) => return self.failed(error),
            }
        }
        let (name, children) = (self.tags.name.to_owned(), self.children());
        let children = children
            .into_iter()
            .filter(|name| !lost.iter().any(|child| name.ends_with(&child.blob.digest.to_string())))
            .collect();
        IndexError::Gone { name, lost, children, cause: Some(cause.into()) }
    }

    fn answer(&self, ask: Ask) -> Result<Told, IndexError> {
        match ask {
            Ask::Clock => self.clock().map(Told::Clock).map_err(|error| self.failed(error)),
            Ask::Look(tags) => self.tags.look(&tags).map(Told::Digests).map_err(|error| self.failed(error)),
            Ask::Get(digest) => {
                match pull::document(self.tags.client, self.tags.name, &self.tags.reference.with_digest(digest)) {
                    Ok(document) => Ok(Told::Document(Some(document))),
                    Err(StoreError::NotFound { .. }) => Ok(Told::Document(None)),
                    Err(error @ StoreError::Corrupt { .. }) => Ok(Told::Unreadable(error)),
                    Err(error) => Err(self.failed(error)),
                }
            }
            Ask::Config(manifest) => self.config(&manifest).map(Told::Config).map_err(|error| self.failed(error)),
            Ask::Put { tag, index } => self.put(&tag, &index).map(Told::Put),
            Ask::Make(document) => match self.change {
                IndexChange::Rewrite(make) => match make(document.as_ref()) {
                    Ok(index) => Ok(Told::Made(Box::new(index))),
                    Err(cause) => Err(IndexError::Rewrite { name: self.tags.name.to_owned(), cause }),
                },
                // It is not asked for.
                IndexChange::Merge(_) => Ok(Told::Nothing),
            },
            Ask::Wait(longest) => {
                thread::sleep(longest.mul_f64(0.5 + jitter() / 2.0));
                Ok(Told::Waited)
            }
        }
    }

    fn clock(&self) -> Result<Option<i64>, StoreError> {
        let date = Upload { client: self.tags.client, repository: &self.tags.reference.repository }
            .try_out()
            .map_err(|error| error.into_store(self.tags.name, "ask for the time of the registry of"))?;
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
        let time = date.as_deref().and_then(parse_date).and_then(seconds).and_then(|time| i64::try_from(time).ok());
        if time.is_none() {
            log::warn!(
                "{}: the registry does not say what time it is; this machine's clock is used, and has to be right",
                self.tags.reference.registry
            );
        }
        Ok(time)
    }

    /// A manifest's config, if it is an image's.
    fn config(&self, manifest: &Manifest) -> Result<Option<Config>, StoreError> {
        if !Format::ALL.iter().any(|format| format.config() == manifest.config.media_type) {
            return Ok(None);
        }
        match pull::config(self.tags.client, self.tags.name, self.tags.reference, &manifest.config) {
            Ok(bytes) => Ok(Config::parse(bytes).ok()),
            Err(StoreError::BlobNotFound { .. } | StoreError::Corrupt { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn put(&self, tag: &str, index: &Index) -> Result<Outcome, IndexError> {
        let reference = self.tags.tagged(tag);
        let scopes = Scopes::push(&reference.repository);
        let request = Request {
            headers: vec![(header::CONTENT_TYPE, index.media_type.clone())],
            body: Body::Bytes(&index.bytes),
            once: true,
            ..self.tags.client.request(Method::PUT, Target::Path(manifest_path(&reference)), &scopes, &[200, 201, 202])
        };
        let error = match self.tags.client.call(&request, ANSWER_LIMIT) {
            Ok(_) => return Ok(Outcome::Done),
            Err(error) => error,
        };
        let (name, children) = (self.tags.name.to_owned(), self.children());
        let wait = error.retry_after();
        let kind = Refusal::of(&error);
        let action = format!("put tag {tag} of");
        match kind {
            Refusal::Unknown => {
                if let Some(wait) = wait {
                    thread::sleep(wait.min(self.tags.client.patience.longest_delay));
                }
                Ok(Outcome::Unknown(error.into_store(self.tags.name, &action)))
            }
            Refusal::Immutable => {
                Err(IndexError::Immutable { name, tag: tag.to_owned(), children, cause: error.into() })
            }
            Refusal::Index => Err(IndexError::Refused { name, children, cause: error.into() }),
            Refusal::Gone => {
                self.refused.replace(index.children.clone());
                Ok(Outcome::Gone(error.into_store(self.tags.name, &action)))
            }
            Refusal::Other => Err(self.failed(error.into_store(self.tags.name, &action))),
        }
    }
}

impl Tags<'_> {
    /// A tag of the same repository.
    fn tagged(&self, tag: &str) -> Reference {
        Reference { tag: Some(tag.to_owned()), digest: None, ..self.reference.clone() }
    }

    /// What tags name, several looked at at a time.
    fn look(&self, tags: &[String]) -> Result<Vec<Option<Digest>>, StoreError> {
        if let [tag] = tags {
            return Ok(vec![self.digest(tag)?]);
        }
        let waiting = Mutex::new(tags.iter().enumerate());
        let found = Mutex::new(Ok(vec![None; tags.len()]));
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    loop {
                        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                        let Some((at, tag)) = next else { break };
                        let digest = self.digest(tag);
                        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                        match (&mut *found, digest) {
                            (Ok(digests), Ok(digest)) => digests[at] = digest,
                            (found @ Ok(_), Err(error)) => *found = Err(error),
                            (Err(_), _) => break,
                        }
                    }
                });
            }
        });
        found.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a tag names.
    fn digest(&self, tag: &str) -> Result<Option<Digest>, StoreError> {
        self.digest_of(&self.tagged(tag))
    }

    /// What is there under a tag or a digest.
    fn digest_of(&self, reference: &Reference) -> Result<Option<Digest>, StoreError> {
        let tag = reference.identifier();
        let scopes = Scopes::push(&reference.repository);
        let ask = |method| Request {
            headers: vec![(header::ACCEPT, acceptable().join(", "))],
            ..self.client.request(method, Target::Path(manifest_path(reference)), &scopes, &[200])
        };
        let stated = match self.client.call(&ask(Method::HEAD), ANSWER_LIMIT) {
            Ok(answer) => answer.header("docker-content-digest").and_then(|text| text.parse().ok()),
            Err(error) => match error.status() {
                Some(404) => return Ok(None),
                // A registry that knows no HEAD.
                Some(405 | 501) => None,
                _ => return Err(error.into_store(self.name, &format!("look at {tag} of"))),
            },
        };
        if stated.is_some() {
            return Ok(stated);
        }
        match self.client.call(&ask(Method::GET), pull::DOCUMENT_LIMIT) {
            Ok(answer) => Ok(Some(Digest::of(&answer.body))),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error.into_store(self.name, &format!("look at {tag} of"))),
        }
    }
}

/// Why an index was not put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// It may have been: no answer, or that of a registry in trouble.
    Unknown,
    /// The tag cannot be moved.
    Immutable,
    /// Because it is an index.
    Index,
    /// Something that the index names is not there.
    Gone,
    /// For another reason: credentials, no such repository.
    Other,
}

impl Refusal {
    fn of(error: &CallError) -> Self {
        match error {
            CallError::NoAnswer { .. } => Self::Unknown,
            CallError::Status { status, .. } if is_temporary(*status) => Self::Unknown,
            CallError::Status { status, told, .. } => Self::of_status(*status, told.as_deref().unwrap_or_default()),
            CallError::Answer { .. }
            | CallError::Unreachable { .. }
            | CallError::Realm { .. }
            | CallError::InsecureRealm { .. }
            | CallError::Token { .. }
            | CallError::Credential(_) => Self::Other,
        }
    }

    /// Registries have no common words for these: `told` is the answer's text.
    fn of_status(status: u16, told: &str) -> Self {
        let told = told.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| told.contains(word));
        if matches!(status, 409 | 412) || says(&["immutab", "cannot be overwritten", "already exist", "locked"]) {
            return Self::Immutable;
        }
        match status {
            401 | 403 => Self::Other,
            _ if says(&["manifest_blob_unknown", "manifest_unknown", "blob_unknown", "blob unknown"]) => Self::Gone,
            400 | 404 | 405 | 406 | 415 | 422 | 501 if says(&["manifest_invalid", "media type", "mediatype"]) => {
                Self::Index
            }
            // The name is none.
            _ if says(&["unknown", "tag_invalid", "name_invalid", "quota"]) => Self::Other,
            400 | 404 | 405 | 406 | 415 | 422 | 501 => Self::Index,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_refusals_mean() {
        for (status, told, expected) in [
            (400, "MANIFEST_INVALID: manifest invalid", Refusal::Index),
            (415, "", Refusal::Index),
            (400, "MANIFEST_INVALID: unknown media type", Refusal::Index),
            (415, "UNKNOWN: mediaType is not supported", Refusal::Index),
            (404, "", Refusal::Index),
            (405, "UNSUPPORTED: The operation is unsupported.", Refusal::Index),
            (400, "MANIFEST_BLOB_UNKNOWN: blob unknown to registry", Refusal::Gone),
            (404, "NAME_UNKNOWN: repository name not known to registry", Refusal::Other),
            (401, "UNAUTHORIZED: authentication required", Refusal::Other),
            (403, "DENIED: requested access to the resource is denied", Refusal::Other),
            (403, "DENIED: tag is immutable", Refusal::Immutable),
            (
                400,
                "TAG_INVALID: The image tag '1' already exists in the 'app' repository and cannot be overwritten \
                 because the repository is immutable.",
                Refusal::Immutable,
            ),
            (
                412,
                "PRECONDITION: Failed to process request due to 'app:1' configured as immutable.",
                Refusal::Immutable,
            ),
            (409, "", Refusal::Immutable),
            (413, "quota exceeded", Refusal::Other),
        ] {
            assert_eq!(Refusal::of_status(status, told), expected, "{status} {told}");
        }
    }
}

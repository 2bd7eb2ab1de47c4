//! Images in registries (OCI distribution specification).
//!
//! - [`client`]: one registry; [`plain`] decides between http and https, [`challenge`] and [`token`] prove who we are,
//!   [`retry`] knows when to try again, [`error`] what a refusal means;
//! - [`pull`] opens images, [`blob`] reads layers;
//! - [`upload`] sends blobs, [`push`] images, [`index`] changes the index under a tag.
//!
//! [`Registries`] holds the clients, [`RegistryStore`] is what phases see.

mod blob;
mod challenge;
mod client;
mod error;
mod index;
mod plain;
mod pull;
mod push;
mod retry;
mod token;
mod upload;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use lifecycle::digest::Digest;
use lifecycle::image::index::check_name;
use lifecycle::image::{
    Document, Encodings, Image, IndexChange, IndexError, Layer, Push, Reference, Source, Store, StoreError,
    VerifiedReader, WrittenIndex, acceptable,
};
use platform_spec::target::Target as Platform;
use ureq::http::{Method, header};

use crate::credentials::Keychain;
use crate::transport::Transport;
use blob::Blob;
use client::{Client, Request, Target};
use error::parse;
use plain::Plain;
use push::RegistryPush;
pub(crate) use retry::Patience;
use token::Scopes;
use upload::Upload;

/// Answers to a `HEAD` or a `DELETE` are small.
const ANSWER_LIMIT: u64 = 64 << 10;

/// The registries that were spoken to: connections, tokens, and how each is spoken to.
pub(crate) struct Registries {
    transport: Arc<Transport>,
    keychain: Arc<Keychain>,
    insecure: Vec<String>,
    patience: Patience,
    clients: Mutex<HashMap<(String, Plain), Arc<Client>>>,
    /// Repositories that were named such that `-insecure-registry` covers them: their layers know no name as given.
    named: Mutex<HashSet<String>>,
}

impl std::fmt::Debug for Registries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registries").field("insecure", &self.insecure).finish_non_exhaustive()
    }
}

impl Registries {
    /// `insecure` are prefixes of image names as given.
    pub(crate) fn new(transport: Transport, keychain: Keychain, insecure: Vec<String>, patience: Patience) -> Self {
        Self {
            transport: Arc::new(transport),
            keychain: Arc::new(keychain),
            insecure,
            patience,
            clients: Mutex::default(),
            named: Mutex::default(),
        }
    }

    /// The registry of an image; `name` is the reference as given.
    fn client(&self, name: &str, reference: &Reference) -> Arc<Client> {
        let plain = Plain::of(name, &reference.registry, &self.insecure);
        if plain == Plain::Named {
            let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
            named.insert(reference.repository_name());
        }
        self.client_of(reference, plain)
    }

    /// The registry of a layer of an image that was opened before.
    fn client_again(&self, reference: &Reference) -> Arc<Client> {
        let name = reference.repository_name();
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner).contains(&name);
        let plain = if named { Plain::Named } else { Plain::of(&name, &reference.registry, &self.insecure) };
        self.client_of(reference, plain)
    }

    fn client_of(&self, reference: &Reference, plain: Plain) -> Arc<Client> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let registry = &reference.registry;
        let new = || {
            let (transport, keychain) = (self.transport.clone(), self.keychain.clone());
            Arc::new(Client::new(registry, plain, transport, self.patience.clone(), keychain))
        };
        clients.entry((registry.clone(), plain)).or_insert_with(new).clone()
    }
}

/// All registries as one store: a name says which one it is in.
#[derive(Debug)]
pub(crate) struct RegistryStore(pub(crate) Arc<Registries>);

impl Store for RegistryStore {
    fn open(&self, name: &str, target: &Platform) -> Result<Image, StoreError> {
        let reference = parse(name)?;
        pull::open(&self.0.client(name, &reference), name, &reference, target)
    }

    fn document(&self, name: &str) -> Result<Document, StoreError> {
        let reference = parse(name)?;
        pull::document(&self.0.client(name, &reference), name, &reference)
    }

    fn name_by_digest(&self, name: &str, digest: &Digest) -> Result<String, StoreError> {
        Ok(parse(name)?.with_digest(*digest).name())
    }

    fn write_index(&self, name: &str, change: &IndexChange<'_>) -> Result<WrittenIndex, IndexError> {
        let reference = check_name(name)?;
        index::write(&self.0.client(name, &reference), name, &reference, change)
    }

    fn has_blob(&self, layer: &Layer) -> Result<bool, StoreError> {
        let Some(blob) = &layer.blob else { return Ok(false) };
        match &layer.source {
            Source::Registry(reference) => {
                let client = self.0.client_again(reference);
                let scopes = Scopes::pull(&reference.repository);
                blob::is_there(&client, &reference.repository, &scopes, &blob.digest)
                    .map_err(|error| error.into_store(&reference.repository_name(), "look for a layer of"))
            }
            Source::Packed(_) => Ok(true),
            Source::Layout(path) => Ok(path.join("blobs/sha256").join(blob.digest.hex()).is_file()),
            Source::Tar(_) | Source::Absent => Ok(false),
        }
    }

    fn read_blob(&self, layer: &Layer) -> Result<Box<dyn Read + Send>, StoreError> {
        let action = || format!("read layer {}", layer.diff_id);
        let Some(blob) = &layer.blob else {
            return Err(StoreError::Failed { action: action(), cause: "it has no blob".into() });
        };
        let file = |path: &std::path::Path| -> Result<Box<dyn Read + Send>, StoreError> {
            let file = std::fs::File::open(path)
                .map_err(|cause| StoreError::Failed { action: action(), cause: Box::new(cause) })?;
            Ok(Box::new(VerifiedReader::new(file, blob)))
        };
        match &layer.source {
            Source::Registry(reference) => Ok(Box::new(Blob::open(self.0.client_again(reference), reference, blob)?)),
            Source::Packed(spool) => Ok(Box::new(VerifiedReader::new(spool.open(), blob))),
            Source::Layout(path) => file(&path.join("blobs/sha256").join(blob.digest.hex())),
            Source::Tar(_) | Source::Absent => {
                Err(StoreError::Failed { action: action(), cause: "its blob is nowhere".into() })
            }
        }
    }

    fn check_read(&self, name: &str) -> Result<(), StoreError> {
        let reference = parse(name)?;
        let client = self.0.client(name, &reference);
        let scopes = Scopes::pull(&reference.repository);
        let target = Target::Path(pull::manifest_path(&reference));
        let request = Request {
            headers: vec![(header::ACCEPT, acceptable().join(", "))],
            ..client.request(Method::HEAD, target, &scopes, &[200])
        };
        match client.call(&request, ANSWER_LIMIT) {
            Ok(_) => Ok(()),
            Err(error) => match error.status() {
                // It let us ask.
                Some(status) if status < 500 && !matches!(status, 401 | 403 | 407 | 408 | 429) => Ok(()),
                _ => Err(error.into_store(name, "check read access to")),
            },
        }
    }

    fn check_write(&self, name: &str) -> Result<(), StoreError> {
        let reference = parse(name)?;
        let client = self.0.client(name, &reference);
        Upload { client: &client, repository: &reference.repository }
            .try_out()
            .map(drop)
            .map_err(|error| error.into_store(name, "check write access to"))
    }

    fn push<'a>(&'a self, name: &str, also: &[String]) -> Result<Box<dyn Push + 'a>, StoreError> {
        let names: Vec<&str> = std::iter::once(name).chain(also.iter().map(String::as_str)).collect();
        Ok(Box::new(RegistryPush::begin(&self.0, &names)?))
    }

    fn delete(&self, name: &str, digest: &Digest) -> Result<(), StoreError> {
        let reference = parse(name)?.with_digest(*digest);
        let client = self.0.client(name, &reference);
        let scopes = Scopes::delete(&reference.repository);
        let target = Target::Path(pull::manifest_path(&reference));
        let request = client.request(Method::DELETE, target, &scopes, &[200, 202, 204]);
        match client.call(&request, ANSWER_LIMIT) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.into_store_for_image(&format!("{name}@{digest}"), "delete")),
        }
    }

    fn encodings(&self) -> Encodings {
        Encodings::Blob
    }
}

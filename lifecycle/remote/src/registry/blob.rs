//! Reading blobs: checked while they are read, and gone on with where a connection was cut.

use std::io::{self, Read};
use std::sync::Arc;

use lifecycle::digest::{Digest, Hasher};
use lifecycle::image::{BlobRef, Reference, StoreError};
use ureq::http::{Method, header};

use super::client::{Client, Request, Target};
use super::error::CallError;
use super::retry::Attempts;
use super::token::Scopes;
use crate::transport::Response;
use crate::url::host_and_port;

/// A blob that comes from a registry.
pub(super) struct Blob {
    client: Arc<Client>,
    /// `<registry>/<repository>`, for messages.
    name: String,
    scopes: Scopes,
    path: String,
    digest: Digest,
    size: u64,
    position: u64,
    hasher: Hasher,
    body: Option<Box<dyn Read + Send>>,
    attempts: Attempts,
}

/// `/v2/<repository>/blobs/<digest>`.
pub(super) fn path(repository: &str, digest: &Digest) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}

/// Whether a repository has a blob.
pub(super) fn is_there(client: &Client, repository: &str, scopes: &Scopes, digest: &Digest) -> Result<bool, CallError> {
    let ask = |method| client.request(method, Target::Path(path(repository, digest)), scopes, &[200]);
    let answer = match client.call(&ask(Method::HEAD), 0).map(drop) {
        // A store to which the registry has sent us and that answers GET only: the registry knows the blob.
        Err(CallError::Status { status, url, .. })
            if status != 404 && host_and_port(&client.registry).0 != url.host() =>
        {
            Ok(())
        }
        // A registry that knows no HEAD shows it by beginning to give the blob.
        Err(CallError::Status { status: 405 | 501, .. }) => client.stream(&ask(Method::GET)).map(drop),
        answer => answer,
    };
    match answer {
        Ok(()) => Ok(true),
        Err(error) if error.status() == Some(404) => Ok(false),
        Err(error) => Err(error),
    }
}

impl Blob {
    /// Begins to read a blob of a repository.
    pub(super) fn open(client: Arc<Client>, reference: &Reference, blob: &BlobRef) -> Result<Self, StoreError> {
        let repository = &reference.repository;
        let mut reader = Self {
            name: reference.repository_name(),
            scopes: Scopes::pull(repository),
            path: path(repository, &blob.digest),
            digest: blob.digest,
            size: blob.size,
            position: 0,
            hasher: Hasher::new(),
            body: None,
            attempts: Attempts::new(&client.patience),
            client,
        };
        let response = reader.request().map_err(|error| match error.status() {
            Some(404) => StoreError::BlobNotFound { name: reader.name.clone(), digest: reader.digest },
            _ => error.into_store(&reader.name, &format!("read blob {} of", reader.digest)),
        })?;
        reader.check_length(&response)?;
        reader.body = Some(response.reader());
        if reader.size == 0 {
            reader.check_digest()?;
        }
        Ok(reader)
    }

    fn request(&self) -> Result<Response, CallError> {
        let mut limits = self.client.transport.limits();
        limits.total = self.client.transport.timeouts.for_blob(self.size);
        let mut headers = Vec::new();
        if self.position > 0 {
            headers.push((header::RANGE, format!("bytes={}-", self.position)));
        }
        let target = Target::Path(self.path.clone());
        let expected: &[u16] = if self.position > 0 { &[200, 206] } else { &[200] };
        self.client.stream(&Request {
            headers,
            limits,
            ..self.client.request(Method::GET, target, &self.scopes, expected)
        })
    }

    /// A wrong length is found before a byte is used; an answer to `Range` states another one.
    fn check_length(&self, response: &Response) -> Result<(), StoreError> {
        let length = response.header(header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
        match length {
            Some(length) if response.status == 200 && length != self.size => {
                Err(self.corrupt(format!("its size should be {}, but is {length}", self.size)))
            }
            _ => Ok(()),
        }
    }

    fn corrupt(&self, what: String) -> StoreError {
        StoreError::Corrupt { name: self.name.clone(), reason: format!("blob {}: {what}", self.digest) }
    }

    fn check_digest(&mut self) -> Result<(), StoreError> {
        let (found, _) = std::mem::take(&mut self.hasher).finish();
        if found == self.digest { Ok(()) } else { Err(self.corrupt(format!("its digest is {found}"))) }
    }

    /// Goes on where reading stopped.
    fn go_on(&mut self) -> io::Result<Box<dyn Read + Send>> {
        let action = format!("read blob {} of", self.digest);
        let response = self.request().map_err(|error| io::Error::other(error.into_store(&self.name, &action)))?;
        self.check_length(&response).map_err(io::Error::other)?;
        if response.status == 206 {
            let begins = format!("bytes {}-", self.position);
            if !response.header(header::CONTENT_RANGE).is_some_and(|range| range.starts_with(&begins)) {
                return Err(io::Error::other(self.corrupt("the server sent another part of it".to_owned())));
            }
            return Ok(response.reader());
        }
        let mut body = response.reader();
        let skipped = io::copy(&mut body.by_ref().take(self.position), &mut io::sink())?;
        if skipped < self.position {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(body)
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.position).unwrap_or(usize::MAX);
        let end = left.min(buffer.len());
        let Some(buffer) = buffer.get_mut(..end).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        loop {
            let read = match self.body.take().map_or_else(|| self.go_on(), Ok) {
                Ok(mut body) => {
                    let read = body.read(buffer);
                    self.body = Some(body);
                    read
                }
                // Not what an attempt more could mend, or it has made its attempts already.
                Err(error) if error.get_ref().is_some_and(|inner| inner.is::<StoreError>()) => return Err(error),
                Err(error) => Err(error),
            };
            let error = match read {
                Ok(0) => io::ErrorKind::UnexpectedEof.into(),
                Ok(count) => {
                    self.hasher.update(&buffer[..count]);
                    self.position += count as u64;
                    if self.position == self.size {
                        // Before the last bytes are given away, so that nobody takes them for the whole.
                        self.check_digest().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                        // Reading up to the end gives the connection back.
                        let _ = self.body.take().map(|mut body| body.read(&mut [0]));
                    }
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            self.body = None;
            log::debug!("blob {} of {}: {error} after {} bytes", self.digest, self.name, self.position);
            if !self.attempts.again(None) {
                let action = format!("read blob {} of {}", self.digest, self.name);
                return Err(io::Error::other(StoreError::Failed { action, cause: Box::new(error) }));
            }
        }
    }
}

//! Blobs on their way into a repository: looked for, mounted from another repository, sent.
//!
//! A blob is sent by one `PUT` that carries all of it. If that fails, what has arrived is gone on with if the registry
//! says how much it is, and else a new upload begins; the registry checks the digest at the end.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use lifecycle::digest::Digest;
use lifecycle::image::{BlobRef, Reference};
use lifecycle::layer::Spool;
use ureq::http::{Method, header};

use super::blob::{self, Blob};
use super::client::{Answer, Client, Request, Target};
use super::error::CallError;
use super::retry::Attempts;
use super::token::Scopes;
use crate::transport::{Body, ExchangeError, follow};
use crate::url::Url;

/// Smaller blobs are sent without asking whether they are wanted: it would cost more than it saves.
const ASK_FROM: u64 = 64 << 10;

/// Less than this is not worth going on with.
const GO_ON_FROM: u64 = 1 << 20;

/// Answers are small.
const ANSWER_LIMIT: u64 = 64 << 10;

/// Where a blob's bytes come from. Opened anew for each attempt.
pub(super) enum From<'a> {
    Bytes(&'a [u8]),
    Spool(&'a Spool),
    File(&'a Path),
    /// Another repository, perhaps of another registry.
    Repository(Arc<Client>, &'a Reference),
    /// Nowhere: it has to be there or be mounted.
    Nowhere,
}

impl From<'_> {
    fn open(&self, blob: &BlobRef, offset: u64) -> io::Result<Box<dyn Read + '_>> {
        match self {
            Self::Bytes(bytes) => {
                Ok(Box::new(bytes.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default()))
            }
            Self::Spool(spool) => from(spool.open(), offset),
            Self::File(path) => from(File::open(path)?, offset),
            Self::Repository(client, reference) => {
                let mut reader = Blob::open(client.clone(), reference, blob).map_err(io::Error::other)?;
                io::copy(&mut reader.by_ref().take(offset), &mut io::sink())?;
                Ok(Box::new(reader))
            }
            Self::Nowhere => Err(io::Error::new(io::ErrorKind::NotFound, "its bytes are not here")),
        }
    }
}

fn from(mut file: impl Read + Seek + 'static, offset: u64) -> io::Result<Box<dyn Read>> {
    file.seek(SeekFrom::Start(offset))?;
    Ok(Box::new(file))
}

/// What became of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The repository had it.
    Found,
    /// It was taken from another repository of the registry.
    Mounted,
    /// It was sent.
    Sent,
}

/// One repository into which blobs go.
pub(super) struct Upload<'a> {
    pub(super) client: &'a Client,
    pub(super) repository: &'a str,
}

/// How a blob begins its way.
enum Begun {
    Mounted,
    /// Where it is to be sent.
    At(Url),
}

impl Upload<'_> {
    /// Whether the repository has a blob.
    pub(super) fn has(&self, digest: &Digest) -> Result<bool, CallError> {
        blob::is_there(self.client, self.repository, &Scopes::push(self.repository), digest)
    }

    /// Sees to it that the repository has a blob. `mount` is a repository of the same registry that has it.
    pub(super) fn put(&self, blob: &BlobRef, mount: Option<&str>, from: &From<'_>) -> Result<Outcome, CallError> {
        if self.has(&blob.digest)? {
            return Ok(Outcome::Found);
        }
        let mut attempts = Attempts::new(&self.client.patience);
        let mut mount = mount;
        loop {
            let error = match self.begin(&blob.digest, mount)? {
                Begun::Mounted => return Ok(Outcome::Mounted),
                Begun::At(location) => match self.send(blob, from, &location) {
                    Ok(()) => return Ok(Outcome::Sent),
                    Err(error) => error,
                },
            };
            // Mounting did not work; no need to try again.
            mount = None;
            log::debug!("blob {}: {}", blob.digest, lifecycle_launch::console::chain(&error));
            if !is_worth_another_upload(&error, from) || !attempts.again(error.retry_after()) {
                return Err(error);
            }
            // The answer may have been lost, not the blob.
            if self.has(&blob.digest)? {
                return Ok(Outcome::Sent);
            }
        }
    }

    /// Begins an upload, by mounting if possible.
    fn begin(&self, digest: &Digest, mount: Option<&str>) -> Result<Begun, CallError> {
        if let Some(source) = mount {
            let plain = self.uploads();
            let scopes = Scopes::push(self.repository).and(Scopes::pull(source));
            let target = Target::Path(format!("{plain}?mount={digest}&from={source}"));
            let request = self.client.request(Method::POST, target, &scopes, &[201, 202]);
            match self.client.call(&request, ANSWER_LIMIT) {
                Ok(answer) if answer.status == 201 => return Ok(Begun::Mounted),
                Ok(answer) => return location(&answer, Method::POST).map(Begun::At),
                // It may be the mount that is refused, or the token for both: what follows will tell.
                Err(error) => log::debug!("mount {digest} from {source}: {}", lifecycle_launch::console::chain(&error)),
            }
        }
        location(&self.begin_anew()?, Method::POST).map(Begun::At)
    }

    fn uploads(&self) -> String {
        format!("/v2/{}/blobs/uploads/", self.repository)
    }

    /// Begins an upload of what has to be sent.
    fn begin_anew(&self) -> Result<Answer, CallError> {
        let scopes = Scopes::push(self.repository);
        let request = self.client.request(Method::POST, Target::Path(self.uploads()), &scopes, &[202]);
        self.client.call(&request, ANSWER_LIMIT)
    }

    fn send(&self, blob: &BlobRef, from: &From<'_>, location: &Url) -> Result<(), CallError> {
        let first = self.put_from(blob, from, location, 0);
        let Err(error) = first else { return Ok(()) };
        // Only what a file holds can be gone on with cheaply, and only if it was the network that failed.
        let resumable = matches!(from, From::Spool(_) | From::File(_)) && is_network(&error);
        let Some((location, offset)) = resumable.then(|| self.arrived(location, blob.size)).flatten() else {
            return Err(error);
        };
        log::debug!("blob {}: going on after {offset} bytes", blob.digest);
        self.put_from(blob, from, &location, offset)
    }

    fn put_from(&self, blob: &BlobRef, from: &From<'_>, location: &Url, offset: u64) -> Result<(), CallError> {
        let timeouts = &self.client.transport.timeouts;
        let mut limits = self.client.transport.limits();
        limits.idle = timeouts.commit;
        limits.total = timeouts.for_blob(blob.size);
        let length = blob.size.saturating_sub(offset);
        let mut headers = vec![(header::CONTENT_TYPE, "application/octet-stream".to_owned())];
        if offset > 0 {
            headers.push((header::CONTENT_RANGE, format!("{offset}-{}", blob.size.saturating_sub(1))));
        }
        let open = || from.open(blob, offset);
        let scopes = Scopes::push(self.repository);
        let target = Target::Url(location.with_query("digest", &blob.digest.to_string()));
        let request = Request {
            headers,
            limits,
            body: Body::Stream { length, open: &open },
            expect: length >= ASK_FROM,
            once: true,
            ..self.client.request(Method::PUT, target, &scopes, &[200, 201, 202, 204])
        };
        self.client.call(&request, ANSWER_LIMIT).map(|_| ())
    }

    /// How much of a failed upload has arrived, and where the rest goes.
    fn arrived(&self, at: &Url, size: u64) -> Option<(Url, u64)> {
        let scopes = Scopes::push(self.repository);
        let request = self.client.request(Method::GET, Target::Url(at.clone()), &scopes, &[204]);
        let answer = self.client.call(&request, ANSWER_LIMIT).ok()?;
        let last = answer.header(header::RANGE)?.rsplit_once('-')?.1.parse::<u64>().ok()?;
        let offset = last.checked_add(1)?;
        let location = location(&answer, Method::GET).ok()?;
        (GO_ON_FROM..size).contains(&offset).then_some((location, offset))
    }

    /// Proves that blobs may be put here, and leaves nothing behind. What the registry says is the time (`Date`): no cache
    /// answers this request.
    pub(super) fn try_out(&self) -> Result<Option<String>, CallError> {
        let answer = self.begin_anew()?;
        let date = answer.header(header::DATE).map(str::to_owned);
        let location = location(&answer, Method::POST)?;
        let scopes = Scopes::push(self.repository);
        let request = Request {
            once: true,
            ..self.client.request(Method::DELETE, Target::Url(location), &scopes, &[200, 202, 204])
        };
        // Not every registry lets uploads be cancelled; it forgets them after a while.
        if let Err(error) = self.client.call(&request, ANSWER_LIMIT) {
            log::debug!("cancel upload: {}", lifecycle_launch::console::chain(&error));
        }
        Ok(date)
    }
}

/// Where an upload goes on.
fn location(answer: &Answer, method: Method) -> Result<Url, CallError> {
    let Some(location) = answer.header(header::LOCATION) else {
        let what = "the answer has no Location".to_owned();
        return Err(CallError::Answer { method, url: Box::new(answer.url.clone()), what });
    };
    follow(&answer.url, location).map_err(|cause| CallError::NoAnswer { method, attempts: 1, cause })
}

fn is_network(error: &CallError) -> bool {
    matches!(error, CallError::NoAnswer { cause: ExchangeError::Network { .. }, .. })
}

/// Whether a new upload may succeed where one has failed: not if we are refused.
fn is_worth_another_upload(error: &CallError, from: &From<'_>) -> bool {
    match error {
        // A blob that was changed on its way, an upload that the registry has forgotten, a registry in trouble.
        CallError::Status { status, .. } => matches!(status, 400 | 404 | 416) || super::retry::is_temporary(*status),
        CallError::NoAnswer { cause: ExchangeError::Network { cause, .. }, .. } => cause.is_temporary(),
        CallError::NoAnswer { cause: ExchangeError::Source(_), .. } => matches!(from, From::Repository(..)),
        _ => false,
    }
}

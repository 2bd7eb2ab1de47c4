//! Opening images: manifest, index, config.

use lifecycle::digest::Digest;
use lifecycle::image::{
    BlobRef, Document, Image, Index, Manifest, Reference, Source, StoreError, acceptable, describe_platform,
};
use platform_spec::target::Target as Platform;
use ureq::http::{Method, header};

use super::blob;
use super::client::{Answer, Client, Request, Target};
use super::error::CallError;
use super::retry::Attempts;
use super::token::Scopes;

/// Largest manifest, index or config that is read.
pub(super) const DOCUMENT_LIMIT: u64 = 8 << 20;

/// `/v2/<repository>/manifests/<tag or digest>`.
pub(super) fn manifest_path(reference: &Reference) -> String {
    format!("/v2/{}/manifests/{}", reference.repository, reference.identifier())
}

/// The image under a name; `name` is the reference as the caller gave it.
pub(super) fn open(
    client: &Client,
    name: &str,
    reference: &Reference,
    platform: &Platform,
) -> Result<Image, StoreError> {
    let corrupt = |reason: String| StoreError::Corrupt { name: name.to_owned(), reason };
    let manifest = match document(client, name, reference)? {
        Document::Manifest(manifest) => manifest,
        Document::Index(index) => child(client, name, reference, &index, platform)?,
    };
    let config = config(client, name, reference, &manifest.config)?;
    let identifier = reference.with_digest(manifest.digest).name();
    let source = Reference { tag: None, digest: None, ..reference.clone() };
    Image::assemble(identifier, manifest, config, |_| Source::Registry(source.clone()))
        .map_err(|error| corrupt(error.to_string()))
}

fn child(
    client: &Client,
    name: &str,
    reference: &Reference,
    index: &Index,
    platform: &Platform,
) -> Result<Manifest, StoreError> {
    let Some(child) = index.select(platform) else {
        let (name, wanted) = (name.to_owned(), describe_platform(platform));
        return Err(StoreError::NoChild { name, wanted, available: index.platforms() });
    };
    match document(client, name, &reference.with_digest(child.blob.digest))? {
        Document::Manifest(manifest) => Ok(manifest),
        Document::Index(_) => Err(StoreError::Corrupt {
            name: name.to_owned(),
            reason: format!("{}, which its index calls an image, is an index", child.blob.digest),
        }),
    }
}

/// Reads a manifest or an index.
pub(super) fn document(client: &Client, name: &str, reference: &Reference) -> Result<Document, StoreError> {
    let scopes = Scopes::pull(&reference.repository);
    let request = Request {
        headers: vec![(header::ACCEPT, acceptable().join(", "))],
        ..client.request(Method::GET, Target::Path(manifest_path(reference)), &scopes, &[200])
    };
    let failed = |error: CallError| error.into_store_for_image(name, "get manifest of");
    let checked = |answer: &Answer| match expected_digest(answer, reference) {
        Some(expected) => check("manifest", &answer.body, expected),
        // Cut or changed text is noticed as JSON that it is not.
        None => match serde_json::from_slice::<serde::de::IgnoredAny>(&answer.body) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("unusable manifest: {error}")),
        },
    };
    let answer = call_checked(client, &request, name, failed, checked)?;
    let media_type = answer.header(header::CONTENT_TYPE).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
    Document::parse(answer.body, &media_type)
        .map_err(|error| StoreError::Corrupt { name: name.to_owned(), reason: error.to_string() })
}

/// The digest that was asked for, else what the registry says.
fn expected_digest(answer: &Answer, reference: &Reference) -> Option<Digest> {
    reference.digest.or_else(|| answer.header("docker-content-digest")?.parse().ok())
}

pub(super) fn config(
    client: &Client,
    name: &str,
    reference: &Reference,
    blob: &BlobRef,
) -> Result<Vec<u8>, StoreError> {
    if blob.size > DOCUMENT_LIMIT {
        let reason = format!("its config is larger than {DOCUMENT_LIMIT} bytes");
        return Err(StoreError::Corrupt { name: name.to_owned(), reason });
    }
    let scopes = Scopes::pull(&reference.repository);
    let target = Target::Path(blob::path(&reference.repository, &blob.digest));
    let request = client.request(Method::GET, target, &scopes, &[200]);
    let failed = |error: CallError| match error.status() {
        Some(404) => StoreError::BlobNotFound { name: reference.repository_name(), digest: blob.digest },
        _ => error.into_store(name, "get config of"),
    };
    let checked = |answer: &Answer| check("config", &answer.body, blob.digest);
    Ok(call_checked(client, &request, name, failed, checked)?.body)
}

fn check(what: &str, bytes: &[u8], expected: Digest) -> Result<(), String> {
    let found = Digest::of(bytes);
    if found == expected { Ok(()) } else { Err(format!("the {what}'s digest should be {expected}, but is {found}")) }
}

/// Makes a request again if its answer arrived damaged.
fn call_checked(
    client: &Client,
    request: &Request<'_>,
    name: &str,
    failed: impl Fn(CallError) -> StoreError,
    check: impl Fn(&Answer) -> Result<(), String>,
) -> Result<Answer, StoreError> {
    let mut attempts = Attempts::new(&client.patience);
    loop {
        let answer = client.call(request, DOCUMENT_LIMIT).map_err(&failed)?;
        let Err(reason) = check(&answer) else { return Ok(answer) };
        log::debug!("{name}: {reason}");
        if !attempts.again(None) {
            return Err(StoreError::Corrupt { name: name.to_owned(), reason });
        }
    }
}

//! Changing the index under a tag.

use lifecycle::image::index::{Held, names_of_children};
use lifecycle::image::{Config, Document, IndexChange, IndexError, Reference, StoreError, WrittenIndex};
use ureq::http::{Method, header};

use super::client::{Client, Request, Target};
use super::pull;
use super::token::Scopes;
use crate::transport::Body;

/// Answers to a manifest are small.
const ANSWER_LIMIT: u64 = 64 << 10;

/// Changes the index under a tag.
pub(super) fn write(
    client: &Client,
    name: &str,
    reference: &Reference,
    change: &IndexChange<'_>,
) -> Result<WrittenIndex, IndexError> {
    let failed =
        |cause| IndexError::Store { name: name.to_owned(), children: names_of_children(reference, change), cause };
    let before = match pull::document(client, name, reference) {
        Ok(document) => Some(document),
        Err(StoreError::NotFound { .. }) => None,
        Err(error) => return Err(failed(error)),
    };
    let (index, wanted) = match change {
        IndexChange::Rewrite(make) => {
            let made = make(before.as_ref()).map_err(|cause| IndexError::Rewrite { name: name.to_owned(), cause })?;
            (made, &[][..])
        }
        IndexChange::Merge(children) => {
            let held = match &before {
                None => Held::default(),
                Some(Document::Index(index)) => Held::of_index(index),
                Some(Document::Manifest(manifest)) => {
                    let config = pull::config(client, name, reference, &manifest.config).map_err(failed)?;
                    Held::of_manifest(manifest, Config::parse(config).ok().as_ref())
                }
            };
            (held.merged(children), *children)
        }
    };
    let scopes = Scopes::push(&reference.repository);
    let request = Request {
        headers: vec![(header::CONTENT_TYPE, index.media_type.clone())],
        body: Body::Bytes(&index.bytes),
        once: true,
        ..client.request(Method::PUT, Target::Path(pull::manifest_path(reference)), &scopes, &[200, 201, 202])
    };
    client.call(&request, ANSWER_LIMIT).map_err(|error| failed(error.into_store(name, "put index of")))?;
    Ok(WrittenIndex::of(name, index, wanted))
}

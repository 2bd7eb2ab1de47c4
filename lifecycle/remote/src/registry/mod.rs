//! Images in registries (OCI distribution specification).

use std::io::Read;

use lifecycle::digest::Digest;
use lifecycle::image::{Encodings, Image, Layer, Push, Store, StoreError};
use platform_spec::target::Target;

/// The registries of the world, each spoken to when an image of it is asked for.
#[derive(Debug)]
pub(crate) struct RegistryStore;

fn unfinished(action: &str, name: &str) -> StoreError {
    StoreError::Failed { action: format!("{action} {name}"), cause: "the registry client is being written".into() }
}

impl Store for RegistryStore {
    fn open(&self, name: &str, _: &Target) -> Result<Image, StoreError> {
        Err(unfinished("open", name))
    }

    fn has_blob(&self, layer: &Layer) -> Result<bool, StoreError> {
        Err(unfinished("look for", &layer.diff_id.to_string()))
    }

    fn read_blob(&self, layer: &Layer) -> Result<Box<dyn Read + Send>, StoreError> {
        Err(unfinished("read", &layer.diff_id.to_string()))
    }

    fn check_read(&self, name: &str) -> Result<(), StoreError> {
        Err(unfinished("check read access to", name))
    }

    fn check_write(&self, name: &str) -> Result<(), StoreError> {
        Err(unfinished("check write access to", name))
    }

    fn push<'a>(&'a self, name: &str, _: &[String]) -> Result<Box<dyn Push + 'a>, StoreError> {
        Err(unfinished("push", name))
    }

    fn delete(&self, name: &str, _: &Digest) -> Result<(), StoreError> {
        Err(unfinished("delete", name))
    }

    fn encodings(&self) -> Encodings {
        Encodings::Blob
    }
}

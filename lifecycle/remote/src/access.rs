//! What is needed as root is acquired first and kept; what is opened afterwards needs no privileges.

use std::path::PathBuf;
use std::sync::Arc;

use lifecycle::image::layout::LayoutStore;
use lifecycle::image::{Reference, Store};
use thiserror::Error;

use crate::credentials::{self, Keychain};
use crate::proxy::Proxies;
use crate::registry::{Patience, Registries, RegistryStore};
use crate::tls::Roots;
use crate::transport::{Timeouts, Transport};

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
    registries: Arc<Registries>,
}

/// Why access could not be acquired.
#[derive(Debug, Error)]
pub enum AccessError {
    /// `CNB_REGISTRY_AUTH` is not a JSON object of strings. Its content is not shown.
    #[error("resolve keychain")]
    Credentials(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Reads credentials and proxy settings. To be called before privileges are dropped and before any buildpack runs.
pub fn acquire(inputs: &AccessInputs) -> Result<Access, AccessError> {
    acquire_with(inputs, &|name| std::env::var(name).ok())
}

/// As [`acquire`], with the values of environment variables from `variable`.
pub fn acquire_with(inputs: &AccessInputs, variable: &dyn Fn(&str) -> Option<String>) -> Result<Access, AccessError> {
    let AccessInputs { images, insecure_registries, layout_dir } = inputs;
    let references = images.iter().filter_map(|name| Reference::parse(name).ok());
    let mut registries: Vec<String> = references.map(|reference| reference.registry).collect();
    registries.sort_unstable();
    registries.dedup();
    let keychain = Keychain::read(variable, &registries).map_err(|error| AccessError::Credentials(Box::new(error)))?;
    let transport =
        Transport::new(Timeouts::default(), Proxies::from_variables(variable), Roots::from_variables(variable));
    let registries = Registries::new(transport, keychain, insecure_registries.clone(), Patience::default());
    Ok(Access { layout_dir: layout_dir.clone(), registries: Arc::new(registries) })
}

/// The store that holds app and run images: the OCI layout if there is a layout directory, else registries.
pub fn open(access: &Access) -> Box<dyn Store> {
    match &access.layout_dir {
        Some(dir) => Box::new(LayoutStore::new(dir)),
        None => open_registry(access),
    }
}

/// Registries, even if app and run images are in an OCI layout: cache images are never in one.
pub fn open_registry(access: &Access) -> Box<dyn Store> {
    Box::new(RegistryStore(access.registries.clone()))
}

/// Removes the variables that hold credentials from this process's own environment, so that nothing it starts can
/// get them by accident. To be called after [`acquire`], while the process has one thread; with more it does nothing
/// and says so (`false`).
pub fn remove_credentials_from_own_environment() -> bool {
    credentials::remove_from_own_environment()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_credentials_end_it_before_anything_is_reached() {
        let variable = |name: &str| (name == "CNB_REGISTRY_AUTH").then(|| "hunter2".to_owned());
        let error = acquire_with(&AccessInputs::default(), &variable).expect_err("no JSON");
        assert_eq!(error.to_string(), "resolve keychain");
        let cause = std::error::Error::source(&error).expect("a cause").to_string();
        assert!(cause.contains("CNB_REGISTRY_AUTH") && !format!("{error:?} {cause}").contains("hunter2"), "{cause}");
    }

    #[test]
    fn secrets_are_not_printed() {
        let variable = |name: &str| match name {
            "CNB_REGISTRY_AUTH" => Some(r#"{"reg":"Bearer hunter2"}"#.to_owned()),
            "HTTPS_PROXY" => Some("http://u:hunter2@p".to_owned()),
            _ => None,
        };
        let access = acquire_with(&AccessInputs::default(), &variable).expect("access");
        assert!(!format!("{access:?}").contains("hunter2"));
    }
}

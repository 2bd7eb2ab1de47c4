//! TLS: the one place that knows which provider does the cryptography and where trusted certificates come from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_native_certs::load_certs_from_paths;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// The provider of cryptography.
fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Whether a server's certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Trust {
    /// Against the machine's roots.
    Checked,
    /// Not at all: what `-insecure-registry` names.
    Unchecked,
}

/// Client settings for TLS.
pub(crate) fn config(trust: Trust, roots: &Roots) -> TlsConfig {
    let builder = TlsConfig::builder().unversioned_rustls_crypto_provider(provider());
    match trust {
        Trust::Unchecked => builder.root_certs(RootCerts::new_with_certs(&[])).disable_verification(true).build(),
        Trust::Checked => builder.root_certs(RootCerts::new_with_certs(&roots.load())).build(),
    }
}

/// Where distributions keep all certificates in one file; the first that can be read counts.
const FILES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Where distributions keep certificates one by one; all count.
const DIRECTORIES: &[&str] = &["/etc/ssl/certs", "/etc/pki/tls/certs"];

/// Where trusted certificates come from: Go's rules. `SSL_CERT_FILE` replaces the distributions' files, `SSL_CERT_DIR`
/// (a list with colons) their directories; each of the two alone leaves the other as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Roots {
    files: Vec<PathBuf>,
    directories: Vec<PathBuf>,
}

impl Roots {
    /// Reads the two variables through `variable`; an empty one is unset.
    pub(crate) fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let all = |paths: &[&str]| paths.iter().map(PathBuf::from).collect();
        Self {
            files: set("SSL_CERT_FILE").map_or_else(|| all(FILES), |file| vec![PathBuf::from(file)]),
            directories: set("SSL_CERT_DIR")
                .map_or_else(|| all(DIRECTORIES), |list| list.split(':').map(PathBuf::from).collect()),
        }
    }

    /// Certificates that cannot be read or parsed are passed over: what is missing shows when a server is not trusted.
    fn load(&self) -> Vec<Certificate<'static>> {
        let mut certificates = Vec::new();
        for file in &self.files {
            if std::fs::File::open(file).is_ok() {
                certificates.extend(load(Some(file), None));
                break;
            }
            log::debug!("no certificates in {}", file.display());
        }
        for directory in self.directories.iter().filter(|directory| directory.is_dir()) {
            certificates.extend(load(None, Some(directory)));
        }
        certificates.sort_unstable();
        certificates.dedup();
        certificates.iter().map(|der| Certificate::from_der(der).to_owned()).collect()
    }
}

fn load(file: Option<&Path>, directory: Option<&Path>) -> Vec<Vec<u8>> {
    let found = load_certs_from_paths(file, directory);
    for error in &found.errors {
        log::debug!("certificates: {error}");
    }
    found.certs.iter().map(|certificate| certificate.as_ref().to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_replace_only_their_own_kind() {
        let from = |variables: &'static [(&str, &str)]| {
            Roots::from_variables(|name| {
                variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let default = from(&[]);
        assert_eq!(default.files.len(), FILES.len());
        assert_eq!(from(&[("SSL_CERT_FILE", ""), ("SSL_CERT_DIR", "")]), default);
        let file = from(&[("SSL_CERT_FILE", "/a.pem")]);
        assert_eq!((file.files, file.directories), (vec![PathBuf::from("/a.pem")], default.directories.clone()));
        let directory = from(&[("SSL_CERT_DIR", "/a:/b")]);
        assert_eq!(
            (directory.files, directory.directories),
            (default.files, vec![PathBuf::from("/a"), PathBuf::from("/b")])
        );
    }

    #[test]
    fn unreadable_certificates_are_passed_over() {
        let roots =
            Roots { files: vec![PathBuf::from("/nonexistent"), PathBuf::from("/dev/null")], directories: vec![] };
        assert!(roots.load().is_empty());
    }
}

//! TLS: the one place that knows which provider does the cryptography and where trusted certificates come from.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_native_certs::load_certs_from_paths;

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
pub(crate) fn config(trust: Trust, roots: &Roots) -> Result<Arc<ClientConfig>, Error> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Unchecked => Arc::new(Unchecked),
        Trust::Checked => Arc::new(Checked::new(roots.load(), algorithms)),
    };
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(rustls::ALL_VERSIONS)?;
    Ok(Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()))
}

/// Checks a server's certificate as Go does: that it leads to a trusted one, or is itself one.
///
/// The second is what rustls alone refuses where the certificate says that it is an authority; one that was signed by
/// its own key says so unless told otherwise.
#[derive(Debug)]
struct Checked {
    roots: RootCertStore,
    /// The same, whole.
    trusted: HashSet<Vec<u8>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Checked {
    fn new(trusted: Vec<Vec<u8>>, algorithms: WebPkiSupportedAlgorithms) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trusted.iter().map(|der| CertificateDer::from(der.as_slice())));
        Self { roots, trusted: trusted.into_iter().collect(), algorithms }
    }
}

/// Whether a certificate was refused only because it is an authority's. By then its time was found to be right. The
/// cause's type is of a crate that rustls does not show, so it is known by its text.
fn is_authority(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(CertificateError::Other(cause)) if cause.0.to_string() == "CaUsedAsEndEntity")
}

impl ServerCertVerifier for Checked {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let all = self.algorithms.all;
        match verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, all) {
            Err(error) if is_authority(&error) && self.trusted.contains(certificate.as_ref()) => {}
            other => other?,
        }
        verify_server_name(&parsed, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Takes whatever certificate there is; also those whose kind of key we could not check.
#[derive(Debug)]
struct Unchecked;

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        use SignatureScheme::*;
        vec![
            ED25519,
            ECDSA_NISTP256_SHA256,
            ECDSA_NISTP384_SHA384,
            ECDSA_NISTP521_SHA512,
            RSA_PSS_SHA256,
            RSA_PSS_SHA384,
            RSA_PSS_SHA512,
            RSA_PKCS1_SHA256,
            RSA_PKCS1_SHA384,
            RSA_PKCS1_SHA512,
            RSA_PKCS1_SHA1,
        ]
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
    fn load(&self) -> Vec<Vec<u8>> {
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
        certificates
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

    /// What `openssl req -x509` makes with these arguments: its DER.
    fn signed_by_itself(more: &[&str]) -> Vec<u8> {
        let dir = tempfile::tempdir().expect("a directory");
        let arguments = ["req", "-x509", "-days", "30", "-subj", "/CN=registry", "-outform", "DER", "-keyout", "key"];
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let mut command = std::process::Command::new("openssl");
        let output = command.current_dir(dir.path()).args(arguments).args(key).args(more).output();
        let output = output.expect("this test needs openssl: apt-get install openssl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    #[test]
    fn certificates_that_are_trusted_themselves() {
        let names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:registry.invalid"];
        let certificate = signed_by_itself(&names);
        let other = signed_by_itself(&names);
        let plain = signed_by_itself(&[&names[..], &["-addext", "basicConstraints=CA:FALSE"]].concat());
        let now = UnixTime::now().as_secs();
        let day = 86_400;
        let refused = |expected: fn(&CertificateError) -> bool| Some(expected);
        let expired = refused(|error| matches!(error, CertificateError::ExpiredContext { .. }));
        let not_yet = refused(|error| matches!(error, CertificateError::NotValidYetContext { .. }));
        let wrong_name = refused(|error| matches!(error, CertificateError::NotValidForNameContext { .. }));
        let authority = refused(|error| matches!(error, CertificateError::Other(_)));
        for (what, trusted, sent, name, time, expected) in [
            ("trusted", &certificate, &certificate, "127.0.0.1", now, None),
            ("by name", &certificate, &certificate, "registry.invalid", now, None),
            ("no authority", &plain, &plain, "registry.invalid", now, None),
            ("wrong name", &certificate, &certificate, "other.invalid", now, wrong_name),
            ("wrong address", &certificate, &certificate, "127.0.0.2", now, wrong_name),
            ("expired", &certificate, &certificate, "127.0.0.1", now + 31 * day, expired),
            ("not yet valid", &certificate, &certificate, "127.0.0.1", now - day, not_yet),
            ("of the same name", &other, &certificate, "127.0.0.1", now, authority),
        ] {
            let checked = Checked::new(vec![trusted.clone()], provider().signature_verification_algorithms);
            let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(time));
            let name = ServerName::try_from(name).expect("a name");
            let found = checked.verify_server_cert(&CertificateDer::from(sent.as_slice()), &[], &name, &[], time);
            match (found, expected) {
                (Ok(_), None) => {}
                (Err(Error::InvalidCertificate(error)), Some(expected)) if expected(&error) => {}
                (found, _) => panic!("{what}: {found:?}"),
            }
        }
    }

    #[test]
    fn unreadable_certificates_are_passed_over() {
        let roots =
            Roots { files: vec![PathBuf::from("/nonexistent"), PathBuf::from("/dev/null")], directories: vec![] };
        assert!(roots.load().is_empty());
    }
}

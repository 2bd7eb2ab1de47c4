//! Docker's `config.json` and podman's `auth.json`: the parts about credentials.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as STANDARD;
use serde::Deserialize;

use super::{Credential, normalise};
use crate::secret::Secret;

/// Nobody has a larger one.
const LIMIT: u64 = 8 << 20;

/// What Docker Hub is called in these files and by helpers.
const HUB: &str = "https://index.docker.io/v1/";

/// A config file, by registry.
#[derive(Debug, Default)]
pub(super) struct ConfigFile {
    pub(super) entries: HashMap<String, Credential>,
    helpers: HashMap<String, String>,
    store: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    auths: Option<HashMap<String, Option<RawEntry>>>,
    #[serde(default)]
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: Option<HashMap<String, String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawEntry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// Reads a file. One that cannot be used is a warning, without its content, and no credentials: the registry's
/// refusal says the rest.
pub(super) fn load(path: &Path) -> Option<ConfigFile> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(LIMIT + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) if bytes.len() as u64 > LIMIT => {
            log::warn!("credentials in {} are not used: the file is too large", path.display());
            None
        }
        Ok(bytes) => {
            let parsed = parse(&bytes);
            if parsed.is_none() {
                log::warn!("credentials in {} are not used: it is not JSON of the kind expected", path.display());
            }
            parsed
        }
        Err(error) => {
            log::warn!("credentials in {} are not used: {error}", path.display());
            None
        }
    }
}

fn parse(bytes: &[u8]) -> Option<ConfigFile> {
    let raw: Raw = serde_json::from_slice(bytes).ok()?;
    let mut auths: Vec<_> = raw.auths.unwrap_or_default().into_iter().collect();
    // In a fixed order, plain host names first: of two spellings of a registry always the same one counts.
    auths.sort_unstable_by(|(a, _), (b, _)| (a.contains("://"), a).cmp(&(b.contains("://"), b)));
    let mut file = ConfigFile { store: raw.creds_store.filter(|store| !store.is_empty()), ..ConfigFile::default() };
    for (registry, entry) in auths {
        // podman's files may name a namespace of a registry, whose credentials are not for all of it.
        if !registry.contains("://") && registry.contains('/') {
            continue;
        }
        if let Some(credential) = entry.and_then(RawEntry::credential) {
            file.entries.entry(normalise(&registry)).or_insert(credential);
        }
    }
    for (registry, helper) in raw.cred_helpers.unwrap_or_default() {
        file.helpers.insert(normalise(&registry), helper);
    }
    Some(file)
}

impl RawEntry {
    fn credential(self) -> Option<Credential> {
        let set = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(token) = set(self.registrytoken) {
            return Some(Credential::Bearer(Secret::new(token)));
        }
        if let Some(token) = set(self.identitytoken) {
            return Some(Credential::Identity(Secret::new(token)));
        }
        if let Some(auth) = set(self.auth) {
            // Some tools end the password with zero bytes.
            let decoded = STANDARD.decode(auth.trim_end()).ok()?;
            let end = decoded.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let decoded = decoded.get(..end)?;
            return decoded.contains(&b':').then(|| Credential::Basic(Secret::new(STANDARD.encode(decoded))));
        }
        let (user, password) = (set(self.username)?, set(self.password)?);
        Some(Credential::basic(&user, &password))
    }
}

impl Credential {
    /// Of a user's name and password.
    pub(super) fn basic(user: &str, password: &str) -> Self {
        Self::Basic(Secret::new(STANDARD.encode(format!("{user}:{password}"))))
    }
}

impl ConfigFile {
    /// The helper for a registry, and how it is called there.
    pub(super) fn helper(&self, registry: &str) -> Option<(&str, String)> {
        let helper = self.helpers.get(registry).or(self.store.as_ref()).filter(|helper| !helper.is_empty())?;
        let hub = registry == lifecycle::image::DEFAULT_REGISTRY;
        Some((helper, if hub { HUB.to_owned() } else { registry.to_owned() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let file = parse(
            br#"{"auths": {
                "a": {"auth": "dTpw"}, "b": {"username": "u", "password": "p"}, "c": {"identitytoken": "i", "auth": "dTpw"},
                "d": {"registrytoken": "r"}, "e": {}, "f": null, "g": {"auth": "%%"}, "h": {"auth": "dQ=="},
                "https://index.docker.io/v1/": {"auth": "aHViOmh1Yg=="}, "docker.io/namespace": {"auth": "bm86bm8="},
                "i": {"auth": "dTpwAAA="}, "https://j/v1": {"auth": "YTpi"}, "j": {"auth": "Yzpk"}
            }, "HttpHeaders": {"x": 1}}"#,
        )
        .expect("a config");
        let basic = |text: &str| Some(Credential::Basic(Secret::new(text)));
        for (registry, expected) in [
            ("a", basic("dTpw")),
            ("b", basic("dTpw")),
            ("c", Some(Credential::Identity(Secret::new("i")))),
            ("d", Some(Credential::Bearer(Secret::new("r")))),
            ("e", None),
            ("f", None),
            ("g", None),
            ("h", None),
            ("index.docker.io", basic("aHViOmh1Yg==")),
            ("i", basic("dTpw")),
            ("j", basic("Yzpk")),
        ] {
            assert_eq!(file.entries.get(registry), expected.as_ref(), "{registry}");
        }
    }

    #[test]
    fn helpers() {
        let text = br#"{"credsStore": "desktop", "credHelpers": {"https://reg": "gcr", "none": ""}}"#;
        let file = parse(text).expect("a config");
        for (registry, expected) in [
            ("reg", Some(("gcr", "reg"))),
            ("other:5000", Some(("desktop", "other:5000"))),
            ("index.docker.io", Some(("desktop", HUB))),
            ("none", None),
        ] {
            let found = file.helper(registry);
            assert_eq!(found.as_ref().map(|(helper, address)| (*helper, address.as_str())), expected, "{registry}");
        }
        assert_eq!(parse(b"{}").expect("a config").helper("reg"), None);
    }

    #[test]
    fn unusable_files_are_passed_over() {
        let dir = tempfile::tempdir().expect("a directory");
        for content in ["", "1", r#"{"auths": 1}"#, "\u{0}"] {
            let path = dir.path().join("config.json");
            std::fs::write(&path, content).expect("a file");
            assert!(load(&path).is_none(), "{content:?}");
        }
        assert!(load(dir.path()).is_none());
    }
}

//! Credentials for registries: the only module that knows the variables and files that hold them.
//!
//! For a registry the first of these counts (platform.md, *Registry Authentication*):
//!
//! 1. `CNB_REGISTRY_AUTH`: a JSON object from registry to `Basic <base64>`, `Bearer <token>` or `X-Identity <token>`;
//! 2. the docker config: `$DOCKER_CONFIG/config.json` or `$HOME/.docker/config.json`; if there is none,
//!    `$REGISTRY_AUTH_FILE`, then `$XDG_RUNTIME_DIR/containers/auth.json`. A credential helper named there for a
//!    registry goes before the entry in the file.
//!
//! [`Keychain::read`] reads all of it and runs the helpers; afterwards nothing is read or run any more. So it is
//! called before privileges are dropped and before any program of somebody else runs.

mod config_file;
mod helper;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::secret::Secret;
use config_file::ConfigFile;

/// Variables that hold credentials or lead to them, removed by [`remove_from_own_environment`].
const VARIABLES: &[&str] = &[
    REGISTRY_AUTH,
    DOCKER_CONFIG,
    AUTH_FILE,
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
];

const REGISTRY_AUTH: &str = "CNB_REGISTRY_AUTH";
const DOCKER_CONFIG: &str = "DOCKER_CONFIG";
const AUTH_FILE: &str = "REGISTRY_AUTH_FILE";

/// How long a credential helper may take.
const HELPER_TIMEOUT: Duration = Duration::from_secs(30);

/// What proves to a registry who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    /// `user:password` in base64, as the header has it.
    Basic(Secret),
    /// A token for the registry itself.
    Bearer(Secret),
    /// A token that the registry's token server exchanges for one.
    Identity(Secret),
}

/// Why credentials could not be read.
#[derive(Debug, Error)]
pub(crate) enum CredentialError {
    /// `CNB_REGISTRY_AUTH` is not what it has to be. Its content is not shown.
    #[error("parse {REGISTRY_AUTH}: not a JSON object from registry to header")]
    RegistryAuth,
    /// The header is of no kind that we know. It is not shown.
    #[error("{REGISTRY_AUTH}: the header for {registry} is neither Basic, Bearer nor X-Identity")]
    UnknownScheme {
        /// For which registry.
        registry: String,
    },
}

/// All credentials that were found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keychain {
    /// From the variable; `None` is a header of an unknown kind, an error when the registry is used.
    variable: HashMap<String, Option<Credential>>,
    file: HashMap<String, Credential>,
}

impl Keychain {
    /// Reads the variables through `variable`, and what they lead to; asks the helpers for `registries`.
    pub(crate) fn read(
        variable: &dyn Fn(&str) -> Option<String>,
        registries: &[String],
    ) -> Result<Self, CredentialError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut keychain = Self::default();
        if let Some(text) = set(REGISTRY_AUTH) {
            keychain.variable = parse_registry_auth(&text)?;
        }
        if let Some(config) = find_config(&set).and_then(|path| config_file::load(&path)) {
            keychain.ask_helpers(&config, registries);
            for (registry, credential) in config.entries {
                keychain.file.entry(registry).or_insert(credential);
            }
        }
        Ok(keychain)
    }

    fn ask_helpers(&mut self, config: &ConfigFile, registries: &[String]) {
        for registry in registries {
            let registry = normalise(registry);
            let Entry::Vacant(vacant) = self.file.entry(registry.clone()) else { continue };
            if self.variable.contains_key(&registry) {
                continue;
            }
            let Some((helper, address)) = config.helper(&registry) else { continue };
            match helper::ask(helper, &address, HELPER_TIMEOUT) {
                Ok(Some(credential)) => {
                    vacant.insert(credential);
                }
                Ok(None) => log::debug!("credential helper {helper} knows nothing of {registry}"),
                Err(error) => {
                    let reason = lifecycle_launch::console::chain(&error);
                    // What else the file has for it is still used.
                    let other =
                        if config.entries.contains_key(&registry) { "; the config's own entry is used" } else { "" };
                    log::warn!("no credentials for {registry} from its credential helper: {reason}{other}");
                }
            }
        }
    }

    /// The credential for a registry's host and port; `None`: go there without.
    pub(crate) fn get(&self, registry: &str) -> Result<Option<&Credential>, CredentialError> {
        let registry = normalise(registry);
        match self.variable.get(&registry) {
            Some(Some(credential)) => Ok(Some(credential)),
            Some(None) => Err(CredentialError::UnknownScheme { registry }),
            None => Ok(self.file.get(&registry)),
        }
    }
}

/// The registry that a key names: without scheme and path, and Docker Hub by one name.
fn normalise(key: &str) -> String {
    let host = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let host = host.split('/').next().unwrap_or_default().to_ascii_lowercase();
    match host.as_str() {
        "docker.io" | "registry-1.docker.io" => lifecycle::image::DEFAULT_REGISTRY.to_owned(),
        _ => host,
    }
}

fn parse_registry_auth(text: &str) -> Result<HashMap<String, Option<Credential>>, CredentialError> {
    let headers: HashMap<String, String> = serde_json::from_str(text).map_err(|_| CredentialError::RegistryAuth)?;
    // In a fixed order, so that of two spellings of a registry always the same one counts.
    let mut headers: Vec<_> = headers.into_iter().collect();
    headers.sort_unstable();
    Ok(headers.iter().map(|(registry, header)| (normalise(registry), parse_header(header))).collect())
}

fn parse_header(header: &str) -> Option<Credential> {
    let (scheme, value) = header.split_once(' ')?;
    let value = Secret::new(value);
    match scheme.to_ascii_lowercase().as_str() {
        "basic" => Some(Credential::Basic(value)),
        "bearer" => Some(Credential::Bearer(value)),
        "x-identity" => Some(Credential::Identity(value)),
        _ => None,
    }
}

/// The first config file that is there.
fn find_config(set: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let docker = set(DOCKER_CONFIG)
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".docker")))
        .map(|directory| directory.join("config.json"));
    let podman = set("XDG_RUNTIME_DIR").map(|directory| PathBuf::from(directory).join("containers/auth.json"));
    [docker, set(AUTH_FILE).map(PathBuf::from), podman].into_iter().flatten().find(|path| path.exists())
}

/// Removes the variables that hold credentials from this process's environment. Only while the process has one
/// thread; otherwise nothing is done and the answer is `false`.
pub(crate) fn remove_from_own_environment() -> bool {
    if !is_alone() {
        return false;
    }
    for name in VARIABLES {
        // SAFETY: this is the process's only thread, so nothing reads the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
    true
}

/// Whether this is the process's only thread. One that has just been joined may still be seen for a moment.
fn is_alone() -> bool {
    (0..20).any(|attempt| {
        if attempt > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)], registries: &[&str]) -> Result<Keychain, CredentialError> {
        let registries: Vec<_> = registries.iter().map(|&registry| registry.to_owned()).collect();
        Keychain::read(
            &|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()),
            &registries,
        )
    }

    fn basic(text: &str) -> Credential {
        Credential::Basic(Secret::new(text))
    }

    #[test]
    fn variable_by_normalised_key_and_scheme() {
        let auth = r#"{
            "reg.example": "Basic dTpw", "https://reg2.example/v2/": "bEaReR tok en", "http://reg3:5000": "x-IDENTITY id",
            "https://index.docker.io/v1/": "Basic aHVi", "reg4": "Negotiate x", "reg5": "Basic", "REG6": "Basic "
        }"#;
        let keychain = read(&[(REGISTRY_AUTH, auth)], &[]).expect("credentials");
        for (registry, expected) in [
            ("reg.example", Some(basic("dTpw"))),
            ("reg2.example", Some(Credential::Bearer(Secret::new("tok en")))),
            ("reg3:5000", Some(Credential::Identity(Secret::new("id")))),
            ("index.docker.io", Some(basic("aHVi"))),
            ("reg6", Some(basic(""))),
            ("reg", None),
            ("reg.example:5000", None),
        ] {
            assert_eq!(keychain.get(registry).expect("a known scheme"), expected.as_ref(), "{registry}");
        }
        for registry in ["reg4", "reg5"] {
            let error = keychain.get(registry).expect_err("an unknown scheme").to_string();
            assert!(error.contains(registry) && !error.contains("Negotiate"), "{error}");
        }
        assert!(!format!("{keychain:?}").contains("dTpw"));
    }

    #[test]
    fn malformed_variable_is_an_error_that_shows_nothing_of_it() {
        for text in ["hunter2", "[]", r#"{"reg": 1}"#, r#"{"reg": "Basic hunter2""#] {
            let error = read(&[(REGISTRY_AUTH, text)], &[]).expect_err(text);
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        assert!(read(&[(REGISTRY_AUTH, "")], &[]).is_ok());
    }

    #[test]
    fn first_file_that_is_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |path: &str, user: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            std::fs::write(path, format!(r#"{{"auths":{{"reg":{{"auth":"{user}"}}}}}}"#)).expect("a file");
        };
        let path = |path: &str| dir.path().join(path).display().to_string();
        let (home, docker, file, run) = (path("home"), path("docker"), path("auth"), path("run"));
        let variables = [
            (DOCKER_CONFIG, docker.as_str()),
            ("HOME", home.as_str()),
            (AUTH_FILE, file.as_str()),
            ("XDG_RUNTIME_DIR", run.as_str()),
        ];
        let found = |variables: &[(&str, &str)]| {
            let keychain = read(variables, &[]).expect("credentials");
            keychain.get("reg").expect("a known scheme").cloned()
        };
        assert_eq!(found(&variables), None);
        for (at, user) in [("run/containers/auth.json", "YTph"), ("auth", "Yjpi"), ("docker/config.json", "Yzpj")] {
            write(at, user);
            assert_eq!(found(&variables), Some(basic(user)), "{at}");
        }
        // With DOCKER_CONFIG the home directory is not looked at; an empty one is unset.
        write("home/.docker/config.json", "ZDpk");
        assert_eq!(found(&variables), Some(basic("Yzpj")));
        assert_eq!(found(&[(DOCKER_CONFIG, ""), ("HOME", &home)]), Some(basic("ZDpk")));
        // The variable goes before all files.
        let auth = (REGISTRY_AUTH, r#"{"reg":"Basic ZTpl"}"#);
        assert_eq!(found(&[auth, ("HOME", &home)]), Some(basic("ZTpl")));
    }
}

//! A registry: Debian's `docker-registry`, on a port of its own, gone when the value is.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::tool::Tool;
use crate::umask;

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    host: String,
    credentials: Option<(String, String)>,
    directory: TempDir,
}

impl Registry {
    /// One that anybody may read and write.
    pub fn start() -> Self {
        Self::with(&std::env::temp_dir(), None)
    }

    /// One whose files are in a new directory in `directory`.
    pub fn start_in(directory: &Path) -> Self {
        Self::with(directory, None)
    }

    /// One that only this user may read and write.
    pub fn start_with_password(user: &str, password: &str) -> Self {
        Self::with(&std::env::temp_dir(), Some((user.to_owned(), password.to_owned())))
    }

    fn with(directory: &Path, credentials: Option<(String, String)>) -> Self {
        umask::usual();
        let directory = tempfile::tempdir_in(directory).expect("a directory");
        let path = |name: &str| directory.path().join(name);
        if let Some((user, password)) = &credentials {
            let line = Tool::new("htpasswd").args(["-Bbn", user, password]).run();
            fs::write(path("htpasswd"), line).expect("written");
        }
        let (process, host) = serve(directory.path(), credentials.is_some());
        Self { process, host, credentials, directory }
    }

    /// `127.0.0.1:<port>`
    pub fn host(&self) -> &str {
        &self.host
    }

    /// A reference in this registry.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    /// The value of `CNB_REGISTRY_AUTH` for it, or an empty object.
    pub fn auth(&self) -> String {
        self.credentials.as_ref().map_or_else(
            || "{}".to_owned(),
            |(user, password)| {
                let header = format!("Basic {}", base64(format!("{user}:{password}").as_bytes()));
                serde_json::json!({ &self.host: header }).to_string()
            },
        )
    }

    /// Every request that it has answered, one a line: `"PUT /v2/app/manifests/latest HTTP/1.1" 201 …`.
    pub fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.directory.path().join("requests")).expect("read");
        log.lines().filter_map(|line| Some(line[line.find('"')?..].to_owned())).collect()
    }

    /// Where it keeps what was sent.
    pub fn storage(&self) -> PathBuf {
        self.directory.path().join("storage")
    }

    /// Bytes of all blobs that it has.
    pub fn stored(&self) -> u64 {
        fn sum(directory: &Path) -> u64 {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            entries
                .map(|entry| match entry.metadata() {
                    Ok(status) if status.is_dir() => sum(&entry.path()),
                    Ok(status) => status.len(),
                    Err(_) => 0,
                })
                .sum()
        }
        sum(&self.storage().join("docker/registry/v2/blobs"))
    }

    /// What skopeo needs to reach it: `side` is `src`, `dest`, or empty where there is only one.
    pub fn skopeo_flags(&self, side: &str) -> Vec<String> {
        let dash = if side.is_empty() { "" } else { "-" };
        let mut flags = vec![format!("--{side}{dash}tls-verify=false")];
        if let Some((user, password)) = &self.credentials {
            flags.push(format!("--{side}{dash}creds={user}:{password}"));
        }
        flags
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It fails where the process has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts a registry; its process, and its address with the port that it was given.
fn serve(directory: &Path, with_password: bool) -> (Child, String) {
    let path = |name: &str| directory.join(name);
    let mut config = format!(
        "version: 0.1\nlog: {{ level: info }}\nhttp: {{ addr: '127.0.0.1:0' }}\n\
         storage: {{ filesystem: {{ rootdirectory: '{}' }}, delete: {{ enabled: true }} }}\n",
        path("storage").display()
    );
    if with_password {
        config += &format!("auth: {{ htpasswd: {{ realm: test, path: '{}' }} }}\n", path("htpasswd").display());
    }
    fs::write(path("config.yml"), config).expect("written");
    let requests = File::options().append(true).create(true).open(path("requests")).expect("created");
    let mut process = Command::new("docker-registry")
        .arg("serve")
        .arg(path("config.yml"))
        .stdin(Stdio::null())
        .stdout(requests)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("docker-registry: {error}; `make set-up` installs it"));

    // It says which port it was given. What follows is read too, so that it never waits for a reader.
    let (sender, receiver) = mpsc::channel();
    let log = BufReader::new(process.stderr.take().expect("a pipe"));
    thread::spawn(move || {
        let mut lines = log.lines().map_while(Result::ok);
        let mut seen = String::new();
        let host = lines.find_map(|line| {
            seen += &line;
            seen += "\n";
            line.split_once("listening on ").map(|(_, rest)| rest.chars().take_while(|c| *c != '"').collect())
        });
        let _ = sender.send(host.ok_or(seen));
        lines.for_each(drop);
    });
    let host: String = receiver
        .recv_timeout(Duration::from_secs(30))
        .expect("docker-registry says within half a minute where it listens")
        .unwrap_or_else(|seen| panic!("docker-registry ended: {seen}"));
    (process, host.trim().to_owned())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = (0..3).fold(0u32, |word, at| word << 8 | u32::from(chunk.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * at) & 63) as usize];
            text.push(if at > chunk.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_of_each_length() {
        for (text, expected) in
            [("", ""), ("a", "YQ=="), ("ab", "YWI="), ("abc", "YWJj"), ("user:pass", "dXNlcjpwYXNz")]
        {
            assert_eq!(super::base64(text.as_bytes()), expected);
        }
    }
}

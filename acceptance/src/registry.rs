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

const REGISTRY: &str = "docker-registry";

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

    /// Makes an index of images that are in its repositories, in the repository of `name`: blobs are copied, then the
    /// manifests, then the index, whose descriptors have further keys, such as `annotations`.
    pub fn push_index(&self, name: &str, children: &[(&str, serde_json::Value)]) -> String {
        let (repository, tag) = name.split_once(':').unwrap_or((name, "latest"));
        let mut manifests = Vec::new();
        for (image, more) in children {
            let digest = Tool::new("skopeo")
                .args(["inspect"])
                .args(self.skopeo_flags(""))
                .args(["--format", "{{.Digest}}", &format!("docker://{}", self.image(image))])
                .run();
            let digest = digest.trim();
            let to = format!("docker://{}@{digest}", self.image(repository));
            Tool::new("skopeo")
                .args(["copy", "--quiet", "--preserve-digests"])
                .args(self.skopeo_flags("src"))
                .args(self.skopeo_flags("dest"))
                .args([format!("docker://{}", self.image(image)), to])
                .run();
            let (_, manifest) = self.get(&format!("/v2/{repository}/manifests/{digest}"));
            let stated: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
            let mut descriptor = serde_json::json!({
                "mediaType": stated["mediaType"].as_str().unwrap_or("application/vnd.oci.image.manifest.v1+json"),
                "digest": digest,
                "size": manifest.len(),
            });
            let entries = descriptor.as_object_mut().expect("an object");
            entries.extend(more.as_object().cloned().unwrap_or_default());
            manifests.push(descriptor);
        }
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index = serde_json::json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests });
        self.put_manifest(repository, tag, media_type, index.to_string().as_bytes())
    }

    /// Puts a manifest or an index under a tag or a digest; its digest.
    pub fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, body: &[u8]) -> String {
        let path = format!("/v2/{repository}/manifests/{tag}");
        let (head, _) = self.request("PUT", &path, &format!("Content-Type: {media_type}\r\n"), body);
        assert!(head.starts_with("HTTP/1.1 201"), "PUT {path}: {head}");
        let digest = head.lines().find_map(|line| line.strip_prefix("Docker-Content-Digest: "));
        digest.expect("a digest").trim().to_owned()
    }

    /// What is at a path; the header with its status line first, and the body.
    pub fn get(&self, path: &str) -> (String, Vec<u8>) {
        let types = ["image.index.v1+json", "image.manifest.v1+json"].map(|kind| format!("application/vnd.oci.{kind}"));
        let docker = ["manifest.list.v2+json", "manifest.v2+json"]
            .map(|kind| format!("application/vnd.docker.distribution.{kind}"));
        let accept = [types, docker].concat().join(", ");
        self.request("GET", path, &format!("Accept: {accept}\r\n"), b"")
    }

    /// The index under a name.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn index(&self, name: &str) -> serde_json::Value {
        let (repository, tag) = name.split_once(':').unwrap_or((name, "latest"));
        let (head, body) = self.get(&format!("/v2/{repository}/manifests/{tag}"));
        assert!(head.starts_with("HTTP/1.1 200"), "{name}: {head}");
        let index: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert!(index["manifests"].is_array(), "{name} is no index: {index}");
        index
    }

    /// The platforms of an index's children, `linux/arm64`, and their digests, in its order.
    pub fn children(&self, name: &str) -> Vec<(String, String)> {
        let index = self.index(name);
        let children = index["manifests"].as_array().expect("a list").iter();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let platform = |platform: &serde_json::Value| {
            let parts = ["os", "architecture", "variant"].map(|key| text(&platform[key]));
            parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
        };
        children.map(|child| (platform(&child["platform"]), text(&child["digest"]))).collect()
    }

    fn request(&self, method: &str, path: &str, header: &str, body: &[u8]) -> (String, Vec<u8>) {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(&self.host).expect("the registry listens");
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{header}Content-Length: {length}\r\n\r\n",
            self.host
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("answered");
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer has a header");
        let head = String::from_utf8_lossy(&answer[..end]).replace('\r', "");
        (head, answer[end + 4..].to_vec())
    }

    /// Runs its collector, as if nobody writes at the moment: of blobs that no manifest names, and with `untagged` of
    /// manifests without a tag.
    pub fn collect(&self, untagged: bool) {
        let more = untagged.then_some("--delete-untagged");
        let config = self.directory.path().join("config.yml");
        Tool::new(REGISTRY).args(["garbage-collect"]).args(more).args([config]).run();
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
    let mut process = Command::new(REGISTRY)
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

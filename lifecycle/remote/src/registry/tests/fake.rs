//! A registry in threads of the test, that can be told to fail, request by request.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use lifecycle::digest::Digest;

/// A registry that answers until this is dropped.
pub(super) struct Fake {
    shared: Arc<Shared>,
    listener: SocketAddr,
    /// `127.0.0.1:<port>`.
    pub(super) address: String,
}

struct Shared {
    state: Mutex<State>,
    /// Told when a stalled answer may give up: at the end.
    ended: Condvar,
}

/// What the registry has and does.
#[derive(Default)]
pub(super) struct State {
    pub(super) blobs: HashMap<(String, String), Vec<u8>>,
    /// By repository and tag or digest: media type and bytes.
    pub(super) manifests: HashMap<(String, String), (String, Vec<u8>)>,
    pub(super) uploads: HashMap<String, Vec<u8>>,
    /// What is to go wrong: method, part of the path, how. The first that fits a request is used up by it.
    pub(super) script: VecDeque<(String, String, Fault)>,
    /// What was asked.
    pub(super) seen: Vec<Seen>,
    pub(super) auth: Auth,
    /// Tokens that were given, with their scopes; one that is removed has ended.
    pub(super) tokens: HashMap<String, String>,
    /// Header of answers to manifests: not the digest, but this.
    pub(super) lie: Option<String>,
    /// What answers to an upload's beginning say is the time.
    pub(super) date: Option<&'static str>,
    /// Refuses an index if something that it names is not there.
    pub(super) checks: bool,
    /// Answers a mount with 202.
    pub(super) never_mounts: bool,
    counter: u32,
    ended: bool,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
}

/// What a request needs.
#[derive(Clone, Default)]
pub(super) enum Auth {
    #[default]
    None,
    /// This header.
    Basic(&'static str),
    /// A token from the realm, which wants this header or form, or nothing. `None` as the realm: this registry's `/token`.
    Bearer { realm: Option<String>, wants: Option<&'static str> },
}

/// What goes wrong.
#[derive(Clone)]
pub(super) enum Fault {
    /// The connection is cut before anything is done.
    CutBefore,
    /// The connection is cut after so many bytes of the request's body.
    CutIn(usize),
    /// The request is done, but its answer never comes.
    CutAfter,
    /// This answer instead: status, headers, body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// This answer before the body is read; then the connection is closed.
    Early(u16),
    /// Only so many bytes of the body come.
    Truncated(usize),
    /// So many bytes of the body come, then nothing more.
    StalledAfter(usize),
    /// One byte of the body is another.
    Corrupt,
    /// Before the request is done, a collector takes all manifests that no tag names.
    Collected,
    /// No answer, ever.
    Stalled,
    /// A request whether the body is wanted is not answered.
    Silent,
    /// This many bytes of spaces instead.
    Huge(usize),
}

/// An answer with a status and a JSON error.
pub(super) fn refuse(status: u16, code: &str) -> Fault {
    Fault::Answer(status, vec![], format!(r#"{{"errors":[{{"code":"{code}","message":"told"}}]}}"#))
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Fake {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared { state: Mutex::default(), ended: Condvar::new() });
        let accepting = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = accepting.clone();
                if shared.lock().ended {
                    break;
                }
                let Ok(stream) = stream else { break };
                thread::spawn(move || shared.serve(&stream));
            }
        });
        Self { shared, listener: address, address: address.to_string() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// The next request of this method whose path has this part goes wrong; one that ends with it, if a `$` is at its end.
    pub(super) fn fail(&self, method: &str, part: &str, fault: Fault) {
        self.state().script.push_back((method.to_owned(), part.to_owned(), fault));
    }

    /// The requests so far of this method whose path has this part.
    pub(super) fn seen(&self, method: &str, part: &str) -> Vec<Seen> {
        let state = self.state();
        state.seen.iter().filter(|seen| seen.method == method && seen.path.contains(part)).cloned().collect()
    }

    pub(super) fn put_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.state().blobs.insert((repository.to_owned(), digest.to_string()), bytes.to_vec());
        digest
    }

    pub(super) fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        for name in [tag.to_owned(), digest.to_string()] {
            self.state().manifests.insert((repository.to_owned(), name), (media_type.to_owned(), bytes.to_vec()));
        }
        digest
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.ended.notify_all();
        // The listener notices at its next connection.
        let _ = TcpStream::connect(self.listener);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn stall(&self) {
        let state = self.lock();
        let _ = self.ended.wait_timeout_while(state, Duration::from_secs(60), |state| !state.ended);
    }

    fn serve(&self, stream: &TcpStream) {
        let mut first = [0];
        if stream.peek(&mut first).is_ok_and(|count| count == 1) && first == [0x16] {
            // Somebody who speaks TLS: the answer is what a server says that does not.
            let _ = (&mut &*stream).write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
            return;
        }
        let mut reader = BufReader::new(stream);
        while self.request(stream, &mut reader).is_some() {}
    }

    /// One request; `None` ends the connection.
    fn request(&self, stream: &TcpStream, reader: &mut BufReader<&TcpStream>) -> Option<()> {
        let mut writer = stream;
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let mut words = line.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let fault = {
            let mut state = self.lock();
            let fits = |(m, part, _): &(String, String, Fault)| {
                *m == method
                    && part.strip_suffix('$').map_or_else(|| path.contains(part.as_str()), |end| path.ends_with(end))
            };
            let at = state.script.iter().position(fits);
            at.and_then(|at| state.script.remove(at)).map(|(_, _, fault)| fault)
        };
        let mut seen = Seen { method, path, headers, body: Vec::new() };
        let length: usize = seen.headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let note = |seen: &Seen| self.lock().seen.push(seen.clone());
        match &fault {
            Some(Fault::CutBefore) => {
                note(&seen);
                return None;
            }
            Some(Fault::Early(status)) => {
                note(&seen);
                let _ = write!(writer, "HTTP/1.1 {status} Early\r\nContent-Length: 0\r\n\r\n");
                return None;
            }
            Some(Fault::Stalled) => {
                note(&seen);
                self.stall();
                return None;
            }
            Some(Fault::CutIn(count)) => {
                let _ = writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
                let mut part = vec![0; *count];
                let _ = reader.read_exact(&mut part);
                seen.body.clone_from(&part);
                note(&seen);
                // What has arrived is kept, as registries do.
                let id = upload_id(&seen.path);
                if let Some(upload) = self.lock().uploads.get_mut(id) {
                    upload.extend(part);
                }
                return None;
            }
            Some(Fault::Answer(status, headers, body)) if seen.headers.contains_key("expect") => {
                note(&seen);
                let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
                self.send(writer, "PUT", Answer { status: *status, headers, body: body.clone().into_bytes() }, None)?;
                // Whether the body comes nevertheless is not known: as with other servers, the connection ends.
                return None;
            }
            Some(Fault::Silent) => {}
            _ if seen.headers.contains_key("expect") => {
                writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
            }
            _ => {}
        }
        reader.take(length as u64).read_to_end(&mut seen.body).ok().filter(|count| *count == length)?;
        note(&seen);
        if let Some(Fault::Answer(status, headers, body)) = fault {
            let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            return self.send(writer, &seen.method, Answer { status, headers, body: body.into_bytes() }, None);
        }
        if matches!(fault, Some(Fault::Collected)) {
            self.lock().collect();
        }
        let answer = self.lock().answer(&seen);
        if matches!(fault, Some(Fault::CutAfter)) {
            return None;
        }
        self.send(writer, &seen.method, answer, fault)
    }

    fn send(&self, mut writer: &TcpStream, method: &str, mut answer: Answer, fault: Option<Fault>) -> Option<()> {
        if let Some(Fault::Huge(size)) = fault {
            answer.body = vec![b' '; size];
        }
        if matches!(fault, Some(Fault::Corrupt)) {
            let middle = answer.body.len() / 2;
            if let Some(byte) = answer.body.get_mut(middle) {
                *byte ^= 1;
            }
        }
        let mut head = format!("HTTP/1.1 {} Status\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        writer.write_all(format!("{head}\r\n").as_bytes()).ok()?;
        if method == "HEAD" {
            return Some(());
        }
        match fault {
            Some(Fault::Truncated(count)) => {
                let _ = writer.write_all(answer.body.get(..count)?);
                None
            }
            Some(Fault::StalledAfter(count)) => {
                let _ = writer.write_all(answer.body.get(..count)?);
                self.stall();
                None
            }
            _ => writer.write_all(&answer.body).ok(),
        }
    }
}

fn upload_id(path: &str) -> &str {
    path.rsplit('/').next().and_then(|last| last.split('?').next()).unwrap_or_default()
}

fn parameter<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = path.split_once('?')?;
    query.split('&').filter_map(|part| part.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The digests that an index names.
fn children(manifest: &[u8]) -> Vec<String> {
    let value: serde_json::Value = serde_json::from_slice(manifest).unwrap_or_default();
    let children = value["manifests"].as_array().cloned().unwrap_or_default();
    children.iter().filter_map(|child| Some(child["digest"].as_str()?.to_owned())).collect()
}

impl Answer {
    fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn error(status: u16, code: &str) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"of the fake"}}]}}"#);
        Self { body: body.into_bytes(), ..Self::new(status) }
    }
}

impl State {
    fn answer(&mut self, seen: &Seen) -> Answer {
        let path = seen.path.split('?').next().unwrap_or_default();
        if path == "/token" {
            return self.give_token(seen);
        }
        if let Some(refusal) = self.refuse(seen) {
            return refusal;
        }
        if path == "/v2/" {
            return Answer::new(200);
        }
        let rest = path.trim_start_matches("/v2/");
        if let Some((repository, name)) = rest.split_once("/manifests/") {
            return self.manifest(seen, repository, name);
        }
        match rest.split_once("/blobs/") {
            Some((repository, upload)) if upload.starts_with("uploads/") => self.upload(seen, repository),
            Some((repository, digest)) => self.blob(seen, repository, digest),
            None => Answer::new(404),
        }
    }

    fn give_token(&mut self, seen: &Seen) -> Answer {
        if let Auth::Bearer { wants: Some(wants), .. } = &self.auth {
            let form = String::from_utf8_lossy(&seen.body);
            let given = seen.headers.get("authorization").map(String::as_str).unwrap_or_default();
            if given != *wants && !form.contains(wants) {
                return Answer::new(401);
            }
        }
        self.counter += 1;
        let token = format!("token-{}", self.counter);
        let scopes =
            format!("{}{}", seen.path, String::from_utf8_lossy(&seen.body)).replace("%3A", ":").replace("%2C", ",");
        self.tokens.insert(token.clone(), scopes.replace("%2F", "/"));
        Answer { body: format!(r#"{{"token":"{token}","expires_in":300}}"#).into_bytes(), ..Answer::new(200) }
    }

    fn refuse(&self, seen: &Seen) -> Option<Answer> {
        let given = seen.headers.get("authorization").map(String::as_str).unwrap_or_default();
        match &self.auth {
            Auth::None => None,
            Auth::Basic(wanted) if given == *wanted => None,
            Auth::Basic(_) => {
                Some(Answer::error(401, "UNAUTHORIZED").with("WWW-Authenticate", r#"Basic realm="fake""#))
            }
            Auth::Bearer { realm, .. } => {
                let token = given.strip_prefix("Bearer ").unwrap_or_default();
                let repository = seen.path.trim_start_matches("/v2/").split("/blobs/").next().unwrap_or_default();
                let repository = repository.split("/manifests/").next().unwrap_or_default();
                let action = if matches!(seen.method.as_str(), "GET" | "HEAD") { "pull" } else { "pull,push" };
                let scope = format!("repository:{repository}:{action}");
                if self.tokens.get(token).is_some_and(|scopes| scopes.contains(&scope)) {
                    return None;
                }
                let host = seen.headers.get("host").cloned().unwrap_or_default();
                let realm = realm.clone().unwrap_or_else(|| format!("http://{host}/token"));
                let scope = if seen.path == "/v2/" { String::new() } else { format!(r#",scope="{scope}""#) };
                let header = format!(r#"Bearer realm="{realm}",service="fake"{scope}"#);
                Some(Answer::error(401, "UNAUTHORIZED").with("WWW-Authenticate", header))
            }
        }
    }

    fn manifest(&mut self, seen: &Seen, repository: &str, name: &str) -> Answer {
        if seen.method == "PUT" {
            let kind = seen.headers.get("content-type").cloned().unwrap_or_default();
            let digest = Digest::of(&seen.body).to_string();
            let is_there = |child: &String| self.manifests.contains_key(&(repository.to_owned(), child.clone()));
            if self.checks && !children(&seen.body).iter().all(is_there) {
                return Answer::error(400, "MANIFEST_BLOB_UNKNOWN");
            }
            for name in [name, &digest] {
                self.manifests.insert((repository.to_owned(), name.to_owned()), (kind.clone(), seen.body.clone()));
            }
            return Answer::new(201).with("Docker-Content-Digest", self.lie.clone().unwrap_or(digest));
        }
        let key = (repository.to_owned(), name.to_owned());
        if seen.method == "DELETE" {
            return Answer::new(if self.manifests.remove(&key).is_some() { 202 } else { 404 });
        }
        match self.manifests.get(&key) {
            Some((kind, bytes)) => Answer { body: bytes.clone(), ..Answer::new(200) }
                .with("Content-Type", kind.clone())
                .with("Docker-Content-Digest", self.lie.clone().unwrap_or(Digest::of(bytes).to_string())),
            None => Answer::error(404, "MANIFEST_UNKNOWN"),
        }
    }

    /// Takes what no tag names, neither itself nor by an index.
    fn collect(&mut self) {
        let tags = self.manifests.iter().filter(|((_, name), _)| !name.starts_with("sha256:"));
        let named: HashSet<(String, String)> = tags
            .flat_map(|((repository, _), (_, bytes))| {
                let named = children(bytes).into_iter().chain([Digest::of(bytes).to_string()]);
                named.map(|digest| (repository.clone(), digest)).collect::<Vec<_>>()
            })
            .collect();
        self.manifests.retain(|key, _| !key.1.starts_with("sha256:") || named.contains(key));
    }

    fn blob(&self, seen: &Seen, repository: &str, digest: &str) -> Answer {
        let Some(bytes) = self.blobs.get(&(repository.to_owned(), digest.to_owned())) else {
            return Answer::error(404, "BLOB_UNKNOWN");
        };
        let begin = seen
            .headers
            .get("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        match begin.and_then(|begin| Some((begin, bytes.get(begin..)?))) {
            Some((begin, part)) => Answer { body: part.to_vec(), ..Answer::new(206) }
                .with("Content-Range", format!("bytes {begin}-{}/{}", bytes.len() - 1, bytes.len())),
            None => Answer { body: bytes.clone(), ..Answer::new(200) },
        }
    }

    fn upload(&mut self, seen: &Seen, repository: &str) -> Answer {
        let id = upload_id(&seen.path).to_owned();
        let location = |id: &str| format!("/v2/{repository}/blobs/uploads/{id}?_state=x");
        match seen.method.as_str() {
            "POST" => {
                if let (Some(digest), Some(from), false) =
                    (parameter(&seen.path, "mount"), parameter(&seen.path, "from"), self.never_mounts)
                    && let Some(bytes) = self.blobs.get(&(from.to_owned(), digest.to_owned())).cloned()
                {
                    self.blobs.insert((repository.to_owned(), digest.to_owned()), bytes);
                    return Answer::new(201);
                }
                self.counter += 1;
                let id = format!("upload-{}", self.counter);
                self.uploads.insert(id.clone(), Vec::new());
                let answer = Answer::new(202).with("Location", location(&id));
                match self.date {
                    Some(date) => answer.with("Date", date),
                    None => answer,
                }
            }
            "GET" => match self.uploads.get(&id) {
                Some(bytes) => Answer::new(204)
                    .with("Range", format!("0-{}", bytes.len().saturating_sub(1)))
                    .with("Location", location(&id)),
                None => Answer::error(404, "BLOB_UPLOAD_UNKNOWN"),
            },
            "PUT" => {
                let Some(mut bytes) = self.uploads.remove(&id) else {
                    return Answer::error(404, "BLOB_UPLOAD_UNKNOWN");
                };
                bytes.extend(&seen.body);
                let digest = parameter(&seen.path, "digest").unwrap_or_default().to_owned();
                if digest != Digest::of(&bytes).to_string() {
                    return Answer::error(400, "DIGEST_INVALID");
                }
                self.blobs.insert((repository.to_owned(), digest), bytes);
                Answer::new(201)
            }
            "DELETE" => Answer::new(if self.uploads.remove(&id).is_some() { 204 } else { 404 }),
            _ => Answer::new(405),
        }
    }
}

//! A real registry: Debian's `docker-registry`, on a free port of this machine.

#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses another part")]

mod closed_port;

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

#[allow(unused_imports, reason = "as above")]
pub use closed_port::ClosedPort;

/// A registry that runs until this is dropped.
pub struct Registry {
    child: Child,
    /// `127.0.0.1:<port>`.
    pub address: String,
    dir: TempDir,
}

/// User and password where a registry asks for them.
pub const USER: (&str, &str) = ("alice", "correct horse");

/// The same as a header.
pub const BASIC: &str = "Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==";

/// A certificate and its key, in PEM files.
pub struct Certificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub authority: PathBuf,
}

impl Registry {
    /// Starts one. `auth`: asks for [`USER`]. With a certificate it speaks TLS.
    pub fn start(auth: bool, tls: Option<&Certificate>) -> Self {
        Self::start_with(auth, tls, "")
    }

    /// Starts one with more lines in its configuration.
    pub fn start_with(auth: bool, tls: Option<&Certificate>, more: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let address = format!("127.0.0.1:{port}");
        let mut config = format!(
            "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: {address}\n",
            dir.path().join("data").display()
        );
        if let Some(tls) = tls {
            let (certificate, key) = (tls.certificate.display(), tls.key.display());
            config += &format!("  tls:\n    certificate: {certificate}\n    key: {key}\n");
        }
        if auth {
            let passwords = run(tool("htpasswd", "apache2-utils").args(["-Bbn", USER.0, USER.1]));
            let path = dir.path().join("htpasswd");
            std::fs::write(&path, passwords).expect("a file");
            config += &format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path.display());
        }
        config += more;
        let path = dir.path().join("config.yml");
        std::fs::write(&path, config).expect("a file");
        let log = std::fs::File::create(dir.path().join("log")).expect("a file");
        let child = tool("docker-registry", "docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("docker-registry starts");
        let mut registry = Self { child, address, dir };
        registry.wait();
        registry
    }

    fn wait(&mut self) {
        let began = Instant::now();
        while TcpStream::connect(&self.address).is_err() {
            let ended = self.child.try_wait().expect("its state");
            if ended.is_some() || began.elapsed() > Duration::from_secs(30) {
                let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                panic!("docker-registry does not listen ({ended:?}): {log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that a test needs; says what to install where it is not there.
pub fn tool(name: &str, package: &str) -> Command {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join(name).is_file()));
    assert!(found, "this test needs {name}: apt-get install {package}");
    let mut command = Command::new(name);
    command.stdin(Stdio::null());
    command
}

/// Runs a program that has to succeed; what it printed.
pub fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("a program runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {error}", output.status);
    output.stdout
}

/// An authority of our own, and a certificate by it for 127.0.0.1, localhost and registry.invalid.
pub fn certificate(dir: &Path) -> Certificate {
    let path = |name: &str| dir.join(name);
    let openssl = |arguments: &[&str]| {
        run(tool("openssl", "openssl").current_dir(dir).args(arguments));
    };
    std::fs::write(path("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:registry.invalid\n").expect("a file");
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority =
        ["req", "-x509", "-days", "30", "-subj", "/CN=Test authority", "-keyout", "ca.key", "-out", "ca.pem"];
    openssl(&[&authority[..], &key[..]].concat());
    openssl(
        &[&["req", "-subj", "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.csr"][..], &key[..]].concat(),
    );
    openssl(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "30",
        "-extfile",
        "names",
        "-out",
        "server.pem",
    ]);
    Certificate { certificate: path("server.pem"), key: path("server.key"), authority: path("ca.pem") }
}

/// A certificate for 127.0.0.1 by its own key, as openssl makes it if told nothing else: it says it is an authority.
pub fn signed_by_itself(dir: &Path) -> Certificate {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"];
    let files = ["-keyout", "self.key", "-out", "self.pem"];
    run(tool("openssl", "openssl").current_dir(dir).args(["req", "-x509"]).args(key).args(names).args(files));
    Certificate { certificate: dir.join("self.pem"), key: dir.join("self.key"), authority: dir.join("self.pem") }
}

/// Reads all of a reader.
pub fn read_all(mut reader: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("it can be read");
    bytes
}

/// A listener on a free port that hands each connection to `serve`, in a thread; its address.
pub fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let serve = std::sync::Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Passes bytes on between a connection and an address, both ways.
pub fn pass_on(from: &TcpStream, address: &str) {
    let Ok(to) = TcpStream::connect(address) else { return };
    let copy = |mut from: &TcpStream, mut to: &TcpStream| {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| copy(from, &to));
        copy(&to, from);
    });
}

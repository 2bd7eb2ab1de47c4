//! Against a registry that others wrote, with a client that others wrote as the judge.

mod common;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use common::{BASIC, ClosedPort, Registry, USER, certificate, listen, pass_on, read_all, run, signed_by_itself, tool};
use lifecycle::digest::Digest;
use lifecycle::image::contract::{self, Subject};
use lifecycle::image::{Draft, Image, Layer, Store, StoreError};
use lifecycle::layer::Spool;
use lifecycle_launch::console::chain;
use lifecycle_remote::{AccessInputs, acquire_with, open};
use platform_spec::target::Target;

/// A store as a phase with these variables and these `-insecure-registry` gets it.
fn store(variables: &[(&str, &str)], insecure: &[&str]) -> Box<dyn Store> {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    let insecure_registries = insecure.iter().map(|prefix| (*prefix).to_owned()).collect();
    let inputs = AccessInputs { insecure_registries, ..AccessInputs::default() };
    let access = acquire_with(&inputs, &|name| variables.get(name).map(|value| (*value).to_owned()));
    open(&access.expect("access"))
}

fn auth(registry: &Registry) -> String {
    format!(r#"{{"{}": "{BASIC}"}}"#, registry.address)
}

fn target() -> Target {
    Target { os: "linux".to_owned(), arch: "amd64".to_owned(), ..Target::default() }
}

/// An image of real (empty, but compressed) layers.
fn image(temp: &Path, layers: usize) -> Image {
    let draft = Draft::empty("linux", "amd64", "");
    let add = |draft: Draft, number: usize| {
        let dir = temp.join(format!("layer-{number}"));
        std::fs::create_dir_all(&dir).expect("a directory");
        std::fs::write(dir.join("file"), format!("{number} ").repeat(10_000 * number)).expect("a file");
        let tar = run(tool("tar", "tar").arg("-C").arg(&dir).args(["--sort=name", "-c", "file"]));
        let diff_id = Digest::of(&tar);
        let path = dir.join("tar");
        std::fs::write(&path, tar).expect("a file");
        run(tool("gzip", "gzip").arg("-nk").arg(&path));
        let blob = std::fs::read(dir.join("tar.gz")).expect("a file");
        let spool =
            Spool::new(std::fs::File::open(dir.join("tar.gz")).expect("opened"), Digest::of(&blob), blob.len() as u64);
        draft.with_layer(Layer::packed(diff_id, Arc::new(spool)), "a test")
    };
    (1..=layers).fold(draft, add).finish().expect("an image")
}

fn push(store: &dyn Store, name: &str, also: &[String], image: &Image) -> Digest {
    let push = store.push(name, also).expect("a push begins");
    let pushed = push.finish(image).expect("a push ends");
    for (name, result) in pushed.names {
        result.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    pushed.digest
}

#[test]
fn does_what_every_store_does() {
    let registry = Registry::start(false, None);
    let temp = tempfile::tempdir().expect("a directory");
    let prefix = format!("{}/contract", registry.address);
    contract::run(&Subject { store: &*store(&[], &[]), prefix: &prefix, temp: temp.path(), deletes: true });
}

#[test]
fn does_what_every_store_does_with_passwords() {
    let registry = Registry::start(true, None);
    let temp = tempfile::tempdir().expect("a directory");
    let (prefix, auth) = (format!("{}/contract", registry.address), auth(&registry));
    let store = store(&[("CNB_REGISTRY_AUTH", &auth)], &[]);
    contract::run(&Subject { store: &*store, prefix: &prefix, temp: temp.path(), deletes: true });
}

#[test]
fn credentials_are_needed_and_right() {
    let registry = Registry::start(true, None);
    let name = format!("{}/app", registry.address);
    let wrong = format!(r#"{{"{}": "Basic {}"}}"#, registry.address, "YWxpY2U6d3Jvbmc=");
    for variables in [vec![], vec![("CNB_REGISTRY_AUTH", wrong.as_str())]] {
        let store = store(&variables, &[]);
        for result in [store.check_read(&name), store.check_write(&name), store.open(&name, &target()).map(|_| ())] {
            let error = result.expect_err("refused");
            assert!(matches!(error, StoreError::Unauthorized { .. }), "{error:?}");
        }
        let error = store.open(&name, &target()).expect_err("refused");
        assert!(error.counts_as_absent(), "a registry's own words: {error:?}");
    }
    let unknown = format!(r#"{{"{}": "Digest x"}}"#, registry.address);
    let error = store(&[("CNB_REGISTRY_AUTH", &unknown)], &[]).check_read(&name).expect_err("an unknown scheme");
    assert!(matches!(error, StoreError::Failed { .. }), "{error:?}");

    // The docker config, with a password and with a helper.
    let home = tempfile::tempdir().expect("a directory");
    let config = home.path().join("config.json");
    let value = BASIC.trim_start_matches("Basic ");
    std::fs::write(&config, format!(r#"{{"auths": {{"{}": {{"auth": "{value}"}}}}}}"#, registry.address))
        .expect("a file");
    let variables = [("DOCKER_CONFIG", home.path().to_str().expect("text"))];
    store(&variables, &[]).check_write(&name).expect("written");
}

#[test]
fn others_can_read_what_we_push_and_we_what_they_push() {
    let registry = Registry::start(true, None);
    let temp = tempfile::tempdir().expect("a directory");
    let auth = auth(&registry);
    let store = store(&[("CNB_REGISTRY_AUTH", &auth)], &[]);
    let ours = image(temp.path(), 3);
    let name = format!("{}/ours:1", registry.address);
    let digest = push(&*store, &name, &[format!("{}/other/ours:2", registry.address)], &ours);

    let skopeo = |arguments: &[&str]| {
        let credentials = format!("{}:{}", USER.0, USER.1);
        let mut command = tool("skopeo", "skopeo");
        let (verb, rest) = arguments.split_first().expect("a verb");
        let from_or_to: &[&str] = match *verb {
            "inspect" => &["--tls-verify=false", "--creds"],
            _ => &["--src-tls-verify=false", "--dest-tls-verify=false", "--src-creds"],
        };
        command.arg("--insecure-policy").arg(verb).args(from_or_to).arg(&credentials);
        if *verb == "copy" {
            command.arg("--dest-creds").arg(&credentials);
        }
        run(command.args(rest))
    };
    let inspected = skopeo(&["inspect", "--format", "{{.Digest}}", &format!("docker://{name}")]);
    assert_eq!(String::from_utf8_lossy(&inspected).trim(), digest.to_string());
    let layout = format!("oci:{}:x", temp.path().join("layout").display());
    skopeo(&["copy", &format!("docker://{}/other/ours:2", registry.address), &layout]);
    // Back under another name; and as Docker's kind of manifest.
    let theirs = format!("{}/theirs:1", registry.address);
    skopeo(&["copy", &layout, &format!("docker://{theirs}")]);
    let opened = store.open(&theirs, &target()).expect("opened");
    assert_eq!(opened.manifest.digest, digest);
    let docker = format!("{}/theirs:2", registry.address);
    skopeo(&["copy", "--format", "v2s2", &layout, &format!("docker://{docker}")]);
    let opened = store.open(&docker, &target()).expect("opened");
    assert_eq!(opened.config.diff_ids(), ours.config.diff_ids());
    for layer in &opened.layers {
        let bytes = read_all(store.read_blob(layer).expect("a blob"));
        assert_eq!(Some(Digest::of(&bytes)), layer.blob.as_ref().map(|blob| blob.digest));
    }
}

#[test]
fn tls_is_checked_unless_told_otherwise() {
    let dir = tempfile::tempdir().expect("a directory");
    let certificate = certificate(dir.path());
    let registry = Registry::start(false, Some(&certificate));
    let name = format!("{}/app", registry.address);

    // A private address: https is found, and a certificate that does not verify is an error, not a reason for http.
    let error = store(&[], &[]).check_read(&name).expect_err("an unknown authority");
    assert!(matches!(error, StoreError::Failed { .. }), "{error:?}");
    assert!(!chain(&error).contains("http://"), "{}", chain(&error));
    let error = store(&[], &[]).check_read(&name.replace("127.0.0.1", "localhost")).expect_err("an unknown authority");
    let text = chain(&error);
    assert!(text.contains("unknown authority; add the authority's certificate to SSL_CERT_FILE"), "{text}");
    assert!(text.contains("-insecure-registry"), "{text}");

    let temp = tempfile::tempdir().expect("a directory");
    let authority = certificate.authority.to_str().expect("text");
    let trusting = store(&[("SSL_CERT_FILE", authority)], &[]);
    push(&*trusting, &name, &[], &image(temp.path(), 2));
    trusting.open(&name, &target()).expect("opened");

    let directory = tempfile::tempdir().expect("a directory");
    std::fs::copy(authority, directory.path().join("ca.pem")).expect("copied");
    let directory = directory.path().to_str().expect("text");
    store(&[("SSL_CERT_DIR", directory)], &[]).open(&name, &target()).expect("opened");

    store(&[], &[&registry.address]).open(&name, &target()).expect("opened unchecked");
}

#[test]
fn a_certificate_that_is_trusted_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let certificate = signed_by_itself(dir.path());
    let registry = Registry::start(false, Some(&certificate));
    let name = format!("{}/app", registry.address);
    let trusted = certificate.authority.to_str().expect("text");
    store(&[("SSL_CERT_FILE", trusted)], &[]).check_write(&name).expect("written");
    let error = store(&[], &[]).check_write(&name).expect_err("a stranger");
    assert!(matches!(error, StoreError::Failed { .. }), "{error:?}");
}

#[test]
fn insecure_registries_are_named_in_errors() {
    let closed = ClosedPort::take();
    let registry = &closed.address;
    let error = store(&[], &[registry]).open(&format!("{registry}/app"), &target()).expect_err("nobody there");
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert!(cause.contains(&format!("http://{registry}")), "{cause}");
    assert!(matches!(error, StoreError::Failed { .. }), "a dead registry is not a missing image: {error:?}");
}

#[test]
fn a_slow_tls_server_is_not_taken_for_plain_http() {
    let dir = tempfile::tempdir().expect("a directory");
    let certificate = certificate(dir.path());
    let registry = Registry::start(false, Some(&certificate));
    let address = registry.address.clone();
    let slow = listen(move |stream| {
        std::thread::sleep(std::time::Duration::from_millis(600));
        pass_on(&stream, &address);
    });
    let authority = certificate.authority.to_str().expect("text");
    store(&[("SSL_CERT_FILE", authority)], &[]).check_write(&format!("{slow}/app")).expect("written");
}

#[test]
fn through_a_proxy() {
    let dir = tempfile::tempdir().expect("a directory");
    let certificate = certificate(dir.path());
    let registry = Registry::start(true, Some(&certificate));
    let address = registry.address.clone();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    let proxy = listen(move |mut stream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte).unwrap_or(0) == 0 {
                return;
            }
            head.push(byte[0]);
        }
        seen.lock().expect("no panic").push(String::from_utf8_lossy(&head).into_owned());
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        pass_on(&stream, &address);
    });
    let url = format!("http://user:pass@{proxy}");
    let auth = format!(r#"{{"registry.invalid": "{BASIC}"}}"#);
    let authority = certificate.authority.to_str().expect("text");
    let variables = [("HTTPS_PROXY", url.as_str()), ("SSL_CERT_FILE", authority), ("CNB_REGISTRY_AUTH", &auth)];
    store(&variables, &[]).check_write("registry.invalid/app").expect("written");
    let heads = heads.lock().expect("no panic");
    assert!(!heads.is_empty());
    for head in heads.iter() {
        assert!(head.starts_with("CONNECT registry.invalid:443 "), "{head}");
        assert!(head.contains("Proxy-Authorization: Basic dXNlcjpwYXNz"), "{head}");
        assert!(!head.to_lowercase().contains("\r\nauthorization"), "{head}");
    }
}

#[test]
fn a_token_server_without_tls_is_not_asked_by_a_registry_with() {
    let dir = tempfile::tempdir().expect("a directory");
    let certificate = certificate(dir.path());
    let asked = Arc::new(Mutex::new(0));
    let counter = asked.clone();
    let tokens = listen(move |_| *counter.lock().expect("no panic") += 1);
    let (authority, service) = (certificate.authority.display(), "test");
    let more = format!(
        "auth:\n  token:\n    realm: http://{tokens}/token\n    service: {service}\n    issuer: {service}\n    rootcertbundle: {authority}\n"
    );
    let registry = Registry::start_with(false, Some(&certificate), &more);
    let (auth, authority) = (auth(&registry), certificate.authority.to_str().expect("text"));
    for insecure in [vec![], vec![registry.address.as_str()]] {
        let store = store(&[("SSL_CERT_FILE", authority), ("CNB_REGISTRY_AUTH", &auth)], &insecure);
        let error = store.check_read(&format!("{}/app", registry.address)).expect_err("refused");
        let cause = std::error::Error::source(&error).expect("a cause").to_string();
        assert!(cause.contains("without TLS"), "{cause}");
    }
    assert_eq!(*asked.lock().expect("no panic"), 0);
}

//! Opening images and reading blobs.

use std::io::Read;
use std::time::{Duration, Instant};

use lifecycle::digest::Digest;
use lifecycle::image::{Format, Image, Layer, Reference, Source, Store, StoreError};

use super::fake::{Fake, Fault, refuse};
use super::{RegistryStore, chain, image, impatient, layer, noise, platform, store};

/// A registry that has `app:latest`, and its name.
fn with_app(blob: &[u8]) -> (Fake, String, Image) {
    let fake = Fake::start();
    let dir = tempfile::tempdir().expect("a directory");
    let image = image(&[layer(dir.path(), blob)]);
    fake.put_blob("app", blob);
    fake.put_blob("app", &image.config.bytes());
    fake.put_manifest("app", "latest", Format::Oci.manifest(), &image.manifest.bytes);
    let name = format!("{}/app", fake.address);
    (fake, name, image)
}

fn open(name: &str) -> Result<Image, StoreError> {
    store().open(name, &platform("amd64"))
}

/// Reads the app's layer.
fn read(name: &str) -> std::io::Result<Vec<u8>> {
    read_with(&store(), name)
}

fn read_with(store: &RegistryStore, name: &str) -> std::io::Result<Vec<u8>> {
    let image = store.open(name, &platform("amd64")).map_err(std::io::Error::other)?;
    let mut bytes = Vec::new();
    store.read_blob(&image.layers[0]).map_err(std::io::Error::other)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[test]
fn passing_faults_are_lived_through() {
    let content = noise(300_000);
    let faults = || {
        vec![
            Fault::CutBefore,
            Fault::CutAfter,
            Fault::Truncated(3),
            Fault::StalledAfter(5),
            Fault::Corrupt,
            Fault::Stalled,
            refuse(429, "TOOMANYREQUESTS"),
            refuse(408, "X"),
            refuse(500, "X"),
            refuse(502, "X"),
            refuse(503, "X"),
            refuse(504, "X"),
        ]
    };
    for (at, fault) in faults().into_iter().enumerate() {
        let (fake, name, image) = with_app(&content);
        for part in ["/v2/", "/manifests/", &format!("/blobs/{}", image.manifest.config.digest)] {
            fake.fail("GET", part, fault.clone());
        }
        let opened =
            impatient().open(&name, &platform("amd64")).unwrap_or_else(|error| panic!("fault {at}: {}", chain(&error)));
        assert_eq!(opened.manifest, image.manifest, "fault {at}");
        assert!(fake.state().script.is_empty(), "fault {at}: every fault was met");
    }
    for (at, fault) in faults().into_iter().enumerate() {
        let (fake, name, image) = with_app(&content);
        let part = format!("/blobs/{}", image.manifest.layers[0].digest);
        let is_corrupt = matches!(fault, Fault::Corrupt);
        fake.fail("GET", &part, fault);
        match read_with(&impatient(), &name) {
            Ok(bytes) => assert!(bytes == content && !is_corrupt, "fault {at}"),
            // The damage is in bytes that were given away already.
            Err(error) => assert!(is_corrupt && error.kind() == std::io::ErrorKind::InvalidData, "fault {at}: {error}"),
        }
    }
}

#[test]
fn reading_goes_on_where_it_was_cut() {
    let content = noise(500_000);
    let (fake, name, _) = with_app(&content);
    for count in [100_000, 200_000, 1] {
        fake.fail("GET", &format!("/blobs/{}", Digest::of(&content)), Fault::Truncated(count));
    }
    assert!(read(&name).expect("read") == content);
    let requests = fake.seen("GET", &format!("/blobs/{}", Digest::of(&content)));
    let ranges: Vec<_> = requests.iter().map(|seen| seen.headers.get("range").map(String::as_str)).collect();
    assert_eq!(ranges, [None, Some("bytes=100000-"), Some("bytes=300000-"), Some("bytes=300001-")]);
}

#[test]
fn lasting_faults_are_errors_that_say_what_they_are() {
    let content = noise(1000);
    type Check = fn(&StoreError) -> bool;
    let failed: Check = |error| matches!(error, StoreError::Failed { .. });
    let cases: [(&str, Fault, Check); 8] = [
        (
            "unauthorized with text",
            refuse(401, "UNAUTHORIZED"),
            |error| matches!(error, StoreError::Unauthorized { told: Some(told), .. } if told == "UNAUTHORIZED: told"),
        ),
        ("unauthorized without", Fault::Answer(401, vec![], String::new()), |error| {
            matches!(error, StoreError::Unauthorized { told: None, .. }) && !error.counts_as_absent()
        }),
        ("denied", refuse(403, "DENIED"), |error| matches!(error, StoreError::Forbidden { .. })),
        ("missing", Fault::Answer(404, vec![], String::new()), |error| matches!(error, StoreError::NotFound { .. })),
        ("bad gateway", Fault::Answer(502, vec![], String::new()), failed),
        ("cut", Fault::CutBefore, failed),
        ("stalled", Fault::Stalled, failed),
        ("huge", Fault::Huge(9 << 20), failed),
    ];
    for (what, fault, check) in cases {
        let (fake, name, _) = with_app(&content);
        for _ in 0..10 {
            fake.fail("GET", "/manifests/", fault.clone());
        }
        let began = Instant::now();
        let error = impatient().open(&name, &platform("amd64")).expect_err(what);
        assert!(check(&error), "{what}: {error:?}");
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        assert!(fake.seen("GET", "/manifests/").len() <= 6, "{what}: attempts are bounded");
    }
}

#[test]
fn damaged_documents_are_corrupt_not_missing() {
    let (fake, name, image) = with_app(b"layer");
    for _ in 0..10 {
        fake.fail("GET", "/manifests/", Fault::Corrupt);
    }
    assert!(matches!(open(&name), Err(StoreError::Corrupt { .. })));
    fake.state().script.clear();

    // A registry that gives the digest of something else.
    fake.state().lie = Some(Digest::of(b"else").to_string());
    assert!(matches!(open(&name), Err(StoreError::Corrupt { .. })));
    // Asked for by digest, what the registry says of it does not matter.
    open(&format!("{name}@{}", image.manifest.digest)).expect("opened");
    fake.state().lie = None;

    let by_digest = format!("{name}@{}", image.manifest.digest);
    fake.put_manifest("app", &image.manifest.digest.to_string(), Format::Oci.manifest(), b"{}");
    assert!(matches!(open(&by_digest), Err(StoreError::Corrupt { .. })));

    let (fake, name, image) = with_app(b"layer");
    fake.state().blobs.remove(&("app".to_owned(), image.manifest.config.digest.to_string()));
    assert!(matches!(open(&name), Err(StoreError::BlobNotFound { .. })));
}

#[test]
fn blobs_that_are_not_what_they_should_be() {
    let content = noise(1000);
    let (fake, name, image) = with_app(&content);
    let digest = image.manifest.layers[0].digest;
    for (stored, kind) in [(noise(999), "size"), (noise(1001), "size"), (vec![7; 1000], "digest")] {
        fake.state().blobs.insert(("app".to_owned(), digest.to_string()), stored);
        let error = read(&name).expect_err(kind).to_string();
        assert!(error.contains(kind), "{error}");
    }
    fake.state().blobs.remove(&("app".to_owned(), digest.to_string()));
    let store = store();
    let layer = &store.open(&name, &platform("amd64")).expect("opened").layers[0];
    assert!(!store.has_blob(layer).expect("looked for"));
    assert!(store.read_blob(layer).is_err_and(|error| matches!(error, StoreError::BlobNotFound { .. })));
    let nowhere = Layer { source: Source::Absent, ..layer.clone() };
    assert!(store.read_blob(&nowhere).is_err());
}

#[test]
fn a_registry_without_head_shows_a_blob_by_beginning_to_give_it() {
    let (fake, name, image) = with_app(b"layer");
    let store = store();
    let layer = &store.open(&name, &platform("amd64")).expect("opened").layers[0];
    let part = format!("/blobs/{}", image.manifest.layers[0].digest);
    let asked = |status| {
        fake.state().script.clear();
        for _ in 0..10 {
            fake.fail("HEAD", &part, Fault::Answer(status, vec![], String::new()));
        }
        store.has_blob(layer)
    };
    for status in [405, 501] {
        assert!(asked(status).expect("shown"), "{status}");
    }
    assert!(matches!(asked(403), Err(StoreError::Forbidden { .. })));
    assert!(matches!(asked(500), Err(StoreError::Failed { .. })));
    fake.state().blobs.remove(&("app".to_owned(), image.manifest.layers[0].digest.to_string()));
    for status in [405, 501] {
        assert!(!asked(status).expect("shown"), "{status}");
    }
}

#[test]
fn an_empty_blob() {
    let fake = Fake::start();
    let digest = fake.put_blob("app", b"");
    let reference = Reference::parse(&format!("{}/app", fake.address)).expect("a name");
    let mut layer = layer(tempfile::tempdir().expect("a directory").path(), b"");
    layer.source = Source::Registry(reference);
    assert_eq!(layer.blob.as_ref().map(|blob| blob.digest), Some(digest));
    let mut bytes = Vec::new();
    store().read_blob(&layer).expect("a blob").read_to_end(&mut bytes).expect("read");
    assert!(bytes.is_empty());
}

#[test]
fn indexes() {
    let (fake, name, image) = with_app(b"layer");
    let child = |digest: Digest, kind: &str, platform: &str| {
        format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":1{platform}}}"#)
    };
    let platform_json = |arch: &str| format!(r#","platform":{{"os":"linux","architecture":"{arch}"}}"#);
    let index = |children: &[String]| {
        let (kind, children) = (Format::Oci.index(), children.join(","));
        format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[{children}]}}"#)
    };
    let (manifest, nested) = (Format::Oci.manifest(), Format::Oci.index());
    let other = Digest::of(b"other");
    let put = |children: &[String]| {
        fake.put_manifest("app", "multi", Format::Oci.index(), index(children).as_bytes());
        store().open(&format!("{name}:multi"), &platform("amd64"))
    };
    let ours = image.manifest.digest;
    let opened =
        put(&[child(other, manifest, &platform_json("arm64")), child(ours, manifest, &platform_json("amd64"))]);
    let opened = opened.expect("the child for the target");
    assert_eq!(opened.identifier, format!("{name}@{ours}"));
    put(&[child(ours, manifest, "")]).expect("a child without a platform is for linux/amd64");
    let error =
        put(&[child(other, manifest, &platform_json("arm64")), child(other, manifest, &platform_json("s390x"))]);
    match error {
        Err(error @ StoreError::NoChild { .. }) => {
            assert!(error.to_string().contains("linux/amd64; there are linux/arm64, linux/s390x"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let error = put(&[child(ours, nested, &platform_json("amd64"))]);
    assert!(matches!(error, Err(StoreError::NoChild { .. })), "a nested index is not descended into: {error:?}");
    let error = put(&[child(other, manifest, &platform_json("amd64"))]);
    assert!(error.is_err(), "a child that is not there");
}

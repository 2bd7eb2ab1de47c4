//! Pushing.

use std::time::{Duration, Instant};

use lifecycle::digest::Digest;
use lifecycle::image::{Draft, Format, Image, Layer, Pushed, Reference, Source, Store, StoreError};

use super::fake::{Fake, Fault, refuse};
use super::{chain, image, impatient, layer, noise, platform, store};

const UPLOADS: &str = "/blobs/uploads/";

/// Pushes with all layers sent beforehand.
fn push(store: &dyn Store, name: &str, also: &[String], image: &Image) -> Result<Pushed, StoreError> {
    let push = store.push(name, also)?;
    for layer in &image.layers {
        push.layer(layer)?;
    }
    push.finish(image)
}

fn assert_pushed(pushed: Result<Pushed, StoreError>, what: &str) {
    let pushed = pushed.unwrap_or_else(|error| panic!("{what}: {}", chain(&error)));
    for (name, result) in pushed.names {
        result.unwrap_or_else(|error| panic!("{what}: {name}: {}", chain(&error)));
    }
}

/// The tag is there and so is all that it refers to.
fn assert_whole(fake: &Fake, repository: &str, tag: &str, image: &Image, what: &str) {
    let state = fake.state();
    let stored = state.manifests.get(&(repository.to_owned(), tag.to_owned()));
    assert_eq!(stored.map(|(_, bytes)| bytes), Some(&image.manifest.bytes), "{what}");
    for blob in image.manifest.layers.iter().chain([&image.manifest.config]) {
        let stored = state.blobs.get(&(repository.to_owned(), blob.digest.to_string()));
        assert!(stored.is_some_and(|bytes| Digest::of(bytes) == blob.digest), "{what}: {}", blob.digest);
    }
}

#[test]
fn passing_faults_are_lived_through() {
    let dir = tempfile::tempdir().expect("a directory");
    let image = image(&[layer(dir.path(), &noise(3 << 20)), layer(dir.path(), b"small")]);
    let steps =
        [("HEAD", "/blobs/"), ("POST", UPLOADS), ("PUT", UPLOADS), ("HEAD", "/manifests/"), ("PUT", "/manifests/")];
    let faults = [
        Fault::CutBefore,
        Fault::CutAfter,
        Fault::Stalled,
        Fault::CutIn(2 << 20),
        Fault::CutIn(100),
        refuse(429, "TOOMANYREQUESTS"),
        refuse(500, "X"),
        refuse(503, "X"),
        Fault::Answer(429, vec![("Retry-After", "0".to_owned())], String::new()),
    ];
    for (method, part) in steps {
        for (at, fault) in faults.iter().enumerate() {
            let is_blob = (method, part) == ("PUT", UPLOADS);
            if matches!(fault, Fault::CutIn(_)) && !is_blob {
                continue;
            }
            let what = format!("{method} {part}, fault {at}");
            let fake = Fake::start();
            fake.fail(method, part, fault.clone());
            assert_pushed(push(&impatient(), &format!("{}/app:1", fake.address), &[], &image), &what);
            assert_whole(&fake, "app", "1", &image, &what);
            assert!(fake.state().script.is_empty(), "{what}: the fault was met");
        }
    }
}

#[test]
fn a_cut_upload_is_gone_on_with() {
    let dir = tempfile::tempdir().expect("a directory");
    let content = noise(3 << 20);
    let fake = Fake::start();
    fake.fail("PUT", UPLOADS, Fault::CutIn(2 << 20));
    let push = store().0;
    let store = super::RegistryStore(push);
    let push = store.push(&format!("{}/app", fake.address), &[]).expect("a push begins");
    push.layer(&layer(dir.path(), &content)).expect("sent");
    let sent: usize = fake.seen("PUT", UPLOADS).iter().map(|seen| seen.body.len()).sum();
    assert_eq!(sent, content.len(), "nothing twice");
    let ranges = fake.seen("PUT", UPLOADS);
    assert_eq!(ranges[1].headers["content-range"], format!("{}-{}", 2 << 20, (3 << 20) - 1));
    assert_eq!(fake.seen("POST", UPLOADS).len(), 1);

    // A registry that says that more, less, or nonsense has arrived: the whole blob is sent again.
    for range in ["0-9999999999", "0-10", "nonsense", "0-99999999999999999999999", "0-3145727"] {
        let fake = Fake::start();
        fake.fail("PUT", UPLOADS, Fault::CutIn(2 << 20));
        fake.fail(
            "GET",
            UPLOADS,
            Fault::Answer(
                204,
                vec![("Range", range.to_owned()), ("Location", "/v2/app/blobs/uploads/x".to_owned())],
                String::new(),
            ),
        );
        let push = store.push(&format!("{}/app", fake.address), &[]).expect("a push begins");
        push.layer(&layer(dir.path(), &content)).expect(range);
        assert_eq!(fake.seen("PUT", UPLOADS)[1].body.len(), content.len(), "{range}");
    }
}

#[test]
fn a_registry_that_dies_in_the_middle() {
    let dir = tempfile::tempdir().expect("a directory");
    let image = image(&[layer(dir.path(), &noise(200_000)), layer(dir.path(), b"small")]);
    let steps = [("POST", UPLOADS), ("PUT", UPLOADS), ("PUT", "/manifests/")];
    for (method, part) in steps {
        for fault in [Fault::CutBefore, Fault::Stalled, refuse(502, "X"), Fault::CutIn(1000)] {
            let fake = Fake::start();
            for _ in 0..50 {
                fake.fail(method, part, fault.clone());
            }
            let began = Instant::now();
            let result = push(&impatient(), &format!("{}/app:1", fake.address), &[], &image);
            let error = match result {
                Err(error) => error,
                Ok(mut pushed) => pushed.names.remove(0).1.expect_err("it died"),
            };
            assert!(matches!(error, StoreError::Failed { .. }), "{error:?}");
            assert!(chain(&error).contains(&fake.address), "{}", chain(&error));
            assert!(!fake.state().manifests.contains_key(&("app".to_owned(), "1".to_owned())), "no tag is written");
            assert!(began.elapsed() < Duration::from_secs(30));
            assert!(fake.seen(method, part).len() <= 24, "attempts are bounded");
        }
    }
}

#[test]
fn refusals_are_not_repeated() {
    let dir = tempfile::tempdir().expect("a directory");
    let image = image(&[layer(dir.path(), b"small")]);
    for (status, method, part) in
        [(401, "POST", UPLOADS), (403, "POST", UPLOADS), (403, "PUT", "/manifests/"), (403, "HEAD", "/blobs/")]
    {
        let fake = Fake::start();
        for _ in 0..5 {
            fake.fail(method, part, refuse(status, "DENIED"));
        }
        let result = push(&store(), &format!("{}/app:1", fake.address), &[], &image);
        let error = match result {
            Err(error) => error,
            Ok(mut pushed) => pushed.names.remove(0).1.expect_err("refused"),
        };
        let right = match error {
            StoreError::Unauthorized { .. } => status == 401,
            StoreError::Forbidden { .. } => status == 403,
            _ => false,
        };
        assert!(right, "{error:?}");
        assert_eq!(fake.seen(method, part).len(), 1, "{status} {method}");
    }
}

#[test]
fn whether_a_body_is_wanted_is_asked_first() {
    let dir = tempfile::tempdir().expect("a directory");
    let content = noise(300_000);
    let layer_of = |content: &[u8]| layer(dir.path(), content);
    let send = |fake: &Fake, content: &[u8]| {
        let store = store();
        let push = store.push(&format!("{}/app", fake.address), &[]).expect("a push begins");
        push.layer(&layer_of(content)).map_err(|error| chain(&error))
    };
    // Refused before it is sent: nothing of the body goes out.
    let fake = Fake::start();
    fake.fail("PUT", UPLOADS, refuse(403, "DENIED"));
    assert!(send(&fake, &content).expect_err("refused").contains("DENIED"));
    assert!(fake.seen("PUT", UPLOADS).iter().all(|seen| seen.body.is_empty()));
    // "Expectation failed": sent without asking.
    let fake = Fake::start();
    fake.fail("PUT", UPLOADS, Fault::Answer(417, vec![], String::new()));
    send(&fake, &content).expect("sent");
    let asked: Vec<_> = fake.seen("PUT", UPLOADS).iter().map(|seen| seen.headers.contains_key("expect")).collect();
    assert_eq!(asked, [true, false]);
    // No answer to the question: sent after a moment, and the next one without asking.
    let fake = Fake::start();
    fake.fail("PUT", UPLOADS, Fault::Silent);
    let store = store();
    let push = store.push(&format!("{}/app", fake.address), &[]).expect("a push begins");
    push.layer(&layer_of(&content)).expect("sent");
    push.layer(&layer_of(&noise(300_001))).expect("sent");
    let asked: Vec<_> = fake.seen("PUT", UPLOADS).iter().map(|seen| seen.headers.contains_key("expect")).collect();
    assert_eq!(asked, [true, false]);
    // Small ones are sent without asking.
    let fake = Fake::start();
    send(&fake, b"small").expect("sent");
    assert!(fake.seen("PUT", UPLOADS).iter().all(|seen| !seen.headers.contains_key("expect")));
}

#[test]
fn an_answer_before_the_body_is_read() {
    let dir = tempfile::tempdir().expect("a directory");
    for size in [1000, 300_000, 20 << 20] {
        let fake = Fake::start();
        fake.fail("PUT", UPLOADS, Fault::Early(503));
        let store = store();
        let push = store.push(&format!("{}/app", fake.address), &[]).expect("a push begins");
        push.layer(&layer(dir.path(), &noise(size))).unwrap_or_else(|error| panic!("{size}: {}", chain(&error)));
    }
}

#[test]
fn layers_are_mounted_where_they_can_be() {
    let dir = tempfile::tempdir().expect("a directory");
    let fake = Fake::start();
    let base = image(&[layer(dir.path(), &noise(100_000))]);
    assert_pushed(push(&store(), &format!("{}/base", fake.address), &[], &base), "the base");
    let store = store();
    let opened = store.open(&format!("{}/base", fake.address), &platform("amd64")).expect("opened");
    let on_base =
        || Draft::based_on(opened.clone()).with_layer(layer(dir.path(), b"on top"), "x").finish().expect("an image");
    let image = on_base();
    let (before, gets) = (fake.seen("PUT", UPLOADS).len(), fake.seen("GET", "/v2/base/blobs/").len());
    assert_pushed(
        push(&store, &format!("{}/app", fake.address), &[format!("{}/copy:2", fake.address)], &image),
        "on it",
    );
    assert_whole(&fake, "app", "latest", &image, "app");
    assert_whole(&fake, "copy", "2", &image, "copy");
    assert_eq!(fake.seen("PUT", UPLOADS).len() - before, 2, "the layer on top and the config, once");
    assert_eq!(fake.seen("GET", "/v2/base/blobs/").len(), gets, "nothing is read");

    // A registry that does not mount, or refuses to, gets the bytes.
    fake.state().never_mounts = true;
    assert_pushed(push(&store, &format!("{}/third", fake.address), &[], &image), "sent");
    assert_whole(&fake, "third", "latest", &image, "third");
    fake.fail("POST", "mount=", refuse(403, "DENIED"));
    assert_pushed(push(&store, &format!("{}/fourth", fake.address), &[], &image), "sent");
    assert_whole(&fake, "fourth", "latest", &image, "fourth");

    // Another registry gets the bytes, too; those that arrive damaged are read again.
    let other = Fake::start();
    fake.fail("GET", "/v2/base/blobs/", Fault::Corrupt);
    fake.fail("GET", "/v2/base/blobs/", Fault::Truncated(5000));
    assert_pushed(push(&store, &format!("{}/app", other.address), &[], &image), "elsewhere");
    assert_whole(&other, "app", "latest", &image, "elsewhere");
    assert!(other.seen("POST", "mount=").is_empty(), "nothing to mount from");
}

#[test]
fn what_is_there_is_not_sent() {
    let dir = tempfile::tempdir().expect("a directory");
    let fake = Fake::start();
    let image = image(&[layer(dir.path(), &noise(100_000)), layer(dir.path(), b"small")]);
    let name = format!("{}/app", fake.address);
    assert_pushed(push(&store(), &name, &[], &image), "first");
    let before = (fake.seen("POST", "").len(), fake.seen("PUT", "").len());
    assert_pushed(push(&store(), &name, &[], &image), "second");
    assert_eq!((fake.seen("POST", "").len(), fake.seen("PUT", "").len()), before, "not even the manifest");
    assert_pushed(push(&store(), &name, &[format!("{name}:other")], &image), "another tag");
    assert_eq!(fake.seen("PUT", "").len(), before.1 + 1, "only a manifest");
}

#[test]
fn a_layer_that_several_threads_send_is_sent_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let fake = Fake::start();
    let store = store();
    let push = store.push(&format!("{}/app", fake.address), &[]).expect("a push begins");
    let layer = layer(dir.path(), &noise(500_000));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| push.layer(&layer).expect("sent"));
        }
    });
    assert_eq!(fake.seen("PUT", UPLOADS).len(), 1);
    assert_eq!(fake.seen("HEAD", "/blobs/").len(), 1);
}

#[test]
fn a_name_that_fails_does_not_stop_the_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let (fake, refusing) = (Fake::start(), Fake::start());
    for _ in 0..9 {
        refusing.fail("POST", UPLOADS, refuse(403, "DENIED"));
    }
    let image = image(&[layer(dir.path(), b"small")]);
    let names: Vec<String> = [&refusing, &fake, &refusing]
        .iter()
        .enumerate()
        .map(|(at, fake)| format!("{}/app:{at}", fake.address))
        .collect();
    let pushed = push(&store(), &names[0], &names[1..], &image).expect("one is left");
    let results: Vec<_> = pushed.names.iter().map(|(name, result)| (name, result.is_ok())).collect();
    assert_eq!(results, [(&names[0], false), (&names[1], true), (&names[2], false)]);
    assert!(matches!(pushed.names[2].1, Err(StoreError::Forbidden { .. })));
    assert_whole(&fake, "app", "1", &image, "the one that is left");
    assert_eq!(refusing.seen("POST", UPLOADS).len(), 1);

    fake.fail("PUT", "/manifests/3", refuse(400, "MANIFEST_INVALID"));
    let name = |tag: u32| format!("{}/app:{tag}", fake.address);
    let pushed = push(&store(), &name(3), &[name(4)], &image).expect("one is left");
    assert_eq!(pushed.names.iter().map(|(_, result)| result.is_ok()).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn blobs_that_get_lost_before_the_manifest_comes() {
    let dir = tempfile::tempdir().expect("a directory");
    let fake = Fake::start();
    let image = image(&[layer(dir.path(), b"small")]);
    let name = format!("{}/app:1", fake.address);
    let store = store();
    let push = store.push(&name, &[]).expect("a push begins");
    push.layer(&image.layers[0]).expect("sent");
    fake.state().blobs.clear();
    fake.fail("PUT", "/manifests/", refuse(400, "MANIFEST_BLOB_UNKNOWN"));
    assert_pushed(push.finish(&image), "sent again");
    assert_whole(&fake, "app", "1", &image, "sent again");
}

#[test]
fn what_cannot_be_pushed() {
    let dir = tempfile::tempdir().expect("a directory");
    let fake = Fake::start();
    let store = store();
    let name = format!("{}/app", fake.address);
    let whole = layer(dir.path(), b"small");
    let push_layer = |layer: &Layer| store.push(&name, &[]).expect("a push begins").layer(layer).expect_err("no bytes");
    assert!(matches!(push_layer(&Layer { source: Source::Absent, ..whole.clone() }), StoreError::BlobNotFound { .. }));
    assert!(matches!(push_layer(&Layer { blob: None, ..whole.clone() }), StoreError::Failed { .. }));
    // A file that is not what its descriptor says: the registry notices, and nothing goes on for ever.
    let spool = dir.path().join(Digest::of(b"small").hex());
    std::fs::write(&spool, b"SMALL").expect("a file");
    assert!(matches!(push_layer(&whole), StoreError::Failed { .. }));
    std::fs::write(&spool, b"sm").expect("a file");
    assert!(chain(&push_layer(&whole)).contains("shorter"));
    assert!(fake.state().manifests.is_empty());

    // A registry that stores something else than it was given.
    let image = image(&[layer(dir.path(), b"other")]);
    fake.state().lie = Some(Digest::of(b"else").to_string());
    let pushed = push(&store, &name, &[], &image).expect("pushed");
    assert!(chain(pushed.names[0].1.as_ref().expect_err("a lie")).contains("has stored it as"));
    // Another image's digest as the name.
    let pushed = push(&store, &format!("{name}@{}", Digest::of(b"else")), &[], &image).expect("pushed");
    assert!(matches!(pushed.names[0].1, Err(StoreError::Name { .. })));
}

#[test]
fn layers_that_registries_do_not_keep() {
    let dir = tempfile::tempdir().expect("a directory");
    let fake = Fake::start();
    let mut foreign = layer(dir.path(), b"windows");
    foreign.source = Source::Registry(Reference::parse(&format!("{}/base", fake.address)).expect("a name"));
    if let Some(blob) = &mut foreign.blob {
        blob.media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".to_owned();
    }
    store().push(&format!("{}/app", fake.address), &[]).expect("a push begins").layer(&foreign).expect("passed over");
    assert!(fake.seen("POST", "").is_empty());
}

#[test]
fn access_checks() {
    let fake = Fake::start();
    let name = format!("{}/app", fake.address);
    let store = store();
    store.check_read(&name).expect("a missing image can be read");
    store.check_write(&name).expect("written");
    assert_eq!(fake.seen("DELETE", UPLOADS).len(), 1, "the upload is cancelled");
    assert!(fake.state().uploads.is_empty());
    for (status, method, part) in [(401, "HEAD", "/manifests/"), (403, "HEAD", "/manifests/"), (403, "POST", UPLOADS)] {
        fake.fail(method, part, refuse(status, "DENIED"));
        let result = if method == "HEAD" { store.check_read(&name) } else { store.check_write(&name) };
        let right = match result {
            Err(StoreError::Unauthorized { .. }) => status == 401,
            Err(StoreError::Forbidden { .. }) => status == 403,
            _ => false,
        };
        assert!(right, "{status} {method}");
    }
    for _ in 0..9 {
        fake.fail("HEAD", "/manifests/", Fault::Answer(502, vec![], String::new()));
        fake.fail("POST", UPLOADS, refuse(404, "NAME_UNKNOWN"));
        fake.fail("DELETE", "/manifests/", refuse(405, "UNSUPPORTED"));
    }
    assert!(matches!(store.check_read(&name), Err(StoreError::Failed { .. })));
    assert!(matches!(store.check_write(&name), Err(StoreError::Failed { .. })));
    assert!(matches!(store.delete(&name, &Digest::of(b"")), Err(StoreError::Failed { .. })));
}

#[test]
fn an_index_under_the_tag_is_replaced_by_the_image() {
    let dir = tempfile::tempdir().expect("a directory");
    let image = image(&[layer(dir.path(), b"small")]);
    for faults in [false, true] {
        let fake = Fake::start();
        fake.put_manifest("app", "latest", Format::Oci.index(), br#"{"schemaVersion":2,"manifests":[]}"#);
        if faults {
            // That it cannot be told what is lost changes nothing.
            fake.fail("GET", "/manifests/", refuse(404, "MANIFEST_UNKNOWN"));
        }
        assert_pushed(push(&store(), &format!("{}/app", fake.address), &[], &image), "pushed");
        assert_eq!(fake.seen("GET", "/manifests/").len(), 1);
        assert_whole(&fake, "app", "latest", &image, "replaced");
    }
}

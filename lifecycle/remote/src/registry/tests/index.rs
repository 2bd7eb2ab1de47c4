//! Changing the index under a tag.

use std::cell::Cell;

use lifecycle::image::index::{ANNOUNCED, write_whole};
use lifecycle::image::{
    Document, Draft, Format, Image, Index, IndexChange, IndexChild, IndexError, Store, WrittenIndex,
};

use super::fake::{Fake, Fault, refuse};
use super::{RegistryStore, impatient, store};

fn image(arch: &str) -> Image {
    Draft::empty("linux", arch, "").finish().expect("an image")
}

/// Pushes an image unnamed.
fn child(store: &RegistryStore, name: &str, image: &Image) -> IndexChild {
    let pushed = store.push(name, &[]).expect("begun").finish_untagged(image).expect("pushed");
    for (name, result) in pushed.names {
        result.unwrap_or_else(|error| panic!("{name}: {}", super::chain(&error)));
    }
    IndexChild::of(image, None)
}

fn merge(store: &RegistryStore, name: &str, image: &Image) -> Result<WrittenIndex, IndexError> {
    let child = child(store, name, image);
    store.write_index(name, &IndexChange::Merge(&[child]))
}

fn platforms(fake: &Fake, tag: &str) -> Vec<String> {
    let state = fake.state();
    let (kind, bytes) = &state.manifests[&("app".to_owned(), tag.to_owned())];
    Index::parse(bytes.clone(), kind).expect("an index").platforms()
}

fn chain(error: &IndexError) -> String {
    lifecycle_launch::console::chain(error)
}

/// It would say that it was merged.
#[test]
fn a_child_without_a_slot_is_refused() {
    let fake = Fake::start();
    let (store, name) = (store(), format!("{}/app:1", fake.address));
    let error = merge(&store, &name, &image("mips")).expect_err("refused");
    assert!(matches!(error, IndexError::Platform { .. }), "{}", chain(&error));
    assert!(!fake.state().manifests.contains_key(&("app".to_owned(), "1".to_owned())));
}

#[test]
fn one_merge_and_its_requests() {
    let fake = Fake::start();
    fake.state().date = Some("Tue, 14 Nov 2023 22:13:20 GMT");
    let (store, name, image) = (store(), format!("{}/app:1", fake.address), image("arm64"));
    let child = child(&store, &name, &image);
    let before = fake.state().seen.len();
    let written = store.write_index(&name, &IndexChange::Merge(&[child])).expect("written");
    assert_eq!((written.children.len(), written.overridden.len()), (1, 0));
    assert_eq!(platforms(&fake, "1"), ["linux/arm64"]);
    let requests: Vec<String> =
        fake.state().seen[before..].iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect();
    let slot = "/v2/app/manifests/1-cnb-linux-arm64";
    let others = requests.iter().filter(|request| request.starts_with("HEAD /v2/app/manifests/1-cnb-linux-")).count();
    assert_eq!(others, 1 + 2 * 15, "the own slot, and all slots in two readings");
    let mine: Vec<&str> = requests
        .iter()
        .map(|request| request.split("uploads/").next().unwrap_or_default())
        .filter(|request| !request.starts_with("HEAD /v2/app/manifests/1-cnb-linux-"))
        .collect();
    let put_slot = format!("PUT {slot}");
    assert_eq!(
        mine,
        [
            "POST /v2/app/blobs/",
            "DELETE /v2/app/blobs/",
            &put_slot,
            "HEAD /v2/app/manifests/1",
            "HEAD /v2/app/manifests/1",
            "PUT /v2/app/manifests/1",
            "HEAD /v2/app/manifests/1",
        ],
        "what was put is not got"
    );
    let state = fake.state();
    let (_, bytes) = &state.manifests[&("app".to_owned(), "1-cnb-linux-arm64".to_owned())];
    let slot: serde_json::Value = serde_json::from_slice(bytes).expect("JSON");
    assert_eq!(slot["annotations"][ANNOUNCED], "2023-11-14T22:13:20Z", "the registry's time");
}

#[test]
fn passing_faults_are_lived_through() {
    let image = image("arm64");
    for part in ["/manifests/1-cnb-linux-arm64", "/manifests/1$"] {
        for (at, fault) in [
            Fault::CutBefore,
            Fault::CutAfter,
            Fault::Stalled,
            refuse(429, "TOOMANYREQUESTS"),
            refuse(500, "X"),
            refuse(503, "X"),
            Fault::Answer(429, vec![("Retry-After", "0".to_owned())], String::new()),
        ]
        .into_iter()
        .enumerate()
        {
            for method in ["PUT", "HEAD"] {
                let fake = Fake::start();
                let (store, name) = (impatient(), format!("{}/app:1", fake.address));
                let child = child(&store, &name, &image);
                fake.fail(method, part, fault.clone());
                let written = store.write_index(&name, &IndexChange::Merge(&[child]));
                let what = || format!("{method} {part}, fault {at}");
                written.unwrap_or_else(|error| panic!("{}: {}", what(), chain(&error)));
                assert_eq!(platforms(&fake, "1"), ["linux/arm64"], "{}", what());
                assert!(fake.state().script.is_empty(), "{}: the fault was met", what());
            }
        }
    }
}

#[test]
fn lasting_faults_end_and_the_image_stands() {
    for part in ["/manifests/1-cnb-linux-arm64", "/manifests/1$"] {
        let fake = Fake::start();
        let (store, name, image) = (impatient(), format!("{}/app:1", fake.address), image("arm64"));
        let child = child(&store, &name, &image);
        for _ in 0..50 {
            fake.fail("PUT", part, refuse(503, "X"));
        }
        let error = store.write_index(&name, &IndexChange::Merge(&[child])).expect_err("it fails");
        assert!(matches!(error, IndexError::Store { .. }), "{error:?}");
        let stands = format!("the image is there as {}/app@{}", fake.address, image.manifest.digest);
        assert!(error.to_string().contains(&stands) && chain(&error).contains("503"), "{}", chain(&error));
        let attempts = fake.seen("PUT", part.trim_end_matches('$')).len();
        assert!((5..=6).contains(&attempts), "attempts are bounded: {attempts}");
        assert!(!fake.state().manifests.contains_key(&("app".to_owned(), "1".to_owned())), "no tag is written");
    }
}

#[test]
fn a_registry_that_refuses_says_why() {
    let refused = |fault: Fault, part: &str| {
        let fake = Fake::start();
        let (store, name, image) = (store(), format!("{}/app:1", fake.address), image("arm64"));
        let child = child(&store, &name, &image);
        fake.fail("PUT", part, fault);
        let error = store.write_index(&name, &IndexChange::Merge(&[child])).expect_err("refused");
        assert!(chain(&error).contains(&image.manifest.digest.to_string()), "{}", chain(&error));
        assert!(fake.state().script.is_empty(), "it was met");
        error
    };
    for (status, code) in [(400, "MANIFEST_INVALID"), (415, "UNSUPPORTED"), (404, "")] {
        let error = refused(refuse(status, code), "-cnb-linux-");
        assert!(matches!(error, IndexError::Refused { .. }), "{status} {code}: {error:?}");
        assert!(error.to_string().contains("the registry refuses indexes; the image is there as"), "{error}");
    }
    let told = |text: &str| format!(r#"{{"errors":[{{"code":"DENIED","message":"{text}"}}]}}"#);
    let immutable = Fault::Answer(400, vec![], told("cannot be overwritten because the repository is immutable"));
    for (part, expected) in [("/manifests/1-cnb-linux-arm64", "1-cnb-linux-arm64"), ("/manifests/1$", "1")] {
        match refused(immutable.clone(), part) {
            IndexError::Immutable { tag, .. } => assert_eq!(tag, expected),
            other => panic!("{other:?}"),
        }
    }
    let error = refused(refuse(403, "DENIED"), "-cnb-linux-");
    assert!(matches!(error, IndexError::Store { .. }), "{error:?}");
    let error = refused(refuse(400, "MANIFEST_BLOB_UNKNOWN"), "-cnb-linux-");
    assert!(matches!(error, IndexError::Gone { .. }), "a child that is gone is no refusal of indexes: {error:?}");
}

#[test]
fn what_a_tag_holds_already() {
    let fake = Fake::start();
    let (store, name) = (store(), format!("{}/app:1", fake.address));
    // One image.
    let old = image("s390x");
    store.push(&name, &[]).expect("begun").finish(&old).expect("pushed");
    merge(&store, &name, &image("arm64")).expect("merged");
    assert_eq!(platforms(&fake, "1"), ["linux/arm64", "linux/s390x"], "its config states its platform");
    // Something that has the tag of a slot by chance, and nonsense.
    fake.put_manifest("app", "1-cnb-linux-riscv64", Format::Oci.manifest(), &old.manifest.bytes);
    fake.put_manifest("app", "1-cnb-linux-386", "text/plain", b"nonsense");
    merge(&store, &name, &image("amd64")).expect("merged");
    assert_eq!(platforms(&fake, "1"), ["linux/amd64", "linux/arm64", "linux/s390x"]);
    // Nonsense under the tag itself is not overwritten.
    fake.put_manifest("app", "2", "text/plain", b"nonsense");
    let error = merge(&store, &format!("{}/app:2", fake.address), &image("amd64")).expect_err("nonsense");
    assert!(matches!(error, IndexError::Store { .. }), "{error:?}");
}

#[test]
fn a_registry_that_does_not_answer_head() {
    let fake = Fake::start();
    let (store, name) = (store(), format!("{}/app:1", fake.address));
    let image = image("arm64");
    let child = child(&store, &name, &image);
    for _ in 0..40 {
        fake.fail("HEAD", "/manifests/", refuse(405, "UNSUPPORTED"));
    }
    store.write_index(&name, &IndexChange::Merge(&[child])).expect("written");
    assert_eq!(platforms(&fake, "1"), ["linux/arm64"]);
}

#[test]
fn a_slot_that_is_announced_by_another_is_merged_too() {
    let fake = Fake::start();
    fake.state().date = Some("Tue, 14 Nov 2023 22:13:20 GMT");
    let (store, name) = (store(), format!("{}/app:1", fake.address));
    merge(&store, &name, &image("s390x")).expect("merged");
    // Its writer was killed before it put the index.
    fake.state().manifests.remove(&("app".to_owned(), "1".to_owned()));
    merge(&store, &name, &image("arm64")).expect("merged");
    assert_eq!(platforms(&fake, "1"), ["linux/arm64", "linux/s390x"]);
    // A quarter of an hour later its slot says nothing any more.
    fake.state().manifests.remove(&("app".to_owned(), "1".to_owned()));
    fake.state().date = Some("Tue, 14 Nov 2023 22:28:20 GMT");
    merge(&store, &name, &image("arm64")).expect("merged");
    assert_eq!(platforms(&fake, "1"), ["linux/arm64"]);
    assert!(matches!(store.document(&name), Ok(Document::Index(_))));
}

fn is_there(fake: &Fake, image: &Image) -> bool {
    fake.state().manifests.contains_key(&("app".to_owned(), image.manifest.digest.to_string()))
}

/// A collector that runs before the request, in a registry that looks for what an index names and in one that does not.
#[test]
fn a_child_that_a_collector_has_taken_is_sent_again() {
    let image = image("arm64");
    for checks in [true, false] {
        for (method, part) in
            [("POST", "/uploads/"), ("PUT", "1-cnb-linux-arm64"), ("HEAD", "/manifests/1$"), ("PUT", "/manifests/1$")]
        {
            let what = format!("before {method} {part}, with a look: {checks}");
            let fake = Fake::start();
            fake.state().checks = checks;
            let (store, name) = (store(), format!("{}/app:1", fake.address));
            let child = child(&store, &name, &image);
            fake.fail(method, part, Fault::Collected);
            let sent = Cell::new(0);
            let send = || {
                sent.set(sent.get() + 1);
                self::child(&store, &name, &image);
                Ok(())
            };
            let change = IndexChange::Merge(std::slice::from_ref(&child));
            let written = write_whole(&store, &name, &change, &|| vec![child.blob.digest], &send);
            written.unwrap_or_else(|error| panic!("{what}: {}", chain(&error)));
            assert!(fake.state().script.is_empty(), "{what}: it ran");
            assert_eq!(platforms(&fake, "1"), ["linux/arm64"], "{what}");
            assert!(is_there(&fake, &image), "{what}");
            // From its announcement on it is named.
            let early = matches!((method, part), ("POST", _) | ("PUT", "1-cnb-linux-arm64"));
            assert_eq!(sent.get(), u32::from(early), "{what}");
        }
    }
}

#[test]
fn what_a_rewrite_has_sent_and_a_collector_has_taken_is_sent_again() {
    let image = image("arm64");
    for checks in [true, false] {
        let fake = Fake::start();
        fake.state().checks = checks;
        let (store, name) = (store(), format!("{}/app:1", fake.address));
        let child = child(&store, &name, &image);
        fake.fail("PUT", "/manifests/1$", Fault::Collected);
        let made = Cell::new(0);
        let send = || {
            self::child(&store, &name, &image);
            Ok(())
        };
        let rewrite = |_: Option<&Document>| {
            if made.replace(made.get() + 1) > 0 {
                self::child(&store, &name, &image);
            }
            Ok(Index::fresh(std::slice::from_ref(&child)))
        };
        write_whole(&store, &name, &IndexChange::Rewrite(&rewrite), &|| vec![child.blob.digest], &send)
            .unwrap_or_else(|error| panic!("with a look: {checks}: {}", chain(&error)));
        assert_eq!(platforms(&fake, "1"), ["linux/arm64"]);
        assert!(is_there(&fake, &image), "with a look: {checks}");
        assert!(fake.state().script.is_empty(), "it ran");
    }
}

#[test]
fn what_others_have_lost_is_named_and_put_right_by_them() {
    let fake = Fake::start();
    fake.state().checks = true;
    fake.state().date = Some("Tue, 14 Nov 2023 22:13:20 GMT");
    let (store, name) = (store(), format!("{}/app:1", fake.address));
    let lost = image("arm64");
    merge(&store, &name, &lost).expect("merged");
    let before = fake.state().manifests[&("app".to_owned(), "1".to_owned())].clone();
    let key = ("app".to_owned(), lost.manifest.digest.to_string());
    fake.state().manifests.remove(&key).expect("there");
    // Its slot says nothing any more.
    fake.state().date = Some("Tue, 14 Nov 2023 22:33:20 GMT");
    let other = image("amd64");
    let error = merge(&store, &name, &other).expect_err("refused");
    let text = error.to_string();
    let IndexError::Gone { lost: named, .. } = error else { panic!("{error:?}") };
    assert_eq!(named.iter().map(|child| child.blob.digest).collect::<Vec<_>>(), [lost.manifest.digest]);
    let said = format!("has lost {} for linux/arm64, which the index names", lost.manifest.digest);
    assert!(text.contains(&said) && text.contains("-index replace"), "{text}");
    assert!(text.contains(&format!("the image is there as {}/app@{}", fake.address, other.manifest.digest)), "{text}");
    let tag = ("app".to_owned(), "1".to_owned());
    assert_eq!(fake.state().manifests[&tag], before, "the tag is what it was");
    let puts = fake.seen("PUT", "/manifests/1").into_iter().filter(|seen| seen.path.ends_with("/1")).count();
    assert_eq!(puts, 3, "it was tried again, once");
    merge(
        &store,
        &name,
        &Draft::empty("linux", "arm64", "").edit(|config| config.set_label("a", "b")).finish().expect("an image"),
    )
    .expect("the next export for it");
    assert_eq!(platforms(&fake, "1"), ["linux/amd64", "linux/arm64"]);
}

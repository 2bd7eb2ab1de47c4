//! Several writers change the index under one tag of a real registry at the same time: none is lost, none is stale.
//!
//! `RACES` says how many races there are of each size; by hand, 200.

mod common;

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use common::Registry;
use lifecycle::image::{Document, Draft, Image, Index, IndexChange, IndexChild, Store, WrittenIndex};
use lifecycle_launch::console::chain;
use lifecycle_remote::{AccessInputs, acquire_with, open};
use platform_spec::target::Platform;

/// One target each; the last is the first once more.
const ARCHITECTURES: [&str; 8] = ["amd64", "arm64", "s390x", "ppc64le", "riscv64", "loong64", "386", "amd64"];

/// A store of its own: other connections, as of another machine.
fn store() -> Box<dyn Store> {
    open(&acquire_with(&AccessInputs::default(), &|_| None).expect("access"))
}

fn image(arch: &str, text: &str) -> Image {
    Draft::empty("linux", arch, "").edit(|config| config.set_label("text", text)).finish().expect("an image")
}

/// Pushes an image unnamed.
fn push(store: &dyn Store, name: &str, image: &Image) -> IndexChild {
    let pushed = store.push(name, &[]).expect("begun").finish_untagged(image).expect("pushed");
    for (name, result) in pushed.names {
        result.unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
    }
    IndexChild::of(image, None)
}

fn merge(store: &dyn Store, name: &str, image: &Image) -> WrittenIndex {
    let child = push(store, name, image);
    let written = store.write_index(name, &IndexChange::Merge(&[child]));
    written.unwrap_or_else(|error| panic!("{name}: {}", chain(&error)))
}

/// The text of each child, by platform.
fn children(store: &dyn Store, name: &str) -> BTreeMap<String, String> {
    let Document::Index(index) = store.document(name).expect("read") else { panic!("{name} is no index") };
    let text = |child: &lifecycle::image::Child| {
        let target = child.platform.clone().expect("a platform");
        let opened = store.open(&store.name_by_digest(name, &child.blob.digest).expect("a name"), &target);
        let text = opened.expect("opened").config.label("text").unwrap_or_default().to_owned();
        (target.platform().to_string(), text)
    };
    let children: BTreeMap<_, _> = index.children.iter().map(text).collect();
    assert_eq!(children.len(), index.children.len(), "{name}: each platform once");
    children
}

fn races() -> usize {
    std::env::var("RACES").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

#[test]
fn children_that_are_merged_at_once_all_stand() {
    let registry = Registry::start(false, None);
    let stores: Vec<_> = (0..8).map(|_| store()).collect();
    for writers in [2, 4, 8] {
        let began = Instant::now();
        for race in 0..races() {
            let name = format!("{}/app:{writers}-{race}", registry.address);
            // Every other race is on a tag that has children, one of a platform that nobody writes.
            let older = race % 2 == 1;
            if older {
                for arch in ["amd64", "arm64", "mips64le"] {
                    merge(&*stores[0], &name, &image(arch, &format!("old {name}")));
                }
            }
            let barrier = Barrier::new(writers);
            std::thread::scope(|scope| {
                for (writer, store) in stores.iter().enumerate().take(writers) {
                    let (barrier, name) = (&barrier, &name);
                    scope.spawn(move || {
                        let image = image(ARCHITECTURES[writer], &format!("{writer} {name}"));
                        barrier.wait();
                        merge(&**store, name, &image);
                    });
                }
            });
            let found = children(&*stores[0], &name);
            let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (writer, arch) in ARCHITECTURES.iter().enumerate().take(writers) {
                expected.entry(format!("linux/{arch}")).or_default().push(format!("{writer} {name}"));
            }
            if older {
                expected.entry("linux/arm64".to_owned()).or_insert_with(|| vec![format!("old {name}")]);
                expected.insert("linux/mips64le".to_owned(), vec![format!("old {name}")]);
            }
            assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}: none is lost");
            for (platform, text) in &found {
                assert!(expected[platform].contains(text), "{name}: {platform} is stale: {text}");
            }
        }
        println_rate(writers, began.elapsed());
    }
}

#[test]
fn a_rewrite_after_merges_and_merges_after_it() {
    let registry = Registry::start(false, None);
    let store = store();
    for race in 0..races() {
        let name = format!("{}/app:{race}", registry.address);
        for arch in ["amd64", "arm64"] {
            merge(&*store, &name, &image(arch, "old"));
        }
        let rebase = |held: Option<&Document>| {
            let Some(Document::Index(index)) = held else { panic!("an index") };
            Ok(index.with_children_replaced(|child| {
                let arch = child.platform.as_ref().expect("a platform").arch.clone();
                Some(push(&*store, &name, &image(&arch, "rebased")))
            }))
        };
        store.write_index(&name, &IndexChange::Rewrite(&rebase)).unwrap_or_else(|error| panic!("{}", chain(&error)));
        let expected = |texts: &[(&str, &str)]| {
            let own = |(platform, text): &(&str, &str)| ((*platform).to_owned(), (*text).to_owned());
            texts.iter().map(own).collect::<BTreeMap<_, _>>()
        };
        let rebased = expected(&[("linux/amd64", "rebased"), ("linux/arm64", "rebased")]);
        assert_eq!(children(&*store, &name), rebased);
        // No slot that was left over brings an old child back.
        let written = merge(&*store, &name, &image("arm64", "new"));
        assert_eq!(written.overridden, Vec::<Platform>::new());
        assert_eq!(children(&*store, &name), expected(&[("linux/amd64", "rebased"), ("linux/arm64", "new")]));
        let fresh = |_: Option<&Document>| Ok(Index::fresh(&[push(&*store, &name, &image("s390x", "alone"))]));
        store.write_index(&name, &IndexChange::Rewrite(&fresh)).unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!(children(&*store, &name), expected(&[("linux/s390x", "alone")]));
        merge(&*store, &name, &image("amd64", "after"));
        assert_eq!(children(&*store, &name), expected(&[("linux/amd64", "after"), ("linux/s390x", "alone")]));
    }
}

/// For who runs many of them by hand.
fn println_rate(writers: usize, time: Duration) {
    let races = races();
    if races > 50 {
        let line = format!("{races} races of {writers}: {} ms each\n", time.as_millis() / races as u128);
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).expect("written");
    }
}

//! Which children an index has after a merge, and how it is written.

use platform_spec::target::{Platform, Target};
use serde_json::{Map, json};

use super::super::slot::{LONGEST_TAG, Slot};
use super::super::*;
use super::model::child;
use crate::image::{BlobRef, Draft, Format};

/// A foreign descriptor: `amd64 1` as the model's, `nested amd64 1` is an index, `docker amd64 1` Docker's,
/// `about <child>` an attestation of another child, `empty <child>` one whose platform names nothing.
fn foreign(name: &str) -> Child {
    let (kind, rest) = match name.split_once(' ') {
        Some((kind @ ("nested" | "docker" | "about" | "none" | "empty"), rest)) => (kind, rest),
        _ => ("", name),
    };
    let IndexChild { mut blob, mut target } = child(rest);
    match kind {
        "nested" => blob = BlobRef::new(Format::Oci.index(), Digest::of(name.as_bytes()), 7),
        "docker" => blob.media_type = Format::Docker.manifest().to_owned(),
        "about" => {
            let about = blob.digest.to_string();
            blob = BlobRef::new(Format::Oci.manifest(), Digest::of(name.as_bytes()), 7);
            blob.other.insert("annotations".to_owned(), json!({ "vnd.docker.reference.digest": about }));
            target = Target { os: "unknown".to_owned(), arch: "unknown".to_owned(), ..Target::default() };
        }
        "empty" => target = Target::default(),
        _ => {}
    }
    if kind == "none" {
        return Child { blob, platform: None };
    }
    let mut platform = json!({ "architecture": target.arch, "os": target.os });
    if !target.variant.is_empty() {
        platform["variant"] = target.variant.clone().into();
    }
    blob.other.insert("platform".to_owned(), platform);
    Child { blob, platform: Some(target) }
}

fn ours(name: &str) -> IndexChild {
    let Child { mut blob, platform } = foreign(name);
    blob.other.remove("platform");
    IndexChild { blob, target: platform.expect("a platform") }
}

/// An index as another tool has written it: in its order.
fn held(names: &[&str]) -> Held {
    Held { is_index: true, children: names.iter().map(|name| foreign(name)).collect(), other: Map::new() }
}

#[test]
fn children_are_added_and_replaced() {
    for (before, new, after) in [
        (&[][..], &["arm64 1"][..], &["arm64 1"][..]),
        (&["amd64 0"], &["arm64 1"], &["amd64 0", "arm64 1"]),
        (&["arm64 0"], &["arm64 1"], &["arm64 1"]),
        (&["s390x 0", "amd64 0"], &["arm64 1"], &["amd64 0", "arm64 1", "s390x 0"]),
        // One name for one platform.
        (&["arm64/v8 0", "amd64/v1 0"], &["arm64 1", "amd64 1"], &["amd64 1", "arm64 1"]),
        (&["amd64 0", "amd64/v3 0"], &["amd64/v3 1"], &["amd64 0", "amd64/v3 1"]),
        (&["arm/v6 0", "arm/v7 0"], &["arm/v7 1"], &["arm/v6 0", "arm/v7 1"]),
        // The same once more.
        (&["arm64 1"], &["arm64 1"], &["arm64 1"]),
        // Several of one platform: all are replaced by ours, others stay in their order.
        (&["arm64 a", "amd64 b", "arm64 c", "amd64 a"], &["arm64 1"], &["amd64 b", "amd64 a", "arm64 1"]),
        // Nested indexes and what states no platform.
        (&["nested arm64 0", "arm64 0"], &["arm64 1"], &["nested arm64 0", "arm64 1"]),
        (&["none amd64 0", "arm64 0"], &["amd64 1"], &["amd64 1", "arm64 0", "none amd64 0"]),
        (&["none amd64 0"], &["amd64 0"], &["amd64 0"]),
        (&["empty amd64 0", "arm64 0"], &["amd64 1"], &["amd64 1", "arm64 0", "empty amd64 0"]),
        // Attestations go with what they are about.
        (
            &["amd64 0", "about amd64 0", "arm64 0", "about arm64 0"],
            &["amd64 1"],
            &["amd64 1", "arm64 0", "about arm64 0"],
        ),
        (&["amd64 0", "about amd64 0"], &["amd64 0"], &["amd64 0", "about amd64 0"]),
        (&["amd64 0", "about s390x 9"], &["amd64 1"], &["amd64 1", "about s390x 9"]),
        // Of two of one platform the later.
        (&["amd64 0"], &["amd64 1", "amd64 2"], &["amd64 2"]),
    ] {
        let new: Vec<_> = new.iter().map(|name| ours(name)).collect();
        let index = held(before).merged(&new);
        let found: Vec<Digest> = index.children.iter().map(|child| child.blob.digest).collect();
        let expected: Vec<Digest> = after.iter().map(|name| foreign(name).blob.digest).collect();
        assert_eq!(found, expected, "{before:?} and {new:?}");
        assert_eq!(Index::parse(index.bytes.clone(), "").expect("an index"), index, "it reads back");
        let again = Held::of_index(&index);
        assert!(again.holds(&new[new.len() - 1..]), "{before:?}");
        assert_eq!(again.merged(&new).digest, index.digest, "merging again changes nothing");
    }
}

#[test]
fn what_is_held() {
    for (held, new, expected) in [
        (held(&["amd64 1", "arm64 1"]), "arm64 1", true),
        (held(&["arm64/v8 1"]), "arm64/v8 1", true),
        (held(&["amd64 1"]), "arm64 1", false),
        (held(&["arm64 0"]), "arm64 1", false),
        (held(&["arm64 1", "arm64 0"]), "arm64 1", false),
        (held(&["none arm64 1"]), "arm64 1", false),
        (Held { is_index: false, ..held(&["arm64 1"]) }, "arm64 1", false),
        (Held::default(), "arm64 1", false),
    ] {
        assert_eq!(held.holds(&[ours(new)]), expected, "{held:?}");
    }
    assert!(!Held::default().holds(&[]) && held(&[]).holds(&[]));
}

#[test]
fn the_words_of_an_index() {
    for (names, format) in [
        (&["docker amd64 0", "docker arm64 0"][..], Format::Docker),
        (&["docker amd64 0", "arm64 0"], Format::Oci),
        (&["arm64 0"], Format::Oci),
        (&[], Format::Oci),
        (&["docker amd64 0", "about amd64 0"], Format::Oci),
    ] {
        assert_eq!(held(names).merged(&[]).media_type, format.index(), "{names:?}");
    }
    let annotated = Held {
        other: Map::from_iter([("annotations".to_owned(), json!({ "b": "2", "a": "<1>" }))]),
        ..held(&["docker amd64 0"])
    };
    let index = annotated.merged(&[ours("docker arm64 1")]);
    assert_eq!(
        (index.media_type.as_str(), &index.other),
        (Format::Oci.index(), &annotated.other),
        "annotations survive"
    );
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let (amd64, arm64) = (foreign("amd64 0").blob.digest, foreign("arm64 1").blob.digest);
    assert_eq!(
        text(&index.bytes),
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","size":7,"digest":"{amd64}","platform":{{"architecture":"amd64","os":"linux"}}}},{{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","size":7,"digest":"{arm64}","platform":{{"architecture":"arm64","os":"linux"}}}}],"annotations":{{"a":"\u003c1\u003e","b":"2"}}}}"#
        )
    );
}

#[test]
fn a_child_states_the_platform_of_its_config() {
    for (arch, variant, target, expected) in [
        ("arm64", "", None, ("arm64", "")),
        ("arm64", "v8", Some("arm64"), ("arm64", "v8")),
        ("arm64", "", Some("arm64/v9"), ("arm64", "v9")),
        ("arm64", "v8", Some("arm64/v9"), ("arm64", "v8")),
        ("arm", "", Some("arm/v7"), ("arm", "v7")),
        ("amd64", "", Some("arm/v7"), ("amd64", "")),
    ] {
        let image = Draft::empty("linux", arch, variant).finish().expect("an image");
        let target: Option<Platform> = target.map(|text| text.parse().expect(text));
        let child = IndexChild::of(&image, target.as_ref());
        assert_eq!((child.target.arch.as_str(), child.target.variant.as_str()), expected);
        assert_eq!(child.blob, image.manifest.blob_ref());
        let held = Held::of_manifest(&image.manifest, Some(&image.config));
        assert_eq!(held.children[0].platform.as_ref().map(|target| target.arch.as_str()), Some(arch));
        assert!(!held.is_index);
    }
}

#[test]
fn children_are_replaced_one_by_one() {
    let index = held(&["amd64 0", "about amd64 0", "arm64 0", "about arm64 0", "nested s390x 0"]).merged(&[]);
    let replaced = index
        .with_children_replaced(|old| (old.blob.digest == foreign("amd64 0").blob.digest).then(|| ours("amd64 1")));
    let digests: Vec<Digest> = replaced.children.iter().map(|child| child.blob.digest).collect();
    let expected = ["amd64 1", "arm64 0", "nested s390x 0", "about arm64 0"].map(|name| foreign(name).blob.digest);
    assert_eq!(digests, expected);
    assert_eq!(index.with_children_replaced(|_| None).digest, index.digest);
}

#[test]
fn slots_are_written_and_read() {
    for name in ["amd64 1", "arm/v7 1", "docker arm64 1"] {
        let child = ours(name);
        let read = |index: &Index, platform: &Platform| {
            let document = Document::parse(index.bytes.clone(), "").expect("an index");
            Slot::read(&document, platform)
        };
        let announced = Slot::announce(&child, 1_700_000_000);
        assert_eq!(announced.other["annotations"], json!({ ANNOUNCED: "2023-11-14T22:13:20Z" }));
        let format = Format::of_manifest(&child.blob.media_type).expect("a format");
        assert_eq!(announced.media_type, format.index());
        let platform = child.platform();
        assert_eq!(read(&announced, &platform), Slot::Announced(Box::new(child.clone()), 1_700_000_000));
        assert_eq!(read(&announced, &Platform::new("linux", "s390x", "")), Slot::Nothing, "another's slot");
        let withdrawn = Slot::withdraw(&child);
        assert!(withdrawn.children.is_empty());
        assert_eq!(read(&withdrawn, &platform), Slot::Withdrawn(child.blob.digest));
        // Somebody's image that has such a tag by chance.
        assert_eq!(read(&Index::fresh(std::slice::from_ref(&child)), &platform), Slot::Nothing);
        let mut other = announced.other.clone();
        other["annotations"] = json!({ ANNOUNCED: "yesterday" });
        assert_eq!(read(&Index::of(announced.children.clone(), other), &platform), Slot::Nothing);
    }
}

#[test]
fn the_tags_of_slots() {
    let tags: Vec<String> = platforms().filter_map(|platform| slot_tag("1", &platform)).collect();
    let expected = [
        "386", "amd64", "amd64-v2", "amd64-v3", "amd64-v4", "arm-v5", "arm-v6", "arm-v7", "arm64", "arm64-v9",
        "loong64", "mips64le", "ppc64le", "riscv64", "s390x",
    ];
    assert_eq!(tags, expected.map(|platform| format!("1-cnb-linux-{platform}")), "they never change");
}

#[test]
fn what_can_be_said_before_anything_is_done() {
    let platform = |text: &str| text.parse::<Platform>().expect(text);
    let digest = Digest::of(b"");
    let room = LONGEST_TAG - "-cnb-linux-arm64".len();
    let (fits, too_long) = ("t".repeat(room), "t".repeat(room + 1));
    for (name, arch, error) in [
        ("reg/app", "arm64", None),
        ("reg/app:1", "x86_64/v1", None),
        (&format!("reg/app:{fits}"), "arm64", None),
        (
            &format!("reg/app:{too_long}"),
            "arm64",
            Some(format!(
                "reg/app:{too_long}: the tag '{too_long}-cnb-linux-arm64', by which its index is made, would have 129 \
                 characters, more than 128"
            )),
        ),
        (
            "reg/app",
            "mips",
            Some(
                "linux/mips cannot be a child of an index; platforms are linux/386, linux/amd64, linux/amd64/v2, \
                 linux/amd64/v3, linux/amd64/v4, linux/arm/v5, linux/arm/v6, linux/arm/v7, linux/arm64, linux/arm64/v9, \
                 linux/loong64, linux/mips64le, linux/ppc64le, linux/riscv64, linux/s390x"
                    .to_owned(),
            ),
        ),
        (
            &format!("reg/app@{digest}"),
            "arm64",
            Some(format!("reg/app@{digest}: an index needs a tag, but this name has a digest")),
        ),
    ] {
        assert_eq!(check(name, &platform(arch)).err().map(|error| error.to_string()), error, "{name} {arch}");
    }
}

//! Rebases of indexes in memory.

use platform_spec::index_report::IndexReport;
use serde_json::{Value, json};

use super::index::{open, run};
use super::tests::{APP, NEW, World, amd64, arm, forced, inputs};
use super::*;
use crate::image::{Document, Format, Index};
use crate::test_log::captured;

/// An index [`APP`] of app images for amd64 and arm64, and [`NEW`] with run images for both.
fn world() -> World {
    let world = World::new("0.15", &amd64(), &amd64());
    for arch in ["amd64", "arm64"] {
        world.app(&format!("r.io/app:{arch}"), "0.15", &arm(arch, ""));
        world.run_image(&format!("r.io/run:{arch}"), &arm(arch, ""));
    }
    world.index(APP, &["r.io/app:amd64", "r.io/app:arm64"], &[]);
    world.index(NEW, &["r.io/run:amd64", "r.io/run:arm64"], &[]);
    world
}

fn rebased(world: &World, inputs: &Inputs) -> Result<(Report, IndexReport), RebaseError> {
    run(inputs, &open(inputs, &world.0)?, &world.0)
}

fn index(world: &World, name: &str) -> Index {
    match world.0.document(name).expect("there") {
        Document::Index(index) => index,
        Document::Manifest(manifest) => panic!("{name} is {manifest:?}"),
    }
}

fn only(inputs: Inputs, arch: &str) -> Inputs {
    Inputs { build_for: BuildTarget::new(Some(arch.parse().expect("a platform"))), ..inputs }
}

/// The run image that the child for an architecture names.
fn run_image(world: &World, name: &str, arch: &str) -> Value {
    let child = index(world, name)
        .children
        .into_iter()
        .find(|child| child.platform.as_ref().is_some_and(|platform| platform.arch == arch));
    let digest = child.expect("a child").blob.digest;
    let name = world.0.name_by_digest(name, &digest).expect("a name");
    let image = world.open(&name);
    assert_eq!(image.config.architecture(), arch);
    world.label(&name)["runImage"]["reference"].clone()
}

fn refused(world: &World, inputs: &Inputs) -> String {
    let (before, writes) = (index(world, APP), world.0.writes());
    let error = rebased(world, inputs).expect_err("refused");
    assert_eq!(error.exit_code(), 72);
    assert_eq!((index(world, APP), world.0.writes()), (before, writes), "nothing is written");
    lifecycle_launch::console::chain(&error)
}

#[test]
fn every_image_goes_onto_the_run_image_for_its_machine() {
    let world = world();
    // What they hold is nobody's business here.
    let put = |tag: &str, format: &str| {
        let bytes = format!("{{\"of\": {tag:?}}}").into_bytes();
        let size = bytes.len();
        let digest = world.0.insert(&format!("r.io/app:{tag}"), format, bytes).expect("put").to_string();
        json!({ "mediaType": format, "size": size, "digest": digest })
    };
    let attestation = |arch: &str| {
        let of = world.open(&format!("r.io/app:{arch}")).manifest.digest.to_string();
        let mut attestation = put(&format!("attestation-{arch}"), Format::Oci.manifest());
        attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
        attestation["annotations"] = json!({ "vnd.docker.reference.digest": of });
        attestation
    };
    let nested = put("nested", Format::Oci.index());
    // Neither does it have a platform, nor is it an image.
    let empty = Digest::of(b"{}").to_string();
    let chart = json!({"schemaVersion": 2, "mediaType": Format::Oci.manifest(), "layers": [],
        "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "size": 2, "digest": empty}});
    let chart = chart.to_string().into_bytes();
    let size = chart.len();
    let digest = world.0.insert("r.io/app:chart", Format::Oci.manifest(), chart).expect("put").to_string();
    let chart = json!({ "mediaType": Format::Oci.manifest(), "size": size, "digest": digest });
    // In an image's words, but for no machine.
    let config = br#"{"architecture":"","os":"","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let digest = world.0.insert_with_config("r.io/app:signature", config).expect("put");
    let size = match world.0.document("r.io/app:signature").expect("there") {
        Document::Manifest(manifest) => manifest.bytes.len(),
        Document::Index(index) => panic!("{index:?}"),
    };
    let signature = json!({ "mediaType": Format::Oci.manifest(), "size": size, "digest": digest.to_string() });
    let more = [attestation("amd64"), attestation("arm64"), nested, chart, signature];
    for (filter, expected) in [(None, 0), (Some("arm64"), 1)] {
        world.index(APP, &["r.io/app:amd64", "r.io/app:arm64"], &more);
        let inputs = filter.map_or(inputs("0.15"), |arch| only(inputs("0.15"), arch));
        let (report, indexes) = rebased(&world, &inputs).expect("rebased");
        let after = index(&world, APP);
        assert_eq!(after.children.len(), 5 + expected, "attestations go with what they are about");
        assert_eq!(after.other["annotations"]["a"], "b");
        assert_eq!(indexes.indexes[0].digest, after.digest.to_string());
        assert_eq!((indexes.indexes.len(), indexes.indexes[0].tag.as_str()), (1, APP));
        assert_eq!(run_image(&world, APP, "arm64"), world.open("r.io/run:arm64").identifier);
        let amd64 = run_image(&world, APP, "amd64");
        match filter {
            None => assert_eq!(amd64, world.open("r.io/run:amd64").identifier),
            Some(_) => assert_eq!(amd64, "old", "it was left alone"),
        }
        assert!(after.children.iter().any(|child| Some(child.blob.digest.to_string()) == report.image.digest));
    }
}

#[test]
fn an_image_is_rebased_as_it_is_alone() {
    let world = world();
    let previous_image = Some("r.io/app:arm64".to_owned());
    let alone = Inputs { image: "r.io/alone".to_owned(), previous_image, ..inputs("0.15") };
    let app = super::open(&alone, &world.0).expect("opened");
    let run_images = app.run_images(alone.api, alone.run_image.as_deref()).expect("named");
    let alone = super::run(&alone, app, &run_images, &world.0).expect("rebased").image.digest;
    rebased(&world, &inputs("0.15")).expect("rebased");
    assert!(index(&world, APP).children.iter().any(|child| Some(child.blob.digest.to_string()) == alone));
}

#[test]
fn other_names_get_the_index_and_what_is_kept_goes_with_it() {
    let world = world();
    let before = index(&world, APP);
    let names = ["r.io/app:next", "r.io/other"].map(str::to_owned);
    let inputs = Inputs { image: names[0].clone(), tags: vec![names[1].clone()], ..inputs("0.15") };
    let inputs = only(Inputs { previous_image: Some(APP.to_owned()), ..inputs }, "arm64");
    world.app("r.io/app:s390x", "0.15", &arm("s390x", ""));
    world.index(&names[0], &["r.io/app:amd64", "r.io/app:s390x"], &[]);
    let (result, lines) = captured(|| rebased(&world, &inputs));
    let (report, indexes) = result.expect("rebased");
    let warnings: Vec<_> = lines.iter().filter(|line| line.starts_with("warn: ")).collect();
    let expected = format!("warn: {} is replaced by the rebased index; gone from it: linux/s390x", names[0]);
    assert_eq!(warnings, [&expected], "what only this name had is named");
    assert_eq!(report.image.tags, names);
    assert_eq!(indexes.indexes.len(), 2);
    assert_eq!(index(&world, APP), before, "it was only read");
    for name in &names {
        assert_eq!(index(&world, name).digest.to_string(), indexes.indexes[0].digest);
        assert_eq!(run_image(&world, name, "arm64"), world.open("r.io/run:arm64").identifier);
        assert_eq!(run_image(&world, name, "amd64"), "old");
    }
}

#[test]
fn a_single_image_becomes_an_index_and_nothing_is_an_error() {
    let world = world();
    world.app(APP, "0.15", &arm("arm64", ""));
    rebased(&world, &inputs("0.15")).expect("rebased");
    assert_eq!(index(&world, APP).platforms(), ["linux/arm64"]);
    let error = rebased(&world, &Inputs { image: "r.io/none".to_owned(), ..inputs("0.15") }).expect_err("none");
    assert_eq!(
        lifecycle_launch::console::chain(&error),
        "access image to rebase 'r.io/none': image r.io/none not found"
    );
}

/// Whatever is forced.
#[test]
fn where_one_image_cannot_be_rebased_nothing_is_written() {
    let world = world();
    world.index(NEW, &["r.io/run:amd64"], &[]);
    for inputs in [inputs("0.15"), forced("0.15")] {
        let expected = "rebase the image for linux/arm64: access run image 'r.io/run:new': r.io/run:new: \
                        no image for linux/arm64; there is linux/amd64";
        assert_eq!(refused(&world, &inputs), expected);
    }
    world.run_image(NEW, &amd64());
    let expected = "rebase the image for linux/arm64: the run image is for linux/amd64: an image of an index is not put \
                    on one for another machine";
    assert_eq!(refused(&world, &forced("0.15")), expected);
    let expected = format!("'{APP}' has no image for linux/s390x; there are linux/amd64, linux/arm64");
    assert_eq!(refused(&world, &only(inputs("0.15"), "s390x")), expected);
    rebased(&world, &only(inputs("0.15"), "amd64")).expect("the others are not asked");

    let world = self::world();
    world.app("r.io/app:arm64", "0.15", &arm("arm64", "").label("io.buildpacks.rebasable", "false"));
    world.index(APP, &["r.io/app:amd64", "r.io/app:arm64"], &[]);
    let error = rebased(&world, &inputs("0.15")).expect_err("refused");
    assert!(error.advice().is_some_and(|advice| advice.contains("-force")), "{error}");
    rebased(&world, &forced("0.15")).expect("forced");
}

/// Somebody has added an image since the index was read.
#[test]
fn an_index_that_was_changed_meanwhile_is_rebased_as_it_is_then() {
    let world = world();
    world.index(APP, &["r.io/app:amd64"], &[]);
    let inputs = inputs("0.15");
    let source = open(&inputs, &world.0).expect("opened");
    world.app("r.io/app:amd64", "0.15", &amd64().label("exported", "again"));
    world.index(APP, &["r.io/app:amd64", "r.io/app:arm64"], &[]);
    let (report, _) = run(&inputs, &source, &world.0).expect("rebased");
    let children = index(&world, APP).children;
    let reported = children.iter().any(|child| Some(child.blob.digest.to_string()) == report.image.digest);
    assert!(reported, "the report is about what the index has");
    for arch in ["amd64", "arm64"] {
        assert_eq!(run_image(&world, APP, arch), world.open(&format!("r.io/run:{arch}")).identifier);
    }
}

/// Configs do not say which variant they are for; the descriptors of both indexes do.
#[test]
fn variants_that_only_the_index_knows() {
    let world = world();
    let index_of = |name: &str, images: [(&str, &str); 2]| {
        let children = images.map(|(image, variant)| {
            let manifest = world.open(image).manifest;
            json!({
                "mediaType": manifest.media_type,
                "size": manifest.bytes.len(),
                "digest": manifest.digest.to_string(),
                "platform": {"os": "linux", "architecture": "arm", "variant": variant},
            })
        });
        world.index(name, &[], &children);
    };
    for variant in ["v6", "v7"] {
        world.app(&format!("r.io/app:{variant}"), "0.15", &arm("arm", "").label("variant", variant));
        world.run_image(&format!("r.io/run:{variant}"), &arm("arm", ""));
    }
    index_of(NEW, [("r.io/run:v6", "v6"), ("r.io/run:v7", "v7")]);
    for filter in [None, Some("arm/v7")] {
        index_of(APP, [("r.io/app:v6", "v6"), ("r.io/app:v7", "v7")]);
        let inputs = filter.map_or(inputs("0.15"), |arch| only(inputs("0.15"), arch));
        rebased(&world, &inputs).expect("rebased");
        let after = index(&world, APP);
        assert_eq!(after.platforms(), ["linux/arm/v6", "linux/arm/v7"]);
        let bases = after.children.iter().map(|child| {
            let name = world.0.name_by_digest(APP, &child.blob.digest).expect("a name");
            world.label(&name)["runImage"]["reference"].clone()
        });
        let v6 = if filter.is_some() { "old".to_owned() } else { world.open("r.io/run:v6").identifier };
        assert_eq!(bases.collect::<Vec<_>>(), [v6, world.open("r.io/run:v7").identifier], "{filter:?}");
    }
}

/// Each image says itself which run image it has.
#[test]
fn images_with_different_run_images() {
    let world = world();
    let label = r#"{"runImage": {"topLayer": "TOP", "reference": "old", "image": "r.io/run:arm64"}}"#;
    let app = world.open("r.io/app:arm64");
    let top = world.label("r.io/app:arm64")["runImage"]["topLayer"].as_str().expect("text").to_owned();
    let mut image = app.clone();
    image.config.set_label(LIFECYCLE_METADATA, &label.replace("TOP", &top));
    let image = image::rebase(&image, &top.parse().expect("a digest"), &base_of(&app), |_| {}).expect("an image");
    world.0.push("r.io/app:arm64", &[]).expect("begun").finish(&image).expect("saved");
    world.index(APP, &["r.io/app:amd64", "r.io/app:arm64"], &[]);
    rebased(&world, &Inputs { run_image: None, ..inputs("0.15") }).expect("rebased");
    assert_eq!(run_image(&world, APP, "arm64"), world.open("r.io/run:arm64").identifier);
    let old = world.open(super::tests::OLD).identifier;
    assert_eq!(run_image(&world, APP, "amd64"), old, "its label names the old name first");
}

/// The layers that an app image has from its run image, as an image.
fn base_of(app: &Image) -> Image {
    let mut base = app.clone();
    base.layers.truncate(2);
    base
}

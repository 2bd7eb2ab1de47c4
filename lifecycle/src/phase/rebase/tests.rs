//! Rebases in memory.

use serde_json::Value;

use super::*;
use crate::image::memory::{Answer, MemoryStore, Refusal};
use crate::image::{BlobRef, Draft, Format, Layer, Source};
use crate::test_log::captured;

pub(super) const APP: &str = "r.io/app";
pub(super) const OLD: &str = "r.io/run:old";
pub(super) const NEW: &str = "r.io/run:new";

fn api(text: &str) -> PlatformApi {
    PlatformApi::parse(Some(text)).expect("a version")
}

/// What a run image or an app image is to be.
#[derive(Clone)]
pub(super) struct Of {
    os: &'static str,
    arch: &'static str,
    variant: &'static str,
    labels: Vec<(&'static str, &'static str)>,
}

pub(super) fn amd64() -> Of {
    Of { os: "linux", arch: "amd64", variant: "", labels: Vec::new() }
}

pub(super) fn arm(arch: &'static str, variant: &'static str) -> Of {
    Of { arch, variant, ..amd64() }
}

impl Of {
    pub(super) fn label(mut self, name: &'static str, value: &'static str) -> Self {
        self.labels.push((name, value));
        self
    }

    fn stack(self) -> Self {
        self.label("io.buildpacks.stack.id", "s")
    }
}

/// A store, to which images are added.
pub(super) struct World(pub(super) MemoryStore);

impl World {
    /// The app image [`APP`], exported at a Platform API on top of [`OLD`], and [`NEW`].
    pub(super) fn new(exported_at: &str, app: &Of, new: &Of) -> Self {
        let world = Self(MemoryStore::new());
        world.run_image(OLD, &amd64());
        world.run_image(NEW, new);
        world.app(APP, exported_at, app);
        world
    }

    pub(super) fn layer(&self, name: &str, content: &str) -> Layer {
        let digest = self.0.insert_blob(name, content.as_bytes().to_vec()).expect("put");
        let reference = Reference::parse(name).expect("a reference");
        let blob = Some(BlobRef::new(Format::Oci.layer(), digest, content.len() as u64));
        Layer { diff_id: Digest::of(format!("tar of {content}").as_bytes()), blob, source: Source::Registry(reference) }
    }

    pub(super) fn save(&self, name: &str, draft: Draft, of: &Of) {
        let draft = draft.edit(|config| of.labels.iter().for_each(|(name, value)| config.set_label(name, value)));
        let image = draft.keeping_history(true).finish().expect("an image");
        self.0.push(name, &[]).expect("begun").finish(&image).expect("saved");
    }

    pub(super) fn run_image(&self, name: &str, of: &Of) {
        let draft = Draft::empty(of.os, of.arch, of.variant);
        let bottom = self.layer(name, &format!("bottom of {name}"));
        let top = self.layer(name, &format!("top of {name}"));
        self.save(name, draft.with_layer(bottom, "bottom").with_layer(top, name), of);
    }

    pub(super) fn app(&self, name: &str, exported_at: &str, of: &Of) {
        let bases = [format!("bottom of {OLD}"), format!("top of {OLD}")].map(|content| self.layer(name, &content));
        let label = serde_json::json!({
            "app": {"sha": "of an old lifecycle"},
            "new": [1],
            "runImage": {
                "topLayer": bases[1].diff_id.to_string(),
                "reference": "old",
                "image": OLD,
                "mirrors": [NEW, "elsewhere.io/run"],
            },
            "stack": {"runImage": {"image": "stack.io/run"}},
        });
        let mut draft = Draft::empty(of.os, of.arch, of.variant);
        for (at, layer) in bases.into_iter().enumerate() {
            draft = draft.with_layer(layer, format!("base {at}"));
        }
        let own = self.layer(name, &format!("app of {name}"));
        let draft = draft.with_layer(own, "app").edit(|config| {
            config.set_label(LIFECYCLE_METADATA, &label.to_string());
            config.set_label("io.buildpacks.base.old", "x");
            config.set_label("io.buildpacks.stack.old", "x");
            config.set_label("other", "kept");
            if !exported_at.is_empty() {
                config.set_env("CNB_PLATFORM_API", exported_at);
            }
        });
        self.save(name, draft, of);
    }

    pub(super) fn open(&self, name: &str) -> Image {
        self.0.open(name, &target::of_this_program()).expect(name)
    }

    pub(super) fn label(&self, name: &str) -> Value {
        let image = self.open(name);
        serde_json::from_str(image.config.label(LIFECYCLE_METADATA).expect("a label")).expect("JSON")
    }

    pub(super) fn rebase(&self, inputs: &Inputs) -> Result<Report, RebaseError> {
        let app = open(inputs, &self.0)?;
        let run_images = app.run_images(inputs.api, inputs.run_image.as_deref())?;
        run(inputs, app, &run_images, &self.0)
    }

    /// What is said where nothing is rebased.
    pub(super) fn refuses(&self, inputs: &Inputs) -> String {
        let writes = self.0.writes();
        let error = self.rebase(inputs).expect_err("refused");
        assert_eq!(error.exit_code(), 72);
        assert_eq!(self.0.writes(), writes, "nothing is written");
        lifecycle_launch::console::chain(&error)
    }

    /// Puts an index of images in the same repository under a name, with more children as they are.
    pub(super) fn index(&self, name: &str, images: &[&str], more: &[Value]) -> Digest {
        let of = |name: &&str| {
            let Image { manifest, config, .. } = self.open(name);
            serde_json::json!({
                "mediaType": manifest.media_type,
                "size": manifest.bytes.len(),
                "digest": manifest.digest.to_string(),
                "platform": {"os": config.os(), "architecture": config.architecture()},
            })
        };
        let children: Vec<Value> = images.iter().map(of).chain(more.iter().cloned()).collect();
        let index = serde_json::json!({"schemaVersion": 2, "manifests": children, "annotations": {"a": "b"}});
        self.0.insert(name, Format::Oci.index(), index.to_string().into_bytes()).expect("put")
    }
}

pub(super) fn inputs(version: &str) -> Inputs {
    Inputs {
        api: api(version),
        image: APP.to_owned(),
        tags: Vec::new(),
        previous_image: None,
        run_image: Some(NEW.to_owned()),
        force: false,
        build_for: BuildTarget::new(None),
    }
}

pub(super) fn forced(version: &str) -> Inputs {
    Inputs { force: true, ..inputs(version) }
}

#[test]
fn the_label_names_the_new_run_image_and_the_rest_stays() {
    let new = amd64().stack().label("io.buildpacks.base.new", "y").label("other", "the run image's");
    for (version, exported_at) in [("0.7", "0.7"), ("0.11", ""), ("0.12", "0.12"), ("0.15", "0.11"), ("0.11", "0.15")] {
        let world = World::new(exported_at, &amd64().stack(), &new);
        let (old, base) = (world.open(APP), world.open(NEW));
        let report = world.rebase(&inputs(version)).expect("rebased");
        let app = world.open(APP);
        assert_eq!(report.image.tags, [APP]);
        assert_eq!(report.image.digest, Some(app.manifest.digest.to_string()));
        assert_eq!(report.image.manifest_size, Some(app.manifest.bytes.len() as u64));
        assert_eq!(app.layers[..2].iter().map(|layer| layer.diff_id).collect::<Vec<_>>(), base.config.diff_ids());
        assert_eq!(app.layers[2..].iter().map(|layer| layer.diff_id).collect::<Vec<_>>(), old.config.diff_ids()[2..]);

        let label = world.label(APP);
        assert_eq!(label["runImage"]["topLayer"], base.layers[1].diff_id.to_string());
        assert_eq!(label["runImage"]["reference"], base.identifier);
        assert_eq!(label["runImage"]["image"], OLD, "the name stays");
        assert_eq!((&label["app"]["sha"], &label["new"][0]), (&"of an old lifecycle".into(), &1.into()));
        let of = |name: &str| app.config.label(name);
        assert_eq!((of("io.buildpacks.stack.old"), of("io.buildpacks.stack.id")), (None, Some("s")));
        let has_base = api(version).has_targets();
        assert_eq!(of("io.buildpacks.base.old").is_none(), has_base);
        assert_eq!(of("io.buildpacks.base.new").is_some(), has_base);
        assert_eq!(of("other"), Some("kept"));
    }
}

#[test]
fn every_name_gets_the_image_and_a_previous_image_is_not_changed() {
    let world = World::new("0.15", &amd64(), &amd64());
    let before = world.open(APP).manifest.digest;
    let inputs = Inputs {
        previous_image: Some(APP.to_owned()),
        image: "r.io/rebased".to_owned(),
        tags: vec!["r.io/rebased:1".to_owned(), "r.io/other".to_owned()],
        ..inputs("0.15")
    };
    let report = world.rebase(&inputs).expect("rebased");
    assert_eq!(report.image.tags, ["r.io/rebased", "r.io/rebased:1", "r.io/other"]);
    for name in &report.image.tags {
        assert_eq!(Some(world.open(name).manifest.digest.to_string()), report.image.digest);
    }
    assert_eq!(world.open(APP).manifest.digest, before);

    world.0.refuse(Refusal { repository: "r.io/other".to_owned(), reads: false, answer: Answer::Forbidden });
    let error = world.rebase(&inputs).expect_err("one name fails");
    assert_eq!(error.exit_code(), 72);
    assert_eq!(error.to_string(), "save image to r.io/other: r.io/other: access denied");
}

#[test]
fn rebasing_over_another_is_rebasing_at_once() {
    let world = World::new("0.15", &amd64(), &amd64());
    world.run_image("elsewhere.io/run", &amd64().stack().label("io.buildpacks.base.new", "y"));
    let onto = |run_image: &str, image: &str| {
        let (run_image, previous_image) = (Some(run_image.to_owned()), Some(APP.to_owned()));
        let inputs = Inputs { run_image, image: image.to_owned(), previous_image, ..inputs("0.15") };
        world.rebase(&inputs).expect("rebased").image.digest
    };
    let at_once = onto(NEW, "r.io/at-once");
    assert_ne!(onto("elsewhere.io/run", APP), at_once);
    assert_eq!(onto(NEW, APP), at_once);
}

#[test]
fn which_run_image() {
    let world = World::new("0.15", &amd64(), &amd64());
    world.run_image("elsewhere.io/run", &amd64());
    world.run_image("stack.io/run", &amd64());
    let chosen = |inputs: Inputs| {
        let inputs = Inputs { previous_image: Some(APP.to_owned()), run_image: None, ..inputs };
        let image = inputs.image.clone();
        world.rebase(&inputs).expect("rebased");
        world.label(&image)["runImage"]["reference"].as_str().expect("text").split('@').next().map(str::to_owned)
    };
    let output = |version: &str, image: &str| chosen(Inputs { image: image.to_owned(), ..inputs(version) });
    for (version, image, run_image) in [
        ("0.12", "r.io/out", "r.io/run"),
        ("0.15", "elsewhere.io/out", "elsewhere.io/run"),
        ("0.15", "unknown.io/out", "r.io/run"),
    ] {
        assert_eq!(output(version, image).as_deref(), Some(run_image), "{version} {image}");
    }
    world.0.refuse(Refusal { repository: "r.io/run".to_owned(), reads: true, answer: Answer::Forbidden });
    assert_eq!(output("0.15", "r.io/out").as_deref(), Some("elsewhere.io/run"), "the others cannot be read");
    world.0.refuse(Refusal { repository: "elsewhere.io/run".to_owned(), reads: true, answer: Answer::Forbidden });
    let none = Inputs { run_image: None, ..inputs("0.15") };
    let error = world.refuses(&none);
    assert_eq!(error, "find run image: resolve inputs: failed to find accessible run image");
    assert_eq!(output("0.11", "r.io/out").as_deref(), Some("stack.io/run"), "before 0.12 it is the stack's");
}

#[test]
fn an_image_without_a_run_image_needs_one_to_be_named() {
    let world = World(MemoryStore::new());
    world.run_image(NEW, &amd64());
    world.run_image("r.io/plain", &amd64());
    for run_image in [None, Some(NEW.to_owned())] {
        let inputs = Inputs { image: "r.io/plain".to_owned(), run_image, ..forced("0.15") };
        let expected = match &inputs.run_image {
            None => "-run-image is required when there is no run image metadata available",
            // No Platform API, so it is compared by stack.
            Some(_) => "'r.io/plain' has no stack (label io.buildpacks.stack.id)",
        };
        assert_eq!(world.refuses(&inputs), expected);
    }
    let stack = amd64().stack().label(LIFECYCLE_METADATA, "{}");
    world.run_image("r.io/empty", &stack);
    world.run_image(NEW, &stack);
    let inputs = Inputs { image: "r.io/empty".to_owned(), ..forced("0.15") };
    let expected =
        "label io.buildpacks.lifecycle.metadata of 'r.io/empty' names no top layer of its run image, but \"\"";
    assert_eq!(world.refuses(&inputs), expected);
    let odd = amd64().label(LIFECYCLE_METADATA, "[]");
    world.run_image("r.io/odd", &odd);
    let error = world.refuses(&Inputs { image: "r.io/odd".to_owned(), ..forced("0.15") });
    assert!(
        error.starts_with("read label io.buildpacks.lifecycle.metadata of 'r.io/odd': line 1, column 2"),
        "{error}"
    );
}

#[test]
fn what_cannot_be_opened() {
    let world = World::new("0.15", &amd64(), &amd64());
    for (inputs, expected) in [
        (
            Inputs { image: "r.io/none".to_owned(), ..inputs("0.15") },
            "access image to rebase 'r.io/none': image r.io/none not found",
        ),
        (
            Inputs { run_image: Some("r.io/none".to_owned()), ..inputs("0.15") },
            "access run image 'r.io/none': image r.io/none not found",
        ),
    ] {
        assert_eq!(world.refuses(&inputs), expected);
    }
    world.0.refuse(Refusal { repository: "r.io/run".to_owned(), reads: true, answer: Answer::Forbidden });
    assert_eq!(world.refuses(&inputs("0.15")), "access run image 'r.io/run:new': r.io/run:new: access denied");
}

/// Each is refused, and rebased with a warning if it is forced.
#[test]
fn targets_have_to_match() {
    let distro = |of: Of, name, version| {
        of.label("io.buildpacks.base.distro.name", name).label("io.buildpacks.base.distro.version", version)
    };
    let debian = || distro(amd64(), "debian", "12");
    for (app, new, refused) in [
        (amd64(), amd64(), None),
        (amd64(), arm("x86_64", "v1"), None),
        (amd64(), arm("arm64", ""), Some("the run image is for linux/arm64, the app image for linux/amd64")),
        (
            amd64(),
            Of { os: "windows", ..amd64() },
            Some("the run image is for windows/amd64, the app image for linux/amd64"),
        ),
        (arm("arm64", "v8"), arm("arm64", ""), None),
        (arm("arm64", ""), arm("arm64", "v8"), None),
        (arm("arm", "v7"), arm("arm", ""), None),
        (arm("arm", ""), arm("arm", "v7"), None),
        (arm("arm", "v7"), arm("arm", "v6"), Some("the run image is for linux/arm/v6, the app image for linux/arm/v7")),
        (amd64(), arm("amd64", "v2"), Some("the run image is for linux/amd64/v2, the app image for linux/amd64")),
        (debian(), debian(), None),
        (debian(), amd64(), None),
        (debian(), amd64().label("io.buildpacks.base.distro.name", "debian"), None),
        (
            debian(),
            distro(amd64(), "debian", "13"),
            Some("the run image is for linux/amd64 (debian 13), the app image for linux/amd64 (debian 12)"),
        ),
        (
            amd64(),
            amd64().label("io.buildpacks.base.distro.name", "debian"),
            Some("the run image is for linux/amd64 (debian), the app image for linux/amd64"),
        ),
        (
            amd64().label("io.buildpacks.rebasable", "false"),
            amd64(),
            Some("the app image is not to be rebased (label io.buildpacks.rebasable is false)"),
        ),
        (amd64().label("io.buildpacks.rebasable", "true"), amd64(), None),
    ] {
        // The checks are those of the app image's Platform API.
        for version in ["0.11", "0.15"] {
            let world = World::new("0.12", &app, &new);
            if let Some(expected) = refused {
                assert_eq!(world.refuses(&inputs(version)), expected);
                let (rebased, log) = captured(|| world.rebase(&forced(version)));
                rebased.expect("forced");
                assert!(log.contains(&format!("warn: Rebasing all the same: {expected}")), "{log:?}");
            } else {
                world.rebase(&inputs(version)).expect("rebased");
            }
            let config = world.open(APP).config;
            assert_eq!((config.os(), config.architecture()), (new.os, new.arch));
        }
    }
}

#[test]
fn with_force_the_variant_is_the_run_images() {
    for (app, new, force, variant) in [
        (arm("arm64", ""), arm("arm64", "v8"), false, ""),
        (arm("arm64", "v8"), arm("arm64", ""), false, "v8"),
        (arm("arm64", ""), arm("arm64", "v8"), true, "v8"),
        (arm("arm", "v7"), arm("arm", "v6"), true, "v6"),
        (arm("arm", "v7"), arm("arm", ""), true, "v7"),
        (arm("arm", "v7"), amd64(), true, ""),
    ] {
        let world = World::new("0.15", &app, &new);
        world.rebase(&Inputs { force, ..inputs("0.15") }).expect("rebased");
        assert_eq!(world.open(APP).config.variant(), variant);
    }
}

#[test]
fn stacks_and_mixins_have_to_match_and_force_changes_nothing() {
    let mixins = |text| amd64().stack().label("io.buildpacks.stack.mixins", text);
    let other = amd64().label("io.buildpacks.stack.id", "t");
    for (app, new, refused) in [
        (amd64().stack(), amd64().stack(), None),
        (amd64().stack(), other, Some("the run image is of stack 't', the app image of stack 's'")),
        (amd64(), amd64().stack(), Some("'r.io/app' has no stack (label io.buildpacks.stack.id)")),
        (amd64().stack(), amd64(), Some("'r.io/run:new' has no stack (label io.buildpacks.stack.id)")),
        (amd64().stack(), arm("arm64", "").stack(), None),
        (mixins(r#"["b","run:a"]"#), mixins(r#"["a","b","c"]"#), None),
        (
            mixins(r#"["run:c","a","b"]"#),
            mixins(r#"["run:a"]"#),
            Some("the run image lacks mixins that the app image has: b, c"),
        ),
        (mixins("null"), mixins("null"), None),
        (mixins("[]"), amd64().stack(), None),
    ] {
        for exported_at in ["", "0.7", "0.11"] {
            for inputs in [inputs("0.15"), forced("0.15"), inputs("0.7")] {
                let world = World::new(exported_at, &app, &new);
                match refused {
                    Some(expected) => assert_eq!(world.refuses(&inputs), expected),
                    None => assert!(world.rebase(&inputs).is_ok()),
                }
            }
        }
    }
    let world = World::new("0.7", &mixins("{}"), &mixins("[]"));
    let error = world.refuses(&inputs("0.7"));
    assert!(error.starts_with("read label io.buildpacks.stack.mixins of 'r.io/app': "), "{error}");
    let world = World::new("newest", &amd64(), &amd64());
    let error = world.refuses(&inputs("0.7"));
    assert_eq!(error, "read CNB_PLATFORM_API of 'r.io/app': parse version 'newest'");
}

#[test]
fn a_run_image_that_is_not_named_is_taken_only_by_force_and_then_is() {
    let strange = "r.io/strange:1";
    let strangely = |inputs: Inputs| Inputs { run_image: Some(strange.to_owned()), ..inputs };
    let world = || {
        let world = World::new("0.12", &amd64(), &amd64());
        world.run_image(strange, &amd64());
        world
    };
    let known = "elsewhere.io/run, r.io/run:new, r.io/run:old, stack.io/run";
    let expected = format!("'{strange}' is not among the run images that the app image names: {known}");
    assert_eq!(world().refuses(&strangely(inputs("0.12"))), expected);
    let world_before = world();
    world_before.rebase(&strangely(inputs("0.11"))).expect("not asked before 0.12");
    assert_eq!(world_before.label(APP)["runImage"]["image"], OLD);

    let world = world();
    let (rebased, log) = captured(|| world.rebase(&strangely(forced("0.12"))));
    rebased.expect("forced");
    assert!(log.contains(&format!("warn: Rebasing all the same: {expected}")), "{log:?}");
    let label = world.label(APP);
    assert_eq!(label["runImage"]["image"], strange);
    assert_eq!(label["runImage"].get("mirrors"), None);
    assert_eq!(label["stack"], serde_json::json!({"runImage": {"image": strange}}));
    world.rebase(&strangely(inputs("0.12"))).expect("it is named now");

    // By digest, by a mirror's name, by the stack's.
    world.app(APP, "0.12", &amd64());
    let digest = world.open(NEW).manifest.digest;
    world.run_image("stack.io/run", &amd64());
    for name in [format!("{NEW}@{digest}"), NEW.to_owned(), "stack.io/run:latest".to_owned()] {
        world.rebase(&Inputs { run_image: Some(name), ..inputs("0.12") }).expect("it is named");
        assert_eq!(world.label(APP)["runImage"]["image"], OLD);
    }
}

#[test]
fn a_base_that_is_not_there_and_one_without_layers() {
    let world = World::new("0.15", &amd64(), &amd64());
    world.save("r.io/run:empty", Draft::empty("linux", "amd64", ""), &amd64());
    let empty = Inputs { run_image: Some("r.io/run:empty".to_owned()), ..forced("0.15") };
    assert_eq!(world.refuses(&empty), "run image 'r.io/run:empty' has no layers");
    // Layers of another image than the label says.
    let draft = Draft::empty("linux", "amd64", "").with_layer(world.layer(APP, "x"), "x");
    let label = world.open(APP).config.label(LIFECYCLE_METADATA).expect("a label").to_owned();
    let draft = draft.edit(|config| {
        config.set_label(LIFECYCLE_METADATA, &label);
        config.set_env("CNB_PLATFORM_API", "0.15");
    });
    world.save(APP, draft, &amd64());
    let error = world.refuses(&inputs("0.15"));
    let top = Digest::of(format!("tar of top of {OLD}").as_bytes());
    assert_eq!(
        error,
        format!("make rebased image: the image has no layer {top}, which should be the top layer of its base")
    );
}

/// An app image of one architecture is rebased onto that of the run image's index, whichever machine this is.
#[test]
fn of_an_index_the_run_image_for_the_apps_machine_is_taken() {
    for (arch, expected) in [("amd64", Ok(())), ("arm64", Ok(())), ("s390x", Err(()))] {
        let world = World::new("0.15", &arm(arch, ""), &amd64());
        for arch in ["amd64", "arm64"] {
            world.run_image(&format!("r.io/run:{arch}"), &arm(arch, ""));
        }
        world.index(NEW, &["r.io/run:amd64", "r.io/run:arm64"], &[]);
        match expected {
            Ok(()) => {
                world.rebase(&inputs("0.15")).expect("rebased");
                let child = world.open(&format!("r.io/run:{arch}")).identifier;
                assert_eq!(world.label(APP)["runImage"]["reference"], child);
                assert_eq!(world.open(APP).config.architecture(), arch);
            }
            Err(()) => {
                let expected = "access run image 'r.io/run:new': r.io/run:new: no image for linux/s390x; \
                                there are linux/amd64, linux/arm64";
                assert_eq!(world.refuses(&forced("0.15")), expected);
            }
        }
    }
}

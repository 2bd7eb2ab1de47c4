//! Export into a store in memory, from directories as the builder leaves them.

use std::fs;
use std::path::PathBuf;

use platform_spec::analyzed::{AnalyzedRunImage, ImageIdentifier};
use platform_spec::label::{CacheMetadata, LIFECYCLE_METADATA};
use platform_spec::target::{Platform, Target};
use tempfile::TempDir;

use super::*;
use crate::cache::{ImageCache, VolumeCache};
use crate::image::Draft;
use crate::image::memory::{Answer, MemoryStore, Refusal};
use crate::test_log::captured;

const RUN_IMAGE: &str = "reg.example/run";
const APP: &str = "reg.example/app";
const CACHE: &str = "reg.example/app-cache";

struct World {
    dir: TempDir,
    store: MemoryStore,
    pipeline: Pipeline,
    inputs: Inputs,
}

fn amd64() -> Target {
    Target { os: "linux".to_owned(), arch: "amd64".to_owned(), ..Target::default() }
}

fn put_run_image(store: &MemoryStore, pipeline: &Pipeline, arch: &str) {
    let empty = pipeline.pack(&crate::layer::Recipe::Entries(Vec::new()), crate::layer::Want { blob: true, tar: None });
    let empty = empty.expect("packed");
    let layer = crate::image::Layer::packed(empty.diff_id, std::sync::Arc::new(empty.blob.expect("a blob")));
    let image = Draft::empty("linux", arch, "").with_layer(layer, "base").finish().expect("an image");
    store.push(RUN_IMAGE, &[]).expect("begun").finish(&image).expect("pushed");
}

impl World {
    /// A buildpack with a launch layer, a cached layer, and one that is both; an app of one file.
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        for name in ["layers/bp/both", "layers/bp/cached", "layers/bp/only", "layers/config", "app", "cache", "temp"] {
            fs::create_dir_all(path(name)).expect("created");
        }
        let write = |name: &str, text: &str| fs::write(path(name), text).expect("written");
        for (layer, types) in
            [("both", "launch = true\ncache = true"), ("cached", "cache = true"), ("only", "launch = true")]
        {
            write(&format!("layers/bp/{layer}/file"), &format!("content of {layer}"));
            write(&format!("layers/bp/{layer}.toml"), &format!("[types]\n{types}\n[metadata]\nof = \"{layer}\"\n"));
        }
        write(
            "layers/config/metadata.toml",
            "processes = []\n[[buildpacks]]\nid = \"bp\"\nversion = \"1\"\napi = \"0.10\"\n",
        );
        write("app/file", "app");
        write("launcher", "launcher");
        let store = MemoryStore::new();
        let pipeline = Pipeline::new(&path("temp"));
        put_run_image(&store, &pipeline, "amd64");
        let run_image =
            AnalyzedRunImage { reference: RUN_IMAGE.to_owned(), target: Some(amd64()), ..AnalyzedRunImage::default() };
        let inputs = Inputs {
            api: PlatformApi::parse(Some("0.12")).expect("a version"),
            buildpacks: vec![
                platform_spec::text::from_toml("id = 'bp'\nversion = '1'\napi = '0.10'").expect("an element"),
            ],
            analyzed: Analyzed { run_image: Some(run_image), ..Analyzed::default() },
            app_dir: path("app"),
            layers_dir: path("layers"),
            owner: Owner { uid: 1000, gid: 1000 },
            launcher: Some(path("launcher")),
            launcher_sbom_dir: path("temp"),
            launcher_metadata: Launcher::default(),
            default_process_type: None,
            exec_env: "production".to_owned(),
            run_image: RunImage::default(),
            project_metadata: ProjectMetadata::default(),
            output: APP.to_owned(),
            additional_tags: Vec::new(),
            created: None,
            layout: false,
            parallel: false,
            build_for: BuildTarget::new(None).on(amd64().platform()),
            index: IndexMode::Off,
            arch_check: None,
            arch_check_ignore: PathGlobs::default(),
        };
        Self { dir, store, pipeline, inputs }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn volume(&self) -> Cache<'_> {
        Cache::Volume(VolumeCache::open(&self.path("cache")).expect("a cache"))
    }

    fn cache_image(&self) -> Cache<'_> {
        Cache::Image(Box::new(ImageCache::open(&self.store, CACHE, &amd64(), false).expect("a cache")))
    }

    fn export_all(&self, cache: Option<Cache<'_>>) -> Result<Exported, ExportError> {
        run(&self.inputs, &self.store, cache, &self.pipeline)
    }

    fn export(&self, cache: Option<Cache<'_>>) -> Result<Report, ExportError> {
        self.export_all(cache).map(|exported| exported.report)
    }

    /// As the analyzer does before the next build.
    fn analyze(&mut self) {
        let image = self.store.open(APP, &amd64()).expect("there");
        let label = image.config.label(LIFECYCLE_METADATA).expect("a label");
        self.inputs.analyzed.metadata = serde_json::from_str(label).expect("metadata");
        self.inputs.analyzed.previous_image = Some(ImageIdentifier { reference: image.identifier });
    }

    fn metadata(&self) -> LifecycleMetadata {
        let image = self.store.open(APP, &amd64()).expect("there");
        serde_json::from_str(image.config.label(LIFECYCLE_METADATA).expect("a label")).expect("metadata")
    }

    fn cached(&self) -> Vec<String> {
        let metadata: CacheMetadata = match self.cache_image().metadata() {
            metadata if metadata.buildpacks.is_some() => metadata.clone(),
            _ => self.volume().metadata().clone(),
        };
        metadata.buildpacks.into_iter().flatten().flat_map(|buildpack| buildpack.layers.into_keys()).collect()
    }
}

fn lines(lines: &[String], part: &str) -> usize {
    lines.iter().filter(|line| line.contains(part)).count()
}

#[test]
fn what_did_not_change_is_neither_packed_nor_sent() {
    for image_cache in [false, true] {
        let mut world = World::new();
        let first =
            world.export(Some(if image_cache { world.cache_image() } else { world.volume() })).expect("exported");
        assert_eq!(world.cached(), ["both", "cached"]);
        world.analyze();
        let before = world.store.open(APP, &amd64()).expect("there");
        let (second, log) = captured(|| {
            world.export(Some(if image_cache { world.cache_image() } else { world.volume() })).expect("exported")
        });
        assert_eq!(first.image.digest, second.image.digest, "the same image, to the byte");
        assert_eq!(before.manifest.digest.to_string(), second.image.digest.expect("a digest"));
        assert_eq!((lines(&log, "Reusing layer '"), lines(&log, "Adding layer '")), (5, 0), "{log:#?}");
        assert_eq!((lines(&log, "Reusing cache layer"), lines(&log, "Adding cache layer")), (2, 0), "{log:#?}");
        assert_eq!(lines(&log, "Reused 1/1 app layer(s)"), 1);
        assert_eq!(fs::read_dir(world.path("temp")).expect("listed").count(), 0, "nothing is left in the spool");
    }
}

#[test]
fn only_what_changed_is_added() {
    let mut world = World::new();
    world.export(Some(world.volume())).expect("exported");
    world.analyze();
    fs::write(world.path("layers/bp/both/file"), "something else").expect("written");
    let (result, log) = captured(|| world.export(Some(world.volume())));
    result.expect("exported");
    assert_eq!(lines(&log, "Adding layer 'bp:both'"), 1, "{log:#?}");
    assert_eq!((lines(&log, "Adding layer '"), lines(&log, "Adding cache layer '")), (1, 1), "{log:#?}");
    let sha = &world.metadata().buildpacks.expect("some")[0].layers["both"].sha;
    assert!(world.path("cache/committed").join(format!("{sha}.tar")).exists(), "the cache has the new layer");
    assert_eq!(fs::read_dir(world.path("cache/committed")).expect("listed").count(), 3, "and the old one no more");
}

#[test]
fn a_damaged_tar_of_the_cache_is_named_and_replaced() {
    let mut world = World::new();
    world.export(Some(world.volume())).expect("exported");
    world.analyze();
    let sha = world.metadata().buildpacks.expect("some")[0].layers["both"].sha.clone();
    let tar = world.path("cache/committed").join(format!("{sha}.tar"));
    let good = fs::read(&tar).expect("read");
    fs::write(&tar, "damaged").expect("written");
    let found = Digest::of(b"damaged");
    let (result, log) = captured(|| world.export(Some(world.volume())));
    result.expect("exported");
    let warning =
        format!("warn: Skipping reuse for layer bp:both: expected layer contents to have SHA '{sha}'; found '{found}'");
    assert_eq!(lines(&log, "Adding cache layer 'bp:both'"), 1, "{log:#?} {warning}");
    assert_eq!(fs::read(&tar).expect("read"), good);
}

#[test]
fn a_full_or_broken_cache_does_not_stop_the_export() {
    let world = World::new();
    world.store.refuse(Refusal { repository: CACHE.to_owned(), reads: false, answer: Answer::Forbidden });
    let (result, log) = captured(|| world.export(Some(world.cache_image())));
    result.expect("exported");
    assert!(lines(&log, "warn: Failed to export cache: ") == 1, "{log:#?}");
    assert!(world.store.open(APP, &amd64()).is_ok());
}

#[test]
fn a_layer_without_files_is_the_previous_images() {
    let mut world = World::new();
    world.export(None).expect("exported");
    let before = world.metadata();
    world.analyze();
    fs::remove_dir_all(world.path("layers/bp/only")).expect("removed");
    world.export(None).expect("exported");
    let sha = |metadata: &LifecycleMetadata| metadata.buildpacks.as_ref().expect("some")[0].layers["only"].sha.clone();
    assert_eq!(sha(&before), sha(&world.metadata()));

    // The previous image has lost it, or never had it.
    let gone = world.store.open(APP, &amd64()).expect("there");
    world.inputs.analyzed.metadata.buildpacks.as_mut().expect("some")[0].layers.get_mut("only").expect("it").sha =
        Digest::of(b"gone").to_string();
    assert!(matches!(world.export(None), Err(ExportError::LayerGone { id, .. }) if id == "bp:only"));
    world.inputs.analyzed.metadata.buildpacks = None;
    assert!(matches!(world.export(None), Err(ExportError::NothingToReuse(id)) if id == "bp:only"));
    fs::remove_dir_all(world.path("layers/bp/both")).expect("removed");
    assert!(matches!(world.export(None), Err(ExportError::NoContents(id)) if id == "bp:both"));
    assert_eq!(
        world.store.open(APP, &amd64()).expect("there").manifest.digest,
        gone.manifest.digest,
        "the tag is as it was"
    );
}

#[test]
fn what_was_made_for_the_same_architecture_of_another_name_is_reused() {
    let mut world = World::new();
    world.export(None).expect("exported");
    world.analyze();
    put_run_image(&world.store, &world.pipeline, "x86_64");
    fs::remove_dir_all(world.path("layers/bp/only")).expect("removed");
    let (result, log) = captured(|| world.export(None));
    result.expect("exported");
    assert_eq!(lines(&log, "Not reusing"), 0, "{log:#?}");
    assert_eq!(lines(&log, "Reusing layer 'bp:only'"), 1, "{log:#?}");
}

#[test]
fn what_was_made_for_another_architecture_is_not_reused() {
    let mut world = World::new();
    world.export(Some(world.volume())).expect("exported");
    world.analyze();
    put_run_image(&world.store, &world.pipeline, "arm64");
    let arm64 = Target { arch: "arm64".to_owned(), ..amd64() };
    world.inputs.analyzed.run_image.as_mut().expect("one").target = Some(arm64.clone());
    let (result, log) = captured(|| world.export(Some(world.volume())));
    result.expect("exported");
    assert_eq!((lines(&log, "Reusing layer '"), lines(&log, "Reusing cache layer")), (0, 0), "{log:#?}");
    assert_eq!(lines(&log, "it is for linux/amd64, the run image is for linux/arm64"), 1, "{log:#?}");
    assert_eq!(lines(&log, "Not using the cache: its layers are for linux/amd64"), 1, "{log:#?}");
    assert_eq!(world.volume().metadata().target_arch.as_deref(), Some("linux/arm64"));
}

#[test]
fn malformed_layers_and_metadata_that_json_cannot_say_end_before_anything_is_sent() {
    for (text, expected) in [
        ("types = 1", "failed to parse metadata for layers '[bp:only]'"),
        ("[types]\nlaunch = true\n[metadata]\nx = nan", "metadata of 'bp:only'"),
    ] {
        let world = World::new();
        fs::write(world.path("layers/bp/only.toml"), text).expect("written");
        let error = world.export(None).expect_err("refused");
        assert!(error.to_string().starts_with(expected), "{error}");
        assert_eq!(error.exit_code(), exit::EXPORT_ERROR);
        assert!(world.store.open(APP, &amd64()).is_err());
    }
}

#[test]
fn without_a_usable_run_image_there_is_no_export() {
    let check = |change: fn(&mut Analyzed), code: u8| {
        let mut world = World::new();
        change(&mut world.inputs.analyzed);
        let error = world.export(None).expect_err("refused");
        assert_eq!(error.exit_code(), code, "{error}");
    };
    check(|analyzed| analyzed.run_image = None, exit::EXPORT_ERROR);
    check(|analyzed| analyzed.run_image.as_mut().expect("one").reference.clear(), exit::INVALID_ARGUMENTS);
    check(|analyzed| analyzed.run_image.as_mut().expect("one").extend = true, exit::INVALID_ARGUMENTS);
    check(
        |analyzed| analyzed.run_image.as_mut().expect("one").reference = "reg.example/none".to_owned(),
        exit::GENERIC,
    );
}

#[test]
fn names_that_fail_are_named_and_the_others_stand() {
    let mut world = World::new();
    world.inputs.additional_tags = vec!["reg.example/forbidden:1".to_owned(), format!("{APP}:2")];
    world.store.refuse(Refusal {
        repository: "reg.example/forbidden".to_owned(),
        reads: false,
        answer: Answer::Forbidden,
    });
    let error = world.export(None).expect_err("one name failed");
    assert!(matches!(&error, ExportError::Names(names) if names.len() == 1), "{error}");
    assert!(error.to_string().contains("reg.example/forbidden:1"), "{error}");
    assert!(world.store.open(APP, &amd64()).is_ok() && world.store.open(&format!("{APP}:2"), &amd64()).is_ok());
}

#[test]
fn the_default_process_must_exist() {
    let mut world = World::new();
    world.inputs.default_process_type = Some("web".to_owned());
    let error = world.export(None).expect_err("refused");
    assert_eq!(error.to_string(), "determine entrypoint: tried to set web to default but it doesn't exist");
}

#[test]
fn parallel_gives_the_same() {
    let mut world = World::new();
    let first = world.export(Some(world.volume())).expect("exported").image.digest;
    let cached = world.cached();
    fs::remove_dir_all(world.path("cache/committed")).expect("removed");
    world.inputs.parallel = true;
    assert_eq!(world.export(Some(world.volume())).expect("exported").image.digest, first);
    assert_eq!(world.cached(), cached);
}

#[test]
fn a_run_image_for_no_machine_is_refused_before_anything_is_packed() {
    for (config, lacks) in [(r#"{"os":"linux"}"#, "architecture"), (r#"{"architecture":"amd64"}"#, "OS")] {
        let world = World::new();
        world.store.insert_with_config(RUN_IMAGE, config.as_bytes()).expect("inserted");
        fs::remove_dir_all(&world.inputs.app_dir).expect("removed: reading it would be an error");
        let error = run(&world.inputs, &world.store, None, &world.pipeline).expect_err("refused");
        let name = check(&world.inputs.analyzed).expect("a run image");
        let text = format!("unpack metadata from run image '{name}': failed to find {lacks} in run image config");
        assert_eq!((chain(&error), error.exit_code()), (text, 62));
    }
}

#[test]
fn an_image_becomes_a_part_of_an_index() {
    let mut world = World::new();
    let alone = world.export_all(None).expect("exported");
    assert_eq!(alone.indexes, None, "unset");
    let digest = alone.report.image.digest.clone().expect("a digest");

    let arm = Draft::empty("linux", "arm64", "").finish().expect("an image");
    world.store.push(APP, &[]).expect("begun").finish(&arm).expect("pushed");
    world.inputs.index = IndexMode::Merge;
    world.inputs.additional_tags = vec!["reg.example/other:1".to_owned()];
    let merged = world.export_all(None).expect("exported");
    assert_eq!(merged.report.image.digest.as_deref(), Some(digest.as_str()), "the child is the same");
    assert_eq!(merged.report.image.tags, [APP, "reg.example/other:1"]);
    let indexes = merged.indexes.expect("there are").indexes;
    let shown = |at: usize| -> Vec<(&str, &str)> {
        indexes[at].images.iter().map(|image| (image.platform.as_str(), image.digest.as_str())).collect()
    };
    let arm = arm.manifest.digest.to_string();
    assert_eq!(shown(0), [("linux/amd64", digest.as_str()), ("linux/arm64", arm.as_str())], "what was there is kept");
    assert_eq!(shown(1), [("linux/amd64", digest.as_str())]);
    assert_eq!(world.store.open(APP, &amd64()).expect("there").manifest.digest.to_string(), digest);

    world.inputs.index = IndexMode::Replace;
    let replaced = world.export_all(None).expect("exported").indexes.expect("there are").indexes;
    assert_eq!(replaced[0].images.len(), 1);
}

#[test]
fn names_that_cannot_be_an_indexs_are_refused_first() {
    let mut world = World::new();
    world.inputs.index = IndexMode::Merge;
    for name in [format!("reg.example/app:{}", "x".repeat(120)), format!("reg.example/app@{}", Digest::of(b"x"))] {
        world.inputs.additional_tags = vec![name];
        let error = world.export(None).expect_err("refused");
        assert_eq!(error.exit_code(), 3, "{error}");
        assert!(world.store.open(APP, &amd64()).is_err(), "nothing was pushed");
    }
}

#[test]
fn with_a_target_everything_is_for_it() {
    let mut world = World::new();
    world.inputs.build_for = BuildTarget::new(Some("amd64".parse().expect("known")));
    world.export(None).expect("the launcher of this world is a script, which was asked for");
    let arm: Vec<u8> = [b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\xb7\0".as_slice(), b"more"].concat();
    std::fs::write(world.path("launcher"), arm).expect("written");
    let error = world.export(None).expect_err("another machine's launcher");
    assert!(error.to_string().ends_with("launcher' is for arm64, not for linux/amd64"), "{error}");
    world.inputs.build_for = BuildTarget::new(None);
    world.export(None).expect("without a target it is only warned about");
    world.inputs.build_for = BuildTarget::new(Some("arm64".parse().expect("known")));
    let error = chain(&world.export(None).expect_err("another machine's run image"));
    assert!(error.ends_with("the image is for linux/amd64, not for linux/arm64"), "{error}");
}

/// Nobody announces such a child, and so it could not be merged.
#[test]
fn a_variant_that_no_index_knows_is_refused_first() {
    let mut world = World::new();
    let image = Draft::empty("linux", "riscv64", "rva20u64").finish().expect("an image");
    world.store.push(RUN_IMAGE, &[]).expect("begun").finish(&image).expect("pushed");
    let target: Platform = "riscv64".parse().expect("known");
    world.inputs.build_for = BuildTarget::new(Some(target));
    for mode in [IndexMode::Merge, IndexMode::Replace] {
        world.inputs.index = mode;
        let writes = world.store.writes();
        let error = world.export(None).expect_err("refused");
        assert_eq!(error.exit_code(), 3);
        assert!(chain(&error).contains("linux/riscv64/rva20u64 cannot be a child of an index"), "{}", chain(&error));
        assert_eq!(world.store.writes(), writes, "nothing is sent");
    }
}

#[test]
fn programs_for_another_machine_are_named_or_refused() {
    let program = [b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\xb7\0".as_slice(), b"more"].concat();
    let world = |types: &str, arch_check: Option<ArchCheck>, ignored: &[&str]| {
        let mut world = World::new();
        std::fs::create_dir_all(world.path("layers/bp/tools/bin")).expect("made");
        std::fs::write(world.path("layers/bp/tools.toml"), format!("[types]\n{types}\n")).expect("written");
        std::fs::write(world.path("layers/bp/tools/bin/tool"), &program).expect("written");
        std::fs::create_dir_all(world.path("app/bin")).expect("made");
        std::fs::write(world.path("app/bin/server"), &program).expect("written");
        world.inputs.arch_check = arch_check;
        let ignored: Vec<_> = ignored.iter().map(|glob| world.path(glob).to_str().expect("text").to_owned()).collect();
        world.inputs.arch_check_ignore = PathGlobs::new(&ignored).expect("globs");
        world
    };
    let foreign = |world: &World| match world.export(Some(world.volume())) {
        Err(ExportError::Foreign(layers)) => layers.into_iter().map(|(id, _)| id).collect::<Vec<_>>(),
        result => {
            result.expect("exported");
            Vec::new()
        }
    };
    let named = |world: &World| {
        let (result, lines) = captured(|| world.export(Some(world.volume())));
        result.expect("exported");
        lines.iter().filter(|line| line.contains("has programs for other machines")).count()
    };
    let launch = "launch = true\ncache = true";
    let build = "build = true\ncache = true";
    assert_eq!(named(&world(launch, None, &[])), 0, "off without a target");
    assert_eq!(named(&world(launch, Some(ArchCheck::Warn), &[])), 2);
    assert_eq!(foreign(&world(launch, Some(ArchCheck::Error), &[])), ["bp:tools", "slice-1"]);
    assert_eq!(foreign(&world(launch, Some(ArchCheck::Error), &["app/*"])), ["bp:tools"]);
    assert_eq!(foreign(&world(launch, Some(ArchCheck::Error), &["app/*", "layers/bp/*/bin"])), [""; 0]);
    let refused = world(build, Some(ArchCheck::Error), &["app/*"]);
    assert_eq!(foreign(&refused), ["bp:tools"], "a toolchain that this machine cannot run");
    assert!(refused.store.open(APP, &amd64()).is_err(), "nothing was saved");
    let mut cross = world(build, Some(ArchCheck::Error), &["app/*"]);
    cross.inputs.build_for = BuildTarget::new(None).on("arm64".parse().expect("known"));
    assert_eq!(foreign(&cross), [""; 0], "it is for the machine on which buildpacks run");
    let mut targeted = world(launch, None, &[]);
    targeted.inputs.build_for = BuildTarget::new(Some("amd64".parse().expect("known")));
    assert_eq!(named(&targeted), 2, "with a target they are named");
}

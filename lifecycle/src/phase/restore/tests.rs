//! Restore from a cache directory as the exporter leaves it, and from metadata that nobody vouches for.

use std::fs;

use platform_spec::label::{BuildpackLayers, CacheMetadata, LayerSha, StoreMetadata};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::cache::VolumeCache;
use crate::layer::{Owner, Recipe, Want};
use crate::test_log::captured;

struct World {
    dir: TempDir,
    pipeline: Pipeline,
    inputs: Inputs,
    cache: CacheMetadata,
}

fn layer(sha: &str, types: &str) -> BuildpackLayer {
    let has = |flag: &str| types.contains(flag);
    BuildpackLayer {
        sha: sha.to_owned(),
        data: json!({ "of": types, "n": 1 }),
        launch: has("launch"),
        build: has("build"),
        cache: has("cache"),
    }
}

impl World {
    /// Nothing was built before.
    fn new(api: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["layers", "cache", "temp"] {
            fs::create_dir(dir.path().join(name)).expect("created");
        }
        let pipeline = Pipeline::new(&dir.path().join("temp"));
        let element = platform_spec::text::from_toml("id = 'a/bp'\nversion = '1'\napi = '0.10'").expect("an element");
        let inputs = Inputs {
            api: PlatformApi::parse(Some(api)).expect("a version"),
            buildpacks: vec![element],
            layers_dir: dir.path().join("layers"),
            metadata: LifecycleMetadata::default(),
            skip_layers: false,
            programs: None,
        };
        let mut world = Self { dir, pipeline, inputs, cache: CacheMetadata::default() };
        let none = BuildpackLayers { key: "a/bp".to_owned(), ..BuildpackLayers::default() };
        world.cache.buildpacks = Some(vec![none.clone()]);
        world.inputs.metadata.buildpacks = Some(vec![none]);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn app(&mut self) -> &mut BuildpackLayers {
        &mut self.inputs.metadata.buildpacks.as_mut().expect("some")[0]
    }

    fn cached(&mut self) -> &mut BuildpackLayers {
        &mut self.cache.buildpacks.as_mut().expect("some")[0]
    }

    /// Puts a directory of `<layers>` with one file into the cache, and takes it away; its diffID.
    fn store(&self, relative: &str, file: &str) -> String {
        let path = self.path("layers").join(relative).join(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        fs::write(&path, format!("content of {relative}/{file}")).expect("written");
        let recipe = Recipe::Directory {
            layers: self.path("layers"),
            relative: relative.into(),
            owner: Owner { uid: 0, gid: 0 },
        };
        let tar = self.path("temp/tar");
        let packed = self.pipeline.pack(&recipe, Want { blob: false, tar: Some(&tar) }).expect("packed");
        fs::create_dir_all(self.path("cache/committed")).expect("created");
        fs::rename(&tar, self.tar(&packed.diff_id.to_string())).expect("renamed");
        let top = relative.split('/').next().expect("a name");
        fs::remove_dir_all(self.path("layers").join(top)).expect("removed");
        packed.diff_id.to_string()
    }

    fn tar(&self, sha: &str) -> PathBuf {
        self.path("cache/committed").join(format!("{sha}.tar"))
    }

    fn restore(&self) -> Vec<String> {
        let open = || VolumeCache::open(&self.path("cache")).expect("a cache");
        fs::create_dir_all(self.path("cache/committed")).expect("created");
        let text = platform_spec::text::to_go_json(&self.cache);
        fs::write(self.path("cache/committed").join(platform_spec::label::CACHE_METADATA), text).expect("written");
        let cache = Cache::Volume(open());
        let (result, log) = captured(|| run(&self.inputs, Some(&cache), &self.pipeline));
        result.expect("restored");
        log
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path("layers").join(name)).ok()
    }
}

fn says(log: &[String], part: &str) -> bool {
    log.iter().any(|line| line.contains(part))
}

#[test]
fn metadata_data_store_and_sbom() {
    let mut world = World::new("0.12");
    let both = world.store("a_bp/both", "file");
    let sbom = world.store("sbom/cache", "a_bp/both/sbom.cdx.json");
    world.cache.sbom = LayerSha { sha: sbom };
    world.app().store = Some(StoreMetadata { metadata: json!({ "kept": [1, 2] }) });
    for (name, types) in
        [("both", "launch cache"), ("only", "launch"), ("build", "launch build"), ("lost", "launch cache")]
    {
        world.app().layers.insert(name.to_owned(), layer(&both, types));
    }
    world.cached().layers.insert("both".to_owned(), layer(&both, "launch cache"));
    let log = world.restore();
    assert_eq!(world.read("a_bp/both/file").as_deref(), Some("content of a_bp/both/file"));
    assert_eq!(world.read("a_bp/both.toml").as_deref(), Some("[metadata]\n  n = 1\n  of = \"launch cache\"\n"));
    assert_eq!(world.read("a_bp/only.toml").as_deref(), Some("[metadata]\n  n = 1\n  of = \"launch\"\n"));
    assert_eq!((world.read("a_bp/build.toml"), world.read("a_bp/lost.toml")), (None, None));
    assert_eq!(world.read("a_bp/store.toml").as_deref(), Some("[metadata]\n  kept = [1, 2]\n"));
    assert_eq!(world.read("a_bp/both.sbom.cdx.json").as_deref(), Some("content of sbom/cache/a_bp/both/sbom.cdx.json"));
    assert!(!world.path("layers/sbom").exists());
    assert!(says(&log, "info: Restoring metadata for \"a/bp:both\" from app image"), "{log:#?}");
    assert!(says(&log, "info: Restoring data for \"a/bp:both\" from cache"), "{log:#?}");
}

#[test]
fn what_does_not_fit_is_removed_and_what_is_damaged_is_skipped_with_its_metadata() {
    let mut world = World::new("0.12");
    let (good, old, damaged) =
        (world.store("a_bp/good", "f"), world.store("a_bp/old", "f"), world.store("a_bp/damaged", "f"));
    let other = Digest::of(b"other").to_string();
    let missing = Digest::of(b"missing").to_string();
    for (name, sha) in [("good", &good), ("damaged", &damaged), ("missing", &missing)] {
        world.cached().layers.insert(name.to_owned(), layer(sha, "cache"));
    }
    // The previous image has another content under this name than the cache.
    world.app().layers.insert("old".to_owned(), layer(&other, "launch cache"));
    world.cached().layers.insert("old".to_owned(), layer(&old, "launch cache"));
    fs::write(world.tar(&damaged), fs::read(world.tar(&damaged)).expect("read").split_at(700).0).expect("cut short");
    let log = world.restore();
    assert_eq!(world.read("a_bp/good/f").as_deref(), Some("content of a_bp/good/f"));
    for name in ["old", "damaged", "missing"] {
        assert!(!world.path(&format!("layers/a_bp/{name}")).exists(), "{name}");
        assert_eq!(world.read(&format!("a_bp/{name}.toml")), None, "{name}");
    }
    assert!(says(&log, "info: Removing \"a/bp:old\", wrong sha"), "{log:#?}");
    let names: Vec<_> =
        fs::read_dir(world.path("layers")).expect("listed").map(|e| e.expect("one").file_name()).collect();
    assert_eq!(names, ["a_bp"], "nothing is left beside");
}

#[test]
fn names_that_lead_elsewhere_are_passed_over() {
    let mut world = World::new("0.12");
    let sha = Digest::of(b"x").to_string();
    for name in ["../../evil", "..", "a/b", "", "launch", "store", "nul\0"] {
        world.app().layers.insert(name.to_owned(), layer(&sha, "launch"));
        world.cached().layers.insert(name.to_owned(), layer(&sha, "cache"));
    }
    let log = world.restore();
    assert!(!world.path("evil.toml").exists() && !world.path("layers/evil.toml").exists());
    assert!(!world.path("layers/a_bp").exists(), "nothing was written");
    assert!(says(&log, "warn: Skipping restore for layer"), "{log:#?}");
}

#[test]
fn a_symlink_in_the_place_of_the_buildpacks_directory_is_refused() {
    let mut world = World::new("0.12");
    world.app().layers.insert("only".to_owned(), layer("", "launch"));
    std::os::unix::fs::symlink(world.path("temp"), world.path("layers/a_bp")).expect("linked");
    let error = run(&world.inputs, None, &world.pipeline).expect_err("refused");
    assert_eq!(error.exit_code(), exit::RESTORE_ERROR);
    assert!(lifecycle_launch::console::chain(&error).contains("is a symbolic link"), "{error:?}");
    assert_eq!(fs::read_dir(world.path("temp")).expect("listed").count(), 0);
}

#[test]
fn skipping_layers_keeps_only_the_store() {
    let mut world = World::new("0.12");
    let sha = world.store("a_bp/cached", "f");
    world.app().store = Some(StoreMetadata { metadata: json!({}) });
    world.app().layers.insert("only".to_owned(), layer(&sha, "launch"));
    world.cached().layers.insert("cached".to_owned(), layer(&sha, "cache"));
    world.inputs.skip_layers = true;
    let log = world.restore();
    assert_eq!(world.read("a_bp/store.toml").as_deref(), Some("[metadata]\n"));
    assert_eq!(fs::read_dir(world.path("layers/a_bp")).expect("listed").count(), 1);
    assert!(says(&log, "info: Skipping buildpack layer analysis"), "{log:#?}");
}

#[test]
fn metadata_of_launch_layers_comes_from_the_cache_only_in_newer_apis() {
    for (api, restored) in [("0.13", false), ("0.14", true)] {
        let mut world = World::new(api);
        let sha = world.store("a_bp/both", "f");
        world.cached().layers.insert("both".to_owned(), layer(&sha, "launch cache"));
        world.restore();
        assert_eq!(world.read("a_bp/both/f").is_some(), restored, "{api}");
    }
}

//! Caches and previous images that mean harm, or are damaged: nothing is written outside of the layer that is restored,
//! what cannot be restored is skipped with its TOML, and the rest is restored.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use platform_spec::label::{BuildpackLayers, CACHE_METADATA, CacheMetadata, LayerSha};

use super::*;
use crate::cache::VolumeCache;
use crate::test_log::captured;

/// One entry of a tar: type flag, name relative to the layers directory unless it is absolute, link target, content.
type Entry<'a> = (u8, &'a str, &'a str, &'a str);

struct World {
    dir: tempfile::TempDir,
    inputs: Inputs,
    cached: CacheMetadata,
}

impl World {
    /// A cache with a good layer, `a:good`.
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["layers", "cache/committed", "outside"] {
            fs::create_dir_all(dir.path().join(name)).expect("made");
        }
        fs::write(dir.path().join("outside/secret"), "secret").expect("written");
        let group =
            "[[group]]\nid = 'a'\nversion = '1'\napi = '0.12'\n[[group]]\nid = 'b'\nversion = '1'\napi = '0.12'";
        let group: platform_spec::group::Group = platform_spec::text::from_toml(group).expect("a group");
        let inputs = Inputs {
            api: PlatformApi::parse(Some("0.15")).expect("an API"),
            buildpacks: group.group,
            layers_dir: dir.path().join("layers"),
            metadata: LifecycleMetadata::default(),
            skip_layers: false,
            programs: None,
        };
        let buildpack = BuildpackLayers { key: "a".to_owned(), ..BuildpackLayers::default() };
        let cached = CacheMetadata { buildpacks: Some(vec![buildpack]), ..CacheMetadata::default() };
        let mut world = Self { dir, inputs, cached };
        let sha = world.tar(&[(b'5', "a/good", "", ""), (b'0', "a/good/file", "", "good")]);
        world.layer("good", &sha);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a tar into the cache; its diffID.
    fn tar(&self, entries: &[Entry<'_>]) -> String {
        let mut builder = ::tar::Builder::new(Vec::new());
        let absolute = |name: &str| self.path("layers").join(name).display().to_string();
        for (flag, name, link, content) in entries {
            let link = if *flag == b'1' { absolute(link) } else { (*link).to_owned() };
            let names = [("path", absolute(name)), ("linkpath", link)];
            builder.append_pax_extensions(names.iter().map(|(key, value)| (*key, value.as_bytes()))).expect("appended");
            let mut header = ::tar::Header::new_ustar();
            header.set_entry_type(::tar::EntryType::new(*flag));
            header.set_mode(0o755);
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).expect("appended");
        }
        self.bytes(&builder.into_inner().expect("finished"))
    }

    /// Puts bytes into the cache under their own digest.
    fn bytes(&self, bytes: &[u8]) -> String {
        let digest = Digest::of(bytes).to_string();
        fs::write(self.tar_path(&digest), bytes).expect("written");
        digest
    }

    fn tar_path(&self, sha: &str) -> PathBuf {
        self.path("cache/committed").join(format!("{sha}.tar"))
    }

    /// Records a layer of buildpack `a` in the cache's metadata.
    fn layer(&mut self, name: &str, sha: &str) {
        let layer = BuildpackLayer { sha: sha.to_owned(), build: true, cache: true, ..BuildpackLayer::default() };
        let buildpacks = self.cached.buildpacks.as_mut().expect("a buildpack");
        buildpacks[0].layers.insert(name.to_owned(), layer);
    }

    fn run(&self) -> (Result<(), String>, Vec<String>) {
        let metadata = serde_json::to_string(&self.cached).expect("JSON");
        fs::write(self.path("cache/committed").join(CACHE_METADATA), metadata).expect("written");
        let cache = Cache::Volume(VolumeCache::open(&self.path("cache")).expect("opens"));
        // One thread, so that what is logged is captured.
        let pipeline = Pipeline::with_threads(&self.path("outside"), 1);
        let (result, lines) = captured(|| run(&self.inputs, Some(&cache), &pipeline));
        let warnings = lines.into_iter().filter_map(|line| line.strip_prefix("warn: ").map(str::to_owned)).collect();
        (result.map_err(|error| chain(&error)), warnings)
    }

    /// Every path beneath the project but the cache's, with its content.
    fn found(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for entry in walkdir::WalkDir::new(self.dir.path()).min_depth(1) {
            let entry = entry.expect("walked");
            let path = entry.path().strip_prefix(self.dir.path()).expect("beneath").display().to_string();
            if entry.file_type().is_file() && !path.starts_with("cache") {
                all.insert(path, fs::read_to_string(entry.path()).expect("read"));
            }
        }
        all
    }

    /// Only the good layer was restored, and nothing else was touched.
    #[track_caller]
    fn has_only_the_good_layer(&self, what: &str) {
        let expected = [("layers/a/good.toml", ""), ("layers/a/good/file", "good"), ("outside/secret", "secret")];
        let expected = expected.map(|(path, content)| (path.to_owned(), content.to_owned()));
        assert_eq!(self.found(), expected.into(), "{what}");
        let names: Vec<_> = fs::read_dir(self.path("layers")).expect("listed").collect();
        assert_eq!(names.len(), 1, "{what}: {names:?}");
        let names: Vec<_> = fs::read_dir(self.path("layers/a")).expect("listed").collect();
        assert_eq!(names.len(), 2, "{what}: {names:?}");
    }
}

#[test]
fn a_layer_that_would_get_out_or_is_damaged_is_skipped_with_its_toml() {
    let layer = (b'5', "a/bad", "", "");
    let tars: &[(&str, &[Entry<'_>], &str)] = &[
        ("up", &[layer, (b'0', "a/bad/../../../outside/new", "", "x")], "is outside of"),
        ("another layer", &[layer, (b'0', "a/good/file", "", "x")], "is outside of"),
        ("its TOML", &[layer, (b'0', "a/bad.toml", "", "x")], "is outside of"),
        ("another buildpack", &[layer, (b'0', "b/file", "", "x")], "is outside of"),
        ("anywhere", &[layer, (b'0', "/etc/lifecycle-was-here", "", "x")], "is outside of"),
        ("a hard link", &[layer, (b'1', "a/bad/link", "../outside/secret", "")], "is outside of"),
        ("a hard link to a layer", &[layer, (b'1', "a/bad/link", "a/good/file", "")], "is outside of"),
        (
            "through a link",
            &[layer, (b'2', "a/bad/link", "../../../outside", ""), (b'0', "a/bad/link/secret", "", "x")],
            "beneath a symlink or a file",
        ),
        ("a link", &[(b'2', "a/bad", "../../outside", "")], "the layer is not a directory"),
        ("a device", &[layer, (b'3', "a/bad/null", "", "")], "entries of this kind are not extracted"),
    ];
    for (what, entries, expected) in tars {
        let mut world = World::new();
        let sha = world.tar(entries);
        world.layer("bad", &sha);
        let (result, warnings) = world.run();
        assert_eq!(result, Ok(()), "{what}");
        assert!(
            matches!(&*warnings, [one] if one.starts_with("Skipping restore for layer a:bad: ") && one.contains(expected)),
            "{what}: {warnings:?}"
        );
        world.has_only_the_good_layer(what);
    }
    assert!(!Path::new("/etc/lifecycle-was-here").exists());
}

#[test]
fn a_tar_that_is_not_what_was_recorded_is_skipped() {
    type Damage = fn(&World, &str) -> String;
    let damages: &[(&str, Damage, &str)] = &[
        (
            "truncated",
            |world, sha| {
                let file = fs::OpenOptions::new().write(true).open(world.tar_path(sha)).expect("opened");
                file.set_len(700).expect("cut");
                sha.to_owned()
            },
            "expected layer contents to have SHA 'sha256:",
        ),
        (
            "another content",
            |world, sha| {
                let mut bytes = fs::read(world.tar_path(sha)).expect("there");
                bytes[1800] ^= 1;
                fs::write(world.tar_path(sha), bytes).expect("written");
                sha.to_owned()
            },
            "expected layer contents to have SHA 'sha256:",
        ),
        ("no tar", |world, _| world.bytes(b"something else"), "the tar is cut short"),
        (
            "gone",
            |world, sha| {
                fs::remove_file(world.tar_path(sha)).expect("removed");
                sha.to_owned()
            },
            "failed to find cache layer with SHA 'sha256:",
        ),
        (
            "a pipe",
            |world, sha| {
                let path = world.tar_path(sha);
                fs::remove_file(&path).expect("removed");
                rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).expect("made");
                sha.to_owned()
            },
            "not a regular file",
        ),
        (
            "a link",
            |world, sha| {
                fs::remove_file(world.tar_path(sha)).expect("removed");
                symlink(world.path("outside/secret"), world.tar_path(sha)).expect("linked");
                sha.to_owned()
            },
            "too many levels of symbolic links",
        ),
    ];
    for (what, damage, expected) in damages {
        let mut world = World::new();
        let sha = world.tar(&[(b'5', "a/bad", "", ""), (b'0', "a/bad/file", "", &"x".repeat(3000))]);
        let sha = damage(&world, &sha);
        world.layer("bad", &sha);
        let (result, warnings) = world.run();
        assert_eq!(result, Ok(()), "{what}");
        assert!(
            matches!(&*warnings, [one] if one.starts_with("Skipping restore for layer a:bad: ") && one.contains(expected)),
            "{what}: {warnings:?}"
        );
        world.has_only_the_good_layer(what);
    }
    // A digest that is none: there is nothing to look for.
    for sha in ["", "sha256:../../outside/secret", "../../../outside/secret", "sha256:00"] {
        let mut world = World::new();
        world.layer("bad", sha);
        assert_eq!(world.run().0, Ok(()), "{sha}");
        world.has_only_the_good_layer(sha);
    }
}

#[test]
fn names_that_lead_elsewhere_are_skipped() {
    let names =
        ["..", ".", "", "../../outside/new", "/etc/lifecycle-was-here", "x/y", "a\0b", "store", "launch", "build"];
    for name in names {
        let mut world = World::new();
        let sha = world.tar(&[(b'5', "a/bad", "", "")]);
        world.layer(name, &sha);
        // The same from the previous image.
        let mut known = world.cached.buildpacks.clone().expect("one");
        known[0].layers.retain(|found, _| found == name);
        known[0].layers.values_mut().for_each(|layer| (layer.launch, layer.build, layer.cache) = (true, false, false));
        world.inputs.metadata.buildpacks = Some(known);
        let (result, warnings) = world.run();
        assert_eq!(result, Ok(()), "{name:?}");
        let expected = format!("Skipping restore for layer {:?}: ", format!("a:{name}"));
        assert!(warnings.len() == 2 && warnings.iter().all(|line| line.starts_with(&expected)), "{warnings:?}");
        world.has_only_the_good_layer(name);
    }
    assert!(!Path::new("/etc/lifecycle-was-here.toml").exists());
}

#[test]
fn a_layer_of_the_build_before_that_cannot_be_restored_does_not_stay_half() {
    let mut world = World::new();
    let sha = world.tar(&[(b'5', "a/bad", "", ""), (b'0', "b/file", "", "x")]);
    world.layer("bad", &sha);
    for name in ["layers/a/bad/old", "layers/.restoring~1.0/layer/file"] {
        fs::create_dir_all(world.path(name).parent().expect("a parent")).expect("made");
        fs::write(world.path(name), "old").expect("written");
    }
    fs::write(world.path("layers/a/bad.sbom.cdx.json"), "old").expect("written");
    assert_eq!(world.run().0, Ok(()));
    world.has_only_the_good_layer("what was there does not fit what was recorded");
}

#[test]
fn hostile_sbom_files_do_not_get_anywhere() {
    let good = [(b'5', "sbom/cache", "", ""), (b'0', "sbom/cache/a/good/sbom.cdx.json", "", "{}")];
    let cases: &[(&str, &[Entry<'_>], &str)] = &[
        ("none", &[], ""),
        (
            "a link for a buildpack",
            &[(b'2', "sbom/cache/b", "../../../outside", "")],
            "Skipping restore of SBOM files for b: ",
        ),
        ("a link for a layer", &[(b'2', "sbom/cache/a/linked", "../../../../outside", "")], ""),
        ("a link for a file", &[(b'2', "sbom/cache/a/x/sbom.cdx.json", "/etc/passwd", "")], ""),
        ("a pipe for a file", &[(b'6', "sbom/cache/a/x/sbom.cdx.json", "", "")], ""),
        (
            "a reserved name",
            &[(b'0', "sbom/cache/a/launch/sbom.cdx.json", "", "{}")],
            "Skipping restore for layer \"a:launch\": ",
        ),
        ("another file", &[(b'0', "sbom/cache/a/x/sbom.toml", "", "")], ""),
    ];
    for (what, entries, warning) in cases {
        let mut world = World::new();
        fs::create_dir(world.path("layers/b")).expect("made");
        fs::write(world.path("layers/b/keep"), "").expect("written");
        world.cached.sbom = LayerSha { sha: world.tar(&[&good[..], entries].concat()) };
        let (result, warnings) = world.run();
        assert_eq!(result, Ok(()), "{what}");
        assert!(
            warnings.concat().starts_with(warning) && warnings.is_empty() == warning.is_empty(),
            "{what}: {warnings:?}"
        );
        let found: Vec<_> = world.found().into_keys().collect();
        let expected = [
            "layers/a/good.sbom.cdx.json",
            "layers/a/good.toml",
            "layers/a/good/file",
            "layers/b/keep",
            "outside/secret",
        ];
        assert_eq!(found, expected, "{what}");
    }
    let long = format!("sbom/cache/a/good/sbom.{}.json", "x".repeat(245));
    for (what, entries) in [
        ("up", [good[0], (b'0', "sbom/cache/../../a/good.sbom.cdx.json", "", "x")]),
        ("a layer", [good[0], (b'0', "a/good/file", "", "x")]),
        ("a link above", [(b'2', "sbom", "../outside", ""), good[1]]),
    ] {
        let mut world = World::new();
        world.cached.sbom = LayerSha { sha: world.tar(&entries) };
        let (result, warnings) = world.run();
        assert_eq!(result, Ok(()), "{what}");
        assert!(
            matches!(&*warnings, [one] if one.starts_with("Skipping restore of SBOM from cache: entry ")),
            "{warnings:?}"
        );
        world.has_only_the_good_layer(what);
    }
    // A name that is too long beside its layer is not restored.
    let mut world = World::new();
    world.cached.sbom = LayerSha { sha: world.tar(&[good[0], (b'0', &long, "", "x")]) };
    assert_eq!(world.run(), (Ok(()), Vec::new()));
    world.has_only_the_good_layer("long");
}

#[test]
fn what_is_not_a_directory_in_the_place_of_a_buildpack_is_an_error() {
    let world = World::new();
    symlink(world.path("outside"), world.path("layers/a")).expect("linked");
    let (result, _) = world.run();
    let error = result.expect_err("refused");
    assert!(
        error.starts_with("read layers of buildpack 'a': ")
            && error.ends_with("layers/a is a symbolic link, not a directory"),
        "{error}"
    );
    assert_eq!(fs::read_dir(world.path("outside")).expect("listed").count(), 1);
}

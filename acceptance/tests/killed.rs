//! Phases that are killed (`SIGKILL`) while they write: the next run succeeds, nothing is half old and half new, and
//! nothing stays in `TMPDIR`.
//!
//! When a phase begins to write is seen from outside; how long it writes is measured on runs that nobody kills. The
//! moments are spread evenly over that time.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use acceptance::killer::Killer;
use acceptance::snapshot::{changes, hex, names, snapshot};
use acceptance::{Build, Project, Tool, image};

const MOMENTS: u32 = 50;
const LAYERS: [&str; 3] = ["a", "b", "c"];
const FILES: u32 = 20;

/// A build after its builder has run, with layers whose every file says of which generation it is: all of them for the
/// cache, and one for the image too.
fn built() -> Build {
    let build = Build::of(Project::empty());
    let project = &build.project;
    let module = "id = \"test/kept\"\nversion = \"1\"\napi = \"0.10\"\n";
    project.write("layers/group.toml", format!("[[group]]\n{module}"));
    project.write("layers/config/metadata.toml", format!("[[buildpacks]]\n{module}"));
    fs::create_dir(project.path("temp")).expect("created");
    generation(project, 0, false);
    build
}

/// Without names in them two files would compress to nothing.
fn content(layer: &str, file: u32, number: u32) -> String {
    format!("layer {layer}, file {file}, generation {number}\n").repeat(6000)
}

fn generation(project: &Project, number: u32, launch: bool) {
    for layer in LAYERS {
        let path = project.path("layers/test_kept").join(layer);
        fs::create_dir_all(&path).expect("created");
        for file in 0..FILES {
            fs::write(path.join(format!("file{file}")), content(layer, file, number)).expect("written");
        }
        let types = format!("[types]\nlaunch = {launch}\ncache = true\nbuild = true\n");
        let toml = format!("{types}[metadata]\ngeneration = {number}\n");
        fs::write(path.with_extension("toml"), toml).expect("written");
    }
    project.give_to_user();
}

/// The generation of a layer that was restored.
#[track_caller]
fn restored(project: &Project, layer: &str) -> u32 {
    let metadata = project.toml(&format!("layers/test_kept/{layer}.toml"));
    let number = metadata["metadata"]["generation"].as_integer().expect("a number").try_into().expect("a small one");
    is_whole(project, layer, number);
    number
}

#[track_caller]
fn is_whole(project: &Project, layer: &str, number: u32) {
    for file in 0..FILES {
        let found = project.read(&format!("layers/test_kept/{layer}/file{file}"));
        assert!(found == content(layer, file, number), "{layer}/file{file} is not whole: {} bytes", found.len());
    }
}

/// The generation that the cache directory has; every tar that it names is there and what it should be.
#[track_caller]
fn cached(cache: &Path) -> u32 {
    let committed = cache.join("committed");
    let text = fs::read(committed.join("io.buildpacks.lifecycle.cache.metadata")).expect("there");
    let metadata: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let layers = metadata["buildpacks"][0]["layers"].as_object().expect("layers");
    assert_eq!(layers.keys().collect::<Vec<_>>(), LAYERS);
    let mut numbers: Vec<_> = layers
        .values()
        .map(|layer| {
            let sha = layer["sha"].as_str().expect("a digest");
            let tar = fs::read(committed.join(format!("{sha}.tar"))).expect("there");
            assert_eq!(format!("sha256:{}", hex(&tar)), sha);
            layer["data"]["generation"].as_u64().expect("a number")
        })
        .collect();
    numbers.dedup();
    assert!(numbers.len() == 1, "half old, half new: {numbers:?}");
    assert_eq!(fs::read_dir(&committed).expect("listed").count(), 1 + LAYERS.len());
    u32::try_from(numbers[0]).expect("a small one")
}

#[expect(clippy::print_stderr, reason = "numbers for those who ask with --nocapture")]
fn tell(text: &str) {
    eprintln!("{text}");
}

#[test]
fn the_exporter_while_it_writes_the_cache_directory() {
    let build = built();
    build.run(&["analyzer"], "app");
    let (cache, temp) = (build.project.path("cache"), build.project.path("temp"));
    let exporter = || build.phase_for("exporter", "app").env("TMPDIR", &temp);
    let writes = || cache.join("staging").exists();
    let mut killer = Killer::new(MOMENTS);
    let mut number = 0;
    for _ in 0..3 {
        number += 1;
        generation(&build.project, number, false);
        killer.spare(exporter(), writes);
    }
    let (mut old, mut new) = (0, 0);
    while killer.goes_on() {
        let before = cached(&cache);
        assert_eq!((before, names(&cache)), (number, vec!["committed".to_owned()]));
        number += 1;
        generation(&build.project, number, false);
        killer.kill(exporter(), writes);
        match cached(&cache) {
            now if now == before => old += 1,
            now if now == number => new += 1,
            now => panic!("generation {now}, neither {before} nor {number}"),
        }
        assert_eq!(names(&temp), [""; 0]);
        killer.spare(exporter(), writes);
    }
    killer.has_killed();
    tell(&format!(
        "exporter: {} of {MOMENTS} killed, the cache was old {old} times and new {new} times",
        killer.killed()
    ));
    build.project.new_layers();
    build.project.write("layers/group.toml", "[[group]]\nid = \"test/kept\"\nversion = \"1\"\napi = \"0.10\"\n");
    build.run(&["analyzer", "restorer"], "app");
    assert!(LAYERS.iter().all(|layer| restored(&build.project, layer) == number));
}

#[test]
fn the_restorer_while_it_extracts() {
    let build = built();
    build.run(&["analyzer"], "app");
    let temp = build.project.path("temp");
    let layers = build.project.path("layers");
    generation(&build.project, 7, false);
    build.run(&["exporter"], "app");
    let cache = snapshot(&build.project.path("cache"));
    let forget = || fs::remove_dir_all(layers.join("test_kept")).unwrap_or_default();
    let restorer = || build.phase("restorer").env("TMPDIR", &temp);
    let writes = || names(&layers).iter().any(|name| name.starts_with(".restoring"));
    let before: Vec<_> = names(&layers).into_iter().filter(|name| name != "test_kept").collect();
    let mut killer = Killer::new(MOMENTS);
    for _ in 0..3 {
        forget();
        killer.spare(restorer(), writes);
    }
    let (mut whole, mut absent) = (0, 0);
    while killer.goes_on() {
        forget();
        killer.kill(restorer(), writes);
        for layer in LAYERS {
            if layers.join("test_kept").join(layer).exists() {
                is_whole(&build.project, layer, 7);
                whole += 1;
            } else {
                absent += 1;
            }
        }
        assert_eq!(names(&temp), [""; 0]);
        // Over what the one before left there.
        killer.spare(restorer(), writes);
        assert!(LAYERS.iter().all(|layer| restored(&build.project, layer) == 7));
        assert_eq!(names(&layers.join("test_kept")), ["a", "a.toml", "b", "b.toml", "c", "c.toml"], "leftovers");
        assert_eq!(names(&layers).into_iter().filter(|name| name != "test_kept").collect::<Vec<_>>(), before);
    }
    killer.has_killed();
    tell(&format!(
        "restorer: {} of {MOMENTS} killed, layers were whole {whole} times and absent {absent} times",
        killer.killed()
    ));
    assert_eq!(changes(&cache, &snapshot(&build.project.path("cache"))), [""; 0], "the cache is as it was");
}

#[test]
fn the_exporter_while_it_pushes() {
    const MOMENTS: u32 = 20;
    let build = built();
    let temp = build.project.path("temp");
    let repository = build.registry.storage().join("docker/registry/v2/repositories/app");
    let link = repository.join("_manifests/tags/latest/current/link");
    let exporter = || build.phase_for("exporter", "app").env("TMPDIR", &temp);
    fs::create_dir(build.project.path("pulled")).expect("created");
    let mut killer = Killer::new(MOMENTS);
    let mut number = 0;
    for _ in 0..3 {
        number += 1;
        generation(&build.project, number, true);
        build.run(&["analyzer"], "app");
        let requests = build.registry.requests().len();
        killer.spare(exporter(), || build.registry.requests().len() > requests);
    }
    let (mut old, mut new) = (0, 0);
    while killer.goes_on() {
        number += 1;
        generation(&build.project, number, true);
        build.run(&["analyzer"], "app");
        let before = fs::read(&link).expect("a tag");
        let requests = build.registry.requests().len();
        killer.kill(exporter(), || build.registry.requests().len() > requests);
        if fs::read(&link).expect("a tag") == before {
            old += 1
        } else {
            new += 1
        }
        // skopeo reads all of it, and checks it.
        let layout = build.project.path(&format!("pulled/{number}"));
        image::pull(&build.registry, &build.registry.image("app"), &layout, "app");
        assert_eq!(names(&temp), [""; 0]);
        killer.spare(exporter(), || true);
    }
    killer.has_killed();
    tell(&format!("push: {} of {MOMENTS} killed, the tag was old {old} times and new {new} times", killer.killed()));
}

#[test]
fn the_exporter_while_it_writes_a_layout() {
    const MOMENTS: u32 = 30;
    let build = built();
    let (temp, layouts) = (build.project.path("temp"), build.project.path("layouts"));
    let path = |name: &str| -> PathBuf { layouts.join("index.docker.io/library").join(name).join("latest") };
    fs::create_dir_all(path("run").parent().expect("a parent")).expect("created");
    image::make_run_image(&path("run"), "latest");
    build.project.give_to_user();
    let phase = |name: &str| {
        let phase = build
            .project
            .phase(name)
            .env("CNB_EXPERIMENTAL_MODE", "warn")
            .arg("-layout")
            .flag("layout-dir", &layouts)
            .env("TMPDIR", &temp);
        let phase = if name == "analyzer" { phase.flag("run-image", "run") } else { phase };
        phase.arg("app")
    };
    let app = path("app");
    let index = || fs::read(app.join("index.json")).expect("there");
    let mut killer = Killer::new(MOMENTS);
    let mut number = 0;
    let mut next = || {
        number += 1;
        generation(&build.project, number, true);
        phase("analyzer").run().succeeds();
    };
    // A blob of the new generation, complete or not.
    let blobs = || fs::read_dir(app.join("blobs/sha256")).map_or(0, Iterator::count);
    for _ in 0..3 {
        next();
        let before = blobs();
        killer.spare(phase("exporter"), || blobs() != before);
    }
    let (mut old, mut new) = (0, 0);
    while killer.goes_on() {
        next();
        let (before, there) = (index(), blobs());
        killer.kill(phase("exporter"), || blobs() != there);
        if index() == before {
            old += 1
        } else {
            new += 1
        }
        let copy = build.project.path("copies/app");
        fs::create_dir_all(copy.parent().expect("a parent")).expect("created");
        let from = format!("oci:{}:latest", app.display());
        Tool::new("skopeo").args(["copy", "--quiet", &from, &format!("dir:{}", copy.display())]).run();
        fs::remove_dir_all(copy).expect("removed");
        assert_eq!(names(&temp), [""; 0]);
        killer.spare(phase("exporter"), || true);
        let left: Vec<_> = names(&app.join("blobs/sha256")).into_iter().filter(|name| name.starts_with('.')).collect();
        assert_eq!(left, [""; 0], "what the killed one left is removed");
        let mode = fs::metadata(app.join("index.json")).expect("there").permissions().mode();
        assert_eq!(mode & 0o444, 0o444);
    }
    killer.has_killed();
    tell(&format!(
        "layout: {} of {MOMENTS} killed, the image was old {old} times and new {new} times",
        killer.killed()
    ));
}

//! A cache directory that somebody else writes too: a layer that climbs out, is cut or changed is skipped with its TOML, and
//! the next builds work.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use acceptance::{Build, Outcome, Project, Tool};

/// A build of one buildpack with a layer for the cache and the build, up to the exporter.
fn built() -> Build {
    let build = Build::of(Project::empty());
    let project = &build.project;
    let script = r#"
        mkdir "$CNB_LAYERS_DIR/layer"
        echo content > "$CNB_LAYERS_DIR/layer/file"
        printf '[types]\nbuild = true\ncache = true\n[metadata]\nkey = "value"\n' > "$CNB_LAYERS_DIR/layer.toml"
    "#;
    project.shell_buildpack("0.10", "test/one", "1", "", "exit 0", script);
    project.order(&[&["test/one@1"]]);
    build.run(&["analyzer", "detector", "restorer", "builder"], "app");
    build
}

/// Puts a tar in the place of the cached layer's, in the cache directory of an export.
fn replace_cached_layer(project: &Project, make: impl FnOnce(&Path)) {
    let committed = project.path("cache/committed");
    let description = committed.join("io.buildpacks.lifecycle.cache.metadata");
    let text = fs::read_to_string(&description).expect("there");
    let metadata: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let old = metadata["buildpacks"][0]["layers"]["layer"]["sha"].as_str().expect("a digest").to_owned();
    let tar = project.path("new.tar");
    make(&tar);
    let digest = Tool::new("sha256sum").args([&tar]).run();
    let new = format!("sha256:{}", digest.split(' ').next().unwrap_or_default());
    fs::copy(&tar, committed.join(format!("{new}.tar"))).expect("copied");
    fs::remove_file(committed.join(format!("{old}.tar"))).expect("there");
    fs::write(description, text.replace(&old, &new)).expect("written");
    project.give_to_user();
}

/// A tar with entries of any names, which GNU tar makes of files with other names.
fn tar_of(project: &Project, tar: &Path, entries: &[(&str, &str)]) {
    let work = project.path("tar-work");
    fs::create_dir_all(&work).expect("created");
    let mut arguments =
        vec!["--create".to_owned(), "--absolute-names".to_owned(), "--file".to_owned(), tar.display().to_string()];
    arguments.push(format!("--directory={}", work.display()));
    for (number, (name, target)) in entries.iter().enumerate() {
        let file = format!("entry{number}");
        match target.strip_prefix("-> ") {
            Some(target) => symlink(target, work.join(&file)).expect("linked"),
            None => fs::write(work.join(&file), target).expect("written"),
        }
        arguments.push(format!("--transform=flags=r;s|^{file}$|{name}|"));
    }
    arguments.extend((0..entries.len()).map(|number| format!("entry{number}")));
    Tool::new("tar").args(arguments).run();
    fs::remove_dir_all(work).expect("removed");
}

/// A build whose next restorer finds these entries in the cached layer.
fn with_cached_layer(entries: &[(String, String)], layers: &str, build: &Build) -> Outcome {
    let project = &build.project;
    assert_eq!(layers, project.path("layers").display().to_string());
    build.run(&["exporter"], "app");
    project.new_layers();
    build.run(&["analyzer", "detector"], "app");
    replace_cached_layer(project, |tar| {
        let entries: Vec<_> = entries.iter().map(|(name, target)| (name.as_str(), target.as_str())).collect();
        tar_of(project, tar, &entries);
    });
    build.phase("restorer").run().succeeds()
}

/// Without this, what follows could be skipped for another reason than the one that is tested.
#[test]
fn a_cached_layer_that_stays_inside_is_restored() {
    let build = built();
    let layers = build.project.path("layers").display().to_string();
    let entry = |name: &str, target: &str| (format!("{layers}/test_one/layer/{name}"), target.to_owned());
    with_cached_layer(&[entry("file", "replaced"), entry("link", "-> ../../..")], &layers, &build);
    assert_eq!(build.project.read("layers/test_one/layer/file"), "replaced");
    let link = fs::read_link(build.project.path("layers/test_one/layer/link")).expect("a link");
    assert_eq!(link, Path::new("../../.."));
}

#[test]
fn a_cached_layer_that_climbs_out_is_skipped_with_its_toml() {
    type Entries = fn(&str) -> Vec<(String, String)>;
    let cases: &[(&str, Entries)] = &[
        ("..", |layers| vec![(format!("{layers}/test_one/layer/../../../target"), "evil".into())]),
        ("relative", |layers| {
            let target = layers.replace("/layers", "/target");
            vec![(format!("{}{}", "../".repeat(20), target.trim_start_matches('/')), "evil".into())]
        }),
        ("another layer", |layers| vec![(format!("{layers}/test_one/other/file"), "evil".into())]),
        ("elsewhere", |layers| vec![(layers.replace("/layers", "/target"), "evil".into())]),
        ("through a link", |layers| {
            let layer = format!("{layers}/test_one/layer");
            let outside = layers.replace("/layers", "");
            vec![(format!("{layer}/link"), format!("-> {outside}")), (format!("{layer}/link/target"), "evil".into())]
        }),
    ];
    for (what, entries) in cases {
        let build = built();
        let project = &build.project;
        let layers = project.path("layers").display().to_string();
        let outcome = with_cached_layer(&entries(&layers), &layers, &build);
        let context = format!("{what}: {outcome:?}");
        assert!(!project.path("target").exists(), "{context}");
        assert!(!project.path("layers/test_one/other").exists(), "{context}");
        assert!(!project.path("layers/test_one/layer").exists(), "{context}");
        assert!(!project.path("layers/test_one/layer.toml").exists(), "{context}");
        build.run(&["builder", "exporter"], "app");
    }
}

#[test]
fn a_cached_layer_that_is_cut_or_changed_is_skipped() {
    let changes: [fn(&mut Vec<u8>); 3] = [
        |bytes| bytes.truncate(700),
        |bytes| bytes.clear(),
        |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        },
    ];
    for change in changes {
        let build = built();
        let project = &build.project;
        build.run(&["exporter"], "app");
        project.new_layers();
        build.run(&["analyzer", "detector"], "app");
        for entry in fs::read_dir(project.path("cache/committed")).expect("listed").flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "tar") {
                let mut bytes = fs::read(entry.path()).expect("read");
                change(&mut bytes);
                fs::write(entry.path(), bytes).expect("written");
            }
        }
        build.run(&["restorer"], "app");
        assert!(
            !project.path("layers/test_one/layer").exists() && !project.path("layers/test_one/layer.toml").exists()
        );
        build.run(&["builder", "exporter"], "app");
        project.new_layers();
        build.run(&["analyzer", "detector", "restorer"], "app");
        assert_eq!(project.read("layers/test_one/layer/file"), "content\n", "the next build's cache is a good one");
    }
}

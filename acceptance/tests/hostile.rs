//! What buildpacks left and what a cache holds, written by somebody who wants what is outside.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use acceptance::image::{self, Bundle};
use acceptance::{Build, Outcome, Phase, Project, Tool};

const SECRET: &str = "s3cret content";

/// A build of one buildpack with a launch layer, up to the exporter.
fn built() -> Build {
    built_with("launch")
}

/// The layer has this type, and is cached.
fn built_with(kind: &str) -> Build {
    let build = Build::of(Project::empty());
    let project = &build.project;
    let script = r#"
        mkdir "$CNB_LAYERS_DIR/layer"
        echo content > "$CNB_LAYERS_DIR/layer/file"
        printf '[types]\nKIND = true\ncache = true\n[metadata]\nkey = "value"\n' > "$CNB_LAYERS_DIR/layer.toml"
    "#;
    project.shell_buildpack("0.10", "test/one", "1", "", "exit 0", &script.replace("KIND", kind));
    project.order(&[&["test/one@1"]]);
    project.write("secret/file", SECRET);
    fs::create_dir(project.path("secret/directory")).expect("created");
    fs::write(project.path("secret/directory/file"), SECRET).expect("written");
    build.run(&["analyzer", "detector", "restorer", "builder"], "app");
    build
}

/// Ends within seconds: nothing waits for a fifo's other end.
#[track_caller]
fn soon(phase: Phase) -> Outcome {
    let begun = Instant::now();
    let outcome = phase.run();
    assert!(begun.elapsed() < Duration::from_secs(30), "{outcome:?}");
    outcome
}

#[test]
fn a_link_in_the_place_of_a_file_or_a_layer_is_refused_and_not_read() {
    type Change = fn(&Path, &Path);
    let cases: &[(&str, Change)] = &[
        ("layers/test_one/layer.toml", |path, secret| {
            fs::remove_file(path).expect("removed");
            symlink(secret.join("file"), path).expect("linked");
        }),
        ("layers/test_one/layer", |path, secret| {
            fs::remove_dir_all(path).expect("removed");
            symlink(secret.join("directory"), path).expect("linked");
        }),
        ("layers/test_one", |path, secret| {
            fs::remove_dir_all(path).expect("removed");
            symlink(secret, path).expect("linked");
        }),
        ("layers/test_one/layer.toml", |path, _| {
            fs::remove_file(path).expect("removed");
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
        }),
        ("layers/test_one/store.toml", |path, secret| symlink(secret.join("file"), path).expect("linked")),
        ("layers/test_one/store.toml", |path, _| drop(UnixListener::bind(path).expect("a socket"))),
    ];
    for (number, (place, change)) in cases.iter().enumerate() {
        let build = built();
        let path = build.project.path(place);
        change(&path, &build.project.path("secret"));
        let outcome = soon(build.phase_for("exporter", "app")).ends_with(62);
        outcome.says(&path.display().to_string()).says_no(SECRET);
        let exists = Tool::new("skopeo")
            .args(["list-tags", "--tls-verify=false"])
            .args([format!("docker://{}", build.registry.image("app"))]);
        let exists = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| exists.run())).is_ok();
        assert!(!exists, "case {number}: no image was made");
    }
}

#[test]
fn an_sbom_file_that_is_a_link_is_refused_by_the_builder() {
    let build = Build::of(Project::empty());
    let project = &build.project;
    project.write("secret/file", SECRET);
    let script = r#"
        printf '[types]\nlaunch = true\n' > "$CNB_LAYERS_DIR/layer.toml"
        mkdir "$CNB_LAYERS_DIR/layer"
        ln -s "$(cat "$CNB_PLATFORM_DIR/env/SECRET_FILE")" "$CNB_LAYERS_DIR/layer.sbom.cdx.json"
    "#;
    project.write("platform/env/SECRET_FILE", project.path("secret/file").display().to_string());
    let more = "sbom-formats = [\"application/vnd.cyclonedx+json\"]";
    project.shell_buildpack("0.10", "test/one", "1", more, "exit 0", script);
    project.order(&[&["test/one@1"]]);
    build.run(&["analyzer", "detector"], "app");
    let outcome = build.phase("builder").run().ends_with(52);
    outcome.says(&project.path("layers/test_one/layer.sbom.cdx.json").display().to_string()).says_no(SECRET);
}

#[test]
fn malformed_toml_is_named_and_not_quoted() {
    for text in [&b"s3cret = "[..], b"s3cret content\n", b"[types]\nlaunch = \"s3cret\"\n", b"# s3cret \xff\n"] {
        let build = built();
        fs::write(build.project.path("layers/test_one/layer.toml"), text).expect("written");
        let outcome = build.phase_for("exporter", "app").run().ends_with(62);
        outcome.says("layers/test_one/layer.toml").says_no("s3cret");
    }
}

#[test]
fn odd_files_in_a_layer_and_in_the_app_are_archived_as_they_are() {
    let build = built();
    let project = &build.project;
    for place in ["layers/test_one/layer", "app"] {
        let path = project.path(place);
        symlink("loop-b", path.join("loop-a")).expect("linked");
        symlink("loop-a", path.join("loop-b")).expect("linked");
        symlink("/etc/shadow", path.join("outside")).expect("linked");
        symlink(".", path.join("self")).expect("linked");
        nix::unistd::mkfifo(&path.join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
        drop(UnixListener::bind(path.join("socket")).expect("a socket"));
        fs::write(path.join(OsStr::from_bytes(b"not-utf8-\xff\xfe")), "not UTF-8").expect("written");
        fs::write(path.join("new\nline"), "new line").expect("written");
        fs::write(path.join("setuid"), "setuid").expect("written");
        fs::set_permissions(path.join("setuid"), fs::Permissions::from_mode(0o4711)).expect("set");
        let sparse = fs::File::create(path.join("sparse")).expect("created");
        sparse.set_len(64 << 20).expect("a hole");
        fs::hard_link(path.join("setuid"), path.join("same-file")).expect("linked");
        let mut deep = path.clone();
        for _ in 0..14 {
            deep.push("d".repeat(240));
        }
        fs::create_dir_all(&deep).expect("created");
        fs::write(deep.join("deep"), "deep").expect("written");
    }
    project.give_to_user();
    for place in ["layers/test_one/layer", "app"] {
        // Giving a file to a user takes this bit away.
        fs::set_permissions(project.path(place).join("setuid"), fs::Permissions::from_mode(0o4711)).expect("set");
    }
    soon(build.phase_for("exporter", "app")).succeeds();

    let layout = project.path("layout");
    image::pull(&build.registry, &build.registry.image("app"), &layout, "app");
    let root = Bundle::unpack(&layout, "app", project.path("bundle")).root();
    for place in ["layers/test_one/layer", "app"] {
        let made = root.join(project.path(place).strip_prefix("/").expect("absolute"));
        let text =
            |name: &OsStr| fs::read_to_string(made.join(name)).unwrap_or_else(|error| panic!("{name:?}: {error}"));
        assert_eq!(fs::read_link(made.join("outside")).expect("a link"), Path::new("/etc/shadow"));
        assert_eq!(fs::read_link(made.join("loop-a")).expect("a link"), Path::new("loop-b"));
        assert_eq!(fs::read_link(made.join("self")).expect("a link"), Path::new("."));
        assert_eq!(text(OsStr::from_bytes(b"not-utf8-\xff\xfe")), "not UTF-8");
        assert_eq!(text(OsStr::new("new\nline")), "new line");
        assert_eq!(text(OsStr::new("same-file")), "setuid");
        assert_eq!(fs::metadata(made.join("setuid")).expect("there").mode() & 0o7777, 0o4711);
        assert_eq!(fs::metadata(made.join("sparse")).expect("there").len(), 64 << 20);
        assert!(!made.join("socket").exists(), "a socket is no file");
        let mut deep = made.clone();
        for _ in 0..14 {
            deep.push("d".repeat(240));
        }
        assert_eq!(text(deep.join("deep").as_os_str()), "deep");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    for place in ["layers/test_one/layer/unreadable", "app/unreadable"] {
        let build = built();
        build.project.write(place, SECRET);
        fs::set_permissions(build.project.path(place), fs::Permissions::from_mode(0o000)).expect("set");
        let outcome = build.phase_for("exporter", "app").run().ends_with(62);
        outcome.says(&build.project.path(place).display().to_string()).says("permission denied");
    }
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
    let build = built_with("build");
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
        ("relative", |_| vec![("../../../../../../../../tmp/lifecycle-acceptance-evil".into(), "evil".into())]),
        ("another layer", |layers| vec![(format!("{layers}/test_one/other/file"), "evil".into())]),
        ("elsewhere", |layers| vec![(layers.replace("/layers", "/target"), "evil".into())]),
        ("through a link", |layers| {
            let layer = format!("{layers}/test_one/layer");
            let outside = layers.replace("/layers", "");
            vec![(format!("{layer}/link"), format!("-> {outside}")), (format!("{layer}/link/target"), "evil".into())]
        }),
    ];
    for (what, entries) in cases {
        let build = built_with("build");
        let project = &build.project;
        let layers = project.path("layers").display().to_string();
        let outcome = with_cached_layer(&entries(&layers), &layers, &build);
        let context = format!("{what}: {outcome:?}");
        assert!(!project.path("target").exists(), "{context}");
        assert!(!Path::new("/tmp/lifecycle-acceptance-evil").exists(), "{context}");
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
        let build = built_with("build");
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

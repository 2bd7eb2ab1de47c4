//! Odd files in layers and in the app, a layer that changes while it is archived, and files that cannot be read.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use acceptance::image::{self, Bundle};
use acceptance::{Build, Project, Tool};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::fails;

/// A project with one buildpack that makes a layer, for the image and for the cache.
fn project() -> Project {
    let project = Project::empty();
    let script =
        "mkdir -p \"$CNB_LAYERS_DIR/x\"; printf '[types]\nlaunch = true\ncache = true\n' > \"$CNB_LAYERS_DIR/x.toml\"";
    project.shell_buildpack("0.10", "test/odd", "1", "", "exit 0", script);
    project.order(&[&["test/odd@1"]]);
    project
}

/// Makes files of all kinds in a directory.
fn odd(directory: &Path) {
    symlink("loop", directory.join("loop")).expect("linked");
    symlink("b", directory.join("a")).expect("linked");
    symlink("a", directory.join("b")).expect("linked");
    symlink("..", directory.join("up")).expect("linked");
    symlink("/no/such/file", directory.join("dangling")).expect("linked");
    let all = Mode::from_bits_truncate(0o640);
    nix::unistd::mkfifo(&directory.join("pipe"), all).expect("made");
    drop(UnixListener::bind(directory.join("socket")).expect("bound"));
    mknod(&directory.join("null"), SFlag::S_IFCHR, all, makedev(1, 3)).expect("tests run as root");
    mknod(&directory.join("block"), SFlag::S_IFBLK, all, makedev(7, 200)).expect("tests run as root");
    fs::write(directory.join(OsStr::from_bytes(b"not UTF-8 \xff\xfe")), "odd name").expect("written");
    fs::write(directory.join("a new\nline and a back\\slash"), "odd name").expect("written");
    let sparse = File::create(directory.join("sparse")).expect("created");
    sparse.set_len(64 << 20).expect("sized");
    fs::create_dir_all(deep(directory)).expect("made");
    fs::write(deep(directory).join("file"), "deep").expect("written");
    fs::write(directory.join("setuid"), "x").expect("written");
    fs::set_permissions(directory.join("setuid"), Permissions::from_mode(0o4755)).expect("set");
    fs::hard_link(directory.join("setuid"), directory.join("hard link")).expect("linked");
}

/// A path of about 4,000 bytes.
fn deep(directory: &Path) -> PathBuf {
    let left = 4000 - directory.as_os_str().len();
    let mut path = directory.to_owned();
    path.extend(std::iter::repeat_n("d".repeat(99), left / 100));
    path
}

/// A layer's or an app's files as they are in an image or were restored.
fn check(found: &Path, original: &Path, has_devices: bool) {
    let target = |name: &str| fs::read_link(found.join(name)).expect("a link").display().to_string();
    assert_eq!(["loop", "a", "b", "up", "dangling"].map(target), ["loop", "b", "a", "..", "/no/such/file"]);
    let status = |name: &str| fs::symlink_metadata(found.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(status("pipe").file_type().is_fifo());
    assert!(fs::symlink_metadata(found.join("socket")).is_err(), "a socket is of a process that is gone");
    if has_devices {
        assert!(status("null").file_type().is_char_device() && status("block").file_type().is_block_device());
        assert_eq!((status("null").rdev(), status("block").rdev()), (makedev(1, 3), makedev(7, 200)));
    }
    for name in [&b"not UTF-8 \xff\xfe"[..], b"a new\nline and a back\\slash"] {
        assert_eq!(fs::read(found.join(OsStr::from_bytes(name))).expect("there"), b"odd name");
    }
    assert_eq!(status("sparse").len(), 64 << 20);
    assert!(fs::read(found.join("sparse")).expect("read").iter().all(|byte| *byte == 0));
    assert_eq!(status("setuid").mode() & 0o7777, 0o4755);
    assert_eq!(fs::read(found.join("hard link")).expect("there"), b"x");
    // The path in the image is longer than the kernel takes at once.
    let relative = deep(original).join("file");
    let relative = relative.strip_prefix(original).expect("beneath");
    let read = Tool::new("sh").args(["-c", "cd \"$0\" && for part in $(echo \"$1\" | tr / ' '); do if [ -d $part ]; then cd $part; else cat $part; fi; done"]);
    assert_eq!(read.args([found, relative]).run(), "deep");
}

#[test]
fn odd_files_are_in_the_image_as_they_were() {
    let build = Build::of(project());
    let (app, layer) = (build.project.path("app"), build.project.path("layers/test_odd/x"));
    build.run(&["analyzer", "detector", "restorer", "builder"], "app");
    odd(&app);
    odd(&layer);
    build.project.give_to_user();
    for directory in [&app, &layer] {
        fs::set_permissions(directory.join("setuid"), Permissions::from_mode(0o4755)).expect("set");
    }
    build.run(&["exporter"], "app");

    let layout = build.project.path("layout");
    image::pull(&build.registry, &build.registry.image("app"), &layout, "app");
    let bundle = Bundle::unpack(&layout, "app", build.project.path("bundle"));
    for directory in [&app, &layer] {
        let in_image = bundle.root().join(directory.strip_prefix("/").expect("absolute"));
        check(&in_image, directory, true);
    }
    // GNU tar reads what the cache has.
    let tars =
        fs::read_dir(build.project.path("cache/committed")).expect("listed").map(|entry| entry.expect("one").path());
    for tar in tars.filter(|path| path.extension() == Some(OsStr::new("tar"))) {
        let listed = Tool::new("tar").args(["--list", "--file"]).args([&tar]).run();
        assert!(listed.contains("/pipe\n") && !listed.contains("/socket\n"), "{listed}");
    }

    // A device cannot be restored by a user that may not make one: the layer is made anew.
    build.project.new_layers();
    let restored = build.run(&["analyzer", "detector", "restorer"], "app").remove(2);
    assert!(restored.stderr.contains("Skipping restore for layer test/odd:x: entry "), "{restored:?}");
    assert!(!layer.exists() && !build.project.path("layers/test_odd/x.toml").exists());
    build.run(&["builder"], "app");
    odd(&layer);
    for device in ["null", "block"] {
        fs::remove_file(layer.join(device)).expect("removed");
    }
    build.project.give_to_user();
    fs::set_permissions(layer.join("setuid"), Permissions::from_mode(0o4755)).expect("set");
    build.run(&["exporter"], "app");
    build.project.new_layers();
    build.run(&["analyzer", "detector", "restorer"], "app");
    check(&layer, &layer, false);
}

#[test]
fn a_sparse_file_of_5_gib_is_exported() {
    let build = Build::of(project());
    let file = File::create(build.project.path("app/large")).expect("created");
    file.set_len(5 << 30).expect("sized");
    build.five("app");
    let app = image::inspect(&build.registry, &build.registry.image("app"));
    let layers = app.manifest["layers"].as_array().expect("a list");
    let sizes: Vec<_> = layers.iter().map(|layer| layer["size"].as_u64().expect("a size")).collect();
    assert!(sizes.iter().all(|size| *size < 64 << 20), "zeros compress: {sizes:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let build = Build::of(project());
    build.five("app");
    for (place, code, says) in [
        ("app/unreadable", 62, "create layer 'slice-1': open "),
        ("layers/test_odd/x/unreadable", 62, "create layer 'test/odd:x': open "),
    ] {
        let path = build.project.path(place);
        fs::write(&path, "x").expect("written");
        build.project.give_to_user();
        fs::set_permissions(&path, Permissions::from_mode(0o0)).expect("set");
        // The snapshot is root's, who can read it.
        let outcome = fails(&build, build.phase_for("exporter", "app"), code, says);
        outcome.says(&format!("{}: permission denied", path.display()));
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("made");
        fs::set_permissions(&path, Permissions::from_mode(0o0)).expect("set");
        build.project.give_to_user();
        let outcome = fails(&build, build.phase_for("exporter", "app"), code, says);
        outcome.says(&format!("{}: permission denied", path.display()));
        fs::remove_dir(&path).expect("removed");
    }
    build.phase_for("exporter", "app").run().succeeds();
}

#[test]
fn an_app_that_changes_while_it_is_archived_gives_a_whole_image_or_an_error() {
    let build = Build::of(project());
    let app = build.project.path("app");
    build.five("app");
    for number in 0..40 {
        fs::write(app.join(format!("file-{number}")), vec![b'x'; 200_000]).expect("written");
    }
    build.project.give_to_user();
    let ended = AtomicBool::new(false);
    let (mut whole, mut refused) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            while !ended.load(Ordering::Relaxed) {
                round += 1;
                let path = app.join(format!("file-{}", round % 40));
                match round % 5 {
                    0 => fs::write(&path, vec![b'y'; 100_000]).expect("written"),
                    1 => drop(fs::remove_file(&path)),
                    2 => drop(symlink("/etc/passwd", &path)),
                    3 => drop((fs::remove_file(&path), fs::create_dir(&path))),
                    _ => drop((fs::remove_dir(&path), fs::write(&path, vec![b'z'; 300_000]))),
                }
            }
        });
        let mut round = 0;
        // Ten times, and on until a change and the reading of the same file have met.
        while round < 10 || (refused == 0 && round < 200) {
            round += 1;
            let tag = fs::read(tag(&build)).expect("a tag");
            let outcome = build.phase_for("exporter", "app").env("CNB_NO_COLOR", "1").run();
            if outcome.code == 0 {
                whole += 1;
                if whole > 10 {
                    continue;
                }
                // skopeo checks every digest and size, and umoci that the tars are whole.
                let layout = build.project.path(&format!("layout-{round}"));
                image::pull(&build.registry, &build.registry.image("app"), &layout, "app");
                Bundle::unpack(&layout, "app", build.project.path(&format!("bundle-{round}")));
            } else {
                refused += 1;
                assert_eq!(outcome.code, 62, "{outcome:?}");
                let names = format!("{}/file-", app.display());
                assert!(outcome.stderr.contains("ERROR: failed to export: create layer 'slice-1': "), "{outcome:?}");
                assert!(outcome.stderr.contains(&names), "{outcome:?}");
                assert_eq!(tag, fs::read(self::tag(&build)).expect("a tag"), "the image before stands");
            }
        }
        ended.store(true, Ordering::Relaxed);
    });
    assert!(refused > 0, "in {whole} exports nothing changed while it was archived");
}

/// The file in which the registry keeps what the app's tag is.
fn tag(build: &Build) -> PathBuf {
    build.registry.storage().join("docker/registry/v2/repositories/app/_manifests/tags/latest/current/link")
}

//! What platforms, builders and buildpacks get wrong.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::*;

#[test]
fn files_of_the_platform_that_cannot_be_used() {
    let cases: &[(&str, &[u8], &str)] = &[
        ("order.toml", b"order = ", "initialize detector: reading order: failed to read order file: parse "),
        ("order.toml", b"order = 7", "initialize detector: reading order: failed to read order file: parse "),
        ("order.toml", b"[[order]]\n[[order.group]]\nid = 'a'\n", "version"),
        ("order.toml", b"[[order]]\n[[order.group]]\nid = '\xff'\nversion = '1'\n", "line 3: not UTF-8"),
        ("order.toml", b"[[order]]\n[[order.group]]\nid = '../a'\nversion = '1'\n", "'..'"),
        ("order.toml", b"[[order]]\n[[order.group]]\nid = 'a'\nversion = '../../a/1'\n", "version"),
        ("order.toml", b"[[order]]\n[[order.group]]\nid = 'a'\nversion = '/'\n", "version"),
        ("order.toml", b"[[order]]\n[[order.group]]\nid = '/a'\nversion = '1'\n", "id"),
        (
            "system.toml",
            b"[[system.pre.buildpacks]]\nid = 7",
            "initialize detector: reading system: failed to read system file: parse ",
        ),
        ("system.toml", b"\xff", "not UTF-8"),
        ("layers/analyzed.toml", b"x", "initialize detector: failed to read analyzed file: parse "),
        ("layers/analyzed.toml", b"[run-image]\ntarget = 7", "analyzed.toml"),
    ];
    for (file, content, expected) in cases {
        let world = World::new("0.15");
        world.buildpack("a@1", "");
        world.order("a").write(file, content);
        let (code, text) = world.fail();
        assert_eq!(code, 1, "{file}: {text}");
        assert!(text.contains(expected) && text.contains(file), "{file}: {text}");
    }
    let world = World::new("0.15");
    let missing = format!(
        "initialize detector: reading order: failed to read order file: open {}: no such file or directory",
        world.path("order.toml").display()
    );
    assert_eq!(world.fail(), (1, missing));
    for empty in ["", "[[order]]"] {
        world.write("order.toml", empty);
        assert_eq!(world.fail().0, 20, "{empty:?}: nothing can pass");
    }
}

#[test]
fn without_analyzed_toml_the_build_image_tells_the_target() {
    let world = World::new("0.15");
    fs::remove_file(world.path("layers/analyzed.toml")).expect("removed");
    world.buildpack("a@1", "env > found");
    world.order("a").detect();
    let found = world.read("app/found");
    assert!(has_line(&found, "CNB_TARGET_OS=linux"), "{found}");
    assert_eq!(
        logged(),
        [
            format!("WARN: No analyzed metadata found at path {:?}", world.path("layers/analyzed.toml")),
            "INFO: target distro name/version labels not found, reading /etc/os-release file".to_owned(),
        ]
    );
}

#[test]
fn modules_that_cannot_be_used() {
    let world = World::new("0.15");
    world.buildpack("a@1", "");
    world.buildpack_with("old@1", Descriptor { api: "0.1", ..PLAIN }, "");
    world.buildpack_with("odd@1", Descriptor { api: "x", ..PLAIN }, "");
    world.composite("of-old@1", "old");
    world.composite("of-missing@1", "a missing");
    world.composite("self@1", "a self");
    world.write("buildpacks/broken/1/buildpack.toml", "api = ");
    world.composite("of-broken@1", "broken");
    let missing =
        format!("open {}: no such file or directory", world.path("buildpacks/missing/1/buildpack.toml").display());
    let api = "set API for buildpack 'old@1': buildpack API version '0.1' is incompatible with the lifecycle";
    let cases = [
        ("a missing", 1, format!("initialize detector: {missing}")),
        ("a of-missing", 22, missing),
        ("a; old", 12, api.to_owned()),
        ("of-old", 12, api.to_owned()),
        ("odd", 12, "parse buildpack API 'x' for buildpack 'odd@1'".to_owned()),
        ("?self", 22, "resolve order: composite buildpack 'self@1' contains itself".to_owned()),
    ];
    for (order, code, text) in cases {
        assert_eq!(world.order(order).fail(), (code, text), "{order}");
    }
    let (code, text) = world.order("of-broken").fail();
    assert!(code == 22 && text.contains("buildpacks/broken/1/buildpack.toml"), "{text}");
    assert_eq!(names(&world.order("a; of-missing").detect()), "a", "what is not reached is not looked at");
}

#[test]
fn executables_that_cannot_be_run() {
    let world = World::new("0.15");
    world.describe("buildpacks/missing@1", PLAIN);
    world.buildpack("mode@1", "");
    fs::set_permissions(world.path("buildpacks/mode/1/bin/detect"), fs::Permissions::from_mode(0o644)).expect("chmod");
    world.describe("buildpacks/interpreter@1", PLAIN);
    world.script("buildpacks/interpreter/1/bin/detect", "");
    world.write("buildpacks/interpreter/1/bin/other", "#!/no/such/shell\n");
    fs::set_permissions(world.path("buildpacks/interpreter/1/bin/other"), fs::Permissions::from_mode(0o755))
        .expect("chmod");
    fs::rename(world.path("buildpacks/interpreter/1/bin/other"), world.path("buildpacks/interpreter/1/bin/detect"))
        .expect("renamed");
    world.describe("buildpacks/directory@1", PLAIN);
    fs::create_dir_all(world.path("buildpacks/directory/1/bin/detect")).expect("made");
    for (name, reason) in [
        ("missing", "no such file or directory"),
        ("mode", "permission denied"),
        ("interpreter", "it is there, but /no/such/shell, which its first line names, is not"),
        ("directory", "permission denied"),
    ] {
        assert_eq!(world.order(name).fail().0, 21, "{name}");
        let told = world.printed();
        assert!(has_line(&told, &format!("run buildpacks/{name}/1/bin/detect: {reason}")), "{name}: {told}");
        assert!(has_line(&told, &format!("err:  {name}@1")), "{name}: {told}");
    }
    fs::remove_dir_all(world.path("app")).expect("removed");
    world.buildpack("a@1", "");
    world.order("a").fail();
    assert!(world.printed().contains("the app directory"), "{}", world.printed());
}

#[test]
fn plans_that_cannot_be_used() {
    let world = World::new("0.15");
    world.write("secret", "[[provides]]\nname = 'secret'\n");
    let secret = quoted(&world.path("secret"));
    let link = format!("rm \"$2\"; ln -s {secret} \"$2\"");
    let version =
        "buildpack a has a \"version\" key which is not supported. \"metadata.version\" should be used instead";
    let cases = [
        ("malformed", "echo 'x = ' > \"$2\"", "line 1"),
        ("of the wrong type", "echo 'provides = 7' > \"$2\"", "provides"),
        ("not UTF-8", "printf '\\377' > \"$2\"", "not UTF-8"),
        ("removed", "rm \"$2\"", "no such file or directory"),
        ("a link", &link, "symbolic link"),
        ("a pipe", "rm \"$2\"; mkfifo \"$2\"", "not a regular file"),
        ("its directory removed", "rm -r \"${2%/*}\"", "no such file or directory"),
        ("with a version", "printf '[[requires]]\\nname = \"x\"\\nversion = \"1\"' > \"$2\"", version),
        (
            "with a version, later",
            "printf '[[or]]\\n[[or.requires]]\\nname = \"x\"\\nversion = \"1\"' > \"$2\"",
            version,
        ),
    ];
    for (name, script, expected) in cases {
        world.buildpack("a@1", &format!("echo said; {script}"));
        assert_eq!(world.order("a").fail().0, 21, "{name}");
        let told = world.printed();
        let error = told.split("======== Error: a@1 ========\n").nth(1).and_then(|rest| rest.lines().next());
        assert!(error.is_some_and(|error| error.contains(expected)), "{name}: {told}");
        assert!(has_line(&told, "said") && has_line(&told, "err:  a@1"), "{name}: {told}");
    }
}

#[test]
fn environments_that_cannot_be_made() {
    let world = World::new("0.15");
    world.buildpack("a@1", "");
    world.buildpack_with("clear@1", Descriptor { own: "clear-env = true", ..PLAIN }, "");
    symlink("nowhere", world.path("platform/env/DANGLING")).expect("linked");
    assert_eq!(world.order("a").fail().0, 21);
    let told = world.printed();
    assert!(told.contains("prepare its environment: open platform/env/DANGLING: no such file or directory"), "{told}");
    assert_eq!(names(&world.order("clear ?a").detect()), "clear");
}

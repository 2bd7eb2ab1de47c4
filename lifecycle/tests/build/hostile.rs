//! Buildpacks that mean harm, or make a mess.

use std::os::unix::fs::symlink;

use super::*;

#[test]
fn what_is_in_the_wrong_place_is_refused_by_name() {
    for (script, expected) in [
        ("cd ..; rmdir a; ln -s /etc a", "layers/a is a symbolic link, not a directory"),
        ("cd ..; rmdir a; touch a", "layers/a is a regular file, not a directory"),
        ("cd ..; rmdir a; mkfifo a", "layers/a is a named pipe, not a directory"),
        ("ln -s /etc/passwd launch.toml", "layers/a/launch.toml is a symbolic link, not a regular file"),
        ("mkfifo build.toml", "layers/a/build.toml is a named pipe, not a regular file"),
        ("ln -s store.toml store.toml", "layers/a/store.toml is a symbolic link, not a regular file"),
        ("mkfifo x.toml", "layers/a/x.toml is a named pipe, not a regular file"),
        ("ln -s /dev/zero x.toml", "layers/a/x.toml is a symbolic link, not a regular file"),
        (
            "ln -s ~/.docker x; printf '[types]\nbuild = true' > x.toml",
            "layers/a/x is a symbolic link, not a directory",
        ),
        ("mkfifo launch.sbom.cdx.json", "layers/a/launch.sbom.cdx.json is a named pipe, not a regular file"),
        ("mkdir build.sbom.cdx.json", "layers/a/build.sbom.cdx.json is a directory, not a regular file"),
        ("truncate -s 5G x.toml", "layers/a/x.toml is larger than 8 MiB"),
    ] {
        let mut world = World::new("0.12");
        world.inputs.environment.set("HOME", "/root");
        let script = format!("cd \"$1\"; {script}");
        world.buildpack_with("a", "0.10", "sbom-formats = ['application/vnd.cyclonedx+json']", &script);
        assert_eq!(world.fail(), (52, expected.to_owned()));
    }
}

#[test]
fn a_buildpack_that_removes_or_remakes_its_directory() {
    let mut world = World::new("0.12");
    world.buildpack("a", "0.10", "cd ..; rm -r a").buildpack(
        "b",
        "0.10",
        "cd ..; rm -r b; mkdir b; printf \"[[labels]]\nkey = 'k'\n\" > b/launch.toml",
    );
    let metadata = world.build();
    assert_eq!(metadata.labels.len(), 1, "what is read is what is there in the end");
}

#[test]
fn what_is_planted_in_the_sbom_directory_does_not_get_into_the_image() {
    let mut world = World::new("0.12");
    let outside = world.path("outside");
    fs::create_dir(&outside).expect("made");
    world.write("outside/keep", "");
    let script =
        format!("cd ..; mkdir -p sbom/launch; echo evil > sbom/launch/evil; ln -s {} sbom/build", outside.display());
    world.buildpack("a", "0.10", &script);
    world.build();
    let names: Vec<_> = fs::read_dir(world.path("layers/sbom/launch"))
        .expect("listed")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(names, ["sbom.legacy.json"]);
    assert!(fs::symlink_metadata(world.path("layers/sbom/build")).expect("there").is_dir());
    assert_eq!(fs::read_dir(&outside).expect("listed").count(), 1, "nothing was written or removed outside");
}

#[test]
fn metadata_is_not_written_through_a_link() {
    let world = World::new("0.12");
    world.write("secret", "keep");
    fs::create_dir(world.path("layers/config")).expect("made");
    symlink(world.path("secret"), world.path("layers/config/metadata.toml")).expect("linked");
    let write = || build::write_metadata(&world.inputs.layers_dir, world.inputs.platform_api, &Metadata::default());
    write().expect("written");
    assert_eq!(world.read("secret"), "keep");
    assert_eq!(world.read("layers/config/metadata.toml"), "processes = []\n");
    fs::remove_dir_all(world.path("layers/config")).expect("removed");
    symlink("/etc", world.path("layers/config")).expect("linked");
    let error = write().expect_err("refused");
    assert_eq!(error.exit_code(), 52);
    assert!(error.to_string().ends_with("layers/config is a symbolic link, not a directory"), "{error}");
}

#[test]
fn an_sbom_that_a_later_buildpack_took_away_is_missed() {
    let formats = "sbom-formats = ['application/vnd.cyclonedx+json']";
    for (script, expected) in [
        ("rm ../a/launch.sbom.cdx.json", "open layers/a/launch.sbom.cdx.json: no such file or directory"),
        (
            "ln -sf /etc/passwd ../a/launch.sbom.cdx.json",
            "layers/a/launch.sbom.cdx.json is a symbolic link, not a regular file",
        ),
    ] {
        let mut world = World::new("0.12");
        world.buildpack_with("a", "0.10", formats, "cd \"$1\"; echo '{}' > launch.sbom.cdx.json");
        world.buildpack("b", "0.10", script);
        assert_eq!(world.fail(), (52, expected.to_owned()));
    }
}

#[test]
fn names_and_texts_that_are_not_utf8() {
    for (script, expected) in [
        ("touch $'\\xff.toml'", "layers/a/\u{fffd}.toml: invalid layer name \"\u{fffd}\": it is not UTF-8"),
        ("printf '\\n\\xff' > launch.toml", "parse layers/a/launch.toml: line 2: not UTF-8"),
        ("touch ...toml", "layers/a/...toml: invalid layer name \"..\": '.' and '..' are not allowed"),
    ] {
        let mut world = World::new("0.12");
        world.buildpack("a", "0.10", script);
        assert_eq!(world.fail(), (52, expected.to_owned()));
    }
    let mut world = World::new("0.12");
    world.buildpack("a", "0.10", "mkdir $'\\xff'; touch $'\\xfe.txt' $'\\xfd.sbom.cdx.json'");
    world.build();
}

#[test]
fn a_build_layer_whose_env_is_a_pipe() {
    let mut world = World::new("0.12");
    world.buildpack("a", "0.10", "mkdir -p x/env; mkfifo x/env/FIFO; printf '[types]\nbuild = true' > x.toml");
    assert_eq!(world.fail(), (52, "read layers/a/x/env/FIFO: not a regular file".to_owned()));
}

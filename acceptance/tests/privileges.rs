//! Started as root: credentials are read, volumes become the user's, and then nothing of root is left.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use acceptance::image::{self, Format};
use acceptance::{Project, Registry, USER};

fn give_to_root(path: &Path) {
    lchown(path, Some(0), Some(0)).expect("tests run as root");
    if fs::symlink_metadata(path).expect("there").is_dir() {
        for entry in fs::read_dir(path).expect("listed") {
            give_to_root(&entry.expect("an entry").path());
        }
    }
}

fn owner(path: &Path) -> (u32, u32) {
    let found = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (found.uid(), found.gid())
}

/// A registry that wants a password, which only root can read from a docker config; the run image in it, and a home.
fn guarded(project: &Project) -> (Registry, String) {
    let registry = Registry::start_with_password("builder", "s3cret-pass");
    let run_image = image::push_run_image(&registry, "run", Format::Oci);
    let auth: serde_json::Value = serde_json::from_str(&registry.auth()).expect("JSON");
    let basic = auth[registry.host()].as_str().expect("a header").trim_start_matches("Basic ").to_owned();
    let config = serde_json::json!({ "auths": { registry.host(): { "auth": basic } } });
    project.write("home/.docker/config.json", config.to_string());
    give_to_root(&project.path("home"));
    fs::set_permissions(project.path("home"), fs::Permissions::from_mode(0o700)).expect("set");
    (registry, run_image)
}

#[test]
fn the_phases_read_roots_credentials_and_leave_files_of_the_user() {
    let project = Project::web();
    let (registry, run_image) = guarded(&project);
    let app = registry.image("app");
    let phase = |name: &str| {
        let phase = project.phase(name).env("HOME", project.path("home"));
        if ["restorer", "exporter"].contains(&name) { phase.flag("cache-dir", project.path("cache")) } else { phase }
    };
    let denied = phase("analyzer").flag("run-image", &run_image).arg(&app).run();
    denied.ends_with(32).says_no("s3cret-pass");
    for volume in ["layers", "cache"] {
        give_to_root(&project.path(volume));
        fs::set_permissions(project.path(volume), fs::Permissions::from_mode(0o755)).expect("set");
    }
    fs::write(project.path("outside"), "").expect("written");
    symlink(project.path("outside"), project.path("cache/link")).expect("linked");

    phase("analyzer").as_root().flag("run-image", &run_image).arg(&app).run().succeeds().says_no("s3cret-pass");
    for path in ["layers", "layers/analyzed.toml"] {
        assert_eq!(owner(&project.path(path)), (USER, USER), "{path}");
    }
    phase("detector").run().succeeds();
    phase("restorer").as_root().run().succeeds();
    phase("builder").run().succeeds();
    let exported = phase("exporter").as_root().flag("log-level", "debug").arg(&app).run().succeeds();
    exported.says_no("s3cret-pass").says_no(registry.auth().split('"').nth(3).expect("a header"));
    for path in ["cache", "cache/committed", "layers/report.toml"] {
        assert_eq!(owner(&project.path(path)), (USER, USER), "{path}");
    }
    assert_eq!(owner(&project.path("outside")), (0, 0), "no symlink is followed");
    image::inspect(&registry, &app);

    // Again, from the cache, into directories of root's.
    project.new_layers();
    give_to_root(&project.path("layers"));
    phase("analyzer").as_root().flag("run-image", &run_image).arg(&app).run().succeeds();
    phase("detector").run().succeeds();
    phase("restorer").as_root().run().succeeds();
    assert_eq!(owner(&project.path("layers/samples_server/server/bin/httpd")), (USER, USER));
}

#[test]
fn another_user_than_the_one_to_become_fails() {
    let project = Project::empty();
    let analyzer = || {
        let analyzer = project.phase("analyzer").flag("uid", "12345").flag("run-image", "127.0.0.1:1/run");
        analyzer.arg("127.0.0.1:1/app").run().ends_with(1)
    };
    analyzer().says("chown ").says(": operation not permitted");
    fs::set_permissions(project.path("layers"), fs::Permissions::from_mode(0o777)).expect("set");
    analyzer().says("exec as user 12345:33: operation not permitted");
}

#[test]
fn a_volume_that_a_group_may_write_is_used_as_it_is() {
    // As Kubernetes mounts volumes: of root's, but of the user's group.
    let project = Project::web();
    let registry = Registry::start();
    let run_image = image::push_run_image(&registry, "run", Format::Oci);
    for volume in ["layers", "cache"] {
        lchown(project.path(volume), Some(0), Some(USER)).expect("set");
        fs::set_permissions(project.path(volume), fs::Permissions::from_mode(0o2777)).expect("set");
    }
    let creator = project.phase("creator").flag("cache-dir", project.path("cache")).flag("run-image", run_image);
    creator.arg(registry.image("app")).run().succeeds();
    assert_eq!(owner(&project.path("layers")), (0, USER));
}

#[test]
fn creator_as_root_runs_buildpacks_as_the_user_and_ends_when_they_do() {
    let project = Project::empty();
    let registry = Registry::start();
    let run_image = image::push_run_image(&registry, "run", Format::Oci);
    let build = r#"
        echo "to stdout"
        echo "to stderr" > /dev/stderr
        echo "by descriptor" > /proc/self/fd/2
        id
        env | sort
        grep -E 'Groups|CapEff' /proc/self/status
        sleep 1000 &
        echo $! > "$CNB_LAYERS_DIR/pid"
        printf '[types]\nlaunch = true\n' > "$CNB_LAYERS_DIR/layer.toml"
        mkdir "$CNB_LAYERS_DIR/layer"
    "#;
    project.shell_buildpack("0.10", "test/env", "1", "", "exit 0", build);
    project.order(&[&["test/env@1"]]);
    let begun = Instant::now();
    let created = project
        .phase("creator")
        .as_root()
        .env("CNB_REGISTRY_AUTH", "{\"other.example\": \"Bearer s3cret-token\"}")
        .env("SECRET", "s3cret-variable")
        .env("DOCKER_CONFIG", "/s3cret/config")
        .env("HTTP_PROXY", "")
        .env("HOME", "/root")
        .flag("run-image", run_image)
        .arg(registry.image("app"))
        .run()
        .succeeds();
    let took = begun.elapsed();
    let out = &created.stdout;
    for line in [
        "to stdout\nto stderr\nby descriptor\n",
        "uid=33(www-data) gid=33(www-data)",
        "\nHOME=/var/www\n",
        "CapEff:\t0000000000000000",
    ] {
        assert!(out.contains(line), "{line:?}: {created:?}");
    }
    assert!(!created.output().contains("s3cret"), "{created:?}");
    assert!(!project.still_runs("layers/test_env/pid"), "what a buildpack left behind does not outlive the build");
    assert!(took < Duration::from_secs(500), "the build waits for no process that holds its output: {took:?}");
}

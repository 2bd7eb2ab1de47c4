//! Credentials: what a phase prints and what buildpacks can see of it has nothing of them.

use std::fs;
use std::os::unix::fs::lchown;

use acceptance::image::Format;
use acceptance::{Build, Project, Registry};

const PASSWORD: &str = "s3cret-pass";

/// What a buildpack can find out: its environment, and of the process that started it the environment, the arguments,
/// the memory and the open files.
const SPY: &str = r#"
    set +e
    {
        echo "== own environment"; env
        cat ~/.docker/config.json
        echo "== the parent's /proc"
        tr '\0' '\n' < /proc/$PPID/cmdline
        tr '\0' '\n' < /proc/$PPID/environ || echo "its environment is unreadable"
        cat /proc/$PPID/maps || echo "its memory is unreadable"
        ls -l /proc/$PPID/fd || echo "its descriptors are unreadable"
    } > "$seen" 2> /dev/null
"#;

/// A build into a registry with a password, with a buildpack that looks for it.
fn spied() -> Build {
    let project = Project::empty();
    let spy = |file: &str| format!("seen={}\n{SPY}", project.path(file).display());
    let detect = spy("seen-by-detect") + "exit 0";
    let build = spy("seen-by-build")
        + "printf '[types]\nlaunch = true\n' > \"$CNB_LAYERS_DIR/x.toml\"; mkdir \"$CNB_LAYERS_DIR/x\"";
    project.shell_buildpack("0.10", "test/spy", "1", "", &detect, &build);
    project.order(&[&["test/spy@1"]]);
    Build::into(project, Registry::start_with_password("builder", PASSWORD), Format::Oci)
}

/// The header of `CNB_REGISTRY_AUTH`, without `Basic `.
fn encoded(build: &Build) -> String {
    let auth: serde_json::Value = serde_json::from_str(&build.registry.auth()).expect("JSON");
    let header = auth[build.registry.host()].as_str().expect("a header");
    header.trim_start_matches("Basic ").to_owned()
}

/// No file in the project has the password, plainly or as it is sent.
#[track_caller]
fn nothing_was_seen(build: &Build) {
    for file in ["seen-by-detect", "seen-by-build"] {
        let seen =
            String::from_utf8_lossy(&fs::read(build.project.path(file)).expect("the buildpack ran")).into_owned();
        for line in [
            "== own environment",
            "== the parent's /proc",
            "its environment is unreadable",
            "its memory is unreadable",
            "its descriptors are unreadable",
        ] {
            assert!(seen.lines().any(|found| found == line), "no {line:?} in {file}: {seen}");
        }
        for secret in [PASSWORD, &encoded(build), "REGISTRY_AUTH", "s3cret"] {
            let lines: Vec<_> = seen.lines().filter(|line| line.contains(secret)).collect();
            assert!(lines.is_empty(), "{file}: {lines:#?}");
        }
    }
}

#[test]
fn the_phases_print_nothing_of_them_and_buildpacks_see_nothing() {
    let build = spied();
    for phase in ["analyzer", "detector", "restorer", "builder", "exporter"] {
        let phase =
            build.phase_for(phase, "app").env("CNB_LOG_LEVEL", "debug").env("AWS_SECRET_ACCESS_KEY", "s3cret-key");
        let outcome = phase.run().succeeds();
        outcome.says_no(PASSWORD).says_no(&encoded(&build)).says_no("s3cret");
    }
    nothing_was_seen(&build);
    let wrong = format!("{{\"{}\": \"Basic d3Jvbmc6czNjcmV0LXdyb25n\"}}", build.registry.host());
    for phase in ["analyzer", "exporter"] {
        let denied = build.phase_for(phase, "app").env("CNB_REGISTRY_AUTH", &wrong).env("CNB_LOG_LEVEL", "debug").run();
        assert_ne!(denied.code, 0);
        denied.says_no("d3Jvbmc6czNjcmV0LXdyb25n").says_no("s3cret-wrong").says("unauthorized");
    }
}

#[test]
fn the_creator_hides_them_from_buildpacks_whether_started_as_root_or_as_the_user() {
    for as_root in [true, false] {
        let build = spied();
        let auth = encoded(&build);
        let config = serde_json::json!({ "auths": { build.registry.host(): { "auth": auth } } }).to_string();
        build.project.write("home/.docker/config.json", config);
        let mut creator =
            build.phase("creator").env("CNB_LOG_LEVEL", "debug").env("HTTP_PROXY_PASSWORD", "s3cret-proxy");
        if as_root {
            // Of root's, who alone may read it.
            for name in ["home", "home/.docker", "home/.docker/config.json"] {
                lchown(build.project.path(name), Some(0), Some(0)).expect("tests run as root");
            }
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            fs::set_permissions(build.project.path("home"), private).expect("set");
            creator = creator.as_root().without("CNB_REGISTRY_AUTH").env("HOME", build.project.path("home"));
        }
        let created = creator.arg(build.registry.image("app")).run().succeeds();
        created.says_no(PASSWORD).says_no(&auth).says_no("s3cret");
        nothing_was_seen(&build);
    }
}

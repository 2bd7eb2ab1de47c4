//! The whole flow against a registry.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use acceptance::image::{self, Bundle, Format};
use acceptance::{Build, Project, Registry};

/// What was sent to the registry since it had answered `before` requests: uploads of blobs and manifests.
fn sent_since(registry: &Registry, before: usize) -> Vec<String> {
    let sent = |line: &String| ["\"PATCH", "\"PUT", "\"POST"].iter().any(|method| line.starts_with(method));
    registry.requests().split_off(before).into_iter().filter(sent).collect()
}

#[test]
fn the_app_is_built_runs_and_is_built_again() {
    let build = Build::into(Project::web(), Registry::start(), Format::Docker);
    let app = build.registry.image("app");
    let first = build.five("app");
    assert!(first[3].stdout.contains("---> Web server\n     Installing"), "{}", first[3].stdout);
    for line in ["Adding layer 'samples/server:server'", "Adding cache layer 'samples/server:server'"] {
        assert!(first[4].output().contains(line), "{line}: {}", first[4].output());
    }

    let layout = build.project.path("layout");
    image::pull(&build.registry, &app, &layout, "app");
    let bundle = Bundle::unpack(&layout, "app", build.project.path("bundle"));
    assert_eq!(bundle.run(Some("/cnb/process/list"), &[]), "cgi-bin\nindex.html\n");
    let words = ["sh", "-c", "echo $GREETING $FROM_RUN_IMAGE; echo $PATH"];
    let printed = bundle.run(Some("/cnb/lifecycle/launcher"), &words);
    let layers = build.project.path("layers").display().to_string();
    assert_eq!(printed, format!("hello kept\n{layers}/samples_server/server/bin:/usr/bin:/bin\n"));

    let before = image::inspect(&build.registry, &app);
    let requests = build.registry.requests().len();
    build.project.new_layers();
    let second = build.five("app");
    assert!(second[3].stdout.contains("is there from the build before"), "{}", second[3].stdout);
    for line in ["Reusing layer 'samples/server:server'", "Reusing cache layer 'samples/server:server'"] {
        assert!(second[4].output().contains(line), "{line}: {}", second[4].output());
    }
    let after = image::inspect(&build.registry, &app);
    assert_eq!(before.diff_ids(), after.diff_ids());
    assert_eq!(before.digest, after.digest, "the same inputs give the same image");
    let sent = sent_since(&build.registry, requests);
    let blobs = sent.iter().filter(|line| line.starts_with("\"PUT") && line.contains("/blobs/")).count();
    assert!(blobs <= 1, "no blob but perhaps a config is sent: {sent:#?}");
}

#[test]
fn the_creator_makes_what_the_five_phases_make() {
    let build = Build::of(Project::web());
    build.five("five");
    build.project.new_layers();
    fs::rename(build.project.path("cache"), build.project.path("cache-of-five")).expect("renamed");
    fs::create_dir(build.project.path("cache")).expect("created");
    build.project.give_to_user();
    let created = build.run(&["creator"], "one").remove(0);
    for banner in ["ANALYZING", "DETECTING", "RESTORING", "BUILDING", "EXPORTING"] {
        assert!(created.stdout.contains(&format!("===> {banner}")), "{}", created.stdout);
    }
    let digest = |name: &str| image::inspect(&build.registry, &build.registry.image(name)).digest;
    assert_eq!(digest("five"), digest("one"));
}

#[test]
fn every_platform_api_builds_the_app() {
    for api in ["0.7", "0.8", "0.9", "0.10", "0.11", "0.12", "0.13", "0.14", "0.15"] {
        let build = Build::of(Project::web());
        build.project.write("stack.toml", format!("[run-image]\nimage = \"{}\"\n", build.run_image));
        build.phase_for("creator", "app").api(api).run().succeeds();
        let app = image::inspect(&build.registry, &build.registry.image("app"));
        let variables = app.config["config"]["Env"].as_array().expect("a list");
        let api = format!("CNB_PLATFORM_API={api}");
        assert!(variables.iter().any(|variable| *variable == api.as_str()), "{variables:?}");
        assert_eq!(app.label("org.opencontainers.image.title"), "samples/web");
    }
}

#[test]
fn tags_are_names_of_one_image_and_the_report_has_them() {
    let build = Build::of(Project::web());
    build.run(&["analyzer", "detector", "restorer", "builder"], "app");
    let tags = [build.registry.image("app:one"), build.registry.image("other:two")];
    build.phase_for("exporter", "app").args(&tags).run().succeeds().says(&tags[1]);
    let digest = image::inspect(&build.registry, &build.registry.image("app")).digest;
    for tag in &tags {
        assert_eq!(image::inspect(&build.registry, tag).digest, digest);
    }
    let report = build.project.read("layers/report.toml");
    let lines: Vec<_> = report.lines().filter(|line| line.contains("digest")).collect();
    assert_eq!(lines.len(), 1, "platforms grep it: {report}");
    assert_eq!(lines[0].trim(), format!("digest = \"{digest}\""));
    let report = build.project.toml("layers/report.toml");
    let named: Vec<_> = report["image"]["tags"].as_array().expect("a list").iter().map(|tag| tag.as_str()).collect();
    let app = build.registry.image("app");
    assert_eq!(named, [Some(app.as_str()), Some(&tags[0]), Some(&tags[1])]);
}

#[test]
fn a_cache_image_holds_what_the_next_build_needs() {
    let mut build = Build::of(Project::web());
    build.cache_image = Some(build.registry.image("cache"));
    let first = build.five("app");
    assert!(first[4].output().contains("Adding cache layer 'samples/server:server'"), "{}", first[4].output());
    let cache = image::inspect(&build.registry, &build.registry.image("cache"));
    assert!(cache.label("io.buildpacks.lifecycle.cache.metadata").contains("samples/server"));

    build.project.new_layers();
    let requests = build.registry.requests().len();
    let second = build.five("app");
    assert!(second[3].stdout.contains("is there from the build before"), "{}", second[3].stdout);
    assert!(second[4].output().contains("Reusing cache layer 'samples/server:server'"), "{}", second[4].output());
    let sent = sent_since(&build.registry, requests);
    let uploads = sent.iter().filter(|line| line.starts_with("\"PUT") && line.contains("/blobs/")).count();
    assert!(uploads <= 2, "no blob but perhaps two configs is sent: {sent:#?}");
}

#[test]
fn credentials_open_a_registry_and_wrong_ones_are_told() {
    let registry = Registry::start_with_password("builder", "s3cret-pass");
    let build = Build::into(Project::web(), registry, Format::Oci);
    for outcome in build.five("app") {
        outcome.says_no("s3cret-pass");
    }
    image::inspect(&build.registry, &build.registry.image("app"));

    let wrong = format!("{{\"{}\": \"Basic d3Jvbmc6d3Jvbmc=\"}}", build.registry.host());
    for auth in ["{}", wrong.as_str()] {
        let analyzer = build.phase_for("analyzer", "app").env("CNB_REGISTRY_AUTH", auth).env("HOME", "/nowhere");
        analyzer.run().ends_with(32).says(build.registry.host()).says_no("d3Jvbmc6d3Jvbmc=");
    }
}

#[test]
fn the_creator_passes_over_extensions_that_take_no_part_and_refuses_others() {
    let build = Build::of(Project::web());
    let extension = "extensions/samples_extra/1";
    build.project.write(
        &format!("{extension}/extension.toml"),
        "api = \"0.10\"\n[extension]\nid = \"samples/extra\"\nversion = \"1\"\n",
    );
    let order = build.project.read("order.toml");
    let more = "[[order-extensions]]\n[[order-extensions.group]]\nid = \"samples/extra\"\nversion = \"1\"\n";
    build.project.write("order.toml", format!("{order}{more}"));
    let creator = |api, image: &str, takes_part| {
        let detect = format!("{extension}/bin/detect");
        build.project.write(&detect, format!("#!/usr/bin/env bash\nexit {}\n", if takes_part { 0 } else { 100 }));
        fs::set_permissions(build.project.path(&detect), fs::Permissions::from_mode(0o755)).expect("executable");
        build.phase_for("creator", image).api(api).env("CNB_EXTENSIONS_DIR", build.project.path("extensions")).run()
    };
    // Up to Platform API 0.12 extensions are experimental, but for the creator there is nothing to allow.
    for api in ["0.10", "0.12", "0.13", "0.15"] {
        creator(api, &format!("app-{api}"), false).succeeds();
        let refused = creator(api, "refused", true).ends_with(22);
        refused.says("detected order contains extensions which is not supported by the creator");
    }
}

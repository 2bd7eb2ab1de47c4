//! Builds with a target architecture, natively and across (target-arch.md): which images are used, what becomes of tags, and
//! which caches.
//!
//! The buildpack says in its layers for which machine and on which they were made, and says what it finds in them. No image
//! is started here, so nothing has to be emulated.

use acceptance::exports::push_run_images;
use acceptance::image::{self, Format, push_run_image_for};
use acceptance::{Architecture, Build, Project, Registry, marker};
use serde_json::json;

/// The machine of the tests, and another one.
fn own_and_other() -> (&'static str, &'static str) {
    if cfg!(target_arch = "aarch64") { ("arm64", "amd64") } else { ("amd64", "arm64") }
}

const PHASES: [&str; 5] = ["analyzer", "detector", "restorer", "builder", "exporter"];

fn build(target: Option<&str>) -> Build {
    let project = Project::empty();
    marker::add(&project, "");
    project.order(&[&["test/marker@1"]]);
    project.write("app/file", "content");
    let project = target.map_or_else(|| project.by(project.lifecycle()), |target| project.for_target(target));
    let registry = Registry::start();
    push_run_images(&registry, "run", &["amd64", "arm64"], "1");
    let run_image = registry.image("run");
    Build { project, registry, run_image, cache_image: None }
}

fn arch_of(build: &Build, image: &str) -> String {
    let found = image::inspect(&build.registry, &build.registry.image(image));
    found.config["architecture"].as_str().expect("text").to_owned()
}

/// The children of an index, by platform, without their digests.
fn platforms(build: &Build, image: &str) -> Vec<String> {
    build.registry.children(image).into_iter().map(|(platform, _)| platform).collect()
}

#[test]
fn a_cross_build_gives_an_image_for_the_target() {
    let (own, other) = own_and_other();
    let build = build(Some(other));
    let outcomes = build.five("app");
    assert_eq!(arch_of(&build, "app"), other);
    let analyzed = build.project.toml("layers/analyzed.toml");
    assert_eq!(analyzed["target-arch"].as_str(), Some(other));
    assert_eq!(analyzed["run-image"]["target"]["arch"].as_str(), Some(other));
    assert_eq!(build.project.toml("layers/group.toml")["build-arch"].as_str(), Some(own));
    let made = build.project.read("layers/test_marker/both/made");
    assert_eq!(made.trim(), marker::text(other, Architecture::HERE));
    assert!(outcomes.iter().all(|outcome| marker::found(&outcome.stdout).is_empty()));

    // One process does the same.
    build.project.new_layers();
    build.run(&["creator"], "by-creator").remove(0).says("FOUND both for").says("FOUND tools for");
    let digest = |image: &str| image::inspect(&build.registry, &build.registry.image(image)).digest;
    assert_eq!(digest("app"), digest("by-creator"));
}

#[test]
fn every_platform_api_builds_for_a_target() {
    let (_, other) = own_and_other();
    for api in ["0.7", "0.8", "0.9", "0.10", "0.11", "0.12", "0.13", "0.14", "0.15"] {
        let build = build(Some(other));
        build.project.write("stack.toml", format!("[run-image]\nimage = \"{}\"\n", build.run_image));
        for phase in PHASES {
            let mut phase = build.phase_for(phase, "app").api(api);
            if api < "0.12" && api.len() == 3 || matches!(api, "0.10" | "0.11") {
                phase = phase.env("CNB_STACK_PATH", build.project.path("stack.toml"));
            }
            phase.env("CNB_EXPORT_INDEX", "merge").run().succeeds();
        }
        assert_eq!(platforms(&build, "app"), [format!("linux/{other}")], "{api}");
        let made = build.project.read("layers/test_marker/both/made");
        assert_eq!(made.trim(), marker::text(other, Architecture::HERE), "{api}");
    }
}

#[test]
fn caches_of_different_targets_never_meet() {
    let (own, other) = own_and_other();
    for with_image in [false, true] {
        let mut build = build(None);
        if with_image {
            build.cache_image = Some(build.registry.image("cache:tag"));
        }
        let mut seen = Vec::new();
        for target in [own, other, other, own, "", other, own, ""] {
            build.project.new_layers();
            build.project =
                if target.is_empty() { build.project.without_target() } else { build.project.for_target(target) };
            let printed = build.five("app")[3].stdout.clone();
            let expected = if target.is_empty() { own } else { target };
            let hits = marker::cached(expected, Architecture::HERE);
            let hits = if seen.contains(&target) { hits } else { Vec::new() };
            assert_eq!(marker::found(&printed), hits, "{target} after {seen:?}, with an image: {with_image}");
            seen.push(target);
        }
        if with_image {
            for (tag, arch) in
                [("tag", own), (&format!("tag-linux-{own}"), own), (&format!("tag-linux-{other}-on-{own}"), other)]
            {
                assert_eq!(arch_of(&build, &format!("cache:{tag}")), arch, "{tag}");
            }
        } else {
            let own_place = format!("cache/targets/linux-{own}/committed");
            let cross_place = format!("cache/targets/linux-{other}-on-{own}/committed");
            for place in ["cache/committed", &own_place, &cross_place] {
                assert!(build.project.path(place).is_dir(), "{place}");
            }
        }
    }
}

#[test]
fn a_tag_holds_an_image_for_each_target() {
    let (own, other) = own_and_other();
    let mut build = build(Some(other));
    // There is one image for this machine already, of a platform that knows no index.
    build.project = build.project.without_target();
    build.five("app");
    let first = image::inspect(&build.registry, &build.registry.image("app")).digest;
    for target in [other, own] {
        build.project = build.project.for_target(target);
        build.project.new_layers();
        for phase in PHASES {
            build.phase_for(phase, "app").env("CNB_EXPORT_INDEX", "merge").run().succeeds();
        }
    }
    let children = build.registry.children("app");
    let both: Vec<_> = ["amd64", "arm64"].iter().map(|arch| format!("linux/{arch}")).collect();
    assert_eq!(children.iter().map(|(platform, _)| platform.clone()).collect::<Vec<_>>(), both);
    let (_, again) = children.iter().find(|(platform, _)| *platform == format!("linux/{own}")).expect("this machine's");
    assert_eq!(*again, first, "a child is the image that would have been exported without an index");

    // The report is about the image, and the index has its own.
    let report = build.project.read("layers/report.toml");
    let lines: Vec<_> = report.lines().filter(|line| line.contains("digest")).collect();
    assert_eq!(lines, [format!("  digest = \"{again}\"")]);
    let report = build.project.toml("layers/index-report.toml");
    let index = &report["indexes"].as_array().expect("a list")[0];
    assert_eq!(index["tag"].as_str(), Some(build.registry.image("app").as_str()));
    let images = index["images"].as_array().expect("a list");
    let images: Vec<_> = images.iter().map(|image| (image["platform"].as_str(), image["digest"].as_str())).collect();
    let expected: Vec<_> =
        children.iter().map(|(platform, digest)| (Some(platform.as_str()), Some(digest.as_str()))).collect();
    assert_eq!(images, expected);

    // Each build finds its own previous image in the index.
    build.project = build.project.for_target(other);
    build.project.new_layers();
    for phase in PHASES {
        let outcome = build.phase_for(phase, "app").env("CNB_EXPORT_INDEX", "merge").run().succeeds();
        if phase == "exporter" {
            outcome.says("Reusing layer 'test/marker:app'");
        }
    }
    assert_eq!(build.registry.children("app"), children);

    // A platform that knows no index replaces it, and is told what is gone.
    build.project = build.project.without_target();
    build.project.new_layers();
    let outcomes = build.five("app");
    assert!(outcomes[4].output().contains(&format!("linux/{other}")), "{}", outcomes[4].output());
    assert_eq!(image::inspect(&build.registry, &build.registry.image("app")).digest, first);
}

#[test]
fn a_replaced_index_has_one_image() {
    let (own, other) = own_and_other();
    let build = build(Some(other));
    let platform = json!({ "platform": { "os": "linux", "architecture": own } });
    build.registry.push_index("app", &[(&format!("run-{own}"), platform)]);
    for phase in PHASES {
        build.phase_for(phase, "app").env("CNB_EXPORT_INDEX", "replace").run().succeeds();
    }
    assert_eq!(platforms(&build, "app"), [format!("linux/{other}")]);
}

#[test]
fn what_else_is_in_an_index_stays() {
    let (own, other) = own_and_other();
    let build = build(Some(own));
    push_run_image_for(&build.registry, "s390x", "s390x");
    let about = |image: &str| {
        let digest = image::inspect(&build.registry, &build.registry.image(image)).digest;
        json!({
            "platform": { "os": "unknown", "architecture": "unknown" },
            "annotations": { "vnd.docker.reference.digest": digest, "vnd.docker.reference.type": "attestation-manifest" }
        })
    };
    let platform = |arch: &str| json!({ "platform": { "os": "linux", "architecture": arch } });
    let (own_run, other_run) = (format!("run-{own}"), format!("run-{other}"));
    push_run_image_for(&build.registry, "attestation-own", "unknown");
    push_run_image_for(&build.registry, "attestation-other", "unknown2");
    build.registry.push_index(
        "app",
        &[
            (&own_run, platform(own)),
            (&other_run, platform(other)),
            ("s390x", platform("s390x")),
            ("attestation-own", about(&own_run)),
            ("attestation-other", about(&other_run)),
        ],
    );
    let before = build.registry.children("app");
    for phase in PHASES {
        build.phase_for(phase, "app").env("CNB_EXPORT_INDEX", "merge").run().succeeds();
    }
    let after = build.registry.children("app");
    let digest = |children: &[(String, String)], platform: &str| {
        let found = children.iter().find(|(of, _)| of == platform);
        found.map(|(_, digest)| digest.clone()).expect("there")
    };
    let (own, other) = (format!("linux/{own}"), format!("linux/{other}"));
    assert_ne!(digest(&after, &own), digest(&before, &own), "this build's image is new");
    for kept in [other.as_str(), "linux/s390x"] {
        assert_eq!(digest(&after, kept), digest(&before, kept), "{kept}");
    }
    let attestations: Vec<_> = after.iter().filter(|(platform, _)| platform == "unknown/unknown").collect();
    assert_eq!(attestations, [&before[4]], "an attestation goes with its image");
}

#[test]
fn tags_in_several_repositories_are_indexes_of_their_own() {
    let (own, other) = own_and_other();
    let build = build(Some(other));
    let platform = json!({ "platform": { "os": "linux", "architecture": own } });
    build.registry.push_index("app", &[(&format!("run-{own}"), platform)]);
    build.run(&PHASES[..4], "app");
    let tags = ["app:one", "other/place:two"].map(|tag| build.registry.image(tag));
    build.phase_for("exporter", "app").env("CNB_EXPORT_INDEX", "merge").args(&tags).run().succeeds();
    let mut both = vec![format!("linux/{own}"), format!("linux/{other}")];
    both.sort();
    assert_eq!(platforms(&build, "app"), both, "what the tag had is kept");
    assert_eq!(platforms(&build, "app:one"), [format!("linux/{other}")]);
    assert_eq!(platforms(&build, "other/place:two"), [format!("linux/{other}")]);
    let report = build.project.toml("layers/index-report.toml");
    assert_eq!(report["indexes"].as_array().expect("a list").len(), 3);
}

#[test]
fn a_run_image_is_for_the_target_or_refused() {
    let (own, other) = own_and_other();
    let mut build = build(Some(other));
    build.run_image = build.registry.image(&format!("run-{other}"));
    build.run(&["analyzer"], "app");

    build.run_image = build.registry.image(&format!("run-{own}"));
    let wrong = build.phase_for("analyzer", "app").run().ends_with(3);
    wrong.says(&format!("the image is for linux/{own}, not for linux/{other}"));

    build.run_image = build.registry.image("run");
    build.project = build.project.for_target("s390x");
    let missing = build.phase_for("analyzer", "app").run().ends_with(3);
    missing.says("no image for linux/s390x; there are linux/amd64, linux/arm64");
}

#[test]
fn a_mirror_without_the_target_is_passed_over() {
    let (own, other) = own_and_other();
    let build = build(Some(other));
    let images = ["first", "second", "third"].map(|name| build.registry.image(name));
    let platform = |arch: &str| json!({ "platform": { "os": "linux", "architecture": arch } });
    build.registry.push_index("first", &[(&format!("run-{own}"), platform(own))]);
    push_run_image_for(&build.registry, "second", own);
    build.registry.push_index("third", &[(&format!("run-{other}"), platform(other))]);
    let [first, second, third] = &images;
    build.project.write("run.toml", format!("[[images]]\nimage = {first:?}\nmirrors = [{second:?}, {third:?}]\n"));
    let phase =
        build.project.phase("analyzer").env("CNB_REGISTRY_AUTH", "{}").flag("run", build.project.path("run.toml"));
    phase.arg(build.registry.image("app")).run().succeeds();
    let analyzed = build.project.toml("layers/analyzed.toml");
    assert_eq!(analyzed["run-image"]["image"].as_str(), Some(third.as_str()));
}

#[test]
fn a_previous_image_by_digest() {
    let (own, other) = own_and_other();
    let mut build = build(None);
    for target in [own, other] {
        build.project = build.project.for_target(target);
        build.project.new_layers();
        for phase in PHASES {
            build.phase_for(phase, "app").env("CNB_EXPORT_INDEX", "merge").run().succeeds();
        }
    }
    let (_, raw) = build.registry.get("/v2/app/manifests/latest");
    let index = build.registry.put_manifest("app", "copy", "application/vnd.oci.image.index.v1+json", &raw);
    let child = |arch: &str| {
        let platform = format!("linux/{arch}");
        build.registry.children("app").into_iter().find(|(of, _)| *of == platform).expect("there").1
    };
    let analyze = |digest: &str| {
        build.project.new_layers();
        let phase = build.phase_for("analyzer", "app");
        let outcome = phase.flag("previous-image", build.registry.image(&format!("app@{digest}"))).run().succeeds();
        let analyzed = build.project.toml("layers/analyzed.toml");
        (analyzed["image"]["reference"].as_str().unwrap_or_default().to_owned(), outcome)
    };
    let (other_child, own_child) = (child(other), child(own));
    assert!(analyze(&index).0.ends_with(&other_child), "the index's child for the target");
    assert!(analyze(&other_child).0.ends_with(&other_child));
    let (reference, outcome) = analyze(&own_child);
    assert_eq!(reference, "", "another machine's image is none");
    outcome.says(&format!("the image is for linux/{own}, not for linux/{other}"));
}

#[test]
fn a_buildpack_that_does_not_say_that_it_can_fails_with_a_remedy() {
    let (own, other) = own_and_other();
    let build = build(Some(other));
    build.project.shell_buildpack("0.12", "test/silent", "1", "", "true", "true");
    build.project.order(&[&["test/silent@1"]]);
    build.run(&["analyzer"], "app");
    let refused = build.phase_for("detector", "app").run().ends_with(21);
    let printed = refused.output();
    let remedy: Vec<_> =
        printed.lines().filter(|line| line.contains("build-arch") || line.contains("emulated")).collect();
    assert!((1..=3).contains(&remedy.len()), "{printed}");
    for word in [own, other, "test/silent@1", "[[targets]]"] {
        assert!(remedy.iter().any(|line| line.contains(word)), "{word}: {remedy:?}");
    }
    build.project.order(&[&["test/silent@1?", "test/marker@1"]]);
    build.phase_for("detector", "app").run().succeeds().says("test/marker 1");
}

#[test]
fn where_nobody_wrote_down_on_which_machine_buildpacks_run() {
    let (own, other) = own_and_other();
    let build = build(Some(other));
    build.run(&PHASES[..2], "app");
    // As a detector leaves it that does not know the extension.
    let group = build.project.read("layers/group.toml");
    let without: Vec<_> = group.lines().filter(|line| !line.starts_with("build-arch")).collect();
    let without = without.join("\n");
    build.project.write("layers/group.toml", &without);
    build.run(&["restorer"], "app");
    build.phase("builder").run().succeeds().says("no buildpack was asked whether it can");
    build.run(&["exporter"], "app");
    let place = build.project.path(&format!("cache/targets/linux-{other}"));
    assert!(!place.with_file_name(format!("linux-{other}-on-{own}")).exists());
    let metadata =
        build.project.read(&format!("cache/targets/linux-{other}/committed/io.buildpacks.lifecycle.cache.metadata"));
    assert!(metadata.contains(r#""build-arch":"unknown""#), "{metadata}");

    // Nor does a build that is emulated or hybrid take what is for building.
    for (group, reason) in [
        (without.clone(), "group.toml does not say on which architecture buildpacks run"),
        (format!("build-arch = \"{other}\"\n{without}"), "nobody knows on which architecture its layers were made"),
    ] {
        build.project.new_layers();
        build.run(&PHASES[..2], "app");
        build.project.write("layers/group.toml", group);
        build.phase("restorer").run().succeeds().says(reason);
        assert!(build.project.path("layers/test_marker/both/made").exists());
        assert!(!build.project.path("layers/test_marker/tools").exists());
    }
}

#[test]
fn inputs_that_cannot_be_are_refused_at_the_start() {
    let (own, other) = own_and_other();
    let build = build(Some(other));
    build.run(&PHASES[..4], "app");
    let before = build.registry.requests().len();
    let long = build.registry.image(&format!("app:{}", "x".repeat(120)));
    let merge = || build.phase("exporter").env("CNB_EXPORT_INDEX", "merge");
    merge().arg(long).run().ends_with(3).says("more than 128");
    merge()
        .arg(build.registry.image("app"))
        .env("CNB_BUILD_TARGET_ARCH", own)
        .run()
        .ends_with(3)
        .says("run-image.target");
    merge()
        .arg(build.registry.image("app"))
        .env("CNB_BUILD_TARGET_ARCH", "sparc")
        .run()
        .ends_with(3)
        .says("known are 386");
    merge().arg(build.registry.image("app")).env("CNB_EXPORT_INDEX", "both").run().ends_with(3);
    merge().arg(build.registry.image("app")).env("CNB_EXPERIMENTAL_MODE", "error").run().ends_with(1);
    merge().arg(build.registry.image("app")).without("CNB_EXPERIMENTAL_MODE").run().ends_with(1);
    let cross = format!("app:c-linux-{other}-on-{own}");
    let own_name = build.phase("exporter").arg(build.registry.image(&cross));
    let same = own_name.flag("cache-image", build.registry.image("app:c")).without("CNB_BUILD_TARGET_ARCH");
    same.run().ends_with(3).says("are the same");
    let report = build.project.path("nowhere/report.toml");
    let sent: Vec<_> =
        build.registry.requests().split_off(before).into_iter().filter(|line| !line.starts_with("\"GET")).collect();
    assert!(sent.iter().all(|line| line.starts_with("\"HEAD")), "{sent:#?}");
    merge()
        .arg(build.registry.image("app"))
        .flag("index-report", report)
        .run()
        .ends_with(62)
        .says("no such file or directory");
    assert_eq!(platforms(&build, "app"), [format!("linux/{other}")], "the index stands");
}

#[test]
fn a_layout_holds_an_index_too() {
    let (own, other) = own_and_other();
    let mut build = build(None);
    let layouts = build.project.path("layouts");
    let place = |image: &str| layouts.join("index.docker.io/library").join(image).join("latest");
    for arch in [own, other] {
        let root = build.project.path(&format!("root-{arch}"));
        std::fs::create_dir_all(root.join("etc")).expect("created");
        let run = place(&format!("run-{arch}"));
        std::fs::create_dir_all(run.parent().expect("a parent")).expect("created");
        image::make_image(&run, "run", &root, arch);
    }
    build.project.give_to_user();
    for target in [own, other] {
        build.project = build.project.for_target(target);
        build.project.new_layers();
        for phase in PHASES {
            let mut run = build.project.phase(phase).env("CNB_REGISTRY_AUTH", "{}").env("CNB_EXPORT_INDEX", "merge");
            if ["analyzer", "restorer", "exporter"].contains(&phase) {
                run = run.env("CNB_USE_LAYOUT", "true").env("CNB_LAYOUT_DIR", &layouts);
            }
            if phase == "analyzer" {
                run = run.flag("run-image", format!("run-{target}"));
            }
            if ["analyzer", "exporter"].contains(&phase) {
                run = run.arg("app");
            }
            run.run().succeeds();
        }
    }
    let read = |path: std::path::PathBuf| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
            .expect("JSON")
    };
    let entries = read(place("app").join("index.json"))["manifests"].clone();
    assert_eq!(entries.as_array().expect("a list").len(), 1, "readers choose wrongly among several: {entries}");
    let digest = entries[0]["digest"].as_str().expect("text").strip_prefix("sha256:").expect("a digest").to_owned();
    let index = read(place("app").join("blobs/sha256").join(digest));
    let platforms: Vec<_> = index["manifests"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|child| child["platform"]["architecture"].as_str())
        .collect();
    assert_eq!(platforms, [Some("amd64"), Some("arm64")]);
}

#[test]
fn the_indexer_joins_what_was_exported_apart() {
    let (own, other) = own_and_other();
    let mut build = build(None);
    for target in [own, other] {
        build.project = build.project.for_target(target);
        build.project.new_layers();
        build.run(&PHASES[..4], &format!("app-{target}"));
        let report = build.project.path(&format!("report-{target}.toml"));
        build.phase_for("exporter", &format!("app-{target}")).flag("report", report).run().succeeds();
    }
    build.project = build.project.without_target();
    // Not into a directory that this machine happens to have.
    let layers = build.project.path("nowhere");
    let indexer = || {
        let indexer = build.project.lifecycle().phase("indexer").env("CNB_LAYERS_DIR", &layers);
        indexer.env("CNB_EXPERIMENTAL_MODE", "quiet").env("CNB_REGISTRY_AUTH", "{}")
    };
    let reports = |phase: acceptance::Phase| {
        [own, other]
            .iter()
            .fold(phase, |phase, arch| phase.flag("report", build.project.path(&format!("report-{arch}.toml"))))
    };
    let report = build.project.path("index-report.toml");
    let joined = reports(indexer()).flag("tag", build.registry.image("app:two")).flag("index-report", &report);
    joined.arg(build.registry.image("app")).run().succeeds();
    let both: Vec<_> = ["amd64", "arm64"].iter().map(|arch| format!("linux/{arch}")).collect();
    for name in ["app", "app:two"] {
        assert_eq!(platforms(&build, name), both, "{name}");
        let child = |arch: &str| image::inspect(&build.registry, &build.registry.image(&format!("app-{arch}"))).digest;
        let digests: Vec<_> = build.registry.children(name).into_iter().map(|(_, digest)| digest).collect();
        assert_eq!(digests, ["amd64", "arm64"].map(child), "{name}");
    }
    assert_eq!(build.project.toml("index-report.toml")["indexes"].as_array().expect("a list").len(), 2);
    let index = build.registry.index("app").to_string();

    // The same once more, by digests, changes nothing.
    let digests =
        build.registry.children("app").into_iter().map(|(_, digest)| build.registry.image(&format!("app@{digest}")));
    indexer().arg(build.registry.image("app")).args(digests).run().succeeds();
    assert_eq!(build.registry.index("app").to_string(), index);

    reports(indexer()).arg("other.example/app").run().ends_with(3).says("another registry");
    indexer().arg(build.registry.image("app")).run().ends_with(3).says("no images to join");
    build.project.write("daemon.toml", "[image]\ntags = [\"app\"]\nimage-id = \"abc\"\n");
    indexer().flag("report", build.project.path("daemon.toml")).arg(build.registry.image("app")).run().ends_with(3);
    let gone = build.registry.image(&format!("app@sha256:{}", "0".repeat(64)));
    indexer().arg(build.registry.image("app")).arg(gone).run().ends_with(62);
}

/// The requests since `before`, each with how often it was made: digests and uploads have no names.
fn requests_since(registry: &Registry, before: usize) -> Vec<String> {
    let mut counted = std::collections::BTreeMap::<String, usize>::new();
    for line in registry.requests().split_off(before) {
        let mut words = line.trim_start_matches('"').split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let path = path.split('?').next().unwrap_or_default().split('/').map(|part| match part {
            digest if digest.starts_with("sha256:") => "<digest>",
            upload if upload.len() == 36 && upload.matches('-').count() == 4 => "<upload>",
            other => other,
        });
        let status = line.split("HTTP/1.1\" ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        let request = format!("{method} {} {status}", path.collect::<Vec<_>>().join("/"));
        *counted.entry(request).or_default() += 1;
    }
    counted.into_iter().map(|(request, times)| format!("{times} {request}")).collect()
}

/// What a registry sees of a build with nothing of the extension set, and which files there are: as it was before there was
/// an extension.
#[test]
fn without_the_extensions_inputs_nothing_is_different() {
    let build = Build::into(Project::web(), Registry::start(), Format::Oci);
    let before = build.registry.requests().len();
    build.five("app");
    let expected = [
        "1 DELETE /v2/app/blobs/uploads/<upload> 204",
        "2 GET /v2/ 200",
        "1 GET /v2/app/manifests/latest 404",
        "2 GET /v2/run/blobs/<digest> 200",
        "1 GET /v2/run/manifests/<digest> 200",
        "1 GET /v2/run/manifests/latest 200",
        "10 HEAD /v2/app/blobs/<digest> 404",
        "2 HEAD /v2/app/manifests/latest 404",
        "1 HEAD /v2/run/manifests/latest 200",
        "1 POST /v2/app/blobs/uploads/ 201",
        "10 POST /v2/app/blobs/uploads/ 202",
        "9 PUT /v2/app/blobs/uploads/<upload> 201",
        "1 PUT /v2/app/manifests/latest 201",
    ];
    assert_eq!(requests_since(&build.registry, before), expected);
    for file in ["layers/analyzed.toml", "layers/group.toml", "layers/report.toml"] {
        let text = build.project.read(file);
        assert!(!text.contains("target-arch") && !text.contains("build-arch"), "{file}: {text}");
    }
    assert!(!build.project.path("layers/index-report.toml").exists());
    assert!(!build.project.path("cache/targets").exists());

    build.project.new_layers();
    let before = build.registry.requests().len();
    build.five("app");
    let expected = [
        "1 DELETE /v2/app/blobs/uploads/<upload> 204",
        "2 GET /v2/ 200",
        "3 GET /v2/app/blobs/<digest> 200",
        "1 GET /v2/app/manifests/<digest> 200",
        "1 GET /v2/app/manifests/latest 200",
        "2 GET /v2/run/blobs/<digest> 200",
        "1 GET /v2/run/manifests/<digest> 200",
        "1 GET /v2/run/manifests/latest 200",
        "19 HEAD /v2/app/blobs/<digest> 200",
        "2 HEAD /v2/app/manifests/latest 200",
        "1 HEAD /v2/run/manifests/latest 200",
        "1 POST /v2/app/blobs/uploads/ 202",
    ];
    assert_eq!(requests_since(&build.registry, before), expected);
}

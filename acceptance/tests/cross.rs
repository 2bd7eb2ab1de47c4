//! A cross build with a real compiler: buildpacks run on this machine, the app is for the other one, and nothing is emulated
//! but the app when it is started at the end.

use acceptance::image::{self, Bundle, Format};
use acceptance::{Architecture, Build, Project, Registry, emulation, samples};

fn build() -> Build {
    let project = Project::empty();
    project.copy_app(&samples("compiled"));
    project.copy_buildpack(&samples("buildpacks").join("compiled"), "samples/compiled", "1.0.0");
    project.order(&[&["samples/compiled@1.0.0"]]);
    let registry = Registry::start();
    for architecture in [Architecture::HERE, Architecture::OTHER] {
        image::push_run_image_of(&registry, &format!("run-{}", architecture.name()), Format::Oci, architecture);
    }
    let platform = |name: &str| serde_json::json!({ "platform": { "os": "linux", "architecture": name } });
    let children = ["amd64", "arm64"].map(|name| (format!("run-{name}"), platform(name)));
    let children: Vec<_> = children.iter().map(|(name, platform)| (name.as_str(), platform.clone())).collect();
    registry.push_index("run", &children);
    let run_image = registry.image("run");
    Build { project, registry, run_image, cache_image: None }
}

/// What the app prints when its image is started.
fn started(build: &Build, reference: &str) -> String {
    let work = tempfile::tempdir().expect("a directory");
    let layout = work.path().join("layout");
    image::pull(&build.registry, reference, &layout, "app");
    Bundle::unpack(&layout, "app", work.path().join("bundle")).run(None, &[])
}

#[test]
fn an_app_that_was_compiled_here_runs_there() {
    let can_start = emulation::can_be_tested();
    let (own, other) = (Architecture::HERE.name(), Architecture::OTHER.name());
    let mut build = build();
    let mut seen = Vec::new();
    for target in [other, own, other] {
        build.project = build.project.for_target(target);
        build.project.new_layers();
        let mut printed = String::new();
        for phase in ["analyzer", "detector", "restorer", "builder", "exporter"] {
            let phase = build.phase_for(phase, "app").env("CNB_EXPORT_INDEX", "merge").env("CNB_ARCH_CHECK", "error");
            printed += &phase.run().succeeds().output();
        }
        assert!(printed.contains(&format!("---> Programs for {target}, compiled on ")), "{printed}");
        let again = [printed.contains("Programs are there"), printed.contains("The compiler's layer is there")];
        assert_eq!(again, [seen.contains(&target); 2], "{target} after {seen:?}: {printed}");
        seen.push(target);
    }
    let children = build.registry.children("app");
    let platforms: Vec<_> = children.iter().map(|(platform, _)| platform.as_str()).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    for architecture in [Architecture::HERE, Architecture::OTHER] {
        if architecture == Architecture::OTHER && !can_start {
            continue;
        }
        let platform = format!("linux/{}", architecture.name());
        let (_, digest) = children.iter().find(|(of, _)| *of == platform).expect("there");
        let printed = started(&build, &build.registry.image(&format!("app@{digest}")));
        assert_eq!(printed.trim(), format!("hello from {}", architecture.machine()));
    }
}

#[test]
fn what_was_compiled_for_the_wrong_machine_is_named_or_refused() {
    let mut build = build();
    build.project = build.project.for_target(Architecture::OTHER.name());
    // A buildpack that forgets that the app is for another machine.
    let program = build.project.path("buildpacks/samples_compiled/1.0.0/bin/build");
    let text = std::fs::read_to_string(&program).expect("read");
    let own = Architecture::HERE.name();
    build.project.write(
        "buildpacks/samples_compiled/1.0.0/bin/build",
        text.replace("target=$CNB_TARGET_ARCH", &format!("target={own}")),
    );
    build.run(&["analyzer", "detector", "restorer", "builder"], "app");
    let named = build.phase_for("exporter", "app").run().succeeds();
    let layer = format!("Layer 'samples/compiled:programs' should be for linux/{}", Architecture::OTHER.name());
    named.says(&layer).says("programs/bin/hello").says_no("Layer 'samples/compiled:compiler' should");
    let refused = build.phase_for("exporter", "refused").env("CNB_ARCH_CHECK", "error").run().ends_with(62);
    refused.says("layer 'samples/compiled:programs' has to be for");
    let (head, _) = build.registry.get("/v2/refused/manifests/latest");
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    build
        .phase_for("exporter", "ignored")
        .env("CNB_ARCH_CHECK", "error")
        .env("CNB_ARCH_CHECK_IGNORE", format!("{}/*/programs", build.project.path("layers").display()))
        .run()
        .succeeds();
}

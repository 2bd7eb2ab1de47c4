//! Builds in a builder of another architecture, which this machine runs by emulation.

use acceptance::image::{self, Bundle, Format};
use acceptance::{Architecture, Builder, Phase, Registry, Tool, emulation};

const PHASES: [&str; 5] = ["analyzer", "detector", "restorer", "builder", "exporter"];

#[test]
fn an_emulated_build_makes_an_image_of_its_architecture_that_starts() {
    if !emulation::can_be_tested() {
        return;
    }
    let architecture = Architecture::OTHER;
    let registry = Registry::start();
    let run_image = image::push_run_image_of(&registry, "run", Format::Docker, architecture);
    let builder = Builder::new(architecture);
    let app = registry.image("app");

    let created = builder.phase("creator").flag("run-image", &run_image).arg(&app).run().succeeds();
    assert!(created.stdout.contains("Building pages of"), "{created:?}");
    let image = image::inspect(&registry, &app);
    assert_eq!(image.config["os"], "linux");
    assert_eq!(image.config["architecture"], architecture.name());

    let work = tempfile::tempdir().expect("a directory");
    let layout = work.path().join("layout");
    image::pull(&registry, &app, &layout, "app");
    let bundle = Bundle::unpack(&layout, "app", work.path().join("bundle"));
    let launcher = std::fs::read(bundle.root().join("cnb/lifecycle/launcher")).expect("read");
    assert!(launcher == std::fs::read(builder.path("cnb/lifecycle/launcher")).expect("read"));
    assert_eq!(bundle.run(Some("/cnb/process/list"), &[]), "cgi-bin\nindex.html\n");
    let machine = bundle.run(Some("/cnb/lifecycle/launcher"), &["uname", "-m"]);
    assert_eq!(machine.trim(), architecture.machine());

    // Again, phase by phase, from the cache: the same image.
    builder.new_build();
    let outcomes = PHASES.map(|name| {
        let phase = builder.phase(name);
        let phase = if name == "analyzer" { phase.flag("run-image", &run_image) } else { phase };
        let phase = if ["analyzer", "exporter"].contains(&name) { phase.arg(&app) } else { phase };
        phase.run().succeeds()
    });
    assert!(outcomes[3].stdout.contains("is there from the build before"), "{:?}", outcomes[3]);
    assert_eq!(image::inspect(&registry, &app).digest, image.digest);
}

/// The digest in `report.toml`.
fn reported(builder: &Builder) -> String {
    let report: toml::Table =
        std::fs::read_to_string(builder.path("layers/report.toml")).expect("read").parse().expect("TOML");
    report["image"]["digest"].as_str().expect("text").to_owned()
}

/// Whoever exports it, and whichever machine's programs it is for: of the same layers the same image is made.
#[test]
fn exporters_of_both_architectures_make_the_same_images() {
    if !emulation::can_be_tested() {
        return;
    }
    let registry = Registry::start();
    let builder = Builder::new(Architecture::OTHER);
    // What the buildpack needs to build for this machine in a builder of the other one.
    let programs = builder.path(&format!("cnb/buildpacks/samples_server/1.2.3/programs/{}", Architecture::HERE.name()));
    std::fs::create_dir_all(&programs).expect("created");
    Tool::new("cp").args([std::path::Path::new("/bin/busybox"), &programs.join("busybox")]).run();
    let copy = |from: &str, to: &str| {
        let _ = std::fs::remove_dir_all(builder.path(to));
        Tool::new("cp").args(["--archive"]).args([builder.path(from), builder.path(to)]).run();
    };
    for target in [Architecture::OTHER, Architecture::HERE] {
        let run_image = image::push_run_image_of(&registry, &format!("run-{}", target.name()), Format::Oci, target);
        let app = registry.image(&format!("app-{}", target.name()));
        builder.new_build();
        builder.clear("cache");
        let with_target = |phase: Phase| {
            let phase = phase.env("CNB_EXPERIMENTAL_MODE", "quiet").env("CNB_BUILD_TARGET_ARCH", target.name());
            phase.env("CNB_REGISTRY_AUTH", "{}")
        };
        // Analysis and restoration by this machine's programs, detection and build by the builder's: hybrid.
        with_target(builder.phase_of_other("analyzer")).flag("run-image", &run_image).arg(&app).run().succeeds();
        with_target(builder.phase("detector")).run().succeeds();
        with_target(builder.phase_of_other("restorer")).run().succeeds();
        with_target(builder.phase("builder")).run().succeeds();
        copy("layers", "layers-built");
        with_target(builder.phase_of_other("exporter")).arg(&app).run().succeeds();
        let by_this = (reported(&builder), image::inspect(&registry, &app));
        copy("layers-built", "layers");
        let other_name = registry.image(&format!("other-{}", target.name()));
        with_target(builder.phase("exporter")).arg(&other_name).run().succeeds();
        let by_other = (reported(&builder), image::inspect(&registry, &other_name));
        assert_eq!(by_this.0, by_other.0, "for {}", target.name());
        assert_eq!(by_this.1.config["architecture"], target.name());
        let layers = |image: &image::Inspected| image.manifest["layers"].clone();
        assert_eq!(layers(&by_this.1), layers(&by_other.1), "compressed to the same bytes");
    }
}

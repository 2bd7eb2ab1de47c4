//! Builds in a builder of another architecture, which this machine runs by emulation.

use acceptance::image::{self, Bundle, Format};
use acceptance::{Architecture, Builder, Registry, emulation};

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

//! The whole flow against a registry.

use acceptance::image::{self, Bundle, Format};
use acceptance::{Outcome, Phase, Project, Registry};

/// A build of the sample app, with the references that its phases need.
struct Build {
    project: Project,
    registry: Registry,
    run_image: String,
}

impl Build {
    fn new() -> Self {
        let registry = Registry::start();
        let run_image = image::push_run_image(&registry, "run", Format::Docker);
        Self { project: Project::web(), registry, run_image }
    }

    fn phase(&self, executable: &str) -> Phase {
        let phase = self.project.phase(executable);
        let phase = if ["restorer", "exporter", "creator"].contains(&executable) {
            phase.flag("cache-dir", self.project.path("cache"))
        } else {
            phase
        };
        if ["analyzer", "creator"].contains(&executable) { phase.flag("run-image", &self.run_image) } else { phase }
    }

    /// The five phases, one after the other; what each printed.
    fn five(&self, name: &str) -> Vec<Outcome> {
        let app = self.registry.image(name);
        vec![
            self.phase("analyzer").arg(&app).run().succeeds(),
            self.phase("detector").run().succeeds(),
            self.phase("restorer").run().succeeds(),
            self.phase("builder").run().succeeds(),
            self.phase("exporter").arg(&app).run().succeeds(),
        ]
    }
}

#[test]
fn the_app_is_built_runs_and_is_built_again() {
    let build = Build::new();
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
    let printed = bundle
        .run(Some("/cnb/lifecycle/launcher"), &["sh", "-c", "echo $GREETING $FROM_RUN_IMAGE; httpd 2>&1 | head -1"]);
    assert!(printed.starts_with("hello kept\n"), "{printed}");

    let before = image::inspect(&build.registry, &app);
    let old_requests = build.registry.requests().len();
    build.project.new_layers();
    let second = build.five("app");
    assert!(second[3].stdout.contains("is there from the build before"), "{}", second[3].stdout);
    for line in ["Reusing layer 'samples/server:server'", "Reusing cache layer 'samples/server:server'"] {
        assert!(second[4].output().contains(line), "{line}: {}", second[4].output());
    }
    let after = image::inspect(&build.registry, &app);
    assert_eq!(before.diff_ids(), after.diff_ids());
    assert_eq!(before.digest, after.digest, "the same inputs give the same image");
    let sent: Vec<_> = build.registry.requests().split_off(old_requests);
    let sent: Vec<_> = sent.iter().filter(|line| line.starts_with("\"PATCH") || line.starts_with("\"PUT")).collect();
    let manifests = sent.iter().filter(|line| line.contains("/manifests/")).count();
    assert!(sent.len() <= manifests + 2, "nothing but a config and a manifest is sent: {sent:#?}");
}

#[test]
fn the_creator_makes_what_the_five_phases_make() {
    let build = Build::new();
    build.five("five");
    build.project.new_layers();
    let cacheless = build.project.path("cache");
    std::fs::remove_dir_all(&cacheless).expect("removed");
    std::fs::create_dir(&cacheless).expect("created");
    build.project.give_to_user();
    let created = build.phase("creator").arg(build.registry.image("one")).run().succeeds();
    for banner in ["ANALYZING", "DETECTING", "RESTORING", "BUILDING", "EXPORTING"] {
        assert!(created.stdout.contains(&format!("===> {banner}")), "{}", created.stdout);
    }
    let digest = |name: &str| image::inspect(&build.registry, &build.registry.image(name)).digest;
    assert_eq!(digest("five"), digest("one"));
}

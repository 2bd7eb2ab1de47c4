//! Builds of which only the export is left to be done, one a target, for tests of what exports do to one tag.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::USER;
use crate::image::{self, Format};
use crate::lifecycle::Phase;
use crate::project::Project;
use crate::registry::Registry;

/// What a build for a target has left in its layers directory: one layer.
#[derive(Debug)]
pub struct Prepared {
    project: Project,
}

impl Prepared {
    /// After analyzer, detector, restorer and builder: `run_image` is one for the target, and `app` what will be exported.
    pub fn new(target: &str, run_image: &str, app: &str) -> Self {
        Self::with_mode(target, run_image, app, |phase| phase)
    }

    /// The same, with analyzers that are told more.
    pub fn with_mode(target: &str, run_image: &str, app: &str, more: impl Fn(Phase) -> Phase) -> Self {
        let project = Project::empty().for_target(target);
        let module = "id = \"test/kept\"\nversion = \"1\"\napi = \"0.10\"\n";
        project.write("layers/group.toml", format!("[[group]]\n{module}"));
        project.write("layers/config/metadata.toml", format!("[[buildpacks]]\n{module}"));
        // One that is accepted for every target, since it is not of any machine.
        project.write("launcher", "#!/bin/sh\n");
        fs::set_permissions(project.path("launcher"), fs::Permissions::from_mode(0o755)).expect("executable");
        let prepared = Self { project };
        prepared.build("first");
        let analyzer = prepared.project.phase("analyzer").env("CNB_REGISTRY_AUTH", "{}");
        more(analyzer).flag("run-image", run_image).arg(app).run().succeeds();
        prepared
    }

    /// Builds again, with this in the layer.
    pub fn build(&self, content: impl AsRef<[u8]>) {
        self.project.write("layers/test_kept/layer/content", content);
        self.project.write("layers/test_kept/layer.toml", "[types]\nlaunch = true\n");
    }

    /// The directories.
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// The exporter, which merges into an index.
    pub fn exporter(&self, app: &str) -> Phase {
        // Not with the project's launcher.
        let phase = self.project.lifecycle().phase("exporter").env("CNB_REGISTRY_AUTH", "{}");
        let phase = ["layers", "app", "launcher"]
            .into_iter()
            .fold(phase, |phase, name| phase.flag(name, self.project.path(name)));
        let phase = phase.flag("uid", USER.to_string()).flag("gid", USER.to_string());
        let phase = self.project.target().into_iter().fold(phase, |phase, target| {
            phase.env("CNB_BUILD_TARGET_ARCH", target).env("CNB_EXPERIMENTAL_MODE", "quiet")
        });
        phase.env("CNB_EXPORT_INDEX", "merge").arg(app)
    }

    /// The digest of the image that was exported last.
    pub fn exported(&self) -> String {
        let report = self.project.toml("layers/report.toml");
        report["image"]["digest"].as_str().expect("text").to_owned()
    }
}

/// Puts run images for several architectures into a registry, each as `<name>-<arch>`, and an index of them as `name`.
/// `generation` tells those of one name from others.
pub fn push_run_images(registry: &Registry, name: &str, architectures: &[&str], generation: &str) {
    let mut children = Vec::new();
    for arch in architectures {
        let work = tempfile::tempdir().expect("a directory");
        let root = work.path().join("root");
        fs::create_dir_all(root.join("etc")).expect("created");
        fs::write(root.join("etc/arch"), format!("{arch} {generation}")).expect("written");
        let layout = work.path().join("layout");
        image::make_image(&layout, "run", &root, arch);
        let one = format!("{name}-{arch}");
        image::push(registry, &one, Format::Oci, &layout);
        children.push((one, json!({ "platform": { "os": "linux", "architecture": arch } })));
    }
    let children: Vec<_> = children.iter().map(|(one, platform)| (one.as_str(), platform.clone())).collect();
    registry.push_index(name, &children);
}

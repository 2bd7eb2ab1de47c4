//! A project that is built into a registry.

use crate::image::{self, Format};
use crate::lifecycle::{Outcome, Phase};
use crate::project::Project;
use crate::registry::Registry;

/// A project, a registry with a run image, and the references that the phases need.
#[derive(Debug)]
pub struct Build {
    /// The app and its buildpacks.
    pub project: Project,
    /// Where its image goes.
    pub registry: Registry,
    /// The run image's reference.
    pub run_image: String,
    /// The cache image's reference; without one the project's cache directory is used.
    pub cache_image: Option<String>,
}

impl Build {
    /// Of a project, in a registry of its own that anybody may write.
    pub fn of(project: Project) -> Self {
        Self::into(project, Registry::start(), Format::Oci)
    }

    /// Of a project, into this registry, on a run image with these media types.
    pub fn into(project: Project, registry: Registry, format: Format) -> Self {
        let run_image = image::push_run_image(&registry, "run", format);
        Self { project, registry, run_image, cache_image: None }
    }

    /// A phase with all the flags that the build needs but the image's name.
    pub fn phase(&self, executable: &str) -> Phase {
        let mut phase = self.project.phase(executable).env("CNB_REGISTRY_AUTH", self.registry.auth());
        if ["restorer", "exporter", "creator"].contains(&executable) {
            phase = match &self.cache_image {
                Some(image) => phase.flag("cache-image", image),
                None => phase.flag("cache-dir", self.project.path("cache")),
            };
        }
        if ["analyzer", "creator"].contains(&executable) {
            phase = phase.flag("run-image", &self.run_image);
        }
        phase
    }

    /// A phase of the build of an image.
    pub fn phase_for(&self, executable: &str, image: &str) -> Phase {
        let phase = self.phase(executable);
        if ["analyzer", "exporter", "creator"].contains(&executable) {
            phase.arg(self.registry.image(image))
        } else {
            phase
        }
    }

    /// The phases one after the other, each of which has to succeed; what they printed.
    #[track_caller]
    pub fn run(&self, phases: &[&str], image: &str) -> Vec<Outcome> {
        phases.iter().map(|phase| self.phase_for(phase, image).run().succeeds()).collect()
    }

    /// The five phases.
    #[track_caller]
    pub fn five(&self, image: &str) -> Vec<Outcome> {
        self.run(&["analyzer", "detector", "restorer", "builder", "exporter"], image)
    }
}

//! An app, its buildpacks, and the directories of a build.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;

use crate::USER;
use crate::lifecycle::{Lifecycle, Phase};
use crate::tool::{Tool, samples};

/// The directories that a platform makes for a build, all the build user's.
#[derive(Debug)]
pub struct Project {
    directory: Arc<TempDir>,
    lifecycle: Lifecycle,
    target: Option<String>,
}

impl Project {
    /// Without an app and without buildpacks.
    pub fn empty() -> Self {
        Self::with(Lifecycle::under_test())
    }

    /// Without an app and without buildpacks, for another lifecycle.
    pub fn with(lifecycle: Lifecycle) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("readable");
        let project = Self { directory: Arc::new(directory), lifecycle, target: None };
        for name in ["app", "layers", "platform/env", "buildpacks", "cache", "config/env"] {
            fs::create_dir_all(project.path(name)).expect("created");
        }
        project.give_to_user();
        project
    }

    /// The sample app, with the buildpacks that build it.
    pub fn web() -> Self {
        let project = Self::empty();
        project.copy_app(&samples("web"));
        for (id, version) in [("server", "1.2.3"), ("site", "0.1.0")] {
            project.copy_buildpack(&samples("buildpacks").join(id), &format!("samples/{id}"), version);
        }
        project.order(&[&["samples/server@1.2.3", "samples/site@0.1.0"]]);
        project
    }

    /// The same directories, for the phases of another lifecycle.
    #[must_use]
    pub fn by(&self, lifecycle: &Lifecycle) -> Self {
        Self { directory: Arc::clone(&self.directory), lifecycle: lifecycle.clone(), target: self.target.clone() }
    }

    /// The same directories, for builds with a target architecture: every phase is told by the variable.
    #[must_use]
    pub fn for_target(&self, target: &str) -> Self {
        let (directory, lifecycle) = (Arc::clone(&self.directory), self.lifecycle.clone());
        Self { directory, lifecycle, target: Some(target.to_owned()) }
    }

    /// The same directories, for builds without a target architecture.
    #[must_use]
    pub fn without_target(&self) -> Self {
        Self { directory: Arc::clone(&self.directory), lifecycle: self.lifecycle.clone(), target: None }
    }

    /// Something in the project's directory: `layers/group.toml`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The lifecycle under test.
    pub fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// The target architecture of its builds.
    pub fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }

    /// Makes everything the build user's.
    pub fn give_to_user(&self) {
        give(self.directory.path());
    }

    /// Makes the layers directory the build user's.
    pub fn give_layers_to_user(&self) {
        give(&self.path("layers"));
    }

    /// Writes a file, and the directories above it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        fs::write(&path, content).expect("written");
        self.give_to_user();
    }

    /// Reads a file as text.
    ///
    /// # Panics
    ///
    /// If it is not there.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Reads a TOML file.
    pub fn toml(&self, name: &str) -> toml::Table {
        self.read(name).parse().unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Copies an app's files.
    pub fn copy_app(&self, from: &Path) {
        copy(from, &self.path("app"));
        self.give_to_user();
    }

    /// Copies a buildpack to where the lifecycle looks for it.
    pub fn copy_buildpack(&self, from: &Path, id: &str, version: &str) {
        let to = self.buildpack(id, version);
        fs::create_dir_all(&to).expect("created");
        copy(from, &to);
        self.give_to_user();
    }

    /// Writes a buildpack: what is in its `buildpack.toml` beside `api`, `id` and `version`, and its two programs, in shell.
    pub fn shell_buildpack(&self, api: &str, id: &str, version: &str, more: &str, detect: &str, build: &str) {
        let name = format!("buildpacks/{}/{version}", id.replace('/', "_"));
        let head = format!("api = \"{api}\"\n[buildpack]\nid = \"{id}\"\nversion = \"{version}\"\n{more}\n");
        self.write(&format!("{name}/buildpack.toml"), head);
        for (program, text) in [("detect", detect), ("build", build)] {
            let program = format!("{name}/bin/{program}");
            self.write(&program, format!("#!/usr/bin/env bash\nset -eu\n{text}\n"));
            fs::set_permissions(self.path(&program), fs::Permissions::from_mode(0o755)).expect("executable");
        }
    }

    fn buildpack(&self, id: &str, version: &str) -> PathBuf {
        self.path("buildpacks").join(id.replace('/', "_")).join(version)
    }

    /// Writes `order.toml`: groups of `id@version`, with a `?` behind an optional one.
    pub fn order(&self, groups: &[&[&str]]) {
        let mut text = String::new();
        for group in groups {
            text += "[[order]]\n";
            for element in *group {
                let (element, optional) =
                    element.strip_suffix('?').map_or((*element, ""), |e| (e, "optional = true\n"));
                let (id, version) = element.split_once('@').expect("id@version");
                text += &format!("[[order.group]]\nid = \"{id}\"\nversion = \"{version}\"\n{optional}");
            }
        }
        self.write("order.toml", text);
    }

    /// A phase with the flags for this project's directories that it has at every Platform API.
    pub fn phase(&self, executable: &str) -> Phase {
        let mut phase = self.lifecycle.phase(executable).flag("layers", self.path("layers"));
        let in_builder = ["detector", "builder", "creator"].contains(&executable);
        if in_builder {
            phase = phase.flag("buildpacks", self.path("buildpacks")).flag("platform", self.path("platform"));
            phase = phase.env("CNB_BUILD_CONFIG_DIR", self.path("config"));
        }
        if in_builder || executable == "exporter" {
            phase = phase.flag("app", self.path("app"));
        }
        if ["detector", "creator"].contains(&executable) {
            phase = phase.flag("order", self.path("order.toml"));
        }
        if ["exporter", "creator"].contains(&executable) {
            phase = phase.flag("launcher", self.launcher());
        }
        if ["analyzer", "restorer", "exporter", "creator"].contains(&executable) {
            phase = phase.flag("uid", USER.to_string()).flag("gid", USER.to_string());
        }
        if let Some(target) = &self.target {
            phase = phase.env("CNB_BUILD_TARGET_ARCH", target).env("CNB_EXPERIMENTAL_MODE", "quiet");
        }
        phase
    }

    /// The launcher for the target.
    fn launcher(&self) -> PathBuf {
        let own = self.lifecycle.directory().join("launcher");
        let arch = self.target.as_deref().and_then(|target| target.split('/').next()).unwrap_or_default();
        let other = own.with_file_name(format!("launcher-linux-{arch}"));
        if other.exists() { other } else { own }
    }

    /// Whether the process whose number is in a file runs. One that buildpacks started works in the project's directory;
    /// another one that has got its number does not, nor does a zombie. It is ended.
    pub fn still_runs(&self, file: &str) -> bool {
        let pid = self.read(file).trim().to_owned();
        let works_in = fs::read_link(format!("/proc/{pid}/cwd"));
        let runs = works_in.is_ok_and(|directory| directory.starts_with(self.directory.path()));
        if runs {
            // It fails where the process has ended meanwhile.
            let _ = Command::new("sh").args(["-c", "kill -9 \"$0\"", &pid]).status();
        }
        runs
    }

    /// Forgets what the last build left in the layers directory, as a platform that gives each build a new one.
    pub fn new_layers(&self) {
        fs::remove_dir_all(self.path("layers")).expect("removed");
        fs::create_dir(self.path("layers")).expect("created");
        self.give_to_user();
    }
}

/// Copies what is in a directory, with links. Of modes only what git keeps of them: who checked the samples out may have any
/// umask.
fn copy(from: &Path, to: &Path) {
    Tool::new("cp").args(["--archive", "--no-preserve=ownership"]).args([from.join("."), to.to_owned()]).run();
    Tool::new("chmod").args(["--recursive", "u=rwX,go=rX"]).args([to]).run();
}

fn give(path: &Path) {
    lchown(path, Some(USER), Some(USER))
        .unwrap_or_else(|error| panic!("{}: {error}; tests run as root", path.display()));
    if fs::symlink_metadata(path).expect("there").is_dir() {
        for entry in fs::read_dir(path).expect("listed") {
            give(&entry.expect("an entry").path());
        }
    }
}

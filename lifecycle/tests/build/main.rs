//! The build phase with buildpacks in shell. A test binary of its own: the phase adopts and stops every process that is
//! started beneath it, so that only one of these tests may run at a time, and nothing else beside it.

mod environment;
mod hostile;
mod output;
mod results;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lifecycle::phase::PhaseError;
use lifecycle::phase::build::{self, BuildError, Inputs};
use lifecycle_launch::env::Env;
use platform_spec::api::PlatformApi;
use platform_spec::metadata::Metadata;
use platform_spec::name::{BuildpackId, BuildpackVersion};
use platform_spec::target::Target;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What buildpacks printed.
#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Directories of one build, and the buildpacks of its group.
struct World {
    temp: tempfile::TempDir,
    inputs: Inputs,
    printed: Printed,
    _alone: MutexGuard<'static, ()>,
}

impl World {
    fn new(platform_api: &str) -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let temp = tempfile::tempdir().expect("a directory");
        for name in ["app", "build-config/env", "buildpacks", "layers", "platform/env"] {
            fs::create_dir_all(temp.path().join(name)).expect("made");
        }
        let path = |name: &str| temp.path().join(name);
        let inputs = Inputs {
            platform_api: PlatformApi::parse(Some(platform_api)).expect("an API"),
            app_dir: path("app"),
            build_config_dir: path("build-config"),
            buildpacks_dir: path("buildpacks"),
            layers_dir: path("layers"),
            platform_dir: path("platform"),
            exec_env: "production".to_owned(),
            environment: Env::from_vars([("PATH".into(), std::env::var_os("PATH").expect("a PATH"))]),
            group: Default::default(),
            plan: Default::default(),
            target: Target { os: "linux".to_owned(), arch: "amd64".to_owned(), ..Target::default() },
        };
        Self { temp, inputs, printed: Printed::default(), _alone: alone }
    }

    /// Adds a buildpack to the group. `script` is its `bin/build`, after `cd "$CNB_LAYERS_DIR"` or its equal.
    fn buildpack(&mut self, id: &str, api: &str, script: &str) -> &mut Self {
        self.buildpack_with(id, api, "", &format!("cd \"$1\"\n{script}"))
    }

    /// Adds a buildpack whose `[buildpack]` has more keys. The script is all of its `bin/build`.
    fn buildpack_with(&mut self, id: &str, api: &str, keys: &str, script: &str) -> &mut Self {
        let element = format!("[[group]]\nid = '{id}'\nversion = '1'\napi = '{api}'");
        let group: platform_spec::group::Group = platform_spec::text::from_toml(&element).expect("a group");
        self.inputs.group.group.extend(group.group);
        let root = self.inputs.buildpacks_dir.join(id.replace('/', "_")).join("1");
        fs::create_dir_all(root.join("bin")).expect("made");
        let descriptor = format!("api = '{api}'\n[buildpack]\nid = '{id}'\nversion = '1'\n{keys}\n");
        fs::write(root.join("buildpack.toml"), descriptor).expect("written");
        self.executable(&root.join("bin/build"), &format!("#!/bin/bash\nset -eu\n{script}\n"));
        self
    }

    fn executable(&self, path: &Path, content: &str) {
        fs::write(path, content).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
    }

    fn plan(&mut self, text: &str) -> &mut Self {
        self.inputs.plan = platform_spec::text::from_toml(text).expect("a plan");
        self
    }

    fn run(&self) -> Result<Metadata, BuildError> {
        build::run(&self.inputs, Box::new(self.printed.clone()))
    }

    /// Runs a build that succeeds.
    fn build(&self) -> Metadata {
        self.run().unwrap_or_else(|error| panic!("the build failed: {error}\n{}", self.printed()))
    }

    /// Runs a build that fails: the exit code, and the error without the path of this world.
    fn fail(&self) -> (u8, String) {
        let error = self.run().expect_err("the build fails");
        (error.exit_code(), error.to_string().replace(&format!("{}/", self.temp.path().display()), ""))
    }

    fn printed(&self) -> String {
        String::from_utf8_lossy(&self.printed.0.lock().expect("not poisoned")).into_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).expect("written");
    }
}

fn id(text: &str) -> BuildpackId {
    BuildpackId::new(text).expect("an id")
}

fn version(text: &str) -> BuildpackVersion {
    BuildpackVersion::new(text).expect("a version")
}

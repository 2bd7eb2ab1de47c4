//! A root directory as a container of a builder image has it, of this machine's architecture or of the other one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::architecture::Architecture;
use crate::image;
use crate::lifecycle::{Lifecycle, Phase};
use crate::tool::{Tool, samples};
use crate::umask;

/// The user that buildpacks run as: the one of [`image::root_filesystem`].
const USER: u32 = 1000;

/// `/cnb`, `/layers`, `/workspace`, `/platform`, `/cache`, a shell, and the sample app with its buildpacks.
#[derive(Debug)]
pub struct Builder {
    root: TempDir,
    architecture: Architecture,
}

impl Builder {
    /// Of this architecture. Its phases are in `/cnb/lifecycle`; those of the other one, for platforms that run some phases
    /// outside, in `/other/lifecycle`.
    ///
    /// # Panics
    ///
    /// If executables of one of them are not there.
    pub fn new(architecture: Architecture) -> Self {
        umask::usual();
        let root = tempfile::tempdir().expect("a directory");
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("readable");
        image::root_filesystem(root.path(), architecture);
        let builder = Self { root, architecture };
        fs::set_permissions(builder.path("tmp"), fs::Permissions::from_mode(0o1777)).expect("open to all");
        for name in ["cnb/buildpacks", "other", "home/cnb", "platform/env", "layers", "workspace", "cache"] {
            fs::create_dir_all(builder.path(name)).expect("created");
        }
        let copy = |from: &Path, to: &Path| {
            Tool::new("cp").args(["--recursive", "--dereference"]).args([from, to]).run();
            Tool::new("chmod").args(["--recursive", "u=rwX,go=rX"]).args([to]).run();
        };
        let (own, other) = match (architecture, Architecture::HERE) {
            (Architecture::Amd64, Architecture::Amd64) | (Architecture::Arm64, Architecture::Arm64) => {
                (Lifecycle::under_test(), Lifecycle::of_other_architecture())
            }
            (Architecture::Amd64, Architecture::Arm64) | (Architecture::Arm64, Architecture::Amd64) => {
                (Lifecycle::of_other_architecture(), Lifecycle::under_test())
            }
        };
        copy(own.directory(), &builder.path("cnb/lifecycle"));
        copy(other.directory(), &builder.path("other/lifecycle"));
        for (id, version) in [("server", "1.2.3"), ("site", "0.1.0")] {
            let to = builder.path("cnb/buildpacks").join(format!("samples_{id}"));
            fs::create_dir(&to).expect("created");
            copy(&samples("buildpacks").join(id), &to.join(version));
        }
        let group = "{ id = 'samples/server', version = '1.2.3' }, { id = 'samples/site', version = '0.1.0' }";
        fs::write(builder.path("cnb/order.toml"), format!("[[order]]\ngroup = [{group}]\n")).expect("written");
        builder.new_build();
        for name in ["cache", "home/cnb"] {
            builder.give_to_user(name);
        }
        builder
    }

    /// Something in the root directory: `layers/group.toml`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The architecture.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Makes a tree the build user's.
    pub fn give_to_user(&self, name: &str) {
        Tool::new("chown").args(["--recursive", "--no-dereference", "1000:1000"]).args([self.path(name)]).run();
    }

    /// New layers and the app as it was, as a platform has them for each build; the cache stays.
    pub fn new_build(&self) {
        for name in ["layers", "workspace"] {
            fs::remove_dir_all(self.path(name)).expect("removed");
        }
        fs::create_dir(self.path("layers")).expect("created");
        Tool::new("cp").args(["--recursive"]).args([samples("web"), self.path("workspace")]).run();
        Tool::new("chmod").args(["--recursive", "u=rwX,go=rX"]).args([self.path("workspace")]).run();
        for name in ["layers", "workspace"] {
            self.give_to_user(name);
        }
    }

    /// A phase of the builder's architecture, as the build image's user.
    pub fn phase(&self, executable: &str) -> Phase {
        self.run("/cnb/lifecycle", executable)
    }

    /// A phase of the other architecture on the same directories, as the same user.
    pub fn phase_of_other(&self, executable: &str) -> Phase {
        self.run("/other/lifecycle", executable)
    }

    /// A phase of executables in another directory of the root.
    pub fn phase_in(&self, directory: &str, executable: &str) -> Phase {
        self.run(directory, executable)
    }

    /// Makes a directory empty, and the build user's.
    pub fn clear(&self, name: &str) {
        fs::remove_dir_all(self.path(name)).expect("removed");
        fs::create_dir(self.path(name)).expect("created");
        self.give_to_user(name);
    }

    fn run(&self, directory: &str, executable: &str) -> Phase {
        let phase = Phase::inside(self.root.path(), USER, &Path::new(directory).join(executable));
        let phase = phase.env("PATH", "/usr/bin:/bin").env("HOME", "/home/cnb").env("CNB_CACHE_DIR", "/cache");
        let user = USER.to_string();
        phase.env("CNB_USER_ID", &user).env("CNB_GROUP_ID", &user)
    }
}

//! A root directory in which phases run as in a builder image: `/layers`, `/workspace`, `/platform`, `/cnb`.
//!
//! The paths of a build are inside its layers' tars. A root of its own makes them the same for every run.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::generate::{Buildpack, CacheKind, Case, Kind, Node, What};
use super::observe::{Observed, observe_build, observe_image};
use crate::lifecycle::Outcome;
use crate::registry::Registry;
use crate::root::enter;
use crate::tool::Tool;
use crate::umask;

const BIN: [&str; 14] =
    ["cat", "cp", "cut", "env", "find", "grep", "ls", "mkdir", "mv", "rm", "sed", "sh", "sort", "tr"];

/// The build image's user: in layers' tars, and so part of what is frozen.
const USER: u32 = 1000;

/// What every buildpack's `bin/detect` is.
const DETECT: &str = r#"#!/bin/bash
here=${0%/bin/detect}
cat "$here/detect/output"
cat "$here/detect/plan" > "$2"
exit "$(cat "$here/detect/code")"
"#;

/// What every buildpack's `bin/build` is: writes down what it finds, then does what its round says.
const BUILD: &str = r#"#!/bin/bash
set -e
shopt -s dotglob nullglob
here=${0%/bin/build}
round=$(cat /round)
do=$here/rounds/$round
layers=$1
{
  echo "environment:"
  env -0 | tr '\n\0' '\1\n' | sort | grep -v -E '^(_|SHLVL|PWD|OLDPWD|CNB_BP_PLAN_PATH)=' || true
  echo "plan:"
  sort "$3"
  echo "found:"
  cd "$layers"
  find . | sort
  for file in *.toml *.json; do echo "$file:"; cat "$file"; done
} > "/observed/${here//\//_}"
while IFS= read -r line; do
  what=${line%% *}
  name=${line#* }
  restored=no
  case $what in
    keep) [ -d "$layers/$name" ] && restored=yes ;;
    reuse) [ -f "$layers/$name.toml" ] && restored=yes && rm -rf "${layers:?}/$name" ;;
  esac
  if [ $restored = no ]; then
    rm -rf "${layers:?}/$name"
    cp -a "$do/layers/$name" "$layers/$name"
  fi
  cp "$do/toml/$name.toml" "$layers/$name.toml"
done < "$do/do"
for file in "$do/files"/*; do cp -a "$file" "$layers/"; done
exit "$(cat "$do/code")"
"#;

/// A root directory.
#[derive(Debug)]
pub struct World {
    root: TempDir,
    run_image: String,
    registry: Registry,
}

impl World {
    /// With these directories of executables, in order.
    pub fn new(lifecycles: &[&Path]) -> Self {
        umask::usual();
        let root = tempfile::tempdir().expect("a directory");
        let path = |name: &str| root.path().join(name);
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("readable");
        for name in ["bin", "dev", "proc", "etc", "tmp", "usr/bin", "cnb", "lifecycles"] {
            fs::create_dir_all(path(name)).expect("created");
        }
        fs::set_permissions(path("tmp"), fs::Permissions::from_mode(0o1777)).expect("open to all");
        for (from, to) in [("/bin/busybox", "bin/busybox"), ("/bin/bash-static", "bin/bash")] {
            fs::copy(from, path(to)).unwrap_or_else(|error| panic!("{from}: {error}; `make set-up` installs it"));
        }
        for name in BIN {
            symlink("busybox", path("bin").join(name)).expect("linked");
        }
        fs::write(path("etc/passwd"), "root:x:0:0::/:/bin/sh\ncnb:x:1000:1000::/home/cnb:/bin/bash\n")
            .expect("written");
        fs::write(path("etc/os-release"), "ID=sample\nVERSION_ID=1\n").expect("written");
        fs::write(path("launcher"), "not a launcher, but always the same\n").expect("written");
        fs::create_dir(path("sboms")).expect("created");
        fs::write(path("sboms/launcher.sbom.cdx.json"), "{}").expect("written");
        for (number, from) in lifecycles.iter().enumerate() {
            let to = path("lifecycles").join(number.to_string());
            Tool::new("cp").args(["--archive"]).args([from.as_os_str(), to.as_os_str()]).run();
            Tool::new("chmod").args(["--recursive", "u=rwX,go=rX"]).args([&to]).run();
        }
        let registry = Registry::start();
        let run_image = push_run_image(&registry);
        Self { root, run_image, registry }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Builds the case, as often as it says. `pick` says which lifecycle makes a phase of a round; images are named by
    /// `name`.
    pub fn build(&self, case: &Case, name: &str, pick: impl Fn(usize, &str) -> usize) -> Observed {
        let mut observed = Observed::new(self.registry.host());
        self.prepare(case);
        for round in 0..case.rounds.len() {
            self.begin(case, round);
            self.round(case, round, name, &pick, &mut observed);
        }
        observed
    }

    /// Digests of the manifests that an image's repository got, sorted.
    pub fn digests(&self, name: &str) -> Vec<String> {
        let revisions = format!("docker/registry/v2/repositories/{name}/_manifests/revisions/sha256");
        let listed = fs::read_dir(self.registry.storage().join(revisions));
        let mut names: Vec<_> = listed
            .into_iter()
            .flatten()
            .map(|entry| entry.expect("one").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Puts everything in its place that is the same for all builds of the case.
    fn prepare(&self, case: &Case) {
        for name in ["cnb/buildpacks", "cnb/build-config", "cnb/system.toml", "platform", "cache"] {
            remove(&self.path(name));
        }
        for name in ["cnb/buildpacks", "cnb/build-config/env", "platform/env", "cache"] {
            fs::create_dir_all(self.path(name)).expect("created");
        }
        for buildpack in &case.buildpacks {
            self.buildpack(buildpack);
        }
        fs::write(self.path("cnb/order.toml"), &case.order).expect("written");
        if let Some(system) = &case.system {
            fs::write(self.path("cnb/system.toml"), system).expect("written");
        }
        let run_image = &self.run_image;
        let mirror = format!("{}/mirror", self.registry.host());
        let image = format!("image = \"{run_image}\"\nmirrors = [\"{mirror}\"]\n");
        fs::write(self.path("cnb/run.toml"), format!("[[images]]\n{image}")).expect("written");
        fs::write(self.path("cnb/stack.toml"), format!("[run-image]\n{image}")).expect("written");
        for (dir, variables) in [("platform/env", &case.platform_env), ("cnb/build-config/env", &case.config_env)] {
            for (name, value) in variables {
                fs::write(self.path(dir).join(name), value).expect("written");
            }
        }
        own(&self.path("cache"));
    }

    fn buildpack(&self, buildpack: &Buildpack) {
        let dir = self.path("cnb/buildpacks").join(&buildpack.directory);
        fs::create_dir_all(dir.join("bin")).expect("created");
        fs::write(dir.join("buildpack.toml"), &buildpack.descriptor).expect("written");
        let Some(detect) = &buildpack.detect else {
            fs::remove_dir(dir.join("bin")).expect("removed");
            return;
        };
        for (name, text) in [("bin/detect", DETECT), ("bin/build", BUILD)] {
            fs::write(dir.join(name), text).expect("written");
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755)).expect("executable");
        }
        fs::create_dir(dir.join("detect")).expect("created");
        fs::write(dir.join("detect/output"), &detect.output).expect("written");
        fs::write(dir.join("detect/plan"), &detect.plan).expect("written");
        fs::write(dir.join("detect/code"), detect.code.to_string()).expect("written");
        for (number, round) in buildpack.rounds.iter().enumerate() {
            let dir = dir.join("rounds").join(number.to_string());
            for name in ["files", "layers", "toml"] {
                fs::create_dir_all(dir.join(name)).expect("created");
            }
            fs::write(dir.join("code"), round.code.to_string()).expect("written");
            write_tree(&dir.join("files"), &round.files);
            let mut actions = String::new();
            for layer in &round.layers {
                let what = match layer.what {
                    What::Create => "create",
                    What::Keep => "keep",
                    What::Reuse => "reuse",
                };
                actions += &format!("{what} {}\n", layer.name);
                fs::create_dir(dir.join("layers").join(&layer.name)).expect("created");
                write_tree(&dir.join("layers").join(&layer.name), &layer.files);
                fs::write(dir.join("toml").join(format!("{}.toml", layer.name)), &layer.toml).expect("written");
            }
            fs::write(dir.join("do"), actions).expect("written");
        }
        own(&dir);
    }

    /// Gives a build its own volumes.
    fn begin(&self, case: &Case, round: usize) {
        for name in ["layers", "workspace", "observed"] {
            remove(&self.path(name));
            fs::create_dir(self.path(name)).expect("created");
        }
        write_tree(&self.path("workspace"), &case.rounds[round]);
        if let Some(project) = &case.project {
            fs::write(self.path("layers/project-metadata.toml"), project).expect("written");
        }
        fs::write(self.path("round"), round.to_string()).expect("written");
        for name in ["layers", "workspace", "observed"] {
            own(&self.path(name));
        }
    }

    fn round(
        &self,
        case: &Case,
        round: usize,
        name: &str,
        pick: &impl Fn(usize, &str) -> usize,
        observed: &mut Observed,
    ) {
        let image = self.registry.image(name);
        let tags: Vec<String> = (0..case.tags).map(|tag| format!("{image}:tag-{tag}")).collect();
        let cache = match case.cache {
            CacheKind::None => None,
            CacheKind::Directory => Some("-cache-dir=/cache".to_owned()),
            CacheKind::Image => Some(format!("-cache-image={image}-cache")),
        };
        let minor: u32 = case.api.trim_start_matches("0.").parse().expect("a version");
        let phases: &[&str] =
            if case.creator { &["creator"] } else { &["analyzer", "detector", "restorer", "builder", "exporter"] };
        for phase in phases {
            let mut arguments: Vec<String> = vec!["-layers=/layers".to_owned()];
            let reaches_images = ["analyzer", "restorer", "exporter", "creator"].contains(phase);
            let exports = ["exporter", "creator"].contains(phase);
            if reaches_images {
                arguments.extend([format!("-uid={USER}"), format!("-gid={USER}")]);
                let image_only = *phase == "analyzer" && case.cache != CacheKind::Image;
                arguments.extend(cache.clone().filter(|_| !image_only));
            }
            if ["analyzer", "creator"].contains(phase) {
                arguments.push(format!("-run-image={}", self.run_image));
                arguments.extend(tags.iter().map(|tag| format!("-tag={tag}")));
            }
            if ["detector", "builder", "creator", "exporter"].contains(phase) {
                arguments.push("-app=/workspace".to_owned());
            }
            if exports {
                arguments.push("-launcher=/launcher".to_owned());
                if minor >= 11 {
                    arguments.push("-launcher-sbom=/sboms".to_owned());
                }
                arguments.extend(case.process_type.iter().map(|kind| format!("-process-type={kind}")));
                if case.parallel && case.cache != CacheKind::None {
                    arguments.push("-parallel".to_owned());
                }
            }
            if exports || *phase == "analyzer" {
                arguments.push(image.clone());
            }
            if *phase == "exporter" {
                arguments.extend(tags.iter().cloned());
            }
            let outcome = self.run(case, pick(round, phase), phase, &arguments);
            observed.note(format!("{round} {phase} exit status"), outcome.code.to_string());
            observed.remember(format!("{round} {phase}"), outcome.output());
            if ["builder", "creator"].contains(phase) {
                observe_build(observed, round, self.root.path());
            }
            if outcome.code != 0 {
                break;
            }
        }
        observe_image(observed, round, self.root.path(), &self.registry, &image, case.cache);
    }

    fn run(&self, case: &Case, lifecycle: usize, phase: &str, arguments: &[String]) -> Outcome {
        let mut command = Command::new(format!("/lifecycles/{lifecycle}/{phase}"));
        command.args(arguments).env_clear().stdin(Stdio::null());
        command.env("PATH", "/bin:/usr/bin").env("CNB_PLATFORM_API", case.api).env("CNB_NO_COLOR", "true");
        command.env("HOME", "/home/cnb").env("CNB_STACK_ID", "samples.stack").env("NOT_FOR_BUILDPACKS", "1");
        if let Some(environment) = case.exec_env {
            command.env("CNB_EXEC_ENV", environment);
        }
        if let Some(epoch) = case.epoch {
            command.env("SOURCE_DATE_EPOCH", epoch.to_string());
        }
        enter(&mut command, self.root.path(), &[], USER);
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Outcome::new(format!("{command:?}"), &output)
    }
}

fn remove(path: &Path) {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{}: {error}", path.display()),
        _ => {}
    }
}

/// Makes a tree the build user's.
fn own(path: &Path) {
    let found = fs::symlink_metadata(path).expect("there");
    lchown(path, Some(USER), Some(USER)).expect("owned: tests run as root");
    // Changing the owner takes setuid and setgid away.
    if !found.is_symlink() {
        fs::set_permissions(path, found.permissions()).expect("permitted");
    }
    if found.is_dir() {
        for entry in fs::read_dir(path).expect("listed") {
            own(&entry.expect("an entry").path());
        }
    }
}

fn write_tree(root: &Path, nodes: &[Node]) {
    for node in nodes {
        let path = root.join(&node.path);
        let parent = path.parent().expect("a parent");
        // What one tree has as a file, another may have as a directory: the first stays.
        if fs::create_dir_all(parent).is_err() || fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        if parent.canonicalize().is_ok_and(|real| !real.starts_with(root.canonicalize().expect("there"))) {
            continue;
        }
        match &node.kind {
            Kind::File(content) => fs::write(&path, content).expect("written"),
            Kind::Directory => fs::create_dir(&path).expect("created"),
            Kind::Link(target) => {
                symlink(target, &path).expect("linked");
                continue;
            }
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(node.mode)).expect("permitted");
    }
}

/// A run image whose bytes are always the same.
fn push_run_image(registry: &Registry) -> String {
    let work = tempfile::tempdir().expect("a directory");
    let layout = work.path().join("layout");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("created");
    let sha = |bytes: &[u8]| super::observe::sha256(bytes);
    let put = |bytes: &[u8]| {
        let digest = sha(bytes);
        fs::write(blobs.join(&digest), bytes).expect("written");
        (format!("sha256:{digest}"), bytes.len())
    };
    let (layer, layer_size) = put(&[0; 1024]);
    let config = serde_json::json!({
        "architecture": crate::Architecture::HERE.name(), "os": "linux", "author": "somebody",
        "config": {
            "Env": ["PATH=/usr/bin:/bin", "BASE=1"], "User": "1000:1000", "StopSignal": "SIGQUIT",
            "Labels": {
                "io.buildpacks.stack.id": "samples.stack",
                "io.buildpacks.base.distro.name": "sample",
                "io.buildpacks.base.distro.version": "1",
                "other": "<kept & well>",
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [&layer] },
        "history": [
            { "created": "2020-01-01T00:00:00Z", "created_by": "base" },
            { "created": "2020-01-01T00:00:00Z", "created_by": "CMD", "empty_layer": true },
        ],
    });
    let (config, config_size) = put(config.to_string().as_bytes());
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": layer_size }],
    });
    let (manifest, manifest_size) = put(manifest.to_string().as_bytes());
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": manifest_size,
            "annotations": { "org.opencontainers.image.ref.name": "run" },
        }],
    });
    fs::write(layout.join("index.json"), index.to_string()).expect("written");
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).expect("written");
    let reference = registry.image("run-image");
    Tool::new("skopeo")
        .args(["copy", "--quiet"])
        .args(registry.skopeo_flags("dest"))
        .args([format!("oci:{}:run", layout.display()), format!("docker://{reference}")])
        .run();
    reference
}

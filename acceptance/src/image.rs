//! Run images, and what others' programs see in the images that we made.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::architecture::Architecture;
use crate::registry::Registry;
use crate::tool::Tool;

/// Programs of the run image, beside `busybox` and `bash`.
const APPLETS: [&str; 22] = [
    "basename", "cat", "chmod", "cp", "cut", "env", "grep", "head", "httpd", "id", "ls", "mkdir", "mv", "printf", "rm",
    "sed", "sh", "sleep", "sort", "touch", "uname", "wget",
];

/// Fills a directory with what an image has: an architecture's shells and small programs that need no libc.
pub fn root_filesystem(root: &Path, architecture: Architecture) {
    for name in ["bin", "dev", "etc", "proc", "tmp", "usr/bin"] {
        fs::create_dir_all(root.join(name)).expect("created");
    }
    for (from, to) in architecture.shells() {
        // By another process: a file that a child of this one has open for writing cannot be executed.
        Tool::new("cp").args([&from, &root.join(to)]).run();
    }
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).expect("linked");
    }
    symlink("../../bin/env", root.join("usr/bin/env")).expect("linked");
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\ncnb:x:1000:1000::/home/cnb:/bin/bash\n")
        .expect("written");
    fs::write(root.join("etc/group"), "root:x:0:\ncnb:x:1000:\n").expect("written");
    fs::write(root.join("etc/os-release"), "ID=sample\nVERSION_ID=1\n").expect("written");
}

/// Makes a run image in an OCI layout, `<layout>:<tag>`, with umoci.
pub fn make_run_image(layout: &Path, tag: &str) {
    make_run_image_of(layout, tag, Architecture::HERE);
}

/// The same, of an architecture.
pub fn make_run_image_of(layout: &Path, tag: &str, architecture: Architecture) {
    let work = tempfile::tempdir().expect("a directory");
    root_filesystem(work.path(), architecture);
    make_image(layout, tag, work.path(), architecture.name());
}

/// Makes a run image of a directory's files for an architecture.
pub fn make_image(layout: &Path, tag: &str, root: &Path, arch: &str) {
    if !layout.exists() {
        Tool::new("umoci").args(["init", "--layout"]).args([layout]).run();
    }
    let image = format!("{}:{tag}", layout.display());
    let umoci = |arguments: &[&str]| {
        Tool::new("umoci").args(&arguments[..1]).args(["--image", &image]).args(&arguments[1..]).run()
    };
    umoci(&["new"]);
    umoci(&["insert", &root.display().to_string(), "/"]);
    umoci(&[
        "config",
        "--os=linux",
        &format!("--architecture={arch}"),
        "--config.user=1000:1000",
        "--config.env=PATH=/usr/bin:/bin",
        "--config.env=FROM_RUN_IMAGE=kept",
        "--config.label=io.buildpacks.base.distro.name=sample",
        "--config.label=io.buildpacks.base.distro.version=1",
        "--config.label=io.buildpacks.stack.id=samples.stack",
    ]);
}

/// The media types of a run image.
#[derive(Clone, Copy, Debug)]
pub enum Format {
    /// Docker's, which most base images still have.
    Docker,
    /// The OCI's.
    Oci,
}

/// Puts a run image into a registry; its reference.
pub fn push_run_image(registry: &Registry, name: &str, format: Format) -> String {
    push_run_image_of(registry, name, format, Architecture::HERE)
}

/// Puts a run image of an architecture into a registry; its reference.
pub fn push_run_image_of(registry: &Registry, name: &str, format: Format, architecture: Architecture) -> String {
    let work = tempfile::tempdir().expect("a directory");
    let layout = work.path().join("layout");
    make_run_image_of(&layout, "run", architecture);
    push(registry, name, format, &layout)
}

/// Puts a run image that says that it is for an architecture into a registry; its reference. Nothing in it can run.
pub fn push_run_image_for(registry: &Registry, name: &str, arch: &str) -> String {
    let work = tempfile::tempdir().expect("a directory");
    let root = work.path().join("root");
    fs::create_dir_all(root.join("etc")).expect("created");
    fs::write(root.join("etc/arch"), arch).expect("written");
    let layout = work.path().join("layout");
    make_image(&layout, "run", &root, arch);
    push(registry, name, Format::Oci, &layout)
}

/// Puts the image `run` of a layout into a registry; its reference.
pub fn push(registry: &Registry, name: &str, format: Format, layout: &Path) -> String {
    let reference = registry.image(name);
    Tool::new("skopeo")
        .args([
            "copy",
            "--quiet",
            "--format",
            match format {
                Format::Docker => "v2s2",
                Format::Oci => "oci",
            },
        ])
        .args(registry.skopeo_flags("dest"))
        .args([format!("oci:{}:run", layout.display()), format!("docker://{reference}")])
        .run();
    reference
}

/// What skopeo reads of an image in a registry.
#[derive(Debug)]
pub struct Inspected {
    /// The manifest.
    pub manifest: Value,
    /// The config.
    pub config: Value,
    /// `sha256:…` of the manifest.
    pub digest: String,
}

impl Inspected {
    /// A label's text.
    ///
    /// # Panics
    ///
    /// If there is no such label.
    pub fn label(&self, key: &str) -> &str {
        self.config["config"]["Labels"][key].as_str().unwrap_or_else(|| panic!("no label {key}: {}", self.config))
    }

    /// The diffIDs, from the bottom up.
    pub fn diff_ids(&self) -> Vec<&str> {
        let list = self.config["rootfs"]["diff_ids"].as_array().expect("a list");
        list.iter().map(|id| id.as_str().expect("text")).collect()
    }
}

/// Reads an image in a registry.
pub fn inspect(registry: &Registry, reference: &str) -> Inspected {
    inspect_with(&registry.skopeo_flags(""), &format!("docker://{reference}"))
}

fn inspect_with(flags: &[String], image: &str) -> Inspected {
    let ask = |what: &[&str]| Tool::new("skopeo").arg_list("inspect", flags, what, image);
    let json = |text: String| serde_json::from_str(&text).unwrap_or_else(|error| panic!("{image}: {error}: {text}"));
    Inspected {
        manifest: json(ask(&["--raw"])),
        config: json(ask(&["--config", "--raw"])),
        digest: ask(&["--format", "{{.Digest}}"]).trim().to_owned(),
    }
}

impl Tool {
    fn arg_list(self, verb: &str, flags: &[String], more: &[&str], image: &str) -> String {
        self.args([verb]).args(flags).args(more).args([image]).run()
    }
}

/// Copies an image of a registry into an OCI layout, `<layout>:<tag>`: skopeo verifies every digest and size on the way.
pub fn pull(registry: &Registry, reference: &str, layout: &Path, tag: &str) {
    Tool::new("skopeo")
        .args(["copy", "--quiet"])
        .args(registry.skopeo_flags("src"))
        .args([format!("docker://{reference}"), format!("oci:{}:{tag}", layout.display())])
        .run();
}

/// A container's bundle: the image's files in `rootfs`, and how to run it.
#[derive(Debug)]
pub struct Bundle {
    path: PathBuf,
}

impl Bundle {
    /// Unpacks an image of an OCI layout with umoci.
    pub fn unpack(layout: &Path, tag: &str, path: PathBuf) -> Self {
        let image = format!("{}:{tag}", layout.display());
        Tool::new("umoci").args(["unpack", "--image", &image]).args([&path]).run();
        Self { path }
    }

    /// The image's files.
    pub fn root(&self) -> PathBuf {
        self.path.join("rootfs")
    }

    /// Starts the image's entry point with arguments, as `docker run <image> <arguments>` does, in a container without a
    /// network, and waits for its end; what it printed.
    pub fn run(&self, entry_point: Option<&str>, arguments: &[&str]) -> String {
        let path = self.path.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
        let words = config["process"]["args"].as_array().expect("a list").clone();
        let entry = entry_point.map_or_else(|| words[0].clone(), Value::from);
        let words: Vec<_> = std::iter::once(entry).chain(arguments.iter().map(|word| Value::from(*word))).collect();
        config["process"]["args"] = Value::from(words);
        config["process"]["terminal"] = Value::from(false);
        fs::write(&path, config.to_string()).expect("written");
        let state = tempfile::tempdir().expect("a directory");
        Tool::new("runc")
            .args(["--root"])
            .args([state.path()])
            .args(["run", "--bundle"])
            .args([&self.path])
            .args([format!("acceptance-{}", unique())])
            .run()
    }
}

/// A number that no other container of this machine has.
fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

//! One build: what comes before an export, the exports, and restores from its cache.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::input::{LAYERS, Layer, make_directory};
use super::measure::{Run, Usage};
use crate::USER;
use crate::image::{Format, push_run_image};
use crate::registry::Registry;
use crate::tool::Tool;

/// The Platform API.
const API: &str = "0.12";

/// The buildpack whose layers are exported.
const BUILDPACK: &str = "bench/files";

/// The root directory in which phases run, as in a builder image, and the app, the same for all builds.
#[derive(Debug)]
pub struct BuildRoot {
    root: PathBuf,
    app: PathBuf,
}

impl BuildRoot {
    /// In an empty directory, with these directories of executables.
    pub fn new(directory: &Path, lifecycles: &[&Path]) -> Self {
        let (root, app) = (directory.join("root"), directory.join("app"));
        for name in ["dev", "proc", "etc", "tmp", "layers", "workspace", "cache", "build", "sboms", "lifecycles"] {
            fs::create_dir_all(root.join(name)).expect("created");
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("open to all");
        fs::write(root.join("etc/passwd"), format!("root:x:0:0::/:/bin/sh\ncnb:x:{USER}:{USER}::/:/bin/sh\n"))
            .expect("written");
        fs::write(root.join("launcher"), "not a launcher, but always the same\n").expect("written");
        for (number, from) in lifecycles.iter().enumerate() {
            let to = root.join("lifecycles").join(number.to_string());
            Tool::new("cp").args(["--archive"]).args([from.as_os_str(), to.as_os_str()]).run();
        }
        make_directory(&app);
        fs::write(app.join("app.sh"), "#!/bin/sh\necho hello\n").expect("written");
        Self { root, app }
    }
}

/// Writes what a builder leaves: the layers' metadata and the build's. `contents` makes each layer's directory.
pub fn write_layers(layers: &Path, count: usize, contents: impl Fn(usize, &Path)) {
    let buildpack = layers.join(BUILDPACK.replace('/', "_"));
    make_directory(&buildpack);
    for number in 0..count {
        contents(number, &buildpack.join(format!("layer-{number}")));
        let toml = "[types]\nlaunch = true\ncache = true\n[metadata]\nversion = \"1\"\n";
        fs::write(buildpack.join(format!("layer-{number}.toml")), toml).expect("written");
    }
    make_directory(&layers.join("config"));
    let metadata = format!(
        "[[buildpacks]]\nid = \"{BUILDPACK}\"\nversion = \"1\"\napi = \"0.10\"\n\
         [[processes]]\ntype = \"web\"\ncommand = [\"/bin/true\"]\nargs = []\ndirect = true\nbuildpack-id = \"{BUILDPACK}\"\n"
    );
    fs::write(layers.join("config/metadata.toml"), metadata).expect("written");
    Tool::new("chown").args(["-R", &format!("{USER}:{USER}")]).args([layers]).run();
}

/// A build with directories and a registry of its own.
#[derive(Debug)]
pub struct Build<'a> {
    root: &'a BuildRoot,
    lifecycle: usize,
    /// What buildpacks have left.
    layers: PathBuf,
    directory: PathBuf,
    registry: Registry,
    run_image: String,
    stored_before: u64,
    restored: usize,
}

impl<'a> Build<'a> {
    /// In a new directory, by one of the root's lifecycles.
    pub fn new(root: &'a BuildRoot, lifecycle: usize, layers: &Path, directory: &Path) -> Self {
        for name in ["", "build", "cache"] {
            make_directory(&directory.join(name));
        }
        let registry = Registry::start_in(directory);
        let run_image = push_run_image(&registry, "run-image", Format::Oci);
        let file = |name: &str, text: &str| fs::write(directory.join("build").join(name), text).expect("written");
        file("group.toml", &format!("[[group]]\nid = \"{BUILDPACK}\"\nversion = \"1\"\napi = \"0.10\"\n"));
        file("run.toml", &format!("[[images]]\nimage = \"{run_image}\"\n"));
        let (layers, directory) = (layers.to_owned(), directory.to_owned());
        let stored_before = registry.stored();
        Self { root, lifecycle, layers, directory, registry, run_image, stored_before, restored: 0 }
    }

    /// Removes everything. Not to be done before other builds are measured, except in memory: see `--help`.
    pub fn remove(self) {
        let directory = self.directory.clone();
        drop(self);
        fs::remove_dir_all(&directory).expect("removed");
    }

    fn run(&self, phase: &str, layers: &Path, arguments: &[&str]) -> (Usage, String) {
        let mut command = vec![format!("/lifecycles/{}/{phase}", self.lifecycle)];
        command
            .extend(["-layers=/layers", "-analyzed=/build/analyzed.toml", "-uid=1000", "-gid=1000"].map(str::to_owned));
        command.extend([format!("-uid={USER}"), format!("-gid={USER}")]);
        command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let volume = |from: &Path, to: &str| (from.to_owned(), PathBuf::from(to));
        let log = self.directory.join(format!("{phase}.log"));
        let _ = fs::remove_file(&log);
        let run = Run {
            root: self.root.root.clone(),
            volumes: vec![
                volume(layers, "/layers"),
                volume(&self.root.app, "/workspace"),
                volume(&self.directory.join("cache"), "/cache"),
                volume(&self.directory.join("build"), "/build"),
            ],
            command,
            environment: [("PATH", "/bin"), ("HOME", "/"), ("CNB_PLATFORM_API", API), ("CNB_NO_COLOR", "true")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            log,
        };
        let usage = run.measure();
        (usage, run.printed())
    }

    fn image(&self) -> String {
        self.registry.image("app")
    }

    /// Analyzes, so that an export or a restore can follow.
    pub fn analyze(&self) {
        self.run("analyzer", &self.layers, &[&format!("-run-image={}", self.run_image), &self.image()]);
    }

    /// Exports to the registry and to the cache directory.
    pub fn export(&self) -> (Usage, String) {
        let arguments = [
            "-app=/workspace",
            "-group=/build/group.toml",
            "-run=/build/run.toml",
            "-report=/build/report.toml",
            "-cache-dir=/cache",
            "-launcher=/launcher",
            "-launcher-sbom=/sboms",
            &self.image(),
        ];
        self.run("exporter", &self.layers, &arguments)
    }

    /// Restores from the cache directory to a new layers directory, which is given too.
    pub fn restore(&mut self) -> (Usage, PathBuf) {
        let layers = self.directory.join(format!("restored-{}", self.restored));
        self.restored += 1;
        make_directory(&layers);
        let (usage, _) = self.run("restorer", &layers, &["-group=/build/group.toml", "-cache-dir=/cache"]);
        (usage, layers)
    }

    /// Bytes of blobs that the registry was sent since the build began.
    pub fn sent(&self) -> u64 {
        self.registry.stored() - self.stored_before
    }

    /// How many uploads of blobs the registry has completed.
    pub fn uploads(&self) -> usize {
        let is_upload = |line: &&String| line.contains("\"PUT /v2/app/blobs/uploads/");
        self.registry.requests().iter().filter(is_upload).count()
    }

    /// The diffIDs that the cache has, sorted.
    pub fn cached(&self) -> Vec<String> {
        let committed = fs::read_dir(self.directory.join("cache/committed")).expect("a committed cache");
        let mut names: Vec<String> =
            committed.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names.retain(|name| name.starts_with("sha256:"));
        names
    }
}

/// Lays layers of real files out.
pub fn write_real_layers(directory: &Path, layers: &[Layer]) {
    write_layers(directory, LAYERS, |number, path| {
        if let Some(layer) = layers.get(number) {
            layer.copy_to(path);
        }
    });
}

//! Detection and generation with buildpacks and extensions in shell.

mod bad_input;
mod detection;
mod generation;
mod orders;

use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;

use lifecycle::experimental::Experimental;
use lifecycle::phase::PhaseError;
use lifecycle::phase::detect::{self, DetectError, Detected};
use lifecycle::phase::generate::{self, GenerateError};
use lifecycle_launch::env::Env;
use log::{LevelFilter, Log, Metadata, Record};
use platform_spec::api::PlatformApi;

/// Directories of one detection.
struct World {
    temp: tempfile::TempDir,
    inputs: detect::Inputs,
    printed: RefCell<Vec<u8>>,
}

/// What a descriptor has beside its id and version.
#[derive(Clone, Copy)]
struct Descriptor<'a> {
    api: &'a str,
    /// Lines before the first table.
    top: &'a str,
    /// Lines of the table `[buildpack]` or `[extension]`.
    own: &'a str,
    /// Lines after it.
    rest: &'a str,
}

const PLAIN: Descriptor = Descriptor { api: "0.12", top: "", own: "", rest: "" };

impl World {
    fn new(platform_api: &str) -> Self {
        LOGGER.call_once(|| {
            log::set_logger(&Logger).expect("the only logger");
            log::set_max_level(LevelFilter::Info);
        });
        let temp = tempfile::tempdir().expect("a directory");
        for name in ["app", "build-config/env", "buildpacks", "extensions", "layers", "platform/env"] {
            fs::create_dir_all(temp.path().join(name)).expect("made");
        }
        let path = |name: &str| temp.path().join(name);
        let own = [
            ("PATH", std::env::var_os("PATH").expect("a PATH")),
            ("HOME", "/home/user".into()),
            ("CNB_REGISTRY_AUTH", "secret".into()),
            ("CNB_STACK_ID", "some-stack".into()),
        ];
        let inputs = detect::Inputs {
            platform_api: PlatformApi::parse(Some(platform_api)).expect("an API"),
            app_dir: path("app"),
            buildpacks_dir: path("buildpacks"),
            extensions_dir: path("extensions"),
            platform_dir: path("platform"),
            build_config_dir: path("build-config"),
            analyzed_path: path("layers/analyzed.toml"),
            target_arch: None,
            order_path: path("order.toml"),
            system_path: path("system.toml"),
            exec_env: "production".to_owned(),
            experimental: Experimental::Refused,
            environment: Env::from_vars(own.map(|(name, value)| (name.into(), value))),
        };
        let world = Self { temp, inputs, printed: RefCell::default() };
        world.write(
            "layers/analyzed.toml",
            "[run-image]\nreference = 'run@sha256:1'\nimage = 'run'\n[run-image.target]\nos = 'linux'\narch = 'amd64'\n\
             [run-image.target.distro]\nname = 'ubuntu'\nversion = '24.04'\n",
        );
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, content).expect("written");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Writes a script by another process, so that no process that a test starts meanwhile inherits it open for
    /// writing: it could not be executed then.
    fn script(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        let mut writer = Command::new("/bin/sh");
        writer.args(["-c", "cat > \"$0\" && chmod 755 \"$0\""]).arg(&path).stdin(Stdio::piped());
        let mut writer = writer.spawn().expect("a shell");
        writer.stdin.take().expect("a pipe").write_all(format!("#!/bin/sh\n{content}\n").as_bytes()).expect("written");
        assert!(writer.wait().expect("waited for").success());
    }

    /// Writes a descriptor: `name` is `<kind>s/<id with _>@<version>`.
    fn describe(&self, name: &str, descriptor: Descriptor) -> String {
        let (kind, rest) = name.split_once('/').expect("buildpacks/ or extensions/");
        let (dir, version) = rest.split_once('@').expect("id@version");
        let (kind, id) = (kind.trim_end_matches('s'), dir.replace('_', "/"));
        let Descriptor { api, top, own, rest } = descriptor;
        let text = format!("api = \"{api}\"\n{top}\n[{kind}]\nid = \"{id}\"\nversion = \"{version}\"\n{own}\n{rest}\n");
        let root = format!("{kind}s/{dir}/{version}");
        self.write(&format!("{root}/{kind}.toml"), text);
        root
    }

    /// A component buildpack: its `bin/detect`. The plan is its second argument.
    fn buildpack(&self, name: &str, detect: &str) {
        self.buildpack_with(name, PLAIN, detect);
    }

    fn buildpack_with(&self, name: &str, descriptor: Descriptor, detect: &str) {
        let root = self.describe(&format!("buildpacks/{name}"), descriptor);
        self.script(&format!("{root}/bin/detect"), detect);
    }

    /// A composite buildpack: an order as [`World::order`] takes it.
    fn composite(&self, name: &str, groups: &str) {
        let rest = order_text("order", groups);
        self.describe(&format!("buildpacks/{name}"), Descriptor { rest: &rest, ..PLAIN });
    }

    /// An extension: its `bin/detect` and `bin/generate`, unless they are empty. The output directory of the latter is
    /// its first argument.
    fn extension(&self, name: &str, detect: &str, generate: &str) {
        let root = self.describe(&format!("extensions/{name}"), PLAIN);
        for (executable, script) in [("detect", detect), ("generate", generate)] {
            if !script.is_empty() {
                self.script(&format!("{root}/bin/{executable}"), script);
            }
        }
    }

    /// Groups, `;` between them, `?` in front of what is optional; version 1 unless it says another.
    fn order(&self, groups: &str) -> &Self {
        self.write("order.toml", order_text("order", groups));
        self
    }

    fn order_with_extensions(&self, groups: &str, extensions: &str) -> &Self {
        self.write("order.toml", order_text("order", groups) + &order_text("order-extensions", extensions));
        self
    }

    fn run(&self) -> Result<Detected, DetectError> {
        LOGGED.with_borrow_mut(Vec::clear);
        self.printed.borrow_mut().clear();
        detect::run(&self.inputs, &mut *self.printed.borrow_mut())
    }

    /// A detection that passes: the names of the group, as the order writes them.
    fn detect(&self) -> Detected {
        self.run().unwrap_or_else(|error| panic!("{error}\n{}", self.printed()))
    }

    /// A detection that fails: the exit code, and the error with its causes.
    fn fail(&self) -> (u8, String) {
        failure(self.run().expect_err("it fails"))
    }

    fn generate(&self, detected: Detected) -> Result<Detected, GenerateError> {
        let inputs = self.inputs.clone();
        let inputs = generate::Inputs {
            platform_api: inputs.platform_api,
            app_dir: inputs.app_dir,
            extensions_dir: inputs.extensions_dir,
            platform_dir: inputs.platform_dir,
            build_config_dir: inputs.build_config_dir,
            generated_dir: self.path("layers/generated"),
            analyzed_path: inputs.analyzed_path,
            run_path: self.path("run.toml"),
            exec_env: inputs.exec_env,
            environment: inputs.environment,
        };
        LOGGED.with_borrow_mut(Vec::clear);
        self.printed.borrow_mut().clear();
        generate::run(&inputs, detected, &mut *self.printed.borrow_mut())
    }

    /// What was printed, without the path of this world.
    fn printed(&self) -> String {
        let printed = String::from_utf8_lossy(&self.printed.borrow()).into_owned();
        printed.replace(&format!("{}/", self.temp.path().display()), "")
    }

    /// All files beneath a directory, with a `/` after directories and ` -> target` after links.
    fn tree(&self, name: &str) -> Vec<String> {
        fn list(dir: &Path, prefix: &str, into: &mut Vec<String>) {
            for entry in fs::read_dir(dir).into_iter().flatten() {
                let entry = entry.expect("an entry");
                let name = format!("{prefix}{}", entry.file_name().display());
                match entry.file_type().expect("a type") {
                    kind if kind.is_dir() => {
                        into.push(format!("{name}/"));
                        list(&entry.path(), &format!("{name}/"), into);
                    }
                    kind if kind.is_symlink() => {
                        into.push(format!("{name} -> {}", fs::read_link(entry.path()).expect("a link").display()));
                    }
                    _ => into.push(name),
                }
            }
        }
        let mut found = Vec::new();
        list(&self.path(name), "", &mut found);
        found.sort();
        found
    }
}

/// The exit code, and the error with its causes.
fn failure(error: impl PhaseError) -> (u8, String) {
    (error.exit_code(), lifecycle_launch::console::chain(&error))
}

fn order_text(table: &str, groups: &str) -> String {
    let element = |name: &str| {
        let (optional, name) = name.strip_prefix('?').map_or((false, name), |name| (true, name));
        let (id, version) = name.split_once('@').unwrap_or((name, "1"));
        format!("[[{table}.group]]\nid = \"{id}\"\nversion = \"{version}\"\noptional = {optional}\n")
    };
    let group = |group: &str| format!("[[{table}]]\n{}", group.split_whitespace().map(element).collect::<String>());
    groups.split(';').map(group).collect()
}

/// The names of a group, as an order writes them; extensions first.
fn names(detected: &Detected) -> String {
    let elements = detected.group.group_extensions.iter().chain(&detected.group.group);
    let names = elements.map(|element| match element.version.as_str() {
        "1" => element.id.to_string(),
        _ => element.full_name(),
    });
    names.collect::<Vec<_>>().join(" ")
}

/// A script that writes a plan: `+a` provides, `-a` requires, `|` before an alternative.
fn plan(words: &str) -> String {
    let mut text = String::new();
    for (at, alternative) in words.split('|').enumerate() {
        let prefix = if at == 0 { "" } else { "or." };
        if at > 0 {
            text.push_str("[[or]]\n");
        }
        for word in alternative.split_whitespace() {
            let table = if word.starts_with('+') { "provides" } else { "requires" };
            text.push_str(&format!("[[{prefix}{table}]]\nname = \"{}\"\n", &word[1..]));
        }
    }
    format!("cat > \"$2\" <<'EOF'\n{text}EOF")
}

static LOGGER: Once = Once::new();

thread_local! {
    /// What this thread logged.
    static LOGGED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        LOGGED.with_borrow_mut(|logged| logged.push(format!("{}: {}", record.level(), record.args())));
    }

    fn flush(&self) {}
}

fn logged() -> Vec<String> {
    LOGGED.with_borrow(Clone::clone)
}

/// Whether a line is there, exactly.
fn has_line(text: &str, line: &str) -> bool {
    text.lines().any(|found| found == line)
}

/// Bytes of a path, for a script.
fn quoted(path: &Path) -> String {
    assert!(!path.as_os_str().as_bytes().contains(&b'\''));
    format!("'{}'", path.display())
}

//! The launch phase: from the launcher's name, arguments and environment to the app, which replaces it
//! (platform.md, *launcher*).

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use platform_spec::api::{BuildpackApiError, PlatformApi, PlatformApiError};
use platform_spec::exit;
use platform_spec::name::ProcessType;
use thiserror::Error;

use crate::env::{Env, EnvError, Stage};
use crate::exec_d::{self, ExecDError};
use crate::file::{self, LoadError, PathContext, PathError};
use crate::lookup::{self, LookupError};
use crate::process::{self, Buildpack, Metadata, Start, StartError};
use crate::{layers, shell};

/// All that the launcher knows.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// `CNB_PLATFORM_API`.
    pub api: PlatformApi,
    /// `CNB_LAYERS_DIR`, absolute.
    pub layers_dir: PathBuf,
    /// `CNB_APP_DIR`, absolute.
    pub app_dir: PathBuf,
    /// `CNB_EXEC_ENV`.
    pub exec_env: OsString,
    /// `CNB_PROCESS_TYPE`, which chooses nothing any more.
    pub process_type: Option<OsString>,
    /// The name that the launcher was started by.
    pub argv0: OsString,
    /// The user's arguments.
    pub args: Vec<OsString>,
    /// The launcher's own environment.
    pub env: Env,
}

/// Why no app was started.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// `CNB_PLATFORM_API` cannot be used.
    #[error(transparent)]
    PlatformApi(#[from] PlatformApiError),
    /// A buildpack's API cannot be used.
    #[error(transparent)]
    BuildpackApi(#[from] BuildpackApiError),
    /// `metadata.toml` cannot be read.
    #[error("read metadata")]
    Metadata(#[source] LoadError),
    /// There is nothing to start.
    #[error("launch: determine start command")]
    Start(#[from] StartError),
    /// The app directory or the process's working directory cannot be entered, or layers not be listed.
    #[error("launch")]
    Directory(#[from] PathError),
    /// A layer's variables cannot be applied.
    #[error("launch: modify env")]
    Env(#[from] EnvError),
    /// An exec.d executable failed.
    #[error("launch: exec.d")]
    ExecD(#[from] ExecDError),
    /// The command of a direct process cannot be found.
    #[error("launch: path lookup")]
    Lookup(#[from] LookupError),
    /// The launcher cannot replace itself by the app.
    #[error("launch: exec {}", .program.display())]
    Exec {
        /// What was to be started: the command, or bash.
        program: PathBuf,
        /// Why it was not.
        source: io::Error,
    },
}

impl LaunchError {
    /// The exit status (platform.md, *launcher*, *Outputs*).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::PlatformApi(_) => exit::INCOMPATIBLE_PLATFORM_API,
            Self::BuildpackApi(_) => exit::INCOMPATIBLE_BUILDPACK_API,
            Self::Metadata(_)
            | Self::Start(_)
            | Self::Directory(_)
            | Self::Env(_)
            | Self::ExecD(_)
            | Self::Lookup(_)
            | Self::Exec { .. } => exit::LAUNCH_ERROR,
        }
    }
}

/// Variables that are for the launcher and not for the app.
const NOT_FOR_APP: &[&str] =
    &["CNB_LAYERS_DIR", "CNB_APP_DIR", "CNB_PROCESS_TYPE", "CNB_PLATFORM_API", "CNB_DEPRECATION_MODE"];

/// Directories that the exporter puts into the image's `PATH`, so that processes can be started by their types.
const NOT_FOR_PATH: &[&str] = &["/cnb/process", "/cnb/lifecycle"];

impl Inputs {
    /// From the process's own name, arguments and variables. An empty variable is an unset one.
    pub fn new(mut argv: impl Iterator<Item = OsString>, env: Env) -> Result<Self, LaunchError> {
        let variable = |name| env.get(name).filter(|value| !value.is_empty());
        let directory = |name, default| {
            let path = Path::new(variable(name).unwrap_or(OsStr::new(default)));
            std::path::absolute(path).path("find", path)
        };
        let api = variable("CNB_PLATFORM_API").map(OsStr::to_string_lossy);
        Ok(Self {
            api: PlatformApi::parse(api.as_deref())?,
            layers_dir: directory("CNB_LAYERS_DIR", "/layers")?,
            app_dir: directory("CNB_APP_DIR", "/workspace")?,
            exec_env: variable("CNB_EXEC_ENV").unwrap_or(OsStr::new("production")).to_owned(),
            process_type: variable("CNB_PROCESS_TYPE").map(OsStr::to_owned),
            argv0: argv.next().unwrap_or_default(),
            args: argv.collect(),
            env,
        })
    }
}

/// Becomes the app; returns only if that fails.
pub fn run(inputs: Inputs) -> Result<Infallible, LaunchError> {
    let Inputs { api, layers_dir, app_dir, exec_env, process_type, argv0, args, mut env } = inputs;
    let metadata: Metadata = file::load(&layers_dir.join("config/metadata.toml")).map_err(LaunchError::Metadata)?;
    let buildpacks = metadata.checked_buildpacks()?;
    if let Some(kind) = process_type {
        let kind = kind.display();
        log::warn!("CNB_PROCESS_TYPE is not supported in Platform API {api}");
        log::warn!("Run with ENTRYPOINT '{kind}' to invoke the '{kind}' process type");
    }
    let kind = metadata.type_for(&argv0);
    let start = process::choose(&metadata, &buildpacks, api, kind, &exec_env, &args)?;

    enter(&app_dir)?;
    for_app(&mut env);
    let layers = find_layers(&layers_dir, &buildpacks)?;
    add_layers(&mut env, &layers, start.kind.as_ref())?;
    for executable in hooks(&layers, "exec.d", start.kind.as_ref())? {
        for (name, value) in exec_d::run(&executable, &env)? {
            env.set(name, value);
        }
    }
    if start.direct {
        exec_directly(&start, &env)
    } else {
        let mut profiles = hooks(&layers, "profile.d", start.kind.as_ref())?;
        profiles.extend(app_profile(&app_dir)?);
        exec_in_shell(&start, &env, &profiles, &app_dir, argv0)
    }
}

fn enter(dir: &Path) -> Result<(), PathError> {
    std::env::set_current_dir(dir).path("change to directory", dir)
}

/// Takes out what is the launcher's (platform.md, *Launch Environment*).
fn for_app(env: &mut Env) {
    for name in NOT_FOR_APP {
        env.remove(name);
    }
    if let Some(path) = env.get("PATH") {
        let dirs = path.as_bytes().split(|byte| *byte == b':');
        let kept: Vec<_> = dirs.filter(|dir| !NOT_FOR_PATH.iter().any(|ours| ours.as_bytes() == *dir)).collect();
        env.set("PATH", OsString::from_vec(kept.join(&b':')));
    }
}

/// Directories of layers, of each buildpack a list, in the order of the build.
fn find_layers(layers_dir: &Path, buildpacks: &[Buildpack]) -> Result<Vec<Vec<PathBuf>>, PathError> {
    buildpacks.iter().map(|buildpack| layers::of_buildpack(layers_dir, &buildpack.id)).collect()
}

/// What layers say about the environment (buildpack.md, *Environment*): of each buildpack first the root directories of
/// all layers, then the variables.
fn add_layers(env: &mut Env, layers: &[Vec<PathBuf>], kind: Option<&ProcessType>) -> Result<(), EnvError> {
    for of_buildpack in layers {
        for layer in of_buildpack {
            env.add_root_dirs(layer, Stage::Launch)?;
        }
        for layer in of_buildpack {
            env.add_layer_env(&layer.join("env"))?;
            let at_launch = layer.join("env.launch");
            if env.add_layer_env_if_there(&at_launch)?
                && let Some(kind) = kind
            {
                env.add_layer_env(&at_launch.join(kind.as_str()))?;
            }
        }
    }
    Ok(())
}

/// The files in `exec.d` or `profile.d` of all layers, in the order of the build, and after them those in the
/// subdirectories named like the process's type.
fn hooks(layers: &[Vec<PathBuf>], dir: &str, kind: Option<&ProcessType>) -> Result<Vec<PathBuf>, PathError> {
    let (mut files, mut of_kind) = (Vec::new(), Vec::new());
    for layer in layers.iter().flatten() {
        let dir = layer.join(dir);
        let Some(found) = layers::files(&dir)? else { continue };
        files.extend(found);
        if let Some(kind) = kind {
            of_kind.extend(layers::files(&dir.join(kind.as_str()))?.unwrap_or_default());
        }
    }
    files.append(&mut of_kind);
    Ok(files)
}

/// `<app>/.profile`, which may be anything that can be read.
fn app_profile(app_dir: &Path) -> Result<Option<PathBuf>, PathError> {
    let path = app_dir.join(".profile");
    match fs::metadata(&path) {
        Ok(found) => Ok((!found.is_dir()).then_some(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).path("stat", &path),
    }
}

fn exec_directly(start: &Start, env: &Env) -> Result<Infallible, LaunchError> {
    // First the directory: a relative command is the process's, and so relative to where the process is.
    if let Some(dir) = &start.working_dir {
        enter(dir)?;
    }
    let name = start.command.first().map_or(OsStr::new(""), OsString::as_os_str);
    let program = lookup::find(name, env.get("PATH"))?;
    exec(&program, &[start.command.as_slice(), &start.args].concat(), env)
}

fn exec_in_shell(
    start: &Start,
    env: &Env,
    profiles: &[PathBuf],
    app_dir: &Path,
    argv0: OsString,
) -> Result<Infallible, LaunchError> {
    let script = shell::script(profiles, start.working_dir.as_deref().unwrap_or(app_dir), 1 + start.args.len());
    let bash = ["bash".into(), "-c".into(), script, argv0, start.command.join(OsStr::new(" "))];
    exec(Path::new(shell::BASH), &[bash.as_slice(), &start.args].concat(), env)
}

/// Replaces this process.
///
/// The standard library does it, because it sets signals back: SIGPIPE, ignored in a Rust program, would stay ignored in
/// the app. But for the last step it would call `execvp`, and with some C libraries that has /bin/sh read a file which the
/// system cannot run, such as one for another architecture. So that step is ours.
fn exec(program: &Path, argv: &[OsString], env: &Env) -> Result<Infallible, LaunchError> {
    let failed = |source| LaunchError::Exec { program: program.to_owned(), source };
    let text = |bytes: Vec<u8>| CString::new(bytes).map_err(|error| failed(error.into()));
    let path = text(program.as_os_str().as_bytes().to_vec())?;
    let argv = argv.iter().map(|arg| text(arg.as_bytes().to_vec())).collect::<Result<Vec<_>, _>>()?;
    let variables = env.iter().map(|(name, value)| text([name.as_bytes(), b"=", value.as_bytes()].concat()));
    let variables = variables.collect::<Result<Vec<_>, _>>()?;
    let mut command = Command::new(program);
    let last_step =
        move || nix::unistd::execve(&path, &argv, &variables).map(|never| match never {}).map_err(Into::into);
    // SAFETY: `exec` runs the closure in this process, not in a fork of it, so it may do whatever it likes.
    unsafe { command.pre_exec(last_step) };
    Err(failed(command.exec()))
}

#[cfg(test)]
mod tests {
    use platform_spec::api::BuildpackApi;
    use platform_spec::name::BuildpackId;

    use super::*;

    fn vars(pairs: &[(&str, &str)]) -> Env {
        Env::from_vars(pairs.iter().map(|(name, value)| (name.into(), value.into())))
    }

    fn inputs(pairs: &[(&str, &str)], argv: &[&str]) -> Result<Inputs, LaunchError> {
        Inputs::new(argv.iter().map(OsString::from), vars(pairs))
    }

    #[test]
    fn inputs_have_defaults_and_an_empty_variable_is_none() {
        for pairs in [
            &[("CNB_PLATFORM_API", "0.12")][..],
            &[
                ("CNB_PLATFORM_API", "0.12"),
                ("CNB_LAYERS_DIR", ""),
                ("CNB_APP_DIR", ""),
                ("CNB_EXEC_ENV", ""),
                ("CNB_PROCESS_TYPE", ""),
            ],
        ] {
            let inputs = inputs(pairs, &["launcher", "--", "x"]).expect("inputs");
            assert_eq!(inputs.api.to_string(), "0.12");
            assert_eq!((&*inputs.layers_dir, &*inputs.app_dir), (Path::new("/layers"), Path::new("/workspace")));
            assert_eq!((inputs.exec_env, inputs.process_type), ("production".into(), None));
            assert_eq!((inputs.argv0, inputs.args), ("launcher".into(), vec!["--".into(), "x".into()]));
        }
    }

    #[test]
    fn inputs_come_from_variables() {
        let pairs = [
            ("CNB_PLATFORM_API", "0.15"),
            ("CNB_LAYERS_DIR", "layers/"),
            ("CNB_APP_DIR", "/app"),
            ("CNB_EXEC_ENV", "test"),
            ("CNB_PROCESS_TYPE", "web"),
        ];
        let inputs = inputs(&pairs, &[]).expect("inputs");
        let here = std::env::current_dir().expect("a directory");
        assert_eq!((inputs.layers_dir, &*inputs.app_dir), (here.join("layers"), Path::new("/app")));
        assert_eq!((inputs.exec_env, inputs.process_type), ("test".into(), Some("web".into())));
        assert_eq!((inputs.argv0, inputs.args, inputs.env), ("".into(), vec![], vars(&pairs)));
    }

    #[test]
    fn no_platform_api_no_launch() {
        for (pairs, text) in [
            (
                &[][..],
                "get platform API version; please set 'CNB_PLATFORM_API' to specify the desired platform API version",
            ),
            (&[("CNB_PLATFORM_API", "x")], "parse platform API 'x'"),
            (
                &[("CNB_PLATFORM_API", "0.6")],
                "set platform API: platform API version '0.6' is incompatible with the lifecycle",
            ),
        ] {
            let error = inputs(pairs, &["launcher"]).expect_err("no API");
            assert_eq!((error.to_string(), error.exit_code()), (text.to_owned(), 11));
        }
    }

    #[test]
    fn the_launchers_own_variables_and_directories_are_taken_out() {
        let mut env = vars(&[
            ("CNB_LAYERS_DIR", "/layers"),
            ("CNB_APP_DIR", "/workspace"),
            ("CNB_PROCESS_TYPE", "web"),
            ("CNB_PLATFORM_API", "0.12"),
            ("CNB_DEPRECATION_MODE", "quiet"),
            ("CNB_EXEC_ENV", "test"),
            ("CNB_STACK_ID", "kept"),
            ("HOME", "/root"),
        ]);
        for_app(&mut env);
        assert_eq!(env, vars(&[("CNB_EXEC_ENV", "test"), ("CNB_STACK_ID", "kept"), ("HOME", "/root")]));
        for (before, after) in [
            ("/cnb/process:/cnb/lifecycle:/bin:/usr/bin", "/bin:/usr/bin"),
            ("/bin:/cnb/process:/usr/bin:/cnb/lifecycle", "/bin:/usr/bin"),
            ("/cnb/process", ""),
            ("/cnb/process/:/cnb/processes:/x/cnb/process::", "/cnb/process/:/cnb/processes:/x/cnb/process::"),
            ("", ""),
        ] {
            let mut env = vars(&[("PATH", before)]);
            for_app(&mut env);
            assert_eq!(env, vars(&[("PATH", after)]));
        }
    }

    /// Two buildpacks with layers, by their files.
    fn layers(files: &[&str]) -> (tempfile::TempDir, Vec<Vec<PathBuf>>) {
        let dir = tempfile::tempdir().expect("a directory");
        for name in files {
            let (name, content) = name.split_once('=').unwrap_or((name, ""));
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            fs::write(path, content).expect("written");
        }
        let buildpack = |id: &str| Buildpack {
            id: BuildpackId::new(id).expect("an id"),
            api: BuildpackApi::parse("0.12", "").expect("an API"),
        };
        // The order is that of the build, not of the names; one buildpack has no directory.
        let buildpacks = [buildpack("z/first"), buildpack("none"), buildpack("a")];
        let found = find_layers(dir.path(), &buildpacks).expect("listed");
        (dir, found)
    }

    #[test]
    fn variables_come_in_the_order_of_the_build() {
        let (dir, layers) = layers(&[
            "z_first/l2/bin/x",
            "z_first/l2/env/V.append=2",
            "z_first/l1/env/V.append=1",
            "z_first/l1/env/PATH.prepend=/one:",
            "z_first/l1/env.launch/V.append=L",
            "z_first/l1/env.launch/web/V.append=W",
            "z_first/l1/env.launch/worker/V.append=no",
            "z_first/l1/env.build/V.append=no",
            "a/l/env/V.append=a",
            "a/l/bin/x",
            "other/l/env/V=no",
        ]);
        let at = |name: &str| dir.path().join(name).display().to_string();
        for (kind, value) in [(Some("web"), "1LW2a"), (None, "1L2a")] {
            let kind = kind.map(|kind| ProcessType::new(kind).expect("a type"));
            let mut env = Env::default();
            add_layers(&mut env, &layers, kind.as_ref()).expect("applied");
            // Of one buildpack all `bin` directories come first, so that variables of the first layer see them.
            let path = format!("{}:/one:{}", at("a/l/bin"), at("z_first/l2/bin"));
            assert_eq!(env, vars(&[("PATH", &path), ("V", value)]));
        }
    }

    #[test]
    fn hooks_of_all_layers_come_before_those_of_the_type() {
        let (dir, layers) = layers(&[
            "z_first/l2/exec.d/b",
            "z_first/l2/exec.d/a",
            "z_first/l1/exec.d/z",
            "z_first/l1/exec.d/web/t",
            "z_first/l1/exec.d/worker/no",
            "z_first/l1/profile.d/no",
            "a/l/exec.d/a",
            "a/l/exec.d/web/t",
            // An executable in the place of the directory is one of all processes.
            "a/m/exec.d/web",
        ]);
        let kind = ProcessType::new("web").expect("a type");
        let names = |kind| -> Vec<String> {
            let files = hooks(&layers, "exec.d", kind).expect("listed");
            files.iter().map(|path| path.strip_prefix(dir.path()).expect("in it").display().to_string()).collect()
        };
        let all =
            ["z_first/l1/exec.d/z", "z_first/l2/exec.d/a", "z_first/l2/exec.d/b", "a/l/exec.d/a", "a/m/exec.d/web"];
        assert_eq!(names(None), all);
        assert_eq!(names(Some(&kind)), [&all[..], &["z_first/l1/exec.d/web/t", "a/l/exec.d/web/t"]].concat());
    }
}

//! What is to be started: chosen from the processes that buildpacks defined, or made of the user's arguments
//! (platform.md, *launcher*, *Inputs*). Pure: no file and no variable is read here.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use platform_spec::api::{BuildpackApi, BuildpackApiError, PlatformApi};
use platform_spec::metadata::Process;
use platform_spec::name::{BuildpackId, ProcessType};
use serde::Deserialize;
use thiserror::Error;

/// `<layers>/config/metadata.toml`, as far as it matters at launch. The rest is not looked at, so that nothing wrong
/// there can keep an app from starting (platform.md, *metadata.toml*).
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Metadata {
    /// The buildpacks that built the app, in the order of the build.
    #[serde(default)]
    pub buildpacks: Vec<RecordedBuildpack>,
    /// The processes that they defined.
    #[serde(default)]
    pub processes: Vec<Process>,
}

/// `[[buildpacks]]` as found: its API is not checked yet.
#[derive(Clone, Debug, Deserialize)]
pub struct RecordedBuildpack {
    /// Its id.
    pub id: BuildpackId,
    /// The Buildpack API that it was written for.
    #[serde(default)]
    pub api: String,
}

/// A buildpack whose API this launcher speaks.
#[derive(Clone, Debug)]
pub struct Buildpack {
    /// Its id.
    pub id: BuildpackId,
    /// The Buildpack API that it was written for.
    pub api: BuildpackApi,
}

impl Metadata {
    /// The buildpacks with their APIs checked; the first that is not supported is the error.
    pub fn checked_buildpacks(&self) -> Result<Vec<Buildpack>, BuildpackApiError> {
        let check = |buildpack: &RecordedBuildpack| {
            let api = BuildpackApi::parse(&buildpack.api, &format!("buildpack '{}'", buildpack.id))?;
            Ok(Buildpack { id: buildpack.id.clone(), api })
        };
        self.buildpacks.iter().map(check).collect()
    }

    /// The process type that the launcher was started as: the last element of its `$0`, if any process has that type.
    pub fn type_for(&self, argv0: &OsStr) -> Option<&ProcessType> {
        let name = argv0.as_bytes().rsplit(|byte| *byte == b'/').next()?;
        self.processes.iter().map(|process| &process.kind).find(|kind| kind.as_str().as_bytes() == name)
    }
}

/// A start command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The type of the process; `None` if the user made it.
    pub kind: Option<ProcessType>,
    /// The executable and, on Platform APIs that do not set them apart, arguments. Not empty.
    pub command: Vec<OsString>,
    /// Arguments that come after those in `command`.
    pub args: Vec<OsString>,
    /// Started without a shell.
    pub direct: bool,
    /// Where it is started, if not in the app directory.
    pub working_dir: Option<PathBuf>,
}

/// Why there is no start command.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StartError {
    /// Started under no type's name and without arguments.
    #[error("when there is no default process a command is required")]
    NothingToStart,
    /// The type has processes, but none for this execution environment.
    #[error("process type {kind} was not found for the execution environment '{exec_env}'")]
    NotForExecEnv {
        /// The type.
        kind: ProcessType,
        /// The execution environment, shortened to what can be printed.
        exec_env: String,
    },
    /// The process has an empty list as its command.
    #[error("no command provided for process type '{0}'")]
    NoCommand(ProcessType),
    /// What the user's arguments do depends on the API of a buildpack that is not listed.
    #[error("process type {kind} is of buildpack '{buildpack}', which the metadata do not list")]
    UnknownBuildpack {
        /// The process's type.
        kind: ProcessType,
        /// The id that it names.
        buildpack: String,
    },
}

/// Decides what to start. `kind` is the type that the launcher was started as, `user` its arguments.
pub fn choose(
    metadata: &Metadata,
    buildpacks: &[Buildpack],
    api: PlatformApi,
    kind: Option<&ProcessType>,
    exec_env: &OsStr,
    user: &[OsString],
) -> Result<Start, StartError> {
    let Some(kind) = kind else { return of_user(user) };
    let process =
        metadata.processes.iter().find(|process| process.kind == *kind && is_for(process, api, exec_env)).ok_or_else(
            || StartError::NotForExecEnv { kind: kind.clone(), exec_env: exec_env.to_string_lossy().into_owned() },
        )?;
    of_buildpack(process, buildpacks, api, user)
}

/// Whether a process is for an execution environment; before Platform API 0.15 every one is.
fn is_for(process: &Process, api: PlatformApi, exec_env: &OsStr) -> bool {
    !api.has_exec_env()
        || process.exec_env.is_empty()
        || process.exec_env.iter().any(|supported| supported == "*" || supported.as_str() == exec_env)
}

/// `-- <command> <args>…` is started directly, `<command> <args>…` by a shell.
fn of_user(user: &[OsString]) -> Result<Start, StartError> {
    let (direct, command, args) = match user {
        [] => return Err(StartError::NothingToStart),
        [dashes, command, args @ ..] if dashes == "--" => (true, command, args),
        [command, args @ ..] => (false, command, args),
    };
    Ok(Start { kind: None, command: vec![command.clone()], args: args.to_vec(), direct, working_dir: None })
}

/// A buildpack's process with the user's arguments: appended, or instead of the ones that it allows to be replaced.
fn of_buildpack(
    process: &Process,
    buildpacks: &[Buildpack],
    api: PlatformApi,
    user: &[OsString],
) -> Result<Start, StartError> {
    let list = |texts: &[String]| texts.iter().map(OsString::from).collect::<Vec<_>>();
    let mut command = list(process.command.entries());
    let own = list(process.args.as_deref().unwrap_or_default());
    if command.is_empty() {
        return Err(StartError::NoCommand(process.kind.clone()));
    }
    let args = if !api.replaces_arguments() {
        [own.as_slice(), user].concat()
    } else if command.len() > 1 {
        let always = command.split_off(1);
        [always.as_slice(), if user.is_empty() { &own } else { user }].concat()
    } else if user.is_empty() {
        own
    } else {
        let buildpack = buildpacks.iter().find(|buildpack| buildpack.id.as_str() == process.buildpack_id);
        let buildpack = buildpack.ok_or_else(|| StartError::UnknownBuildpack {
            kind: process.kind.clone(),
            buildpack: process.buildpack_id.clone(),
        })?;
        if buildpack.api.has_replaceable_arguments() { user.to_vec() } else { [own.as_slice(), user].concat() }
    };
    let working_dir = (!process.working_dir.is_empty()).then(|| PathBuf::from(&process.working_dir));
    Ok(Start { kind: Some(process.kind.clone()), command, args, direct: process.direct, working_dir })
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"
        labels = "of a wrong type, but not ours"
        [[buildpacks]]
        id = "old/one"
        api = "0.8"
        [[buildpacks]]
        id = "new"
        api = "0.9"
        [[processes]]
        type = "append"
        command = ["run"]
        args = ["own"]
        direct = false
        buildpack-id = "old/one"
        [[processes]]
        type = "replace"
        command = ["run"]
        args = ["own"]
        direct = true
        buildpack-id = "new"
        working-dir = "/elsewhere"
        [[processes]]
        type = "always"
        command = ["run", "always"]
        args = ["own"]
        direct = true
        buildpack-id = "old/one"
        [[processes]]
        type = "bare"
        command = "run"
        buildpack-id = "new"
        [[processes]]
        type = "empty"
        command = []
        buildpack-id = "new"
        [[processes]]
        type = "orphan"
        command = ["run"]
        args = ["own"]
        buildpack-id = "unknown"
        [[processes]]
        type = "web.v1"
        command = ["for production"]
        exec-env = ["production"]
        [[processes]]
        type = "web.v1"
        command = ["for test"]
        exec-env = ["development", "test"]
        [[processes]]
        type = "any"
        command = ["for any"]
        exec-env = ["*"]
    "#;

    fn api(text: &str) -> PlatformApi {
        PlatformApi::parse(Some(text)).expect("supported")
    }

    fn os(texts: &[&str]) -> Vec<OsString> {
        texts.iter().map(OsString::from).collect()
    }

    fn metadata() -> Metadata {
        platform_spec::text::from_toml(METADATA).expect("metadata")
    }

    fn start(platform: &str, argv0: &str, exec_env: &str, user: &[&str]) -> Result<Start, StartError> {
        let metadata = metadata();
        let buildpacks = metadata.checked_buildpacks().expect("supported");
        let kind = metadata.type_for(OsStr::new(argv0));
        choose(&metadata, &buildpacks, api(platform), kind, OsStr::new(exec_env), &os(user))
    }

    #[test]
    fn user_arguments_are_appended_or_replace() {
        // Platform API, type, user's arguments, command, arguments.
        type Case =
            (&'static str, &'static str, &'static [&'static str], &'static [&'static str], &'static [&'static str]);
        let cases: &[Case] = &[
            ("0.9", "append", &["u"], &["run"], &["own", "u"]),
            ("0.9", "replace", &["u"], &["run"], &["own", "u"]),
            ("0.9", "replace", &[], &["run"], &["own"]),
            ("0.9", "always", &["u"], &["run", "always"], &["own", "u"]),
            ("0.9", "bare", &["u"], &["run"], &["u"]),
            ("0.10", "append", &["u"], &["run"], &["own", "u"]),
            ("0.10", "append", &[], &["run"], &["own"]),
            ("0.10", "replace", &["u", "v"], &["run"], &["u", "v"]),
            ("0.10", "replace", &[], &["run"], &["own"]),
            ("0.10", "always", &["u"], &["run"], &["always", "u"]),
            ("0.10", "always", &[], &["run"], &["always", "own"]),
            ("0.15", "bare", &["u"], &["run"], &["u"]),
            ("0.15", "orphan", &[], &["run"], &["own"]),
        ];
        for (platform, kind, user, command, args) in cases {
            let start = start(platform, kind, "production", user).expect("a start command");
            assert_eq!((start.command, start.args), (os(command), os(args)), "{platform} {kind} {user:?}");
        }
    }

    #[test]
    fn a_process_keeps_its_strategy_and_directory() {
        let replace = start("0.15", "/cnb/process/replace", "", &[]).expect("a start command");
        assert_eq!((replace.direct, replace.working_dir), (true, Some(PathBuf::from("/elsewhere"))));
        let append = start("0.15", "append", "", &[]).expect("a start command");
        assert_eq!((append.direct, append.working_dir), (false, None));
        assert_eq!(append.kind, Some(ProcessType::new("append").expect("a type")));
    }

    #[test]
    fn the_user_makes_a_process() {
        // The launcher's name, user's arguments; direct, command, arguments.
        type Case = (&'static str, &'static [&'static str], bool, &'static str, &'static [&'static str]);
        let cases: &[Case] = &[
            ("/cnb/lifecycle/launcher", &["a b"], false, "a b", &[]),
            ("launcher", &["a", "--", "b"], false, "a", &["--", "b"]),
            ("launcher", &["--", "a", "b c"], true, "a", &["b c"]),
            ("launcher", &["--", "--"], true, "--", &[]),
            // Nothing after it: then it is a command as any other.
            ("launcher", &["--"], false, "--", &[]),
            ("launcher", &[""], false, "", &[]),
            ("append/", &["a"], false, "a", &[]),
            ("/append/x", &["a"], false, "a", &[]),
            ("web", &["a"], false, "a", &[]),
            ("APPEND", &["a"], false, "a", &[]),
            ("", &["append"], false, "append", &[]),
        ];
        for (argv0, user, direct, command, args) in cases {
            let expected =
                Start { kind: None, command: os(&[command]), args: os(args), direct: *direct, working_dir: None };
            assert_eq!(start("0.15", argv0, "", user), Ok(expected), "{argv0} {user:?}");
        }
    }

    #[test]
    fn the_first_process_of_the_type_that_is_for_the_execution_environment() {
        // Platform API, type, execution environment; command, None: there is none.
        type Case = (&'static str, &'static str, &'static str, Option<&'static str>);
        let cases: &[Case] = &[
            ("0.15", "web.v1", "production", Some("for production")),
            ("0.15", "web.v1", "test", Some("for test")),
            ("0.15", "web.v1", "development", Some("for test")),
            ("0.15", "web.v1", "other", None),
            ("0.15", "web.v1", "*", None),
            ("0.15", "any", "other", Some("for any")),
            ("0.15", "bare", "other", Some("run")),
            ("0.14", "web.v1", "test", Some("for production")),
        ];
        for (platform, kind, exec_env, command) in cases {
            let found = start(platform, kind, exec_env, &[]).map(|start| start.command);
            match command {
                Some(command) => assert_eq!(found, Ok(os(&[command])), "{platform} {kind} {exec_env}"),
                None => assert_eq!(
                    found.expect_err("none").to_string(),
                    format!("process type {kind} was not found for the execution environment '{exec_env}'")
                ),
            }
        }
    }

    #[test]
    fn what_cannot_be_started_is_said() {
        for (argv0, user, text) in [
            ("launcher", &[][..], "when there is no default process a command is required"),
            ("empty", &[], "no command provided for process type 'empty'"),
            ("orphan", &["u"], "process type orphan is of buildpack 'unknown', which the metadata do not list"),
        ] {
            assert_eq!(start("0.15", argv0, "", user).expect_err("no command").to_string(), text);
        }
    }

    #[test]
    fn buildpacks_that_cannot_be_used_are_named() {
        for (buildpack, text) in [
            (
                "api = '0.6'",
                "set API for buildpack 'a/b': buildpack API version '0.6' is incompatible with the lifecycle",
            ),
            ("api = 'x'", "parse buildpack API 'x' for buildpack 'a/b'"),
            ("", "parse buildpack API '<nil>' for buildpack 'a/b'"),
        ] {
            let metadata: Metadata =
                platform_spec::text::from_toml(&format!("[[buildpacks]]\nid = 'a/b'\n{buildpack}")).expect("metadata");
            assert_eq!(metadata.checked_buildpacks().expect_err("unusable").to_string(), text);
        }
    }

    #[test]
    fn names_that_climb_are_refused() {
        for toml in [
            "[[buildpacks]]\nid = '../x'",
            "[[processes]]\ntype = '..'\ncommand = []",
            "[[processes]]\ntype = 'a/b'\ncommand = []",
        ] {
            platform_spec::text::from_toml::<Metadata>(toml).expect_err(toml);
        }
    }
}

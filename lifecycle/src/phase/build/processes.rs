//! Processes: what a buildpack may write, by its API, and what becomes of the processes of all of them
//! (buildpack.md, *launch.toml*).

use platform_spec::api::BuildpackApi;
use platform_spec::launch::{Command, LaunchProcess};
use platform_spec::metadata::Process;
use platform_spec::name::{BuildpackId, NameError, ProcessType};
use thiserror::Error;

/// A process in a `launch.toml` that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProcessError {
    /// Its type cannot be the name of an entry point.
    #[error(transparent)]
    Type(#[from] NameError),
    /// There is nothing to start.
    #[error("process '{0}' has no command")]
    NoCommand(ProcessType),
    /// Its command is a list where the Buildpack API has a string.
    #[error("the command of process '{0}' is not a string, as the buildpack's API asks for")]
    CommandIsList(ProcessType),
    /// Its command is a string where the Buildpack API has a list.
    #[error("the command of process '{0}' is not an array, as the buildpack's API asks for")]
    CommandIsString(ProcessType),
    /// It has the key `direct`, which its Buildpack API has not.
    #[error("process '{0}': process.direct is not supported on this buildpack version")]
    Direct(ProcessType),
    /// A buildpack may choose one default.
    #[error("multiple default process types aren't allowed")]
    Defaults,
}

/// Checks the processes that a buildpack of this API wrote.
pub fn of_buildpack(
    id: &BuildpackId,
    api: BuildpackApi,
    written: Vec<LaunchProcess>,
) -> Result<Vec<Process>, ProcessError> {
    if written.iter().filter(|process| process.default).count() > 1 {
        return Err(ProcessError::Defaults);
    }
    written.into_iter().map(|process| one(id, api, process)).collect()
}

fn one(id: &BuildpackId, api: BuildpackApi, written: LaunchProcess) -> Result<Process, ProcessError> {
    let LaunchProcess { kind, command, args, direct, default, mut working_dir, exec_env } = written;
    let kind = ProcessType::new(kind)?;
    let has_only_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !kind.as_str().bytes().all(has_only_usual) {
        log::warn!(
            "process type {:?} of buildpack {id} has characters other than letters, digits, '.', '_' and '-'",
            kind.as_str()
        );
    }
    let command = command.filter(|command| command.entries().first().is_some_and(|first| !first.is_empty()));
    let direct = match (&command, api.has_command_array()) {
        (_, true) if direct.is_some() => return Err(ProcessError::Direct(kind)),
        (None, _) => return Err(ProcessError::NoCommand(kind)),
        (Some(Command::One(_)), true) => return Err(ProcessError::CommandIsString(kind)),
        (Some(Command::List(_)), false) => return Err(ProcessError::CommandIsList(kind)),
        (Some(Command::List(_)), true) => true,
        (Some(Command::One(_)), false) => direct.unwrap_or_default(),
    };
    if !working_dir.is_empty() && !api.has_working_dir() {
        log::warn!(
            "process working directory isn't supported in this buildpack api version. \
             Ignoring working directory for process '{kind}'"
        );
        working_dir.clear();
    }
    let entries = command.map(|command| command.entries().to_vec()).unwrap_or_default();
    let command = Command::List(entries);
    Ok(Process { kind, command, args, direct, default, buildpack_id: id.to_string(), working_dir, exec_env })
}

/// The processes of all buildpacks so far.
#[derive(Debug, Default)]
pub struct Processes {
    /// Whether a type may have one process for each of several execution environments.
    by_exec_env: bool,
    processes: Vec<Process>,
    default: Option<ProcessType>,
}

impl Processes {
    /// None yet. `by_exec_env`: whether the platform starts processes by execution environment.
    pub fn new(by_exec_env: bool) -> Self {
        Self { by_exec_env, ..Self::default() }
    }

    /// Adds those of the next buildpack. A process takes the place of earlier ones of its type, unless they are for
    /// other execution environments.
    pub fn add(&mut self, of_buildpack: Vec<Process>) {
        let mut redefined = None;
        for process in of_buildpack {
            let by_exec_env = self.by_exec_env;
            let replaces = |other: &Process| {
                other.kind == process.kind && !(by_exec_env && are_apart(&other.exec_env, &process.exec_env))
            };
            let was_default = self.processes.iter().any(|other| replaces(other) && other.default);
            self.processes.retain(|other| !replaces(other));
            if process.default {
                self.default = Some(process.kind.clone());
                redefined = None;
            } else if was_default && self.default.as_ref() == Some(&process.kind) {
                self.default = None;
                redefined = Some(process.kind.clone());
            }
            self.processes.push(process);
        }
        if let Some(kind) = redefined {
            log::warn!("redefining the following default process type with a process not marked as default: {kind}");
        }
    }

    /// All of them, sorted by type, none marked as default; and the type that is the default.
    pub fn finish(self) -> (Vec<Process>, Option<ProcessType>) {
        let mut processes = self.processes;
        processes.sort_by(|a, b| a.kind.cmp(&b.kind));
        for process in &mut processes {
            process.default = false;
        }
        (processes, self.default)
    }
}

/// Whether no execution environment is in both lists. An empty list is all of them, and so is `*`.
fn are_apart(some: &[String], others: &[String]) -> bool {
    let is_all = |list: &[String]| list.is_empty() || list.iter().any(|exec_env| exec_env == "*");
    !is_all(some) && !is_all(others) && !some.iter().any(|exec_env| others.contains(exec_env))
}

#[cfg(test)]
mod tests {
    use platform_spec::launch::Launch;

    use super::*;

    fn parse(api: &str, text: &str) -> Result<Vec<Process>, String> {
        let launch: Launch = platform_spec::text::from_toml(text).map_err(|error| error.to_string())?;
        let id = BuildpackId::new("a/b").expect("an id");
        let api = BuildpackApi::parse(api, "").expect("an API");
        of_buildpack(&id, api, launch.processes).map_err(|error| error.to_string())
    }

    fn shown(processes: &[Process]) -> Vec<String> {
        let one = |process: &Process| {
            let Process { kind, command, args, direct, default, working_dir, exec_env, .. } = process;
            let args = args.as_ref().map_or("-".to_owned(), |args| args.join(" "));
            format!(
                "{kind}:{}:{args}:{direct}:{default}:{working_dir}:{}",
                command.entries().join(" "),
                exec_env.join(",")
            )
        };
        processes.iter().map(one).collect()
    }

    #[test]
    fn what_a_process_may_say_depends_on_the_buildpacks_api() {
        let bad = Err;
        for (api, keys, expected) in [
            ("0.7", "command = 'x y'", Ok("web:x y:-:false:false::")),
            ("0.7", "command = 'x'\nworking-dir = '/w'", Ok("web:x:-:false:false::")),
            ("0.8", "command = 'x'\nworking-dir = '/w'", Ok("web:x:-:false:false:/w:")),
            ("0.8", "command = 'x'\ndirect = true\nargs = ['a', 'b']", Ok("web:x:a b:true:false::")),
            ("0.8", "command = 'x'\nargs = []\ndefault = true", Ok("web:x::false:true::")),
            (
                "0.8",
                "command = ['x']",
                bad("the command of process 'web' is not a string, as the buildpack's API asks for"),
            ),
            ("0.8", "", bad("process 'web' has no command")),
            ("0.8", "command = ''", bad("process 'web' has no command")),
            ("0.9", "command = ['x', 'y']\nargs = ['z']", Ok("web:x y:z:true:false::")),
            ("0.12", "command = ['x']\nexec-env = ['test']", Ok("web:x:-:true:false::test")),
            (
                "0.9",
                "command = 'x'",
                bad("the command of process 'web' is not an array, as the buildpack's API asks for"),
            ),
            (
                "0.9",
                "command = ['x']\ndirect = true",
                bad("process 'web': process.direct is not supported on this buildpack version"),
            ),
            (
                "0.9",
                "command = ['x']\ndirect = false",
                bad("process 'web': process.direct is not supported on this buildpack version"),
            ),
            ("0.9", "command = []", bad("process 'web' has no command")),
            ("0.9", "command = ['', 'x']", bad("process 'web' has no command")),
            ("0.9", "", bad("process 'web' has no command")),
        ] {
            let text = format!("[[processes]]\ntype = 'web'\n{keys}\n");
            let found = parse(api, &text).map(|processes| shown(&processes).join(";"));
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{api}: {keys}");
        }
    }

    #[test]
    fn types_must_be_names_of_entry_points() {
        for (kind, is_good) in [
            ("web", true),
            ("web.v1", true),
            ("...", true),
            // Outside of the specification, and taken with a warning.
            ("rails console", true),
            ("", false),
            (".", false),
            ("..", false),
            ("a/b", false),
            ("../x", false),
            ("a:b", false),
            ("a\\\\b", false),
        ] {
            let found = parse("0.10", &format!("[[processes]]\ntype = \"{kind}\"\ncommand = ['x']"));
            assert_eq!(found.is_ok(), is_good, "{kind}: {found:?}");
        }
    }

    #[test]
    fn one_default_a_buildpack() {
        let process = |kind: &str| format!("[[processes]]\ntype = '{kind}'\ncommand = ['x']\ndefault = true\n");
        assert!(parse("0.10", &process("a")).is_ok());
        assert_eq!(
            parse("0.10", &(process("a") + &process("b"))),
            Err("multiple default process types aren't allowed".to_owned())
        );
    }

    /// Adds processes, given as `type[*][=exec-env,…]` (`*`: default) a buildpack; shows what comes out.
    fn combine(by_exec_env: bool, buildpacks: &[&[&str]]) -> (String, Option<String>) {
        let mut all = Processes::new(by_exec_env);
        for (index, buildpack) in buildpacks.iter().enumerate() {
            let process = |text: &&str| {
                let (head, exec_env) = text.split_once('=').unwrap_or((text, ""));
                let kind = head.trim_end_matches('*');
                Process {
                    kind: ProcessType::new(kind).expect("a type"),
                    command: Command::List(vec![index.to_string()]),
                    args: None,
                    direct: true,
                    default: head.ends_with('*'),
                    buildpack_id: String::new(),
                    working_dir: String::new(),
                    exec_env: exec_env.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect(),
                }
            };
            all.add(buildpack.iter().map(process).collect());
        }
        let (processes, default) = all.finish();
        assert!(processes.iter().all(|process| !process.default));
        let shown: Vec<_> = processes
            .iter()
            .map(|process| format!("{}{}{}", process.kind, process.command.entries()[0], process.exec_env.join("+")))
            .collect();
        (shown.join(" "), default.map(|kind| kind.to_string()))
    }

    #[test]
    fn the_last_definition_counts_and_so_does_the_last_default() {
        for (buildpacks, processes, default) in [
            (&[&["web", "a"][..], &["b"]][..], "a0 b1 web0", None),
            (&[&["web*"], &["web*"]], "web1", Some("web")),
            (&[&["web*"], &["worker*"]], "web0 worker1", Some("worker")),
            (&[&["web*"], &["web"]], "web1", None),
            (&[&["web*"], &["web", "worker*"]], "web1 worker1", Some("worker")),
            (&[&["web*"], &["worker*"], &["web"]], "web2 worker1", Some("worker")),
            (&[&["web*"], &["web"], &["web*"]], "web2", Some("web")),
            (&[&["web", "web*"]], "web0", Some("web")),
            (&[&["web=production"], &["web=test"]], "web1test", None),
            (&[&["b", "a-b", "a", "B"]], "B0 a0 a-b0 b0", None),
            (&[], "", None),
        ] {
            assert_eq!(
                combine(false, buildpacks),
                (processes.to_owned(), default.map(str::to_owned)),
                "{buildpacks:?}"
            );
        }
    }

    #[test]
    fn processes_for_other_execution_environments_stay() {
        for (buildpacks, processes, default) in [
            (&[&["web*=production"][..], &["web=test"]][..], "web0production web1test", Some("web")),
            (&[&["web*=production", "web=test"], &["web=test,dev"]], "web0production web1test+dev", Some("web")),
            (&[&["web*=production", "web=test"], &["web=production"]], "web0test web1production", None),
            (&[&["web*=production"], &["web"]], "web1", None),
            (&[&["web"], &["web=test"]], "web1test", None),
            (&[&["web=*"], &["web=test"]], "web1test", None),
        ] {
            assert_eq!(combine(true, buildpacks), (processes.to_owned(), default.map(str::to_owned)), "{buildpacks:?}");
        }
    }
}

//! Running a process and measuring what it took: wall time, processor time, and the most memory that it had resident.
//!
//! What a process has resident when it becomes another program counts as the other's too. So the bench starts itself
//! again as a small process ([`serve`]) that starts the one that is measured.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

use crate::root::enter;

/// The argument that makes the bench the small process.
pub const MEASURE: &str = "--measure";

/// What is run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Run {
    /// The root directory.
    pub root: PathBuf,
    /// Directories, and where they are seen in it.
    pub volumes: Vec<(PathBuf, PathBuf)>,
    /// The program, as it is called in the root directory, and its arguments.
    pub command: Vec<String>,
    /// Its environment.
    pub environment: Vec<(String, String)>,
    /// Where its output goes.
    pub log: PathBuf,
}

/// What it took.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Usage {
    /// Seconds from start to end.
    pub wall: f64,
    /// Seconds of processor time, of user and system.
    pub cpu: f64,
    /// The most memory resident, in MiB.
    pub memory: f64,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} s wall, {:.2} s CPU, {:.1} MiB", self.wall, self.cpu, self.memory)
    }
}

impl Run {
    /// Runs it.
    ///
    /// # Panics
    ///
    /// If it cannot be run or fails, with what it printed.
    pub fn measure(&self) -> Usage {
        let own = std::env::current_exe().expect("a path");
        let run = serde_json::to_string(self).expect("JSON");
        let output = Command::new(own).arg(MEASURE).arg(run).output().expect("started");
        let printed = String::from_utf8_lossy(&output.stdout);
        match serde_json::from_str(&printed) {
            Ok(usage) if output.status.success() => usage,
            _ => panic!(
                "{:?} failed: {}{}\n{}",
                self.command,
                printed,
                String::from_utf8_lossy(&output.stderr),
                self.printed()
            ),
        }
    }

    /// What it printed.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// The small process: runs what `run` says and gives what it took, as JSON.
///
/// # Errors
///
/// What went wrong, in words.
pub fn serve(run: &str) -> Result<String, String> {
    let run: Run = serde_json::from_str(run).map_err(|error| error.to_string())?;
    let log = || File::options().append(true).create(true).open(&run.log).map_err(|error| error.to_string());
    let (program, arguments) = run.command.split_first().ok_or("no command")?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(run.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(log()?).stderr(log()?);
    if run.root != Path::new("/") {
        enter(&mut command, &run.root, &run.volumes, crate::USER);
    }
    let start = Instant::now();
    let status = command.status().map_err(|error| format!("{program}: {error}"))?;
    let wall = start.elapsed();
    // It is the only child that this process ever had.
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|error| error.to_string())?;
    if !status.success() {
        return Err(format!("{program}: {status}"));
    }
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let usage = Usage {
        wall: wall.as_secs_f64(),
        cpu: seconds(usage.user_time()) + seconds(usage.system_time()),
        memory: usage.max_rss() as f64 / 1024.0,
    };
    serde_json::to_string(&usage).map_err(|error| error.to_string())
}

/// The medians of what commands take to run, in turn, as often as `times` says.
pub fn alternate(commands: &mut [Command], times: usize) -> Vec<Duration> {
    let mut taken = vec![Vec::with_capacity(times); commands.len()];
    for _ in 0..times {
        for (command, taken) in commands.iter_mut().zip(&mut taken) {
            let start = Instant::now();
            let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
            taken.push(start.elapsed());
            assert!(status.success(), "{command:?}: {status}");
        }
    }
    taken
        .into_iter()
        .map(|mut taken| {
            taken.sort_unstable();
            taken[taken.len() / 2]
        })
        .collect()
}

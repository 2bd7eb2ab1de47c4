//! The processes that buildpacks start, to the last one.
//!
//! A [`Family`] is all that was started through it, with all descendants. To know them we adopt orphans
//! (`PR_SET_CHILD_SUBREAPER`), and so have to reap them. When the last buildpack has ended nothing that one of them
//! left behind may go on to change layers or to watch the phases that hold credentials: [`Family::end`] stops it.
//! Processes that were our children before are somebody else's, and left alone.
//!
//! There can be one family at a time, and while a command of it runs nothing else in this process may wait for a
//! child.

use std::collections::HashMap;
use std::fs;
use std::io::{self, PipeReader, Read, Write};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;

use crate::buildpack::process;

/// How long a process that is asked to end may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long we wait for a killed process to be gone.
const BURIAL: Duration = Duration::from_secs(2);

/// How often we look.
const INTERVAL: Duration = Duration::from_millis(20);

/// Where what buildpacks print goes.
pub type Output = Box<dyn Write + Send>;

/// Processes started through it, and their descendants.
pub struct Family {
    output: Arc<Mutex<Output>>,
    /// What was there before, by process id and start time.
    before: HashMap<i32, u64>,
    was_subreaper: bool,
    /// Threads that copy what background processes print.
    listeners: Vec<JoinHandle<()>>,
}

impl Family {
    /// Begins one whose members print to `output`.
    pub fn begin(output: Output) -> Self {
        let was_subreaper = prctl::get_child_subreaper().unwrap_or_default();
        if let Err(error) = prctl::set_child_subreaper(true) {
            log::debug!("Orphaned processes cannot be adopted: {}", error.desc());
        }
        let us = own_pid();
        let all = processes();
        let before = all.iter().filter(|(pid, _)| is_descendant(**pid, us, &all, &HashMap::new()));
        let before = before.map(|(pid, process)| (*pid, process.start)).collect();
        Self { output: Arc::new(Mutex::new(output)), before, was_subreaper, listeners: Vec::new() }
    }

    /// Runs a command to its end, and copies what it prints as it comes. A background process that it leaves behind is
    /// not waited for; what that prints is copied on until it ends.
    pub fn run(&mut self, command: Command) -> io::Result<ExitStatus> {
        let output = Arc::clone(&self.output);
        let ended = process::run_with(command, wait_and_reap, |bytes| print(&output, bytes))?;
        if let Some(pipe) = ended.pipe {
            match thread::Builder::new().spawn(move || listen(pipe, &output)) {
                Ok(listener) => self.listeners.push(listener),
                Err(error) => log::debug!(
                    "Not listening to background processes any more: {}",
                    lifecycle_launch::console::chain(&error)
                ),
            }
        }
        Ok(ended.status)
    }

    /// Stops what is still running: SIGTERM, and SIGKILL for what has not ended 5 seconds later.
    pub fn end(mut self) {
        self.stop_all();
        let deadline = Instant::now() + BURIAL;
        for listener in self.listeners.drain(..) {
            // It ends with the last holder of its pipe. A process that could not be killed must not hold us.
            while !listener.is_finished() && Instant::now() < deadline {
                thread::sleep(INTERVAL);
            }
        }
        if !self.was_subreaper {
            let _ = prctl::set_child_subreaper(false);
        }
    }

    fn stop_all(&self) {
        let mut asked: HashMap<i32, u64> = HashMap::new();
        let start = Instant::now();
        loop {
            let left = self.left_behind();
            if left.is_empty() {
                return;
            }
            let is_over = start.elapsed() >= PATIENCE;
            if start.elapsed() >= PATIENCE + BURIAL {
                for (pid, process) in left {
                    log::warn!("Process {pid} ({}), which a buildpack left running, cannot be stopped", process.name);
                }
                return;
            }
            for (pid, process) in left {
                if asked.insert(pid, process.start) != Some(process.start) {
                    log::info!("Stopping process {pid} ({}), which a buildpack left running", process.name);
                    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
                } else if is_over {
                    log::debug!("Killing process {pid} ({})", process.name);
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
            thread::sleep(INTERVAL);
        }
    }

    /// Descendants that were started since the beginning and run. Those that have ended are reaped.
    fn left_behind(&self) -> Vec<(i32, Process)> {
        let us = own_pid();
        let all = processes();
        let mut left = Vec::new();
        for (pid, process) in &all {
            if !is_descendant(*pid, us, &all, &self.before) {
                continue;
            }
            if !process.has_ended {
                left.push((*pid, process.clone()));
            } else if process.parent == us {
                let _ = waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG));
            }
        }
        left.sort_by_key(|(pid, _)| *pid);
        left
    }
}

fn print(output: &Mutex<Output>, bytes: &[u8]) {
    // Who listens to us may have gone; the build goes on.
    let _ = output.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes);
}

fn listen(mut pipe: PipeReader, output: &Mutex<Output>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => print(output, buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Waits for a child, and meanwhile reaps the orphans that we adopted: a build may leave more of them than a
/// container's limit of processes allows zombies.
fn wait_and_reap(child: &mut Child) -> io::Result<ExitStatus> {
    let own = i32::try_from(child.id()).map(Pid::from_raw);
    loop {
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
            Ok(status) => match status.pid() {
                Some(pid) if own != Ok(pid) => {
                    let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
                }
                Some(_) | None => return child.wait(),
            },
            Err(Errno::EINTR) => {}
            Err(_) => return child.wait(),
        }
    }
}

/// A process as `/proc` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    parent: i32,
    /// Clock ticks since the machine was started.
    start: u64,
    /// It is a zombie.
    has_ended: bool,
    /// Its name; control characters are escaped.
    name: String,
}

impl Process {
    /// Reads `/proc/<pid>/stat`. The name is in parentheses and may have some in it.
    fn parse(stat: &[u8]) -> Option<Self> {
        let stat = String::from_utf8_lossy(stat);
        let (_, rest) = stat.split_once('(')?;
        let (name, rest) = rest.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        // The 22nd field; the state is the third.
        let start = fields.nth(17)?.parse().ok()?;
        let name = name.escape_debug().to_string();
        Some(Self { parent, start, has_ended: matches!(state, "Z" | "X"), name })
    }
}

/// All processes that can be seen, by id. None if `/proc` is not there or is another namespace's.
fn processes() -> HashMap<i32, Process> {
    let is_ours = fs::read_link("/proc/self").is_ok_and(|pid| pid.as_os_str() == own_pid().to_string().as_str());
    let Some(entries) = is_ours.then(|| fs::read_dir("/proc").ok()).flatten() else { return HashMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, Process::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)?))).collect()
}

fn own_pid() -> i32 {
    Pid::this().as_raw()
}

/// Whether a process descends from `us`, and neither it nor anything between is one of `apart` (process id to start
/// time).
fn is_descendant(pid: i32, us: i32, all: &HashMap<i32, Process>, apart: &HashMap<i32, u64>) -> bool {
    let mut at = pid;
    // Ids may be used again while we look, so that there may be a circle; no line is longer than this.
    for _ in 0..=all.len() {
        let Some(process) = all.get(&at) else { return false };
        if at == us {
            return pid != us;
        }
        if apart.get(&at) == Some(&process.start) {
            return false;
        }
        at = process.parent;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(parent: i32) -> Process {
        Process { parent, start: 1, has_ended: false, name: String::new() }
    }

    #[test]
    fn processes_are_read_whatever_they_are_called() {
        let rest = "7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 10 11";
        for (stat, expected) in [
            (format!("12 (sleep) S 3 {rest}"), Some((3, false, "sleep"))),
            (format!("12 (a) b) (c) Z 3 {rest}"), Some((3, true, "a) b) (c"))),
            (format!("12 (x\n\x1b[31m) R 3 {rest}"), Some((3, false, "x\\n\\u{1b}[31m"))),
            ("12 (sleep) S 3 7".to_owned(), None),
            (String::new(), None),
        ] {
            let found = Process::parse(stat.as_bytes());
            let expected = expected.map(|(parent, has_ended, name)| Process {
                parent,
                start: 4711,
                has_ended,
                name: name.to_owned(),
            });
            assert_eq!(found, expected, "{stat:?}");
        }
        assert!(processes().contains_key(&own_pid()));
    }

    #[test]
    fn descendants_are_told_from_strangers_and_from_those_before() {
        let all = HashMap::from([
            (1, process(0)),
            (10, process(1)),
            (20, process(10)),
            (21, process(20)),
            (30, process(10)),
            (31, process(30)),
            (40, process(1)),
            (50, process(51)),
            (51, process(50)),
        ]);
        let before = HashMap::from([(30, 1), (20, 2)]);
        for (pid, expected) in
            [(10, false), (20, true), (21, true), (30, false), (31, false), (40, false), (50, false), (99, false)]
        {
            assert_eq!(is_descendant(pid, 10, &all, &before), expected, "{pid}");
        }
    }
}

//! Killing phases at moments in time.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::lifecycle::Phase;

/// One test at a time, so that the moments are what they should be.
static ALONE: Mutex<()> = Mutex::new(());

/// Kills a phase again and again, ever later.
///
/// When a phase begins to write is seen from outside; how long it writes is measured on runs that nobody kills. The
/// moments are spread evenly over that time.
#[derive(Debug)]
pub struct Killer {
    /// How many moments there are.
    moments: u32,
    /// How long the last runs wrote that were not killed.
    took: VecDeque<Duration>,
    /// How much earlier than planned, since others had ended by then.
    earlier: u32,
    tries: u32,
    killed: u32,
    _alone: MutexGuard<'static, ()>,
}

impl Killer {
    /// For so many moments.
    pub fn new(moments: u32) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Self { moments, took: VecDeque::new(), earlier: 0, tries: 0, killed: 0, _alone: alone }
    }

    fn start(phase: Phase) -> Child {
        phase.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started")
    }

    /// Waits until it writes, or has ended.
    fn wait_until(child: &mut Child, writes: &impl Fn() -> bool) {
        while !writes() && child.try_wait().expect("a child").is_none() {
            sleep(Duration::from_micros(100));
        }
    }

    /// Lets a phase run to its end, which has to be a good one.
    ///
    /// # Panics
    ///
    /// If not.
    #[track_caller]
    pub fn spare(&mut self, phase: Phase, writes: impl Fn() -> bool) {
        let mut child = Self::start(phase);
        Self::wait_until(&mut child, &writes);
        let begun = Instant::now();
        let output = child.wait_with_output().expect("ended");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.took.push_back(begun.elapsed());
        if self.took.len() > 5 {
            self.took.pop_front();
        }
    }

    /// Whether there is a moment left at which none was killed yet. Some end before they are killed, since no two runs take
    /// the same time; then the moment's turn comes again.
    pub fn goes_on(&mut self) -> bool {
        self.tries += 1;
        self.killed < self.moments && self.tries <= 3 * self.moments
    }

    /// Kills a phase when the next moment's part of the time has passed in which it writes.
    ///
    /// # Panics
    ///
    /// If it ends otherwise.
    #[track_caller]
    pub fn kill(&mut self, phase: Phase, writes: impl Fn() -> bool) {
        let window = self.took.iter().min().copied().expect("some were spared before");
        let mut child = Self::start(phase);
        Self::wait_until(&mut child, &writes);
        sleep(window * self.killed / self.moments / (self.earlier + 10) * 10);
        child.kill().expect("killed");
        let output = child.wait_with_output().expect("ended");
        let status: ExitStatus = output.status;
        assert!(status.success() || status.signal() == Some(9), "{}", String::from_utf8_lossy(&output.stderr));
        if status.success() {
            self.earlier += 1;
        } else {
            self.killed += 1;
        }
    }

    /// How many were killed.
    pub fn killed(&self) -> u32 {
        self.killed
    }

    /// Nearly all moments had their turn.
    ///
    /// # Panics
    ///
    /// If not.
    #[track_caller]
    pub fn has_killed(&self) {
        assert!(self.killed * 10 >= self.moments * 9, "only {} of {} had not ended before", self.killed, self.moments);
    }
}

//! Running an executable of a buildpack or extension: nothing on its standard input, and one pipe for what it prints,
//! so that its standard output and error keep their order (buildpack.md, *Buildpack Interface*).
//!
//! The pipe is made here, after privileges were dropped, so that it belongs to the user who runs the executable: a
//! child may open `/dev/stderr`, which it cannot on a pipe that root made.

use std::fs::File;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::file::PathError;

/// After the executable has ended and what it left in the pipe was read, that much silence is the end, although somebody
/// still holds the pipe. It lets `exec > >(tee build.log)`, which a shell does not wait for, finish its last lines.
const SILENCE: Duration = Duration::from_millis(300);

/// The longest that what others still print is listened to after the executable has ended.
const LONGEST: Duration = Duration::from_secs(2);

/// The most of it that is read, in bytes: a background process may print for ever.
const MOST: usize = 1 << 20;

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// The pipe, if a background process still holds it.
    pub pipe: Option<PipeReader>,
}

/// Runs a command to its end, and hands over what it prints as it comes.
///
/// The end is that of the command itself: a background process that it leaves behind may still hold the pipe, and is
/// not waited for. The pipe is closed then.
pub fn run(command: Command, printed: impl FnMut(&[u8])) -> io::Result<ExitStatus> {
    run_with(command, Child::wait, printed).map(|ended| ended.status)
}

/// As [`run`], but the pipe is given back if somebody still holds it. `wait` is how to wait for the command itself.
pub(crate) fn run_with(
    mut command: Command,
    wait: impl FnOnce(&mut Child) -> io::Result<ExitStatus> + Send,
    mut printed: impl FnMut(&[u8]),
) -> io::Result<Ended> {
    keep_descriptors();
    let (mut pipe, writer) = io::pipe()?;
    command.stdin(nothing()?).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    // Our copies of the writing end, without which the pipe would never end.
    drop(command);
    let (ended, ends) = io::pipe()?;
    thread::scope(|scope| {
        let wait = |child: &mut Child| {
            let status = wait(child);
            drop(ends);
            status
        };
        match thread::Builder::new().spawn_scoped(scope, || wait(&mut child)) {
            Ok(waiter) => {
                let copied = copy(&mut pipe, &ended, &mut printed);
                // Closed unless it is handed on: a command must not wait for a reader who gave up.
                let pipe = matches!(copied, Ok(true)).then_some(pipe);
                let status =
                    waiter.join().map_err(|_| io::Error::other("the thread that waited for it panicked"))??;
                copied.map(|_| Ended { status, pipe })
            }
            Err(error) => Err(error),
        }
    })
}

/// An input that is at its end. Opened here, since an error to open it within the start of a command could not be told from
/// one of the command itself.
fn nothing() -> io::Result<File> {
    File::open(NOTHING)
        .map_err(|error| io::Error::other(PathError { operation: "open", path: NOTHING.into(), source: error }))
}

const NOTHING: &str = "/dev/null";

/// Marks every descriptor but the standard ones close-on-exec. Ours are; those that we inherited need not be, and what
/// our own caller holds is not the executable's.
fn keep_descriptors() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    for entry in entries.flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()) else { continue };
        if number > 2 {
            // SAFETY: the borrow ends within the call, which fails if the descriptor is closed meanwhile; if it was
            // opened anew it is one of ours, and has the flag already.
            let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
            let _ = rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC);
        }
    }
}

/// What is still to be read after the executable has ended.
struct Rest {
    /// Bytes that were in the pipe then: read in any case.
    due: usize,
    /// Bytes more that are read at most.
    most: usize,
    /// Until when.
    until: Instant,
}

/// Copies until the pipe ends, or `ended` does and what was printed before is copied; whether the pipe is still held.
fn copy(pipe: &mut PipeReader, ended: &PipeReader, printed: &mut impl FnMut(&[u8])) -> io::Result<bool> {
    let mut buffer = vec![0; 64 << 10];
    let mut rest: Option<Rest> = None;
    loop {
        let timeout = match &rest {
            None => PollTimeout::NONE,
            Some(rest) if rest.due > 0 => PollTimeout::ZERO,
            Some(rest) => {
                let left = rest.until.saturating_duration_since(Instant::now());
                if left.is_zero() || rest.most == 0 {
                    return Ok(true);
                }
                PollTimeout::try_from(left.min(SILENCE)).unwrap_or(PollTimeout::ZERO)
            }
        };
        let mut fds = vec![PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        if rest.is_none() {
            fds.push(PollFd::new(ended.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let happened = |at: usize| fds.get(at).and_then(PollFd::any).unwrap_or_default();
        let (readable, has_ended) = (happened(0), happened(1));
        drop(fds);
        if has_ended {
            let due = rustix::io::ioctl_fionread(&*pipe)?;
            let due = usize::try_from(due).unwrap_or(usize::MAX);
            rest = Some(Rest { due, most: MOST, until: Instant::now() + LONGEST });
        }
        if readable {
            let read = pipe.read(&mut buffer)?;
            if read == 0 {
                return Ok(false);
            }
            printed(buffer.get(..read).unwrap_or_default());
            if let Some(rest) = &mut rest {
                let others = read.saturating_sub(rest.due);
                rest.due = rest.due.saturating_sub(read);
                rest.most = rest.most.saturating_sub(others);
            }
        } else if rest.is_some() && !has_ended {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::time::{Duration, Instant};

    use super::*;

    fn sh(script: &str) -> (ExitStatus, String) {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        let mut printed = Vec::new();
        let status = run(command, |bytes| printed.extend_from_slice(bytes)).expect("run");
        (status, String::from_utf8_lossy(&printed).into_owned())
    }

    #[test]
    fn output_and_error_keep_their_order_and_input_is_empty() {
        let (status, printed) = sh("echo one; echo two >&2; cat; echo three; exit 7");
        assert_eq!((status.code(), printed.as_str()), (Some(7), "one\ntwo\nthree\n"));
    }

    #[test]
    fn it_may_print_more_than_a_pipe_holds() {
        let (status, printed) = sh("head -c 3000000 /dev/zero | tr '\\0' x; echo end");
        assert!(status.success());
        assert_eq!((printed.len(), printed.ends_with("xend\n")), (3_000_004, true));
    }

    #[test]
    fn a_background_process_is_not_waited_for() {
        let start = Instant::now();
        let (status, printed) = sh("sleep 20 & echo $!; exit 3");
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        let sleeper = nix::unistd::Pid::from_raw(printed.trim().parse().expect("a process id"));
        nix::sys::signal::kill(sleeper, nix::sys::signal::Signal::SIGKILL).expect("it was still running");
        assert_eq!(status.code(), Some(3));
    }

    #[test]
    fn a_background_process_that_prints_for_ever_is_not_read_for_ever() {
        let (status, printed) = sh("yes >&2 & echo $!; sleep 0.1");
        assert!(status.success());
        // `yes` ended by SIGPIPE when the pipe was closed; all that is to be shown is that we are here.
        assert!(printed.contains("y\ny\n"));
    }

    #[test]
    fn an_executable_that_cannot_be_run_is_an_error() {
        let error = run(Command::new("/no/such/executable"), |_| {}).expect_err("there is none");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_signal_is_told() {
        assert_eq!(sh("kill -9 $$").0.signal(), Some(9));
    }
}

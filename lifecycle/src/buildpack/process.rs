//! Running an executable of a buildpack or extension: nothing on its standard input, and one pipe for what it prints,
//! so that its standard output and error keep their order (buildpack.md, *Buildpack Interface*).

use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// After the executable has ended, at most this much is still read, in bytes: more than a pipe holds, but not all that
/// a background process would go on to print.
const REST: usize = 1 << 20;

/// Runs a command to its end, and hands over what it prints as it comes.
///
/// The end is that of the command itself: a background process that it leaves behind may still hold the pipe, and is
/// not waited for.
pub fn run(mut command: Command, mut printed: impl FnMut(&[u8])) -> io::Result<ExitStatus> {
    let (mut pipe, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    // Our copies of the writing end, without which the pipe would never end.
    drop(command);
    let (ended, ends) = io::pipe()?;
    thread::scope(|scope| {
        let wait = |child: &mut Child| {
            let status = child.wait();
            drop(ends);
            status
        };
        match thread::Builder::new().spawn_scoped(scope, || wait(&mut child)) {
            Ok(waiter) => {
                copy(&mut pipe, &ended, &mut printed)?;
                drop(pipe);
                waiter.join().map_err(|_| io::Error::other("the thread that waited for it panicked"))?
            }
            Err(error) => Err(error),
        }
    })
}

/// Copies until the pipe ends or `ended` does.
fn copy(pipe: &mut PipeReader, ended: &PipeReader, printed: &mut impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut rest = None;
    loop {
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN), PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
        let timeout = if rest.is_some() { PollTimeout::ZERO } else { PollTimeout::NONE };
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let [readable, has_ended] = fds.map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        if readable {
            let read = pipe.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            printed(buffer.get(..read).unwrap_or_default());
            if let Some(rest) = &mut rest {
                *rest = REST.min(*rest).saturating_sub(read);
            }
        }
        match rest {
            None if has_ended => rest = Some(REST),
            Some(_) if !readable => return Ok(()),
            Some(0) => return Ok(()),
            _ => {}
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

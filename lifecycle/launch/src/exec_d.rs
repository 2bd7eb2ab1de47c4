//! exec.d: executables of buildpacks that compute environment variables just before the app starts
//! (buildpack.md, *Exec.d*).
//!
//! One is started with a pipe as descriptor 3, to which it writes TOML: names and strings. It has ended when it has exited: what
//! a process that it left behind still writes is not waited for.

use std::collections::BTreeMap;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use thiserror::Error;

use crate::env::{Env, is_name};

/// Why an exec.d executable gave no variables.
#[derive(Debug, Error)]
pub enum ExecDError {
    /// It could not be started, or its output not be read.
    #[error("execute {}", .path.display())]
    Start {
        /// The executable.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It said that it failed.
    #[error("execute {}: {}", .path.display(), end(*.status))]
    Failed {
        /// The executable.
        path: PathBuf,
        /// How it ended.
        status: ExitStatus,
    },
    /// What it wrote to descriptor 3 is not TOML with strings.
    #[error("read output of {}: {reason}", .path.display())]
    Output {
        /// The executable.
        path: PathBuf,
        /// What is wrong, without the text itself, which may be secret.
        reason: String,
    },
}

fn end(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// The descriptor on which an executable writes variables.
const DESCRIPTOR: RawFd = 3;

/// More than any system takes as the environment of a process, in bytes.
const LARGEST: usize = 8 << 20;

/// While an executable runs, but has closed nothing and written nothing: how often to see whether it has exited, in
/// milliseconds. It only delays the start of an app whose executable left a process behind that holds the pipe.
const INTERVAL: u16 = 20;

/// Runs an executable in the current directory and returns the variables that it wants to be set.
pub fn run(path: &Path, env: &Env) -> Result<BTreeMap<String, String>, ExecDError> {
    let start = |source| ExecDError::Start { path: path.to_owned(), source };
    let wrong = |reason| ExecDError::Output { path: path.to_owned(), reason };
    let (reader, writer) = io::pipe().map_err(start)?;
    let mut child = spawn(path, env, writer).map_err(start)?;
    let (output, status) = collect(&mut child, reader).map_err(start)?;
    if output.len() > LARGEST {
        return Err(wrong(format!("larger than {} MiB", LARGEST >> 20)));
    }
    if !status.success() {
        return Err(ExecDError::Failed { path: path.to_owned(), status });
    }
    parse(output).map_err(wrong)
}

fn spawn(path: &Path, env: &Env, writer: PipeWriter) -> io::Result<Child> {
    let mut command = Command::new(path);
    command.env_clear().envs(env.iter()).stdin(Stdio::null());
    let descriptor = writer.as_raw_fd();
    // SAFETY: between fork and exec only async-signal-safe functions may be called: `hand_over` makes one system call and
    // allocates nothing. It sets descriptor 3, which can be none that std needs in the child (the pipe that tells the
    // parent of a failed exec): 3 is taken since the pipe was made, by one of its ends or by an older file.
    unsafe { command.pre_exec(move || hand_over(descriptor)) };
    command.spawn()
    // Here `writer` is closed, so that the end of the pipe is seen when the executable closes it.
}

/// In the child: makes the pipe its descriptor 3, which stays open over exec.
fn hand_over(pipe: RawFd) -> io::Result<()> {
    let result = if pipe == DESCRIPTOR {
        // Copied onto itself it would stay close-on-exec.
        // SAFETY: a system call on an integer; the descriptor is open, because the parent waits for the child's exec.
        unsafe { libc::fcntl(pipe, libc::F_SETFD, 0) }
    } else {
        // SAFETY: as above; and nothing in the child uses what descriptor 3 was before.
        unsafe { libc::dup2(pipe, DESCRIPTOR) }
    };
    Errno::result(result).map(drop).map_err(io::Error::from)
}

/// Reads the pipe until the child has exited or, before that, nobody holds the other end any more; then waits for it.
/// A child that writes more than [`LARGEST`] bytes is killed.
fn collect(child: &mut Child, mut reader: PipeReader) -> io::Result<(Vec<u8>, ExitStatus)> {
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut output = Vec::new();
    loop {
        // First whether it has exited, then what is in the pipe: so all that it wrote is read.
        let exited = child.try_wait()?;
        if drain(&mut reader, &mut output)? {
            return Ok((output, child.wait()?));
        }
        if let Some(status) = exited {
            return Ok((output, status));
        }
        if output.len() > LARGEST {
            child.kill()?;
            return Ok((output, child.wait()?));
        }
        let mut readable = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
        match poll(&mut readable, PollTimeout::from(INTERVAL)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads what is in the pipe; true at its end.
fn drain(reader: &mut PipeReader, output: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 8192];
    while output.len() <= LARGEST {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(length) => output.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Reads exec.d output: top-level names and strings (buildpack.md, *Exec.d Output*).
fn parse(output: Vec<u8>) -> Result<BTreeMap<String, String>, String> {
    let text = String::from_utf8(output)
        .map_err(|error| format!("not UTF-8 after {} bytes", error.utf8_error().valid_up_to()))?;
    let variables: BTreeMap<String, String> =
        platform_spec::text::from_toml(&text).map_err(|error| error.without_content().to_string())?;
    for (name, value) in &variables {
        if !is_name(name.as_bytes()) {
            return Err(format!("{name:?} is not a name of an environment variable"));
        }
        if value.contains('\0') {
            return Err(format!("the value of {name} contains a NUL byte"));
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// An executable script. It is written by another process: a file that this one has open for writing, or a child of
    /// another test's that was forked meanwhile, cannot be executed.
    fn script(dir: &tempfile::TempDir, text: &str) -> PathBuf {
        let path = dir.path().join("script");
        let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\" && chmod 755 \"$0\"";
        let status = Command::new("/bin/sh").args(["-c", write]).arg(&path).arg(text).status().expect("a shell");
        assert!(status.success());
        path
    }

    fn run_script(text: &str) -> Result<Vec<(String, String)>, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = script(&dir, text);
        let env = Env::from_vars([("SEEN".into(), "from the launcher".into())]);
        match run(&path, &env) {
            Ok(variables) => Ok(variables.into_iter().collect()),
            Err(error) => Err(crate::console::chain(&error).replace(&path.display().to_string(), "X")),
        }
    }

    #[test]
    fn variables_come_from_descriptor_3() {
        let long = "a".repeat(100_000);
        let wanted = |pairs: &[(&str, &str)]| -> Vec<_> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        for (text, expected) in [
            ("true", wanted(&[])),
            ("echo 'B = \"2\"' >&3; echo \"A = '1'\" >&3", wanted(&[("A", "1"), ("B", "2")])),
            ("echo \"A = '$SEEN ${HOME-no home}'\" >&3", wanted(&[("A", "from the launcher no home")])),
            (
                "PATH=/bin:/usr/bin; if read x; then exit 1; fi; echo 'A = \"no input\"' >&3",
                wanted(&[("A", "no input")]),
            ),
            ("echo \"A = '''\" >&3; echo \"b\\\"'''\" >&3", wanted(&[("A", "b\"")])),
            // More than a pipe holds.
            (&format!("echo 'A = \"{long}\"' >&3"), wanted(&[("A", &long)])),
            // It ends when it exits, not when it closes the pipe.
            ("echo 'A = \"1\"' >&3; exec 3>&-; /bin/sleep 0.05", wanted(&[("A", "1")])),
        ] {
            assert!(run_script(text) == Ok(expected), "{}", &text[..text.len().min(80)]);
        }
    }

    #[test]
    fn what_fails_is_said_and_values_are_not() {
        for (text, reason) in [
            ("exit 3", "execute X: exit status 3"),
            ("echo 'A = \"1\"' >&3; exec 3>&-; /bin/sleep 0.05; exit 1", "execute X: exit status 1"),
            ("kill -9 $$", "execute X: killed by signal 9"),
            ("echo 'A = 1' >&3", "read output of X: line 1, column 5: key 'A': expected a string"),
            ("echo >&3; echo 'A = [\"x\"]' >&3", "read output of X: line 2, column 5: key 'A': expected a string"),
            ("echo '[A]' >&3", "read output of X: line 1, column 1: key 'A': expected a string"),
            (
                "echo 'A = hidden' >&3",
                "read output of X: line 1, column 5: string values must be quoted, expected literal string",
            ),
            ("printf 'A = \"\\377\"' >&3", "read output of X: not UTF-8 after 5 bytes"),
            ("echo '\"A=B\" = \"x\"' >&3", "read output of X: \"A=B\" is not a name of an environment variable"),
            ("echo '\"\" = \"x\"' >&3", "read output of X: \"\" is not a name of an environment variable"),
            ("printf '%s' 'A = \"\\u0000\"' >&3", "read output of X: the value of A contains a NUL byte"),
            ("/usr/bin/head -c 9000000 /dev/zero >&3", "read output of X: larger than 8 MiB"),
        ] {
            assert_eq!(run_script(text), Err(reason.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_started_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let plain = dir.path().join("plain");
        std::fs::write(&plain, "").expect("written");
        for (path, reason) in [(dir.path().join("none"), "no such file or directory"), (plain, "permission denied")] {
            let error = run(&path, &Env::default()).expect_err("not started");
            assert_eq!(crate::console::chain(&error), format!("execute {}: {reason}", path.display()));
        }
    }

    #[test]
    fn a_process_left_behind_is_not_waited_for() {
        for text in [
            // Silent, or for ever writing: both hold descriptor 3.
            "echo 'A = \"1\"' >&3; /bin/sleep 20 &",
            "echo 'A = \"1\"' >&3; (for i in 1 2 3 4 5 6 7 8 9 10; do /bin/sleep 0.1; echo; done >&3; /bin/sleep 20) &",
        ] {
            let began = Instant::now();
            assert_eq!(run_script(text), Ok(vec![("A".to_owned(), "1".to_owned())]));
            assert!(began.elapsed() < Duration::from_secs(10), "waited {:?}", began.elapsed());
        }
    }

    #[test]
    fn nothing_but_0_to_3_is_inherited() {
        let dir = tempfile::tempdir().expect("a directory");
        let _held = std::fs::File::create(dir.path().join("held")).expect("made");
        // Descriptors that the shell itself opens are 10 and above; the glob's is gone before it is tested.
        let text = "for f in /proc/self/fd/*; do n=${f##*/}; [ $n -gt 3 ] && [ $n -lt 10 ] && [ -e $f ] && exit 1; done; exit 0";
        assert_eq!(run_script(text), Ok(Vec::new()));
    }
}

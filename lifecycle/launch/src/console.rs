//! The console: the only place that prints.
//!
//! Libraries log through the [`log`] crate, and [`init`] makes this module what listens. Information goes to stdout, warnings
//! and errors to stderr (platform.md, *Lifecycle Errors*). A record is written whole, by one call under a lock, and
//! what buildpacks print ([`output`], [`copy`]) goes between records and never into one. Where nobody reads any more
//! (a closed pipe) text is dropped: printing never fails and never panics.
//!
//! Colours are on unless switched off, terminal or not: platforms pass the bytes on to one. Switched off they are
//! also taken out of what buildpacks print.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::panic;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use thiserror::Error as ThisError;

use crate::ansi::Plain;
use crate::file::describe;

/// What is printed: messages of this level and above (`-log-level`, `CNB_LOG_LEVEL`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    Debug,
    /// What a user of a platform reads.
    #[default]
    Info,
    /// Warnings and errors.
    Warn,
    /// Errors.
    Error,
    /// Nothing, not even the error that ends a phase.
    Fatal,
}

/// A log level that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("parse log level: invalid level '{0}'")]
pub struct ParseLevelError(pub String);

impl FromStr for Level {
    type Err = ParseLevelError;

    fn from_str(text: &str) -> Result<Self, ParseLevelError> {
        match text.to_ascii_lowercase().as_str() {
            "debug" => Ok(Self::Debug),
            "info" => Ok(Self::Info),
            "warn" | "warning" => Ok(Self::Warn),
            "error" => Ok(Self::Error),
            "fatal" => Ok(Self::Fatal),
            _ => Err(ParseLevelError(text.to_owned())),
        }
    }
}

impl Level {
    fn filter(self) -> LevelFilter {
        match self {
            Self::Debug => LevelFilter::Debug,
            Self::Info => LevelFilter::Info,
            Self::Warn => LevelFilter::Warn,
            Self::Error => LevelFilter::Error,
            Self::Fatal => LevelFilter::Off,
        }
    }
}

static COLOR: AtomicBool = AtomicBool::new(true);

/// Held while something is written, so that threads do not write into each other's lines.
static WRITING: Mutex<()> = Mutex::new(());

/// Makes the console what listens to [`log`]; may be called again, with another level or colour.
pub fn init(level: Level, color: bool) {
    COLOR.store(color, Ordering::Relaxed);
    log::set_max_level(level.filter());
    // It fails if a logger is there: ours, by an earlier call.
    let _ = log::set_logger(&Console);
}

/// Prints the name of a phase that begins: `===> ANALYZING`.
pub fn banner(name: &str) {
    log::info!("{CYAN}===> {name}{RESET}");
}

/// Prints the error that ends a phase: `ERROR: failed to <error>: <cause>: …`. The error's own words say what failed.
pub fn failure(error: &dyn Error) {
    log::error!("failed to {}", chain(error));
}

/// An error and its causes, joined by `: `. A cause that the error before it already ends with is not repeated.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.downcast_ref::<io::Error>().map_or_else(|| error.to_string(), describe);
        if !text.ends_with(&words) {
            // Writing to a string does not fail.
            let _ = write!(text, ": {words}");
        }
        cause = error.source();
    }
    text
}

/// From now on a panic, in any thread, is reported as an error of the phase and ends the process with `code`. Otherwise the exit
/// status would be 101, or a signal's, which platforms cannot tell from the app's.
pub fn exit_on_panic(verb: &'static str, code: u8) {
    panic::set_hook(Box::new(move |info| {
        let message = info.payload_as_str().unwrap_or("unknown panic");
        let place = info.location().map(|at| format!(" ({}:{})", at.file(), at.line())).unwrap_or_default();
        // Not through the log: it may not be there yet, and a panic is told at every level.
        let text = format!("failed to {verb}: internal error: {message}{place}");
        write_to(io::stderr().as_fd(), &render(log::Level::Error, &text, COLOR.load(Ordering::Relaxed)));
        #[expect(clippy::exit, reason = "a hook cannot return an exit code to main")]
        std::process::exit(code.into());
    }));
}

/// Where a buildpack's output goes: our stdout, unchanged, but without ANSI sequences where colours are off.
pub fn output() -> Output {
    Output { plain: (!COLOR.load(Ordering::Relaxed)).then(Plain::default) }
}

/// Copies a buildpack's output to [`output`] as it comes, until the end; the number of bytes read. An error is the
/// reader's.
pub fn copy(mut reader: impl Read) -> io::Result<u64> {
    let mut output = output();
    let mut buffer = vec![0; 64 << 10];
    let mut total = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(length) => {
                output.print(&buffer[..length]);
                total += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A writer that never fails; see [`output`].
#[derive(Debug)]
pub struct Output {
    /// Takes the sequences out, if that is wanted. One sequence may be spread over several writes.
    plain: Option<Plain>,
}

impl Output {
    fn print(&mut self, bytes: &[u8]) {
        match &mut self.plain {
            None => write_to(io::stdout().as_fd(), bytes),
            Some(plain) => write_to(io::stdout().as_fd(), &plain.without_sequences(bytes)),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.print(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Console;

/// The crates whose messages are printed, beside those named `lifecycle_…`. Those of dependencies are not: they are
/// about sockets and headers.
const OURS: &[&str] = &[
    "lifecycle",
    "platform_spec",
    "analyzer",
    "builder",
    "creator",
    "detector",
    "exporter",
    "extender",
    "indexer",
    "launcher",
    "rebaser",
    "restorer",
];

impl Log for Console {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        let name = target.split_once("::").map_or(target, |(name, _)| name);
        name.starts_with("lifecycle_") || OURS.contains(&name)
    }

    fn log(&self, record: &Record<'_>) {
        // The level was compared by the macros, except where somebody calls the logger without them.
        if record.level() > log::max_level() || !self.enabled(record.metadata()) {
            return;
        }
        let text = render(record.level(), &record.args().to_string(), COLOR.load(Ordering::Relaxed));
        match record.level() {
            log::Level::Error | log::Level::Warn => write_to(io::stderr().as_fd(), &text),
            log::Level::Info | log::Level::Debug | log::Level::Trace => write_to(io::stdout().as_fd(), &text),
        }
    }

    fn flush(&self) {}
}

const BOLD_RED: &str = "\x1b[31;1m";
const BOLD_YELLOW: &str = "\x1b[33;1m";
const CYAN: &str = "\x1b[36m";
const RESET: &str = "\x1b[0m";

/// A record as it is written: only the prefix has a colour, and a missing newline is added.
fn render(level: log::Level, message: &str, color: bool) -> Vec<u8> {
    let (start, prefix) = match level {
        log::Level::Error => (BOLD_RED, "ERROR: "),
        log::Level::Warn => (BOLD_YELLOW, "Warning: "),
        log::Level::Info | log::Level::Debug | log::Level::Trace => ("", ""),
    };
    let newline = if message.ends_with('\n') { "" } else { "\n" };
    if !color {
        return Plain::default().without_sequences(format!("{prefix}{message}{newline}").as_bytes());
    }
    let end = if prefix.is_empty() { "" } else { RESET };
    format!("{start}{prefix}{end}{message}{newline}").into_bytes()
}

/// Writes everything, or as much as can be: what cannot be written is dropped.
fn write_to(fd: BorrowedFd<'_>, mut bytes: &[u8]) {
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    while !bytes.is_empty() {
        match nix::unistd::write(fd, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            // Whoever shares our stdout may have made it non-blocking: wait until there is room.
            Err(Errno::EAGAIN) => {
                let mut room = [PollFd::new(fd, PollFlags::POLLOUT)];
                match nix::poll::poll(&mut room, PollTimeout::NONE) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(_) => return,
                }
            }
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use log::Level::{Debug, Error as Failure, Info, Warn};
    use nix::fcntl::OFlag;

    use super::*;

    #[test]
    fn levels_are_read_in_any_case() {
        for (text, level) in [
            ("debug", Level::Debug),
            ("Info", Level::Info),
            ("WARN", Level::Warn),
            ("warning", Level::Warn),
            ("error", Level::Error),
            ("fatal", Level::Fatal),
        ] {
            assert_eq!(text.parse(), Ok(level));
        }
        for text in ["", "trace", "info ", "1"] {
            let error = text.parse::<Level>().expect_err("no level").to_string();
            assert_eq!(error, format!("parse log level: invalid level '{text}'"));
        }
    }

    #[test]
    fn errors_are_shown_at_every_level_but_fatal() {
        for (level, error, info) in [
            (Level::Debug, true, true),
            (Level::Info, true, true),
            (Level::Warn, true, false),
            (Level::Error, true, false),
            (Level::Fatal, false, false),
        ] {
            assert_eq!((log::Level::Error <= level.filter(), log::Level::Info <= level.filter()), (error, info));
        }
    }

    #[test]
    fn only_the_prefix_is_coloured_and_a_newline_added() {
        for (level, message, color, expected) in [
            (Info, "text", true, "text\n"),
            (Info, "text\n", true, "text\n"),
            (Info, "", true, "\n"),
            (Debug, "two\nlines", true, "two\nlines\n"),
            (Warn, "careful", true, "\x1b[33;1mWarning: \x1b[0mcareful\n"),
            (Failure, "failed to launch: x\n", true, "\x1b[31;1mERROR: \x1b[0mfailed to launch: x\n"),
            (Warn, "careful", false, "Warning: careful\n"),
            (Failure, "failed", false, "ERROR: failed\n"),
            (Info, "\x1b[36m===> BUILDING\x1b[0m", true, "\x1b[36m===> BUILDING\x1b[0m\n"),
            (Info, "\x1b[36m===> BUILDING\x1b[0m", false, "===> BUILDING\n"),
        ] {
            assert_eq!(String::from_utf8_lossy(&render(level, message, color)), expected);
        }
    }

    #[test]
    fn dependencies_are_not_heard() {
        for (target, heard) in [
            ("lifecycle", true),
            ("lifecycle::phase::export", true),
            ("lifecycle_launch::env", true),
            ("lifecycle_remote::registry", true),
            ("launcher", true),
            ("platform_spec::label", true),
            ("ureq", false),
            ("rustls::client::hs", false),
            ("lifecycles", false),
        ] {
            assert_eq!(Console.enabled(&Metadata::builder().target(target).build()), heard, "{target}");
        }
    }

    #[derive(Debug, ThisError)]
    enum Sample {
        #[error("read metadata")]
        Read(#[source] io::Error),
        #[error("launch")]
        Launch(#[source] Box<Sample>),
        #[error("already said: no such file or directory")]
        Said(#[source] io::Error),
    }

    #[test]
    fn a_chain_says_each_cause_once() {
        let missing = || io::Error::from_raw_os_error(Errno::ENOENT as i32);
        for (error, expected) in [
            (Sample::Read(missing()), "read metadata: no such file or directory"),
            (Sample::Launch(Box::new(Sample::Read(missing()))), "launch: read metadata: no such file or directory"),
            (Sample::Said(missing()), "already said: no such file or directory"),
        ] {
            assert_eq!(chain(&error), expected);
        }
    }

    #[test]
    fn a_pipe_that_is_full_is_waited_for() {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_NONBLOCK).expect("a pipe");
        let text = b"0123456789abcdef".repeat(64 << 10);
        let expected = text.clone();
        let writing = thread::spawn(move || write_to(writer.as_fd(), &text));
        let mut got = Vec::new();
        let mut buffer = vec![0; 4096];
        loop {
            match nix::unistd::read(&reader, &mut buffer) {
                Ok(0) => break,
                Ok(length) => got.extend_from_slice(&buffer[..length]),
                Err(Errno::EAGAIN) => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        writing.join().expect("written");
        assert!(got == expected, "{} of {} bytes", got.len(), expected.len());
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_passed_over() {
        let (reader, writer) = nix::unistd::pipe().expect("a pipe");
        drop(reader);
        write_to(writer.as_fd(), b"text");
    }
}

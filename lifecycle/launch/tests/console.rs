//! The console from outside: this program starts itself as a process that prints or panics, and looks at its
//! descriptors and its exit code.

use std::io::Write;
use std::process::{Command, Stdio};

use lifecycle_launch::console::{self, Level};

/// Tells the process that was started what to do.
const CASE: &str = "CONSOLE_CASE";
/// Messages are heard from the lifecycle's own packages only.
const TARGET: &str = "lifecycle_test";

fn main() {
    match std::env::var(CASE) {
        Ok(case) => print_or_panic(&case),
        Err(_) => {
            records();
            panics();
            a_closed_pipe();
        }
    }
}

fn print_or_panic(case: &str) {
    match case {
        "coloured" => console::init(Level::Debug, true),
        "plain" => console::init(Level::Info, false),
        "errors only" => console::init(Level::Error, false),
        "silent" => console::init(Level::Fatal, false),
        "panic" => {
            console::init(Level::Fatal, false);
            console::exit_on_panic("build", 52);
            let _ = std::thread::spawn(|| panic!("{} is impossible", 1 + 1)).join();
        }
        "early panic" => {
            console::exit_on_panic("detect", 22);
            std::env::var("A=B").expect("no variable has this name");
        }
        other => panic!("no case {other}"),
    }
    console::banner("BUILDING");
    log::debug!(target: TARGET, "details");
    log::info!(target: TARGET, "two\nlines");
    log::info!(target: "ureq", "not ours");
    log::warn!(target: TARGET, "careful");
    let mut output = console::output();
    for part in ["\x1b[3", "2mgreen\x1b[0m, ", "no newline;"] {
        write!(output, "{part}").expect("never fails");
    }
    assert_eq!(console::copy(&b" \x1b[1mcopied\n"[..]).expect("read"), 12);
    log::error!(target: TARGET, "failed to build");
}

/// Exit code, stdout and stderr.
fn run(case: &str) -> (Option<i32>, String, String) {
    let output = Command::new(std::env::current_exe().expect("a path")).env(CASE, case).output().expect("started");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn records() {
    for (case, stdout, stderr) in [
        (
            "coloured",
            "\x1b[36m===> BUILDING\x1b[0m\ndetails\ntwo\nlines\n\x1b[32mgreen\x1b[0m, no newline; \x1b[1mcopied\n",
            "\x1b[33;1mWarning: \x1b[0mcareful\n\x1b[31;1mERROR: \x1b[0mfailed to build\n",
        ),
        (
            "plain",
            "===> BUILDING\ntwo\nlines\ngreen, no newline; copied\n",
            "Warning: careful\nERROR: failed to build\n",
        ),
        ("errors only", "green, no newline; copied\n", "ERROR: failed to build\n"),
        ("silent", "green, no newline; copied\n", ""),
    ] {
        assert_eq!(run(case), (Some(0), stdout.to_owned(), stderr.to_owned()), "{case}");
    }
}

fn panics() {
    for (case, code, message) in [
        ("panic", 52, "ERROR: failed to build: internal error: 2 is impossible ("),
        (
            "early panic",
            22,
            "\x1b[31;1mERROR: \x1b[0mfailed to detect: internal error: no variable has this name: NotPresent (",
        ),
    ] {
        let (status, stdout, stderr) = run(case);
        assert_eq!((status, stdout.as_str()), (Some(code), ""), "{case}");
        assert!(stderr.starts_with(message) && stderr.contains("tests/console.rs:"), "{case}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{case}: {stderr}");
    }
}

fn a_closed_pipe() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.env(CASE, "coloured").stdout(writer).stderr(Stdio::null());
    assert!(command.status().expect("started").success(), "it fails where nobody reads");
}

//! Credential helpers: programs `docker-credential-<name>` that say what they know of a registry.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use thiserror::Error;

use super::Credential;
use crate::secret::Secret;

/// Nobody says more.
const LIMIT: u64 = 1 << 20;

/// Why a helper did not help. What it printed is not shown: it may be a secret.
#[derive(Debug, Error)]
pub(super) enum HelperError {
    #[error("credential helper {helper}")]
    Run {
        helper: String,
        #[source]
        cause: io::Error,
    },
    #[error("credential helper {helper} ended with {status}")]
    Failed { helper: String, status: std::process::ExitStatus },
    #[error("credential helper {helper} took longer than {} s", .limit.as_secs_f32())]
    Timeout { helper: String, limit: Duration },
    #[error("credential helper {helper} did not answer with JSON of the kind expected")]
    Answer { helper: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Asks for `address`; `None`: the helper does not know it.
pub(super) fn ask(helper: &str, address: &str, limit: Duration) -> Result<Option<Credential>, HelperError> {
    let name = format!("docker-credential-{helper}");
    if helper.contains('/') {
        let cause = io::Error::new(io::ErrorKind::InvalidInput, "its name has a slash");
        return Err(HelperError::Run { helper: name, cause });
    }
    run(&name, address, limit)
}

fn run(name: &str, address: &str, limit: Duration) -> Result<Option<Credential>, HelperError> {
    let failed = |cause| HelperError::Run { helper: name.to_owned(), cause };
    let mut child = Command::new(name)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let deadline = Instant::now() + limit;
    let stdin = child.stdin.take();
    let stdout = child.stdout.take();
    let (sender, receiver) = mpsc::channel();
    let address = address.to_owned();
    // The thread ends with the pipes; a helper that leaves a process behind that holds them is not waited for.
    let talking = thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            // A helper that does not read its input may still answer.
            let _ = stdin.write_all(address.as_bytes());
        }
        let mut output = Vec::new();
        let read = stdout.map(|stdout| stdout.take(LIMIT).read_to_end(&mut output)).transpose();
        let _ = sender.send(read.map(|_| output));
    });
    let output = match receiver.recv_timeout(limit) {
        Ok(output) => {
            // It has nothing left to do; afterwards the process has as many threads as before.
            let _ = talking.join();
            output.map_err(failed)
        }
        Err(_) => Err(HelperError::Timeout { helper: name.to_owned(), limit }),
    };
    let status = wait(&mut child, deadline).map_err(failed)?;
    let output = output?;
    let Some(status) = status else { return Err(HelperError::Timeout { helper: name.to_owned(), limit }) };
    if !status.success() {
        // The protocol has no other sign of it than this sentence.
        if String::from_utf8_lossy(&output).contains("credentials not found in native keychain") {
            return Ok(None);
        }
        return Err(HelperError::Failed { helper: name.to_owned(), status });
    }
    let Answer { username, secret } =
        serde_json::from_slice(&output).map_err(|_| HelperError::Answer { helper: name.to_owned() })?;
    Ok(match (username.as_str(), secret.as_str()) {
        (_, "") => None,
        ("<token>", token) => Some(Credential::Identity(Secret::new(token))),
        (user, password) => Some(Credential::basic(user, password)),
    })
}

/// Waits for a child; one that is late is killed, and the answer is `None`.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<std::process::ExitStatus>> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Helpers are found by PATH, which tests cannot change while others run; so this one is named by its path. It is
    /// written by another process: a file that a child of this one has open for writing cannot be executed.
    fn ask_script(script: &str, limit: Duration) -> Result<Option<Credential>, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("helper");
        let mut writer = Command::new("/bin/sh");
        writer.args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\" && chmod 755 \"$0\""]).arg(&path).arg(script);
        assert!(writer.status().expect("a shell").success());
        run(path.to_str().expect("text"), "reg:5000", limit).map_err(|error| error.to_string())
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn answers() {
        let echo =
            r#"read -r a || true; [ "$1" = get ] && echo "{\"ServerURL\":\"x\",\"Username\":\"u\",\"Secret\":\"$a\"}""#;
        assert_eq!(ask_script(echo, LONG), Ok(Some(Credential::basic("u", "reg:5000"))));
        let token = r#"echo '{"Username":"<token>","Secret":"t"}'"#;
        assert_eq!(ask_script(token, LONG), Ok(Some(Credential::Identity(Secret::new("t")))));
        let unknown = "echo credentials not found in native keychain; exit 1";
        assert_eq!(ask_script(unknown, LONG), Ok(None));
        assert_eq!(ask_script(r#"echo '{"Username":"","Secret":""}'"#, LONG), Ok(None));
    }

    #[test]
    fn failures_show_nothing_of_the_output() {
        for script in ["echo hunter2; exit 3", "echo hunter2", "echo '{\"Secret\": [\"hunter2\"]}'", "kill -9 $$"] {
            let error = ask_script(script, LONG).expect_err(script);
            assert!(error.contains("credential helper") && !error.contains("hunter2"), "{error}");
        }
        let error = ask("nonexistent-helper", "reg", LONG).expect_err("no such helper").to_string();
        assert!(error.contains("docker-credential-nonexistent-helper"), "{error}");
        assert!(ask("../../bin/sh", "reg", LONG).is_err());
    }

    #[test]
    fn late_helpers_are_given_up() {
        let began = Instant::now();
        for script in ["exec sleep 9", "exec sleep 9 >&-", "sleep 2 & exit 0"] {
            let error = ask_script(script, Duration::from_millis(300)).expect_err(script);
            assert!(error.contains("took longer"), "{error}");
        }
        assert!(began.elapsed() < Duration::from_secs(6));
    }
}

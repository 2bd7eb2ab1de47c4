//! The error that ends a phase, with its exit status.

use std::error::Error;
use std::process::ExitCode;

use lifecycle::phase::PhaseError;
use lifecycle_launch::console;
use platform_spec::exit;
use platform_spec::input::Phase;

/// An error that ends a phase. Every [`PhaseError`] becomes one by `?`; another error by [`Failure::of`].
#[derive(Debug)]
pub struct Failure {
    error: Box<dyn Error + Send + Sync>,
    code: u8,
    /// The error's own text says what failed, and reads right after `failed to`.
    tells_action: bool,
    advice: Option<String>,
}

impl<E: PhaseError> From<E> for Failure {
    fn from(error: E) -> Self {
        let (code, tells_action, advice) = (error.exit_code(), error.says_what_failed(), error.advice());
        Self { error: Box::new(error), code, tells_action, advice }
    }
}

impl Failure {
    /// An error that knows no phase, such as that of writing a phase's outputs. The exit status is the phase's own.
    pub fn of(phase: Phase, error: impl Error + Send + Sync + 'static) -> Self {
        Self { error: Box::new(error), code: phase.exit_code(), tells_action: false, advice: None }
    }

    /// An error that says what failed.
    pub(crate) fn told(error: impl Error + Send + Sync + 'static, code: u8) -> Self {
        Self { error: Box::new(error), code, tells_action: true, advice: None }
    }

    /// A command line that cannot be read: the only failure that prints how to write it.
    pub(crate) fn usage(error: impl Error + Send + Sync + 'static, usage: String) -> Self {
        Self { error: Box::new(error), code: exit::FLAGS, tells_action: false, advice: Some(usage) }
    }

    /// One error record on stderr.
    pub(crate) fn print(&self, phase: Phase) -> ExitCode {
        log::error!("{}", self.text(phase));
        ExitCode::from(self.code)
    }

    /// `failed to <verb>: <error>: <cause>…`, and the advice on lines of its own.
    pub(crate) fn text(&self, phase: Phase) -> String {
        let chain = console::chain(&*self.error);
        let mut text = match (self.tells_action, self.code) {
            (true, _) => format!("failed to {chain}"),
            (false, exit::FLAGS) => format!("failed to parse flags: {chain}"),
            (false, code) => format!("failed to {}: {chain}", verb(code).unwrap_or(phase.verb())),
        };
        if let Some(advice) = &self.advice {
            text.push('\n');
            text.push_str(advice);
        }
        text
    }
}

/// The creator runs every phase: the exit status says which of them failed. The generic ones say nothing.
fn verb(code: u8) -> Option<&'static str> {
    Some(match code {
        exit::DETECT_FAILED..=29 => "detect",
        30..=39 => "analyze",
        40..=49 => "restore",
        50..=59 => "build",
        60..=69 => "export",
        70..=79 => "rebase",
        80..=89 => "launch",
        90..=99 => "generate",
        100..=109 => "extend",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use lifecycle::file::PathContext as _;
    use thiserror::Error;

    use super::*;

    #[derive(Debug, Error)]
    enum Sample {
        #[error("write {0}")]
        Write(&'static str, #[source] io::Error),
        #[error("refusing to run as root")]
        Root,
    }

    impl PhaseError for Sample {
        fn exit_code(&self) -> u8 {
            match self {
                Self::Write(..) => exit::BUILD_ERROR,
                Self::Root => exit::GENERIC,
            }
        }

        fn advice(&self) -> Option<String> {
            match self {
                Self::Write(..) => None,
                Self::Root => Some("Run it as the build image's user.".to_owned()),
            }
        }
    }

    #[test]
    fn says_which_phase_failed_why_and_what_to_do() {
        let full = || io::Error::from_raw_os_error(28);
        let file = Err::<(), _>(full()).path("write", Path::new("/layers/group.toml")).expect_err("an error");
        for (failure, phase, expected) in [
            (Sample::Write("a", full()).into(), Phase::Build, "failed to build: write a: no space left on device"),
            (Sample::Write("a", full()).into(), Phase::Create, "failed to build: write a: no space left on device"),
            (
                Sample::Root.into(),
                Phase::Detect,
                "failed to detect: refusing to run as root\nRun it as the build image's user.",
            ),
            (
                Failure::of(Phase::Detect, file),
                Phase::Create,
                "failed to detect: write /layers/group.toml: no space left on device",
            ),
            (Failure::told(Sample::Write("a", full()), 11), Phase::Build, "failed to write a: no space left on device"),
            (
                Failure::usage(Sample::Root, "Usage: x".to_owned()),
                Phase::Build,
                "failed to parse flags: refusing to run as root\nUsage: x",
            ),
        ] {
            assert_eq!(failure.text(phase), expected);
        }
    }
}

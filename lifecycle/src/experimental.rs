//! Features that the specification calls experimental, and what a platform thinks of them (platform.md,
//! *Experimental Features*).

use thiserror::Error;

/// The variable that says what to do when a platform asks for an experimental feature.
pub use platform_spec::input::env::EXPERIMENTAL_MODE;

/// What to do when a platform asks for an experimental feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Experimental {
    /// Refuse.
    #[default]
    Refused,
    /// Warn and go on.
    Warned,
    /// Go on.
    Silent,
}

/// An experimental feature was asked for and is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("experimental features are disabled by {EXPERIMENTAL_MODE}=error")]
pub struct ExperimentalError;

impl Experimental {
    /// Reads `CNB_EXPERIMENTAL_MODE`; unset is `error`, and text that is no mode warns.
    pub fn parse(text: Option<&str>) -> Self {
        match text {
            None | Some("error") => Self::Refused,
            Some("quiet" | "silent") => Self::Silent,
            Some(_) => Self::Warned,
        }
    }

    /// To be called where `feature` begins: `Dockerfiles`, `export to OCI layout format`.
    pub fn allow(self, feature: &str) -> Result<(), ExperimentalError> {
        let asked = format!("Platform requested experimental feature '{feature}'");
        match self {
            Self::Refused => {
                log::error!("{asked}");
                Err(ExperimentalError)
            }
            Self::Warned => {
                log::warn!("{asked}");
                Ok(())
            }
            Self::Silent => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (text, allowed) in [
            (None, false),
            (Some("error"), false),
            (Some("warn"), true),
            (Some("quiet"), true),
            (Some("silent"), true),
            (Some("x"), true),
        ] {
            assert_eq!(Experimental::parse(text).allow("x").is_ok(), allowed, "{text:?}");
        }
        assert_eq!(Experimental::parse(Some("silent")), Experimental::Silent);
        assert_eq!(Experimental::parse(Some("other")), Experimental::Warned);
    }
}

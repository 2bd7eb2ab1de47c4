//! API versions, in order, and each one's *named abilities*.
//!
//! Code asks `api.has_layout()`, never `api >= 0.12`: what differs between versions is in this one table.
//!
//! ```
//! use platform_spec::api::PlatformApi;
//! let api = PlatformApi::parse(Some("0.12")).unwrap();
//! assert!(api.has_layout() && !api.has_exec_env());
//! assert!(PlatformApi::parse(Some("0.6")).is_err());
//! ```

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A version as the specification writes it: `<major>` or `<major>.<minor>`, digits only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The part before the dot.
    pub major: u64,
    /// The part after the dot; 0 if it is missing.
    pub minor: u64,
}

/// Text that is not an API version.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("parse version '{0}'")]
pub struct ParseVersionError(pub String);

impl FromStr for Version {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseVersionError(text.to_owned());
        let digits = text.strip_prefix('v').unwrap_or(text);
        let (major, minor) = digits.split_once('.').unwrap_or((digits, ""));
        let number = |part: &str| {
            if part.bytes().all(|b| b.is_ascii_digit()) { part.parse().map_err(|_| error()) } else { Err(error()) }
        };
        Ok(Self { major: number(major)?, minor: if minor.is_empty() { 0 } else { number(minor)? } })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

const fn v0(minor: u64) -> Version {
    Version { major: 0, minor }
}

/// Platform API versions that the lifecycle speaks, ascending.
pub const PLATFORM: &[Version] = &[v0(7), v0(8), v0(9), v0(10), v0(11), v0(12), v0(13), v0(14), v0(15)];
/// Buildpack API versions that the lifecycle speaks, ascending.
pub const BUILDPACK: &[Version] = &[v0(7), v0(8), v0(9), v0(10), v0(11), v0(12)];

/// Why a Platform API cannot be used (exit code [`crate::exit::INCOMPATIBLE_PLATFORM_API`]).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlatformApiError {
    /// `CNB_PLATFORM_API` is unset or blank.
    #[error("get platform API version; please set 'CNB_PLATFORM_API' to specify the desired platform API version")]
    Unset,
    /// Not a version at all.
    #[error("parse platform API '{0}'")]
    Parse(String),
    /// A version that this lifecycle does not speak.
    #[error("set platform API: platform API version '{0}' is incompatible with the lifecycle")]
    Unsupported(String),
}

/// Why a buildpack's or an extension's API cannot be used (exit code [`crate::exit::INCOMPATIBLE_BUILDPACK_API`]).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BuildpackApiError {
    /// Not a version at all, or missing; `module` is `buildpack '<id>@<version>'`.
    #[error("parse buildpack API '{}' for {module}", if .api.is_empty() { "<nil>" } else { .api })]
    Parse {
        /// The text found.
        api: String,
        /// Whose API it is: `buildpack 'id@version'` or `extension 'id@version'`.
        module: String,
    },
    /// A version that this lifecycle does not speak.
    #[error("set API for {module}: buildpack API version '{api}' is incompatible with the lifecycle")]
    Unsupported {
        /// The text found.
        api: String,
        /// Whose API it is.
        module: String,
    },
}

fn supported(version: Version, list: &[Version]) -> bool {
    list.iter().any(|known| {
        if version.major == 0 {
            *known == version
        } else {
            known.major == version.major && known.minor >= version.minor
        }
    })
}

/// A Platform API version that this lifecycle speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlatformApi(Version);

/// A Buildpack API version that this lifecycle speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildpackApi(Version);

impl PlatformApi {
    /// Reads `CNB_PLATFORM_API`; `None` is an unset variable, and blank text counts as unset.
    pub fn parse(text: Option<&str>) -> Result<Self, PlatformApiError> {
        let text = text.filter(|text| !text.trim().is_empty()).ok_or(PlatformApiError::Unset)?;
        let version: Version = text.parse().map_err(|_| PlatformApiError::Parse(text.to_owned()))?;
        if supported(version, PLATFORM) {
            Ok(Self(version))
        } else {
            Err(PlatformApiError::Unsupported(text.to_owned()))
        }
    }

    /// The version itself, to print or to compare with a flag's first version.
    pub fn version(self) -> Version {
        self.0
    }

    /// Whether this is version 0.`minor` or later: for tables such as [`crate::input`]'s only; code asks an ability.
    pub(crate) fn at_least(self, minor: u64) -> bool {
        self.0 >= v0(minor)
    }
}

/// Whether an app image has a target, by the Platform API at which it was exported (its variable `CNB_PLATFORM_API`; empty
/// if it has none): from version 0.12 on. Before that it has a stack. Versions that this lifecycle does not speak have an
/// order too.
pub fn image_has_target(exported_at: &str) -> Result<bool, ParseVersionError> {
    Ok(!exported_at.is_empty() && exported_at.parse::<Version>()? >= v0(12))
}

impl BuildpackApi {
    /// Reads the `api` of a `buildpack.toml`, `extension.toml` or group element. `module` names whose it is
    /// in the error: `buildpack 'id@version'`.
    pub fn parse(text: &str, module: &str) -> Result<Self, BuildpackApiError> {
        let (api, module) = (text.to_owned(), module.to_owned());
        match text.parse::<Version>() {
            Err(_) => Err(BuildpackApiError::Parse { api, module }),
            Ok(version) if supported(version, BUILDPACK) => Ok(Self(version)),
            Ok(_) => Err(BuildpackApiError::Unsupported { api, module }),
        }
    }

    /// The version itself, to print.
    pub fn version(self) -> Version {
        self.0
    }
}

impl fmt::Display for PlatformApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for BuildpackApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! abilities {
    ($type:ident: $($(#[$doc:meta])+ $name:ident from $minor:literal;)+) => {
        impl $type {
            $($(#[$doc])+ #[doc = ""] #[doc = concat!("From version 0.", $minor, " on.")]
            pub fn $name(self) -> bool {
                self.0 >= v0($minor)
            })+
        }
    };
}

abilities! { PlatformApi:
    /// SBOM files: layers `sbom/launch` and `sbom/cache`, their restoration, the key `sbom` of the metadata label.
    has_sbom from 8;
    /// `SOURCE_DATE_EPOCH` gives the image's creation time.
    has_source_date_epoch from 9;
    /// No unstructured `[[bom]]` any more in metadata.toml, report.toml and the build metadata label;
    /// instead `sbom.legacy.json` is always written.
    drops_legacy_bom from 9;
    /// `command` of a process is an array in metadata.toml and in the build metadata label.
    has_command_array from 10;
    /// User arguments replace a process's `args` where its `command` has more than one entry or its buildpack is of 0.9 or later.
    replaces_arguments from 10;
    /// Image extensions: `[[order-extensions]]`, generate, `-build-image`.
    has_extensions from 10;
    /// With `-skip-restore` the creator still restores `store.toml`.
    restores_store_when_skipping from 10;
    /// `<build-config>/env` is part of the build environment.
    has_build_config from 11;
    /// The lifecycle's and the launcher's own SBOM files go into the exported SBOM.
    has_lifecycle_sbom from 11;
    /// `run.toml` names run images (before: `stack.toml`); the metadata label has `runImage.image` and `.mirrors`.
    has_run_toml from 12;
    /// `[run-image.target]` in analyzed.toml, and buildpacks are matched against it.
    has_targets from 12;
    /// Export to an OCI layout.
    has_layout from 12;
    /// The extender can extend the run image; its layers are exported.
    extends_run_image from 12;
    /// The base image's history is kept, and new layers say who made them.
    keeps_history from 12;
    /// Extensions write to `CNB_OUTPUT_DIR` under `<generated>/<id>`, and are not experimental any more.
    has_stable_extensions from 13;
    /// The cache image that was replaced is left in its registry (before: deleted).
    keeps_replaced_cache_image from 13;
    /// Metadata of launch + cache layers is also restored from the cache, and the run image's access is checked again.
    restores_launch_metadata_from_cache from 14;
    /// `CNB_EXEC_ENV`: buildpacks, processes and layers by execution environment.
    has_exec_env from 15;
    /// `system.toml`: buildpacks that every group begins or ends with.
    has_system_buildpacks from 15;
}

abilities! { BuildpackApi:
    /// Paths are passed to `bin/detect` and `bin/build` as `CNB_…` variables too; `working-dir` of a process; SBOM files.
    has_path_variables from 8;
    /// A process has a `working-dir`.
    has_working_dir from 8;
    /// `command` of a process is an array, and every process is direct: the key `direct` is refused.
    has_command_array from 9;
    /// The user's arguments replace a process's `args` (where the platform's API has that).
    has_replaceable_arguments from 9;
    /// `CNB_TARGET_…` variables.
    has_target_variables from 10;
    /// The deprecated bionic stack counts as a target even where other stacks are listed beside it.
    takes_stacks_for_targets from 10;
    /// `CNB_EXEC_ENV`, `exec-env` of buildpacks and processes.
    has_exec_env from 12;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_every_version_have_a_target_or_a_stack() {
        for (text, expected) in [
            ("", Ok(false)),
            ("0.3", Ok(false)),
            ("0.11", Ok(false)),
            ("0.12", Ok(true)),
            ("0.99", Ok(true)),
            ("1.0", Ok(true)),
            ("x", Err(ParseVersionError("x".to_owned()))),
        ] {
            assert_eq!(image_has_target(text), expected, "{text:?}");
        }
    }

    #[test]
    fn versions_are_parsed_as_the_specification_and_the_reference_do() {
        for (text, version) in [
            ("0.15", Some((0, 15))),
            ("v0.15", Some((0, 15))),
            ("1", Some((1, 0))),
            ("1.", Some((1, 0))),
            ("v1.2", Some((1, 2))),
            ("00.07", Some((0, 7))),
            ("", None),
            ("v", None),
            (".7", None),
            ("0.15.0", None),
            ("0.x", None),
            ("-1", None),
            ("+0.7", None),
            (" 0.7", None),
            ("0.7\n", None),
            ("0.99999999999999999999", None),
            ("latest", None),
        ] {
            assert_eq!(text.parse::<Version>().ok().map(|found| (found.major, found.minor)), version, "{text:?}");
        }
        assert_eq!(Version { major: 0, minor: 7 }.to_string(), "0.7");
    }

    #[test]
    fn platform_apis_that_cannot_be_used_are_named() {
        for version in PLATFORM {
            assert_eq!(PlatformApi::parse(Some(&version.to_string())).map(PlatformApi::version), Ok(*version));
        }
        for text in ["0.6", "0.16", "0", "1.0", "1"] {
            let error = PlatformApi::parse(Some(text)).expect_err(text);
            assert_eq!(
                error.to_string(),
                format!("set platform API: platform API version '{text}' is incompatible with the lifecycle")
            );
        }
        for unset in [None, Some(""), Some(" \t")] {
            assert_eq!(PlatformApi::parse(unset), Err(PlatformApiError::Unset));
        }
        assert_eq!(PlatformApi::parse(Some("bad")).expect_err("bad").to_string(), "parse platform API 'bad'");
        for blank in [" 0.13", "0.13 "] {
            assert_eq!(
                PlatformApi::parse(Some(blank)),
                Err(PlatformApiError::Parse(blank.to_owned())),
                "as the reference"
            );
        }
    }

    #[test]
    fn buildpack_apis_that_cannot_be_used_are_named() {
        for version in BUILDPACK {
            assert_eq!(BuildpackApi::parse(&version.to_string(), "").map(BuildpackApi::version), Ok(*version));
        }
        for (text, error) in [
            ("", "parse buildpack API '<nil>' for buildpack 'a@1'"),
            ("bad", "parse buildpack API 'bad' for buildpack 'a@1'"),
            ("0.6", "set API for buildpack 'a@1': buildpack API version '0.6' is incompatible with the lifecycle"),
            ("0.13", "set API for buildpack 'a@1': buildpack API version '0.13' is incompatible with the lifecycle"),
        ] {
            assert_eq!(BuildpackApi::parse(text, "buildpack 'a@1'").expect_err(text).to_string(), error);
        }
    }

    #[test]
    fn abilities_begin_with_their_version() {
        let platform = |text| PlatformApi::parse(Some(text)).expect("supported");
        assert!(!platform("0.9").has_command_array() && platform("0.10").has_command_array());
        assert!(!platform("0.11").has_layout() && platform("0.12").has_layout());
        let buildpack = |text| BuildpackApi::parse(text, "").expect("supported");
        assert!(!buildpack("0.8").has_command_array() && buildpack("0.9").has_command_array());
        assert!(!buildpack("0.11").has_exec_env() && buildpack("0.12").has_exec_env());
    }
}

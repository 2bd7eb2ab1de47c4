//! `extension.toml` and `extend-config.toml` (image_extension.md).
//!
//! ```
//! use platform_spec::{extension::{ExtendConfig, Extension}, text::from_toml};
//! let extension: Extension = from_toml("api = '0.10'\n[extension]\nid = 'curl'\nversion = '0.0.1'").unwrap();
//! assert_eq!(extension.extension.id.as_str(), "curl");
//! let config: ExtendConfig = from_toml("[[build.args]]\nname = 'some_arg'\nvalue = 'some-arg-build-value'").unwrap();
//! assert_eq!((config.build.args.len(), config.run.args.len()), (1, 0));
//! ```

use serde::Deserialize;

use crate::buildpack::{BuildpackTarget, Info};

/// `extension.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Extension {
    /// The Buildpack API that it implements; empty if missing.
    #[serde(default)]
    pub api: String,
    /// Who it is.
    pub extension: Info,
    /// Targets that it supports.
    #[serde(default)]
    pub targets: Vec<BuildpackTarget>,
}

/// `extend-config.toml`: arguments for the extension's Dockerfiles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ExtendConfig {
    /// For `build.Dockerfile`.
    #[serde(default)]
    pub build: ExtendArguments,
    /// For `run.Dockerfile`.
    #[serde(default)]
    pub run: ExtendArguments,
}

/// The arguments for one Dockerfile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ExtendArguments {
    /// Name and value pairs.
    #[serde(default)]
    pub args: Vec<ExtendArgument>,
}

/// One argument.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ExtendArgument {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
}

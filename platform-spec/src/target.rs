//! Targets: operating system, architecture, variant, distribution (buildpack.md, *Targets*).

use serde::{Deserialize, Serialize};

/// A target as files state it. Empty text is "not stated".
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// `id` of the run image's stack-like identifier, if recorded.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Operating system: `linux`.
    #[serde(default)]
    pub os: String,
    /// Architecture in GOARCH's words: `amd64`, `arm64`.
    #[serde(default)]
    pub arch: String,
    /// Variant of the architecture: `v8`. Written as `arch-variant`, as the reference does; `variant` is read too.
    #[serde(default, rename = "arch-variant", alias = "variant", skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Distribution of the run image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distro: Option<Distro>,
}

/// A distribution, as in `/etc/os-release`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Distro {
    /// `ID`.
    #[serde(default)]
    pub name: String,
    /// `VERSION_ID`.
    #[serde(default)]
    pub version: String,
}

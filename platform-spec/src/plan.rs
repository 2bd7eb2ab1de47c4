//! The build plan: `plan.toml` of the platform, and what one `bin/detect` writes (buildpack.md, *Build Plan*).

use serde::{Deserialize, Serialize};

use crate::name::{BuildpackId, BuildpackVersion};

/// `plan.toml`: what was required, and who provides it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// One entry a name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<PlanEntry>,
}

/// One entry of `plan.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanEntry {
    /// Everyone who can provide it, in group order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<Provider>,
    /// What was required, in group order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Require>,
}

/// A buildpack or extension that provides an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// Its id.
    pub id: BuildpackId,
    /// Its version.
    pub version: BuildpackVersion,
    /// Whether it is an extension.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub extension: bool,
}

/// One requirement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Require {
    /// What is required.
    pub name: String,
    /// Anything else the requirer says.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub metadata: toml::Table,
}

/// What a `bin/detect` writes: provides and requires, and alternatives to them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DetectPlan {
    /// What it provides.
    #[serde(default)]
    pub provides: Vec<Provide>,
    /// What it requires.
    #[serde(default)]
    pub requires: Vec<DetectRequire>,
    /// Alternatives, tried in order after the above.
    #[serde(default)]
    pub or: Vec<Alternative>,
}

/// An alternative of a [`DetectPlan`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Alternative {
    /// What it provides.
    #[serde(default)]
    pub provides: Vec<Provide>,
    /// What it requires.
    #[serde(default)]
    pub requires: Vec<DetectRequire>,
}

/// A thing that a buildpack or extension provides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provide {
    /// Its name.
    pub name: String,
}

/// A requirement as `bin/detect` writes it; a top-level `version` is refused by the detector.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DetectRequire {
    /// What is required.
    pub name: String,
    /// The deprecated top-level version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Anything else the requirer says.
    #[serde(default)]
    pub metadata: toml::Table,
}

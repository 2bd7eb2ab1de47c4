//! The build plan: `plan.toml` of the platform, and what one `bin/detect` writes (buildpack.md, *Build Plan*).
//!
//! ```
//! use platform_spec::{plan::{DetectPlan, Plan}, text::{from_toml, to_toml}};
//! let detected: DetectPlan = from_toml(r#"
//! [[provides]]
//! name = "ruby"
//! [[or]]
//! [[or.requires]]
//! name = "ruby"
//! [or.requires.metadata]
//! version = "3.*"
//! "#).unwrap();
//! assert_eq!((detected.provides.len(), detected.or[0].requires.len()), (1, 1));
//!
//! let text = r#"[[entries]]
//!
//!   [[entries.providers]]
//!     id = "example/ruby"
//!     version = "1.2.3"
//!
//!   [[entries.requires]]
//!     name = "ruby"
//!     [entries.requires.metadata]
//!       version = "3.*"
//! "#;
//! let plan: Plan = from_toml(text).unwrap();
//! assert_eq!(to_toml(&plan), text);
//! ```

use serde::{Deserialize, Serialize};

use crate::buildpack_plan::BuildpackPlan;
use crate::name::{BuildpackId, BuildpackVersion};

/// `plan.toml`: what was required, and who provides it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// One entry a name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<PlanEntry>,
}

impl Plan {
    /// What one buildpack or extension is to provide: its buildpack plan (buildpack.md, *Buildpack Plan*).
    pub fn of(&self, id: &BuildpackId, extension: bool) -> BuildpackPlan {
        let provided = self.entries.iter().filter(|entry| {
            entry.providers.iter().any(|provider| provider.id == *id && provider.extension == extension)
        });
        BuildpackPlan { entries: provided.flat_map(|entry| entry.requires.iter().cloned()).collect() }
    }

    /// What is left when the dependencies of these names are met: later modules are not asked to provide them again.
    pub fn without<'a>(mut self, met: impl IntoIterator<Item = &'a str>) -> Self {
        let met: Vec<_> = met.into_iter().collect();
        self.entries.retain(|entry| !entry.requires.iter().any(|require| met.contains(&require.name.as_str())));
        self
    }
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
    /// Anything else the requirer says; an empty table is not the same as none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<toml::Table>,
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
    pub metadata: Option<toml::Table>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        toml::from_str(
            r#"
            entries = [
                {providers = [{id = "x", version = "1", extension = true}], requires = [{name = "curl"}]},
                {providers = [{id = "x", version = "1"}, {id = "y", version = "1"}], requires = [{name = "a"}, {name = "a"}]},
                {providers = [{id = "y", version = "1"}], requires = [{name = "b"}]},
            ]
            "#,
        )
        .expect("a plan")
    }

    #[test]
    fn each_module_gets_what_it_provides() {
        let id = |text| BuildpackId::new(text).expect("an id");
        let names = |id: &BuildpackId, extension| {
            plan().of(id, extension).entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&id("x"), true), ["curl"]);
        assert_eq!(names(&id("x"), false), ["a", "a"]);
        assert_eq!(names(&id("y"), false), ["a", "a", "b"]);
        assert_eq!(names(&id("z"), false), [""; 0]);
    }

    #[test]
    fn what_is_met_is_not_asked_for_again() {
        let left = plan().without(["a", "unknown"]);
        assert_eq!(left.entries.iter().map(|entry| entry.requires[0].name.as_str()).collect::<Vec<_>>(), ["curl", "b"]);
    }
}

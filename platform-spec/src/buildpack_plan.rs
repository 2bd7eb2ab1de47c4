//! The buildpack plan: the entries that one buildpack gets in `CNB_BP_PLAN_PATH` (buildpack.md, *Buildpack Plan*).
//!
//! ```
//! use platform_spec::{buildpack_plan::BuildpackPlan, text::{from_toml, to_toml}};
//! let text = "[[entries]]\n  name = \"ruby\"\n  [entries.metadata]\n    version = \"3.*\"\n";
//! let plan: BuildpackPlan = from_toml(text).unwrap();
//! assert_eq!(plan.entries[0].metadata.as_ref().unwrap()["version"].as_str(), Some("3.*"));
//! assert_eq!(to_toml(&plan), text);
//! ```

use serde::{Deserialize, Serialize};

use crate::plan::Require;

/// A buildpack plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildpackPlan {
    /// What the buildpack is to provide.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<Require>,
}

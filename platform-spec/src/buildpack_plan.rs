//! The buildpack plan: the entries that one buildpack gets in `CNB_BP_PLAN_PATH` (buildpack.md, *Buildpack Plan*).

use serde::{Deserialize, Serialize};

use crate::plan::Require;

/// A buildpack plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildpackPlan {
    /// What the buildpack is to provide.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<Require>,
}

//! `group.toml`: the buildpacks and extensions that take part (platform.md, *group.toml*).
//!
//! ```
//! use platform_spec::{group::Group, text::{from_toml, to_toml}};
//! let text = "[[group]]\n  id = \"example/ruby\"\n  version = \"1.2.3\"\n  api = \"0.12\"\n";
//! let group: Group = from_toml(text).unwrap();
//! assert_eq!(group.group[0].full_name(), "example/ruby@1.2.3");
//! assert_eq!(to_toml(&group), text);
//! ```

use serde::{Deserialize, Serialize};

use crate::name::{BuildpackId, BuildpackVersion};

/// `group.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The architecture on which buildpacks ran and will run, if a target was asked for: `amd64` (target-arch.md, *Files*).
    #[serde(default, rename = "build-arch", skip_serializing_if = "String::is_empty")]
    pub build_arch: String,
    /// Buildpacks, in the order in which they build.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<GroupElement>,
    /// Image extensions, in the order in which they generate.
    #[serde(default, rename = "group-extensions", skip_serializing_if = "Vec::is_empty")]
    pub group_extensions: Vec<GroupElement>,
}

/// One buildpack or extension of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupElement {
    /// Its id.
    pub id: BuildpackId,
    /// Its version.
    pub version: BuildpackVersion,
    /// The Buildpack API that it implements. Checked by [`crate::api::BuildpackApi::parse`]; empty if missing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub api: String,
    /// Its homepage.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub homepage: String,
    /// In `order.toml` only: it may fail detection without failing the group.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

impl GroupElement {
    /// `id@version`, as messages name it.
    pub fn full_name(&self) -> String {
        format!("{}@{}", self.id, self.version)
    }
}

//! `project-metadata.toml` (platform.md, *project-metadata.toml*), and the label made of it.
//!
//! ```
//! use platform_spec::{project_metadata::ProjectMetadata, text::from_toml};
//! let metadata: ProjectMetadata = from_toml(r#"
//! [source]
//! type = "git"
//! [source.version]
//! commit = "0000000"
//! "#).unwrap();
//! assert_eq!(metadata.to_json().unwrap(), r#"{"source":{"type":"git","version":{"commit":"0000000"}}}"#);
//! ```

use serde::{Deserialize, Serialize};

use crate::label::{NotJson, toml_to_json};
use crate::text::to_go_json;

/// `project-metadata.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProjectMetadata {
    /// Where the source came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ProjectSource>,
}

/// `[source]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProjectSource {
    /// Kind of source: `git`, `image`.
    #[serde(default, rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Which version of it.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub version: toml::Table,
    /// Anything else.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub metadata: toml::Table,
}

impl ProjectMetadata {
    /// The label `io.buildpacks.project.metadata`: `{}` without a source. Fails on `nan` and `inf`.
    pub fn to_json(&self) -> Result<String, NotJson> {
        for table in self.source.iter().flat_map(|source| [&source.version, &source.metadata]) {
            toml_to_json(&toml::Value::Table(table.clone()))?;
        }
        Ok(to_go_json(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::from_toml;

    #[test]
    fn the_label_is_what_the_reference_writes() {
        for (toml, json) in [
            ("", "{}"),
            ("[source]", r#"{"source":{}}"#),
            ("[source]\ntype = ''\nx = 1\n[source.version]", r#"{"source":{}}"#),
            (
                "[source]\ntype = '<git>'\nversion.at = 2020-02-02\nversion.n = 1.0\nmetadata.list = [{ b = 1, a = 2 }]",
                r#"{"source":{"type":"\u003cgit\u003e","version":{"at":"2020-02-02T00:00:00Z","n":1},"metadata":{"list":[{"a":2,"b":1}]}}}"#,
            ),
        ] {
            assert_eq!(from_toml::<ProjectMetadata>(toml).expect(toml).to_json().expect(toml), json);
        }
        let metadata: ProjectMetadata = from_toml("[source.metadata]\nx = [nan]").expect("TOML");
        assert_eq!(metadata.to_json().expect_err("nan").key, "x.0");
    }
}

//! `order.toml`: groups of buildpacks to try (platform.md, *order.toml*).
//!
//! ```
//! use platform_spec::{order::Order, text::from_toml};
//! let order: Order = from_toml(r#"
//! [[order]]
//! [[order.group]]
//! id = "example/ruby"
//! version = "1.2.3"
//! [[order.group]]
//! id = "example/procfile"
//! version = "1.0.0"
//! optional = true
//! [[order-extensions]]
//! [[order-extensions.group]]
//! id = "example/curl"
//! version = "0.0.1"
//! "#).unwrap();
//! assert!(!order.order[0].group[0].optional && order.order[0].group[1].optional);
//! assert_eq!(order.order_extensions[0].group[0].full_name(), "example/curl@0.0.1");
//! ```

use serde::{Deserialize, Serialize};

use crate::name::{BuildpackId, BuildpackVersion};

/// `order.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Groups of buildpacks, the first that passes wins.
    #[serde(default)]
    pub order: Vec<OrderGroup>,
    /// Groups of extensions.
    #[serde(default, rename = "order-extensions")]
    pub order_extensions: Vec<OrderGroup>,
}

/// One group of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderGroup {
    /// Its elements.
    #[serde(default)]
    pub group: Vec<OrderElement>,
}

/// One buildpack or extension that a group names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderElement {
    /// Its id.
    pub id: BuildpackId,
    /// Its version.
    pub version: BuildpackVersion,
    /// Whether the group can do without it. An extension is optional whatever is said here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// The execution environments for which it is in the group; none is any (buildpack.md, *Order*).
    #[serde(default, rename = "exec-env", skip_serializing_if = "Vec::is_empty")]
    pub exec_env: Vec<String>,
}

impl OrderElement {
    /// `id@version`, as messages name it.
    pub fn full_name(&self) -> String {
        format!("{}@{}", self.id, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::from_toml;

    #[test]
    fn bad_input_is_named() {
        for (text, error) in [
            ("order = 'x'", "line 1, column 9: key 'order': expected an array, found string \"x\""),
            ("order = ['x']", "line 1, column 10: key 'order': expected a table, found string \"x\""),
            ("[[order]]\ngroup = {}", "line 2, column 9: key 'order.group': expected an array, found a table"),
            (
                "[[order]]\n[[order.group]]\nid = 'a'",
                "line 2, column 1: key 'order.group': the key 'version' is missing",
            ),
            (
                "[[order]]\n[[order.group]]\nid = 'a/..'\nversion = '1'",
                "line 3, column 6: key 'order.group.id': invalid buildpack id \"a/..\": '.' and '..' are not allowed",
            ),
            (
                "[[order]]\n[[order.group]]\nid = 'a'\nversion = '/1'",
                "line 4, column 11: key 'order.group.version': invalid version \"/1\": it contains '/'",
            ),
        ] {
            assert_eq!(from_toml::<Order>(text).expect_err(text).to_string(), error);
        }
    }
}

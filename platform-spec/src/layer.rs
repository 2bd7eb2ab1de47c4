//! `<layer>.toml`: layer content metadata (buildpack.md, *Layer Content Metadata*).
//!
//! ```
//! use platform_spec::{layer::Layer, text::from_toml};
//! let layer: Layer = from_toml("[types]\nlaunch = true\n[metadata]\nversion = '3.1'").unwrap();
//! assert!(layer.types.launch && !layer.types.cache);
//! assert_eq!(layer.metadata.unwrap()["version"].as_str(), Some("3.1"));
//! ```

use serde::{Deserialize, Serialize};

/// `<layer>.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// What the layer is for.
    #[serde(default)]
    pub types: Types,
    /// Anything the buildpack wants to find again at the next build; usually a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<toml::Value>,
}

/// `[types]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Types {
    /// In the app image.
    #[serde(default)]
    pub launch: bool,
    /// In the environment of later buildpacks.
    #[serde(default)]
    pub build: bool,
    /// Kept for the next build.
    #[serde(default)]
    pub cache: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{from_toml, to_toml};

    /// `metadata` is usually a table, but the reference takes anything, and so do labels.
    #[test]
    fn metadata_is_anything() {
        for text in ["", "metadata = 1", "metadata = ['x']", "metadata = 2020-01-01", "[metadata]", "unknown = 1"] {
            let layer: Layer = from_toml(text).expect(text);
            assert_eq!(from_toml::<Layer>(&to_toml(&layer)).expect(text), layer);
        }
    }

    #[test]
    fn bad_input_is_named() {
        for (text, error) in [
            ("types = []", "line 1, column 9: key 'types': expected a table, found an array"),
            ("types = [true, true, true]", "line 1, column 9: key 'types': expected a table, found an array"),
            ("types.build = 1", "line 1, column 15: key 'types.build': expected a boolean, found integer `1`"),
            (
                "[types]\ncache = 'true'",
                "line 2, column 9: key 'types.cache': expected a boolean, found string \"true\"",
            ),
            ("[types]\n[types]", "line 2, column 2: key 'types': duplicate key"),
        ] {
            assert_eq!(from_toml::<Layer>(text).expect_err(text).to_string(), error);
        }
    }
}

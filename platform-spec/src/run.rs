//! `run.toml`: run images and their mirrors (platform.md, *run.toml*).
//!
//! ```
//! use platform_spec::{run::Run, text::from_toml};
//! let run: Run = from_toml("[[images]]\nimage = 'example/run'\nmirrors = ['mirror.example.org/run']").unwrap();
//! assert_eq!(run.images[0].mirrors, ["mirror.example.org/run"]);
//! ```

use serde::{Deserialize, Serialize};

/// `run.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Run {
    /// Run images, the first is the default.
    #[serde(default)]
    pub images: Vec<RunImage>,
}

/// A run image and its mirrors; also in `stack.toml` and in the metadata label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunImage {
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Where else it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
}

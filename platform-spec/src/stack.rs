//! `stack.toml`: the run image below Platform API 0.12 (platform.md of 0.11, *stack.toml*).
//!
//! ```
//! use platform_spec::{stack::Stack, text::from_toml};
//! let stack: Stack = from_toml("[run-image]\nimage = 'example/run'\nmirrors = ['mirror.example.org/run']").unwrap();
//! assert_eq!(stack.run_image.image, "example/run");
//! ```

use serde::{Deserialize, Serialize};

use crate::run::RunImage;

/// `stack.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// The run image.
    #[serde(default, rename = "run-image")]
    pub run_image: RunImage,
}

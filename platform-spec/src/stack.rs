//! `stack.toml`: the run image below Platform API 0.12 (platform.md, *stack.toml*).

use serde::{Deserialize, Serialize};

use crate::run::RunImage;

/// `stack.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// The run image.
    #[serde(default, rename = "run-image")]
    pub run_image: RunImage,
}

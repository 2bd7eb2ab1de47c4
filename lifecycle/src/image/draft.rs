//! An image that is being made: a base, edits, layers on top.

use thiserror::Error;

use super::Image;

/// An image that is being made. Each method gives another draft; [`Draft::finish`] gives the image.
#[derive(Clone, Debug)]
pub struct Draft {
    base: Option<Image>,
}

/// Why a draft is not an image.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DraftError {
    /// A layer's blob is not known.
    #[error("layer {0} has no blob")]
    NoBlob(crate::digest::Digest),
}

impl Draft {
    /// What it is based on.
    pub fn base(&self) -> Option<&Image> {
        self.base.as_ref()
    }
}

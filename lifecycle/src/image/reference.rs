//! Names of images in registries.

use std::fmt;

use thiserror::Error;

use crate::digest::Digest;

/// An image reference, normalised: `ubuntu` is `index.docker.io/library/ubuntu:latest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Host and port: `index.docker.io`, `localhost:5000`.
    pub registry: String,
    /// `library/ubuntu`.
    pub repository: String,
    /// The tag; `latest` where neither tag nor digest was given.
    pub tag: Option<String>,
    /// The digest.
    pub digest: Option<Digest>,
}

/// Text that is not an image reference.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("could not parse reference: {text}: {reason}")]
pub struct ParseReferenceError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Reference {
    /// Parses and normalises.
    pub fn parse(text: &str) -> Result<Self, ParseReferenceError> {
        Err(ParseReferenceError { text: text.to_owned(), reason: "" })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

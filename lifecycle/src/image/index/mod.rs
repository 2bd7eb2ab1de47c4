//! Indexes: one name, an image for each of several platforms.
//!
//! - [`IndexChild`], [`Held`] and what `impl`s [`Index`](super::Index): pure functions, which children an index has and
//!   how it is written (module `merge`, whose comment says what is kept and what is decided);
//! - [`protocol`]: how many writers at once change one tag of a registry, though registries have no compare-and-swap,
//!   and the argument why nothing is lost. A machine that asks for one request after the other: stores send them,
//!   tests step them;
//! - [`slot_tag`], [`platforms`]: the tags by which writers announce what they merge;
//! - [`write_whole`]: writes an index, and sees to it that what one has put into it is there;
//! - [`check`]: what can be said before anything is done.
//!
//! Stores change an index by [`Store::write_index`](super::Store::write_index): a registry by the protocol, an OCI
//! layout under its lock. The children are there before: [`Push::finish_untagged`](super::Push::finish_untagged).

mod merge;
pub mod protocol;
mod slot;
#[cfg(test)]
mod tests;
mod whole;

use std::error::Error;

use platform_spec::index_report::{ImageEntry, IndexEntry};
use platform_spec::target::Platform;
use thiserror::Error;

use super::{Child, Document, Index, Reference, StoreError};
use crate::digest::Digest;

pub use merge::{Held, IndexChild};
pub use slot::{ANNOUNCED, WITHDRAWN, platforms, slot_tag};
pub(crate) use whole::send_again;
pub use whole::write_whole;

/// What is to become of the index under a tag.
#[derive(Clone, Copy)]
pub enum IndexChange<'a> {
    /// Add these children, whose manifests are there by digest, or put them in the place of those of their platforms.
    /// Others, added by whomever at the same time, stay.
    Merge(&'a [IndexChild]),
    /// Make a new index of what the tag holds, alone: a rebase, a replacement. Children that the new index names must be
    /// there by digest when the function returns. It is called again if the tag was changed meanwhile.
    Rewrite(&'a Rewrite<'a>),
}

/// Makes an index of what a tag holds (nothing, a manifest, an index).
pub type Rewrite<'a> = dyn Fn(Option<&Document>) -> Result<Index, Box<dyn Error + Send + Sync>> + 'a;

/// An index that stands.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenIndex {
    /// The name as given.
    pub name: String,
    /// Digest of the index.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its children, in its order.
    pub children: Vec<Child>,
    /// Platforms of which this writer has announced a child, and in whose place a newer one stands: another writer has
    /// announced it meanwhile, or has rebased or replaced the index.
    pub overridden: Vec<Platform>,
}

impl WrittenIndex {
    /// Its entry in `index-report.toml`.
    pub fn entry(&self) -> IndexEntry {
        let image = |child: &Child| ImageEntry {
            platform: child.stated().map(|platform| platform.to_string()).unwrap_or_default(),
            digest: child.blob.digest.to_string(),
            media_type: child.blob.media_type.clone(),
            size: child.blob.size,
        };
        IndexEntry {
            tag: self.name.clone(),
            digest: self.digest.to_string(),
            media_type: self.media_type.clone(),
            size: self.size,
            images: self.children.iter().map(image).collect(),
        }
    }

    /// That `index` stands under `name`.
    pub fn of(name: &str, index: Index, wanted: &[IndexChild]) -> Self {
        let stands = |child: &&IndexChild| !index.children.iter().any(|found| found.blob.digest == child.blob.digest);
        let overridden = wanted.iter().filter(stands).map(IndexChild::platform).collect();
        let size = index.bytes.len() as u64;
        let Index { digest, media_type, children, .. } = index;
        Self { name: name.to_owned(), digest, media_type, size, children, overridden }
    }
}

/// Why an index was not written. What the tag held before stands, or an index that others have written.
#[derive(Debug, Error)]
pub enum IndexError {
    /// The name is one image by its digest.
    #[error("{name}: an index needs a tag, but this name has a digest")]
    Digest {
        /// The name as given.
        name: String,
    },
    /// The platform is not in the protocol's list.
    #[error("{platform} cannot be a child of an index; platforms are {}", known())]
    Platform {
        /// The platform.
        platform: Platform,
    },
    /// The tag leaves no room for the name of its slot.
    #[error("{name}: the tag '{slot}', by which its index is made, would have {} characters, more than {}", .slot.len(), slot::LONGEST_TAG)]
    TagTooLong {
        /// The name as given.
        name: String,
        /// The slot's tag.
        slot: String,
    },
    /// Something else is to be written where writers of an index announce its children.
    #[error("{name}: by this tag the index of {index} is made, so that nothing else can have it")]
    IsSlot {
        /// The name as given.
        name: String,
        /// The index's name as given.
        index: String,
    },
    /// The registry takes images, but no index.
    #[error("{name}: the registry refuses indexes{}", stands(.children))]
    Refused {
        /// The name as given.
        name: String,
        /// The children that stand by their digests.
        children: Vec<String>,
        /// Its answer.
        #[source]
        cause: Box<dyn Error + Send + Sync>,
    },
    /// The tag, or a slot's, cannot be moved.
    #[error("{name}: the registry does not let tag '{tag}' be changed: an index needs tags that can be{}", stands(.children))]
    Immutable {
        /// The name as given.
        name: String,
        /// Which tag.
        tag: String,
        /// The children that stand by their digests.
        children: Vec<String>,
        /// Its answer.
        #[source]
        cause: Box<dyn Error + Send + Sync>,
    },
    /// Others change the index all the time.
    #[error(
        "{name}: others have changed the index again and again ({rounds} rounds in {seconds} s){}; the indexer joins \
         images that were exported without an index, when all of them are there", stands(.children)
    )]
    GivenUp {
        /// The name as given.
        name: String,
        /// How often it was read and written.
        rounds: u32,
        /// For how long.
        seconds: u64,
        /// The children that stand by their digests.
        children: Vec<String>,
    },
    /// Something that the index names is not in the registry any more.
    #[error(
        "{name}: the registry has lost {}, which the index names; an export for that platform puts this right, and \
         -index replace makes a new index of one image{}", lost_children(.lost), stands(.children)
    )]
    Gone {
        /// The name as given.
        name: String,
        /// What is not there, as far as it can be said.
        lost: Vec<Child>,
        /// The children that stand by their digests.
        children: Vec<String>,
        /// Its answer; none, if it has taken the index nevertheless.
        #[source]
        cause: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The new index could not be made ([`IndexChange::Rewrite`]).
    #[error("{name}: make the new index")]
    Rewrite {
        /// The name as given.
        name: String,
        /// Why.
        #[source]
        cause: Box<dyn Error + Send + Sync>,
    },
    /// The store could not do what was asked.
    #[error("write index {name}{}", stands(.children))]
    Store {
        /// The name as given.
        name: String,
        /// The children that stand by their digests.
        children: Vec<String>,
        /// Why.
        #[source]
        cause: StoreError,
    },
}

impl IndexError {
    /// With the names of the children that stand by their digests, where it does not say them yet.
    #[must_use]
    pub fn naming(mut self, names: Vec<String>) -> Self {
        match &mut self {
            Self::Refused { children, .. }
            | Self::Immutable { children, .. }
            | Self::GivenUp { children, .. }
            | Self::Gone { children, .. }
            | Self::Store { children, .. } => {
                if children.is_empty() {
                    *children = names;
                }
            }
            Self::Digest { .. }
            | Self::Platform { .. }
            | Self::TagTooLong { .. }
            | Self::IsSlot { .. }
            | Self::Rewrite { .. } => {}
        }
        self
    }
}

fn known() -> String {
    platforms().map(|platform| platform.to_string()).collect::<Vec<_>>().join(", ")
}

fn lost_children(lost: &[Child]) -> String {
    let one = |child: &Child| match &child.platform {
        Some(target) => format!("{} for {}", child.blob.digest, target.platform()),
        None => child.blob.digest.to_string(),
    };
    match lost {
        [] => "something".to_owned(),
        lost => lost.iter().map(one).collect::<Vec<_>>().join(" and "),
    }
}

fn stands(children: &[String]) -> String {
    match children {
        [] => String::new(),
        [one] => format!("; the image is there as {one}"),
        many => format!("; the images are there as {}", many.join(", ")),
    }
}

/// Checks, before anything is done, whether an image for this platform can be merged into the index of this name:
/// the name must have no digest, the platform a slot, and the slot's tag must not be too long.
pub fn check(name: &str, platform: &Platform) -> Result<(), IndexError> {
    let reference = check_name(name)?;
    let tag = reference.identifier();
    match slot_tag(&tag, platform) {
        None => Err(IndexError::Platform { platform: platform.clone() }),
        Some(slot) if slot.len() > slot::LONGEST_TAG => Err(IndexError::TagTooLong { name: name.to_owned(), slot }),
        Some(_) => Ok(()),
    }
}

/// Checks, before anything is done, that no name is that of a slot of one of the indexes. `others` are further names that are
/// written.
pub fn check_apart(indexes: &[&str], others: &[&str]) -> Result<(), IndexError> {
    for index in indexes {
        let own = check_name(index)?;
        let tag = own.identifier();
        for name in indexes.iter().chain(others) {
            let found = Reference::parse(name).ok().filter(|found| found.digest.is_none());
            let is_slot = found.is_some_and(|found| {
                (&found.registry, &found.repository) == (&own.registry, &own.repository)
                    && platforms()
                        .any(|platform| slot_tag(&tag, &platform).is_some_and(|slot| slot == found.identifier()))
            });
            if is_slot {
                return Err(IndexError::IsSlot { name: (*name).to_owned(), index: (*index).to_owned() });
            }
        }
    }
    Ok(())
}

/// Checks whether a name can be an index's: it must have no digest. For a rebase, which announces nothing.
pub fn check_name(name: &str) -> Result<Reference, IndexError> {
    let parsed = Reference::parse(name).map_err(|error| {
        let cause = StoreError::Name { name: name.to_owned(), reason: error.reason.to_owned() };
        IndexError::Store { name: name.to_owned(), children: Vec::new(), cause }
    })?;
    match parsed.digest {
        Some(_) => Err(IndexError::Digest { name: name.to_owned() }),
        None => Ok(parsed),
    }
}

/// As errors name the children of `change` in a repository.
pub fn names_of_children(reference: &Reference, change: &IndexChange<'_>) -> Vec<String> {
    match change {
        IndexChange::Merge(children) => {
            children.iter().map(|child| reference.with_digest(child.blob.digest).name()).collect()
        }
        IndexChange::Rewrite(_) => Vec::new(),
    }
}

//! Merging: which children an index has after a child was added or replaced, and how it is written.
//!
//! Pure functions. They keep what they do not know: children of other platforms, nested indexes (never descended
//! into), attestations of children that stay, annotations, unknown keys. What they decide:
//!
//! - Two platforms are one if their normalised names are equal (`amd64/v1` is `amd64`, `arm64/v8` is `arm64`).
//! - All image manifests of a child's platform are replaced by it, if a foreign index has several: a reader would
//!   choose any of them. Several of a platform that nobody adds stay as they are.
//! - An image manifest without a platform is nobody's and stays (readers take it for `linux/amd64`, but the first that
//!   fits, and it goes behind those that state theirs).
//! - Attestations (`unknown/unknown`, annotation `vnd.docker.reference.digest`) of a child that is replaced by another
//!   go with it.
//! - Children are ordered by platform, then those without one, then attestations; equals stay in their order. So the
//!   bytes do not depend on who came first.
//! - OCI's words, if any child has them or anything is said that Docker's list has no key for; else Docker's.

use std::cmp::Ordering;

use platform_spec::target::{Platform, Target};
use serde_json::{Map, Value};

use crate::digest::Digest;
use crate::image::json::{self, Key, Schema, Zero};
use crate::image::{BlobRef, Child, Config, Format, Image, Index, Manifest};

/// Annotation of an attestation's descriptor: digest of the child that it is about (BuildKit's).
const ABOUT: &str = "vnd.docker.reference.digest";

/// A child that is to be added to an index, or to replace the one of its platform.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexChild {
    /// Its descriptor: media type, digest, size.
    pub blob: BlobRef,
    /// Operating system, architecture and variant as its config states them.
    pub target: Target,
}

impl IndexChild {
    /// The child that an image is. Its platform is what its config states; where that states no variant, `target`'s
    /// (what the image was made for), if it is of the same architecture.
    pub fn of(image: &Image, target: Option<&Platform>) -> Self {
        Self { blob: image.manifest.blob_ref(), target: stated_platform(&image.config, target) }
    }

    /// Its normalised platform.
    pub fn platform(&self) -> Platform {
        self.target.platform()
    }
}

fn stated_platform(config: &Config, target: Option<&Platform>) -> Target {
    let mut stated = Target {
        os: config.os().to_owned(),
        arch: config.architecture().to_owned(),
        variant: config.variant().to_owned(),
        ..Target::default()
    };
    let platform = stated.platform();
    if let Some(target) = target
        && stated.variant.is_empty()
        && (platform.os(), platform.arch()) == (target.os(), target.arch())
    {
        target.variant().clone_into(&mut stated.variant);
    }
    stated
}

/// What a tag holds, as children of an index.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held {
    /// Whether it is an index; else nothing or one manifest.
    pub is_index: bool,
    /// Its children.
    pub children: Vec<Child>,
    /// The index's other keys (`annotations`, `subject`).
    pub other: Map<String, Value>,
}

impl Held {
    /// An index's children.
    pub fn of_index(index: &Index) -> Self {
        Self { is_index: true, children: index.children.clone(), other: index.other.clone() }
    }

    /// A single manifest, which becomes a child; `config` states its platform.
    pub fn of_manifest(manifest: &Manifest, config: Option<&Config>) -> Self {
        let target = config.map(|config| stated_platform(config, None)).filter(|target| !target.os.is_empty());
        let child = match target {
            Some(target) => child(manifest.blob_ref(), target),
            None => Child { blob: manifest.blob_ref(), platform: None },
        };
        Self { is_index: false, children: vec![child], other: Map::new() }
    }

    /// Whether it is an index already that names these children, each as the only one of its platform.
    pub fn holds(&self, wanted: &[IndexChild]) -> bool {
        let held = |wanted: &IndexChild| {
            let mut same = self.children.iter().filter(|child| is_replaced_by(child, wanted));
            same.next().is_some_and(|child| {
                child.blob.digest == wanted.blob.digest && child.stated().as_ref() == Some(&wanted.platform())
            }) && same.next().is_none()
        };
        self.is_index && wanted.iter().all(held)
    }

    /// What it has of the child's platform, where that is another image.
    pub fn other_of(&self, wanted: &IndexChild) -> Option<Digest> {
        let mut others = self.children.iter().map(|child| (child, child.blob.digest));
        others.find(|(child, digest)| is_replaced_by(child, wanted) && *digest != wanted.blob.digest).map(|(_, it)| it)
    }

    /// The index with these children, each in the place of those of its platform. Of two of one platform the later.
    pub fn merged(&self, new: &[IndexChild]) -> Index {
        let mut children = self.children.clone();
        let mut removed = Vec::new();
        for new in new {
            let mut blob = new.blob.clone();
            children.retain(|child| {
                let replaced = is_replaced_by(child, new);
                if replaced && child.blob.digest == blob.digest {
                    // The same once more: what was said of it is kept.
                    blob.other = child.blob.other.clone();
                } else if replaced {
                    removed.push(child.blob.digest);
                }
                !replaced
            });
            children.push(self::child(blob, new.target.clone()));
        }
        removed.retain(|digest| children.iter().all(|child| child.blob.digest != *digest));
        children.retain(|child| about(child).is_none_or(|about| !removed.contains(&about)));
        Index::of(children, self.other.clone())
    }
}

/// A descriptor with its platform, as an index has it.
fn child(mut blob: BlobRef, target: Target) -> Child {
    let mut platform = match blob.other.remove("platform") {
        Some(Value::Object(platform)) => platform,
        Some(_) | None => Map::new(),
    };
    for (key, value) in [("os", &target.os), ("architecture", &target.arch), ("variant", &target.variant)] {
        match value.as_str() {
            "" => platform.remove(key),
            value => platform.insert(key.to_owned(), value.into()),
        };
    }
    blob.other.insert("platform".to_owned(), platform.into());
    Child { blob, platform: Some(target) }
}

fn is_image(child: &Child) -> bool {
    Format::of_manifest(&child.blob.media_type).is_some()
}

/// Image manifests of the new one's platform, and the same manifest under whatever platform.
fn is_replaced_by(child: &Child, new: &IndexChild) -> bool {
    is_image(child) && (child.blob.digest == new.blob.digest || child.stated().as_ref() == Some(&new.platform()))
}

/// The child that an attestation is about.
fn about(child: &Child) -> Option<Digest> {
    child.blob.other.get("annotations")?.get(ABOUT)?.as_str()?.parse().ok()
}

/// By platform; what states none afterwards, attestations last.
fn order(a: &Child, b: &Child) -> Ordering {
    let rank = |child: &Child| match child.stated() {
        Some(platform) if platform.os() == "unknown" => (2, None),
        Some(platform) => (0, Some(platform)),
        None => (1, None),
    };
    rank(a).cmp(&rank(b))
}

impl Index {
    /// An index of these children, ordered, with its bytes; `other` are its further keys (`annotations`).
    pub fn of(mut children: Vec<Child>, other: Map<String, Value>) -> Self {
        children.sort_by(order);
        let is_dockers = |child: &Child| {
            let media_type = child.blob.media_type.as_str();
            (media_type == Format::Docker.manifest() || media_type == Format::Docker.index())
                && !child.blob.other.contains_key("annotations")
        };
        let all_dockers = !children.is_empty() && other.is_empty() && children.iter().all(is_dockers);
        Self::in_format(if all_dockers { Format::Docker } else { Format::Oci }, children, other)
    }

    /// As [`Self::of`], in these words and in the given order.
    pub(super) fn in_format(format: Format, children: Vec<Child>, other: Map<String, Value>) -> Self {
        let mut object = other.clone();
        object.insert("schemaVersion".to_owned(), 2.into());
        object.insert("mediaType".to_owned(), format.index().into());
        object.insert("manifests".to_owned(), children.iter().map(|child| child.blob.to_json()).collect());
        let bytes = json::write(&object, &INDEX);
        let digest = Digest::of(&bytes);
        Self { bytes, media_type: format.index().to_owned(), digest, children, other }
    }

    /// An index of these children alone: a fresh one.
    pub fn fresh(children: &[IndexChild]) -> Self {
        Held::default().merged(children)
    }

    /// This index with children replaced, each by the one that stands for its digest; the others stay.
    pub fn with_children_replaced(&self, replacement: impl Fn(&Child) -> Option<IndexChild>) -> Self {
        let mut removed = Vec::new();
        let mut children = Vec::new();
        for old in &self.children {
            match replacement(old) {
                Some(new) => {
                    removed.push(old.blob.digest);
                    let mut blob = new.blob;
                    blob.other = old.blob.other.clone();
                    children.push(child(blob, new.target));
                }
                None => children.push(old.clone()),
            }
        }
        removed.retain(|digest| children.iter().all(|child| child.blob.digest != *digest));
        children.retain(|child| about(child).is_none_or(|about| !removed.contains(&about)));
        Self::of(children, self.other.clone())
    }

    /// Its descriptor.
    pub fn blob_ref(&self) -> BlobRef {
        BlobRef::new(&self.media_type, self.digest, self.bytes.len() as u64)
    }
}

static INDEX: Schema = Schema {
    keys: &[
        Key::always("schemaVersion", Zero::Keep),
        Key::optional("mediaType"),
        Key::always("manifests", Zero::Array).of(&DESCRIPTOR),
        Key::optional("annotations"),
        Key::optional("subject").of(&DESCRIPTOR),
        Key::optional("artifactType"),
    ],
};

static DESCRIPTOR: Schema = Schema {
    keys: &[
        Key::always("mediaType", Zero::Text),
        Key::always("size", Zero::Keep),
        Key::always("digest", Zero::Text),
        Key::optional("data"),
        Key::optional("urls"),
        Key::optional("annotations"),
        Key::optional("platform").of(&PLATFORM),
        Key::optional("artifactType"),
    ],
};

static PLATFORM: Schema = Schema {
    keys: &[
        Key::always("architecture", Zero::Text),
        Key::always("os", Zero::Text),
        Key::optional("os.version"),
        Key::optional("os.features"),
        Key::optional("variant"),
        Key::optional("features"),
    ],
};

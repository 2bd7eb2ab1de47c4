//! Slots: the tags by which writers announce what they are going to merge.
//!
//! The slot of a tag and a platform is the tag `<tag>-cnb-linux-<arch>[-<variant>]`. It names a small index:
//!
//! - *announced*: one child, and the annotation [`ANNOUNCED`], the registry's time;
//! - *withdrawn*: no child, and the annotation [`WITHDRAWN`], the digest of the child that was announced: a rebase or a
//!   replacement has taken it into account, and it is to be merged no more.
//!
//! Anything else under such a tag is nobody's announcement. The list of platforms is part of the protocol: who did
//! not read a slot would lose its child. So it never changes.

use platform_spec::target::Platform;
use serde_json::{Map, Value};

use super::merge::IndexChild;
use crate::digest::Digest;
use crate::image::draft::{parse_rfc3339, rfc3339};
use crate::image::{Child, Document, Format, Index};

/// Annotation of a slot: when its child was announced, RFC 3339.
pub const ANNOUNCED: &str = "io.buildpacks.index.announced";

/// Annotation of a slot: digest of the child that was withdrawn.
pub const WITHDRAWN: &str = "io.buildpacks.index.withdrawn";

/// Characters of the longest tag.
pub(super) const LONGEST_TAG: usize = 128;

/// Architecture and variant of every platform that has a slot; the operating system is linux.
const PLATFORMS: [(&str, &str); 15] = [
    ("386", ""),
    ("amd64", ""),
    ("amd64", "v2"),
    ("amd64", "v3"),
    ("amd64", "v4"),
    ("arm", "v5"),
    ("arm", "v6"),
    ("arm", "v7"),
    ("arm64", ""),
    ("arm64", "v9"),
    ("loong64", ""),
    ("mips64le", ""),
    ("ppc64le", ""),
    ("riscv64", ""),
    ("s390x", ""),
];

/// The platforms that can be merged into an index.
pub fn platforms() -> impl Iterator<Item = Platform> {
    PLATFORMS.iter().map(|(arch, variant)| Platform::new("linux", arch, variant))
}

/// The slot of a tag for a platform, however long that is; `None`: the platform has none.
pub fn slot_tag(tag: &str, platform: &Platform) -> Option<String> {
    platforms().find(|known| known == platform)?;
    Some(format!("{tag}-cnb-{}", platform.to_string().replace('/', "-")))
}

/// What a slot says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Slot {
    /// Nothing that we understand.
    Nothing,
    /// A child is announced, at a time in seconds since 1970.
    Announced(Box<IndexChild>, i64),
    /// The child of this digest was withdrawn.
    Withdrawn(Digest),
}

impl Slot {
    /// Reads a slot of `platform`.
    pub(super) fn read(document: &Document, platform: &Platform) -> Self {
        let Document::Index(index) = document else { return Self::Nothing };
        let annotation = |name: &str| index.other.get("annotations")?.get(name)?.as_str();
        if let Some(digest) = annotation(WITHDRAWN).and_then(|text| text.parse().ok()) {
            return Self::Withdrawn(digest);
        }
        match (index.children.as_slice(), annotation(ANNOUNCED).and_then(parse_rfc3339)) {
            ([Child { blob, platform: Some(target) }], Some(time))
                if target.platform() == *platform && Format::of_manifest(&blob.media_type).is_some() =>
            {
                let mut blob = blob.clone();
                blob.other = Map::new();
                Self::Announced(Box::new(IndexChild { blob, target: target.clone() }), time)
            }
            _ => Self::Nothing,
        }
    }

    /// The child of which it says something.
    pub(super) fn child(&self) -> Option<Digest> {
        match self {
            Self::Nothing => None,
            Self::Announced(child, _) => Some(child.blob.digest),
            Self::Withdrawn(digest) => Some(*digest),
        }
    }

    /// The slot's document that announces a child.
    pub(super) fn announce(child: &IndexChild, time: i64) -> Index {
        let children = Index::fresh(std::slice::from_ref(child)).children;
        Index::in_format(format_of(child), children, annotated(ANNOUNCED, rfc3339(time)))
    }

    /// The slot's document that withdraws a child.
    pub(super) fn withdraw(child: &IndexChild) -> Index {
        Index::in_format(format_of(child), Vec::new(), annotated(WITHDRAWN, child.blob.digest.to_string()))
    }
}

/// A registry that takes the child takes an index in the child's words.
fn format_of(child: &IndexChild) -> Format {
    Format::of_manifest(&child.blob.media_type).unwrap_or(Format::Oci)
}

fn annotated(name: &str, value: String) -> Map<String, Value> {
    let annotations = Map::from_iter([(name.to_owned(), Value::from(value))]);
    Map::from_iter([("annotations".to_owned(), annotations.into())])
}

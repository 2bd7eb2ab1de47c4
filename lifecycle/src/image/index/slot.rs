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

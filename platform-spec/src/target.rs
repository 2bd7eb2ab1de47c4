//! Targets: operating system, architecture, variant, distribution (platform.md, *Target Data*; buildpack.md, *Targets*).
//!
//! [`Target`] is what files and image configs state, letter by letter: buildpacks get it as it is. [`Platform`] is
//! what is compared: one spelling for each architecture, whatever a file, a config, a flag or the compiler calls it.
//! Nothing else in the lifecycle knows that `x86_64` is `amd64`.
//!
//! ```
//! use platform_spec::{buildpack::BuildpackTarget, target::{Platform, Target}, text::from_toml};
//! let image: Target = from_toml(r#"
//! os = "linux"
//! arch = "arm64"
//! variant = "v8"
//! [distro]
//! name = "ubuntu"
//! version = "24.04"
//! "#).unwrap();
//! let wanted: Platform = "aarch64".parse().unwrap();
//! assert!(wanted.selects(&image.platform()));
//!
//! let buildpack: BuildpackTarget = from_toml("os = 'linux'\n[[distros]]\nname = 'ubuntu'").unwrap();
//! assert!(buildpack.matches(&image));
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A target as files state it. Empty text is "not stated".
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "TargetInFile")]
pub struct Target {
    /// The run image's target id, its label `io.buildpacks.base.id`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Operating system: `linux`.
    pub os: String,
    /// Architecture in GOARCH's words: `amd64`, `arm64`.
    pub arch: String,
    /// Variant of the architecture: `v8`. Written as `arch-variant`, as the reference does; the specification's
    /// `variant` is read too, where `arch-variant` says nothing.
    #[serde(rename = "arch-variant", skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Distribution of the run image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distro: Option<Distro>,
}

/// A distribution, as in `/etc/os-release`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Distro {
    /// `ID`.
    #[serde(default)]
    pub name: String,
    /// `VERSION_ID`.
    #[serde(default)]
    pub version: String,
}

/// Both spellings of the variant's key, which may both be there.
#[derive(Deserialize)]
struct TargetInFile {
    #[serde(default)]
    id: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    arch: String,
    #[serde(default, rename = "arch-variant")]
    arch_variant: String,
    #[serde(default)]
    variant: String,
    distro: Option<Distro>,
}

impl From<TargetInFile> for Target {
    fn from(TargetInFile { id, os, arch, arch_variant, variant, distro }: TargetInFile) -> Self {
        Self { id, os, arch, variant: if arch_variant.is_empty() { variant } else { arch_variant }, distro }
    }
}

impl Target {
    /// The platform of this target.
    pub fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.arch, &self.variant)
    }
}

/// A normalised platform: operating system, architecture, variant. Displayed as `linux/arm64`, `linux/arm/v7`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    os: String,
    arch: String,
    /// Empty is "not stated", or for [`BASELINES`] the baseline.
    variant: String,
}

/// Names that are in use, and what they mean: architecture and variant. What is not here is a name of its own.
const SPELLINGS: &[(&str, &str, &str)] = &[
    ("aarch64", "arm64", ""),
    ("armel", "arm", "v6"),
    ("armhf", "arm", "v7"),
    ("armv5l", "arm", "v5"),
    ("armv6l", "arm", "v6"),
    ("armv7l", "arm", "v7"),
    ("i386", "386", ""),
    ("i486", "386", ""),
    ("i586", "386", ""),
    ("i686", "386", ""),
    ("loongarch64", "loong64", ""),
    ("powerpc64le", "ppc64le", ""),
    ("ppc64el", "ppc64le", ""),
    ("x86", "386", ""),
    ("x86-64", "amd64", ""),
    ("x86_64", "amd64", ""),
];

/// Architectures of which every machine is of a baseline variant, which is not written; higher variants do not run
/// on every one.
const BASELINES: &[(&str, &str)] = &[("amd64", "v1"), ("arm64", "v8")];

/// The architectures that the OCI image specification knows (GOARCH's), with the variants in use.
const KNOWN: &[(&str, &[&str])] = &[
    ("386", &[]),
    ("amd64", &["v1", "v2", "v3", "v4"]),
    ("arm", &["v5", "v6", "v7", "v8"]),
    ("arm64", &["v8", "v9"]),
    ("loong64", &[]),
    ("mips", &[]),
    ("mips64", &[]),
    ("mips64le", &[]),
    ("mipsle", &[]),
    ("ppc64", &[]),
    ("ppc64le", &[]),
    ("riscv64", &[]),
    ("s390x", &[]),
];

/// A platform that was asked for and that nobody knows (exit code [`crate::exit::INVALID_ARGUMENTS`]).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnknownPlatform {
    /// Not `[linux/]<architecture>[/<variant>]`.
    #[error("parse platform '{0}': expected [linux/]<architecture>[/<variant>]; architectures are {known}", known = known())]
    Form(String),
    /// Another operating system than linux.
    #[error("parse platform '{0}': the operating system must be linux")]
    Os(String),
    /// No such architecture.
    #[error("parse platform '{0}': unknown architecture; known are {known}", known = known())]
    Architecture(String),
    /// No such variant of the architecture.
    #[error("parse platform '{platform}': {}", match .variants { [] => "the architecture has no variants".to_owned(), list => format!("unknown variant; known are {}", list.join(", ")) })]
    Variant {
        /// The text.
        platform: String,
        /// What there is.
        variants: &'static [&'static str],
    },
}

fn known() -> String {
    KNOWN.iter().map(|(arch, _)| *arch).collect::<Vec<_>>().join(", ")
}

impl Platform {
    /// The platform of what a file or an image config states. Names that are not known are kept as they are.
    pub fn new(os: &str, arch: &str, variant: &str) -> Self {
        let (arch, variant) = spell(arch, variant);
        let is_baseline = BASELINES.contains(&(arch, &variant));
        Self { os: os.to_owned(), arch: arch.to_owned(), variant: if is_baseline { String::new() } else { variant } }
    }

    /// The platform that this program was compiled for.
    pub fn of_this_program() -> Self {
        let arch = match std::env::consts::ARCH {
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            "mips64" if cfg!(target_endian = "little") => "mips64le",
            "mips" if cfg!(target_endian = "little") => "mipsle",
            arch => arch,
        };
        Self::new(std::env::consts::OS, arch, "")
    }

    /// Operating system: `linux`; empty if it is not stated.
    pub fn os(&self) -> &str {
        &self.os
    }

    /// Architecture: `arm64`; empty if it is not stated.
    pub fn arch(&self) -> &str {
        &self.arch
    }

    /// Variant: `v7`; empty if it is not stated or every machine has it.
    pub fn variant(&self) -> &str {
        &self.variant
    }

    /// Whether this platform, asked for, may be answered with an image of another: operating system and architecture
    /// are equal, and variants are compared only where both state one. But `amd64` never selects `amd64/v2`, nor
    /// `arm64` `arm64/v9`: these do not run on every machine that was asked for.
    pub fn selects(&self, image: &Self) -> bool {
        self.os == image.os
            && self.arch == image.arch
            && match (self.variant.as_str(), image.variant.as_str()) {
                (_, "") => true,
                ("", _) => !BASELINES.iter().any(|(arch, _)| *arch == self.arch),
                (wanted, found) => wanted == found,
            }
    }
}

/// An architecture and a variant in their one spelling, a baseline still stated. `8` and `V8` are `v8`.
pub(crate) fn spell<'a>(arch: &'a str, variant: &str) -> (&'a str, String) {
    let (arch, implied) =
        SPELLINGS.iter().find(|(name, ..)| *name == arch).map_or((arch, ""), |(_, arch, variant)| (arch, variant));
    let mut variant = if variant.is_empty() { implied.to_owned() } else { variant.to_ascii_lowercase() };
    if variant.starts_with(|first: char| first.is_ascii_digit()) {
        variant.insert(0, 'v');
    }
    (arch, variant)
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { os, arch, variant } = self;
        write!(f, "{os}/{arch}")?;
        if variant.is_empty() { Ok(()) } else { write!(f, "/{variant}") }
    }
}

/// Reads what a person asks for: `[linux/]<architecture>[/<variant>]`, only what is known.
impl FromStr for Platform {
    type Err = UnknownPlatform;

    fn from_str(text: &str) -> Result<Self, UnknownPlatform> {
        let lower = text.to_ascii_lowercase();
        let parts: Vec<_> = lower.split('/').collect();
        let is_arch = |name: &str| {
            KNOWN.iter().any(|(arch, _)| *arch == name) || SPELLINGS.iter().any(|(spelling, ..)| *spelling == name)
        };
        let (os, arch, variant) = match parts.as_slice() {
            [arch] | [arch, ""] => ("linux", *arch, ""),
            [arch, variant] if is_arch(arch) => ("linux", *arch, *variant),
            [os, arch] => (*os, *arch, ""),
            [os, arch, variant] => (*os, *arch, *variant),
            _ => return Err(UnknownPlatform::Form(text.to_owned())),
        };
        if parts.contains(&"") {
            return Err(UnknownPlatform::Form(text.to_owned()));
        }
        if !is_arch(arch) {
            return Err(UnknownPlatform::Architecture(text.to_owned()));
        }
        if os != "linux" {
            return Err(UnknownPlatform::Os(text.to_owned()));
        }
        let platform = Self::new(os, arch, variant);
        let variants =
            KNOWN.iter().find(|(known, _)| *known == platform.arch).map_or(&[][..], |(_, variants)| variants);
        if platform.variant.is_empty() || variants.contains(&platform.variant.as_str()) {
            Ok(platform)
        } else {
            Err(UnknownPlatform::Variant { platform: text.to_owned(), variants })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{from_toml, to_toml};

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/');
        let mut part = || parts.next().unwrap_or_default();
        Platform::new(part(), part(), part())
    }

    #[test]
    fn names_are_normalised() {
        for (text, normal) in [
            ("amd64", "linux/amd64"),
            ("x86_64", "linux/amd64"),
            ("X86-64", "linux/amd64"),
            ("amd64/v1", "linux/amd64"),
            ("x86_64/v2", "linux/amd64/v2"),
            ("arm64", "linux/arm64"),
            ("aarch64", "linux/arm64"),
            ("arm64/v8", "linux/arm64"),
            ("linux/arm64/8", "linux/arm64"),
            ("linux/arm64/v9", "linux/arm64/v9"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/ARM/V7", "linux/arm/v7"),
            ("arm", "linux/arm"),
            ("armhf", "linux/arm/v7"),
            ("armel", "linux/arm/v6"),
            ("armv7l", "linux/arm/v7"),
            ("i686", "linux/386"),
            ("ppc64el", "linux/ppc64le"),
            ("loongarch64", "linux/loong64"),
            ("riscv64", "linux/riscv64"),
            ("s390x", "linux/s390x"),
        ] {
            let parsed: Platform = text.parse().expect(text);
            assert_eq!(parsed.to_string(), normal, "{text}");
            assert_eq!(normal.parse::<Platform>().expect(normal), parsed);
        }
    }

    #[test]
    fn what_nobody_knows_is_refused_with_what_there_is() {
        let known = "386, amd64, arm, arm64, loong64, mips, mips64, mips64le, mipsle, ppc64, ppc64le, riscv64, s390x";
        for (text, error) in [
            ("sparc", format!("parse platform 'sparc': unknown architecture; known are {known}")),
            ("linux/sparc", format!("parse platform 'linux/sparc': unknown architecture; known are {known}")),
            ("linux", format!("parse platform 'linux': unknown architecture; known are {known}")),
            ("windows/amd64", "parse platform 'windows/amd64': the operating system must be linux".to_owned()),
            ("amd64/v5", "parse platform 'amd64/v5': unknown variant; known are v1, v2, v3, v4".to_owned()),
            ("arm64/v7", "parse platform 'arm64/v7': unknown variant; known are v8, v9".to_owned()),
            ("s390x/z14", "parse platform 's390x/z14': the architecture has no variants".to_owned()),
        ] {
            assert_eq!(text.parse::<Platform>().expect_err(text).to_string(), error);
        }
        for text in ["", "/", "amd64/", "/amd64", "linux//v7", "linux/arm/v7/x", "linux/arm/"] {
            assert_eq!(text.parse::<Platform>(), Err(UnknownPlatform::Form(text.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn what_configs_state_is_kept_if_it_is_unknown() {
        assert_eq!(platform("linux/riscv64/rva20u64").to_string(), "linux/riscv64/rva20u64");
        assert_eq!(platform("windows/amd64").to_string(), "windows/amd64");
        assert_eq!(Platform::new("unknown", "unknown", "").to_string(), "unknown/unknown");
    }

    #[test]
    fn images_are_selected() {
        for (wanted, image, selected) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "linux/x86_64/v1", true),
            ("linux/amd64", "linux/amd64/v2", false),
            ("linux/amd64/v2", "linux/amd64", true),
            ("linux/amd64/v2", "linux/amd64/v2", true),
            ("linux/amd64/v3", "linux/amd64/v2", false),
            ("linux/arm64", "linux/aarch64/v8", true),
            ("linux/arm64", "linux/arm64/v9", false),
            ("linux/arm64/v9", "linux/arm64", true),
            ("linux/arm", "linux/arm/v7", true),
            ("linux/arm/v7", "linux/arm", true),
            ("linux/arm/v7", "linux/arm/v7", true),
            ("linux/arm/v7", "linux/arm/v6", false),
            ("linux/arm", "linux/arm64", false),
            ("linux/arm64", "windows/arm64", false),
            ("linux/amd64", "linux/arm64", false),
        ] {
            assert_eq!(platform(wanted).selects(&platform(image)), selected, "{wanted} and {image}");
        }
    }

    #[test]
    fn this_program_has_a_known_platform() {
        let platform = Platform::of_this_program();
        assert_eq!(platform.to_string().parse::<Platform>(), Ok(platform));
    }

    #[test]
    fn the_variant_has_two_keys() {
        for (text, variant) in [
            ("arch = 'arm'", ""),
            ("variant = 'v7'", "v7"),
            ("arch-variant = 'v7'", "v7"),
            ("arch-variant = 'v7'\nvariant = 'v6'", "v7"),
            ("arch-variant = ''\nvariant = 'v6'", "v6"),
        ] {
            assert_eq!(from_toml::<Target>(text).expect(text).variant, variant, "{text}");
        }
        let target = from_toml::<Target>("os = 'linux'\narch = 'x86_64'\nvariant = 'V1'").expect("a target");
        assert_eq!(
            to_toml(&target),
            "os = \"linux\"\narch = \"x86_64\"\narch-variant = \"V1\"\n",
            "kept letter by letter"
        );
        assert_eq!(to_toml(&Target::default()), "os = \"\"\narch = \"\"\n");
        let error = from_toml::<Target>("variant = 8").expect_err("a number").to_string();
        assert_eq!(error, "line 1, column 11: key 'variant': expected a string, found integer `8`");
    }
}

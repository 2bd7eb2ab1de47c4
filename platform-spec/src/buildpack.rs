//! `buildpack.toml` (buildpack.md, *buildpack.toml*).
//!
//! ```
//! use platform_spec::{buildpack::Buildpack, text::from_toml};
//! let buildpack: Buildpack = from_toml(r#"
//! api = "0.12"
//! [buildpack]
//! id = "io.buildpacks.ruby"
//! version = "1.2.3"
//! sbom-formats = ["application/vnd.cyclonedx+json"]
//! [[buildpack.exec-env]]
//! name = "production"
//! [[targets]]
//! os = "linux"
//! arch = "amd64"
//! [[targets.distros]]
//! name = "ubuntu"
//! version = "24.04"
//! "#).unwrap();
//! assert_eq!(buildpack.buildpack.exec_env, ["production"]);
//! assert_eq!(buildpack.targets[0].distros[0].name, "ubuntu");
//! ```

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::name::{BuildpackId, BuildpackVersion};
use crate::order::OrderGroup;
use crate::target::{Distro, Platform, Target, spell};

/// `buildpack.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Buildpack {
    /// The Buildpack API that it implements; empty if missing.
    #[serde(default)]
    pub api: String,
    /// Who it is.
    pub buildpack: Info,
    /// For a composite buildpack: the order that takes its place.
    #[serde(default)]
    pub order: Vec<OrderGroup>,
    /// Targets that it supports.
    #[serde(default)]
    pub targets: Vec<BuildpackTarget>,
    /// Deprecated stacks, from which targets are inferred.
    #[serde(default)]
    pub stacks: Vec<BuildpackStack>,
}

/// `[buildpack]`, and `[extension]` of `extension.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Info {
    /// Its id.
    pub id: BuildpackId,
    /// Its version.
    pub version: BuildpackVersion,
    /// Its name for people.
    #[serde(default)]
    pub name: String,
    /// Its homepage.
    #[serde(default)]
    pub homepage: String,
    /// Whether user-provided variables are kept out of its environment.
    #[serde(default, rename = "clear-env")]
    pub clear_env: bool,
    /// Media types of the SBOM files that it writes.
    #[serde(default, rename = "sbom-formats")]
    pub sbom_formats: Vec<String>,
    /// Execution environments that it supports; none is any. Read in both forms: `exec-env = ["test"]`, as the reference
    /// has it, and the specification's `[[buildpack.exec-env]]` with a `name`.
    #[serde(default, rename = "exec-env", deserialize_with = "exec_env")]
    pub exec_env: Vec<String>,
}

/// `[[targets]]`. Empty text is "any".
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "TargetInFile")]
pub struct BuildpackTarget {
    /// Operating system.
    pub os: String,
    /// Architecture.
    pub arch: String,
    /// Variant. The reference reads `arch-variant`, the specification says `variant`: both are read, and where they
    /// differ `arch-variant` counts.
    pub variant: String,
    /// Distributions; none is any. `distributions` is read too.
    pub distros: Vec<Distro>,
    /// Architectures on which it can build for this target; `*` is any. None: only the target's own
    /// (target-arch.md, *buildpack.toml*).
    pub build_arch: Vec<String>,
}

/// `[[stacks]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct BuildpackStack {
    /// The stack's id; `*` is any.
    #[serde(default)]
    pub id: String,
}

impl BuildpackTarget {
    /// Whether it can build for this target on a machine of another architecture than the target's: `build`, in GOARCH's
    /// words or another spelling.
    pub fn builds_on(&self, build: &Platform) -> bool {
        self.build_arch.iter().any(|arch| arch == "*" || Platform::new(build.os(), arch, "").arch() == build.arch())
    }

    /// Whether an image of this target satisfies it: what either side leaves empty matches anything, names are compared
    /// in one spelling, and of the distributions, if any are named, one must match; then the image's must be known.
    pub fn matches(&self, image: &Target) -> bool {
        let field = |one: &str, other: &str| one.is_empty() || other.is_empty() || one == other;
        let (arch, variant) = spell(&self.arch, &self.variant);
        let (image_arch, image_variant) = spell(&image.arch, &image.variant);
        let distro = |known: &Distro| {
            let listed = &mut self.distros.iter();
            listed.any(|distro| field(&distro.name, &known.name) && field(&distro.version, &known.version))
        };
        field(&self.os, &image.os)
            && field(arch, image_arch)
            && field(&variant, &image_variant)
            && (self.distros.is_empty() || image.distro.as_ref().is_some_and(distro))
    }
}

/// Both spellings of keys that have two, which may both be there.
#[derive(Deserialize)]
struct TargetInFile {
    #[serde(default)]
    os: String,
    #[serde(default)]
    arch: String,
    #[serde(default, rename = "arch-variant")]
    arch_variant: String,
    #[serde(default)]
    variant: String,
    #[serde(default)]
    distros: Vec<Distro>,
    #[serde(default)]
    distributions: Vec<Distro>,
    #[serde(default, rename = "build-arch")]
    build_arch: Vec<String>,
}

impl From<TargetInFile> for BuildpackTarget {
    fn from(file: TargetInFile) -> Self {
        let TargetInFile { os, arch, arch_variant, variant, mut distros, distributions, build_arch } = file;
        distros.extend(distributions);
        Self { os, arch, variant: if arch_variant.is_empty() { variant } else { arch_variant }, distros, build_arch }
    }
}

/// A list of names, or of tables with a `name`.
fn exec_env<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Name(String);

    impl<'de> Deserialize<'de> for Name {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Form;

            impl<'de> Visitor<'de> for Form {
                type Value = Name;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a string or a table with a name")
                }

                fn visit_str<E>(self, text: &str) -> Result<Name, E> {
                    Ok(Name(text.to_owned()))
                }

                fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Name, A::Error> {
                    #[derive(Deserialize)]
                    struct Named {
                        name: String,
                    }
                    Named::deserialize(MapAccessDeserializer::new(table)).map(|Named { name }| Name(name))
                }
            }

            deserializer.deserialize_any(Form)
        }
    }

    Ok(Vec::<Name>::deserialize(deserializer)?.into_iter().map(|Name(name)| name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::from_toml;

    fn info(more: &str) -> Result<Info, String> {
        let text = format!("[buildpack]\nid = 'a'\nversion = '1'\n{more}");
        from_toml::<Buildpack>(&text).map(|buildpack| buildpack.buildpack).map_err(|error| error.to_string())
    }

    #[test]
    fn execution_environments_are_read_in_both_forms() {
        for (text, names) in [
            ("", &[][..]),
            ("exec-env = []", &[]),
            ("exec-env = ['test', '*']", &["test", "*"]),
            ("[[buildpack.exec-env]]\nname = 'test'\n[[buildpack.exec-env]]\nname = 'x'\ny = 1", &["test", "x"]),
            ("exec-env = [{ name = 'test' }, 'x']", &["test", "x"]),
        ] {
            assert_eq!(info(text).expect(text).exec_env, names, "{text}");
        }
        for (text, error) in [
            ("exec-env = 'x'", "line 4, column 12: key 'buildpack.exec-env': expected an array, found string \"x\""),
            (
                "exec-env = [1]",
                "line 4, column 13: key 'buildpack.exec-env': expected a string or a table with a name, found integer `1`",
            ),
            ("exec-env = [{}]", "line 4, column 13: key 'buildpack.exec-env': the key 'name' is missing"),
        ] {
            assert_eq!(info(text).expect_err(text), error);
        }
    }

    #[test]
    fn bad_input_is_named() {
        for (text, error) in [
            ("", "line 1, column 1: the key 'buildpack' is missing"),
            ("buildpack = 'x'", "line 1, column 13: key 'buildpack': expected a table, found string \"x\""),
            ("buildpack = ['a', '1']", "line 1, column 13: key 'buildpack': expected a table, found an array"),
            ("[buildpack]\nversion = '1'", "line 1, column 1: key 'buildpack': the key 'id' is missing"),
            ("[buildpack]\nid = 'a'", "line 1, column 1: key 'buildpack': the key 'version' is missing"),
            (
                "[buildpack]\nid = 'a'\nversion = 1",
                "line 3, column 11: key 'buildpack.version': expected a string, found integer `1`",
            ),
            (
                "[buildpack]\nid = 'a'\nversion = '../1'",
                "line 3, column 11: key 'buildpack.version': invalid version \"../1\": it contains '/'",
            ),
            (
                "[buildpack]\nid = '/etc'",
                "line 2, column 6: key 'buildpack.id': invalid buildpack id \"/etc\": it has an empty part",
            ),
            (
                "[buildpack]\nid = 'sbom'",
                "line 2, column 6: key 'buildpack.id': invalid buildpack id \"sbom\": the specification reserves it",
            ),
            (
                "api = 0.10\n[buildpack]\nid = 'a'\nversion = '1'",
                "line 1, column 7: key 'api': expected a string, found floating point `0.1`",
            ),
            (
                "[[order]]\n[[order.group]]\nid = 'a'",
                "line 2, column 1: key 'order.group': the key 'version' is missing",
            ),
            (
                "[[targets]]\ndistros = [1]",
                "line 2, column 12: key 'targets.distros': expected a table, found integer `1`",
            ),
        ] {
            assert_eq!(from_toml::<Buildpack>(text).expect_err(text).to_string(), error);
        }
    }

    #[test]
    fn targets_have_keys_with_two_names() {
        for (text, variant, distros) in [
            ("", "", &[][..]),
            ("variant = 'v7'", "v7", &[]),
            ("arch-variant = 'v6'\nvariant = 'v7'", "v6", &[]),
            ("distros = [{ name = 'a' }]\ndistributions = [{ name = 'b' }]", "", &["a", "b"]),
        ] {
            let target: BuildpackTarget = from_toml(text).expect(text);
            let names: Vec<_> = target.distros.iter().map(|distro| distro.name.as_str()).collect();
            assert_eq!((target.variant.as_str(), names.as_slice()), (variant, distros), "{text}");
        }
    }

    #[test]
    fn targets_match_images() {
        let image: Target =
            from_toml("os = 'linux'\narch = 'arm64'\nvariant = 'v8'\ndistro = { name = 'ubuntu', version = '24.04' }")
                .expect("a target");
        for (text, matches) in [
            ("", true),
            ("os = 'linux'", true),
            ("os = 'windows'", false),
            ("arch = 'arm64'", true),
            ("arch = 'aarch64'\nvariant = '8'", true),
            ("arch = 'amd64'", false),
            ("variant = 'v8'", true),
            ("variant = 'v9'", false),
            ("distros = [{ name = 'ubuntu' }]", true),
            ("distros = [{ name = 'ubuntu', version = '22.04' }]", false),
            ("distros = [{ name = 'alpine' }, { version = '24.04' }]", true),
        ] {
            assert_eq!(from_toml::<BuildpackTarget>(text).expect(text).matches(&image), matches, "{text}");
        }
        let nothing_known = Target::default();
        for (text, matches) in [("os = 'linux'\narch = 'arm64'", true), ("distros = [{ name = 'ubuntu' }]", false)] {
            assert_eq!(from_toml::<BuildpackTarget>(text).expect(text).matches(&nothing_known), matches, "{text}");
        }
        let armhf: BuildpackTarget = from_toml("arch = 'armhf'").expect("a target");
        let arm = |variant: &str| Target { arch: "arm".to_owned(), variant: variant.to_owned(), ..Target::default() };
        assert!(armhf.matches(&arm("v7")) && armhf.matches(&arm("")) && !armhf.matches(&arm("v6")));
    }
}

//! Which targets a module supports, stated or inferred; which one a build is for; and whether they match
//! (buildpack.md, *Targets*).

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use platform_spec::api::BuildpackApi;
use platform_spec::buildpack::{BuildpackStack, BuildpackTarget};
use platform_spec::target::{Distro, Platform, Target};
use platform_spec::text::to_go_json;
use serde::Serialize;
use thiserror::Error;

use super::Kind;
use crate::file::{PathContext, PathError, describe};

/// The targets of a module: what it states, else what its stacks or its executables imply. None is "any".
pub(super) fn supported(
    kind: Kind,
    api: BuildpackApi,
    root: &Path,
    stated: Vec<BuildpackTarget>,
    stacks: &[BuildpackStack],
) -> Result<Vec<BuildpackTarget>, PathError> {
    if !stated.is_empty() {
        return Ok(stated);
    }
    let from_stacks: Vec<_> = stacks.iter().filter_map(|stack| from_stack(stack, api, stacks.len() == 1)).collect();
    if !from_stacks.is_empty() {
        return Ok(from_stacks);
    }
    let implying: &[(&str, &str)] = match kind {
        Kind::Buildpack => &[("build", "linux"), ("build.bat", "windows"), ("build.exe", "windows")],
        Kind::Extension => &[("detect", "linux"), ("generate", "linux")],
    };
    let mut inferred: Vec<BuildpackTarget> = Vec::new();
    for (executable, os) in implying {
        let path = root.join("bin").join(executable);
        match fs::symlink_metadata(&path) {
            Ok(_) if inferred.iter().any(|target| target.os == *os) => {}
            Ok(_) => inferred.push(BuildpackTarget { os: (*os).to_owned(), ..BuildpackTarget::default() }),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(error).path("look for", &path),
        }
    }
    Ok(inferred)
}

/// What a deprecated stack implies (buildpack.md, *`stacks` Array*).
fn from_stack(stack: &BuildpackStack, api: BuildpackApi, is_the_only_one: bool) -> Option<BuildpackTarget> {
    match stack.id.as_str() {
        "*" => Some(BuildpackTarget::default()),
        "io.buildpacks.stacks.bionic" if api.takes_stacks_for_targets() || is_the_only_one => Some(BuildpackTarget {
            os: "linux".to_owned(),
            arch: "amd64".to_owned(),
            distros: vec![Distro { name: "ubuntu".to_owned(), version: "18.04".to_owned() }],
            ..BuildpackTarget::default()
        }),
        _ => None,
    }
}

/// Where a build image says of which distribution it is.
pub const OS_RELEASE: &str = "/etc/os-release";

/// The target that a build is for: what analyzed.toml records of the run image, completed from the machine that builds.
/// A distribution that no label of the run image names is that of the build image (`os_release`: [`OS_RELEASE`]).
pub fn build_target(recorded: Option<&Target>, os_release: &Path) -> Target {
    let mut target = recorded.cloned().unwrap_or_default();
    let or_else = |text: &mut String, other: &str| {
        if text.is_empty() {
            *text = other.to_owned();
        }
    };
    or_else(&mut target.os, "linux");
    or_else(&mut target.arch, Platform::of_this_program().arch());
    if target.distro.is_none() {
        log::info!("target distro name/version labels not found, reading {OS_RELEASE} file");
        target.distro = read_os_release(os_release);
    }
    target
}

fn read_os_release(path: &Path) -> Option<Distro> {
    match fs::read(path) {
        Ok(text) => parse_os_release(&String::from_utf8_lossy(&text)),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            log::warn!("Encountered error trying to read {} file: {}", path.display(), describe(&error));
            None
        }
    }
}

/// `ID` and `VERSION_ID` of an os-release file; none if it has neither.
fn parse_os_release(text: &str) -> Option<Distro> {
    let value = |key: &str| {
        let mut values = text.lines().filter_map(|line| line.trim().split_once('=')).filter(|(found, _)| *found == key);
        let value = values.next_back().map_or("", |(_, value)| value.trim());
        let unquoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
        unquoted.unwrap_or(value).to_owned()
    };
    let distro = Distro { name: value("ID"), version: value("VERSION_ID") };
    (distro != Distro::default()).then_some(distro)
}

/// A base image whose target a module does not support, or on which it cannot build for it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TargetMismatch {
    /// The module does not support the target. Names both, as JSON in the reference's words, which platforms look for.
    #[error("unable to satisfy target os/arch constraints; run image: {run_image}, {kind}: {supported}{explanation}")]
    Unsupported {
        /// What the module is.
        kind: Kind,
        /// The base image's target.
        run_image: String,
        /// The module's.
        supported: String,
        /// In which field they differ, if a target was asked for.
        explanation: String,
    },
    /// Here, buildpacks run on another architecture than the target's, and the module does not say that it can.
    #[error(
        "unable to build for {target} on {build}: {kind} '{name}' does not state build-arch for that target\n\
         Its {kind}.toml has to say [[targets]] with arch = {target_arch:?} and build-arch = [{build_arch:?}], if it can;\n\
         else build where buildpacks run on {target}: on such a machine, or emulated."
    )]
    NotFromHere {
        /// What the module is.
        kind: Kind,
        /// The module's id and version.
        name: String,
        /// The target: `linux/arm64`.
        target: String,
        /// Where buildpacks run: `linux/amd64`.
        build: String,
        /// The target's architecture.
        target_arch: String,
        /// The build architecture.
        build_arch: String,
    },
}

/// Whether a base image is among the targets that a module supports. What either side leaves empty matches anything,
/// except that a module that names distributions needs a base image whose distribution is known.
pub fn check_target(kind: Kind, supported: &[BuildpackTarget], base: &Target) -> Result<(), TargetMismatch> {
    if supported.is_empty() || supported.iter().any(|target| target.matches(base)) {
        return Ok(());
    }
    let supported: Vec<_> = supported.iter().map(Shown::from).collect();
    // A list is not a table, so each is written on its own.
    let supported: Vec<_> = supported.iter().map(to_go_json).collect();
    Err(TargetMismatch::Unsupported {
        kind,
        run_image: to_go_json(base),
        supported: format!("[{}]", supported.join(",")),
        explanation: String::new(),
    })
}

impl TargetMismatch {
    /// Says in which field the module's targets and the one asked for differ.
    #[must_use]
    pub fn explain(self, name: &str, stated: &[BuildpackTarget], base: &Target) -> Self {
        match self {
            Self::Unsupported { kind, run_image, supported, explanation: _ } => {
                let explanation = differences(stated, base).map_or_else(String::new, |(field, theirs, wanted)| {
                    format!("\n{field}: the build is for {wanted}, {kind} '{name}' is for {theirs}")
                });
                Self::Unsupported { kind, run_image, supported, explanation }
            }
            other @ Self::NotFromHere { .. } => other,
        }
    }
}

/// The field in which no stated target is the base image's: its name, what is stated, what the base image has. Of the
/// targets that agree in what comes before it.
fn differences(stated: &[BuildpackTarget], base: &Target) -> Option<(&'static str, String, String)> {
    type Value = fn(&BuildpackTarget) -> String;
    type Cut<'a> = &'a dyn Fn(&BuildpackTarget) -> BuildpackTarget;
    let distros = |target: &BuildpackTarget| {
        target.distros.iter().map(|distro| format!("{} {}", distro.name, distro.version)).collect::<Vec<_>>().join(", ")
    };
    let platform = base.platform();
    let distro = base.distro.as_ref().map_or("none".to_owned(), |distro| format!("{} {}", distro.name, distro.version));
    // A target cut down to the fields up to this one.
    let os = |target: &BuildpackTarget| BuildpackTarget { os: target.os.clone(), ..BuildpackTarget::default() };
    let arch = |target: &BuildpackTarget| BuildpackTarget { arch: target.arch.clone(), ..os(target) };
    let variant = |target: &BuildpackTarget| BuildpackTarget { variant: target.variant.clone(), ..arch(target) };
    let fields: [(&'static str, String, Value, Cut<'_>); 4] = [
        ("os", platform.os().to_owned(), |target| target.os.clone(), &os),
        ("arch", platform.arch().to_owned(), |target| target.arch.clone(), &arch),
        ("arch-variant", platform.variant().to_owned(), |target| target.variant.clone(), &variant),
        ("distros", distro, distros, &BuildpackTarget::clone),
    ];
    let mut left: Vec<&BuildpackTarget> = stated.iter().collect();
    for (field, wanted, value, cut) in fields {
        let (same, other): (Vec<_>, Vec<_>) = left.into_iter().partition(|target| cut(target).matches(base));
        if same.is_empty() {
            let mut theirs: Vec<_> = other.into_iter().map(value).collect();
            theirs.dedup();
            return Some((field, theirs.join(" or "), wanted));
        }
        left = same;
    }
    None
}

/// Whether a buildpack can build for a target on a machine of another architecture (target-arch.md, *Cross builds*). One
/// that does not say so cannot.
pub fn check_build_arch(
    name: &str,
    supported: &[BuildpackTarget],
    base: &Target,
    build: &Platform,
) -> Result<(), TargetMismatch> {
    if supported.iter().any(|target| target.matches(base) && target.builds_on(build)) {
        return Ok(());
    }
    Err(TargetMismatch::NotFromHere {
        kind: Kind::Buildpack,
        name: name.to_owned(),
        target: base.platform().to_string(),
        build: build.to_string(),
        target_arch: base.arch.clone(),
        build_arch: build.arch().to_owned(),
    })
}

/// A supported target as the message has it.
#[derive(Serialize)]
struct Shown<'a> {
    os: &'a str,
    arch: &'a str,
    #[serde(rename = "arch-variant", skip_serializing_if = "str::is_empty")]
    variant: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    distros: &'a [Distro],
}

impl<'a> From<&'a BuildpackTarget> for Shown<'a> {
    fn from(BuildpackTarget { os, arch, variant, distros, build_arch: _ }: &'a BuildpackTarget) -> Self {
        Self { os, arch, variant, distros }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> BuildpackTarget {
        toml::from_str(text).expect("a target")
    }

    #[test]
    fn targets_that_are_not_stated_are_inferred() {
        let api = |text| BuildpackApi::parse(text, "").expect("supported");
        let bionic = target("os = 'linux'\narch = 'amd64'\ndistros = [{name = 'ubuntu', version = '18.04'}]");
        let any = BuildpackTarget::default();
        let linux = target("os = 'linux'");
        let windows = target("os = 'windows'");
        type Case<'a> = (&'a str, Kind, &'a str, &'a [&'a str], &'a [&'a str], &'a [&'a BuildpackTarget]);
        let cases: &[Case] = &[
            ("a composite has none", Kind::Buildpack, "0.10", &[], &[], &[]),
            ("bin/build", Kind::Buildpack, "0.10", &[], &["build", "detect"], &[&linux]),
            ("bin/build.exe", Kind::Buildpack, "0.10", &[], &["build.exe", "build.bat"], &[&windows]),
            ("both", Kind::Buildpack, "0.10", &[], &["build", "build.bat"], &[&linux, &windows]),
            ("only bin/detect", Kind::Buildpack, "0.10", &[], &["detect"], &[]),
            ("any stack", Kind::Buildpack, "0.9", &["*"], &["build"], &[&any]),
            ("bionic alone", Kind::Buildpack, "0.9", &["io.buildpacks.stacks.bionic"], &["build"], &[&bionic]),
            (
                "bionic before 0.10",
                Kind::Buildpack,
                "0.9",
                &["io.buildpacks.stacks.bionic", "x"],
                &["build"],
                &[&linux],
            ),
            ("bionic from 0.10 on", Kind::Buildpack, "0.10", &["io.buildpacks.stacks.bionic", "x"], &[], &[&bionic]),
            ("another stack", Kind::Buildpack, "0.10", &["x"], &["build"], &[&linux]),
            ("an extension's detect", Kind::Extension, "0.10", &[], &["detect", "generate"], &[&linux]),
            ("a static extension", Kind::Extension, "0.10", &[], &[], &[]),
        ];
        for (name, kind, version, stacks, files, expected) in cases {
            let root = tempfile::tempdir().expect("a directory");
            fs::create_dir(root.path().join("bin")).expect("made");
            for file in *files {
                fs::write(root.path().join("bin").join(file), "").expect("written");
            }
            let stacks: Vec<_> = stacks.iter().map(|id| BuildpackStack { id: (*id).to_owned() }).collect();
            let found = supported(*kind, api(version), root.path(), Vec::new(), &stacks).expect("looked");
            assert_eq!(found.iter().collect::<Vec<_>>(), *expected, "{name}");
            let stated = supported(*kind, api(version), root.path(), vec![windows.clone()], &stacks).expect("looked");
            assert_eq!(stated, std::slice::from_ref(&windows), "{name}: what is stated is not overruled");
        }
    }

    #[test]
    fn a_target_is_completed_from_the_build_image() {
        let dir = tempfile::tempdir().expect("a directory");
        let os_release = dir.path().join("os-release");
        let distro = |name: &str, version: &str| Some(Distro { name: name.to_owned(), version: version.to_owned() });
        for (text, expected) in [
            ("NAME=x\nID=debian\nVERSION_ID=\"12\"\nVERSION=\"12 (bookworm)\"", distro("debian", "12")),
            ("ID='fedora'\nVERSION_ID=37\n", distro("fedora", "37")),
            ("ID=arch\nX=a=b\n", distro("arch", "")),
            ("ID\nVERSION_ID\n# ID=x", None),
            ("", None),
        ] {
            fs::write(&os_release, text).expect("written");
            let target = build_target(None, &os_release);
            assert_eq!(
                (target.os.as_str(), target.arch.as_str()),
                ("linux", Platform::of_this_program().arch()),
                "{text}"
            );
            assert_eq!(target.distro, expected, "{text}");
        }
        assert_eq!(build_target(None, &dir.path().join("none")).distro, None);
        let recorded: Target =
            toml::from_str("os = 'linux'\narch = 's390x'\n[distro]\nname = 'ubuntu'").expect("a target");
        fs::write(&os_release, "ID=debian").expect("written");
        assert_eq!(build_target(Some(&recorded), &os_release), recorded);
    }

    #[test]
    fn what_is_empty_matches_anything() {
        let base: Target = toml::from_str(
            "os = 'linux'\narch = 'arm64'\narch-variant = 'v8'\n[distro]\nname = 'ubuntu'\nversion = '24.04'",
        )
        .expect("a target");
        let cases = [
            ("", true),
            ("os = 'linux'", true),
            ("os = 'windows'", false),
            ("arch = 'arm64'", true),
            ("arch = 'amd64'", false),
            ("variant = 'v8'", true),
            ("variant = 'v7'", false),
            ("arch-variant = 'v7'", false),
            ("distros = [{name = 'ubuntu'}]", true),
            ("distros = [{name = 'debian'}]", false),
            ("distros = [{name = 'debian', version = '12'}, {name = 'ubuntu', version = '24.04'}]", true),
            ("distros = [{name = 'ubuntu', version = '22.04'}]", false),
            ("distros = [{version = '24.04'}]", true),
        ];
        for (text, expected) in cases {
            assert_eq!(check_target(Kind::Buildpack, &[target(text)], &base).is_ok(), expected, "{text}");
        }
        assert_eq!(check_target(Kind::Buildpack, &[], &base), Ok(()), "none is any");
        assert_eq!(check_target(Kind::Buildpack, &[target(""), target("os = 'x'")], &Target::default()), Ok(()));
        let nothing_known =
            check_target(Kind::Buildpack, &[target("distros = [{name = 'ubuntu'}]")], &Target::default());
        assert!(nothing_known.is_err(), "a distribution is asked for, and the base image's is not known");
    }

    #[test]
    fn a_mismatch_names_both_sides() {
        let base = Target { os: "linux".to_owned(), arch: "arm64".to_owned(), ..Target::default() };
        let error =
            check_target(Kind::Buildpack, &[target("arch = 'amd64'")], &base).expect_err("another architecture");
        assert_eq!(
            error.to_string(),
            "unable to satisfy target os/arch constraints; run image: {\"os\":\"linux\",\"arch\":\"arm64\"}, \
             buildpack: [{\"os\":\"\",\"arch\":\"amd64\"}]"
        );
    }
}

//! Which targets a module supports, stated or inferred, and whether a base image is one of them
//! (buildpack.md, *Targets*).

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use platform_spec::api::BuildpackApi;
use platform_spec::buildpack::{BuildpackStack, BuildpackTarget};
use platform_spec::target::{Distro, Target};
use platform_spec::text::to_go_json;
use serde::Serialize;
use thiserror::Error;

use super::Kind;
use crate::file::{PathContext, PathError};

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

/// A base image whose target a module does not support. Names both, as JSON in the reference's words, which
/// platforms look for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unable to satisfy target os/arch constraints; run image: {run_image}, {kind}: {supported}")]
pub struct TargetMismatch {
    kind: Kind,
    run_image: String,
    supported: String,
}

/// Whether a base image is among the targets that a module supports. What either side leaves empty matches anything,
/// except that a module that names distributions needs a base image whose distribution is known.
pub fn check_target(kind: Kind, supported: &[BuildpackTarget], base: &Target) -> Result<(), TargetMismatch> {
    if supported.is_empty() || supported.iter().any(|target| matches(target, base)) {
        return Ok(());
    }
    let supported: Vec<_> = supported.iter().map(Shown::from).collect();
    // A list is not a table, so each is written on its own.
    let supported: Vec<_> = supported.iter().map(to_go_json).collect();
    Err(TargetMismatch { kind, run_image: to_go_json(base), supported: format!("[{}]", supported.join(",")) })
}

fn matches(target: &BuildpackTarget, base: &Target) -> bool {
    let field = |one: &str, other: &str| one.is_empty() || other.is_empty() || one == other;
    let distro = |known: &Distro| {
        target.distros.iter().any(|distro| field(&distro.name, &known.name) && field(&distro.version, &known.version))
    };
    field(&target.os, &base.os)
        && field(&target.arch, &base.arch)
        && field(&target.variant, &base.variant)
        && (target.distros.is_empty() || base.distro.as_ref().is_some_and(distro))
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
    fn from(BuildpackTarget { os, arch, variant, distros }: &'a BuildpackTarget) -> Self {
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

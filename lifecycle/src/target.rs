//! For which machine an image is, for which machine this program is (platform.md, *Target Data*), and for which one a
//! build is (target-arch.md).
//!
//! [`BuildTarget`] holds the two machines of a build: the *target*, if somebody asked for one, and the *build
//! architecture*, on which buildpacks run. Whoever opens an image for it calls [`BuildTarget::open`].

use log::warn;
use platform_spec::analyzed::Analyzed;
use platform_spec::exit;
use platform_spec::group::Group;
use platform_spec::input::env;
use platform_spec::label;
use platform_spec::target::{Distro, Platform, Target, UnknownPlatform};
use thiserror::Error;

use crate::image::{Config, Image, Store, StoreError};
use crate::phase::PhaseError;

/// An image that does not say for which machine it is. What it lacks: `OS`, `architecture`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("failed to find {0} in run image config")]
pub struct Unstated(pub &'static str);

/// The stack whose distribution is known without its image saying so (platform.md, *analyzed.toml*).
const BIONIC: &str = "io.buildpacks.stacks.bionic";

/// Checks that a run image says for which machine it is. An app image on top of one that does not could not be saved.
pub fn check_stated(image: &Image) -> Result<(), Unstated> {
    let config = &image.config;
    match [("OS", config.os()), ("architecture", config.architecture())].iter().find(|(_, value)| value.is_empty()) {
        Some((what, _)) => Err(Unstated(what)),
        None => Ok(()),
    }
}

/// The target of a run image: operating system, architecture and variant from its config, the rest from its labels.
pub fn of_image(image: &Image) -> Result<Target, Unstated> {
    check_stated(image)?;
    Ok(stated(&image.config))
}

/// The target that a config states, whatever it lacks.
pub fn stated(config: &Config) -> Target {
    let text = |label: &str| config.label(label).map(str::to_owned);
    let distro = match (text(label::BASE_DISTRO_NAME), text(label::BASE_DISTRO_VERSION)) {
        (None, None) if config.label(label::STACK_ID) == Some(BIONIC) => {
            Some(Distro { name: "ubuntu".to_owned(), version: "18.04".to_owned() })
        }
        (None, None) => None,
        (name, version) => Some(Distro { name: name.unwrap_or_default(), version: version.unwrap_or_default() }),
    };
    Target { id: text(label::BASE_ID).unwrap_or_default(), distro, ..platform(config) }
}

/// What a config says of the machine, and nothing else.
pub fn platform(config: &Config) -> Target {
    Target {
        os: config.os().to_owned(),
        arch: config.architecture().to_owned(),
        variant: config.variant().to_owned(),
        ..Target::default()
    }
}

/// Whether layers of a previous image can be used on top of a run image: programs for another machine would not run there.
/// What the previous image does not state is no reason against it.
pub fn fits(previous: &Config, run_image: &Config) -> bool {
    let (old, new) = (platform(previous), platform(run_image));
    let os = if old.os.is_empty() { &new.os } else { &old.os };
    old.arch.is_empty() || new.platform().selects(&Platform::new(os, &old.arch, &old.variant))
}

/// The target of images that are asked for without naming one: the machine for which this program was built.
pub fn of_this_program() -> Target {
    to_target(&Platform::of_this_program())
}

/// The two machines of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildTarget {
    /// What was asked for; `None` leaves everything as it is without the extension.
    asked: Option<Platform>,
    /// On which buildpacks run. In the phases that run none: what the detector wrote down.
    build: Platform,
    /// Nobody wrote that down.
    is_build_assumed: bool,
}

/// A target that cannot be used (exit code [`platform_spec::exit::INVALID_ARGUMENTS`]).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    /// `analyzed.toml` names an architecture that nobody knows.
    #[error("resolve inputs: target-arch in analyzed.toml")]
    Analyzed(#[source] UnknownPlatform),
    /// `group.toml` names an architecture that nobody knows.
    #[error("resolve inputs: build-arch in group.toml")]
    Group(#[source] UnknownPlatform),
    /// The run image that was analyzed is for another machine.
    #[error(
        "resolve inputs: the target is {target}, but the run image that was analyzed is for {run_image} \
         (analyzed.toml: run-image.target); give every phase the same target (-target-arch, {variable})",
        variable = env::TARGET_ARCH
    )]
    Disagrees {
        /// The target.
        target: String,
        /// What `[run-image.target]` says.
        run_image: String,
    },
    /// Buildpacks would be run on two architectures.
    #[error(
        "resolve inputs: the detector ran on {detector} (group.toml: build-arch), but this builder is for {builder}; \
         layers of both cannot be mixed"
    )]
    OtherBuilder {
        /// Where the detector ran.
        detector: String,
        /// What this program is for.
        builder: String,
    },
}

impl PhaseError for TargetError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Analyzed(_) | Self::Group(_) | Self::Disagrees { .. } | Self::OtherBuilder { .. } => {
                exit::INVALID_ARGUMENTS
            }
        }
    }

    fn says_what_failed(&self) -> bool {
        true
    }
}

impl BuildTarget {
    /// What is known where there is no `analyzed.toml` yet; `asked` is the flag's or the variable's.
    pub fn new(asked: Option<Platform>) -> Self {
        Self { asked, build: Platform::of_this_program(), is_build_assumed: false }
    }

    /// With another build architecture than this program's.
    #[must_use]
    pub fn on(self, build: Platform) -> Self {
        Self { build, ..self }
    }

    /// The target of a phase after analysis: the flag's or the variable's, else that of `analyzed.toml`. It has to be
    /// that of the analyzed run image.
    pub fn resolve(asked: Option<Platform>, analyzed: &Analyzed) -> Result<Self, TargetError> {
        let asked = match asked {
            None if !analyzed.target_arch.is_empty() => {
                Some(analyzed.target_arch.parse().map_err(TargetError::Analyzed)?)
            }
            asked => asked,
        };
        let run_image = analyzed.run_image.as_ref().and_then(|image| image.target.as_ref());
        if let (Some(target), Some(run_image)) = (&asked, run_image)
            && !run_image.arch.is_empty()
            && !target.selects(&run_image.platform())
        {
            let (target, run_image) = (target.to_string(), run_image.platform().to_string());
            return Err(TargetError::Disagrees { target, run_image });
        }
        Ok(Self::new(asked))
    }

    /// With the build architecture that `group.toml` names: in a hybrid build the exporter runs on another machine than
    /// buildpacks did. Where a target was asked for and nothing is named, buildpacks ran on the target's own, as far as
    /// one can tell ([`BuildTarget::is_build_assumed`]).
    ///
    /// Buildpacks can write to that file, and what is named becomes a part of the cache's place: it has to be an architecture.
    pub fn of_group(mut self, group: &Group) -> Result<Self, TargetError> {
        if let Some(target) = &self.asked {
            let named = build_arch(group)?;
            self.is_build_assumed = named.is_none() && self.is_cross();
            let arch = named.as_ref().map_or(target.arch(), Platform::arch);
            self.build = Platform::new(target.os(), arch, "");
        }
        Ok(self)
    }

    /// Whether it is only assumed where buildpacks run: the detector did not write it down, so that it is of a lifecycle
    /// without the extension, and this program is for another architecture than the target. In a hybrid build that is the
    /// target's, else this machine's.
    pub fn is_build_assumed(&self) -> bool {
        self.is_build_assumed
    }

    /// Checks that the builder runs buildpacks where the detector did. A detector that did not write it down has asked no
    /// buildpack whether it can build across: that is said.
    pub fn check_builder(&self, group: &Group) -> Result<(), TargetError> {
        let Some(target) = &self.asked else { return Ok(()) };
        let builder = self.build.arch().to_owned();
        match build_arch(group)? {
            None if self.is_cross() => {
                warn!(
                    "Building for {target} on {builder}, and no buildpack was asked whether it can: group.toml has no \
                     build-arch, because its detector is of another lifecycle"
                );
                Ok(())
            }
            Some(detector) if detector.arch() != builder => {
                Err(TargetError::OtherBuilder { detector: detector.arch().to_owned(), builder })
            }
            None | Some(_) => Ok(()),
        }
    }

    /// What was asked for.
    pub fn asked(&self) -> Option<&Platform> {
        self.asked.as_ref()
    }

    /// What was asked for, as `analyzed.toml` records it: `arm64`, `arm/v7`; empty if nothing was.
    pub fn recorded(&self) -> String {
        let Some(target) = &self.asked else { return String::new() };
        match target.variant() {
            "" => target.arch().to_owned(),
            variant => format!("{}/{variant}", target.arch()),
        }
    }

    /// The machine that the app image is for: what was asked for, else the build architecture.
    pub fn platform(&self) -> &Platform {
        self.asked.as_ref().unwrap_or(&self.build)
    }

    /// The build architecture.
    pub fn build(&self) -> &Platform {
        &self.build
    }

    /// Which build image of an index is meant.
    pub fn build_target(&self) -> Target {
        to_target(&self.build)
    }

    /// Which image of an index is meant.
    pub fn target(&self) -> Target {
        to_target(self.platform())
    }

    /// The target that buildpacks get: the analyzed run image's; where `analyzed.toml` has none (Platform API below
    /// 0.12) what was asked for.
    pub fn recorded_or_asked(&self, analyzed: &Analyzed) -> Option<Target> {
        let recorded = analyzed.run_image.as_ref().and_then(|image| image.target.clone());
        recorded
            .filter(|target| !target.arch.is_empty())
            .or_else(|| self.asked.as_ref().map(to_target))
            .or_else(|| analyzed.run_image.as_ref().and_then(|image| image.target.clone()))
    }

    /// Whether buildpacks run on a machine of another architecture than the app will.
    pub fn is_cross(&self) -> bool {
        self.asked.as_ref().is_some_and(|target| target.arch() != self.build.arch())
    }

    /// Where caches of this build are, beside those of others: `linux-arm64`, `linux-arm-v7`; of a cross build
    /// `linux-arm64-on-amd64`, because layers for building are for another machine there. `None`: where they are without
    /// the extension.
    pub fn cache_place(&self) -> Option<String> {
        let mut place = slug(self.asked.as_ref()?);
        if self.is_cross() {
            place.push_str("-on-");
            place.push_str(self.build.arch());
        }
        Some(place)
    }

    /// Opens an image. If a target was asked for, it is for that machine, whichever way it was found.
    pub fn open(&self, images: &dyn Store, name: &str) -> Result<Image, StoreError> {
        let image = images.open(name, &self.target())?;
        self.check(name, &image)?;
        Ok(image)
    }

    /// Checks that an image is for the machine that was asked for.
    pub fn check(&self, name: &str, image: &Image) -> Result<(), StoreError> {
        let found = platform(&image.config).platform();
        match &self.asked {
            Some(wanted) if !wanted.selects(&found) => Err(StoreError::OtherPlatform {
                name: name.to_owned(),
                wanted: wanted.to_string().into(),
                found: found.to_string().into(),
            }),
            Some(_) | None => Ok(()),
        }
    }
}

/// Where the detector ran, if `group.toml` says so.
fn build_arch(group: &Group) -> Result<Option<Platform>, TargetError> {
    let named = Some(group.build_arch.as_str()).filter(|arch| !arch.is_empty());
    named.map(|arch| arch.parse().map_err(TargetError::Group)).transpose()
}

fn to_target(platform: &Platform) -> Target {
    Target {
        os: platform.os().to_owned(),
        arch: platform.arch().to_owned(),
        variant: platform.variant().to_owned(),
        ..Target::default()
    }
}

/// A platform as a part of a name: `linux-arm64`, `linux-arm-v7`.
pub fn slug(platform: &Platform) -> String {
    platform.to_string().replace('/', "-")
}

/// What to do about programs for another machine than they should be for (`CNB_ARCH_CHECK`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchCheck {
    /// Do not look.
    Off,
    /// Name them.
    Warn,
    /// Name them and fail.
    Error,
}

/// Text that says nothing of this kind.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{variable} is {0:?}, but has to be off, warn or error", variable = env::ARCH_CHECK)]
pub struct ArchCheckError(String);

impl ArchCheck {
    /// Reads the variable; unset is `None`.
    pub fn parse(text: Option<&str>) -> Result<Option<Self>, ArchCheckError> {
        match text {
            None => Ok(None),
            Some("off") => Ok(Some(Self::Off)),
            Some("warn") => Ok(Some(Self::Warn)),
            Some("error") => Ok(Some(Self::Error)),
            Some(other) => Err(ArchCheckError(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Draft;
    use crate::test_log::captured;

    fn target(labels: &[(&str, &str)]) -> Target {
        let draft = Draft::empty("linux", "arm", "v7");
        let image = draft.edit(|config| labels.iter().for_each(|(name, value)| config.set_label(name, value))).finish();
        of_image(&image.expect("an image")).expect("a target")
    }

    fn build(asked: &str, on: &str) -> BuildTarget {
        let asked = Some(asked).filter(|asked| !asked.is_empty()).map(|asked| asked.parse().expect("known"));
        BuildTarget::new(asked).on(on.parse().expect("known"))
    }

    #[test]
    fn places_of_caches() {
        for (asked, on, place, cross) in [
            ("", "amd64", None, false),
            ("amd64", "amd64", Some("linux-amd64"), false),
            ("arm64", "arm64", Some("linux-arm64"), false),
            ("arm64", "amd64", Some("linux-arm64-on-amd64"), true),
            ("arm/v7", "arm", Some("linux-arm-v7"), false),
            ("amd64/v3", "amd64", Some("linux-amd64-v3"), false),
        ] {
            let build = build(asked, on);
            assert_eq!((build.cache_place().as_deref(), build.is_cross()), (place, cross), "{asked} on {on}");
        }
    }

    #[test]
    fn the_build_architecture_is_the_detectors() {
        let group = |arch: &str| Group { build_arch: arch.to_owned(), ..Group::default() };
        for (asked, on, recorded, expected, assumed) in [
            ("arm64", "amd64", "arm64", "arm64", false), // hybrid
            ("arm64", "amd64", "amd64", "amd64", false), // cross
            ("arm64", "amd64", "", "arm64", true),       // hybrid, or a cross build that nobody checks
            ("arm64", "arm64", "", "arm64", false),
            ("arm64", "arm64", "x86_64", "amd64", false),
            ("", "amd64", "arm64", "amd64", false),
            ("", "amd64", "", "amd64", false),
        ] {
            let found = build(asked, on).of_group(&group(recorded)).expect("an architecture");
            let seen = (found.build().arch(), found.is_build_assumed());
            assert_eq!(seen, (expected, assumed), "{asked} on {on}, recorded {recorded}");
        }
        assert_eq!(build("arm64", "amd64").check_builder(&group("amd64")), Ok(()));
        let (checked, told) = captured(|| build("arm64", "arm64").check_builder(&group("")));
        assert_eq!((checked, told), (Ok(()), Vec::new()));
        let (checked, told) = captured(|| build("arm64", "amd64").check_builder(&group("")));
        assert_eq!(checked, Ok(()));
        assert!(told[0].starts_with("warn: Building for linux/arm64 on amd64, and no buildpack was asked"), "{told:?}");
        assert_eq!(build("", "amd64").check_builder(&group("arm64")), Ok(()));
        for hostile in ["../../x", "amd64/..", "/", "sparc", "amd64\n"] {
            for error in [
                build("arm64", "amd64").of_group(&group(hostile)).map(drop).expect_err(hostile),
                build("arm64", "amd64").check_builder(&group(hostile)).expect_err(hostile),
            ] {
                assert_eq!(
                    (error.to_string().as_str(), error.exit_code()),
                    ("resolve inputs: build-arch in group.toml", 3)
                );
            }
            build("", "amd64").of_group(&group(hostile)).expect("is not read without a target");
        }
        let error = build("arm64", "amd64").check_builder(&group("arm64")).expect_err("two machines");
        assert!(error.to_string().contains("ran on arm64 (group.toml: build-arch), but this builder is for amd64"));
        assert_eq!(error.exit_code(), 3);
    }

    #[test]
    fn where_the_target_comes_from() {
        let analyzed = |asked: &str, arch: &str| Analyzed {
            target_arch: asked.to_owned(),
            run_image: Some(platform_spec::analyzed::AnalyzedRunImage {
                target: Some(Target { os: "linux".to_owned(), arch: arch.to_owned(), ..Target::default() }),
                ..Default::default()
            }),
            ..Analyzed::default()
        };
        for (asked, recorded, run_image, expected) in [
            ("", "", "arm64", Ok(None)),
            ("arm64", "", "arm64", Ok(Some("arm64"))),
            ("", "arm64", "arm64", Ok(Some("arm64"))),
            ("arm64", "amd64", "arm64", Ok(Some("arm64"))),
            ("arm64", "", "aarch64", Ok(Some("arm64"))),
            ("arm64", "", "", Ok(Some("arm64"))),
            ("arm64", "", "amd64", Err(3)),
            ("", "arm64", "amd64", Err(3)),
            ("", "x", "amd64", Err(3)),
        ] {
            let asked = Some(asked).filter(|asked| !asked.is_empty()).map(|asked| asked.parse().expect("known"));
            let found = BuildTarget::resolve(asked, &analyzed(recorded, run_image));
            let found = found.map(|found| found.asked().map(|target| target.arch().to_owned()));
            let found = found.map_err(|error| error.exit_code());
            assert_eq!(found.as_ref().map(Option::as_deref), expected.as_ref().map(|of| *of), "{recorded} {run_image}");
        }
        assert_eq!(
            (build("arm/v7", "amd64").recorded(), build("", "amd64").recorded()),
            ("arm/v7".to_owned(), String::new())
        );
    }

    #[test]
    fn what_fits_on_a_run_image() {
        let image = |text: &str| {
            let mut parts = text.split('/');
            let mut part = || parts.next().unwrap_or_default();
            Draft::empty(part(), part(), part()).finish().expect("an image").config.clone()
        };
        for (previous, run_image, expected) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/x86_64", "linux/amd64", true),
            ("linux/arm64/v8", "linux/aarch64", true),
            ("linux", "linux/amd64", true),
            ("/amd64", "linux/amd64", true),
            ("/arm64", "linux/amd64", false),
            ("linux/arm64", "linux/amd64", false),
            ("linux/amd64/v3", "linux/amd64", false),
            ("windows/amd64", "linux/amd64", false),
        ] {
            assert_eq!(fits(&image(previous), &image(run_image)), expected, "{previous} on {run_image}");
        }
    }

    #[test]
    fn a_run_images() {
        let plain =
            Target { os: "linux".to_owned(), arch: "arm".to_owned(), variant: "v7".to_owned(), ..Target::default() };
        let distro = |name: &str, version: &str| Target {
            distro: Some(Distro { name: name.to_owned(), version: version.to_owned() }),
            ..plain.clone()
        };
        for (labels, expected) in [
            (&[][..], plain.clone()),
            (&[(label::BASE_DISTRO_NAME, "debian"), (label::BASE_DISTRO_VERSION, "12")], distro("debian", "12")),
            (&[(label::BASE_DISTRO_NAME, "arch")], distro("arch", "")),
            (&[(label::BASE_DISTRO_VERSION, "1")], distro("", "1")),
            (&[(label::BASE_DISTRO_NAME, "")], distro("", "")),
            (&[(label::BASE_ID, "io.x")], Target { id: "io.x".to_owned(), ..plain.clone() }),
            (&[(label::STACK_ID, "io.buildpacks.stacks.bionic")], distro("ubuntu", "18.04")),
            (&[(label::STACK_ID, "io.buildpacks.stacks.bionic"), (label::BASE_DISTRO_NAME, "x")], distro("x", "")),
            (&[(label::STACK_ID, "other")], plain.clone()),
        ] {
            assert_eq!(target(labels), expected, "{labels:?}");
        }
        for (os, arch, lacks) in [("", "amd64", "OS"), ("linux", "", "architecture")] {
            let nameless = Draft::empty(os, arch, "").finish().expect("an image");
            assert_eq!(of_image(&nameless), Err(Unstated(lacks)));
        }
    }
}

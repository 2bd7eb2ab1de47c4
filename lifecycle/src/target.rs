//! For which machine an image is, and for which machine this program is (platform.md, *Target Data*).

use platform_spec::label;
use platform_spec::target::{Distro, Platform, Target};
use thiserror::Error;

use crate::image::{Config, Image};

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
    let config = &image.config;
    let text = |label: &str| config.label(label).map(str::to_owned);
    let distro = match (text(label::BASE_DISTRO_NAME), text(label::BASE_DISTRO_VERSION)) {
        (None, None) if config.label(label::STACK_ID) == Some(BIONIC) => {
            Some(Distro { name: "ubuntu".to_owned(), version: "18.04".to_owned() })
        }
        (None, None) => None,
        (name, version) => Some(Distro { name: name.unwrap_or_default(), version: version.unwrap_or_default() }),
    };
    Ok(Target { id: text(label::BASE_ID).unwrap_or_default(), distro, ..platform(config) })
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

/// The target of images that are asked for without naming one: the machine for which this program was built.
pub fn of_this_program() -> Target {
    let platform = Platform::of_this_program();
    Target {
        os: platform.os().to_owned(),
        arch: platform.arch().to_owned(),
        variant: platform.variant().to_owned(),
        ..Target::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Draft;

    fn target(labels: &[(&str, &str)]) -> Target {
        let draft = Draft::empty("linux", "arm", "v7");
        let image = draft.edit(|config| labels.iter().for_each(|(name, value)| config.set_label(name, value))).finish();
        of_image(&image.expect("an image")).expect("a target")
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

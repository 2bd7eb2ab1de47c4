//! Rebase: an app image's own layers on top of a newer run image (platform.md, *rebaser*). No layer is read or made.
//!
//! 1. [`open`] reads the app image: its label says which run images there are to choose from ([`App::run_images`]), for
//!    which credentials may be needed;
//! 2. [`run`] chooses one, rebases and saves.
//!
//! What becomes of one image is [`rebase`], which knows no store. With `-index merge` that happens to every image of an index:
//! [`index`].

mod check;
pub mod index;
mod label;

use log::{debug, info};
use platform_spec::api::{ParseVersionError, PlatformApi};
use platform_spec::label::{BASE_PREFIX, LIFECYCLE_METADATA, STACK_PREFIX};
use platform_spec::report::Report;
use platform_spec::run::RunImage;
use platform_spec::target::Platform;
use platform_spec::text::ReadError;
use platform_spec::{exit, input};
use thiserror::Error;

use self::label::Label;
use super::saved::{self, NameError};
use super::{PhaseError, Timer};
use crate::digest::Digest;
use crate::file::PathError;
use crate::image::{self, Config, Image, ParseReferenceError, Reference, Store, StoreError};
use crate::run_image::{RunImageError, RunImageInput, contains};
use crate::target::{self, BuildTarget};

/// What the phase knows.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The Platform API.
    pub api: PlatformApi,
    /// The name to which the rebased image is written.
    pub image: String,
    /// Further names.
    pub tags: Vec<String>,
    /// The image to rebase, where that is another than [`Inputs::image`]. It is not changed.
    pub previous_image: Option<String>,
    /// The run image, where the platform chose one.
    pub run_image: Option<String>,
    /// Whether to rebase even if that is unsafe.
    pub force: bool,
    /// Which image of an index is rebased; with `-index merge`, whether only some are.
    pub build_for: BuildTarget,
}

/// An app image, and what its label says.
#[derive(Clone, Debug)]
pub struct App {
    name: String,
    image: Image,
    label: Label,
}

/// A run image, and how the platform calls it.
#[derive(Clone, Debug)]
pub struct Base {
    /// Its name, as given or as the label has it.
    pub name: String,
    /// The image.
    pub image: Image,
}

/// How strict a rebase is.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The Platform API.
    pub api: PlatformApi,
    /// Whether what is unsafe is done with a warning.
    pub force: bool,
}

/// Why nothing was rebased, or not under each name.
#[derive(Debug, Error)]
pub enum RebaseError {
    /// The name of the image is none.
    #[error("resolve inputs")]
    Reference(#[from] ParseReferenceError),
    /// The app image cannot be opened.
    #[error("access image to rebase '{name}'")]
    App {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        cause: StoreError,
    },
    /// What the app image says of itself cannot be read.
    #[error("read label {label} of '{name}'")]
    Label {
        /// Which image.
        name: String,
        /// Which label.
        label: &'static str,
        /// What is wrong.
        #[source]
        cause: Box<ReadError>,
    },
    /// The Platform API at which the app image was exported is no version.
    #[error("read CNB_PLATFORM_API of '{name}'")]
    Api {
        /// Which image.
        name: String,
        /// What is wrong.
        #[source]
        cause: ParseVersionError,
    },
    /// Neither the platform nor the app image names a run image.
    #[error("-run-image is required when there is no run image metadata available")]
    NoRunImage,
    /// None of the run images that the app image names can be read.
    #[error("find run image")]
    Choose(#[source] RunImageError),
    /// The run image cannot be opened.
    #[error("access run image '{name}'")]
    RunImage {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        cause: StoreError,
    },
    /// The run image does not say for which machine it is.
    #[error("unpack metadata from run image '{name}'")]
    Target {
        /// Its name.
        name: String,
        /// What it lacks.
        #[source]
        cause: target::Unstated,
    },
    /// An image without a stack, where stacks are compared.
    #[error("'{0}' has no stack (label io.buildpacks.stack.id)")]
    NoStack(String),
    /// Another stack.
    #[error("the run image is of stack '{new}', the app image of stack '{old}'")]
    Stack {
        /// The run image's.
        new: String,
        /// The app image's.
        old: String,
    },
    /// Mixins that the app image's run image has.
    #[error("the run image lacks mixins that the app image has: {}", .0.join(", "))]
    Mixins(Vec<String>),
    /// The app image must not be rebased.
    #[error("the app image is not to be rebased (label io.buildpacks.rebasable is false)")]
    NotRebasable,
    /// Another machine, or another distribution.
    #[error("the run image is for {new}, the app image for {old}")]
    OtherTarget {
        /// The run image's.
        new: String,
        /// The app image's.
        old: String,
    },
    /// A run image that the app image does not name.
    #[error("'{name}' is not among the run images that the app image names: {}", if .known.is_empty() { "none".to_owned() } else { .known.join(", ") })]
    NotNamed {
        /// The run image.
        name: String,
        /// Those that it names.
        known: Vec<String>,
    },
    /// The label does not say where the app image's own layers begin.
    #[error("label io.buildpacks.lifecycle.metadata of '{name}' names no top layer of its run image, but {found:?}")]
    NoTopLayer {
        /// Which image.
        name: String,
        /// What it says.
        found: String,
    },
    /// The run image has no layers, so there would be no top layer to rebase from the next time.
    #[error("run image '{0}' has no layers")]
    NoLayers(String),
    /// The image could not be put together.
    #[error("make rebased image")]
    Make(#[from] image::RebaseError),
    /// An image of an index, which keeps its architecture whatever is forced.
    #[error("the run image is for {new}: an image of an index is not put on one for another machine")]
    OtherMachine {
        /// The run image's platform.
        new: String,
    },
    /// An image of an index.
    #[error("rebase the image for {platform}")]
    Child {
        /// For which machine.
        platform: String,
        /// Why it is not rebased.
        #[source]
        cause: Box<RebaseError>,
    },
    /// The index has no image to rebase.
    #[error("'{name}' has no image{}; there {}", .wanted.as_ref().map_or(String::new(), |wanted| format!(" for {wanted}")), if .found.is_empty() { "is none".to_owned() } else { format!("are {}", .found.join(", ")) })]
    NoChild {
        /// The index.
        name: String,
        /// What was asked for.
        wanted: Option<String>,
        /// For which machines there are images.
        found: Vec<String>,
    },
    /// Something of an index that cannot be copied to where the new index is to be.
    #[error("{digest} of the index is an index itself, which cannot be copied to another repository")]
    Nested {
        /// Its digest.
        digest: Digest,
    },
    /// The index report could not be written.
    #[error("write index report")]
    IndexReport(#[source] PathError),
    /// The image could not be saved under any name.
    #[error("save image '{name}'")]
    Save {
        /// The image.
        name: String,
        /// Why.
        #[source]
        cause: StoreError,
    },
    /// Some names could not be written; the others stand.
    #[error("save image to {}", saved::describe_failures(.0))]
    Names(Vec<(String, NameError)>),
    /// The report could not be written.
    #[error("write rebase report")]
    Report(#[source] PathError),
}

impl PhaseError for RebaseError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Reference(_) => exit::INVALID_ARGUMENTS,
            Self::App { .. }
            | Self::Label { .. }
            | Self::Api { .. }
            | Self::NoRunImage
            | Self::Choose(_)
            | Self::RunImage { .. }
            | Self::Target { .. }
            | Self::NoStack(_)
            | Self::Stack { .. }
            | Self::Mixins(_)
            | Self::NotRebasable
            | Self::OtherTarget { .. }
            | Self::NotNamed { .. }
            | Self::NoTopLayer { .. }
            | Self::NoLayers(_)
            | Self::Make(_)
            | Self::Child { .. }
            | Self::OtherMachine { .. }
            | Self::NoChild { .. }
            | Self::Nested { .. }
            | Self::IndexReport(_)
            | Self::Save { .. }
            | Self::Names(_)
            | Self::Report(_) => exit::REBASE_ERROR,
        }
    }

    fn advice(&self) -> Option<String> {
        match self {
            Self::Child { cause, .. } => Some(cause.advice().unwrap_or_else(|| {
                format!(
                    "Nothing was written. To rebase some of the images only: -target-arch, or {}.",
                    input::env::TARGET_ARCH
                )
            })),
            Self::NotRebasable | Self::OtherTarget { .. } | Self::NotNamed { .. } => Some(format!(
                "To rebase all the same: -force (from Platform API 0.12 on), or {}=true.",
                input::env::FORCE
            )),
            Self::Reference(_)
            | Self::App { .. }
            | Self::Label { .. }
            | Self::Api { .. }
            | Self::NoRunImage
            | Self::Choose(_)
            | Self::RunImage { .. }
            | Self::Target { .. }
            | Self::NoStack(_)
            | Self::Stack { .. }
            | Self::Mixins(_)
            | Self::NoTopLayer { .. }
            | Self::NoLayers(_)
            | Self::Make(_)
            | Self::OtherMachine { .. }
            | Self::NoChild { .. }
            | Self::Nested { .. }
            | Self::IndexReport(_)
            | Self::Save { .. }
            | Self::Names(_)
            | Self::Report(_) => None,
        }
    }
}

/// Opens the image to rebase.
pub fn open(inputs: &Inputs, store: &dyn Store) -> Result<App, RebaseError> {
    let name = inputs.previous_image.as_ref().unwrap_or(&inputs.image);
    let image = inputs.build_for.open(store, name).map_err(|cause| RebaseError::App { name: name.clone(), cause })?;
    debug!("Found image with identifier {:?}", image.identifier);
    App::read(name, image)
}

impl App {
    /// An app image, whose label is read. `name` is for messages.
    pub fn read(name: &str, image: Image) -> Result<Self, RebaseError> {
        let text = image.config.label(LIFECYCLE_METADATA).unwrap_or_default();
        let label = Label::parse(text).map_err(|cause| RebaseError::Label {
            name: name.to_owned(),
            label: LIFECYCLE_METADATA,
            cause: Box::new(cause),
        })?;
        Ok(Self { name: name.to_owned(), image, label })
    }

    /// The image as it was opened.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// What there is to choose from: `named` by the platform, else what the label names (before Platform API 0.12, or
    /// where that names none, by its `stack`).
    pub fn run_images(&self, api: PlatformApi, named: Option<&str>) -> Result<RunImageInput, RebaseError> {
        let [own, stack] = self.known();
        match named {
            Some(name) => Ok(RunImageInput::Named(name.to_owned())),
            None if api.has_run_toml() && !own.image.is_empty() => Ok(RunImageInput::OneOf(own)),
            None if !stack.image.is_empty() => Ok(RunImageInput::OneOf(stack)),
            None => Err(RebaseError::NoRunImage),
        }
    }

    /// The run images that the label names: its `runImage`, and its `stack`.
    fn known(&self) -> [RunImage; 2] {
        let own = &self.label.run_image;
        let own = RunImage { image: own.image.clone(), mirrors: own.mirrors.clone() };
        [own, self.label.stack.clone()]
    }
}

/// Rebases and saves; what it returns is `report.toml`.
pub fn run(inputs: &Inputs, app: App, run_images: &RunImageInput, store: &dyn Store) -> Result<Report, RebaseError> {
    let _timer = Timer::start("Rebaser");
    let machine = target::platform(&app.image.config);
    let machine = Some(machine.platform()).filter(|_| !machine.os.is_empty() && !machine.arch.is_empty());
    let base = open_base(inputs, machine.as_ref(), run_images, store)?;
    let rebased = rebase(Rules { api: inputs.api, force: inputs.force }, app, &base)?;
    let name = &inputs.image;
    let save = |cause| RebaseError::Save { name: name.clone(), cause };
    let saving = format!("Saving {}...", store.shown_name(name));
    let _saving = Timer::start(saving.clone());
    info!("{saving}");
    let mut pushed = store.push(name, &inputs.tags).map_err(save)?.finish(&rebased).map_err(save)?;
    let names = std::mem::take(&mut pushed.names).into_iter();
    let names = names.map(|(name, result)| (name, result.map_err(NameError::from))).collect();
    let image = saved::tell(&pushed, names, false).map_err(RebaseError::Names)?;
    Ok(Report { build: None, image })
}

/// The run image: of an index the one for the app image's `machine`, whichever this one is. `None`: it is not stated.
fn open_base(
    inputs: &Inputs,
    machine: Option<&Platform>,
    run_images: &RunImageInput,
    store: &dyn Store,
) -> Result<Base, RebaseError> {
    let wanted = match machine {
        None => inputs.build_for.clone(),
        Some(machine) => BuildTarget::new(None).on(machine.clone()),
    };
    let output = Reference::parse(&inputs.image)?;
    let chosen = run_images.choose(&output, &wanted, store).map_err(RebaseError::Choose)?;
    let name = chosen.name;
    let image = match chosen.image {
        Some(image) => image,
        None => wanted.open(store, &name).map_err(|cause| RebaseError::RunImage { name: name.clone(), cause })?,
    };
    debug!("Found image with identifier {:?}", image.identifier);
    Ok(Base { name, image })
}

/// What becomes of one image: checked, with other layers below, and saying so.
pub fn rebase(rules: Rules, app: App, base: &Base) -> Result<Image, RebaseError> {
    let Base { name, image: new } = base;
    target::check_stated(new).map_err(|cause| RebaseError::Target { name: name.clone(), cause })?;
    check::check(rules, &app, base)?;
    let old_top = &app.label.run_image.top_layer;
    let old_top: Digest =
        old_top.parse().map_err(|_| RebaseError::NoTopLayer { name: app.name.clone(), found: old_top.clone() })?;
    let new_top = new.layers.last().ok_or_else(|| RebaseError::NoLayers(name.clone()))?.diff_id;

    let is_named = !rules.api.has_run_toml() || app.known().iter().any(|known| contains(known, name));
    if !is_named {
        let known = app.known().into_iter().flat_map(|known| std::iter::once(known.image).chain(known.mirrors));
        let mut known: Vec<String> = known.filter(|name| !name.is_empty()).collect();
        known.sort();
        known.dedup();
        rules.unless_forced(RebaseError::NotNamed { name: name.clone(), known })?;
    }
    let label = app.label.on(&new_top.to_string(), &new.identifier);
    let label = if is_named { label } else { label.named(name) };
    let rebased = image::rebase(&app.image, &old_top, new, |config| {
        config.set_label(LIFECYCLE_METADATA, &label.to_json());
        take_labels(config, &new.config, STACK_PREFIX);
        if rules.api.has_targets() {
            take_labels(config, &new.config, BASE_PREFIX);
        }
        if rules.force {
            take_variant(config, &app.image.config, &new.config);
        }
    })?;
    Ok(rebased)
}

/// Labels that begin so are the run image's: those that it has not are gone.
fn take_labels(config: &mut Config, from: &Config, prefix: &str) {
    let own: Vec<String> =
        config.labels().into_keys().filter(|name| name.starts_with(prefix)).map(str::to_owned).collect();
    own.iter().for_each(|name| config.remove_label(name));
    for (name, value) in from.labels().into_iter().filter(|(name, _)| name.starts_with(prefix)) {
        config.set_label(name, value);
    }
}

/// The variant of the new run image. Where that states none, the old one is right only for the old architecture.
fn take_variant(config: &mut Config, old: &Config, new: &Config) {
    if !new.variant().is_empty() {
        config.document_mut().insert("variant".to_owned(), new.variant().into());
    } else if target::platform(old).platform().arch() != target::platform(new).platform().arch() {
        config.document_mut().remove("variant");
    }
}

#[cfg(test)]
mod index_tests;
#[cfg(test)]
mod tests;

//! Which run image a build uses, and what else it is called (platform.md, *Run Image Resolution*).
//!
//! Before privileges are dropped [`RunImageInput::resolve`] reads what there is to choose from, so that credentials for
//! all of it can be acquired; [`RunImageInput::choose`] then tries which of them can be read.

use std::path::Path;

use log::{debug, info, warn};
use platform_spec::analyzed::{Analyzed, AnalyzedRunImage};
use platform_spec::api::PlatformApi;
use platform_spec::exit;
use platform_spec::run::{Run, RunImage};
use platform_spec::stack::Stack;
use platform_spec::target::Target;
use thiserror::Error;

use crate::file::{LoadError, load_if_there};
use crate::image::{Image, Reference, Store, StoreError, same_image};
use crate::phase::PhaseError;
use crate::target::{self, BuildTarget};
use lifecycle_launch::console::chain;

/// The run image as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunImageInput {
    /// By the platform, by name (`-run-image`).
    Named(String),
    /// By `run.toml` or `stack.toml`: a name and its mirrors, of which one is chosen.
    OneOf(RunImage),
}

/// A run image that was chosen.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// Its name, as it was given.
    pub name: String,
    /// The image, if it has been opened already.
    pub image: Option<Image>,
}

/// Why there is no run image to use.
#[derive(Debug, Error)]
pub enum RunImageError {
    /// `run.toml` names none, or there is no `run.toml`.
    #[error("resolve inputs: -run-image is required when there is no run metadata available")]
    NoRunToml,
    /// The entry of `run.toml` or `stack.toml` has no name.
    #[error("resolve inputs: missing run image metadata (-run-image)")]
    NoName,
    /// None of the names can be read.
    #[error("resolve inputs: failed to find accessible run image")]
    NoneReadable,
    /// `run.toml` or `stack.toml` is not what it should be.
    #[error("resolve inputs: failed to read {kind} file")]
    File {
        /// `run` or `stack`.
        kind: &'static str,
        /// Why.
        #[source]
        source: LoadError,
    },
    /// The run image that the analyzer chose cannot be read any more.
    #[error("find run image: selected run image '{0}' is not accessible")]
    NotReadableAnyMore(String),
}

impl PhaseError for RunImageError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::NoRunToml | Self::NoName | Self::NoneReadable | Self::File { .. } => exit::INVALID_ARGUMENTS,
            Self::NotReadableAnyMore(_) => exit::GENERIC,
        }
    }

    fn says_what_failed(&self) -> bool {
        true
    }
}

/// `run.toml`; without the file, one without images.
pub fn read_run(path: &Path) -> Result<Run, RunImageError> {
    let read = load_if_there(path).map_err(|source| RunImageError::File { kind: "run", source })?;
    Ok(read.unwrap_or_else(|| {
        info!("No run metadata found at path {path:?}");
        Run::default()
    }))
}

/// `stack.toml`; without the file, one without an image.
fn read_stack(path: &Path) -> Result<Stack, RunImageError> {
    let read = load_if_there(path).map_err(|source| RunImageError::File { kind: "stack", source })?;
    Ok(read.unwrap_or_else(|| {
        info!("No stack metadata found at path {path:?}");
        Stack::default()
    }))
}

impl RunImageInput {
    /// What the platform named, else the first image of `run.toml` (before Platform API 0.12 that of `stack.toml`).
    pub fn resolve(api: PlatformApi, named: Option<&str>, run: &Path, stack: &Path) -> Result<Self, RunImageError> {
        if let Some(name) = named {
            return Ok(Self::Named(name.to_owned()));
        }
        let image = if api.has_run_toml() {
            read_run(run)?.images.into_iter().next().ok_or(RunImageError::NoRunToml)?
        } else {
            read_stack(stack)?.run_image
        };
        if image.image.is_empty() { Err(RunImageError::NoName) } else { Ok(Self::OneOf(image)) }
    }

    /// All names, in the file's order: those for which credentials may be needed.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let (first, mirrors) = match self {
            Self::Named(name) => (name, [].as_slice()),
            Self::OneOf(RunImage { image, mirrors }) => (image, mirrors.as_slice()),
        };
        std::iter::once(first).chain(mirrors).map(String::as_str)
    }

    /// Chooses one name: one in the registry of `output` before others, and of those the first that is there and can be
    /// read. Where none is there, the first whose registry lets us look: the exporter will say that it is missing.
    pub fn choose(
        &self,
        output: &Reference,
        build_for: &BuildTarget,
        images: &dyn Store,
    ) -> Result<Chosen, RunImageError> {
        if let Self::Named(name) = self {
            return Ok(Chosen { name: name.clone(), image: None });
        }
        let is_near = |name: &&str| Reference::parse(name).is_ok_and(|found| found.registry == output.registry);
        let (near, far): (Vec<&str>, Vec<&str>) = self.names().partition(is_near);
        let mut missing = None;
        let mut refusals = Vec::new();
        for name in near.into_iter().chain(far) {
            match build_for.open(images, name) {
                Ok(image) => return Ok(Chosen { name: name.to_owned(), image: Some(image) }),
                Err(error) if can_be_looked_up(&error) => {
                    debug!("Run image {name:?} is not usable: {}", chain(&error));
                    missing.get_or_insert(name);
                }
                Err(error) => refusals.push(format!("Run image {name:?} is not accessible: {}", chain(&error))),
            }
        }
        match missing {
            Some(name) => Ok(Chosen { name: name.to_owned(), image: None }),
            None => {
                refusals.iter().for_each(|refusal| warn!("{refusal}"));
                Err(RunImageError::NoneReadable)
            }
        }
    }
}

/// Whether the registry lets us read, though what is there cannot be used.
fn can_be_looked_up(error: &StoreError) -> bool {
    match error {
        StoreError::NotFound { .. }
        | StoreError::NoChild { .. }
        | StoreError::OtherPlatform { .. }
        | StoreError::Corrupt { .. } => true,
        StoreError::Name { .. }
        | StoreError::Unauthorized { .. }
        | StoreError::Forbidden { .. }
        | StoreError::BlobNotFound { .. }
        | StoreError::Failed { .. } => false,
    }
}

/// What the exporter writes about the run image into the app image's label, for rebasing: the entry of `run.toml` that
/// has the analyzed run image or a mirror of that name, else, if extensions took part and may have switched it, only its
/// name, else the first entry. Before Platform API 0.12: what `stack.toml` says.
pub fn for_export(
    api: PlatformApi,
    run: &Path,
    stack: &Path,
    analyzed: &Analyzed,
    has_extensions: bool,
) -> Result<RunImage, RunImageError> {
    if !api.has_run_toml() {
        return Ok(read_stack(stack)?.run_image);
    }
    let used = analyzed.run_image.as_ref().map(|image| image.image.as_str()).unwrap_or_default();
    let images = read_run(run)?.images;
    if let Some(found) = images.iter().find(|image| contains(image, used)) {
        return Ok(found.clone());
    }
    match images.into_iter().next() {
        Some(_) if has_extensions => Ok(RunImage { image: used.to_owned(), mirrors: Vec::new() }),
        Some(first) => Ok(first),
        None => Ok(RunImage::default()),
    }
}

/// Whether a name is that of the image or of a mirror, whichever way it is written and whichever digest it has.
pub fn contains(image: &RunImage, name: &str) -> bool {
    std::iter::once(&image.image).chain(&image.mirrors).any(|known| same_image(known, name))
}

/// The restorer's check: a run image of `run.toml` that the analyzer chose can still be read. Others, which an extension
/// named, are not checked.
pub fn check_still_readable(name: &str, run: &Run, images: &dyn Store) -> Result<(), RunImageError> {
    if !run.images.iter().any(|image| contains(image, name)) {
        return Ok(());
    }
    images.check_read(name).map_err(|error| {
        warn!("Run image {name:?} is not accessible: {}", chain(&error));
        RunImageError::NotReadableAnyMore(name.to_owned())
    })
}

/// Why what analyzed.toml says of an image could not be renewed.
#[derive(Debug, Error)]
pub enum RefreshError {
    /// The image cannot be opened.
    #[error("open image {name}")]
    Open {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// It does not say for which machine it is.
    #[error("image {name}")]
    Target {
        /// Its name.
        name: String,
        /// What it lacks.
        #[source]
        source: target::Unstated,
    },
}

/// The identifier of an image: the digest reference that files record (`-build-image`).
pub fn identify(name: &str, target: &Target, images: &dyn Store) -> Result<String, RefreshError> {
    let image = images.open(name, target).map_err(|source| RefreshError::Open { name: name.to_owned(), source })?;
    Ok(image.identifier)
}

/// Looks the run image up again by its name, as the restorer does after an extension has switched it: its reference,
/// and from Platform API 0.12 on its target.
pub fn refresh(
    api: PlatformApi,
    run_image: &AnalyzedRunImage,
    build_for: &BuildTarget,
    images: &dyn Store,
) -> Result<AnalyzedRunImage, RefreshError> {
    let name = &run_image.image;
    let image = build_for.open(images, name).map_err(|source| RefreshError::Open { name: name.to_owned(), source })?;
    let found = target::of_image(&image).map_err(|source| RefreshError::Target { name: name.clone(), source })?;
    Ok(AnalyzedRunImage {
        reference: image.identifier,
        target: api.has_targets().then_some(found),
        ..run_image.clone()
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::image::Draft;
    use crate::image::memory::{Answer, MemoryStore, Refusal};

    fn api(text: &str) -> PlatformApi {
        PlatformApi::parse(Some(text)).expect("a version")
    }

    fn amd64() -> Target {
        Target { os: "linux".to_owned(), arch: "amd64".to_owned(), ..Target::default() }
    }

    fn push(store: &MemoryStore, name: &str, os: &str) -> Image {
        let image = Draft::empty(os, "amd64", "").edit(|config| config.set_label("name", name)).finish();
        let image = image.expect("an image");
        let push = store.push(name, &[]).expect("begun");
        push.finish(&image).expect("pushed");
        store.open(name, &amd64()).expect("there")
    }

    fn build_for() -> BuildTarget {
        BuildTarget::new(None).on(amd64().platform())
    }

    fn refuse(store: &MemoryStore, repository: &str, answer: Answer) {
        store.refuse(Refusal { repository: repository.to_owned(), reads: true, answer });
    }

    fn run_image(image: &str, mirrors: &[&str]) -> RunImage {
        RunImage { image: image.to_owned(), mirrors: mirrors.iter().map(|&mirror| mirror.to_owned()).collect() }
    }

    const RUN_TOML: &str = "
        [[images]]
          image = 'first/run'
          mirrors = ['r.io/run', 'r.io/other']
        [[images]]
          image = 'second/run:tag'
    ";

    #[test]
    fn what_is_asked_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let (run, stack) = (dir.path().join("run.toml"), dir.path().join("stack.toml"));
        let resolve = |version: &str, named: Option<&str>| RunImageInput::resolve(api(version), named, &run, &stack);
        let text = |version: &str| resolve(version, None).map_err(|error| chain(&error)).expect_err(version);
        assert_eq!(resolve("0.12", Some("x")).expect("named"), RunImageInput::Named("x".to_owned()));
        assert_eq!(
            text("0.12"),
            "resolve inputs: -run-image is required when there is no run metadata available",
            "no file"
        );
        assert_eq!(text("0.11"), "resolve inputs: missing run image metadata (-run-image)", "no file");
        fs::write(&run, RUN_TOML).expect("written");
        fs::write(&stack, "[run-image]\nimage = 'of/stack'\nmirrors = ['m/stack']").expect("written");
        let found = resolve("0.12", None).expect("found");
        assert_eq!(found, RunImageInput::OneOf(run_image("first/run", &["r.io/run", "r.io/other"])));
        assert_eq!(found.names().collect::<Vec<_>>(), ["first/run", "r.io/run", "r.io/other"]);
        assert_eq!(resolve("0.11", None).expect("found"), RunImageInput::OneOf(run_image("of/stack", &["m/stack"])));
        fs::write(&run, "[[images]]\nmirrors = ['x/y']").expect("written");
        assert_eq!(text("0.12"), "resolve inputs: missing run image metadata (-run-image)");
        fs::write(&run, "images = 3").expect("written");
        let malformed = text("0.12");
        assert!(malformed.starts_with("resolve inputs: failed to read run file: "), "{malformed}");
        assert!(malformed.contains("run.toml"), "{malformed}");
        fs::write(&stack, "[run-image").expect("written");
        assert!(text("0.11").starts_with("resolve inputs: failed to read stack file: "));
        assert_eq!(resolve("0.11", None).expect_err("malformed").exit_code(), 3);
    }

    #[test]
    fn which_mirror() {
        let there = MemoryStore::new();
        for name in ["first/run", "r.io/run", "r.io/other", "us.gcr.io/run", "gcr.io/run"] {
            push(&there, name, "linux");
        }
        let choose = |store: &MemoryStore, image: &RunImage, output: &str| {
            let output = Reference::parse(output).expect("a reference");
            let chosen = RunImageInput::OneOf(image.clone()).choose(&output, &build_for(), store);
            chosen.map(|chosen| chosen.name).map_err(|error| error.to_string())
        };
        let mirrored = run_image("first/run", &["r.io/run", "r.io/other", "!", "us.gcr.io/run", "gcr.io/run"]);
        for (output, chosen) in [
            ("app/app", "first/run"),
            ("index.docker.io/app/app", "first/run"),
            ("r.io/app", "r.io/run"),
            ("gcr.io/app", "gcr.io/run"),
            ("us.gcr.io/app:x", "us.gcr.io/run"),
            ("elsewhere.io/app", "first/run"),
        ] {
            assert_eq!(choose(&there, &mirrored, output).as_deref(), Ok(chosen), "{output}");
        }
        // One that cannot be read is passed over, in the output's registry and elsewhere.
        refuse(&there, "r.io/run", Answer::Forbidden);
        assert_eq!(choose(&there, &mirrored, "r.io/app").as_deref(), Ok("r.io/other"));
        refuse(&there, "r.io/other", Answer::Broken);
        assert_eq!(choose(&there, &mirrored, "r.io/app").as_deref(), Ok("first/run"));
        refuse(&there, "index.docker.io/first/run", Answer::Unauthorized(Some("denied".to_owned())));
        assert_eq!(choose(&there, &mirrored, "r.io/app").as_deref(), Ok("us.gcr.io/run"));
        let refused = run_image("first/run", &["r.io/run"]);
        assert_eq!(
            choose(&there, &refused, "r.io/app").expect_err("none"),
            "resolve inputs: failed to find accessible run image"
        );
    }

    #[test]
    fn a_mirror_that_lacks_the_image_is_the_last_resort() {
        let store = MemoryStore::new();
        push(&store, "first/run", "linux");
        let choose = |image: RunImage| {
            let output = Reference::parse("r.io/app").expect("a reference");
            RunImageInput::OneOf(image).choose(&output, &build_for(), &store).expect("one").name
        };
        assert_eq!(choose(run_image("x.io/none", &["r.io/none", "first/run"])), "first/run");
        assert_eq!(choose(run_image("x.io/none", &["r.io/none"])), "r.io/none", "the exporter will say so");
        store.insert("r.io/bad", "application/json", b"{".to_vec()).expect("inserted");
        assert_eq!(choose(run_image("x.io/none", &["r.io/bad", "first/run"])), "first/run");
    }

    #[test]
    fn what_is_exported() {
        let dir = tempfile::tempdir().expect("a directory");
        let (run, stack) = (dir.path().join("run.toml"), dir.path().join("stack.toml"));
        let export = |version: &str, used: &str, extensions: bool| {
            let run_image = AnalyzedRunImage { image: used.to_owned(), ..AnalyzedRunImage::default() };
            let analyzed = Analyzed { run_image: Some(run_image), ..Analyzed::default() };
            for_export(api(version), &run, &stack, &analyzed, extensions).expect("found")
        };
        assert_eq!(export("0.12", "r.io/run", false), RunImage::default(), "no file");
        assert_eq!(export("0.11", "r.io/run", false), RunImage::default(), "no file");
        fs::write(&run, RUN_TOML).expect("written");
        fs::write(&stack, "[run-image]\nimage = 'of/stack'").expect("written");
        let (first, second) = (run_image("first/run", &["r.io/run", "r.io/other"]), run_image("second/run:tag", &[]));
        for (used, extensions, expected) in [
            ("first/run", false, &first),
            ("index.docker.io/first/run:latest", false, &first),
            ("r.io/other@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", true, &first),
            ("second/run:tag", true, &second),
            ("second/run", false, &first),
            ("second/run", true, &run_image("second/run", &[])),
            ("", false, &first),
        ] {
            assert_eq!(export("0.12", used, extensions), *expected, "{used} {extensions}");
        }
        assert_eq!(export("0.11", "first/run", true), run_image("of/stack", &[]));
    }

    #[test]
    fn the_restorers_check() {
        let store = MemoryStore::new();
        push(&store, "r.io/run", "linux");
        refuse(&store, "r.io/refused", Answer::Forbidden);
        let run = Run { images: vec![run_image("r.io/run", &["r.io/refused", "r.io/none"])] };
        let check = |name: &str| check_still_readable(name, &run, &store);
        check("r.io/run").expect("readable");
        check("r.io/none").expect("missing is for the exporter to say");
        let error = check("r.io/refused").expect_err("refused");
        assert_eq!(error.to_string(), "find run image: selected run image 'r.io/refused' is not accessible");
        assert_eq!(error.exit_code(), 1);
        refuse(&store, "x.io/switched", Answer::Forbidden);
        check("x.io/switched").expect("it is not in run.toml");
    }

    #[test]
    fn looking_up_again() {
        let store = MemoryStore::new();
        let image = push(&store, "r.io/run", "linux");
        assert_eq!(identify("r.io/run", &amd64(), &store).expect("there"), image.identifier);
        let switched = AnalyzedRunImage {
            reference: "r.io/run".to_owned(),
            image: "r.io/run".to_owned(),
            extend: true,
            target: None,
        };
        let refreshed = |version| refresh(api(version), &switched, &build_for(), &store).expect("there");
        let expected = AnalyzedRunImage { reference: image.identifier, target: Some(amd64()), ..switched.clone() };
        assert_eq!(refreshed("0.12"), expected);
        assert_eq!(refreshed("0.11"), AnalyzedRunImage { target: None, ..expected });
        let missing = AnalyzedRunImage { image: "r.io/none".to_owned(), ..switched };
        let error = refresh(api("0.12"), &missing, &build_for(), &store).expect_err("missing");
        assert_eq!(chain(&error), "open image r.io/none: image r.io/none not found");
    }
}

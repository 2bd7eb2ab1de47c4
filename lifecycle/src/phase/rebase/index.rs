//! Every image of an index onto the run image for its machine, and only then the index, once (target-arch.md, *rebaser*).
//!
//! 1. [`open`] reads the index and the images that are to be rebased: what each one's label says;
//! 2. [`run`] rebases all of them before anything is sent. If one cannot be, nothing is written.
//!
//! The tag may be moved meanwhile: then all of it is done again with what it holds then.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::error::Error;

use log::{info, warn};
use platform_spec::index_report::IndexReport;
use platform_spec::report::Report;
use platform_spec::target::Platform;

use super::super::saved::{self, Names, tell_index};
use super::{App, Inputs, RebaseError, Rules, open_base, rebase};
use crate::digest::Digest;
use crate::image::index::{Held, IndexChange, IndexChild, send_again, write_whole};
use crate::image::{Child, Document, Format, Image, Index, Manifest, Pushed, Reference, Store, StoreError};
use crate::phase::Timer;
use crate::target;

/// An index, and those of its images that are to be rebased.
#[derive(Debug)]
pub struct Source {
    name: String,
    document: Document,
    apps: Vec<App>,
    /// The machine that each of `apps` is for.
    platforms: Vec<Platform>,
}

/// What was made of a [`Source`].
struct Made {
    /// Digest of what it was made of.
    of: Digest,
    index: Index,
    /// The rebased images.
    images: Vec<Image>,
}

/// Opens what the name holds. A single image is an index with one child.
pub fn open(inputs: &Inputs, store: &dyn Store) -> Result<Source, RebaseError> {
    let name = inputs.previous_image.as_ref().unwrap_or(&inputs.image);
    let document = store.document(name).map_err(|cause| RebaseError::App { name: name.clone(), cause })?;
    Source::read(inputs, name, document, store)
}

impl Source {
    fn read(inputs: &Inputs, name: &str, document: Document, store: &dyn Store) -> Result<Self, RebaseError> {
        let children: Vec<(Digest, Option<Platform>)> = match &document {
            Document::Manifest(manifest) => vec![(manifest.digest, None)],
            Document::Index(index) => {
                let mut images = Vec::new();
                for child in index.children.iter().filter(is_image) {
                    let described = child.stated();
                    if described.is_some() || has_image_config(name, &child.blob.digest, store)? {
                        images.push((child.blob.digest, described));
                    }
                }
                images
            }
        };
        let is_index = matches!(document, Document::Index(_));
        let mut apps = Vec::new();
        let mut platforms = Vec::new();
        let mut found = Vec::new();
        for (digest, described) in children {
            let image = open_child(name, &digest, store)?;
            // Of several variants whose configs do not say which they are, only the index tells.
            let platform = IndexChild::of(&image, described.as_ref()).platform();
            if is_index && platform.os().is_empty() && platform.arch().is_empty() {
                // In an image's words, but for no machine: a signature.
                continue;
            }
            found.push(platform.to_string());
            if inputs.build_for.asked().is_none_or(|wanted| wanted.selects(&platform)) {
                let app = App::read(&image.identifier.clone(), image);
                apps.push(
                    app.map_err(|cause| RebaseError::Child { platform: platform.to_string(), cause: Box::new(cause) })?,
                );
                platforms.push(platform);
            }
        }
        if apps.is_empty() {
            let wanted = inputs.build_for.asked().map(Platform::to_string);
            return Err(RebaseError::NoChild { name: name.to_owned(), wanted, found });
        }
        Ok(Self { name: name.to_owned(), document, apps, platforms })
    }

    /// The images that are to be rebased.
    pub fn apps(&self) -> &[App] {
        &self.apps
    }

    fn digest(&self) -> Digest {
        digest(&self.document)
    }

    /// Rebases all of them; nothing is sent.
    fn rebase(&self, inputs: &Inputs, store: &dyn Store) -> Result<Made, RebaseError> {
        let mut images = Vec::new();
        for (app, platform) in self.apps.iter().zip(&self.platforms) {
            let rebased = rebase_child(inputs, app, platform, store);
            images.push(
                rebased
                    .map_err(|cause| RebaseError::Child { platform: platform.to_string(), cause: Box::new(cause) })?,
            );
        }
        let replacement = |child: &Child| {
            let at = self.apps.iter().position(|app| app.image.manifest.digest == child.blob.digest)?;
            images.get(at).map(|image| IndexChild::of(image, child.platform.as_ref().map(|t| t.platform()).as_ref()))
        };
        let index = match &self.document {
            Document::Index(index) => index.with_children_replaced(replacement),
            Document::Manifest(_) => {
                let children: Vec<_> = images.iter().map(|image| IndexChild::of(image, None)).collect();
                Held::default().merged(&children)
            }
        };
        Ok(Made { of: self.digest(), index, images })
    }

    /// Images of the index that stay as they are.
    fn kept(&self) -> Vec<&Child> {
        let Document::Index(index) = &self.document else { return Vec::new() };
        let rebased: BTreeSet<Digest> = self.apps.iter().map(|app| app.image.manifest.digest).collect();
        index.children.iter().filter(|child| !rebased.contains(&child.blob.digest)).collect()
    }
}

/// Names the platforms that a name, another than the source's, has now and the index that it gets has not.
fn tell_lost(name: &str, now: Option<&Document>, index: &Index) {
    let Some(Document::Index(now)) = now else { return };
    let kept = index.platforms();
    let lost: Vec<String> = now.platforms().into_iter().filter(|platform| !kept.contains(platform)).collect();
    if !lost.is_empty() {
        warn!("{name} is replaced by the rebased index; gone from it: {}", lost.join(", "));
    }
}

fn digest(document: &Document) -> Digest {
    match document {
        Document::Manifest(manifest) => manifest.digest,
        Document::Index(index) => index.digest,
    }
}

/// Neither an index in the index, nor an attestation.
fn is_image(child: &&Child) -> bool {
    Format::of_manifest(&child.blob.media_type).is_some()
        && child.platform.as_ref().is_none_or(|platform| platform.os != "unknown")
}

/// Whether a manifest is an image's: of what states no platform, some is something else altogether (a chart, a signature).
fn has_image_config(name: &str, digest: &Digest, store: &dyn Store) -> Result<bool, RebaseError> {
    let failed = |cause: StoreError| RebaseError::App { name: format!("{name} ({digest})"), cause };
    let name = store.name_by_digest(name, digest).map_err(failed)?;
    Ok(match store.document(&name).map_err(failed)? {
        Document::Manifest(Manifest { config, .. }) => {
            [Format::Oci, Format::Docker].iter().any(|format| format.config() == config.media_type)
        }
        Document::Index(_) => false,
    })
}

fn platform(image: &Image) -> Platform {
    target::platform(&image.config).platform()
}

fn open_child(name: &str, digest: &Digest, store: &dyn Store) -> Result<Image, RebaseError> {
    let failed = |cause: StoreError| RebaseError::App { name: format!("{name} ({digest})"), cause };
    let name = store.name_by_digest(name, digest).map_err(failed)?;
    store.open(&name, &target::of_this_program()).map_err(failed)
}

fn rebase_child(inputs: &Inputs, app: &App, own: &Platform, store: &dyn Store) -> Result<Image, RebaseError> {
    let run_images = app.run_images(inputs.api, inputs.run_image.as_deref())?;
    let base = open_base(inputs, Some(own), &run_images, store)?;
    let new = platform(&base.image);
    if (own.os(), own.arch()) != (new.os(), new.arch()) {
        return Err(RebaseError::OtherMachine { new: new.to_string() });
    }
    rebase(Rules { api: inputs.api, force: inputs.force }, app.clone(), &base)
}

/// Rebases and writes the index under each name; `report.toml` has the image for this machine, if it was rebased, else the
/// first of the index that was.
pub fn run(inputs: &Inputs, source: &Source, store: &dyn Store) -> Result<(Report, IndexReport), RebaseError> {
    let _timer = Timer::start("Rebaser");
    let made = RefCell::new(source.rebase(inputs, store)?);
    let name = &inputs.image;
    let saving = format!("Saving {}...", store.shown_name(name));
    let _saving = Timer::start(saving.clone());
    info!("{saving}");
    let pushed = RefCell::new(send(inputs, source, &made.borrow(), store)?);
    // Every image was sent to each of the names, or none of this is reached.
    let all = pushed.borrow_mut().first_mut().map(|first| std::mem::take(&mut first.names)).unwrap_or_default();

    let mut indexes = IndexReport::default();
    let mut names: Names = Vec::new();
    for (name, result) in all {
        let written = match result {
            Err(error) => Err(error.into()),
            Ok(()) => {
                let own = || made.borrow().images.iter().map(|image| image.manifest.digest).collect();
                let send_own = || send_again(store, &name, &made.borrow().images);
                let asked = Cell::new(false);
                let is_source = Reference::parse(&name)? == Reference::parse(&source.name)?;
                let again = |now: Option<&Document>| -> Result<Index, Box<dyn Error + Send + Sync>> {
                    match now {
                        Some(now) if is_source && digest(now) != made.borrow().of => {
                            let source = Source::read(inputs, &source.name, now.clone(), store)?;
                            let anew = source.rebase(inputs, store)?;
                            pushed.replace(send(inputs, &source, &anew, store)?);
                            let index = anew.index.clone();
                            made.replace(anew);
                            Ok(index)
                        }
                        now => {
                            tell_lost(&name, now, &made.borrow().index);
                            // No tag names them yet, and it may have taken a while to come here once more.
                            if asked.replace(true) {
                                send_own()?;
                            }
                            Ok(made.borrow().index.clone())
                        }
                    }
                };
                write_whole(store, &name, &IndexChange::Rewrite(&again), &own, &send_own).map_err(Into::into)
            }
        };
        names.push((name, written.map(|index| indexes.indexes.push(tell_index(&index)))));
    }
    let own = Platform::of_this_program();
    let shown = made.borrow().images.iter().position(|image| own.selects(&platform(image))).unwrap_or_default();
    // There is an image for each that was rebased, and at least one.
    let pushed = pushed.into_inner().swap_remove(shown);
    let image = saved::tell(&pushed, names, false).map_err(RebaseError::Names)?;
    Ok((Report { build: None, image }, indexes))
}

/// Sends the rebased images, and into other repositories than the source's also those that stay.
fn send(inputs: &Inputs, source: &Source, made: &Made, store: &dyn Store) -> Result<Vec<Pushed>, RebaseError> {
    let name = &inputs.image;
    let save = |cause| RebaseError::Save { name: name.clone(), cause };
    let repository = |name: &str| Reference::parse(name).map(|reference| reference.repository_name());
    let own = repository(&source.name)?;
    let mut elsewhere = Vec::new();
    for name in std::iter::once(name).chain(&inputs.tags) {
        if repository(name)? != own {
            elsewhere.push(name.clone());
        }
    }
    if let Some((first, rest)) = elsewhere.split_first() {
        for child in source.kept().into_iter().filter(|child| made.index.children.contains(child)) {
            if Format::of_manifest(&child.blob.media_type).is_none() {
                return Err(RebaseError::Nested { digest: child.blob.digest });
            }
            let image = open_child(&source.name, &child.blob.digest, store)?;
            let pushed = store.push(first, rest).map_err(save)?.finish_untagged(&image).map_err(save)?;
            pushed.names.into_iter().try_for_each(|(_, result)| result).map_err(save)?;
        }
    }
    let mut all: Vec<Pushed> = Vec::new();
    for image in &made.images {
        let push = store.push(name, &inputs.tags).map_err(save)?;
        all.push(push.finish_untagged(image).map_err(save)?);
    }
    // A name whose repository lacks one of the images gets no index.
    let mut failed: Vec<(String, StoreError)> = Vec::new();
    for pushed in &mut all {
        for (name, result) in &mut pushed.names {
            if let Err(error) = std::mem::replace(result, Ok(())) {
                failed.push((name.clone(), error));
            }
        }
    }
    match failed.is_empty() {
        true => Ok(all),
        false => Err(RebaseError::Names(failed.into_iter().map(|(name, error)| (name, error.into())).collect())),
    }
}

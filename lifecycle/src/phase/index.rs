//! Index: joins images that were exported one by one in one index (target-arch.md, *indexer*).
//!
//! The deterministic end of a build that fans out, one exporter an architecture, and joins: the index is written when all
//! images are there. [`reference`] reads from a `report.toml` which image was exported; [`run`] checks all of them before
//! anything is written, puts each into the repository of each name (blobs are mounted), and merges the index under each
//! name.

use std::path::{Path, PathBuf};

use log::{info, warn};
use platform_spec::exit;
use platform_spec::index_report::IndexReport;
use platform_spec::report::Report;
use platform_spec::target::{Platform, Target};
use thiserror::Error;

use super::PhaseError;
use super::saved::{NameError, describe_failures, tell_index};
use crate::digest::Digest;
use crate::file::{LoadError, PathError};
use crate::image::index::{self, IndexChange, IndexChild, IndexError, send_again, write_whole};
use crate::image::{Image, ParseReferenceError, Reference, Store, StoreError};
use crate::target::platform;

/// All that the phase may know.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The name of the index.
    pub name: String,
    /// More names for it, each an index of its own.
    pub tags: Vec<String>,
    /// The images, each by its digest.
    pub images: Vec<String>,
    /// Leaves out images for other architectures.
    pub only: Option<Platform>,
}

/// Why there is no index.
#[derive(Debug, Error)]
pub enum JoinError {
    /// A `report.toml` cannot be read.
    #[error("resolve inputs: read report")]
    Load(#[from] LoadError),
    /// A `report.toml` names no image in a registry.
    #[error(
        "resolve inputs: report {} names no digest: only images that were exported to a registry can be joined \
         (not to a daemon, not to a layout)", .path.display()
    )]
    NoDigest {
        /// Which.
        path: PathBuf,
    },
    /// A name is no image reference.
    #[error("resolve inputs")]
    Reference(#[from] ParseReferenceError),
    /// There is nothing to join.
    #[error("resolve inputs: no images to join: give the report.toml of each (-report), or each image by its digest")]
    NoImages,
    /// The filter has left nothing.
    #[error("resolve inputs: none of the images is for {wanted}; there {}", there(.found))]
    NoneLeft {
        /// The filter.
        wanted: String,
        /// For what they are.
        found: Vec<String>,
    },
    /// An image that is not named by its digest.
    #[error("resolve inputs: image {0} has to be named by its digest (<repository>@sha256:…)")]
    NotByDigest(String),
    /// An image, or a name, in another registry.
    #[error("resolve inputs: {name} is in another registry than {index}: images are joined within one")]
    OtherRegistry {
        /// The image or the name.
        name: String,
        /// The name of the index.
        index: String,
    },
    /// A digest that is an index's.
    #[error("resolve inputs: {0} is an index; give the images that it names")]
    IsIndex(String),
    /// An image whose config does not say for which machine it is.
    #[error("resolve inputs: {0} does not say for which machine it is")]
    NoPlatform(String),
    /// Two images for the same machine.
    #[error("resolve inputs: {one} and {other} are both for {platform}: an index has one image a platform")]
    Twice {
        /// One.
        one: String,
        /// The other.
        other: String,
        /// The platform.
        platform: String,
    },
    /// A name cannot be that of such an index.
    #[error("resolve inputs")]
    Name(#[source] IndexError),
    /// An image cannot be opened.
    #[error("open image")]
    Open(#[source] StoreError),
    /// An image could not be put where an index is to be.
    #[error("copy image {image}")]
    Copy {
        /// Which.
        image: String,
        /// Why.
        #[source]
        cause: StoreError,
    },
    /// Some names could not be written; the others stand.
    #[error("write index {}", describe_failures(.0))]
    Names(Vec<(String, NameError)>),
    /// The report could not be written.
    #[error("write index report")]
    Report(#[source] PathError),
}

fn there(found: &[String]) -> String {
    match found {
        [one] => format!("is {one}"),
        many => format!("are {}", many.join(", ")),
    }
}

impl PhaseError for JoinError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Load(_)
            | Self::NoDigest { .. }
            | Self::Reference(_)
            | Self::NoImages
            | Self::NoneLeft { .. }
            | Self::NotByDigest(_)
            | Self::OtherRegistry { .. }
            | Self::IsIndex(_)
            | Self::NoPlatform(_)
            | Self::Twice { .. }
            | Self::Name(_) => exit::INVALID_ARGUMENTS,
            Self::Open(_) | Self::Copy { .. } | Self::Names(_) | Self::Report(_) => exit::EXPORT_ERROR,
        }
    }

    fn says_what_failed(&self) -> bool {
        true
    }
}

/// The image that a `report.toml` names, by its digest: in the repository of its first tag.
pub fn reference(path: &Path) -> Result<String, JoinError> {
    let report: Report = crate::file::load(path)?;
    let no_digest = || JoinError::NoDigest { path: path.to_owned() };
    let digest: Digest = report.image.digest.as_deref().and_then(|text| text.parse().ok()).ok_or_else(no_digest)?;
    let tag = report.image.tags.first().ok_or_else(no_digest)?;
    Ok(Reference::parse(tag)?.with_digest(digest).name())
}

/// An image that is to be joined.
struct Joined {
    name: String,
    image: Image,
    child: IndexChild,
}

/// Runs the phase.
pub fn run(inputs: &Inputs, store: &dyn Store) -> Result<IndexReport, JoinError> {
    let _timer = super::Timer::start("Indexer");
    let names: Vec<&String> = std::iter::once(&inputs.name).chain(&inputs.tags).collect();
    let registry = Reference::parse(&inputs.name)?.registry;
    let other = |name: &String| JoinError::OtherRegistry { name: name.clone(), index: inputs.name.clone() };
    for name in names.iter().copied().chain(&inputs.images) {
        if Reference::parse(name)?.registry != registry {
            return Err(other(name));
        }
    }
    let written: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    index::check_apart(&written, &[]).map_err(JoinError::Name)?;
    let joined = open(inputs, store)?;
    for name in &names {
        index::check_name(name).map_err(JoinError::Name)?;
        for image in &joined {
            index::check(name, &image.child.platform()).map_err(JoinError::Name)?;
        }
    }
    let failed = copy(&names, &joined, store)?;
    write(&names, &joined, failed, store)
}

/// Opens the images, each of which has to be one image, for one machine, and the only one for that.
fn open(inputs: &Inputs, store: &dyn Store) -> Result<Vec<Joined>, JoinError> {
    let mut joined: Vec<Joined> = Vec::new();
    let mut found = Vec::new();
    for name in &inputs.images {
        let digest = Reference::parse(name)?.digest.ok_or_else(|| JoinError::NotByDigest(name.clone()))?;
        let image = match store.open(name, &Target::default()) {
            // An index answers with one of its children, or with none of them.
            Ok(image) if image.manifest.digest != digest => return Err(JoinError::IsIndex(name.clone())),
            Err(StoreError::NoChild { .. }) => return Err(JoinError::IsIndex(name.clone())),
            Ok(image) => image,
            Err(cause) => return Err(JoinError::Open(cause)),
        };
        let stated = platform(&image.config).platform();
        if stated.os().is_empty() || stated.arch().is_empty() {
            return Err(JoinError::NoPlatform(name.clone()));
        }
        found.push(stated.to_string());
        if inputs.only.as_ref().is_some_and(|only| !only.selects(&stated)) {
            info!("Leaving out {name}: it is for {stated}");
            continue;
        }
        // Whose config does not say which variant it is for is what was asked for.
        let child = IndexChild::of(&image, inputs.only.as_ref());
        let platform = child.platform();
        match joined.iter().find(|known| known.child.platform() == child.platform()) {
            Some(known) if known.child.blob.digest == child.blob.digest => {
                warn!("{name} was given twice");
            }
            Some(known) => {
                let (one, other) = (known.name.clone(), name.clone());
                return Err(JoinError::Twice { one, other, platform: platform.to_string() });
            }
            None => joined.push(Joined { name: name.clone(), image, child }),
        }
    }
    match (joined.is_empty(), &inputs.only) {
        (false, _) => Ok(joined),
        (true, Some(wanted)) if !found.is_empty() => Err(JoinError::NoneLeft { wanted: wanted.to_string(), found }),
        (true, _) => Err(JoinError::NoImages),
    }
}

/// Puts the images into the repository of each name. Gives the names for which that failed.
fn copy(names: &[&String], joined: &[Joined], store: &dyn Store) -> Result<Vec<(String, NameError)>, JoinError> {
    let Some((first, rest)) = names.split_first() else { return Ok(Vec::new()) };
    let rest: Vec<String> = rest.iter().map(|name| (*name).clone()).collect();
    let mut failed: Vec<(String, NameError)> = Vec::new();
    for Joined { name: image_name, image, .. } in joined {
        let error = |cause| JoinError::Copy { image: image_name.clone(), cause };
        let pushed = store.push(first, &rest).and_then(|push| push.finish_untagged(image)).map_err(error)?;
        for (name, result) in pushed.names {
            if let Err(cause) = result
                && !failed.iter().any(|(known, _)| *known == name)
            {
                failed.push((name, cause.into()));
            }
        }
    }
    Ok(failed)
}

/// Merges the index under each name.
fn write(
    names: &[&String],
    joined: &[Joined],
    mut failed: Vec<(String, NameError)>,
    store: &dyn Store,
) -> Result<IndexReport, JoinError> {
    let children: Vec<IndexChild> = joined.iter().map(|image| image.child.clone()).collect();
    let mut report = IndexReport::default();
    for name in names {
        if failed.iter().any(|(known, _)| known == *name) {
            continue;
        }
        let own = || children.iter().map(|child| child.blob.digest).collect();
        let send = || send_again(store, name, joined.iter().map(|joined| &joined.image));
        match write_whole(store, name, &IndexChange::Merge(&children), &own, &send) {
            Ok(index) => report.indexes.push(tell_index(&index)),
            Err(error) => failed.push(((*name).clone(), error.into())),
        }
    }
    if failed.is_empty() { Ok(report) } else { Err(JoinError::Names(failed)) }
}

#[cfg(test)]
mod tests {
    use lifecycle_launch::console::chain;

    use super::*;
    use crate::image::Draft;
    use crate::image::memory::{Answer, MemoryStore, Refusal};

    fn put(store: &MemoryStore, name: &str, arch: &str, variant: &str) -> String {
        let draft = Draft::empty("linux", arch, variant).edit(|config| config.set_label("name", name));
        let image = draft.finish().expect("an image");
        store.push(name, &[]).expect("begun").finish(&image).expect("pushed").identifier
    }

    fn inputs(images: &[&str]) -> Inputs {
        Inputs {
            name: "reg.io/app".to_owned(),
            tags: Vec::new(),
            images: images.iter().map(|&image| image.to_owned()).collect(),
            only: None,
        }
    }

    fn refused(inputs: &Inputs, store: &MemoryStore) -> (u8, String) {
        let error = run(inputs, store).expect_err("refused");
        (error.exit_code(), chain(&error))
    }

    #[test]
    fn images_of_several_repositories_under_several_names() {
        let store = MemoryStore::new();
        let amd64 = put(&store, "reg.io/one", "amd64", "");
        let arm64 = put(&store, "reg.io/two:x", "arm64", "");
        let arm = put(&store, "reg.io/app:arm", "arm", "v7");
        put(&store, "reg.io/app", "s390x", "");
        let mut inputs = inputs(&[&arm64, &arm, &amd64]);
        inputs.tags.push("reg.io/other:1".to_owned());
        let report = run(&inputs, &store).expect("joined");
        let platforms = |at: usize| -> Vec<&str> {
            report.indexes[at].images.iter().map(|image| image.platform.as_str()).collect()
        };
        assert_eq!(
            platforms(0),
            ["linux/amd64", "linux/arm/v7", "linux/arm64", "linux/s390x"],
            "what was there is kept"
        );
        assert_eq!(platforms(1), ["linux/amd64", "linux/arm/v7", "linux/arm64"]);
        for name in ["reg.io/app", "reg.io/other:1"] {
            for (arch, identifier) in [("amd64", &amd64), ("arm64", &arm64)] {
                let target = Target { os: "linux".to_owned(), arch: arch.to_owned(), ..Target::default() };
                let image = store.open(name, &target).expect("there");
                assert!(identifier.ends_with(&image.manifest.digest.to_string()), "{name} {arch}");
            }
        }
        let again = run(&inputs, &store).expect("joined again");
        assert_eq!(again, report, "and nothing changes");

        inputs.only = Some("arm64".parse().expect("known"));
        inputs.name = "reg.io/filtered".to_owned();
        let report = run(&inputs, &store).expect("joined");
        assert_eq!(report.indexes[0].images.len(), 1);

        // A config without a variant: the filter says which it is.
        let arm = put(&store, "reg.io/app:plain", "arm", "");
        inputs.images = vec![arm];
        inputs.name = "reg.io/v6".to_owned();
        inputs.only = Some("arm/v6".parse().expect("known"));
        assert_eq!(run(&inputs, &store).expect("joined").indexes[0].images[0].platform, "linux/arm/v6");
    }

    #[test]
    fn what_cannot_be_joined() {
        let store = MemoryStore::new();
        let amd64 = put(&store, "reg.io/one", "amd64", "");
        let other = put(&store, "reg.io/two", "x86_64", "");
        let arm64 = put(&store, "reg.io/three", "arm64", "");
        let sparc = put(&store, "reg.io/sparc", "sparc", "");
        let elsewhere = put(&store, "else.io/one", "amd64", "");
        let config = br#"{"os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
        store.insert_with_config("reg.io/nameless", config).expect("inserted");
        let nameless = store.open("reg.io/nameless", &Target::default()).expect("there").identifier;
        let index = run(&inputs(&[&amd64, &arm64]), &store).expect("joined").indexes[0].digest.clone();
        let index = format!("reg.io/app@{index}");
        let missing = format!("reg.io/one@{}", Digest::of(b"missing"));
        for (images, expected) in [
            (&[][..], "no images to join"),
            (&["reg.io/one"], "image reg.io/one has to be named by its digest"),
            (&[&elsewhere], "is in another registry than reg.io/app"),
            (&[&amd64, &other], "are both for linux/amd64"),
            (&[&index], "is an index; give the images that it names"),
            (&[&nameless], "does not say for which machine it is"),
            (&[&sparc], "linux/sparc cannot be a child of an index"),
            (&["Reg.io/X@y"], "resolve inputs: "),
        ] {
            let (code, text) = refused(&inputs(images), &store);
            assert_eq!(code, 3, "{text}");
            assert!(text.starts_with("resolve inputs: ") && text.contains(expected), "{text}");
        }
        assert_eq!(refused(&inputs(&[&missing]), &store).0, 62);
        let mut by_digest = inputs(&[&amd64]);
        by_digest.name = amd64.clone();
        assert_eq!(refused(&by_digest, &store).0, 3, "an index needs a tag");
        let mut filtered = inputs(&[&amd64]);
        filtered.only = Some("arm64".parse().expect("known"));
        let expected = "resolve inputs: none of the images is for linux/arm64; there is linux/amd64";
        assert_eq!(refused(&filtered, &store), (3, expected.to_owned()));
    }

    #[test]
    fn a_name_that_fails_does_not_stop_the_others() {
        let store = MemoryStore::new();
        let amd64 = put(&store, "reg.io/one", "amd64", "");
        store.refuse(Refusal { repository: "reg.io/forbidden".to_owned(), reads: false, answer: Answer::Forbidden });
        let mut inputs = inputs(&[&amd64]);
        inputs.tags.push("reg.io/forbidden:1".to_owned());
        let (code, text) = refused(&inputs, &store);
        assert_eq!(code, 62, "{text}");
        assert!(text.contains("reg.io/forbidden:1: "), "{text}");
        let target = Target { os: "linux".to_owned(), arch: "amd64".to_owned(), ..Target::default() };
        assert!(store.open("reg.io/app", &target).is_ok());
    }

    #[test]
    fn reports() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("report.toml");
        let digest = Digest::of(b"x");
        let read = |text: &str| {
            std::fs::write(&path, text).expect("written");
            reference(&path).map_err(|error| (error.exit_code(), chain(&error)))
        };
        let found =
            read(&format!("[image]\ntags = ['reg.io/app:1', 'reg.io/x']\ndigest = '{digest}'\nmanifest-size = 5"));
        assert_eq!(found.expect("a reference"), format!("reg.io/app@{digest}"));
        for text in ["[image]\ntags = ['reg.io/app']\nimage-id = 'x'", "[image]\ntags = []\ndigest = 'x'", "[image]"] {
            let (code, text) = read(text).expect_err("no image of a registry");
            assert_eq!(code, 3);
            assert!(text.contains("report.toml names no digest"), "{text}");
        }
        assert_eq!(read("image = 3").expect_err("not a report").0, 3);
        assert_eq!(reference(Path::new("/nowhere/report.toml")).expect_err("missing").exit_code(), 3);
    }
}

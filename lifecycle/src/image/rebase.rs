//! An image's layers on top of another base: a value made of two others. No layer is read.

use thiserror::Error;

use super::config::{Config, History};
use super::draft::{REPRODUCIBLE_TIME, rfc3339};
use super::manifest::{BlobRef, Manifest};
use super::{Image, Layer};
use crate::digest::Digest;

/// Why an image cannot be put on top of another base.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RebaseError {
    /// Where the old base ends is not known.
    #[error("the image has no layer {0}, which should be the top layer of its base")]
    NoTopLayer(Digest),
    /// A layer's blob is not known.
    #[error("layer {0} has no blob")]
    NoBlob(Digest),
}

/// `image` with the layers of `base` in the place of its own up to and including `top_layer` (platform.md, *rebaser*).
///
/// Everything else is the image's: the manifest's format and annotations, the descriptors of the layers above, the
/// config with all its keys. The new base gives operating system, its version and architecture. The image's history is
/// kept, with the base's entries for the base's layers, if the image has one that says anything. `edit` changes the
/// config further. The time is [`REPRODUCIBLE_TIME`]. The identifier is the manifest's digest until a store has saved it.
pub fn rebase(
    image: &Image,
    top_layer: &Digest,
    base: &Image,
    edit: impl FnOnce(&mut Config),
) -> Result<Image, RebaseError> {
    let top = image.layers.iter().position(|layer| layer.diff_id == *top_layer);
    let top = top.ok_or(RebaseError::NoTopLayer(*top_layer))?;
    let above = image.layers.iter().skip(top + 1).cloned();
    let format = image.manifest.format();
    let translated = base.layers.iter().cloned().map(|mut layer| {
        if let Some(blob) = &mut layer.blob {
            blob.media_type = format.translate_layer(&blob.media_type).to_owned();
        }
        layer
    });
    let layers: Vec<Layer> = translated.chain(above).collect();
    let blobs = layers.iter().map(|layer| layer.blob.clone().ok_or(RebaseError::NoBlob(layer.diff_id)));
    let blobs = blobs.collect::<Result<Vec<_>, _>>()?;

    let created = rfc3339(REPRODUCIBLE_TIME);
    let mut config = image.config.clone();
    for key in ["architecture", "os", "os.version"] {
        match base.config.document().get(key) {
            Some(value) => config.document_mut().insert(key.to_owned(), value.clone()),
            None => config.document_mut().remove(key),
        };
    }
    config.set_created(&created);
    config.set_history(&history(image, top, base, &created));
    config.set_diff_ids(&layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>());
    edit(&mut config);
    let bytes = config.bytes();
    let descriptor = BlobRef::new(format.config(), Digest::of(&bytes), bytes.len() as u64);
    let manifest = Manifest::new(format, descriptor, blobs, image.manifest.other.clone());
    Ok(Image { identifier: manifest.digest.to_string(), manifest, config, layers })
}

/// One entry for each layer.
fn history(image: &Image, top: usize, base: &Image, created: &str) -> Vec<History> {
    let own = of_layers(image);
    // An image whose history is blank, as older Platform APIs and other tools write it, stays so.
    let is_blank = own.iter().all(|entry| History { created: String::new(), ..entry.clone() } == History::default());
    let entries = of_layers(base).into_iter().chain(own.into_iter().skip(top + 1));
    let keep = |entry: History| if is_blank { History::default() } else { entry };
    entries.map(|entry| History { created: created.to_owned(), ..keep(entry) }).collect()
}

/// The entries of the layers; blank ones if they do not match.
fn of_layers(image: &Image) -> Vec<History> {
    let entries: Vec<_> = image.config.history().into_iter().filter(|entry| !entry.empty_layer).collect();
    if entries.len() == image.layers.len() { entries } else { vec![History::default(); image.layers.len()] }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::image::{Draft, Format, Source, validate};

    fn layer(name: &str) -> Layer {
        let blob = BlobRef::new(Format::Oci.layer(), Digest::of(format!("{name}.gz").as_bytes()), name.len() as u64);
        Layer { diff_id: Digest::of(name.as_bytes()), blob: Some(blob), source: Source::Absent }
    }

    fn image(base: Draft, layers: &[&str]) -> Image {
        let draft = layers.iter().fold(base, |draft, name| draft.with_layer(layer(name), *name));
        draft.keeping_history(true).created(1_700_000_000).finish().expect("an image")
    }

    fn base(arch: &str, layers: &[&str]) -> Image {
        image(Draft::empty("linux", arch, ""), layers)
    }

    /// The same image in the other format, whose descriptors say more.
    fn in_format(image: Image, format: Format) -> Image {
        let Image { identifier, manifest, config, mut layers } = image;
        for blob in layers.iter_mut().filter_map(|layer| layer.blob.as_mut()) {
            blob.media_type = format.layer().to_owned();
            blob.other.insert("annotations".to_owned(), json!({"of": "a layer"}));
        }
        let blobs = layers.iter().map(|layer| layer.blob.clone().expect("a blob")).collect();
        let mut other = Map::new();
        other.insert("annotations".to_owned(), json!({"of": "the manifest"}));
        let descriptor = BlobRef { media_type: format.config().to_owned(), ..manifest.config };
        Image { identifier, manifest: Manifest::new(format, descriptor, blobs, other), config, layers }
    }

    fn rebased(app: &Image, top: &str, onto: &Image) -> Image {
        let rebased = rebase(app, &Digest::of(top.as_bytes()), onto, |_| {}).expect("an image");
        assert_eq!(validate::image(&rebased), Ok(()));
        rebased
    }

    fn names(image: &Image) -> Vec<String> {
        image.config.history().into_iter().map(|entry| entry.created_by).collect()
    }

    #[test]
    fn the_layers_below_are_exchanged_and_those_above_stay() {
        for (old, new, app) in [
            (&["a", "b"][..], &["c", "d", "e"][..], &["x", "y"][..]),
            (&["a", "b"], &["c"], &["x"]),
            (&["a"], &["a", "b"], &["x"]),
            (&["a"], &["b"], &[]),
        ] {
            let app_image = image(Draft::based_on(base("amd64", old)), app);
            let rebased = rebased(&app_image, old.last().expect("a layer"), &base("amd64", new));
            let all: Vec<&str> = new.iter().chain(app).copied().collect();
            assert_eq!(rebased.layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>(), {
                all.iter().map(|name| Digest::of(name.as_bytes())).collect::<Vec<_>>()
            });
            assert_eq!(names(&rebased), all, "and history tells of them");
            assert!(rebased.config.history().iter().all(|entry| entry.created == "1980-01-01T00:00:01Z"));
            assert_eq!(rebased.config.created(), "1980-01-01T00:00:01Z");
        }
    }

    #[test]
    fn a_layer_of_the_app_that_is_the_bases_too_stays_above() {
        // The first layer with that diffID is the base's.
        let app = image(Draft::based_on(base("amd64", &["a"])), &["x", "a"]);
        assert_eq!(names(&rebased(&app, "a", &base("amd64", &["b"]))), ["b", "x", "a"]);
    }

    #[test]
    fn the_format_is_the_apps_and_descriptors_above_stay_as_they_are() {
        for (app, onto) in [(Format::Docker, Format::Oci), (Format::Oci, Format::Docker)] {
            let image = in_format(image(Draft::based_on(base("amd64", &["a"])), &["x"]), app);
            let rebased = rebased(&image, "a", &in_format(base("amd64", &["b"]), onto));
            assert_eq!(rebased.manifest.media_type, app.manifest());
            assert_eq!(rebased.manifest.config.media_type, app.config());
            assert!(rebased.manifest.layers.iter().all(|layer| layer.media_type == app.layer()), "{rebased:?}");
            assert!(rebased.manifest.layers.iter().all(|layer| layer.other["annotations"]["of"] == "a layer"));
            assert_eq!(rebased.manifest.other["annotations"]["of"], "the manifest");
            assert_eq!(rebased.manifest.layers.last(), image.manifest.layers.last());
        }
        // An OCI manifest with Docker's layers on top, as the reference exports it.
        let mut mixed = in_format(image(Draft::based_on(base("amd64", &["a"])), &["x"]), Format::Oci);
        mixed.layers[1].blob.as_mut().expect("a blob").media_type = Format::Docker.layer().to_owned();
        let blobs = mixed.layers.iter().map(|layer| layer.blob.clone().expect("a blob")).collect();
        mixed.manifest = Manifest::new(Format::Oci, mixed.manifest.config.clone(), blobs, Map::new());
        let types = rebased(&mixed, "a", &base("amd64", &["b"])).manifest.layers;
        assert_eq!(types.iter().map(|layer| layer.media_type.as_str()).collect::<Vec<_>>(), {
            [Format::Oci.layer(), Format::Docker.layer()]
        });
    }

    #[test]
    fn the_config_is_the_apps_but_for_the_machine() {
        let mut app = image(Draft::based_on(base("arm", &["a"])), &["x"]);
        let more = json!({"variant": "v7", "author": "me", "os.version": "1", "os.features": ["f"], "unknown": 1});
        app.config.document_mut().extend(more.as_object().expect("an object").clone());
        app.config.document_mut().insert("config".to_owned(), json!({"Healthcheck": {"Test": ["x"]}, "New": [2]}));
        let mut onto = base("arm64", &["b"]);
        onto.config.document_mut().insert("config".to_owned(), json!({"User": "base", "Env": ["A=b"]}));
        let config = rebased(&app, "a", &onto).config;
        for (key, value) in [
            ("architecture", json!("arm64")),
            ("variant", json!("v7")),
            ("author", json!("me")),
            ("os.features", json!(["f"])),
            ("unknown", json!(1)),
            ("config", json!({"Healthcheck": {"Test": ["x"]}, "New": [2]})),
        ] {
            assert_eq!(config.document()[key], value, "{key}");
        }
        assert_eq!(config.document().get("os.version"), None, "the new base does not state it");
        onto.config.document_mut().insert("os.version".to_owned(), "2".into());
        assert_eq!(rebased(&app, "a", &onto).config.document()["os.version"], "2");
    }

    #[test]
    fn a_history_is_kept_only_where_there_is_one() {
        let onto = base("amd64", &["b"]);
        let blank = image(Draft::based_on(base("amd64", &["a"])), &["x"]);
        let mut app = blank.clone();
        app.config.document_mut().insert("history".to_owned(), json!([{"created": "2024-01-01T00:00:00Z"}, {}]));
        assert_eq!(names(&rebased(&app, "a", &onto)), ["", ""]);
        app.config.document_mut().insert("history".to_owned(), json!([{"created_by": "fewer than layers"}]));
        assert_eq!(names(&rebased(&app, "a", &onto)), ["", ""]);
        let entries = json!([{"created_by": "a"}, {"created_by": "ENV", "empty_layer": true}, {"comment": "x"}]);
        app.config.document_mut().insert("history".to_owned(), entries);
        let history = rebased(&app, "a", &onto).config.history();
        assert_eq!(history.iter().map(|entry| entry.comment.as_str()).collect::<Vec<_>>(), ["", "x"]);
        assert_eq!(history[0].created_by, "b");
        let mut onto = onto;
        onto.config.document_mut().remove("history");
        assert_eq!(names(&rebased(&blank, "a", &onto)), ["", "x"], "the base has none");
    }

    #[test]
    fn an_image_that_is_not_on_that_base() {
        let app = image(Draft::based_on(base("amd64", &["a"])), &["x"]);
        let (elsewhere, onto) = (Digest::of(b"elsewhere"), base("amd64", &["b"]));
        assert_eq!(rebase(&app, &elsewhere, &onto, |_| {}).expect_err("refused"), RebaseError::NoTopLayer(elsewhere));
        let mut nowhere = onto.clone();
        nowhere.layers[0].blob = None;
        let error = rebase(&app, &Digest::of(b"a"), &nowhere, |_| {}).expect_err("refused");
        assert_eq!(error, RebaseError::NoBlob(Digest::of(b"b")));
    }
}

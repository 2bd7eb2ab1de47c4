//! An image that is being made: a base, edits, layers on top.

use serde_json::Map;
use thiserror::Error;

use super::config::{Config, History};
use super::manifest::{BlobRef, Manifest};
use super::media_type::Format;
use super::{Image, Layer};
use crate::digest::Digest;

/// Creation time of images that do not depend on when they are made: 1980-01-01T00:00:01Z, in seconds since 1970.
pub const REPRODUCIBLE_TIME: i64 = 315_532_801;

/// An image that is being made. Each method gives another draft; [`Draft::finish`] gives the image.
#[derive(Clone, Debug)]
pub struct Draft {
    base: Option<Image>,
    config: Config,
    layers: Vec<(Layer, History)>,
    created: i64,
    keeps_history: bool,
}

/// Why a draft is not an image.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DraftError {
    /// A layer's blob is not known.
    #[error("layer {0} has no blob")]
    NoBlob(Digest),
}

impl Draft {
    /// Of an image on top of `base`: its config, its layers, its format.
    pub fn based_on(base: Image) -> Self {
        let config = base.config.clone();
        Self { base: Some(base), config, layers: Vec::new(), created: REPRODUCIBLE_TIME, keeps_history: false }
    }

    /// Of an image on top of nothing, in OCI's format.
    pub fn empty(os: &str, architecture: &str, variant: &str) -> Self {
        let config = Config::empty(os, architecture, variant);
        Self { base: None, config, layers: Vec::new(), created: REPRODUCIBLE_TIME, keeps_history: false }
    }

    /// What it is based on.
    pub fn base(&self) -> Option<&Image> {
        self.base.as_ref()
    }

    /// The config as it is so far. Time, history and diffIDs are set by [`Draft::finish`].
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether the base's history is kept and new layers say who made them; else entries have only a time.
    pub fn keeping_history(self, keeps_history: bool) -> Self {
        Self { keeps_history, ..self }
    }

    /// Sets the creation time, of the image and of all history entries, in seconds since 1970.
    pub fn created(self, seconds: i64) -> Self {
        Self { created: seconds, ..self }
    }

    /// Puts a layer on top. `history` is text that says what made it, or a whole entry; its time is the image's.
    pub fn with_layer(mut self, layer: Layer, history: impl Into<History>) -> Self {
        self.layers.push((layer, history.into()));
        self
    }

    /// Changes the config: labels, environment, entrypoint.
    pub fn edit(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// The image. Its identifier is the manifest's digest until a store has saved it.
    ///
    /// The manifest has the base's format and keeps the base's layer descriptors and annotations. A new layer's media
    /// type is put in the manifest's words.
    pub fn finish(self) -> Result<Image, DraftError> {
        let Self { base, mut config, layers: new, created, keeps_history } = self;
        let (format, mut layers, mut other) = match base {
            Some(Image { manifest, layers, .. }) => (manifest.format(), layers, manifest.other),
            None => (Format::Oci, Vec::new(), Map::new()),
        };
        // A subject says that the manifest is an appendix to another: the app image is none to the base's subject.
        other.remove("subject");

        let created = rfc3339(created);
        let mut history: Vec<History> = config.history().into_iter().filter(|entry| !entry.empty_layer).collect();
        if history.len() != layers.len() {
            history = vec![History::default(); layers.len()];
        }
        for (mut layer, entry) in new {
            if let Some(blob) = &mut layer.blob {
                blob.media_type = format.translate_layer(&blob.media_type).to_owned();
            }
            layers.push(layer);
            history.push(entry);
        }
        for entry in &mut history {
            if !keeps_history {
                *entry = History::default();
            }
            entry.created.clone_from(&created);
        }
        let blobs = layers.iter().map(|layer| layer.blob.clone().ok_or(DraftError::NoBlob(layer.diff_id)));
        let blobs = blobs.collect::<Result<Vec<_>, _>>()?;

        config.set_created(&created);
        config.set_history(&history);
        config.set_diff_ids(&layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>());
        config.document_mut().remove("container");
        let bytes = config.bytes();
        let descriptor = BlobRef::new(format.config(), Digest::of(&bytes), bytes.len() as u64);
        let manifest = Manifest::new(format, descriptor, blobs, other);
        Ok(Image { identifier: manifest.digest.to_string(), manifest, config, layers })
    }
}

/// `1980-01-01T00:00:01Z`: a time as configs write it, in UTC whatever the machine's time zone.
pub fn rfc3339(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01, so that the leap day is a year's last; 146,097 days are 400 years.
    let day = days + 719_468;
    let (era, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Source, validate};

    fn layer(name: &str, media_type: &str) -> Layer {
        let blob = BlobRef::new(media_type, Digest::of(format!("{name}.gz").as_bytes()), name.len() as u64);
        Layer { diff_id: Digest::of(name.as_bytes()), blob: Some(blob), source: Source::Absent }
    }

    #[test]
    fn on_top_of_nothing() {
        let image = Draft::empty("linux", "amd64", "").with_layer(layer("one", Format::Docker.layer()), "x").finish();
        let image = image.expect("an image");
        assert_eq!(validate::image(&image), Ok(()));
        assert_eq!(image.manifest.layers[0].media_type, Format::Oci.layer());
        assert_eq!(image.config.created(), "1980-01-01T00:00:01Z");
    }

    #[test]
    fn times() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (REPRODUCIBLE_TIME, "1980-01-01T00:00:01Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_078_012_800, "2004-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}

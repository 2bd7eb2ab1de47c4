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

/// The times that a config can say, in seconds since 1970: RFC 3339 has the years 0 to 9999, and what reads configs refuses
/// others.
pub const TIMES: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

/// `1980-01-01T00:00:01Z`: a time as configs write it, in UTC whatever the machine's time zone. It is RFC 3339 for [`TIMES`].
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

/// The seconds since 1970 of a time as [`rfc3339`] writes it; `None` for any other text.
pub(super) fn parse_rfc3339(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    // As above: the year begins with March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = days + (153 * month + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    // What is no such time is written otherwise.
    (rfc3339(seconds) == text).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        for seconds in [0, 1, REPRODUCIBLE_TIME, 951_782_400, 951_868_800, 1_732_800_000, 4_102_444_800, -1] {
            assert_eq!(parse_rfc3339(&rfc3339(seconds)), Some(seconds), "{seconds}");
        }
        for text in ["", "2024-02-30T00:00:00Z", "2024-01-01T00:00:00+01:00", "2024-01-01", "2024-13-01T00:00:00Z", "é"]
        {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }
    use crate::image::{Source, validate};

    fn layer(name: &str, media_type: &str) -> Layer {
        let blob = BlobRef::new(media_type, Digest::of(format!("{name}.gz").as_bytes()), name.len() as u64);
        Layer { diff_id: Digest::of(name.as_bytes()), blob: Some(blob), source: Source::Absent }
    }

    /// A base image with every kind of thing that a config can have.
    fn base(format: Format, unknown_keys: bool) -> Image {
        let tars = [vec![0; 1024], vec![0; 2048]].map(|tar| Digest::of(&tar));
        let blobs = [
            ("sha256:deb230b21e0d7ef6a0a2d65a19599d4251b5f08888a5155882fbef2ef71e1e11", 29),
            ("sha256:ccbdf2cc8f855264383c9777f3c192ba0334961a5676375672fc4f18c5259b3f", 35),
        ];
        let mut config = json!({
            "config": {
                "Labels": {"gone": "x", "b": "2", "a": "1"},
                "Env": ["PATH=/usr/bin", "LANG=C.UTF-8", "X=a=b"],
                "Cmd": ["sh"],
                "Entrypoint": null,
                "Healthcheck": {"Retries": 3, "Test": ["CMD", "true"], "Interval": 30_000_000_000_u64},
                "OnBuild": ["RUN x"],
                "Shell": ["/bin/sh", "-c"],
                "User": "1000:1000",
                "Volumes": {"/data": {}},
                "ExposedPorts": {"80/tcp": {}},
                "ArgsEscaped": true,
                "Tty": false,
                "StopSignal": "SIGTERM",
                "Hostname": "",
            },
            "architecture": "amd64",
            "os": "linux",
            "variant": "v1",
            "os.version": "",
            "author": "me <me@x>",
            "container": "abc",
            "docker_version": "20",
            "created": "2024-05-06T07:08:09.123456789Z",
            "rootfs": {"type": "layers", "diff_ids": tars.map(|tar| tar.to_string())},
            "history": [
                {"created": "2024-05-06T07:08:09Z", "created_by": "ADD x"},
                {"created": "2024-05-06T07:08:09Z", "created_by": "ENV y", "empty_layer": true},
                {"created": "2024-05-06T07:08:10Z", "author": "a", "comment": "c", "created_by": "RUN \u{2028} <z>"},
            ],
        });
        if unknown_keys {
            config["moby.buildkit.buildinfo.v1"] = "YQ==".into();
            config["config"]["StopTimeout"] = 7.into();
            config["config"]["Healthcheck"]["StartInterval"] = 5.into();
        }
        let config = config.to_string().into_bytes();
        let descriptor = BlobRef::new(format.config(), Digest::of(&config), config.len() as u64);
        let layers = blobs.map(|(digest, size)| BlobRef::new(format.layer(), digest.parse().expect("a digest"), size));
        let mut other = Map::new();
        other.insert("annotations".to_owned(), json!({"org.opencontainers.image.base.name": "x"}));
        other.insert("subject".to_owned(), descriptor.to_json());
        let manifest = Manifest::new(format, descriptor, layers.to_vec(), other);
        Image::assemble("base".to_owned(), manifest, config, |_| Source::Absent).expect("a base")
    }

    /// One more layer, edits of each kind.
    fn app(base: Image, keeps_history: bool) -> Image {
        let blob: Digest =
            "sha256:89732bc7504122601f40269fc9ddfb70982e633ea9caf641ae45736f2846b004".parse().expect("a digest");
        let blob = Some(BlobRef::new(Format::Oci.layer(), blob, 39));
        let layer = Layer { diff_id: Digest::of(&[0; 1024]), blob, source: Source::Absent };
        let draft = Draft::based_on(base).keeping_history(keeps_history).created(1_700_000_000);
        let draft = draft.with_layer(layer, "Layer: 'a<b', Created by buildpack: x@1").edit(|config| {
            config.set_env("CNB_LAYERS_DIR", "/layers");
            config.set_env("PATH", "/cnb/process:/cnb/lifecycle:/usr/bin");
            config.set_label("z", r#"{"a":"<&>\u2028"}"#);
            config.set_label("io.buildpacks.x", "");
            config.remove_label("gone");
            config.set_working_dir("/workspace");
            config.set_entrypoint(&["/cnb/process/web"]);
            config.set_cmd(&[]);
        });
        let image = draft.finish().expect("an image");
        assert_eq!(validate::image(&image), Ok(()));
        image
    }

    /// Digests that the reference implementation gives for the same base and the same edits.
    #[test]
    fn configs_and_docker_manifests_are_the_references_to_the_byte() {
        const KEPT: &str = "sha256:3103bf81d38fc797a2ed86ba50bb2f4c5fe0eb471c66cf76b0ff53dbdd61f3f8";
        const BLANK: &str = "sha256:14b2f55d801fa442d8e5f95d475b20ca403026d8378f64624fd25c62eebbbd85";
        for (keeps_history, config, size) in [(true, KEPT, 1159), (false, BLANK, 1011)] {
            for format in Format::ALL {
                let image = app(base(format, false), keeps_history);
                assert_eq!(image.manifest.config.digest.to_string(), config);
                assert_eq!(image.manifest.config.size, size);
                assert_eq!(image.manifest.config.media_type, format.config());
            }
        }
        let image = app(base(Format::Docker, false), true);
        let digest = "sha256:cc1ec5472d81e492b031d89c9ae12e52d43d4646a926fb525105a205337f45e7";
        assert_eq!((image.manifest.digest.to_string().as_str(), image.identifier.as_str()), (digest, digest));
    }

    #[test]
    fn no_manifest_mixes_dockers_and_ocis_media_types() {
        for format in Format::ALL {
            let image = app(base(format, false), true);
            let types: Vec<&str> = image.manifest.layers.iter().map(|layer| layer.media_type.as_str()).collect();
            assert_eq!(types, [format.layer(); 3]);
            assert_eq!(image.layers[2].blob.as_ref(), image.manifest.layers.get(2), "the layer says the same");
        }
    }

    #[test]
    fn keys_that_nobody_knows_survive_after_those_that_are_known() {
        let image = app(base(Format::Oci, true), true);
        let text = String::from_utf8(image.config.bytes().into_owned()).expect("text");
        assert!(
            text.contains(
                r#""Healthcheck":{"Test":["CMD","true"],"Interval":30000000000,"Retries":3,"StartInterval":5}"#
            )
        );
        assert!(text.contains(r#""Shell":["/bin/sh","-c"],"StopTimeout":7},"#));
        assert!(text.ends_with(r#""variant":"v1","moby.buildkit.buildinfo.v1":"YQ=="}"#));
        let without = app(base(Format::Oci, false), true);
        assert_eq!(without.config.bytes().len(), 1159, "and the others say the same as without them");
    }

    #[test]
    fn a_history_that_does_not_match_the_layers_is_blank() {
        let mut base = base(Format::Oci, false);
        base.config.document_mut().insert("history".to_owned(), json!([{"created_by": "x"}]));
        let history = app(base, true).config.history();
        let made_by: Vec<&str> = history.iter().map(|entry| entry.created_by.as_str()).collect();
        assert_eq!(made_by, ["", "", "Layer: 'a<b', Created by buildpack: x@1"]);
        assert!(history.iter().all(|entry| entry.created == "2023-11-14T22:13:20Z"));
    }

    #[test]
    fn a_whole_history_entry_is_kept() {
        let entry = History { author: "me".to_owned(), comment: "c".to_owned(), ..History::from("RUN x") };
        let draft = Draft::empty("linux", "arm64", "v8").keeping_history(true);
        let image = draft.with_layer(layer("one", Format::Oci.layer()), entry.clone()).finish().expect("an image");
        let created = "1980-01-01T00:00:01Z".to_owned();
        assert_eq!(image.config.history(), [History { created, ..entry }]);
    }

    #[test]
    fn on_top_of_nothing() {
        let image = Draft::empty("linux", "amd64", "").with_layer(layer("one", Format::Docker.layer()), "x").finish();
        let image = image.expect("an image");
        assert_eq!(validate::image(&image), Ok(()));
        assert_eq!(image.manifest.layers[0].media_type, Format::Oci.layer());
        assert_eq!(
            String::from_utf8_lossy(&image.config.bytes()),
            format!(
                r#"{{"architecture":"amd64","created":"1980-01-01T00:00:01Z","history":[{{"created":"1980-01-01T00:00:01Z"}}],"os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}},"config":{{}}}}"#,
                Digest::of(b"one")
            )
        );
    }

    #[test]
    fn a_subject_of_the_base_is_not_the_apps() {
        let image = app(base(Format::Oci, false), true);
        assert_eq!(image.manifest.other.keys().collect::<Vec<&String>>(), ["annotations"]);
        let bytes: Value = serde_json::from_slice(&image.manifest.bytes).expect("JSON");
        assert_eq!(bytes.get("subject"), None);
    }

    #[test]
    fn a_layer_without_a_blob_is_an_error() {
        let nowhere = Layer { diff_id: Digest::of(b"x"), blob: None, source: Source::Absent };
        let error = Draft::empty("linux", "amd64", "").with_layer(nowhere, "").finish().expect_err("no blob");
        assert_eq!(error, DraftError::NoBlob(Digest::of(b"x")));
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

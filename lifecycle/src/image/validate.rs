//! Whether an image's parts fit together: checked when one is read, and before a name is given to one that we made.
//!
//! What a registry accepts is not always an image that a runtime starts: it does not look into the config. These checks
//! need nothing but the image itself; whether the blobs are there is the store's to know.

use serde_json::Value;
use thiserror::Error;

use super::manifest::{BlobRef, Manifest, ManifestError};
use super::{Config, ConfigError, Image};
use crate::digest::Digest;

/// What does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Invalid {
    /// The manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The config cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The manifest's fields are not what its bytes say.
    #[error("the manifest's bytes do not say what the image has")]
    Bytes,
    /// Bytes are not what a descriptor says.
    #[error("{what} should be {expected} of {expected_size} bytes, but is {found} of {found_size} bytes")]
    Blob {
        /// Which: `config`.
        what: &'static str,
        /// The descriptor's digest.
        expected: Digest,
        /// The descriptor's size.
        expected_size: u64,
        /// The digest of the bytes.
        found: Digest,
        /// How many bytes there are.
        found_size: u64,
    },
    /// Manifest and config do not speak of the same number of layers.
    #[error("the manifest has {manifest} layers, the config {config} diffIDs and the image {image} layers")]
    LayerCount {
        /// In the manifest.
        manifest: usize,
        /// In the config.
        config: usize,
        /// In the image.
        image: usize,
    },
    /// A layer is not what manifest and config say; counted from 0.
    #[error("layer {0} is not what the manifest and the config say")]
    Layer(usize),
    /// A layer without bytes: not even an empty tar is.
    #[error("layer {0} has a size of 0 bytes")]
    EmptyBlob(usize),
    /// The history speaks of another number of layers.
    #[error("the config has {config} diffIDs, but its history {history} layers")]
    History {
        /// diffIDs of the config.
        config: usize,
        /// Entries of the history that have a layer.
        history: usize,
    },
    /// The config does not say for which machine the image is.
    #[error("the config does not state its {0}")]
    Platform(&'static str),
    /// A time that nothing can read.
    #[error("{key} of the config is {value}, which is no time of RFC 3339")]
    Time {
        /// Which: `history[2].created`.
        key: String,
        /// What it is, as JSON.
        value: String,
    },
}

/// Checks an image that is going to be saved.
pub fn image(image: &Image) -> Result<(), Invalid> {
    let Image { identifier: _, manifest, config, layers } = image;
    if Manifest::parse(manifest.bytes.clone(), &manifest.media_type)? != *manifest {
        return Err(Invalid::Bytes);
    }
    let bytes = config.bytes();
    Config::parse(bytes.to_vec())?;
    blob("config", &manifest.config, &bytes)?;
    let diff_ids = layer_count(manifest, config, layers.len())?;
    for (at, layer) in layers.iter().enumerate() {
        if layer.diff_id != diff_ids[at] || layer.blob.as_ref() != Some(&manifest.layers[at]) {
            return Err(Invalid::Layer(at));
        }
        if manifest.layers[at].size == 0 {
            return Err(Invalid::EmptyBlob(at));
        }
    }
    let history = config.history();
    let entries = history.iter().filter(|entry| !entry.empty_layer).count();
    if !history.is_empty() && entries != diff_ids.len() {
        return Err(Invalid::History { config: diff_ids.len(), history: entries });
    }
    for (what, value) in [("os", config.os()), ("architecture", config.architecture())] {
        if value.is_empty() {
            return Err(Invalid::Platform(what));
        }
    }
    times(config)
}

/// What reads a config refuses all of it for one time that is none.
fn times(config: &Config) -> Result<(), Invalid> {
    let document = config.document();
    let history = document.get("history").and_then(Value::as_array).into_iter().flatten().enumerate();
    let entries = history.map(|(at, entry)| (format!("history[{at}].created"), entry.get("created")));
    for (key, value) in std::iter::once(("created".to_owned(), document.get("created"))).chain(entries) {
        match value {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if is_time(text.as_bytes()) => {}
            Some(value) => return Err(Invalid::Time { key, value: value.to_string() }),
        }
    }
    Ok(())
}

/// Whether a text is a date and time of RFC 3339, whose year has four digits: `2024-05-06T07:08:09.5+01:00`.
fn is_time(text: &[u8]) -> bool {
    let Some((fixed, rest)) = text.split_at_checked(b"0000-00-00T00:00:00".len()) else { return false };
    let shape = |text: &[u8], shape: &[u8]| {
        let fits = |(found, wanted): (&u8, &u8)| if *wanted == b'0' { found.is_ascii_digit() } else { found == wanted };
        text.len() == shape.len() && text.iter().zip(shape).all(fits)
    };
    let within = |text: &[u8], range: std::ops::RangeInclusive<u8>| {
        let number = text.iter().fold(0_u8, |number, digit| number.saturating_mul(10).saturating_add(digit - b'0'));
        range.contains(&number)
    };
    let [_, _, _, _, _, m1, m2, _, d1, d2, _, h1, h2, _, i1, i2, _, s1, s2] = fixed else { return false };
    let date = shape(fixed, b"0000-00-00T00:00:00")
        && within(&[*m1, *m2], 1..=12)
        && within(&[*d1, *d2], 1..=31)
        && within(&[*h1, *h2], 0..=23)
        && within(&[*i1, *i2], 0..=59)
        && within(&[*s1, *s2], 0..=59);
    let zone = match rest.strip_prefix(b".") {
        None => rest,
        Some(fraction) => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            fraction.get(digits..).filter(|_| digits > 0).unwrap_or_default()
        }
    };
    date && (zone == b"Z" || shape(zone, b"+00:00") || shape(zone, b"-00:00"))
}

/// Checks bytes against their descriptor.
pub fn blob(what: &'static str, descriptor: &BlobRef, bytes: &[u8]) -> Result<(), Invalid> {
    let (found, found_size) = (Digest::of(bytes), bytes.len() as u64);
    let BlobRef { digest: expected, size: expected_size, .. } = *descriptor;
    if (found, found_size) == (expected, expected_size) {
        Ok(())
    } else {
        Err(Invalid::Blob { what, expected, expected_size, found, found_size })
    }
}

/// The config's diffIDs, if there are as many as manifest and image have layers.
pub(super) fn layer_count(manifest: &Manifest, config: &Config, image: usize) -> Result<Vec<Digest>, Invalid> {
    let diff_ids = config.diff_ids();
    if diff_ids.len() == image && manifest.layers.len() == image {
        Ok(diff_ids)
    } else {
        Err(Invalid::LayerCount { manifest: manifest.layers.len(), config: diff_ids.len(), image })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::image::{Draft, Format, Layer, Source, TIMES, rfc3339};

    fn layer(name: &str, size: u64) -> Layer {
        let blob = BlobRef::new(Format::Oci.layer(), Digest::of(format!("{name}.gz").as_bytes()), size);
        Layer { diff_id: Digest::of(name.as_bytes()), blob: Some(blob), source: Source::Absent }
    }

    fn good() -> Image {
        let draft = Draft::empty("linux", "amd64", "").with_layer(layer("a", 1), "a").with_layer(layer("b", 2), "b");
        draft.finish().expect("an image")
    }

    /// The image with another config, and a manifest that fits it.
    fn with_config(change: impl FnOnce(&mut Config)) -> Image {
        let Image { mut config, manifest, layers, identifier } = good();
        change(&mut config);
        let bytes = config.bytes();
        let descriptor = BlobRef::new(Format::Oci.config(), Digest::of(&bytes), bytes.len() as u64);
        let manifest = Manifest::new(Format::Oci, descriptor, manifest.layers, manifest.other);
        Image { identifier, manifest, config, layers }
    }

    #[test]
    fn a_good_one() {
        assert_eq!(image(&good()), Ok(()));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let change = |change: fn(&mut Image)| {
            let mut image = good();
            change(&mut image);
            image
        };
        let key = |key: &'static str, value: serde_json::Value| {
            with_config(|config| {
                config.document_mut().insert(key.to_owned(), value);
            })
        };
        for (bad, text) in [
            (change(|image| image.manifest.layers.truncate(1)), "bytes do not say"),
            (change(|image| image.manifest.bytes.push(b' ')), "bytes do not say"),
            (change(|image| image.manifest.bytes.truncate(9)), "unusable manifest"),
            (change(|image| image.config.set_label("a", "b")), "config should be sha256:"),
            (change(|image| image.layers.truncate(1)), "has 2 layers, the config 2 diffIDs and the image 1 layers"),
            (change(|image| image.layers.swap(0, 1)), "layer 0 is not what"),
            (change(|image| image.layers[1].blob = None), "layer 1 is not what"),
            (change(|image| image.layers[1].diff_id = Digest::of(b"c")), "layer 1 is not what"),
            (key("rootfs", json!({"type": "layers", "diff_ids": []})), "has 2 layers, the config 0 diffIDs"),
            (key("rootfs", json!({"diff_ids": ["x", "y"]})), "diff_ids[0] is not a sha256 digest"),
            (key("history", json!([{"created_by": "a"}])), "has 2 diffIDs, but its history 1 layers"),
            (key("os", json!("")), "does not state its os"),
            (key("architecture", json!(null)), "does not state its architecture"),
            (
                key("created", json!("10000-01-01T00:00:00Z")),
                "created of the config is \"10000-01-01T00:00:00Z\", which is no time",
            ),
            (
                key("history", json!([{"created": "2024-05-06T07:08:09Z"}, {"created": "-001-01-01T00:00:00Z"}])),
                "history[1].created of the config is \"-001-",
            ),
            (key("history", json!([{}, {"created": 7}])), "history[1].created of the config is 7,"),
        ] {
            let error = image(&bad).expect_err(text).to_string();
            assert!(error.contains(text), "{text}: {error}");
        }
        let empty = Draft::empty("linux", "amd64", "").with_layer(layer("a", 0), "").finish().expect("an image");
        assert_eq!(image(&empty), Err(Invalid::EmptyBlob(0)));
        let silent = key("history", json!(null));
        assert_eq!(image(&silent), Ok(()), "a history is optional");
    }

    #[test]
    fn times_are_those_that_others_read() {
        for (text, is) in [
            ("0000-01-01T00:00:00Z", true),
            ("9999-12-31T23:59:59Z", true),
            ("2024-05-06T07:08:09.123456789Z", true),
            ("2024-05-06T07:08:09.1+01:00", true),
            ("2024-05-06T07:08:09-11:30", true),
            ("10000-01-01T00:00:00Z", false),
            ("-0001-01-01T00:00:00Z", false),
            ("2024-05-06T07:08:09", false),
            ("2024-05-06T07:08:09.Z", false),
            ("2024-05-06T07:08:09+0100", false),
            ("2024-05-06 07:08:09Z", false),
            ("2024-13-06T07:08:09Z", false),
            ("2024-05-00T07:08:09Z", false),
            ("2024-05-06T24:08:09Z", false),
            ("2024-05-06T07:60:09Z", false),
            ("2024-05-06T07:08:60Z", false),
            ("2024-05-06T07:08:09ZZ", false),
            ("", false),
        ] {
            assert_eq!(is_time(text.as_bytes()), is, "{text}");
        }
        for (seconds, is) in
            [(*TIMES.start(), true), (*TIMES.end(), true), (TIMES.start() - 1, false), (TIMES.end() + 1, false)]
        {
            assert_eq!(is_time(rfc3339(seconds).as_bytes()), is, "{seconds}");
        }
    }

    #[test]
    fn what_is_read_is_checked() {
        let Image { manifest, config, .. } = good();
        let bytes = config.bytes().into_owned();
        let assemble = |bytes: Vec<u8>| Image::assemble(String::new(), manifest.clone(), bytes, |_| Source::Absent);
        assert!(assemble(bytes.clone()).is_ok());
        assert!(matches!(assemble(bytes[1..].to_vec()), Err(Invalid::Blob { what: "config", .. })));
        let fewer = with_config(|config| config.set_diff_ids(&[]));
        let read =
            Image::assemble(String::new(), fewer.manifest, fewer.config.bytes().into_owned(), |_| Source::Absent);
        assert!(matches!(read, Err(Invalid::LayerCount { manifest: 2, config: 0, image: 2 })));
    }
}

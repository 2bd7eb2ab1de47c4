//! Manifests and indexes: typed, with the bytes that were read.

use platform_spec::target::{Platform, Target};
use serde_json::{Map, Value};
use thiserror::Error;

use super::json::{self, Key, Schema, Zero};
use super::media_type::Format;
use crate::digest::Digest;

/// An image manifest (Docker v2 schema 2 or OCI).
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The bytes, whose digest is the image's.
    pub bytes: Vec<u8>,
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// The config.
    pub config: BlobRef,
    /// The layers from the bottom up.
    pub layers: Vec<BlobRef>,
    /// Anything else (`annotations`, `subject`).
    pub other: Map<String, Value>,
}

/// A blob as a manifest names it.
#[derive(Clone, Debug, PartialEq)]
pub struct BlobRef {
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Anything else of the descriptor (`urls`, `annotations`), kept as it is.
    pub other: Map<String, Value>,
}

/// An image index (Docker: manifest list).
#[derive(Clone, Debug, PartialEq)]
pub struct Index {
    /// The bytes that were read.
    pub bytes: Vec<u8>,
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// What it names, in its order.
    pub children: Vec<Child>,
    /// Anything else (`annotations`, `subject`).
    pub other: Map<String, Value>,
}

/// A manifest or an index that an index names.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// Its descriptor.
    pub blob: BlobRef,
    /// The descriptor's platform, if it has one.
    pub platform: Option<Target>,
}

/// What a registry or a layout has under a name.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    /// An image.
    Manifest(Manifest),
    /// Several.
    Index(Index),
}

/// Bytes that are neither a usable manifest nor a usable index.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// Not JSON, or not an object.
    #[error("unusable manifest: {0}")]
    Json(String),
    /// A key is missing, or its value is not what it has to be.
    #[error("unusable manifest: {key} is not {expected}")]
    Key {
        /// Which: `layers[2].digest`.
        key: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A kind of document that is not understood.
    #[error("unusable manifest: media type {0:?} is neither an image manifest nor an index")]
    MediaType(String),
    /// Both an image and an index: which one a reader sees would depend on the reader.
    #[error("unusable manifest: it has both layers and manifests")]
    Ambiguous,
    /// The other of the two kinds.
    #[error("it is {found}, not {wanted}")]
    Kind {
        /// What it is.
        found: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
}

impl Document {
    /// Reads a manifest or an index; `media_type` is what the store says it is, used where the document is silent.
    /// The caller limits how many bytes it reads.
    pub fn parse(bytes: Vec<u8>, media_type: &str) -> Result<Self, ManifestError> {
        let mut object: Map<String, Value> =
            serde_json::from_slice(&bytes).map_err(|error| ManifestError::Json(error.to_string()))?;
        if object.get("schemaVersion").and_then(Value::as_u64) != Some(2) {
            return Err(key_error("schemaVersion", "2"));
        }
        object.remove("schemaVersion");
        let (layers, manifests) = (object.contains_key("layers"), object.contains_key("manifests"));
        if layers && manifests {
            return Err(ManifestError::Ambiguous);
        }
        let stated = take(&mut object, "mediaType", "text", |value| Some(value.as_str()?.to_owned()))?;
        let media_type = match stated {
            Some(stated) => stated,
            // A registry that does not know better says `text/plain` or nothing.
            None if Format::of_manifest(media_type).is_some() || Format::of_index(media_type).is_some() => {
                media_type.to_owned()
            }
            None if layers => Format::Oci.manifest().to_owned(),
            None if manifests => Format::Oci.index().to_owned(),
            None => media_type.to_owned(),
        };
        let digest = Digest::of(&bytes);
        if Format::of_manifest(&media_type).is_some() {
            let config = object.remove("config").unwrap_or_default();
            let config = BlobRef::from_json(config, "config")?;
            let layers = blobs(&mut object, "layers")?;
            Ok(Self::Manifest(Manifest { bytes, media_type, digest, config, layers, other: object }))
        } else if Format::of_index(&media_type).is_some() {
            let mut children = Vec::new();
            for mut blob in blobs(&mut object, "manifests")? {
                let platform = blob.other.remove("platform").filter(|platform| !platform.is_null());
                children.push(Child { platform: platform.as_ref().map(platform_from_json), blob });
                if let (Some(platform), Some(child)) = (platform, children.last_mut()) {
                    child.blob.other.insert("platform".to_owned(), platform);
                }
            }
            Ok(Self::Index(Index { bytes, media_type, digest, children, other: object }))
        } else {
            Err(ManifestError::MediaType(media_type))
        }
    }
}

impl Document {
    /// Its digest.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Manifest(manifest) => manifest.digest,
            Self::Index(index) => index.digest,
        }
    }
}

impl Manifest {
    /// Reads an image manifest; see [`Document::parse`]. An index is an error here.
    pub fn parse(bytes: Vec<u8>, media_type: &str) -> Result<Self, ManifestError> {
        match Document::parse(bytes, media_type)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(ManifestError::Kind { found: "an index", wanted: "an image manifest" }),
        }
    }

    /// Makes a manifest, with its bytes.
    pub fn new(format: Format, config: BlobRef, layers: Vec<BlobRef>, other: Map<String, Value>) -> Self {
        let mut object = other.clone();
        object.insert("schemaVersion".to_owned(), 2.into());
        object.insert("mediaType".to_owned(), format.manifest().into());
        object.insert("config".to_owned(), config.to_json());
        object.insert("layers".to_owned(), layers.iter().map(BlobRef::to_json).collect());
        let bytes = json::write(&object, &MANIFEST);
        let digest = Digest::of(&bytes);
        Self { bytes, media_type: format.manifest().to_owned(), digest, config, layers, other }
    }

    /// In whose words it is written.
    pub fn format(&self) -> Format {
        // Parsing and making accept no third.
        Format::of_manifest(&self.media_type).unwrap_or(Format::Oci)
    }

    /// Its descriptor.
    pub fn blob_ref(&self) -> BlobRef {
        BlobRef::new(&self.media_type, self.digest, self.bytes.len() as u64)
    }
}

impl Index {
    /// Reads an index; see [`Document::parse`]. An image manifest is an error here.
    pub fn parse(bytes: Vec<u8>, media_type: &str) -> Result<Self, ManifestError> {
        match Document::parse(bytes, media_type)? {
            Document::Index(index) => Ok(index),
            Document::Manifest(_) => Err(ManifestError::Kind { found: "an image manifest", wanted: "an index" }),
        }
    }

    /// The image for a target: operating system and architecture are those asked for; variants are compared where
    /// both sides state one, and an exact match goes first. A child without a platform counts as `linux/amd64`.
    /// `None`: there is none; [`Index::platforms`] says what there is.
    pub fn select(&self, target: &Target) -> Option<&Child> {
        select(&self.children, target)
    }

    /// What images it has: `linux/amd64`, `linux/arm/v7`; for messages. Without attestations (`unknown/unknown`).
    pub fn platforms(&self) -> Vec<String> {
        platforms(&self.children)
    }
}

/// [`Index::select`] among other children.
pub(super) fn select<'a>(children: &'a [Child], target: &Target) -> Option<&'a Child> {
    let wanted = target.platform();
    let mut images = images(children);
    images
        .clone()
        .find(|child| child.normalised() == wanted)
        .or_else(|| images.find(|child| wanted.selects(&child.normalised())))
}

/// [`Index::platforms`] of other children.
pub(super) fn platforms(children: &[Child]) -> Vec<String> {
    let named = images(children).map(Child::normalised).filter(|platform| platform.os() != "unknown");
    named.map(|platform| platform.to_string()).collect()
}

/// Without indexes in the index.
fn images(children: &[Child]) -> impl Iterator<Item = &Child> + Clone {
    children.iter().filter(|child| Format::of_manifest(&child.blob.media_type).is_some())
}

impl Child {
    /// The normalised platform that the descriptor states: none where it has none, or names neither operating system nor
    /// architecture (`"platform": {}`, or both of them empty, as some tools write it).
    pub fn stated(&self) -> Option<Platform> {
        let stated = self.platform.as_ref().map(Target::platform);
        stated.filter(|platform| !(platform.os().is_empty() && platform.arch().is_empty()))
    }

    fn normalised(&self) -> Platform {
        match &self.platform {
            Some(target) => target.platform(),
            None => Platform::new("linux", "amd64", ""),
        }
    }
}

/// `<os>/<architecture>[/<variant>]` with one spelling for each architecture; for messages.
pub fn describe_platform(target: &Target) -> String {
    target.platform().to_string()
}

impl BlobRef {
    /// A descriptor with nothing but what it must have.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.to_owned(), digest, size, other: Map::new() }
    }

    fn from_json(value: Value, key: &str) -> Result<Self, ManifestError> {
        let Value::Object(mut object) = value else { return Err(key_error(key, "an object")) };
        let mut part = |name: &str| (format!("{key}.{name}"), object.remove(name).unwrap_or_default());
        let (key, value) = part("mediaType");
        let media_type = value.as_str().ok_or_else(|| key_error(&key, "text"))?.to_owned();
        let (key, value) = part("digest");
        let digest = value.as_str().and_then(|text| text.parse().ok());
        let digest = digest.ok_or_else(|| key_error(&key, "a sha256 digest"))?;
        let (key, value) = part("size");
        let size = value.as_u64().ok_or_else(|| key_error(&key, "a size"))?;
        Ok(Self { media_type, digest, size, other: object })
    }

    pub(super) fn to_json(&self) -> Value {
        let mut object = self.other.clone();
        object.insert("mediaType".to_owned(), self.media_type.clone().into());
        object.insert("size".to_owned(), self.size.into());
        object.insert("digest".to_owned(), self.digest.to_string().into());
        object.into()
    }
}

fn key_error(key: &str, expected: &'static str) -> ManifestError {
    ManifestError::Key { key: key.to_owned(), expected }
}

/// Removes a key; missing and `null` are `None`.
fn take<T>(
    object: &mut Map<String, Value>,
    key: &str,
    expected: &'static str,
    read: impl FnOnce(&Value) -> Option<T>,
) -> Result<Option<T>, ManifestError> {
    match object.remove(key).unwrap_or_default() {
        Value::Null => Ok(None),
        value => read(&value).map(Some).ok_or_else(|| key_error(key, expected)),
    }
}

fn blobs(object: &mut Map<String, Value>, key: &str) -> Result<Vec<BlobRef>, ManifestError> {
    match object.remove(key).unwrap_or_default() {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => {
            let read = |(at, item)| BlobRef::from_json(item, &format!("{key}[{at}]"));
            items.into_iter().enumerate().map(read).collect()
        }
        _ => Err(key_error(key, "an array")),
    }
}

fn platform_from_json(value: &Value) -> Target {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    Target { os: text("os"), arch: text("architecture"), variant: text("variant"), ..Target::default() }
}

static MANIFEST: Schema = Schema {
    keys: &[
        Key::always("schemaVersion", Zero::Keep),
        Key::optional("mediaType"),
        Key::always("config", Zero::Object).of(&DESCRIPTOR),
        Key::always("layers", Zero::Array).of(&DESCRIPTOR),
        Key::optional("annotations"),
        Key::optional("subject").of(&DESCRIPTOR),
        Key::optional("artifactType"),
    ],
};

static DESCRIPTOR: Schema = Schema {
    keys: &[
        Key::always("mediaType", Zero::Text),
        Key::always("size", Zero::Keep),
        Key::always("digest", Zero::Text),
        Key::optional("data"),
        Key::optional("urls"),
        Key::optional("annotations"),
        Key::optional("platform"),
        Key::optional("artifactType"),
    ],
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn digest(text: &str) -> String {
        Digest::of(text.as_bytes()).to_string()
    }

    fn manifest() -> Value {
        json!({
            "schemaVersion": 2,
            "mediaType": Format::Oci.manifest(),
            "config": {"mediaType": Format::Oci.config(), "size": 2, "digest": digest("c")},
            "layers": [
                {"mediaType": Format::Oci.layer(), "size": 5_000_000_000_u64, "digest": digest("l"), "urls": ["u"]},
            ],
            "annotations": {"b": "2", "a": "<1>"},
        })
    }

    fn parse(value: &Value) -> Result<Document, ManifestError> {
        Document::parse(value.to_string().into_bytes(), "text/plain")
    }

    fn without(mut value: Value, key: &str) -> Value {
        value.as_object_mut().expect("an object").remove(key);
        value
    }

    fn with(mut value: Value, path: &str, new: Value) -> Value {
        *value.pointer_mut(path).expect(path) = new;
        value
    }

    #[test]
    fn a_manifest_with_all_that_it_says() {
        let bytes = manifest().to_string().into_bytes();
        let parsed = Manifest::parse(bytes.clone(), "").expect("a manifest");
        assert_eq!(parsed.bytes, bytes, "the bytes that were read are kept");
        assert_eq!(parsed.digest, Digest::of(&bytes));
        assert_eq!(parsed.format(), Format::Oci);
        assert_eq!(parsed.config, BlobRef::new(Format::Oci.config(), Digest::of(b"c"), 2));
        assert_eq!(parsed.layers[0].size, 5_000_000_000);
        assert_eq!(parsed.layers[0].other["urls"], json!(["u"]));
        assert_eq!(parsed.other["annotations"]["a"], "<1>");
        assert_eq!(parsed.blob_ref().size, bytes.len() as u64);
    }

    #[test]
    fn the_media_type_is_stated_or_told_or_guessed() {
        let silent = without(manifest(), "mediaType").to_string().into_bytes();
        let of = |bytes: &[u8], told| Manifest::parse(bytes.to_vec(), told).expect(told).format();
        assert_eq!(of(&silent, Format::Docker.manifest()), Format::Docker);
        assert_eq!(of(&silent, "text/plain"), Format::Oci);
        assert_eq!(of(manifest().to_string().as_bytes(), Format::Docker.manifest()), Format::Oci);
    }

    #[test]
    fn what_we_make_is_laid_out_as_by_go_and_reads_back() {
        let Document::Manifest(read) = parse(&manifest()).expect("a manifest") else { panic!("an index") };
        let made = Manifest::new(Format::Docker, read.config.clone(), read.layers.clone(), read.other.clone());
        let (c, l) = (digest("c"), digest("l"));
        assert_eq!(
            String::from_utf8(made.bytes.clone()).expect("text"),
            format!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":"{c}"}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":5000000000,"digest":"{l}","urls":["u"]}}],"annotations":{{"a":"\u003c1\u003e","b":"2"}}}}"#
            )
        );
        assert_eq!(Manifest::parse(made.bytes.clone(), ""), Ok(made));
    }

    #[test]
    fn unusable_manifests() {
        for (value, text) in [
            (json!([]), "unusable manifest: invalid type: sequence"),
            (json!({}), "schemaVersion is not 2"),
            (with(manifest(), "/schemaVersion", json!(1)), "schemaVersion is not 2"),
            (with(manifest(), "/mediaType", json!(7)), "mediaType is not text"),
            (with(manifest(), "/mediaType", json!("x/y")), "media type \"x/y\" is neither"),
            (json!({"schemaVersion": 2}), "media type \"text/plain\" is neither"),
            (without(manifest(), "config"), "config is not an object"),
            (with(manifest(), "/config/digest", json!("sha256:x")), "config.digest is not a sha256 digest"),
            (with(manifest(), "/config/mediaType", json!(null)), "config.mediaType is not text"),
            (with(manifest(), "/layers", json!("x")), "layers is not an array"),
            (with(manifest(), "/layers/0", json!("x")), "layers[0] is not an object"),
            (with(manifest(), "/layers/0/size", json!(-1)), "layers[0].size is not a size"),
            (with(manifest(), "/layers/0/size", json!("1")), "layers[0].size is not a size"),
            (json!({"schemaVersion": 2, "layers": [], "manifests": []}), "both layers and manifests"),
            (json!({"schemaVersion": 2, "manifests": [{}]}), "manifests[0].mediaType is not text"),
        ] {
            let error = parse(&value).expect_err(text).to_string();
            assert!(error.contains(text), "{error}");
        }
        let cut = &manifest().to_string().into_bytes()[..50];
        assert!(matches!(Document::parse(cut.to_vec(), ""), Err(ManifestError::Json(_))));
        let deep = "[".repeat(100_000);
        assert!(matches!(Document::parse(deep.into_bytes(), ""), Err(ManifestError::Json(_))));
        let index = json!({"schemaVersion": 2, "manifests": []}).to_string().into_bytes();
        assert_eq!(
            Manifest::parse(index, "").expect_err("an index").to_string(),
            "it is an index, not an image manifest"
        );
        assert!(Index::parse(manifest().to_string().into_bytes(), "").is_err());
    }

    fn index(platforms: &[&str]) -> Index {
        let child = |platform: &&str| {
            let mut child = json!({"mediaType": Format::Oci.manifest(), "size": 1, "digest": digest(platform)});
            let mut parts = platform.split('/');
            if let (Some(os), Some(architecture)) = (parts.next(), parts.next()) {
                child["platform"] = json!({"os": os, "architecture": architecture});
                if let Some(variant) = parts.next() {
                    child["platform"]["variant"] = variant.into();
                }
            }
            child
        };
        let children: Vec<Value> = platforms.iter().map(child).collect();
        let bytes = json!({"schemaVersion": 2, "manifests": children}).to_string().into_bytes();
        Index::parse(bytes, "").expect("an index")
    }

    #[test]
    fn the_child_for_a_target() {
        for (children, wanted, selected) in [
            (&["linux/amd64", "linux/arm64"][..], "linux/arm64", Some("linux/arm64")),
            (&["linux/amd64", "linux/arm64/v8"], "linux/arm64", Some("linux/arm64/v8")),
            (&["linux/arm64"], "linux/arm64/v8", Some("linux/arm64")),
            (&["linux/amd64", "linux/arm64"], "linux/aarch64", Some("linux/arm64")),
            (&["linux/amd64/v3", "linux/amd64"], "linux/amd64", Some("linux/amd64")),
            (&["linux/amd64/v3", "linux/amd64/v1"], "linux/amd64", Some("linux/amd64/v1")),
            (&["linux/amd64/v3"], "linux/amd64", None),
            (&["linux/amd64", "linux/amd64/v3"], "linux/amd64/v3", Some("linux/amd64/v3")),
            (&["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7", Some("linux/arm/v7")),
            (&["linux/arm/v6"], "linux/arm/v7", None),
            (&["linux/arm/v6", "linux/arm/v7"], "linux/arm", Some("linux/arm/v6")),
            (&["linux/arm/v6", "linux/arm"], "linux/arm", Some("linux/arm")),
            (&["linux/arm"], "linux/arm/v7", Some("linux/arm")),
            (&["unknown/unknown", "linux/s390x"], "linux/s390x", Some("linux/s390x")),
            (&["windows/amd64"], "linux/amd64", None),
            (&[""], "linux/amd64", Some("")),
            (&[""], "linux/arm64", None),
            (&[], "linux/amd64", None),
        ] {
            let mut parts = wanted.split('/').map(str::to_owned);
            let mut part = || parts.next().unwrap_or_default();
            let target = Target { os: part(), arch: part(), variant: part(), ..Target::default() };
            let index = index(children);
            let found = index.select(&target).map(|child| child.blob.digest);
            assert_eq!(found, selected.map(|text| Digest::of(text.as_bytes())), "{wanted} of {children:?}");
        }
    }

    #[test]
    fn a_nested_index_is_kept_and_never_selected() {
        let mut nested = index(&["linux/amd64"]);
        nested.children[0].blob.media_type = Format::Oci.index().to_owned();
        let amd64 = Target { os: "linux".to_owned(), arch: "amd64".to_owned(), ..Target::default() };
        assert_eq!(nested.select(&amd64), None);
        assert_eq!(nested.platforms(), [""; 0], "nor is it named among what there is");
    }

    #[test]
    fn what_an_index_has() {
        let index = index(&["linux/amd64", "unknown/unknown", "linux/arm64/v8", "linux/arm/v7", ""]);
        assert_eq!(index.platforms(), ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/amd64"]);
        assert_eq!(index.children[3].blob.other["platform"]["variant"], "v7", "descriptors keep what they say");
    }
}

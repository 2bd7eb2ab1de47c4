//! What a build left, with what may differ between two runs taken out.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::generate::CacheKind;
use crate::registry::Registry;
use crate::tool::Tool;

/// Everything that was seen of all builds of a case, by what it is.
#[derive(Debug, Default)]
pub struct Observed {
    registry: String,
    /// What two lifecycles must have in common.
    pub facts: BTreeMap<String, String>,
    /// What was printed, to explain differences.
    pub printed: BTreeMap<String, String>,
}

/// The hex digits of a digest.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Observed {
    pub(super) fn new(registry: &str) -> Self {
        Self { registry: registry.to_owned(), ..Self::default() }
    }

    pub(super) fn note(&mut self, what: String, seen: impl AsRef<str>) {
        self.facts.insert(what, seen.as_ref().replace(&self.registry, "REGISTRY"));
    }

    pub(super) fn remember(&mut self, what: String, printed: String) {
        self.printed.insert(what, printed);
    }

    /// A digest of all facts.
    pub fn digest(&self) -> String {
        let mut all = String::new();
        for (what, seen) in &self.facts {
            all += &format!("{what}\n{seen}\n\n");
        }
        sha256(all.as_bytes())
    }

    /// The facts in which two differ: what, here, there.
    pub fn differences<'a>(&'a self, other: &'a Self) -> Vec<(&'a str, &'a str, &'a str)> {
        let none = "(nothing)";
        let mut keys: Vec<&str> = self.facts.keys().chain(other.facts.keys()).map(String::as_str).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter()
            .map(|key| {
                let of = |observed: &'a Self| observed.facts.get(key).map_or(none, String::as_str);
                (key, of(self), of(other))
            })
            .filter(|(_, here, there)| here != there)
            .collect()
    }
}

/// A file's text, if it is there.
fn read(root: &Path, path: &str) -> Option<String> {
    fs::read(root.join(path)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn read_toml(root: &Path, path: &str) -> Option<Value> {
    let table: toml::Table = read(root, path)?.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
    Some(numbers(serde_json::to_value(table).expect("JSON")))
}

/// A whole number is one number, whether it was written `1` or `1.0`.
fn numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            #[expect(clippy::cast_possible_truncation, reason = "small enough, and whole")]
            Some(float) if float.fract() == 0.0 && float.abs() < 9e15 => json!(float as i64),
            _ => Value::Number(number),
        },
        Value::Array(values) => values.into_iter().map(numbers).collect(),
        Value::Object(values) => values.into_iter().map(|(key, value)| (key, numbers(value))).collect(),
        other => other,
    }
}

/// Removes a digest from a reference: the compressed blobs of two lifecycles differ, and so do manifests.
fn without_digest(value: Option<&mut Value>) {
    if let Some(value) = value
        && let Some((name, _)) = value.as_str().and_then(|text| text.split_once('@'))
    {
        *value = json!(format!("{name}@(digest)"));
    }
}

/// What the buildpacks found, and what there is after them.
pub(super) fn observe_build(observed: &mut Observed, round: usize, root: &Path) {
    let mut found: Vec<_> =
        fs::read_dir(root.join("observed")).expect("listed").map(|entry| entry.expect("one").path()).collect();
    found.sort();
    for path in found {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let text = fs::read(&path).expect("read");
        observed.note(format!("{round} {name}"), String::from_utf8_lossy(&text));
    }
    for file in ["group.toml", "config/metadata.toml"] {
        if let Some(text) = read(root, &format!("layers/{file}")) {
            observed.note(format!("{round} {file}"), text);
        }
    }
    if let Some(mut plan) = read_toml(root, "layers/plan.toml") {
        if let Some(Value::Array(entries)) = plan.get_mut("entries") {
            entries.sort_by_key(ToString::to_string);
        }
        observed.note(format!("{round} plan.toml"), format!("{plan:#}"));
    }
    if let Some(mut analyzed) = read_toml(root, "layers/analyzed.toml") {
        without_digest(analyzed.pointer_mut("/image/reference"));
        observed.note(format!("{round} analyzed.toml"), format!("{analyzed:#}"));
    }
    let mut listing = String::new();
    list(&root.join("layers"), "", &mut listing);
    observed.note(format!("{round} layers directory"), listing);
}

/// Every file below a directory: kind, mode, owner, path, and what is in it.
fn list(root: &Path, relative: &str, listing: &mut String) {
    let mut names: Vec<_> =
        fs::read_dir(root.join(relative)).expect("listed").map(|entry| entry.expect("one").file_name()).collect();
    names.sort();
    for name in names {
        let path = format!("{relative}{}", name.to_string_lossy());
        // Compared by themselves, as they are written in different orders.
        if ["analyzed.toml", "plan.toml", "report.toml"].contains(&path.as_str()) {
            continue;
        }
        let full = root.join(&path);
        let found = fs::symlink_metadata(&full).expect("there");
        let content = match found.file_type() {
            kind if kind.is_symlink() => fs::read_link(&full).expect("a link").display().to_string(),
            kind if kind.is_file() => sha256(&fs::read(&full).expect("read"))[..16].to_owned(),
            _ => String::new(),
        };
        let mut mode = found.permissions().mode();
        // In some lifecycles an extraction that runs at the same time decides the mode of SBOM files that are restored.
        if path.contains(".sbom.") && relative.matches('/').count() == 1 {
            mode = 0;
        }
        *listing += &format!("{mode:o} {}:{} {path} {content}\n", found.uid(), found.gid());
        if found.is_dir() {
            list(root, &format!("{path}/"), listing);
        }
    }
}

/// The image and the cache.
pub(super) fn observe_image(
    observed: &mut Observed,
    round: usize,
    root: &Path,
    registry: &Registry,
    image: &str,
    cache: CacheKind,
) {
    if let Some(mut report) = read_toml(root, "layers/report.toml") {
        if let Some(image) = report.get_mut("image").and_then(Value::as_object_mut) {
            let digest = image.remove("digest").is_some();
            let size = image.remove("manifest-size").is_some();
            image.insert("has".to_owned(), json!([digest, size]));
        }
        observed.note(format!("{round} report.toml"), format!("{report:#}"));
    }
    if let Some(config) = config_of(registry, image) {
        observe_config(observed, round, config);
    }
    let metadata = match cache {
        CacheKind::None => None,
        CacheKind::Directory => read(root, "cache/committed/io.buildpacks.lifecycle.cache.metadata"),
        CacheKind::Image => config_of(registry, &format!("{image}-cache")).and_then(|config| {
            let label = config.pointer("/config/Labels/io.buildpacks.lifecycle.cache.metadata")?.as_str()?.to_owned();
            observed.note(format!("{round} cache layers"), format!("{:#}", config["rootfs"]["diff_ids"]));
            Some(label)
        }),
    };
    if let Some(metadata) = metadata {
        let mut metadata: Value = serde_json::from_str(&metadata).expect("JSON");
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.remove("target-arch");
        }
        observed.note(format!("{round} cache metadata"), format!("{metadata:#}"));
    }
    if cache == CacheKind::Directory {
        // Before the first build that succeeds, some lifecycles have made an empty generation, and some none.
        let listed = fs::read_dir(root.join("cache/committed"));
        let mut names: Vec<_> = listed.into_iter().flatten().map(|entry| entry.expect("one").file_name()).collect();
        names.sort();
        observed.note(format!("{round} cache files"), format!("{names:#?}"));
    }
}

fn observe_config(observed: &mut Observed, round: usize, mut config: Value) {
    let labels = config.pointer_mut("/config/Labels").map(Value::take).unwrap_or_default();
    for (key, value) in labels.as_object().into_iter().flatten() {
        let text = value.as_str().unwrap_or_default();
        let parsed: Value = serde_json::from_str(text).unwrap_or_else(|_| value.clone());
        let shown = match key.as_str() {
            "io.buildpacks.build.metadata" => {
                let mut parsed = parsed;
                parsed["launcher"] = json!("(the lifecycle's own)");
                format!("{parsed:#}")
            }
            // Byte by byte: platforms of another make read it, and so does the next lifecycle.
            "io.buildpacks.lifecycle.metadata" => text.to_owned(),
            _ => format!("{parsed:#}"),
        };
        observed.note(format!("{round} label {key}"), shown);
    }
    observed.note(format!("{round} image config"), format!("{config:#}"));
}

/// The config of an image, if there is one.
fn config_of(registry: &Registry, image: &str) -> Option<Value> {
    let name = image.strip_prefix(&format!("{}/", registry.host())).expect("an image of the registry");
    if !registry.storage().join("docker/registry/v2/repositories").join(name).join("_manifests/tags/latest").exists() {
        return None;
    }
    let text = Tool::new("skopeo")
        .args(["inspect", "--config", "--raw"])
        .args(registry.skopeo_flags(""))
        .args([format!("docker://{image}")])
        .run();
    Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{image}: {error}")))
}

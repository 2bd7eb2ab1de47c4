//! Labels, byte for byte as the reference writes them, and what is read although it is not.

use super::*;
use crate::analyzed::Analyzed;
use crate::text::{from_json, from_toml, to_toml};

fn api(version: &str) -> PlatformApi {
    PlatformApi::parse(Some(version)).expect("supported")
}

const LABEL: &str = r#"{"app":[{"sha":"sha256:1"},{"sha":"sha256:2"}],"sbom":{"sha":"sha256:3"},"buildpacks":[{"key":"example/ruby","version":"1.2.3","layers":{"a.b":{"sha":"sha256:4","data":null,"build":false,"launch":true,"cache":false},"gems":{"sha":"sha256:5","data":{"\u003cversion\u003e":"3","at":{"n":1.5},"list":[{"x":"y"}]},"build":true,"launch":true,"cache":true},"word":{"sha":"sha256:6","data":"scalar","build":false,"launch":true,"cache":true}},"store":{"metadata":{"kept":true}}},{"key":"other","version":"1","layers":{}}],"config":{"sha":"sha256:7"},"launcher":{"sha":"sha256:8"},"process-types":{"sha":""},"runImage":{"topLayer":"sha256:9","reference":"run@sha256:a","image":"run","mirrors":["mirror/run"]},"stack":{"runImage":{"image":"run","mirrors":["mirror/run"]}}}"#;

const ANALYZED: &str = r#"[image]
  reference = ""

[metadata]

  [[metadata.app]]
    sha = "sha256:1"

  [[metadata.app]]
    sha = "sha256:2"
  [metadata.sbom]
    sha = "sha256:3"

  [[metadata.buildpacks]]
    key = "example/ruby"
    version = "1.2.3"
    [metadata.buildpacks.layers]
      [metadata.buildpacks.layers."a.b"]
        sha = "sha256:4"
        build = false
        launch = true
        cache = false
      [metadata.buildpacks.layers.gems]
        sha = "sha256:5"
        build = true
        launch = true
        cache = true
        [metadata.buildpacks.layers.gems.metadata]
          "<version>" = "3"
          [metadata.buildpacks.layers.gems.metadata.at]
            n = 1.5

          [[metadata.buildpacks.layers.gems.metadata.list]]
            x = "y"
      [metadata.buildpacks.layers.word]
        sha = "sha256:6"
        metadata = "scalar"
        build = false
        launch = true
        cache = true
    [metadata.buildpacks.store]
      [metadata.buildpacks.store.metadata]
        kept = true

  [[metadata.buildpacks]]
    key = "other"
    version = "1"
    [metadata.buildpacks.layers]
  [metadata.config]
    sha = "sha256:7"
  [metadata.launcher]
    sha = "sha256:8"
  [metadata.process-types]
    sha = ""
  [metadata.run-image]
    top-layer = "sha256:9"
    reference = "run@sha256:a"
    image = "run"
    mirrors = ["mirror/run"]
  [metadata.stack]
    [metadata.stack.run-image]
      image = "run"
      mirrors = ["mirror/run"]
"#;

#[test]
fn the_label_survives_and_becomes_toml() {
    let label: LifecycleMetadata = from_json(LABEL).expect("JSON");
    assert_eq!(label.to_json(api("0.15")), LABEL);
    let analyzed =
        Analyzed { previous_image: Some(Default::default()), metadata: label.clone(), ..Analyzed::default() };
    let text = to_toml(&analyzed);
    assert_eq!(text, ANALYZED);
    assert_eq!(from_toml::<Analyzed>(&text).expect("TOML"), analyzed);
}

#[test]
fn the_label_has_what_its_platform_api_has() {
    let label: LifecycleMetadata = from_json(LABEL).expect("JSON");
    let without_run_image =
        LABEL.replace(r#""run@sha256:a","image":"run","mirrors":["mirror/run"]"#, r#""run@sha256:a""#);
    assert_eq!(label.to_json(api("0.11")), without_run_image);
    assert_eq!(label.to_json(api("0.8")), without_run_image);
    assert_eq!(label.to_json(api("0.7")), without_run_image.replace(r#""sbom":{"sha":"sha256:3"},"#, ""));
    let empty = r#"{"app":null,"buildpacks":null,"config":{"sha":""},"launcher":{"sha":""},"process-types":{"sha":""},"runImage":{"topLayer":"","reference":""}}"#;
    assert_eq!(LifecycleMetadata::default().to_json(api("0.12")), empty);
}

/// Go reads `null` as nothing, and nobody minds keys that are unknown or missing.
#[test]
fn labels_of_others_are_read() {
    for label in [
        "{}",
        r#"{"app":null,"sbom":null,"buildpacks":null,"config":null,"launcher":null,"process-types":null,"runImage":null,"stack":null}"#,
        r#"{"config":{"sha":null},"unknown":[1],"runImage":{"topLayer":null,"reference":null,"image":null,"mirrors":null}}"#,
    ] {
        assert_eq!(from_json::<LifecycleMetadata>(label).expect(label), LifecycleMetadata::default());
    }
    let label = r#"{"buildpacks":[{"key":"a","layers":null,"store":null},{"key":"b","layers":{"x":{"sha":null,"data":null,"build":null}}}]}"#;
    let label: LifecycleMetadata = from_json(label).expect("JSON");
    assert_eq!(label.layers_of("a").expect("there").layers.len(), 0);
    assert_eq!(label.layers_of("b").expect("there").layers["x"], BuildpackLayer::default());
    assert!(label.layers_of("c").is_none());
}

#[test]
fn labels_that_are_something_else_are_named() {
    for (label, error) in [
        ("", "line 1, column 0: EOF while parsing a value"),
        ("[]", "line 1, column 2: expected a table, found an array"),
        ("{} x", "line 1, column 4: trailing characters"),
        (r#"{"app":{}}"#, "line 1, column 7: expected an array, found a table"),
        (
            r#"{"buildpacks":[{"layers":{"x":{"launch":"yes"}}}]}"#,
            "line 1, column 45: expected a boolean, found string \"yes\"",
        ),
    ] {
        assert_eq!(from_json::<LifecycleMetadata>(label).expect_err(label).to_string(), error);
    }
}

#[test]
fn cache_metadata_is_the_reference_s_with_one_more_key() {
    let theirs = r#"{"sbom":{"sha":""},"buildpacks":[{"key":"a","version":"1","layers":{"x":{"sha":"sha256:1","data":{"n":1},"build":false,"launch":false,"cache":true}}}]}"#;
    let mut cache: CacheMetadata = from_json(theirs).expect("JSON");
    assert_eq!(cache.to_json(), theirs);
    cache.target_arch = Some("linux/arm64".to_owned());
    let ours = cache.to_json();
    assert_eq!(ours, theirs.strip_suffix('}').expect("an object").to_owned() + r#","target-arch":"linux/arm64"}"#);
    assert_eq!(from_json::<CacheMetadata>(&ours).expect("JSON"), cache);
    assert_eq!(CacheMetadata::default().to_json(), r#"{"sbom":{"sha":""},"buildpacks":null}"#);
    assert!(cache.layers_of("a").is_some() && cache.layers_of("b").is_none());
}

/// A whole number of a buildpack stays one: the reference hands back `1.0` from the second build on.
#[test]
fn numbers_stay_what_they_were() {
    let toml: toml::Table = from_toml("a = 1\nb = 9007199254740993\nc = 0.5").expect("TOML");
    let data = toml_to_json(&toml::Value::Table(toml.clone())).expect("JSON");
    let text = crate::text::to_go_json(&data);
    assert_eq!(text, r#"{"a":1,"b":9007199254740993,"c":0.5}"#);
    assert_eq!(json_to_toml(&from_json(&text).expect("JSON")), Some(toml::Value::Table(toml)));
}

/// `analyzed.toml` as other lifecycles and hands write it.
#[test]
fn analyzed_files_of_others_are_read() {
    let text = "[metadata.buildpacks]\n";
    let error = from_toml::<Analyzed>(text).expect_err(text).to_string();
    assert_eq!(error, "line 1, column 1: key 'metadata.buildpacks': expected an array, found a table");
    let text = "[[metadata.buildpacks]]\nkey = 'a'\n[metadata.buildpacks.layers.x]\nmetadata.n = nan\n";
    let error = from_toml::<Analyzed>(text).expect_err(text).to_string();
    assert_eq!(error, "line 1, column 3: key 'metadata': key 'n': nan and inf cannot be written as JSON");
    for text in ["", "[metadata]\n", "[run-image]\n[run-image.target]\n", "x = 1"] {
        assert!(from_toml::<Analyzed>(text).is_ok(), "{text}");
    }
}

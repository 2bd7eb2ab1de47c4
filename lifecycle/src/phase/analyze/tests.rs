use std::sync::Arc;

use platform_spec::label::LayerSha;
use platform_spec::run::RunImage;
use platform_spec::target::{Distro, Target};

use super::*;
use crate::image::memory::{Answer, MemoryStore, Refusal};
use crate::image::{Draft, Format};
use crate::layer::Spool;
use crate::test_log::captured;

struct Setup {
    store: MemoryStore,
    layers: tempfile::TempDir,
    inputs: Inputs,
}

fn setup() -> Setup {
    let layers = tempfile::tempdir().expect("a directory");
    let inputs = Inputs {
        api: api("0.12"),
        image: "reg.io/app".to_owned(),
        tags: Vec::new(),
        previous_image: "reg.io/app".to_owned(),
        run_image: RunImageInput::Named("reg.io/run".to_owned()),
        cache_image: None,
        layers: layers.path().to_owned(),
        skip_layers: false,
        build_for: BuildTarget::new(None).on(amd64().platform()),
    };
    let setup = Setup { store: MemoryStore::new(), layers, inputs };
    setup.push("reg.io/run", Draft::empty("linux", "amd64", ""));
    setup
}

fn api(text: &str) -> PlatformApi {
    PlatformApi::parse(Some(text)).expect("a version")
}

fn amd64() -> Target {
    Target { os: "linux".to_owned(), arch: "amd64".to_owned(), ..Target::default() }
}

fn app(label: &str) -> Draft {
    Draft::empty("linux", "amd64", "").edit(|config| config.set_label(label::LIFECYCLE_METADATA, label))
}

impl Setup {
    fn push(&self, name: &str, draft: Draft) -> Image {
        let image = draft.finish().expect("an image");
        let pushed = self.store.push(name, &[]).expect("begun").finish(&image).expect("pushed");
        assert!(pushed.names.iter().all(|(_, result)| result.is_ok()));
        self.store.open(&pushed.identifier, &amd64()).expect("there")
    }

    fn layer(&self, content: &[u8]) -> Layer {
        let path = self.layers.path().join("blob");
        std::fs::write(&path, content).expect("written");
        let digest = Digest::of(content);
        Layer::packed(
            digest,
            Arc::new(Spool::new(std::fs::File::open(path).expect("opened"), digest, content.len() as u64)),
        )
    }

    fn refuse(&self, repository: &str, reads: bool, answer: Answer) {
        self.store.refuse(Refusal { repository: repository.to_owned(), reads, answer });
    }

    fn run(&self) -> (Result<Analyzed, AnalyzeError>, Vec<String>) {
        captured(|| run(&self.inputs, Stores { images: &self.store, caches: &self.store }))
    }

    fn analyzed(&self) -> (Analyzed, Vec<String>) {
        let (result, log) = self.run();
        (result.unwrap_or_else(|error| panic!("{}", chain(&error))), log)
    }

    fn error(&self) -> (String, u8) {
        let error = self.run().0.expect_err("an error");
        (chain(&error), error.exit_code())
    }
}

fn reference(analyzed: &Analyzed) -> &str {
    &analyzed.previous_image.as_ref().expect("always written").reference
}

fn assert_logged(log: &[String], line: &str) {
    assert!(log.iter().any(|found| found.starts_with(line)), "{line:?} is not in {log:#?}");
}

#[test]
fn a_first_build() {
    let setup = setup();
    let run_image = setup.store.open("reg.io/run", &amd64()).expect("there");
    let (analyzed, log) = setup.analyzed();
    let expected = Analyzed {
        previous_image: Some(ImageIdentifier::default()),
        run_image: Some(AnalyzedRunImage {
            reference: run_image.identifier.clone(),
            image: "reg.io/run".to_owned(),
            extend: false,
            target: Some(amd64()),
        }),
        ..Analyzed::default()
    };
    assert_eq!(analyzed, expected);
    assert_eq!(
        log,
        [
            "info: Image with name \"reg.io/app\" not found".to_owned(),
            format!("debug: Found image with identifier {:?}", run_image.identifier),
        ]
    );
}

#[test]
fn a_second_build() {
    let mut setup = setup();
    let label = r#"{"app":[{"sha":"sha256:1"}],"buildpacks":null,"launcher":{"sha":"sha256:2"},"unknown":1}"#;
    let image = setup.push("reg.io/app", app(label));
    for previous in ["reg.io/app", &image.identifier.clone()] {
        setup.inputs.previous_image = previous.to_owned();
        let (analyzed, _) = setup.analyzed();
        assert_eq!(reference(&analyzed), image.identifier);
        assert_eq!(analyzed.metadata.app, Some(vec![LayerSha { sha: "sha256:1".to_owned() }]));
        assert_eq!(analyzed.metadata.launcher.sha, "sha256:2");
    }
}

#[test]
fn what_the_run_image_says() {
    let mut setup = setup();
    let draft = Draft::empty("linux", "arm64", "v8").edit(|config| {
        config.set_label(label::BASE_DISTRO_NAME, "debian");
        config.set_label(label::BASE_DISTRO_VERSION, "12");
    });
    let image = setup.push("reg.io/arm", draft);
    setup.inputs.run_image = RunImageInput::Named("reg.io/arm".to_owned());
    let target = Target {
        arch: "arm64".to_owned(),
        variant: "v8".to_owned(),
        distro: Some(Distro { name: "debian".to_owned(), version: "12".to_owned() }),
        ..amd64()
    };
    let described = |setup: &Setup| setup.analyzed().0.run_image.expect("always written");
    let reference = image.identifier.clone();
    let expected = AnalyzedRunImage { reference, image: "reg.io/arm".to_owned(), extend: false, target: Some(target) };
    assert_eq!(described(&setup), expected);
    setup.inputs.api = api("0.11");
    let expected = AnalyzedRunImage { image: String::new(), target: None, ..expected };
    assert_eq!(described(&setup), expected);

    for (name, config, lacks) in [
        ("reg.io/osless", r#"{"architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}"#, "OS"),
        ("reg.io/archless", r#"{"os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#, "architecture"),
    ] {
        setup.store.insert_with_config(name, config.as_bytes()).expect("inserted");
        setup.inputs.run_image = RunImageInput::Named(name.to_owned());
        setup.inputs.api = api("0.11");
        assert_eq!(described(&setup).target, None, "nobody asks at this Platform API");
        setup.inputs.api = api("0.12");
        let text = format!("unpack metadata from image {name}: failed to find {lacks} in run image config");
        assert_eq!(setup.error(), (text, 32));
    }
}

#[test]
fn a_run_image_of_several() {
    let mut setup = setup();
    setup.push("mirror.io/run", Draft::empty("linux", "amd64", ""));
    setup.inputs.image = "mirror.io/app".to_owned();
    setup.inputs.run_image =
        RunImageInput::OneOf(RunImage { image: "reg.io/run".to_owned(), mirrors: vec!["mirror.io/run".to_owned()] });
    let chosen = setup.analyzed().0.run_image.expect("always written");
    assert_eq!(chosen.image, "mirror.io/run");
    setup.refuse("mirror.io/run", true, Answer::Forbidden);
    setup.refuse("reg.io/run", true, Answer::Forbidden);
    assert_eq!(setup.error(), ("resolve inputs: failed to find accessible run image".to_owned(), 3));
}

#[test]
fn a_missing_run_image_is_for_the_exporter_to_tell() {
    let mut setup = setup();
    setup.inputs.run_image = RunImageInput::Named("reg.io/none".to_owned());
    let (analyzed, log) = setup.analyzed();
    let expected =
        AnalyzedRunImage { image: "reg.io/none".to_owned(), target: Some(amd64()), ..AnalyzedRunImage::default() };
    assert_eq!(analyzed.run_image, Some(expected));
    assert_logged(&log, "info: Image with name \"reg.io/none\" not found");
}

#[test]
fn access_is_proven_first() {
    for (repository, reads, answer, text) in [
        ("reg.io/app", true, Answer::Forbidden, "ensure registry read access to reg.io/app: reg.io/app: access denied"),
        (
            "reg.io/run",
            true,
            Answer::Unauthorized(None),
            "ensure registry read access to reg.io/run: reg.io/run: unauthorized",
        ),
        (
            "reg.io/run",
            true,
            Answer::Broken,
            "ensure registry read access to reg.io/run: look up reg.io/run: connection reset by peer",
        ),
        (
            "reg.io/app",
            false,
            Answer::Unauthorized(Some("authentication required".to_owned())),
            "ensure registry read/write access to reg.io/app: reg.io/app: unauthorized: authentication required",
        ),
        (
            "reg.io/cache",
            false,
            Answer::Forbidden,
            "ensure registry read/write access to reg.io/cache:1: reg.io/cache:1: access denied",
        ),
        (
            "reg.io/tag",
            false,
            Answer::Forbidden,
            "ensure registry read/write access to reg.io/tag: reg.io/tag: access denied",
        ),
    ] {
        let mut setup = setup();
        setup.inputs.cache_image = Some("reg.io/cache:1".to_owned());
        setup.inputs.tags = vec!["reg.io/app:2".to_owned(), "reg.io/tag".to_owned()];
        setup.analyzed();
        setup.refuse(repository, reads, answer);
        assert_eq!(setup.error(), (text.to_owned(), 32));
        assert!(setup.run().0.expect_err("an error").says_what_failed());
    }
}

#[test]
fn a_previous_image_that_counts_as_absent() {
    let mut setup = setup();
    setup.push("private.io/app", app("{}"));
    setup.inputs.previous_image = "private.io/app".to_owned();

    // 401 with an error text, between the check and the read.
    let told = StoreError::Unauthorized {
        name: "x".to_owned(),
        request: Box::default(),
        told: Some("who are you".to_owned()),
    };
    let (used, log) = captured(|| use_previous("private.io/app", Err(told), &setup.store));
    assert!(used.expect("absent").is_none());
    assert_eq!(log, ["warn: Not using image \"private.io/app\": x: unauthorized: who are you"]);
    for error in [
        StoreError::Unauthorized { name: "x".to_owned(), request: Box::default(), told: None },
        StoreError::Forbidden { name: "x".to_owned(), request: Box::default(), told: Some("no".to_owned()) },
    ] {
        let error = use_previous("private.io/app", Err(error), &setup.store).expect_err("not absent");
        assert!(chain(&error).starts_with("get previous image: x: "), "{}", chain(&error));
        assert_eq!(error.exit_code(), 32);
    }

    // An index without a child for this machine.
    let child = setup.push("private.io/app:arm", Draft::empty("linux", "arm64", "").edit(|_| {}));
    let mut entry = serde_json::to_value(serde_json::json!({
        "mediaType": child.manifest.media_type,
        "size": child.manifest.bytes.len(),
        "digest": child.manifest.digest.to_string(),
    }))
    .expect("JSON");
    entry["platform"] = serde_json::json!({"os": "linux", "architecture": "arm64"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    setup.store.insert("private.io/app", Format::Oci.index(), index.into_bytes()).expect("inserted");
    let (analyzed, log) = setup.analyzed();
    assert_eq!(reference(&analyzed), "");
    let told =
        "warn: Not using image \"private.io/app\": private.io/app: no image for linux/amd64; there is linux/arm64";
    assert_logged(&log, told);
    assert!(!log.iter().any(|line| line.contains("not found")), "{log:?}");
}

#[test]
fn only_a_layer_that_is_shown_to_be_missing_is() {
    /// How the registry answers, whether the image is used, and what is said: logged, or as an error.
    type Row<'a> = (Option<Answer>, Option<bool>, &'a str);
    let table: [Row<'_>; 5] = [
        (None, Some(false), "warn: Ignoring image \"reg.io/app\" because it was corrupt: layer sha256:"),
        (Some(Answer::Unauthorized(None)), None, "get previous image: reg.io/app: unauthorized"),
        (
            Some(Answer::Unauthorized(Some("who".to_owned()))),
            Some(false),
            "warn: Not using image \"reg.io/app\": reg.io/app: unauthorized: who",
        ),
        (Some(Answer::Forbidden), None, "get previous image: reg.io/app: access denied"),
        (Some(Answer::Broken), None, "get previous image: look up reg.io/app: connection reset by peer"),
    ];
    for (answer, used, told) in table {
        let setup = setup();
        let image = setup.push("reg.io/app", app("{}").with_layer(setup.layer(b"content"), ""));
        match answer.clone() {
            Some(answer) => setup.refuse("reg.io/app", true, answer),
            None => setup.store.lose("reg.io/app", &image.manifest.layers[0].digest).expect("lost"),
        }
        let (found, log) = captured(|| use_previous("reg.io/app", Ok(image), &setup.store));
        match (found, used) {
            (Ok(found), Some(used)) => {
                assert_eq!(found.is_some(), used, "{answer:?}");
                assert_eq!(log.is_empty(), used, "{answer:?}: {log:?}");
                assert!(log.iter().all(|line| line.starts_with(told)), "{answer:?}: {log:?}");
            }
            (Err(error), None) => assert_eq!((chain(&error).as_str(), error.exit_code()), (told, 32)),
            (found, _) => panic!("{answer:?}: {found:?}"),
        }
    }
}

#[test]
fn a_corrupt_previous_image_is_ignored() {
    let corrupt = "warn: Ignoring image \"reg.io/app\" because it was corrupt: ";
    for damage in ["manifest", "config", "layer"] {
        let setup = setup();
        let draft = app(r#"{"app":[{"sha":"sha256:1"}]}"#).with_layer(setup.layer(b"content"), "");
        let image = setup.push("reg.io/app", draft);
        let result = match damage {
            "manifest" => setup.store.insert("reg.io/app", Format::Oci.manifest(), b"{".to_vec()).map(drop),
            "config" => setup.store.lose("reg.io/app", &image.manifest.config.digest),
            _ => setup.store.lose("reg.io/app", &image.manifest.layers[0].digest),
        };
        result.expect("damaged");
        let (analyzed, log) = setup.analyzed();
        assert_eq!((reference(&analyzed), &analyzed.metadata), ("", &LifecycleMetadata::default()), "{damage}");
        assert_logged(&log, corrupt);
    }
}

#[test]
fn a_previous_image_of_another_architecture_is_ignored() {
    let mut setup = setup();
    let label = r#"{"app":[{"sha":"sha256:1"}]}"#;
    setup.push("reg.io/app", app(label));
    setup.push("reg.io/arm", Draft::empty("linux", "arm64", ""));
    setup.inputs.run_image = RunImageInput::Named("reg.io/arm".to_owned());
    for version in ["0.7", "0.12"] {
        setup.inputs.api = api(version);
        let (analyzed, log) = setup.analyzed();
        assert_eq!((reference(&analyzed), &analyzed.metadata), ("", &LifecycleMetadata::default()));
        assert_logged(
            &log,
            "warn: Ignoring image \"reg.io/app\" because it is for linux/amd64 and the run image for linux/arm64",
        );
    }
    setup.push("reg.io/arm", Draft::empty("linux", "amd64", "v1"));
    assert_ne!(reference(&setup.analyzed().0), "", "amd64/v1 is amd64");
    setup.inputs.run_image = RunImageInput::Named("reg.io/none".to_owned());
    assert_ne!(reference(&setup.analyzed().0), "", "without a run image there is nothing to compare");
}

#[test]
fn labels_that_cannot_be_read() {
    for label in ["[]", "{", "7", r#"{"app":"x"}"#, r#"{"buildpacks":[{"layers":[]}]}"#] {
        let setup = setup();
        setup.push("reg.io/app", app(label));
        let (analyzed, log) = setup.analyzed();
        assert_eq!((reference(&analyzed), &analyzed.metadata), ("", &LifecycleMetadata::default()), "{label}");
        assert_logged(&log, "warn: Ignoring image \"reg.io/app\" because its label io.buildpacks.lifecycle.metadata");
    }
    let setup = setup();
    let image = setup.push("reg.io/app", Draft::empty("linux", "amd64", ""));
    let (analyzed, _) = setup.analyzed();
    assert_eq!((reference(&analyzed), &analyzed.metadata), (image.identifier.as_str(), &LifecycleMetadata::default()));
}

/// A tar with the parents and the tree of an SBOM layer; `files` are names below the layers directory, or absolute.
fn sbom_tar(layers: &Path, files: &[&str]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &Path, directory: bool| {
        let mut header = tar::Header::new_ustar();
        let kind = if directory { tar::EntryType::Directory } else { tar::EntryType::Regular };
        header.set_entry_type(kind);
        header.set_mode(if directory { 0o755 } else { 0o644 });
        header.set_size(if directory { 0 } else { 4 });
        // Absolute names, as lifecycles write them and the library does not.
        let name = path.as_os_str().as_encoded_bytes();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_cksum();
        tar.append(&header, if directory { &b""[..] } else { b"sbom" }).expect("added");
    };
    for parent in ["", "sbom", "sbom/launch", "sbom/launch/bp"] {
        add(layers.join(parent).as_path(), true);
    }
    for file in files {
        add(&layers.join(file), false);
    }
    tar.into_inner().expect("a tar")
}

impl Setup {
    /// Pushes a previous image whose label names an SBOM layer of these files.
    fn push_sbom(&self, files: &[&str]) -> Image {
        let layer = self.layer(&sbom_tar(self.layers.path(), files));
        let label = format!(r#"{{"sbom":{{"sha":"{}"}}}}"#, layer.diff_id);
        self.push("reg.io/app", app(&label).with_layer(layer, ""))
    }

    fn restored(&self) -> Option<String> {
        std::fs::read_to_string(self.layers.path().join("sbom/launch/bp/sbom.cdx.json")).ok()
    }
}

const SBOM: &str = "sbom/launch/bp/sbom.cdx.json";

#[test]
fn the_previous_images_sbom_is_restored() {
    let mut setup = setup();
    setup.push_sbom(&[SBOM]);
    setup.inputs.api = api("0.7");
    setup.analyzed();
    assert_eq!(setup.restored(), None, "not at this Platform API");
    setup.inputs.api = api("0.8");
    setup.inputs.skip_layers = true;
    let (analyzed, _) = setup.analyzed();
    assert_eq!(setup.restored(), None, "nothing is to be restored");
    assert!(analyzed.metadata.sbom.is_some(), "but it is recorded");
    setup.inputs.skip_layers = false;
    let (_, log) = setup.analyzed();
    assert_eq!(setup.restored().as_deref(), Some("sbom"));
    assert_logged(&log, "info: Restoring data for SBOM from previous image");
    setup.analyzed();
    assert_eq!(setup.restored().as_deref(), Some("sbom"), "again");
}

#[test]
fn an_sbom_layer_that_would_write_elsewhere_is_left_out() {
    for bad in ["/etc/passwd", "bp/layer/sbom.cdx.json", "sbom/launch/../../bp", "sbom/cache/bp/sbom.cdx.json"] {
        let setup = setup();
        setup.push_sbom(&[SBOM, bad]);
        let (analyzed, log) = setup.analyzed();
        assert_ne!(reference(&analyzed), "", "{bad}: the rest of the image is used");
        assert_logged(&log, "warn: Skipping restore for SBOM of the previous image: entry ");
        for nothing in ["sbom/launch", "sbom/cache", "bp"] {
            assert!(!setup.layers.path().join(nothing).exists(), "{bad}: {nothing}");
        }
    }
    // Made with another layers directory.
    let setup = setup();
    let layer = setup.layer(&sbom_tar(Path::new("/other/layers"), &[SBOM]));
    let label = format!(r#"{{"sbom":{{"sha":"{}"}}}}"#, layer.diff_id);
    setup.push("reg.io/app", app(&label).with_layer(layer, ""));
    let (_, log) = setup.analyzed();
    assert_logged(&log, "warn: Skipping restore for SBOM of the previous image: entry ");
}

#[test]
fn an_sbom_layer_that_cannot_be_read_is_an_error() {
    let setup = setup();
    let missing = Digest::of(b"missing");
    for sha in [missing.to_string(), "nonsense".to_owned()] {
        setup.push("reg.io/app", app(&format!(r#"{{"sbom":{{"sha":"{sha}"}}}}"#)));
        let text = format!("retrieve launch SBOM layer {sha:?}: there is no such layer in the previous image");
        assert_eq!(setup.error(), (text, 32));
    }
    let layer = setup.layer(&sbom_tar(setup.layers.path(), &[SBOM])[..700]);
    let label = format!(r#"{{"sbom":{{"sha":"{}"}}}}"#, layer.diff_id);
    let diff_id = layer.diff_id;
    setup.push("reg.io/app", app(&label).with_layer(layer, ""));
    let (text, code) = setup.error();
    assert!(text.starts_with(&format!("restore launch SBOM layer {diff_id}: read layer: ")), "{text}");
    assert_eq!(code, 32);
}

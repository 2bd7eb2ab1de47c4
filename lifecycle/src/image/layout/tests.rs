use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::contract::{Subject, run};
use super::*;
use crate::image::{Draft, Format, IndexChange, IndexChild, WrittenIndex};
use crate::layer::Spool;

fn target(arch: &str) -> Target {
    Target { os: "linux".to_owned(), arch: arch.to_owned(), ..Target::default() }
}

struct Setup {
    dir: tempfile::TempDir,
    store: LayoutStore,
}

fn setup() -> Setup {
    let dir = tempfile::tempdir().expect("a directory");
    let store = LayoutStore::new(&dir.path().join("layouts"));
    Setup { dir, store }
}

impl Setup {
    fn layer(&self, text: &str) -> Layer {
        let path = self.dir.path().join(format!("{text}.spool"));
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("private");
        let spool = Spool::new(File::open(path).expect("opened"), Digest::of(text.as_bytes()), text.len() as u64);
        Layer::packed(Digest::of(text.as_bytes()), Arc::new(spool))
    }

    fn image(&self, arch: &str, layers: &[&str]) -> Image {
        let add = |draft: Draft, text: &&str| draft.with_layer(self.layer(text), *text);
        layers.iter().fold(Draft::empty("linux", arch, ""), add).finish().expect("an image")
    }

    fn push(&self, name: &str, image: &Image) -> Result<(), StoreError> {
        let pushed = self.store.push(name, &[])?.finish(image)?;
        pushed.names.into_iter().next().expect("one name").1
    }

    fn path(&self, name: &str) -> PathBuf {
        self.store.path(name).expect("a name")
    }

    fn blob(&self, name: &str, digest: &Digest) -> PathBuf {
        self.path(name).join("blobs/sha256").join(digest.hex())
    }

    fn index(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name).join("index.json")).expect("read")).expect("JSON")
    }

    /// Puts a document into a layout as another tool might.
    fn put(&self, name: &str, bytes: &[u8]) -> (Digest, usize) {
        let digest = Digest::of(bytes);
        fs::write(self.blob(name, &digest), bytes).expect("written");
        (digest, bytes.len())
    }

    fn set_index(&self, name: &str, entries: &[Value]) {
        let index = json!({"schemaVersion": 2, "manifests": entries});
        fs::write(self.path(name).join("index.json"), index.to_string()).expect("written");
    }

    fn files(&self, dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .expect("listed")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

fn entry(image: &Image) -> Value {
    image.manifest.blob_ref().to_json()
}

fn with(mut entry: Value, key: &str, value: Value) -> Value {
    entry[key] = value;
    entry
}

#[test]
fn does_what_every_store_does() {
    for prefix in ["127.0.0.1:5000/contract", "contract", "reg.example/a/b"] {
        let dir = tempfile::tempdir().expect("a directory");
        // An '@' in the layout directory's own name is no digest.
        let store = LayoutStore::new(&dir.path().join("lay@outs"));
        run(&Subject { store: &store, prefix, temp: dir.path(), deletes: true });
    }
}

#[test]
fn paths() {
    let digest = Digest::of(b"");
    let hex = digest.hex();
    let place = |dir: &str, name: &str| LayoutStore::new(Path::new(dir)).place(name);
    for (dir, name, path, found, ref_name) in [
        ("/l", "busybox", "/l/index.docker.io/library/busybox/latest", None, "latest"),
        ("/l", "me/app:1", "/l/index.docker.io/me/app/1", None, "1"),
        ("/l", "127.0.0.1:5000/a/b:c", "/l/127.0.0.1:5000/a/b/c", None, "c"),
        ("/l", &format!("r.io/app@{digest}"), &format!("/l/r.io/app/sha256/{hex}"), Some(digest), &digest.to_string()),
        ("/l", &format!("/l/r.io/app/x@{digest}"), "/l/r.io/app/x", Some(digest), "x"),
        ("/l", "/l/r.io/app/x", "/l/r.io/app/x", None, "x"),
        ("/l@1", &format!("/l@1/h:5/app/x@{digest}"), "/l@1/h:5/app/x", Some(digest), "x"),
        ("/l@1", "/l@1/h:5/app/x", "/l@1/h:5/app/x", None, "x"),
        ("lay", "layers/app:x", "lay/index.docker.io/layers/app/x", None, "x"),
        ("lay", &format!("lay/r.io/app/x@{digest}"), "lay/r.io/app/x", Some(digest), "x"),
        ("", "r.io/app:x", "r.io/app/x", None, "x"),
    ] {
        let expected =
            Place { name: name.to_owned(), path: PathBuf::from(path), digest: found, ref_name: ref_name.to_owned() };
        assert_eq!(place(dir, name).unwrap_or_else(|error| panic!("{error}")), expected);
    }
    let store = LayoutStore::new(Path::new("/l"));
    assert_eq!(store.shown_name("me/app:1"), "/l/index.docker.io/me/app/1");
    assert_eq!(store.shown_name("!"), "!");
    for (dir, name) in [("/l", "/l/../etc"), ("/l", "/etc/app"), ("/l", "r.io/../../etc"), ("/l", "a@sha256:1")] {
        assert!(matches!(place(dir, name), Err(StoreError::Name { .. })), "{name}");
    }
}

#[test]
fn an_image_in_another_layout_directory_is_read_but_not_written() {
    let (setup, other) = (setup(), setup());
    let image = setup.image("amd64", &["a"]);
    setup.push("reg.io/app:x", &image).expect("pushed");
    let path = setup.path("reg.io/app:x").display().to_string();
    for name in [path.clone(), format!("{path}@{}", image.manifest.digest)] {
        let read = other.store.open(&name, &target("amd64")).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(read.manifest.digest, image.manifest.digest, "{name}");
        other.store.check_read(&name).expect("a place");
        assert!(matches!(other.push(&name, &image), Err(StoreError::Name { .. })), "{name}");
    }
    let gone = format!("{path}@{}", Digest::of(b"gone"));
    assert!(matches!(other.store.open(&gone, &target("amd64")), Err(StoreError::NotFound { .. })));
    let up = format!("{path}/../x");
    assert!(matches!(other.store.open(&up, &target("amd64")), Err(StoreError::Name { .. })));
}

#[test]
fn the_files_of_a_layout() {
    let setup = setup();
    let image = setup.image("arm64", &["a"]);
    setup.push("app:v1", &image).expect("pushed");
    let path = setup.path("app:v1");
    assert_eq!(setup.files(&path), ["blobs", "index.json", "oci-layout"], "and nothing temporary");
    assert_eq!(setup.files(&path.join("blobs/sha256")).len(), 3);
    let layout: Value = serde_json::from_slice(&fs::read(path.join("oci-layout")).expect("read")).expect("JSON");
    assert_eq!(layout, json!({"imageLayoutVersion": "1.0.0"}));
    assert_eq!(
        setup.index("app:v1"),
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": image.manifest.digest.to_string(),
                "size": image.manifest.bytes.len(),
                "annotations": {"org.opencontainers.image.ref.name": "v1"},
                "platform": {"os": "linux", "architecture": "arm64"},
            }],
        })
    );
}

#[test]
fn blobs_are_linked_and_readable() {
    let setup = setup();
    let app = setup.image("amd64", &["a"]);
    let inode = fs::metadata(setup.dir.path().join("a.spool")).expect("there").ino();
    setup.push("app:1", &app).expect("pushed");
    let path = setup.blob("app:1", &Digest::of(b"a"));
    let found = fs::metadata(&path).expect("there");
    assert_eq!(found.ino(), inode);
    let others = fs::metadata(setup.path("app:1").join("index.json")).expect("there");
    assert_eq!(found.mode() & 0o777, others.mode() & 0o777, "as readable as the rest");
    let on_top = Draft::based_on(setup.store.open("app:1", &target("amd64")).expect("there"));
    setup.push("other/app:2", &on_top.finish().expect("an image")).expect("pushed");
    let linked = fs::metadata(setup.blob("other/app:2", &Digest::of(b"a"))).expect("there");
    assert_eq!(linked.ino(), inode);
}

#[test]
fn a_base_without_its_layers_blobs() {
    let setup = setup();
    let base = setup.image("amd64", &["a", "b"]);
    setup.push("run", &base).expect("pushed");
    fs::remove_file(setup.blob("run", &Digest::of(b"a"))).expect("removed");
    fs::write(setup.blob("run", &Digest::of(b"b")), "shorter or longer").expect("written");
    let base = setup.store.open("run", &target("amd64")).expect("still an image");
    assert!(base.layers.iter().all(|layer| matches!(layer.source, Source::Absent)));
    assert!(!setup.store.has_blob(&base.layers[0]).expect("looked for"));
    assert!(matches!(setup.store.read_blob(&base.layers[0]), Err(StoreError::BlobNotFound { .. })));
    let app = Draft::based_on(base).with_layer(setup.layer("c"), "").finish().expect("an image");
    setup.push("app", &app).expect("pushed");
    let app = setup.store.open("app", &target("amd64")).expect("there");
    let absent: Vec<bool> = app.layers.iter().map(|layer| matches!(layer.source, Source::Absent)).collect();
    assert_eq!(absent, [true, true, false]);
}

#[test]
fn a_blob_with_other_content_is_noticed_when_it_is_read() {
    let setup = setup();
    let image = setup.image("amd64", &["abc"]);
    setup.push("app", &image).expect("pushed");
    fs::write(setup.blob("app", &Digest::of(b"abc")), "xyz").expect("written");
    let image = setup.store.open("app", &target("amd64")).expect("there");
    let mut reader = setup.store.read_blob(&image.layers[0]).expect("opened");
    let error = reader.read_to_end(&mut Vec::new()).expect_err("other content");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn damaged_layouts() {
    type Damage = fn(&Setup, &Image);
    let remove: Damage = |setup, _| fs::remove_file(setup.path("app").join("index.json")).expect("removed");
    let cases: [(Damage, &str); 9] = [
        (remove, "not found"),
        (|setup, _| setup.set_index("app", &[]), "not found"),
        (|setup, _| fs::write(setup.path("app").join("index.json"), "{").expect("written"), "unusable manifest"),
        (|setup, _| fs::write(setup.path("app").join("index.json"), "\u{0}").expect("written"), "unusable manifest"),
        (|setup, image| fs::remove_file(setup.blob("app", &image.manifest.digest)).expect("removed"), "is not there"),
        (
            |setup, image| fs::remove_file(setup.blob("app", &image.manifest.config.digest)).expect("removed"),
            "is not there",
        ),
        (
            |setup, image| fs::write(setup.blob("app", &image.manifest.digest), "{}").expect("written"),
            "it should be sha256:",
        ),
        (
            |setup, image| fs::write(setup.blob("app", &image.manifest.config.digest), "{}").expect("written"),
            "it should be sha256:",
        ),
        (
            |setup, image| {
                let long = vec![b' '; LARGEST_DOCUMENT as usize + 1];
                fs::write(setup.blob("app", &image.manifest.digest), long).expect("written");
            },
            "larger than 8 MiB",
        ),
    ];
    for (damage, text) in cases {
        let setup = setup();
        let image = setup.image("amd64", &["a"]);
        setup.push("app", &image).expect("pushed");
        damage(&setup, &image);
        let error = setup.store.open("app", &target("amd64")).expect_err(text);
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(format!("{error}: {cause}").contains(text), "{error}: {cause}");
        setup.push("app", &image).expect("it can be replaced");
        setup.store.open("app", &target("amd64")).expect("and is whole again");
    }
}

#[test]
fn one_of_several_entries() {
    let setup = setup();
    let (amd64, arm64) = (setup.image("amd64", &["a"]), setup.image("arm64", &["b"]));
    setup.push("app", &amd64).expect("pushed");
    setup.push("app", &arm64).expect("pushed");
    let open = |arch: &str| setup.store.open("app", &target(arch)).map(|image| image.manifest.digest);
    assert_eq!(open("amd64").expect("the only one"), arm64.manifest.digest);

    let platform = |arch: &str| json!({"os": "linux", "architecture": arch});
    let named = |entry: Value, name: &str| with(entry, "annotations", json!({ REF_NAME: name }));
    let index_of = |entries: Vec<Value>| {
        let index = json!({"schemaVersion": 2, "mediaType": Format::Oci.index(), "manifests": entries}).to_string();
        let (digest, size) = setup.put("app", index.as_bytes());
        json!({"mediaType": Format::Oci.index(), "digest": digest.to_string(), "size": size})
    };
    let (amd64_entry, arm64_entry) = (entry(&amd64), entry(&arm64));
    let both = || {
        vec![
            with(amd64_entry.clone(), "platform", platform("amd64")),
            with(arm64_entry.clone(), "platform", platform("arm64")),
        ]
    };
    for entries in [
        both(),
        // Without platforms, the configs know.
        vec![amd64_entry.clone(), arm64_entry.clone()],
        vec![index_of(both())],
        vec![named(index_of(both()), "latest"), named(amd64_entry.clone(), "other")],
        vec![
            index_of(both()),
            json!({"mediaType": Format::Oci.index(), "digest": index_of(vec![])["digest"], "size": index_of(vec![])["size"]}),
        ],
    ] {
        setup.set_index("app", &entries);
        assert_eq!(open("amd64").expect("amd64"), amd64.manifest.digest, "{entries:?}");
        assert_eq!(open("arm64").expect("arm64"), arm64.manifest.digest, "{entries:?}");
        let error = open("s390x").expect_err("there is none");
        assert_eq!(
            error.to_string(),
            "app: no image for linux/s390x; there are linux/amd64, linux/arm64",
            "{entries:?}"
        );
    }
    setup.set_index("app", &[named(amd64_entry.clone(), "other"), named(arm64_entry.clone(), "latest")]);
    assert_eq!(open("amd64").expect("the one with the tag's name"), arm64.manifest.digest);

    // The child of an index that is named by its digest.
    let index = index_of(both());
    let name = format!("{}@{}", setup.path("app").display(), index["digest"].as_str().expect("text"));
    let image = setup.store.open(&name, &target("amd64")).expect("the child");
    assert_eq!(image.identifier, format!("{}@{}", setup.path("app").display(), amd64.manifest.digest));
}

#[test]
fn others_entries_stay() {
    let setup = setup();
    let (old, new) = (setup.image("amd64", &["a"]), setup.image("amd64", &["b"]));
    setup.push("app:v1", &old).expect("pushed");
    let others = with(entry(&old), "annotations", json!({ REF_NAME: "others", "x": "y" }));
    setup.set_index(
        "app:v1",
        &[others.clone(), entry(&old), with(entry(&old), "annotations", json!({ REF_NAME: "v1" }))],
    );
    setup.push("app:v1", &new).expect("pushed");
    let index = setup.index("app:v1");
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2));
    assert_eq!(index["manifests"][0], others);
    assert_eq!(index["manifests"][1]["digest"], new.manifest.digest.to_string());
}

#[test]
fn what_a_killed_writer_left_is_removed_and_the_old_image_stands() {
    let setup = setup();
    let old = setup.image("amd64", &["a"]);
    setup.push("app", &old).expect("pushed");
    let blobs = setup.path("app").join("blobs/sha256");
    for left in [blobs.join(".abc.1-2.tmp"), setup.path("app").join(".index.json.7-0.tmp")] {
        fs::write(left, "half").expect("written");
    }
    let new = setup.image("amd64", &["b"]);
    let push = setup.store.push("app", &[]).expect("begun");
    push.layer(&new.layers[0]).expect("sent");
    assert_eq!(setup.files(&setup.path("app")), ["blobs", "index.json", "oci-layout"]);
    assert!(setup.files(&blobs).iter().all(|name| !name.starts_with('.')));
    drop(push);
    let found = setup.store.open("app", &target("amd64")).expect("the old one");
    assert_eq!(found.manifest.digest, old.manifest.digest);
}

#[test]
fn two_writers_wait_for_each_other() {
    let setup = setup();
    let images = [setup.image("amd64", &["a"]), setup.image("amd64", &["b"])];
    let first = setup.store.push("app", &[]).expect("begun");
    std::thread::scope(|scope| {
        let second = scope.spawn(|| setup.push("app", &images[1]));
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!second.is_finished(), "the layout is locked");
        first.finish(&images[0]).expect("finished");
        second.join().expect("no panic").expect("pushed");
    });
    let found = setup.store.open("app", &target("amd64")).expect("there");
    assert_eq!(found.manifest.digest, images[1].manifest.digest);
}

#[test]
fn one_name_that_cannot_be_written_does_not_stop_the_others() {
    let setup = setup();
    let image = setup.image("amd64", &["a"]);
    let occupied = setup.path("occupied");
    fs::create_dir_all(occupied.parent().expect("a parent")).expect("made");
    fs::write(&occupied, "a file").expect("written");
    let also = ["occupied", "!", "good"].map(str::to_owned);
    let pushed = setup.store.push("app", &also).expect("begun").finish(&image).expect("finished");
    let results: Vec<bool> = pushed.names.iter().map(|(_, result)| result.is_ok()).collect();
    assert_eq!(results, [true, false, false, true]);
    setup.store.open("good", &target("amd64")).expect("there");
    let error = setup.store.push("occupied", &[]).err().expect("no directory");
    assert!(error.to_string().starts_with("create directory "), "{error}");
}

#[test]
fn a_digest_names_only_the_image_that_has_it() {
    let setup = setup();
    let (image, other) = (setup.image("amd64", &["a"]), setup.image("amd64", &["b"]));
    let name = format!("reg.io/app@{}", image.manifest.digest);
    let text = format!("parse image reference {name:?}: the image's digest is {}", other.manifest.digest);
    let refused = setup.push(&name, &other).expect_err("another image");
    assert_eq!(refused.to_string(), text);
    assert!(matches!(setup.store.open(&name, &target("amd64")), Err(StoreError::NotFound { .. })));
    let also = setup.store.push("reg.io/app", std::slice::from_ref(&name)).expect("begun").finish(&other);
    let also: Vec<_> = also.expect("pushed").names.into_iter().map(|(_, named)| named.is_ok()).collect();
    assert_eq!(also, [true, false], "the other name stands");
    setup.push(&name, &image).expect("its own digest");
    assert_eq!(setup.store.open(&name, &target("amd64")).expect("there").manifest.digest, image.manifest.digest);
}

fn child(setup: &Setup, name: &str, image: &Image) -> IndexChild {
    let pushed = setup.store.push(name, &[]).expect("begun").finish_untagged(image).expect("pushed");
    assert!(pushed.names.iter().all(|(_, result)| result.is_ok()));
    IndexChild::of(image, None)
}

fn merge(setup: &Setup, name: &str, image: &Image) -> WrittenIndex {
    let child = child(setup, name, image);
    setup.store.write_index(name, &IndexChange::Merge(&[child])).expect("merged")
}

#[test]
fn an_index_is_one_entry_that_points_at_a_blob() {
    let setup = setup();
    let (amd64, arm64) = (setup.image("amd64", &["a"]), setup.image("arm64", &["b"]));
    child(&setup, "app", &amd64);
    assert!(!setup.path("app").join("index.json").exists(), "an unnamed image has no entry");
    merge(&setup, "app", &amd64);
    let written = merge(&setup, "app", &arm64);
    let index = setup.index("app");
    let entries = index["manifests"].as_array().expect("entries");
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["digest"], written.digest.to_string());
    assert_eq!(entries[0]["mediaType"], Format::Oci.index());
    assert_eq!(entries[0]["annotations"][REF_NAME], "latest");
    let bytes = fs::read(setup.blob("app", &written.digest)).expect("a blob");
    assert_eq!(Index::parse(bytes, "").expect("an index").platforms(), ["linux/amd64", "linux/arm64"]);
}

#[test]
fn several_entries_are_merged_and_written_as_one() {
    let setup = setup();
    let (amd64, arm64, new) =
        (setup.image("amd64", &["a"]), setup.image("arm64", &["b"]), setup.image("arm64", &["c"]));
    let other = setup.image("s390x", &["d"]);
    for image in [&amd64, &arm64, &other] {
        child(&setup, "app", image);
    }
    // As other tools write them: one without a platform, one with the name, one of another name.
    let named = |image: &Image, name: &str| with(entry(image), "annotations", json!({ REF_NAME: name }));
    let platform = json!({ "os": "linux", "architecture": "arm64", "variant": "v8" });
    let stated = with(named(&arm64, "latest"), "platform", platform);
    setup.set_index("app", &[entry(&amd64), stated, named(&other, "other")]);
    let Document::Index(held) = setup.store.document("app").expect("read") else { panic!("an index") };
    assert_eq!(held.platforms(), ["linux/amd64", "linux/arm64"]);
    assert_eq!(held.children[1].blob.other.get("annotations"), None, "the name is the entry's, not the child's");
    let written = merge(&setup, "app", &new);
    let digests: Vec<Digest> = written.children.iter().map(|child| child.blob.digest).collect();
    assert_eq!(digests, [amd64.manifest.digest, new.manifest.digest]);
    let index = setup.index("app");
    let entries = index["manifests"].as_array().expect("entries");
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0]["annotations"][REF_NAME], "other", "an image of another name stays");
    assert_eq!(entries[1]["digest"], written.digest.to_string());
}

#[test]
fn children_that_are_merged_at_once_all_stand() {
    let setup = setup();
    let architectures = ["amd64", "arm64", "s390x", "ppc64le", "riscv64", "386"];
    let images = architectures.map(|arch| setup.image(arch, &[arch]));
    std::thread::scope(|scope| {
        for image in &images {
            // Each with a store of its own, as another process.
            let store = LayoutStore::new(&setup.store.dir);
            scope.spawn(move || {
                store.push("app", &[]).expect("begun").finish_untagged(image).expect("pushed");
                store.write_index("app", &IndexChange::Merge(&[IndexChild::of(image, None)])).expect("merged");
            });
        }
    });
    let Document::Index(index) = setup.store.document("app").expect("read") else { panic!("an index") };
    assert_eq!(index.children.len(), architectures.len());
}

#[test]
fn a_rewrite_begins_again_if_the_layout_was_changed_meanwhile() {
    let setup = setup();
    let (amd64, arm64) = (setup.image("amd64", &["a"]), setup.image("arm64", &["b"]));
    merge(&setup, "app", &amd64);
    let seen = std::sync::Mutex::new(Vec::new());
    let make = |held: Option<&Document>| {
        let Some(Document::Index(index)) = held else { panic!("an index") };
        let mut seen = seen.lock().expect("no panic");
        seen.push(index.platforms());
        if seen.len() == 1 {
            merge(&setup, "app", &arm64);
        }
        Ok(Index::of(
            index.children.clone(),
            serde_json::Map::from_iter([("annotations".to_owned(), json!({"a": "b"}))]),
        ))
    };
    let written = setup.store.write_index("app", &IndexChange::Rewrite(&make)).expect("written");
    assert_eq!(written.children.len(), 2);
    assert_eq!(seen.into_inner().expect("no panic"), [vec!["linux/amd64"], vec!["linux/amd64", "linux/arm64"]]);
}

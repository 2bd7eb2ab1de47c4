//! What every store must do: tests that run on each of them.
//!
//! A store's own tests call [`run`] with names in which nothing is yet.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use platform_spec::target::Target;

use super::{
    Child, Document, Draft, Format, Image, Index, IndexChange, IndexChild, IndexError, Layer, Source, Store,
    StoreError, WrittenIndex,
};
use crate::digest::Digest;
use crate::layer::Spool;

/// A store under test.
pub struct Subject<'a> {
    /// The store.
    pub store: &'a dyn Store,
    /// Begins all names: `localhost:5000/some-run`. Names get further parts: repositories below it, tags.
    pub prefix: &'a str,
    /// Where temporary files may be made; removed by the caller.
    pub temp: &'a Path,
    /// Whether manifests can be deleted (registries often refuse).
    pub deletes: bool,
}

/// Runs every test; panics at the first that fails.
pub fn run(subject: &Subject<'_>) {
    subject.a_missing_image_is_not_found();
    subject.text_that_is_no_name_is_refused();
    subject.what_was_pushed_can_be_opened();
    subject.a_push_under_several_names();
    subject.the_same_push_gives_the_same_digest();
    subject.layers_may_come_from_threads_or_not_at_all();
    subject.an_image_on_top_of_another_repositorys();
    subject.nothing_is_visible_before_the_end();
    subject.an_image_that_does_not_fit_is_refused();
    subject.a_layer_that_nobody_has_is_an_error();
    subject.replaced_images_can_be_opened_by_digest();
    subject.deleting();
    subject.an_untagged_image_is_there_by_its_digest();
    subject.children_meet_in_an_index();
    subject.an_image_at_the_tag_becomes_a_child();
    subject.an_index_is_rewritten();
    subject.what_cannot_be_an_index();
}

/// The target of the images that these tests make.
fn target() -> Target {
    Target { os: "linux".to_owned(), arch: "arm64".to_owned(), ..Target::default() }
}

impl Subject<'_> {
    fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.prefix)
    }

    /// A layer in a temporary file. Its "compressed" blob is not really so: stores pass on bytes.
    fn layer(&self, text: &str) -> Layer {
        let blob = format!("blob of {text} for {}", self.prefix).into_bytes();
        let mut file = tempfile::tempfile_in(self.temp).expect("a temporary file");
        file.write_all(&blob).expect("written");
        Layer::packed(Digest::of(text.as_bytes()), Arc::new(Spool::new(file, Digest::of(&blob), blob.len() as u64)))
    }

    fn image(&self, layers: &[&str]) -> Image {
        let draft = Draft::empty("linux", "arm64", "").edit(|config| config.set_label("for", self.prefix));
        let add = |draft: Draft, text: &&str| draft.with_layer(self.layer(text), *text);
        layers.iter().fold(draft, add).finish().expect("an image")
    }

    fn push(&self, name: &str, also: &[String], image: &Image) -> super::Pushed {
        let push = self.store.push(name, also).expect("a push begins");
        for layer in &image.layers {
            push.layer(layer).expect("a layer is sent");
        }
        let pushed = push.finish(image).expect("a push ends");
        for (name, result) in &pushed.names {
            assert!(result.is_ok(), "{name}: {result:?}");
        }
        pushed
    }

    fn open(&self, name: &str) -> Image {
        self.store.open(name, &target()).unwrap_or_else(|error| panic!("open {name}: {error}"))
    }

    /// The image is there, whole, and is the one that was pushed.
    fn assert_there(&self, name: &str, image: &Image) {
        let opened = self.open(name);
        assert_eq!(opened.manifest, image.manifest, "{name}");
        assert_eq!(opened.config.bytes(), image.config.bytes(), "{name}");
        super::validate::image(&opened).unwrap_or_else(|error| panic!("{name}: {error}"));
        for layer in &opened.layers {
            let blob = layer.blob.as_ref().expect("a layer that was read has a blob");
            assert!(self.store.has_blob(layer).expect("looked for"), "{name}: {}", layer.diff_id);
            let mut bytes = Vec::new();
            let mut reader = self.store.read_blob(layer).expect("a blob is opened");
            reader.read_to_end(&mut bytes).expect("a blob is read");
            assert_eq!(Digest::of(&bytes), blob.digest, "{name}");
        }
    }

    fn a_missing_image_is_not_found(&self) {
        for name in [self.name("missing"), self.name("missing:tag"), self.name(&format!("missing@{}", Digest::of(b"")))]
        {
            let error = self.store.open(&name, &target()).expect_err(&name);
            assert!(matches!(error, StoreError::NotFound { .. }), "{name}: {error:?}");
            assert!(error.counts_as_absent());
            self.store.check_read(&name).expect("a missing image can be read");
        }
        self.store.check_write(&self.name("missing")).expect("a missing image can be written");
    }

    fn text_that_is_no_name_is_refused(&self) {
        for name in ["", "!@#$", &self.name("app:"), &self.name("App"), &self.name("../app")] {
            let is_name = |error: &StoreError| matches!(error, StoreError::Name { .. });
            assert!(self.store.open(name, &target()).is_err_and(|error| is_name(&error)), "{name}");
            assert!(self.store.check_read(name).is_err_and(|error| is_name(&error)), "{name}");
            assert!(self.store.check_write(name).is_err_and(|error| is_name(&error)), "{name}");
            assert!(self.store.push(name, &[]).is_err_and(|error| is_name(&error)), "{name}");
        }
    }

    fn what_was_pushed_can_be_opened(&self) {
        let (name, image) = (self.name("pushed"), self.image(&["a", "b"]));
        let pushed = self.push(&name, &[], &image);
        assert_eq!(pushed.digest, image.manifest.digest);
        assert_eq!(pushed.manifest_size, image.manifest.bytes.len() as u64);
        assert_eq!(pushed.names.iter().map(|(name, _)| name).collect::<Vec<_>>(), [&name]);
        for name in [name.clone(), format!("{name}:latest"), pushed.identifier.clone()] {
            self.assert_there(&name, &image);
            assert_eq!(self.open(&name).identifier, pushed.identifier);
        }
        assert!(pushed.identifier.ends_with(&format!("@{}", image.manifest.digest)), "{}", pushed.identifier);
    }

    fn a_push_under_several_names(&self) {
        let image = self.image(&["a", "c"]);
        let (first, also) = (self.name("several:1"), [self.name("several:2"), self.name("several-more:3")]);
        let pushed = self.push(&first, &also, &image);
        let names: Vec<&String> = pushed.names.iter().map(|(name, _)| name).collect();
        assert_eq!(names, [&first, &also[0], &also[1]], "in the order given");
        for name in names {
            self.assert_there(name, &image);
        }
        let same = self.push(&first, std::slice::from_ref(&first), &image);
        assert_eq!(same.names.len(), 2, "a name given twice is written, not waited for");
    }

    fn the_same_push_gives_the_same_digest(&self) {
        let name = self.name("again");
        let image = self.image(&["a", "d"]);
        let first = self.push(&name, &[], &image);
        let second = self.push(&name, &[], &self.image(&["a", "d"]));
        assert_eq!((first.digest, first.identifier), (second.digest, second.identifier));
        self.assert_there(&name, &image);
    }

    fn layers_may_come_from_threads_or_not_at_all(&self) {
        let (name, image) = (self.name("threads"), self.image(&["e", "f", "g", "h", "i"]));
        let push = self.store.push(&name, &[]).expect("a push begins");
        std::thread::scope(|scope| {
            for layer in image.layers.iter().rev().take(3) {
                let push = &push;
                for _ in 0..2 {
                    scope.spawn(move || push.layer(layer).expect("a layer is sent"));
                }
            }
        });
        push.finish(&image).expect("what was not sent before is sent at the end");
        self.assert_there(&name, &image);
    }

    fn an_image_on_top_of_another_repositorys(&self) {
        self.push(&self.name("base"), &[], &self.image(&["j", "k"]));
        let base = self.open(&self.name("base"));
        let (reused, name) = (base.layers[0].clone(), self.name("on-base/app"));
        let draft = Draft::based_on(base).with_layer(self.layer("l"), "l").with_layer(reused, "again");
        let image = draft.edit(|config| config.set_env("A", "b")).finish().expect("an image");
        self.push(&name, &[], &image);
        self.assert_there(&name, &image);
    }

    fn nothing_is_visible_before_the_end(&self) {
        let (name, new) = (self.name("begun"), self.image(&["n"]));
        let begin = || {
            let push = self.store.push(&name, &[]).expect("a push begins");
            push.layer(&new.layers[0]).expect("a layer is sent");
        };
        begin();
        assert!(matches!(self.store.open(&name, &target()), Err(StoreError::NotFound { .. })));
        let old = self.image(&["m"]);
        self.push(&name, &[], &old);
        begin();
        self.assert_there(&name, &old);
    }

    fn an_image_that_does_not_fit_is_refused(&self) {
        let name = self.name("unfit");
        let mut image = self.image(&["o", "p"]);
        image.config.set_label("changed", "after the manifest was made");
        let push = self.store.push(&name, &[]).expect("a push begins");
        let error = push.finish(&image).expect_err("it does not fit");
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        assert!(matches!(self.store.open(&name, &target()), Err(StoreError::NotFound { .. })));
    }

    fn a_layer_that_nobody_has_is_an_error(&self) {
        let mut lost = self.layer("q");
        let Some(blob) = &lost.blob else { panic!("a packed layer") };
        let empty = tempfile::tempfile_in(self.temp).expect("a temporary file");
        lost.source = Source::Packed(Arc::new(Spool::new(empty, blob.digest, blob.size)));
        let push = self.store.push(&self.name("lost"), &[]).expect("a push begins");
        push.layer(&lost).expect_err("the blob is gone");
        let image = Draft::empty("linux", "arm64", "").with_layer(lost.clone(), "q").finish().expect("an image");
        match push.finish(&image) {
            Err(_) => {}
            Ok(pushed) => assert!(pushed.names.iter().all(|(_, result)| result.is_err())),
        }
        assert!(matches!(self.store.open(&self.name("lost"), &target()), Err(StoreError::NotFound { .. })));
    }

    fn replaced_images_can_be_opened_by_digest(&self) {
        let name = self.name("replaced");
        let old = self.image(&["r"]);
        let identifier = self.push(&name, &[], &old).identifier;
        let new = self.image(&["s"]);
        self.push(&name, &[], &new);
        self.assert_there(&name, &new);
        self.assert_there(&identifier, &old);
    }

    fn deleting(&self) {
        if !self.deletes {
            return;
        }
        let (name, image) = (self.name("deleted"), self.image(&["t"]));
        let digest = self.push(&name, &[], &image).digest;
        self.store.delete(&name, &digest).expect("deleted");
        assert!(matches!(self.store.open(&name, &target()), Err(StoreError::NotFound { .. })));
        assert!(matches!(self.store.delete(&name, &digest), Err(StoreError::NotFound { .. })));
    }

    /// An image for an architecture.
    fn image_for(&self, arch: &str, text: &str) -> Image {
        let draft = Draft::empty("linux", arch, "").edit(|config| config.set_label("for", self.prefix));
        draft.with_layer(self.layer(text), text).finish().expect("an image")
    }

    /// Pushes an image without naming it.
    fn push_child(&self, name: &str, image: &Image) -> IndexChild {
        let push = self.store.push(name, &[]).expect("a push begins");
        let pushed = push.finish_untagged(image).expect("a push ends");
        assert!(pushed.names.iter().all(|(_, result)| result.is_ok()), "{name}: {:?}", pushed.names);
        assert_eq!((pushed.digest, pushed.manifest_size), (image.manifest.digest, image.manifest.bytes.len() as u64));
        IndexChild::of(image, None)
    }

    fn merge(&self, name: &str, children: &[IndexChild]) -> WrittenIndex {
        let written = self.store.write_index(name, &IndexChange::Merge(children));
        written.unwrap_or_else(|error| panic!("{name}: {}", lifecycle_launch::console::chain(&error)))
    }

    /// The name is this index and nothing else, and all of its children are there.
    fn assert_index(&self, name: &str, written: &WrittenIndex, images: &[&Image]) {
        let Document::Index(index) = self.store.document(name).expect("it is there") else {
            panic!("{name}: no index")
        };
        assert_eq!((index.digest, index.bytes.len() as u64), (written.digest, written.size), "{name}");
        assert_eq!((&index.media_type, &index.children), (&written.media_type, &written.children), "{name}");
        assert_eq!((&written.overridden, written.name.as_str()), (&Vec::new(), name));
        let digests = |children: &[Child]| children.iter().map(|child| child.blob.digest).collect::<Vec<_>>();
        assert_eq!(
            digests(&index.children),
            images.iter().map(|image| image.manifest.digest).collect::<Vec<_>>(),
            "{name}"
        );
        for image in images {
            let (digest, config) = (&image.manifest.digest, &image.config);
            let by_digest = self.store.name_by_digest(name, digest).expect("a name");
            let target = Target {
                os: config.os().to_owned(),
                arch: config.architecture().to_owned(),
                variant: config.variant().to_owned(),
                ..Target::default()
            };
            for name in [name, &by_digest] {
                let opened = self.store.open(name, &target).unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(opened.manifest, image.manifest, "{name}");
            }
            assert_eq!(self.store.document(&by_digest).expect("read").digest(), *digest);
        }
    }

    fn an_untagged_image_is_there_by_its_digest(&self) {
        let (name, image) = (self.name("untagged"), self.image(&["u"]));
        self.push_child(&name, &image);
        assert!(matches!(self.store.open(&name, &target()), Err(StoreError::NotFound { .. })));
        assert!(matches!(self.store.document(&name), Err(StoreError::NotFound { .. })));
        let by_digest = self.store.name_by_digest(&name, &image.manifest.digest).expect("a name");
        self.assert_there(&by_digest, &image);
        // What the tag holds stays.
        self.push(&name, &[], &image);
        self.push_child(&name, &self.image(&["v"]));
        self.assert_there(&name, &image);
        // Several names, one of them in another repository.
        let also = [self.name("untagged:2"), self.name("untagged-more")];
        let pushed = self.store.push(&name, &also).expect("begun").finish_untagged(&image).expect("ended");
        let names: Vec<(&String, bool)> = pushed.names.iter().map(|(name, result)| (name, result.is_ok())).collect();
        assert_eq!(names, [(&name, true), (&also[0], true), (&also[1], true)]);
        let there = self.store.name_by_digest(&also[1], &image.manifest.digest).expect("a name");
        self.assert_there(&there, &image);
    }

    fn children_meet_in_an_index(&self) {
        let (one, other) = (self.name("index:1"), self.name("index:2"));
        let (amd64, arm64, s390x) =
            (self.image_for("amd64", "w"), self.image_for("arm64", "x"), self.image_for("s390x", "y"));
        for name in [&one, &other] {
            let mut images = vec![&amd64, &arm64, &s390x];
            if name == &other {
                images.reverse();
            }
            for image in images {
                let child = self.push_child(name, image);
                self.merge(name, &[child]);
            }
        }
        let children = [&amd64, &arm64, &s390x].map(|image| IndexChild::of(image, None));
        let written = self.merge(&one, &children);
        self.assert_index(&one, &written, &[&amd64, &arm64, &s390x]);
        let same = self.merge(&other, &children[..1]);
        assert_eq!(same.digest, written.digest, "it does not depend on who came first");
        assert_eq!(written.media_type, Format::Oci.index());
        // One is replaced, and several are merged at once.
        let new = self.image_for("arm64", "z");
        let child = self.push_child(&one, &new);
        let written = self.merge(&one, &[child.clone(), children[2].clone()]);
        self.assert_index(&one, &written, &[&amd64, &new, &s390x]);
    }

    fn an_image_at_the_tag_becomes_a_child(&self) {
        for (tag, arch, replaced) in [("same", "arm64", true), ("another", "riscv64", false)] {
            let name = self.name(&format!("single:{tag}"));
            let (old, new) = (self.image_for(arch, "aa"), self.image_for("arm64", "bb"));
            self.push(&name, &[], &old);
            let child = self.push_child(&name, &new);
            let written = self.merge(&name, &[child]);
            let both = [&new, &old];
            self.assert_index(&name, &written, if replaced { &both[..1] } else { &both });
        }
    }

    fn an_index_is_rewritten(&self) {
        let name = self.name("rewritten");
        let (amd64, arm64) = (self.image_for("amd64", "cc"), self.image_for("arm64", "dd"));
        let rewrite = |make: &super::index::Rewrite<'_>| self.store.write_index(&name, &IndexChange::Rewrite(make));
        let written = rewrite(&|held| {
            assert!(held.is_none());
            Ok(Index::fresh(&[self.push_child(&name, &amd64), self.push_child(&name, &arm64)]))
        });
        self.assert_index(&name, &written.expect("written"), &[&amd64, &arm64]);
        // Each child by another: children are pushed from within.
        let new = self.image_for("arm64", "ee");
        let written = rewrite(&|held| {
            let Some(Document::Index(index)) = held else { panic!("an index") };
            let child = self.push_child(&name, &new);
            Ok(index.with_children_replaced(|old| (old.blob.digest == arm64.manifest.digest).then(|| child.clone())))
        });
        self.assert_index(&name, &written.expect("written"), &[&amd64, &new]);
        let error = rewrite(&|_| Err("there is no such run image".into())).expect_err("not made");
        assert!(matches!(error, IndexError::Rewrite { .. }), "{error:?}");
        let written = rewrite(&|_| Ok(Index::fresh(&[IndexChild::of(&new, None)])));
        self.assert_index(&name, &written.expect("written"), &[&new]);
    }

    fn what_cannot_be_an_index(&self) {
        let image = self.image(&["ff"]);
        let child = self.push_child(&self.name("no-index"), &image);
        let name = self.name(&format!("no-index@{}", image.manifest.digest));
        let error =
            self.store.write_index(&name, &IndexChange::Merge(std::slice::from_ref(&child))).expect_err("a digest");
        assert!(matches!(error, IndexError::Digest { .. }), "{error:?}");
        let error = self.store.write_index("!@#$", &IndexChange::Merge(&[child])).expect_err("no name");
        assert!(matches!(error, IndexError::Store { cause: StoreError::Name { .. }, .. }), "{error:?}");
    }
}

use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::AtomicBool;

use super::super::beneath::{Beneath, LIST, SEARCH};
use super::*;
use crate::layer::{Entry, Owner, extract::extract};

/// A layers directory with a layer of many kinds of files, and a directory for blobs.
struct Sample {
    dir: tempfile::TempDir,
    temp: PathBuf,
}

impl Sample {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let layer = dir.path().join("layers/bp/layer");
        fs::create_dir_all(layer.join("many")).expect("made");
        for number in 0..500 {
            fs::write(layer.join(format!("many/{number}")), vec![b'm'; number * 13]).expect("written");
        }
        let large: Vec<u8> = (0..4_000_000u32).map(|at| (at.wrapping_mul(at) >> 11) as u8).collect();
        fs::write(layer.join("large"), large).expect("written");
        fs::write(layer.join(OsStr::from_bytes(b"\xff\xfe")), "not UTF-8").expect("written");
        symlink("/etc/shadow", layer.join("link")).expect("linked");
        nix::sys::stat::mknod(&layer.join("socket"), nix::sys::stat::SFlag::S_IFSOCK, nix::sys::stat::Mode::S_IRWXU, 0)
            .expect("a socket");
        let fifo = layer.join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a fifo");
        fs::hard_link(layer.join("large"), layer.join("hard")).expect("linked");
        fs::set_permissions(layer.join("large"), fs::Permissions::from_mode(0o4750)).expect("chmod");
        let sparse = File::create(layer.join("sparse")).expect("created");
        sparse.set_len(5_000_000).expect("sized");
        sparse.write_all_at(b"middle", 2_345_678).expect("written");
        let temp = dir.path().join("temp");
        fs::create_dir(&temp).expect("made");
        Self { dir, temp }
    }

    fn recipe(&self) -> Recipe {
        Recipe::Directory {
            layers: self.dir.path().join("layers"),
            relative: "bp/layer".into(),
            owner: Owner { uid: 1234, gid: 3_000_000 },
        }
    }

    fn pipeline(&self, threads: usize) -> Pipeline {
        Pipeline::with_threads(&self.temp, threads)
    }

    fn left(&self) -> usize {
        fs::read_dir(&self.temp).expect("listed").count()
    }
}

#[test]
fn the_tar_has_everything_but_sockets() {
    let sample = Sample::new();
    let path = sample.dir.path().join("out.tar");
    let packed = sample.pipeline(2).pack(&sample.recipe(), Want { blob: false, tar: Some(&path) }).expect("packed");
    assert!(packed.blob.is_none());
    assert_eq!(Digest::of(&fs::read(&path).expect("there")), packed.diff_id);
    assert_eq!(fs::metadata(&path).expect("there").len(), packed.size);

    let layers = sample.dir.path().join("layers");
    let mut archive = ::tar::Archive::new(File::open(&path).expect("opened"));
    let mut entries = Vec::new();
    for entry in archive.entries().expect("entries") {
        let mut entry = entry.expect("readable");
        let path = entry.path().expect("a path").into_owned();
        let header = entry.header().clone();
        let owner = (header.uid().expect("a uid"), entry.header().gid().expect("a gid"));
        if path.starts_with(layers.join("bp/layer")) {
            assert_eq!(owner, (1234, 3_000_000), "{}", path.display());
        } else {
            assert_eq!(owner, (u64::from(nix::unistd::geteuid().as_raw()), u64::from(nix::unistd::getegid().as_raw())));
        }
        if header.entry_type().is_file() {
            let mut content = Vec::new();
            io::copy(&mut entry, &mut content).expect("read");
            assert!(content == fs::read(&path).expect("there"), "{}", path.display());
        }
        entries.push((path, header.entry_type()));
    }
    let type_of = |name: &[u8]| {
        let path = layers.join("bp/layer").join(OsStr::from_bytes(name));
        entries.iter().find(|(found, _)| *found == path).map(|(_, kind)| *kind)
    };
    assert_eq!(type_of(b"hard"), Some(::tar::EntryType::Regular));
    assert_eq!(type_of(b"large"), Some(::tar::EntryType::Regular));
    assert_eq!(type_of(b"\xff\xfe"), Some(::tar::EntryType::Regular));
    assert_eq!(type_of(b"fifo"), Some(::tar::EntryType::Fifo));
    assert_eq!(type_of(b"link"), Some(::tar::EntryType::Symlink));
    assert_eq!(type_of(b"socket"), None);
    let above = sample.dir.path().components().count() - 1;
    assert_eq!(entries.len(), above + 2 + 1 + 501 + 6);
    assert!(entries[..above].iter().all(|(path, _)| sample.dir.path().starts_with(path)));
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let sample = Sample::new();
    let path = sample.dir.path().join("out.tar");
    let first = sample.pipeline(1).pack(&sample.recipe(), Want { blob: true, tar: Some(&path) }).expect("packed");
    let blob = first.blob.expect("wanted");
    let mut bytes = Vec::new();
    io::copy(&mut blob.open(), &mut bytes).expect("read");
    assert_eq!((Digest::of(&bytes), bytes.len() as u64), (blob.digest, blob.size));
    assert_eq!(sample.left(), 0, "a killed process would leave nothing");
    for threads in [2, 3, 8] {
        let pipeline = sample.pipeline(threads);
        let digested = pipeline.digest(&sample.recipe(), None).expect("read");
        assert_eq!(digested, Digested { diff_id: first.diff_id, size: first.size, same: false });
        let packed = pipeline.pack(&sample.recipe(), Want { blob: true, tar: None }).expect("packed");
        let tar = File::open(&path).expect("opened");
        let compressed = pipeline.compress(&tar, &path).expect("compressed");
        for again in [packed, compressed] {
            assert_eq!((again.diff_id, again.size), (first.diff_id, first.size));
            assert_eq!(again.blob.map(|blob| (blob.digest, blob.size)), Some((blob.digest, blob.size)), "{threads}");
        }
    }
}

#[test]
fn a_tar_that_is_there_is_compared_byte_by_byte() {
    let sample = Sample::new();
    let path = sample.dir.path().join("out.tar");
    let pipeline = sample.pipeline(2);
    pipeline.pack(&sample.recipe(), Want { blob: false, tar: Some(&path) }).expect("packed");
    let same = || {
        let tar = File::open(&path).expect("opened");
        pipeline.digest(&sample.recipe(), Some(&tar)).expect("read").same
    };
    assert!(same());
    let file = OpenOptions::new().write(true).open(&path).expect("opened");
    let size = file.metadata().expect("there").len();
    for length in [size + 1, size - 1, 0] {
        file.set_len(length).expect("cut");
        assert!(!same(), "{length}");
    }
    fs::remove_file(&path).expect("removed");
    pipeline.pack(&sample.recipe(), Want { blob: false, tar: Some(&path) }).expect("packed");
    let file = OpenOptions::new().write(true).open(&path).expect("opened");
    file.write_all_at(b"?", size - 3_000_000).expect("written");
    assert!(!same());
    let directory = File::open(sample.dir.path()).expect("opened");
    assert!(!pipeline.digest(&sample.recipe(), Some(&directory)).expect("it is only compared").same);
}

#[test]
fn errors_name_the_file_and_leave_nothing() {
    let sample = Sample::new();
    let pipeline = sample.pipeline(2);
    let out = sample.dir.path().join("out.tar");
    let want = Want { blob: true, tar: Some(&out) };
    let entry = |from: &str| Recipe::Entries(vec![Entry::File { name: "/x".into(), from: from.into() }]);
    let layers = |path: &str| Recipe::Directory {
        layers: path.into(),
        relative: "bp/layer".into(),
        owner: Owner { uid: 0, gid: 0 },
    };
    let cases = [
        (entry("/no/such/launcher"), "stat /no/such/launcher: no such file or directory"),
        (entry("/proc/self/mem"), "read /x: input/output error"),
        (entry("/proc/self/status"), "/x changed while it was archived: 0 bytes, then 1"),
        (entry("/dev/null"), "/x was replaced while it was archived"),
        (layers("/no/such"), "stat /no: no such file or directory"),
        (layers("/etc"), "open /etc/bp: no such file or directory"),
        (layers("/etc/passwd"), "open /etc/passwd: not a directory"),
    ];
    for (recipe, expected) in cases {
        let error = pipeline.pack(&recipe, want).expect_err(expected);
        assert_eq!(error.to_string(), expected);
        assert!(!out.exists() && sample.left() == 0, "{expected}");
    }
    fs::write(&out, "mine").expect("written");
    let error = pipeline.pack(&sample.recipe(), want).expect_err("it exists").to_string();
    assert_eq!(error, format!("create {}: file exists", out.display()));
    assert_eq!(fs::read(&out).expect("there"), b"mine");
    assert_eq!(sample.left(), 0);
    let nowhere = Pipeline::with_threads(Path::new("/no/such/temp"), 2);
    let error = nowhere.pack(&sample.recipe(), Want { blob: true, tar: None }).expect_err("no directory").to_string();
    assert_eq!(error, "create a temporary file in /no/such/temp: no such file or directory");
    // After all these errors every buffer is back.
    pipeline.pack(&sample.recipe(), Want { blob: true, tar: None }).expect("packed");
}

#[test]
fn the_error_is_that_of_the_first_piece_in_order() {
    let sample = Sample::new();
    let layer = sample.dir.path().join("layers/bp/layer");
    let mut entries: Vec<Entry> =
        (0..60).map(|number| Entry::File { name: format!("/{number:02}").into(), from: layer.join("large") }).collect();
    for (at, from) in [(10, "/dev/null"), (12, "/proc/self/mem"), (20, "/no/such/file")] {
        entries[at] = Entry::File { name: format!("/{at}").into(), from: from.into() };
    }
    let pipeline = sample.pipeline(8);
    for _ in 0..4 {
        let error = pipeline.digest(&Recipe::Entries(entries.clone()), None).expect_err("three of them");
        assert_eq!(error.to_string(), "/10 was replaced while it was archived");
    }
}

#[test]
fn symlinks_on_the_way_to_a_layer_are_not_followed() {
    let sample = Sample::new();
    let layers = sample.dir.path().join("layers");
    let pipeline = sample.pipeline(1);
    let expected = pipeline.digest(&sample.recipe(), None).expect("read").size;
    symlink("bp", layers.join("bp-link")).expect("linked");
    symlink("layer", layers.join("bp/link")).expect("linked");
    symlink("layers", sample.dir.path().join("layers-link")).expect("linked");
    for (layers, relative, shown) in [("layers", "bp-link/layer", "bp-link"), ("layers", "bp/link", "bp/link")] {
        let layers = sample.dir.path().join(layers);
        let recipe =
            Recipe::Directory { layers: layers.clone(), relative: relative.into(), owner: Owner { uid: 0, gid: 0 } };
        let error = pipeline.digest(&recipe, None).expect_err("a link").to_string();
        assert_eq!(error, format!("{} was replaced while it was archived", layers.join(shown).display()));
    }
    let recipe = Recipe::Directory {
        layers: sample.dir.path().join("layers-link"),
        relative: "bp/layer".into(),
        owner: Owner { uid: 1234, gid: 3_000_000 },
    };
    assert_eq!(pipeline.digest(&recipe, None).expect("the layers directory may be a link").size, expected);
}

#[test]
fn paths_longer_than_the_kernel_takes_come_back() {
    let sample = Sample::new();
    let name = "n".repeat(100);
    let root = sample.dir.path().join("layers/bp/deep");
    fs::create_dir(&root).expect("made");
    let fd = rustix::fs::open(&root, LIST, rustix::fs::Mode::empty()).expect("opened");
    let mut beneath = Beneath::new(std::sync::Arc::new(fd), SEARCH);
    for _ in 0..45 {
        rustix::fs::mkdirat(beneath.current(), &name, 0o755.into()).expect("made");
        beneath.enter(name.as_bytes()).expect("entered");
    }
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    let file = rustix::fs::openat(beneath.current(), "file", flags, 0o644.into()).expect("created");
    rustix::io::write(&file, b"content").expect("written");
    let pipeline = sample.pipeline(2);
    let recipe = Recipe::Directory {
        layers: sample.dir.path().join("layers"),
        relative: "bp/deep".into(),
        owner: Owner { uid: 1, gid: 1 },
    };
    let packed = pipeline.pack(&recipe, Want { blob: true, tar: None }).expect("packed");
    let blob = packed.blob.expect("wanted").open();
    extract(blob, &packed.diff_id, &sample.dir.path().join("layers"), Path::new("bp/deep")).expect("extracted");
    assert_eq!(pipeline.digest(&recipe, None).expect("read").diff_id, packed.diff_id);
    let layers = rustix::fs::open(sample.dir.path().join("layers"), LIST, rustix::fs::Mode::empty()).expect("opened");
    super::super::remove::remove_tree(&layers, b"bp").expect("removed");
}

#[test]
fn map_keeps_the_order_and_gives_the_first_error() {
    let pipeline = Pipeline::with_threads(Path::new("/tmp"), 4);
    let most = AtomicUsize::new(0);
    let now = AtomicUsize::new(0);
    let doubled = pipeline.map((0..50).collect(), |number: u64| {
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(std::time::Duration::from_millis(50 - number));
        now.fetch_sub(1, Ordering::SeqCst);
        Ok::<_, ()>(number * 2)
    });
    assert_eq!(doubled, Ok((0..50).map(|number| number * 2).collect()));
    assert_eq!(most.into_inner(), 4);

    let begun = AtomicBool::new(false);
    let result = pipeline.map((0..50).collect(), |number: u64| {
        if number == 40 {
            begun.store(true, Ordering::SeqCst);
        }
        thread::sleep(std::time::Duration::from_millis(if number == 3 { 20 } else { 1 }));
        if number == 3 || number == 5 { Err(number) } else { Ok(()) }
    });
    assert_eq!(result, Err(3));
    assert!(!begun.into_inner());
    assert_eq!(pipeline.map(Vec::<()>::new(), Ok::<_, ()>), Ok(vec![]));
    assert_eq!(pipeline.spare.load(Ordering::SeqCst), 3, "all helpers were given back");
}

#[test]
fn layers_at_once_share_threads_and_buffers() {
    let sample = Sample::new();
    let pipeline = sample.pipeline(3);
    let alone = pipeline.digest(&sample.recipe(), None).expect("read");
    let recipes: Vec<Recipe> = std::iter::repeat_with(|| sample.recipe()).take(5).collect();
    let all = pipeline.map(recipes, |recipe| pipeline.pack(&recipe, Want { blob: true, tar: None }));
    assert!(all.expect("packed").iter().all(|packed| packed.diff_id == alone.diff_id));
    let slots = lock(&pipeline.slots);
    assert_eq!(slots.free.len(), slots.made, "all buffers were given back");
    assert!(slots.made <= 5);
}

#[test]
fn whichever_piece_fails_first_in_time_the_first_in_order_counts() {
    let pipeline = Pipeline::with_threads(Path::new("/tmp"), 2);
    let mut sink = Sink { next: 0, waiting: BTreeMap::new(), output: Some(Output::new()), failed: None };
    sink.waiting.insert(9, pipeline.take_slot());
    for index in [5, 3, 7] {
        sink.fail(index, LayerError::replaced(b"/x"), &pipeline);
    }
    assert_eq!(sink.failed.map(|(index, _)| index), Some(3));
    assert_eq!(lock(&pipeline.slots).free.len(), 1, "nobody else waits for its buffer");
}

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;

use platform_spec::sbom::SbomFormat;

use super::*;

struct Fixture {
    layers: tempfile::TempDir,
    id: BuildpackId,
}

impl Fixture {
    fn new() -> Self {
        let layers = tempfile::tempdir().expect("a directory");
        fs::create_dir(layers.path().join("a_b")).expect("made");
        Self { layers, id: BuildpackId::new("a/b").expect("an id") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.layers.path().join("a_b").join(name)
    }

    fn file(&self, name: &str, content: &str) -> &Self {
        fs::write(self.path(name), content).expect("written");
        self
    }

    fn dir(&self, name: &str) -> &Self {
        fs::create_dir_all(self.path(name)).expect("made");
        self
    }

    fn fifo(&self, name: &str) -> &Self {
        nix::unistd::mkfifo(&self.path(name), nix::sys::stat::Mode::S_IRWXU).expect("made");
        self
    }

    fn read(&self) -> BuildpackDir {
        read(self.layers.path(), &self.id).expect("readable")
    }

    fn error(&self) -> String {
        read(self.layers.path(), &self.id).expect_err("refused").to_string()
    }

    fn layer_error(&self, name: &str) -> String {
        let read = self.read();
        let layer = read.layers.iter().find(|layer| layer.name.as_str() == name).expect("there");
        layer.toml.as_ref().expect_err("refused").to_string()
    }
}

fn name(text: &str) -> LayerName {
    LayerName::new(text).expect("a layer name")
}

#[test]
fn missing_directories_have_no_layers() {
    let fixture = Fixture::new();
    let other = BuildpackId::new("other").expect("an id");
    assert!(read(fixture.layers.path(), &other).expect("empty").layers.is_empty());
    assert!(read(Path::new("/no/such"), &other).expect("empty").layers.is_empty());
}

#[test]
fn layers_are_sorted_with_what_each_has() {
    let fixture = Fixture::new();
    fixture.dir("b").file("b.toml", "[types]\nlaunch = true\n[metadata]\nx = 1\n");
    fixture.file("a-b.toml", "[types]\ncache = true\nbuild = true\n").dir("a").file("a.toml", "");
    fixture.file("a.b.toml", "metadata = 'x'\nunknown = 1").dir("only-dir").dir("build").dir("store");
    fixture.file("launch.toml", "[[processes]]").file("build.toml", "x").file("readme", "not TOML");
    fixture.file("store.toml", "[metadata]\nkept = 'yes'");
    let read = fixture.read();
    let found: Vec<_> = read
        .layers
        .iter()
        .map(|layer| {
            let toml = layer.toml.as_ref().expect("readable");
            let types = toml.types;
            (layer.identifier.as_str(), layer.has_contents, types.launch, types.build, types.cache, &toml.metadata)
        })
        .collect();
    let table = Some(toml::Value::Table(toml::Table::from_iter([("x".to_owned(), 1.into())])));
    let scalar = Some("x".into());
    assert_eq!(
        found,
        [
            ("a/b:a", true, false, false, false, &None),
            ("a/b:a-b", false, false, true, true, &None),
            ("a/b:a.b", false, false, false, false, &scalar),
            ("a/b:b", true, true, false, false, &table),
            ("a/b:only-dir", true, false, false, false, &None),
        ]
    );
    assert_eq!(read.store.expect("a store").metadata.expect("a table")["kept"].as_str(), Some("yes"));
    assert_eq!(read.layers[0].path, fixture.path("a"));
}

#[test]
fn the_layers_directory_itself_may_be_a_symlink() {
    let fixture = Fixture::new();
    fixture.file("x.toml", "");
    let elsewhere = tempfile::tempdir().expect("a directory");
    let link = elsewhere.path().join("layers");
    symlink(fixture.layers.path(), &link).expect("linked");
    let read = read(&link, &fixture.id).expect("readable");
    assert_eq!(read.layers.len(), 1);
    assert_eq!(read.path, link.join("a_b"));
}

#[test]
fn a_symlink_as_the_buildpacks_directory_is_refused() {
    let fixture = Fixture::new();
    fs::rename(fixture.path(""), fixture.layers.path().join("real")).expect("renamed");
    symlink("real", fixture.layers.path().join("a_b")).expect("linked");
    assert_eq!(fixture.error(), format!("{} is a symbolic link, not a directory", read_path(&fixture)));
    fs::remove_file(fixture.layers.path().join("a_b")).expect("removed");
    fs::write(fixture.layers.path().join("a_b"), "").expect("written");
    assert_eq!(fixture.error(), format!("{} is a regular file, not a directory", read_path(&fixture)));
}

fn read_path(fixture: &Fixture) -> String {
    fixture.layers.path().join("a_b").display().to_string()
}

#[test]
fn what_is_no_regular_file_is_refused_as_toml() {
    let fixture = Fixture::new();
    let secret = fixture.layers.path().join("secret");
    fs::write(&secret, "password = 'hunter2'").expect("written");
    symlink(&secret, fixture.path("link.toml")).expect("linked");
    symlink("/no/such", fixture.path("dangling.toml")).expect("linked");
    symlink("loop.toml", fixture.path("loop.toml")).expect("linked");
    fixture.fifo("fifo.toml");
    let _socket = socket(&fixture.path("socket.toml"));
    for (layer, found) in [
        ("link", "a symbolic link"),
        ("dangling", "a symbolic link"),
        ("loop", "a symbolic link"),
        ("fifo", "a named pipe"),
        ("socket", "a socket"),
    ] {
        let file = fixture.path(&format!("{layer}.toml"));
        assert_eq!(fixture.layer_error(layer), format!("{} is {found}, not a regular file", file.display()));
    }
    symlink(&secret, fixture.path("store.toml")).expect("linked");
    assert_eq!(
        fixture.error(),
        format!("{} is a symbolic link, not a regular file", fixture.path("store.toml").display())
    );
}

#[expect(clippy::disallowed_types, reason = "a socket in the file system, to be refused; nothing connects to it")]
fn socket(path: &Path) -> std::os::unix::net::UnixListener {
    std::os::unix::net::UnixListener::bind(path).expect("bound")
}

#[test]
fn a_directory_named_like_toml_is_a_layer() {
    let fixture = Fixture::new();
    fixture.dir("x.toml");
    let read = fixture.read();
    let names: Vec<_> = read.layers.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names, ["x.toml"]);
}

#[test]
fn in_the_place_of_a_layer_with_a_type_only_a_directory_will_do() {
    let fixture = Fixture::new();
    for types in ["launch", "build", "cache"] {
        fixture.file(&format!("{types}-link.toml"), &format!("[types]\n{types} = true"));
        symlink("/root/.docker", fixture.path(&format!("{types}-link"))).expect("linked");
        let place = fixture.path(&format!("{types}-link"));
        assert_eq!(
            fixture.layer_error(&format!("{types}-link")),
            format!("{} is a symbolic link, not a directory", place.display())
        );
    }
    fixture.file("fifo.toml", "[types]\nlaunch = true").fifo("fifo");
    assert!(fixture.layer_error("fifo").ends_with("fifo is a named pipe, not a directory"));
    // Without a type nothing is taken from there.
    symlink("/root/.docker", fixture.path("free")).expect("linked");
    fixture.file("free.toml", "");
    let read = fixture.read();
    let free = read.layers.iter().find(|layer| layer.name.as_str() == "free").expect("there");
    assert!(free.toml.is_ok() && !free.has_contents);
}

#[test]
fn bad_toml_is_named_by_line_and_nothing_of_it_is_quoted() {
    let fixture = Fixture::new();
    for (content, line) in [
        ("a = 1\nhunter2", 2),
        ("[types]\nlaunch = 'hunter2'\n", 2),
        ("types = 'hunter2'", 1),
        ("\n\n[types]\n[types]\n", 4),
        ("x = \"hunter2", 1),
    ] {
        fixture.file("bad.toml", content);
        let error = fixture.layer_error("bad");
        let path = fixture.path("bad.toml");
        assert!(error.starts_with(&format!("parse {}: line {line}", path.display())), "{content:?}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    fs::write(fixture.path("bad.toml"), b"a = 1\n\n\xff").expect("written");
    assert!(fixture.layer_error("bad").ends_with("line 3: not UTF-8"));
    fixture.file("store.toml", "metadata = 1");
    assert!(fixture.error().contains("store.toml: line 1"));
}

#[test]
fn flags_at_the_top_are_refused() {
    let fixture = Fixture::new();
    for content in ["launch = true", "build = 'x'", "[cache]", "cache.x = 1\n[types]\nlaunch = true"] {
        fixture.file("old.toml", content);
        assert_eq!(
            fixture.layer_error("old"),
            format!(
                "the launch, cache and build flags should be in the types table of {}",
                fixture.path("old.toml").display()
            )
        );
    }
}

#[test]
fn large_toml_is_refused() {
    let fixture = Fixture::new();
    let file = fs::File::create(fixture.path("large.toml")).expect("made");
    file.set_len(5 << 30).expect("sparse");
    assert_eq!(fixture.layer_error("large"), format!("{} is larger than 8 MiB", fixture.path("large.toml").display()));
}

#[test]
fn names_that_no_layer_can_have() {
    for (stem, why) in [
        (&b""[..], "it has an empty part"),
        (b".", "'.' and '..' are not allowed"),
        (b"..", "'.' and '..' are not allowed"),
        (b"\xff", "it is not UTF-8"),
    ] {
        let fixture = Fixture::new();
        let file = [stem, b".toml"].concat();
        fs::write(fixture.path("").join(std::ffi::OsString::from_vec(file)), "").expect("written");
        let error = fixture.error();
        assert!(error.contains("invalid layer name") && error.ends_with(why), "{error}");
    }
    // Only what is described by TOML, or has a name that could be, is a layer.
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("").join(std::ffi::OsString::from_vec(b"\xff".to_vec()))).expect("made");
    assert!(fixture.read().layers.is_empty());
}

#[test]
fn sbom_names_are_taken_apart_at_the_end() {
    let layer = |text: &str| Some(Sbom::Layer(name(text)));
    for (file, about, format) in [
        ("launch.sbom.cdx.json", Some(Sbom::Launch), Some(SbomFormat::CycloneDx)),
        ("build.sbom.spdx.json", Some(Sbom::Build), Some(SbomFormat::Spdx)),
        ("x.sbom.syft.json", layer("x"), Some(SbomFormat::Syft)),
        ("a.b.sbom.cdx.json", layer("a.b"), Some(SbomFormat::CycloneDx)),
        ("a.sbom.sbom.cdx.json", layer("a.sbom"), Some(SbomFormat::CycloneDx)),
        ("a.sbom.cdx.json.sbom.spdx.json", layer("a.sbom.cdx.json"), Some(SbomFormat::Spdx)),
        ("launch.x.sbom.cdx.json", layer("launch.x"), Some(SbomFormat::CycloneDx)),
        ("x.sbom.other.json", layer("x"), None),
        ("launch.sbom.a.b.json", Some(Sbom::Launch), None),
        (".sbom.cdx.json", None, None),
        ("sbom.cdx.json", None, None),
        ("x.sbom.json", None, None),
        ("x.sbom..json", None, None),
        ("x.json", None, None),
        ("x.cdx.json", None, None),
        ("x.sbom.cdx.xml", None, None),
    ] {
        let parsed = SbomFile::parse(file);
        assert_eq!(parsed.as_ref().map(|file| file.about.clone()), about, "{file}");
        assert_eq!(parsed.and_then(|file| file.format), format, "{file}");
    }
}

#[test]
fn sbom_files_are_listed_and_only_regular_ones_opened() {
    let fixture = Fixture::new();
    fixture.file("a.sbom.cdx.json", "{}").fifo("b.sbom.spdx.json").dir("c.sbom.syft.json");
    symlink("a.sbom.cdx.json", fixture.path("launch.sbom.cdx.json")).expect("linked");
    let read = fixture.read();
    let files = read.sbom_files().expect("listed");
    let opened: Vec<_> = files
        .iter()
        .map(|file| match read.open_sbom(file) {
            Ok(opened) => opened.map_or("gone".to_owned(), |_| "opened".to_owned()),
            Err(error) => error.to_string(),
        })
        .map(|text| text.rsplit(" is ").next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(
        opened,
        [
            "opened",
            "a named pipe, not a regular file",
            "a directory, not a regular file",
            "a symbolic link, not a regular file"
        ]
    );
}

#[test]
fn writing_replaces_symlinks_and_does_not_write_through_them() {
    let fixture = Fixture::new();
    let secret = fixture.layers.path().join("secret");
    fs::write(&secret, "keep").expect("written");
    symlink(&secret, fixture.path("x.toml")).expect("linked");
    symlink(&secret, fixture.path("store.toml")).expect("linked");
    write_layer(fixture.layers.path(), &fixture.id, &name("x"), None).expect("written");
    write_store(fixture.layers.path(), &fixture.id, &Store::default()).expect("written");
    assert_eq!(fs::read_to_string(&secret).expect("there"), "keep");
    for file in ["x.toml", "store.toml"] {
        assert!(fs::symlink_metadata(fixture.path(file)).expect("there").is_file(), "{file}");
    }
    let left: Vec<_> = fs::read_dir(fixture.path("")).expect("listed").collect();
    assert_eq!(left.len(), 2, "nothing is left beside: {left:?}");
}

#[test]
fn writing_makes_the_directory_and_a_symlink_there_is_refused() {
    let fixture = Fixture::new();
    let new = BuildpackId::new("new").expect("an id");
    write_layer(fixture.layers.path(), &new, &name("x"), None).expect("written");
    assert_eq!(fs::read(fixture.layers.path().join("new/x.toml")).expect("there"), b"");
    symlink("a_b", fixture.layers.path().join("link")).expect("linked");
    let link = BuildpackId::new("link").expect("an id");
    let error = write_layer(fixture.layers.path(), &link, &name("x"), None).expect_err("refused").to_string();
    assert!(error.ends_with("link is a symbolic link, not a directory"), "{error}");
    assert!(remove_layer(fixture.layers.path(), &link, &name("x")).is_err());
}

#[test]
fn removing_a_layer_takes_all_of_it_and_nothing_else() {
    let fixture = Fixture::new();
    fixture.dir("x/sub").file("x/sub/file", "").file("x.toml", "").file("x.sha", "").file("x.sbom.cdx.json", "");
    fixture.file("x.sbom.spdx.json", "").file("x.y.toml", "").dir("x.y").file("x.y.sbom.cdx.json", "");
    fixture.dir("keep");
    symlink("../../keep", fixture.path("x/sub/link")).expect("linked");
    symlink("keep", fixture.path("x.sbom.syft.json")).expect("linked");
    remove_layer(fixture.layers.path(), &fixture.id, &name("x")).expect("removed");
    let mut left: Vec<_> = fs::read_dir(fixture.path(""))
        .expect("listed")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    left.sort();
    assert_eq!(left, ["keep", "x.y", "x.y.sbom.cdx.json", "x.y.toml"]);
    remove_layer(fixture.layers.path(), &fixture.id, &name("x")).expect("nothing there is fine");
    // A symlink in the layer's place goes, and what it points to stays.
    symlink("keep", fixture.path("x")).expect("linked");
    remove_layer(fixture.layers.path(), &fixture.id, &name("x")).expect("removed");
    assert!(fixture.path("keep").is_dir() && !fixture.path("x").exists());
}

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use platform_spec::api::BuildpackApi;
use platform_spec::name::{BuildpackId, BuildpackVersion};

use super::*;
use crate::buildpack;

struct Fixture {
    temp: tempfile::TempDir,
    module: Module,
    plan: BuildpackPlan,
}

impl Fixture {
    fn new() -> Self {
        let module = Module {
            kind: buildpack::Kind::Buildpack,
            id: BuildpackId::new("a/b").expect("an id"),
            version: BuildpackVersion::new("1").expect("a version"),
            api: BuildpackApi::parse("0.10", "").expect("an API"),
            root: PathBuf::new(),
            homepage: String::new(),
            clear_env: false,
            sbom_formats: vec!["application/vnd.cyclonedx+json".to_owned(), "application/spdx+json".to_owned()],
            exec_env: Vec::new(),
            targets: Vec::new(),
            order: Vec::new(),
        };
        let plan = "[[entries]]\nname = 'x'\n[[entries]]\nname = 'y'\n[[entries]]\nname = 'x'";
        let plan = platform_spec::text::from_toml(plan).expect("a plan");
        Self { temp: tempfile::tempdir().expect("a directory"), module, plan }
    }

    fn path(&self) -> &Path {
        self.temp.path()
    }

    fn file(&self, name: &str, content: &str) -> &Self {
        fs::write(self.path().join(name), content).expect("written");
        self
    }

    fn dir(&self, name: &str) -> &Self {
        fs::create_dir_all(self.path().join(name)).expect("made");
        self
    }

    fn read(&self) -> Result<Left, String> {
        let directory = Directory::open(self.path()).expect("opened");
        read(&directory, &self.module, &self.plan).map_err(|error| error.to_string())
    }

    /// The error, without the path of the directory in it.
    fn error(&self) -> String {
        self.read().expect_err("refused").replace(&format!("{}/", self.path().display()), "")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).expect("listed");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

#[test]
fn nothing_is_fine() {
    let left = Fixture::new().read().expect("nothing");
    assert!(left.labels.is_empty() && left.processes.is_empty() && left.slices.is_empty() && left.sboms.is_empty());
    assert_eq!(left.met, ["x", "y", "x"], "what is not said to be unmet is met");
}

#[test]
fn build_layers_come_by_name() {
    let fixture = Fixture::new();
    for (name, types) in [("a", "build = true"), ("a-b", "build = true\nlaunch = true"), ("c", "launch = true")] {
        fixture.dir(name).file(&format!("{name}.toml"), &format!("[types]\n{types}"));
    }
    fixture.file("gone.toml", "[types]\nbuild = true");
    let expected: Vec<_> = ["a", "a-b", "gone"].iter().map(|name| fixture.path().join(name)).collect();
    assert_eq!(fixture.read().expect("read").build_layers, expected);
}

#[test]
fn layers_without_a_type_are_set_aside() {
    let fixture = Fixture::new();
    fixture
        .dir("ignored/sub")
        .file("ignored.toml", "")
        .dir("none")
        .dir("kept")
        .file("kept.toml", "[types]\ncache = true");
    fixture.dir("false").file("false.toml", "[types]\nlaunch = false\nbuild = false\ncache = false");
    fixture.dir("ignored.ignore/of-an-earlier-build").file("launch.toml", "").dir("launch");
    fixture.read().expect("read");
    let expected = [
        "false.ignore",
        "false.toml",
        "ignored.ignore",
        "ignored.toml",
        "kept",
        "kept.toml",
        "launch",
        "launch.toml",
        "none",
    ];
    assert_eq!(fixture.names(), expected);
    assert!(fixture.path().join("ignored.ignore/sub").exists());
    // A second build finds only the TOML.
    fixture.read().expect("read again");
    assert_eq!(fixture.names(), expected);
}

#[test]
fn a_layer_that_is_called_like_one_set_aside_is_not_removed() {
    let fixture = Fixture::new();
    fixture.dir("x").file("x.toml", "").dir("x.ignore/sub").file("x.ignore.toml", "[types]\nlaunch = true");
    assert_eq!(fixture.error(), "rename x: directory not empty");
    assert!(fixture.path().join("x.ignore/sub").exists());
}

#[test]
fn flags_at_the_top_are_refused_in_every_toml() {
    for name in ["layer", "launch", "build", "store"] {
        for flag in ["launch", "build", "cache"] {
            let fixture = Fixture::new();
            fixture.file(&format!("{name}.toml"), &format!("{flag} = true"));
            assert_eq!(
                fixture.error(),
                format!("the launch, cache and build flags should be in the types table of {name}.toml")
            );
        }
    }
}

#[test]
fn what_is_not_a_regular_file_or_directory_is_refused() {
    for name in ["layer.toml", "launch.toml", "build.toml", "store.toml", "launch.sbom.cdx.json"] {
        let fixture = Fixture::new();
        symlink("/etc/passwd", fixture.path().join(name)).expect("linked");
        assert_eq!(fixture.error(), format!("{name} is a symbolic link, not a regular file"));
        let fixture = Fixture::new();
        nix::unistd::mkfifo(&fixture.path().join(name), nix::sys::stat::Mode::S_IRWXU).expect("made");
        assert_eq!(fixture.error(), format!("{name} is a named pipe, not a regular file"));
    }
    for flag in ["launch", "build", "cache"] {
        let fixture = Fixture::new();
        fixture.file("layer.toml", &format!("[types]\n{flag} = true"));
        symlink("/root/.docker", fixture.path().join("layer")).expect("linked");
        assert_eq!(fixture.error(), "layer is a symbolic link, not a directory");
    }
}

#[test]
fn bad_toml_of_every_kind() {
    for (name, content, expected) in [
        ("launch.toml", "[[processes]", "parse launch.toml: line 1, column "),
        ("launch.toml", "processes = 1", "parse launch.toml: line 1, column 13: key 'processes': expected an array"),
        (
            "launch.toml",
            "[[labels]]\nkey = 1",
            "parse launch.toml: line 2, column 7: key 'labels.key': expected a string",
        ),
        (
            "launch.toml",
            "[[slices]]\npaths = 'x'",
            "parse launch.toml: line 2, column 9: key 'slices.paths': expected an array",
        ),
        ("launch.toml", "[[processes]]\ntype = 'a/b'\ncommand = ['x']", "launch.toml: invalid process type \"a/b\": "),
        ("launch.toml", "[[processes]]\ntype = 'web'", "launch.toml: process 'web' has no command"),
        ("build.toml", "unmet = 1", "parse build.toml: line 1, column 9: key 'unmet': expected an array"),
        ("build.toml", "[[unmet]]", "build.toml: unmet.name is required"),
        ("build.toml", "[[unmet]]\nname = 'z'", "build.toml: unmet.name 'z' must match a requested dependency"),
        (
            "layer.toml",
            "[types]\nlaunch = 'yes'",
            "parse layer.toml: line 2, column 10: key 'types.launch': expected a boolean",
        ),
        ("store.toml", "x", "parse store.toml: line 1, column "),
        ("..toml", "", "..toml: invalid layer name \".\": "),
        (
            "launch.toml",
            "[[bom]]\nname = 'x'\nversion = '1'",
            "launch.toml: bom entry 'x' has a top level version which is not allowed. \
             The buildpack should instead set metadata.version",
        ),
        ("build.toml", "[[bom]]\nname = 'x'\nversion = '1'", "build.toml: bom entry 'x' has a top level version"),
    ] {
        let fixture = Fixture::new();
        fixture.file(name, content);
        let error = fixture.error();
        assert!(error.starts_with(expected), "{content:?}: {error}");
    }
}

#[test]
fn what_is_unmet_is_not_met() {
    let fixture = Fixture::new();
    fixture.file("build.toml", "[[unmet]]\nname = 'x'");
    assert_eq!(fixture.read().expect("read").met, ["y"]);
    fixture.file("build.toml", "[[unmet]]\nname = 'x'\n[[unmet]]\nname = 'y'");
    assert!(fixture.read().expect("read").met.is_empty());
}

#[test]
fn a_bill_of_materials_names_its_buildpack() {
    let fixture = Fixture::new();
    let bom = "[[bom]]\nname = 'x'\n[bom.metadata]\nversion = '1'\n[bom.buildpack]\nid = 'liar'\n";
    fixture.file("launch.toml", bom).file("build.toml", bom);
    let left = fixture.read().expect("read");
    let buildpack = BomBuildpack { id: "a/b".to_owned(), version: "1".to_owned() };
    for entries in [left.launch_bom, left.build_bom] {
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].buildpack, buildpack);
        assert_eq!(entries[0].metadata.as_ref().expect("metadata")["version"].as_str(), Some("1"));
    }
}

#[test]
fn sboms_of_layers_go_where_the_layer_goes() {
    let fixture = Fixture::new();
    for (name, types) in [
        ("launch-only", "launch = true"),
        ("all.of.it", "launch = true\nbuild = true\ncache = true"),
        ("cached", "cache = true"),
        ("none", ""),
    ] {
        fixture.file(&format!("{name}.toml"), &format!("[types]\n{types}"));
        fixture.file(&format!("{name}.sbom.cdx.json"), "{}");
    }
    fixture.file("launch.sbom.spdx.json", "{}").file("build.sbom.cdx.json", "{}");
    // Of layers that there are not, and of no layer.
    fixture.file("unknown.sbom.syft.json", "{}").file("unknown.sbom.x.json", "{}").file(".sbom.cdx.json", "{}");
    symlink("/etc/passwd", fixture.path().join("unknown.sbom.cdx.json")).expect("linked");
    let left = fixture.read().expect("read");
    let found: Vec<_> = left
        .sboms
        .iter()
        .map(|sbom| (sbom.name.as_str(), sbom.layer.as_ref().map_or("-", LayerName::as_str), sbom.launch, sbom.cache))
        .collect();
    assert_eq!(
        found,
        [
            ("all.of.it.sbom.cdx.json", "all.of.it", true, true),
            ("build.sbom.cdx.json", "-", false, false),
            ("cached.sbom.cdx.json", "cached", false, true),
            ("launch-only.sbom.cdx.json", "launch-only", true, false),
            ("launch.sbom.spdx.json", "-", true, false),
            ("none.sbom.cdx.json", "none", false, false),
        ]
    );
}

#[test]
fn sboms_must_be_in_a_declared_format() {
    for (name, expected) in [
        (
            "launch.sbom.syft.json",
            "validating SBOM file 'launch.sbom.syft.json' for buildpack: 'a/b@1': \
             undeclared SBOM media type: 'application/vnd.syft+json'",
        ),
        ("build.sbom.other.json", "unsupported SBOM file format: 'build.sbom.other.json'"),
        ("layer.sbom.other.json", "unsupported SBOM file format: 'layer.sbom.other.json'"),
    ] {
        let fixture = Fixture::new();
        fixture.file(name, "{}").file("layer.toml", "");
        assert_eq!(fixture.error(), expected);
    }
}

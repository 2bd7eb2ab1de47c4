use std::fs;

use super::*;

fn id(text: &str) -> BuildpackId {
    BuildpackId::new(text).expect("an id")
}

fn version(text: &str) -> BuildpackVersion {
    BuildpackVersion::new(text).expect("a version")
}

/// A directory with one descriptor.
fn directory_of(kind: Kind, descriptor: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("some_module/1.2.3");
    fs::create_dir_all(root.join("bin")).expect("made");
    fs::write(root.join(kind.descriptor()), descriptor).expect("written");
    dir
}

fn find_in(dir: &Path, kind: Kind) -> Result<Module, FindError> {
    find(kind, dir, &id("some/module"), &version("1.2.3"))
}

#[test]
fn a_component_buildpack() {
    let text = r#"
        api = "0.12"
        [buildpack]
        id = "some/module"
        version = "1.2.3"
        name = "Some"
        homepage = "https://example.com"
        clear-env = true
        sbom-formats = ["application/spdx+json"]
        exec-env = ["test", "development"]
        some-unknown-key = 1
    "#;
    let dir = directory_of(Kind::Buildpack, text.as_bytes());
    fs::write(dir.path().join("some_module/1.2.3/bin/build"), "").expect("written");
    let module = find_in(dir.path(), Kind::Buildpack).expect("found");
    assert_eq!(module.to_string(), "some/module@1.2.3");
    assert_eq!(module.api.to_string(), "0.12");
    assert_eq!(module.root, dir.path().join("some_module/1.2.3"));
    assert_eq!(module.executable("detect"), module.root.join("bin/detect"));
    assert_eq!((module.homepage.as_str(), module.clear_env), ("https://example.com", true));
    assert_eq!(module.sbom_formats, ["application/spdx+json"]);
    assert_eq!(module.targets.iter().map(|target| target.os.as_str()).collect::<Vec<_>>(), ["linux"]);
    assert!(!module.is_composite());
    let supports = ["test", "development", "production", ""].map(|exec_env| module.supports_exec_env(exec_env));
    assert_eq!(supports, [true, true, false, true]);
}

#[test]
fn exec_env_means_something_only_to_an_api_that_has_it() {
    for (api, exec_env, expected) in
        [("0.12", "[\"test\"]", false), ("0.11", "[\"test\"]", true), ("0.12", "[\"*\"]", true), ("0.12", "[]", true)]
    {
        let text =
            format!("api = \"{api}\"\n[buildpack]\nid = \"some/module\"\nversion = \"1.2.3\"\nexec-env = {exec_env}");
        let module = find_in(directory_of(Kind::Buildpack, text.as_bytes()).path(), Kind::Buildpack).expect("found");
        assert_eq!(module.supports_exec_env("production"), expected, "{api} {exec_env}");
    }
}

#[test]
fn a_composite_buildpack_and_an_extension() {
    let info = "id = \"some/module\"\nversion = \"1.2.3\"\n";
    let composite = format!(
        "api = \"0.7\"\n[buildpack]\n{info}[[order]]\n[[order.group]]\nid = \"a\"\nversion = \"1\"\noptional = true"
    );
    let module = find_in(directory_of(Kind::Buildpack, composite.as_bytes()).path(), Kind::Buildpack).expect("found");
    assert!(module.is_composite() && module.targets.is_empty());
    let extension = format!("api = \"0.10\"\n[extension]\n{info}[[targets]]\nos = \"linux\"");
    let module = find_in(directory_of(Kind::Extension, extension.as_bytes()).path(), Kind::Extension).expect("found");
    assert_eq!((module.kind, module.targets.len()), (Kind::Extension, 1));
}

#[test]
fn a_descriptor_that_cannot_be_used_is_an_error_that_names_it() {
    let info = "[buildpack]\nid = \"some/module\"\nversion = \"1.2.3\"";
    let with = |before: &str| format!("{before}\n{info}").into_bytes();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", Vec::new(), "buildpack.toml"),
        ("malformed", b"api = ".to_vec(), "buildpack.toml"),
        ("not UTF-8", b"api = \"\xff\"".to_vec(), "not UTF-8"),
        ("of the wrong type", with("api = 7"), "buildpack.toml"),
        ("a target of the wrong type", with("api = \"0.10\"\ntargets = 1"), "buildpack.toml"),
        ("no id", b"api = \"0.10\"\n[buildpack]\nversion = \"1\"".to_vec(), "buildpack.toml"),
        (
            "an order that climbs out",
            with("api = \"0.10\"\norder = [{group = [{id = \"../x\", version = \"1\"}]}]"),
            "buildpack.toml",
        ),
        (
            "a version that climbs out",
            with("api = \"0.10\"\norder = [{group = [{id = \"x\", version = \"../1\"}]}]"),
            "buildpack.toml",
        ),
    ];
    for (name, descriptor, expected) in cases {
        let dir = directory_of(Kind::Buildpack, &descriptor);
        let error = find_in(dir.path(), Kind::Buildpack).expect_err(name);
        assert!(matches!(error, FindError::Load(_)), "{name}: {error:?}");
        assert!(error.to_string().contains(expected), "{name}: {error}");
        assert!(error.to_string().contains(&dir.path().display().to_string()), "{name}: {error}");
    }
}

#[test]
fn a_missing_module_is_named_as_the_system_names_it() {
    let error = find_in(Path::new("/no/such"), Kind::Buildpack).expect_err("there is none");
    assert_eq!(error.to_string(), "open /no/such/some_module/1.2.3/buildpack.toml: no such file or directory");
}

#[test]
fn an_api_that_is_not_spoken_is_an_error_of_its_own() {
    let cases = [
        ("", "parse buildpack API '<nil>' for buildpack 'some/module@1.2.3'"),
        ("api = \"x\"", "parse buildpack API 'x' for buildpack 'some/module@1.2.3'"),
        (
            "api = \"0.1\"",
            "set API for buildpack 'some/module@1.2.3': buildpack API version '0.1' is incompatible with the lifecycle",
        ),
    ];
    for (api, expected) in cases {
        let text = format!("{api}\n[buildpack]\nid = \"some/module\"\nversion = \"1.2.3\"");
        let error = find_in(directory_of(Kind::Buildpack, text.as_bytes()).path(), Kind::Buildpack).expect_err(api);
        assert!(matches!(error, FindError::Api(_)), "{error:?}");
        assert_eq!(error.to_string(), expected);
    }
}

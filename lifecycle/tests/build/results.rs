//! What the phase makes of what buildpacks leave.

use std::collections::BTreeMap;

use super::*;

/// Every file beneath a directory, with its content.
fn tree(world: &World, top: &str) -> BTreeMap<String, String> {
    fn walk(dir: &Path, prefix: &str, into: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            let name = format!("{prefix}{}", path.file_name().expect("a name").to_string_lossy());
            if path.is_dir() {
                walk(&path, &format!("{name}/"), into);
            } else {
                into.insert(name, fs::read_to_string(&path).expect("read"));
            }
        }
    }
    let mut files = BTreeMap::new();
    walk(&world.path(top), "", &mut files);
    files
}

fn launch(id: &str) -> String {
    format!(
        "cat > launch.toml <<END\n[[labels]]\nkey = 'k{id}'\nvalue = 'v'\n[[processes]]\ntype = 'p{id}'\ncommand = ['c', 'd']\nargs = ['<&>']\n[[processes]]\ntype = 'shared'\ncommand = ['{id}']\ndefault = true\n[[slices]]\npaths = ['{id}/*']\nEND"
    )
}

#[test]
fn everything_is_put_together_in_order() {
    let mut world = World::new("0.12");
    world.buildpack("z", "0.10", &launch("z")).buildpack("x/a", "0.9", &launch("a"));
    let extension = "[[group-extensions]]\nid = 'ext'\nversion = '2'\napi = '0.10'";
    let group: platform_spec::group::Group = platform_spec::text::from_toml(extension).expect("a group");
    world.inputs.group.group_extensions = group.group_extensions;
    let metadata = world.build();
    assert_eq!((&metadata.buildpacks[1].id, &metadata.buildpacks[1].version), (&id("x/a"), &version("1")));
    build::write_metadata(&world.inputs.layers_dir, world.inputs.platform_api, &metadata).expect("written");
    let expected = r#"buildpack-default-process-type = "shared"

[[buildpacks]]
  id = "z"
  version = "1"
  api = "0.10"

[[buildpacks]]
  id = "x/a"
  version = "1"
  api = "0.9"

[[extensions]]
  id = "ext"
  version = "2"
  api = "0.10"

[[labels]]
  key = "kz"
  value = "v"

[[labels]]
  key = "ka"
  value = "v"

[[processes]]
  type = "pa"
  command = ["c", "d"]
  args = ["<&>"]
  direct = true
  buildpack-id = "x/a"

[[processes]]
  type = "pz"
  command = ["c", "d"]
  args = ["<&>"]
  direct = true
  buildpack-id = "z"

[[processes]]
  type = "shared"
  command = ["a"]
  direct = true
  buildpack-id = "x/a"

[[slices]]
  paths = ["z/*"]

[[slices]]
  paths = ["a/*"]
"#;
    assert_eq!(world.read("layers/config/metadata.toml"), expected);
}

#[test]
fn an_empty_group_builds_nothing() {
    let world = World::new("0.12");
    assert_eq!(world.build(), Metadata::default());
    assert_eq!(
        tree(&world, "layers"),
        BTreeMap::from([
            ("sbom/build/sbom.legacy.json".to_owned(), "null\n".to_owned()),
            ("sbom/launch/sbom.legacy.json".to_owned(), "null\n".to_owned()),
        ])
    );
}

#[test]
fn sboms_are_copied_to_where_the_exporter_looks() {
    let script = "
        for layer in launched.it cached both; do echo $layer > $layer.sbom.cdx.json; mkdir $layer; done
        printf '[types]\nlaunch = true' > launched.it.toml
        printf '[types]\ncache = true' > cached.toml
        printf '[types]\ncache = true\nlaunch = true' > both.toml
        echo launch > launch.sbom.spdx.json; echo build > build.sbom.syft.json; echo none > none.sbom.cdx.json
    ";
    let formats = "sbom-formats = ['application/vnd.cyclonedx+json; version=1.4', 'application/spdx+json', 'application/vnd.syft+json']";
    let copied = [
        ("build/x_a/cached/sbom.cdx.json", "cached\n"),
        ("build/x_a/sbom.syft.json", "build\n"),
        ("cache/x_a/both/sbom.cdx.json", "both\n"),
        ("cache/x_a/cached/sbom.cdx.json", "cached\n"),
        ("launch/x_a/both/sbom.cdx.json", "both\n"),
        ("launch/x_a/launched.it/sbom.cdx.json", "launched.it\n"),
        ("launch/x_a/sbom.spdx.json", "launch\n"),
    ];
    let legacy = [("build/sbom.legacy.json", "null\n"), ("launch/sbom.legacy.json", "null\n")];
    for (api, expected) in [("0.7", vec![]), ("0.8", copied.to_vec()), ("0.9", [&copied[..], &legacy].concat())] {
        let mut world = World::new(api);
        fs::create_dir_all(world.path("layers/sbom/launch/old")).expect("made");
        world.write("layers/sbom/launch/old/sbom.cdx.json", "of an earlier build");
        world.buildpack_with("x/a", "0.10", formats, &format!("cd \"$1\"; [ ! -e ../sbom ]; {script}"));
        world.build();
        let expected = expected.into_iter().map(|(name, content)| (name.to_owned(), content.to_owned())).collect();
        assert_eq!(tree(&world, "layers/sbom"), expected, "{api}");
    }
}

#[test]
fn legacy_bills_of_materials() {
    let script = "printf \"[[bom]]\nname = 'l<'\n[bom.metadata]\nx = 1.0\n\" > launch.toml; printf \"[[bom]]\nname = 'b'\n\" > build.toml";
    for (api, in_metadata) in [("0.8", true), ("0.9", false)] {
        let mut world = World::new(api);
        world.buildpack("a", "0.10", script);
        let metadata = world.build();
        assert_eq!(metadata.bom.len(), usize::from(in_metadata), "{api}");
        if in_metadata {
            assert_eq!((metadata.bom[0].name.as_str(), metadata.bom[0].buildpack.id.as_str()), ("l<", "a"));
            assert!(!world.path("layers/sbom").exists());
        } else {
            let launch =
                "[{\"name\":\"l\\u003c\",\"metadata\":{\"x\":1},\"buildpack\":{\"id\":\"a\",\"version\":\"1\"}}]\n";
            assert_eq!(world.read("layers/sbom/launch/sbom.legacy.json"), launch);
            let build = "[{\"name\":\"b\",\"metadata\":null,\"buildpack\":{\"id\":\"a\",\"version\":\"1\"}}]\n";
            assert_eq!(world.read("layers/sbom/build/sbom.legacy.json"), build);
        }
    }
    let mut world = World::new("0.9");
    world.buildpack("a", "0.10", "printf \"[[bom]]\nname = 'x'\n[bom.metadata]\nx = nan\n\" > launch.toml");
    assert_eq!(world.fail().0, 52);
}

#[test]
fn directories_have_the_modes_of_any_new_directory() {
    let mut world = World::new("0.12");
    fs::create_dir(world.path("plain")).expect("made");
    world.write("plain-file", "");
    world.buildpack("a", "0.10", "");
    let metadata = world.build();
    build::write_metadata(&world.inputs.layers_dir, world.inputs.platform_api, &metadata).expect("written");
    let mode = |name: &str| fs::metadata(world.path(name)).expect("there").permissions().mode();
    for name in ["layers/a", "layers/sbom", "layers/sbom/launch", "layers/config"] {
        assert_eq!(mode(name), mode("plain"), "{name}");
    }
    for name in ["layers/sbom/launch/sbom.legacy.json", "layers/config/metadata.toml"] {
        assert_eq!(mode(name), mode("plain-file"), "{name}");
    }
}

#[test]
fn a_second_build_in_the_same_directory() {
    let mut world = World::new("0.12");
    world.buildpack("a", "0.10", "mkdir -p x/sub l; touch x.toml; printf '[types]\nlaunch = true' > l.toml");
    let first = world.build();
    let before = tree(&world, "layers");
    assert_eq!(world.build(), first);
    assert_eq!(tree(&world, "layers"), before);
    assert!(world.path("layers/a/x.ignore/sub").exists() && !world.path("layers/a/x").exists());
}

#[test]
fn the_layers_directory_is_made_if_it_is_not_there() {
    let mut world = World::new("0.12");
    world.inputs.layers_dir = world.path("new/layers");
    world.buildpack("a", "0.10", "touch here");
    world.build();
    assert!(world.path("new/layers/a/here").exists());
}

//! The tarball, as GNU tar and platforms see it.

use std::fs;
use std::path::{Path, PathBuf};

use acceptance::{Architecture, Lifecycle, Tool};

fn dist(executables: &Path, output: &Path) -> PathBuf {
    let made = Tool::new(env!("CARGO"))
        .args(["run", "--locked", "--quiet", "--package", "dist", "--"])
        .args([executables, output])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .run();
    PathBuf::from(made.trim())
}

#[test]
fn the_same_executables_give_the_same_tarball_in_the_shape_that_platforms_take() {
    let work = tempfile::tempdir().expect("a directory");
    let lifecycle = Lifecycle::under_test();
    let first = dist(lifecycle.directory(), &work.path().join("first"));
    // Elsewhere, and with other times and modes.
    let elsewhere = work.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("created");
    for entry in fs::read_dir(lifecycle.directory()).expect("listed") {
        let entry = entry.expect("an entry");
        fs::write(elsewhere.join(entry.file_name()), fs::read(entry.path()).expect("read")).expect("written");
    }
    let second = dist(&elsewhere, &work.path().join("second"));
    assert!(fs::read(&first).expect("read") == fs::read(&second).expect("read"), "{first:?} and {second:?} differ");

    let name = first.file_name().expect("a name").to_string_lossy().into_owned();
    let ending = format!("+linux.{}.tgz", Architecture::HERE.in_tarballs());
    assert!(name.starts_with("lifecycle-v") && name.ends_with(&ending), "{name}");
    let version = name.trim_start_matches("lifecycle-v").trim_end_matches(&ending);

    let unpacked = work.path().join("unpacked");
    fs::create_dir(&unpacked).expect("created");
    Tool::new("tar").args(["-xzf"]).args([&first]).args(["-C"]).args([&unpacked]).run();
    let descriptor: toml::Table =
        fs::read_to_string(unpacked.join("lifecycle.toml")).expect("at the root").parse().expect("TOML");
    assert_eq!(descriptor["lifecycle"]["version"].as_str(), Some(version));
    for executable in [
        "analyzer",
        "builder",
        "creator",
        "detector",
        "exporter",
        "indexer",
        "launcher",
        "rebaser",
        "restorer",
        "lifecycle",
    ] {
        let path = unpacked.join("lifecycle").join(executable);
        let said = Tool::new("file").args(["--brief"]).args([&path]).run();
        assert!(said.contains("static") && !said.contains("interpreter"), "{executable}: {said}");
    }
    let other = format!("launcher-linux-{}", Architecture::OTHER.name());
    for (name, machine) in [("launcher", Architecture::HERE), (&other, Architecture::OTHER)] {
        let said = Tool::new("file").args(["--brief"]).args([unpacked.join("lifecycle").join(name)]).run();
        let known = said.replace('-', "_").contains(machine.machine());
        assert!(known && said.contains("static") && !said.contains("interpreter"), "{name}: {said}");
    }
    for name in ["lifecycle", "launcher", &other] {
        for format in ["cdx", "spdx", "syft"] {
            let path = unpacked.join(format!("lifecycle/{name}.sbom.{format}.json"));
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert!(document.is_object() && text.contains("pkg:cargo/serde@"), "{}", path.display());
            assert_eq!(text.contains("pkg:cargo/rustls@"), name == "lifecycle", "the launcher holds no TLS");
            let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a parent").display().to_string();
            assert!(!text.contains(&top), "no place of this machine is in it");
        }
    }

    let list = Tool::new("tar").args(["--numeric-owner", "--full-time", "--utc", "-tvzf"]).args([&first]).run();
    for line in list.lines() {
        assert!(line.contains(" 0/0 ") && line.contains("1980-01-01 00:00:01"), "{line}");
        assert!(line.starts_with('-') || line.ends_with(" lifecycle/"), "only files in one directory: {line}");
    }
}

#[test]
fn both_tarballs_have_the_same_launchers_for_both_architectures() {
    let work = tempfile::tempdir().expect("a directory");
    let lifecycles = [
        (Lifecycle::under_test(), Architecture::HERE, Architecture::OTHER),
        (Lifecycle::of_other_architecture(), Architecture::OTHER, Architecture::HERE),
    ];
    let mut found = Vec::new();
    for (lifecycle, own, other) in lifecycles {
        let made = dist(lifecycle.directory(), work.path());
        let name = made.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(name.ends_with(&format!("+linux.{}.tgz", own.in_tarballs())), "{name}");
        let unpacked = work.path().join(own.name());
        fs::create_dir(&unpacked).expect("created");
        Tool::new("tar").args(["-xzf"]).args([&made]).args(["-C"]).args([&unpacked]).run();
        for executable in ["analyzer", "detector", "creator"] {
            let said = Tool::new("file").args(["--brief"]).args([unpacked.join("lifecycle").join(executable)]).run();
            assert!(said.replace('-', "_").contains(own.machine()) && said.contains("static"), "{executable}: {said}");
        }
        let read = |launcher: &str| {
            let endings = ["", ".sbom.cdx.json", ".sbom.spdx.json", ".sbom.syft.json"];
            endings.map(|ending| {
                let path = unpacked.join("lifecycle").join(format!("{launcher}{ending}"));
                fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            })
        };
        let foreign = read(&format!("launcher-linux-{}", other.name()));
        assert!(!unpacked.join(format!("lifecycle/launcher-linux-{}", own.name())).exists(), "it is `launcher`");
        found.push((read("launcher"), foreign));
    }
    assert!(found[0].0 == found[1].1 && found[0].1 == found[1].0, "the exported image does not depend on the machine");
}

#[test]
fn a_launcher_of_another_architecture_than_its_name_says_is_refused() {
    let work = tempfile::tempdir().expect("a directory");
    let lifecycle = Lifecycle::under_test();
    Tool::new("cp").args(["--recursive"]).args([lifecycle.directory(), &work.path().join("mixed")]).run();
    let launcher = work.path().join(format!("mixed/launcher-linux-{}", Architecture::OTHER.name()));
    fs::copy(lifecycle.directory().join("launcher"), &launcher).expect("copied");
    let output = std::process::Command::new(env!("CARGO"))
        .args(["run", "--locked", "--quiet", "--package", "dist", "--"])
        .args([work.path().join("mixed"), work.path().join("out")])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .output()
        .expect("run");
    let said = String::from_utf8_lossy(&output.stderr);
    let (here, other) = (Architecture::HERE.name(), Architecture::OTHER.name());
    assert!(!output.status.success() && said.contains(&format!("is for {here}, and has to be for {other}")), "{said}");
}

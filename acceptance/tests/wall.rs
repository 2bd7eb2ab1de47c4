//! The walls between the packages: programs of buildpacks are run only by executables that cannot reach a network.
//!
//! What each package is made of is asked of cargo, for the package alone, as it is built for a release.

use std::collections::BTreeSet;
use std::process::Command;

/// Crates that open sockets or encrypt, and ours that uses them.
const CONNECTED: [&str; 14] = [
    "hyper",
    "h2",
    "http",
    "lifecycle-connected",
    "lifecycle-remote",
    "mio",
    "native-tls",
    "openssl",
    "reqwest",
    "ring",
    "rustls",
    "socket2",
    "tokio",
    "ureq",
];

/// The packages that may be connected: the phases that read and write images, and what makes and tests executables.
const MAY_CONNECT: [&str; 9] = [
    "analyzer",
    "creator",
    "exporter",
    "indexer",
    "lifecycle-connected",
    "lifecycle-remote",
    "rebaser",
    "restorer",
    "acceptance",
];

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap_or_else(|error| panic!("cargo: {error}"));
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn members() -> BTreeSet<String> {
    let metadata: serde_json::Value =
        serde_json::from_str(&cargo(&["metadata", "--locked", "--no-deps", "--format-version", "1"])).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    packages.iter().map(|package| package["name"].as_str().expect("a name").to_owned()).collect()
}

/// The names of what a package is linked with, its own among them.
fn tree(package: &str) -> BTreeSet<String> {
    let text = cargo(&[
        "tree",
        "--locked",
        "--package",
        package,
        "--edges",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "--no-dedupe",
        "--format",
        "{p}",
    ]);
    text.lines().filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[test]
fn only_the_phases_that_move_images_are_connected() {
    let members = members();
    for name in ["detector", "builder", "launcher", "lifecycle", "lifecycle-launch", "platform-spec"] {
        assert!(members.contains(name), "{name} is no package any more: {members:?}");
    }
    for package in members.iter().filter(|name| !MAY_CONNECT.contains(&name.as_str())) {
        let tree = tree(package);
        assert!(tree.contains(package), "{tree:?}");
        let found: Vec<_> = CONNECTED.iter().filter(|name| tree.contains(**name)).collect();
        assert!(found.is_empty(), "{package} is linked with {found:?}");
    }
}

/// `disallowed-types` sees no functions: where crates for system calls have some that open sockets, they are not there.
#[test]
fn no_crate_for_system_calls_opens_sockets() {
    let features = |package: &str| {
        let edges = ["--edges", "normal,features", "--prefix", "none", "--no-dedupe", "--format", "{p} {f}"];
        let text = cargo(&[&["tree", "--locked", "--package", package][..], &edges].concat());
        let is_one = |line: &&str| line.starts_with("nix v") || line.starts_with("rustix v");
        let mut all: Vec<String> = text.lines().filter(is_one).map(str::to_owned).collect();
        all.sort();
        all.dedup();
        all
    };
    for package in ["detector", "builder", "launcher", "lifecycle-dispatch"] {
        let lines = features(package);
        assert!(lines.iter().any(|line| line.starts_with("nix v")), "{package}: {lines:?}");
        let words = |line: &str| line.split([' ', ',']).any(|word| ["socket", "net"].contains(&word));
        let found: Vec<_> = lines.iter().filter(|line| words(line)).collect();
        assert!(found.is_empty(), "{package}: {found:?}");
    }
}

#[test]
fn a_connected_crate_would_be_found() {
    for package in ["analyzer", "restorer", "exporter", "creator", "indexer", "rebaser"] {
        let tree = tree(package);
        for name in ["lifecycle-remote", "ureq", "rustls", "ring"] {
            assert!(tree.contains(name), "{package} is not linked with {name}: {tree:?}");
        }
    }
}

#[test]
fn a_package_uses_only_what_is_below_it() {
    let ladder = [
        ("platform-spec", &[] as &[&str]),
        ("lifecycle-launch", &["platform-spec"]),
        ("lifecycle", &["platform-spec", "lifecycle-launch"]),
        ("lifecycle-remote", &["platform-spec", "lifecycle-launch", "lifecycle"]),
        ("launcher", &["platform-spec", "lifecycle-launch"]),
    ];
    let members = members();
    for (package, below) in ladder {
        let tree = tree(package);
        let used: Vec<_> = tree.iter().filter(|name| members.contains(*name) && *name != package).collect();
        assert!(used.iter().all(|name| below.contains(&name.as_str())), "{package} uses {used:?}");
    }
}

/// Every app image carries the launcher, and starts with it.
#[test]
fn the_launcher_is_made_of_little() {
    let little = [
        "bitflags",
        "cfg-if",
        "itoa",
        "launcher",
        "libc",
        "lifecycle-launch",
        "log",
        "memchr",
        "nix",
        "platform-spec",
        "ryu",
        "serde",
        "serde_core",
        "serde_json",
        "serde_spanned",
        "thiserror",
        "toml",
        "toml_datetime",
        "toml_parser",
        "winnow",
        "zmij",
    ];
    let more: Vec<_> = tree("launcher").into_iter().filter(|name| !little.contains(&name.as_str())).collect();
    assert!(more.is_empty(), "the launcher is linked with {more:?}");
}

/// With it, JSON that we write would have another order, and so digests would be others.
#[test]
fn json_objects_are_sorted() {
    let features = cargo(&[
        "tree",
        "--locked",
        "--workspace",
        "--edges",
        "features",
        "--invert",
        "serde_json",
        "--prefix",
        "none",
    ]);
    assert!(features.contains("serde_json feature \"std\""), "{features}");
    assert!(!features.contains("preserve_order"), "{features}");
}

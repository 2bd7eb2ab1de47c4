//! What a registry has lost or damaged of the previous image and of a cache image, and what somebody else put there.

use std::fs;
use std::path::PathBuf;

use acceptance::image;
use acceptance::{Build, Project};

/// The file in which the registry keeps a blob.
fn blob(build: &Build, digest: &str) -> PathBuf {
    let hex = digest.trim_start_matches("sha256:");
    build.registry.storage().join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
}

/// Forgets a blob everywhere, as a registry does that was cleaned up wrongly.
fn lose(build: &Build, repository: &str, digest: &str) {
    fs::remove_file(blob(build, digest)).expect("there");
    let link =
        format!("docker/registry/v2/repositories/{repository}/_layers/sha256/{}", digest.trim_start_matches("sha256:"));
    fs::remove_dir_all(build.registry.storage().join(link)).expect("there");
}

fn layers(build: &Build, name: &str) -> Vec<String> {
    let image = image::inspect(&build.registry, &build.registry.image(name));
    let layers = image.manifest["layers"].as_array().expect("a list");
    layers.iter().map(|layer| layer["digest"].as_str().expect("text").to_owned()).collect()
}

#[test]
fn a_layer_that_the_registry_has_lost_is_made_again() {
    let build = Build::of(Project::web());
    build.five("app");
    let before = image::inspect(&build.registry, &build.registry.image("app")).digest;
    for (number, lost) in layers(&build, "app").iter().enumerate().skip(1) {
        lose(&build, "app", lost);
        build.project.new_layers();
        build.five("app");
        assert_eq!(image::inspect(&build.registry, &build.registry.image("app")).digest, before);
        image::pull(
            &build.registry,
            &build.registry.image("app"),
            &build.project.path(&format!("layout{number}")),
            "app",
        );
    }
}

/// A build whose cache is an image.
fn cached_in_an_image() -> Build {
    let mut build = Build::of(Project::web());
    build.cache_image = Some(build.registry.image("cache"));
    build.five("app");
    build
}

#[test]
fn a_damaged_cache_image_is_passed_over_and_made_again() {
    type Damage = fn(&Build, &str);
    let damages: [(&str, Damage, &str); 3] = [
        ("lost", |build, digest| lose(build, "cache", digest), "Skipping restore for layer samples/server:server: "),
        (
            "changed",
            |build, digest| {
                let path = blob(build, digest);
                let mut bytes = fs::read(&path).expect("there");
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(path, bytes).expect("written");
            },
            "Skipping restore for layer samples/server:server: ",
        ),
        (
            "cut",
            |build, digest| {
                let path = blob(build, digest);
                let bytes = fs::read(&path).expect("there");
                fs::write(path, &bytes[..bytes.len() / 2]).expect("written");
            },
            "Skipping restore for layer samples/server:server: ",
        ),
    ];
    for (what, damage, says) in damages {
        let build = cached_in_an_image();
        let largest = layers(&build, "cache")
            .into_iter()
            .max_by_key(|digest| fs::metadata(blob(&build, digest)).expect("there").len());
        damage(&build, &largest.expect("a layer"));
        build.project.new_layers();
        build.run(&["analyzer", "detector"], "app");
        let restored = build.run(&["restorer"], "app").remove(0);
        assert!(restored.stderr.contains(says), "{what}: {restored:?}");
        assert!(!build.project.path("layers/samples_server/server").exists(), "{what}");
        assert!(!build.project.path("layers/samples_server/server.toml").exists(), "{what}");
        build.run(&["builder", "exporter"], "app");
        if what == "lost" {
            // What else is in the registry is damaged for good, and whoever reads it notices.
            image::pull(&build.registry, &build.registry.image("app"), &build.project.path("layout"), "app");
            build.project.new_layers();
            build.run(&["analyzer", "detector", "restorer"], "app");
            assert!(build.project.path("layers/samples_server/server/bin/httpd").exists());
        }
    }
}

#[test]
fn an_image_that_is_no_cache_is_an_empty_one() {
    let mut build = Build::of(Project::web());
    for name in ["run", "missing"] {
        build.cache_image = Some(build.registry.image(name));
        build.run(&["analyzer", "detector", "restorer"], "app");
        assert!(!build.project.path("layers/samples_server").exists());
    }
}

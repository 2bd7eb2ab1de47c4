//! A registry that collects what it takes for garbage, between exports for several targets to one tag.
//!
//! The collector of `docker-registry` 2.8 takes, if it is asked for manifests without a tag, those that a tagged index names,
//! too: all images for several platforms are lost then, whoever made them. Newer ones do not.

use acceptance::exports::{Prepared, push_run_images};
use acceptance::{Registry, Tool};

/// Whether skopeo finds all that a name names.
fn is_whole(registry: &Registry, name: &str) -> bool {
    let work = tempfile::tempdir().expect("a directory");
    let output = std::process::Command::new("skopeo")
        .args(["copy", "--quiet", "--all"])
        .args(registry.skopeo_flags("src"))
        .args([format!("docker://{}", registry.image(name)), format!("dir:{}", work.path().display())])
        .output()
        .expect("skopeo");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || said.contains("manifest unknown"), "{said}");
    output.status.success()
}

const NAMES: [&str; 3] = ["app:latest", "app:latest-cnb-linux-amd64", "app:latest-cnb-linux-arm64"];

#[test]
fn exports_after_a_collection() {
    let registry = Registry::start();
    let targets = ["amd64", "arm64"];
    push_run_images(&registry, "run", &targets, "old");
    let app = registry.image("app");
    let [amd64, arm64] = targets.map(|target| Prepared::new(target, &registry.image(&format!("run-{target}")), &app));
    for build in [&amd64, &arm64] {
        build.exporter(&app).run().succeeds();
    }
    // A copy is an image as others make it.
    Tool::new("skopeo")
        .args(["copy", "--quiet", "--all"])
        .args(registry.skopeo_flags("src"))
        .args(registry.skopeo_flags("dest"))
        .args([format!("docker://{app}"), format!("docker://{}", registry.image("copy:1"))])
        .run();

    registry.collect(false);
    for name in NAMES.iter().chain(&["copy:1"]) {
        assert!(is_whole(&registry, name), "{name}");
    }
    let before = registry.children("app");

    registry.collect(true);
    let is_kept = is_whole(&registry, "copy:1");
    for name in NAMES {
        assert_eq!(is_whole(&registry, name), is_kept, "{name}: ours fares as others do");
    }
    arm64.build("after the collection");
    let outcome = arm64.exporter(&app).run();
    if is_kept {
        outcome.succeeds();
        assert_eq!(registry.children("app")[0], before[0]);
    } else {
        // The other image is named by the index and by its slot, and not there: this export cannot bring it back.
        let outcome = outcome.ends_with(62).says(&format!("has lost {} for linux/amd64", before[0].1));
        outcome.says(&format!("the image is there as {app}@"));
        assert_eq!(registry.children("app"), before, "the tag is what it was");
    }
    // It can, though nothing was changed in it.
    amd64.exporter(&app).run().succeeds();
    for name in NAMES {
        assert!(is_whole(&registry, name), "{name}");
    }
    let after = registry.children("app");
    assert_eq!(after[0], before[0], "the same layers give the same image");
    assert_ne!(after[1], before[1], "what was exported in between is in it");
}

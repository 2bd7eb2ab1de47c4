//! Links to a secret of the exporter's in all places that a buildpack can write: the secret is never in the registry, in
//! the cache or in what is printed, and nothing is written through the links.

use std::fs;
use std::os::unix::fs::symlink;

use acceptance::snapshot::{changes, snapshot};
use acceptance::{Build, Project};

use super::{fails, holding};

const SECRET: &str = "s3cret-c0ffee";

/// A project that is built, with a secret in `home`: as it is, as TOML, and as a metadata.toml.
fn built() -> Build {
    let build = Build::of(Project::web());
    build.project.write("home/.docker/config.json", format!("{{\"auths\": {{\"x\": {{\"auth\": \"{SECRET}\"}}}}}}"));
    build.project.write(
        "home/credentials.toml",
        format!("token = \"{SECRET}\"\nid = '{SECRET}'\n[[group]]\nid = '{SECRET}/'\n"),
    );
    build.project.write("home/page.html", SECRET);
    build.project.write("home/metadata.toml", "processes = []\n");
    build.project.write("home/sbom.cdx.json", SECRET);
    build.project.write("app/public/marker", "marker-in-the-app");
    build.five("app");
    build
}

/// Puts a link in the place of what is there, and gives back what was there when it is dropped.
struct Planted<'a> {
    build: &'a Build,
    place: &'static str,
}

impl<'a> Planted<'a> {
    fn new(build: &'a Build, place: &'static str, target: &str) -> Self {
        let path = build.project.path(place);
        if fs::symlink_metadata(&path).is_ok() {
            fs::rename(&path, build.project.path("aside")).expect("renamed");
        }
        symlink(build.project.path(target), &path).expect("linked");
        build.project.give_to_user();
        Self { build, place }
    }
}

impl Drop for Planted<'_> {
    fn drop(&mut self) {
        let (path, aside) = (self.build.project.path(self.place), self.build.project.path("aside"));
        let _ = fs::remove_file(&path);
        if fs::symlink_metadata(&aside).is_ok() {
            fs::rename(aside, path).expect("renamed");
        }
    }
}

/// The cache is looked at after each case, since the next may replace it.
#[track_caller]
fn is_not_in_the_cache(build: &Build, what: &str) {
    assert_eq!(holding(&build.project.path("cache"), SECRET), [""; 0], "{what}");
}

/// The registry keeps all that was ever sent, so it is looked at once.
#[track_caller]
fn was_never_sent(build: &Build) {
    let storage = build.registry.storage();
    assert!(!holding(&storage, "marker-in-the-app").is_empty(), "what is in layers is found");
    assert_eq!(holding(&storage, SECRET), [""; 0]);
}

#[test]
fn a_link_in_the_place_of_a_file_or_a_directory_is_refused() {
    let build = built();
    let symlink = "is a symbolic link, not a ";
    for (place, target, code, says) in [
        ("layers/samples_site", "home", 62, symlink),
        ("layers/samples_site/settings", "home", 62, symlink),
        ("layers/samples_server/server", "home/.docker", 62, symlink),
        ("layers/samples_site/settings.toml", "home/credentials.toml", 62, symlink),
        ("layers/samples_site/store.toml", "home/credentials.toml", 62, symlink),
        ("layers/sbom", "home", 62, symlink),
        ("layers/sbom/launch", "home", 62, symlink),
        ("layers/sbom/cache", "home", 62, symlink),
        ("layers/config", "home", 62, "layers/config was replaced while it was archived"),
        ("layers/config/metadata.toml", "home/.docker/config.json", 62, "config/metadata.toml: line 1"),
        ("layers/group.toml", "home/credentials.toml", 1, symlink),
        ("layers/analyzed.toml", "home/credentials.toml", 1, symlink),
        ("layers/project-metadata.toml", "home/credentials.toml", 1, symlink),
    ] {
        let planted = Planted::new(&build, place, target);
        let outcome = fails(&build, build.phase_for("exporter", "app").env("CNB_LOG_LEVEL", "debug"), code, says);
        assert!(outcome.stderr.contains(place), "{outcome:?}");
        outcome.says_no(SECRET);
        drop(planted);
        is_not_in_the_cache(&build, place);
    }
    for (place, target, code) in [
        ("layers/group.toml", "home/credentials.toml", 1),
        ("layers/samples_server", "home", 42),
        ("layers/sbom", "home", 42),
    ] {
        let planted = Planted::new(&build, place, target);
        let outcome = build.phase_for("restorer", "app").run().ends_with(code);
        outcome.says_no(SECRET).says(place).says(symlink);
        drop(planted);
        is_not_in_the_cache(&build, place);
    }
    // All that is broken was the links.
    build.phase_for("exporter", "app").run().succeeds();
    was_never_sent(&build);
}

#[test]
fn a_link_inside_of_a_layer_or_the_app_stays_a_link() {
    let build = built();
    let mut planted = Vec::new();
    for (place, target) in [
        ("app/link-to-file", "home/credentials.toml"),
        ("app/link-to-directory", "home/.docker"),
        // What the slice `public/*.html` names, and the directory that it is in.
        ("app/public/page.html", "home/page.html"),
        ("layers/samples_site/settings/link", "home/.docker"),
        ("layers/samples_server/server/link", "home/credentials.toml"),
        ("layers/sbom/launch/samples_server/server/link", "home/sbom.cdx.json"),
        ("layers/samples_site/launch.sbom.cdx.json", "home/sbom.cdx.json"),
        ("layers/samples_site/untyped", "home/.docker"),
    ] {
        planted.push(Planted::new(&build, place, target));
    }
    build.phase_for("exporter", "app").run().succeeds().says_no(SECRET);
    is_not_in_the_cache(&build, "links");
    drop(planted);
    let planted = Planted::new(&build, "app/public", "home");
    build.phase_for("exporter", "app").run().succeeds().says_no(SECRET);
    is_not_in_the_cache(&build, "the directory of a slice");
    drop(planted);
    let planted = Planted::new(&build, "app", "home");
    build.phase_for("exporter", "app").run().succeeds().says_no(SECRET);
    is_not_in_the_cache(&build, "the app directory");
    drop(planted);
    was_never_sent(&build);
}

#[test]
fn nothing_is_written_through_a_link() {
    let build = built();
    let precious = |name: &str| fs::read_to_string(build.project.path("home").join(name)).expect("there");
    let before = precious("credentials.toml");
    for (phase, place) in [
        ("analyzer", "layers/analyzed.toml"),
        ("exporter", "layers/report.toml"),
        ("restorer", "layers/samples_server/server.toml"),
        ("restorer", "layers/samples_server/server.sbom.cdx.json"),
    ] {
        build.project.give_to_user();
        let path = build.project.path(place);
        let _ = fs::remove_file(&path);
        symlink(build.project.path("home/credentials.toml"), &path).expect("linked");
        build.phase_for(phase, "app").run().succeeds();
        assert_eq!(precious("credentials.toml"), before, "{phase}: {place}");
        assert!(fs::symlink_metadata(&path).expect("there").is_file(), "{phase}: {place}");
    }
    // A layer that the cache has, in whose place a link is.
    let layer = build.project.path("layers/samples_server/server");
    fs::remove_dir_all(&layer).expect("removed");
    symlink(build.project.path("home"), &layer).expect("linked");
    build.phase_for("restorer", "app").run().succeeds();
    assert_eq!(fs::read_dir(build.project.path("home")).expect("listed").count(), 5);
}

#[test]
fn a_buildpack_that_links_to_a_secret_is_refused_by_the_creator() {
    let build = built();
    let before = snapshot(&build.project.path("cache"));
    build.project.order(&[&["test/thief@1"]]);
    let home = build.project.path("home");
    let link = |target: &str, name: &str| format!("ln -s '{}' \"$CNB_LAYERS_DIR/{name}\"", home.join(target).display());
    for (script, says) in [
        (link(".docker", "x") + "; printf '[types]\\nlaunch = true' > \"$CNB_LAYERS_DIR/x.toml\"", "test_thief/x is"),
        (link("credentials.toml", "x.toml"), "test_thief/x.toml is"),
        (link("sbom.cdx.json", "launch.sbom.cdx.json"), "test_thief/launch.sbom.cdx.json is"),
        ("rmdir \"$CNB_LAYERS_DIR\"; ".to_owned() + &link("", "").replace("/\"", "\""), "layers/test_thief is"),
    ] {
        let formats = "sbom-formats = ['application/vnd.cyclonedx+json']";
        build.project.shell_buildpack("0.10", "test/thief", "1", formats, "exit 0", &script);
        build.project.new_layers();
        let outcome = build.phase_for("creator", "app").run().ends_with(52);
        outcome.says(says).says("is a symbolic link").says_no(SECRET);
        assert_eq!(changes(&before, &snapshot(&build.project.path("cache"))), [""; 0]);
    }
    was_never_sent(&build);
}

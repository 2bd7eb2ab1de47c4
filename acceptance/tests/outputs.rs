//! Where outputs go is not always an ordinary place: mounted files, full disks, directories of somebody else's, a registry that
//! ends.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use acceptance::{Build, Project, Tool, USER, image};

/// Something that is mounted until the value is gone.
struct Mount(PathBuf);

impl Mount {
    fn bind(from: &Path, to: &Path) -> Self {
        Tool::new("mount").args(["--bind"]).args([from, to]).run();
        Self(to.to_owned())
    }

    fn tmpfs(to: &Path, kib: u32) -> Self {
        Tool::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kib}k,uid={USER},gid={USER}"), "tmpfs"])
            .args([to])
            .run();
        Self(to.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Also while a test panics: what is mounted must not stay.
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn give_to_root(path: &Path, mode: u32) {
    lchown(path, Some(0), Some(0)).expect("given");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
}

#[test]
fn files_that_are_mounted_and_files_in_directories_of_others_are_written_in_place() {
    let build = Build::of(Project::web());
    let project = &build.project;
    project.write("outside/analyzed.toml", "# before\n");
    project.write("outside/group.toml", "# before\n");
    project.write("layers/analyzed.toml", "");
    let mount = Mount::bind(&project.path("outside/analyzed.toml"), &project.path("layers/analyzed.toml"));
    give_to_root(&project.path("outside"), 0o755);

    build.run(&["analyzer"], "app");
    let analyzed = project.toml("outside/analyzed.toml");
    assert!(analyzed["run-image"]["reference"].as_str().expect("text").contains("@sha256:"), "{analyzed}");
    let group = project.path("outside/group.toml");
    build.phase("detector").flag("group", &group).run().succeeds();
    assert!(project.read("outside/group.toml").contains("samples/site"));
    build.phase("restorer").flag("group", &group).run().succeeds();
    build.phase("builder").flag("group", &group).run().succeeds();
    let report = project.path("outside/report.toml");
    build
        .phase_for("exporter", "app")
        .flag("group", &group)
        .flag("report", &report)
        .run()
        .ends_with(62)
        .says(&report.display().to_string());
    drop(mount);
    assert_eq!(project.read("layers/analyzed.toml"), "", "the file beneath the mount");
}

#[test]
fn a_full_disk_ends_a_phase_and_what_was_there_stays() {
    let build = Build::of(Project::web());
    let project = &build.project;
    let old = "[run-image]\nreference = \"old\"\n";
    project.write("full/analyzed.toml", old);
    fs::remove_file(project.path("full/analyzed.toml")).expect("removed");
    let _mount = Mount::tmpfs(&project.path("full"), 64);
    fs::write(project.path("full/analyzed.toml"), old).expect("written");
    fill(&project.path("full/filler"));
    let path = project.path("full/analyzed.toml");
    let outcome = build.phase_for("analyzer", "app").flag("analyzed", &path).run().ends_with(32);
    outcome.says(&path.display().to_string()).says("no space left on device");
    assert_eq!(fs::read_to_string(&path).expect("there"), old);
    let left: Vec<_> =
        fs::read_dir(project.path("full")).expect("listed").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left.len(), 2, "leftovers: {left:?}");
}

#[test]
fn a_cache_that_does_not_fit_is_warned_of_and_the_next_build_works() {
    let build = Build::of(Project::web());
    let project = &build.project;
    let _mount = Mount::tmpfs(&project.path("cache"), 5000);
    build.five("app");
    // Another layer of the same size, and there is no room for both.
    project.new_layers();
    build.run(&["analyzer", "detector", "restorer", "builder"], "app");
    fs::write(project.path("layers/samples_server/server/more"), random(4 << 20)).expect("written");
    project.give_layers_to_user();
    build.phase_for("exporter", "app").run().succeeds().says("no space left on device");
    image::inspect(&build.registry, &build.registry.image("app"));
    project.new_layers();
    build.five("app");
}

#[test]
fn a_full_disk_beneath_the_layers_ends_the_restorer() {
    let build = Build::of(Project::web());
    let project = &build.project;
    build.five("app");
    project.new_layers();
    let _mount = Mount::tmpfs(&project.path("layers"), 600);
    build.run(&["analyzer", "detector"], "app");
    let restored = build.phase("restorer").run();
    // The layer's content does not fit: its metadata must not be there either.
    assert!(!project.path("layers/samples_server/server.toml").exists() || restored.code == 42, "{restored:?}");
    restored.says("no space left on device");
}

#[test]
fn a_registry_that_ends_in_the_middle_of_a_push_is_told_soon_and_nothing_is_reported() {
    let mut build = Build::of(Project::web());
    build.run(&["analyzer", "detector", "restorer", "builder"], "app");
    fs::write(build.project.path("layers/samples_site/settings/large"), random(60 << 20)).expect("written");
    build.project.give_layers_to_user();
    let mut exporter = build.phase_for("exporter", "app").command();
    let uploads = || build.registry.requests().iter().filter(|line| line.starts_with("\"POST")).count();
    let before = uploads();
    exporter.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let exporter = exporter.spawn().expect("started");
    let begun = Instant::now();
    // An upload has begun when the first answer to one was given.
    while uploads() == before {
        assert!(begun.elapsed() < Duration::from_secs(30), "nothing is uploaded");
        std::thread::sleep(Duration::from_millis(2));
    }
    build.registry.stop();
    let output = exporter.wait_with_output().expect("ended");
    let outcome = acceptance::Outcome::new("exporter".to_owned(), &output).ends_with(62);
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
    assert!(
        outcome.stderr.contains(build.registry.host()) || outcome.stdout.contains(build.registry.host()),
        "{outcome:?}"
    );
    assert!(!build.project.path("layers/report.toml").exists());
}

fn fill(path: &Path) {
    let mut chunk = vec![0; 4096];
    let mut file = fs::File::create(path).expect("created");
    while std::io::Write::write_all(&mut file, &chunk).is_ok() {}
    // To the last byte.
    chunk.truncate(1);
    while std::io::Write::write_all(&mut file, &chunk).is_ok() {}
}

/// Bytes that do not compress.
fn random(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..size / 8).flat_map(|_| next().to_le_bytes()).collect()
}

//! Where outputs go is not always an ordinary place: mounted files, full disks, directories of somebody else's, a registry that
//! ends.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use acceptance::snapshot::{changes, snapshot};
use acceptance::{Build, Project, Registry, Tool, USER, image};

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
fn every_output_can_be_a_mounted_file() {
    let build = Build::of(Project::web());
    let project = &build.project;
    let outputs = ["analyzed", "group", "plan", "report"];
    for name in outputs {
        project.write(&format!("outside/{name}.toml"), "# before\n");
        project.write(&format!("layers/{name}.toml"), "");
    }
    fs::create_dir(project.path("layers/config")).expect("created");
    project.write("layers/config/metadata.toml", "");
    project.write("outside/metadata.toml", "# before\n");
    let mounts = outputs.map(|name| {
        let file = |place: &str| project.path(place).join(name).with_extension("toml");
        Mount::bind(&file("outside"), &file("layers"))
    });
    let metadata = Mount::bind(&project.path("outside/metadata.toml"), &project.path("layers/config/metadata.toml"));
    build.five("app");
    drop((mounts, metadata));
    for name in ["analyzed", "group", "plan", "report", "metadata"] {
        let text = project.read(&format!("outside/{name}.toml"));
        assert!(!text.contains("# before"), "{name}: {text}");
        project.toml(&format!("outside/{name}.toml"));
    }
}

#[test]
fn an_output_can_be_what_the_phase_has_open_already() {
    // The pipes of this test are root's: the user that the phases run as could not open them.
    let build = Build::of(Project::web());
    let output = |phase: &str, flag: &str, file: &str| build.phase(phase).flag(flag, file);
    let app = build.registry.image("app");
    let analyzed = output("analyzer", "analyzed", "/dev/stdout").arg(&app).run().succeeds();
    assert!(analyzed.stdout.contains("[run-image]\n  reference = "), "{analyzed:?}");
    build.run(&["analyzer"], "app");
    let grouped = output("detector", "group", "/dev/fd/2").flag("plan", "/dev/stdout").run().succeeds();
    assert!(grouped.stderr.contains("[[group]]\n  id = \"samples/server\""), "{grouped:?}");
    build.run(&["detector", "restorer", "builder"], "app");
    let exported = output("exporter", "report", "/dev/stdout").arg(&app).run().succeeds();
    assert!(exported.stdout.contains("digest = \"sha256:"), "{exported:?}");
    let created = output("creator", "report", "/dev/stderr").as_root().arg(&app).run().succeeds();
    assert!(created.stderr.contains("digest = \"sha256:"), "{created:?}");
    let nowhere = output("exporter", "report", "/dev/null").arg(&app).run().succeeds();
    nowhere.says_no("digest = ");
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
fn a_full_disk_for_temporary_files_ends_the_exporter_and_the_image_and_the_cache_stay() {
    let build = Build::of(Project::web());
    let project = &build.project;
    build.five("app");
    fs::create_dir(project.path("temp")).expect("created");
    let temp = project.path("temp");
    let _mount = Mount::tmpfs(&temp, 1024);
    fs::write(project.path("app/large"), random(4 << 20)).expect("written");
    project.give_to_user();
    let tag = || image::inspect(&build.registry, &build.registry.image("app")).digest;
    let (cache, before) = (snapshot(&project.path("cache")), tag());
    let outcome = build.phase_for("exporter", "app").env("TMPDIR", &temp).run().ends_with(62);
    outcome.says(&format!("write a temporary file in {}: no space left on device", temp.display()));
    assert_eq!(changes(&cache, &snapshot(&project.path("cache"))), [""; 0]);
    assert_eq!(tag(), before);
    assert_eq!(fs::read_dir(&temp).expect("listed").count(), 0, "leftovers");

    // Nor where there is no such directory at all.
    let missing = project.path("none");
    for (phase, code) in [("detector", 21), ("builder", 52), ("exporter", 62)] {
        let outcome = build.phase_for(phase, "app").env("TMPDIR", &missing).run().ends_with(code);
        outcome.says(&missing.display().to_string()).says("no such file or directory");
    }
}

#[test]
fn a_full_disk_beneath_the_layers_ends_every_phase_that_writes_there() {
    let build = Build::of(Project::web());
    let project = &build.project;
    build.five("app");
    let kept = project.path("kept");
    Tool::new("cp").args(["--archive"]).args([project.path("layers"), kept.clone()]).run();
    let layers = project.path("layers");
    let mount = Mount::tmpfs(&layers, 8192);
    Tool::new("cp").args(["--archive"]).args([kept.join("."), layers.clone()]).run();
    for name in ["group.toml", "plan.toml", "config/metadata.toml"] {
        fs::write(layers.join(name), format!("{}# old\n", fs::read_to_string(layers.join(name)).expect("there")))
            .expect("written");
    }
    fill(&layers.join("filler"));
    for (phase, code, file) in [
        ("analyzer", 32, "analyzed.toml"),
        ("detector", 22, "group.toml"),
        ("builder", 52, "config/metadata.toml"),
        ("exporter", 62, "report.toml"),
    ] {
        let before = fs::read(layers.join(file)).expect("there");
        let outcome = build.phase_for(phase, "app").run().ends_with(code);
        outcome.says("no space left on device").says(&layers.display().to_string());
        assert!(fs::read(layers.join(file)).expect("there") == before, "{phase}: {file} is as it was");
    }
    drop(mount);
}

#[test]
fn a_full_disk_ends_an_export_to_a_layout_and_the_image_before_stays() {
    let project = Project::web();
    let layouts = project.path("layouts");
    fs::create_dir(&layouts).expect("created");
    let _mount = Mount::tmpfs(&layouts, 16 << 10);
    let run = layouts.join("index.docker.io/library/run/latest");
    fs::create_dir_all(run.parent().expect("a parent")).expect("created");
    image::make_run_image(&run, "latest");
    Tool::new("chown").args(["--recursive", &format!("{USER}:{USER}")]).args([&layouts]).run();
    let phase = |name: &str| {
        let phase = project.phase(name).env("CNB_EXPERIMENTAL_MODE", "warn");
        match name {
            "detector" | "builder" => phase,
            "analyzer" => phase.arg("-layout").flag("layout-dir", &layouts).flag("run-image", "run").arg("app"),
            _ => phase.arg("-layout").flag("layout-dir", &layouts).arg("app"),
        }
    };
    for name in ["analyzer", "detector", "builder", "exporter"] {
        phase(name).run().succeeds();
    }
    let app = layouts.join("index.docker.io/library/app/latest");
    let before = fs::read(app.join("index.json")).expect("there");
    fs::write(project.path("app/large"), random(20 << 20)).expect("written");
    project.give_to_user();
    phase("analyzer").run().succeeds();
    phase("exporter").run().ends_with(62).says("no space left on device").says(&app.display().to_string());
    assert_eq!(fs::read(app.join("index.json")).expect("there"), before);
    let copy = project.path("copy");
    Tool::new("skopeo")
        .args(["copy", "--quiet"])
        .args([format!("oci:{}:latest", app.display()), format!("dir:{}", copy.display())])
        .run();
    fs::remove_file(project.path("app/large")).expect("removed");
    phase("exporter").run().succeeds();
}

#[test]
fn a_cache_that_does_not_fit_is_warned_of_and_the_next_build_works() {
    let build = Build::of(Project::web());
    let project = &build.project;
    let _mount = Mount::tmpfs(&project.path("cache"), 5000);
    build.five("app");
    let before = snapshot(&project.path("cache"));
    // Another layer of the same size, and there is no room for both.
    project.new_layers();
    build.run(&["analyzer", "detector", "restorer", "builder"], "app");
    fs::write(project.path("layers/samples_server/server/more"), random(4 << 20)).expect("written");
    project.give_layers_to_user();
    let outcome = build.phase_for("exporter", "app").run().succeeds().says("no space left on device");
    outcome.says("Keeping cache layer 'samples/server:server' of the build before");
    image::inspect(&build.registry, &build.registry.image("app"));
    assert_eq!(changes(&before, &snapshot(&project.path("cache"))), [""; 0], "what the cache had is there");
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

/// A registry, until so many bytes were sent to it: then it ends with all its connections. Where it is reached.
fn ends_after(registry: &Registry, bytes: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let registry = registry.host().to_owned();
    let sent = Arc::new(AtomicU64::new(0));
    let open = Arc::new(Mutex::new(Vec::new()));
    thread::spawn(move || {
        for client in listener.incoming() {
            if sent.load(Ordering::SeqCst) > bytes {
                // With the listener others are refused.
                return;
            }
            let client = client.expect("a connection");
            let server = TcpStream::connect(&registry).expect("connected");
            let again = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
            open.lock().expect("not poisoned").extend([again(&client), again(&server)]);
            let (mut answers, mut to_client) = (again(&server), again(&client));
            thread::spawn(move || {
                let _ = io::copy(&mut answers, &mut to_client);
                let _ = to_client.shutdown(Shutdown::Write);
            });
            let (sent, open) = (Arc::clone(&sent), Arc::clone(&open));
            thread::spawn(move || {
                let (mut client, mut server) = (client, server);
                let mut buffer = vec![0; 64 << 10];
                while let Ok(read) = client.read(&mut buffer) {
                    if sent.fetch_add(read as u64, Ordering::SeqCst) + read as u64 > bytes {
                        for stream in open.lock().expect("not poisoned").iter() {
                            let _ = stream.shutdown(Shutdown::Both);
                        }
                        // So that it sees that it has to end.
                        let _ = TcpStream::connect(address);
                        return;
                    }
                    if read == 0 || server.write_all(&buffer[..read]).is_err() {
                        let _ = server.shutdown(Shutdown::Write);
                        return;
                    }
                }
            });
        }
    });
    address.to_string()
}

#[test]
fn a_registry_that_ends_in_the_middle_of_a_push_is_told_soon_and_nothing_is_reported() {
    let build = Build::of(Project::web());
    build.five("app");
    let app = build.registry.image("app");
    let old = image::inspect(&build.registry, &app).digest;
    fs::remove_file(build.project.path("layers/report.toml")).expect("there");
    fs::write(build.project.path("layers/samples_site/settings/large"), random(60 << 20)).expect("written");
    build.project.give_layers_to_user();
    let host = ends_after(&build.registry, 20 << 20);
    let through = format!("{host}/app");
    build.phase("analyzer").arg(&through).run().succeeds();
    let begun = Instant::now();
    let outcome = build.phase("exporter").arg(&through).run().ends_with(62).says(&host);
    assert!(begun.elapsed() < Duration::from_secs(200), "{:?}: {outcome:?}", begun.elapsed());
    assert!(!build.project.path("layers/report.toml").exists());
    assert_eq!(image::inspect(&build.registry, &app).digest, old, "the tag is the old one");
    build.run(&["analyzer", "exporter"], "app");
    assert_ne!(image::inspect(&build.registry, &app).digest, old);
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

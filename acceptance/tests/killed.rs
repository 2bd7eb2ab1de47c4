//! Phases that are killed while they write: the next run succeeds, and nothing is half old and half new.

use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

use acceptance::{Build, Phase, Project};

const MOMENTS: u32 = 50;
const LAYERS: [&str; 3] = ["a", "b", "c"];

/// A build after its builder has run, with layers whose every file says of which generation it is.
fn built() -> Build {
    let build = Build::of(Project::empty());
    let project = &build.project;
    let module = "id = \"test/kept\"\nversion = \"1\"\napi = \"0.10\"\n";
    project.write("layers/group.toml", format!("[[group]]\n{module}"));
    project.write("layers/config/metadata.toml", format!("[[buildpacks]]\n{module}"));
    generation(project, 0);
    build.run(&["analyzer"], "app");
    fs::copy(project.path("layers/analyzed.toml"), project.path("analyzed.toml")).expect("copied");
    build
}

fn generation(project: &Project, number: u32) {
    for layer in LAYERS {
        let path = project.path("layers/test_kept").join(layer);
        fs::create_dir_all(&path).expect("created");
        for file in 0..20 {
            let line = format!("layer {layer}, file {file}, generation {number}\n");
            fs::write(path.join(format!("file{file}")), line.repeat(6000)).expect("written");
        }
        let types = format!("[types]\nlaunch = false\ncache = true\nbuild = true\n[metadata]\ngeneration = {number}\n");
        fs::write(path.with_extension("toml"), types).expect("written");
    }
    project.give_to_user();
}

/// The generation that all the restored layers are of.
#[track_caller]
fn restored(project: &Project) -> u32 {
    let mut found = Vec::new();
    for layer in LAYERS {
        for file in 0..20 {
            let text = project.read(&format!("layers/test_kept/{layer}/file{file}"));
            let first = text.lines().next().unwrap_or_default();
            assert_eq!(text, format!("{first}\n").repeat(6000), "{layer}/file{file} is whole");
            let start = format!("layer {layer}, file {file}, generation ");
            found.push(first.strip_prefix(&start).and_then(|number| number.parse().ok()).expect("a generation"));
        }
        let metadata = project.toml(&format!("layers/test_kept/{layer}.toml"));
        let number = metadata["metadata"]["generation"].to_string();
        found.push(number.trim_end_matches(".0").parse().expect("a number"));
    }
    assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "half old, half new: {found:?}");
    found[0]
}

/// Into a layers directory that has only what earlier phases wrote.
#[track_caller]
fn restore(build: &Build) -> u32 {
    fs::remove_dir_all(build.project.path("layers/test_kept")).unwrap_or_default();
    build.phase("restorer").run().succeeds();
    restored(&build.project)
}

fn killed_after(phase: Phase, time: Duration) {
    let mut child: Child = phase
        .command()
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("started");
    std::thread::sleep(time);
    child.kill().expect("killed");
    child.wait().expect("ended");
}

/// How long a phase takes when nobody kills it.
fn time(mut run: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..3)
        .map(|_| {
            let begun = Instant::now();
            run();
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[1]
}

#[test]
fn the_exporter_while_it_writes_the_cache_directory() {
    let build = built();
    let exporter = || {
        fs::copy(build.project.path("analyzed.toml"), build.project.path("layers/analyzed.toml")).expect("copied");
        build.phase_for("exporter", "app")
    };
    let mut number = 0;
    let takes = time(|| {
        number += 1;
        generation(&build.project, number);
        exporter().run().succeeds();
    });
    let mut new = 0;
    for moment in 0..MOMENTS {
        let old = restore(&build);
        assert_eq!(old, number);
        number += 1;
        generation(&build.project, number);
        killed_after(exporter(), takes * moment / MOMENTS);
        let now = restore(&build);
        assert!(now == number || now == old, "generation {now}, neither {old} nor {number}");
        new += u32::from(now == number);
        generation(&build.project, number);
        exporter().run().succeeds();
    }
    assert!(new < MOMENTS, "no export was killed before its end");
}

#[test]
fn the_restorer_while_it_extracts() {
    let build = built();
    generation(&build.project, 7);
    build.run(&["exporter"], "app");
    fs::copy(build.project.path("analyzed.toml"), build.project.path("layers/analyzed.toml")).expect("copied");
    let takes = time(|| {
        restore(&build);
    });
    for moment in 0..MOMENTS {
        fs::remove_dir_all(build.project.path("layers/test_kept")).unwrap_or_default();
        killed_after(build.phase("restorer"), takes * moment / MOMENTS);
        // Over what the one before left there.
        build.phase("restorer").run().succeeds();
        assert_eq!(restored(&build.project), 7);
        let left: Vec<_> = fs::read_dir(build.project.path("layers/test_kept")).expect("listed").flatten().collect();
        let names: Vec<_> = left.iter().map(|entry| entry.file_name()).collect();
        assert_eq!(names.len(), 2 * LAYERS.len(), "leftovers: {names:?}");
        assert_eq!(restore(&build), 7, "the cache is as it was");
    }
}

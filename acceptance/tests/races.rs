//! Exporters for several targets, and indexers, merge into the index under one tag at the same time: none is lost, none is
//! stale.
//!
//! `ACCEPTANCE_RACES` says how many races there are of each size.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use acceptance::exports::Prepared;
use acceptance::image::push_run_image_for;
use acceptance::{Registry, how_many};
use serde_json::{Value, json};

const TYPE: &str = "application/vnd.oci.image.index.v1+json";

const TARGETS: [&str; 8] = ["amd64", "arm64", "arm/v7", "386", "s390x", "ppc64le", "riscv64", "loong64"];

fn start(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

#[test]
fn exports_at_the_same_time_are_all_in_the_index() {
    let races = how_many("ACCEPTANCE_RACES", 2);
    let registry = Registry::start();
    let builds = TARGETS.map(|target| {
        let arch = target.split('/').next().expect("an architecture");
        let run_image = push_run_image_for(&registry, &format!("run-{arch}"), arch);
        Prepared::new(target, &run_image, &registry.image("app"))
    });
    // Older images for the same targets, and one for another that nobody exports for.
    for build in &builds {
        build.build("older");
        build.exporter(&registry.image("app:older")).run().succeeds();
    }
    let mut older = registry.index("app:older");
    let mut foreign: Value = older["manifests"][0].clone();
    foreign["platform"] = json!({ "os": "linux", "architecture": "mips64le" });
    older["manifests"].as_array_mut().expect("a list").push(foreign.clone());
    let older_children: BTreeMap<String, String> = registry.children("app:older").into_iter().collect();
    for size in [2, 4, 8] {
        let began = Instant::now();
        let mut held = 0;
        for race in 0..races {
            // Who meets whom differs.
            let first = race % TARGETS.len();
            let writers: Vec<_> = (0..size).map(|number| &builds[(first + number) % TARGETS.len()]).collect();
            let tag = format!("{size}-{race}");
            let on_older = race % 2 == 1;
            if on_older {
                registry.put_manifest("app", &tag, TYPE, older.to_string().as_bytes());
            }
            for build in &writers {
                build.build(format!("race {tag}"));
            }
            let app = registry.image(&format!("app:{tag}"));
            let children: Vec<_> = writers.iter().map(|build| start(build.exporter(&app).command())).collect();
            for child in children {
                let output = child.wait_with_output().expect("ended");
                assert!(output.status.success(), "{tag}: {}", String::from_utf8_lossy(&output.stderr));
            }
            let mut expected = BTreeMap::new();
            if on_older {
                expected = older_children.clone();
                expected.insert("linux/mips64le".to_owned(), foreign["digest"].as_str().expect("text").to_owned());
            }
            for build in &writers {
                expected.insert(format!("linux/{}", build.project().target().expect("a target")), build.exported());
            }
            let found = registry.children(&format!("app:{tag}"));
            held += found.len();
            assert_eq!(found.len(), expected.len(), "{tag}: each platform once: {found:?}");
            assert_eq!(found.into_iter().collect::<BTreeMap<_, _>>(), expected, "{tag}");
        }
        let each = began.elapsed().as_millis() / u128::try_from(races.max(1)).expect("a number");
        tell(&format!("{races} races of {size} exporters: none lost, none stale, {held} images; {each} ms each"));
    }
}

/// An indexer that joins two images meets an exporter for a third machine and two for one and the same; then the index is
/// replaced, and merged into again.
#[test]
fn indexers_and_exporters_for_one_machine_meet() {
    let races = how_many("ACCEPTANCE_RACES", 2);
    let registry = Registry::start();
    let app = |tag: &str| registry.image(&format!("app:{tag}"));
    let builds = ["amd64", "amd64", "riscv64", "arm64", "s390x"].map(|target| {
        let run_image = push_run_image_for(&registry, &format!("run-{target}"), target);
        Prepared::new(target, &run_image, &app("none"))
    });
    let [one, another, third, joined @ ..] = &builds;
    let (mut firsts, began) = (0, Instant::now());
    for race in 0..races {
        for (number, build) in builds.iter().enumerate() {
            build.build(format!("race {race} of {number}"));
        }
        // What the indexer joins was exported before, apart.
        let mut indexer = one.project().lifecycle().phase("indexer").env("CNB_REGISTRY_AUTH", "{}");
        indexer = indexer.env("CNB_EXPERIMENTAL_MODE", "quiet");
        indexer = indexer.flag("index-report", one.project().path("index-report.toml")).arg(app(&format!("{race}")));
        for build in joined {
            let apart = format!("{race}-{}", build.project().target().expect("a target"));
            build.exporter(&app(&apart)).env("CNB_EXPORT_INDEX", "off").run().succeeds();
            indexer = indexer.arg(registry.image(&format!("app@{}", build.exported())));
        }
        let tag = race.to_string();
        let mut writers = vec![start(indexer.command())];
        writers.extend([one, another, third].map(|build| start(build.exporter(&app(&tag)).command())));
        for writer in writers {
            let output = writer.wait_with_output().expect("ended");
            assert!(output.status.success(), "{tag}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let held: BTreeMap<_, _> = registry.children(&format!("app:{tag}")).into_iter().collect();
        // Of two for one machine it is the one that was announced last.
        let announced = registry.children(&format!("app:{tag}-cnb-linux-amd64")).remove(0).1;
        assert!([one.exported(), another.exported()].contains(&announced), "{announced}");
        firsts += usize::from(announced == one.exported());
        let mut expected = BTreeMap::from([("linux/amd64".to_owned(), announced)]);
        for build in joined.iter().chain([third]) {
            expected.insert(format!("linux/{}", build.project().target().expect("a target")), build.exported());
        }
        assert_eq!(held, expected, "{tag}");

        another.exporter(&app(&tag)).env("CNB_EXPORT_INDEX", "replace").run().succeeds();
        let replaced = [("linux/amd64".to_owned(), another.exported())];
        assert_eq!(registry.children(&format!("app:{tag}")), replaced, "{tag}: nothing comes back");
        third.exporter(&app(&tag)).run().succeeds();
        let merged = [replaced[0].clone(), ("linux/riscv64".to_owned(), third.exported())];
        assert_eq!(registry.children(&format!("app:{tag}")), merged, "{tag}");
    }
    let each = began.elapsed().as_millis() / u128::try_from(races.max(1)).expect("a number");
    tell(&format!(
        "{races} races of an indexer, an exporter, and two for one machine (the first of which was last {firsts} times): \
         none lost, none stale; {each} ms each"
    ));
}

/// What the exporters do not do: read, add, write, and read back.
fn write_naively(registry: &Registry, tag: &str, child: &Value) {
    let path = format!("/v2/app/manifests/{tag}");
    let read = || -> Vec<Value> {
        let (head, body) = registry.get(&path);
        if !head.starts_with("HTTP/1.1 200") {
            return Vec::new();
        }
        let index: Value = serde_json::from_slice(&body).expect("JSON");
        index["manifests"].as_array().expect("a list").clone()
    };
    loop {
        let mut children = read();
        if children.contains(child) {
            return;
        }
        children.push(child.clone());
        let index = json!({ "schemaVersion": 2, "mediaType": TYPE, "manifests": children });
        registry.put_manifest("app", tag, TYPE, index.to_string().as_bytes());
        if read().contains(child) {
            return;
        }
    }
}

#[test]
fn without_announcements_children_are_lost() {
    let registry = Registry::start();
    let [amd64, arm64] = ["amd64", "arm64"].map(|arch| {
        push_run_image_for(&registry, &format!("run-{arch}"), arch);
        registry.push_index("app", &[(&format!("run-{arch}"), json!({ "platform": { "architecture": arch } }))]);
        registry.index("app")["manifests"][0].clone()
    });
    let races = how_many("ACCEPTANCE_RACES", 2).max(200);
    let lost = (0..races).filter(|race| {
        let tag = format!("naive-{race}");
        let barrier = Barrier::new(2);
        thread::scope(|scope| {
            for child in [&amd64, &arm64] {
                let (barrier, tag, registry) = (&barrier, &tag, &registry);
                scope.spawn(move || {
                    barrier.wait();
                    write_naively(registry, tag, child);
                });
            }
        });
        registry.children(&format!("app:{tag}")).len() < 2
    });
    let lost = lost.count();
    tell(&format!("{races} races of 2 that do not announce: {lost} lost an image"));
    assert!(lost > 0, "else the races above show nothing");
}

#[expect(clippy::print_stderr, reason = "numbers for those who ask with --nocapture")]
fn tell(text: &str) {
    eprintln!("{text}");
}

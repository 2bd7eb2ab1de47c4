//! Builds in which each phase is this lifecycle's or another one's, in every mix (target-arch.md, *Compatibility*), and
//! rebases by one of what the other has exported.
//!
//! The other lifecycle's executables are in `LIFECYCLE_REFERENCE_DIR`; `make compare` runs it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;

use acceptance::exports::push_run_images;
use acceptance::snapshot::{hex, snapshot};
use acceptance::{Architecture, Build, Lifecycle, Outcome, Project, Registry, Tool, image, marker};
use serde_json::Value;

const PHASES: [&str; 5] = ["analyzer", "detector", "restorer", "builder", "exporter"];

/// Which phases are ours: a bit each, in their order.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mix(u8);

impl Mix {
    const OURS: Self = Self(0b1_1111);
    const THEIRS: Self = Self(0);

    fn all() -> impl Iterator<Item = Self> {
        (Self::THEIRS.0..=Self::OURS.0).map(Self)
    }

    fn has(self, phase: &str) -> bool {
        let at = PHASES.iter().position(|name| *name == phase).expect("a phase");
        self.0 >> at & 1 == 1
    }

    /// Not mixed: all phases of whoever exports.
    fn of_exporter(self) -> usize {
        usize::from(self.has("exporter"))
    }

    /// The first phase of ours from this one on.
    fn first_from(self, phase: &str) -> Option<&'static str> {
        PHASES.into_iter().skip_while(|name| *name != phase).find(|name| self.has(name))
    }
}

impl fmt::Debug for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ours: Vec<_> = PHASES.into_iter().filter(|phase| self.has(phase)).collect();
        write!(f, "ours: {ours:?}")
    }
}

/// Both lifecycles, and one build, so that the paths in layers are the same for all mixes. Images are `app:<tag>`.
struct Mixer {
    ours: Lifecycle,
    theirs: Lifecycle,
    build: Build,
    target: Option<Architecture>,
    /// The index that a tag holds before the first build.
    before: Option<String>,
}

/// What is seen of a build.
#[derive(Debug)]
struct Seen {
    /// The phase that ended the build, with its exit status, and all that was printed.
    end: (&'static str, i32),
    printed: String,
    /// What was restored.
    found: Vec<String>,
    /// What the tag holds: platforms and digests of an index's children, or a digest without a platform.
    held: Vec<(String, String)>,
    /// What differs between two lifecycles only where they are allowed to.
    files: BTreeMap<&'static str, String>,
}

impl Mixer {
    fn new(project: Project) -> Self {
        let theirs = Lifecycle::reference();
        let registry = Registry::start();
        push_run_images(&registry, "run", &["amd64", "arm64"], "1");
        let run_image = registry.image("run");
        let ours = project.lifecycle().clone();
        let build = Build { project, registry, run_image, cache_image: None };
        Self { ours, theirs, build, target: None, before: None }
    }

    /// With the sample app.
    fn web() -> Self {
        let project = Project::web();
        marker::add(&project, "");
        project.order(&[&["samples/server@1.2.3", "samples/site@0.1.0", "test/marker@1"]]);
        Self::new(project)
    }

    fn phase(&mut self, mix: Mix, phase: &'static str, tag: &str) -> Outcome {
        let project = self.build.project.by(if mix.has(phase) { &self.ours } else { &self.theirs });
        self.build.project = match self.target {
            Some(target) => project.for_target(target.name()),
            None => project.without_target(),
        };
        let mut phase = self.build.phase_for(phase, &format!("app:{tag}"));
        if self.target.is_some() {
            phase = phase.env("CNB_EXPERIMENTAL_MODE", "warn").env("CNB_EXPORT_INDEX", "merge");
        }
        phase.run()
    }

    /// One phase after the other, until one fails.
    fn build(&mut self, mix: Mix, tag: &str) -> Seen {
        self.build.project.new_layers();
        let (mut end, mut printed, mut found) = (("", 0), String::new(), Vec::new());
        for phase in PHASES {
            let outcome = self.phase(mix, phase, tag);
            end = (phase, outcome.code);
            printed += &outcome.output();
            found.extend(marker::found(&outcome.stdout));
            if outcome.code != 0 {
                break;
            }
        }
        Seen { end, printed, found, held: self.held(&format!("app:{tag}")), files: self.files(tag) }
    }

    /// Two builds one after the other, with a cache of their own.
    fn twice(&mut self, mix: Mix, tag: &str) -> [Seen; 2] {
        self.new_cache();
        let tag = format!("{tag}-{}", mix.0);
        if self.build.cache_image.is_some() {
            self.build.cache_image = Some(self.build.registry.image(&format!("cache:{tag}")));
        }
        if let Some(index) = &self.before {
            self.build.registry.put_manifest("app", &tag, "application/vnd.oci.image.index.v1+json", index.as_bytes());
        }
        [(); 2].map(|()| self.build(mix, &tag))
    }

    /// An empty cache directory, or a copy of `cache-before`.
    fn new_cache(&self) {
        let path = |name: &str| self.build.project.path(name);
        fs::remove_dir_all(path("cache")).expect("removed");
        if path("cache-before").exists() {
            Tool::new("cp").args(["--archive"]).args([path("cache-before"), path("cache")]).run();
        } else {
            fs::create_dir(path("cache")).expect("created");
        }
        self.build.project.give_to_user();
    }

    /// The launcher of the image of `app` with this digest.
    fn launcher_of(&self, digest: &str) -> Vec<u8> {
        let registry = &self.build.registry;
        let found = image::inspect(registry, &registry.image(&format!("app@{digest}")));
        let metadata: Value = serde_json::from_str(found.label("io.buildpacks.lifecycle.metadata")).expect("JSON");
        let at =
            found.diff_ids().iter().position(|id| metadata["launcher"]["sha"] == **id).expect("the launcher's layer");
        let layer = found.manifest["layers"][at]["digest"].as_str().expect("text");
        let (_, blob) = registry.get(&format!("/v2/app/blobs/{layer}"));
        let work = tempfile::tempdir().expect("a directory");
        let archive = work.path().join("layer.tar.gz");
        fs::write(&archive, blob).expect("written");
        Tool::new("tar").args(["-xzf"]).args([&archive]).current_dir(work.path()).run();
        fs::read(work.path().join("cnb/lifecycle/launcher")).expect("a launcher")
    }

    fn held(&self, name: &str) -> Vec<(String, String)> {
        let (repository, tag) = name.split_once(':').expect("a tag");
        let (head, body) = self.build.registry.get(&format!("/v2/{repository}/manifests/{tag}"));
        if !head.starts_with("HTTP/1.1 200") {
            return Vec::new();
        }
        let manifest: Value = serde_json::from_slice(&body).expect("JSON");
        match manifest["manifests"].is_array() {
            true => self.build.registry.children(name),
            false => vec![(String::new(), format!("sha256:{}", hex(&body)))],
        }
    }

    fn files(&self, tag: &str) -> BTreeMap<&'static str, String> {
        let project = &self.build.project;
        let read = |path: &str| fs::read_to_string(project.path(path)).unwrap_or_default().replace(tag, "TAG");
        let parsed = |path: &str| format!("{:#?}", read(path).parse::<toml::Table>().expect("TOML"));
        BTreeMap::from([
            ("analyzed.toml", parsed("layers/analyzed.toml")),
            ("group.toml", read("layers/group.toml")),
            ("plan.toml", parsed("layers/plan.toml")),
            ("metadata.toml", read("layers/config/metadata.toml")),
            ("report.toml", parsed("layers/report.toml")),
            ("cache", format!("{:#?}", snapshot(&project.path("cache")))),
            ("cache image", format!("{:?}", self.held(&format!("cache:{tag}")))),
        ])
    }
}

/// All facts but what was printed are the same.
#[track_caller]
fn assert_same(seen: &Seen, expected: &Seen, what: &str) {
    let printed = &seen.printed;
    assert_eq!(seen.end, expected.end, "{what}\n{printed}");
    assert_eq!(seen.found, expected.found, "{what}\n{printed}");
    for (name, content) in &seen.files {
        assert_eq!(content, &expected.files[name], "{what}: {name}\n{printed}");
    }
    assert_eq!(seen.held, expected.held, "{what}\n{printed}");
}

#[test]
fn without_the_extensions_inputs_a_mix_is_as_good_as_no_mix() {
    let mut mixer = Mixer::web();
    for with_cache_image in [false, true] {
        mixer.build.cache_image = with_cache_image.then(String::new);
        let unmixed = [Mix::THEIRS, Mix::OURS].map(|mix| mixer.twice(mix, "alone"));
        let cached = marker::cached(Architecture::HERE.name(), Architecture::HERE);
        for seen in &unmixed {
            assert_eq!(seen[1].end, ("exporter", 0), "{}", seen[1].printed);
            assert_eq!([&seen[0].found, &seen[1].found], [&Vec::new(), &cached]);
        }
        for mix in Mix::all() {
            let seen = mixer.twice(mix, "mixed");
            for (seen, expected) in seen.iter().zip(&unmixed[mix.of_exporter()]) {
                assert_same(seen, expected, &format!("{mix:?}, with a cache image: {with_cache_image}"));
            }
        }
    }
}

/// The variables go to every phase, the reference's too, and the tag holds an image for the other architecture before.
#[test]
fn in_native_builds_a_mix_gives_the_image_that_no_mix_gives() {
    let mut mixer = Mixer::web();
    let unmixed = [Mix::THEIRS, Mix::OURS].map(|mix| mixer.twice(mix, "alone"));
    mixer.target = Some(Architecture::HERE);
    let other = Architecture::OTHER.name();
    let platform = serde_json::json!({ "platform": { "os": "linux", "architecture": other } });
    mixer.build.registry.push_index("app:before", &[(&format!("run-{other}"), platform)]);
    let before = mixer.held("app:before");
    mixer.before = Some(mixer.build.registry.index("app:before").to_string());
    for mix in Mix::all() {
        for (round, seen) in mixer.twice(mix, "native").iter().enumerate() {
            let what = format!("{mix:?}, round {round}\n{}", seen.printed);
            assert_eq!(seen.end, ("exporter", 0), "{what}");
            // Children are what would have been exported without an index; an exporter that knows none replaces it.
            let expected = &unmixed[mix.of_exporter()][round];
            let mut held = expected.held.clone();
            if mix.has("exporter") {
                held[0].0 = format!("linux/{}", Architecture::HERE.name());
                held.extend(before.clone());
                held.sort();
            }
            assert_eq!(seen.held, held, "{what}");
            assert_eq!(seen.files["report.toml"], expected.files["report.toml"], "{what}");
            // The cache of a target is in a place of its own.
            let hits = round == 1 && mix.has("restorer") == mix.has("exporter");
            let cached = marker::cached(Architecture::HERE.name(), Architecture::HERE);
            assert_eq!(seen.found, if hits { cached } else { Vec::new() }, "{what}");
        }
    }
}

/// A buildpack's layer `both` gets the program `programs/<name>` of the project, and keeps one that is restored.
fn for_programs(name: &str) -> Mixer {
    let project = Project::empty();
    let other = format!("launcher-linux-{}", Architecture::OTHER.name());
    for (architecture, program) in [(Architecture::HERE, "launcher"), (Architecture::OTHER, &other)] {
        let program = fs::read(project.lifecycle().directory().join(program)).expect("a launcher");
        project.write(&format!("programs/{}", architecture.name()), program);
    }
    let programs = project.path("programs");
    let copy = format!(
        "mkdir -p \"$CNB_LAYERS_DIR/both/bin\"\nprogram=$CNB_LAYERS_DIR/both/bin/program\n\
         [[ -e $program ]] || cp \"{}/{name}\" \"$program\"\nchmod 755 \"$program\"\n",
        programs.display()
    );
    marker::add(&project, &copy);
    project.order(&[&["test/marker@1"]]);
    Mixer::new(project)
}

/// How a cross build ends: the phase, its exit status, and a text that is printed.
fn end_of_cross_build(mix: Mix, analyzes_for_this_machine: bool) -> (&'static str, i32, &'static str) {
    if !mix.has("analyzer") && analyzes_for_this_machine {
        if let Some(phase) = mix.first_from("detector") {
            return (phase, 3, "but the run image that was analyzed is for linux/");
        }
    } else if !mix.has("detector") && mix.has("builder") {
        return ("exporter", 0, "no buildpack was asked whether it can");
    }
    ("exporter", 0, "")
}

/// What is for the target and what is for this machine never meet in what our phases make; what phases make that do not
/// know the target is told.
#[test]
fn in_cross_builds_a_mix_ends_with_an_image_for_the_target_or_says_why_not() {
    let mut mixer = for_programs("$CNB_TARGET_ARCH");
    let (here, target) = (Architecture::HERE.name(), Architecture::OTHER.name());
    // The cache of before there were targets.
    let seen = mixer.build(Mix::OURS, "before");
    assert_eq!(seen.end, ("exporter", 0), "{}", seen.printed);
    fs::rename(mixer.build.project.path("cache"), mixer.build.project.path("cache-before")).expect("moved");
    fs::create_dir(mixer.build.project.path("cache")).expect("created");
    let not_cross = mixer.twice(Mix::THEIRS, "before").map(|seen| seen.held[0].clone());
    let before = marker::cached(here, Architecture::HERE);
    let cached = marker::cached(target, Architecture::HERE);

    mixer.target = Some(Architecture::OTHER);
    for run_image in ["run", &format!("run-{target}")] {
        mixer.build.run_image = mixer.build.registry.image(run_image);
        let mut images = BTreeMap::new();
        for mix in Mix::all() {
            let for_this_machine = run_image == "run" && mix == Mix::THEIRS;
            let (phase, code, says) = end_of_cross_build(mix, run_image == "run");
            for (round, seen) in mixer.twice(mix, &format!("cross-{run_image}")).into_iter().enumerate() {
                let what = format!("{mix:?}, {run_image}, round {round}\n{}", seen.printed);
                assert_eq!(seen.end, (phase, code), "{what}");
                assert!(seen.printed.contains(says), "{what}");
                // A restorer that knows no targets restores what was made for this machine, and the buildpack keeps it; of what
                // is in the image before, though, only what is the same there. Another analyzer sees no such image in an index.
                let has_previous = round == 1 && mix.has("analyzer");
                let restores_today = !(mix.has("restorer") || has_previous && mix.has("exporter"));
                let foreign = code == 0 && !for_this_machine && restores_today;
                let named = seen.printed.contains("Layer 'test/marker:both' should be for linux/");
                assert_eq!(named, foreign && mix.has("exporter"), "{what}");
                if for_this_machine {
                    // Nobody has read the variables.
                    assert_eq!(seen.held, [not_cross[round].clone()], "{what}");
                    continue;
                }
                let places = fs::read_dir(mixer.build.project.path("cache/targets")).into_iter().flatten();
                let places: Vec<_> = places.map(|place| place.expect("listed").file_name()).collect();
                // Only our detector says where buildpacks run.
                let knows_where = mix.has("detector");
                let on = if knows_where { format!("-on-{here}") } else { String::new() };
                let expected = (code == 0 && mix.has("exporter")).then(|| format!("linux-{target}{on}").into());
                assert_eq!(places, expected.into_iter().collect::<Vec<OsString>>(), "{what}");
                if code != 0 {
                    assert!(seen.held.is_empty(), "{what}");
                    continue;
                }
                let expected = match (mix.has("restorer"), mix.has("exporter"), round) {
                    (true, true, 1) if knows_where => cached.clone(),
                    // What is not for building may be used all the same.
                    (true, true, 1) => cached[..1].to_vec(),
                    (true, ..) => Vec::new(),
                    // Caches of the place of today are not for the target, nor say for what they are.
                    (false, false, 1) => cached.clone(),
                    (false, true, _) if has_previous => before[1..].to_vec(),
                    (false, ..) => before.clone(),
                };
                assert_eq!(seen.found, expected, "{what}");
                let platform = if mix.has("exporter") { format!("linux/{target}") } else { String::new() };
                let [(found, digest)] = &seen.held[..] else { panic!("{:?}: {what}", seen.held) };
                assert_eq!(*found, platform, "{what}");
                let first = images.entry((mix.has("exporter"), foreign)).or_insert_with(|| digest.clone());
                assert_eq!(digest, first, "{what}");
            }
        }
        assert_eq!(images.len(), 4);
        for ((is_ours, _), digest) in images {
            let launcher = mixer.launcher_of(&digest);
            // A lifecycle without the extension has one launcher, for its own machine.
            let expected = match is_ours {
                true => mixer.ours.directory().join(format!("launcher-linux-{target}")),
                false => mixer.theirs.directory().join("launcher"),
            };
            assert!(launcher == fs::read(expected).expect("a launcher"), "{run_image}, ours: {is_ours}");
        }
    }
}

/// Where nobody asked whether buildpacks can build for the target, what they make for this machine is named all the same.
#[test]
fn our_exporter_names_what_a_cross_build_of_others_got_wrong() {
    let mut mixer = for_programs(Architecture::HERE.name());
    mixer.target = Some(Architecture::OTHER);
    // The detector and the builder are theirs.
    let mix = Mix(0b1_0101);
    let seen = mixer.build(mix, "wrong");
    assert_eq!(seen.end, ("exporter", 0), "{mix:?}\n{}", seen.printed);
    assert!(seen.printed.contains("Layer 'test/marker:both' should be for linux/"), "{mix:?}\n{}", seen.printed);
    let refused = mixer.build.phase_for("exporter", "app:refused").env("CNB_ARCH_CHECK", "error").run();
    refused.ends_with(62).says("test/marker:both");
    assert!(mixer.held("app:refused").is_empty());
}

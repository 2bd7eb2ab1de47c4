//! What writes an index is killed (`SIGKILL`) at each of its requests: the tag holds the old index or the new one, all that
//! the index names is there, the next run succeeds, and slots that were left over do no harm.
//!
//! A layout is written without requests: there it is killed at moments in time.
//!
//! `ACCEPTANCE_MOMENTS` says at how many moments each writer is killed; with a large number at all that there are (into a
//! layout, at 50).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use acceptance::exports::{Prepared, push_run_images};
use acceptance::interceptor::{Ended, Interceptor, Moment, Point, Seen};
use acceptance::killer::Killer;
use acceptance::snapshot::{hex, names};
use acceptance::{Phase, Project, Registry, Tool, USER, how_many, image};
use tempfile::TempDir;

/// How many moments there are for each writer, unless somebody asks for more.
const MOMENTS: usize = 12;

const TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// A registry, and builds for three targets. The tag `app` holds an index of two.
struct World {
    registry: Registry,
    interceptor: Interceptor,
    /// For amd64, arm64, and s390x.
    builds: [Prepared; 3],
    project: Project,
    saved: TempDir,
}

impl World {
    fn new() -> Self {
        let registry = Registry::start();
        let interceptor = Interceptor::new(&registry);
        let targets = ["amd64", "arm64", "s390x"];
        push_run_images(&registry, "run", &targets, "old");
        push_run_images(&registry, "run-new", &targets, "new");
        let app = interceptor.image("app");
        let builds = targets.map(|target| Prepared::new(target, &interceptor.image("run"), &app));
        let saved = tempfile::tempdir().expect("a directory");
        let world = Self { registry, interceptor, builds, project: Project::empty(), saved };
        for build in &world.builds[..2] {
            world.run(build.exporter(&app));
        }
        world
    }

    fn app(&self) -> String {
        self.interceptor.image("app")
    }

    fn rebaser(&self) -> Phase {
        let user = USER.to_string();
        let phase = self.project.lifecycle().phase("rebaser").env("CNB_REGISTRY_AUTH", "{}");
        let phase = phase.env("CNB_USER_ID", &user).env("CNB_GROUP_ID", &user);
        let phase = phase.env("CNB_LAYERS_DIR", self.project.path("layers"));
        let phase = phase.env("CNB_EXPERIMENTAL_MODE", "quiet").env("CNB_EXPORT_INDEX", "merge");
        // To one that the images do not name.
        let phase = phase.env("CNB_FORCE_REBASE", "true");
        phase.flag("run-image", self.interceptor.image("run-new")).arg(self.app())
    }

    /// Runs a phase that has to succeed.
    #[track_caller]
    fn run(&self, phase: Phase) -> Ended {
        let ended = self.interceptor.run(phase.command(), None);
        assert!(ended.output.status.success(), "{}", said(&ended));
        ended
    }

    fn repositories(&self) -> PathBuf {
        self.registry.storage().join("docker/registry/v2/repositories")
    }

    /// Remembers what is in the repository `app`, slots and blobs too.
    fn save(&self) {
        copy(self.repositories().join("app"), self.saved.path().join("app"));
    }

    /// Makes the repository what it was: blobs that were pushed since have to be pushed again.
    fn restore(&self) {
        copy(self.saved.path().join("app"), self.repositories().join("app"));
    }

    /// The digest of what the tag holds.
    #[track_caller]
    fn tag(&self) -> String {
        let (head, body) = self.registry.get("/v2/app/manifests/latest");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        hex(&body)
    }

    fn children(&self) -> Vec<(String, String)> {
        self.registry.children("app")
    }

    /// Every manifest, config and layer of the index is there: skopeo reads and checks them all.
    #[track_caller]
    fn is_whole(&self) {
        let work = tempfile::tempdir().expect("a directory");
        Tool::new("skopeo")
            .args(["copy", "--quiet", "--all"])
            .args(self.registry.skopeo_flags("src"))
            .args([format!("docker://{}", self.registry.image("app")), format!("dir:{}", work.path().display())])
            .run();
    }
}

fn copy(from: PathBuf, to: PathBuf) {
    if to.exists() {
        fs::remove_dir_all(&to).expect("removed");
    }
    Tool::new("cp").args(["--archive"]).args([from, to]).run();
}

fn said(ended: &Ended) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}{}", ended.output.status, text(&ended.output.stdout), text(&ended.output.stderr))
}

/// Every moment of a run: before each request, and half way through and after those that change something.
fn moments(requests: &[Seen]) -> Vec<Moment> {
    let mut moments = Vec::new();
    let mut numbers = [0; 2];
    for Seen { writing, .. } in requests {
        let number = &mut numbers[usize::from(*writing)];
        let points: &[Point] = if *writing { &[Point::Before, Point::Half, Point::After] } else { &[Point::Before] };
        moments.extend(points.iter().map(|point| Moment { writing: *writing, number: *number, point: *point }));
        *number += 1;
    }
    moments
}

/// So many of them, evenly and with the last one; of those at requests that change something first.
fn spread(all: &[Moment]) -> Vec<Moment> {
    let wanted = how_many("ACCEPTANCE_MOMENTS", MOMENTS).clamp(1, all.len());
    let (writing, reading): (Vec<Moment>, Vec<Moment>) = all.iter().partition(|moment| moment.writing);
    let evenly = |moments: &[Moment], wanted: usize| -> Vec<Moment> {
        (1..=wanted).map(|number| moments[number * moments.len() / wanted - 1]).collect()
    };
    let first = wanted.min(writing.len());
    [evenly(&writing, first), evenly(&reading, wanted - first)].concat()
}

/// Kills a writer again and again, each time with the repository as it is now. `next` is what is run then, with the number of
/// the moment and whether the tag held the old index; at last the writer has to have had its way.
fn kill_at_every_request(world: &World, what: &str, writer: impl Fn() -> Phase, next: impl Fn(usize, bool)) {
    let old = world.tag();
    world.save();
    let undisturbed = world.run(writer());
    let new = world.tag();
    assert_ne!(old, new);
    world.is_whole();
    let all = moments(&undisturbed.requests);
    let moments = spread(&all);
    let (mut was_old, mut was_new) = (0, 0);
    for (number, moment) in moments.iter().enumerate() {
        world.restore();
        let ended = world.interceptor.run(writer().command(), Some(*moment));
        let line = ended.requests.last().map(|seen| seen.line.clone()).unwrap_or_default();
        if !ended.killed {
            // Others than the undisturbed run's answers may make a request superfluous.
            assert!(ended.output.status.success(), "{moment:?}: {}", said(&ended));
            continue;
        }
        let tag = world.tag();
        assert!(
            tag == old || tag == new,
            "killed at {moment:?}, {line}: the tag holds {}",
            world.registry.index("app")
        );
        world.is_whole();
        if tag == old {
            was_old += 1;
        } else {
            was_new += 1;
        }
        next(number, tag == old);
        world.run(writer());
        let tag = world.tag();
        assert_eq!(tag, new, "killed at {moment:?}, {line}, and run again: {}", world.registry.index("app"));
        world.is_whole();
    }
    let killed = was_old + was_new;
    assert!(killed * 10 >= moments.len() * 9, "only {killed} of {} had not ended before", moments.len());
    let requests = undisturbed.requests.len();
    tell(&format!(
        "{what}: killed at {killed} of {} moments in {requests} requests, the tag was old {was_old} times and new {was_new} times",
        all.len(),
    ));
}

#[expect(clippy::print_stderr, reason = "numbers for those who ask with --nocapture")]
fn tell(text: &str) {
    eprintln!("{text}");
}

#[test]
fn an_exporter_that_merges() {
    let world = World::new();
    let [_, build, other] = &world.builds;
    build.build("second");
    kill_at_every_request(
        &world,
        "exporter, merge",
        || build.exporter(&world.app()),
        |number, _| {
            // An export for another target merges what the killed one has announced, and nothing goes wrong with that.
            if number % 5 == 4 {
                let before = world.children();
                world.run(other.exporter(&world.app()));
                let after = world.children();
                assert_eq!((after[0].clone(), after[2].0.as_str()), (before[0].clone(), "linux/s390x"));
                world.is_whole();
                world.restore();
            }
        },
    );
}

#[test]
fn an_exporter_that_replaces() {
    let world = World::new();
    let [_, build, _] = &world.builds;
    build.build("second");
    let writer = || build.exporter(&world.app()).env("CNB_EXPORT_INDEX", "replace");
    kill_at_every_request(&world, "exporter, replace", writer, |_, _| {});
    assert_eq!(world.children().len(), 1);
}

#[test]
fn an_indexer() {
    let world = World::new();
    let mut images = Vec::new();
    for build in &world.builds[1..] {
        build.build("second");
        let name = world.interceptor.image(&format!("app-{}", build.project().target().expect("a target")));
        world.run(build.exporter(&name).without("CNB_EXPORT_INDEX"));
        images.push(format!("{name}@{}", build.exported()));
    }
    let lifecycle = world.project.lifecycle();
    let indexer = || {
        let phase = lifecycle.phase("indexer").env("CNB_EXPERIMENTAL_MODE", "quiet").env("CNB_REGISTRY_AUTH", "{}");
        // Not into a directory that this machine happens to have.
        phase.env("CNB_LAYERS_DIR", world.project.path("nowhere")).arg(world.app()).args(&images)
    };
    kill_at_every_request(&world, "indexer", indexer, |_, _| {});
    assert_eq!(world.children().len(), 3);
}

#[test]
fn a_rebase_of_an_index() {
    let world = World::new();
    let [_, again, other] = &world.builds;
    let old = world.children();
    kill_at_every_request(
        &world,
        "rebaser",
        || world.rebaser(),
        |number, is_old| {
            // Before the next rebase, an export for another target: nothing of it makes the index a mixture.
            if number % 3 != 0 {
                return;
            }
            let before = world.children();
            world.run(other.exporter(&world.app()));
            let after = world.children();
            assert_eq!((&after[..2], after[2].0.as_str()), (&before[..], "linux/s390x"), "old: {is_old}");
            world.is_whole();
            // After the next, an old child is not back either.
            world.run(world.rebaser());
            let rebased = world.children();
            let mixed = rebased.iter().any(|child| after.contains(child) && old.contains(child));
            assert!(!mixed, "{after:?} became {rebased:?}");
            again.build(format!("third {number}"));
            world.run(again.exporter(&world.app()));
            let merged = world.children();
            assert_eq!((&merged[0], &merged[2]), (&rebased[0], &rebased[2]), "{merged:?}");
            world.restore();
        },
    );
}

/// Where the tag stands while a slot names the image of an exporter that was killed, and what a rebase makes of both, by the
/// time since then.
#[test]
fn a_rebase_after_an_exporter_was_killed_that_had_announced() {
    let world = World::new();
    let [_, build, other] = &world.builds;
    let rebased = |world: &World| {
        world.run(world.rebaser());
        world.children()
    };
    world.save();
    let from_old = rebased(&world);
    world.restore();
    build.build("second");
    let undisturbed = world.run(build.exporter(&world.app()));
    let from_new = rebased(&world);
    assert_ne!(from_old[1], from_new[1]);
    let is_slot = |seen: &&Seen| seen.line.starts_with("PUT /v2/app/manifests/latest-cnb-linux-arm64 ");
    let mut writes = undisturbed.requests.iter().filter(|seen| seen.writing);
    let number = writes.position(|seen| is_slot(&seen)).expect("it announces");
    let announced = Moment { writing: true, number, point: Point::After };
    // Who announced less than six minutes ago may be alive; who did more than fifteen minutes ago is not listened to.
    for (seconds, expected) in [(355, &from_new), (420, &from_new), (960, &from_old)] {
        world.restore();
        assert!(world.interceptor.run(build.exporter(&world.app()).command(), Some(announced)).killed);
        // As if that had been so long ago, and the other's announcement too.
        for arch in ["amd64", "arm64"] {
            set_back(&world, arch, seconds);
        }
        let ended = world.run(world.rebaser());
        // What the other has announced is in the tag already.
        assert_eq!(said(&ended).contains("Waiting for exports for linux/arm64 that"), seconds < 360);
        assert_eq!(world.children(), *expected, "{seconds} s later");
        world.run(other.exporter(&world.app()));
        assert_eq!(world.children()[..2], expected[..], "{seconds} s later, and then a merge");
        world.is_whole();
    }
}

/// Makes a slot so old.
fn set_back(world: &World, arch: &str, seconds: u32) {
    let tag = format!("latest-cnb-linux-{arch}");
    let mut slot = world.registry.index(&format!("app:{tag}"));
    let time = Tool::new("date").args(["--utc", "+%Y-%m-%dT%H:%M:%SZ", &format!("--date=-{seconds} seconds")]).run();
    slot["annotations"]["io.buildpacks.index.announced"] = time.trim().into();
    world.registry.put_manifest("app", &tag, TYPE, slot.to_string().as_bytes());
}

/// Content that does not get smaller by compression, so that writing it takes a while.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33).to_le_bytes()[..4].to_vec()
    };
    (0..2_000_000).flat_map(|_| next()).collect()
}

#[test]
fn an_exporter_that_merges_into_a_layout() {
    let work = tempfile::tempdir().expect("a directory");
    let layouts = work.path().join("layouts");
    let place = |name: &str| layouts.join("index.docker.io/library").join(name).join("latest");
    let targets = ["amd64", "arm64"];
    for arch in targets {
        let root = work.path().join(arch);
        fs::create_dir_all(root.join("etc")).expect("created");
        fs::create_dir_all(place(&format!("run-{arch}")).parent().expect("a parent")).expect("created");
        image::make_image(&place(&format!("run-{arch}")), "run", &root, arch);
    }
    Tool::new("chown").args(["--recursive", &format!("{USER}:{USER}")]).args([work.path()]).run();
    fs::set_permissions(work.path(), fs::Permissions::from_mode(0o755)).expect("readable");
    let in_layout = |phase: Phase| phase.env("CNB_USE_LAYOUT", "true").env("CNB_LAYOUT_DIR", &layouts);
    let builds = targets.map(|target| Prepared::with_mode(target, &format!("run-{target}"), "app", in_layout));
    let exporter = |build: &Prepared| in_layout(build.exporter("app"));
    for build in &builds {
        exporter(build).run().succeeds();
    }
    let app = place("app");
    let blobs = || names(&app.join("blobs/sha256"));
    let tag = || -> String {
        let index: serde_json::Value =
            serde_json::from_slice(&fs::read(app.join("index.json")).expect("read")).expect("JSON");
        assert_eq!(index["manifests"].as_array().map(Vec::len), Some(1), "{index}");
        index["manifests"][0]["digest"].as_str().expect("text").to_owned()
    };
    let is_whole = || {
        let to = tempfile::tempdir().expect("a directory");
        let [from, to] = [format!("oci:{}:latest", app.display()), format!("dir:{}", to.path().display())];
        Tool::new("skopeo").args(["copy", "--quiet", "--all", &from, &to]).run();
    };
    let saved = work.path().join("saved");
    copy(app.clone(), saved.clone());
    let (old, there) = (tag(), blobs());
    builds[1].build(noise(1));
    let writes = || blobs() != there;
    let moments = u32::try_from(how_many("ACCEPTANCE_MOMENTS", MOMENTS).clamp(1, 50)).expect("a small number");
    let mut killer = Killer::new(moments);
    for _ in 0..3 {
        copy(saved.clone(), app.clone());
        killer.spare(exporter(&builds[1]), writes);
    }
    let (new, expected) = (tag(), blobs());
    assert_ne!(old, new);
    let (mut was_old, mut was_new) = (0, 0);
    while killer.goes_on() {
        copy(saved.clone(), app.clone());
        killer.kill(exporter(&builds[1]), writes);
        let found = tag();
        assert!(found == old || found == new, "{found}: neither {old} nor {new}");
        is_whole();
        if found == old {
            was_old += 1;
        } else {
            was_new += 1;
        }
        exporter(&builds[1]).run().succeeds();
        assert_eq!(tag(), new);
        is_whole();
        assert_eq!(blobs(), expected, "what the killed one left is removed");
    }
    killer.has_killed();
    tell(&format!(
        "exporter, merge into a layout: killed at {} of {moments} moments, the layout was old {was_old} times and new {was_new} \
         times",
        killer.killed()
    ));
}

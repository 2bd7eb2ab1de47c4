//! The merge, the slots, and the protocol under every schedule of its writers.

mod merging;
mod model;

use std::collections::HashMap;
use std::time::Duration;

use model::{Findings, Job, Model, Scene, child};

use super::protocol::{Ask, FUTURE, Outcome, Protocol, SETTLED, Step, Told, YOUTH};
use super::slot::{Slot, slot_tag};
use crate::image::{Document, Index};
use crate::test_log::captured;

use Job::{Merge, Naive, Rebase, Replace};

/// Children of the platforms that the writers have, and of another.
const HELD: [&str; 3] = ["amd64 0", "arm64 0", "s390x 0"];

/// A slot that was left over long ago, by which the next run after a kill is known, too.
const LEFT_OVER: (&str, Duration) = ("s390x 0", Duration::from_secs(7_200));

/// The slot of a merge that has just been.
const YOUNG: (&str, Duration) = ("amd64 0", Duration::from_secs(5));

fn scene(jobs: &[Job], held: &[&'static str]) -> Scene {
    Scene { jobs: jobs.to_vec(), held: held.to_vec(), ..Scene::default() }
}

/// `RUST_LOG` is not for tests: `SCHEDULES=all` goes through the larger scenes, too, and shows what was found.
fn all() -> bool {
    std::env::var_os("SCHEDULES").is_some_and(|value| value == "all")
}

fn explore(scene: Scene) -> Findings {
    let what = format!("{scene:?}");
    let findings = Model::explore(scene);
    if all() {
        let Findings { schedules, losing, states, bad: _, uncovered, ends, longest, failed, sent_again } = &findings;
        let line = format!(
            "{what}: {schedules:.1e} schedules of at most {longest} requests, {losing:.1e} of them bad, {states} states, \
             {ends} ends, {uncovered} not covered, {failed} with a writer that has failed, {sent_again} children sent again\n"
        );
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).expect("written");
    }
    findings
}

fn assert_good(scene: Scene) -> Findings {
    let what = format!("{scene:?}");
    let findings = explore(scene);
    let examples: Vec<_> = findings.bad.iter().take(3).collect();
    assert!(findings.bad.is_empty(), "{what}: {} bad ends: {examples:#?}", findings.bad.len());
    assert!(findings.uncovered < findings.ends, "{what}: nothing was checked");
    findings
}

#[test]
fn two_merges_in_every_schedule() {
    for held in [&[][..], &HELD] {
        for jobs in [[Merge("amd64 1"), Merge("arm64 1")], [Merge("amd64 1"), Merge("amd64 2")]] {
            let findings = assert_good(Scene { any_order: true, every_schedule: true, ..scene(&jobs, held) });
            assert!(findings.schedules > 10_000.0 && findings.uncovered == 0, "{findings:?}");
        }
    }
}

#[test]
fn three_merges_in_every_schedule() {
    assert_good(scene(&[Merge("amd64 1"), Merge("arm64 1"), Merge("riscv64 1")], &HELD));
    if all() {
        assert_good(scene(&[Merge("amd64 1"), Merge("arm64 1"), Merge("riscv64 1")], &[]));
        assert_good(scene(&[Merge("amd64 1"), Merge("amd64 2"), Merge("arm64 1")], &HELD));
        let jobs = [Merge("amd64 1"), Merge("arm64 1"), Merge("riscv64 1")];
        assert_good(Scene { kills: 1, slots: vec![LEFT_OVER], ..scene(&jobs, &HELD) });
    }
}

#[test]
fn merges_of_which_one_is_killed_at_any_request() {
    for held in [&[][..], &HELD] {
        for jobs in [[Merge("amd64 1"), Merge("arm64 1")], [Merge("amd64 1"), Merge("amd64 2")]] {
            assert_good(Scene { kills: 1, slots: vec![LEFT_OVER], ..scene(&jobs, held) });
        }
    }
}

#[test]
fn merges_of_which_any_puts_are_not_answered() {
    for jobs in [[Merge("amd64 1"), Merge("arm64 1")], [Merge("amd64 1"), Merge("amd64 2")]] {
        assert_good(Scene { unanswered: 2, ..scene(&jobs, &HELD) });
    }
}

#[test]
fn the_naive_way_loses_children() {
    for (jobs, held) in [
        (&[Naive("amd64 1"), Naive("arm64 1")][..], &[][..]),
        (&[Naive("amd64 1"), Naive("arm64 1")], &HELD),
        (&[Naive("amd64 1"), Naive("arm64 1"), Naive("riscv64 1")], &HELD),
    ] {
        let findings = explore(scene(jobs, held));
        let lost = findings.losing / findings.schedules;
        assert!(lost > 0.1 && lost < 0.9, "{jobs:?} on {held:?}: {lost} of all schedules lose something");
    }
}

#[test]
fn a_rewrite_and_a_merge_in_every_schedule() {
    for job in [Rebase, Replace("arm64 new")] {
        let jobs = [job, Merge("amd64 1")];
        assert_good(scene(&[job], &HELD));
        assert_good(scene(&jobs, &HELD));
        // Right after a merge.
        assert_good(Scene { slots: vec![YOUNG], ..scene(&jobs, &HELD) });
        let slots = vec![YOUNG, LEFT_OVER];
        assert_good(Scene { kills: 1, slots: slots.clone(), ..scene(&jobs, &HELD) });
        assert_good(Scene { unanswered: 1, slots, ..scene(&jobs, &HELD) });
        if all() {
            assert_good(scene(&[job, Merge("amd64 1"), Merge("riscv64 1")], &HELD));
            assert_good(scene(&[job, Merge("amd64 1"), Merge("amd64 2")], &HELD));
        }
    }
}

#[test]
fn two_rewrites_in_every_schedule() {
    for (jobs, for_ever) in [
        ([Rebase, Rebase], false),
        ([Replace("arm64 new"), Replace("arm64 new")], false),
        ([Replace("arm64 new"), Rebase], true),
    ] {
        let scene = Scene { for_ever, ..scene(&jobs, &HELD) };
        assert_good(scene.clone());
        assert_good(Scene { slots: vec![YOUNG], ..scene.clone() });
        assert_good(Scene { kills: 1, slots: vec![YOUNG, LEFT_OVER], ..scene.clone() });
        assert_good(Scene { unanswered: 1, slots: vec![YOUNG], ..scene });
    }
}

/// What one writer does with an index of these children and these slots, whose ages are in seconds: the children that the
/// tag has at the end, or that it waits.
fn alone(mut run: Protocol, held: &[&str], slots: &[(&str, i64)]) -> Result<Vec<String>, &'static str> {
    let time = 1_700_000_000;
    let mut tags = HashMap::new();
    let mut documents = HashMap::new();
    let mut put = |tags: &mut HashMap<String, _>, tag: String, index: Index| {
        tags.insert(tag, index.digest);
        documents.insert(index.digest, Document::Index(index));
        documents.clone()
    };
    let children: Vec<_> = held.iter().map(|name| child(name)).collect();
    let mut kept = put(&mut tags, "latest".to_owned(), Index::fresh(&children));
    for (name, age) in slots {
        let tag = slot_tag("latest", &child(name).platform()).expect("a slot");
        kept = put(&mut tags, tag, Slot::announce(&child(name), time - age));
    }
    let mut told = Told::Nothing;
    loop {
        let ask = match run.step(told, Duration::ZERO) {
            Step::Ask(ask) => ask,
            Step::Done(index) => {
                let known = held.iter().chain(slots.iter().map(|(name, _)| name)).chain(&["riscv64 1"]);
                let known: HashMap<_, _> = known.map(|name| (child(name).blob.digest, (*name).to_owned())).collect();
                return Ok(index.children.iter().map(|child| known[&child.blob.digest].clone()).collect());
            }
            Step::GivenUp(_) | Step::Failed(_) | Step::Gone(_) => return Err("fails"),
        };
        told = match ask {
            Ask::Clock => Told::Clock(Some(time)),
            Ask::Get(digest) => Told::Document(kept.get(&digest).cloned()),
            Ask::Config(_) => Told::Config(None),
            Ask::Make(document) => match document {
                Some(Document::Index(index)) => Told::Made(Box::new(index)),
                Some(Document::Manifest(_)) | None => return Err("has nothing to rebase"),
            },
            Ask::Wait(_) => return Err("waits"),
            Ask::Look(asked) => Told::Digests(asked.iter().map(|tag| tags.get(tag).copied()).collect()),
            Ask::Put { tag, index } => {
                kept = put(&mut tags, tag, *index);
                Told::Put(Outcome::Done)
            }
        };
    }
}

#[test]
fn how_old_slots_count() {
    let seconds = |time: Duration| i64::try_from(time.as_secs()).expect("a time");
    for (age, counts) in [
        (0, true),
        (seconds(YOUTH) - 1, true),
        (seconds(YOUTH), false),
        (-3_600, true),
        (-seconds(FUTURE), true),
        (-seconds(FUTURE) - 1, false),
    ] {
        let run = Protocol::merge("latest", &[child("riscv64 1")], Duration::ZERO);
        let (children, told) = captured(|| alone(run, &["amd64 0", "arm64 0"], &[("amd64 1", age)]));
        let (new, old) = (child("amd64 1").blob.digest, child("amd64 0").blob.digest);
        let place = format!("{new} for linux/amd64 was announced within 15 minutes and takes the place of {old}");
        let line = format!("info: Index 'latest': {place}");
        assert_eq!(told, if counts { vec![line] } else { Vec::new() }, "{age}");
        let amd64 = if counts { "amd64 1" } else { "amd64 0" };
        assert_eq!(children, Ok([amd64, "arm64 0", "riscv64 1"].map(str::to_owned).to_vec()), "{age}");
    }
}

#[test]
fn a_rewriter_waits_for_those_only_whose_children_are_to_come() {
    let settled = i64::try_from(SETTLED.as_secs()).expect("a time");
    for (slots, waits) in [
        (&[][..], false),
        (&[("amd64 0", 5), ("arm64 0", 5)], false),
        (&[("amd64 0", 5), ("arm64 1", 5)], true),
        (&[("amd64 0", 5), ("arm64 1", settled - 1)], true),
        // Its writer is dead, and the one that is young is done.
        (&[("amd64 0", 5), ("arm64 1", settled)], false),
        (&[("amd64 1", 5), ("arm64 1", settled)], true),
        // Long ago, and years ahead.
        (&[("arm64 1", 7_200)], false),
        (&[("arm64 1", -100_000_000)], false),
    ] {
        let result = alone(Protocol::rewrite("latest", Duration::ZERO), &["amd64 0", "arm64 0"], slots);
        let merged = slots.contains(&("arm64 1", settled));
        let arm64 = if merged { "arm64 1" } else { "arm64 0" };
        let expected = if waits { Err("waits") } else { Ok(["amd64 0", arm64].map(str::to_owned).to_vec()) };
        assert_eq!(result, expected, "{slots:?}");
    }
}

#[test]
fn a_collector_runs_between_any_two_requests() {
    for jobs in [
        &[Merge("amd64 1"), Merge("arm64 1")][..],
        &[Merge("amd64 1"), Merge("amd64 2")],
        &[Rebase],
        &[Rebase, Merge("amd64 1")],
        &[Replace("arm64 new"), Merge("amd64 1")],
    ] {
        for credulous in [false, true] {
            let findings = assert_good(Scene { collections: 1, credulous, ..scene(jobs, &HELD[..2]) });
            assert!(findings.sent_again > 0 || jobs.len() == 1, "{jobs:?}: nothing was taken: {findings:?}");
            assert_eq!(findings.failed, 0, "{jobs:?}: what was sent again is there");
        }
    }
    // It comes again and again.
    let jobs = [Merge("amd64 1"), Merge("arm64 1")];
    for credulous in [false, true] {
        let findings = assert_good(Scene { collections: 3, credulous, ..scene(&jobs, &[]) });
        assert_eq!(findings.failed > 0, !credulous, "{findings:?}");
    }
}

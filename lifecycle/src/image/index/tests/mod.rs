//! The merge, the slots, and the protocol under every schedule of its writers.

mod merging;
mod model;

use std::time::Duration;

use model::{Findings, Job, Model, Scene};

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
        let Findings { schedules, losing, states, bad: _, uncovered, ends, longest } = &findings;
        let line = format!(
            "{what}: {schedules:.1e} schedules of at most {longest} requests, {losing:.1e} of them bad, {states} states, \
             {ends} ends, {uncovered} not covered\n"
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

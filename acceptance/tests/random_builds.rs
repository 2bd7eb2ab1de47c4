//! Two hundred random builds against what they were when `random-builds.txt` was written: exit codes, phase files, what
//! buildpacks find again, diffIDs, labels, config, cache. After a change that is meant, run this test with
//! `UPDATE_RANDOM_BUILDS=1`, and `make compare` to see that another lifecycle still agrees.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use acceptance::Lifecycle;
use acceptance::random::{World, case};

const BUILDS: u64 = 200;

/// Every so many builds are built again: in another way, into another repository.
const AGAIN: u64 = 5;

#[test]
fn random_builds_are_what_they_were() {
    let lifecycle = Lifecycle::under_test();
    let next = AtomicU64::new(0);
    let digests = Mutex::new(vec![String::new(); usize::try_from(BUILDS).expect("small")]);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let world = World::new(&[lifecycle.directory()]);
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= BUILDS {
                        break;
                    }
                    let digest = build(&world, seed);
                    digests.lock().expect("not poisoned")[usize::try_from(seed).expect("small")] = digest;
                }
            });
        }
    });
    let digests = digests.into_inner().expect("not poisoned");
    let mut text = String::new();
    for (seed, digest) in digests.iter().enumerate() {
        let _ = writeln!(text, "{seed} {digest}");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("random-builds.txt");
    if std::env::var_os("UPDATE_RANDOM_BUILDS").is_some() {
        fs::write(&path, &text).expect("written");
    }
    let frozen = fs::read_to_string(&path).expect("random-builds.txt is there");
    let changed: Vec<&str> =
        text.lines().zip(frozen.lines()).filter(|(now, then)| now != then).map(|(now, _)| now).collect();
    assert!(
        changed.is_empty() && text.len() == frozen.len(),
        "{} builds are not what they were: {changed:#?}",
        changed.len()
    );
}

/// Builds a seed; gives the digest of all that was seen.
fn build(world: &World, seed: u64) -> String {
    let case = case(seed);
    let observed = world.build(&case, &format!("app-{seed}"), |_, _| 0);
    if seed.is_multiple_of(AGAIN) {
        // The creator gives what five phases give, to the byte.
        let mut other = case.clone();
        other.creator = !case.creator;
        let again = world.build(&other, &format!("again-{seed}"), |_, _| 0);
        let (first, second) = (world.digests(&format!("app-{seed}")), world.digests(&format!("again-{seed}")));
        assert_eq!(first, second, "seed {seed}: {:#?}", observed.differences(&again));
    }
    observed.digest()
}

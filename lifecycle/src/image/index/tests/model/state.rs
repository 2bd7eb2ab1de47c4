//! States of a schedule: when time passes, and which are equal.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Key, Next, Run, SETTLED, State, Writer};

impl State {
    /// If all wait, the time passes until who has announced something must be over.
    pub(super) fn later(&self) -> Option<Self> {
        let waits = |writer: &Writer| !writer.killed && matches!(writer.next, Next::Poll(_));
        self.writers.iter().any(waits).then(|| Self { now: self.now + SETTLED, ..self.clone() })
    }

    pub(super) fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.tags.hash(&mut hasher);
        self.now.hash(&mut hasher);
        self.announced.hash(&mut hasher);
        (&self.there, self.collections).hash(&mut hasher);
        (&self.stale, self.uncovered, self.blind, self.kills, self.unanswered).hash(&mut hasher);
        for Writer { job: _, run, next, blind, unmended, killed, done, own, again, sent, failed, made } in &self.writers
        {
            (own, again, sent, failed, made).hash(&mut hasher);
            let run: Option<Key> = match run {
                Run::Protocol(run) => Some(run.key()),
                Run::Naive(has_put) => {
                    has_put.hash(&mut hasher);
                    None
                }
            };
            run.hash(&mut hasher);
            match next {
                Next::Look { left, found, asked } => {
                    (0, left, asked.len()).hash(&mut hasher);
                    for (at, digest) in found.iter().enumerate() {
                        if let Some(digest) = digest {
                            (at, digest).hash(&mut hasher);
                        }
                    }
                }
                Next::Put(tag, digest) => (1, tag, digest).hash(&mut hasher),
                Next::Poll(tags) => (2, tags).hash(&mut hasher),
                Next::Nothing => 3.hash(&mut hasher),
                Next::Find(digest) => (4, digest).hash(&mut hasher),
            }
            (blind, unmended, killed, done.is_some()).hash(&mut hasher);
        }
        hasher.finish()
    }
}

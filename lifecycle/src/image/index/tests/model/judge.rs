//! What is wrong with an end of a schedule: something lost, stale or mixed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Job, Model, Slot, State, Writer, child, platform, rebased};
use crate::digest::Digest;
use crate::image::Document;

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Old,
    Rebased,
    /// It is gone, or the new one.
    Replaced,
}

impl Model {
    /// Checks an end, and after a kill the next run; whether all is well.
    pub(super) fn check_end(&self, state: &State) -> bool {
        let before = self.findings.borrow().bad.len();
        if state.uncovered {
            self.findings.borrow_mut().uncovered += 1;
        }
        if !state.blind
            && !state.uncovered
            && let Err(what) = self.check(state)
        {
            self.found(state, what);
        }
        if !state.uncovered
            && let Err(what) = self.check_whole(state)
        {
            self.found(state, what);
        }
        if state.writers.iter().any(|writer| writer.killed) {
            // The next run succeeds, and mends what a writer left that could not read what it had overwritten.
            let mut next = state.clone();
            next.now += Duration::from_secs(1);
            next.kills = 0;
            next.unanswered = 0;
            next.stale.push(false);
            let job = Job::Merge("s390x next");
            if self.slot_of(&platform("s390x next")).is_none() {
                return self.findings.borrow().bad.len() == before;
            }
            next.collections = 0;
            let writer = self.writer(job, &mut next);
            next.writers.push(writer);
            let last = next.writers.len() - 1;
            while next.writers[last].done.is_none() {
                let mut choices = Vec::new();
                let only = State { writers: vec![next.writers[last].clone()], stale: vec![false], ..next.clone() };
                choices.append(&mut self.choices(&only));
                let step = choices.swap_remove(0);
                let writer = step.writers[0].clone();
                let mut writers = next.writers.clone();
                writers[last] = writer;
                next = State { writers, stale: next.stale.clone(), ..step };
            }
            if !next.uncovered
                && let Err(what) = self.check(&next)
            {
                self.found(&next, format!("after the next run: {what}"));
            }
        }
        self.findings.borrow().bad.len() == before
    }

    fn found(&self, state: &State, what: String) {
        let mut findings = self.findings.borrow_mut();
        if findings.bad.len() < 20 {
            let fates: Vec<_> =
                state.writers.iter().map(|writer| (writer.job, writer.killed, writer.done.is_some())).collect();
            findings.bad.push(format!("{what}; {:?}; {fates:?}", self.children(state.tags[0])));
        } else {
            findings.bad.push(String::new());
        }
    }

    /// Nothing lost, nothing stale, nothing mixed.
    fn check(&self, state: &State) -> Result<(), String> {
        let children = self.children(state.tags[0]);
        for writer in &state.writers {
            if let (Job::Naive(name), Some(_)) = (writer.job, writer.done)
                && !children.values().any(|child| child == name)
            {
                return Err(format!("{name} was merged, and is not there"));
            }
        }
        let name = |digest: &Digest| self.content.borrow().names[digest].clone();
        let is_rewriter = |writer: &&Writer| matches!(writer.job, Job::Rebase | Job::Replace(_));
        let rewriter = state.writers.iter().find(is_rewriter);
        let replaced = rewriter.and_then(|writer| match writer.job {
            Job::Replace(name) => Some(name),
            Job::Rebase | Job::Merge(_) | Job::Naive(_) => None,
        });
        let and_rebased = state.writers.iter().any(|writer| matches!(writer.job, Job::Rebase));
        // What became of the children that a rewrite concerned: of all of them the same.
        let mut rewritten = None;
        let mut note = |fate: Fate, what: String| match rewritten {
            Some(before) if before != fate => Err(format!("{what}: some children are {before:?} and some are not")),
            _ => {
                rewritten = Some(fate);
                Ok(())
            }
        };
        let mut concerned: BTreeMap<String, String> =
            self.scene.held.iter().map(|held| (platform(held).to_string(), (*held).to_owned())).collect();
        for (slot, platform) in self.platforms.iter().enumerate().map(|(at, platform)| (at + 1, platform)) {
            let says = state.tags[slot].map(|digest| {
                let document = Document::Index((*self.index(digest)).clone());
                Slot::read(&document, platform)
            });
            let of_slot: Vec<_> =
                state.announced.iter().filter(|(at, _)| *at == slot).map(|(_, child)| *child).collect();
            let Some(last) = of_slot.last() else { continue };
            let finished = |digest: &Digest| {
                state.writers.iter().any(|writer| match writer.job {
                    Job::Merge(name) | Job::Naive(name) => writer.done.is_some() && child(name).blob.digest == *digest,
                    Job::Rebase | Job::Replace(_) => false,
                })
            };
            let key = platform.to_string();
            let held = children.get(&key).cloned();
            match says {
                // Of this child, or of an earlier one: then the index held this one nevertheless.
                Some(Slot::Withdrawn(digest)) if digest == *last || finished(last) => {
                    // Or of one that was announced at the same time, and came after it as far as its writer can know.
                    let at_once = of_slot.contains(&digest)
                        && held.as_ref().is_some_and(|held| rebased(held) == rebased(&name(&digest)));
                    concerned.insert(key, name(if at_once { &digest } else { last }));
                }
                Some(Slot::Announced(child, _)) if child.blob.digest == *last => {
                    let announced = name(&child.blob.digest);
                    // What has been announced by somebody who was killed may be there or not: then an earlier one is.
                    let from = of_slot.iter().rposition(finished);
                    match from {
                        Some(from) => {
                            let allowed: Vec<_> = of_slot[from..].iter().map(&name).collect();
                            let all_finished = finished(last);
                            let right = held.as_ref().is_some_and(|held| {
                                if all_finished { *held == announced } else { allowed.contains(held) }
                            });
                            if !right {
                                return Err(format!("{key}: {announced} was announced, and {held:?} is there"));
                            }
                            concerned.remove(&key);
                        }
                        None if held.as_ref() == Some(&announced) => {
                            concerned.remove(&key);
                        }
                        None => {}
                    }
                }
                // Overwritten by the withdrawal of another: its writer announces again, if it lives.
                _ if !finished(last) => {
                    concerned.remove(&key);
                }
                other => return Err(format!("{key}: {} was announced, and its slot says {other:?}", name(last))),
            }
        }
        for writer in &state.writers {
            if let Job::Naive(name) = writer.job {
                concerned.remove(&platform(name).to_string());
            }
        }
        for (platform, old) in concerned {
            let held = children.get(&platform);
            let is_replaced = rewriter.is_some_and(|writer| replaced.is_some() && writer.done.is_some());
            let fate = match (held, replaced) {
                (Some(held), _) if *held == old => Fate::Old,
                (Some(held), _) if *held == rebased(&old) && and_rebased && !is_replaced => Fate::Rebased,
                (None, Some(_)) => Fate::Replaced,
                (Some(held), Some(new)) if held == new || and_rebased && *held == rebased(new) => Fate::Replaced,
                _ => return Err(format!("{platform}: {old} was there, and {held:?} is")),
            };
            if let Some(writer) = rewriter
                && writer.done.is_some()
                && fate == Fate::Old
            {
                return Err(format!("{platform}: {old} was rewritten, and is there nevertheless"));
            }
            if rewriter.is_none() && fate != Fate::Old {
                return Err(format!("{platform}: {old} is gone"));
            }
            note(fate, platform)?;
        }
        Ok(())
    }
}

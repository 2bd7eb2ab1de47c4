//! The machine: one writer's run, from one answer to the next request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use platform_spec::target::Platform;

use super::super::merge::{Held, IndexChild};
use super::super::slot::{LONGEST_TAG, Slot, platforms, slot_tag};
use super::{Ask, FAILURES, FUTURE, Outcome, PATIENCE, POLL, READ_AGE, ROUNDS, SETTLED, Step, Told, WAITING, YOUTH};
use crate::digest::Digest;
use crate::image::manifest::{Document, Index, Manifest};

/// One writer's run of the protocol.
#[derive(Clone, Debug)]
pub struct Protocol {
    tag: String,
    /// What is merged; empty where one rewrites.
    own: Vec<Own>,
    rewrites: bool,
    /// All slots whose tags are possible.
    slots: Arc<[(Platform, String)]>,
    /// When it began, on the caller's clock.
    began: Duration,
    /// The registry's clock, and the caller's at that moment.
    clock: (i64, Duration),
    /// What slots' documents say.
    known: BTreeMap<(usize, Digest), Arc<Slot>>,
    /// What was read last.
    read: Read,
    /// What the tag holds, as far as it was got: reading the same again is not necessary.
    held: Option<Arc<(Document, Held)>>,
    rounds: u32,
    failures: u32,
    /// The index that was refused because something that it names is not there.
    refused: Option<Digest>,
    /// Whether it was said that others are waited for.
    waits: bool,
    /// Children of others of which it was said that they replace what the tag has.
    told: Vec<Digest>,
    state: State,
    /// Of a rewriter.
    rewrite: Phase,
}

/// A child that is merged.
#[derive(Clone, Debug)]
struct Own {
    slot: usize,
    child: IndexChild,
    /// What its slot named before.
    before: Option<Digest>,
}

/// One reading.
#[derive(Clone, Debug, Default)]
struct Read {
    /// When it began.
    at: Duration,
    slots: Vec<Option<Digest>>,
    tag: Option<Digest>,
}

/// Which answer is waited for.
#[derive(Clone, Debug)]
enum State {
    Begin,
    Clock,
    LookingAtOwn,
    /// What own slots name, the first of which is on its way.
    GettingOwn(Vec<(usize, Digest)>),
    /// Slots yet to be put, the first of which is on its way.
    Announcing(Vec<usize>),
    LookingAtTag,
    GettingTag,
    GettingConfig(Box<Manifest>),
    LookingAtSlots,
    /// Of this slot.
    GettingSlot(usize),
    /// Looking at the tag once more, before this is put.
    Checking(Box<Index>),
    Putting,
    Waiting,
    Making,
    /// Slots yet to be withdrawn, the first of which is on its way.
    Withdrawing(Vec<(usize, IndexChild)>),
}

/// How far a rewriter is.
#[derive(Clone, Debug)]
enum Phase {
    /// Waits until the tag holds what slots announce.
    Quiet,
    /// Has made an index of what had this digest, and withdrawn the slots.
    Made(Option<Digest>, Box<Index>),
    /// Has put it.
    Put(Box<Index>),
}

impl Protocol {
    /// A run that merges children under a tag; `now` is the caller's clock, which never goes back.
    /// Children whose platforms have no slot are not looked at: see [`check`](super::check).
    pub fn merge(tag: &str, children: &[IndexChild], now: Duration) -> Self {
        let mut run = Self::new(tag, now);
        for child in children {
            if let Some(slot) = run.slots.iter().position(|(platform, _)| *platform == child.platform()) {
                run.own.retain(|own| own.slot != slot);
                run.own.push(Own { slot, child: child.clone(), before: None });
            }
        }
        run
    }

    /// A run that makes a new index of what the tag holds.
    pub fn rewrite(tag: &str, now: Duration) -> Self {
        Self { rewrites: true, ..Self::new(tag, now) }
    }

    fn new(tag: &str, now: Duration) -> Self {
        let slot = |platform: Platform| slot_tag(tag, &platform).map(|tag| (platform, tag));
        let slots = platforms().filter_map(slot).filter(|(_, tag)| tag.len() <= LONGEST_TAG).collect();
        Self {
            tag: tag.to_owned(),
            own: Vec::new(),
            rewrites: false,
            slots,
            began: now,
            clock: (0, now),
            known: BTreeMap::new(),
            read: Read::default(),
            held: None,
            rounds: 0,
            failures: 0,
            refused: None,
            waits: false,
            told: Vec::new(),
            state: State::Begin,
            rewrite: Phase::Quiet,
        }
    }

    /// Takes the answer to what was asked last, and says what comes next.
    pub fn step(&mut self, told: Told, now: Duration) -> Step {
        match (std::mem::replace(&mut self.state, State::Begin), told) {
            (State::Clock, Told::Clock(time)) => {
                self.clock = (time.unwrap_or_else(own_clock), now);
                if self.own.is_empty() {
                    return self.look(now);
                }
                let tags = self.own.iter().map(|own| self.slots[own.slot].1.clone()).collect();
                self.ask(State::LookingAtOwn, Ask::Look(tags))
            }
            (State::LookingAtOwn, Told::Digests(digests)) => {
                let found =
                    self.own.iter().zip(digests).filter_map(|(own, digest)| Some((own.slot, digest?))).collect();
                self.get_own(found, now)
            }
            (State::GettingOwn(mut left), told @ (Told::Document(_) | Told::Unreadable(_))) => {
                let (slot, _) = left.remove(0);
                let platform = self.slots[slot].0.clone();
                for own in self.own.iter_mut().filter(|own| own.slot == slot) {
                    own.before = match &told {
                        Told::Document(Some(document)) => Slot::read(document, &platform).child(),
                        _ => None,
                    };
                }
                self.get_own(left, now)
            }
            // It names our child alone.
            (State::Announcing(_), Told::Put(Outcome::Gone(error))) => Step::Gone(error),
            (State::Announcing(mut left), Told::Put(outcome)) => {
                if let Some(failed) = self.note(outcome) {
                    return failed;
                }
                left.remove(0);
                self.announce(left, now)
            }
            (State::LookingAtTag, Told::Digests(digests)) => {
                self.read.tag = digests.into_iter().next().flatten();
                match self.read.tag {
                    Some(digest) if self.held_digest() != Some(digest) => self.ask(State::GettingTag, Ask::Get(digest)),
                    Some(_) => self.look_at_slots(),
                    None => {
                        self.held = None;
                        self.look_at_slots()
                    }
                }
            }
            (State::GettingTag, Told::Document(document)) => match document {
                None => self.look_again(now),
                Some(Document::Index(index)) => {
                    let held = Held::of_index(&index);
                    self.held = Some(Arc::new((Document::Index(index), held)));
                    self.look_at_slots()
                }
                Some(Document::Manifest(manifest)) => {
                    let ask = Ask::Config(Box::new(manifest.clone()));
                    self.ask(State::GettingConfig(Box::new(manifest)), ask)
                }
            },
            (State::GettingTag, Told::Unreadable(error)) => Step::Failed(error),
            (State::GettingConfig(manifest), Told::Config(config)) => {
                let held = Held::of_manifest(&manifest, config.as_ref());
                self.held = Some(Arc::new((Document::Manifest(*manifest), held)));
                self.look_at_slots()
            }
            (State::LookingAtSlots, Told::Digests(digests)) => {
                self.read.slots = digests;
                self.get_slot(0, now)
            }
            (State::GettingSlot(slot), Told::Document(document)) => {
                let Some(document) = document else { return self.look_again(now) };
                let says = Slot::read(&document, &self.slots[slot].0);
                self.learn(slot, says);
                self.get_slot(slot, now)
            }
            (State::GettingSlot(slot), Told::Unreadable(_)) => {
                self.learn(slot, Slot::Nothing);
                self.get_slot(slot, now)
            }
            (State::Checking(index), Told::Digests(digests)) => self.put_if_unchanged(index, digests, now),
            (State::Putting, Told::Put(Outcome::Gone(error))) => {
                let index = self.held_digest();
                let again = index == self.refused;
                self.refused = index;
                if again { Step::Gone(error) } else { self.look_again(now) }
            }
            (State::Putting, Told::Put(outcome)) => match self.note(outcome) {
                Some(failed) => failed,
                None if self.rounds > 1 || self.failures > 0 => self.pause(self.rounds.max(self.failures)),
                None => self.look(now),
            },
            // Nothing is to be changed.
            (State::Making, Told::Made(index)) if Some(index.digest) == self.read.tag => Step::Done(index),
            (State::Making, Told::Made(index)) => {
                let young = self.young(now);
                self.rewrite = Phase::Made(self.read.tag, index);
                self.withdraw(young, now)
            }
            (State::Withdrawing(mut left), Told::Put(outcome)) => {
                if let Some(failed) = self.note(outcome) {
                    return failed;
                }
                left.remove(0);
                self.withdraw(left, now)
            }
            (State::Waiting, Told::Waited) => self.look(now),
            // The beginning, or an answer to something else.
            (_, _) => self.ask(State::Clock, Ask::Clock),
        }
    }

    fn ask(&mut self, state: State, ask: Ask) -> Step {
        self.state = state;
        Step::Ask(ask)
    }

    fn held_digest(&self) -> Option<Digest> {
        self.held.as_ref().map(|held| held.0.digest())
    }

    /// The registry's time.
    fn time(&self, now: Duration) -> i64 {
        let (time, at) = self.clock;
        time.saturating_add(i64::try_from(now.saturating_sub(at).as_secs()).unwrap_or(i64::MAX))
    }

    /// Counts puts that fail; too many are the end.
    fn note(&mut self, outcome: Outcome) -> Option<Step> {
        match outcome {
            Outcome::Done => self.failures = 0,
            Outcome::Unknown(error) | Outcome::Gone(error) => {
                self.failures += 1;
                if self.failures >= FAILURES {
                    return Some(Step::Failed(error));
                }
            }
        }
        None
    }

    /// Gets what own slots name before anything is announced there, then announces.
    fn get_own(&mut self, left: Vec<(usize, Digest)>, now: Duration) -> Step {
        match left.first() {
            Some((_, digest)) => {
                let ask = Ask::Get(*digest);
                self.ask(State::GettingOwn(left), ask)
            }
            None => self.announce(self.own.iter().map(|own| own.slot).collect(), now),
        }
    }

    fn announce(&mut self, left: Vec<usize>, now: Duration) -> Step {
        let next = left.first().and_then(|slot| self.own.iter().find(|own| own.slot == *slot));
        let Some(own) = next else { return self.look(now) };
        let index = Box::new(Slot::announce(&own.child, self.time(now)));
        let tag = self.slots[own.slot].1.clone();
        let says = Slot::Announced(Box::new(own.child.clone()), self.time(now));
        self.known.insert((own.slot, index.digest), Arc::new(says));
        self.ask(State::Announcing(left), Ask::Put { tag, index })
    }

    fn withdraw(&mut self, left: Vec<(usize, IndexChild)>, now: Duration) -> Step {
        let Some((slot, child)) = left.first() else { return self.look(now) };
        let (tag, index) = (self.slots[*slot].1.clone(), Box::new(Slot::withdraw(child)));
        self.ask(State::Withdrawing(left), Ask::Put { tag, index })
    }

    /// Begins a reading: the tag first. A rewriter withdraws slots before it puts the tag, so whoever sees its index
    /// sees what it has withdrawn, too.
    fn look(&mut self, now: Duration) -> Step {
        self.read = Read { at: now, ..Read::default() };
        let tags = vec![self.tag.clone()];
        self.ask(State::LookingAtTag, Ask::Look(tags))
    }

    fn look_at_slots(&mut self) -> Step {
        let tags = self.slots.iter().map(|(_, tag)| tag.clone()).collect();
        self.ask(State::LookingAtSlots, Ask::Look(tags))
    }

    /// Looks at the tag once more before this is put: what others have put meanwhile is not to be undone. Only what they
    /// put in the time of two requests is, and found by the next reading.
    fn check(&mut self, index: Box<Index>) -> Step {
        let tags = vec![self.tag.clone()];
        self.ask(State::Checking(index), Ask::Look(tags))
    }

    fn put_if_unchanged(&mut self, index: Box<Index>, digests: Vec<Option<Digest>>, now: Duration) -> Step {
        let is_old = now.saturating_sub(self.read.at) >= READ_AGE;
        if is_old || digests.first() != Some(&self.read.tag) {
            return if self.is_over(now) { Step::GivenUp(self.rounds) } else { self.look(now) };
        }
        if let Phase::Made(..) = self.rewrite {
            self.rewrite = Phase::Put(index.clone());
        }
        // If the tag names it at the next reading, it need not be got.
        self.held = Some(Arc::new((Document::Index((*index).clone()), Held::of_index(&index))));
        self.ask(State::Putting, Ask::Put { tag: self.tag.clone(), index })
    }

    /// What was named by a tag is gone: replaced, and collected at once. Or the registry does not have it everywhere yet,
    /// which takes it a while.
    fn look_again(&mut self, now: Duration) -> Step {
        match self.another_round(now) {
            Some(given_up) => given_up,
            None if self.rounds > 1 => self.pause(self.rounds),
            None => self.look(now),
        }
    }

    fn learn(&mut self, slot: usize, says: Slot) {
        if let Some(digest) = self.read.slots.get(slot).copied().flatten() {
            self.known.insert((slot, digest), Arc::new(says));
        }
    }

    /// Gets what slots say, from this one on, where that is not known.
    fn get_slot(&mut self, from: usize, now: Duration) -> Step {
        let digests = self.read.slots.iter().enumerate().skip(from);
        let mut unknown = digests.filter_map(|(slot, digest)| Some((slot, (*digest)?)));
        match unknown.find(|key| !self.known.contains_key(key)) {
            Some((slot, digest)) => self.ask(State::GettingSlot(slot), Ask::Get(digest)),
            None => self.decide(now),
        }
    }

    /// What a slot said at the last reading.
    fn says(&self, slot: usize) -> &Slot {
        let digest = self.read.slots.get(slot).copied().flatten();
        digest.and_then(|digest| self.known.get(&(slot, digest))).map_or(&Slot::Nothing, Arc::as_ref)
    }

    fn is_young(&self, time: i64, now: Duration) -> bool {
        // One from the future is of a clock that is wrong; its writer may be at work. Not for ever, though.
        (-seconds(FUTURE)..seconds(YOUTH)).contains(&self.time(now).saturating_sub(time))
    }

    /// What young slots announced at the last reading.
    fn young(&self, now: Duration) -> Vec<(usize, IndexChild)> {
        let young = |slot| match self.says(slot) {
            Slot::Announced(child, time) if self.is_young(*time, now) => Some((slot, (**child).clone())),
            Slot::Announced(..) | Slot::Withdrawn(_) | Slot::Nothing => None,
        };
        (0..self.slots.len()).filter_map(young).collect()
    }

    /// Own slots that say neither what they should nor that something newer has come. Where what was there before the
    /// announcement was withdrawn, the announcement was overwritten unseen.
    fn overwritten(&self, now: Duration) -> Vec<usize> {
        let is_lost = |own: &&Own| match self.says(own.slot) {
            Slot::Announced(found, time) => found.blob.digest != own.child.blob.digest && !self.is_young(*time, now),
            Slot::Withdrawn(digest) => Some(*digest) == own.before && *digest != own.child.blob.digest,
            Slot::Nothing => true,
        };
        self.own.iter().filter(is_lost).map(|own| own.slot).collect()
    }

    /// A reading is whole.
    fn decide(&mut self, now: Duration) -> Step {
        let young: Vec<IndexChild> = self.young(now).into_iter().map(|(_, child)| child).collect();
        if self.rewrites {
            match std::mem::replace(&mut self.rewrite, Phase::Quiet) {
                Phase::Quiet => return self.make_if_quiet(&young, now),
                Phase::Made(from, index) if from == self.read.tag && young.is_empty() => {
                    self.rewrite = Phase::Made(from, index.clone());
                    return self.check(index);
                }
                Phase::Put(index) if self.still_holds(&index, &young) => self.rewrite = Phase::Put(index),
                Phase::Made(..) | Phase::Put(_) => return self.make_if_quiet(&young, now),
            }
        }
        let overwritten = self.overwritten(now);
        if overwritten.is_empty()
            && let Some((Document::Index(index), held)) = self.held.as_deref()
            && held.holds(&young)
        {
            return Step::Done(Box::new(index.clone()));
        }
        self.merge_now(&young, overwritten, now)
    }

    fn merge_now(&mut self, young: &[IndexChild], overwritten: Vec<usize>, now: Duration) -> Step {
        if let Some(end) = self.another_round(now) {
            return end;
        }
        if !overwritten.is_empty() {
            return self.announce(overwritten, now);
        }
        let (held, nothing) = (self.held.clone(), Held::default());
        let held = held.as_deref().map_or(&nothing, |(_, held)| held);
        for (child, other) in young.iter().filter_map(|child| Some((child, held.other_of(child)?))) {
            let digest = child.blob.digest;
            let is_own = self.own.iter().any(|own| own.child.blob.digest == digest);
            if !is_own && !self.told.contains(&digest) {
                // Usual where somebody merges at the same time; a surprise where the tag was put back by hand.
                log::info!(
                    "Index '{}': {digest} for {} was announced within {} minutes and takes the place of {other}",
                    self.tag,
                    child.platform(),
                    YOUTH.as_secs() / 60
                );
                self.told.push(digest);
            }
        }
        let index = held.merged(young);
        self.check(Box::new(index))
    }

    /// A rewriter's: makes the new index, if nobody else is at work.
    fn make_if_quiet(&mut self, young: &[IndexChild], now: Duration) -> Step {
        let holds = match self.held.as_deref() {
            Some((Document::Index(_), held)) => held.holds(young),
            Some((Document::Manifest(_), _)) | None => young.is_empty(),
        };
        if holds {
            if let Some(end) = self.another_round(now) {
                return end;
            }
            let document = self.held.as_ref().map(|held| held.0.clone());
            return self.ask(State::Making, Ask::Make(document));
        }
        let time = self.time(now);
        let is_held =
            |child: &IndexChild| self.held.as_deref().is_some_and(|(_, held)| held.holds(std::slice::from_ref(child)));
        // For how many seconds a writer may be alive whose child is still to come.
        let left = |slot| match self.says(slot) {
            Slot::Announced(child, announced) if !is_held(child) && self.is_young(*announced, now) => {
                let left = seconds(SETTLED).saturating_sub(time.saturating_sub(*announced));
                (left > 0).then(|| (self.slots[slot].0.to_string(), left))
            }
            Slot::Announced(..) | Slot::Withdrawn(_) | Slot::Nothing => None,
        };
        let (alive, left): (Vec<_>, Vec<_>) = (0..self.slots.len()).filter_map(left).unzip();
        let Some(longest) = left.into_iter().max() else { return self.merge_now(young, Vec::new(), now) };
        if self.is_over(now) {
            return Step::GivenUp(self.rounds);
        }
        if !std::mem::replace(&mut self.waits, true) {
            log::info!(
                "Waiting for exports for {} that may be changing the index '{}' now, for {longest} s at most...",
                alive.join(", "),
                self.tag
            );
        }
        self.wait(POLL)
    }

    /// Whether the tag holds all of an index, but for what is announced now.
    fn still_holds(&self, index: &Index, young: &[IndexChild]) -> bool {
        let Some((Document::Index(found), _)) = self.held.as_deref() else { return false };
        index.children.iter().all(|child| {
            found.children.iter().any(|found| found.blob.digest == child.blob.digest)
                || child
                    .platform
                    .as_ref()
                    .is_some_and(|target| young.iter().any(|young| young.platform() == target.platform()))
        })
    }

    fn is_over(&self, now: Duration) -> bool {
        let patience = if self.rewrites { PATIENCE + WAITING } else { PATIENCE };
        now.saturating_sub(self.began) >= patience
    }

    /// Counts a round; the end, if there were enough of them.
    fn another_round(&mut self, now: Duration) -> Option<Step> {
        if self.rounds >= ROUNDS || self.is_over(now) {
            return Some(Step::GivenUp(self.rounds));
        }
        self.rounds += 1;
        None
    }

    /// Waits before it goes on, the longer the more often.
    fn pause(&mut self, times: u32) -> Step {
        self.wait(Duration::from_millis(250 * u64::from(times.min(10))))
    }

    fn wait(&mut self, longest: Duration) -> Step {
        self.ask(State::Waiting, Ask::Wait(longest))
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn own_clock() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    seconds(since)
}

#[cfg(test)]
#[path = "key.rs"]
pub(in crate::image::index) mod key;

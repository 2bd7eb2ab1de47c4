//! Many writers, one tag, and a registry without compare-and-swap: announce, then merge.
//!
//! # The protocol
//!
//! A writer that *merges* has pushed its child by digest before. Then it
//!
//! 1. *announces* it: asks for the registry's time, looks what the child's slot says (module `slot`), and puts it;
//! 2. reads the tag, then all slots. Wanted is what the tag holds, overridden per platform by what slots younger than
//!    [`YOUTH`] announce;
//! 3. is done, if the tag is an index that holds what is wanted. Else it looks at the tag once more, and if that names
//!    what it did and the read is younger than [`READ_AGE`], puts the wanted index; then it goes to 2, after a random pause
//!    from the second put on. A put without an answer may have been done or not: 2 will tell;
//! 4. gives up after [`ROUNDS`] puts or [`PATIENCE`], and only after a read: a whole index stands.
//!
//! Where it finds its own slot overwritten by something that is neither a newer announcement nor the withdrawal of this
//! child or of a newer one, it announces again: a rewriter may withdraw what the slot said before, and not see that it has
//! changed.
//!
//! A writer that *rewrites* (a rebase, a replacement) announces nothing. It
//!
//! 1. reads as above, until the tag holds what young slots announce. For who has announced and died it waits until it
//!    cannot be alive any more ([`SETTLED`]), and then merges in its place: earlier, a living writer's put that is on
//!    its way could undo what follows;
//! 2. makes the new index, its children pushed by digest;
//! 3. *withdraws* the young slots that it saw, so that nobody merges them again;
//! 4. reads once more, and looks at the tag again. Another index, or a young slot: begins again with 1;
//! 5. puts the new index, and reads. If it is gone, undone by a put that was on its way, begins again with 1; if a
//!    slot has become young meanwhile that it lacks, merges it as any writer does.
//!
//! # Why nothing is lost
//!
//! Whoever writes the index last reads the slots after that, and every other writer announced before its own write.
//!
//! Let `W` be the writer of the last put of the tag, `T` the moment of this put, and `V` any writer that merged the
//! child `c` and was done. `W` goes on until it has read, all of it after `T`, slots and an index that holds what they
//! announce; nobody writes after `T`, so that index is the one it put. There are two cases.
//!
//! - `V` announced before `W` read `V`'s slot for that last time. Then `W` saw the announcement of `c`, or a newer one
//!   in its place, and what it put holds it. (It was young: either `W`'s put was made from a read that saw it too, or
//!   `V` announced after that read, which is at most [`READ_AGE`] and one put ago.)
//! - `V` announced after that. Then `V`, too, read slots and index after `T`: it was done when that index held what
//!   the slots announce, its own among them, and it is the index that stands.
//!
//! A slot is overwritten only by a newer announcement for its platform, which takes the place of the child anyway, or
//! by a withdrawal. A withdrawal follows a read in which the tag held what the slot announced, so the new index is made
//! from it; if another announcement was overwritten unseen, its writer finds it gone and announces again.
//!
//! The order of announcements of one platform is the order in which the registry took them, not that of the times in
//! them: those only say which slots are old. An old slot says nothing, since the index has held its child for long and
//! may have got another since by something that does not announce.
//!
//! A rebase is one put. Killed before it, the tag holds what it held, and withdrawn slots say nothing; killed after
//! it, the tag holds the rebased index, and the slots of what went into it are withdrawn, so that nobody brings an
//! old child back.
//!
//! # What is not covered
//!
//! - A merge that overwrites what another writer has put in the two requests' time between its last look at the tag and
//!   its put, while a rewrite ends. If it is the rewriter's index that it overwrites, the old one is back, with the merged
//!   child; if it is another merge's, it would mend that from the slots, but the rewriter has withdrawn them. (The other
//!   way around, a merge that is over between the rewriter's last look and its put, is mended by the read that follows.)
//! - A writer that is killed after its put and before it is done: what it has overwritten is missing until the next
//!   writer, at most [`YOUTH`] later, reads the slots.
//! - A tag that something without the protocol moves less than [`YOUTH`] after a merge.
//! - A registry that answers a read with something older than what it has acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use platform_spec::target::Platform;

use super::merge::{Held, IndexChild};
use super::slot::{LONGEST_TAG, Slot, platforms, slot_tag};
use crate::digest::Digest;
use crate::image::manifest::{Document, Index, Manifest};
use crate::image::{Config, StoreError};

/// A slot that was announced less long ago counts.
pub const YOUTH: Duration = Duration::from_secs(15 * 60);

/// An index is put only if all that it was made from was read less long ago.
pub const READ_AGE: Duration = Duration::from_secs(60);

/// How often a writer puts the index, or begins again, before it gives up.
pub const ROUNDS: u32 = 20;

/// For how long a writer tries.
pub const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// Who announced so long ago puts nothing any more: it has given up, or what it read is too old.
pub const SETTLED: Duration = Duration::from_secs(6 * 60);

/// Beside [`PATIENCE`], the time that a rewriter waits for others.
const WAITING: Duration = Duration::from_secs(7 * 60);

/// Between two looks of a rewriter that waits for others.
const POLL: Duration = Duration::from_secs(2);

/// How many puts in a row may fail.
const FAILURES: u32 = 5;

/// A request of the machine; its answer is to be given to the next [`Protocol::step`].
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// The registry's clock, as an answer says that no cache has given: [`Told::Clock`].
    Clock,
    /// What these tags name by now (`HEAD`), in any order or at the same time: [`Told::Digests`].
    Look(Vec<String>),
    /// What has this digest: [`Told::Document`].
    Get(Digest),
    /// The config of a single manifest: [`Told::Config`].
    Config(Box<Manifest>),
    /// Put an index under a tag, once: [`Told::Put`].
    Put {
        /// The tag.
        tag: String,
        /// The index.
        index: Box<Index>,
    },
    /// Make the new index of what the tag holds; only where one rewrites: [`Told::Made`].
    Make(Option<Document>),
    /// Wait, at least for half and at most for all of this time, at random: [`Told::Waited`].
    Wait(Duration),
}

/// The answer to an [`Ask`].
#[derive(Debug)]
pub enum Told {
    /// Nothing was asked: the beginning.
    Nothing,
    /// In seconds since 1970; `None`: the registry does not say, and the own clock has to do.
    Clock(Option<i64>),
    /// For each tag, the digest of what it names, if it names something.
    Digests(Vec<Option<Digest>>),
    /// What has the digest; `None`: it is gone.
    Document(Option<Document>),
    /// What has the digest is neither a manifest nor an index.
    Unreadable(StoreError),
    /// The config, if it is an image's.
    Config(Option<Config>),
    /// Whether it was put.
    Put(Outcome),
    /// The new index.
    Made(Box<Index>),
    /// The time is over.
    Waited,
}

/// What became of a put.
#[derive(Debug)]
pub enum Outcome {
    /// The registry has acknowledged it.
    Done,
    /// It has not, and it may have been done nevertheless: no answer, or one of a registry in trouble.
    Unknown(StoreError),
}

/// What a step gives.
#[derive(Debug)]
pub enum Step {
    /// A request is to be sent.
    Ask(Ask),
    /// The index that stands.
    Done(Box<Index>),
    /// Others change it all the time, and now it is enough: so many rounds.
    GivenUp(u32),
    /// Puts fail again and again.
    Failed(StoreError),
}

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
            (State::Putting, Told::Put(outcome)) => match self.note(outcome) {
                Some(failed) => failed,
                None if self.rounds > 1 || self.failures > 0 => {
                    self.wait(Duration::from_millis(250 * u64::from(self.rounds.max(self.failures).min(10))))
                }
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
            Outcome::Unknown(error) => {
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
        self.ask(State::Putting, Ask::Put { tag: self.tag.clone(), index })
    }

    /// What was named by a tag is gone: replaced, and collected at once.
    fn look_again(&mut self, now: Duration) -> Step {
        self.another_round(now).unwrap_or_else(|| self.look(now))
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
        // One from the future is of a clock that is wrong; its writer may be at work.
        self.time(now).saturating_sub(time) < seconds(YOUTH)
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
        let index = match self.held.as_deref() {
            Some((_, held)) => held.merged(young),
            None => Held::default().merged(young),
        };
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
        let may_be_alive = |slot| match self.says(slot) {
            Slot::Announced(_, announced) => time.saturating_sub(*announced) < seconds(SETTLED),
            Slot::Withdrawn(_) | Slot::Nothing => false,
        };
        if !(0..self.slots.len()).any(may_be_alive) {
            return self.merge_now(young, Vec::new(), now);
        }
        if self.is_over(now) { Step::GivenUp(self.rounds) } else { self.wait(POLL) }
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

/// What distinguishes two runs of the same writer, for tests that try every schedule.
#[cfg(test)]
pub(super) type Key = (u8, Vec<usize>, Vec<(usize, Digest)>, [Option<Digest>; 4], (u8, Option<Digest>), u32);

#[cfg(test)]
impl Protocol {
    pub(super) fn key(&self) -> Key {
        // What was read matters until something is asked for because of it.
        let (state, left, reads) = match &self.state {
            State::Begin => (0, Vec::new(), false),
            State::Clock => (1, Vec::new(), false),
            State::LookingAtOwn => (13, Vec::new(), false),
            State::GettingOwn(_) => (14, Vec::new(), false),
            State::Announcing(left) => (2, left.clone(), false),
            State::LookingAtTag => (3, Vec::new(), false),
            State::GettingTag => (4, Vec::new(), true),
            State::GettingConfig(_) => (5, Vec::new(), true),
            State::LookingAtSlots => (6, Vec::new(), true),
            State::GettingSlot(slot) => (7, vec![*slot], true),
            State::Checking(_) => (8, Vec::new(), true),
            State::Putting => (9, Vec::new(), false),
            State::Waiting => (10, Vec::new(), false),
            State::Making => (11, Vec::new(), true),
            State::Withdrawing(left) => (12, left.iter().map(|(slot, _)| *slot).collect(), true),
        };
        let (phase, from, made) = match &self.rewrite {
            Phase::Quiet => (0, None, None),
            Phase::Made(from, index) => (1, *from, Some(index.digest)),
            Phase::Put(index) => (2, None, Some(index.digest)),
        };
        let checking = match &self.state {
            State::Checking(index) => Some(index.digest),
            _ => None,
        };
        let matter = reads && checking.is_none();
        let digests = self.read.slots.iter().enumerate().filter(|_| matter);
        let slots = digests.filter_map(|(slot, digest)| Some((slot, (*digest)?))).collect();
        let before = self.own.first().and_then(|own| own.before);
        let tag = if reads { self.read.tag } else { None };
        (state, left, slots, [tag, checking, made, before], (phase, from), self.failures)
    }

    /// What the tag held when it was read last.
    pub(super) fn base(&self) -> Option<Digest> {
        self.read.tag
    }
}

//! A repository that steps request by request, and a search through every schedule of its writers.
//!
//! What matters of a repository is what its tags name: looking at a tag and putting one are steps, one request each;
//! what has a digest never changes, so getting it, asking for the time and waiting at random are no steps of their own.
//! The search goes through all schedules, and through one state once: states are equal if tags, writers and what is
//! known of their past are.

mod collector;
mod judge;
mod state;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::time::Duration;

use platform_spec::target::{Platform, Target};

use super::super::merge::{Held, IndexChild};
use super::super::protocol::{Ask, Key, Outcome, Protocol, SETTLED, Step, Told};
use super::super::slot::{Slot, slot_tag};
use crate::digest::Digest;
use crate::image::{BlobRef, Document, Format, Index, StoreError};

const TAG: &str = "latest";

/// The registry's time at the beginning.
const TIME: i64 = 1_700_000_000;

/// What a writer does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Job {
    /// Merges the child of this name, whose platform is the name's beginning: `arm64 1`.
    Merge(&'static str),
    /// The same without announcing: reads, merges, writes, reads back.
    Naive(&'static str),
    /// Each child by the one whose name has a `+`.
    Rebase,
    /// This child alone.
    Replace(&'static str),
}

/// A test.
#[derive(Clone, Debug, Default)]
pub(super) struct Scene {
    /// Who writes at the same time.
    pub(super) jobs: Vec<Job>,
    /// The children of the index that is there; none: there is none.
    pub(super) held: Vec<&'static str>,
    /// Old slots, with their ages: left over from earlier runs.
    pub(super) slots: Vec<(&'static str, Duration)>,
    /// How many writers are killed, at any of their requests.
    pub(super) kills: u8,
    /// How many puts get no answer, done or not.
    pub(super) unanswered: u8,
    /// How often a collector runs, between any two requests, that takes what no tag names, neither itself nor by an index.
    pub(super) collections: u8,
    /// Whether the registry takes an index though something that it names is not there.
    pub(super) credulous: bool,
    /// Whether slots are looked at in any order, and not one after the other.
    pub(super) any_order: bool,
    /// Whether a look at a slot that nobody can put any more may come at any time, and not only at once: it makes no
    /// difference to what comes of it, and many more schedules.
    pub(super) every_schedule: bool,
    /// Whether writers can undo each other's work for as long as their pauses are equal, until they give up.
    pub(super) for_ever: bool,
}

/// What came of a scene.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Schedules, each of which would be another run.
    pub(super) schedules: f64,
    /// Those of them that end badly.
    pub(super) losing: f64,
    /// States that were gone through.
    pub(super) states: usize,
    /// Ends at which something was lost or stale, with an example.
    pub(super) bad: Vec<String>,
    /// Ends at which a rewrite was undone by a put that was on its way: not covered.
    pub(super) uncovered: usize,
    /// Ends at all.
    pub(super) ends: usize,
    /// Ends at which a writer has said that its child is not there.
    pub(super) failed: usize,
    /// Children that were sent again because a collector had taken them, in all ends together.
    pub(super) sent_again: usize,
    /// Requests of the longest schedule.
    pub(super) longest: usize,
}

pub(super) fn child(name: &str) -> IndexChild {
    let arch = name.split(' ').next().unwrap_or_default();
    let mut parts = arch.split('/').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    let target = Target { os: "linux".to_owned(), arch: part(), variant: part(), ..Target::default() };
    IndexChild { blob: BlobRef::new(Format::Oci.manifest(), Digest::of(name.as_bytes()), name.len() as u64), target }
}

fn platform(name: &str) -> Platform {
    child(name).platform()
}

/// What never changes: documents by digest, and the names of children.
#[derive(Default)]
struct Content {
    documents: HashMap<Digest, Rc<Index>>,
    names: BTreeMap<Digest, String>,
}

/// A writer.
#[derive(Clone)]
struct Writer {
    job: Job,
    run: Run,
    next: Next,
    /// It has put the tag and is not done: what it has overwritten is not mended.
    blind: bool,
    /// It has overwritten what another has put meanwhile, and is to mend it.
    unmended: bool,
    killed: bool,
    /// Whether it was told that its child stands.
    done: Option<Digest>,
    /// The children that it has pushed.
    own: Vec<Digest>,
    /// It has sent its children again because an index was refused.
    again: bool,
    /// It has sent its children again because they were not there in the end.
    sent: bool,
    /// It has said that they are lost.
    failed: bool,
    /// A rewriter's: it has made an index.
    made: bool,
}

#[derive(Clone)]
enum Run {
    Protocol(Box<Protocol>),
    /// Of the naive writer: whether it has put.
    Naive(bool),
}

/// The request that comes next.
#[derive(Clone, Debug, PartialEq)]
enum Next {
    Look {
        left: Vec<usize>,
        asked: Rc<Vec<String>>,
        found: Vec<Option<Digest>>,
    },
    Put(usize, Digest),
    /// Whether its children in the index that stands are there.
    Find(Digest),
    /// Until tags are others than these.
    Poll(Vec<Option<Digest>>),
    Nothing,
}

#[derive(Clone)]
struct State {
    /// What the tags name: the tag, then slots.
    tags: Vec<Option<Digest>>,
    /// The children that are there.
    there: BTreeSet<Digest>,
    now: Duration,
    writers: Vec<Writer>,
    /// Slot and child, in the order of announcements.
    announced: Vec<(usize, Digest)>,
    /// Writers whose put was made from what the tag held before it was rewritten.
    stale: Vec<bool>,
    uncovered: bool,
    /// A writer was killed before it mended what it had overwritten.
    blind: bool,
    kills: u8,
    unanswered: u8,
    collections: u8,
}

/// How many schedules there are, and how many of them end badly.
type Count = (f64, f64);

/// The search.
pub(super) struct Model {
    scene: Scene,
    /// The tag, then the slots that anybody uses.
    names: Vec<String>,
    platforms: Vec<Platform>,
    content: RefCell<Content>,
    seen: RefCell<HashMap<u64, Count>>,
    findings: RefCell<Findings>,
}

impl Model {
    pub(super) fn explore(scene: Scene) -> Findings {
        let mut model = Self {
            scene: scene.clone(),
            names: vec![TAG.to_owned()],
            platforms: Vec::new(),
            content: RefCell::default(),
            seen: RefCell::default(),
            findings: RefCell::default(),
        };
        let merged = scene.jobs.iter().filter_map(|job| match job {
            Job::Merge(name) | Job::Naive(name) => Some(*name),
            Job::Rebase | Job::Replace(_) => None,
        });
        for name in merged.chain(scene.slots.iter().map(|(name, _)| *name)) {
            if !model.platforms.contains(&platform(name)) {
                model.platforms.push(platform(name));
                model.names.push(slot_tag(TAG, &platform(name)).expect("a platform of the list"));
            }
        }
        let mut tags = vec![None; model.names.len()];
        if !scene.held.is_empty() {
            let children: Vec<_> = scene.held.iter().map(|name| model.child(name)).collect();
            tags[0] = Some(model.keep(Index::fresh(&children)));
        }
        for (name, age) in &scene.slots {
            let time = TIME - i64::try_from(age.as_secs()).expect("a time");
            let slot = model.slot_of(&platform(name)).expect("a slot");
            tags[slot] = Some(model.keep(Slot::announce(&model.child(name), time)));
        }
        let mut state = State {
            tags,
            there: model.content.borrow().names.keys().copied().collect(),
            now: Duration::ZERO,
            writers: Vec::new(),
            announced: Vec::new(),
            stale: vec![false; scene.jobs.len()],
            uncovered: false,
            blind: false,
            kills: scene.kills,
            unanswered: scene.unanswered,
            collections: scene.collections,
        };
        for job in &scene.jobs {
            let writer = model.writer(*job, &mut state);
            state.writers.push(writer);
        }
        let (schedules, losing) = model.search(&state, 0);
        let mut findings = model.findings.into_inner();
        (findings.schedules, findings.losing) = (schedules, losing);
        findings.states = model.seen.into_inner().len();
        findings
    }

    fn child(&self, name: &str) -> IndexChild {
        let child = child(name);
        self.content.borrow_mut().names.insert(child.blob.digest, name.to_owned());
        child
    }

    fn keep(&self, index: Index) -> Digest {
        let digest = index.digest;
        self.content.borrow_mut().documents.entry(digest).or_insert_with(|| Rc::new(index));
        digest
    }

    fn index(&self, digest: Digest) -> Rc<Index> {
        self.content.borrow().documents[&digest].clone()
    }

    fn slot_of(&self, platform: &Platform) -> Option<usize> {
        self.platforms.iter().position(|known| known == platform).map(|at| at + 1)
    }

    /// What an index has, by platform.
    fn children(&self, digest: Option<Digest>) -> BTreeMap<String, String> {
        let content = self.content.borrow();
        let Some(digest) = digest else { return BTreeMap::new() };
        let children = &content.documents[&digest].children;
        let named = children.iter().map(|child| {
            let target = child.platform.as_ref().expect("a platform");
            (target.platform().to_string(), content.names[&child.blob.digest].clone())
        });
        let named: BTreeMap<_, _> = named.collect();
        assert_eq!(named.len(), children.len(), "each platform once");
        named
    }

    fn writer(&self, job: Job, state: &mut State) -> Writer {
        let own = self.own(job);
        state.there.extend(&own);
        let mut writer = Writer {
            job,
            run: self.run(job, state.now),
            next: Next::Nothing,
            blind: false,
            unmended: false,
            killed: false,
            done: None,
            own,
            again: false,
            sent: false,
            failed: false,
            made: false,
        };
        self.go_on(&mut writer, Told::Nothing, state);
        writer
    }

    fn run(&self, job: Job, now: Duration) -> Run {
        match job {
            Job::Merge(name) => Run::Protocol(Box::new(Protocol::merge(TAG, &[self.child(name)], now))),
            Job::Naive(name) => {
                self.child(name);
                Run::Naive(false)
            }
            Job::Rebase | Job::Replace(_) => Run::Protocol(Box::new(Protocol::rewrite(TAG, now))),
        }
    }

    /// Gives an answer to a writer, and all those that do not depend on the schedule, up to its next request.
    fn go_on(&self, writer: &mut Writer, told: Told, state: &mut State) {
        let now = state.now;
        let Run::Protocol(run) = &mut writer.run else { return self.go_on_naively(writer, told) };
        let mut told = told;
        loop {
            let ask = match run.step(told, now) {
                Step::Ask(ask) => ask,
                Step::Done(index) if self.scene.collections > 0 => {
                    writer.unmended = false;
                    writer.next = Next::Find(self.keep(*index));
                    return;
                }
                Step::Gone(_) => return self.send_again(writer, state),
                Step::Done(index) => {
                    writer.done = Some(index.digest);
                    writer.unmended = false;
                    writer.next = Next::Nothing;
                    return;
                }
                Step::GivenUp(rounds) => panic!("{:?} has given up after {rounds} rounds", writer.job),
                Step::Failed(error) => panic!("{:?}: {error}", writer.job),
            };
            told = match ask {
                Ask::Clock => Told::Clock(Some(TIME + i64::try_from(now.as_secs()).expect("a time"))),
                Ask::Get(digest) => Told::Document(Some(Document::Index((*self.index(digest)).clone()))),
                Ask::Config(_) => Told::Config(None),
                Ask::Make(document) => {
                    let index = self.make(writer.job, document.as_ref());
                    self.send_made(&mut writer.made, &mut writer.own, &index, state);
                    Told::Made(Box::new(index))
                }
                Ask::Wait(time) if time < Duration::from_secs(2) => Told::Waited,
                Ask::Wait(time) if time > Duration::from_secs(2) => Told::Waited,
                Ask::Wait(_) => {
                    writer.next = Next::Poll(state.tags.clone());
                    return;
                }
                Ask::Look(asked) => {
                    let left: Vec<usize> =
                        asked.iter().filter_map(|tag| self.names.iter().position(|name| name == tag)).collect();
                    if left.is_empty() {
                        Told::Digests(vec![None; asked.len()])
                    } else {
                        writer.next = Next::Look { left, found: vec![None; asked.len()], asked: Rc::new(asked) };
                        return;
                    }
                }
                Ask::Put { tag, index } => {
                    let at = self.names.iter().position(|name| *name == tag).expect("a tag that somebody uses");
                    writer.next = Next::Put(at, self.keep(*index));
                    return;
                }
            };
        }
    }

    /// Reads, merges, writes, and reads back whether its child is there.
    fn go_on_naively(&self, writer: &mut Writer, told: Told) {
        let (Job::Naive(name), Run::Naive(has_put)) = (writer.job, &mut writer.run) else { return };
        let look = Next::Look { left: vec![0], asked: Rc::new(vec![TAG.to_owned()]), found: vec![None] };
        writer.next = match told {
            Told::Digests(found) => {
                let held = found[0].map_or_else(Held::default, |digest| Held::of_index(&self.index(digest)));
                if *has_put && held.holds(&[child(name)]) {
                    writer.done = found[0];
                    Next::Nothing
                } else {
                    *has_put = true;
                    Next::Put(0, self.keep(held.merged(&[child(name)])))
                }
            }
            _ => look,
        };
    }

    /// What a rewriter makes.
    fn make(&self, job: Job, document: Option<&Document>) -> Index {
        match (job, document) {
            (Job::Replace(name), _) => Index::fresh(&[self.child(name)]),
            (_, Some(Document::Index(index))) => index.with_children_replaced(|child| {
                let name = self.content.borrow().names[&child.blob.digest].clone();
                Some(self.child(&rebased(&name)))
            }),
            _ => panic!("nothing to rebase"),
        }
    }

    /// Goes through all schedules from here; how many there are.
    fn search(&self, state: &State, depth: usize) -> Count {
        let key = state.key();
        if let Some(count) = self.seen.borrow().get(&key) {
            let is_circle = count.0.is_nan();
            assert!(!is_circle || self.scene.for_ever, "writers that can go on for ever");
            return if is_circle { (0.0, 0.0) } else { *count };
        }
        self.seen.borrow_mut().insert(key, (f64::NAN, 0.0));
        let choices = self.choices(state);
        let count = if !choices.is_empty() {
            let counts = choices.iter().map(|next| self.search(next, depth + 1));
            counts.fold((0.0, 0.0), |sum, count| (sum.0 + count.0, sum.1 + count.1))
        } else if let Some(later) = state.later() {
            self.search(&self.after_waiting(later), depth + 1)
        } else {
            let mut findings = self.findings.borrow_mut();
            findings.ends += 1;
            findings.failed += usize::from(state.writers.iter().any(|writer| writer.failed));
            findings.sent_again += state.writers.iter().filter(|writer| writer.again || writer.sent).count();
            findings.longest = findings.longest.max(depth);
            drop(findings);
            (1.0, if self.check_end(state) { 0.0 } else { 1.0 })
        };
        self.seen.borrow_mut().insert(key, count);
        count
    }

    /// Whether a writer may still put a slot.
    fn may_put(&self, writer: &Writer, slot: usize) -> bool {
        if writer.killed || writer.next == Next::Nothing {
            return false;
        }
        let puts_again =
            self.scene.unanswered > 0 || self.scene.jobs.iter().any(|job| matches!(job, Job::Rebase | Job::Replace(_)));
        match writer.job {
            Job::Merge(name) => {
                let own = self.slot_of(&platform(name)) == Some(slot);
                own && (puts_again || matches!(writer.next, Next::Put(tag, _) if tag == slot))
            }
            Job::Naive(_) => false,
            Job::Rebase | Job::Replace(_) => true,
        }
    }

    /// A writer that looks at a slot that nobody else puts any more: all else can as well come later.
    fn alone(&self, state: &State) -> Option<usize> {
        let is_alone = |at: &usize| {
            let writer = &state.writers[*at];
            let Next::Look { left, .. } = &writer.next else { return false };
            let others = || state.writers.iter().enumerate().filter(|(other, _)| other != at).map(|(_, other)| other);
            let unchanged = |slot: &usize| *slot != 0 && !others().any(|other| self.may_put(other, *slot));
            !writer.killed && left.first().is_some_and(unchanged)
        };
        if self.scene.every_schedule { None } else { (0..state.writers.len()).find(is_alone) }
    }

    /// Everything that may happen next.
    fn choices(&self, state: &State) -> Vec<State> {
        let mut choices = Vec::new();
        let writers = self.alone(state).map_or(0..state.writers.len(), |at| at..at + 1);
        for at in writers {
            let writer = &state.writers[at];
            if writer.killed {
                continue;
            }
            match &writer.next {
                Next::Nothing => continue,
                Next::Poll(tags) if *tags == state.tags => continue,
                Next::Poll(_) => choices.push(self.with(state, at, |state, writer| {
                    self.go_on(writer, Told::Waited, state);
                })),
                Next::Find(digest) => {
                    let digest = *digest;
                    choices.push(self.with(state, at, |state, writer| self.find(state, writer, digest)));
                }
                Next::Look { left, .. } => {
                    let orders = if self.scene.any_order { left.len() } else { 1 };
                    for order in 0..orders {
                        choices.push(self.with(state, at, |state, writer| self.look(state, writer, order)));
                    }
                }
                Next::Put(tag, digest) => {
                    let (tag, digest) = (*tag, *digest);
                    choices.push(self.with(state, at, |state, writer| {
                        let outcome = match self.takes(state, digest) {
                            true => {
                                self.put(state, at, writer, tag, digest);
                                Outcome::Done
                            }
                            false => Outcome::Gone(StoreError::NotFound { name: "a child".to_owned() }),
                        };
                        self.go_on(writer, Told::Put(outcome), state);
                    }));
                    for arrives in [true, false] {
                        if state.unanswered > 0 {
                            choices.push(self.with(state, at, |state, writer| {
                                state.unanswered -= 1;
                                if arrives && self.takes(state, digest) {
                                    self.put(state, at, writer, tag, digest);
                                }
                                let error = StoreError::NotFound { name: "no answer".to_owned() };
                                self.go_on(writer, Told::Put(Outcome::Unknown(error)), state);
                            }));
                        }
                    }
                }
            }
            if state.kills > 0 {
                choices.push(self.with(state, at, |state, writer| {
                    state.kills -= 1;
                    state.blind |= writer.blind;
                    writer.killed = true;
                }));
            }
        }
        choices.extend(self.collected(state));
        choices
    }

    fn with(&self, state: &State, at: usize, act: impl FnOnce(&mut State, &mut Writer)) -> State {
        let mut next = state.clone();
        let mut writer = next.writers[at].clone();
        act(&mut next, &mut writer);
        next.writers[at] = writer;
        next
    }

    fn look(&self, state: &mut State, writer: &mut Writer, order: usize) {
        let Next::Look { left, asked, found } = &mut writer.next else { return };
        let tag = left.remove(order);
        if let Some(place) = asked.iter().position(|name| *name == self.names[tag]) {
            found[place] = state.tags[tag];
        }
        if left.is_empty() {
            let found = std::mem::take(found);
            self.go_on(writer, Told::Digests(found), state);
        }
    }

    fn put(&self, state: &mut State, at: usize, writer: &mut Writer, tag: usize, digest: Digest) {
        let base = match &writer.run {
            Run::Protocol(run) => run.base(),
            Run::Naive(_) => None,
        };
        let overwrites = state.tags[0] != base;
        state.tags[tag] = Some(digest);
        let is_rewrite = matches!(writer.job, Job::Rebase | Job::Replace(_));
        if is_rewrite {
            for (other, writer) in state.writers.iter().enumerate().filter(|(other, _)| *other != at) {
                // What is on its way was made before, and what was overwritten is mended from slots that are no more.
                state.stale[other] |= matches!(writer.next, Next::Put(0, _));
                state.uncovered |= writer.unmended;
                // What another rewriter has put since this one's last look is undone.
                state.uncovered |= tag == 0 && overwrites && matches!(writer.job, Job::Rebase | Job::Replace(_));
            }
        } else if tag == 0 {
            state.uncovered |= overwrites && state.stale[at];
            writer.unmended = overwrites;
            state.stale[at] = false;
        } else if let Job::Merge(name) = writer.job {
            state.announced.push((tag, child(name).blob.digest));
        }
        writer.blind |= tag == 0;
    }

    /// Those who wait for something that does not come.
    fn after_waiting(&self, mut state: State) -> State {
        for at in 0..state.writers.len() {
            if matches!(state.writers[at].next, Next::Poll(_)) && !state.writers[at].killed {
                state = self.with(&state, at, |state, writer| {
                    self.go_on(writer, Told::Waited, state);
                });
            }
        }
        state
    }
}

fn rebased(name: &str) -> String {
    if name.ends_with('+') { name.to_owned() } else { format!("{name}+") }
}

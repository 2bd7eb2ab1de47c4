//! The first trial that succeeds, without trying them all.
//!
//! The specification has trials in one order: alternatives of the first element vary slowest. A group of a hundred
//! elements with ten alternatives each has 10^100 trials, so they are not enumerated. What is found here is the very same
//! trial that enumeration would find first, because
//!
//! * alternatives are chosen element by element, in the same order, and
//! * a choice is given up only if *no* trial that has it can succeed.
//!
//! The second is shown by a set of alternatives that could still be *kept*: an alternative is ruled out once something that
//! it requires is provided by no possible alternative of an earlier element (nor by itself), or something that it provides
//! is required by no possible alternative of a later one (nor by itself). Ruling out is repeated until nothing changes. In
//! any trial that has the choices made so far, what is left of it when it is [settled](super::trial::settle) is within that
//! set: by induction, the alternatives of what is left support each other and so are never ruled out. Hence an element
//! that may not be dropped and has no possible alternative fails all these trials. And when each element has one
//! alternative, the set is exactly what settling leaves.
//!
//! Elements that have no open name in common do not influence each other, so each such *component* is searched by itself;
//! the first trial of all is made of the first of each, for the order is lexicographic. A name is not open where a require
//! is met by an element that is certain to be kept, or a provide is used by one.
//!
//! One thing holds between components: a trial that leaves nobody fails. Nobody is left of a component only if each of its
//! elements is dropped, which is the last of its trials; so if that is the first success of every component, there is no
//! other.
//!
//! What is left is as hard as any puzzle, so the number of choices is limited: [`GaveUp`].

use std::collections::HashMap;

use super::trial::Candidate;

/// So many choices are tried in one group before it is given up. Beyond what real buildpacks need by orders of magnitude,
/// and answered in well under a second for a hundred elements with ten alternatives.
pub(super) const LIMIT: usize = 10_000;

/// No answer was found within [`LIMIT`] choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GaveUp;

/// The first alternatives, in the specification's order, with which a trial succeeds: one for each candidate.
/// `None` if no trial succeeds.
pub(super) fn first_success(candidates: &[Candidate]) -> Result<Option<Vec<usize>>, GaveUp> {
    Search::new(candidates).run()
}

/// One alternative of one element. Names are numbered.
struct Choice {
    /// The element's position.
    element: usize,
    /// Which of the element's alternatives it is.
    index: usize,
    provides: Vec<usize>,
    requires: Vec<usize>,
    /// Required, and not provided by itself.
    needs: Vec<usize>,
    /// Provided, and not required by itself.
    offers: Vec<usize>,
}

/// An element: where its choices are, and what has been decided.
struct Element {
    choices: std::ops::Range<usize>,
    optional: bool,
    /// The choice made for it, an index of [`Search::choices`].
    chosen: Option<usize>,
}

/// Who is certain to be kept and provides or requires a name.
#[derive(Clone, Copy, Default)]
struct Certain {
    first_provider: Option<usize>,
    last_requirer: Option<usize>,
}

/// A choice that is being tried.
struct Frame {
    element: usize,
    choice: usize,
    /// How much had been ruled out before.
    ruled_out: usize,
}

struct Search {
    elements: Vec<Element>,
    choices: Vec<Choice>,
    /// For each choice: whether it could still be kept.
    possible: Vec<bool>,
    /// Choices that were ruled out, in order, to be undone.
    ruled_out: Vec<usize>,
    /// For each name.
    certain: Vec<Certain>,
    /// For each name: a mark of the sweep in which it was last seen.
    seen: Vec<u64>,
    sweep: u64,
    /// How many choices may still be tried.
    budget: usize,
}

impl Search {
    fn new(candidates: &[Candidate]) -> Self {
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut elements = Vec::new();
        let mut choices = Vec::new();
        for (element, candidate) in candidates.iter().enumerate() {
            let first = choices.len();
            for (index, alternative) in candidate.alternatives.iter().enumerate() {
                let mut number = |name| {
                    let next = numbers.len();
                    *numbers.entry(name).or_insert(next)
                };
                let provides: Vec<_> =
                    alternative.provides.iter().map(|provide| number(provide.name.as_str())).collect();
                let requires: Vec<_> =
                    alternative.requires.iter().map(|require| number(require.name.as_str())).collect();
                let without = |names: &[usize], others: &[usize]| {
                    names.iter().copied().filter(|name| !others.contains(name)).collect()
                };
                let (needs, offers) = (without(&requires, &provides), without(&provides, &requires));
                choices.push(Choice { element, index, provides, requires, needs, offers });
            }
            elements.push(Element { choices: first..choices.len(), optional: candidate.optional, chosen: None });
        }
        Self {
            elements,
            possible: vec![true; choices.len()],
            choices,
            ruled_out: Vec::new(),
            certain: vec![Certain::default(); numbers.len()],
            seen: vec![0; numbers.len()],
            sweep: 0,
            budget: LIMIT,
        }
    }

    fn run(mut self) -> Result<Option<Vec<usize>>, GaveUp> {
        let all: Vec<usize> = (0..self.elements.len()).collect();
        if !self.narrow(&all) {
            return Ok(None);
        }
        self.find_certain();
        let components = self.components();
        let mut first = vec![0; all.len()];
        let mut anybody_left = false;
        for component in &components {
            let Some(found) = self.first_of(component)? else { return Ok(None) };
            anybody_left |= found.anybody_left;
            for (element, alternative) in component.iter().zip(found.alternatives) {
                first.get_mut(*element).into_iter().for_each(|slot| *slot = alternative);
            }
        }
        Ok(anybody_left.then_some(first))
    }

    /// Who is certain to be kept in any success: elements that may not be dropped and have one possible choice.
    fn find_certain(&mut self) {
        for (at, element) in self.elements.iter().enumerate() {
            let mut possible = element.choices.clone().filter(|choice| self.possible.get(*choice) == Some(&true));
            let (Some(choice), None) = (possible.next(), possible.next()) else { continue };
            if element.optional {
                continue;
            }
            let Some(choice) = self.choices.get(choice) else { continue };
            for name in &choice.provides {
                if let Some(certain) = self.certain.get_mut(*name) {
                    certain.first_provider = certain.first_provider.or(Some(at));
                }
            }
            for name in &choice.requires {
                if let Some(certain) = self.certain.get_mut(*name) {
                    certain.last_requirer = Some(at);
                }
            }
        }
    }

    /// Whether a need of an element is met for certain.
    fn surely_provided(&self, name: usize, element: usize) -> bool {
        self.certain.get(name).and_then(|certain| certain.first_provider).is_some_and(|provider| provider < element)
    }

    /// Whether an offer of an element is used for certain.
    fn surely_required(&self, name: usize, element: usize) -> bool {
        self.certain.get(name).and_then(|certain| certain.last_requirer).is_some_and(|requirer| requirer > element)
    }

    /// Groups of elements that have open names in common, each ascending.
    fn components(&self) -> Vec<Vec<usize>> {
        let possible =
            || self.choices.iter().zip(&self.possible).filter(|(_, possible)| **possible).map(|(choice, _)| choice);
        let mut open = vec![false; self.certain.len()];
        for choice in possible() {
            let needs = choice.needs.iter().filter(|name| !self.surely_provided(**name, choice.element));
            let offers = choice.offers.iter().filter(|name| !self.surely_required(**name, choice.element));
            for name in needs.chain(offers) {
                open.get_mut(*name).into_iter().for_each(|open| *open = true);
            }
        }
        // Each element points to one before it in its component, or to itself.
        let mut leader: Vec<usize> = (0..self.elements.len()).collect();
        fn find(leader: &[usize], mut at: usize) -> usize {
            while let Some(next) = leader.get(at).filter(|next| **next != at) {
                at = *next;
            }
            at
        }
        let mut touched: HashMap<usize, usize> = HashMap::new();
        for choice in possible() {
            for name in choice.provides.iter().chain(&choice.requires).filter(|name| open.get(**name) == Some(&true)) {
                let one = find(&leader, choice.element);
                let other = find(&leader, *touched.entry(*name).or_insert(choice.element));
                leader.get_mut(one.max(other)).into_iter().for_each(|leader| *leader = one.min(other));
            }
        }
        let mut components: Vec<Vec<usize>> = vec![Vec::new(); leader.len()];
        for element in 0..leader.len() {
            components.get_mut(find(&leader, element)).into_iter().for_each(|members| members.push(element));
        }
        components.retain(|members| !members.is_empty());
        components
    }

    /// Rules out choices of these elements until nothing changes; whether each still has a way.
    fn narrow(&mut self, elements: &[usize]) -> bool {
        loop {
            let before = self.ruled_out.len();
            self.rule_out(elements.iter().copied(), Direction::Needs);
            self.rule_out(elements.iter().rev().copied(), Direction::Offers);
            if self.ruled_out.len() == before {
                break;
            }
        }
        elements.iter().all(|element| self.elements.get(*element).is_some_and(|element| self.has_a_way(element)))
    }

    /// Whether an element can be kept, or dropped.
    fn has_a_way(&self, element: &Element) -> bool {
        let can_be_kept = |choice: usize| self.possible.get(choice) == Some(&true);
        let can_be_dropped = |choice: usize| element.optional && choice + 1 == element.choices.end;
        match element.chosen {
            Some(choice) => can_be_kept(choice) || can_be_dropped(choice),
            None => element.optional || element.choices.clone().any(can_be_kept),
        }
    }

    /// One sweep over elements: rules out what those before it in the sweep cannot support.
    fn rule_out(&mut self, elements: impl Iterator<Item = usize>, direction: Direction) {
        self.sweep += 1;
        let sweep = self.sweep;
        for at in elements {
            let Some(choices) = self.elements.get(at).map(|element| element.choices.clone()) else { continue };
            for number in choices.clone() {
                let Some(choice) = self.choices.get(number).filter(|_| self.possible.get(number) == Some(&true)) else {
                    continue;
                };
                let supported = |name: &usize| self.seen.get(*name) == Some(&sweep);
                let stands = match direction {
                    Direction::Needs => {
                        choice.needs.iter().all(|name| supported(name) || self.surely_provided(*name, at))
                    }
                    Direction::Offers => {
                        choice.offers.iter().all(|name| supported(name) || self.surely_required(*name, at))
                    }
                };
                if !stands {
                    self.forget(number);
                }
            }
            for number in choices {
                let Some(choice) = self.choices.get(number).filter(|_| self.possible.get(number) == Some(&true)) else {
                    continue;
                };
                let supports = match direction {
                    Direction::Needs => &choice.provides,
                    Direction::Offers => &choice.requires,
                };
                for name in supports {
                    if let Some(seen) = self.seen.get_mut(*name) {
                        *seen = sweep;
                    }
                }
            }
        }
    }

    fn forget(&mut self, choice: usize) {
        if let Some(possible) = self.possible.get_mut(choice) {
            *possible = false;
            self.ruled_out.push(choice);
        }
    }

    fn undo(&mut self, until: usize) {
        for choice in self.ruled_out.drain(until..) {
            if let Some(possible) = self.possible.get_mut(choice) {
                *possible = true;
            }
        }
    }

    /// The choices that an element has in the present state, in order.
    fn ways(&self, element: usize) -> Vec<usize> {
        let Some(element) = self.elements.get(element) else { return Vec::new() };
        let way = |choice: &usize| {
            self.possible.get(*choice) == Some(&true) || (element.optional && choice + 1 == element.choices.end)
        };
        element.choices.clone().filter(way).collect()
    }

    /// The first success of one component. Leaves everything as it was.
    fn first_of(&mut self, component: &[usize]) -> Result<Option<Found>, GaveUp> {
        let start = self.ruled_out.len();
        let mut frames: Vec<Frame> = Vec::new();
        let mut consistent = self.narrow(component);
        let found = loop {
            if consistent {
                let undecided = component.iter().find_map(|element| {
                    let ways = self.ways(*element);
                    let chosen = self.elements.get(*element).is_none_or(|element| element.chosen.is_some());
                    (!chosen && ways.len() > 1).then(|| (*element, ways.first().copied()))
                });
                let Some((element, Some(choice))) = undecided else {
                    break Some(self.found(component));
                };
                frames.push(Frame { element, choice, ruled_out: self.ruled_out.len() });
                consistent = self.choose(element, choice, component)?;
                continue;
            }
            // The next choice of the last element that has one left.
            let Some(frame) = frames.pop() else { break None };
            self.undo(frame.ruled_out);
            if let Some(element) = self.elements.get_mut(frame.element) {
                element.chosen = None;
            }
            if let Some(choice) = self.ways(frame.element).into_iter().find(|choice| *choice > frame.choice) {
                frames.push(Frame { choice, ..frame });
                consistent = self.choose(frame.element, choice, component)?;
            } else {
                consistent = false;
            }
        };
        for frame in frames {
            if let Some(element) = self.elements.get_mut(frame.element) {
                element.chosen = None;
            }
        }
        self.undo(start);
        Ok(found)
    }

    /// Decides an element; whether the component still has a way.
    fn choose(&mut self, at: usize, choice: usize, component: &[usize]) -> Result<bool, GaveUp> {
        self.budget = self.budget.checked_sub(1).ok_or(GaveUp)?;
        let Some(element) = self.elements.get_mut(at) else { return Ok(false) };
        element.chosen = Some(choice);
        for other in element.choices.clone().filter(|other| *other != choice) {
            if self.possible.get(other) == Some(&true) {
                self.forget(other);
            }
        }
        Ok(self.narrow(component))
    }

    /// The alternatives of a component in which every element has one way.
    fn found(&self, component: &[usize]) -> Found {
        let mut anybody_left = false;
        let alternative = |element: &usize| {
            let chosen = self.elements.get(*element).and_then(|element| element.chosen);
            let choice = chosen.or_else(|| self.ways(*element).first().copied())?;
            anybody_left |= self.possible.get(choice) == Some(&true);
            self.choices.get(choice).map(|choice| choice.index)
        };
        let alternatives = component.iter().map(alternative).map(Option::unwrap_or_default).collect();
        Found { alternatives, anybody_left }
    }
}

/// What a sweep looks at.
#[derive(Clone, Copy)]
enum Direction {
    /// From the first element to the last: what is required must have been provided.
    Needs,
    /// From the last to the first: what is provided must be required.
    Offers,
}

/// A success of one component.
struct Found {
    /// For each element of the component.
    alternatives: Vec<usize>,
    /// Whether not all of them are dropped.
    anybody_left: bool,
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use platform_spec::plan::{Alternative, DetectRequire, Provide};

    use super::super::trial::settle;
    use super::*;

    /// `optional` and alternatives: `+a` provides, `-a` requires; `|` between alternatives, a leading `?` for optional.
    fn candidate(text: &str) -> Candidate {
        let (optional, text) = text.strip_prefix('?').map_or((false, text), |rest| (true, rest));
        let alternatives = text.split('|').map(|alternative| {
            let names = |sign| alternative.split_whitespace().filter_map(move |word| word.strip_prefix(sign));
            Alternative {
                provides: names('+').map(|name| Provide { name: name.to_owned() }).collect(),
                requires: names('-')
                    .map(|name| DetectRequire { name: name.to_owned(), ..Default::default() })
                    .collect(),
            }
        });
        Candidate { optional, alternatives: alternatives.collect() }
    }

    fn group(texts: &[&str]) -> Vec<Candidate> {
        texts.iter().map(|text| candidate(text)).collect()
    }

    /// What the specification says: every trial in order, until one succeeds.
    fn enumerate(candidates: &[Candidate]) -> Option<Vec<usize>> {
        let mut chosen = vec![0; candidates.len()];
        loop {
            if settle(candidates, &chosen).kept.is_some() {
                return Some(chosen);
            }
            let at = (0..candidates.len()).rev().find(|at| chosen[*at] + 1 < candidates[*at].alternatives.len())?;
            chosen[at] += 1;
            chosen[at + 1..].fill(0);
        }
    }

    /// Numbers that are the same in every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) % limit
        }

        fn group(&mut self, elements: u64, alternatives: u64, names: u64, words: u64, optional: u64) -> Vec<Candidate> {
            let words = |random: &mut Self| {
                let count = random.below(words + 1);
                (0..count).map(|_| format!("n{}", random.below(names))).collect::<Vec<_>>()
            };
            (0..elements)
                .map(|_| Candidate {
                    optional: self.below(100) < optional,
                    alternatives: (0..=self.below(alternatives))
                        .map(|_| Alternative {
                            provides: words(self).into_iter().map(|name| Provide { name }).collect(),
                            requires: words(self)
                                .into_iter()
                                .map(|name| DetectRequire { name, ..Default::default() })
                                .collect(),
                        })
                        .collect(),
                })
                .collect()
        }
    }

    #[test]
    fn the_first_success_is_found() {
        let cases: &[(&[&str], Option<&[usize]>)] = &[
            (&[], None),
            (&["+a", "-a"], Some(&[0, 0])),
            (&["-a", "+a"], None),
            (&["-a +a"], Some(&[0])),
            (&["+a"], None),
            (&["?+a"], None),
            (&["?+a", ""], Some(&[0, 0])),
            (&["+a | +b", "-b"], Some(&[1, 0])),
            (&["+a | +b", "-b | -a"], Some(&[0, 1])),
            (&["?-x | -y | +z"], None),
            (&["?-x | ", "?-y | "], Some(&[1, 1])),
            (&["?+a", "?-b | -c | +d", "? | +e"], Some(&[0, 2, 0])),
            (&["?+a", "?-b | -c | +d", "?-x | +e"], None),
            (&["?+a | +b | +c", "?-x | -b | -y"], Some(&[1, 1])),
        ];
        for (texts, expected) in cases {
            let candidates = group(texts);
            assert_eq!(first_success(&candidates), Ok(expected.map(<[usize]>::to_vec)), "{texts:?}");
            assert_eq!(enumerate(&candidates), expected.map(<[usize]>::to_vec), "{texts:?}: enumerated");
        }
    }

    #[test]
    fn it_is_the_trial_that_enumeration_finds() {
        let mut random = Random(0x5eed);
        let (mut successes, mut late) = (0, 0);
        for round in 0..6000 {
            let (elements, alternatives) = (1 + random.below(6), 1 + random.below(4));
            let (names, words, optional) = (1 + random.below(6), 1 + random.below(3), random.below(100));
            let candidates = random.group(elements, alternatives, names, words, optional);
            let expected = enumerate(&candidates);
            successes += usize::from(expected.is_some());
            late += usize::from(expected.as_ref().is_some_and(|chosen| chosen.iter().any(|at| *at > 0)));
            assert_eq!(first_success(&candidates), Ok(expected), "round {round}: {candidates:?}");
        }
        assert!(
            successes > 1000 && late > 300,
            "the cases are too easy: {successes} successes, {late} not the first trial"
        );
    }

    /// A hundred elements, ten alternatives each.
    fn hundred(alternatives: impl Fn(usize, usize) -> String) -> Vec<Candidate> {
        (0..100)
            .map(|element| (0..10).map(|at| alternatives(element, at)).collect::<Vec<_>>().join("|"))
            .map(|text| candidate(&text))
            .collect()
    }

    #[test]
    fn large_groups_are_answered_at_once() {
        let last_fails =
            hundred(
                |element, at| {
                    if element == 99 { "-never".to_owned() } else { format!("+x{element}{at} -x{element}{at}") }
                },
            );
        let chain = hundred(|element, at| match (element, at) {
            (0, _) => format!("+c0-{at}"),
            (99, 9) => "-c98-9".to_owned(),
            (99, _) => "-nothing".to_owned(),
            _ => format!("-c{}-{at} +c{element}-{at}", element - 1),
        });
        // Only 9 at the end leads anywhere, and everybody must have the same number.
        let chain_success = vec![9; 100];
        let mut hub =
            hundred(
                |element, at| {
                    if element == 0 { "+node".to_owned() } else { format!("-node +y{element}{at} -y{element}{at}") }
                },
            );
        hub[1] = candidate("+a -node | +b -node");
        hub[99] = candidate("-a -b -node");
        let optional: Vec<_> = hundred(|element, at| format!("+z{element}{at} -never"))
            .into_iter()
            .map(|candidate| Candidate { optional: true, ..candidate })
            .collect();
        for (name, candidates, expected) in [
            ("last fails", last_fails, None),
            ("chain", chain, Some(chain_success)),
            ("two that exclude each other, with a hub between", hub, None),
            ("all optional, all failing", optional, None),
        ] {
            let start = Instant::now();
            assert_eq!(first_success(&candidates), Ok(expected), "{name}");
            assert!(start.elapsed() < Duration::from_secs(1), "{name}: {:?}", start.elapsed());
        }
    }

    /// One more pigeon than holes: each pigeon provides that it is in some hole, and each hole takes one of them at most.
    /// No rule sees that this cannot be, so it is searched.
    fn pigeons(holes: usize) -> Vec<Candidate> {
        let alternatives = |texts: Vec<String>| candidate(&texts.join("|"));
        let pigeons =
            (0..=holes).map(|pigeon| alternatives((0..holes).map(|hole| format!("+p{pigeon}h{hole}")).collect()));
        let holes = (0..holes).map(|hole| {
            alternatives((0..=holes).map(|pigeon| format!("-p{pigeon}h{hole}")).chain([String::new()]).collect())
        });
        pigeons.chain(holes).collect()
    }

    #[test]
    fn a_puzzle_is_given_up_in_time() {
        assert_eq!(first_success(&pigeons(4)), Ok(None), "a small one is answered");
        let start = Instant::now();
        assert_eq!(first_success(&pigeons(10)), Err(GaveUp));
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }
}

//! One trial of the build plan: one alternative of every element that passed, settled (buildpack.md, *Process*).
//!
//! An element whose alternative leaves something unmet fails the trial, or is dropped from it if it may be. Dropping one
//! can leave others unmet; what is left when that ends is the largest set in which every element's requires are provided
//! by itself or an earlier one, and its provides required by itself or a later one. That set does not depend on the order
//! of dropping, so names are looked at in the order in which they first appear: messages and entries are the same in
//! every run.

use std::collections::HashMap;

use platform_spec::plan::{Alternative, DetectPlan, DetectRequire};

/// An element that passed detection, with the alternatives of its build plan.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// Whether the group can do without it.
    pub(super) optional: bool,
    /// Its alternatives, in the order in which they are tried; at least one.
    pub(super) alternatives: Vec<Alternative>,
}

impl Candidate {
    /// From what `bin/detect` wrote: the top level is the first alternative, then those in `or`.
    pub(super) fn new(optional: bool, plan: DetectPlan) -> Self {
        let first = Alternative { provides: plan.provides, requires: plan.requires };
        Self { optional, alternatives: std::iter::once(first).chain(plan.or).collect() }
    }

    /// Whether it may be dropped from a trial with this alternative: so it is with an optional element's last one, for
    /// the others are tried before the group does without it.
    pub(super) fn droppable(&self, alternative: usize) -> bool {
        self.optional && alternative + 1 == self.alternatives.len()
    }
}

/// What an element leaves unmet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unmet {
    /// It requires what neither itself nor an earlier element provides.
    Requires,
    /// It provides what neither itself nor a later element requires.
    Provides,
}

/// An element that fails a trial, or is dropped from it, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Which candidate.
    pub(super) candidate: usize,
    /// What of it is unmet.
    pub(super) unmet: Unmet,
    /// The dependency's name.
    pub(super) name: String,
    /// Whether it was dropped; if not, the trial ended here.
    pub(super) dropped: bool,
}

/// How a trial went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trial {
    /// What happened, in order.
    pub(super) steps: Vec<Step>,
    /// The candidates that are left, ascending; `None` if the trial failed, which it also does if nobody is left.
    pub(super) kept: Option<Vec<usize>>,
}

/// One name that some element provides or requires. Elements are given by their position among the candidates.
#[derive(Debug, Default)]
pub(super) struct Dependency<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// Those who provide it before the last require.
    pub(super) providers: Vec<usize>,
    /// Its requires that a provide comes before, in order.
    pub(super) requires: Vec<&'a DetectRequire>,
    /// Where among all requires its first one was.
    first_required: usize,
    /// Those who provide it, but no require comes after.
    unused: Vec<usize>,
    /// Those who require it before anyone provides it.
    unprovided: Vec<usize>,
}

/// Settles one trial: `chosen` is the alternative of each candidate.
pub(super) fn settle(candidates: &[Candidate], chosen: &[usize]) -> Trial {
    let mut left: Vec<usize> = (0..candidates.len()).collect();
    let mut steps = Vec::new();
    loop {
        let before = left.len();
        let dependencies = dependencies(candidates, chosen, &left);
        let unprovided =
            dependencies.iter().flat_map(|of| of.unprovided.iter().map(|who| (*who, Unmet::Requires, of.name)));
        let unused = dependencies.iter().flat_map(|of| of.unused.iter().map(|who| (*who, Unmet::Provides, of.name)));
        for (candidate, unmet, name) in unprovided.chain(unused) {
            let alternative = chosen.get(candidate).copied().unwrap_or_default();
            let dropped = candidates.get(candidate).is_some_and(|of| of.droppable(alternative));
            steps.push(Step { candidate, unmet, name: name.to_owned(), dropped });
            if !dropped {
                return Trial { steps, kept: None };
            }
            left.retain(|other| *other != candidate);
        }
        if left.len() == before {
            return Trial { steps, kept: (!left.is_empty()).then_some(left) };
        }
    }
}

/// What the candidates that are `left` provide and require, by name, in order of first appearance.
fn dependencies<'a>(candidates: &'a [Candidate], chosen: &[usize], left: &[usize]) -> Vec<Dependency<'a>> {
    let mut known: HashMap<&str, usize> = HashMap::new();
    let mut found: Vec<Dependency> = Vec::new();
    let mut requires = 0;
    for (who, alternative) in left.iter().filter_map(|who| Some((*who, alternative(candidates, chosen, *who)?))) {
        let mut named = |name: &'a str, change: &mut dyn FnMut(&mut Dependency<'a>)| {
            let at = *known.entry(name).or_insert(found.len());
            if at == found.len() {
                found.push(Dependency { name, ..Dependency::default() });
            }
            found.get_mut(at).into_iter().for_each(change);
        };
        for provide in &alternative.provides {
            named(&provide.name, &mut |dependency| dependency.unused.push(who));
        }
        for require in &alternative.requires {
            requires += 1;
            named(&require.name, &mut |dependency| {
                dependency.providers.append(&mut dependency.unused);
                if dependency.providers.is_empty() {
                    dependency.unprovided.push(who);
                } else {
                    if dependency.requires.is_empty() {
                        dependency.first_required = requires;
                    }
                    dependency.requires.push(require);
                }
            });
        }
    }
    found
}

fn alternative<'a>(candidates: &'a [Candidate], chosen: &[usize], who: usize) -> Option<&'a Alternative> {
    candidates.get(who)?.alternatives.get(*chosen.get(who)?)
}

/// What the candidates that a trial kept are to provide, in the order in which it is first required.
pub(super) fn entries<'a>(candidates: &'a [Candidate], chosen: &[usize], kept: &[usize]) -> Vec<Dependency<'a>> {
    let mut entries = dependencies(candidates, chosen, kept);
    entries.sort_by_key(|dependency| dependency.first_required);
    entries
}

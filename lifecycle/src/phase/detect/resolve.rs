//! Whether a group passes: the results of its members, then the build plan (buildpack.md, *Process*).

use std::sync::Arc;

use log::Level;
use platform_spec::group::{Group, GroupElement};
use platform_spec::plan::{Plan, PlanEntry, Provider, Require};

use super::executable::{Outcome, Run};
use super::groups::Member;
use super::search::{GaveUp, first_success};
use super::transcript::Transcript;
use super::trial::{Candidate, Dependency, Trial, Unmet, entries, settle};
use crate::buildpack::{Kind, Module};

/// So many trials of one group are told in full.
const MOST_TOLD: usize = 100;

/// Why a group does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupFailure {
    /// A member that it cannot do without did not pass, nobody is left, or no trial of the plan succeeds.
    Failed,
    /// No trial was found to succeed, but not all could be ruled out.
    GaveUp,
}

/// Decides a group from the results of its members.
pub(super) fn resolve(
    group: &[Member],
    results: &[Arc<Run>],
    transcript: &mut Transcript,
) -> Result<(Group, Plan), GroupFailure> {
    tell_outputs(group, results, transcript);
    let (modules, candidates) = passing(group, results, transcript)?;
    let success = first_success(&candidates).map_err(|GaveUp| GroupFailure::GaveUp);
    tell_trials(&modules, &candidates, success.as_ref().ok().and_then(Option::as_deref), transcript);
    let chosen = success?.ok_or(GroupFailure::Failed)?;
    let kept = settle(&candidates, &chosen).kept.ok_or(GroupFailure::Failed)?;
    let participating: Vec<_> = kept.iter().filter_map(|at| modules.get(*at).copied()).collect();
    tell_participants(&participating, group.len(), transcript);
    let of =
        |kind| participating.iter().filter(move |module| module.kind == kind).map(|module| element(module)).collect();
    let group = Group { group: of(Kind::Buildpack), group_extensions: of(Kind::Extension), build_arch: String::new() };
    let entries = entries(&candidates, &chosen, &kept).into_iter().map(|dependency| entry(dependency, &modules));
    Ok((group, Plan { entries: entries.collect() }))
}

fn tell_outputs(group: &[Member], results: &[Arc<Run>], transcript: &mut Transcript) {
    for (member, run) in group.iter().zip(results) {
        let level = if matches!(run.outcome, Outcome::Error(_)) { Level::Info } else { Level::Debug };
        if !run.output.is_empty() {
            transcript.line(level, format!("======== Output: {} ========", member.module));
            transcript.output(level, run.clone());
        }
        if let Some(error) = &run.error {
            transcript.line(level, format!("======== Error: {} ========", member.module));
            transcript.line(level, error);
        }
    }
}

/// The members that passed, with what they say of the plan; or why the group cannot pass whatever they say.
fn passing<'a>(
    group: &'a [Member],
    results: &[Arc<Run>],
    transcript: &mut Transcript,
) -> Result<(Vec<&'a Module>, Vec<Candidate>), GroupFailure> {
    transcript.debug("======== Results ========");
    let (mut modules, mut candidates) = (Vec::new(), Vec::new());
    let mut can_pass = true;
    for (Member { module, optional, .. }, run) in group.iter().zip(results) {
        match &run.outcome {
            Outcome::Pass(plan) => {
                transcript.debug(format!("pass: {module}"));
                modules.push(&**module);
                candidates.push(Candidate::new(*optional, plan.clone()));
                continue;
            }
            Outcome::Fail if *optional => transcript.debug(format!("skip: {module}")),
            Outcome::Fail => transcript.debug(format!("fail: {module}")),
            Outcome::Error(None) => transcript.info(format!("err:  {module}")),
            Outcome::Error(Some(code)) => transcript.info(format!("err:  {module} ({code})")),
        }
        can_pass &= optional;
    }
    if !can_pass {
        return Err(GroupFailure::Failed);
    }
    if !modules.iter().any(|module| module.kind == Kind::Buildpack) {
        transcript.debug("fail: no viable buildpacks in group");
        return Err(GroupFailure::Failed);
    }
    Ok((modules, candidates))
}

/// Tells the trials in the order of the specification up to the one that succeeds, and no more than a reader can use.
fn tell_trials(modules: &[&Module], candidates: &[Candidate], success: Option<&[usize]>, transcript: &mut Transcript) {
    let mut chosen = vec![0; candidates.len()];
    for number in 1..=MOST_TOLD {
        transcript.debug(format!("Resolving plan... (try #{number})"));
        tell_trial(modules, &settle(candidates, &chosen), transcript);
        if success == Some(&chosen) || !next(&mut chosen, candidates) {
            return;
        }
    }
    transcript.debug(match success {
        Some(_) => "Further tries are not shown; a later one succeeded.",
        None => "Further tries are not shown; none of them succeeded.",
    });
    if let Some(success) = success {
        tell_trial(modules, &settle(candidates, success), transcript);
    }
}

/// The next alternatives in the specification's order: those of the first element vary slowest.
fn next(chosen: &mut [usize], candidates: &[Candidate]) -> bool {
    for (at, candidate) in chosen.iter_mut().zip(candidates).rev() {
        if *at + 1 < candidate.alternatives.len() {
            *at += 1;
            return true;
        }
        *at = 0;
    }
    false
}

fn tell_trial(modules: &[&Module], trial: &Trial, transcript: &mut Transcript) {
    for step in &trial.steps {
        let Some(module) = modules.get(step.candidate) else { continue };
        let what = if step.dropped { "skip" } else { "fail" };
        let unmet = match step.unmet {
            Unmet::Requires => "requires",
            Unmet::Provides => "provides unused",
        };
        transcript.debug(format!("{what}: {module} {unmet} {}", step.name));
    }
    if trial.kept.is_none() && trial.steps.iter().all(|step| step.dropped) {
        transcript.debug("fail: no viable buildpacks in group");
    }
}

/// The lines that every user sees.
fn tell_participants(participating: &[&Module], all: usize, transcript: &mut Transcript) {
    if participating.len() != all {
        transcript.info(format!("{} of {all} buildpacks participating", participating.len()));
    }
    let width = participating.iter().map(|module| module.id.as_str().len()).max().unwrap_or_default();
    for module in participating {
        transcript.info(format!("{:width$} {}", module.id, module.version));
    }
}

fn element(module: &Module) -> GroupElement {
    let Module { id, version, api, homepage, .. } = module;
    let (id, version, homepage) = (id.clone(), version.clone(), homepage.clone());
    GroupElement { id, version, api: api.to_string(), homepage, optional: false }
}

fn entry(dependency: Dependency, modules: &[&Module]) -> PlanEntry {
    let provider = |module: &&Module| Provider {
        id: module.id.clone(),
        version: module.version.clone(),
        extension: module.kind == Kind::Extension,
    };
    let require = |require: &platform_spec::plan::DetectRequire| Require {
        name: require.name.clone(),
        metadata: require.metadata.clone(),
    };
    PlanEntry {
        providers: dependency.providers.iter().filter_map(|at| modules.get(*at)).map(provider).collect(),
        requires: dependency.requires.into_iter().map(require).collect(),
    }
}

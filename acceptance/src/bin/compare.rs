//! Random builds through the lifecycle under test (`LIFECYCLE_DIR`) and through another (`LIFECYCLE_REFERENCE_DIR`), each
//! alone and their phases mixed: `compare [first seed] [how many]`. Prints every difference, and how many builds have none.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use acceptance::Lifecycle;
use acceptance::random::{Case, Observed, World, case};

const OURS: usize = 0;
const THEIRS: usize = 1;

fn main() -> ExitCode {
    let Some(reference) = std::env::var_os("LIFECYCLE_REFERENCE_DIR").map(PathBuf::from) else {
        say(
            "LIFECYCLE_REFERENCE_DIR is unset: it names a directory with another lifecycle's executables to compare with",
        );
        return ExitCode::from(2);
    };
    let mut arguments = std::env::args().skip(1).map(|word| word.parse().expect("a number"));
    let first: u64 = arguments.next().unwrap_or(0);
    let count: u64 = arguments.next().unwrap_or(200);
    let ours = Lifecycle::under_test();
    let next = AtomicUsize::new(0);
    let totals = Mutex::new(Totals::default());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let world = World::new(&[ours.directory(), &reference]);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed) as u64;
                    if number >= count {
                        break;
                    }
                    let case = case(first + number);
                    let result = compare(&world, &case);
                    let mut totals = totals.lock().expect("not poisoned");
                    totals.add(&result);
                    if !result.text.is_empty() {
                        say(&result.text);
                    }
                }
            });
        }
    });
    let totals = totals.into_inner().expect("not poisoned");
    say(&format!(
        "{} builds: {} equal in all facts, {} but for explained ones, {} differ; {} built; mixed phases: {} of {} built what \
         each alone did\n{}",
        totals.all,
        totals.equal,
        totals.explained,
        totals.all - totals.equal - totals.explained,
        totals.built,
        totals.mixed_equal,
        totals.mixed,
        totals.by_fact.iter().map(|(fact, count)| format!("  {count:4} × {fact}\n")).collect::<String>(),
    ));
    if totals.equal + totals.explained == totals.all && totals.mixed_equal == totals.mixed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[derive(Default)]
struct Totals {
    all: usize,
    equal: usize,
    explained: usize,
    built: usize,
    mixed: usize,
    mixed_equal: usize,
    by_fact: std::collections::BTreeMap<String, usize>,
}

struct Compared {
    text: String,
    facts: Vec<String>,
    explanations: Vec<&'static str>,
    built: bool,
    mixed: Vec<bool>,
}

impl Totals {
    fn add(&mut self, result: &Compared) {
        self.all += 1;
        self.equal += usize::from(result.facts.is_empty() && result.explanations.is_empty());
        self.explained += usize::from(result.facts.is_empty() && !result.explanations.is_empty());
        self.built += usize::from(result.built);
        self.mixed += result.mixed.len();
        self.mixed_equal += result.mixed.iter().filter(|equal| **equal).count();
        for fact in &result.facts {
            *self.by_fact.entry(fact.clone()).or_default() += 1;
        }
        for why in &result.explanations {
            *self.by_fact.entry(format!("explained: {why}")).or_default() += 1;
        }
    }
}

fn compare(world: &World, case: &Case) -> Compared {
    let seed = case.seed;
    let ours = world.build(case, &format!("ours-{seed}"), |_, _| OURS);
    let theirs = world.build(case, &format!("theirs-{seed}"), |_, _| THEIRS);
    let mut text = String::new();
    let mut facts = Vec::new();
    let mut explanations = Vec::new();
    describe(&mut text, (&mut facts, &mut explanations), case, "ours against theirs", &ours, &theirs);
    explanations.sort_unstable();
    explanations.dedup();
    let exports = |what: &str| what.contains("exporter") || what.contains("creator");
    let built = ours.facts.iter().any(|(what, seen)| exports(what) && seen == "0");
    // Phases of one build by turns, and whole builds by turns.
    let by_phase = |turn: usize| {
        move |round: usize, phase: &str| {
            let phases = ["analyzer", "detector", "restorer", "builder", "exporter"];
            (round + turn + phases.iter().position(|name| *name == phase).unwrap_or(0)) % 2
        }
    };
    let mut mixed = Vec::new();
    for turn in 0..2 {
        let name = format!("mixed-{turn}-{seed}");
        let seen = world.build(case, &name, by_phase(turn));
        // A fact may be as ours or as theirs; whether they agree was seen above.
        let ours_or_theirs = |what: &str, here: &str, as_ours: &str| {
            let here = rename(here, &name);
            let theirs = theirs.facts.get(what).map(|text| rename(text, &format!("theirs-{seed}")));
            let like = |other: &str| here == other || explained(case, what, &here, other, &ours).is_some();
            like(&rename(as_ours, &format!("ours-{seed}"))) || theirs.is_some_and(|theirs| like(&theirs))
        };
        let differences = seen.differences(&ours);
        let other: Vec<&str> = differences
            .iter()
            .filter(|(what, here, ours)| !ours_or_theirs(what, here, ours))
            .map(|(what, ..)| *what)
            .collect();
        if !other.is_empty() {
            text +=
                &format!("seed {seed} (Platform API {}): mixed {turn}: neither ours nor theirs: {other:?}\n", case.api);
        }
        mixed.push(other.is_empty());
    }
    Compared { text, facts, explanations, built, mixed }
}

/// The image's own name is in some facts.
fn rename(text: &str, name: &str) -> String {
    text.replace(name, "IMAGE")
}

/// Differences that `platform-spec/divergences.md` has a row for.
fn explained(case: &Case, fact: &str, here: &str, there: &str, ours: &Observed) -> Option<&'static str> {
    let failed = ours.facts.iter().filter(|(what, seen)| what.contains("exit status") && *seen != "0");
    let failed: HashSet<_> = failed.map(|(what, _)| what.split(' ').next().unwrap_or_default()).collect();
    let round = fact.split(' ').next().unwrap_or_default();
    if let Some(first) = failed.iter().min() {
        if case.parallel && (round > *first || (round == *first && fact.contains(" cache "))) {
            return Some("whether the cache is written by a parallel export that fails is a race in the reference");
        }
        let without_own = |text: &str| {
            let others = text.lines().filter(|line| !line.contains(" sbom/launch/buildpacksio_lifecycle"));
            others.map(str::to_owned).collect::<Vec<_>>()
        };
        if failed.contains(round) && fact.ends_with("layers directory") && without_own(here) == without_own(there) {
            return Some("an export that fails has not copied the launcher's SBOM files before");
        }
    }
    let set = |text: &str| text.lines().map(|line| line.trim_end_matches(',').to_owned()).collect::<HashSet<_>>();
    if fact.ends_with("cache layers") && set(here) == set(there) {
        return Some("a layer that a cache image reuses is there once, not twice");
    }
    if whole_numbers(here) == whole_numbers(there) {
        return Some("whole numbers are restored as integers, not as floats");
    }
    None
}

/// Writes each whole float as an integer, and takes out the digests of TOML files that may have some.
fn whole_numbers(text: &str) -> String {
    let is_number = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-' | '_');
    let mut normal = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        let (token, after) = from.split_at(from.find(|c| !is_number(c)).unwrap_or(from.len()));
        normal += before;
        match token.parse::<f64>() {
            Ok(value) if value.fract() == 0.0 && value.abs() < 1e16 => normal += &format!("{value}"),
            Ok(_) | Err(_) => normal += token,
        }
        rest = after;
    }
    normal += rest;
    let lines = normal.lines().map(|line| match line.split_once(".toml ") {
        Some((path, _)) => path,
        None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn describe(
    text: &mut String,
    (facts, explanations): (&mut Vec<String>, &mut Vec<&'static str>),
    case: &Case,
    what: &str,
    ours: &Observed,
    theirs: &Observed,
) {
    let seed = case.seed;
    for (fact, here, there) in ours.differences(theirs) {
        let (here, there) = (rename(here, &format!("ours-{seed}")), rename(there, &format!("theirs-{seed}")));
        if here == there {
            continue;
        }
        if let Some(why) = explained(case, fact, &here, &there, ours) {
            explanations.push(why);
            continue;
        }
        facts.push(fact.split_once(' ').map_or(fact, |(_, fact)| fact).to_owned());
        *text += &format!("== seed {seed} (Platform API {}, {what}): {fact}\n{}", case.api, lines(&here, &there));
    }
    let all = std::env::var_os("COMPARE_PRINTED").is_some();
    if all || facts.iter().any(|fact| fact.contains("exit status")) {
        for (name, observed) in [("ours", ours), ("theirs", theirs)] {
            for (what, printed) in &observed.printed {
                let tail: Vec<&str> = printed.lines().rev().take(if all { 200 } else { 4 }).collect();
                *text += &format!("   {name} printed in {what}, last line first: {tail:#?}\n");
            }
        }
    }
}

/// The lines in which two texts differ.
fn lines(here: &str, there: &str) -> String {
    let mut text = String::new();
    let (here, there): (Vec<&str>, Vec<&str>) = (here.lines().collect(), there.lines().collect());
    let shown = |lines: &[&str], others: &[&str], sign: char| {
        lines
            .iter()
            .filter(|line| !others.contains(line))
            .take(12)
            .map(|line| format!("   {sign} {line}\n"))
            .collect::<String>()
    };
    text += &shown(&here, &there, '+');
    text += &shown(&there, &here, '-');
    if text.is_empty() {
        text += "   (the same lines in another order)\n";
    }
    text
}

#[expect(clippy::print_stdout, reason = "a program for people")]
fn say(text: &str) {
    println!("{text}");
}

//! The groups of an order, one after another, without composite buildpacks (buildpack.md, *Order Resolution*).
//!
//! Entries are looked at from left to right. An entry whose id is already in the group is left out; a composite buildpack
//! is replaced by the groups of its order in turn, each followed by the rest of the group; an optional one after that by
//! nothing. The extensions of an order stand in front of every group as if they were such an optional composite. The
//! groups come lazily: one that is never reached is never read. Composites in composites make the same group again and
//! again: it comes once, for it would fail again.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use log::debug;
use platform_spec::name::{BuildpackId, BuildpackVersion};
use platform_spec::order::{OrderElement, OrderGroup};
use platform_spec::target::Target;
use thiserror::Error;

use crate::buildpack::{
    self, FindError, Kind, Module, TargetMismatch, check_build_arch, check_target, includes_exec_env,
};
use crate::target::BuildTarget;

/// So many groups are tried. Composites in composites multiply.
const MOST_GROUPS: usize = 10_000;

/// So many are made, with those that were there before.
const MOST_MADE: usize = 100_000;

/// Composites may be nested so deep.
const DEEPEST: usize = 1000;

/// A buildpack or extension of a group, with what is known of it before its `bin/detect` runs.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Itself.
    pub(super) module: Arc<Module>,
    /// Whether the group can do without it.
    pub(super) optional: bool,
    /// Why it does not support the target, if it does not.
    pub(super) mismatch: Option<Rc<TargetMismatch>>,
}

/// Why the groups of an order cannot be told.
#[derive(Debug, Error)]
pub enum OrderError {
    /// An element cannot be used.
    #[error(transparent)]
    Find(#[from] FindError),
    /// A composite buildpack is part of itself.
    #[error("resolve order: composite buildpack '{0}' contains itself")]
    Cycle(String),
    /// Composite buildpacks are nested too deep.
    #[error("resolve order: composite buildpacks are nested more than {DEEPEST} deep, at '{0}'")]
    TooDeep(String),
    /// There are too many groups.
    #[error("resolve order: gave up after more than {MOST_GROUPS} groups, none of which passed")]
    TooMany,
}

/// What decides whether a module is in a group at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Selection<'a> {
    /// The target that modules must support; none before the Platform API that has targets.
    pub(super) target: Option<&'a Target>,
    /// The two machines of the build, if a target was asked for.
    pub(super) asked: Option<&'a BuildTarget>,
    /// The execution environment; none before the Platform API that has them.
    pub(super) exec_env: Option<&'a str>,
}

/// The modules on disk, each read once.
pub(super) struct Modules<'a> {
    buildpacks: &'a Path,
    extensions: &'a Path,
    found: HashMap<(Kind, BuildpackId, BuildpackVersion), Arc<Module>>,
}

impl<'a> Modules<'a> {
    pub(super) fn new(buildpacks: &'a Path, extensions: &'a Path) -> Self {
        Self { buildpacks, extensions, found: HashMap::new() }
    }

    /// Finds the module that an entry names.
    pub(super) fn find(&mut self, kind: Kind, entry: &OrderElement) -> Result<Arc<Module>, FindError> {
        let key = (kind, entry.id.clone(), entry.version.clone());
        if let Some(module) = self.found.get(&key) {
            return Ok(module.clone());
        }
        let dir = match kind {
            Kind::Buildpack => self.buildpacks,
            Kind::Extension => self.extensions,
        };
        let module = Arc::new(buildpack::find(kind, dir, &entry.id, &entry.version)?);
        self.found.insert(key, module.clone());
        Ok(module)
    }
}

/// The groups, lazily.
pub(super) struct Groups<'a> {
    modules: Modules<'a>,
    selection: Selection<'a>,
    /// What is still to be tried, the next at the end.
    stack: Vec<State>,
    /// The groups that came: where each member's module is in memory, which is one place a module, and whether it is
    /// optional.
    told: HashSet<Vec<(*const Module, bool)>>,
    made: usize,
}

/// A group in the making.
struct State {
    members: Vec<Member>,
    left: Option<Rc<Left>>,
}

/// What is left of a list of entries, and what comes after it.
struct Left {
    list: Rc<List>,
    from: usize,
    then: Option<Rc<Left>>,
}

struct List {
    entries: Vec<Entry>,
    /// The composites that it is in.
    within: Option<Rc<Within>>,
}

enum Entry {
    Module(Kind, OrderElement),
    /// All extensions of the order.
    Extensions(Rc<Vec<OrderGroup>>),
}

struct Within {
    id: BuildpackId,
    version: BuildpackVersion,
    above: Option<Rc<Within>>,
    depth: usize,
}

impl<'a> Groups<'a> {
    pub(super) fn new(
        modules: Modules<'a>,
        selection: Selection<'a>,
        order: Vec<OrderGroup>,
        extensions: Vec<OrderGroup>,
    ) -> Self {
        let extensions = (!extensions.is_empty()).then(|| Rc::new(extensions));
        let group = |group: OrderGroup| {
            let in_front = extensions.clone().map(Entry::Extensions).into_iter();
            let entries = group.group.into_iter().map(|element| Entry::Module(Kind::Buildpack, element));
            let list = Rc::new(List { entries: in_front.chain(entries).collect(), within: None });
            State { members: Vec::new(), left: Left::of(list, 0, None) }
        };
        let stack = order.into_iter().rev().map(group).collect();
        Self { modules, selection, stack, told: HashSet::new(), made: 0 }
    }

    fn next_group(&mut self) -> Result<Option<Vec<Member>>, OrderError> {
        while let Some(State { mut members, mut left }) = self.stack.pop() {
            loop {
                let Some(here) = left else {
                    self.made += 1;
                    let key = members.iter().map(|member| (Arc::as_ptr(&member.module), member.optional)).collect();
                    let is_new = self.told.insert(key);
                    if self.told.len() > MOST_GROUPS || self.made > MOST_MADE {
                        return Err(OrderError::TooMany);
                    }
                    if is_new {
                        return Ok(Some(members));
                    }
                    break;
                };
                let rest = Left::of(here.list.clone(), here.from + 1, here.then.clone());
                let (kind, element) = match here.list.entries.get(here.from) {
                    Some(Entry::Module(kind, element)) => (*kind, element),
                    Some(Entry::Extensions(order)) => {
                        self.branch(order, Kind::Extension, true, None, members, rest);
                        break;
                    }
                    None => {
                        left = rest;
                        continue;
                    }
                };
                let known = members.iter().any(|member| member.module.kind == kind && member.module.id == element.id);
                if known || !self.is_for_this_environment(&element.full_name(), &element.exec_env) {
                    left = rest;
                    continue;
                }
                let module = self.modules.find(kind, element)?;
                if module.api.has_exec_env() && !self.is_for_this_environment(&module.to_string(), &module.exec_env) {
                    left = rest;
                    continue;
                }
                if module.is_composite() {
                    let within = Within::another(here.list.within.as_ref(), &module)?;
                    self.branch(&module.order, Kind::Buildpack, element.optional, Some(within), members, rest);
                    break;
                }
                let checked = self.selection.target.map(|target| self.check(&module, target));
                members.push(Member {
                    optional: element.optional || kind == Kind::Extension,
                    mismatch: checked.and_then(Result::err).map(Rc::new),
                    module,
                });
                left = rest;
            }
        }
        Ok(None)
    }

    /// Whether a module can take part in a build for the target.
    fn check(&self, module: &Module, target: &Target) -> Result<(), TargetMismatch> {
        let checked = check_target(module.kind, &module.targets, target);
        let Some(asked) = self.selection.asked else { return checked };
        checked.map_err(|mismatch| mismatch.explain(&module.to_string(), &module.targets, target))?;
        match module.kind {
            Kind::Buildpack if asked.is_cross() => {
                check_build_arch(&module.to_string(), &module.targets, target, asked.build())
            }
            // What extensions generate is applied elsewhere.
            Kind::Buildpack | Kind::Extension => Ok(()),
        }
    }

    /// Continues a group in several ways: with each group of an order in front of the rest, then without any of them if
    /// they are optional.
    fn branch(
        &mut self,
        order: &[OrderGroup],
        kind: Kind,
        optional: bool,
        within: Option<Rc<Within>>,
        members: Vec<Member>,
        rest: Option<Rc<Left>>,
    ) {
        let first = self.stack.len();
        for group in order {
            let entries = group.group.iter().map(|element| Entry::Module(kind, element.clone())).collect();
            let list = Rc::new(List { entries, within: within.clone() });
            self.stack.push(State { members: members.clone(), left: Left::of(list, 0, rest.clone()) });
        }
        if optional {
            self.stack.push(State { members, left: rest });
        }
        self.stack.get_mut(first..).into_iter().for_each(<[State]>::reverse);
    }

    fn is_for_this_environment(&self, name: &str, supported: &[String]) -> bool {
        let Some(current) = self.selection.exec_env.filter(|current| !current.is_empty()) else { return true };
        let included = includes_exec_env(supported, current);
        if !included {
            debug!(
                "Skipping {name} due to execution environment mismatch; current: {current}, buildpack supports: [{}]",
                supported.join(" ")
            );
        }
        included
    }
}

impl Iterator for Groups<'_> {
    type Item = Result<Vec<Member>, OrderError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_group().transpose()
    }
}

impl Left {
    /// Nothing where there is nothing left, so that what is done with does not pile up.
    fn of(list: Rc<List>, from: usize, then: Option<Rc<Self>>) -> Option<Rc<Self>> {
        if from < list.entries.len() { Some(Rc::new(Self { list, from, then })) } else { then }
    }
}

impl Within {
    fn another(above: Option<&Rc<Self>>, module: &Module) -> Result<Rc<Self>, OrderError> {
        let mut outer = above;
        while let Some(composite) = outer {
            if composite.id == module.id && composite.version == module.version {
                return Err(OrderError::Cycle(module.to_string()));
            }
            outer = composite.above.as_ref();
        }
        let depth = above.map_or(0, |above| above.depth) + 1;
        if depth > DEEPEST {
            return Err(OrderError::TooDeep(module.to_string()));
        }
        let (id, version) = (module.id.clone(), module.version.clone());
        Ok(Rc::new(Self { id, version, above: above.cloned(), depth }))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Writes a descriptor: an API, a further line, and a line of its own table.
    fn describe(dir: &Path, kind: Kind, name: &str, [api, line, own]: [&str; 3]) {
        let (id, version) = name.split_once('@').expect("id@version");
        let root = dir.join(kind.to_string()).join(id.replace('/', "_")).join(version);
        fs::create_dir_all(&root).expect("made");
        let text = format!("api = \"{api}\"\n{line}\n[{kind}]\nid = \"{id}\"\nversion = \"{version}\"\n{own}\n");
        fs::write(root.join(kind.descriptor()), text).expect("written");
    }

    fn module(dir: &Path, kind: Kind, name: &str, line: &str) {
        describe(dir, kind, name, ["0.10", line, ""]);
    }

    fn order(text: &str) -> Vec<OrderGroup> {
        let groups = text.split(';').map(|group| OrderGroup {
            group: group
                .split_whitespace()
                .map(|name| {
                    let (name, exec_env) = name.split_once('%').map_or((name, ""), |(name, exec_env)| (name, exec_env));
                    let (name, optional) = name.strip_prefix('?').map_or((name, false), |name| (name, true));
                    let (id, version) = name.split_once('@').unwrap_or((name, "1"));
                    OrderElement {
                        id: BuildpackId::new(id).expect("an id"),
                        version: BuildpackVersion::new(version).expect("a version"),
                        optional,
                        exec_env: exec_env.split_terminator(',').map(str::to_owned).collect(),
                    }
                })
                .collect(),
        });
        groups.collect()
    }

    /// The descriptor of a composite buildpack.
    fn composite(groups: &str) -> String {
        let groups: Vec<_> = order(groups)
            .iter()
            .map(|group| {
                let elements = group.group.iter().map(|element| {
                    let OrderElement { id, version, optional, .. } = element;
                    format!("{{id = \"{id}\", version = \"{version}\", optional = {optional}}}")
                });
                format!("{{group = [{}]}}", elements.collect::<Vec<_>>().join(", "))
            })
            .collect();
        format!("order = [{}]", groups.join(", "))
    }

    /// `<id>@<version>` of each group, `?` in front of what is optional, `!` of what does not match.
    fn groups(dir: &Path, selection: Selection, groups: &str, extensions: &str) -> Result<Vec<String>, OrderError> {
        let (buildpack_dir, extension_dir) = (dir.join("buildpack"), dir.join("extension"));
        let extensions = if extensions.is_empty() { Vec::new() } else { order(extensions) };
        let modules = Modules::new(&buildpack_dir, &extension_dir);
        let groups = Groups::new(modules, selection, order(groups), extensions);
        let shown = |member: &Member| {
            let optional = if member.optional { "?" } else { "" };
            let mismatch = if member.mismatch.is_some() { "!" } else { "" };
            let kind = if member.module.kind == Kind::Extension { "ext:" } else { "" };
            format!("{optional}{mismatch}{kind}{}", member.module)
        };
        groups.map(|group| Ok(group?.iter().map(shown).collect::<Vec<_>>().join(" "))).collect()
    }

    const ANYTHING: Selection = Selection { target: None, asked: None, exec_env: None };

    #[test]
    fn composites_are_expanded_from_left_to_right() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        for name in ["a@1", "a@2", "b@1", "c@1", "d@1", "e@1", "ns/f@1"] {
            module(dir, Kind::Buildpack, name, "");
        }
        module(dir, Kind::Buildpack, "ab@1", &composite("a ?b"));
        module(dir, Kind::Buildpack, "a-or-b@1", &composite("a; b"));
        module(dir, Kind::Buildpack, "c-or-d@1", &composite("c; d"));
        module(dir, Kind::Buildpack, "nested@1", &composite("a-or-b c-or-d; ?a-or-b e"));
        module(dir, Kind::Buildpack, "empty@1", &composite(""));
        for name in ["x@1", "y@1", "a@1"] {
            module(dir, Kind::Extension, name, "");
        }
        let cases: &[(&str, &str, &[&str])] = &[
            ("a ?b; ns/f", "", &["a@1 ?b@1", "ns/f@1"]),
            ("a a@2 b", "", &["a@1 b@1"]),
            ("e ab c", "", &["e@1 a@1 ?b@1 c@1"]),
            ("e a-or-b c", "", &["e@1 a@1 c@1", "e@1 b@1 c@1"]),
            ("e ?a-or-b c", "", &["e@1 a@1 c@1", "e@1 b@1 c@1", "e@1 c@1"]),
            ("a-or-b c-or-d", "", &["a@1 c@1", "a@1 d@1", "b@1 c@1", "b@1 d@1"]),
            ("b a-or-b", "", &["b@1 a@1", "b@1"]),
            (
                "nested d",
                "",
                &["a@1 c@1 d@1", "a@1 d@1", "b@1 c@1 d@1", "b@1 d@1", "a@1 e@1 d@1", "b@1 e@1 d@1", "e@1 d@1"],
            ),
            ("empty", "", &[""]),
            ("ab ab", "", &["a@1 ?b@1"]),
            ("a-or-b a-or-b", "", &["a@1", "a@1 b@1", "b@1 a@1", "b@1"]),
            ("a; ab; a; ?a; a", "", &["a@1", "a@1 ?b@1", "?a@1"]),
            ("a", "x y; a", &["?ext:x@1 ?ext:y@1 a@1", "?ext:a@1 a@1", "a@1"]),
            ("a-or-b; c", "x", &["?ext:x@1 a@1", "?ext:x@1 b@1", "a@1", "b@1", "?ext:x@1 c@1", "c@1"]),
        ];
        for (text, extensions, expected) in cases {
            assert_eq!(groups(dir, ANYTHING, text, extensions).expect(text), *expected, "{text}");
        }
        let modules = Modules::new(dir, dir);
        assert_eq!(Groups::new(modules, ANYTHING, Vec::new(), Vec::new()).count(), 0, "an empty order");
    }

    #[test]
    fn what_is_not_for_this_environment_is_not_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        for (name, api, own) in [
            ("all@1", "0.12", ""),
            ("any@1", "0.12", "exec-env = [\"*\"]"),
            ("test@1", "0.12", "exec-env = [\"test\"]"),
            ("test@2", "0.12", ""),
            ("old@1", "0.11", "exec-env = [\"test\"]"),
        ] {
            describe(dir, Kind::Buildpack, name, [api, "", own]);
        }
        let text = "all any test test@2 old all@1 all%test";
        for (exec_env, expected) in [
            (Some("production"), "all@1 any@1 test@2 old@1"),
            (Some("test"), "all@1 any@1 test@1 old@1"),
            (Some(""), "all@1 any@1 test@1 old@1"),
            (None, "all@1 any@1 test@1 old@1"),
        ] {
            let selection = Selection { target: None, asked: None, exec_env };
            assert_eq!(groups(dir, selection, text, "").expect("told"), [expected], "{exec_env:?}");
        }
        let named = groups(
            dir,
            Selection { target: None, asked: None, exec_env: Some("test") },
            "all%production any%test,x old%*",
            "",
        );
        assert_eq!(named.expect("told"), ["any@1 old@1"]);
    }

    #[test]
    fn targets_are_checked_where_there_are_targets() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        module(dir, Kind::Buildpack, "arm@1", "targets = [{arch = \"arm64\"}]");
        module(dir, Kind::Buildpack, "any@1", "");
        module(dir, Kind::Buildpack, "both@1", &format!("{}\ntargets = [{{arch = \"arm64\"}}]", composite("any")));
        module(dir, Kind::Extension, "x@1", "targets = [{arch = \"arm64\"}]");
        let target = Target { os: "linux".to_owned(), arch: "amd64".to_owned(), ..Target::default() };
        let selection = Selection { target: Some(&target), asked: None, exec_env: None };
        assert_eq!(groups(dir, selection, "any ?arm; arm both", "x").expect("told")[0], "?!ext:x@1 any@1 ?!arm@1");
        assert_eq!(
            groups(dir, selection, "arm both", "").expect("told"),
            ["!arm@1 any@1"],
            "a composite has no target"
        );
        assert_eq!(groups(dir, ANYTHING, "arm both", "").expect("told"), ["arm@1 any@1"]);
    }

    #[test]
    fn an_order_that_does_not_end_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        module(dir, Kind::Buildpack, "a@1", "");
        module(dir, Kind::Buildpack, "self@1", &composite("self"));
        module(dir, Kind::Buildpack, "around@1", &composite("a about"));
        module(dir, Kind::Buildpack, "about@1", &composite("?around"));
        module(dir, Kind::Buildpack, "late@1", &composite("a; late"));
        for text in ["self", "?self", "a around", "about"] {
            let error = groups(dir, ANYTHING, text, "").expect_err(text);
            assert!(matches!(error, OrderError::Cycle(_)), "{text}: {error}");
        }
        // What is never reached is no error.
        let buildpacks = dir.join("buildpack");
        let mut late = Groups::new(Modules::new(&buildpacks, dir), ANYTHING, order("late"), Vec::new());
        assert!(matches!(late.next(), Some(Ok(group)) if group.len() == 1));
        assert!(matches!(late.next(), Some(Err(OrderError::Cycle(name))) if name == "late@1"));

        for level in 0..20 {
            let next = level + 1;
            module(dir, Kind::Buildpack, &format!("c{level}@1"), "");
            let more =
                [("twice", format!("twice{next}; twice{next}")), ("more", format!("c{level} more{next}; more{next}"))];
            for (name, groups) in more {
                module(dir, Kind::Buildpack, &format!("{name}{level}@1"), &composite(&groups));
            }
        }
        module(dir, Kind::Buildpack, "twice20@1", &composite("a"));
        module(dir, Kind::Buildpack, "more20@1", &composite("a"));
        assert_eq!(groups(dir, ANYTHING, "twice10", "").expect("the same group"), ["a@1"]);
        assert!(matches!(groups(dir, ANYTHING, "twice0", ""), Err(OrderError::TooMany)), "made too often");
        assert!(matches!(groups(dir, ANYTHING, "more0", ""), Err(OrderError::TooMany)), "too many");
        for level in 0..=DEEPEST {
            module(dir, Kind::Buildpack, &format!("deep{level}@1"), &composite(&format!("deep{} a", level + 1)));
        }
        assert!(
            matches!(groups(dir, ANYTHING, "deep0", ""), Err(OrderError::TooDeep(name)) if name.starts_with("deep1000"))
        );
    }

    #[test]
    fn modules_that_cannot_be_used_are_errors() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        describe(dir, Kind::Buildpack, "old@1", ["0.1", "", ""]);
        module(dir, Kind::Buildpack, "within@1", &composite("old"));
        let error = groups(dir, ANYTHING, "within", "").expect_err("old");
        assert!(matches!(error, OrderError::Find(FindError::Api(_))), "{error}");
        let error = groups(dir, ANYTHING, "missing", "").expect_err("missing");
        assert!(matches!(error, OrderError::Find(FindError::Load(_))), "{error}");
    }
}

//! The inputs that platforms give (platform.md, *Inputs*): which flags a phase takes from which Platform API on,
//! the environment variables, and the defaults.
//!
//! Three tables and no rule: [`flags`] answers from [`FLAGS`], [`env`] holds the variables' names, [`default`] the
//! values that an input has when neither gives one. A flag wins over its variable, and a variable over the default.
//! Variables are read at every Platform API, also where the flag does not exist yet.

use crate::api::PlatformApi;
use crate::exit;

/// A phase of the lifecycle, by the executable that a platform starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// `analyzer`
    Analyze,
    /// `detector`
    Detect,
    /// `restorer`
    Restore,
    /// `extender`
    Extend,
    /// `builder`
    Build,
    /// `exporter`
    Export,
    /// `creator`: all the phases from analysis to export
    Create,
    /// `rebaser`
    Rebase,
    /// `indexer`: joins exported images in one index (target-arch.md)
    Index,
}

impl Phase {
    /// All of them, in the order in which a build runs them.
    pub const ALL: [Self; 9] = [
        Self::Analyze,
        Self::Detect,
        Self::Restore,
        Self::Extend,
        Self::Build,
        Self::Export,
        Self::Create,
        Self::Rebase,
        Self::Index,
    ];

    /// What the phase does: `detect`. It is the word after `failed to`, and the argument in `lifecycle detect`.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Analyze => "analyze",
            Self::Detect => "detect",
            Self::Restore => "restore",
            Self::Extend => "extend",
            Self::Build => "build",
            Self::Export => "export",
            Self::Create => "create",
            Self::Rebase => "rebase",
            Self::Index => "index",
        }
    }

    /// The name of its executable: `detector`.
    pub fn executable(self) -> &'static str {
        match self {
            Self::Analyze => "analyzer",
            Self::Detect => "detector",
            Self::Restore => "restorer",
            Self::Extend => "extender",
            Self::Build => "builder",
            Self::Export => "exporter",
            Self::Create => "creator",
            Self::Rebase => "rebaser",
            Self::Index => "indexer",
        }
    }

    /// The exit status for a failure of this phase that has none of its own.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Analyze => exit::ANALYZE_ERROR,
            Self::Detect => exit::DETECT_ERROR,
            Self::Restore => exit::RESTORE_ERROR,
            Self::Extend => exit::EXTEND_ERROR,
            Self::Build => exit::BUILD_ERROR,
            Self::Export => exit::EXPORT_ERROR,
            Self::Create => exit::GENERIC,
            Self::Rebase => exit::REBASE_ERROR,
            Self::Index => exit::EXPORT_ERROR,
        }
    }
}

/// What a flag's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Any text: a path, an image reference, a level. The last one given counts.
    Text,
    /// Nothing, or `=true` or `=false`.
    Bool,
    /// A whole number: decimal, or with Go's prefixes `0x`, `0o`, `0b`.
    Integer,
    /// Any text, and every one given counts.
    List,
}

/// What the names of the image to write are to name (`-index`; target-arch.md, *Inputs*).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IndexMode {
    /// One image.
    #[default]
    Off,
    /// An index: this image becomes a part of it, and the others are kept.
    Merge,
    /// A new index.
    Replace,
}

impl IndexMode {
    /// Reads a flag's or a variable's text; empty is [`IndexMode::Off`], and `None` is what is none of the three.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "off" => Some(Self::Off),
            "merge" => Some(Self::Merge),
            "replace" => Some(Self::Replace),
            _ => None,
        }
    }
}

/// A flag of the command line.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its name without dashes.
    pub name: &'static str,
    /// What its value is.
    pub takes: Takes,
    help: &'static str,
    phases: &'static [Availability],
    /// The environment variable that counts where the flag is not given.
    pub variable: Option<&'static str>,
    /// What counts where neither is given.
    pub default: Option<&'static str>,
    other_help: &'static [(Phase, &'static str)],
}

impl Flag {
    /// What it is for in a phase, in one line.
    pub fn help(&self, phase: Phase) -> &'static str {
        self.other_help.iter().find(|(of, _)| *of == phase).map_or(self.help, |(_, help)| help)
    }

    const fn or(mut self, variable: &'static str) -> Self {
        self.variable = Some(variable);
        self
    }

    const fn otherwise(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    /// In some phases it means something else.
    const fn but(mut self, other_help: &'static [(Phase, &'static str)]) -> Self {
        self.other_help = other_help;
        self
    }
}

/// In which phase a flag exists: from 0.`from` on, and before 0.`before` if that is given.
#[derive(Clone, Copy, Debug)]
struct Availability {
    phase: Phase,
    from: u64,
    before: Option<u64>,
}

const fn from(minor: u64, phase: Phase) -> Availability {
    Availability { phase, from: minor, before: None }
}

const fn always(phase: Phase) -> Availability {
    from(7, phase)
}

const fn before(minor: u64, phase: Phase) -> Availability {
    Availability { phase, from: 7, before: Some(minor) }
}

/// The flags that `phase` takes at `api`, by name.
///
/// ```
/// use platform_spec::{api::PlatformApi, input::{flags, Phase}};
///
/// let takes = |api, name| flags(Phase::Analyze, PlatformApi::parse(Some(api)).unwrap()).any(|flag| flag.name == name);
/// assert!(takes("0.11", "stack") && !takes("0.11", "run"));
/// assert!(!takes("0.12", "stack") && takes("0.12", "run"));
/// ```
pub fn flags(phase: Phase, api: PlatformApi) -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter().filter(move |flag| {
        flag.phases.iter().any(|there| {
            there.phase == phase && api.at_least(there.from) && there.before.is_none_or(|minor| !api.at_least(minor))
        })
    })
}

use Phase::{Analyze, Build, Create, Detect, Export, Index, Rebase, Restore};
use Takes::{Bool, Integer, List, Text};

const fn flag(name: &'static str, takes: Takes, help: &'static str, phases: &'static [Availability]) -> Flag {
    Flag { name, takes, help, phases, variable: None, default: None, other_help: &[] }
}

const EVERY: &[Availability] = &[
    always(Analyze),
    always(Detect),
    always(Restore),
    always(Build),
    always(Export),
    always(Create),
    always(Rebase),
    always(Index),
];
// The indexer is new, so no version of the Platform API lacks a flag of its.
const REGISTRY: &[Availability] =
    &[from(13, Analyze), from(13, Restore), from(13, Export), from(13, Create), from(13, Rebase), always(Index)];
const LAYOUT: &[Availability] = &[from(12, Analyze), from(12, Restore), from(12, Export), from(12, Create)];
const USER: &[Availability] =
    &[always(Analyze), always(Restore), always(Export), always(Create), always(Rebase), always(Index)];
const IN_BUILDER: &[Availability] = &[always(Detect), always(Build), always(Create)];

/// Every flag of every phase but the extender, by name.
pub const FLAGS: &[Flag] = &[
    flag(
        "analyzed",
        Text,
        "path to analyzed.toml",
        &[always(Analyze), from(10, Detect), always(Restore), from(12, Build), always(Export)],
    )
    .or(env::ANALYZED)
    .otherwise(default::ANALYZED),
    flag("app", Text, "path to the app directory", &[always(Detect), always(Build), always(Export), always(Create)])
        .or(env::APP)
        .otherwise(default::APP),
    flag(
        "build-config",
        Text,
        "path to the build config directory",
        &[from(11, Detect), from(11, Build), from(11, Create)],
    )
    .or(env::BUILD_CONFIG)
    .otherwise(default::BUILD_CONFIG),
    flag("build-image", Text, "reference of the build image", &[from(10, Restore)]).or(env::BUILD_IMAGE),
    flag("buildpacks", Text, "path to the buildpacks directory", IN_BUILDER)
        .or(env::BUILDPACKS)
        .otherwise(default::BUILDPACKS),
    flag("cache-dir", Text, "path to a cache directory", &[always(Restore), always(Export), always(Create)])
        .or(env::CACHE_DIR),
    flag(
        "cache-image",
        Text,
        "reference of a cache image",
        &[always(Analyze), always(Restore), always(Export), always(Create)],
    )
    .or(env::CACHE_IMAGE),
    flag(
        "daemon",
        Bool,
        "read from and export to a docker daemon (not yet supported here: it ends with an error)",
        &[always(Analyze), from(12, Restore), always(Export), always(Create), always(Rebase)],
    )
    .or(env::DAEMON),
    flag("extended", Text, "path to the layers that the extender made (not yet used here)", &[from(12, Export)])
        .or(env::EXTENDED)
        .otherwise(default::EXTENDED),
    flag("extensions", Text, "path to the image extensions directory", &[from(10, Detect)])
        .or(env::EXTENSIONS)
        .otherwise(default::EXTENSIONS),
    flag("force", Bool, "rebase even if that is unsafe", &[from(12, Rebase)]).or(env::FORCE),
    flag("generated", Text, "path to what image extensions generate", &[from(10, Detect), from(12, Restore)])
        .or(env::GENERATED)
        .otherwise(default::GENERATED),
    flag("gid", Integer, "group id of the build image's user", USER).or(env::GID),
    flag("group", Text, "path to group.toml", &[always(Detect), always(Restore), always(Build), always(Export)])
        .or(env::GROUP)
        .otherwise(default::GROUP),
    flag("image", Text, "deprecated: use -run-image", &[always(Export), always(Rebase)])
        .but(&[(Export, "refused: the analyzer has chosen the run image")]),
    flag(
        "index",
        Text,
        "off, merge or replace: whether the tag names one image, or an index of which the image is a part (experimental)",
        &[always(Export), always(Create), always(Rebase)],
    )
    .or(env::INDEX)
    .otherwise(default::INDEX),
    flag(
        "index-report",
        Text,
        "path to index-report.toml (experimental)",
        &[always(Export), always(Create), always(Rebase), always(Index)],
    )
    .or(env::INDEX_REPORT)
    .otherwise(default::INDEX_REPORT),
    flag("insecure-registry", List, "a registry that is reached without TLS or with any certificate", REGISTRY)
        .or(env::INSECURE_REGISTRIES),
    flag(
        "launch-cache",
        Text,
        "path to a launch cache directory (for a daemon, not used without one)",
        &[from(9, Analyze), always(Export), always(Create)],
    )
    .or(env::LAUNCH_CACHE),
    flag("launcher", Text, "path to the launcher", &[always(Export), always(Create)]).otherwise(default::LAUNCHER),
    flag("launcher-sbom", Text, "path to the launcher's SBOM files", &[from(11, Export), from(11, Create)])
        .otherwise(default::LAUNCHER_SBOM),
    flag(
        "layers",
        Text,
        "path to the layers directory",
        &[always(Analyze), always(Detect), always(Restore), always(Build), always(Export), always(Create)],
    )
    .or(env::LAYERS)
    .otherwise(default::LAYERS),
    flag("layout", Bool, "read from and export to OCI layouts on disk (experimental)", LAYOUT).or(env::LAYOUT),
    flag("layout-dir", Text, "path to the directory of OCI layouts (experimental)", LAYOUT).or(env::LAYOUT_DIR),
    flag("log-level", Text, "debug, info, warn or error", EVERY).or(env::LOG_LEVEL).otherwise("info"),
    flag("no-color", Bool, "print no colours", EVERY).or(env::NO_COLOR),
    flag("order", Text, "path to order.toml", &[always(Detect), always(Create)])
        .or(env::ORDER)
        .otherwise(default::ORDER),
    flag("parallel", Bool, "export the app image and the cache at the same time", &[always(Export), always(Create)])
        .or(env::PARALLEL),
    flag("plan", Text, "path to plan.toml", &[always(Detect), always(Build)]).or(env::PLAN).otherwise(default::PLAN),
    flag("platform", Text, "path to the platform directory", IN_BUILDER).or(env::PLATFORM).otherwise(default::PLATFORM),
    flag(
        "previous-image",
        Text,
        "reference of the previous image",
        &[always(Analyze), always(Create), from(11, Rebase)],
    )
    .or(env::PREVIOUS_IMAGE)
    .but(&[
        (Analyze, "reference of the previous image; without it, the image to write"),
        (Create, "reference of the previous image; without it, the image to write"),
        (Rebase, "reference of the image to rebase; without it, the image to write"),
    ]),
    flag("process-type", Text, "default process type", &[always(Export), always(Create)]).or(env::PROCESS_TYPE),
    flag("project-metadata", Text, "path to project-metadata.toml", &[always(Export), always(Create)])
        .or(env::PROJECT_METADATA)
        .otherwise(default::PROJECT_METADATA),
    flag("report", Text, "path to report.toml", &[always(Export), always(Create), always(Rebase)])
        .or(env::REPORT)
        .otherwise(default::REPORT),
    flag("report", List, "path to the report.toml of an image to join", &[always(Index)]),
    flag(
        "run",
        Text,
        "path to run.toml",
        &[from(12, Analyze), from(12, Detect), from(14, Restore), from(12, Export), from(12, Create)],
    )
    .or(env::RUN)
    .otherwise(default::RUN),
    flag(
        "run-image",
        Text,
        "reference of the run image",
        &[always(Analyze), always(Export), always(Create), always(Rebase)],
    )
    .or(env::RUN_IMAGE)
    .but(&[(Export, "refused unless it says what the variable says: the analyzer has chosen the run image")]),
    flag(
        "skip-layers",
        Bool,
        "restore nothing of previous builds but store.toml",
        &[from(9, Analyze), always(Restore)],
    )
    .or(env::SKIP_LAYERS)
    .but(&[(Analyze, "do not restore the SBOM files of the previous image")]),
    flag(
        "skip-restore",
        Bool,
        "restore nothing of previous builds but, from Platform API 0.10 on, store.toml",
        &[always(Create)],
    )
    .or(env::SKIP_RESTORE),
    flag("stack", Text, "path to stack.toml", &[before(12, Analyze), before(12, Export), always(Create)])
        .or(env::STACK)
        .otherwise(default::STACK),
    flag("system", Text, "path to system.toml", &[from(15, Detect), from(15, Create)])
        .or(env::SYSTEM)
        .otherwise(default::SYSTEM),
    flag("tag", List, "one more tag for the app image", &[always(Analyze), always(Create), always(Index)])
        .but(&[(Index, "one more tag for the index")]),
    flag(
        "target-arch",
        Text,
        "the architecture of the app image: [linux/]<architecture>[/<variant>] (experimental)",
        &[
            always(Analyze),
            always(Detect),
            always(Restore),
            always(Build),
            always(Export),
            always(Create),
            always(Rebase),
            always(Index),
        ],
    )
    .or(env::TARGET_ARCH)
    .but(&[
        (Rebase, "rebase only the image for this architecture: [linux/]<architecture>[/<variant>] (experimental)"),
        (Index, "join only images for this architecture: [linux/]<architecture>[/<variant>]"),
    ]),
    flag("uid", Integer, "user id of the build image's user", USER).or(env::UID),
    flag("version", Bool, "print the version", EVERY),
];

/// Names of environment variables.
#[expect(missing_docs, reason = "each is named as its flag or its file is; the table in platform.md says the rest")]
pub mod env {
    pub const ANALYZED: &str = "CNB_ANALYZED_PATH";
    pub const APP: &str = "CNB_APP_DIR";
    pub const ARCH_CHECK: &str = "CNB_ARCH_CHECK";
    pub const ARCH_CHECK_IGNORE: &str = "CNB_ARCH_CHECK_IGNORE";
    pub const BUILD_CONFIG: &str = "CNB_BUILD_CONFIG_DIR";
    pub const BUILD_IMAGE: &str = "CNB_BUILD_IMAGE";
    pub const BUILDPACKS: &str = "CNB_BUILDPACKS_DIR";
    pub const CACHE_DIR: &str = "CNB_CACHE_DIR";
    pub const CACHE_IMAGE: &str = "CNB_CACHE_IMAGE";
    pub const DAEMON: &str = "CNB_USE_DAEMON";
    pub const EXEC_ENV: &str = "CNB_EXEC_ENV";
    pub const EXPERIMENTAL_MODE: &str = "CNB_EXPERIMENTAL_MODE";
    pub const EXTENDED: &str = "CNB_EXTENDED_DIR";
    pub const EXTENSIONS: &str = "CNB_EXTENSIONS_DIR";
    pub const FORCE: &str = "CNB_FORCE_REBASE";
    pub const GENERATED: &str = "CNB_GENERATED_DIR";
    pub const GID: &str = "CNB_GROUP_ID";
    pub const GROUP: &str = "CNB_GROUP_PATH";
    pub const INDEX: &str = "CNB_EXPORT_INDEX";
    pub const INDEX_REPORT: &str = "CNB_INDEX_REPORT_PATH";
    pub const INSECURE_REGISTRIES: &str = "CNB_INSECURE_REGISTRIES";
    pub const LAUNCH_CACHE: &str = "CNB_LAUNCH_CACHE_DIR";
    pub const LAYERS: &str = "CNB_LAYERS_DIR";
    pub const LAYOUT: &str = "CNB_USE_LAYOUT";
    pub const LAYOUT_DIR: &str = "CNB_LAYOUT_DIR";
    pub const LOG_LEVEL: &str = "CNB_LOG_LEVEL";
    pub const NO_COLOR: &str = "CNB_NO_COLOR";
    pub const ORDER: &str = "CNB_ORDER_PATH";
    pub const PARALLEL: &str = "CNB_PARALLEL_EXPORT";
    pub const PLAN: &str = "CNB_PLAN_PATH";
    pub const PLATFORM: &str = "CNB_PLATFORM_DIR";
    pub const PLATFORM_API: &str = "CNB_PLATFORM_API";
    pub const PREVIOUS_IMAGE: &str = "CNB_PREVIOUS_IMAGE";
    pub const PROCESS_TYPE: &str = "CNB_PROCESS_TYPE";
    pub const PROJECT_METADATA: &str = "CNB_PROJECT_METADATA_PATH";
    pub const REPORT: &str = "CNB_REPORT_PATH";
    pub const RUN: &str = "CNB_RUN_PATH";
    pub const RUN_IMAGE: &str = "CNB_RUN_IMAGE";
    pub const SKIP_LAYERS: &str = "CNB_SKIP_LAYERS";
    pub const SKIP_RESTORE: &str = "CNB_SKIP_RESTORE";
    pub const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";
    pub const STACK: &str = "CNB_STACK_PATH";
    pub const STACK_ID: &str = "CNB_STACK_ID";
    pub const SYSTEM: &str = "CNB_SYSTEM_PATH";
    pub const TARGET_ARCH: &str = "CNB_BUILD_TARGET_ARCH";
    pub const UID: &str = "CNB_USER_ID";
}

/// What an input is when neither a flag nor a variable gives it.
#[expect(missing_docs, reason = "each is named as its variable is")]
pub mod default {
    /// Stands for the layers directory in a path; also in what a platform gives.
    pub const LAYERS_PLACEHOLDER: &str = "<layers>";

    pub const ANALYZED: &str = "<layers>/analyzed.toml";
    pub const APP: &str = "/workspace";
    pub const BUILD_CONFIG: &str = "/cnb/build-config";
    pub const BUILDPACKS: &str = "/cnb/buildpacks";
    pub const EXEC_ENV: &str = "production";
    pub const EXTENDED: &str = "<layers>/extended";
    pub const EXTENSIONS: &str = "/cnb/extensions";
    pub const GENERATED: &str = "<layers>/generated";
    pub const GROUP: &str = "<layers>/group.toml";
    pub const INDEX: &str = "off";
    pub const INDEX_REPORT: &str = "<layers>/index-report.toml";
    pub const LAUNCHER: &str = "/cnb/lifecycle/launcher";
    pub const LAUNCHER_SBOM: &str = "/cnb/lifecycle";
    pub const LAYERS: &str = "/layers";
    pub const ORDER: &str = "<layers>/order.toml";
    /// Where [`ORDER`] does not exist.
    pub const ORDER_OF_BUILDER: &str = "/cnb/order.toml";
    pub const PLAN: &str = "<layers>/plan.toml";
    pub const PLATFORM: &str = "/platform";
    pub const PROJECT_METADATA: &str = "<layers>/project-metadata.toml";
    pub const REPORT: &str = "<layers>/report.toml";
    pub const RUN: &str = "/cnb/run.toml";
    pub const STACK: &str = "/cnb/stack.toml";
    pub const SYSTEM: &str = "/cnb/system.toml";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(phase: Phase, api: &str) -> Vec<&'static str> {
        let api = PlatformApi::parse(Some(api)).expect("supported");
        flags(phase, api)
            .map(|flag| flag.name)
            .filter(|name| !["log-level", "no-color", "version"].contains(name))
            .collect()
    }

    #[test]
    fn each_phase_has_its_flags_from_their_version_on() {
        // platform.md of each version, and what platforms pass to the reference beside it.
        let analyzer = "analyzed cache-image daemon gid layers previous-image run-image tag target-arch uid";
        let detector = "app buildpacks group layers order plan platform target-arch";
        let restorer = "analyzed cache-dir cache-image gid group layers skip-layers target-arch uid";
        let builder = "app buildpacks group layers plan platform target-arch";
        let exporter = "analyzed app cache-dir cache-image daemon gid group image index index-report launch-cache launcher \
             layers parallel process-type project-metadata report run-image target-arch uid";
        let creator = "app buildpacks cache-dir cache-image daemon gid index index-report launch-cache launcher layers order \
             parallel platform previous-image process-type project-metadata report run-image skip-restore stack tag \
             target-arch uid";
        let rebaser = "daemon gid image index index-report report run-image target-arch uid";
        let indexer = "gid index-report insecure-registry report tag target-arch uid";
        /// Phase, its flags at every version, and what each version has beside them.
        type Row<'a> = (Phase, &'a str, &'a [(&'a str, &'a str)]);
        let table: &[Row<'_>] = &[
            (
                Analyze,
                analyzer,
                &[("0.7", "stack"), ("0.8", "stack"), ("0.9", "launch-cache skip-layers stack")] as &[_],
            ),
            (Analyze, analyzer, &[("0.12", "launch-cache layout layout-dir run skip-layers")]),
            (Analyze, analyzer, &[("0.13", "insecure-registry launch-cache layout layout-dir run skip-layers")]),
            (Detect, detector, &[("0.9", ""), ("0.10", "analyzed extensions generated")]),
            (Detect, detector, &[("0.11", "analyzed build-config extensions generated")]),
            (Detect, detector, &[("0.12", "analyzed build-config extensions generated run")]),
            (Detect, detector, &[("0.15", "analyzed build-config extensions generated run system")]),
            (Restore, restorer, &[("0.9", ""), ("0.10", "build-image"), ("0.11", "build-image")]),
            (Restore, restorer, &[("0.12", "build-image daemon generated layout layout-dir")]),
            (Restore, restorer, &[("0.13", "build-image daemon generated insecure-registry layout layout-dir")]),
            (Restore, restorer, &[("0.14", "build-image daemon generated insecure-registry layout layout-dir run")]),
            (Build, builder, &[("0.10", ""), ("0.11", "build-config"), ("0.12", "analyzed build-config")]),
            (Export, exporter, &[("0.10", "stack"), ("0.11", "launcher-sbom stack")]),
            (Export, exporter, &[("0.12", "extended launcher-sbom layout layout-dir run")]),
            (Export, exporter, &[("0.13", "extended insecure-registry launcher-sbom layout layout-dir run")]),
            (Create, creator, &[("0.10", ""), ("0.11", "build-config launcher-sbom")]),
            (Create, creator, &[("0.12", "build-config launcher-sbom layout layout-dir run")]),
            (Create, creator, &[("0.13", "build-config insecure-registry launcher-sbom layout layout-dir run")]),
            (Create, creator, &[("0.15", "build-config insecure-registry launcher-sbom layout layout-dir run system")]),
            (Rebase, rebaser, &[("0.10", ""), ("0.11", "previous-image"), ("0.12", "force previous-image")]),
            (Rebase, rebaser, &[("0.13", "force insecure-registry previous-image")]),
            (Index, indexer, &[("0.7", ""), ("0.15", "")]),
        ];
        for (phase, common, versions) in table {
            for (api, more) in *versions {
                let mut expected: Vec<_> = common.split_whitespace().chain(more.split_whitespace()).collect();
                expected.sort_unstable();
                assert_eq!(names(*phase, api), expected, "{phase:?} at {api}");
            }
        }
    }

    #[test]
    fn the_table_is_in_order_and_no_phase_has_a_flag_twice() {
        assert!(FLAGS.windows(2).all(|pair| pair[0].name <= pair[1].name));
        for phase in Phase::ALL {
            let mut names = std::collections::HashSet::new();
            let of_phase = FLAGS.iter().filter(|flag| flag.phases.iter().any(|there| there.phase == phase));
            of_phase.for_each(|flag| assert!(names.insert(flag.name), "{} of {phase:?}", flag.name));
        }
    }
}

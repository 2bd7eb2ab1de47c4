//! Native, cross, emulated and hybrid builds by turns on one cache: none finds a layer that was made for another machine, or on
//! another, and each finds all that its like has left.
//!
//! Every layer says for which machine it is, and on which it was made. `make compare` does, with `LIFECYCLE_REFERENCE_DIR` and
//! `LIFECYCLE_REFERENCE_OTHER_DIR` (another lifecycle's executables, for this architecture and for the other one), the same
//! with those, and they have to find what is not theirs: else nothing is shown.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use acceptance::{Architecture, Builder, Registry, Tool, emulation, image, marker};

/// How builds are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Native,
    Cross,
    Emulated,
    /// Buildpacks are emulated, and the other phases are this machine's.
    Hybrid,
}

use Way::{Cross, Emulated, Hybrid, Native};

/// In every order of two that there is, none more often than others.
const TURNS: [Way; 20] = [
    Native, Cross, Emulated, Hybrid, Native, Emulated, Cross, Hybrid, Cross, Native, Hybrid, Emulated, Native, Cross,
    Cross, Emulated, Emulated, Native, Native, Hybrid,
];

impl Way {
    fn target(self) -> Architecture {
        if self == Native { Architecture::HERE } else { Architecture::OTHER }
    }

    /// Where buildpacks run.
    fn machine(self) -> Architecture {
        match self {
            Native | Cross => Architecture::HERE,
            Emulated | Hybrid => Architecture::OTHER,
        }
    }
}

const BUILDPACK: &str = r#"api = "0.10"
[buildpack]
id = "test/marker"
version = "1"
[[targets]]
os = "linux"
build-arch = ["*"]
"#;

/// A builder of each architecture, and one cache.
struct Builders {
    registry: Registry,
    here: Builder,
    other: Option<Builder>,
    /// Whose `/cache` is the cache now.
    cache_of: Architecture,
}

impl Builders {
    /// With another lifecycle's executables in `/reference`.
    fn new(reference: Option<[&Path; 2]>) -> Self {
        let registry = Registry::start();
        for architecture in [Architecture::HERE, Architecture::OTHER] {
            let name = format!("run-{}", architecture.name());
            image::push_run_image_for(&registry, &name, architecture.name());
        }
        let [for_here, for_other] = reference.map_or([None; 2], |both| both.map(Some));
        let here = builder(Architecture::HERE, for_here);
        let other = emulation::can_be_tested().then(|| builder(Architecture::OTHER, for_other));
        Self { registry, here, other, cache_of: Architecture::HERE }
    }

    fn ways(&self) -> Vec<Way> {
        let can = |way: &Way| self.other.is_some() || way.machine() == Architecture::HERE;
        TURNS.into_iter().filter(can).collect()
    }

    fn builder(&self, machine: Architecture) -> &Builder {
        if machine == Architecture::HERE { &self.here } else { self.other.as_ref().expect("asked before") }
    }

    /// Builds; what was found in layers.
    fn build(&mut self, way: Way, with_target: bool, is_reference: bool, cache_image: Option<&str>) -> Vec<String> {
        if self.cache_of != way.machine() {
            let [from, to] = [self.cache_of, way.machine()].map(|machine| self.builder(machine).path("cache"));
            fs::remove_dir(&to).expect("an empty one");
            fs::rename(&from, &to).expect("moved");
            fs::create_dir(&from).expect("created");
            self.cache_of = way.machine();
        }
        let builder = self.builder(way.machine());
        builder.new_build();
        let mut found = Vec::new();
        for executable in ["analyzer", "detector", "restorer", "builder", "exporter"] {
            let phase = if is_reference {
                builder.phase_in("/reference", executable)
            } else if way == Hybrid && !["detector", "builder"].contains(&executable) {
                builder.phase_of_other(executable)
            } else {
                builder.phase(executable)
            };
            let mut phase = phase.env("CNB_REGISTRY_AUTH", "{}");
            if let Some(image) = cache_image {
                phase = phase.without("CNB_CACHE_DIR").env("CNB_CACHE_IMAGE", self.registry.image(image));
            }
            if with_target {
                phase = phase.env("CNB_BUILD_TARGET_ARCH", way.target().name()).env("CNB_EXPERIMENTAL_MODE", "quiet");
                phase = phase.env("CNB_EXPORT_INDEX", "merge");
            }
            if executable == "analyzer" {
                phase = phase.flag("run-image", self.registry.image(&format!("run-{}", way.target().name())));
            }
            if executable == "exporter" && is_reference {
                phase = phase.flag("launcher", "/reference/launcher");
            }
            if ["analyzer", "exporter"].contains(&executable) {
                // A layer that is in the app image too is restored only as it is in the image before. Here layers differ by
                // where they were made, so that builds of two kinds for one target do not meet in one image.
                let tag = if with_target { format!("on-{}", way.machine().name()) } else { "latest".to_owned() };
                phase = phase.arg(self.registry.image(&format!("app:{tag}")));
            }
            let outcome = phase.run().succeeds();
            found.extend(marker::found(&outcome.stdout));
        }
        found
    }
}

fn builder(architecture: Architecture, reference: Option<&Path>) -> Builder {
    let builder = Builder::new(architecture);
    let buildpack = builder.path("cnb/buildpacks/test_marker/1");
    fs::create_dir_all(buildpack.join("bin")).expect("created");
    fs::write(buildpack.join("buildpack.toml"), BUILDPACK).expect("written");
    for (name, text) in [("detect", "#!/usr/bin/env bash\n"), ("build", marker::BUILD)] {
        fs::write(buildpack.join("bin").join(name), text).expect("written");
        fs::set_permissions(buildpack.join("bin").join(name), fs::Permissions::from_mode(0o755)).expect("executable");
    }
    fs::write(builder.path("cnb/order.toml"), "[[order]]\ngroup = [{ id = 'test/marker', version = '1' }]\n")
        .expect("written");
    if let Some(from) = reference {
        let to = builder.path("reference");
        Tool::new("cp").args(["--recursive", "--dereference"]).args([from, &to]).run();
        Tool::new("chmod").args(["--recursive", "u=rwX,go=rX"]).args([to]).run();
    }
    builder
}

fn markers(way: Way) -> Vec<String> {
    marker::cached(way.target().name(), way.machine())
}

#[test]
fn builds_for_targets_find_what_is_theirs_and_nothing_else() {
    for cache_image in [None, Some("cache:tag")] {
        let mut builders = Builders::new(None);
        let mut seen = BTreeSet::new();
        let mut hits = 0;
        let turns = builders.ways();
        for way in &turns {
            let found = builders.build(*way, true, false, cache_image);
            // What emulated buildpacks made does not depend on who moved it.
            let is_first = seen.insert((way.target().name(), way.machine().name()));
            let expected = if is_first { Vec::new() } else { markers(*way) };
            assert_eq!(found, expected, "{way:?}, after {seen:?}, cache image: {cache_image:?}");
            hits += found.len();
        }
        let index = format!("app:on-{}", Architecture::HERE.name());
        let platforms: Vec<_> = builders.registry.children(&index).into_iter().map(|(platform, _)| platform).collect();
        assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
        let place = if cache_image.is_some() { "image" } else { "directory" };
        tell(&format!(
            "{} builds on one cache {place}: 0 foreign layers, {hits} hits of {}",
            turns.len(),
            2 * (turns.len() - seen.len())
        ));
    }
}

/// Builds without a target, natively and emulated by turns; how many layers were found that are not for the machine, and how
/// many that are.
fn foreign_and_own(builders: &mut Builders, turns: usize, is_reference: bool, image: Option<&str>) -> (usize, usize) {
    let (mut foreign, mut own) = (0, 0);
    for turn in [Native, Emulated, Emulated, Native, Native].iter().cycle().take(turns) {
        let found = builders.build(*turn, false, is_reference, image);
        let expected = markers(*turn);
        let (here, there): (Vec<_>, Vec<_>) = found.iter().partition(|marker| expected.contains(marker));
        own += here.len();
        foreign += there.len();
    }
    (foreign, own)
}

#[test]
fn builds_without_targets_find_nothing_foreign() {
    for cache_image in [None, Some("cache:tag")] {
        let mut builders = Builders::new(None);
        if builders.other.is_none() {
            return;
        }
        let (foreign, own) = foreign_and_own(&mut builders, 10, false, cache_image);
        // After each build of the same kind, two layers.
        assert_eq!((foreign, own), (0, 2 * 5), "{cache_image:?}");
    }
}

/// `make compare` runs it.
#[cfg(feature = "reference")]
#[test]
fn another_lifecycle_finds_what_is_foreign() {
    let Some(other) = std::env::var_os("LIFECYCLE_REFERENCE_OTHER_DIR") else {
        tell(
            "LIFECYCLE_REFERENCE_OTHER_DIR is unset (it names another lifecycle's executables for the other architecture)",
        );
        return;
    };
    let reference = acceptance::Lifecycle::reference();
    let here = reference.directory();
    for cache_image in [None, Some("cache:tag")] {
        let mut builders = Builders::new(Some([here, other.as_ref()]));
        if builders.other.is_none() {
            return;
        }
        let (foreign, own) = foreign_and_own(&mut builders, 20, true, cache_image);
        let place = if cache_image.is_some() { "image" } else { "directory" };
        tell(&format!(
            "the other lifecycle, 20 builds on one cache {place}: {foreign} foreign layers, {own} of its own"
        ));
        assert!(foreign > 0);
    }
}

#[expect(clippy::print_stderr, reason = "numbers for those who ask with --nocapture")]
fn tell(text: &str) {
    eprintln!("{text}");
}

//! The same app for another architecture, built in every way: what each phase takes, and which image comes out.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::input::{Kind, choose};
use crate::architecture::Architecture;
use crate::builder::Builder;
use crate::image::{self, Format};
use crate::registry::Registry;
use crate::tool::Tool;

/// A way to build.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Native,
    Cross,
    Emulated,
    Hybrid,
    Reference,
}

impl Way {
    const ALL: [Self; 5] = [Self::Native, Self::Cross, Self::Emulated, Self::Hybrid, Self::Reference];

    fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Cross => "cross",
            Self::Emulated => "emulated",
            Self::Hybrid => "hybrid",
            Self::Reference => "reference, emulated",
        }
    }

    /// For which machine the app is.
    fn target(self) -> Architecture {
        if self == Self::Native { Architecture::HERE } else { Architecture::OTHER }
    }

    /// Of which architecture the build environment is.
    fn environment(self) -> Architecture {
        match self {
            Self::Native | Self::Cross => Architecture::HERE,
            Self::Emulated | Self::Hybrid | Self::Reference => Architecture::OTHER,
        }
    }
}

/// A buildpack whose one layer is a copy of `/input`.
const BUILDPACK: &str = r#"api = "0.10"
[buildpack]
id = "bench/bulk"
version = "1"
[[targets]]
os = "linux"
build-arch = ["*"]
"#;
const BUILD: &str = r#"#!/usr/bin/env bash
set -eu
[[ -d $CNB_LAYERS_DIR/bulk ]] || cp -R /input "$CNB_LAYERS_DIR/bulk"
printf '[types]\nlaunch = true\ncache = true\n' > "$CNB_LAYERS_DIR/bulk.toml"
"#;

/// Walls of one build.
struct Walls {
    /// Analyzer, restorer and exporter: the phases that run no buildpack.
    outside: Duration,
    /// Detector and builder.
    inside: Duration,
}

/// Builds in every way that can be had, `runs` times each after one that is not counted, and shows what it took.
/// `bytes` is how much is in the app's one layer; `reference` has the other lifecycle's executables for the other
/// architecture.
pub fn run(directory: &Path, bytes: u64, runs: usize, reference: Option<&Path>) -> String {
    let registry = Registry::start_in(directory);
    for architecture in [Architecture::HERE, Architecture::OTHER] {
        image::push_run_image_of(&registry, architecture.name(), Format::Oci, architecture);
    }
    let builders =
        [Architecture::HERE, Architecture::OTHER].map(|architecture| builder(architecture, bytes, reference));
    let mut text = format!(
        "the same app for {} in every way, {} MiB in one layer (medians of {runs}; analyze + restore + export / detect + build)\n",
        Architecture::OTHER.name(),
        bytes >> 20
    );
    let _ = writeln!(text, "{:<20} {:>19} {:>19}  digest of the image", "", "first build", "the same again");
    for way in Way::ALL {
        if way == Way::Reference && reference.is_none() {
            continue;
        }
        let [here, other] = &builders;
        let builder = if way.environment() == Architecture::HERE { here } else { other };
        let (mut first, mut again) = (Vec::new(), Vec::new());
        let mut digest = String::new();
        for run in 0..=runs {
            builder.clear("cache");
            let name = format!("{}-{run}", way.name().replace(", ", "-"));
            let walls = build(builder, way, &registry, &name);
            let repeated = build(builder, way, &registry, &name);
            if run > 0 || runs == 0 {
                first.push(walls);
                again.push(repeated);
            }
            digest = image::inspect(&registry, &registry.image(&name)).digest;
        }
        let shown = |walls: &mut Vec<Walls>| {
            let median = |part: &dyn Fn(&Walls) -> Duration| {
                let mut all: Vec<_> = walls.iter().map(part).collect();
                all.sort();
                all.get(all.len() / 2).map_or(0.0, Duration::as_secs_f64)
            };
            format!("{:.2} s / {:.2} s", median(&|walls| walls.outside), median(&|walls| walls.inside))
        };
        let (first, again) = (shown(&mut first), shown(&mut again));
        let target =
            if way.target() == Architecture::HERE { format!(" (for {})", way.target().name()) } else { String::new() };
        let _ = writeln!(text, "{:<20} {first:>19} {again:>19}  {digest}{target}", way.name());
    }
    if reference.is_none() {
        text += "LIFECYCLE_REFERENCE_OTHER_DIR is unset (it names another lifecycle's executables for the other architecture)\n";
    }
    text
}

fn builder(architecture: Architecture, bytes: u64, reference: Option<&Path>) -> Builder {
    let builder = Builder::new(architecture);
    for (number, layer) in choose(Kind::Many, bytes).iter().enumerate() {
        layer.copy_to(&builder.path("input").join(number.to_string()));
    }
    let buildpack = builder.path("cnb/buildpacks/bench_bulk/1");
    fs::create_dir_all(buildpack.join("bin")).expect("created");
    fs::write(buildpack.join("buildpack.toml"), BUILDPACK).expect("written");
    for (name, text) in [("detect", "#!/usr/bin/env bash\n"), ("build", BUILD)] {
        fs::write(buildpack.join("bin").join(name), text).expect("written");
        fs::set_permissions(buildpack.join("bin").join(name), fs::Permissions::from_mode(0o755)).expect("executable");
    }
    fs::write(builder.path("cnb/order.toml"), "[[order]]\ngroup = [{ id = 'bench/bulk', version = '1' }]\n")
        .expect("written");
    Tool::new("chmod").args(["--recursive", "u=rwX,go=rX"]).args([builder.path("input")]).run();
    if let (Some(from), Architecture::OTHER) = (reference, architecture) {
        let to = builder.path("reference");
        Tool::new("cp").args(["--recursive", "--dereference"]).args([from, &to]).run();
        Tool::new("chmod").args(["--recursive", "u=rwX,go=rX"]).args([to]).run();
    }
    builder
}

fn build(builder: &Builder, way: Way, registry: &Registry, name: &str) -> Walls {
    builder.new_build();
    let mut walls = Walls { outside: Duration::ZERO, inside: Duration::ZERO };
    for executable in ["analyzer", "detector", "restorer", "builder", "exporter"] {
        let is_inside = ["detector", "builder"].contains(&executable);
        let phase = match way {
            Way::Native | Way::Cross | Way::Emulated => builder.phase(executable),
            Way::Hybrid if is_inside => builder.phase(executable),
            Way::Hybrid => builder.phase_of_other(executable),
            Way::Reference => builder.phase_in("/reference", executable),
        };
        let mut phase = phase.env("CNB_REGISTRY_AUTH", "{}");
        if way == Way::Reference {
            phase = if executable == "exporter" { phase.flag("launcher", "/reference/launcher") } else { phase };
        } else {
            phase = phase.env("CNB_EXPERIMENTAL_MODE", "quiet").env("CNB_BUILD_TARGET_ARCH", way.target().name());
        }
        if executable == "analyzer" {
            phase = phase.flag("run-image", registry.image(way.target().name()));
        }
        if ["analyzer", "exporter"].contains(&executable) {
            phase = phase.arg(registry.image(name));
        }
        let begin = Instant::now();
        phase.run().succeeds();
        *(if is_inside { &mut walls.inside } else { &mut walls.outside }) += begin.elapsed();
    }
    walls
}

/// Where the other lifecycle's executables for the other architecture are.
pub fn reference() -> Option<PathBuf> {
    std::env::var_os("LIFECYCLE_REFERENCE_OTHER_DIR").map(PathBuf::from)
}

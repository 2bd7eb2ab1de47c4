//! `io.buildpacks.build.metadata`: who built the app image, and what it can start (platform.md, *Labels*).

use serde::Serialize;

use crate::api::PlatformApi;
use crate::group::GroupElement;
use crate::launch::{BomEntry, Command};
use crate::metadata::{Metadata, Process};
use crate::text::to_go_json;

/// What the label is made of.
///
/// ```
/// use platform_spec::{api::PlatformApi, label::{BuildMetadata, Launcher}, metadata::Metadata};
/// let label = BuildMetadata { metadata: &Metadata::default(), launcher: &Launcher::default() };
/// let api = PlatformApi::parse(Some("0.12")).unwrap();
/// assert_eq!(
///     label.to_json(api),
///     r#"{"buildpacks":null,"launcher":{"version":"","source":{"git":{"repository":"","commit":""}}},"processes":[]}"#
/// );
/// ```
#[derive(Clone, Copy, Debug)]
pub struct BuildMetadata<'a> {
    /// `metadata.toml`.
    pub metadata: &'a Metadata,
    /// The launcher in the image.
    pub launcher: &'a Launcher,
}

/// The launcher in an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Launcher {
    /// Its version: the same text as in `lifecycle.toml` (platforms compare them).
    pub version: String,
    /// Where it is from.
    pub source: Source,
}

/// Where a launcher is from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Source {
    /// In git.
    pub git: Git,
}

/// A state of a git repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Git {
    /// Its name: `github.com/example/lifecycle`.
    pub repository: String,
    /// The commit.
    pub commit: String,
}

impl BuildMetadata<'_> {
    /// The label as `api` has it: below 0.9 with `bom`, below 0.10 with commands of one string.
    pub fn to_json(self, api: PlatformApi) -> String {
        // Destructured, so that a new field does not get lost. Labels and slices are not in it.
        let Metadata { bom, buildpacks, extensions, labels: _, processes, slices: _, buildpack_default_process_type } =
            self.metadata;
        to_go_json(&Label {
            // There, but `null` where there is none; not there at all later.
            bom: (!api.drops_legacy_bom()).then_some((!bom.is_empty()).then_some(bom)),
            buildpacks: (!buildpacks.is_empty()).then(|| buildpacks.iter().map(Module::from).collect()),
            extensions: extensions.iter().map(Module::from).collect(),
            launcher: self.launcher,
            processes: processes.iter().map(|process| LabelProcess::from(process.for_platform(api))).collect(),
            buildpack_default_process_type,
        })
    }
}

#[derive(Serialize)]
struct Label<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    bom: Option<Option<&'a [BomEntry]>>,
    buildpacks: Option<Vec<Module<'a>>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    extensions: Vec<Module<'a>>,
    launcher: &'a Launcher,
    processes: Vec<LabelProcess>,
    #[serde(rename = "buildpack-default-process-type", skip_serializing_if = "str::is_empty")]
    buildpack_default_process_type: &'a str,
}

/// A buildpack or extension. The specification has its `api` too, which the reference leaves out.
#[derive(Serialize)]
struct Module<'a> {
    id: &'a str,
    version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    homepage: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    optional: bool,
}

impl<'a> From<&'a GroupElement> for Module<'a> {
    fn from(element: &'a GroupElement) -> Self {
        Self {
            id: element.id.as_str(),
            version: element.version.as_str(),
            homepage: &element.homepage,
            optional: element.optional,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct LabelProcess {
    r#type: String,
    command: Command,
    args: Option<Vec<String>>,
    direct: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    default: bool,
    #[serde(rename = "buildpackID")]
    buildpack_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    working_dir: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exec_env: Vec<String>,
}

impl From<Process> for LabelProcess {
    fn from(process: Process) -> Self {
        let Process { kind, command, args, direct, default, buildpack_id, working_dir, exec_env } = process;
        Self { r#type: kind.into(), command, args, direct, default, buildpack_id, working_dir, exec_env }
    }
}

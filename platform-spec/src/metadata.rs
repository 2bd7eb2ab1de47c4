//! `<layers>/config/metadata.toml`: what the builder tells the exporter and the launcher (platform.md, *metadata.toml*).
//!
//! The file is inside a layer of the app image, so its bytes decide a diffID: [`Metadata::to_toml`] writes them as the
//! reference does, by Platform API. What a Platform API cannot say is changed in [`Process::for_platform`].
//!
//! ```
//! use platform_spec::{metadata::Metadata, text::from_toml};
//! let metadata: Metadata = from_toml(r#"
//! buildpack-default-process-type = "web"
//! [[buildpacks]]
//! id = "example/ruby"
//! version = "1.2.3"
//! api = "0.12"
//! [[processes]]
//! type = "web"
//! command = ["rackup"]
//! args = ["-p", "8080"]
//! direct = true
//! [[slices]]
//! paths = ["assets/*"]
//! "#).unwrap();
//! assert_eq!(metadata.processes[0].command.entries(), ["rackup"]);
//! ```

use serde::{Deserialize, Serialize, Serializer};

use crate::api::PlatformApi;
use crate::group::GroupElement;
use crate::launch::{BomEntry, Command, Label, Slice};
use crate::name::ProcessType;
use crate::text::{self, JsonQuoted};

/// `metadata.toml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Metadata {
    /// Deprecated unstructured bill of materials (Platform API below 0.9).
    #[serde(default)]
    pub bom: Vec<BomEntry>,
    /// The buildpacks that built the app.
    #[serde(default)]
    pub buildpacks: Vec<GroupElement>,
    /// The extensions that took part.
    #[serde(default)]
    pub extensions: Vec<GroupElement>,
    /// Labels of the app image.
    #[serde(default)]
    pub labels: Vec<Label>,
    /// Processes, sorted by type.
    #[serde(default)]
    pub processes: Vec<Process>,
    /// Slices of the app directory.
    #[serde(default)]
    pub slices: Vec<Slice>,
    /// The default process type that a buildpack chose; empty if none did.
    #[serde(default, rename = "buildpack-default-process-type")]
    pub buildpack_default_process_type: String,
}

/// `[[processes]]` of `metadata.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Process {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: ProcessType,
    /// Its command.
    pub command: Command,
    /// Its arguments; `None` if the key is missing.
    #[serde(default)]
    pub args: Option<Vec<String>>,
    /// Whether it is started without a shell.
    #[serde(default)]
    pub direct: bool,
    /// Whether it is the default. (The builder clears it: the default is a key of its own.)
    #[serde(default)]
    pub default: bool,
    /// The buildpack that defined it.
    #[serde(default, rename = "buildpack-id")]
    pub buildpack_id: String,
    /// Directory in which it is started; empty is the app directory.
    #[serde(default, rename = "working-dir")]
    pub working_dir: String,
    /// Execution environments that it is for; empty is all.
    #[serde(default, rename = "exec-env")]
    pub exec_env: Vec<String>,
}

impl Process {
    /// The process as `api` says it: a command is a list from 0.10 on; before, it is one string, and what follows it
    /// goes before the arguments.
    #[must_use]
    pub fn for_platform(&self, api: PlatformApi) -> Self {
        let mut process = self.clone();
        let entries = self.command.entries();
        if api.has_command_array() {
            process.command = Command::List(entries.to_vec());
        } else {
            let mut entries = entries.iter().cloned();
            process.command = Command::One(entries.next().unwrap_or_default());
            process.args = Some(entries.chain(self.args.iter().flatten().cloned()).collect());
        }
        process
    }
}

impl Metadata {
    /// The bytes of `metadata.toml` at `api`.
    pub fn to_toml(&self, api: PlatformApi) -> String {
        // Destructured, so that a new field does not get lost.
        let Self { bom, buildpacks, extensions, labels, processes, slices, buildpack_default_process_type } = self;
        text::to_toml(&File {
            bom: if api.drops_legacy_bom() { &[] } else { bom },
            buildpacks,
            extensions,
            labels,
            processes: processes.iter().map(|process| FileProcess(process.for_platform(api))).collect(),
            slices,
            buildpack_default_process_type,
        })
    }
}

/// The file as it is written: empty lists are left out, but for that of the processes.
#[derive(Serialize)]
struct File<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    bom: &'a [BomEntry],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    buildpacks: &'a [GroupElement],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    extensions: &'a [GroupElement],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    labels: &'a [Label],
    processes: Vec<FileProcess>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    slices: &'a [Slice],
    #[serde(rename = "buildpack-default-process-type", skip_serializing_if = "str::is_empty")]
    buildpack_default_process_type: &'a str,
}

struct FileProcess(Process);

impl Serialize for FileProcess {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "kebab-case")]
        struct Fields<'a> {
            r#type: &'a ProcessType,
            command: Quoted<'a>,
            args: &'a Option<Vec<String>>,
            direct: bool,
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            default: bool,
            buildpack_id: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            working_dir: &'a str,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            exec_env: &'a [String],
        }
        let Process { kind, command, args, direct, default, buildpack_id, working_dir, exec_env } = &self.0;
        Fields {
            r#type: kind,
            command: Quoted(command),
            args,
            direct: *direct,
            default: *default,
            buildpack_id,
            working_dir,
            exec_env,
        }
        .serialize(serializer)
    }
}

/// A command goes through JSON in the reference, and so `<`, `>` and `&` are escaped in it, and nowhere else in the file.
struct Quoted<'a>(&'a Command);

impl Serialize for Quoted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Command::One(text) => JsonQuoted(text).serialize(serializer),
            Command::List(list) => serializer.collect_seq(list.iter().map(|text| JsonQuoted(text))),
        }
    }
}

#[cfg(test)]
mod tests;

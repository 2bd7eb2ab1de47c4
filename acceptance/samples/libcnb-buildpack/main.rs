//! A buildpack written with the `libcnb` framework: it reads and writes the Buildpack API's files by itself, as others
//! understand them. One executable is `bin/detect`, `bin/build`, and an exec.d program.

use std::path::PathBuf;

use libcnb::build::{BuildContext, BuildResult, BuildResultBuilder};
use libcnb::data::build_plan::BuildPlanBuilder;
use libcnb::data::exec_d::ExecDProgramOutputKey;
use libcnb::data::launch::{LaunchBuilder, ProcessBuilder};
use libcnb::data::sbom::SbomFormat;
use libcnb::data::store::Store;
use libcnb::data::{layer_name, process_type};
use libcnb::detect::{DetectContext, DetectResult, DetectResultBuilder};
use libcnb::exec_d::write_exec_d_program_output;
use libcnb::generic::{GenericMetadata, GenericPlatform};
use libcnb::layer::{
    CachedLayerDefinition, InvalidMetadataAction, LayerState, RestoredLayerAction, UncachedLayerDefinition,
};
use libcnb::layer_env::{LayerEnv, ModificationBehavior, Scope};
use libcnb::sbom::Sbom;
use libcnb::{Buildpack, Error, Platform as _};
use serde::{Deserialize, Serialize};

struct Sample;

/// What is remembered of the layer from build to build.
#[derive(Debug, Deserialize, Serialize)]
struct Metadata {
    made_for: String,
}

/// In between the number is in JSON, from which some lifecycles read every number as a float.
fn number(value: &toml::Value) -> Option<i64> {
    value.as_integer().or_else(|| value.as_float()?.to_string().parse().ok())
}

impl Buildpack for Sample {
    type Platform = GenericPlatform;
    type Metadata = GenericMetadata;
    type Error = std::io::Error;

    fn detect(&self, context: DetectContext<Self>) -> libcnb::Result<DetectResult, Self::Error> {
        if !context.app_dir.join("libcnb.txt").exists() {
            return DetectResultBuilder::fail().build();
        }
        DetectResultBuilder::pass()
            .build_plan(BuildPlanBuilder::new().provides("libcnb").requires("libcnb").build())
            .build()
    }

    #[expect(clippy::print_stdout, reason = "a buildpack says what it does on stdout")]
    fn build(&self, context: BuildContext<Self>) -> libcnb::Result<BuildResult, Self::Error> {
        let builds = context.store.as_ref().and_then(|store| number(store.metadata.get("builds")?)).unwrap_or(0);
        println!("---> libcnb, build {} for {}", builds + 1, context.target.arch);
        for entry in &context.buildpack_plan.entries {
            println!("     plan: {}", entry.name);
        }
        if let Some(value) = context.platform.env().get("FROM_PLATFORM") {
            println!("     platform: {}", value.to_string_lossy());
        }

        let arch = context.target.arch.clone();
        let tool = context.cached_layer(
            layer_name!("tool"),
            CachedLayerDefinition {
                build: true,
                launch: true,
                invalid_metadata_action: &|_| InvalidMetadataAction::DeleteLayer,
                restored_layer_action: &|metadata: &Metadata, _| {
                    if metadata.made_for == arch {
                        RestoredLayerAction::KeepLayer
                    } else {
                        RestoredLayerAction::DeleteLayer
                    }
                },
            },
        )?;
        match &tool.state {
            LayerState::Restored { .. } => println!("     tool: restored"),
            LayerState::Empty { .. } => {
                println!("     tool: made");
                std::fs::create_dir(tool.path().join("bin")).map_err(Error::BuildpackError)?;
                std::fs::write(tool.path().join("bin/tool"), "#!/bin/sh\necho tool\n")
                    .map_err(Error::BuildpackError)?;
                tool.write_metadata(Metadata { made_for: context.target.arch.clone() })?;
                tool.write_env(
                    LayerEnv::new()
                        .chainable_insert(Scope::All, ModificationBehavior::Prepend, "TOOL_PATH", "first")
                        .chainable_insert(Scope::All, ModificationBehavior::Delimiter, "TOOL_PATH", ":")
                        .chainable_insert(Scope::Launch, ModificationBehavior::Override, "TOOL_LAUNCH", "launch")
                        .chainable_insert(
                            Scope::Process("show".to_owned()),
                            ModificationBehavior::Default,
                            "TOOL_PROCESS",
                            "show",
                        ),
                )?;
                let program: PathBuf = context.buildpack_dir.join("bin/exec.d");
                tool.write_exec_d_programs([("variables", program)])?;
                tool.write_sboms(&[
                    Sbom::from_bytes(SbomFormat::CycloneDxJson, *br#"{"bomFormat":"CycloneDX","of":"tool"}"#),
                    Sbom::from_bytes(SbomFormat::SyftJson, *br#"{"of":"tool"}"#),
                ])?;
            }
        }

        let uncached =
            context.uncached_layer(layer_name!("notes"), UncachedLayerDefinition { build: false, launch: true })?;
        std::fs::write(uncached.path().join("note"), "of this build").map_err(Error::BuildpackError)?;

        let mut metadata = toml::Table::new();
        metadata.insert("builds".to_owned(), toml::Value::Integer(builds + 1));
        let show = "echo \"$TOOL_PATH $TOOL_LAUNCH $TOOL_PROCESS $FROM_EXEC_D $0 $*\"";
        BuildResultBuilder::new()
            .store(Store { metadata })
            .launch(
                LaunchBuilder::new()
                    .process(
                        ProcessBuilder::new(process_type!("show"), ["sh", "-c", show])
                            .arg("zero")
                            .default(true)
                            .build(),
                    )
                    .label(libcnb::data::launch::Label { key: "made.with".to_owned(), value: "libcnb".to_owned() })
                    .build(),
            )
            .launch_sbom(Sbom::from_bytes(SbomFormat::SpdxJson, *br#"{"spdxVersion":"SPDX-2.3"}"#))
            .build_sbom(Sbom::from_bytes(SbomFormat::SpdxJson, *br#"{"spdxVersion":"SPDX-2.3"}"#))
            .build()
    }
}

fn main() {
    let program = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    if program.parent().is_some_and(|parent| parent.ends_with("exec.d")) {
        let key: ExecDProgramOutputKey = "FROM_EXEC_D".parse().expect("a name");
        write_exec_d_program_output(std::collections::HashMap::from([(key, "exec.d".to_owned())]));
    } else {
        libcnb::libcnb_runtime(&Sample);
    }
}

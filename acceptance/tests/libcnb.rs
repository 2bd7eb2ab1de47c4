//! A buildpack that was written with somebody else's framework, through two builds.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use acceptance::image::{self, Format};
use acceptance::{Architecture, Outcome, Phase, Project, Registry, USER, samples};

/// Where cargo leaves the sample, beside the directory of this test.
fn executable() -> PathBuf {
    let test = std::env::current_exe().expect("this test");
    let built = test.parent().and_then(Path::parent).expect("a target directory").join("examples/libcnb-buildpack");
    assert!(
        built.exists(),
        "{} is missing: `cargo test --workspace` or `cargo build --examples` makes it",
        built.display()
    );
    built
}

fn project() -> Project {
    let project = Project::empty();
    project.copy_buildpack(&samples("libcnb-buildpack"), "samples/libcnb", "3.0.0");
    let bin = project.path("buildpacks/samples_libcnb/3.0.0/bin");
    fs::create_dir(&bin).expect("created");
    for name in ["detect", "build", "exec.d"] {
        fs::copy(executable(), bin.join(name)).expect("copied");
    }
    project.write("app/libcnb.txt", "");
    project.write("platform/env/FROM_PLATFORM", "platform");
    project.order(&[&["samples/libcnb@3.0.0"]]);
    project
}

fn launched(project: &Project, entry_point: &str) -> String {
    // The sample needs a libc, which the run image has not: the launcher runs where the build was.
    let link = project.path(entry_point);
    if !link.exists() {
        std::os::unix::fs::symlink(project.lifecycle().directory().join("launcher"), &link).expect("linked");
    }
    let mut command = project
        .lifecycle()
        .phase("launcher")
        .env("CNB_LAYERS_DIR", project.path("layers"))
        .env("CNB_APP_DIR", project.path("app"))
        .arg("user")
        .command();
    std::os::unix::process::CommandExt::arg0(&mut command, &link);
    let output = command.output().expect("started");
    Outcome::new(format!("{command:?}"), &output).succeeds().stdout
}

#[test]
fn its_files_are_understood_and_it_understands_ours() {
    let registry = Registry::start();
    let run_image = image::push_run_image(&registry, "run", Format::Oci);
    let project = project();
    let app = registry.image("app");
    let phase = |name: &str| -> Phase {
        let phase = project.phase(name);
        if ["restorer", "exporter"].contains(&name) { phase.flag("cache-dir", project.path("cache")) } else { phase }
    };
    let build = || {
        phase("analyzer").flag("run-image", &run_image).arg(&app).run().succeeds();
        phase("detector").run().succeeds().says("samples/libcnb 3.0.0");
        phase("restorer").run().succeeds();
        let built = phase("builder").run().succeeds();
        phase("exporter").arg(&app).run().succeeds();
        built.stdout
    };

    let first = build();
    let here = Architecture::HERE.name();
    let made =
        format!("---> libcnb, build 1 for {here}\n     plan: libcnb\n     platform: platform\n     tool: made\n");
    assert!(first.contains(&made), "{first}");
    let layers = "layers/samples_libcnb";
    let boms = [
        "layers/sbom/launch/samples_libcnb/tool/sbom.cdx.json",
        "layers/sbom/launch/samples_libcnb/tool/sbom.syft.json",
    ];
    for bom in boms.into_iter().chain(["layers/sbom/launch/samples_libcnb/sbom.spdx.json"]) {
        assert!(project.path(bom).exists(), "{bom}");
    }
    assert_eq!(launched(&project, "show"), "first launch show exec.d user \n");
    let image = image::inspect(&registry, &app);
    assert_eq!(image.label("made.with"), "libcnb");
    assert_eq!(image.config["config"]["Entrypoint"], serde_json::json!(["/cnb/process/show"]));

    let mode = fs::metadata(project.path(layers).join("tool/exec.d/variables")).expect("there").permissions().mode();
    project.new_layers();
    let second = build();
    let restored =
        format!("---> libcnb, build 2 for {here}\n     plan: libcnb\n     platform: platform\n     tool: restored\n");
    assert!(second.contains(&restored), "{second}");
    let program = fs::metadata(project.path(layers).join("tool/exec.d/variables")).expect("restored");
    assert_eq!(program.permissions().mode(), mode);
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&program), USER);
    for bom in boms {
        assert!(project.path(bom).exists(), "{bom} is restored and written again");
    }
    assert_eq!(launched(&project, "show"), "first launch show exec.d user \n");
}

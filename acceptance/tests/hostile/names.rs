//! Names that would lead elsewhere, and versions of APIs that cannot be used.

use acceptance::{Build, Project};

use super::fails;

/// The phases that read `group.toml`.
const PHASES: [&str; 3] = ["restorer", "builder", "exporter"];

fn element(kind: &str, id: &str, version: &str, api: &str) -> String {
    format!("[[{kind}]]\nid = {id:?}\nversion = {version:?}\n{api}\n")
}

#[test]
fn apis_of_a_group_that_cannot_be_used() {
    let build = Build::of(Project::web());
    build.five("app");
    let group = build.project.read("layers/group.toml");
    for phase in PHASES {
        for (api, says) in [
            ("api = '0.99'", "buildpack API version '0.99' is incompatible with the lifecycle"),
            ("api = '0.1'", "buildpack API version '0.1' is incompatible with the lifecycle"),
            ("api = 'x'", "parse buildpack API 'x' for "),
            ("api = ''", "parse buildpack API '<nil>' for "),
            ("", "parse buildpack API '<nil>' for "),
        ] {
            let bad = element("group", "samples/other", "1", api);
            build.project.write("layers/group.toml", format!("{group}{bad}"));
            let outcome = fails(&build, build.phase_for(phase, "app"), 12, says);
            outcome.says("'samples/other@1'");
        }
    }
    for phase in ["restorer", "exporter"] {
        let bad = element("group-extensions", "samples/other", "1", "api = 'x'");
        build.project.write("layers/group.toml", format!("{group}{bad}"));
        fails(&build, build.phase_for(phase, "app"), 12, "parse buildpack API 'x' for extension 'samples/other@1'");
    }
}

#[test]
fn ids_and_versions_that_lead_elsewhere() {
    let build = Build::of(Project::web());
    build.five("app");
    let (group, order) = (build.project.read("layers/group.toml"), build.project.read("order.toml"));
    for (id, version, says) in [
        ("..", "1", "invalid buildpack id"),
        ("../../app", "1", "invalid buildpack id"),
        ("/etc", "1", "invalid buildpack id"),
        ("a/../../b", "1", "invalid buildpack id"),
        ("", "1", "invalid buildpack id"),
        ("config", "1", "invalid buildpack id"),
        ("a\0b", "1", "invalid buildpack id"),
        ("a", "..", "invalid version"),
        ("a", "../../samples_site/0.1.0", "invalid version"),
        ("a", "/etc", "invalid version"),
        ("a", "", "invalid version"),
    ] {
        // TOML writes a NUL byte otherwise than Rust.
        let toml = |text: String| text.replace("\\0", "\\u0000");
        let bad = toml(element("group", id, version, "api = '0.10'"));
        build.project.write("layers/group.toml", format!("{group}{bad}"));
        for phase in PHASES {
            let outcome = fails(&build, build.phase_for(phase, "app"), 1, "layers/group.toml: line ");
            // Phases that may hold credentials quote nothing of the file.
            assert!(phase == "builder" || outcome.stderr.contains("invalid"), "{outcome:?}");
        }
        build.project.write("layers/group.toml", &group);
        let bad = toml(element("order.group", id, version, ""));
        build.project.write("order.toml", format!("{order}{bad}"));
        fails(&build, build.phase("detector"), 1, says);
        build.project.write("order.toml", &order);
    }
}

const TYPES: [(&str, &str); 6] = [
    (".", "'.' and '..' are not allowed"),
    ("..", "'.' and '..' are not allowed"),
    ("a/b", "none of / > < : | & \\ is allowed"),
    ("/etc/passwd", "none of / > < : | & \\ is allowed"),
    ("../../bin/sh", "none of / > < : | & \\ is allowed"),
    ("", "it is empty"),
];

fn launch(name: &str) -> String {
    format!("[[processes]]\ntype = {name:?}\ncommand = ['x']\n")
}

#[test]
fn process_types_of_buildpacks_that_lead_elsewhere() {
    let project = Project::empty();
    project.write("layers/group.toml", element("group", "test/types", "1", "api = '0.10'"));
    project.write("layers/plan.toml", "");
    project.write("layers/analyzed.toml", "");
    for (name, says) in TYPES {
        let script = format!("cat > \"$CNB_LAYERS_DIR/launch.toml\" <<'TOML'\n{}TOML", launch(name));
        project.shell_buildpack("0.10", "test/types", "1", "", "exit 0", &script);
        let outcome = project.phase("builder").run().ends_with(52);
        outcome.says("/layers/test_types/launch.toml: invalid process type").says(says);
        assert!(!project.path("layers/config/metadata.toml").exists());
    }
}

#[test]
fn process_types_that_lead_out_of_the_directory_of_entry_points() {
    let build = Build::of(Project::web());
    build.five("app");
    let metadata = build.project.read("layers/config/metadata.toml");
    for (name, _) in TYPES {
        build.project.write("layers/config/metadata.toml", launch(name));
        fails(&build, build.phase_for("exporter", "app"), 62, "layers/config/metadata.toml: line 2");
        build.project.write("layers/config/metadata.toml", &metadata);
        if !name.is_empty() {
            let exporter = build.phase("exporter").flag("process-type", name).arg(build.registry.image("app"));
            fails(&build, exporter, 62, &format!("tried to set {name} to default but it doesn't exist"));
        }
    }
}

//! TOML files that are missing, empty, malformed, of the wrong types, not UTF-8, or no files at all.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use acceptance::{Build, Outcome, Phase, Project};

use super::existing;

/// A file that a phase reads.
struct File {
    /// The executable, perhaps with a Platform API.
    phase: &'static str,
    path: &'static str,
    /// Content in which a value has the wrong type, and its key.
    wrong: &'static str,
    key: &'static str,
    /// The exit status for a file that cannot be read or understood.
    code: i32,
    /// The exit status where there is none, and where it is empty.
    missing: i32,
    empty: i32,
}

const fn file(
    phase: &'static str,
    path: &'static str,
    (wrong, key): (&'static str, &'static str),
    code: i32,
    missing: i32,
    empty: i32,
) -> File {
    File { phase, path, wrong, key, code, missing, empty }
}

const GROUP: (&str, &str) = ("[[group]]\nid = 7\nversion = '1'\n", "id");
const ANALYZED: (&str, &str) = ("[run-image]\nreference = ['x']\n", "reference");
const RUN: (&str, &str) = ("[[images]]\nimage = 7\n", "image");

/// Every file that a phase reads, but those that only a buildpack writes.
const FILES: &[File] = &[
    file("analyzer", "run.toml", RUN, 3, 3, 3),
    file("analyzer@0.11", "stack.toml", ("[run-image]\nimage = 7\n", "image"), 3, 3, 3),
    file("detector", "order.toml", ("[[order]]\ngroup = 'x'\n", "group"), 1, 1, 20),
    file("detector", "system.toml", ("[system]\npre = 'x'\n", "pre"), 1, 0, 0),
    file("detector", "layers/analyzed.toml", ANALYZED, 1, 0, 0),
    file("detector", "buildpacks/samples_site/0.1.0/buildpack.toml", ("api = 7\n", "api"), 1, 1, 1),
    file("detector", "extensions/samples_tool/1/extension.toml", ("[extension]\nid = 7\n", "id"), 1, 1, 1),
    file("restorer", "layers/group.toml", GROUP, 1, 1, 0),
    file("restorer", "layers/analyzed.toml", ANALYZED, 0, 0, 0),
    file("restorer", "run.toml", RUN, 3, 0, 0),
    file("builder", "layers/group.toml", GROUP, 1, 1, 0),
    file("builder", "layers/plan.toml", ("entries = 'x'\n", "entries"), 1, 1, 0),
    file("builder", "layers/analyzed.toml", ANALYZED, 1, 0, 0),
    file("builder", "buildpacks/samples_site/0.1.0/buildpack.toml", ("[buildpack]\nid = 7\n", "id"), 52, 52, 52),
    file("exporter", "layers/group.toml", GROUP, 1, 1, 0),
    file("exporter", "layers/analyzed.toml", ANALYZED, 1, 1, 62),
    file("exporter", "layers/project-metadata.toml", ("[source]\ntype = 7\n", "type"), 1, 0, 0),
    file("exporter", "run.toml", RUN, 3, 0, 0),
    file("exporter", "layers/config/metadata.toml", ("[[processes]]\ntype = 7\n", "type"), 62, 62, 0),
    file("exporter", "layers/samples_site/settings.toml", ("[types]\nlaunch = 'yes'\n", "launch"), 62, 0, 0),
    file("exporter", "layers/samples_site/store.toml", ("metadata = 7\n", "metadata"), 62, 0, 0),
    file("exporter", "layers/samples_site/launch.toml", ("processes = 7\n", "processes"), 0, 0, 0),
    file("exporter@0.8", "layers/samples_site/build.toml", ("bom = 7\n", "bom"), 62, 0, 0),
    file("launcher", "layers/config/metadata.toml", ("[[processes]]\ntype = 7\n", "type"), 82, 82, 0),
];

/// A build, before its export.
fn built() -> Build {
    let build = Build::of(Project::web());
    build.project.write("system.toml", "");
    build.project.write("run.toml", format!("[[images]]\nimage = \"{}\"\n", build.run_image));
    build.project.write("stack.toml", format!("[run-image]\nimage = \"{}\"\n", build.run_image));
    build.five("app");
    let extension = "api = '0.10'\n[extension]\nid = 'samples/tool'\nversion = '1'\n";
    build.project.write("extensions/samples_tool/1/extension.toml", extension);
    let order = build.project.read("order.toml");
    let extensions = "[[order-extensions]]\n[[order-extensions.group]]\nid = 'samples/tool'\nversion = '1'\n";
    build.project.write("order.toml", format!("{order}{extensions}"));
    build
}

fn phase(build: &Build, name: &str) -> Phase {
    let (name, api) = name.split_once('@').unwrap_or((name, "0.15"));
    let path = |name: &str| build.project.path(name);
    let phase = match name {
        // Without a run image on the line, it is looked for in run.toml.
        "analyzer" => build.project.phase(name).arg(build.registry.image("app")),
        "detector" => build.phase(name).flag("system", path("system.toml")).flag("extensions", path("extensions")),
        "launcher" => {
            let launcher = build.project.lifecycle().phase(name).arg("true");
            launcher.env("CNB_LAYERS_DIR", path("layers")).env("CNB_APP_DIR", path("app"))
        }
        _ => build.phase_for(name, "app"),
    };
    let phase = phase.env("CNB_RUN_PATH", path("run.toml")).env("CNB_STACK_PATH", path("stack.toml"));
    phase.api(api).env("CNB_NO_COLOR", "1")
}

#[test]
fn files_that_cannot_be_used() {
    let build = built();
    let mut wrong = Vec::new();
    for file in FILES {
        let path = build.project.path(file.path);
        let original = fs::read(&path).ok();
        let mut check = |what: &str, code: i32, says: &[&str]| {
            let before = existing(&build);
            let outcome: Outcome = phase(&build, file.phase).run();
            let mut bad = Vec::new();
            if outcome.code != code {
                bad.push(format!("exit status {}, not {code}", outcome.code));
            }
            if code != 0 {
                let error = outcome.stderr.lines().find(|line| line.contains("ERROR: ")).unwrap_or_default();
                bad.extend(says.iter().filter(|text| !error.contains(**text)).map(|text| format!("no {text:?}")));
                if before != existing(&build) {
                    bad.push("something changed".to_owned());
                }
            }
            if !bad.is_empty() {
                wrong.push(format!("{} with {} {what}: {}: {}", file.phase, file.path, bad.join(", "), outcome.stderr));
            }
        };
        let shown = path.display().to_string();
        let text = |content: &[u8]| {
            let _ = fs::remove_file(&path);
            let _ = fs::remove_dir(&path);
            build.project.write(file.path, content);
        };
        text(b"x = 1\ny = ");
        check("malformed", file.code, &[&shown, "line 2"]);
        text(file.wrong.as_bytes());
        check("of the wrong type", file.code, &[&shown, file.key, "expected"]);
        text(b"x = 1\n\ny = '\xff'\n");
        check("not UTF-8", file.code, &[&shown, "line 3: not UTF-8"]);
        text(b"");
        check("empty", file.empty, &[]);
        fs::set_permissions(&path, Permissions::from_mode(0o0)).expect("set");
        check("unreadable", file.code, &[&shown, "permission denied"]);
        fs::remove_file(&path).expect("removed");
        let runs = ["run.toml", "stack.toml"].contains(&file.path);
        let says = if runs { ["-run-image", "failed to resolve inputs"] } else { [shown.as_str(), "no such file"] };
        check("missing", file.missing, &says);
        // The phase may have made it anew.
        let _ = fs::remove_file(&path);
        fs::create_dir(&path).expect("made");
        check("a directory", file.code, &[&shown]);
        fs::remove_dir(&path).expect("removed");
        if let Some(original) = original {
            text(&original);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

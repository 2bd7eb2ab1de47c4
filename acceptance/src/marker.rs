//! A buildpack whose layers say for which target they were made, and on which machine, and which says what it finds.

use crate::architecture::Architecture;
use crate::project::Project;

/// Its `bin/build`. Layers: `both` in the app image and in the cache, `tools` in the cache only, `app` in the app image
/// only.
pub const BUILD: &str = r#"#!/usr/bin/env bash
set -eu
for layer in both tools app; do
    if [[ -e $CNB_LAYERS_DIR/$layer/made ]]; then echo "FOUND $layer $(cat "$CNB_LAYERS_DIR/$layer/made")"; fi
    mkdir -p "$CNB_LAYERS_DIR/$layer"
    echo "for ${CNB_TARGET_ARCH:-none} on $(uname -m)" > "$CNB_LAYERS_DIR/$layer/made"
done
printf '[types]\nlaunch = true\ncache = true\n' > "$CNB_LAYERS_DIR/both.toml"
printf '[types]\nbuild = true\ncache = true\n' > "$CNB_LAYERS_DIR/tools.toml"
printf '[types]\nlaunch = true\n' > "$CNB_LAYERS_DIR/app.toml"
printf '[[processes]]\ntype = "web"\ncommand = ["/bin/sh"]\n' > "$CNB_LAYERS_DIR/launch.toml"
"#;

/// Puts the buildpack into a project, as `test/marker@1`; it can build for both architectures on both. `more` is shell code,
/// run at the end of its `bin/build`.
pub fn add(project: &Project, more: &str) {
    let targets = [Architecture::HERE, Architecture::OTHER].map(|architecture| {
        format!("[[targets]]\nos = \"linux\"\narch = \"{}\"\nbuild-arch = [\"*\"]\n", architecture.name())
    });
    project.shell_buildpack("0.10", "test/marker", "1", &targets.concat(), "true", &format!("{BUILD}{more}"));
}

/// What is in a layer that was made for a target, an architecture of images, on a machine: `for arm64 on x86_64`.
pub fn text(target: &str, machine: Architecture) -> String {
    format!("for {target} on {}", machine.machine())
}

/// What a builder's output says was found of layers with contents: `both for arm64 on x86_64`.
pub fn found(stdout: &str) -> Vec<String> {
    stdout.lines().filter_map(|line| line.strip_prefix("FOUND ")).map(str::to_owned).collect()
}

/// What is found of such layers where the cache has all of them.
pub fn cached(target: &str, machine: Architecture) -> Vec<String> {
    ["both", "tools"].map(|layer| format!("{layer} {}", text(target, machine))).to_vec()
}

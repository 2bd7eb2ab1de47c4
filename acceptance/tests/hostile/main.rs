//! Bad input, through the executables: each ends in an error that names what is wrong, with the exit status of the
//! specification, or is handled; and nothing that existed before is lost.

mod caches;
mod credentials;
mod files;
mod images;
mod names;
mod processes;
mod secrets;
mod toml;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use acceptance::snapshot::{changes, snapshot};
use acceptance::{Build, Outcome, Phase};

/// All that a failing phase has to leave as it is: layers, app, cache, and what the registry has under the app's name.
fn existing(build: &Build) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for name in ["layers", "cache", "app"] {
        all.extend(
            snapshot(&build.project.path(name)).into_iter().map(|(path, found)| (format!("{name}/{path}"), found)),
        );
    }
    let tags = build.registry.storage().join("docker/registry/v2/repositories/app/_manifests/tags");
    if tags.exists() {
        all.extend(snapshot(&tags).into_iter().map(|(path, found)| (format!("tags/{path}"), found)));
    }
    all
}

/// Runs a phase that has to fail and to leave everything as it is.
#[track_caller]
fn fails(build: &Build, phase: Phase, code: i32, says: &str) -> Outcome {
    let before = existing(build);
    let outcome = phase.env("CNB_NO_COLOR", "1").run().ends_with(code);
    let error = outcome.stderr.lines().find(|line| line.starts_with("ERROR: ")).unwrap_or_default();
    assert!(error.contains(says), "no {says:?} in {error:?}: {outcome:?}");
    assert_eq!(changes(&before, &existing(build)), [""; 0], "{outcome:?}");
    outcome
}

/// The paths of files beneath a directory in which the text is, plainly or compressed.
fn holding(directory: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() && !path.is_symlink() {
            left.extend(fs::read_dir(&path).expect("listed").map(|entry| entry.expect("an entry").path()));
        } else if path.is_file() {
            let mut bytes = fs::read(&path).expect("read");
            if bytes.starts_with(&[0x1f, 0x8b]) {
                let output =
                    Command::new("gzip").arg("-dc").arg(&path).stdin(fs::File::open(&path).expect("opened")).output();
                bytes = output.expect("gzip").stdout;
            }
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

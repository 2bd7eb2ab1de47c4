//! What buildpacks leave running does not see the phases that follow.

use acceptance::{Build, Project};

#[test]
fn what_detection_leaves_running_is_stopped_before_anything_is_built() {
    for executable in ["detector", "creator"] {
        let project = Project::empty();
        let file = |name: &str| project.path(name).display().to_string();
        let (left, seen) = (file("left"), file("seen"));
        // In a session of its own, and with nothing of ours open.
        let detect = format!("setsid sleep 300 < /dev/null > /dev/null 2>&1 &\necho $! > '{left}'");
        let build = format!("kill -0 $(cat '{left}') 2> /dev/null && echo lives > '{seen}' || echo gone > '{seen}'");
        project.shell_buildpack("0.10", "test/left", "1", "", &detect, &build);
        project.order(&[&["test/left@1"]]);
        let build = Build::of(project);
        let outcome = build.phase_for(executable, "app").run().succeeds();
        assert!(!build.project.still_runs("left"), "{outcome:?}");
        // It may not have become what it executes yet, and so be told by another name.
        let outcome = outcome.says(", which a buildpack left running");
        if executable == "creator" {
            assert_eq!(build.project.read("seen"), "gone\n", "{outcome:?}");
        }
    }
}

//! The command line and the environment, as platforms use them, through the executables.

use acceptance::{Lifecycle, Phase, Project};

const PHASES: [&str; 7] = ["analyzer", "detector", "restorer", "builder", "exporter", "creator", "rebaser"];

fn phase(executable: &str) -> Phase {
    Lifecycle::under_test().phase(executable)
}

/// Whether the executables are the reference's: it prints everything on stdout.
fn prints_errors_on_stdout() -> bool {
    let outcome = phase("detector").api("0.1").run();
    outcome.stdout.contains("ERROR: ")
}

#[test]
fn the_version_is_printed_on_stdout() {
    let version = phase("lifecycle").without("CNB_PLATFORM_API").arg("-version").run().succeeds().stdout;
    let number = version.trim().split('+').next().unwrap_or_default();
    assert!(number.split('.').filter(|part| part.bytes().all(|b| b.is_ascii_digit())).count() == 3, "{version}");
    for executable in PHASES {
        for flag in ["-version", "--version", "-version=true"] {
            let outcome = phase(executable).args([flag, "-log-level=error"]).run().succeeds();
            assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), (version.as_str(), ""), "{executable}");
        }
    }
}

#[test]
fn the_platform_api_is_checked_before_anything_else() {
    for executable in PHASES {
        for line in [&["-version"] as &[&str], &["-h"], &["-no-such-flag"], &["too", "many", "arguments"], &[]] {
            phase(executable).without("CNB_PLATFORM_API").args(line).run().ends_with(11).says("CNB_PLATFORM_API");
            phase(executable).api("").args(line).run().ends_with(11).says("CNB_PLATFORM_API");
            phase(executable)
                .api("0.6")
                .args(line)
                .run()
                .ends_with(11)
                .says("failed to set platform API: platform API version '0.6' is incompatible with the lifecycle");
            phase(executable)
                .api("0.15.0")
                .args(line)
                .run()
                .ends_with(11)
                .says("failed to parse platform API '0.15.0'");
        }
    }
    phase("detector").api("v0.15").arg("-version").run().succeeds();
}

#[test]
fn a_line_that_cannot_be_read_is_answered_with_the_usage() {
    for executable in PHASES {
        for (line, says) in [
            (&["-no-such-flag"] as &[&str], "flag provided but not defined: -no-such-flag"),
            (&["-log-level"], "flag needs an argument: -log-level"),
            (&["-no-color=perhaps"], "invalid boolean value \"perhaps\" for -no-color"),
            (&["---x"], "bad flag syntax: ---x"),
        ] {
            let outcome = phase(executable).args(line).run().ends_with(2).says(says).says("sage");
            assert!(outcome.stderr.contains(says) && outcome.stdout.is_empty(), "{outcome:?}");
        }
        for flag in ["-h", "-help", "--help"] {
            phase(executable).arg(flag).run().succeeds().says("sage").says("-log-level");
        }
    }
    phase("analyzer").arg("-uid=root").run().ends_with(2).says("-uid");
}

/// What is not there must not look as if it were: an export without a daemon goes to a registry.
#[test]
fn a_daemon_is_refused_before_anything_is_written_or_sent() {
    for executable in ["analyzer", "restorer", "exporter", "creator", "rebaser"] {
        for by_flag in [true, false] {
            let dir = tempfile::tempdir().expect("a directory");
            let phase = phase(executable).env("CNB_LAYERS_DIR", dir.path());
            let phase = if by_flag { phase.arg("-daemon") } else { phase.env("CNB_USE_DAEMON", "true") };
            // Port 1: to send anything would be another error.
            let phase = if executable == "restorer" { phase } else { phase.arg("localhost:1/app") };
            phase.run().ends_with(3).says("daemon");
            assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0, "{executable}");
        }
    }
}

#[test]
fn flags_exist_from_their_platform_api_on() {
    for (executable, flag, from) in [
        ("analyzer", "-skip-layers", "0.9"),
        ("detector", "-generated=/x", "0.10"),
        ("restorer", "-build-image=x", "0.10"),
        ("builder", "-build-config=/x", "0.11"),
        ("exporter", "-launcher-sbom=/x", "0.11"),
        ("restorer", "-daemon", "0.12"),
        ("builder", "-analyzed=/x", "0.12"),
        ("creator", "-run=/x", "0.12"),
        ("exporter", "-insecure-registry=x", "0.13"),
        ("restorer", "-run=/x", "0.14"),
        ("creator", "-system=/x", "0.15"),
        ("rebaser", "-previous-image=x", "0.11"),
        ("rebaser", "-force", "0.12"),
        ("rebaser", "-insecure-registry=x", "0.13"),
    ] {
        let minor: u32 = from.trim_start_matches("0.").parse().expect("a minor version");
        // Too many arguments: nothing is done, and the line was read.
        let ends = |minor: u32| {
            let arguments = if ["exporter", "rebaser"].contains(&executable) { vec![] } else { vec!["too", "many"] };
            phase(executable).api(&format!("0.{minor}")).arg(flag).args(arguments).run()
        };
        ends(minor).ends_with(3).says("failed to parse arguments");
        ends(minor - 1).ends_with(2).says("flag provided but not defined");
    }
    phase("analyzer").api("0.11").args(["-stack=/x", "too", "many"]).run().ends_with(3);
    phase("analyzer").api("0.12").args(["-stack=/x", "too", "many"]).run().ends_with(2);
    phase("creator").api("0.15").args(["-stack=/x", "too", "many"]).run().ends_with(3);
}

#[test]
fn arguments_that_make_no_sense_end_with_3_and_without_the_usage() {
    let table: &[(&str, &[&str], &str)] = &[
        ("analyzer", &[], "failed to parse arguments: received 0 arguments, but expected 1"),
        ("creator", &["a", "b"], "failed to parse arguments: received 2 arguments, but expected 1"),
        ("detector", &["a"], "failed to parse arguments: received unexpected"),
        ("restorer", &["a"], "failed to parse arguments: received unexpected"),
        ("builder", &["a"], "failed to parse arguments: received unexpected"),
        ("exporter", &["-run-image=r", "app"], "-run-image is unsupported"),
        ("exporter", &["-image=r", "app"], "-image is unsupported"),
        ("rebaser", &[], "failed to parse arguments: "),
        ("rebaser", &[""], "failed to resolve inputs: image argument is required"),
        ("rebaser", &["-image=r", "-run-image=s", "app"], "supply only one of -run-image or (deprecated) -image"),
        ("rebaser", &["app.io/app", "other.io/app"], "writing to multiple registries is unsupported"),
        ("rebaser", &["app", "No/Reference"], "failed to resolve inputs: could not parse reference"),
        (
            "analyzer",
            &["-run-image=run", "-tag=other.io/app", "app.io/app"],
            "writing to multiple registries is unsupported",
        ),
        ("analyzer", &["-run-image=run", "No/Reference"], "failed to resolve inputs: could not parse reference"),
    ];
    for (executable, line, says) in table {
        phase(executable).args(*line).run().ends_with(3).says(says).says_no("sage:");
    }
    let project = Project::empty();
    project
        .phase("detector")
        .flag("log-level", "loud")
        .run()
        .ends_with(1)
        .says("failed to parse log level: invalid level");
    project.phase("detector").env("CNB_LOG_LEVEL", "loud").run().ends_with(1).says("invalid level");
}

#[test]
fn a_flag_behind_an_argument_is_an_argument_and_warned_of() {
    let outcome = phase("analyzer").args(["app", "-log-level=debug"]).run().ends_with(3);
    outcome.says("unconsumed flag-like positional arg").says("-log-level=debug").says("received 2 arguments");
}

#[test]
fn errors_and_warnings_are_on_stderr_and_only_their_prefix_is_coloured() {
    if prints_errors_on_stdout() {
        // A recorded divergence: the specification has them on stderr.
        phase("detector").run().says("\x1b[31;1mERROR: \x1b[0m");
        return;
    }
    let plain = phase("exporter").args(["app", "-x"]).env("CNB_NO_COLOR", "1").run();
    assert!(plain.stderr.starts_with("Warning: ") && plain.stderr.contains("\nERROR: failed to"), "{plain:?}");
    assert_eq!(plain.stdout, "");
    let coloured = phase("detector").arg("x").run();
    assert_eq!(coloured.stderr, "\x1b[31;1mERROR: \x1b[0mfailed to parse arguments: received unexpected arguments\n");
    let flag = phase("detector").args(["-no-color", "x"]).run();
    assert_eq!(flag.stderr, "ERROR: failed to parse arguments: received unexpected arguments\n");
    let fatal = phase("detector").args(["-log-level=fatal", "x"]).run().ends_with(3);
    assert_eq!(fatal.output(), "");
}

#[test]
fn the_sub_command_is_the_phase() {
    let lifecycle = || phase("lifecycle");
    for (word, executable) in [
        ("analyze", "analyzer"),
        ("detect", "detector"),
        ("restore", "restorer"),
        ("build", "builder"),
        ("export", "exporter"),
        ("create", "creator"),
        ("rebase", "rebaser"),
        ("/cnb/lifecycle/detect", "detector"),
    ] {
        let by_word = lifecycle().args([word, "-no-such-flag"]).run().ends_with(2);
        let itself = phase(executable).arg("-no-such-flag").run();
        assert_eq!((by_word.code, by_word.output()), (itself.code, itself.output()), "{word}");
    }
    lifecycle().run().ends_with(3).says("failed to parse arguments");
    lifecycle().arg("detector").run().ends_with(3).says("Valid phases: detect, analyze, restore, build, export");
    lifecycle().arg("--version").run().ends_with(3).says("recognize phase");
    lifecycle().arg("detect").api("0.6").run().ends_with(11);
}

#[test]
fn root_does_not_run_programs_of_buildpacks() {
    let project = Project::web();
    project.phase("detector").as_root().run().ends_with(1).says("failed to detect: refusing to run as root");
    project.phase("builder").as_root().run().ends_with(1).says("failed to build: refusing to run as root");
}

#[test]
fn layouts_have_to_be_allowed() {
    for executable in ["analyzer", "creator"] {
        let refused = phase(executable)
            .api("0.12")
            .args(["-layout", "-layout-dir=/nowhere", "-run-image=run", "app"])
            .env("CNB_EXPERIMENTAL_MODE", "error")
            .run()
            .ends_with(1)
            .says("experimental features are disabled by CNB_EXPERIMENTAL_MODE=error");
        refused.says("Platform requested experimental feature 'export to OCI layout format'");
    }
}

//! How a phase begins; what is printed is asked of the executables themselves, in `acceptance`.

use super::*;

fn begun(line: &[&str], variables: &[(&str, &str)]) -> Result<Option<Inputs>, String> {
    let environment = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
    begin(Phase::Detect, line.iter().map(OsString::from), &environment).map_err(|failure| failure.text(Phase::Detect))
}

#[test]
fn the_platform_api_is_checked_before_anything_else() {
    for (variables, expected) in [
        (&[] as &[(&str, &str)], "failed to get platform API version; please set 'CNB_PLATFORM_API'"),
        (&[("CNB_PLATFORM_API", " ")], "failed to get platform API version; please set 'CNB_PLATFORM_API'"),
        (&[("CNB_PLATFORM_API", "0.15.0")], "failed to parse platform API '0.15.0'"),
        (
            &[("CNB_PLATFORM_API", "0.6")],
            "failed to set platform API: platform API version '0.6' is incompatible with the lifecycle",
        ),
    ] {
        for line in [&["-version"] as &[&str], &["-h"], &["-no-such-flag"], &["-log-level=x"], &[]] {
            let error = begun(line, variables).expect_err("refused");
            assert!(error.starts_with(expected), "{error}");
        }
    }
}

#[test]
fn a_line_is_answered_refused_or_gives_inputs() {
    let api = ("CNB_PLATFORM_API", "0.15");
    for line in [&["-version"] as &[&str], &["-h"], &["-version", "-log-level=x"], &["-version", "unexpected"]] {
        assert!(begun(line, &[api]).expect("answered").is_none(), "{line:?}");
    }
    let error = begun(&["-apps"], &[api]).expect_err("refused");
    let expected = "failed to parse flags: flag provided but not defined: -apps\nUsage: detector ";
    assert!(error.starts_with(expected), "{error}");
    for (line, variable) in [(&["-log-level=x"] as &[&str], ""), (&[], "x"), (&["-log-level="], "info")] {
        let error = begun(line, &[api, ("CNB_LOG_LEVEL", variable)]).expect_err("refused");
        assert!(error.starts_with("failed to parse log level: invalid level"), "no usage page: {error}");
    }
    let error = begun(&["x"], &[api]).expect_err("refused");
    assert_eq!(error, "failed to parse arguments: received unexpected arguments");
    assert!(begun(&["-app=/a", "-log-level=Warning"], &[api, ("CNB_LOG_LEVEL", "x")]).expect("inputs").is_some());
}

use std::fs;

use lifecycle_launch::console::chain;

use super::*;

const CWD: &str = "/w";

fn given(phase: Phase, api: &str, line: &[&str], variables: &[(&str, &str)]) -> Result<Inputs, InputError> {
    let api = PlatformApi::parse(Some(api)).expect("supported");
    let args = crate::args::parse(line.iter().map(OsString::from), phase, api).expect("a line that can be read");
    let environment = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
    resolve(phase, api, args, &environment, Path::new(CWD))
}

fn inputs(phase: Phase, api: &str, line: &[&str], variables: &[(&str, &str)]) -> Inputs {
    given(phase, api, line, variables).unwrap_or_else(|error| panic!("{line:?} {variables:?}: {error}"))
}

/// A path that most phases have, by its name.
fn path<'a>(inputs: &'a Inputs, name: &str) -> &'a str {
    let path = match name {
        "analyzed" => &inputs.analyzed,
        "app" => &inputs.app,
        "build_config" => &inputs.build_config,
        "buildpacks" => &inputs.buildpacks,
        "extended" => &inputs.extended,
        "extensions" => &inputs.extensions,
        "generated" => &inputs.generated,
        "group" => &inputs.group,
        "launcher_sbom" => &inputs.launcher_sbom,
        "layers" => &inputs.layers,
        "order" => &inputs.order,
        "plan" => &inputs.plan,
        "platform" => &inputs.platform,
        "project_metadata" => &inputs.project_metadata,
        "report" => &inputs.report,
        "run" => &inputs.run,
        "stack" => &inputs.stack,
        "system" => &inputs.system,
        _ => panic!("no such path: {name}"),
    };
    path.to_str().expect("text")
}

#[test]
fn defaults() {
    let inputs = inputs(Phase::Create, "0.15", &["app"], &[]);
    for (name, expected) in [
        ("analyzed", "/layers/analyzed.toml"),
        ("app", "/workspace"),
        ("build_config", "/cnb/build-config"),
        ("buildpacks", "/cnb/buildpacks"),
        ("extended", "/layers/extended"),
        ("extensions", "/cnb/extensions"),
        ("generated", "/layers/generated"),
        ("group", "/layers/group.toml"),
        ("launcher_sbom", "/cnb/lifecycle"),
        ("layers", "/layers"),
        ("order", "/cnb/order.toml"),
        ("plan", "/layers/plan.toml"),
        ("platform", "/platform"),
        ("project_metadata", "/layers/project-metadata.toml"),
        ("report", "/layers/report.toml"),
        ("run", "/cnb/run.toml"),
        ("stack", "/cnb/stack.toml"),
        ("system", "/cnb/system.toml"),
    ] {
        assert_eq!(path(&inputs, name), expected, "{name}");
    }
    assert_eq!((inputs.image.as_str(), inputs.previous_image.as_deref()), ("app", Some("app")));
    assert_eq!(inputs.exec_env, "production");
    assert_eq!((inputs.launcher, inputs.target_arch, inputs.index), (None, None, IndexMode::Off));
    assert_eq!(inputs.user, User { uid: 0, gid: 0 });
    assert_eq!((inputs.skip_layers, inputs.parallel, inputs.source_date_epoch), (false, false, None));
    assert_eq!(inputs.experimental, Experimental::Refused);
    let none = [inputs.run_image, inputs.build_image, inputs.cache_image, inputs.process_type];
    assert_eq!(none, [const { None }; 4]);
    assert_eq!((inputs.cache_dir, inputs.launch_cache, inputs.layout), (None, None, None));
    assert!(inputs.tags.is_empty() && inputs.insecure_registries.is_empty());
}

#[test]
fn a_flag_wins_over_a_variable_and_a_variable_over_the_default() {
    for (name, flag, variable) in [
        ("analyzed", "analyzed", "CNB_ANALYZED_PATH"),
        ("app", "app", "CNB_APP_DIR"),
        ("build_config", "build-config", "CNB_BUILD_CONFIG_DIR"),
        ("buildpacks", "buildpacks", "CNB_BUILDPACKS_DIR"),
        ("extensions", "extensions", "CNB_EXTENSIONS_DIR"),
        ("generated", "generated", "CNB_GENERATED_DIR"),
        ("group", "group", "CNB_GROUP_PATH"),
        ("layers", "layers", "CNB_LAYERS_DIR"),
        ("order", "order", "CNB_ORDER_PATH"),
        ("plan", "plan", "CNB_PLAN_PATH"),
        ("platform", "platform", "CNB_PLATFORM_DIR"),
        ("run", "run", "CNB_RUN_PATH"),
        ("system", "system", "CNB_SYSTEM_PATH"),
    ] {
        let flag = format!("-{flag}=/flag");
        let with =
            |line: &[&str], value| path(&inputs(Phase::Detect, "0.15", line, &[(variable, value)]), name).to_owned();
        let default = path(&inputs(Phase::Detect, "0.15", &[], &[]), name).to_owned();
        assert_eq!(with(&[&flag], "/variable"), "/flag", "{name}");
        assert_eq!(with(&[], "/variable"), "/variable", "{name}");
        assert_eq!(with(&[], ""), default, "{name}: an empty variable is unset");
    }
    let variables = [
        ("CNB_EXTENDED_DIR", "/e"),
        ("CNB_PROJECT_METADATA_PATH", "/p"),
        ("CNB_REPORT_PATH", "/r"),
        ("CNB_STACK_PATH", "/s"),
    ];
    let inputs = inputs(Phase::Export, "0.7", &["img"], &variables);
    for (name, expected) in [("extended", "/e"), ("project_metadata", "/p"), ("report", "/r"), ("stack", "/s")] {
        assert_eq!(path(&inputs, name), expected, "a variable counts at every API");
    }
}

#[test]
fn paths_in_the_layers_directory() {
    for (line, variables, expected) in [
        (&["-layers=/l"] as &[&str], &[] as &[(&str, &str)], "/l/group.toml"),
        (&[], &[("CNB_LAYERS_DIR", "/v")], "/v/group.toml"),
        (&["-layers=/l"], &[("CNB_LAYERS_DIR", "/v")], "/l/group.toml"),
        (&["-layers=l"], &[], "l/group.toml"),
        (&["-layers="], &[("CNB_LAYERS_DIR", "/v")], "group.toml"),
        (&["-layers=/l"], &[("CNB_GROUP_PATH", "./g.toml")], "./g.toml"),
        (&["-layers=/l", "-group=a/<layers>/<layers>"], &[], "a//l/<layers>"),
        (&["-layers=/l"], &[("CNB_GROUP_PATH", "<layers>/x/g.toml")], "/l/x/g.toml"),
        (&["-layers=/l/../m/"], &[], "/l/../m//group.toml"),
    ] {
        assert_eq!(path(&inputs(Phase::Detect, "0.15", line, variables), "group"), expected, "{line:?} {variables:?}");
    }
}

#[test]
fn directories_are_absolute() {
    for (given, expected) in [("", "/w"), ("a", "/w/a"), ("../a/", "/a"), ("/a/../b/.", "/b")] {
        let flags = ["-layers", "-app", "-generated", "-platform", "-buildpacks", "-extensions", "-build-config"];
        let line: Vec<_> = flags.iter().map(|flag| format!("{flag}={given}")).collect();
        let line: Vec<_> = line.iter().map(String::as_str).collect();
        let inputs = inputs(Phase::Detect, "0.15", &line, &[]);
        for name in ["layers", "app", "generated", "platform", "buildpacks", "extensions", "build_config"] {
            assert_eq!(path(&inputs, name), expected, "{name}");
        }
    }
    let line = ["-cache-dir=c", "-launch-cache=../l", "-extended=e", "-launcher-sbom=s", "img"];
    let inputs = inputs(Phase::Export, "0.15", &line, &[]);
    assert_eq!(inputs.cache_dir.as_deref(), Some(Path::new("/w/c")));
    assert_eq!(inputs.launch_cache.as_deref(), Some(Path::new("/l")));
    assert_eq!((path(&inputs, "extended"), path(&inputs, "launcher_sbom")), ("e", "s"));
}

#[test]
fn the_order_is_the_layers_directorys_where_there_is_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let layers = format!("-layers={}", dir.path().display());
    let order = |line: &[&str], variables: &[(&str, &str)]| {
        path(&inputs(Phase::Detect, "0.15", line, variables), "order").to_owned()
    };
    assert_eq!(order(&[&layers], &[]), "/cnb/order.toml");
    assert_eq!(
        order(&[&layers], &[("CNB_ORDER_PATH", "<layers>/other.toml")]),
        format!("{}/other.toml", dir.path().display())
    );
    fs::write(dir.path().join("order.toml"), "").expect("written");
    assert_eq!(order(&[&layers], &[]), format!("{}/order.toml", dir.path().display()));
    assert_eq!(order(&[&layers, "-order=/missing"], &[]), "/missing");
}

#[test]
fn an_empty_flag_is_nothing_even_where_a_variable_is_set() {
    // As a pipeline passes flags that its user left out.
    let line =
        ["-cache-image=", "-run-image=", "-previous-image=", "-tag=", "-insecure-registry=", "-launch-cache=", "img"];
    let variables = [("CNB_CACHE_IMAGE", "cache"), ("CNB_RUN_IMAGE", "run"), ("CNB_PREVIOUS_IMAGE", "previous")];
    let inputs = inputs(Phase::Create, "0.15", &line, &variables);
    assert_eq!((inputs.cache_image, inputs.run_image, inputs.launch_cache), (None, None, None));
    assert_eq!(inputs.previous_image.as_deref(), Some("img"));
    assert!(inputs.tags.is_empty() && inputs.insecure_registries.is_empty());
}

#[test]
fn lists_add_up_and_have_no_empty_items() {
    let line = ["-insecure-registry", "c", "-tag", "t1", "-insecure-registry=d", "-tag=t2", "img"];
    let inputs = inputs(Phase::Create, "0.15", &line, &[("CNB_INSECURE_REGISTRIES", "a,b,, ")]);
    assert_eq!(inputs.insecure_registries, ["a", "b", "c", "d"]);
    assert_eq!(inputs.tags, ["t1", "t2"]);
}

#[test]
fn numbers_and_booleans() {
    let user = |line: &[&str], variables: &[(&str, &str)]| {
        let line = [line, &["img"]].concat();
        let user = inputs(Phase::Create, "0.15", &line, variables).user;
        (user.uid, user.gid)
    };
    let variables = [("CNB_USER_ID", "1000"), ("CNB_GROUP_ID", "0x10")];
    assert_eq!(user(&[], &variables), (1000, 0));
    assert_eq!(user(&["-uid=0", "-gid=0x10"], &variables), (0, 16));

    let skips = |phase, line: &[&str], variables: &[(&str, &str)]| inputs(phase, "0.15", line, variables).skip_layers;
    for (phase, line, flag) in [
        (Phase::Create, &["img"] as &[&str], "-skip-restore"),
        (Phase::Analyze, &["img"], "-skip-layers"),
        (Phase::Restore, &[], "-skip-layers"),
    ] {
        assert!(!skips(phase, line, &[("CNB_SKIP_LAYERS", "yes")]));
        assert!(skips(phase, line, &[("CNB_SKIP_LAYERS", "true")]) && skips(phase, line, &[("CNB_SKIP_RESTORE", "1")]));
        let (on, off) = ([&[flag], line].concat(), format!("{flag}=false"));
        assert!(skips(phase, &on, &[]));
        assert!(!skips(phase, &[&[&*off], line].concat(), &[("CNB_SKIP_RESTORE", "true")]));
    }
    assert!(inputs(Phase::Export, "0.7", &["img"], &[("CNB_PARALLEL_EXPORT", "t")]).parallel);
}

#[test]
fn the_build_time_that_a_platform_gives() {
    let epoch =
        |phase, api, line: &[&str], text| inputs(phase, api, line, &[("SOURCE_DATE_EPOCH", text)]).source_date_epoch;
    assert_eq!(epoch(Phase::Export, "0.9", &["img"], "1700000000"), Some(1_700_000_000));
    assert_eq!(epoch(Phase::Create, "0.9", &["img"], "-1"), Some(-1));
    for text in ["", "now", "1.5", "99999999999999999999"] {
        assert_eq!(epoch(Phase::Export, "0.9", &["img"], text), None, "{text:?}");
    }
    assert_eq!(epoch(Phase::Export, "0.8", &["img"], "1700000000"), None);
    for (text, is) in [("253402300799", true), ("-62167219200", true), ("253402300800", false), ("-62167219201", false)]
    {
        for phase in [Phase::Export, Phase::Create] {
            let variables = [("SOURCE_DATE_EPOCH", text)];
            match given(phase, "0.9", &["img"], &variables) {
                Ok(inputs) => assert_eq!((inputs.source_date_epoch, is), (text.parse().ok(), true)),
                Err(error) => assert_eq!((error.exit_code(), is), (62, false), "{text}: {error}"),
            }
            inputs(phase, "0.8", &["img"], &variables);
        }
        inputs(Phase::Analyze, "0.9", &["img"], &[("SOURCE_DATE_EPOCH", text)]);
    }
}

#[test]
fn images_of_a_phase() {
    let exporter =
        inputs(Phase::Export, "0.15", &["r.io/app", "r.io/app:1", "", "r.io/other"], &[("CNB_RUN_IMAGE", "run")]);
    assert_eq!(exporter.image, "r.io/app");
    assert_eq!(exporter.tags, ["r.io/app:1", "r.io/other"]);
    assert_eq!(exporter.previous_image, None);
    let same = inputs(Phase::Export, "0.15", &["-run-image=run", "-image=", "app"], &[("CNB_RUN_IMAGE", "run")]);
    assert_eq!(same.run_image.as_deref(), Some("run"));
    let previous = inputs(Phase::Analyze, "0.15", &["-previous-image", "pp", "app"], &[]).previous_image;
    assert_eq!(previous.as_deref(), Some("pp"));
    let restorer = inputs(Phase::Restore, "0.15", &["-build-image=build"], &[]);
    assert_eq!((restorer.build_image.as_deref(), restorer.image.as_str()), (Some("build"), ""));
}

#[test]
fn images_of_a_rebase() {
    let rebaser = |api, line: &[&str], variables: &[(&str, &str)]| {
        let inputs = inputs(Phase::Rebase, api, line, variables);
        (inputs.run_image, inputs.previous_image, inputs.force)
    };
    let name = |name: &str| Some(name.to_owned());
    assert_eq!(rebaser("0.15", &["app"], &[]), (None, None, false), "no flags at all");
    for (line, variable, run_image) in [
        (&["-run-image=run", "app"] as &[&str], "", "run"),
        (&["-run-image=run", "app"], "other", "run"),
        (&["app"], "run", "run"),
        (&["-image=run", "app"], "", "run"),
        (&["-image=run", "app"], "other", "run"),
        (&["-image=run", "-run-image=other", "app"], "other", "run"),
        (&["-image=", "-run-image=run", "app"], "", "run"),
    ] {
        assert_eq!(rebaser("0.7", line, &[("CNB_RUN_IMAGE", variable)]).0, name(run_image), "{line:?} {variable}");
    }
    assert_eq!(rebaser("0.11", &["-previous-image=old", "app"], &[]).1, name("old"));
    assert!(rebaser("0.12", &["-force", "app"], &[]).2 && rebaser("0.7", &["app"], &[("CNB_FORCE_REBASE", "true")]).2);
    let unused = [("CNB_USE_LAYOUT", "true"), ("CNB_LAYOUT_DIR", "/l"), ("CNB_CACHE_IMAGE", "app")];
    assert_eq!(inputs(Phase::Rebase, "0.15", &["app", "app:1", "other"], &unused).layout, None);
    let report = |line: &[&str], variables: &[(&str, &str)]| inputs(Phase::Rebase, "0.15", line, variables).report;
    assert_eq!(report(&["app"], &[]), Path::new("/layers/report.toml"));
    assert_eq!(report(&["app"], &[("CNB_LAYERS_DIR", "/l")]), Path::new("/l/report.toml"));
    assert_eq!(report(&["-report=r", "app"], &[("CNB_REPORT_PATH", "/p")]), Path::new("r"));
}

#[test]
fn layouts() {
    let experimental = ("CNB_EXPERIMENTAL_MODE", "quiet");
    let layout = ["-layout", "-layout-dir=l", "img"];
    for phase in [Phase::Analyze, Phase::Export, Phase::Create] {
        assert_eq!(inputs(phase, "0.12", &layout, &[experimental]).layout.as_deref(), Some(Path::new("l")));
        let by_variable = [("CNB_USE_LAYOUT", "true"), ("CNB_LAYOUT_DIR", "/l"), experimental];
        assert_eq!(inputs(phase, "0.7", &["img"], &by_variable).layout.as_deref(), Some(Path::new("/l")));
        assert_eq!(inputs(phase, "0.12", &["-layout=0", "img"], &by_variable).layout, None);
        for line in [&layout[..], &["-layout", "img"]] {
            let error = given(phase, "0.12", line, &[]).expect_err("refused");
            assert_eq!(error.exit_code(), 1);
            assert_eq!(error.to_string(), "experimental features are disabled by CNB_EXPERIMENTAL_MODE=error");
        }
    }
    assert!(inputs(Phase::Restore, "0.12", &layout[..2], &[]).layout.is_some(), "the restorer asks nobody");
    assert_eq!(inputs(Phase::Detect, "0.12", &[], &[("CNB_USE_LAYOUT", "true")]).layout, None);
}

#[test]
fn what_is_refused() {
    const DIGEST: &str = "app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    /// Phase, line, variables, what is said.
    type Row<'a> = (Phase, &'a [&'a str], &'a [(&'a str, &'a str)], &'a str);
    let table: &[Row<'_>] = &[
        (Phase::Analyze, &[], &[], "parse arguments: received 0 arguments, but expected 1"),
        (Phase::Create, &["a", "b"], &[], "parse arguments: received 2 arguments, but expected 1"),
        (Phase::Export, &[], &[], "parse arguments: received 0 arguments, but expected at least 1"),
        (Phase::Detect, &["app"], &[], "parse arguments: received unexpected arguments"),
        (Phase::Restore, &["app"], &[], "parse arguments: received unexpected arguments"),
        (Phase::Build, &["app"], &[], "parse arguments: received unexpected arguments"),
        (Phase::Export, &["", "b"], &[], "resolve inputs: image argument is required"),
        (Phase::Analyze, &["A"], &[], "could not parse reference: A: "),
        (Phase::Analyze, &["-tag=:", "app"], &[], "could not parse reference: :: "),
        (Phase::Analyze, &["-run-image=R", "app"], &[], "could not parse reference: R: "),
        (Phase::Analyze, &["-cache-image=C", "app"], &[], "could not parse reference: C: "),
        (Phase::Create, &["app"], &[("CNB_PREVIOUS_IMAGE", "P")], "could not parse reference: P: "),
        (
            Phase::Export,
            &["r.io/app", "r.io/other", "s.io/app"],
            &[],
            "resolve inputs: writing to multiple registries is unsupported",
        ),
        (
            Phase::Analyze,
            &["-tag=r.io/app", "app"],
            &[],
            "resolve inputs: writing to multiple registries is unsupported",
        ),
        (
            Phase::Export,
            &["-cache-image=docker.io/app:latest", "app"],
            &[],
            "resolve inputs: the image to write (app) and the cache image (docker.io/app:latest) are the same",
        ),
        (
            Phase::Create,
            &["-cache-image=r.io/app:1", "-tag=r.io/app:1", "r.io/app"],
            &[],
            "resolve inputs: the image to write (r.io/app:1) and the cache image (r.io/app:1) are the same",
        ),
        (
            Phase::Analyze,
            &["app"],
            &[("CNB_CACHE_IMAGE", "app")],
            "resolve inputs: the image to write (app) and the cache image (app) are the same",
        ),
        (Phase::Export, &["-run-image=run", "app"], &[], "resolve inputs: -run-image is unsupported"),
        (
            Phase::Export,
            &["-run-image=run", "app"],
            &[("CNB_RUN_IMAGE", "s")],
            "resolve inputs: -run-image is unsupported",
        ),
        (Phase::Export, &["-image=run", "app"], &[], "resolve inputs: -image is unsupported"),
        (Phase::Rebase, &[], &[], "parse arguments: received 0 arguments, but expected at least 1"),
        (Phase::Rebase, &["", "b"], &[], "resolve inputs: image argument is required"),
        (
            Phase::Rebase,
            &["-image=run", "-run-image=run", "app"],
            &[("CNB_RUN_IMAGE", "other")],
            "resolve inputs: supply only one of -run-image or (deprecated) -image",
        ),
        (Phase::Rebase, &["app", "B"], &[], "could not parse reference: B: "),
        (Phase::Rebase, &["-previous-image=P", "app"], &[], "could not parse reference: P: "),
        (Phase::Rebase, &["-image=R", "app"], &[], "could not parse reference: R: "),
        (
            Phase::Rebase,
            &["r.io/app", "s.io/app"],
            &[],
            "resolve inputs: writing to multiple registries is unsupported",
        ),
        (Phase::Rebase, &["app", DIGEST], &[], "resolve inputs: 'app@sha256:"),
        (Phase::Create, &["-uid=-1", "app"], &[], "resolve inputs: uid -1 is not a user's or a group's"),
        (
            Phase::Create,
            &["app"],
            &[("CNB_GROUP_ID", "4294967295")],
            "resolve inputs: gid 4294967295 is not a user's or a group's",
        ),
        (Phase::Create, &["-layout", "app"], &[WARN], "resolve inputs: -layout needs -layout-dir (or CNB_LAYOUT_DIR)"),
        (
            Phase::Detect,
            &[],
            &[("CNB_EXEC_ENV", "a/b")],
            "resolve inputs: execution environment \"a/b\" must not contain '/'",
        ),
    ];
    for (phase, line, variables, expected) in table {
        let error = given(*phase, "0.15", line, variables).expect_err("refused");
        assert_eq!(error.exit_code(), 3, "{line:?}");
        let text = lifecycle_launch::console::chain(&error);
        let is_begun = expected.ends_with("sha256:") && text.starts_with(expected);
        assert!(
            is_begun || text == *expected || text.starts_with(&format!("resolve inputs: {expected}")),
            "{line:?}: {text}"
        );
    }
    inputs(Phase::Detect, "0.14", &[], &[("CNB_EXEC_ENV", "a/b")]);
    inputs(Phase::Export, "0.15", &["-cache-image=r.io/app:cache", "r.io/app"], &[]);
    let layout = ["-layout", "-layout-dir=/l", "-cache-image=app", "app"];
    inputs(Phase::Export, "0.15", &layout, &[("CNB_EXPERIMENTAL_MODE", "quiet")]);
}

#[test]
fn a_daemon_is_refused_before_anything_else_is_done() {
    for (phase, line) in [
        (Phase::Analyze, &["-daemon", "img"] as &[&str]),
        (Phase::Restore, &["-daemon"]),
        (Phase::Export, &["-daemon", "img"]),
        (Phase::Create, &["-daemon", "img"]),
        (Phase::Rebase, &["-daemon", "img"]),
    ] {
        let by_flag = given(phase, "0.12", line, &[]).expect_err("refused");
        let by_variable = given(phase, "0.7", &line[1..], &[("CNB_USE_DAEMON", "true")]).expect_err("refused");
        for error in [by_flag, by_variable] {
            assert!(matches!(error, InputError::Daemon), "{error}");
            assert_eq!(error.exit_code(), 3);
        }
        let no: Vec<_> = ["-daemon=false"].iter().chain(&line[1..]).copied().collect();
        inputs(phase, "0.12", &no, &[("CNB_USE_DAEMON", "true")]);
    }
    inputs(Phase::Build, "0.12", &[], &[("CNB_USE_DAEMON", "true")]);
}

#[test]
fn references_are_text_and_paths_need_not_be() {
    let strange = OsString::from_vec(b"\xff".to_vec());
    let api = PlatformApi::parse(Some("0.15")).expect("supported");
    let args = Args { positional: vec![strange.clone()], ..Args::default() };
    let error = resolve(Phase::Export, api, args, &Environment::default(), Path::new(CWD)).expect_err("refused");
    assert!(matches!(error, InputError::NotText { what: "image", .. }), "{error}");
    let args = Args { app: Some(strange.clone()), ..Args::default() };
    let inputs = resolve(Phase::Detect, api, args, &Environment::default(), Path::new(CWD)).expect("a path is bytes");
    assert_eq!(inputs.app, Path::new(CWD).join(strange));
}

/// The help says which variable stands for a flag and what counts without both: here it is what is done.
#[test]
fn flags_have_the_variables_and_defaults_of_their_table() {
    let api = PlatformApi::parse(Some("0.15")).expect("supported");
    let all =
        [Phase::Analyze, Phase::Detect, Phase::Restore, Phase::Build, Phase::Export, Phase::Create, Phase::Rebase];
    for phase in all {
        let positional: &[&str] = match phase {
            Phase::Analyze | Phase::Export | Phase::Create | Phase::Rebase => &["app"],
            _ => &[],
        };
        for flag in platform_spec::input::flags(phase, api) {
            // The console's are not resolved; the exporter refuses to be told the run image.
            let told_elsewhere = ["log-level", "no-color", "version"].contains(&flag.name);
            if told_elsewhere || (phase == Phase::Export && flag.name == "run-image") {
                continue;
            }
            let value = match (flag.name, flag.takes) {
                (_, platform_spec::input::Takes::Bool) => "true",
                (_, platform_spec::input::Takes::Integer) => "7",
                ("index", _) => "merge",
                ("target-arch", _) => "arm64",
                _ => "r.io/other",
            };
            let resolved = |flags: &[String], variables: &[(&str, &str)]| {
                let line: Vec<_> = flags.iter().map(String::as_str).chain(positional.iter().copied()).collect();
                let mut all = vec![("CNB_EXPERIMENTAL_MODE", "quiet")];
                if flag.name == "layout-dir" {
                    all.push(("CNB_USE_LAYOUT", "true"));
                }
                all.extend(variables);
                format!("{:?}", given(phase, "0.15", &line, &all))
            };
            let nothing = resolved(&[], &[]);
            if let Some(variable) = flag.variable {
                let by_flag = resolved(&[format!("-{}={value}", flag.name)], &[]);
                assert_eq!(resolved(&[], &[(variable, value)]), by_flag, "{phase:?} -{}", flag.name);
                assert_ne!(by_flag, nothing, "{phase:?} -{}", flag.name);
            }
            if let Some(default) = flag.default {
                // Without one it is the target that decides, and this is only where it looks first.
                let given = "launcher: Some(\"/cnb/lifecycle/launcher\")";
                let by_flag = resolved(&[format!("-{}={default}", flag.name)], &[]).replace(given, "launcher: None");
                assert_eq!(by_flag, nothing, "{phase:?} -{}", flag.name);
            }
        }
    }
}

const WARN: (&str, &str) = ("CNB_EXPERIMENTAL_MODE", "warn");

#[test]
fn the_target_comes_from_the_flag_or_the_variable() {
    let phases = [
        (Phase::Analyze, &["app"][..]),
        (Phase::Detect, &[]),
        (Phase::Restore, &[]),
        (Phase::Build, &[]),
        (Phase::Export, &["app"]),
        (Phase::Create, &["app"]),
        (Phase::Rebase, &["app"]),
        (Phase::Index, &["app"]),
    ];
    for (phase, rest) in phases {
        for api in ["0.7", "0.15"] {
            let of = |flag: &[&str], variable: &[(&str, &str)]| {
                let line: Vec<&str> = flag.iter().chain(rest).copied().collect();
                let variables: Vec<_> = std::iter::once(WARN).chain(variable.iter().copied()).collect();
                given(phase, api, &line, &variables).map(|inputs| inputs.target_arch.map(|target| target.to_string()))
            };
            let variable = [("CNB_BUILD_TARGET_ARCH", "arm/v7")];
            assert_eq!(of(&[], &[]).expect("unset"), None);
            assert_eq!(of(&["-target-arch", "aarch64"], &[]).expect("a flag").as_deref(), Some("linux/arm64"));
            assert_eq!(of(&[], &variable).expect("a variable").as_deref(), Some("linux/arm/v7"));
            assert_eq!(of(&["-target-arch=s390x"], &variable).expect("both").as_deref(), Some("linux/s390x"));
            assert_eq!(of(&["-target-arch="], &variable).expect("an empty flag"), None, "an empty value is a value");
            assert_eq!(of(&[], &[("CNB_BUILD_TARGET_ARCH", "")]).expect("an empty variable"), None);
            let error = of(&["-target-arch", "sparc"], &[]).expect_err("nobody knows it");
            let known = "known are 386, amd64, arm, arm64, loong64, mips, mips64, mips64le, mipsle, ppc64, ppc64le, riscv64, s390x";
            assert_eq!(
                lifecycle_launch::console::chain(&error),
                format!(
                    "resolve inputs: target architecture (-target-arch, CNB_BUILD_TARGET_ARCH): \
                     parse platform 'sparc': unknown architecture; {known}"
                )
            );
            assert_eq!(error.exit_code(), 3);
        }
    }
}

#[test]
fn an_index_is_asked_for() {
    let of = |phase, flag: &[&str], variable: &[(&str, &str)]| {
        let line: Vec<&str> = flag.iter().chain(&["app"]).copied().collect();
        let variables: Vec<_> = std::iter::once(WARN).chain(variable.iter().copied()).collect();
        given(phase, "0.7", &line, &variables).map(|inputs| inputs.index)
    };
    for phase in [Phase::Export, Phase::Create, Phase::Rebase] {
        assert_eq!(of(phase, &[], &[]).expect("unset"), IndexMode::Off);
        assert_eq!(of(phase, &["-index", "merge"], &[]).expect("a flag"), IndexMode::Merge);
        assert_eq!(of(phase, &[], &[("CNB_EXPORT_INDEX", "merge")]).expect("a variable"), IndexMode::Merge);
        assert_eq!(of(phase, &["-index=off"], &[("CNB_EXPORT_INDEX", "merge")]).expect("both"), IndexMode::Off);
        let error = of(phase, &["-index", "Merge"], &[]).expect_err("not a mode");
        let text = "resolve inputs: -index is \"Merge\", but has to be off, merge or replace";
        assert_eq!((error.to_string().as_str(), error.exit_code()), (text, 3));
        let error = of(phase, &[], &[("CNB_EXPORT_INDEX", "x")]).expect_err("not a mode");
        let text = "resolve inputs: CNB_EXPORT_INDEX is \"x\", but has to be off, merge or replace";
        assert_eq!((error.to_string().as_str(), error.exit_code()), (text, 3));
    }
    assert_eq!(of(Phase::Export, &["-index", "replace"], &[]).expect("a flag"), IndexMode::Replace);
    assert_eq!(of(Phase::Rebase, &["-index", "replace"], &[]).expect_err("there is none").exit_code(), 3);
    assert_eq!(of(Phase::Analyze, &[], &[("CNB_EXPORT_INDEX", "x")]).expect("not its own"), IndexMode::Off);
}

#[test]
fn targets_and_indexes_are_experimental() {
    for variables in [&[][..], &[("CNB_EXPERIMENTAL_MODE", "error")]] {
        for line in [&["-target-arch", "arm64", "app"][..], &["-index", "merge", "app"]] {
            let error = given(Phase::Export, "0.15", line, variables).expect_err("refused");
            let text = "experimental features are disabled by CNB_EXPERIMENTAL_MODE=error";
            assert_eq!((error.to_string().as_str(), error.exit_code()), (text, 1));
        }
        let error = given(Phase::Index, "0.15", &["app"], variables).expect_err("refused");
        assert_eq!(error.exit_code(), 1);
        given(Phase::Export, "0.15", &["-index", "off", "-target-arch=", "app"], variables)
            .expect("nothing is asked for");
    }
}

#[test]
fn the_reports() {
    let joined = inputs(Phase::Index, "0.15", &["-report", "a", "-report=b", "-tag", "t", "app", "r@x"], &[WARN]);
    assert_eq!(joined.reports, [Path::new("a"), Path::new("b")]);
    assert_eq!((joined.images, joined.tags), (vec!["r@x".to_owned()], vec!["t".to_owned()]));
    for (line, variables, path, given) in [
        (&["app"][..], &[][..], "/layers/index-report.toml", false),
        (&["-layers", "/l", "app"], &[], "/l/index-report.toml", false),
        (&["app"], &[("CNB_INDEX_REPORT_PATH", "v")], "v", true),
        (&["-index-report", "f", "app"], &[("CNB_INDEX_REPORT_PATH", "v")], "f", true),
    ] {
        let report = inputs(Phase::Export, "0.15", line, variables).index_report;
        assert_eq!(report, IndexReport { path: path.into(), given }, "{line:?}");
    }
    let last = inputs(Phase::Export, "0.15", &["-report", "a", "-report", "b", "app"], &[]);
    assert_eq!((last.report.to_str(), last.reports.len()), (Some("b"), 0));
}

#[test]
fn what_is_done_about_foreign_programs() {
    let of = |text| given(Phase::Export, "0.15", &["app"], &[("CNB_ARCH_CHECK", text)]).map(|inputs| inputs.arch_check);
    assert_eq!(of("").expect("unset"), None);
    assert_eq!(of("error").expect("a mode"), Some(ArchCheck::Error));
    let error = of("x").expect_err("no mode");
    let text = "resolve inputs: CNB_ARCH_CHECK is \"x\", but has to be off, warn or error";
    assert_eq!((lifecycle_launch::console::chain(&error).as_str(), error.exit_code()), (text, 3));
    let ignore = [("CNB_ARCH_CHECK_IGNORE", "/workspace/testdata/*, *.so,")];
    let ignored = inputs(Phase::Export, "0.15", &["app"], &ignore).arch_check_ignore;
    let globs = ["/workspace/testdata/*".to_owned(), "*.so".to_owned()];
    assert_eq!(ignored, PathGlobs::new(&globs).expect("globs"));
    let error = given(Phase::Detect, "0.15", &[], &[("CNB_ARCH_CHECK_IGNORE", "*.so, /a/[b")]).expect_err("malformed");
    let text = "resolve inputs: CNB_ARCH_CHECK_IGNORE has the glob \"/a/[b\": ";
    let shown = lifecycle_launch::console::chain(&error);
    assert_eq!((shown.starts_with(text), error.exit_code()), (true, 3), "{shown}");
}

#[test]
fn the_cache_image_of_a_target() {
    let of = |cache: &str, image: &str| {
        let line = ["-target-arch", "arm64", "-cache-image", cache, image];
        given(Phase::Export, "0.15", &line, &[WARN]).map(drop).map_err(|error| (error.exit_code(), error.to_string()))
    };
    of("reg.io/app:cache", "reg.io/app").expect("two tags");
    of("reg.io/app", "reg.io/app").expect("the cache's is another tag");
    let (code, text) = of("reg.io/app:cache", "reg.io/app:cache-linux-arm64").expect_err("the same");
    assert_eq!(code, 3);
    assert!(text.contains("are the same"), "{text}");
    for (cache, reason) in [
        (format!("reg.io/app:{}", "x".repeat(120)), "would be longer than 128 characters"),
        (format!("reg.io/app@sha256:{}", "0".repeat(64)), "is named by a tag, not by a digest"),
    ] {
        let (code, text) = of(&cache, "reg.io/app").expect_err(reason);
        assert_eq!(code, 3);
        assert!(text.starts_with("resolve inputs: cache image reg.io/app") && text.ends_with(reason), "{text}");
    }
}

#[test]
fn names_of_an_index() {
    let of = |phase, line: &[&str]| {
        let line = [&["-index", "merge"], line].concat();
        given(phase, "0.15", &line, &[WARN]).map(drop).map_err(|error| (error.exit_code(), chain(&error)))
    };
    let (long, digest) = (format!("reg.io/app:{}", "x".repeat(120)), format!("reg.io/app@sha256:{}", "0".repeat(64)));
    for (line, reason) in [
        (&["-target-arch", "arm64", long.as_str()][..], "more than 128"),
        (&["-target-arch", "arm64", "-tag", &long, "reg.io/app"], "more than 128"),
        (&["-target-arch", "arm64", &digest], "an index needs a tag"),
        (&["-target-arch", "mips", "reg.io/app"], "linux/mips cannot be a child of an index"),
        (&["-tag", "reg.io/app:1-cnb-linux-arm64", "reg.io/app:1"], "by this tag the index of reg.io/app:1 is made"),
        (&["-tag", "reg.io/app", "reg.io/app:latest-cnb-linux-arm-v7"], "the index of reg.io/app is made"),
        (
            &["-target-arch", "amd64", "-cache-image", "reg.io/app:1-cnb", "reg.io/app:1"],
            "reg.io/app:1-cnb-linux-amd64: by this tag",
        ),
        (
            &["-cache-image", "reg.io/app:1-cnb-linux-s390x", "reg.io/app:1"],
            "reg.io/app:1-cnb-linux-s390x: by this tag",
        ),
    ] {
        // The exporter has no -tag.
        let phases = if line.contains(&"-tag") { &[Phase::Create][..] } else { &[Phase::Create, Phase::Export] };
        for &phase in phases {
            let (code, text) = of(phase, line).expect_err(reason);
            assert_eq!(code, 3, "{line:?}");
            assert!(text.starts_with("resolve inputs: ") && text.contains(reason), "{line:?}: {text}");
        }
    }
    assert!(of(Phase::Create, &[&long]).is_err(), "of this machine");
    of(Phase::Export, &[&long]).expect("analyzed.toml may name a target");
    of(Phase::Rebase, &["reg.io/app:1", "reg.io/app:1-cnb-linux-arm64"]).expect_err("a slot");
    for line in [
        &["-tag", "reg.io/other:1-cnb-linux-arm64", "reg.io/app:1"][..],
        &["-tag", "reg.io/app:1-cnb-linux-sparc", "reg.io/app:1"],
        &["-cache-image", "reg.io/app:1-cnb", "reg.io/app:1"],
        &["-tag", "reg.io/app:1", "reg.io/app:1"],
    ] {
        of(Phase::Create, line).unwrap_or_else(|error| panic!("{line:?}: {error:?}"));
    }
}

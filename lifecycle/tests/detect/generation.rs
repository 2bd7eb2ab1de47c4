//! What extensions generate.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use platform_spec::analyzed::AnalyzedRunImage;
use platform_spec::text::to_toml;

use crate::*;

/// A world whose group has these extensions in front of one buildpack that requires `tree` and `app`.
fn world(api: &str, extensions: &[(&str, &str)]) -> (World, Detected) {
    let mut world = World::new(api);
    world.inputs.experimental = Experimental::Silent;
    for (name, generate) in extensions {
        world.extension(&format!("{}@1", name.replace('/', "_")), &plan("+tree"), generate);
    }
    world.buildpack("a@1", &plan("+app -app -tree"));
    let names: Vec<_> = extensions.iter().map(|(name, _)| *name).collect();
    let detected = world.order_with_extensions("a", &names.join(" ")).detect();
    (world, detected)
}

fn run_image(detected: &Detected) -> Option<AnalyzedRunImage> {
    detected.analyzed.clone().and_then(|analyzed| analyzed.run_image)
}

fn switched(image: &str) -> Option<AnalyzedRunImage> {
    Some(AnalyzedRunImage { reference: image.to_owned(), image: image.to_owned(), extend: false, target: None })
}

#[test]
fn an_extension_switches_the_run_image() {
    let script =
        "echo generating; cat \"$3\" > plan; echo 'FROM other:1' > \"$1/run.Dockerfile\"; mkdir \"$1/context\"";
    let places: [(&str, &[&str]); 2] = [
        ("0.12", &["run/", "run/some_tree/", "run/some_tree/Dockerfile"]),
        ("0.13", &["some_tree/", "some_tree/context/", "some_tree/run.Dockerfile"]),
    ];
    for (api, expected) in places {
        let (world, detected) = world(api, &[("some/tree", script)]);
        let group = detected.group.clone();
        let generated = world.generate(detected).expect("generated");
        assert_eq!(generated.group, group);
        assert_eq!(run_image(&generated), switched("other:1"), "{api}");
        let plan = to_toml(&generated.plan);
        assert!(plan.contains("name = \"app\"") && !plan.contains("tree"), "what extensions provide is met: {plan}");
        assert_eq!(world.read("app/plan"), "[[entries]]\n  name = \"tree\"\n");
        assert_eq!(world.tree("layers/generated"), expected, "{api}");
        assert_eq!(world.printed(), "generating\n");
        let not_listed = "WARN: new runtime base image 'other:1' not found in run metadata".to_owned();
        let no_run = format!("INFO: No run metadata found at path {:?}", world.path("run.toml"));
        assert_eq!(logged(), [no_run, not_listed], "{api}");

        world.write("run.toml", "[[images]]\nimage = 'x'\nmirrors = ['docker.io/library/other:1']\n");
        let detected = world.run().expect("again");
        world.generate(detected).expect("generated again");
        assert_eq!(logged(), [""; 0], "a mirror of that name is listed");
        assert_eq!(world.tree("layers/generated"), expected, "{api}: what was there is replaced");

        let paths = ["layers/group.toml", "layers/plan.toml", "layers/analyzed.toml"].map(|name| world.path(name));
        generated.write(&paths[0], &paths[1], &paths[2]).expect("written");
        let analyzed = world.read("layers/analyzed.toml");
        assert!(analyzed.contains("[run-image]\n  reference = \"other:1\"\n  image = \"other:1\"\n"), "{analyzed}");
        assert!(world.read("layers/group.toml").contains("[[group-extensions]]\n  id = \"some/tree\"\n"));
    }
}

#[test]
fn the_last_switch_counts_and_those_before_are_ignored() {
    let from = |text: &str| format!("printf '{text}' > \"$1/run.Dockerfile\"");
    let (one, two) = (from("FROM one"), from("ARG base_image\\nFROM ${base_image}\\nRUN true"));
    let (three, four) = (from("FROM three"), from("ARG base_image\\nFROM ${base_image}"));
    let extensions = [("one", one.as_str()), ("two", &two), ("three", &three), ("four", &four)];
    let ignored = |api, expected: &[&str]| {
        let (world, detected) = world(api, &extensions);
        let generated = world.generate(detected).expect("what is ignored need not be applied");
        assert_eq!(run_image(&generated), switched("three"), "{api}");
        let files: Vec<_> = world.tree("layers/generated").into_iter().filter(|name| !name.ends_with('/')).collect();
        assert_eq!(files, expected, "{api}");
    };
    ignored(
        "0.13",
        &["four/run.Dockerfile", "one/run.Dockerfile.ignore", "three/run.Dockerfile", "two/run.Dockerfile.ignore"],
    );
    ignored(
        "0.12",
        &["run/four/Dockerfile", "run/one/Dockerfile.ignore", "run/three/Dockerfile", "run/two/Dockerfile.ignore"],
    );
}

#[test]
fn nothing_to_switch_leaves_analyzed_as_it_is() {
    for (script, what) in [
        ("true", "no Dockerfile"),
        ("printf 'ARG base_image\\nFROM ${base_image}' > \"$1/run.Dockerfile\"", "the base image itself"),
        ("echo 'FROM run' > \"$1/run.Dockerfile\"", "the image that is recorded"),
    ] {
        let (world, detected) = world("0.13", &[("x", script)]);
        assert_eq!(world.generate(detected).expect(what).analyzed, None, "{what}");
    }
    let world = World::new("0.13");
    world.buildpack("a@1", "");
    world.write("layers/generated/old", "");
    let detected = world.order("a").detect();
    assert_eq!(world.generate(detected.clone()).expect("nothing to do"), detected);
    assert_eq!(world.tree("layers/generated"), ["old"]);
}

#[test]
fn an_extension_may_bring_its_output_along() {
    for (api, expected) in [
        ("0.12", &["run/", "run/x/", "run/x/Dockerfile", "run/x/extend-config.toml"][..]),
        (
            "0.13",
            &[
                "x/",
                "x/context.run/",
                "x/context.run/bin/",
                "x/context.run/bin/tool",
                "x/context.run/link -> bin/tool",
                "x/extend-config.toml",
                "x/run.Dockerfile",
            ],
        ),
    ] {
        let (world, detected) = world(api, &[("x", "")]);
        world.write("extensions/x/1/generate/run.Dockerfile", "FROM other");
        world.write("extensions/x/1/generate/extend-config.toml", "[[run.args]]\nname = 'a'\nvalue = 'b'\n");
        world.script("extensions/x/1/generate/context.run/bin/tool", "");
        std::os::unix::fs::symlink("bin/tool", world.path("extensions/x/1/generate/context.run/link")).expect("linked");
        let locked = world.path("extensions/x/1/generate/context.run/bin");
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).expect("chmod");
        let generated = world.generate(detected).expect("generated");
        assert_eq!(run_image(&generated), switched("other"), "{api}");
        assert_eq!(world.tree("layers/generated"), expected, "{api}");
        if api == "0.13" {
            let mode = |name| fs::metadata(world.path(name)).expect("there").permissions().mode() & 0o777;
            assert_eq!(mode("layers/generated/x/context.run/bin"), 0o555);
            assert_eq!(mode("layers/generated/x/context.run/bin/tool"), 0o755);
        }
        assert!(world.path("extensions/x/1/generate/run.Dockerfile").exists(), "it is copied, not moved");
        let writable = world.path("layers/generated/x/context.run/bin");
        if writable.exists() {
            fs::set_permissions(writable, fs::Permissions::from_mode(0o755)).expect("chmod");
        }
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    let (world, detected) = world("0.13", &[("x", "")]);
    assert_eq!(world.generate(detected).expect("there may be none").analyzed, None);
}

#[test]
fn where_the_extender_would_be_needed_nothing_is_written() {
    let build = "printf 'ARG base_image\\nFROM ${base_image}\\nRUN true' > \"$1/build.Dockerfile\"";
    let run = "printf 'FROM other\\nRUN true' > \"$1/run.Dockerfile\"";
    for api in ["0.10", "0.12", "0.13", "0.15"] {
        for (script, expected) in [
            (build, "extension 'x@1' wrote a build.Dockerfile: applying it needs the extender, which is not here yet"),
            (
                run,
                "extension 'x@1' wrote a run.Dockerfile with instructions beside FROM: applying it needs the extender, \
                 which is not here yet",
            ),
        ] {
            let (world, detected) = world(api, &[("first", "touch \"$1/file\""), ("x", script)]);
            let error = world.generate(detected).expect_err("there is no extender");
            assert_eq!(failure(error), (92, expected.to_owned()), "{api}");
            assert!(!world.path("layers/generated").exists(), "{api}: {:?}", world.tree("layers"));
        }
    }
}

#[test]
fn extensions_that_fail() {
    let from = |text: &str| format!("printf '{text}' > \"$1/run.Dockerfile\"");
    let config = |text: &str| format!("printf '{text}' > \"$1/extend-config.toml\"");
    let cases = [
        ("exit 3".to_owned(), 91, "extension 'x@1': bin/generate: exit status: 3"),
        ("kill -9 $$".to_owned(), 91, "extension 'x@1': bin/generate: signal: 9 (SIGKILL)"),
        (from("NONSENSE"), 92, "extension 'x@1': failed to parse "),
        (from("FROM a\\nFROM b"), 92, "run.Dockerfile is not permitted to use multistage build"),
        (from("\\377"), 92, "run.Dockerfile"),
        ("echo 'FROM a' > \"$1/build.Dockerfile\"".to_owned(), 92, "did not start with required ARG command"),
        ("mkfifo \"$1/run.Dockerfile\"".to_owned(), 92, "run.Dockerfile: not a regular file"),
        ("mkdir \"$1/build.Dockerfile\"".to_owned(), 92, "build.Dockerfile: not a regular file"),
        (config("x = "), 92, "reading extend config: parse "),
        (config("build = 7"), 92, "reading extend config: parse "),
        (config("[[build.args]]\\nname = \"user_id\"\\nvalue = \"0\""), 92, "arg with name \"user_id\" is not allowed"),
        (config("[[run.args]]\\nname = \"build_id\"\\nvalue = \"0\""), 92, "arg with name \"build_id\" is not allowed"),
        ("mkdir \"$1/context\" \"$1/context.run\"".to_owned(), 92, "provided together with a shared context"),
    ];
    for api in ["0.12", "0.13"] {
        for (script, code, expected) in &cases {
            let (world, detected) = world(api, &[("x", script)]);
            let (found, text) = failure(world.generate(detected).expect_err(script));
            assert!(found == *code && text.contains(expected), "{api} {script}: {found} {text}");
            assert!(!world.path("layers/generated").exists(), "{api} {script}: {:?}", world.tree("layers"));
        }
    }
    let (world, detected) = world("0.13", &[("x", "true")]);
    fs::set_permissions(world.path("extensions/x/1/bin/generate"), fs::Permissions::from_mode(0o644)).expect("chmod");
    world.write("layers/generated/other", "");
    let (code, text) = failure(world.generate(detected.clone()).expect_err("not executable"));
    assert!(code == 91 && text.ends_with("bin/generate: permission denied"), "{code} {text}");
    assert_eq!(world.tree("layers/generated"), ["other"], "what is not ours stays");
    fs::remove_file(world.path("extensions/x/1/extension.toml")).expect("removed");
    assert_eq!(failure(world.generate(detected.clone()).expect_err("gone")).0, 92);
    world.write("run.toml", "images = 7");
    let (code, text) = failure(world.generate(detected).expect_err("malformed"));
    assert!(code == 1 && text.starts_with("initialize generator: parse "), "{code} {text}");
}

#[test]
fn a_linked_dockerfile_becomes_a_file() {
    let (world, detected) = world("0.13", &[("x", "ln -s \"$CNB_EXTENSION_DIR/mine\" \"$1/run.Dockerfile\"")]);
    world.write("extensions/x/1/mine", "FROM other");
    let generated = world.generate(detected).expect("generated");
    assert_eq!(run_image(&generated), switched("other"));
    assert_eq!(world.tree("layers/generated"), ["x/", "x/run.Dockerfile"]);
    assert_eq!(world.read("layers/generated/x/run.Dockerfile"), "FROM other");
}

#[test]
fn what_a_link_in_the_place_of_the_output_points_to_is_left_alone() {
    let (world, detected) = world("0.13", &[("x", "touch \"$1/file\"")]);
    world.write("precious/file", "old");
    fs::create_dir_all(world.path("layers/generated")).expect("made");
    std::os::unix::fs::symlink(world.path("precious"), world.path("layers/generated/x")).expect("linked");
    world.generate(detected).expect("generated");
    assert_eq!(world.tree("layers/generated"), ["x/", "x/file"]);
    assert_eq!(world.read("precious/file"), "old");
}

#[test]
fn what_it_is_given() {
    let script = "env | sort > env; pwd > cwd; echo \"$1 $2 $3\" > args; cat > input";
    let (world, detected) = world("0.15", &[("x", script)]);
    world.write("platform/env/USER_SET", "user");
    world.write("build-config/env/OPERATOR_SET", "operator");
    world.generate(detected).expect("generated");
    let found = world.read("app/env");
    let expected = [
        format!("CNB_EXTENSION_DIR={}", world.path("extensions/x/1").display()),
        format!("CNB_OUTPUT_DIR={}", world.path("layers/generated/x").display()),
        format!("CNB_PLATFORM_DIR={}", world.path("platform").display()),
        "CNB_EXEC_ENV=production".to_owned(),
        "CNB_STACK_ID=some-stack".to_owned(),
        "CNB_TARGET_ARCH=amd64".to_owned(),
        "CNB_TARGET_DISTRO_NAME=ubuntu".to_owned(),
        "CNB_TARGET_DISTRO_VERSION=24.04".to_owned(),
        "CNB_TARGET_OS=linux".to_owned(),
        "HOME=/home/user".to_owned(),
        "OPERATOR_SET=operator".to_owned(),
        "USER_SET=user".to_owned(),
    ];
    for line in &expected {
        assert!(has_line(&found, line), "{line} is not in\n{found}");
    }
    let others = found.lines().filter(|line| {
        let shell = ["PWD=", "SHLVL=", "_=", "OLDPWD=", "PATH=", "CNB_BP_PLAN_PATH="];
        !expected.iter().any(|known| known == line) && !shell.iter().any(|known| line.starts_with(known))
    });
    assert_eq!(others.collect::<Vec<_>>(), [""; 0], "and nothing else");
    assert_eq!(world.read("app/cwd").trim_end(), world.path("app").to_str().expect("text"));
    let arguments = world.read("app/args");
    let arguments: Vec<_> = arguments.split_whitespace().collect();
    assert_eq!(arguments[0], world.path("layers/generated/x").to_str().expect("text"));
    assert_eq!(arguments[1], world.path("platform").to_str().expect("text"));
    assert!(has_line(&found, &format!("CNB_BP_PLAN_PATH={}", arguments[2])), "{found}");
    assert_eq!(world.read("app/input"), "");
}

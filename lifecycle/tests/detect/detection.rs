//! What passes and what does not, what is told, and what `bin/detect` is given.

use std::fs;
use std::time::{Duration, Instant};

use platform_spec::target::Platform;
use platform_spec::text::to_toml;

use crate::*;

#[test]
fn a_group_that_passes() {
    let world = World::new("0.15");
    let descriptor = Descriptor { own: "homepage = 'https://example.com'", ..PLAIN };
    world.buildpack_with("some_node@1.2.3", descriptor, &plan("+npm +node -node"));
    world.buildpack("skipped@1", "exit 100");
    world.buildpack_with(
        "web@1",
        Descriptor { api: "0.7", ..PLAIN },
        "printf '[[requires]]\\nname = \"npm\"\\n[requires.metadata]\\nversion = \"1.*\"\\nlaunch = true\\n' > \"$2\"",
    );
    let detected = world.order("some/node@1.2.3 ?skipped web").detect();
    let paths = ["layers/group.toml", "layers/plan.toml", "layers/analyzed.toml"].map(|name| world.path(name));
    let before = world.read("layers/analyzed.toml");
    detected.write(&paths[0], &paths[1], &paths[2]).expect("written");
    assert_eq!(
        world.read("layers/group.toml"),
        "[[group]]\n  id = \"some/node\"\n  version = \"1.2.3\"\n  api = \"0.12\"\n  homepage = \"https://example.com\"\n\n\
         [[group]]\n  id = \"web\"\n  version = \"1\"\n  api = \"0.7\"\n"
    );
    assert_eq!(
        world.read("layers/plan.toml"),
        "[[entries]]\n\n  [[entries.providers]]\n    id = \"some/node\"\n    version = \"1.2.3\"\n\n  \
         [[entries.requires]]\n    name = \"node\"\n\n\
         [[entries]]\n\n  [[entries.providers]]\n    id = \"some/node\"\n    version = \"1.2.3\"\n\n  \
         [[entries.requires]]\n    name = \"npm\"\n    [entries.requires.metadata]\n      launch = true\n      \
         version = \"1.*\"\n"
    );
    assert_eq!(world.read("layers/analyzed.toml"), before, "it did not change");
    assert_eq!(world.printed(), "2 of 3 buildpacks participating\nsome/node 1.2.3\nweb       1\n");
}

#[test]
fn a_group_without_a_plan_writes_an_empty_one() {
    let world = World::new("0.15");
    world.buildpack("a@1", "");
    let detected = world.order("a").detect();
    assert_eq!((to_toml(&detected.plan).as_str(), detected.analyzed), ("", None));
    assert_eq!(world.printed(), "a 1\n");
}

#[test]
fn results_decide_the_group() {
    let world = World::new("0.15");
    for (name, script) in
        [("pass", ""), ("pass2", ""), ("fail", "exit 100"), ("error", "exit 7"), ("killed", "kill -9 $$")]
    {
        world.buildpack(&format!("{name}@1"), script);
    }
    let passing: &[(&str, &str)] = &[
        ("pass", "pass"),
        ("pass ?fail", "pass"),
        ("?error pass ?killed", "pass"),
        ("fail; pass", "pass"),
        ("pass fail; pass2", "pass2"),
        ("pass; pass2", "pass"),
    ];
    for (order, expected) in passing {
        assert_eq!(names(&world.order(order).detect()), *expected, "{order}");
    }
    let (none, errors) = ((20, "no buildpacks participating"), (21, "buildpack(s) failed with err"));
    let failing: &[(&str, (u8, &str))] = &[
        ("fail", none),
        ("?fail", none),
        ("pass fail; fail", none),
        ("error", errors),
        ("killed", errors),
        ("pass error; fail", errors),
        ("fail ?error", errors),
    ];
    for (order, (code, text)) in failing {
        assert_eq!(world.order(order).fail(), (*code, (*text).to_owned()), "{order}");
        let expected: &[&str] = if *code == 20 {
            &[
                "ERROR: No buildpack groups passed detection.",
                "ERROR: Please check that you are running against the correct path.",
            ]
        } else {
            &["ERROR: No buildpack groups passed detection."]
        };
        assert_eq!(logged(), expected, "{order}");
    }
}

#[test]
fn a_failure_tells_everything_and_a_success_only_errors() {
    let world = World::new("0.15");
    world.buildpack("a@1", "echo 'a says %s %d %!'; printf '\\377' >&2; exit 100");
    world.buildpack("b@1", "echo b says; exit 3");
    world.buildpack("c@1", "kill -9 $$");
    world.buildpack("d@1", &format!("{}\nprintf no-newline", plan("+x")));
    world.buildpack("e@1", "");
    world.order("a ?b; ?c d; ?d ?a").fail();
    assert_eq!(
        world.printed(),
        "======== Output: a@1 ========\na says %s %d %!\n\u{fffd}\n\
         ======== Output: b@1 ========\nb says\n\
         ======== Results ========\nfail: a@1\nerr:  b@1 (3)\n\
         ======== Error: c@1 ========\nbuildpacks/c/1/bin/detect was ended by a signal: signal: 9 (SIGKILL)\n\
         ======== Output: d@1 ========\nno-newline\n\
         ======== Results ========\nerr:  c@1\npass: d@1\nResolving plan... (try #1)\nfail: d@1 provides unused x\n\
         ======== Output: d@1 ========\nno-newline\n\
         ======== Output: a@1 ========\na says %s %d %!\n\u{fffd}\n\
         ======== Results ========\npass: d@1\nskip: a@1\nResolving plan... (try #1)\nskip: d@1 provides unused x\n\
         fail: no viable buildpacks in group\n"
    );
    assert!(world.printed.borrow().windows(9).any(|bytes| bytes == b"says %s %"), "not a format");
    assert!(world.printed.borrow().contains(&0xff), "not text");

    world.order("?b e ?a").detect();
    assert_eq!(
        world.printed(),
        "======== Output: b@1 ========\nb says\nerr:  b@1 (3)\n1 of 3 buildpacks participating\ne 1\n"
    );
}

#[test]
fn alternatives_are_tried_in_order() {
    let world = World::new("0.15");
    world.buildpack("a@1", &plan("+x | +y | +z"));
    world.buildpack("b@1", &plan("-q | -z | -y"));
    world.buildpack("c@1", "exit 100");
    let detected = world.order("a b").detect();
    assert_eq!(to_toml(&detected.plan).matches("name = \"y\"").count(), 1, "{:?}", detected.plan);
    world.order("a b c").fail();
    assert!(!world.printed().contains("Resolving"), "{}", world.printed());
    world.buildpack("c@1", "");
    world.buildpack("d@1", &plan("-never"));
    world.order("a b d").fail();
    let told = world.printed();
    let tries: Vec<_> = told.lines().skip_while(|line| !line.starts_with("Resolving")).take(6).collect();
    assert_eq!(
        tries,
        [
            "Resolving plan... (try #1)",
            "fail: b@1 requires q",
            "Resolving plan... (try #2)",
            "fail: b@1 requires z",
            "Resolving plan... (try #3)",
            "fail: b@1 requires y",
        ]
    );
    assert!(has_line(&told, "Resolving plan... (try #9)") && !has_line(&told, "Resolving plan... (try #10)"), "{told}");
}

#[test]
fn a_large_plan_is_answered_and_not_told_without_end() {
    let world = World::new("0.15");
    let all: Vec<_> = (0..100).map(|at| format!("b{at}")).collect();
    for (at, name) in all.iter().enumerate() {
        let alternatives = (0..10).map(|option| match at {
            0 => format!("+c0-{option}"),
            99 if option == 9 => "-c98-9".to_owned(),
            99 => "-nothing".to_owned(),
            _ => format!("-c{}-{option} +c{at}-{option}", at - 1),
        });
        world.buildpack(&format!("{name}@1"), &plan(&alternatives.collect::<Vec<_>>().join("|")));
    }
    let start = Instant::now();
    let detected = world.order(&all.join(" ")).detect();
    // A hundred shells take longer than the answer.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!((detected.group.group.len(), detected.plan.entries.len()), (100, 99));
    assert_eq!(detected.plan.entries[98].requires[0].name, "c98-9");

    world.buildpack("none@1", &plan("-never"));
    assert_eq!(world.order(&format!("{} none", all.join(" "))).fail().0, 20);
    let told = world.printed();
    assert!(told.lines().count() < 1000, "{}", told.lines().count());
    assert!(has_line(&told, "Further tries are not shown; none of them succeeded."), "{told}");
}

#[test]
fn a_plan_that_is_a_puzzle_is_given_up() {
    let world = World::new("0.15");
    let holes = 10;
    let mut order = Vec::new();
    for pigeon in 0..=holes {
        let anywhere: Vec<_> = (0..holes).map(|hole| format!("+p{pigeon}h{hole}")).collect();
        world.buildpack(&format!("pigeon{pigeon}@1"), &plan(&anywhere.join("|")));
        order.push(format!("pigeon{pigeon}"));
    }
    for hole in 0..holes {
        let anyone: Vec<_> = (0..=holes).map(|pigeon| format!("-p{pigeon}h{hole}")).collect();
        world.buildpack(&format!("hole{hole}@1"), &plan(&format!("{}|", anyone.join("|"))));
        order.push(format!("hole{hole}"));
    }
    world.buildpack("other@1", "");
    let error = world.order(&format!("{}; other", order.join(" "))).run().expect_err("given up");
    assert!(matches!(error, DetectError::GaveUp), "{error}");
    let advice = error.advice().expect("what to do");
    let (code, text) = failure(error);
    assert!(
        code == 22 && text.contains("gave up after 10000 alternatives") && advice.contains("`or`"),
        "{text}: {advice}"
    );
}

#[test]
fn each_runs_once_and_several_at_a_time() {
    let world = World::new("0.15");
    let all: Vec<_> = (0..8).map(|at| format!("b{at}")).collect();
    for name in &all {
        // None ends before all have begun.
        let meet =
            "for i in $(seq 6000); do [ $(ls | grep -c begun) = 8 ] && exit 100; sleep 0.05; done; echo alone >> runs";
        world.buildpack(&format!("{name}@1"), &format!("echo {name} >> runs; touch {name}.begun; {meet}"));
    }
    world.buildpack("last@1", "echo last >> runs");
    let order = format!("{0} ; {0} ?last; ?b1 last", all.join(" "));
    let detected = world.order(&order).run();
    let runs = world.read("app/runs");
    let mut runs: Vec<_> = runs.lines().collect();
    runs.sort_unstable();
    assert_eq!(runs, ["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7", "last"]);
    assert_eq!(names(&detected.expect("detected")), "last");
}

#[test]
fn a_background_process_does_not_hold_it_up() {
    let world = World::new("0.15");
    let background = "for i in $(seq 6000); do [ -e end ] && exit; sleep 0.05; done; touch waited-for";
    world.buildpack("a@1", &format!("({background}) & echo started; exit 100"));
    world.order("a").fail();
    world.write("app/end", "");
    assert!(!world.path("app/waited-for").exists());
    assert!(has_line(&world.printed(), "started"), "{}", world.printed());
}

#[test]
fn what_it_prints_is_kept_within_bounds() {
    let world = World::new("0.15");
    world.buildpack("a@1", "head -c 9000000 /dev/zero | tr '\\0' x; exit 100");
    world.order("a").fail();
    let printed = world.printed();
    assert!(has_line(&printed, "[what follows is left out: more than 4 MiB]"), "{}", printed.len());
    assert!(printed.len() < 5 << 20, "{}", printed.len());
}

/// What `bin/detect` found, one line a variable, sorted; without what a shell adds.
const TELL: &str = "env | grep -v '^PWD=\\|^SHLVL=\\|^_=\\|^OLDPWD=\\|^PATH=' | sort > env; pwd >> env; cat >> env";

#[test]
fn what_it_is_given() {
    let world = World::new("0.15");
    world.write("platform/env/USER_SET", "user\n");
    world.write("platform/env/CPATH", "/user");
    world.write("build-config/env/OPERATOR_SET", "operator");
    world.write("build-config/env/USER_SET", "not this");
    let script = format!("{TELL}; echo \"$0 $1 $2\" > args; [ \"$2\" = \"${{CNB_BUILD_PLAN_PATH:-$2}}\" ] || exit 1");
    let cases = [
        (Descriptor { api: "0.7", ..PLAIN }, "api 0.7", &["CPATH=/user", "USER_SET=user"][..], &[][..]),
        (Descriptor { api: "0.9", ..PLAIN }, "api 0.9", &["CPATH=/user", "USER_SET=user"], &["platform"]),
        (Descriptor { api: "0.10", ..PLAIN }, "api 0.10", &["CPATH=/user", "USER_SET=user"], &["platform", "target"]),
        (
            Descriptor { own: "clear-env = true", ..PLAIN },
            "clear",
            &["USER_SET=not this"],
            &["platform", "target", "exec"],
        ),
    ];
    for (descriptor, name, user, provided) in cases {
        world.buildpack_with("a@1", descriptor, &script);
        world.order("a").detect();
        let mut expected = vec![
            format!("CNB_BUILDPACK_DIR={}", world.path("buildpacks/a/1").display()),
            "CNB_STACK_ID=some-stack".to_owned(),
            "HOME=/home/user".to_owned(),
            "OPERATOR_SET=operator".to_owned(),
        ];
        expected.extend(user.iter().map(|line| (*line).to_owned()));
        if provided.contains(&"platform") {
            expected.push(format!("CNB_PLATFORM_DIR={}", world.path("platform").display()));
        }
        if provided.contains(&"target") {
            let target = ["ARCH=amd64", "DISTRO_NAME=ubuntu", "DISTRO_VERSION=24.04", "OS=linux"];
            expected.extend(target.map(|variable| format!("CNB_TARGET_{variable}")));
        }
        if provided.contains(&"exec") {
            expected.push("CNB_EXEC_ENV=production".to_owned());
        }
        expected.sort();
        let found = world.read("app/env");
        let (directory, mut found): (Vec<_>, Vec<_>) = found.lines().partition(|line| line.starts_with('/'));
        found.retain(|line| !line.is_empty() && !line.starts_with("CNB_BUILD_PLAN_PATH="));
        assert_eq!(found, expected, "{name}");
        assert_eq!(directory, [world.path("app").to_str().expect("text")], "{name}");
        let arguments = world.read("app/args");
        let arguments: Vec<_> = arguments.split_whitespace().collect();
        assert_eq!(arguments[0], world.path("buildpacks/a/1/bin/detect").to_str().expect("text"));
        assert_eq!(arguments[1], world.path("platform").to_str().expect("text"));
        assert!(!fs::exists(arguments[2]).expect("looked"), "the plan is gone afterwards");
    }
}

#[test]
fn targets_decide_too() {
    let world = World::new("0.12");
    world.buildpack_with("arm@1", Descriptor { rest: "[[targets]]\narch = 'arm64'", ..PLAIN }, "touch ran");
    world.buildpack_with(
        "ubuntu@1",
        Descriptor {
            rest: "[[targets]]\nos = 'linux'\n[[targets.distros]]\nname = 'ubuntu'\nversion = '24.04'",
            ..PLAIN
        },
        "",
    );
    assert_eq!(names(&world.order("ubuntu").detect()), "ubuntu");
    assert_eq!(world.order("ubuntu arm").fail().0, 21);
    let text = "unable to satisfy target os/arch constraints; run image: {\"os\":\"linux\",\"arch\":\"amd64\",\
                \"distro\":{\"name\":\"ubuntu\",\"version\":\"24.04\"}}, buildpack: [{\"os\":\"\",\"arch\":\"arm64\"}]";
    let told = world.printed();
    assert!(has_line(&told, text) && has_line(&told, "err:  arm@1"), "{told}");
    assert_eq!(names(&world.order("ubuntu ?arm").detect()), "ubuntu");
    assert_eq!(world.printed(), "1 of 2 buildpacks participating\nubuntu 1\n");
    assert!(!world.path("app/ran").exists(), "what does not support the target is not run");
    let mut world = world;
    world.inputs.platform_api = PlatformApi::parse(Some("0.11")).expect("an API");
    assert_eq!(names(&world.order("arm").detect()), "arm");
}

#[test]
fn execution_environments_decide_too() {
    let mut world = World::new("0.15");
    world.buildpack_with("test@1", Descriptor { own: "exec-env = ['test']", ..PLAIN }, "");
    world.buildpack_with("old@1", Descriptor { api: "0.11", own: "exec-env = ['test']", ..PLAIN }, "");
    assert_eq!(names(&world.order("test old").detect()), "old");
    assert_eq!(world.order("test").fail().0, 20);
    assert!(has_line(&world.printed(), "fail: no viable buildpacks in group"), "{}", world.printed());
    assert_eq!(names(&world.order("test; old").detect()), "old");
    world.inputs.exec_env = "test".to_owned();
    assert_eq!(names(&world.order("test old").detect()), "test old");
    world.inputs.exec_env = "production".to_owned();
    world.inputs.platform_api = PlatformApi::parse(Some("0.14")).expect("an API");
    assert_eq!(names(&world.order("test old").detect()), "test old");
}

/// An architecture that this machine's is not, and this machine's.
fn other_and_own() -> (&'static str, &'static str) {
    if Platform::of_this_program().arch() == "arm64" { ("amd64", "arm64") } else { ("arm64", "amd64") }
}

#[test]
fn a_cross_build_needs_buildpacks_that_say_that_they_can() {
    let (other, own) = other_and_own();
    let mut world = World::new("0.12");
    let analyzed = format!(
        "[run-image]\nreference = 'run@sha256:1'\nimage = 'run'\n[run-image.target]\nos = 'linux'\narch = '{other}'\n"
    );
    world.write("layers/analyzed.toml", format!("target-arch = '{other}'\n{analyzed}"));
    let build_arch = |arch: &str, on: &str| format!("[[targets]]\narch = '{arch}'\nbuild-arch = [{on}]");
    for (name, targets, can) in [
        ("silent", String::new(), false),
        ("native", format!("[[targets]]\narch = '{other}'"), false),
        ("crossing", build_arch(other, &format!("'{own}'")), true),
        ("anywhere", build_arch(other, "'*'"), true),
        ("elsewhere", build_arch(other, "'s390x', 'ppc64le'"), false),
        ("both", format!("[[targets]]\narch = '{own}'\n{}", build_arch(other, "'x86_64', 'aarch64'")), true),
        ("another", format!("[[targets]]\narch = '{other}'\n{}", build_arch("s390x", "'*'")), false),
    ] {
        world.buildpack_with(&format!("{name}@1"), Descriptor { rest: &targets, ..PLAIN }, "touch ran");
        world.order(name);
        if can {
            let detected = world.detect();
            assert_eq!((names(&detected).as_str(), detected.group.build_arch.as_str()), (name, own));
            fs::remove_file(world.path("app/ran")).expect("it ran");
        } else {
            let (code, text) = world.fail();
            assert_eq!((code, text.as_str()), (21, "buildpack(s) failed with err"), "{name}");
            let expected = format!(
                "unable to build for linux/{other} on linux/{own}: buildpack '{name}@1' does not state build-arch for \
                 that target\nIts buildpack.toml has to say [[targets]] with arch = \"{other}\" and build-arch = \
                 [\"{own}\"], if it can;\nelse build where buildpacks run on linux/{other}: on such a machine, or emulated."
            );
            assert!(world.printed().contains(&expected), "{name}: {}", world.printed());
            assert!(!world.path("app/ran").exists(), "what cannot build is not run");
        }
    }
    world.order("?silent crossing");
    assert_eq!(names(&world.detect()), "crossing", "an optional one is left out");

    // The flag or the variable asks as well, before Platform API 0.12 too, where nothing is known of the run image.
    world.write("layers/analyzed.toml", "");
    world.inputs.target_arch = Some(other.parse().expect("known"));
    for api in ["0.7", "0.11"] {
        world.inputs.platform_api = platform_spec::api::PlatformApi::parse(Some(api)).expect("supported");
        assert_eq!(names(&world.detect()), "crossing", "{api}");
        world.order("silent");
        assert_eq!(world.fail().0, 21, "{api}");
        world.order("?silent crossing");
    }
}

#[test]
fn a_target_that_is_not_the_run_images_is_refused() {
    let (other, own) = other_and_own();
    let mut world = World::new("0.12");
    world.buildpack("a@1", "true");
    world.order("a");
    let analyzed =
        |arch: &str| format!("[run-image]\nreference = 'r'\n[run-image.target]\nos = 'linux'\narch = '{arch}'");
    world.write("layers/analyzed.toml", analyzed(own));
    world.inputs.target_arch = Some(other.parse().expect("known"));
    let expected = format!(
        "resolve inputs: the target is linux/{other}, but the run image that was analyzed is for linux/{own} \
         (analyzed.toml: run-image.target); give every phase the same target (-target-arch, CNB_BUILD_TARGET_ARCH)"
    );
    assert_eq!(world.fail(), (3, expected));
    world.inputs.target_arch = Some(own.parse().expect("known"));
    let detected = world.detect();
    assert_eq!(detected.group.build_arch, own, "a target that is this machine's is one too");
    world.inputs.target_arch = None;
    assert_eq!(world.detect().group.build_arch, "", "unset");
    world.write("layers/analyzed.toml", format!("target-arch = 'sparc'\n{}", analyzed(own)));
    let (code, text) = world.fail();
    assert_eq!(code, 3);
    assert!(
        text.starts_with("resolve inputs: target-arch in analyzed.toml: parse platform 'sparc': unknown"),
        "{text}"
    );
}

#[test]
fn a_mismatch_names_the_field() {
    let (other, own) = other_and_own();
    let mut world = World::new("0.12");
    world.inputs.target_arch = Some(own.parse().expect("known"));
    world.write(
        "layers/analyzed.toml",
        format!(
            "[run-image]\nreference = 'r'\n[run-image.target]\nos = 'linux'\narch = '{own}'\n[run-image.target.distro]\n\
             name = 'ubuntu'\nversion = '24.04'"
        ),
    );
    for (targets, told) in [
        (
            format!("[[targets]]\narch = '{other}'"),
            format!("arch: the build is for {own}, buildpack 'a@1' is for {other}"),
        ),
        (
            "[[targets]]\nos = 'windows'".to_owned(),
            "os: the build is for linux, buildpack 'a@1' is for windows".to_owned(),
        ),
        (
            format!("[[targets]]\narch = '{own}'\n[[targets.distros]]\nname = 'alpine'\nversion = '3'"),
            "distros: the build is for ubuntu 24.04, buildpack 'a@1' is for alpine 3".to_owned(),
        ),
    ] {
        world.buildpack_with("a@1", Descriptor { rest: &targets, ..PLAIN }, "true");
        world.order("a");
        assert_eq!(world.fail().0, 21);
        assert!(has_line(&world.printed(), &told), "{told}: {}", world.printed());
    }
}

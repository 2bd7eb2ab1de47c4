//! What buildpacks get: arguments, variables, working directory, plan.

use super::*;

const DUMP: &str = "env -0 | sort -z | tr '\\0' '\\n' | grep -v -e ^_= -e ^PWD= -e ^SHLVL= -e ^OLDPWD=";

/// The environment that the buildpack dumped into `env`, with the world's path as `@`.
fn dumped(world: &World, id: &str) -> Vec<String> {
    let text = world.read(&format!("layers/{id}/env")).replace(&world.temp.path().display().to_string(), "@");
    text.lines().filter(|line| !line.starts_with("PATH=")).map(str::to_owned).collect()
}

#[test]
fn variables_depend_on_the_buildpacks_api() {
    let always = ["CNB_BUILDPACK_DIR=@/buildpacks/a/1"];
    let paths = ["CNB_LAYERS_DIR=@/layers/a", "CNB_PLATFORM_DIR=@/platform"];
    let target = [
        "CNB_TARGET_ARCH=arm64",
        "CNB_TARGET_ARCH_VARIANT=v8",
        "CNB_TARGET_DISTRO_NAME=debian",
        "CNB_TARGET_DISTRO_VERSION=13",
        "CNB_TARGET_OS=linux",
    ];
    for (api, expected) in [
        ("0.7", [&always[..]].concat()),
        ("0.8", [&always[..], &paths].concat()),
        ("0.9", [&always[..], &paths].concat()),
        ("0.10", [&always[..], &paths, &target].concat()),
        ("0.12", [&always[..], &["CNB_EXEC_ENV=test"], &paths, &target].concat()),
    ] {
        let mut world = World::new("0.7");
        world.inputs.exec_env = "test".to_owned();
        world.inputs.target = platform_spec::text::from_toml(
            "os = 'linux'\narch = 'arm64'\narch-variant = 'v8'\n[distro]\nname = 'debian'\nversion = '13'",
        )
        .expect("a target");
        for name in ["CNB_REGISTRY_AUTH", "DOCKER_CONFIG", "CNB_PLATFORM_API", "LD_PRELOAD"] {
            world.inputs.environment.set(name, "secret");
        }
        world.buildpack(
            "a",
            api,
            &format!("{DUMP} | grep -v ^CNB_BP_PLAN_PATH= > env; echo ${{CNB_BP_PLAN_PATH-none}} > plan-path"),
        );
        world.build();
        let mut expected: Vec<_> = expected.into_iter().map(str::to_owned).collect();
        expected.sort();
        assert_eq!(dumped(&world, "a"), expected, "{api}");
        assert_eq!(world.read("layers/a/plan-path") == "none\n", api == "0.7", "{api}");
    }
}

#[test]
fn arguments_working_directory_and_input() {
    let mut world = World::new("0.12");
    world.plan("[[entries]]\n[[entries.providers]]\nid = 'x/a'\nversion = '1'\n[[entries.requires]]\nname = 'thing'\n[entries.requires.metadata]\nversion = '1.2'\n");
    let script = r#"echo $# "$1" "$2"; pwd; cat "$3"; [ "$3" = "$CNB_BP_PLAN_PATH" ]; echo "$3" > "$1/path"; wc -c"#;
    world.buildpack_with("x/a", "0.10", "", script);
    world.build();
    let printed = world.printed().replace(&world.temp.path().display().to_string(), "@");
    let plan = "[[entries]]\n  name = \"thing\"\n  [entries.metadata]\n    version = \"1.2\"\n";
    assert_eq!(printed, format!("3 @/layers/x_a @/platform\n@/app\n{plan}0\n"));
    assert!(!Path::new(world.read("layers/x_a/path").trim()).exists(), "the plan is removed");
}

#[test]
fn build_layers_make_the_environment_of_later_buildpacks() {
    let mut world = World::new("0.12");
    world.inputs.environment.set("LD_LIBRARY_PATH", "/old");
    let layers = r#"
        for layer in x y z; do
            mkdir -p $layer/{bin,lib,include,pkgconfig,env,env.build,env.launch}
            printf "$layer" > $layer/env/OVER
            printf "$layer" > $layer/env/APP.append; printf , > $layer/env/APP.delim
            printf "$layer" > $layer/env.build/DEF.default
            printf "$layer" > $layer/env.launch/NOT
            printf '[types]\nbuild = true\n' > $layer.toml
        done
        printf '[types]\nlaunch = true\ncache = true\n' > z.toml
    "#;
    world.buildpack("a", "0.10", layers);
    world.buildpack("b", "0.10", &format!("mkdir -p l/env l/bin; printf b > l/env/APP.prepend; printf - > l/env/APP.delim; printf '[types]\nbuild = true' > l.toml; {DUMP} > env; echo \"${{PATH%%:*}}\" > path"));
    world.buildpack("c", "0.10", &format!("{DUMP} > env; echo \"${{PATH%%:*}}\" > path"));
    world.build();
    let get = |id: &str, name: &str| {
        let line = dumped(&world, id).into_iter().find(|line| line.starts_with(&format!("{name}=")));
        line.map(|line| line[name.len() + 1..].to_owned())
    };
    for id in ["b", "c"] {
        assert_eq!(get(id, "OVER").as_deref(), Some("y"));
        assert_eq!(get(id, "DEF").as_deref(), Some("x"));
        assert_eq!(get(id, "NOT"), None);
        assert_eq!(get(id, "LD_LIBRARY_PATH").as_deref(), Some("@/layers/a/y/lib:@/layers/a/x/lib:/old"));
        assert_eq!(get(id, "LIBRARY_PATH").as_deref(), Some("@/layers/a/y/lib:@/layers/a/x/lib"));
        assert_eq!(get(id, "CPATH").as_deref(), Some("@/layers/a/y/include:@/layers/a/x/include"));
        assert_eq!(get(id, "PKG_CONFIG_PATH").as_deref(), Some("@/layers/a/y/pkgconfig:@/layers/a/x/pkgconfig"));
    }
    assert_eq!(get("b", "APP").as_deref(), Some("x,y"), "its own layers come only afterwards");
    assert_eq!(get("c", "APP").as_deref(), Some("b-x,y"));
    let layers = world.path("layers").display().to_string();
    assert_eq!(world.read("layers/b/path"), format!("{layers}/a/y/bin\n"));
    assert_eq!(world.read("layers/c/path"), format!("{layers}/b/l/bin\n"));
}

#[test]
fn users_and_operators_variables() {
    let mut world = World::new("0.7");
    for (name, value) in [
        ("platform/env/USERS", "user\n"),
        ("platform/env/BOTH", "user"),
        ("platform/env/CPATH", "/user"),
        ("build-config/env/BOTH", "operator"),
        ("build-config/env/OPERATORS.override", "operator"),
    ] {
        world.write(name, value);
    }
    let script = format!("cd \"$1\"; {DUMP} | grep -v ^CNB_ > env");
    world.buildpack_with("a", "0.10", "", &script).buildpack_with("b", "0.10", "clear-env = true", &script);
    world.build();
    assert_eq!(dumped(&world, "a"), ["BOTH=user", "CPATH=/user", "OPERATORS=operator", "USERS=user", ""]);
    assert_eq!(dumped(&world, "b"), ["BOTH=operator", "OPERATORS=operator"]);
}

#[test]
fn an_environment_that_cannot_be_read_is_an_error() {
    let mut world = World::new("0.12");
    let fifo = world.path("platform/env/FIFO");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("made");
    world.buildpack("a", "0.10", "");
    assert_eq!(world.fail(), (52, "read platform/env/FIFO: not a regular file".to_owned()));
}

#[test]
fn each_buildpack_gets_what_nobody_met_before() {
    let mut world = World::new("0.12");
    let entry = |name: &str, providers: &[&str]| {
        let providers: String =
            providers.iter().map(|id| format!("[[entries.providers]]\nid = '{id}'\nversion = '1'\n")).collect();
        format!("[[entries]]\n{providers}[[entries.requires]]\nname = '{name}'\n")
    };
    let extension = "[[entries]]\n[[entries.providers]]\nid = 'a'\nversion = '1'\nextension = true\n[[entries.requires]]\nname = 'e'\n";
    let plan =
        [entry("x", &["a", "b"]), entry("y", &["a", "b", "c"]), entry("z", &["c"]), extension.to_owned()].concat();
    world.plan(&plan);
    let show = "grep -o 'name = .*' \"$3\" | tr '\\n' ' '; echo '|'";
    world.buildpack("a", "0.10", &format!("{show}; printf \"[[unmet]]\nname = 'y'\" > build.toml"));
    world.buildpack("b", "0.10", &format!("{show}; printf \"[[unmet]]\nname = 'y'\" > build.toml"));
    world.buildpack("c", "0.10", show);
    world.buildpack("d", "0.10", show);
    world.build();
    let names = ["name = \"x\" name = \"y\" |", "name = \"y\" |", "name = \"y\" name = \"z\" |", "|", ""];
    assert_eq!(world.printed(), names.join("\n"));
}

#[test]
fn unmet_that_was_not_asked_for_is_an_error() {
    let mut world = World::new("0.12");
    world.buildpack("a", "0.10", "printf \"[[unmet]]\nname = 'y'\" > build.toml");
    let expected = "layers/a/build.toml: unmet.name 'y' must match a requested dependency";
    assert_eq!(world.fail(), (52, expected.to_owned()));
}

#[test]
fn apis_are_checked_before_anything_runs() {
    for (api, expected) in [
        ("0.6", "set API for buildpack 'b@1': buildpack API version '0.6' is incompatible with the lifecycle"),
        ("x", "parse buildpack API 'x' for buildpack 'b@1'"),
        ("", "parse buildpack API '<nil>' for buildpack 'b@1'"),
    ] {
        let mut world = World::new("0.12");
        world.buildpack("a", "0.10", "echo ran").buildpack("b", api, "");
        assert_eq!(world.fail(), (12, expected.to_owned()));
        assert_eq!(world.printed(), "");
    }
}

#[test]
fn a_missing_buildpack_is_found_out_before_anything_runs() {
    let mut world = World::new("0.12");
    world.buildpack("a", "0.10", "echo ran").buildpack("b", "0.10", "");
    fs::remove_file(world.path("buildpacks/b/1/buildpack.toml")).expect("removed");
    assert_eq!(world.fail(), (52, "open buildpacks/b/1/buildpack.toml: no such file or directory".to_owned()));
    world.write("buildpacks/b/1/buildpack.toml", "api = '0.6'\n[buildpack]\nid = 'b'\nversion = '1'");
    assert_eq!(world.fail().0, 12);
    assert_eq!(world.printed(), "");
}

//! Orders: composites, extensions, system buildpacks.

use platform_spec::text::to_toml;

use crate::*;

#[test]
fn composites_are_expanded_and_optional_ones_done_without() {
    let world = World::new("0.15");
    for (name, script) in [("a", ""), ("b", ""), ("c", ""), ("fail", "exit 100")] {
        world.buildpack(&format!("{name}@1"), script);
    }
    world.buildpack("b@2", "");
    world.composite("ab@1", "a b");
    world.composite("either@1", "fail; c");
    world.composite("failing@1", "fail; a fail");
    world.composite("nested@1", "either b@2");
    for (order, expected) in [
        ("ab c", "a b c"),
        ("either", "c"),
        ("nested a", "c b@2 a"),
        ("b ab", "b a"),
        ("b@2 ab", "b@2 a"),
        ("?failing b", "b"),
        ("a ?failing b; c", "a b"),
        ("failing b; c", "c"),
    ] {
        assert_eq!(names(&world.order(order).detect()), expected, "{order}");
    }
    assert_eq!(world.order("failing b").fail().0, 20);
}

#[test]
fn extensions_stand_in_front_and_are_optional() {
    let world = World::new("0.13");
    world.extension("x@1", &plan("+tree"), "");
    world.extension("unused@1", &plan("+nobody"), "");
    world.extension("static@1", "", "");
    world.write("extensions/static/1/detect/plan.toml", "[[provides]]\nname = \"tree\"");
    world.extension("silent@1", "", "");
    world.extension("fail@1", "exit 100", "");
    world.extension("error@1", "exit 1", "");
    world.extension("requires@1", &plan("-tree"), "");
    world.buildpack("a@1", &plan("-tree"));
    world.buildpack("free@1", "");
    let detected = world.order_with_extensions("a free", "unused x fail").detect();
    assert_eq!(names(&detected), "x a free");
    assert_eq!(detected.group.group_extensions.len(), 1);
    assert_eq!(
        to_toml(&detected.plan),
        "[[entries]]\n\n  [[entries.providers]]\n    id = \"x\"\n    version = \"1\"\n    extension = true\n\n  \
         [[entries.requires]]\n    name = \"tree\"\n"
    );
    assert_eq!(world.printed(), "3 of 5 buildpacks participating\nx    1\na    1\nfree 1\n");
    for (extensions, buildpacks, expected) in [
        ("fail; x", "a", "x a"),
        ("static", "a", "static a"),
        ("x static", "a", "x static a"),
        ("silent", "free", "silent free"),
        ("x; unused", "free", "free"),
        ("error", "free", "free"),
        ("requires x", "a", "x a"),
    ] {
        let detected = world.order_with_extensions(buildpacks, extensions).detect();
        assert_eq!(names(&detected), expected, "{extensions}: {buildpacks}");
    }
    assert_eq!(world.order_with_extensions("a", "unused").fail().0, 20, "nobody provides what is required");
    assert_eq!(world.order_with_extensions("a", "requires").fail().0, 21);
    let told = world.printed();
    assert!(has_line(&told, "extension requires outputs \"requires\" which is not allowed"), "{told}");
}

#[test]
fn extensions_were_experimental_once() {
    for (api, experimental, allowed) in [
        ("0.10", Experimental::Refused, false),
        ("0.12", Experimental::Refused, false),
        ("0.12", Experimental::Warned, true),
        ("0.12", Experimental::Silent, true),
        ("0.13", Experimental::Refused, true),
    ] {
        let mut world = World::new(api);
        world.inputs.experimental = experimental;
        world.extension("x@1", "", "");
        world.buildpack("a@1", "");
        world.order_with_extensions("a", "x");
        match world.run() {
            Ok(detected) => assert_eq!((names(&detected).as_str(), allowed), ("x a", true), "{api} {experimental:?}"),
            Err(error) => {
                let expected = "experimental features are disabled by CNB_EXPERIMENTAL_MODE=error";
                assert_eq!((failure(error), allowed), ((1, expected.to_owned()), false), "{api} {experimental:?}");
            }
        }
        let asked = "Platform requested experimental feature 'Dockerfiles'";
        let told = logged().iter().any(|line| line.contains(asked));
        assert_eq!(told, api != "0.13" && experimental != Experimental::Silent, "{api} {experimental:?}");
    }
}

#[test]
fn system_buildpacks_are_around_every_group() {
    let mut world = World::new("0.15");
    for name in ["pre", "post", "a", "b", "pre-and-post"] {
        world.buildpack(&format!("{name}@1"), "");
    }
    world.buildpack("pre@2", "");
    world.buildpack("fail@1", "exit 100");
    world.write(
        "system.toml",
        "[[system.pre.buildpacks]]\nid = 'pre'\nversion = '1'\n[[system.pre.buildpacks]]\nid = 'fail'\nversion = '1'\n\
         optional = true\n[[system.post.buildpacks]]\nid = 'post'\nversion = '1'\n",
    );
    assert_eq!(names(&world.order("a").detect()), "pre a post");
    assert_eq!(names(&world.order("a fail; b").detect()), "pre b post");
    assert_eq!(names(&world.order("a pre@2").detect()), "a pre@2 post", "the group has one of that id");
    world.inputs.platform_api = PlatformApi::parse(Some("0.14")).expect("an API");
    assert_eq!(names(&world.order("a").detect()), "a");
    world.inputs.platform_api = PlatformApi::parse(Some("0.15")).expect("an API");
    world.write("system.toml", "[[system.pre.buildpacks]]\nid = 'fail'\nversion = '1'\n");
    assert_eq!(world.order("a").fail().0, 20, "a system buildpack is required unless it says otherwise");
    world.write("system.toml", "");
    assert_eq!(names(&world.order("a").detect()), "a");
    world.write("system.toml", "[[system.pre.buildpacks]]\nid = 'missing'\nversion = '1'\n");
    assert_eq!(world.order("a").fail().0, 1);
}

//! Rebases against a registry.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};

use acceptance::image::{self, Bundle, Format};
use acceptance::{Build, Phase, Project, Registry, Tool, USER};
use serde_json::Value;

const METADATA: &str = "io.buildpacks.lifecycle.metadata";

/// Puts another run image into a registry: one that has the directory `/marker/<name>`, and what flags of `umoci config` say.
fn run_image(registry: &Registry, name: &str, format: &str, flags: &[&str]) -> String {
    let work = tempfile::tempdir().expect("a directory");
    let layout = work.path().join("layout");
    image::make_run_image(&layout, "run");
    let image = format!("{}:run", layout.display());
    let marker = work.path().join("marker");
    fs::create_dir_all(marker.join(name.replace(':', "-"))).expect("created");
    Tool::new("umoci").args(["insert", "--image", &image, &marker.display().to_string(), "/marker"]).run();
    if !flags.is_empty() {
        Tool::new("umoci").args(["config", "--image", &image]).args(flags).run();
    }
    let reference = registry.image(name);
    Tool::new("skopeo")
        .args(["copy", "--quiet", "--format", format])
        .args(registry.skopeo_flags("dest"))
        .args([format!("oci:{image}"), format!("docker://{reference}")])
        .run();
    reference
}

/// An exported app image, whose run image has the mirror `run:new`, which is not there yet.
fn exported(format: Format) -> Build {
    let build = Build::into(Project::web(), Registry::start(), format);
    let (image, new) = (&build.run_image, build.registry.image("run:new"));
    let toml = format!("image = \"{image}\"\nmirrors = [\"{new}\"]\n");
    build.project.write("run.toml", format!("[[images]]\n{toml}"));
    build.project.write("stack.toml", format!("[run-image]\n{toml}"));
    build.phase_for("creator", "app").flag("run", build.project.path("run.toml")).run().succeeds();
    build
}

/// The rebaser, with nothing but the variables of a builder's image.
fn rebaser(build: &Build) -> Phase {
    let phase = build.project.lifecycle().phase("rebaser").env("CNB_REGISTRY_AUTH", build.registry.auth());
    let phase = phase.env("CNB_USER_ID", USER.to_string()).env("CNB_GROUP_ID", USER.to_string());
    phase.env("CNB_LAYERS_DIR", build.project.path("layers"))
}

fn digest(build: &Build, name: &str) -> String {
    image::inspect(&build.registry, &build.registry.image(name)).digest
}

fn is_reference(build: &Build) -> bool {
    build.project.lifecycle().phase("detector").api("0.1").run().stdout.contains("ERROR: ")
}

/// The exit status where the run image cannot be opened. A recorded divergence: the reference's is that of generic errors.
fn run_image_error(build: &Build) -> i32 {
    if is_reference(build) { 1 } else { 72 }
}

#[test]
fn the_app_runs_on_another_run_image() {
    // Docker's format: of OCI's the reference makes a manifest that skopeo refuses (a recorded divergence).
    let build = exported(Format::Docker);
    let more = ["--config.label=io.buildpacks.base.new=y", "--config.label=io.buildpacks.stack.new=y"];
    let new = run_image(&build.registry, "run:new", "v2s2", &more);
    let app = build.registry.image("app");
    let before = image::inspect(&build.registry, &app);
    let old_base = image::inspect(&build.registry, &build.run_image);
    let base = image::inspect(&build.registry, &new);
    fs::remove_file(build.project.path("layers/report.toml")).expect("removed");
    let outcome = rebaser(&build).args(["-run-image", &new, &app]).run().succeeds();
    outcome.says(&format!("Saving {app}...")).says("*** Images (sha256:");

    let after = image::inspect(&build.registry, &app);
    assert_ne!(after.digest, before.digest);
    let bases = old_base.diff_ids().len();
    assert_eq!(after.diff_ids(), [base.diff_ids(), before.diff_ids().split_off(bases)].concat());
    let own = |manifest: &Value, from: usize| manifest["layers"].as_array().expect("a list")[from..].to_vec();
    assert_eq!(own(&after.manifest, base.diff_ids().len()), own(&before.manifest, bases));
    assert_eq!(after.manifest["mediaType"], before.manifest["mediaType"]);

    let metadata =
        |inspected: &image::Inspected| serde_json::from_str::<Value>(inspected.label(METADATA)).expect("JSON");
    let (mut expected, found) = (metadata(&before), metadata(&after));
    let host = build.registry.host();
    expected["runImage"]["topLayer"] = base.diff_ids().pop().into();
    expected["runImage"]["reference"] = format!("{host}/run@{}", base.digest).into();
    assert_eq!(found, expected);

    let mut expected = before.config["config"].clone();
    expected["Labels"][METADATA] = after.label(METADATA).into();
    for label in ["io.buildpacks.base.new", "io.buildpacks.stack.new"] {
        expected["Labels"][label] = "y".into();
    }
    assert_eq!(after.config["config"], expected);
    assert_eq!(after.config["created"], "1980-01-01T00:00:01Z");

    let report = build.project.toml("layers/report.toml");
    assert_eq!(report["image"]["digest"].as_str(), Some(after.digest.as_str()));
    assert_eq!(report["image"]["tags"].as_array().expect("a list")[..], [app.as_str().into()]);
    assert!(report["image"]["manifest-size"].as_integer().expect("a number") > 0);

    let layout = build.project.path("layout");
    image::pull(&build.registry, &app, &layout, "app");
    let bundle = Bundle::unpack(&layout, "app", build.project.path("bundle"));
    assert!(bundle.root().join("marker/run-new").is_dir());
    assert_eq!(bundle.run(Some("/cnb/process/list"), &[]), "cgi-bin\nindex.html\n");
    if !is_reference(&build) {
        let history = after.config["history"].as_array().expect("a list");
        let tells =
            |text: &str| history.iter().any(|entry| entry["created_by"].as_str().is_some_and(|by| by.contains(text)));
        assert_eq!(history.len(), after.diff_ids().len());
        assert!(tells("Buildpacks Launcher Config") && tells("umoci"), "{history:?}");
    }
}

#[test]
fn of_every_platform_api_with_no_flags_at_all() {
    for api in ["0.7", "0.8", "0.9", "0.10", "0.11", "0.12", "0.13", "0.14", "0.15"] {
        let build = Build::into(Project::web(), Registry::start(), Format::Docker);
        let toml = format!("image = \"{}\"\n", build.run_image);
        build.project.write("run.toml", format!("[[images]]\n{toml}"));
        build.project.write("stack.toml", format!("[run-image]\n{toml}"));
        let stack = build.project.path("stack.toml");
        let creator = build.phase_for("creator", "app").flag("stack", stack).api(api);
        let creator = creator.env("CNB_RUN_PATH", build.project.path("run.toml"));
        creator.env("CNB_STACK_ID", "samples.stack").run().succeeds();
        let before = digest(&build, "app");
        // The run image has been rebuilt.
        run_image(&build.registry, "run", "v2s2", &[]);
        rebaser(&build).api(api).arg(build.registry.image("app")).run().succeeds();
        let after = image::inspect(&build.registry, &build.registry.image("app"));
        assert_ne!(after.digest, before, "{api}");
        let base = image::inspect(&build.registry, &build.run_image);
        assert!(after.label(METADATA).contains(&format!("run@{}", base.digest)), "{api}: {}", after.label(METADATA));
        assert_eq!(after.diff_ids()[..base.diff_ids().len()], base.diff_ids());
        let again = rebaser(&build).api(api).arg(build.registry.image("app")).run().succeeds();
        assert_eq!(digest(&build, "app"), after.digest, "{api}: {again:?}");
    }
}

#[test]
fn each_tag_is_the_rebased_image_and_the_previous_one_stays() {
    let build = exported(Format::Docker);
    let new = run_image(&build.registry, "run:new", "v2s2", &[]);
    let before = digest(&build, "app");
    let names = ["rebased", "rebased:1", "other:2"].map(|name| build.registry.image(name));
    let report = build.project.path("layers/elsewhere.toml");
    let phase = rebaser(&build).flag("previous-image", build.registry.image("app")).flag("report", &report);
    phase.flag("image", &new).args(&names).run().succeeds().says(&names[2]);
    assert_eq!(digest(&build, "app"), before);
    let rebased = digest(&build, "rebased");
    assert_ne!(rebased, before);
    assert_eq!((digest(&build, "rebased:1"), digest(&build, "other:2")), (rebased.clone(), rebased.clone()));
    let report = build.project.toml("layers/elsewhere.toml");
    let tags: Vec<_> = report["image"]["tags"].as_array().expect("a list").iter().map(|tag| tag.as_str()).collect();
    assert_eq!(tags, names.each_ref().map(|name| Some(name.as_str())));
    assert_eq!(report["image"]["digest"].as_str(), Some(rebased.as_str()));
}

#[test]
fn what_is_unsafe_is_refused_unless_it_is_forced() {
    let build = exported(Format::Docker);
    let app = build.registry.image("app");
    let before = digest(&build, "app");
    let elsewhere = run_image(&build.registry, "unknown", "v2s2", &[]);
    let new = run_image(&build.registry, "run:new", "v2s2", &["--config.label=io.buildpacks.base.distro.version=2"]);
    let none = build.registry.image("run:none");
    for run_image in [&elsewhere, &new] {
        rebaser(&build).flag("run-image", run_image).arg(&app).run().ends_with(72).says("-force");
        assert_eq!(digest(&build, "app"), before);
    }
    rebaser(&build).flag("run-image", &none).arg(&app).run().ends_with(run_image_error(&build));
    rebaser(&build).arg(build.registry.image("none")).run().ends_with(72);
    assert_eq!(digest(&build, "app"), before);

    let forced = rebaser(&build).arg("-force").flag("run-image", &new).arg(&app).run().succeeds();
    forced.says("Warning: ");
    let after = image::inspect(&build.registry, &app);
    assert_eq!(after.label("io.buildpacks.base.distro.version"), "2");
    assert!(after.label(METADATA).contains("\"mirrors\""), "it was named: {}", after.label(METADATA));
    rebaser(&build).env("CNB_FORCE_REBASE", "true").flag("run-image", &elsewhere).arg(&app).run().succeeds();
    let metadata: Value = serde_json::from_str(image::inspect(&build.registry, &app).label(METADATA)).expect("JSON");
    assert_eq!(metadata["runImage"]["image"], elsewhere.as_str());
    assert_eq!(metadata["runImage"].get("mirrors"), None);
    assert_eq!(metadata["stack"], serde_json::json!({"runImage": {"image": elsewhere}}));
}

/// The run image is in another registry, for which credentials are needed; its helper can be used by root alone.
#[test]
fn credentials_for_a_run_image_that_only_the_app_image_names() {
    let build = exported(Format::Docker);
    let private = Registry::start_with_password("builder", "s3cret-pass");
    let new = run_image(&private, "run", "v2s2", &[]);
    build.project.write("run.toml", format!("[[images]]\nimage = \"{new}\"\n"));
    build.phase_for("creator", "app").flag("run", build.project.path("run.toml")).run().succeeds();
    let app = build.registry.image("app");

    rebaser(&build).env("HOME", "/nowhere").arg(&app).run().ends_with(72);
    let auth = rebaser(&build).env("CNB_REGISTRY_AUTH", private.auth()).arg(&app).run().succeeds();
    auth.says_no("s3cret-pass");

    let helper = format!(
        "#!/bin/sh\n[ \"$(id -u)\" = 0 ] || exit 1\nhost=$(cat)\ncase $host in\n\
         {}) echo '{{\"ServerURL\": \"\", \"Username\": \"builder\", \"Secret\": \"s3cret-pass\"}}';;\n*) exit 1;;\nesac\n",
        private.host()
    );
    build.project.write("home/bin/docker-credential-sample", helper);
    let config = serde_json::json!({ "credHelpers": { private.host(): "sample" } }).to_string();
    build.project.write("home/.docker/config.json", config);
    for (name, mode) in [("home/bin/docker-credential-sample", 0o700), ("home/.docker/config.json", 0o600)] {
        lchown(build.project.path(name), Some(0), Some(0)).expect("tests run as root");
        fs::set_permissions(build.project.path(name), fs::Permissions::from_mode(mode)).expect("set");
    }
    let path = format!("{}:/usr/bin:/bin", build.project.path("home/bin").display());
    let as_root = rebaser(&build).as_root().without("CNB_REGISTRY_AUTH").env("HOME", build.project.path("home"));
    let as_root = as_root.env("PATH", path);
    as_root.arg(&app).run().succeeds().says_no("s3cret-pass");
    let report = fs::metadata(build.project.path("layers/report.toml")).expect("written");
    assert_eq!((report.uid(), report.gid()), (USER, USER), "written as the user");
}

/// Puts a document under a tag, as another tool might have.
fn put(registry: &Registry, repository: &str, tag: &str, media_type: &str, body: &str) {
    let mut stream = TcpStream::connect(registry.host()).expect("connected");
    write!(
        stream,
        "PUT /v2/{repository}/manifests/{tag} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: {media_type}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        registry.host(),
        body.len()
    )
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

#[test]
fn of_an_index_this_machines_image_is_rebased_and_the_others_are_named() {
    let build = exported(Format::Docker);
    let new = run_image(&build.registry, "run:new", "v2s2", &[]);
    // Nobody looks into the other one.
    let other = run_image(&build.registry, "app:other", "v2s2", &["--architecture=s390x"]);
    let app = build.registry.image("app");
    let children: Vec<_> = [(&app, "amd64"), (&other, "s390x")]
        .into_iter()
        .map(|(name, architecture)| {
            let flags = build.registry.skopeo_flags("");
            let raw =
                Tool::new("skopeo").args(["inspect", "--raw"]).args(flags).args([format!("docker://{name}")]).run();
            serde_json::json!({
                "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "size": raw.len(),
                "digest": image::inspect(&build.registry, name).digest,
                "platform": {"os": "linux", "architecture": architecture},
            })
        })
        .collect();
    let kind = "application/vnd.docker.distribution.manifest.list.v2+json";
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": kind, "manifests": children}).to_string();
    put(&build.registry, "app", "index", kind, &index);
    let name = build.registry.image("app:index");
    let outcome = rebaser(&build).flag("run-image", &new).arg(&name).run().succeeds();
    if !is_reference(&build) {
        // A recorded divergence: the reference says nothing.
        outcome.says(&format!(
            "{name} is an image for several platforms and is replaced by one for linux/amd64; \
             gone from it: linux/s390x"
        ));
    }
    let after = image::inspect(&build.registry, &name);
    assert_eq!(after.config["architecture"], "amd64");
    let direct = build.registry.image("direct");
    let rebaser = rebaser(&build).flag("run-image", &new).flag("previous-image", &app);
    rebaser.arg(&direct).run().succeeds().says_no("several platforms");
    assert_eq!(digest(&build, "direct"), after.digest, "as without an index");
    if is_reference(&build) {
        return; // It knows no indexes.
    }
    put(&build.registry, "app", "index", kind, &index);
    let merge = || {
        let phase = self::rebaser(&build).env("CNB_EXPERIMENTAL_MODE", "warn").env("CNB_EXPORT_INDEX", "merge");
        phase.flag("run-image", &new).arg(&name)
    };
    let raw = || {
        let flags = build.registry.skopeo_flags("");
        let raw = Tool::new("skopeo").args(["inspect", "--raw"]).args(flags).args([format!("docker://{name}")]).run();
        serde_json::from_str::<Value>(&raw).expect("JSON")
    };
    let before = raw();
    merge().run().ends_with(72).says("rebase the image for linux/s390x");
    assert_eq!(raw(), before, "the other is no app image");
    merge().flag("index", "replace").run().ends_with(3).says("-index replace");
    merge().flag("target-arch", "amd64").run().succeeds().says_no("several platforms");
    let (before, rebased) = (before["manifests"].clone(), raw()["manifests"].clone());
    let of = |children: &Value, arch: &str| {
        let children = children.as_array().expect("a list");
        assert_eq!(children.len(), 2);
        let is_it = |child: &&Value| child["platform"]["architecture"] == arch;
        children.iter().find(is_it).expect("a child").clone()
    };
    assert_eq!(of(&rebased, "s390x"), of(&before, "s390x"));
    assert_eq!(of(&rebased, "amd64")["digest"], after.digest.as_str(), "as alone");
    assert_eq!(build.project.toml("layers/report.toml")["image"]["digest"].as_str(), Some(after.digest.as_str()));
    let indexes = build.project.toml("layers/index-report.toml");
    assert_eq!(indexes["indexes"][0]["tag"].as_str(), Some(name.as_str()));
}

/// `make compare` runs it.
#[cfg(feature = "reference")]
#[test]
fn another_lifecycle_rebases_what_this_one_has_exported_and_this_one_what_another_has() {
    let mut build = exported(Format::Docker);
    let lifecycles = [build.project.lifecycle().clone(), acceptance::Lifecycle::reference()];
    let new = run_image(&build.registry, "run:new", "v2s2", &["--config.label=io.buildpacks.base.new=y"]);
    let [old_base, new_base] =
        [&build.run_image, &new].map(|name| image::inspect(&build.registry, name).diff_ids().len());
    let inspect = |build: &Build, name: &str| image::inspect(&build.registry, &build.registry.image(name));
    let rebase = |build: &mut Build, by: &acceptance::Lifecycle, [from, to]: [&str; 2], onto: &str| {
        build.project = build.project.by(by);
        let phase = rebaser(build).flag("previous-image", build.registry.image(from)).flag("run-image", onto);
        phase.arg(build.registry.image(to)).run().succeeds();
        inspect(build, to)
    };
    for (number, exporter) in lifecycles.iter().enumerate() {
        let app = format!("app-{number}");
        build.project = build.project.by(exporter);
        build.project.new_layers();
        let creator = build.phase_for("creator", &app).flag("run", build.project.path("run.toml"));
        creator.run().succeeds();
        let before = inspect(&build, &app);
        let [ours, theirs] = [0, 1].map(|by| {
            let name = format!("{app}-by-{by}");
            let rebased = rebase(&mut build, &lifecycles[by], [&app, &name], &new);
            let back = format!("{name}-and-back");
            let run_image = build.run_image.clone();
            let back = rebase(&mut build, &lifecycles[1 - by], [&name, &back], &run_image);
            assert_eq!(back.diff_ids(), before.diff_ids(), "{name}");
            rebased
        });
        // The history is a recorded divergence.
        let shown = |image: &image::Inspected| {
            let mut config = image.config.clone();
            config.as_object_mut().expect("an object").remove("history");
            let label = config["config"]["Labels"][METADATA].take();
            (config, serde_json::from_str::<Value>(label.as_str().expect("text")).expect("JSON"))
        };
        assert_eq!(shown(&ours), shown(&theirs), "{app}");
        assert_eq!(ours.manifest["layers"], theirs.manifest["layers"], "{app}");
        assert_eq!(ours.diff_ids()[new_base..], before.diff_ids()[old_base..], "{app}");
        assert_eq!(ours.label("io.buildpacks.base.new"), "y");

        // And whoever builds next finds in it what was there.
        for (by, next) in lifecycles.iter().enumerate() {
            build.project = build.project.by(next);
            build.project.new_layers();
            let creator = build.phase_for("creator", &format!("{app}-next-{by}"));
            let creator = creator.flag("run", build.project.path("run.toml"));
            let previous = build.registry.image(&format!("{app}-by-{}", 1 - by));
            creator.flag("previous-image", previous).run().succeeds().says("Reusing layer 'samples/server:server'");
        }
    }

    // A rebaser that knows no index leaves one image in its place.
    let [ours, theirs] = &lifecycles;
    build.project = build.project.by(ours);
    let app = build.registry.image("index:two");
    build.project.new_layers();
    let creator = build.phase_for("creator", "index:two").flag("run", build.project.path("run.toml"));
    creator.env("CNB_EXPERIMENTAL_MODE", "quiet").env("CNB_EXPORT_INDEX", "merge").run().succeeds();
    let [(_, child)] = &build.registry.children("index:two")[..] else { panic!("one child") };
    let alone = rebase(&mut build, theirs, [&format!("index@{child}"), "index:alone"], &new);
    build.project = build.project.by(theirs);
    let phase = rebaser(&build).env("CNB_EXPERIMENTAL_MODE", "quiet").env("CNB_EXPORT_INDEX", "merge");
    phase.flag("run-image", &new).arg(&app).run().succeeds();
    assert_eq!(digest(&build, "index:two"), alone.digest);
}

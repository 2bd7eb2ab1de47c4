//! From a seed to a build: pure data, nothing is written here.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::rng::Rng;

/// The Platform APIs that builds are made for.
pub const PLATFORM_APIS: [&str; 6] = ["0.7", "0.9", "0.10", "0.12", "0.13", "0.15"];

/// Where the cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheKind {
    /// There is none.
    None,
    /// A directory.
    Directory,
    /// An image.
    Image,
}

/// A random build.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its seed.
    pub seed: u64,
    /// Its Platform API.
    pub api: &'static str,
    /// Whether the creator makes it, instead of five phases.
    pub creator: bool,
    /// Where its cache is.
    pub cache: CacheKind,
    /// `order.toml`.
    pub order: String,
    /// `system.toml`, if there is one.
    pub system: Option<String>,
    /// `project-metadata.toml`, if there is one.
    pub project: Option<String>,
    /// Its buildpacks.
    pub buildpacks: Vec<Buildpack>,
    /// Variables of the platform: `<platform>/env`.
    pub platform_env: Vec<(String, Vec<u8>)>,
    /// Variables of the build configuration: `/cnb/build-config/env`.
    pub config_env: Vec<(String, Vec<u8>)>,
    /// `CNB_EXEC_ENV`, if it is set.
    pub exec_env: Option<&'static str>,
    /// `-process-type`, if it is given.
    pub process_type: Option<String>,
    /// `SOURCE_DATE_EPOCH`, if it is set.
    pub epoch: Option<u32>,
    /// `-parallel`.
    pub parallel: bool,
    /// How many more names the image gets.
    pub tags: usize,
    /// The app's files, build by build.
    pub rounds: Vec<Vec<Node>>,
}

/// A buildpack.
#[derive(Clone, Debug)]
pub struct Buildpack {
    /// `<escaped id>/<version>`.
    pub directory: String,
    /// `buildpack.toml`.
    pub descriptor: String,
    /// What it answers; a composite has no programs.
    pub detect: Option<Detect>,
    /// What it does, build by build.
    pub rounds: Vec<Round>,
}

/// What `bin/detect` does.
#[derive(Clone, Debug)]
pub struct Detect {
    /// Its exit status.
    pub code: u8,
    /// What it prints.
    pub output: String,
    /// The plan that it writes.
    pub plan: String,
}

/// What `bin/build` does in one build.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// Files put into the buildpack's layers directory: `launch.toml`, SBOM files.
    pub files: Vec<Node>,
    /// Layers.
    pub layers: Vec<Layer>,
    /// Its exit status.
    pub code: u8,
}

/// What `bin/build` does with one layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// What is done.
    pub what: What,
    /// `<layer>.toml`.
    pub toml: String,
    /// Its files.
    pub files: Vec<Node>,
}

/// What is done with a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Made anew.
    Create,
    /// Left as it was restored, if it was; else made.
    Keep,
    /// Only its TOML is written, if that was restored; else made.
    Reuse,
}

/// A file, directory or link.
#[derive(Clone, Debug)]
pub struct Node {
    /// Relative path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A regular file.
    File(Vec<u8>),
    /// A directory.
    Directory,
    /// A symlink.
    Link(String),
}

const WORDS: [&str; 12] =
    ["ruby", "node", "jdk", "deps", "assets", "tool-1", "a.b", "Über", "x_y", "lib", "web", "cache"];
const NAMES: [&str; 16] = [
    "a",
    "b.txt",
    "bin",
    "lib",
    "a-b",
    "a b",
    "-dash",
    ".hidden",
    "ünï",
    "日本",
    "tab\tname",
    "quote\"s",
    "star*",
    "back\\slash",
    "Z",
    "0",
];
const TYPES: [&str; 6] = ["web", "worker", "web.v1", "cron_job", "t-1", "release"];
const IDS: [&str; 8] = ["acme/one", "acme/two", "three", "four.five/six", "seven_8", "nine-10", "eleven/a/b", "Twelve"];
const APIS: [&str; 6] = ["0.7", "0.8", "0.9", "0.10", "0.11", "0.12"];

/// Makes the build of a seed.
pub fn case(seed: u64) -> Case {
    let rng = &mut Rng::new(seed);
    let api = *rng.pick(&PLATFORM_APIS);
    let count = 1 + rng.below(4);
    let rounds = 2 + rng.below(2);
    let mut buildpacks = Vec::new();
    let mut elements = Vec::new();
    let start = rng.below(IDS.len());
    for number in 0..count {
        let id = IDS[(start + number) % IDS.len()];
        let version = format!("{}.{}.{number}", rng.below(3), rng.below(10));
        elements.push((id.to_owned(), version.clone(), rng.chance(25)));
        buildpacks.push(component(rng, id, &version, api, rounds));
    }
    let order = order(rng, &mut buildpacks, &elements);
    let has_system = rng.chance(30);
    let system = (api == "0.15" && has_system).then(|| {
        let (id, version) = ("system/buildpack", "1.0.0");
        buildpacks.push(component(rng, id, version, api, rounds));
        let place = *rng.pick(&["pre", "post"]);
        format!("[system]\n[system.{place}]\n[[system.{place}.buildpacks]]\nid = \"{id}\"\nversion = \"{version}\"\n")
    });
    let project = rng.chance(50).then(|| {
        let version = table(rng, "source.version", 1);
        let metadata = table(rng, "source.metadata", 2);
        format!("[source]\ntype = \"git\"\n{version}{metadata}")
    });
    let platform_env = (0..rng.below(4)).map(|_| variable(rng, "")).collect();
    let config_env = (0..rng.below(4))
        .map(|_| {
            let suffix = *rng.pick(&["", ".append", ".default", ".override", ".prepend"]);
            variable(rng, suffix)
        })
        .collect();
    let app_rounds = {
        let first = tree(rng, 12);
        let mut all = vec![first];
        for _ in 1..rounds {
            let mut next = all[all.len() - 1].clone();
            if rng.chance(60) {
                next.extend(tree(rng, 3));
            }
            all.push(next);
        }
        all
    };
    Case {
        seed,
        api,
        creator: rng.chance(30),
        cache: *rng.pick(&[CacheKind::Directory, CacheKind::Directory, CacheKind::Image, CacheKind::None]),
        order,
        system,
        project,
        buildpacks,
        platform_env,
        config_env,
        exec_env: if rng.chance(30) { Some(*rng.pick(&["production", "test"])) } else { None },
        process_type: rng.chance(15).then(|| (*rng.pick(&TYPES)).to_owned()),
        epoch: rng.chance(25).then(|| 1_000_000_000 + u32::try_from(rng.below(700_000_000)).expect("small")),
        parallel: rng.chance(15),
        tags: rng.below(3) / 2,
        rounds: app_rounds,
    }
}

fn order(rng: &mut Rng, buildpacks: &mut Vec<Buildpack>, elements: &[(String, String, bool)]) -> String {
    let group = |elements: &[(String, String, bool)]| {
        let mut text = String::from("[[order]]\n");
        for (id, version, optional) in elements {
            let _ = write!(text, "[[order.group]]\nid = \"{id}\"\nversion = \"{version}\"\n");
            if *optional {
                text += "optional = true\n";
            }
        }
        text
    };
    let mut all = elements.to_vec();
    if rng.chance(25) && all.len() > 1 {
        // The last ones by way of a composite.
        let inner = all.split_off(all.len() / 2);
        let mut descriptor = "api = \"0.10\"\n[buildpack]\nid = \"composite/of\"\nversion = \"3\"\n".to_owned();
        if rng.chance(40) {
            descriptor += &group(&inner[..inner.len() - 1]);
        }
        descriptor += &group(&inner);
        buildpacks.push(Buildpack {
            directory: "composite_of/3".to_owned(),
            descriptor,
            detect: None,
            rounds: Vec::new(),
        });
        all.push(("composite/of".to_owned(), "3".to_owned(), rng.chance(10)));
    }
    let mut text = String::new();
    if rng.chance(30) {
        // A group that is tried before.
        let some: Vec<_> = all.iter().filter(|_| rng.chance(50)).cloned().collect();
        if !some.is_empty() {
            text += &group(&some);
        }
    }
    text += &group(&all);
    text
}

fn component(rng: &mut Rng, id: &str, version: &str, platform: &str, rounds: usize) -> Buildpack {
    let api = *rng.pick(&APIS);
    let mut descriptor =
        format!("api = \"{api}\"\n[buildpack]\nid = \"{id}\"\nversion = \"{version}\"\nname = \"N\"\n");
    if rng.chance(40) {
        descriptor += "homepage = \"https://example.com/?a=<b>&c\"\n";
    }
    if rng.chance(15) {
        descriptor += "clear-env = true\n";
    }
    descriptor += "sbom-formats = [\"application/vnd.cyclonedx+json\", \"application/spdx+json\", \"application/vnd.syft+json\"]\n";
    if rng.chance(20) {
        descriptor += "exec-env = [\"production\", \"test\"]\n";
    }
    match rng.below(4) {
        0 => descriptor += "[[stacks]]\nid = \"*\"\n",
        1 => {
            descriptor +=
                "[[targets]]\nos = \"linux\"\narch = \"amd64\"\n[[targets]]\nos = \"linux\"\narch = \"arm64\"\n"
        }
        2 => descriptor += "[[targets]]\nos = \"linux\"\n[[targets.distros]]\nname = \"sample\"\nversion = \"1\"\n",
        _ => {}
    }
    let mut plan = String::new();
    for _ in 0..rng.below(3) {
        let name = *rng.pick(&WORDS);
        let _ = write!(plan, "[[provides]]\nname = \"{name}\"\n[[requires]]\nname = \"{name}\"\n");
        plan += &table(rng, "requires.metadata", 2);
    }
    if rng.chance(20) {
        let name = *rng.pick(&WORDS);
        let _ = write!(plan, "[[or]]\n[[or.provides]]\nname = \"{name}\"\n[[or.requires]]\nname = \"{name}\"\n");
    }
    let code = match rng.below(20) {
        0 => 100,
        1 => 7,
        _ => 0,
    };
    let output = (*rng.pick(&["", "", "hello\n", "no newline", "two\nlines\n"])).to_owned();
    let mut built = Vec::new();
    for number in 0..rounds {
        let before: Option<&Round> = built.last();
        let next = round(rng, api, platform, number, before);
        built.push(next);
    }
    let directory = format!("{}/{version}", id.replace('/', "_"));
    Buildpack { directory, descriptor, detect: Some(Detect { code, output, plan }), rounds: built }
}

fn round(rng: &mut Rng, api: &str, platform: &str, number: usize, before: Option<&Round>) -> Round {
    let mut layers: Vec<Layer> = Vec::new();
    if let Some(before) = before {
        for layer in &before.layers {
            let mut layer = layer.clone();
            layer.what = match rng.below(10) {
                0..=3 => What::Keep,
                4..=6 => What::Reuse,
                7..=8 => What::Create,
                _ => continue,
            };
            if layer.what == What::Create && rng.chance(50) {
                layer.files.extend(tree(rng, 3));
            }
            layers.push(layer);
        }
    }
    for _ in 0..(if number == 0 { 1 + rng.below(3) } else { rng.below(2) }) {
        let name = (*rng.pick(&WORDS)).to_owned();
        if layers.iter().all(|layer| layer.name != name) {
            layers.push(layer(rng, name));
        }
    }
    let mut files = Vec::new();
    let file = |path: String, text: String| Node { path, mode: 0o644, kind: Kind::File(text.into_bytes()) };
    if rng.chance(80) {
        files.push(file("launch.toml".to_owned(), launch(rng, api, platform)));
    }
    if rng.chance(40) {
        files.push(file("store.toml".to_owned(), table(rng, "metadata", 3)));
    }
    if rng.chance(30) {
        files.push(file("build.toml".to_owned(), String::new()));
    }
    let names: Vec<String> = layers.iter().map(|layer| layer.name.clone()).collect();
    for name in names.iter().map(String::as_str).chain(["launch", "build"]) {
        // Another lifecycle takes a layer's name up to the first dot.
        if !name.contains('.') && rng.chance(25) {
            let kind = *rng.pick(&["cdx", "spdx", "syft"]);
            files.push(file(format!("{name}.sbom.{kind}.json"), format!("{{\"of\":\"{name}\",\"n\":{number}}}")));
        }
    }
    Round { files, layers, code: if rng.chance(2) { 5 } else { 0 } }
}

fn layer(rng: &mut Rng, name: String) -> Layer {
    let flag = |rng: &mut Rng, percent| rng.chance(percent);
    let (launch, build, cache) = (flag(rng, 65), flag(rng, 40), flag(rng, 50));
    let mut toml = String::new();
    if launch || build || cache || rng.chance(50) {
        let _ = write!(toml, "[types]\nlaunch = {launch}\nbuild = {build}\ncache = {cache}\n");
    }
    if rng.chance(80) {
        toml += &table(rng, "metadata", 3);
    }
    let mut files = tree(rng, 8);
    if cache {
        // Another lifecycle restores files without their setuid bit.
        files.iter_mut().for_each(|node| node.mode &= 0o3777);
    }
    let text = |path: &str, text: Vec<u8>| Node { path: path.to_owned(), mode: 0o644, kind: Kind::File(text) };
    let mut made: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for _ in 0..rng.below(4) {
        let dir = *rng.pick(&["env", "env.build", "env.launch", "env.launch/web"]);
        let suffix = *rng.pick(&["", ".append", ".default", ".override", ".prepend", ".delim", ".odd"]);
        let (name, value) = variable(rng, suffix);
        made.insert(format!("{dir}/{name}"), value);
    }
    if rng.chance(20) {
        made.insert("profile.d/a.sh".to_owned(), b"export PROFILE=1\n".to_vec());
    }
    files.extend(made.iter().map(|(path, value)| text(path, value.clone())));
    for dir in ["bin", "lib", "include", "pkgconfig"] {
        if rng.chance(25) {
            files.push(Node {
                path: format!("{dir}/{}", rng.pick(&["x", "y"])),
                mode: 0o755,
                kind: Kind::File(b"#!/bin/sh\n".to_vec()),
            });
        }
    }
    if rng.chance(15) {
        files.push(Node { path: "exec.d/e".to_owned(), mode: 0o755, kind: Kind::File(b"#!/bin/sh\n".to_vec()) });
    }
    Layer { name, what: What::Create, toml, files }
}

fn launch(rng: &mut Rng, api: &str, platform: &str) -> String {
    let new = ["0.9", "0.10", "0.11", "0.12"].contains(&api);
    let mut text = String::new();
    let start = rng.below(TYPES.len());
    for number in 0..rng.below(4) {
        let kind = TYPES[(start + number) % TYPES.len()];
        let _ = write!(text, "[[processes]]\ntype = \"{kind}\"\n");
        if new {
            text += *rng.pick(&[
                "command = [\"run\"]\n",
                "command = [\"run\", \"a<b>\", \"c & d\"]\n",
                "command = [\"bash\", \"-c\", \"echo \\\"$X\\\"\"]\n",
            ]);
        } else {
            text += *rng.pick(&[
                "command = \"run\"\ndirect = true\n",
                "command = \"run it\"\n",
                "command = \"x\"\ndirect = false\n",
            ]);
        }
        text += *rng.pick(&["", "args = []\n", "args = [\"one\", \"two words\", \"q\\\"'\"]\n"]);
        if rng.chance(30) {
            text += "default = true\n";
        }
        if api != "0.7" && rng.chance(30) {
            text += *rng.pick(&["working-dir = \"/tmp\"\n", "working-dir = \"sub\"\n"]);
        }
        if api == "0.12" && platform == "0.15" && rng.chance(30) {
            text += *rng.pick(&[
                "exec-env = [\"test\"]\n",
                "exec-env = [\"production\", \"test\"]\n",
                "exec-env = [\"*\"]\n",
            ]);
        }
    }
    for _ in 0..rng.below(3) {
        let key = rng.pick(&["label.one", "label.two", "org.example.<x>"]);
        let _ = write!(text, "[[labels]]\nkey = \"{key}\"\nvalue = \"v{} \\\"é\\\" <&>\"\n", rng.below(5));
    }
    for _ in 0..(if rng.chance(25) { 1 + rng.below(2) } else { 0 }) {
        let paths = ["a", "*", "a*", "[a-z]", "lib/*", "bin", "*/x", "b.txt", "nothing", "日本", "a/", "?"];
        let one = *rng.pick(&paths);
        let other = *rng.pick(&paths);
        let _ = write!(text, "[[slices]]\npaths = [\"{one}\", \"{other}\"]\n");
    }
    text
}

fn variable(rng: &mut Rng, suffix: &str) -> (String, Vec<u8>) {
    let name = *rng.pick(&["PATH", "LD_LIBRARY_PATH", "CPATH", "FOO", "BAR", "HTTP_PROXY", "HOME", "X.Y"]);
    let value = *rng.pick(&["", "value", "two words", "line\n", "a:b", "=x=", "$HOME", "é"]);
    (format!("{name}{suffix}"), value.as_bytes().to_vec())
}

/// A tree of files with odd names and modes.
fn tree(rng: &mut Rng, most: usize) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    let mut directories = vec![String::new()];
    for _ in 0..=rng.below(most) {
        let parent = rng.pick(&directories).clone();
        let mut name = (*rng.pick(&NAMES)).to_owned();
        if rng.chance(3) {
            name = "long".repeat(40);
        }
        let path = if parent.is_empty() { name } else { format!("{parent}/{name}") };
        if nodes.iter().any(|node| node.path == path) {
            continue;
        }
        let (mode, kind) = match rng.below(10) {
            0..=2 => (*rng.pick(&[0o755, 0o700, 0o775, 0o2755, 0o1777]), Kind::Directory),
            3 => (0o777, Kind::Link((*rng.pick(&["a", "../b", "/etc/passwd", "nowhere/日本", "."])).to_owned())),
            _ => {
                let size = *rng.pick(&[0, 1, 10, 511, 512, 513, 4096, 70_000]);
                let byte = u8::try_from(rng.below(256)).expect("a byte");
                (*rng.pick(&[0o644, 0o600, 0o755, 0o444, 0o4755, 0o664]), Kind::File(vec![byte; size]))
            }
        };
        if matches!(kind, Kind::Directory) {
            directories.push(path.clone());
        }
        nodes.push(Node { path, mode, kind });
    }
    nodes
}

/// A TOML table with values of every type, and the header before it.
fn table(rng: &mut Rng, header: &str, depth: usize) -> String {
    let mut text = format!("[{header}]\n");
    let keys = ["s", "i", "f", "b", "d", "array", "key with space", "ünï", "0", "inline", "empty"];
    let mut used = Vec::new();
    for _ in 0..rng.below(6) {
        let key = *rng.pick(&keys);
        if used.contains(&key) {
            continue;
        }
        used.push(key);
        let value = value(rng, 2);
        let _ = writeln!(text, "\"{key}\" = {value}");
    }
    if depth > 1 && rng.chance(40) {
        let inner = table(rng, &format!("{header}.nested"), depth - 1);
        text += &inner;
    }
    if depth > 1 && rng.chance(20) {
        let _ = write!(text, "[[{header}.list]]\na = 1\n[[{header}.list]]\nb = \"two\"\n");
    }
    text
}

fn value(rng: &mut Rng, depth: usize) -> String {
    match rng.below(if depth > 0 { 9 } else { 7 }) {
        0 => (*rng.pick(&[
            "\"text\"",
            "\"\"",
            "'it''s'",
            "\"q\\\"uote\"",
            "\"nl\\n\"",
            "\"<&>\"",
            "\"日本\"",
            "\"\\u2028\"",
            "\"tab\\t\"",
        ]))
        .replace("'it''s'", "'its'"),
        1 => (*rng.pick(&["0", "1", "-7", "1_000", "0x1f", "9007199254740991", "123456789012"])).to_owned(),
        2 => (*rng.pick(&["1.5", "-0.25", "1e6", "2.0", "1e-7", "123456.789"])).to_owned(),
        3 => (*rng.pick(&["true", "false"])).to_owned(),
        4 => (*rng.pick(&["1979-05-27T07:32:00Z", "1979-05-27T00:32:00.5-07:00"])).to_owned(),
        5 => "[]".to_owned(),
        6 => "\"plain\"".to_owned(),
        7 => format!("[{}, {}]", value(rng, 0), value(rng, 0)),
        _ => format!("{{ a = {}, b = {} }}", value(rng, 0), value(rng, 0)),
    }
}

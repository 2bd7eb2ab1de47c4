//! What the reference writes for the same metadata, byte for byte (its DEL apart, which its own reader refuses).

use super::*;
use crate::label::{BuildMetadata, Launcher};
use crate::text::from_toml;

fn api(version: &str) -> PlatformApi {
    PlatformApi::parse(Some(version)).expect("supported")
}

const METADATA: &str = r##"
buildpack-default-process-type = "web"
[[bom]]
name = "gem"
[bom.metadata]
version = "1.0"
[bom.buildpack]
id = "example/ruby"
version = "1.2.3"
[[bom]]
name = "bare"
[[buildpacks]]
id = "example/ruby"
version = "1.2.3"
api = "0.10"
homepage = "https://example.org/?a=1&b=2"
[[buildpacks]]
id = "other"
version = "1"
api = "0.8"
optional = true
[[extensions]]
id = "curl"
version = "0.0.1"
api = "0.9"
[[labels]]
key = "a<b"
value = ""
[[processes]]
type = "web"
command = ["/bin/sh", "-c", "a <b> && \"c\" \u007f\u2028\u0001"]
args = ["<x>", "$Y"]
direct = true
buildpack-id = "example/ruby"
working-dir = "/w"
exec-env = ["test"]
[[processes]]
type = "worker"
command = "work hard"
direct = false
default = true
buildpack-id = "other"
exec-env = []
[[processes]]
type = "z"
command = ["z"]
args = []
direct = true
buildpack-id = "other"
[[slices]]
paths = ["a/*", "b"]
[[slices]]
paths = []
[[slices]]
"##;

const BELOW_0_9: &str = r##"buildpack-default-process-type = "web"

[[bom]]
  name = "gem"
  [bom.metadata]
    version = "1.0"
  [bom.buildpack]
    id = "example/ruby"
    version = "1.2.3"

[[bom]]
  name = "bare"
  [bom.buildpack]
    id = ""
    version = ""

[[buildpacks]]
  id = "example/ruby"
  version = "1.2.3"
  api = "0.10"
  homepage = "https://example.org/?a=1&b=2"

[[buildpacks]]
  id = "other"
  version = "1"
  api = "0.8"
  optional = true

[[extensions]]
  id = "curl"
  version = "0.0.1"
  api = "0.9"

[[labels]]
  key = "a<b"
  value = ""

[[processes]]
  type = "web"
  command = "/bin/sh"
  args = ["-c", "a <b> && \"c\" \u007f \u0001", "<x>", "$Y"]
  direct = true
  buildpack-id = "example/ruby"
  working-dir = "/w"
  exec-env = ["test"]

[[processes]]
  type = "worker"
  command = "work hard"
  args = []
  direct = false
  default = true
  buildpack-id = "other"

[[processes]]
  type = "z"
  command = "z"
  args = []
  direct = true
  buildpack-id = "other"

[[slices]]
  paths = ["a/*", "b"]

[[slices]]
  paths = []

[[slices]]
"##;

const BOM: &str = r##"
[[bom]]
  name = "gem"
  [bom.metadata]
    version = "1.0"
  [bom.buildpack]
    id = "example/ruby"
    version = "1.2.3"

[[bom]]
  name = "bare"
  [bom.buildpack]
    id = ""
    version = ""
"##;

const FROM_0_10: &str = r##"buildpack-default-process-type = "web"

[[buildpacks]]
  id = "example/ruby"
  version = "1.2.3"
  api = "0.10"
  homepage = "https://example.org/?a=1&b=2"

[[buildpacks]]
  id = "other"
  version = "1"
  api = "0.8"
  optional = true

[[extensions]]
  id = "curl"
  version = "0.0.1"
  api = "0.9"

[[labels]]
  key = "a<b"
  value = ""

[[processes]]
  type = "web"
  command = ["/bin/sh", "-c", "a \u003cb\u003e \u0026\u0026 \"c\" \u007f\u2028\u0001"]
  args = ["<x>", "$Y"]
  direct = true
  buildpack-id = "example/ruby"
  working-dir = "/w"
  exec-env = ["test"]

[[processes]]
  type = "worker"
  command = ["work hard"]
  direct = false
  default = true
  buildpack-id = "other"

[[processes]]
  type = "z"
  command = ["z"]
  args = []
  direct = true
  buildpack-id = "other"

[[slices]]
  paths = ["a/*", "b"]

[[slices]]
  paths = []

[[slices]]
"##;

// JSON leaves DEL as it is; here it is written `@DEL@`.
const LABEL_BELOW_0_9: &str = r##"{"bom":[{"name":"gem","metadata":{"version":"1.0"},"buildpack":{"id":"example/ruby","version":"1.2.3"}},{"name":"bare","metadata":null,"buildpack":{"id":"","version":""}}],"buildpacks":[{"id":"example/ruby","version":"1.2.3","homepage":"https://example.org/?a=1\u0026b=2"},{"id":"other","version":"1","optional":true}],"extensions":[{"id":"curl","version":"0.0.1"}],"launcher":{"version":"","source":{"git":{"repository":"","commit":""}}},"processes":[{"type":"web","command":"/bin/sh","args":["-c","a \u003cb\u003e \u0026\u0026 \"c\" @DEL@\u2028\u0001","\u003cx\u003e","$Y"],"direct":true,"buildpackID":"example/ruby","working-dir":"/w","exec-env":["test"]},{"type":"worker","command":"work hard","args":[],"direct":false,"default":true,"buildpackID":"other"},{"type":"z","command":"z","args":[],"direct":true,"buildpackID":"other"}],"buildpack-default-process-type":"web"}"##;

const LABEL_FROM_0_10: &str = r##"{"buildpacks":[{"id":"example/ruby","version":"1.2.3","homepage":"https://example.org/?a=1\u0026b=2"},{"id":"other","version":"1","optional":true}],"extensions":[{"id":"curl","version":"0.0.1"}],"launcher":{"version":"","source":{"git":{"repository":"","commit":""}}},"processes":[{"type":"web","command":["/bin/sh","-c","a \u003cb\u003e \u0026\u0026 \"c\" @DEL@\u2028\u0001"],"args":["\u003cx\u003e","$Y"],"direct":true,"buildpackID":"example/ruby","working-dir":"/w","exec-env":["test"]},{"type":"worker","command":["work hard"],"args":null,"direct":false,"default":true,"buildpackID":"other"},{"type":"z","command":["z"],"args":[],"direct":true,"buildpackID":"other"}],"buildpack-default-process-type":"web"}"##;

#[test]
fn the_file_is_written_as_the_reference_does_it() {
    let metadata: Metadata = from_toml(METADATA).expect("TOML");
    for version in ["0.7", "0.8"] {
        assert_eq!(metadata.to_toml(api(version)), BELOW_0_9, "{version}");
    }
    assert_eq!(metadata.to_toml(api("0.9")), BELOW_0_9.replace(BOM, ""));
    for version in ["0.10", "0.11", "0.12", "0.13", "0.14", "0.15"] {
        assert_eq!(metadata.to_toml(api(version)), FROM_0_10, "{version}");
    }
}

#[test]
fn what_was_written_reads_back() {
    let metadata: Metadata = from_toml(METADATA).expect("TOML");
    for version in ["0.7", "0.9", "0.10", "0.15"] {
        let text = metadata.to_toml(api(version));
        let back: Metadata = from_toml(&text).expect(version);
        assert_eq!(back.to_toml(api(version)), text, "{version}");
    }
}

#[test]
fn the_label_is_written_as_the_reference_does_it() {
    let metadata: Metadata = from_toml(METADATA).expect("TOML");
    let label = |version| {
        BuildMetadata { metadata: &metadata, launcher: &Launcher::default() }
            .to_json(api(version))
            .replace('\u{7f}', "@DEL@")
    };
    assert_eq!(label("0.7"), LABEL_BELOW_0_9);
    assert_eq!(label("0.8"), LABEL_BELOW_0_9);
    let (bom, _) = LABEL_BELOW_0_9.split_once(r#""buildpacks":["#).expect("it has buildpacks");
    assert_eq!(label("0.9"), LABEL_BELOW_0_9.replace(bom, "{"));
    for version in ["0.10", "0.12", "0.15"] {
        assert_eq!(label(version), LABEL_FROM_0_10, "{version}");
    }
}

#[test]
fn nothing_at_all_is_written_too() {
    assert_eq!(Metadata::default().to_toml(api("0.7")), "processes = []\n");
    assert_eq!(Metadata::default().to_toml(api("0.15")), "processes = []\n");
    let label = BuildMetadata { metadata: &Metadata::default(), launcher: &Launcher::default() }.to_json(api("0.8"));
    assert!(label.starts_with(r#"{"bom":null,"buildpacks":null,"launcher":{"#), "{label}");
}

#[test]
fn a_command_of_one_string_is_escaped_too() {
    let metadata: Metadata = from_toml("[[processes]]\ntype = 'web'\ncommand = \"a<b\\u007f\"").expect("TOML");
    assert!(metadata.to_toml(api("0.9")).contains("command = \"a\\u003cb\\u007f\"\n"));
}

/// The reference panics.
#[test]
fn a_command_without_entries_is_an_empty_one() {
    let metadata: Metadata = from_toml("[[processes]]\ntype = 'web'\ncommand = []\nargs = ['x']\n").expect("TOML");
    assert_eq!(metadata.processes[0].for_platform(api("0.9")).command, Command::One(String::new()));
    assert_eq!(metadata.processes[0].for_platform(api("0.9")).args, Some(vec!["x".to_owned()]));
    assert!(metadata.to_toml(api("0.10")).contains("command = []\n"));
}

#[test]
fn bad_input_is_named() {
    for (text, error) in [
        ("[[processes]]\ncommand = ['x']", "line 1, column 1: key 'processes': the key 'type' is missing"),
        ("[[processes]]\ntype = 'x'", "line 1, column 1: key 'processes': the key 'command' is missing"),
        (
            "[[processes]]\ntype = '..'",
            "line 2, column 8: key 'processes.type': invalid process type \"..\": '.' and '..' are not allowed",
        ),
        (
            "[[processes]]\ntype = 'a/b'",
            "line 2, column 8: key 'processes.type': invalid process type \"a/b\": none of / > < : | & \\ is allowed",
        ),
        (
            "[[processes]]\ntype = 'x'\ncommand = 1",
            "line 3, column 11: key 'processes.command': expected a string or an array of strings, found integer `1`",
        ),
        (
            "[[processes]]\ntype = 'x'\ncommand = ['a', 1]",
            "line 3, column 17: key 'processes.command': expected a string, found integer `1`",
        ),
        ("processes = 1", "line 1, column 13: key 'processes': expected an array, found integer `1`"),
        (
            "[[buildpacks]]\nid = 'a/../b'",
            "line 2, column 6: key 'buildpacks.id': invalid buildpack id \"a/../b\": '.' and '..' are not allowed",
        ),
    ] {
        assert_eq!(from_toml::<Metadata>(text).expect_err(text).to_string(), error);
    }
}

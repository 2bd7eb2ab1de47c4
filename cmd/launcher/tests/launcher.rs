//! The launcher from outside: what an app sees of it, and how it fails.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// An image's `/layers` and `/workspace`.
struct Image(TempDir);

impl Image {
    /// `metadata` is metadata.toml without its buildpacks, which are `new` (API 0.12) and `old` (API 0.8).
    fn new(metadata: &str, files: &[(&str, &str)]) -> Self {
        let image = Self(tempfile::tempdir().expect("a directory"));
        let buildpacks = "[[buildpacks]]\nid = 'old'\napi = '0.8'\n[[buildpacks]]\nid = 'new'\napi = '0.12'\n";
        image.write("layers/config/metadata.toml", &format!("{buildpacks}{metadata}"));
        image.write("workspace/file", "");
        for (name, content) in files {
            image.write(name, content);
        }
        image
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file, executable if it begins like a script or a program. Those are written by another process: a file that this one has
    /// open for writing, or a child of another test's that was forked meanwhile, cannot be executed.
    fn write(&self, name: &str, content: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        if content.starts_with("#!") || content.starts_with("\x7fELF") {
            let write = "printf '%s' \"$1\" > \"$0\" && chmod 755 \"$0\"";
            let status = Command::new("/bin/sh").args(["-c", write]).arg(path).arg(content).status().expect("a shell");
            assert!(status.success());
        } else {
            fs::write(path, content).expect("written");
        }
    }

    /// The launcher under a name, with nothing in its environment but what an image has.
    fn command(&self, argv0: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_launcher"));
        command.arg0(argv0).args(args).stdin(Stdio::null()).current_dir("/").env_clear();
        command.env("PATH", "/cnb/process:/cnb/lifecycle:/usr/bin:/bin").env("CNB_PLATFORM_API", "0.15");
        command.env("CNB_LAYERS_DIR", self.path().join("layers")).env("CNB_APP_DIR", self.path().join("workspace"));
        command.env("CNB_NO_COLOR", "true");
        command
    }

    fn run(&self, argv0: &str, args: &[&str]) -> (i32, String, String) {
        self.outcome(&mut self.command(argv0, args))
    }

    /// Exit code, stdout and stderr; the image's directory is written `@`.
    fn outcome(&self, command: &mut Command) -> (i32, String, String) {
        let Output { status, stdout, stderr } = command.output().expect("started");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace(&self.path().display().to_string(), "@");
        (status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)), text(stdout), text(stderr))
    }
}

/// What a process of the app sees: its arguments in brackets, its directory, a variable.
const SHOW: &str = "#!/bin/bash\nprintf '[%s]' \"$@\"; echo \" in $PWD V=$V\"\n";

const PROCESSES: &str = "
    [[processes]]
    type = 'web'
    command = ['show', 'always']
    args = ['default']
    direct = true
    buildpack-id = 'new'
    [[processes]]
    type = 'shell.process'
    command = 'show'
    args = ['$V', 'a b', '\"quoted\"']
    direct = false
    buildpack-id = 'old'
    [[processes]]
    type = 'script'
    command = 'show $V; show \"$0\" \"$@\"'
    args = []
    direct = false
    buildpack-id = 'old'
    [[processes]]
    type = 'elsewhere'
    command = ['./tool']
    direct = true
    buildpack-id = 'new'
    working-dir = 'sub'
    [[processes]]
    type = 'foreign'
    command = ['foreign']
    direct = true
    buildpack-id = 'new'
    [[processes]]
    type = 'nowhere'
    command = ['show']
    direct = true
    buildpack-id = 'new'
    working-dir = '/no/such/place'
    [[processes]]
    type = 'testing'
    command = ['show']
    direct = true
    buildpack-id = 'new'
    exec-env = ['test']
";

fn image() -> Image {
    Image::new(
        PROCESSES,
        &[
            ("layers/old/tools/bin/show", SHOW),
            ("layers/old/tools/bin/foreign", "\x7fELF"),
            ("workspace/sub/tool", "#!/bin/sh\necho tool in $PWD\n"),
        ],
    )
}

#[test]
fn processes_of_buildpacks_start() {
    let image = image();
    // Name, arguments, output.
    type Case = (&'static str, &'static [&'static str], &'static str);
    let cases: &[Case] = &[
        ("/cnb/process/web", &[], "[always][default] in @/workspace V=value\n"),
        ("web", &["user", "u 2"], "[always][user][u 2] in @/workspace V=value\n"),
        ("shell.process", &[], "[value][a b][quoted] in @/workspace V=value\n"),
        ("shell.process", &["$V-user"], "[value][a b][quoted][value-user] in @/workspace V=value\n"),
        ("script", &[], "[value] in @/workspace V=value\n[bash] in @/workspace V=value\n"),
        ("elsewhere", &[], "tool in @/workspace/sub\n"),
    ];
    for (argv0, args, output) in cases {
        let got = image.outcome(image.command(argv0, args).env("V", "value"));
        assert_eq!(got, (0, (*output).to_owned(), String::new()), "{argv0} {args:?}");
    }
}

#[test]
fn processes_of_the_user_start() {
    let image = image();
    type Case = (&'static [&'static str], &'static str);
    let cases: &[Case] = &[
        (&["--", "show", "$V", "a b"], "[$V][a b] in @/workspace V=value\n"),
        (&["show", "$V", "a b"], "[value][a b] in @/workspace V=value\n"),
        (&["show $V; show a b"], "[value] in @/workspace V=value\n[a][b] in @/workspace V=value\n"),
        // Past nine arguments, and with all that a shell gives a meaning to.
        (
            &["show", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "${V}11"],
            "[1][2][3][4][5][6][7][8][9][10][value11] in @/workspace V=value\n",
        ),
        (
            &["show", "a;b", "c|d", "<e>", "f&", "(g)", "#h", "!i"],
            "[a;b][c|d][<e>][f&][(g)][#h][!i] in @/workspace V=value\n",
        ),
        (&["show", "*", "~", "[a]", "{b,c}", "'d'", "e  f"], "[*][~][[a]][{b,c}]['d'][e f] in @/workspace V=value\n"),
    ];
    for (args, output) in cases {
        let got = image.outcome(image.command("/cnb/lifecycle/launcher", args).env("V", "value"));
        assert_eq!(got, (0, (*output).to_owned(), String::new()), "{args:?}");
    }
}

#[test]
fn the_exit_code_is_the_apps() {
    let image = image();
    for (args, code) in [
        (&["--", "sh", "-c", "exit 7"][..], 7),
        (&["exit 7"], 7),
        (&["--", "sh", "-c", "kill -9 $$"], -9),
        (&["kill -15 $$"], -15),
        (&["no-such-command"], 127),
    ] {
        assert_eq!(image.run("launcher", args).0, code, "{args:?}");
    }
}

#[test]
fn the_app_gets_its_own_argv_and_a_clean_process() {
    let image = image();
    let (code, output, _) = image.run("launcher", &["--", "cat", "/proc/self/cmdline"]);
    assert_eq!((code, output.as_str()), (0, "cat\0/proc/self/cmdline\0"));
    // A Rust program ignores SIGPIPE; `yes | head` in the app must still end.
    let (_, status, _) = image.run("launcher", &["--", "cat", "/proc/self/status"]);
    let signals = |name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        u64::from_str_radix(line.trim(), 16).expect("a set of signals")
    };
    const SIGPIPE: u64 = 1 << 12;
    assert_eq!((signals("SigIgn:") & SIGPIPE, signals("SigBlk:")), (0, 0));
    // Of descriptors it has those that the launcher was given, and no more.
    let without_launcher = Command::new("ls").arg("/proc/self/fd").stdin(Stdio::null()).output().expect("listed");
    assert_eq!(image.run("launcher", &["--", "ls", "/proc/self/fd"]).1.into_bytes(), without_launcher.stdout);
    let env =
        image.outcome(image.command("launcher", &["--", "env"]).env("CNB_DEPRECATION_MODE", "quiet").env("X", "a=b")).1;
    assert_eq!(env, "CNB_NO_COLOR=true\nPATH=@/layers/old/tools/bin:/usr/bin:/bin\nX=a=b\n");
}

#[test]
fn variables_exec_d_and_profiles_in_their_order() {
    let append = |text: &str| format!("#!/bin/sh\necho \"V = \\\"$V {text}\\\"\" >&3\n");
    let tell = format!("{}echo \"$0 in $PWD\"; echo to stderr >&2\n", append("exec.d"));
    let image = Image::new(
        PROCESSES,
        &[
            ("layers/old/tools/bin/show", SHOW),
            ("layers/old/l/env/V.append", " env"),
            ("layers/old/l/env.launch/V.append", " env.launch"),
            ("layers/old/l/env.launch/shell.process/V.append", " env.launch/type"),
            ("layers/old/l/exec.d/tell", &tell),
            ("layers/old/l/exec.d/shell.process/x", &append("exec.d/type")),
            ("layers/old/l/exec.d/other/x", "#!/bin/sh\nexit 1\n"),
            ("layers/new/l/exec.d/x", &append("exec.d/new")),
            ("layers/old/l/profile.d/x", "V=\"$V profile.d\"; cd /\n"),
            ("layers/old/l/profile.d/shell.process/x", "V=\"$V profile.d/type\"\n"),
            ("layers/new/l/profile.d/x", "V=\"$V profile.d/new\"\n"),
            ("workspace/.profile", "export V=\"$V .profile\"; echo \"$0 $1 $2\"\n"),
        ],
    );
    symlink("../real", image.path().join("layers/new/l/exec.d/z")).expect("linked");
    image.write("layers/new/l/real", &append("link"));
    let (code, output, errors) = image.outcome(image.command("/cnb/process/shell.process", &[]).env("V", "own"));
    let value = "own env env.launch env.launch/type exec.d exec.d/new link exec.d/type \
                 profile.d profile.d/new profile.d/type .profile";
    let expected = format!(
        "@/layers/old/l/exec.d/tell in @/workspace\n/cnb/process/shell.process show $V\n\
         [{value}][a b][quoted] in @/workspace V={value}\n"
    );
    assert_eq!((code, output, errors), (0, expected, "to stderr\n".to_owned()));
}

#[test]
fn the_input_is_the_apps() {
    let image = Image::new("", &[("layers/new/l/exec.d/x", "#!/bin/sh\nif read line; then exit 1; fi\n")]);
    let input = fs::File::open(image.path().join("layers/config/metadata.toml")).expect("opened");
    let (code, output, errors) = image.outcome(image.command("launcher", &["--", "head", "-n", "1"]).stdin(input));
    assert_eq!((code, output.as_str(), errors.as_str()), (0, "[[buildpacks]]\n", ""));
}

#[test]
fn what_fails_is_said_on_stderr_with_the_codes_of_the_specification() {
    // A file of the image that is not as it should be; name and arguments; code and error.
    type Case = (&'static str, &'static str, &'static [&'static str], i32, &'static str);
    let cases: &[Case] = &[
        (
            "",
            "launcher",
            &[],
            82,
            "launch: determine start command: when there is no default process a command is required",
        ),
        (
            "",
            "testing",
            &[],
            82,
            "launch: determine start command: process type testing was not found for the execution environment 'production'",
        ),
        (
            "",
            "launcher",
            &["--", "nosuch"],
            82,
            "launch: path lookup: exec: \"nosuch\": executable file not found in $PATH",
        ),
        ("", "launcher", &["--", "./file"], 82, "launch: path lookup: exec: \"./file\": permission denied"),
        ("", "nowhere", &[], 82, "launch: change to directory /no/such/place: no such file or directory"),
        // For another machine, so to say; the message must not be what /bin/sh makes of it.
        ("", "foreign", &[], 82, "launch: exec @/layers/old/tools/bin/foreign: exec format error"),
        (
            "layers/new/l/exec.d/x=#!/bin/sh\nexit 9",
            "web",
            &[],
            82,
            "launch: exec.d: execute @/layers/new/l/exec.d/x: exit status 9",
        ),
        (
            "layers/new/l/exec.d/x=plain",
            "web",
            &[],
            82,
            "launch: exec.d: execute @/layers/new/l/exec.d/x: permission denied",
        ),
        (
            "layers/new/l/exec.d/x=#!/bin/sh\necho 'A = 1' >&3",
            "web",
            &[],
            82,
            "launch: exec.d: read output of @/layers/new/l/exec.d/x: line 1, column 5: key 'A': expected a string",
        ),
        (
            "layers/new/l/env/V=\0",
            "web",
            &[],
            82,
            "launch: modify env: read @/layers/new/l/env/V: it contains a NUL byte, which an environment variable cannot hold",
        ),
        (
            "layers/config/metadata.toml=[[",
            "web",
            &[],
            82,
            "read metadata: parse @/layers/config/metadata.toml: line 1, column 3: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`",
        ),
        (
            "layers/config/metadata.toml=processes = 1",
            "web",
            &[],
            82,
            "read metadata: parse @/layers/config/metadata.toml: line 1, column 13: key 'processes': expected an array, found integer `1`",
        ),
        (
            "layers/config/metadata.toml=[[buildpacks]]\nid = 'a'\napi = '0.6'",
            "web",
            &[],
            12,
            "set API for buildpack 'a': buildpack API version '0.6' is incompatible with the lifecycle",
        ),
    ];
    for (file, argv0, args, code, error) in cases {
        let image = image();
        if let Some((name, content)) = file.split_once('=') {
            image.write(name, content);
        }
        assert_eq!(
            image.run(argv0, args),
            (*code, String::new(), format!("ERROR: failed to {error}\n")),
            "{file} {argv0}"
        );
    }
}

#[test]
fn inputs_that_are_missing() {
    let image = image();
    let remove = |variable: &str| image.outcome(image.command("web", &[]).env_remove(variable));
    let error = |text: &str| format!("ERROR: failed to {text}\n");
    let api = "get platform API version; please set 'CNB_PLATFORM_API' to specify the desired platform API version";
    assert_eq!(remove("CNB_PLATFORM_API"), (11, String::new(), error(api)));
    let layers = image.outcome(image.command("web", &[]).env("CNB_LAYERS_DIR", "/no/such"));
    assert_eq!(
        layers,
        (82, String::new(), error("read metadata: open /no/such/config/metadata.toml: no such file or directory"))
    );
    let app = image.outcome(image.command("web", &[]).env("CNB_APP_DIR", "/no/such"));
    assert_eq!(app, (82, String::new(), error("launch: change to directory /no/such: no such file or directory")));
}

#[test]
fn a_process_type_variable_is_warned_about_in_colour() {
    let image = image();
    let mut command = image.command("launcher", &["--", "true"]);
    command.env("CNB_PROCESS_TYPE", "web");
    let warnings = |prefix: &str| {
        format!(
            "{prefix}CNB_PROCESS_TYPE is not supported in Platform API 0.15\n\
             {prefix}Run with ENTRYPOINT 'web' to invoke the 'web' process type\n"
        )
    };
    assert_eq!(image.outcome(&mut command), (0, String::new(), warnings("Warning: ")));
    for value in ["", "false", "yes"] {
        let (_, _, errors) = image.outcome(command.env("CNB_NO_COLOR", value));
        assert_eq!(errors, warnings("\x1b[33;1mWarning: \x1b[0m"), "{value}");
    }
}

#[test]
fn a_closed_stderr_changes_no_exit_code() {
    let image = image();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut child = image.command("launcher", &[]).stderr(writer).stdout(Stdio::piped()).spawn().expect("started");
    let mut output = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut output).expect("read");
    assert_eq!((child.wait().expect("ended").code(), output.as_str()), (Some(82), ""));
}

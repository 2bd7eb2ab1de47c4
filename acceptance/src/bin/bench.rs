//! What exporting and restoring takes, on real files, against a real registry: `bench --help`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use acceptance::bench::input::{self, Kind, Layer, make_directory};
use acceptance::bench::measure::{self, MEASURE};
use acceptance::bench::{Build, BuildRoot, Comparison, Table, ways, write_layers, write_real_layers};
use acceptance::{Lifecycle, emulation};

const HELP: &str = "\
Measures the lifecycle in LIFECYCLE_DIR (out/lifecycle) on real files of this machine; with LIFECYCLE_REFERENCE_DIR set,
that one side by side, run by run in turn. Runs as root, so that phases can run as another user in a root of their own.

usage: bench [what]... [option]...

what (all of it by default):
  few          five launch and cache layers of files over 4 MiB: first export to a registry and a cache directory,
               the same again with nothing changed, restore from the cache directory
  many         the same with files under 1 MiB
  memory       ours alone: a layer of 4 GiB, 300,000 files in one directory, 300,000 files in 3,000
  ways         the same app for the other architecture, built natively, across, emulated, and hybrid; with
               LIFECYCLE_REFERENCE_OTHER_DIR (executables for the other architecture) that one's emulated build beside it
  launcher     what the launcher takes longer to start /bin/true than that takes itself

options:
  --size=MIB        bytes of input (1000)
  --pairs=N         how often exports are measured (3), after one run that is not counted
  --restores=N      how often restores are (6)
  --directory=DIR   where everything is put; a new directory in /dev/shm, if that is large enough, else in TMPDIR.
                    On a disk nothing is removed before the end: ext4 is slow to use inodes that were just given up.
  --keep            leaves the directory

wall and CPU are medians, seconds; CPU is user and system of the phase itself (the registry has the same cores); peak RSS is
the largest of all runs. \"wall ratio\" is reference / ours, of the medians, and of each pair.
";

/// Bytes of the app that is built in every way, at most: emulation is slow.
const WAYS: u64 = 150 << 20;

/// What is asked for.
struct Options {
    what: Vec<String>,
    size: u64,
    pairs: usize,
    restores: usize,
    directory: Option<PathBuf>,
    keep: bool,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options =
            Self { what: Vec::new(), size: 1000 << 20, pairs: 3, restores: 6, directory: None, keep: false };
        for argument in arguments {
            let (name, value) = argument.split_once('=').unwrap_or((&argument, ""));
            let number = || value.parse::<usize>().map_err(|_| format!("{argument}: not a number"));
            match name {
                "few" | "many" | "memory" | "ways" | "launcher" => options.what.push(argument),
                "--size" => options.size = (number()? as u64) << 20,
                "--pairs" => options.pairs = number()?.max(1),
                "--restores" => options.restores = number()?.max(1),
                "--directory" => options.directory = Some(value.into()),
                "--keep" => options.keep = true,
                _ => return Err(format!("{argument}: see --help")),
            }
        }
        Ok(options)
    }

    fn wants(&self, what: &str) -> bool {
        self.what.is_empty() || self.what.iter().any(|wanted| wanted == what)
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|first| first == MEASURE).is_some() {
        return match measure::serve(&arguments.next().unwrap_or_default()) {
            Ok(usage) => say(&usage, ExitCode::SUCCESS),
            Err(error) => say(&error, ExitCode::FAILURE),
        };
    }
    if arguments.peek().is_some_and(|first| ["--help", "-h", "help"].contains(&first.as_str())) {
        return say(HELP, ExitCode::SUCCESS);
    }
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(error) => return say(&error, ExitCode::from(2)),
    };
    Bench::new(options).run();
    ExitCode::SUCCESS
}

/// All that is measured.
struct Bench {
    options: Options,
    ours: Lifecycle,
    reference: Option<PathBuf>,
    directory: PathBuf,
    in_memory: bool,
    builds: std::cell::Cell<usize>,
    table: Table,
    notes: Vec<String>,
}

impl Bench {
    fn new(options: Options) -> Self {
        let reference = std::env::var_os("LIFECYCLE_REFERENCE_DIR").map(PathBuf::from);
        if reference.is_none() {
            say(
                "LIFECYCLE_REFERENCE_DIR is unset (it names another lifecycle's executables): ours alone is measured",
                (),
            );
        }
        let shared = Path::new("/dev/shm");
        // Input, cache, restored layers, blobs of two sides.
        let in_memory = options.directory.is_none() && free(shared) > 8 * options.size;
        let parent = options.directory.clone();
        let parent = parent.unwrap_or_else(|| if in_memory { shared.to_owned() } else { std::env::temp_dir() });
        let directory = parent.join(format!("lifecycle-bench-{}", std::process::id()));
        fs::create_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let ours = Lifecycle::under_test();
        let (table, notes) = (Table::new(), Vec::new());
        Self { options, ours, reference, directory, in_memory, builds: 0.into(), table, notes }
    }

    fn run(mut self) {
        let sides: Vec<&Path> =
            [Some(self.ours.directory()), self.reference.as_deref()].into_iter().flatten().collect();
        let root = BuildRoot::new(&self.directory, &sides);
        let sides = sides.len();
        for (what, kind) in [("few", Kind::Few), ("many", Kind::Many)] {
            if self.options.wants(what) {
                self.speed(&root, what, kind, sides);
            }
        }
        if self.options.wants("memory") {
            self.memory(&root);
        }
        if self.options.wants("ways") {
            match emulation::available() {
                Ok(()) => {
                    let bytes = self.options.size.min(WAYS);
                    let text = ways::run(&self.directory, bytes, self.options.pairs, ways::reference().as_deref());
                    self.notes.push(text);
                }
                Err(reason) => self.notes.push(format!("ways: {reason}")),
            }
        }
        if self.options.wants("launcher") {
            self.launcher();
        }
        say(&format!("\n{}\n\n{}", self.table.text(), self.notes.join("\n")), ());
        if self.options.keep {
            say(&format!("left: {}", self.directory.display()), ());
        } else {
            fs::remove_dir_all(&self.directory).expect("removed");
        }
    }

    fn build<'a>(&self, root: &'a BuildRoot, side: usize, layers: &Path) -> Build<'a> {
        let number = self.builds.replace(self.builds.get() + 1);
        Build::new(root, side, layers, &self.directory.join(format!("build-{number}")))
    }

    fn done(&self, build: Build<'_>) {
        if self.in_memory {
            build.remove();
        }
    }

    /// Exports and restores of five layers.
    fn speed(&mut self, root: &BuildRoot, what: &str, kind: Kind, sides: usize) {
        let layers = self.directory.join(what);
        let chosen = input::choose(kind, self.options.size);
        let (files, bytes) = Layer::totals(&chosen);
        say(&format!("{what}: {files} files, {} MiB", bytes >> 20), ());
        write_real_layers(&layers, &chosen);
        let restores = self.options.restores.div_ceil(self.options.pairs);
        let (mut first, mut unchanged, mut restored) =
            (Comparison::default(), Comparison::default(), Comparison::default());
        for pair in 0..=self.options.pairs {
            // The first pair warms the page cache.
            let counts = pair > 0;
            let mut builds: Vec<Build<'_>> = (0..sides).map(|side| self.build(root, side, &layers)).collect();
            // Who comes first changes.
            let order = |turn: usize| (0..sides).map(move |side| (side + pair + turn) % sides);
            let mut sent = vec![0; sides];
            for side in order(0) {
                builds[side].analyze();
                let (usage, _) = builds[side].export();
                sent[side] = builds[side].sent();
                if counts {
                    first.of(side).push(usage);
                }
                say(&format!("  {what}, {pair}, {}: first export {usage}", NAMES[side]), ());
            }
            let mut notes = vec![String::new(); sides];
            for side in order(0) {
                let uploads = builds[side].uploads();
                builds[side].analyze();
                let (usage, printed) = builds[side].export();
                let reused = printed.matches("Reusing layer 'bench/files:").count();
                assert_eq!(reused, input::LAYERS, "all layers are reused:\n{printed}");
                if counts {
                    unchanged.of(side).push(usage);
                }
                say(&format!("  {what}, {pair}, {}: unchanged {usage}", NAMES[side]), ());
                if pair == self.options.pairs {
                    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
                    let again = builds[side].sent() - sent[side];
                    notes[side] = format!(
                        "{what}: {files} files, {:.1} MiB; {} sent {:.1} MiB, and unchanged {:.1} MiB in {} uploads",
                        mib(bytes),
                        NAMES[side],
                        mib(sent[side]),
                        mib(again),
                        builds[side].uploads() - uploads
                    );
                }
            }
            self.notes.extend(notes.into_iter().filter(|note| !note.is_empty()));
            for build in &builds {
                assert_eq!(build.cached(), builds[0].cached(), "the same layers are cached");
                build.analyze();
            }
            for turn in 0..if counts { restores } else { 1 } {
                for side in order(turn) {
                    let (usage, layers) = builds[side].restore();
                    let mut found = input::count(&layers.join("bench_files"));
                    // Beside the files: each layer's TOML, and what is the restorer's own.
                    found.0 -= input::LAYERS;
                    assert!(found.0 == files && found.1 >= bytes, "all files are restored: {found:?}");
                    if counts {
                        restored.of(side).push(usage);
                    }
                    say(&format!("  {what}, {pair}, {}: restore {usage}", NAMES[side]), ());
                    if self.in_memory {
                        fs::remove_dir_all(layers).expect("removed");
                    }
                }
            }
            builds.into_iter().for_each(|build| self.done(build));
        }
        self.table.add(&format!("{what}: first export"), &first);
        self.table.add(&format!("{what}: unchanged"), &unchanged);
        self.table.add(&format!("{what}: restore"), &restored);
        if self.in_memory {
            fs::remove_dir_all(&layers).expect("removed");
        }
    }

    /// What is large in one way or another, once.
    fn memory(&mut self, root: &BuildRoot) {
        const FILES: usize = 300_000;
        let large = |_: usize, path: &Path| {
            make_directory(path);
            let chosen = input::choose(Kind::Few, 1000 << 20);
            Layer::fill(&chosen, &path.join("file"), 4 << 30);
        };
        let flat = |_: usize, path: &Path| small_files(path, 1, FILES);
        let spread = |_: usize, path: &Path| small_files(path, 3000, FILES / 3000);
        let cases: [(&str, Contents<'_>); 3] =
            [("one file of 4 GiB", &large), ("300,000 files, flat", &flat), ("300,000 files, spread", &spread)];
        for (what, contents) in cases {
            let layers = self.directory.join("large");
            write_layers(&layers, 1, contents);
            let mut build = self.build(root, 0, &layers);
            for work in ["first export", "unchanged"] {
                build.analyze();
                let (usage, _) = build.export();
                self.table.add(&format!("{what}: {work}"), &Comparison { ours: vec![usage], theirs: Vec::new() });
                say(&format!("  {what}: {work} {usage}"), ());
            }
            build.analyze();
            let (usage, _) = build.restore();
            self.table.add(&format!("{what}: restore"), &Comparison { ours: vec![usage], theirs: Vec::new() });
            say(&format!("  {what}: restore {usage}"), ());
            build.remove();
            fs::remove_dir_all(&layers).expect("removed");
        }
    }

    /// The launcher's own time.
    fn launcher(&mut self) {
        const TIMES: usize = 300;
        let layers = self.directory.join("launched");
        write_layers(&layers, 1, |_, path| make_directory(&path.join("bin")));
        let program = |path: &Path| {
            let mut command = Command::new(path);
            command.stdout(Stdio::null()).env_clear().env("CNB_PLATFORM_API", "0.12").env("PATH", "/bin");
            command.env("CNB_LAYERS_DIR", &layers).env("CNB_APP_DIR", "/");
            command
        };
        let mut commands = vec![program(Path::new("/bin/true"))];
        for side in [Some(self.ours.directory()), self.reference.as_deref()].into_iter().flatten() {
            let mut command = program(&side.join("launcher"));
            command.args(["--", "/bin/true"]);
            commands.push(command);
        }
        measure::alternate(&mut commands, TIMES / 10);
        let taken: Vec<f64> =
            measure::alternate(&mut commands, TIMES).iter().map(|taken| taken.as_secs_f64() * 1e3).collect();
        let mut note = format!("launcher, median of {TIMES}: /bin/true alone {:.2} ms", taken[0]);
        for (name, taken_by) in NAMES.iter().zip(&taken[1..]) {
            note += &format!("; {name}: {:.2} ms more", taken_by - taken[0]);
        }
        if let [alone, ours, theirs] = taken[..] {
            note += &format!("; ours is {:.2} of it", (ours - alone) / (theirs - alone));
        }
        self.notes.push(note);
    }
}

/// Makes the directory of a layer.
type Contents<'a> = &'a dyn Fn(usize, &Path);

const NAMES: [&str; 2] = ["ours", "reference"];

trait Side<T> {
    fn of(&mut self, side: usize) -> &mut Vec<T>;
}

impl Side<measure::Usage> for Comparison {
    fn of(&mut self, side: usize) -> &mut Vec<measure::Usage> {
        if side == 0 { &mut self.ours } else { &mut self.theirs }
    }
}

/// `directories` with `files` small files each, in `path`; one directory is `path` itself.
fn small_files(path: &Path, directories: usize, files: usize) {
    for directory in 0..directories {
        let directory = if directories == 1 { path.to_owned() } else { path.join(format!("directory-{directory:05}")) };
        make_directory(&directory);
        for file in 0..files {
            fs::write(directory.join(format!("file-{file:07}.txt")), "some text\n").expect("written");
        }
    }
}

/// Free bytes of a file system.
fn free(path: &Path) -> u64 {
    let output = Command::new("df").args(["--output=avail", "-B1"]).arg(path).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().last().and_then(|line| line.trim().parse().ok()).unwrap_or(0)
}

#[expect(clippy::print_stdout, reason = "a program for people")]
fn say<T>(text: &str, result: T) -> T {
    println!("{text}");
    result
}

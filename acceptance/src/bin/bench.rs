//! How fast the lifecycle is, on real files of this machine: wall time, CPU time, peak memory and bytes sent of a first export,
//! of an export in which nothing changed, and of a restore; and what the launcher costs. With `LIFECYCLE_REFERENCE_DIR` the
//! same is done with those executables in turn, in the same run, and the last column is their time over ours.
//!
//! `BENCH_MIB` (1000) is how much each of the two inputs has, `BENCH_ROUNDS` (3) how often everything is done: the median
//! counts. `BENCH_EXTREMES=0` leaves out the largest layers, which are made to see the memory that they take.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use acceptance::image::{self, Format};
use acceptance::{Lifecycle, Phase, Project, Registry, USER};
use nix::sys::resource::{UsageWho, getrusage};

const MIB: u64 = 1 << 20;
const LAYERS: usize = 5;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "--measure") {
        return measure(&arguments[1..]);
    }
    let mut lifecycles = vec![Lifecycle::under_test()];
    lifecycles.extend(std::env::var_os("LIFECYCLE_REFERENCE_DIR").map(|path| Lifecycle::at(Path::new(&path))));
    let (size, rounds) = (setting("BENCH_MIB", 1000) * MIB, setting("BENCH_ROUNDS", 3));

    say(&heading(lifecycles.len() > 1));
    for (name, files) in [("few", large_files(size)), ("many", small_files(size))] {
        compare(name, &files, &lifecycles, rounds);
    }
    launcher(&lifecycles, rounds);
    if setting("BENCH_EXTREMES", 1) != 0 {
        extremes(&lifecycles[0]);
    }
    ExitCode::SUCCESS
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[expect(clippy::print_stdout, reason = "a bench prints what it measured")]
fn say(line: &str) {
    println!("{line}");
}

// What is measured.

/// What a process took.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    wall: Duration,
    cpu: Duration,
    /// Peak resident memory in KiB.
    memory: u64,
    /// What the registry got, in bytes.
    sent: u64,
}

/// Runs a phase by way of this program, which sees what its only child took.
fn take(phase: Phase) -> Taken {
    let phase = phase.as_root().command();
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg("--measure").arg(phase.get_program()).args(phase.get_args()).env_clear();
    command.envs(phase.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().expect("started");
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{phase:?}: {said}{told}");
    let numbers: Vec<u64> =
        told.lines().last().unwrap_or_default().split(' ').map(|number| number.parse().expect("a number")).collect();
    let [wall, cpu, memory] = numbers[..] else { panic!("{told}") };
    Taken { wall: Duration::from_micros(wall), cpu: Duration::from_micros(cpu), memory, sent: 0 }
}

#[expect(clippy::print_stderr, reason = "the last line that `take` reads")]
fn measure(words: &[std::ffi::OsString]) -> ExitCode {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).uid(USER).gid(USER).stdout(Stdio::null());
    let begun = Instant::now();
    let status = command.status().expect("started");
    let wall = begun.elapsed();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage");
    let micros = |time: nix::sys::time::TimeVal| u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0);
    eprintln!("{} {} {}", wall.as_micros(), micros(usage.user_time()) + micros(usage.system_time()), usage.max_rss());
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn median(mut all: Vec<Taken>) -> Taken {
    all.sort_by_key(|taken| taken.wall);
    let memory = all.iter().map(|taken| taken.memory).max().unwrap_or(0);
    Taken { memory, ..all[all.len() / 2] }
}

fn heading(compared: bool) -> String {
    let line = format!(
        "{:6} {:10} {:10} {:>9} {:>9} {:>9} {:>11}",
        "input", "work", "lifecycle", "wall", "CPU", "peak RSS", "sent"
    );
    if compared { format!("{line} {:>7}", "ratio") } else { line }
}

fn row(input: &str, work: &str, results: &[Taken]) {
    let ours = results[0].wall.as_secs_f64();
    for (at, taken) in results.iter().enumerate() {
        let ratio = if at == 0 { String::new() } else { format!("{:6.1}x", taken.wall.as_secs_f64() / ours) };
        say(&format!(
            "{input:6} {work:10} {:10} {:8.2}s {:8.2}s {:6} MiB {:7.1} MiB {ratio}",
            if at == 0 { "ours" } else { "reference" },
            taken.wall.as_secs_f64(),
            taken.cpu.as_secs_f64(),
            taken.memory.div_ceil(1024),
            taken.sent as f64 / MIB as f64,
        ));
    }
}

// The inputs.

/// Files of `/usr` that a rule takes, by path, until they have `total` bytes.
fn files(total: u64, rule: impl Fn(u64) -> bool) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut directories = vec![PathBuf::from("/usr")];
    while let Some(directory) = directories.pop() {
        let mut entries: Vec<_> = fs::read_dir(&directory).into_iter().flatten().flatten().collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            match entry.metadata() {
                Ok(found) if found.is_dir() => directories.push(entry.path()),
                Ok(found) if found.is_file() && rule(found.len()) => all.push((entry.path(), found.len())),
                _ => {}
            }
        }
    }
    all.sort();
    let mut sum = 0;
    all.retain(|(_, size)| {
        let fits = sum < total;
        sum += if fits { *size } else { 0 };
        fits
    });
    assert!(sum > 0, "/usr has no files to measure with");
    all.into_iter().map(|(path, _)| path).collect()
}

fn large_files(total: u64) -> Vec<PathBuf> {
    files(total, |size| size > 4 * MIB)
}

fn small_files(total: u64) -> Vec<PathBuf> {
    files(total, |size| size > 0 && size < MIB)
}

/// A project whose layers are there, as after a build.
fn built(lifecycle: &Lifecycle) -> Project {
    let project = Project::with(lifecycle.clone());
    project.write("layers/group.toml", "[[group]]\nid = \"bench/bench\"\nversion = \"1\"\napi = \"0.10\"\n");
    project.write(
        "layers/config/metadata.toml",
        "[[buildpacks]]\nid = \"bench/bench\"\nversion = \"1\"\napi = \"0.10\"\n",
    );
    fs::create_dir_all(project.path("layers/bench_bench")).expect("created");
    project
}

fn layer(project: &Project, name: &str) -> PathBuf {
    let path = project.path("layers/bench_bench").join(name);
    fs::create_dir_all(&path).expect("created");
    let types = "[types]\nlaunch = true\ncache = true\nbuild = true\n[metadata]\nkept = true\n";
    fs::write(path.with_extension("toml"), types).expect("written");
    path
}

// The work.

/// A build that is exported and restored: its own registry and cache.
struct Place {
    registry: Registry,
    run_image: String,
    cache: PathBuf,
}

impl Place {
    fn new(project: &Project, name: &str) -> Self {
        let registry = Registry::start();
        let run_image = image::push_run_image(&registry, "run", Format::Docker);
        let cache = project.path(name);
        fs::create_dir(&cache).expect("created");
        std::os::unix::fs::chown(&cache, Some(USER), Some(USER)).expect("given");
        Self { registry, run_image, cache }
    }

    fn analyze(&self, project: &Project) {
        let analyzer = project.phase("analyzer").flag("run-image", &self.run_image);
        analyzer.arg(self.registry.image("app")).run().succeeds();
    }

    fn export(&self, project: &Project) -> Taken {
        self.analyze(project);
        let before = size(&self.registry.storage());
        let exporter = project.phase("exporter").flag("cache-dir", &self.cache).arg(self.registry.image("app"));
        let taken = take(exporter);
        Taken { sent: size(&self.registry.storage()) - before, ..taken }
    }

    /// Into a new layers directory at the same place; what was there comes back afterwards.
    fn restore(&self, project: &Project, number: u64) -> Taken {
        self.analyze(project);
        let (layers, kept) = (project.path("layers"), project.path("kept"));
        fs::rename(&layers, &kept).expect("renamed");
        fs::create_dir(&layers).expect("created");
        for name in ["group.toml", "analyzed.toml"] {
            fs::copy(kept.join(name), layers.join(name)).expect("copied");
        }
        project.give_layers_to_user();
        let taken = take(project.phase("restorer").flag("cache-dir", &self.cache));
        assert!(layers.join("bench_bench/layer0").exists(), "nothing was restored");
        // Deleting many files now would make creating the next ones slow.
        fs::rename(&layers, project.path(&format!("restored{number}"))).expect("renamed");
        fs::rename(&kept, &layers).expect("renamed");
        taken
    }
}

/// The bytes of everything in a directory.
fn size(path: &Path) -> u64 {
    let Ok(found) = fs::symlink_metadata(path) else { return 0 };
    if !found.is_dir() {
        return found.size();
    }
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size(&entry.path())).sum()
}

fn compare(name: &str, files: &[PathBuf], lifecycles: &[Lifecycle], rounds: u64) {
    let project = built(&lifecycles[0]);
    for (at, file) in files.iter().enumerate() {
        let layer = layer(&project, &format!("layer{}", at % LAYERS));
        let to = layer.join(file.strip_prefix("/").expect("absolute"));
        fs::create_dir_all(to.parent().expect("a parent")).expect("created");
        fs::copy(file, &to).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
    project.give_to_user();
    let projects: Vec<_> = lifecycles.iter().map(|lifecycle| project.by(lifecycle)).collect();
    let mut taken = vec![[const { Vec::new() }; 3]; lifecycles.len()];
    for round in 0..rounds {
        for (at, project) in projects.iter().enumerate() {
            let place = Place::new(project, &format!("cache{at}-{round}"));
            let [first, unchanged, restored] = &mut taken[at];
            first.push(place.export(project));
            unchanged.push(place.export(project));
            restored.push(place.restore(project, round * 2 + at as u64));
        }
    }
    let medians: Vec<_> = taken.into_iter().map(|works| works.map(median)).collect();
    for (at, work) in ["first", "unchanged", "restore"].into_iter().enumerate() {
        row(name, work, &medians.iter().map(|works| works[at]).collect::<Vec<_>>());
    }
}

fn launcher(lifecycles: &[Lifecycle], rounds: u64) {
    const TIMES: u32 = 200;
    let time = |mut start: Box<dyn FnMut() -> Command>| {
        let begun = Instant::now();
        for _ in 0..TIMES {
            assert!(start().status().expect("started").success());
        }
        begun.elapsed() / TIMES
    };
    let mut results = Vec::new();
    for lifecycle in lifecycles {
        let project = built(lifecycle);
        layer(&project, "layer0");
        project.give_to_user();
        let mut all = Vec::new();
        for _ in 0..rounds {
            let (layers, app) = (project.path("layers"), project.path("app"));
            let lifecycle = lifecycle.clone();
            let through = time(Box::new(move || {
                let launcher = lifecycle.phase("launcher").env("CNB_LAYERS_DIR", &layers).env("CNB_APP_DIR", &app);
                launcher.arg("/bin/true").command()
            }));
            let alone = time(Box::new(|| {
                let mut command = Command::new("/bin/true");
                command.env_clear().uid(USER).gid(USER).stdin(Stdio::null());
                command
            }));
            all.push(through.saturating_sub(alone));
        }
        all.sort();
        results.push(all[all.len() / 2]);
    }
    for (at, result) in results.iter().enumerate() {
        let name = if at == 0 { "ours" } else { "reference" };
        let ratio =
            if at == 0 { String::new() } else { format!("{:49.1}x", result.as_secs_f64() / results[0].as_secs_f64()) };
        say(&format!("{:6} {:10} {name:10} {:6.2} ms {ratio}", "", "launcher", result.as_secs_f64() * 1000.0));
    }
}

/// Layers as large as they get: what counts is that memory does not grow with them.
fn extremes(lifecycle: &Lifecycle) {
    let huge = |path: &Path| -> io::Result<()> {
        let mut file = File::create(path.join("4GiB"))?;
        let mut left = 4096 * MIB;
        let content = large_files(1000 * MIB);
        while left > 0 {
            for source in &content {
                left -= io::copy(&mut File::open(source)?.take(left), &mut file)?;
            }
        }
        Ok(())
    };
    let empty_files = |path: &Path, directories: u32| -> io::Result<()> {
        for number in 0..300_000u32 {
            let directory = path.join(format!("directory{}", number % directories));
            if number < directories {
                fs::create_dir_all(&directory)?;
            }
            File::create(directory.join(format!("file-with-a-name-of-some-length-{number}")))?.write_all(b"content")?;
        }
        Ok(())
    };
    extreme(lifecycle, "4 GiB", huge);
    extreme(lifecycle, "flat", |path| empty_files(path, 1));
    extreme(lifecycle, "spread", |path| empty_files(path, 3000));
}

fn extreme(lifecycle: &Lifecycle, name: &str, make: impl FnOnce(&Path) -> io::Result<()>) {
    let project = built(lifecycle);
    make(&layer(&project, "layer0")).expect("made");
    project.give_to_user();
    let place = Place::new(&project, "cache0");
    row(name, "first", &[place.export(&project)]);
    row(name, "unchanged", &[place.export(&project)]);
    row(name, "restore", &[place.restore(&project, 0)]);
}

//! What buildpacks print, and what they leave running.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;

/// Whether the process whose id is in a file runs (a zombie does not).
fn runs(world: &World, file: &str) -> bool {
    let pid = world.read(file).trim().to_owned();
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Waits for what has to come, however busy the machine is; whether it came.
fn comes(condition: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(200) {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

#[test]
fn output_and_errors_come_in_order_through_one_pipe() {
    let mut world = World::new("0.12");
    world.buildpack("a", "0.10", "echo 1; echo 2 >&2; echo 3 >/dev/stderr; echo 4 >/dev/stdout; echo 5 >&2");
    world.buildpack("b", "0.10", "sh -c 'echo 6 >/dev/stderr'; printf '\\xff\\x00\\x1b[31m7'; cat; echo '%s'");
    world.build();
    let printed = world.printed.0.lock().expect("not poisoned").clone();
    assert_eq!(printed, b"1\n2\n3\n4\n5\n6\n\xff\x00\x1b[31m7%s\n", "{}", String::from_utf8_lossy(&printed));
}

#[test]
fn output_comes_live() {
    let mut world = World::new("0.12");
    let script = format!("echo first; while [ ! -e {} ]; do sleep 0.01; done", world.path("go").display());
    world.buildpack("a", "0.10", &script);
    std::thread::scope(|scope| {
        let build = scope.spawn(|| world.build());
        let came = comes(|| world.printed() == "first\n");
        world.write("go", "");
        build.join().expect("built");
        assert!(came, "nothing came while it ran");
    });
}

#[test]
fn ten_megabytes_pass_unchanged() {
    let mut world = World::new("0.12");
    world.buildpack("a", "0.10", "yes 0123456789abcdef | head -c 10485760; yes error | head -c 6000 >&2");
    world.build();
    let expected = "0123456789abcdef\n".repeat(10_485_760 / 17 + 1)[..10_485_760].to_owned() + &"error\n".repeat(1000);
    assert!(world.printed() == expected, "{} bytes", world.printed().len());
}

#[test]
fn a_background_process_that_holds_the_pipe_is_not_waited_for_and_then_stopped() {
    let mut world = World::new("0.12");
    let script = "sleep 1000 & echo $! > pid; (setsid sleep 1001 & echo $! > ../orphan) ; echo done";
    world.buildpack("a", "0.10", script);
    world.buildpack("b", "0.10", "kill -0 $(cat ../a/pid); kill -0 $(cat ../orphan); echo next");
    let start = Instant::now();
    world.build();
    assert!(start.elapsed() < Duration::from_secs(500), "{:?}", start.elapsed());
    assert_eq!(world.printed(), "done\nnext\n");
    assert!(!runs(&world, "layers/a/pid") && !runs(&world, "layers/orphan"));
}

#[test]
fn what_a_background_process_prints_later_is_printed() {
    let mut world = World::new("0.12");
    let wait = |file: &str| format!("while [ ! -e ../{file} ]; do sleep 0.01; done");
    let background = format!("{}; echo late; exec sleep 300", wait("next"));
    world.buildpack("a", "0.10", &format!("({background}) & echo early"));
    world.buildpack("b", "0.10", &format!("touch ../next; {}; echo after", wait("seen")));
    std::thread::scope(|scope| {
        let build = scope.spawn(|| world.build());
        let came = comes(|| world.printed() == "early\nlate\n");
        world.write("layers/seen", "");
        build.join().expect("built");
        assert!(came, "{}", world.printed());
    });
    assert_eq!(world.printed(), "early\nlate\nafter\n");
}

#[test]
fn the_last_lines_of_a_substituted_process_are_not_lost() {
    let mut world = World::new("0.12");
    world.buildpack(
        "a",
        "0.10",
        "exec > >(while read -r line; do sleep 0.02; echo \"  $line\"; done) 2>&1; echo 1; echo 2 >&2; echo 3",
    );
    world.build();
    assert_eq!(world.printed(), "  1\n  2\n  3\n");
}

#[test]
fn a_process_that_does_not_end_when_asked_is_killed() {
    let mut world = World::new("0.12");
    world.buildpack(
        "a",
        "0.10",
        "(trap '' TERM; echo $BASHPID > pid; while true; do sleep 1; done) & while [ ! -s pid ]; do sleep 0.01; done",
    );
    let start = Instant::now();
    world.build();
    let took = start.elapsed();
    assert!(took > Duration::from_secs(4), "it was given time: {took:?}");
    assert!(comes(|| !runs(&world, "layers/a/pid")));
}

#[test]
fn what_a_failed_buildpack_left_running_is_stopped_too() {
    let mut world = World::new("0.12");
    world.buildpack("a", "0.10", "sleep 300 & echo $! > pid; exit 3");
    assert_eq!(world.fail(), (51, "buildpacks/a/1/bin/build of buildpack 'a@1': exit status 3".to_owned()));
    assert!(!runs(&world, "layers/a/pid"));
}

#[test]
fn children_that_were_there_before_are_left_alone() {
    let mut world = World::new("0.12");
    let script = "while true; do sleep 0.05; done";
    let mut before = Command::new("sh").args(["-c", script]).spawn().expect("started");
    world.buildpack("a", "0.10", "sleep 300 & echo $! > pid");
    let built = world.run();
    let still = before.try_wait().expect("asked");
    let _ = kill(Pid::from_raw(i32::try_from(before.id()).expect("an id")), Signal::SIGKILL);
    before.wait().expect("waited");
    assert!(built.is_ok() && !runs(&world, "layers/a/pid"));
    assert_eq!(still, None, "it was stopped");
}

#[test]
fn orphans_are_reaped_while_a_buildpack_runs() {
    let mut world = World::new("0.12");
    let script = r#"
        for i in $(seq 50); do (setsid true &); done
        for try in $(seq 200); do
            zombies=0
            for stat in /proc/[0-9]*/stat; do
                line=$(cat $stat 2>/dev/null) || continue
                case $line in *") Z $PPID "*) zombies=$((zombies + 1)) ;; esac
            done
            [ $zombies = 0 ] && break
            sleep 0.05
        done
        echo $zombies
    "#;
    world.buildpack("a", "0.10", script);
    world.build();
    assert_eq!(world.printed(), "0\n");
}

#[test]
fn no_descriptor_of_ours_is_inherited() {
    let mut world = World::new("0.12");
    // Descriptors that our own caller left open have no close-on-exec flag; nor has this one.
    let file = fs::File::open("/etc/hostname").or_else(|_| fs::File::open("/etc/passwd")).expect("opened");
    let inherited = nix::unistd::dup(&file).expect("duplicated");
    // `ls` has one of its own, for the directory.
    world.buildpack("a", "0.10", "ls /proc/self/fd | wc -l; readlink /proc/self/fd/0");
    world.build();
    drop(inherited);
    assert_eq!(world.printed(), "4\n/dev/null\n");
}

#[test]
fn a_reader_that_went_away_does_not_stop_the_build() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut world = World::new("0.12");
    world.buildpack("a", "0.10", "yes | head -c 1000000; echo > end");
    build::run(&world.inputs, Box::new(Closed)).expect("built");
    assert!(world.path("layers/a/end").exists());
}

#[test]
fn how_a_buildpack_failed_is_told() {
    for (script, code, expected) in [
        ("exit 1", 51, "exit status 1"),
        ("exit 100", 51, "exit status 100"),
        ("kill -9 $$", 51, "signal: 9 (SIGKILL)"),
        ("kill -TERM $$", 51, "signal: 15 (SIGTERM)"),
    ] {
        let mut world = World::new("0.12");
        world.buildpack("x/a", "0.10", script);
        let expected = format!("buildpacks/x_a/1/bin/build of buildpack 'x/a@1': {expected}");
        assert_eq!(world.fail(), (code, expected));
    }
}

#[test]
fn what_cannot_be_started_is_the_buildpacks_failure() {
    let mut world = World::new("0.12");
    world.buildpack("a", "0.10", "");
    let path = world.path("buildpacks/a/1/bin/build");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
    assert_eq!(world.fail(), (51, "run buildpacks/a/1/bin/build: permission denied".to_owned()));
    world.write("buildpacks/a/1/bin/build", "#!/no/such/interpreter");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    assert_eq!(world.fail().0, 51);
    fs::remove_file(&path).expect("removed");
    assert_eq!(world.fail(), (51, "run buildpacks/a/1/bin/build: no such file or directory".to_owned()));
    fs::remove_dir_all(world.path("app")).expect("removed");
    assert_eq!(world.fail(), (52, "open app: no such file or directory".to_owned()));
}

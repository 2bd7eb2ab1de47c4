//! What code under test logs.

use std::cell::RefCell;
use std::sync::Once;

use log::{LevelFilter, Log, Metadata, Record};

thread_local! {
    static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

struct Capture;

impl Log for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = format!("{}: {}", record.level().as_str().to_lowercase(), record.args());
        // No two runs have the same times.
        if line.starts_with("debug: Timer: ") {
            return;
        }
        LINES.with_borrow_mut(|lines| lines.iter_mut().for_each(|lines| lines.push(line.clone())));
    }

    fn flush(&self) {}
}

/// Calls `f`, and gives what it logged on this thread: `warn: text`.
pub(crate) fn captured<R>(f: impl FnOnce() -> R) -> (R, Vec<String>) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Capture).expect("no other logger in unit tests");
        log::set_max_level(LevelFilter::Debug);
    });
    LINES.set(Some(Vec::new()));
    let result = f();
    (result, LINES.take().unwrap_or_default())
}

/// The sources of this package and of the executables that do not say why something failed: `{error}` prints an error
/// without its causes.
#[test]
fn warnings_tell_the_causes() {
    use std::path::Path;

    fn search(dir: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).expect("read") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                search(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("read");
                let calls = ["debug!(", "info!(", "warn!(", "error!("].map(|call| text.split(call).skip(1));
                let drops = |call: &&str| {
                    let arguments = call.split_once(";").map_or(*call, |(arguments, _)| arguments);
                    ["{error}", "{cause}", ", error)", ", cause)"].iter().any(|drop| arguments.contains(drop))
                };
                found.extend(calls.into_iter().flatten().filter(drops).map(|call| format!("{path:?}: {call:.120}")));
            }
        }
    }

    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for dir in [own.join("src"), own.join("launch/src"), own.join("../cmd")] {
        search(&dir, &mut found);
    }
    assert!(found.is_empty(), "{found:#?}");
}

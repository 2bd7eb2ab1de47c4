//! What detection has to tell. It is kept until the end: after a success only what the log level lets through is
//! printed, after a failure everything, so that a user sees why each group failed without asking again.

use std::io::Write;
use std::sync::Arc;

use log::Level;

use super::executable::Run;

/// Lines and outputs, in order.
#[derive(Default)]
pub(super) struct Transcript(Vec<(Level, Entry)>);

enum Entry {
    Line(String),
    /// What a `bin/detect` printed: bytes, whatever they are.
    Output(Arc<Run>),
}

impl Transcript {
    pub(super) fn debug(&mut self, line: impl Into<String>) {
        self.line(Level::Debug, line);
    }

    pub(super) fn info(&mut self, line: impl Into<String>) {
        self.line(Level::Info, line);
    }

    pub(super) fn line(&mut self, level: Level, line: impl Into<String>) {
        self.0.push((level, Entry::Line(line.into())));
    }

    pub(super) fn output(&mut self, level: Level, run: Arc<Run>) {
        self.0.push((level, Entry::Output(run)));
    }

    /// Prints what is of the log level and above, or everything. Where nobody reads, nothing is lost.
    pub(super) fn print(&self, everything: bool, to: &mut dyn Write) {
        for (level, entry) in &self.0 {
            if !everything && *level > log::max_level() {
                continue;
            }
            let text = match entry {
                Entry::Line(line) => line.as_bytes(),
                Entry::Output(run) => &run.output,
            };
            let end: &[u8] = if text.ends_with(b"\n") { b"" } else { b"\n" };
            let _ = to.write_all(&[text, end].concat());
        }
    }
}

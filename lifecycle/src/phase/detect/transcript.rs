//! What detection has to tell. It is kept until the end: after a success only what the log level lets through is
//! printed, after a failure everything, so that a user sees why each group failed without asking again.

use std::io::Write;
use std::sync::Arc;

use log::{Level, LevelFilter};

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

    /// Prints what is of this level and above. It does not matter whether anybody reads it.
    pub(super) fn print(&self, level: LevelFilter, to: &mut dyn Write) {
        for (_, entry) in self.0.iter().filter(|(of, _)| *of <= level) {
            let text = match entry {
                Entry::Line(line) => line.as_bytes(),
                Entry::Output(run) => &run.output,
            };
            let end: &[u8] = if text.ends_with(b"\n") { b"" } else { b"\n" };
            let _ = to.write_all(&[text, end].concat());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::executable::Outcome;
    use super::*;

    #[test]
    fn lines_end_and_outputs_are_bytes() {
        let mut transcript = Transcript::default();
        let run = |output: &[u8]| Arc::new(Run { outcome: Outcome::Fail, output: output.to_vec(), error: None });
        transcript.debug("a {} %s");
        transcript.output(Level::Debug, run(b"\xff%d"));
        transcript.info("b\n");
        transcript.output(Level::Info, run(b"c\n"));
        let printed = |level| {
            let mut to = Vec::new();
            transcript.print(level, &mut to);
            to
        };
        assert_eq!(printed(LevelFilter::Trace), b"a {} %s\n\xff%d\nb\nc\n");
        assert_eq!(printed(LevelFilter::Info), b"b\nc\n");
        assert_eq!(printed(LevelFilter::Warn), b"");
    }
}

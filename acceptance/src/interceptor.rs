//! Between a phase and a registry: sees every request, and kills the phase at one of them.
//!
//! Unlike a moment in time, a request is the same one in every run. What a killed process has sent in part only, the
//! registry gets in part only.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::registry::Registry;

/// How long a phase may take.
const LONGEST: Duration = Duration::from_secs(120);

/// When a phase is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// At a request that changes something, or at one that reads.
    pub writing: bool,
    /// At which of those, from 0 on.
    pub number: usize,
    /// And when.
    pub point: Point,
}

/// When, seen from one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The registry gets nothing of it.
    Before,
    /// The registry gets half of it, and then the connection ends.
    Half,
    /// The registry gets and answers it, and the phase does not learn of that.
    After,
}

/// The way to a registry that kills.
#[derive(Debug)]
pub struct Interceptor {
    host: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    registry: String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    child: Option<Child>,
    moment: Option<Moment>,
    killed: bool,
    /// Requests that the registry may be at work on.
    under_way: usize,
    seen: Vec<Seen>,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Whether it changes something.
    pub writing: bool,
    /// `PUT /v2/app/manifests/latest HTTP/1.1`
    pub line: String,
}

/// How a phase ended.
#[derive(Debug)]
pub struct Ended {
    /// Whether it was killed at the moment that it should be. If not, it did not come so far.
    pub killed: bool,
    /// How it ended, and what it printed.
    pub output: Output,
    /// Its requests.
    pub requests: Vec<Seen>,
}

impl Interceptor {
    /// In front of a registry.
    pub fn new(registry: &Registry) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = listener.local_addr().expect("an address").to_string();
        let shared = Arc::new(Shared {
            registry: registry.host().to_owned(),
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&serving);
                // A client that goes away is what this is for.
                thread::spawn(move || shared.serve(&stream));
            }
        });
        Self { host, shared }
    }

    /// A reference in the registry, by the way of the interceptor.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    /// Runs a phase, and kills it at a moment. Returns when the registry has nothing of it under way any more.
    ///
    /// # Panics
    ///
    /// If it cannot be started, or takes minutes.
    pub fn run(&self, mut command: Command, moment: Option<Moment>) -> Ended {
        // Files, so that nobody has to read along.
        let mut printed = [(); 2].map(|()| tempfile::tempfile().expect("a file"));
        let [stdout, stderr] = &printed;
        command.stdout(stdout.try_clone().expect("once more")).stderr(stderr.try_clone().expect("once more"));
        {
            // Nothing that it sends is looked at before the child is there.
            let mut state = self.shared.state();
            let child = command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
            *state = State { child: Some(child), moment, ..State::default() };
        }
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.shared.state().child().try_wait().expect("a child") {
                break status;
            }
            if began.elapsed() > LONGEST {
                let _ = self.shared.state().child().kill();
                panic!("{command:?} does not end");
            }
            thread::sleep(Duration::from_millis(1));
        };
        let state = self.shared.state();
        let (mut state, late) = self
            .shared
            .changed
            .wait_timeout_while(state, LONGEST, |state| state.under_way > 0)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!late.timed_out(), "the registry does not answer");
        let [stdout, stderr] = printed.each_mut().map(read);
        let output = Output { status, stdout, stderr };
        Ended { killed: state.killed, output, requests: std::mem::take(&mut state.seen) }
    }
}

fn read(file: &mut std::fs::File) -> Vec<u8> {
    use std::io::Seek as _;
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("read");
    bytes
}

impl State {
    fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("a child was started")
    }

    /// Counts a request; whether now is the moment.
    fn see(&mut self, seen: Seen) -> Option<Point> {
        let number = self.seen.iter().filter(|other| other.writing == seen.writing).count();
        let due = self.moment.filter(|moment| (moment.writing, moment.number) == (seen.writing, number));
        self.seen.push(seen);
        due.map(|moment| moment.point)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one connection.
    fn serve(&self, stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        loop {
            let Request { head, body } = Request::read(&mut reader, stream)?;
            let line = head.lines().next().unwrap_or_default().to_owned();
            let writing = !line.starts_with("GET ") && !line.starts_with("HEAD ");
            let point = {
                let mut state = self.state();
                if state.killed {
                    return None;
                }
                let point = state.see(Seen { writing, line });
                if matches!(point, Some(Point::Before | Point::Half)) {
                    self.kill(&mut state);
                }
                state.under_way += 1;
                point
            };
            let bytes = [head.as_bytes(), &body].concat();
            let answer = match point {
                Some(Point::Before) => None,
                Some(Point::Half) => {
                    // Of the body, where it has one.
                    let half = if body.is_empty() { bytes.len() / 2 } else { bytes.len() - body.len().div_ceil(2) };
                    // The registry may hang up first.
                    let _ = self.ask(&bytes[..half], true);
                    None
                }
                Some(Point::After) | None => self.ask(&bytes, false).ok(),
            };
            {
                let mut state = self.state();
                if point == Some(Point::After) {
                    self.kill(&mut state);
                }
                state.under_way -= 1;
                self.changed.notify_all();
            }
            if point.is_some() {
                return None;
            }
            (&mut &*stream).write_all(&answer?).ok()?;
        }
    }

    fn kill(&self, state: &mut State) {
        state.killed = true;
        state.child().kill().expect("killed");
    }

    /// Sends bytes to the registry, and perhaps that nothing follows; its answer.
    fn ask(&self, bytes: &[u8], ends: bool) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(&self.registry)?;
        stream.write_all(bytes)?;
        if ends {
            stream.shutdown(Shutdown::Write)?;
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

struct Request {
    head: String,
    body: Vec<u8>,
}

impl Request {
    /// Reads a whole request. What is not http, such as the beginning of TLS, is none.
    fn read(reader: &mut BufReader<&TcpStream>, mut stream: &TcpStream) -> Option<Self> {
        if !reader.fill_buf().ok()?.first()?.is_ascii_uppercase() {
            return None;
        }
        let mut head = String::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
            let lower = line.to_ascii_lowercase();
            assert!(!lower.starts_with("transfer-encoding:"), "bodies have a length: {line}");
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if lower.starts_with("expect:") {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
            } else if line == "\r\n" {
                // The registry's answer ends with its connection.
                head += "Connection: close\r\n\r\n";
                break;
            } else if !lower.starts_with("connection:") {
                head += &line;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        Some(Self { head, body })
    }
}

//! A node's standard input, line by line, for those who ask.
//!
//! Contract: a thread of its own reads, and only while somebody waits; those who asked first are
//! served first. Whoever has given up, or had a time-out, is passed over: the line goes to the
//! next who asks. Bounded: requests that wait, and the bytes of a line.
//!
//! Does not know how an answer finds its way: it is given a function.

use std::collections::VecDeque;
use std::io::{BufRead as _, Read as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use wasm_node_protocol::{CallError, ExitReason, Incarnation, Pid, Ref};

/// Requests that may wait for a line; one more is refused.
const MAX_WAITING_READS: usize = 10_000;

/// Bytes of a line; a longer one comes in parts.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// A line with its end, or nothing at the end of the input.
type Line = Result<Bytes, CallError>;

struct Asked {
    asker: Pid,
    tag: Ref,
    until: Option<Instant>,
}

/// Those who wait for a line, in the order they asked. Whoever has given up is passed over.
#[derive(Default)]
pub(crate) struct Questions(VecDeque<Asked>);

impl Questions {
    /// Behind those who asked before; the error is the answer if too many wait.
    pub(crate) fn push(
        &mut self,
        asker: Pid,
        tag: Ref,
        timeout: Option<Duration>,
    ) -> Result<(), CallError> {
        if self.0.len() >= MAX_WAITING_READS {
            let why = format!("standard input: {MAX_WAITING_READS} requests wait already");
            return Err(CallError::Exit(ExitReason::Limit(why)));
        }
        let until = timeout.map(|timeout| Instant::now() + timeout);
        self.0.push_back(Asked { asker, tag, until });
        Ok(())
    }

    /// That line is not wanted any more.
    pub(crate) fn forget(&mut self, tag: Ref) {
        self.0.retain(|asked| asked.tag != tag);
    }

    /// Whether somebody waits still.
    pub(crate) fn any(&mut self) -> bool {
        let now = Instant::now();
        self.0.retain(|asked| asked.waits(now));
        !self.0.is_empty()
    }

    /// The first who still waits.
    pub(crate) fn next(&mut self) -> Option<(Pid, Ref)> {
        let now = Instant::now();
        loop {
            let asked = self.0.pop_front()?;
            if asked.waits(now) {
                return Some((asked.asker, asked.tag));
            }
        }
    }
}

#[derive(Default)]
struct State {
    waiting: Questions,
    /// Whether there is a thread; without a question there is none.
    begun: bool,
    stopped: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    answer: Box<dyn Fn(Pid, Ref, Line) + Send + Sync>,
}

/// A node's standard input.
pub(crate) struct Input(Arc<Shared>);

impl Input {
    /// Reads nothing yet. `answer` gives an actor what it asked for, from any thread.
    pub(crate) fn new(answer: impl Fn(Pid, Ref, Line) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            answer: Box::new(answer),
        }))
    }

    /// Reads a line for an actor, behind those who asked before.
    pub(crate) fn ask(&self, asker: Pid, tag: Ref, timeout: Option<Duration>) {
        let mut state = self.0.state.lock();
        if let Err(refused) = state.waiting.push(asker, tag, timeout) {
            drop(state);
            return (self.0.answer)(asker, tag, Err(refused));
        }
        if !state.begun {
            let shared = self.0.clone();
            let thread = std::thread::Builder::new().name("input".into());
            match thread.spawn(move || shared.serve()) {
                Ok(_) => state.begun = true,
                Err(error) => {
                    state.waiting = Questions::default();
                    drop(state);
                    (self.0.answer)(asker, tag, Err(failed(&error)));
                }
            }
        } else {
            self.0.changed.notify_one();
        }
    }

    /// That line is not wanted any more.
    pub(crate) fn forget(&self, tag: Ref) {
        self.0.state.lock().waiting.forget(tag);
    }

    /// Nobody of that run of a node wants one.
    pub(crate) fn node_down(&self, node: Incarnation) {
        let mut state = self.0.state.lock();
        state.waiting.0.retain(|asked| asked.asker.node != node);
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.0.state.lock().stopped = true;
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn serve(&self) {
        // Read for somebody who gave up meanwhile.
        let mut kept = None;
        while self.wait_for_question() {
            let line = kept.take().unwrap_or_else(read_line);
            let next = self.state.lock().waiting.next();
            match next {
                Some((asker, tag)) => (self.answer)(asker, tag, line),
                None => kept = Some(line),
            }
        }
    }

    /// Waits until somebody waits; false when nobody ever will.
    fn wait_for_question(&self) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return false;
            }
            if state.waiting.any() {
                return true;
            }
            self.changed.wait(&mut state);
        }
    }
}

impl Asked {
    fn waits(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// Waits for the next line, on the thread that is there for that.
fn read_line() -> Line {
    let mut line = Vec::new();
    let input = std::io::stdin().lock();
    match input.take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
        Ok(_) => Ok(line.into()),
        Err(error) => Err(failed(&error)),
    }
}

fn failed(error: &std::io::Error) -> CallError {
    CallError::Exit(ExitReason::Error(format!(
        "cannot read standard input: {error}"
    )))
}

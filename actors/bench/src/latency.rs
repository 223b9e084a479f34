//! How long single calls take, one after the other: the percentiles of a neighbour's life.
//!
//! Paused between calls, so that each moment is looked at alike: back to back, a stall of 100 ms
//! would be one call among a hundred thousand, and no percentile would show it.

use wasm_node_sdk::bindings::wasm_node::actor::{mailbox, timer};
use wasm_node_sdk::{Message, Pid, Ref};

use crate::histogram::Histogram;

/// Calls to one echo actor.
pub struct Latency {
    peer: Pid,
    question: [u8; 32],
    until: u64,
    /// 0 for back to back.
    pause_ms: u32,
    /// When the call under way began, or when the timer was due.
    since: u64,
    timer: Option<Ref>,
    calls: Histogram,
    /// How much later than due a timer's message was handled.
    late: Histogram,
}

impl Latency {
    /// Begins; `question` makes the echo actor answer.
    pub fn begin(peer: Pid, question: [u8; 32], ms: u64, pause_ms: u32) -> Self {
        let since = timer::now();
        let _ = mailbox::send(peer, &question);
        Self {
            peer,
            question,
            until: since + ms * 1_000_000,
            pause_ms,
            since,
            timer: None,
            calls: Histogram::new(),
            late: Histogram::new(),
        }
    }

    /// Takes a message; done, with `CALLS P50 P99 P999 MAX LATE_P99 LATE_MAX` in nanoseconds, or
    /// not.
    pub fn step(&mut self, message: &Message) -> Option<String> {
        let now = timer::now();
        match message {
            Message::Info(_) => self.calls.add(now - self.since),
            Message::Timer(fired) if Some(fired) == self.timer.as_ref() => {
                self.late.add(now.saturating_sub(self.since));
                return self.call();
            }
            _ => return None,
        }
        if now >= self.until {
            let _ = mailbox::send(self.peer, b"stop");
            return Some(self.told());
        }
        if self.pause_ms == 0 {
            return self.call();
        }
        self.since = timer::now() + u64::from(self.pause_ms) * 1_000_000;
        self.timer = Some(timer::start(self.pause_ms));
        None
    }

    fn call(&mut self) -> Option<String> {
        self.since = timer::now();
        let _ = mailbox::send(self.peer, &self.question);
        None
    }

    fn told(&self) -> String {
        let (calls, late) = (&self.calls, &self.late);
        let numbers = [
            calls.count(),
            calls.per_mille(500),
            calls.per_mille(990),
            calls.per_mille(999),
            calls.max(),
            late.per_mille(990),
            late.max(),
        ];
        numbers.map(|number| number.to_string()).join(" ")
    }
}

//! Group leaders: where an actor's text goes, and where its lines of input come from.
//!
//! Contract: text goes to the actor's group leader, each actor's in order; a leader that is gone,
//! or whose node is, is stood in for by the `user` of the actor's own node, and text that was on
//! its way to it comes back there. For most actors that `user` is the leader: then it costs no
//! signal. A slow link, or a leader that takes its time, suspends who prints as it does who sends.
//!
//! Does not know the node's pipes: [`User`] does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use wasm_node_protocol::{CallError, ExitReason, Incarnation, OutputKind, Pid, Ref, Signal};

use super::handle::Process;
use super::network::Sent;
use super::runtime::Runtime;

/// The most text that one signal carries: it fits into one frame.
pub const MAX_OUTPUT_BYTES: usize = 48 << 10;

/// A node's own group leader. All calls come from any thread and none blocks.
pub trait User: Send + Sync {
    /// Shows text that an actor, of any node, printed.
    fn print(&self, actor: Pid, kind: OutputKind, text: &[u8]);
    /// Reads a line for an actor, after those who asked before. Answered by `Response`.
    fn read_line(&self, asker: Pid, tag: Ref, timeout: Option<Duration>);
    /// That line is not wanted any more.
    fn forget(&self, tag: Ref);
    /// Nobody of that run of a node waits for a line any more.
    fn node_down(&self, node: Incarnation);
}

/// Where nothing is shown and nothing is to be read.
pub(super) struct Nowhere;

impl User for Nowhere {
    fn print(&self, _: Pid, _: OutputKind, _: &[u8]) {}
    fn read_line(&self, _: Pid, _: Ref, _: Option<Duration>) {}
    fn forget(&self, _: Ref) {}
    fn node_down(&self, _: Incarnation) {}
}

impl Runtime {
    /// This node's own group leader.
    pub fn user(&self) -> Pid {
        Pid::user(self.node())
    }

    /// Prints for a process, in its turn or of the host's own.
    pub fn print(self: &Arc<Self>, process: &Process, kind: OutputKind, text: &[u8]) {
        let leader = process.with_actor(|actor| actor.group_leader());
        if leader == self.user() {
            return self.own_user().print(process.pid, kind, text);
        }
        for text in pieces(text) {
            let signal = Signal::Output {
                from: process.pid,
                kind,
                text: Bytes::copy_from_slice(text),
            };
            match self.signal_of(process.pid, leader, signal) {
                Sent::Ok => {}
                Sent::Congested if leader != process.pid => self.suspend(process, leader),
                Sent::Congested => {}
                Sent::NoConnection => self.own_user().print(process.pid, kind, text),
            }
        }
    }

    /// Asks a process' group leader for a line; exactly one response message follows, unless it
    /// is forgotten.
    pub fn read_line(self: &Arc<Self>, asker: &Arc<Process>, timeout: Option<Duration>) -> Ref {
        let leader = asker.with_actor(|actor| actor.group_leader());
        self.read_line_of(asker, leader, timeout)
    }

    /// As [`Self::read_line`], of this leader.
    pub fn read_line_of(
        self: &Arc<Self>,
        asker: &Arc<Process>,
        leader: Pid,
        timeout: Option<Duration>,
    ) -> Ref {
        let tag = self.make_ref();
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let expect = |leader: Pid| {
            asker.with_actor(|actor| {
                actor.add_pending(tag, leader.node, deadline);
                actor.add_reading(tag, leader);
            });
        };
        let timeout_ms = timeout.map(|t| u32::try_from(t.as_millis()).unwrap_or(u32::MAX));
        let signal = || Signal::InputRequest {
            from: asker.pid,
            tag,
            timeout_ms,
        };
        expect(leader);
        self.arm(asker);
        if leader.node != self.node() {
            asker.hears_of_nodes();
        }
        if self.signal_of(asker.pid, leader, signal()) == Sent::NoConnection {
            asker.with_actor(|actor| actor.forget(tag));
            expect(self.user());
            self.signal(self.user(), signal());
        }
        tag
    }

    /// Gives an actor, anywhere, another group leader.
    pub fn set_group_leader(self: &Arc<Self>, process: &Process, target: Pid, leader: Pid) {
        if target == process.pid {
            // What it prints from now on, in this very turn.
            return process.with_actor(|actor| actor.set_group_leader(leader));
        }
        let from = process.pid;
        self.signal_of(from, target, Signal::GroupLeader { from, leader });
    }

    /// What a group leader that is not there, or is this node's own, was to get. Gives back what
    /// concerns no group leader.
    pub(super) fn for_leader(self: &Arc<Self>, to: Pid, signal: Signal) -> Option<Signal> {
        let (here, own) = (self.node(), self.own_user());
        match signal {
            Signal::Output { from, kind, text } if to == self.user() || from.node == here => {
                own.print(from, kind, &text);
            }
            Signal::Output { from, kind, text } => {
                let back = Signal::Output {
                    from,
                    kind,
                    text: text.clone(),
                };
                if self.signal(Pid::user(from.node), back) == Sent::NoConnection {
                    // Better here than nowhere.
                    own.print(from, kind, &text);
                }
            }
            Signal::InputRequest {
                from,
                tag,
                timeout_ms,
            } => {
                if to == self.user() || from.node == here {
                    let timeout = timeout_ms.map(|ms| Duration::from_millis(ms.into()));
                    own.read_line(from, tag, timeout);
                } else {
                    let back = Signal::InputRequest {
                        from,
                        tag,
                        timeout_ms,
                    };
                    self.signal(Pid::user(from.node), back);
                }
            }
            Signal::Forget { tag } => own.forget(tag),
            // It lives as long as the node, and does what it is for.
            Signal::Monitor { .. } | Signal::Link { .. } if to == self.user() => {}
            Signal::Request { from, tag, .. } if to == self.user() => {
                let why = "a node's user takes text and requests for lines, no calls";
                let result = Err(CallError::Exit(ExitReason::Error(why.into())));
                self.signal(from, Signal::Response { tag, result });
            }
            other => return Some(other),
        }
        None
    }
}

/// Text in pieces that signals carry. Those of UTF-8 are UTF-8 too.
fn pieces(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let mut at = text.len().min(MAX_OUTPUT_BYTES);
        let continues = |byte: &u8| byte & 0xc0 == 0x80;
        let most = at;
        while at > most.saturating_sub(4) && text.get(at).is_some_and(continues) {
            at -= 1;
        }
        let (piece, rest) = text.split_at(at);
        text = rest;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_goes_in_pieces_that_are_text() {
        for text in ["", "x", &"x".repeat(MAX_OUTPUT_BYTES)] {
            assert_eq!(
                pieces(text.as_bytes()).count(),
                usize::from(!text.is_empty())
            );
        }
        for shift in 0..4 {
            let text = "x".repeat(shift) + &"\u{1f980}".repeat(MAX_OUTPUT_BYTES / 2);
            let all: Vec<&[u8]> = pieces(text.as_bytes()).collect();
            assert_eq!(all.concat(), text.as_bytes());
            for piece in all {
                assert!(piece.len() <= MAX_OUTPUT_BYTES && std::str::from_utf8(piece).is_ok());
            }
        }
        // Bytes that are no text go all the same.
        let bytes = vec![0x80; MAX_OUTPUT_BYTES * 2];
        assert_eq!(pieces(&bytes).map(<[u8]>::len).sum::<usize>(), bytes.len());
    }
}

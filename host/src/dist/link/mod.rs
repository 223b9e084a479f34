//! One link that is up: what goes in and out of it, and who waits for its answers.
//!
//! Contract: signals of a peer are delivered in order, all between `node_up` and `node_down`.
//! A link has a reader and a writer (`traffic`), for what nobody else does at once (see
//! `wire`), and the task that keeps its ticks (`life`).
//!
//! Deliberately does not decide which links should be: the kernel's machines do.

mod error;
mod life;
mod traffic;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use wasm_node_protocol::Millis;
use wasm_node_protocol::codec::{NodeRequest, WireMessage, decode};
use wasm_node_protocol::handshake::Peer;
use wasm_node_protocol::membership::LinkId;
use wasm_node_protocol::session::{Session, SessionInput};

use super::cork;
use super::host::{Answer, Delivered, RequestError};
use super::kernel::Kernel;
use super::outbox::{Outbox, Pushed};
use super::records::Receiver;
use super::requests::{MAX_PENDING_REQUESTS, OnReply, Requests};
use super::wire::{TookIn, Who, Wire};

pub(super) use error::LinkError;
pub(super) use life::{accept, dial};

/// The most requests of one peer that may wait for our answers; a peer that sends more breaks
/// its own limit, and its link is closed.
const MAX_UNANSWERED_REQUESTS: usize = 2 * MAX_PENDING_REQUESTS;
/// A link that is up.
pub(super) struct Link {
    pub id: LinkId,
    pub peer: Peer,
    pub outbox: Outbox,
    pub wire: Wire,
    /// When the kernel's clock began.
    started: Instant,
    /// Told of traffic by reader and writer, asked by the link's task; never waited for long.
    session: Mutex<Session>,
    /// Held by whoever delivers; closed before the node is called down.
    gate: Mutex<Gate>,
    requests: Requests,
    unanswered: AtomicUsize,
}

#[derive(PartialEq, Eq)]
enum Gate {
    Open,
    Closed,
}

impl Link {
    pub fn new(
        id: LinkId,
        peer: Peer,
        session: Session,
        wire: Wire,
        started: Instant,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            peer,
            outbox: Outbox::default(),
            wire,
            started,
            session: Mutex::new(session),
            gate: Mutex::new(Gate::Open),
            requests: Requests::default(),
            unanswered: AtomicUsize::new(0),
        })
    }

    fn now(&self) -> Millis {
        Millis(self.started.elapsed().as_millis() as u64)
    }

    fn note(&self, input: SessionInput) {
        self.session.lock().handle(self.now(), input);
    }

    /// Sends any message but a signal.
    pub fn push(self: &Arc<Self>, message: &WireMessage) -> Pushed {
        let encode = |out: &mut Vec<u8>| message.encode(out);
        let pushed = self.outbox.push_with(message.lane(), encode);
        if self.is_due(pushed) {
            self.flush();
        }
        pushed
    }

    /// After a push: whether the caller has to flush.
    #[must_use]
    pub fn is_due(self: &Arc<Self>, pushed: Pushed) -> bool {
        if pushed == Pushed::Closed {
            // If by this very push, nobody else would know.
            self.wire.leave_to_writer();
        }
        cork::is_due(self, pushed)
    }

    /// Writes what waits, as far as it goes at once; the rest is left to the writer.
    pub fn flush(&self) {
        if self.wire.flush(&self.outbox) {
            self.note(SessionInput::Sent);
        }
    }

    /// Reads and delivers what has come, if nobody else does; leaves to the reader what is
    /// more than that.
    pub fn help(self: &Arc<Self>, kernel: &Arc<Kernel>, ended: bool) {
        match self.take_in(kernel, Who::Helper) {
            Ok(TookIn::Nothing | TookIn::All | TookIn::Busy) if !ended => {}
            _ => self.wire.leave_to_reader(),
        }
    }

    fn take_in(self: &Arc<Self>, kernel: &Arc<Kernel>, who: Who) -> Result<TookIn, LinkError> {
        self.wire.take_in(who, |receiver| {
            self.note(SessionInput::Received);
            self.dispatch(kernel, receiver)
        })
    }

    /// Asks the peer's host; `on_reply` is called exactly once, quickly, from any thread: at
    /// the reply, at the link's end, or after `timeout` if there is one.
    pub fn request(
        self: &Arc<Self>,
        request: NodeRequest,
        timeout: Option<Duration>,
        on_reply: OnReply,
    ) {
        let until = timeout.map(|timeout| self.now() + timeout.as_millis() as u64);
        let Some(id) = self.requests.add(until, on_reply) else {
            return;
        };
        let error = match self.push(&WireMessage::Request { id, request }) {
            Pushed::Ok | Pushed::Plenty | Pushed::Congested => return,
            Pushed::Closed => RequestError::NoConnection,
            Pushed::TooLarge => RequestError::TooLarge,
        };
        // Unless the link's end was quicker.
        self.requests.answered(id, Err(error));
    }

    /// Nothing is delivered from this link any more once this has returned.
    pub fn close_gate(&self) {
        *self.gate.lock() = Gate::Closed;
    }

    /// The link is over: nobody waits for its replies any more.
    pub fn end(&self) {
        self.close();
        self.requests.close();
    }

    /// Takes no more messages; what waits is still to be sent.
    fn close(&self) {
        self.outbox.close();
        self.wire.leave_to_writer();
    }

    /// An answer was sent or will never be.
    pub fn release_answer(&self) {
        self.unanswered.fetch_sub(1, Ordering::Relaxed);
    }

    /// Delivers all whole messages; whether a mailbox was overfull.
    fn dispatch(
        self: &Arc<Self>,
        kernel: &Arc<Kernel>,
        receiver: &mut Receiver,
    ) -> Result<bool, LinkError> {
        // All answers in one write.
        let _held = cork::hold();
        let gate = self.gate.lock();
        if *gate == Gate::Closed {
            return Err(LinkError::Told("called down".into()));
        }
        let from = self.peer.incarnation;
        let mut full = false;
        while let Some((_, payload)) = receiver.next_message()? {
            match decode(&payload)? {
                WireMessage::Tick => {}
                WireMessage::Signal {
                    to,
                    metadata: _,
                    signal,
                } => {
                    full |= kernel.host.deliver(from, to, signal) == Delivered::Full;
                }
                WireMessage::Request { id, request } => {
                    if self.unanswered.fetch_add(1, Ordering::Relaxed) >= MAX_UNANSWERED_REQUESTS {
                        return Err(LinkError::Flood);
                    }
                    kernel
                        .host
                        .request(&self.peer, request, Answer::new(self.clone(), id));
                }
                WireMessage::Reply { id, reply } => self.requests.answered(id, Ok(reply)),
                message @ (WireMessage::Membership(_)
                | WireMessage::Global(_)
                | WireMessage::Groups(_)) => {
                    kernel.message(self.id, message);
                }
            }
        }
        drop(gate);
        Ok(full)
    }
}

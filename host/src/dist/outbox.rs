//! What waits to be sent over one link: filled by any thread, emptied by whoever writes.
//!
//! Contract: messages of one lane leave in the order pushed, control first, and signals in the
//! order of their senders (see `protocol::frame`). Pushing never
//! waits; over [`PEER_QUEUE_HIGH_BYTES`] it says that the sender should, and over
//! [`MAX_PEER_QUEUE_BYTES`] the outbox closes for good, so that memory stays bounded even if
//! nobody listens.
//!
//! Does not know sockets, nor wakes anybody but senders that wait for room.

use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use wasm_node_protocol::frame::{Batch, FrameError, FrameWriter, Lane, MAX_MESSAGE_BYTES};

/// With more than so many bytes waiting for a peer, senders to it are asked to pause.
pub const PEER_QUEUE_HIGH_BYTES: usize = 8 * 1024 * 1024;

/// Senders go on when no more than so many bytes wait.
pub const PEER_QUEUE_LOW_BYTES: usize = 2 * 1024 * 1024;

/// With more than so many bytes waiting, as when senders do not pause, the link is given up:
/// room for a few of the longest messages.
pub const MAX_PEER_QUEUE_BYTES: usize = PEER_QUEUE_HIGH_BYTES + 4 * MAX_MESSAGE_BYTES;

/// So many waiting bytes are worth a write of their own, whatever may follow.
pub const PLENTY_BYTES: usize = 64 * 1024;

/// How a push went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pushed {
    /// Queued.
    Ok,
    /// Queued, and over [`PLENTY_BYTES`].
    Plenty,
    /// Queued, and over the high mark.
    Congested,
    /// Not queued: closed, or closed by this push.
    Closed,
    /// Not queued: longer than [`MAX_MESSAGE_BYTES`].
    TooLarge,
}

/// Why the writer has nothing to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drained {
    /// Nothing waits; more may come.
    Idle,
    /// Nothing waits, and nothing will.
    Finished,
}

/// The queue of one link.
#[derive(Default)]
pub struct Outbox {
    state: Mutex<State>,
    room: Condvar,
}

#[derive(Default)]
struct State {
    queue: FrameWriter,
    closing: Option<Closing>,
    waiting_for_room: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// What waits is still to be sent.
    Flush,
    /// Given up: senders did not pause.
    Overfull,
}

impl Outbox {
    /// Queues one message, encoded by `encode`.
    pub fn push_with(&self, lane: Lane, encode: impl FnOnce(&mut Vec<u8>)) -> Pushed {
        self.push(|queue| queue.push_with(lane, encode))
    }

    /// Queues one signal, in order with what the same sender sent before.
    pub fn push_signal_with(
        &self,
        sender: Option<u64>,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Pushed {
        self.push(|queue| queue.push_signal_with(sender, encode))
    }

    /// As `push_signal_with`, of two parts, of which the second is not copied if it is large.
    pub fn push_signal_parts(&self, sender: Option<u64>, head: Vec<u8>, body: Bytes) -> Pushed {
        self.push(|queue| queue.push_signal_parts(sender, head, body))
    }

    fn push(&self, push: impl FnOnce(&mut FrameWriter) -> Result<(), FrameError>) -> Pushed {
        let mut state = self.state.lock();
        if state.closing.is_some() {
            return Pushed::Closed;
        }
        if push(&mut state.queue).is_err() {
            return Pushed::TooLarge;
        }
        let queued = state.queue.queued_bytes();
        if queued > MAX_PEER_QUEUE_BYTES {
            state.closing = Some(Closing::Overfull);
            state.queue = FrameWriter::new();
        }
        drop(state);
        if queued > MAX_PEER_QUEUE_BYTES {
            self.room.notify_all();
            Pushed::Closed
        } else if queued > PEER_QUEUE_HIGH_BYTES {
            Pushed::Congested
        } else if queued > PLENTY_BYTES {
            Pushed::Plenty
        } else {
            Pushed::Ok
        }
    }

    /// Takes no more messages; what waits is still to be sent.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closing.get_or_insert(Closing::Flush);
        drop(state);
        self.room.notify_all();
    }

    /// Whether it closed because senders did not pause.
    pub fn is_overfull(&self) -> bool {
        self.state.lock().closing == Some(Closing::Overfull)
    }

    /// Bytes that wait.
    pub fn queued_bytes(&self) -> usize {
        self.state.lock().queue.queued_bytes()
    }

    /// Blocks this thread until the queue is at most at the low mark, or closed; false if that
    /// took longer than `timeout`.
    pub fn wait_for_room(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.state.lock();
        state.waiting_for_room += 1;
        let room = |state: &State| {
            state.closing.is_some() || state.queue.queued_bytes() <= PEER_QUEUE_LOW_BYTES
        };
        while !room(&state) && !self.room.wait_until(&mut state, deadline).timed_out() {}
        state.waiting_for_room -= 1;
        room(&state)
    }

    /// Moves about `target_bytes` of frames to `out`, which is empty. If nothing waits, says
    /// whether more may come.
    pub fn fill(&self, out: &mut Batch, target_bytes: usize) -> Option<Drained> {
        let mut state = self.state.lock();
        state.queue.fill(out, target_bytes);
        if state.waiting_for_room > 0 && state.queue.queued_bytes() <= PEER_QUEUE_LOW_BYTES {
            self.room.notify_all();
        }
        match (out.is_empty(), state.closing) {
            (false, _) => None,
            (true, Some(_)) => Some(Drained::Finished),
            (true, None) => Some(Drained::Idle),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn push(outbox: &Outbox, bytes: usize) -> Pushed {
        outbox.push_with(Lane::Signal, |out| out.resize(out.len() + bytes, 7))
    }

    #[test]
    fn asks_senders_to_pause_and_lets_them_go_on() {
        let outbox = Arc::new(Outbox::default());
        let half = PEER_QUEUE_HIGH_BYTES / 2 + 1;
        assert_eq!(push(&outbox, 1), Pushed::Ok);
        assert_eq!(push(&outbox, half), Pushed::Plenty);
        assert_eq!(push(&outbox, half), Pushed::Congested);
        assert!(!outbox.wait_for_room(Duration::from_millis(1)));
        let waiting = outbox.clone();
        let waiter = std::thread::spawn(move || waiting.wait_for_room(Duration::from_secs(30)));
        let mut out = Batch::default();
        while outbox.queued_bytes() > 0 {
            out.clear();
            outbox.fill(&mut out, 1 << 20);
        }
        assert!(waiter.join().unwrap());
    }

    #[test]
    fn gives_up_when_nobody_pauses() {
        let outbox = Outbox::default();
        let mut pushes = 0;
        while push(&outbox, 16 << 20) != Pushed::Closed {
            pushes += 1;
            assert!(pushes < 1000);
        }
        assert!(outbox.is_overfull());
        assert_eq!(outbox.queued_bytes(), 0, "and lets go of the memory");
        assert_eq!(push(&outbox, 1), Pushed::Closed);
        assert!(
            outbox.wait_for_room(Duration::ZERO),
            "nobody waits for a closed one"
        );
    }

    #[test]
    fn a_closed_one_is_emptied_first() {
        let outbox = Outbox::default();
        push(&outbox, 10);
        outbox.close();
        let mut out = Batch::default();
        assert_eq!(outbox.fill(&mut out, 1000), None);
        assert!(!out.is_empty());
        out.clear();
        assert_eq!(outbox.fill(&mut out, 1000), Some(Drained::Finished));
    }

    #[test]
    fn an_overlong_message_is_refused() {
        assert_eq!(
            push(&Outbox::default(), MAX_MESSAGE_BYTES + 1),
            Pushed::TooLarge
        );
    }
}

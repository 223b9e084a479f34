//! The socket of a link that is up, and who writes and reads it.
//!
//! Contract: whoever has something to send writes it at once, if nobody else is writing and
//! the socket takes it; the rest is left to the link's writer task. Whoever notices that
//! something came reads it, if nobody else is reading; the link's reader task is only one of
//! those. Who finds another at work leaves, and that one looks again before it leaves itself.
//! So mostly no signal waits for another thread to wake, and bytes keep their order.
//!
//! Deliberately does not know what is sent, nor what a link's end means.

use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::link::LinkError;
use super::outbox::Outbox;
use super::records::{Got, Receiver, Sender, Written};
use super::transport::TransportError;

/// How much a sender writes by itself, in bytes, before it leaves the rest to the writer: what
/// it may be held up for, if the other side reads as quickly as it writes.
const FLUSH_BYTES: usize = 1024 * 1024;

/// How much the writer writes before it lets other tasks have a turn, in bytes.
const WRITER_BYTES: usize = 1024 * 1024;

/// Both directions of one socket.
pub(super) struct Wire {
    socket: TcpStream,
    outgoing: Mutex<Outgoing>,
    /// All writing is the writer's job, until it has found nothing left.
    left_to_writer: AtomicBool,
    writer: Notify,
    incoming: Mutex<Incoming>,
    /// Whoever reads has to look again.
    look_again: AtomicBool,
    reader: Notify,
    /// The reader looks only when asked.
    reader_away: AtomicBool,
}

struct Outgoing {
    sender: Sender,
    failed: Option<TransportError>,
}

struct Incoming {
    receiver: Receiver,
    failed: Option<LinkError>,
    /// An actor's mailbox is overfull: nobody reads before the reader has slept.
    resting: bool,
}

/// Who reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Who {
    /// The link's reader task; it has slept if it had to.
    Reader,
    /// Somebody with nothing better to do.
    Helper,
}

/// What came of reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TookIn {
    /// Nothing was there.
    Nothing,
    /// All that was there.
    All,
    /// There may be more.
    Part,
    /// There may be more, but an actor's mailbox is overfull.
    Overfull,
    /// Somebody else is reading, or nobody may.
    Busy,
}

impl Wire {
    pub fn new(socket: TcpStream, receiver: Receiver, sender: Sender) -> Self {
        Self {
            socket,
            outgoing: Mutex::new(Outgoing {
                sender,
                failed: None,
            }),
            left_to_writer: AtomicBool::new(false),
            writer: Notify::new(),
            incoming: Mutex::new(Incoming {
                receiver,
                failed: None,
                resting: false,
            }),
            look_again: AtomicBool::new(false),
            reader: Notify::new(),
            reader_away: AtomicBool::new(false),
        }
    }

    /// Writes what waits in the outbox, as far as it goes at once. Whether any was written.
    pub fn flush(&self, outbox: &Outbox) -> bool {
        let mut any = false;
        loop {
            // What was pushed before this is seen by whoever is found at work below.
            fence(Ordering::SeqCst);
            if self.left_to_writer.load(Ordering::SeqCst) {
                return any;
            }
            let Some(mut outgoing) = self.outgoing.try_lock() else {
                return any;
            };
            let outcome = outgoing.sender.write(&self.socket, outbox, FLUSH_BYTES);
            any |= matches!(outcome, Ok((_, 1..)));
            match outcome {
                Ok((Written::All, _)) => {}
                Ok(_) => {
                    self.leave_to_writer();
                    return any;
                }
                Err(error) => {
                    outgoing.failed = Some(error);
                    self.leave_to_writer();
                    return any;
                }
            }
            drop(outgoing);
            fence(Ordering::SeqCst);
            if outbox.queued_bytes() == 0 {
                return any;
            }
        }
    }

    /// Makes the writer write what waits, or find that nothing will.
    pub fn leave_to_writer(&self) {
        self.left_to_writer.store(true, Ordering::SeqCst);
        self.writer.notify_one();
    }

    /// Waits until writing was left to the writer.
    pub async fn asked_to_write(&self) {
        self.writer.notified().await;
    }

    /// The writer's part: writes, and gives the job back when all is written.
    pub fn write(&self, outbox: &Outbox) -> Result<(Written, bool), TransportError> {
        let mut outgoing = self.outgoing.lock();
        if let Some(error) = outgoing.failed.take() {
            return Err(error);
        }
        let (written, bytes) = outgoing.sender.write(&self.socket, outbox, WRITER_BYTES)?;
        if written != Written::All {
            return Ok((written, bytes > 0));
        }
        self.left_to_writer.store(false, Ordering::SeqCst);
        drop(outgoing);
        fence(Ordering::SeqCst);
        // Whoever pushed in between may have left it to the writer.
        if outbox.queued_bytes() > 0 {
            self.left_to_writer.store(true, Ordering::SeqCst);
            return Ok((Written::Part, bytes > 0));
        }
        Ok((Written::All, bytes > 0))
    }

    /// Reads once, and gives what came to `deliver`, which says whether a mailbox was overfull.
    pub fn take_in(
        &self,
        who: Who,
        deliver: impl FnOnce(&mut Receiver) -> Result<bool, LinkError>,
    ) -> Result<TookIn, LinkError> {
        self.look_again.store(true, Ordering::SeqCst);
        let Some(mut incoming) = self.incoming.try_lock() else {
            return Ok(TookIn::Busy);
        };
        self.look_again.store(false, Ordering::SeqCst);
        match who {
            Who::Reader => {
                incoming.resting = false;
                if let Some(error) = incoming.failed.take() {
                    return Err(error);
                }
            }
            Who::Helper if incoming.resting || incoming.failed.is_some() => {
                return Ok(TookIn::Busy);
            }
            Who::Helper => {}
        }
        let took = incoming.take_in(&self.socket, deliver);
        let took = match (who, took) {
            (Who::Helper, Err(error)) => {
                incoming.failed = Some(error);
                TookIn::Part
            }
            (_, took) => took?,
        };
        incoming.resting = took == TookIn::Overfull;
        drop(incoming);
        fence(Ordering::SeqCst);
        let again = self.look_again.load(Ordering::SeqCst);
        Ok(match took {
            TookIn::Nothing | TookIn::All if again => TookIn::Part,
            took => took,
        })
    }

    /// Delivers what came before the link was up.
    pub fn take_in_first(
        &self,
        deliver: impl FnOnce(&mut Receiver) -> Result<bool, LinkError>,
    ) -> Result<bool, LinkError> {
        deliver(&mut self.incoming.lock().receiver)
    }

    /// Makes the reader look.
    pub fn leave_to_reader(&self) {
        self.reader.notify_one();
    }

    /// Waits until reading was left to the reader.
    pub async fn asked_to_read(&self) {
        self.reader.notified().await;
    }

    /// As [`Wire::asked_to_read`], while nothing else wakes the reader.
    pub async fn called_back(&self) {
        self.reader_away.store(true, Ordering::Relaxed);
        self.reader.notified().await;
    }

    /// Makes the reader look, and wait for what comes next, if it is away.
    pub fn call_back(&self) {
        if self.reader_away.swap(false, Ordering::Relaxed) {
            self.reader.notify_one();
        }
    }

    /// Says that nothing more will come.
    pub fn finish(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Cuts it, whoever may still hold it.
    pub fn cut(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl AsRawFd for Wire {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Incoming {
    fn take_in(
        &mut self,
        socket: &TcpStream,
        deliver: impl FnOnce(&mut Receiver) -> Result<bool, LinkError>,
    ) -> Result<TookIn, LinkError> {
        let took = match self.receiver.read(socket)? {
            Got::Nothing => return Ok(TookIn::Nothing),
            Got::All => TookIn::All,
            Got::Full => TookIn::Part,
        };
        Ok(match deliver(&mut self.receiver)? {
            true => TookIn::Overfull,
            false => took,
        })
    }
}

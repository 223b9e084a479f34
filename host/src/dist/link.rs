//! One link, from the dial or the accept to its end.
//!
//! Contract: each link task reports its end to the kernel exactly once, whatever happens to
//! it. A link that is up has a reader, a writer and, between them, the task that keeps its
//! ticks. Signals of a peer are delivered in order, all between `node_up` and `node_down`.
//!
//! Deliberately does not decide which links should be: the kernel's machines do.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{sleep, sleep_until, timeout};
use wasm_node_protocol::NodeName;
use wasm_node_protocol::codec::{CodecError, NodeReply, NodeRequest, WireMessage, decode};
use wasm_node_protocol::frame::FrameReader;
use wasm_node_protocol::handshake::{HANDSHAKE_TIMEOUT_MS, HandshakeError, Peer, Refusal};
use wasm_node_protocol::membership::{DialTarget, LinkId};
use wasm_node_protocol::session::{Session, SessionInput, SessionOutput};

use super::dial;
use super::epmd::EpmdError;
use super::host::{Answer, Delivered, RequestError};
use super::kernel::Kernel;
use super::outbox::{Drained, Outbox, Pushed};
use super::transport::{Channel, Receiver, Sender, TransportError};

/// How much the writer takes from the queue at a time, in bytes: what a control message may
/// have to wait for, besides what the system has buffered.
const WRITE_BATCH_BYTES: usize = 128 * 1024;

/// How long a link that closes may take to send what waits and to see the peer's end, in
/// milliseconds; then it is cut.
const CLOSE_MS: u64 = 500;

/// How long the reader rests when an actor's mailbox is overfull, in milliseconds, at first;
/// it doubles while that goes on, up to [`MAX_REST_MS`].
const MIN_REST_MS: u64 = 1;

/// The longest rest of a reader, in milliseconds: bounded, as other actors wait as well.
const MAX_REST_MS: u64 = 64;

/// The most requests to one peer that may wait for their replies; further ones fail at once.
const MAX_PENDING_REQUESTS: usize = 65_536;

/// The most requests of one peer that may wait for our answers; a peer that sends more breaks
/// its own limit, and its link is closed.
const MAX_UNANSWERED_REQUESTS: usize = 2 * MAX_PENDING_REQUESTS;

/// A link that is up.
pub(super) struct Link {
    pub id: LinkId,
    pub peer: Peer,
    pub outbox: Outbox,
    /// Told of traffic by reader and writer, asked by the link's task; never waited for long.
    session: Mutex<Session>,
    /// Held by the reader while it delivers; closed before the node is called down.
    gate: Mutex<Gate>,
    requests: Mutex<Requests>,
    unanswered: AtomicUsize,
}

#[derive(PartialEq, Eq)]
enum Gate {
    Open,
    Closed,
}

type OnReply = Box<dyn FnOnce(Result<NodeReply, RequestError>) + Send>;

#[derive(Default)]
struct Requests {
    next: u64,
    pending: HashMap<u64, OnReply>,
    closed: bool,
}

/// Why a link ended or never came to be.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Epmd(#[from] EpmdError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("{0} cannot be looked up: {1}")]
    Resolve(String, io::Error),
    #[error("nothing answers at {0}: {1}; is the node running there?")]
    Unreachable(String, io::Error),
    #[error("no address of {0} is known, and the port mapper is switched off: dial HOST:PORT")]
    NoAddress(NodeName),
    #[error(
        "no handshake within {HANDSHAKE_TIMEOUT_MS} ms: what answers there is stuck, or no wasm-node"
    )]
    Timeout,
    #[error("{0}")]
    Told(String),
    #[error("no sign of life for {0} ms: four ticks missed")]
    Silent(u64),
    #[error("too many bytes waited for it: it reads too slowly")]
    Overfull,
    #[error("it sent more requests than the {MAX_UNANSWERED_REQUESTS} that may be unanswered")]
    Flood,
    #[error("its task ended early: a bug")]
    Task,
}

impl LinkError {
    fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Transport(TransportError::Handshake(error)) => match error {
                HandshakeError::RefusedByPeer(refusal) | HandshakeError::Refused(refusal) => {
                    Some(refusal.clone())
                }
                HandshakeError::WrongCookie => Some(Refusal::WrongCookie),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the node may still be found elsewhere, after a dial to where it was last.
    pub fn is_about_address(&self) -> bool {
        match self {
            Self::Resolve(..) | Self::Unreachable(..) => true,
            Self::Transport(TransportError::Handshake(error)) => matches!(
                error,
                HandshakeError::NotANode | HandshakeError::Refused(Refusal::Unexpected { .. })
            ),
            _ => false,
        }
    }

    /// Whether an administrator should hear of it: misconfiguration or an intruder.
    fn is_alarming(&self) -> bool {
        matches!(
            self,
            Self::Transport(TransportError::Handshake(
                HandshakeError::NotANode
                    | HandshakeError::Security { .. }
                    | HandshakeError::WrongCookie
                    | HandshakeError::Malformed(_)
                    | HandshakeError::Refused(
                        Refusal::Version { .. } | Refusal::SameName(_) | Refusal::LongAndShort(..)
                    )
            )) | Self::Transport(
                TransportError::Protocol(_) | TransportError::Decrypt | TransportError::Frame(_)
            ) | Self::Codec(_)
                | Self::Flood
                | Self::Overfull
                | Self::Task
        )
    }
}

impl Link {
    pub fn new(id: LinkId, peer: Peer, session: Session) -> Arc<Self> {
        Arc::new(Self {
            id,
            peer,
            outbox: Outbox::default(),
            session: Mutex::new(session),
            gate: Mutex::new(Gate::Open),
            requests: Mutex::default(),
            unanswered: AtomicUsize::new(0),
        })
    }

    /// Queues any message but a signal.
    pub fn push(&self, message: &WireMessage) -> Pushed {
        self.outbox
            .push_with(message.lane(), |out| message.encode(out))
    }

    /// Asks the peer's host; `on_reply` is called exactly once, quickly, from any thread.
    pub fn request(&self, request: NodeRequest, on_reply: OnReply) {
        let mut requests = self.requests.lock();
        let error = if requests.closed {
            Some(RequestError::NoConnection)
        } else if requests.pending.len() >= MAX_PENDING_REQUESTS {
            Some(RequestError::TooMany(MAX_PENDING_REQUESTS))
        } else {
            None
        };
        if let Some(error) = error {
            drop(requests);
            return on_reply(Err(error));
        }
        let id = requests.next;
        requests.next += 1;
        requests.pending.insert(id, on_reply);
        drop(requests);
        let error = match self.push(&WireMessage::Request { id, request }) {
            Pushed::Ok | Pushed::Congested => return,
            Pushed::Closed => RequestError::NoConnection,
            Pushed::TooLarge => RequestError::TooLarge,
        };
        // Unless the link's end was quicker.
        self.answered(id, Err(error));
    }

    /// Nothing is delivered from this link any more once this has returned.
    pub fn close_gate(&self) {
        *self.gate.lock() = Gate::Closed;
    }

    /// The link is over: nobody waits for its replies any more.
    pub fn end(&self) {
        self.outbox.close();
        let pending = {
            let mut requests = self.requests.lock();
            requests.closed = true;
            std::mem::take(&mut requests.pending)
        };
        for on_reply in pending.into_values() {
            on_reply(Err(RequestError::NoConnection));
        }
    }

    /// An answer was sent or will never be.
    pub fn release_answer(&self) {
        self.unanswered.fetch_sub(1, Ordering::Relaxed);
    }

    fn answered(&self, id: u64, result: Result<NodeReply, RequestError>) {
        // Bound first: the lock must not be held in the callback.
        let on_reply = self.requests.lock().pending.remove(&id);
        if let Some(on_reply) = on_reply {
            on_reply(result);
        }
    }

    /// Delivers all whole messages; whether a mailbox was overfull.
    fn dispatch(
        self: &Arc<Self>,
        kernel: &Arc<Kernel>,
        frames: &mut FrameReader,
    ) -> Result<bool, LinkError> {
        let gate = self.gate.lock();
        if *gate == Gate::Closed {
            return Err(LinkError::Told("called down".into()));
        }
        let from = self.peer.incarnation;
        let mut full = false;
        while let Some((_, payload)) = frames.next_message().map_err(TransportError::from)? {
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
                WireMessage::Reply { id, reply } => self.answered(id, Ok(reply)),
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

/// Reports the link's end when dropped, so that no way out forgets it.
struct Report {
    kernel: Arc<Kernel>,
    link: LinkId,
    with: String,
    error: LinkError,
}

impl Drop for Report {
    fn drop(&mut self) {
        let (reason, refusal) = (self.error.to_string(), self.error.refusal());
        if self.error.is_alarming() {
            tracing::warn!(with = self.with, reason, "a link failed");
        } else {
            tracing::debug!(with = self.with, reason, "a link ended");
        }
        self.kernel.link_down(self.link, reason, refusal);
    }
}

/// Dials, shakes hands and runs the link to its end.
pub(super) async fn dial(
    kernel: Arc<Kernel>,
    id: LinkId,
    target: DialTarget,
    asked: bool,
    mut close: oneshot::Receiver<String>,
) {
    let with = match &target {
        DialTarget::Node { name, .. } => name.to_string(),
        DialTarget::Address(address) => address.clone(),
    };
    let mut report = Report {
        kernel: kernel.clone(),
        link: id,
        with,
        error: LinkError::Task,
    };
    let handshake = dial::reach(&kernel, id, target, asked);
    report.error = match in_time(handshake, &mut close).await {
        Ok((channel, peer)) => run(&kernel, id, channel, peer, &mut close).await,
        Err(error) => error,
    };
}

/// Shakes hands with whoever dialled and runs the link to its end.
pub(super) async fn accept(
    kernel: Arc<Kernel>,
    id: LinkId,
    stream: TcpStream,
    from: SocketAddr,
    mut close: oneshot::Receiver<String>,
) {
    let mut report = Report {
        kernel: kernel.clone(),
        link: id,
        with: from.to_string(),
        error: LinkError::Task,
    };
    let handshake = dial::greet(&kernel, id, stream);
    report.error = match in_time(handshake, &mut close).await {
        Ok((channel, peer)) => {
            kernel.handshake_done(id);
            run(&kernel, id, channel, peer, &mut close).await
        }
        Err(error) => error,
    };
}

async fn in_time<T>(
    handshake: impl Future<Output = Result<T, LinkError>>,
    close: &mut oneshot::Receiver<String>,
) -> Result<T, LinkError> {
    tokio::select! {
        result = timeout(Duration::from_millis(HANDSHAKE_TIMEOUT_MS), handshake) => {
            result.unwrap_or(Err(LinkError::Timeout))
        }
        reason = close => Err(told(reason)),
    }
}

fn told(reason: Result<String, oneshot::error::RecvError>) -> LinkError {
    LinkError::Told(reason.unwrap_or_else(|_| "this node stops".into()))
}

/// Ends its task when dropped.
struct Running(JoinHandle<LinkError>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run(
    kernel: &Arc<Kernel>,
    id: LinkId,
    channel: Channel,
    peer: Peer,
    close: &mut oneshot::Receiver<String>,
) -> LinkError {
    let session = Session::new(
        kernel.now(),
        kernel.tick_time_ms(),
        peer.tick_time_ms,
        rand::random(),
    );
    let link = Link::new(id, peer, session);
    let (receiver, sender) = channel.into_halves();
    let mut writer = Running(tokio::spawn(write(kernel.clone(), link.clone(), sender)));
    // The reader starts once the node is known to be up here.
    let known = kernel.link_up(&link);
    let mut reader = Running(tokio::spawn({
        let (kernel, link) = (kernel.clone(), link.clone());
        async move {
            match known.await {
                Ok(()) => read(kernel, link, receiver).await,
                // Not to be: the machines have closed the link, which the task hears.
                Err(_) => std::future::pending().await,
            }
        }
    }));
    let error = attend(kernel, &link, &mut reader, &mut writer, close).await;
    link.end();
    error
}

/// Keeps the ticks of a link until it ends, and says why it did.
async fn attend(
    kernel: &Kernel,
    link: &Link,
    reader: &mut Running,
    writer: &mut Running,
    close: &mut oneshot::Receiver<String>,
) -> LinkError {
    let patience = Duration::from_millis(CLOSE_MS);
    loop {
        let deadline = link.session.lock().next_deadline();
        let tick = async {
            match deadline {
                Some(deadline) => sleep_until(kernel.instant(deadline)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = &mut reader.0 => return ended.unwrap_or(LinkError::Task),
            ended = &mut writer.0 => {
                // What the peer sent before it closed is still to be read.
                let _ = timeout(patience, &mut reader.0).await;
                return ended.unwrap_or(LinkError::Task);
            }
            reason = &mut *close => {
                link.outbox.close();
                let _ = timeout(patience, async {
                    let _ = (&mut writer.0).await;
                    // Unread bytes would make the system cut what we just sent.
                    let _ = (&mut reader.0).await;
                })
                .await;
                return told(reason);
            }
            () = tick => {
                if let Some(silent_ms) = keep_ticking(kernel, link) {
                    return LinkError::Silent(silent_ms);
                }
            }
        }
    }
}

/// Sends what ticks are due; for how long the peer was silent if it is down.
fn keep_ticking(kernel: &Kernel, link: &Link) -> Option<u64> {
    let mut session = link.session.lock();
    session.handle(kernel.now(), SessionInput::Timer);
    while let Some(output) = session.poll_output() {
        match output {
            SessionOutput::SendTick => {
                link.push(&WireMessage::Tick);
            }
            SessionOutput::Down { silent_ms } => return Some(silent_ms),
        }
    }
    None
}

async fn read(kernel: Arc<Kernel>, link: Arc<Link>, mut receiver: Receiver) -> LinkError {
    let mut rest_ms = 0;
    loop {
        // Before the first read too: the handshake's last one may have brought more than its own.
        match link.dispatch(&kernel, receiver.frames()) {
            Ok(false) => rest_ms = 0,
            Ok(true) => {
                rest_ms = (2 * rest_ms).clamp(MIN_REST_MS, MAX_REST_MS);
                sleep(Duration::from_millis(rest_ms)).await;
            }
            Err(error) => return error,
        }
        if let Err(error) = receiver.receive().await {
            return error.into();
        }
        link.session
            .lock()
            .handle(kernel.now(), SessionInput::Received);
    }
}

async fn write(kernel: Arc<Kernel>, link: Arc<Link>, mut sender: Sender) -> LinkError {
    let mut batch = Vec::with_capacity(WRITE_BATCH_BYTES);
    let mut idle = false;
    loop {
        batch.clear();
        match link.outbox.fill(&mut batch, WRITE_BATCH_BYTES, idle) {
            None => {
                idle = false;
                if let Err(error) = sender.send(&batch).await {
                    return error.into();
                }
                link.session.lock().handle(kernel.now(), SessionInput::Sent);
            }
            Some(Drained::Finished) => {
                let _ = sender.finish().await;
                return match link.outbox.is_overfull() {
                    true => LinkError::Overfull,
                    false => LinkError::Told("closed".into()),
                };
            }
            // One look more before it sleeps: who sends one message often sends the next, and
            // waking costs the sender more than sending.
            Some(Drained::Idle) if !idle => {
                idle = true;
                yield_now().await;
            }
            Some(Drained::Idle) => {
                link.outbox.woken().await;
                idle = false;
            }
        }
    }
}

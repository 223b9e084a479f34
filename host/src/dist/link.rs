//! One link, from the dial or the accept to its end.
//!
//! Contract: each link task reports its end to the kernel exactly once, whatever happens to
//! it. A link that is up has a reader and a writer, for what nobody else does at once (see
//! `wire`), and between them the task that keeps its ticks. Signals of a peer are delivered in
//! order, all between `node_up` and `node_down`.
//!
//! Deliberately does not decide which links should be: the kernel's machines do.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{sleep, sleep_until, timeout};
use wasm_node_protocol::codec::{CodecError, NodeRequest, WireMessage, decode};
use wasm_node_protocol::handshake::{HANDSHAKE_TIMEOUT_MS, HandshakeError, Peer, Refusal};
use wasm_node_protocol::membership::{DialTarget, LinkId};
use wasm_node_protocol::session::{Session, SessionInput, SessionOutput};
use wasm_node_protocol::{Millis, NodeName};

use super::cork;
use super::dial;
use super::epmd::EpmdError;
use super::host::{Answer, Delivered, RequestError};
use super::kernel::Kernel;
use super::lookout::Watch;
use super::outbox::{Outbox, Pushed};
use super::records::{Receiver, Written};
use super::requests::{MAX_PENDING_REQUESTS, OnReply, Requests};
use super::transport::{Channel, TransportError};
use super::wire::{TookIn, Who, Wire};

/// How long a link that closes may take to send what waits and to see the peer's end, in
/// milliseconds; then it is cut.
const CLOSE_MS: u64 = 500;

/// How long the reader rests when an actor's mailbox is overfull, in milliseconds, at first;
/// it doubles while that goes on, up to [`MAX_REST_MS`].
const MIN_REST_MS: u64 = 1;

/// The longest rest of a reader, in milliseconds: bounded, as other actors wait as well.
const MAX_REST_MS: u64 = 64;

/// The most requests of one peer that may wait for our answers; a peer that sends more breaks
/// its own limit, and its link is closed.
const MAX_UNANSWERED_REQUESTS: usize = 2 * MAX_PENDING_REQUESTS;

/// How often requests that nobody answered in time are looked for, in milliseconds.
const EXPIRE_EVERY_MS: u64 = 1_000;

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
    let (socket, receiver, sender) = match channel.into_parts() {
        Ok(parts) => parts,
        Err(error) => return TransportError::from(error).into(),
    };
    let wire = Wire::new(socket, receiver, sender);
    let link = Link::new(id, peer, session, wire, kernel.started());
    let _ends = Ends {
        kernel: kernel.clone(),
        link: link.clone(),
    };
    let mut writer = Running(tokio::spawn(write(link.clone())));
    // The reader starts once the node is known to be up here.
    let known = kernel.link_up(&link);
    let mut reader = Running(tokio::spawn({
        let (kernel, link) = (kernel.clone(), link.clone());
        async move {
            match known.await {
                Ok(()) => read(kernel, link).await,
                // Not to be: the machines have closed the link, which the task hears.
                Err(_) => std::future::pending().await,
            }
        }
    }));
    attend(kernel, &link, &mut reader, &mut writer, close).await
}

/// Takes a link from everybody who may use it, when dropped.
struct Ends {
    kernel: Arc<Kernel>,
    link: Arc<Link>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.kernel.lookout.remove(self.link.id);
        self.link.end();
        self.link.wire.cut();
    }
}

/// Keeps the ticks of a link until it ends, and says why it did.
async fn attend(
    kernel: &Kernel,
    link: &Arc<Link>,
    reader: &mut Running,
    writer: &mut Running,
    close: &mut oneshot::Receiver<String>,
) -> LinkError {
    let patience = Duration::from_millis(CLOSE_MS);
    loop {
        link.requests.expire(kernel.now());
        let look = kernel.now() + EXPIRE_EVERY_MS;
        let deadline = link.session.lock().next_deadline().unwrap_or(look);
        let tick = sleep_until(kernel.instant(deadline.min(look)));
        tokio::select! {
            ended = &mut reader.0 => return ended.unwrap_or(LinkError::Task),
            ended = &mut writer.0 => {
                // What the peer sent before it closed is still to be read.
                let _ = timeout(patience, &mut reader.0).await;
                return ended.unwrap_or(LinkError::Task);
            }
            reason = &mut *close => {
                link.close();
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
fn keep_ticking(kernel: &Kernel, link: &Arc<Link>) -> Option<u64> {
    let outputs: Vec<_> = {
        let mut session = link.session.lock();
        session.handle(kernel.now(), SessionInput::Timer);
        std::iter::from_fn(|| session.poll_output()).collect()
    };
    for output in outputs {
        match output {
            SessionOutput::SendTick => {
                link.push(&WireMessage::Tick);
            }
            SessionOutput::Down { silent_ms } => return Some(silent_ms),
        }
    }
    None
}

/// Reads what nobody else is woken for, or leaves.
async fn read(kernel: Arc<Kernel>, link: Arc<Link>) -> LinkError {
    // The handshake's last read may have brought more than its own.
    let first = |receiver: &mut Receiver| link.dispatch(&kernel, receiver);
    if let Err(error) = link.wire.take_in_first(first) {
        return error;
    }
    let mut watch = kernel.lookout.add(&link).and_then(|()| Watch::new(&link));
    let mut rest_ms = 0;
    loop {
        let waiting = match wait_on(watch, Interest::READABLE) {
            Ok(waiting) => waiting,
            Err(error) => return error,
        };
        loop {
            let mut ready = tokio::select! {
                ready = waiting.readable() => match ready {
                    Ok(ready) => Some(ready),
                    Err(error) => return TransportError::from(error).into(),
                },
                () = link.wire.asked_to_read() => None,
            };
            if ready.is_some() && kernel.lookout.leave() {
                break;
            }
            if let Err(error) = read_all(&kernel, &link, &mut rest_ms).await {
                return error;
            }
            if let Some(ready) = &mut ready {
                ready.clear_ready();
            }
        }
        watch = Ok(waiting.into_inner());
        link.wire.called_back().await;
        if let Err(error) = read_all(&kernel, &link, &mut rest_ms).await {
            return error;
        }
    }
}

/// Reads until nothing is there, or somebody else does.
async fn read_all(
    kernel: &Arc<Kernel>,
    link: &Arc<Link>,
    rest_ms: &mut u64,
) -> Result<(), LinkError> {
    loop {
        match link.take_in(kernel, Who::Reader)? {
            TookIn::All | TookIn::Part => {
                *rest_ms = 0;
                yield_now().await;
            }
            TookIn::Overfull => {
                *rest_ms = (2 * *rest_ms).clamp(MIN_REST_MS, MAX_REST_MS);
                sleep(Duration::from_millis(*rest_ms)).await;
            }
            TookIn::Nothing | TookIn::Busy => return Ok(()),
        }
    }
}

/// Writes what others leave to it.
async fn write(link: Arc<Link>) -> LinkError {
    let socket = match wait_on(Ok(Writable(link.clone())), Interest::WRITABLE) {
        Ok(socket) => socket,
        Err(error) => return error,
    };
    loop {
        link.wire.asked_to_write().await;
        loop {
            let mut ready = match socket.writable().await {
                Ok(ready) => ready,
                Err(error) => return TransportError::from(error).into(),
            };
            let (written, any) = match link.wire.write(&link.outbox) {
                Ok(outcome) => outcome,
                Err(error) => return error.into(),
            };
            if any {
                link.note(SessionInput::Sent);
            }
            match written {
                Written::All => break,
                Written::Blocked => ready.clear_ready(),
                Written::Part => yield_now().await,
                Written::Finished => {
                    link.wire.finish();
                    return match link.outbox.is_overfull() {
                        true => LinkError::Overfull,
                        false => LinkError::Told("closed".into()),
                    };
                }
            }
        }
    }
}

/// A link's socket, to wait until it takes more.
struct Writable(Arc<Link>);

impl AsRawFd for Writable {
    fn as_raw_fd(&self) -> RawFd {
        self.0.wire.as_raw_fd()
    }
}

/// Registers with the runtime what is waited for.
fn wait_on<T: AsRawFd>(what: io::Result<T>, interest: Interest) -> Result<AsyncFd<T>, LinkError> {
    let what = what.map_err(TransportError::from)?;
    // SAFETY: both types that come here own their descriptor, always the same one, as long as
    // they live.
    let registered = unsafe { AsyncFd::register_with_interest(what, interest) };
    registered.map_err(|error| TransportError::from(error.into_parts().1).into())
}

//! The task of one link: from the dial or the accept, over the handshake, to its end.
//!
//! Contract: it reports the link's end to the kernel exactly once, whatever happens to it.
//! Between the reader and the writer it keeps the ticks, which no data holds up: it never
//! waits for either.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};
use wasm_node_protocol::codec::WireMessage;
use wasm_node_protocol::handshake::{HANDSHAKE_TIMEOUT_MS, Peer};
use wasm_node_protocol::membership::{DialTarget, LinkId};
use wasm_node_protocol::session::{Session, SessionInput, SessionOutput};

use super::traffic::{read, write};
use super::{Link, LinkError};
use crate::dist::dial;
use crate::dist::kernel::Kernel;
use crate::dist::transport::{Channel, TransportError};
use crate::dist::wire::Wire;

/// How long a link that closes may take to send what waits and to see the peer's end, in
/// milliseconds; then it is cut.
const CLOSE_MS: u64 = 500;
/// How often requests that nobody answered in time are looked for, in milliseconds.
const EXPIRE_EVERY_MS: u64 = 1_000;
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
pub async fn dial(
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
pub async fn accept(
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
    let claims = |name: &_| report.with = format!("{from}, by its own words {name}");
    let handshake = dial::greet(&kernel, id, stream, claims);
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

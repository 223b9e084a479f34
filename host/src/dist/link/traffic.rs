//! A link's reader and writer: what nobody else reads or writes at once (see `wire`).

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::yield_now;
use tokio::time::sleep;
use wasm_node_protocol::session::SessionInput;

use super::{Link, LinkError};
use crate::dist::kernel::Kernel;
use crate::dist::lookout::Watch;
use crate::dist::records::{Receiver, Written};
use crate::dist::transport::TransportError;
use crate::dist::wire::{TookIn, Who};

/// How long the reader rests when an actor's mailbox is overfull, in milliseconds, at first;
/// it doubles while that goes on, up to [`MAX_REST_MS`].
const MIN_REST_MS: u64 = 1;

/// The longest rest of a reader, in milliseconds: bounded, as other actors wait as well.
const MAX_REST_MS: u64 = 64;
/// Reads what nobody else is woken for, or leaves.
pub async fn read(kernel: Arc<Kernel>, link: Arc<Link>) -> LinkError {
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
pub async fn write(link: Arc<Link>) -> LinkError {
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

//! Waiting without `.await`, for components that are not actors in turns: HTTP handlers, and
//! modules that use storage. Importing any of this gives the component a stack of its own.

use std::borrow::Borrow;
use std::time::Duration;

use crate::bindings::wasm_node::actor::blocking;
use crate::time::millis;
use crate::{CallError, Destination, GenServer, Message, Ref, ServerRef};

/// Asks with bytes and waits.
pub fn request(
    to: &Destination,
    body: &[u8],
    timeout: Option<Duration>,
) -> Result<Vec<u8>, CallError> {
    blocking::call(to, body, timeout.map(millis))
}

/// Asks and waits, as [`ServerRef::call`] with a time-out.
pub fn call<S: GenServer>(
    server: &ServerRef<S>,
    request: impl Borrow<S::Call>,
    timeout: Duration,
) -> Result<S::Reply, CallError> {
    let body = S::encode_call(request.borrow());
    let reply = blocking::call(server.destination(), &body, Some(millis(timeout)))?;
    crate::server_ref::decode_reply::<S>(reply)
}

/// Waits for the next message; none after the time-out.
pub fn receive(timeout: Option<Duration>) -> Option<Message> {
    blocking::receive(timeout.map(millis))
}

/// Waits for what answers a ref (a response, `spawned`, `down`, ...), while other messages wait
/// in the mailbox; none after the time-out.
pub fn receive_ref(tag: Ref, timeout: Option<Duration>) -> Option<Message> {
    blocking::receive_ref(tag, timeout.map(millis))
}

/// Waits.
pub fn sleep(duration: Duration) {
    blocking::sleep(millis(duration));
}

//! Waiting without `.await`, for components that are not actors in turns: HTTP handlers, and
//! modules that use storage. Importing any of this gives the component a stack of its own.

use std::borrow::Borrow;
use std::time::Duration;

use crate::bindings::wasm_node::actor::{blocking, io, mailbox};
use crate::time::millis;
use crate::{CallError, Destination, GenServer, Message, MultiReplies, Ref, ServerRef};

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

/// As [`crate::multi_call`]: asks the server with this name on each of these nodes, all at the
/// same time, and waits for all answers or for the time-out.
pub fn multi_call<S: GenServer>(
    nodes: impl IntoIterator<Item = impl Into<String>>,
    name: &str,
    request: impl Borrow<S::Call>,
    timeout: Duration,
) -> MultiReplies<S::Reply> {
    let body = S::encode_call(request.borrow());
    let limit = Some(millis(timeout));
    let asked: Vec<(String, Ref)> = nodes
        .into_iter()
        .map(|node| {
            let node = node.into();
            let to = ServerRef::<S>::remote(name, &node).destination().clone();
            (node, mailbox::request(&to, &body, limit))
        })
        .collect();
    let mut result = MultiReplies {
        replies: Vec::new(),
        failed: Vec::new(),
    };
    for (node, tag) in asked {
        // The host answers each request once, with `timeout` at the latest.
        let answer = match blocking::receive_ref(tag, None) {
            Some(Message::Response((_, Ok(reply)))) => crate::server_ref::decode_reply::<S>(reply),
            Some(Message::Response((_, Err(error)))) => Err(error),
            _ => Err(CallError::Timeout),
        };
        match answer {
            Ok(reply) => result.replies.push((node, reply)),
            Err(error) => result.failed.push((node, error)),
        }
    }
    result
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

/// As [`crate::io::read_line`]: the next line of standard input, or none at its end.
///
/// # Errors
/// As there.
pub fn read_line(timeout: Option<Duration>) -> Result<Option<String>, CallError> {
    // The host answers each request once, with `timeout` at the latest.
    match blocking::receive_ref(io::read_line(timeout.map(millis)), None) {
        Some(Message::Response((_, result))) => crate::io::line(result?),
        _ => Err(CallError::Timeout),
    }
}

/// Waits.
pub fn sleep(duration: Duration) {
    blocking::sleep(millis(duration));
}

//! [`GenServer`]: an actor that keeps state and serves calls, casts and plain messages, one at
//! a time. While a handler awaits, the messages behind it wait in order; answers reach the
//! handler past them.
//!
//! | Elixir's `GenServer` | here |
//! | --- | --- |
//! | `init/1`: `{:ok, s}`, `{:ok, s, timeout \| :hibernate \| {:continue, c}}`, `{:stop, r}`, `:ignore` | [`Init`] |
//! | `handle_call/3`: `{:reply, ..}`, `{:noreply, ..}`, `{:stop, ..}` | [`CallReturn`], [`Next`] |
//! | `handle_cast/2`, `handle_info/2` | [`GenServer::handle_cast`], [`GenServer::handle_info`] with a typed [`Info`] |
//! | `handle_continue/2` | [`GenServer::handle_continue`]; what it continues with is a field of the state |
//! | `terminate/2`, `code_change/3`, `format_status/1` | [`GenServer::terminate`], [`GenServer::upgrade`], [`GenServer::format_status`] |
//! | `start_link/3`, `call/3`, `cast/2`, `stop/3`, `multi_call/4`, `abcast/3` | [`ServerRef`](crate::ServerRef), [`multi_call`](crate::multi_call), [`rpc::abcast`](crate::rpc::abcast) |
//! | `reply/2` | [`Caller::reply`] |
//! | `:sys.get_state/2`, `get_status/2` | [`ServerRef::state`](crate::ServerRef::state), [`ServerRef::status`](crate::ServerRef::status) |
//!
//! What differs: handlers may await, and answers to what they await come past the mailbox's order; a
//! reply that comes with a stop is sent after `terminate`, as there, but `stop` of a state machine sends
//! it before; there is no `:sys.suspend`.

mod info;
mod server;
mod system;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::sys::mailbox;
use crate::{ExitReason, OutputKind, Pid, ReplyTo, codec};

pub use info::Info;
pub use server::GenServerActor;
pub(crate) use system::System;

/// A server. Its value is its state; `serde` makes it survive upgrades and hibernation.
///
/// Only `MODULE`, the types, `init` and `handle_call` must be there. The wire format is
/// postcard unless the `encode_*` and `decode_*` functions say otherwise.
pub trait GenServer: Serialize + DeserializeOwned + 'static {
    /// The name of the module (the component file, without `.wasm`) that this compiles to.
    const MODULE: &'static str;

    /// What `init` gets.
    type Args: Serialize + DeserializeOwned;
    /// What can be asked.
    type Call: Serialize + DeserializeOwned;
    /// What is answered.
    type Reply: Serialize + DeserializeOwned;
    /// What can be told.
    type Cast: Serialize + DeserializeOwned;

    /// Makes the state. Whoever started this server waits until this has ended.
    fn init(args: Self::Args) -> impl Future<Output = Init<Self>>;

    /// Answers a call, now or later.
    fn handle_call(
        &mut self,
        request: Self::Call,
        from: Caller<Self::Reply>,
    ) -> impl Future<Output = CallReturn<Self::Reply>>;

    /// Takes a cast. The default ignores it.
    fn handle_cast(&mut self, message: Self::Cast) -> impl Future<Output = Next> {
        let _ = message;
        async { Next::Wait }
    }

    /// Takes any other message. An exit signal of the actor that started this one does not come
    /// here: it ends the server, as in OTP, so that a supervisor's `shutdown` works. The default
    /// ends it at other exit signals that it traps, too, prints a warning for plain messages, passes
    /// text of others on to its own group leader, has no lines for them, and ignores the rest.
    fn handle_info(&mut self, info: Info) -> impl Future<Output = Next> {
        async {
            match info {
                Info::Exit { reason, .. } => Next::Stop(reason),
                Info::Message(body) => {
                    crate::eprintln!(
                        "{} {}: a message of {} bytes that nobody expects",
                        Self::MODULE,
                        crate::self_pid(),
                        body.len()
                    );
                    Next::Wait
                }
                Info::Output { kind, text, .. } => {
                    // Its own leader, it would print to itself for ever.
                    if crate::process::group_leader() != crate::self_pid() {
                        let text = String::from_utf8_lossy(&text);
                        match kind {
                            OutputKind::Stdout => crate::io::print(&text),
                            OutputKind::Stderr => crate::io::print_error(&text),
                        }
                    }
                    Next::Wait
                }
                Info::InputRequest(request) => {
                    request.end();
                    Next::Wait
                }
                _ => Next::Wait,
            }
        }
    }

    /// Comes right after what returned [`Next::Continue`], before any message.
    fn handle_continue(&mut self) -> impl Future<Output = Next> {
        async { Next::Wait }
    }

    /// Comes last when a handler returned [`Next::Stop`], or the server traps exits and its parent
    /// has ended or asked it to; not when the server is killed or its code traps. A reply that
    /// came with the `Stop` is sent afterwards.
    fn terminate(&mut self, reason: &ExitReason) -> impl Future<Output = ()> {
        let _ = reason;
        async {}
    }

    /// Comes first in a server that goes on from saved state, before any message: the place
    /// for what is not state. The default does nothing.
    fn restored(&mut self) -> impl Future<Output = Next> {
        async { Next::Wait }
    }

    /// What people may see of the state: in the report of an end that is no clean one, and at
    /// `wasm-node status`. Secrets belong in neither. The default tells how large the state is.
    fn format_status(&self) -> String {
        size_of(self.save())
    }

    /// The state as bytes. The error refuses the upgrade (or whatever the save was for).
    fn save(&self) -> Result<Vec<u8>, String> {
        Ok(codec::encode(self))
    }

    /// The state from bytes that this version, or one before it, saved: Erlang's
    /// `code_change`. The error rolls the upgrade back.
    fn upgrade(saved: &[u8]) -> Result<Self, String> {
        codec::decode(saved)
    }

    /// The wire format of the arguments.
    fn encode_args(args: &Self::Args) -> Vec<u8> {
        codec::encode(args)
    }
    /// The wire format of the arguments; an error ends the server.
    fn decode_args(bytes: &[u8]) -> Result<Self::Args, String> {
        codec::decode(bytes)
    }
    /// The wire format of calls.
    fn encode_call(call: &Self::Call) -> Vec<u8> {
        codec::encode(call)
    }
    /// The wire format of calls; an error is printed, and the caller gets no answer.
    fn decode_call(bytes: &[u8]) -> Result<Self::Call, String> {
        codec::decode(bytes)
    }
    /// The wire format of replies.
    fn encode_reply(reply: &Self::Reply) -> Vec<u8> {
        codec::encode(reply)
    }
    /// The wire format of replies; an error fails the call.
    fn decode_reply(bytes: &[u8]) -> Result<Self::Reply, String> {
        codec::decode(bytes)
    }
    /// The wire format of casts.
    fn encode_cast(message: &Self::Cast) -> Vec<u8> {
        codec::encode(message)
    }
    /// The wire format of casts; an error is printed.
    fn decode_cast(bytes: &[u8]) -> Result<Self::Cast, String> {
        codec::decode(bytes)
    }
}

/// What can be said of any state.
pub(crate) fn size_of(saved: Result<Vec<u8>, String>) -> String {
    match saved {
        Ok(saved) => format!("{} bytes", saved.len()),
        Err(why) => format!("not saved: {why}"),
    }
}

/// How `init` ended.
pub enum Init<S> {
    /// The server serves.
    Ok(S),
    /// The server serves, after that.
    OkThen(S, Next),
    /// Its starter gets [`StartError::Failed`](crate::StartError) with this reason.
    Stop(ExitReason),
    /// It ends normally: its starter gets [`StartError::Ignored`](crate::StartError).
    Ignore,
}

/// What to do with a call.
pub enum CallReturn<R> {
    /// Answer it.
    Reply(R),
    /// Answer it, then this.
    ReplyThen(R, Next),
    /// Nothing yet: [`Caller::reply`] answers, from anywhere, any time.
    NoReply,
    /// As `NoReply`, then this.
    NoReplyThen(Next),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Take the next message.
    Wait,
    /// Take the next message, or [`Info::Timeout`] if none comes for so long.
    Timeout(Duration),
    /// Call `handle_continue`, before any message.
    Continue,
    /// Take the next message, and that may take long: the host may free this actor's memory
    /// meanwhile and keep its saved state.
    Hibernate,
    /// Call `terminate`, then end with this reason; one that is not clean is reported to the node's
    /// log, with [`GenServer::format_status`].
    Stop(ExitReason),
}

/// Whom to answer: Erlang's `From`. Plain data, so it can be kept in the state.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Caller<R> {
    to: ReplyTo,
    reply: PhantomData<fn(R)>,
}

impl<R> Clone for Caller<R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for Caller<R> {}

impl<R> fmt::Debug for Caller<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Caller").field(&self.to).finish()
    }
}

impl<R> Caller<R> {
    /// Who asked.
    pub fn pid(&self) -> Pid {
        self.to.pid
    }

    /// For a reply in another codec than postcard.
    pub fn reply_bytes(self, body: &[u8]) {
        // Too large a reply: the caller's time-out tells it.
        if mailbox::reply(self.to, body).is_err() {
            crate::io::print_error("a reply is larger than the limit, and was not sent\n");
        }
    }
}

impl<R: Serialize> Caller<R> {
    /// Answers, in the default codec. A second answer, and one that comes too late, is dropped.
    pub fn reply(self, reply: &R) {
        self.reply_bytes(&codec::encode(reply));
    }
}

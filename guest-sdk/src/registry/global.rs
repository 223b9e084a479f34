//! Names and locks in the whole cluster: Erlang's `global`.
//!
//! [`register`], [`re_register`], [`unregister`], [`whereis`], [`registered`], [`send`], [`set_lock`],
//! [`del_lock`] and [`trans`] are its functions of those names. What differs: each name has an arbiter
//! of its own, so that no lock of the whole cluster is taken; on registering, one may say how a
//! conflict is to be [resolved](Resolver).
//!
//! At most one actor of the connected cluster holds a name, and looking one up asks no other
//! node. A server is started under a name with
//! [`Starting::global`](crate::Starting::global) and reached with
//! [`ServerRef::global`](crate::ServerRef::global).

use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::runtime::{Answer, Kind, Orphan, adopt_orphan};
use crate::sys::global as sys;
use crate::time::millis;
use crate::{Destination, Message, Pid, Ref, RegisterError};

pub use crate::bindings::wasm_node::actor::global::Resolver;

/// Claims a name for an actor of any connected node. [`RegisterError::Taken`] has who holds it,
/// [`RegisterError::Timeout`] means that the cluster did not agree in time, and
/// [`RegisterError::Minority`] that this node's side of a divided cluster may not.
pub async fn register(name: &str, actor: Pid) -> Result<(), RegisterError> {
    answer(sys::register(name, actor)).await
}

/// As [`register`], and says what is done if another holder turns up when two parts of the
/// cluster meet.
pub async fn register_with(name: &str, actor: Pid, by: &Resolver) -> Result<(), RegisterError> {
    answer(sys::register_with(name, actor, by)).await
}

/// Gives a name to an actor, whoever holds it: no look-up finds none in between, and the one
/// that held it is not told.
pub async fn re_register(name: &str, actor: Pid, by: &Resolver) -> Result<(), RegisterError> {
    answer(sys::re_register(name, actor, by)).await
}

/// Gives up a name; one that an actor of another node holds goes a moment later. Whether anybody
/// held it.
pub fn unregister(name: &str) -> bool {
    sys::unregister(name)
}

/// Who has this name, as this node knows it: no other node is asked.
pub fn whereis(name: &str) -> Option<Pid> {
    sys::whereis(name)
}

/// The names, as this node knows them.
pub fn registered() -> Vec<String> {
    sys::registered()
}

/// Sends a plain message to who has this name; `None` if nobody has, as far as this node knows,
/// or the body is larger than the host's limit.
pub fn send(name: &str, body: &[u8]) -> Option<Pid> {
    let holder = whereis(name)?;
    crate::send(holder, body).then_some(holder)
}

/// What a [`Resolver::Ask`] actor is called with. Its reply, an `Option<Pid>`, says who keeps
/// the name, if one of the two is to. A [`GenServer`](crate::GenServer) has this as its `Call`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispute {
    /// The name.
    pub name: String,
    /// Its holder on the actor's own side.
    pub own: Pid,
    /// The other one.
    pub other: Pid,
}

/// A lock: what it is of, and for whom. Actors of one requester hold it together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LockId {
    resource: String,
    requester: Option<String>,
}

impl LockId {
    /// For this actor alone.
    pub fn new(resource: impl Into<String>) -> Self {
        Self {
            resource: resource.into(),
            requester: None,
        }
    }

    /// For all actors that give the same requester.
    pub fn shared(resource: impl Into<String>, requester: impl Into<String>) -> Self {
        Self {
            resource: resource.into(),
            requester: Some(requester.into()),
        }
    }
}

/// For how long to wait for a lock that another requester holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    Try,
    /// At most so long.
    For(Duration),
    /// As long as it takes.
    Endless,
}

/// Takes a lock for this actor, in turn. [`RegisterError::Taken`] has an actor that holds it.
/// Taking it again changes nothing. It goes when this actor ends; and when this future is dropped
/// before its end, the lock is not taken.
pub fn set_lock(
    lock: &LockId,
    wait: Wait,
) -> impl Future<Output = Result<(), RegisterError>> + use<> {
    let timeout_ms = match wait {
        Wait::Try => Some(0),
        Wait::For(time) => Some(millis(time).max(1)),
        Wait::Endless => None,
    };
    let tag = sys::set_lock(&lock.resource, lock.requester.as_deref(), timeout_ms);
    let waiting = Held(Some(lock.clone()));
    async move {
        let result = answer(tag).await;
        waiting.leave();
        result
    }
}

/// Lets a lock go; whether this actor held it.
pub fn del_lock(lock: &LockId) -> bool {
    sys::del_lock(&lock.resource, lock.requester.as_deref())
}

/// Does something with a lock, and lets it go afterwards: also if the future is dropped in the
/// middle. As in Erlang, what is done must not take and let go the same lock itself.
pub async fn trans<F: Future>(
    lock: &LockId,
    wait: Wait,
    work: impl FnOnce() -> F,
) -> Result<F::Output, RegisterError> {
    set_lock(lock, wait).await?;
    let _held = Held(Some(lock.clone()));
    Ok(work().await)
}

/// Lets a lock go when dropped, or gives up waiting for it.
struct Held(Option<LockId>);

impl Held {
    /// Nothing to let go: it is not held, or others see to that.
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(lock) = &self.0 {
            del_lock(lock);
        }
    }
}

fn answer(tag: Ref) -> impl Future<Output = Result<(), RegisterError>> {
    // Both now and not when first polled: the answer may come before that, or nobody wait for it.
    let answer = Answer::of(tag, Kind::Registered);
    let asked = Asked(Some(tag));
    async move {
        let answer = answer.await;
        asked.has_its_answer();
        match answer {
            Message::Registered((_, result)) => result,
            _ => Err(RegisterError::Timeout),
        }
    }
}

/// A claim whose answer has not come. If nobody waits for it any more, it reaches no handler.
struct Asked(Option<Ref>);

impl Asked {
    fn has_its_answer(mut self) {
        self.0 = None;
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(tag) = self.0 {
            adopt_orphan(tag, Orphan::Lives);
        }
    }
}

/// Where messages to the holder of a name go, looked up when they are sent.
pub fn destination(name: &str) -> Destination {
    Destination::Global(name.into())
}

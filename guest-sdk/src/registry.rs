//! Names of actors: on this node ([`register`], [`whereis`]) and in the whole cluster
//! ([`register_global`], [`whereis_global`]).

use crate::bindings::wasm_node::actor::{global, registry};
use crate::runtime::{Answer, Kind};
use crate::{Message, Pid, RegisterError};

/// Gives an actor of this node a name on this node; it goes when the actor ends.
pub fn register(name: &str, actor: Pid) -> Result<(), RegisterError> {
    registry::register(name, actor)
}

/// Whether there was such a name on this node.
pub fn unregister(name: &str) -> bool {
    registry::unregister(name)
}

/// Who has this name on this node.
pub fn whereis(name: &str) -> Option<Pid> {
    registry::whereis(name)
}

/// The names on this node.
pub fn registered() -> Vec<String> {
    registry::registered()
}

/// Claims a name in the whole cluster for an actor of this node. [`RegisterError::Taken`]
/// has who holds it, [`RegisterError::Timeout`] means that the cluster did not agree in time.
pub async fn register_global(name: &str, actor: Pid) -> Result<(), RegisterError> {
    let tag = crate::sys::global::register(name, actor);
    match Answer::of(tag, Kind::Registered).await {
        Message::Registered((_, result)) => result,
        _ => Err(RegisterError::Timeout),
    }
}

/// Gives up a cluster-wide name that an actor of this node holds; whether one did.
pub fn unregister_global(name: &str) -> bool {
    global::unregister(name)
}

/// Who has this name in the cluster, as this node knows it: no other node is asked.
pub fn whereis_global(name: &str) -> Option<Pid> {
    global::whereis(name)
}

/// The cluster-wide names, as this node knows them.
pub fn registered_global() -> Vec<String> {
    global::registered()
}

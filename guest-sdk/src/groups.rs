//! Process groups, as Erlang's `pg`: eventually the same everywhere, never blocking.

use crate::Pid;
use crate::bindings::wasm_node::actor::groups;

/// Adds this actor to a group; several times if called several times.
pub fn join(group: &str) {
    groups::join(group);
}

/// Takes it out once; whether it was a member.
pub fn leave(group: &str) -> bool {
    groups::leave(group)
}

/// The members on all nodes known here.
pub fn members(group: &str) -> Vec<Pid> {
    groups::members(group)
}

/// The members on this node.
pub fn local_members(group: &str) -> Vec<Pid> {
    groups::local_members(group)
}

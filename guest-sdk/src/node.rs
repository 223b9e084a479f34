//! This node, the others, and the code on this one.
//!
//! [`name`] is `node/0`, [`nodes`] `nodes()`, [`hidden_nodes`] `nodes(hidden)`, [`all_nodes`]
//! `nodes(connected)`, [`connect`] `net_kernel:connect_node/1`, [`disconnect`] `erlang:disconnect_node/1`,
//! [`monitor_nodes`] `net_kernel:monitor_nodes/2` (kinds and reasons always come), [`monitor_node`]
//! `erlang:monitor_node/2`.

use crate::bindings::wasm_node::actor::code;
use crate::bindings::wasm_node::actor::node::NodeSet;
use crate::runtime::{Answer, Kind};
use crate::sys::node;
use crate::{Message, Pid};

pub use crate::bindings::wasm_node::actor::code::ModuleInfo;

/// This node's name, as `node1@127.0.0.1`.
pub fn name() -> String {
    node::name()
}

/// The visible nodes connected to this one, without it, sorted.
pub fn nodes() -> Vec<String> {
    node::nodes(NodeSet::Visible)
}

/// The hidden nodes connected to this one, sorted.
pub fn hidden_nodes() -> Vec<String> {
    node::nodes(NodeSet::Hidden)
}

/// As [`nodes`], with the hidden ones.
pub fn all_nodes() -> Vec<String> {
    node::nodes(NodeSet::All)
}

/// The name of a pid's node, if it is known here.
pub fn node_of(actor: Pid) -> Option<String> {
    node::node_of(actor)
}

/// Connects to a node: its name, or why not.
pub async fn connect(to: &str) -> Result<String, String> {
    match Answer::of(node::connect(to), Kind::Connected).await {
        Message::Connected((_, result)) => result,
        _ => Err("the host answered something else".into()),
    }
}

/// Cuts the connection to a node; whether there was one. The two stay apart until one of them
/// names the other.
pub fn disconnect(from: &str) -> bool {
    node::disconnect(from)
}

/// Whether this actor gets [`Info::NodeUp`](crate::Info::NodeUp) and `NodeDown` of all nodes from
/// now on, hidden ones too: one message an event, however often it asked.
pub fn monitor_nodes(on: bool) {
    node::monitor_nodes(on);
}

/// One monitor of a node more, or less: each gives one [`Info::NodeDown`](crate::Info::NodeDown)
/// when the node goes down, or at once if it cannot be reached, and is used up by that.
pub fn monitor_node(of: &str, on: bool) {
    node::monitor_node(of, on);
}

/// The digest of the version of its code that this actor runs, in hex.
pub fn code_version() -> String {
    code::current()
}

/// The current version of each module on this node.
pub fn modules() -> Vec<ModuleInfo> {
    code::modules()
}

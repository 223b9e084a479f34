//! The imports that the SDK stands on: the host's, or natively in tests those of
//! `testing` (the feature of that name).

#[cfg(not(all(not(target_arch = "wasm32"), any(test, feature = "testing"))))]
pub(crate) use crate::bindings::wasm_node::actor::{
    global, groups, io, mailbox, node, process, registry, timer,
};

#[cfg(all(not(target_arch = "wasm32"), any(test, feature = "testing")))]
pub(crate) use crate::testing::imports::{
    global, groups, io, mailbox, node, process, registry, timer,
};

use crate::bindings::wasm_node::actor::node::NodeSet;

/// The visible nodes that this one is connected to.
pub(crate) fn visible_nodes() -> Vec<String> {
    node::nodes(NodeSet::Visible)
}

/// All nodes that this one is connected to.
pub(crate) fn connected_nodes() -> Vec<String> {
    node::nodes(NodeSet::All)
}

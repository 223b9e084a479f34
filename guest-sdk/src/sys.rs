//! The imports that the runtime stands on: the host's, or in this crate's own tests a double.

#[cfg(not(test))]
pub(crate) use crate::bindings::wasm_node::actor::{global, groups, io, mailbox, process, timer};

#[cfg(test)]
pub(crate) use crate::fake::{
    connect, connected_nodes, global, groups, io, mailbox, node_name, process, timer, visible_nodes,
};

#[cfg(not(test))]
pub(crate) use of_nodes::{connect, connected_nodes, node_name, visible_nodes};

#[cfg(not(test))]
mod of_nodes {
    use crate::Ref;
    use crate::bindings::wasm_node::actor::node;

    pub(crate) fn node_name() -> String {
        node::name()
    }
    pub(crate) fn visible_nodes() -> Vec<String> {
        node::nodes(node::NodeSet::Visible)
    }
    pub(crate) fn connected_nodes() -> Vec<String> {
        node::nodes(node::NodeSet::All)
    }
    pub(crate) fn connect(to: &str) -> Ref {
        node::connect(to)
    }
}

//! `wasm-node:actor/node`.

use wasm_node_protocol::NodeKind;

use crate::wasm::bindings::wasm_node::actor::node::{Host, NodeSet as WitSet};
use crate::wasm::bindings::wasm_node::actor::types::{Pid, Ref};
use crate::wasm::data::ActorData;
use crate::wasm::services::NodeSet;

impl Host for ActorData {
    fn name(&mut self) -> wasmtime::Result<String> {
        Ok(self.runtime.name().to_string())
    }

    fn nodes(&mut self, which: WitSet) -> wasmtime::Result<Vec<String>> {
        Ok(self.services.nodes(match which {
            WitSet::Visible => NodeSet::Of(NodeKind::Visible),
            WitSet::Hidden => NodeSet::Of(NodeKind::Hidden),
            WitSet::All => NodeSet::All,
        }))
    }

    fn node_of(&mut self, actor: Pid) -> wasmtime::Result<Option<String>> {
        Ok(self.services.node_of(actor.into()))
    }

    fn connect(&mut self, node: String) -> wasmtime::Result<Ref> {
        Ok(self.services.connect(&self.process, &node).into())
    }

    fn disconnect(&mut self, node: String) -> wasmtime::Result<bool> {
        Ok(self.services.disconnect(&node))
    }

    fn monitor_nodes(&mut self, on: bool) -> wasmtime::Result<()> {
        self.services.monitor_nodes(&self.process, on);
        Ok(())
    }

    fn monitor_node(&mut self, node: String, on: bool) -> wasmtime::Result<()> {
        self.services.monitor_node(&self.process, &node, on);
        Ok(())
    }
}

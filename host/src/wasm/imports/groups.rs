//! `wasm-node:actor/groups`.

use crate::wasm::bindings::wasm_node::actor::groups::Host;
use crate::wasm::bindings::wasm_node::actor::types::Pid;
use crate::wasm::data::ActorData;

impl Host for ActorData {
    fn join(&mut self, group: String) -> wasmtime::Result<()> {
        self.services.join(&self.process, &group);
        Ok(())
    }

    fn leave(&mut self, group: String) -> wasmtime::Result<bool> {
        Ok(self.services.leave(&self.process, &group))
    }

    fn members(&mut self, group: String) -> wasmtime::Result<Vec<Pid>> {
        Ok(self
            .services
            .members(&group, false)
            .into_iter()
            .map(Into::into)
            .collect())
    }

    fn local_members(&mut self, group: String) -> wasmtime::Result<Vec<Pid>> {
        Ok(self
            .services
            .members(&group, true)
            .into_iter()
            .map(Into::into)
            .collect())
    }
}

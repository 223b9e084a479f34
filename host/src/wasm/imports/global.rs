//! `wasm-node:actor/global`.

use crate::wasm::bindings::wasm_node::actor::global::Host;
use crate::wasm::bindings::wasm_node::actor::types::{Pid, Ref};
use crate::wasm::data::ActorData;

impl Host for ActorData {
    fn register(&mut self, name: String, actor: Pid) -> wasmtime::Result<Ref> {
        Ok(self
            .services
            .global_register(&self.process, &name, actor.into())
            .into())
    }

    fn unregister(&mut self, name: String) -> wasmtime::Result<bool> {
        Ok(self.services.global_unregister(&name))
    }

    fn whereis(&mut self, name: String) -> wasmtime::Result<Option<Pid>> {
        Ok(self.services.global_whereis(&name).map(Into::into))
    }

    fn registered(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.services.global_registered())
    }
}

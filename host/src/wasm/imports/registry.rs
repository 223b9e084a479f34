//! `wasm-node:actor/registry`.

use crate::wasm::bindings::wasm_node::actor::registry::Host;
use crate::wasm::bindings::wasm_node::actor::types::{Pid, RegisterError};
use crate::wasm::data::ActorData;

impl Host for ActorData {
    fn register(
        &mut self,
        name: String,
        actor: Pid,
    ) -> wasmtime::Result<Result<(), RegisterError>> {
        Ok(self
            .runtime
            .register(&name, actor.into())
            .map_err(Into::into))
    }

    fn unregister(&mut self, name: String) -> wasmtime::Result<bool> {
        Ok(self.runtime.unregister(&name))
    }

    fn whereis(&mut self, name: String) -> wasmtime::Result<Option<Pid>> {
        Ok(self.runtime.whereis(&name).map(Into::into))
    }

    fn registered(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self
            .runtime
            .registered()
            .into_iter()
            .map(|(name, _)| name)
            .collect())
    }
}

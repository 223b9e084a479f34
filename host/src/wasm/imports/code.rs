//! `wasm-node:actor/code`.

use crate::wasm::bindings::wasm_node::actor::code::{Host, ModuleInfo};
use crate::wasm::data::ActorData;

impl Host for ActorData {
    fn current(&mut self) -> wasmtime::Result<String> {
        Ok(self.version.digest().to_string())
    }

    fn modules(&mut self) -> wasmtime::Result<Vec<ModuleInfo>> {
        let modules = self.services.modules();
        let info = |m: crate::wasm::ModuleInfo| ModuleInfo {
            name: m.name,
            digest: m.digest,
            actors: m.actors,
        };
        Ok(modules.into_iter().map(info).collect())
    }
}

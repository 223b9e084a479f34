//! `wasm-node:actor/io`.

use crate::wasm::bindings::wasm_node::actor::io::Host;
use crate::wasm::data::ActorData;

impl Host for ActorData {
    fn print(&mut self, text: String) -> wasmtime::Result<()> {
        self.services
            .print(self.process.pid, text.as_bytes(), false);
        Ok(())
    }

    fn print_error(&mut self, text: String) -> wasmtime::Result<()> {
        self.services.print(self.process.pid, text.as_bytes(), true);
        Ok(())
    }
}

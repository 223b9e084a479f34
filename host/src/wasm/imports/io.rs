//! `wasm-node:actor/io`.

use std::time::Duration;

use wasm_node_protocol::OutputKind;

use crate::wasm::bindings::wasm_node::actor::io::{Host, LogLevel};
use crate::wasm::bindings::wasm_node::actor::types::Ref;
use crate::wasm::data::ActorData;

impl Host for ActorData {
    fn print(&mut self, text: String) -> wasmtime::Result<()> {
        let text = text.as_bytes();
        self.runtime.print(&self.process, OutputKind::Stdout, text);
        Ok(())
    }

    fn print_error(&mut self, text: String) -> wasmtime::Result<()> {
        let text = text.as_bytes();
        self.runtime.print(&self.process, OutputKind::Stderr, text);
        Ok(())
    }

    fn read_line(&mut self, timeout_ms: Option<u32>) -> wasmtime::Result<Ref> {
        let timeout = timeout_ms.map(|ms| Duration::from_millis(u64::from(ms)));
        Ok(self.runtime.read_line(&self.process, timeout).into())
    }

    fn log(
        &mut self,
        level: LogLevel,
        text: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        let level = match level {
            LogLevel::Debug => tracing::Level::DEBUG,
            LogLevel::Info => tracing::Level::INFO,
            LogLevel::Warning => tracing::Level::WARN,
            LogLevel::Error => tracing::Level::ERROR,
        };
        self.services.log(&self.process, level, text, fields);
        Ok(())
    }
}

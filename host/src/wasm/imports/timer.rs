//! `wasm-node:actor/timer`.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::wasm::bindings::wasm_node::actor::timer::Host;
use crate::wasm::bindings::wasm_node::actor::types::{Pid, Ref};
use crate::wasm::data::ActorData;

/// Where `now` counts from: the node's first look at the clock.
static START: OnceLock<Instant> = OnceLock::new();

impl Host for ActorData {
    fn start(&mut self, after_ms: u32) -> wasmtime::Result<Ref> {
        let after = Duration::from_millis(u64::from(after_ms));
        Ok(self.runtime.start_timer(&self.process, after, None).into())
    }

    fn send_after(&mut self, after_ms: u32, to: Pid, body: Vec<u8>) -> wasmtime::Result<Ref> {
        let after = Duration::from_millis(u64::from(after_ms));
        let message = Some((to.into(), Bytes::from(body)));
        Ok(self
            .runtime
            .start_timer(&self.process, after, message)
            .into())
    }

    fn cancel(&mut self, timer: Ref) -> wasmtime::Result<bool> {
        Ok(self.runtime.cancel_timer(&self.process, timer.into()))
    }

    fn now(&mut self) -> wasmtime::Result<u64> {
        let start = START.get_or_init(Instant::now);
        Ok(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall_clock(&mut self) -> wasmtime::Result<u64> {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn random(&mut self) -> wasmtime::Result<u64> {
        Ok(rand::random())
    }
}

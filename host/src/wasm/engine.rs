//! The one engine of a node, and the linkers for components that wait and that do not.

use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, InstanceAllocationStrategy};

use super::bindings::wasm_node::actor;
use super::core::{self, Awake};
use super::data::ActorData;
use super::keyvalue;
use super::{memory, stack};

/// Linear memory that an actor may use unless its module sets another limit.
pub const DEFAULT_MEMORY_LIMIT_BYTES: usize = 128 << 20;

/// Core instances, tables and memories in one component: Python's have 14, QuickJS' three
/// memories.
pub(super) const MAX_PARTS_PER_COMPONENT: usize = 32;

/// Elements of a table: the largest seen is 7,691 (Python).
pub(super) const MAX_TABLE_ELEMENTS: usize = 65_536;

/// Stack for wasm in one call.
const WASM_STACK_BYTES: usize = 512 << 10;

/// Stack of a fiber: wasm's, and the host functions' above it.
const FIBER_STACK_BYTES: usize = 1 << 20;

/// wasmtime, configured for many small actors.
#[derive(Clone)]
pub struct Engine {
    engine: wasmtime::Engine,
    plain: Linker<ActorData>,
    core: wasmtime::Linker<ActorData>,
    awake: Arc<Awake>,
    full: Linker<ActorData>,
}

impl Engine {
    /// Makes the engine. Fails only if wasmtime does not take its configuration on this machine.
    pub fn new() -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config
            .allocation_strategy(InstanceAllocationStrategy::OnDemand)
            .with_host_memory(Arc::new(memory::Creator(Arc::default())))
            .with_host_stack(Arc::new(stack::Creator(Arc::default())))
            // Memories lie side by side; see `memory`.
            .memory_reservation(0)
            .memory_reservation_for_growth(0)
            .memory_guard_size(0)
            .guard_before_linear_memory(false)
            .memory_may_move(true)
            .memory_init_cow(false)
            .concurrency_support(false)
            .epoch_interruption(true)
            // Pointers have 32 bits. Several memories there must be: what wasmtime generates between
            // the components of one has two.
            .wasm_memory64(false)
            .max_wasm_stack(WASM_STACK_BYTES)
            .async_stack_size(FIBER_STACK_BYTES)
            .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(20));
        let engine = wasmtime::Engine::new(&config)?;
        let plain = messaging(&engine)?;
        let core = core::linker(&engine)?;
        let mut full = messaging(&engine)?;
        actor::blocking::add_to_linker::<_, HasSelf<ActorData>>(&mut full, |data| data)?;
        wasmtime_wasi::p2::add_to_linker_async(&mut full)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut full)?;
        keyvalue::add_to_linker(&mut full, ActorData::keyvalue)?;
        Ok(Self {
            engine,
            plain,
            core,
            awake: Arc::default(),
            full,
        })
    }

    /// wasmtime's own handle.
    pub fn inner(&self) -> &wasmtime::Engine {
        &self.engine
    }

    /// Ends the current epoch: what runs longer is asked whether it may go on.
    pub fn tick(&self) {
        self.engine.increment_epoch();
    }

    /// Links components that import nothing that can wait.
    pub(super) fn plain(&self) -> &Linker<ActorData> {
        &self.plain
    }

    /// Links the modules of components that need no component layer.
    pub(super) fn core(&self) -> &wasmtime::Linker<ActorData> {
        &self.core
    }

    /// Which actors have an instance.
    pub(super) fn awake(&self) -> Arc<Awake> {
        self.awake.clone()
    }

    /// Links all others.
    pub(super) fn full(&self) -> &Linker<ActorData> {
        &self.full
    }
}

fn messaging(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<ActorData>> {
    let mut linker = Linker::new(engine);
    actor::types::add_to_linker::<_, HasSelf<ActorData>>(&mut linker, |data| data)?;
    actor::process::add_to_linker::<_, HasSelf<ActorData>>(&mut linker, |data| data)?;
    actor::mailbox::add_to_linker::<_, HasSelf<ActorData>>(&mut linker, |data| data)?;
    actor::registry::add_to_linker::<_, HasSelf<ActorData>>(&mut linker, |data| data)?;
    actor::global::add_to_linker::<_, HasSelf<ActorData>>(&mut linker, |data| data)?;
    actor::groups::add_to_linker::<_, HasSelf<ActorData>>(&mut linker, |data| data)?;
    actor::node::add_to_linker::<_, HasSelf<ActorData>>(&mut linker, |data| data)?;
    actor::timer::add_to_linker::<_, HasSelf<ActorData>>(&mut linker, |data| data)?;
    actor::code::add_to_linker::<_, HasSelf<ActorData>>(&mut linker, |data| data)?;
    actor::io::add_to_linker::<_, HasSelf<ActorData>>(&mut linker, |data| data)?;
    Ok(linker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_have_32_bits() {
        let engine = Engine::new().unwrap();
        let module = |memories: &[u8]| {
            let section = [&[5, memories.len() as u8][..], memories].concat();
            let bytes = [b"\0asm\x01\0\0\0", &section[..]].concat();
            wasmtime::Module::validate(&engine.engine, &bytes)
        };
        // How many, then flags and pages of each.
        assert!(module(&[1, 0, 1]).is_ok());
        assert!(module(&[1, 4, 1]).is_err());
    }
}

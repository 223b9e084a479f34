//! The one engine of a node, and the linkers for components that wait and that do not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::bindings::wasm_node::actor;
use super::core::{self, Awake, MAX_AWAKE_ACTORS};
use super::data::ActorData;
use super::keyvalue;
use super::version::Version;

/// Linear memory that an actor may use unless its module sets another limit.
pub const DEFAULT_MEMORY_LIMIT_BYTES: usize = 128 << 20;

/// Address space reserved for each memory, and so the most that any actor can be granted.
pub const MAX_MEMORY_BYTES: usize = 256 << 20;

/// Instances that can exist at once, whatever the machine allows. At [`MAX_MEMORY_BYTES`] each
/// they reserve a fifth of the address space, and no memory until used.
const MAX_INSTANCES: u32 = 100_000;

/// Kernel mappings that an instance needs: its memory's image, heap and guard, and a share of
/// what the pool needs around them.
const MAPPINGS_PER_INSTANCE: u32 = 4;

/// Kernel mappings kept for everything else: threads, fibers, files, the allocator. Without
/// them the process cannot even start a thread, and aborts.
const MAPPINGS_RESERVED: u32 = 12_000;

/// Linux' own default for `vm.max_map_count`.
const DEFAULT_MAX_MAP_COUNT: u32 = 65_530;

/// Core instances in one component: Python's have 14.
const MAX_CORE_INSTANCES_PER_COMPONENT: u32 = 32;

/// Linear memories in one component: QuickJS' has three.
const MAX_MEMORIES_PER_COMPONENT: u32 = 8;

/// Elements of a table: the largest seen is 7,691 (Python).
const MAX_TABLE_ELEMENTS: usize = 16_384;

/// Fibers that can exist at once: actors that may wait in the middle of a turn. Each costs two
/// kernel mappings from the node's start on, out of [`MAPPINGS_RESERVED`].
const MAX_FIBERS: u32 = 3_000;

/// Stack for wasm in one call.
const WASM_STACK_BYTES: usize = 512 << 10;

/// Stack of a fiber: wasm's, and the host functions' above it.
const FIBER_STACK_BYTES: usize = 1 << 20;

/// Memory that a slot keeps between actors, so that the next one starts on warm pages.
const KEEP_RESIDENT_BYTES: usize = 128 << 10;

/// wasmtime, configured for many small actors.
#[derive(Clone)]
pub struct Engine {
    engine: wasmtime::Engine,
    plain: Linker<ActorData>,
    core: wasmtime::Linker<ActorData>,
    awake: Arc<Awake>,
    sleepless: Arc<AtomicUsize>,
    full: Linker<ActorData>,
}

impl Engine {
    /// Makes the engine. Fails only if the operating system refuses the address space.
    pub fn new() -> wasmtime::Result<Self> {
        let instances = instance_limit();
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(instances)
            .total_core_instances(instances * 8)
            .total_memories(instances)
            .total_tables(instances * 2)
            .total_stacks(MAX_FIBERS)
            .max_core_instances_per_component(MAX_CORE_INSTANCES_PER_COMPONENT)
            .max_component_instance_size(1 << 20)
            .max_core_instance_size(1 << 20)
            .max_tables_per_component(8)
            .max_memories_per_component(MAX_MEMORIES_PER_COMPONENT)
            .table_elements(MAX_TABLE_ELEMENTS)
            .max_memory_size(MAX_MEMORY_BYTES)
            .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
            .table_keep_resident(16 << 10)
            .pagemap_scan(Enabled::Auto)
            .max_unused_warm_slots(1_000);
        let mut config = Config::new();
        config
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
            .concurrency_support(false)
            .epoch_interruption(true)
            .memory_reservation(MAX_MEMORY_BYTES as u64)
            .memory_guard_size(64 << 10)
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
            sleepless: Arc::default(),
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

    /// Counts the actors that cannot be put aside.
    pub(super) fn sleepless(&self) -> Arc<AtomicUsize> {
        self.sleepless.clone()
    }

    /// Whether there is room for another actor of a version.
    pub fn has_room_for(&self, version: &Version) -> bool {
        version.can_sleep() || self.sleepless.load(Ordering::Relaxed) < max_sleepless_actors()
    }

    /// Links all others.
    pub(super) fn full(&self) -> &Linker<ActorData> {
        &self.full
    }
}

/// Actors that can have an instance for good, as they cannot be put aside as data: what is left
/// by those that can, less some for moves to new versions, in which an actor has two for a moment.
fn max_sleepless_actors() -> usize {
    static LIMIT: OnceLock<usize> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        let instances = instance_limit() as usize;
        (instances - instances / 20).saturating_sub(3 * MAX_AWAKE_ACTORS)
    })
}

/// Instances that fit into the mappings that the kernel grants one process.
fn instance_limit() -> u32 {
    let setting = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok();
    let mappings = setting
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(DEFAULT_MAX_MAP_COUNT);
    let instances = mappings.saturating_sub(MAPPINGS_RESERVED) / MAPPINGS_PER_INSTANCE;
    instances.clamp(4 * MAX_AWAKE_ACTORS as u32, MAX_INSTANCES)
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

//! Instances of core modules: made, called, emptied and used again, put aside as data.
//!
//! Owns what an instance consists of. Contract: an instance that is used again, or filled from
//! data, cannot be told from a new one, or from the one that the data was taken from: all of its
//! state is its memory and its mutable globals, which `shape` has made sure of. The host's
//! cost of a new actor falls by that to what the actor itself touches.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use wasmtime::{
    AsContextMut, Extern, Func, InstancePre, Module, ModuleExport, Result, Store, Val, ValRaw,
    ValType, bail, format_err,
};

use super::abi::{Guest, Lift, Space};
use super::awake::{Awake, Visit};
use super::image::{Changes, Image};
use super::shape::{CoreModule, INITIALIZE, global_name};
use crate::wasm::bindings::wasm_node::actor::types as wit;
use crate::wasm::data::ActorData;

/// Empty instances kept for each version of a module; more are dropped.
const MAX_WARM_INSTANCES: usize = 64;

/// Wasm's page.
const WASM_PAGE_BYTES: usize = 64 << 10;

/// A version's code.
pub(in crate::wasm) struct CoreCode {
    pre: InstancePre<ActorData>,
    names: Names,
    restorable: bool,
    /// `None` in it if no two instances are alike.
    fresh: OnceLock<Option<Fresh>>,
    /// The one used last comes first: its pages are in the cache.
    #[expect(clippy::vec_box, reason = "the boxes move between here and the actors")]
    warm: Mutex<Vec<Box<CoreInstance>>>,
    awake: Arc<Awake>,
}

/// Where the module's exports are.
struct Names {
    memory: ModuleExport,
    realloc: ModuleExport,
    initialize: Option<ModuleExport>,
    free_lists: Option<ModuleExport>,
    more_waits: Option<ModuleExport>,
    functions: [Option<ModuleExport>; FUNCTIONS],
    globals: Vec<ModuleExport>,
}

const FUNCTIONS: usize = 6;
/// `lifecycle`'s functions, and what each wants to be called with its result after it was read.
const EXPORTS: [(&str, &[ValType], usize); FUNCTIONS] = [
    (
        "wasm-node:actor/lifecycle@0.1.0#init",
        &[ValType::I32, ValType::I32, ValType::I32],
        1,
    ),
    ("wasm-node:actor/lifecycle@0.1.0#turn", &[], 1),
    ("wasm-node:actor/lifecycle@0.1.0#save", &[], 1),
    (
        "cabi_post_wasm-node:actor/lifecycle@0.1.0#init",
        &[ValType::I32],
        0,
    ),
    (
        "cabi_post_wasm-node:actor/lifecycle@0.1.0#turn",
        &[ValType::I32],
        0,
    ),
    (
        "cabi_post_wasm-node:actor/lifecycle@0.1.0#save",
        &[ValType::I32],
        0,
    ),
];
/// What give addresses; see `wit/actor.wit`.
const FREE_LISTS: &str = "wasm-node:free-lists";
const MORE_WAITS: &str = "wasm-node:more-waits";
const REALLOC: (&str, &[ValType]) = ("cabi_realloc", &[const { ValType::I32 }; 4]);

#[derive(Clone, Copy)]
enum Function {
    Init = 0,
    Turn = 1,
    Save = 2,
}

/// What every new instance is.
struct Fresh {
    memory: Image,
    globals: Vec<Val>,
}

/// The actor may not even have the memory that its module begins with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::wasm) struct MemoryLimit(pub(in crate::wasm) String);

/// An actor's instance, or one that waits for an actor.
pub(in crate::wasm) struct CoreInstance {
    store: Store<ActorData>,
    space: Space,
    functions: [Option<Func>; FUNCTIONS],
    globals: Box<[wasmtime::Global]>,
    /// While an actor that could sleep has it.
    visit: Option<Visit>,
}

/// All of an actor's state between turns.
pub(in crate::wasm) struct Asleep {
    memory_bytes: usize,
    changes: Changes,
    globals: Vec<Val>,
}

impl Asleep {
    /// What is kept of the actor's memory, in bytes.
    pub(in crate::wasm) fn kept_bytes(&self) -> usize {
        self.changes.bytes()
    }
}

impl CoreCode {
    /// Links a module of `shape::unbundle`.
    pub(in crate::wasm) fn link(
        linker: &wasmtime::Linker<ActorData>,
        module: &Module,
        CoreModule {
            globals,
            initializes,
            restorable,
            ..
        }: &CoreModule,
        awake: Arc<Awake>,
    ) -> Result<Self> {
        let export = |name: &str| module.get_export_index(name);
        let missing = |name: &str| format_err!("the module exports no {name}");
        require_type(module, REALLOC.0, REALLOC.1, 1)?;
        let mut functions = [const { None }; FUNCTIONS];
        for (found, (name, params, results)) in functions.iter_mut().zip(EXPORTS) {
            *found = export(name);
            match found {
                Some(_) => require_type(module, name, params, results)?,
                None if results > 0 => return Err(missing(name)),
                None => {}
            }
        }
        let initialize = match *initializes {
            true => {
                require_type(module, INITIALIZE, &[], 0)?;
                export(INITIALIZE)
            }
            false => None,
        };
        let address = |name: &str| {
            let found = export(name);
            if found.is_some() {
                require_type(module, name, &[], 1)?;
            }
            Ok::<_, wasmtime::Error>(found)
        };
        let (free_lists, more_waits) = (address(FREE_LISTS)?, address(MORE_WAITS)?);
        let globals = (0..*globals).map(global_name);
        let globals = globals.map(|name| export(&name).ok_or_else(|| missing(&name)));
        Ok(Self {
            pre: linker.instantiate_pre(module)?,
            names: Names {
                memory: export("memory").ok_or_else(|| missing("memory"))?,
                realloc: export(REALLOC.0).ok_or_else(|| missing(REALLOC.0))?,
                initialize,
                free_lists,
                more_waits,
                functions,
                globals: globals.collect::<Result<_>>()?,
            },
            restorable: *restorable,
            fresh: OnceLock::new(),
            warm: Mutex::default(),
            awake,
        })
    }

    /// An instance for an actor, in which nothing has run.
    pub(in crate::wasm) fn occupy(&self, data: ActorData) -> Result<Box<CoreInstance>> {
        let process = data.process.clone();
        let warm = self.warm.lock().pop();
        let mut instance = match warm {
            Some(mut instance) => {
                *instance.store.data_mut() = data.with_space(instance.space);
                instance
            }
            None => self.instantiate(data)?,
        };
        let memory_bytes = instance.space.memory.data_size(&instance.store);
        instance.store.data_mut().memory_bytes = memory_bytes;
        if !instance.store.data_mut().may_have(memory_bytes) {
            // Not what the module is to blame for: the next actor may have more.
            let limit = instance.store.data_mut().refused().unwrap_or_default();
            self.vacate(instance);
            return Err(MemoryLimit(limit).into());
        }
        // The first instance has settled whether they can sleep.
        let can_sleep = self.fresh.get().is_some_and(Option::is_some);
        instance.visit = can_sleep.then(|| self.awake.enter(&process));
        Ok(instance)
    }

    /// Gives an instance back whose last call returned: neither trapped nor runs.
    pub(in crate::wasm) fn vacate(&self, mut instance: Box<CoreInstance>) {
        instance.visit = None;
        let Some(fresh) = self.fresh.get().and_then(Option::as_ref) else {
            return;
        };
        let memory = instance.space.memory.data_mut(&mut instance.store);
        // A memory never shrinks.
        if memory.len() != fresh.memory.bytes() || self.warm.lock().len() >= MAX_WARM_INSTANCES {
            return;
        }
        fresh.memory.restore(memory);
        if instance.set_globals(&fresh.globals).is_ok() {
            self.warm.lock().push(instance);
        }
    }

    /// Puts an actor's state aside; its instance is free again.
    pub(in crate::wasm) fn sleep(
        &self,
        mut instance: Box<CoreInstance>,
    ) -> std::result::Result<Asleep, Box<CoreInstance>> {
        let Some(fresh) = self.fresh.get().and_then(Option::as_ref) else {
            return Err(instance);
        };
        let memory = instance.space.memory.data(&instance.store);
        let asleep = Asleep {
            memory_bytes: memory.len(),
            changes: fresh.memory.changes(memory),
            globals: instance.get_globals(),
        };
        self.vacate(instance);
        Ok(asleep)
    }

    /// Fills an instance with an actor's state.
    pub(in crate::wasm) fn wake(
        &self,
        asleep: &Asleep,
        data: ActorData,
    ) -> Result<Box<CoreInstance>> {
        let mut instance = self.occupy(data)?;
        let (store, memory) = (&mut instance.store, instance.space.memory);
        let missing = asleep
            .memory_bytes
            .saturating_sub(memory.data_size(&*store));
        if missing > 0 {
            memory.grow(&mut *store, (missing / WASM_PAGE_BYTES) as u64)?;
        }
        asleep.changes.apply(memory.data_mut(store));
        instance.set_globals(&asleep.globals)?;
        Ok(instance)
    }

    fn instantiate(&self, data: ActorData) -> Result<Box<CoreInstance>> {
        let mut store = data.into_store(self.pre.module().engine());
        let instance = match self.pre.instantiate(&mut store) {
            Ok(instance) => instance,
            Err(error) => {
                let limit = store.data_mut().refused();
                return Err(limit.map_or(error, |limit| MemoryLimit(limit).into()));
            }
        };
        let gone = || format_err!("an export is not what it was");
        let mut find = |export: &ModuleExport| instance.get_module_export(&mut store, export);
        let function = |found: Option<Extern>| found.and_then(Extern::into_func);
        let memory = find(&self.names.memory).and_then(Extern::into_memory);
        let realloc = function(find(&self.names.realloc));
        let initialize = self.names.initialize.as_ref();
        let initialize = initialize.and_then(|name| function(find(name)));
        let mut address_function = |name: &Option<ModuleExport>| {
            let name = name.as_ref();
            name.and_then(|name| function(find(name)))
        };
        let free_lists = address_function(&self.names.free_lists);
        let more_waits = address_function(&self.names.more_waits);
        let mut space = Space {
            memory: memory.ok_or_else(gone)?,
            realloc: realloc.ok_or_else(gone)?,
            free_lists: None,
            more_waits: None,
            initializing: initialize.is_some(),
        };
        let names = &self.names.functions;
        let functions =
            std::array::from_fn(|at| names[at].as_ref().and_then(|name| function(find(name))));
        let globals = self.names.globals.iter().map(|name| {
            let global = find(name).and_then(Extern::into_global);
            global.ok_or_else(gone)
        });
        let globals = globals.collect::<Result<_>>()?;
        store.data_mut().space = Some(space);
        if let Some(initialize) = initialize {
            // SAFETY: `link` has checked that there are no parameters and no results.
            unsafe { initialize.call_unchecked(&mut store, &mut [] as &mut [ValRaw])? };
            space.initializing = false;
            store.data_mut().space = Some(space);
        }
        let mut address = |function: Option<Func>| {
            let Some(function) = function else {
                return Ok(None);
            };
            let mut call = [ValRaw::u32(0)];
            // SAFETY: `link` has checked that there are no parameters, and one result, an i32.
            unsafe { function.call_unchecked(&mut store, &mut call)? };
            Ok::<_, wasmtime::Error>(Some(call[0].get_u32()))
        };
        space.free_lists = address(free_lists)?;
        space.more_waits = address(more_waits)?;
        store.data_mut().space = Some(space);
        let mut instance = Box::new(CoreInstance {
            store,
            space,
            functions,
            globals,
            visit: None,
        });
        if self.fresh.get().is_none() {
            let alike = self.restorable && !instance.store.data().initialized_by_host;
            let fresh = alike.then(|| Fresh {
                memory: Image::of(space.memory.data(&instance.store)),
                globals: instance.get_globals(),
            });
            // Two first ones are equal.
            let _ = self.fresh.set(fresh);
        }
        Ok(instance)
    }
}

fn require_type(module: &Module, name: &str, params: &[ValType], results: usize) -> Result<()> {
    let export = module.get_export(name);
    let Some(ty) = export.as_ref().and_then(|export| export.func()) else {
        bail!("the module exports no function {name}");
    };
    let fits = ty.params().len() == params.len()
        && ty
            .params()
            .zip(params)
            .all(|(is, want)| ValType::eq(&is, want))
        && ty.results().len() == results
        && ty.results().all(|is| ValType::eq(&is, &ValType::I32));
    match fits {
        true => Ok(()),
        false => bail!("{name} has the type {ty}, which the canonical ABI does not give it"),
    }
}

impl CoreInstance {
    /// Its linear memory, in bytes.
    pub(in crate::wasm) fn memory_bytes(&self) -> usize {
        self.store.data().memory_bytes
    }

    /// The data behind its imports.
    pub(in crate::wasm) fn data_mut(&mut self) -> &mut ActorData {
        self.store.data_mut()
    }

    /// `lifecycle.init`.
    pub(in crate::wasm) fn init(
        &mut self,
        start: &wit::Start,
    ) -> Result<Result<wit::Outcome, wit::ExitReason>> {
        let (tag, bytes) = match start {
            wit::Start::Fresh(args) => (0, args),
            wit::Start::Restored(saved) => (1, saved),
        };
        let at = Guest::new(self.store.as_context_mut(), self.space).bytes(bytes)?;
        let mut call = [
            ValRaw::u32(tag),
            ValRaw::u32(u32::try_from(at)?),
            ValRaw::u32(u32::try_from(bytes.len())?),
        ];
        self.call(Function::Init, &mut call, |result| {
            matches!(result, Err(_) | Ok(wit::Outcome::Stop(_)))
        })
    }

    /// `lifecycle.turn`.
    pub(in crate::wasm) fn turn(&mut self) -> Result<wit::Outcome> {
        self.store.set_epoch_deadline(1);
        let owns = |outcome: &wit::Outcome| matches!(outcome, wit::Outcome::Stop(_));
        self.call(Function::Turn, &mut [ValRaw::u32(0)], owns)
    }

    /// `lifecycle.save`.
    pub(in crate::wasm) fn save(&mut self) -> Result<Result<Vec<u8>, wit::SaveError>> {
        self.store.set_epoch_deadline(1);
        self.call(Function::Save, &mut [ValRaw::u32(0)], |_| true)
    }

    /// Calls a function, reads what its result points to, and, if that owns memory, lets the
    /// guest free it.
    fn call<T: Lift>(
        &mut self,
        function: Function,
        call: &mut [ValRaw],
        owns: fn(&T) -> bool,
    ) -> Result<T> {
        let Some(callee) = self.functions[function as usize] else {
            bail!("an export is missing");
        };
        // SAFETY: `require_type` has checked the parameters, which the callers give by type, and
        // that there is one result, an i32; there is room for it.
        unsafe { callee.call_unchecked(&mut self.store, call)? };
        let at = call[0].get_u32();
        if !(at as usize).is_multiple_of(T::ALIGN) {
            bail!("a result is not aligned");
        }
        let result = T::load(self.space.memory.data(&self.store), at as usize)?;
        let post = self.functions[function as usize + Function::Save as usize + 1];
        if let Some(post) = post.filter(|_| owns(&result)) {
            // SAFETY: as above; one parameter, no result.
            unsafe { post.call_unchecked(&mut self.store, &mut [ValRaw::u32(at)])? };
        }
        Ok(result)
    }

    fn get_globals(&mut self) -> Vec<Val> {
        let globals = self.globals.iter();
        globals.map(|global| global.get(&mut self.store)).collect()
    }

    fn set_globals(&mut self, values: &[Val]) -> Result<()> {
        for (global, value) in self.globals.iter().zip(values) {
            global.set(&mut self.store, *value)?;
        }
        Ok(())
    }
}

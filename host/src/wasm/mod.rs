//! The narrow waist to wasmtime: components become [`Program`](crate::process::Program)s.
//!
//! Owns: the engine and its configuration, linking, the data behind each instance, and the
//! translation of each interface of `wit/`. Contract: a component that imports nothing that
//! can wait runs as plain synchronous calls; any other on a fiber; a trap ends one actor.
//!
//! Does not decide: which version is current, what a module may do, where actors live. It
//! asks [`Services`].

mod bindings;
mod core;
mod data;
mod engine;
mod imports;
pub mod keyvalue;
mod memory;
mod needs;
mod program;
mod services;
mod stack;
mod stdio;
mod values;
mod version;
mod wasi;

pub use core::{CoreModule, MAX_AWAKE_ACTORS, unbundle};
pub use data::ActorData;
pub use engine::{DEFAULT_MEMORY_LIMIT_BYTES, Engine};
pub use needs::{Imports, Need};
pub use program::{Home, WasmProgram, http_store, trap_reason};
pub use services::{Grants, ModuleInfo, NodeSet, Services};
pub use version::{
    About, Compiled, Flavour, Identity, LinkError, ModuleSlot, UpgradeReport, Version,
};

//! Actors without the component layer: a component that holds one core module, and imports
//! nothing but this contract, runs as that module.
//!
//! Owns: recognising such components, the canonical ABI for the contract's types, the imports in
//! that form, and the instances. Contract: what such a component does cannot be told from what
//! it would do under wasmtime's component layer, except by the clock: a call there costs some
//! 150 ns, and an instance three core instances with their tables. Does not know turns, versions,
//! or processes beyond the data of a store.

mod abi;
#[cfg(test)]
mod abi_tests;
mod awake;
mod image;
mod instance;
mod linker;
mod shape;
#[cfg(test)]
mod test_modules;
#[cfg(test)]
mod tests;

pub(super) use abi::Space;
pub(super) use awake::Awake;
pub use awake::MAX_AWAKE_ACTORS;
pub(super) use instance::{Asleep, CoreCode, CoreInstance, MemoryLimit};
pub(super) use linker::linker;
pub use shape::{CoreModule, unbundle};

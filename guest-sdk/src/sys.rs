//! The imports that the runtime stands on: the host's, or in this crate's own tests a double.

#[cfg(not(test))]
pub(crate) use crate::bindings::wasm_node::actor::{global, groups, io, mailbox, process, timer};

#[cfg(test)]
pub(crate) use crate::fake::{global, groups, io, mailbox, process, timer};

//! wasm-node: a node in the sense of Erlang whose actors are WebAssembly components.
//!
//! ARCHITECTURE.md is the map. Dependencies point one way: values and machines (crate
//! `wasm-node-protocol`), [`process`], then wasm, distribution, code, storage and HTTP, then
//! the composition root, then the command line.

pub mod app;
pub mod bench;
pub mod build;
pub mod cli;
pub mod code;
pub mod contract;
pub mod control;
pub mod dist;
pub mod http;
pub mod node;
mod panic;
pub mod process;
pub mod store;
pub mod wasm;

//! The SDK for wasm-node actors in Rust.
//!
//! It owns everything between the host's contract (`wit/`) and a user's type: a small
//! executor, so that waiting looks like `.await` while the actor holds no stack; [`GenServer`]
//! and tasks on top of it; typed references ([`ServerRef`]); wrappers of the imports. It
//! deliberately knows nothing of the host's inside: everything here could be written by
//! anyone from `wit/` alone.
//!
//! The [`guide`] leads from a first actor to a supervised application.
//!
//! A component is a crate of the type `cdylib` with one export macro:
//!
//! ```no_run
//! # fn main() {}
//! use serde::{Deserialize, Serialize};
//! use wasm_node_sdk::{CallReturn, Caller, GenServer, Init, Next};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Counter(i64);
//!
//! #[derive(Serialize, Deserialize)]
//! enum Ask {
//!     Get,
//!     Add(i64),
//! }
//!
//! impl GenServer for Counter {
//!     const MODULE: &'static str = "counter";
//!     type Args = i64;
//!     type Call = Ask;
//!     type Reply = i64;
//!     type Cast = i64;
//!
//!     async fn init(first: i64) -> Init<Self> {
//!         Init::Ok(Counter(first))
//!     }
//!     async fn handle_call(&mut self, ask: Ask, _from: Caller<i64>) -> CallReturn<i64> {
//!         if let Ask::Add(n) = ask {
//!             self.0 += n;
//!         }
//!         CallReturn::Reply(self.0)
//!     }
//!     async fn handle_cast(&mut self, n: i64) -> Next {
//!         self.0 += n;
//!         Next::Wait
//!     }
//! }
//! wasm_node_sdk::export_gen_server!(Counter);
//!
//! // In another actor:
//! use wasm_node_sdk::{ServerRef, StartError};
//!
//! async fn use_it() -> Result<(), StartError> {
//!     let counter = ServerRef::<Counter>::start(&1).global("visits").await?;
//!     counter.cast(5);
//!     match counter.call(Ask::Add(2)).await {
//!         Ok(n) => wasm_node_sdk::println!("{n}"),
//!         Err(error) => wasm_node_sdk::println!("no answer: {}", error.describe()),
//!     }
//!     Ok(())
//! }
//! ```

extern crate self as wasm_node_sdk;

pub mod actor;
pub mod agent;
#[cfg(all(feature = "allocator", target_arch = "wasm32"))]
mod allocator;
pub mod bindings;
pub mod blocking;
pub mod codec;
mod futures;
pub mod gen_server;
pub mod gen_state_machine;
pub mod groups;
#[cfg(any(doc, doctest))]
pub mod guide;
pub mod hashing;
pub mod inbox;
pub mod io;
pub mod key_registry;
#[cfg(feature = "keyvalue")]
pub mod keyvalue;
pub mod log;
pub mod node;
pub mod process;
pub mod registry;
pub mod rpc;
mod runtime;
pub mod server_ref;
mod snapshot;
pub mod supervisor;
mod sys;
pub mod task;
pub mod tasks;
#[cfg(all(not(target_arch = "wasm32"), any(test, feature = "testing")))]
pub mod testing;
pub mod time;
mod types;

#[cfg(feature = "http")]
pub mod http;

#[cfg(test)]
mod tests;

pub use actor::Actor;
pub use codec::{decode, encode};
pub use futures::{Either, join, join_all, race};
pub use gen_server::{CallReturn, Caller, GenServer, Info, Init, Next};
pub use gen_state_machine::{GenStateMachine, StateMachineRef};
pub use process::{
    Monitor, SpawnOptions, exit, link, monitor, request, self_pid, send, send_to, spawn, spawn_on,
    start, trap_exit, unlink,
};
pub use runtime::{Busy, spawn_local};
pub use server_ref::{
    DEFAULT_CALL_TIMEOUT, MultiReplies, Name, ServerRef, StartError, Starting, multi_call,
};
pub use time::{Elapsed, send_after, sleep, timeout};
pub use types::{
    CallError, Destination, ExitReason, Message, NodeEvent, NodeKind, Outcome, OutputKind, Pid,
    Ref, RegisterError, ReplyTo, SaveError, SpawnError, Start,
};

#[doc(hidden)]
pub use wit_bindgen::rt as __wit_bindgen_rt;

//! The host's side of each interface of `wit/`, one file an interface. They translate; the
//! process runtime and [`Services`](super::Services) decide.

mod blocking;
mod code;
mod global;
mod groups;
mod io;
mod mailbox;
mod node;
mod process;
mod registry;
mod timer;

use super::bindings::wasm_node::actor::types;
use super::data::ActorData;

impl types::Host for ActorData {}

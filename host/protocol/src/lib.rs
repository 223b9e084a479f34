//! What wasm-node nodes say to each other: the values, and the machines that decide.
//!
//! Everything here is pure. Time, randomness and bytes are arguments, effects are return
//! values; there is no socket, task, clock or thread. The same code therefore runs under
//! real connections in `wasm-node` and under the seeded simulator in `tests`.

pub mod capability;
pub mod cluster;
pub mod codec;
pub mod exit;
pub mod frame;
pub mod global;
pub mod groups;
pub mod handshake;
pub mod ids;
pub mod membership;
pub mod session;
pub mod signal;
pub mod time;

pub use capability::{Capabilities, Capability, CapabilityError, CapabilityKind};
pub use exit::{CallError, ExitReason, RegisterError, SpawnError};
pub use ids::{Digest, Incarnation, NodeName, Pid, Ref};
pub use signal::{
    Aliased, Destination, Limits, NodeEvent, NodeKind, OutputKind, Signal, SpawnOptions, Target,
};
pub use time::Millis;

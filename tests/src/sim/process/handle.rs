//! What an actor's state machine shares with the runtime around it, as little as it needs.

use wasm_node_protocol::{Incarnation, Pid, Signal};

/// What comes into an inbox.
#[derive(Debug)]
pub enum Incoming {
    /// From an actor, or on its behalf.
    Signal(Signal),
    /// The connection to that run of a node is down.
    NodeDown(Incarnation),
}

/// Where an actor keeps a short way to another: the simulator has none.
pub struct Process {
    /// Its identity.
    pub pid: Pid,
}

//! The other nodes, as the processes of this one see them.
//!
//! Owns the interface only: `node` implements it over the distribution.

use std::time::Duration;

use wasm_node_protocol::{Incarnation, NodeName, Pid, Signal, Target};

/// How sending to another node went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// On its way.
    Ok,
    /// On its way, but the sender should pause.
    Congested,
    /// That node is not connected; the signal is gone.
    NoConnection,
}

/// The other nodes, as the processes of this one see them. All calls come from any thread
/// and none blocks, except `wait_for_room`.
pub trait Network: Send + Sync {
    /// Sends a signal. From whom is what the signal itself says; if it says nothing, it is
    /// ordered with no other.
    fn send(&self, node: Incarnation, to: Target, signal: Signal) -> Sent;
    /// As `send`, in order with what the same process sent before.
    fn send_from(&self, _sender: Pid, node: Incarnation, to: Target, signal: Signal) -> Sent {
        self.send(node, to, signal)
    }
    /// Blocks the thread until there is room in the queue to that node, or the time is over.
    fn wait_for_room(&self, node: Incarnation, timeout: Duration);
    /// The run of that node that is connected.
    fn incarnation_of(&self, node: &NodeName) -> Option<Incarnation>;
    /// Who holds a global name, by what is known here.
    fn whereis(&self, name: &str) -> Option<Pid>;
    /// The name of a run of a node, if it is known.
    fn name_of(&self, _node: Incarnation) -> Option<NodeName> {
        None
    }
    /// An actor that held global names or was in groups has ended.
    fn actor_gone(&self, pid: Pid);
    /// A turn is over on this thread. From the first call on, what this thread sends may wait
    /// for the next, or for `flush`, to go out together.
    fn turn_over(&self) {}
    /// No turn follows on this thread for now: what it sent goes out.
    fn flush(&self) {}
    /// Called every [`super::EPOCH_TICK`] while anything runs; `long` if turns run long, so
    /// that what waits for the end of one must go out.
    fn look_after(&self, _long: bool) {}
    /// Waits, on a thread with nothing to run, for what other nodes send, or for `ring`; calls
    /// `risen` when the wait is over, then delivers what came. False at once if there is
    /// nothing to wait for, or another thread does.
    fn look_out(&self, _risen: &mut dyn FnMut()) -> bool {
        false
    }
    /// Ends the `look_out` of whoever waits there, or will next.
    fn ring(&self) {}
}

/// A node alone.
pub struct NoNetwork;

impl Network for NoNetwork {
    fn send(&self, _: Incarnation, _: Target, _: Signal) -> Sent {
        Sent::NoConnection
    }
    fn wait_for_room(&self, _: Incarnation, _: Duration) {}
    fn incarnation_of(&self, _: &NodeName) -> Option<Incarnation> {
        None
    }
    fn whereis(&self, _: &str) -> Option<Pid> {
        None
    }
    fn actor_gone(&self, _: Pid) {}
}

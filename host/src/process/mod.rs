//! The life of actors on one node, from spawn to the last signal.
//!
//! Owns: the table of processes, their mailboxes, links, monitors and pending requests, the
//! local registry, timers, and the threads that run turns. Contract: signals between two
//! actors keep their order; every link and monitor is answered exactly once; a process that
//! ends answers whatever still waits in its inbox; a turn that runs long holds up nobody.
//!
//! Does not know: wasm (a process runs a [`Program`]), sockets (remote pids go to a
//! [`Network`]), modules, HTTP.

mod actor;
mod crash;
mod future;
mod handle;
mod info;
mod io;
mod native;
mod network;
mod registry;
mod runtime;
mod scheduler;
mod spin;
mod table;
#[cfg(test)]
mod tests;
mod timers;
mod turns;
mod usage;

pub use actor::{Actor, AliasMode, Message, Vitals};
pub use future::FutureProgram;
pub use handle::Process;
pub use info::{Details, ProcessInfo, Status};
pub use io::{MAX_OUTPUT_BYTES, User};
pub use native::Native;
pub use network::{Network, NoNetwork, Sent};
pub use runtime::{Runtime, SpawnRequest};
pub use scheduler::EPOCH_TICK;

use std::sync::Arc;
use std::task::Poll;

use wasm_node_protocol::{Digest, ExitReason};

/// Messages that one turn may take before others get their turn.
pub const TURN_BUDGET_MESSAGES: u32 = 1_000;

/// Messages in an inbox at which senders on this node are suspended.
pub const MAILBOX_HIGH_MESSAGES: usize = 20_000;

/// Bytes in an inbox at which senders on this node are suspended.
pub const MAILBOX_HIGH_BYTES: usize = 32 << 20;

/// The longest that a sender to an overfull mailbox is suspended, for one message. After
/// that its message is taken, up to the mailbox' hard limit.
pub const SUSPEND_MAX: std::time::Duration = std::time::Duration::from_secs(5);

/// Messages in a mailbox beyond which its actor ends with a `limit` reason, unless its
/// module sets another.
pub const MAILBOX_LIMIT_MESSAGES: usize = 1_000_000;

/// Bytes in a mailbox beyond which its actor ends with a `limit` reason.
pub const MAILBOX_LIMIT_BYTES: usize = 512 << 20;

/// Timers that one actor may have running; beyond that it ends with a `limit` reason.
pub const MAX_TIMERS_PER_ACTOR: usize = 100_000;

/// Aliases that one actor may have active; beyond that it ends with a `limit` reason.
pub const MAX_ALIASES_PER_ACTOR: usize = 100_000;

/// Processes that a node can hold, as many as the BEAM by default (`+P`) and fewer than pids have
/// slots; beyond that a spawn fails with `too-many-actors`.
pub const MAX_PROCESSES: usize = 1 << 20;

/// The largest message body; sending a larger one is refused.
pub const MAX_BODY_BYTES: usize = 64 << 20;

/// What a process runs: an actor's code. Called by one worker thread at a time.
pub trait Program: Send {
    /// Goes on until the turn of this process is over. `Pending` if it waits in the middle of
    /// one: then it is called again after the process was woken or a signal arrived.
    fn run(&mut self, process: &Arc<Process>) -> Poll<Step>;

    /// Whether there is something to do although no message came: it has not begun, waits in
    /// the middle of a turn, or has a new version to move to.
    fn wants_turn(&self) -> bool;

    /// Which code it runs, if that has a version; also when it has just failed.
    fn code(&self) -> Option<Digest> {
        None
    }

    /// The linear memory that its state takes, in bytes; none of a program of the host's own.
    fn memory_bytes(&self) -> u64 {
        0
    }
}

/// How a turn ended, and what the process waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Still initialising; waits for the next message.
    Starting,
    /// Waits for the next message.
    Wait,
    /// Waits for the next message, or so many milliseconds.
    WaitFor(u32),
    /// The process ends.
    Stop(ExitReason),
}

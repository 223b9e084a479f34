//! Why things end or fail: reasons that keep their structure across nodes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::Pid;

/// Why an actor ended, or is asked to: Erlang's exit reason.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum ExitReason {
    /// It finished.
    #[error("normal")]
    Normal,
    /// Its supervisor or its node asked it to.
    #[error("shutdown")]
    Shutdown,
    /// The untrappable request to end; observers see [`ExitReason::Killed`].
    #[error("kill")]
    Kill,
    /// It was ended by [`ExitReason::Kill`].
    #[error("killed")]
    Killed,
    /// There was no such actor.
    #[error("noproc: there is no such actor")]
    NoProc,
    /// The connection to its node went down.
    #[error("noconnection: the connection to its node is down")]
    NoConnection,
    /// Its name is held by this actor.
    #[error("already started")]
    AlreadyStarted(Pid),
    /// Its code trapped; the text has the trap and a symbolised backtrace.
    #[error("trap: {0}")]
    Trap(String),
    /// It went over a limit; the text names the limit and its value.
    #[error("limit: {0}")]
    Limit(String),
    /// Its own words.
    #[error("error: {0}")]
    Error(String),
    /// Its own data.
    #[error("custom: {} bytes", .0.len())]
    Custom(Bytes),
    /// As [`ExitReason::Shutdown`], with data: Elixir's `{:shutdown, term}`.
    #[error("shutdown: {} bytes", .0.len())]
    ShutdownWith(Bytes),
}

/// Why a call got no reply.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum CallError {
    /// No reply within the time-out.
    #[error("timeout: no reply in time")]
    Timeout,
    /// No actor has that pid or name.
    #[error("noproc: there is no such actor")]
    NoProc,
    /// The node is not connected, or the connection went down meanwhile.
    #[error("noconnection: the connection to its node is down")]
    NoConnection,
    /// The callee ended before it replied.
    #[error("the callee ended: {0}")]
    Exit(ExitReason),
    /// The message is larger than the limit.
    #[error("the message is too large")]
    TooLarge,
}

/// Why an actor could not be started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum SpawnError {
    /// The node knows no module of that name.
    #[error("no module {0:?} on this node: put {0}.wasm into its module folder, or name a digest")]
    NoSuchModule(String),
    /// The code could not be fetched, compiled or linked, or needs what it is not granted; says
    /// why.
    #[error("{0}")]
    BadModule(String),
    /// The node has as many actors as it may.
    #[error("too many actors on this node")]
    TooManyActors,
    /// The node is not connected, or the connection went down meanwhile.
    #[error("noconnection: the connection to its node is down")]
    NoConnection,
    /// The local name asked for is taken.
    #[error("the name is taken")]
    NameTaken(Pid),
    /// Its `init` failed, or it ended before it was done with starting.
    #[error("init failed: {0}")]
    InitFailed(ExitReason),
}

/// Why a name was not registered, or a lock not taken.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum RegisterError {
    /// Held by this actor.
    #[error("the name is taken")]
    Taken(Pid),
    /// The name is empty, too long, or there are too many; says which.
    #[error("{0}")]
    BadName(String),
    /// No such actor on this node.
    #[error("noproc: there is no such actor on this node")]
    NoProc,
    /// The cluster did not agree in time.
    #[error("timeout: the cluster did not agree in time")]
    Timeout,
    /// The actor's node is not connected, or went down meanwhile.
    #[error("noconnection: the actor's node is not connected")]
    NoConnection,
    /// This node is in the smaller part of a divided cluster.
    #[error(
        "minority: this node sees {seen} of {known} nodes, itself included, which is no majority; \
         --partition-policy minority-refuses forbids it new names and locks until more are connected"
    )]
    Minority {
        /// How many nodes it sees, itself included.
        seen: u32,
        /// Of how many.
        known: u32,
    },
}

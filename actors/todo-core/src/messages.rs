//! What the to-do actors say to each other, as types. On the wire they are the SDK's codec's
//! business (postcard), so a variant's position matters between nodes: new ones go at the end.
//!
//! A server and its database worker talk in casts, both ways: a server whose handlers never
//! await can be saved, and so upgraded, at any moment, with its requests under way in its state.

use serde::{Deserialize, Serialize};

use crate::date::Date;
use crate::list::ListName;
use crate::log::Have;
use crate::record::{Change, Entry, Record, RequestId};

/// An actor: a pid as plain numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Address {
    /// The incarnation of its node.
    pub node: u64,
    /// Its place there.
    pub serial: u64,
}

/// To a list's server, answered by [`ServerReply`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ServerCall {
    /// Add an entry; answered when it is stored, or found to be here already.
    Add(Entry),
    /// Tell the titles of a day.
    Titles(Date),
}

/// What a list's server answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ServerReply {
    /// The entry is stored.
    Added,
    /// The titles of the day, in the order added.
    Titles(Vec<String>),
    /// The database could not answer, or not in time; says why. An add may or may not be stored.
    Unavailable(String),
}

/// From a database worker to a list's server on its node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ServerCast {
    /// The worker has got records of this list that this server did not write.
    Refresh,
    /// The answer to [`DatabaseCast::Store`]: the change is durable here, and on every other node
    /// that is connected, but for those that the worker has named in its log.
    Stored {
        /// As what.
        record: Record,
        /// The position after it.
        position: Position,
    },
    /// The other answer to [`DatabaseCast::Store`]: it could not be written.
    StoreFailed {
        /// Whose entry it is.
        request: RequestId,
        /// Why.
        why: String,
    },
    /// The answer to [`DatabaseCast::Load`].
    Loaded {
        /// In the order in which the worker got them.
        records: Vec<Record>,
        /// The position after them.
        position: Position,
        /// Whether there are more from there on.
        more: bool,
    },
    /// The other answer to [`DatabaseCast::Load`]: the store could not be read. Says why.
    LoadFailed(String),
}

/// To a node's cache: which actor is the list's server? It is started if there is none.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CacheCall(pub ListName);

/// What a node's cache answers; the error says why there is no server.
pub type CacheReply = Result<Address, String>;

/// What a list's server is started with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServerArgs {
    /// Its list.
    pub list: ListName,
    /// It ends when it has had no message for so long, in milliseconds.
    pub idle_ms: u32,
}

/// How far a server has read its list: which run of the worker, and how many of the list's
/// records, in the order in which that run got them. All zero is the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Position {
    /// The worker's run.
    pub run: u64,
    /// How many records.
    pub records: u64,
}

/// From a list's server to the worker of its node that keeps the list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DatabaseCast {
    /// Store a change, here and on all other nodes.
    Store {
        /// Whom to answer.
        from: Address,
        /// Of which list.
        list: ListName,
        /// What.
        change: Change,
    },
    /// Tell the list's records from a position on; from the start if that is of another run.
    /// Answered when the worker has caught up with its peers.
    Load {
        /// Whom to answer.
        from: Address,
        /// Which list.
        list: ListName,
        /// From where.
        position: Position,
    },
    /// From the worker to itself, behind all that waits: write what has come together.
    Flush,
}

/// From a worker to the one of the same number on another node, answered by [`PeerReply`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PeerCall {
    /// Store these records.
    Replicate(Vec<Record>),
    /// Which records are there and not here?
    Pull(Have),
}

/// What a worker answers another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PeerReply {
    /// The records are durable.
    Replicated,
    /// Some of the records that were asked for, or all.
    Pulled {
        /// In the order of their origins and numbers.
        records: Vec<Record>,
        /// Whether there are more.
        more: bool,
    },
    /// The store could not be written or read; says why.
    Failed(String),
}

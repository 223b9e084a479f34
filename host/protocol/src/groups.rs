//! Process groups, as Erlang's `pg`: named sets of actors, known everywhere.
//!
//! Each node is the only writer of facts about its own actors: it tells every visible peer
//! all of them when a link comes up, then each change. Reading is local; nothing ever waits.
//! An actor may join a group several times and leaves it as often. Membership ends with the
//! actor, and for observers with the link to its node.
//!
//! Deliberately does not know links or time; hidden nodes are kept away by the caller.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

use crate::ids::{NodeName, Pid};

/// The longest group name, in bytes; longer ones are refused.
pub const MAX_GROUP_BYTES: usize = 1024;

/// The most memberships of one node's actors; further joins are refused.
pub const MAX_MEMBERSHIPS_PER_NODE: usize = 1_000_000;

/// What nodes tell each other about their own actors.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum GroupsMessage {
    /// These joined. Also the full state after a link came up, in pieces.
    Join(Vec<(String, Pid)>),
    /// One left, once.
    Leave {
        /// The group.
        group: String,
        /// The actor.
        pid: Pid,
    },
}

/// What to do, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupsOutput {
    /// Send to that peer.
    Send {
        /// Which.
        to: NodeName,
        /// What.
        message: GroupsMessage,
    },
    /// For the look-up table: one more membership.
    Joined {
        /// The group.
        group: String,
        /// The actor.
        pid: Pid,
    },
    /// For the look-up table: one membership less.
    Left {
        /// The group.
        group: String,
        /// The actor.
        pid: Pid,
    },
    /// The peer broke a limit: close its link.
    Misbehaved {
        /// Which.
        node: NodeName,
        /// How.
        reason: String,
    },
}

/// Why an actor could not join. The caller's fault.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GroupError {
    /// Empty or too long.
    #[error("a group name must have 1 to {MAX_GROUP_BYTES} bytes")]
    BadName,
    /// [`MAX_MEMBERSHIPS_PER_NODE`].
    #[error("this node's actors are in {MAX_MEMBERSHIPS_PER_NODE} groups already")]
    TooMany,
}

/// The groups as this node knows them.
#[derive(Debug, Default)]
pub struct Groups {
    outputs: VecDeque<GroupsOutput>,
}

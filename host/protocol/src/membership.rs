//! Who is up: which links exist, which should.

use serde::{Deserialize, Serialize};

use crate::ids::NodeName;

/// One connection of this node to another, tried or up. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

/// Whom to dial.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DialTarget {
    /// A node by name, at this `host:port` if one is known; otherwise, or if that fails, at
    /// the port that the port mapper of its host tells.
    Node {
        /// Who should answer.
        name: NodeName,
        /// Where it said it listens.
        address: Option<String>,
    },
    /// Whoever answers at this `host:port`.
    Address(String),
}

/// What nodes tell each other about third ones.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MembershipMessage {
    /// The visible nodes that the sender is linked to, and where they listen.
    Nodes(Vec<(NodeName, Option<String>)>),
    /// A user cuts the two nodes apart: do not redial. The link closes next.
    Disconnect,
    /// The sender stops for good: do not redial. The link closes next.
    Leaving,
}

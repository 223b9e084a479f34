//! What membership is told, and what it wants done.

use serde::{Deserialize, Serialize};

use crate::global::RequestId;
use crate::handshake::{Peer, Refusal};
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
    /// The sender's view: tell it [`Self::Nodes`] if this node's is another.
    View {
        /// Of the visible nodes that it is linked to, and itself.
        digest: u64,
        /// Whether it wants this node's.
        answer: bool,
    },
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MembershipInput {
    /// Somebody wants a connection; answered by [`MembershipOutput::Connected`].
    Connect {
        /// Echoed in the answer.
        request: RequestId,
        /// To whom.
        target: DialTarget,
        /// Whether to go on trying, quietly, until it is up, should the first try fail.
        keep: bool,
    },
    /// Cut the connection to a node, until somebody asks for one again.
    Disconnect {
        /// Which.
        node: NodeName,
    },
    /// This node stops: tell all, close all.
    Leave,
    /// A handshake is done: confirmation sent (dialler) or read (acceptor).
    LinkUp {
        /// Which.
        link: LinkId,
        /// With whom.
        peer: Peer,
    },
    /// A link ended, before or after it was up: refused, unreachable, reset, silent, closed.
    /// Exactly once for each dial output and each accepted connection, also after
    /// [`MembershipOutput::Close`].
    LinkDown {
        /// Which.
        link: LinkId,
        /// Why, in words.
        reason: String,
        /// The peer's refusal, if that was the reason.
        refusal: Option<Refusal>,
    },
}

/// What to do, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MembershipOutput {
    /// Connect and shake hands.
    Dial {
        /// The new link.
        link: LinkId,
        /// To whom.
        target: DialTarget,
        /// What to put into [`Hello::asked`](crate::handshake::Hello::asked).
        asked: bool,
    },
    /// Send over a link that is up.
    Send {
        /// Which.
        link: LinkId,
        /// What.
        message: MembershipMessage,
    },
    /// Close a link after writing what was sent before.
    Close {
        /// Which.
        link: LinkId,
        /// Why, in words.
        reason: String,
    },
    /// A node is up.
    NodeUp {
        /// Over which link.
        link: LinkId,
        /// Who.
        peer: Peer,
    },
    /// A node is down.
    NodeDown {
        /// The link that was its own.
        link: LinkId,
        /// Who.
        peer: Peer,
        /// Why: one of the words of [`down`](super::down), then more for people.
        reason: String,
    },
    /// The answer to a connect request. Exactly once each.
    Connected {
        /// Which.
        request: RequestId,
        /// Who is connected, or what went wrong.
        result: Result<NodeName, String>,
    },
}

/// Deliberate mistakes, to prove that the simulator finds them.
#[cfg(feature = "mutations")]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mutations {
    /// Do not dial nodes that were lost.
    pub forget_lost_nodes: bool,
    /// Do not compare views.
    pub never_compare: bool,
    /// Do not answer connect requests that ran out of time.
    pub forget_requests: bool,
}

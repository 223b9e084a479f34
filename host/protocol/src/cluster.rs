//! One node's part in a cluster: membership, global names and groups, wired together.
//!
//! Owns the wiring and nothing else: what happens in which order when a link comes up or goes
//! down, so that a shell and the simulator run the same. One task owns a `Cluster`; it
//! passes in what happened and carries out the outputs in order.
//!
//! Deliberately does not know sockets; ticks belong to each link's own [`crate::session`].

use std::collections::VecDeque;

use bytes::Bytes;

use crate::codec::WireMessage;
use crate::exit::RegisterError;
use crate::global::RequestId;
use crate::groups::GroupError;
use crate::handshake::{Hello, Peer, Refusal};
use crate::ids::{Incarnation, NodeName, Pid};
use crate::membership::{DialTarget, LinkId};
use crate::time::Millis;

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClusterInput {
    /// Somebody wants a connection; answered by [`ClusterOutput::Connected`].
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
    /// [`ClusterOutput::Close`].
    LinkDown {
        /// Which.
        link: LinkId,
        /// Why, in words.
        reason: String,
        /// The peer's refusal, if that was the reason.
        refusal: Option<Refusal>,
    },
    /// A membership, global or groups message came over a link that is up. Others are
    /// ignored.
    Message {
        /// Which link.
        link: LinkId,
        /// What.
        message: WireMessage,
    },
    /// An actor of this node claims a global name; answered by [`ClusterOutput::Registered`].
    Register {
        /// Echoed in the answer.
        request: RequestId,
        /// The name.
        name: String,
        /// The actor.
        pid: Pid,
    },
    /// An actor of this node ended: its names and memberships go.
    ActorDown {
        /// Which.
        pid: Pid,
    },
    /// The deadline passed.
    Timer,
}

/// What to do, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClusterOutput {
    /// Connect and shake hands; the result is told by `LinkUp` or `LinkDown` with this link.
    Dial {
        /// The new link.
        link: LinkId,
        /// To whom.
        target: DialTarget,
        /// What to put into [`Hello::asked`].
        asked: bool,
    },
    /// Send in the control lane of a link that is up. If it ended meanwhile, drop it.
    Send {
        /// Which.
        link: LinkId,
        /// What.
        message: WireMessage,
    },
    /// Close a link (try to write what was sent before, for a moment), then report it down.
    Close {
        /// Which.
        link: LinkId,
        /// Why, in words.
        reason: String,
    },
    /// A node is up: from now on signals to it go over this link.
    NodeUp {
        /// Over which link.
        link: LinkId,
        /// Who.
        peer: Peer,
    },
    /// A node is down: each link and monitor across gets `noconnection`. Once for each
    /// `NodeUp`.
    NodeDown {
        /// The link that was its own.
        link: LinkId,
        /// Who.
        peer: Peer,
        /// Why, in words.
        reason: String,
    },
    /// The answer to a connect request.
    Connected {
        /// Which.
        request: RequestId,
        /// Who is connected, or what went wrong.
        result: Result<NodeName, String>,
    },
    /// The answer to a register request. Exactly once each.
    Registered {
        /// Which.
        request: RequestId,
        /// How it went.
        result: Result<(), RegisterError>,
    },
    /// For the look-up table of global names: this one's holder is now `pid`.
    NameInstalled {
        /// The name.
        name: String,
        /// Its holder.
        pid: Pid,
    },
    /// For the look-up table of global names: this one has no holder now.
    NameRemoved {
        /// The name.
        name: String,
    },
    /// Tell `loser`, an actor of this node, that it lost the name.
    NameConflict {
        /// The name.
        name: String,
        /// The actor that lost it.
        loser: Pid,
        /// Who holds it now.
        holder: Pid,
    },
    /// For the look-up table of groups: one more membership.
    GroupJoined {
        /// The group.
        group: String,
        /// The actor.
        pid: Pid,
    },
    /// For the look-up table of groups: one membership less.
    GroupLeft {
        /// The group.
        group: String,
        /// The actor.
        pid: Pid,
    },
}

/// One node's part in a cluster.
#[derive(Debug)]
pub struct Cluster {
    outputs: VecDeque<ClusterOutput>,
}

impl Cluster {
    /// A node alone. `hello` is what it says to others (its `asked` is ignored); `seed` is
    /// random and spreads the retries.
    pub fn new(hello: Hello, seed: u64) -> Self {
        let _ = (hello, seed);
        todo!()
    }

    /// Takes note of what happened by `now`.
    pub fn handle(&mut self, now: Millis, input: ClusterInput) {
        let _ = (now, input);
        todo!()
    }

    /// The next thing to do, if any. Carry them out in order.
    pub fn poll_output(&mut self) -> Option<ClusterOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Cluster::handle`] with [`ClusterInput::Timer`] at the latest.
    pub fn next_deadline(&self) -> Option<Millis> {
        todo!()
    }

    /// A connection was accepted: its number.
    pub fn accept_link(&mut self) -> LinkId {
        todo!()
    }

    /// Call when an outgoing link is about to send its hello.
    pub fn hello_sent(&mut self, link: LinkId) {
        let _ = link;
        todo!()
    }

    /// A hello came in on an accepted link ([`crate::handshake::Asked`]) or the answer to our
    /// own on a dialled one ([`crate::handshake::Greeted`]): shall the link be? On `Ok` go on
    /// with `accept`, on `Err` with `refuse`.
    ///
    /// # Errors
    /// Why not, for the peer.
    pub fn judge(&mut self, link: LinkId, peer: &Peer) -> Result<(), Refusal> {
        let _ = (link, peer);
        todo!()
    }

    /// Adds an actor of this node to a group, at once here and soon everywhere.
    ///
    /// # Errors
    /// The name is bad, or there are too many memberships.
    pub fn join(&mut self, group: &str, pid: Pid) -> Result<(), GroupError> {
        let _ = (group, pid);
        todo!()
    }

    /// Undoes one join; whether there was one.
    pub fn leave(&mut self, group: &str, pid: Pid) -> bool {
        let _ = (group, pid);
        todo!()
    }

    /// Gives up a global name that an actor of this node holds; whether one did.
    pub fn unregister(&mut self, name: &str) -> bool {
        let _ = name;
        todo!()
    }

    /// The node of an incarnation, this one included, also if it is down now (the latest few
    /// thousand are remembered).
    pub fn node_of(&self, incarnation: Incarnation) -> Option<&NodeName> {
        let _ = incarnation;
        todo!()
    }

    /// Which number people see in pids of that incarnation: 0 for this node, then in the
    /// order they were first met.
    pub fn node_number(&self, incarnation: Incarnation) -> Option<u32> {
        let _ = incarnation;
        todo!()
    }

    /// The peers that are up, with their links, sorted by name.
    pub fn peers(&self) -> impl Iterator<Item = (LinkId, &Peer)> {
        std::iter::empty()
    }

    /// Who holds a global name, as known here.
    pub fn whereis(&self, name: &str) -> Option<Pid> {
        let _ = name;
        todo!()
    }

    /// What this node says in hellos.
    pub fn hello(&self) -> &Hello {
        todo!()
    }
}

#[allow(unused)]
fn unused(_: Bytes) {}

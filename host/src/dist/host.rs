//! What the distribution asks of the node that it serves, and the values that pass between.

use std::sync::Arc;

use wasm_node_protocol::codec::{NodeReply, NodeRequest, WireMessage};
use wasm_node_protocol::global::{Conflict, QuestionId};
use wasm_node_protocol::groups::GroupEvent;
use wasm_node_protocol::handshake::Peer;
use wasm_node_protocol::{Incarnation, NodeEvent, Pid, Ref, RegisterError, Signal, Target};

use super::Dist;
use super::link::Link;

/// What the node does for the network. Implemented by the composition root, and by tests.
///
/// All of it is called on the distribution's own threads, must return quickly and never
/// wait. `deliver` and `request` of one peer are called in the order sent, after its
/// `node_up` and before its `node_down`. The other calls come one after another. It is
/// allowed to call [`Dist`] back.
pub trait Host: Send + Sync + 'static {
    /// The distribution is about to start: the first call of all, before any peer can reach
    /// this node. The place to keep the handle for the other calls to use.
    fn started(&self, _dist: &Dist) {}
    /// A signal came for an actor or a name of this node. One for nobody is dropped, or
    /// answered as the signal demands.
    fn deliver(&self, from: Incarnation, to: Target, signal: Signal) -> Delivered;
    /// Another host asks. The answer may be given later, from any thread; an answer that is
    /// dropped lets the asker's time-out run.
    fn request(&self, from: &Peer, request: NodeRequest, answer: Answer);
    /// A node is up: signals reach it from now on.
    fn node_up(&self, node: Incarnation, event: NodeEvent);
    /// A node is down, once for each `node_up`. Links and monitors across get `noconnection`.
    /// Record them before you send them: what is not recorded by now was never sent.
    fn node_down(&self, node: Incarnation, event: NodeEvent);
    /// The answer to [`Dist::claim`], exactly once.
    fn registered(&self, tag: Ref, owner: Pid, result: Result<(), RegisterError>);
    /// A group that an actor of this node monitors changed. In the order of the changes, after
    /// the look-up tables have them.
    fn group_told(&self, watcher: Pid, monitor: Ref, event: GroupEvent);
    /// An actor of this node lost a global name.
    fn name_conflict(&self, conflict: Conflict);
    /// Two parts of a cluster met, and an actor of this node says who keeps a global name: ask
    /// it, and answer with [`Dist::verdict`].
    fn resolve(&self, dispute: Dispute);
}

/// Two holders of a global name, and who decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dispute {
    /// For the answer.
    pub question: QuestionId,
    /// The name of the actor of this node to ask.
    pub resolver: String,
    /// The global name.
    pub name: String,
    /// The holder of this node.
    pub own: Pid,
    /// The other one.
    pub other: Pid,
}

/// How a delivery went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivered {
    /// There is room for more.
    Ok,
    /// It was the mailbox's fill: reading from that peer rests for a moment.
    Full,
}

/// How a request is answered.
pub struct Answer {
    link: Arc<Link>,
    id: u64,
}

impl Answer {
    pub(super) fn new(link: Arc<Link>, id: u64) -> Self {
        Self { link, id }
    }

    /// Answers. Nobody hears it if the link is down by now.
    pub fn send(self, reply: NodeReply) {
        self.link.push(&WireMessage::Reply { id: self.id, reply });
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.link.release_answer();
    }
}

/// Why a request to another host has no reply.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RequestError {
    /// The node is not connected, or its link went down meanwhile.
    #[error("noconnection: the connection to the node is down")]
    NoConnection,
    /// No reply in time.
    #[error("timeout: the node did not answer in time")]
    Timeout,
    /// The request is longer than a message may be.
    #[error("the request is too large to be sent")]
    TooLarge,
    /// Too many wait for their replies.
    #[error("{0} requests to that node wait for their replies already")]
    TooMany(usize),
}

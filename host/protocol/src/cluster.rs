//! One node's part in a cluster: membership, global names and groups, wired together.
//!
//! Owns the wiring and nothing else: what happens in which order when a link comes up or goes
//! down, so that a shell and the simulator run the same. One task owns a `Cluster`; it
//! passes in what happened and carries out the outputs in order.
//!
//! Deliberately does not know sockets; ticks belong to each link's own [`crate::session`].

use std::collections::VecDeque;
use std::sync::Arc;

use crate::codec::WireMessage;
use crate::exit::RegisterError;
use crate::global::{
    Conflict, Global, GlobalInput, GlobalOutput, NoVerdict, PartitionPolicy, QuestionId, RequestId,
    Requester, Wish,
};
use crate::groups::{ByGroup, GroupChange, GroupError, GroupEvent, GroupId, Groups, GroupsOutput};
use crate::handshake::{Hello, Peer, Refusal};
use crate::ids::{Incarnation, NodeName, Pid, Ref};
use crate::membership::{
    DialTarget, LinkId, Membership, MembershipInput, MembershipMessage, MembershipOutput,
};
use crate::signal::NodeKind;
use crate::time::Millis;

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClusterInput {
    /// A link came up or went down, or somebody wants one to.
    Membership(MembershipInput),
    /// A membership, global or groups message came over a link that is up. Others are
    /// ignored.
    Message {
        /// Which link.
        link: LinkId,
        /// What.
        message: WireMessage,
    },
    /// An actor of this node wants a global name or a lock; answered by
    /// [`ClusterOutput::Registered`].
    Claim {
        /// Echoed in the answer.
        request: RequestId,
        /// The actor.
        pid: Pid,
        /// What it wants.
        wish: Wish,
    },
    /// The answer to [`ClusterOutput::Resolve`].
    Verdict {
        /// What was asked.
        question: QuestionId,
        /// Who stays, if anybody, or that nobody says so.
        keep: Result<Option<Pid>, NoVerdict>,
    },
    /// An actor of this node ended: its names and memberships go.
    ActorDown {
        /// Which.
        pid: Pid,
    },
    /// The deadline passed.
    Timer,
}

impl From<MembershipInput> for ClusterInput {
    fn from(input: MembershipInput) -> Self {
        Self::Membership(input)
    }
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
    /// The answer to a claim. Exactly once each.
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
    /// Tell an actor of this node that it lost a name.
    NameConflict(Conflict),
    /// Ask the actor with a name on this node who keeps a global name; answered by
    /// [`ClusterInput::Verdict`].
    Resolve {
        /// Echoed in the answer.
        question: QuestionId,
        /// The actor's name on this node.
        resolver: String,
        /// The global name in conflict.
        name: String,
        /// The holder of this node.
        own: Pid,
        /// The holder of the other half.
        other: Pid,
        /// When the answer is too late.
        until: Millis,
    },
    /// For the look-up table of groups: so many memberships more or less.
    GroupChanged {
        /// The group.
        group: Arc<GroupId>,
        /// More or less.
        change: GroupChange,
        /// Whose; never none.
        pids: Vec<Pid>,
    },
    /// Tell an actor of this node of a group that it monitors.
    GroupTold {
        /// The actor.
        watcher: Pid,
        /// Its monitor.
        monitor: Ref,
        /// What happened.
        event: GroupEvent,
    },
}

/// One node's part in a cluster.
#[derive(Debug)]
pub struct Cluster {
    membership: Membership,
    global: Global,
    groups: Groups,
    /// The node that says, in this step, that it leaves for good.
    leaving: Option<NodeName>,
    outputs: VecDeque<ClusterOutput>,
}

impl Cluster {
    /// A node alone. `hello` is what it says to others (its `asked` is ignored); `seed` is
    /// random and spreads the retries.
    pub fn new(hello: Hello, seed: u64) -> Self {
        Self {
            global: Global::new(hello.name.clone(), seed ^ 0x676c_6f62_616c),
            groups: Groups::new(hello.incarnation),
            membership: Membership::new(hello, seed),
            leaving: None,
            outputs: VecDeque::new(),
        }
    }

    /// With this policy instead of [`PartitionPolicy::Available`].
    pub fn with_policy(self, policy: PartitionPolicy) -> Self {
        let global = self.global.with_policy(policy);
        Self { global, ..self }
    }

    /// Takes note of what happened by `now`.
    pub fn handle(&mut self, now: Millis, input: impl Into<ClusterInput>) {
        match input.into() {
            ClusterInput::Membership(input) => self.membership.handle(now, input),
            ClusterInput::Message { link, message } => self.message(now, link, message),
            ClusterInput::Claim { request, .. } if self.is_hidden() => {
                let why = "a hidden node takes no part in global names and locks".into();
                let result = Err(RegisterError::BadName(why));
                self.outputs
                    .push_back(ClusterOutput::Registered { request, result });
            }
            ClusterInput::Claim { request, pid, wish } => {
                self.global
                    .handle(now, GlobalInput::Claim { request, pid, wish });
            }
            ClusterInput::Verdict { question, keep } => {
                self.global
                    .handle(now, GlobalInput::Verdict { question, keep });
            }
            ClusterInput::ActorDown { pid } => {
                self.groups.actor_down(pid);
                self.global.handle(now, GlobalInput::ActorDown { pid });
            }
            ClusterInput::Timer => {
                self.membership.timer(now);
                self.global.handle(now, GlobalInput::Timer);
            }
        }
        self.settle(now);
    }

    /// The next thing to do, if any. Carry them out in order.
    pub fn poll_output(&mut self) -> Option<ClusterOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Cluster::handle`] with [`ClusterInput::Timer`] at the latest.
    pub fn next_deadline(&self) -> Option<Millis> {
        [self.membership.next_deadline(), self.global.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// A connection was accepted: its number.
    pub fn accept_link(&mut self) -> LinkId {
        self.membership.accept_link()
    }

    /// Call when an outgoing link is about to send its hello.
    pub fn hello_sent(&mut self, link: LinkId) {
        self.membership.hello_sent(link);
    }

    /// A hello came in on an accepted link ([`crate::handshake::Asked`]) or the answer to our
    /// own on a dialled one ([`crate::handshake::Greeted`]): shall the link be? On `Ok` go on
    /// with `accept`, on `Err` with `refuse`.
    ///
    /// # Errors
    /// Why not, for the peer.
    pub fn judge(&mut self, link: LinkId, peer: &Peer) -> Result<(), Refusal> {
        self.membership.judge(link, peer)
    }

    /// Adds actors of this node to a group, at once here and soon everywhere: [`Groups::join`].
    ///
    /// # Errors
    /// One is not of this node, or there are too many memberships.
    pub fn join(&mut self, now: Millis, group: GroupId, actors: &[Pid]) -> Result<(), GroupError> {
        let joined = self.groups.join(group, actors);
        self.settle(now);
        joined
    }

    /// Undoes one join for each time an actor is named; whether there was any.
    pub fn leave(&mut self, now: Millis, group: &GroupId, actors: &[Pid]) -> bool {
        let left = self.groups.leave(group, actors);
        self.settle(now);
        left
    }

    /// An actor of this node hears of each change of a group, or of a whole scope, from this
    /// moment on; returns the members now: [`Groups::monitor`].
    ///
    /// # Errors
    /// The names are bad, or there are too many monitors.
    pub fn monitor_groups(
        &mut self,
        monitor: Ref,
        watcher: Pid,
        scope: &str,
        group: Option<&str>,
    ) -> Result<ByGroup, GroupError> {
        self.groups.monitor(monitor, watcher, scope, group)
    }

    /// Ends a monitor of that actor; whether there was one.
    pub fn demonitor_groups(&mut self, monitor: Ref, watcher: Pid) -> bool {
        self.groups.demonitor(monitor, watcher)
    }

    /// Gives up a global name, at once if an actor of this node holds it, soon otherwise;
    /// whether any actor does.
    pub fn unregister(&mut self, now: Millis, name: &str) -> bool {
        let held = self.global.unregister(name);
        self.settle(now);
        held
    }

    /// An actor of this node lets a lock go, or gives up waiting for it; whether it held it.
    pub fn unlock(&mut self, now: Millis, resource: &str, requester: &Requester, pid: Pid) -> bool {
        let held = self.global.unlock(now, resource, requester, pid);
        self.settle(now);
        held
    }

    /// The node of an incarnation, this one included, also if it is down now (the latest few
    /// thousand are remembered).
    pub fn node_of(&self, incarnation: Incarnation) -> Option<&NodeName> {
        self.membership.node_of(incarnation)
    }

    /// Which number people see in pids of that incarnation: 0 for this node, then in the
    /// order they were first met.
    pub fn node_number(&self, incarnation: Incarnation) -> Option<u32> {
        self.membership.node_number(incarnation)
    }

    /// The peers that are up, with their links, sorted by name.
    pub fn peers(&self) -> impl Iterator<Item = (LinkId, &Peer)> {
        self.membership.peers()
    }

    /// Who holds a global name, as known here.
    pub fn whereis(&self, name: &str) -> Option<Pid> {
        self.global.whereis(name)
    }

    /// What this node says in hellos.
    pub fn hello(&self) -> &Hello {
        self.membership.own()
    }

    /// The names, for inspection.
    pub fn global(&self) -> &Global {
        &self.global
    }

    /// The groups, for inspection.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The names, to make mistakes in.
    #[cfg(feature = "mutations")]
    pub fn global_mut(&mut self) -> &mut Global {
        &mut self.global
    }

    /// The groups, to make mistakes in.
    #[cfg(feature = "mutations")]
    pub fn groups_mut(&mut self) -> &mut Groups {
        &mut self.groups
    }

    /// Membership, to make mistakes in.
    #[cfg(feature = "mutations")]
    pub fn membership_mut(&mut self) -> &mut Membership {
        &mut self.membership
    }

    fn is_hidden(&self) -> bool {
        self.hello().kind == NodeKind::Hidden
    }

    fn message(&mut self, now: Millis, link: LinkId, message: WireMessage) {
        let Some(peer) = self.membership.peer_of(link) else {
            return;
        };
        let from = peer.name.clone();
        match message {
            WireMessage::Membership(message) => {
                self.leaving = (message == MembershipMessage::Leaving).then_some(from);
                self.membership.receive(now, link, message);
            }
            WireMessage::Global(message) => {
                self.global
                    .handle(now, GlobalInput::Message { from, message });
            }
            WireMessage::Groups(message) => self.groups.message(&from, message),
            _ => {}
        }
    }

    /// Passes on what the machines want, until none wants anything. Membership goes first:
    /// the others hear of nodes from it.
    fn settle(&mut self, now: Millis) {
        loop {
            if let Some(output) = self.membership.poll_output() {
                self.on_membership(now, output);
            } else if let Some(output) = self.global.poll_output() {
                self.on_global(now, output);
            } else if let Some(output) = self.groups.poll_output() {
                self.on_groups(now, output);
            } else {
                self.leaving = None;
                return;
            }
        }
    }

    fn on_membership(&mut self, now: Millis, output: MembershipOutput) {
        self.outputs.push_back(match output {
            MembershipOutput::Dial {
                link,
                target,
                asked,
            } => ClusterOutput::Dial {
                link,
                target,
                asked,
            },
            MembershipOutput::Send { link, message } => ClusterOutput::Send {
                link,
                message: WireMessage::Membership(message),
            },
            MembershipOutput::Close { link, reason } => ClusterOutput::Close { link, reason },
            MembershipOutput::NodeUp { link, peer } => {
                if peer.kind == NodeKind::Visible && !self.is_hidden() {
                    let (node, incarnation) = (peer.name.clone(), peer.incarnation);
                    self.groups.node_up(node.clone(), incarnation);
                    self.global
                        .handle(now, GlobalInput::NodeUp { node, incarnation });
                }
                ClusterOutput::NodeUp { link, peer }
            }
            MembershipOutput::NodeDown { link, peer, reason } => {
                if peer.kind == NodeKind::Visible && !self.is_hidden() {
                    self.groups.node_down(&peer.name);
                    // If it is up again over another link already, its node-up follows, and
                    // says to the names that this one ended; but not if it is hidden now.
                    let mut up = self.membership.peers();
                    let follows =
                        up.any(|(_, up)| up.name == peer.name && up.kind == NodeKind::Visible);
                    if !follows {
                        let left = self.leaving.as_ref() == Some(&peer.name);
                        let node = peer.name.clone();
                        self.global
                            .handle(now, GlobalInput::NodeDown { node, left });
                    }
                }
                ClusterOutput::NodeDown { link, peer, reason }
            }
            MembershipOutput::Connected { request, result } => {
                ClusterOutput::Connected { request, result }
            }
        });
    }

    fn on_global(&mut self, now: Millis, output: GlobalOutput) {
        self.outputs.push_back(match output {
            GlobalOutput::Send { to, message } => {
                return self.send(&to, WireMessage::Global(message));
            }
            GlobalOutput::Misbehaved { node, reason } => return self.reject(now, node, reason),
            GlobalOutput::Registered { request, result } => {
                ClusterOutput::Registered { request, result }
            }
            GlobalOutput::Installed { name, pid } => ClusterOutput::NameInstalled { name, pid },
            GlobalOutput::Removed { name } => ClusterOutput::NameRemoved { name },
            GlobalOutput::NameConflict(conflict) => ClusterOutput::NameConflict(conflict),
            GlobalOutput::Resolve {
                question,
                resolver,
                name,
                own,
                other,
                until,
            } => ClusterOutput::Resolve {
                question,
                resolver,
                name,
                own,
                other,
                until,
            },
        });
    }

    fn on_groups(&mut self, now: Millis, output: GroupsOutput) {
        self.outputs.push_back(match output {
            GroupsOutput::Send { to, message } => {
                return self.send(&to, WireMessage::Groups(message));
            }
            GroupsOutput::Misbehaved { node, reason } => return self.reject(now, node, reason),
            GroupsOutput::Changed {
                group,
                change,
                pids,
            } => ClusterOutput::GroupChanged {
                group,
                change,
                pids,
            },
            GroupsOutput::Tell {
                watcher,
                monitor,
                event,
            } => ClusterOutput::GroupTold {
                watcher,
                monitor,
                event,
            },
        });
    }

    fn send(&mut self, to: &NodeName, message: WireMessage) {
        if let Some(link) = self.membership.link_to(to) {
            self.outputs
                .push_back(ClusterOutput::Send { link, message });
        }
    }

    fn reject(&mut self, now: Millis, node: NodeName, reason: String) {
        self.membership.reject(now, &node, &reason);
    }
}

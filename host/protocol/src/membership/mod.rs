//! Who is up: which links exist, which should, and who is told.
//!
//! Owns the set of links (dialled, accepted, up, closing), the decision between duplicates,
//! and the wish to be linked to nodes that were lost. Visible nodes form a full mesh: two that
//! link up tell each other whom else they are linked to, and dial those they lack. Hidden nodes
//! are told nobody and told of to nobody.
//!
//! Contract: at most one link a node is up. One `NodeUp` and one `NodeDown`, in this order, for
//! each link that came to life. A restarted node replaces its earlier run. A lost visible
//! node is redialled with growing, randomised pauses of [`REDIAL_MIN_MS`] to
//! [`REDIAL_MAX_MS`], unless a user disconnected it, or it left; then it stays away until one
//! side is asked to connect.
//!
//! Which of two simultaneous dials survives: an acceptor that has sent its own hello to the
//! same peer refuses if its name is the greater one; a dialler that has meanwhile answered
//! the same peer's hello goes on only if its name is the greater one. Both sides compute the
//! same from the same two names, so exactly one link is left, as in OTP.
//!
//! Deliberately does not know sockets or ticks; a silent peer is a link that the shell closed.

mod incarnations;

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::global::RequestId;
use crate::handshake::{Hello, MAX_ADDRESS_BYTES, Peer, Refusal};
use crate::ids::{Incarnation, NodeName};
use crate::signal::NodeKind;
use crate::time::{Millis, next_random};

use incarnations::Incarnations;
pub use incarnations::MAX_KNOWN_INCARNATIONS;

/// The first pause before a lost node is dialled again, in milliseconds (half to all of it).
pub const REDIAL_MIN_MS: u64 = 250;

/// The longest pause between dials of a lost node, in milliseconds (half to all of it).
pub const REDIAL_MAX_MS: u64 = 5_000;

/// For how long a lost node is dialled, in milliseconds (a day). Then it must come by itself.
pub const REDIAL_FOR_MS: u64 = 24 * 3600 * 1000;

/// How long a connect request waits, in milliseconds, when another dial is in the way.
pub const CONNECT_TIMEOUT_MS: u64 = 10_000;

/// The most peers up or wanted. More are refused with [`Refusal::Unavailable`], or not dialled.
pub const MAX_PEERS: usize = 1024;

/// The most connect requests that wait; more are answered with an error at once.
pub const MAX_CONNECT_REQUESTS: usize = 1024;

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

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MembershipInput {
    /// Somebody wants a connection; answered by [`MembershipOutput::Connected`].
    Connect {
        /// Echoed in the answer.
        request: RequestId,
        /// To whom.
        target: DialTarget,
        /// Whether to go on trying until it is up, should the first try fail.
        keep: bool,
    },
    /// Cut the connection to a node, until somebody asks for one again.
    Disconnect {
        /// Which.
        node: NodeName,
    },
    /// This node stops: tell all, close all.
    Leave,
    /// Close a link whose peer broke the protocol.
    Reject {
        /// Which.
        node: NodeName,
        /// What it did.
        reason: String,
    },
    /// A handshake is done.
    LinkUp {
        /// Which.
        link: LinkId,
        /// With whom.
        peer: Peer,
    },
    /// A link ended, at whatever stage.
    LinkDown {
        /// Which.
        link: LinkId,
        /// Why, in words.
        reason: String,
        /// The refusal, if that was the reason.
        refusal: Option<Refusal>,
    },
    /// From the peer of a link.
    Message {
        /// Which.
        link: LinkId,
        /// What.
        message: MembershipMessage,
    },
    /// The deadline passed.
    Timer,
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
        /// What to put into [`Hello::asked`].
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
        /// Why, in words.
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

#[derive(Debug)]
enum Link {
    /// Ours, until it is up.
    Dialled {
        target: DialTarget,
        asked: bool,
        stage: Stage,
    },
    /// Theirs, until it is up; with whom, once we have answered their hello.
    Accepted { answered: Option<NodeName> },
    /// Alive.
    Up { peer: Peer },
    /// Given up; the shell has still to say that it is down.
    Closing,
}

#[derive(Debug, PartialEq)]
enum Stage {
    /// No hello sent: the peer knows nothing of us.
    Connecting,
    /// Our hello is sent.
    Greeting,
    /// We accepted this peer's answer.
    Agreed(NodeName),
}

/// A node that is up, wanted, or kept away.
#[derive(Debug, Default)]
struct Node {
    up: Option<LinkId>,
    address: Option<String>,
    /// Dial it whenever it is not up.
    wanted: bool,
    /// A user wants it, also if it leaves in between.
    keep: bool,
    /// Dials count as asked for by a user, until one succeeds.
    asked: bool,
    /// This run of it was disconnected by a user.
    cut: Option<Incarnation>,
    retry: Retry,
}

#[derive(Debug, Default)]
struct Retry {
    attempts: u32,
    at: Option<Millis>,
    since: Millis,
}

#[derive(Debug)]
struct Request {
    id: RequestId,
    waits_for: WaitsFor,
    deadline: Millis,
}

#[derive(Debug, PartialEq)]
enum WaitsFor {
    Node(NodeName),
    Link(LinkId),
}

/// Who is up, as this node knows it.
#[derive(Debug)]
pub struct Membership {
    own: Hello,
    random: u64,
    next_link: u64,
    links: BTreeMap<LinkId, Link>,
    nodes: BTreeMap<NodeName, Node>,
    /// Addresses to keep trying until somebody answers there.
    seeds: BTreeMap<String, Retry>,
    requests: Vec<Request>,
    known: Incarnations,
    leaving: bool,
    outputs: VecDeque<MembershipOutput>,
}

impl Membership {
    /// A node alone, with what it says to others, and a seed to spread its retries.
    pub fn new(own: Hello, seed: u64) -> Self {
        let known = Incarnations::new(own.incarnation, own.name.clone());
        Self {
            own,
            random: seed,
            next_link: 0,
            links: BTreeMap::new(),
            nodes: BTreeMap::new(),
            seeds: BTreeMap::new(),
            requests: Vec::new(),
            known,
            leaving: false,
            outputs: VecDeque::new(),
        }
    }

    /// Takes note of what happened by `now`.
    pub fn handle(&mut self, now: Millis, input: MembershipInput) {
        match input {
            MembershipInput::Connect {
                request,
                target,
                keep,
            } => self.connect(now, request, target, keep),
            MembershipInput::Disconnect { node } => self.disconnect(&node),
            MembershipInput::Leave => self.leave(),
            MembershipInput::Reject { node, reason } => {
                if let Some(link) = self.nodes.get(&node).and_then(|node| node.up) {
                    self.close_up(now, link, &reason);
                }
            }
            MembershipInput::LinkUp { link, peer } => self.link_up(now, link, peer),
            MembershipInput::LinkDown {
                link,
                reason,
                refusal,
            } => {
                self.link_down(now, link, &reason, refusal.as_ref());
            }
            MembershipInput::Message { link, message } => self.message(now, link, message),
            MembershipInput::Timer => {}
        }
        self.timer(now);
    }

    /// The next thing to do, if any.
    pub fn poll_output(&mut self) -> Option<MembershipOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Membership::handle`] with [`MembershipInput::Timer`] at the latest.
    pub fn next_deadline(&self) -> Option<Millis> {
        let requests = self.requests.iter().map(|request| request.deadline);
        let nodes = self.nodes.values().filter_map(|node| node.retry.at);
        let seeds = self.seeds.values().filter_map(|retry| retry.at);
        requests.chain(nodes).chain(seeds).min()
    }

    /// A connection was accepted: its number.
    pub fn accept_link(&mut self) -> LinkId {
        self.new_link(Link::Accepted { answered: None })
    }

    /// A dialled link is about to send its hello.
    pub fn hello_sent(&mut self, link: LinkId) {
        if let Some(Link::Dialled { stage, .. }) = self.links.get_mut(&link) {
            *stage = Stage::Greeting;
        }
    }

    /// Whether a link whose peer has just introduced itself shall be.
    ///
    /// # Errors
    /// Why not.
    pub fn judge(&mut self, link: LinkId, peer: &Peer) -> Result<(), Refusal> {
        let Some(state) = self.links.get(&link) else {
            return Err(Refusal::Unavailable("the connection was given up".into()));
        };
        let (dialled, asked) = match state {
            Link::Dialled { asked, .. } => (true, *asked),
            Link::Accepted { .. } => (false, peer.asked),
            Link::Up { .. } | Link::Closing => {
                return Err(Refusal::Unavailable("the connection was given up".into()));
            }
        };
        if self.leaving {
            return Err(Refusal::Unavailable("this node is stopping".into()));
        }
        if self.known.is_superseded(peer.incarnation) {
            return Err(Refusal::Superseded);
        }
        if self
            .up_peer(&peer.name)
            .is_some_and(|up| up.incarnation == peer.incarnation)
        {
            return Err(Refusal::AlreadyConnected);
        }
        let node = self.nodes.get(&peer.name);
        if !asked && node.is_some_and(|node| node.cut == Some(peer.incarnation)) {
            return Err(Refusal::Disconnected);
        }
        if node.is_none() && self.nodes.len() >= MAX_PEERS {
            return Err(Refusal::Unavailable(format!(
                "this node knows {MAX_PEERS} others already"
            )));
        }
        let ours_survives = self.own.name > peer.name;
        let others = || {
            self.links
                .iter()
                .filter(|(id, _)| **id != link)
                .map(|(_, other)| other)
        };
        for other in others() {
            match other {
                Link::Dialled {
                    stage: Stage::Agreed(name),
                    ..
                } if *name == peer.name => {
                    return Err(Refusal::AlreadyConnected);
                }
                Link::Dialled {
                    target: DialTarget::Node { name, .. },
                    stage: Stage::Greeting,
                    ..
                } if *name == peer.name && !dialled && ours_survives => {
                    return Err(Refusal::Simultaneous);
                }
                Link::Accepted {
                    answered: Some(name),
                } if *name == peer.name && dialled && !ours_survives => {
                    return Err(Refusal::Simultaneous);
                }
                _ => {}
            }
        }
        match self.links.get_mut(&link) {
            Some(Link::Dialled { stage, .. }) => *stage = Stage::Agreed(peer.name.clone()),
            Some(Link::Accepted { answered }) => *answered = Some(peer.name.clone()),
            _ => {}
        }
        Ok(())
    }

    /// What this node says to others.
    pub fn own(&self) -> &Hello {
        &self.own
    }

    /// The peers that are up, with their links, sorted by name.
    pub fn peers(&self) -> impl Iterator<Item = (LinkId, &Peer)> {
        self.nodes.values().filter_map(|node| {
            let link = node.up?;
            match self.links.get(&link) {
                Some(Link::Up { peer }) => Some((link, peer)),
                _ => None,
            }
        })
    }

    /// The peer of a link that is up.
    pub fn peer_of(&self, link: LinkId) -> Option<&Peer> {
        match self.links.get(&link) {
            Some(Link::Up { peer }) => Some(peer),
            _ => None,
        }
    }

    /// The link to a node that is up.
    pub fn link_to(&self, name: &NodeName) -> Option<LinkId> {
        self.nodes.get(name)?.up
    }

    /// The node of an incarnation, this one included, also of one that is down by now.
    pub fn node_of(&self, incarnation: Incarnation) -> Option<&NodeName> {
        self.known.name(incarnation)
    }

    /// The number of an incarnation in printed pids: 0 for this node.
    pub fn node_number(&self, incarnation: Incarnation) -> Option<u32> {
        self.known.number(incarnation)
    }

    fn up_peer(&self, name: &NodeName) -> Option<&Peer> {
        self.peer_of(self.link_to(name)?)
    }

    fn new_link(&mut self, link: Link) -> LinkId {
        let id = LinkId(self.next_link);
        self.next_link += 1;
        self.links.insert(id, link);
        id
    }

    fn dial(&mut self, target: DialTarget, asked: bool) -> LinkId {
        let link = self.new_link(Link::Dialled {
            target: target.clone(),
            asked,
            stage: Stage::Connecting,
        });
        self.outputs.push_back(MembershipOutput::Dial {
            link,
            target,
            asked,
        });
        link
    }

    fn answer(&mut self, request: RequestId, result: Result<NodeName, String>) {
        self.outputs
            .push_back(MembershipOutput::Connected { request, result });
    }

    fn answer_waiting(&mut self, waits_for: &WaitsFor, result: &Result<NodeName, String>) {
        let answered = self
            .requests
            .extract_if(.., |request| request.waits_for == *waits_for);
        let answered: Vec<_> = answered.map(|request| request.id).collect();
        answered
            .into_iter()
            .for_each(|id| self.answer(id, result.clone()));
    }

    fn connect(&mut self, now: Millis, id: RequestId, target: DialTarget, keep: bool) {
        if self.leaving {
            return self.answer(id, Err("this node is stopping".into()));
        }
        if self.requests.len() >= MAX_CONNECT_REQUESTS {
            return self.answer(id, Err("too many connection requests are waiting".into()));
        }
        let deadline = now + CONNECT_TIMEOUT_MS;
        let waits_for = match target {
            DialTarget::Address(address) => {
                if keep {
                    self.seeds.insert(
                        address.clone(),
                        Retry {
                            since: now,
                            ..Retry::default()
                        },
                    );
                }
                WaitsFor::Link(self.dial(DialTarget::Address(address), true))
            }
            DialTarget::Node { name, .. } if name == self.own.name => {
                return self.answer(id, Ok(name));
            }
            DialTarget::Node { name, address } => {
                if !self.nodes.contains_key(&name) && self.nodes.len() >= MAX_PEERS {
                    return self.answer(
                        id,
                        Err(format!("this node knows {MAX_PEERS} others already")),
                    );
                }
                let node = self.nodes.entry(name.clone()).or_default();
                node.cut = None;
                node.address = address.or(node.address.take());
                node.keep |= keep;
                node.wanted |= keep;
                if node.up.is_some() {
                    return self.answer(id, Ok(name));
                }
                node.asked = true;
                node.retry = Retry {
                    since: now,
                    ..Retry::default()
                };
                if !self.is_dialling(&name) {
                    self.dial_node(&name);
                }
                WaitsFor::Node(name)
            }
        };
        self.requests.push(Request {
            id,
            waits_for,
            deadline,
        });
    }

    fn is_dialling(&self, wanted: &NodeName) -> bool {
        self.links.values().any(|link| match link {
            Link::Dialled {
                target: DialTarget::Node { name, .. },
                ..
            } => name == wanted,
            Link::Accepted { answered } => answered.as_ref() == Some(wanted),
            _ => false,
        })
    }

    fn dial_node(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.get_mut(name) else {
            return;
        };
        node.retry.at = None;
        let (address, asked) = (node.address.clone(), node.asked);
        self.dial(
            DialTarget::Node {
                name: name.clone(),
                address,
            },
            asked,
        );
    }

    fn disconnect(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.get_mut(name) else {
            return;
        };
        (node.wanted, node.keep, node.asked, node.retry) = (false, false, false, Retry::default());
        match node.up {
            Some(link) => {
                let message = MembershipMessage::Disconnect;
                self.outputs
                    .push_back(MembershipOutput::Send { link, message });
                self.cut(link, "disconnected by a user here");
            }
            None => {
                // It may have been up before: keep that run away.
                node.cut = self.known.latest(name);
            }
        }
        let dials = self.links.iter().filter(|(_, link)| {
            matches!(link, Link::Dialled { target: DialTarget::Node { name: dialled, .. }, .. } if dialled == name)
        });
        let dials: Vec<_> = dials.map(|(id, _)| *id).collect();
        for link in dials {
            self.close(link, "disconnected by a user here");
        }
        self.answer_waiting(
            &WaitsFor::Node(name.clone()),
            &Err("disconnected by a user".into()),
        );
    }

    fn leave(&mut self) {
        self.leaving = true;
        self.seeds.clear();
        let links: Vec<_> = self
            .links
            .iter()
            .map(|(id, link)| (*id, matches!(link, Link::Up { .. })))
            .collect();
        for (link, up) in links {
            if up {
                let message = MembershipMessage::Leaving;
                self.outputs
                    .push_back(MembershipOutput::Send { link, message });
                self.take_down(link, "this node stops");
            } else {
                self.close(link, "this node stops");
            }
        }
        self.nodes.clear();
        for request in std::mem::take(&mut self.requests) {
            self.answer(request.id, Err("this node is stopping".into()));
        }
    }

    fn link_up(&mut self, now: Millis, link: LinkId, peer: Peer) {
        let asked = match self.links.get(&link) {
            Some(Link::Dialled { asked, .. }) => *asked,
            Some(Link::Accepted { .. }) => peer.asked,
            _ => return,
        };
        let target = match self.links.get(&link) {
            Some(Link::Dialled {
                target: DialTarget::Address(address),
                ..
            }) => Some(address.clone()),
            _ => None,
        };
        let kept_away = self
            .nodes
            .get(&peer.name)
            .is_some_and(|node| node.cut == Some(peer.incarnation));
        match self.up_peer(&peer.name).map(|up| up.incarnation) {
            _ if self.leaving => return self.close(link, "this node stops"),
            _ if kept_away && !asked => return self.close(link, "disconnected by a user here"),
            Some(current) if current == peer.incarnation => {
                return self.close(link, "already connected");
            }
            Some(_) => {
                if let Some(old) = self.link_to(&peer.name) {
                    self.take_down(old, "the node restarted");
                }
            }
            None => {}
        }
        self.known.insert(peer.incarnation, &peer.name);
        let both_visible = self.is_visible(&peer);
        let keep = target.is_some_and(|address| self.seeds.remove(&address).is_some());
        let node = self.nodes.entry(peer.name.clone()).or_default();
        node.up = Some(link);
        node.address = peer.address.clone();
        node.keep |= keep;
        node.wanted = both_visible || node.keep;
        node.asked = false;
        node.cut = None;
        node.retry = Retry {
            since: now,
            ..Retry::default()
        };
        let name = peer.name.clone();
        self.links.insert(link, Link::Up { peer: peer.clone() });
        self.outputs
            .push_back(MembershipOutput::NodeUp { link, peer });
        if both_visible {
            let nodes = self
                .peers()
                .filter(|(_, other)| other.name != name && self.is_visible(other));
            let nodes = nodes
                .map(|(_, other)| (other.name.clone(), other.address.clone()))
                .collect();
            let message = MembershipMessage::Nodes(nodes);
            self.outputs
                .push_back(MembershipOutput::Send { link, message });
        }
        self.answer_waiting(&WaitsFor::Link(link), &Ok(name.clone()));
        self.answer_waiting(&WaitsFor::Node(name.clone()), &Ok(name));
    }

    fn is_visible(&self, peer: &Peer) -> bool {
        peer.kind == NodeKind::Visible && self.own.kind == NodeKind::Visible
    }

    fn link_down(&mut self, now: Millis, link: LinkId, reason: &str, refusal: Option<&Refusal>) {
        match self.links.remove(&link) {
            Some(Link::Up { peer }) => self.node_down(now, link, peer, reason),
            Some(Link::Dialled { target, .. }) => {
                self.dial_failed(now, link, target, reason, refusal)
            }
            Some(Link::Accepted { .. } | Link::Closing) | None => {}
        }
    }

    fn dial_failed(
        &mut self,
        now: Millis,
        link: LinkId,
        target: DialTarget,
        reason: &str,
        refusal: Option<&Refusal>,
    ) {
        match target {
            DialTarget::Address(address) => {
                if let Some(retry) = self.seeds.get_mut(&address) {
                    match refusal {
                        // Whoever listens there is connected, or is this node.
                        Some(Refusal::AlreadyConnected | Refusal::SelfConnect) => {
                            self.seeds.remove(&address);
                        }
                        _ => retry.schedule(now, &mut self.random),
                    }
                }
                self.answer_waiting(&WaitsFor::Link(link), &Err(reason.into()));
            }
            DialTarget::Node { name, .. } => {
                let Some(node) = self.nodes.get_mut(&name) else {
                    return;
                };
                match refusal {
                    Some(Refusal::Disconnected | Refusal::Superseded | Refusal::SameName(_)) => {
                        (node.wanted, node.keep) = (false, false);
                    }
                    Some(Refusal::Unexpected { .. }) => node.address = None,
                    _ => {}
                }
                if node.up.is_none() && node.wanted {
                    node.retry.schedule(now, &mut self.random);
                }
                // Another link to the node is on its way: requests wait for that one.
                if matches!(
                    refusal,
                    Some(Refusal::Simultaneous | Refusal::AlreadyConnected)
                ) {
                    return;
                }
                node.asked &= node.keep;
                self.answer_waiting(&WaitsFor::Node(name.clone()), &Err(reason.into()));
                self.forget_if_unused(&name);
            }
        }
    }

    fn forget_if_unused(&mut self, name: &NodeName) {
        let unused = |node: &Node| node.up.is_none() && !node.wanted && node.cut.is_none();
        let waited_for = WaitsFor::Node(name.clone());
        if self.nodes.get(name).is_some_and(unused)
            && !self
                .requests
                .iter()
                .any(|request| request.waits_for == waited_for)
        {
            self.nodes.remove(name);
        }
    }

    fn node_down(&mut self, now: Millis, link: LinkId, peer: Peer, reason: &str) {
        if let Some(node) = self.nodes.get_mut(&peer.name)
            && node.up == Some(link)
        {
            node.up = None;
            node.retry = Retry {
                since: now,
                ..Retry::default()
            };
            if node.wanted {
                node.retry.schedule(now, &mut self.random);
            }
        }
        let name = peer.name.clone();
        self.outputs.push_back(MembershipOutput::NodeDown {
            link,
            peer,
            reason: reason.into(),
        });
        self.forget_if_unused(&name);
    }

    /// Closes a link that is up; the node may be dialled again.
    fn close_up(&mut self, now: Millis, link: LinkId, reason: &str) {
        if let Some(Link::Up { peer }) = self.links.insert(link, Link::Closing) {
            self.outputs.push_back(MembershipOutput::Close {
                link,
                reason: reason.into(),
            });
            self.node_down(now, link, peer, reason);
        }
    }

    /// Closes a link that is up, without a thought for redialling.
    fn take_down(&mut self, link: LinkId, reason: &str) {
        if let Some(Link::Up { peer }) = self.links.insert(link, Link::Closing) {
            self.outputs.push_back(MembershipOutput::Close {
                link,
                reason: reason.into(),
            });
            if let Some(node) = self.nodes.get_mut(&peer.name) {
                node.up = None;
            }
            self.outputs.push_back(MembershipOutput::NodeDown {
                link,
                peer,
                reason: reason.into(),
            });
        }
    }

    /// Closes a link that is up and keeps this run of the node away.
    fn cut(&mut self, link: LinkId, reason: &str) {
        let Some(Link::Up { peer }) = self.links.get(&link) else {
            return;
        };
        let (name, incarnation) = (peer.name.clone(), peer.incarnation);
        self.take_down(link, reason);
        if let Some(node) = self.nodes.get_mut(&name) {
            node.cut = Some(incarnation);
            (node.wanted, node.keep, node.asked) = (false, false, false);
        }
    }

    /// Closes a link that never came up.
    fn close(&mut self, link: LinkId, reason: &str) {
        self.links.insert(link, Link::Closing);
        self.outputs.push_back(MembershipOutput::Close {
            link,
            reason: reason.into(),
        });
    }

    fn message(&mut self, now: Millis, link: LinkId, message: MembershipMessage) {
        let Some(peer) = self.peer_of(link) else {
            return;
        };
        match message {
            MembershipMessage::Nodes(nodes) if self.is_visible(peer) => {
                nodes
                    .into_iter()
                    .for_each(|(name, address)| self.learn(now, name, address));
            }
            MembershipMessage::Nodes(_) => {}
            MembershipMessage::Disconnect => self.cut(link, "disconnected by a user there"),
            MembershipMessage::Leaving => {
                let name = peer.name.clone();
                if let Some(node) = self.nodes.get_mut(&name) {
                    node.wanted = node.keep;
                }
                self.close_up(now, link, "the node was stopped");
            }
        }
    }

    /// A peer is linked to this node.
    fn learn(&mut self, now: Millis, name: NodeName, address: Option<String>) {
        let usable = address
            .as_ref()
            .is_none_or(|address| address.len() <= MAX_ADDRESS_BYTES);
        let possible = name != self.own.name && name.is_long() == self.own.name.is_long() && usable;
        if !possible || (!self.nodes.contains_key(&name) && self.nodes.len() >= MAX_PEERS) {
            return;
        }
        let node = self.nodes.entry(name.clone()).or_default();
        if node.up.is_some() || node.cut.is_some() {
            return;
        }
        node.address = address.or(node.address.take());
        node.wanted = true;
        if !self.is_dialling(&name) {
            if let Some(node) = self.nodes.get_mut(&name) {
                node.retry = Retry {
                    since: now,
                    ..Retry::default()
                };
            }
            self.dial_node(&name);
        }
    }

    fn timer(&mut self, now: Millis) {
        let late = self
            .requests
            .extract_if(.., |request| request.deadline <= now);
        let late: Vec<_> = late
            .map(|request| (request.id, request.waits_for))
            .collect();
        for (id, waits_for) in late {
            let in_words = "no connection within the time-out";
            self.answer(id, Err(in_words.into()));
            if let WaitsFor::Node(name) = waits_for {
                self.forget_if_unused(&name);
            }
        }
        let due = |retry: &Retry| retry.at.is_some_and(|at| at <= now);
        let nodes = self.nodes.iter().filter(|(_, node)| due(&node.retry));
        let nodes: Vec<_> = nodes.map(|(name, _)| name.clone()).collect();
        for name in nodes {
            let busy = self.is_dialling(&name);
            let Some(node) = self.nodes.get_mut(&name) else {
                continue;
            };
            if now - node.retry.since > REDIAL_FOR_MS && !node.keep {
                node.wanted = false;
                node.retry.at = None;
                self.forget_if_unused(&name);
            } else if busy {
                node.retry.schedule(now, &mut self.random);
            } else {
                self.dial_node(&name);
            }
        }
        let seeds = self.seeds.iter_mut().filter(|(_, retry)| due(retry));
        let seeds: Vec<_> = seeds
            .map(|(address, retry)| {
                retry.at = None;
                address.clone()
            })
            .collect();
        for address in seeds {
            self.dial(DialTarget::Address(address), true);
        }
    }
}

impl Retry {
    fn schedule(&mut self, now: Millis, random: &mut u64) {
        let pause = (REDIAL_MIN_MS << self.attempts.min(16)).min(REDIAL_MAX_MS);
        self.attempts += 1;
        self.at = Some(now + (pause / 2 + next_random(random) % (pause / 2 + 1)));
    }
}

#[cfg(test)]
mod tests;

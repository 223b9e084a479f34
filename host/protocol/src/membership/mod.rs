//! Who is up: which links exist, which should, and who is told.
//!
//! Owns the set of links (dialled, accepted, up, closing), the decision between duplicates,
//! and the wish to be linked to nodes that were lost. Visible nodes form a full mesh: they
//! tell each other whom else they are linked to (`gossip`), and dial those they lack. Hidden
//! nodes are told nobody and told of to nobody.
//!
//! Contract: at most one link a node is up. One `NodeUp` and one `NodeDown`, in this order, for
//! each link that came to life. A restarted node replaces its earlier run. A lost visible
//! node is redialled with growing, randomised pauses of [`REDIAL_MIN_MS`] to
//! [`REDIAL_MAX_MS`], unless a user disconnected it, or it left; then it stays away until one
//! side is asked to connect.
//!
//! A disconnect, as OTP's `disconnect_node/1`, is seen by both nodes and touches no other link.
//! The two stay apart, by their runs, until one of them is asked to connect, as whoever names a
//! node does. Stricter than OTP: neither the news of a third node nor that of a new one brings
//! them together again. And no third node cuts links of its own because of it, as OTP's `global`
//! does since 25 to prevent overlapping partitions: names need no such rule (`crate::global`).
//!
//! Deliberately does not know sockets or ticks; a silent peer is a link that the shell closed.

mod api;
mod dialling;
pub mod down;
mod gossip;
mod incarnations;
mod link;
mod verdict;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::handshake::{Hello, Peer, Refusal};
use crate::ids::{Incarnation, NodeName};
use crate::signal::NodeKind;
use crate::time::Millis;

#[cfg(feature = "mutations")]
pub use api::Mutations;
pub use api::{DialTarget, LinkId, MembershipInput, MembershipMessage, MembershipOutput};
pub use dialling::{
    CONNECT_TIMEOUT_MS, MAX_CONNECT_REQUESTS, REDIAL_FOR_MS, REDIAL_MAX_MS, REDIAL_MIN_MS,
};
use dialling::{Request, Retry, WaitsFor};
use gossip::Gossip;
use incarnations::Incarnations;
pub use incarnations::MAX_KNOWN_INCARNATIONS;
use link::{Link, Stage};

/// The most peers up or wanted. More are refused with [`Refusal::Unavailable`], or not dialled.
pub const MAX_PEERS: usize = 1024;

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

/// Who is up, as this node knows it.
#[derive(Debug)]
pub struct Membership {
    own: Hello,
    random: u64,
    next_link: u64,
    links: BTreeMap<LinkId, Link>,
    /// The links that may become the one to a node: see [`Link::whose`].
    courting: BTreeMap<NodeName, BTreeSet<LinkId>>,
    nodes: BTreeMap<NodeName, Node>,
    /// Addresses to keep trying until somebody answers there.
    seeds: BTreeMap<String, Retry>,
    requests: Vec<Request>,
    /// Nothing is due before; earlier than the first deadline if that one was called off.
    soonest: Option<Millis>,
    known: Incarnations,
    gossip: Gossip,
    leaving: bool,
    #[cfg(feature = "mutations")]
    mutations: Mutations,
    outputs: VecDeque<MembershipOutput>,
}

impl Membership {
    /// A node alone, with what it says to others, and a seed to spread its retries.
    pub fn new(own: Hello, seed: u64) -> Self {
        let known = Incarnations::new(own.incarnation, own.name.clone());
        Self {
            gossip: Gossip::new(&own.name),
            own,
            random: seed,
            next_link: 0,
            links: BTreeMap::new(),
            courting: BTreeMap::new(),
            nodes: BTreeMap::new(),
            seeds: BTreeMap::new(),
            requests: Vec::new(),
            soonest: None,
            known,
            leaving: false,
            #[cfg(feature = "mutations")]
            mutations: Mutations::default(),
            outputs: VecDeque::new(),
        }
    }

    /// From now on with these mistakes.
    #[cfg(feature = "mutations")]
    pub fn mutate(&mut self, mutations: Mutations) {
        self.mutations = mutations;
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
            MembershipInput::LinkUp { link, peer } => self.link_up(now, link, peer),
            MembershipInput::LinkDown {
                link,
                reason,
                refusal,
            } => {
                self.link_down(now, link, &reason, refusal.as_ref());
            }
        }
        self.timer(now);
    }

    /// A message came from the peer of a link.
    pub fn receive(&mut self, now: Millis, link: LinkId, message: MembershipMessage) {
        self.message(now, link, message);
        self.timer(now);
    }

    /// A peer broke the protocol: closes its link.
    pub fn reject(&mut self, now: Millis, node: &NodeName, reason: &str) {
        if let Some(link) = self.nodes.get(node).and_then(|node| node.up) {
            self.close_up(now, link, reason);
        }
        self.timer(now);
    }

    /// The next thing to do, if any.
    pub fn poll_output(&mut self) -> Option<MembershipOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Membership::timer`] at the latest; that may find nothing to do.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.soonest
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
        self.set_link(id, Some(link));
        id
    }

    /// Changes, adds or removes a link; gives what was there.
    fn set_link(&mut self, id: LinkId, link: Option<Link>) -> Option<Link> {
        for name in link.iter().flat_map(Link::whose) {
            match self.courting.get_mut(name) {
                Some(links) => links.insert(id),
                None => self.courting.entry(name.clone()).or_default().insert(id),
            };
        }
        let before = match link {
            Some(link) => self.links.insert(id, link),
            None => self.links.remove(&id),
        };
        for name in before.iter().flat_map(Link::whose) {
            let stays = self
                .links
                .get(&id)
                .is_some_and(|link| link.whose().any(|other| other == name));
            if !stays && let Some(links) = self.courting.get_mut(name) {
                links.remove(&id);
                if links.is_empty() {
                    self.courting.remove(name);
                }
            }
        }
        before
    }

    /// The links that may become the one to a node.
    fn courting(&self, name: &NodeName) -> impl Iterator<Item = (LinkId, &Link)> {
        let links = self.courting.get(name).into_iter().flatten();
        links.filter_map(|id| Some((*id, self.links.get(id)?)))
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
                self.cut(link, "disconnect: by a user here");
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
            self.close(link, "disconnect: by a user here");
        }
        self.answer_waiting(
            &WaitsFor::Node(name.clone()),
            &Err("disconnected by a user".into()),
        );
        // One that was only dialled leaves nothing behind.
        self.forget_if_unused(name);
    }

    fn leave(&mut self) {
        self.leaving = true;
        self.seeds.clear();
        let links: Vec<_> = self
            .links
            .iter()
            .filter(|(_, link)| !matches!(link, Link::Closing))
            .map(|(id, link)| (*id, matches!(link, Link::Up { .. })))
            .collect();
        for (link, up) in links {
            if up {
                let message = MembershipMessage::Leaving;
                self.outputs
                    .push_back(MembershipOutput::Send { link, message });
                self.take_down(link, "net_kernel_terminated: this node stops");
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
            _ if kept_away && !asked => return self.close(link, "disconnect: by a user here"),
            Some(current) if current == peer.incarnation => {
                return self.close(link, "already connected");
            }
            Some(_) => {
                if let Some(current) = self.link_to(&peer.name) {
                    // Runs of a node follow each other: the one that got in touch first is the
                    // earlier, however late its last word comes.
                    let accepted = matches!(self.links.get(&link), Some(Link::Accepted { .. }));
                    if accepted && link < current || self.known.is_superseded(peer.incarnation) {
                        return self.close(link, "a later run of the node is connected");
                    }
                    self.take_down(current, "the node restarted");
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
        self.set_link(link, Some(Link::Up { peer: peer.clone() }));
        self.outputs
            .push_back(MembershipOutput::NodeUp { link, peer });
        if both_visible {
            self.introduce(now, link, &name, asked);
        }
        self.answer_waiting(&WaitsFor::Link(link), &Ok(name.clone()));
        self.answer_waiting(&WaitsFor::Node(name.clone()), &Ok(name));
    }

    fn is_visible(&self, peer: &Peer) -> bool {
        peer.kind == NodeKind::Visible && self.own.kind == NodeKind::Visible
    }

    fn link_down(&mut self, now: Millis, link: LinkId, reason: &str, refusal: Option<&Refusal>) {
        match self.set_link(link, None) {
            Some(Link::Up { peer }) => self.node_down(now, link, peer, reason),
            Some(Link::Dialled { target, .. }) => {
                self.dial_failed(now, link, target, reason, refusal)
            }
            Some(Link::Accepted { .. } | Link::Closing) | None => {}
        }
    }

    fn node_down(&mut self, now: Millis, link: LinkId, peer: Peer, reason: &str) {
        let both_visible = self.is_visible(&peer);
        if let Some(node) = self.nodes.get_mut(&peer.name)
            && node.up == Some(link)
        {
            node.up = None;
            if both_visible {
                self.gossip.changed(&peer.name);
            }
            node.retry = Retry {
                since: now,
                ..Retry::default()
            };
            #[cfg(feature = "mutations")]
            if self.mutations.forget_lost_nodes {
                node.wanted = false;
            }
            if node.wanted {
                let at = node.retry.schedule(now, &mut self.random);
                self.wake_at(at);
            }
        }
        let name = peer.name.clone();
        self.outputs.push_back(MembershipOutput::NodeDown {
            link,
            peer,
            reason: down::in_full(reason),
        });
        self.forget_if_unused(&name);
    }

    /// Closes a link that is up; the node may be dialled again.
    fn close_up(&mut self, now: Millis, link: LinkId, reason: &str) {
        if let Some(Link::Up { peer }) = self.set_link(link, Some(Link::Closing)) {
            self.outputs.push_back(MembershipOutput::Close {
                link,
                reason: reason.into(),
            });
            self.node_down(now, link, peer, reason);
        }
    }

    /// Closes a link that is up, without a thought for redialling.
    fn take_down(&mut self, link: LinkId, reason: &str) {
        if let Some(Link::Up { peer }) = self.set_link(link, Some(Link::Closing)) {
            self.outputs.push_back(MembershipOutput::Close {
                link,
                reason: reason.into(),
            });
            if let Some(node) = self.nodes.get_mut(&peer.name) {
                node.up = None;
            }
            if self.is_visible(&peer) {
                self.gossip.changed(&peer.name);
            }
            self.outputs.push_back(MembershipOutput::NodeDown {
                link,
                peer,
                reason: down::in_full(reason),
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
        self.set_link(link, Some(Link::Closing));
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
            MembershipMessage::View { digest, answer } if self.is_visible(peer) => {
                self.on_view(link, digest, answer);
            }
            MembershipMessage::Nodes(_) | MembershipMessage::View { .. } => {}
            MembershipMessage::Disconnect => self.cut(link, "disconnect: by a user there"),
            MembershipMessage::Leaving => {
                let name = peer.name.clone();
                if let Some(node) = self.nodes.get_mut(&name) {
                    node.wanted = node.keep;
                }
                self.close_up(now, link, "the node was stopped");
            }
        }
    }
}

#[cfg(test)]
mod tests;

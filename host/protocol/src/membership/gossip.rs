//! Telling each other of third nodes, so that visible nodes form a full mesh.
//!
//! Two nodes that link up because somebody asked for it tell each other at once whom else they
//! see. Links that follow from that, and redials, mostly join nodes that hear of the same others
//! from the same sources: if each told everything at once, a cluster of n nodes would exchange
//! n³ names while it forms. So these wait until this node's view has not changed for a moment,
//! then send a digest of it; who sees others than the sender answers with the whole list, or, if
//! its own view is still changing, asks again when it is not.
//!
//! Why nobody is missed: let A be linked to B and to C. The later of the two links, say to C,
//! is compared after it came up, so with B in A's view. Either C sees B then, or the digest that
//! C sends is not A's; then A tells C of B, or asks for C's digest once more.

use std::collections::BTreeSet;

use super::{Link, LinkId, Membership, MembershipMessage, MembershipOutput};
use crate::ids::NodeName;
use crate::time::{Millis, next_random};

/// For how long a view must not have changed before it is compared, in milliseconds (half to
/// all of it).
const SETTLED_MS: u64 = 100;

/// The longest that a comparison waits for that, in milliseconds.
const COMPARE_WITHIN_MS: u64 = 1_000;

/// What of this node's view is to be compared.
#[derive(Debug)]
pub(super) struct Gossip {
    /// A digest of the visible nodes that this one is linked to, and itself.
    view: u64,
    /// Links whose peers' views were not compared with this one's.
    unchecked: Vec<LinkId>,
    /// Links whose peers' views differed while this one's was changing.
    ask_again: BTreeSet<LinkId>,
    check_at: Millis,
    check_by: Millis,
}

/// A node's share in the digest of a view: the digest is the shares' exclusive or, so that
/// order does not matter and a change costs nothing.
fn share(name: &NodeName) -> u64 {
    let hash = blake3::hash(name.as_str().as_bytes());
    let first = hash.as_bytes().first_chunk::<8>();
    first.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

impl Gossip {
    pub fn new(own: &NodeName) -> Self {
        Self {
            view: share(own),
            unchecked: Vec::new(),
            ask_again: BTreeSet::new(),
            check_at: Millis(0),
            check_by: Millis(0),
        }
    }

    /// A visible node came into view, or went out of it.
    pub fn changed(&mut self, name: &NodeName) {
        self.view ^= share(name);
    }

    /// When to compare.
    pub fn deadline(&self) -> Option<Millis> {
        (!self.unchecked.is_empty()).then_some(self.check_at)
    }
}

impl Membership {
    /// A link between visible nodes is up.
    pub(super) fn introduce(&mut self, now: Millis, link: LinkId, name: &NodeName, asked: bool) {
        self.gossip.changed(name);
        if asked {
            self.tell_nodes(link);
        }
        #[cfg(feature = "mutations")]
        if self.mutations.never_compare {
            return;
        }
        if self.gossip.unchecked.is_empty() {
            self.gossip.check_by = now + COMPARE_WITHIN_MS;
        }
        self.gossip.unchecked.push(link);
        let settled = SETTLED_MS / 2 + next_random(&mut self.random) % (SETTLED_MS / 2 + 1);
        self.gossip.check_at = (now + settled).min(self.gossip.check_by);
        self.wake_at(self.gossip.check_at);
    }

    /// Tells the peer of a link whom else this node sees.
    fn tell_nodes(&mut self, link: LinkId) {
        let nodes = self
            .peers()
            .filter(|(other, peer)| *other != link && self.is_visible(peer))
            .map(|(_, peer)| (peer.name.clone(), peer.address.clone()))
            .collect();
        let message = MembershipMessage::Nodes(nodes);
        self.outputs
            .push_back(MembershipOutput::Send { link, message });
    }

    /// Sends the digest to those whose views were not compared.
    pub(super) fn compare_views(&mut self, now: Millis) {
        if self.gossip.deadline().is_none_or(|at| now < at) {
            return;
        }
        let again = std::mem::take(&mut self.gossip.ask_again);
        let first = std::mem::take(&mut self.gossip.unchecked);
        for link in first.into_iter().filter(|link| !again.contains(link)) {
            self.send_view(link, false);
        }
        again
            .into_iter()
            .for_each(|link| self.send_view(link, true));
    }

    fn send_view(&mut self, link: LinkId, answer: bool) {
        if matches!(self.links.get(&link), Some(Link::Up { .. })) {
            let digest = self.gossip.view;
            let message = MembershipMessage::View { digest, answer };
            self.outputs
                .push_back(MembershipOutput::Send { link, message });
        }
    }

    /// A visible peer sent the digest of its view, and may want this one's.
    pub(super) fn on_view(&mut self, link: LinkId, digest: u64, answer: bool) {
        if answer {
            self.send_view(link, false);
        }
        if digest == self.gossip.view {
            return;
        }
        if self.gossip.unchecked.is_empty() {
            self.tell_nodes(link);
        } else {
            self.gossip.ask_again.insert(link);
        }
    }
}

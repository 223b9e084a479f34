//! Whether a link whose peer has introduced itself shall be.
//!
//! Which of two simultaneous dials survives: an acceptor that has sent its own hello to the
//! same peer refuses if its name is the greater one; a dialler that has meanwhile answered
//! the same peer's hello goes on only if its name is the greater one. Both sides compute the
//! same from the same two names, so exactly one link is left, as in OTP.

use super::{DialTarget, Link, LinkId, MAX_PEERS, Membership, Stage};
use crate::handshake::{Peer, Refusal};
use crate::ids::NodeName;

impl Membership {
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
        // Pids say whose they are by the incarnation alone, and all who see a pid can read it.
        let of_another = |name: &NodeName| *name != peer.name;
        if self.known.name(peer.incarnation).is_some_and(of_another) {
            return Err(Refusal::Unavailable(
                "another node has that incarnation".into(),
            ));
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
        let others = self.courting(&peer.name).filter(|(id, _)| *id != link);
        for (_, other) in others {
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
        let name = peer.name.clone();
        match self.links.get_mut(&link) {
            Some(Link::Dialled { stage, .. }) => *stage = Stage::Agreed(name.clone()),
            Some(Link::Accepted { answered }) => *answered = Some(name.clone()),
            _ => {}
        }
        self.courting.entry(name).or_default().insert(link);
        Ok(())
    }
}

//! Where a link stands.

use super::DialTarget;
use crate::handshake::Peer;
use crate::ids::NodeName;

#[derive(Debug)]
pub(super) enum Link {
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

impl Link {
    /// Whom it was dialled to, and who is or claims to be at the other end, before it is up.
    pub(super) fn whose(&self) -> impl Iterator<Item = &NodeName> {
        let (dialled, there) = match self {
            Self::Dialled { target, stage, .. } => {
                let dialled = match target {
                    DialTarget::Node { name, .. } => Some(name),
                    DialTarget::Address(_) => None,
                };
                let there = match stage {
                    Stage::Agreed(name) => Some(name),
                    Stage::Connecting | Stage::Greeting => None,
                };
                (dialled, there)
            }
            Self::Accepted { answered } => (None, answered.as_ref()),
            Self::Up { .. } | Self::Closing => (None, None),
        };
        dialled.into_iter().chain(there)
    }
}

#[derive(Debug, PartialEq)]
pub(super) enum Stage {
    /// No hello sent: the peer knows nothing of us.
    Connecting,
    /// Our hello is sent.
    Greeting,
    /// We accepted this peer's answer.
    Agreed(NodeName),
}

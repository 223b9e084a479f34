//! Why links end or never come to be, and what follows from that: for the machines, for the
//! next dial, for the log.

use std::io;

use wasm_node_protocol::NodeName;
use wasm_node_protocol::codec::CodecError;
use wasm_node_protocol::handshake::{HANDSHAKE_TIMEOUT_MS, HandshakeError, Refusal};
use wasm_node_protocol::membership::down::NET_TICK_TIMEOUT;

use super::MAX_UNANSWERED_REQUESTS;
use crate::dist::epmd::EpmdError;
use crate::dist::transport::TransportError;

/// Why a link ended or never came to be.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Epmd(#[from] EpmdError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("{0} cannot be looked up: {1}")]
    Resolve(String, io::Error),
    #[error("nothing answers at {0}: {1}; is the node running there?")]
    Unreachable(String, io::Error),
    #[error("no address of {0} is known, and the port mapper is switched off: dial HOST:PORT")]
    NoAddress(NodeName),
    #[error(
        "no handshake within {HANDSHAKE_TIMEOUT_MS} ms: what answers there is stuck, or no wasm-node"
    )]
    Timeout,
    #[error("{0}")]
    Told(String),
    #[error("{NET_TICK_TIMEOUT}: no sign of life for {0} ms, four ticks missed")]
    Silent(u64),
    #[error("too many bytes waited for it: it reads too slowly")]
    Overfull,
    #[error("it sent more requests than the {MAX_UNANSWERED_REQUESTS} that may be unanswered")]
    Flood,
    #[error("its task ended early: a bug")]
    Task,
}

impl LinkError {
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Transport(TransportError::Handshake(error)) => match error {
                HandshakeError::RefusedByPeer(refusal) | HandshakeError::Refused(refusal) => {
                    Some(refusal.clone())
                }
                HandshakeError::WrongCookie => Some(Refusal::WrongCookie),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the node may still be found elsewhere, after a dial to where it was last.
    pub fn is_about_address(&self) -> bool {
        match self {
            Self::Resolve(..) | Self::Unreachable(..) => true,
            Self::Transport(TransportError::Handshake(error)) => matches!(
                error,
                HandshakeError::NotANode | HandshakeError::Refused(Refusal::Unexpected { .. })
            ),
            _ => false,
        }
    }

    /// Whether an administrator should hear of it: misconfiguration or an intruder.
    pub fn is_alarming(&self) -> bool {
        matches!(
            self,
            Self::Transport(TransportError::Handshake(
                HandshakeError::NotANode
                    | HandshakeError::Security { .. }
                    | HandshakeError::WrongCookie
                    | HandshakeError::Malformed(_)
                    | HandshakeError::Refused(
                        Refusal::Version { .. } | Refusal::SameName(_) | Refusal::LongAndShort(..)
                    )
                    // Another node goes by this one's name.
                    | HandshakeError::RefusedByPeer(Refusal::Superseded | Refusal::SameName(_))
            )) | Self::Transport(
                TransportError::Protocol(_) | TransportError::Decrypt | TransportError::Frame(_)
            ) | Self::Codec(_)
                | Self::Flood
                | Self::Overfull
                | Self::Task
        )
    }
}

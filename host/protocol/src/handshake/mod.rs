//! Who may join: from a fresh byte channel to an agreed link.
//!
//! Owns, in the order they run: the [`introduction`] (which protocol, which security, who by its
//! own words, so that each side can choose the cookie for the other), the [`challenge`] that
//! proves the cookie on plaintext links (on encrypted ones Noise does; [`derive_transcript`]
//! binds the introductions into either), and the exchange of [`Hello`]s.
//!
//! The exchange has three messages. The dialler says hello; the acceptor checks it and
//! answers hello or [`Refusal`]; the dialler checks that and confirms or refuses. The link is
//! up for the dialler once its confirmation is written, for the acceptor once it is read.
//! Every step consumes its state, so that no step can be skipped or repeated. Each message is
//! one frame payload of at most [`MAX_HANDSHAKE_BYTES`] (lane control).
//!
//! Deliberately does not know which other links exist: between receiving a hello and
//! answering it the caller asks [`crate::membership`], which settles duplicates and
//! simultaneous dials.

pub mod challenge;
mod introduction;

use serde::{Deserialize, Serialize};

use crate::ids::{Incarnation, NodeName};
use crate::signal::NodeKind;

pub use introduction::{
    PREAMBLE_BYTES, Preamble, Security, derive_transcript, introduced_name, introduction,
};

/// The newest protocol version this code speaks.
pub const VERSION_MAX: u16 = 1;

/// The oldest: the version before, once there is one.
pub const VERSION_MIN: u16 = 1;

/// The longest handshake message, in bytes; a longer one ends the handshake.
pub const MAX_HANDSHAKE_BYTES: usize = 4096;

/// How long a whole handshake may take, in milliseconds, connecting and Noise included; then
/// the shell closes the connection.
pub const HANDSHAKE_TIMEOUT_MS: u64 = 5_000;

/// The longest listen address in a hello, in bytes; a longer one is refused.
pub const MAX_ADDRESS_BYTES: usize = 300;

/// Why there is no link. Whose fault it is depends on the variant; all are worth a log line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Something else listens or dials there (user).
    #[error("that is no wasm-node (or one of an incompatible version): check the address and port")]
    NotANode,
    /// One side is encrypted, the other is not (user).
    #[error(
        "this node uses {ours:?} links, the other {theirs:?}: start both with --plaintext, or neither"
    )]
    Security {
        /// Of this node.
        ours: Security,
        /// Of the peer.
        theirs: Security,
    },
    /// The cookies differ (user, or an intruder).
    #[error(
        "wrong cookie: the nodes' cookies differ; give both the same --cookie or --cookie-file, or set one with `wasm-node cookie`"
    )]
    WrongCookie,
    /// The peer broke the format (peer).
    #[error("malformed handshake message: {0}")]
    Malformed(&'static str),
    /// The peer refused us; the text is meant for people.
    #[error("refused by the other node: {0}")]
    RefusedByPeer(Refusal),
    /// We refused the peer.
    #[error("refused: {0}")]
    Refused(Refusal),
}

/// Why one node refuses another. Crosses the wire.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The cookies differ.
    #[error("wrong cookie: the nodes' cookies differ")]
    WrongCookie,
    /// No protocol version in common.
    #[error(
        "no common protocol version: one speaks {min} to {max}, the other {peer_min} to {peer_max}; upgrade the older node"
    )]
    Version {
        /// The refusing node's oldest.
        min: u16,
        /// The refusing node's newest.
        max: u16,
        /// The refused node's oldest.
        peer_min: u16,
        /// The refused node's newest.
        peer_max: u16,
    },
    /// Both have this name.
    #[error("both nodes are named {0}: give one another name")]
    SameName(NodeName),
    /// A node reached itself.
    #[error("the node dialled itself")]
    SelfConnect,
    /// One has a long name, the other a short one.
    #[error("{0} and {1}: long (--name) and short (--sname) names do not mix")]
    LongAndShort(NodeName, NodeName),
    /// Another node answered at the address dialled.
    #[error("expected {expected} at that address, but {found} answered")]
    Unexpected {
        /// Who was dialled.
        expected: NodeName,
        /// Who is there.
        found: NodeName,
    },
    /// There is a link to this incarnation already.
    #[error("already connected")]
    AlreadyConnected,
    /// The two nodes dialled each other at once, and the other dial goes on.
    #[error("both nodes dialled at once: the other connection goes on")]
    Simultaneous,
    /// A user disconnected the two, and nobody asked for a connection since.
    #[error("disconnected by a user: connect explicitly")]
    Disconnected,
    /// A later start of the same node is connected.
    #[error("a later start of this node has taken its place")]
    Superseded,
    /// A field is too long or impossible.
    #[error("bad hello: {0}")]
    BadHello(String),
    /// The node is full or stopping; says which.
    #[error("{0}")]
    Unavailable(String),
}

/// What a node says about itself. The fields before `name` never change place, so that every
/// version can read them of any other.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The oldest version that it speaks.
    pub version_min: u16,
    /// The newest.
    pub version_max: u16,
    /// Its name.
    pub name: NodeName,
    /// Its run.
    pub incarnation: Incarnation,
    /// Whether others are told of it.
    pub kind: NodeKind,
    /// Its tick time, in milliseconds.
    pub tick_time_ms: u32,
    /// `host:port` where others can dial it, if it listens.
    pub address: Option<String>,
    /// Whether a user asked for this connection, which overrides an earlier disconnect. Set
    /// by the dialler; an acceptor's is without meaning.
    pub asked: bool,
}

impl Hello {
    /// A hello of this code's versions.
    pub fn new(
        name: NodeName,
        incarnation: Incarnation,
        kind: NodeKind,
        tick_time_ms: u32,
    ) -> Self {
        Self {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            name,
            incarnation,
            kind,
            tick_time_ms,
            address: None,
            asked: false,
        }
    }
}

/// A node at the other end of a link, or about to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its name.
    pub name: NodeName,
    /// Its run.
    pub incarnation: Incarnation,
    /// Whether others are told of it.
    pub kind: NodeKind,
    /// Its tick time, in milliseconds.
    pub tick_time_ms: u32,
    /// `host:port` where others can dial it, if it listens.
    pub address: Option<String>,
    /// Whether a user of the peer asked for the link (only on incoming ones).
    pub asked: bool,
    /// The protocol version agreed on.
    pub version: u16,
}

/// The answer to a hello, either way.
#[derive(Serialize, Deserialize)]
enum Answer<T> {
    Accepted(T),
    Refused(Refusal),
}

/// A handshake failed here, and what to send before closing, if anything.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub error: HandshakeError,
    /// Send this (best effort), then close.
    pub reply: Option<Vec<u8>>,
}

impl From<HandshakeError> for Failed {
    fn from(error: HandshakeError) -> Self {
        Self { error, reply: None }
    }
}

/// The dialler, waiting for the acceptor's hello.
#[derive(Debug)]
pub struct Dialling {
    hello: Hello,
    expected: Option<NodeName>,
}

/// The dialler, with an acceptable hello in hand: accept or refuse it.
#[derive(Debug)]
pub struct Greeted {
    peer: Peer,
}

/// The acceptor, waiting for the dialler's hello.
#[derive(Debug)]
pub struct Accepting {
    hello: Hello,
}

/// The acceptor, with an acceptable hello in hand: accept or refuse it.
#[derive(Debug)]
pub struct Asked {
    hello: Hello,
    peer: Peer,
}

/// The acceptor, waiting for the dialler's confirmation.
#[derive(Debug)]
pub struct Confirming {
    peer: Peer,
}

impl Dialling {
    /// Starts with our hello and, if known, whom we mean to reach. Returns the message to
    /// send first.
    pub fn start(hello: Hello, expected: Option<NodeName>) -> (Self, Vec<u8>) {
        let message = encode(&hello);
        (Self { hello, expected }, message)
    }

    /// Takes the acceptor's answer.
    ///
    /// # Errors
    /// The acceptor refused, broke the format, or is not acceptable to us.
    pub fn on_message(self, message: &[u8]) -> Result<Greeted, Failed> {
        let theirs = match decode::<Answer<Hello>>(message)? {
            Answer::Accepted(hello) => hello,
            Answer::Refused(refusal) => return Err(HandshakeError::RefusedByPeer(refusal).into()),
        };
        let checked = check(&self.hello, theirs).and_then(|peer| match self.expected {
            Some(expected) if expected != peer.name => Err(Refusal::Unexpected {
                expected,
                found: peer.name,
            }),
            _ => Ok(peer),
        });
        match checked {
            Ok(peer) => Ok(Greeted { peer }),
            Err(refusal) => Err(refuse::<()>(refusal)),
        }
    }
}

impl Greeted {
    /// Who answered.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The link is wanted: send this message, then it is up.
    pub fn accept(self) -> (Peer, Vec<u8>) {
        (self.peer, encode(&Answer::Accepted(())))
    }

    /// It is not: send this reply, then close.
    pub fn refuse(self, refusal: Refusal) -> Failed {
        refuse::<()>(refusal)
    }
}

impl Accepting {
    /// Starts with our hello, which is sent only in answer to the dialler's.
    pub fn start(hello: Hello) -> Self {
        Self { hello }
    }

    /// Takes the dialler's hello.
    ///
    /// # Errors
    /// It is malformed, or not acceptable.
    pub fn on_message(self, message: &[u8]) -> Result<Asked, Failed> {
        match check(&self.hello, decode::<Hello>(message)?) {
            Ok(peer) => Ok(Asked {
                hello: self.hello,
                peer,
            }),
            Err(refusal) => Err(refuse::<Hello>(refusal)),
        }
    }
}

impl Asked {
    /// Who asks.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The link is wanted: send this message, then wait for the confirmation.
    pub fn accept(self) -> (Confirming, Vec<u8>) {
        (
            Confirming { peer: self.peer },
            encode(&Answer::Accepted(self.hello)),
        )
    }

    /// It is not: send this reply, then close.
    pub fn refuse(self, refusal: Refusal) -> Failed {
        refuse::<Hello>(refusal)
    }
}

impl Confirming {
    /// Takes the dialler's confirmation: the link is up.
    ///
    /// # Errors
    /// The dialler refused or broke the format.
    pub fn on_message(self, message: &[u8]) -> Result<Peer, Failed> {
        match decode::<Answer<()>>(message)? {
            Answer::Accepted(()) => Ok(self.peer),
            Answer::Refused(refusal) => Err(HandshakeError::RefusedByPeer(refusal).into()),
        }
    }
}

/// What each side can tell from the two hellos alone.
fn check(ours: &Hello, theirs: Hello) -> Result<Peer, Refusal> {
    let version = ours.version_max.min(theirs.version_max);
    if version < ours.version_min.max(theirs.version_min) {
        return Err(Refusal::Version {
            min: ours.version_min,
            max: ours.version_max,
            peer_min: theirs.version_min,
            peer_max: theirs.version_max,
        });
    }
    if ours.incarnation == theirs.incarnation {
        return Err(Refusal::SelfConnect);
    }
    if ours.name == theirs.name {
        return Err(Refusal::SameName(theirs.name));
    }
    if ours.name.is_long() != theirs.name.is_long() {
        return Err(Refusal::LongAndShort(ours.name.clone(), theirs.name));
    }
    if theirs.incarnation.0 == 0 {
        return Err(Refusal::BadHello("incarnation zero".into()));
    }
    if theirs
        .address
        .as_ref()
        .is_some_and(|address| address.len() > MAX_ADDRESS_BYTES)
    {
        return Err(Refusal::BadHello("the listen address is too long".into()));
    }
    Ok(Peer {
        name: theirs.name,
        incarnation: theirs.incarnation,
        kind: theirs.kind,
        tick_time_ms: theirs.tick_time_ms,
        address: theirs.address,
        asked: theirs.asked,
        version,
    })
}

fn refuse<T: Serialize>(refusal: Refusal) -> Failed {
    let reply = encode(&Answer::<T>::Refused(refusal.clone()));
    Failed {
        error: HandshakeError::Refused(refusal),
        reply: Some(reply),
    }
}

fn encode(message: &impl Serialize) -> Vec<u8> {
    // Our own types have known lengths: postcard cannot fail on them.
    postcard::to_stdvec(message).unwrap_or_default()
}

/// Trailing bytes are allowed: a later version's hello may say more.
fn decode<'a, T: Deserialize<'a>>(message: &'a [u8]) -> Result<T, HandshakeError> {
    if message.len() > MAX_HANDSHAKE_BYTES {
        return Err(HandshakeError::Malformed("too long"));
    }
    match postcard::take_from_bytes(message) {
        Ok((value, _)) => Ok(value),
        Err(_) => Err(HandshakeError::Malformed("not a message of this step")),
    }
}

#[cfg(test)]
mod tests;

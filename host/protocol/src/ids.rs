//! Identities: of nodes, actors, references and code. Plain data, parsed once.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest node name, in bytes: the limit of EPMD's and Erlang's own names.
pub const MAX_NODE_NAME_BYTES: usize = 255;

/// Bits of a pid that say the slot; above them are those of the slot's generation.
pub const SLOT_BITS: u32 = 22;

/// Bits of the generation. With the slot's they make 53: languages whose numbers are doubles
/// (JavaScript) can then hold any part of a pid or ref.
pub const GENERATION_BITS: u32 = 31;

/// One run of a node: 53 random bits drawn at its start, never zero. A pid of an earlier run
/// of a node of the same name therefore never reaches an actor of this one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

/// An actor, anywhere in the cluster: Erlang's pid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Pid {
    /// The run of the node that it lives on.
    pub node: Incarnation,
    /// Its place there: the slot in the low [`SLOT_BITS`], the slot's generation above.
    pub serial: u64,
}

impl Pid {
    /// The serial of a slot's occupant. Bits beyond those there are for each are dropped.
    pub fn serial(slot: u32, generation: u32) -> u64 {
        let generation = u64::from(generation) & ((1 << GENERATION_BITS) - 1);
        generation << SLOT_BITS | u64::from(slot) & ((1 << SLOT_BITS) - 1)
    }

    /// The slot and the generation of a serial: what [`Pid::serial`] made it of.
    pub fn slot_and_generation(serial: u64) -> (u32, u32) {
        let slot = serial & ((1 << SLOT_BITS) - 1);
        (slot as u32, (serial >> SLOT_BITS) as u32)
    }

    /// A node's own group leader, which its registry calls `user`. It has no slot of its own, lives
    /// as long as the node and can be named without asking: where everybody's text goes at last.
    pub const fn user(node: Incarnation) -> Self {
        // Slot 0, which no process is ever given, in a generation that is not 0 either: all zero
        // is no actor, and a serial of 0 nobody on that node.
        Self {
            node,
            serial: 1 << SLOT_BITS,
        }
    }

    /// How a person reads it: `<0.slot.generation>` on its own node, `<n.slot.generation>` on
    /// another that knows its node as the `n`th.
    pub fn display(self, node_number: u32) -> String {
        let (slot, generation) = Self::slot_and_generation(self.serial);
        format!("<{node_number}.{slot}.{generation}>")
    }
}

impl Incarnation {
    /// A run, from random bits.
    pub fn from_random(bits: u64) -> Self {
        Self((bits >> 11).max(1))
    }
}

/// A request, monitor, timer or other pending operation: Erlang's ref. Unique over the
/// incarnation of the node that made it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Ref {
    /// The run of the node that made it.
    pub node: Incarnation,
    /// Unique there.
    pub serial: u64,
}

/// The BLAKE3 digest of a component's bytes: what identifies a version of code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = ();
    fn from_str(s: &str) -> Result<Self, ()> {
        if s.len() != 64 || !s.is_ascii() {
            return Err(());
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&s[2 * i..2 * i + 2], 16).map_err(|_| ())?;
        }
        Ok(Self(bytes))
    }
}

/// A node's name, `alive@host`: long if the host has a dot or a colon (`--name`), short
/// otherwise (`--sname`), as in Erlang.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(std::sync::Arc<str>);

/// Why a text is no node name. The user's fault, or a peer's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeNameError {
    /// Not `alive@host`.
    #[error("{0:?} is no node name: write NAME@HOST, as in node1@127.0.0.1")]
    Form(String),
    /// A character that no name may have.
    #[error(
        "{0:?} is no node name: {1:?} is not allowed; use letters, digits, '_', '-' and, in the host, '.' and ':'"
    )]
    Character(String, char),
    /// Longer than [`MAX_NODE_NAME_BYTES`].
    #[error("a node name of {0} bytes is too long: at most {MAX_NODE_NAME_BYTES}")]
    TooLong(usize),
}

impl NodeName {
    /// The part before the `@`: what the port mapper knows.
    pub fn alive(&self) -> &str {
        self.0.split_once('@').map_or("", |(alive, _)| alive)
    }

    /// The part behind the `@`.
    pub fn host(&self) -> &str {
        self.0.split_once('@').map_or("", |(_, host)| host)
    }

    /// Whether this is a long name (`--name`); long and short names do not mix.
    pub fn is_long(&self) -> bool {
        self.host().contains(['.', ':'])
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = NodeNameError;
    fn from_str(s: &str) -> Result<Self, NodeNameError> {
        if s.len() > MAX_NODE_NAME_BYTES {
            return Err(NodeNameError::TooLong(s.len()));
        }
        let (alive, host) = s
            .split_once('@')
            .ok_or_else(|| NodeNameError::Form(s.into()))?;
        if alive.is_empty() || host.is_empty() {
            return Err(NodeNameError::Form(s.into()));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let bad = alive.chars().find(|&c| !plain(c));
        let bad = bad.or_else(|| host.chars().find(|&c| !plain(c) && c != '.' && c != ':'));
        match bad {
            Some(c) => Err(NodeNameError::Character(s.into(), c)),
            None => Ok(Self(s.into())),
        }
    }
}

impl TryFrom<String> for NodeName {
    type Error = NodeNameError;
    fn try_from(s: String) -> Result<Self, NodeNameError> {
        s.parse()
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0.as_ref().into()
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

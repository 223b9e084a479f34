//! The contract's values, with what people and wires need of them.

use std::fmt;

pub use crate::bindings::wasm_node::actor::types::{
    CallError, Destination, ExitReason, Message, NodeEvent, NodeKind, Outcome, Pid, Ref,
    RegisterError, ReplyTo, SaveError, SpawnError, Start,
};

impl Pid {
    /// No actor.
    pub const NONE: Pid = Pid { node: 0, serial: 0 };

    /// `node`, then `serial`, most significant byte first.
    pub fn to_bytes(self) -> [u8; 16] {
        ((u128::from(self.node) << 64) | u128::from(self.serial)).to_be_bytes()
    }

    /// The reverse of [`Pid::to_bytes`].
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let whole = u128::from_be_bytes(bytes);
        Self {
            node: (whole >> 64) as u64,
            serial: whole as u64,
        }
    }

    /// [`Pid::to_bytes`] as 32 lower-case hex digits.
    pub fn to_hex(self) -> String {
        format!("{:016x}{:016x}", self.node, self.serial)
    }

    /// The reverse of [`Pid::to_hex`]; none for any other text.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let whole = u128::from_str_radix(text, 16).ok()?;
        Some(Self::from_bytes(whole.to_be_bytes()))
    }
}

/// `<0.slot.generation>` for an actor of this node, else its node's incarnation in front.
impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (slot, generation) = (self.serial & 0xffff_ffff, self.serial >> 32);
        if self.node == crate::self_pid().node {
            write!(f, "<0.{slot}.{generation}>")
        } else {
            write!(f, "<{:x}.{slot}.{generation}>", self.node)
        }
    }
}

impl From<Pid> for Destination {
    fn from(pid: Pid) -> Self {
        Destination::Pid(pid)
    }
}

impl From<&str> for Destination {
    /// A name in this node's registry.
    fn from(name: &str) -> Self {
        Destination::Name(name.into())
    }
}

impl ExitReason {
    /// [`ExitReason::Error`] of anything that can be said.
    pub fn error(words: impl fmt::Display) -> Self {
        ExitReason::Error(words.to_string())
    }

    /// Whether a supervisor calls this a clean end: `normal` or `shutdown`.
    pub fn is_clean(&self) -> bool {
        matches!(self, ExitReason::Normal | ExitReason::Shutdown)
    }
}

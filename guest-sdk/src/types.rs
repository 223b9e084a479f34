//! The contract's values, with what people and wires need of them.

use std::borrow::Cow;
use std::fmt;

pub use crate::bindings::wasm_node::actor::types::{
    CallError, Destination, ExitReason, Message, NodeEvent, NodeKind, Outcome, OutputKind, Pid,
    Ref, RegisterError, ReplyTo, SaveError, SpawnError, Start,
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
        // As nodes print it.
        let (slot, generation) = (self.serial & ((1 << 22) - 1), self.serial >> 22);
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

    /// For people.
    pub fn describe(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            ExitReason::Normal => "normal",
            ExitReason::Shutdown => "shutdown",
            ExitReason::Kill => "kill",
            ExitReason::Killed => "killed",
            ExitReason::Noproc => "noproc: there is no such actor",
            ExitReason::Noconnection => "noconnection: the connection to its node is down",
            ExitReason::AlreadyStarted(pid) => return format!("already started: {pid}").into(),
            ExitReason::Trap(words) => return format!("trap: {words}").into(),
            ExitReason::Limit(words) => return format!("limit: {words}").into(),
            ExitReason::Error(words) => return format!("error: {words}").into(),
            ExitReason::Custom(data) => return format!("custom: {} bytes", data.len()).into(),
            ExitReason::ShutdownWith(data) => {
                return format!("shutdown: {} bytes", data.len()).into();
            }
        })
    }

    /// Whether a supervisor calls this a clean end: `normal`, `shutdown` or `shutdown-with`.
    pub fn is_clean(&self) -> bool {
        matches!(
            self,
            ExitReason::Normal | ExitReason::Shutdown | ExitReason::ShutdownWith(_)
        )
    }
}

impl NodeEvent {
    /// The first word of the reason for which a node went down, one of OTP's: `connection_closed`,
    /// `disconnect`, `net_tick_timeout`, `net_kernel_terminated` or `connection_setup_failed`.
    pub fn nodedown_reason(&self) -> &str {
        self.reason.split(':').next().unwrap_or_default()
    }
}

impl CallError {
    /// For people.
    pub fn describe(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            CallError::Timeout => "timeout: no reply in time",
            CallError::Noproc => "noproc: there is no such actor",
            CallError::Noconnection => "noconnection: the connection to its node is down",
            CallError::Exit(reason) => {
                return format!("the callee ended: {}", reason.describe()).into();
            }
            CallError::TooLarge => "the message is too large",
        })
    }
}

impl SpawnError {
    /// For people.
    pub fn describe(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            SpawnError::NoSuchModule(name) => return format!("no module {name}").into(),
            SpawnError::BadModule(words) => words,
            SpawnError::TooManyActors => "too many actors on its node",
            SpawnError::Noconnection => "noconnection: the connection to its node is down",
            SpawnError::NameTaken(pid) => return format!("the name is taken by {pid}").into(),
            SpawnError::InitFailed(reason) => {
                return format!("its init failed: {}", reason.describe()).into();
            }
        })
    }
}

impl RegisterError {
    /// For people.
    pub fn describe(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            RegisterError::Taken(pid) => return format!("taken by {pid}").into(),
            RegisterError::BadName(words) => words,
            RegisterError::Noproc => "noproc: there is no such actor",
            RegisterError::Timeout => "timeout: the cluster did not agree in time",
            RegisterError::Noconnection => "noconnection: the actor's node is not connected",
            RegisterError::Minority((seen, known)) => {
                return format!("minority: this node sees {seen} of {known} nodes, which is no majority, and --partition-policy minority-refuses").into();
            }
        })
    }
}

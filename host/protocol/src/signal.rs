//! What one actor can do to another, wherever it lives: Erlang's signals.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::capability::Capabilities;
use crate::exit::{CallError, ExitReason, RegisterError, SpawnError};
use crate::groups::GroupEvent;
use crate::ids::{NodeName, Pid, Ref};

/// Where a message goes, as an actor says it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Destination {
    /// An actor.
    Pid(Pid),
    /// A name in this node's registry.
    Name(String),
    /// A name in the registry of a node, which may be this one.
    RemoteName(String, NodeName),
    /// A name in the global registry.
    Global(String),
    /// An alias of an actor, as long as it is active: `erlang:alias/1`.
    Alias(Pid, Ref),
}

/// Whom a signal is for, on the node that receives it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Target {
    /// An actor of that node.
    Pid(Pid),
    /// A name in that node's registry.
    Name(String),
}

/// Whether a node is seen by all, or only by those it connects to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum NodeKind {
    /// In `nodes()`, passed on to others.
    Visible,
    /// Left out of both: Erlang's `-hidden`.
    Hidden,
}

/// A node came up or went down.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeEvent {
    /// Which.
    pub node: NodeName,
    /// Of what kind.
    pub kind: NodeKind,
    /// Why, in words.
    pub reason: String,
}

/// What a new actor starts with besides its module and arguments.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SpawnOptions {
    /// Linked to its parent from its very start.
    pub link: bool,
    /// Monitored by its parent from its very start.
    pub monitor: bool,
    /// The parent hears `Spawned` when it has finished `init`, not before.
    pub await_init: bool,
    /// Registered under this name on its node from its very start.
    pub name: Option<String>,
    /// Holds this global name before its `init` begins, or ends with `AlreadyStarted`.
    pub global: Option<String>,
    /// Its group leader; `None` for the `user` of its node.
    pub group_leader: Option<Pid>,
    /// It gets no more than these of what its parent holds; `None` is all of that. Between nodes
    /// it is what the parent passes on, as the other node does not know what that holds.
    pub capabilities: Option<Capabilities>,
    /// What it may use, at most; its module's limits hold as well.
    pub limits: Limits,
}

/// Which of an actor's two outputs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum OutputKind {
    /// What it says.
    Stdout,
    /// What it says about that.
    Stderr,
}

/// Bounds on what one actor uses; `None` is none of its own. An actor that goes over one ends with
/// [`ExitReason::Limit`], but for `message_bytes`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Linear memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Messages that wait for it.
    pub mailbox_messages: Option<u32>,
    /// The body of one message to it, in bytes. A larger one does not reach it: a request is
    /// answered `TooLarge`, another message is dropped and logged. No stranger ends it by that.
    pub message_bytes: Option<u32>,
    /// What one turn may compute, in milliseconds of processor time.
    pub turn_cpu_ms: Option<u32>,
    /// What all of its turns may, in milliseconds of processor time.
    pub cpu_ms: Option<u64>,
}

impl Limits {
    /// Both hold: the smaller of each.
    pub fn and(self, other: Self) -> Self {
        fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
            match (a, b) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            }
        }
        Self {
            memory_bytes: least(self.memory_bytes, other.memory_bytes),
            mailbox_messages: least(self.mailbox_messages, other.mailbox_messages),
            message_bytes: least(self.message_bytes, other.message_bytes),
            turn_cpu_ms: least(self.turn_cpu_ms, other.turn_cpu_ms),
            cpu_ms: least(self.cpu_ms, other.cpu_ms),
        }
    }
}

/// A message to an alias.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Aliased {
    /// As [`Signal::Info`].
    Info(Bytes),
    /// As [`Signal::Cast`].
    Cast(Bytes),
    /// As [`Signal::Request`].
    Request {
        /// Who asks.
        from: Pid,
        /// Its request.
        tag: Ref,
        /// What it asks.
        body: Bytes,
    },
}

impl Aliased {
    /// A signal as a message to an alias; the signal back if it is no message.
    pub fn of(signal: Signal) -> Result<Self, Signal> {
        match signal {
            Signal::Info(body) => Ok(Self::Info(body)),
            Signal::Cast(body) => Ok(Self::Cast(body)),
            Signal::Request { from, tag, body } => Ok(Self::Request { from, tag, body }),
            other => Err(other),
        }
    }

    /// The signal that it is to an alias that is active.
    pub fn signal(self) -> Signal {
        match self {
            Self::Info(body) => Signal::Info(body),
            Self::Cast(body) => Signal::Cast(body),
            Self::Request { from, tag, body } => Signal::Request { from, tag, body },
        }
    }

    /// What it carries.
    pub fn body(&self) -> &Bytes {
        match self {
            Self::Info(body) | Self::Cast(body) | Self::Request { body, .. } => body,
        }
    }
}

/// What reaches an actor. Between two actors, signals of all kinds keep their order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Signal {
    /// A plain message: `handle_info`.
    Info(Bytes),
    /// A message that expects no answer: `handle_cast`.
    Cast(Bytes),
    /// A message that expects one: `handle_call`. The asker monitors by itself: the host of
    /// the target answers `Response` with `NoProc` or `Exit` if it cannot.
    Request {
        /// Who asks.
        from: Pid,
        /// Its request.
        tag: Ref,
        /// What it asks.
        body: Bytes,
    },
    /// The answer to a request.
    Response {
        /// The request.
        tag: Ref,
        /// The reply, or why there is none.
        result: Result<Bytes, CallError>,
    },
    /// `from` gives up waiting for its request's answer.
    Forget {
        /// The request.
        tag: Ref,
    },
    /// `from` links itself to the target.
    Link {
        /// The other end.
        from: Pid,
    },
    /// `from` removes the link, and takes no notice of what comes over it until `UnlinkAck`.
    Unlink {
        /// The other end.
        from: Pid,
        /// Which removal: `from` counts them.
        id: u64,
    },
    /// `from` has seen the removal of the link to it: the link protocol of OTP 23 ("Distribution
    /// Protocol", ERTS User's Guide). Without it two that unlink and link at once could differ on
    /// whether they are linked.
    UnlinkAck {
        /// The other end.
        from: Pid,
        /// Which removal.
        id: u64,
    },
    /// `from` monitors the target.
    Monitor {
        /// The watcher.
        from: Pid,
        /// The monitor.
        tag: Ref,
    },
    /// A monitor is given up.
    Demonitor {
        /// The monitor.
        tag: Ref,
    },
    /// A monitored actor ended.
    Down {
        /// The monitor.
        tag: Ref,
        /// Who ended.
        pid: Pid,
        /// Why.
        reason: ExitReason,
    },
    /// An exit signal.
    Exit {
        /// Who ended, or who called `exit`.
        from: Pid,
        /// Why.
        reason: ExitReason,
        /// Whether it came over a link (and dissolves it), not from `exit`.
        link: bool,
    },
    /// A spawn that this actor asked for is done, or failed.
    Spawned {
        /// The spawn.
        tag: Ref,
        /// The new actor.
        result: Result<Pid, SpawnError>,
    },
    /// A timer of this actor fired.
    Timer {
        /// Which.
        tag: Ref,
    },
    /// A global registration that this actor asked for is done, or failed.
    Registered {
        /// Which.
        tag: Ref,
        /// How it went.
        result: Result<(), RegisterError>,
    },
    /// A connection that this actor asked for is there, or failed.
    Connected {
        /// Which.
        tag: Ref,
        /// The node's name, or what went wrong.
        result: Result<String, String>,
    },
    /// This actor lost a global name to another holder.
    NameConflict {
        /// The name.
        name: String,
        /// Who holds it now.
        holder: Pid,
    },
    /// A node came up.
    NodeUp(NodeEvent),
    /// A node went down.
    NodeDown(NodeEvent),
    /// A group that this actor monitors changed.
    Group {
        /// The monitor.
        tag: Ref,
        /// What happened.
        event: GroupEvent,
    },
    /// An actor whose group leader is the target printed. If there is no such target, the text
    /// goes to the `user` of the actor's node.
    Output {
        /// Who printed.
        from: Pid,
        /// To which of its outputs.
        kind: OutputKind,
        /// What: a line, a part of one, or several.
        text: Bytes,
    },
    /// An actor whose group leader is the target wants a line of standard input; answered as a
    /// request is. If there is no such target, the `user` of the actor's node answers.
    InputRequest {
        /// Who asks.
        from: Pid,
        /// Its request.
        tag: Ref,
        /// After so many milliseconds nobody waits for the line any more.
        timeout_ms: Option<u32>,
    },
    /// The target has another group leader from now on.
    GroupLeader {
        /// Who says so.
        from: Pid,
        /// The new one.
        leader: Pid,
    },
    /// A message to an alias of the target.
    Alias {
        /// Which alias.
        alias: Ref,
        /// What is said to it.
        message: Box<Aliased>,
    },
}

impl Signal {
    /// The actor that it comes from, where the signal itself says so.
    pub fn sender(&self) -> Option<Pid> {
        let sender = match self {
            Self::Request { from, .. }
            | Self::Link { from }
            | Self::Unlink { from, .. }
            | Self::UnlinkAck { from, .. }
            | Self::Monitor { from, .. }
            | Self::Exit { from, .. }
            | Self::Output { from, .. }
            | Self::InputRequest { from, .. }
            | Self::GroupLeader { from, .. } => *from,
            Self::Down { pid, .. } => *pid,
            Self::Alias { message, .. } => match &**message {
                Aliased::Request { from, .. } => *from,
                _ => return None,
            },
            Self::Spawned { result, .. } => *result.as_ref().ok()?,
            _ => return None,
        };
        // Of nobody, as after a look-up in vain.
        (sender.serial != 0).then_some(sender)
    }
}

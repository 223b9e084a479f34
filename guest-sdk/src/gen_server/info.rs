//! What reaches a server that is neither call nor cast.

use serde::{Deserialize, Serialize};

use crate::groups::{self, GroupChange, GroupMonitor};
use crate::io::InputRequest;
use crate::{
    ExitReason, Message, Monitor, NodeEvent, OutputKind, Pid, Ref, RegisterError, SpawnError,
};

/// What is neither call nor cast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Info {
    /// Sent with `send`: any bytes.
    Message(Vec<u8>),
    /// A timer of [`start_timer`](crate::time::start_timer).
    Timer(Ref),
    /// The time-out of [`Next::Timeout`](crate::Next::Timeout) passed without a message.
    Timeout,
    /// A monitored actor ended.
    Down {
        /// The monitor, which is used up.
        monitor: Monitor,
        /// Who.
        pid: Pid,
        /// Why.
        reason: ExitReason,
    },
    /// A linked actor ended or `exit` was called on this one, and it traps exits.
    Exit {
        /// Who.
        pid: Pid,
        /// Why.
        reason: ExitReason,
    },
    /// Another actor holds this cluster-wide name now, after two halves of the cluster met.
    NameConflict {
        /// The name that this actor lost.
        name: String,
        /// Who holds it.
        winner: Pid,
    },
    /// A node came up; only after [`monitor_nodes`](crate::node::monitor_nodes).
    NodeUp(NodeEvent),
    /// A node went down; only after [`monitor_nodes`](crate::node::monitor_nodes), and once for
    /// each [`monitor_node`](crate::node::monitor_node).
    NodeDown(NodeEvent),
    /// A group that this actor monitors changed; see [`groups`].
    Group {
        /// The monitor.
        monitor: GroupMonitor,
        /// What happened.
        change: GroupChange,
    },
    /// The answer to [`begin_start`](crate::process::begin_start), or to a spawn whose future was
    /// dropped.
    Spawned(Ref, Result<Pid, SpawnError>),
    /// The answer to a registration whose future was dropped.
    Registered(Ref, Result<(), RegisterError>),
    /// The answer to a connect whose future was dropped.
    Connected(Ref, Result<String, String>),
    /// An actor whose [group leader](crate::process::group_leader) this is printed.
    Output {
        /// Who.
        pid: Pid,
        /// To which of its outputs.
        kind: OutputKind,
        /// What, as it came: a line may come in parts, each actor's in order.
        text: Vec<u8>,
    },
    /// An actor whose group leader this is wants a line of input.
    InputRequest(InputRequest),
}

impl Info {
    /// None for calls, casts and responses.
    pub(super) fn of(message: Message) -> Option<Self> {
        Some(match message {
            Message::Info(body) => Info::Message(body),
            Message::Timer(tag) => Info::Timer(tag),
            Message::Timeout => Info::Timeout,
            Message::Down((tag, pid, reason)) => Info::Down {
                monitor: Monitor(tag),
                pid,
                reason,
            },
            Message::Exit((pid, reason)) => Info::Exit { pid, reason },
            Message::NameConflict((name, winner)) => Info::NameConflict { name, winner },
            Message::NodeUp(event) => Info::NodeUp(event),
            Message::NodeDown(event) => Info::NodeDown(event),
            message @ (Message::GroupJoined(_) | Message::GroupLeft(_)) => {
                let (monitor, change) = groups::change(message)?;
                Info::Group { monitor, change }
            }
            Message::Spawned((tag, result)) => Info::Spawned(tag, result),
            Message::Registered((tag, result)) => Info::Registered(tag, result),
            Message::Connected((tag, result)) => Info::Connected(tag, result),
            Message::Output((pid, kind, text)) => Info::Output { pid, kind, text },
            Message::InputRequest(from) => Info::InputRequest(InputRequest(from)),
            Message::Cast(_) | Message::Request(_) | Message::Response(_) => return None,
        })
    }
}

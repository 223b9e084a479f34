//! The contract's types to the protocol's and back. No decisions.

use bytes::Bytes;
use wasm_node_protocol as protocol;
use wasm_node_protocol::groups::GroupChange;
use wasm_node_protocol::{Incarnation, NodeKind};

use super::bindings::wasm_node::actor::global::Resolver;
use super::bindings::wasm_node::actor::groups::GroupError;
use super::bindings::wasm_node::actor::process::{InfoItem, Limits, Status};
use super::bindings::wasm_node::actor::types as wit;
use crate::process::{self, Message, Step};

impl From<protocol::Pid> for wit::Pid {
    fn from(pid: protocol::Pid) -> Self {
        Self {
            node: pid.node.0,
            serial: pid.serial,
        }
    }
}

impl From<wit::Pid> for protocol::Pid {
    fn from(pid: wit::Pid) -> Self {
        Self {
            node: Incarnation(pid.node),
            serial: pid.serial,
        }
    }
}

impl From<protocol::Ref> for wit::Ref {
    fn from(tag: protocol::Ref) -> Self {
        Self {
            node: tag.node.0,
            serial: tag.serial,
        }
    }
}

impl From<wit::Ref> for protocol::Ref {
    fn from(tag: wit::Ref) -> Self {
        Self {
            node: Incarnation(tag.node),
            serial: tag.serial,
        }
    }
}

impl From<protocol::ExitReason> for wit::ExitReason {
    fn from(reason: protocol::ExitReason) -> Self {
        use protocol::ExitReason as Reason;
        match reason {
            Reason::Normal => Self::Normal,
            Reason::Shutdown => Self::Shutdown,
            Reason::Kill => Self::Kill,
            Reason::Killed => Self::Killed,
            Reason::NoProc => Self::Noproc,
            Reason::NoConnection => Self::Noconnection,
            Reason::AlreadyStarted(pid) => Self::AlreadyStarted(pid.into()),
            Reason::Trap(text) => Self::Trap(text),
            Reason::Limit(text) => Self::Limit(text),
            Reason::Error(text) => Self::Error(text),
            Reason::Custom(data) => Self::Custom(data.into()),
            Reason::ShutdownWith(data) => Self::ShutdownWith(data.into()),
        }
    }
}

impl From<wit::ExitReason> for protocol::ExitReason {
    fn from(reason: wit::ExitReason) -> Self {
        use wit::ExitReason as Reason;
        match reason {
            Reason::Normal => Self::Normal,
            Reason::Shutdown => Self::Shutdown,
            Reason::Kill => Self::Kill,
            Reason::Killed => Self::Killed,
            Reason::Noproc => Self::NoProc,
            Reason::Noconnection => Self::NoConnection,
            Reason::AlreadyStarted(pid) => Self::AlreadyStarted(pid.into()),
            Reason::Trap(text) => Self::Trap(text),
            Reason::Limit(text) => Self::Limit(text),
            Reason::Error(text) => Self::Error(text),
            Reason::Custom(data) => Self::Custom(data.into()),
            Reason::ShutdownWith(data) => Self::ShutdownWith(data.into()),
        }
    }
}

impl From<Limits> for protocol::Limits {
    fn from(limits: Limits) -> Self {
        let Limits {
            memory_bytes,
            mailbox_messages,
            message_bytes,
            turn_cpu_ms,
            cpu_ms,
        } = limits;
        Self {
            memory_bytes,
            mailbox_messages,
            message_bytes,
            turn_cpu_ms,
            cpu_ms,
        }
    }
}

impl From<protocol::Limits> for Limits {
    fn from(limits: protocol::Limits) -> Self {
        let protocol::Limits {
            memory_bytes,
            mailbox_messages,
            message_bytes,
            turn_cpu_ms,
            cpu_ms,
        } = limits;
        Self {
            memory_bytes,
            mailbox_messages,
            message_bytes,
            turn_cpu_ms,
            cpu_ms,
        }
    }
}

/// What is known of an actor, item by item.
pub(super) fn info_items(details: process::Details) -> Vec<InfoItem> {
    let process::Details {
        info,
        links,
        monitors,
        monitored_by,
    } = details;
    let status = match info.status {
        process::Status::Waiting => Status::Waiting,
        process::Status::Runnable => Status::Runnable,
        process::Status::Running => Status::Running,
        process::Status::Suspended => Status::Suspended,
    };
    let pids = |pids: Vec<protocol::Pid>| pids.into_iter().map(Into::into).collect();
    let mut items = vec![
        InfoItem::Module(info.label),
        InfoItem::Status(status),
        InfoItem::RegisteredNames(info.names),
        InfoItem::MailboxMessages(u32::try_from(info.mailbox).unwrap_or(u32::MAX)),
    ];
    items.extend(info.parent.map(|parent| InfoItem::Parent(parent.into())));
    items.extend([
        InfoItem::Limits(info.limits.into()),
        InfoItem::CpuUs(info.cpu.as_micros() as u64),
        InfoItem::Turns(info.turns),
    ]);
    let Some(vitals) = info.vitals else {
        return items;
    };
    let reductions = info.turns + vitals.messages_in + vitals.messages_out;
    items.push(InfoItem::Reductions(reductions));
    items.extend(info.memory_bytes.map(InfoItem::MemoryBytes));
    items.extend([
        InfoItem::TrapExit(vitals.traps_exits),
        InfoItem::MessagesIn(vitals.messages_in),
        InfoItem::MessagesOut(vitals.messages_out),
        InfoItem::Links(pids(links)),
        InfoItem::Monitors(pids(monitors)),
        InfoItem::MonitoredBy(pids(monitored_by)),
    ]);
    items
}

impl From<protocol::CallError> for wit::CallError {
    fn from(error: protocol::CallError) -> Self {
        use protocol::CallError as Error;
        match error {
            Error::Timeout => Self::Timeout,
            Error::NoProc => Self::Noproc,
            Error::NoConnection => Self::Noconnection,
            Error::Exit(reason) => Self::Exit(reason.into()),
            Error::TooLarge => Self::TooLarge,
        }
    }
}

impl From<protocol::SpawnError> for wit::SpawnError {
    fn from(error: protocol::SpawnError) -> Self {
        use protocol::SpawnError as Error;
        match error {
            Error::NoSuchModule(name) => Self::NoSuchModule(name),
            Error::BadModule(text) => Self::BadModule(text),
            Error::TooManyActors => Self::TooManyActors,
            Error::NoConnection => Self::Noconnection,
            Error::NameTaken(pid) => Self::NameTaken(pid.into()),
            Error::InitFailed(reason) => Self::InitFailed(reason.into()),
        }
    }
}

impl From<protocol::RegisterError> for wit::RegisterError {
    fn from(error: protocol::RegisterError) -> Self {
        use protocol::RegisterError as Error;
        match error {
            Error::Taken(pid) => Self::Taken(pid.into()),
            Error::BadName(text) => Self::BadName(text),
            Error::NoProc => Self::Noproc,
            Error::Timeout => Self::Timeout,
            Error::NoConnection => Self::Noconnection,
            Error::Minority { seen, known } => Self::Minority((seen, known)),
        }
    }
}

impl From<Resolver> for protocol::global::Resolver {
    fn from(resolver: Resolver) -> Self {
        match resolver {
            Resolver::NotifyLoser => Self::NotifyLoser,
            Resolver::ExitLoser => Self::ExitLoser,
            Resolver::NotifyAll => Self::NotifyAll,
            Resolver::Ask(name) => Self::Ask(name),
        }
    }
}

impl From<protocol::groups::GroupError> for GroupError {
    fn from(error: protocol::groups::GroupError) -> Self {
        use protocol::groups::GroupError as Error;
        match error {
            Error::BadName => Self::BadName(error.to_string()),
            Error::NotLocal(pid) => Self::NotLocal(pid.into()),
            Error::TooManyMemberships | Error::TooManyMonitors => Self::TooMany(error.to_string()),
        }
    }
}

impl From<protocol::NodeEvent> for wit::NodeEvent {
    fn from(event: protocol::NodeEvent) -> Self {
        let kind = match event.kind {
            NodeKind::Visible => wit::NodeKind::Visible,
            NodeKind::Hidden => wit::NodeKind::Hidden,
        };
        Self {
            node: event.node.to_string(),
            kind,
            reason: event.reason,
        }
    }
}

impl From<protocol::OutputKind> for wit::OutputKind {
    fn from(kind: protocol::OutputKind) -> Self {
        match kind {
            protocol::OutputKind::Stdout => Self::Stdout,
            protocol::OutputKind::Stderr => Self::Stderr,
        }
    }
}

/// A destination as the guest wrote it. A node's name that is none is no node: nothing is
/// there, as with any name nobody has.
pub(super) fn destination(to: wit::Destination) -> protocol::Destination {
    use wit::Destination as To;
    match to {
        To::Pid(pid) => protocol::Destination::Pid(pid.into()),
        To::Name(name) => protocol::Destination::Name(name),
        To::RemoteName((name, node)) => match node.parse() {
            Ok(node) => protocol::Destination::RemoteName(name, node),
            Err(_) => protocol::Destination::Name(String::new()),
        },
        To::Global(name) => protocol::Destination::Global(name),
        To::Alias(alias) => protocol::Destination::Alias(alias.pid.into(), alias.tag.into()),
    }
}

impl From<Message> for wit::Message {
    fn from(message: Message) -> Self {
        fn call(result: Result<Bytes, protocol::CallError>) -> Result<Vec<u8>, wit::CallError> {
            result.map(Vec::from).map_err(Into::into)
        }
        match message {
            Message::Info(body) => Self::Info(body.into()),
            Message::Cast(body) => Self::Cast(body.into()),
            Message::Request { from, tag, body } => Self::Request((
                wit::ReplyTo {
                    pid: from.into(),
                    tag: tag.into(),
                },
                body.into(),
            )),
            Message::Response { tag, result } => Self::Response((tag.into(), call(result))),
            Message::Down { tag, pid, reason } => {
                Self::Down((tag.into(), pid.into(), reason.into()))
            }
            Message::Exit { from, reason } => Self::Exit((from.into(), reason.into())),
            Message::Timer { tag } => Self::Timer(tag.into()),
            Message::Timeout => Self::Timeout,
            Message::Spawned { tag, result } => {
                Self::Spawned((tag.into(), result.map(Into::into).map_err(Into::into)))
            }
            Message::Registered { tag, result } => {
                Self::Registered((tag.into(), result.map_err(Into::into)))
            }
            Message::Connected { tag, result } => Self::Connected((tag.into(), result)),
            Message::NameConflict { name, holder } => Self::NameConflict((name, holder.into())),
            Message::NodeUp(event) => Self::NodeUp(event.into()),
            Message::NodeDown(event) => Self::NodeDown(event.into()),
            Message::Group { tag, event } => {
                let pids = event.pids.into_iter().map(Into::into).collect();
                let told = (tag.into(), event.group, pids);
                match event.change {
                    GroupChange::Joined => Self::GroupJoined(told),
                    GroupChange::Left => Self::GroupLeft(told),
                }
            }
            Message::Output { from, kind, text } => {
                Self::Output((from.into(), kind.into(), text.into()))
            }
            Message::InputRequest { from, tag, .. } => Self::InputRequest(wit::ReplyTo {
                pid: from.into(),
                tag: tag.into(),
            }),
        }
    }
}

impl From<wit::Outcome> for Step {
    fn from(outcome: wit::Outcome) -> Self {
        match outcome {
            wit::Outcome::Starting => Self::Starting,
            wit::Outcome::Wait | wit::Outcome::Hibernate => Self::Wait,
            wit::Outcome::WaitFor(ms) => Self::WaitFor(ms),
            wit::Outcome::Stop(reason) => Self::Stop(reason.into()),
        }
    }
}

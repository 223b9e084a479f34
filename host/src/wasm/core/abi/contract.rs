//! The layouts of the contract's own types, as `wit/` has them: fields and cases in its order.

use wasm_node_protocol::groups::GroupChange;
use wasmtime::{Result, ValRaw, ValType, bail};

use super::{
    Guest, Layout, Lift, Lower, align_up, flatten_cases, load_tag, max, slice, store_pointer,
};
use crate::process;
use crate::wasm::bindings::wasm_node::actor::code::ModuleInfo;
use crate::wasm::bindings::wasm_node::actor::global::Resolver;
use crate::wasm::bindings::wasm_node::actor::groups::GroupError;
use crate::wasm::bindings::wasm_node::actor::io::LogLevel;
use crate::wasm::bindings::wasm_node::actor::node::NodeSet;
use crate::wasm::bindings::wasm_node::actor::process::{
    AliasMode, InfoItem, Limits, SpawnFlags, SpawnOptions, Status,
};
use crate::wasm::bindings::wasm_node::actor::types as wit;

record!(wit::Pid, (node: node: u64, serial: serial: u64), Self { node, serial });
record!(wit::Ref, (node: node: u64, serial: serial: u64), Self { node, serial });
record!(wit::ReplyTo, (pid: pid: wit::Pid, tag: tag: wit::Ref), Self { pid, tag });
record!(
    wit::NodeEvent,
    (node: node: String, kind: kind: wit::NodeKind, reason: reason: String),
    Self { node, kind, reason }
);
record!(
    ModuleInfo,
    (name: name: String, digest: digest: String, actors: actors: u32),
    Self { name, digest, actors }
);
record!(
    SpawnOptions,
    (
        flags: flags: SpawnFlags,
        name: name: Option<String>,
        global: global: Option<String>,
        group_leader: group_leader: Option<wit::Pid>,
        capabilities: capabilities: Option<Vec<String>>,
        limits: limits: Option<Limits>
    ),
    Self { flags, name, global, group_leader, capabilities, limits }
);
record!(
    Limits,
    (
        memory_bytes: memory_bytes: Option<u64>,
        mailbox_messages: mailbox_messages: Option<u32>,
        message_bytes: message_bytes: Option<u32>,
        turn_cpu_ms: turn_cpu_ms: Option<u32>,
        cpu_ms: cpu_ms: Option<u64>
    ),
    Self { memory_bytes, mailbox_messages, message_bytes, turn_cpu_ms, cpu_ms }
);

impl Layout for SpawnFlags {
    const SIZE: usize = 1;
    const ALIGN: usize = 1;
    const FLATS: usize = 1;
    fn flatten(into: &mut Vec<ValType>) {
        into.push(ValType::I32);
    }
}

fn spawn_flags(bits: u32) -> SpawnFlags {
    let flags = [
        SpawnFlags::LINK,
        SpawnFlags::MONITOR,
        SpawnFlags::AWAIT_INIT,
    ];
    let set = flags.into_iter().enumerate();
    set.filter(|(bit, _)| bits >> bit & 1 == 1)
        .fold(SpawnFlags::empty(), |all, (_, flag)| all | flag)
}

impl Lift for SpawnFlags {
    fn lift(flats: &[ValRaw], _: &[u8]) -> Result<Self> {
        Ok(spawn_flags(flats[0].get_u32()))
    }
    fn load(memory: &[u8], at: usize) -> Result<Self> {
        Ok(spawn_flags(load_tag(memory, at)?))
    }
}

impl Lower for SpawnFlags {
    fn store(self, _: &mut Guest<'_>, to: &mut [u8]) -> Result<()> {
        let flags = [
            SpawnFlags::LINK,
            SpawnFlags::MONITOR,
            SpawnFlags::AWAIT_INIT,
        ];
        let set = flags.into_iter().enumerate();
        let bits = set.filter(|(_, flag)| self.contains(*flag));
        to[0] = bits.map(|(bit, _)| 1 << bit).sum();
        Ok(())
    }
}

variant!(
    wit::ExitReason, (),
    {
        6 Self::AlreadyStarted(pid) => Self::AlreadyStarted(pid), pid: wit::Pid;
        7 Self::Trap(text) => Self::Trap(text), text: String;
        8 Self::Limit(text) => Self::Limit(text), text: String;
        9 Self::Error(text) => Self::Error(text), text: String;
        10 Self::Custom(data) => Self::Custom(data), data: Vec<u8>;
        11 Self::ShutdownWith(data) => Self::ShutdownWith(data), data: Vec<u8>;
    },
    {
        0 Self::Normal => Self::Normal;
        1 Self::Shutdown => Self::Shutdown;
        2 Self::Kill => Self::Kill;
        3 Self::Killed => Self::Killed;
        4 Self::Noproc => Self::Noproc;
        5 Self::Noconnection => Self::Noconnection;
    }
);
variant!(
    wit::Destination, (),
    {
        0 Self::Pid(pid) => Self::Pid(pid), pid: wit::Pid;
        1 Self::Name(name) => Self::Name(name), name: String;
        2 Self::RemoteName(name) => Self::RemoteName(name), name: (String, String);
        3 Self::Global(name) => Self::Global(name), name: String;
        4 Self::Alias(alias) => Self::Alias(alias), alias: wit::ReplyTo;
    },
    {}
);
variant!(
    wit::CallError, (),
    { 3 Self::Exit(reason) => Self::Exit(reason), reason: wit::ExitReason; },
    {
        0 Self::Timeout => Self::Timeout;
        1 Self::Noproc => Self::Noproc;
        2 Self::Noconnection => Self::Noconnection;
        4 Self::TooLarge => Self::TooLarge;
    }
);
variant!(
    wit::SpawnError, (),
    {
        0 Self::NoSuchModule(name) => Self::NoSuchModule(name), name: String;
        1 Self::BadModule(text) => Self::BadModule(text), text: String;
        4 Self::NameTaken(pid) => Self::NameTaken(pid), pid: wit::Pid;
        5 Self::InitFailed(reason) => Self::InitFailed(reason), reason: wit::ExitReason;
    },
    {
        2 Self::TooManyActors => Self::TooManyActors;
        3 Self::Noconnection => Self::Noconnection;
    }
);
variant!(
    wit::RegisterError, (),
    {
        0 Self::Taken(pid) => Self::Taken(pid), pid: wit::Pid;
        1 Self::BadName(text) => Self::BadName(text), text: String;
        5 Self::Minority(seen) => Self::Minority(seen), seen: (u32, u32);
    },
    {
        2 Self::Noproc => Self::Noproc;
        3 Self::Timeout => Self::Timeout;
        4 Self::Noconnection => Self::Noconnection;
    }
);
variant!(
    Resolver, (),
    { 3 Self::Ask(name) => Self::Ask(name), name: String; },
    {
        0 Self::NotifyLoser => Self::NotifyLoser;
        1 Self::ExitLoser => Self::ExitLoser;
        2 Self::NotifyAll => Self::NotifyAll;
    }
);
variant!(
    GroupError, (),
    {
        0 Self::BadName(text) => Self::BadName(text), text: String;
        1 Self::NotLocal(pid) => Self::NotLocal(pid), pid: wit::Pid;
        2 Self::TooMany(text) => Self::TooMany(text), text: String;
    },
    {}
);
variant!(
    wit::NodeKind, (), {},
    { 0 Self::Visible => Self::Visible; 1 Self::Hidden => Self::Hidden; }
);
variant!(
    wit::OutputKind, (), {},
    { 0 Self::Stdout => Self::Stdout; 1 Self::Stderr => Self::Stderr; }
);
variant!(
    LogLevel, (), {},
    {
        0 Self::Debug => Self::Debug;
        1 Self::Info => Self::Info;
        2 Self::Warning => Self::Warning;
        3 Self::Error => Self::Error;
    }
);
variant!(
    NodeSet, (), {},
    {
        0 Self::Visible => Self::Visible;
        1 Self::Hidden => Self::Hidden;
        2 Self::All => Self::All;
    }
);
variant!(
    AliasMode, (), {},
    { 0 Self::Explicit => Self::Explicit; 1 Self::Reply => Self::Reply; }
);
variant!(
    Status, (), {},
    {
        0 Self::Waiting => Self::Waiting;
        1 Self::Runnable => Self::Runnable;
        2 Self::Running => Self::Running;
        3 Self::Suspended => Self::Suspended;
    }
);
variant!(
    InfoItem, (),
    {
        0 Self::Module(name) => Self::Module(name), name: String;
        1 Self::Status(status) => Self::Status(status), status: Status;
        2 Self::RegisteredNames(names) => Self::RegisteredNames(names), names: Vec<String>;
        3 Self::MailboxMessages(count) => Self::MailboxMessages(count), count: u32;
        4 Self::Parent(parent) => Self::Parent(parent), parent: wit::Pid;
        5 Self::Limits(limits) => Self::Limits(limits), limits: Limits;
        6 Self::CpuUs(us) => Self::CpuUs(us), us: u64;
        7 Self::Turns(count) => Self::Turns(count), count: u64;
        8 Self::Reductions(count) => Self::Reductions(count), count: u64;
        9 Self::MemoryBytes(bytes) => Self::MemoryBytes(bytes), bytes: u64;
        10 Self::TrapExit(on) => Self::TrapExit(on), on: bool;
        11 Self::MessagesIn(count) => Self::MessagesIn(count), count: u64;
        12 Self::MessagesOut(count) => Self::MessagesOut(count), count: u64;
        13 Self::Links(pids) => Self::Links(pids), pids: Vec<wit::Pid>;
        14 Self::Monitors(pids) => Self::Monitors(pids), pids: Vec<wit::Pid>;
        15 Self::MonitoredBy(pids) => Self::MonitoredBy(pids), pids: Vec<wit::Pid>;
    },
    {}
);
variant!(
    wit::Outcome, (),
    {
        2 Self::WaitFor(ms) => Self::WaitFor(ms), ms: u32;
        4 Self::Stop(reason) => Self::Stop(reason), reason: wit::ExitReason;
    },
    {
        0 Self::Starting => Self::Starting;
        1 Self::Wait => Self::Wait;
        3 Self::Hibernate => Self::Hibernate;
    }
);
variant!(
    wit::Start, (),
    {
        0 Self::Fresh(args) => Self::Fresh(args), args: Vec<u8>;
        1 Self::Restored(saved) => Self::Restored(saved), saved: Vec<u8>;
    },
    {}
);
variant!(
    wit::SaveError, (),
    { 1 Self::Refused(why) => Self::Refused(why), why: String; },
    { 0 Self::Busy => Self::Busy; }
);
// The cases of `types.wit` in their order. The host's own message is lowered, not the
// bindings', so that bodies are copied once.
variant!(
    layout process::Message, (),
    bytes::Bytes,
    (wit::ReplyTo, bytes::Bytes),
    (wit::Ref, Result<bytes::Bytes, wit::CallError>),
    (wit::Ref, wit::Pid, wit::ExitReason),
    (wit::Pid, wit::ExitReason),
    wit::Ref,
    (wit::Ref, Result<wit::Pid, wit::SpawnError>),
    (wit::Ref, Result<(), wit::RegisterError>),
    (wit::Ref, Result<String, String>),
    (String, wit::Pid),
    wit::NodeEvent,
    (wit::Ref, String, Vec<wit::Pid>),
    (wit::Pid, wit::OutputKind, bytes::Bytes),
    wit::ReplyTo
);

impl Lower for process::Message {
    fn store(self, guest: &mut Guest<'_>, to: &mut [u8]) -> Result<()> {
        use process::Message as M;
        let tag: u8 = match &self {
            M::Info(_) => 0,
            M::Cast(_) => 1,
            M::Request { .. } => 2,
            M::Response { .. } => 3,
            M::Down { .. } => 4,
            M::Exit { .. } => 5,
            M::Timer { .. } => 6,
            M::Timeout => 7,
            M::Spawned { .. } => 8,
            M::Registered { .. } => 9,
            M::Connected { .. } => 10,
            M::NameConflict { .. } => 11,
            M::NodeUp(_) => 12,
            M::NodeDown(_) => 13,
            M::Group { event, .. } => match event.change {
                GroupChange::Joined => 14,
                GroupChange::Left => 15,
            },
            M::Output { .. } => 16,
            M::InputRequest { .. } => 17,
        };
        to[0] = tag;
        let to = &mut to[align_up(1, Self::ALIGN)..];
        match self {
            M::Info(body) | M::Cast(body) => body.store_first(guest, to),
            M::Request { from, tag, body } => {
                let reply_to = wit::ReplyTo {
                    pid: from.into(),
                    tag: tag.into(),
                };
                (reply_to, body).store_first(guest, to)
            }
            M::Response { tag, result } => {
                let result = result.map_err(wit::CallError::from);
                (wit::Ref::from(tag), result).store_first(guest, to)
            }
            M::Down { tag, pid, reason } => {
                let reason = wit::ExitReason::from(reason);
                (wit::Ref::from(tag), wit::Pid::from(pid), reason).store_first(guest, to)
            }
            M::Exit { from, reason } => {
                (wit::Pid::from(from), wit::ExitReason::from(reason)).store_first(guest, to)
            }
            M::Timer { tag } => wit::Ref::from(tag).store_first(guest, to),
            M::Timeout => Ok(()),
            M::Spawned { tag, result } => {
                let result = result.map(wit::Pid::from).map_err(wit::SpawnError::from);
                (wit::Ref::from(tag), result).store_first(guest, to)
            }
            M::Registered { tag, result } => {
                let result = result.map_err(wit::RegisterError::from);
                (wit::Ref::from(tag), result).store_first(guest, to)
            }
            M::Connected { tag, result } => (wit::Ref::from(tag), result).store_first(guest, to),
            M::NameConflict { name, holder } => {
                (name, wit::Pid::from(holder)).store_first(guest, to)
            }
            M::NodeUp(event) | M::NodeDown(event) => {
                wit::NodeEvent::from(event).store_first(guest, to)
            }
            M::Group { tag, event } => {
                let pids: Vec<wit::Pid> = event.pids.into_iter().map(Into::into).collect();
                (wit::Ref::from(tag), event.group, pids).store_first(guest, to)
            }
            M::Output { from, kind, text } => {
                let (from, kind) = (wit::Pid::from(from), wit::OutputKind::from(kind));
                (from, kind, text).store_first(guest, to)
            }
            M::InputRequest { from, tag, .. } => {
                let (pid, tag) = (from.into(), tag.into());
                wit::ReplyTo { pid, tag }.store_first(guest, to)
            }
        }
    }
}

pointer!(
    Vec<wit::Pid>,
    Vec<(String, Vec<wit::Pid>)>,
    Vec<(String, String)>,
    Vec<ModuleInfo>,
    Vec<InfoItem>
);
list!(wit::Pid, (String, Vec<wit::Pid>), ModuleInfo, InfoItem);

/// Lists that guests pass: where the elements are, and how many.
macro_rules! lifted_list {
    ($($type:ty, $elements:ident);*) => {$(
        impl Lift for Vec<$type> {
            fn lift(flats: &[ValRaw], memory: &[u8]) -> Result<Self> {
                let (at, count) = (flats[0].get_u32(), flats[1].get_u32());
                $elements(memory, at as usize, count as usize)
            }
            fn load(memory: &[u8], at: usize) -> Result<Self> {
                let (to, count) = (u32::load(memory, at)?, u32::load(memory, at + 4)?);
                $elements(memory, to as usize, count as usize)
            }
        }
    )*};
}

lifted_list!(wit::Pid, elements; (String, String), pairs);

fn elements<T: Lift>(memory: &[u8], at: usize, count: usize) -> Result<Vec<T>> {
    if !at.is_multiple_of(T::ALIGN) {
        bail!("list pointer is not aligned");
    }
    let Some(bytes) = count.checked_mul(T::SIZE) else {
        bail!("pointer out of bounds of memory");
    };
    slice(memory, at, bytes)?;
    let each = (0..count).map(|index| T::load(memory, at + index * T::SIZE));
    each.collect()
}

/// What the strings of one list of pairs may take together.
const MAX_PAIRS_BYTES: usize = 1 << 20;

/// As `elements`; many strings may lie at one place, and must not take more here than there.
fn pairs(memory: &[u8], at: usize, count: usize) -> Result<Vec<(String, String)>> {
    type Ends = ((u32, u32), (u32, u32));
    let ends: Vec<Ends> = elements(memory, at, count)?;
    let lengths = ends
        .iter()
        .map(|((_, a), (_, b))| *a as usize + *b as usize);
    if lengths.sum::<usize>() > MAX_PAIRS_BYTES {
        bail!("a list of pairs has more than {MAX_PAIRS_BYTES} bytes of text");
    }
    elements(memory, at, count)
}

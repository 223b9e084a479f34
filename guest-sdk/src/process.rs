//! This actor, the life of others, and plain messages.
//!
//! | Erlang | here |
//! | --- | --- |
//! | `self/0`, `!`, `erlang:send/2` | [`self_pid`], [`send`], [`send_to`] |
//! | `spawn/3`, `spawn_link/3`, `spawn_monitor/3` | [`spawn`] with [`SpawnOptions`] |
//! | `spawn/4`, `spawn_request/5` | [`spawn_on`], whose future may be dropped |
//! | `proc_lib:start/3` | [`start`], [`begin_start`]: they wait for `init` |
//! | `link/1`, `unlink/1`, `process_flag(trap_exit, B)` | [`link`], [`unlink`], [`trap_exit`] |
//! | `monitor/2`, `demonitor/1` | [`monitor`], [`Monitor::cancel`] |
//! | `exit/2`, `is_process_alive/1`, `process_info/1` | [`exit`], [`is_alive`], [`info`] |
//! | `group_leader/0,2` | [`group_leader`], [`set_group_leader`] |
//! | `alias/1`, `unalias/1` | [`Alias`] |
//! | `process_flag(max_heap_size, ..)` | [`tighten`], which can only lower |
//!
//! What differs: a message is bytes; a spawn names a module, not a function; limits and rights only
//! shrink from parent to child.

use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bindings::wasm_node::actor::process as wit;
use crate::runtime::{self, Answer, Kind};
use crate::server_ref::Name;
use crate::sys::{mailbox, process};
use crate::time::millis;
use crate::{CallError, Destination, ExitReason, Message, Pid, Ref, ReplyTo, SpawnError};

/// What a new actor starts with, besides its module and arguments.
#[derive(Debug, Clone, Default)]
pub struct SpawnOptions {
    link: bool,
    monitor: bool,
    name: Option<String>,
    global: Option<String>,
    group_leader: Option<Pid>,
    capabilities: Option<Vec<String>>,
    limits: Option<Limits>,
}

/// Bounds on what one actor uses; `None` is none of its own, and its module's hold as well. One
/// that goes over any but `message_bytes` ends with [`ExitReason::Limit`], which names it.
///
/// ```
/// use wasm_node_sdk::process::{Limits, SpawnOptions};
///
/// let small = Limits {
///     memory_bytes: Some(2 << 20),
///     turn_cpu_ms: Some(100),
///     ..Limits::default()
/// };
/// let options = SpawnOptions::new().link().limits(small);
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Linear memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Messages that wait for it.
    pub mailbox_messages: Option<u32>,
    /// The body of one message to it, in bytes. A larger one does not reach it: a request is
    /// answered [`CallError::TooLarge`], another message is dropped.
    pub message_bytes: Option<u32>,
    /// What one turn may compute, in milliseconds of processor time: a handler that loops.
    pub turn_cpu_ms: Option<u32>,
    /// What all of its turns may compute together, in milliseconds of processor time.
    pub cpu_ms: Option<u64>,
}

impl Limits {
    fn to_wit(self) -> wit::Limits {
        wit::Limits {
            memory_bytes: self.memory_bytes,
            mailbox_messages: self.mailbox_messages,
            message_bytes: self.message_bytes,
            turn_cpu_ms: self.turn_cpu_ms,
            cpu_ms: self.cpu_ms,
        }
    }

    fn from_wit(limits: wit::Limits) -> Self {
        Self {
            memory_bytes: limits.memory_bytes,
            mailbox_messages: limits.mailbox_messages,
            message_bytes: limits.message_bytes,
            turn_cpu_ms: limits.turn_cpu_ms,
            cpu_ms: limits.cpu_ms,
        }
    }
}

impl SpawnOptions {
    /// Neither link nor monitor nor name.
    pub fn new() -> Self {
        Self::default()
    }

    /// Linked to this actor, from its very start.
    pub fn link(mut self) -> Self {
        self.link = true;
        self
    }

    /// Monitored by this actor, from its very start: [`Spawned::monitor`].
    pub fn monitor(mut self) -> Self {
        self.monitor = true;
        self
    }

    /// Registered under this name on its node, from its very start.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Holds this global name before its `init` begins; if another actor does, it ends with
    /// [`ExitReason::AlreadyStarted`].
    pub fn global(mut self, name: impl Into<String>) -> Self {
        self.global = Some(name.into());
        self
    }

    /// With another [`group_leader`] than this actor's.
    pub fn group_leader(mut self, leader: Pid) -> Self {
        self.group_leader = Some(leader);
        self
    }

    /// Holds no more than these of what this actor holds and its module is granted, as in
    /// `["keyvalue:todo"]`; nothing for an empty list. Without it, all of that. What a module may be
    /// granted is in a node's policy and an app's manifest.
    pub fn capabilities<T: Into<String>>(mut self, only: impl IntoIterator<Item = T>) -> Self {
        self.capabilities = Some(only.into_iter().map(Into::into).collect());
        self
    }

    /// With limits of its own, within its module's.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// With one of the two kinds of names.
    pub fn named(self, name: Name) -> Self {
        match name {
            Name::Local(name) => self.name(name),
            Name::Global(name) => self.global(name),
        }
    }

    pub(crate) fn to_wit(&self, await_init: bool) -> wit::SpawnOptions {
        let mut flags = wit::SpawnFlags::empty();
        flags.set(wit::SpawnFlags::LINK, self.link);
        flags.set(wit::SpawnFlags::MONITOR, self.monitor);
        flags.set(wit::SpawnFlags::AWAIT_INIT, await_init);
        wit::SpawnOptions {
            flags,
            name: self.name.clone(),
            global: self.global.clone(),
            group_leader: self.group_leader,
            capabilities: self.capabilities.clone(),
            limits: self.limits.map(Limits::to_wit),
        }
    }
}

/// A new actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spawned {
    /// Who.
    pub pid: Pid,
    /// Its monitor, if the options asked for one.
    pub monitor: Option<Monitor>,
}

/// This actor.
pub fn self_pid() -> Pid {
    process::self_()
}

/// Starts an actor of a module on this node, and goes on at once: its `init` runs later.
/// `module` is a module's name or a digest in hex.
pub fn spawn(module: &str, args: &[u8], options: &SpawnOptions) -> Result<Spawned, SpawnError> {
    let (pid, tag) = process::spawn(module, args, &options.to_wit(false))?;
    Ok(Spawned {
        pid,
        monitor: options.monitor.then_some(Monitor(tag)),
    })
}

/// As [`spawn`], and waits until its `init` has finished. [`SpawnError::InitFailed`] has why
/// it did not.
pub async fn start(
    module: &str,
    args: &[u8],
    options: &SpawnOptions,
) -> Result<Spawned, SpawnError> {
    let (_, tag) = process::spawn(module, args, &options.to_wit(true))?;
    spawned(tag, options).await
}

/// As [`start`] without waiting: [`Info::Spawned`](crate::Info::Spawned) with the ref returned
/// comes when its `init` has ended, to the handler. The ref is the monitor too, if the options
/// ask for one.
pub fn begin_start(
    module: &str,
    args: &[u8],
    options: &SpawnOptions,
) -> Result<(Pid, Ref), SpawnError> {
    process::spawn(module, args, &options.to_wit(true))
}

/// Starts an actor on a node, which gets the code from this one if it lacks it. With
/// `await_init`, waits until its `init` has finished.
pub async fn spawn_on(
    node: &str,
    module: &str,
    args: &[u8],
    options: &SpawnOptions,
    await_init: bool,
) -> Result<Spawned, SpawnError> {
    spawned(
        process::spawn_on(node, module, args, &options.to_wit(await_init)),
        options,
    )
    .await
}

async fn spawned(tag: Ref, options: &SpawnOptions) -> Result<Spawned, SpawnError> {
    match Answer::of(tag, Kind::Spawned).await {
        Message::Spawned((_, Ok(pid))) => Ok(Spawned {
            pid,
            monitor: options.monitor.then_some(Monitor(tag)),
        }),
        Message::Spawned((_, Err(error))) => Err(error),
        _ => Err(SpawnError::Noconnection),
    }
}

/// Links this actor and another: if one ends other than normally, so does the other, unless
/// it traps exits.
pub fn link(to: Pid) {
    process::link(to);
}

/// Takes the link away.
pub fn unlink(to: Pid) {
    process::unlink(to);
}

/// Sends an exit signal, as Erlang's `exit/2`.
pub fn exit(target: Pid, reason: ExitReason) {
    process::exit(target, &reason);
}

/// Whether exit signals become [`Info::Exit`](crate::Info::Exit); what was set before.
pub fn trap_exit(on: bool) -> bool {
    process::trap_exit(on)
}

/// Makes this actor's own limits tighter, never looser: what `process_flag(max_heap_size, _)` is for.
pub fn tighten(limits: Limits) {
    process::tighten(limits.to_wit());
}

/// What an actor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Status {
    /// Waits for a message.
    #[default]
    Waiting,
    /// Waits for its turn.
    Runnable,
    /// In a turn.
    Running,
    /// In a turn, and waits for room in another's mailbox.
    Suspended,
}

/// What is known of an actor: Erlang's `process_info/1`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProcessInfo {
    /// Its module's name, or what its node calls a process of its own.
    pub module: String,
    /// What it is doing.
    pub status: Status,
    /// Its names in the node's registry.
    pub registered_names: Vec<String>,
    /// Messages that wait for it.
    pub mailbox_messages: u32,
    /// Who spawned it.
    pub parent: Option<Pid>,
    /// Its limits.
    pub limits: Limits,
    /// Processor time, sampled every millisecond.
    pub cpu: Duration,
    /// Turns that it has begun.
    pub turns: u64,
    /// Linear memory, in bytes; not of the actor that asks.
    pub memory_bytes: Option<u64>,
    /// What is only seen between two of its turns, and is missing of one whose turn is long.
    pub details: Option<ProcessDetails>,
}

/// What of an actor is only seen between two of its turns, or in one of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProcessDetails {
    /// Turns, messages taken and messages sent together: a measure of work that does not depend
    /// on the machine, as Erlang's `reductions`.
    pub reductions: u64,
    /// Whether exit signals become messages.
    pub trap_exit: bool,
    /// Messages taken.
    pub messages_in: u64,
    /// Messages sent, answers included.
    pub messages_out: u64,
    /// Whom it is linked to, sorted.
    pub links: Vec<Pid>,
    /// Whom it monitors by pid, sorted.
    pub monitors: Vec<Pid>,
    /// Who monitors it, sorted.
    pub monitored_by: Vec<Pid>,
}

/// Erlang's `process_info/1`: of an actor of this node, none if it is none that lives. Waits for
/// the end of its turn, for 50 ms at most.
pub fn info(target: Pid) -> Option<ProcessInfo> {
    use wit::InfoItem as Item;
    let mut info = ProcessInfo::default();
    for item in process::info(target)? {
        let details = || ProcessDetails::default();
        match item {
            Item::Module(module) => info.module = module,
            Item::Status(status) => {
                info.status = match status {
                    wit::Status::Waiting => Status::Waiting,
                    wit::Status::Runnable => Status::Runnable,
                    wit::Status::Running => Status::Running,
                    wit::Status::Suspended => Status::Suspended,
                };
            }
            Item::RegisteredNames(names) => info.registered_names = names,
            Item::MailboxMessages(count) => info.mailbox_messages = count,
            Item::Parent(parent) => info.parent = Some(parent),
            Item::Limits(limits) => info.limits = Limits::from_wit(limits),
            Item::CpuUs(us) => info.cpu = Duration::from_micros(us),
            Item::Turns(turns) => info.turns = turns,
            Item::MemoryBytes(bytes) => info.memory_bytes = Some(bytes),
            Item::Reductions(count) => {
                info.details.get_or_insert_with(details).reductions = count;
            }
            Item::TrapExit(on) => info.details.get_or_insert_with(details).trap_exit = on,
            Item::MessagesIn(count) => {
                info.details.get_or_insert_with(details).messages_in = count;
            }
            Item::MessagesOut(count) => {
                info.details.get_or_insert_with(details).messages_out = count;
            }
            Item::Links(pids) => info.details.get_or_insert_with(details).links = pids,
            Item::Monitors(pids) => info.details.get_or_insert_with(details).monitors = pids,
            Item::MonitoredBy(pids) => {
                info.details.get_or_insert_with(details).monitored_by = pids;
            }
        }
    }
    Some(info)
}

/// Who spawned this actor, if an actor did: Erlang's `proc_lib` calls it the parent.
pub fn parent() -> Option<Pid> {
    info(self_pid())?.parent
}

/// Another address of this actor, as plain data: Erlang's `alias/1`. What is sent to it while it is
/// active reaches this actor as if sent to its pid; what comes later vanishes, and a request is
/// answered [`CallError::Noproc`]. Answers to this SDK's requests need none: a late one never
/// comes.
///
/// ```no_run
/// use wasm_node_sdk::process::Alias;
///
/// let alias = Alias::new();
/// // Send `alias.destination()` to whoever may send here, then, when enough has come:
/// alias.cancel();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias(ReplyTo);

impl Alias {
    /// Active until [`Alias::cancel`], or until this actor ends.
    #[expect(clippy::new_without_default, reason = "it does something")]
    pub fn new() -> Self {
        Self(process::alias(wit::AliasMode::Explicit))
    }

    /// Active until one message has come by it.
    pub fn for_one_message() -> Self {
        Self(process::alias(wit::AliasMode::Reply))
    }

    /// Where to send, from any node.
    pub fn destination(self) -> Destination {
        Destination::Alias(self.0)
    }

    /// Erlang's `unalias/1`, by the actor that made it; whether it was active.
    pub fn cancel(self) -> bool {
        process::unalias(self.0)
    }
}

/// Whether an actor of this node lives.
pub fn is_alive(target: Pid) -> bool {
    process::is_alive(target)
}

/// Where this actor's text goes and its lines of input come from: Erlang's `group_leader/0`. A
/// new actor has its parent's, on whatever node it runs. Each node has one of its own, with the
/// local name `user`, which also stands in for one that is gone.
pub fn group_leader() -> Pid {
    process::group_leader()
}

/// Gives an actor, of any node, another group leader: Erlang's `group_leader/2`, with the actor
/// first. An actor that is one gets [`Info::Output`](crate::Info::Output) and
/// [`Info::InputRequest`](crate::Info::InputRequest).
pub fn set_group_leader(target: Pid, leader: Pid) {
    process::set_group_leader(target, leader);
}

/// A watch over an actor's life, as plain data: it lives in the host, survives upgrades, and
/// ends in one `down`, which comes as [`Info::Down`](crate::Info::Down) or to [`Monitor::down`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Monitor(pub Ref);

/// Monitors an actor; `noproc` comes at once if there is none.
pub fn monitor(target: impl Into<Destination>) -> Monitor {
    Monitor(process::monitor(&target.into()))
}

impl Monitor {
    /// Waits for the actor's end, which then is no `Info::Down` any more.
    pub async fn down(self) -> (Pid, ExitReason) {
        match Answer::of_older(self.0, Kind::Down).await {
            Message::Down((_, pid, reason)) => (pid, reason),
            _ => (Pid::NONE, ExitReason::Noproc),
        }
    }

    /// Ends the watch; its `down` will not come any more.
    pub fn cancel(self) {
        process::demonitor(self.0);
        // The host cannot take back one that waits in here already.
        runtime::discard(|message| matches!(message, Message::Down((tag, ..)) if *tag == self.0));
    }
}

/// Sends a plain message: `handle_info`. False if it is larger than the host's limit.
pub fn send(to: Pid, body: &[u8]) -> bool {
    mailbox::send(to, body).is_ok()
}

/// As [`send`], to any destination.
pub fn send_to(to: &Destination, body: &[u8]) -> bool {
    mailbox::send_to(to, body).is_ok()
}

/// Sends `handle_cast` bytes. False if they are more than the host's limit.
pub fn cast(to: &Destination, body: &[u8]) -> bool {
    mailbox::cast(to, body).is_ok()
}

/// Asks with bytes and waits for the reply's. The request is sent by this call, not by the
/// first poll; dropping the future forgets it. Without a time-out it waits as long as the
/// callee lives.
pub fn request(
    to: &Destination,
    body: &[u8],
    timeout: Option<Duration>,
) -> impl Future<Output = Result<Vec<u8>, CallError>> + use<> {
    struct Forget(Answer);
    impl Drop for Forget {
        fn drop(&mut self) {
            if !self.0.is_done() {
                mailbox::forget(self.0.tag());
            }
        }
    }
    let tag = mailbox::request(to, body, timeout.map(millis));
    let mut answer = Forget(Answer::of(tag, Kind::Response));
    async move {
        match (&mut answer.0).await {
            Message::Response((_, result)) => result,
            _ => Err(CallError::Noproc),
        }
    }
}

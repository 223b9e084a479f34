//! This actor, the life of others, and plain messages.

use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bindings::wasm_node::actor::process as wit;
use crate::runtime::{self, Answer, Kind};
use crate::server_ref::Name;
use crate::sys::{mailbox, process};
use crate::time::millis;
use crate::{CallError, Destination, ExitReason, Message, Pid, Ref, SpawnError};

/// What a new actor starts with, besides its module and arguments.
#[derive(Debug, Clone, Default)]
pub struct SpawnOptions {
    link: bool,
    monitor: bool,
    name: Option<String>,
    global: Option<String>,
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
    /// [`ExitReason::AlreadyStarted`](crate::ExitReason::AlreadyStarted).
    pub fn global(mut self, name: impl Into<String>) -> Self {
        self.global = Some(name.into());
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

/// Whether an actor of this node lives.
pub fn is_alive(target: Pid) -> bool {
    process::is_alive(target)
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

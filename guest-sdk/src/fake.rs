//! A double of the host's imports, for this crate's own tests: one actor a thread, its mailbox
//! in the test's hands, everything it does written down.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::{Destination, ExitReason, Message, Pid, Ref, ReplyTo};

/// What the actor did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Did {
    Sent(Destination, Vec<u8>),
    Cast(Destination, Vec<u8>),
    Requested(Destination, Vec<u8>, Option<u32>, Ref),
    Forgot(Ref),
    Replied(ReplyTo, Vec<u8>),
    StartedTimer(u32, Ref),
    CancelledTimer(Ref),
    Registered(String, Ref),
    SetLock(String, Option<u32>, Ref),
    DeletedLock(String),
    Spawned(String, Vec<u8>, Ref),
    SpawnedOn(String, String, Vec<u8>, Ref),
    Monitored(Destination, Ref),
    Demonitored(Ref),
    Exited(Pid, ExitReason),
    Connected(String, Ref),
    Printed(String),
    SetGroupLeader(Pid, Pid),
    ReadLine(Option<u32>, Ref),
    Logged(String, Vec<(String, String)>),
}

#[derive(Default)]
struct Host {
    mailbox: VecDeque<Message>,
    did: Vec<Did>,
    refs: u64,
    now: u64,
    group_leader: Option<Pid>,
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::default();
}

pub(crate) const ME: Pid = Pid { node: 1, serial: 1 };
pub(crate) const USER: Pid = Pid { node: 1, serial: 2 };

fn with<R>(f: impl FnOnce(&mut Host) -> R) -> R {
    HOST.with_borrow_mut(f)
}

/// Starts afresh: another actor's life on this thread.
pub(crate) fn reset() {
    crate::runtime::reset();
    with(|host| *host = Host::default());
}

pub(crate) fn deliver(message: Message) {
    with(|host| host.mailbox.push_back(message));
}

pub(crate) fn advance(ms: u64) {
    with(|host| host.now += ms * 1_000_000);
}

/// What was done since the last look.
pub(crate) fn did() -> Vec<Did> {
    with(|host| std::mem::take(&mut host.did))
}

fn note<T: Copy>(value: T, did: impl FnOnce(T) -> Did) -> T {
    with(|host| host.did.push(did(value)));
    value
}

fn new_ref() -> Ref {
    with(|host| {
        host.refs += 1;
        Ref {
            node: 1,
            serial: host.refs,
        }
    })
}

pub(crate) mod mailbox {
    use super::*;

    pub(crate) fn send(to: Pid, body: &[u8]) -> Result<(), ()> {
        note((), |()| Did::Sent(to.into(), body.into()));
        Ok(())
    }
    pub(crate) fn send_to(to: &Destination, body: &[u8]) -> Result<(), ()> {
        note((), |()| Did::Sent(to.clone(), body.into()));
        Ok(())
    }
    pub(crate) fn cast(to: &Destination, body: &[u8]) -> Result<(), ()> {
        note((), |()| Did::Cast(to.clone(), body.into()));
        Ok(())
    }
    pub(crate) fn request(to: &Destination, body: &[u8], timeout_ms: Option<u32>) -> Ref {
        note(new_ref(), |tag| {
            Did::Requested(to.clone(), body.into(), timeout_ms, tag)
        })
    }
    pub(crate) fn forget(tag: Ref) {
        note((), |()| Did::Forgot(tag));
    }
    pub(crate) fn reply(to: ReplyTo, body: &[u8]) -> Result<(), ()> {
        note((), |()| Did::Replied(to, body.into()));
        Ok(())
    }
    pub(crate) fn next() -> Option<Message> {
        with(|host| host.mailbox.pop_front())
    }
}

pub(crate) mod process {
    use super::*;
    use crate::SpawnError;
    use crate::bindings::wasm_node::actor::process::{AliasMode, InfoItem, Limits, SpawnOptions};

    pub(crate) fn self_() -> Pid {
        ME
    }
    pub(crate) fn spawn(
        module: &str,
        args: &[u8],
        _: &SpawnOptions,
    ) -> Result<(Pid, Ref), SpawnError> {
        let tag = note(new_ref(), |tag| {
            Did::Spawned(module.into(), args.into(), tag)
        });
        Ok((
            Pid {
                node: 1,
                serial: 1000 + tag.serial,
            },
            tag,
        ))
    }
    pub(crate) fn spawn_on(node: &str, module: &str, args: &[u8], _: &SpawnOptions) -> Ref {
        note(new_ref(), |tag| {
            Did::SpawnedOn(node.into(), module.into(), args.into(), tag)
        })
    }
    pub(crate) fn monitor(target: &Destination) -> Ref {
        note(new_ref(), |tag| Did::Monitored(target.clone(), tag))
    }
    pub(crate) fn demonitor(tag: Ref) {
        note((), |()| Did::Demonitored(tag));
    }
    pub(crate) fn link(_: Pid) {}
    pub(crate) fn unlink(_: Pid) {}
    pub(crate) fn exit(target: Pid, reason: &ExitReason) {
        note((), |()| Did::Exited(target, reason.clone()));
    }
    pub(crate) fn trap_exit(_: bool) -> bool {
        false
    }
    pub(crate) fn is_alive(_: Pid) -> bool {
        true
    }
    pub(crate) fn group_leader() -> Pid {
        with(|host| host.group_leader.unwrap_or(USER))
    }
    pub(crate) fn set_group_leader(target: Pid, leader: Pid) {
        if target == ME {
            with(|host| host.group_leader = Some(leader));
        }
        note((), |()| Did::SetGroupLeader(target, leader));
    }
    pub(crate) fn alias(_: AliasMode) -> ReplyTo {
        let tag = new_ref();
        ReplyTo { pid: ME, tag }
    }
    pub(crate) fn unalias(_: ReplyTo) -> bool {
        true
    }
    pub(crate) fn info(_: Pid) -> Option<Vec<InfoItem>> {
        None
    }
    pub(crate) fn tighten(_: Limits) {}
}

pub(crate) mod timer {
    use super::*;

    pub(crate) fn start(after_ms: u32) -> Ref {
        note(new_ref(), |tag| Did::StartedTimer(after_ms, tag))
    }
    pub(crate) fn send_after(after_ms: u32, _: Pid, _: &[u8]) -> Ref {
        start(after_ms)
    }
    pub(crate) fn cancel(tag: Ref) -> bool {
        note((), |()| Did::CancelledTimer(tag));
        true
    }
    pub(crate) fn now() -> u64 {
        with(|host| host.now)
    }
    pub(crate) fn wall_clock() -> u64 {
        0
    }
    pub(crate) fn random() -> u64 {
        4
    }
}

pub(crate) mod global {
    use super::*;
    use crate::registry::global::Resolver;

    pub(crate) fn register(name: &str, _: Pid) -> Ref {
        note(new_ref(), |tag| Did::Registered(name.into(), tag))
    }
    pub(crate) fn register_with(name: &str, pid: Pid, _: &Resolver) -> Ref {
        register(name, pid)
    }
    pub(crate) fn re_register(name: &str, pid: Pid, _: &Resolver) -> Ref {
        register(name, pid)
    }
    pub(crate) fn unregister(_: &str) -> bool {
        false
    }
    pub(crate) fn whereis(_: &str) -> Option<Pid> {
        None
    }
    pub(crate) fn registered() -> Vec<String> {
        Vec::new()
    }
    pub(crate) fn set_lock(resource: &str, _: Option<&str>, timeout_ms: Option<u32>) -> Ref {
        note(new_ref(), |tag| {
            Did::SetLock(resource.into(), timeout_ms, tag)
        })
    }
    pub(crate) fn del_lock(resource: &str, _: Option<&str>) -> bool {
        note(true, |_| Did::DeletedLock(resource.into()))
    }
}

pub(crate) fn node_name() -> String {
    "me@h".into()
}

pub(crate) fn visible_nodes() -> Vec<String> {
    ["a@h", "b@h", "c@h"].map(Into::into).into()
}

pub(crate) fn connected_nodes() -> Vec<String> {
    visible_nodes()
}

pub(crate) fn connect(to: &str) -> Ref {
    note(new_ref(), |tag| Did::Connected(to.into(), tag))
}

pub(crate) mod groups {
    use super::*;
    use crate::bindings::wasm_node::actor::groups::GroupError;
    use crate::groups::ScopeMembers;

    pub(crate) fn join(_: &str, _: &str, _: &[Pid]) -> Result<(), GroupError> {
        Ok(())
    }
    pub(crate) fn leave(_: &str, _: &str, _: &[Pid]) -> bool {
        true
    }
    pub(crate) fn members(_: &str, _: &str) -> Vec<Pid> {
        Vec::new()
    }
    pub(crate) fn local_members(_: &str, _: &str) -> Vec<Pid> {
        Vec::new()
    }
    pub(crate) fn which_groups(_: &str) -> Vec<String> {
        Vec::new()
    }
    pub(crate) fn which_local_groups(_: &str) -> Vec<String> {
        Vec::new()
    }
    pub(crate) fn monitor(_: &str, _: &str) -> Result<(Ref, Vec<Pid>), GroupError> {
        Ok((new_ref(), Vec::new()))
    }
    pub(crate) fn monitor_scope(_: &str) -> Result<(Ref, ScopeMembers), GroupError> {
        Ok((new_ref(), Vec::new()))
    }
    pub(crate) fn demonitor(_: Ref) -> bool {
        true
    }
}

pub(crate) mod io {
    use super::*;

    pub(crate) fn print(text: &str) {
        note((), |()| Did::Printed(text.into()));
    }
    pub(crate) fn print_error(text: &str) {
        note((), |()| Did::Printed(text.into()));
    }
    pub(crate) fn read_line(timeout_ms: Option<u32>) -> Ref {
        note(new_ref(), |tag| Did::ReadLine(timeout_ms, tag))
    }
    pub(crate) fn log(_: crate::log::Level, text: &str, fields: &[(String, String)]) {
        note((), |()| Did::Logged(text.into(), fields.into()));
    }
}

//! A scripted double of the imports, for this crate's own tests of single imports: one actor a
//! thread, its mailbox in the test's hands, everything it does written down.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::imports::Imports;
use crate::bindings::wasm_node::actor::groups::GroupError;
use crate::bindings::wasm_node::actor::node::NodeSet;
use crate::bindings::wasm_node::actor::process::{AliasMode, InfoItem, Limits, SpawnOptions};
use crate::groups::ScopeMembers;
use crate::log::Level;
use crate::registry::global::Resolver;
use crate::{Destination, ExitReason, Message, Pid, Ref, RegisterError, ReplyTo, SpawnError};

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
pub(super) struct Host {
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

pub(super) fn with<R>(f: impl FnOnce(&mut Host) -> R) -> R {
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

impl Host {
    fn note<T: Copy>(&mut self, value: T, did: impl FnOnce(T) -> Did) -> T {
        self.did.push(did(value));
        value
    }

    fn new_ref(&mut self) -> Ref {
        self.refs += 1;
        Ref {
            node: 1,
            serial: self.refs,
        }
    }

    fn note_ref(&mut self, did: impl FnOnce(Ref) -> Did) -> Ref {
        let tag = self.new_ref();
        self.note(tag, did)
    }
}

impl Imports for Host {
    fn mailbox_send(&mut self, to: Pid, body: &[u8]) -> Result<(), ()> {
        self.did.push(Did::Sent(to.into(), body.into()));
        Ok(())
    }
    fn mailbox_send_to(&mut self, to: &Destination, body: &[u8]) -> Result<(), ()> {
        self.did.push(Did::Sent(to.clone(), body.into()));
        Ok(())
    }
    fn mailbox_cast(&mut self, to: &Destination, body: &[u8]) -> Result<(), ()> {
        self.did.push(Did::Cast(to.clone(), body.into()));
        Ok(())
    }
    fn mailbox_request(&mut self, to: &Destination, body: &[u8], timeout_ms: Option<u32>) -> Ref {
        self.note_ref(|tag| Did::Requested(to.clone(), body.into(), timeout_ms, tag))
    }
    fn mailbox_forget(&mut self, tag: Ref) {
        self.did.push(Did::Forgot(tag));
    }
    fn mailbox_reply(&mut self, to: ReplyTo, body: &[u8]) -> Result<(), ()> {
        self.did.push(Did::Replied(to, body.into()));
        Ok(())
    }
    fn mailbox_next(&mut self) -> Option<Message> {
        self.mailbox.pop_front()
    }
    fn process_self(&mut self) -> Pid {
        ME
    }
    fn process_spawn(
        &mut self,
        module: &str,
        args: &[u8],
        _: &SpawnOptions,
    ) -> Result<(Pid, Ref), SpawnError> {
        let tag = self.note_ref(|tag| Did::Spawned(module.into(), args.into(), tag));
        let child = Pid {
            node: 1,
            serial: 1000 + tag.serial,
        };
        Ok((child, tag))
    }
    fn process_spawn_on(&mut self, node: &str, module: &str, args: &[u8], _: &SpawnOptions) -> Ref {
        self.note_ref(|tag| Did::SpawnedOn(node.into(), module.into(), args.into(), tag))
    }
    fn process_link(&mut self, _: Pid) {}
    fn process_unlink(&mut self, _: Pid) {}
    fn process_monitor(&mut self, target: &Destination) -> Ref {
        self.note_ref(|tag| Did::Monitored(target.clone(), tag))
    }
    fn process_demonitor(&mut self, tag: Ref) {
        self.did.push(Did::Demonitored(tag));
    }
    fn process_exit(&mut self, target: Pid, reason: &ExitReason) {
        self.did.push(Did::Exited(target, reason.clone()));
    }
    fn process_trap_exit(&mut self, _: bool) -> bool {
        false
    }
    fn process_is_alive(&mut self, _: Pid) -> bool {
        true
    }
    fn process_group_leader(&mut self) -> Pid {
        self.group_leader.unwrap_or(USER)
    }
    fn process_set_group_leader(&mut self, target: Pid, leader: Pid) {
        if target == ME {
            self.group_leader = Some(leader);
        }
        self.did.push(Did::SetGroupLeader(target, leader));
    }
    fn process_alias(&mut self, _: AliasMode) -> ReplyTo {
        let tag = self.new_ref();
        ReplyTo { pid: ME, tag }
    }
    fn process_unalias(&mut self, _: ReplyTo) -> bool {
        true
    }
    fn process_info(&mut self, _: Pid) -> Option<Vec<InfoItem>> {
        None
    }
    fn process_tighten(&mut self, _: Limits) {}
    fn registry_register(&mut self, _: &str, _: Pid) -> Result<(), RegisterError> {
        Ok(())
    }
    fn registry_unregister(&mut self, _: &str) -> bool {
        false
    }
    fn registry_whereis(&mut self, _: &str) -> Option<Pid> {
        None
    }
    fn registry_registered(&mut self) -> Vec<String> {
        Vec::new()
    }
    fn timer_start(&mut self, after_ms: u32) -> Ref {
        self.note_ref(|tag| Did::StartedTimer(after_ms, tag))
    }
    fn timer_send_after(&mut self, after_ms: u32, _: Pid, _: &[u8]) -> Ref {
        self.note_ref(|tag| Did::StartedTimer(after_ms, tag))
    }
    fn timer_cancel(&mut self, tag: Ref) -> bool {
        self.did.push(Did::CancelledTimer(tag));
        true
    }
    fn timer_now(&mut self) -> u64 {
        self.now
    }
    fn timer_wall_clock(&mut self) -> u64 {
        0
    }
    fn timer_random(&mut self) -> u64 {
        4
    }
    fn global_register(&mut self, name: &str, _: Pid) -> Ref {
        self.note_ref(|tag| Did::Registered(name.into(), tag))
    }
    fn global_register_with(&mut self, name: &str, pid: Pid, _: &Resolver) -> Ref {
        self.global_register(name, pid)
    }
    fn global_re_register(&mut self, name: &str, pid: Pid, _: &Resolver) -> Ref {
        self.global_register(name, pid)
    }
    fn global_unregister(&mut self, _: &str) -> bool {
        false
    }
    fn global_whereis(&mut self, _: &str) -> Option<Pid> {
        None
    }
    fn global_registered(&mut self) -> Vec<String> {
        Vec::new()
    }
    fn global_set_lock(&mut self, resource: &str, _: Option<&str>, timeout_ms: Option<u32>) -> Ref {
        self.note_ref(|tag| Did::SetLock(resource.into(), timeout_ms, tag))
    }
    fn global_del_lock(&mut self, resource: &str, _: Option<&str>) -> bool {
        self.did.push(Did::DeletedLock(resource.into()));
        true
    }
    fn node_name(&mut self) -> String {
        "me@h".into()
    }
    fn node_nodes(&mut self, _: NodeSet) -> Vec<String> {
        ["a@h", "b@h", "c@h"].map(Into::into).into()
    }
    fn node_node_of(&mut self, _: Pid) -> Option<String> {
        None
    }
    fn node_connect(&mut self, to: &str) -> Ref {
        self.note_ref(|tag| Did::Connected(to.into(), tag))
    }
    fn node_disconnect(&mut self, _: &str) -> bool {
        false
    }
    fn node_monitor_nodes(&mut self, _: bool) {}
    fn node_monitor_node(&mut self, _: &str, _: bool) {}
    fn groups_join(&mut self, _: &str, _: &str, _: &[Pid]) -> Result<(), GroupError> {
        Ok(())
    }
    fn groups_leave(&mut self, _: &str, _: &str, _: &[Pid]) -> bool {
        true
    }
    fn groups_members(&mut self, _: &str, _: &str) -> Vec<Pid> {
        Vec::new()
    }
    fn groups_local_members(&mut self, _: &str, _: &str) -> Vec<Pid> {
        Vec::new()
    }
    fn groups_which_groups(&mut self, _: &str) -> Vec<String> {
        Vec::new()
    }
    fn groups_which_local_groups(&mut self, _: &str) -> Vec<String> {
        Vec::new()
    }
    fn groups_monitor(&mut self, _: &str, _: &str) -> Result<(Ref, Vec<Pid>), GroupError> {
        Ok((self.new_ref(), Vec::new()))
    }
    fn groups_monitor_scope(&mut self, _: &str) -> Result<(Ref, ScopeMembers), GroupError> {
        Ok((self.new_ref(), Vec::new()))
    }
    fn groups_demonitor(&mut self, _: Ref) -> bool {
        true
    }
    fn io_print(&mut self, text: &str) {
        self.did.push(Did::Printed(text.into()));
    }
    fn io_print_error(&mut self, text: &str) {
        self.did.push(Did::Printed(text.into()));
    }
    fn io_read_line(&mut self, timeout_ms: Option<u32>) -> Ref {
        self.note_ref(|tag| Did::ReadLine(timeout_ms, tag))
    }
    fn io_log(&mut self, _: Level, text: &str, fields: &[(String, String)]) {
        self.did.push(Did::Logged(text.into(), fields.into()));
    }
}

//! The imports natively: each goes to the actor's node in [`testing`](super), or, in this crate's
//! own tests without one, to the scripted double.
//!
//! Contract: as `wit/`. What the drops of an actor that panics ask for is not done: a real actor that
//! traps runs no drops.

use crate::bindings::wasm_node::actor::groups::GroupError;
use crate::bindings::wasm_node::actor::node::NodeSet;
use crate::bindings::wasm_node::actor::process::{AliasMode, InfoItem, Limits, SpawnOptions};
use crate::groups::ScopeMembers;
use crate::log::Level;
use crate::registry::global::Resolver;
use crate::{Destination, ExitReason, Message, Pid, Ref, RegisterError, ReplyTo, SpawnError};

use super::current::with;

/// All imports that the SDK uses, for one actor.
pub(super) trait Imports {
    fn mailbox_send(&mut self, to: Pid, body: &[u8]) -> Result<(), ()>;
    fn mailbox_send_to(&mut self, to: &Destination, body: &[u8]) -> Result<(), ()>;
    fn mailbox_cast(&mut self, to: &Destination, body: &[u8]) -> Result<(), ()>;
    fn mailbox_request(&mut self, to: &Destination, body: &[u8], timeout_ms: Option<u32>) -> Ref;
    fn mailbox_forget(&mut self, tag: Ref);
    fn mailbox_reply(&mut self, to: ReplyTo, body: &[u8]) -> Result<(), ()>;
    fn mailbox_next(&mut self) -> Option<Message>;
    fn process_self(&mut self) -> Pid;
    fn process_spawn(
        &mut self,
        module: &str,
        args: &[u8],
        options: &SpawnOptions,
    ) -> Result<(Pid, Ref), SpawnError>;
    fn process_spawn_on(
        &mut self,
        node: &str,
        module: &str,
        args: &[u8],
        options: &SpawnOptions,
    ) -> Ref;
    fn process_link(&mut self, to: Pid);
    fn process_unlink(&mut self, to: Pid);
    fn process_monitor(&mut self, target: &Destination) -> Ref;
    fn process_demonitor(&mut self, tag: Ref);
    fn process_exit(&mut self, target: Pid, reason: &ExitReason);
    fn process_trap_exit(&mut self, on: bool) -> bool;
    fn process_is_alive(&mut self, target: Pid) -> bool;
    fn process_group_leader(&mut self) -> Pid;
    fn process_set_group_leader(&mut self, target: Pid, leader: Pid);
    fn process_alias(&mut self, mode: AliasMode) -> ReplyTo;
    fn process_unalias(&mut self, alias: ReplyTo) -> bool;
    fn process_info(&mut self, target: Pid) -> Option<Vec<InfoItem>>;
    fn process_tighten(&mut self, limits: Limits);
    fn registry_register(&mut self, name: &str, actor: Pid) -> Result<(), RegisterError>;
    fn registry_unregister(&mut self, name: &str) -> bool;
    fn registry_whereis(&mut self, name: &str) -> Option<Pid>;
    fn registry_registered(&mut self) -> Vec<String>;
    fn timer_start(&mut self, after_ms: u32) -> Ref;
    fn timer_send_after(&mut self, after_ms: u32, to: Pid, body: &[u8]) -> Ref;
    fn timer_cancel(&mut self, tag: Ref) -> bool;
    fn timer_now(&mut self) -> u64;
    fn timer_wall_clock(&mut self) -> u64;
    fn timer_random(&mut self) -> u64;
    fn global_register(&mut self, name: &str, pid: Pid) -> Ref;
    fn global_register_with(&mut self, name: &str, pid: Pid, by: &Resolver) -> Ref;
    fn global_re_register(&mut self, name: &str, pid: Pid, by: &Resolver) -> Ref;
    fn global_unregister(&mut self, name: &str) -> bool;
    fn global_whereis(&mut self, name: &str) -> Option<Pid>;
    fn global_registered(&mut self) -> Vec<String>;
    fn global_set_lock(
        &mut self,
        resource: &str,
        requester: Option<&str>,
        timeout_ms: Option<u32>,
    ) -> Ref;
    fn global_del_lock(&mut self, resource: &str, requester: Option<&str>) -> bool;
    fn node_name(&mut self) -> String;
    fn node_nodes(&mut self, which: NodeSet) -> Vec<String>;
    fn node_node_of(&mut self, actor: Pid) -> Option<String>;
    fn node_connect(&mut self, to: &str) -> Ref;
    fn node_disconnect(&mut self, from: &str) -> bool;
    fn node_monitor_nodes(&mut self, on: bool);
    fn node_monitor_node(&mut self, of: &str, on: bool);
    fn groups_join(&mut self, scope: &str, group: &str, actors: &[Pid]) -> Result<(), GroupError>;
    fn groups_leave(&mut self, scope: &str, group: &str, actors: &[Pid]) -> bool;
    fn groups_members(&mut self, scope: &str, group: &str) -> Vec<Pid>;
    fn groups_local_members(&mut self, scope: &str, group: &str) -> Vec<Pid>;
    fn groups_which_groups(&mut self, scope: &str) -> Vec<String>;
    fn groups_which_local_groups(&mut self, scope: &str) -> Vec<String>;
    fn groups_monitor(&mut self, scope: &str, group: &str) -> Result<(Ref, Vec<Pid>), GroupError>;
    fn groups_monitor_scope(&mut self, scope: &str) -> Result<(Ref, ScopeMembers), GroupError>;
    fn groups_demonitor(&mut self, tag: Ref) -> bool;
    fn io_print(&mut self, text: &str);
    fn io_print_error(&mut self, text: &str);
    fn io_read_line(&mut self, timeout_ms: Option<u32>) -> Ref;
    fn io_log(&mut self, level: Level, text: &str, fields: &[(String, String)]);
}

pub(crate) mod mailbox {
    use super::*;

    pub(crate) fn send(to: Pid, body: &[u8]) -> Result<(), ()> {
        with(|host| host.mailbox_send(to, body))
    }

    pub(crate) fn send_to(to: &Destination, body: &[u8]) -> Result<(), ()> {
        with(|host| host.mailbox_send_to(to, body))
    }

    pub(crate) fn cast(to: &Destination, body: &[u8]) -> Result<(), ()> {
        with(|host| host.mailbox_cast(to, body))
    }

    pub(crate) fn request(to: &Destination, body: &[u8], timeout_ms: Option<u32>) -> Ref {
        with(|host| host.mailbox_request(to, body, timeout_ms))
    }

    pub(crate) fn forget(tag: Ref) {
        if std::thread::panicking() {
            return;
        }
        with(|host| host.mailbox_forget(tag))
    }

    pub(crate) fn reply(to: ReplyTo, body: &[u8]) -> Result<(), ()> {
        with(|host| host.mailbox_reply(to, body))
    }

    pub(crate) fn next() -> Option<Message> {
        with(|host| host.mailbox_next())
    }
}

pub(crate) mod process {
    use super::*;

    pub(crate) fn self_() -> Pid {
        with(|host| host.process_self())
    }

    pub(crate) fn spawn(
        module: &str,
        args: &[u8],
        options: &SpawnOptions,
    ) -> Result<(Pid, Ref), SpawnError> {
        with(|host| host.process_spawn(module, args, options))
    }

    pub(crate) fn spawn_on(node: &str, module: &str, args: &[u8], options: &SpawnOptions) -> Ref {
        with(|host| host.process_spawn_on(node, module, args, options))
    }

    pub(crate) fn link(to: Pid) {
        with(|host| host.process_link(to))
    }

    pub(crate) fn unlink(to: Pid) {
        with(|host| host.process_unlink(to))
    }

    pub(crate) fn monitor(target: &Destination) -> Ref {
        with(|host| host.process_monitor(target))
    }

    pub(crate) fn demonitor(tag: Ref) {
        if std::thread::panicking() {
            return;
        }
        with(|host| host.process_demonitor(tag))
    }

    pub(crate) fn exit(target: Pid, reason: &ExitReason) {
        if std::thread::panicking() {
            return;
        }
        with(|host| host.process_exit(target, reason))
    }

    pub(crate) fn trap_exit(on: bool) -> bool {
        with(|host| host.process_trap_exit(on))
    }

    pub(crate) fn is_alive(target: Pid) -> bool {
        with(|host| host.process_is_alive(target))
    }

    pub(crate) fn group_leader() -> Pid {
        with(|host| host.process_group_leader())
    }

    pub(crate) fn set_group_leader(target: Pid, leader: Pid) {
        with(|host| host.process_set_group_leader(target, leader))
    }

    pub(crate) fn alias(mode: AliasMode) -> ReplyTo {
        with(|host| host.process_alias(mode))
    }

    pub(crate) fn unalias(alias: ReplyTo) -> bool {
        with(|host| host.process_unalias(alias))
    }

    pub(crate) fn info(target: Pid) -> Option<Vec<InfoItem>> {
        with(|host| host.process_info(target))
    }

    pub(crate) fn tighten(limits: Limits) {
        with(|host| host.process_tighten(limits))
    }
}

pub(crate) mod registry {
    use super::*;

    pub(crate) fn register(name: &str, actor: Pid) -> Result<(), RegisterError> {
        with(|host| host.registry_register(name, actor))
    }

    pub(crate) fn unregister(name: &str) -> bool {
        with(|host| host.registry_unregister(name))
    }

    pub(crate) fn whereis(name: &str) -> Option<Pid> {
        with(|host| host.registry_whereis(name))
    }

    pub(crate) fn registered() -> Vec<String> {
        with(|host| host.registry_registered())
    }
}

pub(crate) mod timer {
    use super::*;

    pub(crate) fn start(after_ms: u32) -> Ref {
        with(|host| host.timer_start(after_ms))
    }

    pub(crate) fn send_after(after_ms: u32, to: Pid, body: &[u8]) -> Ref {
        with(|host| host.timer_send_after(after_ms, to, body))
    }

    pub(crate) fn cancel(tag: Ref) -> bool {
        if std::thread::panicking() {
            return false;
        }
        with(|host| host.timer_cancel(tag))
    }

    pub(crate) fn now() -> u64 {
        with(|host| host.timer_now())
    }

    pub(crate) fn wall_clock() -> u64 {
        with(|host| host.timer_wall_clock())
    }

    pub(crate) fn random() -> u64 {
        with(|host| host.timer_random())
    }
}

pub(crate) mod global {
    use super::*;

    pub(crate) fn register(name: &str, pid: Pid) -> Ref {
        with(|host| host.global_register(name, pid))
    }

    pub(crate) fn register_with(name: &str, pid: Pid, by: &Resolver) -> Ref {
        with(|host| host.global_register_with(name, pid, by))
    }

    pub(crate) fn re_register(name: &str, pid: Pid, by: &Resolver) -> Ref {
        with(|host| host.global_re_register(name, pid, by))
    }

    pub(crate) fn unregister(name: &str) -> bool {
        with(|host| host.global_unregister(name))
    }

    pub(crate) fn whereis(name: &str) -> Option<Pid> {
        with(|host| host.global_whereis(name))
    }

    pub(crate) fn registered() -> Vec<String> {
        with(|host| host.global_registered())
    }

    pub(crate) fn set_lock(
        resource: &str,
        requester: Option<&str>,
        timeout_ms: Option<u32>,
    ) -> Ref {
        with(|host| host.global_set_lock(resource, requester, timeout_ms))
    }

    pub(crate) fn del_lock(resource: &str, requester: Option<&str>) -> bool {
        if std::thread::panicking() {
            return false;
        }
        with(|host| host.global_del_lock(resource, requester))
    }
}

pub(crate) mod node {
    use super::*;

    pub(crate) fn name() -> String {
        with(|host| host.node_name())
    }

    pub(crate) fn nodes(which: NodeSet) -> Vec<String> {
        with(|host| host.node_nodes(which))
    }

    pub(crate) fn node_of(actor: Pid) -> Option<String> {
        with(|host| host.node_node_of(actor))
    }

    pub(crate) fn connect(to: &str) -> Ref {
        with(|host| host.node_connect(to))
    }

    pub(crate) fn disconnect(from: &str) -> bool {
        with(|host| host.node_disconnect(from))
    }

    pub(crate) fn monitor_nodes(on: bool) {
        with(|host| host.node_monitor_nodes(on))
    }

    pub(crate) fn monitor_node(of: &str, on: bool) {
        with(|host| host.node_monitor_node(of, on))
    }
}

pub(crate) mod groups {
    use super::*;

    pub(crate) fn join(scope: &str, group: &str, actors: &[Pid]) -> Result<(), GroupError> {
        with(|host| host.groups_join(scope, group, actors))
    }

    pub(crate) fn leave(scope: &str, group: &str, actors: &[Pid]) -> bool {
        with(|host| host.groups_leave(scope, group, actors))
    }

    pub(crate) fn members(scope: &str, group: &str) -> Vec<Pid> {
        with(|host| host.groups_members(scope, group))
    }

    pub(crate) fn local_members(scope: &str, group: &str) -> Vec<Pid> {
        with(|host| host.groups_local_members(scope, group))
    }

    pub(crate) fn which_groups(scope: &str) -> Vec<String> {
        with(|host| host.groups_which_groups(scope))
    }

    pub(crate) fn which_local_groups(scope: &str) -> Vec<String> {
        with(|host| host.groups_which_local_groups(scope))
    }

    pub(crate) fn monitor(scope: &str, group: &str) -> Result<(Ref, Vec<Pid>), GroupError> {
        with(|host| host.groups_monitor(scope, group))
    }

    pub(crate) fn monitor_scope(scope: &str) -> Result<(Ref, ScopeMembers), GroupError> {
        with(|host| host.groups_monitor_scope(scope))
    }

    pub(crate) fn demonitor(tag: Ref) -> bool {
        with(|host| host.groups_demonitor(tag))
    }
}

pub(crate) mod io {
    use super::*;

    pub(crate) fn print(text: &str) {
        with(|host| host.io_print(text))
    }

    pub(crate) fn print_error(text: &str) {
        with(|host| host.io_print_error(text))
    }

    pub(crate) fn read_line(timeout_ms: Option<u32>) -> Ref {
        with(|host| host.io_read_line(timeout_ms))
    }

    pub(crate) fn log(level: Level, text: &str, fields: &[(String, String)]) {
        with(|host| host.io_log(level, text, fields))
    }
}

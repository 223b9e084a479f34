//! The imports of an actor of a test's nodes, on their common state.

use super::imports::Imports;
use super::world::{Due, Lock, Printed, Requester, View, World};
use crate::bindings::wasm_node::actor::groups::GroupError;
use crate::bindings::wasm_node::actor::node::NodeSet;
use crate::bindings::wasm_node::actor::process::{
    AliasMode, InfoItem, Limits, SpawnFlags, SpawnOptions,
};
use crate::groups::ScopeMembers;
use crate::log::Level;
use crate::registry::global::Resolver;
use crate::{
    CallError, Destination, ExitReason, Message, NodeEvent, NodeKind, OutputKind, Pid, Ref,
    RegisterError, ReplyTo, SpawnError,
};

/// The host's limit for a message.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

impl View<'_> {
    fn actor(&mut self) -> Option<&mut super::world::Actor> {
        self.world.actors.get_mut(&self.me)
    }

    fn deliver(&mut self, to: &Destination, message: Message, bytes: usize) -> Result<(), ()> {
        if bytes > MAX_MESSAGE_BYTES {
            return Err(());
        }
        if let Ok(pid) = self.world.resolve(self.me.node, to) {
            self.world.push(pid, message);
            self.world.use_alias(to);
        }
        Ok(())
    }

    fn registered(&mut self, result: Result<(), RegisterError>) -> Ref {
        let tag = self.world.new_ref(self.me.node);
        self.world.push(self.me, Message::Registered((tag, result)));
        tag
    }
}

impl Imports for View<'_> {
    fn mailbox_send(&mut self, to: Pid, body: &[u8]) -> Result<(), ()> {
        self.deliver(&to.into(), Message::Info(body.into()), body.len())
    }
    fn mailbox_send_to(&mut self, to: &Destination, body: &[u8]) -> Result<(), ()> {
        self.deliver(to, Message::Info(body.into()), body.len())
    }
    fn mailbox_cast(&mut self, to: &Destination, body: &[u8]) -> Result<(), ()> {
        self.deliver(to, Message::Cast(body.into()), body.len())
    }
    fn mailbox_request(&mut self, to: &Destination, body: &[u8], timeout_ms: Option<u32>) -> Ref {
        let (me, tag) = (self.me, self.world.new_ref(self.me.node));
        let callee = match self.world.resolve(me.node, to) {
            Ok(_) if body.len() > MAX_MESSAGE_BYTES => Err(CallError::TooLarge),
            Ok(callee) => Ok(callee),
            Err(ExitReason::Noconnection) => Err(CallError::Noconnection),
            Err(_) => Err(CallError::Noproc),
        };
        if let Some(actor) = self.actor() {
            actor
                .pending
                .insert(tag, callee.as_ref().copied().unwrap_or(Pid::NONE));
        }
        match callee {
            Ok(callee) => {
                let from = ReplyTo { pid: me, tag };
                self.world
                    .push(callee, Message::Request((from, body.into())));
                self.world.use_alias(to);
                if let Some(ms) = timeout_ms {
                    self.world.at(ms, Due::Request(me, tag));
                }
            }
            Err(error) => self.world.fail_request(me, tag, error),
        }
        tag
    }
    fn mailbox_forget(&mut self, tag: Ref) {
        let Some(actor) = self.actor() else { return };
        actor
            .mailbox
            .retain(|m| !matches!(m, Message::Response((of, _)) if *of == tag));
        let callee = actor.pending.remove(&tag);
        if let Some(callee) = callee.and_then(|pid| self.world.actors.get_mut(&pid)) {
            callee.open.retain(|open| open.tag != tag);
        }
    }
    fn mailbox_reply(&mut self, to: ReplyTo, body: &[u8]) -> Result<(), ()> {
        if body.len() > MAX_MESSAGE_BYTES {
            return Err(());
        }
        if let Some(actor) = self.actor() {
            actor.open.retain(|open| *open != to);
        }
        self.world.respond(to.pid, to.tag, Ok(body.into()));
        Ok(())
    }
    fn mailbox_next(&mut self) -> Option<Message> {
        let actor = self.actor()?;
        let message = actor.mailbox.pop_front()?;
        if let Message::Request((from, _)) | Message::InputRequest(from) = &message {
            actor.open.push(*from);
        }
        Some(message)
    }

    fn process_self(&mut self) -> Pid {
        self.me
    }
    fn process_spawn(
        &mut self,
        module: &str,
        args: &[u8],
        options: &SpawnOptions,
    ) -> Result<(Pid, Ref), SpawnError> {
        let tag = self.world.new_ref(self.me.node);
        let parent = Some((self.me, tag));
        let pid = self
            .world
            .spawn(self.me.node, module, args, options, parent)?;
        Ok((pid, tag))
    }
    fn process_spawn_on(
        &mut self,
        node: &str,
        module: &str,
        args: &[u8],
        options: &SpawnOptions,
    ) -> Ref {
        let (me, tag) = (self.me, self.world.new_ref(self.me.node));
        let spawned = match self.world.incarnation(node) {
            Some(node) => self
                .world
                .spawn(node, module, args, options, Some((me, tag))),
            None => Err(SpawnError::Noconnection),
        };
        if spawned.is_err() || !options.flags.contains(SpawnFlags::AWAIT_INIT) {
            self.world.push(me, Message::Spawned((tag, spawned)));
        }
        tag
    }
    fn process_link(&mut self, to: Pid) {
        let me = self.me;
        if to == me {
            return;
        }
        if let Some(actor) = self.actor() {
            actor.links.insert(to);
        }
        match self.world.resolve(me.node, &to.into()) {
            Ok(to) => {
                if let Some(other) = self.world.actors.get_mut(&to) {
                    other.links.insert(me);
                }
            }
            Err(reason) => self.world.exit_signal(me, to, reason, true),
        }
    }
    fn process_unlink(&mut self, to: Pid) {
        let me = self.me;
        if let Some(actor) = self.actor() {
            actor.links.remove(&to);
        }
        if let Some(other) = self.world.actors.get_mut(&to) {
            other.links.remove(&me);
        }
    }
    fn process_monitor(&mut self, target: &Destination) -> Ref {
        let (me, tag) = (self.me, self.world.new_ref(self.me.node));
        match self.world.resolve(me.node, target) {
            Ok(pid) => {
                if let Some(actor) = self.actor() {
                    actor.monitors.insert(tag, pid);
                }
                if let Some(watched) = self.world.actors.get_mut(&pid) {
                    watched.watchers.push((tag, me));
                }
            }
            Err(reason) => {
                let pid = match target {
                    Destination::Pid(pid) => *pid,
                    _ => Pid::NONE,
                };
                self.world.push(me, Message::Down((tag, pid, reason)));
            }
        }
        tag
    }
    fn process_demonitor(&mut self, tag: Ref) {
        let Some(actor) = self.actor() else { return };
        actor
            .mailbox
            .retain(|m| !matches!(m, Message::Down((of, _, _)) if *of == tag));
        let watched = actor.monitors.remove(&tag);
        if let Some(watched) = watched.and_then(|pid| self.world.actors.get_mut(&pid)) {
            watched.watchers.retain(|(of, _)| *of != tag);
        }
    }
    fn process_exit(&mut self, target: Pid, reason: &ExitReason) {
        self.world
            .exit_signal(target, self.me, reason.clone(), false);
    }
    fn process_trap_exit(&mut self, on: bool) -> bool {
        self.actor()
            .is_some_and(|actor| std::mem::replace(&mut actor.trap_exit, on))
    }
    fn process_is_alive(&mut self, target: Pid) -> bool {
        self.world.actors.contains_key(&target)
    }
    fn process_group_leader(&mut self) -> Pid {
        let user = user(self.me);
        self.actor()
            .and_then(|actor| actor.group_leader)
            .unwrap_or(user)
    }
    fn process_set_group_leader(&mut self, target: Pid, leader: Pid) {
        if let Some(actor) = self.world.actors.get_mut(&target) {
            actor.group_leader = Some(leader);
        }
    }
    fn process_alias(&mut self, mode: AliasMode) -> ReplyTo {
        let (pid, tag) = (self.me, self.world.new_ref(self.me.node));
        if let Some(actor) = self.actor() {
            actor.aliases.push((tag, mode));
        }
        ReplyTo { pid, tag }
    }
    fn process_unalias(&mut self, alias: ReplyTo) -> bool {
        let me = self.me;
        let Some(actor) = self.actor().filter(|_| alias.pid == me) else {
            return false;
        };
        let before = actor.aliases.len();
        actor.aliases.retain(|(tag, _)| *tag != alias.tag);
        actor.aliases.len() < before
    }
    fn process_info(&mut self, target: Pid) -> Option<Vec<InfoItem>> {
        let actor = self.world.actors.get(&target)?;
        let mut items = vec![
            InfoItem::Module(actor.module.clone()),
            InfoItem::MailboxMessages(actor.mailbox.len() as u32),
            InfoItem::TrapExit(actor.trap_exit),
            InfoItem::Links(actor.links.iter().copied().collect()),
            InfoItem::Monitors(actor.monitors.values().copied().collect()),
            InfoItem::MonitoredBy(actor.watchers.iter().map(|(_, by)| *by).collect()),
        ];
        items.extend(actor.parent.map(InfoItem::Parent));
        Some(items)
    }
    /// Nothing has limits here.
    fn process_tighten(&mut self, _: Limits) {}

    fn registry_register(&mut self, name: &str, actor: Pid) -> Result<(), RegisterError> {
        if name.is_empty() || name.len() > 1024 {
            let words = "a name has 1 to 1024 bytes".into();
            return Err(RegisterError::BadName(words));
        }
        if actor.node != self.me.node || !self.world.actors.contains_key(&actor) {
            return Err(RegisterError::Noproc);
        }
        let Some(home) = self.world.node(actor.node) else {
            return Err(RegisterError::Noproc);
        };
        match home.names.get(name) {
            Some(holder) => Err(RegisterError::Taken(*holder)),
            None => {
                home.names.insert(name.into(), actor);
                Ok(())
            }
        }
    }
    fn registry_unregister(&mut self, name: &str) -> bool {
        let home = self.world.node(self.me.node);
        home.is_some_and(|home| home.names.remove(name).is_some())
    }
    fn registry_whereis(&mut self, name: &str) -> Option<Pid> {
        self.world.node(self.me.node)?.names.get(name).copied()
    }
    fn registry_registered(&mut self) -> Vec<String> {
        let home = self.world.node(self.me.node);
        home.map(|home| home.names.keys().cloned().collect())
            .unwrap_or_default()
    }

    fn timer_start(&mut self, after_ms: u32) -> Ref {
        let tag = self.world.new_ref(self.me.node);
        self.world.at(after_ms, Due::Timer(self.me, tag));
        tag
    }
    fn timer_send_after(&mut self, after_ms: u32, to: Pid, body: &[u8]) -> Ref {
        let tag = self.world.new_ref(self.me.node);
        self.world.at(after_ms, Due::Send(to, body.into(), tag));
        tag
    }
    fn timer_cancel(&mut self, tag: Ref) -> bool {
        let before = self.world.timers.len();
        self.world.timers.retain(|_, due| match due {
            Due::Timer(_, of) | Due::Send(_, _, of) => *of != tag,
            _ => true,
        });
        if let Some(actor) = self.actor() {
            actor
                .mailbox
                .retain(|message| *message != Message::Timer(tag));
        }
        self.world.timers.len() < before
    }
    fn timer_now(&mut self) -> u64 {
        self.world.now
    }
    fn timer_wall_clock(&mut self) -> u64 {
        self.world.now / 1_000_000
    }
    fn timer_random(&mut self) -> u64 {
        self.world.next_random()
    }

    fn global_register(&mut self, name: &str, pid: Pid) -> Ref {
        let result = if !self.world.actors.contains_key(&pid) {
            Err(RegisterError::Noproc)
        } else {
            match self.world.globals.get(name) {
                Some(holder) => Err(RegisterError::Taken(*holder)),
                None => Ok(()),
            }
        };
        if result.is_ok() {
            self.world.globals.insert(name.into(), pid);
        }
        self.registered(result)
    }
    fn global_register_with(&mut self, name: &str, pid: Pid, _: &Resolver) -> Ref {
        self.global_register(name, pid)
    }
    fn global_re_register(&mut self, name: &str, pid: Pid, by: &Resolver) -> Ref {
        self.world.globals.remove(name);
        self.global_register_with(name, pid, by)
    }
    fn global_unregister(&mut self, name: &str) -> bool {
        self.world.globals.remove(name).is_some()
    }
    fn global_whereis(&mut self, name: &str) -> Option<Pid> {
        self.world.globals.get(name).copied()
    }
    fn global_registered(&mut self) -> Vec<String> {
        self.world.globals.keys().cloned().collect()
    }
    fn global_set_lock(
        &mut self,
        resource: &str,
        requester: Option<&str>,
        timeout_ms: Option<u32>,
    ) -> Ref {
        let me = self.me;
        let requester = requester.map_or(Requester::Actor(me), |of| Requester::Named(of.into()));
        let tag = self.world.new_ref(me.node);
        let lock = self
            .world
            .locks
            .entry(resource.into())
            .or_insert_with(|| Lock {
                requester: requester.clone(),
                holders: Vec::new(),
                waiting: Default::default(),
            });
        if lock.requester == requester {
            if !lock.holders.contains(&me) {
                lock.holders.push(me);
            }
            self.world.push(me, Message::Registered((tag, Ok(()))));
        } else {
            lock.waiting.push_back((requester, me, tag));
            if let Some(ms) = timeout_ms {
                self.world.at(ms, Due::Lock(me, tag));
            }
        }
        tag
    }
    fn global_del_lock(&mut self, resource: &str, requester: Option<&str>) -> bool {
        let me = self.me;
        let held = self.world.locks.get(resource).is_some_and(|lock| {
            let same = match requester {
                Some(of) => lock.requester == Requester::Named(of.into()),
                None => lock.requester == Requester::Actor(me),
            };
            same && lock.holders.contains(&me)
        });
        self.world.release_locks(me, Some(resource));
        held
    }

    fn node_name(&mut self) -> String {
        let home = self.world.node(self.me.node);
        home.map(|node| node.name.clone()).unwrap_or_default()
    }
    fn node_nodes(&mut self, which: NodeSet) -> Vec<String> {
        let own = self.node_name();
        let up = self.world.nodes.iter().filter(|n| n.up && n.name != own);
        let mut names: Vec<String> = match which {
            NodeSet::Hidden => Vec::new(),
            _ => up.map(|node| node.name.clone()).collect(),
        };
        names.sort_unstable();
        names
    }
    fn node_node_of(&mut self, actor: Pid) -> Option<String> {
        self.world.node(actor.node).map(|node| node.name.clone())
    }
    fn node_connect(&mut self, to: &str) -> Ref {
        let tag = self.world.new_ref(self.me.node);
        let result = match self.world.incarnation(to) {
            Some(_) => Ok(to.to_owned()),
            None => Err(format!("{to} does not answer")),
        };
        self.world.push(self.me, Message::Connected((tag, result)));
        tag
    }
    fn node_disconnect(&mut self, from: &str) -> bool {
        panic!("a test's nodes cannot be cut from each other ({from}): end one with `Node::down`")
    }
    fn node_monitor_nodes(&mut self, on: bool) {
        if let Some(actor) = self.actor() {
            actor.node_events = on;
        }
    }
    fn node_monitor_node(&mut self, of: &str, on: bool) {
        let (me, up) = (self.me, self.world.incarnation(of).is_some());
        let Some(actor) = self.actor() else { return };
        match on {
            true if up => actor.node_monitors.push(of.into()),
            true => {
                let event = NodeEvent {
                    node: of.into(),
                    kind: NodeKind::Visible,
                    reason: "connection_setup_failed: it does not answer".into(),
                };
                self.world.push(me, Message::NodeDown(event));
            }
            false => {
                if let Some(at) = actor.node_monitors.iter().position(|node| node == of) {
                    actor.node_monitors.remove(at);
                }
            }
        }
    }

    fn groups_join(&mut self, scope: &str, group: &str, actors: &[Pid]) -> Result<(), GroupError> {
        let foreign = |pid: &&Pid| pid.node != self.me.node;
        if let Some(pid) = actors.iter().find(foreign) {
            return Err(GroupError::NotLocal(*pid));
        }
        let key = (scope.to_owned(), group.to_owned());
        self.world.groups.entry(key).or_default().extend(actors);
        self.world.tell_group(scope, group, actors, true);
        Ok(())
    }
    fn groups_leave(&mut self, scope: &str, group: &str, actors: &[Pid]) -> bool {
        let left = actors
            .iter()
            .filter(|pid| self.world.leave_group(scope, group, **pid));
        left.count() > 0
    }
    fn groups_members(&mut self, scope: &str, group: &str) -> Vec<Pid> {
        let key = (scope.to_owned(), group.to_owned());
        self.world.groups.get(&key).cloned().unwrap_or_default()
    }
    fn groups_local_members(&mut self, scope: &str, group: &str) -> Vec<Pid> {
        let mut members = self.groups_members(scope, group);
        members.retain(|pid| pid.node == self.me.node);
        members
    }
    fn groups_which_groups(&mut self, scope: &str) -> Vec<String> {
        let all = self.world.groups.keys().filter(|(of, _)| of == scope);
        all.map(|(_, group)| group.clone()).collect()
    }
    fn groups_which_local_groups(&mut self, scope: &str) -> Vec<String> {
        let mut groups = self.groups_which_groups(scope);
        groups.retain(|group| !self.groups_local_members(scope, group).is_empty());
        groups
    }
    fn groups_monitor(&mut self, scope: &str, group: &str) -> Result<(Ref, Vec<Pid>), GroupError> {
        let tag = self.world.new_ref(self.me.node);
        let monitor = (tag, self.me, scope.to_owned(), Some(group.to_owned()));
        self.world.group_monitors.push(monitor);
        Ok((tag, self.groups_members(scope, group)))
    }
    fn groups_monitor_scope(&mut self, scope: &str) -> Result<(Ref, ScopeMembers), GroupError> {
        let tag = self.world.new_ref(self.me.node);
        self.world
            .group_monitors
            .push((tag, self.me, scope.to_owned(), None));
        let groups = self.groups_which_groups(scope).into_iter();
        let members = groups.map(|group| (group.clone(), self.groups_members(scope, &group)));
        Ok((tag, members.collect()))
    }
    fn groups_demonitor(&mut self, tag: Ref) -> bool {
        let before = self.world.group_monitors.len();
        self.world.group_monitors.retain(|(of, ..)| *of != tag);
        if let Some(actor) = self.actor() {
            actor
                .mailbox
                .retain(|message| crate::groups::group_of(message) != Some(tag));
        }
        self.world.group_monitors.len() < before
    }

    fn io_print(&mut self, text: &str) {
        self.print(text, OutputKind::Stdout);
    }
    fn io_print_error(&mut self, text: &str) {
        self.print(text, OutputKind::Stderr);
    }
    /// A test's nodes have no standard input: it has ended, unless a leader has a line.
    fn io_read_line(&mut self, timeout_ms: Option<u32>) -> Ref {
        let (me, tag) = (self.me, self.world.new_ref(self.me.node));
        let leader = self.process_group_leader();
        if let Some(actor) = self.actor() {
            actor.pending.insert(tag, leader);
        }
        if leader == user(me) || !self.world.actors.contains_key(&leader) {
            self.world.respond(me, tag, Ok(Vec::new()));
            return tag;
        }
        let from = ReplyTo { pid: me, tag };
        self.world.push(leader, Message::InputRequest(from));
        if let Some(ms) = timeout_ms {
            self.world.at(ms, Due::Request(me, tag));
        }
        tag
    }
    /// As text on standard error, with the level in front.
    fn io_log(&mut self, level: Level, text: &str, fields: &[(String, String)]) {
        let fields = fields
            .iter()
            .map(|(name, value)| format!(" {name}={value}"));
        let text = format!("{level:?}: {text}{}\n", fields.collect::<String>());
        self.world.print(self.me, &text, true);
    }
}

/// What stands for a node's own group leader: no actor here has that serial.
fn user(of: Pid) -> Pid {
    let (node, serial) = (of.node, 0);
    Pid { node, serial }
}

impl View<'_> {
    fn print(&mut self, text: &str, kind: OutputKind) {
        let leader = self.process_group_leader();
        if self.world.actors.contains_key(&leader) {
            let output = (self.me, kind, text.as_bytes().to_vec());
            self.world.push(leader, Message::Output(output));
        } else {
            self.world.print(self.me, text, kind == OutputKind::Stderr);
        }
    }
}

impl World {
    fn print(&mut self, actor: Pid, text: &str, error: bool) {
        let text = text.to_owned();
        self.printed.push(Printed { actor, text, error });
    }

    /// Takes an actor out of a group once; whether it was in it.
    pub(super) fn leave_group(&mut self, scope: &str, group: &str, pid: Pid) -> bool {
        let key = (scope.to_owned(), group.to_owned());
        let Some(members) = self.groups.get_mut(&key) else {
            return false;
        };
        let Some(at) = members.iter().position(|member| *member == pid) else {
            return false;
        };
        members.remove(at);
        if members.is_empty() {
            self.groups.remove(&key);
        }
        self.tell_group(scope, group, &[pid], false);
        true
    }

    fn tell_group(&mut self, scope: &str, group: &str, actors: &[Pid], joined: bool) {
        let of = |other: &Option<String>| other.as_deref().is_none_or(|of| of == group);
        let told = self
            .group_monitors
            .iter()
            .filter(|(_, _, s, g)| s == scope && of(g));
        let told: Vec<(Ref, Pid)> = told.map(|(tag, by, _, _)| (*tag, *by)).collect();
        for (tag, by) in told {
            let change = (tag, group.to_owned(), actors.to_vec());
            self.push(
                by,
                match joined {
                    true => Message::GroupJoined(change),
                    false => Message::GroupLeft(change),
                },
            );
        }
    }

    /// Lets go what an actor holds or waits for: one lock, or all. The next in turn gets it.
    pub(super) fn release_locks(&mut self, pid: Pid, only: Option<&str>) {
        let mut granted = Vec::new();
        self.locks.retain(|name, lock| {
            if only.is_some_and(|only| only != name) {
                return true;
            }
            lock.waiting.retain(|(_, by, _)| *by != pid);
            lock.holders.retain(|by| *by != pid);
            if !lock.holders.is_empty() {
                return true;
            }
            let Some((next, ..)) = lock.waiting.front() else {
                return false;
            };
            lock.requester = next.clone();
            let (requester, holders) = (lock.requester.clone(), &mut lock.holders);
            lock.waiting.retain(|(other, by, tag)| {
                let same = *other == requester;
                if same {
                    holders.push(*by);
                    granted.push((*by, *tag));
                }
                !same
            });
            true
        });
        for (by, tag) in granted {
            self.push(by, Message::Registered((tag, Ok(()))));
        }
    }
}

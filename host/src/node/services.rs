//! What actors ask of the node, and what other nodes do: the seams between the process
//! runtime, the modules and the distribution.

use std::sync::Arc;
use std::time::Duration;

use wasm_node_protocol::codec::{NodeReply, NodeRequest};
use wasm_node_protocol::global::{Conflict, Requester, Wish};
use wasm_node_protocol::groups::{ByGroup, GroupError, GroupEvent};
use wasm_node_protocol::membership::down::CONNECTION_SETUP_FAILED;
use wasm_node_protocol::{
    ExitReason, Incarnation, NodeEvent, NodeKind, NodeName, Pid, Ref, RegisterError, Signal,
    SpawnError, SpawnOptions, Target,
};

use super::Inner;
use super::log;
use super::node_watch::MAX_NODE_MONITORS;
use super::spawns::{Spawning, passing_on};
use crate::dist::{self, Answer, Delivered, Dispute, Host, Peer, SendOutcome};
use crate::process::{Network, Process, Sent};
use crate::wasm::{ModuleInfo, NodeSet, Services, UpgradeReport};

impl Services for Inner {
    fn spawn(
        &self,
        parent: &Arc<Process>,
        module: &str,
        args: Vec<u8>,
        options: SpawnOptions,
    ) -> Result<(Pid, Ref), SpawnError> {
        let options = passing_on(parent, options)?;
        let slot = self
            .modules
            .find(module)
            .ok_or_else(|| Self::no_module(module))?;
        let tag = self.runtime.make_ref();
        let of = Some((parent.pid, tag));
        let pid = self.start_actor(slot, args, of, options.clone(), |pid| {
            if options.await_init {
                self.runtime
                    .expect_spawned(parent, tag, pid.node, Some(pid), &options);
            } else {
                self.runtime.adopt(parent, tag, pid, &options);
            }
        })?;
        Ok((pid, tag))
    }

    fn spawn_on(
        &self,
        parent: &Arc<Process>,
        node: &str,
        module: &str,
        args: Vec<u8>,
        options: SpawnOptions,
    ) -> Ref {
        let tag = self.runtime.make_ref();
        let here = self.runtime.node();
        self.runtime
            .expect_spawned(parent, tag, here, None, &options);
        let found = self.modules.find(module);
        let found = found.ok_or_else(|| Self::no_module(module));
        let asked = found.and_then(|slot| Ok((slot, passing_on(parent, options)?)));
        let (slot, options) = match asked {
            Ok(asked) => asked,
            Err(error) => {
                self.spawn_failed(parent.pid, tag, error);
                return tag;
            }
        };
        if node == self.runtime.name().as_str() {
            if let Err(error) = self.spawn_for((parent.pid, tag), slot, args, options) {
                self.spawn_failed(parent.pid, tag, error);
            }
        } else {
            let spawning = Spawning {
                parent: parent.clone(),
                tag,
                slot,
                args,
                options,
            };
            self.spawn_elsewhere(node, spawning);
        }
        tag
    }

    fn claim(&self, asker: &Arc<Process>, actor: Pid, wish: Wish) -> Ref {
        self.claim_for_asker(asker, actor, wish)
    }

    fn unlock(&self, actor: Pid, resource: &str, requester: &Requester) -> bool {
        self.dist().unlock(actor, resource, requester)
    }

    fn global_unregister(&self, name: &str) -> bool {
        self.dist().unregister(name)
    }

    fn global_whereis(&self, name: &str) -> Option<Pid> {
        self.dist().whereis(name)
    }

    fn global_registered(&self) -> Vec<String> {
        let names = self.dist().registered().into_iter();
        names.map(|(name, _)| name).collect()
    }

    fn join(&self, scope: &str, group: &str, actors: &[Pid]) -> Result<(), GroupError> {
        let processes = || {
            actors
                .iter()
                .map(|actor| (*actor, self.runtime.get(*actor)))
        };
        for (_, process) in processes() {
            if let Some(process) = process {
                self.runtime.note_cluster_tables(&process);
            }
        }
        self.dist().join(scope, group, actors)?;
        // What ended just before it was noted, or long ago, is no member.
        for (actor, _) in processes().filter(|(_, process)| process.is_none()) {
            self.dist().actor_gone(actor);
        }
        Ok(())
    }

    fn leave(&self, scope: &str, group: &str, actors: &[Pid]) -> bool {
        self.dist().leave(scope, group, actors)
    }

    fn members(&self, scope: &str, group: &str, local: bool) -> Vec<Pid> {
        match local {
            true => self.dist().local_members(scope, group),
            false => self.dist().members(scope, group),
        }
    }

    fn groups(&self, scope: &str, local: bool) -> Vec<String> {
        match local {
            true => self.dist().local_groups(scope),
            false => self.dist().groups(scope),
        }
    }

    fn monitor_groups(
        &self,
        actor: &Process,
        scope: &str,
        group: Option<&str>,
    ) -> Result<(Ref, ByGroup), GroupError> {
        let tag = self.runtime.make_ref();
        self.runtime.note_cluster_tables(actor);
        // Before anybody can send it anything.
        self.runtime.expect_groups(actor, tag);
        let members = self.dist().monitor_groups(tag, actor.pid, scope, group);
        if members.is_err() {
            self.runtime.forget_groups(actor, tag);
        }
        if self.runtime.get(actor.pid).is_none() {
            self.dist().actor_gone(actor.pid);
        }
        members.map(|members| (tag, members))
    }

    fn demonitor_groups(&self, actor: &Process, monitor: Ref) -> bool {
        self.dist().demonitor_groups(monitor, actor.pid);
        // What is on its way finds nobody who waits for it.
        self.runtime.forget_groups(actor, monitor)
    }

    fn nodes(&self, which: NodeSet) -> Vec<String> {
        let which = match which {
            NodeSet::Of(NodeKind::Visible) => dist::NodeSet::Visible,
            NodeSet::Of(NodeKind::Hidden) => dist::NodeSet::Hidden,
            NodeSet::All => dist::NodeSet::All,
        };
        self.dist()
            .nodes(which)
            .into_iter()
            .map(|(name, _, _)| name.to_string())
            .collect()
    }

    fn node_of(&self, actor: Pid) -> Option<String> {
        if actor.node == self.runtime.node() {
            return Some(self.runtime.name().to_string());
        }
        self.dist().name_of(actor.node).map(|name| name.to_string())
    }

    fn connect(&self, asker: &Arc<Process>, node: &str) -> Ref {
        let tag = self.runtime.make_ref();
        let (this, asker, node) = (self.this(), asker.pid, node.to_owned());
        self.runtime.io().spawn(async move {
            let result = match node.parse::<NodeName>() {
                Ok(name) => this
                    .dist()
                    .connect(&name)
                    .await
                    .map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            this.runtime.signal(
                asker,
                Signal::Connected {
                    tag,
                    result: result.map(|_| node),
                },
            );
        });
        tag
    }

    fn disconnect(&self, node: &str) -> bool {
        node.parse().is_ok_and(|name| self.dist().disconnect(&name))
    }

    fn monitor_nodes(&self, actor: &Process, on: bool) {
        self.runtime.note_cluster_tables(actor);
        self.node_watch.lock().subscribe(actor.pid, on);
    }

    fn monitor_node(&self, actor: &Arc<Process>, node: &str, on: bool) {
        let name = match node.parse::<NodeName>() {
            // A node never sees itself go down.
            Ok(name) if name == *self.runtime.name() => return,
            Ok(name) => name,
            Err(_) => return,
        };
        if !on {
            return self.node_watch.lock().demonitor(actor.pid, &name);
        }
        self.runtime.note_cluster_tables(actor);
        if self.node_watch.lock().monitor(actor.pid, &name).is_err() {
            actor.doom(ExitReason::Limit(format!(
                "node monitors: more than {MAX_NODE_MONITORS}"
            )));
            return;
        }
        // Noted first, so that a connection that goes down at this moment is not missed.
        if self.dist().incarnation_of(&name).is_none() {
            let this = self.this();
            self.runtime.io().spawn(async move {
                if let Err(error) = this.dist().connect(&name).await {
                    this.tell_of_no_connection(name, error.reason);
                }
            });
        }
    }

    fn modules(&self) -> Vec<ModuleInfo> {
        self.modules.list()
    }

    fn upgraded(&self, report: UpgradeReport) {
        let UpgradeReport {
            actor,
            module,
            from,
            to,
            result,
        } = report;
        let actor = actor.display(0);
        match result {
            Ok(()) => tracing::info!(module, actor, %from, %to, "moved to the new version"),
            Err(why) => tracing::error!(
                module, actor, %from, %to, why, "stays with the old version, with its state"
            ),
        }
    }

    fn log(
        &self,
        actor: &Process,
        level: tracing::Level,
        text: String,
        fields: Vec<(String, String)>,
    ) {
        if log::is_wanted(level) {
            let pid = actor.pid.display(0);
            let event = log::Event::new(level, pid, actor.label(), text, fields);
            self.output.log(event);
        }
    }
}

impl Network for Inner {
    fn send(&self, node: Incarnation, to: Target, signal: Signal) -> Sent {
        sent(self.dist().send(node, &to, &signal))
    }

    fn send_from(&self, sender: Pid, node: Incarnation, to: Target, signal: Signal) -> Sent {
        sent(self.dist().send_from(Some(sender), node, &to, &signal))
    }

    fn wait_for_room(&self, node: Incarnation, timeout: Duration) {
        self.dist().wait_for_room(node, timeout);
    }

    fn incarnation_of(&self, node: &NodeName) -> Option<Incarnation> {
        let there = self.dist().incarnation_of(node);
        if there.is_none() {
            // As in Erlang, naming a node connects to it; whoever asks again finds it.
            self.dist().connect_in_background(node);
        }
        there
    }

    fn whereis(&self, name: &str) -> Option<Pid> {
        self.dist().whereis(name)
    }

    fn name_of(&self, node: Incarnation) -> Option<NodeName> {
        self.dist.get()?.name_of(node)
    }

    fn actor_gone(&self, pid: Pid) {
        self.node_watch.lock().actor_gone(pid);
        self.dist().actor_gone(pid);
    }

    fn turn_over(&self) {
        if let Some(dist) = self.dist.get() {
            dist.turn_over();
        }
    }

    fn flush(&self) {
        if let Some(dist) = self.dist.get() {
            dist.flush();
        }
    }

    fn look_after(&self, long: bool) {
        if let Some(dist) = self.dist.get() {
            dist.look_after(long);
        }
    }

    fn look_out(&self, risen: &mut dyn FnMut()) -> bool {
        self.dist.get().is_some_and(|dist| dist.look_out(risen))
    }

    fn ring(&self) {
        if let Some(dist) = self.dist.get() {
            dist.ring();
        }
    }
}

fn sent(outcome: SendOutcome) -> Sent {
    match outcome {
        SendOutcome::Sent => Sent::Ok,
        SendOutcome::Congested => Sent::Congested,
        // Bodies are bounded before they come here; what is too large all the same is as good as
        // sent over a link that broke.
        SendOutcome::NoConnection | SendOutcome::TooLarge => Sent::NoConnection,
    }
}

impl Host for Inner {
    fn started(&self, dist: &dist::Dist) {
        let _ = self.dist.set(dist.clone());
    }

    fn deliver(&self, _: Incarnation, to: Target, signal: Signal) -> Delivered {
        match self.runtime.deliver(to, signal) {
            Sent::Congested => Delivered::Full,
            Sent::Ok | Sent::NoConnection => Delivered::Ok,
        }
    }

    fn request(&self, from: &Peer, request: NodeRequest, answer: Answer) {
        let (this, from) = (self.this(), from.incarnation);
        match request {
            NodeRequest::Spawn {
                parent,
                tag,
                digest,
                module,
                args,
                options,
            } => {
                let (args, parent, options) = (args.into(), (parent, tag), *options);
                if let Some(slot) = self.modules.at_hand(&module, digest) {
                    let spawned = self.spawn_for(parent, slot, args, options);
                    return answer.send(NodeReply::Spawned(spawned));
                }
                self.runtime.io().spawn(async move {
                    let code = (module, digest);
                    let spawned = this.obtain_and_spawn(from, parent, code, args, options);
                    answer.send(NodeReply::Spawned(spawned.await));
                });
            }
            NodeRequest::FetchCode { digest } => {
                self.runtime.io().spawn_blocking(move || {
                    answer.send(NodeReply::Code(this.modules.bytes(digest).map(Into::into)));
                });
            }
            NodeRequest::Ping => answer.send(NodeReply::Pong),
            NodeRequest::WhereisName(name) => {
                answer.send(NodeReply::Whereis(self.dist().whereis(&name)));
            }
            NodeRequest::Register {
                pid,
                name,
                replace,
                resolver,
            } => {
                let wish = Wish::Name {
                    name,
                    replace,
                    resolver,
                };
                self.claim_for(pid, wish, answer);
            }
            NodeRequest::Control(bytes) => {
                self.runtime.io().spawn(async move {
                    let send = |reply| answer.send(NodeReply::Control(reply));
                    this.control(&bytes, send).await;
                });
            }
        }
    }

    fn node_up(&self, _: Incarnation, event: NodeEvent) {
        tracing::info!(node = %event.node, kind = ?event.kind, "node up");
        let told = self.node_watch.lock().on_up();
        self.tell_watchers(told, || Signal::NodeUp(event.clone()));
    }

    fn node_down(&self, node: Incarnation, event: NodeEvent) {
        tracing::info!(node = %event.node, reason = event.reason, "node down");
        self.runtime.node_down(node);
        let told = self.node_watch.lock().on_down(&event.node);
        self.tell_watchers(told, || Signal::NodeDown(event.clone()));
    }

    fn registered(&self, tag: Ref, owner: Pid, result: Result<(), RegisterError>) {
        self.claim_answered(tag, owner, result);
    }

    fn group_told(&self, watcher: Pid, monitor: Ref, event: GroupEvent) {
        let signal = Signal::Group {
            tag: monitor,
            event,
        };
        self.runtime.signal(watcher, signal);
    }

    fn name_conflict(&self, conflict: Conflict) {
        self.name_lost(conflict);
    }

    fn resolve(&self, dispute: Dispute) {
        self.runtime.io().spawn(self.this().ask_resolver(dispute));
    }
}

impl Inner {
    fn tell_watchers(&self, told: Vec<Pid>, signal: impl Fn() -> Signal) {
        for watcher in told {
            self.runtime.signal(watcher, signal());
        }
    }

    /// A node that actors monitor cannot be reached.
    fn tell_of_no_connection(&self, node: NodeName, reason: String) {
        // It may have got in touch itself meanwhile: its monitors are of that connection.
        if self.dist().incarnation_of(&node).is_some() {
            return;
        }
        let told = self.node_watch.lock().end_monitors(&node);
        let event = NodeEvent {
            node,
            // Nobody knows.
            kind: NodeKind::Visible,
            reason: format!("{CONNECTION_SETUP_FAILED}: {reason}"),
        };
        self.tell_watchers(told, || Signal::NodeDown(event.clone()));
    }

    /// Ends an actor from outside.
    pub(super) fn kill(&self, pid: Pid) -> bool {
        let process = self.runtime.get(pid);
        process
            .map(|process| process.doom(ExitReason::Killed))
            .is_some()
    }
}

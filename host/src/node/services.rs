//! What actors ask of the node, and what other nodes do: the seams between the process
//! runtime, the modules and the distribution.

use std::sync::Arc;
use std::time::Duration;

use wasm_node_protocol::codec::{NodeReply, NodeRequest};
use wasm_node_protocol::global::{Conflict, Requester, Resolver, Wish};
use wasm_node_protocol::groups::{ByGroup, GroupError, GroupEvent};
use wasm_node_protocol::membership::down::CONNECTION_SETUP_FAILED;
use wasm_node_protocol::{
    Digest, ExitReason, Incarnation, Limits, NodeEvent, NodeKind, NodeName, Pid, Ref,
    RegisterError, Signal, SpawnError, SpawnOptions, Target,
};

use super::log;
use super::modules::ModuleError;
use super::node_watch::MAX_NODE_MONITORS;
use super::{Inner, Registering, grants};
use crate::dist::{self, Answer, Delivered, Dispute, Host, Peer, SendOutcome};
use crate::process::{Network, Process, Sent, SpawnRequest};
use crate::wasm::{
    DEFAULT_MEMORY_LIMIT_BYTES, Flavour, ModuleInfo, ModuleSlot, NodeSet, Services, UpgradeReport,
    Version, WasmProgram,
};

/// The longest that a spawn on another node may take: shipping and compiling included.
const SPAWN_TIMEOUT: Duration = Duration::from_secs(120);

/// The longest that fetching code from another node may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);

/// An actor to be made on another node.
struct Spawning {
    parent: Arc<Process>,
    tag: Ref,
    slot: Arc<ModuleSlot>,
    args: Vec<u8>,
    options: SpawnOptions,
}

impl Inner {
    /// Makes an actor of a module. Before it begins, `before` hears its pid. The options'
    /// capabilities are what its parent passes on; without, nothing.
    pub(super) fn start_actor(
        &self,
        slot: Arc<ModuleSlot>,
        args: Vec<u8>,
        parent: Option<(Pid, Ref)>,
        mut options: SpawnOptions,
        before: impl FnOnce(Pid),
    ) -> Result<Pid, SpawnError> {
        let version = slot.current();
        if version.flavour() == Flavour::Http {
            return Err(SpawnError::BadModule(format!(
                "module {} answers HTTP requests: give it to an HTTP listener, it is no actor",
                slot.name()
            )));
        }
        let passed_on = options.capabilities.take().unwrap_or_default();
        let capabilities = grants::held(&version, &passed_on, parent.map(|(pid, _)| pid))?;
        let label = slot.name().to_owned();
        let limits = module_limits(&version);
        let global = options.global.clone();
        let process = self.runtime.spawn(SpawnRequest {
            label,
            parent,
            options,
            limits,
            capabilities,
        })?;
        before(process.pid);
        let pid = process.pid;
        let program = WasmProgram::new(self.home(process.clone()), slot, args);
        match global {
            None => self.runtime.begin(&process, Box::new(program)),
            Some(name) => {
                let tag = self.runtime.make_ref();
                let begin = Registering::ToBegin(process.clone(), Box::new(program));
                self.registering.lock().insert(tag, begin);
                let wish = Wish::Name {
                    name,
                    replace: false,
                    resolver: Resolver::default(),
                };
                self.claim_here(&process, wish, tag);
            }
        }
        Ok(pid)
    }

    fn no_module(module: &str) -> SpawnError {
        SpawnError::NoSuchModule(module.into())
    }

    /// Connects to another node, and asks it to make an actor of a module that this one has.
    async fn connect_and_spawn(self: Arc<Self>, name: NodeName, spawning: Spawning) {
        match self.dist().connect(&name).await {
            Ok(there) => {
                // It waits for the parent's turn to end, for which no link may wait.
                let spawn = move || self.spawn_there(there, spawning);
                let _ = tokio::task::spawn_blocking(spawn).await;
            }
            Err(error) => {
                tracing::warn!(node = %name, %error, "cannot spawn there");
                self.spawn_failed(spawning.parent.pid, spawning.tag, SpawnError::NoConnection);
            }
        }
    }

    /// Asks a connected node to make an actor of a module that this one has.
    fn spawn_there(&self, there: Incarnation, spawning: Spawning) {
        let Spawning {
            parent,
            tag,
            slot,
            args,
            options,
        } = spawning;
        self.runtime
            .expect_spawned(&parent, tag, there, None, &options);
        let request = NodeRequest::Spawn {
            parent: parent.pid,
            tag,
            digest: slot.current().digest(),
            module: slot.name().into(),
            args: args.into(),
            options: Box::new(options),
        };
        let (this, parent) = (self.this(), parent.pid);
        let on_reply = move |reply| match reply {
            // The child's own node told the parent, in order with the child's other signals.
            Ok(NodeReply::Spawned(Ok(_))) => {}
            Ok(NodeReply::Spawned(Err(error))) => this.spawn_failed(parent, tag, error),
            Ok(_) | Err(_) => this.spawn_failed(parent, tag, SpawnError::NoConnection),
        };
        self.dist()
            .request_then(there, request, Some(SPAWN_TIMEOUT), on_reply);
    }

    fn spawn_failed(&self, parent: Pid, tag: Ref, error: SpawnError) {
        let result = Err(error);
        self.runtime.signal(parent, Signal::Spawned { tag, result });
    }

    /// Another node wants an actor here, of code that is to be fetched or compiled first.
    async fn obtain_and_spawn(
        self: Arc<Self>,
        from: Incarnation,
        parent: (Pid, Ref),
        (module, digest): (String, Digest),
        args: Vec<u8>,
        options: SpawnOptions,
    ) -> Result<Pid, SpawnError> {
        let slot = self.obtain(from, &module, digest).await.map_err(|error| {
            SpawnError::BadModule(format!(
                "module {module} on {}: {error}",
                self.runtime.name()
            ))
        })?;
        self.spawn_for(parent, slot, args, options)
    }

    /// Another node wants an actor here.
    fn spawn_for(
        &self,
        parent: (Pid, Ref),
        slot: Arc<ModuleSlot>,
        args: Vec<u8>,
        options: SpawnOptions,
    ) -> Result<Pid, SpawnError> {
        let announce = !options.await_init;
        self.start_actor(slot, args, Some(parent), options, |pid| {
            if announce {
                let (parent, tag) = parent;
                self.runtime.signal(
                    parent,
                    Signal::Spawned {
                        tag,
                        result: Ok(pid),
                    },
                );
            }
        })
    }

    /// A version of a module, fetched from the node that named it if it is not here. Several
    /// that want the same wait for one transfer.
    async fn obtain(
        &self,
        from: Incarnation,
        module: &str,
        digest: Digest,
    ) -> Result<Arc<ModuleSlot>, ModuleError> {
        let fetching = self.fetching.lock().entry(digest).or_default().clone();
        let _one = fetching.lock().await;
        let found = self.obtain_alone(from, module, digest).await;
        self.fetching.lock().remove(&digest);
        found
    }

    async fn obtain_alone(
        &self,
        from: Incarnation,
        module: &str,
        digest: Digest,
    ) -> Result<Arc<ModuleSlot>, ModuleError> {
        let found = self.modules.exactly(module, digest).await;
        if !matches!(found, Err(ModuleError::Missing(_))) {
            return found;
        }
        tracing::info!(module, %digest, "fetching code");
        let request = NodeRequest::FetchCode { digest };
        if let Ok(NodeReply::Code(Some(bytes))) =
            self.dist().request(from, request, FETCH_TIMEOUT).await
        {
            self.modules.keep(digest, &bytes)?;
        }
        self.modules.exactly(module, digest).await
    }
}

/// The options of a spawn with what the parent passes on: what it holds, as far as it says, and its
/// group leader, unless they name another.
fn passing_on(parent: &Process, mut options: SpawnOptions) -> Result<SpawnOptions, SpawnError> {
    let holds = parent.capabilities();
    let passed_on = match &options.capabilities {
        None => holds,
        Some(only) => holds.meet(only).map_err(|error| {
            SpawnError::BadModule(format!("the spawn's option capabilities: {error}"))
        })?,
    };
    options.capabilities = Some(passed_on);
    if options.group_leader.is_none() {
        options.group_leader = Some(parent.with_actor(|actor| actor.group_leader()));
    }
    Ok(options)
}

/// What one actor of a module may use.
pub(super) fn module_limits(version: &Version) -> Limits {
    let own = version.grants().limits;
    let default = DEFAULT_MEMORY_LIMIT_BYTES as u64;
    Limits {
        memory_bytes: own.memory_bytes.or(Some(default)),
        ..own
    }
}

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
            let announce = !options.await_init;
            let of = Some((parent.pid, tag));
            let started = self.start_actor(slot, args, of, options, |pid| {
                if announce {
                    self.runtime.signal(
                        parent.pid,
                        Signal::Spawned {
                            tag,
                            result: Ok(pid),
                        },
                    );
                }
            });
            if let Err(error) = started {
                self.runtime.signal(
                    parent.pid,
                    Signal::Spawned {
                        tag,
                        result: Err(error),
                    },
                );
            }
        } else {
            let spawning = Spawning {
                parent: parent.clone(),
                tag,
                slot,
                args,
                options,
            };
            match node.parse::<NodeName>() {
                Ok(name) => match self.dist().incarnation_of(&name) {
                    Some(there) => self.spawn_there(there, spawning),
                    None => {
                        let connecting = self.this().connect_and_spawn(name, spawning);
                        self.runtime.io().spawn(connecting);
                    }
                },
                Err(_) => self.spawn_failed(parent.pid, tag, SpawnError::NoConnection),
            }
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

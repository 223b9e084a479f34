//! The processes of one node, and how signals find them. How they run is in [`super::turns`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use wasm_node_protocol::{
    Aliased, CallError, Capabilities, Destination, ExitReason, Incarnation, Limits, NodeName, Pid,
    Ref, RegisterError, Signal, SpawnError, SpawnOptions, Target,
};

use super::actor::{Actor, AliasMode, Message, Starter};
use super::handle::{Process, Pushed};
use super::info::ProcessInfo;
use super::io::{Nowhere, User};
use super::network::{Network, NoNetwork, Sent};
use super::registry::Registry;
use super::scheduler::Scheduler;
use super::table::Table;
use super::timers::{Action, Timers};
use super::{MAX_ALIASES_PER_ACTOR, MAX_BODY_BYTES, MAX_TIMERS_PER_ACTOR, Program, SUSPEND_MAX};

/// What a new process is.
pub struct SpawnRequest {
    /// What it runs, for people: the module's name.
    pub label: String,
    /// Who spawns it, and the ref that the parent has for it.
    pub parent: Option<(Pid, Ref)>,
    /// Links, monitors, name.
    pub options: SpawnOptions,
    /// What its module may use; `options` may have tighter ones.
    pub limits: Limits,
    /// What it holds from its very start.
    pub capabilities: Capabilities,
}

/// The local name of a node's own group leader.
const USER: &str = "user";

/// All processes of one node.
pub struct Runtime {
    node: Incarnation,
    name: NodeName,
    pub(super) scheduler: Scheduler,
    pub(super) table: Table,
    pub(super) registry: Registry,
    pub(super) timers: Arc<Timers>,
    refs: AtomicU64,
    network: Arc<OnceLock<Arc<dyn Network>>>,
    user: OnceLock<Arc<dyn User>>,
    io: tokio::runtime::Handle,
}

impl Runtime {
    /// Starts the threads of a node with so many lanes (turns that run at once). `tick` is
    /// called every [`super::EPOCH_TICK`] while anything runs.
    pub fn start(
        name: NodeName,
        node: Incarnation,
        lanes: usize,
        io: tokio::runtime::Handle,
        tick: impl Fn() + Send + 'static,
    ) -> std::io::Result<Arc<Self>> {
        let network: Arc<OnceLock<_>> = Arc::default();
        let runtime = Arc::new(Self {
            node,
            name,
            scheduler: Scheduler::new(lanes, network.clone()),
            table: Table::new(),
            registry: Registry::default(),
            timers: Arc::default(),
            refs: AtomicU64::new(1),
            network,
            user: OnceLock::new(),
            io,
        });
        // A fresh registry has room for it.
        let _ = runtime.registry.register(USER, runtime.user());
        Scheduler::start(&runtime, tick)?;
        let weak = Arc::downgrade(&runtime);
        let timers = runtime.timers.clone();
        std::thread::Builder::new()
            .name("timers".into())
            .spawn(move || timers.run(&weak))?;
        Ok(runtime)
    }

    /// Connects the processes with those of other nodes. Once.
    pub fn set_network(&self, network: Arc<dyn Network>) {
        let _ = self.network.set(network);
    }

    /// Gives the node its own group leader. Once.
    pub fn set_user(&self, user: Arc<dyn User>) {
        let _ = self.user.set(user);
    }

    /// Ends the threads. Processes that were waiting never run again.
    pub fn stop(&self) {
        self.scheduler.stop();
        self.timers.stop();
    }

    pub(super) fn enter_io(&self) -> tokio::runtime::EnterGuard<'_> {
        self.io.enter()
    }

    /// The runtime for sockets and files.
    pub fn io(&self) -> &tokio::runtime::Handle {
        &self.io
    }

    /// This run of this node.
    pub fn node(&self) -> Incarnation {
        self.node
    }

    /// This node's name.
    pub fn name(&self) -> &NodeName {
        &self.name
    }

    /// Never the same twice.
    pub fn make_ref(&self) -> Ref {
        Ref {
            node: self.node,
            serial: self.refs.fetch_add(1, Ordering::Relaxed),
        }
    }

    pub(super) fn network(&self) -> &dyn Network {
        self.network.get().map_or(&NoNetwork, |network| &**network)
    }

    pub(super) fn own_user(&self) -> &dyn User {
        self.user.get().map_or(&Nowhere, |user| &**user)
    }

    /// Makes a process that waits for its program. Its mailbox takes messages at once.
    pub fn spawn(self: &Arc<Self>, request: SpawnRequest) -> Result<Arc<Process>, SpawnError> {
        let SpawnRequest {
            label,
            parent,
            options,
            limits,
            capabilities,
        } = request;
        let starter = parent
            .filter(|_| options.await_init)
            .map(|(parent, tag)| Starter { parent, tag });
        let make = |serial| {
            let pid = Pid {
                node: self.node,
                serial,
            };
            let mut actor = Actor::new(pid, starter);
            if let Some(leader) = options.group_leader {
                actor.set_group_leader(leader);
            }
            if let Some((parent, tag)) = parent {
                if options.link {
                    actor.add_link(parent);
                }
                if options.monitor {
                    actor.add_watcher(tag, parent);
                }
            }
            let spawner = parent.map(|(parent, _)| parent);
            let limits = limits.and(options.limits);
            let process = Process::new(pid, Arc::downgrade(self), label, actor, spawner, limits);
            process.hold(capabilities);
            if parent.is_some_and(|(parent, _)| parent.node != self.node) {
                process.remote.store(true, Ordering::Relaxed);
            }
            Arc::new(process)
        };
        let process = self.table.insert(make).ok_or(SpawnError::TooManyActors)?;
        if let Some(name) = &options.name
            && let Err(error) = self.register(name, process.pid)
        {
            self.table.remove(process.pid.serial);
            process.close();
            return Err(match error {
                RegisterError::Taken(holder) => SpawnError::NameTaken(holder),
                error => SpawnError::BadModule(error.to_string()),
            });
        }
        Ok(process)
    }

    /// Gives a spawned process its program, and runs it.
    pub fn begin(&self, process: &Arc<Process>, program: Box<dyn Program>) {
        *process.state.lock().program.borrow_mut() = Some(program);
        process.notify();
    }

    /// The process with that pid, if it lives on this node.
    pub fn get(&self, pid: Pid) -> Option<Arc<Process>> {
        if pid.node == self.node {
            self.table.get(pid.serial)
        } else {
            None
        }
    }

    /// Whether an actor of this node lives.
    pub fn is_alive(&self, pid: Pid) -> bool {
        pid == self.user() || self.get(pid).is_some()
    }

    pub(super) fn process(&self, serial: u64) -> Option<Arc<Process>> {
        self.table.get(serial)
    }

    /// Processes that live on this node.
    pub fn count(&self) -> usize {
        self.table.len()
    }

    /// What `ps` shows.
    pub fn processes(&self) -> Vec<ProcessInfo> {
        self.table
            .all()
            .iter()
            .map(|process| process.info())
            .collect()
    }

    /// Up to so many processes, from a slot on, and the slot to go on from.
    pub fn page(&self, from: u32, most: usize) -> (Vec<Arc<Process>>, Option<u32>) {
        self.table.page(from, most)
    }

    /// Every process of this node.
    pub fn all(&self) -> Vec<Arc<Process>> {
        self.table.all()
    }

    // ---- Names ----

    /// Erlang's `register/2`.
    pub fn register(&self, name: &str, pid: Pid) -> Result<(), RegisterError> {
        let process = self.get(pid).ok_or(RegisterError::NoProc)?;
        self.registry.register(name, pid)?;
        process.names().push(name.to_owned());
        // It may have ended in between, and released its names before this one was there.
        if self.get(pid).is_none() {
            self.registry.release(name, pid);
            return Err(RegisterError::NoProc);
        }
        Ok(())
    }

    /// Erlang's `unregister/1`; whether there was such a name.
    pub fn unregister(&self, name: &str) -> bool {
        let holder = self.registry.unregister(name);
        if let Some(process) = holder.and_then(|pid| self.get(pid)) {
            process.names().retain(|held| held != name);
        }
        holder.is_some()
    }

    /// Erlang's `whereis/1`.
    pub fn whereis(&self, name: &str) -> Option<Pid> {
        self.registry.whereis(name)
    }

    /// Erlang's `registered/0`, with the holders; sorted by name.
    pub fn registered(&self) -> Vec<(String, Pid)> {
        self.registry.registered()
    }

    // ---- Signals ----

    /// Sends a signal to an actor anywhere. One that finds nobody is answered if it asks for
    /// an answer. Suspends nobody.
    pub fn signal(self: &Arc<Self>, to: Pid, signal: Signal) -> Sent {
        if to.node == self.node {
            match self.table.get(to.serial) {
                Some(process) => match process.push(&self.scheduler, signal) {
                    Pushed::Ok => Sent::Ok,
                    Pushed::Full => Sent::Congested,
                    Pushed::TooLarge(signal) => {
                        self.refuse_large(to, signal);
                        Sent::Ok
                    }
                    Pushed::Closed(signal) => {
                        self.bounce(to, signal);
                        Sent::Ok
                    }
                },
                None => {
                    self.bounce(to, signal);
                    Sent::Ok
                }
            }
        } else {
            self.network().send(to.node, Target::Pid(to), signal)
        }
    }

    /// As [`Self::signal`], in order with what `sender` sent before.
    pub(super) fn signal_of(self: &Arc<Self>, sender: Pid, to: Pid, signal: Signal) -> Sent {
        match to.node == self.node {
            true => self.signal(to, signal),
            false => {
                let target = Target::Pid(to);
                self.network().send_from(sender, to.node, target, signal)
            }
        }
    }

    /// As [`Self::signal`], by a process in its turn, or of the host's own.
    fn signal_from(self: &Arc<Self>, sender: &Process, to: Pid, signal: Signal) -> Sent {
        if to.node != self.node {
            sender.with_actor(Actor::note_sent);
            return self.signal_of(sender.pid, to, signal);
        }
        let mut signal = Some(signal);
        let pushed = sender.with_actor(|actor| {
            actor.note_sent();
            let to = actor.route(to, || self.table.get(to.serial))?;
            let pushed = to.push(&self.scheduler, signal.take()?);
            if matches!(pushed, Pushed::Closed(_)) {
                actor.forget_route();
            }
            Some(pushed)
        });
        match (pushed, signal) {
            (Some(Pushed::Ok), _) => Sent::Ok,
            (Some(Pushed::Full), _) => Sent::Congested,
            (Some(Pushed::TooLarge(signal)), _) => {
                self.refuse_large(to, signal);
                Sent::Ok
            }
            (Some(Pushed::Closed(signal)), _) | (None, Some(signal)) => {
                self.bounce(to, signal);
                Sent::Ok
            }
            (None, None) => Sent::Ok,
        }
    }

    /// A signal for this node came from another.
    pub fn deliver(self: &Arc<Self>, to: Target, signal: Signal) -> Sent {
        let pid = match to {
            Target::Pid(pid) => Some(pid),
            Target::Name(name) => self.whereis(&name),
        };
        // A watcher on another node has to be told when this process ends, and this process
        // has to be told when that node does.
        match pid.filter(|pid| pid.node == self.node) {
            Some(pid) => {
                if let Some(process) = self.get(pid) {
                    process.remote.store(true, Ordering::Relaxed);
                }
                self.signal(pid, signal)
            }
            None => {
                self.bounce(
                    Pid {
                        node: self.node,
                        serial: 0,
                    },
                    signal,
                );
                Sent::Ok
            }
        }
    }

    /// The connection to that run of a node is down; no signal of it comes any more.
    pub fn node_down(&self, node: Incarnation) {
        self.own_user().node_down(node);
        for process in self.table.all() {
            if process.remote.load(Ordering::Relaxed) {
                process.push_node_down(node);
            }
        }
    }

    /// A signal is larger than its receiver takes: tells whoever has to know.
    fn refuse_large(self: &Arc<Self>, to: Pid, signal: Signal) {
        let refused = match signal {
            Signal::Request { from, tag, .. } => Some((from, tag)),
            Signal::Alias { message, .. } => match *message {
                Aliased::Request { from, tag, .. } => Some((from, tag)),
                Aliased::Info(_) | Aliased::Cast(_) => None,
            },
            // The answer is too large for whoever asked.
            Signal::Response { tag, .. } => Some((to, tag)),
            _ => None,
        };
        match refused {
            Some((asker, tag)) => {
                let result = Err(CallError::TooLarge);
                self.signal(asker, Signal::Response { tag, result });
            }
            None => tracing::warn!(
                actor = %to.display(0),
                "dropped a message: it is larger than the actor's limit `message-bytes`"
            ),
        }
    }

    /// A signal found nobody: tells whoever has to know.
    fn bounce(self: &Arc<Self>, nobody: Pid, signal: Signal) {
        let Some(signal) = self.for_leader(nobody, signal) else {
            return;
        };
        match signal {
            Signal::Request { from, tag, .. } => {
                self.signal(
                    from,
                    Signal::Response {
                        tag,
                        result: Err(CallError::NoProc),
                    },
                );
            }
            Signal::Monitor { from, tag } => {
                let reason = ExitReason::NoProc;
                self.signal(
                    from,
                    Signal::Down {
                        tag,
                        pid: nobody,
                        reason,
                    },
                );
            }
            Signal::Link { from } => {
                let reason = ExitReason::NoProc;
                self.signal(
                    from,
                    Signal::Exit {
                        from: nobody,
                        reason,
                        link: true,
                    },
                );
            }
            Signal::Alias { message, .. } => {
                if let request @ Signal::Request { .. } = message.signal() {
                    self.bounce(nobody, request);
                }
            }
            Signal::Unlink { from, id } => {
                self.signal(from, Signal::UnlinkAck { from: nobody, id });
            }
            // A child whose parent ended before it could know of the link.
            Signal::Spawned {
                result: Ok(child), ..
            } => {
                let reason = ExitReason::NoProc;
                self.signal(
                    child,
                    Signal::Exit {
                        from: nobody,
                        reason,
                        link: true,
                    },
                );
            }
            _ => {}
        }
    }

    /// What a message to this destination has to be sent to: a node and a target there.
    fn resolve(&self, to: &Destination) -> Result<(Incarnation, Target), CallError> {
        let local = |name: &str| {
            self.whereis(name)
                .map(|pid| (self.node, Target::Pid(pid)))
                .ok_or(CallError::NoProc)
        };
        match to {
            Destination::Pid(pid) => Ok((pid.node, Target::Pid(*pid))),
            Destination::Name(name) => local(name),
            Destination::RemoteName(name, node) if *node == self.name => local(name),
            Destination::RemoteName(name, node) => {
                let node = self
                    .network()
                    .incarnation_of(node)
                    .ok_or(CallError::NoConnection)?;
                Ok((node, Target::Name(name.clone())))
            }
            Destination::Global(name) => {
                let pid = self.network().whereis(name).ok_or(CallError::NoProc)?;
                Ok((pid.node, Target::Pid(pid)))
            }
            Destination::Alias(pid, _) => Ok((pid.node, Target::Pid(*pid))),
        }
    }

    // ---- What an actor does, on behalf of its code ----

    /// Sends a message from a process, and suspends it if the receiver is overfull.
    pub fn send_from(self: &Arc<Self>, sender: &Process, to: Pid, signal: Signal) {
        if self.signal_from(sender, to, signal) == Sent::Congested && to != sender.pid {
            self.suspend(sender, to);
        }
    }

    /// As [`Self::send_from`], to any destination.
    pub fn send_to(self: &Arc<Self>, sender: &Process, to: &Destination, signal: Signal) {
        let Ok((node, target)) = self.resolve(to) else {
            return;
        };
        let signal = to_alias(to, signal);
        match target {
            Target::Pid(pid) => self.send_from(sender, pid, signal),
            name => {
                sender.with_actor(Actor::note_sent);
                let sent = self.network().send_from(sender.pid, node, name, signal);
                if sent == Sent::Congested {
                    self.suspend_for(sender, node);
                }
            }
        }
    }

    /// Blocks this thread (and no lane) until `to` has room again, for a bounded time.
    pub(super) fn suspend(self: &Arc<Self>, sender: &Process, to: Pid) {
        if to.node != self.node {
            self.suspend_for(sender, to.node);
        } else if let Some(process) = self.table.get(to.serial) {
            let until = Instant::now() + SUSPEND_MAX;
            sender.set_suspended(true);
            self.scheduler
                .while_blocked(self, || process.wait_for_room(until));
            sender.set_suspended(false);
        }
    }

    /// As `suspend`, until the queue to another node has room.
    fn suspend_for(self: &Arc<Self>, sender: &Process, node: Incarnation) {
        sender.set_suspended(true);
        self.scheduler
            .while_blocked(self, || self.network().wait_for_room(node, SUSPEND_MAX));
        sender.set_suspended(false);
    }

    /// Sends a request; exactly one response message follows, unless it is forgotten.
    pub fn request(
        self: &Arc<Self>,
        asker: &Arc<Process>,
        to: &Destination,
        body: Bytes,
        timeout: Option<Duration>,
    ) -> Ref {
        let tag = self.make_ref();
        let resolved = if body.len() > MAX_BODY_BYTES {
            Err(CallError::TooLarge)
        } else {
            self.resolve(to)
        };
        let node = resolved.as_ref().map_or(self.node, |(node, _)| *node);
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        asker.with_actor(|actor| actor.add_pending(tag, node, deadline));
        // Here and not only after a turn: the asker may be the host's own, or wait in one.
        self.arm(asker);
        let refuse = |error| {
            self.signal(
                asker.pid,
                Signal::Response {
                    tag,
                    result: Err(error),
                },
            )
        };
        match resolved {
            Ok((node, target)) => {
                let signal = Signal::Request {
                    from: asker.pid,
                    tag,
                    body,
                };
                let signal = to_alias(to, signal);
                let sent = self.send_or_deliver(asker, node, target.clone(), signal);
                match (sent, target) {
                    (Sent::NoConnection, _) => {
                        refuse(CallError::NoConnection);
                    }
                    (Sent::Congested, Target::Pid(pid)) if pid != asker.pid => {
                        self.suspend(asker, pid);
                    }
                    (Sent::Congested, Target::Name(_)) if node != self.node => {
                        self.suspend_for(asker, node);
                    }
                    _ => {}
                }
            }
            Err(error) => {
                refuse(error);
            }
        }
        tag
    }

    fn send_or_deliver(
        self: &Arc<Self>,
        from: &Process,
        node: Incarnation,
        target: Target,
        signal: Signal,
    ) -> Sent {
        if node == self.node {
            match target {
                Target::Pid(pid) => self.signal_from(from, pid, signal),
                name => self.deliver(name, signal),
            }
        } else {
            // From now on this process has to hear when that node goes down.
            from.remote.store(true, Ordering::Release);
            self.network().send_from(from.pid, node, target, signal)
        }
    }

    /// Gives up a request.
    pub fn forget(self: &Arc<Self>, asker: &Process, tag: Ref) {
        if let Some(leader) = asker.with_actor(|actor| actor.forget(tag)) {
            self.signal_of(asker.pid, leader, Signal::Forget { tag });
            self.own_user().forget(tag);
        }
    }

    /// Answers a request that the process took.
    pub fn reply(self: &Arc<Self>, replier: &Process, to: Pid, tag: Ref, body: Bytes) {
        self.answer(replier, to, tag, Ok(body));
    }

    /// As [`Self::reply`], also with an error.
    pub fn answer(
        self: &Arc<Self>,
        replier: &Process,
        to: Pid,
        tag: Ref,
        result: Result<Bytes, CallError>,
    ) {
        replier.with_actor(|actor| actor.answered(tag));
        self.send_from(replier, to, Signal::Response { tag, result });
    }

    /// Erlang's `link/1`.
    pub fn link(self: &Arc<Self>, process: &Process, to: Pid) {
        if to == process.pid || !process.with_actor(|actor| actor.add_link(to)) {
            return;
        }
        let signal = Signal::Link { from: process.pid };
        if self.send_or_deliver(process, to.node, Target::Pid(to), signal) == Sent::NoConnection {
            let reason = ExitReason::NoConnection;
            self.signal(
                process.pid,
                Signal::Exit {
                    from: to,
                    reason,
                    link: true,
                },
            );
        }
    }

    /// Erlang's `unlink/1`.
    pub fn unlink(self: &Arc<Self>, process: &Process, to: Pid) {
        if let Some(unlink) = process.with_actor(|actor| actor.remove_link(to))
            && self.signal(to, unlink) == Sent::NoConnection
        {
            process.with_actor(|actor| actor.forget_unlink(to));
        }
    }

    /// Erlang's `alias/1`: another address of a process, until it is made inactive.
    pub fn alias(&self, process: &Arc<Process>, mode: AliasMode) -> Ref {
        let alias = self.make_ref();
        let count = process.with_actor(|actor| {
            actor.add_alias(alias, mode);
            actor.aliases()
        });
        if count > MAX_ALIASES_PER_ACTOR {
            process.doom(ExitReason::Limit(format!(
                "aliases: more than {MAX_ALIASES_PER_ACTOR}"
            )));
        }
        alias
    }

    /// Erlang's `unalias/1`; whether it was active.
    pub fn unalias(&self, process: &Process, alias: Ref) -> bool {
        process.with_actor(|actor| actor.remove_alias(alias))
    }

    /// Erlang's `monitor/2`.
    pub fn monitor(self: &Arc<Self>, process: &Process, to: &Destination) -> Ref {
        let tag = self.make_ref();
        let nobody = Pid {
            node: self.node,
            serial: 0,
        };
        let (node, target, gone) = match self.resolve(to) {
            Ok((node, target)) => (node, target, None),
            Err(CallError::NoConnection) => (
                self.node,
                Target::Pid(nobody),
                Some(ExitReason::NoConnection),
            ),
            Err(_) => (self.node, Target::Pid(nobody), Some(ExitReason::NoProc)),
        };
        let pid = match &target {
            Target::Pid(pid) => Some(*pid),
            Target::Name(_) => None,
        };
        process.with_actor(|actor| match &target {
            Target::Pid(pid) => actor.add_monitor(tag, node, Some(*pid)),
            Target::Name(name) => actor.add_monitor_by_name(tag, node, name),
        });
        let gone = gone.or_else(|| {
            let signal = Signal::Monitor {
                from: process.pid,
                tag,
            };
            let sent = self.send_or_deliver(process, node, target, signal);
            (sent == Sent::NoConnection).then_some(ExitReason::NoConnection)
        });
        if let Some(reason) = gone {
            self.signal(
                process.pid,
                Signal::Down {
                    tag,
                    pid: pid.unwrap_or(nobody),
                    reason,
                },
            );
        }
        tag
    }

    /// Erlang's `demonitor/2` with `flush`.
    pub fn demonitor(self: &Arc<Self>, process: &Process, tag: Ref) {
        let (named, watched) = process.with_actor(|actor| {
            (
                actor.monitored_by_name(Some(tag)),
                actor.remove_monitor(tag),
            )
        });
        if let Some((_, Some(pid))) = watched {
            self.signal_of(process.pid, pid, Signal::Demonitor { tag });
        }
        self.demonitor_by_name(process.pid, named);
    }

    /// Tells whoever has these names now. As in Erlang, a holder that has lost its name since
    /// keeps the monitor, and its `Down` finds nobody who waits for it.
    pub(super) fn demonitor_by_name(
        &self,
        watcher: Pid,
        monitors: Vec<(Incarnation, String, Ref)>,
    ) {
        for (node, name, tag) in monitors {
            let signal = Signal::Demonitor { tag };
            self.network()
                .send_from(watcher, node, Target::Name(name), signal);
        }
    }

    /// Erlang's `exit/2`.
    pub fn exit(self: &Arc<Self>, process: &Process, to: Pid, reason: ExitReason) {
        self.signal(
            to,
            Signal::Exit {
                from: process.pid,
                reason,
                link: false,
            },
        );
    }

    /// Notes a spawn on behalf of a process, whose `Spawned` signal is to come. `child` is
    /// known for a spawn on this node.
    pub fn expect_spawned(
        &self,
        process: &Process,
        tag: Ref,
        node: Incarnation,
        child: Option<Pid>,
        options: &SpawnOptions,
    ) {
        if node != self.node {
            process.remote.store(true, Ordering::Release);
        }
        let (link, monitor) = (options.link, options.monitor);
        process.with_actor(|actor| actor.add_spawning(tag, node, child, link, monitor));
    }

    /// A spawn on behalf of a process that nobody need be asked about: answered as any other.
    pub fn spawn_refused(self: &Arc<Self>, process: &Process, error: SpawnError) -> Ref {
        let tag = self.make_ref();
        self.expect_spawned(process, tag, self.node, None, &SpawnOptions::default());
        let result = Err(error);
        self.signal(process.pid, Signal::Spawned { tag, result });
        tag
    }

    /// Notes that a child spawned on this node exists, linked or monitored from now on.
    pub fn adopt(&self, process: &Process, tag: Ref, child: Pid, options: &SpawnOptions) {
        process.with_actor(|actor| {
            if options.link {
                actor.add_link(child);
            }
            if options.monitor {
                actor.add_monitor(tag, child.node, Some(child));
            }
        });
    }

    /// Notes that a process, whosoever, may hold global names or be in groups. Before it does;
    /// and afterwards look whether it still lives.
    pub fn note_cluster_tables(&self, process: &Process) {
        process.in_cluster_tables.store(true, Ordering::SeqCst);
    }

    /// Notes a monitor of groups: its messages are taken from now on.
    pub fn expect_groups(&self, process: &Process, tag: Ref) {
        process.with_actor(|actor| actor.add_group_monitor(tag));
    }

    /// Forgets it, and its messages; whether there was one.
    pub fn forget_groups(&self, process: &Process, tag: Ref) -> bool {
        process.with_actor(|actor| actor.remove_group_monitor(tag))
    }

    /// Starts a timer whose message goes to the process itself, or, with a body, an `info`
    /// message to somebody.
    pub fn start_timer(
        &self,
        process: &Arc<Process>,
        after: Duration,
        send: Option<(Pid, Bytes)>,
    ) -> Ref {
        let tag = self.make_ref();
        if !process.timer_begins() {
            process.doom(ExitReason::Limit(format!(
                "timers: more than {MAX_TIMERS_PER_ACTOR}"
            )));
        }
        let owner = process.pid;
        let action = match send {
            Some((to, body)) => Action::Send {
                owner,
                to,
                body,
                tag,
            },
            None => Action::Timer { owner, tag },
        };
        self.timers.set(Instant::now() + after, Some(tag), action);
        tag
    }

    /// Cancels a timer; whether it was still to fire.
    pub fn cancel_timer(&self, process: &Process, tag: Ref) -> bool {
        let cancelled = self.timers.cancel(tag);
        match cancelled {
            true => process.timer_over(),
            false => process.with_actor(|actor| actor.forget_timer(tag)),
        }
        cancelled
    }

    /// The next message of the process that runs on this thread, and whether more wait.
    pub fn next(&self, process: &Process) -> (Option<Message>, bool) {
        process.with_actor(|actor| {
            let mut message = actor.next();
            if message.is_none() && process.has_incoming() {
                actor.accept(|queue| process.drain(queue));
                message = actor.next();
            }
            let more = actor.mailbox_len() > 0 || process.has_incoming();
            (message, more)
        })
    }

    /// The next message that answers this ref.
    pub fn next_answering(&self, process: &Process, tag: Ref) -> Option<Message> {
        process.with_actor(|actor| {
            actor.accept(|queue| process.drain(queue));
            actor.next_answering(tag)
        })
    }

    /// Sees to it that a process that waits in the middle of a turn is run by then.
    pub fn wake_at(&self, process: &Arc<Process>, at: Instant) {
        if process.with_actor(|actor| actor.arm_for(at)) {
            self.wake_process_at(process, at);
        }
    }
}

/// A message to a destination, as its receiver gets it.
fn to_alias(to: &Destination, signal: Signal) -> Signal {
    let Destination::Alias(_, alias) = to else {
        return signal;
    };
    let alias = *alias;
    match Aliased::of(signal) {
        Ok(message) => Signal::Alias {
            alias,
            message: Box::new(message),
        },
        Err(other) => other,
    }
}

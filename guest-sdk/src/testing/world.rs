//! The state of a test's nodes: actors, names, links, monitors, requests, timers.
//!
//! Decides and keeps; it runs no actor's code (that is [`run`](super::run)) and reads no clock:
//! `now` moves when it is told to. Exit signals follow Erlang's rules ("Processes", Reference
//! Manual), and signals between two actors arrive in the order sent, since they arrive at once.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::run::{Body, Factory};
use crate::bindings::wasm_node::actor::process::{AliasMode, SpawnFlags, SpawnOptions};
use crate::{
    CallError, Destination, ExitReason, Message, NodeEvent, NodeKind, Outcome, Pid, Ref,
    RegisterError, ReplyTo, SpawnError, Start,
};

/// The imports of one actor.
pub(super) struct View<'a> {
    pub(super) world: &'a mut World,
    pub(super) me: Pid,
}

impl<'a> View<'a> {
    pub(super) fn new(world: &'a mut World, me: Pid) -> Self {
        Self { world, me }
    }
}

/// One life of a node; its place in the list, counted from one, is its incarnation.
pub(super) struct NodeState {
    pub(super) name: String,
    pub(super) up: bool,
    pub(super) names: BTreeMap<String, Pid>,
}

/// One actor.
pub(super) struct Actor {
    pub(super) mailbox: VecDeque<Message>,
    pub(super) trap_exit: bool,
    pub(super) links: BTreeSet<Pid>,
    pub(super) watchers: Vec<(Ref, Pid)>,
    /// None: monitored by a name that nobody had.
    pub(super) monitors: BTreeMap<Ref, Pid>,
    pub(super) pending: BTreeMap<Ref, Pid>,
    pub(super) open: Vec<ReplyTo>,
    /// Who waits for the end of its `init`, and whether it then links and monitors.
    pub(super) starter: Option<(Pid, Ref, SpawnFlags)>,
    pub(super) claims: Option<String>,
    pub(super) start: Option<Start>,
    pub(super) module: String,
    pub(super) parent: Option<Pid>,
    /// None: its node's own.
    pub(super) group_leader: Option<Pid>,
    pub(super) aliases: Vec<(Ref, AliasMode)>,
    pub(super) body: Option<Body>,
    pub(super) running: bool,
    pub(super) queued: bool,
    pub(super) ending: Option<ExitReason>,
    pub(super) idle: Option<u64>,
    pub(super) node_events: bool,
    pub(super) node_monitors: Vec<String>,
}

pub(super) enum Due {
    Timer(Pid, Ref),
    Send(Pid, Vec<u8>, Ref),
    Request(Pid, Ref),
    Idle(Pid, u64),
    Lock(Pid, Ref),
}

pub(super) struct Lock {
    pub(super) requester: Requester,
    pub(super) holders: Vec<Pid>,
    pub(super) waiting: VecDeque<(Requester, Pid, Ref)>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Requester {
    Named(String),
    Actor(Pid),
}

/// What an actor printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    /// Who.
    pub actor: Pid,
    /// What, as printed.
    pub text: String,
    /// Whether to the error output.
    pub error: bool,
}

/// Everything.
pub(super) struct World {
    pub(super) now: u64,
    pub(super) random: u64,
    pub(super) shuffled: bool,
    serials: u64,
    pub(super) nodes: Vec<NodeState>,
    pub(super) modules: BTreeMap<String, Factory>,
    pub(super) actors: HashMap<Pid, Actor>,
    pub(super) ready: VecDeque<Pid>,
    pub(super) timers: BTreeMap<(u64, u64), Due>,
    pub(super) globals: BTreeMap<String, Pid>,
    pub(super) groups: BTreeMap<(String, String), Vec<Pid>>,
    /// Who monitors which group; none: all of the scope.
    pub(super) group_monitors: Vec<(Ref, Pid, String, Option<String>)>,
    pub(super) locks: BTreeMap<String, Lock>,
    pub(super) printed: Vec<Printed>,
    pub(super) ended: HashMap<Pid, ExitReason>,
}

impl World {
    pub(super) fn new(seed: Option<u64>) -> Self {
        Self {
            now: 0,
            random: seed.unwrap_or(1) ^ 0x9e37_79b9_7f4a_7c15,
            shuffled: seed.is_some(),
            serials: 0,
            nodes: Vec::new(),
            modules: BTreeMap::new(),
            actors: HashMap::new(),
            ready: VecDeque::new(),
            timers: BTreeMap::new(),
            globals: BTreeMap::new(),
            groups: BTreeMap::new(),
            group_monitors: Vec::new(),
            locks: BTreeMap::new(),
            printed: Vec::new(),
            ended: HashMap::new(),
        }
    }

    /// splitmix64.
    pub(super) fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn serial(&mut self) -> u64 {
        self.serials += 1;
        self.serials
    }

    pub(super) fn new_ref(&mut self, node: u64) -> Ref {
        let serial = self.serial();
        Ref { node, serial }
    }

    pub(super) fn node(&mut self, incarnation: u64) -> Option<&mut NodeState> {
        let at = usize::try_from(incarnation.checked_sub(1)?).ok()?;
        self.nodes.get_mut(at)
    }

    pub(super) fn is_up(&self, incarnation: u64) -> bool {
        let at = incarnation.wrapping_sub(1) as usize;
        self.nodes.get(at).is_some_and(|node| node.up)
    }

    pub(super) fn incarnation(&self, name: &str) -> Option<u64> {
        let at = self.nodes.iter().position(|n| n.up && n.name == name)?;
        Some(at as u64 + 1)
    }

    /// Who is meant; `Noproc` or `Noconnection` if nobody.
    pub(super) fn resolve(&self, from: u64, to: &Destination) -> Result<Pid, ExitReason> {
        let named = |node: u64, name: &str| {
            let node = self.nodes.get(node as usize - 1);
            let pid = node.and_then(|node| node.names.get(name).copied());
            pid.ok_or(ExitReason::Noproc)
        };
        let pid = match to {
            Destination::Pid(pid) => *pid,
            Destination::Name(name) => named(from, name)?,
            Destination::RemoteName((name, node)) => {
                let node = self.incarnation(node).ok_or(ExitReason::Noconnection)?;
                named(node, name)?
            }
            Destination::Global(name) => {
                let pid = self.globals.get(name).copied();
                pid.ok_or(ExitReason::Noproc)?
            }
            Destination::Alias(alias) => {
                let actor = self.actors.get(&alias.pid);
                let active = actor
                    .is_some_and(|actor| actor.aliases.iter().any(|(tag, _)| *tag == alias.tag));
                match active {
                    true => alias.pid,
                    false => return Err(ExitReason::Noproc),
                }
            }
        };
        if self.actors.contains_key(&pid) {
            Ok(pid)
        } else if self.is_up(pid.node) {
            Err(ExitReason::Noproc)
        } else {
            Err(ExitReason::Noconnection)
        }
    }

    /// A message has gone to a destination: an alias for one message is none any more.
    pub(super) fn use_alias(&mut self, to: &Destination) {
        if let Destination::Alias(alias) = to
            && let Some(actor) = self.actors.get_mut(&alias.pid)
        {
            let used =
                |(tag, mode): &(Ref, AliasMode)| *tag == alias.tag && *mode == AliasMode::Reply;
            actor.aliases.retain(|each| !used(each));
        }
    }

    /// Puts a message into a mailbox, if its actor lives.
    pub(super) fn push(&mut self, to: Pid, message: Message) {
        if let Some(actor) = self.actors.get_mut(&to) {
            actor.mailbox.push_back(message);
            self.wake(to);
        }
    }

    pub(super) fn wake(&mut self, pid: Pid) {
        if let Some(actor) = self.actors.get_mut(&pid)
            && !std::mem::replace(&mut actor.queued, true)
        {
            self.ready.push_back(pid);
        }
    }

    pub(super) fn at(&mut self, after_ms: u32, due: Due) -> u64 {
        let serial = self.serial();
        let when = self.now + u64::from(after_ms) * 1_000_000;
        self.timers.insert((when, serial), due);
        serial
    }

    /// Moves time to the next timer, not past the limit, and fires it; whether there was one.
    pub(super) fn fire_next(&mut self, limit: u64) -> bool {
        match self.timers.first_key_value() {
            Some((&(when, _), _)) if when <= limit => {}
            _ => return false,
        }
        if let Some(((when, _), due)) = self.timers.pop_first() {
            self.now = self.now.max(when);
            self.fire(due);
        }
        true
    }

    fn fire(&mut self, due: Due) {
        match due {
            Due::Timer(to, tag) => self.push(to, Message::Timer(tag)),
            Due::Send(to, body, _) => self.push(to, Message::Info(body)),
            Due::Request(by, tag) => self.fail_request(by, tag, CallError::Timeout),
            Due::Idle(pid, serial) => {
                let Some(actor) = self.actors.get_mut(&pid) else {
                    return;
                };
                if actor.idle == Some(serial) && actor.mailbox.is_empty() {
                    actor.idle = None;
                    self.push(pid, Message::Timeout);
                }
            }
            Due::Lock(pid, tag) => {
                let mut holder = None;
                for lock in self.locks.values_mut() {
                    let before = lock.waiting.len();
                    lock.waiting.retain(|(_, _, waiting)| *waiting != tag);
                    if lock.waiting.len() < before {
                        holder = lock.holders.first().copied();
                    }
                }
                if let Some(holder) = holder {
                    let refused = Err(RegisterError::Taken(holder));
                    self.push(pid, Message::Registered((tag, refused)));
                }
            }
        }
    }

    pub(super) fn fail_request(&mut self, by: Pid, tag: Ref, why: CallError) {
        self.respond(by, tag, Err(why));
    }

    pub(super) fn respond(&mut self, to: Pid, tag: Ref, result: Result<Vec<u8>, CallError>) {
        let Some(asker) = self.actors.get_mut(&to) else {
            return;
        };
        if asker.pending.remove(&tag).is_some() {
            self.push(to, Message::Response((tag, result)));
        }
    }

    pub(super) fn exit_signal(&mut self, to: Pid, from: Pid, reason: ExitReason, link: bool) {
        let Some(actor) = self.actors.get_mut(&to) else {
            return;
        };
        if link && !actor.links.remove(&from) {
            return;
        }
        let ending = if !link && reason == ExitReason::Kill {
            ExitReason::Killed
        } else if actor.trap_exit {
            return self.push(to, Message::Exit((from, reason)));
        } else if reason != ExitReason::Normal || (!link && from == to) {
            reason
        } else {
            return;
        };
        if actor.running {
            // It ends when its turn does.
            actor.ending.get_or_insert(ending);
        } else {
            self.end(to, ending);
        }
    }

    /// Makes an actor; its `init` runs later.
    pub(super) fn spawn(
        &mut self,
        node: u64,
        module: &str,
        args: &[u8],
        options: &SpawnOptions,
        parent: Option<(Pid, Ref)>,
    ) -> Result<Pid, SpawnError> {
        if !self.modules.contains_key(module) {
            return Err(SpawnError::NoSuchModule(module.into()));
        }
        let serial = self.serial();
        let pid = Pid { node, serial };
        let Some(home) = self.node(node) else {
            return Err(SpawnError::Noconnection);
        };
        if let Some(name) = &options.name {
            if let Some(holder) = home.names.get(name) {
                return Err(SpawnError::NameTaken(*holder));
            }
            home.names.insert(name.clone(), pid);
        }
        let of_parent = parent.and_then(|(parent, _)| self.actors.get(&parent));
        let inherited = of_parent.and_then(|parent| parent.group_leader);
        let flags = options.flags;
        let awaits = flags.contains(SpawnFlags::AWAIT_INIT);
        let mut actor = Actor {
            mailbox: VecDeque::new(),
            trap_exit: false,
            links: BTreeSet::new(),
            watchers: Vec::new(),
            monitors: BTreeMap::new(),
            pending: BTreeMap::new(),
            open: Vec::new(),
            starter: None,
            claims: options.global.clone(),
            start: Some(Start::Fresh(args.into())),
            module: module.into(),
            parent: parent.map(|(parent, _)| parent),
            group_leader: options.group_leader.or(inherited),
            aliases: Vec::new(),
            body: None,
            running: false,
            queued: false,
            ending: None,
            idle: None,
            node_events: false,
            node_monitors: Vec::new(),
        };
        if let Some((parent, tag)) = parent {
            if flags.contains(SpawnFlags::LINK) {
                actor.links.insert(parent);
            }
            if awaits {
                actor.starter = Some((parent, tag, flags));
            }
        }
        self.actors.insert(pid, actor);
        if let (Some((parent, tag)), false) = (parent, awaits) {
            self.attach(parent, pid, tag, flags);
        }
        self.wake(pid);
        Ok(pid)
    }

    /// The parent's side of a spawn's link and monitor.
    fn attach(&mut self, parent: Pid, child: Pid, tag: Ref, flags: SpawnFlags) {
        let Some(actor) = self.actors.get_mut(&parent) else {
            return;
        };
        if flags.contains(SpawnFlags::LINK) {
            actor.links.insert(child);
        }
        if flags.contains(SpawnFlags::MONITOR) {
            actor.monitors.insert(tag, child);
            if let Some(child) = self.actors.get_mut(&child) {
                child.watchers.push((tag, parent));
            }
        }
    }

    /// What the end of a turn says.
    pub(super) fn settle(&mut self, pid: Pid, outcome: Outcome) {
        let Some(actor) = self.actors.get_mut(&pid) else {
            return;
        };
        actor.running = false;
        if let Some(reason) = actor.ending.take() {
            return self.end(pid, reason);
        }
        if outcome == Outcome::Starting {
            return;
        }
        if let Outcome::Stop(reason) = outcome {
            return self.end(pid, reason);
        }
        if let Some((parent, tag, flags)) = actor.starter.take() {
            self.attach(parent, pid, tag, flags);
            self.push(parent, Message::Spawned((tag, Ok(pid))));
        }
        let idle = match outcome {
            Outcome::WaitFor(ms) => {
                let serial = self.serial();
                let when = self.now + u64::from(ms) * 1_000_000;
                self.timers.insert((when, serial), Due::Idle(pid, serial));
                Some(serial)
            }
            _ => None,
        };
        if let Some(actor) = self.actors.get_mut(&pid) {
            actor.idle = idle;
        }
    }

    /// An actor's end, as everybody sees it.
    pub(super) fn end(&mut self, pid: Pid, reason: ExitReason) {
        let Some(actor) = self.actors.remove(&pid) else {
            return;
        };
        self.ended.insert(pid, reason.clone());
        // A real actor's memory is dropped whole: no destructor runs.
        std::mem::forget(actor.body);
        if let Some(home) = self.node(pid.node) {
            home.names.retain(|_, holder| *holder != pid);
        }
        self.globals.retain(|_, holder| *holder != pid);
        self.group_monitors.retain(|(_, by, _, _)| *by != pid);
        let memberships: Vec<(String, String)> = self.groups.keys().cloned().collect();
        for (scope, group) in memberships {
            while self.leave_group(&scope, &group, pid) {}
        }
        self.release_locks(pid, None);
        if let Some((parent, tag, _)) = actor.starter {
            let failed = Err(SpawnError::InitFailed(reason.clone()));
            self.push(parent, Message::Spawned((tag, failed)));
        }
        let unread = actor.mailbox.iter().filter_map(|message| match message {
            Message::Request((from, _)) => Some(*from),
            _ => None,
        });
        for asked in actor.open.into_iter().chain(unread) {
            self.fail_request(asked.pid, asked.tag, CallError::Exit(reason.clone()));
        }
        for (tag, callee) in actor.pending {
            if let Some(callee) = self.actors.get_mut(&callee) {
                callee.open.retain(|open| open.tag != tag);
            }
        }
        for (tag, watched) in actor.monitors {
            if let Some(watched) = self.actors.get_mut(&watched) {
                watched.watchers.retain(|(of, _)| *of != tag);
            }
        }
        for (tag, watcher) in actor.watchers {
            self.down(watcher, tag, pid, reason.clone());
        }
        for linked in actor.links {
            self.exit_signal(linked, pid, reason.clone(), true);
        }
    }

    fn down(&mut self, to: Pid, tag: Ref, pid: Pid, reason: ExitReason) {
        let Some(watcher) = self.actors.get_mut(&to) else {
            return;
        };
        if watcher.monitors.remove(&tag).is_some() {
            self.push(to, Message::Down((tag, pid, reason)));
        }
    }

    /// A node's end: for all others, the connection to it went down.
    pub(super) fn node_down(&mut self, incarnation: u64) {
        let Some(node) = self.node(incarnation).filter(|node| node.up) else {
            return;
        };
        node.up = false;
        let name = node.name.clone();
        let mut lost: Vec<Pid> = self.actors.keys().copied().collect();
        lost.retain(|pid| pid.node == incarnation);
        lost.sort_unstable();
        // First, so that none of them hears of another's end.
        for pid in &lost {
            if let Some(actor) = self.actors.get_mut(pid) {
                actor.links.retain(|to| to.node != incarnation);
                actor.watchers.retain(|(_, by)| by.node != incarnation);
                // Not the reason that its `init` failed with.
                if let Some((parent, tag, _)) = actor.starter.take() {
                    let lost = Err(SpawnError::Noconnection);
                    self.push(parent, Message::Spawned((tag, lost)));
                }
            }
        }
        for pid in lost {
            self.end_of_node(pid);
        }
        let event = NodeEvent {
            node: name.clone(),
            kind: NodeKind::Visible,
            reason: "connection_closed: the node is down".into(),
        };
        let mut told: Vec<(Pid, usize)> = Vec::new();
        for (pid, actor) in &mut self.actors {
            let before = actor.node_monitors.len();
            actor.node_monitors.retain(|of| *of != name);
            let times = before - actor.node_monitors.len() + usize::from(actor.node_events);
            told.push((*pid, times));
        }
        told.sort_unstable();
        for (pid, times) in told {
            for _ in 0..times {
                self.push(pid, Message::NodeDown(event.clone()));
            }
        }
    }

    pub(super) fn node_up(&mut self, incarnation: u64) {
        let Some(node) = self.node(incarnation) else {
            return;
        };
        let event = NodeEvent {
            node: node.name.clone(),
            kind: NodeKind::Visible,
            reason: String::new(),
        };
        let told = self.actors.iter().filter(|(_, actor)| actor.node_events);
        let mut told: Vec<Pid> = told.map(|(pid, _)| *pid).collect();
        told.sort_unstable();
        for pid in told {
            self.push(pid, Message::NodeUp(event.clone()));
        }
    }

    fn end_of_node(&mut self, pid: Pid) {
        // Callers hear `noconnection`, not `exit`.
        let Some(actor) = self.actors.get_mut(&pid) else {
            return;
        };
        let mut open = std::mem::take(&mut actor.open);
        open.extend(actor.mailbox.drain(..).filter_map(|message| match message {
            Message::Request((from, _)) => Some(from),
            _ => None,
        }));
        for asked in open {
            self.fail_request(asked.pid, asked.tag, CallError::Noconnection);
        }
        self.end(pid, ExitReason::Noconnection);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for (_, actor) in self.actors.drain() {
            // As at an actor's end.
            std::mem::forget(actor.body);
        }
    }
}

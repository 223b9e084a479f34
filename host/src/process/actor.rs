//! One process as it sees itself: mailbox, links, monitors, pending requests.
//!
//! A state machine: signals go in, messages for the guest come out, and what has to be told
//! to others is returned. The worker that runs the process is the only one that changes it.
//! It reads no clock and knows no threads: the simulator in `tests` compiles this very file.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use wasm_node_protocol::groups::GroupEvent;
use wasm_node_protocol::{
    Aliased, CallError, ExitReason, Incarnation, NodeEvent, OutputKind, Pid, Ref, RegisterError,
    Signal, SpawnError,
};

use super::Step;
use super::handle::{Incoming, Process};

/// A message as the guest gets it. The cases are those of `types.wit`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "types.wit says what each case means")]
pub enum Message {
    Info(Bytes),
    Cast(Bytes),
    Request {
        from: Pid,
        tag: Ref,
        body: Bytes,
    },
    Response {
        tag: Ref,
        result: Result<Bytes, CallError>,
    },
    Down {
        tag: Ref,
        pid: Pid,
        reason: ExitReason,
    },
    Exit {
        from: Pid,
        reason: ExitReason,
    },
    Timer {
        tag: Ref,
    },
    Timeout,
    Spawned {
        tag: Ref,
        result: Result<Pid, SpawnError>,
    },
    Registered {
        tag: Ref,
        result: Result<(), RegisterError>,
    },
    Connected {
        tag: Ref,
        result: Result<String, String>,
    },
    NameConflict {
        name: String,
        holder: Pid,
    },
    NodeUp(NodeEvent),
    NodeDown(NodeEvent),
    Group {
        tag: Ref,
        event: GroupEvent,
    },
    Output {
        from: Pid,
        kind: OutputKind,
        text: Bytes,
    },
    InputRequest {
        from: Pid,
        tag: Ref,
        /// For hosts; guests are not told.
        timeout_ms: Option<u32>,
    },
}

impl Message {
    /// The ref that this message answers, if it answers one.
    pub fn answers(&self) -> Option<Ref> {
        match self {
            Self::Response { tag, .. }
            | Self::Down { tag, .. }
            | Self::Timer { tag }
            | Self::Spawned { tag, .. }
            | Self::Registered { tag, .. }
            | Self::Connected { tag, .. } => Some(*tag),
            _ => None,
        }
    }
}

/// A request of this actor that waits for its response.
#[derive(Debug)]
struct Pending {
    tag: Ref,
    /// The node that it went to.
    node: Incarnation,
    deadline: Option<Instant>,
}

/// A spawn that this actor asked for and has not heard of yet.
#[derive(Debug)]
struct Spawning {
    node: Incarnation,
    /// Known at once on this node only.
    child: Option<Pid>,
    link: bool,
    monitor: bool,
}

#[derive(Debug)]
struct Watched {
    node: Incarnation,
    /// Unknown if monitored by name on another node.
    pid: Option<Pid>,
    /// The name, if so.
    name: Option<String>,
}

/// What makes an alias inactive, besides `unalias`: the modes of `erlang:alias/1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AliasMode {
    /// Nothing.
    Explicit,
    /// The first message that comes by it.
    Reply,
}

/// Whoever waits for this actor to have finished its `init`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Starter {
    pub(super) parent: Pid,
    pub(super) tag: Ref,
}

/// What of an actor is only seen between two of its turns, or in one of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vitals {
    /// Messages that it took in and did not take yet.
    pub mailbox: usize,
    /// Its links.
    pub links: usize,
    /// Those whom it monitors.
    pub monitors: usize,
    /// Monitors of it.
    pub monitored_by: usize,
    /// Requests that it waits for.
    pub pending: usize,
    /// Where its text goes.
    pub group_leader: Pid,
    /// Whether exit signals become messages.
    pub traps_exits: bool,
    /// Messages that its code took.
    pub messages_in: u64,
    /// Messages that it sent, answers included.
    pub messages_out: u64,
}

/// The state of a process as an actor.
pub struct Actor {
    pid: Pid,
    mailbox: VecDeque<Message>,
    spare: VecDeque<Incoming>,
    trap_exit: bool,
    links: HashSet<Pid>,
    /// Links that it removed and whose other ends may not know yet: what comes from there counts
    /// for nothing until they have answered this removal.
    unlinking: HashMap<Pid, u64>,
    unlinks: u64,
    aliases: Vec<(Ref, AliasMode)>,
    /// What others have to hear of what was taken in, in order.
    answers: Vec<(Pid, Signal)>,
    /// Messages that its code took, and that it sent, answers to requests included.
    messages_in: u64,
    messages_out: u64,
    /// Those who monitor this actor.
    watchers: Vec<(Ref, Pid)>,
    monitors: HashMap<Ref, Watched>,
    pending: Vec<Pending>,
    spawning: HashMap<Ref, Spawning>,
    /// Requests that this actor took and did not answer yet.
    open: Vec<(Pid, Ref)>,
    /// Whom it sent to last: most actors send to the same one again and again.
    route: Option<Arc<Process>>,
    /// Its monitors of groups; most actors have none.
    group_monitors: BTreeSet<Ref>,
    /// Where its text goes.
    group_leader: Pid,
    /// Those of its requests that are for lines of input, and whom they went to.
    reading: Vec<(Ref, Pid)>,
    pub(super) starter: Option<Starter>,
    /// When a `wait-for` ends, and the earliest moment at which a wake-up is set.
    idle_deadline: Option<Instant>,
    armed: Option<Instant>,
    /// Why it has to end, once a signal said so.
    ending: Option<ExitReason>,
}

impl Actor {
    pub(super) fn new(pid: Pid, starter: Option<Starter>) -> Self {
        Self {
            pid,
            mailbox: VecDeque::new(),
            spare: VecDeque::new(),
            trap_exit: false,
            links: HashSet::new(),
            unlinking: HashMap::new(),
            unlinks: 0,
            aliases: Vec::new(),
            answers: Vec::new(),
            messages_in: 0,
            messages_out: 0,
            watchers: Vec::new(),
            monitors: HashMap::new(),
            pending: Vec::new(),
            spawning: HashMap::new(),
            open: Vec::new(),
            route: None,
            group_monitors: BTreeSet::new(),
            group_leader: Pid::user(pid.node),
            reading: Vec::new(),
            starter,
            idle_deadline: None,
            armed: None,
            ending: None,
        }
    }

    /// Takes in what came, in order.
    pub(super) fn accept(&mut self, drain: impl FnOnce(&mut VecDeque<Incoming>)) {
        let mut incoming = std::mem::take(&mut self.spare);
        drain(&mut incoming);
        for each in incoming.drain(..) {
            match each {
                Incoming::Signal(signal) => self.take(signal),
                Incoming::NodeDown(node) => self.node_down(node),
            }
        }
        // One burst must not keep its memory for ever.
        if incoming.capacity() <= 1024 {
            self.spare = incoming;
        }
        if self.mailbox.is_empty() && self.mailbox.capacity() > 1024 {
            self.mailbox.shrink_to(64);
        }
    }

    fn take(&mut self, signal: Signal) {
        match signal {
            Signal::Info(body) => self.mailbox.push_back(Message::Info(body)),
            Signal::Cast(body) => self.mailbox.push_back(Message::Cast(body)),
            Signal::Request { from, tag, body } => {
                self.mailbox.push_back(Message::Request { from, tag, body });
            }
            Signal::Response { tag, result } => {
                if let Some(at) = self.pending.iter().position(|p| p.tag == tag) {
                    self.pending.swap_remove(at);
                    self.reading.retain(|(read, _)| *read != tag);
                    self.mailbox.push_back(Message::Response { tag, result });
                }
            }
            Signal::Forget { tag } => {
                self.open.retain(|(_, open)| *open != tag);
                self.mailbox
                    .retain(|m| !matches!(m, Message::InputRequest { tag: t, .. } if *t == tag));
            }
            // That end linked before it knew that this one has unlinked, which undoes it.
            Signal::Link { from } if self.unlinking.contains_key(&from) => {}
            Signal::Link { from } => {
                self.links.insert(from);
            }
            Signal::Unlink { from, id } => {
                self.links.remove(&from);
                let ack = Signal::UnlinkAck { from: self.pid, id };
                self.answers.push((from, ack));
            }
            Signal::UnlinkAck { from, id } => {
                if self.unlinking.get(&from) == Some(&id) {
                    self.unlinking.remove(&from);
                }
            }
            Signal::Alias { alias, message } => self.aliased(alias, *message),
            Signal::Monitor { from, tag } => self.watchers.push((tag, from)),
            Signal::Demonitor { tag } => self.watchers.retain(|(watch, _)| *watch != tag),
            Signal::Down { tag, pid, reason } => {
                if self.monitors.remove(&tag).is_some() {
                    self.mailbox.push_back(Message::Down { tag, pid, reason });
                }
            }
            Signal::Exit { from, reason, link } => self.exit_signal(from, reason, link),
            Signal::Spawned { tag, result } => self.spawned(tag, result),
            Signal::Timer { tag } => {
                self.mailbox.push_back(Message::Timer { tag });
            }
            Signal::Registered { tag, result } => {
                self.mailbox.push_back(Message::Registered { tag, result });
            }
            Signal::Connected { tag, result } => {
                self.mailbox.push_back(Message::Connected { tag, result });
            }
            Signal::NameConflict { name, holder } => {
                self.mailbox
                    .push_back(Message::NameConflict { name, holder });
            }
            Signal::NodeUp(event) => self.mailbox.push_back(Message::NodeUp(event)),
            Signal::NodeDown(event) => self.mailbox.push_back(Message::NodeDown(event)),
            Signal::Group { tag, event } => {
                if self.group_monitors.contains(&tag) {
                    self.mailbox.push_back(Message::Group { tag, event });
                }
            }
            Signal::Output { from, kind, text } => {
                self.mailbox.push_back(Message::Output { from, kind, text });
            }
            Signal::InputRequest {
                from,
                tag,
                timeout_ms,
            } => self.mailbox.push_back(Message::InputRequest {
                from,
                tag,
                timeout_ms,
            }),
            Signal::GroupLeader { leader, .. } => self.group_leader = leader,
        }
    }

    /// A message by an alias: as any other while that is active.
    fn aliased(&mut self, alias: Ref, message: Aliased) {
        let found = self.aliases.iter().position(|(active, _)| *active == alias);
        match (found, message) {
            (Some(at), message) => {
                if self.aliases[at].1 == AliasMode::Reply {
                    self.aliases.swap_remove(at);
                }
                self.take(message.signal());
            }
            (None, Aliased::Request { from, tag, .. }) => {
                let result = Err(CallError::NoProc);
                self.answers.push((from, Signal::Response { tag, result }));
            }
            (None, Aliased::Info(_) | Aliased::Cast(_)) => {}
        }
    }

    /// Erlang's rules for exit signals ("Processes", Reference Manual).
    fn exit_signal(&mut self, from: Pid, reason: ExitReason, link: bool) {
        if link && !self.links.remove(&from) {
            return;
        }
        if !link && reason == ExitReason::Kill {
            self.ending.get_or_insert(ExitReason::Killed);
        } else if self.trap_exit {
            self.mailbox.push_back(Message::Exit { from, reason });
        } else if reason != ExitReason::Normal || (!link && from == self.pid) {
            self.ending.get_or_insert(reason);
        }
    }

    fn spawned(&mut self, tag: Ref, result: Result<Pid, SpawnError>) {
        let Some(spawning) = self.spawning.remove(&tag) else {
            // It was told that there is none, and would never hear of one that comes too late.
            if let Ok(child) = result {
                let exit = Signal::Exit {
                    from: self.pid,
                    reason: ExitReason::Kill,
                    link: false,
                };
                self.answers.push((child, exit));
            }
            return;
        };
        if let Ok(child) = result {
            if spawning.link {
                self.links.insert(child);
            }
            if spawning.monitor {
                self.monitors.insert(
                    tag,
                    Watched {
                        node: child.node,
                        pid: Some(child),
                        name: None,
                    },
                );
            }
        }
        self.mailbox.push_back(Message::Spawned { tag, result });
    }

    fn node_down(&mut self, node: Incarnation) {
        self.watchers.retain(|(_, watcher)| watcher.node != node);
        self.unlinking.retain(|other, _| other.node != node);
        self.open.retain(|(asker, _)| asker.node != node);
        let links: Vec<Pid> = self
            .links
            .iter()
            .copied()
            .filter(|pid| pid.node == node)
            .collect();
        for pid in links {
            self.exit_signal(pid, ExitReason::NoConnection, true);
        }
        let lost = |watched: &Watched| watched.node == node;
        let tags: Vec<Ref> = self
            .monitors
            .iter()
            .filter(|(_, w)| lost(w))
            .map(|(tag, _)| *tag)
            .collect();
        for tag in tags {
            let watched = self.monitors.remove(&tag);
            let pid = watched
                .and_then(|w| w.pid)
                .unwrap_or(Pid { node, serial: 0 });
            self.mailbox.push_back(Message::Down {
                tag,
                pid,
                reason: ExitReason::NoConnection,
            });
        }
        let mailbox = &mut self.mailbox;
        self.pending.retain(|pending| {
            if pending.node == node {
                let result = Err(CallError::NoConnection);
                mailbox.push_back(Message::Response {
                    tag: pending.tag,
                    result,
                });
            }
            pending.node != node
        });
        self.stop_reading();
        let tags: Vec<Ref> = self
            .spawning
            .iter()
            .filter(|(_, s)| s.node == node)
            .map(|(tag, _)| *tag)
            .collect();
        for tag in tags {
            self.spawned(tag, Err(SpawnError::NoConnection));
        }
    }

    /// The next message for the guest, from what was accepted.
    pub(super) fn next(&mut self) -> Option<Message> {
        let message = self.mailbox.pop_front()?;
        self.note_taken(&message);
        Some(message)
    }

    /// The message that answers `tag`, out of turn.
    pub(super) fn next_answering(&mut self, tag: Ref) -> Option<Message> {
        let at = self
            .mailbox
            .iter()
            .position(|message| message.answers() == Some(tag))?;
        self.messages_in += 1;
        self.mailbox.remove(at)
    }

    fn note_taken(&mut self, message: &Message) {
        self.messages_in += 1;
        if let Message::Request { from, tag, .. } | Message::InputRequest { from, tag, .. } =
            message
        {
            self.open.push((*from, *tag));
        }
    }

    /// The process with that pid: the one that was asked for last, or as `find` finds it.
    pub(super) fn route(
        &mut self,
        to: Pid,
        find: impl FnOnce() -> Option<Arc<Process>>,
    ) -> Option<&Arc<Process>> {
        if self.route.as_ref().is_none_or(|process| process.pid != to) {
            self.route = Some(find()?);
        }
        self.route.as_ref()
    }

    /// The route leads to an actor that has ended.
    pub(super) fn forget_route(&mut self) {
        self.route = None;
    }

    pub(super) fn mailbox_len(&self) -> usize {
        self.mailbox.len()
    }

    /// Where its text goes.
    pub fn group_leader(&self) -> Pid {
        self.group_leader
    }

    /// Gives it another group leader.
    pub fn set_group_leader(&mut self, leader: Pid) {
        self.group_leader = leader;
    }

    pub(super) fn vitals(&self) -> Vitals {
        Vitals {
            mailbox: self.mailbox.len(),
            links: self.links.len(),
            monitors: self.monitors.len(),
            monitored_by: self.watchers.len(),
            pending: self.pending.len(),
            group_leader: self.group_leader,
            traps_exits: self.trap_exit,
            messages_in: self.messages_in,
            messages_out: self.messages_out,
        }
    }

    pub(super) fn ending(&mut self) -> Option<ExitReason> {
        self.ending.take()
    }

    /// Whether exit signals become messages; gives what was set before.
    pub fn set_trap_exit(&mut self, on: bool) -> bool {
        std::mem::replace(&mut self.trap_exit, on)
    }

    /// Whether the other end has to be told.
    pub(super) fn add_link(&mut self, to: Pid) -> bool {
        // The new link is another one than that whose removal was not answered yet.
        self.unlinking.remove(&to);
        self.links.insert(to)
    }

    /// What the other end has to be told, if there was a link.
    pub(super) fn remove_link(&mut self, to: Pid) -> Option<Signal> {
        if !self.links.remove(&to) {
            return None;
        }
        self.unlinks += 1;
        self.unlinking.insert(to, self.unlinks);
        let (from, id) = (self.pid, self.unlinks);
        Some(Signal::Unlink { from, id })
    }

    /// Whether the other end may not know yet that this one has removed the link.
    pub fn is_unlinking(&self, other: Pid) -> bool {
        self.unlinking.contains_key(&other)
    }

    /// The other end is out of reach, and will not answer the removal of the link.
    pub(super) fn forget_unlink(&mut self, to: Pid) {
        self.unlinking.remove(&to);
    }

    /// What others have to hear of what was taken in.
    pub(super) fn take_answers(&mut self) -> Vec<(Pid, Signal)> {
        std::mem::take(&mut self.answers)
    }

    pub(super) fn add_alias(&mut self, alias: Ref, mode: AliasMode) {
        self.aliases.push((alias, mode));
    }

    pub(super) fn aliases(&self) -> usize {
        self.aliases.len()
    }

    /// Whether it was active.
    pub(super) fn remove_alias(&mut self, alias: Ref) -> bool {
        let found = self.aliases.iter().position(|(active, _)| *active == alias);
        found.map(|at| self.aliases.swap_remove(at)).is_some()
    }

    /// Whom it is linked to, whom it monitors, who monitors it.
    pub(super) fn relations(&self) -> (Vec<Pid>, Vec<Pid>, Vec<Pid>) {
        (
            self.links.iter().copied().collect(),
            self.monitors
                .values()
                .filter_map(|watched| watched.pid)
                .collect(),
            self.watchers.iter().map(|(_, watcher)| *watcher).collect(),
        )
    }

    /// It sends a message.
    pub(super) fn note_sent(&mut self) {
        self.messages_out += 1;
    }

    pub(super) fn add_watcher(&mut self, tag: Ref, from: Pid) {
        self.watchers.push((tag, from));
    }

    pub(super) fn add_monitor(&mut self, tag: Ref, node: Incarnation, pid: Option<Pid>) {
        let name = None;
        self.monitors.insert(tag, Watched { node, pid, name });
    }

    /// As `add_monitor`, of whoever has a name on another node.
    pub(super) fn add_monitor_by_name(&mut self, tag: Ref, node: Incarnation, name: &str) {
        let (pid, name) = (None, Some(name.to_owned()));
        self.monitors.insert(tag, Watched { node, pid, name });
    }

    /// The monitors by name that still stand, of this ref or of any: whom to tell when they end.
    pub(super) fn monitored_by_name(&self, of: Option<Ref>) -> Vec<(Incarnation, String, Ref)> {
        let asked = self
            .monitors
            .iter()
            .filter(|(tag, _)| of.is_none_or(|of| of == **tag));
        asked
            .filter_map(|(tag, watched)| Some((watched.node, watched.name.clone()?, *tag)))
            .collect()
    }

    /// Ends a monitor, and takes back its message if that waits already. Gives the node and
    /// pid to tell, if there is still anybody to tell.
    pub(super) fn remove_monitor(&mut self, tag: Ref) -> Option<(Incarnation, Option<Pid>)> {
        self.mailbox
            .retain(|m| !matches!(m, Message::Down { tag: down, .. } if *down == tag));
        self.monitors
            .remove(&tag)
            .map(|watched| (watched.node, watched.pid))
    }

    pub(super) fn add_group_monitor(&mut self, tag: Ref) {
        self.group_monitors.insert(tag);
    }

    /// Ends a monitor of groups, and takes back its messages; whether there was one.
    pub(super) fn remove_group_monitor(&mut self, tag: Ref) -> bool {
        let was = self.group_monitors.remove(&tag);
        if was {
            self.mailbox
                .retain(|m| !matches!(m, Message::Group { tag: of, .. } if *of == tag));
        }
        was
    }

    pub(super) fn add_pending(&mut self, tag: Ref, node: Incarnation, deadline: Option<Instant>) {
        self.pending.push(Pending {
            tag,
            node,
            deadline,
        });
    }

    /// Notes that a request is for a line of input, and whom it goes to.
    pub(super) fn add_reading(&mut self, tag: Ref, leader: Pid) {
        self.reading.push((tag, leader));
    }

    /// Requests for lines that nobody waits for any more are none.
    fn stop_reading(&mut self) {
        if !self.reading.is_empty() {
            let pending = &self.pending;
            self.reading
                .retain(|(tag, _)| pending.iter().any(|pending| pending.tag == *tag));
        }
    }

    /// Gives up a request, and takes back its response if that waits already. Gives whom to tell
    /// that a line of input is not wanted any more.
    pub(super) fn forget(&mut self, tag: Ref) -> Option<Pid> {
        self.mailbox
            .retain(|m| !matches!(m, Message::Response { tag: t, .. } if *t == tag));
        let at = self.pending.iter().position(|pending| pending.tag == tag)?;
        self.pending.swap_remove(at);
        let at = self.reading.iter().position(|(read, _)| *read == tag)?;
        Some(self.reading.swap_remove(at).1)
    }

    /// This actor answers a request that it took.
    pub(super) fn answered(&mut self, tag: Ref) {
        if let Some(at) = self.open.iter().position(|(_, open)| *open == tag) {
            self.open.swap_remove(at);
        }
    }

    /// Whether somebody still waits for the answer to this request, which it took.
    pub fn owes(&self, tag: Ref) -> bool {
        self.open.iter().any(|(_, open)| *open == tag)
    }

    pub(super) fn add_spawning(
        &mut self,
        tag: Ref,
        node: Incarnation,
        child: Option<Pid>,
        link: bool,
        monitor: bool,
    ) {
        self.spawning.insert(
            tag,
            Spawning {
                node,
                child,
                link,
                monitor,
            },
        );
    }

    /// Takes back the message of a timer that fired before it could be cancelled.
    pub(super) fn forget_timer(&mut self, tag: Ref) {
        self.mailbox
            .retain(|m| !matches!(m, Message::Timer { tag: t } if *t == tag));
    }

    /// Turns what is overdue into messages. Asks what time it is only if something may be.
    pub(super) fn expire(&mut self, clock: impl FnOnce() -> Instant) {
        let Some(armed) = self.armed else { return };
        let now = clock();
        if now < armed {
            return;
        }
        self.armed = None;
        let overdue = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= now);
        let mailbox = &mut self.mailbox;
        self.pending.retain(|pending| {
            let late = overdue(pending.deadline);
            if late {
                let result = Err(CallError::Timeout);
                mailbox.push_back(Message::Response {
                    tag: pending.tag,
                    result,
                });
            }
            !late
        });
        self.stop_reading();
        if overdue(self.idle_deadline) {
            self.idle_deadline = None;
            if self.mailbox.is_empty() {
                self.mailbox.push_back(Message::Timeout);
            }
        }
    }

    /// A turn has ended: what it waits for.
    pub(super) fn settle(&mut self, step: &Step, clock: impl FnOnce() -> Instant) {
        self.idle_deadline = match step {
            Step::WaitFor(ms) => Some(clock() + Duration::from_millis(u64::from(*ms))),
            _ => None,
        };
    }

    /// When the process has to be woken at the latest, if that is earlier than what is set;
    /// counts as set from now on.
    pub(super) fn arm(&mut self) -> Option<Instant> {
        let deadlines = self.pending.iter().filter_map(|pending| pending.deadline);
        let next = deadlines.chain(self.idle_deadline).min()?;
        if self.armed.is_none_or(|armed| next < armed) {
            self.armed = Some(next);
            return Some(next);
        }
        None
    }

    /// The process waits in the middle of a turn until then at the latest.
    pub(super) fn arm_for(&mut self, at: Instant) -> bool {
        let earlier = self.armed.is_none_or(|armed| at < armed);
        if earlier {
            self.armed = Some(at);
        }
        earlier
    }

    /// The process has ended: what others have to hear, in order.
    pub(super) fn farewell(&mut self, reason: &ExitReason) -> Vec<(Pid, Signal)> {
        let mut signals = self.take_answers();
        self.route = None;
        let died = CallError::Exit(reason.clone());
        let answer = |asker, tag| {
            let result = Err(died.clone());
            (asker, Signal::Response { tag, result })
        };
        signals.extend(self.open.drain(..).map(|(asker, tag)| answer(asker, tag)));
        for message in std::mem::take(&mut self.mailbox) {
            match message {
                Message::Request { from, tag, .. } => signals.push(answer(from, tag)),
                // What a group leader leaves behind goes where text goes that finds none.
                Message::Output { from, kind, text } => {
                    let output = Signal::Output { from, kind, text };
                    signals.push((Pid::user(from.node), output));
                }
                Message::InputRequest {
                    from,
                    tag,
                    timeout_ms,
                } => {
                    let asks = Signal::InputRequest {
                        from,
                        tag,
                        timeout_ms,
                    };
                    signals.push((Pid::user(from.node), asks));
                }
                _ => {}
            }
        }
        // Its leader's node may have passed such a request on to this one.
        let own = Pid::user(self.pid.node);
        for (tag, leader) in self.reading.drain(..) {
            signals.push((leader, Signal::Forget { tag }));
            if leader != own {
                signals.push((own, Signal::Forget { tag }));
            }
        }
        // Whoever answers its own requests from now on finds no such process.
        self.pending.clear();
        let exit = Signal::Exit {
            from: self.pid,
            reason: reason.clone(),
            link: true,
        };
        for linked in self.links.drain() {
            signals.push((linked, exit.clone()));
        }
        for spawning in self.spawning.drain().map(|(_, spawning)| spawning) {
            if let Some(child) = spawning.child.filter(|_| spawning.link) {
                signals.push((child, exit.clone()));
            }
        }
        for (tag, watcher) in self.watchers.drain(..) {
            let down = Signal::Down {
                tag,
                pid: self.pid,
                reason: reason.clone(),
            };
            signals.push((watcher, down));
        }
        for (tag, watched) in self.monitors.drain() {
            if let Some(pid) = watched.pid {
                signals.push((pid, Signal::Demonitor { tag }));
            }
        }
        signals
    }
}

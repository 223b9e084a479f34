//! The processes of one simulated node.
//!
//! Owns the table of processes, their inboxes and what they do with messages. What an actor
//! *is* (mailbox, links, monitors, pending requests) is the host's own state machine, compiled
//! from its source; what is written anew here is what `process::Runtime` does around it with
//! threads: finding the receiver, bouncing what finds nobody, telling of a node that is down,
//! running what has something in its inbox, some time later.
//!
//! Contract: as the host's: signals between two actors keep their order, and whatever asks
//! for an answer gets one. Does not know links: [`Io`] does.

/// The host's actor, from its source: it needs neither wasm nor threads.
#[path = "../../../../host/src/process/actor.rs"]
#[allow(dead_code, unfulfilled_lint_expectations, unreachable_pub)]
mod actor;
pub mod body;
mod handle;
mod life;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use actor::Actor;
pub use actor::Message;
use handle::Incoming;
use wasm_node_protocol::{ExitReason, Incarnation, Millis, Pid, Ref, Signal};

use super::Mistakes;
use super::network::ConnId;
use super::rng::Rng;

/// How a turn ends: what the actor's machine wants to know of it.
#[derive(Debug)]
#[allow(dead_code, reason = "simulated actors wait for messages alone")]
enum Step {
    Wait,
    WaitFor(u32),
}

/// How long a message waits in an inbox until its actor runs, at most, in microseconds.
const RUN_WITHIN_US: u64 = 2_000;

/// The longest that an actor takes for an answer that it does not give at once, in microseconds.
const ANSWER_WITHIN_US: u64 = 2_500_000;

/// How sending to another node went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// On its way.
    Ok,
    /// On its way, but the sender should pause.
    Congested,
    /// That node is not connected.
    NoConnection,
}

/// What processes ask of their node.
pub trait Io {
    /// Sends to an actor of another node.
    fn send(&mut self, to: Pid, signal: &Signal) -> Sent;
    /// The connection to that run of a node.
    fn conn_to(&self, node: Incarnation) -> Option<ConnId>;
    /// Calls back so many microseconds later.
    fn later(&mut self, after_us: u64, step: ProcessStep);
    /// Something that is to be checked happened.
    fn tell(&mut self, fact: Fact);
}

/// What a process does later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProcessStep {
    /// It runs.
    Run(Pid),
    /// It answers a request that it took.
    Answer {
        /// Who.
        by: Pid,
        /// Whom.
        asker: Pid,
        /// What.
        tag: Ref,
    },
}

/// What processes did, for the invariants.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A process began.
    Began(Pid),
    /// A process ended, before it told anybody.
    Ended(Pid, ExitReason),
    /// A message reached the code of an actor.
    Message {
        /// Whose.
        to: Pid,
        /// Which.
        message: Message,
    },
    /// `by` monitors `of`; whether its node was connected.
    Monitors {
        /// The watcher.
        by: Pid,
        /// The monitor.
        tag: Ref,
        /// The watched.
        of: Pid,
        /// Whether the signal could be sent.
        connected: bool,
    },
    /// A monitor was given up.
    Demonitors(Ref),
    /// `by` links itself to `to`.
    Links {
        /// Who asked for it.
        by: Pid,
        /// The other end.
        to: Pid,
        /// Whether the signal could be sent.
        connected: bool,
    },
    /// `by` removed its link to `to`.
    Unlinks {
        /// Who.
        by: Pid,
        /// From whom.
        to: Pid,
    },
    /// A link signal reached the inbox of a living actor.
    LinkArrived {
        /// Whose.
        at: Pid,
        /// The other end.
        from: Pid,
    },
    /// An unlink signal did.
    UnlinkArrived {
        /// Whose.
        at: Pid,
        /// The other end.
        from: Pid,
    },
    /// `by` asks `of` something.
    Asks {
        /// Who asks.
        by: Pid,
        /// Its request.
        tag: Ref,
        /// Whom.
        of: Pid,
        /// On its node's clock.
        deadline: Option<Millis>,
        /// Whether the signal could be sent.
        connected: bool,
    },
}

struct Process {
    actor: Actor,
    traps: bool,
    inbox: VecDeque<Incoming>,
    /// Whether it is to run.
    planned: bool,
    /// Whether it ever had anything to do with another node.
    remote: bool,
    /// The node that it may send nothing to until there is room.
    suspended: Option<Incarnation>,
    linked: BTreeSet<Pid>,
    monitors: Vec<Ref>,
}

/// The processes of one node.
pub struct Processes {
    node: Incarnation,
    mistakes: Mistakes,
    table: BTreeMap<u64, Process>,
    next_serial: u64,
    next_ref: u64,
    /// When actors want to be run at the latest.
    timers: BTreeSet<(Millis, u64)>,
    /// How many messages each pair has sent.
    numbers: BTreeMap<(Pid, Pid), u64>,
    /// Those that ended since the node last asked.
    gone: Vec<Pid>,
    rng: Rng,
}

/// The machines' clock: instants since the simulator began, of a node's own milliseconds.
fn instant(now: Millis) -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now) + Duration::from_millis(now.0)
}

fn millis(at: Instant) -> Millis {
    Millis((at - instant(Millis(0))).as_millis() as u64)
}

impl Processes {
    /// None yet.
    pub fn new(node: Incarnation, mistakes: Mistakes, seed: u64) -> Self {
        Self {
            node,
            mistakes,
            table: BTreeMap::new(),
            next_serial: 1,
            next_ref: 1,
            timers: BTreeSet::new(),
            numbers: BTreeMap::new(),
            gone: Vec::new(),
            rng: Rng::new(seed),
        }
    }

    /// Those alive, oldest first.
    pub fn pids(&self) -> impl Iterator<Item = Pid> {
        self.table.keys().map(|serial| self.pid(*serial))
    }

    /// Whether it is alive.
    pub fn is_alive(&self, pid: Pid) -> bool {
        pid.node == self.node && self.table.contains_key(&pid.serial)
    }

    /// Whether exit signals become messages for it.
    pub fn traps(&self, pid: Pid) -> bool {
        self.table
            .get(&pid.serial)
            .is_some_and(|process| process.traps)
    }

    /// To which node it may send nothing at the moment.
    pub fn suspended(&self, pid: Pid) -> Option<Incarnation> {
        self.table.get(&pid.serial)?.suspended
    }

    /// It may send again.
    pub fn resume(&mut self, pid: Pid) {
        if let Some(process) = self.table.get_mut(&pid.serial) {
            process.suspended = None;
        }
    }

    /// The monitors that it has, or had.
    pub fn monitors(&self, pid: Pid) -> &[Ref] {
        self.table
            .get(&pid.serial)
            .map_or(&[], |process| &process.monitors)
    }

    /// Whom it was ever linked to by its own wish.
    pub fn linked(&self, pid: Pid) -> impl Iterator<Item = Pid> {
        let process = self.table.get(&pid.serial);
        process
            .into_iter()
            .flat_map(|process| process.linked.iter().copied())
    }

    /// Those that ended since this was last asked.
    pub fn take_gone(&mut self) -> Vec<Pid> {
        std::mem::take(&mut self.gone)
    }

    /// When [`Self::wake`] is wanted at the latest.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn pid(&self, serial: u64) -> Pid {
        Pid {
            node: self.node,
            serial,
        }
    }

    fn make_ref(&mut self) -> Ref {
        self.next_ref += 1;
        Ref {
            node: self.node,
            serial: self.next_ref,
        }
    }

    /// A signal to anywhere, as `Runtime::signal`.
    fn signal(&mut self, io: &mut dyn Io, to: Pid, signal: Signal) -> Sent {
        if to.node != self.node {
            return io.send(to, &signal);
        }
        if self.table.contains_key(&to.serial) {
            self.push(io, to, Incoming::Signal(signal));
        } else {
            self.bounce(io, to, signal);
        }
        Sent::Ok
    }

    /// Another node must be able to tell it that it is down.
    fn is_remote(&mut self, pid: Pid) {
        if !self.mistakes.forget_remote
            && let Some(process) = self.table.get_mut(&pid.serial)
        {
            process.remote = true;
        }
    }

    /// A signal came from another node, as `Runtime::deliver`.
    pub fn deliver(&mut self, io: &mut dyn Io, to: Pid, signal: Signal) {
        self.is_remote(to);
        self.signal(io, to, signal);
    }

    /// The connection to that run of a node is down; nothing of it comes any more.
    pub fn node_down(&mut self, io: &mut dyn Io, node: Incarnation) {
        let remote = self.table.iter().filter(|(_, process)| process.remote);
        let remote: Vec<_> = remote.map(|(serial, _)| *serial).collect();
        for serial in remote {
            self.push(io, self.pid(serial), Incoming::NodeDown(node));
        }
    }

    /// A signal found nobody: tells whoever has to know.
    fn bounce(&mut self, io: &mut dyn Io, nobody: Pid, signal: Signal) {
        use wasm_node_protocol::CallError;
        let reason = ExitReason::NoProc;
        let (to, answer) = match signal {
            Signal::Request { from, tag, .. } => {
                let result = Err(CallError::NoProc);
                (from, Signal::Response { tag, result })
            }
            Signal::Monitor { from, tag } => {
                let pid = nobody;
                (from, Signal::Down { tag, pid, reason })
            }
            Signal::Link { from } => {
                let (to, from, link) = (from, nobody, true);
                (to, Signal::Exit { from, reason, link })
            }
            Signal::Unlink { from, id } => (from, Signal::UnlinkAck { from: nobody, id }),
            _ => return,
        };
        self.signal(io, to, answer);
    }

    fn push(&mut self, io: &mut dyn Io, to: Pid, incoming: Incoming) {
        match &incoming {
            Incoming::Signal(Signal::Link { from }) if !self.is_unlinking(to, *from) => {
                io.tell(Fact::LinkArrived {
                    at: to,
                    from: *from,
                });
            }
            Incoming::Signal(Signal::Unlink { from, .. }) => io.tell(Fact::UnlinkArrived {
                at: to,
                from: *from,
            }),
            _ => {}
        }
        if let Some(process) = self.table.get_mut(&to.serial) {
            process.inbox.push_back(incoming);
        }
        self.plan(io, to);
    }

    /// Whether it will take no notice of a link by that other one: see `Actor`'s `unlinking`.
    fn is_unlinking(&self, pid: Pid, other: Pid) -> bool {
        self.table.get(&pid.serial).is_some_and(|process| {
            let acked = process.inbox.iter().any(|incoming| {
                matches!(incoming, Incoming::Signal(Signal::UnlinkAck { from, .. }) if *from == other)
            });
            process.actor.is_unlinking(other) && !acked
        })
    }

    fn plan(&mut self, io: &mut dyn Io, pid: Pid) {
        if let Some(process) = self.table.get_mut(&pid.serial)
            && !std::mem::replace(&mut process.planned, true)
        {
            io.later(self.rng.below(RUN_WITHIN_US), ProcessStep::Run(pid));
        }
    }

    /// What was planned is due.
    pub fn step(&mut self, io: &mut dyn Io, now: Millis, step: ProcessStep) {
        match step {
            ProcessStep::Run(pid) => self.run(io, now, pid),
            ProcessStep::Answer { by, asker, tag } => self.answer(io, by, asker, tag),
        }
    }

    /// A deadline has passed.
    pub fn wake(&mut self, io: &mut dyn Io, now: Millis) {
        while let Some(&(at, serial)) = self.timers.first()
            && at <= now
        {
            self.timers.remove(&(at, serial));
            self.plan(io, self.pid(serial));
        }
    }

    /// A turn: takes in what came, and does something about it.
    fn run(&mut self, io: &mut dyn Io, now: Millis, pid: Pid) {
        let Some(process) = self.table.get_mut(&pid.serial) else {
            return;
        };
        process.planned = false;
        let inbox = &mut process.inbox;
        process.actor.accept(|queue| queue.append(inbox));
        process.actor.expire(|| instant(now));
        let answers = process.actor.take_answers();
        let ending = process.actor.ending();
        for (to, signal) in answers {
            self.signal(io, to, signal);
        }
        if let Some(reason) = ending {
            return self.finish(io, pid, reason);
        }
        let Some(process) = self.table.get_mut(&pid.serial) else {
            return;
        };
        let mut asked = Vec::new();
        while let Some(message) = process.actor.next() {
            if let Message::Request { from, tag, .. } = &message {
                asked.push((*from, *tag));
            }
            io.tell(Fact::Message { to: pid, message });
        }
        process.actor.settle(&Step::Wait, || instant(now));
        if let Some(at) = process.actor.arm().filter(|_| !self.mistakes.no_timers) {
            self.timers.insert((millis(at), pid.serial));
        }
        for (asker, tag) in asked {
            match tag.serial % 4 {
                0 | 1 => self.answer(io, pid, asker, tag),
                2 => io.later(
                    self.rng.below(ANSWER_WITHIN_US),
                    ProcessStep::Answer {
                        by: pid,
                        asker,
                        tag,
                    },
                ),
                _ => {}
            }
        }
    }

    fn answer(&mut self, io: &mut dyn Io, by: Pid, asker: Pid, tag: Ref) {
        if let Some(process) = self.table.get_mut(&by.serial) {
            process.actor.answered(tag);
            let result = Ok(bytes::Bytes::from_static(b"answer"));
            self.signal(io, asker, Signal::Response { tag, result });
        }
    }

    /// It ends: answers everybody who waits for it.
    fn finish(&mut self, io: &mut dyn Io, pid: Pid, reason: ExitReason) {
        let Some(mut process) = self.table.remove(&pid.serial) else {
            return;
        };
        self.gone.push(pid);
        io.tell(Fact::Ended(pid, reason.clone()));
        let mut left = std::mem::take(&mut process.inbox);
        process.actor.accept(|queue| queue.append(&mut left));
        let mut signals = process.actor.farewell(&reason);
        // The host's tables have no order of their own; a run must have one.
        signals.sort_by_cached_key(|(to, signal)| (*to, format!("{signal:?}")));
        for (to, signal) in signals {
            self.signal(io, to, signal);
        }
    }
}

//! What actors and users do, at random.

use wasm_node_protocol::cluster::ClusterInput;
use wasm_node_protocol::global::{NoVerdict, Patience, Requester, Resolver, Wish};
use wasm_node_protocol::membership::MembershipInput;
use wasm_node_protocol::{ExitReason, Pid};

use super::World;
use crate::sim::invariants::Seen;
use crate::sim::network::NodeIndex;
use crate::sim::trace::Topic;
use crate::sim::{MAX_ACTORS, MAX_BODY_BYTES};

/// So far above an actor's number is that of none in the whole run.
const NEVER: u64 = 1_000_000;

/// Actors that a node starts with, and has again soon after they ended.
const USUAL_ACTORS: usize = 4;

impl World {
    /// One thing that an actor or a user does.
    pub(super) fn act(&mut self) {
        let alive: Vec<_> = (0..self.nodes.len())
            .filter(|node| self.nodes[*node].is_some() && !self.paused.contains_key(node))
            .collect();
        let Some(&node) = self.rng.pick(&alive) else {
            return;
        };
        if self.actors_of(node).len() < USUAL_ACTORS {
            self.spawn(node);
        }
        let name = format!("name{}", self.rng.below(self.scenario.names));
        let Some(pid) = self.actor_of(node) else {
            return;
        };
        match self.rng.below(100) {
            0..16 => self.register(node, name, pid),
            16..19 => {
                // Several nodes at the same moment.
                for node in alive {
                    if let Some(pid) = self.actor_of(node) {
                        self.register(node, name.clone(), pid);
                    }
                }
            }
            19..25 => {
                self.note(Topic::Names, &[node], |_| {
                    format!("n{node}: unregister {name}")
                });
                self.with(node, |node, now| node.unregister(now, &name));
            }
            25..30 => self.group(node, pid, true),
            30..34 => self.group(node, pid, false),
            34..36 if self.scenario.disconnects => self.disconnect(node),
            36..40 => self.end(node, pid),
            40..48 => self.lock(node, pid),
            48..56 => self.unlock(node),
            56..58 => self.resolve(),
            _ => self.send_somebody(node, pid),
        }
    }

    pub(super) fn spawn(&mut self, node: NodeIndex) {
        let traps = self.rng.chance(70);
        self.with(node, |node, now| {
            node.processes(now, |processes, io| processes.spawn(io, traps))
        });
    }

    fn actors_of(&self, node: NodeIndex) -> Vec<Pid> {
        let node = self.nodes[node].as_ref();
        node.map_or(Vec::new(), |node| node.processes.pids().collect())
    }

    pub(super) fn actor_of(&mut self, node: NodeIndex) -> Option<Pid> {
        let actors = self.actors_of(node);
        self.rng.pick(&actors).copied()
    }

    fn register(&mut self, node: NodeIndex, name: String, pid: Pid) {
        self.note(Topic::Names, &[node], |trace| {
            format!("n{node}: register {name} for {}", trace.actor(pid))
        });
        let replace = self.rng.chance(20);
        let resolver = match self.rng.below(5) {
            0 => Resolver::ExitLoser,
            1 => Resolver::NotifyAll,
            2 => Resolver::Ask("judge".into()),
            _ => Resolver::NotifyLoser,
        };
        let request = self.request();
        let claiming = Seen::Claiming {
            request,
            name: &name,
        };
        self.see(node, &claiming);
        let wish = Wish::Name {
            name,
            replace,
            resolver,
        };
        self.with(node, |node, now| {
            node.input(now, ClusterInput::Claim { request, pid, wish })
        });
    }

    fn lock(&mut self, node: NodeIndex, pid: Pid) {
        let resource = format!("lock{}", self.rng.below(2));
        let requester = match self.rng.below(4) {
            0 => Requester::Named("guild".into()),
            _ => Requester::Actor(pid),
        };
        let patience = match self.rng.below(3) {
            0 => Patience::None,
            _ => Patience::Millis(self.rng.between(1, 3_000)),
        };
        self.note(Topic::Names, &[node], |trace| {
            let holder = trace.actor(pid);
            format!("n{node}: lock {resource} for {holder}, {requester:?}, {patience:?}")
        });
        let request = self.request();
        let locking = Seen::Locking {
            request,
            resource: &resource,
            requester: &requester,
        };
        self.see(node, &locking);
        let wish = Wish::Lock {
            resource,
            requester,
            patience,
        };
        self.with(node, |node, now| {
            node.input(now, ClusterInput::Claim { request, pid, wish })
        });
    }

    /// Some actor lets go what it holds.
    fn unlock(&mut self, node: NodeIndex) {
        let Some(running) = &self.nodes[node] else {
            return;
        };
        let held = running.cluster.global().held_locks();
        let held: Vec<_> = held
            .map(|(resource, of, pid)| (resource.to_owned(), of.clone(), pid))
            .collect();
        let Some((resource, requester, pid)) = self.rng.pick(&held).cloned() else {
            return;
        };
        self.note(Topic::Names, &[node], |trace| {
            format!("n{node}: {} unlocks {resource}", trace.actor(pid))
        });
        self.with(node, |node, now| {
            node.unlock(now, &resource, &requester, pid);
        });
    }

    /// An actor that was asked who keeps a name says so; others never do.
    fn resolve(&mut self) {
        if self.questions.is_empty() {
            return;
        }
        let which = self.rng.below(self.questions.len() as u64) as usize;
        let (node, run, question, pids) = self.questions.swap_remove(which);
        if !self.is_run(node, run) || self.paused.contains_key(&node) {
            return;
        }
        let keep = match self.rng.below(4) {
            0 => Ok(Some(pids[0])),
            1 => Ok(Some(pids[1])),
            2 => Ok(None),
            _ => Err(NoVerdict),
        };
        self.with(node, |node, now| {
            node.input(now, ClusterInput::Verdict { question, keep });
        });
    }

    fn group(&mut self, node: NodeIndex, pid: Pid, joins: bool) {
        let group = &format!("group{}", self.rng.below(2));
        self.note(Topic::Groups, &[node], |trace| {
            let what = if joins { "join" } else { "leave" };
            format!("n{node}: {what} {group} for {}", trace.actor(pid))
        });
        let done = self.with(node, |node, now| node.group(now, group, pid, joins));
        let grouped = Seen::Grouped {
            group,
            pid,
            joins,
            done: done == Some(true),
        };
        self.see(node, &grouped);
    }

    fn disconnect(&mut self, node: NodeIndex) {
        let Some(running) = &self.nodes[node] else {
            return;
        };
        let peers: Vec<_> = running
            .cluster
            .peers()
            .map(|(_, peer)| peer.name.clone())
            .collect();
        let Some(peer) = self.rng.pick(&peers).cloned() else {
            return;
        };
        self.note(Topic::Fault, &[node], |_| {
            format!("n{node}: a user disconnects {peer}")
        });
        self.with(node, |node, now| {
            node.input(now, MembershipInput::Disconnect { node: peer })
        });
    }

    fn end(&mut self, node: NodeIndex, pid: Pid) {
        let reason = match self.rng.below(4) {
            0 => ExitReason::Normal,
            1 => ExitReason::Shutdown,
            _ => ExitReason::Error(format!("mistake {}", self.rng.below(1000))),
        };
        self.with(node, |node, now| {
            node.processes(now, |processes, io| processes.end(io, pid, reason))
        });
    }

    /// An actor somewhere: alive, nearly always.
    fn anybody(&mut self) -> Option<Pid> {
        let running: Vec<_> = (0..self.nodes.len())
            .filter(|node| self.nodes[*node].is_some())
            .collect();
        let node = *self.rng.pick(&running)?;
        let mut pid = self.actor_of(node)?;
        match self.rng.below(40) {
            // One that has ended, or never was; nor will be, while it is looked for.
            0 => {
                pid.serial = match self.rng.chance(70) {
                    true => self.rng.between(1, pid.serial),
                    false => pid.serial + NEVER,
                };
            }
            // One of an earlier run of its node.
            1 => {
                let run = self.trace.any_run(&mut self.rng)?;
                let mut running = self.nodes.iter().flatten();
                if running.all(|node| node.incarnation != run) {
                    pid.node = run;
                }
            }
            _ => {}
        }
        Some(pid)
    }

    /// What actors do to each other.
    fn send_somebody(&mut self, node: NodeIndex, from: Pid) {
        let waits = self.nodes[node]
            .as_mut()
            .is_some_and(|node| node.is_suspended(from));
        let Some(to) = self.anybody().filter(|to| *to != from && !waits) else {
            return;
        };
        let what = self.rng.below(100);
        let filling = match self.rng.below(50) {
            0 => self.rng.between(60_000, MAX_BODY_BYTES as u64 - 100),
            1..4 => self.rng.between(1_000, 20_000),
            _ => self.rng.below(200),
        } as usize;
        let times = self.rng.between(1, 5);
        let timeout = self.rng.chance(80).then(|| self.rng.between(20, 4_000));
        let pick = self.rng.bits() as usize;
        let many = self.actors_of(node).len() >= MAX_ACTORS;
        self.with(node, |node, now| {
            let mut sent = 0;
            loop {
                let more = node.processes(now, |processes, io| {
                    match what {
                        0..40 => processes.message(io, from, to, filling),
                        // A flood: until it has to pause, or has had enough.
                        40..42 => processes.message(io, from, to, MAX_BODY_BYTES - 100),
                        42..60 => processes.ask(io, now, (from, to), filling, timeout),
                        60..74 => processes.monitor(io, from, to),
                        74..78 => {
                            let monitors = processes.monitors(from);
                            let some = monitors.get(pick % monitors.len().max(1)).copied();
                            if let Some(tag) = some {
                                processes.demonitor(io, from, tag);
                            }
                        }
                        // By the smaller, so that a pair is linked once.
                        78..92 if from < to => processes.link(io, from, to),
                        92..96 => {
                            let linked: Vec<_> = processes.linked(from).collect();
                            if let Some(to) = linked.get(pick % linked.len().max(1)) {
                                processes.unlink(io, from, *to);
                            }
                        }
                        96..98 => processes.kill(io, from, to),
                        _ if !many => {
                            processes.spawn(io, pick.is_multiple_of(2));
                        }
                        _ => {}
                    }
                    matches!(what, 0..42) && processes.is_alive(from)
                });
                sent += 1;
                let enough = if what < 40 { times } else { 12 };
                if !more || sent >= enough || node.is_suspended(from) {
                    break;
                }
            }
        });
    }
}

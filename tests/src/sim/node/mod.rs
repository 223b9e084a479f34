//! One simulated node: the shell that real sockets and threads would have, in virtual time.
//!
//! Owns its cluster machine, its processes and its links ([`link`]). It turns arriving bytes
//! into inputs, and outputs into [`Effect`]s for the world. Does not know other nodes, the
//! network or true time.

mod link;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use wasm_node_protocol::cluster::{Cluster, ClusterInput, ClusterOutput};
use wasm_node_protocol::codec::{self, Metadata};
use wasm_node_protocol::frame::Lane;
use wasm_node_protocol::global::Requester;
use wasm_node_protocol::groups::GroupId;
use wasm_node_protocol::handshake::Hello;
use wasm_node_protocol::membership::{DialTarget, LinkId};
use wasm_node_protocol::session::SessionInput;
use wasm_node_protocol::{Incarnation, Millis, NodeKind, NodeName, Pid, Signal, Target};

use super::Mistakes;
use super::network::{ConnId, Micros};
use super::process::{Fact, Io, ProcessStep, Processes, Sent};
use super::rng::Rng;
use link::{Link, Stage};

/// The tick time of simulated nodes, in milliseconds.
pub const TICK_TIME_MS: u32 = 4_000;

/// With more than so many bytes waiting for a peer, senders to it pause. The real one is
/// 8 MiB; runs shall reach it.
pub const PEER_QUEUE_HIGH_BYTES: usize = 512 * 1024;

/// Senders go on when no more than so many bytes wait.
pub const PEER_QUEUE_LOW_BYTES: usize = 128 * 1024;

/// What a node wants of the world.
#[derive(Debug)]
pub enum Effect {
    /// Connect.
    Dial { link: LinkId, target: DialTarget },
    /// These bytes go out.
    Write {
        conn: ConnId,
        side: usize,
        bytes: Vec<u8>,
    },
    /// This end closes.
    Close { conn: ConnId, side: usize },
    /// Call [`SimNode::step`] with this, so much later.
    Later { after: Micros, step: Step },
    /// Something the invariants want to know.
    Notice(Notice),
}

/// What the invariants want to know.
#[derive(Debug)]
pub enum Notice {
    /// The cluster machine said so.
    Output(ClusterOutput),
    /// A message of an actor came over a connection.
    Arrived { conn: ConnId, to: Pid, body: Bytes },
    /// Of the processes.
    Process(Fact),
    /// The peer, or we, broke the protocol: never right in a simulation.
    Broken(String),
}

/// A step that takes time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Judge the peer whose hello was read.
    Judge(LinkId),
    /// Tell the cluster that the link is up.
    Up(LinkId),
    /// Tell the cluster that the link is down.
    Down(LinkId),
    /// Write what the last write left over.
    Flush(LinkId),
    /// The handshake's time is over.
    HandshakeTimeout(LinkId),
    /// For the processes.
    Process(ProcessStep),
}

/// One simulated node.
pub struct SimNode {
    /// Its name.
    pub name: NodeName,
    /// Its run.
    pub incarnation: Incarnation,
    /// Its part in the cluster.
    pub cluster: Cluster,
    /// Its actors.
    pub processes: Processes,
    mistakes: Mistakes,
    links: BTreeMap<LinkId, Link>,
    /// When to look at which session; each once, perhaps earlier than necessary.
    sessions: BTreeSet<(Millis, LinkId)>,
    /// By run of the peer.
    routes: BTreeMap<Incarnation, LinkId>,
    /// The most bytes that ever waited for one peer.
    most_queued: usize,
    rng: Rng,
    effects: VecDeque<Effect>,
}

impl SimNode {
    /// A node alone.
    pub fn new(
        name: NodeName,
        incarnation: Incarnation,
        kind: NodeKind,
        address: String,
        mistakes: Mistakes,
        seed: u64,
    ) -> Self {
        let mut hello = Hello::new(name.clone(), incarnation, kind, TICK_TIME_MS);
        hello.address = Some(address);
        let mut cluster = Cluster::new(hello, seed);
        mistakes.make_in(&mut cluster);
        Self {
            name,
            incarnation,
            cluster,
            processes: Processes::new(incarnation, mistakes, seed ^ 0xac70),
            mistakes,
            links: BTreeMap::new(),
            sessions: BTreeSet::new(),
            routes: BTreeMap::new(),
            most_queued: 0,
            rng: Rng::new(!seed),
            effects: VecDeque::new(),
        }
    }

    /// The next thing that it wants.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When it wants to be woken.
    pub fn next_deadline(&self) -> Option<Millis> {
        let session = self.sessions.first().map(|(at, _)| *at);
        let deadlines = [
            session,
            self.processes.next_deadline(),
            self.cluster.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// The most bytes that ever waited for one peer.
    pub fn most_queued(&self) -> usize {
        self.most_queued
    }

    /// The connection to that run of a node, if it is up here.
    pub fn conn_to(&self, node: Incarnation) -> Option<ConnId> {
        let link = self.routes.get(&node)?;
        self.links.get(link)?.conn.map(|(conn, _)| conn)
    }

    /// Whether an actor has to wait until a peer has read more.
    pub fn is_suspended(&mut self, pid: Pid) -> bool {
        let Some(peer) = self.processes.suspended(pid) else {
            return false;
        };
        let link = self.routes.get(&peer).and_then(|link| self.links.get(link));
        let waits = link.is_some_and(|link| link.writer.queued_bytes() > PEER_QUEUE_LOW_BYTES);
        if !waits {
            self.processes.resume(pid);
        }
        waits
    }

    /// Passes something to the cluster.
    pub fn input(&mut self, now: Millis, input: impl Into<ClusterInput>) {
        self.cluster.handle(now, input);
        self.carry_out(now);
    }

    /// Joins or leaves a group.
    pub fn group(&mut self, now: Millis, group: &str, pid: Pid, join: bool) -> bool {
        let group = GroupId::new("", group);
        let done = group.is_ok_and(|group| match join {
            true => self.cluster.join(now, group, &[pid]).is_ok(),
            false => self.cluster.leave(now, &group, &[pid]),
        });
        self.carry_out(now);
        done
    }

    /// Gives up a global name.
    pub fn unregister(&mut self, now: Millis, name: &str) -> bool {
        let done = self.cluster.unregister(now, name);
        self.carry_out(now);
        done
    }

    /// Lets a lock go.
    pub fn unlock(&mut self, now: Millis, resource: &str, requester: &Requester, pid: Pid) {
        self.cluster.unlock(now, resource, requester, pid);
        self.carry_out(now);
    }

    /// Lets the processes do something.
    pub fn processes<T>(
        &mut self,
        now: Millis,
        act: impl FnOnce(&mut Processes, &mut dyn Io) -> T,
    ) -> T {
        let idle = Processes::new(self.incarnation, self.mistakes, 0);
        let mut processes = std::mem::replace(&mut self.processes, idle);
        let done = act(&mut processes, &mut Wires { node: self, now });
        self.processes = processes;
        for pid in self.processes.take_gone() {
            self.input(now, ClusterInput::ActorDown { pid });
        }
        done
    }

    /// A deadline may have passed.
    pub fn wake(&mut self, now: Millis) {
        while let Some(&(at, link)) = self.sessions.first()
            && at <= now
        {
            self.sessions.remove(&(at, link));
            self.session(now, link, SessionInput::Timer);
            if let Some(Link {
                stage: Stage::Up(session),
                ..
            }) = self.links.get(&link)
                && let Some(at) = session.next_deadline()
            {
                self.sessions.insert((at.max(now + 1), link));
            }
        }
        if self.processes.next_deadline().is_some_and(|at| at <= now) {
            self.processes(now, |processes, io| processes.wake(io, now));
        }
        self.input(now, ClusterInput::Timer);
    }

    /// Something planned is due.
    pub fn step(&mut self, now: Millis, step: Step) {
        match step {
            Step::Process(step) => {
                self.processes(now, |processes, io| processes.step(io, now, step));
            }
            step => self.link_step(now, step),
        }
    }

    /// A signal came over a link.
    fn signal_arrived(&mut self, now: Millis, conn: ConnId, to: Pid, signal: Signal) {
        if let Signal::Info(body) | Signal::Cast(body) | Signal::Request { body, .. } = &signal {
            let body = body.clone();
            self.effects
                .push_back(Effect::Notice(Notice::Arrived { conn, to, body }));
        }
        self.processes(now, |processes, io| processes.deliver(io, to, signal));
    }

    fn carry_out(&mut self, now: Millis) {
        while let Some(output) = self.cluster.poll_output() {
            match &output {
                ClusterOutput::Dial {
                    link,
                    target,
                    asked,
                } => self.dial(*link, target, *asked),
                ClusterOutput::Send { link, message } => self.send(now, *link, message),
                ClusterOutput::Close { link, reason } => {
                    self.flush(now, *link, true);
                    self.take_down(*link, reason.clone(), None);
                }
                ClusterOutput::NodeUp { link, peer } => {
                    self.routes.insert(peer.incarnation, *link);
                }
                ClusterOutput::NodeDown { peer, .. } => {
                    let node = peer.incarnation;
                    self.routes.remove(&node);
                    // The invariants hear of it first.
                    self.effects
                        .push_back(Effect::Notice(Notice::Output(output)));
                    self.processes(now, |processes, io| processes.node_down(io, node));
                    continue;
                }
                _ => {}
            }
            self.effects
                .push_back(Effect::Notice(Notice::Output(output)));
        }
    }

    fn dial(&mut self, link: LinkId, target: &DialTarget, asked: bool) {
        let expected = match target {
            DialTarget::Node { name, .. } => Some(name.clone()),
            DialTarget::Address(_) => None,
        };
        let stage = Stage::Connecting { asked, expected };
        self.links.insert(link, Link::new(None, stage));
        self.plan_timeout(link);
        let target = target.clone();
        self.effects.push_back(Effect::Dial { link, target });
    }
}

/// A node without its processes, as they see it.
struct Wires<'a> {
    node: &'a mut SimNode,
    now: Millis,
}

impl Io for Wires<'_> {
    fn send(&mut self, to: Pid, signal: &Signal) -> Sent {
        let Some(&link) = self.node.routes.get(&to.node) else {
            return Sent::NoConnection;
        };
        let large = matches!(signal, Signal::Info(body) | Signal::Cast(body) | Signal::Request { body, .. } if body.len() > 64 * 1024);
        let lane = if large && self.node.mistakes.reorder_signals {
            Lane::Bulk
        } else {
            Lane::Signal
        };
        let target = Target::Pid(to);
        self.node.queue(self.now, link, lane, |out| {
            codec::encode_signal(&target, &Metadata::default(), signal, out);
        });
        let link = self.node.links.get(&link);
        let queued = link.map_or(0, |link| link.writer.queued_bytes());
        if queued > PEER_QUEUE_HIGH_BYTES {
            Sent::Congested
        } else {
            Sent::Ok
        }
    }

    fn conn_to(&self, node: Incarnation) -> Option<ConnId> {
        self.node.conn_to(node)
    }

    fn later(&mut self, after: Micros, step: ProcessStep) {
        let step = Step::Process(step);
        self.node.effects.push_back(Effect::Later { after, step });
    }

    fn tell(&mut self, fact: Fact) {
        self.node
            .effects
            .push_back(Effect::Notice(Notice::Process(fact)));
    }
}

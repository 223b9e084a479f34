//! The event loop of a simulated cluster: time, starts, deliveries. Faults and actions apart.

mod actions;
mod faults;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use wasm_node_protocol::cluster::ClusterOutput;
use wasm_node_protocol::global::RequestId;
use wasm_node_protocol::membership::{DialTarget, LinkId, MembershipInput};
use wasm_node_protocol::{Incarnation, Millis, NodeKind, NodeName, Pid};

use super::checks::{self, Observed};
use super::network::{Arrival, ConnId, Micros, Network, NodeIndex, Path};
use super::node::{Effect, Notice, SimNode, Step};
use super::rng::Rng;
use super::{Failure, Scenario, Stats};

/// How long a cluster is left in peace before the final checks: a silent link takes 4.5 s
/// to notice, a dial into nothing 5 s, a redial 5 s more, and one may follow another.
const REST_US: Micros = 40_000_000;

const MAX_DELAY_US: Micros = 15_000;
const TRACE_LINES: usize = 250;

#[derive(Debug)]
enum Event {
    Deliver {
        conn: ConnId,
        side: usize,
    },
    DialArrives {
        from: NodeIndex,
        run: Incarnation,
        link: LinkId,
        target: DialTarget,
    },
    Step {
        node: NodeIndex,
        run: Incarnation,
        step: Step,
    },
    Wake {
        node: NodeIndex,
        run: Incarnation,
    },
    Act,
    Fault,
    Mend(Mend),
    Reconnect,
    Rest,
}

#[derive(Debug)]
enum Mend {
    Path(NodeIndex, NodeIndex),
    Node(NodeIndex),
    Restart(NodeIndex),
}

struct Queued {
    at: Micros,
    tie: u64,
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.tie) == (other.at, other.tie)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.tie).cmp(&(other.at, other.tie))
    }
}

/// A simulated cluster.
pub struct World {
    seed: u64,
    scenario: Scenario,
    now: Micros,
    rng: Rng,
    queue: BinaryHeap<Reverse<Queued>>,
    network: Network,
    nodes: Vec<Option<SimNode>>,
    observed: Vec<Observed>,
    /// Stopped nodes, and what waits for them.
    paused: BTreeMap<NodeIndex, Vec<Event>>,
    wakes: Vec<Option<Micros>>,
    next_serial: u64,
    sent: BTreeMap<(Pid, Pid), u64>,
    stats: Stats,
    trace: Option<VecDeque<String>>,
    /// Every run of every node, to shorten pids in the trace.
    runs: Vec<(NodeIndex, Incarnation)>,
    failed: Option<String>,
}

impl World {
    /// A cluster about to start.
    pub fn new(seed: u64, scenario: Scenario, trace: bool) -> Self {
        let count = scenario.nodes + usize::from(scenario.hidden);
        Self {
            seed,
            now: 0,
            rng: Rng::new(seed),
            queue: BinaryHeap::new(),
            network: Network::default(),
            nodes: (0..count).map(|_| None).collect(),
            observed: (0..count).map(|_| Observed::default()).collect(),
            paused: BTreeMap::new(),
            wakes: vec![None; count],
            next_serial: 1,
            sent: BTreeMap::new(),
            stats: Stats::default(),
            trace: trace.then(VecDeque::new),
            runs: Vec::new(),
            failed: None,
            scenario,
        }
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// The first invariant that broke.
    pub fn run(mut self) -> Result<Stats, Box<Failure>> {
        for node in 0..self.nodes.len() {
            self.start(node);
        }
        self.plan_in(0, Event::Act);
        if self.scenario.fault_every_ms > 0 {
            self.plan_in(500_000, Event::Fault);
        }
        self.plan_in(self.scenario.active_ms * 1000, Event::Rest);
        let mut end = None;
        while let Some(Reverse(next)) = self.queue.pop() {
            if end.is_some_and(|end| next.at > end) {
                break;
            }
            self.now = next.at;
            self.stats.steps += 1;
            if matches!(next.event, Event::Rest) {
                self.rest();
                end = Some(self.now + REST_US);
            } else {
                self.event(next.event);
            }
            if self.failed.is_some() {
                break;
            }
        }
        let what = self.failed.take();
        let what = what.or_else(|| checks::at_rest(&self.nodes, &self.observed).err());
        match what {
            None => Ok(self.stats),
            Some(what) => {
                let trace = self.trace.unwrap_or_default().into();
                Err(Box::new(Failure {
                    seed: self.seed,
                    what,
                    trace,
                }))
            }
        }
    }

    fn millis(&self) -> Millis {
        Millis(self.now / 1000)
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        let runs = &self.runs;
        if let Some(trace) = &mut self.trace {
            if trace.len() == TRACE_LINES {
                trace.pop_front();
            }
            let mut line = line();
            for (index, run) in runs {
                line = line.replace(
                    &format!("Pid {{ node: {run:?}, serial: "),
                    &format!("<n{index}:{:x} ", run.0 >> 48),
                );
            }
            trace.push_back(format!("{:>9.3} ms  {}", now as f64 / 1000.0, line));
        }
    }

    fn check(&mut self, result: Result<(), String>) {
        if let Err(what) = result
            && self.failed.is_none()
        {
            self.failed = Some(what);
        }
    }

    fn plan_in(&mut self, after: Micros, event: Event) {
        let tie = self.rng.bits();
        self.queue.push(Reverse(Queued {
            at: self.now + after,
            tie,
            event,
        }));
    }

    fn name_of(node: NodeIndex) -> NodeName {
        format!("n{node}@127.0.0.1")
            .parse()
            .unwrap_or_else(|_| unreachable!("a valid name"))
    }

    fn address_of(node: NodeIndex) -> String {
        format!("127.0.0.1:{}", 9000 + node)
    }

    fn start(&mut self, node: NodeIndex) {
        let incarnation = Incarnation(self.rng.bits() | 1);
        let kind = if node >= self.scenario.nodes {
            NodeKind::Hidden
        } else {
            NodeKind::Visible
        };
        let seed = self.rng.bits();
        let mut new = SimNode::new(
            Self::name_of(node),
            incarnation,
            kind,
            Self::address_of(node),
            seed,
        );
        new.mutate(self.scenario.mutations);
        new.reorder_signals = self.scenario.reorder_signals;
        self.nodes[node] = Some(new);
        self.observed[node] = Observed::default();
        self.wakes[node] = None;
        self.runs.push((node, incarnation));
        self.note(|| format!("n{node} starts, run {:x}", incarnation.0 >> 48));
        let actors = (0..3).map(|_| self.new_actor(node)).collect::<Vec<_>>();
        self.observed[node].actors.extend(actors);
        // Every node knows one other by address or name, and keeps trying.
        let others = self.scenario.nodes as u64;
        let seed_node = if node == 0 {
            self.rng.between(1, others - 1)
        } else {
            self.rng.below(node.min(others as usize) as u64)
        } as usize;
        let seed_node = if seed_node == node {
            (node + 1) % others as usize
        } else {
            seed_node
        };
        let address = Self::address_of(seed_node);
        let target = if self.rng.chance(50) {
            DialTarget::Address(address)
        } else {
            DialTarget::Node {
                name: Self::name_of(seed_node),
                address: self.rng.chance(50).then_some(address),
            }
        };
        self.connect(node, target, true);
    }

    fn connect(&mut self, node: NodeIndex, target: DialTarget, keep: bool) {
        let request = self.request();
        self.observed[node].connects.insert(request);
        self.with(node, |node, now| {
            node.input(
                now,
                MembershipInput::Connect {
                    request,
                    target,
                    keep,
                },
            )
        });
    }

    fn request(&mut self) -> RequestId {
        self.next_serial += 1;
        RequestId(self.next_serial)
    }

    fn new_actor(&mut self, node: NodeIndex) -> Pid {
        self.next_serial += 1;
        let run = self.nodes[node]
            .as_ref()
            .map_or(Incarnation(1), |node| node.incarnation);
        Pid {
            node: run,
            serial: self.next_serial,
        }
    }

    /// Lets a node do something, then carries out what it wants.
    fn with(&mut self, index: NodeIndex, act: impl FnOnce(&mut SimNode, Millis)) {
        let now = self.millis();
        let Some(node) = self.nodes[index].as_mut() else {
            return;
        };
        act(node, now);
        let run = node.incarnation;
        while let Some(effect) = self.nodes[index].as_mut().and_then(SimNode::poll_effect) {
            self.effect(index, run, effect);
        }
        let Some(node) = &self.nodes[index] else {
            return;
        };
        let mirrors = self.observed[index].mirrors(node);
        let deadline = node.next_deadline();
        self.check(mirrors);
        if let Some(at) = deadline {
            let at = (at.0 * 1000).max(self.now + 1);
            if self.wakes[index].is_none_or(|planned| at < planned) {
                self.wakes[index] = Some(at);
                self.plan_in(at - self.now, Event::Wake { node: index, run });
            }
        }
    }

    fn effect(&mut self, node: NodeIndex, run: Incarnation, effect: Effect) {
        match effect {
            Effect::Dial { link, target } => {
                self.note(|| format!("n{node} dials {target:?} as {link:?}"));
                let delay = self.delay();
                self.plan_in(
                    delay,
                    Event::DialArrives {
                        from: node,
                        run,
                        link,
                        target,
                    },
                );
            }
            Effect::Write { conn, side, bytes } => self.transmit(conn, side, Arrival::Bytes(bytes)),
            Effect::Close { conn, side } => {
                self.note(|| format!("n{node} closes {conn:?}"));
                let at = self.now + self.delay();
                if let Some(at) = self.network.close(conn, side, at) {
                    self.plan_in(
                        at - self.now,
                        Event::Deliver {
                            conn,
                            side: 1 - side,
                        },
                    );
                }
            }
            Effect::Later { after, step } => self.plan_in(after, Event::Step { node, run, step }),
            Effect::Notice(notice) => self.notice(node, notice),
        }
    }

    fn notice(&mut self, node: NodeIndex, notice: Notice) {
        let result = match notice {
            Notice::Output(output) => {
                self.note(|| format!("n{node} -> {output:?}"));
                let granted = match &output {
                    ClusterOutput::Registered {
                        request,
                        result: Ok(()),
                    } => self.observed[node]
                        .claims
                        .get(request)
                        .map(|(name, _, _)| name.clone()),
                    _ => None,
                };
                let result = self.observed[node].output(self.now, &output, &mut self.stats);
                let holders =
                    granted.map_or(Ok(()), |name| checks::one_holder(&self.nodes, node, &name));
                result.and(holders)
            }
            Notice::Signal {
                conn,
                from,
                to,
                body,
            } => {
                self.stats.signals += 1;
                self.observed[node].signal(conn, from, to, &body)
            }
            Notice::Broken(what) => Err(format!("n{node}: {what}")),
        };
        self.check(result);
    }

    fn delay(&mut self) -> Micros {
        // Mostly quick, sometimes slow: reorders what different links carry.
        let limit = if self.rng.chance(80) {
            MAX_DELAY_US / 10
        } else {
            MAX_DELAY_US
        };
        self.rng.between(50, limit)
    }

    fn transmit(&mut self, conn: ConnId, side: usize, arrival: Arrival) {
        let at = self.now + self.delay();
        if let Some(at) = self.network.send(conn, side, at, arrival) {
            self.plan_in(
                at - self.now,
                Event::Deliver {
                    conn,
                    side: 1 - side,
                },
            );
        }
    }

    fn event(&mut self, event: Event) {
        let node = match &event {
            Event::Deliver { conn, side } => self.network.end(*conn, *side).map(|end| end.node),
            Event::Step { node, .. } | Event::Wake { node, .. } => Some(*node),
            Event::DialArrives { from, target, .. } => {
                let target = self.target(target);
                target.filter(|target| self.network.path(*from, *target) == Path::Open)
            }
            _ => None,
        };
        if let Some(waiting) = node.and_then(|node| self.paused.get_mut(&node)) {
            waiting.push(event);
            return;
        }
        match event {
            Event::Deliver { conn, side } => self.deliver(conn, side),
            Event::DialArrives {
                from,
                run,
                link,
                target,
            } => self.dial_arrives(from, run, link, &target),
            Event::Step { node, run, step } if self.is_run(node, run) => {
                self.with(node, |node, now| node.step(now, step));
            }
            Event::Wake { node, run } if self.is_run(node, run) => {
                self.wakes[node] = None;
                self.with(node, SimNode::wake);
            }
            Event::Act => {
                self.act();
                let pause = self.rng.below(2 * self.scenario.action_every_ms * 1000) + 1;
                self.plan_in(pause, Event::Act);
            }
            Event::Fault => {
                self.fault();
                let pause = self.rng.below(2 * self.scenario.fault_every_ms * 1000) + 1;
                self.plan_in(pause, Event::Fault);
            }
            Event::Mend(mend) => self.mend(mend),
            Event::Reconnect => self.reconnect(),
            Event::Step { .. } | Event::Wake { .. } | Event::Rest => {}
        }
    }

    fn is_run(&self, node: NodeIndex, run: Incarnation) -> bool {
        self.nodes[node]
            .as_ref()
            .is_some_and(|node| node.incarnation == run)
    }

    fn deliver(&mut self, conn: ConnId, side: usize) {
        while let Some((end, arrival)) = self.network.receive(conn, side, self.now) {
            match arrival {
                Arrival::Bytes(bytes) => {
                    self.with(end.node, |node, now| node.received(now, end.link, &bytes))
                }
                Arrival::Closed(reason) => {
                    self.with(end.node, |node, _| node.closed(end.link, reason))
                }
            }
        }
    }

    fn target(&self, target: &DialTarget) -> Option<NodeIndex> {
        (0..self.nodes.len()).find(|node| match target {
            DialTarget::Node { name, .. } => *name == Self::name_of(*node),
            DialTarget::Address(address) => *address == Self::address_of(*node),
        })
    }

    fn dial_arrives(
        &mut self,
        from: NodeIndex,
        run: Incarnation,
        link: LinkId,
        target: &DialTarget,
    ) {
        let to = self.target(target);
        if !self.is_run(from, run) {
            return;
        }
        let path = to.map_or(Path::Open, |to| self.network.path(from, to));
        match to.filter(|to| self.nodes[*to].is_some()) {
            _ if path == Path::Silent => {} // The handshake's time-out will tell.
            Some(to) if path == Path::Open => {
                let mut conn = None;
                let network = &mut self.network;
                if let Some(node) = &mut self.nodes[to] {
                    node.accepted(|accepted| {
                        let id = network.open((from, link), (to, accepted));
                        conn = Some(id);
                        id
                    });
                }
                self.with(to, |_, _| ());
                if let Some(conn) = conn {
                    self.with(from, |node, now| node.connected(now, link, conn));
                }
            }
            _ => self.with(from, |node, _| node.dial_failed(link, "connection refused")),
        }
    }
}

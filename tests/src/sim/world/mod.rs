//! The event loop of a simulated cluster: true time, what is planned, starts, checks. What
//! nodes want is carried out in [`wiring`]; faults and actions are apart, too.

mod actions;
mod faults;
mod mesh;
mod wiring;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

use wasm_node_protocol::global::{QuestionId, RequestId};
use wasm_node_protocol::membership::{DialTarget, LinkId, MembershipInput};
use wasm_node_protocol::{Incarnation, Millis, NodeKind, NodeName, Pid};

use super::clock::Clock;
use super::invariants::{self, Broken, Invariant, Seen, View};
use super::network::{ConnId, Micros, Network, NodeIndex};
use super::node::{SimNode, Step};
use super::rng::Rng;
use super::trace::{Topic, Trace};
use super::{Failure, Scenario, Stats};

/// How long a cluster is left in peace before the final checks: a silent link takes 4.5 s
/// to notice, a dial into nothing 5 s, a redial 5 s more, and one may follow another.
const REST_US: Micros = 45_000_000;

/// How fast or slow a clock may run, in millionths.
const MAX_DRIFT_PPM: u64 = 20_000;

#[derive(Debug)]
enum Event {
    Deliver {
        conn: ConnId,
        side: usize,
    },
    /// The next piece for an end whose node reads slowly.
    Trickle {
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
    /// From, to.
    Path(NodeIndex, NodeIndex),
    /// From, to.
    Slower(NodeIndex, NodeIndex),
    Reader(NodeIndex),
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
    names: Vec<NodeName>,
    places: HashMap<String, NodeIndex>,
    nodes: Vec<Option<SimNode>>,
    clocks: Vec<Clock>,
    /// What resolvers of conflicts were asked and have not answered: of which run of which node,
    /// and between whom.
    questions: Vec<(NodeIndex, Incarnation, QuestionId, [Pid; 2])>,
    /// What the clocks show; current for the node that does a step.
    shown: Vec<Millis>,
    /// For how long of its own clock each node did not run.
    lost_ms: Vec<u64>,
    /// Stopped nodes, since when, and what waits for them.
    paused: BTreeMap<NodeIndex, (Micros, Vec<Event>)>,
    /// Nodes that read slowly, and their ends that wait for the next piece.
    slow: BTreeSet<NodeIndex>,
    trickling: BTreeSet<(ConnId, usize)>,
    wakes: Vec<Option<Micros>>,
    next_request: u64,
    mesh: mesh::Counts,
    invariants: Vec<Box<dyn Invariant>>,
    stats: Stats,
    trace: Trace,
    failed: Option<(&'static str, Vec<Topic>, Broken)>,
}

impl World {
    /// A cluster about to start.
    pub fn new(seed: u64, scenario: Scenario, trace: bool) -> Self {
        let count = scenario.nodes + usize::from(scenario.hidden);
        let names: Vec<NodeName> = (0..count)
            .map(|node| format!("n{node}@127.0.0.1"))
            .filter_map(|name| name.parse().ok())
            .collect();
        let mut places = HashMap::new();
        for (node, name) in names.iter().enumerate() {
            places.insert(name.to_string(), node);
            places.insert(address_of(node), node);
        }
        Self {
            seed,
            now: 0,
            rng: Rng::new(seed),
            queue: BinaryHeap::new(),
            network: Network::default(),
            names,
            places,
            nodes: (0..count).map(|_| None).collect(),
            clocks: vec![Clock::new(0); count],
            questions: Vec::new(),
            shown: vec![Millis(0); count],
            lost_ms: vec![0; count],
            paused: BTreeMap::new(),
            slow: BTreeSet::new(),
            trickling: BTreeSet::new(),
            wakes: vec![None; count],
            next_request: 1,
            mesh: mesh::Counts::default(),
            invariants: if scenario.only_mesh {
                Vec::new()
            } else {
                invariants::all()
            },
            stats: Stats::default(),
            trace: Trace::new(trace),
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
            if end.is_some_and(|end| next.at > end) || self.failed.is_some() {
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
        }
        self.finish()
    }

    fn finish(mut self) -> Result<Stats, Box<Failure>> {
        self.look();
        if self.failed.is_none() {
            self.check_all(|invariant, view| invariant.at_rest(view));
        }
        self.invariants
            .iter()
            .for_each(|invariant| invariant.count(&mut self.stats));
        let Some((invariant, topics, broken)) = self.failed else {
            return Ok(self.stats);
        };
        Err(Box::new(Failure {
            seed: self.seed,
            invariant,
            what: self.trace.words(&broken.what),
            trace: self.trace.concerning(&topics, &broken.nodes),
        }))
    }

    /// Reads all clocks.
    fn look(&mut self) {
        for (shown, clock) in self.shown.iter_mut().zip(&self.clocks) {
            *shown = clock.at(self.now);
        }
    }

    /// Asks invariants, until one is broken.
    fn check_all(
        &mut self,
        mut check: impl FnMut(&mut dyn Invariant, &View<'_>) -> Result<(), Broken>,
    ) {
        let view = View {
            nodes: &self.nodes,
            clocks: &self.shown,
            lost_ms: &self.lost_ms,
        };
        for invariant in &mut self.invariants {
            if let Err(broken) = check(&mut **invariant, &view)
                && self.failed.is_none()
            {
                self.failed = Some((invariant.name(), invariant.topics().to_vec(), broken));
            }
        }
    }

    /// Shows the invariants what happened at a node.
    fn see(&mut self, node: NodeIndex, seen: &Seen<'_>) {
        self.check_all(|invariant, view| invariant.saw(view, node, seen));
    }

    fn note(&mut self, topic: Topic, nodes: &[NodeIndex], text: impl FnOnce(&Trace) -> String) {
        self.trace.note(self.now, topic, nodes, text);
    }

    fn plan_in(&mut self, after: Micros, event: Event) {
        let tie = self.rng.bits();
        self.queue.push(Reverse(Queued {
            at: self.now + after,
            tie,
            event,
        }));
    }

    fn start(&mut self, node: NodeIndex) {
        let incarnation = Incarnation::from_random(self.rng.bits());
        let kind = if node >= self.scenario.nodes {
            NodeKind::Hidden
        } else {
            NodeKind::Visible
        };
        let drift = if self.scenario.faults.clocks {
            self.rng.between(0, 2 * MAX_DRIFT_PPM) as i32 - MAX_DRIFT_PPM as i32
        } else {
            0
        };
        self.clocks[node] = Clock::new(drift);
        self.shown[node] = self.clocks[node].at(self.now);
        self.nodes[node] = Some(SimNode::new(
            self.names[node].clone(),
            incarnation,
            kind,
            address_of(node),
            self.scenario.mistakes,
            self.rng.bits(),
        ));
        self.wakes[node] = None;
        self.trace.started(node, incarnation);
        self.note(Topic::Fault, &[node], |trace| {
            format!("{} starts", trace.run(incarnation))
        });
        self.see(node, &Seen::Started);
        if !self.scenario.only_mesh {
            for _ in 0..3 {
                self.spawn(node);
            }
        }
        let target = self.seed_of(node);
        self.connect(node, target, true);
    }

    /// Every node knows one other by address or name, and keeps trying.
    fn seed_of(&mut self, node: NodeIndex) -> DialTarget {
        let others = self.scenario.nodes;
        let seed = if node == 0 {
            self.rng.between(1, others as u64 - 1)
        } else {
            self.rng.below(node.min(others) as u64)
        };
        let seed = match seed as usize {
            own if own == node => (node + 1) % others,
            seed => seed,
        };
        let address = address_of(seed);
        if self.rng.chance(50) {
            DialTarget::Address(address)
        } else {
            DialTarget::Node {
                name: self.names[seed].clone(),
                address: self.rng.chance(50).then_some(address),
            }
        }
    }

    fn connect(&mut self, node: NodeIndex, target: DialTarget, keep: bool) {
        let request = self.request();
        self.see(node, &Seen::Connecting(request));
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
        self.next_request += 1;
        RequestId(self.next_request)
    }

    fn event(&mut self, event: Event) {
        if let Some(node) = self.concerns(&event)
            && let Some((_, waiting)) = self.paused.get_mut(&node)
        {
            waiting.push(event);
            return;
        }
        match event {
            Event::Deliver { conn, side } => self.deliver(conn, side),
            Event::Trickle { conn, side } => self.trickle(conn, side),
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
}

fn address_of(node: NodeIndex) -> String {
    format!("127.0.0.1:{}", 9000 + node)
}

//! A seeded simulator of whole clusters: the real protocol machines, virtual time, and a
//! network that delays, splits, cuts and resets.
//!
//! Contract: one seed, one run, to the last event. [`run`] checks the invariants after each
//! step and at the end; a failure carries the seed and a trace of the run's last events.
//!
//! - `rng`: where all chance comes from
//! - `clock`: what a node takes for the time
//! - `network`: bytes in flight between nodes, paths that fail
//! - `process`: the actors of one node
//! - `node`: the machines of one node, wired as the real shell wires them
//! - `world`: the event loop, faults and workload
//! - `invariants`: what must hold, one file each
//! - `trace`: what happened, in words

mod clock;
mod invariants;
mod network;
mod node;
mod process;
mod rng;
mod trace;
mod world;

use std::fmt;

pub(crate) use rng::Rng;

use wasm_node_protocol::cluster::Cluster;
use wasm_node_protocol::{global, groups, membership};

/// The most actors that a node has for long; some more may begin at one moment.
const MAX_ACTORS: usize = 12;

/// The longest body of a message, in bytes: several fragments.
const MAX_BODY_BYTES: usize = 150_000;

/// What kind of run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Visible nodes.
    pub nodes: usize,
    /// Whether a hidden node takes part, too.
    pub hidden: bool,
    /// For how long things happen, in milliseconds of virtual time.
    pub active_ms: u64,
    /// Milliseconds between two faults, on average; 0 for none.
    pub fault_every_ms: u64,
    /// Which faults there are, besides paths that fail.
    pub faults: Faults,
    /// Milliseconds between two actions of actors, on average.
    pub action_every_ms: u64,
    /// Among how many global names claims choose.
    pub names: u64,
    /// Whether users disconnect and connect nodes.
    pub disconnects: bool,
    /// Mistakes made on purpose.
    pub mistakes: Mistakes,
    /// No actors, no checks: for [`measure_mesh`].
    pub only_mesh: bool,
}

/// Kinds of faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Faults {
    /// Paths that fail in one direction.
    pub one_way: bool,
    /// Nodes that die, and start again.
    pub crashes: bool,
    /// Nodes that are stopped for a while.
    pub stops: bool,
    /// Clocks that drift and jump.
    pub clocks: bool,
    /// Nodes that read slowly.
    pub slow_readers: bool,
}

impl Faults {
    /// All there are.
    pub const ALL: Self = Self {
        one_way: true,
        crashes: true,
        stops: true,
        clocks: true,
        slow_readers: true,
    };
}

/// Mistakes made on purpose, to prove that each invariant is able to break.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mistakes {
    /// In the registry of global names.
    pub global: global::Mutations,
    /// In groups.
    pub groups: groups::Mutations,
    /// In membership.
    pub membership: membership::Mutations,
    /// Large messages go past small ones.
    pub reorder_signals: bool,
    /// Actors that had to do with other nodes do not hear of nodes that are down.
    pub forget_remote: bool,
    /// Nobody is woken for a time-out.
    pub no_timers: bool,
    /// Senders to a slow peer do not pause.
    pub never_suspend: bool,
}

impl Mistakes {
    fn make_in(self, cluster: &mut Cluster) {
        cluster.global_mut().mutate(self.global);
        cluster.groups_mut().mutate(self.groups);
        cluster.membership_mut().mutate(self.membership);
    }
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            nodes: 3,
            hidden: false,
            active_ms: 20_000,
            fault_every_ms: 1_500,
            faults: Faults::ALL,
            action_every_ms: 20,
            names: 3,
            disconnects: false,
            mistakes: Mistakes::default(),
            only_mesh: false,
        }
    }
}

/// What a run did, to see that it did enough.
#[derive(Clone, Copy, Default, Debug)]
pub struct Stats {
    /// Steps of the event loop.
    pub steps: u64,
    /// Links that came up.
    pub node_ups: u64,
    /// Names granted.
    pub granted: u64,
    /// Claims that found the name taken.
    pub taken: u64,
    /// Claims that ran out of time.
    pub timeouts: u64,
    /// Locks granted.
    pub locked: u64,
    /// Names lost when halves met.
    pub conflicts: u64,
    /// Messages that reached actors.
    pub messages: u64,
    /// Monitors that told of an end.
    pub monitors_fired: u64,
    /// Links that told of an end to an actor that lived on.
    pub links_fired: u64,
    /// Requests that were answered by the actor asked.
    pub answered: u64,
    /// Requests that ran out of time.
    pub request_timeouts: u64,
    /// Requests whose connection went down.
    pub noconnections: u64,
    /// The most bytes that waited for one peer.
    pub most_queued_bytes: u64,
    /// Faults made.
    pub faults: u64,
}

impl std::ops::AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.steps += other.steps;
        self.node_ups += other.node_ups;
        self.granted += other.granted;
        self.taken += other.taken;
        self.timeouts += other.timeouts;
        self.locked += other.locked;
        self.conflicts += other.conflicts;
        self.messages += other.messages;
        self.monitors_fired += other.monitors_fired;
        self.links_fired += other.links_fired;
        self.answered += other.answered;
        self.request_timeouts += other.request_timeouts;
        self.noconnections += other.noconnections;
        self.most_queued_bytes = self.most_queued_bytes.max(other.most_queued_bytes);
        self.faults += other.faults;
    }
}

/// A run that broke an invariant.
#[derive(Debug)]
pub struct Failure {
    /// Run it again with this.
    pub seed: u64,
    /// Which invariant.
    pub invariant: &'static str,
    /// What broke it.
    pub what: String,
    /// The last events before that concern it, oldest first.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trace
            .iter()
            .try_for_each(|line| writeln!(f, "  {line}"))?;
        writeln!(
            f,
            "seed {} broke \"{}\": {}",
            self.seed, self.invariant, self.what
        )?;
        write!(
            f,
            "(to run it alone: WASM_NODE_SIM_SEED={} cargo test -p wasm-node-tests --test simulation)",
            self.seed
        )
    }
}

/// What a mesh of many nodes costs, in virtual time and on the wire.
#[derive(Clone, Copy, Default, Debug)]
pub struct MeshFigures {
    /// How many.
    pub nodes: usize,
    /// From the start of all nodes until all saw each other, in milliseconds.
    pub meshed_after_ms: u64,
    /// What a node wrote until then, in bytes.
    pub mesh_bytes: u64,
    /// What a node writes at rest, in bytes a second.
    pub rest_bytes_per_s: u64,
    /// The same in writes, which a real node makes packets of.
    pub rest_writes_per_s: u64,
    /// From a claim to its grant, in milliseconds.
    pub register_ms: u64,
    /// From a claim until every node knew the holder, in milliseconds.
    pub known_ms: u64,
    /// Messages of all nodes about that name.
    pub register_messages: u64,
    /// What the machines and links of a node take, in bytes; the simulator's own queues are in it.
    pub memory_bytes: u64,
    /// Steps of the event loop.
    pub steps: u64,
}

/// Starts so many nodes, each of which knows one other; lets them rest, then register a name.
///
/// # Errors
/// What did not happen in time, in words.
pub fn measure_mesh(nodes: usize) -> Result<MeshFigures, String> {
    let scenario = Scenario {
        nodes,
        fault_every_ms: 0,
        only_mesh: true,
        ..Scenario::default()
    };
    world::World::new(1, scenario, false).measure_mesh()
}

/// Runs one seed.
///
/// # Errors
/// An invariant broke; the trace is of a second, identical run.
pub fn run(seed: u64, scenario: &Scenario) -> Result<Stats, Box<Failure>> {
    let first = world::World::new(seed, scenario.clone(), false).run();
    match first {
        Ok(stats) => Ok(stats),
        Err(_) => world::World::new(seed, scenario.clone(), true).run(),
    }
}

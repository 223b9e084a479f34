//! A seeded simulator of whole clusters: the real protocol machines, virtual time, and a
//! network that delays, splits, cuts and resets.
//!
//! Contract: one seed, one run, to the last event. [`run`] checks the invariants after each
//! step and at the end; a failure carries the seed and a trace of the run's last events.
//!
//! - `rng`: where all chance comes from
//! - `network`: bytes in flight between nodes, paths that fail
//! - `node`: the machines of one node, wired as the real shell wires them
//! - `world`: the event loop, faults and workload
//! - `checks`: what must hold

mod checks;
mod network;
mod node;
mod rng;
mod world;

use std::fmt;

use wasm_node_protocol::global::Mutations;

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
    /// Milliseconds between two actions of actors, on average.
    pub action_every_ms: u64,
    /// Among how many global names claims choose.
    pub names: u64,
    /// Whether users disconnect and connect nodes.
    pub disconnects: bool,
    /// Mistakes made on purpose in the registry of global names.
    pub mutations: Mutations,
    /// Send large signals past small ones, on purpose.
    pub reorder_signals: bool,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            nodes: 3,
            hidden: false,
            active_ms: 20_000,
            fault_every_ms: 1_500,
            action_every_ms: 20,
            names: 3,
            disconnects: false,
            mutations: Mutations::default(),
            reorder_signals: false,
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
    /// Names lost when halves met.
    pub conflicts: u64,
    /// Signals delivered.
    pub signals: u64,
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
        self.conflicts += other.conflicts;
        self.signals += other.signals;
        self.faults += other.faults;
    }
}

/// A run that broke an invariant.
#[derive(Debug)]
pub struct Failure {
    /// Run it again with this.
    pub seed: u64,
    /// What broke.
    pub what: String,
    /// The last events before, oldest first.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trace
            .iter()
            .try_for_each(|line| writeln!(f, "  {line}"))?;
        writeln!(f, "seed {}: {}", self.seed, self.what)?;
        write!(
            f,
            "(to run it alone: WASM_NODE_SIM_SEED={} cargo test -p wasm-node-tests --test simulation)",
            self.seed
        )
    }
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

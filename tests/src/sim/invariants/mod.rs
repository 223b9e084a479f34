//! What must hold, one file each: while things happen, and once the cluster was left in peace.
//!
//! To add one: a file with a type that is an [`Invariant`], and a line in [`all`]. If it needs
//! actions of its own, they go into `world/actions`; if it needs to hear of what only the
//! workload knows, a case of [`Seen`].

mod answers;
mod bounds;
mod fates;
mod groups;
mod links;
mod membership;
mod monitors;
mod names;
mod order;
mod orphans;
mod requests;

use bytes::Bytes;
use wasm_node_protocol::cluster::ClusterOutput;
use wasm_node_protocol::global::RequestId;
use wasm_node_protocol::{Millis, NodeKind, Pid};

use super::Stats;
use super::network::{ConnId, NodeIndex};
use super::node::SimNode;
use super::process::Fact;
use super::trace::Topic;

/// All of them, for one run.
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::<membership::Membership>::default(),
        Box::<names::Names>::default(),
        Box::<orphans::Orphans>::default(),
        Box::<groups::Groups>::default(),
        Box::<answers::Answers>::default(),
        Box::<order::Order>::default(),
        Box::<links::Links>::default(),
        Box::<monitors::Monitors>::default(),
        Box::<requests::Requests>::default(),
        Box::<bounds::Bounds>::default(),
    ]
}

/// Something that must hold. Keeps what it has to remember of a run.
pub trait Invariant {
    /// What a failure is headed with.
    fn name(&self) -> &'static str;

    /// What lines of the trace tell how it broke.
    fn topics(&self) -> &'static [Topic];

    /// Something happened at a node.
    ///
    /// # Errors
    /// It must not have.
    fn saw(&mut self, _: &View<'_>, _: NodeIndex, _: &Seen<'_>) -> Result<(), Broken> {
        Ok(())
    }

    /// A node has done a step, and everything that it said was seen.
    ///
    /// # Errors
    /// It is in a state that must not be.
    fn after_step(&mut self, _: &View<'_>, _: NodeIndex) -> Result<(), Broken> {
        Ok(())
    }

    /// The cluster was left in peace for long enough.
    ///
    /// # Errors
    /// It has not come to rest as it must.
    fn at_rest(&mut self, _: &View<'_>) -> Result<(), Broken> {
        Ok(())
    }

    /// Adds what it counted.
    fn count(&self, _: &mut Stats) {}
}

/// What happened at a node.
#[derive(Debug)]
pub enum Seen<'a> {
    /// It starts.
    Started,
    /// It stops, with all that it has.
    Stopped,
    /// A user asks it to connect.
    Connecting(RequestId),
    /// An actor claims a global name.
    Claiming {
        /// Which claim.
        request: RequestId,
        /// The name.
        name: &'a str,
    },
    /// An actor joins a group, or leaves it; whether the machine did it.
    Grouped {
        /// The group.
        group: &'a str,
        /// The actor.
        pid: Pid,
        /// Joins, or leaves.
        joins: bool,
        /// Whether it was done.
        done: bool,
    },
    /// The cluster machine said so.
    Output(&'a ClusterOutput),
    /// A message of an actor came over a connection.
    Arrived {
        /// Which connection.
        conn: ConnId,
        /// For whom.
        to: Pid,
        /// The message.
        body: &'a Bytes,
    },
    /// Of its processes.
    Process(&'a Fact),
}

/// What an invariant may look at.
pub struct View<'a> {
    /// The nodes that run.
    pub nodes: &'a [Option<SimNode>],
    /// What each node's clock shows.
    pub clocks: &'a [Millis],
    /// For how many milliseconds of its own clock each node did not run, all in all.
    pub lost_ms: &'a [u64],
}

/// What broke, and whom it concerns.
#[derive(Debug)]
pub struct Broken {
    /// In words; actors and runs as the machines print them.
    pub what: String,
    /// Nodes; all, if none.
    pub nodes: Vec<NodeIndex>,
}

/// What broke, at these nodes.
pub fn broken<T>(nodes: &[NodeIndex], what: String) -> Result<T, Broken> {
    let nodes = nodes.to_vec();
    Err(Broken { what, nodes })
}

impl View<'_> {
    /// The nodes that run.
    pub fn running(&self) -> impl Iterator<Item = (NodeIndex, &SimNode)> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter_map(|(index, node)| Some((index, node.as_ref()?)))
    }

    /// The visible nodes that run.
    pub fn visible(&self) -> impl Iterator<Item = (NodeIndex, &SimNode)> {
        self.running()
            .filter(|(_, node)| node.cluster.hello().kind == NodeKind::Visible)
    }

    /// The node of an actor, if that run of it runs.
    pub fn home(&self, pid: Pid) -> Option<(NodeIndex, &SimNode)> {
        self.running()
            .find(|(_, node)| node.incarnation == pid.node)
    }

    /// Whether an actor is alive.
    pub fn is_alive(&self, pid: Pid) -> bool {
        self.home(pid)
            .is_some_and(|(_, node)| node.processes.is_alive(pid))
    }

    /// The places of these actors' nodes, as far as they run.
    pub fn homes(&self, pids: &[Pid]) -> Vec<NodeIndex> {
        let homes = pids.iter().filter_map(|pid| self.home(*pid));
        homes.map(|(index, _)| index).collect()
    }
}

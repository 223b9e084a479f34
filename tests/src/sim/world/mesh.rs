//! What a mesh costs: time to form, traffic at rest, a name for all.

use wasm_node_protocol::cluster::{ClusterInput, ClusterOutput};
use wasm_node_protocol::codec::WireMessage;
use wasm_node_protocol::global::{Resolver, Wish};

use super::World;
use crate::sim::MeshFigures;
use crate::sim::network::Micros;

/// Within this all nodes see each other.
const MESH_PATIENCE_US: Micros = 120_000_000;

/// What is under way when the last two nodes meet is over by then.
const SETTLE_US: Micros = 1_000_000;

/// For how long traffic at rest is counted: two ticks of each link.
const REST_US: Micros = 2_000_000;

/// Within this a name is granted, and known to all.
const NAME_PATIENCE_US: Micros = 30_000_000;

/// What all nodes together did.
#[derive(Default)]
pub(super) struct Counts {
    /// Node-ups without their node-downs.
    links_up: u64,
    bytes: u64,
    writes: u64,
    /// Messages about names.
    name_messages: u64,
    registered: u64,
    installed: u64,
}

impl Counts {
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.writes += 1;
        self.bytes += bytes as u64;
    }

    pub(super) fn saw(&mut self, output: &ClusterOutput) {
        match output {
            ClusterOutput::NodeUp { .. } => self.links_up += 1,
            ClusterOutput::NodeDown { .. } => self.links_up -= 1,
            ClusterOutput::Send {
                message: WireMessage::Global(_),
                ..
            } => self.name_messages += 1,
            ClusterOutput::Registered { result, .. } => {
                self.registered += u64::from(result.is_ok())
            }
            ClusterOutput::NameInstalled { .. } => self.installed += 1,
            _ => {}
        }
    }
}

impl World {
    /// See [`crate::sim::measure_mesh`].
    pub fn measure_mesh(mut self) -> Result<MeshFigures, String> {
        let nodes = self.nodes.len() as u64;
        let mut figures = MeshFigures {
            nodes: self.nodes.len(),
            ..MeshFigures::default()
        };
        let before = resident_bytes();
        for node in 0..self.nodes.len() {
            self.start(node);
        }
        let all = nodes * (nodes - 1);
        self.until(MESH_PATIENCE_US, |counts| counts.links_up == all)
            .ok_or_else(|| format!("{} of {all} links are up", self.mesh.links_up))?;
        figures.meshed_after_ms = self.now / 1000;
        figures.mesh_bytes = self.mesh.bytes / nodes;
        figures.memory_bytes = resident_bytes().saturating_sub(before) / nodes;

        self.until(SETTLE_US, |_| false);
        let (bytes, writes) = (self.mesh.bytes, self.mesh.writes);
        self.until(REST_US, |_| false);
        let per_s = |counted: u64| counted * 1_000_000 / REST_US / nodes;
        figures.rest_bytes_per_s = per_s(self.mesh.bytes - bytes);
        figures.rest_writes_per_s = per_s(self.mesh.writes - writes);
        if self.mesh.links_up != all {
            return Err(format!(
                "only {} of {all} links stayed up",
                self.mesh.links_up
            ));
        }

        let messages = self.mesh.name_messages;
        self.spawn(0);
        let pid = self.actor_of(0).ok_or("no actor")?;
        let request = self.request();
        let wish = Wish::Name {
            name: "name".into(),
            replace: false,
            resolver: Resolver::NotifyLoser,
        };
        let asked = self.now;
        self.with(0, |node, now| {
            node.input(now, ClusterInput::Claim { request, pid, wish })
        });
        self.until(NAME_PATIENCE_US, |counts| counts.registered == 1)
            .ok_or("the name was not granted")?;
        figures.register_ms = (self.now - asked) / 1000;
        self.until(NAME_PATIENCE_US, |counts| counts.installed == nodes)
            .ok_or_else(|| format!("only {} nodes know the name", self.mesh.installed))?;
        figures.known_ms = (self.now - asked) / 1000;
        figures.register_messages = self.mesh.name_messages - messages;
        figures.steps = self.stats.steps;
        match self.failed {
            None => Ok(figures),
            Some((invariant, _, broken)) => Err(format!("{invariant}: {}", broken.what)),
        }
    }

    /// Lets things happen until that holds, or for so long; none if it did not come to hold.
    fn until(&mut self, patience: Micros, holds: impl Fn(&Counts) -> bool) -> Option<()> {
        let end = self.now + patience;
        while !holds(&self.mesh) {
            if self.queue.peek().is_none_or(|next| next.0.at > end) {
                self.now = end;
                return None;
            }
            let next = self.queue.pop()?.0;
            self.now = next.at;
            self.stats.steps += 1;
            self.event(next.event);
        }
        Some(())
    }
}

/// What this process has in memory; 0 where the system does not say.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

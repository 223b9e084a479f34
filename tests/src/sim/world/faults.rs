//! What goes wrong, at random, and how it is mended.

use std::cmp::Reverse;

use wasm_node_protocol::membership::{DialTarget, MembershipInput};

use super::{Event, Mend, REST_US, World};
use crate::sim::network::{Micros, NodeIndex, Path};

impl World {
    pub(super) fn fault(&mut self) {
        self.stats.faults += 1;
        let count = self.nodes.len();
        let (a, b) = (
            self.rng.below(count as u64) as usize,
            self.rng.below(count as u64) as usize,
        );
        let lasts = if self.rng.chance(60) {
            self.rng.between(10_000, 1_500_000)
        } else {
            self.rng.between(1_000_000, 9_000_000)
        };
        match self.rng.below(100) {
            0..35 if a != b => {
                let path = if self.rng.chance(50) {
                    Path::Silent
                } else {
                    Path::Reset
                };
                self.set_path(a, b, path);
                self.plan_in(lasts, Event::Mend(Mend::Path(a, b)));
            }
            35..55 => {
                // One side against the other.
                let side = self.rng.below(1 << count);
                let path = if self.rng.chance(50) {
                    Path::Silent
                } else {
                    Path::Reset
                };
                for a in 0..count {
                    for b in a + 1..count {
                        if (side >> a) & 1 != (side >> b) & 1 {
                            self.set_path(a, b, path);
                            self.plan_in(lasts, Event::Mend(Mend::Path(a, b)));
                        }
                    }
                }
            }
            55..75 => self.crash(a, lasts),
            75..90 => {
                self.note(|| format!("n{a} is stopped"));
                self.paused.entry(a).or_default();
                self.plan_in(lasts, Event::Mend(Mend::Node(a)));
            }
            _ if a != b => {
                // A blip: all connections between two break, dialling works at once.
                self.set_path(a, b, Path::Reset);
                self.set_path(a, b, Path::Open);
            }
            _ => {}
        }
    }

    fn set_path(&mut self, a: NodeIndex, b: NodeIndex, path: Path) {
        self.note(|| format!("path n{a} - n{b}: {path:?}"));
        for conn in self.network.set_path(a, b, path, self.now) {
            for side in 0..2 {
                self.plan_in(0, Event::Deliver { conn, side });
            }
        }
    }

    fn crash(&mut self, node: NodeIndex, lasts: Micros) {
        if self.nodes[node].is_none() || self.paused.contains_key(&node) {
            return;
        }
        // A lost machine leaves its connections open, a killed process does not, and one that
        // is told to stop says goodbye.
        match self.rng.below(3) {
            0 => {
                self.note(|| format!("n{node} dies silently"));
                for (conn, side) in self.network.ends_of(node) {
                    self.network.vanish(conn, side);
                }
            }
            1 => {
                self.note(|| format!("n{node} dies"));
                for (conn, side) in self.network.ends_of(node) {
                    let at = self.now + self.delay();
                    if let Some(at) = self.network.close(conn, side, at) {
                        let side = 1 - side;
                        self.plan_in(at - self.now, Event::Deliver { conn, side });
                    }
                }
            }
            _ => {
                self.note(|| format!("n{node} leaves"));
                self.with(node, |node, now| node.input(now, MembershipInput::Leave));
                let left = self.network.ends_of(node);
                if !left.is_empty() {
                    self.check(Err(format!("n{node} left, but did not close {left:?}")));
                }
            }
        }
        self.nodes[node] = None;
        self.plan_in(lasts, Event::Mend(Mend::Restart(node)));
    }

    pub(super) fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::Path(a, b) => self.set_path(a, b, Path::Open),
            Mend::Node(node) => {
                if let Some(waiting) = self.paused.remove(&node) {
                    self.note(|| format!("n{node} goes on"));
                    for event in waiting {
                        // In the order they came: a stopped process finds its sockets as they are.
                        self.event(event);
                    }
                }
            }
            Mend::Restart(node) => {
                if self.nodes[node].is_none() {
                    self.start(node);
                }
            }
        }
    }

    /// Users connect all that users disconnected.
    pub(super) fn reconnect(&mut self) {
        for node in 0..self.scenario.nodes {
            for other in (0..self.scenario.nodes).filter(|other| *other != node) {
                let name = Self::name_of(other);
                self.connect(
                    node,
                    DialTarget::Node {
                        name,
                        address: None,
                    },
                    true,
                );
            }
        }
    }

    /// Everything heals, nobody does anything any more.
    pub(super) fn rest(&mut self) {
        self.note(|| "everything heals".into());
        let planned = std::mem::take(&mut self.queue);
        self.queue = planned
            .into_iter()
            .filter(|Reverse(queued)| !matches!(queued.event, Event::Act | Event::Fault))
            .collect();
        let count = self.nodes.len();
        for a in 0..count {
            for b in a + 1..count {
                self.set_path(a, b, Path::Open);
            }
        }
        for node in 0..count {
            self.mend(Mend::Node(node));
            self.mend(Mend::Restart(node));
        }
        if self.scenario.disconnects {
            self.plan_in(REST_US / 4, Event::Reconnect);
        }
    }
}

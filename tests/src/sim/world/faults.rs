//! What goes wrong, at random, and how it is mended.

use std::cmp::Reverse;

use wasm_node_protocol::membership::{DialTarget, MembershipInput};

use super::{Event, Mend, REST_US, World};
use crate::sim::invariants::Seen;
use crate::sim::network::{Micros, NodeIndex, Path};
use crate::sim::node::SimNode;
use crate::sim::trace::Topic;

impl World {
    pub(super) fn fault(&mut self) {
        self.stats.faults += 1;
        let count = self.nodes.len() as u64;
        let (a, b) = (
            self.rng.below(count) as usize,
            self.rng.below(count) as usize,
        );
        let lasts = if self.rng.chance(60) {
            self.rng.between(10_000, 1_500_000)
        } else {
            self.rng.between(1_000_000, 9_000_000)
        };
        let faults = self.scenario.faults;
        match self.rng.below(100) {
            0..18 if a != b => {
                let path = self.bad_path();
                self.cut(a, b, path, true, lasts);
            }
            18..28 if a != b && faults.one_way => self.cut(a, b, Path::Silent, false, lasts),
            28..44 => self.partition(lasts),
            44..62 if faults.crashes => self.crash(a, lasts),
            62..74 if faults.stops => self.stop(a, lasts),
            74..80 if a != b => {
                // A blip: all connections between two break, dialling works at once.
                self.set_path(a, b, Path::Reset);
                self.set_path(a, b, Path::Open);
                self.set_path(b, a, Path::Open);
            }
            80..86 if a != b => {
                let by = self.rng.between(20_000, 900_000);
                self.note(Topic::Fault, &[a, b], |_| {
                    format!("path n{a} -> n{b}: {} ms slower", by / 1000)
                });
                self.network.set_slower(a, b, by);
                self.plan_in(lasts, Event::Mend(Mend::Slower(a, b)));
            }
            86..93 if faults.slow_readers => {
                self.note(Topic::Fault, &[a], |_| format!("n{a} reads slowly"));
                self.slow.insert(a);
                self.plan_in(lasts, Event::Mend(Mend::Reader(a)));
            }
            93..100 if faults.clocks => self.jump(a),
            _ => {}
        }
    }

    fn bad_path(&mut self) -> Path {
        if self.rng.chance(50) {
            Path::Silent
        } else {
            Path::Reset
        }
    }

    /// A path fails for a while: both ways, or one.
    fn cut(&mut self, from: NodeIndex, to: NodeIndex, path: Path, both: bool, lasts: Micros) {
        self.set_path(from, to, path);
        self.plan_in(lasts, Event::Mend(Mend::Path(from, to)));
        if both {
            self.set_path(to, from, path);
            self.plan_in(lasts, Event::Mend(Mend::Path(to, from)));
        }
    }

    /// One side against the other: whole, with some paths left, or with one direction left.
    fn partition(&mut self, lasts: Micros) {
        let count = self.nodes.len();
        let side: Vec<_> = (0..count).map(|_| self.rng.chance(50)).collect();
        let path = self.bad_path();
        let leaky = self.rng.chance(30);
        let one_way = path == Path::Silent && self.scenario.faults.one_way && self.rng.chance(30);
        self.note(Topic::Fault, &[], |_| {
            let here: Vec<_> = (0..count).filter(|node| side[*node]).collect();
            format!("partition of {here:?} from the rest, leaky: {leaky}, one way: {one_way}")
        });
        for a in 0..count {
            for b in 0..count {
                if side[a] && !side[b] && !(leaky && self.rng.chance(40)) {
                    self.cut(a, b, path, !one_way, lasts);
                }
            }
        }
    }

    fn set_path(&mut self, from: NodeIndex, to: NodeIndex, path: Path) {
        if self.network.path(from, to) == path {
            return;
        }
        self.note(Topic::Fault, &[from, to], |_| {
            format!("path n{from} -> n{to}: {path:?}")
        });
        for conn in self.network.set_path(from, to, path, self.now) {
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
                self.note(Topic::Fault, &[node], |_| format!("n{node} dies silently"));
                for (conn, side) in self.network.ends_of(node) {
                    self.network.vanish(conn, side);
                }
            }
            1 => {
                self.note(Topic::Fault, &[node], |_| format!("n{node} is killed"));
                for (conn, side) in self.network.ends_of(node) {
                    let at = self.now + self.delay();
                    if let Some(at) = self.network.close(conn, side, at) {
                        let side = 1 - side;
                        self.plan_in(at - self.now, Event::Deliver { conn, side });
                    }
                }
            }
            _ => {
                self.note(Topic::Fault, &[node], |_| format!("n{node} leaves"));
                self.with(node, |node, now| node.input(now, MembershipInput::Leave));
                let left = self.network.ends_of(node);
                assert!(left.is_empty(), "n{node} left, but did not close {left:?}");
            }
        }
        self.nodes[node] = None;
        self.see(node, &Seen::Stopped);
        self.plan_in(lasts, Event::Mend(Mend::Restart(node)));
    }

    /// As by SIGSTOP: it does nothing, what comes waits.
    fn stop(&mut self, node: NodeIndex, lasts: Micros) {
        if self.nodes[node].is_none() || self.paused.contains_key(&node) {
            return;
        }
        self.note(Topic::Fault, &[node], |_| format!("n{node} is stopped"));
        self.paused.insert(node, (self.now, Vec::new()));
        self.plan_in(lasts, Event::Mend(Mend::Node(node)));
    }

    fn go_on(&mut self, node: NodeIndex) {
        let Some((since, waiting)) = self.paused.remove(&node) else {
            return;
        };
        self.note(Topic::Fault, &[node], |_| format!("n{node} goes on"));
        let clock = self.clocks[node];
        self.lost_ms[node] += clock.at(self.now) - clock.at(since) + 1;
        for event in waiting {
            // In the order they came: a stopped process finds its sockets as they are.
            self.event(event);
        }
    }

    fn jump(&mut self, node: NodeIndex) {
        if self.paused.contains_key(&node) {
            return;
        }
        let by = self.rng.between(50, 20_000);
        self.note(Topic::Fault, &[node], |_| {
            format!("the clock of n{node} jumps by {by} ms")
        });
        self.clocks[node].jump(by);
        self.lost_ms[node] += by;
        self.with(node, SimNode::wake);
    }

    pub(super) fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::Path(from, to) => self.set_path(from, to, Path::Open),
            Mend::Slower(from, to) => self.network.set_slower(from, to, 0),
            Mend::Reader(node) => {
                self.slow.remove(&node);
            }
            Mend::Node(node) => self.go_on(node),
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
                let name = self.names[other].clone();
                let address = None;
                self.connect(node, DialTarget::Node { name, address }, true);
            }
        }
    }

    /// Everything heals, nobody does anything any more.
    pub(super) fn rest(&mut self) {
        self.note(Topic::Fault, &[], |_| "everything heals".into());
        let planned = std::mem::take(&mut self.queue);
        self.queue = planned
            .into_iter()
            .filter(|Reverse(queued)| !matches!(queued.event, Event::Act | Event::Fault))
            .collect();
        let count = self.nodes.len();
        for a in 0..count {
            self.slow.remove(&a);
            for b in (0..count).filter(|b| *b != a) {
                self.set_path(a, b, Path::Open);
                self.network.set_slower(a, b, 0);
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

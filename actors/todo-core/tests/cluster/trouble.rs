//! Crashes, freezes, cuts, and the way back.

use todo_core::record::Key;
use todo_core::worker::{Waiting, Worker};

use super::world::Host;
use super::{Event, NODES, Sim, Troubles, What};

impl Sim {
    pub(crate) fn crash(&mut self, node: usize) {
        let dead = &mut self.nodes[node];
        if !dead.up {
            return;
        }
        (dead.up, dead.frozen, dead.worker) = (false, false, None);
        dead.servers.clear();
        dead.names.clear();
        dead.parked.clear();
        dead.asked.clear();
        dead.peers.clear();
        self.gone(|(place, _)| place.node == node);
        for other in 0..NODES {
            self.disconnect(node, other);
        }
        let after = 500 + self.rand(5_000);
        self.at(after, What::Restart(node));
    }

    pub(crate) fn restart(&mut self, node: usize) {
        if self.nodes[node].up {
            return;
        }
        self.nodes[node].place.run += 1;
        self.nodes[node].up = true;
        let keys: Vec<_> = self.nodes[node]
            .disk
            .keys()
            .map(|key| Key::parse(key))
            .collect();
        let keys = keys.into_iter().map(|key| key.expect("a key"));
        let (worker, out) = {
            let now_ms = self.now_ms;
            let here = &mut self.nodes[node];
            let mut host = Host {
                disk: &mut here.disk,
                peers: Vec::new(),
                now_ms,
                random: &mut self.random,
                troubles: false,
                crashed: false,
                out: Vec::new(),
            };
            (Worker::new(&mut host, keys, Waiting::default()), host.out)
        };
        self.nodes[node].worker = Some(worker);
        self.carry_out(node, out);
        self.local(node, Event::Tick);
        for other in 0..NODES {
            let after = self.rand(800);
            self.at(after, What::Connect(node, other));
        }
    }

    pub(crate) fn freeze(&mut self, node: usize, for_ms: u64) {
        if !self.nodes[node].up || self.nodes[node].frozen {
            return;
        }
        self.nodes[node].frozen = true;
        self.at(for_ms, What::Thaw(node));
    }

    pub(crate) fn thaw(&mut self, node: usize) {
        if !self.nodes[node].frozen {
            return;
        }
        self.nodes[node].frozen = false;
        self.nodes[node].thawed_ms = self.now_ms;
        let place = self.nodes[node].place;
        for (link, event) in std::mem::take(&mut self.nodes[node].parked) {
            self.at(
                0,
                What::Node {
                    to: place,
                    link,
                    event,
                },
            );
        }
        // It takes a moment to see that others have hung up, and more to meet again.
        let after = 1_000 + self.rand(3_000);
        for other in 0..NODES {
            self.at(after, What::Connect(node, other));
        }
    }

    pub(crate) fn trouble(&mut self) {
        if self.quiet {
            return;
        }
        let after = 500 + self.rand(6_000);
        self.at(after, What::Trouble);
        let (a, b) = (
            self.rand(NODES as u64) as usize,
            self.rand(NODES as u64) as usize,
        );
        match (self.troubles, self.rand(4)) {
            (Troubles::All, 0) => self.crash(a),
            (Troubles::All, 1) => {
                self.disconnect(a, b);
                let after = self.rand(8_000);
                self.at(after, What::Connect(a, b));
            }
            (Troubles::All, 2) => {
                (0..NODES).for_each(|other| self.disconnect(a, other));
                for other in 0..NODES {
                    let after = 2_000 + self.rand(6_000);
                    self.at(after, What::Connect(a, other));
                }
            }
            // Freezes alone must leave two nodes together.
            _ if !self.whole() => {}
            _ => {
                let for_ms = self.rand(9_000);
                self.freeze(a, for_ms);
            }
        }
    }

    pub(crate) fn frozen_for(&mut self, node: usize) -> u64 {
        let key = (node + 100, node);
        if !self.nodes[node].frozen {
            self.fifo_ms.remove(&key);
            return 0;
        }
        self.now_ms - *self.fifo_ms.entry(key).or_insert(self.now_ms)
    }
}

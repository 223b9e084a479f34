//! What actors and users do, at random.

use wasm_node_protocol::Pid;
use wasm_node_protocol::cluster::ClusterInput;
use wasm_node_protocol::global::{Resolver, Wish};
use wasm_node_protocol::membership::MembershipInput;

use super::World;
use crate::sim::checks;
use crate::sim::network::NodeIndex;

impl World {
    /// One thing that an actor or a user does.
    pub(super) fn act(&mut self) {
        let alive: Vec<_> = (0..self.nodes.len())
            .filter(|node| self.nodes[*node].is_some() && !self.paused.contains_key(node))
            .collect();
        let Some(&node) = self.rng.pick(&alive) else {
            return;
        };
        let actors: Vec<_> = self.observed[node].actors.iter().copied().collect();
        let actor = self.rng.pick(&actors).copied();
        let name = format!("name{}", self.rng.below(self.scenario.names));
        match (self.rng.below(100), actor) {
            (0..25, Some(pid)) => self.register(node, name, pid),
            (25..30, _) => {
                // Two nodes at the same moment.
                for node in alive {
                    let pid = self.new_actor(node);
                    self.observed[node].actors.insert(pid);
                    self.register(node, name.clone(), pid);
                }
            }
            (30..42, _) => {
                self.note(|| format!("n{node}: unregister {name}"));
                self.with(node, |node, now| {
                    node.unregister(now, &name);
                });
            }
            (42..52, Some(pid)) => {
                self.note(|| format!("n{node}: {pid:?} ends"));
                self.observed[node].actors.remove(&pid);
                self.observed[node]
                    .groups
                    .retain(|(_, member)| *member != pid);
                let new = self.new_actor(node);
                self.observed[node].actors.insert(new);
                self.with(node, |node, now| {
                    node.input(now, ClusterInput::ActorDown { pid })
                });
            }
            (52..60, Some(pid)) => self.group(node, pid, true),
            (60..66, Some(pid)) => self.group(node, pid, false),
            (66..68, _) if self.scenario.disconnects => self.disconnect(node),
            (_, Some(pid)) => self.signal(node, pid),
            _ => {}
        }
    }

    fn register(&mut self, node: NodeIndex, name: String, pid: Pid) {
        self.note(|| format!("n{node}: register {name} for {pid:?}"));
        let request = self.request();
        self.observed[node]
            .claims
            .insert(request, (name.clone(), pid, self.now));
        let wish = Wish::Name {
            name,
            replace: false,
            resolver: Resolver::default(),
        };
        self.with(node, |node, now| {
            node.input(now, ClusterInput::Claim { request, pid, wish })
        });
    }

    fn group(&mut self, node: NodeIndex, pid: Pid, join: bool) {
        let group = format!("group{}", self.rng.below(2));
        let mut done = false;
        self.with(node, |node, now| done = node.group(now, &group, pid, join));
        let groups = &mut self.observed[node].groups;
        if done && join {
            groups.push((group, pid));
        } else if let Some(place) = groups
            .iter()
            .position(|membership| *membership == (group.clone(), pid))
        {
            groups.remove(place);
            if !done {
                self.check(Err(format!("n{node}: {pid:?} could not leave {group}")));
            }
        }
    }

    fn disconnect(&mut self, node: NodeIndex) {
        let Some(running) = &self.nodes[node] else {
            return;
        };
        let peers: Vec<_> = running
            .cluster
            .peers()
            .map(|(_, peer)| peer.name.clone())
            .collect();
        let Some(peer) = self.rng.pick(&peers).cloned() else {
            return;
        };
        self.note(|| format!("n{node}: disconnect {peer}"));
        self.with(node, |node, now| {
            node.input(now, MembershipInput::Disconnect { node: peer })
        });
    }

    fn signal(&mut self, node: NodeIndex, from: Pid) {
        let Some(running) = &self.nodes[node] else {
            return;
        };
        let peers: Vec<_> = running
            .cluster
            .peers()
            .map(|(_, peer)| (peer.name.clone(), peer.incarnation))
            .collect();
        let Some((peer, run)) = self.rng.pick(&peers).cloned() else {
            return;
        };
        let Some(conn) = running.conn_to(&peer) else {
            return;
        };
        let to = Pid {
            node: run,
            serial: self.rng.between(1, 2),
        };
        for _ in 0..self.rng.between(1, 5) {
            let number = self
                .sent
                .entry((from, to))
                .and_modify(|number| *number += 1)
                .or_insert(1);
            let filling = match self.rng.below(40) {
                0 => self.rng.between(60_000, 200_000),
                1..4 => self.rng.between(1_000, 20_000),
                _ => self.rng.below(200),
            };
            let body = checks::signal_body(conn, *number, filling as usize);
            self.with(node, |node, now| node.signal(now, from, to, &peer, body));
        }
    }
}

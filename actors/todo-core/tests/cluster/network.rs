//! Links, names, and who hears of what when they change.

use todo_core::list::ListName;
use todo_core::worker::PeerError;

use super::{Event, NODES, Node, Place, Sim, What, pair};

impl Sim {
    /// Sends from one node to another, or within one, in order.
    pub(crate) fn send(&mut self, from: usize, to: Place, event: Event) {
        let delay = self.rand(if from == to.node { 2 } else { 20 });
        let due = (self.now_ms + delay).max(*self.fifo_ms.get(&(from, to.node)).unwrap_or(&0));
        self.fifo_ms.insert((from, to.node), due);
        let link = (from != to.node).then(|| (from, self.link(from, to.node)));
        self.at(due - self.now_ms, What::Node { to, link, event });
    }

    pub(crate) fn link(&self, a: usize, b: usize) -> u64 {
        *self.links.get(&pair(a, b)).unwrap_or(&0)
    }

    pub(crate) fn connected(&self, a: usize, b: usize) -> bool {
        self.link(a, b) % 2 == 1
    }

    pub(crate) fn connect(&mut self, a: usize, b: usize) {
        let ready = |node: &Node| node.up && !node.frozen;
        let (ready_a, ready_b) = (ready(&self.nodes[a]), ready(&self.nodes[b]));
        if a == b || self.connected(a, b) || !ready_a || !ready_b {
            return;
        }
        // A node that has not yet noticed that the old link is gone does so first.
        self.sees_down(a, b);
        self.sees_down(b, a);
        *self.links.entry(pair(a, b)).or_default() += 1;
        for (here, there) in [(a, b), (b, a)] {
            self.nodes[here].peers.insert(there);
            self.local(here, Event::NodeUp(there));
        }
        // Names meet: of two holders the one on the lesser node stays.
        let names = |sim: &Self, node: usize| sim.nodes[node].names.clone();
        for (list, (place, serial)) in names(self, a).into_iter().chain(names(self, b)) {
            self.claim(list, place, serial);
        }
    }

    /// A name is made known wherever its holder's node is connected; one holder stays.
    pub(crate) fn claim(&mut self, list: ListName, place: Place, serial: u64) {
        for node in 0..NODES {
            if node != place.node && !self.connected(node, place.node) {
                continue;
            }
            match self.nodes[node].names.get(&list).copied() {
                Some(other) if other < (place, serial) => {
                    if self.nodes[place.node].names.get(&list) == Some(&(place, serial)) {
                        self.nodes[place.node].names.insert(list.clone(), other);
                    }
                    return self.end_server(place, serial);
                }
                Some(other) if other != (place, serial) => {
                    self.nodes[node].names.insert(list.clone(), (place, serial));
                    self.end_server(other.0, other.1);
                }
                _ => {
                    self.nodes[node].names.insert(list.clone(), (place, serial));
                }
            }
        }
    }

    pub(crate) fn end_server(&mut self, place: Place, serial: u64) {
        if self.nodes[place.node].place == place {
            self.nodes[place.node].servers.remove(&serial);
        }
        self.gone(|at| at == (place, serial));
    }

    /// Clients whose server, or the way to it, is gone hear of it.
    pub(crate) fn gone(&mut self, lost: impl Fn((Place, u64)) -> bool) {
        for client in 0..self.clients.len() {
            let ask = &self.clients[client];
            if !ask.done && ask.at.is_some_and(&lost) {
                let attempt = ask.attempt;
                self.at(
                    1,
                    What::Client {
                        client,
                        attempt,
                        reply: None,
                    },
                );
            }
        }
    }

    pub(crate) fn disconnect(&mut self, a: usize, b: usize) {
        if self.connected(a, b) {
            *self.links.entry(pair(a, b)).or_default() += 1;
        }
        for (here, there) in [(a, b), (b, a)] {
            if !self.nodes[here].frozen {
                self.sees_down(here, there);
            }
        }
    }

    /// A node learns that another is gone.
    pub(crate) fn sees_down(&mut self, here: usize, there: usize) {
        if !self.nodes[here].peers.remove(&there) {
            return;
        }
        self.local(here, Event::NodeDown(there));
        self.nodes[here]
            .names
            .retain(|_, (place, _)| place.node != there);
        let place = self.nodes[here].place;
        let asked = self.nodes[here]
            .asked
            .iter()
            .filter(|(_, node)| **node == there);
        for ticket in asked.map(|(ticket, _)| *ticket).collect::<Vec<_>>() {
            self.nodes[here].asked.remove(&ticket);
            let event = Event::Answer(ticket, Err(PeerError::Failed("noconnection".into())));
            self.send(here, place, event);
        }
        for client in 0..self.clients.len() {
            let ask = &self.clients[client];
            if !ask.done && ask.node == here && ask.at.is_some_and(|(at, _)| at.node == there) {
                let attempt = ask.attempt;
                self.at(
                    1,
                    What::Client {
                        client,
                        attempt,
                        reply: None,
                    },
                );
            }
        }
    }

    pub(crate) fn local(&mut self, node: usize, event: Event) {
        let place = self.nodes[node].place;
        self.send(node, place, event);
    }

    pub(crate) fn whole(&self) -> bool {
        let well = self.nodes.iter().all(|node| node.up && !node.frozen);
        well && [(0, 1), (0, 2), (1, 2)]
            .iter()
            .all(|&(a, b)| self.connected(a, b))
    }
}

//! Who hears of nodes' coming and going: Erlang's `monitor_nodes/1` and `monitor_node/2`.
//!
//! Contract: an actor that subscribes gets each event once, however often it subscribed. A
//! monitor of one node is told of that node's next end, once, and is used up by it; several of
//! one node count, as in Erlang. An actor that asked for both gets both.
//!
//! Values and rules only: does not know how events arise, nor how actors are told.

use std::collections::{HashMap, HashSet};

use wasm_node_protocol::{NodeName, Pid};

/// Monitors of single nodes that one actor may have; beyond that it ends with a `limit` reason.
pub(super) const MAX_NODE_MONITORS: u32 = 10_000;

#[derive(Default)]
pub(super) struct NodeWatch {
    subscribers: HashSet<Pid>,
    monitors: HashMap<Pid, Monitors>,
}

#[derive(Default)]
struct Monitors {
    of: HashMap<NodeName, u32>,
    total: u32,
}

/// The actor has [`MAX_NODE_MONITORS`] already.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl NodeWatch {
    /// Whether the actor hears of all nodes from now on.
    pub fn subscribe(&mut self, actor: Pid, on: bool) {
        match on {
            true => self.subscribers.insert(actor),
            false => self.subscribers.remove(&actor),
        };
    }

    /// One more monitor of a node.
    pub fn monitor(&mut self, actor: Pid, node: &NodeName) -> Result<(), TooMany> {
        let monitors = self.monitors.entry(actor).or_default();
        if monitors.total >= MAX_NODE_MONITORS {
            return Err(TooMany);
        }
        monitors.total += 1;
        *monitors.of.entry(node.clone()).or_default() += 1;
        Ok(())
    }

    /// One monitor of a node less, if there is one.
    pub fn demonitor(&mut self, actor: Pid, node: &NodeName) {
        let Some(monitors) = self.monitors.get_mut(&actor) else {
            return;
        };
        if let Some(count) = monitors.of.get_mut(node) {
            *count -= 1;
            monitors.total -= 1;
            if *count == 0 {
                monitors.of.remove(node);
            }
        }
        if monitors.total == 0 {
            self.monitors.remove(&actor);
        }
    }

    /// Those who hear that a node is up.
    pub fn on_up(&self) -> Vec<Pid> {
        self.subscribers.iter().copied().collect()
    }

    /// Those who hear that a node is down, once for each time that they are told.
    pub fn on_down(&mut self, node: &NodeName) -> Vec<Pid> {
        let mut told = self.on_up();
        told.extend(self.end_monitors(node));
        told
    }

    /// Uses up all monitors of a node: their actors, once for each.
    pub fn end_monitors(&mut self, node: &NodeName) -> Vec<Pid> {
        let mut told = Vec::new();
        self.monitors.retain(|actor, monitors| {
            if let Some(count) = monitors.of.remove(node) {
                monitors.total -= count;
                told.extend((0..count).map(|_| *actor));
            }
            monitors.total > 0
        });
        told
    }

    /// The actor has ended.
    pub fn actor_gone(&mut self, actor: Pid) {
        self.subscribers.remove(&actor);
        self.monitors.remove(&actor);
    }
}

#[cfg(test)]
mod tests {
    use wasm_node_protocol::Incarnation;

    use super::*;

    fn pid(serial: u64) -> Pid {
        Pid {
            node: Incarnation(1),
            serial,
        }
    }

    fn node(text: &str) -> NodeName {
        text.parse().unwrap()
    }

    #[test]
    fn a_subscriber_hears_once_a_monitor_as_often_as_it_was_set() {
        let mut watch = NodeWatch::default();
        let (b, c) = (node("b@h"), node("c@h"));
        watch.subscribe(pid(1), true);
        watch.subscribe(pid(1), true);
        for of in [&b, &b, &c, &b] {
            watch.monitor(pid(2), of).unwrap();
        }
        watch.demonitor(pid(2), &b);
        watch.demonitor(pid(3), &b);
        assert_eq!(watch.on_up(), [pid(1)]);
        assert_eq!(watch.on_down(&b), [pid(1), pid(2), pid(2)]);
        // Used up.
        assert_eq!(watch.on_down(&b), [pid(1)]);
        watch.subscribe(pid(1), false);
        assert_eq!(watch.on_down(&c), [pid(2)]);
        assert!(watch.monitors.is_empty());
    }

    #[test]
    fn monitors_are_bounded_and_go_with_their_actor() {
        let mut watch = NodeWatch::default();
        let b = node("b@h");
        for _ in 0..MAX_NODE_MONITORS {
            watch.monitor(pid(1), &b).unwrap();
        }
        assert_eq!(watch.monitor(pid(1), &b), Err(TooMany));
        assert_eq!(watch.monitor(pid(2), &b), Ok(()));
        watch.actor_gone(pid(1));
        assert_eq!(watch.on_down(&b), [pid(2)]);
    }
}

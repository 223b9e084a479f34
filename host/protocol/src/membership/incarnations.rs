//! Which node each incarnation is, or was: needed to name and number the node of a pid.
//!
//! Owns the two-way map, bounded by [`MAX_KNOWN_INCARNATIONS`]: beyond it the oldest that is
//! not the latest run of its node is forgotten, then the oldest. Does not know who is up.

use std::collections::{HashMap, VecDeque};

use crate::ids::{Incarnation, NodeName};

/// How many runs of other nodes are remembered; pids of forgotten ones have no node name.
pub const MAX_KNOWN_INCARNATIONS: usize = 4096;

#[derive(Debug)]
pub(super) struct Incarnations {
    names: HashMap<Incarnation, (NodeName, u32)>,
    latest: HashMap<NodeName, Incarnation>,
    /// Without this node's own.
    oldest_first: VecDeque<Incarnation>,
    next_number: u32,
}

impl Incarnations {
    pub fn new(own: Incarnation, name: NodeName) -> Self {
        Self {
            names: HashMap::from([(own, (name.clone(), 0))]),
            latest: HashMap::from([(name, own)]),
            oldest_first: VecDeque::new(),
            next_number: 1,
        }
    }

    /// This run of that node is up.
    pub fn insert(&mut self, incarnation: Incarnation, name: &NodeName) {
        self.latest.insert(name.clone(), incarnation);
        if self.names.contains_key(&incarnation) {
            return;
        }
        self.names
            .insert(incarnation, (name.clone(), self.next_number));
        self.next_number = self.next_number.wrapping_add(1);
        self.oldest_first.push_back(incarnation);
        if self.oldest_first.len() > MAX_KNOWN_INCARNATIONS {
            self.forget_one();
        }
    }

    fn forget_one(&mut self) {
        let old_run = self
            .oldest_first
            .iter()
            .position(|run| !self.is_latest(*run));
        let Some(forgotten) = self.oldest_first.remove(old_run.unwrap_or(0)) else {
            return;
        };
        let latest = self.is_latest(forgotten);
        if let Some((name, _)) = self.names.remove(&forgotten)
            && latest
        {
            self.latest.remove(&name);
        }
    }

    fn is_latest(&self, incarnation: Incarnation) -> bool {
        let name = self.names.get(&incarnation).map(|(name, _)| name);
        name.is_some_and(|name| self.latest.get(name) == Some(&incarnation))
    }

    /// Whether a later run of the same node was up since.
    pub fn is_superseded(&self, incarnation: Incarnation) -> bool {
        self.names.contains_key(&incarnation) && !self.is_latest(incarnation)
    }

    /// The latest run of that node that was up.
    pub fn latest(&self, name: &NodeName) -> Option<Incarnation> {
        self.latest.get(name).copied()
    }

    pub fn name(&self, incarnation: Incarnation) -> Option<&NodeName> {
        self.names.get(&incarnation).map(|(name, _)| name)
    }

    pub fn number(&self, incarnation: Incarnation) -> Option<u32> {
        self.names.get(&incarnation).map(|(_, number)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NodeName {
        text.parse().unwrap()
    }

    #[test]
    fn a_later_run_supersedes_and_both_stay_named() {
        let mut known = Incarnations::new(Incarnation(1), name("a@h"));
        known.insert(Incarnation(2), &name("b@h"));
        known.insert(Incarnation(3), &name("b@h"));
        assert!(known.is_superseded(Incarnation(2)));
        assert!(!known.is_superseded(Incarnation(3)));
        assert_eq!(known.name(Incarnation(2)), Some(&name("b@h")));
        assert_eq!(known.number(Incarnation(1)), Some(0));
        assert_eq!(known.number(Incarnation(3)), Some(2));
    }

    #[test]
    fn the_map_is_bounded_and_keeps_the_latest_runs() {
        let mut known = Incarnations::new(Incarnation(1), name("a@h"));
        known.insert(Incarnation(2), &name("stable@h"));
        for run in 0..2 * MAX_KNOWN_INCARNATIONS as u64 {
            known.insert(Incarnation(1000 + run), &name("restless@h"));
        }
        assert_eq!(known.names.len(), MAX_KNOWN_INCARNATIONS + 1);
        assert_eq!(known.name(Incarnation(2)), Some(&name("stable@h")));
        assert_eq!(known.name(Incarnation(1000)), None);
    }
}

//! The facts: which node says that its actor holds which name.
//!
//! Owns them and the rule between contradicting ones. Every change says what it did to the
//! winner, so that a copy for look-ups can follow. Does not know claims or messages.

use std::collections::BTreeMap;

use crate::ids::{NodeName, Pid};

/// What a new fact, or the end of one, did to who counts as the holder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// This is the holder now.
    Holder(Pid),
    /// There is none now.
    Removed,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    /// Sorted by the node's name, so that the first wins; nearly always one.
    facts: BTreeMap<String, Vec<(NodeName, Pid)>>,
    /// Which names each node holds.
    by_node: BTreeMap<NodeName, BTreeMap<String, Pid>>,
}

impl Table {
    /// `node`'s actor holds the name from now on.
    pub fn insert(&mut self, node: &NodeName, name: &str, pid: Pid) -> Change {
        let before = self.holder(name);
        let facts = self.facts.entry(name.into()).or_default();
        facts.retain(|(owner, _)| owner != node);
        let place = facts.partition_point(|(owner, _)| owner < node);
        facts.insert(place, (node.clone(), pid));
        self.by_node
            .entry(node.clone())
            .or_default()
            .insert(name.into(), pid);
        self.change(name, before)
    }

    /// `node`'s actor holds it no longer.
    pub fn remove(&mut self, node: &NodeName, name: &str) -> Change {
        let before = self.holder(name);
        if let Some(facts) = self.facts.get_mut(name) {
            facts.retain(|(owner, _)| owner != node);
            if facts.is_empty() {
                self.facts.remove(name);
            }
        }
        if let Some(names) = self.by_node.get_mut(node) {
            names.remove(name);
            if names.is_empty() {
                self.by_node.remove(node);
            }
        }
        self.change(name, before)
    }

    fn change(&self, name: &str, before: Option<Pid>) -> Change {
        match self.holder(name) {
            after if after == before => Change::None,
            Some(pid) => Change::Holder(pid),
            None => Change::Removed,
        }
    }

    /// The holder that counts.
    pub fn holder(&self, name: &str) -> Option<Pid> {
        self.facts.get(name)?.first().map(|(_, pid)| *pid)
    }

    /// The actor that `node` says holds it.
    pub fn held_by(&self, node: &NodeName, name: &str) -> Option<Pid> {
        self.by_node.get(node)?.get(name).copied()
    }

    /// How many names `node`'s actors hold.
    pub fn count(&self, node: &NodeName) -> usize {
        self.by_node.get(node).map_or(0, BTreeMap::len)
    }

    /// All names of `node`'s actors, sorted.
    pub fn names_of(&self, node: &NodeName) -> impl Iterator<Item = (&String, Pid)> {
        self.by_node
            .get(node)
            .into_iter()
            .flatten()
            .map(|(name, pid)| (name, *pid))
    }

    /// All names with their holders, sorted.
    pub fn holders(&self) -> impl Iterator<Item = (&str, Pid)> {
        self.facts
            .iter()
            .filter_map(|(name, facts)| Some((name.as_str(), facts.first()?.1)))
    }
}

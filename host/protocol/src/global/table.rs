//! The facts: which node says that its actor holds which name.
//!
//! Owns them and the rule between contradicting ones. Every change says what it did to the
//! winner, so that a copy for look-ups can follow. Does not know claims or messages.

use std::collections::BTreeMap;

use super::api::{NameFact, Resolver};
use crate::ids::{NodeName, Pid};

/// What a new fact, or the end of one, did to who counts as the holder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// This is the holder now.
    Holder(Pid),
    /// There is none now; this was the last.
    Removed(Pid),
}

/// How one node's actor holds a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Holding {
    pub pid: Pid,
    pub resolver: Resolver,
}

/// Sorted: those that were replaced last, then by the node's name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Fact {
    /// Another node's claim replaced this holder, who has not taken it back yet.
    replaced: bool,
    node: NodeName,
    pid: Pid,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    /// The first counts; nearly always one.
    facts: BTreeMap<String, Vec<Fact>>,
    /// Which names each node holds.
    by_node: BTreeMap<NodeName, BTreeMap<String, Holding>>,
}

impl Table {
    /// `node`'s actor holds the name from now on, instead of all others if it replaces them.
    /// Their facts are their nodes' to take back; until then they count behind this one.
    pub fn insert(
        &mut self,
        node: &NodeName,
        name: &str,
        holding: Holding,
        replaces: bool,
    ) -> Change {
        let before = self.holder(name);
        let facts = self.facts.entry(name.into()).or_default();
        facts.retain(|fact| fact.node != *node);
        if replaces {
            facts.iter_mut().for_each(|fact| fact.replaced = true);
        }
        facts.push(Fact {
            replaced: false,
            node: node.clone(),
            pid: holding.pid,
        });
        facts.sort_unstable();
        self.by_node
            .entry(node.clone())
            .or_default()
            .insert(name.into(), holding);
        self.change(name, before)
    }

    /// `node`'s actor holds it no longer.
    pub fn remove(&mut self, node: &NodeName, name: &str) -> Change {
        let before = self.holder(name);
        if let Some(facts) = self.facts.get_mut(name) {
            facts.retain(|fact| fact.node != *node);
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
        match (before, self.holder(name)) {
            (before, after) if after == before => Change::None,
            (_, Some(pid)) => Change::Holder(pid),
            (Some(last), None) => Change::Removed(last),
            (None, None) => Change::None,
        }
    }

    /// The holder that counts.
    pub fn holder(&self, name: &str) -> Option<Pid> {
        self.facts.get(name)?.first().map(|fact| fact.pid)
    }

    /// The node of that holder.
    pub fn owner(&self, name: &str) -> Option<&NodeName> {
        self.facts.get(name)?.first().map(|fact| &fact.node)
    }

    /// How an actor of `node` holds it.
    pub fn held_by(&self, node: &NodeName, name: &str) -> Option<&Holding> {
        self.by_node.get(node)?.get(name)
    }

    /// How many names `node`'s actors hold.
    pub fn count(&self, node: &NodeName) -> usize {
        self.by_node.get(node).map_or(0, BTreeMap::len)
    }

    /// All names of `node`'s actors, sorted.
    pub fn names_of(&self, node: &NodeName) -> impl Iterator<Item = (&str, &Holding)> {
        let names = self.by_node.get(node).into_iter().flatten();
        names.map(|(name, holding)| (name.as_str(), holding))
    }

    /// The same, to be told.
    pub fn facts_of(&self, node: &NodeName) -> Vec<NameFact> {
        let names = self.names_of(node);
        let facts = names.map(|(name, holding)| NameFact {
            name: name.into(),
            pid: holding.pid,
            resolver: holding.resolver.clone(),
        });
        facts.collect()
    }

    /// All names with their holders, sorted.
    pub fn holders(&self) -> impl Iterator<Item = (&str, Pid)> {
        self.facts
            .iter()
            .filter_map(|(name, facts)| Some((name.as_str(), facts.first()?.pid)))
    }
}

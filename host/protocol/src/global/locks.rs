//! Locks: which node says that its actors hold which, for whom, and the actors of this node
//! behind that.
//!
//! A fact says that a node holds a lock for a requester. The node alone knows for which of its
//! actors: a further one of the same requester needs nobody's consent, and the fact ends with
//! the last of them. So a lock is exclusive among requesters, not among actors, as in OTP.
//!
//! Facts of two halves of a cluster that contradict each other stay, both: neither half's
//! holder can be told that it never had the lock. While more than one requester holds it,
//! nobody is in nobody's way: no further node gets the lock until the others' holders let go.
//!
//! Owns the facts and the actors. Does not know how a claim comes to be granted (`claims`
//! does), nor messages.

use std::collections::{BTreeMap, BTreeSet};

use super::api::{LockFact, Requester};
use crate::ids::{NodeName, Pid};

#[derive(Debug)]
struct Holding {
    requester: Requester,
    /// One of its actors, for whoever asks.
    pid: Pid,
}

#[derive(Debug, Default)]
pub(super) struct Locks {
    facts: BTreeMap<String, BTreeMap<NodeName, Holding>>,
    by_node: BTreeMap<NodeName, BTreeSet<String>>,
    /// The actors of this node that hold each lock.
    actors: BTreeMap<String, BTreeSet<Pid>>,
    by_actor: BTreeMap<Pid, BTreeSet<String>>,
}

/// What an actor's letting go did to its node's fact.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum LetGo {
    /// It did not hold the lock.
    Nothing,
    /// Others of its requester hold it still: the fact names one of them now.
    Shared(LockFact),
    /// The fact is over.
    Ended,
}

impl Locks {
    /// A node says that its actors hold a lock.
    pub fn insert(&mut self, node: &NodeName, fact: LockFact) {
        let LockFact {
            resource,
            requester,
            pid,
        } = fact;
        self.by_node
            .entry(node.clone())
            .or_default()
            .insert(resource.clone());
        self.facts
            .entry(resource)
            .or_default()
            .insert(node.clone(), Holding { requester, pid });
    }

    /// A node says that they do no longer.
    pub fn remove(&mut self, node: &NodeName, resource: &str) {
        if let Some(facts) = self.facts.get_mut(resource) {
            facts.remove(node);
            if facts.is_empty() {
                self.facts.remove(resource);
            }
        }
        if let Some(resources) = self.by_node.get_mut(node) {
            resources.remove(resource);
            if resources.is_empty() {
                self.by_node.remove(node);
            }
        }
    }

    /// Somebody else's actor that holds a lock, if there is one: in the way of this requester.
    pub fn obstacle(&self, resource: &str, requester: &Requester) -> Option<Pid> {
        let facts = self.facts.get(resource).into_iter().flatten();
        let mut others = facts.filter(|(_, holding)| holding.requester != *requester);
        others.next().map(|(_, holding)| holding.pid)
    }

    /// For whom `node` holds a lock.
    pub fn requester(&self, node: &NodeName, resource: &str) -> Option<&Requester> {
        let holding = self.facts.get(resource)?.get(node)?;
        Some(&holding.requester)
    }

    /// An actor of this node holds a lock that its node holds for its requester.
    pub fn take(&mut self, resource: &str, pid: Pid) {
        self.actors.entry(resource.into()).or_default().insert(pid);
        self.by_actor
            .entry(pid)
            .or_default()
            .insert(resource.into());
    }

    /// An actor of `own`, this node, lets a lock go that it holds for this requester.
    pub fn let_go(
        &mut self,
        own: &NodeName,
        resource: &str,
        requester: &Requester,
        pid: Pid,
    ) -> LetGo {
        if self.requester(own, resource) != Some(requester) {
            return LetGo::Nothing;
        }
        let Some(actors) = self.actors.get_mut(resource) else {
            return LetGo::Nothing;
        };
        if !actors.remove(&pid) {
            return LetGo::Nothing;
        }
        let next = actors.first().copied();
        if let Some(resources) = self.by_actor.get_mut(&pid) {
            resources.remove(resource);
            if resources.is_empty() {
                self.by_actor.remove(&pid);
            }
        }
        match next {
            Some(pid) => {
                let fact = LockFact {
                    resource: resource.into(),
                    requester: requester.clone(),
                    pid,
                };
                self.insert(own, fact.clone());
                LetGo::Shared(fact)
            }
            None => {
                self.actors.remove(resource);
                self.remove(own, resource);
                LetGo::Ended
            }
        }
    }

    /// The locks that an actor of this node holds.
    pub fn of_actor(&self, pid: Pid) -> Vec<String> {
        let resources = self.by_actor.get(&pid).into_iter().flatten();
        resources.cloned().collect()
    }

    /// How many locks `node` holds.
    pub fn count(&self, node: &NodeName) -> usize {
        self.by_node.get(node).map_or(0, BTreeSet::len)
    }

    /// The locks of a node.
    pub fn facts_of(&self, node: &NodeName) -> Vec<LockFact> {
        let resources = self.by_node.get(node).into_iter().flatten();
        let facts = resources.filter_map(|resource| {
            let holding = self.facts.get(resource)?.get(node)?;
            Some(LockFact {
                resource: resource.clone(),
                requester: holding.requester.clone(),
                pid: holding.pid,
            })
        });
        facts.collect()
    }

    /// Each lock that an actor of this node holds, for whom, and that actor.
    pub fn held(&self, own: &NodeName) -> impl Iterator<Item = (&str, &Requester, Pid)> {
        let own = own.clone();
        self.actors.iter().flat_map(move |(resource, actors)| {
            let requester = self.requester(&own, resource);
            let each = requester
                .into_iter()
                .flat_map(move |requester| actors.iter().map(move |pid| (requester, *pid)));
            each.map(move |(requester, pid)| (resource.as_str(), requester, pid))
        })
    }

    /// Every lock known here: of what, which node's, for whom.
    pub fn all(&self) -> impl Iterator<Item = (&str, &NodeName, &Requester)> {
        self.facts.iter().flat_map(|(resource, facts)| {
            let each = facts.iter();
            each.map(move |(node, holding)| (resource.as_str(), node, &holding.requester))
        })
    }
}

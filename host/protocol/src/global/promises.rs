//! What a node does for others' claims (and its own, alike): as the arbiter of a name it
//! gives turns, as a member of the view it makes promises.
//!
//! Both kinds of state belong to the claimant and end with its publishing, abandoning or
//! going down.

use super::{ClaimId, Global, GlobalMessage, MAX_QUEUED_CLAIMS};
use crate::ids::NodeName;

/// The most names that are promised, and the most that have a queue, at one time; further
/// claims are told to try later.
const MAX_NAMES_IN_CLAIM: usize = 1_000_000;

impl Global {
    pub(super) fn on_claim(&mut self, from: &NodeName, name: String, claim: u64) {
        let holder = self.table.holder(&name);
        let full = self.queues.len() >= MAX_NAMES_IN_CLAIM && !self.queues.contains_key(&name);
        if holder.is_some() || full {
            return self.send(from, GlobalMessage::Refused { claim, holder });
        }
        let queue = self.queues.entry(name).or_default();
        if queue.len() >= MAX_QUEUED_CLAIMS {
            return self.send(
                from,
                GlobalMessage::Refused {
                    claim,
                    holder: None,
                },
            );
        }
        queue.push_back((from.clone(), claim));
        if queue.len() == 1 {
            self.send(from, GlobalMessage::Turn { claim });
        }
    }

    pub(super) fn on_prepare(&mut self, from: &NodeName, name: String, claim: u64) {
        let holder = self.table.holder(&name);
        let answer = if holder.is_none() && self.promise(name, (from.clone(), claim)) {
            GlobalMessage::Promised { claim }
        } else {
            GlobalMessage::Refused { claim, holder }
        };
        self.send(from, answer);
    }

    /// Promises a name to a claim; whether that was possible.
    pub(super) fn promise(&mut self, name: String, claim: ClaimId) -> bool {
        #[cfg(feature = "mutations")]
        if self.mutations.promise_always {
            return true;
        }
        match self.promises.get(&name) {
            Some(promised) => *promised == claim,
            None if self.promises.len() >= MAX_NAMES_IN_CLAIM => false,
            None => {
                self.promises.insert(name, claim);
                true
            }
        }
    }

    pub(super) fn on_abandon(&mut self, from: &NodeName, name: &str, claim: u64) {
        #[cfg(feature = "mutations")]
        if self.mutations.orphan_promises {
            return;
        }
        let claim = (from.clone(), claim);
        if self.promises.get(name) == Some(&claim) {
            self.promises.remove(name);
        }
        self.leave_queue(name, |queued| *queued == claim);
    }

    /// `from` holds the name now: its claims to it are over, everybody else's are in vain.
    pub(super) fn settle(&mut self, from: &NodeName, name: &str) {
        if self
            .promises
            .get(name)
            .is_some_and(|(claimant, _)| claimant == from)
        {
            self.promises.remove(name);
        }
        let holder = self.table.holder(name);
        for (claimant, claim) in self.queues.remove(name).unwrap_or_default() {
            if claimant != *from {
                self.send(&claimant, GlobalMessage::Refused { claim, holder });
            }
        }
        self.end_claims_to(name);
    }

    /// A claimant went down.
    pub(super) fn forget_claims_of(&mut self, node: &NodeName) {
        self.promises.retain(|_, (claimant, _)| claimant != node);
        let queues = self.queues.iter();
        let waits = queues.filter(|(_, queue)| queue.iter().any(|(claimant, _)| claimant == node));
        let names: Vec<_> = waits.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.leave_queue(&name, |(claimant, _)| claimant == node);
        }
    }

    fn leave_queue(&mut self, name: &str, leaves: impl Fn(&ClaimId) -> bool) {
        let Some(queue) = self.queues.get_mut(name) else {
            return;
        };
        let turn = queue.front().cloned();
        queue.retain(|queued| !leaves(queued));
        match queue.front().cloned() {
            None => {
                self.queues.remove(name);
            }
            Some(next) if Some(&next) != turn.as_ref() => {
                self.send(&next.0, GlobalMessage::Turn { claim: next.1 });
            }
            Some(_) => {}
        }
    }
}

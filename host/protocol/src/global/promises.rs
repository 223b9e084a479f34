//! What a node does for others' claims (and its own, alike): as the arbiter of a name or lock
//! it gives turns, as a member of the view it makes promises.
//!
//! Both kinds of state belong to the claimant and end with its publishing, abandoning or
//! going down.

use std::collections::VecDeque;

use super::api::{Bid, Key};
use super::{ClaimId, Global, GlobalMessage, GlobalOutput, MAX_QUEUED_CLAIMS};
use crate::ids::{NodeName, Pid};

/// The most names and locks that are promised, and the most that have a queue, at one time;
/// further claims are told to try later.
const MAX_KEYS_IN_CLAIM: usize = 1_000_000;

/// To which claim something is promised.
#[derive(Debug)]
pub(super) struct Promise {
    pub claim: ClaimId,
    /// Whether the claim takes a name from its holder.
    pub replacing: bool,
}

/// The claims to one name or lock, at its arbiter.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Queued>,
    /// Whose turn it is: one of those that wait.
    turn: Option<ClaimId>,
}

#[derive(Debug)]
struct Queued {
    claim: ClaimId,
    bid: Bid,
    waits: bool,
}

impl Global {
    /// Who stands in the way of a bid, as known here.
    pub(super) fn obstacle(&self, bid: &Bid) -> Option<Pid> {
        match bid {
            Bid::Register(name) => self.table.holder(name),
            Bid::Replace(_) => None,
            Bid::Lock {
                resource,
                requester,
            } => self.locks.obstacle(resource, requester),
        }
    }

    pub(super) fn on_claim(&mut self, from: &NodeName, bid: Bid, claim: u64, waits: bool) {
        let holder = self.obstacle(&bid);
        if holder.is_some() && !waits {
            return self.send(from, GlobalMessage::Refused { claim, holder });
        }
        let key = bid.key();
        let full = match self.queues.get(&key) {
            Some(queue) => queue.waiting.len() >= MAX_QUEUED_CLAIMS,
            None => self.queues.len() >= MAX_KEYS_IN_CLAIM,
        };
        if full {
            let holder = None;
            return self.send(from, GlobalMessage::Refused { claim, holder });
        }
        let queued = Queued {
            claim: (from.clone(), claim),
            bid,
            waits,
        };
        let queue = self.queues.entry(key.clone()).or_default();
        queue.waiting.push_back(queued);
        self.next_turn(&key);
    }

    /// Whose turn is it now? The first's whom nothing stands in the way of: an actor that takes
    /// a lock that its requester holds already need not wait behind others.
    pub(super) fn next_turn(&mut self, key: &Key) {
        let Some(queue) = self.queues.get(key) else {
            return;
        };
        if queue.waiting.is_empty() {
            self.queues.remove(key);
            return;
        }
        if queue.turn.is_some() {
            return;
        }
        let mut waiting = queue.waiting.iter();
        let next = waiting.find(|queued| self.obstacle(&queued.bid).is_none());
        let Some((node, claim)) = next.map(|queued| queued.claim.clone()) else {
            return;
        };
        if let Some(queue) = self.queues.get_mut(key) {
            queue.turn = Some((node.clone(), claim));
        }
        self.send(&node, GlobalMessage::Turn { claim });
    }

    pub(super) fn on_prepare(&mut self, from: &NodeName, bid: &Bid, claim: u64) {
        let holder = self.obstacle(bid);
        let answer = if holder.is_none() && self.promise(bid, (from.clone(), claim)) {
            GlobalMessage::Promised { claim }
        } else {
            GlobalMessage::Refused { claim, holder }
        };
        self.send(from, answer);
    }

    /// Promises a name or lock to a claim; whether that was possible.
    pub(super) fn promise(&mut self, bid: &Bid, claim: ClaimId) -> bool {
        #[cfg(feature = "mutations")]
        if self.mutations.promise_always {
            return true;
        }
        let key = bid.key();
        match self.promises.get(&key) {
            Some(promised) => promised.claim == claim,
            None if self.promises.len() >= MAX_KEYS_IN_CLAIM => false,
            None => {
                let replacing = bid.is_replacing();
                self.promises.insert(key, Promise { claim, replacing });
                true
            }
        }
    }

    pub(super) fn on_abandon(&mut self, from: &NodeName, key: &Key, claim: u64) {
        #[cfg(feature = "mutations")]
        if self.mutations.orphan_promises {
            return;
        }
        let claim = (from.clone(), claim);
        self.end_promise(key, &claim);
        self.leave_queue(key, |queued| *queued == claim);
    }

    /// Ends a promise, if it is this claim's; whether it was to one that replaces a holder.
    pub(super) fn end_promise(&mut self, key: &Key, claim: &ClaimId) -> bool {
        if self.promises.get(key).map(|promise| &promise.claim) != Some(claim) {
            return false;
        }
        let promise = self.promises.remove(key);
        self.show_withheld(key);
        promise.is_some_and(|promise| promise.replacing)
    }

    /// A name whose holder was replaced is shown until the new holder is known. It is, or
    /// will not be: the promise is over.
    fn show_withheld(&mut self, key: &Key) {
        let Key::Name(name) = key else { return };
        if self.withheld.remove(name).is_some() && self.table.holder(name).is_none() {
            let name = name.clone();
            self.outputs.push_back(GlobalOutput::Removed { name });
        }
    }

    /// Somebody holds it now: all claims that this is in the way of, and that do not wait for
    /// its end, are in vain.
    pub(super) fn settle(&mut self, key: &Key) {
        let queue = self.queues.get_mut(key).map(std::mem::take);
        if let Some(Queue { waiting, mut turn }) = queue {
            let mut kept = VecDeque::new();
            for queued in waiting {
                let holder = self.obstacle(&queued.bid);
                if holder.is_none() || queued.waits {
                    kept.push_back(queued);
                    continue;
                }
                if turn.as_ref() == Some(&queued.claim) {
                    turn = None;
                }
                let (claimant, claim) = queued.claim;
                self.send(&claimant, GlobalMessage::Refused { claim, holder });
            }
            let waiting = kept;
            self.queues.insert(key.clone(), Queue { waiting, turn });
            self.next_turn(key);
        }
        self.end_claims_to(key);
    }

    /// A claimant went down.
    pub(super) fn forget_claims_of(&mut self, node: &NodeName) {
        let promises = self.promises.iter();
        let broken = promises.filter(|(_, promise)| promise.claim.0 == *node);
        let broken: Vec<_> = broken
            .map(|(key, promise)| (key.clone(), promise.claim.clone()))
            .collect();
        for (key, claim) in broken {
            self.end_promise(&key, &claim);
        }
        let queues = self.queues.iter();
        let waits = queues.filter(|(_, queue)| {
            let mut waiting = queue.waiting.iter();
            waiting.any(|queued| queued.claim.0 == *node)
        });
        let keys: Vec<_> = waits.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.leave_queue(&key, |(claimant, _)| claimant == node);
        }
    }

    pub(super) fn leave_queue(&mut self, key: &Key, leaves: impl Fn(&ClaimId) -> bool) {
        let Some(queue) = self.queues.get_mut(key) else {
            return;
        };
        queue.waiting.retain(|queued| !leaves(&queued.claim));
        if queue.turn.as_ref().is_some_and(leaves) {
            queue.turn = None;
        }
        self.next_turn(key);
    }
}

//! The claims of this node's own actors: queued at the arbiter, gathering promises, pausing
//! after a collision, until granted, refused or out of time.

use std::collections::{BTreeMap, BTreeSet};

use super::api::{Bid, Key, NameFact, Resolver};
use super::table::Holding;
use super::{Global, GlobalMessage, GlobalOutput, LockFact, RequestId};
use crate::exit::RegisterError;
use crate::ids::{NodeName, Pid};
use crate::time::{Millis, next_random};

/// The longest pause after a first collision, in milliseconds; it doubles each time.
const RETRY_MIN_MS: u64 = 10;

/// The longest pause after any collision, in milliseconds.
const RETRY_MAX_MS: u64 = 250;

/// What a claim is to, and how.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub bid: Bid,
    /// Of a name.
    pub resolver: Resolver,
    /// Whether it waits for the end of what stands in its way.
    pub waits: bool,
    pub deadline: Option<Millis>,
}

#[derive(Debug)]
pub(super) struct Claim {
    request: RequestId,
    pid: Pid,
    terms: Terms,
    attempts: u32,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Waits for its turn.
    Queued { arbiter: NodeName },
    /// Has this node's own promise and waits for these members'.
    Gathering { waits_for: BTreeSet<NodeName> },
    /// Collided; tries again then.
    Pausing { until: Millis },
}

/// Claims by number, with the ways to find them. A number is one attempt: answers to an
/// earlier one find nothing.
#[derive(Debug, Default)]
pub(super) struct Claims {
    by_number: BTreeMap<u64, Claim>,
    next_number: u64,
    by_actor: BTreeMap<Pid, Vec<u64>>,
    by_key: BTreeMap<Key, Vec<u64>>,
    /// When to look at which.
    timers: BTreeSet<(Millis, u64)>,
}

impl Claim {
    /// One that has not been queued yet.
    pub fn new(now: Millis, request: RequestId, pid: Pid, terms: Terms) -> Self {
        Self {
            request,
            pid,
            terms,
            attempts: 0,
            stage: Stage::Pausing { until: now },
        }
    }

    fn wakes_at(&self) -> Option<Millis> {
        match self.stage {
            Stage::Pausing { until } => Some(
                self.terms
                    .deadline
                    .map_or(until, |deadline| until.min(deadline)),
            ),
            _ => self.terms.deadline,
        }
    }
}

impl Claims {
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Bid, Pid)> {
        self.by_number
            .iter()
            .map(|(number, claim)| (*number, &claim.terms.bid, claim.pid))
    }

    pub fn next_deadline(&self) -> Option<Millis> {
        self.timers.first().map(|(at, _)| *at)
    }

    pub fn of_actor(&self, pid: Pid) -> Vec<u64> {
        self.by_actor.get(&pid).cloned().unwrap_or_default()
    }

    pub fn of_key(&self, key: &Key) -> Vec<u64> {
        self.by_key.get(key).cloned().unwrap_or_default()
    }

    pub fn count(&self) -> usize {
        self.by_number.len()
    }

    /// Whose claim it is, and to what.
    pub fn get(&self, number: u64) -> Option<(Pid, &Bid)> {
        let claim = self.by_number.get(&number)?;
        Some((claim.pid, &claim.terms.bid))
    }

    fn insert(&mut self, claim: Claim) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.timers.extend(claim.wakes_at().map(|at| (at, number)));
        self.by_actor.entry(claim.pid).or_default().push(number);
        self.by_key
            .entry(claim.terms.bid.key())
            .or_default()
            .push(number);
        self.by_number.insert(number, claim);
        number
    }

    fn remove(&mut self, number: u64) -> Option<Claim> {
        let claim = self.by_number.remove(&number)?;
        if let Some(at) = claim.wakes_at() {
            self.timers.remove(&(at, number));
        }
        if let Some(numbers) = self.by_actor.get_mut(&claim.pid) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.by_actor.remove(&claim.pid);
            }
        }
        let key = claim.terms.bid.key();
        if let Some(numbers) = self.by_key.get_mut(&key) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.by_key.remove(&key);
            }
        }
        Some(claim)
    }

    fn set_stage(&mut self, number: u64, stage: Stage) {
        if let Some(claim) = self.by_number.get_mut(&number) {
            if let Some(at) = claim.wakes_at() {
                self.timers.remove(&(at, number));
            }
            claim.stage = stage;
            self.timers.extend(claim.wakes_at().map(|at| (at, number)));
        }
    }
}

impl Global {
    /// Begins an attempt, with a number of its own.
    pub(super) fn queue_up(&mut self, mut claim: Claim) {
        let arbiter = self.arbiter_of(&claim.terms.bid);
        claim.stage = Stage::Queued {
            arbiter: arbiter.clone(),
        };
        let (bid, waits) = (claim.terms.bid.clone(), claim.terms.waits);
        let claim = self.claims.insert(claim);
        self.send(&arbiter, GlobalMessage::Claim { bid, claim, waits });
    }

    /// The member with the highest hash for this name or resource: each has its share of them,
    /// and few change hands when a node joins or leaves.
    fn arbiter_of(&self, bid: &Bid) -> NodeName {
        let score = |member: &NodeName| {
            let mut hasher = blake3::Hasher::new();
            hasher
                .update(member.as_str().as_bytes())
                .update(b"\0")
                .update(bid.text().as_bytes());
            *hasher.finalize().as_bytes()
        };
        let members = self.members.keys().chain([&self.own]);
        members
            .max_by_key(|member| score(member))
            .unwrap_or(&self.own)
            .clone()
    }

    pub(super) fn on_turn(&mut self, now: Millis, from: &NodeName, number: u64) {
        match self.claims.by_number.get(&number) {
            Some(Claim {
                stage: Stage::Queued { arbiter },
                terms,
                ..
            }) if arbiter == from => {
                let (bid, waits) = (terms.bid.clone(), terms.waits);
                self.gather(now, number, bid, waits);
            }
            _ => {}
        }
    }

    fn gather(&mut self, now: Millis, number: u64, bid: Bid, waits: bool) {
        match self.obstacle(&bid) {
            Some(holder) if !waits => {
                return self.finish(number, Err(RegisterError::Taken(holder)));
            }
            Some(_) => return self.collide(now, number),
            None => {}
        }
        // First itself, then the others: the proof of safety rests on this order.
        if !self.promise(&bid, (self.own.clone(), number)) {
            return self.collide(now, number);
        }
        let waits_for: BTreeSet<_> = self.members.keys().cloned().collect();
        let complete = waits_for.is_empty();
        self.claims
            .set_stage(number, Stage::Gathering { waits_for });
        self.broadcast(&GlobalMessage::Prepare { bid, claim: number });
        if complete {
            self.install(number);
        }
    }

    pub(super) fn on_promised(&mut self, from: &NodeName, number: u64) {
        if let Some(Claim {
            stage: Stage::Gathering { waits_for },
            ..
        }) = self.claims.by_number.get_mut(&number)
            && waits_for.remove(from)
            && waits_for.is_empty()
        {
            self.install(number);
        }
    }

    pub(super) fn on_refused(
        &mut self,
        now: Millis,
        from: &NodeName,
        number: u64,
        holder: Option<Pid>,
    ) {
        let Some(claim) = self.claims.by_number.get(&number) else {
            return;
        };
        let asked = match &claim.stage {
            Stage::Queued { arbiter } => arbiter == from,
            Stage::Gathering { waits_for } => waits_for.contains(from),
            Stage::Pausing { .. } => false,
        };
        match holder {
            _ if !asked => {}
            Some(pid) if !claim.terms.waits => self.finish(number, Err(RegisterError::Taken(pid))),
            _ => self.collide(now, number),
        }
    }

    /// Every member of the view has promised: it is ours.
    fn install(&mut self, number: u64) {
        if let Some(refusal) = self.quorum.refusal(self.members.len() + 1) {
            return self.finish(number, Err(refusal));
        }
        let Some(claim) = self.claims.remove(number) else {
            return;
        };
        let Claim {
            request,
            pid,
            terms,
            ..
        } = claim;
        let Terms { bid, resolver, .. } = terms;
        let own = self.own.clone();
        let key = bid.key();
        match bid {
            Bid::Register(name) => self.install_name(number, name, pid, resolver, false),
            Bid::Replace(name) => self.install_name(number, name, pid, resolver, true),
            Bid::Lock {
                resource,
                requester,
            } => {
                let fact = LockFact {
                    resource,
                    requester,
                    pid,
                };
                self.locks.insert(&own, fact.clone());
                self.locks.take(&fact.resource, pid);
                self.broadcast(&GlobalMessage::Locked {
                    facts: vec![fact],
                    claim: Some(number),
                });
            }
        }
        self.outputs.push_back(GlobalOutput::Registered {
            request,
            result: Ok(()),
        });
        self.granted(&own, &key, number);
    }

    fn install_name(
        &mut self,
        number: u64,
        name: String,
        pid: Pid,
        resolver: Resolver,
        replaces: bool,
    ) {
        let own = self.own.clone();
        if let Some(before) = self.table.held_by(&own, &name).map(|holding| holding.pid) {
            self.forget_held(&name, before);
        }
        let holding = Holding {
            pid,
            resolver: resolver.clone(),
        };
        let change = self.table.insert(&own, &name, holding, replaces);
        self.held.entry(pid).or_default().insert(name.clone());
        self.show(&name, change);
        let fact = NameFact {
            name,
            pid,
            resolver,
        };
        self.broadcast(&GlobalMessage::Publish {
            facts: vec![fact],
            claim: Some(number),
        });
    }

    /// A claim of `from` has become a fact, which is known here now.
    pub(super) fn granted(&mut self, from: &NodeName, key: &Key, number: u64) {
        let claim = (from.clone(), number);
        self.end_promise(key, &claim);
        self.leave_queue(key, |queued| *queued == claim);
        self.settle(key);
    }

    /// Ends a claim without success.
    pub(super) fn finish(&mut self, number: u64, result: Result<(), RegisterError>) {
        if let Some(claim) = self.give_up(number) {
            self.outputs.push_back(GlobalOutput::Registered {
                request: claim.request,
                result,
            });
        }
    }

    /// Somebody holds it now: ends the claims of this node that this is in the way of, and that
    /// do not wait for its end.
    pub(super) fn end_claims_to(&mut self, key: &Key) {
        for number in self.claims.of_key(key) {
            let Some(claim) = self.claims.by_number.get(&number) else {
                continue;
            };
            if let (Some(holder), false) = (self.obstacle(&claim.terms.bid), claim.terms.waits) {
                self.finish(number, Err(RegisterError::Taken(holder)));
            }
        }
    }

    fn collide(&mut self, now: Millis, number: u64) {
        let Some(mut claim) = self.give_up(number) else {
            return;
        };
        let pause = (RETRY_MIN_MS << claim.attempts.min(16)).min(RETRY_MAX_MS);
        claim.attempts += 1;
        claim.stage = Stage::Pausing {
            until: now + (1 + next_random(&mut self.random) % pause),
        };
        self.claims.insert(claim);
    }

    /// Ends an attempt, here and wherever it may be known.
    fn give_up(&mut self, number: u64) -> Option<Claim> {
        let claim = self.claims.remove(number)?;
        let key = claim.terms.bid.key();
        let abandon = GlobalMessage::Abandon {
            key: key.clone(),
            claim: number,
        };
        match &claim.stage {
            Stage::Queued { arbiter } => self.send(arbiter, abandon),
            Stage::Gathering { .. } => {
                self.broadcast(&abandon);
                let own = self.own.clone();
                self.on_abandon(&own, &key, number);
            }
            Stage::Pausing { .. } => {}
        }
        Some(claim)
    }

    /// A node came up: claims that gather promises need its, too. If it was an arbiter over
    /// an earlier link, it is asked again.
    pub(super) fn include_in_claims(&mut self, node: &NodeName) {
        #[cfg(feature = "mutations")]
        if self.mutations.ignore_newcomers {
            return;
        }
        let mut messages = Vec::new();
        for (&number, claim) in &mut self.claims.by_number {
            let bid = || claim.terms.bid.clone();
            match &mut claim.stage {
                Stage::Gathering { waits_for } => {
                    waits_for.insert(node.clone());
                    messages.push(GlobalMessage::Prepare {
                        bid: bid(),
                        claim: number,
                    });
                }
                Stage::Queued { arbiter } if arbiter == node => {
                    messages.push(GlobalMessage::Claim {
                        bid: bid(),
                        claim: number,
                        waits: claim.terms.waits,
                    });
                }
                _ => {}
            }
        }
        messages
            .into_iter()
            .for_each(|message| self.send(node, message));
    }

    /// A node went down: no claim waits for it any more, nor is it anybody's arbiter. Perhaps
    /// too few are left.
    pub(super) fn exclude_from_claims(&mut self, node: &NodeName) {
        if let Some(refusal) = self.quorum.refusal(self.members.len() + 1) {
            let all: Vec<_> = self.claims.by_number.keys().copied().collect();
            for number in all {
                self.finish(number, Err(refusal.clone()));
            }
            return;
        }
        let mut complete = Vec::new();
        let mut orphaned = Vec::new();
        for (&number, claim) in &mut self.claims.by_number {
            match &mut claim.stage {
                Stage::Gathering { waits_for } => {
                    let waited = waits_for.remove(node);
                    if waited && waits_for.is_empty() {
                        complete.push(number);
                    }
                }
                Stage::Queued { arbiter } if arbiter == node => orphaned.push(number),
                _ => {}
            }
        }
        complete.into_iter().for_each(|number| self.install(number));
        for number in orphaned {
            let Some(claim) = self.claims.by_number.get(&number) else {
                continue; // Ended by one that was complete just now.
            };
            let (bid, waits) = (claim.terms.bid.clone(), claim.terms.waits);
            let arbiter = self.arbiter_of(&bid);
            let queued = Stage::Queued {
                arbiter: arbiter.clone(),
            };
            self.claims.set_stage(number, queued);
            let claim = number;
            self.send(&arbiter, GlobalMessage::Claim { bid, claim, waits });
        }
    }

    pub(super) fn claims_timer(&mut self, now: Millis) {
        while let Some(&(at, number)) = self.claims.timers.first()
            && at <= now
        {
            self.claims.timers.remove(&(at, number));
            let Some(claim) = self.claims.by_number.get(&number) else {
                continue;
            };
            if claim.terms.deadline.is_some_and(|deadline| deadline <= now) {
                let error = match self.obstacle(&claim.terms.bid) {
                    Some(holder) => RegisterError::Taken(holder),
                    None => RegisterError::Timeout,
                };
                self.finish(number, Err(error));
            } else if let Some(claim) = self.claims.remove(number) {
                self.queue_up(claim);
            }
        }
    }
}

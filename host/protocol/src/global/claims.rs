//! The claims of this node's own actors: queued at the arbiter, gathering promises, pausing
//! after a collision, until granted, refused or out of time.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Global, GlobalMessage, GlobalOutput, MAX_NAME_BYTES, MAX_NAMES_PER_NODE, MAX_PENDING_CLAIMS,
    REGISTER_TIMEOUT_MS, RequestId,
};
use crate::exit::RegisterError;
use crate::ids::{NodeName, Pid};
use crate::time::{Millis, next_random};

/// The longest pause after a first collision, in milliseconds; it doubles each time.
const RETRY_MIN_MS: u64 = 10;

/// The longest pause after any collision, in milliseconds.
const RETRY_MAX_MS: u64 = 250;

#[derive(Debug)]
pub(super) struct Claim {
    request: RequestId,
    name: String,
    pid: Pid,
    deadline: Millis,
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
    by_name: BTreeMap<String, Vec<u64>>,
    /// When to look at which.
    timers: BTreeSet<(Millis, u64)>,
}

impl Claim {
    fn wakes_at(&self) -> Millis {
        match self.stage {
            Stage::Pausing { until } => until.min(self.deadline),
            _ => self.deadline,
        }
    }
}

impl Claims {
    pub fn iter(&self) -> impl Iterator<Item = (u64, &str, Pid)> {
        self.by_number
            .iter()
            .map(|(number, claim)| (*number, claim.name.as_str(), claim.pid))
    }

    pub fn next_deadline(&self) -> Option<Millis> {
        self.timers.first().map(|(at, _)| *at)
    }

    pub fn of_actor(&self, pid: Pid) -> Vec<u64> {
        self.by_actor.get(&pid).cloned().unwrap_or_default()
    }

    fn insert(&mut self, claim: Claim) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.timers.insert((claim.wakes_at(), number));
        self.by_actor.entry(claim.pid).or_default().push(number);
        self.by_name
            .entry(claim.name.clone())
            .or_default()
            .push(number);
        self.by_number.insert(number, claim);
        number
    }

    fn remove(&mut self, number: u64) -> Option<Claim> {
        let claim = self.by_number.remove(&number)?;
        self.timers.remove(&(claim.wakes_at(), number));
        if let Some(numbers) = self.by_actor.get_mut(&claim.pid) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.by_actor.remove(&claim.pid);
            }
        }
        if let Some(numbers) = self.by_name.get_mut(&claim.name) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.by_name.remove(&claim.name);
            }
        }
        Some(claim)
    }

    fn set_stage(&mut self, number: u64, stage: Stage) {
        if let Some(claim) = self.by_number.get_mut(&number) {
            self.timers.remove(&(claim.wakes_at(), number));
            claim.stage = stage;
            self.timers.insert((claim.wakes_at(), number));
        }
    }
}

impl Global {
    pub(super) fn register(&mut self, now: Millis, request: RequestId, name: String, pid: Pid) {
        let refused = if name.is_empty() || name.len() > MAX_NAME_BYTES {
            Some(RegisterError::BadName(format!(
                "a global name must have 1 to {MAX_NAME_BYTES} bytes"
            )))
        } else if let Some(holder) = self.table.holder(&name) {
            Some(RegisterError::Taken(holder))
        } else if self.table.count(&self.own) >= MAX_NAMES_PER_NODE {
            Some(RegisterError::BadName(format!(
                "this node holds {MAX_NAMES_PER_NODE} global names already"
            )))
        } else if self.claims.by_number.len() >= MAX_PENDING_CLAIMS {
            Some(RegisterError::BadName(format!(
                "{MAX_PENDING_CLAIMS} registrations are under way already"
            )))
        } else {
            None
        };
        if let Some(error) = refused {
            return self.outputs.push_back(GlobalOutput::Registered {
                request,
                result: Err(error),
            });
        }
        let deadline = now + REGISTER_TIMEOUT_MS;
        self.queue_up(Claim {
            request,
            name,
            pid,
            deadline,
            attempts: 0,
            stage: Stage::Pausing { until: now },
        });
    }

    /// Begins an attempt, with a number of its own.
    fn queue_up(&mut self, mut claim: Claim) {
        let arbiter = self.arbiter_of(&claim.name);
        let name = claim.name.clone();
        claim.stage = Stage::Queued {
            arbiter: arbiter.clone(),
        };
        let number = self.claims.insert(claim);
        self.send(
            &arbiter,
            GlobalMessage::Claim {
                name,
                claim: number,
            },
        );
    }

    /// The member with the highest hash for this name: each has its share of the names, and
    /// few names change hands when a node joins or leaves.
    fn arbiter_of(&self, name: &str) -> NodeName {
        let score = |member: &NodeName| {
            let mut hasher = blake3::Hasher::new();
            hasher
                .update(member.as_str().as_bytes())
                .update(b"\0")
                .update(name.as_bytes());
            *hasher.finalize().as_bytes()
        };
        let members = self.members.keys().chain([&self.own]);
        members
            .max_by_key(|member| score(member))
            .unwrap_or(&self.own)
            .clone()
    }

    pub(super) fn on_turn(&mut self, now: Millis, from: &NodeName, number: u64) {
        match self
            .claims
            .by_number
            .get(&number)
            .map(|claim| (&claim.stage, &claim.name))
        {
            Some((Stage::Queued { arbiter }, name)) if arbiter == from => {
                let name = name.clone();
                self.gather(now, number, name);
            }
            _ => {}
        }
    }

    fn gather(&mut self, now: Millis, number: u64, name: String) {
        // First itself, then the others: the proof of safety rests on this order.
        if !self.promise(name.clone(), (self.own.clone(), number)) {
            return self.collide(now, number);
        }
        let waits_for: BTreeSet<_> = self.members.keys().cloned().collect();
        let complete = waits_for.is_empty();
        self.claims
            .set_stage(number, Stage::Gathering { waits_for });
        self.broadcast(&GlobalMessage::Prepare {
            name,
            claim: number,
        });
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
        match self.claims.by_number.get(&number).map(|claim| &claim.stage) {
            Some(Stage::Queued { arbiter }) if arbiter == from => {}
            Some(Stage::Gathering { waits_for }) if waits_for.contains(from) => {}
            _ => return,
        }
        match holder {
            Some(pid) => self.finish(number, Err(RegisterError::Taken(pid))),
            None => self.collide(now, number),
        }
    }

    /// Every member of the view has promised: the name is ours.
    fn install(&mut self, number: u64) {
        let Some(claim) = self.claims.remove(number) else {
            return;
        };
        let own = self.own.clone();
        let change = self.table.insert(&own, &claim.name, claim.pid);
        self.held
            .entry(claim.pid)
            .or_default()
            .insert(claim.name.clone());
        self.show(&claim.name, change);
        self.broadcast(&GlobalMessage::Publish(vec![(
            claim.name.clone(),
            claim.pid,
        )]));
        self.outputs.push_back(GlobalOutput::Registered {
            request: claim.request,
            result: Ok(()),
        });
        self.settle(&own, &claim.name);
    }

    /// Ends a claim without the name.
    pub(super) fn finish(&mut self, number: u64, result: Result<(), RegisterError>) {
        if let Some(claim) = self.give_up(number) {
            self.outputs.push_back(GlobalOutput::Registered {
                request: claim.request,
                result,
            });
        }
    }

    /// Somebody holds the name now.
    pub(super) fn end_claims_to(&mut self, name: &str) {
        let Some(holder) = self.table.holder(name) else {
            return;
        };
        for number in self.claims.by_name.get(name).cloned().unwrap_or_default() {
            self.finish(number, Err(RegisterError::Taken(holder)));
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
        let abandon = GlobalMessage::Abandon {
            name: claim.name.clone(),
            claim: number,
        };
        match &claim.stage {
            Stage::Queued { arbiter } => self.send(arbiter, abandon),
            Stage::Gathering { .. } => {
                self.broadcast(&abandon);
                let own = self.own.clone();
                self.on_abandon(&own, &claim.name, number);
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
            let name = || claim.name.clone();
            match &mut claim.stage {
                Stage::Gathering { waits_for } => {
                    waits_for.insert(node.clone());
                    messages.push(GlobalMessage::Prepare {
                        name: name(),
                        claim: number,
                    });
                }
                Stage::Queued { arbiter } if arbiter == node => {
                    messages.push(GlobalMessage::Claim {
                        name: name(),
                        claim: number,
                    });
                }
                _ => {}
            }
        }
        messages
            .into_iter()
            .for_each(|message| self.send(node, message));
    }

    /// A node went down: no claim waits for it any more, nor is it anybody's arbiter.
    pub(super) fn exclude_from_claims(&mut self, node: &NodeName) {
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
                Stage::Queued { arbiter } if arbiter == node => {
                    orphaned.push((number, claim.name.clone()));
                }
                _ => {}
            }
        }
        complete.into_iter().for_each(|number| self.install(number));
        for (number, name) in orphaned {
            if !self.claims.by_number.contains_key(&number) {
                continue; // Ended by one that was complete just now.
            }
            let arbiter = self.arbiter_of(&name);
            self.claims.set_stage(
                number,
                Stage::Queued {
                    arbiter: arbiter.clone(),
                },
            );
            self.send(
                &arbiter,
                GlobalMessage::Claim {
                    name,
                    claim: number,
                },
            );
        }
    }

    pub(super) fn claims_timer(&mut self, now: Millis) {
        while let Some(&(at, number)) = self.claims.timers.first()
            && at <= now
        {
            let late = self
                .claims
                .by_number
                .get(&number)
                .is_none_or(|claim| claim.deadline <= now);
            if late {
                self.claims.timers.remove(&(at, number));
                self.finish(number, Err(RegisterError::Timeout));
            } else if let Some(claim) = self.claims.remove(number) {
                self.queue_up(claim);
            }
        }
    }
}

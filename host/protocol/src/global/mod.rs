//! Global names and locks: at most one holder in the connected cluster; who holds a name is
//! looked up locally.
//!
//! # Who knows what
//! Each node is the only writer of facts about what its own actors hold. It publishes them to
//! all visible peers: everything when a link comes up, then each change. What a node knows is
//! the sum of those facts. Two nodes' facts contradict each other only when two halves of a
//! cluster met; for names, the holder with the smaller (node name, serial) counts until the
//! conflict is over (see [`conflicts`](Resolver)); locks stay with both until they let go
//! (see `locks`).
//!
//! # Claiming
//! A claim of node A for a name or a lock runs in two round trips:
//! 1. A asks the arbiter, chosen by rendezvous hashing over A's view, for its turn. The
//!    arbiter lets one claim at a time proceed, so that contenders queue instead of
//!    colliding; the next one's turn comes when A publishes, gives up or goes down. There, too,
//!    claims to a lock wait for its release, in order.
//! 2. A promises the name to itself, then asks every other member of its view to promise it.
//!    A member refuses if it knows a fact that is in the way, or has promised to another
//!    claim. When all have promised, A installs the fact and publishes it.
//!
//! A promise belongs to the claimant, and ends with the claimant's publishing or abandoning
//! the claim, or its going down. Request, abandoning and publishing travel the same ordered
//! link, so no promise outlives its claim. When the view changes meanwhile, the claim follows
//! it: a new member is asked too, a lost one is not waited for, a lost arbiter is replaced.
//! The epoch of an agreement is thus the set of links it was reached over.
//!
//! # Why two connected nodes never both succeed
//! Let A and B be linked throughout both claims. Each had promised to itself (a1, b1) before
//! it asked the other, and keeps that promise until its claim ends. B must have
//! promised A's claim while b1 did not hold, so before b1; likewise A promised B's before a1.
//! But A asked after a1, and B after b1: a1 < A's request < b1 < B's request < a1, which is
//! impossible. Nor does a claim succeed against a fact: the fact's own node refuses, from the
//! step that ends its promise to itself and makes the fact to the one that takes it back. The
//! arbiter is no part of the argument: it only keeps contenders from colliding, so views that
//! differ (no full mesh) cost retries, not safety.
//!
//! # Replacing a holder
//! A claim that replaces the holder is promised in spite of facts. So a member B that has such
//! a fact signs with its promise that the fact ends when the claim succeeds: at that moment,
//! wherever B is. It was the only holder before (or, in a conflict, one of several which have
//! all signed), and no other claim succeeds before B has heard, as B's promise lasts as long.
//! B hears by A's publishing and takes its fact back. If it does not hear because A went down
//! or the link did, the promise is void, and the fact never ended: B's is the only one again,
//! or, if A lives, the two meet like two halves of a cluster. Each look-up goes from the one
//! holder to the other without a gap: whoever hears of B's taking back before A's publishing
//! shows B's actor until its own promise to A is over.
//!
//! Deliberately does not know links or actors' lives; hidden nodes are kept away by the caller.

mod api;
mod claims;
mod conflicts;
mod locks;
mod promises;
mod quorum;
mod table;
mod wishes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::exit::RegisterError;
use crate::ids::{Incarnation, NodeName, Pid};
use crate::time::Millis;
#[cfg(feature = "mutations")]
pub use api::Mutations;
pub use api::{
    Bid, Conflict, GlobalInput, GlobalMessage, GlobalOutput, Key, LockFact, NameFact, NoVerdict,
    Patience, QuestionId, RequestId, Requester, Resolver, Wish,
};
use claims::Claims;
use conflicts::Questions;
pub use conflicts::RESOLVE_TIMEOUT_MS;
use locks::Locks;
use promises::{Promise, Queue};
pub use quorum::PartitionPolicy;
use quorum::Quorum;
use table::{Change, Holding, Table};

/// The longest name, in bytes; longer ones are refused with [`RegisterError::BadName`].
pub const MAX_NAME_BYTES: usize = 1024;

/// The most names held by one node's actors; further claims are refused, and a peer that
/// publishes more is cut off.
pub const MAX_NAMES_PER_NODE: usize = 1_000_000;

/// The most locks held by one node's actors, likewise.
pub const MAX_LOCKS_PER_NODE: usize = 1_000_000;

/// The most claims that wait for one name or lock at its arbiter; others are told to try later.
pub const MAX_QUEUED_CLAIMS: usize = 1024;

/// The most claims of this node at one time; more are refused with [`RegisterError::BadName`].
pub const MAX_PENDING_CLAIMS: usize = 100_000;

/// How long a claim tries that waits for nobody, before [`RegisterError::Timeout`], in
/// milliseconds.
pub const REGISTER_TIMEOUT_MS: u64 = 5_000;

/// Facts in one message of the full state.
const SYNC_BATCH: usize = 1000;

/// One claim, anywhere: its node, and its number there.
type ClaimId = (NodeName, u64);

/// The names and locks as this node knows them, and the claims that it takes part in.
#[derive(Debug)]
pub struct Global {
    own: NodeName,
    random: u64,
    /// The view, without this node.
    members: BTreeMap<NodeName, Incarnation>,
    quorum: Quorum,
    table: Table,
    /// Names whose holder was replaced, and who that was, until the new one is known.
    withheld: BTreeMap<String, Pid>,
    /// The names that each actor of this node holds.
    held: BTreeMap<Pid, BTreeSet<String>>,
    locks: Locks,
    /// Claims of this node's actors.
    claims: Claims,
    /// What this node's resolvers were asked.
    questions: Questions,
    /// As member: to which claim each name or lock is promised.
    promises: BTreeMap<Key, Promise>,
    /// As arbiter: who wants each name or lock.
    queues: BTreeMap<Key, Queue>,
    /// What this node says to itself; empty between inputs.
    to_self: VecDeque<GlobalMessage>,
    #[cfg(feature = "mutations")]
    mutations: Mutations,
    outputs: VecDeque<GlobalOutput>,
}

impl Global {
    /// What a node alone knows, and a seed to spread its retries.
    pub fn new(own: NodeName, seed: u64) -> Self {
        Self {
            own,
            random: seed,
            members: BTreeMap::new(),
            quorum: Quorum::default(),
            table: Table::default(),
            withheld: BTreeMap::new(),
            held: BTreeMap::new(),
            locks: Locks::default(),
            claims: Claims::default(),
            questions: Questions::default(),
            promises: BTreeMap::new(),
            queues: BTreeMap::new(),
            to_self: VecDeque::new(),
            #[cfg(feature = "mutations")]
            mutations: Mutations::default(),
            outputs: VecDeque::new(),
        }
    }

    /// With this policy instead of [`PartitionPolicy::Available`].
    pub fn with_policy(self, policy: PartitionPolicy) -> Self {
        let quorum = Quorum::new(policy);
        Self { quorum, ..self }
    }

    /// From now on with these mistakes.
    #[cfg(feature = "mutations")]
    pub fn mutate(&mut self, mutations: Mutations) {
        self.mutations = mutations;
    }

    /// Takes note of what happened by `now`.
    pub fn handle(&mut self, now: Millis, input: GlobalInput) {
        match input {
            GlobalInput::NodeUp { node, incarnation } => self.node_up(node, incarnation),
            GlobalInput::NodeDown { node, left } => self.node_down(&node, left),
            GlobalInput::Message { from, message } if self.members.contains_key(&from) => {
                self.message(now, &from, message);
            }
            GlobalInput::Message { .. } => {}
            GlobalInput::Claim { request, pid, wish } => self.claim(now, request, pid, wish),
            GlobalInput::Verdict { question, keep } => self.on_verdict(question, keep),
            GlobalInput::ActorDown { pid } => self.actor_down(pid),
            GlobalInput::Timer => {}
        }
        self.finish_step(now);
    }

    /// Gives up a name, if it has a holder. An actor of this node does so at once; another
    /// node is asked to, and the name goes soon.
    pub fn unregister(&mut self, name: &str) -> bool {
        if let Some(holding) = self.table.held_by(&self.own, name) {
            let pid = holding.pid;
            self.withdraw(name, pid, false);
            return true;
        }
        let (Some(pid), Some(owner)) = (self.table.holder(name), self.table.owner(name)) else {
            return false;
        };
        let name = name.into();
        self.send(&owner.clone(), GlobalMessage::Release { name, pid });
        true
    }

    /// An actor of this node lets a lock go, or gives up waiting for it (then its claim is
    /// answered by [`RegisterError::Timeout`]); whether it held it.
    pub fn unlock(&mut self, now: Millis, resource: &str, requester: &Requester, pid: Pid) -> bool {
        let held = self.let_go(resource, requester, pid);
        self.finish_step(now);
        held
    }

    /// The next thing to do, if any.
    pub fn poll_output(&mut self) -> Option<GlobalOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Global::handle`] with [`GlobalInput::Timer`] at the latest.
    pub fn next_deadline(&self) -> Option<Millis> {
        let deadlines = [self.claims.next_deadline(), self.questions.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Who holds a name, as known here.
    pub fn whereis(&self, name: &str) -> Option<Pid> {
        let withheld = || self.withheld.get(name).copied();
        self.table.holder(name).or_else(withheld)
    }

    /// All names and holders known here, sorted.
    pub fn holders(&self) -> impl Iterator<Item = (&str, Pid)> {
        let withheld = self.withheld.iter();
        let mut withheld = withheld.map(|(name, pid)| (name.as_str(), *pid)).peekable();
        let mut table = self.table.holders().peekable();
        // No name is in both.
        std::iter::from_fn(move || match (table.peek(), withheld.peek()) {
            (Some(held), Some(last)) if last.0 < held.0 => withheld.next(),
            (Some(_), _) => table.next(),
            (None, _) => withheld.next(),
        })
    }

    /// The names that actors of this node hold.
    pub fn held(&self) -> impl Iterator<Item = (&str, Pid)> {
        let names = self.table.names_of(&self.own);
        names.map(|(name, holding)| (name, holding.pid))
    }

    /// The locks that actors of this node hold, for whom, and each of those actors.
    pub fn held_locks(&self) -> impl Iterator<Item = (&str, &Requester, Pid)> {
        self.locks.held(&self.own)
    }

    /// All locks known here: of what, held by which node's actors, for whom.
    pub fn locks(&self) -> impl Iterator<Item = (&str, &NodeName, &Requester)> {
        self.locks.all()
    }

    /// What is promised here, and to which node's claim with which number.
    pub fn promises(&self) -> impl Iterator<Item = (&Key, &NodeName, u64)> {
        let promises = self.promises.iter();
        promises.map(|(key, promise)| (key, &promise.claim.0, promise.claim.1))
    }

    /// The claims of this node's actors that are under way, by number.
    pub fn pending_claims(&self) -> impl Iterator<Item = (u64, &Bid, Pid)> {
        self.claims.iter()
    }

    /// The names and locks for which claims are queued here.
    pub fn queued(&self) -> impl Iterator<Item = &Key> {
        self.queues.keys()
    }

    fn finish_step(&mut self, now: Millis) {
        self.claims_timer(now);
        self.questions_timer(now);
        while let Some(message) = self.to_self.pop_front() {
            let own = self.own.clone();
            self.message(now, &own, message);
        }
    }

    fn node_up(&mut self, node: NodeName, incarnation: Incarnation) {
        self.quorum.node_up(&node);
        if self.members.insert(node.clone(), incarnation).is_some() {
            // A new link took the place of the old one. No claim may be complete in between.
            self.forget_claims_of(&node);
            self.forget_facts_of(&node);
        }
        for facts in self.table.facts_of(&self.own).chunks(SYNC_BATCH) {
            let (facts, claim) = (facts.to_vec(), None);
            self.send(&node, GlobalMessage::Publish { facts, claim });
        }
        for facts in self.locks.facts_of(&self.own).chunks(SYNC_BATCH) {
            let (facts, claim) = (facts.to_vec(), None);
            self.send(&node, GlobalMessage::Locked { facts, claim });
        }
        self.include_in_claims(&node);
    }

    fn node_down(&mut self, node: &NodeName, left: bool) {
        if self.members.remove(node).is_some() {
            self.quorum.node_down(node, left);
            // The claims first: those may not have the turn that comes with a lock's release.
            self.forget_claims_of(node);
            self.forget_facts_of(node);
            self.exclude_from_claims(node);
        }
    }

    fn forget_facts_of(&mut self, node: &NodeName) {
        self.questions.forget(node);
        let names = self.table.names_of(node);
        let names: Vec<_> = names.map(|(name, _)| name.to_owned()).collect();
        for name in names {
            let change = self.table.remove(node, &name);
            self.show(&name, change);
        }
        for LockFact { resource, .. } in self.locks.facts_of(node) {
            self.on_unlocked(node, resource);
        }
    }

    fn message(&mut self, now: Millis, from: &NodeName, message: GlobalMessage) {
        if !message.has_proper_lengths() {
            return self.misbehaved(from, "a global name of impossible length");
        }
        match message {
            GlobalMessage::Claim { bid, claim, waits } => self.on_claim(from, bid, claim, waits),
            GlobalMessage::Turn { claim } => self.on_turn(now, from, claim),
            GlobalMessage::Prepare { bid, claim } => self.on_prepare(from, &bid, claim),
            GlobalMessage::Promised { claim } => self.on_promised(from, claim),
            GlobalMessage::Refused { claim, holder } => self.on_refused(now, from, claim, holder),
            GlobalMessage::Abandon { key, claim } => self.on_abandon(from, &key, claim),
            GlobalMessage::Publish { facts, claim } => {
                for fact in facts {
                    self.on_publish(now, from, fact, claim);
                }
            }
            GlobalMessage::Unpublish { name, replaced } => self.on_unpublish(from, name, replaced),
            GlobalMessage::Locked { facts, claim } => {
                for fact in facts {
                    self.on_locked(from, fact, claim);
                }
            }
            GlobalMessage::Unlocked { resource } => self.on_unlocked(from, resource),
            GlobalMessage::Release { name, pid } => {
                let holding = self.table.held_by(&self.own, &name);
                if holding.is_some_and(|holding| holding.pid == pid) {
                    self.withdraw(&name, pid, false);
                }
            }
            GlobalMessage::Settled { name, loser, other } => self.on_settled(&name, loser, other),
        }
    }

    fn on_publish(&mut self, now: Millis, from: &NodeName, fact: NameFact, claim: Option<u64>) {
        let NameFact {
            name,
            pid,
            resolver,
        } = fact;
        if self.members.get(from) != Some(&pid.node) {
            return self.misbehaved(from, "it published the name of another node's actor");
        }
        if self.table.count(from) >= MAX_NAMES_PER_NODE {
            return self.misbehaved(from, "it published too many global names");
        }
        let key = Key::Name(name.clone());
        let replaces = claim.is_some_and(|claim| {
            let promise = self.promises.get(&key);
            promise.is_some_and(|promise| {
                promise.replacing && promise.claim.0 == *from && promise.claim.1 == claim
            })
        });
        let holding = Holding { pid, resolver };
        let change = self.table.insert(from, &name, holding, replaces);
        self.show(&name, change);
        match claim {
            Some(claim) => self.granted(from, &key, claim),
            None => self.settle(&key),
        }
        if let (true, Some(own)) = (replaces, self.table.held_by(&self.own, &name)) {
            let own = own.pid;
            self.withdraw(&name, own, true);
        }
        self.compare(now, from, &name);
    }

    fn on_unpublish(&mut self, from: &NodeName, name: String, replaced: bool) {
        let change = self.table.remove(from, &name);
        let promise = self.promises.get(&Key::Name(name.clone()));
        match change {
            Change::Removed(last) if replaced && promise.is_some_and(|to| to.replacing) => {
                self.withheld.insert(name, last);
            }
            change => self.show(&name, change),
        }
    }

    fn on_locked(&mut self, from: &NodeName, fact: LockFact, claim: Option<u64>) {
        if self.members.get(from) != Some(&fact.pid.node) {
            return self.misbehaved(from, "it published the lock of another node's actor");
        }
        if self.locks.count(from) >= MAX_LOCKS_PER_NODE {
            return self.misbehaved(from, "it published too many locks");
        }
        let key = Key::Lock(fact.resource.clone());
        self.locks.insert(from, fact);
        match claim {
            Some(claim) => self.granted(from, &key, claim),
            None => self.settle(&key),
        }
    }

    fn on_unlocked(&mut self, from: &NodeName, resource: String) {
        self.locks.remove(from, &resource);
        self.next_turn(&Key::Lock(resource));
    }

    /// Takes back a fact of this node.
    fn withdraw(&mut self, name: &str, pid: Pid, replaced: bool) {
        self.forget_held(name, pid);
        let change = self.table.remove(&self.own, name);
        self.show(name, change);
        let name = name.into();
        self.broadcast(&GlobalMessage::Unpublish { name, replaced });
    }

    fn forget_held(&mut self, name: &str, pid: Pid) {
        if let Some(held) = self.held.get_mut(&pid) {
            held.remove(name);
            if held.is_empty() {
                self.held.remove(&pid);
            }
        }
    }

    fn actor_down(&mut self, pid: Pid) {
        for name in self.held.remove(&pid).unwrap_or_default() {
            self.withdraw(&name, pid, false);
        }
        for claim in self.claims.of_actor(pid) {
            self.finish(claim, Err(RegisterError::NoProc));
        }
        #[cfg(feature = "mutations")]
        if self.mutations.orphan_locks {
            return;
        }
        for resource in self.locks.of_actor(pid) {
            if let Some(requester) = self.locks.requester(&self.own, &resource).cloned() {
                self.let_go(&resource, &requester, pid);
            }
        }
    }

    fn show(&mut self, name: &str, change: Change) {
        let name = name.to_owned();
        match change {
            Change::None => {}
            Change::Holder(pid) => {
                self.withheld.remove(&name);
                let installed = GlobalOutput::Installed { name, pid };
                self.outputs.push_back(installed);
            }
            Change::Removed(_) => self.outputs.push_back(GlobalOutput::Removed { name }),
        }
    }

    fn misbehaved(&mut self, node: &NodeName, reason: &str) {
        let (node, reason) = (node.clone(), reason.into());
        self.outputs
            .push_back(GlobalOutput::Misbehaved { node, reason });
    }

    /// To a member or to itself; what a claim says to an arbiter that has just gone down is for
    /// nobody.
    fn send(&mut self, to: &NodeName, message: GlobalMessage) {
        if *to == self.own {
            self.to_self.push_back(message);
        } else if self.members.contains_key(to) {
            self.outputs.push_back(GlobalOutput::Send {
                to: to.clone(),
                message,
            });
        }
    }

    /// To the whole view but this node.
    fn broadcast(&mut self, message: &GlobalMessage) {
        for to in self.members.keys() {
            self.outputs.push_back(GlobalOutput::Send {
                to: to.clone(),
                message: message.clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests;

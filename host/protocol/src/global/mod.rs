//! Global names: at most one holder in the connected cluster, looked up locally.
//!
//! # Who knows what
//! Each node is the only writer of facts about its own actors' names. It publishes them to
//! all visible peers: everything when a link comes up, then each change. A node's table is the
//! sum of those facts; where two nodes claim one name (two halves of a cluster met), the
//! holder with the smaller (node name, serial) counts, everywhere alike, and the loser's node
//! takes its own fact back and says so ([`GlobalOutput::NameConflict`]).
//!
//! # Registering
//! A claim of node A for a name runs in two round trips:
//! 1. A asks the name's arbiter, chosen by rendezvous hashing over A's view, for its turn. The
//!    arbiter lets one claim a name at a time proceed, so that contenders queue instead of
//!    colliding; the next one's turn comes when A publishes, gives up or goes down.
//! 2. A promises the name to itself, then asks every other member of its view to promise it.
//!    A member refuses if it knows a holder, or has promised the name to another claim. When
//!    all have promised, A installs the name and publishes it.
//!
//! A promise belongs to the claimant, and ends with the claimant's publishing or abandoning
//! the claim, or its going down. Request, abandoning and publishing travel the same ordered
//! link, so no promise outlives its claim. When the view changes meanwhile, the claim follows
//! it: a new member is asked too, a lost one is not waited for, a lost arbiter is replaced.
//! The epoch of an agreement is thus the set of links it was reached over.
//!
//! # Why two connected nodes never both succeed
//! Let A and B be linked throughout both claims. Each had promised the name to itself
//! (a1, b1) before it asked the other, and keeps that promise until its claim ends. B must have
//! promised A's claim while b1 did not hold, so before b1; likewise A promised B's before a1.
//! But A asked after a1, and B after b1: a1 < A's request < b1 < B's request < a1, which is
//! impossible. The arbiter is no part of the argument: it only keeps contenders from
//! colliding, so views that differ (no full mesh) cost retries, not safety.
//!
//! Deliberately does not know links or actors' lives; hidden nodes are kept away by the caller.

mod claims;
mod promises;
mod table;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::exit::RegisterError;
use crate::ids::{Incarnation, NodeName, Pid};
use crate::time::Millis;
use claims::Claims;
use table::{Change, Table};

/// The longest name, in bytes; longer ones are refused with [`RegisterError::BadName`].
pub const MAX_NAME_BYTES: usize = 1024;

/// The most names held by one node's actors; further claims are refused, and a peer that
/// publishes more is cut off.
pub const MAX_NAMES_PER_NODE: usize = 1_000_000;

/// The most claims that wait for one name at its arbiter; others are told to try later.
pub const MAX_QUEUED_CLAIMS: usize = 1024;

/// The most claims of this node at one time; more are refused with [`RegisterError::BadName`].
pub const MAX_PENDING_CLAIMS: usize = 100_000;

/// How long a claim tries before [`RegisterError::Timeout`], in milliseconds.
pub const REGISTER_TIMEOUT_MS: u64 = 5_000;

/// Names in one message of the full state.
const SYNC_BATCH: usize = 1000;

/// What nodes tell each other. Every claim, promise and fact belongs to the node that sent
/// it (or, for answers, to the node it is sent to), and to the link it crossed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum GlobalMessage {
    /// Claimant to arbiter: tell me when it is my turn for this name.
    Claim {
        /// The name.
        name: String,
        /// The claim, unique on the claimant.
        claim: u64,
    },
    /// Arbiter to claimant: nobody is before you.
    Turn {
        /// The claim.
        claim: u64,
    },
    /// Claimant to member: promise me this name.
    Prepare {
        /// The name.
        name: String,
        /// The claim.
        claim: u64,
    },
    /// Member to claimant: the name is yours, as far as I am concerned.
    Promised {
        /// The claim.
        claim: u64,
    },
    /// Member or arbiter to claimant: the name has a holder, or (`None`) is promised to
    /// another claim at the moment.
    Refused {
        /// The claim.
        claim: u64,
        /// Who holds the name.
        holder: Option<Pid>,
    },
    /// Claimant to its whole view: the claim is given up.
    Abandon {
        /// The name.
        name: String,
        /// The claim.
        claim: u64,
    },
    /// These are held by actors of the sender now; ends its claims to them. Also the full
    /// state after a link came up, in pieces.
    Publish(Vec<(String, Pid)>),
    /// This is no longer held by the sender's actor.
    Unpublish {
        /// The name.
        name: String,
    },
}

/// Whoever asked for something, in the shell's own numbering.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GlobalInput {
    /// A visible node is up; instead of its earlier link, if that was not reported down.
    NodeUp {
        /// Which.
        node: NodeName,
        /// Which run: it publishes pids of this run alone.
        incarnation: Incarnation,
    },
    /// It is down.
    NodeDown {
        /// Which.
        node: NodeName,
    },
    /// From a node that is up.
    Message {
        /// Which.
        from: NodeName,
        /// What.
        message: GlobalMessage,
    },
    /// An actor of this node claims a name; answered by [`GlobalOutput::Registered`].
    Register {
        /// Echoed in the answer.
        request: RequestId,
        /// The name.
        name: String,
        /// The actor, alive.
        pid: Pid,
    },
    /// An actor of this node ended.
    ActorDown {
        /// Which.
        pid: Pid,
    },
    /// The deadline passed.
    Timer,
}

/// What to do, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GlobalOutput {
    /// Send to that peer.
    Send {
        /// Which.
        to: NodeName,
        /// What.
        message: GlobalMessage,
    },
    /// A registration is done, or failed. Exactly once a request.
    Registered {
        /// Which.
        request: RequestId,
        /// How.
        result: Result<(), RegisterError>,
    },
    /// For the look-up table: the name has this holder now (perhaps instead of another).
    Installed {
        /// The name.
        name: String,
        /// Its holder.
        pid: Pid,
    },
    /// For the look-up table: the name has no holder now.
    Removed {
        /// The name.
        name: String,
    },
    /// An actor of this node lost a name to another holder when two halves of a cluster met.
    NameConflict {
        /// The name.
        name: String,
        /// The actor that lost it.
        loser: Pid,
        /// Who holds it now.
        holder: Pid,
    },
    /// The peer broke a limit: close its link.
    Misbehaved {
        /// Which.
        node: NodeName,
        /// How.
        reason: String,
    },
}

/// Deliberate mistakes, to prove that the simulator finds them.
#[cfg(feature = "mutations")]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mutations {
    /// Promise whatever is asked.
    pub promise_always: bool,
    /// Do not ask nodes that come up during a claim.
    pub ignore_newcomers: bool,
    /// Keep promises of claims that were abandoned.
    pub orphan_promises: bool,
    /// Keep a name that was lost in a conflict.
    pub keep_lost_names: bool,
}

/// One claim, anywhere: its node, and its number there.
type ClaimId = (NodeName, u64);

/// The names as this node knows them, and the claims that it takes part in.
#[derive(Debug)]
pub struct Global {
    own: NodeName,
    random: u64,
    /// The view, without this node.
    members: BTreeMap<NodeName, Incarnation>,
    table: Table,
    /// The names that each actor of this node holds.
    held: BTreeMap<Pid, BTreeSet<String>>,
    /// Claims of this node's actors.
    claims: Claims,
    /// As member: to which claim each name is promised.
    promises: BTreeMap<String, ClaimId>,
    /// As arbiter: whose turn it is for each name (first) and who waits.
    queues: BTreeMap<String, VecDeque<ClaimId>>,
    /// What this node says to itself; empty between inputs.
    to_self: VecDeque<GlobalMessage>,
    #[cfg(feature = "mutations")]
    mutations: Mutations,
    outputs: VecDeque<GlobalOutput>,
}

impl Global {
    /// The table of a node alone, and a seed to spread its retries.
    pub fn new(own: NodeName, seed: u64) -> Self {
        Self {
            own,
            random: seed,
            members: BTreeMap::new(),
            table: Table::default(),
            held: BTreeMap::new(),
            claims: Claims::default(),
            promises: BTreeMap::new(),
            queues: BTreeMap::new(),
            to_self: VecDeque::new(),
            #[cfg(feature = "mutations")]
            mutations: Mutations::default(),
            outputs: VecDeque::new(),
        }
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
            GlobalInput::NodeDown { node } => self.node_down(&node),
            GlobalInput::Message { from, message } if self.members.contains_key(&from) => {
                self.message(now, &from, message);
            }
            GlobalInput::Message { .. } => {}
            GlobalInput::Register { request, name, pid } => self.register(now, request, name, pid),
            GlobalInput::ActorDown { pid } => self.actor_down(pid),
            GlobalInput::Timer => {}
        }
        self.claims_timer(now);
        while let Some(message) = self.to_self.pop_front() {
            let own = self.own.clone();
            self.message(now, &own, message);
        }
    }

    /// Gives up a name that an actor of this node holds; whether one did.
    pub fn unregister(&mut self, name: &str) -> bool {
        let held = self.table.held_by(&self.own, name);
        held.is_some_and(|pid| self.withdraw(name, pid))
    }

    /// The next thing to do, if any.
    pub fn poll_output(&mut self) -> Option<GlobalOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Global::handle`] with [`GlobalInput::Timer`] at the latest.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.claims.next_deadline()
    }

    /// Who holds a name, as known here.
    pub fn whereis(&self, name: &str) -> Option<Pid> {
        self.table.holder(name)
    }

    /// All names and holders known here, sorted.
    pub fn holders(&self) -> impl Iterator<Item = (&str, Pid)> {
        self.table.holders()
    }

    /// The names that actors of this node hold.
    pub fn held(&self) -> impl Iterator<Item = (&str, Pid)> {
        self.table
            .names_of(&self.own)
            .map(|(name, pid)| (name.as_str(), pid))
    }

    /// The names promised here, and to which node's claim with which number.
    pub fn promises(&self) -> impl Iterator<Item = (&str, &NodeName, u64)> {
        self.promises
            .iter()
            .map(|(name, (node, claim))| (name.as_str(), node, *claim))
    }

    /// The claims of this node's actors that are under way, by number.
    pub fn pending_claims(&self) -> impl Iterator<Item = (u64, &str, Pid)> {
        self.claims.iter()
    }

    /// The names for which claims are queued here.
    pub fn queued_names(&self) -> impl Iterator<Item = &str> {
        self.queues.keys().map(String::as_str)
    }

    fn node_up(&mut self, node: NodeName, incarnation: Incarnation) {
        if self.members.insert(node.clone(), incarnation).is_some() {
            // A new link took the place of the old one. No claim may be complete in between.
            self.forget_facts_of(&node);
            self.forget_claims_of(&node);
        }
        let names = self.table.names_of(&self.own);
        let names: Vec<_> = names.map(|(name, pid)| (name.clone(), pid)).collect();
        for batch in names.chunks(SYNC_BATCH) {
            self.send(&node, GlobalMessage::Publish(batch.to_vec()));
        }
        self.include_in_claims(&node);
    }

    fn node_down(&mut self, node: &NodeName) {
        if self.members.remove(node).is_some() {
            self.forget_facts_of(node);
            self.forget_claims_of(node);
            self.exclude_from_claims(node);
        }
    }

    fn forget_facts_of(&mut self, node: &NodeName) {
        let names = self.table.names_of(node);
        let names: Vec<_> = names.map(|(name, _)| name.clone()).collect();
        for name in names {
            let change = self.table.remove(node, &name);
            self.show(&name, change);
        }
    }

    fn message(&mut self, now: Millis, from: &NodeName, message: GlobalMessage) {
        let too_long = |name: &String| name.is_empty() || name.len() > MAX_NAME_BYTES;
        let bad_name = match &message {
            GlobalMessage::Claim { name, .. }
            | GlobalMessage::Prepare { name, .. }
            | GlobalMessage::Abandon { name, .. }
            | GlobalMessage::Unpublish { name } => too_long(name),
            GlobalMessage::Publish(names) => names.iter().any(|(name, _)| too_long(name)),
            GlobalMessage::Turn { .. }
            | GlobalMessage::Promised { .. }
            | GlobalMessage::Refused { .. } => false,
        };
        if bad_name {
            return self.misbehaved(from, "a global name of impossible length");
        }
        match message {
            GlobalMessage::Claim { name, claim } => self.on_claim(from, name, claim),
            GlobalMessage::Turn { claim } => self.on_turn(now, from, claim),
            GlobalMessage::Prepare { name, claim } => self.on_prepare(from, name, claim),
            GlobalMessage::Promised { claim } => self.on_promised(from, claim),
            GlobalMessage::Refused { claim, holder } => self.on_refused(now, from, claim, holder),
            GlobalMessage::Abandon { name, claim } => self.on_abandon(from, &name, claim),
            GlobalMessage::Publish(names) => {
                for (name, pid) in names {
                    self.on_publish(from, &name, pid);
                }
            }
            GlobalMessage::Unpublish { name } => {
                let change = self.table.remove(from, &name);
                self.show(&name, change);
            }
        }
    }

    fn on_publish(&mut self, from: &NodeName, name: &str, pid: Pid) {
        if self.members.get(from) != Some(&pid.node) {
            return self.misbehaved(from, "it published the name of another node's actor");
        }
        if self.table.count(from) >= MAX_NAMES_PER_NODE {
            return self.misbehaved(from, "it published too many global names");
        }
        let change = self.table.insert(from, name, pid);
        self.show(name, change);
        self.settle(from, name);
        if let Some(loser) = self.table.held_by(&self.own, name)
            && let Some(holder) = self.table.holder(name)
            && holder != loser
        {
            self.lose(name, loser, holder);
        }
    }

    fn lose(&mut self, name: &str, loser: Pid, holder: Pid) {
        #[cfg(feature = "mutations")]
        if self.mutations.keep_lost_names {
            return;
        }
        self.withdraw(name, loser);
        self.outputs.push_back(GlobalOutput::NameConflict {
            name: name.into(),
            loser,
            holder,
        });
    }

    /// Takes back a fact of this node.
    fn withdraw(&mut self, name: &str, pid: Pid) -> bool {
        if let Some(held) = self.held.get_mut(&pid) {
            held.remove(name);
            if held.is_empty() {
                self.held.remove(&pid);
            }
        }
        let change = self.table.remove(&self.own, name);
        self.show(name, change);
        self.broadcast(&GlobalMessage::Unpublish { name: name.into() });
        true
    }

    fn actor_down(&mut self, pid: Pid) {
        for name in self.held.remove(&pid).unwrap_or_default() {
            self.withdraw(&name, pid);
        }
        for claim in self.claims.of_actor(pid) {
            self.finish(claim, Err(RegisterError::NoProc));
        }
    }

    fn show(&mut self, name: &str, change: Change) {
        let name = name.to_owned();
        match change {
            Change::None => {}
            Change::Holder(pid) => self
                .outputs
                .push_back(GlobalOutput::Installed { name, pid }),
            Change::Removed => self.outputs.push_back(GlobalOutput::Removed { name }),
        }
    }

    fn misbehaved(&mut self, node: &NodeName, reason: &str) {
        let (node, reason) = (node.clone(), reason.into());
        self.outputs
            .push_back(GlobalOutput::Misbehaved { node, reason });
    }

    fn send(&mut self, to: &NodeName, message: GlobalMessage) {
        if *to == self.own {
            self.to_self.push_back(message);
        } else {
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

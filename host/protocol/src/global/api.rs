//! What the registry hears, says, and puts out.

use serde::{Deserialize, Serialize};

use super::MAX_NAME_BYTES;
use crate::exit::RegisterError;
use crate::ids::{Incarnation, NodeName, Pid};
use crate::time::Millis;

/// What a claim can be to, of which there is one in the cluster.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Key {
    /// A name.
    Name(String),
    /// A lock, by its resource.
    Lock(String),
}

impl Key {
    /// The name or the resource.
    pub fn text(&self) -> &str {
        match self {
            Self::Name(text) | Self::Lock(text) => text,
        }
    }
}

/// Who holds a lock, as the applicants for it say: those of the same requester hold it
/// together. The second half of a lock's id in OTP's `global:set_lock/1`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Requester {
    /// This actor alone.
    Actor(Pid),
    /// All actors, of any node, that call themselves so.
    Named(String),
}

/// What a claim is to, and what must not stand in its way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Bid {
    /// A name that nobody holds: `global:register_name`.
    Register(String),
    /// A name, whoever holds it: `global:re_register_name`.
    Replace(String),
    /// A lock that no other requester holds: `global:set_lock`.
    Lock {
        /// What is locked.
        resource: String,
        /// For whom.
        requester: Requester,
    },
}

impl Bid {
    /// What it is to.
    pub fn key(&self) -> Key {
        match self {
            Self::Register(name) | Self::Replace(name) => Key::Name(name.clone()),
            Self::Lock { resource, .. } => Key::Lock(resource.clone()),
        }
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::Register(text) | Self::Replace(text) | Self::Lock { resource: text, .. } => text,
        }
    }

    pub(super) fn is_replacing(&self) -> bool {
        matches!(self, Self::Replace(_))
    }
}

/// What to do when two halves of a cluster meet and both have a holder of a name. What the
/// holder of the node with the smaller name asked for is done, as in OTP.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Resolver {
    /// The holder of the smaller node stays; the other one loses the name and is told.
    #[default]
    NotifyLoser,
    /// As `NotifyLoser`, and the loser gets an exit signal: OTP's `random_exit_name`, but
    /// for the choice, which is no matter of chance here.
    ExitLoser,
    /// Both lose the name and are told: OTP's `notify_all_name`.
    NotifyAll,
    /// The actor with this name on the smaller node says who stays, if anybody: OTP's
    /// resolving function. Without its answer in [`RESOLVE_TIMEOUT_MS`], `NotifyLoser`.
    ///
    /// [`RESOLVE_TIMEOUT_MS`]: super::RESOLVE_TIMEOUT_MS
    Ask(String),
}

/// How long a claim to a lock waits for its release.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// Not at all: it fails if anybody holds the lock.
    None,
    /// At most so many milliseconds.
    Millis(u64),
    /// As long as it takes.
    Endless,
}

/// What an actor of this node wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wish {
    /// A name.
    Name {
        /// Which.
        name: String,
        /// Also if somebody holds it, who then does no longer.
        replace: bool,
        /// What to do if another part of the cluster has a holder too.
        resolver: Resolver,
    },
    /// A lock.
    Lock {
        /// Of what.
        resource: String,
        /// For whom.
        requester: Requester,
        /// For how long it will wait.
        patience: Patience,
    },
}

/// How one node's actor holds a name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NameFact {
    /// The name.
    pub name: String,
    /// Its holder.
    pub pid: Pid,
    /// What it wants done in a conflict.
    pub resolver: Resolver,
}

/// That actors of one node hold a lock.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LockFact {
    /// Of what.
    pub resource: String,
    /// For whom.
    pub requester: Requester,
    /// One of those actors.
    pub pid: Pid,
}

/// What nodes tell each other. Every claim, promise and fact belongs to the node that sent
/// it (or, for answers, to the node it is sent to), and to the link it crossed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum GlobalMessage {
    /// Claimant to arbiter: tell me when it is my turn.
    Claim {
        /// For what.
        bid: Bid,
        /// The claim, unique on the claimant.
        claim: u64,
        /// Whether to wait for the end of what stands in its way.
        waits: bool,
    },
    /// Arbiter to claimant: nobody is before you.
    Turn {
        /// The claim.
        claim: u64,
    },
    /// Claimant to member: promise me this.
    Prepare {
        /// What.
        bid: Bid,
        /// The claim.
        claim: u64,
    },
    /// Member to claimant: it is yours, as far as I am concerned.
    Promised {
        /// The claim.
        claim: u64,
    },
    /// Member or arbiter to claimant: it has a holder, or (`None`) is promised to another
    /// claim at the moment.
    Refused {
        /// The claim.
        claim: u64,
        /// Who stands in its way.
        holder: Option<Pid>,
    },
    /// Claimant to its whole view: the claim is given up.
    Abandon {
        /// What it was to.
        key: Key,
        /// The claim.
        claim: u64,
    },
    /// These names are held by actors of the sender now. Ends the claim, if there is one;
    /// without, it is the full state after a link came up, in pieces.
    Publish {
        /// Who holds what.
        facts: Vec<NameFact>,
        /// The claim that has become a fact.
        claim: Option<u64>,
    },
    /// This name is no longer held by the sender's actor.
    Unpublish {
        /// The name.
        name: String,
        /// Because of a claim to replace the holder: its fact is known, or will be.
        replaced: bool,
    },
    /// As `Publish`, for locks.
    Locked {
        /// Who holds what.
        facts: Vec<LockFact>,
        /// The claim that has become a fact.
        claim: Option<u64>,
    },
    /// No actor of the sender holds this lock any more.
    Unlocked {
        /// What it is of.
        resource: String,
    },
    /// Somebody wants this name of the receiver's actor given up: `global:unregister_name`
    /// on another node.
    Release {
        /// The name.
        name: String,
        /// Its holder, as known to the sender.
        pid: Pid,
    },
    /// The sender's resolver has decided: the receiver's actor loses the name.
    Settled {
        /// The name.
        name: String,
        /// The receiver's actor.
        loser: Pid,
        /// The sender's, whether it stays or not.
        other: Pid,
    },
}

impl GlobalMessage {
    /// Whether all names in it have 1 to [`MAX_NAME_BYTES`] bytes.
    pub(super) fn has_proper_lengths(&self) -> bool {
        let is_proper = |text: &str| !text.is_empty() && text.len() <= MAX_NAME_BYTES;
        let named = |requester: &Requester| match requester {
            Requester::Actor(_) => true,
            Requester::Named(name) => is_proper(name),
        };
        match self {
            Self::Claim { bid, .. } | Self::Prepare { bid, .. } => {
                let requester = match bid {
                    Bid::Register(_) | Bid::Replace(_) => true,
                    Bid::Lock { requester, .. } => named(requester),
                };
                is_proper(bid.text()) && requester
            }
            Self::Abandon { key, .. } => is_proper(key.text()),
            Self::Unpublish { name, .. }
            | Self::Release { name, .. }
            | Self::Settled { name, .. }
            | Self::Unlocked { resource: name } => is_proper(name),
            Self::Publish { facts, .. } => facts.iter().all(|fact| {
                let resolver = match &fact.resolver {
                    Resolver::Ask(name) => is_proper(name),
                    Resolver::NotifyLoser | Resolver::ExitLoser | Resolver::NotifyAll => true,
                };
                is_proper(&fact.name) && resolver
            }),
            Self::Locked { facts, .. } => facts
                .iter()
                .all(|fact| is_proper(&fact.resource) && named(&fact.requester)),
            Self::Turn { .. } | Self::Promised { .. } | Self::Refused { .. } => true,
        }
    }
}

/// Whoever asked for something, in the shell's own numbering.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// A question to an actor that resolves conflicts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct QuestionId(pub u64);

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
        /// Whether it said that it leaves for good.
        left: bool,
    },
    /// From a node that is up.
    Message {
        /// Which.
        from: NodeName,
        /// What.
        message: GlobalMessage,
    },
    /// An actor of this node wants something; answered by [`GlobalOutput::Registered`].
    Claim {
        /// Echoed in the answer.
        request: RequestId,
        /// The actor, alive.
        pid: Pid,
        /// What it wants.
        wish: Wish,
    },
    /// A resolver answered, or cannot.
    Verdict {
        /// What it was asked.
        question: QuestionId,
        /// Who stays, if anybody; the error means that there is no usable answer.
        keep: Result<Option<Pid>, NoVerdict>,
    },
    /// An actor of this node ended.
    ActorDown {
        /// Which.
        pid: Pid,
    },
    /// The deadline passed.
    Timer,
}

/// A resolver is not there, ended, or spoke nonsense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoVerdict;

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
    /// A claim is granted, or failed. Exactly once a request.
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
    /// An actor of this node lost a name when two halves of a cluster met.
    NameConflict(Conflict),
    /// Ask the actor with a name on this node; answered by [`GlobalInput::Verdict`].
    Resolve {
        /// Echoed in the answer.
        question: QuestionId,
        /// The actor's name on this node.
        resolver: String,
        /// The name in conflict.
        name: String,
        /// The holder of this node.
        own: Pid,
        /// The holder of the other half.
        other: Pid,
        /// When the answer is too late.
        until: Millis,
    },
    /// The peer broke a limit: close its link.
    Misbehaved {
        /// Which.
        node: NodeName,
        /// How.
        reason: String,
    },
}

/// How an actor lost a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// The name.
    pub name: String,
    /// The actor of this node that lost it.
    pub loser: Pid,
    /// Who holds it now; or the one that lost it as well.
    pub holder: Pid,
    /// Whether the loser is to get an exit signal.
    pub exit: bool,
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
    /// Keep the locks of actors that ended.
    pub orphan_locks: bool,
}

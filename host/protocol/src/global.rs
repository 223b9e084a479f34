//! Global names: at most one holder in the connected cluster, looked up locally.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::exit::RegisterError;
use crate::ids::{NodeName, Pid};

/// The longest name, in bytes; longer ones are refused with [`RegisterError::BadName`].
pub const MAX_NAME_BYTES: usize = 1024;

/// The most names held by one node's actors; further claims are refused.
pub const MAX_NAMES_PER_NODE: usize = 1_000_000;

/// How long a claim tries before [`RegisterError::Timeout`], in milliseconds.
pub const REGISTER_TIMEOUT_MS: u64 = 5_000;

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
    /// Claimant to all that may know of the claim: it is given up.
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

/// Whoever asked for a registration, in the shell's own numbering.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

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

/// The names as this node knows them, and the claims that it takes part in.
#[derive(Debug, Default)]
pub struct Global {
    outputs: VecDeque<GlobalOutput>,
}

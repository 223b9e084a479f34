//! Process groups, as Erlang's [`pg`]: named sets of actors that every node knows.
//!
//! ```no_run
//! # fn main() {}
//! use wasm_node_sdk::{groups, send, time};
//!
//! fn speak(room: &str, words: &[u8]) {
//!     // Local members first would be `local_members`, as in OTP.
//!     for member in groups::members(room) {
//!         send(member, words);
//!     }
//! }
//!
//! async fn shard() -> Result<(), groups::GroupError> {
//!     const GAME: groups::Scope = groups::Scope::new("game");
//!     GAME.join("shards", &[wasm_node_sdk::self_pid()])?;
//!     // The members at this moment, and each change from this moment on.
//!     let (monitor, mut shards) = GAME.monitor("shards")?;
//!     let mut changes = monitor.changes();
//!     while shards.len() < 3 {
//!         changes.next().await.apply(&mut shards);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! In a [`GenServer`](crate::GenServer), changes come as [`Info::Group`](crate::Info::Group), and
//! the monitor may be kept in the state: it survives upgrades.
//!
//! | `pg` | here |
//! | --- | --- |
//! | `start_link(Scope)` | nothing: a scope is a name, and every node has every scope |
//! | `join(Scope, Group, PidOrPids)` | [`Scope::join`]; [`join`] for this actor in the scope `""` |
//! | `leave/3` | [`Scope::leave`] |
//! | `get_members/2`, `get_local_members/2` | [`Scope::members`], [`Scope::local_members`] |
//! | `which_groups/1`, `which_local_groups/1` | [`Scope::which_groups`], [`Scope::which_local_groups`] |
//! | `monitor/2`, `monitor_scope/1`, `demonitor/2` | [`Scope::monitor`], [`Scope::monitor_scope`], [`GroupMonitor::cancel`] |
//!
//! As there: an actor that joined twice is a member twice, and leaves twice; only its own node
//! joins an actor; a member is one no more when it ends, or when the connection to its node
//! does, and again when the nodes meet again. What one node's actors do is seen in order
//! everywhere, what several do is not. Hidden nodes see only their own.
//!
//! [`pg`]: https://www.erlang.org/doc/apps/kernel/pg.html

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::runtime::Subscription;
use crate::sys::groups as host;
use crate::{Message, Pid, Ref};

pub use crate::bindings::wasm_node::actor::groups::GroupError;

/// The scope of the functions of this module that name none.
pub const DEFAULT_SCOPE: Scope = Scope::new("");

/// A space of names of groups, and of monitors: groups of one name in two scopes have nothing to
/// do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope<'a>(&'a str);

impl<'a> Scope<'a> {
    /// The scope of that name, at most 1024 bytes.
    pub const fn new(name: &'a str) -> Self {
        Self(name)
    }

    /// Adds actors of this node to a group, at once here and soon everywhere: all, or with an
    /// error none. One named twice is a member twice.
    pub fn join(&self, group: &str, actors: &[Pid]) -> Result<(), GroupError> {
        host::join(self.0, group, actors)
    }

    /// Takes each of these out once for each time it is named; whether any was a member.
    pub fn leave(&self, group: &str, actors: &[Pid]) -> bool {
        host::leave(self.0, group, actors)
    }

    /// The members on all nodes, as known here, in no order.
    pub fn members(&self, group: &str) -> Vec<Pid> {
        host::members(self.0, group)
    }

    /// The members on this node.
    pub fn local_members(&self, group: &str) -> Vec<Pid> {
        host::local_members(self.0, group)
    }

    /// The groups with members, sorted.
    pub fn which_groups(&self) -> Vec<String> {
        host::which_groups(self.0)
    }

    /// The groups with members on this node, sorted.
    pub fn which_local_groups(&self) -> Vec<String> {
        host::which_local_groups(self.0)
    }

    /// The members of a group at this moment, and a monitor of each change from this moment on.
    /// The group need not be there.
    pub fn monitor(&self, group: &str) -> Result<(GroupMonitor, Vec<Pid>), GroupError> {
        let (tag, members) = host::monitor(self.0, group)?;
        Ok((GroupMonitor(tag), members))
    }

    /// The same of all groups of the scope, those that are yet to be included.
    pub fn monitor_scope(&self) -> Result<(GroupMonitor, ScopeMembers), GroupError> {
        let (tag, groups) = host::monitor_scope(self.0)?;
        Ok((GroupMonitor(tag), groups))
    }
}

/// The members of each group of a scope, by the group's name, sorted.
pub type ScopeMembers = Vec<(String, Vec<Pid>)>;

/// Adds this actor to a group; several times if called several times.
pub fn join(group: &str) -> Result<(), GroupError> {
    DEFAULT_SCOPE.join(group, &[crate::self_pid()])
}

/// Takes it out once; whether it was a member.
pub fn leave(group: &str) -> bool {
    DEFAULT_SCOPE.leave(group, &[crate::self_pid()])
}

/// The members on all nodes, as known here, in no order.
pub fn members(group: &str) -> Vec<Pid> {
    DEFAULT_SCOPE.members(group)
}

/// The members on this node.
pub fn local_members(group: &str) -> Vec<Pid> {
    DEFAULT_SCOPE.local_members(group)
}

/// A monitor of a group or a scope, as plain data: it lives in the host until cancelled, and
/// survives upgrades. Each change comes once, as [`Info::Group`](crate::Info::Group) or to
/// [`GroupMonitor::changes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupMonitor(pub Ref);

impl GroupMonitor {
    /// From now on the changes come to this, and not to the handler.
    pub fn changes(self) -> Changes {
        Changes(Subscription::to(self.0))
    }

    /// Ends it; none of its changes comes any more. Whether there was one.
    pub fn cancel(self) -> bool {
        let was = host::demonitor(self.0);
        crate::runtime::discard(|message| group_of(message) == Some(self.0));
        was
    }
}

/// The changes of a monitor, one after the other. Dropped, the rest goes to the handler again.
#[derive(Debug)]
pub struct Changes(Subscription);

impl Changes {
    /// The next change.
    pub async fn next(&mut self) -> GroupChange {
        loop {
            if let Some((_, change)) = change(self.0.next().await) {
                return change;
            }
        }
    }
}

/// How a group changed. An actor that joined or left twice is there twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupChange {
    /// These actors joined.
    Joined {
        /// Which group of its scope.
        group: String,
        /// Who.
        actors: Vec<Pid>,
    },
    /// These left, or ended, or the connection to their node did.
    Left {
        /// Which group of its scope.
        group: String,
        /// Who.
        actors: Vec<Pid>,
    },
}

impl GroupChange {
    /// The group.
    pub fn group(&self) -> &str {
        match self {
            Self::Joined { group, .. } | Self::Left { group, .. } => group,
        }
    }

    /// Brings a list of the group's members up to date.
    pub fn apply(&self, members: &mut Vec<Pid>) {
        match self {
            Self::Joined { actors, .. } => members.extend(actors),
            Self::Left { actors, .. } => {
                for actor in actors {
                    if let Some(at) = members.iter().position(|member| member == actor) {
                        members.swap_remove(at);
                    }
                }
            }
        }
    }
}

impl GroupError {
    /// For people.
    pub fn describe(&self) -> Cow<'_, str> {
        match self {
            Self::BadName(words) | Self::TooMany(words) => words.into(),
            Self::NotLocal(pid) => format!("{pid} is not an actor of this node").into(),
        }
    }
}

/// The monitor that a message is of.
pub(crate) fn group_of(message: &Message) -> Option<Ref> {
    match message {
        Message::GroupJoined((tag, _, _)) | Message::GroupLeft((tag, _, _)) => Some(*tag),
        _ => None,
    }
}

/// What a message says of a group, if it does.
pub(crate) fn change(message: Message) -> Option<(GroupMonitor, GroupChange)> {
    match message {
        Message::GroupJoined((tag, group, actors)) => {
            Some((GroupMonitor(tag), GroupChange::Joined { group, actors }))
        }
        Message::GroupLeft((tag, group, actors)) => {
            Some((GroupMonitor(tag), GroupChange::Left { group, actors }))
        }
        _ => None,
    }
}

//! Process groups, as Erlang's `pg`: named sets of actors in scopes, known everywhere.
//!
//! Each node is the only writer of facts about its own actors: it tells every visible peer
//! all of them when a link comes up, then each change. Reading is local; nothing ever waits.
//! An actor may join a group several times and leaves it as often. Membership ends with the
//! actor, and for observers with the link to its node, so a node that comes back finds no
//! trace of what it told before and tells it again.
//!
//! A scope is the first half of a group's name, and which groups a monitor of a whole scope
//! hears of. Unlike `pg`, it needs no process that starts it and no exchange of its own: every
//! node knows every scope.
//!
//! Contract for monitors: what [`Groups::monitor`] returns, changed by each
//! [`GroupsOutput::Changed`] for that monitor in order, is always what [`Groups::members`] says.
//!
//! Deliberately does not know links or time; hidden nodes are kept away by the caller.

mod members;
mod monitors;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::members::{Local, Memberships};
use self::monitors::Monitors;
use crate::ids::{Incarnation, NodeName, Pid, Ref};

/// The longest name of a scope or of a group, in bytes; longer ones are refused.
pub const MAX_GROUP_BYTES: usize = 1024;

/// The most memberships of one node's actors; further joins are refused, and a peer that
/// tells of more is cut off.
pub const MAX_MEMBERSHIPS_PER_NODE: usize = 1_000_000;

/// The most monitors of this node's actors; further ones are refused.
pub const MAX_GROUP_MONITORS_PER_NODE: usize = 100_000;

/// About how much one message to a peer holds; what is more goes in several.
const BATCH_BYTES: usize = 64 * 1024;

/// A group: its scope and its name there.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupId {
    /// The scope.
    pub scope: String,
    /// The group's name in it.
    pub name: String,
}

impl GroupId {
    /// A group.
    ///
    /// # Errors
    /// One of the names is too long, or the group's is empty.
    pub fn new(scope: &str, name: &str) -> Result<Self, GroupError> {
        if name.is_empty() || name.len() > MAX_GROUP_BYTES || scope.len() > MAX_GROUP_BYTES {
            return Err(GroupError::BadName);
        }
        Ok(Self {
            scope: scope.into(),
            name: name.into(),
        })
    }
}

/// The members of each group of a scope, by the group's name, sorted.
pub type ByGroup = Vec<(String, Vec<Pid>)>;

/// Actors of the sender that joined or left a group; one that did so twice is there twice.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Members {
    /// The group's scope.
    pub scope: String,
    /// Its name there.
    pub group: String,
    /// The serials of their pids: a node tells of its own actors only.
    pub serials: Vec<u64>,
}

/// What nodes tell each other about their own actors.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum GroupsMessage {
    /// These joined. Also the full state after a link came up, in pieces.
    Joined(Vec<Members>),
    /// These left.
    Left(Vec<Members>),
}

/// Whether actors came or went.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum GroupChange {
    /// They are members now, once more for each time they are named.
    Joined,
    /// They are not, once less for each time they are named.
    Left,
}

/// A change of a group that somebody monitors.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupEvent {
    /// The group's name in its scope.
    pub group: String,
    /// Came or went.
    pub change: GroupChange,
    /// Who.
    pub pids: Vec<Pid>,
}

/// What to do, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupsOutput {
    /// Send to that peer.
    Send {
        /// Which.
        to: NodeName,
        /// What.
        message: GroupsMessage,
    },
    /// For the look-up table: so many memberships more or less.
    Changed {
        /// The group.
        group: Arc<GroupId>,
        /// More or less.
        change: GroupChange,
        /// Whose; never none.
        pids: Vec<Pid>,
    },
    /// Tell an actor of this node what it monitors.
    Tell {
        /// The actor.
        watcher: Pid,
        /// Its monitor.
        monitor: Ref,
        /// What happened.
        event: GroupEvent,
    },
    /// The peer broke a limit or the rules: close its link.
    Misbehaved {
        /// Which.
        node: NodeName,
        /// How.
        reason: String,
    },
}

/// Why an actor could not join or monitor. The caller's fault.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GroupError {
    /// Empty or too long.
    #[error("a group name must have 1 to {MAX_GROUP_BYTES} bytes, and a scope at most as many")]
    BadName,
    /// Only its own node joins an actor to groups.
    #[error("not an actor of this node")]
    NotLocal(Pid),
    /// [`MAX_MEMBERSHIPS_PER_NODE`].
    #[error("this node's actors have {MAX_MEMBERSHIPS_PER_NODE} group memberships already")]
    TooManyMemberships,
    /// [`MAX_GROUP_MONITORS_PER_NODE`].
    #[error("this node's actors have {MAX_GROUP_MONITORS_PER_NODE} monitors of groups already")]
    TooManyMonitors,
}

/// Deliberate mistakes, to prove that the simulator finds them.
#[cfg(feature = "mutations")]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mutations {
    /// Do not tell peers that an actor which ended has left its groups.
    pub keep_dead_members: bool,
}

/// The groups as this node knows them.
#[derive(Debug)]
pub struct Groups {
    here: Incarnation,
    local: Local,
    peers: BTreeMap<NodeName, (Incarnation, Memberships)>,
    monitors: Monitors,
    #[cfg(feature = "mutations")]
    mutations: Mutations,
    outputs: VecDeque<GroupsOutput>,
}

impl Groups {
    /// This run of a node, alone; no groups.
    pub fn new(here: Incarnation) -> Self {
        Self {
            here,
            local: Local::default(),
            peers: BTreeMap::new(),
            monitors: Monitors::default(),
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

    /// A visible node is up: it is told all, and will tell.
    pub fn node_up(&mut self, node: NodeName, incarnation: Incarnation) {
        self.node_down(&node);
        let all: Vec<_> = self.local.groups().collect();
        for batch in batches(all) {
            self.outputs.push_back(GroupsOutput::Send {
                to: node.clone(),
                message: GroupsMessage::Joined(batch),
            });
        }
        self.peers
            .insert(node, (incarnation, Memberships::default()));
    }

    /// It is down: its actors are in no group any more.
    pub fn node_down(&mut self, node: &NodeName) {
        let Some((incarnation, memberships)) = self.peers.remove(node) else {
            return;
        };
        for (group, serials) in memberships.groups() {
            self.changed(group, GroupChange::Left, pids(incarnation, serials));
        }
    }

    /// A message from a node that is up.
    pub fn message(&mut self, from: &NodeName, message: GroupsMessage) {
        let (change, all) = match message {
            GroupsMessage::Joined(all) => (GroupChange::Joined, all),
            GroupsMessage::Left(all) => (GroupChange::Left, all),
        };
        for Members {
            scope,
            group,
            serials,
        } in all
        {
            let Some((incarnation, memberships)) = self.peers.get_mut(from) else {
                return;
            };
            let incarnation = *incarnation;
            let done = match (GroupId::new(&scope, &group), change) {
                (Err(_), _) => None,
                (Ok(group), GroupChange::Joined) => memberships
                    .join(Arc::new(group), &serials)
                    .map(|group| (group, serials)),
                // It only takes back what it told.
                (Ok(group), GroupChange::Left) => memberships
                    .leave(&group, &serials)
                    .filter(|(_, left)| left.len() == serials.len()),
            };
            let Some((group, serials)) = done else {
                self.outputs.push_back(GroupsOutput::Misbehaved {
                    node: from.clone(),
                    reason: "it told of an impossible group membership, or too many".into(),
                });
                return;
            };
            self.changed(group, change, pids(incarnation, serials));
        }
    }

    /// Adds actors of this node to a group, at once here and soon everywhere: all, or none
    /// if there is an error.
    ///
    /// # Errors
    /// One is not of this node, or there are too many memberships.
    pub fn join(&mut self, group: GroupId, actors: &[Pid]) -> Result<(), GroupError> {
        if let Some(pid) = actors.iter().find(|pid| pid.node != self.here) {
            return Err(GroupError::NotLocal(*pid));
        }
        let serials: Vec<u64> = actors.iter().map(|pid| pid.serial).collect();
        let group = self
            .local
            .join(Arc::new(group), &serials)
            .ok_or(GroupError::TooManyMemberships)?;
        self.broadcast(GroupChange::Joined, vec![(group.clone(), serials)]);
        self.changed(group, GroupChange::Joined, actors.to_vec());
        Ok(())
    }

    /// Undoes one join for each time an actor is named; whether there was any.
    pub fn leave(&mut self, group: &GroupId, actors: &[Pid]) -> bool {
        let own = actors.iter().filter(|pid| pid.node == self.here);
        let serials: Vec<u64> = own.map(|pid| pid.serial).collect();
        match self.local.leave(group, &serials) {
            Some((group, left)) => {
                self.left_here(vec![(group, left)]);
                true
            }
            None => false,
        }
    }

    /// An actor of this node ended: it leaves all its groups, and monitors none.
    pub fn actor_down(&mut self, pid: Pid) {
        self.monitors.remove_watcher(pid);
        #[cfg(feature = "mutations")]
        if self.mutations.keep_dead_members {
            return;
        }
        if pid.node == self.here {
            let left = self.local.remove_actor(pid.serial);
            self.left_here(left);
        }
    }

    /// From now on an actor of this node hears of each change of a group, or of every group of
    /// a scope if none is named. Returns the members at this moment, an actor in a group twice
    /// counting twice; of a scope by group, sorted.
    ///
    /// # Errors
    /// The names are bad, or there are too many monitors.
    pub fn monitor(
        &mut self,
        monitor: Ref,
        watcher: Pid,
        scope: &str,
        group: Option<&str>,
    ) -> Result<ByGroup, GroupError> {
        // Any name does for the scope's own bounds.
        GroupId::new(scope, group.unwrap_or("*"))?;
        if self.monitors.len() >= MAX_GROUP_MONITORS_PER_NODE {
            return Err(GroupError::TooManyMonitors);
        }
        self.monitors.insert(monitor, watcher, scope, group);
        Ok(match group {
            Some(name) => vec![(name.into(), self.members(scope, name))],
            None => {
                let groups = self.groups_of(scope);
                groups
                    .into_iter()
                    .map(|(group, pids)| (group.name.clone(), pids))
                    .collect()
            }
        })
    }

    /// Ends a monitor of that actor; whether there was one. Nothing follows for it.
    pub fn demonitor(&mut self, monitor: Ref, watcher: Pid) -> bool {
        self.monitors.remove(monitor, watcher)
    }

    /// The members of a group, an actor in it twice counting twice.
    pub fn members(&self, scope: &str, group: &str) -> Vec<Pid> {
        let Ok(group) = GroupId::new(scope, group) else {
            return Vec::new();
        };
        self.nodes()
            .flat_map(|(incarnation, memberships)| pids(incarnation, memberships.of(&group)))
            .collect()
    }

    /// The next thing to do, if any.
    pub fn poll_output(&mut self) -> Option<GroupsOutput> {
        self.outputs.pop_front()
    }

    /// Every membership known here, in no order.
    pub fn memberships(&self) -> impl Iterator<Item = (Arc<GroupId>, Pid)> {
        self.nodes().flat_map(|(incarnation, memberships)| {
            memberships.groups().flat_map(move |(group, serials)| {
                let pids = pids(incarnation, serials);
                pids.into_iter().map(move |pid| (group.clone(), pid))
            })
        })
    }

    fn nodes(&self) -> impl Iterator<Item = (Incarnation, &Memberships)> {
        let peers = self.peers.values();
        let peers = peers.map(|(incarnation, memberships)| (*incarnation, memberships));
        std::iter::once((self.here, self.local.memberships())).chain(peers)
    }

    fn groups_of(&self, scope: &str) -> BTreeMap<Arc<GroupId>, Vec<Pid>> {
        let mut groups: BTreeMap<Arc<GroupId>, Vec<Pid>> = BTreeMap::new();
        for (incarnation, memberships) in self.nodes() {
            for (group, serials) in memberships.groups_in(scope) {
                let members = groups.entry(group).or_default();
                members.extend(pids(incarnation, serials));
            }
        }
        groups
    }

    fn left_here(&mut self, left: Vec<(Arc<GroupId>, Vec<u64>)>) {
        for (group, serials) in &left {
            let pids = pids(self.here, serials.clone());
            self.changed(group.clone(), GroupChange::Left, pids);
        }
        self.broadcast(GroupChange::Left, left);
    }

    /// Says it to whoever looks up, then to whoever monitors.
    fn changed(&mut self, group: Arc<GroupId>, change: GroupChange, pids: Vec<Pid>) {
        if pids.is_empty() {
            return;
        }
        self.outputs.push_back(GroupsOutput::Changed {
            group: group.clone(),
            change,
            pids: pids.clone(),
        });
        for (monitor, watcher) in self.monitors.of(&group) {
            self.outputs.push_back(GroupsOutput::Tell {
                watcher,
                monitor,
                event: GroupEvent {
                    group: group.name.clone(),
                    change,
                    pids: pids.clone(),
                },
            });
        }
    }

    fn broadcast(&mut self, change: GroupChange, all: Vec<(Arc<GroupId>, Vec<u64>)>) {
        if self.peers.is_empty() {
            return;
        }
        for batch in batches(all) {
            let message = match change {
                GroupChange::Joined => GroupsMessage::Joined(batch),
                GroupChange::Left => GroupsMessage::Left(batch),
            };
            for to in self.peers.keys() {
                self.outputs.push_back(GroupsOutput::Send {
                    to: to.clone(),
                    message: message.clone(),
                });
            }
        }
    }
}

fn pids(node: Incarnation, serials: Vec<u64>) -> Vec<Pid> {
    let serials = serials.into_iter();
    serials.map(|serial| Pid { node, serial }).collect()
}

/// In pieces of about [`BATCH_BYTES`].
fn batches(all: Vec<(Arc<GroupId>, Vec<u64>)>) -> Vec<Vec<Members>> {
    const SERIALS: usize = BATCH_BYTES / size_of::<u64>();
    let (mut batches, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (group, serials) in all {
        for serials in serials.chunks(SERIALS) {
            let more = group.scope.len() + group.name.len() + size_of_val(serials);
            if bytes + more > BATCH_BYTES && bytes > 0 {
                batches.push(std::mem::take(&mut batch));
                bytes = 0;
            }
            bytes += more;
            batch.push(Members {
                scope: group.scope.clone(),
                group: group.name.clone(),
                serials: serials.to_vec(),
            });
        }
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

//! Process groups, as Erlang's `pg`: named sets of actors, known everywhere.
//!
//! Each node is the only writer of facts about its own actors: it tells every visible peer
//! all of them when a link comes up, then each change. Reading is local; nothing ever waits.
//! An actor may join a group several times and leaves it as often. Membership ends with the
//! actor, and for observers with the link to its node.
//!
//! Deliberately does not know links or time; hidden nodes are kept away by the caller.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::ids::{Incarnation, NodeName, Pid};

/// The longest group name, in bytes; longer ones are refused.
pub const MAX_GROUP_BYTES: usize = 1024;

/// The most memberships of one node's actors; further joins are refused, and a peer that
/// tells of more is cut off.
pub const MAX_MEMBERSHIPS_PER_NODE: usize = 1_000_000;

/// Memberships in one message of the full state.
const SYNC_BATCH: usize = 1000;

/// What nodes tell each other about their own actors.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum GroupsMessage {
    /// These joined. Also the full state after a link came up, in pieces.
    Join(Vec<(String, Pid)>),
    /// One left, once.
    Leave {
        /// The group.
        group: String,
        /// The actor.
        pid: Pid,
    },
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
    /// For the look-up table: one more membership.
    Joined {
        /// The group.
        group: String,
        /// The actor.
        pid: Pid,
    },
    /// For the look-up table: one membership less.
    Left {
        /// The group.
        group: String,
        /// The actor.
        pid: Pid,
    },
    /// The peer broke a limit or the rules: close its link.
    Misbehaved {
        /// Which.
        node: NodeName,
        /// How.
        reason: String,
    },
}

/// Why an actor could not join. The caller's fault.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GroupError {
    /// Empty or too long.
    #[error("a group name must have 1 to {MAX_GROUP_BYTES} bytes")]
    BadName,
    /// [`MAX_MEMBERSHIPS_PER_NODE`].
    #[error("this node's actors have {MAX_MEMBERSHIPS_PER_NODE} group memberships already")]
    TooMany,
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
    local: Memberships,
    peers: BTreeMap<NodeName, (Incarnation, Memberships)>,
    #[cfg(feature = "mutations")]
    mutations: Mutations,
    outputs: VecDeque<GroupsOutput>,
}

/// How often each actor of one node is in each group. Never zero.
#[derive(Debug, Default)]
struct Memberships {
    by_actor: BTreeMap<Pid, BTreeMap<String, usize>>,
    total: usize,
}

impl Memberships {
    fn join(&mut self, group: &str, pid: Pid) {
        *self
            .by_actor
            .entry(pid)
            .or_default()
            .entry(group.into())
            .or_default() += 1;
        self.total += 1;
    }

    fn leave(&mut self, group: &str, pid: Pid) -> bool {
        let Some(groups) = self.by_actor.get_mut(&pid) else {
            return false;
        };
        let Some(times) = groups.get_mut(group) else {
            return false;
        };
        *times -= 1;
        self.total -= 1;
        if *times == 0 {
            groups.remove(group);
        }
        if groups.is_empty() {
            self.by_actor.remove(&pid);
        }
        true
    }

    /// Each membership of these actors, an actor in a group twice counting twice.
    fn all(&self) -> impl Iterator<Item = (&str, Pid)> {
        self.by_actor.iter().flat_map(|(pid, groups)| {
            let each = groups
                .iter()
                .flat_map(|(group, times)| std::iter::repeat_n(group.as_str(), *times));
            each.map(|group| (group, *pid))
        })
    }
}

impl Groups {
    /// A node alone, no groups.
    pub fn new() -> Self {
        Self {
            local: Memberships::default(),
            peers: BTreeMap::new(),
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
        let all: Vec<_> = self
            .local
            .all()
            .map(|(group, pid)| (group.to_owned(), pid))
            .collect();
        for batch in all.chunks(SYNC_BATCH) {
            let message = GroupsMessage::Join(batch.to_vec());
            self.outputs.push_back(GroupsOutput::Send {
                to: node.clone(),
                message,
            });
        }
        self.peers
            .insert(node, (incarnation, Memberships::default()));
    }

    /// It is down: its actors are in no group any more.
    pub fn node_down(&mut self, node: &NodeName) {
        let Some((_, memberships)) = self.peers.remove(node) else {
            return;
        };
        for (group, pid) in memberships.all() {
            self.outputs.push_back(GroupsOutput::Left {
                group: group.into(),
                pid,
            });
        }
    }

    /// A message from a node that is up.
    pub fn message(&mut self, from: &NodeName, message: GroupsMessage) {
        let Some((incarnation, memberships)) = self.peers.get_mut(from) else {
            return;
        };
        match message {
            GroupsMessage::Join(joins) => {
                for (group, pid) in joins {
                    let possible = !group.is_empty()
                        && group.len() <= MAX_GROUP_BYTES
                        && pid.node == *incarnation;
                    if !possible || memberships.total >= MAX_MEMBERSHIPS_PER_NODE {
                        let reason =
                            "it told of an impossible group membership, or too many".into();
                        self.outputs.push_back(GroupsOutput::Misbehaved {
                            node: from.clone(),
                            reason,
                        });
                        return;
                    }
                    memberships.join(&group, pid);
                    self.outputs.push_back(GroupsOutput::Joined { group, pid });
                }
            }
            GroupsMessage::Leave { group, pid } => {
                if memberships.leave(&group, pid) {
                    self.outputs.push_back(GroupsOutput::Left { group, pid });
                }
            }
        }
    }

    /// Adds an actor of this node to a group, at once here and soon everywhere.
    ///
    /// # Errors
    /// The name is bad, or there are too many memberships.
    pub fn join(&mut self, group: &str, pid: Pid) -> Result<(), GroupError> {
        if group.is_empty() || group.len() > MAX_GROUP_BYTES {
            return Err(GroupError::BadName);
        }
        if self.local.total >= MAX_MEMBERSHIPS_PER_NODE {
            return Err(GroupError::TooMany);
        }
        self.local.join(group, pid);
        self.broadcast(&GroupsMessage::Join(vec![(group.into(), pid)]));
        self.outputs.push_back(GroupsOutput::Joined {
            group: group.into(),
            pid,
        });
        Ok(())
    }

    /// Undoes one join of an actor of this node; whether there was one.
    pub fn leave(&mut self, group: &str, pid: Pid) -> bool {
        let left = self.local.leave(group, pid);
        if left {
            self.broadcast(&GroupsMessage::Leave {
                group: group.into(),
                pid,
            });
            self.outputs.push_back(GroupsOutput::Left {
                group: group.into(),
                pid,
            });
        }
        left
    }

    /// An actor of this node ended: it leaves all its groups.
    pub fn actor_down(&mut self, pid: Pid) {
        #[cfg(feature = "mutations")]
        if self.mutations.keep_dead_members {
            return;
        }
        for (group, times) in self.local.by_actor.get(&pid).cloned().unwrap_or_default() {
            for _ in 0..times {
                self.leave(&group, pid);
            }
        }
    }

    /// The next thing to do, if any.
    pub fn poll_output(&mut self) -> Option<GroupsOutput> {
        self.outputs.pop_front()
    }

    /// Every membership known here, in no order.
    pub fn memberships(&self) -> impl Iterator<Item = (&str, Pid)> {
        self.local.all().chain(
            self.peers
                .values()
                .flat_map(|(_, memberships)| memberships.all()),
        )
    }

    fn broadcast(&mut self, message: &GroupsMessage) {
        for to in self.peers.keys() {
            self.outputs.push_back(GroupsOutput::Send {
                to: to.clone(),
                message: message.clone(),
            });
        }
    }
}

impl Default for Groups {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NodeName {
        text.parse().unwrap()
    }

    fn pid(node: u64, serial: u64) -> Pid {
        Pid {
            node: Incarnation(node),
            serial,
        }
    }

    fn outputs(groups: &mut Groups) -> Vec<GroupsOutput> {
        std::iter::from_fn(|| groups.poll_output()).collect()
    }

    #[test]
    fn an_actor_that_joined_twice_leaves_twice() {
        let mut groups = Groups::new();
        groups.join("g", pid(1, 1)).unwrap();
        groups.join("g", pid(1, 1)).unwrap();
        assert_eq!(groups.memberships().count(), 2);
        assert!(groups.leave("g", pid(1, 1)));
        assert!(groups.leave("g", pid(1, 1)));
        assert!(!groups.leave("g", pid(1, 1)));
        assert_eq!(groups.memberships().count(), 0);
    }

    #[test]
    fn a_new_peer_hears_all_and_its_members_go_with_it() {
        let mut groups = Groups::new();
        groups.join("g", pid(1, 1)).unwrap();
        groups.join("h", pid(1, 1)).unwrap();
        outputs(&mut groups);
        groups.node_up(name("b@h"), Incarnation(2));
        let joins = vec![("g".to_owned(), pid(1, 1)), ("h".to_owned(), pid(1, 1))];
        let sync = GroupsOutput::Send {
            to: name("b@h"),
            message: GroupsMessage::Join(joins),
        };
        assert_eq!(outputs(&mut groups), [sync]);
        groups.message(
            &name("b@h"),
            GroupsMessage::Join(vec![("g".into(), pid(2, 1)); 2]),
        );
        assert_eq!(groups.memberships().count(), 4);
        outputs(&mut groups);
        groups.node_down(&name("b@h"));
        let left = GroupsOutput::Left {
            group: "g".into(),
            pid: pid(2, 1),
        };
        assert_eq!(outputs(&mut groups), [left.clone(), left]);
    }

    #[test]
    fn the_death_of_an_actor_is_told() {
        let mut groups = Groups::new();
        groups.node_up(name("b@h"), Incarnation(2));
        groups.join("g", pid(1, 1)).unwrap();
        outputs(&mut groups);
        groups.actor_down(pid(1, 1));
        let message = GroupsMessage::Leave {
            group: "g".into(),
            pid: pid(1, 1),
        };
        let told = GroupsOutput::Send {
            to: name("b@h"),
            message,
        };
        assert_eq!(
            outputs(&mut groups),
            [
                told,
                GroupsOutput::Left {
                    group: "g".into(),
                    pid: pid(1, 1)
                }
            ]
        );
    }

    #[test]
    fn only_a_nodes_own_actors_can_be_joined_by_it() {
        let mut groups = Groups::new();
        groups.node_up(name("b@h"), Incarnation(2));
        groups.message(
            &name("b@h"),
            GroupsMessage::Join(vec![("g".into(), pid(3, 1))]),
        );
        assert!(matches!(
            outputs(&mut groups)[..],
            [GroupsOutput::Misbehaved { .. }]
        ));
        assert_eq!(groups.join("", pid(1, 1)), Err(GroupError::BadName));
        assert_eq!(
            groups.join(&"x".repeat(1025), pid(1, 1)),
            Err(GroupError::BadName)
        );
    }
}

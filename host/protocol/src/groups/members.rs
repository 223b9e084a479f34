//! How often each actor of a node is in each group.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{GroupId, MAX_MEMBERSHIPS_PER_NODE};

/// One node's memberships. No count is ever zero, no group without members.
#[derive(Debug, Default)]
pub(super) struct Memberships {
    by_group: BTreeMap<Arc<GroupId>, BTreeMap<u64, usize>>,
    total: usize,
}

impl Memberships {
    /// One more for each serial; none and nothing done if they would be too many.
    pub fn join(&mut self, group: Arc<GroupId>, serials: &[u64]) -> Option<Arc<GroupId>> {
        if serials.len() > MAX_MEMBERSHIPS_PER_NODE - self.total {
            return None;
        }
        if serials.is_empty() {
            return Some(group);
        }
        self.total += serials.len();
        // One allocation a group, however many join it.
        let group = match self.by_group.get_key_value(&group) {
            Some((known, _)) => known.clone(),
            None => group,
        };
        let members = self.by_group.entry(group.clone()).or_default();
        for serial in serials {
            *members.entry(*serial).or_default() += 1;
        }
        Some(group)
    }

    /// One less for each serial that is a member; those, if any.
    pub fn leave(&mut self, group: &GroupId, serials: &[u64]) -> Option<(Arc<GroupId>, Vec<u64>)> {
        let known = self.by_group.get_key_value(group)?.0.clone();
        let members = self.by_group.get_mut(group)?;
        let mut left = Vec::new();
        for serial in serials {
            let Some(times) = members.get_mut(serial) else {
                continue;
            };
            *times -= 1;
            if *times == 0 {
                members.remove(serial);
            }
            left.push(*serial);
        }
        if members.is_empty() {
            self.by_group.remove(group);
        }
        self.total -= left.len();
        (!left.is_empty()).then_some((known, left))
    }

    /// The members of one group.
    pub fn of(&self, group: &GroupId) -> Vec<u64> {
        self.by_group.get(group).map(each).unwrap_or_default()
    }

    /// The groups with their members.
    pub fn groups(&self) -> impl Iterator<Item = (Arc<GroupId>, Vec<u64>)> {
        let groups = self.by_group.iter();
        groups.map(|(group, members)| (group.clone(), each(members)))
    }

    /// Those of a scope.
    pub fn groups_in(&self, scope: &str) -> impl Iterator<Item = (Arc<GroupId>, Vec<u64>)> {
        let first = GroupId {
            scope: scope.into(),
            name: String::new(),
        };
        let from = self.by_group.range::<GroupId, _>(&first..);
        from.take_while(move |(group, _)| group.scope == first.scope)
            .map(|(group, members)| (group.clone(), each(members)))
    }
}

fn each(members: &BTreeMap<u64, usize>) -> Vec<u64> {
    let members = members.iter();
    members
        .flat_map(|(serial, times)| std::iter::repeat_n(*serial, *times))
        .collect()
}

/// This node's memberships, found by actor too.
#[derive(Debug, Default)]
pub(super) struct Local {
    all: Memberships,
    by_actor: BTreeMap<u64, BTreeMap<Arc<GroupId>, usize>>,
}

impl Local {
    pub fn memberships(&self) -> &Memberships {
        &self.all
    }

    pub fn groups(&self) -> impl Iterator<Item = (Arc<GroupId>, Vec<u64>)> {
        self.all.groups()
    }

    /// As [`Memberships::join`].
    pub fn join(&mut self, group: Arc<GroupId>, serials: &[u64]) -> Option<Arc<GroupId>> {
        let group = self.all.join(group, serials)?;
        for serial in serials {
            let groups = self.by_actor.entry(*serial).or_default();
            *groups.entry(group.clone()).or_default() += 1;
        }
        Some(group)
    }

    /// As [`Memberships::leave`].
    pub fn leave(&mut self, group: &GroupId, serials: &[u64]) -> Option<(Arc<GroupId>, Vec<u64>)> {
        let (group, left) = self.all.leave(group, serials)?;
        for serial in &left {
            let Some(groups) = self.by_actor.get_mut(serial) else {
                continue;
            };
            if let Some(times) = groups.get_mut(&group) {
                *times -= 1;
                if *times == 0 {
                    groups.remove(&group);
                }
            }
            if groups.is_empty() {
                self.by_actor.remove(serial);
            }
        }
        Some((group, left))
    }

    /// Takes an actor out of all its groups; which, and as often as it was in them.
    pub fn remove_actor(&mut self, serial: u64) -> Vec<(Arc<GroupId>, Vec<u64>)> {
        let groups = self.by_actor.remove(&serial).unwrap_or_default();
        let groups = groups.into_iter();
        groups
            .filter_map(|(group, times)| self.all.leave(&group, &vec![serial; times]))
            .collect()
    }
}

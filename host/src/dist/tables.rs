//! What any thread may look up without asking the kernel: the peers that are up, the global
//! names, the groups.
//!
//! Contract: only the kernel writes, in the order of its machines' outputs. Locks are held
//! for one look-up, never across another lock but that of an outbox.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::RwLock;
use wasm_node_protocol::groups::{GroupChange, GroupId};
use wasm_node_protocol::{Incarnation, NodeName, Pid};

use super::link::Link;
use crate::control::GroupCounts;

#[derive(Default)]
pub(super) struct Tables {
    peers: RwLock<Peers>,
    names: RwLock<HashMap<String, Pid>>,
    /// By scope, then by name; no scope without groups, no group without members.
    groups: RwLock<HashMap<String, BTreeMap<String, Vec<Pid>>>>,
    /// Actors of this node that may hold names or locks, be in groups or monitor them: all
    /// others' ends are quick.
    engaged: RwLock<HashSet<Pid>>,
}

#[derive(Default)]
struct Peers {
    by_incarnation: HashMap<Incarnation, Arc<Link>>,
    by_name: HashMap<NodeName, Incarnation>,
}

impl Tables {
    /// Runs `f` on the link to a node that is up.
    pub fn with_link<T>(&self, node: Incarnation, f: impl FnOnce(&Arc<Link>) -> T) -> Option<T> {
        self.peers.read().by_incarnation.get(&node).map(f)
    }

    pub fn incarnation_of(&self, name: &NodeName) -> Option<Incarnation> {
        self.peers.read().by_name.get(name).copied()
    }

    pub fn links(&self) -> Vec<Arc<Link>> {
        self.peers.read().by_incarnation.values().cloned().collect()
    }

    pub fn insert_link(&self, link: &Arc<Link>) {
        let mut peers = self.peers.write();
        peers
            .by_name
            .insert(link.peer.name.clone(), link.peer.incarnation);
        peers
            .by_incarnation
            .insert(link.peer.incarnation, link.clone());
    }

    /// Removes this very link, if it is there.
    pub fn remove_link(&self, link: &Arc<Link>) {
        let mut peers = self.peers.write();
        let (name, incarnation) = (&link.peer.name, link.peer.incarnation);
        if peers
            .by_incarnation
            .get(&incarnation)
            .is_some_and(|there| Arc::ptr_eq(there, link))
        {
            peers.by_incarnation.remove(&incarnation);
            if peers.by_name.get(name) == Some(&incarnation) {
                peers.by_name.remove(name);
            }
        }
    }

    pub fn whereis(&self, name: &str) -> Option<Pid> {
        self.names.read().get(name).copied()
    }

    pub fn names(&self) -> Vec<(String, Pid)> {
        let names = self.names.read();
        let mut names: Vec<_> = names
            .iter()
            .map(|(name, pid)| (name.clone(), *pid))
            .collect();
        names.sort_unstable();
        names
    }

    pub fn install_name(&self, name: String, pid: Pid) {
        self.names.write().insert(name, pid);
    }

    pub fn remove_name(&self, name: &str) {
        self.names.write().remove(name);
    }

    pub fn members(&self, scope: &str, group: &str, of: impl Fn(&Pid) -> bool) -> Vec<Pid> {
        let groups = self.groups.read();
        let members = groups.get(scope).and_then(|groups| groups.get(group));
        let members = members.into_iter().flatten().copied();
        members.filter(|pid| of(pid)).collect()
    }

    /// The groups of a scope with members of that kind, sorted.
    pub fn groups(&self, scope: &str, of: impl Fn(&Pid) -> bool) -> Vec<String> {
        let groups = self.groups.read();
        let groups = groups.get(scope).into_iter().flatten();
        groups
            .filter(|(_, members)| members.iter().any(&of))
            .map(|(group, _)| group.clone())
            .collect()
    }

    pub fn group_counts(&self) -> GroupCounts {
        let groups = self.groups.read();
        let all = || groups.values().flat_map(|scope| scope.values());
        GroupCounts {
            scopes: groups.len() as u64,
            groups: all().count() as u64,
            memberships: all().map(|members| members.len() as u64).sum(),
        }
    }

    pub fn change_group(&self, group: &GroupId, change: GroupChange, pids: &[Pid]) {
        let mut groups = self.groups.write();
        if change == GroupChange::Joined {
            let scope = groups.entry(group.scope.clone()).or_default();
            let members = scope.entry(group.name.clone()).or_default();
            return members.extend(pids);
        }
        let Some(scope) = groups.get_mut(&group.scope) else {
            return;
        };
        let Some(members) = scope.get_mut(&group.name) else {
            return;
        };
        let mut gone: HashMap<Pid, usize> = HashMap::new();
        pids.iter()
            .for_each(|pid| *gone.entry(*pid).or_default() += 1);
        members.retain(|pid| match gone.get_mut(pid) {
            Some(times) if *times > 0 => {
                *times -= 1;
                false
            }
            _ => true,
        });
        if members.is_empty() {
            scope.remove(&group.name);
        }
        if scope.is_empty() {
            groups.remove(&group.scope);
        }
    }

    pub fn engage(&self, pid: Pid) {
        if !self.engaged.read().contains(&pid) {
            self.engaged.write().insert(pid);
        }
    }

    /// Whether the actor was engaged; it no longer is.
    pub fn disengage(&self, pid: Pid) -> bool {
        self.engaged.read().contains(&pid) && self.engaged.write().remove(&pid)
    }
}

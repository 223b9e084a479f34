//! Which actors of this node want to hear of which groups.

use std::collections::{BTreeMap, BTreeSet};

use super::GroupId;
use crate::ids::{Pid, Ref};

#[derive(Debug, Default)]
pub(super) struct Monitors {
    all: BTreeMap<Ref, Watch>,
    scopes: BTreeMap<String, Scope>,
    by_watcher: BTreeMap<Pid, BTreeSet<Ref>>,
}

#[derive(Debug)]
struct Watch {
    watcher: Pid,
    scope: String,
    /// All of the scope's, if none.
    group: Option<String>,
}

/// Who monitors a scope, or groups of it. Never empty.
#[derive(Debug, Default)]
struct Scope {
    whole: BTreeSet<Ref>,
    groups: BTreeMap<String, BTreeSet<Ref>>,
}

impl Monitors {
    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn insert(&mut self, monitor: Ref, watcher: Pid, scope: &str, group: Option<&str>) {
        let watch = Watch {
            watcher,
            scope: scope.into(),
            group: group.map(Into::into),
        };
        let there = self.scopes.entry(scope.into()).or_default();
        match group {
            Some(group) => there.groups.entry(group.into()).or_default(),
            None => &mut there.whole,
        }
        .insert(monitor);
        self.by_watcher.entry(watcher).or_default().insert(monitor);
        self.all.insert(monitor, watch);
    }

    /// Whether that actor had it.
    pub fn remove(&mut self, monitor: Ref, watcher: Pid) -> bool {
        if self
            .all
            .get(&monitor)
            .is_none_or(|watch| watch.watcher != watcher)
        {
            return false;
        }
        if let Some(monitors) = self.by_watcher.get_mut(&watcher) {
            monitors.remove(&monitor);
            if monitors.is_empty() {
                self.by_watcher.remove(&watcher);
            }
        }
        self.forget(monitor);
        true
    }

    pub fn remove_watcher(&mut self, watcher: Pid) {
        for monitor in self.by_watcher.remove(&watcher).unwrap_or_default() {
            self.forget(monitor);
        }
    }

    /// Those of a group, and those of its scope.
    pub fn of(&self, group: &GroupId) -> Vec<(Ref, Pid)> {
        let Some(scope) = self.scopes.get(&group.scope) else {
            return Vec::new();
        };
        let one = scope.groups.get(&group.name).into_iter().flatten();
        let monitors = one.chain(&scope.whole);
        monitors
            .filter_map(|monitor| Some((*monitor, self.all.get(monitor)?.watcher)))
            .collect()
    }

    fn forget(&mut self, monitor: Ref) {
        let Some(watch) = self.all.remove(&monitor) else {
            return;
        };
        let Some(scope) = self.scopes.get_mut(&watch.scope) else {
            return;
        };
        match &watch.group {
            None => {
                scope.whole.remove(&monitor);
            }
            Some(group) => {
                if let Some(monitors) = scope.groups.get_mut(group) {
                    monitors.remove(&monitor);
                    if monitors.is_empty() {
                        scope.groups.remove(group);
                    }
                }
            }
        }
        if scope.whole.is_empty() && scope.groups.is_empty() {
            self.scopes.remove(&watch.scope);
        }
    }
}

//! A global name has one holder on each connected side, and one in all after healing.
//!
//! Checked when a name is granted (no node linked to the new holder's, as both see it, holds
//! it), after each change of a table (the look-up table that the outputs make is what the
//! machine knows), and at rest (all tables are equal, and show living holders).

use std::collections::{BTreeMap, BTreeSet};

use wasm_node_protocol::cluster::ClusterOutput;
use wasm_node_protocol::global::{REGISTER_TIMEOUT_MS, RequestId};
use wasm_node_protocol::{Millis, Pid, RegisterError};

use super::{Broken, Invariant, Seen, View, broken};
use crate::sim::Stats;
use crate::sim::network::NodeIndex;
use crate::sim::trace::Topic;

/// One holder a name.
#[derive(Default)]
pub struct Names {
    tables: BTreeMap<NodeIndex, BTreeMap<String, Pid>>,
    changed: BTreeSet<NodeIndex>,
    claims: BTreeMap<(NodeIndex, RequestId), (String, Millis)>,
    granted: u64,
    taken: u64,
    timeouts: u64,
    conflicts: u64,
}

impl Names {
    fn registered(
        &mut self,
        view: &View<'_>,
        node: NodeIndex,
        request: RequestId,
        result: &Result<(), RegisterError>,
    ) -> Result<(), Broken> {
        let Some((name, since)) = self.claims.remove(&(node, request)) else {
            return broken(
                &[node],
                format!("n{node}: claim {request:?} answered twice"),
            );
        };
        match result {
            Ok(()) => {
                self.granted += 1;
                one_holder(view, node, &name)
            }
            Err(RegisterError::Taken(_)) => {
                self.taken += 1;
                Ok(())
            }
            Err(RegisterError::Timeout) => {
                self.timeouts += 1;
                match view.clocks[node] - since {
                    REGISTER_TIMEOUT_MS.. => Ok(()),
                    early => broken(
                        &[node],
                        format!("n{node}: the claim to {name} timed out after {early} ms"),
                    ),
                }
            }
            Err(_) => Ok(()),
        }
    }
}

/// No node that is linked to `granted`, as both see it, holds the name.
fn one_holder(view: &View<'_>, granted: NodeIndex, name: &str) -> Result<(), Broken> {
    let Some(node) = &view.nodes[granted] else {
        return Ok(());
    };
    for (index, other) in view.visible().filter(|(index, _)| *index != granted) {
        let conn = node.conn_to(other.incarnation);
        let linked = conn.is_some() && conn == other.conn_to(node.incarnation);
        let holder = other
            .cluster
            .global()
            .held()
            .find(|(held, _)| *held == name);
        if let (true, Some((_, pid))) = (linked, holder) {
            let what = format!(
                "n{granted} was granted {name}, which {pid:?} on n{index} holds; they are linked"
            );
            return broken(&[granted, index], what);
        }
    }
    Ok(())
}

impl Invariant for Names {
    fn name(&self) -> &'static str {
        "one holder a global name"
    }

    fn topics(&self) -> &'static [Topic] {
        &[Topic::Names, Topic::Membership]
    }

    fn saw(&mut self, view: &View<'_>, node: NodeIndex, seen: &Seen<'_>) -> Result<(), Broken> {
        match seen {
            Seen::Started | Seen::Stopped => {
                self.tables.remove(&node);
                self.claims.retain(|(of, _), _| *of != node);
            }
            Seen::Claiming { request, name, .. } => {
                let claim = ((*name).to_owned(), view.clocks[node]);
                self.claims.insert((node, *request), claim);
            }
            Seen::Output(ClusterOutput::Registered { request, result }) => {
                return self.registered(view, node, *request, result);
            }
            Seen::Output(ClusterOutput::NameInstalled { name, pid }) => {
                self.changed.insert(node);
                let table = self.tables.entry(node).or_default();
                table.insert(name.clone(), *pid);
            }
            Seen::Output(ClusterOutput::NameRemoved { name }) => {
                self.changed.insert(node);
                let table = self.tables.entry(node).or_default();
                if table.remove(name).is_none() {
                    let what = format!("n{node}: name {name} removed that was not there");
                    return broken(&[node], what);
                }
            }
            Seen::Output(ClusterOutput::NameConflict { .. }) => self.conflicts += 1,
            _ => {}
        }
        Ok(())
    }

    fn after_step(&mut self, view: &View<'_>, node: NodeIndex) -> Result<(), Broken> {
        if !self.changed.remove(&node) {
            return Ok(());
        }
        let Some(state) = &view.nodes[node] else {
            return Ok(());
        };
        let table = self.tables.entry(node).or_default();
        let seen = table.iter().map(|(name, pid)| (name.as_str(), *pid));
        if !seen.eq(state.cluster.global().holders()) {
            let known: Vec<_> = state.cluster.global().holders().collect();
            let what = format!(
                "n{node}: outputs make the name table {table:?}, the machine has {known:?}"
            );
            return broken(&[node], what);
        }
        Ok(())
    }

    fn at_rest(&mut self, view: &View<'_>) -> Result<(), Broken> {
        if let Some(((node, _), (name, _))) = self.claims.first_key_value() {
            return broken(
                &[*node],
                format!("n{node}: the claim to {name} was never answered"),
            );
        }
        let mut truth: BTreeMap<String, Pid> = BTreeMap::new();
        for (index, node) in view.visible() {
            for (name, pid) in node.cluster.global().held() {
                if !view.is_alive(pid) {
                    let what = format!("n{index}: {name} is held by {pid:?}, which is dead");
                    return broken(&[index], what);
                }
                if let Some(first) = truth.insert(name.to_owned(), pid) {
                    let what = format!("{name} has two holders at rest: {first:?} and {pid:?}");
                    return broken(&view.homes(&[first, pid]), what);
                }
            }
        }
        for (index, _) in view.visible() {
            let table = self.tables.entry(index).or_default();
            if *table != truth {
                let what = format!("n{index} sees the names {table:?}; they are {truth:?}");
                return broken(&[index], what);
            }
        }
        Ok(())
    }

    fn count(&self, stats: &mut Stats) {
        stats.granted += self.granted;
        stats.taken += self.taken;
        stats.timeouts += self.timeouts;
        stats.conflicts += self.conflicts;
    }
}

//! Locks are exclusive among the requesters of each connected side, and none outlives its holder.
//!
//! Checked when a lock is granted (no node linked to the new holder's, as both see it, holds it
//! for another requester; but a requester that had it before two halves met may have company),
//! and at rest (each lock known anywhere is known everywhere, and has a living holder).

use std::collections::{BTreeMap, BTreeSet};

use wasm_node_protocol::cluster::ClusterOutput;
use wasm_node_protocol::global::{RequestId, Requester};

use super::{Broken, Invariant, Seen, View, broken};
use crate::sim::Stats;
use crate::sim::network::NodeIndex;
use crate::sim::node::SimNode;
use crate::sim::trace::Topic;

/// Exclusive locks.
#[derive(Default)]
pub struct Locks {
    asked: BTreeMap<(NodeIndex, RequestId), Asked>,
    granted: u64,
}

struct Asked {
    resource: String,
    requester: Requester,
    /// Its node held the lock for this requester already.
    already: bool,
}

fn holds(node: &SimNode, resource: &str, by: impl Fn(&Requester) -> bool) -> bool {
    let mut locks = node.cluster.global().held_locks();
    locks.any(|(held, of, _)| held == resource && by(of))
}

impl Invariant for Locks {
    fn name(&self) -> &'static str {
        "locks are exclusive and never orphaned"
    }

    fn topics(&self) -> &'static [Topic] {
        &[Topic::Names, Topic::Membership]
    }

    fn saw(&mut self, view: &View<'_>, node: NodeIndex, seen: &Seen<'_>) -> Result<(), Broken> {
        match seen {
            Seen::Started | Seen::Stopped => self.asked.retain(|(of, _), _| *of != node),
            Seen::Locking {
                request,
                resource,
                requester,
            } => {
                let already = view.nodes[node]
                    .as_ref()
                    .is_some_and(|node| holds(node, resource, |of| of == *requester));
                let asked = Asked {
                    resource: (*resource).to_owned(),
                    requester: (*requester).clone(),
                    already,
                };
                self.asked.insert((node, *request), asked);
            }
            Seen::Output(ClusterOutput::Registered { request, result }) => {
                if let Some(asked) = self.asked.remove(&(node, *request))
                    && result.is_ok()
                    && !asked.already
                {
                    self.granted += 1;
                    return exclusive(view, node, &asked);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, view: &View<'_>) -> Result<(), Broken> {
        if let Some(((node, _), asked)) = self.asked.first_key_value() {
            let resource = &asked.resource;
            return broken(
                &[*node],
                format!("n{node}: the claim to the lock {resource} was never answered"),
            );
        }
        let mut truth = BTreeSet::new();
        for (index, node) in view.visible() {
            for (resource, requester, pid) in node.cluster.global().held_locks() {
                if !view.is_alive(pid) {
                    let what = format!("n{index}: {resource} is held by {pid:?}, which is dead");
                    return broken(&[index], what);
                }
                truth.insert((resource, &node.name, requester));
            }
        }
        for (index, node) in view.visible() {
            let seen: BTreeSet<_> = node.cluster.global().locks().collect();
            if seen != truth {
                let what = format!("n{index} sees the locks {seen:?}; they are {truth:?}");
                return broken(&[index], what);
            }
        }
        Ok(())
    }

    fn count(&self, stats: &mut Stats) {
        stats.locked += self.granted;
    }
}

fn exclusive(view: &View<'_>, granted: NodeIndex, asked: &Asked) -> Result<(), Broken> {
    let Some(node) = &view.nodes[granted] else {
        return Ok(());
    };
    for (index, other) in view.visible().filter(|(index, _)| *index != granted) {
        let conn = node.conn_to(other.incarnation);
        let linked = conn.is_some() && conn == other.conn_to(node.incarnation);
        let resource = &asked.resource;
        if linked && holds(other, resource, |of| *of != asked.requester) {
            let what = format!(
                "n{granted} was granted the lock {resource}, which n{index} holds for another; they are linked"
            );
            return broken(&[granted, index], what);
        }
    }
    Ok(())
}

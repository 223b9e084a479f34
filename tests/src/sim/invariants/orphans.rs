//! No promise, claim or turn outlives what it belongs to: a claimant that is not up has none
//! anywhere, and at rest there are none at all.

use wasm_node_protocol::NodeKind;

use super::{Broken, Invariant, View, broken};
use crate::sim::network::NodeIndex;
use crate::sim::trace::Topic;

/// Nothing is orphaned.
#[derive(Default)]
pub struct Orphans;

impl Invariant for Orphans {
    fn name(&self) -> &'static str {
        "no orphaned promises and claims"
    }

    fn topics(&self) -> &'static [Topic] {
        &[Topic::Names, Topic::Membership]
    }

    fn after_step(&mut self, view: &View<'_>, node: NodeIndex) -> Result<(), Broken> {
        let Some(state) = &view.nodes[node] else {
            return Ok(());
        };
        for (name, claimant, claim) in state.cluster.global().promises() {
            let own = *claimant == state.name;
            let up = || {
                let mut peers = state.cluster.peers();
                peers.any(|(_, peer)| peer.name == *claimant && peer.kind == NodeKind::Visible)
            };
            if !own && !up() {
                let what = format!(
                    "n{node}: {name} is promised to claim {claim} of {claimant}, which is not up"
                );
                return broken(&[node], what);
            }
        }
        Ok(())
    }

    fn at_rest(&mut self, view: &View<'_>) -> Result<(), Broken> {
        for (index, node) in view.running() {
            let global = node.cluster.global();
            if let Some((name, claimant, claim)) = global.promises().next() {
                let what = format!(
                    "n{index}: {name} is promised for ever, to claim {claim} of {claimant}"
                );
                return broken(&[], what);
            }
            if let Some((claim, name, _)) = global.pending_claims().next() {
                let what = format!("n{index}: claim {claim} to {name} never ends");
                return broken(&[], what);
            }
            if let Some(name) = global.queued_names().next() {
                let what = format!("n{index}: claims to {name} are queued for ever");
                return broken(&[], what);
            }
        }
        Ok(())
    }
}

//! Node-up and node-down come in pairs, and once everything heals all visible nodes see each
//! other's present run and nobody else.

use std::collections::{BTreeMap, BTreeSet};

use wasm_node_protocol::cluster::ClusterOutput;
use wasm_node_protocol::handshake::Peer;
use wasm_node_protocol::{NodeKind, NodeName};

use super::{Broken, Invariant, Seen, View, broken};
use crate::sim::network::NodeIndex;
use crate::sim::trace::Topic;

/// Membership converges.
#[derive(Default)]
pub struct Membership {
    up: BTreeMap<NodeIndex, BTreeMap<NodeName, Peer>>,
}

impl Invariant for Membership {
    fn name(&self) -> &'static str {
        "membership converges"
    }

    fn topics(&self) -> &'static [Topic] {
        &[Topic::Membership]
    }

    fn saw(&mut self, _: &View<'_>, node: NodeIndex, seen: &Seen<'_>) -> Result<(), Broken> {
        let up = self.up.entry(node).or_default();
        match seen {
            Seen::Started | Seen::Stopped => up.clear(),
            Seen::Output(ClusterOutput::NodeUp { peer, .. }) => {
                if let Some(before) = up.insert(peer.name.clone(), peer.clone()) {
                    let (now, before) = (peer.incarnation, before.incarnation);
                    let what = format!(
                        "n{node}: node-up of {} twice, of {before:?} and {now:?}",
                        peer.name
                    );
                    return broken(&[node], what);
                }
            }
            Seen::Output(ClusterOutput::NodeDown { peer, .. }) => match up.remove(&peer.name) {
                Some(before) if before.incarnation == peer.incarnation => {}
                other => {
                    let what = format!(
                        "n{node}: node-down of {} without its node-up: {other:?}",
                        peer.name
                    );
                    return broken(&[node], what);
                }
            },
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, view: &View<'_>) -> Result<(), Broken> {
        for (index, node) in view.running() {
            let told: BTreeSet<_> = self
                .up
                .get(&index)
                .into_iter()
                .flat_map(BTreeMap::keys)
                .collect();
            let peers: BTreeMap<_, _> = node
                .cluster
                .peers()
                .map(|(_, peer)| (&peer.name, peer.incarnation))
                .collect();
            if told != peers.keys().copied().collect() {
                let what = format!(
                    "n{index}: node-up and node-down leave {told:?}, the machine {peers:?}"
                );
                return broken(&[index], what);
            }
            if node.cluster.hello().kind == NodeKind::Hidden {
                continue;
            }
            for (other_index, other) in view.visible().filter(|(other, _)| *other != index) {
                match peers.get(&other.name) {
                    None => {
                        let what = format!("n{index} does not see n{other_index}");
                        return broken(&[index, other_index], what);
                    }
                    Some(run) if *run != other.incarnation => {
                        let what = format!("n{index} sees an earlier run of n{other_index}");
                        return broken(&[index, other_index], what);
                    }
                    Some(_) => {}
                }
            }
            let dead = peers
                .keys()
                .find(|name| !view.running().any(|(_, other)| other.name == ***name));
            if let Some(name) = dead {
                return broken(&[index], format!("n{index} sees {name}, which is dead"));
            }
        }
        Ok(())
    }
}

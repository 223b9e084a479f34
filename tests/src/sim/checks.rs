//! What must hold: after each step, and once the cluster has been left in peace.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use wasm_node_protocol::cluster::ClusterOutput;
use wasm_node_protocol::global::RequestId;
use wasm_node_protocol::handshake::Peer;
use wasm_node_protocol::{NodeKind, NodeName, Pid, RegisterError};

use super::Stats;
use super::network::{ConnId, Micros, NodeIndex};
use super::node::SimNode;

/// What one node was seen to do since its start.
#[derive(Default, Debug)]
pub struct Observed {
    /// Actors that live there.
    pub actors: BTreeSet<Pid>,
    /// What each joined, as often as it did.
    pub groups: Vec<(String, Pid)>,
    /// Claims that wait for an answer: the name, the actor, since when.
    pub claims: BTreeMap<RequestId, (String, Pid, Micros)>,
    /// Connect requests that wait for an answer.
    pub connects: BTreeSet<RequestId>,
    /// The look-up table that its outputs make.
    names: BTreeMap<String, Pid>,
    group_table: BTreeMap<(String, Pid), usize>,
    up: BTreeMap<NodeName, Peer>,
    /// By sender and receiver: over which connection the last signal came, and its number.
    received: BTreeMap<(Pid, Pid), (ConnId, u64)>,
}

/// A signal's body: its connection, its number, and filling that can be checked.
pub fn signal_body(conn: ConnId, number: u64, filling: usize) -> Bytes {
    let mut body = Vec::with_capacity(16 + filling);
    body.extend_from_slice(&conn.0.to_le_bytes());
    body.extend_from_slice(&number.to_le_bytes());
    body.resize(16 + filling, number as u8);
    body.into()
}

impl Observed {
    /// A cluster machine's output.
    ///
    /// # Errors
    /// It contradicts earlier ones.
    pub fn output(
        &mut self,
        now: Micros,
        output: &ClusterOutput,
        stats: &mut Stats,
    ) -> Result<(), String> {
        match output {
            ClusterOutput::NodeUp { peer, .. } => {
                stats.node_ups += 1;
                if let Some(before) = self.up.insert(peer.name.clone(), peer.clone()) {
                    return Err(format!(
                        "node-up of {} twice, run {:?} and {:?}",
                        peer.name, before.incarnation, peer.incarnation
                    ));
                }
            }
            ClusterOutput::NodeDown { peer, .. } => match self.up.remove(&peer.name) {
                Some(before) if before.incarnation == peer.incarnation => {}
                other => {
                    return Err(format!(
                        "node-down of {} without its node-up: {other:?}",
                        peer.name
                    ));
                }
            },
            ClusterOutput::Connected { request, .. } => {
                let first = self.connects.remove(request);
                return if first {
                    Ok(())
                } else {
                    Err(format!("{request:?} answered twice"))
                };
            }
            ClusterOutput::Registered { request, result } => {
                let Some((name, _, since)) = self.claims.remove(request) else {
                    return Err(format!("claim {request:?} answered twice"));
                };
                match result {
                    Ok(()) => stats.granted += 1,
                    Err(RegisterError::Taken(_)) => stats.taken += 1,
                    Err(RegisterError::Timeout) => {
                        stats.timeouts += 1;
                        // The machines count in milliseconds.
                        if now - since < 4_999_000 {
                            return Err(format!("the claim to {name} timed out early"));
                        }
                    }
                    Err(_) => {}
                }
            }
            ClusterOutput::NameInstalled { name, pid } => {
                self.names.insert(name.clone(), *pid);
            }
            ClusterOutput::NameRemoved { name } => {
                let before = self.names.remove(name);
                return before
                    .map(|_| ())
                    .ok_or(format!("name {name} removed that was not there"));
            }
            ClusterOutput::NameConflict { .. } => stats.conflicts += 1,
            ClusterOutput::GroupJoined { group, pid } => {
                *self.group_table.entry((group.clone(), *pid)).or_default() += 1;
            }
            ClusterOutput::GroupLeft { group, pid } => {
                let key = (group.clone(), *pid);
                match self.group_table.get_mut(&key) {
                    Some(1) => {
                        self.group_table.remove(&key);
                    }
                    Some(times) => *times -= 1,
                    None => return Err(format!("{pid:?} left {group} more often than it joined")),
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A signal that arrived.
    ///
    /// # Errors
    /// It overtook another, came twice, is damaged, or one before it on the same connection
    /// is missing.
    pub fn signal(&mut self, conn: ConnId, from: Pid, to: Pid, body: &[u8]) -> Result<(), String> {
        let (sent_over, rest) = body
            .split_first_chunk::<8>()
            .ok_or("a signal lost its head")?;
        let (number, filling) = rest
            .split_first_chunk::<8>()
            .ok_or("a signal lost its head")?;
        let (sent_over, number) = (u64::from_le_bytes(*sent_over), u64::from_le_bytes(*number));
        if filling.iter().any(|byte| *byte != number as u8) {
            return Err(format!(
                "signal {number} from {from:?} to {to:?} is damaged"
            ));
        }
        if sent_over != conn.0 {
            return Err(format!(
                "signal {number} was sent over connection {sent_over}, came over {}",
                conn.0
            ));
        }
        let before = self.received.insert((from, to), (conn, number));
        match before {
            Some((_, last)) if number <= last => Err(format!(
                "signal {number} from {from:?} to {to:?} came after {last}"
            )),
            Some((before, last)) if before == conn && number != last + 1 => Err(format!(
                "signal {number} from {from:?} to {to:?} came straight after {last}"
            )),
            _ => Ok(()),
        }
    }

    /// That the look-up table is what the machine knows.
    ///
    /// # Errors
    /// It is not.
    pub fn mirrors(&self, node: &SimNode) -> Result<(), String> {
        let names: BTreeMap<_, _> = node
            .cluster
            .global()
            .holders()
            .map(|(name, pid)| (name.to_owned(), pid))
            .collect();
        if names != self.names {
            return Err(format!(
                "{}: outputs make the name table {:?}, the machine has {names:?}",
                node.name, self.names
            ));
        }
        Ok(())
    }
}

/// When a node is granted a name: that no node that is linked to it, as both see it, holds it.
///
/// # Errors
/// One does.
pub fn one_holder(nodes: &[Option<SimNode>], granted: NodeIndex, name: &str) -> Result<(), String> {
    let Some(node) = &nodes[granted] else {
        return Ok(());
    };
    for other in nodes
        .iter()
        .flatten()
        .filter(|other| other.name != node.name)
    {
        let conn = node.conn_to(&other.name);
        let linked = conn.is_some() && conn == other.conn_to(&node.name);
        let holder = other
            .cluster
            .global()
            .held()
            .find(|(held, _)| *held == name);
        if let (true, Some((_, pid))) = (linked, holder) {
            return Err(format!(
                "{} was granted {name}, which {pid:?} on {} holds; they are linked",
                node.name, other.name
            ));
        }
    }
    Ok(())
}

/// After the cluster was left in peace for long enough.
///
/// # Errors
/// The nodes do not agree on who is up, who holds a name, who is in a group; or something is
/// left over.
pub fn at_rest(nodes: &[Option<SimNode>], observed: &[Observed]) -> Result<(), String> {
    for (index, node) in nodes.iter().enumerate() {
        let Some(node) = node else { continue };
        membership(nodes, node)?;
        let seen = &observed[index];
        let up: BTreeSet<_> = seen.up.keys().collect();
        let peers: BTreeSet<_> = node.cluster.peers().map(|(_, peer)| &peer.name).collect();
        if up != peers {
            return Err(format!(
                "{}: node-up and node-down leave {up:?}, but {peers:?} are up",
                node.name
            ));
        }
        if !seen.claims.is_empty() || !seen.connects.is_empty() {
            return Err(format!(
                "{}: never answered: {:?}, {:?}",
                node.name, seen.claims, seen.connects
            ));
        }
        if let Some((name, claimant, claim)) = node.cluster.global().promises().next() {
            return Err(format!(
                "{}: {name:?} is promised for ever, to claim {claim} of {claimant}",
                node.name
            ));
        }
        if let Some((claim, bid, _)) = node.cluster.global().pending_claims().next() {
            return Err(format!(
                "{}: claim {claim} to {bid:?} never ends",
                node.name
            ));
        }
        if let Some(key) = node.cluster.global().queued().next() {
            return Err(format!(
                "{}: claims to {key:?} are queued for ever",
                node.name
            ));
        }
        tables(nodes, observed, index, node)?;
    }
    Ok(())
}

fn is_visible(node: &SimNode) -> bool {
    node.cluster.hello().kind == NodeKind::Visible
}

fn membership(nodes: &[Option<SimNode>], node: &SimNode) -> Result<(), String> {
    if !is_visible(node) {
        return Ok(());
    }
    let up: BTreeMap<_, _> = node
        .cluster
        .peers()
        .map(|(_, peer)| (&peer.name, peer))
        .collect();
    for other in nodes {
        let Some(other) = other
            .as_ref()
            .filter(|other| other.name != node.name && is_visible(other))
        else {
            continue;
        };
        match up.get(&other.name) {
            None => {
                return Err(format!("{} does not see {}", node.name, other.name));
            }
            Some(peer) if peer.incarnation != other.incarnation => {
                return Err(format!(
                    "{} sees an earlier run of {}",
                    node.name, other.name
                ));
            }
            _ => {}
        }
    }
    let dead = up
        .keys()
        .find(|name| !nodes.iter().flatten().any(|other| other.name == ***name));
    match dead {
        Some(name) => Err(format!("{} sees {name}, which is dead", node.name)),
        None => Ok(()),
    }
}

fn tables(
    nodes: &[Option<SimNode>],
    observed: &[Observed],
    index: NodeIndex,
    node: &SimNode,
) -> Result<(), String> {
    if !is_visible(node) {
        return Ok(());
    }
    let mut truth = BTreeMap::new();
    let mut groups: BTreeMap<(String, Pid), usize> = BTreeMap::new();
    for (other_index, other) in nodes.iter().enumerate() {
        let Some(other) = other.as_ref().filter(|other| is_visible(other)) else {
            continue;
        };
        for (name, pid) in other.cluster.global().held() {
            if !observed[other_index].actors.contains(&pid) {
                return Err(format!(
                    "{}: {name} is held by {pid:?}, which is dead",
                    other.name
                ));
            }
            if let Some(first) = truth.insert(name.to_owned(), pid) {
                return Err(format!(
                    "{name} has two holders at rest: {first:?} and {pid:?}"
                ));
            }
        }
        for membership in &observed[other_index].groups {
            *groups.entry(membership.clone()).or_default() += 1;
        }
    }
    let seen = &observed[index];
    if seen.names != truth {
        return Err(format!(
            "{} sees the names {:?}; they are {truth:?}",
            node.name, seen.names
        ));
    }
    if seen.group_table != groups {
        return Err(format!(
            "{} sees the groups {:?}; they are {groups:?}",
            node.name, seen.group_table
        ));
    }
    Ok(())
}

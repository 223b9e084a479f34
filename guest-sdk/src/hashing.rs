//! Which node a key belongs to, without asking anybody: consistent hashing over the live nodes.
//!
//! ```no_run
//! # fn main() {}
//! use wasm_node_sdk::{ServerRef, hashing};
//! # use wasm_node_sdk::GenServer;
//!
//! /// The cache of a user is on one node, and every node knows which.
//! fn cache_of<S: GenServer>(user: &str) -> ServerRef<S> {
//!     ServerRef::remote("cache", &hashing::node_for(user))
//! }
//!
//! /// Where copies are, the first of them the main one.
//! fn copies(user: &str) -> Vec<String> {
//!     hashing::nodes_for(user, 3)
//! }
//! ```
//!
//! It is rendezvous hashing: every node of a view has a score for a key, and the highest is the
//! key's. So any two actors with the same view agree, in any order, on any machine, in any
//! version of this SDK: [`View`] says what is computed. When a node joins, it takes its share, `1/n`, of
//! the keys, and no other key moves; when one leaves, only its own keys move, each to the node
//! that was its second. [`nodes_for`] lists the nodes of a key by their scores.
//!
//! In place of a global name for each key (Erlang's `global`), this costs neither messages nor
//! state. It does not make one holder unique: while nodes join, leave or are cut off, views
//! differ, and two nodes may believe to be responsible. Where that matters, register globally.
//! Erlang has `erlang:phash2` and libraries for this; OTP itself has no counterpart.
//!
//! Every look-up takes a step for each node of the view: some nanoseconds each. Keys chosen by
//! an adversary can all be made to belong to one node: the hash has no secret.

use std::cmp::Reverse;

/// The nodes among which keys are divided, the same for all who are to agree.
///
/// The score of a node for a key is `mix(fnv(key) ^ mix(fnv(node)))`: `fnv` is FNV-1a with 64 bits,
/// `mix` the finaliser of SplitMix64. Of two nodes with one score, the smaller name wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Sorted by name, each once.
    nodes: Vec<(String, u64)>,
}

impl View {
    /// These nodes; their order does not matter.
    pub fn new(nodes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut nodes: Vec<_> = nodes
            .into_iter()
            .map(|node| {
                let node = node.into();
                let hash = mix(fnv(node.as_bytes()));
                (node, hash)
            })
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        Self { nodes }
    }

    /// This node and the visible ones connected to it, at this moment. Keep it for many keys at
    /// once; make a new one after node-up and node-down.
    pub fn live() -> Self {
        Self::new(crate::rpc::everywhere())
    }

    /// The nodes, sorted.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &str> {
        self.nodes.iter().map(|(node, _)| node.as_str())
    }

    /// The node of a key; none if there is no node at all.
    pub fn node_for(&self, key: impl AsRef<[u8]>) -> Option<&str> {
        let key = fnv(key.as_ref());
        let best = self.nodes.iter().min_by_key(|node| rank(key, node));
        best.map(|(node, _)| node.as_str())
    }

    /// The first `count` nodes of a key, or all if there are fewer. The first is that of
    /// [`View::node_for`]; the others are where its key goes when those before are gone.
    pub fn nodes_for(&self, key: impl AsRef<[u8]>, count: usize) -> Vec<&str> {
        let key = fnv(key.as_ref());
        let mut nodes: Vec<_> = self.nodes.iter().collect();
        nodes.sort_unstable_by_key(|node| rank(key, node));
        nodes.truncate(count);
        nodes.into_iter().map(|(node, _)| node.as_str()).collect()
    }
}

/// The live node that a key belongs to: [`View::live`]. Alone, this node.
pub fn node_for(key: impl AsRef<[u8]>) -> String {
    let view = View::live();
    view.node_for(key).unwrap_or_default().into()
}

/// The first `count` live nodes of a key, or all if there are fewer.
pub fn nodes_for(key: impl AsRef<[u8]>, count: usize) -> Vec<String> {
    let view = View::live();
    let nodes = view.nodes_for(key, count);
    nodes.into_iter().map(Into::into).collect()
}

/// Lower is better.
fn rank(key: u64, (node, hash): &(String, u64)) -> (Reverse<u64>, &str) {
    (Reverse(mix(key ^ hash)), node)
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const KEYS: usize = 20_000;

    fn names(count: usize, round: usize) -> Vec<String> {
        let name = |n| format!("node{n}@10.0.{round}.1");
        (1..=count).map(name).collect()
    }

    fn keys() -> impl Iterator<Item = String> {
        (0..KEYS).map(|n| format!("user-{n}"))
    }

    #[test]
    fn the_answer_is_for_ever() {
        let view = View::new(["a@h", "b@h", "c@h"]);
        let of = |key: &str| view.nodes_for(key, 3).join(" ");
        // Worked out apart from this code, in another language.
        assert_eq!(of("alice"), "b@h c@h a@h");
        assert_eq!(of("bob"), "c@h b@h a@h");
        assert_eq!(of(""), "c@h a@h b@h");
    }

    #[test]
    fn order_and_repetition_do_not_matter() {
        let mut nodes = names(7, 0);
        let view = View::new(nodes.clone());
        nodes.reverse();
        nodes.extend(names(3, 0));
        assert_eq!(View::new(nodes), view);
        assert_eq!(view.nodes().len(), 7);
    }

    #[test]
    fn none_one_and_few() {
        assert_eq!(View::new([""; 0]).node_for("k"), None);
        let one = View::new(["a@h"]);
        assert_eq!(one.node_for("k"), Some("a@h"));
        assert_eq!(one.nodes_for("k", 3), ["a@h"]);
        assert_eq!(one.nodes_for("k", 0), [""; 0]);
    }

    #[test]
    fn replicas_begin_with_the_keys_own_and_are_where_it_goes() {
        for count in 1..8 {
            let all = names(count, count);
            let view = View::new(all.clone());
            for key in keys().take(500) {
                let nodes = view.nodes_for(&key, count);
                assert_eq!(nodes.first().copied(), view.node_for(&key));
                let mut sorted = nodes.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, all.iter().collect::<Vec<_>>(), "each once");
                for (at, gone) in nodes.iter().enumerate() {
                    let others = View::new(all.iter().filter(|node| node != gone).cloned());
                    let mut expected = nodes.clone();
                    expected.remove(at);
                    assert_eq!(others.nodes_for(&key, count), expected);
                }
            }
        }
    }

    #[test]
    fn only_the_new_nodes_share_moves_and_to_it_alone() {
        for count in [1, 2, 3, 5, 10, 50] {
            let before = View::new(names(count, count));
            let new = "newcomer@10.9.9.9";
            let after = View::new(names(count, count).into_iter().chain([new.into()]));
            let mut moved = 0;
            for key in keys() {
                let (from, to) = (before.node_for(&key), after.node_for(&key));
                if from != to {
                    assert_eq!(to, Some(new), "between old nodes nothing moves");
                    moved += 1;
                }
            }
            let share = KEYS / (count + 1);
            let (least, most) = (share * 8 / 10, share * 12 / 10);
            assert!(
                (least..=most).contains(&moved),
                "{count}: {moved} of {share}"
            );
        }
    }

    #[test]
    fn shares_are_even() {
        for count in [2, 3, 5, 10, 50] {
            let view = View::new(names(count, 2 * count));
            let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
            let keys: Vec<_> = keys().collect();
            for key in &keys {
                *shares.entry(view.node_for(key).unwrap()).or_default() += 1;
            }
            let share = KEYS / count;
            assert_eq!(shares.len(), count);
            for (node, keys) in shares {
                assert!(
                    (share * 3 / 4..=share * 5 / 4).contains(&keys),
                    "{node}: {keys} of {share}"
                );
            }
        }
    }
}

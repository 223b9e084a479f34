//! Whether this node sees enough of the cluster to grant anything.
//!
//! The cluster is as large as the operator says; or, unsaid, as the nodes that are up and
//! those that were lost (went down without saying that they leave) are together. Knows names
//! of nodes, and nothing of claims.

use std::collections::BTreeSet;

use crate::exit::RegisterError;
use crate::ids::NodeName;

/// The most lost nodes that are remembered; further ones do not count.
const MAX_LOST_NODES: usize = 4096;

/// What the smaller part of a divided cluster may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PartitionPolicy {
    /// Register names and take locks, as the larger one: in two parts, two actors may.
    #[default]
    Available,
    /// Neither, unless this node sees more than half of the cluster, itself included: those
    /// fail with [`RegisterError::Minority`]. What is held stays held.
    MinorityRefuses {
        /// How many visible nodes the cluster has. Without, it is those that this node has met
        /// since it started, less those that stopped in order: a node that starts cut off
        /// then takes itself for the whole cluster.
        cluster_size: Option<u32>,
    },
}

#[derive(Debug, Default)]
pub(super) struct Quorum {
    policy: PartitionPolicy,
    lost: BTreeSet<NodeName>,
}

impl Quorum {
    pub fn new(policy: PartitionPolicy) -> Self {
        Self {
            policy,
            lost: BTreeSet::new(),
        }
    }

    pub fn node_up(&mut self, node: &NodeName) {
        self.lost.remove(node);
    }

    pub fn node_down(&mut self, node: &NodeName, left: bool) {
        if !left && self.lost.len() < MAX_LOST_NODES {
            self.lost.insert(node.clone());
        }
    }

    /// Why this node may grant nothing, if so. It sees so many nodes, itself included.
    pub fn refusal(&self, seen: usize) -> Option<RegisterError> {
        let PartitionPolicy::MinorityRefuses { cluster_size } = self.policy else {
            return None;
        };
        let seen = u32::try_from(seen).unwrap_or(u32::MAX);
        let met = seen.saturating_add(u32::try_from(self.lost.len()).unwrap_or(u32::MAX));
        let known = cluster_size.unwrap_or(met);
        let few = u64::from(seen) * 2 <= u64::from(known);
        few.then_some(RegisterError::Minority { seen, known })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NodeName {
        text.parse().unwrap()
    }

    #[test]
    fn half_of_the_cluster_is_no_majority() {
        let policy = PartitionPolicy::MinorityRefuses {
            cluster_size: Some(4),
        };
        let quorum = Quorum::new(policy);
        let refused = |seen| Some(RegisterError::Minority { seen, known: 4 });
        assert_eq!(quorum.refusal(1), refused(1));
        assert_eq!(quorum.refusal(2), refused(2));
        assert_eq!(quorum.refusal(3), None);
        assert_eq!(Quorum::default().refusal(1), None);
    }

    #[test]
    fn lost_nodes_count_and_those_that_left_do_not() {
        let mut quorum = Quorum::new(PartitionPolicy::MinorityRefuses { cluster_size: None });
        assert_eq!(quorum.refusal(1), None, "a node that has met nobody");
        quorum.node_down(&name("b@h"), false);
        let refused = Some(RegisterError::Minority { seen: 1, known: 2 });
        assert_eq!(quorum.refusal(1), refused);
        quorum.node_up(&name("b@h"));
        assert_eq!(quorum.refusal(2), None);
        quorum.node_down(&name("b@h"), true);
        assert_eq!(quorum.refusal(1), None);
    }
}

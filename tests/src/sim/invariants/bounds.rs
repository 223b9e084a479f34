//! Queues are bounded: what waits for a slow peer ([`PEER_QUEUE_HIGH_BYTES`] and one message a
//! sender more) and claims that are under way ([`MAX_QUEUED_CLAIMS`]).

use wasm_node_protocol::global::MAX_QUEUED_CLAIMS;

use super::{Broken, Invariant, View, broken};
use crate::sim::network::NodeIndex;
use crate::sim::node::PEER_QUEUE_HIGH_BYTES;
use crate::sim::trace::Topic;
use crate::sim::{MAX_ACTORS, MAX_BODY_BYTES, Stats};

/// What may wait for one peer, in bytes: senders pause at the high mark, but each may have
/// sent one message after it was reached; the rest is for the machines' own messages.
const MAX_QUEUED_BYTES: usize = PEER_QUEUE_HIGH_BYTES + MAX_ACTORS * MAX_BODY_BYTES + 256 * 1024;

/// Queues are bounded.
#[derive(Default)]
pub struct Bounds {
    most_queued: usize,
}

impl Invariant for Bounds {
    fn name(&self) -> &'static str {
        "queues are bounded"
    }

    fn topics(&self) -> &'static [Topic] {
        &[Topic::Actors]
    }

    fn after_step(&mut self, view: &View<'_>, node: NodeIndex) -> Result<(), Broken> {
        let Some(state) = &view.nodes[node] else {
            return Ok(());
        };
        let queued = state.most_queued();
        self.most_queued = self.most_queued.max(queued);
        if queued > MAX_QUEUED_BYTES {
            let what = format!(
                "n{node}: {queued} bytes wait for one peer; at most {MAX_QUEUED_BYTES} may"
            );
            return broken(&[node], what);
        }
        let claims = state.cluster.global().pending_claims().count();
        if claims > MAX_QUEUED_CLAIMS {
            return broken(&[node], format!("n{node}: {claims} claims are under way"));
        }
        Ok(())
    }

    fn count(&self, stats: &mut Stats) {
        stats.most_queued_bytes = stats.most_queued_bytes.max(self.most_queued as u64);
    }
}

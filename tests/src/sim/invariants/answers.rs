//! Each connect request of a user is answered once.

use std::collections::BTreeSet;

use wasm_node_protocol::cluster::ClusterOutput;
use wasm_node_protocol::global::RequestId;

use super::{Broken, Invariant, Seen, View, broken};
use crate::sim::network::NodeIndex;
use crate::sim::trace::Topic;

/// Connect requests are answered.
#[derive(Default)]
pub struct Answers {
    waiting: BTreeSet<(NodeIndex, RequestId)>,
}

impl Invariant for Answers {
    fn name(&self) -> &'static str {
        "connect requests are answered once"
    }

    fn topics(&self) -> &'static [Topic] {
        &[Topic::Membership]
    }

    fn saw(&mut self, _: &View<'_>, node: NodeIndex, seen: &Seen<'_>) -> Result<(), Broken> {
        match seen {
            Seen::Started | Seen::Stopped => self.waiting.retain(|(of, _)| *of != node),
            Seen::Connecting(request) => {
                self.waiting.insert((node, *request));
            }
            Seen::Output(ClusterOutput::Connected { request, .. })
                if !self.waiting.remove(&(node, *request)) =>
            {
                return broken(&[node], format!("n{node}: {request:?} was answered twice"));
            }
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, _: &View<'_>) -> Result<(), Broken> {
        match self.waiting.first() {
            Some((node, request)) => {
                broken(&[*node], format!("n{node}: {request:?} was never answered"))
            }
            None => Ok(()),
        }
    }
}

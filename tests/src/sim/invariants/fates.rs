//! What every check of links, monitors and requests has to know: who has ended, and which
//! connections went down, as each side saw it.

use std::collections::{BTreeMap, BTreeSet};

use wasm_node_protocol::cluster::ClusterOutput;
use wasm_node_protocol::{ExitReason, Incarnation, Pid};

use super::{Seen, View};
use crate::sim::network::NodeIndex;
use crate::sim::process::Fact;

/// The past.
#[derive(Default)]
pub struct Fates {
    began: BTreeSet<Pid>,
    ended: BTreeMap<Pid, ExitReason>,
    stopped: BTreeSet<Incarnation>,
    /// How often each run of a node (first) was told that another (second) is down.
    downs: BTreeMap<(Incarnation, Incarnation), u64>,
    runs: BTreeMap<NodeIndex, Incarnation>,
}

/// How one actor stood to another when something began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tie {
    /// Who waits to be told.
    pub by: Pid,
    /// Of whose end.
    pub of: Pid,
    /// Whether there was a connection.
    connected: bool,
    /// How often it had gone down before.
    downs: u64,
    /// Whether there was never such an actor.
    nobody: bool,
}

impl Fates {
    /// Takes note.
    pub fn saw(&mut self, view: &View<'_>, node: NodeIndex, seen: &Seen<'_>) {
        match seen {
            Seen::Started => {
                if let Some(state) = &view.nodes[node] {
                    self.runs.insert(node, state.incarnation);
                }
            }
            Seen::Stopped => self.stopped.extend(self.runs.get(&node)),
            Seen::Output(ClusterOutput::NodeDown { peer, .. }) => {
                if let Some(run) = self.runs.get(&node) {
                    *self.downs.entry((*run, peer.incarnation)).or_default() += 1;
                }
            }
            Seen::Process(Fact::Began(pid)) => {
                self.began.insert(*pid);
            }
            Seen::Process(Fact::Ended(pid, reason)) => {
                self.ended.insert(*pid, reason.clone());
            }
            _ => {}
        }
    }

    /// Something begins between two actors.
    pub fn tie(&self, by: Pid, of: Pid, connected: bool) -> Tie {
        Tie {
            by,
            of,
            connected,
            downs: self.downs_of(by, of),
            nobody: !self.began.contains(&of),
        }
    }

    fn downs_of(&self, by: Pid, of: Pid) -> u64 {
        let downs = self.downs.get(&(by.node, of.node));
        downs.copied().unwrap_or_default()
    }

    fn has_ended(&self, pid: Pid) -> bool {
        self.ended.contains_key(&pid) || self.stopped.contains(&pid.node)
    }

    fn was_cut(&self, tie: &Tie) -> bool {
        !tie.connected || self.downs_of(tie.by, tie.of) > tie.downs
    }

    /// Whether `by` must have been told by now (at rest), and whether for a reason that no
    /// actor survives without trapping exits: a normal end may have been told before a cut.
    pub fn is_over(&self, tie: &Tie) -> Option<bool> {
        match self.ended.get(&tie.of) {
            Some(reason) if *reason == ExitReason::Normal => Some(false),
            Some(_) => Some(true),
            None if self.was_cut(tie) => Some(true),
            None => (tie.nobody || self.has_ended(tie.of)).then_some(true),
        }
    }

    /// That a reason given for the end is true.
    pub fn judge(&self, tie: &Tie, reason: &ExitReason) -> Result<(), String> {
        let of_host = match reason {
            ExitReason::NoConnection => self.was_cut(tie),
            ExitReason::NoProc => tie.nobody || self.has_ended(tie.of),
            _ => false,
        };
        if of_host || self.ended.get(&tie.of) == Some(reason) {
            return Ok(());
        }
        Err(format!(
            "{:?} was told of the end of {:?}: {reason:?}; but the connection {} down, and its end was {:?}",
            tie.by,
            tie.of,
            if self.was_cut(tie) {
                "went"
            } else {
                "did not go"
            },
            self.ended.get(&tie.of),
        ))
    }
}

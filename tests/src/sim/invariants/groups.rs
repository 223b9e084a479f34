//! Groups converge to the live members: a table never shows more leaving than joining, and at
//! rest every visible node's shows exactly what living actors joined and did not leave.

use std::collections::BTreeMap;

use wasm_node_protocol::Pid;
use wasm_node_protocol::cluster::ClusterOutput;

use super::{Broken, Invariant, Seen, View, broken};
use crate::sim::network::NodeIndex;
use crate::sim::process::Fact;
use crate::sim::trace::Topic;

/// How often each actor is in each group.
type Members = BTreeMap<(String, Pid), usize>;

/// Groups converge.
#[derive(Default)]
pub struct Groups {
    /// What the actors of each node did.
    joined: BTreeMap<NodeIndex, Members>,
    /// What each node's outputs make.
    tables: BTreeMap<NodeIndex, Members>,
}

/// One membership less; whether there was one.
fn leave(members: &mut Members, group: &str, pid: Pid) -> bool {
    let key = (group.to_owned(), pid);
    match members.get_mut(&key) {
        Some(1) => members.remove(&key).is_some(),
        Some(times) => {
            *times -= 1;
            true
        }
        None => false,
    }
}

impl Invariant for Groups {
    fn name(&self) -> &'static str {
        "groups converge"
    }

    fn topics(&self) -> &'static [Topic] {
        &[Topic::Groups, Topic::Membership]
    }

    fn saw(&mut self, _: &View<'_>, node: NodeIndex, seen: &Seen<'_>) -> Result<(), Broken> {
        let joined = self.joined.entry(node).or_default();
        let table = self.tables.entry(node).or_default();
        match seen {
            Seen::Started | Seen::Stopped => {
                joined.clear();
                table.clear();
            }
            Seen::Grouped {
                group,
                pid,
                joins: true,
                done: true,
            } => *joined.entry(((*group).to_owned(), *pid)).or_default() += 1,
            Seen::Grouped {
                group,
                pid,
                joins: false,
                done,
            } if leave(joined, group, *pid) != *done => {
                let what =
                    format!("n{node}: {pid:?} left {group}, which the machine took as {done}");
                return broken(&[node], what);
            }
            Seen::Process(Fact::Ended(pid, _)) => joined.retain(|(_, member), _| member != pid),
            Seen::Output(ClusterOutput::GroupJoined { group, pid }) => {
                *table.entry((group.clone(), *pid)).or_default() += 1;
            }
            Seen::Output(ClusterOutput::GroupLeft { group, pid }) if !leave(table, group, *pid) => {
                let what = format!("n{node}: {pid:?} left {group} more often than it joined");
                return broken(&[node], what);
            }
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, view: &View<'_>) -> Result<(), Broken> {
        let mut truth = Members::new();
        for (index, _) in view.visible() {
            truth.extend(self.joined.get(&index).cloned().unwrap_or_default());
        }
        for (index, _) in view.visible() {
            let table = self.tables.entry(index).or_default();
            if *table != truth {
                let what = format!("n{index} sees the groups {table:?}; they are {truth:?}");
                return broken(&[index], what);
            }
        }
        Ok(())
    }
}

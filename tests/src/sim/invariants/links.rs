//! Every link fires exactly once at each end, for a true reason, and never once it was removed:
//! as a message for an actor that traps exits, as its own end for one that does not.

use std::collections::BTreeMap;

use wasm_node_protocol::Pid;

use super::fates::{Fates, Tie};
use super::{Broken, Invariant, Seen, View, broken};
use crate::sim::Stats;
use crate::sim::network::NodeIndex;
use crate::sim::process::{Fact, Message};
use crate::sim::trace::Topic;

/// Links fire once.
#[derive(Default)]
pub struct Links {
    fates: Fates,
    /// By whose end of the link it is, and the other end. The workload links a pair once.
    ends: BTreeMap<(Pid, Pid), Tie>,
    fired: u64,
}

impl Invariant for Links {
    fn name(&self) -> &'static str {
        "every link fires exactly once"
    }

    fn topics(&self) -> &'static [Topic] {
        &[Topic::Actors, Topic::Membership]
    }

    fn saw(&mut self, view: &View<'_>, node: NodeIndex, seen: &Seen<'_>) -> Result<(), Broken> {
        self.fates.saw(view, node, seen);
        let Seen::Process(fact) = seen else {
            return Ok(());
        };
        match fact {
            Fact::Links { by, to, connected } => {
                let tie = self.fates.tie(*by, *to, *connected);
                self.ends.insert((*by, *to), tie);
            }
            Fact::LinkArrived { at, from } => {
                let tie = self.fates.tie(*at, *from, true);
                self.ends.insert((*at, *from), tie);
            }
            Fact::Unlinks { by: end, to: other }
            | Fact::UnlinkArrived {
                at: end,
                from: other,
            } => {
                self.ends.remove(&(*end, *other));
            }
            Fact::Message {
                to,
                message: Message::Exit { from, reason },
            } => {
                let Some(tie) = self.ends.remove(&(*to, *from)) else {
                    let what = format!(
                        "{to:?} got an exit signal of {from:?} twice, or without a link: {reason:?}"
                    );
                    return broken(&view.homes(&[*to, *from]), what);
                };
                self.fired += 1;
                let judged = self.fates.judge(&tie, reason);
                return judged.or_else(|what| broken(&view.homes(&[tie.by, tie.of]), what));
            }
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, view: &View<'_>) -> Result<(), Broken> {
        for tie in self.ends.values() {
            let Some((_, home)) = view.home(tie.by).filter(|_| view.is_alive(tie.by)) else {
                continue;
            };
            let fires = match self.fates.is_over(tie) {
                None => false,
                Some(deadly) => deadly || home.processes.traps(tie.by),
            };
            if fires {
                let what = format!(
                    "{:?} is linked to {:?}, whose end it was never told of",
                    tie.by, tie.of
                );
                return broken(&view.homes(&[tie.by, tie.of]), what);
            }
        }
        Ok(())
    }

    fn count(&self, stats: &mut Stats) {
        stats.links_fired += self.fired;
    }
}

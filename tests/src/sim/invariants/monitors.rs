//! Every monitor fires exactly once, for a true reason, and never once it was given up.

use std::collections::BTreeMap;

use wasm_node_protocol::Ref;

use super::fates::{Fates, Tie};
use super::{Broken, Invariant, Seen, View, broken};
use crate::sim::Stats;
use crate::sim::network::NodeIndex;
use crate::sim::process::{Fact, Message};
use crate::sim::trace::Topic;

/// Monitors fire once.
#[derive(Default)]
pub struct Monitors {
    fates: Fates,
    waiting: BTreeMap<Ref, Tie>,
    fired: u64,
}

impl Invariant for Monitors {
    fn name(&self) -> &'static str {
        "every monitor fires exactly once"
    }

    fn topics(&self) -> &'static [Topic] {
        &[Topic::Actors, Topic::Membership]
    }

    fn saw(&mut self, view: &View<'_>, node: NodeIndex, seen: &Seen<'_>) -> Result<(), Broken> {
        self.fates.saw(view, node, seen);
        match seen {
            Seen::Process(Fact::Monitors {
                by,
                tag,
                of,
                connected,
            }) => {
                let tie = self.fates.tie(*by, *of, *connected);
                self.waiting.insert(*tag, tie);
            }
            Seen::Process(Fact::Demonitors(tag)) => {
                self.waiting.remove(tag);
            }
            Seen::Process(Fact::Message {
                to,
                message: Message::Down { tag, pid, reason },
            }) => {
                let Some(tie) = self.waiting.remove(tag) else {
                    let what = format!(
                        "{to:?} was told of the end of {pid:?} twice, or after it gave up the monitor"
                    );
                    return broken(&[node], what);
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
        for tie in self.waiting.values() {
            if view.is_alive(tie.by) && self.fates.is_over(tie).is_some() {
                let what = format!(
                    "{:?} monitors {:?}, whose end it was never told of",
                    tie.by, tie.of
                );
                return broken(&view.homes(&[tie.by, tie.of]), what);
            }
        }
        Ok(())
    }

    fn count(&self, stats: &mut Stats) {
        stats.monitors_fired += self.fired;
    }
}

//! Every request is answered exactly once, truly, and no later than its time-out.

use std::collections::BTreeMap;

use wasm_node_protocol::{CallError, ExitReason, Millis, Ref};

use super::fates::{Fates, Tie};
use super::{Broken, Invariant, Seen, View, broken};
use crate::sim::Stats;
use crate::sim::network::NodeIndex;
use crate::sim::process::{Fact, Message};
use crate::sim::trace::Topic;

/// How much later than its time-out an answer may reach an actor's code, in milliseconds: the
/// longest that a message waits in an inbox, and the clock's grain.
const LATE_MS: u64 = 5;

/// Requests end in time.
#[derive(Default)]
pub struct Requests {
    fates: Fates,
    waiting: BTreeMap<Ref, Waiting>,
    answered: u64,
    timeouts: u64,
    noconnections: u64,
}

struct Waiting {
    tie: Tie,
    deadline: Option<Millis>,
    /// For how long the node had not run before.
    lost_ms: u64,
}

impl Requests {
    fn response(
        &mut self,
        view: &View<'_>,
        node: NodeIndex,
        tag: Ref,
        error: Option<&CallError>,
    ) -> Result<(), String> {
        let Some(Waiting {
            tie,
            deadline,
            lost_ms,
        }) = self.waiting.remove(&tag)
        else {
            return Err(format!("{tag:?} was answered twice"));
        };
        let now = view.clocks[node];
        let allowed = LATE_MS + view.lost_ms[node] - lost_ms;
        if let Some(late) = deadline
            .map(|deadline| now - deadline)
            .filter(|late| *late > allowed)
        {
            return Err(format!(
                "a request of {:?} to {:?} was answered {late} ms after its time-out",
                tie.by, tie.of
            ));
        }
        match error {
            None => self.answered += 1,
            Some(CallError::Timeout) => {
                self.timeouts += 1;
                if deadline.is_none_or(|deadline| now < deadline) {
                    return Err(format!("a request of {:?} timed out early", tie.by));
                }
            }
            Some(CallError::NoConnection) => {
                self.noconnections += 1;
                self.fates.judge(&tie, &ExitReason::NoConnection)?;
            }
            Some(CallError::NoProc) => self.fates.judge(&tie, &ExitReason::NoProc)?,
            Some(CallError::Exit(reason)) => self.fates.judge(&tie, reason)?,
            Some(CallError::TooLarge) => return Err("no request is too large".into()),
        }
        Ok(())
    }
}

impl Invariant for Requests {
    fn name(&self) -> &'static str {
        "no request outlives its time-out"
    }

    fn topics(&self) -> &'static [Topic] {
        &[Topic::Actors, Topic::Membership]
    }

    fn saw(&mut self, view: &View<'_>, node: NodeIndex, seen: &Seen<'_>) -> Result<(), Broken> {
        self.fates.saw(view, node, seen);
        match seen {
            Seen::Process(Fact::Asks {
                by,
                tag,
                of,
                deadline,
                connected,
            }) => {
                let waiting = Waiting {
                    tie: self.fates.tie(*by, *of, *connected),
                    deadline: *deadline,
                    lost_ms: view.lost_ms[node],
                };
                self.waiting.insert(*tag, waiting);
            }
            Seen::Process(Fact::Message {
                message: Message::Response { tag, result },
                ..
            }) => {
                let error = result.as_ref().err();
                let checked = self.response(view, node, *tag, error);
                return checked.or_else(|what| broken(&[node], what));
            }
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, view: &View<'_>) -> Result<(), Broken> {
        for Waiting { tie, deadline, .. } in self.waiting.values() {
            if view.is_alive(tie.by) {
                let what = format!(
                    "a request of {:?} to {:?}, due by {deadline:?}, was never answered",
                    tie.by, tie.of
                );
                return broken(&view.homes(&[tie.by, tie.of]), what);
            }
        }
        Ok(())
    }

    fn count(&self, stats: &mut Stats) {
        stats.answered += self.answered;
        stats.request_timeouts += self.timeouts;
        stats.noconnections += self.noconnections;
    }
}

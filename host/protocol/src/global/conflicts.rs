//! Two holders of one name: what happens when halves of a cluster meet.
//!
//! Two nodes that each have an actor with the name tell each other so when they are linked,
//! and each looks at the pair of facts by itself. The [`Resolver`] of the smaller node's fact
//! governs. Three of its four kinds are rules that say what the own side has to do, so both
//! sides do their part without another word. Under [`Resolver::Ask`], the smaller node asks its
//! actor and the larger one waits for what it says (`Settled`, sent if the larger one loses; if
//! the smaller one does, it takes its fact back and that says it).
//!
//! # Why both sides end in agreement
//! A fact is taken back by its own node only, and each node compares its fact with each other
//! node's whenever one of the two is new. So if two facts stay, each side has compared these
//! very two and kept its own: under a rule one of them would have given up, and the smaller
//! node never keeps its own under `Ask` but by sending `Settled`, which makes the larger one
//! give up if it is the fact that it was about (and if not, the larger one has published
//! another since, which the smaller one is to compare). An answer that names neither, comes
//! too late or not at all counts as one for the smaller side. Nobody keeps waiting: the
//! question ends by its time-out, or with the link, and then so does the other side's fact.

use std::collections::BTreeMap;

use super::api::{Conflict, QuestionId, Resolver};
use super::{Global, GlobalMessage, GlobalOutput, NoVerdict};
use crate::ids::{NodeName, Pid};
use crate::time::Millis;

/// How long an actor may take to resolve a conflict, in milliseconds; then the smaller node's
/// holder stays.
pub const RESOLVE_TIMEOUT_MS: u64 = 5_000;

/// The most questions at one time; further conflicts are decided for the smaller node's holder.
const MAX_QUESTIONS: usize = 10_000;

/// A question that waits for its answer.
#[derive(Debug)]
struct Question {
    name: String,
    own: Pid,
    node: NodeName,
    other: Pid,
    until: Millis,
}

#[derive(Debug, Default)]
pub(super) struct Questions {
    /// In the order asked, which is that of their time-outs too.
    pending: BTreeMap<QuestionId, Question>,
    next: u64,
}

impl Questions {
    pub fn next_deadline(&self) -> Option<Millis> {
        self.pending.values().next().map(|question| question.until)
    }

    /// Those about `node`'s holders are of no interest any more.
    pub fn forget(&mut self, node: &NodeName) {
        self.pending.retain(|_, question| question.node != *node);
    }
}

impl Global {
    /// Compares this node's fact about a name, if it has one, with another's.
    pub(super) fn compare(&mut self, now: Millis, node: &NodeName, name: &str) {
        let own = self.table.held_by(&self.own, name);
        let other = self.table.held_by(node, name);
        let (Some(own), Some(other)) = (own, other) else {
            return;
        };
        let (own_pid, other_pid) = (own.pid, other.pid);
        let first = self.own < *node;
        let resolver = if first {
            &own.resolver
        } else {
            &other.resolver
        };
        match resolver.clone() {
            Resolver::NotifyLoser | Resolver::ExitLoser | Resolver::Ask(_)
                if self.keeps_lost_names() => {}
            Resolver::NotifyLoser if !first => self.lose(name, own_pid, other_pid, false),
            Resolver::ExitLoser if !first => self.lose(name, own_pid, other_pid, true),
            Resolver::NotifyAll => self.lose(name, own_pid, other_pid, false),
            Resolver::Ask(resolver) if first => {
                let question = Question {
                    name: name.into(),
                    own: own_pid,
                    node: node.clone(),
                    other: other_pid,
                    until: now + RESOLVE_TIMEOUT_MS,
                };
                self.ask(resolver, question);
            }
            Resolver::NotifyLoser | Resolver::ExitLoser | Resolver::Ask(_) => {}
        }
    }

    fn keeps_lost_names(&self) -> bool {
        #[cfg(feature = "mutations")]
        return self.mutations.keep_lost_names;
        #[cfg(not(feature = "mutations"))]
        false
    }

    fn ask(&mut self, resolver: String, question: Question) {
        if self.questions.pending.len() >= MAX_QUESTIONS {
            return self.decide(question, Err(NoVerdict));
        }
        let id = QuestionId(self.questions.next);
        self.questions.next += 1;
        self.outputs.push_back(GlobalOutput::Resolve {
            question: id,
            resolver,
            name: question.name.clone(),
            own: question.own,
            other: question.other,
            until: question.until,
        });
        self.questions.pending.insert(id, question);
    }

    /// An answer, to a question that may be over.
    pub(super) fn on_verdict(&mut self, id: QuestionId, keep: Result<Option<Pid>, NoVerdict>) {
        if let Some(question) = self.questions.pending.remove(&id) {
            self.decide(question, keep);
        }
    }

    pub(super) fn questions_timer(&mut self, now: Millis) {
        while let Some((&id, question)) = self.questions.pending.first_key_value()
            && question.until <= now
        {
            self.on_verdict(id, Err(NoVerdict));
        }
    }

    fn decide(&mut self, question: Question, keep: Result<Option<Pid>, NoVerdict>) {
        let Question {
            name,
            own,
            node,
            other,
            until: _,
        } = question;
        let own_stands = self.table.held_by(&self.own, &name);
        let other_stands = self.table.held_by(&node, &name);
        if own_stands.map(|holding| holding.pid) != Some(own)
            || other_stands.map(|holding| holding.pid) != Some(other)
        {
            return; // Whatever has changed was compared anew, or is no conflict.
        }
        let stays = |pid| keep == Ok(Some(pid));
        if !stays(other) {
            let settled = GlobalMessage::Settled {
                name: name.clone(),
                loser: other,
                other: own,
            };
            self.send(&node, settled);
        }
        if stays(other) || keep == Ok(None) {
            self.lose(&name, own, other, false);
        }
    }

    /// The smaller node's resolver decided against this node's actor.
    pub(super) fn on_settled(&mut self, name: &str, loser: Pid, other: Pid) {
        let holding = self.table.held_by(&self.own, name);
        if holding.is_some_and(|holding| holding.pid == loser) {
            self.lose(name, loser, other, false);
        }
    }

    fn lose(&mut self, name: &str, loser: Pid, holder: Pid, exit: bool) {
        self.withdraw(name, loser, false);
        self.outputs.push_back(GlobalOutput::NameConflict(Conflict {
            name: name.into(),
            loser,
            holder,
            exit,
        }));
    }
}

//! The order of events: what waits, what is postponed, which time-outs run. Pure: the timers are
//! somebody else's. It does not know what events say, nor what a callback is.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Ref;

/// Events that may be postponed. One more ends the machine with `limit`: it waits for a state that
/// does not come.
pub const MAX_POSTPONED_EVENTS: usize = 1 << 20;

/// Which of a machine's time-outs. There is one of each at a time: setting it again replaces it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Timeout {
    /// `timeout`: passes if no event comes before; any event ends it.
    Event,
    /// `state_timeout`: passes if the state is the same for so long; another state ends it.
    State,
    /// `{timeout, Name}`: passes unless it is cancelled.
    Named(Cow<'static, str>),
}

/// Timers of the world outside.
pub(super) trait Timers {
    /// Starts one.
    fn start(&mut self, after: Duration) -> Ref;
    /// Ends it: it does not fire any more.
    fn cancel(&mut self, timer: Ref);
}

/// What to do with a time-out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change<C> {
    Set(Duration, C),
    /// As `Set`, but one that runs goes on with the time that it has; else at once.
    Update(C),
    Cancel,
}

/// Where an event leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Goto<S> {
    Keep,
    Repeat,
    Next(S),
}

/// More than [`MAX_POSTPONED_EVENTS`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManyPostponed;

/// A machine's state, and what is to come.
#[derive(Serialize, Deserialize)]
pub(super) struct Core<S, E, C> {
    state: S,
    /// To be handled before any new message, oldest first.
    queue: VecDeque<E>,
    /// In this state, oldest first.
    postponed: Vec<E>,
    /// Time-outs that have passed, and come when the queue is empty.
    due: VecDeque<(Timeout, C)>,
    running: Vec<(Timeout, Ref, C)>,
}

/// What comes next without a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Waiting<E, C> {
    Event(E),
    Timeout(Timeout, C),
}

/// What may be kept of a machine between two messages: all but the state.
pub(super) type Kept<E, C> = (Vec<E>, Vec<(Timeout, Ref, C)>);

impl<S: PartialEq, E, C> Core<S, E, C> {
    pub(super) fn new(state: S) -> Self {
        Self::restored(state, (Vec::new(), Vec::new()))
    }

    pub(super) fn restored(state: S, (postponed, running): Kept<E, C>) -> Self {
        Self {
            state,
            queue: VecDeque::new(),
            postponed,
            due: VecDeque::new(),
            running,
        }
    }

    pub(super) fn state(&self) -> &S {
        &self.state
    }

    /// What [`Core::restored`] takes, borrowed: between two messages, nothing else is there.
    pub(super) fn kept(&self) -> (&[E], &[(Timeout, Ref, C)]) {
        (&self.postponed, &self.running)
    }

    /// What comes before any message. It is an event, which ends the event's time-out.
    pub(super) fn next(&mut self, timers: &mut impl Timers) -> Option<Waiting<E, C>> {
        let next = match self.queue.pop_front() {
            Some(event) => Waiting::Event(event),
            None => {
                let (of, content) = self.due.pop_front()?;
                Waiting::Timeout(of, content)
            }
        };
        self.event_comes(timers);
        Some(next)
    }

    /// An event from outside is about to be handled.
    pub(super) fn event_comes(&mut self, timers: &mut impl Timers) {
        self.change_timeout(Timeout::Event, Change::Cancel, timers);
    }

    /// Whose timer has fired; none: it is no time-out of the machine.
    pub(super) fn fired(&mut self, timer: Ref) -> Option<(Timeout, C)> {
        let at = self.running.iter().position(|(_, of, _)| *of == timer)?;
        let (of, _, content) = self.running.remove(at);
        Some((of, content))
    }

    /// The first half of a transition; some: the state is entered, and that was the one before, or
    /// none if it is the same.
    pub(super) fn go(&mut self, goto: Goto<S>, timers: &mut impl Timers) -> Option<Option<S>> {
        match goto {
            Goto::Keep => None,
            Goto::Repeat => Some(None),
            Goto::Next(state) if state == self.state => None,
            Goto::Next(state) => {
                let old = std::mem::replace(&mut self.state, state);
                self.change_timeout(Timeout::State, Change::Cancel, timers);
                Some(Some(old))
            }
        }
    }

    /// The second half: the event, if it is postponed, and whether the state is another now.
    pub(super) fn settle(
        &mut self,
        postponed: Option<E>,
        moved: bool,
    ) -> Result<(), TooManyPostponed> {
        self.postponed.extend(postponed);
        if moved {
            for event in self.postponed.drain(..).rev() {
                self.queue.push_front(event);
            }
        }
        match self.postponed.len() > MAX_POSTPONED_EVENTS {
            true => Err(TooManyPostponed),
            false => Ok(()),
        }
    }

    /// Puts events in front of all others, in this order.
    pub(super) fn insert(&mut self, events: Vec<E>) {
        for event in events.into_iter().rev() {
            self.queue.push_front(event);
        }
    }

    pub(super) fn change_timeout(
        &mut self,
        of: Timeout,
        change: Change<C>,
        timers: &mut impl Timers,
    ) {
        let content = match change {
            Change::Cancel => return self.end(&of, timers),
            Change::Update(content) => match self.content_of(&of) {
                Some(place) => {
                    *place = content;
                    return;
                }
                None => content,
            },
            Change::Set(after, content) => {
                self.end(&of, timers);
                if !after.is_zero() {
                    let timer = timers.start(after);
                    self.running.push((of, timer, content));
                    return;
                }
                content
            }
        };
        self.due.push_back((of, content));
    }

    fn content_of(&mut self, of: &Timeout) -> Option<&mut C> {
        let running = self.running.iter_mut().find(|(other, ..)| other == of);
        let running = running.map(|(_, _, content)| content);
        running.or_else(|| {
            let due = self.due.iter_mut().find(|(other, _)| other == of)?;
            Some(&mut due.1)
        })
    }

    fn end(&mut self, of: &Timeout, timers: &mut impl Timers) {
        if let Some(at) = self.running.iter().position(|(other, ..)| other == of) {
            let (_, timer, _) = self.running.swap_remove(at);
            timers.cancel(timer);
        }
        self.due.retain(|(other, _)| other != of);
    }
}

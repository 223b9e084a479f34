//! What callbacks return: where the machine goes, and what else is to be done.

use std::borrow::Cow;
use std::time::Duration;

use super::core::{Change, Goto, Timeout};
use super::{Event, GenStateMachine};
use crate::{Caller, ExitReason};

/// What an event leads to. Of what is said twice the last counts, except for replies and events.
#[must_use]
pub struct Transition<M: GenStateMachine> {
    pub(super) goto: Result<Goto<M::State>, ExitReason>,
    pub(super) postpone: bool,
    pub(super) inserted: Vec<Event<M>>,
    pub(super) actions: Actions<M>,
}

/// How `init` ended.
#[must_use]
pub struct Init<M: GenStateMachine> {
    pub(super) begins: Begins<M>,
    pub(super) inserted: Vec<Event<M>>,
    pub(super) actions: Actions<M>,
}

/// What is to be done at the entry to a state: no event is there to postpone, none is inserted, and
/// the state stays.
#[must_use]
pub struct Enter<M: GenStateMachine> {
    pub(super) stop: Option<ExitReason>,
    pub(super) actions: Actions<M>,
}

pub(super) enum Begins<M: GenStateMachine> {
    State(M::State, M),
    Stop(ExitReason),
    Ignore,
}

/// What every callback can ask for.
pub(super) struct Actions<M: GenStateMachine> {
    pub(super) replies: Vec<(Caller<M::Reply>, M::Reply)>,
    pub(super) timeouts: Vec<(Timeout, Change<M::Internal>)>,
    pub(super) hibernate: bool,
}

impl<M: GenStateMachine> Actions<M> {
    pub(super) const fn none() -> Self {
        Self {
            replies: Vec::new(),
            timeouts: Vec::new(),
            hibernate: false,
        }
    }
}

impl<M: GenStateMachine> Transition<M> {
    fn to(goto: Result<Goto<M::State>, ExitReason>) -> Self {
        Self {
            goto,
            postpone: false,
            inserted: Vec::new(),
            actions: Actions::none(),
        }
    }

    /// The state stays as it is: `keep_state_and_data`.
    pub fn keep_state() -> Self {
        Self::to(Ok(Goto::Keep))
    }

    /// The state is this one now: `next_state`. One that equals the present state is no change: as
    /// [`Transition::keep_state`].
    pub fn next_state(state: M::State) -> Self {
        Self::to(Ok(Goto::Next(state)))
    }

    /// As [`Transition::keep_state`], but the state is entered again: `repeat_state`.
    pub fn repeat_state() -> Self {
        Self::to(Ok(Goto::Repeat))
    }

    /// The machine ends, after the replies and `terminate`: `stop_and_reply`. Nothing else that is
    /// asked for is done.
    pub fn stop(reason: ExitReason) -> Self {
        Self::to(Err(reason))
    }

    /// Handle this event again once the state is another.
    pub fn postpone(mut self) -> Self {
        self.postpone = true;
        self
    }

    /// Handle this event before any other: `next_event`.
    pub fn next_event(mut self, event: Event<M>) -> Self {
        self.inserted.push(event);
        self
    }
}

impl<M: GenStateMachine> Init<M> {
    fn begin(begins: Begins<M>) -> Self {
        Self {
            begins,
            inserted: Vec::new(),
            actions: Actions::none(),
        }
    }

    /// The machine is in this state.
    pub fn state(state: M::State, data: M) -> Self {
        Self::begin(Begins::State(state, data))
    }

    /// Its starter gets [`StartError::Failed`](crate::StartError) with this reason.
    pub fn stop(reason: ExitReason) -> Self {
        Self::begin(Begins::Stop(reason))
    }

    /// It ends normally: its starter gets [`StartError::Ignored`](crate::StartError).
    pub fn ignore() -> Self {
        Self::begin(Begins::Ignore)
    }

    /// Handle this event before any other: `next_event`.
    pub fn next_event(mut self, event: Event<M>) -> Self {
        self.inserted.push(event);
        self
    }
}

impl<M: GenStateMachine> Enter<M> {
    /// The state is entered.
    pub fn done() -> Self {
        Self {
            stop: None,
            actions: Actions::none(),
        }
    }

    /// The machine ends, after the replies and `terminate`.
    pub fn stop(reason: ExitReason) -> Self {
        Self {
            stop: Some(reason),
            actions: Actions::none(),
        }
    }
}

/// The same for all three.
macro_rules! actions {
    ($($kind:ident)*) => {$(
        impl<M: GenStateMachine> $kind<M> {
            /// Answers a call. A second answer, and one that comes too late, is dropped.
            pub fn reply(mut self, to: Caller<M::Reply>, reply: M::Reply) -> Self {
                self.actions.replies.push((to, reply));
                self
            }

            /// [`Event::Timeout`] comes if no event comes within this time.
            pub fn event_timeout(self, after: Duration, content: M::Internal) -> Self {
                self.change(Timeout::Event, Change::Set(after, content))
            }

            /// [`Event::Timeout`] comes if the state is the same for this time, from now or, if it
            /// changes now, from its entry.
            pub fn state_timeout(self, after: Duration, content: M::Internal) -> Self {
                self.change(Timeout::State, Change::Set(after, content))
            }

            /// [`Event::Timeout`] comes after this time, whatever else happens.
            pub fn named_timeout(
                self,
                name: impl Into<Cow<'static, str>>,
                after: Duration,
                content: M::Internal,
            ) -> Self {
                self.change(Timeout::Named(name.into()), Change::Set(after, content))
            }

            /// A time-out that runs has this content now, and the time that it had; one that does
            /// not run comes at once.
            pub fn update_timeout(self, of: Timeout, content: M::Internal) -> Self {
                self.change(of, Change::Update(content))
            }

            /// A time-out that runs does not come any more.
            pub fn cancel_timeout(self, of: Timeout) -> Self {
                self.change(of, Change::Cancel)
            }

            /// If no event is to be handled now, the host may free this actor's memory while it
            /// waits, and keep its saved state.
            pub fn hibernate(mut self) -> Self {
                self.actions.hibernate = true;
                self
            }

            fn change(mut self, of: Timeout, change: Change<M::Internal>) -> Self {
                self.actions.timeouts.push((of, change));
                self
            }
        }
    )*};
}
actions!(Transition Init Enter);

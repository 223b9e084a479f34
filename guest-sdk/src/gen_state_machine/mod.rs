//! [`GenStateMachine`]: an actor that is a state machine, event by event: OTP's `gen_statem`, in
//! the way of Elixir's `GenStateMachine`.
//!
//! It is a [`GenServer`](crate::GenServer) by its outside: [`StateMachineRef`] calls, casts, starts
//! and stops it, and supervisors do not know the difference. What it adds is a state apart from the
//! data, and what depends on that: events that are postponed until the state is another, events that
//! it inserts in front of all others, time-outs that end with the state, and [`enter`], which is
//! called at each entry to a state.
//!
//! A door with a code, which locks itself again after ten seconds:
//!
//! ```
//! # use serde::{Deserialize, Serialize};
//! use std::time::Duration;
//! use wasm_node_sdk::gen_state_machine::{
//!     Event, GenStateMachine, Init, StateMachineRef, Timeout, Transition,
//! };
//! # use wasm_node_sdk::{gen_state_machine::Machine, testing::Node};
//!
//! #[derive(Serialize, Deserialize, PartialEq)]
//! enum Door {
//!     Locked,
//!     Open,
//! }
//!
//! #[derive(Serialize, Deserialize)]
//! struct Lock {
//!     code: String,
//!     visits: u32,
//! }
//!
//! #[derive(Serialize, Deserialize)]
//! enum Ask {
//!     Unlock(String),
//!     Visits,
//! }
//!
//! impl GenStateMachine for Lock {
//!     const MODULE: &'static str = "lock";
//!     type State = Door;
//!     type Args = String;
//!     type Call = Ask;
//!     type Reply = u32;
//!     type Cast = ();
//!     type Internal = ();
//!
//!     async fn init(code: String) -> Init<Self> {
//!         Init::state(Door::Locked, Lock { code, visits: 0 })
//!     }
//!
//!     async fn handle_event(&mut self, door: &Door, event: &Event<Self>) -> Transition<Self> {
//!         match (door, event) {
//!             (Door::Locked, Event::Call(from, Ask::Unlock(code))) if *code == self.code => {
//!                 self.visits += 1;
//!                 Transition::next_state(Door::Open)
//!                     .reply(*from, self.visits)
//!                     .state_timeout(Duration::from_secs(10), ())
//!             }
//!             // Whoever comes while it is open waits until it is locked again.
//!             (Door::Open, Event::Call(_, Ask::Unlock(_))) => Transition::keep_state().postpone(),
//!             (Door::Open, Event::Timeout(Timeout::State, ())) => Transition::next_state(Door::Locked),
//!             (_, Event::Call(from, _)) => Transition::keep_state().reply(*from, self.visits),
//!             _ => Transition::keep_state(),
//!         }
//!     }
//! }
//! wasm_node_sdk::export_gen_state_machine!(Lock);
//!
//! # let node = Node::new();
//! # node.module::<Machine<Lock>>();
//! # node.run(async {
//! // In another actor:
//! let lock = StateMachineRef::<Lock>::start(&"1234".into()).await.unwrap();
//! assert_eq!(lock.call(Ask::Unlock("0000".into())).await, Ok(0));
//! assert_eq!(lock.call(Ask::Unlock("1234".into())).await, Ok(1));
//! # });
//! ```
//!
//! # The order of things
//!
//! As `gen_statem` has it. After each event:
//!
//! 1. replies are sent;
//! 2. if the state is another, its time-out ends; then, or if [`Transition::repeat_state`] was said,
//!    `enter` is called, and what it asks for comes after what the event asked for;
//! 3. the event is kept, if it is postponed; if the state is another, all that were postponed are to
//!    be handled again, oldest first;
//! 4. inserted events come before those, in the order in which they were inserted;
//! 5. time-outs are set, of two of a kind the last; one of no time at all is an event after those
//!    that are to be handled already, and before any message that was not;
//! 6. without an event to handle, the machine waits for the next message, or hibernates.
//!
//! While a callback awaits, messages wait, as in a server; so do the machine's time-outs.
//!
//! [`enter`]: GenStateMachine::enter

mod core;
mod machine;
#[cfg(test)]
mod tests;
mod transition;

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::gen_server::{self, Info};
use crate::{Caller, ExitReason, ServerRef, codec};

pub use self::core::{MAX_POSTPONED_EVENTS, Timeout};
pub use machine::Machine;
pub use transition::{Enter, Init, Transition};

/// Where a state machine is, and how to start one: all that a [`ServerRef`] can.
pub type StateMachineRef<M> = ServerRef<Machine<M>>;

/// A state machine. Its value is its data, which every state has; `serde` makes both survive
/// upgrades and hibernation, with what was postponed and the time-outs that run.
///
/// Only `MODULE`, the types, `init` and `handle_event` must be there.
pub trait GenStateMachine: Serialize + DeserializeOwned + 'static {
    /// The name of the module (the component file, without `.wasm`) that this compiles to.
    const MODULE: &'static str;

    /// The state. It is another one when it is not equal; states may hold values.
    type State: Serialize + DeserializeOwned + PartialEq + 'static;
    /// What `init` gets.
    type Args: Serialize + DeserializeOwned;
    /// What can be asked.
    type Call: Serialize + DeserializeOwned + 'static;
    /// What is answered.
    type Reply: Serialize + DeserializeOwned + 'static;
    /// What can be told.
    type Cast: Serialize + DeserializeOwned + 'static;
    /// What the machine tells itself: with internal events and time-outs.
    type Internal: Serialize + DeserializeOwned + 'static;

    /// Makes the first state and the data. Whoever started this machine waits until this has ended,
    /// and not for what it asks for, nor for `enter`.
    fn init(args: Self::Args) -> impl Future<Output = Init<Self>>;

    /// Takes an event. It is lent, so that one that is postponed can come again.
    fn handle_event(
        &mut self,
        state: &Self::State,
        event: &Event<Self>,
    ) -> impl Future<Output = Transition<Self>>;

    /// Comes at each entry to a state, before any event there: `state_enter`. At the start, and when
    /// [`Transition::repeat_state`] was said, `old` equals `state`. The default does nothing.
    fn enter(
        &mut self,
        old: &Self::State,
        state: &Self::State,
    ) -> impl Future<Output = Enter<Self>> {
        let _ = (old, state);
        async { Enter::done() }
    }

    /// As [`GenServer::terminate`](crate::GenServer::terminate), but replies that came with the end
    /// are sent before.
    fn terminate(&mut self, reason: &ExitReason, state: &Self::State) -> impl Future<Output = ()> {
        let _ = (reason, state);
        async {}
    }

    /// Comes first in a machine that goes on from saved state, before any event.
    fn restored(&mut self, state: &Self::State) -> impl Future<Output = Enter<Self>> {
        let _ = state;
        async { Enter::done() }
    }

    /// As [`GenServer::format_status`](crate::GenServer::format_status).
    fn format_status(&self, state: &Self::State) -> String {
        gen_server::size_of(self.save(state))
    }

    /// State and data as bytes. The error refuses the upgrade (or whatever the save was for).
    fn save(&self, state: &Self::State) -> Result<Vec<u8>, String> {
        Ok(codec::encode(&(state, self)))
    }

    /// State and data from bytes that this version, or one before it, saved: Erlang's `code_change`.
    /// The error rolls the upgrade back.
    fn upgrade(saved: &[u8]) -> Result<(Self::State, Self), String> {
        codec::decode(saved)
    }

    /// The wire format of the arguments.
    fn encode_args(args: &Self::Args) -> Vec<u8> {
        codec::encode(args)
    }
    /// The wire format of the arguments; an error ends the machine.
    fn decode_args(bytes: &[u8]) -> Result<Self::Args, String> {
        codec::decode(bytes)
    }
    /// The wire format of calls.
    fn encode_call(call: &Self::Call) -> Vec<u8> {
        codec::encode(call)
    }
    /// The wire format of calls; an error is printed, and the caller gets no answer.
    fn decode_call(bytes: &[u8]) -> Result<Self::Call, String> {
        codec::decode(bytes)
    }
    /// The wire format of replies.
    fn encode_reply(reply: &Self::Reply) -> Vec<u8> {
        codec::encode(reply)
    }
    /// The wire format of replies; an error fails the call.
    fn decode_reply(bytes: &[u8]) -> Result<Self::Reply, String> {
        codec::decode(bytes)
    }
    /// The wire format of casts.
    fn encode_cast(message: &Self::Cast) -> Vec<u8> {
        codec::encode(message)
    }
    /// The wire format of casts; an error is printed.
    fn decode_cast(bytes: &[u8]) -> Result<Self::Cast, String> {
        codec::decode(bytes)
    }
}

/// What happens to a machine.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub enum Event<M: GenStateMachine> {
    /// Somebody asks; [`Transition::reply`] answers, now or at a later event.
    Call(Caller<M::Reply>, M::Call),
    /// Somebody tells.
    Cast(M::Cast),
    /// Any other message.
    Info(Info),
    /// The machine inserted it: [`Transition::next_event`].
    Internal(M::Internal),
    /// A time-out passed, with what it was set with.
    Timeout(Timeout, M::Internal),
}

impl<M: GenStateMachine> fmt::Debug for Event<M>
where
    M::Call: fmt::Debug,
    M::Cast: fmt::Debug,
    M::Internal: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Call(from, call) => f.debug_tuple("Call").field(from).field(call).finish(),
            Event::Cast(cast) => f.debug_tuple("Cast").field(cast).finish(),
            Event::Info(info) => f.debug_tuple("Info").field(info).finish(),
            Event::Internal(content) => f.debug_tuple("Internal").field(content).finish(),
            Event::Timeout(of, content) => {
                f.debug_tuple("Timeout").field(of).field(content).finish()
            }
        }
    }
}

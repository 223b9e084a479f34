//! A state machine as a server: runs its callbacks in the order that the core says.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::core::{Core, Kept, Timers, Waiting};
use super::transition::{Actions, Begins};
use super::{Enter, Event, GenStateMachine, MAX_POSTPONED_EVENTS, Transition};
use crate::gen_server::{self, CallReturn, Info, Next};
use crate::{Caller, ExitReason, GenServer, Ref, codec, time};

/// A [`GenStateMachine`] as a [`GenServer`]: what
/// [`export_gen_state_machine!`](crate::export_gen_state_machine) exports.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Machine<M: GenStateMachine> {
    core: Core<M::State, Event<M>, M::Internal>,
    data: M,
    /// What `init` asked for, until that is done.
    #[serde(skip)]
    first: Option<(Vec<Event<M>>, Actions<M>)>,
}

/// The host's.
struct Host;

impl Timers for Host {
    fn start(&mut self, after: Duration) -> Ref {
        time::start_timer(after)
    }
    fn cancel(&mut self, timer: Ref) {
        time::cancel_timer(timer);
    }
}

impl<M: GenStateMachine> Machine<M> {
    /// Its state: for [`ServerRef::state`](crate::ServerRef::state).
    pub fn state(&self) -> &M::State {
        self.core.state()
    }

    /// Its data.
    pub fn data(&self) -> &M {
        &self.data
    }

    /// Handles a new event, and all that follow from it without a message.
    async fn event(&mut self, event: Event<M>) -> Next {
        self.core.event_comes(&mut Host);
        match self.transit(event).await {
            Ok(hibernate) => self.go_on(hibernate).await,
            Err(reason) => Next::Stop(reason),
        }
    }

    async fn go_on(&mut self, mut hibernate: bool) -> Next {
        while let Some(next) = self.core.next(&mut Host) {
            let event = match next {
                Waiting::Event(event) => event,
                Waiting::Timeout(of, content) => Event::Timeout(of, content),
            };
            match self.transit(event).await {
                Ok(hibernates) => hibernate = hibernates,
                Err(reason) => return Next::Stop(reason),
            }
        }
        match hibernate {
            true => Next::Hibernate,
            false => Next::Wait,
        }
    }

    /// Handles one event; whether the machine may hibernate, or why it ends.
    async fn transit(&mut self, event: Event<M>) -> Result<bool, ExitReason> {
        let Transition {
            goto,
            postpone,
            inserted,
            mut actions,
        } = self.data.handle_event(self.core.state(), &event).await;
        reply(&mut actions);
        let entered = self.core.go(goto?, &mut Host);
        let moved = matches!(entered, Some(Some(_)));
        if let Some(old) = entered {
            self.enter(old, &mut actions).await?;
        }
        let postponed = postpone.then_some(event);
        self.core.settle(postponed, moved).map_err(|_| {
            ExitReason::Limit(format!(
                "more than {MAX_POSTPONED_EVENTS} events are postponed"
            ))
        })?;
        self.core.insert(inserted);
        Ok(self.set_timeouts(actions))
    }

    /// Calls `enter`, and adds what it asks for.
    async fn enter(
        &mut self,
        old: Option<M::State>,
        to: &mut Actions<M>,
    ) -> Result<(), ExitReason> {
        let state = self.core.state();
        let Enter { stop, mut actions } =
            self.data.enter(old.as_ref().unwrap_or(state), state).await;
        reply(&mut actions);
        if let Some(reason) = stop {
            return Err(reason);
        }
        to.timeouts.append(&mut actions.timeouts);
        to.hibernate |= actions.hibernate;
        Ok(())
    }

    fn set_timeouts(&mut self, actions: Actions<M>) -> bool {
        for (of, change) in actions.timeouts {
            self.core.change_timeout(of, change, &mut Host);
        }
        actions.hibernate
    }

    async fn begin(&mut self) -> Result<bool, ExitReason> {
        let (inserted, mut actions) = self.first.take().unwrap_or((Vec::new(), Actions::none()));
        reply(&mut actions);
        self.enter(None, &mut actions).await?;
        self.core.insert(inserted);
        Ok(self.set_timeouts(actions))
    }
}

fn reply<M: GenStateMachine>(actions: &mut Actions<M>) {
    for (to, reply) in actions.replies.drain(..) {
        to.reply_bytes(&M::encode_reply(&reply));
    }
}

impl<M: GenStateMachine> GenServer for Machine<M> {
    const MODULE: &'static str = M::MODULE;
    type Args = M::Args;
    type Call = M::Call;
    type Reply = M::Reply;
    type Cast = M::Cast;

    async fn init(args: M::Args) -> gen_server::Init<Self> {
        let super::Init {
            begins,
            inserted,
            actions,
        } = M::init(args).await;
        match begins {
            Begins::State(state, data) => {
                let machine = Self {
                    core: Core::new(state),
                    data,
                    first: Some((inserted, actions)),
                };
                gen_server::Init::OkThen(machine, Next::Continue)
            }
            Begins::Stop(reason) => gen_server::Init::Stop(reason),
            Begins::Ignore => gen_server::Init::Ignore,
        }
    }

    async fn handle_continue(&mut self) -> Next {
        match self.begin().await {
            Ok(hibernate) => self.go_on(hibernate).await,
            Err(reason) => Next::Stop(reason),
        }
    }

    async fn handle_call(
        &mut self,
        request: M::Call,
        from: Caller<M::Reply>,
    ) -> CallReturn<M::Reply> {
        CallReturn::NoReplyThen(self.event(Event::Call(from, request)).await)
    }

    async fn handle_cast(&mut self, message: M::Cast) -> Next {
        self.event(Event::Cast(message)).await
    }

    async fn handle_info(&mut self, info: Info) -> Next {
        let event = match info {
            Info::Timer(timer) => match self.core.fired(timer) {
                Some((of, content)) => Event::Timeout(of, content),
                None => Event::Info(Info::Timer(timer)),
            },
            info => Event::Info(info),
        };
        self.event(event).await
    }

    async fn terminate(&mut self, reason: &ExitReason) {
        self.data.terminate(reason, self.core.state()).await;
    }

    async fn restored(&mut self) -> Next {
        let Enter { stop, mut actions } = self.data.restored(self.core.state()).await;
        reply(&mut actions);
        if let Some(reason) = stop {
            return Next::Stop(reason);
        }
        let hibernate = self.set_timeouts(actions);
        self.go_on(hibernate).await
    }

    fn format_status(&self) -> String {
        self.data.format_status(self.core.state())
    }

    fn save(&self) -> Result<Vec<u8>, String> {
        let (postponed, running) = self.core.kept();
        let saved = self.data.save(self.core.state())?;
        Ok(codec::encode(&(postponed, running, saved)))
    }

    fn upgrade(saved: &[u8]) -> Result<Self, String> {
        let (postponed, running, saved): (_, _, Vec<u8>) = codec::decode(saved)?;
        let kept: Kept<Event<M>, M::Internal> = (postponed, running);
        let (state, data) = M::upgrade(&saved)?;
        Ok(Self {
            core: Core::restored(state, kept),
            data,
            first: None,
        })
    }

    fn encode_args(args: &M::Args) -> Vec<u8> {
        M::encode_args(args)
    }
    fn decode_args(bytes: &[u8]) -> Result<M::Args, String> {
        M::decode_args(bytes)
    }
    fn encode_call(call: &M::Call) -> Vec<u8> {
        M::encode_call(call)
    }
    fn decode_call(bytes: &[u8]) -> Result<M::Call, String> {
        M::decode_call(bytes)
    }
    fn encode_reply(reply: &M::Reply) -> Vec<u8> {
        M::encode_reply(reply)
    }
    fn decode_reply(bytes: &[u8]) -> Result<M::Reply, String> {
        M::decode_reply(bytes)
    }
    fn encode_cast(message: &M::Cast) -> Vec<u8> {
        M::encode_cast(message)
    }
    fn decode_cast(bytes: &[u8]) -> Result<M::Cast, String> {
        M::decode_cast(bytes)
    }
}

//! The loop of a server: one message at a time, then what its handler said to do next.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use super::{CallReturn, Caller, GenServer, Info, Init, Next, System};
use crate::snapshot::{self, Snapshot};
use crate::sys::timer;
use crate::time::{millis, nanos};
use crate::{Actor, ExitReason, Message, Outcome, SaveError, Start, process, rpc, runtime};

/// Runs an expression with the state borrowed: while it awaits, a save finds it busy.
macro_rules! with_state {
    ($shared:expr, $state:ident => $run:expr) => {
        match $shared.state.borrow_mut().as_mut() {
            Some($state) => $run,
            None => return ExitReason::Error("a handler ran before init".into()),
        }
    };
}

/// What the server's loop and the exports share.
struct Shared<S> {
    /// Borrowed by the loop while a handler runs, none until `init` has ended.
    state: RefCell<Option<S>>,
    /// When [`Info::Timeout`] is due, in nanoseconds of `timer::now`.
    deadline: Cell<Option<u64>>,
    hibernate: Cell<bool>,
    /// Whether the turn ends so that the start counts as done, with more to do at once.
    yields: Cell<bool>,
    /// Whether what is to continue `init` has not begun: no snapshot says so, so there is none.
    continues: Cell<bool>,
}

/// A [`GenServer`] as an [`Actor`]: what `export_gen_server!` exports.
pub struct GenServerActor<S: GenServer> {
    shared: Rc<Shared<S>>,
}

impl<S: GenServer> Actor for GenServerActor<S> {
    fn init(start: Start) -> Result<(Self, Outcome), ExitReason> {
        if let Some(refused) = rpc::refuse_call(&start) {
            return Err(refused);
        }
        let shared = Rc::new(Shared {
            state: RefCell::new(None),
            deadline: Cell::new(None),
            hibernate: Cell::new(false),
            yields: Cell::new(false),
            continues: Cell::new(false),
        });
        match start {
            Start::Fresh(args) => runtime::start_main(fresh(shared.clone(), args)),
            Start::Restored(bytes) => {
                let Snapshot {
                    timeout_ms,
                    stash,
                    orphans,
                    state,
                } = snapshot::open(&bytes).map_err(ExitReason::Error)?;
                let state = S::upgrade(state).map_err(ExitReason::Error)?;
                *shared.state.borrow_mut() = Some(state);
                runtime::restore_stash(stash, orphans);
                let next = timeout_ms.map_or(Next::Wait, |ms| {
                    Next::Timeout(Duration::from_millis(ms.into()))
                });
                runtime::start_main(goes_on(shared.clone(), next));
            }
        }
        let mut actor = Self { shared };
        match actor.turn() {
            Outcome::Stop(reason) => Err(reason),
            outcome => Ok((actor, outcome)),
        }
    }

    fn turn(&mut self) -> Outcome {
        if let Some(reason) = runtime::run() {
            return Outcome::Stop(reason);
        }
        if let Ok(state) = self.shared.state.try_borrow() {
            if state.is_none() {
                return Outcome::Starting;
            }
            if self.shared.yields.take() {
                return Outcome::WaitFor(0);
            }
            if let Some(ms) = self.shared.remaining_ms() {
                return Outcome::WaitFor(ms);
            }
            if self.shared.hibernate.get() {
                return Outcome::Hibernate;
            }
        }
        Outcome::Wait
    }

    fn save(&mut self) -> Result<Vec<u8>, SaveError> {
        let state = self
            .shared
            .state
            .try_borrow()
            .map_err(|_| SaveError::Busy)?;
        let state = state.as_ref().ok_or(SaveError::Busy)?;
        if self.shared.continues.get() {
            return Err(SaveError::Busy);
        }
        let stash = runtime::stash_if_quiet().map_err(|_| SaveError::Busy)?;
        let state = state.save().map_err(SaveError::Refused)?;
        let timeout_ms = self.shared.remaining_ms();
        Ok(snapshot::seal(timeout_ms, stash, runtime::orphans(), state))
    }
}

impl<S> Shared<S> {
    fn remaining_ms(&self) -> Option<u32> {
        let left = self.deadline.get()?.saturating_sub(timer::now());
        Some(millis(Duration::from_nanos(left)))
    }
}

async fn fresh<S: GenServer>(shared: Rc<Shared<S>>, args: Vec<u8>) -> ExitReason {
    let args = match S::decode_args(&args) {
        Ok(args) => args,
        Err(error) => return ExitReason::Error(format!("bad arguments: {error}")),
    };
    let (state, next) = match S::init(args).await {
        Init::Ok(state) => (state, Next::Wait),
        Init::OkThen(state, next) => (state, next),
        Init::Stop(reason) => return reason,
        Init::Ignore => return ExitReason::Normal,
    };
    *shared.state.borrow_mut() = Some(state);
    if next == Next::Continue {
        // The starter hears of it first, whatever the continuation does.
        shared.yields.set(true);
        shared.continues.set(true);
        runtime::new_turn().await;
        shared.continues.set(false);
        // What began this turn, and is no time-out of the server's.
        runtime::take_matching(&mut |message| matches!(message, Message::Timeout));
    }
    serve(shared, next).await
}

#[expect(
    clippy::await_holding_refcell_ref,
    reason = "only `save` looks meanwhile, and it tries"
)]
async fn goes_on<S: GenServer>(shared: Rc<Shared<S>>, next: Next) -> ExitReason {
    let first = with_state!(shared, state => state.restored().await);
    let next = if first == Next::Wait { next } else { first };
    serve(shared, next).await
}

#[expect(
    clippy::await_holding_refcell_ref,
    reason = "only `save` looks meanwhile, and it tries"
)]
async fn serve<S: GenServer>(shared: Rc<Shared<S>>, mut next: Next) -> ExitReason {
    let mut last = "nothing";
    loop {
        let (mut timed, mut hibernated) = (None, false);
        let message = match next {
            Next::Wait => runtime::receive().await,
            Next::Timeout(after) => {
                let due = timer::now().saturating_add(nanos(after));
                timed = Some(due);
                shared.deadline.set(timed);
                let message = runtime::receive().await;
                shared.deadline.set(None);
                message
            }
            Next::Hibernate => {
                hibernated = true;
                shared.hibernate.set(true);
                let message = runtime::receive().await;
                shared.hibernate.set(false);
                message
            }
            Next::Continue => {
                next = with_state!(shared, state => state.handle_continue().await);
                continue;
            }
            Next::Stop(reason) => {
                with_state!(shared, state => {
                    state.terminate(&reason).await;
                    report(state, &reason, last);
                });
                return reason;
            }
        };
        if let Message::Request((to, body)) = &message
            && let Some(asked) = System::decode(body)
        {
            // A question is no message to the server: it goes on waiting as it did.
            let waits = match timed {
                Some(due) => Next::Timeout(Duration::from_nanos(due.saturating_sub(timer::now()))),
                None if hibernated => Next::Hibernate,
                None => Next::Wait,
            };
            let from = Caller::<()> {
                to: *to,
                reply: PhantomData,
            };
            next = match asked {
                Ok(System::Terminate(reason)) => Next::Stop(reason),
                Ok(asked) => {
                    with_state!(shared, state => answer(state, &asked, from));
                    waits
                }
                Err(error) => {
                    ignored::<S>("a system message", &error);
                    waits
                }
            };
            continue;
        }
        last = match &message {
            Message::Request(_) => "a call",
            Message::Cast(_) => "a cast",
            Message::Exit(_) => "an exit signal",
            _ => "a message",
        };
        next = match message {
            Message::Request((to, body)) => match S::decode_call(&body) {
                Ok(call) => {
                    let from = Caller {
                        to,
                        reply: PhantomData,
                    };
                    let answer = with_state!(shared, state => state.handle_call(call, from).await);
                    let (reply, next) = match answer {
                        CallReturn::Reply(reply) => (Some(reply), Next::Wait),
                        CallReturn::ReplyThen(reply, next) => (Some(reply), next),
                        CallReturn::NoReply => (None, Next::Wait),
                        CallReturn::NoReplyThen(next) => (None, next),
                    };
                    if let Next::Stop(reason) = next {
                        with_state!(shared, state => state.terminate(&reason).await);
                        if let Some(reply) = reply {
                            from.reply_bytes(&S::encode_reply(&reply));
                        }
                        with_state!(shared, state => report(state, &reason, last));
                        return reason;
                    }
                    if let Some(reply) = reply {
                        from.reply_bytes(&S::encode_reply(&reply));
                    }
                    next
                }
                Err(error) => ignored::<S>("a call", &error),
            },
            Message::Cast(body) => match S::decode_cast(&body) {
                Ok(cast) => with_state!(shared, state => state.handle_cast(cast).await),
                Err(error) => ignored::<S>("a cast", &error),
            },
            // One that was on its way when a message came first.
            Message::Timeout if timed.is_none() => Next::Wait,
            Message::Exit((pid, reason)) if process::parent() == Some(pid) => Next::Stop(reason),
            other => match Info::of(other) {
                Some(info) => with_state!(shared, state => state.handle_info(info).await),
                None => Next::Wait,
            },
        };
    }
}

fn answer<S: GenServer>(state: &S, asked: &System, from: Caller<()>) {
    match asked {
        System::GetStatus => from.reply_bytes(state.format_status().as_bytes()),
        System::GetState => match state.save() {
            Ok(saved) => from.reply_bytes(&saved),
            Err(why) => {
                ignored::<S>("a question for its state", &why);
            }
        },
        // Its end is the answer.
        System::Terminate(_) => {}
    }
}

/// What `gen_server` reports of an end that is no clean one, after `terminate`.
fn report<S: GenServer>(state: &S, reason: &ExitReason, last: &str) {
    if !reason.is_clean() {
        crate::log::error!(
            "server terminated",
            reason = reason.describe(),
            last_message = last,
            state = state.format_status()
        );
    }
}

fn ignored<S: GenServer>(what: &str, why: &str) -> Next {
    crate::eprintln!("{} {}: ignored {what}: {why}", S::MODULE, crate::self_pid());
    Next::Wait
}

//! [`GenServer`]: an actor that keeps state and serves calls, casts and plain messages, one at
//! a time. While a handler awaits, the messages behind it wait in order; answers reach the
//! handler past them.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::groups::{self, GroupChange, GroupMonitor};
use crate::io::InputRequest;
use crate::snapshot::{self, Snapshot};
use crate::sys::{mailbox, timer};
use crate::time::{millis, nanos};
use crate::{
    Actor, ExitReason, Message, Monitor, NodeEvent, Outcome, OutputKind, Pid, Ref, RegisterError,
    ReplyTo, SaveError, SpawnError, Start, codec, process, rpc, runtime,
};

/// A server. Its value is its state; `serde` makes it survive upgrades and hibernation.
///
/// Only `MODULE`, the types, `init` and `handle_call` must be there. The wire format is
/// postcard unless the `encode_*` and `decode_*` functions say otherwise.
pub trait GenServer: Serialize + DeserializeOwned + 'static {
    /// The name of the module (the component file, without `.wasm`) that this compiles to.
    const MODULE: &'static str;

    /// What `init` gets.
    type Args: Serialize + DeserializeOwned;
    /// What can be asked.
    type Call: Serialize + DeserializeOwned;
    /// What is answered.
    type Reply: Serialize + DeserializeOwned;
    /// What can be told.
    type Cast: Serialize + DeserializeOwned;

    /// Makes the state. Whoever started this server waits until this has ended.
    fn init(args: Self::Args) -> impl Future<Output = Init<Self>>;

    /// Answers a call, now or later.
    fn handle_call(
        &mut self,
        request: Self::Call,
        from: Caller<Self::Reply>,
    ) -> impl Future<Output = CallReturn<Self::Reply>>;

    /// Takes a cast. The default ignores it.
    fn handle_cast(&mut self, message: Self::Cast) -> impl Future<Output = Next> {
        let _ = message;
        async { Next::Wait }
    }

    /// Takes any other message. An exit signal of the actor that started this one does not come
    /// here: it ends the server, as in OTP, so that a supervisor's `shutdown` works. The default
    /// ends it at other exit signals that it traps, too, prints a warning for plain messages, passes
    /// text of others on to its own group leader, has no lines for them, and ignores the rest.
    fn handle_info(&mut self, info: Info) -> impl Future<Output = Next> {
        async {
            match info {
                Info::Exit { reason, .. } => Next::Stop(reason),
                Info::Message(body) => {
                    crate::eprintln!(
                        "{} {}: a message of {} bytes that nobody expects",
                        Self::MODULE,
                        crate::self_pid(),
                        body.len()
                    );
                    Next::Wait
                }
                Info::Output { kind, text, .. } => {
                    // Its own leader, it would print to itself for ever.
                    if crate::process::group_leader() != crate::self_pid() {
                        let text = String::from_utf8_lossy(&text);
                        match kind {
                            OutputKind::Stdout => crate::io::print(&text),
                            OutputKind::Stderr => crate::io::print_error(&text),
                        }
                    }
                    Next::Wait
                }
                Info::InputRequest(request) => {
                    request.end();
                    Next::Wait
                }
                _ => Next::Wait,
            }
        }
    }

    /// Comes right after what returned [`Next::Continue`], before any message.
    fn handle_continue(&mut self) -> impl Future<Output = Next> {
        async { Next::Wait }
    }

    /// Comes last when a handler returned [`Next::Stop`], or the server traps exits and its parent
    /// has ended or asked it to; not when the server is killed or its code traps. A reply that
    /// came with the `Stop` is sent afterwards.
    fn terminate(&mut self, reason: &ExitReason) -> impl Future<Output = ()> {
        let _ = reason;
        async {}
    }

    /// Comes first in a server that goes on from saved state, before any message: the place
    /// for what is not state. The default does nothing.
    fn restored(&mut self) -> impl Future<Output = Next> {
        async { Next::Wait }
    }

    /// The state as bytes. The error refuses the upgrade (or whatever the save was for).
    fn save(&self) -> Result<Vec<u8>, String> {
        Ok(codec::encode(self))
    }

    /// The state from bytes that this version, or one before it, saved: Erlang's
    /// `code_change`. The error rolls the upgrade back.
    fn upgrade(saved: &[u8]) -> Result<Self, String> {
        codec::decode(saved)
    }

    /// The wire format of the arguments.
    fn encode_args(args: &Self::Args) -> Vec<u8> {
        codec::encode(args)
    }
    /// The wire format of the arguments; an error ends the server.
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

/// How `init` ended.
pub enum Init<S> {
    /// The server serves.
    Ok(S),
    /// The server serves, after that.
    OkThen(S, Next),
    /// Its starter gets [`StartError::Failed`](crate::StartError) with this reason.
    Stop(ExitReason),
    /// It ends normally: its starter gets [`StartError::Ignored`](crate::StartError).
    Ignore,
}

/// What to do with a call.
pub enum CallReturn<R> {
    /// Answer it.
    Reply(R),
    /// Answer it, then this.
    ReplyThen(R, Next),
    /// Nothing yet: [`Caller::reply`] answers, from anywhere, any time.
    NoReply,
    /// As `NoReply`, then this.
    NoReplyThen(Next),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Take the next message.
    Wait,
    /// Take the next message, or [`Info::Timeout`] if none comes for so long.
    Timeout(Duration),
    /// Call `handle_continue`, before any message.
    Continue,
    /// Take the next message, and that may take long: the host may free this actor's memory
    /// meanwhile and keep its saved state.
    Hibernate,
    /// Call `terminate`, then end with this reason.
    Stop(ExitReason),
}

/// What is neither call nor cast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Info {
    /// Sent with `send`: any bytes.
    Message(Vec<u8>),
    /// A timer of [`start_timer`](crate::time::start_timer).
    Timer(Ref),
    /// The time-out of [`Next::Timeout`] passed without a message.
    Timeout,
    /// A monitored actor ended.
    Down {
        /// The monitor, which is used up.
        monitor: Monitor,
        /// Who.
        pid: Pid,
        /// Why.
        reason: ExitReason,
    },
    /// A linked actor ended or `exit` was called on this one, and it traps exits.
    Exit {
        /// Who.
        pid: Pid,
        /// Why.
        reason: ExitReason,
    },
    /// Another actor holds this cluster-wide name now, after two halves of the cluster met.
    NameConflict {
        /// The name that this actor lost.
        name: String,
        /// Who holds it.
        winner: Pid,
    },
    /// A node came up; only after [`monitor_nodes`](crate::node::monitor_nodes).
    NodeUp(NodeEvent),
    /// A node went down; only after [`monitor_nodes`](crate::node::monitor_nodes), and once for
    /// each [`monitor_node`](crate::node::monitor_node).
    NodeDown(NodeEvent),
    /// A group that this actor monitors changed; see [`groups`].
    Group {
        /// The monitor.
        monitor: GroupMonitor,
        /// What happened.
        change: GroupChange,
    },
    /// The answer to [`begin_start`](crate::process::begin_start), or to a spawn whose future was
    /// dropped.
    Spawned(Ref, Result<Pid, SpawnError>),
    /// The answer to a registration whose future was dropped.
    Registered(Ref, Result<(), RegisterError>),
    /// The answer to a connect whose future was dropped.
    Connected(Ref, Result<String, String>),
    /// An actor whose [group leader](crate::process::group_leader) this is printed.
    Output {
        /// Who.
        pid: Pid,
        /// To which of its outputs.
        kind: OutputKind,
        /// What, as it came: a line may come in parts, each actor's in order.
        text: Vec<u8>,
    },
    /// An actor whose group leader this is wants a line of input.
    InputRequest(InputRequest),
}

/// Whom to answer: Erlang's `From`. Plain data, so it can be kept in the state.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Caller<R> {
    to: ReplyTo,
    reply: PhantomData<fn(R)>,
}

impl<R> Clone for Caller<R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for Caller<R> {}

impl<R> fmt::Debug for Caller<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Caller").field(&self.to).finish()
    }
}

impl<R> Caller<R> {
    /// Who asked.
    pub fn pid(&self) -> Pid {
        self.to.pid
    }

    /// For a reply in another codec than postcard.
    pub fn reply_bytes(self, body: &[u8]) {
        // Too large a reply: the caller's time-out tells it.
        if mailbox::reply(self.to, body).is_err() {
            crate::io::print_error("a reply is larger than the limit, and was not sent\n");
        }
    }
}

impl<R: Serialize> Caller<R> {
    /// Answers, in the default codec. A second answer, and one that comes too late, is dropped.
    pub fn reply(self, reply: &R) {
        self.reply_bytes(&codec::encode(reply));
    }
}

/// In front of a request to stop: postcard of the reason follows.
pub(crate) const STOP_MARK: &[u8] = b"\0wasm-node-sdk stop 1\0";

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
        runtime::new_turn().await;
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
    loop {
        let mut timed = false;
        let message = match next {
            Next::Wait => runtime::receive().await,
            Next::Timeout(after) => {
                timed = true;
                let due = timer::now().saturating_add(nanos(after));
                shared.deadline.set(Some(due));
                let message = runtime::receive().await;
                shared.deadline.set(None);
                message
            }
            Next::Hibernate => {
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
                with_state!(shared, state => state.terminate(&reason).await);
                return reason;
            }
        };
        next = match message {
            Message::Request((_, body)) if body.starts_with(STOP_MARK) => {
                match codec::decode(&body[STOP_MARK.len()..]) {
                    Ok(reason) => Next::Stop(reason),
                    Err(error) => ignored::<S>("a stop", &error),
                }
            }
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
            Message::Timeout if !timed => Next::Wait,
            Message::Exit((pid, reason)) if process::parent() == Some(pid) => Next::Stop(reason),
            other => match info(other) {
                Some(info) => with_state!(shared, state => state.handle_info(info).await),
                None => Next::Wait,
            },
        };
    }
}

fn ignored<S: GenServer>(what: &str, why: &str) -> Next {
    crate::eprintln!("{} {}: ignored {what}: {why}", S::MODULE, crate::self_pid());
    Next::Wait
}

fn info(message: Message) -> Option<Info> {
    Some(match message {
        Message::Info(body) => Info::Message(body),
        Message::Timer(tag) => Info::Timer(tag),
        Message::Timeout => Info::Timeout,
        Message::Down((tag, pid, reason)) => Info::Down {
            monitor: Monitor(tag),
            pid,
            reason,
        },
        Message::Exit((pid, reason)) => Info::Exit { pid, reason },
        Message::NameConflict((name, winner)) => Info::NameConflict { name, winner },
        Message::NodeUp(event) => Info::NodeUp(event),
        Message::NodeDown(event) => Info::NodeDown(event),
        message @ (Message::GroupJoined(_) | Message::GroupLeft(_)) => {
            let (monitor, change) = groups::change(message)?;
            Info::Group { monitor, change }
        }
        Message::Spawned((tag, result)) => Info::Spawned(tag, result),
        Message::Registered((tag, result)) => Info::Registered(tag, result),
        Message::Connected((tag, result)) => Info::Connected(tag, result),
        Message::Output((pid, kind, text)) => Info::Output { pid, kind, text },
        Message::InputRequest(from) => Info::InputRequest(InputRequest(from)),
        Message::Cast(_) | Message::Request(_) | Message::Response(_) => return None,
    })
}

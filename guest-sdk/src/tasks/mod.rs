//! Elixir's [`Task`]: a function that runs in an actor of its own, and whose result is awaited.
//!
//! What runs is a function that a module offers with [`rpc_functions!`](crate::rpc_functions), on this
//! node or another: an actor has its own memory, so a closure cannot run in one. (A future of
//! [`spawn_local`](crate::spawn_local) is no task: it shares its actor's memory and its fate.)
//!
//! ```no_run
//! # fn main() {}
//! use std::time::Duration;
//! use wasm_node_sdk::tasks::{self, StreamOptions, Task, TaskError};
//!
//! async fn square(n: u64) -> u64 {
//!     n * n
//! }
//! wasm_node_sdk::rpc_functions! {
//!     /// Arithmetic.
//!     pub Math = "math" {
//!         /// A square.
//!         async fn square(n: u64) -> u64;
//!     }
//! }
//! wasm_node_sdk::export_functions!(Math);
//!
//! async fn use_it() -> Result<(), TaskError> {
//!     let task = Task::async_(&Math::square(7));
//!     let far = Task::async_on("node2@127.0.0.1", &Math::square(8));
//!     // Both run meanwhile.
//!     let sum = task.await_(Duration::from_secs(5)).await? + far.await_(Duration::from_secs(5)).await?;
//!     // A thousand, four at a time, in order.
//!     let calls = (0..1000).map(Math::square);
//!     let mut squares = tasks::async_stream(calls, StreamOptions::default().max_concurrency(4));
//!     while let Some(square) = squares.next().await {
//!         wasm_node_sdk::println!("{}", square?);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! | Elixir | here |
//! | --- | --- |
//! | `Task.async/1` | [`Task::async_`], [`Task::async_on`] |
//! | `Task.Supervisor.async_nolink/2` | [`Supervisor::async_nolink`]; without a supervisor [`Task::async_nolink`], [`Task::async_nolink_on`] |
//! | `Task.await/2`, `Task.yield/2` | [`Task::await_`], [`Task::yield_`] |
//! | `Task.shutdown/2` | [`Task::shutdown`] |
//! | `Task.start/1` | [`Task::start`] |
//! | `Task.async_stream/3` | [`async_stream`] |
//! | `Task.Supervisor` | [`Supervisor`], [`StreamOptions::supervised`] |
//!
//! What differs: a time-out or a failure is an error of `await_` and does not end the caller; and a
//! task that is dropped is ended, where Elixir's goes on and its reply is thrown away. A linked task
//! that traps or is killed ends its owner, unless that traps exits, and the other way round; as in
//! Erlang, an owner that ends normally leaves a running task alone. An owner that traps exits may hear
//! of a linked task's normal end.
//!
//! [`Task`]: https://hexdocs.pm/elixir/Task.html

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::de::DeserializeOwned;

mod stream;
mod supervisor;

pub use stream::{OnTimeout, Stream, StreamOptions, async_stream};
pub use supervisor::Supervisor;

use crate::process::{SpawnOptions, request};
use crate::rpc::{Call, Error, TaskKind, invoke_task, task_result};
use crate::runtime::{self, Answer, Kind, Orphan};
use crate::sys::{node, process as host};
use crate::{
    CallError, Either, ExitReason, Message, Monitor, Pid, StartError, race, sleep, timeout,
};

/// Why a task has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskError {
    /// No result in time; the task has been ended.
    Timeout,
    /// The task ended with this reason: it trapped, was killed, or its node was lost.
    Exit(ExitReason),
    /// It could not start, or not do what was asked.
    Failed(Error),
    /// Its supervisor did not start it.
    NotStarted(StartError),
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("timeout: no result in time"),
            Self::Exit(reason) => write!(f, "the task ended: {}", reason.describe()),
            Self::Failed(error) => error.fmt(f),
            Self::NotStarted(error) => error.fmt(f),
        }
    }
}
impl std::error::Error for TaskError {}

/// Of a request to the task, or to its supervisor.
impl From<CallError> for TaskError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Exit(reason) => Self::Exit(reason),
            CallError::Noproc => Self::Exit(ExitReason::Noproc),
            CallError::Noconnection => Self::Exit(ExitReason::Noconnection),
            CallError::Timeout => Self::Timeout,
            CallError::TooLarge => Self::Failed(Error::TooLarge),
        }
    }
}

/// How [`Task::shutdown`] ends a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// With `shutdown`, and with `kill` if it is not gone after that time.
    After(Duration),
    /// With `kill`.
    BrutalKill,
}

type Reply = Pin<Box<dyn Future<Output = Result<Vec<u8>, TaskError>>>>;

/// A task of this actor, and its result. Dropped before that came, it is ended.
#[must_use = "a task that is dropped is ended"]
pub struct Task<R> {
    reply: Option<Reply>,
    child: Child,
    result: std::marker::PhantomData<fn() -> R>,
}

impl<R: DeserializeOwned> Task<R> {
    /// Runs a function on this node, linked to this actor. It begins at once.
    pub fn async_(call: &Call<R>) -> Self {
        Self::begin(&node::name(), call, true)
    }

    /// Runs a function on a node, linked to this actor.
    pub fn async_on(node: &str, call: &Call<R>) -> Self {
        Self::begin(node, call, true)
    }

    /// As [`Task::async_`] without a link: how it ends is told by [`Task::await_`] alone.
    pub fn async_nolink(call: &Call<R>) -> Self {
        Self::begin(&node::name(), call, false)
    }

    /// As [`Task::async_nolink`], on a node.
    pub fn async_nolink_on(node: &str, call: &Call<R>) -> Self {
        Self::begin(node, call, false)
    }

    /// Runs a function on this node, and forgets it. A failure ends its actor, and nobody else. No
    /// such module is an error.
    pub fn start(call: &Call<R>) -> Result<Pid, TaskError> {
        let (module, function, args) = call.parts();
        let args = invoke_task(function, args, TaskKind::Forgotten).map_err(TaskError::Failed)?;
        let spawned = crate::spawn(module, &args, &SpawnOptions::new());
        spawned
            .map(|new| new.pid)
            .map_err(|error| TaskError::Failed(error.into()))
    }

    fn begin(on: &str, call: &Call<R>, link: bool) -> Self {
        let (module, function, args) = call.parts();
        // The monitor has the reason of one that ends before it is asked.
        let options = match link {
            true => SpawnOptions::new().monitor().link(),
            false => SpawnOptions::new().monitor(),
        };
        let mut task = Self::idle();
        let spawned = invoke_task(function, args, TaskKind::Awaited).and_then(|args| {
            if on == node::name() {
                Ok(Either::Left(crate::spawn(module, &args, &options)?))
            } else {
                Ok(Either::Right(host::spawn_on(
                    on,
                    module,
                    &args,
                    &options.to_wit(false),
                )))
            }
        });
        match spawned {
            Ok(Either::Left(new)) => {
                task.runs(
                    new.pid,
                    new.monitor.unwrap_or_else(|| crate::monitor(new.pid)),
                );
            }
            Ok(Either::Right(tag)) => task.child = Child::Spawning(Answer::of(tag, Kind::Spawned)),
            Err(error) => task.reply = Some(Box::pin(async { Err(TaskError::Failed(error)) })),
        }
        task
    }

    /// The result. After the time-out the task is ended.
    pub async fn await_(mut self, within: Duration) -> Result<R, TaskError> {
        self.yield_(within).await.unwrap_or(Err(TaskError::Timeout))
    }

    /// The result, if it comes in that time; else the task goes on. Nothing once it was given.
    pub async fn yield_(&mut self, within: Duration) -> Option<Result<R, TaskError>> {
        let reply = timeout(within, self.reply()).await.ok()??;
        self.child.has_ended();
        Some(reply.and_then(|reply| task_result(&reply).map_err(TaskError::Failed)))
    }

    /// Ends the task; its result, if that came first.
    pub async fn shutdown(mut self, how: Shutdown) -> Option<Result<R, TaskError>> {
        if let Some(result) = self.yield_(Duration::ZERO).await {
            return Some(result);
        }
        let Child::Runs(pid, gone) = self.child else {
            return None;
        };
        // Its end is what this actor asked for.
        crate::unlink(pid);
        if let Shutdown::After(grace) = how {
            crate::exit(pid, ExitReason::Shutdown);
            if let Either::Left(_) = race(gone.down(), sleep(grace)).await {
                self.child.has_ended();
                return None;
            }
        }
        crate::exit(pid, ExitReason::Kill);
        gone.down().await;
        self.child.has_ended();
        None
    }

    /// The task's actor, once it is known: at once on this node.
    pub fn pid(&self) -> Option<Pid> {
        match self.child {
            Child::Runs(pid, _) => Some(pid),
            _ => None,
        }
    }

    /// No task yet.
    fn idle() -> Self {
        Self {
            reply: None,
            child: Child::Ended,
            result: std::marker::PhantomData,
        }
    }

    fn runs(&mut self, pid: Pid, monitor: Monitor) {
        self.reply = Some(ask(pid, monitor));
        self.child = Child::Runs(pid, monitor);
    }

    async fn reply(&mut self) -> Option<Result<Vec<u8>, TaskError>> {
        if let Child::Spawning(spawned) = &mut self.child {
            match spawned.await {
                Message::Spawned((tag, Ok(pid))) => self.runs(pid, Monitor(tag)),
                Message::Spawned((_, Err(error))) => {
                    self.child = Child::Ended;
                    return Some(Err(TaskError::Failed(error.into())));
                }
                _ => return None,
            }
        }
        let reply = self.reply.as_mut()?.await;
        self.reply = None;
        Some(reply)
    }
}

/// Asks a task for its result.
fn ask(pid: Pid, monitor: Monitor) -> Reply {
    let reply = request(&pid.into(), &[], None);
    Box::pin(async move {
        let reason = match reply.await {
            Ok(reply) => return Ok(reply),
            // It ended before it was asked.
            Err(CallError::Noproc) => monitor.down().await.1,
            Err(error) => match error.into() {
                TaskError::Exit(reason) => reason,
                error => return Err(error),
            },
        };
        // The function did not even run, and says why.
        if let ExitReason::Custom(_) = reason {
            return match crate::rpc::answer::<()>(reason) {
                Err(Error::Exit(reason)) => Err(TaskError::Exit(reason)),
                Err(error) => Err(TaskError::Failed(error)),
                Ok(()) => Err(TaskError::Exit(ExitReason::Normal)),
            };
        }
        Err(TaskError::Exit(reason))
    })
}

/// The actor of a task, which ends with this unless it has ended.
enum Child {
    Spawning(Answer),
    Runs(Pid, Monitor),
    Ended,
}

impl Child {
    /// It gave its result, or is gone.
    fn has_ended(&mut self) {
        if let Child::Runs(pid, monitor) = *self {
            monitor.cancel();
            // Its normal end is nothing that this actor need hear of.
            host::unlink(pid);
            std::mem::forget(std::mem::replace(self, Child::Ended));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let (pid, monitor) = match self {
            Child::Ended => return,
            Child::Runs(pid, monitor) => (*pid, *monitor),
            Child::Spawning(spawned) => match spawned.take_arrived() {
                Some(Message::Spawned((tag, Ok(pid)))) => (pid, Monitor(tag)),
                Some(_) => return,
                None if spawned.is_done() => return,
                // Not before it is known who it is.
                None => return runtime::adopt_orphan(spawned.tag(), Orphan::Dies),
            },
        };
        monitor.cancel();
        host::unlink(pid);
        host::exit(pid, &ExitReason::Kill);
    }
}

#[cfg(test)]
mod tests;

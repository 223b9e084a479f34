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
//! | `Task.Supervisor.async_nolink/2` | [`Task::async_nolink`], [`Task::async_nolink_on`] |
//! | `Task.await/2`, `Task.yield/2` | [`Task::await_`], [`Task::yield_`] |
//! | `Task.shutdown/2` | [`Task::shutdown`] |
//! | `Task.start/1` | [`Task::start`] |
//! | `Task.async_stream/3` | [`async_stream`] |
//!
//! What differs: a time-out or a failure is an error of `await_` and does not end the caller; and a
//! task that is dropped is ended, where Elixir's goes on and its reply is thrown away. A linked task
//! that traps or is killed ends its owner, unless that traps exits, and the other way round; as in
//! Erlang, an owner that ends normally leaves a running task alone. An owner that traps exits may hear
//! of a linked task's normal end.
//!
//! [`Task`]: https://hexdocs.pm/elixir/Task.html

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::process::{SpawnOptions, request};
use crate::rpc::{Call, Error, invoke_task, task_result};
use crate::runtime::{self, Answer, Kind, Orphan};
use crate::sys::{node, process as host};
use crate::{CallError, Either, ExitReason, Message, Pid, race, sleep, timeout};

/// Why a task has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskError {
    /// No result in time; the task has been ended.
    Timeout,
    /// The task ended with this reason: it trapped, was killed, or its node was lost.
    Exit(ExitReason),
    /// It could not start, or not do what was asked.
    Failed(Error),
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("timeout: no result in time"),
            Self::Exit(reason) => write!(f, "the task ended: {}", reason.describe()),
            Self::Failed(error) => error.fmt(f),
        }
    }
}
impl std::error::Error for TaskError {}

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
        let args = invoke_task(function, args, false).map_err(TaskError::Failed)?;
        let spawned = crate::spawn(module, &args, &SpawnOptions::new());
        spawned
            .map(|new| new.pid)
            .map_err(|error| TaskError::Failed(error.into()))
    }

    fn begin(on: &str, call: &Call<R>, link: bool) -> Self {
        let (module, function, args) = call.parts();
        let options = match link {
            true => SpawnOptions::new().link(),
            false => SpawnOptions::new(),
        };
        let mut task = Self {
            reply: None,
            child: Child::Ended,
            result: std::marker::PhantomData,
        };
        let spawned = invoke_task(function, args, true).and_then(|args| {
            if on == node::name() {
                Ok(Either::Left(crate::spawn(module, &args, &options)?.pid))
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
            Ok(Either::Left(pid)) => {
                task.reply = Some(ask(pid));
                task.child = Child::Runs(pid);
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
        let Child::Runs(pid) = self.child else {
            return None;
        };
        // Its end is what this actor asked for.
        crate::unlink(pid);
        let gone = crate::monitor(pid);
        if let Shutdown::After(grace) = how {
            crate::exit(pid, ExitReason::Shutdown);
            if let Either::Left(_) = race(gone.down(), sleep(grace)).await {
                self.child.has_ended();
                return None;
            }
        }
        crate::exit(pid, ExitReason::Kill);
        crate::monitor(pid).down().await;
        self.child.has_ended();
        None
    }

    /// The task's actor, once it is known: at once on this node.
    pub fn pid(&self) -> Option<Pid> {
        match self.child {
            Child::Runs(pid) => Some(pid),
            _ => None,
        }
    }

    async fn reply(&mut self) -> Option<Result<Vec<u8>, TaskError>> {
        if let Child::Spawning(spawned) = &mut self.child {
            match spawned.await {
                Message::Spawned((_, Ok(pid))) => {
                    self.child = Child::Runs(pid);
                    self.reply = Some(ask(pid));
                }
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
fn ask(pid: Pid) -> Reply {
    let reply = request(&pid.into(), &[], None);
    Box::pin(async move {
        reply.await.map_err(|error| match error {
            CallError::Exit(ExitReason::Custom(data)) => {
                match crate::rpc::answer::<()>(ExitReason::Custom(data)) {
                    Err(Error::Exit(reason)) => TaskError::Exit(reason),
                    Err(error) => TaskError::Failed(error),
                    Ok(()) => TaskError::Exit(ExitReason::Normal),
                }
            }
            CallError::Exit(reason) => TaskError::Exit(reason),
            CallError::Noproc => TaskError::Exit(ExitReason::Noproc),
            CallError::Noconnection => TaskError::Exit(ExitReason::Noconnection),
            CallError::Timeout => TaskError::Timeout,
            CallError::TooLarge => TaskError::Failed(Error::TooLarge),
        })
    })
}

/// The actor of a task, which ends with this unless it has ended.
enum Child {
    Spawning(Answer),
    Runs(Pid),
    Ended,
}

impl Child {
    /// It gave its result, or is gone.
    fn has_ended(&mut self) {
        if let Child::Runs(pid) = *self {
            // Its normal end is nothing that this actor need hear of.
            host::unlink(pid);
            std::mem::forget(std::mem::replace(self, Child::Ended));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let pid = match self {
            Child::Ended => return,
            Child::Runs(pid) => *pid,
            Child::Spawning(spawned) => match spawned.take_arrived() {
                Some(Message::Spawned((_, Ok(pid)))) => pid,
                Some(_) => return,
                None if spawned.is_done() => return,
                // Not before it is known who it is.
                None => return runtime::adopt_orphan(spawned.tag(), Orphan::Dies),
            },
        };
        host::unlink(pid);
        host::exit(pid, &ExitReason::Kill);
    }
}

/// What [`async_stream`] does when a task is too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTimeout {
    /// The stream ends with [`TaskError::Timeout`], and with it all its tasks.
    Exit,
    /// The task is ended, its place in the stream is [`TaskError::Timeout`], and the others go on.
    KillTask,
}

/// How an [`async_stream`] runs.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    max_concurrency: usize,
    ordered: bool,
    timeout: Duration,
    on_timeout: OnTimeout,
    link: bool,
    nodes: Vec<String>,
}

impl Default for StreamOptions {
    /// Eight at a time, in order, five seconds each, linked, on this node.
    fn default() -> Self {
        Self {
            max_concurrency: 8,
            ordered: true,
            timeout: Duration::from_secs(5),
            on_timeout: OnTimeout::Exit,
            link: true,
            nodes: Vec::new(),
        }
    }
}

impl StreamOptions {
    /// So many tasks at a time, at least one; results that wait to be taken count.
    pub fn max_concurrency(mut self, tasks: usize) -> Self {
        self.max_concurrency = tasks.max(1);
        self
    }

    /// Whether results come in the order of the calls, or as they come.
    pub fn ordered(mut self, ordered: bool) -> Self {
        self.ordered = ordered;
        self
    }

    /// How long each task may take, and what happens then.
    pub fn timeout(mut self, each: Duration, on_timeout: OnTimeout) -> Self {
        (self.timeout, self.on_timeout) = (each, on_timeout);
        self
    }

    /// Without links: a task that traps is an error in its place.
    pub fn nolink(mut self) -> Self {
        self.link = false;
        self
    }

    /// On these nodes, in turn.
    pub fn on(mut self, nodes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.nodes = nodes.into_iter().map(Into::into).collect();
        self
    }
}

/// Runs calls as tasks, some at a time; the next is taken from the iterator when there is room for
/// it, and only while [`Stream::next`] is waited for.
pub fn async_stream<R, I>(calls: I, options: StreamOptions) -> Stream<R, I::IntoIter>
where
    R: DeserializeOwned + 'static,
    I: IntoIterator<Item = Call<R>>,
{
    Stream {
        calls: calls.into_iter(),
        options,
        begun: 0,
        running: VecDeque::new(),
        over: false,
    }
}

/// The results of [`async_stream`]. Dropped, its tasks are ended.
pub struct Stream<R, I> {
    calls: I,
    options: StreamOptions,
    begun: usize,
    running: VecDeque<Place<R>>,
    over: bool,
}

enum Place<R> {
    Runs(Pin<Box<dyn Future<Output = Result<R, TaskError>>>>),
    Done(Result<R, TaskError>),
}

impl<R: DeserializeOwned + 'static, I: Iterator<Item = Call<R>>> Stream<R, I> {
    /// The next result; none after the last.
    pub async fn next(&mut self) -> Option<Result<R, TaskError>> {
        self.fill();
        if self.running.is_empty() {
            return None;
        }
        let (running, ordered) = (&mut self.running, self.options.ordered);
        let result = std::future::poll_fn(|cx| {
            for place in running.iter_mut() {
                if let Place::Runs(task) = place
                    && let Poll::Ready(result) = task.as_mut().poll(cx)
                {
                    *place = Place::Done(result);
                }
            }
            let done = |place: &Place<R>| matches!(place, Place::Done(_));
            let at = match ordered {
                true => running.front().is_some_and(done).then_some(0),
                false => running.iter().position(done),
            };
            match at.and_then(|at| running.remove(at)) {
                Some(Place::Done(result)) => Poll::Ready(result),
                _ => Poll::Pending,
            }
        })
        .await;
        if matches!(result, Err(TaskError::Timeout)) && self.options.on_timeout == OnTimeout::Exit {
            self.over = true;
            self.running.clear();
        }
        Some(result)
    }

    fn fill(&mut self) {
        while !self.over && self.running.len() < self.options.max_concurrency {
            let Some(call) = self.calls.next() else {
                self.over = true;
                return;
            };
            let nodes = &self.options.nodes;
            let node = match nodes.len() {
                0 => node::name(),
                some => nodes[self.begun % some].clone(),
            };
            self.begun += 1;
            let task = Task::begin(&node, &call, self.options.link);
            self.running
                .push_back(Place::Runs(Box::pin(task.await_(self.options.timeout))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Node;

    async fn square(n: u64) -> u64 {
        sleep(Duration::from_millis(1000 - n * 10)).await;
        n * n
    }
    async fn fails() {
        panic!("as asked");
    }
    crate::rpc_functions! {
        Math = "math" {
            async fn square(n: u64) -> u64;
            async fn fails();
        }
    }
    const LONG: Duration = Duration::from_secs(5);

    fn node() -> Node {
        let node = Node::new();
        node.functions::<Math>();
        node
    }

    #[test]
    fn results_come_from_here_and_there() {
        let node = node();
        let there = node.peer("b@local");
        node.run(async {
            let (here, far) = (
                Task::async_(&Math::square(3)),
                Task::async_on("b@local", &Math::square(4)),
            );
            assert_eq!(here.await_(LONG).await, Ok(9));
            assert_eq!(far.await_(LONG).await, Ok(16));
            assert_eq!(crate::time::now(), 970_000_000);
            let nowhere = Task::async_on("c@local", &Math::square(4))
                .await_(LONG)
                .await;
            assert_eq!(nowhere, Err(TaskError::Failed(Error::NoConnection)));
        });
        drop(there);
    }

    #[test]
    fn a_task_that_is_late_yields_and_then_is_ended() {
        let (pid, early) = node().run(async {
            let mut task = Task::async_(&Math::square(2));
            assert_eq!(task.yield_(Duration::from_millis(100)).await, None);
            assert_eq!(task.yield_(LONG).await, Some(Ok(4)));
            let task = Task::async_(&Math::square(2));
            let pid = task.pid().unwrap();
            assert_eq!(
                task.await_(Duration::from_millis(1)).await,
                Err(TaskError::Timeout)
            );
            let watch = crate::monitor(pid);
            watch.down().await;
            let task = Task::async_(&Math::square(2));
            let killed = task.pid().unwrap();
            assert_eq!(task.shutdown(Shutdown::BrutalKill).await, None);
            let task = Task::async_(&Math::square(2));
            assert_eq!(task.shutdown(Shutdown::After(LONG)).await, None);
            (
                crate::process::is_alive(pid),
                crate::process::is_alive(killed),
            )
        });
        assert!(!pid && !early);
    }

    #[test]
    fn links_end_the_owner_and_the_task() {
        let node = node();
        let trap = Err(ExitReason::Trap("as asked".into()));
        let died = node.try_run(async { Task::async_(&Math::fails()).await_(LONG).await });
        assert_eq!(died.map(|_| ()), trap);
        let told = node.run(async { Task::async_nolink(&Math::fails()).await_(LONG).await });
        assert_eq!(
            told,
            Err(TaskError::Exit(ExitReason::Trap("as asked".into())))
        );
        node.task("owner", |_| async {
            let task = Task::async_(&Math::square(0));
            crate::registry::register("the task", task.pid().unwrap()).unwrap();
            std::future::pending().await
        });
        let owner = node.spawn("owner", b"").unwrap();
        node.run_until_idle();
        let task = node.whereis("the task").unwrap();
        node.exit(owner, ExitReason::Kill);
        assert_eq!(node.exit_reason(task), Some(ExitReason::Killed));
    }

    #[test]
    fn streams_are_bounded_and_ordered_or_not() {
        node().run(async {
            let calls = || (0..10).map(Math::square);
            let mut all = async_stream(calls(), StreamOptions::default().max_concurrency(3));
            let mut squares = Vec::new();
            while let Some(square) = all.next().await {
                squares.push(square.unwrap());
                assert!(all.begun <= squares.len() + 3);
            }
            assert_eq!(squares, (0..10).map(|n| n * n).collect::<Vec<u64>>());
            let options = StreamOptions::default().max_concurrency(10).ordered(false);
            let mut all = async_stream(calls(), options.clone());
            assert_eq!(all.next().await, Some(Ok(81)));
            drop(all);
            let options = options.ordered(true);
            let late = options
                .clone()
                .timeout(Duration::from_millis(975), OnTimeout::KillTask);
            let mut all = async_stream(calls(), late);
            assert_eq!(all.next().await, Some(Err(TaskError::Timeout)));
            let mut good = 0;
            while let Some(result) = all.next().await {
                good += usize::from(result.is_ok());
            }
            assert_eq!(good, 7);
            let late = options.timeout(Duration::from_millis(975), OnTimeout::Exit);
            let mut all = async_stream(calls(), late);
            assert_eq!(all.next().await, Some(Err(TaskError::Timeout)));
            assert_eq!(all.next().await, None);
        });
    }

    #[test]
    fn what_is_started_is_forgotten() {
        let node = node();
        let pid = node.run(async { Task::start(&Math::square(1)).unwrap() });
        assert!(node.is_alive(pid));
        node.advance(LONG);
        assert_eq!(node.exit_reason(pid), Some(ExitReason::Normal));
    }
}

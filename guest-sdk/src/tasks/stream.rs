//! Many tasks, some at a time: Elixir's `Task.async_stream/3`, and `Task.Supervisor`'s.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{Supervisor, Task, TaskError};
use crate::rpc::Call;
use crate::sys::node;

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
    place: Place,
}

/// Where tasks run.
#[derive(Debug, Clone)]
enum Place {
    /// On these nodes, in turn; this one if there are none.
    Nodes(Vec<String>),
    Under(Supervisor),
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
            place: Place::Nodes(Vec::new()),
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
        self.place = Place::Nodes(nodes.into_iter().map(Into::into).collect());
        self
    }

    /// Under a supervisor, on its node.
    pub fn supervised(mut self, supervisor: Supervisor) -> Self {
        self.place = Place::Under(supervisor);
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
    pub(super) begun: usize,
    running: VecDeque<Slot<R>>,
    over: bool,
}

type Running<R> = Pin<Box<dyn Future<Output = Result<R, TaskError>>>>;

enum Slot<R> {
    Runs(Running<R>),
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
            for slot in running.iter_mut() {
                if let Slot::Runs(task) = slot
                    && let Poll::Ready(result) = task.as_mut().poll(cx)
                {
                    *slot = Slot::Done(result);
                }
            }
            let done = |slot: &Slot<R>| matches!(slot, Slot::Done(_));
            let at = match ordered {
                true => running.front().is_some_and(done).then_some(0),
                false => running.iter().position(done),
            };
            match at.and_then(|at| running.remove(at)) {
                Some(Slot::Done(result)) => Poll::Ready(result),
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
            let task = self.begin(&call);
            self.running.push_back(Slot::Runs(task));
            self.begun += 1;
        }
    }

    fn begin(&self, call: &Call<R>) -> Running<R> {
        let (within, link) = (self.options.timeout, self.options.link);
        match &self.options.place {
            Place::Nodes(nodes) => {
                let node = match nodes.len() {
                    0 => node::name(),
                    some => nodes[self.begun % some].clone(),
                };
                Box::pin(Task::begin(&node, call, link).await_(within))
            }
            Place::Under(supervisor) => {
                let started = supervisor.begin(call, link);
                Box::pin(async move { started.await?.await_(within).await })
            }
        }
    }
}

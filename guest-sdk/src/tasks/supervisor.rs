//! Tasks that a supervisor looks after: Elixir's `Task.Supervisor`. The supervisor is a dynamic
//! one, on any node; its tasks are temporary, and end with it.

use std::future::Future;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Task, TaskError};
use crate::rpc::{Call, TaskKind, invoke_task};
use crate::supervisor::dynamic::{Client, Spec};
use crate::supervisor::{self, ChildSpec, Restart};
use crate::{CallError, Destination, Pid, StartError, link, monitor};

/// A supervisor of tasks, by pid or name.
///
/// ```no_run
/// # fn main() {}
/// use std::time::Duration;
/// use wasm_node_sdk::tasks::{Supervisor, TaskError};
///
/// async fn square(n: u64) -> u64 {
///     n * n
/// }
/// wasm_node_sdk::rpc_functions! {
///     /// Arithmetic.
///     pub Math = "math" {
///         /// A square.
///         async fn square(n: u64) -> u64;
///     }
/// }
/// wasm_node_sdk::export_functions!(Math);
///
/// async fn use_it() -> Result<u64, TaskError> {
///     let tasks = Supervisor::at("tasks");
///     let task = tasks.async_nolink(&Math::square(7)).await?;
///     task.await_(Duration::from_secs(5)).await
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supervisor(Client);

impl Supervisor {
    /// The one with this pid or name: any dynamic supervisor.
    pub fn at(to: impl Into<Destination>) -> Self {
        Self(Client::at(to))
    }

    /// Starts one on this node, linked to this actor.
    pub async fn start(spec: &Spec) -> Result<Self, StartError> {
        Client::start(spec).await.map(Self)
    }

    /// Runs a function on the supervisor's node, linked to this actor. Waits until it has begun.
    pub async fn async_<R: DeserializeOwned>(&self, call: &Call<R>) -> Result<Task<R>, TaskError> {
        self.begin(call, true).await
    }

    /// As [`Supervisor::async_`] without a link: how it ends is told by [`Task::await_`] alone.
    pub async fn async_nolink<R: DeserializeOwned>(
        &self,
        call: &Call<R>,
    ) -> Result<Task<R>, TaskError> {
        self.begin(call, false).await
    }

    /// Runs a function on the supervisor's node, and forgets it. One that fails starts again if
    /// `restart` says so. Waits until it has begun.
    pub async fn start_child<R>(&self, call: &Call<R>, restart: Restart) -> Result<Pid, TaskError> {
        let child = child(call, TaskKind::ForgottenAtOnce)?;
        started(self.0.begin_child(child.restart(restart), None).await)
    }

    /// Ends a task; whether there was such a one. Waits until it is gone, up to the time-out.
    pub async fn terminate_child(&self, pid: Pid, timeout: Duration) -> Result<bool, CallError> {
        self.0.terminate_child(pid, timeout).await
    }

    /// The tasks that run.
    pub async fn children(&self, timeout: Duration) -> Result<Vec<Pid>, CallError> {
        let children = self.0.which_children(timeout).await?;
        Ok(children.iter().filter_map(supervisor::Child::pid).collect())
    }

    pub(super) fn begin<R: DeserializeOwned>(
        &self,
        call: &Call<R>,
        linked: bool,
    ) -> impl Future<Output = Result<Task<R>, TaskError>> + use<R> {
        let asked = child(call, TaskKind::AskedFirst);
        let asked = asked.map(|child| self.0.begin_child(child, None));
        async move {
            let pid = started(asked?.await)?;
            if linked {
                link(pid);
            }
            let mut task = Task::idle();
            task.runs(pid, monitor(pid));
            Ok(task)
        }
    }
}

fn child<R>(call: &Call<R>, kind: TaskKind) -> Result<ChildSpec, TaskError> {
    let (module, function, args) = call.parts();
    let args = invoke_task(function, args, kind).map_err(TaskError::Failed)?;
    Ok(ChildSpec::new(function, module, args).restart(Restart::Temporary))
}

fn started(answer: Result<Result<Pid, StartError>, CallError>) -> Result<Pid, TaskError> {
    answer?.map_err(|error| match error {
        StartError::Spawn(error) => TaskError::Failed(error.into()),
        StartError::Failed(reason) => TaskError::Exit(reason),
        error => TaskError::NotStarted(error),
    })
}

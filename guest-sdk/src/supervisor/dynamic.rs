//! Dynamic supervisors: children that come and go in numbers, known by their pids alone. Elixir's
//! `DynamicSupervisor`; the module is `dynamic-supervisor` (`actors/dynamic-supervisor`).
//!
//! Children are restarted one for one, with the same restart types and intensity as
//! [`super::Client`]'s, and all ended at once when the supervisor ends. No operation but
//! [`Client::which_children`] takes longer with more children.
//!
//! ```no_run
//! use std::time::Duration;
//! use wasm_node_sdk::supervisor::dynamic::{Client, Spec};
//! use wasm_node_sdk::supervisor::{ChildSpec, Restart};
//!
//! async fn begin() -> Option<()> {
//!     let jobs = Client::start(&Spec { max_children: Some(100), ..Spec::default() }).await.ok()?;
//!     let job = ChildSpec::new("", "job", b"what to do".to_vec()).restart(Restart::Temporary);
//!     let pid = jobs.start_child(job, Duration::from_secs(5)).await.ok()?.ok()?;
//!     jobs.terminate_child(pid, Duration::from_secs(5)).await.ok()?;
//!     Some(())
//! }
//! ```
//!
//! Differences from Elixir: a child's id and whether it is significant are ignored; there are no
//! `extra_arguments`.

use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Child, ChildSpec, Counts, ask, unexpected};
use crate::{CallError, Destination, Pid, StartError, codec, process};

/// The module's name.
pub const MODULE: &str = "dynamic-supervisor";

/// A dynamic supervisor. Its argument is postcard of this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// So many restarts within `period_ms` are borne; one more ends the supervisor.
    pub intensity: u32,
    /// Milliseconds.
    pub period_ms: u32,
    /// How many children it has at most; `None` is no limit.
    pub max_children: Option<u32>,
}

impl Default for Spec {
    /// Three restarts within five seconds, any number of children.
    fn default() -> Self {
        Self {
            intensity: 3,
            period_ms: 5_000,
            max_children: None,
        }
    }
}

/// What a dynamic supervisor can be asked. The wire form is postcard, as is [`Reply`]'s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// Starts a child: [`Reply::Started`], when its `init` has ended.
    StartChild(ChildSpec),
    /// Ends a child: [`Reply::Terminated`], when it is gone.
    TerminateChild(Pid),
    /// [`Reply::Children`].
    WhichChildren,
    /// [`Reply::Counted`].
    CountChildren,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The child, or why there is none.
    Started(Result<Pid, StartError>),
    /// Whether there was such a child.
    Terminated(bool),
    /// All of them.
    Children(Vec<Child>),
    /// How many there are.
    Counted(Counts),
}

/// A dynamic supervisor, by pid or name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client(pub Destination);

impl Client {
    /// The one with this pid or local name.
    pub fn at(to: impl Into<Destination>) -> Self {
        Self(to.into())
    }

    /// Starts one on this node, linked to this actor.
    pub async fn start(spec: &Spec) -> Result<Self, StartError> {
        let options = process::SpawnOptions::new().link();
        let started = process::start(MODULE, &codec::encode(spec), &options).await?;
        Ok(Self(started.pid.into()))
    }

    /// Starts a child; waits for its `init`, up to the time-out. Other calls go on meanwhile.
    /// [`StartError::MaxChildren`] if there are as many as there may be.
    pub async fn start_child(
        &self,
        child: ChildSpec,
        timeout: Duration,
    ) -> Result<Result<Pid, StartError>, CallError> {
        self.begin_child(child, Some(timeout)).await
    }

    /// The request is sent by this call, not by the first poll.
    pub(crate) fn begin_child(
        &self,
        child: ChildSpec,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<Result<Pid, StartError>, CallError>> + use<> {
        let reply = ask(&self.0, &Call::StartChild(child), timeout);
        async move {
            match reply.await? {
                Reply::Started(result) => Ok(result),
                _ => Err(unexpected()),
            }
        }
    }

    /// Ends a child and forgets it; whether there was one. Waits until it is gone, up to the
    /// time-out.
    pub async fn terminate_child(&self, pid: Pid, timeout: Duration) -> Result<bool, CallError> {
        match self.call(&Call::TerminateChild(pid), timeout).await? {
            Reply::Terminated(was) => Ok(was),
            _ => Err(unexpected()),
        }
    }

    /// Its children, in no order.
    pub async fn which_children(&self, timeout: Duration) -> Result<Vec<Child>, CallError> {
        match self.call(&Call::WhichChildren, timeout).await? {
            Reply::Children(children) => Ok(children),
            _ => Err(unexpected()),
        }
    }

    /// How many children it has.
    pub async fn count_children(&self, timeout: Duration) -> Result<Counts, CallError> {
        match self.call(&Call::CountChildren, timeout).await? {
            Reply::Counted(counts) => Ok(counts),
            _ => Err(unexpected()),
        }
    }

    async fn call(&self, call: &Call, timeout: Duration) -> Result<Reply, CallError> {
        ask(&self.0, call, Some(timeout)).await
    }
}

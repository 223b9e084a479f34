//! Supervisors: actors of the module `supervisor` (`actors/supervisor`) that start others, end them
//! in order, and start them again when they fail. OTP's `supervisor`, with its strategies, restart
//! types, restart intensity, ordered shutdown and significant children. For children that come
//! and go in numbers there is [`dynamic`].
//!
//! ```no_run
//! use std::time::Duration;
//! use wasm_node_sdk::supervisor::{ChildSpec, Client, Restart, Shutdown, Strategy, SupervisorSpec};
//!
//! async fn begin() -> Option<()> {
//!     let spec = SupervisorSpec {
//!         strategy: Strategy::RestForOne,
//!         children: vec![
//!             ChildSpec::new("store", "store", vec![]),
//!             ChildSpec::new("job", "job", vec![])
//!                 .restart(Restart::Transient)
//!                 .shutdown(Shutdown::After(10_000)),
//!         ],
//!         ..SupervisorSpec::default()
//!     };
//!     let supervisor = Client::start(&spec).await.ok()?;
//!     let counts = supervisor.count_children(Duration::from_secs(5)).await.ok()?;
//!     assert_eq!((counts.specs, counts.active), (2, 2));
//!     Some(())
//! }
//! ```
//!
//! Differences from OTP: a restart whose start fails is tried again after 100 ms, not at once
//! (it counts as a restart each time, as there); a child whose `init` fails is told to whoever
//! added it with its own reason; supervisors do not change their specification on an upgrade.

use std::future::Future;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub mod dynamic;
pub mod spec;

pub use spec::{AutoShutdown, ChildKind, ChildSpec, Restart, Shutdown, Strategy, SupervisorSpec};

use crate::{CallError, Destination, Pid, StartError, codec, process};

/// The module's name.
pub const MODULE: &str = "supervisor";

/// What a supervisor can be asked. The wire form is postcard, as is [`Reply`]'s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// Starts a child and adds it: [`Reply::Started`], when its `init` has ended.
    StartChild(ChildSpec),
    /// Ends a child, and forgets it if it is temporary: [`Reply::Terminated`].
    TerminateChild(String),
    /// [`Reply::Children`].
    WhichChildren,
    /// Starts a child that has none running: [`Reply::Restarted`], when its `init` has ended.
    RestartChild(String),
    /// Forgets a child that does not run: [`Reply::Deleted`].
    DeleteChild(String),
    /// [`Reply::Counted`].
    CountChildren,
    /// [`Reply::Spec`].
    GetChildSpec(String),
}

/// What a supervisor answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The child, or why there is none.
    Started(Result<Pid, StartError>),
    /// Whether there was such a child.
    Terminated(bool),
    /// In the order started.
    Children(Vec<Child>),
    /// The child, or why there is none.
    Restarted(Result<Pid, ChildError>),
    /// Whether it is forgotten, or why not.
    Deleted(Result<(), ChildError>),
    /// How many there are.
    Counted(Counts),
    /// What it was specified as, if there is such a child.
    Spec(Option<ChildSpec>),
}

/// Why nothing was done about a child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChildError {
    /// There is none with that id.
    NotFound,
    /// It runs.
    Running,
    /// It is about to start again.
    Restarting,
    /// It did not start.
    Start(StartError),
}

/// One child as the supervisor knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// Its id.
    pub id: String,
    /// Its module.
    pub module: String,
    /// Itself.
    pub state: ChildState,
    /// What it is.
    pub kind: ChildKind,
}

impl Child {
    /// Itself, if it runs.
    pub fn pid(&self) -> Option<Pid> {
        match self.state {
            ChildState::Running(pid) => Some(pid),
            ChildState::Restarting | ChildState::Undefined => None,
        }
    }
}

/// Where a child's process is: what OTP's `which_children` has in the place of the pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChildState {
    /// Here.
    Running(Pid),
    /// It starts, or is to start again.
    Restarting,
    /// There is none: it was terminated, its `init` chose not to start, or it is transient and has
    /// ended cleanly.
    Undefined,
}

/// How many children a supervisor has: OTP's `count_children`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// All, running or not.
    pub specs: u64,
    /// Those that run.
    pub active: u64,
    /// Those that are supervisors, running or not.
    pub supervisors: u64,
    /// The others, running or not.
    pub workers: u64,
}

/// A supervisor, by pid or name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client(pub Destination);

impl Client {
    /// The one with this pid or local name.
    pub fn at(to: impl Into<Destination>) -> Self {
        Self(to.into())
    }

    /// Starts a supervisor on this node, linked to this actor, and all of its children.
    pub async fn start(spec: &SupervisorSpec) -> Result<Self, StartError> {
        let options = process::SpawnOptions::new().link();
        let started = process::start(MODULE, &codec::encode(spec), &options).await?;
        Ok(Self(started.pid.into()))
    }

    /// Starts a child; waits for its `init`, up to the time-out. Other calls go on meanwhile.
    /// A child of that id that runs, or a holder of its name, is [`StartError::AlreadyStarted`];
    /// one that does not run [`StartError::AlreadyPresent`]. A child whose `init` chooses not to
    /// start is [`StartError::Ignored`], and is kept without a process unless it is temporary.
    pub async fn start_child(
        &self,
        child: ChildSpec,
        timeout: Duration,
    ) -> Result<Result<Pid, StartError>, CallError> {
        match self.call(&Call::StartChild(child), timeout).await? {
            Reply::Started(result) => Ok(result),
            _ => Err(unexpected()),
        }
    }

    /// Ends a child; whether there was one. Waits until it is gone, up to the time-out. It can
    /// be started again by [`Client::restart_child`], unless it is temporary: then it is forgotten.
    pub async fn terminate_child(&self, id: &str, timeout: Duration) -> Result<bool, CallError> {
        match self.call(&Call::TerminateChild(id.into()), timeout).await? {
            Reply::Terminated(was) => Ok(was),
            _ => Err(unexpected()),
        }
    }

    /// Starts a child that has no process; waits for its `init`, up to the time-out.
    pub async fn restart_child(
        &self,
        id: &str,
        timeout: Duration,
    ) -> Result<Result<Pid, ChildError>, CallError> {
        match self.call(&Call::RestartChild(id.into()), timeout).await? {
            Reply::Restarted(result) => Ok(result),
            _ => Err(unexpected()),
        }
    }

    /// Forgets a child that has no process.
    pub async fn delete_child(
        &self,
        id: &str,
        timeout: Duration,
    ) -> Result<Result<(), ChildError>, CallError> {
        match self.call(&Call::DeleteChild(id.into()), timeout).await? {
            Reply::Deleted(result) => Ok(result),
            _ => Err(unexpected()),
        }
    }

    /// Its children, in the order started.
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

    /// What a child was specified as.
    pub async fn get_child_spec(
        &self,
        id: &str,
        timeout: Duration,
    ) -> Result<Option<ChildSpec>, CallError> {
        match self.call(&Call::GetChildSpec(id.into()), timeout).await? {
            Reply::Spec(spec) => Ok(spec),
            _ => Err(unexpected()),
        }
    }

    async fn call(&self, call: &Call, timeout: Duration) -> Result<Reply, CallError> {
        ask(&self.0, call, Some(timeout)).await
    }
}

/// Asks a supervisor of either kind. The request is sent by this call, not by the first poll.
fn ask<C: Serialize, R: DeserializeOwned>(
    to: &Destination,
    call: &C,
    timeout: Option<Duration>,
) -> impl Future<Output = Result<R, CallError>> + use<C, R> {
    let reply = process::request(to, &codec::encode(call), timeout);
    async move {
        let decoded = codec::decode(&reply.await?);
        decoded.map_err(|error| CallError::Exit(crate::ExitReason::Error(error)))
    }
}

fn unexpected() -> CallError {
    CallError::Exit(crate::ExitReason::Error(
        "the supervisor answered something else".into(),
    ))
}

//! Talking to a supervisor: an actor of the module `supervisor` (`actors/supervisor`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub mod spec;

pub use spec::{ChildSpec, Restart, Shutdown, Strategy, SupervisorSpec};

use crate::{CallError, Destination, Pid, StartError, codec, process};

/// The module's name.
pub const MODULE: &str = "supervisor";

/// What a supervisor can be asked. The wire form is postcard, as is [`Reply`]'s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// Starts a child and adds it: [`Reply::Started`], when its `init` has ended.
    StartChild(ChildSpec),
    /// Ends a child, and keeps it without a process unless it is temporary: [`Reply::Terminated`].
    TerminateChild(String),
    /// [`Reply::Children`].
    WhichChildren,
    /// Starts a child that is kept without a process: [`Reply::Restarted`].
    RestartChild(String),
    /// Forgets a child that is kept without a process: [`Reply::Deleted`].
    DeleteChild(String),
    /// [`Reply::Counted`].
    CountChildren,
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
    /// Whether it is forgotten.
    Deleted(Result<(), ChildError>),
    /// How many there are.
    Counted(Counts),
}

/// Why a child was not started again, or not deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChildError {
    /// There is no child of that id.
    NotFound,
    /// It has a process.
    Running,
    /// It is about to start again by itself.
    Restarting,
    /// Its start failed; it is kept.
    Start(StartError),
}

/// What [`Client::count_children`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// All children.
    pub specs: u32,
    /// Those with a process.
    pub active: u32,
    /// Those of the module `supervisor`.
    pub supervisors: u32,
    /// The others.
    pub workers: u32,
}

/// One child as the supervisor knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// Its id.
    pub id: String,
    /// Its module.
    pub module: String,
    /// Itself; none while it starts, or if it is kept without a process.
    pub pid: Option<Pid>,
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
    /// A child of that id, or a holder of its name, is [`StartError::AlreadyStarted`].
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

    /// Ends a child; whether there is one of that id. Waits until it is gone, up to the time-out.
    /// It is kept, and does not start again by itself; a temporary one is forgotten.
    pub async fn terminate_child(&self, id: &str, timeout: Duration) -> Result<bool, CallError> {
        match self.call(&Call::TerminateChild(id.into()), timeout).await? {
            Reply::Terminated(was) => Ok(was),
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

    /// Starts a child again that is kept without a process: it was terminated, has ended for good,
    /// or chose not to start. Waits for its `init`, up to the time-out.
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

    /// Forgets a child that is kept without a process.
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

    /// How many children there are.
    pub async fn count_children(&self, timeout: Duration) -> Result<Counts, CallError> {
        match self.call(&Call::CountChildren, timeout).await? {
            Reply::Counted(counts) => Ok(counts),
            _ => Err(unexpected()),
        }
    }

    async fn call(&self, call: &Call, timeout: Duration) -> Result<Reply, CallError> {
        let body = process::request(&self.0, &codec::encode(call), Some(timeout)).await?;
        codec::decode(&body).map_err(|error| CallError::Exit(crate::ExitReason::Error(error)))
    }
}

fn unexpected() -> CallError {
    CallError::Exit(crate::ExitReason::Error(
        "the supervisor answered something else".into(),
    ))
}

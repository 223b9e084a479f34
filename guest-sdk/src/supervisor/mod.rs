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
    /// Ends a child and forgets it: [`Reply::Terminated`].
    TerminateChild(String),
    /// [`Reply::Children`].
    WhichChildren,
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
}

/// One child as the supervisor knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// Its id.
    pub id: String,
    /// Its module.
    pub module: String,
    /// Itself; none while it starts.
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

    /// Ends a child and forgets it; whether there was one. Waits until it is gone, up to the
    /// time-out.
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

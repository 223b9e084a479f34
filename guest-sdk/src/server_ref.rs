//! Typed references to [`GenServer`]s: starting, calling, casting, calling many at once.
//!
//! What Elixir calls a `GenServer.server()`: a pid, a local name, a name on a node, a global name. Its
//! type says which calls it takes; nothing checks that whoever has the name is such a server.

use std::borrow::Borrow;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::futures::join_all;
use crate::gen_server::System;
use crate::process::{self, SpawnOptions};
use crate::runtime::{self, Answer, Kind, Orphan};
use crate::{
    CallError, Destination, ExitReason, GenServer, Message, Monitor, Pid, SpawnError, sys, time,
};

/// How long [`ServerRef::call`] waits.
pub const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a server of type `S` is: a pid, or a name that is looked up at each use. Plain data.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct ServerRef<S> {
    to: Destination,
    server: PhantomData<fn(S)>,
}

impl<S> Clone for ServerRef<S> {
    fn clone(&self) -> Self {
        Self {
            to: self.to.clone(),
            server: PhantomData,
        }
    }
}

impl<S> PartialEq for ServerRef<S> {
    fn eq(&self, other: &Self) -> bool {
        self.to == other.to
    }
}
impl<S> Eq for ServerRef<S> {}

impl<S> fmt::Debug for ServerRef<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to.fmt(f)
    }
}

impl<S> From<Pid> for ServerRef<S> {
    fn from(pid: Pid) -> Self {
        Self::pid(pid)
    }
}

impl<S> ServerRef<S> {
    /// At any destination.
    pub fn at(to: impl Into<Destination>) -> Self {
        Self {
            to: to.into(),
            server: PhantomData,
        }
    }

    /// This actor.
    pub fn pid(pid: Pid) -> Self {
        Self::at(pid)
    }

    /// The one with this name on this node.
    pub fn local(name: &str) -> Self {
        Self::at(name)
    }

    /// The one with this name on that node.
    pub fn remote(name: &str, node: &str) -> Self {
        Self::at(Destination::RemoteName((name.into(), node.into())))
    }

    /// The one with this name in the cluster.
    pub fn global(name: &str) -> Self {
        Self::at(Destination::Global(name.into()))
    }

    /// Where.
    pub fn destination(&self) -> &Destination {
        &self.to
    }

    /// Its pid, if this reference is to one.
    pub fn as_pid(&self) -> Option<Pid> {
        match self.to {
            Destination::Pid(pid) => Some(pid),
            _ => None,
        }
    }

    /// Asks to hear of its end.
    pub fn monitor(&self) -> Monitor {
        process::monitor(self.to.clone())
    }
}

impl<S: GenServer> ServerRef<S> {
    /// Starts a server; `.await` waits until its `init` has ended.
    pub fn start(args: &S::Args) -> Starting<S> {
        Starting {
            args: S::encode_args(args),
            options: SpawnOptions::new(),
            node: None,
            server: PhantomData,
        }
    }

    /// Asks, and waits up to [`DEFAULT_CALL_TIMEOUT`]. The request is sent at once, not at the
    /// first poll. A reply that comes too late is dropped.
    pub fn call<B: Borrow<S::Call>>(
        &self,
        request: B,
    ) -> impl Future<Output = Result<S::Reply, CallError>> + use<S, B> {
        self.call_bytes(
            &S::encode_call(request.borrow()),
            Some(DEFAULT_CALL_TIMEOUT),
        )
    }

    /// As [`ServerRef::call`] with another time-out; none waits as long as the server lives.
    pub fn call_timeout<B: Borrow<S::Call>>(
        &self,
        request: B,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<S::Reply, CallError>> + use<S, B> {
        self.call_bytes(&S::encode_call(request.borrow()), timeout)
    }

    fn call_bytes(
        &self,
        body: &[u8],
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<S::Reply, CallError>> + use<S> {
        let reply = process::request(&self.to, body, timeout);
        async move { decode_reply::<S>(reply.await?) }
    }

    /// Ends the server with this reason, its `terminate` first, and waits until it is gone:
    /// `gen_server:stop/3`. [`CallError::Exit`] if it ended for another reason. Without a
    /// time-out it waits as long as the server lives.
    pub async fn stop(
        &self,
        reason: ExitReason,
        timeout: Option<Duration>,
    ) -> Result<(), CallError> {
        let monitor = self.monitor();
        let body = System::Terminate(reason.clone()).encode();
        // Its end is the answer.
        drop(process::request(&self.to, &body, None));
        let down = match timeout {
            None => Ok(monitor.down().await),
            Some(timeout) => time::timeout(timeout, monitor.down()).await,
        };
        match down {
            Ok((_, why)) if why == reason => Ok(()),
            Ok((_, ExitReason::Noproc)) => Err(CallError::Noproc),
            Ok((_, ExitReason::Noconnection)) => Err(CallError::Noconnection),
            Ok((_, why)) => Err(CallError::Exit(why)),
            Err(_) => {
                monitor.cancel();
                Err(CallError::Timeout)
            }
        }
    }

    /// What [`GenServer::format_status`] says of it: `sys:get_status/2`. It answers between two
    /// messages, and waits for the next as it did before.
    pub async fn status(&self, timeout: Duration) -> Result<String, CallError> {
        let reply = process::request(&self.to, &System::GetStatus.encode(), Some(timeout));
        Ok(String::from_utf8_lossy(&reply.await?).into_owned())
    }

    /// A copy of its state, for tests and debugging: `sys:get_state/2`. [`CallError::Timeout`] if it
    /// refuses to save it.
    pub async fn state(&self, timeout: Duration) -> Result<S, CallError> {
        let reply = process::request(&self.to, &System::GetState.encode(), Some(timeout));
        S::upgrade(&reply.await?)
            .map_err(|error| CallError::Exit(ExitReason::Error(format!("no state: {error}"))))
    }

    /// Tells, and goes on. Says nothing of whether the server exists; false only if the
    /// message is larger than the host's limit.
    pub fn cast(&self, message: impl Borrow<S::Cast>) -> bool {
        process::cast(&self.to, &S::encode_cast(message.borrow()))
    }
}

pub(crate) fn decode_reply<S: GenServer>(body: Vec<u8>) -> Result<S::Reply, CallError> {
    S::decode_reply(&body)
        .map_err(|error| CallError::Exit(ExitReason::Error(format!("not a reply: {error}"))))
}

/// A name for a new server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Name {
    /// On its node, from its very start.
    Local(String),
    /// In the cluster, before its `init` runs.
    Global(String),
}

/// Why there is no new server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartError {
    /// This actor has the name already.
    AlreadyStarted(Pid),
    /// Its `init` answered [`Init::Ignore`](crate::Init::Ignore).
    Ignored,
    /// Its `init` failed, or it ended meanwhile.
    Failed(ExitReason),
    /// It could not be started at all.
    Spawn(SpawnError),
    /// Of supervisors only: there is a child with that id, which does not run.
    AlreadyPresent,
    /// Of dynamic supervisors only: there are as many children as there may be.
    MaxChildren,
}

impl From<SpawnError> for StartError {
    fn from(error: SpawnError) -> Self {
        match error {
            SpawnError::NameTaken(pid)
            | SpawnError::InitFailed(ExitReason::AlreadyStarted(pid)) => {
                StartError::AlreadyStarted(pid)
            }
            SpawnError::InitFailed(ExitReason::Normal) => StartError::Ignored,
            SpawnError::InitFailed(reason) => StartError::Failed(reason),
            other => StartError::Spawn(other),
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::AlreadyStarted(pid) => write!(f, "already started: {pid}"),
            StartError::Ignored => f.write_str("its init chose not to start"),
            StartError::Failed(reason) => write!(f, "its init failed: {}", reason.describe()),
            StartError::Spawn(error) => write!(f, "cannot spawn it: {}", error.describe()),
            StartError::AlreadyPresent => {
                f.write_str("already present: a child with that id is there, and does not run")
            }
            StartError::MaxChildren => f.write_str("max_children: there may be no more"),
        }
    }
}
impl std::error::Error for StartError {}

/// A server that is to start; `.await` starts it.
#[must_use = "nothing starts before `.await`"]
pub struct Starting<S> {
    args: Vec<u8>,
    options: SpawnOptions,
    node: Option<String>,
    server: PhantomData<fn(S)>,
}

impl<S: GenServer> Starting<S> {
    /// Links it to this actor.
    pub fn link(mut self) -> Self {
        self.options = self.options.link();
        self
    }

    /// Gives it a name on its node.
    pub fn local(self, name: impl Into<String>) -> Self {
        self.name(Name::Local(name.into()))
    }

    /// Gives it a name in the cluster.
    pub fn global(self, name: impl Into<String>) -> Self {
        self.name(Name::Global(name.into()))
    }

    /// Gives it a name.
    pub fn name(mut self, name: Name) -> Self {
        self.options = self.options.named(name);
        self
    }

    /// Starts it on another node.
    pub fn on(mut self, node: impl Into<String>) -> Self {
        self.node = Some(node.into());
        self
    }

    async fn run(self) -> Result<ServerRef<S>, StartError> {
        let Self {
            args,
            options,
            node,
            ..
        } = self;
        let started = match node {
            None => process::start(S::MODULE, &args, &options).await?,
            Some(node) => process::spawn_on(&node, S::MODULE, &args, &options, true).await?,
        };
        Ok(ServerRef::pid(started.pid))
    }
}

impl<S: GenServer> IntoFuture for Starting<S> {
    type Output = Result<ServerRef<S>, StartError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// What [`multi_call`] brought back. Each node that was asked is in one of the two.
#[derive(Debug, Clone)]
pub struct MultiReplies<R> {
    /// The nodes that answered, in the order asked.
    pub replies: Vec<(String, R)>,
    /// The nodes that did not, and why.
    pub failed: Vec<(String, CallError)>,
}

/// Asks the server with this name on each of these nodes, all at the same time:
/// `gen_server:multi_call/4`. All of it takes the one time-out at most, whatever a node does; what
/// comes later is dropped. Nodes that are not connected are connected to first.
pub async fn multi_call<S: GenServer>(
    nodes: impl IntoIterator<Item = impl Into<String>>,
    name: &str,
    request: impl Borrow<S::Call>,
    timeout: Duration,
) -> MultiReplies<S::Reply> {
    let body = S::encode_call(request.borrow());
    let (body, own) = (body.as_slice(), sys::node::name());
    let connected = sys::connected_nodes();
    let (nodes, calls): (Vec<String>, Vec<_>) = nodes
        .into_iter()
        .map(|node| {
            let node = node.into();
            let server = ServerRef::<S>::remote(name, &node);
            let here = node == own || connected.contains(&node);
            let connecting = (!here).then(|| Connecting::to(&node));
            let call = here.then(|| server.call_bytes(body, Some(timeout)));
            let asked = async move {
                if let Some(call) = call {
                    return call.await;
                }
                let begun = time::now();
                if let Some(connecting) = connecting {
                    match time::timeout(timeout, connecting.done()).await {
                        Ok(true) => {}
                        Ok(false) => return Err(CallError::Noconnection),
                        Err(_) => return Err(CallError::Timeout),
                    }
                }
                let passed = Duration::from_nanos(time::now().saturating_sub(begun));
                let left = timeout.saturating_sub(passed);
                server.call_bytes(body, Some(left)).await
            };
            (node, asked)
        })
        .unzip();
    let mut result = MultiReplies {
        replies: Vec::new(),
        failed: Vec::new(),
    };
    for (node, answer) in nodes.into_iter().zip(join_all(calls).await) {
        match answer {
            Ok(reply) => result.replies.push((node, reply)),
            Err(error) => result.failed.push((node, error)),
        }
    }
    result
}

/// A connection that is to be. Dropped, nobody hears how it went.
struct Connecting(Answer);

impl Connecting {
    fn to(node: &str) -> Self {
        Self(Answer::of(sys::node::connect(node), Kind::Connected))
    }

    async fn done(mut self) -> bool {
        matches!((&mut self.0).await, Message::Connected((_, Ok(_))))
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        if !self.0.is_done() && self.0.take_arrived().is_none() {
            runtime::adopt_orphan(self.0.tag(), Orphan::Lives);
        }
    }
}

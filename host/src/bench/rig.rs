//! A node with a driver actor on it, and the questions that the driver answers.

use std::time::Duration;

use bytes::Bytes;
use wasm_node_protocol::{CallError, Destination, Pid, SpawnError};

use crate::node::{Node, NodeConfig, NodeError};
use crate::process::Native;

/// The longest that one measurement may take; then it is given up with an error.
const MEASUREMENT_TIMEOUT: Duration = Duration::from_secs(600);

/// How long actors that were told to end may take; what is measured next then starts with what
/// is left of them.
const END_TIMEOUT: Duration = Duration::from_secs(60);

const END_POLL: Duration = Duration::from_millis(10);

/// Why a benchmark gave no figure.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The node for it did not start.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The peer cannot be reached.
    #[error("{0}")]
    Peer(#[from] crate::dist::ConnectError),
    /// A module cannot be used.
    #[error("cannot load the module {0}: {1}")]
    Module(String, String),
    /// An actor did not start.
    #[error("an actor did not start: {0}")]
    Spawn(#[from] SpawnError),
    /// The driver did not answer.
    #[error("{0}: {1}")]
    Call(String, CallError),
    /// The driver says that it cannot.
    #[error("{0}: {1}")]
    Refused(String, String),
    /// A node in a process of its own did not do what it is for.
    #[error("a node in a process of its own: {0}")]
    Child(String),
    /// The operating system refused.
    #[error("could not {0}: {1}")]
    System(&'static str, std::io::Error),
}

/// A node with a driver actor on it.
pub(super) struct Rig {
    pub(super) node: Node,
    pub(super) driver: Driver,
}

/// A driver actor, and the process of the node that asks it.
pub(super) struct Driver {
    native: Native,
    pid: Pid,
}

impl Rig {
    /// Starts both; `module` is the component of `actors/bench`.
    pub(super) async fn start(config: NodeConfig, module: Bytes) -> Result<Self, BenchError> {
        let node = Node::start(config).await?;
        load(&node, "bench", module).await?;
        let driver = Driver::spawn(&node, "bench")?;
        Ok(Self { node, driver })
    }

    /// Waits until all actors but the driver are gone.
    pub(super) async fn until_alone(&self) {
        let alone = async {
            // The driver, and the process that asks it.
            while self.node.runtime().count() > 2 {
                tokio::time::sleep(END_POLL).await;
            }
        };
        if tokio::time::timeout(END_TIMEOUT, alone).await.is_err() {
            let count = self.node.runtime().count();
            eprintln!(
                "bench: {count} actors are still there; what follows is measured beside them"
            );
        }
    }
}

impl Driver {
    /// One of a module whose code is that of `bench`.
    pub(super) fn spawn(node: &Node, module: &str) -> Result<Self, BenchError> {
        let pid = node.spawn(module, Vec::new())?;
        let native = Native::spawn(node.runtime(), "bench")?;
        Ok(Self { native, pid })
    }

    /// The nanoseconds that the driver measured.
    pub(super) async fn ask(&mut self, request: &str) -> Result<f64, BenchError> {
        let [ns] = self.ask_numbers(request).await?;
        Ok(ns as f64)
    }

    /// So many numbers; words after them are for [`Rig::tell`].
    pub(super) async fn ask_numbers<const N: usize>(
        &mut self,
        request: &str,
    ) -> Result<[u64; N], BenchError> {
        let answer = self.tell(request).await?;
        let numbers: Option<Vec<u64>> = answer
            .split(' ')
            .take(N)
            .map(|word| word.parse().ok())
            .collect();
        numbers
            .and_then(|numbers| numbers.try_into().ok())
            .ok_or_else(|| BenchError::Refused(request.into(), answer))
    }

    /// What the driver says, whatever it is.
    pub(super) async fn tell(&mut self, request: &str) -> Result<String, BenchError> {
        let body = Bytes::from(request.to_owned());
        let to = Destination::Pid(self.pid);
        let answer = self.native.call(&to, body, MEASUREMENT_TIMEOUT).await;
        let answer = answer.map_err(|error| BenchError::Call(request.into(), error))?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

/// Makes these bytes a module of a node.
pub(super) async fn load(node: &Node, name: &str, module: Bytes) -> Result<(), BenchError> {
    let loaded = node.load_module(name, module).await;
    loaded.map_err(|error| BenchError::Module(name.into(), error.to_string()))
}

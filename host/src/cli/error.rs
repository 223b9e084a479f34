//! Why a command failed, told to the person who gave it.

use std::path::PathBuf;

use wasm_node_protocol::{CallError, ExitReason, NodeName, SpawnError};

use crate::app::{ManifestError, PolicyError};
use crate::bench::BenchError;
use crate::build::BuildError;
use crate::control::{Address, ControlCodecError};
use crate::dist::epmd::EpmdError;
use crate::dist::{ConnectError, CookieError, RequestError, StartError};
use crate::node::NodeError;

/// Why a command failed. The user's fault, a node's or the machine's, as the text says.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// The command makes no sense as given; says what to write. The user's.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Cookie(#[from] CookieError),
    #[error(transparent)]
    Dist(#[from] StartError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Epmd(#[from] EpmdError),
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// A node of ours did not start.
    #[error("{name} did not start: {error}")]
    Node { name: NodeName, error: NodeError },
    /// The file system or the operating system refused.
    #[error("could not {doing} {path}: {source}")]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// The operating system refused something that has no path.
    #[error("could not {0}: {1}")]
    System(&'static str, std::io::Error),
    /// The node did not answer.
    #[error("asked {node}, got no answer: {error}")]
    Request { node: NodeName, error: RequestError },
    /// The node's answer makes no sense.
    #[error("asked {node}, its answer was {error}")]
    Answer {
        node: NodeName,
        error: ControlCodecError,
    },
    /// The node's answer is one to another question.
    #[error(
        "asked {0}, its answer does not fit: is it of another version than this program? `wasm-node info {0}` tells"
    )]
    Mismatch(NodeName),
    /// The node said no.
    #[error("{node} refused: {reason}")]
    Refused { node: NodeName, reason: String },
    #[error("could not spawn {module} on {node}: {error}")]
    Spawn {
        module: String,
        node: NodeName,
        error: SpawnError,
    },
    #[error("{module} on {node} has ended: {reason}")]
    Ended {
        module: String,
        node: NodeName,
        reason: ExitReason,
    },
    #[error("the connection to {node} is lost, and {module} with it")]
    Lost { module: String, node: NodeName },
    #[error("the connection to {0} is lost")]
    Gone(NodeName),
    /// A shell's script went on after this.
    #[error("a command failed: {0}")]
    Script(Box<CliError>),
    #[error("called {to} on {node}, got no reply: {error}")]
    Call {
        to: Address,
        node: NodeName,
        error: CallError,
    },
    #[error("there is no {to} on {node}; `wasm-node ps {node}` lists its actors")]
    NoActor { to: Address, node: NodeName },
    /// A part of a cluster did not come up, or went.
    #[error("{0}")]
    Cluster(String),
}

impl CliError {
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            CliError::Usage(_) => 2,
            _ => 1,
        }
    }
}

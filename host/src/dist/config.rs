//! How the distribution of a node is set up, and the listener that follows from it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::net::TcpListener;
use wasm_node_protocol::global::PartitionPolicy;
use wasm_node_protocol::handshake::Security;
use wasm_node_protocol::session::DEFAULT_TICK_TIME_MS;
use wasm_node_protocol::{Incarnation, NodeKind, NodeName};

use super::cookie::Cookie;
use super::epmd::{self, EpmdError};

/// How the distribution of a node is set up.
#[derive(Clone, Debug)]
pub struct DistConfig {
    /// This node.
    pub name: NodeName,
    /// This run of it.
    pub incarnation: Incarnation,
    /// Whether others are told of it.
    pub kind: NodeKind,
    /// What the others must have too, until others are set.
    pub cookie: Cookie,
    /// Encryption, or the challenge alone (`--plaintext`).
    pub security: Security,
    /// Where others can dial it, if they can.
    pub listen: Option<Listen>,
    /// A peer silent for as long is down; at least 200 ms.
    pub tick_time: Duration,
    /// How names become addresses.
    pub epmd: EpmdMode,
    /// Whether names and locks may be had in the smaller part of a divided cluster.
    pub partition_policy: PartitionPolicy,
}

impl DistConfig {
    /// As nodes run unless told otherwise: visible, encrypted, any port of this machine's
    /// loopback, the port mapper at its usual port.
    pub fn new(name: NodeName, incarnation: Incarnation, cookie: Cookie) -> Self {
        Self {
            name,
            incarnation,
            kind: NodeKind::Visible,
            cookie,
            security: Security::Noise,
            listen: Some(Listen::default()),
            tick_time: Duration::from_millis(DEFAULT_TICK_TIME_MS.into()),
            epmd: EpmdMode::Port(epmd::DEFAULT_PORT),
            partition_policy: PartitionPolicy::Available,
        }
    }
}

/// Where a node listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listen {
    /// On which address of this machine.
    pub host: IpAddr,
    /// In this range of ports; on any free one if none is given.
    pub ports: Option<RangeInclusive<u16>>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            ports: None,
        }
    }
}

/// How names become addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EpmdMode {
    /// By the port mapper on this port of each host; this machine's is started if none
    /// answers, and knows this node if it listens.
    Port(u16),
    /// Not at all: nodes are dialled by address only.
    Off,
}

/// Why the distribution did not start. The user's to mend.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No port of the range is free.
    #[error(
        "cannot listen on {host}: all ports from {first} to {last} are in use; widen --listen-min and --listen-max"
    )]
    RangeExhausted {
        /// The address.
        host: IpAddr,
        /// The first port tried.
        first: u16,
        /// The last.
        last: u16,
    },
    /// The range has no port in it.
    #[error("--listen-min {0} is above --listen-max {1}: swap them")]
    EmptyRange(u16, u16),
    /// The system refused the address.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// The system refused what sockets are waited for with.
    #[error("cannot wait for sockets: {0}")]
    System(io::Error),
    /// The port mapper refused the name, or is none.
    #[error(transparent)]
    Epmd(#[from] EpmdError),
}

/// Binds as told; errors say what was tried.
pub(super) async fn bind(listen: &Listen) -> Result<TcpListener, StartError> {
    let any = 0..=0;
    let ports = listen.ports.clone().unwrap_or(any);
    let (first, last) = (*ports.start(), *ports.end());
    if first > last {
        return Err(StartError::EmptyRange(first, last));
    }
    for port in ports {
        let at = SocketAddr::new(listen.host, port);
        match TcpListener::bind(at).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(StartError::Listen(at, error)),
        }
    }
    Err(StartError::RangeExhausted {
        host: listen.host,
        first,
        last,
    })
}

/// The `host:port` that other nodes are told to dial: the node's own host if it listens on
/// all addresses.
pub(super) fn public_address(name: &NodeName, listening: SocketAddr) -> String {
    match listening.ip() {
        ip if !ip.is_unspecified() => listening.to_string(),
        _ if name.host().contains(':') => format!("[{}]:{}", name.host(), listening.port()),
        _ => format!("{}:{}", name.host(), listening.port()),
    }
}

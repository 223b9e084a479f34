//! The port mapper: which port the node of a name listens on. Owns Erlang's EPMD protocol
//! (what is written and read), a client, a server, and the registration of this node.
//!
//! Contract: nodes that share a machine find each other through one port mapper on
//! [`DEFAULT_PORT`]. Erlang's own `epmd` serves as well as ours, and Erlang's
//! `epmd -names` lists our nodes. Every read is bounded in bytes and in time.
//!
//! Does not know links, cookies or what a node is for.

pub mod format;
mod registrar;
mod server;
#[cfg(test)]
pub(crate) mod tests;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::BufMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use format::{
    ALIVE2_REQ, ALIVE2_RESP, ALIVE2_X_RESP, Found, MAX_REQUEST_BYTES, NAMES_REQ, PORT_PLEASE2_REQ,
};
pub use format::{EXTRA, Entry};
pub use registrar::{Registrar, RegistrarConfig};
pub use server::Server;

/// Where port mappers listen unless `ERL_EPMD_PORT` says otherwise.
pub const DEFAULT_PORT: u16 = 4369;

/// How long one exchange with a port mapper may take; after that it fails.
pub const MAX_EXCHANGE_MS: u64 = 3_000;

/// The longest list of names that a client reads, in bytes. Longer ones are refused.
const MAX_NAMES_BYTES: usize = 1 << 20;

/// Why asking a port mapper failed.
#[derive(Debug, thiserror::Error)]
pub enum EpmdError {
    /// Nobody listens there. The user's: no node runs on that host.
    #[error(
        "no port mapper answers at {0} ({1}): is a node running there? `--connect HOST:PORT` needs none"
    )]
    Unreachable(SocketAddr, io::Error),
    /// The name is in use. The user's.
    #[error(
        "the name {name:?} is taken: the port mapper at {at} already has a node of that name; stop it, or start this one under another name"
    )]
    NameTaken {
        /// The name without its host.
        name: String,
        /// The port mapper.
        at: SocketAddr,
    },
    /// No node of that name is registered. The user's.
    #[error(
        "the port mapper at {at} knows no node {name:?}: is it running there? (`wasm-node names` lists those that are)"
    )]
    NoSuchNode {
        /// The name without its host.
        name: String,
        /// The port mapper.
        at: SocketAddr,
    },
    /// The name belongs to a node of another kind, such as an Erlang node. The user's.
    #[error(
        "{name:?}, registered at {at}, is no wasm-node (an Erlang node?): the two cannot be linked"
    )]
    OtherKind {
        /// The name without its host.
        name: String,
        /// The port mapper.
        at: SocketAddr,
    },
    /// It did not answer in time. The peer's.
    #[error("the port mapper at {0} did not answer within {MAX_EXCHANGE_MS} ms")]
    Timeout(SocketAddr),
    /// It is no port mapper, or a broken one. The peer's.
    #[error("what answers at {0} is no port mapper: {1}; set ERL_EPMD_PORT to a port of your own")]
    Garbled(SocketAddr, &'static str),
    /// The link to it failed. Nobody's.
    #[error("the exchange with the port mapper at {0} failed: {1}")]
    Io(SocketAddr, io::Error),
}

/// The port that the node of a name listens on, asked of the port mapper at `at`.
///
/// Errors if the port mapper does not answer, or knows no wasm-node of that name.
pub async fn port_of(at: SocketAddr, name: &str) -> Result<u16, EpmdError> {
    exchange(at, async {
        let mut stream = connect(at).await?;
        let mut request = vec![PORT_PLEASE2_REQ];
        request.put_slice(name.as_bytes());
        write_request(&mut stream, &request)
            .await
            .map_err(|e| EpmdError::Io(at, e))?;
        let answer = read_to_end(&mut stream, at, MAX_REQUEST_BYTES).await?;
        let entry = match format::found(&answer).map_err(|what| EpmdError::Garbled(at, what))? {
            Found::Node(entry) => entry,
            Found::Nobody => {
                return Err(EpmdError::NoSuchNode {
                    name: name.into(),
                    at,
                });
            }
        };
        if entry.extra != EXTRA {
            return Err(EpmdError::OtherKind {
                name: name.into(),
                at,
            });
        }
        Ok(entry.port)
    })
    .await
}

/// The names (without host) and ports of all nodes that the port mapper at `at` knows, in its
/// order, Erlang's among them.
pub async fn names(at: SocketAddr) -> Result<Vec<(String, u16)>, EpmdError> {
    exchange(at, async {
        let mut stream = connect(at).await?;
        write_request(&mut stream, &[NAMES_REQ])
            .await
            .map_err(|e| EpmdError::Io(at, e))?;
        let answer = read_to_end(&mut stream, at, MAX_NAMES_BYTES).await?;
        format::names(&answer).map_err(|what| EpmdError::Garbled(at, what))
    })
    .await
}

/// Registers a node for as long as the stream returned is open.
async fn register(at: SocketAddr, entry: &Entry) -> Result<TcpStream, EpmdError> {
    exchange(at, async {
        let mut stream = connect(at).await?;
        let mut request = vec![ALIVE2_REQ];
        entry.encode(&mut request);
        let answered = async {
            write_request(&mut stream, &request).await?;
            let mut head = [0; 2];
            stream.read_exact(&mut head).await?;
            let creation_bytes = if head[0] == ALIVE2_X_RESP { 4 } else { 2 };
            let mut creation = [0; 4];
            stream.read_exact(&mut creation[..creation_bytes]).await?;
            Ok::<_, io::Error>(head)
        };
        match answered.await.map_err(|e| EpmdError::Io(at, e))? {
            [ALIVE2_RESP | ALIVE2_X_RESP, 0] => Ok(stream),
            [ALIVE2_RESP | ALIVE2_X_RESP, _] => Err(EpmdError::NameTaken {
                name: entry.name.clone(),
                at,
            }),
            _ => Err(EpmdError::Garbled(at, "not the answer to a registration")),
        }
    })
    .await
}

async fn exchange<T>(
    at: SocketAddr,
    f: impl Future<Output = Result<T, EpmdError>>,
) -> Result<T, EpmdError> {
    let limit = Duration::from_millis(MAX_EXCHANGE_MS);
    timeout(limit, f)
        .await
        .unwrap_or(Err(EpmdError::Timeout(at)))
}

async fn connect(at: SocketAddr) -> Result<TcpStream, EpmdError> {
    TcpStream::connect(at)
        .await
        .map_err(|e| EpmdError::Unreachable(at, e))
}

async fn write_request(stream: &mut TcpStream, request: &[u8]) -> io::Result<()> {
    let mut framed = Vec::with_capacity(2 + request.len());
    framed.put_u16(request.len() as u16);
    framed.put_slice(request);
    stream.write_all(&framed).await
}

async fn read_to_end(
    stream: &mut TcpStream,
    at: SocketAddr,
    max: usize,
) -> Result<Vec<u8>, EpmdError> {
    let mut answer = Vec::new();
    let read = stream.take(max as u64 + 1).read_to_end(&mut answer).await;
    read.map_err(|e| EpmdError::Io(at, e))?;
    if answer.len() > max {
        return Err(EpmdError::Garbled(at, "its answer is too long"));
    }
    Ok(answer)
}

/// The port mapper of this machine, on a port.
pub fn local(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

//! The port mapper: which port the node of a name listens on. Owns Erlang's EPMD protocol
//! (what is written and read), a client, a server, and the registration of this node.
//!
//! Contract: nodes that share a machine find each other through one port mapper on
//! [`DEFAULT_PORT`]. Erlang's own `epmd` serves as well as ours, and Erlang's
//! `epmd -names` lists our nodes. Every read is bounded in bytes and in time.
//!
//! Does not know links, cookies or what a node is for.

mod registrar;
mod server;
#[cfg(test)]
pub(crate) mod tests;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Buf, BufMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub use registrar::{Registrar, RegistrarConfig};
pub use server::Server;

/// Where port mappers listen unless `ERL_EPMD_PORT` says otherwise.
pub const DEFAULT_PORT: u16 = 4369;

/// How long one exchange with a port mapper may take; after that it fails.
pub const MAX_EXCHANGE_MS: u64 = 3_000;

/// The longest name of a node without its host, in bytes. Longer ones are refused.
const MAX_ALIVE_BYTES: usize = 255;

/// The longest extra data of a registration, in bytes. Longer ones are refused.
const MAX_EXTRA_BYTES: usize = 512;

/// The longest request or answer but the list of names, in bytes. Longer ones are refused.
const MAX_REQUEST_BYTES: usize = 16 + MAX_ALIVE_BYTES + MAX_EXTRA_BYTES;

/// The longest list of names that a client reads, in bytes. Longer ones are refused.
const MAX_NAMES_BYTES: usize = 1 << 20;

/// What marks the registration of a wasm-node among those of Erlang nodes.
pub const EXTRA: &[u8] = b"wasm-node";

const ALIVE2_REQ: u8 = 120;
const ALIVE2_RESP: u8 = 121;
const ALIVE2_X_RESP: u8 = 118;
const PORT_PLEASE2_REQ: u8 = 122;
const PORT2_RESP: u8 = 119;
const NAMES_REQ: u8 = 110;
const KILL_REQ: u8 = 107;
const DUMP_REQ: u8 = 100;

const NODE_NORMAL: u8 = 77;
const NODE_HIDDEN: u8 = 72;
const PROTOCOL_TCP: u8 = 0;
/// The distribution versions of Erlang that a registration claims: 6 makes a port mapper
/// answer with a 32-bit creation.
const VERSIONS: (u16, u16) = (6, 5);

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

/// A node as a port mapper knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The name without its host.
    pub name: String,
    /// Where it listens.
    pub port: u16,
    /// Whether it is hidden.
    pub hidden: bool,
    /// Whatever it registered besides; see [`EXTRA`].
    pub extra: Vec<u8>,
    /// The highest and the lowest version that it speaks of Erlang's own protocol.
    versions: (u16, u16),
}

impl Entry {
    /// A wasm-node.
    pub fn new(name: &str, port: u16, hidden: bool) -> Self {
        Self {
            name: name.into(),
            port,
            hidden,
            extra: EXTRA.to_vec(),
            versions: VERSIONS,
        }
    }

    /// The fields that a registration and the answer to a look-up share.
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16(self.port);
        out.put_u8(if self.hidden {
            NODE_HIDDEN
        } else {
            NODE_NORMAL
        });
        out.put_u8(PROTOCOL_TCP);
        out.put_u16(self.versions.0);
        out.put_u16(self.versions.1);
        for field in [self.name.as_bytes(), &self.extra] {
            out.put_u16(field.len() as u16);
            out.put_slice(field);
        }
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let b = &mut bytes;
        let port = b.try_get_u16().ok()?;
        let hidden = b.try_get_u8().ok()? == NODE_HIDDEN;
        let _protocol = b.try_get_u8().ok()?;
        let versions = (b.try_get_u16().ok()?, b.try_get_u16().ok()?);
        let name = field(b, MAX_ALIVE_BYTES)?;
        let extra = field(b, MAX_EXTRA_BYTES)?.to_vec();
        let name = std::str::from_utf8(name).ok()?;
        let plain =
            !name.is_empty() && !name.contains(|c: char| c.is_control() || c == ' ' || c == '@');
        plain.then(|| Self {
            name: name.into(),
            port,
            hidden,
            extra,
            versions,
        })
    }
}

fn field<'a>(bytes: &mut &'a [u8], max: usize) -> Option<&'a [u8]> {
    let len = usize::from(bytes.try_get_u16().ok()?);
    let (field, rest) = (len <= max).then(|| bytes.split_at_checked(len))??;
    *bytes = rest;
    Some(field)
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
        let entry = match answer.as_slice() {
            [PORT2_RESP, 0, rest @ ..] => {
                Entry::decode(rest).ok_or(EpmdError::Garbled(at, "a garbled entry"))?
            }
            [PORT2_RESP, _, ..] => {
                return Err(EpmdError::NoSuchNode {
                    name: name.into(),
                    at,
                });
            }
            _ => return Err(EpmdError::Garbled(at, "not the answer to a look-up")),
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
        let lines = answer
            .get(4..)
            .ok_or(EpmdError::Garbled(at, "not a list of names"))?;
        let lines = std::str::from_utf8(lines)
            .map_err(|_| EpmdError::Garbled(at, "names that are no text"))?;
        let parse = |line: &str| {
            let (name, port) = line.strip_prefix("name ")?.split_once(" at port ")?;
            Some((name.to_owned(), port.trim().parse().ok()?))
        };
        lines
            .lines()
            .map(|line| {
                parse(line).ok_or(EpmdError::Garbled(at, "a line that is no name and port"))
            })
            .collect()
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

//! Erlang's EPMD protocol as bytes: requests, answers, and what they mean.
//!
//! Contract: nothing that comes in panics, nor takes more memory than a small multiple of its
//! length. Pure: no sockets, no time; the fuzz targets compile this very file.

use bytes::{Buf, BufMut};

/// The longest name of a node without its host, in bytes. Longer ones are refused.
const MAX_ALIVE_BYTES: usize = 255;

/// The longest extra data of a registration, in bytes. Longer ones are refused.
const MAX_EXTRA_BYTES: usize = 512;

/// The longest request or answer but the list of names, in bytes. Longer ones are refused.
pub const MAX_REQUEST_BYTES: usize = 16 + MAX_ALIVE_BYTES + MAX_EXTRA_BYTES;

/// What marks the registration of a wasm-node among those of Erlang nodes.
pub const EXTRA: &[u8] = b"wasm-node";

/// Registers a node.
pub const ALIVE2_REQ: u8 = 120;
/// Answers a registration, with a creation of 16 bits.
pub const ALIVE2_RESP: u8 = 121;
/// Answers a registration, with a creation of 32 bits.
pub const ALIVE2_X_RESP: u8 = 118;
/// Looks a node up.
pub const PORT_PLEASE2_REQ: u8 = 122;
/// Answers a look-up.
pub const PORT2_RESP: u8 = 119;
/// Lists all names.
pub const NAMES_REQ: u8 = 110;
/// Ends the port mapper.
pub const KILL_REQ: u8 = 107;
/// Lists all names, with more about each.
pub const DUMP_REQ: u8 = 100;

const NODE_NORMAL: u8 = 77;
const NODE_HIDDEN: u8 = 72;
const PROTOCOL_TCP: u8 = 0;
/// The distribution versions of Erlang that a registration claims: 6 makes a port mapper
/// answer with a 32-bit creation.
const VERSIONS: (u16, u16) = (6, 5);

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
    pub versions: (u16, u16),
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
    pub fn encode(&self, out: &mut Vec<u8>) {
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

    /// What [`Entry::encode`] wrote, with anything behind it; none if it is garbled.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
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

/// What a request asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// To register a node.
    Alive(Entry),
    /// For the node of this name.
    Port(&'a [u8]),
    /// For all names.
    Names,
    /// Erlang's `epmd -kill` and other things that this server refuses.
    Refused,
}

/// What a request (without its length) asks for, if it is one.
pub fn request(request: &[u8]) -> Option<Request<'_>> {
    match request {
        [ALIVE2_REQ, rest @ ..] => Entry::decode(rest).map(Request::Alive),
        [PORT_PLEASE2_REQ, name @ ..] => Some(Request::Port(name)),
        [NAMES_REQ | DUMP_REQ] => Some(Request::Names),
        [KILL_REQ] => Some(Request::Refused),
        _ => None,
    }
}

/// What the answer to a look-up says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// This is the node.
    Node(Entry),
    /// There is none of that name.
    Nobody,
}

/// What the answer to a look-up says.
///
/// # Errors
/// It is none.
pub fn found(answer: &[u8]) -> Result<Found, &'static str> {
    match answer {
        [PORT2_RESP, 0, rest @ ..] => Entry::decode(rest)
            .map(Found::Node)
            .ok_or("a garbled entry"),
        [PORT2_RESP, _, ..] => Ok(Found::Nobody),
        _ => Err("not the answer to a look-up"),
    }
}

/// The names and ports that the answer to a request for all names lists, in its order.
///
/// # Errors
/// It is none.
pub fn names(answer: &[u8]) -> Result<Vec<(String, u16)>, &'static str> {
    let lines = answer.get(4..).ok_or("not a list of names")?;
    let lines = std::str::from_utf8(lines).map_err(|_| "names that are no text")?;
    let parse = |line: &str| {
        let (name, port) = line.strip_prefix("name ")?.split_once(" at port ")?;
        Some((name.to_owned(), port.trim().parse().ok()?))
    };
    lines
        .lines()
        .map(|line| parse(line).ok_or("a line that is no name and port"))
        .collect()
}

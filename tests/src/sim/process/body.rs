//! The bodies of messages: who sent which, over which connection, and filling to check.

use bytes::Bytes;
use wasm_node_protocol::{Incarnation, Pid};

use crate::sim::network::ConnId;

/// What a body says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Over which connection it was sent; none within a node.
    pub conn: Option<ConnId>,
    /// Who sent it.
    pub from: Pid,
    /// Its number among those of this sender to this receiver, from 1.
    pub number: u64,
}

const HEAD_BYTES: usize = 32;

/// A body.
pub fn write(head: Head, filling: usize) -> Bytes {
    let mut body = Vec::with_capacity(HEAD_BYTES + filling);
    let conn = head.conn.map_or(u64::MAX, |conn| conn.0);
    for part in [conn, head.from.node.0, head.from.serial, head.number] {
        body.extend_from_slice(&part.to_le_bytes());
    }
    body.resize(HEAD_BYTES + filling, head.number as u8);
    body.into()
}

/// What a body says, unless it was damaged.
pub fn read(body: &[u8]) -> Option<Head> {
    let (head, filling) = body.split_at_checked(HEAD_BYTES)?;
    let mut parts = head
        .chunks_exact(8)
        .map(|part| u64::from_le_bytes(part.try_into().unwrap_or_default()));
    let conn = parts.next()?;
    let (node, serial) = (Incarnation(parts.next()?), parts.next()?);
    let number = parts.next()?;
    filling
        .iter()
        .all(|byte| *byte == number as u8)
        .then_some(Head {
            conn: (conn != u64::MAX).then_some(ConnId(conn)),
            from: Pid { node, serial },
            number,
        })
}

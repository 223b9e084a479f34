//! Messages between two actors keep their order, and none is lost on a connection.
//!
//! Two places are watched: where messages leave a connection (each is the next of its pair
//! there) and where they reach an actor's code (each is later than the one before).

use std::collections::BTreeMap;

use bytes::Bytes;
use wasm_node_protocol::Pid;

use super::{Broken, Invariant, Seen, View, broken};
use crate::sim::Stats;
use crate::sim::network::{ConnId, NodeIndex};
use crate::sim::process::body::{self, Head};
use crate::sim::process::{Fact, Message};
use crate::sim::trace::Topic;

/// Order, no loss.
#[derive(Default)]
pub struct Order {
    /// By sender and receiver: over which connection the last message came, and its number.
    arrived: BTreeMap<(Pid, Pid), (ConnId, u64)>,
    /// By sender and receiver: the last message that the receiver's code got.
    taken: BTreeMap<(Pid, Pid), u64>,
    messages: u64,
}

impl Order {
    fn arrived(&mut self, conn: ConnId, to: Pid, body: &[u8]) -> Result<Head, String> {
        let head = body::read(body).ok_or_else(|| format!("a message to {to:?} is damaged"))?;
        let Head { from, number, .. } = head;
        if head.conn != Some(conn) {
            return Err(format!(
                "message {number} of {from:?} to {to:?} was sent over {:?}, and came over {conn:?}",
                head.conn
            ));
        }
        match self.arrived.insert((from, to), (conn, number)) {
            Some((_, last)) if number <= last => Err(format!(
                "message {number} of {from:?} to {to:?} came after {last}"
            )),
            Some((before, last)) if before == conn && number != last + 1 => Err(format!(
                "message {number} of {from:?} to {to:?} came straight after {last}"
            )),
            _ => Ok(head),
        }
    }

    fn taken(&mut self, to: Pid, body: &Bytes) -> Result<(), String> {
        let head = body::read(body).ok_or_else(|| format!("a message to {to:?} is damaged"))?;
        let Head { from, number, .. } = head;
        self.messages += 1;
        match self.taken.insert((from, to), number) {
            Some(last) if number <= last => Err(format!(
                "{to:?} got message {number} of {from:?} after {last}"
            )),
            _ => Ok(()),
        }
    }
}

impl Invariant for Order {
    fn name(&self) -> &'static str {
        "messages keep their order"
    }

    fn topics(&self) -> &'static [Topic] {
        &[Topic::Actors]
    }

    fn saw(&mut self, _: &View<'_>, node: NodeIndex, seen: &Seen<'_>) -> Result<(), Broken> {
        let checked = match seen {
            Seen::Arrived { conn, to, body } => self.arrived(*conn, *to, body).map(|_| ()),
            Seen::Process(Fact::Message {
                to,
                message: Message::Info(body) | Message::Cast(body) | Message::Request { body, .. },
            }) => self.taken(*to, body),
            _ => Ok(()),
        };
        checked.or_else(|what| broken(&[node], what))
    }

    fn count(&self, stats: &mut Stats) {
        stats.messages += self.messages;
    }
}

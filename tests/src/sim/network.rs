//! Connections between simulated nodes: ordered byte streams with random delays, whose paths
//! can be cut silently, both ways or one (bytes wait, as TCP's do, until the path heals or an end
//! closes), or with a reset.
//!
//! Owns what is in flight. Does not know what the bytes mean, nor when it is: the world asks
//! for what is due and schedules what it is told.

use std::collections::{BTreeMap, VecDeque};

use wasm_node_protocol::membership::LinkId;

/// Virtual time, in microseconds.
pub type Micros = u64;

/// A node's place in the world.
pub type NodeIndex = usize;

/// One connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ConnId(pub u64);

/// What arrives at an end.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// Bytes.
    Bytes(Vec<u8>),
    /// The other end closed, or the path was reset.
    Closed(&'static str),
}

/// Where a path between two nodes stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Path {
    /// It works.
    Open,
    /// Nothing arrives, nobody is told. One direction may be so alone.
    Silent,
    /// Connections break at once.
    Reset,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Whose.
    pub node: NodeIndex,
    /// Its link there.
    pub link: LinkId,
    /// Whether it is open.
    pub open: bool,
}

#[derive(Debug)]
struct Conn {
    /// Dialler, acceptor.
    ends: [End; 2],
    /// What is on its way to each end.
    inbound: [VecDeque<(Micros, Arrival)>; 2],
}

/// All connections and paths.
#[derive(Debug, Default)]
pub struct Network {
    conns: BTreeMap<ConnId, Conn>,
    next_conn: u64,
    /// From, to.
    paths: BTreeMap<(NodeIndex, NodeIndex), Path>,
    /// What these paths take longer than others, from and to.
    slower: BTreeMap<(NodeIndex, NodeIndex), Micros>,
}

impl Network {
    /// Where the path from one node to another stands.
    pub fn path(&self, from: NodeIndex, to: NodeIndex) -> Path {
        self.paths.get(&(from, to)).copied().unwrap_or(Path::Open)
    }

    /// Where it stands for a dial, which needs both directions.
    pub fn both_ways(&self, a: NodeIndex, b: NodeIndex) -> Path {
        match (self.path(a, b), self.path(b, a)) {
            (Path::Reset, _) | (_, Path::Reset) => Path::Reset,
            (Path::Open, Path::Open) => Path::Open,
            _ => Path::Silent,
        }
    }

    /// What a path takes longer than others.
    pub fn slower(&self, from: NodeIndex, to: NodeIndex) -> Micros {
        self.slower.get(&(from, to)).copied().unwrap_or(0)
    }

    /// Makes a path slower by so much, or not.
    pub fn set_slower(&mut self, from: NodeIndex, to: NodeIndex, by: Micros) {
        self.slower.insert((from, to), by);
    }

    /// Changes a path. Returns the connections whose deliveries to look at again.
    pub fn set_path(
        &mut self,
        from: NodeIndex,
        to: NodeIndex,
        path: Path,
        now: Micros,
    ) -> Vec<ConnId> {
        self.paths.insert((from, to), path);
        let is_between = |conn: &Conn| {
            let ends = (conn.ends[0].node, conn.ends[1].node);
            ends == (from, to) || ends == (to, from)
        };
        let between: Vec<_> = self
            .conns
            .iter()
            .filter(|(_, conn)| is_between(conn))
            .map(|(id, _)| *id)
            .collect();
        if path == Path::Reset {
            for id in &between {
                if let Some(conn) = self.conns.get_mut(id) {
                    for inbound in &mut conn.inbound {
                        inbound.clear();
                        inbound.push_back((now, Arrival::Closed("connection reset")));
                    }
                }
            }
        }
        between
    }

    /// A new connection.
    pub fn open(&mut self, dialler: (NodeIndex, LinkId), acceptor: (NodeIndex, LinkId)) -> ConnId {
        let id = ConnId(self.next_conn);
        self.next_conn += 1;
        let end = |(node, link)| End {
            node,
            link,
            open: true,
        };
        let conn = Conn {
            ends: [end(dialler), end(acceptor)],
            inbound: Default::default(),
        };
        self.conns.insert(id, conn);
        id
    }

    /// Sends from one end to the other, to arrive at `at` or after what was sent before,
    /// whichever is later. Returns when, unless the other end is closed.
    pub fn send(
        &mut self,
        conn: ConnId,
        from: usize,
        at: Micros,
        arrival: Arrival,
    ) -> Option<Micros> {
        let conn = self.conns.get_mut(&conn)?;
        let to = 1 - from;
        if !conn.ends[to].open {
            return None;
        }
        let at = conn.inbound[to]
            .back()
            .map_or(at, |(last, _)| at.max(*last));
        conn.inbound[to].push_back((at, arrival));
        Some(at)
    }

    /// One end closes; the other learns of it after what was sent before.
    pub fn close(&mut self, id: ConnId, side: usize, at: Micros) -> Option<Micros> {
        let conn = self.conns.get_mut(&id)?;
        conn.ends[side].open = false;
        conn.inbound[side].clear();
        if conn.ends.iter().all(|end| !end.open) {
            self.conns.remove(&id);
            return None;
        }
        self.send(id, side, at, Arrival::Closed("closed by the peer"))
    }

    /// The process at one end died without a word: the other learns only by silence.
    pub fn vanish(&mut self, id: ConnId, side: usize) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.ends[side].open = false;
            conn.inbound[side].clear();
            if conn.ends.iter().all(|end| !end.open) {
                self.conns.remove(&id);
            }
        }
    }

    /// What is due at one end by `now`, if its path is open.
    pub fn receive(&mut self, id: ConnId, side: usize, now: Micros) -> Option<(End, Arrival)> {
        let conn = self.conns.get(&id)?;
        let (from, to) = (conn.ends[1 - side].node, conn.ends[side].node);
        if self.path(from, to) == Path::Silent {
            return None;
        }
        let conn = self.conns.get_mut(&id)?;
        let due = conn.inbound[side].front().is_some_and(|(at, _)| *at <= now);
        if !due {
            return None;
        }
        let (_, arrival) = conn.inbound[side].pop_front()?;
        Some((conn.ends[side], arrival))
    }

    /// Who is at one end.
    pub fn end(&self, id: ConnId, side: usize) -> Option<End> {
        self.conns.get(&id).map(|conn| conn.ends[side])
    }

    /// The ends that a node has, as (connection, side).
    pub fn ends_of(&self, node: NodeIndex) -> Vec<(ConnId, usize)> {
        let ends = self.conns.iter().flat_map(|(id, conn)| {
            let own = (0..2).filter(|side| conn.ends[*side].node == node && conn.ends[*side].open);
            own.map(|side| (*id, side)).collect::<Vec<_>>()
        });
        ends.collect()
    }
}

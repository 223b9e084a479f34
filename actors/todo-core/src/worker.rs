//! A database worker as a pure machine: it stores what its node's list servers add, on all nodes,
//! and keeps its records the same as those of the workers of its number on the other nodes.
//!
//! Invariants:
//! - A store is confirmed to the server only after the record is durable here, and every other
//!   visible node has confirmed it, has failed, or has not answered within [`STORE_TIMEOUT_MS`];
//!   those that failed are named in the log and get the record by catching up.
//! - A peer's request to store is confirmed only after the records are durable here.
//! - No record is ever dropped: what a peer lacks it asks for, when the two nodes meet and every
//!   few seconds, telling what it has.
//! - Loads are answered when this worker has caught up, and stores begun when it is not alone
//!   after a freeze, within the bounds of [`freshness`](crate::freshness).
//!
//! Writes that wait together share one commit. Waiting for other nodes holds up nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::freshness::{Answer, Freshness, Question};
use crate::list::ListName;
use crate::messages::{Address, DatabaseCast, PeerCall, PeerReply, Position, ServerCast};
use crate::record::{Change, Entry, Key, Origin, Record, RequestId};
use crate::records::{Records, Store};

/// How long other nodes may take to store a record, in milliseconds. A client gets its answer
/// within five seconds.
pub const STORE_TIMEOUT_MS: u32 = 4_500;
/// How long a peer may take to say what is missing here, in milliseconds.
pub const PULL_TIMEOUT_MS: u32 = 2_000;
/// How often [`Worker::tick`] is to be called, in milliseconds.
pub const TICK_MS: u32 = 250;
/// Records that come together before a commit starts at once.
pub const MAX_BATCH_RECORDS: usize = 512;
/// Loads that wait until this worker has caught up. One more fails at once.
pub const MAX_HELD_LOADS: usize = 20_000;
/// Stores that wait until this worker may begin them. One more fails at once.
pub const MAX_HELD_STORES: usize = 10_000;
/// One node's failures are logged once in so long, in milliseconds.
const COMPLAIN_EVERY_MS: u64 = 1_000;
/// The same for a node that has no such worker: it may not run this app at all.
const COMPLAIN_ABSENT_EVERY_MS: u64 = 60_000;

/// What a worker needs done, and to know. `C` is a peer that asked.
pub trait World<C>: Store {
    /// Milliseconds since some moment; never goes back.
    fn now_ms(&mut self) -> u64;
    /// Milliseconds since 1970, as this machine believes.
    fn wall_ms(&mut self) -> u64;
    /// 64 random bits.
    fn random(&mut self) -> u64;
    /// The visible nodes connected to this one, without it.
    fn nodes(&mut self) -> Vec<String>;
    /// Tells a server of this node.
    fn tell(&mut self, server: Address, cast: &ServerCast);
    /// Tells the server of a list [`ServerCast::Refresh`], if it is on this node.
    fn refresh(&mut self, list: &ListName);
    /// Answers a peer.
    fn reply(&mut self, peer: C, reply: &PeerReply);
    /// Asks the workers of this number on these nodes; [`Worker::answered`] follows for each.
    fn ask(&mut self, nodes: Vec<(String, Ticket)>, call: &PeerCall, timeout_ms: u32);
    /// Sends this worker [`DatabaseCast::Flush`], behind all that waits for it.
    fn flush_soon(&mut self);
    /// Tells people.
    fn report(&mut self, words: &str);
}

/// One question to one peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket(u64);

/// Why a peer did not answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerError {
    /// Its node runs no such worker.
    Absent,
    /// Anything else, in words.
    Failed(String),
}

/// The machine.
#[derive(Debug)]
pub struct Worker<C> {
    records: Records,
    waiting: Waiting<C>,
    /// Whether a flush has left stores waiting.
    held_stores: bool,
    freshness: Freshness,
    asked: BTreeMap<Ticket, Asked>,
    /// Commits whose records are on their way to other nodes.
    commits: BTreeMap<u64, Commit>,
    /// Numbers tickets and commits.
    counter: u64,
    /// When a node's failures were last logged, in milliseconds.
    complaints_ms: BTreeMap<String, u64>,
}

/// What others have asked for and this worker has not begun. Survives an upgrade.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Waiting<C> {
    stores: Vec<(Address, ListName, Change)>,
    replicas: Vec<(C, Vec<Record>)>,
    /// Loads that wait until this worker has caught up.
    held: Vec<(Address, ListName, Position)>,
}

impl<C> Default for Waiting<C> {
    fn default() -> Self {
        Self {
            stores: Vec::new(),
            replicas: Vec::new(),
            held: Vec::new(),
        }
    }
}

#[derive(Debug)]
enum Asked {
    /// To store a commit's records.
    Store { node: String, commit: u64 },
    /// What is missing here; so many came in answer to the same question before.
    Pull { question: Question, got: usize },
}

/// Records that are durable here.
#[derive(Debug)]
struct Commit {
    /// How many nodes have not answered.
    unanswered: usize,
    done: Vec<(Address, Record, Position)>,
}

impl<C> Worker<C> {
    /// A worker that begins, or goes on with what waited: its store has these keys.
    pub fn new(
        world: &mut impl World<C>,
        keys: impl IntoIterator<Item = Key>,
        waiting: Waiting<C>,
    ) -> Self {
        let (run, origin) = (world.random(), Origin(world.random()));
        let nodes = world.nodes();
        let mut worker = Self {
            records: Records::new(keys, run, origin),
            held_stores: !waiting.stores.is_empty(),
            waiting,
            freshness: Freshness::new(world.now_ms(), nodes),
            asked: BTreeMap::new(),
            commits: BTreeMap::new(),
            counter: 0,
            complaints_ms: BTreeMap::new(),
        };
        worker.after(world);
        worker
    }

    /// What must survive an upgrade.
    pub fn waiting(&self) -> &Waiting<C> {
        &self.waiting
    }

    /// A peer asks.
    pub fn call(&mut self, world: &mut impl World<C>, call: PeerCall, from: C) {
        self.look(world);
        match call {
            PeerCall::Replicate(records) => {
                self.waiting.replicas.push((from, records));
                self.batched(world);
            }
            PeerCall::Pull(have) => {
                let reply = match self.records.missing(world, &have) {
                    Ok((records, more)) => PeerReply::Pulled { records, more },
                    Err(why) => {
                        world.report(&why);
                        PeerReply::Failed(why)
                    }
                };
                world.reply(from, &reply);
            }
        }
        self.after(world);
    }

    /// A server of this node asks, or this worker reminds itself.
    pub fn cast(&mut self, world: &mut impl World<C>, cast: DatabaseCast) {
        self.look(world);
        match cast {
            DatabaseCast::Store { from, list, change } => {
                if self.waiting.stores.len() < MAX_HELD_STORES {
                    self.waiting.stores.push((from, list, change));
                    self.batched(world);
                } else {
                    let Change::Add(Entry { request, .. }) = change;
                    let why = "too many stores wait for the database to catch up".into();
                    world.tell(from, &ServerCast::StoreFailed { request, why });
                }
            }
            DatabaseCast::Load {
                from,
                list,
                position,
            } => {
                if self.waiting.held.len() < MAX_HELD_LOADS {
                    self.waiting.held.push((from, list, position));
                } else {
                    let why = "too many lists wait for the database to catch up".into();
                    world.tell(from, &ServerCast::LoadFailed(why));
                }
            }
            DatabaseCast::Flush => self.flush(world),
        }
        self.after(world);
    }

    /// A visible node came up.
    pub fn node_up(&mut self, world: &mut impl World<C>, node: String) {
        self.look(world);
        self.freshness.node_up(world.now_ms(), node);
        self.after(world);
    }

    /// A node went down.
    pub fn node_down(&mut self, world: &mut impl World<C>, node: &str) {
        self.look(world);
        self.freshness.node_down(node);
        self.after(world);
    }

    /// Time passes.
    pub fn tick(&mut self, world: &mut impl World<C>) {
        self.look(world);
        self.after(world);
    }

    /// A peer has answered, or has not.
    pub fn answered(
        &mut self,
        world: &mut impl World<C>,
        ticket: Ticket,
        answer: Result<PeerReply, PeerError>,
    ) {
        self.look(world);
        match self.asked.remove(&ticket) {
            Some(Asked::Store { node, commit }) => self.confirmed(world, &node, commit, answer),
            Some(Asked::Pull { question, got }) => self.pulled(world, question, got, answer),
            None => {}
        }
        self.after(world);
    }

    /// First in everything, so that nothing is decided after a freeze without knowing of it.
    fn look(&mut self, world: &mut impl World<C>) {
        self.freshness.look(world.now_ms());
    }

    /// Last in everything: asks peers whose time has come, and lets go of what was held back.
    fn after(&mut self, world: &mut impl World<C>) {
        let now_ms = world.now_ms();
        for question in self.freshness.to_ask(now_ms) {
            self.pull(world, question, 0);
        }
        if !self.waiting.held.is_empty() && self.freshness.may_serve(now_ms) {
            for (from, list, position) in std::mem::take(&mut self.waiting.held) {
                self.load(world, from, &list, position);
            }
        }
        if self.held_stores && self.freshness.may_store(now_ms) {
            self.flush(world);
        }
    }

    fn load(&self, world: &mut impl World<C>, from: Address, list: &ListName, position: Position) {
        let answer = match self.records.load(world, list, position) {
            Ok((records, position, more)) => ServerCast::Loaded {
                records,
                position,
                more,
            },
            Err(why) => {
                world.report(&why);
                ServerCast::LoadFailed(why)
            }
        };
        world.tell(from, &answer);
    }

    fn batched(&mut self, world: &mut impl World<C>) {
        let Waiting {
            stores, replicas, ..
        } = &self.waiting;
        let stores = if self.held_stores { 0 } else { stores.len() };
        let records: usize = replicas.iter().map(|(_, records)| records.len()).sum();
        if stores + records >= MAX_BATCH_RECORDS {
            self.flush(world);
        } else if stores + replicas.len() == 1 {
            world.flush_soon();
        }
    }

    fn flush(&mut self, world: &mut impl World<C>) {
        let may_store = self.freshness.may_store(world.now_ms());
        self.held_stores = !may_store && !self.waiting.stores.is_empty();
        let stores = match may_store {
            true => std::mem::take(&mut self.waiting.stores),
            false => Vec::new(),
        };
        let replicas = std::mem::take(&mut self.waiting.replicas);
        let (servers, changes): (Vec<_>, Vec<_>) = stores
            .into_iter()
            .map(|(from, list, change)| (from, (list, change)))
            .unzip();
        let own = self.records.make(world.wall_ms(), changes.into_iter());
        // Asked of the others before it is written here: the disks work at the same time.
        let commit = self.next_number();
        let unanswered = if own.is_empty() {
            0
        } else {
            self.replicate(world, commit, &own)
        };
        let foreign = replicas.iter().flat_map(|(_, records)| records);
        match self.records.write(world, own.iter().chain(foreign)) {
            Ok(new) => {
                // The own ones come first, and all of them are new.
                let (written, foreign) = new.split_at(own.len().min(new.len()));
                refresh(world, foreign);
                let done = servers.into_iter().zip(own).zip(written);
                let done =
                    done.map(|((server, record), (_, position))| (server, record, *position));
                let commit_now = Commit {
                    unanswered,
                    done: done.collect(),
                };
                for (peer, _) in replicas {
                    world.reply(peer, &PeerReply::Replicated);
                }
                if unanswered == 0 {
                    confirm(world, commit_now);
                } else {
                    self.commits.insert(commit, commit_now);
                }
            }
            Err(why) => {
                world.report(&why);
                for (server, record) in servers.into_iter().zip(own) {
                    let request = request_of(&record);
                    world.tell(
                        server,
                        &ServerCast::StoreFailed {
                            request,
                            why: why.clone(),
                        },
                    );
                }
                let failed = PeerReply::Failed(why);
                for (peer, _) in replicas {
                    world.reply(peer, &failed);
                }
            }
        }
    }

    /// Asks all other nodes to store a commit's records; how many.
    fn replicate(&mut self, world: &mut impl World<C>, commit: u64, records: &[Record]) -> usize {
        let nodes = world.nodes();
        let ask = |node: String| {
            let asked = Asked::Store {
                node: node.clone(),
                commit,
            };
            (node, self.ticket(asked))
        };
        let nodes: Vec<_> = nodes.into_iter().map(ask).collect();
        let count = nodes.len();
        if count > 0 {
            world.ask(
                nodes,
                &PeerCall::Replicate(records.to_vec()),
                STORE_TIMEOUT_MS,
            );
        }
        count
    }

    fn confirmed(
        &mut self,
        world: &mut impl World<C>,
        node: &str,
        number: u64,
        answer: Result<PeerReply, PeerError>,
    ) {
        match answer {
            Ok(PeerReply::Replicated) => {}
            Ok(PeerReply::Failed(why)) | Err(PeerError::Failed(why)) => {
                self.complain(world, node, &why, COMPLAIN_EVERY_MS);
            }
            Ok(PeerReply::Pulled { .. }) => {
                self.complain(world, node, "it answered something else", COMPLAIN_EVERY_MS);
            }
            Err(PeerError::Absent) => {
                self.complain(
                    world,
                    node,
                    "it has no such worker",
                    COMPLAIN_ABSENT_EVERY_MS,
                );
            }
        }
        let Some(commit) = self.commits.get_mut(&number) else {
            return;
        };
        commit.unanswered -= 1;
        if commit.unanswered == 0
            && let Some(commit) = self.commits.remove(&number)
        {
            confirm(world, commit);
        }
    }

    fn pull(&mut self, world: &mut impl World<C>, question: Question, got: usize) {
        let node = question.node.clone();
        let ticket = self.ticket(Asked::Pull { question, got });
        world.ask(
            vec![(node, ticket)],
            &PeerCall::Pull(self.records.have()),
            PULL_TIMEOUT_MS,
        );
    }

    fn pulled(
        &mut self,
        world: &mut impl World<C>,
        question: Question,
        got: usize,
        answer: Result<PeerReply, PeerError>,
    ) {
        let (answer, new) = match answer {
            Ok(PeerReply::Pulled { records, more }) => {
                match self.records.write(world, records.iter()) {
                    Ok(new) => {
                        refresh(world, &new);
                        if more && !new.is_empty() {
                            return self.pull(world, question, got + new.len());
                        }
                        (Answer::CaughtUp, new.len())
                    }
                    Err(why) => {
                        world.report(&why);
                        (Answer::Failed, 0)
                    }
                }
            }
            Err(PeerError::Absent) => (Answer::Absent, 0),
            Ok(_) | Err(PeerError::Failed(_)) => (Answer::Failed, 0),
        };
        if got + new > 0 {
            let node = &question.node;
            world.report(&format!(
                "got {} records from {node} that were missing",
                got + new
            ));
        }
        let random = world.random();
        self.freshness
            .answered(world.now_ms(), &question, answer, random);
    }

    /// Names a node that failed, unless that was done a moment ago.
    fn complain(&mut self, world: &mut impl World<C>, node: &str, why: &str, every_ms: u64) {
        let now_ms = world.now_ms();
        let last_ms = self.complaints_ms.get(node);
        if last_ms.is_some_and(|last_ms| now_ms.saturating_sub(*last_ms) < every_ms) {
            return;
        }
        self.complaints_ms.insert(node.into(), now_ms);
        world.report(&format!("{node} has not stored what it was sent: {why}"));
    }

    fn ticket(&mut self, asked: Asked) -> Ticket {
        let ticket = Ticket(self.next_number());
        self.asked.insert(ticket, asked);
        ticket
    }

    fn next_number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }
}

fn confirm<C>(world: &mut impl World<C>, commit: Commit) {
    for (server, record, position) in commit.done {
        world.tell(server, &ServerCast::Stored { record, position });
    }
}

fn refresh<C>(world: &mut impl World<C>, new: &[(ListName, Position)]) {
    let lists: BTreeSet<_> = new.iter().map(|(list, _)| list).collect();
    lists.into_iter().for_each(|list| world.refresh(list));
}

fn request_of(record: &Record) -> RequestId {
    let Change::Add(entry) = &record.change;
    entry.request
}

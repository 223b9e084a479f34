//! A database worker: stores what its node's list servers add, on all nodes, and keeps its
//! records the same as those of the workers of its number on the other nodes.
//!
//! Invariants:
//! - A store is confirmed to the server only after the record is durable here, and every other
//!   visible node has confirmed it, has failed, or has not answered in [`STORE_TIMEOUT`]; those
//!   that failed are named in the log and get the record by catching up.
//! - A peer's request to store is confirmed only after the records are durable here.
//! - No record is ever dropped: what a peer lacks it asks for, when the two nodes meet and every
//!   few seconds, telling what it has.
//! - Loads are answered when this worker has caught up, within the bounds of
//!   [`todo_core::freshness`].
//!
//! Writes that wait together share one commit: the first sends this actor a message, which
//! arrives behind all that waited already. Waiting for other nodes holds up nothing.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use todo_core::freshness::{Answer, Freshness, Question};
use todo_core::list::{ListName, worker_name};
use todo_core::log::Have;
use todo_core::messages::{Address, DatabaseCast, PeerCall, PeerReply, Position, ServerCast};
use todo_core::record::{Change, Record, RequestId};
use wasm_node_sdk::registry::whereis_global;
use wasm_node_sdk::{
    CallError, CallReturn, Caller, Destination, Info, Next, NodeKind, Pid, decode, encode,
    join_all, node, process, self_pid, spawn_local, time,
};

use crate::records::Records;

/// How long other nodes may take to store a record. A client gets its answer within five seconds.
const STORE_TIMEOUT: Duration = Duration::from_millis(4_500);
/// How long a peer may take to say what is missing here.
const PULL_TIMEOUT: Duration = Duration::from_millis(2_000);
/// How often a worker looks at the clock.
const TICK: Duration = Duration::from_millis(250);
/// Records that come together before a commit starts at once.
const MAX_BATCH_RECORDS: usize = 512;
/// Loads that wait until this worker has caught up. One more fails at once.
const MAX_HELD_LOADS: usize = 100_000;
/// One node's failures are logged once in so long, in milliseconds.
const COMPLAIN_EVERY_MS: u64 = 1_000;
/// The same for a node that has no such worker: it may not run this app at all.
const COMPLAIN_ABSENT_EVERY_MS: u64 = 60_000;

/// The worker.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "Saved", into = "Saved")]
pub struct Worker {
    number: u32,
    /// What was waiting when the worker was saved, until [`Worker::reopen`].
    waiting: Waiting,
    state: Shared,
}

/// What must survive an upgrade: all else is in the store.
#[derive(Serialize, Deserialize)]
struct Saved {
    number: u32,
    waiting: Waiting,
}

/// Nothing before the store is open. Borrowed between two awaits at most.
type Shared = Rc<RefCell<Option<State>>>;

struct State {
    name: String,
    records: Records,
    waiting: Waiting,
    freshness: Freshness,
    /// When a node's failures were last logged, in milliseconds.
    complaints_ms: BTreeMap<String, u64>,
}

/// What others have asked for and not been answered, stores on their way to other nodes apart.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Waiting {
    batch: Batch,
    /// Loads that wait until this worker has caught up.
    held: Vec<(Address, ListName, Position)>,
}

/// What waits for the next commit.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Batch {
    stores: Vec<(Address, ListName, Change)>,
    replicas: Vec<(Caller<PeerReply>, Vec<Record>)>,
    records: usize,
}

/// A store that is durable here.
struct Done {
    server: Pid,
    record: Record,
    position: Position,
}

impl From<Saved> for Worker {
    fn from(Saved { number, waiting }: Saved) -> Self {
        Self {
            number,
            waiting,
            state: Rc::default(),
        }
    }
}

impl From<Worker> for Saved {
    fn from(
        Worker {
            number,
            waiting,
            state,
        }: Worker,
    ) -> Self {
        let waiting = state
            .borrow()
            .as_ref()
            .map_or(waiting, |state| state.waiting.clone());
        Self { number, waiting }
    }
}

impl Worker {
    /// Opens the store of this number. The error says what went wrong.
    pub fn start(number: u32) -> Result<Self, String> {
        let mut worker = Self::from(Saved {
            number,
            waiting: Waiting::default(),
        });
        worker.reopen()?;
        time::start_timer(TICK);
        Ok(worker)
    }

    /// Goes on after an upgrade: reads the store again. The tick's timer has stayed, and so has
    /// the message that flushes the batch.
    pub fn reopen(&mut self) -> Result<(), String> {
        let records = Records::open(self.number)?;
        node::monitor_nodes(true);
        let mut state = State {
            name: worker_name(self.number),
            records,
            waiting: std::mem::take(&mut self.waiting),
            freshness: Freshness::new(now_ms(), node::nodes()),
            complaints_ms: BTreeMap::new(),
        };
        state.ask_peers(&self.state);
        *self.state.borrow_mut() = Some(state);
        Ok(())
    }

    fn with(&self, act: impl FnOnce(&mut State, &Shared)) {
        with(&self.state, |state| act(state, &self.state));
    }

    /// A peer asks.
    pub fn call(&mut self, call: PeerCall, from: Caller<PeerReply>) -> CallReturn<PeerReply> {
        self.with(|state, shared| match call {
            PeerCall::Replicate(records) => {
                let count = records.len();
                state.waiting.batch.replicas.push((from, records));
                state.batched(shared, count);
            }
            PeerCall::Pull(have) => from.reply(&state.tell_missing(&have)),
        });
        CallReturn::NoReply
    }

    /// A server of this node asks, or this worker reminds itself.
    pub fn cast(&mut self, cast: DatabaseCast) {
        self.with(|state, shared| match cast {
            DatabaseCast::Store { from, list, change } => {
                state.waiting.batch.stores.push((from, list, change));
                state.batched(shared, 1);
            }
            DatabaseCast::Load {
                from,
                list,
                position,
            } => state.hold(from, list, position),
            DatabaseCast::Flush => state.flush(shared),
        });
    }

    /// Time passes, nodes come and go.
    pub fn info(&mut self, info: Info) -> Next {
        match info {
            Info::Timer(_) => {
                time::start_timer(TICK);
                self.with(State::ask_peers);
            }
            Info::NodeUp(event) if event.kind == NodeKind::Visible => {
                self.with(|state, shared| {
                    state.freshness.node_up(now_ms(), event.node);
                    state.ask_peers(shared);
                });
            }
            Info::NodeDown(event) => {
                self.with(|state, _| state.freshness.node_down(&event.node));
            }
            Info::Exit { reason, .. } => return Next::Stop(reason),
            _ => {}
        }
        Next::Wait
    }
}

/// Lets somebody act on the state. The clock comes first, so that nobody decides anything after
/// a freeze without knowing of it; held loads last, so that they go as soon as they may.
fn with<R>(shared: &Shared, act: impl FnOnce(&mut State) -> R) -> Option<R> {
    let mut state = shared.borrow_mut();
    let state = state.as_mut()?;
    state.freshness.look(now_ms());
    let result = act(state);
    if !state.waiting.held.is_empty() && state.freshness.may_serve(now_ms()) {
        std::mem::take(&mut state.waiting.held)
            .into_iter()
            .for_each(|load| state.load(load));
    }
    Some(result)
}

impl State {
    fn batched(&mut self, shared: &Shared, records: usize) {
        let first = self.waiting.batch.records == 0;
        self.waiting.batch.records += records;
        if self.waiting.batch.records >= MAX_BATCH_RECORDS {
            self.flush(shared);
        } else if first {
            process::cast(&self_pid().into(), &encode(&DatabaseCast::Flush));
        }
    }

    fn flush(&mut self, shared: &Shared) {
        let Batch {
            stores, replicas, ..
        } = std::mem::take(&mut self.waiting.batch);
        let (servers, changes): (Vec<_>, Vec<_>) = stores
            .into_iter()
            .map(|(from, list, change)| (from, (list, change)))
            .unzip();
        let own = self.records.make(changes.into_iter());
        // Asked of the others before it is written here: the disks work at the same time.
        let answers = if own.is_empty() {
            Vec::new()
        } else {
            self.replicate(&own)
        };
        let foreign = replicas.iter().flat_map(|(_, records)| records);
        match self.records.write(own.iter().chain(foreign)) {
            Ok(new) => {
                // The own ones come first, and all of them are new.
                let (written, foreign) = new.split_at(own.len().min(new.len()));
                self.refresh(foreign);
                let done = servers.into_iter().zip(own).zip(written);
                let done = done.map(|((server, record), (_, position))| Done {
                    server: pid(server),
                    record,
                    position: *position,
                });
                let done = done.collect();
                replicas
                    .into_iter()
                    .for_each(|(peer, _)| peer.reply(&PeerReply::Replicated));
                if answers.is_empty() {
                    confirm(done);
                } else {
                    spawn_local(confirm_later(shared.clone(), answers, done));
                }
            }
            Err(why) => {
                wasm_node_sdk::eprintln!("{}: {why}", self.name);
                for (server, record) in servers.into_iter().zip(own) {
                    let request = request_of(&record);
                    tell(
                        pid(server),
                        &ServerCast::StoreFailed {
                            request,
                            why: why.clone(),
                        },
                    );
                }
                let failed = PeerReply::Failed(why);
                replicas
                    .into_iter()
                    .for_each(|(peer, _)| peer.reply(&failed));
            }
        }
    }

    /// Asks the worker of this number on every visible node to store records.
    fn replicate<'a>(
        &self,
        records: &[Record],
    ) -> Vec<(
        String,
        impl Future<Output = Result<Vec<u8>, CallError>> + use<'a>,
    )> {
        let nodes = node::nodes();
        if nodes.is_empty() {
            return Vec::new();
        }
        let call = encode(&PeerCall::Replicate(records.to_vec()));
        let ask = |node: String| {
            let to = Destination::RemoteName((self.name.clone(), node.clone()));
            (node, process::request(&to, &call, Some(STORE_TIMEOUT)))
        };
        nodes.into_iter().map(ask).collect()
    }

    /// Tells servers of this node that their lists have got records that they did not write.
    fn refresh(&self, new: &[(ListName, Position)]) {
        let lists: BTreeSet<_> = new.iter().map(|(list, _)| list).collect();
        let here = self_pid().node;
        for list in lists {
            let server = whereis_global(&list.global_name());
            if let Some(server) = server.filter(|server| server.node == here) {
                tell(server, &ServerCast::Refresh);
            }
        }
    }

    fn tell_missing(&self, have: &Have) -> PeerReply {
        match self.records.missing(have) {
            Ok((records, more)) => PeerReply::Pulled { records, more },
            Err(why) => {
                wasm_node_sdk::eprintln!("{}: {why}", self.name);
                PeerReply::Failed(why)
            }
        }
    }

    fn hold(&mut self, from: Address, list: ListName, position: Position) {
        if self.waiting.held.len() < MAX_HELD_LOADS {
            self.waiting.held.push((from, list, position));
        } else {
            let why = "too many lists wait for the database to catch up".into();
            tell(pid(from), &ServerCast::LoadFailed(why));
        }
    }

    fn load(&mut self, (from, list, position): (Address, ListName, Position)) {
        let answer = match self.records.load(&list, position) {
            Ok((records, position, more)) => ServerCast::Loaded {
                records,
                position,
                more,
            },
            Err(why) => {
                wasm_node_sdk::eprintln!("{}: {why}", self.name);
                ServerCast::LoadFailed(why)
            }
        };
        tell(pid(from), &answer);
    }

    fn ask_peers(&mut self, shared: &Shared) {
        for question in self.freshness.to_ask(now_ms()) {
            spawn_local(pull(shared.clone(), self.name.clone(), question));
        }
    }

    /// Names a node that failed, unless that was done a moment ago.
    fn complain(&mut self, node: &str, why: &str, every_ms: u64) {
        let now_ms = now_ms();
        let last_ms = self.complaints_ms.get(node);
        if last_ms.is_some_and(|last_ms| now_ms.saturating_sub(*last_ms) < every_ms) {
            return;
        }
        self.complaints_ms.insert(node.into(), now_ms);
        let name = &self.name;
        wasm_node_sdk::eprintln!("{name}: {node} has not stored what it was sent: {why}");
    }
}

/// Waits for the other nodes, names those that failed, then confirms.
async fn confirm_later(
    shared: Shared,
    answers: Vec<(String, impl Future<Output = Result<Vec<u8>, CallError>>)>,
    done: Vec<Done>,
) {
    let (nodes, answers): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
    let answers = join_all(answers).await;
    with(&shared, |state| {
        for (node, answer) in nodes.iter().zip(answers) {
            let every_ms = match answer {
                Err(CallError::Noproc) => COMPLAIN_ABSENT_EVERY_MS,
                _ => COMPLAIN_EVERY_MS,
            };
            match answer
                .map_err(|error| format!("{error:?}"))
                .and_then(|body| decode(&body))
            {
                Ok(PeerReply::Replicated) => {}
                Ok(PeerReply::Failed(why)) | Err(why) => state.complain(node, &why, every_ms),
                Ok(PeerReply::Pulled { .. }) => {
                    state.complain(node, "it answered something else", every_ms);
                }
            }
        }
    });
    confirm(done);
}

fn confirm(done: Vec<Done>) {
    for Done {
        server,
        record,
        position,
    } in done
    {
        tell(server, &ServerCast::Stored { record, position });
    }
}

/// Gets from one peer all that it has and this worker lacks.
async fn pull(shared: Shared, name: String, question: Question) {
    let (answer, count) = pull_all(&shared, &name, &question.node).await;
    if count > 0 {
        wasm_node_sdk::println!(
            "{name}: got {count} records from {} that were missing",
            question.node
        );
    }
    with(&shared, |state| {
        state
            .freshness
            .answered(now_ms(), &question, answer, time::random());
    });
}

async fn pull_all(shared: &Shared, name: &str, node: &str) -> (Answer, usize) {
    let peer = Destination::RemoteName((name.into(), node.into()));
    let mut count = 0;
    loop {
        let Some(have) = with(shared, |state| state.records.have()) else {
            return (Answer::Failed, count);
        };
        let call = encode(&PeerCall::Pull(have));
        let (records, more) = match process::request(&peer, &call, Some(PULL_TIMEOUT)).await {
            Ok(body) => match decode(&body) {
                Ok(PeerReply::Pulled { records, more }) => (records, more),
                _ => return (Answer::Failed, count),
            },
            Err(CallError::Noproc) => return (Answer::Absent, count),
            Err(_) => return (Answer::Failed, count),
        };
        let written = with(shared, |state| {
            let new = state.records.write(records.iter());
            match &new {
                Ok(new) => state.refresh(new),
                Err(why) => wasm_node_sdk::eprintln!("{}: {why}", state.name),
            }
            new.map(|new| new.len())
        });
        match written {
            Some(Ok(new)) => {
                count += new;
                if !more || new == 0 {
                    return (Answer::CaughtUp, count);
                }
            }
            Some(Err(_)) | None => return (Answer::Failed, count),
        }
    }
}

fn request_of(record: &Record) -> RequestId {
    let Change::Add(entry) = &record.change;
    entry.request
}

fn tell(server: Pid, cast: &ServerCast) {
    process::cast(&server.into(), &encode(cast));
}

fn pid(address: Address) -> Pid {
    Pid {
        node: address.node,
        serial: address.serial,
    }
}

fn now_ms() -> u64 {
    time::now() / 1_000_000
}

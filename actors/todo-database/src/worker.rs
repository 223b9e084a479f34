//! A database worker: the actor around [`todo_core::worker`], where its decisions and
//! invariants are. Here are its store, its messages and its peers.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use todo_core::list::{ListName, bucket_name, worker_name};
use todo_core::messages::{Address, DatabaseCast, PeerCall, PeerReply, ServerCast};
use todo_core::record::Key;
use todo_core::records::Store;
use todo_core::worker::{self as machine, PeerError, TICK_MS, Ticket, World};
use wasm_node_sdk::keyvalue::{Bucket, Error};
use wasm_node_sdk::registry::global;
use wasm_node_sdk::{
    CallError, CallReturn, Caller, Destination, Info, Next, NodeKind, Pid, decode, encode, node,
    process, self_pid, spawn_local, time,
};

type Waiting = machine::Waiting<Caller<PeerReply>>;

/// The actor's state.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "Saved", into = "Saved")]
pub struct Worker {
    number: u32,
    /// What was waiting when the worker was saved, until [`Worker::open`].
    waiting: Waiting,
    open: Rc<RefCell<Option<Open>>>,
}

/// What must survive an upgrade: all else is in the store.
#[derive(Serialize, Deserialize)]
struct Saved {
    number: u32,
    waiting: Waiting,
}

/// A worker whose store is open. Never borrowed across an await.
struct Open {
    machine: machine::Worker<Caller<PeerReply>>,
    host: Host,
}

/// What the machine needs done.
struct Host {
    name: String,
    bucket: Bucket,
    /// For the answers of peers.
    open: Rc<RefCell<Option<Open>>>,
}

impl From<Saved> for Worker {
    fn from(Saved { number, waiting }: Saved) -> Self {
        Self {
            number,
            waiting,
            open: Rc::default(),
        }
    }
}

impl From<Worker> for Saved {
    fn from(
        Worker {
            number,
            waiting,
            open,
        }: Worker,
    ) -> Self {
        let open = open.borrow();
        let waiting = open
            .as_ref()
            .map_or(waiting, |open| open.machine.waiting().clone());
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
        worker.open()?;
        time::start_timer(TICK);
        Ok(worker)
    }

    /// Opens the store, and goes on with what waited. After an upgrade the tick's timer is still
    /// there, and so is the message that flushes.
    pub fn open(&mut self) -> Result<(), String> {
        let name = bucket_name(self.number);
        let failed = |error| format!("the bucket {name:?}: {}", words(error));
        let bucket = Bucket::open(&name).map_err(failed)?;
        let keys = own_keys(&bucket, self.number).map_err(failed)?;
        node::monitor_nodes(true);
        let mut host = Host {
            name: worker_name(self.number),
            bucket,
            open: self.open.clone(),
        };
        let waiting = std::mem::take(&mut self.waiting);
        let machine = machine::Worker::new(&mut host, keys, waiting);
        *self.open.borrow_mut() = Some(Open { machine, host });
        Ok(())
    }

    /// A peer asks.
    pub fn call(&mut self, call: PeerCall, from: Caller<PeerReply>) -> CallReturn<PeerReply> {
        self.with(|machine, host| machine.call(host, call, from));
        CallReturn::NoReply
    }

    /// A server of this node asks, or this worker reminds itself.
    pub fn cast(&mut self, cast: DatabaseCast) {
        self.with(|machine, host| machine.cast(host, cast));
    }

    /// Time passes, nodes come and go.
    pub fn info(&mut self, info: Info) -> Next {
        match info {
            Info::Timer(_) => {
                time::start_timer(TICK);
                self.with(|machine, host| machine.tick(host));
            }
            Info::NodeUp(event) if event.kind == NodeKind::Visible => {
                self.with(|machine, host| machine.node_up(host, event.node));
            }
            Info::NodeDown(event) => {
                self.with(|machine, host| machine.node_down(host, &event.node));
            }
            Info::Exit { reason, .. } => return Next::Stop(reason),
            _ => {}
        }
        Next::Wait
    }

    fn with(&self, act: impl FnOnce(&mut machine::Worker<Caller<PeerReply>>, &mut Host)) {
        if let Some(Open { machine, host }) = self.open.borrow_mut().as_mut() {
            act(machine, host);
        }
    }
}

const TICK: Duration = Duration::from_millis(TICK_MS as u64);

/// The keys of the records in a worker's bucket. Other keys are left alone, and mentioned.
fn own_keys(bucket: &Bucket, worker: u32) -> Result<Vec<Key>, Error> {
    let mut keys = Vec::new();
    let mut foreign = 0usize;
    let mut cursor = None;
    loop {
        let page = bucket.list_keys(cursor.as_deref())?;
        for text in page.keys {
            match Key::parse(&text) {
                Some(key) if key.list.worker() == worker => keys.push(key),
                _ => foreign += 1,
            }
        }
        match page.cursor {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    if foreign > 0 {
        let name = worker_name(worker);
        wasm_node_sdk::eprintln!("{name}: its bucket has {foreign} keys that are not its own");
    }
    Ok(keys)
}

impl Store for Host {
    fn write(&mut self, pairs: &[(String, Vec<u8>)]) -> Result<(), String> {
        let written = self.bucket.set_many(pairs);
        written.map_err(|error| format!("the store could not be written: {}", words(error)))
    }

    fn read(&mut self, keys: &[String]) -> Result<Vec<Vec<u8>>, String> {
        match self.bucket.get_many(keys) {
            Ok(pairs) => Ok(pairs.into_iter().map(|(_, value)| value).collect()),
            Err(error) => Err(format!("the store could not be read: {}", words(error))),
        }
    }
}

impl World<Caller<PeerReply>> for Host {
    fn now_ms(&mut self) -> u64 {
        time::now() / 1_000_000
    }

    fn wall_ms(&mut self) -> u64 {
        time::wall_clock()
    }

    fn random(&mut self) -> u64 {
        time::random()
    }

    fn nodes(&mut self) -> Vec<String> {
        node::nodes()
    }

    fn tell(&mut self, server: Address, cast: &ServerCast) {
        let server = Pid {
            node: server.node,
            serial: server.serial,
        };
        process::cast(&server.into(), &encode(cast));
    }

    fn refresh(&mut self, list: &ListName) {
        let server = global::whereis(&list.global_name());
        if let Some(server) = server.filter(|server| server.node == self_pid().node) {
            process::cast(&server.into(), &encode(&ServerCast::Refresh));
        }
    }

    fn reply(&mut self, peer: Caller<PeerReply>, reply: &PeerReply) {
        peer.reply(reply);
    }

    fn ask(&mut self, nodes: Vec<(String, Ticket)>, call: &PeerCall, timeout_ms: u32) {
        let call = encode(call);
        let timeout = Some(Duration::from_millis(timeout_ms.into()));
        for (node, ticket) in nodes {
            let to = Destination::RemoteName((self.name.clone(), node));
            let answer = process::request(&to, &call, timeout);
            let open = self.open.clone();
            spawn_local(async move {
                let answer = match answer.await {
                    Ok(body) => decode(&body).map_err(PeerError::Failed),
                    Err(CallError::Noproc) => Err(PeerError::Absent),
                    Err(error) => Err(PeerError::Failed(why(error))),
                };
                if let Some(Open { machine, host }) = open.borrow_mut().as_mut() {
                    machine.answered(host, ticket, answer);
                }
            });
        }
    }

    fn flush_soon(&mut self) {
        process::cast(&self_pid().into(), &encode(&DatabaseCast::Flush));
    }

    fn report(&mut self, words: &str) {
        wasm_node_sdk::eprintln!("{}: {words}", self.name);
    }
}

fn why(error: CallError) -> String {
    match error {
        CallError::Timeout => "no answer in time".into(),
        CallError::Noconnection => "the connection to it is down".into(),
        other => format!("its worker ended ({other:?})"),
    }
}

fn words(error: Error) -> String {
    match error {
        Error::NoSuchStore => "there is no such bucket".into(),
        Error::AccessDenied => {
            "access denied: the app's manifest must grant todo-database its buckets".into()
        }
        Error::Other(words) => words,
    }
}

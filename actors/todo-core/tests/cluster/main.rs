//! The to-do system's own logic in a simulated cluster: the real server and worker machines, with
//! virtual time, random delays, cut links, crashes (also in the middle of a write), failing disks
//! and frozen nodes. What is checked:
//!
//! - an acknowledged entry is on every node in the end, once, and the nodes agree on the order;
//! - a read of a cluster that has been whole for a while, or in which nodes only freeze, shows
//!   all that had been acknowledged when it began;
//! - every request is answered within five seconds.
//!
//! A failing run names its seed: `SEED=n cargo test -p todo-core --test cluster`.

mod actors;
mod clients;
mod network;
mod trouble;
mod world;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use todo_core::agenda::Agenda;
use todo_core::date::Date;
use todo_core::list::ListName;
use todo_core::messages::{DatabaseCast, PeerCall, PeerReply, ServerCall, ServerCast, ServerReply};
use todo_core::record::{Key, Record};
use todo_core::server::Server;
use todo_core::worker::{PeerError, Ticket, Worker};
use world::next;

const NODES: usize = 3;
const LISTS: usize = 4;
/// When a silent peer is called down.
const DOWN_AFTER_MS: u64 = 4_000;
/// What the web component allows itself.
const CLIENT_DEADLINE_MS: u64 = 4_900;
/// How long after the last trouble a read must show everything.
const SETTLED_AFTER_MS: u64 = 3_000;

/// How long after a freeze a node may still refuse: it is back after at most four seconds here,
/// and who had begun to wait before that gives up after another five.
const REFUSES_AFTER_THAW_MS: u64 = 9_000;

type Client = usize;
/// A question of a peer, from a run of a node.
type Peer = (Place, Ticket);

/// A run of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Place {
    node: usize,
    run: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Troubles {
    All,
    FreezesOnly,
}

enum Event {
    Tick,
    Peer(Peer, PeerCall),
    Answer(Ticket, Result<PeerReply, PeerError>),
    Cast(DatabaseCast),
    NodeUp(usize),
    NodeDown(usize),
    Server(u64, ToServer),
}

enum ToServer {
    Call(Client, ServerCall),
    Cast(ServerCast),
}

enum What {
    /// For a run of a node; `link` is the state of the link that it travels on.
    Node {
        to: Place,
        link: Option<(usize, u64)>,
        event: Event,
    },
    /// A client's answer; none: the server or the way to it is gone.
    Client {
        client: Client,
        attempt: u32,
        reply: Option<ServerReply>,
    },
    Try(Client),
    Begin,
    Trouble,
    Connect(usize, usize),
    Thaw(usize),
    Restart(usize),
}

struct Node {
    place: Place,
    up: bool,
    frozen: bool,
    thawed_ms: u64,
    /// What arrived while it was frozen.
    parked: Vec<(Option<(usize, u64)>, Event)>,
    disk: BTreeMap<String, Vec<u8>>,
    worker: Option<Worker<Peer>>,
    servers: BTreeMap<u64, (ListName, Server<Client>)>,
    /// Whom this node believes connected.
    peers: BTreeSet<usize>,
    /// The global names, as this node knows them.
    names: BTreeMap<ListName, (Place, u64)>,
    asked: BTreeMap<Ticket, usize>,
}

struct Ask {
    node: usize,
    list: ListName,
    call: ServerCall,
    began_ms: u64,
    attempt: u32,
    at: Option<(Place, u64)>,
    /// For a read: the titles that it must show.
    expected: Option<BTreeSet<String>>,
    done: bool,
}

struct Sim {
    seed: u64,
    random: u64,
    now_ms: u64,
    order: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, What>,
    nodes: Vec<Node>,
    /// Counts the changes of each link; odd: it is up.
    links: BTreeMap<(usize, usize), u64>,
    fifo_ms: BTreeMap<(usize, usize), u64>,
    clients: Vec<Ask>,
    acknowledged: BTreeMap<ListName, BTreeSet<String>>,
    troubles: Troubles,
    trouble_ms: u64,
    quiet: bool,
    serial: u64,
    reads_checked: usize,
    failures: usize,
}

fn day() -> Date {
    "2018-12-19".parse().expect("a day")
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

fn name(node: usize) -> String {
    format!("node{node}")
}

fn number(name: &str) -> usize {
    name.trim_start_matches("node").parse().expect("a node")
}

impl Sim {
    fn new(seed: u64, troubles: Troubles) -> Self {
        let mut sim = Self {
            seed,
            random: seed,
            now_ms: 10_000,
            order: 0,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            nodes: Vec::new(),
            links: BTreeMap::new(),
            fifo_ms: BTreeMap::new(),
            clients: Vec::new(),
            acknowledged: BTreeMap::new(),
            troubles,
            trouble_ms: 0,
            quiet: false,
            serial: 0,
            reads_checked: 0,
            failures: 0,
        };
        for node in 0..NODES {
            sim.nodes.push(Node {
                place: Place { node, run: 0 },
                up: false,
                frozen: false,
                thawed_ms: 0,
                parked: Vec::new(),
                disk: BTreeMap::new(),
                worker: None,
                servers: BTreeMap::new(),
                peers: BTreeSet::new(),
                names: BTreeMap::new(),
                asked: BTreeMap::new(),
            });
        }
        (0..NODES).for_each(|node| sim.restart(node));
        sim.at(2_000, What::Begin);
        sim.at(4_000, What::Trouble);
        sim
    }

    fn rand(&mut self, below: u64) -> u64 {
        next(&mut self.random) % below
    }

    fn at(&mut self, after_ms: u64, what: What) {
        self.order += 1;
        self.queue
            .push(Reverse((self.now_ms + after_ms, self.order)));
        self.events.insert(self.order, what);
    }

    fn step(&mut self) -> bool {
        let Some(Reverse((due, order))) = self.queue.pop() else {
            return false;
        };
        self.now_ms = due;
        match self.events.remove(&order).expect("an event") {
            What::Node { to, link, event } => self.node_event(to, link, event),
            What::Client {
                client,
                attempt,
                reply,
            } => self.client(client, attempt, reply),
            What::Try(client) => self.try_again(client),
            What::Begin => self.begin(),
            What::Trouble => self.trouble(),
            What::Connect(a, b) => self.connect(a, b),
            What::Thaw(node) => self.thaw(node),
            What::Restart(node) => self.restart(node),
        }
        // Peers of a node that has been frozen for long call it down; once thawed it sees that.
        for node in 0..NODES {
            let frozen_ms = self.frozen_for(node);
            if frozen_ms > DOWN_AFTER_MS {
                (0..NODES).for_each(|other| self.disconnect(node, other));
            }
            if !self.nodes[node].frozen {
                for other in self.nodes[node].peers.clone() {
                    if !self.connected(node, other) && self.rand(20) == 0 {
                        self.sees_down(node, other);
                    }
                }
            }
        }
        if !self.whole() {
            self.trouble_ms = self.now_ms;
        }
        true
    }

    fn run(mut self) -> (usize, usize, usize) {
        while self.now_ms < 70_000 && self.step() {}
        self.quiet = true;
        // Whatever is still to be restarted, thawed or connected is, then all is quiet.
        while self.now_ms < 90_000 && self.step() {}
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            self.connect(a, b);
        }
        while self.now_ms < 110_000 && self.step() {}
        let agendas: Vec<_> = self.nodes.iter().map(agendas).collect();
        for (node, agenda) in agendas.iter().enumerate() {
            for (list, titles) in &self.acknowledged {
                let empty = Agenda::default();
                let agenda = agenda.get(list).unwrap_or(&empty);
                let shown: BTreeSet<_> = agenda.titles(day()).map(String::from).collect();
                let lost: Vec<_> = titles.difference(&shown).collect();
                assert!(
                    lost.is_empty(),
                    "node{node} lost {lost:?} of {list}, seed {}",
                    self.seed
                );
            }
            assert_eq!(
                agenda, &agendas[0],
                "node{node} differs, seed {}",
                self.seed
            );
        }
        let unanswered = self.clients.iter().filter(|ask| !ask.done).count();
        assert_eq!(unanswered, 0, "seed {}", self.seed);
        let acknowledged = self.acknowledged.values().map(BTreeSet::len).sum();
        (acknowledged, self.reads_checked, self.failures)
    }
}

fn agendas(node: &Node) -> BTreeMap<ListName, Agenda> {
    let mut agendas: BTreeMap<ListName, Agenda> = BTreeMap::new();
    for (key, value) in &node.disk {
        let key = Key::parse(key).expect("a key");
        let record = Record::from_stored(key, value).expect("a record");
        agendas
            .entry(record.list.clone())
            .or_default()
            .apply(record);
    }
    agendas
}

fn runs(troubles: Troubles) {
    let one = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seeds = one.map_or(1..=25, |seed| seed..=seed);
    let mut totals = (0, 0, 0);
    for seed in seeds {
        let (acknowledged, checked, failures) = Sim::new(seed, troubles).run();
        totals = (
            totals.0 + acknowledged,
            totals.1 + checked,
            totals.2 + failures,
        );
    }
    let (acknowledged, checked, failures) = totals;
    println!("{acknowledged} entries acknowledged, {checked} reads checked, {failures} refused");
    assert!(acknowledged > 100 && checked > 100);
}

#[test]
fn no_acknowledged_entry_is_ever_lost() {
    runs(Troubles::All);
}

#[test]
fn frozen_nodes_show_nothing_stale() {
    runs(Troubles::FreezesOnly);
}

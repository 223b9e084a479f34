//! The to-do system's own logic in a simulated cluster: the real server and worker machines, with
//! virtual time, random delays, cut links, crashes (also in the middle of a write), failing disks
//! and frozen nodes. What is checked:
//!
//! - an acknowledged entry is on every node in the end, once, and the nodes agree on the order;
//! - a read of a cluster that has been whole for a while, or in which nodes only freeze, shows
//!   all that had been acknowledged when it began;
//! - every request is answered within five seconds.
//!
//! A failing run names its seed: `SEED=n cargo test --test cluster`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use todo_core::agenda::Agenda;
use todo_core::date::Date;
use todo_core::list::ListName;
use todo_core::messages::{
    Address, DatabaseCast, PeerCall, PeerReply, ServerCall, ServerCast, ServerReply,
};
use todo_core::record::{Entry, Key, Record, RequestId};
use todo_core::records::Store;
use todo_core::server::{Effect, Server};
use todo_core::worker::{PeerError, TICK_MS, Ticket, Waiting, Worker, World};

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

/// What a worker does, kept until its handler has ended: a crash in a write loses what follows.
struct Host<'a> {
    disk: &'a mut BTreeMap<String, Vec<u8>>,
    peers: Vec<String>,
    now_ms: u64,
    random: &'a mut u64,
    troubles: bool,
    crashed: bool,
    out: Vec<Out>,
}

enum Out {
    Tell(Address, ServerCast),
    Refresh(ListName),
    Reply(Peer, PeerReply),
    Ask(Vec<(String, Ticket)>, PeerCall, u32),
    Flush,
}

fn next(random: &mut u64) -> u64 {
    *random = random
        .wrapping_mul(6364136223846793005)
        .wrapping_add(1442695040888963407);
    let mixed = (*random ^ (*random >> 33)).wrapping_mul(0xff51afd7ed558ccd);
    mixed ^ (mixed >> 33)
}

impl Store for Host<'_> {
    fn write(&mut self, pairs: &[(String, Vec<u8>)]) -> Result<(), String> {
        if self.crashed {
            return Err("crashed".into());
        }
        if self.troubles && next(self.random).is_multiple_of(300) {
            self.crashed = next(self.random).is_multiple_of(2);
            // A crash may come before or after the disk has it.
            if !self.crashed || next(self.random).is_multiple_of(2) {
                return Err("disk full".into());
            }
        }
        self.disk.extend(pairs.iter().cloned());
        Ok(())
    }

    fn read(&mut self, keys: &[String]) -> Result<Vec<Vec<u8>>, String> {
        let value = |key| self.disk.get(key).cloned().ok_or("lost".to_string());
        keys.iter().map(value).collect()
    }
}

impl Host<'_> {
    fn out(&mut self, out: Out) {
        if !self.crashed {
            self.out.push(out);
        }
    }
}

impl World<Peer> for Host<'_> {
    fn now_ms(&mut self) -> u64 {
        self.now_ms
    }
    fn wall_ms(&mut self) -> u64 {
        self.now_ms
    }
    fn random(&mut self) -> u64 {
        next(self.random)
    }
    fn nodes(&mut self) -> Vec<String> {
        self.peers.clone()
    }
    fn tell(&mut self, server: Address, cast: &ServerCast) {
        self.out(Out::Tell(server, cast.clone()));
    }
    fn refresh(&mut self, list: &ListName) {
        self.out(Out::Refresh(list.clone()));
    }
    fn reply(&mut self, peer: Peer, reply: &PeerReply) {
        self.out(Out::Reply(peer, reply.clone()));
    }
    fn ask(&mut self, nodes: Vec<(String, Ticket)>, call: &PeerCall, timeout_ms: u32) {
        self.out(Out::Ask(nodes, call.clone(), timeout_ms));
    }
    fn flush_soon(&mut self) {
        self.out(Out::Flush);
    }
    fn report(&mut self, _: &str) {}
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

    /// Sends from one node to another, or within one, in order.
    fn send(&mut self, from: usize, to: Place, event: Event) {
        let delay = self.rand(if from == to.node { 2 } else { 20 });
        let due = (self.now_ms + delay).max(*self.fifo_ms.get(&(from, to.node)).unwrap_or(&0));
        self.fifo_ms.insert((from, to.node), due);
        let link = (from != to.node).then(|| (from, self.link(from, to.node)));
        self.at(due - self.now_ms, What::Node { to, link, event });
    }

    fn link(&self, a: usize, b: usize) -> u64 {
        *self.links.get(&pair(a, b)).unwrap_or(&0)
    }

    fn connected(&self, a: usize, b: usize) -> bool {
        self.link(a, b) % 2 == 1
    }

    fn connect(&mut self, a: usize, b: usize) {
        let ready = |node: &Node| node.up && !node.frozen;
        let (ready_a, ready_b) = (ready(&self.nodes[a]), ready(&self.nodes[b]));
        if a == b || self.connected(a, b) || !ready_a || !ready_b {
            return;
        }
        // A node that has not yet noticed that the old link is gone does so first.
        self.sees_down(a, b);
        self.sees_down(b, a);
        *self.links.entry(pair(a, b)).or_default() += 1;
        for (here, there) in [(a, b), (b, a)] {
            self.nodes[here].peers.insert(there);
            self.local(here, Event::NodeUp(there));
        }
        // Names meet: of two holders the one on the lesser node stays.
        let names = |sim: &Self, node: usize| sim.nodes[node].names.clone();
        for (list, (place, serial)) in names(self, a).into_iter().chain(names(self, b)) {
            self.claim(list, place, serial);
        }
    }

    /// A name is made known wherever its holder's node is connected; one holder stays.
    fn claim(&mut self, list: ListName, place: Place, serial: u64) {
        for node in 0..NODES {
            if node != place.node && !self.connected(node, place.node) {
                continue;
            }
            match self.nodes[node].names.get(&list).copied() {
                Some(other) if other < (place, serial) => {
                    if self.nodes[place.node].names.get(&list) == Some(&(place, serial)) {
                        self.nodes[place.node].names.insert(list.clone(), other);
                    }
                    return self.end_server(place, serial);
                }
                Some(other) if other != (place, serial) => {
                    self.nodes[node].names.insert(list.clone(), (place, serial));
                    self.end_server(other.0, other.1);
                }
                _ => {
                    self.nodes[node].names.insert(list.clone(), (place, serial));
                }
            }
        }
    }

    fn end_server(&mut self, place: Place, serial: u64) {
        if self.nodes[place.node].place == place {
            self.nodes[place.node].servers.remove(&serial);
        }
        self.gone(|at| at == (place, serial));
    }

    /// Clients whose server, or the way to it, is gone hear of it.
    fn gone(&mut self, lost: impl Fn((Place, u64)) -> bool) {
        for client in 0..self.clients.len() {
            let ask = &self.clients[client];
            if !ask.done && ask.at.is_some_and(&lost) {
                let attempt = ask.attempt;
                self.at(
                    1,
                    What::Client {
                        client,
                        attempt,
                        reply: None,
                    },
                );
            }
        }
    }

    fn disconnect(&mut self, a: usize, b: usize) {
        if self.connected(a, b) {
            *self.links.entry(pair(a, b)).or_default() += 1;
        }
        for (here, there) in [(a, b), (b, a)] {
            if !self.nodes[here].frozen {
                self.sees_down(here, there);
            }
        }
    }

    /// A node learns that another is gone.
    fn sees_down(&mut self, here: usize, there: usize) {
        if !self.nodes[here].peers.remove(&there) {
            return;
        }
        self.local(here, Event::NodeDown(there));
        self.nodes[here]
            .names
            .retain(|_, (place, _)| place.node != there);
        let place = self.nodes[here].place;
        let asked = self.nodes[here]
            .asked
            .iter()
            .filter(|(_, node)| **node == there);
        for ticket in asked.map(|(ticket, _)| *ticket).collect::<Vec<_>>() {
            self.nodes[here].asked.remove(&ticket);
            let event = Event::Answer(ticket, Err(PeerError::Failed("noconnection".into())));
            self.send(here, place, event);
        }
        for client in 0..self.clients.len() {
            let ask = &self.clients[client];
            if !ask.done && ask.node == here && ask.at.is_some_and(|(at, _)| at.node == there) {
                let attempt = ask.attempt;
                self.at(
                    1,
                    What::Client {
                        client,
                        attempt,
                        reply: None,
                    },
                );
            }
        }
    }

    fn local(&mut self, node: usize, event: Event) {
        let place = self.nodes[node].place;
        self.send(node, place, event);
    }

    fn crash(&mut self, node: usize) {
        let dead = &mut self.nodes[node];
        if !dead.up {
            return;
        }
        (dead.up, dead.frozen, dead.worker) = (false, false, None);
        dead.servers.clear();
        dead.names.clear();
        dead.parked.clear();
        dead.asked.clear();
        dead.peers.clear();
        self.gone(|(place, _)| place.node == node);
        for other in 0..NODES {
            self.disconnect(node, other);
        }
        let after = 500 + self.rand(5_000);
        self.at(after, What::Restart(node));
    }

    fn restart(&mut self, node: usize) {
        if self.nodes[node].up {
            return;
        }
        self.nodes[node].place.run += 1;
        self.nodes[node].up = true;
        let keys: Vec<_> = self.nodes[node]
            .disk
            .keys()
            .map(|key| Key::parse(key))
            .collect();
        let keys = keys.into_iter().map(|key| key.expect("a key"));
        let (worker, out) = {
            let now_ms = self.now_ms;
            let here = &mut self.nodes[node];
            let mut host = Host {
                disk: &mut here.disk,
                peers: Vec::new(),
                now_ms,
                random: &mut self.random,
                troubles: false,
                crashed: false,
                out: Vec::new(),
            };
            (Worker::new(&mut host, keys, Waiting::default()), host.out)
        };
        self.nodes[node].worker = Some(worker);
        self.carry_out(node, out);
        self.local(node, Event::Tick);
        for other in 0..NODES {
            let after = self.rand(800);
            self.at(after, What::Connect(node, other));
        }
    }

    fn freeze(&mut self, node: usize, for_ms: u64) {
        if !self.nodes[node].up || self.nodes[node].frozen {
            return;
        }
        self.nodes[node].frozen = true;
        self.at(for_ms, What::Thaw(node));
    }

    fn thaw(&mut self, node: usize) {
        if !self.nodes[node].frozen {
            return;
        }
        self.nodes[node].frozen = false;
        self.nodes[node].thawed_ms = self.now_ms;
        let place = self.nodes[node].place;
        for (link, event) in std::mem::take(&mut self.nodes[node].parked) {
            self.at(
                0,
                What::Node {
                    to: place,
                    link,
                    event,
                },
            );
        }
        // It takes a moment to see that others have hung up, and more to meet again.
        let after = 1_000 + self.rand(3_000);
        for other in 0..NODES {
            self.at(after, What::Connect(node, other));
        }
    }

    fn trouble(&mut self) {
        if self.quiet {
            return;
        }
        let after = 500 + self.rand(6_000);
        self.at(after, What::Trouble);
        let (a, b) = (
            self.rand(NODES as u64) as usize,
            self.rand(NODES as u64) as usize,
        );
        match (self.troubles, self.rand(4)) {
            (Troubles::All, 0) => self.crash(a),
            (Troubles::All, 1) => {
                self.disconnect(a, b);
                let after = self.rand(8_000);
                self.at(after, What::Connect(a, b));
            }
            (Troubles::All, 2) => {
                (0..NODES).for_each(|other| self.disconnect(a, other));
                for other in 0..NODES {
                    let after = 2_000 + self.rand(6_000);
                    self.at(after, What::Connect(a, other));
                }
            }
            // Freezes alone must leave two nodes together.
            _ if !self.whole() => {}
            _ => {
                let for_ms = self.rand(9_000);
                self.freeze(a, for_ms);
            }
        }
    }

    fn node_event(&mut self, to: Place, link: Option<(usize, u64)>, event: Event) {
        let node = to.node;
        let here = &mut self.nodes[node];
        if !here.up || here.place != to {
            return;
        }
        if here.frozen {
            return here.parked.push((link, event));
        }
        if link.is_some_and(|(from, was)| self.link(from, node) != was) {
            return;
        }
        if let Event::Server(serial, message) = event {
            return self.server_event(node, serial, message);
        }
        let peers = self.nodes[node]
            .peers
            .iter()
            .map(|peer| name(*peer))
            .collect();
        let now_ms = self.now_ms;
        let here = &mut self.nodes[node];
        let mut worker = here.worker.take().expect("a worker");
        let mut host = Host {
            disk: &mut here.disk,
            peers,
            now_ms,
            random: &mut self.random,
            troubles: self.troubles == Troubles::All && !self.quiet,
            crashed: false,
            out: Vec::new(),
        };
        let mut tick = false;
        match event {
            Event::Tick => {
                worker.tick(&mut host);
                tick = true;
            }
            Event::Peer(from, call) => worker.call(&mut host, call, from),
            Event::Answer(ticket, answer) => {
                here.asked.remove(&ticket);
                worker.answered(&mut host, ticket, answer);
            }
            Event::Cast(cast) => worker.cast(&mut host, cast),
            Event::NodeUp(peer) => worker.node_up(&mut host, name(peer)),
            Event::NodeDown(peer) => worker.node_down(&mut host, &name(peer)),
            Event::Server(..) => {}
        }
        let Host { crashed, out, .. } = host;
        here.worker = Some(worker);
        self.carry_out(node, out);
        if crashed {
            return self.crash(node);
        }
        if tick {
            self.at(
                TICK_MS.into(),
                What::Node {
                    to,
                    link: None,
                    event: Event::Tick,
                },
            );
        }
    }

    fn carry_out(&mut self, node: usize, out: Vec<Out>) {
        let place = self.nodes[node].place;
        for out in out {
            match out {
                Out::Tell(server, cast) => {
                    let event = Event::Server(server.serial, ToServer::Cast(cast));
                    self.send(node, place, event);
                }
                Out::Refresh(list) => {
                    if let Some((at, serial)) = self.nodes[node].names.get(&list).copied()
                        && at == place
                    {
                        let event = Event::Server(serial, ToServer::Cast(ServerCast::Refresh));
                        self.send(node, place, event);
                    }
                }
                Out::Reply((to, ticket), reply) => {
                    if to == self.nodes[to.node].place && self.connected(node, to.node) {
                        self.send(node, to, Event::Answer(ticket, Ok(reply)));
                    }
                }
                Out::Flush => self.send(node, place, Event::Cast(DatabaseCast::Flush)),
                Out::Ask(nodes, call, timeout_ms) => {
                    for (peer, ticket) in nodes {
                        let peer = number(&peer);
                        let timeout = Event::Answer(ticket, Err(PeerError::Failed("late".into())));
                        self.nodes[node].asked.insert(ticket, peer);
                        self.at(
                            timeout_ms.into(),
                            What::Node {
                                to: place,
                                link: None,
                                event: timeout,
                            },
                        );
                        if self.connected(node, peer) {
                            let to = self.nodes[peer].place;
                            self.send(node, to, Event::Peer((place, ticket), call.clone()));
                        }
                    }
                }
            }
        }
    }

    fn server_event(&mut self, node: usize, serial: u64, message: ToServer) {
        let now_ms = self.now_ms;
        let Some((list, server)) = self.nodes[node].servers.get_mut(&serial) else {
            return;
        };
        let list = list.clone();
        let effects = match message {
            ToServer::Call(client, call) => server.call(now_ms, call, client),
            ToServer::Cast(cast) => server.told(now_ms, cast),
        };
        self.server_effects(node, serial, list, effects);
    }

    fn server_effects(
        &mut self,
        node: usize,
        serial: u64,
        list: ListName,
        effects: Vec<Effect<Client>>,
    ) {
        let place = self.nodes[node].place;
        let from = Address {
            node: node as u64,
            serial,
        };
        for effect in effects {
            let cast = match effect {
                Effect::Store(change) => DatabaseCast::Store {
                    from,
                    list: list.clone(),
                    change,
                },
                Effect::Load(position) => DatabaseCast::Load {
                    from,
                    list: list.clone(),
                    position,
                },
                Effect::Reply(client, reply) => {
                    let ask = &self.clients[client];
                    let (attempt, to) = (ask.attempt, ask.node);
                    if node == to || self.connected(node, to) {
                        let after = self.rand(10);
                        self.at(
                            after,
                            What::Client {
                                client,
                                attempt,
                                reply: Some(reply),
                            },
                        );
                    }
                    continue;
                }
            };
            self.send(node, place, Event::Cast(cast));
        }
    }

    fn begin(&mut self) {
        if !self.quiet {
            let after = self.rand(150);
            self.at(after, What::Begin);
        }
        let node = self.rand(NODES as u64) as usize;
        let list: ListName = format!("list{}", self.rand(LISTS as u64))
            .try_into()
            .expect("a name");
        let client = self.clients.len();
        let (call, expected) = if self.rand(3) == 0 {
            let title = format!("entry{client}");
            let request = RequestId::of(title.as_bytes(), day(), &title);
            (
                ServerCall::Add(Entry {
                    date: day(),
                    title,
                    request,
                }),
                None,
            )
        } else {
            let shown = self.acknowledged.get(&list).cloned().unwrap_or_default();
            (ServerCall::Titles(day()), Some(shown))
        };
        self.clients.push(Ask {
            node,
            list,
            call,
            began_ms: self.now_ms,
            attempt: 0,
            at: None,
            expected,
            done: false,
        });
        self.try_again(client);
    }

    fn try_again(&mut self, client: Client) {
        let ask = &mut self.clients[client];
        ask.attempt += 1;
        ask.at = None;
        let (attempt, node, list) = (ask.attempt, ask.node, ask.list.clone());
        let left_ms = (ask.began_ms + CLIENT_DEADLINE_MS).saturating_sub(self.now_ms);
        if left_ms == 0 || !self.nodes[node].up {
            // 503, or the client's node is dead.
            self.clients[client].done = true;
            self.refused(node);
            return;
        }
        if self.nodes[node].frozen {
            self.at(50, What::Try(client));
            return;
        }
        let at = match self.nodes[node].names.get(&list).copied() {
            Some(at) => at,
            None => {
                self.serial += 1;
                let (place, serial) = (self.nodes[node].place, self.serial);
                let (server, effects) = Server::new(self.now_ms);
                self.nodes[node]
                    .servers
                    .insert(serial, (list.clone(), server));
                self.claim(list.clone(), place, serial);
                self.server_effects(node, serial, list.clone(), effects);
                // Another node may have been faster.
                *self.nodes[node]
                    .names
                    .get(&list)
                    .unwrap_or(&(place, serial))
            }
        };
        let call = self.clients[client].call.clone();
        self.clients[client].at = Some(at);
        let (place, serial) = at;
        if place.node == node || self.connected(node, place.node) {
            self.send(
                node,
                place,
                Event::Server(serial, ToServer::Call(client, call)),
            );
        }
        // Its node finds out that the way is gone when it finds out; until then it waits.
        self.at(
            left_ms,
            What::Client {
                client,
                attempt,
                reply: None,
            },
        );
    }

    fn client(&mut self, client: Client, attempt: u32, reply: Option<ServerReply>) {
        let whole_ms = self.now_ms.saturating_sub(self.trouble_ms);
        let ask = &mut self.clients[client];
        if ask.done || ask.attempt != attempt {
            return;
        }
        let took_ms = self.now_ms - ask.began_ms;
        match reply {
            // The node that the client talks to is frozen: no answer before it thaws.
            _ if self.nodes[ask.node].frozen => {
                return self.at(
                    50,
                    What::Client {
                        client,
                        attempt,
                        reply,
                    },
                );
            }
            None => {
                let pause = 5 + self.rand(60);
                return self.at(pause, What::Try(client));
            }
            Some(ServerReply::Added) => {
                if let ServerCall::Add(entry) = &ask.call {
                    let list = self.acknowledged.entry(ask.list.clone()).or_default();
                    list.insert(entry.title.clone());
                }
            }
            Some(ServerReply::Titles(titles)) => {
                let shown: BTreeSet<_> = titles.iter().cloned().collect();
                assert_eq!(
                    shown.len(),
                    titles.len(),
                    "an entry twice, seed {}",
                    self.seed
                );
                let began_whole = whole_ms > SETTLED_AFTER_MS + took_ms;
                if began_whole || self.troubles == Troubles::FreezesOnly {
                    let expected = ask.expected.take().expect("a read");
                    let lost: Vec<_> = expected.difference(&shown).collect();
                    assert!(
                        lost.is_empty(),
                        "node{} hides {lost:?} of {} at {} ms, seed {}",
                        ask.node,
                        ask.list,
                        self.now_ms,
                        self.seed
                    );
                    self.reads_checked += 1;
                }
            }
            Some(ServerReply::Unavailable(_)) => {
                let node = ask.node;
                self.refused(node);
            }
        }
        self.clients[client].done = true;
    }

    /// A client of this node got a 503. Where nodes only freeze, that happens only at the one
    /// that is or was frozen just now.
    fn refused(&mut self, node: usize) {
        self.failures += 1;
        let Node {
            frozen, thawed_ms, ..
        } = self.nodes[node];
        assert!(
            frozen
                || self.now_ms < thawed_ms + REFUSES_AFTER_THAW_MS
                || self.troubles == Troubles::All,
            "node{node} refused at {} ms, seed {}",
            self.now_ms,
            self.seed
        );
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

    fn whole(&self) -> bool {
        let well = self.nodes.iter().all(|node| node.up && !node.frozen);
        well && [(0, 1), (0, 2), (1, 2)]
            .iter()
            .all(|&(a, b)| self.connected(a, b))
    }

    fn frozen_for(&mut self, node: usize) -> u64 {
        let key = (node + 100, node);
        if !self.nodes[node].frozen {
            self.fifo_ms.remove(&key);
            return 0;
        }
        self.now_ms - *self.fifo_ms.entry(key).or_insert(self.now_ms)
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

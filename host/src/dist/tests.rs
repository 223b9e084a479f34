//! Whole kernels in one process, linked over real sockets on loopback.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use wasm_node_protocol::codec::{NodeReply, NodeRequest};
use wasm_node_protocol::{
    Incarnation, NodeEvent, NodeKind, NodeName, Pid, Ref, RegisterError, Signal, Target,
};

use super::epmd::tests::free_port;
use super::*;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
enum Seen {
    Signal(Incarnation, Target, Signal),
    Up,
    Down(NodeName, String),
    Registered(Ref, Result<(), RegisterError>),
    Conflict(Pid, String, Pid),
}

/// A node whose actors are the test.
struct TestHost {
    seen: mpsc::UnboundedSender<Seen>,
    /// While set, every mailbox is overfull.
    full: AtomicBool,
    /// While locked, deliveries wait.
    stalled: Mutex<()>,
    signals: watch::Sender<usize>,
    quiet: AtomicBool,
    bytes: AtomicUsize,
}

impl Host for TestHost {
    fn deliver(&self, from: Incarnation, to: Target, signal: Signal) -> Delivered {
        drop(self.stalled.lock());
        if let Signal::Info(body) = &signal {
            self.bytes.fetch_add(body.len(), Ordering::Relaxed);
        }
        if !self.quiet.load(Ordering::Relaxed) {
            let _ = self.seen.send(Seen::Signal(from, to, signal));
        }
        self.signals.send_modify(|count| *count += 1);
        if self.full.load(Ordering::Relaxed) {
            Delivered::Full
        } else {
            Delivered::Ok
        }
    }
    fn request(&self, from: &Peer, request: NodeRequest, answer: Answer) {
        match request {
            NodeRequest::Control(bytes) if &bytes[..] == b"silence" => drop(answer),
            NodeRequest::Control(bytes) => {
                answer.send(NodeReply::Control(
                    [from.name.as_str().as_bytes(), b": ", &bytes]
                        .concat()
                        .into(),
                ));
            }
            NodeRequest::FetchCode { .. } => {
                answer.send(NodeReply::Code(Some(vec![7; 20 << 20].into())))
            }
            _ => {}
        }
    }
    fn node_up(&self, _: Incarnation, _: NodeEvent) {
        let _ = self.seen.send(Seen::Up);
    }
    fn node_down(&self, _: Incarnation, event: NodeEvent) {
        let _ = self.seen.send(Seen::Down(event.node, event.reason));
    }
    fn registered(&self, tag: Ref, _: Pid, result: Result<(), RegisterError>) {
        let _ = self.seen.send(Seen::Registered(tag, result));
    }
    fn name_conflict(&self, loser: Pid, name: String, holder: Pid) {
        let _ = self.seen.send(Seen::Conflict(loser, name, holder));
    }
}

struct Node {
    dist: Dist,
    host: Arc<TestHost>,
    seen: mpsc::UnboundedReceiver<Seen>,
}

impl Node {
    async fn try_start(config: DistConfig) -> Result<Self, StartError> {
        let (sender, seen) = mpsc::unbounded_channel();
        let host = Arc::new(TestHost {
            seen: sender,
            full: AtomicBool::new(false),
            stalled: Mutex::new(()),
            signals: watch::Sender::new(0),
            quiet: AtomicBool::new(false),
            bytes: AtomicUsize::new(0),
        });
        Ok(Self {
            dist: Dist::start(config, host.clone()).await?,
            host,
            seen,
        })
    }

    async fn start(config: DistConfig) -> Self {
        Self::try_start(config).await.unwrap()
    }

    fn incarnation(&self) -> Incarnation {
        self.dist.incarnation_of(self.dist.name()).unwrap()
    }

    fn pid(&self, serial: u64) -> Pid {
        Pid {
            node: self.incarnation(),
            serial,
        }
    }

    fn tag(&self, serial: u64) -> Ref {
        Ref {
            node: self.incarnation(),
            serial,
        }
    }

    fn names(&self, which: NodeSet) -> Vec<String> {
        self.dist
            .nodes(which)
            .into_iter()
            .map(|(name, ..)| name.alive().into())
            .collect()
    }

    fn send(&self, to: &Node, body: impl Into<Bytes>) -> SendOutcome {
        self.dist.send(
            to.incarnation(),
            &Target::Pid(to.pid(1)),
            &Signal::Info(body.into()),
        )
    }

    /// The next thing that is not a node coming up.
    async fn next(&mut self) -> Seen {
        loop {
            match tokio::time::timeout(PATIENCE, self.seen.recv())
                .await
                .expect("nothing came")
                .unwrap()
            {
                Seen::Up => {}
                other => return other,
            }
        }
    }

    async fn down(&mut self) -> (String, String) {
        loop {
            if let Seen::Down(name, reason) = self.next().await {
                return (name.alive().into(), reason);
            }
        }
    }
}

fn config(name: &str) -> DistConfig {
    let cookie = Cookie::for_tests("chocolate");
    let name: NodeName = format!("{name}@127.0.0.1").parse().unwrap();
    let config = DistConfig::new(name, Incarnation(rand::random::<u64>().max(1)), cookie);
    DistConfig {
        epmd: EpmdMode::Off,
        ..config
    }
}

async fn start(name: &str) -> Node {
    Node::start(config(name)).await
}

async fn connect(from: &Node, to: &Node) -> Result<Incarnation, ConnectError> {
    from.dist
        .connect_address(to.dist.address().unwrap(), false)
        .await
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn stop(nodes: impl IntoIterator<Item = Node>) {
    for node in nodes {
        node.dist.stop().await;
    }
}

#[tokio::test]
async fn connecting_to_one_connects_to_all() {
    let port = free_port().await;
    let with_epmd = |name| DistConfig {
        epmd: EpmdMode::Port(port),
        ..config(name)
    };
    let a = Node::start(with_epmd("a")).await;
    let b = Node::start(with_epmd("b")).await;
    let c = Node::start(with_epmd("c")).await;
    b.dist.connect(a.dist.name()).await.unwrap();
    c.dist.connect(a.dist.name()).await.unwrap();
    until("a full mesh", || {
        [&a, &b, &c]
            .iter()
            .all(|node| node.dist.nodes(NodeSet::Visible).len() == 2)
    })
    .await;
    assert_eq!(b.names(NodeSet::All), ["a", "c"]);
    assert_eq!(
        c.dist.name_of(b.incarnation()).as_ref(),
        Some(b.dist.name())
    );
    assert_eq!(c.dist.number_of(c.incarnation()), Some(0));
    assert_eq!(c.dist.number_of(a.incarnation()), Some(1));
    let unknown = a
        .dist
        .connect(&"nobody@127.0.0.1".parse().unwrap())
        .await
        .unwrap_err();
    assert!(
        unknown.to_string().contains("knows no node \"nobody\""),
        "{unknown}"
    );
    stop([a, b, c]).await;
}

#[tokio::test]
async fn a_taken_name_and_an_exhausted_range_are_named() {
    let port = free_port().await;
    let with_epmd = || DistConfig {
        epmd: EpmdMode::Port(port),
        ..config("a")
    };
    let a = Node::start(with_epmd()).await;
    let error = Node::try_start(with_epmd()).await.err().expect("refused");
    assert!(error.to_string().contains("\"a\" is taken"), "{error}");

    let (_, taken) = a.dist.address().unwrap().rsplit_once(':').unwrap();
    let taken: u16 = taken.parse().unwrap();
    let listen = |ports| {
        Some(Listen {
            host: Ipv4Addr::LOCALHOST.into(),
            ports: Some(ports),
        })
    };
    let error = Node::try_start(DistConfig {
        listen: listen(taken..=taken),
        ..config("b")
    })
    .await
    .err()
    .unwrap();
    assert!(
        matches!(error, StartError::RangeExhausted { .. }),
        "{error}"
    );
    #[allow(clippy::reversed_empty_ranges)]
    let error = Node::try_start(DistConfig {
        listen: listen(9010..=9000),
        ..config("b")
    })
    .await
    .err()
    .unwrap();
    assert!(
        matches!(error, StartError::EmptyRange(9010, 9000)),
        "{error}"
    );
    stop([a]).await;
}

#[tokio::test]
async fn a_wrong_cookie_is_refused_on_both_sides() {
    for security in [Security::Noise, Security::Plaintext] {
        let log = Log::default();
        let _guard = log.install();
        let a = Node::start(DistConfig {
            security,
            ..config("a")
        })
        .await;
        let cookie = Cookie::for_tests("vanilla");
        let b = Node::start(DistConfig {
            security,
            cookie,
            ..config("b")
        })
        .await;
        let error = connect(&b, &a).await.unwrap_err();
        assert!(error.to_string().contains("cookies differ"), "{error}");
        // Both ends say so: this test runs them in one process, so there are two lines.
        until("both sides log it", || log.count("cookies differ") >= 2).await;
        assert!(a.dist.nodes(NodeSet::All).is_empty() && b.dist.nodes(NodeSet::All).is_empty());
        stop([a, b]).await;
    }
}

#[tokio::test]
async fn unlike_nodes_refuse_each_other_with_a_reason() {
    let long = start("a").await;
    let short = Node::start(DistConfig {
        name: "b@localhost".parse().unwrap(),
        ..config("b")
    })
    .await;
    let error = connect(&short, &long).await.unwrap_err();
    assert!(error.to_string().contains("do not mix"), "{error}");
    let plain = Node::start(DistConfig {
        security: Security::Plaintext,
        ..config("c")
    })
    .await;
    let error = connect(&plain, &long).await.unwrap_err();
    assert!(error.to_string().contains("--plaintext"), "{error}");
    let itself = long
        .dist
        .connect_address(long.dist.address().unwrap(), false)
        .await
        .unwrap_err();
    assert!(itself.to_string().contains("itself"), "{itself}");
    let namesake = start("a").await;
    let error = connect(&namesake, &long).await.unwrap_err();
    assert!(error.to_string().contains("another name"), "{error}");
    let nobody = long
        .dist
        .connect_address("127.0.0.1:1", false)
        .await
        .unwrap_err();
    assert!(
        nobody
            .to_string()
            .contains("nothing answers at 127.0.0.1:1"),
        "{nobody}"
    );
    stop([long, short, plain, namesake]).await;
}

#[tokio::test]
async fn messages_keep_their_order_encrypted_and_plain() {
    for security in [Security::Noise, Security::Plaintext] {
        let a = Node::start(DistConfig {
            security,
            ..config("a")
        })
        .await;
        let mut b = Node::start(DistConfig {
            security,
            ..config("b")
        })
        .await;
        assert_eq!(connect(&a, &b).await.unwrap(), b.incarnation());
        for i in 0..3000u32 {
            let mut body = i.to_le_bytes().to_vec();
            // Some of one fragment, some of many.
            body.resize(
                4 + if i % 100 == 0 {
                    200_000
                } else {
                    i as usize % 50
                },
                1,
            );
            while a.send(&b, body.clone()) == SendOutcome::Congested {
                tokio::time::sleep(Duration::from_millis(1)).await;
                body.clear();
                break;
            }
        }
        for i in 0..3000u32 {
            let Seen::Signal(from, to, Signal::Info(body)) = b.next().await else {
                panic!()
            };
            assert_eq!((from, to), (a.incarnation(), Target::Pid(b.pid(1))));
            assert_eq!(body[..4], i.to_le_bytes());
        }
        stop([a, b]).await;
    }
}

#[tokio::test]
async fn simultaneous_dials_leave_one_link() {
    for _ in 0..5 {
        let (mut a, b) = (start("a").await, start("b").await);
        let (one, other) = tokio::join!(connect(&a, &b), connect(&b, &a));
        assert!(one.is_ok() || other.is_ok(), "{one:?} {other:?}");
        until("both up", || {
            a.names(NodeSet::All) == ["b"] && b.names(NodeSet::All) == ["a"]
        })
        .await;
        assert_eq!(b.send(&a, "hi"), SendOutcome::Sent);
        assert!(
            matches!(a.next().await, Seen::Signal(..)),
            "the link stays: no node-down came before"
        );
        stop([a, b]).await;
    }
}

#[tokio::test]
async fn disconnecting_is_seen_on_both_sides_and_lasts() {
    let (mut a, mut b, c) = (start("a").await, start("b").await, start("c").await);
    connect(&a, &b).await.unwrap();
    connect(&c, &a).await.unwrap();
    until("a full mesh", || {
        [&a, &b, &c]
            .iter()
            .all(|node| node.dist.nodes(NodeSet::All).len() == 2)
    })
    .await;
    assert!(a.dist.disconnect(b.dist.name()));
    assert!(!a.dist.disconnect(b.dist.name()), "once is enough");
    assert_eq!(
        a.down().await,
        ("b".into(), "disconnected by a user here".into())
    );
    assert_eq!(
        b.down().await,
        ("a".into(), "disconnected by a user there".into())
    );
    assert_eq!(a.send(&b, "lost"), SendOutcome::NoConnection);
    assert_eq!(a.names(NodeSet::All), ["c"], "other links stay");
    connect(&b, &a).await.expect("until somebody asks");
    stop([a, b, c]).await;
}

#[tokio::test]
async fn a_hidden_node_is_seen_by_its_peer_alone() {
    let (a, b) = (start("a").await, start("b").await);
    connect(&a, &b).await.unwrap();
    let hidden = DistConfig {
        kind: NodeKind::Hidden,
        listen: None,
        ..config("h")
    };
    let mut h = Node::start(hidden).await;
    connect(&h, &a).await.unwrap();
    until("a sees it", || a.names(NodeSet::Hidden) == ["h"]).await;
    assert_eq!(a.names(NodeSet::Visible), ["b"]);
    assert_eq!(a.send(&h, "hi"), SendOutcome::Sent);
    assert!(
        matches!(h.next().await, Seen::Signal(..)),
        "reachable all the same"
    );
    assert_eq!(b.names(NodeSet::All), ["a"]);
    stop([a, b, h]).await;
}

#[tokio::test]
async fn a_silent_peer_is_called_down_at_four_missed_ticks() {
    let tick_time = Duration::from_millis(400);
    let mut a = Node::start(DistConfig {
        tick_time,
        ..config("a")
    })
    .await;
    let b = Node::start(DistConfig {
        tick_time,
        ..config("b")
    })
    .await;
    let (proxy, frozen) = Proxy::start(b.dist.address().unwrap().into()).await;
    a.dist.connect_address(&proxy, false).await.unwrap();
    // Idle, but alive, for many ticks.
    tokio::time::sleep(3 * tick_time).await;
    assert_eq!(a.names(NodeSet::All), ["b"]);
    frozen.send_replace(true);
    let since = Instant::now();
    let (name, reason) = a.down().await;
    let took = since.elapsed();
    assert_eq!(name, "b");
    assert!(reason.contains("four ticks missed"), "{reason}");
    assert!(
        took >= tick_time * 3 / 4 && took < 3 * tick_time,
        "{took:?}"
    );
    stop([a, b]).await;
}

#[tokio::test]
async fn a_large_message_does_not_delay_control_messages() {
    let (mut a, b) = (start("a").await, start("b").await);
    connect(&a, &b).await.unwrap();
    let before = a.host.signals.subscribe();
    // 20 MiB of code, in fragments; a registration passes it on its way.
    let fetch = NodeRequest::FetchCode {
        digest: wasm_node_protocol::Digest([0; 32]),
    };
    let (done, mut fetched) = oneshot::channel();
    a.dist.request_then(b.incarnation(), fetch, move |reply| {
        drop(done.send((reply, Instant::now())))
    });
    a.dist.register("name", a.pid(1), a.tag(1));
    let Seen::Registered(_, Ok(())) = a.next().await else {
        panic!()
    };
    let registered = Instant::now();
    assert_eq!(*before.borrow(), 0);
    let (reply, at) = tokio::time::timeout(PATIENCE, &mut fetched)
        .await
        .unwrap()
        .unwrap();
    let Ok(NodeReply::Code(Some(code))) = reply else {
        panic!()
    };
    assert_eq!(code.len(), 20 << 20);
    assert!(registered < at, "the registration waited for the code");
    stop([a, b]).await;
}

#[tokio::test]
async fn requests_are_answered_or_fail() {
    let (a, b) = (start("a").await, start("b").await);
    connect(&a, &b).await.unwrap();
    let ask = |words: &'static str, ms| {
        let request = NodeRequest::Control(words.into());
        a.dist
            .request(b.incarnation(), request, Duration::from_millis(ms))
    };
    assert_eq!(
        ask("hello", 5000).await,
        Ok(NodeReply::Control("a@127.0.0.1: hello".into()))
    );
    assert_eq!(ask("silence", 50).await, Err(RequestError::Timeout));
    let (waiting, ()) = tokio::join!(ask("silence", 20_000), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        b.dist.stop().await;
    });
    assert_eq!(
        waiting,
        Err(RequestError::NoConnection),
        "the link's end ends the wait"
    );
    assert_eq!(ask("hello", 5000).await, Err(RequestError::NoConnection));
    stop([a]).await;
}

#[tokio::test]
async fn stopping_in_order_delivers_what_was_sent() {
    let (a, mut b) = (start("a").await, start("b").await);
    connect(&a, &b).await.unwrap();
    for _ in 0..1000 {
        assert_eq!(a.send(&b, vec![1; 1000]), SendOutcome::Sent);
    }
    a.dist.stop().await;
    for _ in 0..1000 {
        assert!(matches!(b.next().await, Seen::Signal(..)));
    }
    assert_eq!(b.down().await, ("a".into(), "the node was stopped".into()));
    stop([b]).await;
}

#[tokio::test]
async fn one_of_three_wins_a_global_name() {
    let mut nodes = [start("a").await, start("b").await, start("c").await];
    connect(&nodes[1], &nodes[0]).await.unwrap();
    connect(&nodes[2], &nodes[0]).await.unwrap();
    until("a full mesh", || {
        nodes
            .iter()
            .all(|node| node.dist.nodes(NodeSet::All).len() == 2)
    })
    .await;
    for round in 0..20 {
        let name = format!("name{round}");
        for node in &nodes {
            node.dist.register(&name, node.pid(round), node.tag(round));
        }
        let mut winners = Vec::new();
        let mut told = Vec::new();
        for node in &mut nodes {
            match node.next().await {
                Seen::Registered(tag, Ok(())) if tag == node.tag(round) => {
                    winners.push(node.pid(round))
                }
                Seen::Registered(tag, Err(RegisterError::Taken(holder)))
                    if tag == node.tag(round) =>
                {
                    told.push(holder)
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert_eq!(told, [winners[0], winners[0]], "the others learn who won");
        until("all know", || {
            nodes
                .iter()
                .all(|node| node.dist.whereis(&name) == Some(winners[0]))
        })
        .await;
        let holder = nodes
            .iter()
            .find(|node| node.incarnation() == winners[0].node)
            .unwrap();
        if round % 2 == 0 {
            assert!(holder.dist.unregister(&name));
        } else {
            holder.dist.actor_gone(winners[0]);
        }
        assert_eq!(holder.dist.whereis(&name), None, "at once here");
        until("none has it", || {
            nodes.iter().all(|node| node.dist.whereis(&name).is_none())
        })
        .await;
    }
    stop(nodes).await;
}

#[tokio::test]
async fn two_holders_that_meet_leave_one() {
    let mut nodes = [start("a").await, start("b").await];
    for node in &mut nodes {
        node.dist.register("name", node.pid(1), node.tag(1));
        assert!(matches!(node.next().await, Seen::Registered(_, Ok(()))));
    }
    connect(&nodes[0], &nodes[1]).await.unwrap();
    let [a, b] = &mut nodes;
    let told = tokio::select! { told = a.next() => told, told = b.next() => told };
    let Seen::Conflict(loser, name, holder) = told else {
        panic!("{told:?}")
    };
    assert_eq!((name.as_str(), loser.serial, holder.serial), ("name", 1, 1));
    assert_ne!(loser, holder);
    until("both know", || {
        nodes
            .iter()
            .all(|node| node.dist.whereis("name") == Some(holder))
    })
    .await;
    stop(nodes).await;
}

#[tokio::test]
async fn names_and_members_go_with_their_node() {
    let (mut a, b) = (start("a").await, start("b").await);
    a.dist.register("early", a.pid(1), a.tag(1));
    assert!(matches!(a.next().await, Seen::Registered(_, Ok(()))));
    a.dist.join("group", a.pid(1)).unwrap();
    assert_eq!(a.dist.members("group"), [a.pid(1)], "at once here");
    connect(&a, &b).await.unwrap();
    b.dist.join("group", b.pid(2)).unwrap();
    b.dist.join("group", b.pid(2)).unwrap();
    until("b knows", || {
        b.dist.whereis("early") == Some(a.pid(1)) && b.dist.members("group").len() == 3
    })
    .await;
    until("a knows", || a.dist.members("group").len() == 3).await;
    assert_eq!(b.dist.local_members("group"), [b.pid(2), b.pid(2)]);
    assert!(b.dist.leave("group", b.pid(2)));
    until("a knows", || a.dist.members("group").len() == 2).await;
    a.dist.stop().await;
    until("gone", || {
        b.dist.whereis("early").is_none() && b.dist.members("group") == [b.pid(2)]
    })
    .await;
    b.dist.actor_gone(b.pid(2));
    assert!(b.dist.groups().is_empty() && !b.dist.leave("group", b.pid(2)));
    stop([b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_queue_to_a_stalled_reader_is_bounded() {
    let (a, b) = (start("a").await, start("b").await);
    connect(&a, &b).await.unwrap();
    b.host.quiet.store(true, Ordering::Relaxed);
    let body = Bytes::from(vec![7; 1 << 20]);
    let host = b.host.clone();
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let (ready, is_ready) = oneshot::channel();
    // Deliveries wait for this thread.
    let staller = std::thread::spawn(move || {
        let _guard = host.stalled.lock();
        let _ = ready.send(());
        let _ = held.recv();
    });
    is_ready.await.unwrap();
    let mut sent = 0;
    // Until the system's buffers are full too, and what is queued stays queued.
    while a.dist.queued_bytes(b.incarnation()) <= PEER_QUEUE_HIGH_BYTES {
        match a.send(&b, body.clone()) {
            SendOutcome::Sent => {}
            SendOutcome::Congested => tokio::time::sleep(Duration::from_millis(50)).await,
            other => panic!("{other:?}"),
        }
        sent += 1;
        assert!(sent < 1000, "never congested");
    }
    let queued = a.dist.queued_bytes(b.incarnation());
    assert!(queued <= PEER_QUEUE_HIGH_BYTES + (2 << 20), "{queued}");
    let waiter = std::thread::spawn({
        let (dist, node) = (a.dist.clone(), b.incarnation());
        move || {
            assert!(
                !dist.wait_for_room(node, Duration::from_millis(50)),
                "no room while it stalls"
            );
            drop(hold);
            assert!(dist.wait_for_room(node, PATIENCE), "room when it goes on");
        }
    });
    tokio::task::spawn_blocking(move || (waiter.join().unwrap(), staller.join().unwrap()))
        .await
        .unwrap();
    until("all arrives", || {
        b.host.bytes.load(Ordering::Relaxed) == sent << 20
    })
    .await;
    stop([a, b]).await;
}

#[tokio::test]
async fn an_overfull_mailbox_slows_its_sender_not_its_ticks() {
    let tick_time = Duration::from_millis(200);
    let mut a = Node::start(DistConfig {
        tick_time,
        ..config("a")
    })
    .await;
    let b = Node::start(DistConfig {
        tick_time,
        ..config("b")
    })
    .await;
    connect(&a, &b).await.unwrap();
    b.host.quiet.store(true, Ordering::Relaxed);
    b.host.full.store(true, Ordering::Relaxed);
    let since = Instant::now();
    let mut congested = false;
    while since.elapsed() < 5 * tick_time {
        congested |= a.send(&b, vec![0; 200_000]) == SendOutcome::Congested;
        if congested {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert!(congested, "reading has slowed down");
    assert_eq!(a.names(NodeSet::All), ["b"], "and the link is up");
    while let Ok(seen) = a.seen.try_recv() {
        assert!(!matches!(seen, Seen::Down(..)), "{seen:?}");
    }
    stop([a, b]).await;
}

/// Strangers: bytes that are no handshake, in all stages, harm nobody.
#[tokio::test]
async fn garbage_is_closed_and_the_node_lives_on() {
    let (a, b) = (start("a").await, start("b").await);
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"WASMNODN\xff\xff",
        b"WASMNODN\x00\x30",
        b"WASMNODN\x00\x00",
        b"",
    ] {
        let mut stream = TcpStream::connect(a.dist.address().unwrap()).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .expect("closed");
        assert!(answer.len() <= 10, "{answer:?}");
    }
    connect(&b, &a).await.unwrap();
    stop([a, b]).await;
}

#[tokio::test]
async fn a_lost_node_is_found_again() {
    let mut a = start("a").await;
    let b = start("b").await;
    let (proxy, frozen) = Proxy::start(b.dist.address().unwrap().into()).await;
    a.dist.connect_address(&proxy, false).await.unwrap();
    drop(frozen);
    assert_eq!(a.down().await.0, "b");
    until("redialled at the address it told", || {
        a.names(NodeSet::All) == ["b"]
    })
    .await;
    stop([a, b]).await;
}

/// A cable that can be frozen (`true`) or cut (drop the sender).
struct Proxy;

impl Proxy {
    async fn start(to: String) -> (String, watch::Sender<bool>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, mut frozen) = watch::channel(false);
        tokio::spawn(async move {
            let (mut here, _) = listener.accept().await.unwrap();
            let mut there = TcpStream::connect(to).await.unwrap();
            tokio::select! {
                _ = copy_bidirectional(&mut here, &mut there) => {}
                frozen = frozen.changed() => {
                    if frozen.is_ok() {
                        // Held open, in silence, until the test ends.
                        std::future::pending::<()>().await;
                    }
                }
            }
        });
        (address, sender)
    }
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn install(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || log.clone())
            .with_ansi(false)
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn count(&self, words: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock())
            .matches(words)
            .count()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

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
use wasm_node_protocol::global::{Conflict, Resolver, Wish};
use wasm_node_protocol::groups::GroupEvent;
use wasm_node_protocol::handshake::{Dialling, Hello};
use wasm_node_protocol::{
    Incarnation, NodeEvent, NodeKind, NodeName, Pid, Ref, RegisterError, Signal, Target,
};

use super::epmd::tests::free_port;
use super::transport::{Introduced, Role};
use super::*;

mod cluster;
mod cookies;
mod lookout;
mod names;
mod traffic;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, PartialEq)]
enum Seen {
    Signal(Incarnation, Target, Signal),
    Up,
    Down(NodeName, String),
    Registered(Ref, Result<(), RegisterError>),
    Conflict(Pid, String, Pid),
    Group(Pid, Ref, GroupEvent),
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
    fn name_conflict(&self, conflict: Conflict) {
        let Conflict {
            name,
            loser,
            holder,
            ..
        } = conflict;
        let _ = self.seen.send(Seen::Conflict(loser, name, holder));
    }
    fn resolve(&self, _: Dispute) {}
    fn group_told(&self, watcher: Pid, monitor: Ref, event: GroupEvent) {
        let _ = self.seen.send(Seen::Group(watcher, monitor, event));
    }
}

struct Node {
    dist: Dist,
    host: Arc<TestHost>,
    seen: mpsc::UnboundedReceiver<Seen>,
}

impl Node {
    fn register(&self, name: &str, pid: Pid, tag: Ref) {
        let wish = Wish::Name {
            name: name.into(),
            replace: false,
            resolver: Resolver::default(),
        };
        self.dist.claim(pid, wish, tag);
    }

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

    /// The next thing that an actor hears of groups.
    async fn next_group(&mut self) -> Seen {
        loop {
            let seen = self.next().await;
            if matches!(seen, Seen::Group(..)) {
                return seen;
            }
        }
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

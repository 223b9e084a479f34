//! `wasm-node bench`: the work of `shared/peers/beam_bench.erl`, with wasm actors.
//!
//! Owns what is asked of the driver actor (module `bench`, which does all of it inside wasm)
//! and how its nanoseconds become lines `NAME VALUE UNIT`. Does not measure anything itself
//! but the memory of idle actors.

use std::time::Duration;

use bytes::Bytes;
use wasm_node_protocol::{CallError, Destination, NodeName, Pid, SpawnError};

use crate::node::{Node, NodeConfig, NodeError};
use crate::process::Native;
use crate::wasm::max_actors;

/// How often each figure but the last is measured, as on the Erlang side.
const ROUNDS: u32 = 3;

/// The longest that one measurement may take.
const MEASUREMENT_TIMEOUT: Duration = Duration::from_secs(600);

const LOCAL_MESSAGES: u64 = 300_000;
const LOCAL_SPAWNS: u64 = LOCAL_MESSAGES / 3;
const RING_ACTORS: u64 = 1_000;
const RING_ROUNDS: u64 = 100;
const FIBONACCI_OF: u64 = 30;
const IDLE_ACTORS: u64 = 100_000;
const REMOTE_CALLS: u64 = 20_000;
const REMOTE_MESSAGES: u64 = 500_000;
const SMALL_BYTES: u64 = 16;
const BIG_MESSAGES: u64 = 500;
const BIG_BYTES: u64 = 1 << 20;
const GLOBAL_NAMES: u64 = 1_000;

/// Why a benchmark gave no figure.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The node for it did not start.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The peer cannot be reached.
    #[error("{0}")]
    Peer(#[from] crate::dist::ConnectError),
    /// The module `bench` cannot be used.
    #[error("cannot load the module bench: {0}")]
    Module(String),
    /// The driver did not start.
    #[error("the driver did not start: {0}")]
    Spawn(#[from] SpawnError),
    /// The driver did not answer.
    #[error("{0}: {1}")]
    Call(String, CallError),
    /// The driver says that it cannot.
    #[error("{0}: {1}")]
    Refused(String, String),
}

/// A node with a driver actor on it.
struct Bench {
    node: Node,
    native: Native,
    driver: Pid,
}

/// What one actor alone, or many on one node, can do. `module` is the component of
/// `actors/bench`.
pub async fn local(config: NodeConfig, module: Bytes) -> Result<(), BenchError> {
    let mut bench = Bench::start(config, module).await?;
    for _ in 0..ROUNDS {
        let n = LOCAL_MESSAGES;
        let ns = bench.ask(&format!("pingpong {n}")).await?;
        say("local_call", ns / n as f64, "ns/roundtrip");
        let ns = bench.ask(&format!("flood {n} {SMALL_BYTES}")).await?;
        say("local_send", ns / n as f64, "ns/message");
        let n = LOCAL_SPAWNS;
        let ns = bench.ask(&format!("spawn {n}")).await?;
        say("spawn", ns / n as f64, "ns/actor");
        let ns = bench
            .ask(&format!("ring {RING_ACTORS} {RING_ROUNDS}"))
            .await?;
        say(
            "ring",
            ns / (RING_ACTORS + 1) as f64 / RING_ROUNDS as f64,
            "ns/hop",
        );
        let ns = bench.ask(&format!("compute {FIBONACCI_OF}")).await?;
        say("compute", ns / 1e6, &format!("ms/fib{FIBONACCI_OF}"));
    }
    bench.idle().await?;
    bench.node.stop().await;
    Ok(())
}

/// What crosses a link to `peer` costs.
pub async fn remote(config: NodeConfig, module: Bytes, peer: &NodeName) -> Result<(), BenchError> {
    let mut bench = Bench::start(config, module).await?;
    bench.node.dist().connect(peer).await?;
    for _ in 0..ROUNDS {
        let n = REMOTE_CALLS;
        let ns = bench.ask(&format!("pingpong {n} {peer}")).await?;
        say("remote_call", ns / n as f64, "ns/roundtrip");
        let n = REMOTE_MESSAGES;
        let ns = bench
            .ask(&format!("flood {n} {SMALL_BYTES} {peer}"))
            .await?;
        say("remote_send", ns / n as f64, "ns/message");
        let n = REMOTE_CALLS;
        let ns = bench.ask(&format!("spawn {n} {peer}")).await?;
        say("remote_spawn", ns / n as f64, "ns/actor");
        let ns = bench
            .ask(&format!("flood {BIG_MESSAGES} {BIG_BYTES} {peer}"))
            .await?;
        say(
            "remote_throughput",
            (BIG_MESSAGES * BIG_BYTES) as f64 * 1e3 / ns,
            "MB/s",
        );
        let n = GLOBAL_NAMES;
        let ns = bench.ask(&format!("global_register {n}")).await?;
        say("global_register", ns / n as f64, "ns/name");
        let ns = bench.ask(&format!("global_whereis {n}")).await?;
        say("global_whereis", ns / n as f64, "ns/name");
        bench.tell("global_stop").await?;
    }
    bench.node.stop().await;
    Ok(())
}

impl Bench {
    async fn start(config: NodeConfig, module: Bytes) -> Result<Self, BenchError> {
        let node = Node::start(config).await?;
        node.load_module("bench", module)
            .await
            .map_err(|error| BenchError::Module(error.to_string()))?;
        let driver = node.spawn("bench", Vec::new())?;
        let native = Native::spawn(node.runtime(), "bench")?;
        Ok(Self {
            node,
            native,
            driver,
        })
    }

    /// The nanoseconds that the driver measured.
    async fn ask(&mut self, request: &str) -> Result<f64, BenchError> {
        let answer = self.tell(request).await?;
        answer
            .parse()
            .map_err(|_| BenchError::Refused(request.into(), answer))
    }

    async fn tell(&mut self, request: &str) -> Result<String, BenchError> {
        let body = Bytes::from(request.to_owned());
        let to = Destination::Pid(self.driver);
        let answer = self.native.call(&to, body, MEASUREMENT_TIMEOUT).await;
        let answer = answer.map_err(|error| BenchError::Call(request.into(), error))?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Idle actors: as many as the node takes, up to the Erlang side's number.
    async fn idle(&mut self) -> Result<(), BenchError> {
        let room = max_actors().saturating_sub(self.node.runtime().count()) as u64;
        let actors = IDLE_ACTORS.min(room);
        if actors < IDLE_ACTORS {
            eprintln!(
                "idle_actor: {actors} actors instead of {IDLE_ACTORS}, what vm.max_map_count allows"
            );
        }
        let before = private_bytes();
        let ns = self.ask(&format!("idle {actors}")).await?;
        let grown = private_bytes().saturating_sub(before);
        say(
            "idle_actor",
            grown as f64 / actors as f64 / 1024.0,
            "KiB/actor",
        );
        say("idle_spawn", ns / actors as f64, "ns/actor");
        self.tell("idle_stop").await?;
        Ok(())
    }
}

fn say(name: &str, value: f64, unit: &str) {
    println!("{name} {value:.1} {unit}");
}

/// This process' private memory, page tables included where the kernel tells.
fn private_bytes() -> u64 {
    let kib = |text: &str, key: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .unwrap_or(0)
    };
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let private = kib(&rollup, "Private_Clean:") + kib(&rollup, "Private_Dirty:");
    (private + kib(&status, "VmPTE:")) * 1024
}

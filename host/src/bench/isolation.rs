//! Actors that misbehave, and how their neighbours fare: calls between two well-behaved actors
//! meanwhile, the time from a `kill` to a rogue's death, and a link that must stay up.
//!
//! A part of the program and not of the tests, since it asks from inside the node: a command's
//! own start, handshake and key derivation would be larger than what is measured.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use wasm_node_protocol::{Destination, Pid};

use super::child::Program;
use super::rig::{BenchError, Rig, load};
use super::{say, say_latencies};
use crate::node::{Node, NodeConfig};
use crate::process::{Message, Native};

/// Between two calls, in milliseconds.
const CALL_PAUSE_MS: u64 = 1;
/// Rogues begin 50 ms after their start.
const ROGUES_BEGIN: Duration = Duration::from_millis(150);

/// The components of `tests/actors`.
#[derive(Clone, Debug)]
pub struct Rogues {
    /// `rogue`: synchronous turns.
    pub plain: Bytes,
    /// `rogue-wasi`: a stack of its own.
    pub wasi: Bytes,
}

/// How to measure.
#[derive(Clone, Debug)]
pub struct IsolationOptions {
    /// What this node's and the peer's cookie was made from.
    pub cookie: String,
    /// How many of each kind there are at once; more than lanes, so that each lane meets one.
    pub rogues_each: usize,
    /// How long calls are watched for each kind.
    pub watched: Duration,
    /// For the peer's data; the caller removes it.
    pub folder: PathBuf,
}

/// One kind of misbehaviour: its name in the lines, its module, its arguments.
type Kind = (&'static str, &'static str, &'static str);

/// They go on until they are killed.
const ENDLESS: [Kind; 4] = [
    ("spin", "rogue", "quietly spin"),
    ("fill", "rogue", "quietly fill"),
    ("wasi_spin", "rogue-wasi", "spin"),
    ("wasi_sleep", "rogue-wasi", "sleep"),
];

/// They end by their own doing; another takes the place of each at once.
const CRASHING: [Kind; 5] = [
    ("recurse", "rogue", "quietly recurse"),
    ("divide", "rogue", "quietly divide"),
    ("exhaust", "rogue", "quietly grow"),
    ("exit", "rogue", "quietly exit"),
    ("wasi_exit", "rogue-wasi", "exit"),
];

/// Watches neighbours beside no rogue, beside each kind, and beside all kinds at once. `module`
/// is the component of `actors/bench`.
pub async fn isolation(
    config: NodeConfig,
    module: Bytes,
    rogues: Rogues,
    options: &IsolationOptions,
) -> Result<(), BenchError> {
    let name = format!("beside-{}@127.0.0.1", std::process::id());
    let program = Program::this(&options.cookie)?;
    let peer = program.node(&name, &options.folder, None).await?;
    let mut rig = Rig::start(config, module).await?;
    load(&rig.node, "rogue", rogues.plain).await?;
    load(&rig.node, "rogue-wasi", rogues.wasi).await?;
    rig.node.dist().connect_address(&peer.listen, true).await?;
    rig.driver.tell("watch_nodes").await?;

    rig.beside("none", &[], &[], options).await?;
    for kind in ENDLESS {
        rig.beside(kind.0, &[kind], &[], options).await?;
    }
    for kind in CRASHING {
        rig.beside(kind.0, &[], &[kind], options).await?;
    }
    rig.beside("all", &ENDLESS, &CRASHING, options).await?;
    let downs = rig.driver.ask("downs").await?;
    say("isolation_links_lost", downs, "links");
    rig.node.stop().await;
    peer.stop().await
}

impl Rig {
    async fn beside(
        &mut self,
        name: &str,
        endless: &[Kind],
        crashing: &[Kind],
        options: &IsolationOptions,
    ) -> Result<(), BenchError> {
        let Rig { node, driver } = self;
        let say = |what: &str, value, unit| say(&format!("isolation_{name}_{what}"), value, unit);
        let mut endless_ones = Vec::new();
        for &(of_kind, module, args) in endless {
            for _ in 0..options.rogues_each {
                endless_ones.push((of_kind, node.spawn(module, args.as_bytes().to_vec())?));
            }
        }
        tokio::time::sleep(ROGUES_BEGIN).await;
        let ms = options.watched.as_millis();
        let request = format!("latency {ms} {CALL_PAUSE_MS}");
        let mut crashes = 0;
        let numbers = tokio::select! {
            numbers = driver.ask_numbers(&request) => numbers?,
            error = crash(node, crashing, options.rogues_each, &mut crashes) => return Err(error),
        };
        say_latencies(&format!("isolation_{name}"), numbers);
        if !crashing.is_empty() {
            say("crashes", f64::from(crashes), "actors");
        }
        // In an order that takes turns among the kinds: each has others beside it when it dies.
        for nth in 0..options.rogues_each {
            for (of_kind, pid) in endless_ones.iter().skip(nth).step_by(options.rogues_each) {
                let ns = driver
                    .ask(&format!("kill {} {}", pid.node.0, pid.serial))
                    .await?;
                say(&format!("kill_{of_kind}"), ns / 1e6, "ms");
            }
        }
        self.until_alone().await;
        Ok(())
    }
}

/// Keeps rogues that end by themselves coming, for as long as it is polled.
async fn crash(node: &Node, kinds: &[Kind], each: usize, crashes: &mut u32) -> BenchError {
    let mut native = match Native::spawn(node.runtime(), "bench") {
        Ok(native) => native,
        Err(error) => return error.into(),
    };
    let mut places = Vec::new();
    for &kind in kinds {
        for _ in 0..each {
            match spawn_watched(node, &native, kind) {
                Ok(pid) => places.push((pid, kind)),
                Err(error) => return error,
            }
        }
    }
    loop {
        let pid = match native.receive().await {
            Some(Message::Down { pid, .. }) => pid,
            Some(_) => continue,
            None => return BenchError::Child("this one is stopping".into()),
        };
        let Some(place) = places.iter_mut().find(|place| place.0 == pid) else {
            continue;
        };
        *crashes += 1;
        match spawn_watched(node, &native, place.1) {
            Ok(pid) => place.0 = pid,
            Err(error) => return error,
        }
    }
}

fn spawn_watched(node: &Node, native: &Native, kind: Kind) -> Result<Pid, BenchError> {
    let (_, module, args) = kind;
    let pid = node.spawn(module, args.as_bytes().to_vec())?;
    node.runtime()
        .monitor(native.process(), &Destination::Pid(pid));
    Ok(pid)
}

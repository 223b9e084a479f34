//! Two nodes: what crosses the link between them costs.

use std::time::{Duration, Instant};

use bytes::Bytes;
use wasm_node_protocol::codec::NodeRequest;
use wasm_node_protocol::{NodeName, Pid, Signal, Target};

use super::rig::{BenchError, Rig};
use super::say;
use crate::dist::NodeSet;
use crate::node::NodeConfig;

const CALLS: u64 = 20_000;
const MESSAGES: u64 = 500_000;
const MESSAGE_BYTES: u64 = 16;
const BIG_MESSAGES: u64 = 500;
const BIG_BYTES: u64 = 1 << 20;
const GLOBAL_NAMES: u64 = 1_000;
/// Two of these are 100 MB, as a message may not be.
const BULK_BYTES: usize = 50_000_000;
const BULK_ROUNDS: usize = 10;
/// How long all nodes that are to be there may take to connect.
const MESH_TIMEOUT: Duration = Duration::from_secs(120);
const MESH_POLL: Duration = Duration::from_millis(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// What can be measured with a peer.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
#[value(rename_all = "snake_case")]
pub enum RemoteFigure {
    /// A round trip between actors of two nodes.
    RemoteCall,
    /// A message one way.
    RemoteSend,
    /// An actor made on the other node, its message and its end.
    RemoteSpawn,
    /// Messages of 1 MiB.
    RemoteThroughput,
    /// The slowest round trip of many beside a message of 100 MB to the same node.
    PingBesideBulk,
    /// A name for the whole cluster.
    GlobalRegister,
    /// A look-up of one; comes with names that are registered first.
    GlobalWhereis,
}

/// Measures these figures, in this order, so many times over. `module` is the component of
/// `actors/bench`. Begins when so many other nodes are connected.
pub async fn remote(
    config: NodeConfig,
    module: Bytes,
    peer: &NodeName,
    nodes: usize,
    figures: &[RemoteFigure],
    rounds: u32,
) -> Result<(), BenchError> {
    let mut rig = Rig::start(config, module).await?;
    rig.node.dist().connect(peer).await?;
    rig.until_connected(nodes).await?;
    let globals = [RemoteFigure::GlobalRegister, RemoteFigure::GlobalWhereis];
    for _ in 0..rounds {
        for figure in figures {
            rig.remote_figure(*figure, peer).await?;
        }
        // The second needs the first's names, so they go together.
        if globals.iter().any(|global| figures.contains(global)) {
            rig.global_figures(figures).await?;
        }
    }
    rig.node.stop().await;
    Ok(())
}

impl Rig {
    /// Waits until so many visible nodes are connected.
    async fn until_connected(&self, nodes: usize) -> Result<(), BenchError> {
        let connected = || self.node.dist().nodes(NodeSet::Visible).len();
        let all = async {
            while connected() < nodes {
                tokio::time::sleep(MESH_POLL).await;
            }
        };
        let waited = tokio::time::timeout(MESH_TIMEOUT, all).await;
        waited.map_err(|_| {
            let words = format!("{} of {nodes} nodes are connected", connected());
            BenchError::Refused("mesh".into(), words)
        })
    }

    async fn remote_figure(
        &mut self,
        figure: RemoteFigure,
        peer: &NodeName,
    ) -> Result<(), BenchError> {
        match figure {
            RemoteFigure::RemoteCall => {
                let ns = self.driver.ask(&format!("pingpong {CALLS} {peer}")).await?;
                say("remote_call", ns / CALLS as f64, "ns/roundtrip");
            }
            RemoteFigure::RemoteSend => {
                let request = format!("flood {MESSAGES} {MESSAGE_BYTES} {peer}");
                let ns = self.driver.ask(&request).await?;
                say("remote_send", ns / MESSAGES as f64, "ns/message");
            }
            RemoteFigure::RemoteSpawn => {
                let ns = self.driver.ask(&format!("spawn {CALLS} {peer}")).await?;
                say("remote_spawn", ns / CALLS as f64, "ns/actor");
            }
            RemoteFigure::RemoteThroughput => {
                let request = format!("flood {BIG_MESSAGES} {BIG_BYTES} {peer}");
                let ns = self.driver.ask(&request).await?;
                let bytes = (BIG_MESSAGES * BIG_BYTES) as f64;
                say("remote_throughput", bytes * 1e3 / ns, "MB/s");
            }
            RemoteFigure::PingBesideBulk => {
                let slowest = self.ping_beside_bulk(peer).await?;
                say("ping_beside_bulk", slowest.as_secs_f64() * 1e3, "ms");
            }
            // See `global_figures`.
            RemoteFigure::GlobalRegister | RemoteFigure::GlobalWhereis => {}
        }
        Ok(())
    }

    /// The slowest round trip while 100 MB are under way, as two messages of two senders.
    async fn ping_beside_bulk(&self, peer: &NodeName) -> Result<Duration, BenchError> {
        let dist = self.node.dist();
        let there = dist.connect(peer).await?;
        let body = Bytes::from(vec![7; BULK_BYTES]);
        let mut slowest = Duration::ZERO;
        for _ in 0..BULK_ROUNDS {
            for serial in [1, 2] {
                let [from, to] = [dist.incarnation_of(dist.name()), Some(there)]
                    .map(|node| node.map(|node| Pid { node, serial }));
                // To nobody: what is measured is the way.
                let Some(to) = to else { continue };
                dist.send_from(from, there, &Target::Pid(to), &Signal::Info(body.clone()));
            }
            while dist.queued_bytes(there) > 0 {
                let begun = Instant::now();
                let pong = dist.request(there, NodeRequest::Ping, PING_TIMEOUT).await;
                pong.map_err(|error| BenchError::Refused("ping".into(), error.to_string()))?;
                slowest = slowest.max(begun.elapsed());
            }
        }
        Ok(slowest)
    }

    async fn global_figures(&mut self, figures: &[RemoteFigure]) -> Result<(), BenchError> {
        let names = GLOBAL_NAMES;
        let ns = self.driver.ask(&format!("global_register {names}")).await?;
        if figures.contains(&RemoteFigure::GlobalRegister) {
            say("global_register", ns / names as f64, "ns/name");
        }
        if figures.contains(&RemoteFigure::GlobalWhereis) {
            let ns = self.driver.ask(&format!("global_whereis {names}")).await?;
            say("global_whereis", ns / names as f64, "ns/name");
        }
        self.driver.tell("global_stop").await?;
        Ok(())
    }
}

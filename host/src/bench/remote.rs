//! Two nodes: what crosses the link between them costs.

use bytes::Bytes;
use wasm_node_protocol::NodeName;

use super::rig::{BenchError, Rig};
use super::say;
use crate::node::NodeConfig;

const CALLS: u64 = 20_000;
const MESSAGES: u64 = 500_000;
const MESSAGE_BYTES: u64 = 16;
const BIG_MESSAGES: u64 = 500;
const BIG_BYTES: u64 = 1 << 20;
const GLOBAL_NAMES: u64 = 1_000;

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
    /// A name for the whole cluster.
    GlobalRegister,
    /// A look-up of one; comes with names that are registered first.
    GlobalWhereis,
}

/// Measures these figures, in this order, so many times over. `module` is the component of
/// `actors/bench`.
pub async fn remote(
    config: NodeConfig,
    module: Bytes,
    peer: &NodeName,
    figures: &[RemoteFigure],
    rounds: u32,
) -> Result<(), BenchError> {
    let mut rig = Rig::start(config, module).await?;
    rig.node.dist().connect(peer).await?;
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
            // See `global_figures`.
            RemoteFigure::GlobalRegister | RemoteFigure::GlobalWhereis => {}
        }
        Ok(())
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

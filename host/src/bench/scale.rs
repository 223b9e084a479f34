//! How far it goes: messages per second by worker threads and by live actors, and idle actors
//! beyond what the kernel has mappings for.
//!
//! What the node does about too many actors it says itself, in its log.

use std::time::Duration;

use bytes::Bytes;

use super::local::made;
use super::memory::{mappings, private_bytes};
use super::rig::{BenchError, Rig};
use super::say;
use crate::node::NodeConfig;

/// How long idle actors are left alone before they are measured again: a node that frees what
/// they do not need has had the time for it.
const REST: Duration = Duration::from_secs(5);

/// What to measure.
#[derive(Clone, Debug)]
pub struct ScaleOptions {
    /// How many worker threads the node has; part of the lines' names.
    pub workers: u16,
    /// Numbers of actors that pass messages at once.
    pub actors: Vec<u64>,
    /// How many messages each of those passes in all.
    pub messages: u64,
    /// How often each is measured.
    pub rounds: u32,
}

/// Messages per second among so many actors. `module` is the component of `actors/bench`.
pub async fn scale(
    config: NodeConfig,
    module: Bytes,
    options: &ScaleOptions,
) -> Result<(), BenchError> {
    let mut rig = Rig::start(config, module).await?;
    for &actors in &options.actors {
        let name = format!("scale_workers_{}_actors_{actors}", options.workers);
        // Each ball is passed at least twice.
        let messages = options.messages.max(actors);
        for _ in 0..options.rounds {
            match rig
                .driver
                .ask_numbers(&format!("mesh {actors} {messages}"))
                .await
            {
                Ok([passed, ns]) => say(&name, passed as f64 * 1e9 / ns as f64, "messages/s"),
                Err(BenchError::Refused(_, words)) => {
                    eprintln!("{name}: no figure: {words}");
                    break;
                }
                Err(error) => return Err(error),
            }
            rig.until_alone().await;
        }
        rig.until_alone().await;
    }
    rig.node.stop().await;
    Ok(())
}

/// So many idle actors: what they take, at once and after a rest, and how long each takes to
/// answer then. Once a process: what a node keeps of actors that ended would count for the next.
pub async fn scale_idle(config: NodeConfig, module: Bytes, wanted: u64) -> Result<(), BenchError> {
    let mut rig = Rig::start(config, module).await?;
    let before = private_bytes();
    let request = format!("idle {wanted}");
    let answer = rig.driver.tell(&request).await?;
    let Some((actors, ns, why)) = made(&answer) else {
        return Err(BenchError::Refused(request, answer));
    };
    if actors < wanted {
        eprintln!("idle_{wanted}: {actors} actors instead of {wanted}: {why}");
    }
    let each = |value: f64| value / actors as f64;
    let memory = || each(private_bytes().saturating_sub(before) as f64) / 1024.0;
    let say = |what: &str, value, unit| say(&format!("idle_{actors}_{what}"), value, unit);
    say("spawn", each(ns as f64), "ns/actor");
    say("memory", memory(), "KiB/actor");
    tokio::time::sleep(REST).await;
    say("memory_rested", memory(), "KiB/actor");
    say("mappings", mappings() as f64, "mappings");
    let called = rig.driver.ask("idle_calls").await?;
    say("call", each(called), "ns/actor");
    say("memory_called", memory(), "KiB/actor");
    rig.driver.tell("idle_stop").await?;
    rig.until_alone().await;
    rig.node.stop().await;
    Ok(())
}

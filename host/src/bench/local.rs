//! One node by itself: what one actor alone, or many, can do.

use bytes::Bytes;

use super::memory::private_bytes;
use super::rig::{BenchError, Rig};
use super::say;
use crate::node::NodeConfig;

/// How many calls, and how many messages one way, make a round unless told otherwise.
pub const MESSAGES: u64 = 300_000;
const MESSAGE_BYTES: u64 = 16;
/// A life costs more than a message.
const MESSAGES_PER_SPAWN: u64 = 3;
const RING_ACTORS: u64 = 1_000;
const RING_ROUNDS: u64 = 100;
const FIBONACCI_OF: u64 = 30;
const IDLE_ACTORS: u64 = 100_000;

/// What can be measured on one node.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
#[value(rename_all = "snake_case")]
pub enum LocalFigure {
    /// A round trip between two actors.
    LocalCall,
    /// A message one way.
    LocalSend,
    /// An actor's whole life.
    Spawn,
    /// A hop around a thousand actors.
    Ring,
    /// fib(30).
    Compute,
    /// The memory, and the making, of an actor that does nothing; once, whatever the rounds.
    IdleActor,
}

/// Measures these figures, in this order, so many times over, with so many messages each and a
/// third as many spawns. `module` is the component of `actors/bench`.
pub async fn local(
    config: NodeConfig,
    module: Bytes,
    figures: &[LocalFigure],
    rounds: u32,
    messages: u64,
) -> Result<(), BenchError> {
    let mut rig = Rig::start(config, module).await?;
    for _ in 0..rounds {
        for figure in figures {
            rig.local_figure(*figure, messages).await?;
        }
    }
    if figures.contains(&LocalFigure::IdleActor) {
        rig.idle().await?;
    }
    rig.node.stop().await;
    Ok(())
}

impl Rig {
    async fn local_figure(&mut self, figure: LocalFigure, messages: u64) -> Result<(), BenchError> {
        match figure {
            LocalFigure::LocalCall => {
                let ns = self.driver.ask(&format!("pingpong {messages}")).await?;
                say("local_call", ns / messages as f64, "ns/roundtrip");
            }
            LocalFigure::LocalSend => {
                let ns = self
                    .driver
                    .ask(&format!("flood {messages} {MESSAGE_BYTES}"))
                    .await?;
                say("local_send", ns / messages as f64, "ns/message");
            }
            LocalFigure::Spawn => {
                let spawns = (messages / MESSAGES_PER_SPAWN).max(1);
                let ns = self.driver.ask(&format!("spawn {spawns}")).await?;
                say("spawn", ns / spawns as f64, "ns/actor");
            }
            LocalFigure::Ring => {
                let ns = self
                    .driver
                    .ask(&format!("ring {RING_ACTORS} {RING_ROUNDS}"))
                    .await?;
                let hops = (RING_ACTORS + 1) * RING_ROUNDS;
                say("ring", ns / hops as f64, "ns/hop");
            }
            LocalFigure::Compute => {
                let ns = self.driver.ask(&format!("compute {FIBONACCI_OF}")).await?;
                say("compute", ns / 1e6, &format!("ms/fib{FIBONACCI_OF}"));
            }
            // Comes last: see `local`.
            LocalFigure::IdleActor => {}
        }
        Ok(())
    }

    /// Idle actors: as many as the node takes, up to the Erlang side's number.
    async fn idle(&mut self) -> Result<(), BenchError> {
        let before = private_bytes();
        let request = format!("idle {IDLE_ACTORS}");
        let answer = self.driver.tell(&request).await?;
        let Some((actors, ns, why)) = made(&answer) else {
            return Err(BenchError::Refused(request, answer));
        };
        if actors < IDLE_ACTORS {
            eprintln!("idle_actor: {actors} actors instead of {IDLE_ACTORS}: {why}");
        }
        let grown = private_bytes().saturating_sub(before) as f64;
        say("idle_actor", grown / actors as f64 / 1024.0, "KiB/actor");
        say("idle_spawn", ns as f64 / actors as f64, "ns/actor");
        self.driver.tell("idle_stop").await?;
        Ok(())
    }
}

/// The answer to `idle`: how many were made, in how many nanoseconds, and why not more.
pub(super) fn made(answer: &str) -> Option<(u64, u64, &str)> {
    let mut words = answer.splitn(3, ' ');
    let (actors, ns) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (actors > 0).then(|| (actors, ns, words.next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::made;

    #[test]
    fn fewer_actors_come_with_a_reason() {
        assert_eq!(made("5 1000 "), Some((5, 1000, "")));
        assert_eq!(
            made("4 99 cannot spawn: too many"),
            Some((4, 99, "cannot spawn: too many"))
        );
        assert_eq!(made("error: cannot spawn"), None);
        assert_eq!(made("0 5 "), None);
    }
}

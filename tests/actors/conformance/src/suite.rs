//! Runs many cases beside each other. A call has them as text:
//!
//! ```text
//! most 16
//! run 1 here NAME
//! 12 spawn a b
//! 13 a: link b
//! run 2 apart NAME
//! ...
//! ```
//!
//! each step behind the number of its line. The answer has `run 1`, then what came of each step
//! behind the same number.

use std::collections::{BTreeMap, VecDeque};

use wasm_node_sdk::bindings::wasm_node::actor::mailbox;
use wasm_node_sdk::task::{self, Task};
use wasm_node_sdk::{
    ExitReason, Message, Pid, SpawnOptions, decode, encode, node, self_pid, spawn,
};

use crate::MODULE;
use crate::wire::{Role, Run, Transcript};
use crate::words;

/// What the arguments of a suite begin with; the other node's name follows.
pub const ARGS: &[u8] = b"suite ";

/// The actor.
pub struct Suite;

impl Task for Suite {
    async fn main(args: Vec<u8>) -> ExitReason {
        let other = String::from_utf8_lossy(&args[ARGS.len()..]).into_owned();
        loop {
            let asked = task::receive_match(|message| matches!(message, Message::Request(_))).await;
            let Message::Request((from, body)) = asked else {
                continue;
            };
            let text = String::from_utf8_lossy(&body);
            let answer = match parse(&text, &other) {
                Ok((most, runs)) => all(most, runs).await,
                Err(line) => format!("error: no run, step or limit: \"{line}\""),
            };
            if mailbox::reply(from, answer.as_bytes()).is_err() {
                return ExitReason::Error("the transcripts are too large".into());
            }
        }
    }
}

/// How many runs at once, and the runs.
fn parse(text: &str, other: &str) -> Result<(usize, Vec<Run>), String> {
    let (mut most, mut runs) = (1, Vec::new());
    for line in text.lines() {
        let bad = || line.to_owned();
        let mut words = line.split_whitespace();
        let first = words.next().ok_or_else(bad)?;
        match first {
            "most" => {
                let number = words.next().and_then(|word| word.parse().ok());
                most = number.ok_or_else(bad)?;
            }
            "run" => {
                let id: u32 = words
                    .next()
                    .and_then(|word| word.parse().ok())
                    .ok_or_else(bad)?;
                let other = match words.next() {
                    Some("here") => node::name(),
                    Some("apart") => other.into(),
                    _ => return Err(bad()),
                };
                runs.push(Run {
                    suite: self_pid(),
                    id,
                    prefix: format!("{id}-{}-", words.next().ok_or_else(bad)?),
                    other,
                    steps: Vec::new(),
                });
            }
            _ => {
                let number = first.parse().map_err(|_| bad())?;
                let run = runs.last_mut().ok_or_else(bad)?;
                run.steps.push((number, words.map(str::to_owned).collect()));
            }
        }
    }
    Ok((most, runs))
}

async fn all(most: usize, runs: Vec<Run>) -> String {
    let mut waiting = VecDeque::from(runs);
    let mut running: BTreeMap<Pid, u32> = BTreeMap::new();
    let mut said = String::new();
    loop {
        while running.len() < most
            && let Some(run) = waiting.pop_front()
        {
            let id = run.id;
            let args = encode(&Role::Conductor(run));
            match spawn(MODULE, &args, &SpawnOptions::new().monitor()) {
                Ok(spawned) => {
                    running.insert(spawned.pid, id);
                }
                Err(error) => said += &format!("run {id}\n0 {}\n", error.describe()),
            }
        }
        if running.is_empty() {
            return said;
        }
        match task::receive().await {
            Message::Info(body) => {
                if let Ok(Transcript { id, lines }) = decode(&body) {
                    said += &format!("run {id}\n");
                    for (number, words) in lines {
                        said += &format!("{number} {words}\n");
                    }
                }
            }
            Message::Down((_, pid, why)) => {
                if let Some(id) = running.remove(&pid)
                    && why != ExitReason::Normal
                {
                    let why = words::reason(&why);
                    said += &format!("run {id}\n0 the conductor ended: {why}\n");
                }
            }
            _ => {}
        }
    }
}

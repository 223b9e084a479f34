//! Plays one case: steps of its own, and those that it has others do. It monitors every process
//! that it hears of, so that it can tell how they ended.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use wasm_node_sdk::task::{self, Task};
use wasm_node_sdk::{
    Destination, ExitReason, Message, Monitor, Pid, Ref, SpawnOptions, decode, encode, exit,
    monitor, node, process, self_pid, send, sleep, spawn_local, spawn_on, time,
};

use crate::MODULE;
use crate::process::PATIENCE;
use crate::wire::{Command, Home, Known, Outcome, Role, Run, Told, Transcript};
use crate::words;

/// The actor.
pub struct Main;

impl Task for Main {
    async fn main(args: Vec<u8>) -> ExitReason {
        let run = match decode(&args) {
            Ok(Role::Conductor(run)) => run,
            _ => return ExitReason::Error("no run".into()),
        };
        let (suite, id, steps) = (run.suite, run.id, run.steps.clone());
        let mut conductor = Conductor::new(run);
        let mut lines = Vec::new();
        for (number, step) in steps {
            let step: Vec<&str> = step.iter().map(String::as_str).collect();
            let came = conductor.step(&step).await;
            lines.push((
                number,
                came.unwrap_or_else(|error| format!("error: {error}")),
            ));
        }
        for pid in conductor.back.into_keys() {
            exit(pid, ExitReason::Kill);
        }
        send(suite, &encode(&Transcript { id, lines }));
        ExitReason::Normal
    }
}

struct Conductor {
    run: Run,
    names: BTreeMap<String, Known>,
    /// The first name that each had.
    back: BTreeMap<Pid, String>,
    monitors: BTreeMap<Ref, Pid>,
    ended: BTreeMap<Pid, ExitReason>,
    notes: VecDeque<String>,
    next_tag: u32,
    /// Whether the connection to the other node was cut.
    apart: bool,
    /// The last command's.
    done: Option<(u32, Outcome)>,
}

impl Conductor {
    fn new(run: Run) -> Self {
        Self {
            run,
            names: BTreeMap::new(),
            back: BTreeMap::new(),
            monitors: BTreeMap::new(),
            ended: BTreeMap::new(),
            notes: VecDeque::new(),
            next_tag: 0,
            apart: false,
            done: None,
        }
    }

    async fn step(&mut self, step: &[&str]) -> Result<String, String> {
        match step {
            ["spawn", names @ ..] => {
                for name in names {
                    self.spawn(name).await?;
                }
                Ok("ok".into())
            }
            ["down", name] => {
                let pid = self.pid(name)?;
                self.wait(|own| own.ended.contains_key(&pid)).await;
                let ended = self.ended.get(&pid);
                Ok(ended.map_or_else(|| "alive".into(), words::reason))
            }
            ["log", count] => {
                let notes = self.notes(number(count)?).await;
                Ok(joined(notes))
            }
            ["log", "sorted", count] => {
                let mut notes = self.notes(number(count)?).await;
                notes.sort();
                Ok(joined(notes))
            }
            ["quiet", ms] => {
                self.wait_for(words::ms(ms)?, |_| false).await;
                let notes = self.notes(self.notes.len()).await;
                Ok(joined(notes))
            }
            ["disconnect"] => {
                self.apart = true;
                node::disconnect(&self.run.other);
                Ok("ok".into())
            }
            ["later", ms, "disconnect"] => {
                self.apart = true;
                let (after, other) = (words::ms(ms)?, self.run.other.clone());
                spawn_local(async move {
                    sleep(after).await;
                    node::disconnect(&other);
                });
                Ok("ok".into())
            }
            ["reconnect"] => {
                let connected = self.reconnect().await;
                Ok(connected.map_or_else(|why| why, |()| "true".into()))
            }
            [who, words @ ..] => match who.strip_suffix(':') {
                Some(name) => {
                    let pid = self.pid(name)?;
                    self.command(pid, words).await
                }
                None => Err(format!("\"{who}\" is neither a step nor `NAME:`")),
            },
            [] => Err("an empty step".into()),
        }
    }

    fn pid(&self, name: &str) -> Result<Pid, String> {
        match self.names.get(name) {
            Some(Known::Pid(pid)) => Ok(*pid),
            _ => Err(format!("no process is named {name}")),
        }
    }

    async fn spawn(&mut self, name: &str) -> Result<(), String> {
        let here = node::name();
        let home = Home {
            conductor: self_pid(),
            prefix: self.run.prefix.clone(),
            ends: None,
        };
        let node = match name.starts_with('b') {
            true => &self.run.other,
            false => &here,
        };
        let args = encode(&Role::Process(home));
        let options = SpawnOptions::new();
        let spawned = if *node == here {
            process::spawn(MODULE, &args, &options)
        } else {
            spawn_on(node, MODULE, &args, &options, false).await
        };
        match spawned {
            Ok(spawned) => self.know(name.to_owned(), spawned.pid),
            Err(error) => return Err(error.describe().into_owned()),
        }
        Ok(())
    }

    /// The error says why the nodes are not connected.
    async fn reconnect(&mut self) -> Result<(), String> {
        // What is known of the lost connection has been told before it is there again.
        let connected = node::connect(&self.run.other).await.map(drop);
        self.wait_for(Duration::ZERO, |_| false).await;
        self.apart = false;
        self.monitors.clear();
        for &pid in self.back.keys() {
            if !self.ended.contains_key(&pid) {
                let Monitor(tag) = monitor(pid);
                self.monitors.insert(tag, pid);
            }
        }
        connected
    }

    fn know(&mut self, name: String, pid: Pid) {
        if !self.back.contains_key(&pid) {
            let Monitor(tag) = monitor(pid);
            self.monitors.insert(tag, pid);
            self.back.insert(pid, name.clone());
        }
        self.names.insert(name, Known::Pid(pid));
    }

    async fn command(&mut self, to: Pid, words: &[&str]) -> Result<String, String> {
        let tag = self.next_tag;
        self.next_tag += 1;
        let command = Command {
            tag,
            words: words.iter().map(|&word| word.to_owned()).collect(),
            names: self.names.clone().into_iter().collect(),
        };
        process::cast(&Destination::Pid(to), &encode(&command));
        let answered = |own: &Self| own.done.as_ref().is_some_and(|(of, _)| *of == tag);
        self.wait(|own| answered(own) || own.ended.contains_key(&to))
            .await;
        if answered(self)
            && let Some((_, outcome)) = self.done.take()
        {
            return Ok(self.show(outcome));
        }
        let ends = matches!(words.first(), Some(&("exit" | "quit" | "crash")));
        Ok(match self.ended.get(&to).map(words::reason) {
            Some(why) if ends => why,
            Some(why) => format!("died {why}"),
            None => "no answer".into(),
        })
    }

    /// Names for pids.
    fn show(&self, outcome: Outcome) -> String {
        match outcome {
            Outcome::One(words) => self.named(&words),
            Outcome::Many(all) => joined(all.iter().map(|words| self.named(words))),
            Outcome::Unordered(all) => {
                let mut all: Vec<String> = all.iter().map(|words| self.named(words)).collect();
                all.sort();
                joined(all)
            }
        }
    }

    fn named(&self, words: &str) -> String {
        let words = words.split(' ').map(|word| match words::to_pid(word) {
            Some(pid) => self.back.get(&pid).map_or("somebody", String::as_str),
            None => word,
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// The next so many notes.
    async fn notes(&mut self, count: usize) -> Vec<String> {
        self.wait(|own| own.notes.len() >= count).await;
        let count = count.min(self.notes.len());
        let notes: Vec<String> = self.notes.drain(..count).collect();
        notes.iter().map(|note| self.named(note)).collect()
    }

    /// Longer than the processes themselves wait, so that they answer.
    async fn wait(&mut self, done: impl Fn(&Self) -> bool) {
        self.wait_for(PATIENCE * 2, done).await;
    }

    async fn wait_for(&mut self, patience: Duration, done: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !done(self) {
                let message = task::receive().await;
                self.take(message);
            }
        };
        let _ = time::timeout(patience, waiting).await;
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Cast(body) => match decode(&body) {
                Ok(Told::Done { tag, outcome, born }) => {
                    for (name, known) in born {
                        match known {
                            Known::Pid(pid) => self.know(name, pid),
                            alias => drop(self.names.insert(name, alias)),
                        }
                    }
                    self.done = Some((tag, outcome));
                }
                Ok(Told::Note { id, pid, words }) => {
                    self.notes.push_back(format!("{id} {words}"));
                    self.know(id, pid);
                }
                Err(_) => {}
            },
            Message::Down((tag, _, reason)) => {
                let Some(&pid) = self.monitors.get(&tag) else {
                    return;
                };
                let lost = self.apart && pid.node != self_pid().node;
                if !lost || reason != ExitReason::Noconnection {
                    self.ended.insert(pid, reason);
                }
            }
            _ => {}
        }
    }
}

fn number(word: &str) -> Result<usize, String> {
    word.parse().map_err(|_| format!("\"{word}\" is no number"))
}

fn joined(words: impl IntoIterator<Item = String>) -> String {
    let words: Vec<String> = words.into_iter().collect();
    match words.is_empty() {
        true => "nothing".into(),
        false => words.join("; "),
    }
}

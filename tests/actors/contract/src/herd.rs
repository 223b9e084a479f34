//! Many members, asked all at once. Requests:
//!
//!     spawn N         starts so many more, of this module
//!     all TEXT        sends TEXT to each; counts each answer, and each end
//!     twice TEXT      the same, and waits for two answers of each
//!     end             kills all
//!
//! One at a time. The answer is a line an outcome: how many, then what they said.

use std::collections::{BTreeMap, HashMap};

use wasm_node_sdk::bindings::wasm_node::actor::{mailbox, process};
use wasm_node_sdk::{ExitReason, Message, Pid, Ref, ReplyTo};

/// Different answers that are told; the others are counted together.
const MAX_ANSWERS: usize = 20;

pub struct Herd {
    module: String,
    members: Vec<Pid>,
    alive: HashMap<Ref, Pid>,
    begun: usize,
    asked: Option<(ReplyTo, usize)>,
    answers: BTreeMap<String, usize>,
}

impl Herd {
    pub fn new(module: &str) -> Self {
        Self {
            module: module.into(),
            members: Vec::new(),
            alive: HashMap::new(),
            begun: 0,
            asked: None,
            answers: BTreeMap::new(),
        }
    }

    pub fn handle(&mut self, message: Message) {
        match message {
            Message::Request((from, body)) => {
                let text = String::from_utf8_lossy(&body).into_owned();
                let waits_for = self.command(&text);
                self.asked = Some((from, waits_for));
            }
            Message::Info(body) => self.heard(String::from_utf8_lossy(&body).into_owned()),
            Message::Spawned((_, Ok(_))) => self.heard("spawned".into()),
            Message::Spawned((_, Err(error))) => self.heard(error.describe().into_owned()),
            Message::Down((tag, pid, reason)) => {
                self.alive.remove(&tag);
                self.members.retain(|member| *member != pid);
                self.heard(format!("down: {}", reason.describe()));
            }
            _ => {}
        }
        if let Some((from, 0)) = self.asked {
            self.asked = None;
            let answers = std::mem::take(&mut self.answers);
            let lines = answers
                .iter()
                .map(|(answer, count)| format!("{count} {answer}"));
            let _ = mailbox::reply(from, lines.collect::<Vec<_>>().join("\n").as_bytes());
        }
    }

    fn heard(&mut self, answer: String) {
        let answer = match self.answers.len() < MAX_ANSWERS || self.answers.contains_key(&answer) {
            true => answer,
            false => "others".into(),
        };
        *self.answers.entry(answer).or_default() += 1;
        if let Some((_, waits_for)) = &mut self.asked {
            *waits_for = waits_for.saturating_sub(1);
        }
    }

    /// How many answers are to come.
    fn command(&mut self, text: &str) -> usize {
        match text.split_once(' ').unwrap_or((text, "")) {
            ("spawn", count) => {
                let count: usize = count.parse().unwrap_or(0);
                for _ in 0..count {
                    let options = process::SpawnOptions {
                        flags: process::SpawnFlags::MONITOR | process::SpawnFlags::AWAIT_INIT,
                        name: None,
                        global: None,
                        group_leader: None,
                        capabilities: None,
                        limits: None,
                    };
                    let args = format!("member {}", self.begun);
                    self.begun += 1;
                    match process::spawn(&self.module, args.as_bytes(), &options) {
                        Ok((pid, tag)) => {
                            self.members.push(pid);
                            self.alive.insert(tag, pid);
                        }
                        Err(error) => self.heard(error.describe().into_owned()),
                    }
                }
                count - self.answers.values().sum::<usize>()
            }
            (how @ ("all" | "twice"), text) => {
                let body = [&process::self_().to_bytes(), text.as_bytes()].concat();
                for &member in &self.members {
                    let _ = mailbox::send(member, &body);
                }
                self.members.len() * if how == "twice" { 2 } else { 1 }
            }
            ("end", _) => {
                for &member in &self.members {
                    process::exit(member, &ExitReason::Kill);
                }
                self.members.len()
            }
            _ => {
                self.heard(format!("no such command: {text}"));
                0
            }
        }
    }
}

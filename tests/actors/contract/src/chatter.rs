//! One of several that talk without end, each on a node of its own, and watch each other. The
//! arguments are the names of the others' nodes; all are registered there as `chatter`.
//!
//! Every [`EVERY_MS`] it tells each of the others a number, one more than the last; it watches
//! each with a monitor, and sets it anew after it fired. The request `report` is answered with
//! what it saw: `heard N disorder N set N fired N twice N watching N`. Others are taken as
//! global names to register.

use std::collections::{BTreeMap, HashSet};

use wasm_node_sdk::bindings::wasm_node::actor::{global, mailbox, process, timer};
use wasm_node_sdk::{Destination, Message, Ref};

/// Between two messages to each of the others, in milliseconds.
const EVERY_MS: u32 = 20;

pub struct Chatter {
    others: Vec<String>,
    own: u64,
    next: u64,
    /// The last number heard of each.
    last: BTreeMap<u64, u64>,
    watched: HashSet<Ref>,
    lost: Vec<String>,
    by_ref: BTreeMap<String, String>,
    heard: u64,
    disorder: u64,
    set: u64,
    fired: u64,
    twice: u64,
}

impl Chatter {
    pub fn new(others: &str) -> Self {
        let others: Vec<_> = others.split_whitespace().map(String::from).collect();
        timer::start(EVERY_MS);
        Self {
            lost: others.clone(),
            others,
            own: timer::random(),
            next: 0,
            last: BTreeMap::new(),
            watched: HashSet::new(),
            by_ref: BTreeMap::new(),
            heard: 0,
            disorder: 0,
            set: 0,
            fired: 0,
            twice: 0,
        }
    }

    pub fn handle(&mut self, message: Message) {
        match message {
            Message::Timer(_) => self.tick(),
            Message::Info(body) => self.hear(&body),
            Message::Down((tag, _, _)) => {
                if self.watched.remove(&tag) {
                    self.fired += 1;
                    self.lost.extend(self.by_ref.remove(&format!("{tag:?}")));
                } else {
                    self.twice += 1;
                }
            }
            Message::Request((from, body)) => {
                let answer = match std::str::from_utf8(&body) {
                    Ok("report") => self.report(),
                    Ok(name) => {
                        global::register(name, process::self_());
                        "asked".into()
                    }
                    Err(_) => "no text".into(),
                };
                let _ = mailbox::reply(from, answer.as_bytes());
            }
            _ => {}
        }
    }

    fn tick(&mut self) {
        timer::start(EVERY_MS);
        self.next += 1;
        let body = [self.own.to_le_bytes(), self.next.to_le_bytes()].concat();
        for other in &self.others {
            let _ = mailbox::send_to(&there(other), &body);
        }
        // Not at every tick: a node that is away answers each monitor at once.
        if self.next % 10 == 1 {
            for other in std::mem::take(&mut self.lost) {
                let tag = process::monitor(&there(&other));
                self.by_ref.insert(format!("{tag:?}"), other);
                self.watched.insert(tag);
                self.set += 1;
            }
        }
    }

    fn hear(&mut self, body: &[u8]) {
        let part = |at: usize| {
            let bytes = body.get(at..at + 8)?.try_into().ok()?;
            Some(u64::from_le_bytes(bytes))
        };
        if let (Some(from), Some(number)) = (part(0), part(8)) {
            self.heard += 1;
            let last = self.last.insert(from, number).unwrap_or(0);
            self.disorder += u64::from(number <= last);
        }
    }

    fn report(&self) -> String {
        format!(
            "heard {} disorder {} set {} fired {} twice {} watching {}",
            self.heard,
            self.disorder,
            self.set,
            self.fired,
            self.twice,
            self.watched.len()
        )
    }
}

fn there(node: &str) -> Destination {
    Destination::RemoteName(("chatter".into(), node.into()))
}

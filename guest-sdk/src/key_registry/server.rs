//! The actor around a registry's [`Table`]: calls, and a monitor of each actor that has entries.
//!
//! An actor that dies while it is registered, or has died before, needs no care: its monitor says so
//! at once, after the entry is there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::table::{Entry, Refused};
use super::{Event, Keys, MODULE, Table};
use crate::{CallReturn, Caller, GenServer, Info, Init, Monitor, Next, Pid, codec, monitor, send};

/// A registry.
#[derive(Serialize, Deserialize)]
pub struct RegistryServer {
    table: Table,
    watched: BTreeMap<Pid, Monitor>,
    listeners: Vec<Pid>,
}

/// What a registry is asked. Keys and values are their postcard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// [`Reply::Done`], [`Reply::Taken`] or [`Reply::Full`].
    Register(Vec<u8>, Pid, Vec<u8>),
    /// [`Reply::Done`] or [`Reply::Absent`].
    Unregister(Vec<u8>, Pid),
    /// The same.
    Update(Vec<u8>, Pid, Vec<u8>),
    /// [`Reply::Entries`].
    Lookup(Vec<u8>),
    /// [`Reply::Keys`].
    Keys(Pid),
    /// [`Reply::Count`].
    Count,
    /// [`Reply::All`].
    Select,
    /// [`Reply::Done`].
    Listen(Pid),
}

/// What a registry answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It is done.
    Done,
    /// There is no such entry.
    Absent,
    /// The key is this actor's.
    Taken(Pid),
    /// There are too many entries.
    Full,
    /// Actors and values.
    Entries(Vec<(Pid, Vec<u8>)>),
    /// Keys.
    Keys(Vec<Vec<u8>>),
    /// How many.
    Count(u64),
    /// Keys, actors and values.
    All(Vec<Entry>),
}

impl GenServer for RegistryServer {
    const MODULE: &'static str = MODULE;
    type Args = Keys;
    type Call = Ask;
    type Reply = Reply;
    /// A key, and a plain message for all under it.
    type Cast = (Vec<u8>, Vec<u8>);

    async fn init(keys: Keys) -> Init<Self> {
        Init::Ok(Self {
            table: Table::new(keys),
            watched: BTreeMap::new(),
            listeners: Vec::new(),
        })
    }

    async fn handle_call(&mut self, ask: Ask, _: Caller<Reply>) -> CallReturn<Reply> {
        CallReturn::Reply(match ask {
            Ask::Register(key, actor, value) => self.register(key, actor, value),
            Ask::Unregister(key, actor) => {
                let gone = self.table.unregister(&key, actor) > 0;
                if gone {
                    self.tell(&Event::Unregistered(key, actor));
                    self.unwatch(actor);
                }
                done(gone)
            }
            Ask::Update(key, actor, value) => done(self.table.update(&key, actor, &value)),
            Ask::Lookup(key) => Reply::Entries(self.table.lookup(&key).to_vec()),
            Ask::Keys(actor) => Reply::Keys(self.table.keys_of(actor).cloned().collect()),
            Ask::Count => Reply::Count(self.table.count() as u64),
            Ask::Select => Reply::All(self.table.all().collect()),
            Ask::Listen(listener) => {
                if !self.listeners.contains(&listener) {
                    self.listeners.push(listener);
                    self.watch(listener);
                }
                Reply::Done
            }
        })
    }

    async fn handle_cast(&mut self, (key, body): Self::Cast) -> Next {
        for (actor, _) in self.table.lookup(&key) {
            send(*actor, &body);
        }
        Next::Wait
    }

    async fn handle_info(&mut self, info: Info) -> Next {
        match info {
            Info::Down { monitor, pid, .. } if self.watched.get(&pid) == Some(&monitor) => {
                self.watched.remove(&pid);
                self.listeners.retain(|listener| *listener != pid);
                for key in self.table.forget(pid) {
                    self.tell(&Event::Unregistered(key, pid));
                }
                Next::Wait
            }
            Info::Exit { reason, .. } => Next::Stop(reason),
            _ => Next::Wait,
        }
    }
}

impl RegistryServer {
    fn register(&mut self, key: Vec<u8>, actor: Pid, value: Vec<u8>) -> Reply {
        match self.table.register(key.clone(), actor, value.clone()) {
            Ok(_) => {
                self.watch(actor);
                self.tell(&Event::Registered(key, actor, value));
                Reply::Done
            }
            Err(Refused::Taken(holder)) => Reply::Taken(holder),
            Err(Refused::Full) => Reply::Full,
        }
    }

    fn watch(&mut self, actor: Pid) {
        self.watched.entry(actor).or_insert_with(|| monitor(actor));
    }

    fn unwatch(&mut self, actor: Pid) {
        if !self.table.knows(actor)
            && !self.listeners.contains(&actor)
            && let Some(monitor) = self.watched.remove(&actor)
        {
            monitor.cancel();
        }
    }

    fn tell(&self, event: &Event) {
        if self.listeners.is_empty() {
            return;
        }
        let body = codec::encode(event);
        for listener in &self.listeners {
            send(*listener, &body);
        }
    }
}

fn done(was: bool) -> Reply {
    match was {
        true => Reply::Done,
        false => Reply::Absent,
    }
}

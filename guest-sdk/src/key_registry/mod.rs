//! Elixir's [`Registry`]: which actors go by which key, on one node.
//!
//! A registry is an actor of the module `registry` (`actors/registry`), or a [`RegistryServer`]
//! started under another module's name. Keys and values are any types that `serde` takes; a registry
//! is [`Keys::Unique`] (one actor a key) or [`Keys::Duplicate`] (any number). An entry goes when its
//! actor ends.
//!
//! ```no_run
//! # fn main() {}
//! use wasm_node_sdk::key_registry::{Keys, Registry, RegistryError};
//! use wasm_node_sdk::self_pid;
//!
//! async fn use_it() -> Result<(), Box<dyn std::error::Error>> {
//!     // Keys are rooms, values what a member is called.
//!     let rooms = Registry::<u32, String>::start(Keys::Duplicate, "rooms").await?;
//!     rooms.register(&7, self_pid(), &"ada".into()).await?;
//!     for (pid, name) in rooms.lookup(&7).await? {
//!         wasm_node_sdk::println!("{name} is {pid}");
//!     }
//!     // To all in the room.
//!     rooms.dispatch(&7, b"hello");
//!     rooms.unregister(&7, self_pid()).await?;
//!     Ok(())
//! }
//! ```
//!
//! | Elixir | here |
//! | --- | --- |
//! | `start_link/1` | [`Registry::start`] |
//! | `register/3`, `unregister/2` | [`Registry::register`], [`Registry::unregister`] |
//! | `lookup/2`, `keys/2`, `count/1` | [`Registry::lookup`], [`Registry::keys`], [`Registry::count`] |
//! | `update_value/3` | [`Registry::update_value`], with the value instead of a function |
//! | `dispatch/3` | [`Registry::dispatch`]: a plain message to all |
//! | `{:via, Registry, {r, key}}` | [`Registry::whereis`], [`Registry::start_server`] |
//! | `listeners:` | [`Registry::listen`] |
//!
//! What differs: Elixir's is a table that all processes read; here actors share no memory, so a
//! look-up is a call. An actor can be registered by another one. With `via`, the new server runs its
//! `init` before it has the key; the one that comes second is ended.
//!
//! [`Registry`]: https://hexdocs.pm/elixir/Registry.html

mod server;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use server::{Ask, RegistryServer, Reply};
pub use table::{Keys, Table};

use crate::{
    CallError, Destination, ExitReason, GenServer, Pid, ServerRef, StartError, codec, process,
};

/// The module of `actors/registry`.
pub const MODULE: &str = "registry";

/// What a listener gets, in postcard, as a plain message; the key's bytes are those of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// An entry came.
    Registered(Vec<u8>, Pid, Vec<u8>),
    /// An entry went: it was taken out, or its actor ended.
    Unregistered(Vec<u8>, Pid),
}

/// Why a registry did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryError {
    /// The key is this actor's; in a registry of duplicate keys, never.
    AlreadyRegistered(Pid),
    /// There are as many entries as there may be.
    Full,
    /// The call failed.
    Call(CallError),
    /// It answered something else, or has keys and values of other types.
    Mismatch(String),
    /// The server did not start.
    Start(StartError),
}

impl From<CallError> for RegistryError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyRegistered(pid) => write!(f, "already registered: {pid}"),
            Self::Full => f.write_str("the registry is full"),
            Self::Call(error) => f.write_str(&error.describe()),
            Self::Mismatch(words) => f.write_str(words),
            Self::Start(error) => error.fmt(f),
        }
    }
}
impl std::error::Error for RegistryError {}

/// A registry with keys `K` and values `V`. Plain data.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Registry<K, V> {
    server: ServerRef<RegistryServer>,
    of: PhantomData<fn(K) -> V>,
}

impl<K, V> Clone for Registry<K, V> {
    fn clone(&self) -> Self {
        Self::at(self.server.destination().clone())
    }
}

impl<K, V> Registry<K, V> {
    /// The one with this pid or name.
    pub fn at(to: impl Into<Destination>) -> Self {
        Self {
            server: ServerRef::at(to),
            of: PhantomData,
        }
    }

    /// Starts one on this node under a name, linked to this actor.
    pub async fn start(keys: Keys, name: &str) -> Result<Self, StartError> {
        let server = ServerRef::<RegistryServer>::start(&keys)
            .local(name)
            .link()
            .await?;
        Ok(Self::at(server.destination().clone()))
    }
}

impl<K: Serialize + DeserializeOwned, V: Serialize + DeserializeOwned> Registry<K, V> {
    /// Registers an actor under a key. In a registry of duplicate keys it may be there several times.
    /// An actor that has ended is registered for a moment only.
    pub async fn register(&self, key: &K, actor: Pid, value: &V) -> Result<(), RegistryError> {
        let ask = Ask::Register(codec::encode(key), actor, codec::encode(value));
        match self.server.call(ask).await? {
            Reply::Done => Ok(()),
            Reply::Taken(holder) => Err(RegistryError::AlreadyRegistered(holder)),
            Reply::Full => Err(RegistryError::Full),
            other => Err(unexpected(&other)),
        }
    }

    /// Takes an actor's entries under a key out; whether there were any.
    pub async fn unregister(&self, key: &K, actor: Pid) -> Result<bool, RegistryError> {
        self.flag(Ask::Unregister(codec::encode(key), actor)).await
    }

    /// The actors under a key and their values, in the order registered.
    pub async fn lookup(&self, key: &K) -> Result<Vec<(Pid, V)>, RegistryError> {
        match self.server.call(Ask::Lookup(codec::encode(key))).await? {
            Reply::Entries(entries) => {
                let entries = entries.into_iter();
                entries
                    .map(|(pid, value)| Ok((pid, decode(&value)?)))
                    .collect()
            }
            other => Err(unexpected(&other)),
        }
    }

    /// The first actor under a key.
    pub async fn whereis(&self, key: &K) -> Result<Option<Pid>, RegistryError> {
        match self.server.call(Ask::Lookup(codec::encode(key))).await? {
            Reply::Entries(entries) => Ok(entries.first().map(|(pid, _)| *pid)),
            other => Err(unexpected(&other)),
        }
    }

    /// The keys of an actor, sorted by their bytes.
    pub async fn keys(&self, actor: Pid) -> Result<Vec<K>, RegistryError> {
        match self.server.call(Ask::Keys(actor)).await? {
            Reply::Keys(keys) => keys.iter().map(|key| decode(key)).collect(),
            other => Err(unexpected(&other)),
        }
    }

    /// Gives an actor's entries under a key another value; whether there were any.
    pub async fn update_value(
        &self,
        key: &K,
        actor: Pid,
        value: &V,
    ) -> Result<bool, RegistryError> {
        let ask = Ask::Update(codec::encode(key), actor, codec::encode(value));
        self.flag(ask).await
    }

    /// How many entries there are.
    pub async fn count(&self) -> Result<u64, RegistryError> {
        match self.server.call(Ask::Count).await? {
            Reply::Count(count) => Ok(count),
            other => Err(unexpected(&other)),
        }
    }

    /// All entries, by the bytes of their keys.
    pub async fn select(&self) -> Result<Vec<(K, Pid, V)>, RegistryError> {
        match self.server.call(Ask::Select).await? {
            Reply::All(all) => {
                let all = all.into_iter();
                all.map(|(key, pid, value)| Ok((decode(&key)?, pid, decode(&value)?)))
                    .collect()
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Sends a plain message to all actors under a key, from the registry: those that are there when
    /// it gets to it.
    pub fn dispatch(&self, key: &K, body: &[u8]) {
        self.server.cast((codec::encode(key), body.to_vec()));
    }

    /// From now on an actor gets an [`Event`] of each change, until it ends.
    pub async fn listen(&self, listener: Pid) -> Result<(), RegistryError> {
        self.flag(Ask::Listen(listener)).await.map(|_| ())
    }

    /// Starts a server under a key on this node: `{:via, Registry, ...}`. The error has who holds the
    /// key already; of two that start at once, one stays.
    pub async fn start_server<S: GenServer>(
        &self,
        key: &K,
        args: &S::Args,
        value: &V,
    ) -> Result<ServerRef<S>, RegistryError> {
        let started = |pid| RegistryError::Start(StartError::AlreadyStarted(pid));
        if let Some(holder) = self.whereis(key).await? {
            return Err(started(holder));
        }
        let server = ServerRef::<S>::start(args)
            .await
            .map_err(RegistryError::Start)?;
        let Some(pid) = server.as_pid() else {
            return Ok(server);
        };
        match self.register(key, pid, value).await {
            Ok(()) => Ok(server),
            Err(error) => {
                process::exit(pid, ExitReason::Kill);
                Err(match error {
                    RegistryError::AlreadyRegistered(holder) => started(holder),
                    other => other,
                })
            }
        }
    }

    async fn flag(&self, ask: Ask) -> Result<bool, RegistryError> {
        match self.server.call(ask).await? {
            Reply::Done => Ok(true),
            Reply::Absent => Ok(false),
            other => Err(unexpected(&other)),
        }
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RegistryError> {
    codec::decode(bytes).map_err(RegistryError::Mismatch)
}

fn unexpected(reply: &Reply) -> RegistryError {
    RegistryError::Mismatch(format!("the registry answered {reply:?}"))
}

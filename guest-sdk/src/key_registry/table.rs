//! The table of a registry: entries by key and by actor.
//!
//! Pure: it knows no messages and no monitors. What has to be watched is what it returns.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::Pid;

/// So many entries a registry holds at most.
pub const MAX_ENTRIES: usize = 1 << 20;

/// How many actors a key may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keys {
    /// One.
    Unique,
    /// Any number, and an actor several times.
    Duplicate,
}

/// Why an entry was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The key is this actor's.
    Taken(Pid),
    /// There are [`MAX_ENTRIES`].
    Full,
}

/// A key, an actor under it, and its value.
pub type Entry = (Vec<u8>, Pid, Vec<u8>);

/// The entries.
#[derive(Debug, Serialize, Deserialize)]
pub struct Table {
    keys: Keys,
    entries: BTreeMap<Vec<u8>, Vec<(Pid, Vec<u8>)>>,
    actors: BTreeMap<Pid, BTreeSet<Vec<u8>>>,
    count: usize,
}

impl Table {
    /// An empty one.
    pub fn new(keys: Keys) -> Self {
        Self {
            keys,
            entries: BTreeMap::new(),
            actors: BTreeMap::new(),
            count: 0,
        }
    }

    /// Adds an entry. True: it is the actor's first.
    pub fn register(&mut self, key: Vec<u8>, actor: Pid, value: Vec<u8>) -> Result<bool, Refused> {
        if self.keys == Keys::Unique
            && let Some((holder, _)) = self.lookup(&key).first()
        {
            return Err(Refused::Taken(*holder));
        }
        if self.count >= MAX_ENTRIES {
            return Err(Refused::Full);
        }
        self.count += 1;
        let first = !self.actors.contains_key(&actor);
        self.actors.entry(actor).or_default().insert(key.clone());
        self.entries.entry(key).or_default().push((actor, value));
        Ok(first)
    }

    /// Takes an actor's entries under a key out; how many.
    pub fn unregister(&mut self, key: &[u8], actor: Pid) -> usize {
        if let Some(keys) = self.actors.get_mut(&actor) {
            keys.remove(key);
            if keys.is_empty() {
                self.actors.remove(&actor);
            }
        }
        let Some(under) = self.entries.get_mut(key) else {
            return 0;
        };
        let before = under.len();
        under.retain(|(of, _)| *of != actor);
        let gone = before - under.len();
        if under.is_empty() {
            self.entries.remove(key);
        }
        self.count -= gone;
        gone
    }

    /// Takes all of an actor's entries out; the keys they had.
    pub fn forget(&mut self, actor: Pid) -> Vec<Vec<u8>> {
        let keys: Vec<Vec<u8>> = self.keys_of(actor).cloned().collect();
        for key in &keys {
            self.unregister(key, actor);
        }
        keys
    }

    /// Gives an actor's entries under a key another value; whether there are any.
    pub fn update(&mut self, key: &[u8], actor: Pid, value: &[u8]) -> bool {
        let under = self.entries.get_mut(key).into_iter().flatten();
        let mut any = false;
        for (_, old) in under.filter(|(of, _)| *of == actor) {
            *old = value.to_vec();
            any = true;
        }
        any
    }

    /// The actors under a key, in the order registered.
    pub fn lookup(&self, key: &[u8]) -> &[(Pid, Vec<u8>)] {
        self.entries.get(key).map_or(&[], Vec::as_slice)
    }

    /// The keys of an actor, sorted.
    pub fn keys_of(&self, actor: Pid) -> impl Iterator<Item = &Vec<u8>> {
        self.actors.get(&actor).into_iter().flatten()
    }

    /// Whether an actor has an entry.
    pub fn knows(&self, actor: Pid) -> bool {
        self.actors.contains_key(&actor)
    }

    /// All entries, by key.
    pub fn all(&self) -> impl Iterator<Item = Entry> {
        let keys = self.entries.iter();
        keys.flat_map(|(key, under)| {
            under
                .iter()
                .map(|(pid, value)| (key.clone(), *pid, value.clone()))
        })
    }

    /// How many entries there are.
    pub fn count(&self) -> usize {
        self.count
    }
}

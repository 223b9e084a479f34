//! Which version each module name stands for. Pure: no files, no clock.
//!
//! Keeps for each name its current digest and the few before it, newest first. Each input
//! answers with what changed, which is all that others need to act on.

use std::collections::{BTreeMap, VecDeque};

use wasm_node_protocol::Digest;

/// How many earlier versions of a module are remembered; older ones are forgotten.
pub const MAX_PREVIOUS_VERSIONS: usize = 8;
/// How many modules a node may know; a further one is refused.
pub const MAX_MODULES: usize = 10_000;

/// The modules of a node.
#[derive(Debug, Clone, Default)]
pub struct Versions {
    modules: BTreeMap<String, History>,
}

#[derive(Debug, Clone)]
struct History {
    current: Digest,
    /// Newest first, without the current one and without repeats.
    previous: VecDeque<Digest>,
}

/// What an input changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The name stands for this version now.
    Loaded {
        /// The module.
        name: String,
        /// Its current version.
        digest: Digest,
        /// What the name stood for before.
        replaced: Option<Digest>,
    },
    /// All is as it was.
    Unchanged,
    /// The name stands for nothing any more.
    Removed {
        /// The module.
        name: String,
        /// What it stood for.
        digest: Digest,
    },
    /// The node knows [`MAX_MODULES`] names already, and this is another.
    Refused {
        /// The module.
        name: String,
    },
}

impl Versions {
    /// A node without modules.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name shall stand for this version.
    pub fn load(&mut self, name: &str, digest: Digest) -> Change {
        let full = self.modules.len() >= MAX_MODULES;
        let replaced = match self.modules.get_mut(name) {
            Some(history) if history.current == digest => return Change::Unchanged,
            Some(history) => {
                let replaced = std::mem::replace(&mut history.current, digest);
                history.previous.retain(|&earlier| earlier != digest);
                history.previous.push_front(replaced);
                history.previous.truncate(MAX_PREVIOUS_VERSIONS);
                Some(replaced)
            }
            None if full => {
                return Change::Refused { name: name.into() };
            }
            None => {
                let history = History {
                    current: digest,
                    previous: VecDeque::new(),
                };
                self.modules.insert(name.into(), history);
                None
            }
        };
        Change::Loaded {
            name: name.into(),
            digest,
            replaced,
        }
    }

    /// The name shall stand for nothing; its history is forgotten.
    pub fn remove(&mut self, name: &str) -> Change {
        match self.modules.remove(name) {
            Some(history) => Change::Removed {
                name: name.into(),
                digest: history.current,
            },
            None => Change::Unchanged,
        }
    }

    /// What the name stands for.
    pub fn current(&self, name: &str) -> Option<Digest> {
        self.modules.get(name).map(|history| history.current)
    }

    /// The versions before the current one, newest first.
    pub fn previous(&self, name: &str) -> impl Iterator<Item = Digest> + '_ {
        self.modules
            .get(name)
            .into_iter()
            .flat_map(|history| history.previous.iter().copied())
    }

    /// Each module and its current version, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Digest)> {
        self.modules
            .iter()
            .map(|(name, history)| (name.as_str(), history.current))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u64) -> Digest {
        Digest::of(&n.to_le_bytes())
    }

    fn loaded(name: &str, n: u64, replaced: Option<u64>) -> Change {
        Change::Loaded {
            name: name.into(),
            digest: digest(n),
            replaced: replaced.map(digest),
        }
    }

    #[test]
    fn a_new_digest_replaces_and_the_same_one_does_nothing() {
        let mut versions = Versions::new();
        assert_eq!(versions.load("a", digest(1)), loaded("a", 1, None));
        assert_eq!(versions.load("a", digest(1)), Change::Unchanged);
        assert_eq!(versions.load("a", digest(2)), loaded("a", 2, Some(1)));
        assert_eq!(versions.current("a"), Some(digest(2)));
        assert_eq!(versions.previous("a").collect::<Vec<_>>(), [digest(1)]);
        assert_eq!(versions.iter().collect::<Vec<_>>(), [("a", digest(2))]);
    }

    #[test]
    fn going_back_is_a_load_and_repeats_nothing() {
        let mut versions = Versions::new();
        for n in [1, 2, 3, 1] {
            versions.load("a", digest(n));
        }
        assert_eq!(versions.current("a"), Some(digest(1)));
        assert_eq!(
            versions.previous("a").collect::<Vec<_>>(),
            [digest(3), digest(2)]
        );
    }

    #[test]
    fn history_is_bounded_and_ends_with_the_name() {
        let mut versions = Versions::new();
        for n in 0..100 {
            versions.load("a", digest(n));
        }
        let newest: Vec<_> = (91..99).rev().map(digest).collect();
        assert_eq!(versions.previous("a").collect::<Vec<_>>(), newest);
        assert_eq!(
            versions.remove("a"),
            Change::Removed {
                name: "a".into(),
                digest: digest(99)
            }
        );
        assert_eq!(versions.remove("a"), Change::Unchanged);
        assert_eq!(versions.current("a"), None);
        assert_eq!(versions.previous("a").count(), 0);
    }

    #[test]
    fn names_are_bounded() {
        let mut versions = Versions::new();
        for n in 0..MAX_MODULES {
            versions.load(&n.to_string(), digest(1));
        }
        assert_eq!(
            versions.load("more", digest(1)),
            Change::Refused {
                name: "more".into()
            }
        );
        assert_eq!(versions.load("0", digest(2)), loaded("0", 2, Some(1)));
    }
}

//! A to-do list's name, and where it lives: which worker keeps it, which global name its server
//! has. A name is text and nothing but text: never a path, never parsed.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::record::fnv1a;

/// The longest list name, in bytes of UTF-8. A longer one is refused with 400.
pub const MAX_LIST_BYTES: usize = 255;

/// How many database workers a node has. It decides which worker keeps a list, so it is the same
/// on all nodes and for the life of their stores.
pub const WORKERS: u32 = 4;

/// The local name of the database's manager on each node. Worker `i` is `todo-database-i`.
pub const DATABASE: &str = "todo-database";

/// The local name of the cache on each node.
pub const CACHE: &str = "todo-cache";

/// The local name of the supervisor of lists' servers on each node.
pub const LISTS: &str = "todo-lists";

/// The module of a list's server.
pub const SERVER_MODULE: &str = "todo-server";

/// The name of a list: 1 to [`MAX_LIST_BYTES`] bytes of any text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ListName(String);

/// Why a text names no list. The client's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListNameError {
    /// No text at all.
    Empty,
    /// More than [`MAX_LIST_BYTES`].
    TooLong,
}

impl fmt::Display for ListNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a list's name is empty"),
            Self::TooLong => write!(f, "a list's name is longer than {MAX_LIST_BYTES} bytes"),
        }
    }
}

impl TryFrom<String> for ListName {
    type Error = ListNameError;
    fn try_from(text: String) -> Result<Self, ListNameError> {
        match text.len() {
            0 => Err(ListNameError::Empty),
            1..=MAX_LIST_BYTES => Ok(Self(text)),
            _ => Err(ListNameError::TooLong),
        }
    }
}

impl From<ListName> for String {
    fn from(name: ListName) -> Self {
        name.0
    }
}

impl fmt::Display for ListName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ListName {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of this list's server in the global registry.
    pub fn global_name(&self) -> String {
        format!("todo_list:{}", self.0)
    }

    /// The number of the worker that keeps this list, on every node: below [`WORKERS`].
    pub fn worker(&self) -> u32 {
        // FNV's low bits alone are weak on short names: fold the whole of it in.
        let hash = fnv1a(&[self.0.as_bytes()]);
        let folded = (hash ^ (hash >> 64)) as u64;
        ((folded ^ (folded >> 32)) % u64::from(WORKERS)) as u32
    }
}

/// The local name of a worker on each node.
pub fn worker_name(worker: u32) -> String {
    format!("{DATABASE}-{worker}")
}

/// The storage bucket of a worker on each node.
pub fn bucket_name(worker: u32) -> String {
    format!("todo-{worker}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Result<ListName, ListNameError> {
        ListName::try_from(text.to_string())
    }

    #[test]
    fn any_text_within_the_limit_is_a_name() {
        for text in [
            "bob",
            "a/b/c",
            "../escape",
            " ",
            "\n",
            "\0",
            "ä",
            &"x".repeat(255),
        ] {
            assert_eq!(name(text).as_ref().map(ListName::as_str), Ok(text));
        }
        assert_eq!(name(""), Err(ListNameError::Empty));
        assert_eq!(name(&"x".repeat(256)), Err(ListNameError::TooLong));
        assert_eq!(name(&"ä".repeat(128)), Err(ListNameError::TooLong));
    }

    #[test]
    fn the_worker_of_a_list_never_changes() {
        // Stores on disk depend on these.
        let workers: Vec<_> = ["bob", "alice", "a/b/c", "list1", "list2", "list3"]
            .map(|text| name(text).map(|n| n.worker()).unwrap_or(u32::MAX))
            .into();
        assert_eq!(workers, [2, 2, 1, 3, 2, 1]);
    }

    #[test]
    fn lists_spread_over_the_workers() {
        let mut counts = [0; WORKERS as usize];
        for n in 0..1000 {
            counts[name(&format!("list{n}")).map_or(0, |n| n.worker()) as usize] += 1;
        }
        assert!(counts.iter().all(|n| (200..300).contains(n)), "{counts:?}");
    }
}

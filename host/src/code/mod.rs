//! Code as content-addressed data.
//!
//! Owns the bytes of components under their digests ([`store`]), which digest each module name
//! stands for ([`versions`]), the folders that modules come from ([`watcher`]) and compiled
//! code on disk ([`cache`]), made from bytes in which no instruction runs long (`bulk`). Knows nothing of actors: what a new version means for those that
//! run, and how a node asks another for bytes, is decided above.

mod bulk;
pub mod cache;
mod framing;
pub mod store;
pub mod versions;
pub mod watcher;

pub use cache::{CompileCache, CompileError};
pub use store::{CodeStore, StoreError};
pub use versions::{Change, Versions};
pub use watcher::{ModuleEvent, WatchError, Watcher};

/// The largest component, in bytes; a larger one is refused wherever it comes from.
pub const MAX_COMPONENT_BYTES: usize = 128 * 1024 * 1024;

//! Apps: a supervision tree, its modules and its listeners, described by a manifest; and a
//! node's policy, which bounds what they ask for.
//!
//! Owns reading that description and checking that it hangs together. Does not know what an
//! actor, a socket or a component is: the composition root turns a [`Manifest`] into those.

mod capabilities;
mod limits;
pub mod manifest;
pub mod policy;
pub mod spec;
pub mod tree;

pub use manifest::{Http, Manifest, ManifestError, Module, Origin};
pub use policy::{Policy, PolicyError, Rule};
pub use tree::Supervisor;

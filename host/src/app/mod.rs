//! Apps: a supervision tree, its modules and its listeners, described by a manifest.
//!
//! Owns reading that description and checking that it hangs together. Does not know what an
//! actor, a socket or a component is: the composition root turns a [`Manifest`] into those.

pub mod manifest;
pub mod spec;

pub use manifest::{
    Capability, Child, Http, Manifest, ManifestError, Module, Name, Origin, Restart, Strategy,
    Supervisor,
};

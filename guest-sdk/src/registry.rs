//! Names of actors on this node; those of the whole cluster are in [`global`].
//!
//! `erlang:register/2`, `unregister/1`, `whereis/1`, `registered/0`. An actor loses its names when
//! it ends. What differs: it may have several, and names are texts, so that they never run out.

pub mod global;

use crate::sys::registry;
use crate::{Pid, RegisterError};

/// Gives an actor of this node a name on this node; it goes when the actor ends.
pub fn register(name: &str, actor: Pid) -> Result<(), RegisterError> {
    registry::register(name, actor)
}

/// Whether there was such a name on this node.
pub fn unregister(name: &str) -> bool {
    registry::unregister(name)
}

/// Who has this name on this node.
pub fn whereis(name: &str) -> Option<Pid> {
    registry::whereis(name)
}

/// The names on this node.
pub fn registered() -> Vec<String> {
    registry::registered()
}

//! Names of processes on this node: Erlang's `register/2`.

use std::collections::HashMap;

use parking_lot::RwLock;
use wasm_node_protocol::{Pid, RegisterError};

/// The longest local name, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// Local names. A process may have several.
#[derive(Default)]
pub(super) struct Registry {
    names: RwLock<HashMap<String, Pid>>,
}

impl Registry {
    pub(super) fn register(&self, name: &str, pid: Pid) -> Result<(), RegisterError> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(RegisterError::BadName(format!(
                "a local name has 1 to {MAX_NAME_BYTES} bytes, this one {}",
                name.len()
            )));
        }
        let mut names = self.names.write();
        match names.get(name) {
            Some(&holder) => Err(RegisterError::Taken(holder)),
            None => {
                names.insert(name.to_owned(), pid);
                Ok(())
            }
        }
    }

    /// Whether there was such a name.
    pub(super) fn unregister(&self, name: &str) -> Option<Pid> {
        self.names.write().remove(name)
    }

    /// Removes a name if this process still holds it.
    pub(super) fn release(&self, name: &str, pid: Pid) {
        let mut names = self.names.write();
        if names.get(name) == Some(&pid) {
            names.remove(name);
        }
    }

    pub(super) fn whereis(&self, name: &str) -> Option<Pid> {
        self.names.read().get(name).copied()
    }

    /// All names, sorted.
    pub(super) fn registered(&self) -> Vec<(String, Pid)> {
        let mut names: Vec<_> = self
            .names
            .read()
            .iter()
            .map(|(n, p)| (n.clone(), *p))
            .collect();
        names.sort();
        names
    }
}

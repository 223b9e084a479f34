//! Which actors have an instance, and which of them should give it back.
//!
//! Owns the count and the order. Contract: while more than [`MAX_AWAKE_ACTORS`] actors that can
//! sleep have an instance, those that have not run for longest are asked to; beyond twice that,
//! those that were given theirs first, whatever they do. Does not put anybody to sleep: an actor
//! does that itself, in its next turn.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::process::Process;

/// Actors that can sleep and have an instance all the same. Beyond that, those that have waited
/// longest are put aside as data: about a kilobyte each instead of some twenty.
pub const MAX_AWAKE_ACTORS: usize = 2_048;

/// Entries looked at for each one that comes in: more than one, so that those who have left go
/// faster than new ones come.
const ENTRIES_PER_VISIT: usize = 4;

/// The actors of a node that are awake.
#[derive(Default)]
pub(in crate::wasm) struct Awake {
    count: AtomicUsize,
    /// Who was given an instance, in that order, with its turns when it was last looked at.
    order: Mutex<VecDeque<(Weak<Guest>, u64)>>,
    /// Whether the log has it that actors are put aside.
    said: AtomicBool,
}

/// Counts for one actor while it lives.
pub(super) struct Visit(#[expect(dead_code, reason = "held, not read")] Arc<Guest>);

struct Guest {
    process: Weak<Process>,
    awake: Arc<Awake>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.awake.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Awake {
    /// An actor is given an instance, which it holds as long as what this returns.
    pub(super) fn enter(self: &Arc<Self>, process: &Arc<Process>) -> Visit {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let guest = Arc::new(Guest {
            process: Arc::downgrade(process),
            awake: self.clone(),
        });
        let mut tired = None;
        {
            let mut order = self.order.lock();
            order.push_back((Arc::downgrade(&guest), process.turns()));
            let mut looked = 0;
            while order.len() > MAX_AWAKE_ACTORS && looked < ENTRIES_PER_VISIT {
                looked += 1;
                let Some((weak, seen)) = order.pop_front() else {
                    break;
                };
                // Left, or its actor ended.
                let Some(process) = weak.upgrade().and_then(|guest| guest.process.upgrade()) else {
                    continue;
                };
                let turns = process.turns();
                let many = count > 2 * MAX_AWAKE_ACTORS;
                if many || (count > MAX_AWAKE_ACTORS && turns == seen) {
                    // Comes in again with its next instance.
                    tired = Some(process);
                    break;
                }
                order.push_back((weak, turns));
            }
        }
        if let Some(process) = tired {
            if !self.said.swap(true, Ordering::Relaxed) {
                tracing::info!(
                    awake = count,
                    "many actors: from now on those idle for longest are put aside as data, and \
                     woken by their next message"
                );
            }
            process.ask_to_rest();
        }
        Visit(guest)
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.order.lock().len()
    }
}

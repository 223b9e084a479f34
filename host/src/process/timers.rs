//! Timers, on a thread of their own, so that busy workers never delay them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use wasm_node_protocol::{Pid, Ref, Signal};

use super::handle::Process;
use super::runtime::Runtime;

/// What happens when a timer fires.
pub(super) enum Action {
    /// The process looks at its own deadlines.
    Wake(Weak<Process>),
    /// The owner's timer message.
    Timer { owner: Pid, tag: Ref },
    /// Somebody gets an `info` message.
    Send {
        owner: Pid,
        to: Pid,
        body: Bytes,
        tag: Ref,
    },
}

#[derive(Default)]
struct Queue {
    /// Ordered by time, then by when they were set.
    due: BTreeMap<(Instant, u64), Action>,
    /// When the cancellable ones are due, by their ref's serial.
    by_ref: HashMap<u64, (Instant, u64)>,
    set: u64,
    stopping: bool,
}

/// All timers of a node.
#[derive(Default)]
pub(super) struct Timers {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Timers {
    /// Fires once, at `at` or a little later. One with a ref can be cancelled.
    pub(super) fn set(&self, at: Instant, tag: Option<Ref>, action: Action) {
        let mut queue = self.queue.lock();
        queue.set += 1;
        let key = (at, queue.set);
        if let Some(tag) = tag {
            queue.by_ref.insert(tag.serial, key);
        }
        let first = queue
            .due
            .first_key_value()
            .is_none_or(|(first, _)| key < *first);
        queue.due.insert(key, action);
        if first {
            self.changed.notify_one();
        }
    }

    /// Whether it was still to fire; if so it never will.
    pub(super) fn cancel(&self, tag: Ref) -> bool {
        let mut queue = self.queue.lock();
        let key = queue.by_ref.remove(&tag.serial);
        key.is_some_and(|key| queue.due.remove(&key).is_some())
    }

    pub(super) fn stop(&self) {
        self.queue.lock().stopping = true;
        self.changed.notify_one();
    }

    /// The timer thread's whole life.
    pub(super) fn run(&self, runtime: &Weak<Runtime>) {
        loop {
            let mut fired = Vec::new();
            {
                let mut queue = self.queue.lock();
                if queue.stopping {
                    return;
                }
                let now = Instant::now();
                while let Some(entry) = queue.due.first_entry() {
                    if entry.key().0 > now {
                        break;
                    }
                    fired.push(entry.remove());
                }
                for action in &fired {
                    if let Action::Timer { tag, .. } | Action::Send { tag, .. } = action {
                        queue.by_ref.remove(&tag.serial);
                    }
                }
                if fired.is_empty() {
                    match queue.due.first_key_value() {
                        Some((&(at, _), _)) => {
                            let _ = self.changed.wait_until(&mut queue, at);
                        }
                        None => self.changed.wait(&mut queue),
                    }
                }
            }
            let Some(runtime) = runtime.upgrade() else {
                return;
            };
            fired.into_iter().for_each(|action| fire(&runtime, action));
        }
    }
}

fn fire(runtime: &Arc<Runtime>, action: Action) {
    match action {
        Action::Wake(process) => {
            if let Some(process) = process.upgrade() {
                process.notify();
            }
        }
        Action::Timer { owner, tag } => {
            if let Some(owner) = runtime.get(owner) {
                owner.timer_over();
            }
            runtime.signal(owner, Signal::Timer { tag });
        }
        Action::Send {
            owner, to, body, ..
        } => {
            if let Some(owner) = runtime.get(owner) {
                owner.timer_over();
            }
            runtime.signal(to, Signal::Info(body));
        }
    }
}

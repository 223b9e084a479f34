//! How many clusters run at once: each is several busy processes, and a test that times what it
//! sees must not see the others.

use std::cell::Cell;
use std::sync::{Condvar, Mutex};

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

thread_local! {
    /// How many permits this thread has: a test with two sandboxes must not wait for itself.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// Leave to run a cluster. Ends when dropped, on the thread that got it.
pub(super) struct Permit(());

impl Permit {
    /// Waits for it.
    pub(super) fn wait() -> Self {
        if HELD.get() == 0 {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let most = (cores / 4).max(1);
            let mut running = RUNNING
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            while *running >= most {
                running = ENDED
                    .wait(running)
                    .unwrap_or_else(|poisoned| poisoned.into_inner());
            }
            *running += 1;
        }
        HELD.set(HELD.get() + 1);
        Self(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
        if HELD.get() == 0 {
            *RUNNING
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner()) -= 1;
            ENDED.notify_one();
        }
    }
}

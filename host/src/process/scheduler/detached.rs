//! Turns that compute without a lane, and how those among them that must end get to it.
//!
//! They run at the lowest priority, so beside busy lanes one may not come by the place where it is
//! asked whether it may go on for hundreds of milliseconds. Contract: while a turn here has to end, the
//! others here pause when they are asked, and so do the lanes between two turns, each for at most
//! [`LANE_PAUSE`] in [`LANE_PAUSE_EVERY`], however long the turn takes.
//!
//! Does not know priorities, nor who ends whom.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::watchdog::thread_cpu;

/// How long a lane waits for turns to end, at most.
const LANE_PAUSE: Duration = Duration::from_millis(1);

/// How often a lane does that, at most.
const LANE_PAUSE_EVERY: Duration = Duration::from_millis(5);

/// How long a turn without a lane waits for others to end, each time that it is asked.
const TURN_PAUSE: Duration = Duration::from_millis(5);

/// The turns that compute without a lane, by their processes' serials.
#[derive(Default)]
pub(super) struct Detached {
    turns: Mutex<Vec<Turn>>,
    /// How many of them have to end: a hint that costs no lock.
    ending: AtomicUsize,
    none_ending: Condvar,
}

struct Turn {
    serial: u64,
    ends: bool,
    /// Its thread, and what that had computed when it was looked at last.
    tid: u32,
    cpu: Duration,
}

impl Detached {
    /// A turn is about to lose its lane.
    pub(super) fn enter(&self, serial: u64, tid: u32, has_to_end: impl FnOnce() -> bool) {
        let mut turns = self.turns.lock();
        // Under the lock: whoever dooms the process first sets that, then comes here.
        let ends = has_to_end();
        turns.push(Turn {
            serial,
            ends,
            tid,
            cpu: thread_cpu(tid),
        });
        if ends {
            self.ending.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It is over, or kept its lane.
    pub(super) fn leave(&self, serial: u64) {
        let mut turns = self.turns.lock();
        let Some(at) = turns.iter().position(|turn| turn.serial == serial) else {
            return;
        };
        if turns.swap_remove(at).ends && self.ending.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.none_ending.notify_all();
        }
    }

    /// Says of each what it has computed since this was asked last, or since it came here.
    pub(super) fn charge(&self, mut computed: impl FnMut(u64, Duration)) {
        let charges: Vec<_> = {
            let mut turns = self.turns.lock();
            let since_last = |turn: &mut Turn| {
                let cpu = thread_cpu(turn.tid);
                let since = cpu.saturating_sub(std::mem::replace(&mut turn.cpu, cpu));
                (turn.serial, since)
            };
            turns.iter_mut().map(since_last).collect()
        };
        // Whoever is charged may have to end, which takes the lock.
        for (serial, since) in charges {
            computed(serial, since);
        }
    }

    /// A process has to end. It may be here or not.
    pub(super) fn doomed(&self, serial: u64) {
        let mut turns = self.turns.lock();
        let turn = turns.iter_mut().find(|turn| turn.serial == serial);
        if let Some(turn) = turn.filter(|turn| !turn.ends) {
            turn.ends = true;
            self.ending.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Asked of a turn that need not end, wherever it runs.
    pub(super) fn pause_turn(&self, serial: u64) {
        if self.ending.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut turns = self.turns.lock();
        let here = turns.iter().any(|turn| turn.serial == serial && !turn.ends);
        if here && self.ending.load(Ordering::Relaxed) > 0 {
            self.none_ending.wait_for(&mut turns, TURN_PAUSE);
        }
    }

    /// Between two turns of a lane, which paused last then.
    pub(super) fn pause_lane(&self, last: &mut Option<Instant>) {
        if self.ending.load(Ordering::Relaxed) == 0 {
            return;
        }
        let now = Instant::now();
        if last.is_some_and(|last| now.duration_since(last) < LANE_PAUSE_EVERY) {
            return;
        }
        *last = Some(now);
        let mut turns = self.turns.lock();
        if self.ending.load(Ordering::Relaxed) > 0 {
            self.none_ending.wait_for(&mut turns, LANE_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn others_pause_until_the_last_that_has_to_end_has_left() {
        let detached = Arc::<Detached>::default();
        detached.enter(1, 0, || false);
        detached.enter(2, 0, || true);
        detached.enter(3, 0, || false);
        detached.doomed(3);
        detached.doomed(3);
        detached.doomed(9);
        assert_eq!(detached.ending.load(Ordering::Relaxed), 2);
        let (other, order) = (detached.clone(), Arc::new(AtomicUsize::new(0)));
        let ended = order.clone();
        let pausing = std::thread::spawn(move || {
            // Time-outs are short: what counts is that it does not go on before.
            while other.ending.load(Ordering::Relaxed) > 0 {
                other.pause_turn(1);
            }
            ended.load(Ordering::SeqCst)
        });
        order.store(1, Ordering::SeqCst);
        detached.leave(2);
        detached.leave(2);
        detached.leave(3);
        assert_eq!(pausing.join().unwrap(), 1);
        assert_eq!(detached.ending.load(Ordering::Relaxed), 0);
        detached.leave(1);
        assert!(detached.turns.lock().is_empty());
    }

    #[test]
    fn a_lane_pauses_now_and_then_only_and_not_for_ever() {
        let detached = Detached::default();
        let mut last = None;
        detached.pause_lane(&mut last);
        assert_eq!(last, None);
        detached.enter(1, 0, || true);
        detached.pause_lane(&mut last);
        let paused = last.unwrap();
        detached.pause_lane(&mut last);
        let again = last.unwrap();
        assert!(again == paused || again.duration_since(paused) >= LANE_PAUSE_EVERY);
        // The one that ends does not wait for itself.
        detached.pause_turn(1);
    }
}

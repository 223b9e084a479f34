//! What looks at the lanes every millisecond: drives the engine's epochs, takes lanes from turns
//! that run long, fetches helpers for processes that wait behind one, and charges processes for what
//! their threads compute (`process/usage.rs`).
//!
//! Contract: judges a turn by what its thread has computed, so that one which the operating system
//! has taken off its processor keeps its lane. Sleeps while nothing runs.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use wasm_node_protocol::ExitReason;

use super::{EPOCH_TICK, Lane, MAX_DETACHED_THREADS, NO_DRIVER, Scheduler, start_driver};
use crate::process::runtime::Runtime;
use crate::process::usage::Look;

/// Looks of the watchdog that find the same turn still running, and computing for at least
/// [`CPU_BEFORE_DETACH`], before its lane is given to another thread.
const TICKS_BEFORE_DETACH: u32 = 2;

/// What a turn has to have computed to count as long: one that the operating system has merely
/// taken off its processor is not.
const CPU_BEFORE_DETACH: Duration = Duration::from_millis(1);

/// What a turn may compute while there are as many detached threads as there may be.
pub(super) const CPU_BEFORE_END: Duration = Duration::from_millis(200);

/// Looks after which a lane is given to another thread although its turn has not computed: it
/// waits for something, or the machine is overloaded.
const TICKS_BEFORE_GIVING_UP: u32 = 20;

/// The niceness of a detached thread: it must not compete with the lanes.
const DETACHED_NICENESS: i32 = 19;

/// The watchdog's whole life.
pub(super) fn watch(runtime: &Weak<Runtime>, tick: &dyn Fn()) {
    let mut seen: Vec<Seen> = Vec::new();
    let mut meters: Vec<Meter> = Vec::new();
    loop {
        std::thread::sleep(EPOCH_TICK);
        let Some(runtime) = runtime.upgrade() else {
            return;
        };
        let scheduler = &runtime.scheduler;
        if scheduler.stopping.load(Ordering::Relaxed) {
            return;
        }
        tick();
        seen.resize(scheduler.lanes.len(), Seen::default());
        meters.resize(scheduler.lanes.len(), Meter::default());
        scheduler.detached.charge(|serial, computed| {
            charge(&runtime, serial, computed, Look::Again);
        });
        let mut long = scheduler.detached_threads.load(Ordering::Relaxed) > 0;
        for (at, lane) in scheduler.lanes.iter().enumerate() {
            if lane.driver.load(Ordering::Acquire) == NO_DRIVER {
                start_driver(&runtime, at);
            }
            let turn = lane.turn.load(Ordering::Acquire);
            let seen = &mut seen[at];
            let cpu = meters[at].read(&runtime, lane, turn);
            if turn.is_multiple_of(2) || turn != seen.turn {
                *seen = Seen {
                    turn,
                    ticks: 0,
                    cpu: None,
                };
                continue;
            }
            seen.ticks += 1;
            long = true;
            release_next(scheduler, at);
            let computed = cpu.saturating_sub(*seen.cpu.get_or_insert(cpu));
            if seen.ticks >= TICKS_BEFORE_DETACH && computed >= CPU_BEFORE_DETACH {
                take_lane(&runtime, at, turn, Some(computed));
            } else if seen.ticks >= TICKS_BEFORE_GIVING_UP {
                take_lane(&runtime, at, turn, None);
            }
        }
        runtime.network().look_after(long);
        let all_idle = scheduler.idle.load(Ordering::SeqCst) == scheduler.lanes.len();
        if all_idle && scheduler.detached_threads.load(Ordering::Relaxed) == 0 {
            let mut asleep = scheduler.watchdog_sleep.lock();
            if scheduler.idle.load(Ordering::SeqCst) == scheduler.lanes.len() {
                *asleep = true;
                while *asleep && !scheduler.stopping.load(Ordering::Relaxed) {
                    scheduler.watchdog_wake.wait(&mut asleep);
                }
            }
        }
    }
}

/// What the watchdog knows of a lane.
#[derive(Clone, Copy, Default)]
struct Seen {
    turn: u64,
    ticks: u32,
    /// What the lane's thread had computed when the turn was first found still running.
    cpu: Option<Duration>,
}

/// What a lane's thread had computed at the last look, and the turn that ran then.
#[derive(Clone, Copy, Default)]
struct Meter {
    tid: u32,
    cpu: Duration,
    turn: u64,
}

impl Meter {
    /// Charges what was computed since to the process that runs, or that ran last; what the
    /// thread has computed since it began.
    fn read(&mut self, runtime: &Arc<Runtime>, lane: &Lane, turn: u64) -> Duration {
        let tid = lane.driver_tid.load(Ordering::Relaxed);
        let unchanged = tid == self.tid && turn == self.turn;
        if unchanged && turn.is_multiple_of(2) {
            // Nothing ran meanwhile.
            return self.cpu;
        }
        let cpu = thread_cpu(tid);
        let before = if tid == self.tid {
            self.cpu
        } else {
            Duration::ZERO
        };
        let look = match turn.is_multiple_of(2) {
            true => Look::None,
            false if unchanged => Look::Again,
            false => Look::First,
        };
        *self = Self { tid, cpu, turn };
        let computed = cpu.saturating_sub(before);
        let current = lane.current.load(Ordering::Relaxed);
        // Of the turn that was seen, or nobody's.
        if lane.turn.load(Ordering::Acquire) == turn {
            charge(runtime, current, computed, look);
        } else {
            charge(runtime, current, computed, Look::None);
        }
        cpu
    }
}

fn charge(runtime: &Arc<Runtime>, serial: u64, computed: Duration, look: Look) {
    if let Some(process) = runtime.process(serial)
        && let Some(limit) = process.cpu.charge(&process.bounds, computed, look)
    {
        process.doom(ExitReason::Limit(limit));
    }
}

/// What a thread of this process has computed since it began; zero if it is gone.
pub(super) fn thread_cpu(tid: u32) -> Duration {
    // How Linux numbers the clocks of threads (`CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED`).
    let clock = (!(tid as libc::clockid_t) << 3) | 6;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes to `time` alone; of a thread that is gone it fails.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        return Duration::ZERO;
    }
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What was to run next here may run elsewhere, as the turn before it takes its time.
fn release_next(scheduler: &Scheduler, at: usize) {
    let mut queue = scheduler.lanes[at].queue.lock();
    if let Some(next) = queue.next.take() {
        queue.rest.push_front(next);
    }
    let waiting = !queue.rest.is_empty();
    drop(queue);
    if waiting {
        scheduler.wake_one(at);
    }
}

/// Gives a lane to another thread; the turn that it ran goes on, at low priority if it has
/// computed for so long.
fn take_lane(runtime: &Arc<Runtime>, at: usize, turn: u64, computed: Option<Duration>) {
    let scheduler = &runtime.scheduler;
    let lane = &scheduler.lanes[at];
    let tid = lane.driver_tid.load(Ordering::Relaxed);
    let current = lane.current.load(Ordering::Relaxed);
    if lane.turn.load(Ordering::Acquire) != turn {
        return;
    }
    if scheduler.detached_threads.load(Ordering::Relaxed) >= MAX_DETACHED_THREADS {
        let long = computed.is_some_and(|computed| computed >= CPU_BEFORE_END);
        if let Some(process) = runtime.process(current).filter(|_| long) {
            process.doom(ExitReason::Limit(format!(
                "cpu: a turn ran long while {MAX_DETACHED_THREADS} others did"
            )));
        }
        return;
    }
    // Before its thread can leave; undone if it kept its lane.
    let process = runtime.process(current);
    let doomed = || process.is_some_and(|process| process.is_doomed());
    scheduler.detached.enter(current, tid, doomed);
    if !scheduler.detach(runtime, at, turn) {
        scheduler.detached.leave(current);
    } else if computed.is_some() {
        // SAFETY: changes a scheduling attribute of a thread of this process, nothing else;
        // if the thread is gone the call fails.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, tid, DETACHED_NICENESS) };
    }
}

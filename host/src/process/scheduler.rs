//! Which thread runs which process, and when.
//!
//! A fixed number of *lanes* (one a core) hold queues of runnable processes; each lane is
//! driven by one thread at a time. A turn is a plain call that cannot be suspended, so when
//! one runs long, a watchdog takes the lane away from its thread and gives it to another:
//! the first thread is *detached*, finishes its turn at low priority, and retires. Nothing
//! that waited in the lane notices. A turn that has to wait (a sender to an overfull
//! mailbox) detaches itself. Design after Go's scheduler (G, M, P and sysmon).
//!
//! Does not know what a process does. The watchdog is in [`watchdog`], the turns that compute
//! without a lane in [`detached`].

mod detached;
mod watchdog;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::handle::Process;
use super::network::Network;
use super::runtime::Runtime;
use detached::Detached;

/// How often the watchdog looks, and how long one engine epoch is.
pub const EPOCH_TICK: Duration = Duration::from_millis(1);

/// Threads that may be detached at once, waiting or computing. When half as many are, senders to
/// overfull mailboxes are suspended no more; when all are, a lane stays with its thread, and a
/// turn that has computed for [`watchdog::CPU_BEFORE_END`] ends with a `limit` reason.
const MAX_DETACHED_THREADS: usize = 256;

/// Processes from its own lane that a thread runs before it looks whether another lane
/// needs help.
const FAIRNESS_INTERVAL: u32 = 61;

/// In place of a driver's number: the lane has none.
const NO_DRIVER: u64 = 0;

struct Lane {
    queue: Mutex<Queue>,
    /// The thread that drives the lane, by number. A detached thread sees another here.
    driver: AtomicU64,
    /// The operating system's id of that thread.
    driver_tid: AtomicU32,
    /// Counts turns; odd while one runs.
    turn: AtomicU64,
    /// What runs, while the watchdog may want to end it: a pid's serial.
    current: AtomicU64,
    parked: AtomicBool,
    wake: Condvar,
    sleep: Mutex<Sleep>,
}

/// How a lane's thread sleeps.
#[derive(Default)]
struct Sleep {
    woken: bool,
    /// It waits for what other nodes send, not for the lane's condition.
    looks_out: bool,
}

#[derive(Default)]
struct Queue {
    /// Woken by the process that ran last here: runs next, while its message is in the cache.
    next: Option<Arc<Process>>,
    rest: VecDeque<Arc<Process>>,
}

/// The scheduler of one node.
pub(super) struct Scheduler {
    lanes: Box<[Lane]>,
    /// Where a thread without work may wait.
    network: Arc<OnceLock<Arc<dyn Network>>>,
    /// Lanes whose thread sleeps.
    idle: AtomicUsize,
    /// Where a push from outside goes next.
    round: AtomicUsize,
    threads: AtomicU64,
    /// Threads that are detached.
    detached_threads: AtomicUsize,
    /// The turns that compute on such threads.
    detached: Detached,
    stopping: AtomicBool,
    watchdog_sleep: Mutex<bool>,
    watchdog_wake: Condvar,
}

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// Which lane this thread drives, or drove.
struct Here {
    scheduler: *const Scheduler,
    lane: usize,
    thread: u64,
    /// The lane's count for the turn that this thread runs.
    turn: u64,
}

impl Scheduler {
    pub(super) fn new(lanes: usize, network: Arc<OnceLock<Arc<dyn Network>>>) -> Self {
        let lane = || Lane {
            queue: Mutex::default(),
            driver: AtomicU64::new(0),
            driver_tid: AtomicU32::new(0),
            turn: AtomicU64::new(0),
            current: AtomicU64::new(0),
            parked: AtomicBool::new(false),
            wake: Condvar::new(),
            sleep: Mutex::default(),
        };
        Self {
            lanes: (0..lanes.max(1)).map(|_| lane()).collect(),
            network,
            idle: AtomicUsize::new(0),
            round: AtomicUsize::new(0),
            threads: AtomicU64::new(0),
            detached_threads: AtomicUsize::new(0),
            detached: Detached::default(),
            stopping: AtomicBool::new(false),
            watchdog_sleep: Mutex::new(false),
            watchdog_wake: Condvar::new(),
        }
    }

    /// Starts the lanes' threads and the watchdog. `tick` is called every [`EPOCH_TICK`]
    /// while anything runs; `enter` once on each new thread, its result kept while it lives.
    pub(super) fn start(
        runtime: &Arc<Runtime>,
        tick: impl Fn() + Send + 'static,
    ) -> std::io::Result<()> {
        (0..runtime.scheduler.lanes.len()).for_each(|lane| start_driver(runtime, lane));
        let runtime = Arc::downgrade(runtime);
        std::thread::Builder::new()
            .name("watchdog".into())
            .spawn(move || watchdog::watch(&runtime, &tick))?;
        Ok(())
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.lanes.iter().for_each(|lane| self.unpark(lane));
        *self.watchdog_sleep.lock() = false;
        self.watchdog_wake.notify_all();
    }

    /// Queues a process; wakes a thread if one sleeps and the work is not just next here.
    pub(super) fn push(&self, process: Arc<Process>) {
        match self.own_lane() {
            Some(lane) => {
                let displaced = self.lanes[lane].queue.lock().put_next(process);
                if displaced {
                    self.wake_one(lane);
                }
                // The lane may have been taken away just now, and its new thread be asleep.
                if self.own_lane() != Some(lane) {
                    self.unpark(&self.lanes[lane]);
                }
            }
            None => {
                let lane = self.lane_for_outsider();
                self.lanes[lane].queue.lock().rest.push_back(process);
                fence(Ordering::SeqCst);
                if self.lanes[lane].parked.load(Ordering::SeqCst) {
                    self.unpark(&self.lanes[lane]);
                } else {
                    self.wake_one(lane);
                }
            }
        }
    }

    /// Queues a process before all others of this thread's lane, but what its turn wakes: it
    /// gives back what the others want.
    pub(super) fn push_front(&self, process: Arc<Process>) {
        match self.own_lane() {
            Some(lane) => {
                self.lanes[lane].queue.lock().rest.push_front(process);
                // As in `push`.
                if self.own_lane() != Some(lane) {
                    self.unpark(&self.lanes[lane]);
                }
            }
            None => self.push(process),
        }
    }

    /// Queues a process behind all others of its lane: it had its turn.
    fn push_back(&self, process: Arc<Process>) {
        let lane = self.own_lane().unwrap_or_else(|| self.lane_for_outsider());
        self.lanes[lane].queue.lock().rest.push_back(process);
        fence(Ordering::SeqCst);
        if self.own_lane() != Some(lane) && self.lanes[lane].parked.load(Ordering::SeqCst) {
            self.unpark(&self.lanes[lane]);
        }
    }

    /// A process has to end: if its turn has lost its lane, the others let it.
    pub(super) fn doomed(&self, serial: u64) {
        self.detached.doomed(serial);
    }

    /// A process that need not end, in its turn, may go on, perhaps a little later: others have to.
    pub(super) fn may_go_on(&self, serial: u64) {
        self.detached.pause_turn(serial);
    }

    /// Runs `wait`, which blocks this thread, without holding up this thread's lane; not if so
    /// many threads do that already that others would have none left.
    pub(super) fn while_blocked(&self, runtime: &Arc<Runtime>, wait: impl FnOnce()) {
        if self.detached_threads.load(Ordering::Relaxed) >= MAX_DETACHED_THREADS / 2 {
            return;
        }
        runtime.network().flush();
        let mut without_lane = None;
        if let Some((lane, turn)) = self.own_turn() {
            let serial = self.lanes[lane].current.load(Ordering::Relaxed);
            without_lane = self.detach(runtime, lane, turn).then_some(serial);
        }
        wait();
        // From here on it may compute.
        if let Some(serial) = without_lane {
            let process = runtime.process(serial);
            let doomed = || process.is_some_and(|process| process.is_doomed());
            // SAFETY: no arguments, cannot fail.
            let tid = unsafe { libc::gettid() } as u32;
            self.detached.enter(serial, tid, doomed);
        }
    }

    fn lane_for_outsider(&self) -> usize {
        if self.idle.load(Ordering::Relaxed) > 0
            && let Some(lane) = self
                .lanes
                .iter()
                .position(|l| l.parked.load(Ordering::Relaxed))
        {
            return lane;
        }
        self.round.fetch_add(1, Ordering::Relaxed) % self.lanes.len()
    }

    /// The lane that this thread drives at this moment.
    fn own_lane(&self) -> Option<usize> {
        HERE.with_borrow(|here| {
            let here = here
                .as_ref()
                .filter(|here| std::ptr::eq(here.scheduler, self))?;
            let drives = self.lanes[here.lane].driver.load(Ordering::Relaxed) == here.thread;
            drives.then_some(here.lane)
        })
    }

    /// The lane and the turn that this thread runs, or was running when it was detached.
    fn own_turn(&self) -> Option<(usize, u64)> {
        HERE.with_borrow(|here| {
            let here = here
                .as_ref()
                .filter(|here| std::ptr::eq(here.scheduler, self))?;
            Some((here.lane, here.turn))
        })
    }

    /// Wakes the thread of some idle lane, which then looks for work in all.
    fn wake_one(&self, except: usize) {
        fence(Ordering::SeqCst);
        if self.idle.load(Ordering::SeqCst) == 0 {
            return;
        }
        let parked =
            |(at, lane): &(usize, &Lane)| *at != except && lane.parked.load(Ordering::SeqCst);
        if let Some((_, lane)) = self.lanes.iter().enumerate().find(parked) {
            self.unpark(lane);
        }
    }

    /// Work for the driver of `lane`: its own, or another's.
    fn find(&self, lane: usize, round: u32) -> Option<Arc<Process>> {
        if round.is_multiple_of(FAIRNESS_INTERVAL)
            && let Some(process) = self.steal(lane)
        {
            return Some(process);
        }
        let own = {
            let mut queue = self.lanes[lane].queue.lock();
            // Two that wake each other must not starve the rest of the lane.
            let rest_first = round.is_multiple_of(FAIRNESS_INTERVAL / 2);
            if rest_first && let Some(process) = queue.rest.pop_front() {
                Some(process)
            } else {
                queue.next.take().or_else(|| queue.rest.pop_front())
            }
        };
        own.or_else(|| self.steal(lane))
    }

    fn steal(&self, lane: usize) -> Option<Arc<Process>> {
        let others = (1..self.lanes.len()).map(|step| (lane + step) % self.lanes.len());
        for other in others {
            let Some(mut queue) = self.lanes[other].queue.try_lock() else {
                continue;
            };
            if let Some(process) = queue.rest.pop_front() {
                // Half of what is there moves over, so that thieves do not come for each one.
                let more = queue.rest.len() / 2;
                let batch: Vec<_> = queue.rest.drain(..more).collect();
                drop(queue);
                if !batch.is_empty() {
                    self.lanes[lane].queue.lock().rest.extend(batch);
                }
                return Some(process);
            }
        }
        None
    }

    fn unpark(&self, lane: &Lane) {
        let looks_out = {
            let mut sleep = lane.sleep.lock();
            sleep.woken = true;
            sleep.looks_out
        };
        match self.network.get() {
            Some(network) if looks_out => network.ring(),
            _ => {
                lane.wake.notify_one();
            }
        }
    }

    fn any_work(&self) -> bool {
        self.lanes.iter().any(|lane| {
            let queue = lane.queue.lock();
            !queue.rest.is_empty()
        })
    }

    /// Gives a lane to a new thread, if that turn still runs there. Its count decides: the
    /// thread that ends the turn and whoever takes the lane both try to move it on.
    fn detach(&self, runtime: &Arc<Runtime>, lane: usize, turn: u64) -> bool {
        let taken = self.lanes[lane].end_turn(turn);
        if taken {
            self.detached_threads.fetch_add(1, Ordering::Relaxed);
            start_driver(runtime, lane);
        }
        taken
    }
}

impl Queue {
    /// Whether something else had to give way into the queue, where others can take it.
    fn put_next(&mut self, process: Arc<Process>) -> bool {
        match self.next.replace(process) {
            Some(displaced) => {
                self.rest.push_back(displaced);
                true
            }
            None => false,
        }
    }
}

impl Lane {
    /// Whether that turn ended by this, and had not been taken away before.
    fn end_turn(&self, turn: u64) -> bool {
        self.turn
            .compare_exchange(turn, turn + 1, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// Gives a lane that has none a new thread. If that fails, the watchdog tries again.
fn start_driver(runtime: &Arc<Runtime>, at: usize) {
    let lane = &runtime.scheduler.lanes[at];
    let thread = runtime.scheduler.threads.fetch_add(1, Ordering::Relaxed) + 1;
    lane.driver.store(thread, Ordering::Release);
    let weak = Arc::downgrade(runtime);
    let life = move || drive(&weak, at, thread);
    if let Err(error) = std::thread::Builder::new()
        .name(format!("lane-{at}"))
        .spawn(life)
    {
        lane.driver.store(NO_DRIVER, Ordering::Release);
        tracing::error!(%error, "cannot start a worker thread; trying again");
    }
}

/// The whole life of a lane's thread.
fn drive(runtime: &Weak<Runtime>, at: usize, thread: u64) {
    let Some(strong) = runtime.upgrade() else {
        return;
    };
    let _entered = strong.enter_io();
    let scheduler: &Scheduler = &strong.scheduler;
    HERE.set(Some(Here {
        scheduler,
        lane: at,
        thread,
        turn: 0,
    }));
    let lane = &scheduler.lanes[at];
    // SAFETY: no arguments, cannot fail.
    lane.driver_tid
        .store(unsafe { libc::gettid() } as u32, Ordering::Relaxed);
    let mut round: u32 = 0;
    let mut paused = None;
    while !scheduler.stopping.load(Ordering::Relaxed) {
        round = round.wrapping_add(1);
        scheduler.detached.pause_lane(&mut paused);
        match scheduler.find(at, round) {
            Some(process) => {
                let serial = process.pid.serial;
                lane.current.store(serial, Ordering::Relaxed);
                // Nobody else moves an even count on.
                let turn = lane.turn.load(Ordering::Relaxed) + 1;
                lane.turn.store(turn, Ordering::Release);
                HERE.with_borrow_mut(|here| here.as_mut().map(|here| here.turn = turn));
                let again = strong.run(&process);
                let detached = !lane.end_turn(turn);
                if detached {
                    // Before the process can have another turn, elsewhere.
                    scheduler.detached.leave(serial);
                }
                if again {
                    scheduler.push_back(process);
                }
                strong.network().turn_over();
                if detached {
                    strong.network().flush();
                    // The lane has another driver; this thread's priority cannot be
                    // restored without privileges, so it ends.
                    scheduler.detached_threads.fetch_sub(1, Ordering::Relaxed);
                    return;
                }
            }
            None => park(scheduler, lane, strong.network()),
        }
    }
}

fn park(scheduler: &Scheduler, lane: &Lane, network: &dyn Network) {
    lane.parked.store(true, Ordering::SeqCst);
    scheduler.idle.fetch_add(1, Ordering::SeqCst);
    fence(Ordering::SeqCst);
    let mut asleep = true;
    let mut rise = || {
        if std::mem::replace(&mut asleep, false) {
            rise(scheduler, lane);
        }
    };
    // Whoever pushed before it could see `parked` is seen here.
    if !scheduler.any_work() && !scheduler.stopping.load(Ordering::SeqCst) {
        let woken = {
            let mut sleep = lane.sleep.lock();
            sleep.looks_out = !sleep.woken;
            sleep.woken
        };
        if !woken && !network.look_out(&mut rise) {
            let mut sleep = lane.sleep.lock();
            sleep.looks_out = false;
            while !sleep.woken {
                lane.wake.wait(&mut sleep);
            }
        }
    }
    rise();
}

/// A lane's thread sleeps no longer.
fn rise(scheduler: &Scheduler, lane: &Lane) {
    *lane.sleep.lock() = Sleep::default();
    lane.parked.store(false, Ordering::SeqCst);
    scheduler.idle.fetch_sub(1, Ordering::SeqCst);
    let mut asleep = scheduler.watchdog_sleep.lock();
    if *asleep {
        *asleep = false;
        scheduler.watchdog_wake.notify_one();
    }
}

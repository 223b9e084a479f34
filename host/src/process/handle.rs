//! One process as the others see it: a pid, an inbox and a place in the schedule.
//!
//! Anybody may push signals into the inbox; only the worker that runs the process takes
//! them out. The inbox closes exactly once, at the process' end; what was in it is answered
//! then, and what comes later is handed back to its sender.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::Wake;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard, ReentrantMutex};
use wasm_node_protocol::{Capabilities, Digest, ExitReason, Incarnation, Limits, Pid, Signal};

use super::actor::{Actor, Vitals};
use super::info::Status;
use super::runtime::Runtime;
use super::scheduler::Scheduler;
use super::spin::SpinMutex;
use super::usage::{Bounds, CpuTime};
use super::{
    MAILBOX_HIGH_BYTES, MAILBOX_HIGH_MESSAGES, MAILBOX_LIMIT_BYTES, MAX_TIMERS_PER_ACTOR, Program,
};

/// What comes into an inbox: signals, and what the node itself has to say.
#[derive(Debug)]
pub(super) enum Incoming {
    Signal(Signal),
    /// The connection to that run of a node is down.
    NodeDown(Incarnation),
}

/// How a push into an inbox went.
pub(super) enum Pushed {
    Ok,
    /// Taken, but the sender should pause.
    Full,
    /// Its body is larger than the process takes; here it is back.
    TooLarge(Signal),
    /// The process has ended; here is the signal back.
    Closed(Signal),
}

#[derive(Default)]
struct Inbox {
    queue: VecDeque<Incoming>,
    bytes: usize,
    closed: bool,
    /// Senders waiting for room.
    waiters: u32,
    /// The reason with which the process has to end, whatever it does.
    doom: Option<ExitReason>,
}

/// Where a process is in the schedule.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Schedule {
    /// Waiting for a signal.
    Idle,
    /// In a run queue.
    Queued,
    /// On a worker.
    Running,
    /// On a worker, and something came meanwhile.
    Notified,
    /// Ended.
    Over,
}

/// A process.
pub struct Process {
    /// Its identity.
    pub pid: Pid,
    schedule: AtomicU8,
    doomed: AtomicBool,
    /// Whether it should give back what it can do without, when it next has nothing to do.
    rest: AtomicBool,
    turns: AtomicU64,
    /// Whether its turn waits for room at another process or link.
    suspended: AtomicBool,
    /// Whether it ever had anything to do with another node: those hear of nodes going down.
    pub(super) remote: AtomicBool,
    /// Whether it ever took a global name, joined a group or monitored one: its end is told.
    pub(super) in_cluster_tables: AtomicBool,
    inbox: SpinMutex<Inbox>,
    /// Whether something is in the inbox: a hint that costs no lock.
    waiting: AtomicBool,
    /// Where senders wait for room; taken before the inbox where both are.
    room: (Mutex<()>, Condvar),
    /// Held by the thread that runs it, for the whole turn; what is done on its behalf in the
    /// turn finds it held by its own thread, which costs next to nothing. So nobody else may
    /// wait for it who must not wait for a turn.
    pub(super) state: ReentrantMutex<State>,
    names: Mutex<Vec<String>>,
    /// Timers that have not fired.
    timers: AtomicUsize,
    runtime: Weak<Runtime>,
    label: String,
    parent: Option<Pid>,
    began: Instant,
    /// What it may touch and pass on.
    capabilities: Mutex<Capabilities>,
    pub(super) bounds: Bounds,
    pub(super) cpu: CpuTime,
}

/// What only the thread that runs a process sees.
pub(super) struct State {
    pub(super) actor: RefCell<Actor>,
    /// `None` until the code is there, and again when the process has ended.
    pub(super) program: RefCell<Option<Box<dyn Program>>>,
}

impl Process {
    pub(super) fn new(
        pid: Pid,
        runtime: Weak<Runtime>,
        label: String,
        actor: Actor,
        parent: Option<Pid>,
        limits: Limits,
    ) -> Self {
        Self {
            pid,
            schedule: AtomicU8::new(Schedule::Idle as u8),
            doomed: AtomicBool::new(false),
            rest: AtomicBool::new(false),
            turns: AtomicU64::new(0),
            suspended: AtomicBool::new(false),
            remote: AtomicBool::new(false),
            in_cluster_tables: AtomicBool::new(false),
            inbox: SpinMutex::default(),
            waiting: AtomicBool::new(false),
            room: (Mutex::new(()), Condvar::new()),
            state: ReentrantMutex::new(State {
                actor: RefCell::new(actor),
                program: RefCell::new(None),
            }),
            names: Mutex::default(),
            timers: AtomicUsize::new(0),
            runtime,
            label,
            parent,
            began: Instant::now(),
            capabilities: Mutex::default(),
            bounds: Bounds::new(limits),
            cpu: CpuTime::default(),
        }
    }

    /// The runtime it lives in; `None` while that is being torn down.
    pub fn runtime(&self) -> Option<Arc<Runtime>> {
        self.runtime.upgrade()
    }

    /// Looks at, or changes, its state as an actor: links, monitors, mailbox. `act` must not do
    /// that again. In its turn, or for a process of the host's own; anybody else waits for the
    /// turn to end.
    pub fn with_actor<T>(&self, act: impl FnOnce(&mut Actor) -> T) -> T {
        let state = self.state.lock();
        let mut actor = state.actor.borrow_mut();
        act(&mut actor)
    }

    /// Its local names.
    pub(super) fn names(&self) -> MutexGuard<'_, Vec<String>> {
        self.names.lock()
    }

    /// A timer of its own begins; whether it has no more than it may.
    pub(super) fn timer_begins(&self) -> bool {
        self.timers.fetch_add(1, Ordering::Relaxed) < MAX_TIMERS_PER_ACTOR
    }

    /// A timer of its own fired, or was cancelled.
    pub(super) fn timer_over(&self) {
        self.timers.fetch_sub(1, Ordering::Relaxed);
    }

    /// What it runs.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Who spawned it, if that was an actor.
    pub fn parent(&self) -> Option<Pid> {
        self.parent
    }

    /// How long it has lived.
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// From now on it hears of nodes going down.
    pub(super) fn hears_of_nodes(&self) {
        self.remote.store(true, Ordering::Release);
    }

    /// What it may touch beyond other actors, and pass on to those it spawns.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities.lock().clone()
    }

    /// From now on it holds these, which are some of what it held: of another version of its
    /// code, which may do less. Before it begins, and in its own turn.
    pub fn hold(&self, capabilities: Capabilities) {
        *self.capabilities.lock() = capabilities;
    }

    /// The linear memory that it may use, in bytes.
    pub fn memory_limit_bytes(&self) -> u64 {
        self.bounds.memory_bytes()
    }

    /// Makes its limits tighter, never looser. Those of memory and mailbox are looked at when
    /// these grow next.
    pub fn tighten(&self, limits: Limits) {
        self.bounds.tighten(limits);
    }

    /// Whether it has to end: an interrupted guest asks this and traps.
    pub fn is_doomed(&self) -> bool {
        self.doomed.load(Ordering::Relaxed)
    }

    /// Whether its turn may go on, asked by a guest that was interrupted: not if it has to end.
    /// May take some milliseconds, on a thread that holds up nobody.
    pub fn may_go_on(&self, runtime: &Runtime) -> bool {
        if self.is_doomed() {
            return false;
        }
        runtime.scheduler.may_go_on(self.pid.serial);
        !self.is_doomed()
    }

    /// Makes it end with this reason as soon as its code can be interrupted. The first
    /// reason stays.
    pub fn doom(self: &Arc<Self>, reason: ExitReason) {
        self.inbox.lock().doom.get_or_insert(reason);
        self.doomed.store(true, Ordering::Relaxed);
        if let Some(runtime) = self.runtime() {
            runtime.scheduler.doomed(self.pid.serial);
        }
        self.notify();
    }

    /// Turns that it has begun.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Whether it has not ended.
    pub fn is_alive(&self) -> bool {
        self.schedule.load(Ordering::Relaxed) != Schedule::Over as u8
    }

    /// Whether messages wait for it; in its own turn.
    pub fn has_messages(&self) -> bool {
        self.has_incoming() || self.with_actor(|actor| actor.mailbox_len() > 0)
    }

    /// Whether something came that was not taken in. What comes at this moment may be missed:
    /// it is notified after that.
    pub(super) fn has_incoming(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// Asks it to give back what it can do without while it has nothing to do.
    pub fn ask_to_rest(self: &Arc<Self>) {
        self.rest.store(true, Ordering::Relaxed);
        if let Some(runtime) = self.runtime.upgrade() {
            self.notify_by(|process| runtime.scheduler.push_front(process));
        }
    }

    /// Whether it was asked to rest.
    pub fn rest_is_asked(&self) -> bool {
        self.rest.load(Ordering::Relaxed)
    }

    /// Whether it was asked to rest; not any more.
    pub fn take_rest(&self) -> bool {
        self.rest_is_asked() && self.rest.swap(false, Ordering::Relaxed)
    }

    pub(super) fn take_doom(&self) -> Option<ExitReason> {
        if self.is_doomed() {
            self.inbox.lock().doom.clone()
        } else {
            None
        }
    }

    /// Puts a signal into the inbox and sees to it that the process runs.
    pub(super) fn push(self: &Arc<Self>, scheduler: &Scheduler, signal: Signal) -> Pushed {
        let size = body_bytes(&signal);
        if !self.bounds.admits(size) {
            return Pushed::TooLarge(signal);
        }
        let mut inbox = self.inbox.lock();
        if inbox.closed {
            return Pushed::Closed(signal);
        }
        // `kill` overtakes everything, as nothing may hold it up.
        let kill = matches!(
            signal,
            Signal::Exit {
                reason: ExitReason::Kill,
                link: false,
                ..
            }
        );
        inbox.queue.push_back(Incoming::Signal(signal));
        inbox.bytes += size;
        self.waiting.store(true, Ordering::Release);
        let (messages, bytes) = (inbox.queue.len(), inbox.bytes);
        drop(inbox);
        let mailbox_limit = self.bounds.mailbox_messages();
        if kill {
            self.doom(ExitReason::Killed);
        } else if messages > mailbox_limit {
            self.doom(ExitReason::Limit(format!(
                "mailbox: more than {mailbox_limit} messages"
            )));
        } else if bytes > MAILBOX_LIMIT_BYTES {
            self.doom(ExitReason::Limit(format!(
                "mailbox: more than {MAILBOX_LIMIT_BYTES} bytes"
            )));
        } else {
            self.notify_on(scheduler);
        }
        let high = MAILBOX_HIGH_MESSAGES.min(mailbox_limit / 2 + 1);
        if messages >= high || bytes >= MAILBOX_HIGH_BYTES {
            Pushed::Full
        } else {
            Pushed::Ok
        }
    }

    pub(super) fn push_node_down(self: &Arc<Self>, node: Incarnation) {
        let mut inbox = self.inbox.lock();
        if !inbox.closed {
            inbox.queue.push_back(Incoming::NodeDown(node));
            self.waiting.store(true, Ordering::Release);
            drop(inbox);
            self.notify();
        }
    }

    /// Blocks the calling thread until the inbox was emptied, the process ended, or `until`.
    pub(super) fn wait_for_room(&self, until: Instant) {
        let (room, changed) = &self.room;
        let mut room = room.lock();
        self.inbox.lock().waiters += 1;
        loop {
            let inbox = self.inbox.lock();
            let full = inbox.queue.len() >= MAILBOX_HIGH_MESSAGES / 2
                || inbox.bytes >= MAILBOX_HIGH_BYTES / 2;
            let wait = full && !inbox.closed;
            drop(inbox);
            // Whoever makes room from now on sees that somebody waits, and waits for `room`.
            if !wait || changed.wait_until(&mut room, until).timed_out() {
                break;
            }
        }
        self.inbox.lock().waiters -= 1;
    }

    fn tell_waiters(&self) {
        let (room, changed) = &self.room;
        drop(room.lock());
        changed.notify_all();
    }

    /// Takes all that came in, into an empty queue.
    pub(super) fn drain(&self, into: &mut VecDeque<Incoming>) {
        let mut inbox = self.inbox.lock();
        std::mem::swap(&mut inbox.queue, into);
        inbox.bytes = 0;
        self.waiting.store(false, Ordering::Release);
        let waiters = inbox.waiters;
        drop(inbox);
        if waiters > 0 {
            self.tell_waiters();
        }
    }

    /// Closes the inbox, once; gives what was still in it.
    pub(super) fn close(&self) -> VecDeque<Incoming> {
        let mut inbox = self.inbox.lock();
        inbox.closed = true;
        self.schedule.store(Schedule::Over as u8, Ordering::Release);
        let left = std::mem::take(&mut inbox.queue);
        drop(inbox);
        self.tell_waiters();
        left
    }

    /// Sees to it that the process runs: now, or once more if it is running.
    pub fn notify(self: &Arc<Self>) {
        if let Some(runtime) = self.runtime.upgrade() {
            self.notify_on(&runtime.scheduler);
        }
    }

    fn notify_on(self: &Arc<Self>, scheduler: &Scheduler) {
        self.notify_by(|process| scheduler.push(process));
    }

    fn notify_by(self: &Arc<Self>, push: impl FnOnce(Arc<Self>)) {
        loop {
            let now = self.schedule.load(Ordering::Acquire);
            let next = if now == Schedule::Idle as u8 {
                Schedule::Queued
            } else if now == Schedule::Running as u8 {
                Schedule::Notified
            } else {
                return;
            };
            if self
                .schedule
                .compare_exchange(now, next as u8, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
            {
                if next == Schedule::Queued {
                    push(self.clone());
                }
                return;
            }
        }
    }

    /// A worker begins to run it.
    pub(super) fn begin(&self) {
        self.schedule
            .store(Schedule::Running as u8, Ordering::Release);
        // Nobody else writes it.
        let turns = self.turns.load(Ordering::Relaxed);
        self.turns.store(turns.wrapping_add(1), Ordering::Relaxed);
    }

    /// A worker is done with it; whether it has to be queued again.
    pub(super) fn end(&self, again: bool) -> bool {
        if !again
            && self
                .schedule
                .compare_exchange(
                    Schedule::Running as u8,
                    Schedule::Idle as u8,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                )
                .is_ok()
        {
            return false;
        }
        self.schedule
            .store(Schedule::Queued as u8, Ordering::Release);
        true
    }

    /// Signals that it has not taken in.
    pub(super) fn incoming(&self) -> usize {
        self.inbox.lock().queue.len()
    }

    /// Its turn waits for room elsewhere, or goes on.
    pub(super) fn set_suspended(&self, suspended: bool) {
        self.suspended.store(suspended, Ordering::Relaxed);
    }

    pub(super) fn status(&self) -> Status {
        let now = self.schedule.load(Ordering::Relaxed);
        if now == Schedule::Queued as u8 {
            Status::Runnable
        } else if now != Schedule::Running as u8 && now != Schedule::Notified as u8 {
            Status::Waiting
        } else if self.suspended.load(Ordering::Relaxed) {
            Status::Suspended
        } else {
            Status::Running
        }
    }
}

impl Process {
    /// What it knows of itself, and its code; nothing in the middle of a turn.
    pub fn look_inside(&self) -> Option<(Vitals, Option<Digest>)> {
        let state = self.state.try_lock()?;
        let vitals = state.actor.try_borrow().ok()?.vitals();
        let program = state.program.try_borrow().ok()?;
        let code = program.as_ref().and_then(|program| program.code());
        Some((vitals, code))
    }
}

impl Wake for Process {
    fn wake(self: Arc<Self>) {
        self.notify();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.notify();
    }
}

fn body_bytes(signal: &Signal) -> usize {
    match signal {
        Signal::Info(body)
        | Signal::Cast(body)
        | Signal::Request { body, .. }
        | Signal::Output { text: body, .. } => body.len(),
        Signal::Response {
            result: Ok(body), ..
        } => body.len(),
        Signal::Alias { message, .. } => message.body().len(),
        _ => 0,
    }
}

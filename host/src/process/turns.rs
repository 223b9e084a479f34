//! One turn of a process: signals in, its program run, and, at its end, everybody answered.
//!
//! Contract: called by the lane that drives the process, one call at a time for each. Does not
//! know which process is next, nor where signals go.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Instant;

use wasm_node_protocol::{Digest, ExitReason, Pid, Signal, SpawnError};

use super::actor::{Actor, Starter};
use super::handle::Process;
use super::runtime::Runtime;
use super::timers::Action;
use super::{MAILBOX_HIGH_MESSAGES, Step};
use crate::panic;

impl Runtime {
    /// Runs a process until its turn is over; whether it wants another at once. If the node's own
    /// code panics meanwhile, the process ends with `Trap`, and no other is harmed.
    pub(super) fn run(self: &Arc<Self>, process: &Arc<Process>) -> bool {
        match catch_unwind(AssertUnwindSafe(|| self.turn(process))) {
            Ok(again) => again,
            Err(panic) => {
                self.failed(process, &panic::words(panic.as_ref()));
                false
            }
        }
    }

    /// The turn of a process has panicked, somewhere: it ends as far as it can.
    #[cold]
    fn failed(self: &Arc<Self>, process: &Arc<Process>, panic: &str) {
        tracing::error!(
            pid = process.pid.display(0),
            panic,
            "the node's own code failed; the actor ends"
        );
        let reason = ExitReason::Trap(format!("the node's own code failed: {panic}"));
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let state = process.state.lock();
            let program = state.program.take();
            let code = program.as_ref().and_then(|program| program.code());
            self.finish(process, &reason, code);
            drop(program);
        }));
        if ended.is_err() {
            self.table.remove(process.pid.serial);
            process.close();
        }
    }

    fn turn(self: &Arc<Self>, process: &Arc<Process>) -> bool {
        process.begin();
        let state = process.state.lock();
        let mut program = state.program.borrow_mut();
        if let Some(reason) = self.take_in(process) {
            let code = program.as_ref().and_then(|program| program.code());
            *program = None;
            drop(program);
            self.finish(process, &reason, code);
            return false;
        }
        // Woken for nothing that concerns its code, or the code is not there yet.
        let nothing_to_do = match &*program {
            Some(program) => !program.wants_turn() && state.actor.borrow().mailbox_len() == 0,
            None => true,
        };
        if nothing_to_do {
            self.arm(process);
            return process.end(false);
        }
        let polled = program.as_mut().map(|program| program.run(process));
        match polled {
            Some(Poll::Ready(Step::Stop(reason))) => {
                let program = program.take();
                let code = program.as_ref().and_then(|program| program.code());
                self.finish(process, &process.take_doom().unwrap_or(reason), code);
                drop(program);
                false
            }
            Some(Poll::Ready(step)) => {
                let wants = program.as_ref().is_some_and(|program| program.wants_turn());
                drop(program);
                self.after(process, &step, wants)
            }
            Some(Poll::Pending) | None => {
                drop(program);
                self.arm(process);
                process.end(false)
            }
        }
    }

    /// Accepts signals; the reason if the process has to end.
    fn take_in(self: &Arc<Self>, process: &Process) -> Option<ExitReason> {
        if let Some(reason) = process.take_doom() {
            return Some(reason);
        }
        let (ending, answers) = process.with_actor(|actor| {
            // What an actor with much to do did not take in yet stays in the inbox, where it
            // counts for those who send.
            if process.has_incoming() && actor.mailbox_len() < MAILBOX_HIGH_MESSAGES / 2 {
                actor.accept(|queue| process.drain(queue));
            }
            actor.expire(Instant::now);
            (actor.ending(), actor.take_answers())
        });
        self.tell(process, answers);
        ending
    }

    #[inline]
    fn tell(self: &Arc<Self>, process: &Process, signals: Vec<(Pid, Signal)>) {
        // Nearly always; and then not even a loop.
        if !signals.is_empty() {
            self.tell_all(process, signals);
        }
    }

    #[cold]
    fn tell_all(self: &Arc<Self>, process: &Process, signals: Vec<(Pid, Signal)>) {
        for (to, signal) in signals {
            self.signal_of(process.pid, to, signal);
        }
    }

    /// A turn is over; whether the process wants another at once.
    fn after(self: &Arc<Self>, process: &Arc<Process>, step: &Step, wants: bool) -> bool {
        process.cpu.turn_over();
        let (started, waiting, wake, answers) = process.with_actor(|actor| {
            let started = if *step == Step::Starting {
                None
            } else {
                actor.starter.take()
            };
            actor.settle(step, Instant::now);
            (
                started,
                actor.mailbox_len(),
                actor.arm(),
                actor.take_answers(),
            )
        });
        self.tell(process, answers);
        if let Some(Starter { parent, tag }) = started {
            self.signal(
                parent,
                Signal::Spawned {
                    tag,
                    result: Ok(process.pid),
                },
            );
        }
        if let Some(at) = wake {
            self.wake_process_at(process, at);
        }
        process.end(wants || waiting > 0)
    }

    pub(super) fn arm(&self, process: &Arc<Process>) {
        if let Some(at) = process.with_actor(Actor::arm) {
            self.wake_process_at(process, at);
        }
    }

    pub(super) fn wake_process_at(&self, process: &Arc<Process>, at: Instant) {
        self.timers
            .set(at, None, Action::Wake(Arc::downgrade(process)));
    }

    /// A process has ended: answers everybody who waits for it. Once.
    fn finish(self: &Arc<Self>, process: &Arc<Process>, reason: &ExitReason, code: Option<Digest>) {
        self.table.remove(process.pid.serial);
        let left = process.close();
        let (signals, by_name, starter, vitals) = process.with_actor(|actor| {
            // What came too late to be taken in is answered in order: links and monitors
            // among it get the true reason.
            let mut left = Some(left);
            actor.accept(|queue| *queue = left.take().unwrap_or_default());
            let by_name = actor.monitored_by_name(None);
            let vitals = actor.vitals();
            let signals = actor.farewell(reason);
            (signals, by_name, actor.starter.take(), vitals)
        });
        let names = std::mem::take(&mut *process.names());
        for name in &names {
            self.registry.release(name, process.pid);
        }
        // After it was taken out of the table: whoever notes it too late finds it gone.
        if process.in_cluster_tables.load(Ordering::SeqCst) {
            self.network().actor_gone(process.pid);
        }
        if let Some(Starter { parent, tag }) = starter {
            let result = Err(SpawnError::InitFailed(reason.clone()));
            self.signal(parent, Signal::Spawned { tag, result });
        }
        self.tell(process, signals);
        self.demonitor_by_name(process.pid, by_name);
        self.report_end(process, reason, code, &names, vitals);
    }
}

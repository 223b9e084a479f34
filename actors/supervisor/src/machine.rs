//! What a supervisor decides. Messages go in; spawns, exits, timers and replies come out
//! through [`World`]. It knows no clock, no host and no wire.
//!
//! The calls of users are in [`admin`], the restart rules in [`supervisor_core::restart`].
//!
//! Children end one at a time in the reverse of their order and start one at a time in their
//! order, each waited for, where the strategy or the supervisor's own start and end ask for
//! it. A child that is added, terminated or (one for one) restarted alone does not wait for
//! any other, nor any other for it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use supervisor_core::restart::{Intensity, starts_again};
use supervisor_core::{Machine as _, RETRY_MS, World, report};
use wasm_node_sdk::supervisor::spec::{
    AutoShutdown, ChildSpec, Restart, Shutdown, Strategy, SupervisorSpec,
};
use wasm_node_sdk::supervisor::{ChildError, Reply};
use wasm_node_sdk::{ExitReason, Pid, Ref, SpawnError, StartError};

mod admin;

#[derive(Serialize, Deserialize)]
enum Phase {
    /// The first children start; a failure ends all.
    Starting,
    Running,
    Stopping(ExitReason),
}

impl Phase {
    fn is_stopping(&self) -> bool {
        matches!(self, Self::Stopping(_))
    }
}

impl<C> Starter<C> {
    fn tell(self, world: &mut impl World<C, Reply>, result: Result<Pid, StartError>) {
        match self {
            Self::Adds(to) => world.reply(to, Reply::Started(result)),
            Self::Restarts(to) => {
                world.reply(to, Reply::Restarted(result.map_err(ChildError::Start)));
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
enum Status {
    /// In `waiting`, for its turn to start.
    Waiting,
    /// It has no process, and gets none before somebody asks for it.
    Undefined,
    /// Its start failed; the timer starts it again.
    Retrying(Ref),
    /// Its `init` runs. Its exit may come before its `spawned`.
    Starting {
        pid: Pid,
        tag: Ref,
        exited: bool,
    },
    Running(Pid),
    /// It was asked to end; the timer kills it.
    Ending {
        pid: Pid,
        timer: Option<Ref>,
    },
}

#[derive(Serialize, Deserialize)]
struct Member<C> {
    spec: ChildSpec,
    status: Status,
    /// Who waits for its start.
    starter: Option<Starter<C>>,
    /// Who waits for its end.
    enders: Vec<C>,
}

/// Who waits for a child's start, and what becomes of the child if that fails.
#[derive(Serialize, Deserialize)]
enum Starter<C> {
    /// It is added, or not.
    Adds(C),
    /// It stays, with or without a process.
    Restarts(C),
}

/// A child's place in the order of starts.
type Seq = u64;

/// A supervisor's state.
#[derive(Serialize, Deserialize)]
pub struct Machine<C> {
    strategy: Strategy,
    intensity: Intensity,
    auto_shutdown: AutoShutdown,
    phase: Phase,
    members: BTreeMap<Seq, Member<C>>,
    by_id: BTreeMap<String, Seq>,
    by_pid: BTreeMap<Pid, Seq>,
    /// Of pending starts and timers.
    by_tag: BTreeMap<Ref, Seq>,
    next_seq: Seq,
    /// To end, the last first.
    doomed: BTreeSet<Seq>,
    /// To start, the first first, once none is doomed.
    waiting: BTreeSet<Seq>,
    /// The one whose end or start the next in turn waits for.
    current: Option<Seq>,
    /// Failed starts whose exit is still to come.
    ghosts: BTreeSet<Pid>,
}

impl<C> Machine<C> {
    /// A supervisor that has started nothing. Refuses two children of one id, and significant
    /// ones that OTP refuses.
    pub fn new(spec: SupervisorSpec) -> Result<Self, String> {
        let mut machine = Self {
            strategy: spec.strategy,
            intensity: Intensity::new(spec.intensity, spec.period_ms),
            auto_shutdown: spec.auto_shutdown,
            phase: Phase::Starting,
            members: BTreeMap::new(),
            by_id: BTreeMap::new(),
            by_pid: BTreeMap::new(),
            by_tag: BTreeMap::new(),
            next_seq: 0,
            doomed: BTreeSet::new(),
            waiting: BTreeSet::new(),
            current: None,
            ghosts: BTreeSet::new(),
        };
        for child in spec.children {
            if machine.by_id.contains_key(&child.id) {
                return Err(format!("two children have the id \"{}\"", child.id));
            }
            machine.check(&child)?;
            let seq = machine.add(child, None);
            machine.waiting.insert(seq);
        }
        Ok(machine)
    }

    /// Starts the first children.
    pub fn begin(&mut self, world: &mut impl World<C, Reply>) {
        self.advance(world);
    }

    /// Whether the first children are not all there yet.
    pub fn is_starting(&self) -> bool {
        matches!(self.phase, Phase::Starting)
    }

    /// Whether it ends.
    pub fn is_stopping(&self) -> bool {
        self.phase.is_stopping()
    }
}

impl<C> supervisor_core::Machine<C, Reply> for Machine<C> {
    fn spawned(
        &mut self,
        world: &mut impl World<C, Reply>,
        tag: Ref,
        result: Result<Pid, SpawnError>,
    ) {
        // Unknown: it was asked to end meanwhile, and its exit tells the rest.
        let Some(seq) = self.by_tag.remove(&tag) else {
            return;
        };
        let Some(member) = self.members.get_mut(&seq) else {
            return;
        };
        let Status::Starting { pid, exited, .. } = member.status else {
            return;
        };
        match result {
            Ok(_) => {
                member.status = Status::Running(pid);
                if let Some(starter) = member.starter.take() {
                    starter.tell(world, Ok(pid));
                }
                self.step_done(seq);
            }
            Err(error) => {
                self.by_pid.remove(&pid);
                if !exited {
                    self.ghosts.insert(pid);
                }
                self.start_failed(world, seq, error.into());
            }
        }
        self.advance(world);
    }

    fn exited(&mut self, world: &mut impl World<C, Reply>, pid: Pid, reason: ExitReason) {
        let Some(&seq) = self.by_pid.get(&pid) else {
            self.ghosts.remove(&pid);
            return;
        };
        let Some(member) = self.members.get_mut(&seq) else {
            return;
        };
        match &mut member.status {
            Status::Starting { exited, .. } => *exited = true,
            Status::Ending { .. } => {
                if let Some(report) = report::shutdown_error(&member.spec, pid, &reason) {
                    world.report(&report);
                }
                self.gone(world, seq);
            }
            _ if self.doomed.remove(&seq) => self.gone(world, seq),
            _ => self.failed(world, seq, &reason),
        }
        self.advance(world);
    }

    fn timer(&mut self, world: &mut impl World<C, Reply>, tag: Ref) {
        let Some(seq) = self.by_tag.remove(&tag) else {
            return;
        };
        match self.members.get_mut(&seq).map(|member| &mut member.status) {
            Some(Status::Ending { pid, timer }) => {
                *timer = None;
                world.exit(*pid, ExitReason::Kill);
            }
            Some(Status::Retrying(_)) => self.spawn(world, seq),
            _ => {}
        }
        self.advance(world);
    }

    /// The last first.
    fn stop(&mut self, world: &mut impl World<C, Reply>, reason: ExitReason) {
        if self.is_stopping() {
            return;
        }
        self.phase = Phase::Stopping(reason);
        self.waiting.clear();
        self.doomed = self.members.keys().copied().collect();
        self.current = None;
        self.advance(world);
    }

    fn finished(&self) -> Option<&ExitReason> {
        match &self.phase {
            Phase::Stopping(reason) if self.members.is_empty() => Some(reason),
            _ => None,
        }
    }
}

impl<C> Machine<C> {
    fn add(&mut self, spec: ChildSpec, starter: Option<Starter<C>>) -> Seq {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.by_id.insert(spec.id.clone(), seq);
        let member = Member {
            spec,
            status: Status::Waiting,
            starter,
            enders: Vec::new(),
        };
        self.members.insert(seq, member);
        seq
    }

    fn forget(&mut self, world: &mut impl World<C, Reply>, seq: Seq) {
        self.doomed.remove(&seq);
        self.waiting.remove(&seq);
        self.step_done(seq);
        let Some(member) = self.members.remove(&seq) else {
            return;
        };
        self.by_id.remove(&member.spec.id);
        for ender in member.enders {
            world.reply(ender, Reply::Terminated(true));
        }
    }

    fn step_done(&mut self, seq: Seq) {
        if self.current == Some(seq) {
            self.current = None;
        }
    }

    /// Does the next steps that have their turn.
    fn advance(&mut self, world: &mut impl World<C, Reply>) {
        while self.current.is_none() {
            if let Some(seq) = self.doomed.pop_last() {
                self.current = Some(seq);
                self.end(world, seq);
            } else if self.is_stopping() {
                return;
            } else if let Some(seq) = self.waiting.pop_first() {
                self.current = Some(seq);
                self.spawn(world, seq);
            } else {
                self.phase = Phase::Running;
                return;
            }
        }
    }

    fn spawn(&mut self, world: &mut impl World<C, Reply>, seq: Seq) {
        let Some(member) = self.members.get_mut(&seq) else {
            return;
        };
        match world.spawn(&member.spec) {
            Ok((pid, tag)) => {
                member.status = Status::Starting {
                    pid,
                    tag,
                    exited: false,
                };
                self.by_pid.insert(pid, seq);
                self.by_tag.insert(tag, seq);
            }
            Err(error) => self.start_failed(world, seq, error.into()),
        }
    }

    fn start_failed(&mut self, world: &mut impl World<C, Reply>, seq: Seq, error: StartError) {
        let Some(member) = self.members.get_mut(&seq) else {
            return;
        };
        member.status = Status::Undefined;
        let starter = member.starter.take();
        if error == StartError::Ignored {
            if let Some(starter) = starter {
                starter.tell(world, Err(error));
            }
            return self.without_process(world, seq);
        }
        match starter {
            Some(starter @ Starter::Adds(_)) => {
                starter.tell(world, Err(error));
                return self.forget(world, seq);
            }
            Some(starter @ Starter::Restarts(_)) => {
                starter.tell(world, Err(error));
                return self.without_process(world, seq);
            }
            None => {}
        }
        let words = format!("cannot start the child \"{}\": {error}", member.spec.id);
        world.report(&report::start_error(&member.spec, &error));
        match self.phase {
            Phase::Starting => {
                self.forget(world, seq);
                self.stop(world, ExitReason::Error(words));
            }
            Phase::Running => {
                if self.may_restart(world, seq) {
                    let timer = world.start_timer(RETRY_MS);
                    self.by_tag.insert(timer, seq);
                    if let Some(member) = self.members.get_mut(&seq) {
                        member.status = Status::Retrying(timer);
                    }
                } else {
                    self.forget(world, seq);
                    self.stop(world, ExitReason::Shutdown);
                }
            }
            Phase::Stopping(_) => self.forget(world, seq),
        }
    }

    /// A running child ended by itself.
    fn failed(&mut self, world: &mut impl World<C, Reply>, seq: Seq, reason: &ExitReason) {
        let Some(member) = self.members.get_mut(&seq) else {
            return;
        };
        let mut ended = None;
        if let Status::Running(pid) = member.status {
            self.by_pid.remove(&pid);
            ended = Some(pid);
        }
        if let Some(report) = report::child_terminated(&member.spec, ended, reason) {
            world.report(&report);
        }
        if !starts_again(member.spec.restart, reason) {
            member.status = Status::Undefined;
            let ends_all = member.spec.significant && self.ends_with_significant(seq);
            self.without_process(world, seq);
            if ends_all {
                self.stop(world, ExitReason::Shutdown);
            }
            return;
        }
        member.status = Status::Waiting;
        if !self.may_restart(world, seq) {
            self.forget(world, seq);
            return self.stop(world, ExitReason::Shutdown);
        }
        let others = match self.strategy {
            Strategy::OneForOne => return self.spawn(world, seq),
            Strategy::OneForAll => 0..,
            Strategy::RestForOne => seq..,
        };
        for (&other, member) in self
            .members
            .range_mut(others)
            .filter(|(other, _)| **other != seq)
        {
            match member.status {
                // As in OTP, all of the group start, also those that had no process.
                Status::Undefined => {
                    member.status = Status::Waiting;
                    self.waiting.insert(other);
                }
                Status::Waiting | Status::Ending { .. } => {}
                Status::Retrying(_) | Status::Starting { .. } | Status::Running(_) => {
                    self.doomed.insert(other);
                }
            }
        }
        self.waiting.insert(seq);
        // Whoever was starting in its turn is doomed now; whoever is ending is still waited for.
        self.current = self.current.filter(|current| {
            let member = self.members.get(current);
            member.is_some_and(|member| matches!(member.status, Status::Ending { .. }))
        });
    }

    /// Whether a child that just ended by itself takes the supervisor with it.
    fn ends_with_significant(&self, ended: Seq) -> bool {
        match self.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => true,
            AutoShutdown::AllSignificant => !self.members.iter().any(|(&seq, member)| {
                seq != ended
                    && member.spec.significant
                    && !matches!(member.status, Status::Undefined)
            }),
        }
    }

    /// Whether a child may be what OTP's `check_childspecs` allows.
    fn check(&self, child: &ChildSpec) -> Result<(), String> {
        if !child.significant {
            return Ok(());
        }
        let id = &child.id;
        if self.auto_shutdown == AutoShutdown::Never {
            return Err(format!(
                "bad_combination: the child \"{id}\" is significant, but auto_shutdown is never"
            ));
        }
        if child.restart == Restart::Permanent {
            return Err(format!(
                "bad_combination: the child \"{id}\" is significant, but permanent"
            ));
        }
        Ok(())
    }

    fn may_restart(&mut self, world: &mut impl World<C, Reply>, seq: Seq) -> bool {
        let may = self.intensity.bears(world.now_ms());
        if let Some(member) = self.members.get(&seq).filter(|_| !may) {
            world.report(&report::shutdown(&member.spec, &self.intensity));
        }
        may
    }

    fn end(&mut self, world: &mut impl World<C, Reply>, seq: Seq) {
        let Some(member) = self.members.get_mut(&seq) else {
            return self.step_done(seq);
        };
        let pid = match member.status {
            Status::Waiting | Status::Undefined => return self.gone(world, seq),
            Status::Retrying(timer) => {
                self.by_tag.remove(&timer);
                world.cancel_timer(timer);
                return self.gone(world, seq);
            }
            Status::Ending { .. } => return,
            Status::Starting { pid, tag, exited } => {
                self.by_tag.remove(&tag);
                if let Some(starter) = member.starter.take() {
                    starter.tell(world, Err(StartError::Failed(ExitReason::Shutdown)));
                }
                if exited {
                    self.by_pid.remove(&pid);
                    return self.gone(world, seq);
                }
                pid
            }
            Status::Running(pid) => pid,
        };
        let timer = match member.spec.shutdown {
            Shutdown::BrutalKill => {
                world.exit(pid, ExitReason::Kill);
                None
            }
            Shutdown::After(ms) => {
                world.exit(pid, ExitReason::Shutdown);
                let timer = world.start_timer(ms);
                self.by_tag.insert(timer, seq);
                Some(timer)
            }
            Shutdown::Infinity => {
                world.exit(pid, ExitReason::Shutdown);
                None
            }
        };
        member.status = Status::Ending { pid, timer };
    }

    /// A child has no process any more, and gets none: it stays, unless it is temporary.
    fn without_process(&mut self, world: &mut impl World<C, Reply>, seq: Seq) {
        let Some(member) = self.members.get_mut(&seq) else {
            return;
        };
        if member.spec.restart == Restart::Temporary || self.phase.is_stopping() {
            return self.forget(world, seq);
        }
        member.status = Status::Undefined;
        for ender in std::mem::take(&mut member.enders) {
            world.reply(ender, Reply::Terminated(true));
        }
        self.waiting.remove(&seq);
        self.step_done(seq);
    }

    /// A child that was to end has ended: forgotten, or to start again with its group.
    fn gone(&mut self, world: &mut impl World<C, Reply>, seq: Seq) {
        self.step_done(seq);
        let stopping = self.is_stopping();
        let Some(member) = self.members.get_mut(&seq) else {
            return;
        };
        if let Status::Ending { pid, timer } = member.status {
            self.by_pid.remove(&pid);
            if let Some(timer) = timer {
                self.by_tag.remove(&timer);
                world.cancel_timer(timer);
            }
        }
        if let Status::Running(pid) = member.status {
            self.by_pid.remove(&pid);
        }
        let temporary = member.spec.restart == Restart::Temporary;
        if stopping || temporary {
            return self.forget(world, seq);
        }
        if !member.enders.is_empty() || matches!(member.status, Status::Undefined) {
            return self.without_process(world, seq);
        }
        member.status = Status::Waiting;
        self.waiting.insert(seq);
    }
}

#[cfg(test)]
mod tests;

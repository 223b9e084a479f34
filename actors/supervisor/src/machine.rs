//! What a supervisor decides. Messages go in; spawns, exits, timers and replies come out
//! through [`World`]. It knows no clock, no host and no wire.
//!
//! Children end one at a time in the reverse of their order and start one at a time in their
//! order, each waited for, where the strategy or the supervisor's own start and end ask for
//! it. A child that is added, terminated or (one for one) restarted alone does not wait for
//! any other, nor any other for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use wasm_node_sdk::supervisor::spec::{ChildSpec, Restart, Shutdown, Strategy, SupervisorSpec};
use wasm_node_sdk::supervisor::{self, Child, ChildError, Counts, Reply};
use wasm_node_sdk::{ExitReason, Pid, Ref, SpawnError, StartError};

/// How long after a failed restart the next is tried, in milliseconds: it counts as another.
pub const RETRY_MS: u32 = 100;

/// What the machine has done for it. `C` is whom to answer.
pub trait World<C> {
    /// Starts a child, linked to this actor; [`Machine::spawned`] follows with the ref.
    fn spawn(&mut self, child: &ChildSpec) -> Result<(Pid, Ref), SpawnError>;
    /// Sends an exit signal; [`Machine::exited`] follows when the child has ended.
    fn exit(&mut self, pid: Pid, reason: ExitReason);
    /// [`Machine::timer`] follows with the ref.
    fn start_timer(&mut self, after_ms: u32) -> Ref;
    /// The timer may still come; the machine does not mind.
    fn cancel_timer(&mut self, timer: Ref);
    /// Any clock that does not go back.
    fn now_ms(&mut self) -> u64;
    /// Answers a call.
    fn reply(&mut self, to: C, reply: Reply);
    /// Words for the log.
    fn report(&mut self, words: &str);
}

#[derive(Serialize, Deserialize)]
enum Phase {
    /// The first children start; a failure ends all.
    Starting,
    Running,
    Stopping(ExitReason),
}

#[derive(Serialize, Deserialize)]
enum Status {
    /// In `waiting`, for its turn to start.
    Waiting,
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
    /// It has no process, and gets none by itself.
    Stopped,
}

#[derive(Serialize, Deserialize)]
struct Member<C> {
    spec: ChildSpec,
    status: Status,
    /// Who added it, or had it start again, and waits for its start.
    adder: Option<C>,
    /// Whether that was `restart_child`.
    restarted: bool,
    /// Who waits for its end; it does not start again then.
    enders: Vec<C>,
}

impl<C> Member<C> {
    /// Tells who waits for its start, if anybody does, how it went.
    fn answer(&mut self, world: &mut impl World<C>, how: Result<Pid, StartError>) -> bool {
        let Some(adder) = self.adder.take() else {
            return false;
        };
        let reply = match self.restarted {
            true => Reply::Restarted(how.map_err(ChildError::Start)),
            false => Reply::Started(how),
        };
        world.reply(adder, reply);
        true
    }
}

/// A child's place in the order of starts.
type Seq = u64;

/// A supervisor's state.
#[derive(Serialize, Deserialize)]
pub struct Machine<C> {
    strategy: Strategy,
    intensity: u32,
    period_ms: u32,
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
    /// When children were restarted, in ms: those of the last period.
    restarts: VecDeque<u64>,
}

/// Notes a restart at `now`; whether that is within `intensity` restarts in `period_ms`.
pub fn note_restart(past: &mut VecDeque<u64>, now: u64, intensity: u32, period_ms: u32) -> bool {
    while past
        .front()
        .is_some_and(|&at| now.saturating_sub(at) >= u64::from(period_ms))
    {
        past.pop_front();
    }
    past.push_back(now);
    past.len() <= intensity as usize
}

/// Whether a child of that kind starts again after that end.
pub fn starts_again(restart: Restart, reason: &ExitReason) -> bool {
    match restart {
        Restart::Permanent => true,
        Restart::Transient => !reason.is_clean(),
        Restart::Temporary => false,
    }
}

impl<C> Machine<C> {
    /// A supervisor that has started nothing. Two children of one id are refused.
    pub fn new(spec: SupervisorSpec) -> Result<Self, String> {
        let mut machine = Self {
            strategy: spec.strategy,
            intensity: spec.intensity,
            period_ms: spec.period_ms,
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
            restarts: VecDeque::new(),
        };
        for child in spec.children {
            if machine.by_id.contains_key(&child.id) {
                return Err(format!("two children have the id \"{}\"", child.id));
            }
            let seq = machine.add(child, None);
            machine.waiting.insert(seq);
        }
        Ok(machine)
    }

    /// Starts the first children.
    pub fn begin(&mut self, world: &mut impl World<C>) {
        self.advance(world);
    }

    /// Whether the first children are not all there yet.
    pub fn is_starting(&self) -> bool {
        matches!(self.phase, Phase::Starting)
    }

    /// Whether it ends.
    pub fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping(_))
    }

    /// Why it has ended, once all children are gone.
    pub fn finished(&self) -> Option<&ExitReason> {
        match &self.phase {
            Phase::Stopping(reason) if self.members.is_empty() => Some(reason),
            _ => None,
        }
    }

    /// The children, in their order.
    pub fn children(&self) -> Vec<Child> {
        let child = |member: &Member<C>| Child {
            id: member.spec.id.clone(),
            module: member.spec.module.clone(),
            pid: match member.status {
                Status::Running(pid) | Status::Ending { pid, .. } => Some(pid),
                _ => None,
            },
        };
        self.members.values().map(child).collect()
    }

    /// How many there are.
    pub fn count(&self) -> Counts {
        let mut counts = Counts::default();
        for member in self.members.values() {
            counts.specs += 1;
            let active = matches!(
                member.status,
                Status::Starting { .. } | Status::Running(_) | Status::Ending { .. }
            );
            counts.active += u32::from(active);
            match member.spec.module == supervisor::MODULE {
                true => counts.supervisors += 1,
                false => counts.workers += 1,
            }
        }
        counts
    }

    /// Adds a child. The answer comes when its `init` has ended.
    pub fn start_child(&mut self, world: &mut impl World<C>, child: ChildSpec, from: C) {
        let refusal = match self
            .by_id
            .get(&child.id)
            .and_then(|seq| self.members.get(seq))
        {
            _ if self.is_stopping() => Some(StartError::Failed(ExitReason::Shutdown)),
            Some(Member {
                status: Status::Starting { pid, .. } | Status::Running(pid),
                ..
            }) => Some(StartError::AlreadyStarted(*pid)),
            Some(Member {
                status: Status::Stopped,
                ..
            }) => Some(StartError::AlreadyPresent),
            Some(_) => Some(StartError::Failed(ExitReason::Error(format!(
                "the child \"{}\" is just ending or starting again: try again",
                child.id
            )))),
            None => None,
        };
        if let Some(error) = refusal {
            return world.reply(from, Reply::Started(Err(error)));
        }
        let seq = self.add(child, Some(from));
        self.spawn(world, seq);
        self.advance(world);
    }

    /// Starts a child that has no process. The answer comes when its `init` has ended.
    pub fn restart_child(&mut self, world: &mut impl World<C>, id: &str, from: C) {
        let seq = match self.stopped(id) {
            _ if self.is_stopping() => {
                let error = StartError::Failed(ExitReason::Shutdown);
                return world.reply(from, Reply::Restarted(Err(ChildError::Start(error))));
            }
            Err(error) => return world.reply(from, Reply::Restarted(Err(error))),
            Ok(seq) => seq,
        };
        if let Some(member) = self.members.get_mut(&seq) {
            (member.adder, member.restarted) = (Some(from), true);
        }
        self.spawn(world, seq);
        self.advance(world);
    }

    /// Forgets a child that has no process.
    pub fn delete_child(&mut self, id: &str) -> Result<(), ChildError> {
        let seq = self.stopped(id)?;
        self.members.remove(&seq);
        self.by_id.remove(id);
        Ok(())
    }

    /// The child of this id, if it has no process.
    fn stopped(&self, id: &str) -> Result<Seq, ChildError> {
        let seq = *self.by_id.get(id).ok_or(ChildError::NotFound)?;
        match self.members.get(&seq).map(|member| &member.status) {
            Some(Status::Stopped) => Ok(seq),
            Some(Status::Waiting | Status::Retrying(_)) => Err(ChildError::Restarting),
            Some(_) => Err(ChildError::Running),
            None => Err(ChildError::NotFound),
        }
    }

    /// Ends a child; a temporary one is forgotten. The answer comes when it is gone.
    pub fn terminate_child(&mut self, world: &mut impl World<C>, id: &str, from: C) {
        let Some(seq) = self.by_id.get(id).copied() else {
            return world.reply(from, Reply::Terminated(false));
        };
        if let Some(member) = self.members.get_mut(&seq) {
            member.enders.push(from);
        }
        self.end(world, seq);
        self.advance(world);
    }

    /// A start has succeeded or failed.
    pub fn spawned(
        &mut self,
        world: &mut impl World<C>,
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
                member.answer(world, Ok(pid));
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

    /// An exit signal came. Of one that is no child it means nothing.
    pub fn exited(&mut self, world: &mut impl World<C>, pid: Pid, reason: ExitReason) {
        let Some(&seq) = self.by_pid.get(&pid) else {
            self.ghosts.remove(&pid);
            return;
        };
        let Some(member) = self.members.get_mut(&seq) else {
            return;
        };
        match &mut member.status {
            Status::Starting { exited, .. } => *exited = true,
            Status::Ending { .. } => self.gone(world, seq),
            _ if self.doomed.remove(&seq) => self.gone(world, seq),
            _ => self.failed(world, seq, &reason),
        }
        self.advance(world);
    }

    /// A timer fired.
    pub fn timer(&mut self, world: &mut impl World<C>, tag: Ref) {
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

    /// Ends all children, the last first, then itself with this reason.
    pub fn stop(&mut self, world: &mut impl World<C>, reason: ExitReason) {
        if self.is_stopping() {
            return;
        }
        self.phase = Phase::Stopping(reason);
        self.waiting.clear();
        self.doomed = self.members.keys().copied().collect();
        self.current = None;
        self.advance(world);
    }

    fn add(&mut self, spec: ChildSpec, adder: Option<C>) -> Seq {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.by_id.insert(spec.id.clone(), seq);
        let member = Member {
            spec,
            status: Status::Waiting,
            adder,
            restarted: false,
            enders: Vec::new(),
        };
        self.members.insert(seq, member);
        seq
    }

    fn forget(&mut self, world: &mut impl World<C>, seq: Seq) {
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

    /// A child has no process any more, and gets none by itself: a temporary one is forgotten.
    fn rest(&mut self, world: &mut impl World<C>, seq: Seq) {
        let member = match self.members.get_mut(&seq) {
            Some(member) if member.spec.restart != Restart::Temporary => member,
            _ => return self.forget(world, seq),
        };
        member.status = Status::Stopped;
        for ender in std::mem::take(&mut member.enders) {
            world.reply(ender, Reply::Terminated(true));
        }
        self.doomed.remove(&seq);
        self.waiting.remove(&seq);
        self.step_done(seq);
    }

    fn step_done(&mut self, seq: Seq) {
        if self.current == Some(seq) {
            self.current = None;
        }
    }

    /// Does the next steps that have their turn.
    fn advance(&mut self, world: &mut impl World<C>) {
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

    fn spawn(&mut self, world: &mut impl World<C>, seq: Seq) {
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

    fn start_failed(&mut self, world: &mut impl World<C>, seq: Seq, error: StartError) {
        let Some(member) = self.members.get_mut(&seq) else {
            return;
        };
        let kept = member.restarted || error == StartError::Ignored;
        if member.answer(world, Err(error.clone())) || error == StartError::Ignored {
            return match kept {
                true => self.rest(world, seq),
                false => self.forget(world, seq),
            };
        }
        let words = format!("cannot start the child \"{}\": {error}", member.spec.id);
        match self.phase {
            Phase::Starting => {
                self.forget(world, seq);
                self.stop(world, ExitReason::Error(words));
            }
            Phase::Running => {
                world.report(&words);
                if self.may_restart(world) {
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
    fn failed(&mut self, world: &mut impl World<C>, seq: Seq, reason: &ExitReason) {
        let Some(member) = self.members.get_mut(&seq) else {
            return;
        };
        if let Status::Running(pid) = member.status {
            self.by_pid.remove(&pid);
        }
        if !starts_again(member.spec.restart, reason) {
            return self.rest(world, seq);
        }
        world.report(&format!(
            "the child \"{}\" ended: {}",
            member.spec.id,
            reason.describe()
        ));
        member.status = Status::Waiting;
        if !self.may_restart(world) {
            self.forget(world, seq);
            return self.stop(world, ExitReason::Shutdown);
        }
        let others = match self.strategy {
            Strategy::OneForOne => return self.spawn(world, seq),
            Strategy::OneForAll => 0..,
            Strategy::RestForOne => seq..,
        };
        for (&other, member) in self.members.range(others) {
            let done = matches!(member.status, Status::Waiting | Status::Ending { .. });
            if other != seq && !done {
                self.doomed.insert(other);
            }
        }
        self.waiting.insert(seq);
        // Whoever was starting in its turn is doomed now; whoever is ending is still waited for.
        self.current = self.current.filter(|current| {
            let member = self.members.get(current);
            member.is_some_and(|member| matches!(member.status, Status::Ending { .. }))
        });
    }

    fn may_restart(&mut self, world: &mut impl World<C>) -> bool {
        let now = world.now_ms();
        let may = note_restart(&mut self.restarts, now, self.intensity, self.period_ms);
        if !may {
            world.report(&format!(
                "more than {} restarts in {} ms: giving up",
                self.intensity, self.period_ms
            ));
        }
        may
    }

    fn end(&mut self, world: &mut impl World<C>, seq: Seq) {
        let Some(member) = self.members.get_mut(&seq) else {
            return self.step_done(seq);
        };
        let pid = match member.status {
            Status::Waiting | Status::Stopped => return self.gone(world, seq),
            Status::Retrying(timer) => {
                self.by_tag.remove(&timer);
                world.cancel_timer(timer);
                return self.gone(world, seq);
            }
            Status::Ending { .. } => return,
            Status::Starting { pid, tag, exited } => {
                self.by_tag.remove(&tag);
                member.answer(world, Err(StartError::Failed(ExitReason::Shutdown)));
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
            Shutdown::Infinity => {
                world.exit(pid, ExitReason::Shutdown);
                None
            }
            Shutdown::After(ms) => {
                world.exit(pid, ExitReason::Shutdown);
                let timer = world.start_timer(ms);
                self.by_tag.insert(timer, seq);
                Some(timer)
            }
        };
        member.status = Status::Ending { pid, timer };
    }

    /// A child that was to end has ended: forgotten, or to start again with its group.
    fn gone(&mut self, world: &mut impl World<C>, seq: Seq) {
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
        if !member.enders.is_empty() {
            return self.rest(world, seq);
        }
        member.status = Status::Waiting;
        self.waiting.insert(seq);
    }
}

#[cfg(test)]
mod tests;

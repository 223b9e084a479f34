//! What a dynamic supervisor decides. Messages go in; spawns, exits, timers and replies come out
//! through [`World`]. It knows no clock, no host and no wire.
//!
//! No child waits for another. Nothing but [`Machine::children`], its end and a time-out
//! of that looks at all of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use supervisor_core::restart::{Intensity, starts_again};
use supervisor_core::{Machine as _, RETRY_MS, World, report};
use wasm_node_sdk::supervisor::dynamic::{Reply, Spec};
use wasm_node_sdk::supervisor::spec::{ChildKind, ChildSpec, Restart, Shutdown};
use wasm_node_sdk::supervisor::{Child, ChildState, Counts};
use wasm_node_sdk::{ExitReason, Pid, Ref, SpawnError, StartError};

#[derive(Serialize, Deserialize)]
enum Phase {
    Running,
    Stopping(ExitReason),
}

#[derive(Serialize, Deserialize)]
enum Status<C> {
    /// Its `init` runs; this one waits for it. Its exit may come before its `spawned`.
    Starting {
        tag: Ref,
        starter: Option<C>,
        exited: bool,
    },
    Running,
    /// It was asked to end; the timer kills it.
    Ending(Option<Ref>),
    /// Its restart failed; the timer starts it again.
    Retrying(Ref),
}

#[derive(Serialize, Deserialize)]
struct Member<C> {
    /// Without arguments if it is temporary and has begun: it does not start again.
    spec: ChildSpec,
    status: Status<C>,
    /// Who wait for its end.
    enders: Vec<C>,
}

/// What a ref stands for.
#[derive(Serialize, Deserialize)]
enum Tag {
    /// The start of this child, or a timer of its.
    Of(Pid),
    /// While the supervisor ends: those with this many milliseconds have had them.
    Grace(u32),
}

/// A dynamic supervisor's state.
#[derive(Serialize, Deserialize)]
pub struct Machine<C> {
    intensity: Intensity,
    max_children: Option<u32>,
    phase: Phase,
    /// One that is to start again keeps the pid that it had.
    members: BTreeMap<Pid, Member<C>>,
    tags: BTreeMap<Ref, Tag>,
    /// How many run: neither start nor are to start again.
    active: u64,
    supervisors: u64,
    /// Failed starts whose exit is still to come.
    ghosts: BTreeSet<Pid>,
}

impl<C> Machine<C> {
    /// A supervisor without children.
    pub fn new(spec: &Spec) -> Self {
        Self {
            intensity: Intensity::new(spec.intensity, spec.period_ms),
            max_children: spec.max_children,
            phase: Phase::Running,
            members: BTreeMap::new(),
            tags: BTreeMap::new(),
            active: 0,
            supervisors: 0,
            ghosts: BTreeSet::new(),
        }
    }

    /// The children, in no order.
    pub fn children(&self) -> Vec<Child> {
        let child = |(&pid, member): (&Pid, &Member<C>)| Child {
            id: member.spec.id.clone(),
            module: member.spec.module.clone(),
            state: match member.status {
                Status::Running | Status::Ending(_) => ChildState::Running(pid),
                Status::Starting { .. } | Status::Retrying(_) => ChildState::Restarting,
            },
            kind: member.spec.kind,
        };
        self.members.iter().map(child).collect()
    }

    /// How many there are.
    pub fn counts(&self) -> Counts {
        let specs = self.members.len() as u64;
        Counts {
            specs,
            active: self.active,
            supervisors: self.supervisors,
            workers: specs - self.supervisors,
        }
    }

    /// Starts a child. The answer comes when its `init` has ended.
    pub fn start_child(&mut self, world: &mut impl World<C, Reply>, child: ChildSpec, from: C) {
        let full = |&max: &u32| self.members.len() >= max as usize;
        let refusal = match self.phase {
            Phase::Stopping(_) => Some(StartError::Failed(ExitReason::Shutdown)),
            Phase::Running if self.max_children.as_ref().is_some_and(full) => {
                Some(StartError::MaxChildren)
            }
            Phase::Running => None,
        };
        if let Some(error) = refusal {
            return world.reply(from, Reply::Started(Err(error)));
        }
        match world.spawn(&child) {
            Ok((pid, tag)) => self.begun(child, pid, tag, Some(from)),
            Err(error) => world.reply(from, Reply::Started(Err(error.into()))),
        }
    }

    /// Ends a child. The answer comes when it is gone.
    pub fn terminate_child(&mut self, world: &mut impl World<C, Reply>, pid: Pid, from: C) {
        let Some(member) = self.members.get_mut(&pid) else {
            return world.reply(from, Reply::Terminated(false));
        };
        member.enders.push(from);
        self.end(world, pid);
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
        let Some(Tag::Of(pid)) = self.tags.remove(&tag) else {
            return;
        };
        let Some(member) = self.members.get_mut(&pid) else {
            return;
        };
        let Status::Starting {
            starter, exited, ..
        } = &mut member.status
        else {
            return;
        };
        let (starter, exited) = (starter.take(), *exited);
        match result {
            Ok(_) => {
                member.status = Status::Running;
                self.active += 1;
                if member.spec.restart == Restart::Temporary {
                    member.spec.args = Vec::new();
                }
                if let Some(from) = starter {
                    world.reply(from, Reply::Started(Ok(pid)));
                }
            }
            Err(error) => {
                if !exited {
                    self.ghosts.insert(pid);
                }
                let error = StartError::from(error);
                match starter {
                    Some(from) => {
                        world.reply(from, Reply::Started(Err(error)));
                        self.forget(world, pid);
                    }
                    None => self.restart_failed(world, pid, &error),
                }
            }
        }
    }

    fn exited(&mut self, world: &mut impl World<C, Reply>, pid: Pid, reason: ExitReason) {
        // A failed restart is kept under the pid that is gone: its exit is no news.
        if self.ghosts.remove(&pid) {
            return;
        }
        let Some(member) = self.members.get_mut(&pid) else {
            return;
        };
        match &mut member.status {
            Status::Starting { exited, .. } => *exited = true,
            Status::Retrying(_) => {}
            Status::Ending(_) => {
                if let Some(report) = report::shutdown_error(&member.spec, pid, &reason) {
                    world.report(&report);
                }
                self.forget(world, pid);
            }
            Status::Running => self.failed(world, pid, &reason),
        }
    }

    fn timer(&mut self, world: &mut impl World<C, Reply>, tag: Ref) {
        match self.tags.remove(&tag) {
            Some(Tag::Of(pid)) => match self.members.get_mut(&pid).map(|it| &mut it.status) {
                Some(Status::Ending(timer)) => {
                    *timer = None;
                    world.exit(pid, ExitReason::Kill);
                }
                Some(Status::Retrying(_)) => self.restart(world, pid),
                _ => {}
            },
            Some(Tag::Grace(ms)) => {
                for (&pid, member) in &self.members {
                    if member.spec.shutdown == Shutdown::After(ms) {
                        world.exit(pid, ExitReason::Kill);
                    }
                }
            }
            None => {}
        }
    }

    /// All at once; each time-out is waited for once.
    fn stop(&mut self, world: &mut impl World<C, Reply>, reason: ExitReason) {
        if let Phase::Stopping(_) = self.phase {
            return;
        }
        self.phase = Phase::Stopping(reason);
        let all: Vec<Pid> = self.members.keys().copied().collect();
        let mut graces = BTreeSet::new();
        for pid in all {
            graces.extend(self.end(world, pid));
        }
        for ms in graces {
            self.tags.insert(world.start_timer(ms), Tag::Grace(ms));
        }
    }

    fn finished(&self) -> Option<&ExitReason> {
        match &self.phase {
            Phase::Stopping(reason) if self.members.is_empty() => Some(reason),
            _ => None,
        }
    }
}

impl<C> Machine<C> {
    fn begun(&mut self, spec: ChildSpec, pid: Pid, tag: Ref, starter: Option<C>) {
        self.tags.insert(tag, Tag::Of(pid));
        self.supervisors += u64::from(spec.kind == ChildKind::Supervisor);
        let member = Member {
            spec,
            status: Status::Starting {
                tag,
                starter,
                exited: false,
            },
            enders: Vec::new(),
        };
        self.members.insert(pid, member);
    }

    /// A running child ended by itself.
    fn failed(&mut self, world: &mut impl World<C, Reply>, pid: Pid, reason: &ExitReason) {
        let Some(member) = self.members.get(&pid) else {
            return;
        };
        if let Some(report) = report::child_terminated(&member.spec, Some(pid), reason) {
            world.report(&report);
        }
        if !starts_again(member.spec.restart, reason) {
            return self.forget(world, pid);
        }
        if self.may_restart(world, pid) {
            self.restart(world, pid);
        }
    }

    /// Starts a child again that has ended; it is known by its new pid then.
    fn restart(&mut self, world: &mut impl World<C, Reply>, pid: Pid) {
        let Some(member) = self.members.get(&pid) else {
            return;
        };
        match world.spawn(&member.spec) {
            Ok((new, tag)) => {
                if let Some(member) = self.take(pid) {
                    self.begun(member.spec, new, tag, None);
                }
            }
            Err(error) => self.restart_failed(world, pid, &error.into()),
        }
    }

    fn restart_failed(&mut self, world: &mut impl World<C, Reply>, pid: Pid, error: &StartError) {
        let Some(member) = self.members.get(&pid) else {
            return;
        };
        // It chose not to start: Elixir's `:ignore` takes it from the children.
        if *error == StartError::Ignored {
            return self.forget(world, pid);
        }
        world.report(&report::start_error(&member.spec, error));
        if !self.may_restart(world, pid) {
            return;
        }
        let timer = world.start_timer(RETRY_MS);
        self.tags.insert(timer, Tag::Of(pid));
        if let Some(member) = self.members.get_mut(&pid) {
            if let Status::Running = member.status {
                self.active -= 1;
            }
            member.status = Status::Retrying(timer);
        }
    }

    /// Counts a restart. One too many is the child's last and ends the supervisor.
    fn may_restart(&mut self, world: &mut impl World<C, Reply>, pid: Pid) -> bool {
        let may = self.intensity.bears(world.now_ms());
        if !may {
            if let Some(member) = self.members.get(&pid) {
                world.report(&report::shutdown(&member.spec, &self.intensity));
            }
            self.forget(world, pid);
            self.stop(world, ExitReason::Shutdown);
        }
        may
    }

    /// Asks a child to end. While the supervisor ends, returns how many milliseconds it has.
    fn end(&mut self, world: &mut impl World<C, Reply>, pid: Pid) -> Option<u32> {
        let stopping = matches!(self.phase, Phase::Stopping(_));
        let member = self.members.get_mut(&pid)?;
        match &mut member.status {
            Status::Retrying(timer) => {
                let timer = *timer;
                self.tags.remove(&timer);
                world.cancel_timer(timer);
                self.forget(world, pid);
                return None;
            }
            Status::Ending(_) => return None,
            Status::Starting {
                tag,
                starter,
                exited,
            } => {
                self.tags.remove(tag);
                let exited = *exited;
                if let Some(from) = starter.take() {
                    let error = StartError::Failed(ExitReason::Shutdown);
                    world.reply(from, Reply::Started(Err(error)));
                }
                if exited {
                    self.forget(world, pid);
                    return None;
                }
                self.active += 1;
            }
            Status::Running => {}
        }
        let (reason, grace) = match member.spec.shutdown {
            Shutdown::BrutalKill => (ExitReason::Kill, None),
            Shutdown::After(ms) => (ExitReason::Shutdown, Some(ms)),
            Shutdown::Infinity => (ExitReason::Shutdown, None),
        };
        world.exit(pid, reason);
        let timer = grace.filter(|_| !stopping).map(|ms| world.start_timer(ms));
        if let Some(timer) = timer {
            self.tags.insert(timer, Tag::Of(pid));
        }
        member.status = Status::Ending(timer);
        grace.filter(|_| stopping)
    }

    fn forget(&mut self, world: &mut impl World<C, Reply>, pid: Pid) {
        let Some(member) = self.take(pid) else {
            return;
        };
        if let Status::Ending(Some(timer)) = member.status {
            self.tags.remove(&timer);
            world.cancel_timer(timer);
        }
        for ender in member.enders {
            world.reply(ender, Reply::Terminated(true));
        }
    }

    /// Takes a child out of the books.
    fn take(&mut self, pid: Pid) -> Option<Member<C>> {
        let member = self.members.remove(&pid)?;
        self.supervisors -= u64::from(member.spec.kind == ChildKind::Supervisor);
        self.active -= u64::from(matches!(member.status, Status::Running | Status::Ending(_)));
        Some(member)
    }
}

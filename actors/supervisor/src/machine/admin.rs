//! What users ask of a supervisor: OTP's calls of the module `supervisor`.

use wasm_node_sdk::supervisor::spec::{ChildKind, ChildSpec};
use wasm_node_sdk::supervisor::{Child, ChildError, ChildState, Counts, Reply};
use wasm_node_sdk::{ExitReason, StartError};

use super::{Machine, Member, Starter, Status, World};

impl<C> Machine<C> {
    /// The children, in their order.
    pub fn children(&self) -> Vec<Child> {
        let child = |member: &Member<C>| Child {
            id: member.spec.id.clone(),
            module: member.spec.module.clone(),
            state: member.state(),
            kind: member.spec.kind,
        };
        self.members.values().map(child).collect()
    }

    /// How many there are.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for member in self.members.values() {
            counts.specs += 1;
            counts.active += u64::from(matches!(member.state(), ChildState::Running(_)));
            match member.spec.kind {
                ChildKind::Supervisor => counts.supervisors += 1,
                ChildKind::Worker => counts.workers += 1,
            }
        }
        counts
    }

    /// What a child was specified as.
    pub fn spec(&self, id: &str) -> Option<&ChildSpec> {
        let seq = self.by_id.get(id)?;
        self.members.get(seq).map(|member| &member.spec)
    }

    /// Adds a child. The answer comes when its `init` has ended.
    pub fn start_child(&mut self, world: &mut impl World<C, Reply>, child: ChildSpec, from: C) {
        let there = self.by_id.get(&child.id);
        let refusal = match there.and_then(|seq| self.members.get(seq)) {
            _ if self.is_stopping() => Some(StartError::Failed(ExitReason::Shutdown)),
            Some(Member {
                status: Status::Starting { pid, .. } | Status::Running(pid),
                ..
            }) => Some(StartError::AlreadyStarted(*pid)),
            Some(_) => Some(StartError::AlreadyPresent),
            None => {
                let wrong = self.check(&child).err();
                wrong.map(|words| StartError::Failed(ExitReason::Error(words)))
            }
        };
        if let Some(error) = refusal {
            return world.reply(from, Reply::Started(Err(error)));
        }
        let seq = self.add(child, Some(Starter::Adds(from)));
        self.spawn(world, seq);
        self.advance(world);
    }

    /// Starts a child that has no process. The answer comes when its `init` has ended.
    pub fn restart_child(&mut self, world: &mut impl World<C, Reply>, id: &str, from: C) {
        let found = self.by_id.get(id).copied();
        let refusal = match found.and_then(|seq| self.members.get(&seq)) {
            None => Some(ChildError::NotFound),
            _ if self.is_stopping() => {
                Some(ChildError::Start(StartError::Failed(ExitReason::Shutdown)))
            }
            Some(member) => member.why_not_idle(),
        };
        match (refusal, found) {
            (Some(error), _) => world.reply(from, Reply::Restarted(Err(error))),
            (None, Some(seq)) => {
                if let Some(member) = self.members.get_mut(&seq) {
                    member.starter = Some(Starter::Restarts(from));
                }
                self.spawn(world, seq);
                self.advance(world);
            }
            (None, None) => {}
        }
    }

    /// Forgets a child that has no process.
    pub fn delete_child(
        &mut self,
        world: &mut impl World<C, Reply>,
        id: &str,
    ) -> Result<(), ChildError> {
        let found = self.by_id.get(id).copied();
        let seq = found.ok_or(ChildError::NotFound)?;
        let member = self.members.get(&seq).ok_or(ChildError::NotFound)?;
        match member.why_not_idle() {
            Some(error) => Err(error),
            None => {
                self.forget(world, seq);
                Ok(())
            }
        }
    }

    /// Ends a child, and forgets it if it is temporary. The answer comes when it is gone.
    pub fn terminate_child(&mut self, world: &mut impl World<C, Reply>, id: &str, from: C) {
        let Some(seq) = self.by_id.get(id).copied() else {
            return world.reply(from, Reply::Terminated(false));
        };
        if let Some(member) = self.members.get_mut(&seq) {
            member.enders.push(from);
        }
        self.end(world, seq);
        self.advance(world);
    }
}

impl<C> Member<C> {
    fn state(&self) -> ChildState {
        match self.status {
            Status::Running(pid) | Status::Ending { pid, .. } => ChildState::Running(pid),
            Status::Waiting | Status::Retrying(_) | Status::Starting { .. } => {
                ChildState::Restarting
            }
            Status::Undefined => ChildState::Undefined,
        }
    }

    /// Why it is not merely specified, if it is not.
    fn why_not_idle(&self) -> Option<ChildError> {
        match self.status {
            Status::Undefined => None,
            Status::Running(_) | Status::Ending { .. } | Status::Starting { .. } => {
                Some(ChildError::Running)
            }
            Status::Waiting | Status::Retrying(_) => Some(ChildError::Restarting),
        }
    }
}

//! What is known of a process from outside: `ps`, and Erlang's `process_info/1`.
//!
//! Contract: [`Process::info`] waits for nothing; [`Runtime::details`] waits for the end of a turn
//! for at most [`DETAILS_WAIT`], holding up no lane, so that two actors that look at each other
//! do not wait for ever. Does not know modules.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use wasm_node_protocol::{Limits, Pid};

use super::actor::Vitals;
use super::handle::{Process, State};
use super::runtime::Runtime;

/// How long a look at a process waits for the end of its turn; then what only exists between
/// turns is left out.
pub const DETAILS_WAIT: Duration = Duration::from_millis(50);

/// What a process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Waits for a message: Erlang's `waiting`.
    Waiting,
    /// Waits for its turn.
    Runnable,
    /// In a turn.
    Running,
    /// In a turn, and waits for room in another's mailbox or link.
    Suspended,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::Runnable => "runnable",
            Self::Running => "running",
            Self::Suspended => "suspended",
        })
    }
}

/// What `ps` shows of a process.
#[derive(Debug, Clone)]
pub struct ProcessInfo {
    /// Which.
    pub pid: Pid,
    /// What it runs: a module's name, or what the node calls its own.
    pub label: String,
    /// Its local names.
    pub names: Vec<String>,
    /// Messages waiting for it.
    pub mailbox: usize,
    /// What it is doing.
    pub status: Status,
    /// Who spawned it.
    pub parent: Option<Pid>,
    /// Processor time, in all; sampled, see `usage.rs`.
    pub cpu: Duration,
    /// Turns that it has begun.
    pub turns: u64,
    /// Its bounds.
    pub limits: Limits,
    /// Linear memory, in bytes; none while it runs.
    pub memory_bytes: Option<u64>,
    /// What it knows of itself; none while it runs, except to itself.
    pub vitals: Option<Vitals>,
}

/// All that is known of a process.
#[derive(Debug, Clone)]
pub struct Details {
    /// As `ps` has it.
    pub info: ProcessInfo,
    /// Whom it is linked to, sorted.
    pub links: Vec<Pid>,
    /// Whom it monitors, sorted; not those by name on another node.
    pub monitors: Vec<Pid>,
    /// Who monitors it, sorted.
    pub monitored_by: Vec<Pid>,
}

impl Process {
    /// What `ps` shows, without stopping the process.
    pub fn info(&self) -> ProcessInfo {
        let state = self.state.try_lock();
        self.info_with(state.as_deref())
    }

    fn info_with(&self, state: Option<&State>) -> ProcessInfo {
        let actor = state.and_then(|state| state.actor.try_borrow().ok());
        let taken = actor.as_ref().map_or(0, |actor| actor.mailbox_len());
        let memory_bytes = state.and_then(|state| {
            let program = state.program.try_borrow().ok()?;
            Some(program.as_ref()?.memory_bytes())
        });
        ProcessInfo {
            pid: self.pid,
            label: self.label().to_owned(),
            names: self.names().clone(),
            mailbox: self.incoming() + taken,
            status: self.status(),
            parent: self.parent(),
            cpu: self.cpu.total(),
            turns: self.turns(),
            limits: self.bounds.limits(),
            memory_bytes,
            vitals: actor.map(|actor| actor.vitals()),
        }
    }

    fn details_with(&self, state: Option<&State>) -> Details {
        let actor = state.and_then(|state| state.actor.try_borrow().ok());
        let sorted = |mut pids: Vec<Pid>| {
            pids.sort_unstable();
            pids
        };
        let (links, monitors, monitored_by) =
            actor.map(|actor| actor.relations()).unwrap_or_default();
        Details {
            info: self.info_with(state),
            links: sorted(links),
            monitors: sorted(monitors),
            monitored_by: sorted(monitored_by),
        }
    }
}

impl Runtime {
    /// Erlang's `process_info/1`, of an actor of this node that lives. Asked by a process in its
    /// turn, or by the host.
    pub fn details(self: &Arc<Self>, target: Pid) -> Option<Details> {
        let process = self.get(target)?;
        if let Some(state) = process.state.try_lock() {
            return Some(process.details_with(Some(&state)));
        }
        let mut details = None;
        self.scheduler.while_blocked(self, || {
            let state = process.state.try_lock_for(DETAILS_WAIT);
            details = Some(process.details_with(state.as_deref()));
        });
        details.or_else(|| Some(process.details_with(None)))
    }
}

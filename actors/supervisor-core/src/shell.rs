//! What the actors of both supervisors do alike: they give messages that concern children to their
//! machines, and wait for no others while they start or end.

use wasm_node_sdk::{Caller, ExitReason, Info, Message, Next, Pid, Ref, SpawnError, task};

use crate::{Host, World};

/// A machine, as the news of children and the end of a supervisor reach it. `C` is whom to answer,
/// `R` the answer.
pub trait Machine<C, R> {
    /// A start has succeeded or failed.
    fn spawned(&mut self, world: &mut impl World<C, R>, tag: Ref, result: Result<Pid, SpawnError>);
    /// An exit signal came. Of one that is no child it means nothing.
    fn exited(&mut self, world: &mut impl World<C, R>, pid: Pid, reason: ExitReason);
    /// A timer fired.
    fn timer(&mut self, world: &mut impl World<C, R>, tag: Ref);
    /// Ends all children, then itself with this reason.
    fn stop(&mut self, world: &mut impl World<C, R>, reason: ExitReason);
    /// Why it has ended, once all children are gone.
    fn finished(&self) -> Option<&ExitReason>;
}

/// What a supervisor does after a message.
pub fn next<C, R>(machine: &impl Machine<C, R>) -> Next {
    let finished = machine.finished();
    finished.map_or(Next::Wait, |reason| Next::Stop(reason.clone()))
}

/// Its `handle_info`.
pub fn handle_info<R: serde::Serialize>(
    machine: &mut impl Machine<Caller<R>, R>,
    info: Info,
) -> Next {
    match info {
        Info::Spawned(tag, result) => machine.spawned(&mut Host, tag, result),
        Info::Exit { pid, reason } => machine.exited(&mut Host, pid, reason),
        Info::Timer(tag) => machine.timer(&mut Host, tag),
        _ => {}
    }
    next(machine)
}

/// Its `terminate`. At the word of its parent all children are still there.
pub async fn terminate<R: serde::Serialize>(
    machine: &mut impl Machine<Caller<R>, R>,
    reason: &ExitReason,
) {
    machine.stop(&mut Host, reason.clone());
    while machine.finished().is_none() {
        step(machine, None).await;
    }
}

/// Takes in the next message that concerns children, or says that the parent has ended; others
/// wait.
pub async fn step<R: serde::Serialize>(
    machine: &mut impl Machine<Caller<R>, R>,
    parent: Option<Pid>,
) {
    let concerns_children = |message: &Message| {
        matches!(
            message,
            Message::Spawned(_) | Message::Exit(_) | Message::Timer(_)
        )
    };
    match task::receive_match(concerns_children).await {
        Message::Spawned((tag, result)) => machine.spawned(&mut Host, tag, result),
        Message::Exit((pid, reason)) if Some(pid) == parent => machine.stop(&mut Host, reason),
        Message::Exit((pid, reason)) => machine.exited(&mut Host, pid, reason),
        Message::Timer(tag) => machine.timer(&mut Host, tag),
        _ => {}
    }
}

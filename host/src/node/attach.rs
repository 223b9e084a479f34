//! An actor that a tool is attached to: a process of this node is its group leader, and passes on
//! to the tool what it and its children print, wherever they run, and their questions for input.
//!
//! Contract: what the tool gets is in order, and the actor's end comes last. When the tool goes,
//! so does this process: the actor lives on, and its node's `user` stands in.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use wasm_node_protocol::{
    Capabilities, Destination, ExitReason, Limits, NodeName, Pid, Ref, Signal, SpawnError,
    SpawnOptions,
};

use super::Inner;
use super::control::SPAWN_TIMEOUT;
use crate::process::{Message, Process, Program, Runtime, SpawnRequest, Step};
use crate::wasm::Services;

/// What a tool wants to run, and how it is told.
pub(super) struct Attachment {
    pub(super) module: String,
    pub(super) args: Bytes,
    pub(super) name: Option<String>,
    pub(super) on: Option<NodeName>,
    pub(super) limits: Limits,
    /// The tool's own group leader.
    pub(super) leader: Pid,
    /// The monitor of the tool's `Down`.
    pub(super) end: Ref,
}

/// The group leader of the actor.
struct Relay {
    runtime: Arc<Runtime>,
    leader: Pid,
    end: Ref,
    /// The monitor of the tool.
    watch: Ref,
    started: Option<oneshot::Sender<Result<Pid, SpawnError>>>,
    /// Our questions to the tool, and whose they are.
    asked: HashMap<Ref, (Pid, Ref)>,
    /// Lines that whoever asked did not wait for.
    spare: VecDeque<Bytes>,
}

impl Inner {
    /// Starts an actor for a tool, and attaches it.
    pub(super) async fn attach_for_tool(&self, what: Attachment) -> Result<Pid, SpawnError> {
        let process = self.runtime.spawn(SpawnRequest {
            label: "attached".into(),
            parent: None,
            options: SpawnOptions::default(),
            limits: Limits::default(),
            capabilities: Capabilities::EVERYTHING,
        })?;
        let (started, answer) = oneshot::channel();
        let watch = Destination::Pid(what.leader);
        let relay = Relay {
            runtime: self.runtime.clone(),
            leader: what.leader,
            end: what.end,
            watch: self.runtime.monitor(&process, &watch),
            started: Some(started),
            asked: HashMap::new(),
            spare: VecDeque::new(),
        };
        let options = SpawnOptions {
            monitor: true,
            await_init: true,
            name: what.name,
            limits: what.limits,
            group_leader: Some(process.pid),
            ..Default::default()
        };
        let on = what.on.unwrap_or_else(|| self.runtime.name().clone());
        self.spawn_on(
            &process,
            on.as_str(),
            &what.module,
            what.args.into(),
            options,
        );
        self.runtime.begin(&process, Box::new(relay));
        match tokio::time::timeout(SPAWN_TIMEOUT, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(SpawnError::NoConnection),
            Err(_) => {
                process.doom(ExitReason::Shutdown);
                Err(SpawnError::BadModule("it did not start in time".into()))
            }
        }
    }
}

impl Program for Relay {
    fn run(&mut self, process: &Arc<Process>) -> Poll<Step> {
        while let (Some(message), _) = self.runtime.next(process) {
            if let Some(reason) = self.take(process, message) {
                return Poll::Ready(Step::Stop(reason));
            }
        }
        Poll::Ready(Step::Wait)
    }

    fn wants_turn(&self) -> bool {
        false
    }
}

impl Relay {
    /// Why it is over, if it is.
    fn take(&mut self, process: &Arc<Process>, message: Message) -> Option<ExitReason> {
        match message {
            Message::Output { from, kind, text } => {
                let output = Signal::Output { from, kind, text };
                self.runtime.send_from(process, self.leader, output);
            }
            Message::InputRequest {
                from,
                tag,
                timeout_ms,
            } => match self.spare.pop_front() {
                Some(line) => self.runtime.reply(process, from, tag, line),
                None => {
                    let timeout = timeout_ms.map(|ms| Duration::from_millis(ms.into()));
                    let ours = self.runtime.read_line_of(process, self.leader, timeout);
                    self.asked.insert(ours, (from, tag));
                }
            },
            Message::Response { tag, result } => {
                let (from, of) = self.asked.remove(&tag)?;
                match result {
                    Ok(line) if !process.with_actor(|actor| actor.owes(of)) => {
                        if !line.is_empty() {
                            self.spare.push_back(line);
                        }
                    }
                    result => self.runtime.answer(process, from, of, result),
                }
            }
            Message::Spawned { result, .. } => {
                let failed = result.is_err();
                if let Some(started) = self.started.take() {
                    let _ = started.send(result);
                }
                if failed {
                    return Some(self.ended(process, ExitReason::NoProc));
                }
            }
            Message::Down { tag, .. } if tag == self.watch => return Some(ExitReason::Shutdown),
            Message::Down { reason, .. } => return Some(self.ended(process, reason)),
            _ => {}
        }
        None
    }

    /// Tells the tool, behind all that it was sent before.
    fn ended(&self, process: &Process, reason: ExitReason) -> ExitReason {
        let (tag, pid) = (self.end, process.pid);
        let down = Signal::Down { tag, pid, reason };
        self.runtime.send_from(process, self.leader, down);
        ExitReason::Normal
    }
}

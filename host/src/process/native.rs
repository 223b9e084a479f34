//! Processes of the node itself: the host's own code as a party among actors.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use wasm_node_protocol::{
    CallError, Capabilities, Destination, ExitReason, Limits, Pid, SpawnError, SpawnOptions,
};

use super::actor::Message;
use super::handle::Process;
use super::runtime::{Runtime, SpawnRequest};
use super::{Program, Step};

/// A process whose messages come out of [`Native::receive`]. It ends when this is dropped.
pub struct Native {
    runtime: Arc<Runtime>,
    process: Arc<Process>,
    messages: mpsc::UnboundedReceiver<Message>,
}

/// Hands messages on. The channel is bounded by the mailbox' limit: what is not received
/// stays few, as the owner receives until it drops.
struct Forward {
    process: Arc<Process>,
    messages: mpsc::UnboundedSender<Message>,
}

impl Program for Forward {
    fn run(&mut self, _: &Arc<Process>) -> Poll<Step> {
        let Some(runtime) = self.process.runtime() else {
            return Poll::Ready(Step::Stop(ExitReason::Shutdown));
        };
        while let (Some(message), _) = runtime.next(&self.process) {
            if self.messages.send(message).is_err() {
                return Poll::Ready(Step::Stop(ExitReason::Normal));
            }
        }
        Poll::Ready(Step::Wait)
    }

    fn wants_turn(&self) -> bool {
        false
    }
}

impl Native {
    /// Makes one; `label` is what `ps` shows.
    pub fn spawn(runtime: &Arc<Runtime>, label: &str) -> Result<Self, SpawnError> {
        let process = runtime.spawn(SpawnRequest {
            label: label.into(),
            parent: None,
            options: SpawnOptions::default(),
            limits: Limits::default(),
            capabilities: Capabilities::EVERYTHING,
        })?;
        process.with_actor(|actor| actor.set_trap_exit(true));
        let (sender, messages) = mpsc::unbounded_channel();
        let program = Forward {
            process: process.clone(),
            messages: sender,
        };
        runtime.begin(&process, Box::new(program));
        Ok(Self {
            runtime: runtime.clone(),
            process,
            messages,
        })
    }

    /// Its pid.
    pub fn pid(&self) -> Pid {
        self.process.pid
    }

    /// The process itself, to act for it.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// Waits for the next message; `None` when the process was killed.
    pub async fn receive(&mut self) -> Option<Message> {
        self.messages.recv().await
    }

    /// Sends a request and waits for the response; other messages are dropped meanwhile.
    pub async fn call(
        &mut self,
        to: &Destination,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        let asked = self.runtime.request(&self.process, to, body, Some(timeout));
        loop {
            match self.receive().await {
                Some(Message::Response { tag, result }) if tag == asked => return result,
                Some(_) => {}
                None => return Err(CallError::Exit(ExitReason::Killed)),
            }
        }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        self.process.doom(ExitReason::Normal);
    }
}

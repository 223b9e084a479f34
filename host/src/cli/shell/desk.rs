//! The shell as a group leader: text is shown, questions for input wait for the next line, and ends
//! that are no clean ones are told.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use wasm_node_protocol::{
    CallError, ExitReason, Incarnation, OutputKind, Pid, Ref, Signal, Target,
};

use crate::cli::client::Desk;
use crate::dist::{Delivered, Dist};
use crate::node::{Output, Questions};

/// See the module.
pub(super) struct ShellDesk {
    own: Pid,
    output: Output,
    dist: OnceLock<Dist>,
    state: Mutex<State>,
    /// Something came that a foreground actor is watched for.
    changed: Notify,
}

#[derive(Default)]
struct State {
    started: u64,
    /// What was started and lives: what to call it, and whether somebody waits for its end.
    actors: HashMap<Ref, Started>,
    questions: Questions,
}

struct Started {
    label: String,
    foreground: bool,
    ended: Option<ExitReason>,
}

impl ShellDesk {
    pub(super) fn new(node: Incarnation) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            own: Pid::user(node),
            output: Output::start()?,
            dist: OnceLock::new(),
            state: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    /// The group leader.
    pub(super) fn leader(&self) -> Pid {
        self.own
    }

    /// Something is to be started; gives what its end comes with.
    pub(super) fn starts(&self, label: String, foreground: bool) -> Ref {
        let mut state = self.state.lock();
        state.started += 1;
        let tag = Ref {
            node: self.own.node,
            serial: state.started,
        };
        let started = Started {
            label,
            foreground,
            ended: None,
        };
        state.actors.insert(tag, started);
        tag
    }

    /// Nobody wants to hear of it.
    pub(super) fn forget_actor(&self, tag: Ref) {
        self.state.lock().actors.remove(&tag);
    }

    /// It goes on in the background.
    pub(super) fn leave_alone(&self, tag: Ref) {
        let mut state = self.state.lock();
        if let Some(started) = state.actors.get_mut(&tag) {
            started.foreground = false;
        }
    }

    /// Why it ended, if it has.
    pub(super) fn ended(&self, tag: Ref) -> Option<ExitReason> {
        let mut state = self.state.lock();
        let reason = state.actors.get(&tag)?.ended.clone()?;
        state.actors.remove(&tag);
        Some(reason)
    }

    /// Waits until something changed since the last look.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether an actor waits for a line.
    pub(super) fn has_question(&self) -> bool {
        self.state.lock().questions.any()
    }

    /// Gives a line, with its end, to who asked first; nothing is the end of the input.
    pub(super) fn answer(&self, line: String) {
        let question = self.state.lock().questions.next();
        if let Some((asker, tag)) = question {
            self.respond(asker, tag, Ok(Bytes::from(line)));
        }
    }

    /// Shows all that came so far.
    pub(super) fn flush(&self, timeout: Duration) {
        self.output.flush(timeout);
    }

    fn respond(&self, asker: Pid, tag: Ref, result: Result<Bytes, CallError>) {
        if let Some(dist) = self.dist.get() {
            let response = Signal::Response { tag, result };
            dist.send_from(Some(self.own), asker.node, &Target::Pid(asker), &response);
        }
    }

    fn end(&self, tag: Ref, reason: ExitReason) {
        let mut state = self.state.lock();
        let Some(started) = state.actors.get_mut(&tag) else {
            return;
        };
        if started.foreground {
            started.ended = Some(reason);
            return;
        }
        let label = state.actors.remove(&tag).map(|started| started.label);
        drop(state);
        let clean = matches!(
            reason,
            ExitReason::Normal | ExitReason::Shutdown | ExitReason::ShutdownWith(_)
        );
        if !clean {
            let text = format!("{} has ended: {reason}\n", label.unwrap_or_default());
            self.output
                .print(self.own, OutputKind::Stderr, text.as_bytes());
        }
    }
}

impl Desk for ShellDesk {
    fn started(&self, dist: &Dist) {
        let _ = self.dist.set(dist.clone());
    }

    fn take(&self, signal: Signal) -> Delivered {
        match signal {
            Signal::Output { from, kind, text } => {
                self.output.print(from, kind, &text);
                if self.output.is_busy() {
                    return Delivered::Full;
                }
            }
            Signal::InputRequest {
                from,
                tag,
                timeout_ms,
            } => {
                self.output.prompt(from);
                let timeout = timeout_ms.map(|ms| Duration::from_millis(ms.into()));
                let asked = self.state.lock().questions.push(from, tag, timeout);
                if let Err(refused) = asked {
                    self.respond(from, tag, Err(refused));
                }
            }
            Signal::Forget { tag } => {
                self.state.lock().questions.forget(tag);
            }
            Signal::Down { tag, reason, .. } => self.end(tag, reason),
            _ => {}
        }
        self.changed.notify_one();
        Delivered::Ok
    }
}

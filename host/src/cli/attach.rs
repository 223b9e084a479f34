//! `wasm-node spawn --attach`: this program is the group leader of the actor that it starts.
//!
//! Its own node has no actors, but a `user` like any node: text is shown on standard output and
//! error, lines are read from standard input when somebody asks. See `node::attach` for the other
//! side.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use wasm_node_protocol::{ExitReason, Incarnation, Limits, NodeName, Pid, Ref, Signal, Target};

use super::client::{Client, Desk, Node, block_on, incarnation};
use super::error::CliError;
use super::spawn::SPAWN_TIMEOUT;
use crate::control::{ControlReply, ControlRequest};
use crate::dist::{Delivered, Dist};
use crate::node::{Console, Output};
use crate::process::User as _;

/// How long the actor's last text may take to be shown, and to arrive if it did not start.
const LAST_TEXT_TIMEOUT: Duration = Duration::from_secs(5);

/// The actor to start.
pub(super) struct Start {
    pub(super) module: String,
    pub(super) args: bytes::Bytes,
    pub(super) name: Option<String>,
    pub(super) on: Option<NodeName>,
    pub(super) limits: Limits,
}

impl Start {
    /// The question to its node; `end` comes back with its end.
    pub(super) fn request(self, leader: Pid, end: Ref) -> ControlRequest {
        ControlRequest::Attach {
            module: self.module,
            args: self.args,
            name: self.name,
            on: self.on,
            limits: self.limits,
            leader,
            end,
        }
    }
}

/// This program as a group leader.
pub(super) struct Leader {
    own: Pid,
    end: Ref,
    output: Output,
    console: Arc<Console>,
    dist: Arc<OnceLock<Dist>>,
    ended: watch::Sender<Option<ExitReason>>,
}

impl Leader {
    fn new(node: Incarnation) -> std::io::Result<Self> {
        let output = Output::start()?;
        let dist: Arc<OnceLock<Dist>> = Arc::default();
        let answers = dist.clone();
        let own = Pid::user(node);
        let answer = move |asker: Pid, tag, result| {
            if let Some(dist) = answers.get() {
                let response = Signal::Response { tag, result };
                dist.send_from(Some(own), asker.node, &Target::Pid(asker), &response);
            }
        };
        let console = Console::new(output.clone(), answer);
        Ok(Self {
            own,
            end: Ref { node, serial: 1 },
            output,
            console,
            dist,
            ended: watch::Sender::new(None),
        })
    }
}

impl Desk for Leader {
    fn started(&self, dist: &Dist) {
        let _ = self.dist.set(dist.clone());
    }

    fn take(&self, signal: Signal) -> Delivered {
        match signal {
            Signal::Output { from, kind, text } => {
                self.console.print(from, kind, &text);
                if self.output.is_busy() {
                    return Delivered::Full;
                }
            }
            Signal::InputRequest {
                from,
                tag,
                timeout_ms,
            } => {
                let timeout = timeout_ms.map(|ms| Duration::from_millis(ms.into()));
                self.console.read_line(from, tag, timeout);
            }
            Signal::Forget { tag } => self.console.forget(tag),
            Signal::Down { tag, reason, .. } if tag == self.end => {
                self.ended.send_replace(Some(reason));
            }
            _ => {}
        }
        Delivered::Ok
    }
}

/// Starts the actor, and stays until it has ended.
pub(super) fn run(node: &Node, start: Start, log: Option<&str>) -> Result<(), CliError> {
    super::log::start("wasm-node", log, "off")?;
    let system = |error| CliError::System("start a thread", error);
    let own = incarnation();
    let leader = Arc::new(Leader::new(own).map_err(system)?);
    let result = block_on(async {
        let client = Client::join_as(&node.node, &node.join, own, leader.clone()).await?;
        stay(client, &leader, start).await
    });
    leader.output.flush(LAST_TEXT_TIMEOUT);
    result
}

async fn stay(mut client: Client, leader: &Leader, start: Start) -> Result<(), CliError> {
    let mut ended = leader.ended.subscribe();
    let (module, node) = (start.module.clone(), client.name.clone());
    let on = start.on.clone().unwrap_or_else(|| node.clone());
    let request = start.request(leader.own, leader.end);
    match client.ask(&request, SPAWN_TIMEOUT).await {
        Ok(ControlReply::Spawned(Ok(_))) => {}
        Ok(ControlReply::Spawned(Err(error))) => {
            // What it said before.
            let said = ended.wait_for(Option::is_some);
            let _ = tokio::time::timeout(LAST_TEXT_TIMEOUT, said).await;
            client.leave().await;
            let node = on;
            return Err(CliError::Spawn {
                module,
                node,
                error,
            });
        }
        other => {
            let error = other.err().unwrap_or_else(|| client.mismatch());
            client.leave().await;
            return Err(error);
        }
    }
    let reason = tokio::select! {
        biased;
        reason = ended.wait_for(Option::is_some) => reason.ok().and_then(|reason| reason.clone()),
        () = client.down() => None,
    };
    client.leave().await;
    match reason {
        Some(ExitReason::Normal | ExitReason::Shutdown) => Ok(()),
        Some(reason) => Err(CliError::Ended {
            module,
            node: on,
            reason,
        }),
        None => Err(CliError::Lost { module, node }),
    }
}

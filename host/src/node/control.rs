//! The control API's server side: what tools ask of this node.

use std::time::{Duration, Instant};

use bytes::Bytes;
use wasm_node_protocol::codec::NodeRequest;
use wasm_node_protocol::{
    CallError, Destination, ExitReason, NodeKind, NodeName, Pid, Signal, SpawnError, SpawnOptions,
};

use super::Inner;
use super::attach::Attachment;
use crate::control::{
    Address, ControlReply, ControlRequest, MAX_LISTED_NAMES, MAX_LISTED_PROCESSES, ModuleRow,
    NameList, NameRow, NodeInfo, NodeRow, PidRow, ProcessList, ProcessRow, ProcessState,
};
use crate::dist::{Cookie, NodeSet};
use crate::process::{Message, Native};
use crate::wasm::Services;

/// How long a spawn for a tool may take.
pub(super) const SPAWN_TIMEOUT: Duration = Duration::from_secs(130);

/// How long a connected node may take to answer a ping: longer than one that does not answer at
/// all stays connected, at the usual tick time.
const PING_TIMEOUT: Duration = Duration::from_secs(8);

impl Inner {
    /// Answers a tool through `send`, then does what has to wait for that. Bytes that are no
    /// request are refused.
    pub(super) async fn control(&self, request: &[u8], send: impl FnOnce(Bytes)) {
        let reply = match ControlRequest::decode(request) {
            Ok(request) => self.answer(request).await,
            Err(error) => ControlReply::Refused(error.to_string()),
        };
        let stop = reply == ControlReply::Stopping;
        send(reply.encode().unwrap_or_else(|error| {
            tracing::error!(%error, "cannot encode a control reply");
            Bytes::new()
        }));
        if stop {
            // Not before the answer waits in its link, which is closed in order.
            self.stopping.send_replace(true);
        }
    }

    async fn answer(&self, request: ControlRequest) -> ControlReply {
        match request {
            ControlRequest::Info => ControlReply::Info(self.info()),
            ControlRequest::Nodes => ControlReply::Nodes(self.node_rows()),
            ControlRequest::Processes => ControlReply::Processes(self.process_list()),
            ControlRequest::Modules => ControlReply::Modules(self.module_rows()),
            ControlRequest::Attach {
                module,
                args,
                name,
                on,
                limits,
                leader,
                end,
            } => {
                let attached = self.attach_for_tool(Attachment {
                    module,
                    args,
                    name,
                    on,
                    limits,
                    leader,
                    end,
                });
                ControlReply::Spawned(attached.await.map(|pid| self.row(pid)))
            }
            ControlRequest::Dump { from } => ControlReply::Dump(Box::new(self.dump(from))),
            ControlRequest::Spawn {
                module,
                args,
                name,
                on,
                limits,
            } => {
                let options = SpawnOptions {
                    await_init: true,
                    name,
                    limits,
                    ..Default::default()
                };
                let spawned = self.spawn_for_tool(&module, args, on, options).await;
                ControlReply::Spawned(spawned.map(|pid| self.row(pid)))
            }
            ControlRequest::Call {
                to,
                body,
                timeout_ms,
            } => {
                let timeout = Duration::from_millis(timeout_ms.into());
                ControlReply::Called(self.call_for_tool(to, body, timeout).await)
            }
            ControlRequest::Exit { to, reason } => {
                ControlReply::Exited(self.exit_for_tool(to, reason))
            }
            ControlRequest::Whereis(of) => {
                ControlReply::Whereis(self.pid_at(&of).map(|pid| self.row(pid)))
            }
            ControlRequest::GlobalNames => ControlReply::GlobalNames(self.name_list()),
            ControlRequest::Connect(node) => {
                let connected = self.dist().keep_connected(&node).await;
                ControlReply::Connected(connected.map(|_| ()).map_err(|error| error.to_string()))
            }
            ControlRequest::Disconnect(node) => {
                ControlReply::Disconnected(self.dist().disconnect(&node))
            }
            ControlRequest::Ping(node) => ControlReply::Pinged(self.ping(&node).await),
            ControlRequest::Cookies => ControlReply::Cookies(self.dist().cookies()),
            ControlRequest::SetCookie { peer, cookie } => {
                let cookie = Cookie::of_key(cookie.0);
                match self.dist().set_cookie(peer.as_ref(), cookie) {
                    Ok(()) => {
                        let of = peer.as_ref().map_or("all peers", NodeName::as_str);
                        tracing::info!(of, "a tool has set the cookie");
                        ControlReply::CookieSet
                    }
                    Err(error) => ControlReply::Refused(error.to_string()),
                }
            }
            ControlRequest::Stop => ControlReply::Stopping,
        }
    }

    /// Erlang's `net_adm:ping/1`: connects, and waits for an answer; how long that took, in
    /// microseconds.
    async fn ping(&self, node: &NodeName) -> Result<u64, String> {
        if node == self.runtime.name() {
            return Ok(0);
        }
        let connected = self.dist().connect(node).await;
        let there = connected.map_err(|error| error.to_string())?;
        let begun = Instant::now();
        let asked = self.dist().request(there, NodeRequest::Ping, PING_TIMEOUT);
        match asked.await {
            Ok(_) => Ok(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(super) fn node_rows(&self) -> Vec<NodeRow> {
        let nodes = self.dist().nodes(NodeSet::All).into_iter();
        let row = |(name, _, kind)| NodeRow { name, kind };
        nodes.map(row).collect()
    }

    pub(super) fn module_rows(&self) -> Vec<ModuleRow> {
        let row = |m: crate::wasm::ModuleInfo| ModuleRow {
            name: m.name,
            digest: m.digest,
            actors: m.actors.into(),
            imports: m.imports,
            capabilities: m.capabilities.to_texts(),
        };
        self.modules.list().into_iter().map(row).collect()
    }

    pub(super) fn info(&self) -> NodeInfo {
        NodeInfo {
            name: self.runtime.name().clone(),
            incarnation: self.runtime.node(),
            kind: self.kind,
            os_pid: std::process::id(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            processes: self.runtime.count() as u64,
            listen: self.dist().address().map(str::to_owned),
            http: self
                .http
                .lock()
                .iter()
                .map(|at| format!("http://{at}"))
                .collect(),
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    fn process_list(&self) -> ProcessList {
        let processes = self.runtime.processes();
        let total = processes.len() as u64;
        let row = |info: crate::process::ProcessInfo| ProcessRow {
            pid: info.pid.display(0),
            module: info.label,
            name: info.names.into_iter().next(),
            mailbox: info.mailbox as u64,
            status: info.status.to_string(),
            cpu_us: info.cpu.as_micros() as u64,
            turns: info.turns,
            state: info.vitals.map(|state| ProcessState {
                memory_bytes: info.memory_bytes.unwrap_or(0),
                messages_in: state.messages_in,
                messages_out: state.messages_out,
                links: state.links as u64,
            }),
        };
        ProcessList {
            rows: processes
                .into_iter()
                .take(MAX_LISTED_PROCESSES)
                .map(row)
                .collect(),
            total,
        }
    }

    pub(super) fn name_list(&self) -> NameList {
        let names = self.dist().registered();
        let total = names.len() as u64;
        let row = |(name, pid): (String, Pid)| NameRow {
            name,
            holder: self.row(pid),
            node: self.dist().name_of(pid.node),
        };
        NameList {
            rows: names.into_iter().take(MAX_LISTED_NAMES).map(row).collect(),
            total,
        }
    }

    pub(super) fn row(&self, pid: Pid) -> PidRow {
        PidRow {
            pid,
            printed: pid.display(self.dist().number_of(pid.node).unwrap_or(u32::MAX)),
        }
    }

    /// The pid that a person means. A printed one is known only if its node is this one or
    /// connected.
    fn pid_at(&self, address: &Address) -> Option<Pid> {
        match address {
            Address::Pid(printed) if printed.node == 0 => {
                let pid = Pid {
                    node: self.runtime.node(),
                    serial: printed.serial,
                };
                self.runtime.get(pid).map(|process| process.pid)
            }
            Address::Pid(printed) => {
                let nodes = self.dist().nodes(NodeSet::All);
                let known = |node: &&(NodeName, _, NodeKind)| {
                    self.dist().number_of(node.1) == Some(printed.node)
                };
                let (_, node, _) = nodes.iter().find(known)?;
                Some(Pid {
                    node: *node,
                    serial: printed.serial,
                })
            }
            Address::Name(name) => self.runtime.whereis(name),
            Address::Global(name) => self.dist().whereis(name),
        }
    }

    async fn spawn_for_tool(
        &self,
        module: &str,
        args: Bytes,
        on: Option<NodeName>,
        options: SpawnOptions,
    ) -> Result<Pid, SpawnError> {
        let mut native = Native::spawn(&self.runtime, "tool")?;
        let on = on.unwrap_or_else(|| self.runtime.name().clone());
        let asked = self.spawn_on(native.process(), on.as_str(), module, args.into(), options);
        let answer = async {
            loop {
                match native.receive().await {
                    Some(Message::Spawned { tag, result }) if tag == asked => return result,
                    Some(_) => {}
                    None => return Err(SpawnError::InitFailed(ExitReason::Killed)),
                }
            }
        };
        tokio::time::timeout(SPAWN_TIMEOUT, answer)
            .await
            .unwrap_or_else(|_| Err(SpawnError::BadModule("it did not start in time".into())))
    }

    async fn call_for_tool(
        &self,
        to: Address,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        let to = self.pid_at(&to).ok_or(CallError::NoProc)?;
        let mut native = Native::spawn(&self.runtime, "tool")
            .map_err(|_| CallError::Exit(ExitReason::NoProc))?;
        native.call(&Destination::Pid(to), body, timeout).await
    }

    fn exit_for_tool(&self, to: Address, reason: ExitReason) -> bool {
        let Some(pid) = self.pid_at(&to) else {
            return false;
        };
        let nobody = Pid {
            node: self.runtime.node(),
            serial: 0,
        };
        self.runtime.signal(
            pid,
            Signal::Exit {
                from: nobody,
                reason,
                link: false,
            },
        );
        true
    }
}

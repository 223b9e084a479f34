//! The distribution: sockets, and the tasks that drive the machines of `wasm-node-protocol`
//! over them, so that nodes become one cluster.
//!
//! Contract: [`Dist`] is the handle the rest of the node uses, from any thread; [`Host`] is
//! what the distribution asks of the node. Signals between two actors arrive in the order
//! sent, or the link's end is told; every queue is bounded.
//!
//! Deliberately does not know actors, wasm or code: signals are delivered, requests passed on.

pub mod config;
pub mod cookie;
mod cookies;
mod cork;
mod dial;
mod doors;
pub mod epmd;
pub mod host;
mod kernel;
mod link;
mod lookout;
mod outbox;
mod records;
mod requests;
mod tables;
#[cfg(test)]
mod tests;
mod transport;
mod wire;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wasm_node_protocol::codec::{
    Metadata, NodeReply, NodeRequest, encode_signal, encode_signal_head,
};
use wasm_node_protocol::frame::MAX_FRAME_BYTES;
use wasm_node_protocol::global::{NoVerdict, QuestionId, Requester, Wish};
use wasm_node_protocol::groups::{ByGroup, GroupError, GroupId};
use wasm_node_protocol::membership::DialTarget;
use wasm_node_protocol::{Incarnation, NodeKind, NodeName, Pid, Ref, Signal, Target};

pub use config::{DistConfig, EpmdMode, Listen, StartError};
pub use cookie::{Cookie, CookieError, CookieSource};
pub use cookies::{MAX_PEER_COOKIES, TooManyCookies};
pub use host::{Answer, Delivered, Dispute, Host, RequestError};
pub use outbox::{MAX_PEER_QUEUE_BYTES, PEER_QUEUE_HIGH_BYTES, PEER_QUEUE_LOW_BYTES};
pub use wasm_node_protocol::handshake::{Peer, Security};

use crate::control::{CookieRow, GroupCounts};
use doors::Doors;
use epmd::{Entry, Registrar, RegistrarConfig};
use kernel::Kernel;
use lookout::Lookout;
use outbox::Pushed;

/// How long the listener rests when the system refuses it a connection, in milliseconds.
const ACCEPT_REST_MS: u64 = 20;

/// How long [`Dist::stop`] waits for links to close in order, in milliseconds; then it cuts
/// them.
const STOP_MS: u64 = 1_500;

/// The distribution of one node. A cheap handle: clone it at will.
#[derive(Clone)]
pub struct Dist {
    kernel: Arc<Kernel>,
    running: Arc<Mutex<Running>>,
    address: Option<String>,
    /// How often the lookout had been taken at the last look.
    looked: Arc<AtomicU64>,
}

/// What ends with the distribution.
#[derive(Default)]
struct Running {
    tasks: Vec<JoinHandle<()>>,
    registrar: Option<Registrar>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// How a send went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendOutcome {
    /// Under way.
    Sent,
    /// Under way, but much waits for that node: the sender should pause, as in
    /// [`Dist::wait_for_room`].
    Congested,
    /// The node is not connected. Nothing was sent.
    NoConnection,
    /// Longer than a message may be. Nothing was sent.
    TooLarge,
}

/// Which of the connected nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeSet {
    /// Those that all see.
    Visible,
    /// Those that only their peers see.
    Hidden,
    /// Both.
    All,
}

/// Why there is no connection. Nobody's, or the user's to mend; the reason says.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("cannot connect to {target}: {reason}")]
pub struct ConnectError {
    /// To whom.
    pub target: String,
    /// Why not, and what to do.
    pub reason: String,
}

impl Dist {
    /// Starts: listens and registers with the port mapper, as the configuration says. All of
    /// its tasks run on the runtime that this is awaited on, which should do nothing else, so
    /// that ticks go out in time whatever actors do.
    pub async fn start(config: DistConfig, host: Arc<dyn Host>) -> Result<Self, StartError> {
        let mut running = Running::default();
        let mut listener = None;
        let mut address = None;
        if let Some(listen) = &config.listen {
            let bound = config::bind(listen).await?;
            let at = bound
                .local_addr()
                .map_err(|e| StartError::Listen((listen.host, 0).into(), e))?;
            if let EpmdMode::Port(port) = config.epmd {
                let serve_on = if listen.host.is_loopback() {
                    [127, 0, 0, 1]
                } else {
                    [0, 0, 0, 0]
                };
                let mapper = RegistrarConfig {
                    port,
                    serve_on: serve_on.into(),
                };
                let entry = Entry::new(
                    config.name.alive(),
                    at.port(),
                    config.kind == NodeKind::Hidden,
                );
                running.registrar = Some(Registrar::start(mapper, entry).await?);
            }
            address = Some(config::public_address(&config.name, at));
            listener = Some(bound);
        }
        let lookout = Lookout::new().map_err(StartError::System)?;
        let kernel = Kernel::new(config, host, address.clone(), lookout);
        let running = Arc::new(Mutex::new(running));
        let dist = Self {
            kernel: kernel.clone(),
            running: running.clone(),
            address,
            looked: Arc::default(),
        };
        kernel.host.started(&dist);
        let mut running = running.lock();
        running.tasks.push(tokio::spawn(kernel.clone().run()));
        if let Some(listener) = listener {
            running.tasks.push(tokio::spawn(listen(kernel, listener)));
        }
        drop(running);
        Ok(dist)
    }

    /// Leaves the cluster: gives up the name, tells all peers, closes all links (what waits
    /// is still sent, for at most 1.5 s) and reports their ends to the host.
    pub async fn stop(&self) {
        let running = std::mem::take(&mut *self.running.lock());
        self.kernel
            .leave_cluster(Duration::from_millis(STOP_MS))
            .await;
        drop(running);
    }

    /// Where others can dial this node, `host:port`, if it listens.
    pub fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// This node's name.
    pub fn name(&self) -> &NodeName {
        &self.kernel.config.name
    }

    /// Sends a signal to another node; never waits. From any thread.
    pub fn send(&self, node: Incarnation, to: &Target, signal: &Signal) -> SendOutcome {
        self.send_from(signal.sender(), node, to, signal)
    }

    /// As [`Dist::send`], with the actor of this node that it comes from. Signals of one sender
    /// arrive in the order sent; those without one are ordered with nothing.
    pub fn send_from(
        &self,
        sender: Option<Pid>,
        node: Incarnation,
        to: &Target,
        signal: &Signal,
    ) -> SendOutcome {
        let sender = sender.map(|sender| sender.serial);
        let none = Metadata::default();
        let pushed = self.kernel.tables.with_link(node, |link| {
            let pushed = match signal {
                Signal::Info(body)
                | Signal::Cast(body)
                | Signal::Request { body, .. }
                | Signal::Response {
                    result: Ok(body), ..
                } if body.len() > MAX_FRAME_BYTES => {
                    let mut head = Vec::new();
                    let body = encode_signal_head(to, &none, signal, &mut head);
                    link.outbox
                        .push_signal_parts(sender, head, body.cloned().unwrap_or_default())
                }
                _ => {
                    let encode = |out: &mut Vec<u8>| encode_signal(to, &none, signal, out);
                    link.outbox.push_signal_with(sender, encode)
                }
            };
            (pushed, link.is_due(pushed).then(|| link.clone()))
        });
        let Some((pushed, due)) = pushed else {
            return SendOutcome::NoConnection;
        };
        // Outside of the table's lock.
        if let Some(link) = due {
            link.flush();
        }
        match pushed {
            Pushed::Ok | Pushed::Plenty => SendOutcome::Sent,
            Pushed::Congested => SendOutcome::Congested,
            Pushed::TooLarge => SendOutcome::TooLarge,
            Pushed::Closed => SendOutcome::NoConnection,
        }
    }

    /// A turn of an actor is over on this thread: writes what it sent, soon. From the first
    /// call on, what this thread sends waits for the next, or for [`Dist::flush`].
    pub fn turn_over(&self) {
        cork::turn_over();
    }

    /// Writes what this thread has sent.
    pub fn flush(&self) {
        cork::flush();
    }

    /// To be called every millisecond or so while threads run turns. Calls the readers of
    /// links back if no thread looks out; with `nudge`, as when turns run long, has all written
    /// that waits for the end of one. From any thread.
    pub fn look_after(&self, nudge: bool) {
        let deserted = self.kernel.lookout.is_deserted(&self.looked);
        if !deserted && !nudge {
            return;
        }
        for link in self.kernel.tables.links() {
            if deserted {
                link.wire.call_back();
            }
            if nudge && link.outbox.queued_bytes() > 0 {
                link.wire.leave_to_writer();
            }
        }
    }

    /// Waits, on a thread that has nothing better to do, until a peer sends something, and
    /// delivers it; or until [`Dist::ring`]. Calls `risen` when the wait is over, before it
    /// delivers. False at once if another thread waits here.
    pub fn look_out(&self, risen: &mut dyn FnMut()) -> bool {
        let taken = self.kernel.lookout.take();
        cork::flush();
        if !taken {
            return false;
        }
        let arrivals = self.kernel.lookout.wait();
        risen();
        for arrival in arrivals {
            arrival.link.help(&self.kernel, arrival.ended);
        }
        true
    }

    /// Ends the [`Dist::look_out`] of whoever waits there, or will next. From any thread.
    pub fn ring(&self) {
        self.kernel.lookout.ring();
    }

    /// Blocks this thread until little waits for the node, or it is gone; false if that took
    /// longer than `timeout`. Not for async tasks.
    pub fn wait_for_room(&self, node: Incarnation, timeout: Duration) -> bool {
        cork::flush();
        // Outside of the table's lock.
        let link = self.kernel.tables.with_link(node, Arc::clone);
        link.is_none_or(|link| link.outbox.wait_for_room(timeout))
    }

    /// Bytes that wait to be sent to a node.
    pub fn queued_bytes(&self, node: Incarnation) -> usize {
        self.kernel
            .tables
            .with_link(node, |link| link.outbox.queued_bytes())
            .unwrap_or(0)
    }

    /// Connects to a node by name, if it is not connected yet. Bounded by 10 s.
    pub async fn connect(&self, name: &NodeName) -> Result<Incarnation, ConnectError> {
        match self.incarnation_of(name) {
            Some(incarnation) => Ok(incarnation),
            None => {
                self.dial(
                    DialTarget::Node {
                        name: name.clone(),
                        address: None,
                    },
                    false,
                )
                .await
            }
        }
    }

    /// Connects to whoever listens at `host:port`, without a port mapper. With `keep`, goes on
    /// trying, quietly, until somebody answers, if the first try fails.
    pub async fn connect_address(
        &self,
        address: &str,
        keep: bool,
    ) -> Result<Incarnation, ConnectError> {
        self.dial(DialTarget::Address(address.into()), keep).await
    }

    /// Connects to a node by name and stays connected: goes on trying until it is up, and
    /// again when it was lost, until [`Dist::disconnect`]. Answers for the first try.
    pub async fn keep_connected(&self, name: &NodeName) -> Result<Incarnation, ConnectError> {
        self.dial(
            DialTarget::Node {
                name: name.clone(),
                address: None,
            },
            true,
        )
        .await
    }

    /// Starts to connect and does not wait; `node_up` tells of success.
    pub fn connect_in_background(&self, name: &NodeName) {
        if self.incarnation_of(name).is_none() {
            let (asker, _) = oneshot::channel();
            self.kernel.connect(
                DialTarget::Node {
                    name: name.clone(),
                    address: None,
                },
                false,
                asker,
            );
        }
    }

    async fn dial(&self, target: DialTarget, keep: bool) -> Result<Incarnation, ConnectError> {
        let shown = match &target {
            DialTarget::Node { name, .. } => name.to_string(),
            DialTarget::Address(address) => address.clone(),
        };
        let failed = |reason: String| ConnectError {
            target: shown.clone(),
            reason,
        };
        let (asker, answer) = oneshot::channel();
        self.kernel.connect(target, keep, asker);
        let answer = answer
            .await
            .map_err(|_| failed("this node is stopping".into()))?;
        let name = answer.map_err(&failed)?;
        self.incarnation_of(&name)
            .ok_or_else(|| failed("the connection went down at once".into()))
    }

    /// Cuts the connection to a node until somebody asks for one; whether there was one.
    pub fn disconnect(&self, name: &NodeName) -> bool {
        let connected = *name != self.kernel.config.name && self.incarnation_of(name).is_some();
        self.kernel.disconnect(name.clone());
        connected
    }

    /// Uses this cookie from the next handshake on, with one peer, or with all that have none of
    /// their own. The other side needs the same. A peer's name is proven with it: who has only
    /// the cookie for one name can be nobody else.
    pub fn set_cookie(
        &self,
        peer: Option<&NodeName>,
        cookie: Cookie,
    ) -> Result<(), TooManyCookies> {
        // As in Erlang, one for the node itself is for all.
        let peer = peer.filter(|peer| **peer != self.kernel.config.name);
        self.kernel.cookies.set(peer, cookie)
    }

    /// What may be shown of the cookies, the one for all first.
    pub fn cookies(&self) -> Vec<CookieRow> {
        self.kernel.cookies.rows()
    }

    /// The connected nodes, sorted by name, without this one.
    pub fn nodes(&self, which: NodeSet) -> Vec<(NodeName, Incarnation, NodeKind)> {
        let links = self.kernel.tables.links();
        let wanted = |kind| match which {
            NodeSet::Visible => kind == NodeKind::Visible,
            NodeSet::Hidden => kind == NodeKind::Hidden,
            NodeSet::All => true,
        };
        let peers = links
            .iter()
            .map(|link| &link.peer)
            .filter(|peer| wanted(peer.kind));
        let mut nodes: Vec<_> = peers
            .map(|peer| (peer.name.clone(), peer.incarnation, peer.kind))
            .collect();
        nodes.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        nodes
    }

    /// The name of a run of a node, this one included, also after it went down (a few thousand
    /// are remembered).
    pub fn name_of(&self, node: Incarnation) -> Option<NodeName> {
        self.kernel.node_of(node)
    }

    /// The run of a node that is connected, or of this one.
    pub fn incarnation_of(&self, name: &NodeName) -> Option<Incarnation> {
        if *name == self.kernel.config.name {
            return Some(self.kernel.config.incarnation);
        }
        self.kernel.tables.incarnation_of(name)
    }

    /// The number of a run in printed pids: 0 for this one, then in the order they were met;
    /// none for a run never met.
    pub fn number_of(&self, node: Incarnation) -> Option<u32> {
        self.kernel.node_number(node)
    }

    /// Asks another host. Await it on a runtime with timers.
    pub async fn request(
        &self,
        node: Incarnation,
        request: NodeRequest,
        timeout: Duration,
    ) -> Result<NodeReply, RequestError> {
        let (sender, answer) = oneshot::channel();
        self.request_then(node, request, None, move |result| {
            let _ = sender.send(result);
        });
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(RequestError::NoConnection),
            Err(_) => Err(RequestError::Timeout),
        }
    }

    /// Asks another host from any thread: `on_reply` is called exactly once, at the reply, when
    /// the link ends, or a second at most after `timeout`, if there is one. It must be quick.
    pub fn request_then(
        &self,
        node: Incarnation,
        request: NodeRequest,
        timeout: Option<Duration>,
        on_reply: impl FnOnce(Result<NodeReply, RequestError>) + Send + 'static,
    ) {
        match self.kernel.tables.with_link(node, Arc::clone) {
            Some(link) => link.request(request, timeout, Box::new(on_reply)),
            None => on_reply(Err(RequestError::NoConnection)),
        }
    }

    /// Claims a global name or a lock for an actor of this node; [`Host::registered`] tells
    /// how it went. If the actor ends at that very moment, call [`Dist::actor_gone`] after this.
    pub fn claim(&self, actor: Pid, wish: Wish, tag: Ref) {
        self.kernel.claim(actor, wish, tag);
    }

    /// Lets a lock of an actor of this node go, or gives up waiting for it; whether it held it.
    pub fn unlock(&self, actor: Pid, resource: &str, requester: &Requester) -> bool {
        self.kernel.unlock(actor, resource, requester)
    }

    /// The answer to [`Host::resolve`]: who keeps the name, if anybody, or that nobody said so.
    pub fn verdict(&self, question: QuestionId, keep: Result<Option<Pid>, NoVerdict>) {
        self.kernel.verdict(question, keep);
    }

    /// Gives up a global name, at once if an actor of this node holds it, soon otherwise;
    /// whether any actor does.
    pub fn unregister(&self, name: &str) -> bool {
        self.kernel.unregister(name)
    }

    /// Who holds a global name, as known here. Never waits.
    pub fn whereis(&self, name: &str) -> Option<Pid> {
        self.kernel.tables.whereis(name)
    }

    /// All global names, sorted, with their holders.
    pub fn registered(&self) -> Vec<(String, Pid)> {
        self.kernel.tables.names()
    }

    /// Adds actors of this node to a group: at once here, soon everywhere. As with
    /// [`Dist::claim`], tell [`Dist::actor_gone`] of those that have just ended.
    ///
    /// # Errors
    /// A bad name, an actor of another node, too many memberships; then none joined.
    pub fn join(&self, scope: &str, group: &str, actors: &[Pid]) -> Result<(), GroupError> {
        self.kernel.join(GroupId::new(scope, group)?, actors)
    }

    /// Undoes one join for each time an actor is named; whether there was any.
    pub fn leave(&self, scope: &str, group: &str, actors: &[Pid]) -> bool {
        GroupId::new(scope, group).is_ok_and(|group| self.kernel.leave(&group, actors))
    }

    /// The members of a group, once for each join. Never waits.
    pub fn members(&self, scope: &str, group: &str) -> Vec<Pid> {
        self.kernel.tables.members(scope, group, |_| true)
    }

    /// The members of a group on this node.
    pub fn local_members(&self, scope: &str, group: &str) -> Vec<Pid> {
        let here = self.kernel.config.incarnation;
        let tables = &self.kernel.tables;
        tables.members(scope, group, |pid| pid.node == here)
    }

    /// The groups of a scope that have members, sorted.
    pub fn groups(&self, scope: &str) -> Vec<String> {
        self.kernel.tables.groups(scope, |_| true)
    }

    /// The groups of a scope that have members on this node, sorted.
    pub fn local_groups(&self, scope: &str) -> Vec<String> {
        let here = self.kernel.config.incarnation;
        self.kernel.tables.groups(scope, |pid| pid.node == here)
    }

    /// How many groups are known here.
    pub fn group_counts(&self) -> GroupCounts {
        self.kernel.tables.group_counts()
    }

    /// From this moment on an actor of this node hears of each change of a group, or of each
    /// group of a scope, by [`Host::group_told`]; returns the members at this moment, by group.
    /// As with [`Dist::join`], tell [`Dist::actor_gone`] if it has just ended.
    ///
    /// # Errors
    /// A bad name, or too many monitors.
    pub fn monitor_groups(
        &self,
        monitor: Ref,
        watcher: Pid,
        scope: &str,
        group: Option<&str>,
    ) -> Result<ByGroup, GroupError> {
        self.kernel.monitor_groups(monitor, watcher, scope, group)
    }

    /// Ends a monitor of that actor; whether there was one. What was told before may still
    /// arrive.
    pub fn demonitor_groups(&self, monitor: Ref, watcher: Pid) -> bool {
        self.kernel.demonitor_groups(monitor, watcher)
    }

    /// An actor of this node ended: its global names and memberships go. Cheap for one that
    /// never had any.
    pub fn actor_gone(&self, actor: Pid) {
        self.kernel.actor_gone(actor);
    }
}

async fn listen(kernel: Arc<Kernel>, listener: TcpListener) {
    let doors = Doors::default();
    loop {
        match listener.accept().await {
            Ok((stream, from)) => match doors.enter(from.ip()) {
                Ok(guest) => kernel.accept(stream, from, guest),
                Err(why) => tracing::warn!(%from, "refused a connection: {why}"),
            },
            Err(error) => {
                tracing::warn!(%error, "could not take a connection");
                tokio::time::sleep(Duration::from_millis(ACCEPT_REST_MS)).await;
            }
        }
    }
}

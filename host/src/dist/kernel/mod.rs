//! The kernel: owns the machines that decide about the cluster, and carries out what they
//! want.
//!
//! One lock guards the machines, so that any thread can join a group, give up a name or
//! report a link and see the effect at once; it is held for one step, never while anything
//! waits, and no callback of the host runs under it. What must go in order and may call back
//! (`node_up`, `node_down`, answers) is queued as events. Whoever made a step carries them out,
//! as a change of threads would cost more; but nodes' coming and going, which waits for what
//! the stepping thread may hold, is for the kernel's one task, which also keeps the machines'
//! deadlines.
//!
//! Does not know sockets: links do.

mod events;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use wasm_node_protocol::cluster::{Cluster, ClusterInput, ClusterOutput};
use wasm_node_protocol::codec::WireMessage;
use wasm_node_protocol::global::{NoVerdict, QuestionId, RequestId, Requester, Wish};
use wasm_node_protocol::groups::{ByGroup, GroupError, GroupId};
use wasm_node_protocol::handshake::{Hello, Peer, Refusal};
use wasm_node_protocol::membership::{DialTarget, LinkId, MembershipInput};
use wasm_node_protocol::session::MAX_TICK_TIME_MS;
use wasm_node_protocol::{Incarnation, Millis, NodeName, Pid, Ref};

use super::config::DistConfig;
use super::cookies::Cookies;
use super::cork;
use super::doors::Guest;
use super::host::{Dispute, Host};
use super::link::{self, Link};
use super::lookout::Lookout;
use super::tables::Tables;
use events::{Event, Which};

/// How a connect request is answered.
pub(super) type OnConnected = oneshot::Sender<Result<NodeName, String>>;

pub(super) struct Kernel {
    pub config: DistConfig,
    pub host: Arc<dyn Host>,
    pub cookies: Cookies,
    pub tables: Tables,
    pub lookout: Lookout,
    runtime: Handle,
    started: Instant,
    state: Mutex<State>,
    /// Held by whoever carries out events: one at a time, in order.
    turn: Mutex<()>,
    /// The kernel's task has events, or an earlier deadline.
    wake: Notify,
    /// A link ended; for whoever stops the node.
    ended: Notify,
}

struct State {
    cluster: Cluster,
    links: HashMap<LinkId, Entry>,
    requests: HashMap<RequestId, Asker>,
    next_request: u64,
    events: VecDeque<Event>,
    /// When the kernel's task will look again by itself.
    armed: Option<Millis>,
}

/// A link's task, as the kernel reaches it.
struct Entry {
    close: Option<oneshot::Sender<String>>,
    task: AbortHandle,
    up: Option<Arc<Link>>,
    /// Lets the reader start.
    known: Option<oneshot::Sender<()>>,
    /// Held while a stranger shakes hands.
    _handshake: Option<Guest>,
}

enum Asker {
    Connect(OnConnected),
    Claim { tag: Ref, owner: Pid },
}

impl Kernel {
    pub fn new(
        config: DistConfig,
        host: Arc<dyn Host>,
        address: Option<String>,
        lookout: Lookout,
    ) -> Arc<Self> {
        let tick_time_ms = tick_time_ms(&config);
        let hello = Hello::new(
            config.name.clone(),
            config.incarnation,
            config.kind,
            tick_time_ms,
        );
        let state = State {
            cluster: Cluster::new(Hello { address, ..hello }, rand::random())
                .with_policy(config.partition_policy),
            links: HashMap::new(),
            requests: HashMap::new(),
            next_request: 0,
            events: VecDeque::new(),
            armed: None,
        };
        Arc::new(Self {
            cookies: Cookies::new(config.cookie.clone()),
            config,
            host,
            tables: Tables::default(),
            lookout,
            runtime: Handle::current(),
            started: Instant::now(),
            state: Mutex::new(state),
            turn: Mutex::default(),
            wake: Notify::new(),
            ended: Notify::new(),
        })
    }

    /// The kernel's task: runs until dropped.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.handle_timer();
            let deadline = self.arm();
            self.carry_out_events(Which::All);
            let deadline = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(self.instant(deadline)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.wake.notified() => {}
                () = deadline => {}
            }
        }
    }

    /// When this kernel's clock began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The time, for the machines.
    pub fn now(&self) -> Millis {
        Millis(self.started.elapsed().as_millis() as u64)
    }

    pub fn instant(&self, at: Millis) -> tokio::time::Instant {
        (self.started + Duration::from_millis(at.0)).into()
    }

    pub fn tick_time_ms(&self) -> u32 {
        tick_time_ms(&self.config)
    }

    // What links report.

    /// A stranger dialled this node.
    pub fn accept(self: &Arc<Self>, stream: TcpStream, from: SocketAddr, handshake: Guest) {
        let mut state = self.state.lock();
        let id = state.cluster.accept_link();
        let (close, closed) = oneshot::channel();
        let task = self
            .runtime
            .spawn(link::accept(self.clone(), id, stream, from, closed));
        let entry = Entry {
            close: Some(close),
            task: task.abort_handle(),
            up: None,
            known: None,
            _handshake: Some(handshake),
        };
        state.links.insert(id, entry);
    }

    /// The stranger is one no longer.
    pub fn handshake_done(&self, link: LinkId) {
        if let Some(entry) = self.state.lock().links.get_mut(&link) {
            entry._handshake = None;
        }
    }

    pub fn hello(&self) -> Hello {
        self.state.lock().cluster.hello().clone()
    }

    pub fn hello_sent(&self, link: LinkId) {
        self.state.lock().cluster.hello_sent(link);
    }

    pub fn judge(&self, link: LinkId, peer: &Peer) -> Result<(), Refusal> {
        self.state.lock().cluster.judge(link, peer)
    }

    /// The link is up; what is returned resolves once the host knows, or is dropped if the
    /// link is not to be.
    pub fn link_up(self: &Arc<Self>, link: &Arc<Link>) -> oneshot::Receiver<()> {
        let (known, is_known) = oneshot::channel();
        self.step(|state, now| {
            if let Some(entry) = state.links.get_mut(&link.id) {
                entry.up = Some(link.clone());
                entry.known = Some(known);
            }
            let (link, peer) = (link.id, link.peer.clone());
            state
                .cluster
                .handle(now, MembershipInput::LinkUp { link, peer });
        });
        is_known
    }

    /// A link ended, or never came to be.
    pub fn link_down(self: &Arc<Self>, link: LinkId, reason: String, refusal: Option<Refusal>) {
        self.step(|state, now| {
            state.cluster.handle(
                now,
                MembershipInput::LinkDown {
                    link,
                    reason,
                    refusal,
                },
            );
        });
        // Only now, as the machines may have just said what was to be done with it.
        self.state.lock().links.remove(&link);
        self.ended.notify_waiters();
    }

    /// A message for the machines came over a link.
    pub fn message(self: &Arc<Self>, link: LinkId, message: WireMessage) {
        self.step(|state, now| {
            state
                .cluster
                .handle(now, ClusterInput::Message { link, message })
        });
    }

    // What the node asks for.

    pub fn connect(self: &Arc<Self>, target: DialTarget, keep: bool, asker: OnConnected) {
        self.step(|state, now| {
            let request = state.ask(Asker::Connect(asker));
            state.cluster.handle(
                now,
                MembershipInput::Connect {
                    request,
                    target,
                    keep,
                },
            );
        });
    }

    pub fn disconnect(self: &Arc<Self>, node: NodeName) {
        self.step(|state, now| {
            state
                .cluster
                .handle(now, MembershipInput::Disconnect { node })
        });
    }

    pub fn claim(self: &Arc<Self>, owner: Pid, wish: Wish, tag: Ref) {
        self.step(|state, now| {
            // Under the lock: whoever tells that it has ended comes before this, and the caller
            // looks again, or after the claim.
            self.tables.engage(owner);
            let (request, pid) = (state.ask(Asker::Claim { tag, owner }), owner);
            let claim = ClusterInput::Claim { request, pid, wish };
            state.cluster.handle(now, claim);
        });
    }

    pub fn unlock(self: &Arc<Self>, owner: Pid, resource: &str, requester: &Requester) -> bool {
        self.step(|state, now| state.cluster.unlock(now, resource, requester, owner))
    }

    pub fn verdict(self: &Arc<Self>, question: QuestionId, keep: Result<Option<Pid>, NoVerdict>) {
        self.step(|state, now| {
            let verdict = ClusterInput::Verdict { question, keep };
            state.cluster.handle(now, verdict);
        });
    }

    pub fn unregister(self: &Arc<Self>, name: &str) -> bool {
        self.step(|state, now| state.cluster.unregister(now, name))
    }

    pub fn join(self: &Arc<Self>, group: GroupId, actors: &[Pid]) -> Result<(), GroupError> {
        self.step(|state, now| {
            // As in `claim`.
            actors.iter().for_each(|actor| self.tables.engage(*actor));
            state.cluster.join(now, group, actors)
        })
    }

    pub fn leave(self: &Arc<Self>, group: &GroupId, actors: &[Pid]) -> bool {
        self.step(|state, now| state.cluster.leave(now, group, actors))
    }

    pub fn monitor_groups(
        self: &Arc<Self>,
        monitor: Ref,
        watcher: Pid,
        scope: &str,
        group: Option<&str>,
    ) -> Result<ByGroup, GroupError> {
        let mut state = self.state.lock();
        // As in `claim`.
        self.tables.engage(watcher);
        state.cluster.monitor_groups(monitor, watcher, scope, group)
    }

    pub fn demonitor_groups(&self, monitor: Ref, watcher: Pid) -> bool {
        let mut state = self.state.lock();
        state.cluster.demonitor_groups(monitor, watcher)
    }

    pub fn actor_gone(self: &Arc<Self>, pid: Pid) {
        if self.tables.disengage(pid) {
            self.step(|state, now| state.cluster.handle(now, ClusterInput::ActorDown { pid }));
        }
    }

    pub fn node_of(&self, incarnation: Incarnation) -> Option<NodeName> {
        self.state.lock().cluster.node_of(incarnation).cloned()
    }

    pub fn node_number(&self, incarnation: Incarnation) -> Option<u32> {
        self.state.lock().cluster.node_number(incarnation)
    }

    /// Tells all peers and closes all links; done when they are closed, or cut after `patience`.
    pub async fn leave_cluster(self: &Arc<Self>, patience: Duration) {
        self.step(|state, now| state.cluster.handle(now, MembershipInput::Leave));
        let all_ended = async {
            loop {
                let ended = self.ended.notified();
                tokio::pin!(ended);
                // Before the look, or an end in between would be missed.
                ended.as_mut().enable();
                if self.state.lock().links.is_empty() {
                    return;
                }
                ended.await;
            }
        };
        if tokio::time::timeout(patience, all_ended).await.is_err() {
            let tasks: Vec<_> = self
                .state
                .lock()
                .links
                .values()
                .map(|entry| entry.task.clone())
                .collect();
            tasks.iter().for_each(AbortHandle::abort);
        }
        self.carry_out_events(Which::All);
    }

    /// Runs one step of the machines and does what they want, in order.
    fn step<T>(self: &Arc<Self>, step: impl FnOnce(&mut State, Millis) -> T) -> T {
        // Written when the lock is free again.
        let _held = cork::hold();
        let mut state = self.state.lock();
        let result = step(&mut state, self.now());
        while let Some(output) = state.cluster.poll_output() {
            self.output(&mut state, output);
        }
        let deadline = state.cluster.next_deadline();
        let sooner = match (deadline, state.armed) {
            (Some(deadline), Some(armed)) => deadline < armed,
            (deadline, _) => deadline.is_some(),
        };
        let events = !state.events.is_empty();
        drop(state);
        if sooner {
            self.wake.notify_one();
        }
        if events {
            self.carry_out_events(Which::Quick);
        }
        result
    }

    fn output(self: &Arc<Self>, state: &mut State, output: ClusterOutput) {
        match output {
            ClusterOutput::Dial {
                link,
                target,
                asked,
            } => {
                let (close, closed) = oneshot::channel();
                let task =
                    self.runtime
                        .spawn(link::dial(self.clone(), link, target, asked, closed));
                let entry = Entry {
                    close: Some(close),
                    task: task.abort_handle(),
                    up: None,
                    known: None,
                    _handshake: None,
                };
                state.links.insert(link, entry);
            }
            ClusterOutput::Send { link, message } => {
                if let Some(link) = state.links.get(&link).and_then(|entry| entry.up.as_ref()) {
                    link.push(&message);
                }
            }
            ClusterOutput::Close { link, reason } => {
                if let Some(entry) = state.links.get_mut(&link) {
                    entry.known = None;
                    if let Some(close) = entry.close.take() {
                        let _ = close.send(reason);
                    }
                }
            }
            ClusterOutput::NodeUp { link, peer: _ } => {
                if let Some(entry) = state.links.get_mut(&link)
                    && let Some(link) = entry.up.clone()
                {
                    let known = entry.known.take();
                    state.events.push_back(Event::NodeUp { link, known });
                }
            }
            ClusterOutput::NodeDown {
                link,
                peer: _,
                reason,
            } => {
                if let Some(link) = state.links.get(&link).and_then(|entry| entry.up.clone()) {
                    self.tables.remove_link(&link);
                    state.events.push_back(Event::NodeDown { link, reason });
                }
            }
            ClusterOutput::Connected { request, result } => {
                if let Some(Asker::Connect(asker)) = state.requests.remove(&request) {
                    state.events.push_back(Event::Connected { asker, result });
                }
            }
            ClusterOutput::Registered { request, result } => {
                if let Some(Asker::Claim { tag, owner }) = state.requests.remove(&request) {
                    state
                        .events
                        .push_back(Event::Registered { tag, owner, result });
                }
            }
            ClusterOutput::NameConflict(conflict) => {
                state.events.push_back(Event::NameConflict(conflict));
            }
            ClusterOutput::Resolve {
                question,
                resolver,
                name,
                own,
                other,
                until: _,
            } => state.events.push_back(Event::Resolve(Dispute {
                question,
                resolver,
                name,
                own,
                other,
            })),
            ClusterOutput::NameInstalled { name, pid } => self.tables.install_name(name, pid),
            ClusterOutput::NameRemoved { name } => self.tables.remove_name(&name),
            ClusterOutput::GroupChanged {
                group,
                change,
                pids,
            } => self.tables.change_group(&group, change, &pids),
            ClusterOutput::GroupTold {
                watcher,
                monitor,
                event,
            } => state.events.push_back(Event::GroupTold {
                watcher,
                monitor,
                event,
            }),
        }
    }

    fn handle_timer(self: &Arc<Self>) {
        let deadline = self.state.lock().cluster.next_deadline();
        if deadline.is_some_and(|at| at <= self.now()) {
            self.step(|state, now| state.cluster.handle(now, ClusterInput::Timer));
        }
    }

    fn arm(&self) -> Option<Millis> {
        let mut state = self.state.lock();
        state.armed = state.cluster.next_deadline();
        state.armed
    }
}

impl State {
    fn ask(&mut self, asker: Asker) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.requests.insert(request, asker);
        request
    }
}

fn tick_time_ms(config: &DistConfig) -> u32 {
    let ms = config.tick_time.as_millis().min(MAX_TICK_TIME_MS.into());
    ms as u32
}

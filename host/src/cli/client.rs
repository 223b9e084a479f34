//! A command's own short life in the cluster: it joins the node it asks as a hidden node that
//! does not listen, asks, and leaves.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use wasm_node_protocol::codec::{NodeReply, NodeRequest};
use wasm_node_protocol::global::Conflict;
use wasm_node_protocol::groups::GroupEvent;
use wasm_node_protocol::{
    Incarnation, NodeEvent, NodeKind, NodeName, Pid, Ref, RegisterError, Signal, Target,
};

use super::error::CliError;
use super::options::{Trust, epmd_mode, host_port, node_name};
use super::shell::Session;
use crate::control::{ControlReply, ControlRequest};
use crate::dist::{Answer, Delivered, Dispute, Dist, DistConfig, Host, Peer};

/// How long a node may take to answer what it knows by itself.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The node that a command asks, and how to join it.
#[derive(clap::Args, Debug)]
pub(super) struct Node {
    /// The node to ask, as in node1@127.0.0.1
    #[arg(value_name = "NODE", value_parser = node_name)]
    pub(super) node: NodeName,
    #[command(flatten)]
    pub(super) join: Join,
}

/// A question to a node: which, how to join it, and how to print its answer.
#[derive(clap::Args, Debug)]
pub(super) struct Question {
    #[command(flatten)]
    pub(super) node: Node,
    /// Print one line of JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Question {
    /// Whom it is put to.
    pub(super) fn name(&self) -> &NodeName {
        &self.node.node
    }
}

/// How to join a node.
#[derive(clap::Args, Debug)]
pub(super) struct Join {
    /// Dial the node here, without asking a port mapper
    #[arg(long, value_name = "HOST:PORT", value_parser = host_port)]
    address: Option<String>,
    #[command(flatten)]
    pub(super) trust: Trust,
}

impl Join {
    /// Of a client of this node, in this run of its own.
    fn config(&self, of: &NodeName, own: Incarnation) -> Result<DistConfig, CliError> {
        let mut config = DistConfig::new(own_name(of)?, own, self.trust.cookie()?);
        config.security = self.trust.security();
        config.epmd = epmd_mode(self.address.is_some())?;
        Ok(config)
    }
}

/// A connection to one node.
pub(super) struct Client {
    dist: Dist,
    node: Incarnation,
    pub(super) name: NodeName,
    downs: watch::Receiver<Vec<Incarnation>>,
}

impl Client {
    /// Joins the node, as the options say.
    pub(super) async fn join(name: &NodeName, join: &Join) -> Result<Self, CliError> {
        let config = join.config(name, incarnation())?;
        Self::connect(name, config, join.address.as_deref()).await
    }

    /// As `join`, in this run of the client's own node, which is the group leader of actors.
    pub(super) async fn join_as(
        name: &NodeName,
        join: &Join,
        own: Incarnation,
        leader: Arc<dyn Desk>,
    ) -> Result<Self, CliError> {
        let config = join.config(name, own)?;
        Self::dial(name, config, join.address.as_deref(), Some(leader)).await
    }

    /// Joins the node; with an address, dials that instead of asking the port mapper.
    pub(super) async fn connect(
        name: &NodeName,
        config: DistConfig,
        address: Option<&str>,
    ) -> Result<Self, CliError> {
        Self::dial(name, config, address, None).await
    }

    async fn dial(
        name: &NodeName,
        mut config: DistConfig,
        address: Option<&str>,
        leader: Option<Arc<dyn Desk>>,
    ) -> Result<Self, CliError> {
        config.kind = NodeKind::Hidden;
        config.listen = None;
        let (tell, downs) = watch::channel(Vec::new());
        let guest = Guest {
            downs: tell,
            leader,
        };
        let dist = Dist::start(config, Arc::new(guest)).await?;
        let node = match address {
            None => dist.connect(name).await?,
            Some(address) => {
                let node = dist.connect_address(address, false).await?;
                match dist.name_of(node) {
                    Some(found) if found != *name => {
                        dist.stop().await;
                        return Err(CliError::Usage(format!(
                            "at {address} is {found}, not {name}: name that node, or give another --address"
                        )));
                    }
                    _ => node,
                }
            }
        };
        Ok(Self {
            dist,
            node,
            name: name.clone(),
            downs,
        })
    }

    /// What a client of a node calls itself.
    pub(super) fn config(
        of: &NodeName,
        trust: &Trust,
        cookie: crate::dist::Cookie,
    ) -> Result<DistConfig, CliError> {
        let mut config = DistConfig::new(own_name(of)?, incarnation(), cookie);
        config.security = trust.security();
        Ok(config)
    }

    /// Whether this is the name that the client itself goes by.
    pub(super) fn is_me(&self, name: &NodeName) -> bool {
        self.dist.name() == name
    }

    /// Asks, and waits for the answer for as long as the node may take.
    pub(super) async fn ask(
        &self,
        request: &ControlRequest,
        timeout: Duration,
    ) -> Result<ControlReply, CliError> {
        let node = || self.name.clone();
        let bytes = request.encode().map_err(|error| CliError::Answer {
            node: node(),
            error,
        })?;
        let asked = self
            .dist
            .request(self.node, NodeRequest::Control(bytes), timeout)
            .await;
        let reply = asked.map_err(|error| CliError::Request {
            node: node(),
            error,
        })?;
        let NodeReply::Control(bytes) = reply else {
            return Err(CliError::Mismatch(node()));
        };
        match ControlReply::decode(&bytes) {
            Ok(ControlReply::Refused(reason)) => Err(CliError::Refused {
                node: node(),
                reason,
            }),
            Ok(reply) => Ok(reply),
            Err(error) => Err(CliError::Answer {
                node: node(),
                error,
            }),
        }
    }

    /// What a reply to another question makes of a command.
    pub(super) fn mismatch(&self) -> CliError {
        CliError::Mismatch(self.name.clone())
    }

    /// Turns to another node, which this one connects to if need be.
    pub(super) async fn turn_to(&mut self, name: &NodeName) -> Result<(), CliError> {
        self.node = self.dist.connect(name).await?;
        self.name = name.clone();
        Ok(())
    }

    /// Waits until the node is gone; false if it is still there after `timeout`.
    pub(super) async fn wait_down(&mut self, timeout: Duration) -> bool {
        let node = self.node;
        let down = self.downs.wait_for(|downs| downs.contains(&node));
        tokio::time::timeout(timeout, down).await.is_ok()
    }

    /// Waits until the node is gone.
    pub(super) async fn down(&mut self) {
        let node = self.node;
        let _ = self.downs.wait_for(|downs| downs.contains(&node)).await;
    }

    /// Leaves.
    pub(super) async fn leave(self) {
        self.dist.stop().await;
    }
}

/// By which connection a command reaches its node.
#[derive(Clone, Copy)]
pub(super) enum Via<'a> {
    /// One of its own, with this filter of its log.
    Own(Option<&'a str>),
    /// A shell's.
    Shell(&'a Session),
}

/// Runs one command against one node: joins, asks as `body` says, leaves. In a shell, its
/// connection is used.
pub(super) fn with_node<T, F>(
    node: &Node,
    via: Via<'_>,
    body: impl FnOnce(Client) -> F,
) -> Result<T, CliError>
where
    F: Future<Output = (Client, Result<T, CliError>)>,
{
    let log = match via {
        Via::Own(log) => log,
        Via::Shell(session) => return session.lend(body),
    };
    super::log::start("wasm-node", log, "off")?;
    block_on(async {
        let client = Client::join(&node.node, &node.join).await?;
        let (client, result) = body(client).await;
        client.leave().await;
        result
    })
}

/// Runs one command that asks one node one thing. `pick` takes the answer out of its reply, if
/// that is one to this request.
pub(super) fn ask_node<T>(
    node: &Node,
    via: Via<'_>,
    request: &ControlRequest,
    timeout: Duration,
    pick: impl FnOnce(ControlReply) -> Option<T>,
) -> Result<T, CliError> {
    with_node(node, via, async |client| {
        let reply = client.ask(request, timeout).await;
        let answer = reply.and_then(|reply| pick(reply).ok_or_else(|| client.mismatch()));
        (client, answer)
    })
}

/// Runs to its end on this thread.
pub(super) fn block_on<T>(
    future: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::System("start the asynchronous runtime", error))?
        .block_on(future)
}

/// A name that no other client has, long if the target's is: the two do not mix.
fn own_name(target: &NodeName) -> Result<NodeName, CliError> {
    let host = if target.is_long() {
        "127.0.0.1"
    } else {
        "localhost"
    };
    let name = format!(
        "cli-{}-{:08x}@{host}",
        std::process::id(),
        rand::random::<u32>()
    );
    name.parse()
        .map_err(|error| CliError::Usage(format!("{error}")))
}

/// A fresh one: random, and never zero.
pub(super) fn incarnation() -> Incarnation {
    Incarnation::from_random(rand::random())
}

/// What takes the signals for a program that is the group leader of actors.
pub(super) trait Desk: Send + Sync {
    /// It can answer from now on.
    fn started(&self, dist: &Dist);
    /// A signal.
    fn take(&self, signal: Signal) -> Delivered;
}

/// A host without actors; it may be the group leader of others'.
struct Guest {
    downs: watch::Sender<Vec<Incarnation>>,
    leader: Option<Arc<dyn Desk>>,
}

impl Host for Guest {
    fn started(&self, dist: &Dist) {
        if let Some(leader) = &self.leader {
            leader.started(dist);
        }
    }

    fn deliver(&self, _: Incarnation, _: Target, signal: Signal) -> Delivered {
        match &self.leader {
            Some(leader) => leader.take(signal),
            None => Delivered::Ok,
        }
    }

    fn request(&self, _: &Peer, _: NodeRequest, _: Answer) {}

    fn node_up(&self, _: Incarnation, _: NodeEvent) {}

    fn node_down(&self, node: Incarnation, _: NodeEvent) {
        self.downs.send_modify(|downs| downs.push(node));
    }

    fn registered(&self, _: Ref, _: Pid, _: Result<(), RegisterError>) {}

    fn name_conflict(&self, _: Conflict) {}

    fn resolve(&self, _: Dispute) {}

    fn group_told(&self, _: Pid, _: Ref, _: GroupEvent) {}
}

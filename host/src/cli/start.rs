//! `wasm-node start`: one node, in the foreground.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};
use wasm_node_protocol::{NodeKind, NodeName};

use super::error::CliError;
use super::options::{Partition, Trust, contact, epmd_mode};
use super::{client, log, output};
use crate::app::{Manifest, Policy};
use crate::dist::{DistConfig, Listen};
use crate::node::{Contact, Node, NodeConfig};

/// Where data goes unless told otherwise: a folder for each node or app in here.
const DATA_ROOT: &str = ".wasm-node";
/// How long a node may take to stop; after that the process ends all the same.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// Threads for sockets, ticks and timers; actors have threads of their own.
const IO_THREADS: usize = 2;

/// Start a node in the foreground
#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("its name").required(true).args(["name", "sname"]))]
pub(super) struct Args {
    /// Its short name, as in node1 or node1@localhost
    #[arg(long, value_name = "NAME")]
    sname: Option<String>,
    /// Its long name, as in node1@127.0.0.1
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    trust: Trust,
    #[command(flatten)]
    partition: Partition,
    /// Leave it out of the other nodes' lists
    #[arg(long)]
    hidden: bool,
    /// Connect to this node, and so to all it knows; may be repeated
    #[arg(long, value_name = "NODE|HOST:PORT", value_parser = contact)]
    connect: Vec<Contact>,
    /// The lowest port to listen on for other nodes [default: any]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    listen_min: Option<u16>,
    /// The highest [default: that of --listen-min]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    listen_max: Option<u16>,
    /// The address to listen on for other nodes
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    listen_host: IpAddr,
    /// A node that is silent for so many milliseconds is down; the same on all nodes
    #[arg(long, value_name = "MS", default_value_t = 4_000,
          value_parser = clap::value_parser!(u32).range(200..=3_600_000))]
    tick_time: u32,
    /// Use no port mapper: other nodes need this one's address
    #[arg(long)]
    no_epmd: bool,
    /// Where it keeps code and stores [default: .wasm-node/NAME]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A folder of modules (*.wasm), watched for changes; may be repeated
    #[arg(long, value_name = "DIR")]
    modules: Vec<PathBuf>,
    /// The manifest of the app to run; its modules are built first, unless --modules has them
    #[arg(long, value_name = "FILE")]
    app: Option<PathBuf>,
    /// What modules may do here at most: a file of tables like [modules.NAME] with capabilities
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Where the app's HTTP listener listens, in place of what the manifest says; repeat it
    /// for further listeners
    #[arg(long, value_name = "IP:PORT")]
    http: Vec<SocketAddr>,
    /// How many threads run actors [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Print one line of JSON on standard output when the node is ready
    #[arg(long)]
    json: bool,
}

/// What a node prints when it is ready.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) name: NodeName,
    pub(super) os_pid: u32,
    /// The first of its HTTP listeners, as a URL.
    pub(super) http: Option<String>,
    /// Where other nodes reach it, `host:port`.
    pub(super) listen: Option<String>,
}

pub(super) fn run(args: Args, log: Option<&str>) -> Result<(), CliError> {
    let name = args.node_name()?;
    log::start(name.as_str(), log, "info")?;
    let json = args.json;
    let config = args.config(&name)?;
    block_on_node(serve(config, name, json))
}

/// Runs to its end on a runtime fit for a node.
pub(super) fn block_on_node<T>(
    future: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .thread_name("io")
        .enable_all()
        .build()
        .map_err(|error| CliError::System("start the asynchronous runtime", error))?;
    let result = runtime.block_on(future);
    // Whatever still blocks (a compile, a fetch) is not worth waiting for.
    runtime.shutdown_background();
    result
}

async fn serve(config: NodeConfig, name: NodeName, json: bool) -> Result<(), CliError> {
    let mut signals = Signals::new()?;
    let starting = Node::start(config);
    let node = tokio::select! {
        node = starting => node.map_err(|error| CliError::Node { name: name.clone(), error })?,
        // Nothing runs yet that would have to be stopped in order.
        () = signals.next() => return Ok(()),
    };
    let ready = Ready {
        name: name.clone(),
        os_pid: std::process::id(),
        http: node.http_addrs().first().map(|at| format!("http://{at}")),
        listen: node.dist().address().map(str::to_string),
    };
    if json {
        output::json(&serde_json::json!(ready));
    } else {
        eprintln!("{}", describe(&ready));
    }
    tokio::select! {
        () = node.wait_stopped() => {}
        () = signals.next() => {}
    }
    tokio::select! {
        () = node.stop() => Ok(()),
        () = signals.next() => Err(CliError::Cluster(format!("{name} was stopped at once: a second signal came"))),
        () = tokio::time::sleep(STOP_TIMEOUT) => {
            let seconds = STOP_TIMEOUT.as_secs();
            Err(CliError::Cluster(format!("{name} did not stop in order within {seconds} s and was ended")))
        }
    }
}

fn describe(ready: &Ready) -> String {
    let listen = ready.listen.as_deref().unwrap_or("nowhere");
    let http = ready
        .http
        .as_ref()
        .map(|url| format!(", serves {url}"))
        .unwrap_or_default();
    format!(
        "{} is up: OS process {}, listens on {listen}{http}",
        ready.name, ready.os_pid
    )
}

impl Args {
    fn node_name(&self) -> Result<NodeName, CliError> {
        let (text, long) = match (&self.name, &self.sname) {
            (Some(name), _) => (name, true),
            (None, Some(name)) => (name, false),
            (None, None) => return Err(CliError::Usage("give --name or --sname".into())),
        };
        full_name(text, long).map_err(CliError::Usage)
    }

    fn config(self, name: &NodeName) -> Result<NodeConfig, CliError> {
        let other_kind = |contact: &&Contact| match contact {
            Contact::Name(other) => other.is_long() != name.is_long(),
            Contact::Address(_) => false,
        };
        if let Some(Contact::Name(other)) = self.connect.iter().find(other_kind) {
            return Err(CliError::Usage(format!(
                "cannot connect {name} to {other}: long (--name) and short (--sname) names do not mix; start both with names of one kind"
            )));
        }
        let ports = match (self.listen_min, self.listen_max) {
            (None, None) => None,
            (Some(min), max) => Some(min..=max.unwrap_or(min)),
            (None, Some(_)) => {
                return Err(CliError::Usage(
                    "--listen-max needs --listen-min: give both".into(),
                ));
            }
        };
        let data_dir = match self.data_dir {
            Some(folder) => folder,
            None => default_data(name.as_str())?,
        };
        let mut app = self.app.as_deref().map(Manifest::load).transpose()?;
        let policy = self.policy.as_deref().map(Policy::load).transpose()?;
        let mut module_dirs = self.modules;
        if let Some(manifest) = &mut app {
            move_listeners(manifest, &self.http)?;
            if module_dirs.is_empty() {
                let folder = data_dir.join("modules");
                super::up::modules::prepare(manifest, &folder)?;
                module_dirs.push(folder);
            }
        } else if !self.http.is_empty() {
            return Err(CliError::Usage(
                "--http needs --app: an app's manifest names the module that answers".into(),
            ));
        }
        let mut dist = DistConfig::new(name.clone(), client::incarnation(), self.trust.cookie()?);
        dist.kind = if self.hidden {
            NodeKind::Hidden
        } else {
            NodeKind::Visible
        };
        dist.security = self.trust.security();
        dist.listen = Some(Listen {
            host: self.listen_host,
            ports,
        });
        dist.tick_time = Duration::from_millis(self.tick_time.into());
        dist.epmd = epmd_mode(self.no_epmd)?;
        dist.partition_policy = self.partition.policy()?;
        Ok(NodeConfig {
            dist,
            data_dir,
            module_dirs,
            app,
            policy: policy.unwrap_or_default(),
            http: None,
            connect: self.connect,
            workers: self.workers.map(usize::from),
        })
    }
}

/// The folder for a node's or an app's data in the current one, in a place that git ignores.
pub(super) fn default_data(name: &str) -> Result<PathBuf, CliError> {
    let root = Path::new(DATA_ROOT);
    let failed = |path: PathBuf| {
        move |source| CliError::Io {
            doing: "create",
            path,
            source,
        }
    };
    std::fs::create_dir_all(root).map_err(failed(root.into()))?;
    let ignore = root.join(".gitignore");
    if !ignore.exists() {
        std::fs::write(&ignore, "*\n").map_err(failed(ignore))?;
    }
    Ok(root.join(name))
}

/// A name with a host: this machine's loopback unless one is given.
fn full_name(text: &str, long: bool) -> Result<NodeName, String> {
    let default_host = if long { "127.0.0.1" } else { "localhost" };
    let whole = if text.contains('@') {
        text.into()
    } else {
        format!("{text}@{default_host}")
    };
    let name: NodeName = whole.parse().map_err(|error| format!("{error}"))?;
    match (long, name.is_long()) {
        (true, false) => Err(format!(
            "{name} is a short name, since its host has no dot: use --sname {name}, or a long name such as {}@127.0.0.1",
            name.alive()
        )),
        (false, true) => Err(format!(
            "{name} is a long name, since its host has a dot or a colon: use --name {name}, or a short name such as {}@localhost",
            name.alive()
        )),
        _ => Ok(name),
    }
}

fn move_listeners(manifest: &mut Manifest, to: &[SocketAddr]) -> Result<(), CliError> {
    if to.len() > manifest.http.len() {
        let (given, there) = (to.len(), manifest.http.len());
        return Err(CliError::Usage(format!(
            "--http was given {given} times, but the app {} has {there} listeners",
            manifest.name
        )));
    }
    for (listener, &at) in manifest.http.iter_mut().zip(to) {
        listener.listen = at;
    }
    Ok(())
}

/// The signals that ask a process to end.
pub(super) struct Signals([Signal; 3]);

impl Signals {
    pub(super) fn new() -> Result<Self, CliError> {
        let kinds = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        let failed = |error| CliError::System("listen for signals", error);
        Ok(Self([
            interrupt.map_err(failed)?,
            terminate.map_err(failed)?,
            hangup.map_err(failed)?,
        ]))
    }

    pub(super) async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_a_host_and_must_be_of_their_kind() {
        assert_eq!(full_name("a", true).unwrap().as_str(), "a@127.0.0.1");
        assert_eq!(full_name("a", false).unwrap().as_str(), "a@localhost");
        assert!(
            full_name("a@localhost", true)
                .unwrap_err()
                .contains("--sname a@localhost")
        );
        assert!(
            full_name("a@10.0.0.1", false)
                .unwrap_err()
                .contains("--name a@10.0.0.1")
        );
        assert!(full_name("a b", true).is_err());
    }

    #[test]
    fn the_ready_line_is_one_object() {
        let ready = Ready {
            name: "node1@127.0.0.1".parse().unwrap(),
            os_pid: 7,
            http: Some("http://127.0.0.1:5454".into()),
            listen: None,
        };
        let text = serde_json::json!(ready).to_string();
        assert!(!text.contains('\n'));
        assert_eq!(serde_json::from_str::<Ready>(&text).unwrap(), ready);
    }
}

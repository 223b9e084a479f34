//! `wasm-node up`: a whole cluster on this machine, one process a node.
//!
//! Builds the app once, then starts a child process a node and watches over them until it is
//! told to end. The nodes share the folder of modules, so that one overwritten file reaches
//! them all, and the cache of compiled code; everything else each has to itself.

mod children;
pub(super) mod modules;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use wasm_node_protocol::{NodeKind, NodeName};

use super::client::{ANSWER_TIMEOUT, Client, block_on};
use super::error::CliError;
use super::options::{Partition, Trust, epmd_mode};
use super::start::{Ready, Signals, default_data};
use super::{log, output};
use crate::app::{Manifest, Policy};
use crate::control::{ControlReply, ControlRequest};
use crate::dist::Cookie;
use children::{Children, Event, Launch};

/// How long a node may take to get ready: it may have much to compile.
const READY_TIMEOUT: Duration = Duration::from_secs(300);
/// How long the nodes may take to see each other once all are ready.
const MESH_TIMEOUT: Duration = Duration::from_secs(30);
/// How often they are asked meanwhile.
const MESH_POLL: Duration = Duration::from_millis(50);

/// Run an app on a cluster of nodes on this machine, until Ctrl-C
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The app's manifest, as in actors/todo.toml
    #[arg(value_name = "APP")]
    app: PathBuf,
    /// How many nodes
    #[arg(long, short, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u8).range(1..=64))]
    nodes: u8,
    #[command(flatten)]
    trust: Trust,
    #[command(flatten)]
    partition: Partition,
    /// Where the nodes keep their data, a folder each [default: .wasm-node/APP]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// What modules may do at most, as in `start`
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Use no port mapper
    #[arg(long)]
    no_epmd: bool,
    /// A node that is silent for so many milliseconds is down
    #[arg(long, value_name = "MS", default_value_t = 4_000,
          value_parser = clap::value_parser!(u32).range(200..=3_600_000))]
    tick_time: u32,
    /// How many threads run actors in each node [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Print one line of JSON on standard output when all nodes are ready, and nothing else
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args, filter: Option<&str>) -> Result<(), CliError> {
    log::start("up", filter, "warn")?;
    let manifest = Manifest::load(&args.app)?;
    // Each node reads it; that it can be read is said here, once.
    args.policy.as_deref().map(Policy::load).transpose()?;
    let cookie = args.trust.cookie()?;
    args.partition.policy()?;
    let data = match &args.data_dir {
        Some(folder) => folder.clone(),
        None => default_data(&manifest.name)?,
    };
    let data = std::path::absolute(&data).map_err(|source| CliError::Io {
        doing: "find",
        path: data,
        source,
    })?;
    let modules = data.join("modules");
    modules::prepare(&manifest, &modules)?;
    block_on(async {
        let mut signals = Signals::new()?;
        let mut children = Children::new(!args.json);
        let plan = Plan {
            args: &args,
            manifest: &manifest,
            cookie,
            data,
            modules,
            filter,
        };
        let started = tokio::select! {
            started = plan.start(&mut children) => started,
            () = signals.next() => {
                eprintln!("stopping");
                children.stop_all().await;
                return Ok(());
            }
        };
        let ready = match started {
            Ok(ready) => ready,
            Err(error) => {
                children.stop_all().await;
                return Err(error);
            }
        };
        plan.announce(&ready);
        watch_over(&mut children, &mut signals).await
    })
}

/// Reports children that end; ends them all when told to.
async fn watch_over(children: &mut Children, signals: &mut Signals) -> Result<(), CliError> {
    loop {
        tokio::select! {
            event = children.next() => if let Some(Event::Ended { name, how }) = event {
                let left = children.count();
                eprintln!("{name} has ended ({how}); {left} {} left", plural(left, "node"));
                if left == 0 {
                    return Err(CliError::Cluster("all nodes have ended; their last words are above".into()));
                }
            },
            () = signals.next() => {
                eprintln!("stopping");
                children.stop_all().await;
                return Ok(());
            }
        }
    }
}

struct Plan<'a> {
    args: &'a Args,
    manifest: &'a Manifest,
    cookie: Cookie,
    data: PathBuf,
    modules: PathBuf,
    filter: Option<&'a str>,
}

impl Plan<'_> {
    /// Starts all nodes, the first one alone, so that it compiles for all and is there for the
    /// others to connect to. Done when each is ready and sees all the others.
    async fn start(&self, children: &mut Children) -> Result<Vec<Ready>, CliError> {
        let mut ready = Vec::new();
        let total = usize::from(self.args.nodes);
        eprintln!("starting {total} {}", plural(total, "node"));
        self.launch(children, 0, &[])?;
        self.await_ready(children, 1, &mut ready).await?;
        for index in 1..total {
            self.launch(children, index, &ready)?;
        }
        self.await_ready(children, total, &mut ready).await?;
        ready.sort_by_key(|ready| (ready.name.as_str().len(), ready.name.clone()));
        self.await_mesh(children, &ready).await?;
        Ok(ready)
    }

    /// For a policy that counts nodes: all those that are started, unless told otherwise.
    fn cluster_size(&self) -> Option<u32> {
        let partition = &self.args.partition;
        let counts = partition.partition_policy != "available";
        counts.then(|| partition.cluster_size.unwrap_or(self.args.nodes.into()))
    }

    fn launch(
        &self,
        children: &mut Children,
        index: usize,
        ready: &[Ready],
    ) -> Result<(), CliError> {
        let name = node_name(index)?;
        let data = self.data.join(name.alive());
        modules::share_compiled(&data, &self.data.join("compiled"))?;
        let mut options = vec!["start".into(), "--json".into()];
        let mut option = |key: &str, value: &std::ffi::OsStr| {
            options.push(std::ffi::OsString::from(key));
            options.push(value.into());
        };
        option("--name", name.as_str().as_ref());
        option("--data-dir", data.as_ref());
        option("--modules", self.modules.as_ref());
        option("--app", self.args.app.as_ref());
        if let Some(policy) = &self.args.policy {
            option("--policy", policy.as_ref());
        }
        option("--tick-time", self.args.tick_time.to_string().as_ref());
        let partition = &self.args.partition;
        option("--partition-policy", partition.partition_policy.as_ref());
        if let Some(size) = self.cluster_size() {
            option("--cluster-size", size.to_string().as_ref());
        }
        if let Some(workers) = self.args.workers {
            option("--workers", workers.to_string().as_ref());
        }
        if let Some(file) = &self.args.trust.cookie_file {
            option("--cookie-file", file.as_ref());
        }
        if let Some(filter) = self.filter {
            option("--log", filter.as_ref());
        }
        for listener in &self.manifest.http {
            option(
                "--http",
                free_address(listener.listen, index).to_string().as_ref(),
            );
        }
        // By name, a lost node is found again wherever it listens then.
        if let Some(Ready { name, listen, .. }) = ready.first() {
            match (self.args.no_epmd, listen) {
                (true, Some(address)) => option("--connect", address.as_ref()),
                _ => option("--connect", name.as_str().as_ref()),
            }
        }
        for (given, flag) in [
            (self.args.no_epmd, "--no-epmd"),
            (self.args.trust.plaintext, "--plaintext"),
        ] {
            if given {
                options.push(flag.into());
            }
        }
        children.launch(Launch {
            name,
            options,
            cookie: self.args.trust.cookie.clone(),
        })
    }

    async fn await_ready(
        &self,
        children: &mut Children,
        total: usize,
        ready: &mut Vec<Ready>,
    ) -> Result<(), CliError> {
        let deadline = Instant::now() + READY_TIMEOUT;
        while ready.len() < total {
            match tokio::time::timeout_at(deadline, children.next()).await {
                Ok(Some(Event::Ready(node))) => {
                    eprintln!("{} is ready", node.name);
                    ready.push(node);
                }
                Ok(Some(Event::Ended { name, how })) => return Err(ended_early(&name, &how)),
                Ok(None) => {
                    return Err(CliError::Cluster(
                        "there is no node left to wait for".into(),
                    ));
                }
                Err(_) => {
                    return Err(CliError::Cluster(format!(
                        "waited {} s for the nodes to get ready, {} of {total} are; --log debug shows what the others do",
                        READY_TIMEOUT.as_secs(),
                        ready.len()
                    )));
                }
            }
        }
        Ok(())
    }

    /// Waits until each node is connected to all the others, by asking them.
    async fn await_mesh(&self, children: &mut Children, all: &[Ready]) -> Result<(), CliError> {
        let deadline = Instant::now() + MESH_TIMEOUT;
        for node in all {
            let mut config = Client::config(&node.name, &self.args.trust, self.cookie.clone())?;
            config.epmd = epmd_mode(true)?;
            let client = Client::connect(&node.name, config, node.listen.as_deref()).await?;
            let waited = self.await_peers(children, &client, all, deadline).await;
            client.leave().await;
            waited?;
        }
        Ok(())
    }

    async fn await_peers(
        &self,
        children: &mut Children,
        client: &Client,
        all: &[Ready],
        deadline: Instant,
    ) -> Result<(), CliError> {
        loop {
            let seen: BTreeSet<NodeName> =
                match client.ask(&ControlRequest::Nodes, ANSWER_TIMEOUT).await? {
                    ControlReply::Nodes(rows) => {
                        let visible = rows.into_iter().filter(|row| row.kind == NodeKind::Visible);
                        visible.map(|row| row.name).collect()
                    }
                    _ => return Err(client.mismatch()),
                };
            let wanted = all
                .iter()
                .map(|node| &node.name)
                .filter(|&name| *name != client.name);
            let missing: Vec<_> = wanted.filter(|name| !seen.contains(*name)).collect();
            if missing.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(CliError::Cluster(format!(
                    "{} is still not connected to {missing:?} after {} s; the nodes' logs above say why",
                    client.name,
                    MESH_TIMEOUT.as_secs()
                )));
            }
            // Between two questions, a node that ends is news worth more than the time-out.
            if let Ok(Some(Event::Ended { name, how })) =
                tokio::time::timeout(MESH_POLL, children.next()).await
            {
                return Err(ended_early(&name, &how));
            }
        }
    }

    /// A command that asks this node, with the options that it needs.
    fn ask_command(&self, node: &Ready) -> String {
        let mut command = format!("wasm-node ps {}", node.name);
        if let (true, Some(address)) = (self.args.no_epmd, &node.listen) {
            command += &format!(" --address {address}");
        }
        if let Some(file) = &self.args.trust.cookie_file {
            command += &format!(" --cookie-file {}", quoted(file));
        }
        if self.args.trust.plaintext {
            command += " --plaintext";
        }
        command
    }

    fn announce(&self, all: &[Ready]) {
        if self.args.json {
            let nodes: Vec<_> = all
                .iter()
                .map(|node| {
                    json!({
                        "name": node.name.as_str(),
                        "os_pid": node.os_pid,
                        "http": node.http,
                    })
                })
                .collect();
            output::json(&json!({ "nodes": nodes }));
            return;
        }
        let app = &self.manifest.name;
        output::line(format_args!(
            "{app} runs on {} {}:",
            all.len(),
            plural(all.len(), "node")
        ));
        for node in all {
            let url = node.http.as_deref().unwrap_or("(no HTTP)");
            output::line(format_args!("  {}  {url}", node.name));
        }
        if let Some(url) = all.first().and_then(|node| node.http.as_deref()) {
            output::line("Try:");
            output::line(format_args!("  curl -i {url}/"));
        }
        if let Some(node) = all.first() {
            output::line(format_args!("  {}", self.ask_command(node)));
        }
        output::line(format_args!(
            "Modules are in {}: overwrite one and it is hot-loaded.",
            self.modules.display()
        ));
        output::line("Ctrl-C stops all.");
    }
}

/// Quoted for a shell where it needs to be.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

fn ended_early(name: &NodeName, how: &str) -> CliError {
    CliError::Cluster(format!(
        "{name} ended before the cluster was up ({how}); what it said is above"
    ))
}

fn node_name(index: usize) -> Result<NodeName, CliError> {
    let name = format!("node{}@127.0.0.1", index + 1);
    name.parse()
        .map_err(|error| CliError::Usage(format!("{error}")))
}

/// The address wanted, each node a port further on, if it is free; else any free port there.
fn free_address(wanted: SocketAddr, index: usize) -> SocketAddr {
    let port = u16::try_from(index)
        .ok()
        .and_then(|index| wanted.port().checked_add(index));
    let at = match port {
        Some(port) if wanted.port() != 0 => SocketAddr::new(wanted.ip(), port),
        _ => SocketAddr::new(wanted.ip(), 0),
    };
    match TcpListener::bind(at) {
        Ok(_) => at,
        Err(_) => SocketAddr::new(wanted.ip(), 0),
    }
}

fn plural(count: usize, what: &str) -> String {
    if count == 1 {
        what.into()
    } else {
        format!("{what}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_a_shell() {
        assert_eq!(quoted(Path::new("/a/b-c_1.txt")), "/a/b-c_1.txt");
        assert_eq!(quoted(Path::new("/a b/it's")), "'/a b/it'\\''s'");
    }

    #[test]
    fn a_port_that_is_taken_gives_way_to_any() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = taken.local_addr().unwrap();
        assert_eq!(free_address(at, 0).port(), 0);
        assert_eq!(free_address("127.0.0.1:0".parse().unwrap(), 2).port(), 0);
    }
}

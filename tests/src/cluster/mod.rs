//! Real clusters: `wasm-node up` and `wasm-node start` in a world of their own - a temporary
//! folder that is also the home folder, a cookie, a port mapper's port - so that tests can run
//! beside each other, and beside whatever else the machine runs.

mod permit;
mod sandbox;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

pub use sandbox::{Node, READY_TIMEOUT, Ran, Sandbox, free_port, run_to_end};

use crate::process::{self, Process};
use crate::program;

/// How long a node may take to say that something happened that needs no waiting by itself.
pub const EVENT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a process may take to get and act on a signal that it cannot refuse.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(10);

/// A running app on several nodes, `node1@127.0.0.1` and on. Dropped, all of it is killed, and
/// its log is printed, which the test runner shows if the test failed.
pub struct Cluster {
    /// Where it runs.
    pub sandbox: Sandbox,
    up: Process,
    nodes: Vec<Node>,
    manifest: PathBuf,
    tick_time_ms: u32,
}

#[derive(Deserialize)]
struct Ready {
    nodes: Vec<ReadyNode>,
}

#[derive(Deserialize)]
struct ReadyNode {
    name: String,
    os_pid: u32,
    http: Option<String>,
}

impl Cluster {
    /// The to-do system on so many nodes, with the default tick time.
    pub fn start(nodes: usize) -> Result<Self> {
        Self::start_with_ticks(nodes, 4_000)
    }

    /// The same with a tick time.
    pub fn start_with_ticks(nodes: usize, tick_time_ms: u32) -> Result<Self> {
        Self::start_with(nodes, tick_time_ms, &[])
    }

    /// The same with more options of `up`.
    pub fn start_with(nodes: usize, tick_time_ms: u32, options: &[&str]) -> Result<Self> {
        let manifest = program::repository().join("actors/todo.toml");
        Self::start_app(&manifest, nodes, tick_time_ms, options)
    }

    /// An app given by its manifest. Its modules are built once for all tests, and compiled once.
    fn start_app(
        manifest: &Path,
        nodes: usize,
        tick_time_ms: u32,
        options: &[&str],
    ) -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let manifest = sandbox.localise(manifest)?;
        let mut command = sandbox.command()?;
        command
            .args(["up", "--json", "--data-dir"])
            .arg(sandbox.path("data"))
            .args(["--nodes", &nodes.to_string()])
            .args(["--tick-time", &tick_time_ms.to_string()])
            .args(options)
            .arg(&manifest);
        let up = Process::start(command, &sandbox.log)?;
        let line = up
            .stdout
            .wait(
                0,
                READY_TIMEOUT,
                "the line that says that all nodes are ready",
                |_| true,
            )
            .with_context(|| format!("the cluster did not start:\n{}", sandbox.log.tail()))?;
        let ready: Ready =
            serde_json::from_str(&line).context("the ready line is not as promised")?;
        ensure!(
            ready.nodes.len() == nodes,
            "not all nodes are in the ready line: {line}"
        );
        let nodes = ready.nodes.into_iter().map(|node| Node {
            name: node.name,
            os_pid: node.os_pid,
            http: node.http,
            listen: None,
            process: None,
        });
        Ok(Self {
            nodes: nodes.collect(),
            sandbox,
            up,
            manifest,
            tick_time_ms,
        })
    }

    /// How many nodes it has, running or not.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A node, counted from 1 as in its name.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }

    /// A node's HTTP address, `http://127.0.0.1:PORT`.
    pub fn http(&self, number: usize) -> &str {
        self.node(number)
            .http
            .as_deref()
            .expect("the app has an HTTP listener")
    }

    /// The process of `up`.
    pub fn up(&mut self) -> &mut Process {
        &mut self.up
    }

    /// The watched folder of modules, shared by all nodes.
    pub fn modules(&self) -> PathBuf {
        self.sandbox.path("data").join("modules")
    }

    /// Where a node keeps its data.
    pub fn data(&self, number: usize) -> PathBuf {
        self.sandbox.path("data").join(format!("node{number}"))
    }

    /// SIGKILL, and the process is gone.
    pub fn kill(&self, number: usize) -> Result<()> {
        let pid = self.node(number).os_pid;
        process::signal_pid(pid, libc::SIGKILL)?;
        process::wait_gone(pid, SIGNAL_TIMEOUT)
    }

    /// SIGKILL to all nodes, one right after the other, and all are gone.
    pub fn kill_all(&self) -> Result<()> {
        for node in &self.nodes {
            process::signal_pid(node.os_pid, libc::SIGKILL)?;
        }
        self.nodes
            .iter()
            .try_for_each(|node| process::wait_gone(node.os_pid, SIGNAL_TIMEOUT))
    }

    /// SIGSTOP, and the process stands still.
    pub fn freeze(&self, number: usize) -> Result<()> {
        let pid = self.node(number).os_pid;
        process::signal_pid(pid, libc::SIGSTOP)?;
        process::wait_stopped(pid, SIGNAL_TIMEOUT)
    }

    /// SIGCONT.
    pub fn thaw(&self, number: usize) -> Result<()> {
        process::signal_pid(self.node(number).os_pid, libc::SIGCONT)
    }

    /// Starts a node that was killed again, with its data, its HTTP address, and connected to
    /// those of the others that run. It is ready when this returns.
    pub fn restart(&mut self, number: usize) -> Result<()> {
        let others: Vec<_> = (1..=self.len()).filter(|&other| other != number).collect();
        self.start_again(number, &others)
    }

    /// The same, told to connect to these nodes only.
    pub fn start_again(&mut self, number: usize, connect: &[usize]) -> Result<()> {
        let mut options = vec!["--data-dir".into(), self.data(number).into_os_string()];
        let mut option = |key: &str, value: &std::ffi::OsStr| {
            options.extend([key.into(), value.to_os_string()]);
        };
        option("--modules", self.modules().as_os_str());
        option("--app", self.manifest.as_os_str());
        option("--tick-time", self.tick_time_ms.to_string().as_ref());
        let url = self.http(number);
        option(
            "--http",
            url.strip_prefix("http://").unwrap_or(url).as_ref(),
        );
        for &other in connect {
            option("--connect", self.node(other).name.as_ref());
        }
        let name = self.node(number).name.clone();
        let node = self.sandbox.start_node(&name, options)?;
        self.nodes[number - 1] = node;
        Ok(())
    }

    /// Waits for a line with this text, printed by this node from a position in the log on
    /// ([`crate::process::Log::position`]).
    pub fn wait_for_log(
        &self,
        number: usize,
        position: usize,
        text: &str,
        timeout: Duration,
    ) -> Result<String> {
        let prefix = format!("{} ", self.node(number).name);
        let what = format!("{text:?}, printed by node{number}");
        self.sandbox.log.wait(position, timeout, &what, |line| {
            line.starts_with(&prefix) && line.contains(text)
        })
    }

    /// The number of the node whose actor has a global name, as another node knows it.
    pub fn holder(&self, asked: usize, global_name: &str) -> Result<usize> {
        let name = format!("global:{global_name}");
        let found = self
            .sandbox
            .json(["whereis", &self.node(asked).name, &name, "--json"])?;
        let id = found["id"].as_str().context("whereis printed no id")?;
        let incarnation = id.get(..16).context("an id that is too short")?;
        for number in 1..=self.len() {
            let info = self
                .sandbox
                .json(["info", &self.node(number).name, "--json"]);
            if info.is_ok_and(|info| info["incarnation"].as_str() == Some(incarnation)) {
                return Ok(number);
            }
        }
        anyhow::bail!("{id} is on no node of the cluster")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.up.kill();
    }
}

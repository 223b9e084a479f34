//! A world of its own for nodes and commands of one test.

use std::ffi::{OsStr, OsString};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tempfile::TempDir;

use super::permit::Permit;
use crate::process::{Log, Process};
use crate::program;

/// How long nodes may take to get ready: the first of them all compiles the app.
pub const READY_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// A temporary folder, a cookie and a port mapper's port that nothing else uses.
pub struct Sandbox {
    folder: TempDir,
    epmd_port: u16,
    /// What all its nodes and commands print to standard error, in the order it came.
    pub log: Log,
    _permit: Permit,
}

/// A node of a test.
pub struct Node {
    /// As in `node1@127.0.0.1`.
    pub name: String,
    /// Its process.
    pub os_pid: u32,
    /// Its HTTP listener's address, as a URL.
    pub http: Option<String>,
    /// Where other nodes reach it; not known of the nodes that `up` started.
    pub listen: Option<String>,
    /// Its process, if it was started alone; if not, `up` owns it.
    pub process: Option<Process>,
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub status: ExitStatus,
    /// Its lines on standard output.
    pub stdout: String,
    /// Its lines on standard error.
    pub stderr: String,
}

#[derive(Deserialize)]
struct Ready {
    name: String,
    os_pid: u32,
    http: Option<String>,
    listen: Option<String>,
}

impl Sandbox {
    /// A new one. Waits while too many others are in use by other tests.
    pub fn new() -> Result<Self> {
        let permit = Permit::wait();
        let folder = tempfile::Builder::new()
            .prefix("wasm-node-test-")
            .tempdir()
            .context("cannot create a temporary folder")?;
        Ok(Self {
            folder,
            epmd_port: free_port()?,
            log: Log::default(),
            _permit: permit,
        })
    }

    /// A path in its folder.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// The port that its port mapper has, or will have once a node runs.
    pub fn epmd_port(&self) -> u16 {
        self.epmd_port
    }

    /// The program, to be run in here; the caller adds the arguments.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(program::program()?);
        command
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("WASM_NODE_COOKIE", self.cookie())
            .env_remove("RUST_LOG");
        Ok(command)
    }

    /// Its cookie, which `command` passes by the environment.
    pub fn cookie(&self) -> String {
        format!("cookie-of-{}", self.folder.path().display())
    }

    /// Runs a command to its end.
    pub fn run(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Ran> {
        let mut command = self.command()?;
        command.args(args);
        run_to_end(command)
    }

    /// Runs a command that must succeed and prints one line of JSON.
    pub fn json(
        &self,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<serde_json::Value> {
        let ran = self.run(args)?;
        ensure!(ran.status.success(), "a command failed: {ran:?}");
        serde_json::from_str(&ran.stdout).with_context(|| format!("no JSON: {ran:?}"))
    }

    /// Starts one node, by `start --name NAME`, with further options. It is ready when this
    /// returns.
    pub fn start_node(
        &self,
        name: &str,
        options: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Node> {
        let options = options
            .into_iter()
            .map(|option| option.as_ref().to_os_string());
        let mut all: Vec<OsString> = ["start", "--json", "--name", name].map(Into::into).into();
        all.extend(options);
        let mut command = self.command()?;
        command.args(all);
        let process = Process::start(command, &self.log)?;
        let line = process
            .stdout
            .wait(
                0,
                READY_TIMEOUT,
                "the line that says that the node is ready",
                |_| true,
            )
            .with_context(|| format!("{name} did not start:\n{}", self.log.tail()))?;
        let ready: Ready =
            serde_json::from_str(&line).context("the ready line is not as promised")?;
        Ok(Node {
            name: ready.name,
            os_pid: ready.os_pid,
            http: ready.http,
            listen: ready.listen,
            process: Some(process),
        })
    }

    /// A copy of an app's manifest that has its modules as files, built once for all tests, and
    /// listens on any free ports; and the compiled code of all tests in `data/compiled`.
    pub fn localise(&self, manifest: &Path) -> Result<PathBuf> {
        let text = std::fs::read_to_string(manifest)
            .with_context(|| format!("cannot read {}", manifest.display()))?;
        let actors = program::repository().join("actors");
        let from = manifest.parent().unwrap_or(Path::new("."));
        let mut local = String::new();
        for line in text.lines() {
            let value = |key: &str| {
                let (name, value) = line.split_once('=')?;
                (name.trim() == key).then(|| value.trim().trim_matches('"').to_string())
            };
            if let Some(source) = value("source") {
                let folder = from.join(source);
                let folder = folder
                    .strip_prefix(&actors)
                    .context("an actor that is not in `actors`")?;
                let file = program::actor(&folder.to_string_lossy())?;
                local.push_str(&format!("file = {file:?}\n"));
            } else if value("listen").is_some() {
                local.push_str("listen = \"127.0.0.1:0\"\n");
            } else {
                local.push_str(line);
                local.push('\n');
            }
        }
        std::fs::create_dir_all(self.path("data")).context("cannot create a folder")?;
        std::os::unix::fs::symlink(
            program::shared_folder("compiled")?,
            self.path("data/compiled"),
        )
        .context("cannot link to the compiled code")?;
        let name = manifest.file_name().context("a manifest without a name")?;
        let path = self.path(name);
        std::fs::write(&path, local).context("cannot write the manifest")?;
        Ok(path)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // The test runner shows it if the test has failed.
        println!("what the nodes printed:\n{}", self.log.tail());
    }
}

impl Node {
    /// Its process; an error if `up` owns it.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process
            .as_mut()
            .context("`up` owns the process of this node")
    }
}

/// Runs a command to its end, within a minute.
pub fn run_to_end(command: Command) -> Result<Ran> {
    let stderr = Log::default();
    let words = format!("{command:?}");
    let mut process = Process::start(command, &stderr)?;
    let status = process.wait(COMMAND_TIMEOUT).context(words)?;
    Ok(Ran {
        status,
        stdout: process.stdout.all()?.join("\n"),
        stderr: stderr.all()?.join("\n"),
    })
}

/// A port that nothing listens on now.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
    match listener.local_addr().context("no local address")?.port() {
        0 => bail!("no port"),
        port => Ok(port),
    }
}

//! Nodes in processes of their own: this same program, asked to `start`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::rig::BenchError;

/// How long such a node may take to get ready: it may have much to compile.
const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// How long it may take to end; then it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// The program, and the cookie of all nodes of one benchmark.
#[derive(Clone, Debug)]
pub(super) struct Program {
    path: PathBuf,
    cookie: String,
}

/// A node that is ready. Dropped, it is killed.
pub(super) struct ReadyNode {
    process: Child,
    /// From the making of the process to its word that it is ready.
    pub(super) took: Duration,
    /// Where other nodes reach it, `host:port`.
    pub(super) listen: String,
}

impl Program {
    pub(super) fn this(cookie: &str) -> Result<Self, BenchError> {
        let path = std::env::current_exe();
        Ok(Self {
            path: path
                .map_err(|error| BenchError::System("find this program's own file", error))?,
            cookie: cookie.into(),
        })
    }

    /// Starts a node without a port mapper, and waits until it is ready.
    pub(super) async fn node(
        &self,
        name: &str,
        data: &Path,
        modules: Option<&Path>,
    ) -> Result<ReadyNode, BenchError> {
        let mut command = Command::new(&self.path);
        command
            .args([
                "--log",
                "error",
                "start",
                "--json",
                "--no-epmd",
                "--name",
                name,
            ])
            .arg("--data-dir")
            .arg(data)
            // Others could read it on the command line.
            .env("WASM_NODE_COOKIE", &self.cookie)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        if let Some(folder) = modules {
            command.arg("--modules").arg(folder);
        }
        let begun = Instant::now();
        let process = command.spawn();
        let mut process = process.map_err(|error| BenchError::System("start a node", error))?;
        let stdout = process.stdout.take();
        let stdout = stdout.ok_or_else(|| BenchError::Child("it has no output".into()))?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(READY_TIMEOUT, lines.next_line()).await;
        let took = begun.elapsed();
        let Ok(Ok(Some(line))) = line else {
            return Err(BenchError::Child("it did not get ready".into()));
        };
        let ready: serde_json::Value =
            serde_json::from_str(&line).map_err(|error| BenchError::Child(error.to_string()))?;
        let listen = ready.get("listen").and_then(serde_json::Value::as_str);
        let listen = listen.ok_or_else(|| BenchError::Child(format!("it said {line}")))?;
        Ok(ReadyNode {
            process,
            took,
            listen: listen.into(),
        })
    }
}

impl ReadyNode {
    /// Ends it in order.
    pub(super) async fn stop(mut self) -> Result<(), BenchError> {
        let id = self.process.id();
        if let Some(id) = id.and_then(|id| libc::pid_t::try_from(id).ok()) {
            // SAFETY: takes plain numbers. The child has not been reaped, so the id is its own.
            unsafe { libc::kill(id, libc::SIGTERM) };
        }
        match tokio::time::timeout(END_TIMEOUT, self.process.wait()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(BenchError::System("wait for a node's end", error)),
            Err(_) => Err(BenchError::Child("it did not end, and is killed".into())),
        }
    }
}

//! Single nodes, each with a folder of modules and a log of its own, and the commands that ask
//! them.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cluster::Sandbox;
use crate::process::{Log, Process};
use crate::program::{actor, shared_folder};

/// How long anything may take that has no bound of its own: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// How often a condition is looked at that no log line tells of.
const POLL: Duration = Duration::from_millis(100);
/// The ports that tests listen on lie below those that Linux gives to outgoing connections.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// The first of so many ports in a row that were free a moment ago, and that this process gives
/// out once.
pub fn free_ports(count: u16) -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = PORTS.end - PORTS.start;
    // Test processes that run at once begin at different places.
    let offset = (std::process::id().wrapping_mul(97) % u32::from(span)) as u16;
    for _ in 0..span {
        let step = NEXT.fetch_add(count, Ordering::Relaxed);
        let first = PORTS.start + offset.wrapping_add(step) % (span - count);
        let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if (first..first + count).all(free) {
            return Ok(first);
        }
    }
    bail!("no free port in {PORTS:?}")
}

/// Where a test's nodes live: a sandbox whose nodes have a module folder and a log each.
pub struct Site(Sandbox);

impl Deref for Site {
    type Target = Sandbox;
    fn deref(&self) -> &Sandbox {
        &self.0
    }
}

impl Site {
    /// A new one.
    pub fn new() -> Result<Self> {
        Sandbox::new().map(Self)
    }

    /// Runs a command that must succeed; gives what it printed.
    pub fn ok(&self, args: &[&str]) -> Result<String> {
        let ran = self.run(args)?;
        ensure!(ran.status.success(), "wasm-node {args:?} failed: {ran:?}");
        Ok(ran.stdout)
    }

    /// Runs a command that must fail with this exit code; gives what it said about it.
    pub fn fails(&self, code: i32, args: &[&str]) -> Result<String> {
        let ran = self.run(args)?;
        ensure!(
            ran.status.code() == Some(code) && ran.stdout.is_empty(),
            "wasm-node {args:?} was to fail with {code} and print nothing: {ran:?}"
        );
        Ok(ran.stderr)
    }

    /// Runs a command with `--json`; gives the one object that it prints, on one line.
    pub fn ask(&self, args: &[&str]) -> Result<Value> {
        let text = self.ok(&[args, &["--json"]].concat())?;
        ensure!(!text.contains('\n'), "more than one line: {text}");
        serde_json::from_str(&text).with_context(|| format!("{args:?} printed {text:?}"))
    }

    /// A node named `node` with a long name, its modules in [`Site::modules`] of that name.
    /// Waits until it is ready.
    pub fn start(&self, node: &str, args: &[&str]) -> Result<Node> {
        let node = self.launch(node, args)?;
        node.wait_ready()?;
        Ok(node)
    }

    /// As `start`, without waiting.
    pub fn launch(&self, node: &str, args: &[&str]) -> Result<Node> {
        let name = format!("{node}@127.0.0.1");
        self.launch_as(&["--name", &name], &name, args)
    }

    /// As `start`, but with the cookie of the home folder instead of the site's.
    pub fn start_without_cookie(&self, node: &str, args: &[&str]) -> Result<Node> {
        let name = format!("{node}@127.0.0.1");
        let mut command = self.start_command(&["--name", &name], &name, args)?;
        command.env_remove("WASM_NODE_COOKIE");
        let node = Node::launch(name, command)?;
        node.wait_ready()?;
        Ok(node)
    }

    /// A node that is named by these arguments.
    pub fn launch_as(&self, naming: &[&str], name: &str, args: &[&str]) -> Result<Node> {
        Node::launch(name.into(), self.start_command(naming, name, args)?)
    }

    /// The command that [`Site::launch_as`] runs.
    pub fn start_command(&self, naming: &[&str], name: &str, args: &[&str]) -> Result<Command> {
        let data = self.path(name).join("data");
        let compiled = data.join("compiled");
        if !compiled.exists() {
            // Code that another test has compiled need not be compiled again.
            std::fs::create_dir_all(&data).context("cannot create a folder")?;
            std::os::unix::fs::symlink(shared_folder("compiled")?, compiled)
                .context("cannot link to the compiled code")?;
        }
        let mut command = self.command()?;
        command
            .args(["start", "--json"])
            .args(naming)
            .arg("--data-dir")
            .arg(data)
            .arg("--modules")
            .arg(self.modules(name)?)
            .args(args);
        Ok(command)
    }

    /// The folder of a node's modules, by the node's full name.
    pub fn modules(&self, name: &str) -> Result<PathBuf> {
        let folder = self.path(name).join("modules");
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }

    /// Puts a component into the folder of a node's modules, whole at once.
    pub fn install(&self, name: &str, module: &str, component: &[u8]) -> Result<()> {
        let folder = self.modules(name)?;
        let (new, place) = (
            self.path(format!("{module}.new")),
            folder.join(format!("{module}.wasm")),
        );
        std::fs::write(&new, component)
            .and_then(|()| std::fs::rename(&new, &place))
            .with_context(|| format!("cannot write {}", place.display()))
    }

    /// Starts an actor; gives its pid as `node` prints it.
    pub fn spawn(&self, node: &Node, module: &str, args: &str, more: &[&str]) -> Result<String> {
        self.ok(&[&["spawn", &node.name, module, "--args", args], more].concat())
    }

    /// Calls an actor.
    pub fn call(&self, node: &Node, actor: &str, text: &str) -> Result<String> {
        self.ok(&["call", &node.name, actor, text])
    }

    /// The nodes that a node lists, sorted, without the commands that join it; `kind` is an option
    /// of `nodes`.
    pub fn nodes_of(&self, node: &str, kind: &[&str]) -> Result<Vec<String>> {
        let listed = self.ask(&[&["nodes", node], kind].concat())?;
        let rows = listed.get("nodes").and_then(Value::as_array);
        let names = rows
            .context("no list of nodes")?
            .iter()
            .filter_map(|row| row.get("name").and_then(Value::as_str))
            .filter(|name| !name.starts_with("cli-"));
        Ok(names.map(String::from).collect())
    }

    /// Whether a node has an actor of this pid.
    pub fn lives(&self, node: &Node, pid: &str) -> Result<bool> {
        let listed = self.ask(&["ps", &node.name])?;
        let rows = listed.get("processes").and_then(Value::as_array);
        let mut rows = rows.context("no list of actors")?.iter();
        Ok(rows.any(|row| row.get("pid").and_then(Value::as_str) == Some(pid)))
    }
}

/// Waits until a condition holds that no log line tells of.
pub fn eventually(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds()? {
        ensure!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// A node's process. Dropped, it is killed; if the test is failing, its log is shown first.
pub struct Node {
    name: String,
    process: Process,
}

impl Deref for Node {
    type Target = Process;
    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.name, self.process.stderr.tail());
        }
    }
}

impl DerefMut for Node {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Node {
    /// As `launch`, with a pipe as its standard input.
    pub fn launch_with_input(name: String, mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped());
        let process = Process::start_with_stdin(command, &Log::default())?;
        Ok(Self { name, process })
    }

    /// Starts a node by a command of [`Site::start_command`].
    pub fn launch(name: String, command: Command) -> Result<Self> {
        let process = Process::start(command, &Log::default())?;
        Ok(Self { name, process })
    }

    /// Its name, as in node1@127.0.0.1.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits for the line that it prints when it is ready; gives that.
    pub fn wait_ready(&self) -> Result<Value> {
        let line = self
            .stdout
            .wait(0, PATIENCE, "its ready line", |line| line.starts_with('{'))
            .with_context(|| format!("{}: {}", self.name, self.stderr.tail()))?;
        serde_json::from_str(&line).with_context(|| format!("{} printed {line:?}", self.name))
    }

    /// Where other nodes reach it.
    pub fn listens(&self) -> Result<String> {
        let ready = self.wait_ready()?;
        let listen = ready.get("listen").and_then(Value::as_str);
        Ok(listen.context("it listens nowhere")?.into())
    }

    /// Waits for a line in its log, old or new, that has all these words.
    pub fn wait_log(&self, words: &[&str]) -> Result<String> {
        self.wait_log_since(0, PATIENCE, words)
    }

    /// As `wait_log`, from a position in its log on, for so long.
    pub fn wait_log_since(&self, from: usize, for_: Duration, words: &[&str]) -> Result<String> {
        let has_all = |line: &str| words.iter().all(|word| line.contains(word));
        self.stderr
            .wait(from, for_, &format!("{words:?}"), has_all)
            .with_context(|| format!("the log of {}:\n{}", self.name, self.stderr.tail()))
    }

    /// Waits until its log says that it has connected to a node.
    pub fn wait_up(&self, other: &str) -> Result<()> {
        self.wait_log(&["node up", &format!("node={other} ")])
            .map(drop)
    }

    /// How many lines of its log have all these words.
    pub fn count_log(&self, words: &[&str]) -> usize {
        let lines = self.stderr.since(0);
        let has_all = |line: &&String| words.iter().all(|word| line.contains(word));
        lines.iter().filter(has_all).count()
    }

    /// Waits for a line that one of its actors printed.
    pub fn wait_print(&self, text: &str) -> Result<()> {
        let what = format!("the line {text:?}");
        self.stdout
            .wait(0, PATIENCE, &what, |line| line == text)
            .map(drop)
    }

    /// Waits for its end; gives its exit code.
    pub fn wait_end(&mut self) -> Result<Option<i32>> {
        Ok(self.process.wait(PATIENCE)?.code())
    }

    /// Ends it as a crash does, and waits until it is gone.
    pub fn crash(&mut self) {
        self.process.kill();
    }
}

/// The component of an actor of the tests, by its folder under `tests/actors`.
pub fn test_actor(folder: &str) -> Result<Vec<u8>> {
    component(&format!("../tests/actors/{folder}"))
}

/// The component of an actor, by its folder under `actors`.
pub fn component(folder: &str) -> Result<Vec<u8>> {
    let path = actor(folder)?;
    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

//! A real node for a test: the program `wasm-node`, on loopback, in a folder of its own.
//!
//! Drives the program's command line and knows nothing else of it. What it started ends, and what
//! it wrote is removed, when it is dropped.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::GenServer;

/// Names the program in place of `wasm-node` on the `PATH`.
const PROGRAM_VARIABLE: &str = "WASM_NODE_BIN";

/// What each such node is called: no port mapper knows of it.
const NAME: &str = "test@127.0.0.1";

/// Why a real node did not do what it was to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RealNodeError {
    /// There is no program to run; says what was tried.
    NoProgram(String),
    /// The crate does not build; what the compiler said.
    Build(String),
    /// The node did not start, or a folder for it could not be made.
    Start(String),
    /// A command failed; what it said.
    Command(String),
    /// The reply is not one of the server's.
    Reply(String),
}

impl fmt::Display for RealNodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProgram(words) => write!(f, "no wasm-node to run: {words}"),
            Self::Build(words) => write!(f, "the crate does not build: {words}"),
            Self::Start(words) => write!(f, "the node did not start: {words}"),
            Self::Command(words) => write!(f, "the node refused: {words}"),
            Self::Reply(words) => write!(f, "not a reply: {words}"),
        }
    }
}
impl std::error::Error for RealNodeError {}

/// A node of the real program.
///
/// ```no_run
/// # use serde::{Deserialize, Serialize};
/// # use wasm_node_sdk::{CallReturn, Caller, GenServer, Init};
/// # #[derive(Serialize, Deserialize)]
/// # struct Counter(i64);
/// # impl GenServer for Counter {
/// #     const MODULE: &'static str = "counter";
/// #     type Args = i64;
/// #     type Call = i64;
/// #     type Reply = i64;
/// #     type Cast = ();
/// #     async fn init(n: i64) -> Init<Self> { Init::Ok(Self(n)) }
/// #     async fn handle_call(&mut self, n: i64, _: Caller<i64>) -> CallReturn<i64> {
/// #         CallReturn::Reply(n)
/// #     }
/// # }
/// use wasm_node_sdk::testing::RealNode;
///
/// // Builds the crate under test with `wasm-node build`, then starts a node that has it.
/// let node = RealNode::start()?;
/// let counter = node.spawn::<Counter>(&5)?;
/// assert_eq!(node.call::<Counter>(&counter, &2)?, 7);
/// # Ok::<(), wasm_node_sdk::testing::RealNodeError>(())
/// ```
#[derive(Debug)]
pub struct RealNode {
    process: Child,
    home: Home,
    program: PathBuf,
    address: String,
}

/// An actor of a real node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealActor(String);

impl RealActor {
    /// The actor with this name on its node.
    pub fn named(name: &str) -> Self {
        Self(name.into())
    }
}

impl RealNode {
    /// Builds the crate whose tests run, and starts a node that has it.
    pub fn start() -> Result<Self, RealNodeError> {
        let missing = || RealNodeError::Build("cargo did not say which crate's tests run".into());
        let folder = std::env::var_os("CARGO_MANIFEST_DIR").ok_or_else(missing)?;
        Self::start_with(&[Path::new(&folder)])
    }

    /// Builds the actors in these source folders, and starts a node that has them.
    pub fn start_with(sources: &[&Path]) -> Result<Self, RealNodeError> {
        let program = std::env::var_os(PROGRAM_VARIABLE).unwrap_or_else(|| "wasm-node".into());
        let program = PathBuf::from(program);
        let home = Home::new()?;
        for source in sources {
            let mut build = Command::new(&program);
            // What cargo says of the test's own build must not steer this one.
            for (name, _) in std::env::vars_os() {
                let name = name.to_string_lossy().into_owned();
                if name.starts_with("CARGO_") && name != "CARGO_HOME"
                    || name.starts_with("RUST") && name != "RUSTUP_HOME"
                {
                    build.env_remove(name);
                }
            }
            build
                .arg("build")
                .arg(source)
                .arg("--out")
                .arg(home.modules());
            output(&mut build)?.map_err(RealNodeError::Build)?;
        }
        let mut process = Command::new(&program)
            .args(["start", "--json", "--no-epmd", "--name", NAME])
            .arg("--modules")
            .arg(home.modules())
            .arg("--data-dir")
            .arg(home.folder.join("data"))
            .env("WASM_NODE_COOKIE", &home.cookie)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| no_program(&program, &error))?;
        let mut ready = String::new();
        if let Some(stdout) = process.stdout.take() {
            let mut lines = BufReader::new(stdout);
            // An end without a line is a node that did not start; its log has been shown.
            let _ = lines.read_line(&mut ready);
            // What actors print is nobody's; but a full pipe would stop the node.
            std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        }
        let listen = ready.split("\"listen\":\"").nth(1);
        let address = listen
            .and_then(|rest| rest.split('"').next())
            .map(String::from);
        let mut node = Self {
            process,
            home,
            program,
            address: String::new(),
        };
        let silent = || RealNodeError::Start(format!("it said {ready:?}"));
        node.address = address.ok_or_else(silent)?;
        Ok(node)
    }

    /// Starts a server and waits for its `init`.
    pub fn spawn<S: GenServer>(&self, args: &S::Args) -> Result<RealActor, RealNodeError> {
        self.spawn_bytes(S::MODULE, &S::encode_args(args))
    }

    /// Starts an actor of a module.
    pub fn spawn_bytes(&self, module: &str, args: &[u8]) -> Result<RealActor, RealNodeError> {
        let args = hex(args);
        let (pid, _) = self.command("spawn", &[module, "--hex", "--args", &args])?;
        Ok(RealActor(pid))
    }

    /// Asks a server.
    pub fn call<S: GenServer>(
        &self,
        actor: &RealActor,
        request: &S::Call,
    ) -> Result<S::Reply, RealNodeError> {
        let reply = self.call_bytes(actor, &S::encode_call(request))?;
        S::decode_reply(&reply).map_err(RealNodeError::Reply)
    }

    /// Asks an actor with bytes.
    pub fn call_bytes(&self, actor: &RealActor, body: &[u8]) -> Result<Vec<u8>, RealNodeError> {
        let body = hex(body);
        let (reply, said) = self.command("call", &[&actor.0, "--hex", &body])?;
        match said.contains("bytes in hex:") {
            true => unhex(&reply).ok_or(RealNodeError::Reply(reply)),
            false => Ok(reply.into_bytes()),
        }
    }

    /// Any command of the program that asks a node, put to this one: what it printed.
    pub fn ask(&self, command: &str, args: &[&str]) -> Result<String, RealNodeError> {
        self.command(command, args).map(|(printed, _)| printed)
    }

    fn command(&self, name: &str, args: &[&str]) -> Result<(String, String), RealNodeError> {
        let mut command = Command::new(&self.program);
        command
            .args([name, NAME, "--address", &self.address])
            .args(args)
            .env("WASM_NODE_COOKIE", &self.home.cookie);
        output(&mut command)?.map_err(RealNodeError::Command)
    }
}

impl Drop for RealNode {
    fn drop(&mut self) {
        // It may have ended already; either way it is gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The node's folder, which goes with this.
#[derive(Debug)]
struct Home {
    folder: PathBuf,
    cookie: String,
}

impl Home {
    fn new() -> Result<Self, RealNodeError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let place = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wasm-node-test-{}-{place}", std::process::id());
        let home = Self {
            folder: std::env::temp_dir().join(name),
            // The standard library's hash keys are random.
            cookie: format!(
                "{:016x}{:016x}",
                RandomState::new().hash_one(1),
                RandomState::new().hash_one(2)
            ),
        };
        std::fs::create_dir_all(home.modules())
            .map_err(|error| RealNodeError::Start(format!("{}: {error}", home.folder.display())))?;
        Ok(home)
    }

    fn modules(&self) -> PathBuf {
        self.folder.join("modules")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // What cannot be removed is in the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What a command printed, without the line's end, and what it said besides; or, if it failed,
/// what it said.
fn output(command: &mut Command) -> Result<Result<(String, String), String>, RealNodeError> {
    let output = command.stdin(Stdio::null()).output();
    let program = Path::new(command.get_program()).to_owned();
    let Output {
        status,
        stdout,
        stderr,
    } = output.map_err(|error| no_program(&program, &error))?;
    let said = String::from_utf8_lossy(&stderr).into_owned();
    if !status.success() {
        return Ok(Err(said));
    }
    let printed = String::from_utf8_lossy(&stdout).into_owned();
    let printed = printed
        .strip_suffix('\n')
        .map(String::from)
        .unwrap_or(printed);
    Ok(Ok((printed, said)))
}

fn no_program(program: &Path, error: &std::io::Error) -> RealNodeError {
    RealNodeError::NoProgram(format!(
        "{}: {error}; install it, or set {PROGRAM_VARIABLE} to its file",
        program.display()
    ))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| Some(c.to_digit(16)? as u8)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect(),
    )
}

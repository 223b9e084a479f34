//! The composition root: one node, put together from its parts.
//!
//! Owns the order in which the parts start and stop, and nothing else: what actors ask of
//! the node is in `services` (global names and locks in `claims`, spawns in `spawns`), the modules are in `modules`,
//! what each module may do in `grants`, the control API in `control`, an app's tree and listeners
//! in `app`.

mod app;
mod attach;
mod claims;
mod control;
mod dump;
mod grants;
mod http;
mod input;
mod log;
mod modules;
mod node_watch;
mod output;
mod services;
mod spawns;
mod user;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use wasm_node_protocol::{Capabilities, Digest, NodeKind, NodeName, Pid, Ref, Signal};

use crate::app::{Manifest, Policy};
use crate::code::{ModuleEvent, WatchError, Watcher};
use crate::dist::{Answer, ConnectError, Dist, DistConfig, StartError};
use crate::http::HttpError;
use crate::process::{Process, Program, Runtime};
use crate::store::{Store, StoreError};
use crate::wasm::{Engine, Home};
use grants::Granting;
use modules::{Loaded, ModuleError, Modules};
use node_watch::NodeWatch;
use spawns::Obtaining;

pub(crate) use input::Questions;
pub(crate) use output::Output;
pub(crate) use user::Console;

/// Whom to connect to at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contact {
    /// A node's name, found with the port mapper.
    Name(NodeName),
    /// `host:port`, without a port mapper.
    Address(String),
}

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Name, cookie, sockets.
    pub dist: DistConfig,
    /// Where code, compiled code and the store are kept; made if missing.
    pub data_dir: PathBuf,
    /// Folders whose `*.wasm` files are the node's modules, watched for changes.
    pub module_dirs: Vec<PathBuf>,
    /// The app that it runs, if any.
    pub app: Option<Manifest>,
    /// What its modules may do at most; what none names, as its app asks.
    pub policy: Policy,
    /// In place of where the app's first HTTP listener would listen.
    pub http: Option<SocketAddr>,
    /// Nodes to connect to. One that does not answer is no error: it is logged.
    pub connect: Vec<Contact>,
    /// Turns that run at once; `None` for one a core.
    pub workers: Option<usize>,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data folder cannot be used.
    #[error("cannot use the data folder {0}: {1}")]
    Data(PathBuf, std::io::Error),
    /// The operating system refused memory or threads.
    #[error("cannot start the engine: {0}")]
    Engine(String),
    /// The store cannot be opened.
    #[error("cannot open the store {0}: {1}")]
    Store(PathBuf, StoreError),
    /// The code store cannot be opened.
    #[error(transparent)]
    Modules(#[from] ModuleError),
    /// The network part did not start.
    #[error(transparent)]
    Dist(#[from] StartError),
    /// A module folder cannot be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The app did not start.
    #[error("app {0}: {1}")]
    App(String, String),
    /// An HTTP listener did not start.
    #[error(transparent)]
    Http(#[from] HttpError),
}

impl NodeError {
    fn address_in_use(&self) -> bool {
        let in_use = std::io::ErrorKind::AddrInUse;
        matches!(self, Self::Http(HttpError::Listen { cause, .. }) if cause.kind() == in_use)
    }
}

/// A running node.
pub struct Node {
    inner: Arc<Inner>,
    app: Option<app::App>,
    _watcher: Option<Watcher>,
}

/// Who waits for the answer to a claim, if not the claimed actor itself.
enum Registering {
    /// Who asked on behalf of another.
    For(Pid),
    /// A node that asked on behalf of one of its own.
    ForNode(Answer),
    /// A new actor, which begins when the name is its own.
    ToBegin(Arc<Process>, Box<dyn Program>),
}

/// What the parts of a node share.
struct Inner {
    this: Weak<Inner>,
    runtime: Arc<Runtime>,
    modules: Modules,
    store: Store,
    dist: OnceLock<Dist>,
    output: Output,
    /// Actors that get `NodeUp` and `NodeDown`.
    node_watch: Mutex<NodeWatch>,
    /// Who waits for a global name that is not its own, or to begin.
    registering: Mutex<HashMap<Ref, Registering>>,
    /// Code that is on its way, or being compiled for the first time.
    obtaining: Mutex<HashMap<(String, Digest), Arc<Obtaining>>>,
    /// Where HTTP is served.
    http: Mutex<Vec<SocketAddr>>,
    kind: NodeKind,
    stopping: watch::Sender<bool>,
    started: Instant,
}

impl Node {
    /// Starts a node; it is ready when this returns: its modules compiled, its app running.
    /// Everything that was started is stopped again if a part fails.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let data = config.data_dir.clone();
        std::fs::create_dir_all(&data).map_err(|error| NodeError::Data(data.clone(), error))?;
        let engine = Engine::new().map_err(|error| NodeError::Engine(format!("{error:#}")))?;
        let store_path = data.join("store.redb");
        let store =
            Store::open(&store_path).map_err(|error| NodeError::Store(store_path, error))?;
        let modules = Modules::open(engine.clone(), &data)?;
        let os = |error: std::io::Error| NodeError::Engine(error.to_string());
        let lanes = config.workers.unwrap_or_else(default_lanes);
        let (name, incarnation) = (config.dist.name.clone(), config.dist.incarnation);
        let io = tokio::runtime::Handle::current();
        let ticking = engine.clone();
        let runtime =
            Runtime::start(name, incarnation, lanes, io, move || ticking.tick()).map_err(os)?;
        let output = Output::start().map_err(os)?;
        let answers = Arc::downgrade(&runtime);
        let answer = move |asker, tag, result| {
            if let Some(runtime) = answers.upgrade() {
                runtime.signal(asker, Signal::Response { tag, result });
            }
        };
        runtime.set_user(Console::new(output.clone(), answer));
        let inner = Arc::new_cyclic(|this| Inner {
            this: this.clone(),
            runtime: runtime.clone(),
            modules,
            store,
            dist: OnceLock::new(),
            output,
            node_watch: Mutex::default(),
            registering: Mutex::default(),
            obtaining: Mutex::default(),
            http: Mutex::default(),
            kind: config.dist.kind,
            stopping: watch::Sender::new(false),
            started: Instant::now(),
        });
        let started = inner.clone().start_parts(config).await;
        if started.is_err() {
            inner.stop().await;
        }
        started
    }

    /// This node's name.
    pub fn name(&self) -> &NodeName {
        self.inner.runtime.name()
    }

    /// The processes.
    pub fn runtime(&self) -> &Arc<Runtime> {
        &self.inner.runtime
    }

    /// The network.
    pub fn dist(&self) -> &Dist {
        self.inner.dist()
    }

    /// Where the app's HTTP listeners listen, in the manifest's order.
    pub fn http_addrs(&self) -> Vec<SocketAddr> {
        self.app
            .as_ref()
            .map(app::App::http_addrs)
            .unwrap_or_default()
    }

    /// Makes these bytes the current version of a module.
    pub async fn load_module(&self, name: &str, bytes: Bytes) -> Result<(), ModuleError> {
        self.inner.load(name, bytes).await
    }

    /// Starts an actor of a module for the node itself. Gives its pid; it may still be
    /// initialising.
    pub fn spawn(
        &self,
        module: &str,
        args: Vec<u8>,
    ) -> Result<Pid, wasm_node_protocol::SpawnError> {
        self.inner.spawn_for_node(module, args, None)
    }

    /// Returns when somebody asked the node to stop, or its app ended.
    pub async fn wait_stopped(&self) {
        let mut stopping = self.inner.stopping.subscribe();
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }

    /// Ends the app, closes the links, and stops.
    pub async fn stop(mut self) {
        if let Some(app) = self.app.take() {
            app.stop(&self.inner).await;
        }
        self.inner.stop().await;
    }
}

impl Inner {
    fn this(&self) -> Arc<Self> {
        // `self` is reached through an `Arc` only, so it is alive.
        self.this.upgrade().expect("an Inner lives in its Arc")
    }

    /// What a component's instance finds around it.
    fn home(&self, process: Arc<Process>) -> Home {
        Home {
            process,
            runtime: self.runtime.clone(),
            services: self.this(),
            keyvalue: self.store.clone(),
        }
    }

    fn dist(&self) -> &Dist {
        // Set by `Host::started`, before the first actor or peer can ask.
        self.dist
            .get()
            .expect("the distribution starts before actors do")
    }

    async fn start_parts(self: Arc<Self>, config: NodeConfig) -> Result<Node, NodeError> {
        self.runtime.set_network(self.clone());
        Dist::start(config.dist, self.clone()).await?;
        let app = config.app.as_ref();
        let granting = Granting::new(config.policy, app).map_err(|error| {
            let name = app.map_or_else(String::new, |app| app.name.clone());
            let words = format!("its modules together: {error}, or give its supervisor's its own");
            NodeError::App(name, words)
        })?;
        self.modules.grant(granting);
        let watcher = match config.module_dirs.is_empty() {
            true => None,
            false => Some(self.watch(config.module_dirs).await?),
        };
        for contact in &config.connect {
            self.contact(contact).await;
        }
        let app = match config.app {
            Some(manifest) => Some(app::App::start(&self, manifest, config.http).await?),
            None => None,
        };
        Ok(Node {
            inner: self,
            app,
            _watcher: watcher,
        })
    }

    /// Makes bytes the current version of a module, and lets its actors move to it.
    async fn load(&self, name: &str, bytes: Bytes) -> Result<(), ModuleError> {
        let begun = Instant::now();
        if let Loaded::New(digest) = self.modules.load(name, bytes).await? {
            let ms = begun.elapsed().as_millis();
            tracing::info!(module = name, %digest, ms, "module loaded");
            for process in self.runtime.all() {
                if process.label() == name {
                    process.notify();
                }
            }
        }
        Ok(())
    }

    /// Loads what is in the folders, and from now on what changes there.
    async fn watch(self: &Arc<Self>, folders: Vec<PathBuf>) -> Result<Watcher, NodeError> {
        let io = self.runtime.io();
        let started = io.spawn_blocking(move || Watcher::start(folders)).await;
        let (watcher, there, mut changes) =
            started.map_err(|error| NodeError::Engine(error.to_string()))??;
        for event in there {
            self.module_event(event).await;
        }
        let this = self.clone();
        let mut stopping = self.stopping.subscribe();
        io.spawn(async move {
            loop {
                let event = tokio::select! {
                    event = changes.recv() => event,
                    _ = stopping.changed() => None,
                };
                let Some(event) = event else { return };
                this.module_event(event).await;
            }
        });
        Ok(watcher)
    }

    async fn module_event(&self, event: ModuleEvent) {
        match event {
            ModuleEvent::Changed { name, bytes, .. } => {
                if let Err(error) = self.load(&name, bytes).await {
                    tracing::error!(module = name, %error, "version refused, nothing has changed");
                }
            }
            ModuleEvent::Broken { name, path, reason } => tracing::error!(
                module = name, file = %path.display(), reason, "version refused, nothing has changed"
            ),
            // Its actors go on with what they have.
            ModuleEvent::Removed { name } => tracing::info!(module = name, "module file removed"),
        }
    }

    async fn contact(&self, contact: &Contact) {
        let result: Result<_, ConnectError> = match contact {
            Contact::Name(name) => self.dist().keep_connected(name).await,
            Contact::Address(address) => self.dist().connect_address(address, true).await,
        };
        if let Err(error) = result {
            tracing::warn!(?contact, %error, "not connected");
        }
    }

    fn spawn_for_node(
        &self,
        module: &str,
        args: Vec<u8>,
        name: Option<String>,
    ) -> Result<Pid, wasm_node_protocol::SpawnError> {
        let missing = || wasm_node_protocol::SpawnError::NoSuchModule(module.into());
        let slot = self.modules.find(module).ok_or_else(missing)?;
        let options = wasm_node_protocol::SpawnOptions {
            name,
            capabilities: Some(Capabilities::EVERYTHING),
            ..Default::default()
        };
        self.start_actor(slot, args, None, options, |_| {})
    }

    async fn stop(&self) {
        self.stopping.send_replace(true);
        if let Some(dist) = self.dist.get() {
            dist.stop().await;
        }
        self.runtime.stop();
        let output = self.output.clone();
        let flush = move || output.flush(FLUSH_TIMEOUT);
        let _ = tokio::task::spawn_blocking(flush).await;
    }
}

/// A lane a core.
fn default_lanes() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// How long what actors printed may take to be shown when the node stops.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an app may take to start, and to stop.
const APP_TIMEOUT: Duration = Duration::from_secs(60);

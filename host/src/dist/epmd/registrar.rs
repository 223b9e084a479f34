//! Keeps this node's name with the machine's port mapper, and becomes the port mapper itself
//! when there is none.
//!
//! Contract: after [`Registrar::start`] the name stays registered, through the death of the
//! port mapper: its connection breaks, every node tries again, and whoever binds the port
//! first serves the others. Ends when dropped.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::Rng;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::{Entry, EpmdError, Server, local, register};

/// How long a start waits for a name that an ended node may just be giving up, and for a port
/// mapper that is just starting, in milliseconds.
const MAX_START_MS: u64 = 1_000;

/// The pause between two tries, in milliseconds, at first; it doubles up to [`MAX_RETRY_MS`].
const MIN_RETRY_MS: u64 = 20;

/// The longest pause between two tries, in milliseconds. Tries go on for ever.
const MAX_RETRY_MS: u64 = 2_000;

/// Where to register, and where to serve if nobody does.
#[derive(Clone, Debug)]
pub struct RegistrarConfig {
    /// The port mapper's port.
    pub port: u16,
    /// The address to serve on if there is no port mapper: this machine's loopback, unless
    /// nodes of other machines are to find this one.
    pub serve_on: IpAddr,
}

/// Keeps the name registered until dropped.
pub struct Registrar {
    task: JoinHandle<()>,
}

impl Registrar {
    /// Registers; errors if the name is taken or the port is served by something else.
    pub async fn start(config: RegistrarConfig, entry: Entry) -> Result<Self, EpmdError> {
        let deadline = Instant::now() + Duration::from_millis(MAX_START_MS);
        let mut serving = None;
        let mut retry = Retry::default();
        let stream = loop {
            match attempt(&config, &entry, &mut serving).await {
                Ok(stream) => break stream,
                Err(error) if Instant::now() >= deadline || !may_pass(&error) => return Err(error),
                Err(_) => retry.pause().await,
            }
        };
        Ok(Self {
            task: tokio::spawn(keep(config, entry, stream, serving)),
        })
    }
}

impl Drop for Registrar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The server of this node, if it is the one that serves.
type Serving = Option<ServerTask>;

struct ServerTask(JoinHandle<()>);

impl Drop for ServerTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn may_pass(error: &EpmdError) -> bool {
    !matches!(error, EpmdError::Garbled(..))
}

async fn keep(config: RegistrarConfig, entry: Entry, mut stream: TcpStream, mut serving: Serving) {
    loop {
        let mut byte = [0; 64];
        while matches!(stream.read(&mut byte).await, Ok(n) if n > 0) {}
        tracing::info!(
            name = entry.name,
            "the port mapper went away: registering anew"
        );
        let mut retry = Retry::default();
        stream = loop {
            match attempt(&config, &entry, &mut serving).await {
                Ok(stream) => break stream,
                Err(error) => {
                    if retry.ms >= MAX_RETRY_MS {
                        tracing::warn!(name = entry.name, %error, "not registered with the port mapper: trying on");
                    }
                    retry.pause().await;
                }
            }
        };
    }
}

/// Registers once, with a server of our own if nobody answers.
async fn attempt(
    config: &RegistrarConfig,
    entry: &Entry,
    serving: &mut Serving,
) -> Result<TcpStream, EpmdError> {
    let at = local(config.port);
    match register(at, entry).await {
        Err(EpmdError::Unreachable(_, refused)) => {
            let on = SocketAddr::new(config.serve_on, config.port);
            match Server::bind(on).await {
                Ok(server) => {
                    tracing::info!(%on, "no port mapper answered: this node serves as one");
                    *serving = Some(ServerTask(tokio::spawn(server.run())));
                    register(at, entry).await
                }
                // Another node was quicker: the next try finds it.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    Err(EpmdError::Unreachable(at, refused))
                }
                Err(error) => Err(EpmdError::Io(on, error)),
            }
        }
        other => other,
    }
}

struct Retry {
    ms: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self { ms: MIN_RETRY_MS }
    }
}

impl Retry {
    async fn pause(&mut self) {
        // Apart by chance, so that nodes that lost one port mapper together do not race in step.
        let ms = rand::rng().random_range(self.ms / 2..=self.ms);
        sleep(Duration::from_millis(ms)).await;
        self.ms = (self.ms * 2).min(MAX_RETRY_MS);
    }
}

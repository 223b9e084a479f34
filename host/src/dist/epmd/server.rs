//! The port mapper itself: keeps the names of the nodes whose connections are open.
//!
//! Contract: a name belongs to the connection that registered it and goes with it. What is
//! registered lives in memory only: when the node that serves dies, the others register anew
//! with the next server (see the registrar).

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BufMut;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::MAX_EXCHANGE_MS;
use super::format::{
    self, ALIVE2_RESP, ALIVE2_X_RESP, Entry, MAX_REQUEST_BYTES, PORT2_RESP, Request,
};

/// How many clients are served at once; further ones are closed at once.
const MAX_CLIENTS: usize = 1024;

/// How long the server rests when the system refuses it a connection, in milliseconds.
const ACCEPT_REST_MS: u64 = 20;

/// A port mapper that is bound and waits to be run.
pub struct Server {
    listener: TcpListener,
    names: Arc<Mutex<Names>>,
}

/// What is registered. Pure: no sockets, no time.
#[derive(Default)]
struct Names {
    entries: BTreeMap<String, Entry>,
    creation: u32,
}

impl Names {
    /// The creation number of the registration, or none if the name is taken.
    fn register(&mut self, entry: Entry) -> Option<u32> {
        if self.entries.contains_key(&entry.name) {
            return None;
        }
        // Erlang keeps creations 0 to 3 for itself.
        self.creation = self.creation.wrapping_add(1).max(4);
        self.entries.insert(entry.name.clone(), entry);
        Some(self.creation)
    }

    fn list(&self, port: u16) -> Vec<u8> {
        let mut answer = u32::from(port).to_be_bytes().to_vec();
        for entry in self.entries.values() {
            answer.extend(format!("name {} at port {}\n", entry.name, entry.port).into_bytes());
        }
        answer
    }

    fn look_up(&self, name: &[u8]) -> Vec<u8> {
        let entry = std::str::from_utf8(name)
            .ok()
            .and_then(|name| self.entries.get(name));
        let Some(entry) = entry else {
            return vec![PORT2_RESP, 1];
        };
        let mut answer = vec![PORT2_RESP, 0];
        entry.encode(&mut answer);
        answer
    }
}

impl Server {
    /// Binds; errors with `AddrInUse` if there is a port mapper already.
    pub async fn bind(at: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(at).await?,
            names: Arc::default(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until dropped.
    pub async fn run(self) {
        let port = self.address().map_or(0, |at| at.port());
        let room = Arc::new(Semaphore::new(MAX_CLIENTS));
        let mut clients = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = clients.join_next() => continue,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the port mapper could not take a connection");
                    tokio::time::sleep(Duration::from_millis(ACCEPT_REST_MS)).await;
                    continue;
                }
            };
            let Ok(permit) = room.clone().try_acquire_owned() else {
                tracing::warn!("the port mapper refused a client: it has {MAX_CLIENTS}");
                continue;
            };
            let names = self.names.clone();
            clients.spawn(async move {
                // A client that goes away in the middle is its own affair.
                let _ = serve(stream, &names, port).await;
                drop(permit);
            });
        }
    }
}

async fn serve(mut stream: TcpStream, names: &Mutex<Names>, port: u16) -> io::Result<()> {
    let limit = Duration::from_millis(MAX_EXCHANGE_MS);
    let request = timeout(limit, read_request(&mut stream)).await??;
    match format::request(&request) {
        None => Err(io::ErrorKind::InvalidData.into()),
        Some(Request::Alive(entry)) => keep(stream, names, entry).await,
        Some(other) => {
            let answer = match other {
                Request::Port(name) => names.lock().look_up(name),
                Request::Names => names.lock().list(port),
                Request::Alive(_) | Request::Refused => b"NO".to_vec(),
            };
            timeout(limit, stream.write_all(&answer)).await??;
            timeout(limit, stream.shutdown()).await?
        }
    }
}

/// Keeps a name for as long as the connection of its node is open.
async fn keep(mut stream: TcpStream, names: &Mutex<Names>, entry: Entry) -> io::Result<()> {
    let (name, wide) = (entry.name.clone(), entry.versions.0 >= 6);
    let registered = names.lock().register(entry);
    let _unregister = registered.map(|_| Unregister { names, name });
    let mut answer = vec![
        if wide { ALIVE2_X_RESP } else { ALIVE2_RESP },
        u8::from(registered.is_none()),
    ];
    match (wide, registered.unwrap_or(99)) {
        (true, creation) => answer.put_u32(creation),
        (false, creation) => answer.put_u16((creation % 3 + 1) as u16),
    }
    timeout(
        Duration::from_millis(MAX_EXCHANGE_MS),
        stream.write_all(&answer),
    )
    .await??;
    if registered.is_none() {
        return Ok(());
    }
    // A node has nothing more to say: what comes now is the end, or is ignored.
    let mut rest = [0; 64];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

struct Unregister<'a> {
    names: &'a Mutex<Names>,
    name: String,
}

impl Drop for Unregister<'_> {
    fn drop(&mut self) {
        self.names.lock().entries.remove(&self.name);
    }
}

async fn read_request(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let len = usize::from(stream.read_u16().await?);
    if len > MAX_REQUEST_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut request = vec![0; len];
    stream.read_exact(&mut request).await?;
    Ok(request)
}

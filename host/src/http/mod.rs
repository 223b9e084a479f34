//! HTTP ingress: a request on a socket becomes a call of a [`RequestHandler`].
//!
//! Owns the listening socket, the connections, and the limits on what a client may send and
//! how slowly. A request that keeps to them reaches the handler; any other is answered here,
//! as is one whose handler fails. It does not decide who answers a request, and knows no
//! application. [`Instances`] is the handler that calls a `wasi:http` component; where the guest
//! runs is its [`InstanceSource`]'s choice.

mod body;
mod component;
mod connection;
mod instances;
mod stall;
#[cfg(test)]
mod tests;

use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use hyper::{Request, Response, StatusCode};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use wasmtime_wasi_http::WasiBody;

pub use self::{
    body::RequestBody,
    connection::text_response,
    instances::{
        EndInstance, InstanceSource, Instances, MAX_IDLE_INSTANCES, MAX_REQUESTS_PER_INSTANCE,
        Worker,
    },
};

/// Connections at once; further clients wait in the operating system's queue.
pub const MAX_CONNECTIONS: usize = 1024;
/// Method, target and version; a longer request line is answered with 414.
pub const MAX_REQUEST_LINE_BYTES: usize = 16 * 1024;
/// Request line and headers; more is answered with 431.
pub const MAX_HEAD_BYTES: usize = 32 * 1024;
/// A request's body; more is answered with 413.
pub const MAX_BODY_BYTES: u64 = 1024 * 1024;
/// For a whole head, and for an idle connection to send the next; then it is closed.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// For each next piece of a body; then the answer is 408.
pub const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// For the client to take more of a response; then the connection is cut.
pub const WRITE_STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// From a request's head to its response's; then the handler is dropped, the answer is 503.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// For requests under way to end when the ingress stops; then they are cut.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// What a client may send, and how long things may take; the defaults are the constants here.
#[derive(Clone, Debug)]
pub struct HttpLimits {
    /// As [`MAX_CONNECTIONS`].
    pub max_connections: usize,
    /// As [`MAX_REQUEST_LINE_BYTES`].
    pub max_request_line_bytes: usize,
    /// As [`MAX_HEAD_BYTES`].
    pub max_head_bytes: usize,
    /// As [`MAX_BODY_BYTES`].
    pub max_body_bytes: u64,
    /// As [`HEAD_TIMEOUT`].
    pub head_timeout: Duration,
    /// As [`BODY_IDLE_TIMEOUT`].
    pub body_idle_timeout: Duration,
    /// As [`WRITE_STALL_TIMEOUT`].
    pub write_stall_timeout: Duration,
    /// As [`REQUEST_TIMEOUT`].
    pub request_timeout: Duration,
    /// As [`SHUTDOWN_GRACE`].
    pub shutdown_grace: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_connections: MAX_CONNECTIONS,
            max_request_line_bytes: MAX_REQUEST_LINE_BYTES,
            max_head_bytes: MAX_HEAD_BYTES,
            max_body_bytes: MAX_BODY_BYTES,
            head_timeout: HEAD_TIMEOUT,
            body_idle_timeout: BODY_IDLE_TIMEOUT,
            write_stall_timeout: WRITE_STALL_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
            shutdown_grace: SHUTDOWN_GRACE,
        }
    }
}

/// Where to listen, and within what limits.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// The address; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// The limits.
    pub limits: HttpLimits,
}

/// Why an ingress did not start.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The user's: the address cannot be had.
    #[error(
        "cannot listen for HTTP on {listen}: {cause}; choose another address, or stop what has it"
    )]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the operating system said.
        cause: std::io::Error,
    },
}

/// Why a handler has no response.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// The client's: it cannot be passed on. Answered with 400 and this text.
    #[error("the request cannot be passed on: {0}")]
    Request(String),
    /// The guest's: it trapped, or ended without an answer. Answered with 500; the text is
    /// for the log only.
    #[error("the component failed: {0}")]
    Guest(String),
    /// Ours: there is no capacity right now. Answered with 503 and `Retry-After`; the text is
    /// for the log only.
    #[error("the request cannot be served now: {0}")]
    Unavailable(String),
}

/// The future of a response. Dropped before it is ready when the client has gone or the
/// request's time is up: whatever works on it should end then.
pub type ResponseFuture =
    Pin<Box<dyn Future<Output = Result<Response<WasiBody>, HandlerError>> + Send>>;

/// What answers requests. Polled on the I/O runtime, so it must not compute there.
pub trait RequestHandler: Send + Sync {
    /// Answers one request. The response may be ready before its body is.
    fn handle(&self, request: Request<RequestBody>) -> ResponseFuture;
}

/// A listening socket and its connections. Dropped, it stops as by [`Ingress::stop`], but
/// nobody waits.
pub struct Ingress {
    local_addr: SocketAddr,
    stopping: watch::Sender<bool>,
    acceptor: JoinHandle<()>,
}

impl Ingress {
    /// Listens from now on; all work but the guests' is done on `io`, which needs its timers.
    pub fn start(
        io: &tokio::runtime::Handle,
        config: HttpConfig,
        handler: Arc<dyn RequestHandler>,
    ) -> Result<Self, HttpError> {
        let HttpConfig { listen, limits } = config;
        let _context = io.enter();
        let bind = || {
            let listener = std::net::TcpListener::bind(listen)?;
            listener.set_nonblocking(true)?;
            let local_addr = listener.local_addr()?;
            Ok((TcpListener::from_std(listener)?, local_addr))
        };
        let (listener, local_addr) = bind().map_err(|cause| HttpError::Listen { listen, cause })?;
        let (stopping, stopped) = watch::channel(false);
        let server = connection::Server {
            handler,
            limits: Arc::new(limits),
            local_addr,
        };
        let acceptor = io.spawn(connection::accept(listener, server, stopped));
        Ok(Self {
            local_addr,
            stopping,
            acceptor,
        })
    }

    /// Where it listens, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Takes no further connections and requests, lets those under way end within
    /// [`HttpLimits::shutdown_grace`], and cuts the rest.
    pub async fn stop(self) {
        self.stopping.send_replace(true);
        if let Err(error) = self.acceptor.await {
            tracing::error!(%error, "the HTTP acceptor failed");
        }
    }
}

impl HandlerError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Request(_) => StatusCode::BAD_REQUEST,
            Self::Guest(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

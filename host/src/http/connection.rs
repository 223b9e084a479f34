//! Connections: accepting them, what is refused before a handler sees it, and the answers
//! when there is none from a handler.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Uri, Version,
    body::{Body as _, Incoming},
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};
use wasmtime_wasi_http::WasiBody;

use super::{HandlerError, HttpLimits, RequestBody, RequestHandler, stall::StallGuard};

/// Head bytes that are read at all. A head between its limit and this gets a text and keeps
/// its connection; beyond, hyper answers 431 with no body and closes.
const MAX_BUFFERED_HEAD_BYTES: usize = 256 * 1024;

/// Headers in one request; with more, hyper answers 431.
const MAX_HEADERS: usize = 100;

/// Pause after the operating system refused to accept, most likely for lack of descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// When a client may come again after a 503.
const RETRY_AFTER_SECONDS: &str = "1";

/// What all connections share.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) handler: Arc<dyn RequestHandler>,
    pub(super) limits: Arc<HttpLimits>,
    pub(super) local_addr: SocketAddr,
}

/// Accepts until told to stop, then waits for the connections to end.
pub(super) async fn accept(
    listener: TcpListener,
    server: Server,
    mut stopping: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(server.limits.max_connections));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = told_to_stop(&mut stopping) => break,
            (permit, socket) = next_client(&listener, &permits) => {
                let serve = serve(socket, server.clone(), stopping.clone(), permit);
                connections.spawn(serve);
            }
            Some(ended) = connections.join_next() => log_panic(ended),
        }
    }
    drop(listener);
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    };
    if tokio::time::timeout(server.limits.shutdown_grace, all_ended)
        .await
        .is_err()
    {
        tracing::warn!(
            connections = connections.len(),
            "HTTP connections did not end in time and are cut"
        );
    }
}

/// Resolves when the ingress is stopped, or dropped.
async fn told_to_stop(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "an HTTP connection's task failed");
    }
}

/// The next client, once there is room for it.
async fn next_client(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> (Option<OwnedSemaphorePermit>, TcpStream) {
    // The semaphore is never closed.
    let permit = permits.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((socket, _)) => return (permit, socket),
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn serve(
    socket: TcpStream,
    server: Server,
    mut stopping: watch::Receiver<bool>,
    _permit: Option<OwnedSemaphorePermit>,
) {
    // Responses are written whole; waiting for more to send only delays them.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let io = TokioIo::new(StallGuard::new(socket, server.limits.write_stall_timeout));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(server.limits.head_timeout)
        .max_buf_size(MAX_BUFFERED_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    let mut connection = pin!(builder.serve_connection(
        io,
        service_fn(|request| {
            let server = &server;
            async move { Ok::<_, Infallible>(server.respond(request).await) }
        }),
    ));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = told_to_stop(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

impl Server {
    async fn respond(&self, mut request: Request<Incoming>) -> Response<WasiBody> {
        if let Some(refusal) = self.refusal(&request) {
            return refusal;
        }
        if !has_host(&request)
            && let Ok(host) = HeaderValue::try_from(self.local_addr.to_string())
        {
            // HTTP/1.0 knows no Host, but components are promised an authority.
            request.headers_mut().insert(header::HOST, host);
        }
        let method = request.method().clone();
        let uri = request.uri().clone();
        let (parts, body) = request.into_parts();
        let limits = &self.limits;
        // A client that waits to be told to go on may never send the body of an answered request.
        let drain = (!parts.headers.contains_key(header::EXPECT)).then(Handle::current);
        let (body, fault) =
            RequestBody::new(body, limits.max_body_bytes, limits.body_idle_timeout, drain);
        let response = self.handler.handle(Request::from_parts(parts, body));
        let response = tokio::time::timeout(limits.request_timeout, response).await;
        if let Some(status) = fault.status() {
            return self.body_refusal(status);
        }
        match response {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                tracing::error!(%method, path = uri.path(), %error, "an HTTP request failed");
                failure(&error)
            }
            Err(_) => {
                tracing::error!(
                    %method,
                    path = uri.path(),
                    seconds = limits.request_timeout.as_secs_f32(),
                    "an HTTP request got no response in time"
                );
                unavailable("no response in time; try again\n")
            }
        }
    }

    /// The answer to what no handler needs to see.
    fn refusal(&self, request: &Request<Incoming>) -> Option<Response<WasiBody>> {
        let limits = &self.limits;
        let line = request_line_bytes(request.method(), request.uri());
        if line > limits.max_request_line_bytes {
            let limit = limits.max_request_line_bytes;
            return Some(text_response(
                StatusCode::URI_TOO_LONG,
                format!("the request line has {line} bytes, the limit is {limit}\n"),
            ));
        }
        let head = line + header_bytes(request.headers());
        if head > limits.max_head_bytes {
            let limit = limits.max_head_bytes;
            return Some(text_response(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                format!("the request's head has {head} bytes, the limit is {limit}\n"),
            ));
        }
        if request.body().size_hint().lower() > limits.max_body_bytes {
            return Some(self.body_refusal(StatusCode::PAYLOAD_TOO_LARGE));
        }
        if !has_host(request) && request.version() >= Version::HTTP_11 {
            let text = "the Host header is missing\n";
            return Some(text_response(StatusCode::BAD_REQUEST, text));
        }
        None
    }

    fn body_refusal(&self, status: StatusCode) -> Response<WasiBody> {
        let limits = &self.limits;
        let text = if status == StatusCode::PAYLOAD_TOO_LARGE {
            format!(
                "the body is over the limit of {} bytes\n",
                limits.max_body_bytes
            )
        } else {
            format!(
                "the body did not come: nothing for {} s\n",
                limits.body_idle_timeout.as_secs_f32()
            )
        };
        let mut response = text_response(status, text);
        // The rest of the body is not worth reading to get to the next request.
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

fn has_host(request: &Request<Incoming>) -> bool {
    request.headers().contains_key(header::HOST) || request.uri().authority().is_some()
}

fn request_line_bytes(method: &Method, uri: &Uri) -> usize {
    let target = uri
        .scheme_str()
        .map_or(0, |scheme| scheme.len() + "://".len())
        + uri
            .authority()
            .map_or(0, |authority| authority.as_str().len())
        + uri.path_and_query().map_or(0, |path| path.as_str().len());
    method.as_str().len() + " ".len() + target + " HTTP/1.1\r\n".len()
}

fn header_bytes(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + ": ".len() + value.len() + "\r\n".len())
        .sum()
}

/// A response with a plain text.
pub fn text_response(status: StatusCode, text: impl Into<Bytes>) -> Response<WasiBody> {
    let body = Full::new(text.into()).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

fn unavailable(text: &'static str) -> Response<WasiBody> {
    let mut response = text_response(StatusCode::SERVICE_UNAVAILABLE, text);
    response.headers_mut().insert(
        header::RETRY_AFTER,
        HeaderValue::from_static(RETRY_AFTER_SECONDS),
    );
    response
}

fn failure(error: &HandlerError) -> Response<WasiBody> {
    match error {
        HandlerError::Request(text) => text_response(error.status(), format!("{text}\n")),
        HandlerError::Guest(_) => text_response(
            error.status(),
            "the component behind this address failed; its node's log has the reason\n",
        ),
        HandlerError::Unavailable(_) => unavailable("no capacity right now; try again\n"),
    }
}

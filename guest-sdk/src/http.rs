//! Components that answer HTTP: `wasi:http/incoming-handler`, with requests and responses as
//! plain values. Bodies are read and written whole, within a limit.
//!
//! A handler is no actor with turns: the node makes an instance for requests, and within one
//! the handler asks actors with [`blocking`](crate::blocking).

#[doc(hidden)]
#[allow(missing_docs, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../wit/deps/keyvalue", "wit"],
        world: "wasm-node:sdk/http-handler",
        pub_export_macro: true,
        export_macro_name: "export_incoming_handler",
        default_bindings_module: "wasm_node_sdk::http::bindings",
        runtime_path: "wasm_node_sdk::__wit_bindgen_rt",
        disable_run_ctors_once_workaround: true,
        generate_all,
    });
}

use std::fmt;

use bindings::wasi::http::types as wasi;
use bindings::wasi::io::streams::StreamError;

/// One read of a body, in bytes, as the host grants them.
const READ_BYTES: u64 = 64 * 1024;
/// One write of a body, in bytes: what `blocking-write-and-flush` takes.
const WRITE_BYTES: usize = 4096;

/// A component that answers HTTP requests.
pub trait HttpHandler {
    /// Answers one request.
    fn handle(request: Request) -> Response;
}

/// A request. Its body is read on demand.
pub struct Request {
    /// In upper case, as `GET`.
    pub method: String,
    /// As sent: still percent-encoded.
    pub path_and_query: String,
    /// Names in lower case, in the order sent.
    pub headers: Vec<(String, Vec<u8>)>,
    request: wasi::IncomingRequest,
}

/// Why a body could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyError {
    /// It has more bytes than this limit: answer 413.
    TooLarge(usize),
    /// The client went away, or it was read before.
    Broken,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::TooLarge(limit) => write!(f, "the body has more than {limit} bytes"),
            BodyError::Broken => f.write_str("the body could not be read"),
        }
    }
}
impl std::error::Error for BodyError {}

impl Request {
    /// The path, without the query.
    pub fn path(&self) -> &str {
        self.path_and_query
            .split_once('?')
            .map_or(&self.path_and_query, |(path, _)| path)
    }

    /// The query, still percent-encoded, without the `?`; empty for none.
    pub fn query(&self) -> &str {
        self.path_and_query
            .split_once('?')
            .map_or("", |(_, query)| query)
    }

    /// The first header of that name (in lower case), if it is UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        std::str::from_utf8(value).ok()
    }

    /// The body, once. At most `limit` bytes of it are ever read.
    pub fn body(&self, limit: usize) -> Result<Vec<u8>, BodyError> {
        let body = self.request.consume().map_err(|()| BodyError::Broken)?;
        let stream = body.stream().map_err(|()| BodyError::Broken)?;
        let mut bytes = Vec::new();
        loop {
            match stream.blocking_read(READ_BYTES) {
                Ok(part) => {
                    if bytes.len() + part.len() > limit {
                        return Err(BodyError::TooLarge(limit));
                    }
                    bytes.extend_from_slice(&part);
                }
                Err(StreamError::Closed) => return Ok(bytes),
                Err(StreamError::LastOperationFailed(_)) => return Err(BodyError::Broken),
            }
        }
    }
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Those that the host does not set by itself.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body. `content-length` is set for it unless the headers have one.
    pub body: Vec<u8>,
}

impl Response {
    /// A text, in UTF-8.
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: text.into().into_bytes(),
        }
        .header("content-type", "text/plain; charset=utf-8")
    }

    /// With one more header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.as_bytes().to_vec()));
        self
    }
}

#[doc(hidden)]
pub fn serve<H: HttpHandler>(request: wasi::IncomingRequest, out: wasi::ResponseOutparam) {
    crate::io::install_panic_hook();
    let method = match request.method() {
        wasi::Method::Get => "GET".into(),
        wasi::Method::Head => "HEAD".into(),
        wasi::Method::Post => "POST".into(),
        wasi::Method::Put => "PUT".into(),
        wasi::Method::Delete => "DELETE".into(),
        wasi::Method::Connect => "CONNECT".into(),
        wasi::Method::Options => "OPTIONS".into(),
        wasi::Method::Trace => "TRACE".into(),
        wasi::Method::Patch => "PATCH".into(),
        wasi::Method::Other(other) => other,
    };
    let headers = request.headers().entries();
    let path_and_query = request.path_with_query().unwrap_or_else(|| "/".into());
    send(
        H::handle(Request {
            method,
            path_and_query,
            headers,
            request,
        }),
        out,
    );
}

fn send(response: Response, out: wasi::ResponseOutparam) {
    let fields = wasi::Fields::new();
    for (name, value) in &response.headers {
        // A name or value that HTTP does not allow: leave it out rather than fail the request.
        if fields.append(name, value).is_err() {
            crate::eprintln!("the response header {name:?} is not allowed and was left out");
        }
    }
    if !fields.has("content-length") {
        let _ = fields.append("content-length", response.body.len().to_string().as_bytes());
    }
    let outgoing = wasi::OutgoingResponse::new(fields);
    let _ = outgoing.set_status_code(response.status);
    let body = outgoing.body();
    wasi::ResponseOutparam::set(out, Ok(outgoing));
    let Ok(body) = body else { return };
    if let Ok(stream) = body.write() {
        for part in response.body.chunks(WRITE_BYTES) {
            // The client went away: there is nobody to tell.
            if stream.blocking_write_and_flush(part).is_err() {
                break;
            }
        }
    }
    let _ = wasi::OutgoingBody::finish(body, None);
}

/// Makes this crate the component of an [`HttpHandler`]. Once a component.
#[macro_export]
macro_rules! export_http_handler {
    ($handler:ty) => {
        const _: () = {
            #[allow(dead_code)]
            struct Export;
            impl $crate::http::bindings::exports::wasi::http::incoming_handler::Guest for Export {
                fn handle(
                    request: $crate::http::bindings::wasi::http::types::IncomingRequest,
                    out: $crate::http::bindings::wasi::http::types::ResponseOutparam,
                ) {
                    $crate::http::serve::<$handler>(request, out);
                }
            }
            // Other linkers than wasm's do not take the contract's export names.
            #[cfg(target_arch = "wasm32")]
            const _: () = {
                $crate::http::bindings::export_incoming_handler!(
                    Export with_types_in $crate::http::bindings
                );
            };
        };
    };
}

//! The ingress over real sockets, with handlers of the host's own.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Notify, mpsc},
};
use wasmtime_wasi_http::Error;

use super::*;

/// Longer than any wait here should take; only a failing test lasts that long.
const PATIENCE: Duration = Duration::from_secs(20);

impl<F> RequestHandler for F
where
    F: Fn(Request<RequestBody>) -> ResponseFuture + Send + Sync,
{
    fn handle(&self, request: Request<RequestBody>) -> ResponseFuture {
        self(request)
    }
}

fn start(limits: HttpLimits, handler: impl RequestHandler + 'static) -> Ingress {
    let config = HttpConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        limits,
    };
    Ingress::start(
        &tokio::runtime::Handle::current(),
        config,
        Arc::new(handler),
    )
    .unwrap()
}

/// Answers with method, target, and the body's length.
fn describe(request: Request<RequestBody>) -> ResponseFuture {
    Box::pin(async move {
        let head = format!("{} {}", request.method(), request.uri());
        let body = request
            .into_body()
            .collect()
            .await
            .map_err(|error| HandlerError::Guest(error.to_string()))?;
        let text = format!("{head} {}", body.to_bytes().len());
        Ok(text_response(StatusCode::OK, text))
    })
}

/// A body that is what comes through a channel.
struct Piped(mpsc::Receiver<Bytes>);

impl Body for Piped {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let piece = self.0.poll_recv(context);
        piece.map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

struct Client(TcpStream);

impl Client {
    async fn connect(ingress: &Ingress) -> Self {
        Self(TcpStream::connect(ingress.local_addr()).await.unwrap())
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A server that refuses early may have closed already.
        let _ = self.0.write_all(bytes.as_ref()).await;
    }

    /// One response with a length: its status, head and body.
    async fn response(&mut self) -> (u16, String, String) {
        let mut bytes = Vec::new();
        let head = loop {
            let mut byte = [0];
            let read = tokio::time::timeout(PATIENCE, self.0.read(&mut byte));
            let read = read.await.expect("a response in time").unwrap();
            assert_eq!(read, 1, "closed in the head: {bytes:?}");
            bytes.push(byte[0]);
            if bytes.ends_with(b"\r\n\r\n") {
                break String::from_utf8(bytes).unwrap().to_ascii_lowercase();
            }
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head, String::from_utf8(body).unwrap())
    }

    async fn ask(&mut self, request: &str) -> (u16, String, String) {
        self.send(request).await;
        self.response().await
    }

    /// All that comes until the server closes.
    async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut bytes))
            .await
            .expect("an end in time")
            .unwrap_or_default();
        bytes
    }
}

#[tokio::test]
async fn requests_share_a_connection_and_errors_do_not_end_it() {
    let ingress = start(HttpLimits::default(), |request: Request<RequestBody>| {
        if request.uri().path() == "/trap" {
            let error = HandlerError::Guest("wasm trap: secret".into());
            return Box::pin(async { Err(error) }) as ResponseFuture;
        }
        describe(request)
    });
    let mut client = Client::connect(&ingress).await;
    let (status, head, body) = client.ask("GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!((status, body.as_str()), (200, "GET /a?b=c 0"));
    assert!(
        head.contains("content-type: text/plain; charset=utf-8"),
        "{head}"
    );

    let (status, head, body) = client.ask("GET /trap HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(status, 500);
    assert!(
        head.contains("text/plain") && !body.contains("secret"),
        "{head}{body}"
    );

    let (status, _, body) = client
        .ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
        .await;
    assert_eq!((status, body.as_str()), (200, "POST / 5"));
    let (status, _, body) = client
        .ask(
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        )
        .await;
    assert_eq!((status, body.as_str()), (200, "POST / 3"));

    // HEAD has the length of what GET would say, and no body: the next response follows.
    client.send("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client
        .send("GET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await;
    let both = String::from_utf8(client.rest().await).unwrap();
    let (first, second) = both.split_once("\r\n\r\n").unwrap();
    assert!(first.contains("content-length: 8"), "{first}");
    assert!(second.starts_with("HTTP/1.1 200 OK\r\n"), "{second}");
    assert!(second.ends_with("GET /2 0"), "{second}");
}

#[tokio::test]
async fn what_is_over_a_limit_gets_its_own_status_and_a_text() {
    let limits = HttpLimits {
        max_body_bytes: 1000,
        ..HttpLimits::default()
    };
    let ingress = start(limits, describe);
    let mut client = Client::connect(&ingress).await;
    // The line and the head are refused whole, so the connection goes on.
    let long = "x".repeat(MAX_REQUEST_LINE_BYTES);
    let (status, head, body) = client
        .ask(&format!("GET /?{long} HTTP/1.1\r\nHost: x\r\n\r\n"))
        .await;
    assert_eq!(status, 414);
    assert!(
        head.contains("text/plain") && body.contains("limit"),
        "{head}{body}"
    );
    let long = "x".repeat(MAX_HEAD_BYTES);
    let (status, head, body) = client
        .ask(&format!(
            "GET / HTTP/1.1\r\nHost: x\r\nLong: {long}\r\n\r\n"
        ))
        .await;
    assert_eq!(status, 431);
    assert!(
        head.contains("text/plain") && body.contains("limit"),
        "{head}{body}"
    );
    assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.0, 200);

    let (status, _, _) = client.ask("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(status, 400);
    let (status, _, body) = client
        .ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n")
        .await;
    assert_eq!(status, 413);
    assert!(body.contains("1000"), "{body}");

    // A body that does not say its length is found out on the way.
    let mut client = Client::connect(&ingress).await;
    client
        .send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    for _ in 0..11 {
        client.send(format!("64\r\n{}\r\n", "y".repeat(100))).await;
    }
    assert_eq!(client.response().await.0, 413);
    assert_eq!(client.rest().await, b"");

    // Beyond what is read at all, the status is still the right one.
    let mut client = Client::connect(&ingress).await;
    let long = "x".repeat(100 * 1024);
    let (status, ..) = client
        .ask(&format!("GET /?{long} HTTP/1.1\r\nHost: x\r\n\r\n"))
        .await;
    assert_eq!(status, 414);
    let mut client = Client::connect(&ingress).await;
    let many = "A: b\r\n".repeat(200);
    let (status, ..) = client
        .ask(&format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n"))
        .await;
    assert_eq!(status, 431);
    let mut client = Client::connect(&ingress).await;
    assert_eq!(client.ask("no http at all\r\n\r\n").await.0, 400);
}

#[tokio::test]
async fn a_body_that_the_handler_leaves_unread_does_not_cost_the_connection() {
    let ingress = start(HttpLimits::default(), |_: Request<RequestBody>| {
        Box::pin(async { Ok(text_response(StatusCode::OK, "no need")) }) as ResponseFuture
    });
    let mut client = Client::connect(&ingress).await;
    for _ in 0..3 {
        let (status, head, _) = client
            .ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 600000\r\n\r\n")
            .await;
        assert_eq!(status, 200);
        assert!(!head.contains("connection: close"), "{head}");
        client.send(vec![b'x'; 600_000]).await;
    }
}

#[tokio::test]
async fn http_1_0_without_a_host_is_served() {
    let ingress = start(HttpLimits::default(), |request: Request<RequestBody>| {
        let host = request.headers()["host"].to_str().unwrap().to_owned();
        Box::pin(async { Ok(text_response(StatusCode::OK, host)) }) as ResponseFuture
    });
    let mut client = Client::connect(&ingress).await;
    let (status, _, body) = client.ask("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!((status, body), (200, ingress.local_addr().to_string()));
}

#[tokio::test]
async fn slow_clients_and_slow_handlers_run_out_of_time() {
    let (begun, dropped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    struct Guard(Arc<Notify>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let limits = HttpLimits {
        head_timeout: Duration::from_millis(200),
        body_idle_timeout: Duration::from_millis(200),
        request_timeout: Duration::from_secs(1),
        ..HttpLimits::default()
    };
    let ingress = start(limits, {
        let (begun, dropped) = (begun.clone(), dropped.clone());
        move |request: Request<RequestBody>| {
            if request.uri().path() != "/never" {
                return describe(request);
            }
            begun.notify_one();
            let guard = Guard(dropped.clone());
            Box::pin(async move {
                std::future::pending::<()>().await;
                drop(guard);
                Err(HandlerError::Guest(String::new()))
            }) as ResponseFuture
        }
    });
    // Half a head, and none at all.
    for start in ["GET / HTTP/1.1\r\nHo", ""] {
        let mut client = Client::connect(&ingress).await;
        client.send(start).await;
        assert_eq!(client.rest().await, b"");
    }
    // Half a body.
    let mut client = Client::connect(&ingress).await;
    let (status, ..) = client
        .ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        .await;
    assert_eq!(status, 408);
    // A handler without an answer is dropped, and the connection goes on.
    let mut client = Client::connect(&ingress).await;
    let (status, head, _) = client.ask("GET /never HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(status, 503);
    assert!(head.contains("retry-after: 1"), "{head}");
    tokio::time::timeout(PATIENCE, dropped.notified())
        .await
        .unwrap();
    assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.0, 200);
    // A client that goes away takes its request with it.
    begun.notified().await;
    client.send("GET /never HTTP/1.1\r\nHost: x\r\n\r\n").await;
    begun.notified().await;
    drop(client);
    tokio::time::timeout(PATIENCE, dropped.notified())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_client_that_takes_no_response_is_cut_off() {
    let ended = Arc::new(Notify::new());
    let limits = HttpLimits {
        write_stall_timeout: Duration::from_millis(200),
        ..HttpLimits::default()
    };
    let ingress = start(limits, {
        let ended = ended.clone();
        move |_: Request<RequestBody>| {
            let (sender, receiver) = mpsc::channel(1);
            let ended = ended.clone();
            tokio::spawn(async move {
                let piece = Bytes::from(vec![0; 1 << 20]);
                while sender.send(piece.clone()).await.is_ok() {}
                ended.notify_one();
            });
            let response = Response::new(Piped(receiver).boxed_unsync());
            Box::pin(async { Ok(response) }) as ResponseFuture
        }
    });
    let mut client = Client::connect(&ingress).await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    tokio::time::timeout(PATIENCE, ended.notified())
        .await
        .expect("the body's writer is told");
}

#[tokio::test]
async fn a_response_streams_before_its_body_is_complete() {
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let receiver = Mutex::new(Some(receiver));
    let ingress = start(HttpLimits::default(), move |_: Request<RequestBody>| {
        let receiver = receiver.lock().unwrap().take().unwrap();
        let response = Response::new(Piped(receiver).boxed_unsync());
        Box::pin(async { Ok(response) }) as ResponseFuture
    });
    let mut client = Client::connect(&ingress).await;
    let (status, head, _) = client.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(status, 200);
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    for piece in ["one", "two"] {
        sender.send(piece.into()).await.unwrap();
        let mut chunk = [0; 8];
        client.0.read_exact(&mut chunk).await.unwrap();
        assert_eq!(chunk, format!("3\r\n{piece}\r\n").as_bytes());
    }
    drop(sender);
    let mut end = [0; 5];
    client.0.read_exact(&mut end).await.unwrap();
    assert_eq!(&end, b"0\r\n\r\n");
}

#[tokio::test]
async fn connections_over_the_limit_wait_their_turn() {
    let limits = HttpLimits {
        max_connections: 2,
        ..HttpLimits::default()
    };
    let served = Arc::new(AtomicUsize::new(0));
    let ingress = start(limits, {
        let served = served.clone();
        move |request| {
            served.fetch_add(1, Ordering::SeqCst);
            describe(request)
        }
    });
    let get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut first = Client::connect(&ingress).await;
    let mut second = Client::connect(&ingress).await;
    assert_eq!(first.ask(get).await.0, 200);
    assert_eq!(second.ask(get).await.0, 200);
    let mut third = Client::connect(&ingress).await;
    third.send(get).await;
    // The first two are served again while the third waits.
    assert_eq!(first.ask(get).await.0, 200);
    assert_eq!(second.ask(get).await.0, 200);
    assert_eq!(served.load(Ordering::SeqCst), 4);
    drop(first);
    assert_eq!(third.response().await.0, 200);
}

#[tokio::test]
async fn stopping_lets_requests_end_and_closes_idle_connections() {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let ingress = start(HttpLimits::default(), {
        let (begun, go) = (begun.clone(), go.clone());
        move |request: Request<RequestBody>| {
            let (begun, go) = (begun.clone(), go.clone());
            Box::pin(async move {
                if request.uri().path() == "/slow" {
                    begun.notify_one();
                    go.notified().await;
                }
                describe(request).await
            }) as ResponseFuture
        }
    });
    let addr = ingress.local_addr();
    let mut idle = Client::connect(&ingress).await;
    assert_eq!(idle.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.0, 200);
    let mut busy = Client::connect(&ingress).await;
    busy.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
    begun.notified().await;
    let stopped = tokio::spawn(ingress.stop());
    assert_eq!(idle.rest().await, b"");
    assert!(!stopped.is_finished());
    go.notify_one();
    assert_eq!(busy.response().await.0, 200);
    assert_eq!(busy.rest().await, b"");
    tokio::time::timeout(PATIENCE, stopped)
        .await
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn stopping_cuts_what_does_not_end_in_time() {
    let begun = Arc::new(Notify::new());
    let limits = HttpLimits {
        shutdown_grace: Duration::from_millis(100),
        ..HttpLimits::default()
    };
    let ingress = start(limits, {
        let begun = begun.clone();
        move |_: Request<RequestBody>| {
            begun.notify_one();
            Box::pin(std::future::pending()) as ResponseFuture
        }
    });
    let mut client = Client::connect(&ingress).await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    begun.notified().await;
    tokio::time::timeout(PATIENCE, ingress.stop())
        .await
        .unwrap();
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn an_address_in_use_is_a_clear_error() {
    let ingress = start(HttpLimits::default(), describe);
    let config = HttpConfig {
        listen: ingress.local_addr(),
        limits: HttpLimits::default(),
    };
    let second = Ingress::start(
        &tokio::runtime::Handle::current(),
        config,
        Arc::new(describe),
    );
    let text = second.err().unwrap().to_string();
    assert!(text.contains(&ingress.local_addr().to_string()), "{text}");
}

//! The port mapper over real sockets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{Entry, EpmdError, Registrar, RegistrarConfig, Server, local, names, port_of};

/// Registered in our address space by nobody for now.
pub(crate) async fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    listener.local_addr().unwrap().port()
}

fn config(port: u16) -> RegistrarConfig {
    RegistrarConfig {
        port,
        serve_on: IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}

async fn start(port: u16, name: &str, at: u16) -> Result<Registrar, EpmdError> {
    Registrar::start(config(port), Entry::new(name, at, false)).await
}

async fn ask(at: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // A server that closes on unread bytes resets the connection.
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

/// The bytes that Erlang's `epmd -names` and `net_adm` send, and the answers they parse.
#[tokio::test]
async fn speaks_to_erlangs_tools() {
    let server = Server::bind(local(0)).await.unwrap();
    let at = server.address().unwrap();
    let task = tokio::spawn(server.run());
    let mut node = TcpStream::connect(at).await.unwrap();
    // ALIVE2_REQ of an Erlang node `foo` on port 40000, as in the protocol's documentation.
    let alive = b"\x00\x10\x78\x9c\x40\x4d\x00\x00\x06\x00\x05\x00\x03foo\x00\x00";
    node.write_all(alive).await.unwrap();
    let mut answer = [0; 6];
    node.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[..2], [118, 0], "ALIVE2_X_RESP, registered");

    let mut list = u32::from(at.port()).to_be_bytes().to_vec();
    list.extend(b"name foo at port 40000\n");
    assert_eq!(ask(at, b"\x00\x01n").await, list);
    assert_eq!(
        ask(at, b"\x00\x04zfoo").await,
        b"\x77\x00\x9c\x40\x4d\x00\x00\x06\x00\x05\x00\x03foo\x00\x00"
    );
    assert_eq!(ask(at, b"\x00\x04zbar").await, [119, 1]);
    assert!(matches!(
        port_of(at, "foo").await,
        Err(EpmdError::OtherKind { .. })
    ));
    assert!(matches!(
        port_of(at, "bar").await,
        Err(EpmdError::NoSuchNode { .. })
    ));

    // An old node is answered in the old form.
    let mut old = TcpStream::connect(at).await.unwrap();
    old.write_all(b"\x00\x10\x78\x9c\x41\x4d\x00\x00\x05\x00\x05\x00\x03old\x00\x00")
        .await
        .unwrap();
    let mut answer = [0; 4];
    old.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[..2], [121, 0]);

    drop((node, old));
    while ask(at, b"\x00\x01n").await.len() > 4 {
        tokio::task::yield_now().await;
    }
    task.abort();
}

#[tokio::test]
async fn garbage_and_overlong_requests_are_dropped() {
    let server = Server::bind(local(0)).await.unwrap();
    let at = server.address().unwrap();
    tokio::spawn(server.run());
    assert!(ask(at, b"\xff\xffx").await.is_empty());
    assert!(ask(at, b"\x00\x03xyz").await.is_empty());
    assert!(ask(at, b"\x00\x00").await.is_empty());
    assert_eq!(
        ask(at, b"\x00\x01k").await,
        b"NO",
        "nobody ends our node through the port mapper"
    );
    assert!(names(at).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_taken_name_is_refused() {
    let port = free_port().await;
    let _first = start(port, "node1", 4001).await.unwrap();
    let second = start(port, "node1", 4002).await;
    let error = second.err().expect("refused");
    assert!(matches!(error, EpmdError::NameTaken { .. }), "{error}");
    assert_eq!(port_of(local(port), "node1").await.unwrap(), 4001);
}

#[tokio::test]
async fn a_name_is_free_again_when_its_node_ended() {
    let port = free_port().await;
    let _keeper = start(port, "keeper", 1).await.unwrap();
    drop(start(port, "node1", 4001).await.unwrap());
    let _again = start(port, "node1", 4002).await.unwrap();
    assert_eq!(port_of(local(port), "node1").await.unwrap(), 4002);
}

/// Ten nodes start at once with no port mapper: one of them becomes it; when it ends, another
/// takes over, and all the rest are registered again.
#[tokio::test]
async fn the_port_mapper_outlives_the_node_that_serves_it() {
    let port = free_port().await;
    let starts: Vec<_> = (0..10u16)
        .map(|i| {
            tokio::spawn(async move { start(port, &format!("node{i}"), 5000 + i).await.unwrap() })
        })
        .collect();
    let mut nodes = Vec::new();
    for start in starts {
        nodes.push(start.await.unwrap());
    }
    assert_eq!(names(local(port)).await.unwrap().len(), 10);
    while nodes.len() > 7 {
        // Whoever serves is among those dropped sooner or later; drop from the front.
        drop(nodes.remove(0));
        let expected = nodes.len();
        let all_back = async {
            while names(local(port)).await.map_or(0, |names| names.len()) != expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), all_back)
            .await
            .expect("registered anew");
    }
}

#[tokio::test]
async fn what_is_no_port_mapper_is_named() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let error = start(port, "node1", 1).await.err().expect("refused");
    assert!(matches!(error, EpmdError::Garbled(..)), "{error}");
}

//! Who is linked to whom: connecting, refusing, losing and leaving.

use super::*;

#[tokio::test]
async fn connecting_to_one_connects_to_all() {
    let port = free_port().await;
    let with_epmd = |name| DistConfig {
        epmd: EpmdMode::Port(port),
        ..config(name)
    };
    let a = Node::start(with_epmd("a")).await;
    let b = Node::start(with_epmd("b")).await;
    let c = Node::start(with_epmd("c")).await;
    b.dist.connect(a.dist.name()).await.unwrap();
    c.dist.connect(a.dist.name()).await.unwrap();
    until("a full mesh", || {
        [&a, &b, &c]
            .iter()
            .all(|node| node.dist.nodes(NodeSet::Visible).len() == 2)
    })
    .await;
    assert_eq!(b.names(NodeSet::All), ["a", "c"]);
    assert_eq!(
        c.dist.name_of(b.incarnation()).as_ref(),
        Some(b.dist.name())
    );
    assert_eq!(c.dist.number_of(c.incarnation()), Some(0));
    assert_eq!(c.dist.number_of(a.incarnation()), Some(1));
    let unknown = a
        .dist
        .connect(&"nobody@127.0.0.1".parse().unwrap())
        .await
        .unwrap_err();
    assert!(
        unknown.to_string().contains("knows no node \"nobody\""),
        "{unknown}"
    );
    stop([a, b, c]).await;
}

#[tokio::test]
async fn a_taken_name_and_an_exhausted_range_are_named() {
    let port = free_port().await;
    let with_epmd = || DistConfig {
        epmd: EpmdMode::Port(port),
        ..config("a")
    };
    let a = Node::start(with_epmd()).await;
    let error = Node::try_start(with_epmd()).await.err().expect("refused");
    assert!(error.to_string().contains("\"a\" is taken"), "{error}");

    let (_, taken) = a.dist.address().unwrap().rsplit_once(':').unwrap();
    let taken: u16 = taken.parse().unwrap();
    let listen = |ports| {
        Some(Listen {
            host: Ipv4Addr::LOCALHOST.into(),
            ports: Some(ports),
        })
    };
    let error = Node::try_start(DistConfig {
        listen: listen(taken..=taken),
        ..config("b")
    })
    .await
    .err()
    .unwrap();
    assert!(
        matches!(error, StartError::RangeExhausted { .. }),
        "{error}"
    );
    #[allow(clippy::reversed_empty_ranges)]
    let error = Node::try_start(DistConfig {
        listen: listen(9010..=9000),
        ..config("b")
    })
    .await
    .err()
    .unwrap();
    assert!(
        matches!(error, StartError::EmptyRange(9010, 9000)),
        "{error}"
    );
    stop([a]).await;
}

#[tokio::test]
async fn a_wrong_cookie_is_refused_on_both_sides() {
    for security in [Security::Noise, Security::Plaintext] {
        let log = Log::default();
        let _guard = log.install();
        let a = Node::start(DistConfig {
            security,
            ..config("a")
        })
        .await;
        let cookie = Cookie::for_tests("vanilla");
        let b = Node::start(DistConfig {
            security,
            cookie,
            ..config("b")
        })
        .await;
        let error = connect(&b, &a).await.unwrap_err();
        assert!(error.to_string().contains("cookies differ"), "{error}");
        // Both ends say so: this test runs them in one process, so there are two lines.
        until("both sides log it", || log.count("cookies differ") >= 2).await;
        assert!(a.dist.nodes(NodeSet::All).is_empty() && b.dist.nodes(NodeSet::All).is_empty());
        stop([a, b]).await;
    }
}

#[tokio::test]
async fn unlike_nodes_refuse_each_other_with_a_reason() {
    let long = start("a").await;
    let short = Node::start(DistConfig {
        name: "b@localhost".parse().unwrap(),
        ..config("b")
    })
    .await;
    let error = connect(&short, &long).await.unwrap_err();
    assert!(error.to_string().contains("do not mix"), "{error}");
    let plain = Node::start(DistConfig {
        security: Security::Plaintext,
        ..config("c")
    })
    .await;
    let error = connect(&plain, &long).await.unwrap_err();
    assert!(error.to_string().contains("--plaintext"), "{error}");
    let itself = long
        .dist
        .connect_address(long.dist.address().unwrap(), false)
        .await
        .unwrap_err();
    assert!(itself.to_string().contains("itself"), "{itself}");
    let namesake = start("a").await;
    let error = connect(&namesake, &long).await.unwrap_err();
    assert!(error.to_string().contains("another name"), "{error}");
    let nobody = long
        .dist
        .connect_address("127.0.0.1:1", false)
        .await
        .unwrap_err();
    assert!(
        nobody
            .to_string()
            .contains("nothing answers at 127.0.0.1:1"),
        "{nobody}"
    );
    stop([long, short, plain, namesake]).await;
}

#[tokio::test]
async fn simultaneous_dials_leave_one_link() {
    for _ in 0..5 {
        let (mut a, b) = (start("a").await, start("b").await);
        let (one, other) = tokio::join!(connect(&a, &b), connect(&b, &a));
        assert!(one.is_ok() || other.is_ok(), "{one:?} {other:?}");
        until("both up", || {
            a.names(NodeSet::All) == ["b"] && b.names(NodeSet::All) == ["a"]
        })
        .await;
        assert_eq!(b.send(&a, "hi"), SendOutcome::Sent);
        assert!(
            matches!(a.next().await, Seen::Signal(..)),
            "the link stays: no node-down came before"
        );
        stop([a, b]).await;
    }
}

#[tokio::test]
async fn disconnecting_is_seen_on_both_sides_and_lasts() {
    let (mut a, mut b, c) = (start("a").await, start("b").await, start("c").await);
    connect(&a, &b).await.unwrap();
    connect(&c, &a).await.unwrap();
    until("a full mesh", || {
        [&a, &b, &c]
            .iter()
            .all(|node| node.dist.nodes(NodeSet::All).len() == 2)
    })
    .await;
    assert!(a.dist.disconnect(b.dist.name()));
    assert!(!a.dist.disconnect(b.dist.name()), "once is enough");
    assert_eq!(
        a.down().await,
        ("b".into(), "disconnect: by a user here".into())
    );
    assert_eq!(
        b.down().await,
        ("a".into(), "disconnect: by a user there".into())
    );
    assert_eq!(a.send(&b, "lost"), SendOutcome::NoConnection);
    assert_eq!(a.names(NodeSet::All), ["c"], "other links stay");
    connect(&b, &a).await.expect("until somebody asks");
    stop([a, b, c]).await;
}

#[tokio::test]
async fn a_hidden_node_is_seen_by_its_peer_alone() {
    let (a, b) = (start("a").await, start("b").await);
    connect(&a, &b).await.unwrap();
    let hidden = DistConfig {
        kind: NodeKind::Hidden,
        listen: None,
        ..config("h")
    };
    let mut h = Node::start(hidden).await;
    connect(&h, &a).await.unwrap();
    until("a sees it", || a.names(NodeSet::Hidden) == ["h"]).await;
    assert_eq!(a.names(NodeSet::Visible), ["b"]);
    assert_eq!(a.send(&h, "hi"), SendOutcome::Sent);
    assert!(
        matches!(h.next().await, Seen::Signal(..)),
        "reachable all the same"
    );
    assert_eq!(b.names(NodeSet::All), ["a"]);
    stop([a, b, h]).await;
}

#[tokio::test]
async fn a_silent_peer_is_called_down_at_four_missed_ticks() {
    let tick_time = Duration::from_millis(400);
    let mut a = Node::start(DistConfig {
        tick_time,
        ..config("a")
    })
    .await;
    let b = Node::start(DistConfig {
        tick_time,
        ..config("b")
    })
    .await;
    let (proxy, frozen) = Proxy::start(b.dist.address().unwrap().into()).await;
    a.dist.connect_address(&proxy, false).await.unwrap();
    // Idle, but alive, for many ticks.
    tokio::time::sleep(3 * tick_time).await;
    assert_eq!(a.names(NodeSet::All), ["b"]);
    frozen.send_replace(true);
    let since = Instant::now();
    let (name, reason) = a.down().await;
    let took = since.elapsed();
    assert_eq!(name, "b");
    assert!(reason.contains("four ticks missed"), "{reason}");
    assert!(
        took >= tick_time * 3 / 4 && took < 3 * tick_time,
        "{took:?}"
    );
    stop([a, b]).await;
}

/// Strangers: bytes that are no handshake, in all stages, harm nobody.
#[tokio::test]
async fn garbage_is_closed_and_the_node_lives_on() {
    let (a, b) = (start("a").await, start("b").await);
    let introduction = b"WASMND2N\x0ba@127.0.0.1";
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"WASMND2N",
        b"WASMND2N\x00",
        b"WASMND2N\xffn@h",
        b"WASMND2N\x03n h",
        b"WASMND2N\x03n@h",
        b"WASMND2N\x03n@h\xff\xff",
        b"WASMND2N\x03n@h\x00\x30",
        b"WASMND2N\x03n@h\x00\x00",
        b"",
    ] {
        let mut stream = TcpStream::connect(a.dist.address().unwrap()).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .expect("closed");
        // Its introduction, and that the cookies differ.
        assert!(answer.len() <= introduction.len() + 2, "{answer:?}");
        assert!(
            answer.starts_with(introduction) || answer.is_empty(),
            "{answer:?}"
        );
    }
    connect(&b, &a).await.unwrap();
    stop([a, b]).await;
}

#[tokio::test]
async fn a_lost_node_is_found_again() {
    let mut a = start("a").await;
    let b = start("b").await;
    let (proxy, frozen) = Proxy::start(b.dist.address().unwrap().into()).await;
    a.dist.connect_address(&proxy, false).await.unwrap();
    drop(frozen);
    assert_eq!(a.down().await.0, "b");
    until("redialled at the address it told", || {
        a.names(NodeSet::All) == ["b"]
    })
    .await;
    stop([a, b]).await;
}

/// A stranger that stalls in the middle of the handshake is dropped in time, and what it
/// alters on a link is noticed.
#[tokio::test]
async fn a_stalled_handshake_is_given_up() {
    let a = start("a").await;
    let mut stream = TcpStream::connect(a.dist.address().unwrap()).await.unwrap();
    stream.write_all(b"WASMND2N\x03n@h").await.unwrap();
    let since = Instant::now();
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    closed.expect("closed").unwrap();
    assert_eq!(answer, b"WASMND2N\x0ba@127.0.0.1", "its introduction");
    assert!(since.elapsed() >= Duration::from_secs(4), "but not at once");
    stop([a]).await;
}

#[tokio::test]
async fn an_altered_record_ends_the_link() {
    let log = Log::default();
    let _guard = log.install();
    let (a, b) = (start("a").await, start("b").await);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let proxy = listener.local_addr().unwrap().to_string();
    let to = b.dist.address().unwrap().to_owned();
    let (alter, altering) = watch::channel(false);
    tokio::spawn(async move {
        let (here, _) = listener.accept().await.unwrap();
        let there = TcpStream::connect(to).await.unwrap();
        let (mut from_a, mut to_a) = here.into_split();
        let (mut from_b, mut to_b) = there.into_split();
        tokio::spawn(async move { tokio::io::copy(&mut from_b, &mut to_a).await });
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = from_a.read(&mut buffer).await {
            if *altering.borrow() {
                buffer[read - 1] ^= 1;
            }
            let _ = to_b.write_all(&buffer[..read]).await;
        }
    });
    a.dist.connect_address(&proxy, false).await.unwrap();
    alter.send_replace(true);
    a.send(&b, "forged");
    until("b notices", || log.count("could not be decrypted") > 0).await;
    assert_eq!(*b.host.signals.borrow(), 0);
    stop([a, b]).await;
}

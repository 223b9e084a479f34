//! What crosses links: order, requests, and flow control.

use super::*;

#[tokio::test]
async fn messages_keep_their_order_encrypted_and_plain() {
    for security in [Security::Noise, Security::Plaintext] {
        let a = Node::start(DistConfig {
            security,
            ..config("a")
        })
        .await;
        let mut b = Node::start(DistConfig {
            security,
            ..config("b")
        })
        .await;
        assert_eq!(connect(&a, &b).await.unwrap(), b.incarnation());
        for i in 0..3000u32 {
            let mut body = i.to_le_bytes().to_vec();
            // Some of one fragment, some of many.
            body.resize(
                4 + if i % 100 == 0 {
                    200_000
                } else {
                    i as usize % 50
                },
                1,
            );
            let sent = a.send(&b, body);
            assert!(matches!(sent, SendOutcome::Sent | SendOutcome::Congested));
        }
        for i in 0..3000u32 {
            let Seen::Signal(from, to, Signal::Info(body)) = b.next().await else {
                panic!()
            };
            assert_eq!((from, to), (a.incarnation(), Target::Pid(b.pid(1))));
            assert_eq!(body[..4], i.to_le_bytes());
        }
        stop([a, b]).await;
    }
}

#[tokio::test]
async fn a_large_message_does_not_delay_control_messages() {
    let (mut a, b) = (start("a").await, start("b").await);
    connect(&a, &b).await.unwrap();
    let before = a.host.signals.subscribe();
    // 20 MiB of code, in fragments; a registration passes it on its way.
    let fetch = NodeRequest::FetchCode {
        digest: wasm_node_protocol::Digest([0; 32]),
    };
    let (done, mut fetched) = oneshot::channel();
    a.dist
        .request_then(b.incarnation(), fetch, None, move |reply| {
            drop(done.send((reply, Instant::now())))
        });
    a.register("name", a.pid(1), a.tag(1));
    let Seen::Registered(_, Ok(())) = a.next().await else {
        panic!()
    };
    let registered = Instant::now();
    assert_eq!(*before.borrow(), 0);
    let (reply, at) = tokio::time::timeout(PATIENCE, &mut fetched)
        .await
        .unwrap()
        .unwrap();
    let Ok(NodeReply::Code(Some(code))) = reply else {
        panic!()
    };
    assert_eq!(code.len(), 20 << 20);
    assert!(registered < at, "the registration waited for the code");
    stop([a, b]).await;
}

#[tokio::test]
async fn a_large_message_delays_its_own_senders_signals_only() {
    let (a, mut b) = (start("a").await, start("b").await);
    connect(&a, &b).await.unwrap();
    let send = |from: u64, size: usize| {
        let mut body = from.to_le_bytes().to_vec();
        body.resize(size.max(8), 7);
        let to = Target::Pid(b.pid(1));
        let info = Signal::Info(body.into());
        a.dist
            .send_from(Some(a.pid(from)), b.incarnation(), &to, &info)
    };
    // 100 MB of one actor, then a word of its own, then a word of another.
    for size in [50_000_000, 50_000_000, 8] {
        assert_ne!(send(1, size), SendOutcome::NoConnection);
    }
    assert_ne!(send(2, 9), SendOutcome::NoConnection);
    let ping = a
        .dist
        .request(b.incarnation(), NodeRequest::Control("x".into()), PATIENCE);
    assert!(ping.await.is_ok());
    assert!(
        a.dist.queued_bytes(b.incarnation()) > 0,
        "and a request came and went meanwhile"
    );
    let mut came = Vec::new();
    while came.len() < 4 {
        let Seen::Signal(_, _, Signal::Info(body)) = b.next().await else {
            panic!()
        };
        came.push(body.len());
    }
    assert_eq!(came, [9, 50_000_000, 50_000_000, 8]);
    stop([a, b]).await;
}

#[tokio::test]
async fn requests_are_answered_or_fail() {
    let (a, b) = (start("a").await, start("b").await);
    connect(&a, &b).await.unwrap();
    let ask = |words: &'static str, ms| {
        let request = NodeRequest::Control(words.into());
        a.dist
            .request(b.incarnation(), request, Duration::from_millis(ms))
    };
    assert_eq!(
        ask("hello", 5000).await,
        Ok(NodeReply::Control("a@127.0.0.1: hello".into()))
    );
    assert_eq!(ask("silence", 50).await, Err(RequestError::Timeout));
    let (waiting, ()) = tokio::join!(ask("silence", 20_000), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        b.dist.stop().await;
    });
    assert_eq!(
        waiting,
        Err(RequestError::NoConnection),
        "the link's end ends the wait"
    );
    assert_eq!(ask("hello", 5000).await, Err(RequestError::NoConnection));
    stop([a]).await;
}

#[tokio::test]
async fn stopping_in_order_delivers_what_was_sent() {
    let (a, mut b) = (start("a").await, start("b").await);
    connect(&a, &b).await.unwrap();
    for _ in 0..1000 {
        assert_eq!(a.send(&b, vec![1; 1000]), SendOutcome::Sent);
    }
    a.dist.stop().await;
    for _ in 0..1000 {
        assert!(matches!(b.next().await, Seen::Signal(..)));
    }
    assert_eq!(
        b.down().await,
        ("a".into(), "connection_closed: the node was stopped".into())
    );
    stop([b]).await;
}

#[tokio::test]
async fn the_queue_to_a_stalled_reader_is_bounded() {
    // What stalls is all of b, but for this test's own threads.
    let (started, b) = oneshot::channel();
    let (end, ends) = oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let _ = started.send(start("b").await);
            let _ = ends.await;
        });
    });
    let (a, b) = (start("a").await, b.await.unwrap());
    connect(&a, &b).await.unwrap();
    b.host.quiet.store(true, Ordering::Relaxed);
    let body = Bytes::from(vec![7; 1 << 20]);
    let host = b.host.clone();
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let (ready, is_ready) = oneshot::channel();
    // Deliveries wait for this thread.
    let staller = std::thread::spawn(move || {
        let _guard = host.stalled.lock();
        let _ = ready.send(());
        let _ = held.recv();
    });
    is_ready.await.unwrap();
    let mut sent = 0;
    // Until the system's buffers are full too, and what is queued stays queued.
    while a.dist.queued_bytes(b.incarnation()) <= PEER_QUEUE_HIGH_BYTES {
        match a.send(&b, body.clone()) {
            SendOutcome::Sent => {}
            SendOutcome::Congested => tokio::time::sleep(Duration::from_millis(50)).await,
            other => panic!("{other:?}"),
        }
        sent += 1;
        assert!(sent < 1000, "never congested");
    }
    let queued = a.dist.queued_bytes(b.incarnation());
    assert!(queued <= PEER_QUEUE_HIGH_BYTES + (2 << 20), "{queued}");
    let waiter = std::thread::spawn({
        let (dist, node) = (a.dist.clone(), b.incarnation());
        move || {
            assert!(
                !dist.wait_for_room(node, Duration::from_millis(50)),
                "no room while it stalls"
            );
            drop(hold);
            assert!(dist.wait_for_room(node, PATIENCE), "room when it goes on");
        }
    });
    tokio::task::spawn_blocking(move || (waiter.join().unwrap(), staller.join().unwrap()))
        .await
        .unwrap();
    until("all arrives", || {
        b.host.bytes.load(Ordering::Relaxed) == sent << 20
    })
    .await;
    stop([a, b]).await;
    drop(end);
    thread.join().unwrap();
}

#[tokio::test]
async fn an_overfull_mailbox_slows_its_sender_not_its_ticks() {
    let tick_time = Duration::from_millis(200);
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
    connect(&a, &b).await.unwrap();
    b.host.quiet.store(true, Ordering::Relaxed);
    b.host.full.store(true, Ordering::Relaxed);
    let since = Instant::now();
    let mut congested = false;
    while since.elapsed() < 5 * tick_time {
        congested |= a.send(&b, vec![0; 200_000]) == SendOutcome::Congested;
        if congested {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert!(congested, "reading has slowed down");
    assert_eq!(a.names(NodeSet::All), ["b"], "and the link is up");
    while let Ok(seen) = a.seen.try_recv() {
        assert!(!matches!(seen, Seen::Down(..)), "{seen:?}");
    }
    stop([a, b]).await;
}

//! Threads that run actors: what they send goes out together, and they read for themselves.

use super::*;

/// A thread of this node's that looks out until the test is over.
fn lookout(node: &Node, risen: Arc<AtomicUsize>, over: Arc<AtomicBool>) {
    let dist = node.dist.clone();
    std::thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            dist.look_out(&mut || {
                risen.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
}

#[tokio::test]
async fn a_thread_without_work_reads_what_comes() {
    // What reads is not b's own runtime: that stands still.
    let (started, b) = oneshot::channel();
    let (stand, stands) = std::sync::mpsc::channel::<()>();
    let (end, ends) = oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let b = start("b").await;
            let dist = b.dist.clone();
            let _ = started.send(b);
            until("connected", || !dist.nodes(NodeSet::All).is_empty()).await;
            // The reader is at work by then.
            tokio::time::sleep(Duration::from_millis(100)).await;
            let _ = stands.recv();
            let _ = ends.await;
        });
    });
    let (a, mut b) = (start("a").await, b.await.unwrap());
    connect(&a, &b).await.unwrap();
    let (risen, over) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    lookout(&b, risen.clone(), over.clone());
    tokio::time::sleep(Duration::from_millis(300)).await;
    for i in 0..500_u32 {
        a.send(&b, i.to_le_bytes().to_vec());
        let Seen::Signal(_, _, Signal::Info(body)) = b.next().await else {
            panic!()
        };
        assert_eq!(body[..], i.to_le_bytes());
    }
    assert!(risen.load(Ordering::Relaxed) > 0);
    over.store(true, Ordering::Relaxed);
    b.dist.ring();
    drop(stand);
    stop([a, b]).await;
    drop(end);
    thread.join().unwrap();
}

#[tokio::test]
async fn nothing_is_lost_between_the_lookout_and_the_reader() {
    let (a, mut b) = (start("a").await, start("b").await);
    connect(&a, &b).await.unwrap();
    let (risen, over) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    lookout(&b, risen.clone(), over.clone());
    let minder = std::thread::spawn({
        let (dist, over) = (b.dist.clone(), over.clone());
        move || {
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
                dist.ring();
                dist.look_after(false);
            }
        }
    });
    for i in 0..3_000_u32 {
        let mut body = i.to_le_bytes().to_vec();
        body.resize(4 + if i % 100 == 0 { 300_000 } else { 10 }, 1);
        a.send(&b, body);
        if i % 7 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for i in 0..3_000_u32 {
        let Seen::Signal(_, _, Signal::Info(body)) = b.next().await else {
            panic!()
        };
        assert_eq!(body[..4], i.to_le_bytes());
    }
    over.store(true, Ordering::Relaxed);
    b.dist.ring();
    minder.join().unwrap();
    stop([a, b]).await;
}

#[tokio::test]
async fn what_a_turn_sends_goes_out_when_it_is_over_or_takes_long() {
    let (a, mut b) = (start("a").await, start("b").await);
    connect(&a, &b).await.unwrap();
    let (sent, is_sent) = oneshot::channel();
    let (go_on, goes_on) = std::sync::mpsc::channel::<()>();
    let to = (b.incarnation(), Target::Pid(b.pid(1)));
    let turns = std::thread::spawn({
        let dist = a.dist.clone();
        move || {
            let send = |i: u8| dist.send(to.0, &to.1, &Signal::Info(vec![i].into()));
            dist.turn_over();
            send(1);
            send(2);
            let _ = sent.send(());
            // A turn that takes its time.
            let _ = goes_on.recv();
            send(3);
            dist.flush();
            // No end of a turn, but more than waits for one.
            dist.send(to.0, &to.1, &Signal::Info(vec![4; 60_000].into()));
            dist.send(to.0, &to.1, &Signal::Info(vec![5; 60_000].into()));
        }
    });
    is_sent.await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(a.dist.queued_bytes(b.incarnation()) > 0, "it waits");
    a.dist.look_after(true);
    let mut next = async || match b.next().await {
        Seen::Signal(_, _, Signal::Info(body)) => body[0],
        seen => panic!("{seen:?}"),
    };
    assert_eq!((next().await, next().await), (1, 2));
    drop(go_on);
    for i in 3..=5 {
        assert_eq!(next().await, i);
    }
    turns.join().unwrap();
    stop([a, b]).await;
}

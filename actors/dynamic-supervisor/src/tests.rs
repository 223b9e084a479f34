//! The supervisor as an actor among actors, in the SDK's native harness and its virtual time.

use std::time::Duration;

use wasm_node_sdk::supervisor::dynamic::{Client, Spec};
use wasm_node_sdk::supervisor::{
    Child, ChildKind, ChildSpec, ChildState, Counts, Restart, Shutdown,
};
use wasm_node_sdk::tasks::{self, StreamOptions, TaskError};
use wasm_node_sdk::testing::Node;
use wasm_node_sdk::{
    CallError, Destination, ExitReason, Message, Pid, StartError, monitor, registry, sleep, task,
};

use super::DynamicSupervisor;

const LONG: Duration = Duration::from_secs(60);

async fn square(n: u64) -> u64 {
    sleep(Duration::from_millis(100)).await;
    n * n
}
async fn panics() {
    panic!("as asked");
}
wasm_node_sdk::rpc_functions! {
    Math = "math" {
        async fn square(n: u64) -> u64;
        async fn panics();
    }
}

/// A node with the supervisor and `worker`: it ends as a message says. The first byte of its
/// arguments: `f` its `init` fails, `i` it chooses not to start, `s` it ignores `shutdown`, `l` it
/// takes a second to end.
fn node(seed: u64) -> Node {
    let node = Node::shuffled(seed);
    node.module::<DynamicSupervisor>().functions::<Math>();
    node.task("worker", |args| async move {
        match args.first() {
            Some(b'f') => return ExitReason::error("as asked"),
            Some(b'i') => return ExitReason::Normal,
            Some(b's' | b'l') => {
                wasm_node_sdk::trap_exit(true);
            }
            _ => {}
        }
        loop {
            match task::receive().await {
                Message::Info(body) if body == b"stop" => return ExitReason::Normal,
                Message::Info(_) => return ExitReason::error("crashed"),
                Message::Exit(_) if args == b"l" => {
                    sleep(Duration::from_secs(1)).await;
                    return ExitReason::Shutdown;
                }
                _ => {}
            }
        }
    });
    node
}

fn worker(args: &[u8], restart: Restart) -> ChildSpec {
    ChildSpec::new("w", "worker", args.to_vec()).restart(restart)
}

/// The supervisor as the child of an actor that ends when it is told to.
fn start(node: &Node, spec: &Spec) -> (Pid, Client) {
    let spec = spec.clone();
    node.task("parent", move |_| {
        let spec = spec.clone();
        async move {
            wasm_node_sdk::trap_exit(true);
            let Ok(Client(Destination::Pid(pid))) = Client::start(&spec).await else {
                return ExitReason::error("no supervisor");
            };
            registry::register("supervisor", pid).unwrap();
            task::receive_match(|message| matches!(message, Message::Info(_))).await;
            ExitReason::Shutdown
        }
    });
    let parent = node.spawn("parent", b"").unwrap();
    node.run_until_idle();
    node.run(async move { registry::register("parent", parent).unwrap() });
    let pid = node.whereis("supervisor").unwrap();
    (pid, Client::at(pid))
}

fn stop(node: &Node) {
    node.send(node.whereis("parent").unwrap(), b"");
}

async fn add(client: &Client, child: ChildSpec) -> Result<Pid, StartError> {
    client.start_child(child, LONG).await.unwrap()
}

async fn running(client: &Client) -> Vec<Pid> {
    let children = client.which_children(LONG).await.unwrap();
    children.iter().filter_map(Child::pid).collect()
}

async fn tell(pid: Pid, what: &str) {
    let watch = monitor(pid);
    wasm_node_sdk::send(pid, what.as_bytes());
    watch.down().await;
    // What is started again has begun.
    sleep(Duration::from_millis(1)).await;
}

#[test]
fn children_come_and_go() {
    let node = node(1);
    let (_, client) = start(&node, &Spec::default());
    node.run(async move {
        let first = add(&client, worker(b"", Restart::Permanent)).await.unwrap();
        let inner = worker(b"", Restart::Temporary);
        let kind = ChildKind::Supervisor;
        let inner = add(&client, ChildSpec { kind, ..inner }).await.unwrap();
        let counts = client.count_children(LONG).await;
        let expected = Counts {
            specs: 2,
            active: 2,
            supervisors: 1,
            workers: 1,
        };
        assert_eq!(counts, Ok(expected));
        assert_eq!(client.terminate_child(first, LONG).await, Ok(true));
        assert_eq!(client.terminate_child(first, LONG).await, Ok(false));
        assert_eq!(running(&client).await, [inner]);
        let failed = add(&client, worker(b"f", Restart::Permanent)).await;
        assert_eq!(
            failed,
            Err(StartError::Failed(ExitReason::error("as asked")))
        );
        let ignored = add(&client, worker(b"i", Restart::Permanent)).await;
        assert_eq!(ignored, Err(StartError::Ignored));
        let none = add(&client, ChildSpec::new("", "nothing", vec![])).await;
        assert!(matches!(none, Err(StartError::Spawn(_))), "{none:?}");
        tell(inner, "stop").await;
        assert_eq!(client.count_children(LONG).await, Ok(Counts::default()));
    });
}

#[test]
fn restarts_follow_the_restart_type() {
    for (restart, what, again) in [
        (Restart::Permanent, "stop", true),
        (Restart::Permanent, "crash", true),
        (Restart::Transient, "stop", false),
        (Restart::Transient, "crash", true),
        (Restart::Temporary, "crash", false),
    ] {
        let node = node(2);
        let (_, client) = start(&node, &Spec::default());
        node.run(async move {
            let pid = add(&client, worker(b"", restart)).await.unwrap();
            tell(pid, what).await;
            let now = running(&client).await;
            assert_eq!(now.len(), usize::from(again), "{restart:?} {what}");
            assert!(!now.contains(&pid));
        });
    }
}

#[test]
fn no_more_than_max_children() {
    let node = node(3);
    let spec = Spec {
        max_children: Some(1),
        ..Spec::default()
    };
    let (_, client) = start(&node, &spec);
    node.run(async move {
        let pid = add(&client, worker(b"", Restart::Permanent)).await.unwrap();
        let more = add(&client, worker(b"", Restart::Permanent)).await;
        assert_eq!(more, Err(StartError::MaxChildren));
        client.terminate_child(pid, LONG).await.unwrap();
        assert!(add(&client, worker(b"", Restart::Permanent)).await.is_ok());
    });
}

#[test]
fn too_many_restarts_end_it_and_all_children() {
    let node = node(4);
    let (pid, client) = start(&node, &Spec::default());
    let other = node.run(async move {
        let other = add(&client, worker(b"", Restart::Permanent)).await.unwrap();
        let mut child = add(&client, worker(b"", Restart::Permanent)).await.unwrap();
        for _ in 0..4 {
            tell(child, "crash").await;
            let Ok(children) = client.which_children(LONG).await else {
                break;
            };
            let mut new = children.iter().filter_map(Child::pid);
            child = new.find(|pid| *pid != other).unwrap_or(child);
        }
        other
    });
    assert_eq!(node.exit_reason(pid), Some(ExitReason::Shutdown));
    assert_eq!(node.exit_reason(other), Some(ExitReason::Shutdown));
}

/// They are asked at once, and each kind of time-out is waited for once.
#[test]
fn all_end_together() {
    let node = node(5);
    let (pid, client) = start(&node, &Spec::default());
    let children = node.run(async move {
        let mut children = Vec::new();
        for _ in 0..20 {
            for args in [b"", b"l" as &[u8], b"s"] {
                let child = worker(args, Restart::Permanent);
                children.push((args, add(&client, child).await.unwrap()));
            }
            let brutal = worker(b"", Restart::Permanent).shutdown(Shutdown::BrutalKill);
            children.push((b"kill", add(&client, brutal).await.unwrap()));
        }
        children
    });
    let before = node.now();
    stop(&node);
    node.advance(Duration::from_secs(4));
    assert!(node.is_alive(pid));
    node.advance(Duration::from_secs(1));
    assert_eq!(node.exit_reason(pid), Some(ExitReason::Shutdown));
    assert_eq!(node.now() - before, Duration::from_secs(5));
    for (args, child) in children {
        let expected = match args {
            b"s" | b"kill" => ExitReason::Killed,
            _ => ExitReason::Shutdown,
        };
        assert_eq!(node.exit_reason(child), Some(expected));
    }
}

#[test]
fn an_upgrade_keeps_the_children() {
    let node = node(6);
    let (pid, client) = start(&node, &Spec::default());
    let of = client.clone();
    let child = node.run(async move { add(&of, worker(b"", Restart::Permanent)).await.unwrap() });
    node.upgrade::<DynamicSupervisor>(pid).unwrap();
    node.run(async move {
        assert_eq!(running(&client).await, [child]);
        tell(child, "crash").await;
        assert_eq!(running(&client).await.len(), 1);
    });
}

/// Whatever happens in whatever order, its books are those of the living, and it leaves nobody.
#[test]
fn whatever_happens() {
    for seed in 0..300 {
        let node = node(seed);
        let spec = Spec {
            intensity: 12,
            max_children: Some(12),
            ..Spec::default()
        };
        let (pid, client) = start(&node, &spec);
        let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut roll = move |sides: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % sides
        };
        let mut known = Vec::new();
        for _ in 0..40 {
            let (what, which, of) = (roll(10), roll(64) as usize, client.clone());
            let args: &[u8] = [b"" as &[u8], b"", b"l", b"s", b"f", b"i"][roll(6) as usize];
            let restart =
                [Restart::Permanent, Restart::Transient, Restart::Temporary][roll(3) as usize];
            let one = known.get(which % known.len().max(1)).copied();
            match (what, one) {
                (0..=4, _) => {
                    known.extend(node.run(async move {
                        let grace = Duration::from_millis(1);
                        of.start_child(worker(args, restart), grace)
                            .await
                            .ok()?
                            .ok()
                    }));
                }
                (5, Some(one)) => {
                    node.run(async move {
                        let _ = of.terminate_child(one, Duration::from_millis(1)).await;
                    });
                }
                (6, _) => node.advance(Duration::from_millis(roll(3_000))),
                (7, Some(one)) => node.exit(one, ExitReason::Kill),
                (_, Some(one)) => node.send(one, [b"crash" as &[u8], b"stop"][which % 2]),
                _ => {}
            }
            node.run_until_idle();
            if !node.is_alive(pid) {
                break;
            }
            let of = client.clone();
            let children = node.run(async move { of.which_children(LONG).await });
            let Ok(children) = children else { continue };
            assert!(children.len() <= 12, "seed {seed}");
            for child in &children {
                if let ChildState::Running(pid) = child.state {
                    assert!(node.is_alive(pid), "seed {seed}: a pid of nobody who lives");
                    known.push(pid);
                }
            }
            let of = client.clone();
            let counts = node.run(async move { of.count_children(LONG).await.unwrap() });
            let active = children.iter().filter(|child| child.pid().is_some());
            assert_eq!(counts.active, active.count() as u64, "seed {seed}");
            assert_eq!(counts.specs, children.len() as u64, "seed {seed}");
        }
        stop(&node);
        node.advance(LONG);
        assert!(!node.is_alive(pid), "seed {seed}");
        for child in known {
            assert!(!node.is_alive(child), "seed {seed}: {child:?} is left");
        }
    }
}

#[test]
fn tasks_run_under_it() {
    let node = node(7);
    let spec = Spec {
        max_children: Some(4),
        ..Spec::default()
    };
    let (pid, _) = start(&node, &spec);
    node.run(async move {
        let tasks = tasks::Supervisor::at(pid);
        let one = tasks.async_nolink(&Math::square(7)).await.unwrap();
        assert_eq!(tasks.children(LONG).await.unwrap(), [one.pid().unwrap()]);
        assert_eq!(one.await_(LONG).await, Ok(49));
        let trap = TaskError::Exit(ExitReason::Trap("as asked".into()));
        let failed = tasks.async_nolink(&Math::panics()).await.unwrap();
        assert_eq!(failed.await_(LONG).await, Err(trap.clone()));
        let forgotten = tasks.start_child(&Math::panics(), Restart::Temporary).await;
        monitor(forgotten.unwrap()).down().await;
        let options = StreamOptions::default()
            .max_concurrency(4)
            .supervised(tasks.clone());
        let mut squares = tasks::async_stream((0..20).map(Math::square), options);
        let mut all = Vec::new();
        while let Some(square) = squares.next().await {
            all.push(square.unwrap());
        }
        assert_eq!(all, (0..20).map(|n| n * n).collect::<Vec<u64>>());
        let mut four = Vec::new();
        for n in 0..4 {
            four.push(tasks.async_nolink(&Math::square(n)).await.unwrap());
        }
        let fifth = tasks.async_nolink(&Math::square(9)).await.err();
        assert_eq!(fifth, Some(TaskError::NotStarted(StartError::MaxChildren)));
        drop(four);
        assert_eq!(tasks.children(LONG).await.unwrap(), []);
        // The end of the supervisor is the end of its tasks.
        let last = tasks.async_nolink(&Math::square(9)).await.unwrap();
        wasm_node_sdk::exit(pid, ExitReason::Kill);
        assert_eq!(
            last.await_(LONG).await,
            Err(TaskError::Exit(ExitReason::Killed))
        );
        let none = tasks.async_nolink(&Math::square(9)).await.err();
        assert_eq!(none, Some(TaskError::Exit(ExitReason::Noproc)));
    });
    assert_eq!(
        node.run(async move { Client::at(pid).count_children(LONG).await }),
        Err(CallError::Noproc)
    );
}

#[test]
fn a_linked_task_takes_its_owner_along() {
    let node = node(8);
    let (pid, _) = start(&node, &Spec::default());
    let died = node.try_run(async move {
        let task = tasks::Supervisor::at(pid).async_(&Math::panics()).await;
        task.unwrap().await_(LONG).await
    });
    let trap = ExitReason::Trap("as asked".into());
    assert_eq!(died.map(|_| ()), Err(trap));
    assert!(node.is_alive(pid));
}

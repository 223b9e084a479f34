//! Tests of the harness: that it is as a node is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::*;
use crate::{
    CallReturn, Caller, Info, Init, Message, Next, SpawnOptions, StartError, groups, link, monitor,
    process, registry, sleep, spawn, task, time, trap_exit,
};

#[derive(Serialize, Deserialize)]
struct Counter {
    count: i64,
    seen: Vec<String>,
}

#[derive(Serialize, Deserialize)]
enum Ask {
    Add(i64),
    Idle,
    Panic,
    Seen,
    Fetch(ServerRef<Counter>),
}

impl GenServer for Counter {
    const MODULE: &'static str = "counter";
    type Args = i64;
    type Call = Ask;
    type Reply = i64;
    type Cast = i64;
    async fn init(count: i64) -> Init<Self> {
        if count < 0 {
            return Init::Stop(ExitReason::error("negative"));
        }
        crate::println!("starts at {count}");
        Init::Ok(Self {
            count,
            seen: Vec::new(),
        })
    }
    async fn handle_call(&mut self, ask: Ask, _: Caller<i64>) -> CallReturn<i64> {
        match ask {
            Ask::Add(n) => self.count += n,
            Ask::Idle => {
                let next = Next::Timeout(Duration::from_secs(60));
                return CallReturn::ReplyThen(self.count, next);
            }
            Ask::Panic => panic!("asked to"),
            Ask::Seen => return CallReturn::Reply(self.seen.len() as i64),
            Ask::Fetch(other) => match other.call(Ask::Add(0)).await {
                Ok(n) => self.count += n,
                Err(_) => self.count = -1,
            },
        }
        CallReturn::Reply(self.count)
    }
    async fn handle_cast(&mut self, n: i64) -> Next {
        self.count = self.count * 10 + n;
        Next::Wait
    }
    async fn handle_info(&mut self, info: Info) -> Next {
        self.seen.push(format!("{info:?}"));
        Next::Wait
    }
}

fn node() -> Node {
    let node = Node::new();
    node.module::<Counter>();
    node
}

#[test]
fn servers_start_answer_and_print() {
    let node = node();
    let counter = node.start::<Counter>(&5).unwrap();
    assert_eq!(node.call(&counter, Ask::Add(2)), Ok(7));
    node.cast(&counter, 3);
    assert_eq!(node.call(&counter, Ask::Add(0)), Ok(73));
    let printed = node.printed();
    assert_eq!(printed[0].text, "starts at 5\n");
    assert_eq!(printed[0].actor, counter.as_pid().unwrap());
    assert!(node.start::<Counter>(&-1).is_err());
    let failed = node.run(async { ServerRef::<Counter>::start(&-1).await });
    assert_eq!(
        failed,
        Err(StartError::Failed(ExitReason::error("negative")))
    );
}

#[test]
fn names_are_unique_and_end_with_their_holder() {
    let node = node();
    let first = node.run(async {
        let first = ServerRef::<Counter>::start(&1).local("one").await.unwrap();
        let pid = first.as_pid().unwrap();
        let again = ServerRef::<Counter>::start(&1).local("one").await;
        assert_eq!(again, Err(StartError::AlreadyStarted(pid)));
        let global = ServerRef::<Counter>::start(&2).global("g").await.unwrap();
        let again = ServerRef::<Counter>::start(&2).global("g").await;
        assert_eq!(
            again,
            Err(StartError::AlreadyStarted(global.as_pid().unwrap()))
        );
        assert_eq!(registry::registered(), ["one"]);
        pid
    });
    assert_eq!(node.whereis("one"), Some(first));
    node.exit(first, ExitReason::Kill);
    assert_eq!(node.exit_reason(first), Some(ExitReason::Killed));
    assert_eq!(node.whereis("one"), None);
    assert!(node.whereis_global("g").is_some());
}

#[test]
fn time_passes_only_when_told_or_when_all_wait() {
    let node = node();
    let counter = node.start::<Counter>(&0).unwrap();
    node.call(&counter, Ask::Idle).unwrap();
    node.advance(Duration::from_secs(59));
    let pid = counter.as_pid().unwrap();
    assert_eq!(node.now(), Duration::from_secs(59));
    node.advance(Duration::from_secs(1));
    assert_eq!(node.call(&counter, Ask::Seen), Ok(1));
    node.run(async move {
        let begun = time::now();
        sleep(Duration::from_secs(86_400)).await;
        assert_eq!(time::now() - begun, 86_400_000_000_000);
        let never = time::timeout(Duration::from_secs(1), std::future::pending::<()>()).await;
        assert!(never.is_err());
        crate::send_after(Duration::from_secs(5), pid, b"later");
    });
    node.advance(Duration::from_secs(5));
    assert_eq!(node.call(&counter, Ask::Seen), Ok(2));
}

#[test]
fn a_panic_is_a_trap_for_callers_monitors_and_links() {
    let node = node();
    let reason = node.run(async {
        trap_exit(true);
        let counter = ServerRef::<Counter>::start(&1).link().await.unwrap();
        let (pid, watch) = (counter.as_pid().unwrap(), counter.monitor());
        let answer = counter.call(Ask::Panic).await;
        let trap = ExitReason::Trap("asked to".into());
        assert_eq!(answer, Err(CallError::Exit(trap.clone())));
        assert_eq!(watch.down().await, (pid, trap.clone()));
        assert_eq!(task::receive().await, Message::Exit((pid, trap.clone())));
        assert_eq!(monitor(pid).down().await.1, ExitReason::Noproc);
        assert_eq!(counter.call(Ask::Add(1)).await, Err(CallError::Noproc));
        link(pid);
        assert_eq!(
            task::receive().await,
            Message::Exit((pid, ExitReason::Noproc))
        );
        trap
    });
    let died = node.try_run(async {
        let counter = ServerRef::<Counter>::start(&1).link().await.unwrap();
        counter.call(Ask::Panic).await
    });
    assert_eq!(died, Err(reason));
}

#[test]
fn exits_follow_erlangs_rules() {
    let node = Node::new();
    node.task("waits", |_| async { std::future::pending().await });
    node.task("traps", |_| async {
        trap_exit(true);
        match task::receive().await {
            Message::Exit((_, reason)) => ExitReason::Error(format!("got {reason:?}")),
            other => panic!("{other:?}"),
        }
    });
    for (module, signal, end) in [
        ("waits", ExitReason::Normal, None),
        ("waits", ExitReason::Shutdown, Some(ExitReason::Shutdown)),
        ("waits", ExitReason::Kill, Some(ExitReason::Killed)),
        (
            "traps",
            ExitReason::Normal,
            Some(ExitReason::error("got ExitReason::Normal")),
        ),
        ("traps", ExitReason::Kill, Some(ExitReason::Killed)),
    ] {
        let actor = node.spawn(module, b"").unwrap();
        node.run_until_idle();
        node.exit(actor, signal);
        assert_eq!(node.exit_reason(actor), end);
    }
    // Along a chain of links; not along a normal end.
    let chain = node.run(async {
        let first = spawn("waits", b"", &SpawnOptions::new()).unwrap().pid;
        let second = spawn("waits", b"", &SpawnOptions::new().link())
            .unwrap()
            .pid;
        trap_exit(true);
        process::unlink(first);
        link(first);
        crate::exit(first, ExitReason::error("first"));
        task::receive().await;
        (first, second)
    });
    assert_eq!(node.exit_reason(chain.0), Some(ExitReason::error("first")));
    assert_eq!(node.exit_reason(chain.1), None);
}

#[test]
fn an_upgrade_keeps_the_state_and_a_failed_one_the_actor() {
    #[derive(Serialize, Deserialize)]
    struct Second(i64);
    impl GenServer for Second {
        const MODULE: &'static str = "counter";
        type Args = i64;
        type Call = Ask;
        type Reply = i64;
        type Cast = i64;
        async fn init(n: i64) -> Init<Self> {
            Init::Ok(Self(n))
        }
        async fn handle_call(&mut self, _: Ask, _: Caller<i64>) -> CallReturn<i64> {
            CallReturn::Reply(self.0 + 1000)
        }
        async fn restored(&mut self) -> Next {
            crate::println!("restored");
            Next::Wait
        }
        fn upgrade(saved: &[u8]) -> Result<Self, String> {
            let old: Counter = crate::decode(saved)?;
            match old.count {
                13 => Err("unlucky".into()),
                n => Ok(Self(n)),
            }
        }
    }
    let node = node();
    for (count, after) in [(5, 1005), (13, 13)] {
        let counter = node.start::<Counter>(&count).unwrap();
        node.printed();
        let upgraded = node.upgrade::<Second>(counter.as_pid().unwrap());
        assert_eq!(upgraded.is_ok(), count == 5);
        assert_eq!(node.call(&counter, Ask::Add(0)), Ok(after));
        assert_eq!(node.printed().len(), usize::from(count == 5));
    }
}

#[test]
fn nodes_see_each_other_come_and_go() {
    let here = node();
    let there = here.peer("b@local");
    let run = here.clone();
    let far = here.run(async {
        assert_eq!(crate::node::nodes(), ["b@local"]);
        let far = ServerRef::<Counter>::start(&1)
            .on("b@local")
            .local("far")
            .await
            .unwrap();
        assert_eq!(
            ServerRef::<Counter>::remote("far", "b@local")
                .call(Ask::Add(1))
                .await,
            Ok(2)
        );
        far
    });
    assert_eq!(there.whereis("far"), far.as_pid());
    let second = there.clone();
    let stop = RefCell::new(Some(second));
    run.run(async move {
        crate::node::monitor_nodes(true);
        let watch = far.monitor();
        let asked = far.call_timeout(Ask::Add(1), None);
        stop.take().unwrap().down();
        assert_eq!(watch.down().await.1, ExitReason::Noconnection);
        assert_eq!(asked.await, Err(CallError::Noconnection));
        assert!(matches!(task::receive().await, Message::NodeDown(_)));
        let gone = ServerRef::<Counter>::start(&1).on("b@local").await;
        assert_eq!(gone, Err(StartError::Spawn(SpawnError::Noconnection)));
    });
    assert_eq!(here.peer("b@local").whereis("far"), None);
}

#[test]
fn groups_and_locks_are_let_go_by_the_dead() {
    let node = Node::new();
    node.task("member", |_| async {
        groups::join("all").unwrap();
        let lock = registry::global::LockId::new("door");
        registry::global::set_lock(&lock, registry::global::Wait::Try)
            .await
            .unwrap();
        std::future::pending().await
    });
    node.run(async {
        let (watch, members) = groups::Scope::new("").monitor("all").unwrap();
        assert_eq!(members, []);
        let mut changes = watch.changes();
        let member = spawn("member", b"", &SpawnOptions::new()).unwrap().pid;
        let joined = changes.next().await;
        assert!(matches!(joined, groups::GroupChange::Joined { .. }));
        let lock = registry::global::LockId::new("door");
        let soon = registry::global::Wait::For(Duration::from_secs(1));
        let taken = registry::global::set_lock(&lock, soon).await;
        assert_eq!(taken, Err(crate::RegisterError::Taken(member)));
        let waiting = registry::global::set_lock(&lock, registry::global::Wait::Endless);
        crate::exit(member, ExitReason::Kill);
        assert_eq!(waiting.await, Ok(()));
        assert!(matches!(
            changes.next().await,
            groups::GroupChange::Left { .. }
        ));
        assert_eq!(groups::members("all"), []);
    });
}

#[test]
fn a_seed_shuffles_actors_but_not_what_one_sends_another() {
    let order = |seed| {
        let node = Node::shuffled(seed);
        node.task("sends", |args| async move {
            for n in 0..3u8 {
                crate::send_to(&"taker".into(), &[args[0], n]);
                sleep(Duration::from_millis(1)).await;
            }
            ExitReason::Normal
        });
        node.run(async {
            registry::register("taker", crate::self_pid()).unwrap();
            for from in 0..3u8 {
                spawn("sends", &[from], &SpawnOptions::new()).unwrap();
            }
            let mut all = Vec::new();
            while all.len() < 9 {
                if let Message::Info(body) = task::receive().await {
                    all.push((body[0], body[1]));
                }
            }
            all
        })
    };
    let orders: std::collections::BTreeSet<Vec<(u8, u8)>> = (0..20).map(order).collect();
    assert!(orders.len() > 1, "every seed gave the same order");
    assert_eq!(order(7), order(7));
    for order in orders {
        for from in 0..3 {
            let of: Vec<u8> = order
                .iter()
                .filter(|(f, _)| *f == from)
                .map(|(_, n)| *n)
                .collect();
            assert_eq!(of, [0, 1, 2]);
        }
    }
}

#[test]
#[should_panic(expected = "can never come")]
fn a_test_that_waits_for_nothing_fails() {
    Node::new().run(std::future::pending::<()>());
}

#[test]
fn servers_ask_each_other() {
    let node = node();
    let (a, b) = (
        node.start::<Counter>(&1).unwrap(),
        node.start::<Counter>(&2).unwrap(),
    );
    assert_eq!(node.call(&a, Ask::Fetch(b.clone())), Ok(3));
    node.exit(b.as_pid().unwrap(), ExitReason::Shutdown);
    assert_eq!(node.call(&a, Ask::Fetch(b)), Ok(-1));
    // Itself: nobody answers before the time-out.
    assert_eq!(
        node.call(&a, Ask::Fetch(a.clone())),
        Err(CallError::Timeout)
    );
}

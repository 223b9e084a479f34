//! Tasks in the native harness.

use super::*;
use crate::testing::Node;

async fn square(n: u64) -> u64 {
    sleep(Duration::from_millis(1000 - n * 10)).await;
    n * n
}
async fn fails() {
    panic!("as asked");
}
crate::rpc_functions! {
    Math = "math" {
        async fn square(n: u64) -> u64;
        async fn fails();
    }
}
const LONG: Duration = Duration::from_secs(5);

fn node() -> Node {
    let node = Node::new();
    node.functions::<Math>();
    node
}

#[test]
fn results_come_from_here_and_there() {
    let node = node();
    let there = node.peer("b@local");
    node.run(async {
        let (here, far) = (
            Task::async_(&Math::square(3)),
            Task::async_on("b@local", &Math::square(4)),
        );
        assert_eq!(here.await_(LONG).await, Ok(9));
        assert_eq!(far.await_(LONG).await, Ok(16));
        assert_eq!(crate::time::now(), 970_000_000);
        let nowhere = Task::async_on("c@local", &Math::square(4))
            .await_(LONG)
            .await;
        assert_eq!(nowhere, Err(TaskError::Failed(Error::NoConnection)));
    });
    drop(there);
}

#[test]
fn a_task_that_is_late_yields_and_then_is_ended() {
    let (pid, early) = node().run(async {
        let mut task = Task::async_(&Math::square(2));
        assert_eq!(task.yield_(Duration::from_millis(100)).await, None);
        assert_eq!(task.yield_(LONG).await, Some(Ok(4)));
        let task = Task::async_(&Math::square(2));
        let pid = task.pid().unwrap();
        assert_eq!(
            task.await_(Duration::from_millis(1)).await,
            Err(TaskError::Timeout)
        );
        let watch = crate::monitor(pid);
        watch.down().await;
        let task = Task::async_(&Math::square(2));
        let killed = task.pid().unwrap();
        assert_eq!(task.shutdown(Shutdown::BrutalKill).await, None);
        let task = Task::async_(&Math::square(2));
        assert_eq!(task.shutdown(Shutdown::After(LONG)).await, None);
        (
            crate::process::is_alive(pid),
            crate::process::is_alive(killed),
        )
    });
    assert!(!pid && !early);
}

#[test]
fn links_end_the_owner_and_the_task() {
    let node = node();
    let trap = Err(ExitReason::Trap("as asked".into()));
    let died = node.try_run(async { Task::async_(&Math::fails()).await_(LONG).await });
    assert_eq!(died.map(|_| ()), trap);
    let told = node.run(async { Task::async_nolink(&Math::fails()).await_(LONG).await });
    assert_eq!(
        told,
        Err(TaskError::Exit(ExitReason::Trap("as asked".into())))
    );
    node.task("owner", |_| async {
        let task = Task::async_(&Math::square(0));
        crate::registry::register("the task", task.pid().unwrap()).unwrap();
        std::future::pending().await
    });
    let owner = node.spawn("owner", b"").unwrap();
    node.run_until_idle();
    let task = node.whereis("the task").unwrap();
    node.exit(owner, ExitReason::Kill);
    assert_eq!(node.exit_reason(task), Some(ExitReason::Killed));
}

#[test]
fn streams_are_bounded_and_ordered_or_not() {
    node().run(async {
        let calls = || (0..10).map(Math::square);
        let mut all = async_stream(calls(), StreamOptions::default().max_concurrency(3));
        let mut squares = Vec::new();
        while let Some(square) = all.next().await {
            squares.push(square.unwrap());
            assert!(all.begun <= squares.len() + 3);
        }
        assert_eq!(squares, (0..10).map(|n| n * n).collect::<Vec<u64>>());
        let options = StreamOptions::default().max_concurrency(10).ordered(false);
        let mut all = async_stream(calls(), options.clone());
        assert_eq!(all.next().await, Some(Ok(81)));
        drop(all);
        let options = options.ordered(true);
        let late = options
            .clone()
            .timeout(Duration::from_millis(975), OnTimeout::KillTask);
        let mut all = async_stream(calls(), late);
        assert_eq!(all.next().await, Some(Err(TaskError::Timeout)));
        let mut good = 0;
        while let Some(result) = all.next().await {
            good += usize::from(result.is_ok());
        }
        assert_eq!(good, 7);
        let late = options.timeout(Duration::from_millis(975), OnTimeout::Exit);
        let mut all = async_stream(calls(), late);
        assert_eq!(all.next().await, Some(Err(TaskError::Timeout)));
        assert_eq!(all.next().await, None);
    });
}

#[test]
fn what_is_started_is_forgotten() {
    let node = node();
    let pid = node.run(async { Task::start(&Math::square(1)).unwrap() });
    assert!(node.is_alive(pid));
    node.advance(LONG);
    assert_eq!(node.exit_reason(pid), Some(ExitReason::Normal));
}

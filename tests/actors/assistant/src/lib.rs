//! What the tests of tasks, agents and registries ask in words: each question is a small program, and
//! the answer is what came of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasm_node_sdk::agent::{AgentFunctions, AgentServer, Apply};
use wasm_node_sdk::key_registry::{Keys, Registry};
use wasm_node_sdk::supervisor::dynamic;
use wasm_node_sdk::tasks::{self, OnTimeout, Shutdown, StreamOptions, Task, TaskError};
use wasm_node_sdk::{
    CallReturn, Caller, ExitReason, GenServer, Init, agent, encode, exit, monitor, node, process,
    rpc::Refusal, self_pid, sleep, unlink,
};

async fn where_am_i() -> String {
    node::name()
}
async fn square(n: u64) -> u64 {
    sleep(Duration::from_millis(20)).await;
    n * n
}
async fn panics() {
    panic!("as asked");
}
async fn never() -> u64 {
    std::future::pending().await
}

wasm_node_sdk::rpc_functions! {
    /// What runs as tasks.
    pub Work = "assistant" {
        /// The name of its node.
        async fn where_am_i() -> String;
        /// A square, after a while.
        async fn square(n: u64) -> u64;
        /// Traps.
        async fn panics();
        /// Does not return.
        async fn never() -> u64;
    }
}

/// The agent `board`, as those see it that do not have its code.
pub struct Board;

impl AgentFunctions for Board {
    const MODULE: &'static str = "board";
    type State = Vec<i64>;
    fn apply(_: &mut Vec<i64>, _: &str, _: &[u8]) -> Result<Vec<u8>, Refusal> {
        Err(Refusal::NoSuchFunction)
    }
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);

/// The assistant has no state.
#[derive(Serialize, Deserialize)]
pub struct Assistant;

impl GenServer for Assistant {
    const MODULE: &'static str = "assistant";
    type Args = ();
    type Call = String;
    type Reply = String;
    type Cast = ();

    async fn init(_: ()) -> Init<Self> {
        Init::Ok(Self)
    }

    async fn handle_call(&mut self, question: String, _: Caller<String>) -> CallReturn<String> {
        let answer = match question.split_once(' ').unwrap_or((&question, "")) {
            ("task", node) => task(node).await,
            ("slow", node) => slow(node).await,
            ("trap", node) => trap(node).await,
            ("linked-trap", _) => format!("{:?}", Task::async_(&Work::panics()).await_(LONG).await),
            ("stream", node) => stream(node).await,
            ("supervised", node) => supervised(node)
                .await
                .unwrap_or_else(|error| format!("error: {error}")),
            ("agent", "") => board()
                .await
                .unwrap_or_else(|error| format!("error: {error}")),
            ("registry", "") => keys()
                .await
                .unwrap_or_else(|error| format!("error: {error}")),
            _ => "error: no such question".into(),
        };
        CallReturn::Reply(answer)
    }

    fn decode_args(_: &[u8]) -> Result<(), String> {
        Ok(())
    }
    fn decode_call(bytes: &[u8]) -> Result<String, String> {
        String::from_utf8(bytes.into()).map_err(|error| error.to_string())
    }
    fn encode_reply(reply: &String) -> Vec<u8> {
        reply.clone().into_bytes()
    }
}

async fn task(node: &str) -> String {
    let place = Task::async_on(node, &Work::where_am_i());
    let square = Task::async_on(node, &Work::square(9));
    format!(
        "{:?} {:?}",
        place.await_(LONG).await,
        square.await_(LONG).await
    )
}

/// A time-out leaves no task behind, nor does a shutdown.
async fn slow(node: &str) -> String {
    let mut gone = Vec::new();
    for how in [
        None,
        Some(Shutdown::BrutalKill),
        Some(Shutdown::After(LONG)),
    ] {
        let mut task = Task::async_on(node, &Work::never());
        // The node may have to get the code first.
        while task.pid().is_none() {
            if let Some(result) = task.yield_(SHORT).await {
                return format!("{result:?}");
            }
        }
        let end = task.pid().map(monitor);
        let result = match how {
            None => format!("{:?}", task.await_(SHORT).await),
            Some(how) => format!("{:?}", task.shutdown(how).await),
        };
        if let Some(end) = end {
            gone.push(format!("{result} {}", end.down().await.1.describe()));
        }
    }
    gone.join(", ")
}

async fn trap(node: &str) -> String {
    match Task::async_nolink_on(node, &Work::panics())
        .await_(LONG)
        .await
    {
        Err(TaskError::Exit(ExitReason::Trap(_))) => "trap".into(),
        other => format!("{other:?}"),
    }
}

async fn stream(node: &str) -> String {
    let options = StreamOptions::default()
        .max_concurrency(5)
        .timeout(LONG, OnTimeout::KillTask)
        .on([node::name(), node.into()]);
    let mut squares = tasks::async_stream((0..40).map(Work::square), options);
    let mut sum = 0;
    while let Some(square) = squares.next().await {
        match square {
            Ok(square) => sum = sum * 3 % 1_000_003 + square,
            Err(error) => return format!("error: {error}"),
        }
    }
    sum.to_string()
}

/// Tasks under a supervisor on a node, which runs no more than two at a time.
async fn supervised(node: &str) -> Result<String, Failure> {
    let spec = dynamic::Spec {
        max_children: Some(2),
        ..dynamic::Spec::default()
    };
    let options = process::SpawnOptions::new().link();
    let started = process::spawn_on(node, dynamic::MODULE, &encode(&spec), &options, true).await;
    let supervisor = started.map_err(|error| error.describe().into_owned())?.pid;
    let tasks = tasks::Supervisor::at(supervisor);
    let place = tasks.async_nolink(&Work::where_am_i()).await?;
    let place = place.await_(LONG).await?;
    let panics = tasks.async_nolink(&Work::panics()).await?;
    let trap = matches!(
        panics.await_(LONG).await,
        Err(TaskError::Exit(ExitReason::Trap(_)))
    );
    let never = [
        tasks.async_nolink(&Work::never()).await?,
        tasks.async_nolink(&Work::never()).await?,
    ];
    let full = tasks.async_nolink(&Work::never()).await.err();
    let children = tasks.children(LONG).await?.len();
    drop(never);
    while !tasks.children(LONG).await?.is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    let options = StreamOptions::default()
        .max_concurrency(2)
        .supervised(tasks.clone());
    let mut squares = tasks::async_stream((1..=10).map(Work::square), options);
    let mut sum = 0;
    while let Some(square) = squares.next().await {
        sum += square?;
    }
    let kept = tasks.async_nolink(&Work::never()).await?;
    unlink(supervisor);
    exit(supervisor, ExitReason::Kill);
    let kept = kept.await_(LONG).await;
    Ok(format!("{place} {trap} {full:?} {children} {sum} {kept:?}"))
}

type Failure = Box<dyn std::error::Error>;

async fn board() -> Result<String, Failure> {
    let started = agent::Agent::<Board>::start(&vec![1, 2])
        .global("board")
        .await?;
    let board = agent::Agent::<Board>::global("board");
    board
        .call(&Apply::<Board, ()>::new("push", &(4i64,)))
        .await?;
    board.cast(&Apply::<Board, ()>::new("push", &(8i64,)));
    let top = board
        .call(&Apply::<Board, Option<i64>>::new("pop", &()))
        .await?;
    let sum = board.call(&Apply::<Board, i64>::new("sum", &())).await?;
    board.stop().await?;
    let _: &wasm_node_sdk::ServerRef<AgentServer<Board>> = &started;
    Ok(format!("{top:?} {sum} {}", board.stop().await.is_err()))
}

async fn keys() -> Result<String, Failure> {
    let names = Registry::<String, u32>::start(Keys::Unique, "names").await?;
    names.register(&"me".into(), self_pid(), &1).await?;
    let child = process::spawn("assistant", b"", &process::SpawnOptions::new());
    let child = child.map_err(|error| error.describe().into_owned())?.pid;
    let key = "child".to_owned();
    names.register(&key, child, &2).await?;
    let taken = names.register(&key, self_pid(), &3).await.is_err();
    let before = names
        .lookup(&key)
        .await?
        .first()
        .map(|(pid, value)| (*pid == child, *value));
    exit(child, ExitReason::Kill);
    monitor(child).down().await;
    // The registry's own monitor may be told a moment later.
    while names.whereis(&key).await?.is_some() {
        sleep(Duration::from_millis(1)).await;
    }
    Ok(format!("{taken} {before:?} {}", names.count().await?))
}

wasm_node_sdk::export_gen_server!(Assistant, Work);

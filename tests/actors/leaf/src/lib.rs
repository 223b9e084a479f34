//! A child of a supervision tree: it says when it starts and when it ends, and ends as it is told.
//! A call of words, answered by words.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasm_node_sdk::supervisor::dynamic;
use wasm_node_sdk::supervisor::{ChildKind, ChildSpec, Client};
use wasm_node_sdk::{CallReturn, Caller, ExitReason, GenServer, Init, Next, sleep, trap_exit};

/// How long it waits for a supervisor.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3_600);

/// The actor.
#[derive(Serialize, Deserialize)]
pub struct Leaf {
    name: String,
    /// Whether its `terminate` never returns.
    deaf: bool,
}

async fn told(words: &[&str]) -> String {
    match *words {
        ["start", pool, name] => {
            let child = ChildSpec::new("", Leaf::MODULE, name.into());
            match dynamic::Client::at(pool).start_child(child, PATIENCE).await {
                Ok(Ok(_)) => "started".into(),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.describe().into(),
            }
        }
        ["count", pool] => match dynamic::Client::at(pool).count_children(PATIENCE).await {
            Ok(counts) => format!("{} active", counts.active),
            Err(error) => error.describe().into(),
        },
        ["which", supervisor] => match Client::at(supervisor).which_children(PATIENCE).await {
            Ok(children) => {
                let line = |child: &wasm_node_sdk::supervisor::Child| {
                    let kind = match child.kind {
                        ChildKind::Worker => "worker",
                        ChildKind::Supervisor => "supervisor",
                    };
                    format!("{} {kind}", child.id)
                };
                children.iter().map(line).collect::<Vec<_>>().join(", ")
            }
            Err(error) => error.describe().into(),
        },
        _ => format!("no command {words:?}"),
    }
}

impl GenServer for Leaf {
    const MODULE: &'static str = "leaf";
    type Args = String;
    type Call = String;
    type Reply = String;
    type Cast = ();

    async fn init(args: String) -> Init<Self> {
        trap_exit(true);
        let (name, deaf) = match args.split_once(' ') {
            Some((name, more)) => (name.to_owned(), more == "deaf"),
            None => (args, false),
        };
        wasm_node_sdk::println!("{name} up");
        Init::Ok(Self { name, deaf })
    }

    async fn handle_call(&mut self, text: String, _: Caller<String>) -> CallReturn<String> {
        let words: Vec<&str> = text.split(' ').collect();
        match *words {
            ["stop"] => CallReturn::ReplyThen("bye".into(), Next::Stop(ExitReason::Normal)),
            ["fail"] => {
                let failed = ExitReason::Error("told to".into());
                CallReturn::ReplyThen("bye".into(), Next::Stop(failed))
            }
            _ => CallReturn::Reply(told(&words).await),
        }
    }

    async fn terminate(&mut self, reason: &ExitReason) {
        wasm_node_sdk::println!("{} down: {}", self.name, reason.describe());
        if self.deaf {
            sleep(FOR_EVER).await;
        }
    }

    fn format_status(&self) -> String {
        format!("the leaf {}", self.name)
    }

    fn decode_args(bytes: &[u8]) -> Result<String, String> {
        String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())
    }
    fn encode_call(call: &String) -> Vec<u8> {
        call.clone().into_bytes()
    }
    fn decode_call(bytes: &[u8]) -> Result<String, String> {
        Self::decode_args(bytes)
    }
    fn encode_reply(reply: &String) -> Vec<u8> {
        reply.clone().into_bytes()
    }
}

wasm_node_sdk::export_gen_server!(Leaf);

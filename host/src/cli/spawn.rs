//! `wasm-node spawn`: start an actor.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use wasm_node_protocol::{Limits, NodeName};

use super::attach;
use super::client::{Node, Via, with_node};
use super::error::CliError;
use super::options::node_name;
use super::output;
use crate::control::{ControlReply, ControlRequest, PidRow};

/// How long a spawn may take: the code may have to be shipped and compiled first.
pub(super) const SPAWN_TIMEOUT: Duration = Duration::from_secs(150);

/// Start an actor on a node, and print its pid
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: Node,
    /// Its module on that node: a name, or a digest in hex
    module: String,
    /// What its `init` gets, as text
    #[arg(long, value_name = "TEXT", default_value = "")]
    args: String,
    /// The args are bytes in hex
    #[arg(long)]
    hex: bool,
    /// Its name in the registry of the node it runs on
    #[arg(long, value_name = "NAME")]
    local_name: Option<String>,
    /// Run it on this node instead, with the code of the node asked
    #[arg(long, value_name = "NODE", value_parser = node_name)]
    on: Option<NodeName>,
    /// Show here what it and its children print, wherever they run, and give them what is typed
    /// here; ends when the actor does, with 0 for a normal end. Ctrl-C leaves the actor alone
    #[arg(long, conflicts_with = "json")]
    attach: bool,
    /// What it may use, within its module's limits; may be given several times: memory-bytes,
    /// mailbox-messages, message-bytes, turn-cpu-ms, cpu-ms
    #[arg(long = "limit", value_name = "KEY=COUNT", value_parser = limit)]
    limits: Vec<Limits>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args, via: Via<'_>) -> Result<(), CliError> {
    let bytes = match args.hex {
        true => super::call::unhex(&args.args)?,
        false => args.args.into_bytes(),
    };
    let limits = args.limits.into_iter().fold(Limits::default(), Limits::and);
    let start = attach::Start {
        module: args.module,
        args: Bytes::from(bytes),
        name: args.local_name,
        on: args.on,
        limits,
    };
    match via {
        Via::Shell(session) => {
            if let Some(row) = session.spawn(start, args.attach)? {
                print_pid(&row, args.json);
            }
            return Ok(());
        }
        Via::Own(log) if args.attach => return attach::run(&args.node, start, log),
        Via::Own(_) => {}
    }
    let on = start.on.clone().unwrap_or_else(|| args.node.node.clone());
    let module = start.module.clone();
    let request = ControlRequest::Spawn {
        module: start.module,
        args: start.args,
        name: start.name,
        on: start.on,
        limits,
    };
    let row = with_node(&args.node, via, async |client| {
        let row = match client.ask(&request, SPAWN_TIMEOUT).await {
            Ok(ControlReply::Spawned(Ok(row))) => Ok(row),
            Ok(ControlReply::Spawned(Err(error))) => Err(CliError::Spawn {
                module,
                node: on,
                error,
            }),
            Ok(_) => Err(client.mismatch()),
            Err(error) => Err(error),
        };
        (client, row)
    })?;
    print_pid(&row, args.json);
    Ok(())
}

/// One limit, as `turn-cpu-ms=100`.
fn limit(text: &str) -> Result<Limits, String> {
    const KEYS: &str = "memory-bytes, mailbox-messages, message-bytes, turn-cpu-ms, cpu-ms";
    let (key, count) = text
        .split_once('=')
        .ok_or_else(|| format!("write KEY=COUNT; the keys are {KEYS}"))?;
    let large: u64 = count
        .parse()
        .ok()
        .filter(|count| *count > 0)
        .ok_or_else(|| format!("{count:?} is no count: write a number from 1 on"))?;
    let small = u32::try_from(large).map_err(|_| format!("{count} is too large for {key}"));
    let mut limits = Limits::default();
    match key {
        "memory-bytes" => limits.memory_bytes = Some(large),
        "cpu-ms" => limits.cpu_ms = Some(large),
        "mailbox-messages" => limits.mailbox_messages = Some(small?),
        "message-bytes" => limits.message_bytes = Some(small?),
        "turn-cpu-ms" => limits.turn_cpu_ms = Some(small?),
        _ => return Err(format!("there is no limit {key:?}: the keys are {KEYS}")),
    }
    Ok(limits)
}

/// A pid: as the node asked prints it and, in JSON, as all nodes know it too.
pub(super) fn print_pid(row: &PidRow, json: bool) {
    if json {
        let id = format!("{:016x}{:016x}", row.pid.node.0, row.pid.serial);
        output::json(&json!({ "pid": row.printed, "id": id }));
    } else {
        output::line(&row.printed);
    }
}

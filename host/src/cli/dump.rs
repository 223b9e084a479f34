//! `wasm-node dump`: a crash dump on demand.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, Node, Via, with_node};
use super::error::CliError;
use crate::control::{ActorRow, ControlReply, ControlRequest, DumpHead, DumpPage, PidRow};

/// How long a node may take for one page: it may have much to do.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Write down what a node is made of, as JSON: itself, its modules, its names, all of its actors
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: Node,
    /// Write to this file, which must not exist, instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: Args, via: Via<'_>) -> Result<(), CliError> {
    let written = with_node(&args.node, via, async |client| {
        let written = match &args.out {
            None => dump(&client, &mut std::io::stdout().lock()).await,
            Some(path) => to_file(&client, path).await,
        };
        (client, written)
    })?;
    if let Some(path) = &args.out {
        eprintln!("{written} actors are in {}", path.display());
    }
    Ok(())
}

/// A dump never takes the place of another.
async fn to_file(client: &Client, path: &PathBuf) -> Result<u64, CliError> {
    let failed = |doing| {
        move |source| CliError::Io {
            doing,
            path: path.clone(),
            source,
        }
    };
    let file = File::create_new(path).map_err(failed("create"))?;
    let mut file = BufWriter::new(file);
    let written = dump(client, &mut file).await?;
    file.flush().map_err(failed("write"))?;
    Ok(written)
}

/// Writes page by page; how many actors there were.
async fn dump(client: &Client, out: &mut impl Write) -> Result<u64, CliError> {
    let failed = |error| CliError::System("write the dump", error);
    let (mut from, mut written) = (0, 0);
    loop {
        let DumpPage { head, actors, next } = page(client, from).await?;
        if let Some(head) = head {
            let mut head = head_json(&head).to_string();
            // Its actors follow, one a line.
            head.pop();
            write!(out, "{head},\"actors\":[").map_err(failed)?;
        }
        for actor in &actors {
            let comma = if written == 0 { "" } else { "," };
            write!(out, "{comma}\n{}", actor_json(actor)).map_err(failed)?;
            written += 1;
        }
        match next {
            Some(next) => from = next,
            None => break,
        }
    }
    writeln!(out, "\n]}}").map_err(failed)?;
    Ok(written)
}

async fn page(client: &Client, from: u32) -> Result<DumpPage, CliError> {
    match client
        .ask(&ControlRequest::Dump { from }, PAGE_TIMEOUT)
        .await?
    {
        ControlReply::Dump(page) => Ok(*page),
        _ => Err(client.mismatch()),
    }
}

fn head_json(head: &DumpHead) -> Value {
    let info = &head.info;
    let names = head.global_names.rows.iter().map(|row| {
        let node = row.node.as_ref().map(ToString::to_string);
        json!({ "name": row.name, "holder": row.holder.printed, "node": node })
    });
    let nodes = head
        .nodes
        .iter()
        .map(|row| json!({ "name": row.name.as_str(), "kind": row.kind }));
    let modules = head
        .modules
        .iter()
        .map(|row| json!({ "name": row.name, "digest": row.digest, "actors": row.actors }));
    json!({
        "unix_ms": head.unix_ms,
        "node": {
            "name": info.name.as_str(),
            "incarnation": format!("{:016x}", info.incarnation.0),
            "kind": info.kind,
            "os_pid": info.os_pid,
            "uptime_ms": info.uptime_ms,
            "processes": info.processes,
            "listen": info.listen,
            "http": info.http,
            "version": info.version,
        },
        "memory": head.memory,
        "nodes": nodes.collect::<Vec<_>>(),
        "modules": modules.collect::<Vec<_>>(),
        "global_names": { "total": head.global_names.total, "rows": names.collect::<Vec<_>>() },
        "groups": head.groups,
    })
}

fn actor_json(row: &ActorRow) -> Value {
    let printed = |row: &PidRow| row.printed.clone();
    let inside = row.inside.as_ref();
    json!({
        "pid": row.pid.printed,
        "id": format!("{:016x}{:016x}", row.pid.pid.node.0, row.pid.pid.serial),
        "module": row.module,
        "digest": row.digest,
        "names": row.names,
        "names_total": row.names_total,
        "parent": row.parent.as_ref().map(printed),
        "age_ms": row.age_ms,
        "turns": row.turns,
        "mailbox": row.mailbox,
        "is_ending": row.is_ending,
        // What only the actor itself knows is not known in the middle of a turn.
        "in_turn": inside.is_none(),
        "links": inside.map(|inside| inside.links),
        "monitors": inside.map(|inside| inside.monitors),
        "monitored_by": inside.map(|inside| inside.monitored_by),
        "pending_requests": inside.map(|inside| inside.pending_requests),
        "group_leader": inside.map(|inside| printed(&inside.group_leader)),
        "traps_exits": inside.map(|inside| inside.traps_exits),
    })
}

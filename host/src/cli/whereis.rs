//! `wasm-node whereis`: which actor has a name, or which global names there are.

use serde_json::json;

use super::client::{ANSWER_TIMEOUT, Node, Via, with_node};
use super::error::CliError;
use super::output;
use super::spawn::print_pid;
use crate::control::{Address, ControlReply, ControlRequest, NameList, NameRow};

/// Print the pid of the actor that has a name, as a node knows it; without a name, all global
/// names with their holders
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: Node,
    /// A name on that node, or global:NAME
    name: Option<Address>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args, via: Via<'_>) -> Result<(), CliError> {
    match args.name.clone() {
        Some(name) => one(&args, name, via),
        None => all(&args, via),
    }
}

fn one(args: &Args, name: Address, via: Via<'_>) -> Result<(), CliError> {
    let request = ControlRequest::Whereis(name.clone());
    let node = args.node.node.clone();
    let row = with_node(&args.node, via, async |client| {
        let row = match client.ask(&request, ANSWER_TIMEOUT).await {
            Ok(ControlReply::Whereis(Some(row))) => Ok(row),
            Ok(ControlReply::Whereis(None)) => Err(CliError::NoActor { to: name, node }),
            Ok(_) => Err(client.mismatch()),
            Err(error) => Err(error),
        };
        (client, row)
    })?;
    print_pid(&row, args.json);
    Ok(())
}

fn all(args: &Args, via: Via<'_>) -> Result<(), CliError> {
    let request = ControlRequest::GlobalNames;
    let list = with_node(&args.node, via, async |client| {
        let list = match client.ask(&request, ANSWER_TIMEOUT).await {
            Ok(ControlReply::GlobalNames(list)) => Ok(list),
            Ok(_) => Err(client.mismatch()),
            Err(error) => Err(error),
        };
        (client, list)
    })?;
    let NameList { rows, total } = list;
    let node = |row: &NameRow| row.node.as_ref().map(ToString::to_string);
    if args.json {
        let names = rows.iter().map(|row| {
            json!({
                "name": row.name,
                "pid": row.holder.printed,
                "node": node(row),
            })
        });
        let names: Vec<_> = names.collect();
        output::json(&json!({ "names": names, "total": total }));
        return Ok(());
    }
    let cells = |row: &NameRow| {
        let node = node(row).unwrap_or_default();
        [row.name.clone(), row.holder.printed.clone(), node]
    };
    let listed: Vec<_> = rows.iter().map(cells).collect();
    output::table(["NAME", "PID", "NODE"], &listed);
    if total > rows.len() as u64 {
        output::line(format_args!("and {} more", total - rows.len() as u64));
    }
    Ok(())
}
